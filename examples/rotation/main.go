// Command rotation moves a table to another key in the background, is interrupted and goes on. It needs no set-up: the database is SQLite in a
// temporary folder, and the engine is in this process. With a Postgres database it does the same again on River, with two workers.
//
//	go run ./examples/rotation
//	DATABASE_URL=postgres://user:password@localhost/app go run ./examples/rotation
//
// In Postgres everything happens in a schema of its own, which is dropped at the end.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
	"github.com/rowseal/rowseal/rotation/riverjob"
)

type Patient struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Release is a table of the application's own.
type Release struct {
	ID   uint64
	Name string
}

const rows = 2000

// settings leave the rotation time to be interrupted.
var settings = rotation.Config{Rate: 2000, MaxPage: 100, Owner: "example"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Getenv("DATABASE_URL"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rotation:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, url string) error {
	dir, err := os.MkdirTemp("", "rowseal-rotation-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e := &example{out: out}
	for _, name := range []string{"old", "new"} {
		key, err := localkey.Generate(filepath.Join(dir, name+".key"))
		if err != nil {
			return err
		}
		e.keys = append(e.keys, key)
	}
	if err := e.inProcess(ctx, filepath.Join(dir, "clinic.db")); err != nil {
		return err
	}
	if url == "" {
		e.say("\nSet DATABASE_URL to a Postgres database to see the same on River, with two workers.")
		return nil
	}
	return e.onRiver(ctx, url)
}

type example struct {
	out  io.Writer
	keys []kmskey.Provider
}

func (e *example) say(format string, args ...any) { fmt.Fprintf(e.out, format+"\n", args...) }

// program is one of the application, whose new rows go under a version.
func (e *example) program(dialector gorm.Dialector, current int) (*gorm.DB, error) {
	keys, err := kmskey.New(kmskey.Config{
		Current: current, Namespace: "clinic/rotation",
		Versions: map[int]kmskey.Version{1: {Provider: e.keys[0]}, 2: {Provider: e.keys[1]}},
	})
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

// fill makes the tables, and rows under version 1.
func (e *example) fill(ctx context.Context, db *gorm.DB) error {
	if err := db.AutoMigrate(&Patient{}, &Release{}); err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, db); err != nil { // the ledger of runs
		return err
	}
	patients := make([]Patient, rows)
	for i := range patients {
		patients[i].Name = fmt.Sprintf("Patient %d", i+1)
	}
	if err := db.WithContext(ctx).CreateInBatches(&patients, 500).Error; err != nil {
		return err
	}
	e.say("1. %d rows under version 1 of the keyring", rows)
	return nil
}

// begin writes the run down in a transaction of the application's.
func (e *example) begin(ctx context.Context, db *gorm.DB, rotator *rotation.Rotator) (run rotation.Run, err error) {
	err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&Release{Name: "keys of December"}).Error; err != nil {
			return err
		}
		run, err = rotator.StartTx(ctx, tx, &Patient{})
		return err
	})
	if err == nil {
		e.say("2. A run to version 2 begins with a row of the application's, in one transaction")
	}
	return run, err
}

// await asks for the report until it says what is waited for.
func await(ctx context.Context, db *gorm.DB, id string, holds func(*rotation.Report) bool) (*rotation.Report, error) {
	for {
		report, err := rotation.ReportOf(ctx, db, id)
		if err != nil || holds(report) {
			return report, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func third(r *rotation.Report) bool { return r.Seen >= rows/3 }
func ended(r *rotation.Report) bool {
	return r.State == "done" && r.After != nil || r.State == "failed"
}

func (e *example) end(ctx context.Context, db *gorm.DB, report *rotation.Report) error {
	var b strings.Builder
	if err := report.WriteTable(&b); err != nil {
		return err
	}
	e.say("   %s", strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", "\n   "))
	var last Patient
	if err := db.WithContext(ctx).Last(&last).Error; err != nil {
		return err
	}
	e.say("   read again: %q, under %s…", last.Name, last.EncryptedKMSKey.Envelope()[:3])
	return nil
}

func (e *example) inProcess(ctx context.Context, file string) (err error) {
	e.say("In this process, on SQLite\n")
	dialector := sqlite.Open("file:" + file + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_txlock=immediate")
	old, err := e.program(dialector, 1)
	if err != nil {
		return err
	}
	defer closeDB(old, &err)
	if err := e.fill(ctx, old); err != nil {
		return err
	}

	first, err := e.program(dialector, 2)
	if err != nil {
		return err
	}
	defer closeDB(first, &err)
	rotator, err := rotation.New(first, settings, &Patient{})
	if err != nil {
		return err
	}
	run, err := e.begin(ctx, first, rotator)
	if err != nil {
		return err
	}
	stop := background(ctx, rotator) // in a service: for as long as it lives
	_, err = await(ctx, first, run.ID, third)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	report, err := rotation.ReportOf(ctx, first, run.ID)
	if err != nil {
		return err
	}
	e.say("3. The process stops: %d of %d keys are moved, and the run is %s", report.Rewrapped, rows, report.State)

	second, err := e.program(dialector, 2)
	if err != nil {
		return err
	}
	defer closeDB(second, &err)
	if rotator, err = rotation.New(second, settings, &Patient{}); err != nil {
		return err
	}
	e.say("4. The next process finds the run when it starts, and goes on there")
	stop = background(ctx, rotator)
	report, err = await(ctx, second, run.ID, ended)
	if err = errors.Join(err, stop()); err != nil {
		return err
	}
	return e.end(ctx, second, report)
}

// background has the engine at work until stop is called.
func background(ctx context.Context, rotator *rotation.Rotator) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- rotator.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func closeDB(db *gorm.DB, err *error) {
	pool, perr := db.DB()
	if perr == nil {
		perr = pool.Close()
	}
	*err = errors.Join(*err, perr)
}

func (e *example) onRiver(ctx context.Context, url string) (err error) {
	e.say("\nOn River, in Postgres\n")
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err) // pgx leaves the password out
	}
	schema := "rowseal_example_" + strings.ToLower(rand.Text())
	admin, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer func() {
		// Also after an interrupt: the schema is ours and must not stay.
		_, derr := admin.Exec(context.WithoutCancel(ctx), "DROP SCHEMA "+schema+" CASCADE")
		err = errors.Join(err, derr, admin.Close(context.WithoutCancel(ctx)))
	}()
	if _, err := admin.Exec(ctx, "CREATE SCHEMA "+schema); err != nil {
		return err
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = schema
	pool, err := pgxpool.NewWithConfig(ctx, cfg) // one for both
	if err != nil {
		return err
	}
	defer pool.Close()
	dialector := postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)})
	old, err := e.program(dialector, 1)
	if err != nil {
		return err
	}
	if err := e.fill(ctx, old); err != nil {
		return err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}

	db, err := e.program(dialector, 2)
	if err != nil {
		return err
	}
	worker := func() (*rotation.Rotator, *riverjob.Jobs, *river.Client[pgx.Tx], error) {
		rotator, err := rotation.New(db, settings, &Patient{})
		if err != nil {
			return nil, nil, nil, err
		}
		jobs, err := riverjob.New(rotator, riverjob.Config{})
		if err != nil {
			return nil, nil, nil, err
		}
		workers := river.NewWorkers() // yours are here too
		if err := jobs.AddWorkers(workers); err != nil {
			return nil, nil, nil, err
		}
		client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
			Workers:      workers,
			PeriodicJobs: []*river.PeriodicJob{jobs.Reconcile()},
			Queues:       map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
			Logger:       slog.New(slog.DiscardHandler),
		})
		return rotator, jobs, client, err
	}
	rotator, jobs, first, err := worker()
	if err != nil {
		return err
	}
	_, _, second, err := worker()
	if err != nil {
		return err
	}
	run, err := e.begin(ctx, db, rotator)
	if err != nil {
		return err
	}
	if err := first.Start(ctx); err != nil {
		return err
	}
	if err := jobs.Look(ctx, first); err != nil { // or wait for the next Reconcile
		return errors.Join(err, first.StopAndCancel(context.WithoutCancel(ctx)))
	}
	_, err = await(ctx, db, run.ID, third)
	if err = errors.Join(err, first.StopAndCancel(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	report, err := rotation.ReportOf(ctx, db, run.ID)
	if err != nil {
		return err
	}
	e.say("3. A worker stops: %d of %d keys are moved, and the run is %s", report.Rewrapped, rows, report.State)
	if err := second.Start(ctx); err != nil {
		return err
	}
	e.say("4. The next worker takes the lanes over")
	report, err = await(ctx, db, run.ID, ended)
	if err = errors.Join(err, second.StopAndCancel(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return e.end(ctx, db, report)
}
