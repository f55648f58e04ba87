package integration

// passing_test.go owns statements of other models whose pool other callbacks take, use, keep and lose.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// within gives a session whose statements of one processor run f right before GORM's own callback, behind the plugin's.
func within(t *testing.T, db *gorm.DB, name string, f func(*gorm.DB)) *gorm.DB {
	t.Helper()
	type key struct{}
	cb := db.Callback()
	intrude := func(tx *gorm.DB) {
		if do, ok := tx.Statement.Context.Value(key{}).(func(*gorm.DB)); ok {
			outer := tx.Statement.Context
			tx.Statement.Context = context.Background()
			do(tx)
			tx.Statement.Context = outer
		}
	}
	for _, err := range []error{
		cb.Create().After("rowseal:watch_create").Before("gorm:create").Register(name, intrude),
		cb.Update().After("rowseal:watch_update").Before("gorm:update").Register(name, intrude),
		cb.Query().After("rowseal:watch_query").Before("gorm:query").Register(name, intrude),
		cb.Row().After("rowseal:watch_row").Before("gorm:row").Register(name, intrude),
	} {
		ok(t, err)
	}
	return db.WithContext(context.WithValue(context.Background(), key{}, f))
}

func TestCallbacksWithinOtherModelsStatements(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}, &Book{}))
		ok(t, c.db.Create(&Author{Name: "a"}).Error)
		chart := Chart{Ward: "w", Code: "c", Name: name}
		ok(t, c.db.Create(&chart).Error)
		fresh := func(tx *gorm.DB) *gorm.DB {
			return tx.Session(&gorm.Session{NewDB: true, Context: context.Background()})
		}
		for what, f := range map[string]func(tx *gorm.DB) error{
			"another model": func(tx *gorm.DB) error {
				a := Author{Name: "inner"}
				return errors.Join(fresh(tx).Create(&a).Error, fresh(tx).Take(&Author{}, a.ID).Error)
			},
			"a transaction": func(tx *gorm.DB) error {
				return fresh(tx).Transaction(func(tx *gorm.DB) error { return tx.Create(&Author{Name: "in a transaction"}).Error })
			},
			"a prepared session": func(tx *gorm.DB) error {
				return tx.Session(&gorm.Session{NewDB: true, PrepareStmt: true, Context: context.Background()}).Find(&[]Author{}).Error
			},
			"a sealed model": func(tx *gorm.DB) error {
				var got Chart
				if err := fresh(tx).Take(&got, chart.ID).Error; err != nil {
					return err
				}
				if got.Name != name {
					t.Errorf("name %q", got.Name)
				}
				return fresh(tx).Model(&got).Update("score", 4).Error
			},
			"the database": func(tx *gorm.DB) error {
				if _, err := tx.DB(); !errors.Is(err, gorm.ErrInvalidDB) { // as on a *sql.Conn without the plugin
					return err
				}
				return nil
			},
			"the pool": func(tx *gorm.DB) error {
				ctx, pool := context.Background(), tx.Statement.ConnPool
				var n int
				rows, err := pool.QueryContext(ctx, "SELECT id FROM authors")
				if err == nil {
					err = rows.Close()
				}
				s, prepareErr := pool.PrepareContext(ctx, "SELECT 1")
				if prepareErr == nil {
					prepareErr = s.Close()
				}
				_, execErr := pool.ExecContext(ctx, "DELETE FROM authors WHERE id < 0")
				return errors.Join(err, prepareErr, execErr, pool.QueryRowContext(ctx, "SELECT COUNT(*) FROM authors").Scan(&n))
			},
		} {
			for how, run := range map[string]func(*gorm.DB) error{
				"create": func(db *gorm.DB) error { return db.Create(&books(1)[0]).Error },
				"create without one": func(db *gorm.DB) error {
					return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Create(&Author{Name: "z"}).Error
				},
				"find": func(db *gorm.DB) error { return db.Find(&[]Book{}).Error },
				"row":  func(db *gorm.DB) error { return db.Model(&Book{}).Select("COUNT(*)").Row().Scan(new(int)) },
				"in a transaction": func(db *gorm.DB) error {
					return db.Transaction(func(tx *gorm.DB) error { return tx.Find(&[]Book{}).Error })
				},
				"on one connection": func(db *gorm.DB) error {
					return db.Connection(func(tx *gorm.DB) error { return tx.Find(&[]Book{}).Error })
				},
			} {
				t.Run(what+" within "+how, func(t *testing.T) {
					ran := false
					ok(t, run(within(t, c.db, t.Name(), func(tx *gorm.DB) {
						ran = true
						_ = tx.AddError(f(tx)) // what run gives
					})))
					if !ran {
						t.Error("the callback did not run")
					}
				})
			}
		}
		err := within(t, c.db, "write", func(tx *gorm.DB) {
			_, err := tx.Statement.ConnPool.ExecContext(context.Background(), "UPDATE charts SET name = '"+name+"'")
			_ = tx.AddError(err) // what Find gives
		}).Find(&[]Book{}).Error
		fails(t, err, rowseal.ErrPlaintext)
		var stored []string
		rows, err := c.plain.Query("SELECT name FROM charts")
		ok(t, err)
		for rows.Next() {
			var s sql.RawBytes
			ok(t, rows.Scan(&s))
			stored = append(stored, string(s))
		}
		ok(t, rows.Err())
		spotless(t, "the table", strings.Join(stored, " "))
	})
}

// A session that prepares its statements, begun in mid-statement, is in that statement's transaction.
func TestAPreparedSessionInMidStatementIsInItsTransaction(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}))
		db := within(t, c.db, "prepare", func(tx *gorm.DB) {
			prepared := tx.Session(&gorm.Session{NewDB: true, PrepareStmt: true, Context: context.Background()})
			_ = tx.AddError(errors.Join(prepared.Create(&Author{Name: "inner"}).Error, errRollback)) // what the create gives
		})
		for what, err := range map[string]error{
			"another model's": db.Create(&Author{Name: "outer"}).Error,
			"a sealed one's":  db.Create(&Chart{Code: "c", Name: name}).Error,
		} {
			if err == nil || err.Error() != errRollback.Error() {
				t.Errorf("%s: error %v", what, err)
			}
		}
		var n int64
		ok(t, c.db.Model(&Author{}).Count(&n).Error)
		if n != 0 {
			t.Errorf("%d authors were written outside of the transaction that was rolled back", n)
		}
	})
}

// A pool that is kept for longer than its statement reaches no other statement's connection, and no sealed table.
func TestAPoolThatIsKeptReachesNothing(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}))
		var pool gorm.ConnPool
		ok(t, within(t, c.db, "keep", func(tx *gorm.DB) { pool = tx.Statement.ConnPool }).Create(&Author{Name: "a"}).Error)
		ctx := context.Background()
		check := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, sql.ErrTxDone) {
				t.Errorf("%s: error %v", what, err)
			}
		}
		_, err := pool.ExecContext(ctx, "DELETE FROM authors")
		check("exec", err)
		_, err = pool.QueryContext(ctx, "SELECT 1")
		check("query", err)
		check("query row", pool.QueryRowContext(ctx, "SELECT 1").Err())
		_, err = pool.PrepareContext(ctx, "SELECT 1")
		check("prepare", err)
		tx := pool.(gorm.TxCommitter)
		check("commit", tx.Commit())
		check("rollback", tx.Rollback())

		ok(t, within(t, c.db, "keep another", func(tx *gorm.DB) { pool = tx.Statement.ConnPool }).Find(&[]Author{}).Error)
		text := "UPDATE charts SET name = '" + name + "'"
		_, err = pool.ExecContext(ctx, text)
		_, queryErr := pool.QueryContext(ctx, text)
		for _, err := range []error{err, queryErr, pool.QueryRowContext(ctx, text).Err()} {
			if err == nil || !strings.Contains(err.Error(), "a statement that is done") {
				t.Errorf("a text on a sealed table: error %v", err)
			}
		}
		var n int64
		ok(t, c.db.Model(&Author{}).Count(&n).Error)
		if n != 1 {
			t.Errorf("%d authors", n)
		}
	})
}

// A session that a callback begins in mid-statement is the callback's own: it may hand it to others, who work at the same time or later.
func TestASessionThatBeganInMidStatementStays(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}))
		ok(t, c.db.Create(&Author{Name: "a"}).Error)
		var beside sync.WaitGroup
		var later []*gorm.DB
		db := within(t, c.db, "begin", func(tx *gorm.DB) {
			own := tx.Session(&gorm.Session{NewDB: true, Context: context.Background()})
			later = append(later, own)
			beside.Go(func() {
				for range 20 {
					if err := own.Take(&Author{}).Error; err != nil {
						t.Error(err)
						return
					}
				}
			})
		})
		for range 5 {
			ok(t, db.Find(&[]Author{}).Error)
		}
		beside.Wait()
		for _, own := range later {
			var chart Chart
			ok(t, own.Create(&Author{Name: "later"}).Error)
			ok(t, own.Create(&Chart{Code: fmt.Sprintf("%p", own), Name: name}).Error)
			ok(t, own.Last(&chart).Error)
			if chart.Name != name {
				t.Errorf("name %q", chart.Name)
			}
		}
		ok(t, c.db.Transaction(func(tx *gorm.DB) error {
			var own *gorm.DB
			ok(t, within(t, tx, "begin in a transaction", func(tx *gorm.DB) {
				own = tx.Session(&gorm.Session{NewDB: true, Context: context.Background()})
			}).Find(&[]Author{}).Error)
			return errors.Join(own.Create(&Author{Name: "later"}).Error, own.Model(&Author{}).Where("name = ?", "later").Update("name", "last").Error)
		}))
		var n int64
		ok(t, c.db.Model(&Author{}).Where("name = ?", "last").Count(&n).Error)
		if n != 6 {
			t.Errorf("%d authors", n)
		}
	})
}

// A callback that loses the statement's clauses loses what the plugin keeps there: the statement fails before it runs, and says so. Of one on another model nothing is kept.
func TestAStatementThatLostItsClausesFails(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}))
		chart := Chart{Code: "c", Name: name}
		ok(t, c.db.Create(&chart).Error)
		db := within(t, c.db, "lose", func(tx *gorm.DB) { tx.Statement.Clauses = map[string]clause.Clause{} })
		chart.Score = 7
		for what, err := range map[string]error{
			"a query":   db.Find(&[]Chart{}).Error,
			"a create":  db.Create(&Chart{Code: "d", Name: name}).Error,
			"an update": db.Select("score").Updates(&chart).Error,
		} {
			if err == nil || !strings.Contains(err.Error(), "clauses were replaced") {
				t.Errorf("%s: error %v", what, err)
			}
		}
		ok(t, db.Create(&Author{Name: "a"}).Error)
		var left []Chart
		ok(t, c.db.Find(&left).Error)
		if len(left) != 1 || left[0].Name != name || left[0].Score != 0 {
			t.Errorf("%d rows, score %d", len(left), left[0].Score)
		}
	})
}

// A callback that panics leaves a statement that can be run again.
func TestAStatementRunsAgainAfterAPanic(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		ok(t, c.db.AutoMigrate(&Author{}))
		ok(t, c.db.Create(&Author{Name: "a"}).Error)
		tx := within(t, c.db, "panic", func(*gorm.DB) { panic("a callback") }).Model(&Author{}).Where("name = ?", "a")
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			tx.Find(&[]Author{})
		}()
		var found []Author
		ok(t, tx.Find(&found).Error)
		if len(found) != 1 {
			t.Errorf("found %v", found)
		}
	})
}
