package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

// TestClosedMore is the second round of TestClosed: what an attacker with fresh eyes tried.
func TestClosedMore(t *testing.T) { moreTable.run(t) }

var moreTable = newTable("TestClosedMore", openMore, group{"Found by attacking it", morePaths})

func openMore(t *testing.T, kind string) *closed {
	c := openClosed(t, kind)
	c.tamper(t, "CREATE TABLE old_charts AS SELECT * FROM charts")
	return c
}

var cond = refused(rowseal.ErrCondition)

var morePaths = []path{
	// Leaks.
	{name: "count of a CASE", run: func(c *closed) error {
		var n int64
		return c.db.Model(&Chart{}).Select("count(CASE WHEN name = ? THEN 1 END)", []byte(name)).Scan(&n).Error
	}, want: cond},
	{name: "CTE with columns", run: selects("WITH x(id, n) AS (SELECT id, name FROM charts) SELECT id FROM x WHERE n = ?", []byte(name)), want: cond},
	{name: "table alias with columns", on: "postgres", run: func(c *closed) error {
		return c.db.Table("charts AS c(id, a, b, d, n)").Where("n = ?", []byte(name)).Select("id").Scan(&[]Wardship{}).Error
	}, want: refused(rowseal.ErrUnsupported)},
	{name: "second branch of a UNION", run: selects("SELECT id FROM (SELECT id, name AS w FROM log_entries WHERE 1=0 UNION ALL SELECT id, name FROM charts) x WHERE CAST(x.w AS text) = ?", name), want: cond},
	{name: "ARRAY[a, b]", on: "postgres", run: finds("ARRAY[name, scan] = ARRAY[?, ?]::bytea[]", []byte(name), []byte(name)), want: cond},
	{name: "EXPLAIN ANALYZE UPDATE", on: "postgres", run: raws("EXPLAIN ANALYZE UPDATE charts SET name = '" + name + "'"), want: refused(rowseal.ErrPlaintext)},
	{name: "DO block with LOOP", on: "postgres", run: raws("DO $$ DECLARE r record; BEGIN FOR r IN SELECT id FROM log_entries LOOP UPDATE charts SET name = '" + name + "'; END LOOP; END $$"), want: refused(rowseal.ErrPlaintext)},
	{name: "DO string", on: "postgres", run: raws("DO 'BEGIN UPDATE charts SET name = ''" + name + "''; END'"), want: refused(rowseal.ErrPlaintext)},
	{name: "excluded compared in ON CONFLICT WHERE", mysql: &same, run: func(c *closed) error {
		on := clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"ward"}),
			Where: clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: "excluded", Name: "name"}, Value: []byte(name)}}}}
		return c.db.Clauses(on).Create(conflict(renewed())).Error
	}, want: cond},
	{name: "excluded compared in an assignment", run: func(c *closed) error {
		on := clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(map[string]any{"ward": gorm.Expr("CASE WHEN excluded.name = ? THEN 'a' ELSE 'b' END", []byte(name))})}
		return c.db.Clauses(on).Create(conflict(renewed())).Error
	}, want: cond},
	{name: "an alias named excluded", run: func(c *closed) error {
		return c.db.Table("charts AS excluded").Select("excluded.id").Where("excluded.name = ?", []byte(name)).Scan(&[]Wardship{}).Error
	}, want: cond},
	{name: "alias of a joined column in WHERE", on: "sqlite", run: func(c *closed) error {
		return c.db.Joins("Doctor").Where("Doctor__name = ?", name).Find(&[]Chart{}).Error
	}, want: cond},
	{name: "alias of a joined column in ORDER", run: func(c *closed) error {
		return c.db.Joins("Doctor").Order(`"Doctor__name"`).Find(&[]Chart{}).Error
	}, want: cond},
	{name: "another table for the model, text", run: func(c *closed) error {
		return c.db.Table("old_charts").Where("name = ?", []byte(name)).Find(&[]Chart{}).Error
	}, want: cond},
	{name: "another table for the model, map", run: func(c *closed) error {
		return c.db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Table("old_charts") }).Where(map[string]any{"name": name}).Find(&[]Chart{}).Error
	}, want: cond},
	{name: "another table for the model, update", run: func(c *closed) error {
		return c.db.Table("old_charts").Model(&Chart{}).Where("name = ?", []byte(name)).Update("ward", "x").Error
	}, want: cond},
	{name: "another table for the model, reads", run: func(c *closed) error {
		var n []Chart
		err := c.db.Table("old_charts").Where("ward = ?", "x").Find(&n).Error
		if err == nil && len(n) != 0 {
			return fmt.Errorf("%d rows", len(n))
		}
		return err
	}, want: reading},
	{name: "null test of a comparison", run: finds("? = name IS NOT NULL", []byte(name)), want: cond, on: "postgres"},
	{name: "partial index", run: raws("CREATE INDEX closed_partial ON charts (id) WHERE name = '" + name + "'"), want: refused(rowseal.ErrPlaintext, rowseal.ErrCondition)},
	{name: "dry run with a silent logger", run: func(c *closed) error {
		return c.show(c.db.Session(&gorm.Session{DryRun: true, Logger: logger.Discard}).Where("name = ?", name).Find(&[]Chart{}))
	}, want: cond},
	{name: "INTERSECT", run: func(c *closed) error {
		return c.db.Raw("SELECT name FROM charts INTERSECT SELECT ?", []byte(name)).Find(&[]Chart{}).Error
	}, want: cond},

	// Context columns by another spelling.
	{name: "context column in uppercase (map), not loaded", on: "sqlite", run: func(c *closed) error {
		return c.db.Model(&Account{ID: 1}).Updates(map[string]any{"TENANT_ID": 8}).Error
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported, rowseal.ErrIdentity)},

	// False refusals.
	{name: "column in a sub-query of another table", run: func(c *closed) error {
		return c.db.Where("id IN (?)", c.db.Model(&LogEntry{}).Select("chart_id").Where("log_entries.name = ?", "x")).Find(&[]Chart{}).Error
	}, want: reading},
	{name: "column in a sub-query of another table, without the table's name", run: func(c *closed) error {
		return c.db.Where("id IN (?)", c.db.Model(&LogEntry{}).Select("chart_id").Where("name = ?", "x")).Find(&[]Chart{}).Error
	}, want: reading},
	{name: "DROP DEFAULT", on: "postgres", run: raws("ALTER TABLE charts ALTER COLUMN name DROP DEFAULT"), want: reading},
	{name: "upsert of another table from the model's", on: "sqlite postgres", run: func(c *closed) error {
		return c.db.Exec("INSERT INTO log_entries (id, chart_id, ward, name) SELECT id, id, ward, ward FROM charts WHERE id = 77 ON CONFLICT (id) DO UPDATE SET name = 'x'").Error
	}, want: reading},
	{name: "upsert of a loaded row that the application's condition leaves out", run: func(c *closed) error {
		v := c.load(1)
		v.Ward = "zz"
		on := clause.OnConflict{Columns: byID, UpdateAll: true, Where: clause.Where{Exprs: []clause.Expression{gorm.Expr("charts.ward = ?", "nobody")}}}
		return c.db.Clauses(on).Create(v).Error
	}, want: same},
	{name: "exists idiom", run: func(c *closed) error {
		var found bool
		return c.db.Model(&Chart{}).Select("count(*) > 0").Where("ward = ?", "w").Find(&found).Error
	}, want: reading},
	{name: "group plain", run: func(c *closed) error {
		var out []struct {
			Ward string
			N    int
		}
		return c.db.Model(&Chart{}).Select("ward, count(*) AS n, max(id) AS m").Group("ward").Having("count(*) > 0").Order("n").Scan(&out).Error
	}, want: reading},
	{name: "count of a distinct plain column", run: func(c *closed) error {
		var n int64
		return c.db.Model(&Chart{}).Distinct("ward").Count(&n).Error
	}, want: reading},
	{name: "count of a grouped", run: func(c *closed) error {
		var n int64
		return c.db.Model(&Chart{}).Group("ward").Count(&n).Error
	}, want: reading},
	{name: "join plain columns with DTO", run: func(c *closed) error {
		var out []struct{ Ward, Name string }
		return c.db.Model(&LogEntry{}).Select("charts.ward, log_entries.name").Joins("JOIN charts ON charts.id = log_entries.chart_id").
			Where("log_entries.name = ?", "x").Order("log_entries.name").Scan(&out).Error
	}, want: reading},
	{name: "join of a log with an unqualified name", run: func(c *closed) error {
		var out []struct{ Ward string }
		return c.db.Model(&LogEntry{}).Select("charts.ward").Joins("JOIN charts ON charts.id = log_entries.chart_id").Where(map[string]any{"name": "x"}).Scan(&out).Error
	}, want: reading},
	{name: "Raw of charts.*", run: func(c *closed) error {
		var out []Chart
		err := c.db.Raw("SELECT charts.* FROM charts JOIN log_entries l ON l.chart_id = charts.id WHERE l.name = ? OR true ORDER BY charts.id LIMIT 1", "x").Find(&out).Error
		if err != nil {
			return err
		}
		return sees("sssssss", out[0])
	}, want: reading},
	{name: "EXPLAIN", run: func(c *closed) error {
		q := "EXPLAIN SELECT * FROM charts WHERE ward = 'w'"
		var out []map[string]any
		return c.db.Raw(q).Scan(&out).Error
	}, want: reading},
	{name: "EXISTS of a plain sub-query", run: func(c *closed) error {
		return c.db.Where("EXISTS (?)", c.db.Model(&LogEntry{}).Select("1").Where("log_entries.chart_id = charts.id")).Find(&[]Chart{}).Error
	}, want: reading},
	{name: "association count", run: func(c *closed) error {
		if n := c.db.Model(c.load(1)).Association("Labels").Count(); n != 1 {
			return fmt.Errorf("%d labels", n)
		}
		return nil
	}, want: reading},
	{name: "FOR UPDATE", on: "postgres", run: func(c *closed) error {
		return c.db.Clauses(clause.Locking{Strength: "UPDATE", Options: "SKIP LOCKED", Table: clause.Table{Name: "charts"}}).Find(&[]Chart{}).Error
	}, want: reading},
	{name: "soft delete", run: func(c *closed) error { return c.db.Where("ward = ?", "w").Delete(&Chart{}).Error }, want: same},
	{name: "FindInBatches", run: func(c *closed) error {
		var out []Chart
		return c.db.Where("ward = ?", "w").FindInBatches(&out, 1, func(tx *gorm.DB, n int) error { return sees("sssssss", out...) }).Error
	}, want: reading},

	// Statements that other callbacks start.
	{name: "intruder reads another sealed model", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			var d Doctor
			_ = db.AddError(db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).First(&d).Error)
		})
		return db.Create(renewed()).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "intruder writes another sealed model", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			_ = db.AddError(db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Create(&Doctor{Name: name}).Error)
		})
		return db.Create(renewed()).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "intruder writes another sealed model and ignores the error", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			_ = db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Create(&Doctor{Name: name}).Error
		})
		return db.Create(renewed()).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "intruder begins a transaction", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			_ = db.AddError(db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Transaction(func(tx *gorm.DB) error {
				var d Doctor
				if err := tx.First(&d).Error; err != nil {
					return err
				}
				return tx.Model(&d).Update("name", name).Error
			}))
		})
		return db.Model(c.load(1)).Update("name", name).Error
	}, want: sealed("nssssss " + rest)},
	{name: "intruder updates in a query's transaction", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			_ = db.AddError(db.Session(&gorm.Session{NewDB: true, Context: context.Background()}).Transaction(func(tx *gorm.DB) error {
				return tx.Model(&Doctor{ID: 1}).Update("name", name).Error
			}))
		})
		return db.Find(&[]Chart{}).Error
	}, want: same},
	{name: "intruder asks for the *sql.DB", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			_, err := db.DB()
			_ = db.AddError(err)
		})
		return db.Find(&[]Chart{}).Error
	}, want: reading},
	{name: "prepared session in an intruder", run: func(c *closed) error {
		db := c.withIntruder(func(db *gorm.DB) {
			var d Doctor
			_ = db.AddError(db.Session(&gorm.Session{NewDB: true, PrepareStmt: true, Context: context.Background()}).First(&d).Error)
		})
		return db.Create(renewed()).Error
	}, want: sealed(rest2 + " " + fresh)},
	{name: "Connection", run: func(c *closed) error {
		return c.db.Connection(func(tx *gorm.DB) error {
			if err := tx.Create(renewed()).Error; err != nil {
				return err
			}
			return tx.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Chart{}).Error })
		})
	}, want: sealed(rest2 + " " + fresh)},

	// One statement used twice.
	{name: "one chain, two updates", run: func(c *closed) error {
		tx := c.db.Model(c.load(1))
		if err := tx.Update("name", name).Error; err != nil {
			return err
		}
		return tx.Update("phone", word("new", "phone")).Error
	}, want: sealed("nsssssn " + rest)},
	{name: "one chain, two updates of a keyless row", run: func(c *closed) error {
		c.db.Exec("DELETE FROM consults")
		v := &Hooked{Ward: "k"}
		if err := c.db.Create(v).Error; err != nil {
			return err
		}
		c.plain.Exec("UPDATE hookeds SET encrypted_kms_key = NULL, name = NULL WHERE ward = 'k'")
		tx := c.db.Model(&Hooked{ID: v.ID})
		if err := tx.Update("name", word("seed", "name")).Error; err != nil {
			return err
		}
		r := tx.Update("name", name)
		if r.Error == nil && r.RowsAffected != 1 {
			return errors.New("silently nothing")
		}
		return r.Error
	}, want: same},
	{name: "one chain, two updates, a rotation between", run: func(c *closed) error {
		tx := c.db.Model(&Chart{ID: 1})
		if err := tx.Update("name", name).Error; err != nil {
			return err
		}
		if err := c.db.Model(c.load(1)).Updates(news()).Error; err != nil {
			return err
		}
		if err := c.db.Model(&Chart{ID: 1}).Updates(news()).Error; err != nil {
			return err
		}
		r := tx.Update("name", name)
		if r.Error == nil && r.RowsAffected != 1 {
			return errors.New("silently nothing")
		}
		return r.Error
	}, want: sealed(fresh + " " + rest)},
	{name: "one chain, an update, then an update of another model that finds nothing", run: func(c *closed) error {
		tx := c.db.Model(&Chart{ID: 1})
		if err := tx.Update("name", name).Error; err != nil {
			return err
		}
		return tx.Model(&LogEntry{ID: 99}).Update("ward", "x").Error
	}, want: sealed("nssssss " + rest)},
	{name: "context column in uppercase (clause.Set)", on: "sqlite", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		return c.db.Model(&a).Clauses(clause.Set{{Column: clause.Column{Name: "TENANT_ID"}, Value: 8}}).Updates(map[string]any{}).Error
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported, rowseal.ErrIdentity)},
	{name: "context column in uppercase (clause.Set), with a sealed one", on: "sqlite", run: func(c *closed) error {
		var a Account
		if err := c.db.First(&a, 1).Error; err != nil {
			return err
		}
		return c.db.Model(&a).Clauses(clause.Set{{Column: clause.Column{Name: "TENANT_ID"}, Value: 8}, {Column: clause.Column{Name: "name"}, Value: name}}).Updates(map[string]any{}).Error
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported, rowseal.ErrIdentity)},
	{name: "context column in uppercase (upsert)", on: "sqlite", run: func(c *closed) error {
		return c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"TENANT_ID"})}).Create(&Account{ID: 1, TenantID: 8, Name: name}).Error
	}, want: refused(rowseal.ErrContext, rowseal.ErrUnsupported, rowseal.ErrIdentity)},
	{name: "trigger", on: "sqlite", run: raws("CREATE TRIGGER closed_trigger AFTER INSERT ON charts BEGIN UPDATE charts SET name = '" + name + "'; END"), want: refused(rowseal.ErrPlaintext, rowseal.ErrCondition)},
}

// Two models with tables of one name in two schemas.
type East struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type West struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (East) TableName() string { return "public.people" }
func (West) TableName() string { return "west.people" }

func TestTablesOfOneName(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	r := &sqlspy.Recorder{}
	db, plain := connect(t, "postgres", r, &gorm.Config{})
	_, err = plain.Exec("CREATE SCHEMA west")
	ok(t, err)
	p, err := rowseal.New(keys, rowseal.Config{Models: []any{&East{}, &West{}}})
	ok(t, err)
	ok(t, db.Use(p))
	ok(t, db.AutoMigrate(&East{}, &West{}))
	for _, v := range []any{&East{Name: "a"}, &West{Name: "b"}} {
		if err := db.Create(v).Error; err != nil {
			t.Errorf("%T: %v", v, err)
		}
	}
	if err := db.First(&East{}).Error; err != nil {
		t.Errorf("read: %v", err)
	}
}

// An application that adopts rowseal on a column with a default.
func TestAdoptColumnWithDefault(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	each(t, func(t *testing.T, kind string) {
		r := &sqlspy.Recorder{}
		db, plain := connect(t, kind, r, &gorm.Config{})
		_, err := plain.Exec("CREATE TABLE doctors (id " + map[string]string{sqliteGo: "integer primary key", postgres: "bigserial primary key", mariadb: "serial primary key"}[kind] + ", name text DEFAULT '')")
		ok(t, err)
		p, err := rowseal.New(keys, rowseal.Config{Models: []any{&Doctor{}}})
		ok(t, err)
		ok(t, db.Use(p))
		if err := db.AutoMigrate(&Doctor{}); errors.Is(err, rowseal.ErrPlaintext) {
			t.Errorf("AutoMigrate: %v", err)
		}
	})
}

func TestMigratorMore(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	each(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, keys, rowseal.Config{Models: []any{&Doctor{}, &Chart{}, &Consult{}, &Label{}, &File{}}}, &gorm.Config{})
		_, err := migrations.Up(t.Context(), w.db)
		ok(t, err)
		v := renewed()
		ok(t, w.db.Create(v).Error)
		m := w.db.Migrator()
		step := func(what string, err error) {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		step("again", w.db.AutoMigrate(&Chart{}))
		step("drop column", m.DropColumn(&Chart{}, "Level"))
		step("add column", w.db.AutoMigrate(&Chart{}))
		step("rename column", m.RenameColumn(&Chart{}, "ward", "ward2"))
		step("rename column back", m.RenameColumn(&Chart{}, "ward2", "ward"))
		step("alter column", m.AlterColumn(&Chart{}, "Ward"))
		step("alter sealed column", m.AlterColumn(&Chart{}, "Name"))
		if _, err := m.ColumnTypes(&Chart{}); err != nil {
			t.Error(err)
		}
		if !m.HasColumn(&Chart{}, "name") || !m.HasTable("charts") {
			t.Error("has")
		}
		step("create index", w.db.Exec("CREATE INDEX charts_ward ON charts (ward)").Error)
		if _, err := m.GetIndexes(&Chart{}); err != nil {
			t.Error(err)
		}
		step("rename table", m.RenameTable("charts", "charts_x"))
		step("rename table back", m.RenameTable("charts_x", "charts"))
		var out Chart
		step("first", w.db.First(&out, v.ID).Error)
		if signature(out) != fresh {
			t.Error(signature(out))
		}
		step("drop", m.DropTable(&Chart{}))
	})
}

func TestConcurrentMore(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Doctor{})
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				d := &Doctor{Name: fmt.Sprint("n", i)}
				for range 3 {
					if err := w.db.Create(&Doctor{Name: "x"}).Error; err != nil {
						t.Error(err)
					}
				}
				if err := w.db.Create(d).Error; err != nil {
					t.Error(err)
					return
				}
				if err := w.db.Model(d).Update("name", fmt.Sprint("m", i)).Error; err != nil {
					t.Error(err)
				}
				var got Doctor
				if err := w.db.First(&got, d.ID).Error; err != nil || got.Name != fmt.Sprint("m", i) {
					t.Error(err, got.Name)
				}
				if err := w.db.Where("name = ?", "x").Find(&[]Doctor{}).Error; err == nil {
					t.Error("compared")
				}
			})
		}
		wg.Wait()
	})
}

// Camel has mixed-case columns, as databases of other frameworks do.
type Camel struct {
	ID       uint64 `gorm:"column:CamelID;primaryKey"`
	TenantID uint64 `gorm:"column:TenantID"`
	Ward     string `gorm:"column:Ward"`
	Name     string `gorm:"column:FullName;serializer:rowseal"`
	rowseal.RowKey
}

func TestMixedCase(t *testing.T) {
	for name, change := range map[string]func(db *gorm.DB, a *Camel) error{
		"Update of the context": func(db *gorm.DB, a *Camel) error { return db.Model(a).Update("TenantID", 8).Error },
		"Save of the context":   func(db *gorm.DB, a *Camel) error { a.TenantID = 8; return db.Save(a).Error },
		"Updates(struct)":       func(db *gorm.DB, a *Camel) error { return db.Model(a).Updates(Camel{TenantID: 8, Name: "b"}).Error },
		"upsert of the context": func(db *gorm.DB, a *Camel) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "CamelID"}}, DoUpdates: clause.AssignmentColumns([]string{"TenantID"})}).
				Create(&Camel{ID: a.ID, TenantID: 8, Name: "x"}).Error
		},
		"upsert of all": func(db *gorm.DB, a *Camel) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Camel{ID: a.ID, TenantID: 8, Name: "x"}).Error
		},
		"many": func(db *gorm.DB, a *Camel) error {
			return db.Model(&Camel{}).Where("1 = 1").Update("TenantID", 9).Error
		},
		"pk": func(db *gorm.DB, a *Camel) error {
			return db.Model(&Camel{}).Where("1 = 1").Update("CamelID", 9).Error
		},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
				ok(t, err)
				w := openWith(t, kind, keys, rowseal.Config{Models: []any{rowseal.Model{Value: &Camel{}, Context: rowseal.Columns("TenantID")}}}, &gorm.Config{})
				ok(t, w.db.Create(&Camel{TenantID: 7, Name: "a"}).Error)
				var a Camel
				ok(t, w.db.First(&a).Error)
				_ = change(w.db, &a) // done right, or refused
				var b Camel
				if err := w.db.First(&b).Error; err != nil {
					t.Errorf("LOST: %v", err)
				}
			})
		})
	}
}
