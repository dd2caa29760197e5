package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/lab"
)

const (
	openings  = 100
	floodFor  = 20 * time.Second
	smallMax  = 1000
	openingIn = 5 * time.Second // until an incident must have opened
)

// incidents measures a run with everything on while packets are refused: from the first of them to the incident on
// standard output, and what a flood takes.
func incidents(ctx context.Context, l *lab.Lab, ctwatch string) (ok bool, err error) {
	if err := l.SetLimit(lab.Max, smallMax); err != nil {
		return false, err
	}
	links := make([]*lab.Link, openings+1) // one for the flood
	for i := range links {
		if links[i], err = smallTable(l, i); err != nil {
			return false, err
		}
	}
	journal, err := os.MkdirTemp("", "ctwatch-bench-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(journal)
	cmd := exec.CommandContext(ctx, ctwatch, "run", "--format", "json", "--journal", journal, "--listen", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		err = errors.Join(err, cmd.Wait())
	}()
	told, err := toldIncidents(bufio.NewReader(out))
	if err != nil {
		return false, err
	}

	if err := links[openings].B.Namespace.FillUp(ctx); err != nil {
		return false, err
	}
	before, err := cpuTicks(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	begun, refused := time.Now(), uint64(0)
	for time.Since(begun) < floodFor {
		sent, err := links[openings].A.Inject(ctx, lab.Traffic{Packets: packets})
		if err != nil {
			return false, err
		}
		refused += sent.Refused
	}
	passed := time.Since(begun)
	after, err := cpuTicks(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	cpu := 100 * float64(after-before) / float64(passed)
	fmt.Printf("the daemon under a flood, %.0f refused packets a second for %v\n", float64(refused)/passed.Seconds(), passed.Round(time.Second))
	fmt.Printf("  CPU                %8.2f %%     wanted <= 2\n\n", cpu)

	if err := sleep(ctx, time.Second); err != nil { // until the flood is done with
		return false, err
	}
	var took []time.Duration
	for _, link := range links[:openings] {
		// Not long before: that the table is nearly full opens an incident, too.
		if err := link.B.Namespace.FillUp(ctx); err != nil {
			return false, err
		}
		conn, err := dial(link)
		if err != nil {
			return false, err
		}
		begun := time.Now()
		_, err = conn.Write([]byte("new"))
		if err = errors.Join(err, conn.Close()); err != nil {
			return false, err
		}
		at, err := await(ctx, told, link.B.Namespace.Name, record.PhaseOpen)
		if err != nil {
			return false, err
		}
		took = append(took, at.Sub(begun))
		// The look into the table: with it the next would not be one by one.
		if _, err := await(ctx, told, link.B.Namespace.Name, record.PhaseUpdate); err != nil {
			return false, err
		}
	}
	rss, err := peakRSS(cmd.Process.Pid)
	if err != nil {
		return false, err
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100-1]
	fmt.Printf("from sending the first packet that is refused to its incident on standard output, %d namespaces one by one\n", openings)
	fmt.Printf("  median             %8.2f ms\n", took[len(took)/2].Seconds()*1000)
	fmt.Printf("  p99                %8.2f ms    wanted < 5\n", p99.Seconds()*1000)
	fmt.Printf("  peak RSS           %8.1f MiB   wanted < 32\n", float64(rss)/(1<<20))
	return p99 < 5*time.Millisecond && cpu <= 2 && rss < 32<<20, nil
}

// cpuTicks is what a process spent on a CPU, from /proc/PID/stat, to a tick of the clock. Other than cpuTime it is without
// the packets that the CPU handled meanwhile in interrupts.
func cpuTicks(pid int) (time.Duration, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := p.Stat()
	return time.Duration(stat.CPUTime() * float64(time.Second)), err
}

// smallTable is a link into a namespace that tracks.
func smallTable(l *lab.Lab, i int) (*lab.Link, error) {
	client, err := l.Namespace(fmt.Sprintf("c%d", i))
	if err != nil {
		return nil, err
	}
	server, err := l.Namespace(fmt.Sprintf("s%d", i))
	if err != nil {
		return nil, err
	}
	if err := server.Track(); err != nil {
		return nil, err
	}
	link, err := l.Link(client, server)
	if err != nil {
		return nil, err
	}
	return link, nil
}

// dial makes a socket whose first packet is a new connection to the other end.
func dial(link *lab.Link) (conn net.Conn, err error) {
	err = link.A.Namespace.Do(func() error {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(link.B.Addr4, 9)))
		return err
	})
	return conn, err
}

// seen is a record of an incident, and when it was there to read.
type seen struct {
	name, phase string
	at          time.Time
}

// toldIncidents reads the records of a run, from the first, which it waits for, to the end.
func toldIncidents(out *bufio.Reader) (<-chan seen, error) {
	if _, err := out.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("ctwatch did not start: %w", err)
	}
	told := make(chan seen, 64*openings)
	go func() {
		defer close(told)
		for {
			line, err := out.ReadBytes('\n')
			if err != nil {
				return
			}
			at := time.Now()
			if r, err := record.Parse(line); err == nil {
				if in, ok := r.(*record.Incident); ok {
					told <- seen{in.Name, in.Phase, at}
				}
			}
		}
	}()
	return told, nil
}

// await waits for a record of a namespace's incident.
func await(ctx context.Context, told <-chan seen, name, phase string) (time.Time, error) {
	late := time.NewTimer(openingIn)
	defer late.Stop()
	for {
		select {
		case s, more := <-told:
			if !more {
				return time.Time{}, errors.New("ctwatch ended")
			}
			if s.name == name && s.phase == phase {
				return s.at, nil
			}
		case <-late.C:
			return time.Time{}, fmt.Errorf("no incident in %s, phase %s", name, phase)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}
