package integration

// running_test.go owns what a statement is left with, and what rows in memory hold on to.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// leftovers names the clauses of a statement that are the plugin's, and counts its conditions.
func leftovers(tx *gorm.DB) (names []string, conditions int) {
	for name := range tx.Statement.Clauses {
		if strings.HasPrefix(name, "rowseal") {
			names = append(names, name)
		}
	}
	w, _ := tx.Statement.Clauses["WHERE"].Expression.(clause.Where)
	for _, e := range w.Exprs {
		if strings.HasPrefix(fmt.Sprintf("%T", e), "*rowseal.") || strings.HasPrefix(fmt.Sprintf("%T", e), "rowseal.") {
			names = append(names, fmt.Sprintf("%T", e))
		}
	}
	return names, len(w.Exprs)
}

func TestUpdateLeavesTheStatementAsItCame(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		p := Patient{Name: "Ada", Ward: "7"}
		ok(t, w.db.Create(&p).Error)

		tx := w.db.Model(&p).Where("ward = ? OR ward = ?", "7", "8")
		for i, name := range []string{"Grace", "Mary", "Joan"} {
			ok(t, tx.Updates(Patient{Name: name}).Error)
			if names, n := leftovers(tx); len(names) > 0 || n != i+2 { // the application's, and GORM's own of each time
				t.Errorf("after %d updates the statement has %q, and %d conditions", i+1, names, n)
			}
			if got := load[Patient](t, w.db, p.ID); got.Name != name {
				t.Errorf("stored %q, want %q", got.Name, name)
			}
		}
		var got []Patient
		tx = w.db.Where("ward = ?", "7")
		ok(t, tx.Find(&got).Error)
		ok(t, tx.Find(&got).Error)
		if names, n := leftovers(tx); len(names) > 0 || n != 1 {
			t.Errorf("a query left %q, and %d conditions", names, n)
		}
	})
}

func TestAStatementLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.Create(&Chart{Ward: "w", Code: "c", Name: name, Phone: "1"}).Error)
		ended, end := context.WithCancel(context.Background())
		end()
		var n int64
		for what, tx := range map[string]*gorm.DB{
			"found":                c.db.Where("phone", "1").Find(&[]Chart{}),
			"nothing found":        c.db.Where("phone", "2").Find(&[]Chart{}),
			"no row":               c.db.Where("phone", "2").Take(&Chart{}),
			"counted":              c.db.Model(&Chart{}).Where("phone", "1").Count(&n),
			"left sealed":          rowseal.Sealed(c.db).Where("phone", "1").Find(&[]Chart{}),
			"into another struct":  c.db.Model(&Chart{}).Where("phone", "1").Find(&[]struct{ Ward string }{}),
			"joined":               c.db.Joins("Chart", c.db.Where(&Chart{Phone: "1"})).Find(&[]Consult{}),
			"a context that ended": c.db.WithContext(ended).Where("phone", "1").Find(&[]Chart{}),
			"no row updated":       c.db.Model(&Chart{}).Clauses(clause.Returning{}).Where("phone", "2").Update("ward", "x"),
			"no row deleted":       c.db.Clauses(clause.Returning{}).Where("phone", "2").Delete(&[]Chart{}),
		} {
			if names, _ := leftovers(tx); len(names) > 0 {
				t.Errorf("%s: left %q (error %v)", what, names, tx.Error)
			}
		}
	})
}

// A callback of the application panics where the plugin's end is left out, and the statement is used again.
func TestUpdateAfterAPanic(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		p := Patient{Name: "Ada", Ward: "7"}
		ok(t, w.db.Create(&p).Error)
		panics := true
		ok(t, w.db.Callback().Update().Before("gorm:update").Register("test:panic", func(*gorm.DB) {
			if panics {
				panic("of the application")
			}
		}))
		tx := w.db.Session(&gorm.Session{SkipDefaultTransaction: true}).Model(&p)
		func() {
			defer func() {
				if got := recover(); got != "of the application" {
					t.Errorf("recovered %v", got)
				}
			}()
			tx.Updates(Patient{Name: "Grace"})
		}()
		panics = false
		if got := load[Patient](t, w.db, p.ID); got.Name != "Ada" {
			t.Errorf("stored %q", got.Name)
		}
		ok(t, tx.Updates(Patient{Name: "Grace"}).Error)
		if _, left := tx.Statement.Clauses["rowseal:running"]; left {
			t.Error("the statement was left with what its callbacks keep")
		}
		if got := load[Patient](t, w.db, p.ID); got.Name != "Grace" {
			t.Errorf("stored %q", got.Name)
		}
	})
}

// A session that begins in mid-statement has the clauses of that statement, and is another.
func TestUpdateFromASessionInMidStatement(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		p, other := Patient{Name: "Ada", Ward: "7"}, Patient{Name: "Grace", Ward: "8"}
		ok(t, w.db.Create(&p).Error)
		ok(t, w.db.Create(&other).Error)
		inside := false
		between := func(db *gorm.DB) {
			if inside || db.Statement.Schema == nil || db.Statement.Schema.Name != "Patient" {
				return
			}
			inside = true
			defer func() { inside = false }()
			mid := db.Session(&gorm.Session{}) // with the clauses of the statement that runs
			var beside []Patient
			ok(t, mid.Session(&gorm.Session{NewDB: true}).Find(&beside, other.ID).Error)
			if len(beside) != 1 || beside[0].Name != "Grace" {
				t.Errorf("in mid-statement: read %d rows, or not what was stored", len(beside))
			}
			if mid.Set("test", true).Statement.Clauses["WHERE"].Expression == nil {
				t.Error("the session lacks the statement's clauses, and the test tests nothing")
			}
			if mid := mid.Where("ward = ?", "7").Find(&beside); mid.Error != nil || len(beside) != 1 || beside[0].ID != p.ID || beside[0].Name == "" {
				t.Errorf("in mid-statement: %v, read %d rows, or not the row", mid.Error, len(beside))
			} else if names, _ := leftovers(mid); len(names) > 0 {
				t.Errorf("in mid-statement: left with %q", names)
			}
		}
		ok(t, w.db.Callback().Query().Before("gorm:query").Register("test:between", between))
		var got Patient
		ok(t, w.db.Where("id = ?", p.ID).Take(&got).Error)
		if got.Name != "Ada" {
			t.Errorf("read %q", got.Name)
		}
		ok(t, w.db.Model(&got).Updates(Patient{Name: "Mary"}).Error)
		if got := load[Patient](t, w.db, p.ID); got.Name != "Mary" {
			t.Errorf("stored %q", got.Name)
		}
	})
}

// collected reports that nothing holds on to what is behind a pointer. One run of the collector may be too few: pools and finalizers let go in the next.
func collected[T any](held weak.Pointer[T]) bool {
	for range 10 {
		if runtime.GC(); held.Value() == nil {
			return true
		}
	}
	return false
}

type heldKey struct{}

// Rows stay in memory for long, and what a statement was run with must not.
func TestUpdateAndReadRowsHoldNoContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		rows := []Patient{{Name: "Ada", Ward: "7"}, {Name: "Grace", Ward: "7"}}
		ok(t, w.db.Create(&rows).Error)
		for what, use := range map[string]func(*gorm.DB, *[]Patient) error{
			"a query": func(db *gorm.DB, into *[]Patient) error { return db.Order("id").Find(into).Error },
			"one row": func(db *gorm.DB, into *[]Patient) error {
				*into = make([]Patient, 1)
				return db.Take(&(*into)[0], rows[0].ID).Error
			},
			"an update": func(db *gorm.DB, into *[]Patient) error {
				*into = make([]Patient, 1)
				return errors.Join(w.db.Take(&(*into)[0], rows[0].ID).Error, db.Model(&(*into)[0]).Updates(Patient{Name: "Mary"}).Error)
			},
		} {
			var kept []Patient
			held := func() weak.Pointer[[64]byte] {
				request := new([64]byte)
				ok(t, use(w.db.WithContext(context.WithValue(context.Background(), heldKey{}, request)), &kept))
				return weak.Make(request)
			}()
			ok(t, w.db.Exec("SELECT 1").Error) // a driver's connection may hold on to the last one
			if !collected(held) {
				t.Errorf("%s: its rows hold the context that they were read with", what)
			}
			runtime.KeepAlive(kept)
		}
	})
}

// A hook that replaces the clauses of a create loses what the plugin keeps of its rows before the last look is there to see it.
func TestACreateWhoseHookReplacesClausesFails(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		h := Hooked{Ward: "7", Name: name}
		err := withHook(c, "BeforeCreate", func(tx *gorm.DB, _ *Hooked) error {
			tx.Statement.Clauses = map[string]clause.Clause{}
			return nil
		}).Create(&h).Error
		if err == nil || !strings.Contains(err.Error(), "clauses were replaced") {
			t.Errorf("error %v", err)
		}
		h.ID = 0
		ok(t, c.db.Create(&h).Error)
		if got := load[Hooked](t, c.db, h.ID); got.Name != name {
			t.Errorf("stored %q", got.Name)
		}
	})
}

// Of a statement whose clauses were replaced the plugin's mark is gone too: what runs with its context is another.
func TestAStatementThatLostItsClausesKeepsNoMark(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.Create(&Chart{Code: "c", Name: name}).Error)
		db := c.withIntruder(func(tx *gorm.DB) { tx.Statement.Clauses = map[string]clause.Clause{} })
		for what, tx := range map[string]*gorm.DB{
			"a query":  db.Find(&[]Chart{}),
			"a create": db.Create(&Chart{Code: "d", Name: name}),
			"a delete": db.Where("id = ?", 1<<40).Delete(&Chart{}),
		} {
			if left := fmt.Sprintf("%T", tx.Statement.Context); tx.Error == nil || strings.Contains(left, "Epoch") {
				t.Errorf("%s: error %v, and its context is a %s", what, tx.Error, left)
			}
		}
	})
}

// keeping keeps the context of a statement, as whoever builds a part of it may.
type keeping struct{ kept *[]context.Context }

func (k keeping) GormValue(ctx context.Context, _ *gorm.DB) clause.Expr {
	*k.kept = append(*k.kept, ctx)
	return clause.Expr{SQL: "?", Vars: []any{"7"}}
}

// What a statement was run with may stay in memory for long, and its rows must not.
func TestAContextHoldsNoRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		ok(t, w.db.Create(&Patient{Name: "Ada", Ward: "7"}).Error)
		var contexts []context.Context
		for what, use := range map[string]func(p *Patient) error{
			"a query": func(p *Patient) error { return w.db.Where("ward = ?", keeping{&contexts}).Take(p).Error },
			"an update": func(p *Patient) error {
				return errors.Join(w.db.Take(p).Error, w.db.Model(p).Where("ward = ?", keeping{&contexts}).Updates(Patient{Name: "Grace"}).Error)
			},
		} {
			held := func() weak.Pointer[Patient] {
				p := new(Patient)
				ok(t, use(p))
				return weak.Make(p)
			}()
			if !collected(held) {
				t.Errorf("%s: its context holds its row", what)
			}
		}
		runtime.KeepAlive(contexts)
	})
}
