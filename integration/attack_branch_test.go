package integration

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// small is a process with a pool of its own, of so many connections.
func (b *branched) small(t testing.TB, conns int) *gorm.DB {
	t.Helper()
	b.w.plain.SetMaxOpenConns(conns)
	db, err := gorm.Open(dialector(b.w.kind, b.w.plain), &gorm.Config{Logger: logger.Discard})
	ok(t, err)
	return db
}

// Every connection is in a transaction that needs a key: each has its own to read it on.
func TestAttackBranchAllConnectionsInTransactions(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, known := b.seeded(t, 2, 1)
		cold, _ := b.with(t, b.small(t, 2), 2)
		one, two := cold.Begin(), cold.Begin()
		defer one.Rollback()
		defer two.Rollback()
		start := time.Now()
		for i, tx := range []*gorm.DB{one, two} {
			if err := tx.First(&Holder{}, known[i].ID).Error; err != nil {
				t.Errorf("transaction %d, after %v: %v", i, time.Since(start).Round(time.Second), err)
			}
		}
		if waited := time.Since(start); waited > 3*time.Second {
			t.Errorf("it took %v", waited)
		}
	}, postgres, mariadb)
}

// Who waits for a connection has those wait that hold one.
func TestAttackBranchTransactionWaitsForWhoWaitsForItsConnection(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, known := b.seeded(t, 1, 1)
		cold, branches := b.with(t, b.small(t, 1), 2)
		tx := cold.Begin()
		made := make(chan error, 1)
		go func() { made <- branches.Make(context.Background(), 2, "tenant 0") }()
		for b.w.plain.Stats().WaitCount == 0 {
			runtime.Gosched() // database/sql counts who waits, and gives no sign
		}
		start := time.Now()
		err := tx.First(&Holder{}, known[0].ID).Error
		if waited := time.Since(start); err != nil || waited > 3*time.Second {
			t.Errorf("after %v: %v", waited.Round(time.Second), err)
		}
		tx.Rollback()
		if err := <-made; err != nil {
			t.Errorf("make: %v", err)
		}
	}, postgres, mariadb)
}

// The rows of a transaction are read one by one, and the key is needed while the connection is busy with them.
func TestAttackBranchRowsInTransaction(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		b.seeded(t, 40, 4)
		cold, _ := b.process(t, 2)
		ok(t, cold.Transaction(func(tx *gorm.DB) error {
			rows, err := tx.Model(&Holder{}).Order("id").Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			n := 0
			for ; rows.Next(); n++ {
				var h Holder
				if err := tx.ScanRows(rows, &h); err != nil {
					return fmt.Errorf("row %d: %w", n, err)
				}
				if h.Name != fmt.Sprint("name ", n) {
					t.Errorf("row %d: %q", n, h.Name)
				}
			}
			return rows.Err()
		}))
	})
}

// A new tenant's first row, in a transaction whose reads lock what they did not find.
func TestAttackBranchIsolation(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			cold, _ := b.process(t, 2)
			start := time.Now()
			err := cold.Transaction(func(tx *gorm.DB) error {
				return tx.Create(&Holder{TenantID: "new " + level.String(), Name: "n"}).Error
			}, &sql.TxOptions{Isolation: level})
			if err != nil || time.Since(start) > 3*time.Second {
				t.Errorf("%v, after %v: %v", level, time.Since(start).Round(time.Second), err)
			}
		}
	}, postgres, mariadb)
}

// The walk makes the branch keys of tenants that have none, and has one connection.
func TestAttackBranchRotationOnOneConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		db, _ := b.process(t, 1)
		ok(t, db.Create(holders(50, 7)).Error)
		cold, _ := b.with(t, b.small(t, 1), 2)
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		report, err := rotation.RotateKMSKey(ctx, cold, &Holder{}, rotation.Config{})
		if err != nil || report.Rewrapped != 50 {
			t.Errorf("%d, %v", report.Rewrapped, err)
		}
	})
}

// A connection that the application holds is lent as that of a transaction is.
func TestAttackBranchConnection(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, known := b.seeded(t, 2, 1)
		cold, _ := b.with(t, b.small(t, 1), 2)
		start := time.Now()
		err := cold.Connection(func(tx *gorm.DB) error { return tx.First(&Holder{}, known[0].ID).Error })
		if err != nil || time.Since(start) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start).Round(time.Second), err)
		}
	}, postgres, mariadb)
}

func TestAttackBranchPrepareStmt(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, known := b.seeded(t, 2, 1)
		pool, err := gorm.Open(dialector(kind, b.w.db.ConnPool), &gorm.Config{Logger: logger.Discard, PrepareStmt: true})
		ok(t, err)
		cold, _ := b.with(t, pool, 2)
		ok(t, cold.Transaction(func(tx *gorm.DB) error {
			if err := tx.First(&Holder{}, known[0].ID).Error; err != nil {
				return err
			}
			if isSQLite(kind) {
				return nil
			}
			return tx.Create(&Holder{TenantID: "new"}).Error
		}))
	})
}

// Branch keys may stand in a database beside the one of the rows: a transaction of that one has nothing to lend.
func TestAttackBranchKeysInAnotherDatabase(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		keys, rows := newBranched(t, kind), newBranched(t, kind)
		_, err := migrations.Down(t.Context(), rows.w.db, 0)
		ok(t, err)
		db := rows.small(t, 1)
		keys.use(t, db, keys.branches(t, keys.w.db, 1), 2)
		made := Holder{TenantID: "acme", Name: "Ada"}
		ok(t, db.Transaction(func(tx *gorm.DB) error { return tx.Create(&made).Error }))
		cold := rows.small(t, 1)
		keys.use(t, cold, keys.branches(t, keys.w.db, 1), 2)
		ok(t, cold.Transaction(func(tx *gorm.DB) error {
			var read Holder
			err := tx.First(&read, made.ID).Error
			if read.Name != "Ada" {
				t.Errorf("read %q", read.Name)
			}
			return err
		}))
	})
}
