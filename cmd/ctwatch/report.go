package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/report"
)

// reportWindow is how far back a report goes where nobody says.
const reportWindow = "24h"

var reportFormats = []string{"text", "md", "html", "json"}

func reportCommand() *cli.Command {
	return &cli.Command{
		Name:         "report",
		Usage:        "write the post-mortem of a window of time, or of one incident, from the journal",
		OnUsageError: onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", EnvVars: environment("since"), DefaultText: reportWindow, Usage: "begin of the window: a `TIME` (2026-11-24T02:30:00Z), a day (2026-11-24), or how long ago (90m, 2h, 3d, 1w)"},
			&cli.StringFlag{Name: "until", EnvVars: environment("until"), DefaultText: "now", Usage: "end of the window, a `TIME` as for --since"},
			&cli.StringFlag{Name: "incident", EnvVars: environment("incident"), Usage: "report on one incident: its `ID`, a beginning of it that no other has, or last"},
			formatFlag(reportFormats...),
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, EnvVars: environment("output"), Usage: "write to `FILE`, as a whole or not at all, instead of standard output"},
			&cli.BoolFlag{Name: "redact", EnvVars: environment("redact"), Usage: "replace addresses, and the names of hosts, namespaces, their owners and units, by words that stand for them, the same for the same; " +
				"ports, protocols, interfaces, processes, figures and times stay. What is left may still tell who you are to somebody who knows you"},
			&cli.StringFlag{Name: "source", EnvVars: environment("source"), DefaultText: "journal:" + journalDir, Usage: "where the records are: journal:`DIR`, or prometheus:URL"},
		},
		Action: func(c *cli.Context) error {
			o, err := reportOptions(c, time.Now())
			if err != nil {
				return err
			}
			r, err := o.build(c.Context)
			if err != nil {
				return err
			}
			if c.Bool("redact") {
				r.Redact()
			}
			write := func(w io.Writer) error { return writeReport(r, w, c.String("format")) }
			if file := c.String("output"); !slices.Contains([]string{"", "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}, file) {
				return writeWhole(file, write)
			}
			return write(c.App.Writer)
		},
	}
}

func writeReport(r *report.Report, w io.Writer, format string) error {
	switch format {
	case "json":
		return r.WriteJSON(w)
	case "md":
		return r.WriteMarkdown(w, time.Local)
	case "html":
		return r.WriteHTML(w, time.Local)
	}
	return r.WriteText(w, time.Local)
}

// reportRequest is what to report on.
type reportRequest struct {
	report.Options
	source report.Source
	dir    string
	bound  bool // somebody said since or until
}

func reportOptions(c *cli.Context, now time.Time) (o reportRequest, err error) {
	o.Now = now
	if err := noArguments(c); err != nil {
		return o, err
	}
	if format := c.String("format"); !slices.Contains(reportFormats, format) {
		return o, unknownFormat(format, reportFormats...)
	}
	if o.Since, err = when("since", c.String("since"), reportWindow, now); err != nil {
		return o, err
	}
	if o.Until, err = when("until", c.String("until"), "0s", now); err != nil {
		return o, err
	}
	if o.Since.After(o.Until) {
		return o, usageErrorf("--since %s is after --until %s", o.Since.Format(time.RFC3339), o.Until.Format(time.RFC3339))
	}
	if o.Since.After(now) {
		return o, usageErrorf("--since %s is yet to come", o.Since.Format(time.RFC3339))
	}
	o.bound = c.String("since") != "" || c.String("until") != ""
	o.Incident = c.String("incident")
	root := c.String("root")
	o.dir = filepath.Join("/", root, journalDir)
	if root == "" && c.String("source") == "" {
		o.Host, _ = os.Hostname() // a run of weeks told it long before the window
	}
	if source := c.String("source"); source != "" {
		kind, rest, _ := strings.Cut(source, ":")
		switch {
		case kind == "prometheus" && rest != "":
			return o, notBuilt("source", source)
		case kind != "journal" || rest == "":
			return o, usageErrorf("--source %q: it is journal:DIR or prometheus:URL, such as journal:%s", source, journalDir)
		}
		o.dir = rest
	}
	o.source = report.FromJournal(o.dir)
	o.Running = journal.Written(o.dir)
	return o, nil
}

// build reads the source and makes the report.
func (o *reportRequest) build(ctx context.Context) (*report.Report, error) {
	if o.Incident != "" {
		since, until := o.Since, o.Until
		if !o.bound { // also what is yet to come, for the clock may have been set back
			since, until = time.Time{}, time.Time{}
		}
		found, err := report.Find(ctx, o.source, since, until, o.Now, o.Incident)
		if err != nil {
			return nil, o.explain(err)
		}
		o.Incident, o.Since, o.Until, o.Limit = found.ID, found.Since, found.Until, found.Limit
	}
	r, err := report.Build(ctx, o.source, o.Options)
	return r, o.explain(err)
}

// explain adds what a reader could do.
func (o *reportRequest) explain(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return hintedError{fmt.Errorf("there is no journal in %s", printable(o.dir)), "`ctwatch run` writes it (--journal DIR); --source journal:DIR reads one that is elsewhere"}
	}
	var unknown *report.UnknownError
	if errors.As(err, &unknown) && len(unknown.Known) == 0 && o.bound {
		return hintedError{err, "without --since and --until the whole journal is searched"}
	}
	return err
}

// hintedError is an error after which its reader can do something.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

// when reads a time: RFC 3339, a day in local time, or how long before now.
func when(flag, text, otherwise string, now time.Time) (time.Time, error) {
	if text == "" {
		text = otherwise
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return t, nil
	}
	if d, ok := ago(text); ok {
		return now.Add(-d), nil
	}
	return time.Time{}, usageErrorf("--%s %q: it is a time such as %s, a day such as %s, or how long ago, such as 90m, 2h, 3d or 1w",
		flag, text, now.Format(time.RFC3339), now.Format(time.DateOnly))
}

// ago reads how long ago: a duration of Go's, or a number of days or weeks.
func ago(text string) (time.Duration, bool) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		digits, ok := strings.CutSuffix(text, unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 16)
		return time.Duration(n) * length, err == nil && n <= 36500
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}

// writeWhole writes a file so that there is either all of it or what was there before.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // what a link leads to is replaced, not the link
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return fmt.Errorf("write %s: it is a directory", printable(path))
	}
	if err == nil && !info.Mode().IsRegular() { // a pipe or a terminal
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o640), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
