// copy.go owns the bytes that go to the server: the binary form of COPY, and the text form where columns are the server's to read.

package pgcopy

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
)

// copied is one COPY. It reaches the connection as the argument of a statement: pgx hands the connection to an argument that rewrites
// its query. That is the one way that works for a *sql.Tx too, which keeps its connection to itself, and through drivers that are wrapped for
// tracing, which pass arguments on. See docs/decisions/0016-copy-behind-the-gate.md.
type copied struct {
	name     string
	columns  []clause.Column
	rows     [][]any // as the gate left them
	describe string

	done   bool
	stored int64
	err    error
}

// RewriteQuery runs the COPY. What it gives pgx to run in its place is empty.
func (c *copied) RewriteQuery(ctx context.Context, conn *pgx.Conn, query string, _ []any) (string, []any, error) {
	if c.done || c.err != nil {
		return "", nil, errors.New("pgcopy: internal error: a COPY is not run twice")
	}
	if c.err = c.run(ctx, conn, query); c.err != nil {
		return "", nil, c.err
	}
	c.done, c.rows = true, nil
	return "", nil, nil
}

// Value is what any other driver asks for.
func (c *copied) Value() (driver.Value, error) {
	return nil, fmt.Errorf("pgcopy: create %s: %w: COPY needs the driver pgx, which gorm.io/driver/postgres uses by itself", c.name, errRefused)
}

// Format prints no value, for whoever logs the arguments of statements.
func (c *copied) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "(rows of %s)", c.name)
}

func (c *copied) run(ctx context.Context, conn *pgx.Conn, query string) error {
	// Not from pgx's cache: with types of before an ALTER TABLE the server would misread the bytes. This lock keeps them.
	described, err := conn.Prepare(ctx, "", c.describe)
	if err != nil {
		return fmt.Errorf("pgcopy: create %s: look up the types of its columns: %w", c.name, err)
	}
	r := &reader{copied: c, types: conn.TypeMap(), oids: make([]uint32, len(c.columns))}
	for i, f := range described.Fields {
		r.oids[i] = f.DataTypeOID
		r.text = r.text || !c.binary(i, f.DataTypeOID)
	}
	if !r.text {
		r.buf = append(r.buf, "PGCOPY\n\377\r\n\000\000\000\000\000\000\000\000\000"...)
		query += " WITH (FORMAT binary)"
	}
	tag, err := conn.PgConn().CopyFrom(ctx, r, query)
	if err := r.stop(); err != nil {
		return err
	}
	if err != nil {
		return c.withoutValue(err)
	}
	c.stored = tag.RowsAffected()
	return nil
}

// binary reports whether pgx makes the bytes of all values of a column as the server would read them from text. Texts in other columns, enums, ranges, lists and types of
// extensions are the server's to read, as they are for an INSERT: one such column, and the rows are sent as text.
func (c *copied) binary(column int, oid uint32) bool {
	switch oid {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID, pgtype.ByteaOID, pgtype.UUIDOID, pgtype.JSONOID, pgtype.JSONBOID:
		return true
	case pgtype.BoolOID, pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float4OID, pgtype.Float8OID, pgtype.NumericOID,
		pgtype.TimestamptzOID, pgtype.TimestampOID, pgtype.DateOID:
		return !slices.ContainsFunc(c.rows, func(row []any) bool { return isText(row[column]) })
	}
	return false
}

func isText(v any) bool {
	switch v := v.(type) {
	case nil, int, int64, uint64, bool, float64, time.Time, driver.Valuer:
		return false
	case string, *string:
		return true
	default:
		t := reflect.TypeOf(v)
		return t.Kind() == reflect.String || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String
	}
}

// withoutValue is withoutRow for what the server could not read: its message quotes the value, and where that stood is in front of a colon.
func (c *copied) withoutValue(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || !strings.HasPrefix(pg.Code, "22") {
		return withoutRow(err)
	}
	stripped := *pg
	place, _, _ := strings.Cut(pg.Where, ":")
	stripped.Message = "a value does not fit its column (the message that quotes it is left out)"
	return fmt.Errorf("pgcopy: create %s: %s: %w", c.name, place, withoutRow(&stripped))
}

// withoutRow takes out of a server's error what it says of the row.
func withoutRow(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	stripped := *pg
	stripped.Detail, stripped.Where, stripped.InternalQuery = "", "", ""
	return &stripped
}

// reader makes the bytes as they are sent, in a goroutine of pgx's.
type reader struct {
	mu     sync.Mutex
	copied *copied
	types  *pgtype.Map
	oids   []uint32
	text   bool
	next   int    // row
	buf    []byte // of a row
	at     int    // what was read of buf
	ended  bool
	err    error
	field  []byte // scratch
}

// errGaveUp is what the server, and its log, are told.
var errGaveUp = errors.New("the client gave up")

// stop ends it, and gives what stopped it before. Where the connection breaks or the context ends, pgx does not wait for its goroutine, and the rows are the caller's again.
func (r *reader) stop() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	if err == nil {
		r.err = errGaveUp
	}
	return err
}

func (r *reader) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, errGaveUp
	}
	for n < len(p) {
		if r.at == len(r.buf) {
			if r.at, r.buf = 0, r.buf[:0]; !r.fill() {
				break
			}
		}
		read := copy(p[n:], r.buf[r.at:])
		r.at, n = r.at+read, n+read
	}
	switch {
	case r.err != nil:
		return 0, errGaveUp
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// fill makes the bytes of the next row, or those of the end. Row by row, since a buffer for many grows by doubling.
func (r *reader) fill() (more bool) {
	switch {
	case r.next < len(r.copied.rows):
		r.err = r.row(r.copied.rows[r.next])
		r.next++
		return r.err == nil
	case r.ended || r.text:
		return false
	}
	r.ended, r.buf = true, append(r.buf, 0xff, 0xff)
	return true
}

func (r *reader) row(values []any) (err error) {
	if !r.text {
		r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(len(values)))
	}
	for i, v := range values {
		if r.text {
			err = r.appendText(i, v)
		} else {
			err = r.appendBinary(i, v)
		}
		if err != nil {
			return fmt.Errorf("pgcopy: create %s, row %d, column %s: %w", r.copied.name, r.next, r.copied.columns[i].Name, err)
		}
	}
	if r.text {
		r.buf = append(r.buf, '\n')
	}
	return nil
}

// ours gives the bytes behind a value that the gate left. One that it did not seal is an error.
func ours(v any) (driver.Value, bool, error) {
	switch v.(type) {
	case *row.Value, *row.KeyValue, *row.IndexValue:
		plain, err := v.(driver.Valuer).Value()
		return plain, true, err
	}
	return v, false, nil
}

func (r *reader) appendBinary(i int, v any) error {
	v, _, err := ours(v)
	if err != nil {
		return err
	}
	start := len(r.buf)
	r.buf = append(r.buf, 0xff, 0xff, 0xff, 0xff) // the length; -1 is NULL
	oid := r.oids[i]
	switch plain := v.(type) {
	case nil:
		return nil
	case string:
		if oid == pgtype.TextOID || oid == pgtype.VarcharOID {
			r.buf = append(r.buf, plain...)
			binary.BigEndian.PutUint32(r.buf[start:], uint32(len(plain)))
			return nil
		}
	case []byte:
		if oid == pgtype.ByteaOID && plain != nil {
			r.buf = append(r.buf, plain...)
			binary.BigEndian.PutUint32(r.buf[start:], uint32(len(plain)))
			return nil
		}
	case int64:
		if oid == pgtype.Int8OID {
			r.appendInt8(start, uint64(plain))
			return nil
		}
	case uint64:
		if oid == pgtype.Int8OID && plain <= math.MaxInt64 {
			r.appendInt8(start, plain)
			return nil
		}
	}
	out, err := r.types.Encode(oid, pgtype.BinaryFormatCode, v, r.buf)
	if err != nil {
		out, err = r.throughText(oid, v)
	}
	if err != nil {
		return r.unfit(i, v)
	}
	if out != nil {
		binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-4))
		r.buf = out
	}
	return nil
}

func (r *reader) appendInt8(start int, bits uint64) {
	binary.BigEndian.PutUint32(r.buf[start:], 8)
	r.buf = binary.BigEndian.AppendUint64(r.buf, bits)
}

// throughText is for what speaks to drivers in text, as decimals do: the text is read as the column's type.
func (r *reader) throughText(oid uint32, v any) ([]byte, error) {
	text, err := r.types.Encode(oid, pgtype.TextFormatCode, v, r.field[:0])
	if err != nil {
		return nil, err
	}
	var parsed any
	if err := r.types.Scan(oid, pgtype.TextFormatCode, text, &parsed); err != nil {
		return nil, err
	}
	return r.types.Encode(oid, pgtype.BinaryFormatCode, parsed, r.buf)
}

// unfit is an error without the value: pgx's own quote it.
func (r *reader) unfit(i int, v any) error {
	kind := "a type of its own"
	if t, ok := r.types.TypeForOID(r.oids[i]); ok {
		kind = t.Name
	}
	if valuer, ok := v.(driver.Valuer); ok && (reflect.ValueOf(v).Kind() != reflect.Pointer || !reflect.ValueOf(v).IsNil()) {
		if _, err := valuer.Value(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: a %T has no form for %s; use a Go type that pgx encodes for it, register one with the connection's TypeMap, or use db.CreateInBatches", errRefused, v, kind)
}

func (r *reader) appendText(i int, v any) error {
	if i > 0 {
		r.buf = append(r.buf, '\t')
	}
	v, _, err := ours(v)
	if err != nil {
		return err
	}
	switch plain := v.(type) {
	case string:
		r.buf = appendEscaped(r.buf, plain)
		return nil
	case []byte:
		if r.oids[i] == pgtype.ByteaOID && plain != nil {
			r.buf = hex.AppendEncode(append(r.buf, `\\x`...), plain)
			return nil
		}
	}
	var out []byte
	if v != nil {
		if r.field == nil {
			r.field = make([]byte, 0, 64)
		}
		if out, err = r.types.Encode(r.oids[i], pgtype.TextFormatCode, v, r.field[:0]); err != nil {
			return r.unfit(i, v)
		}
	}
	if out == nil {
		r.buf = append(r.buf, `\N`...)
		return nil
	}
	r.field = out
	r.buf = appendEscaped(r.buf, out)
	return nil
}

func appendEscaped[T string | []byte](buf []byte, text T) []byte {
	for i := range len(text) {
		switch b := text[i]; b {
		case '\\':
			buf = append(buf, '\\', '\\')
		case '\n':
			buf = append(buf, '\\', 'n')
		case '\r':
			buf = append(buf, '\\', 'r')
		case '\t':
			buf = append(buf, '\\', 't')
		default:
			buf = append(buf, b)
		}
	}
	return buf
}
