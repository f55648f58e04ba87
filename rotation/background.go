// background.go owns runs that nobody waits for: they are begun in the ledger, and worked on by whoever finds them there.

package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/walk"
)

// Rotator begins runs of its models and works on them, in the background. [Rotator.Run] is the engine inside this process; any other needs [Rotator.Active]
// and [Rotator.Lane] alone, as rotation/riverjob shows. The ledger says what there is to do, so an engine may lose all that it knows, and several may
// share a run. A Rotator is safe for concurrent use.
type Rotator struct {
	cfg    Config
	ledger *walk.Ledger
	jobs   []*job
	begun  chan struct{} // wakes Run
}

// New makes a Rotator. Config is that of each run that it begins, and its bounds are those of this process for each model. Models are pointers to structs, or
// rowseal.Model values, as for [RotateKMSKey]. It asks the database nothing.
func New(db *gorm.DB, cfg Config, models ...any) (*Rotator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(models) == 0 {
		return nil, errors.New("rotation: New: no model; pass a pointer to each model's struct, as in &Patient{}")
	}
	if show := cfg.Progress; show != nil {
		var one sync.Mutex // several runs may be active
		cfg.Progress = func(p Progress) {
			one.Lock()
			defer one.Unlock()
			show(p)
		}
	}
	r := &Rotator{cfg: cfg, begun: make(chan struct{}, 1)}
	if r.ledger, err = ledgerAt(db); err != nil {
		return nil, err
	}
	for _, model := range models {
		j, err := newJob(context.Background(), db, model, cfg)
		if err != nil {
			return nil, err
		}
		if r.find(j.target) != nil {
			return nil, fmt.Errorf("rotation: New: %s is there twice", j.target)
		}
		r.jobs = append(r.jobs, j)
	}
	return r, nil
}

func (r *Rotator) find(target string) *job {
	for _, j := range r.jobs {
		if j.target == target {
			return j
		}
	}
	return nil
}

// job finds that of a model.
func (r *Rotator) job(ctx context.Context, db *gorm.DB, model any) (*job, error) {
	j, err := newJob(ctx, db, model, r.cfg)
	if err != nil {
		return nil, err
	}
	if j = r.find(j.target); j == nil {
		return nil, fmt.Errorf("rotation: %T is not a model of this Rotator; pass it to New", model)
	}
	return j, nil
}

// Start begins a run of one of the models, or finds the one that is active, and returns at once. What would fail for every row is refused, as
// [RotateKMSKey] does.
func (r *Rotator) Start(ctx context.Context, model any) (Run, error) {
	j, err := r.job(ctx, r.jobs[0].db, model)
	if err != nil {
		return Run{}, err
	}
	if err := j.prepare(ctx); err != nil {
		return Run{}, err
	}
	run, err := j.begin(ctx)
	if err != nil {
		return Run{}, err
	}
	r.wake()
	return runOf(run), nil
}

// StartTx is Start inside a transaction of the application's, in the database of the Rotator: the run exists when that commits, and never where it rolls back. No key
// service is asked and no row counted meanwhile. Whoever works on the run first does that, and a run that is refused then ends as failed, with the
// reason. Engines find the run by their next look at the ledger.
func (r *Rotator) StartTx(ctx context.Context, tx *gorm.DB, model any) (Run, error) {
	if _, ok := tx.Statement.ConnPool.(gorm.TxCommitter); !ok {
		return Run{}, errors.New("rotation: StartTx: the *gorm.DB is no transaction; pass the one that db.Transaction gives, or call Start")
	}
	j, err := r.job(ctx, r.jobs[0].db, model)
	if err != nil {
		return Run{}, err
	}
	run, err := j.beginTx(ctx, tx.Statement.ConnPool)
	if err != nil {
		return Run{}, fmt.Errorf("rotation: start: %w", err)
	}
	if run.Created.IsZero() {
		run.Created = time.Now() // as good as the database's, which nobody has read
	}
	return runOf(run), nil
}

// Active lists the runs in the ledger that are running, the oldest first, whoever began them and whoever may work on them.
func (r *Rotator) Active(ctx context.Context) ([]Run, error) {
	found, err := r.ledger.Running(ctx)
	if err != nil {
		return nil, fmt.Errorf("rotation: list what is running: %w", err)
	}
	runs := make([]Run, len(found))
	for i, run := range found {
		runs[i] = runOf(run)
	}
	return runs, nil
}

// Lane works on a run, one range at a time, until budget is used up or nothing is left, and ends a run of which nothing is left. more reports that it
// should be called again; false, that the run has ended or is paused. Between two calls nothing is held, and a call that is killed is only a call that
// others need not wait for longer than [Config].Lease. When budget is used up, the page that is at work is still stored.
//
// A service or database that fails for a while is waited for. Where the key that rows go to is disabled or closed to this program, the run is paused, with
// the reason; [Resume] lets it go on. An error is one that this process cannot get over: [ErrElsewhere] where it lacks the model or has another
// current version. Rows that fail are none: they are in the run's report, see [ReportOf].
func (r *Rotator) Lane(ctx context.Context, id string, budget time.Duration) (more bool, err error) {
	until := time.Now().Add(budget)
	return r.drive(ctx, id, 1, func() bool { return !time.Now().Before(until) })
}

// drive is Lane with any number of lanes.
func (r *Rotator) drive(ctx context.Context, id string, lanes int, stop func() bool) (more bool, err error) {
	run, err := r.ledger.Get(ctx, id)
	if err != nil {
		return !errors.Is(err, ErrNoRun), err
	}
	if run.State != walk.Running {
		return false, nil
	}
	j := r.find(run.Target)
	if j == nil {
		return true, fmt.Errorf("rotation: run %s of %s: %w: it has no such model", id, run.Target, ErrElsewhere)
	}
	if err := j.joins(run); err != nil {
		return true, err
	}
	more, err = j.work(ctx, id, lanes, stop)
	closed, _ := errors.AsType[*targetError](err)
	switch {
	case closed != nil:
		r.cfg.Logger.ErrorContext(ctx, "rotation is paused", "run", id, "error", closed)
		return false, nil
	case errors.Is(err, walk.ErrStopped):
		return false, nil
	case errors.Is(err, ErrBudget), errors.Is(err, errRefused):
		r.cfg.Logger.ErrorContext(ctx, "rotation ends", "run", id, "state", walk.Failed, "error", err)
		return false, nil
	case err != nil || more:
		return true, err
	}
	if closed, err := j.closed(ctx, id); err != nil || !closed {
		return err != nil, err
	}
	_, err = j.finish(ctx, id, nil)
	var partial *PartialError
	if errors.As(err, &partial) {
		err = nil
	}
	return false, err
}

// look is how often Run looks for runs that others began: one small query.
const look = 3 * time.Second

// Run works on all active runs of the Rotator's models, with [Config].Lanes lanes for each: those that it finds when it starts, begun by whomever and however far
// they have come, and those that begin later. It blocks until ctx is done, and then returns nil when the lanes have ended and given back what they held.
// Before that it returns only where the tables are not there.
func (r *Rotator) Run(ctx context.Context) error {
	for _, j := range r.jobs {
		if err := j.prepare(ctx); err != nil && ctx.Err() == nil && !transient(err) {
			return err
		}
	}
	var lanes sync.WaitGroup
	defer lanes.Wait()
	var mu sync.Mutex
	at := map[string]bool{} // runs that lanes are at, or wait to be at again
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		runs, err := r.Active(ctx)
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "rotation waits", "error", err)
		}
		for _, run := range runs {
			mu.Lock()
			busy := at[run.ID]
			at[run.ID] = true
			mu.Unlock()
			if busy {
				continue
			}
			lanes.Go(func() {
				r.keep(ctx, run.ID)
				mu.Lock()
				defer mu.Unlock()
				delete(at, run.ID)
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.begun:
		case <-tick.C:
		}
	}
}

// keep works on a run until it has ended or is paused.
func (r *Rotator) keep(ctx context.Context, id string) {
	again := newPause(time.Second, time.Minute)
	for {
		more, err := r.drive(ctx, id, r.cfg.Lanes, never)
		switch {
		case ctx.Err() != nil || !more && err == nil:
			return
		case errors.Is(err, ErrElsewhere):
			r.cfg.Logger.DebugContext(ctx, "rotation leaves a run to others", "run", id, "error", err)
		default:
			r.cfg.Logger.ErrorContext(ctx, "rotation stops and tries again", "run", id, "error", err)
		}
		if !more || again.wait(ctx) != nil {
			return
		}
	}
}

// wake has Run look at once.
func (r *Rotator) wake() {
	select {
	case r.begun <- struct{}{}:
	default:
	}
}
