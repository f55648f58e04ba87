// walk.go owns the lanes: planning, claiming, and the way of a page from the table through the task and back.

package walk

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Task is what a walk does.
type Task struct {
	Table  Table
	Bare   string   // the table's name without schema and quotes
	Schema string   // its schema, "" for the connection's own
	Read   []string // columns that are read beside the primary key
	Writes []string // columns that may be written, each of text

	// Beside says that what is written is derived from another column, for each of Writes: a change is stored where that column still is what was read.
	// The written columns then hold bytes, and nothing is compared with what they held.
	Beside []string

	// Key scans a primary key alone, Row a primary key and Read.
	Key, Row Reader

	// Change says what becomes of each row. It is called outside any transaction and may take long. Its error is one of the whole page, which is tried
	// again; what concerns one row is a Failure of that row.
	Change func(ctx context.Context, rows []any) ([]Result, error)
}

// Result is what becomes of one row.
type Result struct {
	Changes  []Change  // without their keys
	Failures []Failure // likewise
	Current  int64     // columns that need nothing
	Calls    int64     // to key services
	Exposed  int64     // data keys that were in memory
}

// Config sets how a walk goes on.
type Config struct {
	RangeSize int           // rows of a range
	MaxPage   int           // rows of a page, at the most
	Page      time.Duration // that storing a page should take
	Lease     time.Duration
	Owner     string // names the process in the ledger
}

const (
	window     = 16 // ranges that are planned at once
	firstPage  = 200
	minPage    = 50
	pageStep   = 100
	raceTries  = 8 // how often a value is tried that others keep changing or hold
	settlePage = 100
	raceWait   = 50 * time.Millisecond
)

// Walker does a task. Its methods are safe for concurrent use.
type Walker struct {
	Ledger *Ledger
	Task   Task
	Config Config

	mu    sync.Mutex
	ready bool
	types types
	page  atomic.Int64
}

// Prepare asks the database for the columns of the table, once, and fails where one is not there. What failed is asked again.
func (w *Walker) Prepare(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ready {
		return nil
	}
	types, err := w.Task.Table.look(ctx, w.Ledger.DB, w.Ledger.Dialect, w.Task.Bare, w.Task.Schema, w.Task.Writes)
	if err != nil {
		return err
	}
	w.types, w.ready = types, true
	w.page.Store(int64(min(firstPage, w.Config.MaxPage)))
	return nil
}

// ErrStopped: the run is paused or has ended.
var ErrStopped = errors.New("walk: the run is not running")

// Lane works on ranges of a run until none is left that nobody else holds, the run is stopped, or stop reports true, which is asked at every page.
// idle reports that there was nothing to do, though others may still be at work: see [Walker.Left].
func (w *Walker) Lane(ctx context.Context, run string, stop func() bool) (idle bool, err error) {
	if err := w.Prepare(ctx); err != nil {
		return false, err
	}
	for idle = true; ; idle = false {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if stop() {
			return false, nil
		}
		r, err := w.Ledger.Get(ctx, run)
		if err != nil {
			return false, err
		}
		if r.State != Running {
			return false, fmt.Errorf("%w: it is %s", ErrStopped, r.State)
		}
		c, ok, err := w.Ledger.claimNext(ctx, run, w.Config.Owner, w.Config.Lease)
		if err != nil {
			return false, err
		}
		if !ok {
			planned, err := w.plan(ctx, r)
			if err != nil {
				return false, err
			}
			if planned {
				continue
			}
			return idle, nil
		}
		stops := func() bool { return stop() || w.stopped(ctx, run) } // asked at each page
		if err := w.held(ctx, c, stops); err != nil && !errors.Is(err, errLost) {
			return false, err
		}
	}
}

// stopped reports that a run was paused or ended. Where the database does not say, the page that follows meets the same.
func (w *Walker) stopped(ctx context.Context, run string) bool {
	var state string
	err := w.Ledger.row(ctx, w.Ledger.DB, "SELECT state FROM rowseal_runs WHERE id = ?", run).Scan(&state)
	return err == nil && state != Running
}

// Left counts the ranges that are not done, and those of them that nobody holds; unplanned reports that more are to come.
func (w *Walker) Left(ctx context.Context, run string) (open, free int64, unplanned bool, err error) {
	r, err := w.Ledger.Get(ctx, run)
	if err != nil {
		return 0, 0, false, err
	}
	open, free, err = w.Ledger.open(ctx, run)
	return open, free, !r.Planned, err
}

// plan cuts the next ranges. It reports whether there may be more to claim now, by itself or by a lane that was faster.
func (w *Walker) plan(ctx context.Context, r Run) (more bool, err error) {
	if r.Planned {
		return false, nil
	}
	l := w.Ledger
	var at sql.NullString
	if err := l.row(ctx, l.DB, "SELECT plan_cursor FROM rowseal_runs WHERE id = ?", r.ID).Scan(&at); err != nil {
		return false, err
	}
	lo, err := parseKeyText(at)
	if err != nil {
		return false, err
	}
	type interval struct{ lo, hi Key }
	var ranges []interval
	last := false
	for len(ranges) < window && !last {
		hi, err := w.Task.Table.boundary(ctx, l.DB, l.Dialect, lo, w.Config.RangeSize, w.Task.Key)
		if err != nil {
			return false, err
		}
		// The last range has no end: rows that are inserted behind it meanwhile are walked too.
		ranges, last = append(ranges, interval{lo, hi}), hi == nil
		lo = hi
	}
	planned := 0
	if last {
		planned = 1
	}
	err = l.inTx(ctx, patience, func(tx *sql.Tx) error {
		n, err := l.exec(ctx, tx, "UPDATE rowseal_runs SET plan_cursor = ?, planned = ?, ranges_planned = ranges_planned + ? WHERE id = ? AND ranges_planned = ? AND planned = 0",
			keyText(lo), planned, len(ranges), r.ID, r.Ranges)
		if err != nil || n == 0 {
			return err // another lane was faster
		}
		for i, iv := range ranges {
			if err := l.addRange(ctx, tx, r.ID, r.Ranges+int64(i), iv.lo, iv.hi); err != nil {
				return err
			}
		}
		return nil
	})
	return err == nil, err
}

// held works on a claimed range, whose lease is kept up meanwhile, and gives it back.
func (w *Walker) held(ctx context.Context, c claim, stop func() bool) error {
	work, cancel := context.WithCancelCause(ctx)
	beat := make(chan struct{})
	go func() {
		defer close(beat)
		tick := time.NewTicker(w.Config.Lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-work.Done():
				return
			case <-tick.C:
				// An error of the database is not the end: the page will meet it, or the next beat goes through.
				if err := w.Ledger.hold(work, w.Ledger.DB, c, w.Config.Lease); errors.Is(err, errLost) {
					cancel(errLost)
				}
			}
		}
	}()
	var err error
	if c.n == settling {
		err = w.settle(work, c, stop)
	} else {
		err = w.walk(work, c, stop)
	}
	if err != nil && errors.Is(context.Cause(work), errLost) {
		err = errLost
	}
	cancel(nil)
	<-beat
	if !errors.Is(err, errLost) {
		// So that nobody waits for the lease to end. ctx may be done; this must go through all the same, and briefly.
		brief, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		if rerr := w.Ledger.release(brief, c); err == nil {
			err = rerr
		}
	}
	return err
}

// batch is a page on its way.
type batch struct {
	lines
	results []Result
	last    Key  // the cursor behind it
	end     bool // nothing is left in the range
	took    time.Duration
	err     error
}

// walk goes through a range. While a page is stored, the next is read and changed already, so that key services are never idle.
func (w *Walker) walk(ctx context.Context, c claim, stop func() bool) error {
	from := c.lo
	if c.cur != nil {
		from = c.cur
	}
	next := w.fetch(ctx, from, c.hi)
	for {
		b := <-next
		if b.err != nil {
			return b.err
		}
		more := !b.end && !stop()
		if more {
			next = w.fetch(ctx, b.last, c.hi)
		}
		if err := w.stored(ctx, c, b); err != nil {
			if more {
				<-next
			}
			return err
		}
		if !more {
			return nil
		}
	}
}

// fetch reads a page and has it changed, in a goroutine that ends with its answer.
func (w *Walker) fetch(ctx context.Context, lo, hi Key) <-chan batch {
	out := make(chan batch, 1)
	size := int(w.page.Load())
	go func() {
		var b batch
		defer func() { out <- b }()
		b.lines, b.err = w.Task.Table.page(ctx, w.Ledger.DB, w.Ledger.Dialect, w.Task.Read, lo, hi, size, w.Task.Row)
		if b.err != nil {
			return
		}
		b.end = len(b.rows) < size
		if len(b.rows) == 0 {
			return
		}
		b.last = b.keys[len(b.keys)-1]
		start := time.Now()
		b.results, b.err = w.change(ctx, b.rows)
		if b.took = time.Since(start); ctx.Err() != nil && b.took > w.patience() {
			// Whoever ended it may do so again: the next page must be one that gets through.
			w.page.Store(max(1, min(int64(size)/2, w.page.Load())))
		}
	}()
	return out
}

func (w *Walker) change(ctx context.Context, rows []any) ([]Result, error) {
	results, err := w.Task.Change(ctx, rows)
	if err == nil && len(results) != len(rows) {
		err = fmt.Errorf("walk: internal error: %d results for %d rows", len(results), len(rows))
	}
	return results, err
}

// stored commits a page, and tries again while others hold its rows: what key services did for it is not to be asked for twice.
func (w *Walker) stored(ctx context.Context, c claim, b batch) error {
	var how storing
	for try := 0; ; try++ {
		err := w.commit(ctx, c, b, how)
		if duplicated(err) && !how.careful && w.Task.Beside != nil {
			how.careful = true
			continue
		}
		if try >= lockTries || !contended(err) || ctx.Err() != nil {
			return err
		}
		if !how.busy {
			how.busy = true
			continue // with those left out that others hold
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// lockTries bounds how often a page is stored again whose rows others hold.
const lockTries = 20

// contended reports that a statement lost against others, and would do as well the next time.
func contended(err error) bool {
	if err == nil {
		return false
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		switch state.SQLState() {
		case "55P03", "40P01", "40001":
			return true
		}
	}
	text := err.Error()
	return strings.Contains(text, "Deadlock found") || strings.Contains(text, "Lock wait timeout") || strings.Contains(text, "database is locked")
}

// storing is how a page is stored: plainly at first.
type storing struct {
	busy    bool // others hold rows of it, which are not waited for
	careful bool // a unique index refused one of its rows: each is tried by itself
}

// commit stores a page: rows, cursor and counters in one transaction, or nothing.
func (w *Walker) commit(ctx context.Context, c claim, b batch, how storing) error {
	start := time.Now()
	n := 0
	locks := briefly
	if how.busy {
		locks = patience
	}
	err := w.Ledger.inTx(ctx, locks, func(tx *sql.Tx) error {
		if err := w.Ledger.hold(ctx, tx, c, w.Config.Lease); err != nil {
			return err
		}
		var d Counters
		var changes []Change
		var failures []Failure
		for i, r := range b.results {
			d.Current += r.Current
			d.Calls += r.Calls
			d.Exposed += r.Exposed
			d.Seen += r.Current + int64(len(r.Changes)+len(r.Failures))
			for _, f := range r.Failures {
				f.Key = b.keys[i]
				failures = append(failures, f)
			}
			for _, ch := range r.Changes {
				ch.Key, ch.pin = b.keys[i], b.pins[i]
				changes = append(changes, ch)
			}
		}
		n = len(changes)
		missed, refused, err := w.store(ctx, tx, changes, how)
		if err != nil {
			return err
		}
		for _, ch := range missed {
			failures = append(failures, Failure{Key: ch.Key, Column: w.Task.Writes[ch.Column], Class: raced, Tries: 1, Message: "another writer was faster"})
		}
		for _, ch := range refused {
			// Perhaps only since the other row's is to be mended yet: it is tried again when the ranges are done.
			failures = append(failures, Failure{Key: ch.Key, Column: w.Task.Writes[ch.Column], Class: raced, Tries: 1, Message: duplicateText})
		}
		for _, f := range failures {
			if err := w.Ledger.fail(ctx, tx, c.run, f); err != nil {
				return err
			}
		}
		d.Changed, d.Failed = int64(len(changes)-len(missed)-len(refused)), int64(len(failures))
		return w.Ledger.record(ctx, tx, c, b.last, b.end, d)
	})
	if err == nil {
		w.adapt(n, b.took, time.Since(start))
	}
	return err
}

const (
	// raced is the class of what is tried again when the ranges are done.
	raced = "raced"
	// duplicate is the class of rows whose value a unique index has already.
	duplicate     = "duplicate"
	duplicateText = "another row has this value in a unique index; change or delete one of the two"
)

// duplicated reports a row that a unique index refused.
func duplicated(err error) bool {
	if err == nil {
		return false
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == "23505"
	}
	text := err.Error()
	return strings.Contains(text, "Duplicate entry") || strings.Contains(text, "UNIQUE constraint failed")
}

// store writes changes, column by column, and gives those that were not written: because another writer was faster, or since a unique index refused them.
func (w *Walker) store(ctx context.Context, tx *sql.Tx, changes []Change, how storing) (missed, refused []Change, err error) {
	for column, name := range w.Task.Writes {
		var own []Change
		for _, ch := range changes {
			if ch.Column == column {
				own = append(own, ch)
			}
		}
		if len(own) == 0 {
			continue
		}
		if w.Task.Beside != nil {
			late, twice, err := w.Task.Table.storeBeside(ctx, tx, w.Ledger.Dialect, w.types, name, w.Task.Beside[column], own, how)
			if err != nil {
				return nil, nil, err
			}
			missed, refused = append(missed, late...), append(refused, twice...)
			continue
		}
		ty := w.types
		at, err := w.Task.Table.store(ctx, tx, w.Ledger.Dialect, ty, name, own, how.busy)
		if err != nil {
			return nil, nil, err
		}
		for _, i := range at {
			missed = append(missed, own[i])
		}
	}
	return missed, refused, nil
}

// patience is how long the task may take for a page: what is lost when a lane is ended.
func (w *Walker) patience() time.Duration { return w.Config.Lease / 3 }

// adapt moves the size of pages towards the time that storing one should take, and below that which changing one may take. Longer pages hold row locks longer;
// shorter ones cost round trips.
func (w *Walker) adapt(written int, changing, storing time.Duration) {
	size := w.page.Load()
	switch {
	case changing > w.patience():
		size = max(1, size*int64(w.patience())/int64(changing))
	case storing > w.Config.Page:
		size = max(min(size, minPage), size*7/10)
	case written > 0 && changing < w.patience()/2:
		size += pageStep
	}
	w.page.Store(min(int64(w.Config.MaxPage), size))
}

// settle tries again what other writers changed while the run was at it. It is a range like others, claimed when they are done.
func (w *Walker) settle(ctx context.Context, c claim, stop func() bool) error {
	l := w.Ledger
	for wait := raceWait; !stop(); wait = min(2*wait, 32*raceWait) {
		open, err := l.failures(ctx, "run_id = ? AND class = ?", []any{c.run, raced}, settlePage)
		if err != nil {
			return err
		}
		if len(open) == 0 {
			return l.inTx(ctx, patience, func(tx *sql.Tx) error {
				if err := l.hold(ctx, tx, c, w.Config.Lease); err != nil {
					return err
				}
				return l.record(ctx, tx, c, nil, true, Counters{})
			})
		}
		still, err := w.again(ctx, c, open)
		if err != nil {
			return err
		}
		if still == 0 {
			wait = raceWait
			continue
		}
		select { // what others change or hold
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	return nil
}

// again is one page of settle. still is how many are to be tried once more.
func (w *Walker) again(ctx context.Context, c claim, open []Failure) (still int, err error) {
	l := w.Ledger
	rows := make([]any, len(open)) // nil for one that is gone
	pins := make([]string, len(open))
	var there []any
	for i, f := range open {
		row, pin, ok, err := w.Task.Table.single(ctx, l.DB, l.Dialect, w.Task.Read, f.Key, w.Task.Row)
		if err != nil {
			return 0, err
		}
		if ok {
			rows[i], pins[i] = row, pin
			there = append(there, row)
		}
	}
	results, err := w.change(ctx, there)
	if err != nil {
		return 0, err
	}
	err = l.inTx(ctx, patience, func(tx *sql.Tx) error {
		if err := l.hold(ctx, tx, c, w.Config.Lease); err != nil {
			return err
		}
		var d Counters
		at := 0
		settled, err := w.settleBeside(ctx, tx, open, rows, results)
		if err != nil {
			return err
		}
		for i, f := range open {
			where, args := " WHERE run_id = ? AND row_hash = ? AND key_column = ?", []any{c.run, rowHash(f.Key), f.Column}
			end := func(counter *int64) error {
				*counter++
				d.Failed--
				_, err := l.exec(ctx, tx, "DELETE FROM rowseal_failures"+where, args...)
				return err
			}
			if rows[i] == nil {
				if err := end(&d.Gone); err != nil {
					return err
				}
				continue
			}
			r := results[at]
			at++
			d.Calls += r.Calls
			d.Exposed += r.Exposed
			change, failure := find(r, w.Task.Writes, f.Column)
			var err error
			switch {
			case failure != nil:
				_, err = l.exec(ctx, tx, "UPDATE rowseal_failures SET class = ?, version = ?, message = ?, tries = tries + 1"+where, append([]any{failure.Class, failure.Version, failure.Message}, args...)...)
			case change == nil:
				err = end(&d.Raced)
			default:
				change.Key, change.pin = f.Key, pins[i]
				var missed, refused []Change
				if w.Task.Beside != nil {
					missed, refused = settled.missed[change.place()], settled.refused[change.place()]
				} else if missed, refused, err = w.store(ctx, tx, []Change{*change}, storing{busy: true, careful: true}); err != nil {
					break
				}
				if len(missed)+len(refused) == 0 {
					err = end(&d.Changed)
					break
				}
				class, message, tries := raced, f.Message, f.Tries+1
				if len(refused) > 0 && settled.wrote {
					tries-- // its entry may have been that of a row that has its own now
				}
				if still++; tries >= raceTries {
					class = "contended"
				}
				if len(refused) > 0 {
					message = duplicateText
				}
				if len(refused) > 0 && class != raced {
					class = duplicate
				}
				_, err = l.exec(ctx, tx, "UPDATE rowseal_failures SET class = ?, message = ?, tries = ?"+where, append([]any{class, message, tries}, args...)...)
			}
			if err != nil {
				return err
			}
		}
		return l.record(ctx, tx, c, nil, false, d)
	})
	return still, err
}

// outcome is what became of changes, by place.
type outcome struct {
	missed, refused map[string][]Change
	wrote           bool // something else
}

// place tells the changes of a page from each other.
func (c Change) place() string { return fmt.Sprintf("%d %s", c.Column, c.Key) }

// settleBeside stores a page of what a task writes beside other columns. What a unique index refuses may only be waiting for the others of the page: rows that have each other's entries, or
// each that of the next. Their entries are taken out first, and written then, in a transaction that nobody looks into.
func (w *Walker) settleBeside(ctx context.Context, tx *sql.Tx, open []Failure, rows []any, results []Result) (outcome, error) {
	out := outcome{missed: map[string][]Change{}, refused: map[string][]Change{}}
	if w.Task.Beside == nil {
		return out, nil
	}
	var changes []Change
	at := 0
	for i, f := range open {
		if rows[i] == nil {
			continue
		}
		if change, failure := find(results[at], w.Task.Writes, f.Column); change != nil && failure == nil {
			change.Key = f.Key
			changes = append(changes, *change)
		}
		at++
	}
	how := storing{busy: true, careful: true}
	missed, refused, err := w.store(ctx, tx, changes, how)
	if err != nil {
		return out, err
	}
	if len(refused) > 0 {
		for column, name := range w.Task.Writes {
			own := slices.DeleteFunc(slices.Clone(refused), func(c Change) bool { return c.Column != column })
			if err := w.Task.Table.clearBeside(ctx, tx, w.Ledger.Dialect, w.types, name, w.Task.Beside[column], own); err != nil {
				return out, err
			}
		}
		var late []Change
		if late, refused, err = w.store(ctx, tx, refused, how); err != nil {
			return out, err
		}
		missed = append(missed, late...)
	}
	out.wrote = len(changes) > len(missed)+len(refused)
	for _, c := range missed {
		out.missed[c.place()] = append(out.missed[c.place()], c)
	}
	for _, c := range refused {
		out.refused[c.place()] = append(out.refused[c.place()], c)
	}
	return out, nil
}

func find(r Result, columns []string, name string) (*Change, *Failure) {
	for _, ch := range r.Changes {
		if columns[ch.Column] == name {
			return &ch, nil
		}
	}
	for _, f := range r.Failures {
		if f.Column == name {
			return nil, &f
		}
	}
	return nil, nil
}

// Sample reads a few rows of which some column that may be written has a value that does not begin with but; "" for any row that has one.
func (w *Walker) Sample(ctx context.Context, n int, but ...string) ([]any, error) {
	t, d := w.Task.Table, w.Ledger.Dialect
	var conds []string
	var args []any
	for _, c := range w.Task.Writes {
		one := d.Quote(c) + " IS NOT NULL"
		for _, prefix := range but {
			one, args = one+" AND "+d.Quote(c)+" NOT LIKE ?", append(args, prefix+"%")
		}
		conds = append(conds, "("+one+")")
	}
	query := "SELECT " + t.columns(d) + list(d, w.Task.Read) + " FROM " + t.Name + " WHERE " + strings.Join(conds, " OR ") + fmt.Sprintf(" LIMIT %d", n)
	found, err := collect(ctx, w.Ledger.DB, d.rebind(query), args, w.Task.Row, false)
	return found.rows, err
}

// Each reads the whole table, page by page, without the ledger, and changes nothing.
func (w *Walker) Each(ctx context.Context, do func(keys []Key, rows []any) error) error {
	var at Key
	for {
		found, err := w.Task.Table.page(ctx, w.Ledger.DB, w.Ledger.Dialect, w.Task.Read, at, nil, w.Config.MaxPage, w.Task.Row)
		if err != nil {
			return err
		}
		if err := do(found.keys, found.rows); err != nil {
			return err
		}
		if len(found.rows) < w.Config.MaxPage {
			return nil
		}
		at = found.keys[len(found.keys)-1]
	}
}
