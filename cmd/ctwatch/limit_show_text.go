package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/record"
	"github.com/ctwatch/ctwatch/internal/remediate"
	"github.com/ctwatch/ctwatch/internal/rival"
)

// text writes it for people, what matters most first.
func (s *limitShow) text(w io.Writer) error {
	p := &paragraphs{w: w}
	s.textLimits(p)
	s.textMemory(p)
	s.textBoot(p)
	s.textDaemon(p)
	for _, n := range s.notices {
		p.add("note", "%s", prose(n))
	}
	if len(s.Files) > 0 {
		s.textFiles(p)
	}
	return p.err
}

func (s *limitShow) textLimits(p *paragraphs) {
	if !s.machine.booted && s.machine.root == "" {
		p.add("limit", "%v", limits.ErrNoProc)
		return
	}
	if !s.machine.booted {
		p.add("limit", "there is no proc here: these are the files of a machine that does not run")
		return
	}
	if !s.Loaded {
		p.add("limit", "conntrack is not loaded: nothing is tracked, and nothing is refused")
		return
	}
	limit := "no limit (nf_conntrack_max is 0)"
	if *s.Live.Max > 0 {
		limit = thousands(s.Live.Max) + " entries in each network namespace"
	}
	if s.Live.Buckets != nil {
		limit += ", " + thousands(s.Live.Buckets) + " buckets for all"
	}
	p.add("limit", "%s", limit)
	tables := s.textTables()
	if s.Unseen > 0 {
		tables = append(tables, fmt.Sprintf("%d that cannot be read", s.Unseen))
	}
	p.add("in use", "%s", strings.Join(tables, ", "))
	if r := s.Twenty; r != nil && r.Over {
		p.add("20 % rule", "over it: %s of the limit is in use. %s would be enough; `ctwatch limit plan` finds a number that memory allows, too",
			percent(&r.Fill), remediate.Thousands(r.Enough))
	} else if r != nil {
		p.add("20 % rule", "kept: %s of the limit is in use", percent(&r.Fill))
	}
}

// textTables says how full the fullest tables are, and what there is to say of the others.
func (s *limitShow) textTables() (tables []string) {
	const most = 4
	for i, t := range s.NetNS {
		if rest := len(s.NetNS) - i; i > 0 && t.Count == 0 {
			return append(tables, "none in "+others(rest))
		} else if i >= most {
			return append(tables, "no more in any of "+others(rest))
		}
		text := thousands(&t.Count) + " in " + t.String()
		if t.Fill != nil {
			text += " (" + percent(t.Fill) + ")"
		}
		tables = append(tables, text)
	}
	return tables
}

func (s *limitShow) textMemory(p *paragraphs) {
	m := s.Memory
	if m.Total == nil {
		return
	}
	how := fmt.Sprintf("%d bytes an entry", *m.PerEntry)
	if !m.Measured {
		how += ", reckoned high"
	}
	if m.Busy > 1 {
		how += fmt.Sprintf(", %d busy namespaces", m.Busy)
	}
	at := ""
	if m.AtMax != nil {
		at = fmt.Sprintf(", %s if full", remediate.Bytes(*m.AtMax))
	}
	p.add("memory", "%s now%s (%s); %s entries are the most that should be allowed, for %s of %s",
		remediate.Bytes(*m.Now), at, how, thousands(m.CapEntries), remediate.Bytes(*m.Cap), remediate.Bytes(*m.Total))
}

func (s *limitShow) textBoot(p *paragraphs) {
	switch {
	case s.Persisted.Max != nil && s.Persisted.Buckets != nil:
		p.add("in files", "%s entries, %s buckets", thousands(s.Persisted.Max), thousands(s.Persisted.Buckets))
	case s.Persisted.Max != nil:
		p.add("in files", "%s entries", thousands(s.Persisted.Max))
	case s.Persisted.Buckets != nil:
		p.add("in files", "%s buckets", thousands(s.Persisted.Buckets))
	case len(s.Files) == 0:
		p.add("in files", "no file sets a limit; `ctwatch limit persist` makes the running one last")
	default:
		p.add("in files", "they disagree, and it is not known which is read last")
	}
	next := "not known"
	if s.NextBoot.Max != nil {
		next = thousands(s.NextBoot.Max) + " entries"
		if s.NextBoot.Buckets != nil {
			next += ", " + thousands(s.NextBoot.Buckets) + " buckets"
		}
	}
	p.add("next boot", "%s: %s", next, prose(s.NextBoot.Why))
}

func (s *limitShow) textDaemon(p *paragraphs) {
	if !s.machine.booted {
		return
	}
	switch d := s.Daemon; {
	case d.Running == nil:
		p.add("daemon", "whether one runs cannot be told (it takes root)")
	case *d.Running && d.PID != "":
		p.add("daemon", "`ctwatch run` is running, pid %s", printable(d.PID))
	case *d.Running:
		p.add("daemon", "`ctwatch run` is running")
	default:
		p.add("daemon", "`ctwatch run` is not running: nobody raises the limit when it is needed")
	}
	shown := 0
	for _, a := range s.Daemon.Actions {
		if a == s.Daemon.Yielded {
			continue
		}
		p.add("", "%s %s", moment(a.Time), deed(a))
		shown++
	}
	if shown > 0 {
		p.add("", "`ctwatch report` tells what it was derived from")
	}
	switch y := s.Daemon.Yielded; {
	case y != nil && s.Daemon.Running != nil && !*s.Daemon.Running:
		p.add("yielded", "at %s: %s", moment(y.Time), prose(y.Why)) // and will not when it is started again
	case y != nil:
		p.add("yields", "since %s: %s", moment(y.Time), prose(y.Why))
	}
	if l := s.Daemon.Changed; l != nil {
		p.add("set by", "%s, last, at %s: %s %s -> %s", changer(l.Writer), moment(l.Time), printable(l.Key), remediate.Thousands(l.From), remediate.Thousands(l.To))
	}
	if s.Paused != nil {
		p.add("paused", "by %s at %s; `ctwatch limit resume` ends it", prose(s.Paused.By), moment(s.Paused.At))
	}
	if l := s.LastSet; l != nil {
		p.add("undo", "`ctwatch limit undo` takes back %s, at %s: %s", prose(l.By), moment(l.Time), l.what())
	}
}

// deed is an action in short: of its reason only what it comes down to.
func deed(a *record.Action) string {
	short := *a
	short.Why = conclusion(a.Why)
	return action(&short)
}

// conclusion is what a derivation comes down to. Of a refusal that is why, not that things are left as they are.
func conclusion(why string) string {
	const step = "; "
	if reasons, _, left := strings.Cut(why, step+"so: leave "); left {
		if i := strings.LastIndex(reasons, step); i >= 0 {
			reasons = reasons[i+len(step):]
		}
		return reasons
	}
	if _, end, derived := strings.Cut(why, step+"so: "); derived {
		return "so: " + end
	}
	return why
}

func (l *lastSet) what() string {
	var parts []string
	if l.Max != nil {
		parts = append(parts, fmt.Sprintf("max %s -> %s", remediate.Thousands(l.Max.From), remediate.Thousands(l.Max.To)))
	}
	if l.Buckets != nil {
		parts = append(parts, fmt.Sprintf("buckets %s -> %s", remediate.Thousands(l.Buckets.From), remediate.Thousands(l.Buckets.To)))
	}
	if len(l.Files) > 0 {
		parts = append(parts, fmt.Sprintf("%d files", len(l.Files)))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// changer names who changed a limit. The words are others'.
func changer(w record.Writer) string {
	if name := rival.Of(w).Name; w.PID != 0 && name != w.Comm {
		return printable(name) + ": " + writer(w)
	}
	return writer(w)
}

// textFiles lists the lines that set a limit, in the order in which they are read.
func (s *limitShow) textFiles(p *paragraphs) {
	p.line("")
	for _, l := range s.Files {
		place := printable(l.File)
		if l.Line > 0 {
			place += ":" + strconv.Itoa(l.Line)
		}
		wins := ""
		if l.Wins {
			wins = "wins"
		}
		p.line("%-*s%-11s %-21s %s", labelWidth, wins, printable(l.Text), shortKey(l.Key), place)
		if l.Note != "" {
			p.add("", "%s", prose(l.Note))
		}
	}
}

// shortKey is the last part of a key, however it is spelled: what tells limits apart.
func shortKey(key string) string { return printable(key[strings.LastIndexAny(key, "./")+1:]) }

func thousands(n *uint64) string {
	if n == nil {
		return "-"
	}
	return remediate.Thousands(*n)
}

func moment(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
