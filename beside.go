// beside.go owns the connection that questions about keys go to while a statement waits for their answer: beside its transaction where one is free, since what is
// made must not go with a transaction that is rolled back, and on the transaction's own where there is no other.

package rowseal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey/branchkey"
)

// statementKey carries the connection of a statement in a transaction to the store.
type statementKey struct{}

// lend lets the store use the connection of the statement, where that is in a transaction, or in db.Connection. The context goes to key services alone.
func lend(ctx context.Context, stmt *gorm.Statement) context.Context {
	pool := poolOf(stmt)
	if _, alone := pool.(*sql.Conn); !alone && !inTransaction(stmt) {
		return ctx
	}
	return context.WithValue(ctx, statementKey{}, &loan{pool: pool, home: homeOf(stmt.DB, pool)})
}

// homeOf is the database that a connection is of.
func homeOf(db *gorm.DB, pool gorm.ConnPool) *sql.DB {
	own, err := (&gorm.DB{Config: db.Config, Statement: &gorm.Statement{ConnPool: pool}}).DB()
	if err != nil { // a *sql.Conn does not say
		own, _ = (&gorm.DB{Config: db.Config}).DB()
	}
	return own
}

// loan is the connection of a statement's transaction. A connection answers one question at a time, and a statement may need keys of several tenants at once.
type loan struct {
	pool gorm.ConnPool
	home *sql.DB
	mu   sync.Mutex

	// What the transaction showed: it is one question for each statement, and not for each row.
	epochs map[string]int64
	found  map[question][]branchkey.Key
	lacks  map[branchID]bool
}

// lent gives the loan where it is of db's own database: keys may stand in another one than the rows.
func lent(ctx context.Context, db *gorm.DB) (l *loan, inside bool) {
	if l, inside = ctx.Value(statementKey{}).(*loan); !inside {
		return nil, false
	}
	own, _ := db.DB()
	return l, l.home == own
}

// alone reports that there is no connection beside that of a transaction.
func alone(db *gorm.DB) bool {
	own, err := db.DB()
	return err != nil || db.Name() == "sqlite" || own.Stats().MaxOpenConnections == 1
}

// free reports that a connection can be had beside that of a transaction, as far as anybody knows. One that all connections wait for in transactions never comes.
func free(db *gorm.DB) bool {
	if alone(db) {
		return false
	}
	own, err := db.DB()
	if err != nil {
		return false
	}
	s := own.Stats()
	return s.MaxOpenConnections <= 0 || s.InUse < s.MaxOpenConnections
}

// besideWait is for a connection that was free a moment ago.
const besideWait = time.Second

// beside has ask run on a free connection, and reports whether there was one and it answered. It comes before the transaction's own: its snapshot may be old, a question that fails would
// abort it, and MariaDB's SERIALIZABLE would lock the place that a new key then goes to.
func beside(ctx context.Context, db *gorm.DB, ask func(context.Context) error) bool {
	if !free(db) {
		return false
	}
	brief, cancel := context.WithTimeout(ctx, besideWait)
	defer cancel()
	return ask(brief) == nil
}

// epochs is a row of rowseal_epochs, which says whether keys must be forgotten.
type epochs struct {
	db   *gorm.DB
	name string
}

// read reads beside a transaction where it can. In one, it may be that of the snapshot, and is not recent.
func (e epochs) read(ctx context.Context) (epoch int64, recent bool, err error) {
	pool, err := e.db.DB()
	if err != nil {
		return 0, false, err
	}
	ask := func(ctx context.Context) (err error) {
		epoch, err = e.on(ctx, pool)
		return err
	}
	l, inside := lent(ctx, e.db)
	if inside && beside(ctx, e.db, ask) {
		return epoch, true, nil
	}
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if !inside {
		err = ask(brief)
		return epoch, true, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.epochs[e.name]; ok {
		return known, false, nil
	}
	if epoch, err = e.on(brief, l.pool); err != nil {
		return 0, false, err
	}
	if l.epochs == nil {
		l.epochs = map[string]int64{}
	}
	l.epochs[e.name] = epoch
	return epoch, false, nil
}

func (e epochs) on(ctx context.Context, pool gorm.ConnPool) (epoch int64, err error) {
	rows, err := pool.QueryContext(ctx, bindings(e.db, "SELECT epoch FROM rowseal_epochs WHERE name = ?"), e.name)
	if err != nil {
		return 0, unread(ctx, err)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&epoch)
	}
	return epoch, errors.Join(err, rows.Err())
}

// raise counts up, from whichever number stands there.
func (e epochs) raise(ctx context.Context) error {
	insert := "INSERT INTO rowseal_epochs (name, epoch) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = rowseal_epochs.epoch + 1"
	if isMySQL(e.db) {
		insert = "INSERT INTO rowseal_epochs (name, epoch) VALUES (?, 1) ON DUPLICATE KEY UPDATE epoch = epoch + 1"
	}
	pool, err := e.db.DB()
	if err != nil {
		return err
	}
	_, err = pool.ExecContext(ctx, bindings(e.db, insert), e.name)
	return err
}

// unread says what to do about a question that failed.
func unread(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w; no connection came, or it did not answer", err)
	}
	return fmt.Errorf("%w; the table is made by migrations.Up", err)
}
