package integration

// attack_rotation4_test.go owns rotations beside others: under strict isolation, beside themselves, and with writers that swap rows.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/rotation"
)

// TestAttackRotationStrictIsolation: the database's own default is stricter than READ COMMITTED, and writers and several lanes are at it.
func TestAttackRotationStrictIsolation(t *testing.T) {
	for _, level := range []string{"serializable", "repeatable read"} {
		t.Run(level, func(t *testing.T) {
			on(t, func(t *testing.T, kind string) {
				r := newRotating(t, kind, &RotDoc{})
				var docs []RotDoc
				for i := range 1200 {
					docs = append(docs, RotDoc{Ward: "w", Name: fmt.Sprint(i), Phone: new("p")})
				}
				ok(t, r.w.db.CreateInBatches(&docs, 400).Error)
				if kind == postgres {
					var name string
					ok(t, r.w.plain.QueryRow("SELECT current_database()").Scan(&name))
					r.w.tamper(t, fmt.Sprintf("ALTER DATABASE %q SET default_transaction_isolation = '%s'", name, level))
				} else {
					r.w.tamper(t, "SET GLOBAL innodb_snapshot_isolation = ON")
					defer r.w.tamper(t, "SET GLOBAL innodb_snapshot_isolation = OFF")
				}
				r.w.plain.SetMaxIdleConns(0) // new connections alone
				r.w.plain.SetMaxIdleConns(8)
				var stop atomic.Bool
				var writers, rotators sync.WaitGroup
				app := r.at(t, 1)
				for i := range 3 {
					writers.Go(func() {
						for n := i; !stop.Load(); n = (n + 37) % len(docs) {
							d := RotDoc{ID: docs[n].ID}
							if app.Take(&d).Error == nil {
								d.Phone = new(fmt.Sprint("p", n))
								_ = rowseal.Sealed(app).Omit("UpdatedAt").Model(&d).UpdateColumns(map[string]any{"phone": d.Phone}).Error
							}
							_, _ = r.w.plain.Exec(fmt.Sprintf("UPDATE rot_docs SET ward = 'x' WHERE id = %d OR id = %d", docs[(n+500)%len(docs)].ID, docs[n].ID))
						}
					})
				}
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				for range 2 {
					rotators.Go(func() {
						report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotDoc{}, rotation.Config{Lanes: 2, MaxPage: 100})
						var partial *rotation.PartialError
						if err != nil && !errors.As(err, &partial) {
							t.Errorf("%v", err)
							return
						}
						addsUp(t, report)
						if report.Seen != 2400 {
							t.Errorf("%d seen", report.Seen)
						}
					})
				}
				rotators.Wait()
				stop.Store(true)
				writers.Wait()
				report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotDoc{}, rotation.Config{})
				ok(t, err)
				addsUp(t, report)
				var got []RotDoc
				ok(t, r.only(t).Find(&got).Error)
				if len(got) != len(docs) {
					t.Errorf("%d rows", len(got))
				}
			}, postgres, mariadb)
		})
	}
}

// TestAttackRotationRowsComeAndGo: rows that are deleted, stored again under the same key, moved to another key and emptied while the page is at the service.
func TestAttackRotationRowsComeAndGo(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 150)
		app := r.at(t, 1)
		var once atomic.Bool
		code := func(i int) string { return fmt.Sprintf("c%05d", i) }
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") > 60 && once.CompareAndSwap(false, true) {
				for _, err := range []error{
					app.Delete(&RotText{Code: code(1)}).Error, // gone
					app.Delete(&RotText{Code: code(2)}).Error,
					app.Create(&RotText{Code: code(2), Name: "again"}).Error,
					app.Create(&RotText{Code: "a", Name: "behind"}).Error,
					app.Create(&RotText{Code: "z", Name: "before"}).Error,
				} {
					if err != nil {
						t.Error(err)
					}
				}
				if _, err := r.w.plain.Exec("UPDATE rot_texts SET encrypted_kms_key = NULL, name = NULL WHERE code = 'c00003'"); err != nil {
					t.Error(err)
				}
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		addsUp(t, report)
		if report.Seen != 150 && report.Seen != 151 || report.Gone != 1 || report.Raced != 1 {
			t.Errorf("%+v", report)
		}
		var a RotText
		ok(t, app.Take(&a, "code = ?", code(2)).Error)
		if a.Name != "again" {
			t.Errorf("%+v", a)
		}
	})
}

// TestAttackRotationOfColumnsApart: the same table for each key column and for both at once.
func TestAttackRotationOfColumnsApart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotDoc{})
		var docs []RotDoc
		for i := range 600 {
			docs = append(docs, RotDoc{Ward: "w", Name: fmt.Sprint(i), Phone: new("p")})
		}
		ok(t, r.w.db.CreateInBatches(&docs, 300).Error)
		var wg sync.WaitGroup
		var changed atomic.Int64
		for _, columns := range [][]string{nil, {"encrypted_kms_key"}, {"encrypted_kms_key_phone"}} {
			db := r.at(t, 2)
			wg.Go(func() {
				report, err := rotation.RotateKMSKey(t.Context(), db, &RotDoc{}, rotation.Config{Columns: columns, MaxPage: 60})
				if err != nil {
					t.Errorf("%v: %v", columns, err)
					return
				}
				addsUp(t, report)
				changed.Add(report.Rewrapped)
			})
		}
		wg.Wait()
		if changed.Load() != 1200 {
			t.Errorf("%d keys were moved", changed.Load())
		}
		var got []RotDoc
		ok(t, r.only(t).Find(&got).Error)
		if len(got) != 600 {
			t.Errorf("%d rows", len(got))
		}
	})
}
