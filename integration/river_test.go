package integration

// river_test.go owns runs on River: several processes that are killed again and again, lanes that are unique and replaced, and runs begun in a transaction.

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/rotation"
	"github.com/rowseal/rowseal/rotation/riverjob"
)

// dsn of the database, for programs of their own.
func (w *world) dsn(t testing.TB) (dsn string) {
	t.Helper()
	conn, err := w.plain.Conn(t.Context())
	ok(t, err)
	defer conn.Close()
	ok(t, conn.Raw(func(c any) error {
		dsn = c.(*stdlib.Conn).Conn().Config().ConnString()
		return nil
	}))
	return dsn
}

// queue is River beside a table that is to be rotated.
type queue struct {
	*rotating
	pool *pgxpool.Pool
	dsn  string
}

func newQueue(t *testing.T, rows int) *queue {
	t.Helper()
	q := &queue{rotating: filled(t, postgres, rows)}
	q.dsn = q.w.dsn(t)
	var err error
	q.pool, err = pgxpool.New(t.Context(), q.dsn)
	ok(t, err)
	t.Cleanup(q.pool.Close)
	migrator, err := rivermigrate.New(riverpgxv5.New(q.pool), nil)
	ok(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	ok(t, err)
	return q
}

// client has the jobs of a Rotator registered. It works once it is started.
func riverClient(t testing.TB, pool *pgxpool.Pool, jobs *riverjob.Jobs) *river.Client[pgx.Tx] {
	t.Helper()
	workers := river.NewWorkers()
	ok(t, jobs.AddWorkers(workers))
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Workers: workers, PeriodicJobs: []*river.PeriodicJob{jobs.Reconcile()}, Logger: slog.New(slog.DiscardHandler),
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 4}}, FetchPollInterval: 100 * time.Millisecond, FetchCooldown: 20 * time.Millisecond,
	})
	ok(t, err)
	return client
}

func (q *queue) jobs(t *testing.T, db *gorm.DB, cfg rotation.Config, spread riverjob.Config) (*rotation.Rotator, *riverjob.Jobs, *river.Client[pgx.Tx]) {
	t.Helper()
	ro := newRotator(t, db, cfg, &RotText{})
	jobs, err := riverjob.New(ro, spread)
	ok(t, err)
	return ro, jobs, riverClient(t, q.pool, jobs)
}

func (q *queue) start(t *testing.T, client *river.Client[pgx.Tx]) {
	t.Helper()
	ok(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		ok(t, client.StopAndCancel(ctx))
	})
}

// lanes gives the lanes of a run that River has something to do for, as "lane.generation".
func (q *queue) lanes(t *testing.T) (all []string) {
	t.Helper()
	rows, err := q.pool.Query(t.Context(), `SELECT concat(args ->> 'lane', '.', args ->> 'generation') FROM river_job
		WHERE kind = 'rowseal_rotation_lane' AND finalized_at IS NULL AND NOT metadata ? 'cancel_attempted_at' ORDER BY 1`)
	ok(t, err)
	all, err = pgx.CollectRows(rows, pgx.RowTo[string])
	ok(t, err)
	return all
}

func (q *queue) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := q.pool.Exec(t.Context(), query, args...)
	ok(t, err)
}

func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 400 {
		if holds() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(what)
}

func TestRiverLanesAreUniqueAndReplaced(t *testing.T) {
	q := newQueue(t, 200)
	_, jobs, client := q.jobs(t, q.at(t, 2), rotation.Config{}, riverjob.Config{Lanes: 3})
	run, err := jobs.Start(t.Context(), client, &RotText{})
	ok(t, err)
	var looks sync.WaitGroup
	for range 8 {
		looks.Go(func() { ok(t, jobs.Look(t.Context(), client)) })
	}
	again, err := jobs.Start(t.Context(), client, &RotText{})
	ok(t, err)
	looks.Wait()
	if got := strings.Join(q.lanes(t), " "); got != "0.0 1.0 2.0 3.0" || again.ID != run.ID {
		t.Errorf("lanes %s, runs %s and %s", got, run.ID, again.ID)
	}
	// Two of the workers were killed, one lately; a lane was cancelled by hand.
	q.exec(t, `UPDATE river_job SET state = 'running', attempted_at = now() - interval '41 seconds' WHERE args ->> 'lane' = '1'`)
	q.exec(t, `UPDATE river_job SET state = 'running', attempted_at = now() - interval '39 seconds' WHERE args ->> 'lane' = '2'`)
	q.exec(t, `UPDATE river_job SET state = 'cancelled', finalized_at = now() WHERE args ->> 'lane' = '3'`)
	for range 2 {
		ok(t, jobs.Look(t.Context(), client))
		if got := strings.Join(q.lanes(t), " "); got != "0.0 1.1 2.0 3.0" {
			t.Errorf("lanes %s", got)
		}
	}
	// Its replacement is lost as well.
	q.exec(t, `UPDATE river_job SET state = 'running', attempted_at = now() - interval '41 seconds' WHERE args ->> 'lane' = '1'`)
	ok(t, jobs.Look(t.Context(), client))
	if got := strings.Join(q.lanes(t), " "); got != "0.0 1.2 2.0 3.0" {
		t.Errorf("lanes %s", got)
	}
	q.start(t, client)
	report := ends(t, q.w.db, run.ID)
	addsUp(t, report)
	if report.Rewrapped != 200 || q.opened(t) != 200 {
		t.Errorf("%+v", report)
	}
}

func TestRiverStartsInATransaction(t *testing.T) {
	q := newQueue(t, 200)
	db := q.at(t, 2)
	ro, _, client := q.jobs(t, db, rotation.Config{}, riverjob.Config{Interval: time.Second})
	q.start(t, client)
	undo := errors.New("undo")
	err := db.Transaction(func(tx *gorm.DB) error {
		_, err := ro.StartTx(t.Context(), tx, &RotText{})
		ok(t, err)
		return undo
	})
	if !errors.Is(err, undo) {
		t.Fatal(err)
	}
	looks := func() (n int) {
		ok(t, q.pool.QueryRow(t.Context(), "SELECT count(*) FROM river_job WHERE kind = 'rowseal_rotation_reconcile' AND state = 'completed'").Scan(&n))
		return n
	}
	since := looks()
	soon(t, "nobody reconciles", func() bool { return looks() > since+1 })
	runs, err := rotation.Runs(t.Context(), db)
	ok(t, err)
	if len(runs) != 0 || len(q.lanes(t)) != 0 {
		t.Fatalf("a run that was rolled back: %v, lanes %v", runs, q.lanes(t))
	}
	var run rotation.Run
	ok(t, db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec("CREATE TABLE beside (n int)").Error; err != nil {
			return err
		}
		run, err = ro.StartTx(t.Context(), tx, &RotText{})
		return err
	}))
	report := ends(t, db, run.ID)
	addsUp(t, report)
	if report.State != "done" || report.Rewrapped != 200 || q.opened(t) != 200 {
		t.Errorf("%+v", report)
	}
	soon(t, "lanes outlive their run", func() bool { return len(q.lanes(t)) == 0 })
}

func TestRiverPausesAndResumes(t *testing.T) {
	q := newQueue(t, 1500)
	db := q.at(t, 2)
	_, jobs, client := q.jobs(t, db, rotation.Config{MaxPage: 50, Rate: 500}, riverjob.Config{Lanes: 2, Budget: time.Second, Interval: time.Second})
	q.start(t, client)
	// A machine that is not rolled over yet takes part in the queue.
	_, _, before := q.jobs(t, q.at(t, 1), rotation.Config{}, riverjob.Config{Lanes: 2, Budget: time.Second, Interval: time.Second})
	q.start(t, before)
	run, err := jobs.Start(t.Context(), client, &RotText{})
	ok(t, err)
	seen := func() int64 {
		report, err := rotation.ReportOf(t.Context(), db, run.ID)
		ok(t, err)
		return report.Seen
	}
	soon(t, "nothing happens", func() bool { return seen() > 0 })
	ok(t, rotation.Pause(t.Context(), db, run.ID, "lunch"))
	soon(t, "lanes outlive a pause", func() bool { return len(q.lanes(t)) == 0 })
	at := seen()
	time.Sleep(1500 * time.Millisecond) // longer than an interval
	if len(q.lanes(t)) != 0 || seen() != at || at == 1500 {
		t.Errorf("paused: lanes %v, %d seen and then %d", q.lanes(t), at, seen())
	}
	ok(t, rotation.Resume(t.Context(), db, run.ID))
	soon(t, "no lane comes back", func() bool { return len(q.lanes(t)) > 0 })
	report := ends(t, db, run.ID)
	addsUp(t, report)
	if report.State != "done" || report.Rewrapped != 1500 || q.opened(t) != 1500 {
		t.Errorf("%+v", report)
	}
}

// The bounds of the test with processes that are killed.
const (
	diesLease  = 2 * time.Second
	diesBudget = time.Second
	diesGrace  = 3 * time.Second
	diesLook   = time.Second
)

// TestRiverWorker is a process of the next test: it works until it is killed.
func TestRiverWorker(t *testing.T) {
	dsn, file := os.Getenv("RIVER_TEST_DSN"), os.Getenv("RIVER_TEST_KEY")
	if dsn == "" {
		return // not such a process
	}
	next, err := localkey.FromFile(file)
	ok(t, err)
	old, slow := kmskeytest.NewCounter(localkey.NewInsecure()), kmskeytest.NewCounter(next)
	slow.Before = func(ctx context.Context, _ kmskeytest.Call) error {
		time.Sleep(12 * time.Millisecond)
		return nil
	}
	keys, err := kmskey.New(kmskey.Config{Current: 2, Namespace: "rotating", Versions: map[int]kmskey.Version{1: {Provider: old.Provider()}, 2: {Provider: slow.Provider()}}})
	ok(t, err)
	pool, err := pgxpool.New(t.Context(), dsn)
	ok(t, err)
	db, err := gorm.Open(dialector(postgres, stdlib.OpenDBFromPool(pool)), &gorm.Config{})
	ok(t, err)
	ro, err := rotation.New(db, rotation.Config{Keys: keys, Calls: 16, MaxPage: 200, Lease: diesLease}, &RotText{})
	ok(t, err)
	jobs, err := riverjob.New(ro, riverjob.Config{Lanes: 4, Budget: diesBudget, Grace: diesGrace, Interval: diesLook})
	ok(t, err)
	ok(t, riverClient(t, pool, jobs).Start(t.Context()))
	select {}
}

func TestRiverProcessesAreKilled(t *testing.T) {
	const rows, most = 40_000, 10 * time.Minute
	q := newQueue(t, rows)
	db := q.at(t, 2)
	_, jobs, client := q.jobs(t, db, rotation.Config{Lease: diesLease}, riverjob.Config{Lanes: 4, Budget: diesBudget, Grace: diesGrace, Interval: diesLook})
	run, err := jobs.Start(t.Context(), client, &RotText{})
	ok(t, err)
	began := time.Now()
	// Whenever a range is taken that nobody had before: how long another lay free that somebody had lost.
	q.exec(t, `CREATE TABLE passed_over (ms bigint)`)
	q.exec(t, `CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO passed_over SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) - lease_ms FROM rowseal_ranges
			WHERE run_id = NEW.run_id AND n <> NEW.n AND n >= 0 AND done = 0 AND lease_ms > 0 AND lease_ms < extract(epoch FROM clock_timestamp()) * 1000;
		RETURN NEW; END $$`)
	q.exec(t, `CREATE TRIGGER passes BEFORE UPDATE OF fence ON rowseal_ranges FOR EACH ROW WHEN (OLD.lease_ms = 0 AND NEW.fence > OLD.fence) EXECUTE FUNCTION passes()`)

	var output lockedBuffer
	spawn := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRiverWorker$", "-test.timeout=10m")
		cmd.Env = append(os.Environ(), "RIVER_TEST_DSN="+q.dsn, "RIVER_TEST_KEY="+q.file)
		cmd.Stdout, cmd.Stderr = &output, &output
		ok(t, cmd.Start())
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	workers := make([]*exec.Cmd, 3)
	for i := range workers {
		workers[i] = spawn()
	}
	defer func() {
		for _, cmd := range workers {
			kill(cmd)
		}
	}()

	// How long ranges lay there that a killed process had held, and how long the lease of any other still is.
	const lapsed = `SELECT COALESCE(MAX(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) - lease_ms), 0), COALESCE(MAX(lease_ms - CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)), 0)
		FROM rowseal_ranges WHERE run_id = $1 AND done = 0 AND lease_ms > 0`
	// How long a lane that was to be replaced was not.
	const overdue = `SELECT COALESCE(MAX(extract(epoch FROM clock_timestamp() - attempted_at) * 1000 - $1), 0)::bigint FROM river_job
		WHERE kind = 'rowseal_rotation_lane' AND state = 'running' AND NOT metadata ? 'cancel_attempted_at'`
	var longest, furthest, latest int64
	var idle, nobody time.Duration // in which no lane held anything
	kills, busiest := 0, 0
	last := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	next := time.Now().Add(2 * time.Second)
	for {
		<-tick.C
		var ms, ahead int64
		ok(t, q.pool.QueryRow(t.Context(), lapsed, run.ID).Scan(&ms, &ahead))
		longest, furthest = max(longest, ms), max(furthest, ahead)
		var held int
		ok(t, q.pool.QueryRow(t.Context(), `SELECT count(*) FROM rowseal_ranges WHERE run_id = $1 AND done = 0 AND lease_ms > extract(epoch FROM clock_timestamp()) * 1000`, run.ID).Scan(&held))
		busiest = max(busiest, held)
		if idle += time.Since(last); held > 0 {
			idle = 0
		}
		nobody, last = max(nobody, idle), time.Now()
		ok(t, q.pool.QueryRow(t.Context(), overdue, (diesBudget+diesGrace).Milliseconds()).Scan(&ms))
		latest = max(latest, ms)
		var state string
		if err := q.pool.QueryRow(t.Context(), `SELECT state FROM rowseal_runs WHERE id = $1`, run.ID).Scan(&state); err != nil && !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
		if state != "running" {
			break
		}
		if time.Since(began) > most {
			t.Fatalf("no end; %d kills, lanes %v\n%s", kills, q.lanes(t), output.String())
		}
		if time.Now().After(next) && kills < 30 {
			next = time.Now().Add(2 * time.Second)
			i := kills % len(workers)
			kill(workers[i])
			workers[i] = spawn()
			kills++
		}
	}
	took := time.Since(began)
	report := ends(t, db, run.ID)
	addsUp(t, report)
	if report.State != "done" || report.Seen != rows || report.Rewrapped != rows || report.Failed != 0 || report.Calls != 2*rows || report.Exposed != rows {
		t.Errorf("%+v", report)
	}
	if n := q.opened(t); n != rows {
		t.Errorf("%d rows open under the new version", n)
	}
	// A range that was lost is stuck where its lease reaches too far, or where lanes take other work although it is free. How long all lanes were dead is
	// River's matter and this machine's, and only told.
	if time.Duration(furthest)*time.Millisecond > diesLease {
		t.Errorf("a lease had %d ms to go, of %v", furthest, diesLease)
	}
	var passed int64
	ok(t, q.pool.QueryRow(t.Context(), `SELECT COALESCE(MAX(ms), 0) FROM passed_over`).Scan(&passed))
	if time.Duration(passed)*time.Millisecond > diesLease/2 { // more than what lies between a look and a claim, even where processes wait for a processor
		t.Errorf("a lane took other work while a range had been free for %d ms", passed)
	}
	if kills < 3 {
		t.Errorf("%d kills: the run is too short to say anything", kills)
	}
	var lanes, replaced int
	ok(t, q.pool.QueryRow(t.Context(), `SELECT count(*), count(*) FILTER (WHERE metadata ? 'cancel_attempted_at') FROM river_job WHERE kind = 'rowseal_rotation_lane'`).Scan(&lanes, &replaced))
	var claims int
	ok(t, q.pool.QueryRow(t.Context(), `SELECT sum(fence) FROM rowseal_ranges WHERE run_id = $1`, run.ID).Scan(&claims))
	t.Logf("%d rows in %v, %d kills; %d lane jobs, %d of them replaced; %d claims; at most %d ranges at once; a range lay at most %d ms after its lease, and was passed over for at most %d; a lane was overdue for at most %d ms, and nobody was at work for at most %v", rows, took.Round(time.Millisecond), kills, lanes, replaced, claims, busiest, longest, passed, latest, nobody.Round(time.Millisecond))
}
