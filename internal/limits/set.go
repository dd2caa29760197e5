package limits

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Change is a limit that was set.
type Change struct {
	From uint64
	To   uint64        // as read back
	Took time.Duration // of the write. That of buckets bounds the time for which the kernel held up all tracked traffic
}

// SetMax sets how many entries each network namespace may hold, and reads it back. It takes some ten microseconds: raising
// it is one store in the kernel. Lowering it evicts nothing.
func SetMax(root string, n uint64) (Change, error) {
	if n > Most {
		return Change{}, &RangeError{n, Most}
	}
	l, err := find(root)
	if err != nil {
		return Change{}, err
	}
	defer l.close()
	c, err := l.set(l.max, n)
	if err == nil && c.To != n {
		err = &DiffersError{l.path(l.max[0]), n, c.To}
	}
	return c, err
}

// SetBuckets sets the number of buckets and reads it back: the kernel rounds it up to whole pages. It moves every entry of
// every namespace while all tracked traffic waits. Max is not changed by it.
func SetBuckets(root string, n uint64) (Change, error) {
	if n == 0 || n > MostBuckets {
		return Change{}, &RangeError{n, MostBuckets}
	}
	l, err := find(root)
	if err != nil {
		return Change{}, err
	}
	defer l.close()
	if err := l.checkBuckets(); err != nil {
		return Change{}, err
	}
	file := l.bucketsFile()
	files := []string{file}
	for _, alias := range append(l.buckets, l.hashsize) {
		if alias != file && alias != "" {
			files = append(files, alias)
		}
	}
	c, err := l.set(files, n)
	if err == nil && (c.To < n || c.To-n >= uint64(os.Getpagesize())/8) {
		err = &DiffersError{l.path(file), n, c.To}
	}
	return c, err
}

// CheckMax says why max could not, or should not, be set here, if so, and changes nothing.
func CheckMax(root string) error {
	l, err := find(root)
	if err != nil {
		return err
	}
	defer l.close()
	return l.check(l.max[0])
}

// CheckBuckets says why the buckets could not, or should not, be set here, if so, and changes nothing.
func CheckBuckets(root string) error {
	l, err := find(root)
	if err != nil {
		return err
	}
	defer l.close()
	return l.checkBuckets()
}

func (l layout) checkBuckets() error {
	file := l.bucketsFile()
	if file == "" {
		return &UnwritableError{Why: NoFile}
	}
	// The module's parameter looks the same in every namespace.
	if !l.writable(l.max[0]) {
		return &UnwritableError{l.path(file), OtherNamespace}
	}
	return l.check(file)
}

func (t tree) check(name string) error {
	f, err := t.openLimit(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if ofKernel(f) && t.otherNamespace() {
		return &UnwritableError{t.path(name), OtherNamespace}
	}
	return nil
}

// otherNamespace tells a network namespace that is not the initial one also where the kernel lets it write the limits,
// which are the machine's all the same (before 5.13, and stable 5.10). Only the initial one has netdev_max_backlog, while
// somaxconn is in each (2.6.24 and later): that holds in a container, too, where process 1 is its own, and no inode of a
// namespace is known beforehand (the initial one's before 6.18). Without either file it cannot be told, and is not claimed.
func (t tree) otherNamespace() bool {
	each, err := t.exists("proc/sys/net/core/somaxconn")
	if err != nil || !each {
		return false
	}
	initial, err := t.exists("proc/sys/net/core/netdev_max_backlog")
	return err == nil && !initial
}

// set writes a number to the first file and reads it back from there. The other files are further names of the same
// variable: the kernel changes them by itself, but a copy of a machine's files does not.
func (t tree) set(files []string, n uint64) (Change, error) {
	f, err := t.openLimit(files[0])
	if err != nil {
		return Change{}, err
	}
	defer f.Close()
	var c Change
	if c.From, err = readAt(f); err != nil {
		return Change{}, err
	}
	if c.Took, err = write(f, n); err != nil {
		return Change{}, err
	}
	if c.To, err = readAt(f); err != nil {
		return Change{}, err
	}
	if ofKernel(f) {
		return c, nil
	}
	for _, name := range files[1:] {
		alias, err := t.open(name, os.O_RDWR)
		if err != nil {
			return c, err
		}
		_, err = write(alias, n)
		if err := errors.Join(err, alias.Close()); err != nil {
			return c, err
		}
	}
	return c, nil
}

func write(f *os.File, n uint64) (time.Duration, error) {
	text := append(strconv.AppendUint(nil, n, 10), '\n')
	if !ofKernel(f) {
		if err := f.Truncate(int64(len(text))); err != nil {
			return 0, err
		}
	}
	begin := time.Now()
	_, err := f.WriteAt(text, 0)
	took := time.Since(begin)
	if errors.Is(err, unix.EINVAL) {
		return took, &RejectedError{f.Name(), n, unix.EINVAL}
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // the module's parameter, in another namespace
		return took, &UnwritableError{f.Name(), OtherNamespace}
	}
	return took, gone(err)
}

// openLimit opens a limit to read and write it. It makes no file, and says why one that is there cannot be written.
func (t tree) openLimit(name string) (*os.File, error) {
	// In a namespace that may not write a limit the kernel shows it as 0444 (5.13 and later, and stable 5.10).
	if !t.writable(name) {
		if found, err := t.exists(name); err != nil || !found {
			return nil, cmp.Or(err, gone(os.ErrNotExist))
		}
		return nil, &UnwritableError{t.path(name), OtherNamespace}
	}
	f, err := t.open(name, os.O_RDWR)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EROFS):
		return nil, &UnwritableError{t.path(name), ReadOnly}
	case errors.Is(err, os.ErrPermission):
		return nil, &UnwritableError{t.path(name), Denied}
	}
	return nil, gone(err)
}

func readAt(f *os.File) (uint64, error) {
	text := make([]byte, 32)
	n, err := f.ReadAt(text, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, gone(err)
	}
	v, err := parse(text[:n])
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return v, nil
}

// ofKernel reports whether a file is one of proc or sysfs. Below a root there may be plain files in their place.
func ofKernel(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && (st.Type == unix.PROC_SUPER_MAGIC || st.Type == unix.SYSFS_MAGIC)
}
