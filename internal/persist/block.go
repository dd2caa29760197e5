package persist

import (
	"regexp"
	"strconv"
	"strings"
)

// block is our lines in a file of others, between two marks. The first mark says how the file was before.
type block struct {
	version string
	sum     string // SHA-256 of the lines between the marks
	perm    uint32 // what the file had, if it was made executable; 0 if not
	joined  bool   // the file did not end with a newline, and was given one
	made    bool   // the file was made for the block
}

const endMark = "# END ctwatch"

var beginPattern = regexp.MustCompile(`^# BEGIN ctwatch (\S+): do not edit, remove with 'ctwatch limit unpersist'\. sha256=([0-9a-f]{64})(?: was=(0[0-7]{3}))?( joined)?( made)?$`)

func (b block) String() string {
	line := "# BEGIN ctwatch " + fitVersion(b.version) + ": do not edit, remove with 'ctwatch limit unpersist'. sha256=" + b.sum
	if b.perm != 0 {
		line += " was=0" + strconv.FormatUint(uint64(b.perm&0o777|0o1000), 8)[1:]
	}
	if b.joined {
		line += " joined"
	}
	if b.made {
		line += " made"
	}
	return line
}

// shared is a file of others, taken apart.
type shared struct {
	before, after string // their lines
	body          string // ours; "" if there is no block
	block         block
	found         bool
	whole         bool // our lines are as they were written
	broken        string
}

// parseShared takes a file of others apart. broken says why our lines cannot be told from theirs.
func parseShared(text string) (s shared) {
	begin, end, lines := -1, -1, strings.SplitAfter(text, "\n")
	for i, line := range lines {
		switch line := strings.TrimSuffix(line, "\n"); {
		case strings.HasPrefix(line, "# BEGIN ctwatch"):
			if begin >= 0 {
				s.broken = "has two lines # BEGIN ctwatch"
				return s
			}
			begin = i
			part := beginPattern.FindStringSubmatch(line)
			if part == nil {
				continue // edited, and so not whole
			}
			s.block.version, s.block.sum = part[1], part[2]
			perm, _ := strconv.ParseUint(part[3], 8, 32) // "" is 0
			s.block.perm, s.block.joined, s.block.made = uint32(perm), part[4] != "", part[5] != ""
		case line == endMark:
			if begin < 0 || end >= 0 {
				s.broken = "has a line " + endMark + " without a # BEGIN ctwatch before it"
				return s
			}
			end = i
		}
	}
	switch {
	case begin < 0:
		s.before = text
		return s
	case end < 0:
		s.broken = "has a line # BEGIN ctwatch without a " + endMark + " after it"
		return s
	}
	s.found = true
	s.before = strings.Join(lines[:begin], "")
	s.body = strings.Join(lines[begin+1:end], "")
	s.after = strings.Join(lines[end+1:], "")
	s.whole = sum([]byte(s.body)) == s.block.sum
	return s
}

// with is the file with our lines: where they were, else before a final exit, else at the end.
func (s shared) with(version, body string) string {
	b := s.block
	b.version, b.sum = version, sum([]byte(body))
	if !s.found {
		b.joined = false
		s.before, s.after = cutExit(s.before)
		if s.before != "" && !strings.HasSuffix(s.before, "\n") {
			s.before += "\n"
			b.joined = true
		}
	}
	return s.before + b.String() + "\n" + body + endMark + "\n" + s.after
}

// without is the file as it was before our lines came into it.
func (s shared) without() string {
	if s.block.joined && s.after == "" {
		return strings.TrimSuffix(s.before, "\n") + s.after
	}
	return s.before + s.after
}

// cutExit parts a script before its last command, if that is exit: what follows it is not run.
func cutExit(text string) (before, after string) {
	lines := strings.SplitAfter(text, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		switch {
		case line == "" || line[0] == '#':
			continue
		case line == "exit" || strings.HasPrefix(lines[i], "exit "):
			return strings.Join(lines[:i], ""), strings.Join(lines[i:], "")
		}
		break
	}
	return text, ""
}
