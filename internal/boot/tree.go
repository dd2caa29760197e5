package boot

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree reads files below a root. It follows links as a process does whose root that is. Files that are not there are
// empty; the first other failure is kept in err, and what is read afterwards is of no use.
type tree struct {
	root  string
	files Files             // instead of, and beside, what is there
	links map[string]string // where those lead that were looked at; "" is no link
	err   error
}

func newTree(root string, files Files) *tree {
	return &tree{root: filepath.Clean(cmp.Or(root, "/")), files: files, links: map[string]string{}}
}

// link is where a link leads; "" if it is none.
func (t *tree) link(name string) string {
	target, known := t.links[name]
	if !known {
		target, _ = os.Readlink(filepath.Join(t.root, name)) // "" if it fails
		t.links[name] = target
	}
	return target
}

// masked is where links lead that make a file have no effect.
const masked = "/dev/null"

// longest is how much of a file is read. The largest, modules.dep, has a megabyte or two.
const longest = 16 << 20

// resolve follows links until the path has none, which then is one of the machine's. What does not exist is left as it is.
func (t *tree) resolve(name string) (string, error) {
	const maxLinks = 40 // MAXSYMLINKS
	resolved, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		next := path.Join(resolved, rest[0])
		rest = rest[1:]
		target := t.link(next)
		if target == "" {
			resolved = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if path.IsAbs(target) {
			resolved = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return resolved, nil
}

// host is where the machine that ctwatch runs on has the file, and what it is; info is nil where there is none, or where a
// link leads nowhere.
func (t *tree) host(name string) (hostName string, info fs.FileInfo) {
	resolved, err := t.resolve(name)
	if err != nil || resolved == masked {
		return "", nil
	}
	hostName = filepath.Join(t.root, resolved)
	info, err = os.Lstat(hostName)
	t.note(err)
	return hostName, info
}

// planned is the file of t.files that a name leads to.
func (t *tree) planned(name string) (f File, ok bool) {
	resolved, err := t.resolve(name)
	if err != nil {
		return File{}, false
	}
	f, ok = t.files[resolved]
	return f, ok
}

// note keeps the first error that is not the absence of a file.
func (t *tree) note(err error) {
	absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
	if err != nil && !absent && t.err == nil {
		t.err = err
	}
}

func (t *tree) exists(name string) bool {
	if f, ok := t.planned(name); ok {
		return !f.Absent
	}
	_, info := t.host(name)
	return info != nil
}

func (t *tree) executable(name string) bool {
	if f, ok := t.planned(name); ok {
		return f.Executable && !f.Absent
	}
	_, info := t.host(name)
	return info != nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// same reports whether two names lead to one file.
func (t *tree) same(a, b string) bool {
	ra, errA := t.resolve(a)
	rb, errB := t.resolve(b)
	return errA == nil && errB == nil && ra == rb
}

// text is what is in a file. Pipes, devices and directories are empty.
func (t *tree) text(name string) string {
	if f, ok := t.planned(name); ok {
		return f.Text // "" if absent
	}
	hostName, info := t.host(name)
	if info == nil || !info.Mode().IsRegular() {
		return ""
	}
	f, err := os.Open(hostName)
	if err != nil {
		t.note(err)
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, longest+1))
	if err == nil && len(text) > longest {
		err = fmt.Errorf("read %s: more than %d bytes", hostName, longest)
	}
	t.note(err)
	return string(text)
}

// names are the files in a directory: links, too, but no directories.
func (t *tree) names(dir string) []string {
	var names []string
	if hostName, info := t.host(dir); info != nil && info.IsDir() {
		entries, err := os.ReadDir(hostName)
		t.note(err)
		for _, e := range entries {
			if !e.IsDir() {
				names = append(names, e.Name())
			}
		}
	}
	resolved, err := t.resolve(dir)
	if err != nil {
		return names
	}
	for file, f := range t.files {
		if path.Dir(file) != resolved {
			continue
		}
		name := path.Base(file)
		names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		if !f.Absent {
			names = append(names, name)
		}
	}
	return names
}

// directories are those in a directory.
func (t *tree) directories(dir string) (names []string) {
	hostName, info := t.host(dir)
	if info == nil || !info.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(hostName)
	t.note(err)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// glob is which files in a directory have names that match.
func (t *tree) glob(dir, pattern string) []string {
	return slices.DeleteFunc(t.names(dir), func(name string) bool {
		ok, err := path.Match(pattern, name)
		return !ok || err != nil
	})
}

// confDirs are where configuration is looked for, first come, first served. /lib is /usr/lib almost everywhere.
var confDirs = [...]string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"}

// runFirst is the order of procps up to 3.3.16.
var runFirst = [...]string{"/run", "/etc", "/usr/local/lib", "/usr/lib", "/lib"}

// confFiles are the files of a directory such as sysctl.d, in the order of their names, wherever they are. Of those with
// one name the first counts (conf_files_list_strv in systemd; procps and kmod do the same), also if it is a link to
// /dev/null or nowhere.
func (t *tree) confFiles(dir, suffix string) []string {
	return t.confFilesIn(confDirs[:], dir, suffix)
}

func (t *tree) confFilesIn(parents []string, dir, suffix string) []string {
	first := map[string]string{}
	for _, parent := range parents {
		for _, name := range t.names(path.Join(parent, dir)) {
			if _, taken := first[name]; !taken && name[0] != '.' && strings.HasSuffix(name, suffix) {
				first[name] = path.Join(parent, dir, name)
			}
		}
	}
	var files []string
	for _, name := range slices.Sorted(maps.Keys(first)) {
		files = append(files, first[name])
	}
	return files
}

// rcFiles are the files of a directory that the scripts of EL 5 and 6 apply (apply_sysctl in /etc/init.d/functions).
func (t *tree) rcFiles(dir string) []string {
	skipped := []string{"~", ".bak", ".orig", ".rpmnew", ".rpmorig", ".rpmsave"}
	var files []string
	if !t.readsSysctlD() {
		return nil
	}
	for _, name := range t.names(dir) {
		if name[0] != '.' && !slices.ContainsFunc(skipped, func(s string) bool { return strings.HasSuffix(name, s) }) {
			files = append(files, path.Join(dir, name))
		}
	}
	slices.Sort(files)
	return files
}

// readsSysctlD reports whether the scripts of EL 5 and 6 apply /etc/sysctl.d at all: initscripts do since 8.45.37.
func (t *tree) readsSysctlD() bool {
	functions := t.text("/etc/rc.d/init.d/functions")
	return functions == "" || strings.Contains(functions, "/etc/sysctl.d")
}
