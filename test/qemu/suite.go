package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// GoneError says that something is not on the mirror any more.
type GoneError struct{ What string }

func (e GoneError) Error() string { return e.What + " is not on the mirror" }

// suite is an apt of its own with one suite, which leaves the machine's alone.
type suite struct {
	name string
	dir  string
}

// openSuite makes it, with fresh lists.
func (c *Cache) openSuite(ctx context.Context, name string) (*suite, error) {
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
	_, err = Output(s.apt(ctx, "apt-get", "update", "-qq"))
	if err != nil && (strings.Contains(err.Error(), "have a Release file") || strings.Contains(err.Error(), "404 ")) {
		return nil, GoneError{"suite " + name}
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
	out, err := Output(s.apt(ctx, "apt-cache", append([]string{"madison"}, names...)...))
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
func (s *suite) download(ctx context.Context, p Package, path string) error {
	versions, err := s.versions(ctx, p.Name)
	if err != nil {
		return err
	}
	if !slices.Contains(versions[p.Name], p.Version) {
		return GoneError{"package " + p.String()}
	}
	// apt names the file itself.
	dir := path + ".dir"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := s.apt(ctx, "apt-get", "download", "-qq", p.String())
	cmd.Dir = dir
	if _, err := Output(cmd); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return errors.Join(err, fmt.Errorf("download %s: %d files came", p, len(debs)))
	}
	return os.Rename(debs[0], path)
}

// downloadAll puts packages and all that they need into a directory: the newest that the suite has.
func (s *suite) downloadAll(ctx context.Context, names []string, dir string) (debs []string, err error) {
	if err := os.MkdirAll(filepath.Join(dir, "partial"), 0o755); err != nil {
		return nil, err
	}
	args := []string{"install", "-qq", "--yes", "--download-only", "--no-install-recommends", "-o", "Dir::Cache::archives=" + dir}
	if _, err := Output(s.apt(ctx, "apt-get", append(args, names...)...)); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(dir, "*.deb"))
}
