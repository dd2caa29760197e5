package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/control"
)

func limitPauseCommand() *cli.Command {
	return limitControl("pause", "keep `ctwatch run` from setting limits, until resume or the next boot", func(root, by string) (string, error) {
		s, err := control.Read(root)
		if err == nil && s.Paused != nil {
			return fmt.Sprintf("paused already, by %s at %s", prose(s.Paused.By), moment(s.Paused.At)), nil
		}
		return "paused: `ctwatch run` sets no limit until `ctwatch limit resume`, or the next boot", control.Pause(root, control.Paused{At: time.Now(), By: by})
	})
}

func limitResumeCommand() *cli.Command {
	return limitControl("resume", "end a pause, and what `ctwatch run` yielded to others", func(root, _ string) (string, error) {
		return "resumed: `ctwatch run --remediate on` sets limits again when they are needed", control.Resume(root, time.Now())
	})
}

// limitControl is a command that tells a daemon something, whether or not one runs.
func limitControl(name, usage string, tell func(root, by string) (said string, err error)) *cli.Command {
	return &cli.Command{
		Name:         name,
		Usage:        usage,
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			root, err := absoluteRoot(c)
			if err != nil {
				return err
			}
			if err := needRoot(root, "limit "+name); err != nil {
				return err
			}
			release, err := control.Lock(root)
			if err != nil {
				return explainLimit(err, root)
			}
			defer release()
			said, err := tell(root, operator())
			if err != nil {
				return explainLimit(err, root)
			}
			if running, _ := daemonRuns(root); running != nil && !*running {
				said += "; none runs now"
			}
			_, err = fmt.Fprintln(c.App.Writer, said)
			return err
		},
	}
}
