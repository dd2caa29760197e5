package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/hook"
	"github.com/ctwatch/ctwatch/internal/remediate"
)

// policyFlags are those of commands that find a limit by themselves.
func policyFlags() []cli.Flag {
	p := remediate.DefaultPolicy()
	return []cli.Flag{
		&cli.Uint64Flag{Name: "max-limit", EnvVars: environment("max-limit"), Usage: "never raise nf_conntrack_max over `N` entries; 0 leaves it to memory"},
		&cli.Float64Flag{Name: "memory-fraction", Value: p.MemoryFraction, EnvVars: environment("memory-fraction"), Usage: "part of all memory that new entries may take at most"},
	}
}

func remediationFlags() []cli.Flag {
	modes := make([]string, 0, 3)
	for _, m := range remediate.Modes() {
		modes = append(modes, string(m))
	}
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "remediate", Value: string(remediate.Off), EnvVars: environment("remediate"),
			Usage: strings.Join(modes, ", ") + ": raise nf_conntrack_max before packets are lost, or record what would be done"},
		&cli.Float64Flag{Name: "raise-at", Value: remediate.DefaultPolicy().RaiseAt, EnvVars: environment("raise-at"),
			Usage: "fill of a table, 0 to 1, from which its growth is answered"},
	}, policyFlags(), []cli.Flag{
		&cli.BoolFlag{Name: "persist", EnvVars: environment("persist"), Usage: "write files, so that a raised limit survives a reboot"},
		&cli.StringFlag{Name: "hook", EnvVars: environment("hook"), Usage: "run the program at `PATH` for incidents and actions, with the record on its standard input"},
	})
}

// remediation is what the flags ask for.
func remediation(c *cli.Context) (o remediate.Options, err error) {
	o.Mode = remediate.Mode(c.String("remediate"))
	if o.Mode == "" {
		o.Mode = remediate.Off
	}
	if !slices.Contains(remediate.Modes(), o.Mode) {
		return o, usageErrorf("--remediate %q: it is off, dry-run or on", o.Mode)
	}
	o.Policy, err = policy(c)
	return o, err
}

// policy is what the flags make of the default one.
func policy(c *cli.Context) (remediate.Policy, error) {
	p := remediate.DefaultPolicy()
	if c.IsSet("raise-at") {
		p.RaiseAt = c.Float64("raise-at")
	}
	p.MaxLimit, p.MemoryFraction = c.Uint64("max-limit"), c.Float64("memory-fraction")
	var wrong *remediate.FieldError
	if err := p.Check(); errors.As(err, &wrong) {
		flag := map[string]string{"RaiseAt": "raise-at", "MaxLimit": "max-limit", "MemoryFraction": "memory-fraction"}[wrong.Field]
		return p, usageErrorf("--%s %v: %s", flag, wrong.Value, wrong.Want)
	}
	return p, nil
}

// openHook opens what --hook names; nil if nothing.
func openHook(c *cli.Context) (*hook.Hook, error) {
	path := c.String("hook")
	if path == "" {
		return nil, nil
	}
	h, err := hook.Open(hook.Options{Path: path})
	if err != nil {
		return nil, usageErrorf("--hook: %v", err)
	}
	return h, nil
}
