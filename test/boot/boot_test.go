// Package boot tests, in machines with a real systemd, that limits survive a reboot, and that files are read as systemd
// and procps read them.
package boot

import (
	"flag"
	"testing"
)

var (
	boots = flag.Bool("boot", false, "boot machines (make test-boot)")
	suite = flag.String("suite", "trixie", "Debian's release that the machines run: trixie, bookworm or bullseye")
	kills = flag.Int("kills", 5, "how often to cut the power while limits are persisted")
)

func TestBoot(t *testing.T) {
	if !*boots {
		t.Skip("boots machines: make test-boot")
	}
	w := openWorkshop(t, *suite)
	for _, scenario := range []struct {
		name string
		run  func(*machine)
	}{
		{"survives", survives},
		{"lost", lost},
		{"conflicts", conflicts},
		{"power cuts", powerCuts},
		{"remediated", remediated},
	} {
		t.Run(scenario.name, func(t *testing.T) { scenario.run(w.machine(t)) })
	}
}
