// Package keycache remembers unwrapped keys, within bounds of age, number and use. It is on the standard library alone: the root module must
// cost its users nothing more than GORM, which is why it is no cache library.
//
// A key is asked for by whoever needs it first, in that caller's own goroutine; those who come meanwhile wait for the answer. The cache has
// no goroutine, so it needs no closing, and what is too old and never used again is destroyed when another key comes, or by Flush.
package keycache

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a [Cache] did since it was made.
type Stats struct {
	Hits      uint64 // uses answered from memory, of those who waited for another's question too
	Loads     uint64 // questions asked
	Failures  uint64 // questions that gave no value
	Stale     uint64 // of Hits, those with a key older than MaxAge
	Evictions uint64 // keys that went because there were more than Entries
	Entries   int    // keys in memory now
}

// Cache holds values of type V under ids of type K. An id is all that decides the value, or a hash of it: docs/format.md, section 9. It is safe for concurrent use, and must not be copied.
type Cache[K comparable, V any] struct {
	cfg     Config
	destroy func(V)

	mu     sync.Mutex // held for bookkeeping alone: never while load, use or destroy runs
	values map[K]*value[K, V]
	recent list.List       // of *value[K, V], the last used first
	asking map[K]*question // one at most for each id; one that is not here any more was overtaken by Flush or Forget
	doomed []*value[K, V]  // dropped under mu, released by unlock
	stats  Stats
}

// value is one key. It is destroyed by whoever gives up the last reference; the cache has one, and each running use.
type value[K comparable, V any] struct {
	id    K
	v     V
	refs  atomic.Int64
	place *list.Element
	asked time.Time // when the question was asked that this answers
	uses  int64
	bytes int64
	away  time.Time // when the service last turned out to be away; zero if not since asked
}

// question is one run of load.
type question struct {
	asked time.Time
	done  chan struct{} // closed at its end
	err   error         // for those who wait; nil: look again. Not written after done is closed
}

// New makes a cache. destroy gets every value that load gave, once, when it is neither remembered nor in use any more; it runs in the goroutine
// that gives the value up.
func New[K comparable, V any](cfg Config, destroy func(V)) (*Cache[K, V], error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if destroy == nil {
		return nil, errors.New("keycache: destroy is missing; give a function that does nothing where values need no destruction")
	}
	return &Cache[K, V]{cfg: cfg, destroy: destroy, values: map[K]*value[K, V]{}, asking: map[K]*question{}}, nil
}

// Use gives use the value of id, loaded by load where it is not there. V is not destroyed while use runs, and must not be kept after. Many uses
// of one value run at once. bytes is what use seals under the key; 0 where it only opens.
//
// load runs in the goroutine and with the ctx of one caller, without a lock: it may Use other ids of this cache, in no circle. It should have a
// time limit of its own, since others wait for it. Its error goes to its caller and to those who waited, but for an end of its caller's ctx and what is Config.Own, after
// which the next of them asks. One whose ctx ends while it waits leaves with ctx.Err().
//
// Where a key is there already and load fails: an error that is Away, or the deadline of its caller's ctx, lets the key be used on, see
// Config.MaxStale; any other but the end of ctx is a refusal, upon which the key is forgotten and destroyed.
func (c *Cache[K, V]) Use(ctx context.Context, id K, bytes int64, load func(context.Context) (V, error), use func(V) error) error {
	if bytes < 0 || bytes > c.cfg.MaxBytes {
		return fmt.Errorf("keycache: a use of %d bytes; a key may be used for 0 to %d, see MaxBytes", bytes, c.cfg.MaxBytes)
	}
	for {
		held, q, mine, err := c.look(ctx, id, bytes)
		switch {
		case held != nil || err != nil:
		case mine:
			held, err = c.ask(ctx, id, bytes, q, load)
		default:
			err = q.wait(ctx)
		}
		if err != nil {
			return err
		}
		if held != nil {
			return c.run(held, use) // a function of its own: a defer inside a loop allocates
		}
	}
}

func (c *Cache[K, V]) run(held *value[K, V], use func(V) error) error {
	defer c.release(held) // when use panics too
	return use(held.v)
}

// look gives the value, if it may be used, held. Else it gives the question to wait for, or to ask, where it is mine.
func (c *Cache[K, V]) look(ctx context.Context, id K, bytes int64) (held *value[K, V], q *question, mine bool, err error) {
	c.mu.Lock()
	defer c.unlock()
	now := c.cfg.Now()
	if v := c.values[id]; v != nil {
		age := since(now, v.asked)
		switch {
		case age > c.cfg.MaxStale || c.spent(v, bytes):
			c.drop(v)
		case age < c.cfg.Ahead, c.resting(v, now):
			return c.hold(v, bytes, age), nil, false, nil
		case c.waits(v, age):
			// One asks, who can; the others go on. So it is in an outage too, where each question may cost a time-out.
			if c.asking[id] != nil || ctx.Err() != nil {
				return c.hold(v, bytes, age), nil, false, nil
			}
		}
	}
	if q := c.asking[id]; q != nil {
		return nil, q, false, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, false, err // its failure would look like the service's
	}
	q = &question{asked: now, done: make(chan struct{})}
	c.asking[id] = q
	c.stats.Loads++
	return nil, q, true, nil
}

// waits says whether v, which is not spent nor too old for anything, serves those who do not ask while one does.
func (c *Cache[K, V]) waits(v *value[K, V], age time.Duration) bool {
	return age <= c.cfg.MaxAge || !v.away.IsZero()
}

// Has reports that a Use would not have to wait for an answer: of its own question at most, one ahead.
func (c *Cache[K, V]) Has(id K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.values[id]
	if v == nil {
		return false
	}
	now := c.cfg.Now()
	age := since(now, v.asked)
	return age <= c.cfg.MaxStale && !c.spent(v, 0) && (c.waits(v, age) || c.resting(v, now))
}

// ask runs load for q, and gives the caller its value, held.
func (c *Cache[K, V]) ask(ctx context.Context, id K, bytes int64, q *question, load func(context.Context) (V, error)) (*value[K, V], error) {
	answered := false
	defer func() { // also when load panics or ends its goroutine: those who wait then look again
		c.mu.Lock()
		if c.asking[id] == q {
			delete(c.asking, id)
		}
		if !answered {
			c.stats.Failures++
		}
		c.unlock()
		close(q.done)
	}()
	v, err := load(ctx)
	if err != nil {
		return c.failed(ctx, id, bytes, q, err)
	}
	answered = true
	return c.store(id, bytes, q, v), nil
}

// store remembers v, in place of the value that was there, and gives it held.
func (c *Cache[K, V]) store(id K, bytes int64, q *question, v V) *value[K, V] {
	c.mu.Lock()
	defer c.unlock()
	held := &value[K, V]{id: id, v: v, asked: q.asked, uses: 1, bytes: bytes}
	held.refs.Add(1)
	if c.asking[id] != q {
		return held // asked before Flush or Forget: it serves its caller, who called before too, and is gone
	}
	if old := c.values[id]; old != nil {
		c.drop(old)
	}
	held.refs.Add(1)
	held.place = c.recent.PushFront(held)
	c.values[id] = held
	// With the number, what nobody has used until it was too old: no goroutine comes by to destroy it.
	for now := c.cfg.Now(); ; {
		last, ok := c.recent.Back().Value.(*value[K, V]), len(c.values) <= c.cfg.Entries
		if ok && (last == held || since(now, last.asked) <= c.cfg.MaxStale) {
			return held
		}
		if !ok {
			c.stats.Evictions++
		}
		c.drop(last)
	}
}

// failed decides what the error of a question means, for its caller, for those who wait, and for the value that is there.
func (c *Cache[K, V]) failed(ctx context.Context, id K, bytes int64, q *question, err error) (*value[K, V], error) {
	away := c.cfg.Away(err)
	// Providers call an ended ctx "unavailable", so Away alone does not tell the caller's impatience from the service's silence. A refusal
	// stays one, whatever ctx did meanwhile.
	left := ctx.Err() != nil && (away || errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
	// A deadline is silence: else callers with short ones would each wait for a service that hangs, beside a key that may be used. Who was cancelled
	// has learned nothing of the service.
	silent := away && !left || left && errors.Is(ctx.Err(), context.DeadlineExceeded)

	c.mu.Lock()
	defer c.unlock()
	if !left && !c.cfg.Own(err) {
		q.err = err
	}
	v := c.values[id]
	if v == nil || c.asking[id] != q {
		return nil, err // nothing is there, or what came after Flush or Forget, of which this says nothing
	}
	if !left && !away {
		c.drop(v)
		return nil, err
	}
	now := c.cfg.Now()
	if silent {
		v.away = now
	}
	age := since(now, v.asked)
	if c.spent(v, bytes) || age > c.cfg.MaxStale || age > c.cfg.MaxAge && !silent {
		return nil, err
	}
	q.err = nil // they find the value as this caller does
	return c.hold(v, bytes, age), nil
}

func (q *question) wait(ctx context.Context) error {
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hold counts a use of v, which is of that age, and keeps it from being destroyed until release.
func (c *Cache[K, V]) hold(v *value[K, V], bytes int64, age time.Duration) *value[K, V] {
	v.refs.Add(1) // never from 0: the cache's own reference is there as long as v is in values
	v.uses++
	v.bytes += bytes
	c.recent.MoveToFront(v.place)
	c.stats.Hits++
	if age > c.cfg.MaxAge {
		c.stats.Stale++
	}
	return v
}

func (c *Cache[K, V]) release(v *value[K, V]) {
	if v.refs.Add(-1) == 0 {
		c.destroy(v.v)
	}
}

// drop forgets v. The cache's reference is given up by unlock, since destroy is the caller's code.
func (c *Cache[K, V]) drop(v *value[K, V]) {
	delete(c.values, v.id)
	c.recent.Remove(v.place)
	c.doomed = append(c.doomed, v)
}

func (c *Cache[K, V]) unlock() {
	doomed := c.doomed
	c.doomed = nil
	c.mu.Unlock()
	for _, v := range doomed {
		c.release(v)
	}
}

// spent says whether a use of so many bytes would be beyond a bound.
func (c *Cache[K, V]) spent(v *value[K, V], bytes int64) bool {
	return v.uses >= c.cfg.MaxUses || bytes > c.cfg.MaxBytes-v.bytes // not their sum, which may overflow
}

// resting says whether v is in the pause after the service turned out to be away.
func (c *Cache[K, V]) resting(v *value[K, V], now time.Time) bool {
	return !v.away.IsZero() && since(now, v.away) < c.cfg.Patience
}

// since is the time since then, by the wall clock or by the monotonic one, whichever says more: the former may be set back, the latter stands still
// while a machine sleeps. A time before then, of a clock without a monotonic reading that was set back, is beyond every limit.
func since(now, then time.Time) time.Duration {
	d := max(now.Sub(then), time.Duration(now.UnixNano()-then.UnixNano())) // Sub goes by the monotonic readings, where both have one
	if d < 0 {
		return math.MaxInt64
	}
	return d
}

// Flush forgets all values, and destroys them as soon as running uses end. What is being asked for meanwhile is not remembered: its answer may be
// from before whatever this is called for.
func (c *Cache[K, V]) Flush() {
	c.mu.Lock()
	defer c.unlock()
	clear(c.asking)
	for _, v := range c.values {
		c.drop(v)
	}
}

// Forget is Flush for one id.
func (c *Cache[K, V]) Forget(id K) {
	c.mu.Lock()
	defer c.unlock()
	delete(c.asking, id)
	if v := c.values[id]; v != nil {
		c.drop(v)
	}
}

// Format prints "keycache.Cache(***)" for every verb: a wrong one makes fmt follow pointers, down to the values.
func (c *Cache[K, V]) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "keycache.Cache(***)") }

// Stats counts what the cache did.
func (c *Cache[K, V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries = len(c.values)
	return s
}
