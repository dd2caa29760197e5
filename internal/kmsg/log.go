// Package kmsg counts the lines that the kernel log carried about a full conntrack table.
//
// The kernel writes ten such lines in five seconds at most, whatever it refuses, and shares even those among all messages
// about the network. So they are told beside the true number of refused packets, and nothing is concluded from them.
package kmsg

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrNoLog: the file is not the kernel log. In containers it may be another device, on which no line ever comes.
var ErrNoLog = errors.New("not the kernel log")

// largest is the most bytes that one record takes, header, escapes and properties included (CONSOLE_EXT_LOG_MAX; 2048 and
// a prefix since 6.4, PRINTK_MESSAGE_MAX). A smaller buffer makes the kernel return EINVAL.
const largest = 8192

// Log is the kernel log from the moment it was opened on. It is not safe for concurrent use.
type Log struct {
	fd     int
	buffer [largest]byte
	tally
}

// Open begins to count. path is where the device is; "" is /dev/kmsg. The error, wherever the log cannot be read, means
// that the number of lines is unknown, which is not 0. It is unix.EPERM without CAP_SYSLOG where kernel.dmesg_restrict is
// set, and ErrNoLog where the file is something else.
func Open(path string) (*Log, error) {
	path = cmp.Or(path, "/dev/kmsg")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open kernel log: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	l := &Log{fd: fd}
	if l.names, err = begin(fd); err != nil {
		return nil, errors.Join(fmt.Errorf("open kernel log %s: %w", path, err), l.Close())
	}
	return l, nil
}

// begin checks that fd is the log, passes what it holds, and reports whether this kernel's lines name their namespace.
func begin(fd int) (names bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	// include/linux/major.h and drivers/char/mem.c
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 11) {
		return false, ErrNoLog
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		return false, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return false, err
	}
	return namesNetNS(unix.ByteSliceToString(uts.Release[:])), nil
}

// Read counts the lines that came since the last Read, and does not wait for more. It should be called often enough that
// they are not overwritten before; those that were are [Log.Missed].
func (l *Log) Read() error {
	for {
		n, err := unix.Read(l.fd, l.buffer[:])
		switch {
		case err == nil && n > 0:
			l.take(l.buffer[:n])
		case err == nil, errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EPIPE):
			// The next read gives the oldest that is left.
			l.overwritten = true
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("read kernel log: %w", err)
		}
	}
}

// Close ends the counting. What was counted stands.
func (l *Log) Close() error { return unix.Close(l.fd) }
