package conntrack

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// errNoCounters: the text is not a table of conntrack statistics.
var errNoCounters = errors.New("no column of a known counter")

// columnCounter maps the column names of ct_cpu_seq_show (net/netfilter/nf_conntrack_standalone.c). A name is all that
// can be relied on: the third column was "new" and the second "searched" until 5.10 made it "clashres", the eighth
// "delete_list" until 5.15 made it "chainlength". prometheus/procfs goes by position (ConntrackStat), so that its
// Searched is clash_resolve on today's kernels, its DeleteList is chaintoolong, and icmp_error is dropped: hence
// this parser.
func columnCounter(name string) (Counter, bool) {
	switch name {
	case "found":
		return CounterFound, true
	case "invalid":
		return CounterInvalid, true
	case "insert":
		return CounterInsert, true
	case "insert_failed":
		return CounterInsertFailed, true
	case "drop":
		return CounterDrop, true
	case "early_drop":
		return CounterEarlyDrop, true
	case "icmp_error":
		return CounterError, true
	case "search_restart":
		return CounterSearchRestart, true
	case "clashres":
		return CounterClashResolve, true
	case "chainlength":
		return CounterChainTooLong, true
	}
	return 0, false
}

// parseProcStat reads the text of /proc/net/stat/nf_conntrack: a header, then a line of hexadecimal numbers for each
// possible CPU. The entries column is the namespace's count, said again on every line. Columns that we do not know
// are passed over, columns after the header's last are not looked at.
func parseProcStat(text []byte, s *Snapshot) error {
	header, rest, _ := bytes.Cut(text, []byte("\n"))
	const unknown = -1
	var columns []int
	entries := unknown
	for i, name := range bytes.Fields(header) {
		columns = append(columns, unknown)
		if c, ok := columnCounter(string(name)); ok {
			columns[i] = int(c)
			s.Known.add(c)
		} else if string(name) == "entries" {
			entries = i
		}
	}
	if s.Known == 0 || entries == unknown {
		return fmt.Errorf("line 1: %w", errNoCounters)
	}
	for line := 2; len(rest) > 0; line++ {
		var row []byte
		row, rest, _ = bytes.Cut(rest, []byte("\n"))
		fields := bytes.Fields(row)
		if len(fields) < len(columns) {
			return fmt.Errorf("line %d: %d of %d columns", line, len(fields), len(columns))
		}
		cpu := s.cpu(line - 2)
		for i, column := range columns {
			if column == unknown && i != entries {
				continue
			}
			v, err := strconv.ParseUint(string(fields[i]), 16, 32)
			if err != nil {
				return fmt.Errorf("line %d: column %d: %w", line, i+1, err)
			}
			if i == entries {
				s.Count = v
			} else {
				cpu[column] = uint32(v)
			}
		}
	}
	if len(s.CPU) == 0 {
		return errors.New("line 2: missing")
	}
	return nil
}
