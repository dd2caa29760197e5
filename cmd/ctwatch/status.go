package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/loader"
	"github.com/ctwatch/ctwatch/internal/netns"
	"github.com/ctwatch/ctwatch/internal/watch"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:         "status",
		Usage:        "look once: every network namespace's table, and the kernel's counters since boot",
		Flags:        []cli.Flag{formatFlag("table", "json")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			format := c.String("format")
			if format != "table" && format != "json" {
				return unknownFormat(format, "table", "json")
			}
			root, err := checkRoot(c)
			if err != nil {
				return err
			}
			log, err := newLogger(c)
			if err != nil {
				return err
			}
			s, err := look(root)
			if err != nil {
				return err
			}
			for _, n := range s.notices {
				log.Warn(n)
			}
			if format == "json" {
				return json.NewEncoder(c.App.Writer).Encode(s)
			}
			return s.table(c.App.Writer)
		},
	}
}

// status is one look at the machine; its JSON is a contract.
type status struct {
	Probe struct {
		Auto    string        `json:"auto"` // what `run` would take
		Skipped []loader.Skip `json:"skipped"`
	} `json:"probe"`
	Loaded    bool          `json:"loaded"` // conntrack is
	Buckets   uint64        `json:"buckets"`
	ExpectMax uint64        `json:"expect_max"`
	NetNS     []netnsStatus `json:"netns"`

	notices []string
}

type netnsStatus struct {
	NS     uint64            `json:"ns"`
	Cookie uint64            `json:"cookie"`
	Name   string            `json:"name"`
	Count  *uint64           `json:"count"` // null where it cannot be read
	Max    *uint64           `json:"max"`
	Fill   *float64          `json:"fill"`
	Kernel map[string]uint64 `json:"kernel"` // counters since boot; only those that this kernel has, null if none can be read
}

func look(root string) (*status, error) {
	s := &status{NetNS: []netnsStatus{}}
	s.Probe.Skipped = []loader.Skip{}
	if s.Loaded = conntrack.Loaded(root); !s.Loaded {
		s.Probe.Skipped = append(s.Probe.Skipped, loader.Skip{Probe: loader.Auto, Why: "conntrack is not loaded"})
		return s, nil
	}
	probe, err := loader.Open(loader.Options{Module: conntrack.IsModule(root)})
	if err != nil {
		return nil, err
	}
	s.Probe.Auto, s.Probe.Skipped = probe.Name, append(s.Probe.Skipped, probe.Skipped...)
	if err := probe.Close(); err != nil {
		return nil, err
	}
	limits, err := conntrack.ReadLimits(root)
	if err != nil {
		return nil, err
	}
	s.Buckets, s.ExpectMax = limits.Buckets, limits.ExpectMax

	reader, err := conntrack.NewReader(root)
	if err != nil {
		return nil, err
	}
	finder, err := netns.NewFinder(root)
	if err != nil {
		return nil, err
	}
	defer finder.Close()
	found, err := finder.Scan()
	if err != nil {
		return nil, err
	}
	if found.Denied > 0 && os.Geteuid() != 0 {
		s.notices = append(s.notices, watch.Denied(found.Denied))
	}
	for _, ns := range found.Namespaces {
		var snap conntrack.Snapshot
		err := finder.Enter(ns, func() error { return reader.Read(&snap) })
		if errors.Is(err, netns.ErrGone) {
			continue
		}
		n := netnsStatus{NS: ns.Inode, Cookie: ns.Cookie, Name: ns.Name}
		if err != nil {
			s.notices = append(s.notices, fmt.Sprintf("%s cannot be read: %v", netnsName(ns.Name, ns.Inode), err))
		} else {
			n.fill(&snap)
		}
		s.NetNS = append(s.NetNS, n)
	}
	return s, nil
}

func (n *netnsStatus) fill(s *conntrack.Snapshot) {
	n.Count, n.Max = &s.Count, &s.Max
	if s.Max > 0 {
		fill := float64(s.Count) / float64(s.Max)
		n.Fill = &fill
	}
	if s.Known == 0 {
		return
	}
	n.Kernel = map[string]uint64{}
	totals := s.Totals()
	for c := range conntrack.Counter(conntrack.NumCounters) {
		if s.Known.Has(c) {
			n.Kernel[c.String()] = totals[c]
		}
	}
}

// columns are the counters that the table shows: those that tell of trouble.
var columns = []conntrack.Counter{conntrack.CounterDrop, conntrack.CounterInsertFailed, conntrack.CounterEarlyDrop,
	conntrack.CounterChainTooLong, conntrack.CounterClashResolve}

func (s *status) table(w io.Writer) error {
	if !s.Loaded {
		_, err := fmt.Fprintln(w, "conntrack is not loaded: nothing is tracked, and nothing is refused")
		return err
	}
	fmt.Fprintf(w, "probe %s, buckets %d, expect_max %d\n", s.Probe.Auto, s.Buckets, s.ExpectMax)
	for _, skip := range s.Probe.Skipped {
		fmt.Fprintf(w, "  not %s: %s\n", skip.Probe, skip.Why)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\nNETNS\tCOUNT\tMAX\tFILL\t")
	for _, c := range columns {
		fmt.Fprintf(t, "%s\t", c)
	}
	fmt.Fprintln(t)
	idle := 0
	for i, n := range s.NetNS {
		if i > 0 && n.idle() {
			idle++
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t", netnsName(n.Name, n.NS), number(n.Count), number(n.Max), percent(n.Fill))
		for _, c := range columns {
			v, known := n.Kernel[c.String()]
			if !known {
				fmt.Fprint(t, "-\t")
				continue
			}
			fmt.Fprintf(t, "%d\t", v)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if idle > 0 {
		fmt.Fprintf(w, "and %d network namespaces that track nothing (--format json lists them)\n", idle)
	}
	return nil
}

// idle reports whether nothing was ever tracked there.
func (n *netnsStatus) idle() bool {
	if n.Count == nil || *n.Count > 0 {
		return false
	}
	for _, v := range n.Kernel {
		if v > 0 {
			return false
		}
	}
	return true
}
