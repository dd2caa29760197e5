package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	journalPath = "/run/lock/ctwatch-lab.lock"
	patience    = 5 * time.Minute
	lockPoll    = 2 * time.Millisecond // a process that opens one lab after another leaves little time between them
)

// journal is the machine-wide lock file. Its text says who holds the lab, and what has to be undone after it:
//
//	boot 5a2c...                     a journal of an earlier boot has nothing to undo
//	holder 4711 lab.test             the process that has the lab
//	limit nf_conntrack_max 262144    the value to restore, written before the limit is changed
//
// An empty journal means that the last lab ended in order.
type journal struct {
	file *os.File
}

// openJournal returns once the lock is held.
func openJournal(ctx context.Context) (*journal, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(journalPath), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(journalPath, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &journal{file: f}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", journalPath, err), f.Close())
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			err := fmt.Errorf("lock %s: held by %s: %w", journalPath, holder(f), ctx.Err())
			return nil, errors.Join(err, f.Close())
		}
	}
}

// holder names the process that has the lab, as far as the journal says.
func holder(f *os.File) string {
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<16))
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if who, ok := strings.CutPrefix(lines.Text(), "holder "); ok {
			return "process " + who
		}
	}
	return "an unknown process"
}

// recover undoes what an earlier lab left behind, whose janitor was killed before it was done.
func (j *journal) recover() error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.NewSectionReader(j.file, 0, 1<<16))
	if err != nil {
		return err
	}
	if first, _, _ := strings.Cut(string(text), "\n"); first != "boot "+boot {
		if err := j.file.Truncate(0); err != nil {
			return err
		}
	}
	if err := cleanUp(j); err != nil {
		return fmt.Errorf("clean up after %s: %w", holder(j.file), err)
	}
	return j.write(fmt.Sprintf("boot %s\nholder %d %s\n", boot, os.Getpid(), filepath.Base(os.Args[0])))
}

// limit notes the value to restore.
func (j *journal) limit(name string, value uint64) error {
	return j.write(fmt.Sprintf("limit %s %d\n", name, value))
}

func (j *journal) write(line string) error {
	_, err := j.file.WriteString(line)
	return err
}

// Close lets the lock go, unless a janitor still holds it too.
func (j *journal) Close() error { return j.file.Close() }

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
