package persist

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// disk is what is done to files, one system call a method, so that tests can have each of them fail.
type disk interface {
	Open(path string, flags int) (fd int, err error)
	Openat(dir int, name string, flags int, perm uint32) (fd int, err error)
	Close(fd int) error
	Read(fd int, p []byte) (int, error)
	Write(fd int, p []byte) (int, error)
	Fstat(fd int) (unix.Stat_t, error)
	Fchmod(fd int, perm uint32) error
	Fchown(fd, uid, gid int) error
	Fsync(fd int) error
	Flock(fd int) error
	ReadDir(fd int) (names []string, err error)
	Readlinkat(dir int, name string) (string, error)
	Mkdirat(dir int, name string, perm uint32) error
	Renameat(dir int, from, to string) error
	Unlinkat(dir int, name string) error
	Rmdirat(dir int, name string) error
	Getxattr(fd int, name string) ([]byte, error)
	Setxattr(fd int, name string, value []byte) error
}

// osDisk is the kernel's. Calls that a signal interrupts are made again.
type osDisk struct{}

func (osDisk) Open(path string, flags int) (int, error) {
	return again(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC, 0) })
}

func (osDisk) Openat(dir int, name string, flags int, perm uint32) (int, error) {
	return again(func() (int, error) { return unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, perm) })
}

func (osDisk) Close(fd int) error { return unix.Close(fd) }

func (osDisk) Read(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.Read(fd, p) })
}

func (osDisk) Write(fd int, p []byte) (int, error) {
	return again(func() (int, error) { return unix.Write(fd, p) })
}

func (osDisk) Fstat(fd int) (st unix.Stat_t, err error) {
	err = unix.Fstat(fd, &st)
	return st, err
}

func (osDisk) Fchmod(fd int, perm uint32) error { return unix.Fchmod(fd, perm) }

func (osDisk) Fchown(fd, uid, gid int) error { return unix.Fchown(fd, uid, gid) }

func (osDisk) Fsync(fd int) error {
	_, err := again(func() (int, error) { return 0, unix.Fsync(fd) })
	return err
}

func (osDisk) Flock(fd int) error {
	_, err := again(func() (int, error) { return 0, unix.Flock(fd, unix.LOCK_EX) })
	return err
}

func (osDisk) ReadDir(fd int) ([]string, error) {
	// Another descriptor, for os.File closes its own, and begins at its place.
	own, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

func (osDisk) Readlinkat(dir int, name string) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, target)
	return string(target[:max(n, 0)]), err
}

func (osDisk) Mkdirat(dir int, name string, perm uint32) error { return unix.Mkdirat(dir, name, perm) }

func (osDisk) Renameat(dir int, from, to string) error { return unix.Renameat(dir, from, dir, to) }

func (osDisk) Unlinkat(dir int, name string) error { return unix.Unlinkat(dir, name, 0) }

func (osDisk) Rmdirat(dir int, name string) error {
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

func (osDisk) Getxattr(fd int, name string) ([]byte, error) {
	value := make([]byte, 1024) // a label of SELinux has some 50
	n, err := unix.Fgetxattr(fd, name, value)
	return value[:max(n, 0)], err
}

func (osDisk) Setxattr(fd int, name string, value []byte) error {
	return unix.Fsetxattr(fd, name, value, 0)
}

// again makes a call again if a signal interrupted it.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
