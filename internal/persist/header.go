package persist

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
)

// header is the line by which a file of ours is known, and what it says of the rest.
type header struct {
	version string
	sum     string // SHA-256 of all other lines
	made    int    // directories that were made for the file
}

var (
	headerPattern = regexp.MustCompile(`^# Managed by ctwatch (\S+): do not edit, remove with 'ctwatch limit unpersist'\. sha256=([0-9a-f]{64})(?: made=([1-9]))?$`)
	unfitVersion  = regexp.MustCompile(`[^0-9A-Za-z.+~_-]+`)
)

func (h header) String() string {
	line := "# Managed by ctwatch " + fitVersion(h.version) + ": do not edit, remove with 'ctwatch limit unpersist'. sha256=" + h.sum
	if h.made > 0 {
		line += " made=" + strconv.Itoa(min(h.made, 9))
	}
	return line
}

func fitVersion(version string) string {
	if v := unfitVersion.ReplaceAllString(version, "_"); v != "" {
		return v
	}
	return "unknown"
}

// seal makes a file of a body: the header is its first line, or its second where the first names a program.
func seal(h header, body string) []byte {
	h.sum = sum([]byte(body))
	first := ""
	if strings.HasPrefix(body, "#!") {
		line, rest, _ := strings.Cut(body, "\n")
		first, body = line+"\n", rest
	}
	return []byte(first + h.String() + "\n" + body)
}

// unseal takes a file of ours apart. ok is false if there is no such header; whole is false if the rest is not what it
// was sealed with.
func unseal(data []byte) (h header, body string, ok, whole bool) {
	text, first := string(data), ""
	if strings.HasPrefix(text, "#!") {
		line, rest, found := strings.Cut(text, "\n")
		if !found {
			return h, "", false, false
		}
		first, text = line+"\n", rest
	}
	line, rest, found := strings.Cut(text, "\n")
	part := headerPattern.FindStringSubmatch(line)
	if part == nil || !found {
		return h, "", false, false
	}
	h.version, h.sum = part[1], part[2]
	h.made, _ = strconv.Atoi(part[3]) // "" is 0
	body = first + rest
	return h, body, true, sum([]byte(body)) == h.sum
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// sealed reports whether a file is exactly what we would write for a body, by whatever version.
func sealed(data []byte, body string) bool {
	h, has, ok, whole := unseal(data)
	return ok && whole && has == body && bytes.Equal(data, seal(h, body))
}
