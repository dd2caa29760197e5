package metrics

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// webConfig writes a web config.
func webConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// users lets in "prometheus" with "secret".
const users = "basic_auth_users:\n  prometheus: $2a$04$2WFsBdK/8/fCM0QnVj74FuqkLqILteqKlr.inm.42TYkT1wkHdZfi\n"

func TestAdmit(t *testing.T) {
	protected, open := webConfig(t, users), webConfig(t, "http_server_config:\n  http2: false\n")
	for _, c := range []struct {
		address, config string
		insecure        bool
		want            string // the address to bind, or the option at fault
		exposed         bool
	}{
		{address: "127.0.0.1:10109", want: "127.0.0.1:10109"},
		{address: "127.9.9.9:10109", want: "127.9.9.9:10109"},
		{address: "[::1]:10109", want: "[::1]:10109"},
		{address: "[::ffff:127.0.0.1]:10109", want: "127.0.0.1:10109"},
		{address: "localhost:10109", want: "127.0.0.1:10109"},
		{address: "127.0.0.1:http", want: "127.0.0.1:80"},
		{address: ":10109", want: "Address", exposed: true},
		{address: "0.0.0.0:10109", want: "Address", exposed: true},
		{address: "[::]:10109", want: "Address", exposed: true},
		{address: "192.0.2.1:10109", want: "Address", exposed: true},
		{address: "[::ffff:192.0.2.1]:10109", want: "Address", exposed: true},
		{address: "[fe80::1%lo]:10109", want: "Address", exposed: true},
		{address: "0.0.0.0:10109", config: open, want: "Address", exposed: true},
		{address: "0.0.0.0:10109", config: webConfig(t, "basic_auth_users: {}\n"), want: "Address", exposed: true},
		{address: "0.0.0.0:10109", config: webConfig(t, ""), want: "Address", exposed: true},
		{address: "0.0.0.0:10109", config: protected, want: "0.0.0.0:10109"},
		{address: ":10109", config: protected, want: ":10109"},
		{address: ":10109", insecure: true, want: ":10109"},
		{address: "127.0.0.1:10109", config: open, want: "127.0.0.1:10109"},
		{address: "127.0.0.1", want: "Address"},
		{address: "127.0.0.1:99999", want: "Address"},
		{address: "127.0.0.1:nosuchservice", want: "Address"},
		{address: "", want: "Address"},
		{address: "name.invalid:10109", insecure: true, want: "Address"},
		{address: "127.0.0.1:10109", config: "/nowhere", want: "WebConfig"},
		{address: "127.0.0.1:10109", config: webConfig(t, "basic_auth_user: {}\n"), want: "WebConfig"},
		{address: "127.0.0.1:10109", config: webConfig(t, "basic_auth_users: {a: plain}\n"), want: "WebConfig"},
		{address: "127.0.0.1:10109", config: webConfig(t, "tls_server_config: {cert_file: x, key_file: y}\n"), want: "WebConfig"},
		{address: "127.0.0.1:10109", config: webConfig(t, "tls_server_config: {client_auth_type: NoClientCert}\n"), want: "WebConfig"},
	} {
		o := Options{Address: c.address, WebConfig: c.config, Insecure: c.insecure}
		got, err := o.admit()
		var option *OptionError
		if errors.As(err, &option) {
			got = option.Option
		} else if err != nil {
			t.Errorf("%+v: %v is no OptionError", o, err)
		}
		if got != c.want || errors.Is(err, ErrExposed) != c.exposed {
			t.Errorf("%+v: %s (%v), want %s", o, got, err, c.want)
		}
	}
}

func TestReachable(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		hosts []netip.Addr
		want  bool
	}{
		{nil, true},
		{[]netip.Addr{a("127.0.0.1"), a("::1")}, false},
		{[]netip.Addr{a("127.0.0.1"), a("192.0.2.1")}, true},
		{[]netip.Addr{a("2001:db8::1"), a("127.0.0.1")}, true},
	} {
		if got := reachable(c.hosts); got != c.want {
			t.Errorf("%v: %v", c.hosts, got)
		}
	}
}
