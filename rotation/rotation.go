// rotation.go owns the front door: what a rotation is asked for, and the call that blocks until it is done.

package rotation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// Config describes a rotation. The zero Config works where the plugin is installed.
type Config struct {
	// Keys is the keyring whose current version rows are moved to. It needs every version that rows are under. Defaults to that of the plugin on
	// the *gorm.DB; a rotator that has its own needs no plugin.
	Keys *kmskey.Keyring

	// Columns chooses key columns by name. Defaults to all of the model.
	Columns []string

	// All wraps the keys of rows anew that are current already, for services that do not tell versions of their key apart, as AWS after its yearly rotation.
	// Defaults to false.
	All bool

	// Calls bounds the calls to key services that are in flight at once, in this process. Where a service throttles, fewer are made until it does no
	// more. Defaults to 64.
	Calls int

	// Timeout is how long one call to a key service may take. One that takes longer counts as a service that is away: it is tried again, and then its
	// page is. Defaults to 30 seconds.
	Timeout time.Duration

	// Rate bounds the data keys that are moved in a second, in this process. Set it to leave the rest of a quota to the application. Defaults to
	// no bound.
	Rate float64

	// Lanes is how many ranges of the table are worked on at once in this process. One lane keeps a key service busy by itself; more help where
	// keys are wrapped locally, at the price of longer row locks. Defaults to 1.
	Lanes int

	// MaxPage bounds the rows of one UPDATE; the number follows PageTime below that. Defaults to 500, past which nothing is gained.
	MaxPage int

	// PageTime is what storing one page should take: row locks are held about that long. Defaults to 50 ms.
	PageTime time.Duration

	// Budget is how many keys may fail for good before the run stops: a few are damaged rows, many are a mistake in the configuration. They are recorded and
	// passed over. -1 goes on whatever fails. Defaults to 100.
	Budget int64

	// Lease is how long a lane that does not answer keeps others from its range. Defaults to 30 seconds.
	Lease time.Duration

	// Progress is called about once a second, and at the end, by one goroutine at a time. Defaults to nothing.
	Progress func(Progress)

	// Logger gets a record when the run begins, each minute, when it stops, and for what is tried again. Defaults to none.
	Logger *slog.Logger

	// Owner names this process in the ledger. Defaults to host and process id.
	Owner string
}

const (
	defaultCalls    = 64
	defaultMaxPage  = 500
	defaultPageTime = 50 * time.Millisecond
	defaultBudget   = 100
	defaultLease    = 30 * time.Second
	defaultTimeout  = 30 * time.Second
	minLease        = 10 * time.Millisecond
	longestOwner    = 255 // characters, in the ledger
	rangeSize       = 10_000
)

func (c Config) withDefaults() (Config, error) {
	if c.Calls < 0 || c.Lanes < 0 || c.MaxPage < 0 || c.Rate < 0 || c.PageTime < 0 || c.Lease < 0 || c.Timeout < 0 || c.Budget < -1 {
		return c, errors.New("rotation: Config: Calls, Timeout, Lanes, MaxPage, Rate, PageTime and Lease cannot be negative, and Budget is -1 at the least; leave them zero for the defaults")
	}
	if c.Lease != 0 && c.Lease < minLease {
		return c, fmt.Errorf("rotation: Config.Lease: %v is too short to be kept up; the least is %v", c.Lease, minLease)
	}
	or := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	or(&c.Calls, defaultCalls)
	or(&c.MaxPage, defaultMaxPage)
	or(&c.Lanes, 1)
	if c.PageTime == 0 {
		c.PageTime = defaultPageTime
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Budget == 0 {
		c.Budget = defaultBudget
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown host"
		}
		c.Owner = fmt.Sprintf("%s/%d", host, os.Getpid())
	}
	if c.Owner = strings.ToValidUTF8(c.Owner, "?"); utf8.RuneCountInString(c.Owner) > longestOwner {
		c.Owner = string([]rune(c.Owner)[:longestOwner])
	}
	return c, nil
}

// RotateKMSKey wraps the data key of every row of a model anew that is not under the keyring's current version, or not under the key, context and regions that this
// version has now. Soft-deleted rows are rows. No sealed field, no updated_at, no hook and no other column is touched, and no row is locked while a key service
// answers; a row that another writer changes meanwhile is that writer's, and is looked at again. model is a pointer to the struct, or a rowseal.Model
// with its settings where Config.Keys takes the place of the plugin.
//
// It blocks until nothing is left, and can be killed at any point: called again, in this process or another, it finds its run in the ledger and goes on. Several
// processes may call it at once and share the work. The tables of the ledger are made by package migrations.
//
// Rows that cannot be moved are recorded with their cause and passed over: the report lists them, and the error is a [*PartialError]. Whatever would fail for every
// row is refused before the first: a key that is disabled, a version that the keyring lacks, tables that are missing. Where the key that rows go to is
// disabled or closed to this program on the way, the run is paused ([ErrPaused]) and no row recorded as failed.
func RotateKMSKey(ctx context.Context, db *gorm.DB, model any, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	j, err := newJob(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	return j.run(ctx)
}

// run begins or finds the run of the job's target and works until nothing is left.
func (j *job) run(ctx context.Context) (*Report, error) {
	if err := j.prepare(ctx); err != nil {
		return nil, err
	}
	run, err := j.begin(ctx)
	if err != nil {
		return nil, err
	}
	_, err = j.work(ctx, run.ID, j.cfg.Lanes, never)
	return j.finish(ctx, run.ID, err)
}

// spec is what a run is for, as the ledger keeps it.
type spec struct {
	Table   string        `json:"table"`
	Columns []string      `json:"columns"`
	Model   string        `json:"model"`
	Version int           `json:"version"` // that rows are moved to
	All     bool          `json:"all,omitempty"`
	Indexes []filledIndex `json:"indexes,omitempty"` // that the run fills
	// Before is how many rows were under each version when the run began, by column. It is null while nobody has looked.
	Before []Group `json:"before"`
}

func (j *job) spec() spec {
	s := spec{Table: j.table, Columns: j.columns, Model: j.model.Name, Version: j.keys.Current(), All: j.cfg.All}
	if j.kind == kindIndex {
		for _, x := range j.indexes {
			s.Indexes = append(s.Indexes, filledIndex{x.Column, x.Field.Column.DBName, x.Version})
		}
	}
	return s
}

// ledgerRun is a run of the job as it is written down.
func (j *job) ledgerRun(s spec) (walk.Run, error) {
	text, err := json.Marshal(s)
	return walk.Run{
		ID: newID(), Kind: j.kind, Target: j.target, State: walk.Running, Spec: string(text), StartedBy: j.cfg.Owner,
		Budget: j.cfg.Budget, Rate: j.cfg.Rate, Estimate: total(s.Before),
	}, err
}

func total(groups []Group) (n int64) {
	for _, g := range groups {
		if g.Version != 0 && g.Version != shredded { // NULL
			n += g.Rows
		}
	}
	return n
}

// begin finds the run of the target or makes one.
func (j *job) begin(ctx context.Context) (walk.Run, error) {
	for {
		var run walk.Run
		err := insist(ctx, func() (err error) { run, err = j.ledger.FindActive(ctx, j.ledger.DB, j.target); return err })
		if err == nil {
			return run, j.joins(run)
		}
		if !errors.Is(err, walk.ErrNoRun) {
			return run, err
		}
		want := j.spec()
		if err = insist(ctx, func() (err error) { want.Before, err = j.survey(ctx); return err }); err != nil {
			return run, err
		}
		if run, err = j.ledgerRun(want); err != nil {
			return run, err
		}
		err = insist(ctx, func() error { return j.create(ctx, run) })
		if errors.Is(err, walk.ErrActive) {
			continue // another process was faster
		}
		if err != nil {
			return run, err
		}
		j.cfg.Logger.InfoContext(ctx, "rotation begins", "run", run.ID, "target", run.Target, "version", want.Version, "keys", run.Estimate)
		return run, nil
	}
}

// beginTx is begin inside a transaction of the application's. It asks no key service and counts no rows, since the transaction may hold locks: the first lane
// does that.
func (j *job) beginTx(ctx context.Context, tx walk.Execer) (walk.Run, error) {
	run, err := j.ledger.FindActive(ctx, tx, j.target)
	if errors.Is(err, walk.ErrNoRun) {
		if run, err = j.ledgerRun(j.spec()); err != nil {
			return run, err
		}
		if err = j.ledger.Create(ctx, tx, run); !errors.Is(err, walk.ErrActive) {
			return run, err
		}
		// Another transaction was faster, and has committed. This one may not see that yet.
		run, err = j.ledger.FindActive(ctx, j.ledger.DB, j.target)
	}
	if err != nil {
		return run, err
	}
	return run, j.joins(run)
}

// survey tries the target, and counts rows by version.
func (j *job) survey(ctx context.Context) ([]Group, error) {
	if j.kind == kindRewrap {
		if _, _, err := j.preflight(ctx); err != nil {
			return nil, err
		}
	}
	before, err := j.groups(ctx)
	if err != nil {
		return nil, err
	}
	if j.kind != kindRewrap {
		return append([]Group{}, before...), nil
	}
	return append([]Group{}, before...), j.known(before)
}

// surveyed does what is left to do before the first row of a run that was begun in a transaction. What would be refused by begin ends it.
func (j *job) surveyed(ctx context.Context, id string) error {
	run, err := j.ledger.Get(ctx, id)
	if err != nil {
		return err
	}
	var s spec
	if err := json.Unmarshal([]byte(run.Spec), &s); err != nil {
		return fmt.Errorf("rotation: run %s: its specification: %w", id, err)
	}
	if s.Before != nil || run.State != walk.Running {
		return nil
	}
	if s.Before, err = j.survey(ctx); err != nil {
		if ctx.Err() == nil && !transient(err) {
			if _, merr := j.ledger.Move(ctx, id, walk.Failed, err.Error(), walk.Running); merr != nil {
				return errors.Join(err, merr)
			}
			return fmt.Errorf("%w: %w", errRefused, err)
		}
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := j.ledger.SetSpec(ctx, run, string(text), total(s.Before)); err != nil {
		return err
	}
	j.cfg.Logger.InfoContext(ctx, "rotation begins", "run", id, "target", run.Target, "version", s.Version, "keys", total(s.Before))
	return nil
}

// errRefused: the run has ended before its first row.
var errRefused = errors.New("the run was refused")

func (j *job) create(ctx context.Context, run walk.Run) error {
	tx, err := j.ledger.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	if err := j.ledger.Create(ctx, tx, run); err != nil {
		return err
	}
	return tx.Commit()
}

// joins reports whether this process may work on a run that is there.
func (j *job) joins(run walk.Run) error {
	want := j.spec()
	var have spec
	if err := json.Unmarshal([]byte(run.Spec), &have); err != nil {
		return fmt.Errorf("rotation: run %s: its specification: %w", run.ID, err)
	}
	switch {
	case run.Kind != j.kind:
		return fmt.Errorf("rotation: run %s of %s is another one (%s): finish or cancel it first: %w", run.ID, run.Target, run.Kind, ErrElsewhere)
	case run.State == walk.Paused:
		return fmt.Errorf("rotation: run %s of %s: %w (%s); resume or cancel it first", run.ID, run.Target, ErrPaused, run.Reason)
	case j.kind == kindRewrap && have.Version != want.Version:
		return fmt.Errorf("rotation: run %s of %s goes to version %d, and this keyring's current one is %d: finish or cancel it first: %w", run.ID, run.Target, have.Version, want.Version, ErrElsewhere)
	case have.All != want.All || have.Model != want.Model:
		return fmt.Errorf("rotation: run %s of %s is another one (model %q, all %t): finish or cancel it first: %w", run.ID, run.Target, have.Model, have.All, ErrElsewhere)
	}
	return nil
}

// newID is sortable by time, and unlike any other.
func newID() string {
	var b [4]byte
	rand.Read(b[:])
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// never is asked by lanes that go on until nothing is left.
func never() bool { return false }

// work keeps lanes going until nothing is left, the run is stopped, stop reports true, or ctx is done. more reports that something may be left.
func (j *job) work(ctx context.Context, id string, lanes int, stop func() bool) (more bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		j.watch(ctx, id, cancel)
	}()
	var wg sync.WaitGroup
	var left atomic.Bool
	j.halted.Store(false)
	errs := make([]error, lanes)
	for i := range errs {
		wg.Go(func() {
			more, err := j.lane(ctx, id, stop)
			if errs[i] = err; err != nil && !errors.Is(err, walk.ErrStopped) {
				cancel(err) // the others would meet the same
			}
			if more {
				left.Store(true)
			}
		})
	}
	wg.Wait()
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	if cause != nil {
		return true, cause
	}
	err = errors.Join(errs...)
	return left.Load() || err != nil, err
}

// lane works until the run is complete, whoever completes it, or stop reports true.
func (j *job) lane(ctx context.Context, id string, stop func() bool) (more bool, err error) {
	wait := newPause(50*time.Millisecond, min(j.cfg.Lease/4, time.Second))
	trouble := newPause(time.Second, 10*time.Second)
	stops := func() bool { return stop() || j.halted.Load() || j.overBudget(ctx, id) != nil }
	for !stop() {
		idle, more, err := j.step(ctx, id, stops)
		if over := j.overBudget(ctx, id); over != nil {
			return true, over
		}
		if err == nil && more && j.halted.Load() {
			return true, walk.ErrStopped
		}
		if closed, ok := errors.AsType[*targetError](err); ok {
			if _, merr := j.ledger.Move(ctx, id, walk.Paused, closed.Error(), walk.Running); merr != nil {
				err = errors.Join(err, merr)
			}
		}
		switch {
		case err == nil && !more:
			return false, nil
		case err == nil && idle: // others are at the rest
			err = wait.wait(ctx)
		case err == nil:
			wait.reset()
			trouble.reset()
		case ctx.Err() == nil && transient(err):
			j.cfg.Logger.WarnContext(ctx, "rotation waits", "run", id, "error", err)
			err = trouble.wait(ctx)
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// step works on what nobody holds. idle reports that there was nothing of that, more that something is left.
func (j *job) step(ctx context.Context, id string, stop func() bool) (idle, more bool, err error) {
	if err := j.prepare(ctx); err != nil {
		return false, true, err
	}
	if err := j.surveyed(ctx, id); err != nil {
		return false, true, err
	}
	if idle, err = j.walker.Lane(ctx, id, stop); err != nil {
		return false, true, err
	}
	open, _, unplanned, err := j.walker.Left(ctx, id)
	return idle, open > 0 || unplanned, err
}

// watch shows progress and holds the run to its error budget.
func (j *job) watch(ctx context.Context, id string, cancel context.CancelCauseFunc) {
	minute := time.Now()
	for wait := time.Duration(0); ; wait = time.Second { // at once, since a lane may have no more than a second
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p, err := j.tell(ctx, id, false)
		if err != nil {
			continue // the lanes meet the same
		}
		if p.State == walk.Paused || p.State == walk.Cancelled {
			j.halted.Store(true)
		}
		if time.Since(minute) >= time.Minute {
			minute = time.Now()
			j.cfg.Logger.InfoContext(ctx, "rotation", "run", id, "seen", p.Seen, "of", p.Total, "changed", p.Changed, "failed", p.Failed, "rate", int(p.Rate), "left", p.ETA.Round(time.Second))
		}
		if err := j.spent(ctx, id, p.Failed-p.Pending); err != nil {
			cancel(err)
			return
		}
	}
}

// tell asks how far a run is and shows it, once a second however many lanes of this process are at it, and always where it is the last time.
func (j *job) tell(ctx context.Context, id string, last bool) (Progress, error) {
	j.telling.Lock()
	defer j.telling.Unlock()
	m := j.meters[id]
	if m == nil {
		m = &meter{}
		j.meters = map[string]*meter{id: m} // one run of the target at a time
	}
	p, err := j.progress(ctx, id, m)
	if err != nil {
		return p, err
	}
	if j.cfg.Progress != nil && (last || time.Since(j.told) > 900*time.Millisecond) {
		j.told = time.Now()
		j.cfg.Progress(p)
	}
	return p, nil
}

// closed ends a run of which nothing is left. It reports false where another process was faster, or it was stopped.
func (j *job) closed(ctx context.Context, id string) (bool, error) {
	return j.ledger.Move(ctx, id, walk.Done, "", walk.Running)
}

// overBudget is asked at every page. Where no key failed in this process, that costs nothing.
func (j *job) overBudget(ctx context.Context, id string) error {
	if over := j.over.Load(); over != nil && over.run == id {
		return over.err
	}
	if j.cfg.Budget < 0 || !j.failing.Load() {
		return nil
	}
	c, _, err := j.ledger.Count(ctx, id)
	if err != nil || c.Failed <= j.cfg.Budget {
		return nil // the lanes meet the same
	}
	pending, err := j.ledger.Pending(ctx, id)
	if err != nil {
		return nil
	}
	return j.spent(ctx, id, c.Failed-pending)
}

// spent ends a run of which more keys failed than the budget allows.
func (j *job) spent(ctx context.Context, id string, failed int64) error {
	if j.cfg.Budget < 0 || failed <= j.cfg.Budget {
		return nil
	}
	reason := fmt.Sprintf("%d keys failed, more than the budget of %d", failed, j.cfg.Budget)
	if moved, err := j.ledger.Move(ctx, id, walk.Failed, reason, walk.Running); err != nil || !moved {
		return nil
	}
	err := fmt.Errorf("%w: %s", ErrBudget, reason)
	j.over.Store(&overdraft{id, err})
	return err
}

// ended is the error of a run that nobody works on any more, by its state.
func ended(r *Report) error {
	switch r.State {
	case walk.Done:
		return nil
	case walk.Paused:
		return fmt.Errorf("%w (%s)", ErrPaused, r.Reason)
	case walk.Failed:
		return fmt.Errorf("%w: %s", ErrBudget, r.Reason)
	}
	return fmt.Errorf("%w: it is %s (%s)", walk.ErrStopped, r.State, r.Reason)
}

// insist does what comes before the first page and after the last, which must not fail for an error that is gone the next time: several programs begin and finish
// one run, and a database whose default is SERIALIZABLE refuses all of them but one.
func insist(ctx context.Context, do func() error) (err error) {
	for pause := 50 * time.Millisecond; pause < 2*time.Second; pause *= 2 {
		if err = do(); err == nil || ctx.Err() != nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
	return err
}

// finish ends a run that is complete, and gives its report.
func (j *job) finish(ctx context.Context, id string, err error) (*Report, error) {
	if ctx.Err() != nil {
		// A caller who gave up is told how far it came; that must not wait for long.
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		ctx = brief
	}
	if err == nil {
		if err = insist(ctx, func() error { _, err := j.closed(ctx, id); return err }); err != nil {
			return nil, err
		}
	}
	var report *Report
	if rerr := insist(ctx, func() (err error) { report, err = j.report(ctx, id); return err }); rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	if err == nil || errors.Is(err, walk.ErrStopped) {
		err = ended(report) // perhaps by another process, which is as good
	}
	_, _ = j.tell(ctx, id, true) // a courtesy
	if report.State == walk.Done {
		text, merr := json.Marshal(report)
		if merr == nil {
			merr = insist(ctx, func() error { return j.ledger.SetReport(ctx, id, string(text)) })
		}
		if merr != nil {
			return report, merr
		}
	}
	j.cfg.Logger.InfoContext(ctx, "rotation ends", "run", id, "state", report.State, "changed", report.Rewrapped, "failed", report.Failed, "error", err)
	if err != nil {
		return report, fmt.Errorf("rotation: run %s of %s: %w", id, report.Target, err)
	}
	if report.Failed > 0 {
		return report, &PartialError{Report: report}
	}
	return report, nil
}

// known refuses rows under versions that the keyring does not have.
func (j *job) known(groups []Group) error {
	var missing []string
	numbers := j.keys.Numbers()
	for _, g := range groups {
		if g.Version > 0 && !slices.Contains(numbers, g.Version) {
			missing = append(missing, fmt.Sprintf("%d of %s are under version %d", g.Rows, g.Column, g.Version))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("rotation: %s: %w: %s, and the keyring has %v; list what is missing in kmskey.Config.Versions", j.table, kmskey.ErrUnknownVersion, strings.Join(missing, ", "), numbers)
}
