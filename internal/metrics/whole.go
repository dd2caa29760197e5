package metrics

import (
	"bytes"
	"net/http"
	"strconv"
)

// whole has requests answered two at a time, and each answer made before it is sent: who reads slowly then holds up
// neither the others nor more than the text.
func whole(h http.Handler) http.Handler {
	turn := make(chan struct{}, 2)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case turn <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		a := answer{header: w.Header(), code: http.StatusOK}
		func() {
			defer func() { <-turn }()
			h.ServeHTTP(&a, r)
		}()
		w.Header().Set("Content-Length", strconv.Itoa(a.body.Len()))
		w.WriteHeader(a.code)
		_, _ = w.Write(a.body.Bytes()) // the client may be gone
	})
}

// answer is a http.ResponseWriter that keeps what is written.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
