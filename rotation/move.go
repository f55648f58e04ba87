// move.go owns what becomes of a page's keys: each is moved, as many at once as pace and rate allow, and what fails is told apart: a row's own trouble, a
// service that is away for a while, a target that nobody can move to.

package rotation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// unit is one key of a page, and what became of it.
type unit struct {
	row   int
	group int // among the job's own
	text  string
	moved
	done bool
}

// moved is what became of one key. failure will not go away by itself; err is a page's trouble, and nothing of the page is stored.
type moved struct {
	next           string
	failure        *walk.Failure
	calls, exposed int64
	err            error
}

// attempt is a key that is to be moved.
type attempt struct {
	group *row.Group
	read  *row.Read
	text  string
}

// change is what the walk does with a page. A service that does not answer is waited for.
func (j *job) change(ctx context.Context, rows []any) ([]walk.Result, error) {
	units := make([]unit, 0, len(rows)*len(j.owned))
	for i, r := range rows {
		for c, text := range r.(*row.Read).Texts {
			if text != "" && !kmskey.IsTombstone(text) {
				units = append(units, unit{row: i, group: c, text: text})
			}
		}
	}
	if j.keys.Batches() && !j.cfg.All {
		if err := j.moveTogether(ctx, rows, units); err != nil {
			return nil, err
		}
	}
	var next atomic.Int64
	work, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	var wg sync.WaitGroup
	for range min(len(units), j.cfg.Calls) {
		wg.Go(func() {
			c := j.caller(work)
			defer c.stop()
			for work.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(units) {
					return
				}
				u := &units[n]
				if u.done {
					continue
				}
				u.moved = c.settled(&attempt{j.owned[u.group], rows[u.row].(*row.Read), u.text})
				if u.err != nil {
					halt(u.err) // the page is tried again as a whole
					return
				}
				u.done = true
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if work.Err() != nil {
		return nil, context.Cause(work)
	}
	results := make([]walk.Result, len(rows))
	changes := make([]walk.Change, 0, len(units)) // of all rows, in one piece
	for n := range units {
		u := &units[n]
		r := &results[u.row]
		if !u.done {
			return nil, errors.New("rotation: internal error: a key without an outcome") // which must not be stored as one
		}
		r.Calls += u.calls
		r.Exposed += u.exposed
		switch {
		case u.failure != nil:
			j.failing.Store(true)
			u.failure.Column = j.columns[u.group]
			r.Failures = append(r.Failures, *u.failure)
		case u.next == u.text:
			r.Current++
		default:
			changes = append(changes, walk.Change{Column: u.group, Old: u.text, New: u.next})
			from := len(changes) - 1 - len(r.Changes)
			r.Changes = changes[from:len(changes):len(changes)] // units of a row are neighbours
		}
	}
	return results, nil
}

// moveTogether moves what a service does in one request for many keys. What it leaves is moved one by one.
func (j *job) moveTogether(ctx context.Context, rows []any, units []unit) error {
	size := len(units)
	if j.limit != nil {
		size = j.limit.Burst()
	}
	for from := 0; from < len(units); from += size {
		if err := j.batch(ctx, rows, units[from:min(from+size, len(units))]); err != nil {
			return err
		}
	}
	return nil
}

// batch is one request for many keys, tried again where the service is away: one by one they would be that many more requests to it.
func (j *job) batch(ctx context.Context, rows []any, units []unit) error {
	batch := make([]kmskey.RewrapRow, len(units))
	for n, u := range units {
		env, err := kmskey.ParseEnvelope(u.text)
		if err != nil {
			continue // its own turn says so
		}
		if r, err := j.model.Row(j.owned[u.group], rows[u.row].(*row.Read).Value); err == nil {
			batch[n] = kmskey.RewrapRow{Envelope: env, Row: r}
		}
	}
	pause := newPause(100*time.Millisecond, 5*time.Second)
	for try := 1; ; try++ {
		if err := j.pace.acquire(ctx); err != nil {
			return err
		}
		brief, cancel := context.WithTimeout(ctx, j.cfg.Timeout)
		results := j.keys.RewrapAll(brief, batch)
		late := brief.Err() != nil && ctx.Err() == nil
		cancel()
		var away error
		asked := 0
		for n, r := range results {
			u := &units[n]
			switch {
			case r.Done:
				u.done, batch[n] = true, kmskey.RewrapRow{}
				if u.next = r.Envelope.String(); u.next != u.text {
					u.calls = 1
					asked++
				}
			case errors.Is(r.Err, kmskey.ErrThrottled), errors.Is(r.Err, kmskey.ErrUnavailable), late && r.Err != nil:
				away = r.Err
				asked++
			}
		}
		j.pace.release(errors.Is(away, kmskey.ErrThrottled))
		if j.limit != nil {
			for range asked { // afterwards, since only now it is known which keys needed a request
				if err := turn(ctx, j.limit); err != nil {
					return err
				}
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case away == nil:
			return nil
		case try == moveTries:
			return fmt.Errorf("rotation: %w", away)
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// caller makes calls one after the other, each bounded in time. It is used by one goroutine. There is one context for all of its calls and a timer that is set
// anew for each: a context for each would cost more than wrapping a key locally does.
type caller struct {
	*job
	parent, ctx context.Context
	cancel      context.CancelFunc
	timer       *time.Timer
}

func (j *job) caller(ctx context.Context) *caller {
	c := &caller{job: j, parent: ctx}
	c.renew()
	return c
}

func (c *caller) renew() {
	c.ctx, c.cancel = context.WithCancel(c.parent)
	c.timer = time.AfterFunc(c.cfg.Timeout, c.cancel)
}

// begin is the context of one call.
func (c *caller) begin() context.Context {
	if c.ctx.Err() != nil && c.parent.Err() == nil {
		c.stop()
		c.renew()
	}
	c.timer.Reset(c.cfg.Timeout)
	return c.ctx
}

func (c *caller) stop() {
	c.timer.Stop()
	c.cancel()
}

// wait is for a turn, which is no part of a call's time.
func (c *caller) wait() {
	c.timer.Stop()
	_ = turn(c.parent, c.limit) // where that ends, the call says so
	c.timer.Reset(c.cfg.Timeout)
}

// tally is what the observer notes of one key. Calls of several providers come at once.
type tally struct {
	*caller
	made, seen atomic.Int64 // calls, and data keys that were shown
	paid       atomic.Bool  // one turn for a try, however many requests it takes, and none for a key that needs nothing
	closed     atomic.Bool  // the current version's key refuses to wrap
}

type tallied struct{}

// observe notes what is asked for a key, in the tally of its context.
func (j *job) observe(ctx context.Context, call kmskey.Call) (context.Context, func(kmskey.Result)) {
	t, ok := ctx.Value(tallied{}).(*tally)
	if !ok {
		return ctx, nil
	}
	if j.limit != nil && t.paid.CompareAndSwap(false, true) {
		t.wait()
	}
	return ctx, func(res kmskey.Result) {
		switch {
		case errors.Is(res.Err, kmskey.ErrNotRewrappable), errors.Is(res.Err, kmskey.ErrForeignKey):
			return // no request was made
		case res.Err == nil && call.Op == "unwrap":
			t.seen.Add(1)
		case call.Op == "wrap" && refused(res.Err):
			t.closed.Store(true)
		}
		t.made.Add(1)
	}
}

// refused reports an error of a key rather than of what is wrapped under it.
func refused(err error) bool {
	return errors.Is(err, kmskey.ErrDenied) || errors.Is(err, kmskey.ErrDisabled) || errors.Is(err, kmskey.ErrNotFound)
}

const (
	moveTries  = 5 // how often a key is tried whose service does not answer, before the page is put back
	awayRounds = 3 // how often that is done while others are moved well
)

// settled moves a key, and finds out whose trouble it is where that fails.
func (c *caller) settled(a *attempt) (m moved) {
	for round := 1; ; round++ {
		m = c.move(a)
		if !errors.Is(m.err, kmskey.ErrUnavailable) || !c.answers(a) {
			break
		}
		if round == awayRounds { // it is this key's own service that is away: nobody else is to wait for it
			m.failure, m.err = &walk.Failure{Class: kmskey.Outcome(m.err), Message: m.err.Error()}, nil
			break
		}
	}
	if m.err == nil && m.failure == nil && m.calls > 0 {
		c.good.Store(a)
	}
	return m
}

// answers reports that another key than a's can be moved, so that the service is there.
func (c *caller) answers(a *attempt) bool {
	good := c.good.Load()
	if good == nil || good == a {
		return false
	}
	m := c.move(good)
	return m.err == nil && m.failure == nil && m.calls > 0
}

// targetError is a version that no key can be moved to.
type targetError struct{ err error }

func (e *targetError) Error() string {
	return fmt.Sprintf("no key can be moved: %v", e.err)
}

func (e *targetError) Unwrap() []error { return []error{ErrPaused, e.err} }

// everybodys reports that a key which was refused is no exception, so that the run is to stop rather than to record every row as failed.
func (c *caller) everybodys(t *tally) bool {
	if t.closed.Load() && !c.keys.Chooses(c.keys.Current()) {
		return true
	}
	good := c.good.Load()
	if good == nil {
		return false // nothing was moved yet: the error budget sees to it
	}
	probe := &tally{caller: c}
	_, failed := c.rewrap(context.WithValue(c.begin(), tallied{}, probe), good)
	return refused(failed)
}

// rewrap is the one call to the keyring.
func (j *job) rewrap(ctx context.Context, a *attempt) (kmskey.Envelope, error) {
	env, err := kmskey.ParseEnvelope(a.text)
	if err != nil {
		return env, err
	}
	r, err := j.model.Row(a.group, a.read.Value)
	if err != nil {
		return env, err
	}
	if j.cfg.All {
		return j.moving.Refresh(ctx, env, r, r)
	}
	return j.moving.Rewrap(ctx, env, r, r)
}

// move rewraps one key, and tries again where its service is away.
func (c *caller) move(a *attempt) (m moved) {
	t := &tally{caller: c}
	pause := newPause(100*time.Millisecond, 5*time.Second)
	for try := 1; ; try++ {
		t.paid.Store(false)
		if err := c.pace.acquire(c.parent); err != nil {
			return moved{err: err}
		}
		ctx := c.begin()
		env, err := c.rewrap(context.WithValue(ctx, tallied{}, t), a)
		if err != nil && ctx.Err() != nil && c.parent.Err() == nil {
			err = fmt.Errorf("no answer within %v: %w: %w", c.cfg.Timeout, kmskey.ErrUnavailable, err)
		}
		c.pace.release(errors.Is(err, kmskey.ErrThrottled))
		m.calls, m.exposed = t.made.Load(), t.seen.Load()
		switch {
		case err == nil:
			m.next = env.String()
			return m
		case c.parent.Err() != nil:
			return moved{err: c.parent.Err()}
		case refused(err) && c.everybodys(t):
			return moved{err: &targetError{err}}
		case !errors.Is(err, kmskey.ErrUnavailable) && !errors.Is(err, kmskey.ErrThrottled):
			m.failure = &walk.Failure{Class: kmskey.Outcome(err), Version: versionOf(a.text), Message: err.Error()}
			return m
		case try == moveTries:
			return moved{err: err}
		}
		if err := pause.wait(c.parent); err != nil {
			return moved{err: err}
		}
	}
}

// versionOf is that of an envelope; 0 where it is none.
func versionOf(text string) int {
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		return 0
	}
	return env.Version()
}

// sampled is how many rows preflight looks at.
const sampled = 5

// preflight moves the key of one row, and stores nothing: what is wrong with the target itself shows here. It looks at a few rows, since one may be damaged, and
// at none that need nothing: a rotator may lack the right to move keys away from the target. It gives the calls that the key took, and those of them that
// showed it; 0 where no key was moved.
func (j *job) preflight(ctx context.Context) (calls, exposed int64, err error) {
	but := fmt.Sprintf("v%d:", j.keys.Current())
	needless := []string{kmskey.ShreddedPrefix}
	if j.cfg.All {
		but = ""
	} else {
		needless = append(needless, but)
	}
	rows, err := j.walker.Sample(ctx, sampled, needless...)
	if err != nil {
		return 0, 0, fmt.Errorf("rotation: read %s: %w", j.table, err)
	}
	c := j.caller(ctx)
	defer c.stop()
	var first error
	for _, r := range rows {
		read := r.(*row.Read)
		for g, text := range read.Texts {
			env, err := kmskey.ParseEnvelope(text)
			if text == "" || err != nil || but != "" && strings.HasPrefix(text, but) {
				continue
			}
			kmsRow, err := j.model.Row(j.owned[g], read.Value)
			if err != nil {
				continue // the row's own trouble
			}
			t := &tally{caller: c}
			call := c.begin()
			_, err = j.moving.Refresh(context.WithValue(call, tallied{}, t), env, kmsRow, kmsRow)
			if err != nil && call.Err() != nil && ctx.Err() == nil {
				err = fmt.Errorf("no answer within %v: %w: %w", j.cfg.Timeout, kmskey.ErrUnavailable, err)
			}
			switch {
			case err == nil:
				return t.made.Load(), t.seen.Load(), nil
			case errors.Is(err, kmskey.ErrContextMismatch), errors.Is(err, kmskey.ErrCommitment), errors.Is(err, kmskey.ErrForeignKey), errors.Is(err, kmskey.ErrUnknownVersion):
				continue // the row's own trouble
			case first == nil:
				first = err
			}
		}
	}
	if first != nil {
		return 0, 0, fmt.Errorf("rotation: %s: refused before the first row: %w", j.table, first)
	}
	return 0, 0, nil
}
