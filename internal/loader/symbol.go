package loader

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// variant finds the name under which the running kernel has a variant of the function that its compiler made, such as
// early_drop.isra.0. It returns os.ErrNotExist if there is none.
func variant(function string) (string, error) {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return "", fmt.Errorf("find %s: %w", function, err)
	}
	defer f.Close()
	return findVariant(f, function)
}

// findVariant looks for a variant in the text of /proc/kallsyms: address, type, name, and the module in brackets. A cold
// part is not the function's beginning.
func findVariant(kallsyms io.Reader, function string) (string, error) {
	variant := regexp.MustCompile(`^` + regexp.QuoteMeta(function) + `(\.(isra|constprop|part)\.\d+)+$`)
	lines := bufio.NewScanner(kallsyms)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 3 && variant.MatchString(fields[2]) {
			return fields[2], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find %s: %w", function, err)
	}
	return "", fmt.Errorf("find %s in /proc/kallsyms: %w", function, os.ErrNotExist)
}
