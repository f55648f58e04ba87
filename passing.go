// passing.go owns the short way past the last look (look.go), for statements of which the plugin keeps nothing: those of an application's other models. They cost next to no allocation.

package rowseal

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
)

// passing is the connection pool of a statement that passes: it reads the text before it runs, and lets pass what is none of ours. Any other it makes a look of.
//
// It is one statement's, and keeps its pool for good: a session that another callback begins in mid-statement has it for its own, be it in another goroutine or when the statement is done.
type passing struct {
	pool gorm.ConnPool // where it goes
	how  *watching
	stmt atomic.Pointer[gorm.Statement] // nil when it is done, or has a look
}

// passingTx is the same inside a transaction.
type passingTx struct{ *passing }

// passings makes them several in one allocation, and gives each once. They are few, since one that is still in use keeps the pools of its neighbours, with their contexts, where they are
// transactions.
type passings struct{ rooms sync.Pool }

const passingRoom = 8

type passingRooms struct {
	all  [passingRoom]passing
	next int
}

func (p *passings) get() *passing {
	rooms, ok := p.rooms.Get().(*passingRooms)
	if !ok {
		rooms = new(passingRooms)
	}
	s := &rooms.all[rooms.next]
	if rooms.next++; rooms.next < passingRoom {
		p.rooms.Put(rooms)
	}
	return s
}

// pass lets a statement pass, if it may. What has a text of its own already is left to the look, and so are dry runs.
func (w *watching) pass(stmt *gorm.Statement) bool {
	if stmt.SQL.Len() > 0 || stmt.DB.DryRun || !bare(stmt) {
		return false
	}
	s := w.passings.get()
	s.pool, s.how = stmt.ConnPool, w
	s.stmt.Store(stmt)
	if inTransaction(stmt) {
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
	if s == nil || s.stmt.Load() != stmt {
		return nil // or the one in which this one was started
	}
	return s
}

// done puts the connection back.
func (s *passing) done() {
	if stmt := s.stmt.Swap(nil); stmt != nil {
		stmt.ConnPool = s.pool
	}
}

// look makes a look of it.
func (s *passing) look() {
	stmt := s.stmt.Load()
	s.done()
	s.how.look(stmt).raw = false // whatever is written by now
}

// to is where a text goes: behind a look, unless it is none of ours.
func (s *passing) to(text string, args []any) (gorm.ConnPool, error) {
	stmt := s.stmt.Load()
	switch {
	case s.how.plugin.harmless(text, args):
		return s.pool, nil
	case stmt == nil:
		return nil, errGone
	}
	s.look()
	return stmt.ConnPool, nil
}

func (s *passing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	to, err := s.to(query, args)
	if err != nil {
		return nil, err
	}
	result, err := to.ExecContext(ctx, query, args...)
	return result, s.checked(query, err)
}

func (s *passing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	to, err := s.to(query, args)
	if err != nil {
		return nil, err
	}
	rows, err := to.QueryContext(ctx, query, args...)
	return rows, s.checked(query, err)
}

func (s *passing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	to, err := s.to(query, args)
	if err != nil {
		return memory{err: err}.openRow(ctx)
	}
	found := to.QueryRowContext(ctx, query, args...)
	if err := s.checked(query, found.Err()); err != found.Err() {
		return memory{err: err}.openRow(ctx)
	}
	return found
}

func (s *passing) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return s.pool.PrepareContext(ctx, query)
}

// BeginTx and GetDBConn are the look's.
func (s *passing) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	return lookingPool{&look{ConnPool: s.pool}}.BeginTx(ctx, opts)
}

func (s *passing) GetDBConn() (*sql.DB, error) {
	return lookingPool{&look{ConnPool: s.pool}}.GetDBConn()
}

// checked is the look's.
func (s *passing) checked(text string, err error) error {
	if err == nil {
		return nil
	}
	stmt := s.stmt.Load()
	if stmt == nil {
		stmt = &gorm.Statement{}
	}
	return (&look{plugin: s.how.plugin, stmt: stmt}).checked(text, err)
}

func (t passingTx) Commit() error   { return t.pool.(gorm.TxCommitter).Commit() }
func (t passingTx) Rollback() error { return t.pool.(gorm.TxCommitter).Rollback() }

// StmtContext is the look's.
func (t passingTx) StmtContext(ctx context.Context, s *sql.Stmt) *sql.Stmt {
	return preparedOn(ctx, t.pool, s)
}

// errGone meets who kept the pool of a statement for longer than it ran, and brings it a text that wants a look.
var errGone = errors.New("rowseal: a text on a table with sealed fields, on the connection pool of a statement that is done; run it on a *gorm.DB, as in db.Exec")
