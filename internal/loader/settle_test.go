package loader

import (
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

// TestSettle: what the hook did not see, settle finds; what it finds, a later look does not count again.
func TestSettle(t *testing.T) {
	need.Root(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.Open(t.Context())
	must(err)
	t.Cleanup(func() { must(l.Close()) })
	server, err := l.Namespace("server")
	must(err)
	client, err := l.Namespace("client")
	must(err)
	must(server.Track())
	link, err := l.Link(client, server)
	must(err)
	must(l.SetLimit(lab.Max, 1000))
	must(server.FillUp(t.Context()))
	cpus, err := lab.CPUs()
	must(err)
	refuse := func(packets int) {
		t.Helper()
		sent, err := link.B.Send(t.Context(), lab.Traffic{Packets: packets, CPUs: cpus})
		must(err)
		if sent.Refused != uint64(packets) {
			t.Fatalf("of %d packets %d were refused", packets, sent.Refused)
		}
	}
	p, err := Open(Options{Probe: Tracepoint})
	must(err)
	defer p.Close()
	var cookie uint64
	counted := func() uint64 {
		t.Helper()
		tables, err := p.Tables(time.Now())
		must(err)
		for _, table := range tables {
			if table.Inode == server.Inode && !table.Gone {
				cookie = table.Cookie
				return table.Refused.Total()
			}
		}
		t.Fatal("the namespace is not known")
		return 0
	}

	refuse(10)
	must(p.program.kfree.Close())
	refuse(300)
	if got := counted(); got != 10 {
		t.Fatalf("counted %d while detached, want 10", got)
	}
	must(p.Settle(cookie))
	if got := counted(); got != 310 {
		t.Errorf("counted %d after settle, want 310", got)
	}
	must(p.Settle(cookie))
	must(p.program.attachKfree())
	refuse(7)
	if got := counted(); got != 317 {
		t.Errorf("counted %d after attaching anew, want 317", got)
	}
	must(p.Reattach())
	refuse(4)
	if got := counted(); got != 321 {
		t.Errorf("counted %d in the end, want 321", got)
	}
}
