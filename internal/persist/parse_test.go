package persist

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzUnseal: what was sealed is found whole with its body; what is whole is what sealing makes; any change shows.
func FuzzUnseal(f *testing.F) {
	f.Add("v1.2.3", "net.netfilter.nf_conntrack_max = 1\n", 1, 40)
	f.Add("(devel)", "#!/bin/sh\n/sbin/modprobe nf_conntrack\n", 0, 3)
	f.Add("", "", 0, 0)
	f.Add("a b\nc", "#!x", 12, 7)
	f.Fuzz(func(t *testing.T, version, body string, made, at int) {
		if strings.HasPrefix(body, "#!") && !strings.Contains(body, "\n") {
			body += "\n"
		}
		data := seal(header{version: version, made: max(made, 0)}, body)
		h, got, ok, whole := unseal(data)
		if !ok || !whole || got != body || h.made != min(max(made, 0), 9) || !sealed(data, body) {
			t.Fatalf("%+v %q %v %v of\n%s", h, got, ok, whole, data)
		}
		if at = max(at, 0) % len(data); at >= len(data)-len(body) || at < 9 {
			data[at] ^= 1
			if _, _, ok, whole := unseal(data); ok && whole {
				t.Errorf("byte %d was changed, and it is whole:\n%s", at, data)
			}
		}
		// Whatever else is read as ours and whole is written the same.
		if h, got, ok, whole := unseal([]byte(body)); ok && whole && string(seal(h, got)) != body {
			t.Errorf("%q is taken for ours", body)
		}
	})
}

// FuzzShared: our lines go into any file and out of it again without a trace, and can be replaced.
func FuzzShared(f *testing.F) {
	f.Add("#!/bin/sh\nexit 0\n", "echo 1\n")
	f.Add("x", "options a b=1\n")
	f.Add("# BEGIN ctwatch\n", "")
	f.Add("# END ctwatch", "a\n")
	f.Fuzz(func(t *testing.T, text, body string) {
		s := parseShared(text)
		if s.broken != "" || s.found || strings.Contains(body, "ctwatch") || body != "" && !strings.HasSuffix(body, "\n") {
			return
		}
		with := s.with("v1", body)
		again := parseShared(with)
		if !again.found || !again.whole || again.body != body {
			t.Fatalf("%+v of\n%q", again, with)
		}
		if got := again.without(); got != text {
			t.Errorf("-before +after: %s", cmp.Diff(text, got))
		}
		if got := again.with("v1", body); got != with {
			t.Errorf("twice: %s", cmp.Diff(with, got))
		}
		other := parseShared(again.with("v2", "other\n"))
		if other.body != "other\n" || !other.whole || other.without() != text {
			t.Errorf("%+v", other)
		}
	})
}

// FuzzManifest: what is read is written the same, and names no file but ours.
func FuzzManifest(f *testing.F) {
	m := &manifest{V: 1, ID: "20261125T120000Z-1", Time: noon, By: "x", Max: Step{1, 2}, State: writing, Files: []saved{
		{Path: sysctlFile, After: sum([]byte("a"))},
		{Path: rcLocalFile, Existed: true, Perm: 0o755, Label: []byte("l\x00"), Copy: "1", Before: sum(nil), After: sum(nil), Made: 2},
	}}
	data, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(strings.Replace(string(data), rcLocalFile, "/etc/shadow", 1)))
	f.Add([]byte(strings.Replace(string(data), `"copy": "1"`, `"copy": "../x"`, 1)))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			return
		}
		for _, f := range m.Files {
			if !strings.HasPrefix(f.Path, "/etc/") || strings.Contains(f.Path, "..") || strings.Contains(f.Copy, "/") {
				t.Errorf("%+v", f)
			}
		}
		written, err := m.encode()
		if err != nil {
			return // a time that JSON cannot hold
		}
		again, err := parseManifest(written)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("-read +written and read: %s", diff)
		}
	})
}

func TestManifestRefused(t *testing.T) {
	m := &manifest{V: 1, ID: "20261125T120000Z-1", Files: []saved{{Path: sysctlFile, Existed: true, Copy: "0", Before: sum(nil)}}}
	data, err := m.encode()
	must(t, err)
	if _, err := parseManifest(data); err != nil {
		t.Fatal(err)
	}
	for old, what := range map[string]string{
		`"v": 1`:                 `"v": 2`,
		`Z-1`:                    `Z-x`,
		`"state": ""`:            `"state": "done"`,
		sysctlFile:               "/etc/../etc/shadow",
		`"copy": "0"`:            `"copy": "../0"`,
		`"before": "e3`:          `"before": "g3`,
		`"existed": true`:        `"existed": true, "perm": 65535`,
		`"existed": true,`:       `"existed": true, "uid": -1,`,
		"\"files\": [\n":         `"files": [[],`,
		`"path": "` + sysctlFile: `"path": "` + modprobeFile + `x`,
		`"by": ""`:               `"by": 5`,
	} {
		text := strings.Replace(string(data), old, what, 1)
		if text == string(data) {
			t.Fatalf("%q is not in\n%s", old, data)
		}
		if m, err := parseManifest([]byte(text)); err == nil {
			t.Errorf("%s is taken: %+v", what, m)
		}
	}
}
