package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Kernel is one that can be booted.
type Kernel struct {
	Name     string
	Suite    string
	Packages []Package
}

// Package is a package of one version.
type Package struct{ Name, Version string }

func (p Package) String() string { return p.Name + "=" + p.Version }

// Pinned are the kernels that tests are run in. When one has left the mirror, the one that replaced it there goes here.
func Pinned() []Kernel {
	return []Kernel{
		{"5.10", "bullseye-security", []Package{{"linux-image-5.10.0-46-cloud-amd64", "5.10.262-1"}}},
		{"6.1", "bookworm-security", []Package{{"linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"}}},
		{"6.12", "trixie-security", []Package{{"linux-image-6.12.118+deb13-cloud-amd64", "6.12.118-1"}}},
		{"7.3", "trixie-backports", []Package{
			{"linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"},
			{"linux-modules-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"},
		}},
	}
}

// KernelFiles is a kernel ready to be booted.
type KernelFiles struct {
	Release string
	Image   string
	Modules []File // below lib/modules
}

// Kernel gets a kernel from the cache, or from the mirror.
func (c *Cache) Kernel(ctx context.Context, k Kernel) (*KernelFiles, error) {
	if k.Name == Newest {
		var err error
		if k, err = c.newest(ctx); err != nil {
			return nil, err
		}
	}
	// With another choice of modules the old choice is not found.
	dir, err := c.make(filepath.Join("kernels", fmt.Sprintf("%s.%08x", k.Packages[0], choiceSum())), func(dir string) error {
		var debs []string
		var s *suite
		for _, p := range k.Packages {
			deb, err := c.make(filepath.Join("debs", p.String()+".deb"), func(path string) (err error) {
				if s == nil {
					fmt.Printf("vm: %s: downloading from %s\n", k.Name, k.Suite)
					if s, err = c.openSuite(ctx, k.Suite); err != nil {
						return err
					}
				}
				return s.download(ctx, p, path)
			})
			if err != nil {
				return err
			}
			debs = append(debs, deb)
		}
		return unpackKernel(ctx, debs, dir)
	})
	if err != nil {
		return nil, err
	}
	release, err := one(filepath.Join(dir, "lib/modules/*"))
	if err != nil {
		return nil, err
	}
	modules, err := Tree(filepath.Join(dir, "lib"), "lib")
	return &KernelFiles{filepath.Base(release), filepath.Join(dir, "vmlinuz"), modules}, err
}

// unpackKernel makes a directory of vmlinuz and lib/modules out of a kernel's packages.
func unpackKernel(ctx context.Context, debs []string, dir string) (err error) {
	whole := dir + ".whole"
	if err := os.RemoveAll(whole); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(whole)) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unpack(ctx, debs, whole); err != nil {
		return err
	}
	release, err := one(filepath.Join(whole, "lib/modules/*"))
	if err != nil {
		return err
	}
	image, err := one(filepath.Join(whole, "boot/vmlinuz-*"), filepath.Join(release, "vmlinuz"))
	if err != nil {
		return err
	}
	if err := os.Rename(image, filepath.Join(dir, "vmlinuz")); err != nil {
		return err
	}
	return chooseModules(ctx, whole, dir, filepath.Base(release))
}
