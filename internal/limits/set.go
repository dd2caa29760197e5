package limits

import (
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
	c, err := set(l.max, n)
	if err == nil && c.To != n {
		err = &DiffersError{l.max[0], n, c.To}
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
	c, err := set(files, n)
	if err == nil && (c.To < n || c.To-n >= uint64(os.Getpagesize())/8) {
		err = &DiffersError{file, n, c.To}
	}
	return c, err
}

// CheckMax says why max could not be set here, if so, and changes nothing.
func CheckMax(root string) error {
	l, err := find(root)
	if err != nil {
		return err
	}
	return check(l.max[0])
}

// CheckBuckets says why the buckets could not be set here, if so, and changes nothing.
func CheckBuckets(root string) error {
	l, err := find(root)
	if err != nil {
		return err
	}
	return l.checkBuckets()
}

func (l layout) checkBuckets() error {
	file := l.bucketsFile()
	if file == "" {
		return &UnwritableError{Why: NoFile}
	}
	// The module's parameter looks the same in every namespace.
	if !writable(l.max[0]) {
		return &UnwritableError{file, OtherNamespace}
	}
	return check(file)
}

func check(path string) error {
	f, err := open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// set writes a number to the first file and reads it back from there. The other files are further names of the same
// variable: the kernel changes them by itself, but a copy of a machine's files does not.
func set(files []string, n uint64) (Change, error) {
	f, err := open(files[0])
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
	for _, path := range files[1:] {
		alias, err := os.OpenFile(path, os.O_RDWR, 0)
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

// open opens a limit to read and write it. It makes no file, and says why one that is there cannot be written.
func open(path string) (*os.File, error) {
	// In a namespace that may not write a limit the kernel shows it as 0444 (5.13 and later, and stable 5.10).
	if !writable(path) {
		if !exists(path) {
			return nil, gone(os.ErrNotExist)
		}
		return nil, &UnwritableError{path, OtherNamespace}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EROFS):
		return nil, &UnwritableError{path, ReadOnly}
	case errors.Is(err, os.ErrPermission):
		return nil, &UnwritableError{path, Denied}
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
