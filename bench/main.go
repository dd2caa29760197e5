// Command bench measures what counting costs, side by side in one run: ratios of medians, never absolute claims.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/test/lab"
)

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -go-package main -target amd64,arm64 empty empty.bpf.c -- -I../bpf -mcpu=v3 -Wall -Werror

const (
	rounds  = 21
	packets = 200_000
	ruled   = 4444 // the port that the firewall's own rule drops
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	var ok bool
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "bpf":
		ok, err = inLab(ctx, bpf)
	case len(os.Args) == 2 && os.Args[1] == "census":
		ok, err = inLab(ctx, walkTable)
	case len(os.Args) == 3 && os.Args[1] == "rest":
		ok, err = inLab(ctx, func(ctx context.Context, l *lab.Lab) (bool, error) { return rest(ctx, l, os.Args[2]) })
	case len(os.Args) == 3 && os.Args[1] == "incidents":
		ok, err = inLab(ctx, func(ctx context.Context, l *lab.Lab) (bool, error) { return incidents(ctx, l, os.Args[2]) })
	case len(os.Args) == 3 && os.Args[1] == "heal":
		ok, err = inLab(ctx, func(ctx context.Context, l *lab.Lab) (bool, error) { return heal(ctx, l, os.Args[2]) })
	case len(os.Args) == 3 && os.Args[1] == "report":
		ok, err = report(ctx, os.Args[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: bench bpf | bench census | bench rest, incidents, heal or report PATH-OF-CTWATCH")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "bench: a figure is not what is wanted")
		os.Exit(1)
	}
}

func inLab(ctx context.Context, f func(context.Context, *lab.Lab) (bool, error)) (ok bool, err error) {
	l, err := lab.Open(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	return f(ctx, l)
}

// side is one of the things that are compared: how to put it in place, and how to take it away.
type side struct {
	name  string
	begin func() (end func() error, err error)
}

// bpf measures what the program costs those whose packets are dropped.
func bpf(ctx context.Context, l *lab.Lab) (ok bool, err error) {
	link, err := fullTable(ctx, l)
	if err != nil {
		return false, err
	}
	fmt.Printf("%d rounds of %d packets for each side in turn, medians\n\n", rounds, packets)
	perRun, err := timePerRun(ctx, link)
	if err != nil {
		return false, err
	}
	without := side{"without ctwatch", func() (func() error, error) { return func() error { return nil }, nil }}
	with := side{"with ctwatch", func() (func() error, error) {
		p, err := loader.Open(loader.Options{Probe: loader.Tracepoint, Samples: 100})
		if err != nil {
			return nil, err
		}
		return p.Close, nil
	}}
	empty := side{"empty program", func() (func() error, error) {
		r, err := openEmpty()
		if err != nil {
			return nil, err
		}
		return r.Close, nil
	}}
	cpus, err := lab.CPUs()
	if err != nil {
		return false, err
	}
	refused, floor, err := compareRates(ctx, "packets a second refused, table full; wanted >= 0.97, or at most 0.01 under the empty program", link, lab.Traffic{Packets: packets, CPUs: cpus}, saturate, without, empty, with)
	if err != nil {
		return false, err
	}
	ruledTraffic := lab.Traffic{Packets: packets, Port: ruled, CPUs: cpus}
	if _, _, err := compareRates(ctx, "packets a second dropped by the firewall's own rule, as fast as they come; not judged", link,
		ruledTraffic, saturate, without, empty, with); err != nil {
		return false, err
	}
	firewall, _, err := compareRates(ctx, "packets a second dropped by the firewall's own rule, 500,000 offered; wanted >= 0.97", link,
		ruledTraffic, pace, without, empty, with)
	if err != nil {
		return false, err
	}
	return perRun <= 2 && (refused >= 0.97 || refused >= floor-0.01) && firewall >= 0.97, nil
}

// fullTable makes a server whose table is full of entries that cannot be evicted, and whose firewall drops one port.
func fullTable(ctx context.Context, l *lab.Lab) (*lab.Link, error) {
	client, err := l.Namespace("client")
	if err != nil {
		return nil, err
	}
	server, err := l.Namespace("server")
	if err != nil {
		return nil, err
	}
	if err := server.Track(); err != nil {
		return nil, err
	}
	if err := server.Drop(ruled, lab.BeforeTracking); err != nil {
		return nil, err
	}
	link, err := l.Link(client, server)
	if err != nil {
		return nil, err
	}
	if err := l.SetLimit(lab.Max, 10_000); err != nil {
		return nil, err
	}
	return link, server.FillUp(ctx)
}

// timePerRun compares the time of one run of our program, for a refused packet, with that of an empty one on the same
// hook, both as the kernel's bpf_stats measure it.
func timePerRun(ctx context.Context, link *lab.Link) (ratio float64, err error) {
	var empty, core []float64
	for range rounds {
		for _, s := range []struct {
			open func() (runner, error)
			to   *[]float64
		}{{openEmpty, &empty}, {openCore, &core}} {
			ns, err := nsPerRun(ctx, link, s.open)
			if err != nil {
				return 0, err
			}
			*s.to = append(*s.to, ns)
		}
	}
	ratio = median(core) / median(empty)
	fmt.Printf("BPF time per refused packet\n  empty program    %8.1f ns\n  ctwatch          %8.1f ns\n  ratio            %8.2f    wanted <= 2\n\n",
		median(empty), median(core), ratio)
	return ratio, nil
}

// runner is an attached program whose runs the kernel counts.
type runner interface {
	Runs() (n uint64, took time.Duration, err error)
	Close() error
}

func nsPerRun(ctx context.Context, link *lab.Link, open func() (runner, error)) (ns float64, err error) {
	r, err := open()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return 0, err
	}
	defer stats.Close()
	n0, took0, err := r.Runs()
	if err != nil {
		return 0, err
	}
	if _, err := link.B.Send(ctx, lab.Traffic{Packets: packets}); err != nil {
		return 0, err
	}
	n1, took1, err := r.Runs()
	if err != nil {
		return 0, err
	}
	if n1-n0 < packets {
		return 0, fmt.Errorf("the program ran %d times for %d refused packets", n1-n0, packets)
	}
	return float64(took1-took0) / float64(n1-n0), nil
}

func openCore() (runner, error) {
	return loader.Open(loader.Options{Probe: loader.Tracepoint, Samples: 100})
}

type emptyRunner struct {
	objs emptyObjects
	link link.Link
}

func openEmpty() (runner, error) {
	var e emptyRunner
	if err := loadEmptyObjects(&e.objs, nil); err != nil {
		return nil, err
	}
	var err error
	if e.link, err = link.AttachTracing(link.TracingOptions{Program: e.objs.KfreeSkb}); err != nil {
		_ = e.objs.Close()
		return nil, err
	}
	return &e, nil
}

func (e *emptyRunner) Runs() (uint64, time.Duration, error) {
	s, err := e.objs.KfreeSkb.Stats()
	if err != nil {
		return 0, 0, err
	}
	return s.RunCount, s.Runtime, nil
}

func (e *emptyRunner) Close() error {
	if err := e.link.Close(); err != nil {
		return err
	}
	return e.objs.Close()
}

// compareRates sends the same traffic to each side in turn, and compares the rates with that of the first, round by
// round. It returns the ratio of the last, and of the one before it.
func compareRates(ctx context.Context, what string, link *lab.Link, t lab.Traffic, send sender, sides ...side) (ratio, floor float64, err error) {
	rates, ratios := map[string][]float64{}, map[string][]float64{}
	for round := range rounds {
		// In another order each time: a machine that grows slower favours none.
		order := slices.Concat(sides[round%len(sides):], sides[:round%len(sides)])
		for _, s := range order {
			r, err := rate(ctx, link, t, send, s)
			if err != nil {
				return 0, 0, err
			}
			rates[s.name] = append(rates[s.name], r)
		}
		for _, s := range sides {
			ratios[s.name] = append(ratios[s.name], rates[s.name][round]/rates[sides[0].name][round])
		}
	}
	fmt.Println(what)
	for _, s := range sides {
		floor, ratio = ratio, median(ratios[s.name])
		fmt.Printf("  %-16s %8.0f   ratio %.3f\n", s.name, median(rates[s.name]), ratio)
	}
	fmt.Println()
	return ratio, floor, nil
}

func rate(ctx context.Context, link *lab.Link, t lab.Traffic, send sender, s side) (perSecond float64, err error) {
	end, err := s.begin()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	sent, err := send(ctx, link, t)
	took := time.Since(begun)
	if errEnd := end(); err == nil {
		err = errEnd
	}
	if err != nil {
		return 0, err
	}
	if sent.Refused != sent.Packets {
		return 0, fmt.Errorf("%s: of %d packets %d were refused", s.name, sent.Packets, sent.Refused)
	}
	return float64(sent.Packets) / took.Seconds(), nil
}

// sender sends traffic in some way.
type sender func(context.Context, *lab.Link, lab.Traffic) (lab.Sent, error)

// saturate sends as fast as it goes.
func saturate(ctx context.Context, link *lab.Link, t lab.Traffic) (lab.Sent, error) {
	return link.A.Inject(ctx, t)
}

// pace offers 500,000 packets a second, in portions.
func pace(ctx context.Context, link *lab.Link, t lab.Traffic) (sum lab.Sent, err error) {
	const portions, perSecond = 8, 500_000
	portion := t
	portion.Packets = t.Packets / portions
	due := time.Now()
	for range portions {
		due = due.Add(time.Second * time.Duration(portion.Packets) / perSecond)
		sent, err := link.A.Inject(ctx, portion)
		if err != nil {
			return sum, err
		}
		sum.Packets += sent.Packets
		sum.Refused += sent.Refused
		if err := sleep(ctx, time.Until(due)); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
