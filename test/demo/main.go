// Command demo has the real kernel refuse real packets in network namespaces of its own, in three acts: ctwatch counts them,
// and three numbers must agree; ctwatch raises the limit in time, and the same load loses nothing; a flood comes, and ctwatch
// does not raise it. It ends with the report of the first act's incident, on standard output and as HTML.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/test/lab"
)

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
	defer func() { err = errors.Join(err, l.Close()) }()
	limit, buckets, err := limits(l)
	if err != nil {
		return err
	}
	path, err := l.Path("gateway")
	if err != nil {
		return err
	}
	s := &stage{ctx: ctx, ctwatch: ctwatch, lab: l, path: path, buckets: buckets}
	say("clients reach a server through %s, which tracks their connections: at most %d of them, for as long as this takes", path.Router.Name, smallMax)
	incident, err := s.without()
	if err != nil {
		return fmt.Errorf("act 1: %w", err)
	}
	if err := s.with(); err != nil {
		return fmt.Errorf("act 2: %w", err)
	}
	if err := s.flood(); err != nil {
		return fmt.Errorf("act 3: %w", err)
	}
	if err := l.Close(); err != nil {
		return err
	}

	limitNow, bucketsNow, err := limits(l)
	if err != nil {
		return err
	}
	fmt.Printf("\n  nf_conntrack_max           %9d before, %d now\n", limit, limitNow)
	fmt.Printf("  nf_conntrack_buckets       %9d before, %d now\n\n", buckets, bucketsNow)
	if limit != limitNow || buckets != bucketsNow {
		return errors.New("a limit is not what it was")
	}
	say("every limit is as it was; the report of the incident of act 1:")
	fmt.Println()
	if err := report(ctx, ctwatch, "--incident", incident); err != nil {
		return err
	}
	if err := report(ctx, ctwatch, "--incident", incident, "--format", "html", "-o", html); err != nil {
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

func limits(l *lab.Lab) (limit, buckets uint64, err error) {
	if limit, err = l.Limit(lab.Max); err != nil {
		return 0, 0, err
	}
	buckets, err = l.Limit(lab.Buckets)
	return limit, buckets, err
}
