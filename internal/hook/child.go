package hook

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a process that runs a hook, the leader of a session and a process group of its own.
type child struct {
	pid    int
	stdin  *os.File // our end
	stdout *os.File // our end, of its standard output and error
	pipes  sync.WaitGroup
	silent chan struct{} // closed when nobody can print any more

	exited chan struct{} // closed when it has ended and is not reaped: until then its group's number is its own
	reap   chan struct{} // closed when it may be
	gone   chan struct{} // closed when it is
	status syscall.WaitStatus
}

// start starts the program at a path, gives it the document, and takes what it prints, until finish is called. The child, or
// why there is none, comes through the channel: to look at the path may take as long as its file system likes.
func start(path string, env []string, document []byte, out *output) <-chan started {
	result := make(chan started, 1)
	bare(func(err error) {
		if err != nil {
			result <- started{err: err}
			return
		}
		c, err := fork(path, env)
		if err != nil {
			result <- started{err: err}
			return
		}
		// A core file would have the document in it. This comes before the first byte of that. As its user is ours, no
		// capability is needed.
		_ = unix.Prlimit(c.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
		// What bounds this process's real time is no business of a hook's. The hard limit is as we were given it.
		var real unix.Rlimit
		if unix.Prlimit(c.pid, unix.RLIMIT_RTTIME, nil, &real) == nil {
			_ = unix.Prlimit(c.pid, unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: real.Max, Max: real.Max}, nil)
		}
		c.pipes.Go(func() {
			_, _ = c.stdin.Write(document) // whether it reads is its own business
			c.stdin.Close()
		})
		c.pipes.Go(func() {
			out.take(c.stdout)
			close(c.silent)
		})
		result <- started{child: c}
		// This thread stays as long as the child does, which is killed if the thread ends (Pdeathsig): so kill -9 of ctwatch
		// leaves no hook behind that nobody watches.
		c.wait()
	})
	return result
}

type started struct {
	child *child
	err   error
}

// fork starts a program, on the thread that has the rights that it is to have.
func fork(path string, env []string) (_ *child, err error) {
	p, err := openProgram(path)
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := &child{silent: make(chan struct{}), exited: make(chan struct{}), reap: make(chan struct{}), gone: make(chan struct{})}
	in, out, err := c.openPipes()
	if err != nil {
		return nil, fmt.Errorf("run hook %s: %w", path, err)
	}
	defer unix.Close(in)
	defer unix.Close(out)
	name, files, release, err := p.handOver(in, out)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run hook %s: %w", path, err), c.closePipes())
	}
	defer release()
	c.pid, err = syscall.ForkExec(name, []string{path}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   env,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("run hook %s: %w", path, err), c.closePipes())
	}
	return c, nil
}

// handOver returns by which name a program is to be run, and the child's files from 0 on. What was opened is run, whatever
// has become of its path since. A script is opened once more by its interpreter, by that name: so the child keeps it, as
// file 3. It is a reference without the right to read or write.
func (p program) handOver(in, out int) (name string, files []uintptr, release func(), err error) {
	files = []uintptr{uintptr(in), uintptr(out), uintptr(out)}
	if p.script {
		return fdPath(len(files)), append(files, uintptr(p.fd)), func() {}, nil
	}
	// A program is run before the child's other files are closed. But until then the child moves files about, some numbers
	// above those that it is given (forkAndExecInChild), and this one is not to be in the way.
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, max(in, out)+16)
	if err != nil {
		return "", nil, nil, err
	}
	return fdPath(fd), files, func() { unix.Close(fd) }, nil
}

// openPipes opens both pipes, and returns the child's ends. Ours do not block, so that closing them ends a read or write.
func (c *child) openPipes() (in, out int, err error) {
	var stdin, stdout [2]int
	if err := unix.Pipe2(stdin[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, err
	}
	if err := unix.Pipe2(stdout[:], unix.O_CLOEXEC); err != nil {
		unix.Close(stdin[0])
		unix.Close(stdin[1])
		return 0, 0, err
	}
	_ = unix.SetNonblock(stdin[1], true)
	_ = unix.SetNonblock(stdout[0], true)
	c.stdin, c.stdout = os.NewFile(uintptr(stdin[1]), "hook's input"), os.NewFile(uintptr(stdout[0]), "hook's output")
	return stdin[0], stdout[1], nil
}

func (c *child) closePipes() error { return errors.Join(c.stdin.Close(), c.stdout.Close()) }

// wait waits for the child's end, and reaps it when it may.
func (c *child) wait() {
	for unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	close(c.exited)
	<-c.reap
	for {
		if _, err := syscall.Wait4(c.pid, &c.status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	close(c.gone)
}

// signal sends a signal to the child and to all of its group. It is not reaped yet.
func (c *child) signal(s syscall.Signal) { _ = unix.Kill(-c.pid, s) }

// finish ends what is left of the child's group, lest it runs beside the next call, lets the child be reaped, and reads
// no more of the output.
func (c *child) finish() {
	c.signal(unix.SIGKILL)
	close(c.reap)
	c.stdin.Close()
	c.stdout.Close()
	c.pipes.Wait()
}
