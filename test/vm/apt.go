package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// goneError says that something is not on the mirror any more.
type goneError struct{ what string }

func (e goneError) Error() string { return e.what + " is not on the mirror" }

// archive is a package archive of the distribution, as this machine is configured to reach it.
type archive struct {
	uri   string
	keys  string // the file of keys it is signed by; empty for those that apt trusts anyway
	label string // Debian or Debian-Security
}

const targetFormat = "$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(CREATED_BY)\t$(REPO_URI)\t$(SIGNED_BY)"

// archives asks apt which archives it knows.
func archives(ctx context.Context) ([]archive, error) {
	out, err := output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", targetFormat))
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

// suite is an apt of its own with one suite, which leaves the machine's alone.
type suite struct {
	name string
	dir  string
}

// openSuite makes it, with fresh lists.
func (c *cache) openSuite(ctx context.Context, name string) (*suite, error) {
	found, err := archives(ctx)
	if err != nil {
		return nil, err
	}
	list, err := sources(found, name)
	if err != nil {
		return nil, err
	}
	s := &suite{name, filepath.Join(c.dir, "apt", name)}
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "sources.list"), []byte(list), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "apt.conf"), []byte(s.config()), 0o644); err != nil {
		return nil, err
	}
	_, err = output(s.apt(ctx, "apt-get", "update", "-qq"))
	if err != nil && (strings.Contains(err.Error(), "have a Release file") || strings.Contains(err.Error(), "404 ")) {
		return nil, goneError{"suite " + name}
	}
	return s, err
}

// config overrides the machine's, whose proxies and the like stay. Its hooks would work on the machine's own lists; and
// the user that apt downloads as could not write here.
func (s *suite) config() string {
	var b strings.Builder
	for _, o := range [][2]string{
		{"Dir::State", filepath.Join(s.dir, "state")},
		{"Dir::State::status", "/dev/null"},
		{"Dir::Cache", filepath.Join(s.dir, "cache")},
		{"Dir::Etc::sourcelist", filepath.Join(s.dir, "sources.list")},
		{"Dir::Etc::sourceparts", "-"},
		{"Dir::Etc::preferences", "-"},
		{"Dir::Etc::preferencesparts", "-"},
		{"Acquire::Languages", "none"},
		{"APT::Architecture", "amd64"},
		{"APT::Architectures", "amd64"},
		{"APT::Sandbox::User", "root"},
		{"APT::Update::Error-Mode", "any"}, // a mirror that cannot be reached is no mirror without the package
	} {
		fmt.Fprintf(&b, "%s \"%s\";\n", o[0], o[1])
	}
	return b.String() + "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
}

func (s *suite) apt(ctx context.Context, tool string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, tool, append([]string{"-c", filepath.Join(s.dir, "apt.conf")}, args...)...)
}

// versions are those of packages in the suite, by name.
func (s *suite) versions(ctx context.Context, names ...string) (map[string][]string, error) {
	out, err := output(s.apt(ctx, "apt-cache", append([]string{"madison"}, names...)...))
	if err != nil {
		return nil, err
	}
	return parseMadison(out), nil
}

func parseMadison(out string) map[string][]string {
	versions := map[string][]string{}
	for line := range strings.Lines(out) {
		if f := strings.Split(line, "|"); len(f) == 3 {
			name := strings.TrimSpace(f[0])
			versions[name] = append(versions[name], strings.TrimSpace(f[1]))
		}
	}
	return versions
}

// download puts a package at path.
func (s *suite) download(ctx context.Context, p pkg, path string) error {
	versions, err := s.versions(ctx, p.name)
	if err != nil {
		return err
	}
	if !slices.Contains(versions[p.name], p.version) {
		return goneError{"package " + p.String()}
	}
	// apt names the file itself.
	dir := path + ".dir"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := s.apt(ctx, "apt-get", "download", "-qq", p.String())
	cmd.Dir = dir
	if _, err := output(cmd); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return errors.Join(err, fmt.Errorf("download %s: %d files came", p, len(debs)))
	}
	return os.Rename(debs[0], path)
}

// output runs a program; its error has the program's name and the last of what it said.
func output(cmd *exec.Cmd) (string, error) {
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.Env = append(cmd.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(complaints.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(cmd.Path), verb(cmd.Args), err, strings.Join(lastLines(said, 5), "; "))
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

func lastLines(s string, n int) []string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}
