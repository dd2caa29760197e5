package persist

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is the files below a root. Whatever links are in it, nothing outside of it is reached: each directory is opened by
// its own name below the one before, and a link is followed by hand.
type tree struct {
	disk disk
	fd   int // of the root
	name string
}

// directory is an open directory of a tree.
type directory struct {
	tree *tree
	fd   int
	name string // as the machine has it
}

const openDir = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NONBLOCK

func openTree(d disk, root string) (*tree, error) {
	if root == "" {
		root = "/"
	}
	fd, err := d.Open(root, openDir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	return &tree{d, fd, root}, nil
}

func (t *tree) Close() error { return t.disk.Close(t.fd) }

// open opens a directory. perm 0 makes none: the error is then ENOENT. Links on the way are followed, within the tree; the
// directory itself must not be one, and it and those above must be ours alone to write to.
func (t *tree) open(name string, perm uint32) (dir *directory, err error) {
	const maxLinks = 40 // MAXSYMLINKS
	open := []int{t.fd}
	defer func() {
		for _, fd := range open[1:] {
			_ = t.disk.Close(fd)
		}
	}()
	links := 0
	rest := split(name)
	for at := "/"; len(rest) > 0; {
		part, here := rest[0], open[len(open)-1]
		rest = rest[1:]
		if part == ".." {
			if len(open) > 1 {
				_ = t.disk.Close(here)
				open = open[:len(open)-1]
			}
			at = path.Dir(at)
			continue
		}
		fd, err := t.disk.Openat(here, part, openDir, 0)
		if errors.Is(err, unix.ENOENT) && perm != 0 {
			fd, err = t.make(here, part, perm)
		}
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			target, errLink := t.disk.Readlinkat(here, part)
			if links++; errLink == nil && len(rest) > 0 && links <= maxLinks {
				if path.IsAbs(target) {
					for _, fd := range open[1:] {
						_ = t.disk.Close(fd)
					}
					open, at = open[:1], "/"
				}
				rest = append(split(target), rest...)
				continue
			}
			if errLink == nil {
				return nil, &UnsafeError{path.Join(at, part), "is a symbolic link"}
			}
		}
		if err != nil {
			return nil, t.failed("open", path.Join(at, part), err)
		}
		open, at = append(open, fd), path.Join(at, part)
		if err := t.ours(fd, at); err != nil {
			return nil, err
		}
	}
	if len(open) == 1 { // the root itself
		fd, err := t.disk.Openat(t.fd, ".", openDir, 0)
		if err != nil {
			return nil, t.failed("open", name, err)
		}
		open = append(open, fd)
	}
	fd := open[len(open)-1]
	open = open[:len(open)-1]
	return &directory{t, fd, name}, nil
}

func split(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(s string) bool { return s == "" || s == "." })
}

func (t *tree) make(parent int, name string, perm uint32) (fd int, err error) {
	err = t.disk.Mkdirat(parent, name, perm)
	switch {
	case errors.Is(err, unix.EEXIST): // another ctwatch was faster
		return t.disk.Openat(parent, name, openDir, 0)
	case err != nil:
		return 0, err
	}
	undo := func(err error) (int, error) { return 0, errors.Join(err, t.disk.Rmdirat(parent, name)) }
	fd, err = t.disk.Openat(parent, name, openDir, 0)
	if err != nil {
		return undo(err)
	}
	if err = t.disk.Fchmod(fd, perm); err == nil { // whatever the umask
		err = t.disk.Fsync(parent)
	}
	if err != nil {
		_ = t.disk.Close(fd)
		return undo(err)
	}
	return fd, nil
}

// ours refuses a directory that somebody else may write to.
func (t *tree) ours(fd int, name string) error {
	st, err := t.disk.Fstat(fd)
	if err != nil {
		return t.failed("stat", name, err)
	}
	return owned(st, name)
}

// owned refuses what is not root's, or the user's who runs ctwatch, or what others may write to.
func owned(st unix.Stat_t, name string) error {
	own := func(id uint32, mine int) bool { return id == 0 || id == uint32(mine) }
	switch {
	case !own(st.Uid, os.Geteuid()):
		return &UnsafeError{name, fmt.Sprintf("belongs to user %d, not to root", st.Uid)}
	case st.Mode&0o002 != 0, st.Mode&0o020 != 0 && !own(st.Gid, os.Getegid()):
		return &UnsafeError{name, fmt.Sprintf("can be written to by others (mode %04o)", st.Mode&0o7777)}
	}
	return nil
}

// failed makes an error of a system call; that something cannot be written at all is an error of its own.
func (t *tree) failed(what, name string, err error) error {
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) && os.Geteuid() == 0 {
		return &ReadOnlyError{name, "", fmt.Errorf("%s: %w", what, err)}
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

func (d *directory) Close() error { return d.tree.disk.Close(d.fd) }

func (d *directory) path(name string) string { return path.Join(d.name, name) }

// temporary is the name under which a file is written: no program that reads the directory takes it for one of its own.
func temporary(name string) string { return ".ctwatch-" + name + ".tmp" }

// clean removes what was left of a write that was cut off.
func (d *directory) clean() (found int, err error) {
	names, err := d.tree.disk.ReadDir(d.fd)
	if err != nil {
		return 0, d.tree.failed("read", d.name, err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, ".ctwatch-") || !strings.HasSuffix(name, ".tmp") {
			continue
		}
		if err := d.tree.disk.Unlinkat(d.fd, name); err != nil {
			return found, d.tree.failed("remove", d.path(name), err)
		}
		found++
	}
	return found, nil
}

// removeMade removes a directory and those above it that were made for it, as long as they are empty. That one stays is no
// harm, and is told by the note.
func (t *tree) removeMade(name string, made int) (note string) {
	for ; made > 0; made-- {
		parent, err := t.open(path.Dir(name), 0)
		if err == nil {
			if err = t.disk.Rmdirat(parent.fd, path.Base(name)); err == nil {
				err = t.disk.Fsync(parent.fd)
			}
			err = errors.Join(err, parent.Close())
		}
		switch {
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
			return "" // others have files in it
		case err != nil && !errors.Is(err, unix.ENOENT):
			return fmt.Sprintf("%s was made by ctwatch and could not be removed: %v", name, err)
		}
		name = path.Dir(name)
	}
	return ""
}
