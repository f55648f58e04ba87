// txn.go owns the transaction: it begins with the first statement that needs it, and ends when Create does.

package pgcopy

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"gorm.io/gorm"
)

// txn is a transaction as GORM sees one. Nothing is held until a statement runs.
type txn struct {
	ctx     context.Context
	pool    gorm.ConnPool // where it begins
	foreign bool          // it is the caller's, and has begun

	once  sync.Once
	inner gorm.ConnPool // nil before it began
	err   error         // why it did not
}

// enter joins the transaction that pool is, or prepares one.
func enter(ctx context.Context, pool gorm.ConnPool) (*txn, error) {
	t := &txn{ctx: ctx, pool: pool}
	if _, ok := pool.(gorm.TxCommitter); ok {
		t.inner, t.foreign = pool, true
		t.once.Do(func() {})
		return t, nil
	}
	switch pool.(type) {
	case gorm.TxBeginner, gorm.ConnPoolBeginner:
		return t, nil
	}
	return nil, gorm.ErrInvalidTransaction
}

func (t *txn) begin() (gorm.ConnPool, error) {
	t.once.Do(func() {
		switch pool := t.pool.(type) {
		case gorm.TxBeginner:
			tx, err := pool.BeginTx(t.ctx, nil)
			if t.err = err; err == nil {
				t.inner = tx
			}
		case gorm.ConnPoolBeginner:
			tx, err := pool.BeginTx(t.ctx, nil)
			if t.err = err; err == nil {
				t.inner = tx
			}
		}
	})
	return t.inner, t.err
}

// end commits or rolls back what began here.
func (t *txn) end(commit bool) error {
	if t.foreign {
		return nil
	}
	t.once.Do(func() { t.err = sql.ErrTxDone }) // a hook that outlives Create finds it closed
	tx, ok := t.inner.(gorm.TxCommitter)
	switch {
	case !ok:
		return nil
	case commit:
		return tx.Commit()
	}
	return tx.Rollback()
}

// Commit and Rollback are what GORM calls when its statement ends. What follows in Create may still fail.
func (t *txn) Commit() error   { return nil }
func (t *txn) Rollback() error { return nil }

// GetDBConn serves db.DB() in hooks.
func (t *txn) GetDBConn() (*sql.DB, error) {
	return (&gorm.DB{Config: &gorm.Config{ConnPool: t.pool}}).DB()
}

func (t *txn) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	tx, err := t.begin()
	if err != nil {
		return nil, err
	}
	return tx.PrepareContext(ctx, query)
}

// StmtContext serves hooks that prepare their statements.
func (t *txn) StmtContext(ctx context.Context, stmt *sql.Stmt) *sql.Stmt {
	if tx, err := t.begin(); err == nil {
		if tx, ok := tx.(gorm.Tx); ok {
			return tx.StmtContext(ctx, stmt)
		}
	}
	return stmt
}

func (t *txn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	tx, err := t.begin()
	if err != nil {
		return nil, err
	}
	return tx.QueryContext(ctx, query, args...)
}

func (t *txn) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	tx, err := t.begin()
	if err != nil {
		// A row with an error can only be had from a query that fails.
		ended, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return t.pool.QueryRowContext(ended, query, args...)
	}
	return tx.QueryRowContext(ctx, query, args...)
}

// ExecContext runs a statement, or the COPY that one stands for.
func (t *txn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	tx, err := t.begin()
	if err != nil {
		return nil, err
	}
	c, ok := first(args).(*copied)
	if !ok {
		return tx.ExecContext(ctx, query, args...)
	}
	for {
		// A statement that is prepared has no place for an argument.
		prepared, ok := tx.(*gorm.PreparedStmtTX)
		if !ok {
			break
		}
		tx = prepared.Tx
	}
	_, err = tx.ExecContext(ctx, query, c)
	switch {
	case c.err != nil:
		return nil, c.err
	case err != nil:
		return nil, err
	case !c.done:
		return nil, errors.New("pgcopy: the driver did not run the COPY; it must be pgx")
	}
	return count(c.stored), nil
}

func first(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[0]
}

// count is the rows of a COPY. There is no id to give.
type count int64

func (n count) RowsAffected() (int64, error) { return int64(n), nil }
func (count) LastInsertId() (int64, error) {
	return 0, errors.New("pgcopy: COPY gives no ids")
}

// before is the connection pool until GORM begins its transaction: what the plugin asks for until then is no part of it.
type before struct{ t *txn }

func (b *before) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return b.t.pool.PrepareContext(ctx, query)
}

func (b *before) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return b.t.pool.ExecContext(ctx, query, args...)
}

func (b *before) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return b.t.pool.QueryContext(ctx, query, args...)
}

func (b *before) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return b.t.pool.QueryRowContext(ctx, query, args...)
}

// BeginTx gives GORM the transaction, which has yet to begin. The context has the timeout of gorm.Config.
func (b *before) BeginTx(ctx context.Context, _ *sql.TxOptions) (gorm.ConnPool, error) {
	b.t.ctx = ctx
	return b.t, nil
}

// GetDBConn serves db.DB().
func (b *before) GetDBConn() (*sql.DB, error) { return b.t.GetDBConn() }
