package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

func limitUndoCommand() *cli.Command {
	return &cli.Command{
		Name:         "undo",
		Usage:        "take the last set, persist or unpersist back as a whole: the running limits, and the files",
		Flags:        []cli.Flag{forceFlag("also if the limit or a file was changed since, or if connections would be refused")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if err := needRoot(root, "setting a limit"); err != nil {
				return err
			}
			u := undoer{root: root, force: c.Bool("force"), o: persistOptions(c, root, c.Bool("force")), out: c.App.Writer}
			err = u.run()
			if errors.Is(err, persist.ErrNothing) {
				return hintedError{err, "`ctwatch limit show` tells the last set; `ctwatch limit unpersist` removes the files"}
			}
			return explainLimit(err, root)
		},
	}
}

// undoer takes the last change back.
type undoer struct {
	root  string
	force bool
	o     persist.Options
	out   io.Writer
}

func (u *undoer) run() error {
	release, err := control.Lock(u.root)
	if err != nil {
		return err
	}
	defer release()
	set, err := persist.Last(u.o)
	if err != nil {
		return err
	}
	return u.takeBack(set)
}

// takeBack takes a change back, if it still is the last: a running daemon, which makes changes too, does not wait for us.
func (u *undoer) takeBack(set *persist.Set) error {
	m, err := lookAtMachine(u.root)
	if err != nil {
		return err
	}
	p := &paragraphs{w: u.out}
	back, objections := m.back(set)
	for _, o := range objections {
		if !u.force {
			return hintedError{errors.New(o), "--force takes it back all the same"}
		}
		p.add("forced", "%s", o)
	}
	if back.max != nil {
		if err := limits.CheckMax(u.root); err != nil {
			return err
		}
	}
	if back.buckets != nil {
		if err := limits.CheckBuckets(u.root); err != nil {
			return err
		}
	}
	before, _ := control.Read(u.root)
	note := control.Set{ID: set.ID, What: control.WhatUndo, Max: m.state.Max, At: time.Now(), By: operator()}
	if back.max != nil {
		note.Max = *back.max
	}
	if back.buckets != nil {
		note.Buckets = *back.buckets
	}
	if back.max != nil || back.buckets != nil {
		if err := control.NoteSet(u.root, &note); err != nil {
			return fmt.Errorf("nothing was changed, for a running daemon could not be told: %w", err)
		}
	}
	// The files first: they may have to be left as they are, and then nothing is taken back.
	_, result, err := persist.Undo(u.o, set.ID)
	if err != nil {
		return errors.Join(err, control.NoteSet(u.root, before.Set))
	}
	return u.setBack(p, back, set, result, m.loaded)
}

func (u *undoer) setBack(p *paragraphs, back backwards, set *persist.Set, result persist.Result, loaded bool) error {
	var errs []error
	if back.max != nil {
		c, err := limits.SetMax(u.root, *back.max)
		if err != nil {
			errs = append(errs, fmt.Errorf("max is still what it was: %w", err))
		} else {
			p.add("max", "%s -> %s", remediate.Thousands(c.From), remediate.Thousands(c.To))
		}
	}
	if back.buckets != nil {
		c, err := limits.SetBuckets(u.root, *back.buckets)
		if err != nil {
			errs = append(errs, fmt.Errorf("the buckets are still what they were: %w", err))
		} else {
			p.add("buckets", "%s -> %s%s", remediate.Thousands(c.From), remediate.Thousands(c.To), stalled(c.Took))
		}
	}
	switch changed := changes(*set); {
	case changed && !loaded:
		p.add("limits", "conntrack is not loaded: there is no running limit to take back")
	case changed && back == (backwards{}):
		p.add("limits", "they are what they were before already")
	}
	if len(result.Files) > 0 {
		tellFiles(p, result)
	}
	return errors.Join(append(errs, p.err)...)
}

// backwards are the limits that undo sets; nil is left alone.
type backwards struct{ max, buckets *uint64 }

// back is what takes a change of running limits back, and what there is against it.
func (m *machine) back(set *persist.Set) (b backwards, objections []string) {
	if !m.loaded {
		return b, nil
	}
	step := func(what string, s persist.Step, now uint64) *uint64 {
		if s == (persist.Step{}) || now == s.From {
			return nil
		}
		if now != s.To {
			objections = append(objections, fmt.Sprintf("%s is %s now, and not the %s that the last set made it: somebody else has set it since",
				what, remediate.Thousands(now), remediate.Thousands(s.To)))
		}
		return &s.From
	}
	b.max = step("max", set.Max, m.state.Max)
	b.buckets = step("the number of buckets", set.Buckets, m.state.Buckets)
	if b.max == nil || *b.max == 0 {
		return b, objections
	}
	if over := m.above(*b.max); over != "" {
		objections = append(objections, fmt.Sprintf("%s, as it was before, is below what is in use: %s. Every new connection there is refused until the count has fallen below it",
			remediate.Thousands(*b.max), over))
	}
	return b, objections
}
