package integration

// background_test.go owns runs that nobody waits for, by the engine inside a process.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/rotation"
)

// filled is a table of RotText under version 1.
func filled(t *testing.T, kind string, rows int) *rotating {
	t.Helper()
	r := newRotating(t, kind, &RotText{})
	var all []RotText
	for i := range rows {
		all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: fmt.Sprint(i)})
	}
	ok(t, r.w.db.CreateInBatches(&all, 500).Error)
	return r
}

// opened counts the rows that open under the new version alone.
func (r *rotating) opened(t *testing.T) int {
	t.Helper()
	var got []RotText
	if err := r.only(t).Order("code").Find(&got).Error; err != nil {
		return 0
	}
	for i, row := range got {
		if row.Code != fmt.Sprintf("c%05d", i) || row.Name != fmt.Sprint(i) {
			t.Fatalf("row %d: %+v", i, row)
		}
	}
	return len(got)
}

// background has an engine at work until the test ends, or stop is called.
func background(t *testing.T, r *rotation.Rotator) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if !stopped.Swap(true) {
			cancel()
			ok(t, <-done)
		}
	}
	t.Cleanup(stop)
	return stop
}

// ends waits until a run has ended.
func ends(t *testing.T, db *gorm.DB, id string) *rotation.Report {
	t.Helper()
	for range 600 {
		report, err := rotation.ReportOf(t.Context(), db, id)
		ok(t, err)
		if !report.Ended.IsZero() && (report.After != nil || report.State != "done") {
			return report
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the run does not end")
	return nil
}

func newRotator(t *testing.T, db *gorm.DB, cfg rotation.Config, models ...any) *rotation.Rotator {
	t.Helper()
	r, err := rotation.New(db, cfg, models...)
	ok(t, err)
	return r
}

func TestBackgroundGoesOnWhereItWasStopped(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const rows = 900
		r := filled(t, kind, rows)
		half := make(chan struct{})
		var wraps atomic.Int64
		r.new.Before = func(ctx context.Context, c kmskeytest.Call) error {
			if wraps.Add(1) == rows/2 {
				close(half)
			}
			time.Sleep(time.Millisecond)
			return nil
		}
		cfg := rotation.Config{MaxPage: 50, Calls: 8, Lanes: 2}
		first := newRotator(t, r.at(t, 2), cfg, &RotText{})
		stop := background(t, first)
		run, err := first.Start(t.Context(), &RotText{})
		ok(t, err)
		<-half
		stop()
		before, err := rotation.ReportOf(t.Context(), r.w.db, run.ID)
		ok(t, err)
		addsUp(t, before)
		if before.State != "running" || before.Rewrapped == 0 || before.Rewrapped == rows {
			t.Fatalf("%+v", before)
		}
		// A program with the old version as its current one leaves it alone; another process finds it when it starts.
		background(t, newRotator(t, r.at(t, 1), cfg, &RotText{}))
		background(t, newRotator(t, r.at(t, 2), cfg, &RotText{}))
		report := ends(t, r.w.db, run.ID)
		addsUp(t, report)
		if report.State != "done" || report.Seen != rows || report.Rewrapped != rows || r.opened(t) != rows {
			t.Errorf("%+v", report)
		}
	})
}

func TestBackgroundStartsInATransaction(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const rows = 120
		r := filled(t, kind, rows)
		db := r.at(t, 2)
		ro := newRotator(t, db, rotation.Config{}, &RotText{})
		background(t, ro)
		undo := errors.New("undo")
		calls := r.old.Calls() + r.new.Calls()
		err := db.Transaction(func(tx *gorm.DB) error {
			_, err := ro.StartTx(t.Context(), tx, &RotText{})
			ok(t, err)
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
		runs, err := rotation.Runs(t.Context(), db)
		ok(t, err)
		if len(runs) != 0 || r.old.Calls()+r.new.Calls() != calls {
			t.Fatalf("%v, %d calls", runs, r.old.Calls()+r.new.Calls()-calls)
		}
		var run rotation.Run
		ok(t, db.Transaction(func(tx *gorm.DB) error {
			var err error
			if run, err = ro.StartTx(t.Context(), tx, &RotText{}); err != nil {
				return err
			}
			again, err := ro.StartTx(t.Context(), tx, &RotText{}) // the same, and the transaction goes on
			if again.ID != run.ID {
				t.Errorf("%v and %v", run, again)
			}
			if r.old.Calls()+r.new.Calls() != calls {
				t.Error("a key service was asked in the transaction")
			}
			return err
		}))
		report := ends(t, db, run.ID)
		addsUp(t, report)
		if report.State != "done" || report.Rewrapped != rows || len(report.Before) != 1 || report.Before[0].Rows != rows || r.opened(t) != rows {
			t.Errorf("%+v", report)
		}
		if _, err := ro.StartTx(t.Context(), db, &RotText{}); err == nil || !strings.Contains(err.Error(), "no transaction") {
			t.Error(err)
		}
		type Other struct{ ID int }
		if _, err := ro.Start(t.Context(), &Other{}); err == nil {
			t.Error("another model")
		}

		// What Start would refuse ends the run, with the reason.
		ok(t, r.w.db.Create(&RotText{Code: "late", Name: "late"}).Error) // under version 1
		r.old.Before = func(context.Context, kmskeytest.Call) error { return kmskey.ErrDisabled }
		r.new.Before = r.old.Before
		_, err = newRotator(t, r.at(t, 1), rotation.Config{}, &RotText{}).Start(t.Context(), &RotText{})
		fails(t, err, kmskey.ErrDisabled, "before the first row")
		ok(t, db.Transaction(func(tx *gorm.DB) (err error) {
			run, err = ro.StartTx(t.Context(), tx, &RotText{})
			return err
		}))
		if report = ends(t, db, run.ID); report.State != "failed" || !strings.Contains(report.Reason, "before the first row") || report.Seen != 0 {
			t.Errorf("%+v", report)
		}
	})
}

func TestBackgroundPauses(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		const rows = 600
		r := filled(t, kind, rows)
		db := r.at(t, 2)
		ro := newRotator(t, db, rotation.Config{MaxPage: 50, Rate: 500}, &RotText{})
		run, err := ro.Start(t.Context(), &RotText{})
		ok(t, err)
		more, err := ro.Lane(t.Context(), run.ID, 200*time.Millisecond)
		if !more || err != nil {
			t.Fatal(more, err)
		}
		ok(t, rotation.Pause(t.Context(), db, run.ID, "lunch"))
		if more, err := ro.Lane(t.Context(), run.ID, time.Second); more || err != nil {
			t.Fatal(more, err)
		}
		if active, err := ro.Active(t.Context()); err != nil || len(active) != 0 {
			t.Fatal(active, err)
		}
		if _, err := ro.Start(t.Context(), &RotText{}); !errors.Is(err, rotation.ErrPaused) {
			t.Error(err)
		}
		ok(t, rotation.Resume(t.Context(), db, run.ID))
		if more, err := newRotator(t, r.at(t, 1), rotation.Config{}, &RotText{}).Lane(t.Context(), run.ID, time.Second); !more || !errors.Is(err, rotation.ErrElsewhere) {
			t.Error(more, err)
		}
		for more = true; more; {
			more, err = ro.Lane(t.Context(), run.ID, 300*time.Millisecond)
			ok(t, err)
		}
		report, err := rotation.ReportOf(t.Context(), db, run.ID)
		ok(t, err)
		addsUp(t, report)
		if report.State != "done" || report.Rewrapped != rows || r.opened(t) != rows {
			t.Errorf("%+v", report)
		}
	}, postgres, sqliteGo)
}

// TestBackgroundFitsIntoItsTime: a lane that is ended before its first page is done makes smaller ones.
func TestBackgroundFitsIntoItsTime(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		const rows = 300
		r := filled(t, kind, rows)
		ro := newRotator(t, r.at(t, 2), rotation.Config{Rate: 200, Lease: 300 * time.Millisecond}, &RotText{}) // a page of 200 takes a second
		run, err := ro.Start(t.Context(), &RotText{})
		ok(t, err)
		cut := 0
		for more := true; more; {
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond+time.Duration(cut)*20*time.Millisecond) // a slow machine comes to an end too
			more, err = ro.Lane(ctx, run.ID, 100*time.Millisecond)
			if ctx.Err() != nil {
				cut++
			} else {
				ok(t, err)
			}
			cancel()
			if cut > 50 {
				t.Fatal("no end")
			}
		}
		report, err := rotation.ReportOf(t.Context(), r.w.db, run.ID)
		ok(t, err)
		addsUp(t, report)
		if report.State != "done" || report.Rewrapped != rows || r.opened(t) != rows || cut == 0 {
			t.Errorf("%+v, cut short %d times", report, cut)
		}
	}, postgres, sqliteGo)
}

// TestBackgroundKeepsToItsBudget: also where lanes have a second.
func TestBackgroundKeepsToItsBudget(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := filled(t, kind, 400)
		ro := newRotator(t, r.at(t, 2), rotation.Config{Budget: 5, MaxPage: 20, Rate: 100}, &RotText{})
		run, err := ro.Start(t.Context(), &RotText{})
		ok(t, err)
		r.old.Before = func(context.Context, kmskeytest.Call) error { return kmskey.ErrDenied }
		for more := true; more; {
			more, err = ro.Lane(t.Context(), run.ID, 400*time.Millisecond)
			ok(t, err)
		}
		report, err := rotation.ReportOf(t.Context(), r.w.db, run.ID)
		ok(t, err)
		addsUp(t, report)
		if report.State != "failed" || !strings.Contains(report.Reason, "budget of 5") || report.Seen == 400 {
			t.Errorf("%+v", report)
		}
	}, postgres, sqliteGo)
}

// TestBackgroundStartsOnce: two transactions at once begin one run, and both go on.
func TestBackgroundStartsOnce(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := filled(t, kind, 10)
		db := r.at(t, 2)
		ro := newRotator(t, db, rotation.Config{}, &RotText{})
		ok(t, db.Exec("CREATE TABLE beside (n int)").Error)
		for _, commits := range []bool{false, true} {
			first := db.Begin()
			run, err := ro.StartTx(t.Context(), first, &RotText{})
			ok(t, err)
			type begun struct {
				run rotation.Run
				err error
			}
			second := make(chan begun, 1)
			go func() {
				var b begun
				b.err = db.Transaction(func(tx *gorm.DB) (err error) {
					var n int
					if err = tx.Raw("SELECT count(*) FROM rowseal_runs").Scan(&n).Error; err != nil { // takes a snapshot, where there is one
						return err
					}
					if b.run, err = ro.StartTx(t.Context(), tx, &RotText{}); err != nil {
						return err
					}
					return tx.Exec("INSERT INTO beside VALUES (1)").Error
				})
				second <- b
			}()
			select {
			case b := <-second:
				t.Fatalf("it did not wait: %+v", b)
			case <-time.After(300 * time.Millisecond):
			}
			if commits {
				ok(t, first.Commit().Error)
			} else {
				ok(t, first.Rollback().Error)
			}
			b := <-second
			ok(t, b.err)
			if (b.run.ID == run.ID) != commits {
				t.Errorf("the first commits: %t; runs %s and %s", commits, run.ID, b.run.ID)
			}
			ok(t, rotation.Cancel(t.Context(), db, b.run.ID, "the next case"))
		}
		var n int64
		ok(t, db.Table("beside").Count(&n).Error)
		if n != 2 {
			t.Errorf("%d rows beside", n)
		}
	}, postgres, mariadb, mysqlLike)
}

func TestBackgroundGoesOnWhenResumed(t *testing.T) {
	r := filled(t, sqliteGo, 400)
	db := r.at(t, 2)
	ro := newRotator(t, db, rotation.Config{Rate: 400, MaxPage: 40}, &RotText{})
	background(t, ro)
	run, err := ro.Start(t.Context(), &RotText{})
	ok(t, err)
	soon(t, "nothing happens", func() bool {
		report, err := rotation.ReportOf(t.Context(), db, run.ID)
		ok(t, err)
		return report.Seen > 0
	})
	ok(t, rotation.Pause(t.Context(), db, run.ID, "lunch"))
	ok(t, rotation.Resume(t.Context(), db, run.ID))
	report := ends(t, db, run.ID)
	addsUp(t, report)
	if report.State != "done" || report.Rewrapped != 400 || r.opened(t) != 400 {
		t.Errorf("%+v", report)
	}
}

// TestBackgroundReportOfARunWhoseEndWasKilled: the process that ended it was killed before it stored the report.
func TestBackgroundReportOfARunWhoseEndWasKilled(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := filled(t, kind, 30)
		whole, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		r.w.tamper(t, "UPDATE rowseal_runs SET report = NULL WHERE id = ?", whole.Run)
		report, err := rotation.ReportOf(t.Context(), r.w.db, whole.Run)
		ok(t, err)
		if len(report.After) != 1 || report.After[0].Version != 2 || report.After[0].Rows != 30 || report.Rewrapped != 30 {
			t.Errorf("%+v", report)
		}
	})
}
