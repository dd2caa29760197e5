package loader

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/test/lab"
)

// hold holds a probe as a process of its own.
func hold() {
	if os.Getenv("CTWATCH_TEST_LOCK_LITTLE") != "" {
		if err := lockLittle(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	p, err := Open(Options{Probe: os.Getenv("CTWATCH_TEST_HOLD"), Samples: 1, Module: conntrack.IsModule("")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("attached")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = p.Close()
	os.Exit(0)
}

// programs lists the loaded programs of ours.
func programs(t *testing.T) []ebpf.ProgramID {
	t.Helper()
	spec, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	var ids []ebpf.ProgramID
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return ids
		} else if err != nil {
			t.Fatal(err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := p.Info()
		for name := range spec.Programs {
			if err == nil && info.Name == name[:min(15, len(name))] {
				ids = append(ids, id)
			}
		}
		p.Close()
	}
}

// TestKilled: no program outlives a process that is killed, however it was holding it, and nothing holds conntrack.
func TestKilled(t *testing.T) {
	onProbes(t, func(t *testing.T, o Options) {
		t.Run("kill", func(t *testing.T) { killed(t, o.Probe) })
	})
}

func killed(t *testing.T, probe string) {
	before := programs(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CTWATCH_TEST_HOLD="+probe)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "attached\n" {
		t.Fatalf("the process said %q, %v", line, err)
	}
	ours := func(ids []ebpf.ProgramID) bool {
		return slices.ContainsFunc(ids, func(id ebpf.ProgramID) bool { return !slices.Contains(before, id) })
	}
	if !ours(programs(t)) {
		t.Fatal("no program is loaded while the probe is held")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The kernel frees them after a grace period.
	for deadline := time.Now().Add(10 * time.Second); ours(programs(t)); {
		if time.Now().After(deadline) {
			t.Fatal("a program is still loaded 10 s after the kill")
		}
	}
	if !lab.IsModule() {
		return
	}
	removed, err := lab.Unload(t.Context())
	if err != nil {
		t.Errorf("something holds conntrack after the kill: %v", err)
	}
	if err := lab.Load(removed); err != nil {
		t.Fatal(err)
	}
}
