package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

func limitPersistCommand() *cli.Command {
	return &cli.Command{
		Name:         "persist",
		Usage:        "write the files that set the limit at each boot: N, or what runs now; the running limit is left alone",
		ArgsUsage:    "[N]",
		Flags:        []cli.Flag{bucketsFlag(), forceFlag("write files although they were edited by hand, or although others win at boot")},
		OnUsageError: onNumberUsageError,
		Action: func(c *cli.Context) error {
			n, given, err := limitArgument(c, false)
			if err != nil {
				return err
			}
			buckets, err := parseBuckets(c)
			if err != nil {
				return err
			}
			if given && n == 0 {
				return usageErrorf("limit persist 0: 0 is no limit at all, and that is not made to last: later kernels would refuse it at boot")
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if err := needRoot(root, "writing files"); err != nil {
				return err
			}
			want := persist.Limits{Max: n, Buckets: buckets}
			if !given {
				if want, err = runningLimits(root, buckets); err != nil {
					return err
				}
			}
			// Where nothing can be written there is no lock to be had either.
			if _, err := persist.Check(persistOptions(c, root, c.Bool("force")), want); err != nil {
				return explainWith(err, root, want.Max, want.Buckets)
			}
			return withFiles(c, root, want, func(o persist.Options) (persist.Result, error) { return persist.Persist(o, want) })
		},
	}
}

func limitUnpersistCommand() *cli.Command {
	return &cli.Command{
		Name:         "unpersist",
		Usage:        "remove the files that persist wrote; the running limit is left alone",
		Flags:        []cli.Flag{forceFlag("remove them although they were edited by hand")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if err := needRoot(root, "removing files"); err != nil {
				return err
			}
			return withFiles(c, root, persist.Limits{}, persist.Unpersist)
		},
	}
}

// withFiles changes files while nobody else does, and tells what became of them.
func withFiles(c *cli.Context, root string, want persist.Limits, do func(persist.Options) (persist.Result, error)) error {
	release, err := control.Lock(root)
	if err != nil {
		return explainWith(err, root, want.Max, want.Buckets)
	}
	defer release()
	result, err := do(persistOptions(c, root, c.Bool("force")))
	if err != nil {
		return explainWith(err, root, want.Max, want.Buckets)
	}
	p := &paragraphs{w: c.App.Writer}
	tellFiles(p, result)
	var unwritable *limits.UnwritableError
	if errors.As(limits.CheckMax(root), &unwritable) && unwritable.Why == limits.OtherNamespace {
		p.add("note", "this is not the host's network namespace: if it is a container, its files set nothing, and the host's have to be written")
	}
	return p.err
}

// runningLimits are those that run now; the buckets only if they are not what the next boot gives by itself.
func runningLimits(root string, buckets uint64) (persist.Limits, error) {
	s, err := limits.Read(root)
	if errors.Is(err, conntrack.ErrNotLoaded) {
		return persist.Limits{}, hintedError{errors.New("conntrack is not loaded: there is no running limit to write into files"),
			"say which: `ctwatch limit persist 524288`"}
	}
	if err != nil {
		return persist.Limits{}, explainLimit(err, root)
	}
	if s.Max == 0 {
		return persist.Limits{}, hintedError{errors.New("there is no limit now (nf_conntrack_max is 0), and that is not made to last"),
			"say a number: `ctwatch limit persist 524288`"}
	}
	l := persist.Limits{Max: s.Max, Buckets: keptBuckets(root, buckets)}
	if l.Buckets == 0 {
		if b, err := boot.Read(root); err == nil && b.NextBoot.Buckets != nil && *b.NextBoot.Buckets != s.Buckets {
			l.Buckets = s.Buckets
		}
	}
	return l, nil
}

// keptBuckets are the buckets that files are to hold: those asked for, or else those that files of ours hold already.
func keptBuckets(root string, asked uint64) uint64 {
	if asked > 0 {
		return asked
	}
	n, err := persist.KeptBuckets(persist.Options{Root: root})
	if err != nil {
		return 0 // persisting meets the same error, and tells it
	}
	return n
}

// tellFiles tells what became of files, and what the next boot gives now.
func tellFiles(p *paragraphs, r persist.Result) {
	if len(r.Files) == 0 {
		p.add("files", "there were none to remove")
	}
	for _, f := range r.Files {
		p.add(f.Did, "%s", printable(f.Path))
	}
	for _, n := range r.Notes {
		p.add("note", "%s", prose(n))
	}
	next := "not known"
	if r.Outlook.NextBoot.Max != nil {
		next = fmt.Sprintf("%s entries", remediate.Thousands(*r.Outlook.NextBoot.Max))
	}
	p.add("next boot", "%s: %s", next, prose(r.Outlook.Why))
}
