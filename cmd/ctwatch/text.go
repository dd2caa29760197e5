package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/conntrack"
	"github.com/ctwatch/ctwatch/internal/record"
)

// textPrinter writes a line for a person when something changed: packets refused, entries evicted, another limit. It
// says what ctwatch did about it, or was kept from doing. On a terminal it also shows the host's fill after each interval.
type textPrinter struct {
	w       io.Writer
	live    bool
	before  map[netnsID]record.NetNS // as last printed
	example map[netnsID]*record.Drop // since then
	verdict map[string]string        // of incidents, by id, as last printed
	missing uint64                   // unattributed, as last printed
	lost    uint64
}

// netnsID tells namespaces apart: the kernel gives an inode number again at once.
type netnsID struct{ inode, cookie uint64 }

func (p *textPrinter) Record(r record.Record) error {
	if p.before == nil {
		p.before, p.example, p.verdict = map[netnsID]record.NetNS{}, map[netnsID]*record.Drop{}, map[string]string{}
	}
	switch r := r.(type) {
	case *record.Start:
		return p.start(r)
	case *record.Drop:
		p.example[netnsID{r.NS, r.Cookie}] = r
		return nil
	case *record.Sample:
		return p.sample(r)
	case *record.Incident:
		return p.incident(r)
	case *record.Action:
		return p.line(&r.Envelope, "%s", action(r))
	case *record.Limit:
		return p.line(&r.Envelope, "%s %d -> %d by %s", r.Key, r.From, r.To, writer(r.Writer))
	case *record.Gap:
		return p.line(&r.Envelope, "gap: %s, from %s to %s", r.Why, r.From.Local().Format("15:04:05"), r.To.Local().Format("15:04:05"))
	case *record.Stop:
		text := fmt.Sprintf("stopped: %d refused%s, %d evicted", r.Totals.Total(), byCause(r.Totals, conntrack.Drops{}), r.Evicted)
		if r.Unattributed > 0 {
			text += fmt.Sprintf(", %d more unattributed", r.Unattributed)
		}
		return p.line(&r.Envelope, "%s", text)
	}
	return nil
}

func (p *textPrinter) line(e *record.Envelope, format string, args ...any) error {
	_, err := fmt.Fprintf(p.w, "%s %s\n", e.Time.Local().Format("15:04:05"), fmt.Sprintf(format, args...))
	return err
}

func (p *textPrinter) start(r *record.Start) error {
	if r.Probe == "" {
		return p.line(&r.Envelope, "waiting for conntrack to be loaded")
	}
	hooks := ""
	if len(r.Hooks) > 0 {
		hooks = " on " + strings.Join(r.Hooks, ", ")
	}
	if err := p.line(&r.Envelope, "counting with probe %s%s; max %d, buckets %d", r.Probe, hooks, r.Max, r.Buckets); err != nil {
		return err
	}
	for _, s := range r.Skipped {
		if err := p.line(&r.Envelope, "passed over probe %s: %s", s.Probe, s.Why); err != nil {
			return err
		}
	}
	return nil
}

func (p *textPrinter) sample(r *record.Sample) error {
	said := false
	for _, n := range r.NetNS {
		text := p.change(n)
		if text != "" {
			said = true
			if err := p.line(&r.Envelope, "%s", text); err != nil {
				return err
			}
		}
		id := netnsID{n.NS, n.Cookie}
		p.before[id] = n
		delete(p.example, id)
		if n.Gone {
			delete(p.before, id)
		}
	}
	if r.Unattributed != p.missing {
		said = true
		if err := p.line(&r.Envelope, "unattributed: the kernel refused %d packets that the program did not see", r.Unattributed); err != nil {
			return err
		}
		p.missing = r.Unattributed
	}
	if r.Lost != p.lost {
		if err := p.line(&r.Envelope, "%d samples of refused packets lost; the counts are complete", r.Lost); err != nil {
			return err
		}
		p.lost = r.Lost
	}
	if p.live && !said {
		return p.calm(r)
	}
	return nil
}

// change is what to say of a namespace, "" if nothing happened but a few entries more or less.
func (p *textPrinter) change(n record.NetNS) string {
	id := netnsID{n.NS, n.Cookie}
	before := p.before[id]
	var parts []string
	if d := n.Drops.Total() - before.Drops.Total(); d > 0 {
		parts = append(parts, fmt.Sprintf("+%d refused%s", d, byCause(n.Drops, before.Drops)))
	}
	if d := n.Evicted - before.Evicted; d > 0 {
		parts = append(parts, fmt.Sprintf("+%d evicted", d))
	}
	if len(parts) == 0 {
		return ""
	}
	text := fill(n) + "  " + strings.Join(parts, ", ")
	if n.Gone {
		text += ", namespace is gone"
	}
	if d := p.example[id]; d != nil {
		text += "  e.g. " + packet(d)
	}
	return text
}

// incident says that one opened or closed, and what it was as soon as that is known, or seen in another light.
func (p *textPrinter) incident(r *record.Incident) error {
	where := netnsName(r.Name, r.NS)
	switch {
	case r.Phase == record.PhaseOpen:
		return p.line(&r.Envelope, "incident %s opened: %s in %s", r.ID, r.Cause, where)
	case r.Phase == record.PhaseClose:
		delete(p.verdict, r.ID)
		text := fmt.Sprintf("incident %s closed: %s in %s, %d refused and %d evicted over %v", r.ID, r.Cause, where, r.Drops.Total(), r.Evicted,
			time.Duration(r.Duration).Round(time.Millisecond))
		if r.LoggedLines != nil {
			text += fmt.Sprintf("; lines in the kernel log: %d", *r.LoggedLines)
		}
		return p.line(&r.Envelope, "%s", text)
	case r.VerdictKind != p.verdict[r.ID]:
		p.verdict[r.ID] = r.VerdictKind
		return p.line(&r.Envelope, "incident %s: %s", r.ID, r.Verdict)
	}
	return nil
}

// action says what ctwatch did, or was kept from doing, how soon, and why.
func action(r *record.Action) string {
	what := map[string]string{
		record.ActionRaiseMax: "raise " + conntrack.KeyMax, record.ActionRaiseBuckets: "raise " + conntrack.KeyBuckets,
		record.ActionPersist: "write the limit for the next boots", record.ActionUndo: "take the last change back", record.ActionHook: "run the hook",
	}[r.What]
	if what == "" {
		what = printable(r.What)
	}
	if r.Result == record.ResultYielded && r.To < r.From {
		what = strings.TrimPrefix(what, "raise ") // it was lowered
	}
	switch {
	case r.From > 0 && r.To > 0 && r.From != r.To:
		what += fmt.Sprintf(" %d -> %d", r.From, r.To)
	case r.From > 0 || r.To > 0:
		what += fmt.Sprintf(" (%d)", max(r.From, r.To))
	}
	if r.NS > 0 {
		what += " for " + netnsName(r.Name, r.NS)
	}
	text := strings.ReplaceAll(printable(r.Result), "_", " ") + ": " + what
	if d := time.Duration(r.Latency); d > 0 && (r.Result == record.ResultApplied || r.Result == record.ResultFailed) {
		text += fmt.Sprintf(", after %v", d.Round(time.Microsecond))
	}
	if r.Why != "" {
		text += ": " + prose(r.Why)
	}
	return text
}

// prose is a text of our own that may hold others' words: what could trouble a terminal is escaped.
func prose(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
	}
	return b.String()
}

// writer names who changed a limit. The words are others'.
func writer(w record.Writer) string {
	if w.PID == 0 {
		return "somebody who was not seen"
	}
	text := fmt.Sprintf("%s (pid %d", printable(w.Comm), w.PID)
	if w.Unit != "" {
		text += ", " + printable(w.Unit)
	}
	return text + ")"
}

// fill says how full a table is, where that could be read.
func fill(n record.NetNS) string {
	name := netnsName(n.Name, n.NS)
	if n.Count == nil {
		return name
	}
	return fmt.Sprintf("%s %s/%s %s", name, number(n.Count), number(n.Max), percent(n.Fill))
}

// calm shows that we are still there.
func (p *textPrinter) calm(r *record.Sample) error {
	for _, n := range p.before {
		if n.Host {
			return p.line(&r.Envelope, "%s", fill(n))
		}
	}
	return nil
}

// byCause lists what was added since before: " (table_full 3, clash 1)".
func byCause(now, before conntrack.Drops) string {
	var parts []string
	for i := range now {
		if d := now[i] - before[i]; d > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", conntrack.Cause(i), d))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// packet writes a refused packet in one glance.
func packet(d *record.Drop) string {
	text := fmt.Sprintf("%s %s > %s", d.Proto, endpoint(d.Src, d.Sport), endpoint(d.Dst, d.Dport))
	switch d.Proto {
	case "icmp", "icmpv6":
		text = fmt.Sprintf("%s type %d %s > %s", d.Proto, d.Dport>>8, d.Src, d.Dst)
	}
	if d.Ifname != "" {
		text += " on " + printable(d.Ifname)
	}
	return text + " (" + d.Hook + ")"
}

func endpoint(addr string, port uint16) string {
	if port == 0 {
		return addr
	}
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	return fmt.Sprintf("%s:%d", addr, port)
}
