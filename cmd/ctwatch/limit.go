package main

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ctwatch/ctwatch/internal/limits"
	"github.com/ctwatch/ctwatch/internal/persist"
)

func limitCommand() *cli.Command {
	return &cli.Command{
		Name:         "limit",
		Usage:        "show, plan, set and keep the limits of connection tracking",
		OnUsageError: onUsageError,
		Subcommands: []*cli.Command{
			limitShowCommand(), limitPlanCommand(), limitSetCommand(), limitPersistCommand(), limitUnpersistCommand(),
			limitUndoCommand(), limitPauseCommand(), limitResumeCommand(), limitScriptCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageErrorf("limit: no command %q", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

// Flags that several of the commands have.
func forceFlag(usage string) cli.Flag { return &cli.BoolFlag{Name: "force", Usage: usage} }

func bucketsFlag() cli.Flag {
	return &cli.StringFlag{Name: "buckets", Usage: "`NUMBER` of buckets of the hash table, too"}
}

// tableOrJSON reads --format.
func tableOrJSON(c *cli.Context) (json bool, err error) {
	formats := []string{"table", "json"}
	format := c.String("format")
	if !slices.Contains(formats, format) {
		return false, unknownFormat(format, formats...)
	}
	return format == "json", nil
}

// negative is how cli complains of an argument such as -5, which it takes for a flag.
var negative = regexp.MustCompile(`not defined: (-\d.*)$`)

func onNumberUsageError(c *cli.Context, err error, isSub bool) error {
	if m := negative.FindStringSubmatch(err.Error()); m != nil {
		return badNumber(commandName(c), m[1])
	}
	return onUsageError(c, err, isSub)
}

func badNumber(what, text string) error {
	return usageErrorf("%s %s: it is a number in digits alone, such as 524288", what, strconv.Quote(text))
}

// parseLimit reads a number; what is what it is given for, most what the kernel takes.
func parseLimit(what, text string, most uint64) (uint64, error) {
	digits := text != "" && strings.Trim(text, "0123456789") == ""
	if !digits {
		return 0, badNumber(what, text)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most {
		return 0, usageErrorf("%s %s: the kernel takes %d at most", what, text, most)
	}
	return n, nil
}

// parseBuckets reads --buckets; 0 is that it was not given.
func parseBuckets(c *cli.Context) (uint64, error) {
	if !c.IsSet("buckets") {
		return 0, nil
	}
	n, err := parseLimit("--buckets", c.String("buckets"), limits.MostBuckets)
	if err == nil && n == 0 {
		err = usageErrorf("--buckets 0: there is at least one")
	}
	return n, err
}

// limitArgument reads N, which is the only argument. given is whether there is one.
func limitArgument(c *cli.Context, needed bool) (n uint64, given bool, err error) {
	name := commandName(c)
	switch {
	case c.Args().Len() > 1:
		return 0, false, usageErrorf("%s: unexpected argument %q", name, c.Args().Get(1))
	case c.Args().Len() == 0 && needed:
		return 0, false, usageErrorf("%s: how many entries? Such as %s 524288; `ctwatch limit plan` finds a number", name, name)
	case c.Args().Len() == 0:
		return 0, false, nil
	}
	n, err = parseLimit(name, c.Args().First(), limits.Most)
	return n, true, err
}

// absoluteRoot returns --root as an absolute path; "" is the machine's own. There need be no proc below it: the files of an
// image can be changed all the same.
func absoluteRoot(c *cli.Context) (string, error) {
	root := c.String("root")
	if root == "" {
		return "", nil
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		return "", impossibleError{"there is no directory " + root, "--root is where the machine's files are: an image, a chroot, a mounted disk"}
	}
	if root == "/" {
		root = ""
	}
	return root, nil
}

// needRoot refuses whom the kernel would refuse after something was done already.
func needRoot(root, what string) error {
	if root == "" && os.Geteuid() != 0 {
		return hintedError{errors.New(what + " takes root"), "run it as root, such as with sudo"}
	}
	return nil
}

// persistOptions are how files are written.
func persistOptions(c *cli.Context, root string, force bool) persist.Options {
	return persist.Options{Root: root, Version: ownVersion(), Force: force, By: commandName(c) + " by " + operator()}
}

// operator is who runs a command, for people: nothing to decide by.
func operator() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		name = "uid " + strconv.Itoa(os.Getuid())
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return name
}

func osRelease(root string) string {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		text, err := os.ReadFile(filepath.Join("/", root, name))
		if err == nil {
			return string(text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return ""
}
