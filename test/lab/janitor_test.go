package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes a test process of TestChild, for others to kill.
const childEnv = "CTWATCH_LAB_CHILD"

// TestChild is a lab that changes everything and then waits for its end.
func TestChild(t *testing.T) {
	if os.Getenv(childEnv) == "" {
		t.Skip("is run by the tests of the janitor")
	}
	l := openLab(t)
	check(t, l.SetLimit(Max, 3000))
	check(t, l.SetLimit(Buckets, 1024))
	check(t, l.SetLimit(ExpectMax, 11))
	link := linked(t, l)
	check(t, link.A.Namespace.Track())
	check(t, link.A.Namespace.FillUp(t.Context()))
	fmt.Printf("ready %d %s %s\n", l.janitor.cmd.Process.Pid, link.A.Namespace.Path, link.B.Namespace.Path)
	// A flood is under way when the end comes.
	for {
		if _, err := link.A.Send(context.Background(), Traffic{Packets: 1 << 16, Kinds: Kinds()}); err != nil {
			t.Error(err)
		}
	}
}

// victim is a running TestChild.
type victim struct {
	cmd        *exec.Cmd
	janitor    int
	namespaces []string
	originals  map[string]uint64
}

// startVictim returns when the child has changed everything.
func startVictim(t *testing.T) *victim {
	t.Helper()
	needRoot(t)
	// Nobody else's changes are to pass for originals.
	own, err := Open(t.Context())
	check(t, err)
	v := &victim{originals: map[string]uint64{}}
	for _, name := range []string{Max, Buckets, ExpectMax} {
		v.originals[name], err = own.Limit(name)
		check(t, err)
	}
	check(t, own.Close())
	v.cmd = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$")
	v.cmd.Env = append(os.Environ(), childEnv+"=1")
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := v.cmd.StdoutPipe()
	check(t, err)
	check(t, v.cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 4 && fields[0] == "ready" {
			_, err := fmt.Sscan(fields[1], &v.janitor)
			check(t, err)
			v.namespaces = fields[2:]
			got, err := readLimit(Max)
			check(t, err)
			equalOrFail(t, "limit of the child", 3000, got)
			return v
		}
		t.Log(lines.Text())
	}
	t.Fatal("the child ended before it was ready")
	return nil
}

// restored fails unless everything is as it was before the child.
func (v *victim) restored(t *testing.T) {
	t.Helper()
	for name, want := range v.originals {
		got, err := readLimit(name)
		check(t, err)
		equalOrFail(t, name, want, got)
	}
	for _, path := range v.namespaces {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("namespace %s: %v", path, err)
		}
	}
}

func TestJanitorOutlivesProcessGroup(t *testing.T) {
	v := startVictim(t)
	check(t, unix.Kill(-v.cmd.Process.Pid, unix.SIGKILL))
	if err := v.cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	// The lock alone, without what Open does on top: whoever gets it finds the work done.
	j, err := openJournal(t.Context())
	check(t, err)
	defer j.Close()
	v.restored(t)
	left, err := os.ReadFile(journalPath)
	check(t, err)
	equalOrFail(t, "journal", "", string(left))
}

func TestOpenCleansUpAfterJanitor(t *testing.T) {
	v := startVictim(t)
	// First the janitor, so that nobody is left to clean up.
	check(t, unix.Kill(v.janitor, unix.SIGKILL))
	check(t, unix.Kill(-v.cmd.Process.Pid, unix.SIGKILL))
	if err := v.cmd.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	got, err := readLimit(Max)
	check(t, err)
	equalOrFail(t, "limit without a janitor", 3000, got)
	l := openLab(t)
	v.restored(t)
	check(t, l.Close())
	v.restored(t)
}

func TestJournalOfEarlierBoot(t *testing.T) {
	needRoot(t)
	original, err := readLimit(Max)
	check(t, err)
	j, err := openJournal(t.Context())
	check(t, err)
	check(t, j.file.Truncate(0))
	check(t, j.write("boot 00000000-0000-0000-0000-000000000000\nholder 1 init\nlimit nf_conntrack_max 1\n"))
	check(t, j.Close())
	l := openLab(t)
	got, err := l.Limit(Max)
	check(t, err)
	equalOrFail(t, Max, original, got)
}
