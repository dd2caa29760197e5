package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/boot"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

func limitPlanCommand() *cli.Command {
	return &cli.Command{
		Name:         "plan",
		Usage:        "find limits for the highest peak of the last days, and say how; nothing is changed",
		Flags:        []cli.Flag{formatFlag("table", "json")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			asJSON, err := tableOrJSON(c)
			if err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			p, err := planLimits(c.Context, root, time.Now())
			if err != nil {
				return explainLimit(err, root)
			}
			if asJSON {
				return json.NewEncoder(c.App.Writer).Encode(p)
			}
			return p.text(c.App.Writer)
		},
	}
}

// limitPlan is which limits a machine needs, and why.
type limitPlan struct {
	Max      uint64     `json:"max"`
	Buckets  uint64     `json:"buckets"` // 0 where their number is not known
	Why      string     `json:"why"`
	Cap      uint64     `json:"cap"`    // the most entries that memory allows
	Cost     uint64     `json:"cost"`   // bytes, at max
	Capped   bool       `json:"capped"` // it would be more but for memory
	Peak     *peak      `json:"peak"`   // what it is planned for
	From     string     `json:"from"`   // where the peak is from: journal or now
	Live     liveLimits `json:"live"`
	Floods   []string   `json:"floods"`   // incidents that do not count
	Commands []string   `json:"commands"` // that apply it; none where nothing is to be done

	machine *machine
	unread  bool // the journal
	notices []string
}

const (
	fromJournal = "journal"
	fromNow     = "now"
)

func planLimits(ctx context.Context, root string, now time.Time) (*limitPlan, error) {
	m, err := lookAtMachine(root)
	if err != nil {
		return nil, err
	}
	if m.noMem != nil {
		return nil, impossibleError{"there is no plan without knowing the memory: " + m.noMem.Error(),
			"`ctwatch limit persist 524288` and `ctwatch limit script --for TARGET --max 524288` take a number"}
	}
	if !m.loaded {
		m.assume()
	}
	p := &limitPlan{machine: m, Floods: []string{}, Commands: []string{}, From: fromNow}
	recorded, floods, err := readPeak(ctx, root, now)
	if p.unread = err != nil; p.unread {
		p.notices = append(p.notices, fmt.Sprintf("peaks of the last 7 days are not known: %v", err))
	}
	for _, f := range floods {
		p.Floods = append(p.Floods, f.id)
	}
	if t := m.fullest(); m.loaded {
		p.Live.Max = &m.state.Max
		if m.state.Buckets > 0 {
			p.Live.Buckets = &m.state.Buckets
		}
		p.Peak = &peak{Count: t.Count, Time: now, NS: t.NS, Name: t.Name}
	}
	usage := m.usage(0)
	if f := p.flooded(floods); f != nil {
		p.notices = append(p.notices, fmt.Sprintf("a flood fills %s now (incident %s): what it holds does not count, for more room would be filled, too",
			netnsName(f.name, f.ns), prose(f.id)))
		p.Peak, usage.Peak = nil, 0
	}
	if recorded != nil && (p.Peak == nil || recorded.Count > p.Peak.Count) {
		p.Peak, p.From = recorded, fromJournal
	}
	if p.Peak != nil {
		usage.Peak = p.Peak.Count
	}
	plan := remediate.DefaultPolicy().Plan(usage, m.memory)
	p.Max, p.Buckets, p.Why, p.Cap, p.Cost, p.Capped = plan.Max, plan.Buckets, plan.Why, plan.Cap, plan.Cost, plan.Capped
	p.command()
	return p, nil
}

// assume takes for the limits of a conntrack that is not loaded those it would begin with.
func (m *machine) assume() {
	m.state.Max = 1
	b, err := boot.Read(m.root)
	if err != nil {
		return
	}
	if b.NextBoot.Max != nil {
		m.state.Max = max(*b.NextBoot.Max, 1)
	}
	if b.NextBoot.Buckets != nil {
		m.state.Buckets = *b.NextBoot.Buckets
	}
}

// flooded is the flood that goes on in the fullest table.
func (p *limitPlan) flooded(floods []flood) *flood {
	for i, f := range floods {
		if f.until.IsZero() && f.ns == p.machine.fullest().NS {
			return &floods[i]
		}
	}
	return nil
}

// command fills in what applies the plan.
func (p *limitPlan) command() {
	m := p.machine
	if m.state.Max == 0 || p.Max <= m.state.Max && p.Buckets <= m.state.Buckets {
		return
	}
	words := []string{"ctwatch"}
	if m.root != "" {
		words = append(words, "--root", m.root)
	}
	do := "set"
	if !m.loaded {
		do = "persist"
	}
	words = append(words, "limit", do, strconv.FormatUint(p.Max, 10))
	if p.Buckets > m.state.Buckets {
		words = append(words, "--buckets", strconv.FormatUint(p.Buckets, 10))
	}
	if m.loaded {
		words = append(words, "--persist")
	}
	p.Commands = append(p.Commands, strings.Join(words, " "))
}

func (p *limitPlan) text(w io.Writer) error {
	out := &paragraphs{w: w}
	m := p.machine
	buckets := ""
	if p.Buckets > 0 {
		buckets = fmt.Sprintf(", %s buckets", remediate.Thousands(p.Buckets))
	}
	switch {
	case m.loaded && m.state.Max == 0:
		out.add("plan", "none: there is no limit now (nf_conntrack_max is 0)")
	case m.loaded && len(p.Commands) == 0:
		out.add("plan", "leave it: %s entries%s", remediate.Thousands(p.Max), buckets)
	default:
		out.add("plan", "%s entries%s", remediate.Thousands(p.Max), buckets)
	}
	out.add("because", "%s", p.Why)
	switch {
	case p.Peak != nil && p.unread:
		out.add("peak", "%s entries in %s, now", remediate.Thousands(p.Peak.Count), netnsName(p.Peak.Name, p.Peak.NS))
	case p.Peak == nil && !m.loaded:
		out.add("peak", "none: conntrack is not loaded, and the journal of the last 7 days tells of none")
	case p.Peak == nil:
		out.add("peak", "the journal of the last 7 days tells of none but in floods")
	case p.From == fromNow:
		out.add("peak", "%s entries in %s, now: the journal of the last 7 days tells of no more", remediate.Thousands(p.Peak.Count), netnsName(p.Peak.Name, p.Peak.NS))
	default:
		text := fmt.Sprintf("%s entries in %s at %s", remediate.Thousands(p.Peak.Count), netnsName(p.Peak.Name, p.Peak.NS), moment(p.Peak.Time))
		if p.Peak.Incident != "" {
			text += fmt.Sprintf("; `ctwatch report --incident %s` tells of it", prose(p.Peak.Incident))
		}
		out.add("peak", "%s", text)
	}
	if n := len(p.Floods); n > 0 {
		out.add("floods", "%d of the last 7 days do not count: what a flood fills is no need", n)
	}
	for _, n := range p.notices {
		out.add("note", "%s", prose(n))
	}
	p.textCommands(out)
	return out.err
}

func (p *limitPlan) textCommands(out *paragraphs) {
	if len(p.Commands) == 0 {
		return
	}
	m := p.machine
	if m.loaded {
		out.line("\nTo apply it, and to have it after a reboot, too:\n")
	} else {
		out.line("\nTo have it as soon as conntrack is loaded:\n")
	}
	for _, c := range p.Commands {
		out.line("    %s", c)
	}
	if m.loaded {
		out.line("\nor by hand, until the next boot:\n")
		out.line("    echo %d >%s", p.Max, m.state.MaxFile)
		if p.Buckets > m.state.Buckets && m.state.BucketsFile != "" {
			out.line("    echo %d >%s", p.Buckets, m.state.BucketsFile)
		}
	}
}

// planned is the plan's limits for a script, or those that were asked for.
func planned(ctx context.Context, root string, asked, buckets uint64) (uint64, uint64, error) {
	if asked == 0 {
		p, err := planLimits(ctx, root, time.Now())
		if err != nil {
			return 0, 0, err
		}
		asked = p.Max
	}
	if asked == 0 || asked > limits.Most {
		return 0, 0, impossibleError{"there is no limit here (nf_conntrack_max is 0), so there is none to plan with", "give one: --max 524288"}
	}
	if buckets == 0 {
		buckets = remediate.BucketsFor(asked)
	}
	return asked, buckets, nil
}
