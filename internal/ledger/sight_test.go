package ledger

import "testing"

func TestSight(t *testing.T) {
	type look struct {
		unattributed, refusals, runs uint64
		want                         Doubt
	}
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"calm", []look{{0, 0, 0, Clear}, {0, 0, 0, Clear}}},
		{"all seen", []look{{0, 10, 0, Clear}, {0, 20, 0, Clear}}},
		{"refused elsewhere, but the program runs", []look{{0, 0, 0, Clear}, {5, 0, 0, Unsure}, {9, 0, 70, Clear}, {12, 0, 70, Unsure}, {15, 0, 75, Clear}}},
		{"refused elsewhere, and here too", []look{{5, 1, 0, Clear}, {9, 2, 0, Clear}}},
		{"blind", []look{{0, 0, 0, Clear}, {5, 0, 0, Unsure}, {9, 0, 0, Blind}, {9, 0, 0, Clear}}},
		{"blind, but nothing was refused while runs were counted", []look{{5, 0, 0, Unsure}, {5, 0, 0, Unsure}, {7, 0, 0, Blind}}},
		{"a doubt that passes", []look{{5, 0, 0, Unsure}, {5, 0, 3, Clear}, {5, 0, 3, Clear}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Sight
			for i, l := range c.looks {
				if got := s.Look(l.unattributed, l.refusals, l.runs); got != l.want {
					t.Fatalf("look %d: %v, want %v", i, got, l.want)
				}
			}
		})
	}
}
