// epoch.go owns revocation: how a process learns within a minute that it must forget its keys.

package keycache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// EpochLimit is the longest that keys are used while nobody knows whether they were revoked.
const EpochLimit = time.Minute

// EpochAge is how often a process looks where nothing else is said.
const EpochAge = 20 * time.Second

// turnWait is how long one caller waits for another's question, where nothing is known: who asks may wait for the very connection that this one holds.
const turnWait = 100 * time.Millisecond

// ErrEpoch: it is not known whether keys were revoked.
var ErrEpoch = errors.New("look whether keys were revoked")

// Epoch is a number outside of the process that a revocation makes larger. It is safe for concurrent use.
type Epoch struct {
	age  time.Duration
	now  func() time.Time
	turn chan struct{} // holds one: who asks

	mu      sync.Mutex
	known   bool
	value   int64
	checked time.Time // when value was read
}

// NewEpoch looks once in age, at most [EpochLimit]; 0 is [EpochAge].
func NewEpoch(age time.Duration, now func() time.Time) (*Epoch, error) {
	if age < 0 || age > EpochLimit {
		return nil, fmt.Errorf("EpochAge is %v, not up to %v", age, EpochLimit)
	}
	if age == 0 {
		age = EpochAge
	}
	return &Epoch{age: age, now: now, turn: make(chan struct{}, 1)}, nil
}

// Check looks whether the epoch has changed, seldom: one caller reads it, and all others go on with what is known for up to [EpochLimit], or wait where that is
// over. changed is called before Check returns, so that nobody uses what a revocation took. It must come before keys are loaded: what is loaded afterwards is not older
// than this epoch. read gives the number, and whether it is recent: one of an old snapshot may tell of a revocation, and never that there was none.
func (e *Epoch) Check(ctx context.Context, read func(context.Context) (value int64, recent bool, err error), changed func()) error {
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
	value, recent, err := read(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && usable && ctx.Err() == nil:
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", ErrEpoch, err)
	case !recent && e.known && value <= e.value:
		return nil // it says nothing of now, and the next one asks again
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
func (e *Epoch) state() (fresh, usable bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	gone := since(e.now(), e.checked)
	usable = e.known && gone < EpochLimit
	return usable && gone < e.age, usable
}
