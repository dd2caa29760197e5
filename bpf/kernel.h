/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * The few kernel structures the program reads, with no field more than it
 * reads. Offsets are CO-RE relocations: the running kernel's BTF decides.
 */
#ifndef CTWATCH_KERNEL_H
#define CTWATCH_KERNEL_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u16 __sum16;
typedef __u32 __wsum;

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* libbpf 1.2 and later have it */
#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_NOEXIST = 1 };

struct bpf_raw_tracepoint_args {
	__u64 args[0];
};
struct bpf_sysctl {
	__u32 write;
	__u32 file_pos;
};

/*
 * arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h: what a
 * kprobe sees of a call and of a return. A return address lies on the stack
 * of x86 until it is used, so there the stack pointer of the call was lower.
 */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, ax, sp;
};
#define FIRST_ARGUMENT(ctx) ((ctx)->di)
#define RETURN_VALUE(ctx)   ((ctx)->ax)
#define SP_OF_CALL(ctx)	    ((ctx)->sp - 8)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31], sp;
};
#define FIRST_ARGUMENT(ctx) ((ctx)->regs[0])
#define RETURN_VALUE(ctx)   ((ctx)->regs[0])
#define SP_OF_CALL(ctx)	    ((ctx)->sp)
#endif
#pragma clang attribute pop

/* include/uapi/linux/netfilter.h */
#define NF_DROP 0
enum { NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING };

/* include/uapi/linux/in.h */
enum {
	IPPROTO_HOPOPTS = 0,
	IPPROTO_ICMP = 1,
	IPPROTO_TCP = 6,
	IPPROTO_UDP = 17,
	IPPROTO_DCCP = 33,
	IPPROTO_ROUTING = 43,
	IPPROTO_FRAGMENT = 44,
	IPPROTO_ICMPV6 = 58,
	IPPROTO_DSTOPTS = 60,
	IPPROTO_SCTP = 132,
	IPPROTO_UDPLITE = 136
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/bpf.h; pptrs is a member of an anonymous union since 4.x */
struct bpf_array {
	void *pptrs[0];
};

/* include/net/dropreason-core.h; the number changes between kernels, also inside a stable series */
enum skb_drop_reason {
	SKB_DROP_REASON_NOT_SPECIFIED,
	SKB_DROP_REASON_NETFILTER_DROP,
};

/* include/linux/types.h */
struct list_head {
	struct list_head *next;
};

/* include/linux/ns_common.h */
struct ns_common {
	const void *ops;
	unsigned int inum;
};

/* include/linux/netfilter/nf_conntrack_common.h; all unsigned int, they wrap */
struct ip_conntrack_stat {
	unsigned int insert_failed;
	unsigned int drop;
	unsigned int chaintoolong; /* 5.15, EL9 */
};

/* include/net/netns/conntrack.h; stat is __percpu */
struct netns_ct {
	struct ip_conntrack_stat *stat;
};

/* include/net/net_namespace.h */
struct net {
	struct list_head list;
	__u64 net_cookie; /* 5.12 as a plain number */
	__u32 hash_mix;	  /* random for each namespace; 5.1 */
	struct ns_common ns;
	struct netns_ct ct;
};

typedef struct {
	struct net *net;
} possible_net_t;

/* include/linux/netdevice.h */
struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
};

/* include/net/sock.h */
struct sock_common {
	possible_net_t skc_net;
};
struct sock {
	struct sock_common __sk_common;
};

/* include/linux/skbuff.h */
struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _nfct; /* entry pointer | 3 bits of direction */
	int skb_iif;	     /* ingress ifindex; 0: made on this host */
	__u16 network_header;
	unsigned char *head;
};

/* include/linux/module.h */
struct module {
	char name[16]; /* MODULE_NAME_LEN, which is more */
};

/* include/linux/nsproxy.h, sched.h */
struct nsproxy {
	struct net *net_ns;
};
struct task_struct {
	struct nsproxy *nsproxy;
	int tgid;
	char comm[16];
};

#pragma clang attribute pop

#endif
