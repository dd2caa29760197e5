package main

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
	"github.com/ctwatch/ctwatch/internal/watch"
)

func limitShowCommand() *cli.Command {
	return &cli.Command{
		Name:         "show",
		Usage:        "the limits: running, in files, after the next boot; what they cost, and who set them",
		Flags:        []cli.Flag{formatFlag("table", "json")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			asJSON, err := tableOrJSON(c)
			if err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			s, err := showLimits(c.Context, root, time.Now())
			if err != nil {
				return explainLimit(err, root)
			}
			if asJSON {
				return json.NewEncoder(c.App.Writer).Encode(s)
			}
			return s.text(c.App.Writer)
		},
	}
}

// limitShow is what there is to know about the limits; its JSON is a contract.
type limitShow struct {
	Loaded    bool         `json:"loaded"`                  // conntrack is
	CannotSet string       `json:"cannot_be_set,omitempty"` // why max cannot be set from here
	Live      liveLimits   `json:"live"`
	Persisted fileLimits   `json:"persisted"` // what the files set, whether or not it comes into effect
	NextBoot  nextLimits   `json:"next_boot"`
	Memory    memoryLimits `json:"memory"`
	Files     []limitLine  `json:"files"` // in the order in which they are read
	NetNS     []tableFill  `json:"netns"` // the fullest first: the limit holds in each
	Unseen    int          `json:"netns_unseen,omitempty"`
	Twenty    *twentyRule  `json:"twenty_percent_rule"` // null where nothing is limited
	Paused    *controlNote `json:"paused"`              // null: remediation is not paused
	LastSet   *lastSet     `json:"last_set"`            // what `limit undo` takes back; null: nothing
	Daemon    daemonState  `json:"daemon"`

	machine *machine
	notices []string
}

type liveLimits struct {
	Max     *uint64 `json:"max"` // 0 is no limit; null where conntrack is not loaded
	Buckets *uint64 `json:"buckets"`
}

type fileLimits struct {
	Max     *uint64 `json:"max"` // null: no file sets it
	Buckets *uint64 `json:"buckets"`
}

type nextLimits struct {
	Max     *uint64 `json:"max"` // null where it cannot be known
	Buckets *uint64 `json:"buckets"`
	Why     string  `json:"why"`
}

// memoryLimits are bytes, but for the entries. Null where memory, or the limit, is not known.
type memoryLimits struct {
	Now        *uint64 `json:"now"`
	AtMax      *uint64 `json:"at_max"` // if as many tables as are busy now were full; null without a limit
	Cap        *uint64 `json:"cap"`    // the same at cap_entries
	CapEntries *uint64 `json:"cap_entries"`
	PerEntry   *uint64 `json:"per_entry"`
	Measured   bool    `json:"measured"` // per_entry is of this kernel
	Total      *uint64 `json:"total"`
	Busy       int     `json:"busy_netns"`
}

type limitLine struct {
	File  string  `json:"file"`
	Line  int     `json:"line"`
	Key   string  `json:"key"`
	Value *uint64 `json:"value"` // null where it is no number
	Text  string  `json:"text"`  // as it is written there; untrusted
	Wins  bool    `json:"wins"`
	Note  string  `json:"note,omitempty"` // why it sets nothing
}

type tableFill struct {
	table
	Fill *float64 `json:"fill"` // null without a limit
}

// twentyRule is the rule of thumb that a table more than a fifth full is one to worry about.
type twentyRule struct {
	Fill   float64 `json:"fill"` // of the fullest table
	Over   bool    `json:"over"`
	Enough uint64  `json:"enough"` // the max at which it would not be
}

type controlNote struct {
	At time.Time `json:"at"`
	By string    `json:"by"` // untrusted text
}

type lastSet struct {
	ID      string        `json:"id"`
	Time    time.Time     `json:"time"`
	By      string        `json:"by"`  // untrusted text
	Max     *persist.Step `json:"max"` // null: not changed
	Buckets *persist.Step `json:"buckets"`
	Files   []string      `json:"files"`
}

type daemonState struct {
	Running *bool            `json:"running"` // null where that cannot be told
	PID     string           `json:"pid,omitempty"`
	Actions []*record.Action `json:"actions"` // the last few
	Yielded *record.Action   `json:"yielded"` // null: it yields to nobody
	Changed *record.Limit    `json:"last_change"`
}

func showLimits(ctx context.Context, root string, now time.Time) (*limitShow, error) {
	m, err := lookAtMachine(root)
	if err != nil {
		return nil, err
	}
	s := &limitShow{Loaded: m.loaded, machine: m, Unseen: m.unseen, Files: []limitLine{}, NetNS: []tableFill{}}
	if m.denied > 0 {
		s.notices = append(s.notices, watch.Denied(m.denied))
	}
	s.live()
	outlook, err := boot.Read(root)
	if err != nil {
		s.notices = append(s.notices, err.Error())
		s.NextBoot.Why = "not every file could be read"
	}
	s.outlook(outlook, err == nil)
	state, err := control.Read(root)
	if err != nil {
		s.notices = append(s.notices, err.Error())
	}
	if p := state.Paused; p != nil {
		s.Paused = &controlNote{p.At, p.By}
	}
	if s.LastSet, err = readLastSet(root); err != nil {
		s.notices = append(s.notices, err.Error())
	}
	s.Daemon.Running, s.Daemon.PID = daemonRuns(root)
	past, err := readDeeds(ctx, root, now, state.ResumedAt)
	if err != nil {
		s.notices = append(s.notices, err.Error())
	}
	s.Daemon.Actions, s.Daemon.Yielded, s.Daemon.Changed = past.actions, past.yielded, past.changed
	if s.Daemon.Actions == nil {
		s.Daemon.Actions = []*record.Action{}
	}
	return s, nil
}

func (s *limitShow) live() {
	m := s.machine
	known := func(n uint64) *uint64 { return &n }
	if m.noMem == nil {
		s.Memory = memoryLimits{PerEntry: &m.memory.PerEntry, Measured: m.memory.Measured, Total: &m.memory.Total, Busy: m.busy(), Now: known(m.inUse())}
		plan := remediate.DefaultPolicy().Plan(m.usage(0), m.memory)
		s.Memory.CapEntries, s.Memory.Cap = &plan.Cap, known(m.cost(plan.Cap, m.state.Buckets))
	} else if m.booted {
		s.notices = append(s.notices, m.noMem.Error())
	}
	if !m.loaded {
		return
	}
	var unwritable *limits.UnwritableError
	if errors.As(limits.CheckMax(m.root), &unwritable) && unwritable.Why != limits.Denied {
		s.CannotSet = unwritable.Error()
		s.notices = append(s.notices, "the limits cannot be set from here, only on the host: "+s.CannotSet)
	}
	s.Live = liveLimits{Max: &m.state.Max}
	if m.state.Buckets > 0 {
		s.Live.Buckets = &m.state.Buckets
	}
	for _, t := range m.tables {
		s.NetNS = append(s.NetNS, tableFill{t, m.fill(t)})
	}
	if m.state.Max == 0 {
		return
	}
	if m.noMem == nil {
		s.Memory.AtMax = known(m.cost(m.state.Max, m.state.Buckets))
	}
	fullest := m.fullest()
	s.Twenty = &twentyRule{Fill: *m.fill(fullest), Over: fullest.Count*5 > m.state.Max, Enough: fullest.Count * 5}
}

func (s *limitShow) outlook(b boot.Outlook, known bool) {
	if !known {
		return
	}
	s.Persisted = fileLimits{b.Persisted.Max, b.Persisted.Buckets}
	s.NextBoot = nextLimits{b.NextBoot.Max, b.NextBoot.Buckets, b.Why}
	for _, l := range b.Files {
		line := limitLine{File: l.File, Line: l.Line, Key: l.Key, Text: l.Value, Wins: l.Wins, Note: l.Note}
		if n, err := strconv.ParseUint(l.Value, 10, 64); err == nil {
			line.Value = &n
		}
		s.Files = append(s.Files, line)
	}
}

// readLastSet is what `limit undo` would take back; nil if there is nothing.
func readLastSet(root string) (*lastSet, error) {
	set, err := persist.Last(persist.Options{Root: root, Version: ownVersion()})
	if errors.Is(err, persist.ErrNothing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := &lastSet{ID: set.ID, Time: set.Time, By: set.By, Files: []string{}}
	if set.Max != (persist.Step{}) {
		l.Max = &set.Max
	}
	if set.Buckets != (persist.Step{}) {
		l.Buckets = &set.Buckets
	}
	for _, f := range set.Files {
		l.Files = append(l.Files, f.Path)
	}
	return l, nil
}

// daemonRuns reports whether `ctwatch run` holds its lock; nil where we may not look.
func daemonRuns(root string) (running *bool, pid string) {
	runs, pid, err := control.Running(root)
	if err != nil {
		return nil, ""
	}
	return &runs, pid
}
