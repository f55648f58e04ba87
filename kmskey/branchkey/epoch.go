// epoch.go owns revocation: how a process learns within a minute that it must forget its keys.

package branchkey

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// turnWait is how long one caller waits for another's question, where nothing is known: who asks may wait for the very connection that this one holds.
const turnWait = 100 * time.Millisecond

type epoch struct {
	age  time.Duration
	now  func() time.Time
	turn chan struct{} // holds one: who asks

	mu      sync.Mutex
	known   bool
	value   int64
	checked time.Time // when value was read
}

// check looks whether the epoch has changed, seldom: one caller asks, and all others go on with what is known for up to epochLimit, or wait where that is
// over. changed is called before check returns, so that nobody uses what a revocation took.
func (e *epoch) check(ctx context.Context, store Store, changed func()) error {
	fresh, usable := e.state()
	if fresh {
		return nil
	}
	if usable {
		select {
		case e.turn <- struct{}{}:
		default:
			return nil // somebody asks already
		}
		defer func() { <-e.turn }()
	} else {
		patience := time.NewTimer(turnWait)
		defer patience.Stop()
		select {
		case e.turn <- struct{}{}:
			defer func() { <-e.turn }()
		case <-patience.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fresh, usable = e.state(); fresh {
		return nil
	}
	asked := e.now()
	value, recent, err := store.Epoch(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && usable && ctx.Err() == nil:
		return nil
	case err != nil:
		return fmt.Errorf("%w: look whether keys were revoked: %w", errStore, err)
	case !recent && e.known && value <= e.value:
		return nil // perhaps of an older snapshot: it says nothing of now, and the next one asks again
	case e.known && value != e.value:
		changed() // a smaller one too: the database was restored, and may have lost keys that are held here
	}
	e.known, e.value = true, value
	if recent {
		e.checked = asked
	}
	return nil
}

// state says whether what is known is recent, and whether it may be gone by at all.
func (e *epoch) state() (fresh, usable bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	since := e.now().Sub(e.checked)
	usable = e.known && since >= 0 && since < epochLimit
	return usable && since < e.age, usable
}
