package persist

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// repair ends what was cut off: it removes what is left of writes, and puts back the files of a Set that did not get to
// its end. It tells what it found, in words.
func (s *store) repair() (found []string, err error) {
	if found, err = s.clean(); err != nil {
		return nil, err
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(ids) {
		m, err := s.load(id)
		switch {
		case err != nil:
			found = append(found, err.Error())
		case m == nil: // it had not begun
			if err := s.drop(id); err != nil {
				return nil, err
			}
		case m.State != settled:
			told, err := s.end(m)
			if err != nil {
				return nil, err
			}
			found = append(found, told...)
		}
	}
	return found, nil
}

// end puts back the files of a Set that was cut off. A file that somebody else changed since is left alone.
func (s *store) end(m *manifest) (told []string, err error) {
	for _, f := range slices.Backward(m.Files) {
		_, note, err := s.putBack(m.ID, f, false)
		if note != "" {
			told = append(told, note)
		}
		var edited *EditedError
		switch {
		case errors.As(err, &edited):
			told = append(told, fmt.Sprintf("%s was cut off, and %v: it is left as it is", m, err))
		case err != nil:
			return nil, fmt.Errorf("end %s, which was cut off: %w", m, err)
		}
	}
	told = append(told, fmt.Sprintf("%s was cut off: its files were put back", m))
	m.Undone = m.Undone || m.State == undoing
	m.State, m.Files = settled, nil
	if !m.Undone && m.Max == (Step{}) && m.Buckets == (Step{}) {
		return told, s.drop(m.ID) // there is nothing else to undo
	}
	return told, s.save(m)
}

// clean removes what is left of writes that were cut off.
func (s *store) clean() (found []string, err error) {
	dirs := []string{backups}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		dirs = append(dirs, path.Join(backups, id))
	}
	for _, w := range layout(boot.System{}, Limits{}) {
		if dir := path.Dir(w.path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, name := range dirs {
		dir, err := s.tree.open(name, 0)
		var unsafe *UnsafeError
		if errors.Is(err, fs.ErrNotExist) || errors.As(err, &unsafe) {
			continue // nothing of ours is in there
		}
		if err != nil {
			return nil, err
		}
		n, err := dir.clean()
		if err = errors.Join(err, dir.Close()); err != nil {
			return nil, err
		}
		if n > 0 {
			found = append(found, fmt.Sprintf("removed from %s what was left of a write that was cut off", name))
		}
	}
	return found, nil
}

// explain adds to an error that nothing can be written which distribution that is.
func (t *tree) explain(err error) error {
	var readOnly *ReadOnlyError
	if errors.As(err, &readOnly) && readOnly.Distro == "" {
		if system, errSystem := boot.Inspect(t.name); errSystem == nil {
			readOnly.Distro = system.Distro
		}
	}
	return err
}
