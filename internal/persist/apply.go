package persist

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// apply does what is planned as part of a Set. If anything fails, all files are as they were.
func (s *store) apply(m *manifest, p *plan) error {
	todo := slices.DeleteFunc(slices.Clone(p.files), func(c change) bool { return c.did() == Unchanged })
	if err := s.copyOld(m, todo); err != nil {
		m.Files, m.State = nil, settled
		return err
	}
	err := s.write(p, todo)
	if err == nil {
		for _, c := range todo {
			p.note(s.tidy(c))
		}
		m.State = settled
		if err = s.save(m); err == nil {
			return nil
		}
	}
	m.State = writing
	for _, f := range slices.Backward(m.Files) {
		if _, _, errBack := s.putBack(m.ID, f, false); errBack != nil {
			return errors.Join(err, fmt.Errorf("put %s back, which the next limit command tries again: %w", f.Path, errBack))
		}
	}
	m.Files, m.State = nil, settled
	return errors.Join(err, s.save(m))
}

// copyOld keeps the files as they are, and notes what will become of them.
func (s *store) copyOld(m *manifest, todo []change) error {
	for i, c := range todo {
		f := saved{Path: c.path, Made: c.missing}
		if c.new != nil {
			f.After = sum(c.new.data)
		}
		if c.old != nil {
			f.Existed, f.Copy, f.Before = true, strconv.Itoa(i), sum(c.old.data)
			f.Perm, f.UID, f.GID, f.Label = c.old.perm, c.old.uid, c.old.gid, c.old.label
			if err := s.keep(m.ID, f.Copy, c.old.data); err != nil {
				return err
			}
		}
		m.Files = append(m.Files, f)
	}
	m.State = writing
	return s.save(m)
}

// write writes and removes files, one after the other.
func (s *store) write(p *plan, todo []change) error {
	for _, c := range todo {
		perm := uint32(0)
		if c.new != nil {
			perm = 0o755
		}
		dir, err := s.tree.open(path.Dir(c.path), perm)
		if err != nil {
			return err
		}
		var note string
		if c.new != nil {
			note, err = dir.replace(path.Base(c.path), *c.new)
		} else {
			err = dir.remove(path.Base(c.path))
		}
		if err = errors.Join(err, dir.Close()); err != nil {
			return err
		}
		if note != "" {
			p.note(c.path + ": " + note)
		}
	}
	return nil
}

// tidy removes the directories that were made for a file that was removed.
func (s *store) tidy(c change) (note string) {
	if c.new != nil || c.old == nil {
		return ""
	}
	h, _, _, _ := unseal(c.old.data)
	return s.tree.removeMade(path.Dir(c.path), h.made)
}

// putBack makes a file what it was before a Set changed it. It refuses a file that is neither that nor what the Set made
// of it, unless it is forced.
func (s *store) putBack(id string, f saved, force bool) (did, note string, err error) {
	c, err := s.tree.look(f.Path)
	if err != nil {
		return "", "", err
	}
	now := ""
	if c.old != nil {
		now = sum(c.old.data)
	}
	switch {
	case !f.Existed && c.old == nil:
		return Unchanged, s.tree.removeMade(path.Dir(f.Path), f.Made), nil
	case f.Existed && now == f.Before && c.old.perm == f.Perm:
		return Unchanged, "", nil
	case now != f.After && now != f.Before && !force:
		return "", "", &EditedError{f.Path, "was changed by somebody else since"}
	}
	perm := uint32(0)
	var old []byte
	if f.Existed {
		perm = 0o755
		if old, err = s.read(id, f.Copy); err != nil {
			return "", "", err
		}
		if sum(old) != f.Before {
			return "", "", fmt.Errorf("put %s back: its copy %s/%s/%s is not what was kept there", f.Path, backups, id, f.Copy)
		}
	}
	dir, err := s.tree.open(path.Dir(f.Path), perm)
	if err != nil {
		return "", "", err
	}
	if f.Existed {
		note, err = dir.replace(path.Base(f.Path), content{data: old, perm: f.Perm, uid: f.UID, gid: f.GID, label: f.Label})
		return Written, note, errors.Join(err, dir.Close())
	}
	err = dir.remove(path.Base(f.Path))
	if err = errors.Join(err, dir.Close()); err == nil {
		note = s.tree.removeMade(path.Dir(f.Path), f.Made)
	}
	return Removed, note, err
}

// undo puts the files of a Set back.
func (s *store) undo(m *manifest) (r Result, err error) {
	for _, f := range m.Files {
		c, err := s.tree.look(f.Path)
		if err != nil {
			return r, err
		}
		now := ""
		if c.old != nil {
			now = sum(c.old.data)
		}
		if now != f.After && now != f.Before && !s.o.Force {
			return r, &EditedError{f.Path, "was changed by somebody else since"}
		}
	}
	if len(m.Files) > 0 {
		m.State = undoing
		if err := s.save(m); err != nil {
			return r, err
		}
	}
	for _, f := range slices.Backward(m.Files) {
		did, note, err := s.putBack(m.ID, f, s.o.Force)
		if err != nil {
			return r, fmt.Errorf("undo %s, which the next limit command goes on with: %w", m.ID, err)
		}
		r.Files = append(r.Files, FileChange{f.Path, did})
		if note != "" {
			r.Notes = append(r.Notes, note)
		}
	}
	m.State, m.Undone = settled, true
	if err := s.save(m); err != nil {
		m.State, m.Undone = undoing, false // whichever is on the disk now, it is to be this
		return r, errors.Join(err, s.save(m))
	}
	r.Outlook, err = boot.Read(s.tree.name)
	return r, err
}

// outcome is the Result of what was done.
func (s *store) outcome(p *plan, found []string) (r Result, err error) {
	r = p.result()
	r.Notes = slices.Concat(found, r.Notes)
	r.Outlook, err = boot.Read(s.tree.name)
	return r, err
}

// forget drops a Set of which nothing was done, if nothing is left to be put back.
func (s *store) forget(m *manifest) error {
	if m.State != settled {
		return nil
	}
	return s.drop(m.ID)
}
