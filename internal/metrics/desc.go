package metrics

import "github.com/prometheus/client_golang/prometheus"

// descs are the metrics: their names, what they mean, and their labels.
type descs struct {
	all []*prometheus.Desc

	drops, evicted, kernel           *prometheus.Desc
	entries, limit, toFull, buckets  *prometheus.Desc
	active, incidents                *prometheus.Desc
	actions, changes, persisted      *prometheus.Desc
	probe, blind, lost, unattributed *prometheus.Desc
	journalLost, build               *prometheus.Desc
}

func newDescs() *descs {
	d := &descs{}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		x := prometheus.NewDesc("ctwatch_"+name, help, labels, nil)
		d.all = append(d.all, x)
		return x
	}
	d.drops = desc("drops_total", "Packets that connection tracking refused since ctwatch started, by why. "+
		"What is counted for a namespace that is gone may move to netns=\"other\" later.", "netns", "cause")
	d.evicted = desc("evicted_total", "Entries that the kernel evicted for newer ones (early_drop) since ctwatch started.", "netns")
	d.entries = desc("entries", "Entries in the connection tracking table; netns=\"other\": in all of theirs together.", "netns")
	d.limit = desc("entries_limit", "Entries that the table may hold (nf_conntrack_max); +Inf where there is no limit. "+
		"Each namespace is held to it by itself, so netns=\"other\" has none.", "netns")
	d.toFull = desc("seconds_to_full", "Seconds until the table is full if it goes on as in the last 10 seconds; "+
		"+Inf if it does not fill. netns=\"other\": the one that is full first.", "netns")
	d.buckets = desc("buckets", "Buckets of the hash table, which all namespaces share (nf_conntrack_buckets).")
	// Not kernel_counter_total: promtool objects to a type in a name.
	d.kernel = desc("kernel_stat_total", "The kernel's own counters, as conntrack -S shows them, of all CPUs together "+
		"and past the wrap of their 32 bits, since ctwatch started. They only rise. One that this kernel lacks is not here.", "netns", "counter")
	d.active = desc("incident_active", "Incidents that are going on.", "netns", "cause")
	d.incidents = desc("incidents_total", "Incidents that began since ctwatch started; ctwatch report tells of each.",
		"netns", "cause")
	d.actions = desc("actions_total", "What ctwatch did about a filling table, would have done (dry_run), or did not "+
		"(refused, yielded, failed).", "action", "result")
	d.changes = desc("limit_changes_total", "Changes of nf_conntrack_max or nf_conntrack_buckets, by who made them as far as seen.", "by")
	d.persisted = desc("persisted_limit", "What a file of this machine sets nf_conntrack_max to; absent where none does.")
	d.probe = desc("probe_info", "How refused packets are seen; probe=\"none\" while conntrack is not loaded.", "probe")
	d.blind = desc("probe_blind", "1 for five minutes after the probe was found not to run, and was attached anew. "+
		"Causes and addresses of refused packets may be missing from before; 0 otherwise.")
	d.lost = desc("events_lost_total", "Refused packets that were counted, but of which nothing else could be shown.")
	d.unattributed = desc("unattributed_drops_total", "Packets refused by the kernel's counters that the probe did not see. "+
		"They are not in ctwatch_drops_total.")
	d.journalLost = desc("journal_records_lost_total", "Records that could not be written to the journal.")
	d.build = desc("build_info", "The version of ctwatch; the value is always 1.", "version", "goversion", "goarch")
	return d
}
