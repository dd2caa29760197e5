package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
	"github.com/ctwatch/ctwatch/internal/watch"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:         "run",
		Usage:        "count refused packets until interrupted",
		OnUsageError: onUsageError,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "probe", Value: loader.Auto, EnvVars: environment("probe"), Usage: strings.Join(loader.Names(), ", ")},
			&cli.DurationFlag{Name: "interval", Value: time.Second, EnvVars: environment("interval"), Usage: "time between samples"},
			&cli.StringFlag{Name: "format", Value: "text", EnvVars: environment("format"), Usage: strings.Join(runFormats, ", ")},
			&cli.DurationFlag{Name: "duration", EnvVars: environment("duration"), Usage: "end after this time; 0 runs until interrupted"},
			&cli.StringFlag{Name: "journal", Value: journalDir, EnvVars: environment("journal"), Usage: "keep records in daily files in `DIR`; \"\" keeps none"},
			&cli.StringFlag{Name: "listen", Value: listenAddress, EnvVars: environment("listen"), Usage: "serve metrics on `ADDRESS`; \"\" serves none"},
			&cli.StringFlag{Name: "web-config", EnvVars: environment("web-config"), Usage: "`FILE` with TLS and users for the metrics, as Prometheus exporters have it"},
			&cli.BoolFlag{Name: "insecure", EnvVars: environment("insecure"), Usage: "serve metrics to anybody, also on an address that is not loopback"},
			&cli.StringFlag{Name: "textfile", EnvVars: environment("textfile"), Usage: "write metrics to `PATH`, for node_exporter's textfile collector"},
			&cli.StringFlag{Name: "samples", Value: "100/s", EnvVars: environment("samples"), Usage: "refused packets to show, at most (and at most one a clock tick and CPU); 0 is none"},
		}, remediationFlags(), unbuiltFlags()),
		Action: func(c *cli.Context) error {
			o, err := runOptions(c)
			if err != nil {
				return err
			}
			log, err := newLogger(c)
			if err != nil {
				return err
			}
			if o.Hook, err = openHook(c); err != nil {
				return err
			}
			if o.Persist && o.Remediate.Mode != remediate.On {
				log.Warn(fmt.Sprintf("--persist keeps what is raised, and --remediate %s raises nothing (`ctwatch limit persist` keeps the limit as it is)", o.Remediate.Mode))
			}
			release, err := lock(o.Root)
			switch {
			case errors.Is(err, errNoLock):
				log.Warn(err.Error())
			case err != nil:
				return err
			default:
				defer release()
			}
			ctx, end := context.WithCancelCause(c.Context)
			defer end(nil)
			out, err := openOutput(c, o, log, func(err error) { end(unprinted{err}) })
			if err != nil {
				return err
			}
			if o.Remediate.Mode == remediate.On {
				h := hurried{log: log}
				out.attached = h.begin
				defer h.close()
			}
			err = errors.Join(watch.Run(ctx, o, out), out.close())
			if cause := new(unprinted); err == nil && errors.As(context.Cause(ctx), cause) {
				return cause.error
			}
			return err
		},
	}
}

// unprinted ends a run in good order: what is printed cannot be written any more.
type unprinted struct{ error }

var runFormats = []string{"text", "json", "none"}

// unbuilt are flags of what does not exist yet. They take the value that asks for nothing, so that a unit file written
// for a later version works with this one, and refuse any other.
var unbuilt = map[string]string{
	"btf": "",
}

func unbuiltFlags() []cli.Flag {
	var flags []cli.Flag
	for name, nothing := range unbuilt {
		flags = append(flags, &cli.StringFlag{Name: name, Value: nothing, EnvVars: environment(name), Hidden: true})
	}
	return flags
}

// environment is the variable that stands in for a flag.
func environment(flag string) []string {
	return []string{"CTWATCH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))}
}

func notBuilt(flag, value string) error {
	return impossibleError{"--" + flag + " " + value + ": this version does not have it yet", "leave it out, or give it its empty value"}
}

func runOptions(c *cli.Context) (watch.Options, error) {
	o := watch.Options{
		Version: ownVersion(), Probe: c.String("probe"), Interval: c.Duration("interval"), Duration: c.Duration("duration"),
	}
	var err error
	if err := noArguments(c); err != nil {
		return o, err
	}
	if o.Root, err = checkRoot(c); err != nil {
		return o, err
	}
	if !slices.Contains(loader.Names(), o.Probe) {
		return o, usageErrorf("--probe %q: it is one of %s", o.Probe, strings.Join(loader.Names(), ", "))
	}
	if o.Interval < time.Millisecond {
		return o, usageErrorf("--interval %v: it must be at least 1ms", o.Interval)
	}
	if o.Duration < 0 {
		return o, usageErrorf("--duration %v: it cannot be negative", o.Duration)
	}
	if o.Samples, err = perSecond(c.String("samples")); err != nil {
		return o, err
	}
	if !slices.Contains(runFormats, c.String("format")) {
		return o, unknownFormat(c.String("format"), runFormats...)
	}
	for name, nothing := range unbuilt {
		if v := c.String(name); v != nothing && v != "" {
			return o, notBuilt(name, v)
		}
	}
	o.Remediate, err = remediation(c)
	o.Persist = c.Bool("persist")
	return o, err
}

// perSecond reads "100/s", "100" or "0".
func perSecond(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(text, "/s"))
	if err != nil || n < 0 || n > 1e6 {
		return 0, usageErrorf("--samples %q: it is a number a second up to 1000000, such as 100/s", text)
	}
	return n, nil
}

// printer writes records to standard output.
type printer interface{ Record(record.Record) error }

func newPrinter(format string, w io.Writer) printer {
	switch format {
	case "json":
		return jsonPrinter{json.NewEncoder(w)}
	case "none":
		return nonePrinter{}
	}
	return &textPrinter{w: w, live: isTerminal(w)}
}

type jsonPrinter struct{ *json.Encoder }

func (p jsonPrinter) Record(r record.Record) error { return p.Encode(r) }

type nonePrinter struct{}

func (nonePrinter) Record(record.Record) error { return nil }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
