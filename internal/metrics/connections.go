package metrics

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections is how many connections there may be at once. Each takes some 20 KiB, with TLS some 60.
const maxConnections = 64

// listener keeps its connections few. One too many does not wait: it takes the place of the one that has been of no use
// for longest, so that those who connect and say nothing, or say it slowly, do not keep others out.
type listener struct {
	net.Listener
	mu          sync.Mutex
	connections map[*connection]struct{}
}

// connection knows when it was last of use.
type connection struct {
	net.Conn
	listener *listener
	requests int // being answered; guarded by the listener's mutex, as used is
	used     time.Time
}

func newListener(l net.Listener) *listener {
	return &listener{Listener: l, connections: make(map[*connection]struct{})}
}

// Accept makes room for the connection that it returns.
func (l *listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: accepted, listener: l, used: time.Now()}
	l.mu.Lock()
	var worst *connection
	if len(l.connections) >= maxConnections {
		worst = l.worst()
		delete(l.connections, worst)
	}
	l.connections[c] = struct{}{}
	l.mu.Unlock()
	if worst != nil {
		_ = worst.Conn.Close() // it has no say
	}
	return c, nil
}

// worst is the connection to do without: one that waits for an answer only if all do.
func (l *listener) worst() *connection {
	var worst *connection
	for c := range l.connections {
		switch {
		case worst == nil:
			worst = c
		case (c.requests == 0) != (worst.requests == 0):
			if c.requests == 0 {
				worst = c
			}
		case c.used.Before(worst.used):
			worst = c
		}
	}
	return worst
}

// Close closes the connection.
func (c *connection) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.connections, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// request notes that requests begin (1) or end (-1).
func (c *connection) request(n int) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.requests += n
	c.used = time.Now()
}

type connectionKey struct{}

// withConnection is for http.Server.ConnContext: it lets answering find the connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, connectionKey{}, c)
}

// answering tells a request's connection that it is being answered.
func answering(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
			c.request(1)
			defer c.request(-1)
		}
		h.ServeHTTP(w, r)
	})
}
