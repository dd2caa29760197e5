package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/journal"
	"github.com/ctwatch/ctwatch/internal/metrics"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/watch"
)

const (
	journalDir    = "/var/lib/ctwatch/journal"
	listenAddress = "127.0.0.1:10109"
	textfileEvery = 5 * time.Second
	// hungAfter is how long after a sign of life was due the run is not healthy any more.
	hungAfter = 30 * time.Second
)

// output is where the records of a run go: the journal first, which is to know of what is shown. None of them keeps the
// run waiting.
type output struct {
	attached func() // called when counting begins, and again when it begins anew; nil is nobody
	screen   *screen
	log      *slog.Logger
	journal  *journal.Writer // nil: none
	asked    bool            // somebody asked for the journal by name
	state    *metrics.State
	server   *metrics.Server // nil: none
	textfile string
	due      chan struct{} // a textfile is to be written
	ended    sync.WaitGroup
	alive    atomic.Int64 // unix ns of the last sign of life
	told     time.Time    // when the textfile was last asked for
}

// openOutput opens all that the flags ask for. failed is called once if what is printed cannot be written any more.
func openOutput(c *cli.Context, o watch.Options, log *slog.Logger, failed func(error)) (_ *output, err error) {
	out := &output{log: log, state: metrics.New(o.Version), textfile: c.String("textfile")}
	out.screen = newScreen(newPrinter(c.String("format"), c.App.Writer), failed)
	out.Alive()
	defer func() {
		if err != nil {
			err = errors.Join(err, out.close())
		}
	}()
	if dir := c.String("journal"); dir != "" {
		if out.asked = c.IsSet("journal"); !out.asked {
			dir = filepath.Join("/", o.Root, dir)
		}
		if out.journal, err = journal.Open(journal.Options{Dir: dir, Notice: func(text string) { log.Warn(text) }}); err != nil {
			if out.asked || errors.Is(err, record.ErrNewer) {
				return nil, err
			}
			log.Warn(fmt.Sprintf("no journal is kept: %v", err))
		}
	}
	if err := out.listen(c, max(o.Interval, time.Second)+hungAfter); err != nil {
		return nil, err
	}
	if out.textfile != "" {
		if !strings.HasSuffix(out.textfile, ".prom") {
			return nil, usageErrorf("--textfile %q: node_exporter reads only what ends in .prom", out.textfile)
		}
		if err := out.state.WriteTextfile(out.textfile); err != nil {
			return nil, err
		}
		out.due = make(chan struct{}, 1)
		out.ended.Go(out.writeTextfiles)
	}
	return out, nil
}

// listen serves the metrics. That the address which nobody asked for is taken is no reason not to count.
func (out *output) listen(c *cli.Context, patience time.Duration) (err error) {
	address := c.String("listen")
	if address == "" {
		if c.String("web-config") != "" {
			return usageErrorf("--web-config says how metrics are served, and --listen \"\" serves none")
		}
		return nil
	}
	out.server, err = metrics.Listen(out.state, metrics.Options{
		Address: address, WebConfig: c.String("web-config"), Insecure: c.Bool("insecure"), Logger: slog.New(warnings{out.log.Handler()}),
		Healthy: func() error {
			if since := time.Since(time.Unix(0, out.alive.Load())); since > patience {
				return fmt.Errorf("nobody has counted for %v", since.Round(time.Second))
			}
			return nil
		},
	})
	var option *metrics.OptionError
	switch {
	case errors.As(err, &option):
		flag := map[string]string{"Address": "listen", "WebConfig": "web-config"}
		return usageErrorf("--%s: %v", cmp.Or(flag[option.Option], option.Option), err)
	case err != nil && !c.IsSet("listen"):
		out.log.Warn(fmt.Sprintf("no metrics are served: %v", err))
		return nil
	case err != nil:
		return err
	}
	out.ended.Go(func() {
		if err := out.server.Serve(); err != nil {
			out.log.Error(err.Error())
		}
	})
	return nil
}

// warnings are what a library logs, without its chatter.
type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// Record passes a record on. It never fails.
func (out *output) Record(r record.Record) error {
	if out.journal != nil {
		if err := out.journal.Record(r); err != nil {
			out.log.Warn(err.Error())
		}
	}
	if err := out.state.Record(r); err != nil {
		out.log.Warn(err.Error())
	}
	switch r := r.(type) {
	case *record.Start:
		if r.Probe != "" && out.attached != nil {
			out.attached()
		}
	case *record.Sample:
		if out.journal != nil {
			out.state.JournalLost(out.journal.State().Lost)
		}
		out.askTextfile()
	case *record.Incident:
		out.told = time.Time{}
		out.askTextfile()
	}
	out.screen.show(r)
	return nil
}

func (out *output) Alive() { out.alive.Store(time.Now().UnixNano()) }

func (out *output) Notice(text string) { out.log.Warn(text) }

func (out *output) Kernel(k watch.Kernel) {
	out.state.Kernel(metrics.ID{NS: k.NS, Cookie: k.Cookie}, k.Totals, k.Known)
}

func (out *output) Boot(b boot.Outlook) { out.state.PersistedLimit(b.Persisted.Max) }

func (out *output) askTextfile() {
	if out.due == nil || time.Since(out.told) < textfileEvery {
		return
	}
	out.told = time.Now()
	select {
	case out.due <- struct{}{}:
	default: // it is being written
	}
}

func (out *output) writeTextfiles() {
	failing := false
	for range out.due {
		err := out.state.WriteTextfile(out.textfile)
		if err != nil && !failing {
			out.log.Warn(err.Error())
		}
		failing = err != nil
	}
}

// close writes what is still to be written, and says what could not be.
func (out *output) close() error {
	var errs []error
	if lost := out.screen.close(); lost > 0 {
		out.log.Warn(fmt.Sprintf("%d records were not printed: whoever reads them is too slow", lost))
	}
	if out.server != nil {
		errs = append(errs, out.server.Close())
	}
	if out.due != nil {
		close(out.due)
	}
	out.ended.Wait()
	if out.textfile != "" && out.due != nil {
		errs = append(errs, out.state.WriteTextfile(out.textfile))
	}
	if out.journal != nil {
		if err := out.journal.Close(); out.asked {
			errs = append(errs, err)
		} else if err != nil {
			out.log.Warn(err.Error())
		}
	}
	return errors.Join(errs...)
}
