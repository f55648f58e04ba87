// counter.go owns the Provider around a Provider that tests of callers watch and disturb.

package kmskeytest

import (
	"context"
	"sync"

	"github.com/rowseal/rowseal/kmskey"
)

// Call is one call that a [Counter] saw. It holds no data key.
type Call struct {
	Op      string         // "wrap", "unwrap", "rewrap", "generate" or "generate wrapped"
	Wrapped kmskey.Wrapped // what is unwrapped or rewrapped; else zero
	Context kmskey.Context // the context; the one rewrapped to, for a rewrap
}

// Counter is a [kmskey.Provider] around another. It counts calls per operation and the most that were in flight at once,
// and lets a test delay or fail any of them. It is safe for concurrent use.
//
// A Counter itself wraps, unwraps and knows what the inside owns. [Counter.Provider] is the same counter with the other
// powers of what it stands around.
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

var (
	_ kmskey.Provider = (*Counter)(nil)
	_ kmskey.Owner    = (*Counter)(nil)
)

// NewCounter counts the calls to inner.
func NewCounter(inner kmskey.Provider) *Counter {
	return &Counter{inner: inner, counts: make(map[string]int)}
}

// Provider is c, with those of Rewrap, Generate and GenerateWrapped that the provider inside has.
func (c *Counter) Provider() kmskey.Provider {
	r, g, b := is[kmskey.Rewrapper](c.inner), is[kmskey.Generator](c.inner), is[kmskey.BlindGenerator](c.inner)
	// The methods of a type are settled when it is compiled, so each set of powers is a type of its own.
	switch {
	case r && g && b:
		return struct {
			*Counter
			rewraps
			generates
			generatesWrapped
		}{c, rewraps{c}, generates{c}, generatesWrapped{c}}
	case r && g:
		return struct {
			*Counter
			rewraps
			generates
		}{c, rewraps{c}, generates{c}}
	case r && b:
		return struct {
			*Counter
			rewraps
			generatesWrapped
		}{c, rewraps{c}, generatesWrapped{c}}
	case g && b:
		return struct {
			*Counter
			generates
			generatesWrapped
		}{c, generates{c}, generatesWrapped{c}}
	case r:
		return struct {
			*Counter
			rewraps
		}{c, rewraps{c}}
	case g:
		return struct {
			*Counter
			generates
		}{c, generates{c}}
	case b:
		return struct {
			*Counter
			generatesWrapped
		}{c, generatesWrapped{c}}
	}
	return c
}

func is[Power any](p kmskey.Provider) bool {
	_, ok := p.(Power)
	return ok
}

// around is what is inside a Counter, whichever powers it shows.
func (c *Counter) around() kmskey.Provider { return c.inner }

type rewraps struct{ c *Counter }

// Rewrap is counted and passed on. A source that is itself a Counter is passed on as what it stands around, which the
// provider inside knows; its calls are not counted there, since the service reads both keys in one.
func (r rewraps) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (out kmskey.Wrapped, err error) {
	if s, ok := source.(interface{ around() kmskey.Provider }); ok {
		source = s.around()
	}
	err = r.c.watch(ctx, Call{"rewrap", w, to}, func() (err error) {
		out, err = r.c.inner.(kmskey.Rewrapper).Rewrap(ctx, source, w, from, to)
		return err
	})
	return out, err
}

type generates struct{ c *Counter }

// Generate is counted and passed on.
func (g generates) Generate(ctx context.Context, ec kmskey.Context) (dek kmskey.DEK, w kmskey.Wrapped, err error) {
	err = g.c.watch(ctx, Call{Op: "generate", Context: ec}, func() (err error) {
		dek, w, err = g.c.inner.(kmskey.Generator).Generate(ctx, ec)
		return err
	})
	return dek, w, err
}

type generatesWrapped struct{ c *Counter }

// GenerateWrapped is counted and passed on.
func (g generatesWrapped) GenerateWrapped(ctx context.Context, ec kmskey.Context) (w kmskey.Wrapped, err error) {
	err = g.c.watch(ctx, Call{Op: "generate wrapped", Context: ec}, func() (err error) {
		w, err = g.c.inner.(kmskey.BlindGenerator).GenerateWrapped(ctx, ec)
		return err
	})
	return w, err
}

// Owns is the inside's answer, not counted: it is no call. Of an inside that is no [kmskey.Owner] it is true, as only Unwrap can tell.
func (c *Counter) Owns(w kmskey.Wrapped) bool {
	o, ok := c.inner.(kmskey.Owner)
	return !ok || o.Owns(w)
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

// Count is the number of calls of one operation ([Call].Op) since the last Reset, failed ones included.
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
