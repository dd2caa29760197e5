package journal

import (
	"errors"
	"testing"
	"time"
)

// TestHealth: a disk that comes and goes is told of twice a minute at most, and never left as failing when it is not.
func TestHealth(t *testing.T) {
	var h health
	full := errors.New("full")
	said := 0
	last := ""
	for s := range 3600 {
		err := full
		if s%4 >= 2 {
			err = nil
		}
		if text := h.update(err, noon.Add(time.Duration(s)*time.Second), 7); text != "" {
			said++
			last = text
		}
	}
	if said != 120 {
		t.Errorf("%d notices in an hour, want 120", said)
	}
	if want := "the journal is written again after 2s; 7 records are lost since the start"; last != want {
		t.Errorf("the last one is %q, want %q", last, want)
	}
	if text := h.update(full, noon.Add(2*time.Hour), 7); text != "the journal is not complete: full" {
		t.Errorf("it says %q", text)
	}
	for range 1000 {
		if text := h.update(full, noon.Add(3*time.Hour), 7); text != "" {
			t.Errorf("it says again %q", text)
		}
	}
}
