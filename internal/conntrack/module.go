package conntrack

import (
	"cmp"
	"path/filepath"
)

// IsModule reports whether conntrack is a module that can be unloaded, rather than part of the kernel. root is where
// sys is; "" is the machine's own.
func IsModule(root string) bool {
	return exists(filepath.Join(cmp.Or(root, "/"), "sys/module/nf_conntrack/initstate"))
}
