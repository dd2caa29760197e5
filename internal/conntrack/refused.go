package conntrack

// Refusal is what counters alone tell of refused packets.
//
// One thing they cannot tell: a full table and a dying entry move, together, what a clash moves. Where both happen on
// one CPU between two looks they are counted as clashes, one for two, so the truth is from Total to Total plus
// Drops[Clash].
type Refusal struct {
	Drops Drops // of the causes that are plain: ChainTooLong, Clash and InsertRace
	// DropAlone counts the packets for which the kernel's drop counter moved and no other: table_full, alloc_failed or
	// other. Only the count and max of that moment can tell which.
	DropAlone uint64
}

// Total is the number of refused packets.
func (r Refusal) Total() uint64 { return r.Drops.Total() + r.DropAlone }

// Refused tells refused packets from the other things that move the counters. deltas is by how much the counters moved
// on each CPU since the last look. One CPU moves a packet's counters, so CPU by CPU fewer causes are taken for another.
//
// What moves which, in net/netfilter/nf_conntrack_core.c since 5.10 (bc92470413f3) and in EL8.4:
//
//	nf_conntrack_in: table full, no memory, TCP reopened   drop
//	nf_ct_resolve_clash, unresolved                        drop, insert_failed
//	__nf_conntrack_confirm, chain too long (since 5.15)    chaintoolong, insert_failed
//	__nf_conntrack_confirm, dying or stale entry           insert_failed
//	nf_conntrack_hash_check_insert (ctnetlink, no packet)  chaintoolong
//
// Kernels before, which have no clash_resolve, also move insert_failed for packets that they accept (71d8c47fc653):
// there only drop counts.
func Refused(deltas []Counters, known CounterSet) Refusal {
	var r Refusal
	for _, d := range deltas {
		drop, failed := uint64(d[CounterDrop]), uint64(d[CounterInsertFailed])
		if !known.Has(CounterClashResolve) {
			failed = 0
		}
		chain := min(uint64(d[CounterChainTooLong]), failed)
		clash := min(drop, failed-chain)
		r.Drops[ChainTooLong] += chain
		r.Drops[Clash] += clash
		r.Drops[InsertRace] += failed - chain - clash
		r.DropAlone += drop - clash
	}
	return r
}

// Hooked is what hooks on the functions that refuse packets saw in one namespace, since they were attached.
type Hooked struct {
	// Full is how often early_drop found nothing to evict: for a packet, which was then refused, or for an entry that
	// ctnetlink was to insert.
	Full uint64
	// Clashes is how often nf_ct_resolve_clash gave up, and a packet was refused.
	Clashes uint64
}
