package conntrack

import (
	"cmp"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// IsModule reports whether conntrack is a module that can be unloaded, rather than part of the kernel. root is where
// sys is; "" is the machine's own.
func IsModule(root string) bool {
	return exists(initstatePath(root))
}

// initstatePath is a file that modules have and what is part of the kernel has not: live, coming or going.
func initstatePath(root string) string {
	return filepath.Join(cmp.Or(root, "/"), "sys/module/nf_conntrack/initstate")
}

// Instance tells one loading of the module nf_conntrack from the next: the kernel numbers its directory in sysfs anew each
// time. It is 0 while the module is not loaded, and always the same where conntrack is part of the kernel.
func Instance(root string) uint64 {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(cmp.Or(root, "/"), "sys/module/nf_conntrack"), &st) != nil {
		return 0
	}
	return st.Ino
}
