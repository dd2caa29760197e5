package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

func formatFlag(formats ...string) cli.Flag {
	return &cli.StringFlag{Name: "format", Value: formats[0], Usage: strings.Join(formats, ", ")}
}

func unknownFormat(format string, formats ...string) error {
	return usageErrorf("--format %q: it is one of %s", format, strings.Join(formats, ", "))
}

// netnsName is what a person calls a network namespace. Names are others' text: whatever could trouble a terminal is
// quoted.
func netnsName(name string, inode uint64) string {
	if name == "" {
		return fmt.Sprintf("net:[%d]", inode)
	}
	return printable(name)
}

func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.Contains(s, " ") {
		return q
	}
	return s
}

// percent writes a share for people.
func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**share)
}

// number writes a count for people, - where there is none.
func number(n *uint64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatUint(*n, 10)
}
