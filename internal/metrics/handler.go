package metrics

import (
	"html/template"
	"log/slog"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

const index = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ctwatch</title>
</head>
<body>
<h1>ctwatch {{.}}</h1>
<ul>
<li><a href="/metrics">Metrics</a></li>
<li><a href="/healthz">Health</a></li>
</ul>
</body>
</html>
`

// newHandler answers GET and HEAD, and nothing else.
func newHandler(s *State, o Options) (http.Handler, error) {
	page, err := template.New("index").Parse(index)
	if err != nil {
		return nil, err
	}
	process, err := processMetrics()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", whole(promhttp.HandlerFor(prometheus.Gatherers{s.registry, process}, promhttp.HandlerOpts{
		ErrorLog:           slog.NewLogLogger(o.Logger.Handler(), slog.LevelError),
		ErrorHandling:      promhttp.HTTPErrorOnError,
		EnableOpenMetrics:  true,
		DisableCompression: true, // of 30 KiB; each gzip.Writer takes 800
	})))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if o.Healthy != nil {
			if err := o.Healthy(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // the client may be gone
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, s.version)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	}), nil
}

// processMetrics are a few of those of our own process, and none of the Go runtime's: there would be too many series.
func processMetrics() (prometheus.Gatherer, error) {
	r := prometheus.NewRegistry()
	if err := r.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})); err != nil {
		return nil, err
	}
	few := []string{"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"}
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := r.Gather()
		return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !slices.Contains(few, f.GetName()) }), err
	}), nil
}
