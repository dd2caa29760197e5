package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

func limitSetCommand() *cli.Command {
	return &cli.Command{
		Name:      "set",
		Usage:     "set the running limit; `ctwatch limit undo` takes it back",
		ArgsUsage: "N",
		Flags: []cli.Flag{
			bucketsFlag(),
			&cli.BoolFlag{Name: "persist", Usage: "also write the files that set it at each boot"},
			forceFlag("set it although connections would be refused, or memory would be short; write files although they were edited or others win"),
		},
		OnUsageError: onNumberUsageError,
		Action: func(c *cli.Context) error {
			n, _, err := limitArgument(c, true)
			if err != nil {
				return err
			}
			buckets, err := parseBuckets(c)
			if err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if err := needRoot(root, "setting a limit"); err != nil {
				return err
			}
			s := setter{
				root: root, request: request{max: n, buckets: buckets, persist: c.Bool("persist")}, force: c.Bool("force"),
				o: persistOptions(c, root, c.Bool("force")), out: c.App.Writer,
			}
			return explainWith(s.run(), root, n, buckets)
		},
	}
}

// setter sets limits: one change as a whole, which is noted before anything is done.
type setter struct {
	request
	root  string
	force bool
	o     persist.Options
	out   io.Writer

	machine *machine
}

func (s *setter) run() error {
	// What keeps it from being done at all is told before anybody has to wait for the lock, or may not have it.
	if err := s.possible(); err != nil {
		return err
	}
	release, err := control.Lock(s.root)
	switch {
	case errors.Is(err, control.ErrBusy):
		return err
	case err != nil && !s.force:
		return hintedError{fmt.Errorf("nothing was changed, for others could not be kept from it meanwhile: %w", err), "--force sets it all the same"}
	case err != nil:
		s.say("forced", "nobody is kept from setting it at the same time: %v", err)
	default:
		defer release()
	}
	if s.machine, err = lookAtMachine(s.root); err != nil {
		return err
	}
	if !s.machine.loaded {
		return conntrack.ErrNotLoaded
	}
	if err := s.agree(); err != nil {
		return err
	}
	set := s.change()
	if s.persist {
		files, err := persist.Check(s.o, s.lasting())
		if err != nil {
			return fmt.Errorf("nothing was changed, for the files cannot be written: %w", err)
		}
		if !changes(set) && !writes(files) {
			s.say("max", "%s already", remediate.Thousands(s.max))
			p := &paragraphs{w: s.out}
			tellFiles(p, files)
			return p.err
		}
	} else if !changes(set) {
		s.say("max", "%s already", remediate.Thousands(s.max))
		return nil
	}
	return s.apply(set)
}

// change is what is to be done to the running limits.
func (s *setter) change() persist.Set {
	was := s.machine.state
	set := persist.Set{By: s.o.By}
	if s.max != was.Max {
		set.Max = persist.Step{From: was.Max, To: s.max}
	}
	if s.buckets > 0 && s.buckets != was.Buckets && rounded(s.buckets) != was.Buckets {
		set.Buckets = persist.Step{From: was.Buckets, To: rounded(s.buckets)}
	}
	return set
}

// changes reports whether a running limit is changed by a set.
func changes(set persist.Set) bool {
	return set.Max != (persist.Step{}) || set.Buckets != (persist.Step{})
}

func writes(r persist.Result) bool {
	return slices.ContainsFunc(r.Files, func(f persist.FileChange) bool { return f.Did != persist.Unchanged })
}

// possible asks whether the running limits can be set here at all.
func (s *setter) possible() error {
	if err := limits.CheckMax(s.root); err != nil {
		return err
	}
	if s.buckets > 0 {
		return limits.CheckBuckets(s.root)
	}
	return nil
}

// agree tells what is to be said about the request, and refuses it if that weighs too much.
func (s *setter) agree() error {
	objections, notes := s.machine.judge(s.request)
	for _, o := range objections {
		switch {
		case o.kind == senseless:
			return usageError{o.why}
		case o.kind == impossible:
			return impossibleError{o.why, o.hint}
		case !s.force:
			hint := "--force sets it all the same"
			if o.hint != "" {
				hint = o.hint + "; " + hint
			}
			return hintedError{errors.New(o.why), hint}
		}
		s.say("forced", "%s", o.why)
	}
	for _, n := range notes {
		s.say("note", "%s", n)
	}
	return nil
}

// lasting are the limits that the files are to hold. Buckets that they hold already they keep.
func (s *setter) lasting() persist.Limits {
	return persist.Limits{Max: s.max, Buckets: keptBuckets(s.root, s.buckets)}
}

func (s *setter) apply(set persist.Set) error {
	change, err := persist.Begin(s.o, set)
	if err != nil && !s.force {
		return hintedError{fmt.Errorf("nothing was changed, for it could not be noted how to take it back: %w", err), "--force sets it all the same, and then there is no undo"}
	}
	if err != nil {
		s.say("forced", "there will be no undo: %v", err)
	}
	id := ""
	if change != nil {
		id = change.ID()
	}
	planned := set
	done, err := s.running(id, &set)
	switch {
	case change == nil:
	case !done:
		return errors.Join(err, change.Cancel())
	case set.Max != planned.Max || set.Buckets != planned.Buckets:
		err = errors.Join(err, change.SetLimits(set.Max, set.Buckets))
	}
	if err != nil || !s.persist {
		s.undoable(change)
		return err
	}
	return s.write(change)
}

// running sets the running limits, and corrects set to what became of them. done is whether anything was.
func (s *setter) running(id string, set *persist.Set) (done bool, err error) {
	before, _ := control.Read(s.root)
	note := control.Set{ID: id, What: control.WhatSet, Max: s.max, Buckets: set.Buckets.To, At: time.Now(), By: operator()}
	switch err := control.NoteSet(s.root, &note); {
	case err != nil && !s.force:
		return false, hintedError{fmt.Errorf("nothing was changed, for a running daemon could not be told: %w", err), "--force sets it all the same, and then the daemon takes it for another's"}
	case err != nil:
		s.say("forced", "a running daemon could not be told: %v", err)
	}
	if set.Max != (persist.Step{}) {
		c, err := limits.SetMax(s.root, s.max)
		if err != nil {
			return false, errors.Join(err, control.NoteSet(s.root, before.Set))
		}
		set.Max.From = c.From
		s.say("max", "%s -> %s", remediate.Thousands(c.From), remediate.Thousands(c.To))
	} else {
		s.say("max", "%s already", remediate.Thousands(s.max))
	}
	if set.Buckets == (persist.Step{}) {
		return true, nil
	}
	// After max, for while entries are moved nothing gets through.
	c, err := limits.SetBuckets(s.root, s.buckets)
	if err != nil {
		set.Buckets = persist.Step{}
		return changes(*set) || s.persist, fmt.Errorf("the buckets are as they were: %w", err)
	}
	set.Buckets = persist.Step{From: c.From, To: c.To}
	text := fmt.Sprintf("%s -> %s", remediate.Thousands(c.From), remediate.Thousands(c.To))
	if c.To != s.buckets {
		text += ", for the kernel rounds up to whole pages"
	}
	s.say("buckets", "%s%s", text, stalled(c.Took))
	if c.To != note.Buckets {
		note.Buckets = c.To
		return true, control.NoteSet(s.root, &note) // it was reckoned wrong
	}
	return true, nil
}

// write writes the files, after the running limits were set.
func (s *setter) write(change *persist.Change) error {
	var result persist.Result
	var err error
	if change != nil {
		result, err = change.Persist(s.lasting())
	} else {
		result, err = persist.Persist(s.o, s.lasting())
	}
	if err != nil {
		s.undoable(change)
		return fmt.Errorf("the running limit is set, but it will not last: %w", err)
	}
	tellFiles(&paragraphs{w: s.out}, result)
	s.undoable(change)
	return nil
}

func (s *setter) undoable(change *persist.Change) {
	if change != nil {
		s.say("undo", "`ctwatch limit undo` takes it back")
	}
}

func (s *setter) say(label, format string, args ...any) {
	p := &paragraphs{w: s.out}
	p.add(label, format, args...)
}

// rounded is what the kernel makes of a number of buckets: whole pages of pointers.
func rounded(buckets uint64) uint64 {
	page := uint64(os.Getpagesize()) / bytesPerBucket
	return (buckets + page - 1) / page * page
}

// stalled tells how long a change of buckets held up all tracked traffic, where that is worth a word.
func stalled(took time.Duration) string {
	if took < time.Millisecond/10 {
		return ""
	}
	return fmt.Sprintf(" (all tracked traffic waited %v at most)", took.Round(time.Millisecond/10))
}
