package loader

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// kallsyms is what /proc/kallsyms has of these functions on several kernels.
const kallsyms = `ffffffffc0a1b2c0 t early_drop_list	[nf_conntrack]
ffffffffc0a1b2c0 t tcp_can_early_drop	[nf_conntrack]
ffffffffc0a1b400 t early_drop.isra.0.cold	[nf_conntrack]
ffffffffc0a1b500 t early_drop.isra.0	[nf_conntrack]
ffffffffc0a1c000 t nf_ct_resolve_clash	[nf_conntrack]
ffffffffc0a1d000 t init_conntrack.constprop.0.isra.0	[nf_conntrack]
0000000000000000 A odd
short
`

func TestFindVariant(t *testing.T) {
	for function, want := range map[string]string{
		"early_drop":          "early_drop.isra.0",
		"init_conntrack":      "init_conntrack.constprop.0.isra.0",
		"nf_ct_resolve_clash": "", // under its own name, which is no variant
		"absent":              "",
	} {
		got, err := findVariant(strings.NewReader(kallsyms), function)
		if got != want || (want == "") != errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q, %v; want %q", function, got, err, want)
		}
	}
}
