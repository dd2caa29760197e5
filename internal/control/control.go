// Package control is how the commands of an operator speak to a running daemon about limits: by a small file below /run,
// which the next boot begins without.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dirName   = "run/ctwatch"
	stateName = "remediation.json"
	lockName  = "remediation.lock"
	runName   = "lock"
	// longest is more than any state takes, in bytes.
	longest = 64 << 10
)

// State is what operators said since the machine was started.
type State struct {
	Paused    *Paused    `json:"paused,omitempty"`     // nil: remediation is not paused
	ResumedAt *time.Time `json:"resumed_at,omitempty"` // by `limit resume`, last: what was yielded before is over
	Set       *Set       `json:"set,omitempty"`        // the last limit set by `limit set` or `limit undo`
}

// Paused says who paused remediation.
type Paused struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // untrusted text
}

// Set is a change of limits by an operator. It is noted before it is made: a daemon that sees a limit change finds it here.
type Set struct {
	ID      string    `json:"id"`
	What    string    `json:"what"` // WhatSet or WhatUndo
	Max     uint64    `json:"max"`
	Buckets uint64    `json:"buckets,omitempty"` // 0 is not changed
	At      time.Time `json:"at"`
	By      string    `json:"by"` // untrusted text
}

// The words of Set.What.
const (
	WhatSet  = "set"
	WhatUndo = "undo"
)

// Path is the file with the state, for those who watch it.
func Path(root string) string { return filepath.Join("/", root, dirName, stateName) }

// Read reads the state; where there is none, nobody said anything. It needs no lock. A file that somebody else than root
// could have written is refused.
func Read(root string) (State, error) {
	d, err := openDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	defer d.Close()
	f, err := d.open(stateName, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	defer f.Close()
	if err := trust(f); err != nil {
		return State{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, longest))
	if err != nil {
		return State{}, err
	}
	s, err := parse(text)
	if err != nil {
		return State{}, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return s, nil
}

func parse(text []byte) (State, error) {
	var s State
	if err := json.Unmarshal(text, &s); err != nil {
		return State{}, err
	}
	return s, nil
}

// trust refuses what is not a file of root's, or of our own, that others cannot write.
func trust(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("read %s: not a file that root alone can write", f.Name())
	}
	return nil
}

// Pause notes that remediation is to do nothing. The caller holds the lock.
func Pause(root string, p Paused) error {
	return update(root, func(s *State) { s.Paused = &p })
}

// Resume ends a pause, and whatever remediation yielded to. The caller holds the lock.
func Resume(root string, at time.Time) error {
	return update(root, func(s *State) { s.Paused, s.ResumedAt = nil, &at })
}

// NoteSet notes a change of limits that is about to be made; if it then cannot be made, the one noted before is noted again,
// or none. The caller holds the lock, and keeps it until it is made.
func NoteSet(root string, set *Set) error {
	return update(root, func(s *State) { s.Set = set })
}

// update replaces the file as a whole. One that is no state is replaced by a new one: it is never half written, so somebody
// else wrote it.
func update(root string, change func(*State)) error {
	s, err := Read(root)
	if err != nil {
		s = State{}
	}
	change(&s)
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	d, err := openDir(root)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.replace(stateName, append(text, '\n'))
}
