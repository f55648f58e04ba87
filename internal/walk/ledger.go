// ledger.go owns the SQL on the ledger: runs, ranges, failures and events. The tables are made by package migrations.

package walk

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The states of a run.
const (
	Running   = "running"
	Paused    = "paused"
	Cancelled = "cancelled"
	Done      = "done"
	Failed    = "failed" // the error budget is used up, or the run cannot go on
)

var (
	// ErrNoRun: there is no such run.
	ErrNoRun = errors.New("no such run")
	// ErrActive: another run of the target is running or paused.
	ErrActive = errors.New("a run of this target is active already")
	// ErrNoLedger: the plugin's own tables are not there.
	ErrNoLedger = errors.New("the ledger's tables are missing")
)

// Run is a walk as the ledger has it.
type Run struct {
	ID, Kind, Target string
	State, Reason    string
	Spec             string // JSON, the task's own
	Report           string // JSON, once it has ended
	StartedBy        string
	Planned          bool  // every range is planned
	Ranges           int64 // planned so far
	Estimate         int64 // rows, when it was created; 0 for unknown
	Rate             float64
	Budget           int64
	Created, Updated time.Time
	Ended            time.Time // zero while it is active
}

// Active reports that the run has not ended.
func (r Run) Active() bool { return r.State == Running || r.State == Paused }

// Counters is what became of the values that a run went through, a value being one column of one row.
type Counters struct {
	Seen    int64 // all of them
	Changed int64 // written by the run
	Current int64 // needed nothing
	Raced   int64 // done by another writer while the run was at them
	Gone    int64 // deleted while the run was at them
	Failed  int64 // recorded as failures
	Calls   int64 // to key services
	Exposed int64 // data keys that were in this process's memory
}

// Failure is one value that could not be changed.
type Failure struct {
	Key     Key
	Column  string
	Class   string // Outcome of its error, or "raced" while it is to be tried again
	Version int    // of its key; 0 where it is not known
	Message string
	Tries   int
}

// Event is one thing that happened to a run.
type Event struct {
	At     time.Time
	What   string
	Detail string
}

// Ledger is the tables in one database. It is safe for concurrent use.
type Ledger struct {
	DB      *sql.DB
	Dialect Dialect
}

func (l *Ledger) exec(ctx context.Context, ex Execer, query string, args ...any) (int64, error) {
	result, err := ex.ExecContext(ctx, l.Dialect.rebind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (l *Ledger) row(ctx context.Context, ex Execer, query string, args ...any) *sql.Row {
	return ex.QueryRowContext(ctx, l.Dialect.rebind(query), args...)
}

// Check reports whether the tables are there.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.Dialect.Check(); err != nil {
		return err
	}
	var n int
	if err := l.row(ctx, l.DB, "SELECT COUNT(*) FROM rowseal_runs WHERE id = ''").Scan(&n); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("walk: %w; make them with migrations.Up or: rowseal migrate up (%w)", ErrNoLedger, err)
	}
	return nil
}

// Create writes a run down, with the range that settles what is left over. ex may be a transaction of the application's: the run begins to exist when
// that commits. That a run of the target is active already, which is [ErrActive], does not spoil the transaction.
func (l *Ledger) Create(ctx context.Context, ex Execer, r Run) error {
	unless := " ON CONFLICT (active) DO NOTHING"
	if l.Dialect.Name == "mysql" {
		unless = "" // it says so by an error, and goes on in the transaction
	}
	n, err := l.exec(ctx, ex, `INSERT INTO rowseal_runs (id, kind, target, active, state, reason, spec, plan_cursor, planned, ranges_planned, rows_estimate, rate, budget_rows, report, started_by, created_ms, updated_ms, ended_ms)
		VALUES (?, ?, ?, ?, ?, NULL, ?, NULL, 0, 0, ?, ?, ?, NULL, ?, `+l.Dialect.now()+`, `+l.Dialect.now()+`, NULL)`+unless,
		r.ID, r.Kind, r.Target, r.Target, Running, r.Spec, r.Estimate, r.Rate, r.Budget, r.StartedBy)
	if err != nil && unless == "" && strings.Contains(err.Error(), "rowseal_runs_active") {
		n, err = 0, nil // by the name of the constraint: the run may have ended before it could be looked for
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("walk: %w: %s", ErrActive, r.Target)
	}
	if err := l.addRange(ctx, ex, r.ID, settling, nil, nil); err != nil {
		return err
	}
	return l.Note(ctx, ex, r.ID, "created", r.StartedBy)
}

// SetSpec completes the specification of a run that has not changed meanwhile, before its first range is planned.
func (l *Ledger) SetSpec(ctx context.Context, r Run, spec string, estimate int64) error {
	_, err := l.exec(ctx, l.DB, "UPDATE rowseal_runs SET spec = ?, rows_estimate = ? WHERE id = ? AND spec = ? AND ranges_planned = 0", spec, estimate, r.ID, r.Spec)
	return err
}

// settling is the number of the range that is no range: whoever claims it tries again what was changed by others meanwhile.
const settling = -1

func (l *Ledger) addRange(ctx context.Context, ex Execer, run string, n int64, lo, hi Key) error {
	_, err := l.exec(ctx, ex, `INSERT INTO rowseal_ranges (run_id, n, lo, hi, cur, done, fence, owner, lease_ms, seen, changed, current_rows, raced, gone, failed, calls, exposed)
		VALUES (?, ?, ?, ?, NULL, 0, 0, '', 0, 0, 0, 0, 0, 0, 0, 0, 0)`, run, n, keyText(lo), keyText(hi))
	return err
}

func keyText(k Key) any {
	if k == nil {
		return nil
	}
	return k.String()
}

func parseKeyText(s sql.NullString) (Key, error) {
	if !s.Valid {
		return nil, nil
	}
	return ParseKey(s.String)
}

const runColumns = "id, kind, target, state, reason, spec, report, started_by, planned, ranges_planned, rows_estimate, rate, budget_rows, created_ms, updated_ms, ended_ms"

func scanRun(scan func(...any) error) (Run, error) {
	var r Run
	var reason, report sql.NullString
	var planned int
	var created, updated int64
	var ended sql.NullInt64
	err := scan(&r.ID, &r.Kind, &r.Target, &r.State, &reason, &r.Spec, &report, &r.StartedBy, &planned, &r.Ranges, &r.Estimate, &r.Rate, &r.Budget, &created, &updated, &ended)
	r.Reason, r.Report, r.Planned = reason.String, report.String, planned != 0
	r.Created, r.Updated = time.UnixMilli(created), time.UnixMilli(updated)
	if ended.Valid {
		r.Ended = time.UnixMilli(ended.Int64)
	}
	return r, err
}

// Get reads a run.
func (l *Ledger) Get(ctx context.Context, id string) (Run, error) {
	r, err := scanRun(l.row(ctx, l.DB, "SELECT "+runColumns+" FROM rowseal_runs WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, fmt.Errorf("walk: run %.80q: %w", id, ErrNoRun)
	}
	return r, err
}

// FindActive reads the run of a target that has not ended, as ex sees it.
func (l *Ledger) FindActive(ctx context.Context, ex Execer, target string) (Run, error) {
	r, err := scanRun(l.row(ctx, ex, "SELECT "+runColumns+" FROM rowseal_runs WHERE active = ?", target).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, fmt.Errorf("walk: an active run of %s: %w", target, ErrNoRun)
	}
	return r, err
}

// List gives all runs, the latest first.
func (l *Ledger) List(ctx context.Context) ([]Run, error) {
	return l.list(ctx, "ORDER BY created_ms DESC, id DESC")
}

// Running lists the runs that are running, the oldest first.
func (l *Ledger) Running(ctx context.Context) ([]Run, error) {
	return l.list(ctx, "WHERE active IS NOT NULL AND state = '"+Running+"' ORDER BY created_ms, id")
}

func (l *Ledger) list(ctx context.Context, which string) (runs []Run, err error) {
	rows, err := l.DB.QueryContext(ctx, "SELECT "+runColumns+" FROM rowseal_runs "+which)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRun(rows.Scan)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

// Count adds up the counters of a run's ranges, and says how many of the planned ones are done.
func (l *Ledger) Count(ctx context.Context, id string) (c Counters, done int64, err error) {
	err = l.row(ctx, l.DB, `SELECT COALESCE(SUM(seen), 0), COALESCE(SUM(changed), 0), COALESCE(SUM(current_rows), 0), COALESCE(SUM(raced), 0), COALESCE(SUM(gone), 0),
		COALESCE(SUM(failed), 0), COALESCE(SUM(calls), 0), COALESCE(SUM(exposed), 0), COALESCE(SUM(CASE WHEN done = 1 AND n >= 0 THEN 1 ELSE 0 END), 0)
		FROM rowseal_ranges WHERE run_id = ?`, id).Scan(&c.Seen, &c.Changed, &c.Current, &c.Raced, &c.Gone, &c.Failed, &c.Calls, &c.Exposed, &done)
	return c, done, err
}

// Failures lists what could not be changed, at most limit.
func (l *Ledger) Failures(ctx context.Context, id string, limit int) (out []Failure, err error) {
	return l.failures(ctx, "run_id = ?", []any{id}, limit)
}

func (l *Ledger) failures(ctx context.Context, where string, args []any, limit int) (out []Failure, err error) {
	rows, err := l.DB.QueryContext(ctx, l.Dialect.rebind(fmt.Sprintf("SELECT row_key, key_column, class, version, message, tries FROM rowseal_failures WHERE %s ORDER BY row_hash, key_column LIMIT %d", where, limit)), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var f Failure
		var key string
		if err := rows.Scan(&key, &f.Column, &f.Class, &f.Version, &f.Message, &f.Tries); err != nil {
			return nil, err
		}
		if f.Key, err = ParseKey(key); err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, rows.Err()
}

func rowHash(k Key) string {
	h := sha256.Sum256([]byte(k.String()))
	return hex.EncodeToString(h[:])
}

func (l *Ledger) fail(ctx context.Context, ex Execer, run string, f Failure) error {
	message := strings.ReplaceAll(strings.ToValidUTF8(f.Message, "?"), "\x00", "?") // which Postgres takes for no text
	if len(message) > 2000 {
		message = strings.ToValidUTF8(message[:2000], "") + "…"
	}
	_, err := l.exec(ctx, ex, "INSERT INTO rowseal_failures (run_id, row_hash, key_column, row_key, class, version, message, tries, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, "+l.Dialect.now()+")",
		run, rowHash(f.Key), f.Column, f.Key.String(), f.Class, f.Version, message, f.Tries)
	return err
}

// Events lists what happened to a run, in order.
func (l *Ledger) Events(ctx context.Context, id string) (out []Event, err error) {
	rows, err := l.DB.QueryContext(ctx, l.Dialect.rebind("SELECT at_ms, what, detail FROM rowseal_events WHERE run_id = ? ORDER BY n"), id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e Event
		var at int64
		var detail sql.NullString
		if err := rows.Scan(&at, &e.What, &detail); err != nil {
			return nil, err
		}
		e.At, e.Detail = time.UnixMilli(at), detail.String
		out = append(out, e)
	}
	return out, rows.Err()
}

// Note appends an event.
func (l *Ledger) Note(ctx context.Context, ex Execer, run, what, detail string) error {
	// MySQL does not insert into the table that it selects from, unless by way of a derived one.
	_, err := l.exec(ctx, ex, `INSERT INTO rowseal_events (run_id, n, at_ms, what, detail)
		SELECT ?, COALESCE(MAX(e.n), 0) + 1, `+l.Dialect.now()+`, ?, ? FROM (SELECT n FROM rowseal_events WHERE run_id = ?) AS e`, run, what, detail, run)
	return err
}

// Move puts a run into another state where it is in one of the given ones, and reports whether it was.
func (l *Ledger) Move(ctx context.Context, id, state, reason string, from ...string) (moved bool, err error) {
	ended := state != Running && state != Paused
	query := "UPDATE rowseal_runs SET state = ?, reason = ?, updated_ms = " + l.Dialect.now()
	if ended {
		query += ", active = NULL, ended_ms = " + l.Dialect.now()
	}
	args := []any{state, reason, id}
	query += " WHERE id = ? AND state IN (" + strings.Repeat("?, ", len(from)-1) + "?)"
	for _, f := range from {
		args = append(args, f)
	}
	tx, err := l.DB.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	n, err := l.exec(ctx, tx, query, args...)
	if err != nil || n == 0 {
		return false, err
	}
	if err := l.Note(ctx, tx, id, state, reason); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// SetReport keeps the final report of a run.
func (l *Ledger) SetReport(ctx context.Context, id, report string) error {
	_, err := l.exec(ctx, l.DB, "UPDATE rowseal_runs SET report = ? WHERE id = ?", report, id)
	return err
}

// claim is a range that a lane holds.
type claim struct {
	run     string
	n       int64
	lo, hi  Key
	cur     Key
	fence   int64
	expired bool // another lane held it, and lost it
}

// claimNext takes the first range that nobody holds, those before others that a lane has lost, so that none waits for long however few lanes there are; ok is
// false where there is none. The range that settles is taken when all others are done.
func (l *Ledger) claimNext(ctx context.Context, run, owner string, ttl time.Duration) (c claim, ok bool, err error) {
	for {
		c = claim{run: run}
		var lo, hi, cur sql.NullString
		var lease int64
		err = l.row(ctx, l.DB, `SELECT r.n, r.lo, r.hi, r.cur, r.fence, r.lease_ms FROM rowseal_ranges r WHERE r.run_id = ? AND r.done = 0 AND r.lease_ms < `+l.Dialect.now()+`
			AND (r.n >= 0 OR (SELECT planned FROM rowseal_runs WHERE id = r.run_id) = 1 AND NOT EXISTS (SELECT 1 FROM rowseal_ranges o WHERE o.run_id = r.run_id AND o.n >= 0 AND o.done = 0))
			ORDER BY CASE WHEN r.lease_ms > 0 THEN 0 ELSE 1 END, r.n LIMIT 1`, run).Scan(&c.n, &lo, &hi, &cur, &c.fence, &lease)
		if errors.Is(err, sql.ErrNoRows) {
			return claim{}, false, nil
		}
		if err != nil {
			return claim{}, false, err
		}
		if c.lo, err = parseKeyText(lo); err == nil {
			c.hi, err = parseKeyText(hi)
		}
		if err == nil {
			c.cur, err = parseKeyText(cur)
		}
		if err != nil {
			return claim{}, false, err
		}
		c.expired = lease > 0
		n, err := l.exec(ctx, l.DB, "UPDATE rowseal_ranges SET fence = fence + 1, owner = ?, lease_ms = "+l.Dialect.now()+" + ? WHERE run_id = ? AND n = ? AND fence = ? AND done = 0 AND lease_ms < "+l.Dialect.now(),
			owner, ttl.Milliseconds(), run, c.n, c.fence)
		if err != nil {
			return claim{}, false, err
		}
		if n == 1 {
			c.fence++
			return c, true, nil
		}
		if err := ctx.Err(); err != nil { // another lane was faster
			return claim{}, false, err
		}
	}
}

// errLost: another lane holds the range by now.
var errLost = errors.New("walk: the lease of the range was lost")

// hold extends a claim. Inside a transaction it also keeps the range from everyone else until that ends.
func (l *Ledger) hold(ctx context.Context, ex Execer, c claim, ttl time.Duration) error {
	n, err := l.exec(ctx, ex, "UPDATE rowseal_ranges SET lease_ms = "+l.Dialect.now()+" + ? WHERE run_id = ? AND n = ? AND fence = ? AND done = 0", ttl.Milliseconds(), c.run, c.n, c.fence)
	if err != nil || n == 1 {
		return err
	}
	return l.mine(ctx, ex, c, "AND done = 0")
}

// mine asks whether a range is the claim's, where an UPDATE says that it changed nothing: MySQL does not count a row that has the values already.
func (l *Ledger) mine(ctx context.Context, ex Execer, c claim, and string) error {
	var one int
	err := l.row(ctx, ex, "SELECT 1 FROM rowseal_ranges WHERE run_id = ? AND n = ? AND fence = ? "+and, c.run, c.n, c.fence).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return errLost
	}
	return err
}

// record moves a range's cursor and adds to its counters.
func (l *Ledger) record(ctx context.Context, ex Execer, c claim, cur Key, done bool, d Counters) error {
	flag := 0
	if done {
		flag = 1
	}
	n, err := l.exec(ctx, ex, `UPDATE rowseal_ranges SET cur = COALESCE(?, cur), done = ?, seen = seen + ?, changed = changed + ?, current_rows = current_rows + ?, raced = raced + ?, gone = gone + ?,
		failed = failed + ?, calls = calls + ?, exposed = exposed + ? WHERE run_id = ? AND n = ? AND fence = ?`,
		keyText(cur), flag, d.Seen, d.Changed, d.Current, d.Raced, d.Gone, d.Failed, d.Calls, d.Exposed, c.run, c.n, c.fence)
	if err != nil || n == 1 {
		return err
	}
	return l.mine(ctx, ex, c, "")
}

// release gives a claim back at once.
func (l *Ledger) release(ctx context.Context, c claim) error {
	_, err := l.exec(ctx, l.DB, "UPDATE rowseal_ranges SET lease_ms = 0 WHERE run_id = ? AND n = ? AND fence = ?", c.run, c.n, c.fence)
	return err
}

// open counts the ranges that are not done, the one that settles included, and those of them that nobody holds.
func (l *Ledger) open(ctx context.Context, run string) (open, free int64, err error) {
	err = l.row(ctx, l.DB, "SELECT COUNT(*), COALESCE(SUM(CASE WHEN lease_ms < "+l.Dialect.now()+" THEN 1 ELSE 0 END), 0) FROM rowseal_ranges WHERE run_id = ? AND done = 0", run).Scan(&open, &free)
	return open, free, err
}

// How long a transaction waits for a lock on Postgres. The first is about what storing a page takes, and shorter than the second after which Postgres looks
// for deadlocks: the application's transaction is never the victim.
const (
	briefly  = "100ms"
	patience = "1s"
)

// inTx runs do in a transaction, which waits for locks that long.
func (l *Ledger) inTx(ctx context.Context, locks string, do func(tx *sql.Tx) error) error {
	var opts *sql.TxOptions
	if l.Dialect.Name == "postgres" {
		// Each UPDATE compares the newest rows with what was read. Under a stricter default of the database's a whole page would fail for one row that is busy.
		opts = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	tx, err := l.DB.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	if l.Dialect.Name == "postgres" {
		// One row that somebody holds must not keep the others of its page from everyone for as long.
		if _, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = '"+locks+"'"); err != nil {
			return err
		}
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Pending counts the values that are to be tried again when the ranges are done.
func (l *Ledger) Pending(ctx context.Context, run string) (n int64, err error) {
	err = l.row(ctx, l.DB, "SELECT COUNT(*) FROM rowseal_failures WHERE run_id = ? AND class = ?", run, raced).Scan(&n)
	return n, err
}
