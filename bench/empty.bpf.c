//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* What any program on this hook costs, whatever it does. */
#include "kernel.h"

char _license[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/kfree_skb")
int BPF_PROG(kfree_skb, struct sk_buff *skb)
{
	return 0;
}
