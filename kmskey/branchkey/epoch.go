// epoch.go owns revocation: how a process learns within a minute that it must forget its keys.

package branchkey

import (
	"context"
	"fmt"
	"sync"
	"time"
)

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
	} else {
		select {
		case e.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-e.turn }()
	if fresh, usable = e.state(); fresh {
		return nil
	}
	asked := e.now()
	value, err := store.Epoch(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && usable && ctx.Err() == nil:
		return nil
	case err != nil:
		return fmt.Errorf("%w: look whether keys were revoked: %w", errStore, err)
	case e.known && value < e.value:
		return nil // read in an older snapshot: it grows, and says nothing of now
	case e.known && value > e.value:
		changed()
	}
	e.known, e.value, e.checked = true, value, asked
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
