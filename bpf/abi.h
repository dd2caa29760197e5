/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the program and user space share: the map values and the samples.
 * Every field has a fixed size and padding is explicit; bpf2go makes the Go
 * side from these very definitions, and the sizes are asserted on both sides.
 */
#ifndef CTWATCH_ABI_H
#define CTWATCH_ABI_H

/*
 * What a refusal looked like in the counters. The program tells these apart
 * for certain; user space splits KIND_DROP_ALONE into table_full and
 * alloc_failed, for which it must know count and max.
 */
enum kind {
	KIND_DROP_ALONE,     /* drop moved, packet had no entry: __nf_conntrack_alloc() */
	KIND_CLASH,	     /* drop and insert_failed: nf_ct_resolve_clash() */
	KIND_CHAIN_TOO_LONG, /* chaintoolong and insert_failed: __nf_conntrack_confirm() */
	KIND_INSERT_RACE,    /* insert_failed alone: __nf_conntrack_confirm() */
	KIND_OTHER,	     /* drop moved, packet had an entry: nf_confirm() */
	KIND_COUNT,
};

/* The counters of struct ip_conntrack_stat that move when a packet is refused. */
struct counters {
	__u32 drop;
	__u32 insert_failed;
	__u32 chaintoolong; /* 0 where the kernel has none */
};

/* What the hooks tell user space at once, when it begins after a calm time. */
enum beginning {
	BEGIN_REFUSING, /* early_drop() found nothing to evict, nf_ct_resolve_clash() gave up */
	BEGIN_EVICTING, /* early_drop() evicted */
	BEGIN_COUNT,
};

/* One network namespace's conntrack table as one CPU saw it (map tables, by slot). */
struct table {
	__u64 stat; /* kernel address of this CPU's ip_conntrack_stat; 0: not yet entered here */
	__u64 refused[KIND_COUNT];
	__u64 idle; /* looks that found nothing: the firewall's own drops, and packets that moved here from another CPU */
	/* Of the hooks. After refused[]: who copies this while it moves finds no refusal that its hook did not precede. */
	__u64 full;	 /* early_drop() found nothing to evict: a packet is refused, or a ctnetlink insert */
	__u64 clashes;	 /* nf_ct_resolve_clash() gave up: a packet is refused */
	__u64 full_told; /* of full, how many a look has joined with a packet */
	__u64 last_ns[BEGIN_COUNT]; /* when a hook last saw it, CLOCK_BOOTTIME, to the jiffy */
	__u64 last_jiffy[BEGIN_COUNT];
	struct counters last; /* as far as history and refused[] account for */
	__u32 inum;	      /* namespace inode number, /proc/PID/ns/net */
	__u32 walk;	      /* the latest walk that met this namespace alive */
	__u32 sampled;	      /* bit per kind: its first packet was offered as a sample */
};

/* Namespaces this CPU met last, to spare the hash map: its lookup costs as much as all the rest. */
#define RECENT 16
struct recent {
	__u64 cookie;
	__u64 slot;
};

/* A function that a kprobe saw called, until the kretprobe sees it return. */
#define CALLS 16
struct call {
	__u64 sp;  /* stack pointer at the call, which no other call has at the same time */
	__u64 net; /* struct net * */
};

/* One CPU's own bookkeeping (map cpus). */
struct cpu {
	__u64 offset;	     /* this CPU's per-CPU offset; 0: not yet known */
	__u64 self;	     /* scratch: where a pointer becomes a number */
	__u64 refusals;	     /* all refusals counted on this CPU; still: nothing to read */
	__u64 entered;	     /* namespaces that got a slot here */
	__u64 unseen;	     /* times a namespace found no free slot */
	__u64 skipped;	     /* looks not taken because one was being taken */
	__u64 samples_lost;  /* samples that found no room in the ring */
	__u64 cursor;	     /* where an unfinished walk goes on (struct net *) ... */
	__u64 cursor_cookie; /* ... if that is still the same namespace */
	__u64 jiffy;	     /* when the clock was last read for a sample */
	__u64 hits;	     /* times a hook saw a refusal or an eviction */
	__u64 hits_lost;     /* times it saw one and had no table to count it in */
	__u64 returned;	     /* returns whose call and namespace a kretprobe found; before called, for who copies ... */
	__u64 called;	     /* ... calls that a kprobe saw */
	__u32 ready;	     /* 1: the walk is done here, unknown namespaces are new ones */
	__u32 busy;	     /* 1: the program is at work on this CPU */
	struct recent recent[RECENT]; /* by cookie % RECENT */
	struct call calls[CALLS];     /* by a hash of sp */
};

#define SAMPLE_INFERRED 1 /* several refusals at once: the kind may be another packet's */
#define SAMPLE_FULL	2 /* KIND_DROP_ALONE, and early_drop() found nothing to evict: table_full for certain */
#define SAMPLE_BEGINS	4 /* no packet: what a hook saw begin, with enum beginning as kind */

/* One refused packet, or what a hook saw begin (ring samples). Addresses and ports are as on the wire. */
struct sample {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 cookie;  /* namespace: net_cookie */
	__u32 inum;    /* namespace: inode number */
	__u8 ifname[16];
	__u8 src[16]; /* IPv4 in the first four bytes */
	__u8 dst[16];
	__u16 sport; /* ICMP echo: the identifier; network byte order */
	__u16 dport; /* ICMP: type << 8 | code */
	__u8 family; /* 4, 6, or 0: neither */
	__u8 proto;  /* IPPROTO_* */
	__u8 hook;   /* NF_INET_* */
	__u8 kind;   /* enum kind, or enum beginning */
	__u8 flags;  /* SAMPLE_* */
	__u8 pad[3];
};

/* The limits whose writers are named. */
enum limit { LIMIT_MAX, LIMIT_BUCKETS };

/* A write of a limit, before the kernel takes or refuses it (ring limit_writes). Numbers are the text itself. */
struct limit_write {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u64 cgroup;  /* of the writer: id in the cgroup2 hierarchy, the inode number of its directory */
	__u32 pid;     /* of the process, as the first PID namespace numbers it */
	__s32 to_len;  /* negative: to holds the beginning alone */
	__u8 comm[16]; /* of the thread */
	__u8 from[24]; /* what the limit was, as /proc shows it; empty if the kernel did not tell */
	__u8 to[64];   /* what is written; ends with 0 */
	__u8 limit;    /* enum limit */
	__u8 pad[7];
};

_Static_assert(sizeof(struct counters) == 12, "ABI");
_Static_assert(sizeof(struct table) == 136, "ABI");
_Static_assert(sizeof(struct cpu) == 120 + 16 * RECENT + 16 * CALLS, "ABI");
_Static_assert(sizeof(struct sample) == 80, "ABI");
_Static_assert(sizeof(struct limit_write) == 136, "ABI");

#endif
