package hook

import "github.com/ctwatch/ctwatch/internal/record"

// Filter decides which records are worth a call of the hook. The zero value has seen nothing.
type Filter struct {
	told map[string]told // by the incident's ID, while it is open
}

// told is what the hook was last told of an incident.
type told struct {
	lost    uint64 // packets
	verdict string
}

// Worthy reports whether the hook is to be called for a record: an incident that opens or closes, one that has become
// worse or is another than was thought, and each action but the hook's own, which would call it for ever.
//
// An incident becomes worse when it loses its first packets, and with each ten times as many as were told.
func (f *Filter) Worthy(r record.Record) bool {
	switch r := r.(type) {
	case *record.Action:
		return r.What != record.ActionHook
	case *record.Incident:
		return f.incident(r)
	}
	return false
}

func (f *Filter) incident(r *record.Incident) bool {
	if r.Phase == record.PhaseClose {
		delete(f.told, r.ID)
		return true
	}
	now := told{lost: r.Drops.Total() + r.Unattributed, verdict: r.VerdictKind}
	last, known := f.told[r.ID]
	switch {
	case !known, now.verdict != last.verdict, last.lost == 0 && now.lost > 0, last.lost > 0 && now.lost/10 >= last.lost:
	default:
		return false
	}
	if f.told == nil {
		f.told = map[string]told{}
	}
	f.told[r.ID] = now
	return true
}

// supersedes reports whether a record tells all that an older one tells, so that the older need not be told. What opens
// an incident is always told, for a hook may wait for just that.
func supersedes(r, older record.Record) bool {
	now, ok := r.(*record.Incident)
	if !ok {
		return false
	}
	then, ok := older.(*record.Incident)
	return ok && now.ID == then.ID && then.Phase == record.PhaseUpdate && now.Phase != record.PhaseOpen
}
