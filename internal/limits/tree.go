package limits

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tree is where a machine's files are. Below a root of its own they may be an image's, which somebody else has filled: no
// link leads out of it, and only files are opened. The machine's own are the kernel's, and opened by the shortest way.
type tree struct {
	root  string
	below *os.Root // nil: the machine's own
}

func openTree(root string) (tree, error) {
	root = filepath.Join("/", root)
	if root == "/" {
		return tree{root: root}, nil
	}
	below, err := os.OpenRoot(root)
	return tree{root, below}, err
}

func (t tree) close() {
	if t.below != nil {
		t.below.Close()
	}
}

func (t tree) path(name string) string { return filepath.Join(t.root, name) }

// exists fails where there is something that is not to be opened.
func (t tree) exists(name string) (bool, error) {
	if t.below == nil {
		return unix.Access(t.path(name), unix.F_OK) == nil, nil
	}
	info, err := t.below.Stat(name)
	switch {
	case missing(err):
		return false, nil
	case err == nil && !info.Mode().IsRegular():
		err = errNoFile
	}
	return err == nil, t.explain(name, err)
}

// writable reports whether anybody may write a file, whoever we are.
func (t tree) writable(name string) bool {
	if t.below == nil {
		var st unix.Stat_t
		return unix.Stat(t.path(name), &st) == nil && st.Mode&0o222 != 0
	}
	info, err := t.below.Stat(name)
	return err == nil && info.Mode().Perm()&0o222 != 0
}

// open opens a file that there is.
func (t tree) open(name string, flag int) (*os.File, error) {
	if t.below == nil {
		return os.OpenFile(t.path(name), flag, 0)
	}
	// A device does something when it is opened, so it is not; should one come in between, nothing is written to it.
	if ok, err := t.exists(name); err != nil || !ok {
		return nil, cmp.Or(err, t.explain(name, fs.ErrNotExist))
	}
	f, err := t.below.OpenFile(name, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, t.explain(name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNoFile
	}
	if err != nil {
		return nil, errors.Join(t.explain(name, err), f.Close())
	}
	return f, nil
}

func (t tree) read(name string) ([]byte, error) {
	f, err := t.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const longest = 4 << 10 // bytes; what is read here is a number or a word
	return io.ReadAll(io.LimitReader(f, longest))
}

var errNoFile = errors.New("not a regular file")

// explain says where, as os.Root tells the way only from the root on.
func (t tree) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("open %s: %w", t.path(name), err)
}
