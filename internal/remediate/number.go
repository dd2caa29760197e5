package remediate

import (
	"fmt"
	"math"
	"strconv"
)

// Thousands writes a number with commas: 524,288.
func Thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// Bytes writes a size in the unit that fits: 192 MiB, 23.5 GiB.
func Bytes(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit+1 < len(units) {
		size, unit = size/1024, unit+1
	}
	if size >= 100 || unit == 0 || size == math.Trunc(size) {
		return fmt.Sprintf("%.0f %s", size, units[unit])
	}
	return fmt.Sprintf("%.1f %s", size, units[unit])
}

func percent(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + " %" }
