package boot

import (
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
	root string
	err  error
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
		target, err := os.Readlink(filepath.Join(t.root, next))
		if err != nil {
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

// note keeps the first error that is not the absence of a file.
func (t *tree) note(err error) {
	absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
	if err != nil && !absent && t.err == nil {
		t.err = err
	}
}

func (t *tree) exists(name string) bool {
	_, info := t.host(name)
	return info != nil
}

func (t *tree) executable(name string) bool {
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
	hostName, info := t.host(dir)
	if info == nil || !info.IsDir() {
		return nil
	}
	entries, err := os.ReadDir(hostName)
	t.note(err)
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
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

// confFiles are the files of a directory such as sysctl.d, in the order of their names, wherever they are. Of those with
// one name the first counts (conf_files_list_strv in systemd; procps and kmod do the same), also if it is a link to
// /dev/null or nowhere.
func (t *tree) confFiles(dir, suffix string) []string {
	first := map[string]string{}
	for _, parent := range confDirs {
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
	for _, name := range t.names(dir) {
		if name[0] != '.' && !slices.ContainsFunc(skipped, func(s string) bool { return strings.HasSuffix(name, s) }) {
			files = append(files, path.Join(dir, name))
		}
	}
	slices.Sort(files)
	return files
}
