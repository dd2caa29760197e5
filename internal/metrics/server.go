package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
)

// Options say where the metrics are served, and to whom.
type Options struct {
	Address   string       // host:port; the host must be loopback, unless one of the next two says more
	WebConfig string       // file with TLS and users, in the form of the Prometheus exporter toolkit; "" is plain HTTP
	Insecure  bool         // any address, to anybody
	Healthy   func() error // why the run is not well, for /healthz; nil: it always is
	Logger    *slog.Logger // nil: nothing is logged
}

const (
	headerTimeout = 5 * time.Second  // also for the TLS handshake
	readTimeout   = 10 * time.Second // a request has no body worth waiting for
	writeTimeout  = 10 * time.Second
	idleTimeout   = 2 * time.Minute // Prometheus scrapes once a minute, if told nothing else
	maxHeader     = 8 << 10

	closeTimeout = 2 * time.Second // for answers that are under way
)

// Server serves the metrics of a State, read-only.
type Server struct {
	listener *listener
	http     *http.Server
	config   string
	log      *slog.Logger
}

// Listen checks the options, which may fail with an *OptionError, and binds the address. Serve answers.
func Listen(s *State, o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	handler, err := newHandler(s, o)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	address, err := o.admit()
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	return &Server{
		listener: newListener(l),
		config:   o.WebConfig,
		log:      o.Logger,
		http: &http.Server{
			Handler:           answering(handler),
			ReadHeaderTimeout: headerTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ConnContext:       withConnection,
			HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 4},             // of one connection
			ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug), // what clients do wrong
		},
	}, nil
}

// Addr is the address that was bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers until Close, and then returns nil.
func (s *Server) Serve() error {
	err := web.Serve(s.listener, s.http, &web.FlagConfig{WebConfigFile: &s.config}, s.log)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics: %w", err)
}

// Close ends Serve. Answers that are under way have two seconds.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	// What was never served, the http.Server does not know of.
	if closed := s.listener.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}
