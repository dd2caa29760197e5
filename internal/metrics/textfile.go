package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/prometheus/common/expfmt"
)

// WriteTextfile writes the metrics for the textfile collector of node_exporter, which reads the files of its directory
// whose names end in .prom. A reader finds the old file or the new one, never half of it. Metrics of our own process are
// left out: they have the names of node_exporter's.
func (s *State) WriteTextfile(path string) error {
	text, err := s.text()
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	defer dir.Close()
	if err := replace(dir, filepath.Base(path), text); err != nil {
		return fmt.Errorf("write metrics to %s: %w", path, err)
	}
	return nil
}

// text is the metrics in Prometheus' text format.
func (s *State) text() ([]byte, error) {
	families, err := s.registry.Gather()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// replace puts a file in the place of another. It is not synced: after a crash of the machine nobody needs it.
func replace(dir *os.Root, name string, text []byte) error {
	// Not .prom, or it would be read. What a killed run left is in the way; O_EXCL follows no link that another put there.
	temporary := "." + name + ".new"
	if err := dir.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close()) // whatever the umask: node_exporter is another user
	if err == nil {
		err = dir.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(temporary))
	}
	return nil
}
