package integration

// attack_writes_test.go owns what an attacker of the writing paths found: names of tables, callbacks of other plugins, and several processes
// that migrate one table.

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
)

// Medicine's table begins with a letter whose lower case is an ASCII one.
type Medicine struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (Medicine) TableName() string { return "İlaclar" }

func TestAttackOnATableWhoseLowerCaseIsASCII(t *testing.T) {
	// GORM's SQLite migrator reads no such name.
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Medicine{})
		ok(t, w.db.Create(&Medicine{Name: "Aspirin"}).Error)
		table := w.quote("İlaclar")
		w.dropChecks(t, &Medicine{})
		before := w.dump(t, table)
		fails(t, w.db.Exec("UPDATE "+table+" SET name = '"+canary+"'").Error, rowseal.ErrPlaintext, "Medicine")
		fails(t, w.db.Exec("INSERT INTO "+table+" (name) VALUES ('"+canary+"')").Error, rowseal.ErrPlaintext, "Medicine")
		fails(t, w.db.Raw("SELECT id FROM "+table+" WHERE name = '"+canary+"'").Scan(new(int)).Error, rowseal.ErrCondition, "Medicine")
		if after := w.dump(t, table); after != before {
			t.Error(difference(before, after))
		}
		var name string
		ok(t, w.db.Raw("SELECT name FROM "+table).Scan(&name).Error)
		if name != "Aspirin" {
			t.Errorf("it reads %q", name)
		}
	}, postgres, mariadb)
}

// A callback that starts a statement beside one of the plugin's own hands on its context.
func TestAttackByACallbackBesideThePluginsOwnStatements(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Doctor{}, &Guarded{})
		ok(t, w.db.Create(&Doctor{Name: "Noor"}).Error)
		w.dropChecks(t, &Doctor{})
		before := w.dump(t, "doctors")
		met := 0
		audit := func(db *gorm.DB) {
			if strings.Contains(db.Statement.SQL.String(), "audit") {
				return
			}
			met++
			for _, tx := range []*gorm.DB{db.Session(&gorm.Session{NewDB: true}), db.Session(&gorm.Session{NewDB: true, Context: db.Statement.Context})} {
				fails(t, tx.Exec("UPDATE doctors SET name = '"+canary+"' /* audit */").Error, rowseal.ErrPlaintext, "Doctor")
			}
		}
		cb := w.db.Callback()
		ok(t, cb.Raw().Before("gorm:raw").Register("audit", audit))
		ok(t, cb.Row().Before("gorm:row").Register("audit", audit))
		w.spy.Reset()
		g := guardedRow()
		ok(t, w.db.Create(g).Error)
		ok(t, w.db.Model(&Guarded{}).Where("id > 0").Update("name", "x").Error)
		ok(t, rowseal.Rotate(t.Context(), w.db, g))
		if met == 0 {
			t.Error("the plugin had no statement of its own")
		}
		if after := w.dump(t, "doctors"); after != before {
			t.Error(difference(before, after))
		}
		for _, e := range w.spy.Events() {
			if strings.Contains(e.SQL, canary) {
				t.Errorf("sent %s", e.SQL)
			}
		}
	})
}

// What chooses another connection for a statement does so before all else, as GORM's resolver does.
func TestAttackByACallbackThatChoosesAnotherPool(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.Create(guardedRow()).Error)
		w.dropChecks(t, &Guarded{})
		chosen := func(db *gorm.DB) {
			if _, tx := db.Statement.ConnPool.(gorm.TxCommitter); !tx {
				db.Statement.ConnPool = w.db.ConnPool
			}
		}
		cb := w.db.Callback()
		ok(t, errors.Join(cb.Raw().Before("*").Register("choose", chosen), cb.Row().Before("*").Register("choose", chosen), cb.Query().Before("*").Register("choose", chosen),
			cb.Update().Before("*").Register("choose", chosen), cb.Delete().Before("*").Register("choose", chosen), cb.Create().Before("*").Register("choose", chosen)))
		w.spy.Reset()
		before := w.dump(t, "guardeds")
		for how, err := range map[string]error{
			"Exec":   w.db.Exec("UPDATE guardeds SET phone = '" + canary + "'").Error,
			"Update": w.db.Model(&GuardedNote{}).Table("guardeds").Where("id = 1").Update("phone", canary).Error,
			"Expr":   w.db.Model(&Guarded{}).Where("id = 1").Update("ward", gorm.Expr("'x', phone = '"+canary+"'")).Error,
			"Pluck":  w.db.Table("guardeds").Where("phone = ?", canary).Pluck("ward", &[]string{}).Error,
			"Row":    w.db.Table("guardeds").Select("ward").Where("phone = ?", canary).Row().Scan(new(string)),
			"Delete": w.db.Where("phone = ?", canary).Delete(&Guarded{}).Error,
		} {
			if err == nil || !strings.Contains(err.Error(), "rowseal: ") {
				t.Errorf("%s: error %v", how, err)
			}
		}
		for _, e := range w.spy.Events() {
			if strings.Contains(e.SQL, canary) {
				t.Errorf("sent %s", e.SQL)
			}
		}
		if after := w.dump(t, "guardeds"); after != before {
			t.Error(difference(before, after))
		}
	})
}

// Each process of a deployment migrates when it starts. On SQLite, where GORM makes the table anew, one may find the other's index.
func TestAttackByProcessesThatMigrateOneTable(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w, _ := later(t, kind, &Guarded{}) // a table without rows and without CHECKs
		var processes []*gorm.DB
		for range 4 {
			processes = append(processes, w.also(t, w.keys, rowseal.Config{Models: []any{&Guarded{}}}))
		}
		var wg sync.WaitGroup
		for _, db := range processes {
			wg.Go(func() {
				if err := db.AutoMigrate(&Guarded{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if names := w.on(t, &Guarded{}); len(names) != 10 {
			t.Errorf("the table has %q", names)
		}
		ok(t, w.db.Create(guardedRow()).Error)
	}, postgres, mariadb)
}

type FormBefore struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal" rowseal:"text"`
	rowseal.RowKey
}

func (FormBefore) TableName() string { return "forms" }

type FormAfter struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (FormAfter) TableName() string { return "forms" }

// A CHECK of the old form would refuse the new one, so it goes first.
func TestAttackOnAColumnThatChangesFromTextToBytes(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, testKeys(t), rowseal.Config{Models: []any{rowseal.Model{Value: &FormBefore{}, Name: "Form"}}}, &gorm.Config{})
		db := w.also(t, w.keys, rowseal.Config{Models: []any{rowseal.Model{Value: &FormAfter{}, Name: "Form"}}})
		ok(t, db.Migrator().DropConstraint(&FormAfter{}, "Name"))
		ok(t, db.AutoMigrate(&FormAfter{}))
		ok(t, db.Create(&FormAfter{Name: canary}).Error)
		if n := len(checksOf(t, db, &FormAfter{})); n != 2 {
			t.Errorf("%d CHECKs", n)
		}
		for _, c := range checksOf(t, db, &FormAfter{}) {
			if !db.Migrator().HasConstraint(&FormAfter{}, c.Name) {
				t.Errorf("without %s", c.Name)
			}
		}
		if got := load[FormAfter](t, db, 1); got.Name != canary {
			t.Errorf("it reads %q", got.Name)
		}
	})
}
