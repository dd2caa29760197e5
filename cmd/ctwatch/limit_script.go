package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/recipe"
)

func limitScriptCommand() *cli.Command {
	targets := strings.Join(recipe.Targets(), ", ")
	return &cli.Command{
		Name:  "script",
		Usage: "print what sets the limits on a machine where ctwatch cannot run",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Usage: "`TARGET`: " + targets},
			&cli.StringFlag{Name: "max", DefaultText: "what `ctwatch limit plan` finds for this machine", Usage: "`NUMBER` of entries"},
			bucketsFlag(),
		},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			target := c.String("for")
			if !slices.Contains(recipe.Targets(), target) {
				return usageErrorf("limit script --for %q: it is one of %s", target, targets)
			}
			var entries uint64
			var err error
			if c.IsSet("max") {
				if entries, err = parseLimit("--max", c.String("max"), limits.Most); err != nil {
					return err
				}
				if entries == 0 {
					return usageErrorf("--max 0: 0 is no limit at all, and that is not made to last")
				}
			}
			buckets, err := parseBuckets(c)
			if err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if entries, buckets, err = planned(c.Context, root, entries, buckets); err != nil {
				return explainLimit(err, root)
			}
			script, err := recipe.Script(target, entries, buckets, ownVersion())
			if err != nil {
				return fmt.Errorf("limit script: %w", err)
			}
			_, err = io.WriteString(c.App.Writer, script)
			return err
		},
	}
}
