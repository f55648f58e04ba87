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

	// Rate bounds the data keys that are moved in a second, in this process. Set it to leave the rest of a quota to the application. Defaults to
	// no bound.
	Rate float64

	// Lanes is how many ranges of the table are worked on at once in this process. One lane keeps a key service busy by itself; more help where
	// keys are wrapped locally, at the price of longer row locks. Defaults to 1.
	Lanes int

	// MaxPage bounds the rows of one UPDATE; the number follows PageTime below that. Defaults to 1,000.
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
	defaultMaxPage  = 1000
	defaultPageTime = 50 * time.Millisecond
	defaultBudget   = 100
	defaultLease    = 30 * time.Second
	rangeSize       = 10_000
)

func (c Config) withDefaults() (Config, error) {
	if c.Calls < 0 || c.Lanes < 0 || c.MaxPage < 0 || c.Rate < 0 || c.PageTime < 0 || c.Lease < 0 || c.Budget < -1 {
		return c, errors.New("rotation: Config: Calls, Lanes, MaxPage, Rate, PageTime and Lease cannot be negative, and Budget is -1 at the least; leave them zero for the defaults")
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
// row is refused before the first: a key that is disabled, a version that the keyring lacks, tables that are missing.
func RotateKMSKey(ctx context.Context, db *gorm.DB, model any, cfg Config) (*Report, error) {
	j, err := open(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	run, err := j.begin(ctx)
	if err != nil {
		return nil, err
	}
	return j.finish(ctx, run.ID, j.work(ctx, run.ID))
}

// spec is what a run is for, as the ledger keeps it.
type spec struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
	Model   string   `json:"model"`
	Version int      `json:"version"` // that rows are moved to
	All     bool     `json:"all,omitempty"`
	// Before is how many rows were under each version when the run began, by column.
	Before []Group `json:"before"`
}

func (j *job) spec() spec {
	return spec{Table: j.table, Columns: j.reading.Keys(), Model: j.model.Name, Version: j.keys.Current(), All: j.cfg.All}
}

// begin finds the run of the target or makes one.
func (j *job) begin(ctx context.Context) (walk.Run, error) {
	if err := j.ledger.Check(ctx); err != nil {
		return walk.Run{}, fmt.Errorf("rotation: %w", err)
	}
	want := j.spec()
	for {
		run, err := j.ledger.FindActive(ctx, j.target)
		if err == nil {
			return run, j.joins(run, want)
		}
		if !errors.Is(err, walk.ErrNoRun) {
			return run, err
		}
		if _, _, err := j.preflight(ctx); err != nil {
			return run, err
		}
		if want.Before, err = j.groups(ctx); err != nil {
			return run, err
		}
		if err := j.known(want.Before); err != nil {
			return run, err
		}
		text, err := json.Marshal(want)
		if err != nil {
			return run, err
		}
		run = walk.Run{ID: newID(), Kind: "rewrap", Target: j.target, Spec: string(text), StartedBy: j.cfg.Owner, Budget: j.cfg.Budget, Rate: j.cfg.Rate}
		for _, g := range want.Before {
			run.Estimate += g.Rows
		}
		if err := j.create(ctx, run); err != nil {
			if errors.Is(err, walk.ErrActive) {
				continue // another process was faster
			}
			return run, err
		}
		j.cfg.Logger.InfoContext(ctx, "rotation begins", "run", run.ID, "target", run.Target, "version", want.Version, "keys", run.Estimate)
		return run, nil
	}
}

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
func (j *job) joins(run walk.Run, want spec) error {
	var have spec
	if err := json.Unmarshal([]byte(run.Spec), &have); err != nil {
		return fmt.Errorf("rotation: run %s: its specification: %w", run.ID, err)
	}
	switch {
	case run.State == walk.Paused:
		return fmt.Errorf("rotation: run %s of %s: %w (%s); resume or cancel it first", run.ID, run.Target, ErrPaused, run.Reason)
	case have.Version != want.Version:
		return fmt.Errorf("rotation: run %s of %s goes to version %d, and this keyring's current one is %d: finish or cancel it first", run.ID, run.Target, have.Version, want.Version)
	case have.All != want.All || have.Model != want.Model:
		return fmt.Errorf("rotation: run %s of %s is another one (model %q, all %t): finish or cancel it first", run.ID, run.Target, have.Model, have.All)
	}
	return nil
}

// newID is sortable by time, and unlike any other.
func newID() string {
	var b [4]byte
	rand.Read(b[:])
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// work keeps lanes going until nothing is left, the run is stopped, or ctx is done.
func (j *job) work(ctx context.Context, id string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	var halt atomic.Bool // at the next page
	go func() {
		defer close(watched)
		j.watch(ctx, id, &halt, cancel)
	}()
	var wg sync.WaitGroup
	errs := make([]error, j.cfg.Lanes)
	for i := range errs {
		wg.Go(func() {
			if errs[i] = j.lane(ctx, id, halt.Load); errs[i] != nil && !errors.Is(errs[i], walk.ErrStopped) {
				cancel(errs[i]) // the others would meet the same
			}
		})
	}
	wg.Wait()
	cause := context.Cause(ctx)
	cancel(nil)
	<-watched
	if cause != nil {
		return cause
	}
	return errors.Join(errs...)
}

// lane works until the run is complete, whoever completes it.
func (j *job) lane(ctx context.Context, id string, halt func() bool) error {
	wait := newPause(50*time.Millisecond, min(j.cfg.Lease/4, time.Second))
	trouble := newPause(time.Second, 30*time.Second)
	for {
		idle, err := j.walker.Lane(ctx, id, halt)
		if err == nil && halt() {
			err = walk.ErrStopped
		}
		if errors.Is(err, walk.ErrStopped) {
			if run, gerr := j.ledger.Get(ctx, id); gerr == nil && run.State == walk.Done {
				return nil // another process has just ended it
			}
		}
		switch {
		case err == nil:
			trouble.reset()
		case ctx.Err() != nil, errors.Is(err, walk.ErrStopped):
			return err
		case transient(err):
			j.cfg.Logger.WarnContext(ctx, "rotation waits", "run", id, "error", err)
			if err := trouble.wait(ctx); err != nil {
				return err
			}
			continue
		default:
			return err
		}
		open, _, unplanned, err := j.walker.Left(ctx, id)
		if err != nil {
			return err
		}
		if open == 0 && !unplanned {
			return nil
		}
		if !idle {
			wait.reset()
			continue
		}
		if err := wait.wait(ctx); err != nil { // others are at the rest
			return err
		}
	}
}

// watch shows progress and holds the run to its error budget.
func (j *job) watch(ctx context.Context, id string, halt *atomic.Bool, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	minute := time.Now()
	meter := &meter{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p, err := j.progress(ctx, id, meter)
		if err != nil {
			continue // the lanes meet the same
		}
		if p.State == walk.Paused || p.State == walk.Cancelled {
			halt.Store(true)
		}
		if j.cfg.Progress != nil {
			j.cfg.Progress(p)
		}
		if time.Since(minute) >= time.Minute {
			minute = time.Now()
			j.cfg.Logger.InfoContext(ctx, "rotation", "run", id, "seen", p.Seen, "of", p.Total, "changed", p.Changed, "failed", p.Failed, "rate", int(p.Rate), "left", p.ETA.Round(time.Second))
		}
		if p.Failed > p.Pending+j.cfg.Budget && j.cfg.Budget >= 0 {
			reason := fmt.Sprintf("%d keys failed, more than the budget of %d", p.Failed-p.Pending, j.cfg.Budget)
			if _, err := j.ledger.Move(ctx, id, walk.Failed, reason, walk.Running); err == nil {
				cancel(fmt.Errorf("rotation: run %s: %w: %s", id, ErrBudget, reason))
				return
			}
		}
	}
}

// finish ends a run that is complete, and gives its report.
func (j *job) finish(ctx context.Context, id string, err error) (*Report, error) {
	// A caller who gave up is told how far it came; that must not wait for long.
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err == nil {
		if _, err = j.ledger.Move(brief, id, walk.Done, "", walk.Running); err != nil {
			return nil, err
		}
	}
	report, rerr := j.report(brief, id)
	if rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	if errors.Is(err, walk.ErrStopped) {
		switch report.State {
		case walk.Paused:
			err = fmt.Errorf("%w (%s); it goes on with Resume", ErrPaused, report.Reason)
		case walk.Cancelled:
			err = fmt.Errorf("the run was cancelled (%s); what it moved stays so", report.Reason)
		}
	}
	if j.cfg.Progress != nil {
		if p, perr := j.progress(brief, id, &meter{}); perr == nil {
			j.cfg.Progress(p)
		}
	}
	if report.State == walk.Done {
		text, merr := json.Marshal(report)
		if merr == nil {
			merr = j.ledger.SetReport(brief, id, string(text))
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
