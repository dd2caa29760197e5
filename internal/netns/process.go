package netns

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/prometheus/procfs"
)

// OwnerOf is whose a process of root/proc is ("" is the machine's own), as its cgroups tell; nobody's where they tell nothing. It
// fails with fs.ErrNotExist or ESRCH if the process is gone, and then another may get its number.
func OwnerOf(root string, pid int) (Owner, error) {
	proc, err := procfs.NewFS(filepath.Join(cmp.Or(root, "/"), "proc"))
	if err != nil {
		return Owner{}, fmt.Errorf("find the owner of process %d: %w", pid, err)
	}
	o, err := ownerOfProcess(proc, pid)
	if err != nil {
		return Owner{}, fmt.Errorf("find the owner of process %d: %w", pid, err)
	}
	return o, nil
}

func ownerOfProcess(proc procfs.FS, pid int) (Owner, error) {
	p, err := proc.Proc(pid)
	if err != nil {
		return Owner{}, err
	}
	cgroups, err := p.Cgroups()
	if err != nil {
		return Owner{}, err
	}
	return ownerOfAll(cgroups), nil
}
