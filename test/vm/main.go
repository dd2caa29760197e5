// Command vm boots real kernels of the distribution under QEMU's software emulation, one after another, and runs the
// project's test binaries in each. It needs no KVM, no root and no image: a kernel, and an initramfs made here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/qemu"
)

// compatibility is the document with the table, below the project's directory.
const compatibility = "docs/compatibility.md"

type options struct {
	kernels   []kernel
	scenarios []scenario
	all       bool // every pinned kernel is among kernels
	probe     string
	table     bool // write the table whatever failed
	long      bool // all tests
	verbose   bool
	timeout   time.Duration // for one VM
}

// errFailed says that what failed was printed already.
var errFailed = errors.New("a kernel failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	o, err := parseFlags()
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(2)
	}
	switch err := run(ctx, o); {
	case errors.Is(err, errFailed):
		os.Exit(1)
	case err != nil:
		fmt.Fprintf(os.Stderr, "vm: %v\n", err)
		os.Exit(1)
	}
}

func parseFlags() (o options, err error) {
	names := flag.String("kernels", "", "kernels to boot, by name; all pinned ones if empty")
	chosen := flag.String("scenarios", "all", "scenarios beside the default one, by name, or all, or none")
	flag.StringVar(&o.probe, "probe", "", "test this probe alone")
	flag.BoolVar(&o.table, "table", false, "write "+compatibility+" even if not all kernels ran, or one failed")
	flag.BoolVar(&o.long, "long", false, "run all tests, for which a VM takes some minutes")
	flag.BoolVar(&o.verbose, "v", false, "show the console")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "time for one VM")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.kernels, err = chooseKernels(words(*names)); err != nil {
		return o, err
	}
	if probes := []string{"fexit", "kprobe", "tracepoint", "counters"}; o.probe != "" && !slices.Contains(probes, o.probe) {
		return o, fmt.Errorf("no probe %q: there are %s", o.probe, strings.Join(probes, ", "))
	}
	o.all = len(words(*names)) == 0
	o.scenarios, err = chooseScenarios(words(*chosen))
	if o.probe != "" {
		o.scenarios = nil
	}
	return o, err
}

// words splits at commas and spaces.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func run(ctx context.Context, o options) error {
	cache, err := qemu.OpenCache(ctx)
	if err != nil {
		return err
	}
	defer cache.Close()
	work, err := cache.Work()
	if err != nil {
		return err
	}
	plans := append([]scenario{defaultScenario(o.probe, o.long)}, o.scenarios...)
	tests, err := buildTests(ctx, work, plans)
	if err != nil {
		return err
	}
	base, err := baseFiles(ctx)
	if err != nil {
		return err
	}
	machine := machine{cache: cache, work: work, files: append(base, tests...), timeout: o.timeout, verbose: o.verbose}

	var results []result              // of the default scenario
	failed, asked, ran := false, 0, 0 // of those whose failure counts
	for _, k := range o.kernels {
		if k.gating {
			asked++
		}
		files, err := cache.Kernel(ctx, k.Kernel)
		if err != nil {
			var gone qemu.GoneError
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &gone):
				fmt.Printf("vm: %s: skipped: %v\n", k.Name, err)
			default:
				fmt.Printf("vm: %s: failed: %v\n", k.Name, err)
				failed = failed || k.gating
			}
			continue
		}
		if k.gating {
			ran++
		}
		for _, s := range plans {
			if s.kernel != "" && s.kernel != k.Name {
				continue
			}
			r := machine.boot(ctx, k, files, s)
			// An emulated machine on a busy one may run out of its time. What fails twice is no such thing; what fails once is
			// told all the same, for it is to be found.
			if r.failed() && ctx.Err() == nil {
				r.print(os.Stdout)
				fmt.Printf("vm: %s: booting it once more\n", r.title())
				r = machine.boot(ctx, k, files, s)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.print(os.Stdout)
			failed = failed || k.gating && r.failed()
			if s.name == "" && k.gating {
				results = append(results, r)
			}
		}
	}
	if ran < min(asked, 2) {
		fmt.Printf("vm: only %d of %d kernels ran\n", ran, asked)
		failed = true
	}
	if o.table || o.all && o.probe == "" && !failed && ran == len(o.kernels) {
		if err := writeTable(filepath.FromSlash(compatibility), results, time.Now()); err != nil {
			return err
		}
	}
	if failed {
		return errFailed
	}
	return nil
}
