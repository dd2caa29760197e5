package hook

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// UnfitError says why a program is not called.
type UnfitError struct {
	Hook string // as it was given
	Path string // what is wrong: the hook, a directory above it, or its interpreter
	Why  string
	Hint string // what to do about it
}

func (e *UnfitError) Error() string {
	about := e.Path
	if e.Path == e.Hook {
		about = "it"
	}
	return fmt.Sprintf("hook %s: %s %s: %s", e.Hook, about, e.Why, e.Hint)
}

// program is a hook that was found fit, held open so that just what was looked at is run.
type program struct {
	fd     int  // O_PATH
	script bool // what runs it opens it by its name
}

func (p program) close() { unix.Close(p.fd) }

// openProgram opens a program if it and every directory above it are root's, and nobody else can write to them, so that
// nobody else can have put it there. The sticky bit is no excuse: in such a directory anybody can have made it before root did.
// There are no symbolic links in its path: where one leads may change, and it would be another path to look at.
//
// It is to be called by a thread that has the rights that the hook will have.
func openProgram(path string) (program, error) {
	unfit := func(at, why, hint string) (program, error) { return program{}, &UnfitError{path, at, why, hint} }
	if !filepath.IsAbs(path) {
		return unfit(path, "is not absolute", "give its whole path, from / on")
	}
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return program{}, fmt.Errorf("open hook %s: open /: %w", path, err)
	}
	at := "/"
	for rest := strings.TrimPrefix(path, "/"); ; {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return program{}, fmt.Errorf("open hook %s: stat %s: %w", path, at, err)
		}
		if why, hint := unfitFile(at, &st, rest == ""); why != "" {
			unix.Close(fd)
			return unfit(at, why, hint)
		}
		if rest == "" {
			break
		}
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		unix.Close(fd)
		at = filepath.Join(at, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			return unfit(at, "does not exist", "make it, or correct the path")
		case errors.Is(err, unix.EACCES):
			return unfit(at, "cannot be reached", fmt.Sprintf("a hook runs without capabilities, as user %d: let that user into %s", unix.Getuid(), filepath.Dir(at)))
		case err != nil:
			return program{}, fmt.Errorf("open hook %s: open %s: %w", path, at, err)
		}
		fd = next
	}
	p := program{fd: fd}
	if p.script, err = examine(path, fd); err != nil {
		p.close()
		return program{}, err
	}
	return p, nil
}

// unfitFile says what is wrong with the program itself (last), or with a directory above it, and what to do.
func unfitFile(at string, st *unix.Stat_t, last bool) (why, hint string) {
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFLNK:
		hint = "give the path that it leads to"
		if to, err := filepath.EvalSymlinks(at); err == nil {
			hint += ", " + to
		}
		return "is a symbolic link", hint
	case last && kind != unix.S_IFREG:
		return "is no regular file", "give the path of a program"
	case !last && kind != unix.S_IFDIR:
		return "is no directory", "correct the path"
	case st.Uid != 0:
		return fmt.Sprintf("belongs to user %d, and not to root", st.Uid), "chown root " + at
	case st.Mode&0o022 != 0:
		return fmt.Sprintf("can be written to by others than root (mode %04o)", st.Mode&0o7777), "chmod go-w " + at
	}
	return "", ""
}

// examine finds out whether the kernel can run a file, and whether it does so by an interpreter.
func examine(path string, fd int) (script bool, err error) {
	unfit := func(why, hint string) error { return &UnfitError{path, path, why, hint} }
	var fs unix.Statfs_t
	name := fdPath(fd)
	if err := unix.Statfs(name, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return false, unfit("is on a file system that is mounted noexec", "put it elsewhere")
	}
	if err := unix.Access(name, unix.X_OK); err != nil {
		return false, unfit(fmt.Sprintf("cannot be executed by user %d", unix.Getuid()), "chmod 0755 "+path)
	}
	head, err := readHead(name)
	switch {
	case errors.Is(err, unix.EACCES): // a script could not be read by its interpreter either
		return false, unfit(fmt.Sprintf("cannot be read by user %d without capabilities", unix.Getuid()), "chmod 0755 "+path)
	case err != nil:
		return false, fmt.Errorf("open hook %s: %w", path, err)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return false, nil
	case !bytes.HasPrefix(head, []byte("#!")):
		return false, unfit("is neither a program nor a script", "a script begins with a line such as #!/bin/sh")
	}
	interpreter := interpreterIn(head)
	if err := unix.Access(interpreter, unix.X_OK); err != nil || !strings.HasPrefix(interpreter, "/") {
		hint := "correct its first line"
		if strings.HasSuffix(interpreter, "\r") {
			hint = `it has the line ends of another system: sed -i 's/\r$//' ` + path
		}
		return false, unfit(fmt.Sprintf("names an interpreter, %q, that cannot be run", interpreter), hint)
	}
	return true, nil
}

// interpreterIn is the interpreter that the first line of a script names (fs/binfmt_script.c).
func interpreterIn(head []byte) string {
	line, _, _ := bytes.Cut(head[len("#!"):], []byte("\n"))
	word, _, _ := strings.Cut(strings.Trim(strings.ReplaceAll(string(line), "\t", " "), " "), " ")
	return word
}

// readHead reads as much of a file as the kernel looks at (BINPRM_BUF_SIZE since 5.1).
func readHead(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	head := make([]byte, 256)
	n, err := unix.Pread(fd, head, 0)
	return head[:max(n, 0)], err
}

// fdPath is a name for what is open, in this process and in one that inherits it.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
