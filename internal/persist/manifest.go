package persist

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ctwatch/ctwatch/internal/boot"
)

// manifest is a Set on disk: /var/lib/ctwatch/backup/ID/manifest.json, beside the files as they were.
type manifest struct {
	V       int       `json:"v"`
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	By      string    `json:"by"`
	Version string    `json:"version"` // of ctwatch
	Max     Step      `json:"max"`
	Buckets Step      `json:"buckets"`
	State   state     `json:"state"`
	Undone  bool      `json:"undone"`
	Files   []saved   `json:"files"` // in the order in which they were written
}

// state is how far the files of a Set have got.
type state string

const (
	settled state = ""        // all are written, or put back
	writing state = "writing" // some may be as they were
	undoing state = "undoing" // some may be as the Set left them
)

// saved is a file as it was, and what the Set made of it.
type saved struct {
	Path    string `json:"path"`
	Existed bool   `json:"existed"`
	Perm    uint32 `json:"perm,omitempty"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	Label   []byte `json:"label,omitempty"`
	Copy    string `json:"copy,omitempty"`   // name of the copy beside the manifest
	Before  string `json:"before,omitempty"` // SHA-256 of the file as it was
	After   string `json:"after,omitempty"`  // and as the Set made it; "" is no file
	Made    int    `json:"made,omitempty"`   // directories made for it
}

const manifestVersion = 1

var (
	idPattern   = regexp.MustCompile(`^\d{8}T\d{6}Z-(\d{1,9})$`)
	copyPattern = regexp.MustCompile(`^\d{1,2}$`)
	sumPattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// parseManifest reads a manifest, and refuses what ctwatch would not have written.
func parseManifest(data []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	switch {
	case m.V != manifestVersion:
		return nil, fmt.Errorf("it is of version %d, which this ctwatch does not know", m.V)
	case idNumber(m.ID) < 0:
		return nil, fmt.Errorf("its id is %q", m.ID)
	case !slices.Contains([]state{settled, writing, undoing}, m.State):
		return nil, fmt.Errorf("its state is %q", m.State)
	}
	ours := layout(boot.System{}, Limits{})
	for _, f := range m.Files {
		known := slices.ContainsFunc(ours, func(w wanted) bool { return w.path == f.Path })
		switch {
		case !known:
			return nil, fmt.Errorf("%q is no file of ours", f.Path)
		case f.Existed && (!copyPattern.MatchString(f.Copy) || !sumPattern.MatchString(f.Before)),
			f.After != "" && !sumPattern.MatchString(f.After), f.Perm > 0o7777, f.UID < 0, f.GID < 0, f.Made < 0, f.Made > 9:
			return nil, errors.New("what it says of " + f.Path + " cannot be")
		}
	}
	return &m, nil
}

func (m *manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// idNumber is the number at the end of an ID, by which Sets are in order; -1 for what is none.
func idNumber(id string) int {
	part := idPattern.FindStringSubmatch(id)
	if part == nil {
		return -1
	}
	n, err := strconv.Atoi(part[1])
	if err != nil {
		return -1
	}
	return n
}

func (m *manifest) set() *Set {
	s := &Set{ID: m.ID, Time: m.Time, By: m.By, Max: m.Max, Buckets: m.Buckets, CutOff: m.State != settled, Undone: m.Undone}
	for _, f := range m.Files {
		s.Files = append(s.Files, SavedFile{f.Path, f.Existed})
	}
	return s
}

// String names the Set for people.
func (m *manifest) String() string {
	name := "the change of " + m.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	if by := strings.TrimSpace(m.By); by != "" {
		name += " by " + by
	}
	return name
}
