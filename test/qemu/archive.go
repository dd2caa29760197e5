package qemu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// archive is a package archive of the distribution, as this machine is configured to reach it.
type archive struct {
	uri   string
	keys  string // the file of keys it is signed by; empty for those that apt trusts anyway
	label string // Debian or Debian-Security
}

const targetFormat = "$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(CREATED_BY)\t$(REPO_URI)\t$(SIGNED_BY)"

// archives asks apt which archives it knows.
func archives(ctx context.Context) ([]archive, error) {
	out, err := Output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", targetFormat))
	if err != nil {
		return nil, err
	}
	found := parseTargets(out)
	for i := range found {
		// An apt that cannot tell (before 2.9) leaves the word as it is.
		if strings.Contains(found[i].keys, "SIGNED_BY") {
			found[i].keys = ""
		}
		if found[i].keys == "" {
			found[i].keys = firstFile("/usr/share/keyrings/debian-archive-keyring.pgp",
				"/usr/share/keyrings/debian-archive-keyring.gpg")
		}
	}
	return found, nil
}

// parseTargets reads targetFormat: the first of each label counts.
func parseTargets(out string) []archive {
	var found []archive
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 || f[0] != "Debian" || f[2] != "main" || f[3] != "Packages" {
			continue
		}
		if !slices.ContainsFunc(found, func(a archive) bool { return a.label == f[1] }) {
			found = append(found, archive{uri: f[4], label: f[1], keys: f[5]})
		}
	}
	return found
}

func firstFile(names ...string) string {
	for _, name := range names {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return ""
}

// sources is the source list for a suite.
func sources(found []archive, suite string) (string, error) {
	label := "Debian"
	if strings.HasSuffix(suite, "-security") {
		label = "Debian-Security"
	}
	for _, a := range found {
		if a.label != label {
			continue
		}
		options := "target=Packages"
		if a.keys != "" {
			options += " signed-by=" + a.keys
		}
		return fmt.Sprintf("deb [%s] %s %s main\n", options, a.uri, suite), nil
	}
	return "", fmt.Errorf("apt knows no archive of label %s here (or 'apt-get update' never ran)", label)
}
