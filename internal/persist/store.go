package persist

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"
)

// store is the directory of the backups, locked.
type store struct {
	o    Options
	tree *tree
	dir  *directory
}

const (
	backups      = "/var/lib/ctwatch/backup"
	manifestName = "manifest.json"
	kept         = 20 // Sets; older ones are removed
)

// openStore opens the backups, makes their directory if there is none, and waits until nobody else changes anything.
func openStore(o Options) (s *store, err error) {
	t, err := openTree(o.kernel(), o.Root)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(t.explain(err), t.Close())
		}
	}()
	above, err := t.open(path.Dir(backups), 0o755)
	if err != nil {
		return nil, err
	}
	if err := above.Close(); err != nil {
		return nil, err
	}
	dir, err := t.open(backups, 0o700)
	if err != nil {
		return nil, err
	}
	if err := t.disk.Flock(dir.fd); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", backups, err), dir.Close())
	}
	return &store{o, t, dir}, nil
}

// lookStore looks at the backups without making or locking anything. Without a directory there is ErrNothing.
func lookStore(o Options, look func(*store) error) error {
	t, err := openTree(o.kernel(), o.Root)
	if err != nil {
		return err
	}
	defer t.Close()
	dir, err := t.open(backups, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNothing
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return look(&store{o, t, dir})
}

// Close gives the lock back.
func (s *store) Close() error { return errors.Join(s.dir.Close(), s.tree.Close()) }

// ids are the Sets there are, the oldest first.
func (s *store) ids() ([]string, error) {
	names, err := s.tree.disk.ReadDir(s.dir.fd)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", backups, err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return idNumber(n) < 0 })
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(idNumber(a), idNumber(b)), cmp.Compare(a, b)) })
	return names, nil
}

// begin keeps a new Set on disk.
func (s *store) begin(set Set) (*manifest, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	number := 1
	if len(ids) > 0 {
		number = idNumber(ids[len(ids)-1]) + 1
	}
	now := s.o.Time
	if now.IsZero() {
		now = time.Now()
	}
	now = now.UTC()
	m := &manifest{
		V: manifestVersion, ID: fmt.Sprintf("%s-%d", now.Format("20060102T150405Z"), number), Time: now,
		By: cmp.Or(set.By, s.o.By), Version: s.o.Version, Max: set.Max, Buckets: set.Buckets,
	}
	if err := s.save(m); err != nil {
		return nil, errors.Join(err, s.dropIfThere(m.ID))
	}
	return m, nil
}

// dropIfThere removes what is left of a Set that did not begin.
func (s *store) dropIfThere(id string) error {
	if err := s.drop(id); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// open opens the directory of a Set. perm 0 makes none.
func (s *store) open(id string, perm uint32) (*directory, error) {
	name := path.Join(backups, id)
	fd, err := s.tree.disk.Openat(s.dir.fd, id, openDir, 0)
	if errors.Is(err, fs.ErrNotExist) && perm != 0 {
		fd, err = s.tree.make(s.dir.fd, id, perm)
	}
	if err != nil {
		return nil, s.tree.failed("open", name, err)
	}
	if err := s.tree.ours(fd, name); err != nil {
		return nil, errors.Join(err, s.tree.disk.Close(fd))
	}
	return &directory{tree: s.tree, fd: fd, name: name}, nil
}

// save writes a manifest.
func (s *store) save(m *manifest) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	return s.keep(m.ID, manifestName, data)
}

// keep writes a file beside a manifest.
func (s *store) keep(id, name string, data []byte) error {
	dir, err := s.open(id, 0o700)
	if err != nil {
		return err
	}
	_, err = dir.replace(name, fresh(data, 0o600))
	return errors.Join(err, dir.Close())
}

// load reads a manifest; it is nil if it was not written to the end of the Set's beginning.
func (s *store) load(id string) (*manifest, error) {
	data, err := s.read(id, manifestName)
	if err != nil || data == nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err == nil && m.ID != id {
		err = fmt.Errorf("its id is %s", m.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s/%s/%s: %w (remove the directory to go on without it)", backups, id, manifestName, err)
	}
	return m, nil
}

func (s *store) read(id, name string) ([]byte, error) {
	dir, err := s.open(id, 0)
	if err != nil {
		return nil, err
	}
	c, err := dir.read(name)
	if err = errors.Join(err, dir.Close()); err != nil || c == nil {
		return nil, err
	}
	return c.data, nil
}

// last is the newest Set that was not undone.
func (s *store) last() (*manifest, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Backward(ids) {
		m, err := s.load(id)
		if err != nil {
			return nil, err
		}
		if m != nil && !m.Undone {
			return m, nil
		}
	}
	return nil, ErrNothing
}

// drop removes a Set.
func (s *store) drop(id string) error {
	dir, err := s.open(id, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := s.tree.disk.ReadDir(dir.fd)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir.name, err)
	}
	// The manifest first: without it nobody takes what is left for a Set.
	if i := slices.Index(names, manifestName); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	for _, name := range names {
		if err := dir.remove(name); err != nil {
			return err
		}
	}
	if err := s.tree.disk.Rmdirat(s.dir.fd, id); err != nil {
		return s.tree.failed("remove", dir.name, err)
	}
	return nil
}

// prune removes the oldest Sets. That it could not is no reason to stop: it is told in words.
func (s *store) prune() (notes []string) {
	ids, err := s.ids()
	for ; err == nil && len(ids) > kept; ids = ids[1:] {
		err = s.drop(ids[0])
	}
	if err != nil {
		notes = append(notes, fmt.Sprintf("old backups could not be removed: %v", err))
	}
	return notes
}
