package qemu

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Output runs a program; its error has the program's name and the last of what it said.
func Output(cmd *exec.Cmd) (string, error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(complaints.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), verb(cmd.Args), err, strings.Join(LastLines(said, 5), "; "))
	}
	return out.String(), nil
}

// verb is the first argument that is a word.
func verb(args []string) string {
	for i, a := range args[1:] {
		if !strings.HasPrefix(a, "-") && !filepath.IsAbs(a) && args[i] != "-c" {
			return a
		}
	}
	return ""
}

// LastLines are the last n of a text, or as many as it has.
func LastLines(s string, n int) []string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}
