package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/record"
)

// shownPackets is how many refused packets are shown in an act.
const shownPackets = 3

// audience hears what a ctwatch tells, and says some of it. It is to be asked after the ctwatch has ended.
type audience struct {
	packets  int
	stop     *record.Stop
	incident *record.Incident // the last that was closed
	applied  int              // actions that changed a limit
	declined int              // actions that did not, as ctwatch decided
	told     []string         // reasons that have been said
}

func (a *audience) hear(r record.Record) {
	switch r := r.(type) {
	case *record.Drop:
		if a.packets++; a.packets <= shownPackets {
			say("a refused packet: %s %s -> %s, cause %s, in %s on %s (%s)", r.Proto, r.Src, r.Dst, r.Cause, r.Name, r.Ifname, r.Hook)
		}
	case *record.Incident:
		switch r.Phase {
		case record.PhaseOpen:
			say("incident %s: %s in %s", r.ID, r.Cause, r.Name)
		case record.PhaseClose:
			a.incident = r
		}
	case *record.Action:
		a.action(r)
	case *record.Stop:
		a.stop = r
	}
}

func (a *audience) action(r *record.Action) {
	switch r.Result {
	case record.ResultApplied:
		a.applied++
		say("ctwatch: %s, %d to %d, within %v, because", r.What, r.From, r.To, time.Duration(r.Latency).Round(time.Microsecond))
	case record.ResultRefused:
		a.declined++
		if slices.Contains(a.told, r.Why) {
			return
		}
		say("ctwatch: no %s, because", r.What)
	default:
		say("ctwatch: %s %s, because", r.What, r.Result)
	}
	a.told = append(a.told, r.Why)
	quote(r.Why)
}

// quote shows what ctwatch gives as its reasons, a line each.
func quote(reasons string) {
	for reason := range strings.SplitSeq(reasons, "; ") {
		fmt.Printf("        %s\n", reason)
	}
}

func say(format string, args ...any) {
	fmt.Printf("demo: "+format+"\n", args...)
}
