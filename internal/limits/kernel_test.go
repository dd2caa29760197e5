package limits

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/ctwatch/ctwatch/test/lab"
	"github.com/ctwatch/ctwatch/test/need"
)

func openLab(t testing.TB) *lab.Lab {
	t.Helper()
	need.Root(t)
	l, err := lab.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// keep has the lab restore both limits when it ends: it does for what it has set itself.
func keep(t testing.TB, l *lab.Lab) State {
	t.Helper()
	s, err := Read("")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]uint64{lab.Max: s.Max, lab.Buckets: s.Buckets} {
		if err := l.SetLimit(name, value); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestKernel sets the limits of the running kernel.
func TestKernel(t *testing.T) {
	l := openLab(t)
	before := keep(t, l)

	c, err := SetMax("", 524288)
	must(t, err)
	if got, err := l.Limit(lab.Max); c.From != before.Max || c.To != 524288 || got != 524288 || err != nil {
		t.Errorf("%+v, and the kernel has %d (%v)", c, got, err)
	}
	b, err := SetBuckets("", before.Buckets+1)
	must(t, err)
	if got, err := l.Limit(lab.Buckets); b.From != before.Buckets || b.To <= before.Buckets+1 || got != b.To || err != nil {
		t.Errorf("%+v, and the kernel has %d (%v)", b, got, err)
	}
	if s, err := Read(""); s.Max != 524288 || s.Buckets != b.To || err != nil {
		t.Errorf("read back %+v (%v)", s, err)
	}
	// The largest that there is, and what the kernel says of a limit that is none, depending on its version.
	if c, err := SetMax("", Most); c.To != Most || err != nil {
		t.Errorf("the most: %+v, %v", c, err)
	}
	var rejected *RejectedError
	if c, err := SetMax("", 0); !errors.As(err, &rejected) && (c.To != 0 || err != nil) {
		t.Errorf("0: %+v, %v", c, err)
	}
}

// TestOtherNamespace asks from within a namespace that may not write the limits.
func TestOtherNamespace(t *testing.T) {
	l := openLab(t)
	n, err := l.Namespace("other")
	must(t, err)
	before, err := Read("")
	must(t, err)
	must(t, n.Do(func() error {
		s, err := Read("")
		if err != nil || s.Max != before.Max {
			t.Errorf("%+v (%v), want max %d", s, err, before.Max)
		}
		for what, err := range map[string]error{"max": CheckMax(""), "buckets": CheckBuckets("")} {
			var u *UnwritableError
			if !errors.As(err, &u) || u.Why != OtherNamespace {
				t.Errorf("%s: %v, want %q", what, err, OtherNamespace)
			}
		}
		return nil
	}))
}

// TestReadOnlyProc asks where proc is mounted as containers have it.
func TestReadOnlyProc(t *testing.T) {
	need.Root(t)
	if os.Getenv("CTWATCH_TEST_CHILD") != "" {
		for _, err := range []error{CheckMax(""), CheckBuckets("")} {
			var u *UnwritableError
			if !errors.As(err, &u) || u.Why != ReadOnly {
				t.Errorf("%v, want %q", err, ReadOnly)
			}
		}
		return
	}
	inChild(t, "mount -o bind,ro /proc/sys /proc/sys", "--mount")
}

// inChild runs the calling test again, by a shell script that has changed its surroundings before.
func inChild(t *testing.T, script string, unshare ...string) {
	t.Helper()
	script += ` && exec "$0" -test.run='^` + t.Name() + `$' -test.v`
	cmd := exec.Command("unshare", append(unshare, "sh", "-c", script, os.Args[0])...)
	cmd.Env = append(os.Environ(), "CTWATCH_TEST_CHILD=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestOtherNamespaceWrites asks where another namespace may write the limit, as before 5.13: a file of proc's that anybody
// may write stands in for it.
func TestOtherNamespaceWrites(t *testing.T) {
	need.Root(t)
	if os.Getenv("CTWATCH_TEST_CHILD") == "" {
		must(t, CheckMax(""))
		inChild(t, "mount -o bind /proc/sys/kernel/printk_ratelimit /proc/sys/net/netfilter/nf_conntrack_max", "--mount", "--net")
		return
	}
	var u *UnwritableError
	if err := CheckMax(""); !errors.As(err, &u) || u.Why != OtherNamespace {
		t.Errorf("%v, want %q", err, OtherNamespace)
	}
}

// TestCannotTell: where sysctls are hidden, another namespace is not claimed.
func TestCannotTell(t *testing.T) {
	need.Root(t)
	if os.Getenv("CTWATCH_TEST_CHILD") == "" {
		inChild(t, "mount -t tmpfs none /proc/sys/net/core", "--mount")
		return
	}
	must(t, CheckMax(""))
}

// TestNoProc: without proc it cannot be told whether conntrack is loaded.
func TestNoProc(t *testing.T) {
	need.Root(t)
	if os.Getenv("CTWATCH_TEST_CHILD") == "" {
		inChild(t, "mount -t tmpfs none /proc", "--mount")
		return
	}
	if err := CheckMax(""); !errors.Is(err, ErrNoProc) {
		t.Errorf("%v, want %q", err, ErrNoProc)
	}
}

// BenchmarkSetMax is what raising the limit takes while packets are being refused.
func BenchmarkSetMax(b *testing.B) {
	keep(b, openLab(b))
	for b.Loop() {
		if _, err := SetMax("", 524288); err != nil {
			b.Fatal(err)
		}
	}
}
