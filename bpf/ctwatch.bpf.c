// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * Counts every packet that conntrack refuses, by network namespace and cause.
 *
 * Conntrack has no tracepoint and no drop reason of its own. But it refuses a
 * packet by returning NF_DROP, the packet is then freed with a reason that
 * netfilter gives, and by then it has counted the refusal in this CPU's
 * struct ip_conntrack_stat of the packet's namespace. So: at each free with
 * such a reason, look which of those counters moved since the last look.
 *
 * Only deltas count, never "one more": several refusals may have happened on
 * this CPU since the last look, and a firewall's own drop moves no counter.
 *
 * That is the core. Where the kernel lets us, hooks on early_drop() and
 * nf_ct_resolve_clash() say for certain which of two causes it was, and tell
 * user space at once. Where the core cannot run, they count by themselves.
 *
 * Nothing here runs for a packet that gets through.
 *
 * Apart from all that, and loaded alone: who writes the limits.
 *
 * Every function is inlined. A plain load from a kernel pointer may fault: a
 * packet that waited in a UDP socket has something else where skb->dev is. The
 * kernel then looks for the load in a table of the program's, which until 6.5
 * (0108a4e9f358 and its backports) the main program lacks if it calls others:
 * it dies.
 */
#include "kernel.h"
#include "abi.h"

char _license[] SEC("license") = "Dual BSD/GPL";

/* Keeps these types in the object, for the Go side. */
enum kind *kinds __attribute__((unused));
enum beginning *beginnings __attribute__((unused));
struct sample *sampled __attribute__((unused));
enum limit *limits __attribute__((unused));
struct limit_write *limit_written __attribute__((unused));

/* Set before loading. */
const volatile __u8 core = 1;			    /* the core is attached; 0: hooks alone */
const volatile __u8 gives_reason = 1;		    /* kfree_skb has the argument reason (5.17, EL 8.10, EL 9.0) */
const volatile __u8 unloadable = 1;		    /* conntrack is a module: counters may move to another address */
const volatile __u8 fresh = 0;			    /* conntrack was loaded a moment ago: nothing is history */
const volatile __u64 sample_interval_ns = 10000000; /* 0: no samples */

/* This process's own namespace: where walks of all namespaces begin. */
static struct net *anchor;
static const void *netns_operations; /* ns.ops of every real namespace */
__u32 current_walk = 1;

/* The walk found more namespaces than there are slots. */
static __u32 crowded;

/* When the next sample is due, for all CPUs together. */
static __u64 next_sample_ns;

/* The module is being unloaded, and its counters are freed memory. */
static __u32 unloaded;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

/*
 * Which slot of tables a namespace has. Keyed by net_cookie, which is never
 * used again (an inode number is, at once). Namespaces are made by this
 * machine's administrator, never by a remote host.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

/* User space fills it, and gives back the slots of namespaces that are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1024);
	__type(value, __u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} samples SEC(".maps");

/* Some hundred writes; a tool that fights another for a limit makes a few a second. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} limit_writes SEC(".maps");

__u64 limit_writes_lost; /* that found no room in it */

/* Plain loads instead of bpf_probe_read_kernel(), where the kernel has it (6.2, EL 9.2): half the cost of a refusal. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

/*
 * What tells a namespace from all others, also from one that gets its inode
 * number later: its cookie. Before 5.12 it is 0 until somebody asks; there we
 * make one of what the kernel draws for its hash tables. As macros, for some
 * programs may load from the pointer and others must read through a helper.
 */
#define IDENTITY(net) \
	(bpf_core_field_exists((net)->net_cookie) ? (net)->net_cookie : (__u64)(net)->hash_mix << 32 | (net)->ns.inum)
#define READ_IDENTITY(net)                        \
	(bpf_core_field_exists((net)->net_cookie) \
		 ? BPF_CORE_READ(net, net_cookie) \
		 : (__u64)BPF_CORE_READ(net, hash_mix) << 32 | BPF_CORE_READ(net, ns.inum))

static __always_inline struct cpu *this_cpu(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&cpus, &zero);
}

/*
 * One at a time writes on a CPU. A packet may be dropped in an interrupt while
 * we are at work on another: then what it moved is found by the next look, or
 * by settle(). (From 6.1 on the kernel does not even run us then, and counts
 * that as a recursion miss.)
 */
static __always_inline int begin_work(struct cpu *cpu)
{
	if (cpu->busy) {
		cpu->skipped++;
		return 0;
	}
	cpu->busy = 1;
	barrier();
	return 1;
}

static __always_inline void end_work(struct cpu *cpu)
{
	barrier();
	cpu->busy = 0;
}

/*
 * The address of this CPU's copy of a per-CPU variable is its address plus
 * the CPU's offset. The offset shows in any per-CPU map: what a lookup gives,
 * minus what the map itself holds. (this_cpu_off would say it too, where
 * kallsyms has data symbols.)
 */
static __always_inline void learn_offset(struct cpu *cpu)
{
	volatile __u64 *scratch = &cpu->self;
	__u64 here, map, base = 0;

	*scratch = (__u64)cpu;
	here = *scratch;
	*scratch = (__u64)&cpus;
	map = *scratch;
	bpf_probe_read_kernel(&base, sizeof(base), (void *)map + bpf_core_field_offset(struct bpf_array, pptrs));
	if (base)
		cpu->offset = here - base;
}

static __always_inline void read_counters(struct counters *c, __u64 addr)
{
	const struct ip_conntrack_stat *stat = (void *)addr;
	__u8 raw[64] __attribute__((aligned(8)));

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		stat = bpf_rdonly_cast(stat, bpf_core_type_id_kernel(struct ip_conntrack_stat));
		c->drop = stat->drop;
		c->insert_failed = stat->insert_failed;
		c->chaintoolong = bpf_core_field_exists(stat->chaintoolong) ? stat->chaintoolong : 0;
		return;
	}
	/* One helper call, not one a field. */
	__builtin_memset(raw, 0, sizeof(raw));
	bpf_probe_read_kernel(raw, bpf_core_type_size(struct ip_conntrack_stat), stat);
	c->drop = *(__u32 *)(raw + bpf_core_field_offset(stat->drop));
	c->insert_failed = *(__u32 *)(raw + bpf_core_field_offset(stat->insert_failed));
	c->chaintoolong = bpf_core_field_exists(stat->chaintoolong)
				  ? *(__u32 *)(raw + bpf_core_field_offset(stat->chaintoolong))
				  : 0;
}

/* Whether the counters show a refusal that t does not know yet. Most packets end here: the firewall dropped them. */
static __always_inline int moved(const struct table *t)
{
	const struct ip_conntrack_stat *stat = (void *)t->stat;
	struct counters now;

	if (bpf_ksym_exists(bpf_rdonly_cast)) {
		stat = bpf_rdonly_cast(stat, bpf_core_type_id_kernel(struct ip_conntrack_stat));
		return stat->drop != t->last.drop || stat->insert_failed != t->last.insert_failed;
	}
	read_counters(&now, t->stat);
	return now.drop != t->last.drop || now.insert_failed != t->last.insert_failed;
}

/* The namespace's table on this CPU, 0 if it has none yet. Only for the hook. */
static __always_inline struct table *find(struct cpu *cpu, __u64 cookie)
{
	struct recent *recent = &cpu->recent[cookie % RECENT];
	__u32 slot, *known;

	if (core && recent->cookie == cookie) { /* hooks alone have slots taken away from namespaces that live on */
		slot = recent->slot;
		return bpf_map_lookup_elem(&tables, &slot);
	}
	known = bpf_map_lookup_elem(&slots, &cookie);
	if (!known)
		return 0;
	slot = *known;
	if (begin_work(cpu)) {
		recent->cookie = cookie;
		recent->slot = slot;
		end_work(cpu);
	}
	return bpf_map_lookup_elem(&tables, &slot);
}

/* The namespace's slot, a free one if it has none yet; negative if there is none left. */
static __always_inline int slot_of(struct cpu *cpu, __u64 cookie, int history)
{
	__u32 slot, *known = bpf_map_lookup_elem(&slots, &cookie);

	if (known)
		return *known;
	/* Where history found no room, a namespace without a slot may be old: no telling what of it is new. */
	if (!history && crowded)
		return -1;
	if (bpf_map_pop_elem(&free_slots, &slot)) {
		crowded |= history;
		return -1;
	}
	/* Another CPU, or an interrupt, may have been quicker. */
	if (bpf_map_update_elem(&slots, &cookie, &slot, BPF_NOEXIST))
		bpf_map_push_elem(&free_slots, &slot, 0);
	else
		cpu->entered++;
	known = bpf_map_lookup_elem(&slots, &cookie);
	return known ? *known : -1;
}

/*
 * Enters a namespace for this CPU. With history, what its counters hold now
 * happened before us; without, they were born after us and all of it counts:
 * a new namespace, or the module was loaded again. An interrupt may enter the
 * same namespace in the middle of it: without history, nothing is written
 * then that would undo its work.
 */
static __always_inline struct table *enter(struct cpu *cpu, __u64 cookie, __u64 where, int history)
{
	struct net *net = (void *)where;
	struct ip_conntrack_stat *stat;
	struct table *t;
	__u64 mine;
	int slot;

	bpf_core_read(&stat, sizeof(stat), &net->ct.stat);
	if (!stat)
		return 0; /* conntrack is not loaded */
	mine = (__u64)stat + cpu->offset;
	slot = slot_of(cpu, cookie, history);
	if (slot < 0) {
		cpu->unseen++;
		return 0;
	}
	t = bpf_map_lookup_elem(&tables, &slot);
	if (!t)
		return 0;
	t->walk = current_walk;
	if (t->stat == mine)
		return t;

	bpf_core_read(&t->inum, sizeof(t->inum), &net->ns.inum);
	if (history)
		read_counters(&t->last, mine);
	else if (t->stat)
		__builtin_memset(&t->last, 0, sizeof(t->last));
	t->stat = mine;
	return t;
}

#define WALK_STEPS 64

/*
 * Not attached: user space runs it by BPF_PROG_TEST_RUN, first here to drop
 * the anchor (args[0] = 1), then on each CPU until it returns 0. It walks the
 * kernel's list of all namespaces, also those nobody can enter, and takes
 * this CPU's counters as history. A packet refused on this CPU meanwhile is
 * history, or counts at the next look, never both.
 */
SEC("raw_tp")
int walk_namespaces(struct bpf_raw_tracepoint_args *ctx)
{
	struct cpu *cpu = this_cpu();
	struct list_head *pos;
	struct net *net;
	__u64 cookie;
	int i;

	if (!cpu)
		return -1;
	if (ctx->args[0] == 1) {
		struct task_struct *task = (void *)bpf_get_current_task();

		net = BPF_CORE_READ(task, nsproxy, net_ns);
		netns_operations = BPF_CORE_READ(net, ns.ops);
		anchor = net;
		return 0;
	}
	if (!anchor)
		return -1;
	if (!cpu->offset)
		learn_offset(cpu);
	if (!cpu->offset)
		return -1;

	net = anchor;
	if (cpu->cursor) {
		/* The namespace may have died since; then begin again, entering twice does nothing. */
		struct net *at = (void *)cpu->cursor;

		if (BPF_CORE_READ(at, ns.ops) == netns_operations && READ_IDENTITY(at) == cpu->cursor_cookie)
			net = at;
		cpu->cursor = 0;
	}
	for (i = 0; i < WALK_STEPS; i++) {
		/* The list's head is not inside a struct net. */
		if (BPF_CORE_READ(net, ns.ops) == netns_operations) {
			cookie = READ_IDENTITY(net);
			enter(cpu, cookie, (__u64)net, !cpu->ready && !fresh);
			cpu->cursor_cookie = cookie;
			cpu->cursor = (__u64)net;
		}
		pos = BPF_CORE_READ(net, list.next);
		net = (void *)pos - bpf_core_field_offset(struct net, list);
		if (net == anchor) {
			cpu->cursor = 0;
			cpu->ready = 1;
			return 0;
		}
	}
	return 1;
}

/* Which hook refused it: confirm is at the end of the packet's way, allocation at its beginning. */
static __always_inline __u8 hook_of(struct sk_buff *skb, int has_entry)
{
	int iif = skb->skb_iif;
	struct net_device *dev;

	if (!has_entry)
		return iif ? NF_INET_PRE_ROUTING : NF_INET_LOCAL_OUT;
	dev = skb->dev;
	return iif && dev && dev->ifindex == iif ? NF_INET_LOCAL_IN : NF_INET_POST_ROUTING;
}

static __always_inline void read_ports(struct sample *s, const void *l4)
{
	__u8 icmp[6];

	switch (s->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		bpf_probe_read_kernel(&s->sport, sizeof(s->sport), l4);
		bpf_probe_read_kernel(&s->dport, sizeof(s->dport), l4 + 2);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (bpf_probe_read_kernel(icmp, sizeof(icmp), l4))
			break;
		__builtin_memcpy(&s->sport, icmp + 4, 2);
		__builtin_memcpy(&s->dport, icmp, 2);
		break;
	}
}

static __always_inline void read_ipv4(struct sample *s, const void *ip)
{
	__u8 h[20];

	if (bpf_probe_read_kernel(h, sizeof(h), ip))
		return;
	s->family = 4;
	s->proto = h[9];
	__builtin_memcpy(s->src, h + 12, 4);
	__builtin_memcpy(s->dst, h + 16, 4);
	read_ports(s, ip + (h[0] & 15) * 4);
}

static __always_inline void read_ipv6(struct sample *s, const void *ip)
{
	__u8 ext[2];
	int i;

	if (bpf_probe_read_kernel(&s->proto, 1, ip + 6))
		return;
	s->family = 6;
	bpf_probe_read_kernel(s->src, 16, ip + 8);
	bpf_probe_read_kernel(s->dst, 16, ip + 24);
	ip += 40;
	for (i = 0; i < 4; i++) {
		switch (s->proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if (bpf_probe_read_kernel(ext, sizeof(ext), ip))
				return;
			s->proto = ext[0];
			ip += (ext[1] + 1) * 8;
			continue;
		case IPPROTO_FRAGMENT:
			if (bpf_probe_read_kernel(&s->proto, 1, ip))
				return;
			ip += 8;
			continue;
		}
		break;
	}
	read_ports(s, ip);
}

static __always_inline void emit(struct cpu *cpu, struct table *t, __u64 cookie, struct sk_buff *skb, __u8 kind,
				 __u8 flags)
{
	struct net_device *dev = skb->dev;
	struct sample *s;
	const void *ip;
	__u8 version = 0;

	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		cpu->samples_lost++;
		return;
	}
	__builtin_memset(s, 0, sizeof(*s));
	s->time_ns = bpf_ktime_get_boot_ns();
	s->cookie = cookie;
	s->inum = t->inum;
	s->kind = kind;
	s->flags = flags;
	s->hook = hook_of(skb, skb->_nfct > 7);
	if (dev)
		bpf_probe_read_kernel(s->ifname, sizeof(s->ifname), dev->name);
	ip = skb->head + skb->network_header;
	bpf_probe_read_kernel(&version, sizeof(version), ip); /* older raw sockets leave skb->protocol empty */
	if (version >> 4 == 4)
		read_ipv4(s, ip);
	else if (version >> 4 == 6)
		read_ipv6(s, ip);
	bpf_ringbuf_submit(s, 0);
}

/*
 * A sample for the first packet of a kind on this CPU and namespace, then one
 * whenever the interval, shared by all CPUs, has passed. The clock is read
 * once a jiffy: reading it costs as much as all the counting.
 */
static __always_inline int sample_due(struct cpu *cpu, struct table *t, __u8 kind)
{
	__u64 jiffy, now;

	if (!sample_interval_ns)
		return 0;
	if (!(t->sampled & 1 << kind)) {
		t->sampled |= 1 << kind;
		return 1;
	}
	jiffy = bpf_jiffies64();
	if (jiffy == cpu->jiffy)
		return 0;
	cpu->jiffy = jiffy;
	now = bpf_ktime_get_boot_ns();
	if (now < next_sample_ns)
		return 0;
	/* Two CPUs may both come by here; user space drops what is too much. (5.10 has no compare and swap.) */
	next_sample_ns = now + sample_interval_ns;
	return 1;
}

/* A namespace, or counters of it, that the walk has not met: born since, once the walk is done. */
static __always_inline struct table *enter_new(struct cpu *cpu, __u64 cookie, struct net *net)
{
	volatile __u64 *scratch = &cpu->self;
	struct table *t;

	if (!cpu->ready || !begin_work(cpu))
		return 0;
	*scratch = (__u64)net;
	t = enter(cpu, cookie, *scratch, 0);
	end_work(cpu);
	return t;
}

/* Turns what the counters moved into refusals; t->last moves with it. */
static __always_inline int account(struct cpu *cpu, struct table *t, struct counters *now, int has_entry)
{
	__u32 drop = now->drop - t->last.drop;
	__u32 failed = now->insert_failed - t->last.insert_failed;
	__u32 chain = now->chaintoolong - t->last.chaintoolong;
	__u32 clash, n;
	int kind = -1;

	t->last = *now;
	/* Counters never step back. The module is being unloaded, and this is somebody else's memory already. */
	if ((__s32)drop < 0 || (__s32)failed < 0 || (__s32)chain < 0)
		return -1;
	/* A ctnetlink insert moves chaintoolong alone and loses no packet. */
	if (chain > failed)
		chain = failed;
	failed -= chain;
	clash = drop < failed ? drop : failed;
	failed -= clash;
	drop -= clash;
	n = chain + clash + failed + drop;
	if (!n)
		return -1;
	cpu->refusals += n;
	if (chain) {
		t->refused[KIND_CHAIN_TOO_LONG] += chain;
		kind = KIND_CHAIN_TOO_LONG;
	}
	if (failed) {
		t->refused[KIND_INSERT_RACE] += failed;
		kind = KIND_INSERT_RACE;
	}
	if (clash) {
		t->refused[KIND_CLASH] += clash;
		kind = KIND_CLASH;
	}
	if (drop) {
		/* With an entry in hand, it was not allocation that failed. */
		if (has_entry && n == 1) {
			t->refused[KIND_OTHER]++;
			kind = KIND_OTHER;
		} else {
			t->refused[KIND_DROP_ALONE] += drop;
			kind = KIND_DROP_ALONE;
		}
	}
	return n == 1 ? kind : kind | SAMPLE_INFERRED << 8;
}

/*
 * Why nf_hook_slow() frees a packet; and why nf_reinject() does, where one that
 * waited in an nfqueue goes on in the hook it was taken from. The reasons came
 * with 5.17 (EL 8.10, 9.0), their numbers are the running kernel's.
 */
static __always_inline int may_be_refused(__u64 reason)
{
	return reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NETFILTER_DROP) ||
	       reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED);
}

/* The namespace that conntrack saw the packet in, 0 if it cannot be told. */
static __always_inline struct net *net_of(struct sk_buff *skb)
{
	struct net_device *dev = skb->dev;
	struct sock *sk;

	if (dev)
		return dev->nd_net.net;
	/* On its way out, before routing gave it a device. */
	sk = skb->sk;
	return sk ? sk->__sk_common.skc_net.net : 0;
}

/* Counts what the counters moved, under the cause that they tell. */
static __always_inline void count(struct cpu *cpu, struct table *t, __u64 cookie, struct sk_buff *skb)
{
	struct counters now = {};
	int verdict, full;

	read_counters(&now, t->stat);
	if (now.drop - t->last.drop == 1 && now.insert_failed == t->last.insert_failed && skb->_nfct <= 7) {
		/* What account() would say, for the packets that come by the hundred thousand. */
		t->last.drop = now.drop;
		t->refused[KIND_DROP_ALONE]++;
		cpu->refusals++;
		full = t->full_told != t->full;
		t->full_told += full;
		if (sample_due(cpu, t, KIND_DROP_ALONE))
			emit(cpu, t, cookie, skb, KIND_DROP_ALONE, full ? SAMPLE_FULL : 0);
		return;
	}
	verdict = account(cpu, t, &now, skb->_nfct > 7);
	t->full_told = t->full;
	if (verdict >= 0 && sample_due(cpu, t, verdict & 0xff))
		emit(cpu, t, cookie, skb, verdict & 0xff, verdict >> 8);
}

/*
 * Every dropped packet comes here; few go past the first line, and few of
 * those past moved(). A kernel that gives no reason has us look at each.
 */
SEC("tp_btf/kfree_skb")
int kfree_skb(__u64 *ctx)
{
	struct sk_buff *skb;
	struct table *t;
	struct net *net;
	struct cpu *cpu;
	__u64 cookie;

	if (gives_reason && !may_be_refused((__u32)ctx[2]))
		return 0;
	if (unloadable && unloaded)
		return 0;
	skb = (struct sk_buff *)ctx[0];
	net = net_of(skb);
	cpu = this_cpu();
	if (!net || !cpu)
		return 0;
	cookie = IDENTITY(net);
	t = find(cpu, cookie);
	if (!t || !t->stat || (unloadable && (__u64)net->ct.stat != t->stat - cpu->offset)) {
		t = enter_new(cpu, cookie, net);
		if (!t)
			return 0;
	}
	if (!moved(t)) {
		t->idle++;
		return 0;
	}
	if (begin_work(cpu)) {
		count(cpu, t, cookie, skb);
		end_work(cpu);
	}
	return 0;
}

/*
 * The module's exit has run, some milliseconds ago, and the counters of each
 * namespace are freed memory, to which net->ct.stat still points. User space
 * begins anew when it finds that the module is there again.
 */
SEC("tp_btf/module_free")
int BPF_PROG(module_free, struct module *mod)
{
	const char ours[] = "nf_conntrack";
	char name[sizeof(ours)];
	int i;

	bpf_core_read(name, sizeof(name), &mod->name);
	for (i = 0; i < sizeof(ours); i++)
		if (name[i] != ours[i])
			return 0;
	unloaded = 1;
	return 0;
}

/* For hooks alone, which need no more of a namespace than a place to count in. */
static __always_inline struct table *enter_uncounted(struct cpu *cpu, __u64 cookie, __u32 inum)
{
	struct table *t;
	__u32 index;
	int slot;

	slot = slot_of(cpu, cookie, 0);
	if (slot < 0) {
		cpu->unseen++;
		return 0;
	}
	index = slot;
	t = bpf_map_lookup_elem(&tables, &index);
	if (t)
		t->inum = inum;
	return t;
}

#define CALM_NS 1000000000

/* Tells user space that something begins which was not there for a while. */
static __always_inline void tell_beginning(struct cpu *cpu, struct table *t, __u64 cookie, enum beginning b)
{
	__u64 now, last, jiffy = bpf_jiffies64();
	struct sample *s;

	if (jiffy == t->last_jiffy[b])
		return;
	t->last_jiffy[b] = jiffy;
	now = bpf_ktime_get_boot_ns();
	last = t->last_ns[b];
	t->last_ns[b] = now;
	if (last && now - last < CALM_NS)
		return;
	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (!s) {
		cpu->samples_lost++;
		return;
	}
	__builtin_memset(s, 0, sizeof(*s));
	s->time_ns = now;
	s->cookie = cookie;
	s->inum = t->inum;
	s->kind = b;
	s->flags = SAMPLE_BEGINS;
	bpf_ringbuf_submit(s, 0);
}

/* What the hooks see: before the kernel counts it, and before the packet is freed. */
enum seen { SEEN_FULL, SEEN_EVICTION, SEEN_CLASH };

static __always_inline void count_seen(struct cpu *cpu, struct table *t, __u64 cookie, enum seen seen)
{
	cpu->hits++;
	switch (seen) {
	case SEEN_FULL:
		t->full++;
		break;
	case SEEN_CLASH:
		t->clashes++;
		break;
	case SEEN_EVICTION: /* one entry or more: the kernel counts them */
		break;
	}
	tell_beginning(cpu, t, cookie, seen == SEEN_EVICTION ? BEGIN_EVICTING : BEGIN_REFUSING);
}

/* For fexit, which may load from its pointers. The helpers that read kernel memory are refused by lockdown. */
static __always_inline void fexit_saw(struct net *net, enum seen seen)
{
	struct cpu *cpu = this_cpu();
	struct table *t;
	__u64 cookie;

	if (!net || !cpu)
		return;
	cookie = IDENTITY(net);
	t = find(cpu, cookie);
	if (!core && !t)
		t = enter_uncounted(cpu, cookie, net->ns.inum);
	if (core && (!t || !t->stat))
		t = enter_new(cpu, cookie, net);
	if (t)
		count_seen(cpu, t, cookie, seen);
	else
		cpu->hits_lost++;
}

/* For kprobes. */
static __always_inline void kprobe_saw(__u64 where, enum seen seen)
{
	struct net *net = (void *)where;
	struct cpu *cpu = this_cpu();
	struct table *t;
	__u64 cookie;

	if (!cpu)
		return;
	cookie = READ_IDENTITY(net);
	t = find(cpu, cookie);
	if (!core && !t)
		t = enter_uncounted(cpu, cookie, BPF_CORE_READ(net, ns.inum));
	if (core && (!t || !t->stat))
		t = enter_new(cpu, cookie, net);
	if (t)
		count_seen(cpu, t, cookie, seen);
	else
		cpu->hits_lost++;
}

/*
 * early_drop() runs only when a namespace's count is over max: from
 * __nf_conntrack_alloc(), for a packet or for an insert by ctnetlink. It
 * returns 0 if it found nothing to evict; the packet's refusal is then counted
 * in drop. Else it has evicted, and counted that in early_drop.
 */
SEC("fexit/early_drop")
int BPF_PROG(early_drop_exit, struct net *net, unsigned int hash, int evicted)
{
	fexit_saw(net, evicted ? SEEN_EVICTION : SEEN_FULL);
	return 0;
}

/*
 * nf_ct_resolve_clash() runs only for an entry whose tuple is there already,
 * from __nf_conntrack_confirm(); since 5.6, EL 8.3 as a function of its own.
 * It returns NF_DROP, and has counted that in drop, and insert_failed moves
 * too; or NF_ACCEPT.
 */
SEC("fexit/nf_ct_resolve_clash")
int BPF_PROG(clash_exit, struct sk_buff *skb, void *h, __u32 reply_hash, int verdict)
{
	if (verdict == NF_DROP)
		fexit_saw(net_of(skb), SEEN_CLASH);
	return 0;
}

/*
 * A kretprobe sees what a function returns, and not what it was called with:
 * a kprobe keeps that, by the stack pointer. Where either does not run (too
 * many calls at once, another kprobe at work) or the packet moves to another
 * CPU in between, the call is missed, and that shows.
 */
static __always_inline struct call *call_at(struct cpu *cpu, __u64 sp)
{
	return &cpu->calls[(sp >> 4 ^ sp >> 9) % CALLS];
}

static __always_inline void kprobe_called(__u64 sp, __u64 net)
{
	struct cpu *cpu = this_cpu();
	struct call *call;

	if (!cpu)
		return;
	cpu->called++;
	/* A compiler that made a variant of the function may have changed its arguments. */
	if (netns_operations && BPF_CORE_READ((struct net *)net, ns.ops) != netns_operations)
		return;
	call = call_at(cpu, sp);
	call->sp = sp;
	call->net = net;
}

/* The namespace of the call, 0 if it was missed. */
static __always_inline __u64 kprobe_returned(__u64 sp)
{
	struct cpu *cpu = this_cpu();
	struct call *call;

	if (!cpu)
		return 0;
	call = call_at(cpu, sp);
	if (call->sp != sp)
		return 0;
	call->sp = 0;
	cpu->returned++;
	return call->net;
}

SEC("kprobe/early_drop")
int early_drop_call(struct pt_regs *ctx)
{
	kprobe_called(ctx->sp, FIRST_ARGUMENT(ctx));
	return 0;
}

SEC("kretprobe/early_drop")
int early_drop_ret(struct pt_regs *ctx)
{
	__u64 net = kprobe_returned(SP_OF_CALL(ctx));

	if (net)
		kprobe_saw(net, (__u32)RETURN_VALUE(ctx) ? SEEN_EVICTION : SEEN_FULL);
	return 0;
}

SEC("kprobe/nf_ct_resolve_clash")
int clash_call(struct pt_regs *ctx)
{
	struct sk_buff *skb = (void *)FIRST_ARGUMENT(ctx);
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct net *net;

	net = dev ? BPF_CORE_READ(dev, nd_net.net) : BPF_CORE_READ(skb, sk, __sk_common.skc_net.net);
	kprobe_called(ctx->sp, (__u64)net);
	return 0;
}

SEC("kretprobe/nf_ct_resolve_clash")
int clash_ret(struct pt_regs *ctx)
{
	__u64 net = kprobe_returned(SP_OF_CALL(ctx));

	if (net && (__u32)RETURN_VALUE(ctx) == NF_DROP)
		kprobe_saw(net, SEEN_CLASH);
	return 0;
}

/*
 * Not attached: user space runs it on a CPU for the namespace args[0], where
 * refusals are missing that no look has found, and looks were not taken.
 */
SEC("raw_tp")
int settle(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 cookie = ctx->args[0];
	__u32 slot, *known = bpf_map_lookup_elem(&slots, &cookie);
	struct cpu *cpu = this_cpu();
	struct counters now = {};
	struct table *t;

	if (!known || !cpu || (unloadable && unloaded))
		return 0;
	slot = *known;
	t = bpf_map_lookup_elem(&tables, &slot);
	if (!t || !t->stat || !begin_work(cpu))
		return 0;
	read_counters(&now, t->stat);
	account(cpu, t, &now, 0);
	t->full_told = t->full;
	end_work(cpu);
	return 0;
}

/* What a sysctl is called below /proc/sys, the terminating 0 included. */
#define IS_NAMED(name, wanted) is_named(name, wanted, sizeof(wanted))

static __always_inline int is_named(const char *name, const char *wanted, int size)
{
	int i;

#pragma unroll
	for (i = 0; i < size; i++)
		if (name[i] != wanted[i])
			return 0;
	return 1;
}

/* Which limit a sysctl is, negative if none. The kernel has nf_conntrack_max under two names. */
static __always_inline int limit_of(struct bpf_sysctl *ctx)
{
	char name[40] = {};

	if (bpf_sysctl_get_name(ctx, name, sizeof(name), 0) < 0)
		return -1; /* longer than any of ours */
	if (IS_NAMED(name, "net/netfilter/nf_conntrack_max") || IS_NAMED(name, "net/nf_conntrack_max"))
		return LIMIT_MAX;
	if (IS_NAMED(name, "net/netfilter/nf_conntrack_buckets"))
		return LIMIT_BUCKETS;
	return -1;
}

/* A write that is of no limit ends at limit_of(). */
static __always_inline struct limit_write *reserve_limit_write(struct bpf_sysctl *ctx)
{
	struct limit_write *w;
	int limit = limit_of(ctx);

	if (limit < 0)
		return 0;
	w = bpf_ringbuf_reserve(&limit_writes, sizeof(*w), 0);
	if (!w) {
		__sync_fetch_and_add(&limit_writes_lost, 1);
		return 0;
	}
	__builtin_memset(w, 0, sizeof(*w));
	w->limit = limit;
	w->time_ns = bpf_ktime_get_boot_ns();
	w->cgroup = bpf_get_current_cgroup_id();
	bpf_sysctl_get_current_value(ctx, (char *)w->from, sizeof(w->from));
	w->to_len = bpf_sysctl_get_new_value(ctx, (char *)w->to, sizeof(w->to));
	return w;
}

/*
 * Attached to the root of cgroup2: runs when any process of the machine reads
 * or writes any sysctl, through whichever mount of proc, after the file's
 * permissions were checked and before the value is. It allows all. No kernel
 * counter moves here. Since 6.1 such a program may ask who the current task is.
 */
SEC("cgroup/sysctl")
int sysctl_write(struct bpf_sysctl *ctx)
{
	struct limit_write *w;

	if (!ctx->write)
		return 1;
	w = reserve_limit_write(ctx);
	if (!w)
		return 1;
	w->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(w->comm, sizeof(w->comm));
	bpf_ringbuf_submit(w, 0);
	return 1;
}

/* The same for kernels before 6.1, where it takes reading kernel memory (5.8). */
SEC("cgroup/sysctl")
int sysctl_by_task(struct bpf_sysctl *ctx)
{
	struct task_struct *task;
	struct limit_write *w;

	if (!ctx->write)
		return 1;
	w = reserve_limit_write(ctx);
	if (!w)
		return 1;
	task = (void *)bpf_get_current_task();
	bpf_core_read(&w->pid, sizeof(w->pid), &task->tgid);
	bpf_core_read(w->comm, sizeof(w->comm), &task->comm);
	bpf_ringbuf_submit(w, 0);
	return 1;
}
