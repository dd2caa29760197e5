package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// console is what a guest's console says about its tests.
type console struct {
	release  string // of the kernel; empty until the guest runs
	tests    []*test
	binaries []*binary
	done     bool
	last     string // the test that began last
	panic    string // what the kernel said when it died

	binary  *binary
	current *test // whose output comes
}

// binary is a test binary that was run.
type binary struct {
	name   string
	ended  bool
	status int
	tests  int // that told their outcome, subtests too
}

// test is a test or subtest.
type test struct {
	binary, name string
	outcome      outcome
	seconds      float64
	log          []string
	attrs        map[string]string
}

type outcome string

const (
	passed  outcome = "PASS"
	failed  outcome = "FAIL"
	skipped outcome = "SKIP"
)

var (
	stateLine  = regexp.MustCompile(`^=== (RUN|CONT|NAME|PAUSE|ATTR) +(\S+)(?: (\S+) (.*))?$`)
	resultLine = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)$`)
)

// logMost is how many lines of a test are kept: enough for a failure, not for what a runaway test prints.
const logMost = 200

// mark precedes what package testing says of tests, even within a line (-test.v=test2json).
const mark = "\x16"

// line takes the next line.
func (c *console) line(line string) {
	for part := range strings.SplitSeq(strings.TrimRight(line, "\r\n"), mark) {
		c.part(part)
	}
}

func (c *console) part(line string) {
	// The kernel may have begun the line.
	if _, rest, ok := strings.Cut(line, "vm: "); ok && c.marker(rest) {
		return
	}
	if _, why, ok := strings.Cut(line, "Kernel panic - "); ok && c.panic == "" {
		c.panic = why
	}
	if c.binary == nil {
		return
	}
	if m := resultLine.FindStringSubmatch(line); m != nil {
		t := c.test(m[2])
		t.outcome = outcome(m[1])
		t.seconds, _ = strconv.ParseFloat(m[3], 64)
		c.binary.tests++
		// What a parent has to say after this comes below a line of its own.
		c.current = t
		return
	}
	if m := stateLine.FindStringSubmatch(line); m != nil {
		t := c.test(m[2])
		switch m[1] {
		case "ATTR":
			t.attrs[m[3]] = m[4]
			return
		case "RUN":
			c.last = m[2]
		}
		c.current = t
		return
	}
	if line == "PASS" || line == "FAIL" || strings.TrimRight(line, " ") == "=== NAME" {
		c.current = nil
		return
	}
	if c.current != nil && line != "" && len(c.current.log) < logMost {
		c.current.log = append(c.current.log, line)
	}
}

// marker takes a line of guest.sh.
func (c *console) marker(s string) bool {
	f := strings.Fields(s)
	switch {
	case len(f) == 2 && f[0] == "kernel":
		c.release = f[1]
	case len(f) == 2 && f[0] == "begin":
		c.binary, c.current = &binary{name: f[1]}, nil
		c.binaries = append(c.binaries, c.binary)
	case len(f) == 3 && f[0] == "end" && c.binary != nil:
		c.binary.ended = true
		c.binary.status, _ = strconv.Atoi(f[2])
		c.binary, c.current = nil, nil
	case s == "done":
		c.done = true
	default:
		return false
	}
	return true
}

// test finds the running binary's test of this name, or makes it.
func (c *console) test(name string) *test {
	// The one asked for is mostly a recent one.
	for _, t := range slices.Backward(c.tests) {
		if t.binary == c.binary.name && t.name == name {
			return t
		}
	}
	t := &test{binary: c.binary.name, name: name, attrs: map[string]string{}}
	c.tests = append(c.tests, t)
	return t
}

// of lists the tests of an outcome. One with subtests is listed only if it failed without one of them; one without an
// outcome, when the binary or the machine died, has failed.
func (c *console) of(want outcome) []*test {
	var list []*test
	for _, t := range c.tests {
		if t.is() != want {
			continue
		}
		parent := slices.ContainsFunc(c.tests, func(o *test) bool {
			return o.binary == t.binary && strings.HasPrefix(o.name, t.name+"/") && (want != failed || o.is() == failed)
		})
		if !parent {
			list = append(list, t)
		}
	}
	return list
}

func (t *test) is() outcome {
	if t.outcome == "" {
		return failed
	}
	return t.outcome
}

// reason is the last thing a test said.
func (t *test) reason() string {
	for _, l := range slices.Backward(t.log) {
		if l = strings.TrimSpace(l); l != "" {
			// Without the place in the source: it moves.
			if _, said, ok := strings.Cut(l, ": "); ok && sourcePlace.MatchString(l) {
				return said
			}
			return l
		}
	}
	return ""
}

var sourcePlace = regexp.MustCompile(`^\S+\.go:[0-9]+: `)
