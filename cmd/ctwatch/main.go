// Command ctwatch counts the packets that Linux connection tracking refuses, and says where and why.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/control"
	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/loader"
)

// Exit codes, the same for every command.
const (
	exitDone       = 0
	exitFailed     = 1
	exitUsage      = 2  // wrong usage or configuration
	exitImpossible = 3  // not possible on this machine
	exitRunning    = 75 // another instance runs (EX_TEMPFAIL)
)

func main() {
	// A reader that goes away is a write error like any other, not a signal that kills. Ignored it would be by hooks, too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills, should the end be held up
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for its process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, inOrder(app, args))
	if err == nil || errors.Is(err, syscall.EPIPE) {
		return exitDone
	}
	code, hint := explain(err)
	fmt.Fprintf(stderr, "ctwatch: %v\n", err)
	if hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return code
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:                 "ctwatch",
		Usage:                "counts every packet that connection tracking refuses, and says where and why",
		HideVersion:          true,
		EnableBashCompletion: true,
		Writer:               stdout,
		ErrWriter:            stderr,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "log-level", Value: "info", EnvVars: []string{"CTWATCH_LOG_LEVEL"}, Usage: "debug, info, warn or error"},
			&cli.StringFlag{Name: "log-format", Value: "text", EnvVars: []string{"CTWATCH_LOG_FORMAT"}, Usage: "text or json"},
			&cli.StringFlag{Name: "config", EnvVars: []string{"CTWATCH_CONFIG"}, Hidden: true},
			&cli.StringFlag{Name: "root", EnvVars: []string{"CTWATCH_ROOT"}, Usage: "read and write below `DIR` instead of /: proc, sys, etc, var, run"},
		},
		Commands:     []*cli.Command{runCommand(), reportCommand(), statusCommand(), limitCommand(), versionCommand()},
		OnUsageError: onUsageError,
		Before: func(c *cli.Context) error {
			if file := c.String("config"); file != "" {
				return notBuilt("config", file)
			}
			return nil
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run prints errors, once
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageErrorf("no command %q", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
}

// usageError is wrong usage: exit code 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usageErrorf(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err.Error()} }

// impossibleError is what cannot be done on this machine, or not yet: exit code 3.
type impossibleError struct{ text, hint string }

func (e impossibleError) Error() string { return e.text }

// explain says how to exit after an error, and what its reader could do.
func explain(err error) (code int, hint string) {
	var usage usageError
	var impossible impossibleError
	var unavailable *loader.UnavailableError
	var running runningError
	var hinted hintedError
	var unwritable *limits.UnwritableError
	switch {
	case errors.As(err, &usage):
		return exitUsage, "ctwatch help [command] shows the commands and flags"
	case errors.As(err, &impossible):
		return exitImpossible, impossible.hint
	case errors.As(err, &unavailable):
		return exitImpossible, fmt.Sprintf("%s works on this machine: --probe %s, or leave the choice to --probe auto",
			unavailable.Works, unavailable.Works)
	case errors.As(err, &hinted):
		return exitFailed, hinted.hint
	case errors.As(err, &unwritable): // of a run that was to raise it
		return explain(explainLimit(unwritable, ""))
	case errors.Is(err, control.ErrBusy):
		return exitRunning, "try again when it has ended"
	case errors.As(err, &running):
		return exitRunning, "only one instance can run; `ctwatch status` can look beside it"
	}
	return exitFailed, ""
}

// newLogger makes the logger that the global flags ask for. Logs go to standard error, results to standard output.
func newLogger(c *cli.Context) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usageErrorf("--log-level %q: it is debug, info, warn or error", c.String("log-level"))
	}
	o := &slog.HandlerOptions{Level: level}
	switch format := c.String("log-format"); format {
	case "text":
		return slog.New(slog.NewTextHandler(c.App.ErrWriter, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.App.ErrWriter, o)), nil
	default:
		return nil, usageErrorf("--log-format %q: it is text or json", format)
	}
}

// noArguments is for commands that take none.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageErrorf("%s: unexpected argument %q", commandName(c), c.Args().First())
	}
	return nil
}

// commandName is the command as it is typed after ctwatch: "limit set".
func commandName(c *cli.Context) string {
	return strings.TrimPrefix(c.Command.HelpName, c.App.Name+" ")
}

// checkRoot returns --root as an absolute path, and refuses one, or a machine, without a proc to read.
func checkRoot(c *cli.Context) (string, error) {
	root := c.String("root")
	if root != "" {
		var err error
		if root, err = filepath.Abs(root); err != nil {
			return "", err
		}
	}
	if info, err := os.Stat(root + "/proc/sys/net"); err != nil || !info.IsDir() {
		return "", impossibleError{"there is no directory " + root + "/proc/sys/net", "is proc mounted there?"}
	}
	return root, nil
}
