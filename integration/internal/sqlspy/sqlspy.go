// Package sqlspy records what really reaches a database driver: every statement with its bind values after conversion, and where
// transactions begin and end. The database underneath is the real one.
package sqlspy

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Event is one call to the driver, or a note that a test put in between.
type Event struct {
	Kind string // "exec", "query", "begin", "commit", "rollback", or a note's own
	SQL  string
	Args []driver.Value
}

// String shows the event with its bind values, so that a search for a value finds it wherever it went.
func (e Event) String() string {
	var b strings.Builder
	b.WriteString(e.Kind + " " + e.SQL)
	for _, a := range e.Args {
		if bytes, ok := a.([]byte); ok {
			a = string(bytes)
		}
		fmt.Fprintf(&b, " | %v", a)
	}
	return b.String()
}

// Recorder collects events. It is safe for concurrent use.
type Recorder struct {
	// Read, if it is set, is given every value that the driver reads out of a result set. Set it while no query runs.
	Read func(driver.Value)

	mu     sync.Mutex
	events []Event
}

// Note adds an event of the test's own, in order with the driver's.
func (r *Recorder) Note(kind string) { r.add(Event{Kind: kind}) }

func (r *Recorder) add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// Events is a copy of what was recorded since the last Reset.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Reset forgets.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// Count counts events of a kind whose SQL contains part, without regard to case.
func (r *Recorder) Count(kind, part string) (n int) {
	for _, e := range r.Events() {
		if e.Kind == kind && strings.Contains(strings.ToLower(e.SQL), strings.ToLower(part)) {
			n++
		}
	}
	return n
}

// Connector wraps a driver's connector.
func (r *Recorder) Connector(c driver.Connector) driver.Connector { return connector{c, r} }

type connector struct {
	driver.Connector
	r *Recorder
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{inner, c.r}, nil
}

// conn passes everything on. What the driver cannot do, it says with driver.ErrSkip or as database/sql itself would.
type conn struct {
	driver.Conn
	r *Recorder
}

func values(args []driver.NamedValue) []driver.Value {
	out := make([]driver.Value, len(args))
	for i, a := range args {
		v := a.Value
		// pgx takes Valuers as they are and converts them while encoding.
		if valuer, ok := v.(driver.Valuer); ok && (reflect.ValueOf(v).Kind() != reflect.Pointer || !reflect.ValueOf(v).IsNil()) {
			if converted, err := valuer.Value(); err == nil {
				v = converted
			}
		}
		out[i] = v
	}
	return out
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	e, ok := c.Conn.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	result, err := e.ExecContext(ctx, query, args)
	if err != driver.ErrSkip { // nothing was sent: database/sql prepares it now
		c.r.add(Event{"exec", query, values(args)})
	}
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	q, ok := c.Conn.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	rows, err := q.QueryContext(ctx, query, args)
	if err != driver.ErrSkip {
		c.r.add(Event{"query", query, values(args)})
	}
	if err != nil {
		return nil, err
	}
	return &spiedRows{rows, c.r}, nil
}

// spiedRows notes when a result set is closed, so that a test can tell what ran while it was open.
type spiedRows struct {
	driver.Rows
	r *Recorder
}

func (s *spiedRows) Close() error {
	s.r.add(Event{Kind: "close"})
	return s.Rows.Close()
}

func (s *spiedRows) Next(dest []driver.Value) error {
	err := s.Rows.Next(dest)
	if err == nil && s.r.Read != nil {
		for _, v := range dest {
			s.r.Read(v)
		}
	}
	return err
}

// What database/sql may ask of rows is answered as the driver would, and else as database/sql itself.

func (s *spiedRows) ColumnTypeDatabaseTypeName(i int) string {
	if r, ok := s.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return r.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

func (s *spiedRows) ColumnTypeScanType(i int) reflect.Type {
	if r, ok := s.Rows.(driver.RowsColumnTypeScanType); ok {
		return r.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}

func (s *spiedRows) ColumnTypeNullable(i int) (nullable, ok bool) {
	if r, ok := s.Rows.(driver.RowsColumnTypeNullable); ok {
		return r.ColumnTypeNullable(i)
	}
	return false, false
}

func (s *spiedRows) ColumnTypeLength(i int) (length int64, ok bool) {
	if r, ok := s.Rows.(driver.RowsColumnTypeLength); ok {
		return r.ColumnTypeLength(i)
	}
	return 0, false
}

func (s *spiedRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if r, ok := s.Rows.(driver.RowsColumnTypePrecisionScale); ok {
		return r.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}

func (s *spiedRows) HasNextResultSet() bool {
	r, ok := s.Rows.(driver.RowsNextResultSet)
	return ok && r.HasNextResultSet()
}

func (s *spiedRows) NextResultSet() error {
	if r, ok := s.Rows.(driver.RowsNextResultSet); ok {
		return r.NextResultSet()
	}
	return io.EOF
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	var s driver.Stmt
	var err error
	if p, ok := c.Conn.(driver.ConnPrepareContext); ok {
		s, err = p.PrepareContext(ctx, query)
	} else {
		s, err = c.Prepare(query)
	}
	if err != nil {
		return nil, err
	}
	return &stmt{s, query, c.r}, nil
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	b, ok := c.Conn.(driver.ConnBeginTx)
	if !ok {
		return nil, fmt.Errorf("sqlspy: the driver has no BeginTx")
	}
	inner, err := b.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.r.add(Event{Kind: "begin"})
	return tx{inner, c.r}, nil
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if n, ok := c.Conn.(driver.NamedValueChecker); ok {
		return n.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *conn) Ping(ctx context.Context) error {
	if p, ok := c.Conn.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

func (c *conn) ResetSession(ctx context.Context) error {
	if s, ok := c.Conn.(driver.SessionResetter); ok {
		return s.ResetSession(ctx)
	}
	return nil
}

func (c *conn) IsValid() bool {
	if v, ok := c.Conn.(driver.Validator); ok {
		return v.IsValid()
	}
	return true
}

type tx struct {
	driver.Tx
	r *Recorder
}

func (t tx) Commit() error {
	t.r.add(Event{Kind: "commit"})
	return t.Tx.Commit()
}

func (t tx) Rollback() error {
	t.r.add(Event{Kind: "rollback"})
	return t.Tx.Rollback()
}

type stmt struct {
	driver.Stmt
	query string
	r     *Recorder
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	e, ok := s.Stmt.(driver.StmtExecContext)
	if !ok {
		return nil, fmt.Errorf("sqlspy: the driver's statements have no ExecContext")
	}
	s.r.add(Event{"exec", s.query, values(args)})
	return e.ExecContext(ctx, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	q, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, fmt.Errorf("sqlspy: the driver's statements have no QueryContext")
	}
	s.r.add(Event{"query", s.query, values(args)})
	rows, err := q.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	return &spiedRows{rows, s.r}, nil
}
