package persist

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// plan is what is to be done to the files.
type plan struct {
	tree    *tree
	files   []change // those that are there, or will be, in the order in which they are to be written
	notes   []string
	outlook boot.Outlook // as it will be
}

// change is what is to be done to one file.
type change struct {
	path     string
	old, new *content // nil is no file
	missing  int      // how many directories of its path are to be made
}

func (c change) did() string {
	switch {
	case c.new == nil:
		return Removed
	case c.old != nil && bytes.Equal(c.old.data, c.new.data) && c.old.perm == c.new.perm:
		return Unchanged
	}
	return Written
}

// makePlan finds out what is there, and decides what shall be. Zero limits are to remove everything of ours.
func makePlan(t *tree, o Options, l Limits) (*plan, error) {
	system, err := boot.Inspect(t.name)
	if err != nil {
		return nil, err
	}
	found, err := t.lookAll()
	if err != nil {
		return nil, err
	}
	asked := l
	if l.Max != 0 && l.Buckets == 0 {
		l.Buckets = found.buckets()
	}
	p := &plan{tree: t}
	planned := boot.Files{}
	for i, w := range layout(system, l) {
		c, file := found[i], boot.File{}
		if w.shared {
			file, err = c.share(w, o)
		} else {
			err = c.own(w, o)
		}
		if err != nil {
			return nil, err
		}
		if c.old == nil && c.new == nil || w.shared && w.body == "" && c.did() == Unchanged {
			continue
		}
		p.files = append(p.files, c)
		if c.new == nil {
			file.Absent = true
		} else {
			file.Text, file.Executable = string(c.new.data), c.new.perm&0o111 != 0
		}
		planned[w.path] = file
	}
	if l.Max == 0 {
		slices.Reverse(p.files)
	} else {
		p.notes = notes(system, l)
		if err := p.compete(planned, asked, o); err != nil {
			return nil, err
		}
	}
	p.outlook, err = boot.With(t.name, planned)
	return p, err
}

// compete refuses if others would win.
func (p *plan) compete(planned boot.Files, l Limits, o Options) error {
	want := boot.Limits{Max: &l.Max}
	if l.Buckets != 0 {
		want.Buckets = &l.Buckets
	}
	conflicts, err := boot.Conflicts(p.tree.name, planned, want)
	switch {
	case err != nil || len(conflicts) == 0:
		return err
	case !o.Force:
		return &ConflictError{conflicts}
	}
	for _, c := range conflicts {
		p.notes = append(p.notes, "written although another wins: "+c.String())
	}
	return nil
}

// look reads a file, and finds out how many directories there are to be made for it.
func (t *tree) look(name string) (c change, err error) {
	c.path = name
	dir, missing, err := t.nearest(path.Dir(name))
	if err != nil {
		return c, err
	}
	defer dir.Close()
	if c.missing = missing; missing == 0 {
		c.old, err = dir.read(path.Base(name))
	}
	return c, err
}

// nearest opens a directory, or the first above it that is there.
func (t *tree) nearest(name string) (dir *directory, missing int, err error) {
	for {
		dir, err = t.open(name, 0)
		if !errors.Is(err, fs.ErrNotExist) || name == "/" {
			return dir, missing, err
		}
		name = path.Dir(name)
		missing++
	}
}

// own decides on a file that is all ours.
func (c *change) own(w wanted, o Options) error {
	made := c.missing
	if c.old != nil {
		h, _, ok, whole := unseal(c.old.data)
		switch {
		case o.Force:
		case !ok:
			return &EditedError{w.path, "is there, but ctwatch did not write it"}
		case !whole:
			return &EditedError{w.path, "was edited by hand since ctwatch wrote it"}
		}
		made = h.made
		if w.body != "" && sealed(c.old.data, w.body) && c.old.perm == w.perm {
			c.new = c.old
			return nil
		}
	}
	if w.body == "" {
		return nil
	}
	f := fresh(seal(header{version: o.Version, made: made}, w.body), w.perm)
	if c.old != nil {
		f.label = c.old.label
	}
	c.new = &f
	return nil
}

const shebang = "#!/bin/sh\n"

// share decides on a file of others, in which some lines are ours. The file's From and To are those.
func (c *change) share(w wanted, o Options) (file boot.File, err error) {
	f := fresh(nil, w.perm)
	var text string
	if c.old != nil {
		f, text = *c.old, string(c.old.data)
	}
	s := parseShared(text)
	switch {
	case s.broken != "":
		return file, &EditedError{w.path, s.broken}
	case s.found && !s.whole && !o.Force:
		return file, &EditedError{w.path, "has lines of ctwatch that were edited by hand"}
	case w.body == "" && !s.found:
		c.new = c.old
		return file, nil
	case w.body == "":
		if s.block.perm != 0 {
			f.perm = s.block.perm
		}
		f.data = []byte(s.without())
		if c.new = &f; s.block.made && (len(f.data) == 0 || string(f.data) == shebang) {
			c.new = nil
		}
		return file, nil
	}
	if c.old == nil {
		s.block.made = true
		if w.perm&0o111 != 0 {
			s.before = shebang
		}
	}
	if w.perm&0o111 != 0 && f.perm&0o111 == 0 {
		s.block.perm = f.perm
		f.perm |= f.perm & 0o444 >> 2
	}
	version := o.Version
	if s.found && s.whole && s.body == w.body {
		version = s.block.version // unchanged
	}
	f.data = []byte(s.with(version, w.body))
	c.new = &f
	file.From = 1 + strings.Count(string(f.data[:bytes.Index(f.data, []byte("# BEGIN ctwatch"))]), "\n")
	file.To = file.From + 1 + strings.Count(w.body, "\n")
	return file, nil
}

// changes reports whether there is anything to do.
func (p *plan) changes() bool {
	return slices.ContainsFunc(p.files, func(c change) bool { return c.did() != Unchanged })
}

// writable finds out whether all directories can be written to, that of the backups included.
func (p *plan) writable() error {
	names := []string{backups}
	for _, c := range p.files {
		if dir := path.Dir(c.path); c.did() != Unchanged && !slices.Contains(names, dir) {
			names = append(names, dir)
		}
	}
	for _, name := range names {
		dir, _, err := p.tree.nearest(name)
		if err == nil {
			err = errors.Join(dir.writable(), dir.Close())
		}
		if err != nil {
			return p.tree.explain(err)
		}
	}
	return nil
}

// note adds something that the operator should know, if there is anything.
func (p *plan) note(text string) {
	if text != "" {
		p.notes = append(p.notes, text)
	}
}

func (p *plan) result() Result {
	r := Result{Outlook: p.outlook, Notes: p.notes}
	for _, c := range p.files {
		r.Files = append(r.Files, FileChange{c.path, c.did()})
	}
	return r
}
