package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// janitorScript undoes a lab: $1 is the journal, $2 the namespaces' path and the start of their names. It uses
// builtins, and umount and rm for what is mounted. Limits come first, since a low limit harms the whole machine
// and a namespace nobody; of the limits the max comes first, since that is the one by which packets are refused.
// It begins when its standard input ends: at Close, or when the kernel closes the lab's end with the lab's process.
//
// The first line of a limit counts, should there be two. What cannot be undone stays in the journal for the
// next lab to try.
const janitorScript = `
trap '' HUP INT QUIT TERM PIPE
while read -r _; do :; done
failed=
for limit in nf_conntrack_max nf_conntrack_expect_max nf_conntrack_buckets; do
	while read -r verb name value; do
		if [ "$verb $name" = "limit $limit" ]; then
			echo "$value" >/proc/sys/net/netfilter/"$name" || failed=1
			break
		fi
	done <"$1"
done
for netns in "$2"*; do
	if [ -e "$netns" ]; then
		umount -l "$netns"
		rm -f "$netns" || failed=1
	fi
done
[ -z "$failed" ] && : >"$1"
`

// janitor is the process that cleans up after this one.
type janitor struct {
	cmd *exec.Cmd
	// life is the only writing end of the janitor's standard input: the kernel closes it when we die.
	life *os.File
}

// startJanitor starts a janitor that holds j's lock until it is done.
func startJanitor(j *journal) (*janitor, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := janitorCommand(j)
	cmd.Stdin = read
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start janitor: %w", err), read.Close(), write.Close())
	}
	return &janitor{cmd: cmd, life: write}, read.Close()
}

// janitorCommand is the janitor in a session of its own, so that what kills our process group spares it. Its
// output goes nowhere: a pipe might be gone when it is needed.
func janitorCommand(j *journal) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", janitorScript, "ctwatch-lab-janitor", journalPath, namespacePath(""))
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{j.file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// finish has the janitor do its work and waits for it.
func (j *janitor) finish() error {
	err := j.life.Close()
	if waitErr := j.cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("janitor: %w", waitErr))
	}
	return err
}

// cleanUp does a janitor's work at once.
func cleanUp(j *journal) error {
	if err := janitorCommand(j).Run(); err != nil {
		return fmt.Errorf("janitor: %w", err)
	}
	return nil
}
