package kmsg_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ctwatch/ctwatch/internal/kmsg"
	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAgainstDmesg has the kernel refuse packets until it says so, and compares with what syslog(2) shows of it.
func TestAgainstDmesg(t *testing.T) {
	need.Root(t)
	l, err := lab.Open(t.Context())
	must(t, err)
	defer func() { must(t, l.Close()) }()
	client, err := l.Namespace("client")
	must(t, err)
	server, err := l.Namespace("server")
	must(t, err)
	link, err := l.Link(client, server)
	must(t, err)
	must(t, server.Track())
	must(t, l.SetLimit(lab.Max, 1000))
	must(t, server.FillUp(t.Context()))

	// The lab's lock keeps others from refusing packets meanwhile.
	before := lastLine(dmesg(t))
	log, err := kmsg.Open("")
	must(t, err)
	defer log.Close()
	said := "table full"
	if log.Attributed() {
		said = fmt.Sprintf("table full in netns %d,", server.Inode)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if got := log.Lines(server.Inode, false); got >= 3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the kernel wrote %d lines", log.Lines(server.Inode, false))
		}
		// Ten lines in five seconds: when other tests have used them up, it takes a while.
		_, err := link.A.Inject(t.Context(), lab.Traffic{Packets: 100})
		must(t, err)
		must(t, log.Read())
	}
	after := dmesg(t)
	must(t, log.Read())
	at := strings.LastIndex(after, before)
	if at < 0 {
		t.Fatalf("%q was overwritten meanwhile", before)
	}
	want := strings.Count(after[at+len(before):], said)
	if got := log.Lines(server.Inode, false); got != uint64(want) {
		t.Errorf("%d lines, and %d in dmesg", got, want)
	}
	if other := log.Lines(client.Inode, false); log.Attributed() && other != 0 {
		t.Errorf("%d lines of a namespace that refused nothing", other)
	}
	if log.Missed() != 0 {
		t.Errorf("%d missed", log.Missed())
	}
}

// dmesg is the whole log as syslog(2) gives it.
func dmesg(t *testing.T) string {
	t.Helper()
	const readAll, sizeBuffer = 3, 10
	size, err := unix.Klogctl(sizeBuffer, nil)
	must(t, err)
	text := make([]byte, size)
	n, err := unix.Klogctl(readAll, text)
	must(t, err)
	return string(text[:n])
}

// lastLine begins with a time, which tells it from others of the same text.
func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// TestOverwritten writes more than the log holds before reading it.
func TestOverwritten(t *testing.T) {
	need.Root(t)
	need.Guest(t)
	log, err := kmsg.Open("")
	must(t, err)
	defer log.Close()
	write(t, "the first")
	must(t, log.Read())
	const sizeBuffer = 10
	size, err := unix.Klogctl(sizeBuffer, nil)
	must(t, err)
	text := strings.Repeat("x", 800)
	for written := 0; written < 2*size; written += len(text) {
		write(t, text)
	}
	must(t, log.Read())
	if log.Missed() == 0 {
		t.Error("nothing is missed")
	}
}

// write writes a line to the log, opening it each time: it takes ten from each that opens it.
func write(t *testing.T, text string) {
	t.Helper()
	must(t, os.WriteFile("/dev/kmsg", []byte("<7>ctwatch test: "+text+"\n"), 0))
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, []byte("4,1,1,-;nf_conntrack: table full, dropping packet\n"), 0o600))
	for path, want := range map[string]error{
		filepath.Join(dir, "none"): fs.ErrNotExist,
		file:                       kmsg.ErrNoLog,
		dir:                        kmsg.ErrNoLog,
		"/dev/null":                kmsg.ErrNoLog, // what some containers have there
	} {
		log, err := kmsg.Open(path)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
		if err == nil {
			log.Close()
		}
		if err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("%q does not name %s", err, path)
		}
	}
}

func TestUnprivileged(t *testing.T) {
	need.Root(t)
	if text, err := os.ReadFile("/proc/sys/kernel/dmesg_restrict"); err != nil || strings.TrimSpace(string(text)) == "0" {
		t.Skip("everybody may read the kernel log here")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()       // for good: the thread ends with the goroutine
		var none [2]unix.CapUserData // of this thread alone
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := kmsg.Open("")
		done <- err
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v, want %v", err, unix.EPERM)
	}
}
