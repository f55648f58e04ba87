// Package riverjob keeps runs of package rotation going on River, a job queue in Postgres (riverqueue.com): on any number of machines, together with the
// application's other jobs.
//
//	rotator, err := rotation.New(db, rotation.Config{}, &Patient{})
//	jobs, err := riverjob.New(rotator, riverjob.Config{})
//	err = jobs.AddWorkers(workers)
//	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
//		Workers: workers, PeriodicJobs: []*river.PeriodicJob{jobs.Reconcile()}, Queues: …,
//	})
//	run, err := jobs.Start(ctx, client, &Patient{})
//
// A lane is one unique job of a run. It works on ranges for some seconds and snoozes, so that other jobs have their turn and a worker that stops is not
// waited for. The number of lanes is the number of ranges that are worked on at once, whatever the number of machines. One more job of each run
// only looks whether the lanes are all there.
//
// # What is guaranteed
//
// The ledger of package rotation alone says what there is to do and what has been done; River's jobs may be deleted, cancelled or lost at any time.
// Reconciling makes those that are missing. A worker that is killed leaves its job running in River's table, for an hour by default. Its range is free after
// rotation.Config.Lease; its lane is replaced when its job has run longer than [Config].Budget and Grace, at the next look, which a run's jobs do not
// need River's leader for: where that is killed as well, it is missed for some fifteen seconds. The periodic job is for runs that have no job yet, or none any more.
//
// The rotator's database need not be River's.
package riverjob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/rowseal/rowseal/rotation"
)

// Config says how runs are spread over jobs. It must be the same in every process. The zero Config works.
type Config struct {
	// Lanes is how many jobs work on a run at once, on all machines together. Defaults to 4.
	Lanes int

	// Budget is how long a job works before it gives way to others. It is at least a second. Defaults to 10 seconds.
	Budget time.Duration

	// Grace is how much longer a job may take, which is what the page takes that it is at. After two thirds of it the job is cancelled, and after all of it
	// another one takes its place. Set it above what a key service may take for rotation.Config.MaxPage keys. Defaults to 30 seconds.
	Grace time.Duration

	// Interval is how often the ledger is compared with River's jobs: so long may a run wait that was begun by rotation.Rotator.StartTx, or resumed. Runs
	// that have jobs are looked after each five seconds at the least. Defaults to 30 seconds.
	Interval time.Duration

	// Queue is where the jobs go. Defaults to River's default queue.
	Queue string
}

func (c Config) withDefaults() (Config, error) {
	if c.Lanes < 0 || c.Budget < 0 || c.Grace < 0 || c.Interval < 0 || c.Budget > 0 && c.Budget < time.Second {
		return c, errors.New("riverjob: Config: Lanes, Grace and Interval cannot be negative, and Budget is a second at the least; leave them zero for the defaults")
	}
	if c.Lanes == 0 {
		c.Lanes = 4
	}
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	or(&c.Budget, 10*time.Second)
	or(&c.Grace, 30*time.Second)
	or(&c.Interval, 30*time.Second)
	if c.Queue == "" {
		c.Queue = river.QueueDefault
	}
	return c, nil
}

// Jobs are those of one Rotator. It is safe for concurrent use.
type Jobs struct {
	rotator *rotation.Rotator
	cfg     Config

	mu     sync.Mutex
	looked time.Time
}

// New makes the jobs of a Rotator.
func New(rotator *rotation.Rotator, cfg Config) (*Jobs, error) {
	if rotator == nil {
		return nil, errors.New("riverjob: New: no Rotator; make one with rotation.New")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Jobs{rotator: rotator, cfg: cfg}, nil
}

// AddWorkers registers the workers of both kinds of job.
func (j *Jobs) AddWorkers(workers *river.Workers) error {
	if err := river.AddWorkerSafely(workers, &laneWorker{jobs: j}); err != nil {
		return fmt.Errorf("riverjob: %w", err)
	}
	if err := river.AddWorkerSafely(workers, &reconcileWorker{jobs: j}); err != nil {
		return fmt.Errorf("riverjob: %w", err)
	}
	return nil
}

// Reconcile is the job that compares the ledger with River's jobs, for river.Config.PeriodicJobs: once when a leader is elected, and each Interval.
func (j *Jobs) Reconcile() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(j.cfg.Interval), func() (river.JobArgs, *river.InsertOpts) {
		// It is not unique: one whose worker was killed would keep all later ones out until River rescues it. Two at once do no harm, and one that fails is not
		// tried again, since the next one comes anyway.
		return reconcileArgs{}, &river.InsertOpts{Queue: j.cfg.Queue, MaxAttempts: 1}
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

// Start begins a run, or finds the one that is active, and inserts its lanes. client may be one that only inserts.
//
// To begin a run inside a GORM transaction, call rotation.Rotator.StartTx: its row in the ledger commits with the application's rows, and Reconcile makes the jobs.
// [Jobs.Look] after the commit does so at once.
func (j *Jobs) Start(ctx context.Context, client *river.Client[pgx.Tx], model any) (rotation.Run, error) {
	run, err := j.rotator.Start(ctx, model)
	if err != nil {
		return run, err
	}
	return run, j.Look(ctx, client)
}

// Look sees to it that every run that is running has its lanes, at once.
func (j *Jobs) Look(ctx context.Context, client *river.Client[pgx.Tx]) error {
	_, err := j.look(ctx, client)
	return err
}

func (j *Jobs) look(ctx context.Context, client *river.Client[pgx.Tx]) ([]rotation.Run, error) {
	j.mu.Lock()
	j.looked = time.Now()
	j.mu.Unlock()
	active, err := j.rotator.Active(ctx)
	if err != nil {
		return nil, fmt.Errorf("riverjob: %w", err)
	}
	for _, run := range active {
		if err := j.fill(ctx, client, run.ID); err != nil {
			return nil, fmt.Errorf("riverjob: run %s: %w", run.ID, err)
		}
	}
	return active, nil
}

// often is how often the jobs of a run look after each other. River makes a job that snoozes no longer than this available at once, for a later time;
// others wait for its leader.
func (j *Jobs) often() time.Duration { return min(j.cfg.Interval, 5*time.Second) }

// due reports that this process has not looked for a while.
func (j *Jobs) due() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return time.Since(j.looked) >= j.often()
}

// alive are the states of a job that is still to do something.
var alive = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

// watch is the lane that does no work, and only looks after the others. It is hardly ever running, and what is not running is not lost when a worker is
// killed, be it with all lanes of a run.
const watch = 0

// laneArgs names a lane. A lane that is lost keeps its name until River rescues it, so the one that replaces it has the next generation.
type laneArgs struct {
	Run        string `json:"run"`
	Lane       int    `json:"lane"`
	Generation int    `json:"generation"`
}

func (laneArgs) Kind() string { return "rowseal_rotation_lane" }

// fill inserts the lanes that a run lacks.
func (j *Jobs) fill(ctx context.Context, client *river.Client[pgx.Tx], run string) error {
	// By one clock, the database's, which also set attempted_at.
	const lost = "state = 'running' AND attempted_at < now() - @after * interval '1 millisecond'"
	of := river.NewJobListParams().Kinds(laneArgs{}.Kind()).Where("args ->> 'run' = @run", river.NamedArgs{"run": run}).First(10_000)
	found, err := client.JobList(ctx, of.States(alive...))
	if err != nil {
		return err
	}
	stuck, err := client.JobList(ctx, of.States(rivertype.JobStateRunning).Where(lost, river.NamedArgs{"after": (j.cfg.Budget + j.cfg.Grace).Milliseconds()}))
	if err != nil {
		return err
	}
	gone := map[int64]bool{}
	for _, job := range stuck.Jobs {
		gone[job.ID] = true
	}
	type last struct {
		id         int64
		generation int
	}
	lanes := map[int]last{}
	for _, job := range found.Jobs {
		var args laneArgs
		if err := json.Unmarshal(job.EncodedArgs, &args); err != nil {
			return fmt.Errorf("job %d: its arguments: %w", job.ID, err)
		}
		if l, there := lanes[args.Lane]; !there || l.generation < args.Generation {
			lanes[args.Lane] = last{job.ID, args.Generation}
		}
	}
	for n := watch; n <= j.cfg.Lanes; n++ {
		next := laneArgs{Run: run, Lane: n}
		if l, there := lanes[n]; there {
			if !gone[l.id] {
				continue
			}
			// River cancels it when it rescues it, instead of running it again; and at once, should its worker be alive after all.
			if _, err := client.JobCancel(ctx, l.id); err != nil && !errors.Is(err, rivertype.ErrNotFound) {
				return err
			}
			next.Generation = l.generation + 1
		}
		if _, err := client.Insert(ctx, next, &river.InsertOpts{
			Queue: j.cfg.Queue, MaxAttempts: 1000, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: alive},
		}); err != nil {
			return err
		}
	}
	return nil
}

type laneWorker struct {
	river.WorkerDefaults[laneArgs]
	jobs *Jobs
}

func (w *laneWorker) Timeout(*river.Job[laneArgs]) time.Duration {
	return w.jobs.cfg.Budget + w.jobs.cfg.Grace*2/3
}

// NextRetry is soon at first, and each minute in the end: River's own goes up to weeks.
func (w *laneWorker) NextRetry(job *river.Job[laneArgs]) time.Time {
	return time.Now().Add(min(time.Duration(job.Attempt*job.Attempt)*time.Second, time.Minute))
}

// elsewhere is how long a lane waits that came to a process which is not set up for the run.
const elsewhere = 2 * time.Second

func (w *laneWorker) Work(ctx context.Context, job *river.Job[laneArgs]) error {
	client, err := river.ClientFromContextSafely[pgx.Tx](ctx)
	if err != nil {
		return err
	}
	if job.Args.Lane == watch {
		return w.watch(ctx, client, job.Args.Run)
	}
	more, err := w.jobs.rotator.Lane(ctx, job.Args.Run, w.jobs.cfg.Budget)
	switch {
	case !more:
		return err
	case ctx.Err() != nil:
		return river.JobSnooze(0) // it stops, or took too long: others go on
	case errors.Is(err, rotation.ErrElsewhere):
		return river.JobSnooze(elsewhere)
	case err != nil:
		return err
	}
	if w.jobs.due() {
		if err := w.jobs.Look(ctx, client); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return river.JobSnooze(0)
}

func (w *laneWorker) watch(ctx context.Context, client *river.Client[pgx.Tx], run string) error {
	active, err := w.jobs.look(ctx, client)
	switch {
	case ctx.Err() != nil:
		return river.JobSnooze(0)
	case err != nil:
		return err
	case slices.ContainsFunc(active, func(r rotation.Run) bool { return r.ID == run }):
		return river.JobSnooze(w.jobs.often())
	}
	return nil
}

type reconcileArgs struct{}

func (reconcileArgs) Kind() string { return "rowseal_rotation_reconcile" }

type reconcileWorker struct {
	river.WorkerDefaults[reconcileArgs]
	jobs *Jobs
}

func (w *reconcileWorker) Work(ctx context.Context, _ *river.Job[reconcileArgs]) error {
	client, err := river.ClientFromContextSafely[pgx.Tx](ctx)
	if err != nil {
		return err
	}
	return w.jobs.Look(ctx, client)
}
