package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// inOrder puts flags before arguments, and global flags before the command, for cli stops looking for flags at the
// first argument. People write them in any order. What it does not know it leaves where cli will complain of it.
func inOrder(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	var global, path, flags, rest []string
	commands, known := app.Commands, []cli.Flag(nil)
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if c := command(commands, arg); c != nil && len(rest) == 0 {
				path, commands, known = append(path, arg), c.Subcommands, append(known, c.Flags...)
			} else {
				rest, commands = append(rest, arg), nil
			}
			continue
		}
		to, f := &flags, flag(known, arg)
		if f == nil {
			if f = flag(app.Flags, arg); f != nil {
				to = &global
			} else {
				f = flag(below(commands), arg) // of a command yet to come
			}
		}
		*to = append(*to, arg)
		if takesValue(f) && !strings.Contains(arg, "=") && i+1 < len(args) {
			i++
			*to = append(*to, args[i])
		}
	}
	return slices.Concat(args[:1], global, path, flags, rest)
}

func command(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// below are the flags of commands and of theirs.
func below(commands []*cli.Command) (flags []cli.Flag) {
	for _, c := range commands {
		flags = slices.Concat(flags, c.Flags, below(c.Subcommands))
	}
	return flags
}

func flag(flags []cli.Flag, arg string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
