package persist

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// content is a file: what is in it, and whose it is.
type content struct {
	data     []byte
	perm     uint32
	uid, gid int
	label    []byte // security.selinux; nil where there is none
}

const (
	labelName = "security.selinux"
	longest   = 1 << 20 // bytes of a file that is read: ours have some hundred
)

// read reads a file; nil is none. It refuses links, what has a second name, what is no plain file, and what others may
// write to.
func (d *directory) read(name string) (c *content, err error) {
	k := d.tree.disk
	fd, err := k.Openat(d.fd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case errors.Is(err, unix.ELOOP):
		return nil, &UnsafeError{d.path(name), "is a symbolic link"}
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", d.path(name), err)
	}
	defer func() { err = errors.Join(err, k.Close(fd)) }()
	st, err := k.Fstat(fd)
	switch {
	case err != nil:
		return nil, fmt.Errorf("stat %s: %w", d.path(name), err)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, &UnsafeError{d.path(name), "is not a plain file"}
	case st.Nlink > 1:
		return nil, &UnsafeError{d.path(name), "has a second name (a hard link)"}
	case st.Size > longest:
		return nil, &UnsafeError{d.path(name), fmt.Sprintf("has %d bytes, which no such file has", st.Size)}
	}
	if err := owned(st, d.path(name)); err != nil {
		return nil, err
	}
	data, err := readAll(k, fd)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.path(name), err)
	}
	return &content{data, st.Mode & 0o7777, int(st.Uid), int(st.Gid), label(k, fd)}, nil
}

func readAll(k disk, fd int) ([]byte, error) {
	var all []byte
	buffer := make([]byte, 16<<10)
	for len(all) <= longest {
		n, err := k.Read(fd, buffer)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		all = append(all, buffer[:n]...)
	}
	return all, nil
}

// label is the label of SELinux, if there is one and it can be read.
func label(k disk, fd int) []byte {
	l, err := k.Getxattr(fd, labelName)
	if err != nil || len(l) == 0 {
		return nil
	}
	return l
}

// fresh is a new file of root's, or of the user's who runs ctwatch.
func fresh(data []byte, perm uint32) content {
	return content{data: data, perm: perm, uid: os.Geteuid(), gid: os.Getegid()}
}

// replace puts a file in a file's place, or where there was none: whoever looks sees the old one or the new one. The note
// is what did not succeed and does not matter for the content. After an error it may be either: the caller puts it back.
func (d *directory) replace(name string, c content) (note string, err error) {
	k := d.tree.disk
	tmp := temporary(name)
	fd, err := k.Openat(d.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return "", d.tree.failed("create", d.path(tmp), err)
	}
	if c.label == nil {
		c.label = label(k, d.fd)
	}
	note, err = d.fill(fd, c)
	if errClose := k.Close(fd); err == nil {
		err = errClose
	}
	if err == nil {
		err = k.Renameat(d.fd, tmp, name)
	}
	if err != nil {
		err = fmt.Errorf("write %s: %w", d.path(name), err)
		if errRemove := k.Unlinkat(d.fd, tmp); errRemove != nil {
			err = errors.Join(err, fmt.Errorf("remove %s: %w", d.path(tmp), errRemove))
		}
		return "", err
	}
	if err := k.Fsync(d.fd); err != nil {
		return note, fmt.Errorf("sync %s: %w", d.name, err)
	}
	got, err := d.read(name)
	switch {
	case err != nil:
		return note, err
	case got == nil || !bytes.Equal(got.data, c.data):
		return note, fmt.Errorf("write %s: what is read back is not what was written", d.path(name))
	}
	return note, nil
}

// fill writes a new file, and makes sure that it is on the disk.
func (d *directory) fill(fd int, c content) (note string, err error) {
	k := d.tree.disk
	for data := c.data; len(data) > 0; {
		n, err := k.Write(fd, data)
		if err != nil {
			return "", err
		}
		data = data[n:]
	}
	if c.uid != os.Geteuid() || c.gid != os.Getegid() {
		if err := k.Fchown(fd, c.uid, c.gid); err != nil {
			return "", err
		}
	}
	if err := k.Fchmod(fd, c.perm); err != nil {
		return "", err
	}
	if c.label != nil {
		if err := k.Setxattr(fd, labelName, c.label); err != nil {
			note = fmt.Sprintf("its SELinux label could not be set (%v): run restorecon on it", err)
		}
	}
	return note, k.Fsync(fd)
}

// remove removes a file.
func (d *directory) remove(name string) error {
	if err := d.tree.disk.Unlinkat(d.fd, name); err != nil {
		return d.tree.failed("remove", d.path(name), err)
	}
	if err := d.tree.disk.Fsync(d.fd); err != nil {
		return fmt.Errorf("sync %s: %w", d.name, err)
	}
	return nil
}

// writable finds out whether a file could be made in a directory, by making one.
func (d *directory) writable() error {
	k := d.tree.disk
	name := temporary("probe")
	fd, err := k.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	switch {
	case errors.Is(err, unix.EEXIST): // another's, or of one that was cut off
		return nil
	case err != nil:
		return d.tree.failed("create a file in", d.name, err)
	}
	if err := errors.Join(k.Close(fd), k.Unlinkat(d.fd, name)); err != nil {
		return fmt.Errorf("remove %s: %w", d.path(name), err)
	}
	return nil
}
