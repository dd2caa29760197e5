// Package hooks_test tries the examples with the shells that they are written for.
package hooks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ctwatch/ctwatch/internal/hook"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/test/need"
)

// notify is the script, its settings and its queue, in a directory that is root's.
type notify struct {
	t     *testing.T
	dir   string
	queue string
	path  string   // the script
	shell []string // which runs it
	tools string   // PATH
}

// collect delivers by writing to a file, which Delivered reads.
const collect = `deliver() { cat >>"$queue/../delivered"; }`

// each runs a test with each of the shells, and the tools that they come with.
func each(t *testing.T, test func(t *testing.T, n notify)) {
	for _, shell := range []string{"dash", "busybox"} {
		t.Run(shell, func(t *testing.T) {
			need.Root(t)
			need.Tool(t, shell)
			dir, err := os.MkdirTemp("/var/lib", "ctwatch-notify-test-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			n := notify{t: t, dir: dir, queue: dir + "/queue", path: dir + "/notify", shell: []string{"dash"}, tools: "/usr/sbin:/usr/bin:/sbin:/bin"}
			if shell == "busybox" {
				n.shell, n.tools = []string{"busybox", "ash"}, dir+"/bin"
				n.must(os.Mkdir(n.tools, 0o755))
				out, err := exec.Command("busybox", "--install", "-s", n.tools).CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if _, err := os.Stat(n.tools + "/flock"); err != nil { // Debian's busybox has none, Alpine's has
					flock, err := exec.LookPath("flock")
					n.must(err)
					n.must(os.Symlink(flock, n.tools+"/flock"))
				}
			}
			text, err := os.ReadFile("notify")
			n.must(err)
			n.must(os.WriteFile(n.path, text, 0o755))
			n.must(os.Mkdir(n.queue, 0o700))
			n.configure(collect)
			test(t, n)
		})
	}
}

func (n notify) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n notify) configure(lines ...string) {
	n.t.Helper()
	n.must(os.WriteFile(n.dir+"/notify.conf", []byte("queue="+n.queue+"\n"+strings.Join(lines, "\n")+"\n"), 0o600))
}

// command is a run of the script as ctwatch or cron would.
func (n notify) command(args []string, env ...string) *exec.Cmd {
	argv := append(append(n.shell, n.path), args...)
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append([]string{"PATH=" + n.tools, "LANG=C", "NOTIFY_CONF=" + n.dir + "/notify.conf"}, env...)
	return c
}

// run runs it and compares what it says on standard error; "" is that it succeeds.
func (n notify) run(want string, c *exec.Cmd) {
	n.t.Helper()
	var said bytes.Buffer
	c.Stderr = &said
	err := c.Run()
	if want == "" && err != nil || want != "" && c.ProcessState.ExitCode() != 1 {
		n.t.Errorf("ended with %v", err)
	}
	if got := strings.ReplaceAll(said.String(), n.dir, "DIR"); got != want {
		n.t.Errorf("said %q, want %q", got, want)
	}
}

// put queues an event.
func (n notify) put(want string, second int, event string, env ...string) {
	n.t.Helper()
	c := n.command(nil, append(env, fmt.Sprint("CTWATCH_TIME=", second), "CTWATCH_SEQ=7")...)
	c.Stdin = strings.NewReader(event)
	n.run(want, c)
}

func (n notify) flush(want string) {
	n.t.Helper()
	n.run(want, n.command([]string{"flush"}))
}

// delivered compares what was delivered since it was asked last.
func (n notify) delivered(want string) {
	n.t.Helper()
	got, err := os.ReadFile(n.dir + "/delivered")
	if err != nil && !os.IsNotExist(err) {
		n.t.Fatal(err)
	}
	os.Remove(n.dir + "/delivered")
	if diff := cmp.Diff(want, string(got)); diff != "" {
		n.t.Errorf("delivered (-want +got):\n%s", diff)
	}
}

// queued is what is in the queue but for its lock, numbers of processes left out.
func (n notify) queued() (names []string) {
	n.t.Helper()
	entries, err := os.ReadDir(n.queue)
	n.must(err)
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// now is a time that is never given up, and always that of the oldest event of a test.
var now = int(time.Now().Unix())

const waits = "notify: an event cannot be delivered yet: the queue in DIR/queue waits for the next flush\n"

func TestOldestFirst(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		n.put("", now+1, "{\"n\":2}\n")
		n.put("", now, "{\"n\":1}\n")
		n.put("", now+2, "{\"n\":3}\n")
		n.flush("")
		n.delivered("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n")
		if left := n.queued(); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
		n.flush("")
		n.delivered("")
	})
}

// TestHostile is an event with all that a shell, a terminal or a mail program could make something of.
func TestHostile(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		name := "$(touch " + n.dir + "/owned)`touch " + n.dir + "/owned`'\"; touch " + n.dir + "/owned\n~!touch " + n.dir + "/owned\n-e %s%n \\0 \x1b[2J * \u2028"
		line, err := json.Marshal(&record.Incident{ID: "1", Name: name, Owner: name})
		n.must(err)
		line = append(line, '\n')
		n.put("", now, string(line))
		n.flush("")
		n.delivered(string(line))
		if _, err := os.Stat(n.dir + "/owned"); err == nil {
			t.Error("something of the event was evaluated")
		}
	})
}

// TestOutage is a time in which nothing can be delivered.
func TestOutage(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		for i := range 3 {
			n.put("", now+i, fmt.Sprintf("{\"n\":%d}\n", i))
		}
		n.configure(`deliver() { return 7; }`)
		n.flush(waits)
		n.configure(`deliver() { exit 7; }`)
		n.flush(waits)
		n.configure(`deliver() { grep -v '"n":1' >>"$queue/../delivered"; }`) // fails at the second
		n.flush(waits)
		n.delivered("{\"n\":0}\n")
		n.put("", now+3, "{\"n\":3}\n")
		n.configure(collect)
		n.flush("")
		n.delivered("{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n")
	})
}

func TestBounds(t *testing.T) {
	const full = "notify: the queue in DIR/queue is full: an event is lost\n"
	each(t, func(t *testing.T, n notify) {
		n.configure(collect, "max_events=2")
		n.put("", now, "{\"n\":0}\n")
		n.put("", now+1, "{\"n\":1}\n")
		n.put(full, now+2, "{\"n\":2}\n")
		n.put(full, now+3, "{\"n\":3}\n", "CTWATCH_SKIPPED=5")
		n.flush("")
		n.delivered("{\"n\":0}\n{\"n\":1}\n{\"kind\":\"lost\",\"events\":7}\n")

		n.configure(collect, "max_kilobytes=150")
		big := `{"n":"` + strings.Repeat("x", 100<<10) + "\"}\n"
		n.put("", now, big)
		n.put("", now+1, big)
		n.put(full, now+2, big)
		n.configure(`deliver() { return 1; }`)
		n.flush(waits)
		n.configure(collect)
		n.flush("")
		n.delivered(big + big + "{\"kind\":\"lost\",\"events\":1}\n")
		n.flush("")
		n.delivered("")
	})
}

// TestGivenUp is what will never be delivered: too old, or refused for good.
func TestGivenUp(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		n.configure(`deliver() { grep -q bad && return 65; echo told >>"$queue/../delivered"; }`, "max_age=100")
		n.put("", now-1000, "{\"n\":\"old\"}\n")
		n.put("", now, "{\"n\":\"bad\"}\n")
		n.put("", now+1, "{\"n\":\"good\"}\n")
		n.flush("")
		n.delivered("told\ntold\n") // good, and how many were lost
		n.configure(collect, "max_age=0")
		n.put("", now-1000, "{\"n\":\"old\"}\n")
		n.flush("")
		n.delivered("{\"n\":\"old\"}\n")
	})
}

// TestCrash is what is left by a script that was killed, and by a power loss.
func TestCrash(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		for name, text := range map[string]string{
			".1-000000000001-1":                          "{\"written",
			fmt.Sprint(now, "-000000000001-1.event"):     "{\"torn\"",
			fmt.Sprint(now, "-000000000002-1.event"):     "",
			fmt.Sprint(now, "-000000000003-1.event"):     "\x00\x00\n",
			fmt.Sprint(".", now, "-000000000004-1"):      "{\"being written now",
			fmt.Sprint(now+1, "-000000000005-999.event"): "{\"n\":1}\n",
		} {
			n.must(os.WriteFile(filepath.Join(n.queue, name), []byte(text), 0o600))
		}
		old := time.Now().Add(-50 * time.Hour)
		n.must(os.Chtimes(n.queue+"/.1-000000000001-1", old, old))
		n.configure(`deliver() { cat >>"$queue/../delivered"; kill -9 $$; }`) // delivered, and dead before it is noted
		if err := n.command([]string{"flush"}).Run(); err == nil {
			t.Error("flush was not killed")
		}
		n.delivered("{\"n\":1}\n")
		n.configure(collect)
		n.flush("")
		n.delivered("{\"n\":1}\n{\"kind\":\"lost\",\"events\":3}\n") // rather twice than never
		if diff := cmp.Diff([]string{fmt.Sprint(".", now, "-000000000004-1")}, n.queued()); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		n.put("notify: cannot write to DIR/queue, or the event is not whole: it is lost\n", now, "{\"cut off")
		n.put("notify: cannot write to DIR/queue, or the event is not whole: it is lost\n", now, "")
		n.flush("")
		n.delivered("{\"kind\":\"lost\",\"events\":2}\n")
	})
}

// TestDiskFull has the queue on a file system that has no room.
func TestDiskFull(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		mount := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", n.queue)
		if out, err := mount.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { n.must(exec.Command("umount", n.queue).Run()) })
		n.put("", now, "{\"n\":1}\n")
		c := n.command(nil, fmt.Sprint("CTWATCH_TIME=", now+1))
		c.Stdin = strings.NewReader(`{"n":"` + strings.Repeat("x", 100<<10) + "\"}\n")
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "it is lost") {
			t.Errorf("%v: %s", err, out)
		}
		n.flush("")
		n.delivered("{\"n\":1}\n{\"kind\":\"lost\",\"events\":1}\n")
	})
}

// TestOneFlush is a delivery that takes long, and one that leaves something running.
func TestOneFlush(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		n.put("", now, "{\"n\":1}\n")
		n.configure(`deliver() { cat >/dev/null; echo >"$queue/../begun"; read x <"$queue/../gate"; }`)
		for _, name := range []string{"begun", "gate"} {
			n.must(exec.Command("mkfifo", filepath.Join(n.dir, name)).Run())
		}
		slow := n.command([]string{"flush"})
		n.must(slow.Start())
		_, err := os.ReadFile(n.dir + "/begun") // waits until deliver has begun
		n.must(err)
		n.flush("notify: another flush is at work, or there is no flock\n")
		n.must(os.WriteFile(n.dir+"/gate", []byte("go\n"), 0))
		n.must(slow.Wait())

		n.put("", now, "{\"n\":2}\n")
		n.configure(`deliver() { cat >>"$queue/../delivered"; sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >"$queue/../pid"; }`)
		n.flush("")
		n.flush("")
		n.delivered("{\"n\":2}\n")
		pid, err := os.ReadFile(n.dir + "/pid")
		n.must(err)
		n.must(exec.Command("kill", strings.TrimSpace(string(pid))).Run())
	})
}

func TestBadSettings(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		conf := n.dir + "/notify.conf"
		n.configure("max_events=-1")
		n.flush("notify: DIR/notify.conf: \"-1\" is no whole number\n")
		n.configure()
		n.must(os.Chmod(conf, 0o620))
		const others = "notify: DIR/notify.conf is not root's, or others can write to it: chown root DIR/notify.conf; chmod go-w DIR/notify.conf\n"
		n.flush(others)
		n.must(os.Chmod(conf, 0o600))
		n.must(os.Chown(conf, 65534, 0))
		n.flush(others)
		n.must(os.Chown(conf, 0, 0))
		n.put("", now, "{\"n\":1}\n")
		c := n.command([]string{"flush"})
		if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "define deliver() in") {
			t.Errorf("without deliver: %v: %s", err, out)
		}
		n.must(os.Rename(n.queue, n.dir+"/elsewhere"))
		n.put("notify: there is no directory DIR/queue: install -d -m 0700 DIR/queue\n", now, "{}\n")
		n.must(os.Symlink("elsewhere", n.queue))
		n.put("notify: there is no directory DIR/queue: install -d -m 0700 DIR/queue\n", now, "{}\n")
		c = n.command([]string{"flash"})
		if out, _ := c.CombinedOutput(); c.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(out), "usage: ") {
			t.Errorf("wrong usage: %v: %s", c.ProcessState, out)
		}
	})
}

// TestAsHook has it called as ctwatch calls it: as root without any capability.
func TestAsHook(t *testing.T) {
	each(t, func(t *testing.T, n notify) {
		// The environment is fixed, so the settings stand in the script.
		shell, err := exec.LookPath(n.shell[0])
		n.must(err)
		if n.shell[0] == "busybox" {
			shell += " ash"
		}
		text, err := os.ReadFile("notify")
		n.must(err)
		replaced := strings.Replace(string(text), "/etc/ctwatch/notify.conf}", n.dir+"/notify.conf}", 1)
		replaced = strings.Replace(replaced, "#!/bin/sh", "#!"+shell, 1)
		n.must(os.WriteFile(n.path, []byte(replaced), 0o755))
		h, err := hook.Open(hook.Options{Path: n.path})
		n.must(err)
		defer h.Close()
		i := &record.Incident{ID: "1", Phase: record.PhaseOpen}
		record.Stamp(i, 1, time.Now(), time.Second)
		want, err := json.Marshal(i)
		n.must(err)
		if !h.Call(i) {
			t.Fatal("not called")
		}
		if r := <-h.Done(); r.Failed() || r.Output != "" {
			t.Fatalf("%+v", r)
		}
		n.flush("")
		n.delivered(string(want) + "\n")
	})
}
