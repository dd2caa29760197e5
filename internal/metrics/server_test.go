package metrics

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// serve serves a state until the test ends, and returns where.
func serve(t *testing.T, s *State, o Options) string {
	t.Helper()
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	server, err := Listen(s, o)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return server.Addr().String()
}

// client makes a connection of its own for each request, and waits for less than any timeout of the server: an answer did
// not wait for one.
func client(config *tls.Config) *http.Client {
	return &http.Client{Timeout: headerTimeout - time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
}

func get(t *testing.T, c *http.Client, method, url, accept string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(body)
}

func TestScrape(t *testing.T) {
	at := serve(t, worst(t).state, Options{})
	code, header, body := get(t, client(nil), "GET", "http://"+at+"/metrics", "")
	if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Fatalf("%d, %v", code, header)
	}
	if n := parse(t, []byte(body)); n > maxSeries || n < maxSeries-15 {
		t.Errorf("%d series", n)
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"} {
		if !strings.Contains(body, "\n"+name+" ") {
			t.Errorf("no %s", name)
		}
	}
	if n := strings.Count(body, "\nprocess_"); n != processSeries {
		t.Errorf("%d series of the process", n)
	}
	promtool(t, []byte(body))

	_, header, body = get(t, client(nil), "GET", "http://"+at+"/metrics", "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") || !strings.HasSuffix(body, "\n# EOF\n") {
		t.Errorf("no OpenMetrics: %v", header)
	}
}

func TestReadOnly(t *testing.T) {
	at := serve(t, New("v<1>"), Options{})
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/", 200, "<h1>ctwatch v&lt;1&gt;</h1>"},
		{"GET", "/", 200, `<a href="/metrics">`},
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/metrics", 200, ""},
		{"HEAD", "/healthz", 200, ""},
		{"HEAD", "/", 200, ""},
		{"GET", "/nothing", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
		{"POST", "/metrics", 405, ""},
		{"PUT", "/healthz", 405, ""},
		{"DELETE", "/", 405, ""},
		{"OPTIONS", "/metrics", 405, ""},
	} {
		code, header, body := get(t, client(nil), c.method, "http://"+at+c.path, "")
		if code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %d, %q", c.method, c.path, code, body)
		}
		if !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %v", c.method, c.path, header)
		}
	}
}

func TestHealthz(t *testing.T) {
	at := serve(t, New("v"), Options{Healthy: func() error { return errors.New("no tick for 30 seconds") }})
	code, _, body := get(t, client(nil), "GET", "http://"+at+"/healthz", "")
	if code != http.StatusServiceUnavailable || body != "no tick for 30 seconds\n" {
		t.Errorf("%d, %q", code, body)
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip(err) // the machine has no IPv6
	}
	l.Close()
	at := serve(t, New("v"), Options{Address: "[::1]:0"})
	if code, _, _ := get(t, client(nil), "GET", "http://"+at+"/healthz", ""); code != http.StatusOK {
		t.Errorf("%d", code)
	}
}

func TestBusyPort(t *testing.T) {
	at := serve(t, New("v"), Options{})
	_, err := Listen(New("v"), Options{Address: at})
	var option *OptionError
	if !errors.Is(err, syscall.EADDRINUSE) || errors.As(err, &option) {
		t.Fatal(err)
	}
	if want := "serve metrics: listen tcp " + at + ": bind: address already in use"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}

func TestCloseWithoutServe(t *testing.T) {
	server, err := Listen(New("v"), Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	at := server.Addr().String()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := server.Serve(); err != nil {
		t.Errorf("serve after close: %v", err)
	}
	again, err := Listen(New("v"), Options{Address: at})
	if err != nil {
		t.Fatalf("the port is still taken: %v", err)
	}
	again.Close()
}

// TestCloseIsBounded: a client that does not read its answer does not hold up the end.
func TestCloseIsBounded(t *testing.T) {
	asked, held := make(chan struct{}), make(chan struct{})
	server, err := Listen(New("v"), Options{Address: "127.0.0.1:0", Healthy: func() error {
		close(asked)
		<-held
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	c := dial(t, server.Addr().String())
	fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	begun := time.Now()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	close(held)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took < closeTimeout || took > closeTimeout+3*time.Second {
		t.Errorf("closing took %v", took)
	}
}

func dial(t *testing.T, at string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestManyClients: those who connect and say nothing, say it slowly, or do not read, keep nobody out, and take little.
func TestManyClients(t *testing.T) {
	before := memory()
	s := worst(t).state
	server, err := Listen(s, Options{Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	defer func() {
		server.Close()
		<-done
	}()
	at := server.Addr().String()
	var slowest time.Duration
	for i := range 500 {
		c := dial(t, at)
		switch i % 4 {
		case 1: // slowly
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: ")
		case 2: // and never reads the answers
			fmt.Fprint(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 50))
		case 3: // a header without end
			fmt.Fprint(c, "GET /metrics HTTP/1.1\r\nX-A: "+strings.Repeat("a", 6<<10))
		}
		if i%50 == 0 || i == 499 {
			begun := time.Now()
			code, _, body := get(t, client(nil), "GET", "http://"+at+"/metrics", "")
			if code != http.StatusOK || !strings.Contains(body, "ctwatch_build_info") {
				t.Errorf("after %d clients: %d", i+1, code)
			}
			slowest = max(slowest, time.Since(begun))
		}
	}
	server.listener.mu.Lock()
	n := len(server.listener.connections)
	server.listener.mu.Unlock()
	if n > maxConnections {
		t.Errorf("%d connections", n)
	}
	if grown := int64(memory()) - int64(before); grown > 12<<20 {
		t.Errorf("memory grew by %d KiB", grown>>10)
	} else {
		t.Logf("%d connections; memory grew by %d KiB, with the test's own 500; the slowest scrape took %v", n, grown>>10, slowest)
	}
}

// TestAnswerComesThrough: who waits for an answer keeps the connection, however many connect meanwhile.
func TestAnswerComesThrough(t *testing.T) {
	asked, held := make(chan struct{}), make(chan struct{})
	at := serve(t, New("v"), Options{Healthy: func() error {
		close(asked)
		<-held
		return nil
	}})
	c := dial(t, at)
	fmt.Fprint(c, "GET /healthz HTTP/1.0\r\n\r\n")
	<-asked
	for range 3 * maxConnections {
		dial(t, at)
	}
	get(t, client(nil), "GET", "http://"+at+"/", "") // so all of those were accepted
	close(held)
	if answer, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(answer), "\r\n\r\nok\n") {
		t.Errorf("%q, %v", answer, err)
	}
}

// memory is what is in use, after what is not was collected.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestIdleScraperComesBack: one whose connection was given to another gets its next answer over a new one.
func TestIdleScraperComesBack(t *testing.T) {
	at := serve(t, New("v"), Options{})
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	for range 3 {
		if code, _, _ := get(t, c, "GET", "http://"+at+"/metrics", ""); code != http.StatusOK {
			t.Errorf("%d", code)
		}
		for range maxConnections + 1 {
			dial(t, at)
		}
	}
	c.CloseIdleConnections()
}

// TestScrapeWhileRecording is for the race detector; and what a scrape shows is always of one moment.
func TestScrapeWhileRecording(t *testing.T) {
	s := newStory(t)
	at := serve(t, s.state, Options{})
	path := filepath.Join(t.TempDir(), "x.prom")
	s.sample(host(1, conntrack.Drops{}))
	var readers sync.WaitGroup
	var scrapes atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				_, _, body := get(t, client(nil), "GET", "http://"+at+"/metrics", "")
				scrapes.Add(1)
				value := func(name string) string {
					_, rest, _ := strings.Cut(body, "\nctwatch_"+name+" ")
					v, _, _ := strings.Cut(rest, "\n")
					return v
				}
				if d, e := value(`drops_total{cause="table_full",netns="host"}`), value("events_lost_total"); d != e || d == "" {
					t.Errorf("%q drops and %q events in one scrape", d, e)
				}
			}
		})
	}
	readers.Go(func() {
		for ctx.Err() == nil {
			if err := s.state.WriteTextfile(path); err != nil {
				t.Error(err)
			}
		}
	})
	for i := uint64(0); scrapes.Load() < 50; i++ {
		s.tell(&record.Sample{Lost: i, NetNS: []record.NetNS{host(i, full(i)), netns(10+i%20, "", i, 1000, full(i), 0)}})
		s.tell(&record.Incident{Phase: []string{record.PhaseOpen, record.PhaseClose}[i%2], ID: fmt.Sprint(i / 2), NS: 10 + i/2%20, Cookie: 1010 + i/2%20})
		s.state.Kernel(ID{1, 1001}, conntrack.Totals{i}, allCounters)
		s.state.JournalLost(i)
		s.state.PersistedLimit(&i)
	}
	stop()
	readers.Wait()
}

// certificate makes one for 127.0.0.1, and returns the files' names and who trusts it.
func certificate(t *testing.T) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret), trust
}

func TestTLSAndUsers(t *testing.T) {
	cert, key, trust := certificate(t)
	var log bytes.Buffer
	config := webConfig(t, fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key_file: %s\n%s", cert, key, users))
	at := serve(t, New("v"), Options{
		Address: "0.0.0.0:0", WebConfig: config,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	at = strings.Replace(at, "0.0.0.0", "127.0.0.1", 1)
	if strings.HasPrefix(at, "[::]") {
		at = "127.0.0.1" + strings.TrimPrefix(at, "[::]")
	}
	c := client(&tls.Config{RootCAs: trust})
	for _, path := range []string{"", "prometheus:wrong@", "nobody:secret@"} {
		if code, _, body := get(t, c, "GET", "https://"+path+at+"/metrics", ""); code != http.StatusUnauthorized || strings.Contains(body, "ctwatch") {
			t.Errorf("%q gets %d", path, code)
		}
	}
	for range 3 {
		if code, _, body := get(t, c, "GET", "https://prometheus:secret@"+at+"/metrics", ""); code != http.StatusOK || !strings.Contains(body, "ctwatch_build_info") {
			t.Errorf("%d, %q", code, body)
		}
	}
	if code, _, _ := get(t, client(nil), "GET", "http://"+at+"/metrics", ""); code != http.StatusBadRequest {
		t.Errorf("without TLS: %d", code)
	}
	// Silent and slow clients do not keep others out here either.
	for i := range 200 {
		if c := dial(t, at); i%2 == 0 {
			fmt.Fprint(c, "\x16\x03\x01")
		}
	}
	if code, _, _ := get(t, c, "GET", "https://prometheus:secret@"+at+"/metrics", ""); code != http.StatusOK {
		t.Errorf("among silent clients: %d", code)
	}
	if log.Len() > 0 {
		t.Errorf("errors are logged: %s", &log)
	}
}
