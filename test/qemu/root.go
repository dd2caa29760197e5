package qemu

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
)

// Root is a root file system of the distribution: packages unpacked, none of whose scripts ran.
type Root struct {
	Dir      string
	Packages []string // as the files of packages are named: procps_2%3a4.0.4-9_amd64
}

// Root gets one of these packages of a suite, and all that they need, from the cache, or from the mirror: in the versions
// that the mirror had then. It must not be changed.
func (c *Cache) Root(ctx context.Context, suite string, packages []string) (*Root, error) {
	name := fmt.Sprintf("%s.%08x", suite, crc32.ChecksumIEEE([]byte(strings.Join(packages, " "))))
	dir, err := c.make(filepath.Join("roots", name), func(dir string) (err error) {
		fmt.Printf("vm: downloading packages of %s\n", suite)
		s, err := c.openSuite(ctx, suite)
		if err != nil {
			return err
		}
		archives := filepath.Join(dir, "debs")
		debs, err := s.downloadAll(ctx, packages, archives)
		if err != nil {
			return err
		}
		root := filepath.Join(dir, "root")
		if err := unpack(ctx, debs, root); err != nil {
			return err
		}
		var list strings.Builder
		for _, deb := range debs {
			fmt.Fprintln(&list, strings.TrimSuffix(filepath.Base(deb), ".deb"))
		}
		return errors.Join(os.WriteFile(filepath.Join(dir, "packages"), []byte(list.String()), 0o644), os.RemoveAll(archives))
	})
	if err != nil {
		return nil, err
	}
	list, err := os.ReadFile(filepath.Join(dir, "packages"))
	return &Root{filepath.Join(dir, "root"), strings.Fields(string(list))}, err
}
