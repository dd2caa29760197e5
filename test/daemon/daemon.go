// Package daemon runs ctwatch for the demo and the benchmarks, and reads its records.
package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
)

// Daemon is a running `ctwatch run`.
type Daemon struct {
	// Start is what it said when it began to count.
	Start *record.Start

	cmd    *exec.Cmd
	read   chan error
	backup map[string]bool // what was there before
}

// backupDir is where ctwatch keeps what limits were before it raised them. What it raises here is over when it ends, and
// nothing for `ctwatch limit undo`.
const backupDir = "/var/lib/ctwatch/backup"

func backups() map[string]bool {
	there := map[string]bool{}
	entries, _ := os.ReadDir(backupDir) // there may be none yet
	for _, e := range entries {
		there[e.Name()] = true
	}
	return there
}

// tidy removes what was kept for an undo since the start.
func (d *Daemon) tidy() error {
	var errs []error
	for name := range backups() {
		if !d.backup[name] {
			errs = append(errs, os.RemoveAll(filepath.Join(backupDir, name)))
		}
	}
	return errors.Join(errs...)
}

// Start runs `ctwatch run` with more arguments, and without a server for metrics. It returns when ctwatch counts. Each record
// after the first is given to tell, one after another. What ctwatch has to say beside its records is on standard error.
func Start(ctx context.Context, ctwatch string, tell func(record.Record), args ...string) (*Daemon, error) {
	cmd := exec.CommandContext(ctx, ctwatch, append([]string{"run", "--format", "json", "--listen", ""}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	backup := backups()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &Daemon{cmd: cmd, read: make(chan error, 1), backup: backup}
	lines := bufio.NewReader(out)
	first, err := next(lines)
	start, ok := first.(*record.Start)
	if !ok {
		d.Kill()
		return nil, errors.Join(errors.New("ctwatch did not start"), err)
	}
	d.Start = start
	go func() {
		for {
			r, err := next(lines)
			if errors.Is(err, io.EOF) {
				err = nil
			} else if err == nil {
				tell(r)
				continue
			}
			d.read <- err
			return
		}
	}()
	return d, nil
}

// next reads a record.
func next(lines *bufio.Reader) (record.Record, error) {
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	r, err := record.Parse(line)
	if err != nil {
		return nil, fmt.Errorf("read ctwatch's records: %w", err)
	}
	return r, nil
}

// Stop ends ctwatch in order, and returns when every record has been told.
func (d *Daemon) Stop() error {
	if err := d.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	return errors.Join(<-d.read, d.cmd.Wait(), d.tidy())
}

// Kill ends ctwatch, if it still runs, whatever it does.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
	_ = d.tidy()
}
