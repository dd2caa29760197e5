package lab

import "testing"

func TestParseKernel(t *testing.T) {
	tests := []struct {
		name, text string
		want       Kernel
	}{{
		name: "6.18, two CPUs",
		text: `entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000005  00000001 00000002 00000000 00000003 00000000 00000000 00000004 00000006 00000007 00000008 00000009 0000000a  00000000 00000000 00000000 0000000b
00000005  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 ffffffff 00000000 00000000  00000000 00000000 00000000 00000000
`,
		want: Kernel{
			Total: Counters{Found: 2, Invalid: 3, Insert: 6, InsertFailed: 7, Drop: 7, EarlyDrop: 9, Error: 10, SearchRestart: 11, ClashResolve: 1, ChainTooLong: 4},
			CPU: []Counters{
				{Found: 2, Invalid: 3, Insert: 6, InsertFailed: 7, Drop: 8, EarlyDrop: 9, Error: 10, SearchRestart: 11, ClashResolve: 1, ChainTooLong: 4},
				{Drop: 0xffffffff},
			},
		},
	}, {
		name: "5.10 has no chainlength",
		text: `entries  clashres found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart
00000000  00000000 00000000 00000000 00000000 00000000 00000000 00000009 00000000 00000000 00000001 00000000 00000000  00000000 00000000 00000000 00000000
`,
		want: Kernel{Total: Counters{Drop: 1}, CPU: []Counters{{Drop: 1}}},
	}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseKernel(test.text)
			check(t, err)
			equalOrFail(t, "counters", test.want, got)
		})
	}
}

func FuzzParseKernel(f *testing.F) {
	f.Add("entries drop\n0 1\n0 2\n")
	f.Add("drop drop\n1 ffffffff\n")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseKernel(text)
		if err != nil {
			return
		}
		var sum Counters
		for _, c := range k.CPU {
			sum = sum.add(c)
		}
		equalOrFail(t, "total", sum, k.Total)
	})
}
