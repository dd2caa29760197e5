// Command demo starts `ctwatch run`, has the real kernel refuse real packets in network namespaces of its own, and
// compares three numbers: what was refused, what ctwatch counted, and what the kernel counted. It ends with the report of
// the incident, on standard output and as HTML.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/lab"
)

const packets = 500_000

// mostEntries bounds what is put into the demo's own table, which must hold the machine's own limit: some 300 bytes each.
const mostEntries = 2_000_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo PATH-OF-CTWATCH")
		os.Exit(2)
	}
	if err := demo(ctx, os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, ctwatch string) (err error) {
	if os.Getuid() != 0 {
		return errors.New("run as root: it makes network namespaces and loads a BPF program")
	}
	l, err := lab.Open(ctx)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, l.Close())
		}
	}()
	server, link, err := topology(l)
	if err != nil {
		return err
	}
	limit, buckets, err := limits(l)
	if err != nil {
		return err
	}
	if limit == 0 || limit > mostEntries {
		return fmt.Errorf("nf_conntrack_max is %d here: the demo fills a table of its own up to it, and stops at %d entries", limit, mostEntries)
	}

	run, err := start(ctx, ctwatch)
	if err != nil {
		return err
	}
	defer run.kill()
	say("filling the table of namespace %s up to this machine's own limit, %d", server.Name, limit)
	if err := server.FillUp(ctx); err != nil {
		return err
	}
	before, err := server.Kernel()
	if err != nil {
		return err
	}
	say("sending %d packets of new connections into it: UDP, TCP SYN and ICMP, IPv4 and IPv6", packets)
	begun := time.Now()
	sent, err := link.A.Inject(ctx, lab.Traffic{Packets: packets, Kinds: lab.Kinds()})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := server.Kernel()
	if err != nil {
		return err
	}
	told, err := run.stop()
	if err != nil {
		return err
	}
	stop, incident := told.stop, told.incident
	closed = true
	if err := l.Close(); err != nil {
		return err
	}
	limitNow, bucketsNow, err := limits(l)
	if err != nil {
		return err
	}

	kernel := uint64(after.Total.Sub(before.Total).Drop)
	fmt.Printf("\n  refused by the kernel      %9d of %d packets, %.0f a second\n", sent.Refused, sent.Packets,
		float64(sent.Packets)/took.Seconds())
	fmt.Printf("  counted by ctwatch         %9d table_full, %d unattributed\n", stop.Totals.Total(), stop.Unattributed)
	fmt.Printf("  the kernel's drop counter  %9d\n\n", kernel)
	fmt.Printf("  nf_conntrack_max           %9d before, %d now\n", limit, limitNow)
	fmt.Printf("  nf_conntrack_buckets       %9d before, %d now\n\n", buckets, bucketsNow)
	if sent.Refused != stop.Totals.Total() || sent.Refused != kernel || sent.Refused == 0 {
		return errors.New("the three numbers differ")
	}
	if incident.Drops.Total() != kernel {
		return fmt.Errorf("the incident has %d refused packets", incident.Drops.Total())
	}
	if limit != limitNow || buckets != bucketsNow {
		return errors.New("a limit is not what it was")
	}
	say("three equal numbers, and every limit as it was; the report of the incident:")
	fmt.Println()
	if err := report(ctx, ctwatch, "--incident", incident.ID); err != nil {
		return err
	}
	if err := report(ctx, ctwatch, "--incident", incident.ID, "--format", "html", "-o", html); err != nil {
		return err
	}
	fmt.Println()
	say("the same for a browser is in %s", html)
	return nil
}

// html is where the report goes, in the working directory.
const html = "ctwatch-demo.html"

func report(ctx context.Context, ctwatch string, args ...string) error {
	cmd := exec.CommandContext(ctx, ctwatch, append([]string{"report"}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ctwatch report: %w", err)
	}
	return nil
}

// topology is a client linked to a server that tracks connections.
func topology(l *lab.Lab) (server *lab.Namespace, link *lab.Link, err error) {
	client, err := l.Namespace("client")
	if err != nil {
		return nil, nil, err
	}
	if server, err = l.Namespace("server"); err != nil {
		return nil, nil, err
	}
	if err := server.Track(); err != nil {
		return nil, nil, err
	}
	link, err = l.Link(client, server)
	return server, link, err
}

func limits(l *lab.Lab) (limit, buckets uint64, err error) {
	if limit, err = l.Limit(lab.Max); err != nil {
		return 0, 0, err
	}
	buckets, err = l.Limit(lab.Buckets)
	return limit, buckets, err
}

// process is a `ctwatch run`.
type process struct {
	cmd  *exec.Cmd
	told chan told
}

// told is what a run told.
type told struct {
	stop     *record.Stop
	incident *record.Incident // the last that was closed
	err      error
}

// shownPackets is how many refused packets are shown.
const shownPackets = 3

// start returns when ctwatch counts.
func start(ctx context.Context, ctwatch string) (*process, error) {
	cmd := exec.CommandContext(ctx, ctwatch, "run", "--format", "json", "--listen", "")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan told, 1)}
	records := json.NewDecoder(bufio.NewReader(out))
	var r record.Start
	if err := records.Decode(&r); err != nil {
		p.kill()
		return nil, fmt.Errorf("ctwatch did not start: %w", err)
	}
	say("ctwatch counts with probe %s", r.Probe)
	go func() { p.told <- read(records) }()
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// stop ends ctwatch and returns what it told.
func (p *process) stop() (told, error) {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return told{}, err
	}
	t := <-p.told
	switch {
	case t.err != nil:
		return t, t.err
	case t.stop == nil:
		return t, errors.New("ctwatch ended without a stop record")
	case t.incident == nil:
		return t, errors.New("ctwatch closed no incident")
	}
	return t, p.cmd.Wait()
}

// read takes the records of a run until it ends, and shows some.
func read(records *json.Decoder) (t told) {
	for packets := 0; ; {
		var raw json.RawMessage
		if err := records.Decode(&raw); errors.Is(err, io.EOF) {
			return t
		} else if err != nil {
			t.err = fmt.Errorf("read ctwatch's records: %w", err)
			return t
		}
		r, err := record.Parse(raw)
		if err != nil {
			t.err = err
			return t
		}
		switch r := r.(type) {
		case *record.Drop:
			if packets++; packets <= shownPackets {
				say("a refused packet: %s %s -> %s, cause %s, in %s on %s (%s)", r.Proto, r.Src, r.Dst, r.Cause, r.Name, r.Ifname, r.Hook)
			}
		case *record.Incident:
			switch r.Phase {
			case record.PhaseOpen:
				say("incident %s: %s in %s", r.ID, r.Cause, r.Name)
			case record.PhaseClose:
				t.incident = r
			}
		case *record.Stop:
			t.stop = r
		}
	}
}

func say(format string, args ...any) {
	fmt.Printf("demo: "+format+"\n", args...)
}
