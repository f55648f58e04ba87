// known.go owns what a process knows of the table beside the keys in its cache: which key of a slot wraps, what it must put back, and what is not there. Nothing of it is secret.

package branchkey

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// place is one branch key of a slot.
type place struct {
	Slot
	id string
}

const (
	// goneFor is how long a branch key that the table does not have is not looked for again: a page of rows under it is one question. Nothing is missed by it, since a key
	// stands in the table before any row names it; one that is brought back from a backup is found so much later.
	goneFor = 5 * time.Second

	// owedRest is the pause after the table did not take a key back.
	owedRest = 10 * time.Second

	// mostGone bounds the ids in memory that the table does not have. Rows can name any.
	mostGone = 4096
)

// known is safe for concurrent use.
type known struct {
	most int              // slots, beyond which those without a key in the cache go
	age  time.Duration    // of a slot's wrapping key, until the table is looked at again
	held func(place) bool // whether the cache has it

	mu      sync.Mutex
	keys    map[Slot][]Key // that this process has opened: rows may lie under them, so they go back where the table has lost them
	current map[Slot]current
	gone    map[place]absence // "" stands for all keys of a shredded tenant's slot
	owed    []Slot            // to be compared with the table
	rest    time.Time         // until then owed waits
	owing   atomic.Bool       // whether owed has any: who uses a key should not need mu for that
	round   atomic.Uint64     // counts flushes
}

// absence is an answer that is remembered.
type absence struct {
	err   error
	until time.Time
}

// current is the key that wraps.
type current struct {
	id    string
	asked time.Time // the table
}

func newKnown(tenants int, age time.Duration, held func(place) bool) *known {
	return &known{most: 2 * tenants, age: age, held: held, keys: map[Slot][]Key{}, current: map[Slot]current{}, gone: map[place]absence{}}
}

// wraps gives the id of the key that wraps, "" where that is not known. Now and then it is one caller's turn to look whether the table still has it.
func (n *known) wraps(at Slot, now time.Time) (id string, turn bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.current[at]
	if age := now.Sub(c.asked); !ok || age >= 0 && age < n.age {
		return c.id, !ok
	}
	c.asked = now
	n.current[at] = c
	return c.id, true
}

// forget has the table be asked which key wraps, if id is thought to.
func (n *known) forget(at Slot, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current[at].id == id {
		delete(n.current, at)
	}
}

// absent gives the error of a key that was looked for a moment ago, and was not there.
func (n *known) absent(p place, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, q := range []place{p, {p.Slot, ""}} {
		if a, ok := n.gone[q]; ok {
			var m *missing
			_, stands := n.current[p.Slot]
			outdated := errors.As(a.err, &m) && m.others == 0 && stands // another key was made since, and the error says that there is none
			// By both sides, for a clock that was set back.
			if left := a.until.Sub(now); left > 0 && left <= goneFor && !outdated {
				return a.err
			}
			delete(n.gone, q)
		}
	}
	return nil
}

func (n *known) remember(p place, err error, now time.Time) {
	if len(n.gone) >= mostGone {
		clear(n.gone)
	}
	n.gone[p] = absence{err, now.Add(goneFor)}
}

// lost gives the keys that this process has opened, and that stand in the table no more.
func (n *known) lost(at Slot, stand []Key) (lost []Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.keys[at] {
		if find(stand, k.ID) == nil {
			lost = append(lost, k)
		}
	}
	return lost
}

// stand notes what the table answered, of which id was wanted.
func (n *known) stand(at Slot, id string, keys []Key, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if first := wrapping(keys); first != "" {
		n.current[at] = current{first, now}
	} else {
		delete(n.current, at)
	}
	n.keys[at] = slices.DeleteFunc(n.keys[at], func(k Key) bool {
		stored := find(keys, k.ID)
		return stored != nil && stored.Sealed == "" // destroyed, and not put back where the table loses that too
	})
	if len(n.keys[at]) == 0 {
		delete(n.keys, at)
	}
	if id != "" && find(keys, id) == nil {
		n.remember(place{at, id}, &missing{at, id, len(keys)}, now)
	}
}

// shredded notes that a tenant's keys were destroyed, in the words of the table, and gives those that were known, and the error that says so.
func (n *known) shredded(at Slot, said error, now time.Time) (keys []Key, err error) {
	what := fmt.Sprintf("tenant %q was shredded", at.Tenant)
	if said != kmskey.ErrShredded { // which says no more
		what += ": " + said.Error()
	}
	err = &destroyed{what}
	n.mu.Lock()
	defer n.mu.Unlock()
	keys = n.keys[at]
	delete(n.keys, at)
	delete(n.current, at)
	n.remember(place{at, ""}, err, now)
	return keys, err
}

// opened notes a key that this process works with from now on.
func (n *known) opened(at Slot, key Key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if had := find(n.keys[at], key.ID); had != nil {
		*had = key
		return
	}
	n.keys[at] = append(n.keys[at], key)
	if len(n.keys) <= n.most {
		return
	}
	for other, keys := range n.keys {
		idle := other != at
		for _, k := range keys {
			idle = idle && !n.held(place{other, k.ID})
		}
		if idle {
			delete(n.keys, other)
			delete(n.current, other)
		}
	}
}

// flush is for when keys were revoked or the database was restored: the table is asked again for everything, and gets back what it has lost.
func (n *known) flush() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.round.Add(1)
	clear(n.current)
	clear(n.gone)
	n.owed, n.rest = n.owed[:0], time.Time{}
	for at := range n.keys {
		n.owed = append(n.owed, at)
	}
	n.owing.Store(len(n.owed) > 0)
}

// owes gives a slot to compare with the table.
func (n *known) owes(now time.Time) (at Slot, ok bool) {
	if !n.owing.Load() {
		return Slot{}, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last := len(n.owed) - 1
	if wait := n.rest.Sub(now); last < 0 || wait > 0 && wait <= owedRest {
		return Slot{}, false
	}
	at, n.owed = n.owed[last], n.owed[:last]
	n.owing.Store(last > 0)
	return at, true
}

// stillOwes notes that the table did not take it.
func (n *known) stillOwes(at Slot, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owed, n.rest = append(n.owed, at), now.Add(owedRest)
	n.owing.Store(true)
}

func find(keys []Key, id string) *Key {
	for i := range keys {
		if keys[i].ID == id {
			return &keys[i]
		}
	}
	return nil
}

// wrapping gives the id of the key that wraps: the oldest that was not destroyed.
func wrapping(keys []Key) string {
	for _, k := range keys {
		if k.Sealed != "" {
			return k.ID
		}
	}
	return ""
}

// missing says that the table does not have a branch key.
type missing struct {
	Slot
	id     string
	others int // that it has for the slot
}

func (m *missing) Error() string {
	text := "no branch key " + m.id
	if m.Tenant != "" {
		text += fmt.Sprintf(" for tenant %q and", m.Tenant)
	} else {
		text += " for"
	}
	text += fmt.Sprintf(" generation %d: the table has ", m.Generation)
	if m.others == 0 {
		return text + "none for them"
	}
	return text + fmt.Sprintf("%d other for them", m.others)
}

// destroyed is [kmskey.ErrShredded], and says of what.
type destroyed struct{ what string }

func (d *destroyed) Error() string { return kmskey.ErrShredded.Error() + ": " + d.what }

func (d *destroyed) Is(kind error) bool { return kind == kmskey.ErrShredded }
