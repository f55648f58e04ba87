// counter.go owns the Provider around a Provider that tests of callers watch and disturb.

package kmskeytest

import (
	"context"
	"sync"

	"github.com/rowseal/rowseal/kmskey"
)

// Call is one call that a [Counter] saw. It holds no data key.
type Call struct {
	Op      string         // "wrap", "unwrap" or "rewrap"
	Wrapped kmskey.Wrapped // what is unwrapped or rewrapped; zero when wrapping
	Context kmskey.Context // the context; the one rewrapped to, for a rewrap
}

// Counter is a [kmskey.Provider] around another. It counts calls per operation and the most that were in flight at once,
// and lets a test delay or fail any of them. It is safe for concurrent use.
//
// A Counter itself wraps and unwraps only. [Counter.Provider] is the same counter with the optional powers of what it
// stands around.
type Counter struct {
	// Before runs before each call is passed on, with the call already counted and in flight. It may block, on a channel
	// or until ctx is done, and what it returns, if not nil, is the call's error. Set it before the first call. Defaults
	// to nothing.
	Before func(ctx context.Context, c Call) error

	inner kmskey.Provider

	mu       sync.Mutex
	counts   map[string]int
	inFlight int
	most     int
}

var _ kmskey.Provider = (*Counter)(nil)

// NewCounter counts the calls to inner.
func NewCounter(inner kmskey.Provider) *Counter {
	return &Counter{inner: inner, counts: make(map[string]int)}
}

// Provider is c, with Rewrap where the provider inside has it.
func (c *Counter) Provider() kmskey.Provider {
	if r, ok := c.inner.(kmskey.Rewrapper); ok {
		return rewrapCounter{c, r}
	}
	return c
}

type rewrapCounter struct {
	*Counter
	inner kmskey.Rewrapper
}

// Rewrap is counted and passed on. A source that is itself a Counter is passed on as what it stands around, which the
// provider inside knows; its calls are not counted there, since the service reads both keys in one.
func (r rewrapCounter) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (out kmskey.Wrapped, err error) {
	switch s := source.(type) {
	case *Counter:
		source = s.inner
	case rewrapCounter:
		source = s.Counter.inner
	}
	err = r.watch(ctx, Call{"rewrap", w, to}, func() (err error) { out, err = r.inner.Rewrap(ctx, source, w, from, to); return err })
	return out, err
}

// Wrap is counted and passed on.
func (c *Counter) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (w kmskey.Wrapped, err error) {
	err = c.watch(ctx, Call{Op: "wrap", Context: ec}, func() (err error) { w, err = c.inner.Wrap(ctx, dek, ec); return err })
	return w, err
}

// Unwrap is counted and passed on.
func (c *Counter) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (dek kmskey.DEK, err error) {
	err = c.watch(ctx, Call{"unwrap", w, ec}, func() (err error) { dek, err = c.inner.Unwrap(ctx, w, ec); return err })
	return dek, err
}

func (c *Counter) watch(ctx context.Context, call Call, do func() error) error {
	c.mu.Lock()
	c.counts[call.Op]++
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.inFlight--
		c.mu.Unlock()
	}()
	if c.Before != nil {
		if err := c.Before(ctx, call); err != nil {
			return err
		}
	}
	return do()
}

// Count is the number of calls of one operation ("wrap", "unwrap", "rewrap") since the last Reset, failed ones included.
func (c *Counter) Count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[op]
}

// Calls is the number of calls of all operations since the last Reset.
func (c *Counter) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, k := range c.counts {
		n += k
	}
	return n
}

// InFlight is the number of calls that have begun and not ended.
func (c *Counter) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight
}

// MaxInFlight is the most calls that were in flight at once since the last Reset.
func (c *Counter) MaxInFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// Reset sets the counts to zero. Calls in flight stay counted as in flight.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.counts)
	c.most = c.inFlight
}
