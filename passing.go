// passing.go owns the short way past the last look (look.go), for statements of which the plugin keeps nothing: those of an application's other models. They cost no allocation.

package rowseal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// passing is a statement as its own connection pool: it reads the text before it runs, and lets pass what is none of ours. Any other it makes a look of. It is no more than a pointer to what is
// there anyway, and so has no room for the connection: that waits among the statement's clauses, of which GORM builds only those it knows by name.
type passing gorm.Statement

// passingTx is the same inside a transaction.
type passingTx struct{ *passing }

const passingClause = "rowseal:passing"

// onward is a connection pool as part of a clause, no more than a pointer either.
type onward[P gorm.ConnPool] struct{ pool P }

func (b onward[P]) connPool() gorm.ConnPool { return b.pool }
func (onward[P]) Build(clause.Builder)      {}

// Build makes a part of a clause of it.
func (*watching) Build(clause.Builder) {}

// pass lets a statement pass, if it may. What has a text of its own already is left to the look, and so are dry runs.
func (w *watching) pass(stmt *gorm.Statement) bool {
	if stmt.SQL.Len() > 0 || stmt.DB.DryRun || stmt.Clauses == nil || !bare(stmt) {
		return false
	}
	var to clause.Expression
	switch pool := stmt.ConnPool.(type) {
	case *sql.DB:
		to = onward[*sql.DB]{pool}
	case *sql.Tx:
		to = onward[*sql.Tx]{pool}
	case *sql.Conn:
		to = onward[*sql.Conn]{pool}
	case *gorm.PreparedStmtDB:
		to = onward[*gorm.PreparedStmtDB]{pool}
	case *gorm.PreparedStmtTX:
		to = onward[*gorm.PreparedStmtTX]{pool}
	default:
		return false
	}
	stmt.Clauses[passingClause] = clause.Clause{BeforeExpression: w, Expression: to}
	if s := (*passing)(stmt); inTransaction(stmt) {
		stmt.ConnPool = passingTx{s}
	} else {
		stmt.ConnPool = s
	}
	return true
}

// passes gives a statement that passes, nil for any other.
func passes(stmt *gorm.Statement) *passing {
	var s *passing
	switch pool := stmt.ConnPool.(type) {
	case *passing:
		s = pool
	case passingTx:
		s = pool.passing
	}
	if (*gorm.Statement)(s) != stmt {
		return nil // or the one in which this one was started
	}
	return s
}

// pool is where it goes.
func (s *passing) pool() gorm.ConnPool {
	if to, ok := s.Clauses[passingClause].Expression.(interface{ connPool() gorm.ConnPool }); ok {
		return to.connPool()
	}
	return gone()
}

// done puts the connection back.
func (s *passing) done() {
	s.ConnPool = s.pool()
	delete(s.Clauses, passingClause)
}

// watching is who has it pass; nil when that is over.
func (s *passing) watching() *watching {
	w, _ := s.Clauses[passingClause].BeforeExpression.(*watching)
	return w
}

// look makes a look of it.
func (s *passing) look() {
	w := s.watching()
	s.done()
	if w != nil {
		w.look((*gorm.Statement)(s)).raw = false // whatever is written by now
	}
}

// to is where a text goes: behind a look, unless it is none of ours.
func (s *passing) to(text string, args []any) gorm.ConnPool {
	if w := s.watching(); w == nil || w.plugin.harmless(text, args) {
		return s.pool()
	}
	s.look()
	return s.ConnPool
}

func (s *passing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	result, err := s.to(query, args).ExecContext(ctx, query, args...)
	return result, s.checked(query, err)
}

func (s *passing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := s.to(query, args).QueryContext(ctx, query, args...)
	return rows, s.checked(query, err)
}

func (s *passing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	to := s.to(query, args)
	found := to.QueryRowContext(ctx, query, args...)
	if err := s.checked(query, found.Err()); err != found.Err() {
		return lookingPool{&look{ConnPool: to, stmt: (*gorm.Statement)(s)}}.failing(ctx, err)
	}
	return found
}

func (s *passing) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return s.pool().PrepareContext(ctx, query)
}

// BeginTx and GetDBConn are the look's.
func (s *passing) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	return lookingPool{&look{ConnPool: s.pool()}}.BeginTx(ctx, opts)
}

func (s *passing) GetDBConn() (*sql.DB, error) {
	return lookingPool{&look{ConnPool: s.pool()}}.GetDBConn()
}

// checked is the look's.
func (s *passing) checked(text string, err error) error {
	if w := s.watching(); w != nil && err != nil {
		return (&look{plugin: w.plugin, stmt: (*gorm.Statement)(s)}).checked(text, err)
	}
	return err
}

func (t passingTx) Commit() error {
	if tx, ok := t.pool().(gorm.TxCommitter); ok {
		return tx.Commit()
	}
	return errGone
}

func (t passingTx) Rollback() error {
	if tx, ok := t.pool().(gorm.TxCommitter); ok {
		return tx.Rollback()
	}
	return errGone
}

// errGone meets who kept the pool of a statement for longer than it ran. A look would still serve them; this cannot know on which connection.
var errGone = errors.New("rowseal: the connection pool of a statement that is done, or whose clauses were replaced while it ran; take that of a *gorm.DB")

// gone is a pool that gives errGone.
var gone = sync.OnceValue(func() *sql.DB { return sql.OpenDB(nowhere{}) })

type nowhere struct{}

func (nowhere) Connect(context.Context) (driver.Conn, error) { return nil, errGone }
func (nowhere) Driver() driver.Driver                        { return nil }
