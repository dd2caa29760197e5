package netns

import (
	"bytes"
	"path"
	"strconv"
	"strings"
)

// mount is a namespace that a bind mount keeps alive: `ip netns add`, a container runtime, a CNI plugin.
type mount struct {
	inode uint64
	path  string // raw: any byte but NUL
}

// ipNetns returns the name that `ip netns` gives to a mount, "" if it is none of its.
func (m mount) ipNetns() string {
	switch dir, name := path.Split(m.path); dir {
	case "/run/netns/", "/var/run/netns/":
		return name
	}
	return ""
}

// parseMounts finds the network namespaces in the text of a mountinfo file. The inode stands in the root field, so no
// file is opened. procfs.GetMounts is not used: it builds three maps for each mount of the machine, leaves the kernel's
// octal escapes in, and gives up on all of it over one mount whose source is "-" (`mount -t tmpfs - /mnt`).
func parseMounts(text []byte) []mount {
	var found []mount
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(" net:[")) || !bytes.Contains(line, []byte(" - nsfs ")) {
			continue
		}
		f := strings.Split(string(line), " ") // id parent major:minor root mountpoint options [optional...] - type source options
		if len(f) < 5 {
			continue
		}
		inode, ok := parseLink(f[3])
		if !ok || strings.HasSuffix(f[4], "//deleted") {
			continue
		}
		found = append(found, mount{inode, unescape(f[4])})
	}
	return found
}

// parseLink reads the text of a namespace link, such as net:[4026531833].
func parseLink(s string) (inode uint64, ok bool) {
	s, isNet := strings.CutPrefix(s, "net:[")
	s, closed := strings.CutSuffix(s, "]")
	inode, err := strconv.ParseUint(s, 10, 64)
	return inode, isNet && closed && err == nil
}

// unescape undoes the kernel's mangle_path: space, tab, newline, # and backslash stand as \ and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
