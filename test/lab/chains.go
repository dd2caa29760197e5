package lab

import "context"

// LongChains fills the namespace's table and shrinks the machine's hash table so that every chain is longer than
// any insertion at confirm allows (MIN_CHAINLEN and MAX_CHAINLEN in nf_conntrack_core.c, at most 79, since
// Linux 5.15): from then on the first packet of every new connection is refused in every namespace, until the
// lab ends or sets [Buckets] again. Drop does not move, ChainTooLong and InsertFailed do.
func (l *Lab) LongChains(ctx context.Context, n *Namespace) error {
	const (
		buckets = 512 // the least there can be with pages of 4096 bytes
		average = 140 // five standard deviations over the limit, and two chains would have to be under it
	)
	if err := l.raise(Max, 2*buckets*average); err != nil {
		return err
	}
	// With long chains netlink makes no entries either: fill first.
	if err := n.Fill(ctx, buckets*average/2); err != nil {
		return err
	}
	return l.SetLimit(Buckets, buckets)
}

// raise sets a limit unless it is higher already.
func (l *Lab) raise(name string, value uint64) error {
	now, err := l.Limit(name)
	if err != nil || now >= value {
		return err
	}
	return l.SetLimit(name, value)
}
