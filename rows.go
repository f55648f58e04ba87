// rows.go owns rows that are opened on their way from the connection to whoever scans them: a DTO, a map, a single column, rows in the
// application's own hands. They come out of a driver of their own, without the columns that only the opening needs.

package rowseal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// pageRows is how many rows of Rows are read before they are opened together.
const pageRows = 512

// source says what one column of a result is.
type source struct {
	part   int // in projection.parts; -1 for a column that is passed on as it is
	column *schema.Field
	sealed *row.Field
	key    *row.Group
	named  bool // the text names it, rather than a star
	drop   bool // nobody takes it
}

var passedOn = source{part: -1}

// opening is one result on its way.
type opening struct {
	*projection
	ctx     context.Context
	rows    *sql.Rows
	look    *look
	names   []string // without the added columns
	types   []*sql.ColumnType
	slots   []source         // with them
	page    [][]driver.Value // opened
	at      int
	rest    *page // read, and not opened yet
	drained bool
}

// page is rows that are opened together.
type page struct {
	epoch   *row.Epoch
	values  [][]driver.Value
	targets []row.Target // for each row, one for each part
}

// query runs a projection's statement and gives its rows opened: at once with the result set closed, or page by page where the application
// reads them itself.
func (l *look) query(ctx context.Context, p *projection, args []any) memory {
	rows, err := l.ConnPool.QueryContext(ctx, p.text, args...)
	if err != nil {
		return memory{err: l.checked(p.text, err)}
	}
	o := &opening{projection: p, ctx: ctx, rows: rows, look: l}
	if err = o.describe(); err == nil {
		err = o.begin()
	}
	if err != nil {
		if closing := o.Close(); closing != nil {
			err = errors.Join(err, closing)
		}
		return memory{err: err}
	}
	p.shown = o
	return memory{rows: o}
}

// describe finds each column of the result among those that the text names.
func (o *opening) describe() error {
	names, err := o.rows.Columns()
	if err != nil {
		return err
	}
	visible := len(names) - len(o.added)
	for i := range o.added {
		// What SQLite gives back may be the result of a comment behind the query.
		if visible < 0 || !strings.EqualFold(names[visible+i], addedName(i)) {
			return fmt.Errorf("rowseal: read %s: %w; its result lacks the columns that were added to it; write one plain query, with nothing behind it",
				o.parts[0].model.Plan.Schema.Name, ErrUnsupported)
		}
	}
	if o.types, err = o.rows.ColumnTypes(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, written := range names[:visible] {
		name := strings.ToLower(written)
		s, claimed := o.claims[name]
		switch {
		case !claimed:
			s = passedOn
		case seen[name]:
			return o.refuse(s, fmt.Sprintf("two columns of the result are called %q; give each a name of its own", name))
		case s.sealed != nil && visible > 1 && o.dest != nil && o.dest.LookUpField(written) == nil && !strings.Contains(name, "__"):
			s = source{part: -1, drop: true} // GORM would scan it into nothing
		}
		seen[name] = true
		o.slots = append(o.slots, s)
	}
	for name, s := range o.claims {
		if s.sealed != nil && s.named && !seen[name] {
			return o.refuse(s, fmt.Sprintf("the result has no column %q, so it came under another name; give it a short one", name))
		}
	}
	o.names, o.slots = names[:visible], append(o.slots, o.added...)
	return nil
}

// begin reads and opens what is opened before anybody asks for a row.
func (o *opening) begin() error {
	switch o.reach {
	case paged:
		return nil
	case first:
		return o.fill(1, true)
	case whole:
		return o.fill(0, true)
	}
	// Scan wants all rows or the first one, and does not say which: the first is opened alone.
	one, err := o.read(1)
	if err != nil {
		return err
	}
	if !o.drained {
		if o.rest, err = o.read(0); err != nil {
			return err
		}
	}
	return o.open(one)
}

// Columns is part of driver.Rows.
func (o *opening) Columns() []string { return o.names }

// Close is part of driver.Rows.
func (o *opening) Close() error {
	if o.drained {
		return nil
	}
	o.drained = true
	return o.rows.Close()
}

// Next is part of driver.Rows.
func (o *opening) Next(dest []driver.Value) error {
	for o.at == len(o.page) {
		var err error
		switch {
		case o.rest != nil:
			rest := o.rest
			o.rest = nil
			err = o.open(rest)
		case o.drained:
			return io.EOF
		case len(o.parts) == 0:
			err = o.fill(1, false) // nothing to open
		default:
			err = o.fill(pageRows, false)
		}
		if err != nil {
			return err
		}
	}
	copy(dest, o.page[o.at])
	o.at++
	return nil
}

// raw takes what the driver has, by copy.
type raw struct{ value driver.Value }

// Scan is part of sql.Scanner.
func (r *raw) Scan(src any) error {
	if b, ok := src.([]byte); ok {
		src = append(make([]byte, 0, len(b)), b...)
	}
	r.value = src
	return nil
}

// fill reads up to limit rows, all of them for 0, and opens them together; last says that no more are wanted.
func (o *opening) fill(limit int, last bool) error {
	p, err := o.read(limit)
	if err == nil && last {
		err = o.Close()
	}
	if err != nil {
		return err
	}
	return o.open(p)
}

// read reads up to limit rows, and closes the result set behind the last one.
func (o *opening) read(limit int) (*page, error) {
	p := &page{epoch: &row.Epoch{Context: o.ctx}}
	for limit == 0 || len(p.values) < limit {
		if !o.rows.Next() {
			return p, errors.Join(o.look.checked(o.text, o.rows.Err()), o.Close())
		}
		values, targets, err := o.scan(p.epoch)
		if err != nil {
			return nil, err
		}
		p.values, p.targets = append(p.values, values), append(p.targets, targets...)
	}
	return p, nil
}

// open makes rows ready for whoever scans them.
func (o *opening) open(p *page) error {
	var err error
	if o.sealed {
		err = p.epoch.Leave(p.targets) // nothing but Secrets
	} else {
		err = p.epoch.Reveal(o.ctx, o.plugin.config.MaxCalls, p.targets)
	}
	if err != nil {
		return err
	}
	for i, values := range p.values {
		targets := p.targets[i*len(o.parts) : (i+1)*len(o.parts)]
		for n, t := range targets {
			for _, h := range o.look.sought {
				if o.sealed || t.Model != h.model || !strings.EqualFold(bareName(o.parts[n].from), bareName(h.table)) {
					continue
				}
				if _, err := h.holds(t.Value); err != nil {
					return err
				}
			}
		}
		for at, s := range o.slots[:len(values)] {
			switch {
			case s.sealed != nil:
				if values[at], err = row.Opened(s.sealed, targets[s.part].Value, o.marks); err != nil {
					return err
				}
			case s.key != nil && (o.marks != row.Unmarked || o.maps):
				values[at] = row.KeyOf(s.key, targets[s.part].Value)
			}
		}
	}
	o.page, o.at = p.values, 0
	return nil
}

// holdsBytes reports a plain column of bytes in some model. One hash in 65,536 begins as a sealed field does.
func (p *Plugin) holdsBytes(column string) bool {
	for _, m := range p.tables {
		f := part{model: m}.field(column)
		if f == nil || m.Plan.Lookup(f.DBName) != nil {
			continue
		}
		if t := f.IndirectFieldType; (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8 {
			return true
		}
	}
	return false
}

// model is for errors, with a space before it.
func (o *opening) model() string {
	if len(o.parts) == 0 {
		return ""
	}
	return " " + o.parts[0].model.Plan.Schema.Name
}

// scan reads one row twice: as it is, and into a struct for each table that has something to open.
func (o *opening) scan(ctx context.Context) ([]driver.Value, []row.Target, error) {
	plain, typed := make([]any, len(o.slots)), make([]any, len(o.slots))
	cells := make([]raw, len(o.slots))
	for i, s := range o.slots {
		plain[i], typed[i] = &cells[i], new(raw)
		if s.part >= 0 {
			typed[i] = s.column.NewValuePool.Get()
		}
	}
	if err := errors.Join(o.rows.Scan(plain...), o.rows.Scan(typed...)); err != nil {
		return nil, nil, err
	}
	targets := make([]row.Target, len(o.parts))
	for i, p := range o.parts {
		targets[i] = row.Target{Model: p.model, Value: reflect.New(p.model.Plan.Schema.ModelType).Elem()}
	}
	values := make([]driver.Value, len(o.names))
	for i, s := range o.slots {
		if i < len(values) {
			values[i] = cells[i].value
		}
		if s.drop {
			values[i] = nil
		}
		if s.part < 0 {
			// The text said that this is no sealed column. Should the text be read wrongly, the value tells.
			if !s.drop && row.LooksSealed(values[i]) && !o.plugin.holdsBytes(o.names[i]) {
				return nil, nil, fmt.Errorf("rowseal: read%s, column %s: %w; it holds a sealed value, and the text does not say whose; write a plainer query",
					o.model(), o.names[i], ErrUnsupported)
			}
			continue
		}
		for at, other := range o.slots[:i] {
			if same := other.part == s.part && other.column == s.column; same && !reflect.DeepEqual(cells[at].value, cells[i].value) {
				return nil, nil, o.refuse(s, "the text takes two different columns of the result for it; give each table an alias that is no table's name")
			}
		}
		if err := s.column.Set(ctx, targets[s.part].Value, typed[i]); err != nil {
			return nil, nil, err
		}
		s.column.NewValuePool.Put(typed[i])
	}
	return values, targets, nil
}

// What a driver tells of its columns.

// ColumnTypeScanType is part of driver.RowsColumnTypeScanType. GORM scans into maps by it.
func (o *opening) ColumnTypeScanType(i int) reflect.Type {
	switch s := o.slots[i]; {
	case s.sealed != nil && o.marks != row.Unmarked:
		return s.sealed.ScanType()
	case s.sealed != nil:
		return s.column.FieldType
	case s.key != nil && (o.marks != row.Unmarked || o.maps):
		return reflect.TypeFor[row.MapKey]()
	}
	return o.types[i].ScanType()
}

// ColumnTypeDatabaseTypeName is part of driver.RowsColumnTypeDatabaseTypeName.
func (o *opening) ColumnTypeDatabaseTypeName(i int) string { return o.types[i].DatabaseTypeName() }

// ColumnTypeNullable is part of driver.RowsColumnTypeNullable.
func (o *opening) ColumnTypeNullable(i int) (nullable, ok bool) { return o.types[i].Nullable() }

// ColumnTypeLength is part of driver.RowsColumnTypeLength.
func (o *opening) ColumnTypeLength(i int) (length int64, ok bool) { return o.types[i].Length() }

// ColumnTypePrecisionScale is part of driver.RowsColumnTypePrecisionScale.
func (o *opening) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return o.types[i].DecimalSize()
}

// memory is a database that has one result. The statement ran before: database/sql would run it again where a driver says that its
// connection was bad.
type memory struct {
	rows driver.Rows
	err  error
}

// open gives the rows. They stay when the database is closed: nothing of it lives longer than they do.
func (m memory) open(ctx context.Context) (*sql.Rows, error) {
	db := sql.OpenDB(m)
	defer db.Close()
	rows, err := db.QueryContext(ctx, "")
	return rows, m.taken(err)
}

func (m memory) openRow(ctx context.Context) *sql.Row {
	db := sql.OpenDB(m)
	defer db.Close()
	row := db.QueryRowContext(ctx, "")
	_ = m.taken(row.Err())
	return row
}

// taken closes rows that were not handed on, since the context had ended.
func (m memory) taken(err error) error {
	if err != nil && m.err == nil {
		_ = m.rows.Close()
	}
	return err
}

// Connect is part of driver.Connector.
func (m memory) Connect(context.Context) (driver.Conn, error) { return memoryConn{m}, nil }

// Driver is part of driver.Connector.
func (m memory) Driver() driver.Driver { return nil }

type memoryConn struct{ memory }

var errMemory = errors.New("rowseal: internal error: rows in memory take no statement")

func (memoryConn) Prepare(string) (driver.Stmt, error) { return nil, errMemory }
func (memoryConn) Begin() (driver.Tx, error)           { return nil, errMemory }
func (memoryConn) Close() error                        { return nil }

// QueryContext is part of driver.QueryerContext.
func (c memoryConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return c.rows, c.err
}
