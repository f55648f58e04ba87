// batch.go owns many rows at once, for services that take many keys in one request.

package kmskey

import (
	"context"
	"reflect"
)

// RewrapRow is one row of [Keyring.RewrapAll].
type RewrapRow struct {
	Envelope Envelope
	Row      Row
}

// RewrappedRow is what became of it. Done is false where a batch cannot do it, or was refused it: [Keyring.Rewrap] can, or says what is wrong.
type RewrappedRow struct {
	Envelope Envelope
	Done     bool
	Err      error // of the service, where one was asked and did not do it
}

// Batches reports that the current version's service takes many keys in one request, so that [Keyring.RewrapAll] is worth its while.
func (k *Keyring) Batches() bool {
	v := k.versions[k.current]
	if v.legs == nil || len(v.legs.legs) != 1 {
		return false
	}
	_, can := v.legs.legs[0].Provider.(BatchRewrapper)
	return can
}

// RewrapAll moves the keys of many rows that stay the rows they are, as far as that can be done in requests for many keys ([BatchRewrapper]): rows with one data key under
// one key of a service with that power. All others are left to [Keyring.Rewrap]. Observers see one act for each key.
func (k *Keyring) RewrapAll(ctx context.Context, rows []RewrapRow) []RewrappedRow {
	out := make([]RewrappedRow, len(rows))
	type pair struct{ source, target Provider }
	type member struct {
		at             int
		source, target place
		key            sealedKey
	}
	batches := map[pair][]member{}
	for i, r := range rows {
		e := r.Envelope
		if len(e.keys) != 1 || len(e.keys[0].wraps) != 1 || k.knows(e.keys[0].version) != nil {
			continue
		}
		row, err := e.admit("rewrap", r.Row)
		if err != nil {
			continue
		}
		m := member{at: i, key: e.keys[0]}
		if m.source, err = k.at(int(m.key.version), row); err != nil {
			continue
		}
		if m.target, err = k.at(k.current, row); err != nil {
			continue
		}
		if len(m.source.legs.legs) != 1 || len(m.target.legs.legs) != 1 {
			continue
		}
		if m.target.holds(m.key, m.source) {
			out[i] = RewrappedRow{Envelope: e, Done: true} // nothing to do
			continue
		}
		p := pair{m.source.legs.legs[0].Provider, m.target.legs.legs[0].Provider}
		if _, can := p.target.(BatchRewrapper); can && canCompare(p.source) && canCompare(p.target) {
			batches[p] = append(batches[p], m)
		}
	}
	for p, members := range batches {
		items := make([]RewrapItem, len(members))
		ends := make([]func(Result), len(members))
		for n, m := range members {
			items[n] = RewrapItem{m.key.wraps[0], m.source.context, m.target.context}
			_, ends[n] = m.target.begin(ctx, "rewrap", m.key.wraps[0].KeyRef, p.target, m.target.context)
		}
		results := p.target.(BatchRewrapper).RewrapAll(ctx, p.source, items)
		for n, m := range members {
			r := RewrapResult{Err: errContract}
			if len(results) == len(members) {
				r = results[n]
			}
			w, err := m.target.checked(r.Wrapped, r.Err)
			ends[n](Result{Service: w.Service, KeyRef: w.KeyRef, Err: err})
			if err != nil {
				out[m.at].Err = err
				continue
			}
			m.target.legs.legs[0].used(w)
			// The commitment is kept, since it holds nothing that changes.
			out[m.at] = RewrappedRow{Envelope: Envelope{rows[m.at].Envelope.unbound, []sealedKey{{m.key.id, uint32(k.current), m.key.commitment, []Wrapped{w}}}}, Done: true}
		}
	}
	return out
}

func canCompare(p Provider) bool { return reflect.TypeOf(p).Comparable() }
