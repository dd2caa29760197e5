// Package boot finds out what limits the machine's files give at the next boot.
package boot

import (
	"fmt"
	"os"
	"slices"
)

// Outlook is what the files of a machine do to the limits of conntrack.
type Outlook struct {
	// Persisted is what the files set, whether or not it comes into effect; nil where none does, or where they disagree
	// and nobody knows which is read last.
	Persisted Limits
	// NextBoot is what will hold after the next boot, when conntrack is loaded; nil where that cannot be known. What
	// programs set later, when they start (kube-proxy, tuned), is not in it.
	NextBoot Limits
	// Why is in words how NextBoot comes about, or why it is not known.
	Why string
	// Begins is what conntrack begins with when it is loaded, before any file is applied, as far as that is known.
	Begins Limits
	// Files are the lines that set a limit, in the order in which their files are read.
	Files []Line
}

// Files are files as they would be, by their names on the machine: With and Conflicts take them for what is there.
type Files map[string]File

// File is a file of Files.
type File struct {
	Text       string
	Executable bool
	Absent     bool // it would not be there
	// From and To are the first and the last line of those that Conflicts is to hold for ours; 0 is all.
	From, To int
}

// has reports whether a place is in one of the files, in lines that are ours.
func (f Files) has(p place) bool {
	file, ok := f[p.file]
	return ok && (file.To == 0 || p.line >= file.From && p.line <= file.To)
}

// Limits are the limits that files can set; nil is not set, or not known.
type Limits struct {
	Max     *uint64 // entries that each namespace may hold; 0 is no limit (kernels before 7.0)
	Buckets *uint64 // of the hash table
}

// Line is a line of a file that sets a limit.
type Line struct {
	File  string // as the machine names it, without the root it was read below
	Line  int    // from 1; 0 for the kernel's command line
	Key   string // as it is written there; hashsize for the option of the module
	Value string
	Wins  bool   // it is what Persisted comes from
	Note  string // why it sets nothing, if so
}

// Read reads the files below root ("" is the machine's own) and changes nothing. It takes for granted that the same
// kernel is booted again. It fails if there is a file that may not be read: what it sets is then unknown.
func Read(root string) (Outlook, error) { return With(root, nil) }

// With is Read with some files as they would be.
func With(root string, files Files) (Outlook, error) {
	in, err := read(root, files)
	if err != nil {
		return Outlook{}, err
	}
	return decide(in), nil
}

func read(root string, files Files) (inputs, error) {
	t := newTree(root, files)
	in := readInputs(t)
	if t.err != nil {
		return in, fmt.Errorf("read limits of the next boot: %w", t.err)
	}
	return in, nil
}

// inputs are what decide needs to know of a machine.
type inputs struct {
	applier  applier
	kernel   kernel
	memTotal uint64 // bytes; 0 is unknown
	pageSize uint64

	sysctlD    [][]assignment // by file, in the order in which they are read
	sysctlConf []assignment   // of /etc/sysctl.conf
	ufw        []assignment   // of ufw's file, if ufw is enabled
	scripts    []script       // rc.local
	module     module
	unclear    []unclear

	// runFirst is sysctlD in the order of a program that has files of /run go before those of /etc, if there may be one.
	runFirst        [][]assignment
	runFirstProgram string
}

// place is where something is written.
type place struct {
	file string
	line int
}

func (p place) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// readInputs reads what there is. What cannot be read is in t.err.
func readInputs(t *tree) inputs {
	in := inputs{
		applier:  readApplier(t),
		kernel:   readKernel(t),
		memTotal: parseMemTotal(t.text("/proc/meminfo")),
		pageSize: pageSize(),
	}
	in.sysctlConf = t.assignments(sysctlConf)
	files := t.confFiles("sysctl.d", ".conf")
	if in.applier == appliedByRC {
		files = t.rcFiles("/etc/sysctl.d")
	}
	in.sysctlD = t.all(files)
	if program, is := readsRunFirst(t); is && in.applier != appliedByRC {
		in.runFirst, in.runFirstProgram = t.all(t.confFilesIn(runFirst[:], "sysctl.d", ".conf")), program
	}
	if ufwEnabled(t.text("/etc/ufw/ufw.conf")) {
		file := ufwSysctl(t.text("/etc/default/ufw"))
		in.ufw = parseSysctl(file, t.text(file))
	}
	in.module, in.unclear = readModule(t, in.kernel, in.applier)
	reader := scriptReader{
		module: in.kernel.module(),
		conf:   t.assignments,
		system: func() [][]assignment { return append(slices.Clone(in.sysctlD), in.sysctlConf) },
	}
	for _, file := range []string{"/etc/rc.d/rc.local", "/etc/rc.local"} {
		if !t.executable(file) || file == "/etc/rc.local" && t.same(file, "/etc/rc.d/rc.local") {
			continue
		}
		reader.file = file
		s, others := reader.read(t.text(file))
		in.unclear = append(in.unclear, others...)
		if len(s.writes) > 0 {
			in.scripts = append(in.scripts, s)
		}
	}
	return in
}

func pageSize() uint64 { return uint64(os.Getpagesize()) }

// sysctlConf is the old file: first, last, or not read at all, as the system is.
const sysctlConf = "/etc/sysctl.conf"

// assignments are the lines of a file that set limits. 99-sysctl.conf is /etc/sysctl.conf where there is that link.
func (t *tree) assignments(file string) []assignment {
	if file != sysctlConf && t.same(file, sysctlConf) {
		file = sysctlConf
	}
	return parseSysctl(file, t.text(file))
}

func (t *tree) all(files []string) (all [][]assignment) {
	for _, f := range files {
		all = append(all, t.assignments(f))
	}
	return all
}
