package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/record"
)

// script is a program that runs instead of ctwatch.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ctwatch")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// untilTold says that it counts, tells its arguments, and goes on telling after it was asked to end.
const untilTold = `
trap 'echo "{\"v\":1,\"kind\":\"stop\",\"lost\":7}"; exit 0' TERM
printf '%s\n' '{"v":1,"kind":"start","probe":"tracepoint"}' "{\"v\":1,\"kind\":\"drop\",\"ifname\":\"$*\"}"
while :; do sleep 0.01; done
`

func TestDaemon(t *testing.T) {
	var got []any
	d, err := Start(t.Context(), script(t, untilTold), func(r record.Record) {
		switch r := r.(type) {
		case *record.Drop:
			got = append(got, r.Ifname)
		case *record.Stop:
			got = append(got, r.Lost)
		}
	}, "--more")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Kill()
	if d.Start.Probe != "tracepoint" {
		t.Errorf("probe %q", d.Start.Probe)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
	want := []any{"run --format json --listen  --more", uint64(7)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestDaemonFails(t *testing.T) {
	tell := func(record.Record) {}
	for name, text := range map[string]string{
		"at once":           "exit 3",
		"with other words":  "echo hello",
		"with other record": `echo '{"v":1,"kind":"stop"}'`,
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := Start(t.Context(), script(t, text), tell); err == nil {
				d.Kill()
				t.Error("no error")
			}
		})
	}
	t.Run("in the end", func(t *testing.T) {
		d, err := Start(t.Context(), script(t, `trap 'exit 1' TERM; echo '{"v":1,"kind":"start"}'; while :; do sleep 0.01; done`), tell)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Stop(); err == nil {
			t.Error("no error of an exit code of 1")
		}
	})
}
