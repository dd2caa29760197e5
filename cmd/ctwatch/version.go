package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker in releases.
var version = ""

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:         "version",
		Usage:        "say which version this is",
		Flags:        []cli.Flag{formatFlag("text", "json")},
		OnUsageError: onUsageError,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			v := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				Arch    string `json:"arch"`
			}{ownVersion(), runtime.Version(), runtime.GOARCH}
			switch f := c.String("format"); f {
			case "json":
				return json.NewEncoder(c.App.Writer).Encode(v)
			case "text":
				_, err := fmt.Fprintf(c.App.Writer, "ctwatch %s %s linux/%s\n", v.Version, v.Go, v.Arch)
				return err
			default:
				return unknownFormat(f, "text", "json")
			}
		},
	}
}

// ownVersion is the release, or what the build knows of its source.
func ownVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
