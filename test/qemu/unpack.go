package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// unpack unpacks packages into one directory, with a merged /usr: older packages have files in /lib and /bin, newer ones
// none.
func unpack(ctx context.Context, debs []string, dir string) error {
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(dir, "usr", d), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+d, filepath.Join(dir, d)); err != nil {
			return err
		}
	}
	for _, deb := range debs {
		if err := unpackOne(ctx, deb, dir); err != nil {
			return fmt.Errorf("unpack %s: %w", deb, err)
		}
	}
	return nil
}

// unpackOne does what dpkg-deb -x does, which would put directories where links are.
func unpackOne(ctx context.Context, deb, dir string) error {
	from := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	to := exec.CommandContext(ctx, "tar", "-C", dir, "-xp", "--keep-directory-symlink", "--warning=no-timestamp")
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	to.Stdin = pipe
	if err := from.Start(); err != nil {
		return err
	}
	_, err = Output(to)
	return errors.Join(err, from.Wait())
}
