package conntrack

import "testing"

func TestCounterSet(t *testing.T) {
	tests := map[CounterSet]string{
		knownNone:                            "",
		1<<CounterDrop | 1<<CounterEarlyDrop: "drop,early_drop",
		knownAll:                             "found,invalid,insert,insert_failed,drop,early_drop,error,search_restart,clash_resolve,chaintoolong",
	}
	for set, want := range tests {
		if got := set.String(); got != want {
			t.Errorf("%d: %q, want %q", set, got, want)
		}
	}
}

func TestStringOfUnknown(t *testing.T) {
	if got := Counter(99).String(); got != "counter(99)" {
		t.Errorf("counter: %q", got)
	}
	if got := Source(0).String(); got != "none" {
		t.Errorf("source: %q", got)
	}
}
