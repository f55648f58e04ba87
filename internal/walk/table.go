// table.go owns the SQL on the table that is walked: pages by key, and one UPDATE for a page, for each dialect.

package walk

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Dialect is a database's way to write what the walk needs.
type Dialect struct {
	Name  string              // "postgres", "mysql" or "sqlite", as GORM names them
	Quote func(string) string // of names of tables and columns
}

// Check refuses databases that no walk is written for.
func (d Dialect) Check() error {
	switch d.Name {
	case "postgres", "mysql", "sqlite":
		return nil
	}
	return fmt.Errorf("walk: no way to walk tables of a %q database; postgres, mysql and sqlite can be", d.Name)
}

// rebind writes ? as the dialect does, but for those in quoted names.
func (d Dialect) rebind(query string) string {
	if d.Name != "postgres" {
		return query
	}
	var b strings.Builder
	n, quoted := 0, false
	for _, r := range query {
		if r == '"' {
			quoted = !quoted
		}
		if r == '?' && !quoted {
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// now is the database's clock in milliseconds since 1970: leases are compared by one clock, whatever those of the processes say.
func (d Dialect) now() string {
	switch d.Name {
	case "postgres":
		return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
	case "mysql":
		// In UTC: local time has an hour twice a year that comes again. It is the time at which the statement began, so a lease that is taken by it is
		// rather too short than too long.
		return "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
	}
	return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
}

// Table is what is walked.
type Table struct {
	Name string   // as it is written in SQL
	Key  []string // columns of the primary key, in its order
	Pins []string // columns that must be what they were when the row was read, for a change to be stored
}

// exactly is text as bytes, which no collation takes for equal to others.
func (d Dialect) exactly(text string) string {
	if d.Name == "mysql" {
		return "CAST(CONVERT(" + text + " USING utf8mb4) AS BINARY)"
	}
	return text
}

// pin writes columns as one text, of whatever types they are, NULL apart from everything else. It is read with the row and compared when the row is
// changed: by the database with itself, so that no driver's idea of a value comes between. prefix is a table's alias, "" for none.
func (d Dialect) pin(prefix string, columns []string) string {
	each := make([]string, len(columns))
	for i, c := range columns {
		c = prefix + d.Quote(c)
		switch d.Name {
		case "postgres":
			each[i] = c
		case "mysql":
			each[i] = "COALESCE(HEX(CAST(" + c + " AS BINARY)), '-')"
		default:
			each[i] = "typeof(" + c + ") || hex(" + c + ")"
		}
	}
	switch d.Name {
	case "postgres":
		return "CAST(ROW(" + strings.Join(each, ", ") + ") AS text)"
	case "mysql":
		return "CONCAT_WS(',', " + strings.Join(each, ", ") + ")"
	}
	return "(" + strings.Join(each, " || ',' || ") + ")"
}

// Execer is a pool or a transaction.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// after is the condition that a row comes behind k, or not behind it where last is set.
func (t Table) after(d Dialect, k Key, last bool) (string, []any) {
	op := ">"
	if last {
		op = "<="
	}
	args := make([]any, len(k))
	for i, v := range k {
		args[i] = v
	}
	if len(k) == 1 {
		return d.Quote(t.Key[0]) + " " + op + " ?", args
	}
	if d.Name != "mysql" {
		return "(" + t.columns(d) + ") " + op + " (" + strings.Repeat("?, ", len(k)-1) + "?)", args
	}
	// MySQL does not use an index for row values everywhere. a > x OR (a = x AND (b > y …)), and its opposite.
	strict := op[:1]
	var cond string
	args = nil
	for i := len(k) - 1; i >= 0; i-- {
		column := d.Quote(t.Key[i])
		if i == len(k)-1 {
			cond = column + " " + op + " ?"
			args = []any{k[i]}
			continue
		}
		cond = column + " " + strict + " ? OR (" + column + " = ? AND (" + cond + "))"
		args = append([]any{k[i], k[i]}, args...)
	}
	return "(" + cond + ")", args
}

func (t Table) columns(d Dialect) string {
	quoted := make([]string, len(t.Key))
	for i, c := range t.Key {
		quoted[i] = d.Quote(c)
	}
	return strings.Join(quoted, ", ")
}

// Between is the condition for an interval: behind lo, up to and with hi. nil is no bound.
func (t Table) Between(d Dialect, lo, hi Key) (string, []any) {
	var conds []string
	var args []any
	for i, k := range []Key{lo, hi} {
		if k == nil {
			continue
		}
		cond, a := t.after(d, k, i == 1)
		conds, args = append(conds, cond), append(args, a...)
	}
	if len(conds) == 0 {
		return "1 = 1", nil
	}
	return strings.Join(conds, " AND "), args
}

// Reader scans a row: its primary key, and what the task needs of it.
type Reader func(ctx context.Context, scan func(dest ...any) error) (Key, any, error)

// lines are rows that were read.
type lines struct {
	keys []Key
	rows []any
	pins []string // what [Dialect.pin] gave for each; "" where nothing is pinned
}

// page reads at most limit rows of an interval, in order. The result set is closed when it returns.
func (t Table) page(ctx context.Context, db Execer, d Dialect, columns []string, lo, hi Key, limit int, read Reader) (lines, error) {
	where, args := t.Between(d, lo, hi)
	// ORDER BY names the columns of the table, which the select list must not rename: an alias of the same name would be sorted by.
	query := "SELECT " + t.columns(d) + list(d, columns) + t.pinned(d) + " FROM " + t.Name + " WHERE " + where + " ORDER BY " + t.columns(d) + fmt.Sprintf(" LIMIT %d", limit)
	return collect(ctx, db, d.rebind(query), args, read, len(t.Pins) > 0)
}

func (t Table) pinned(d Dialect) string {
	if len(t.Pins) == 0 {
		return ""
	}
	return ", " + d.pin("", t.Pins) + " AS rowseal_pin"
}

func list(d Dialect, columns []string) string {
	var b strings.Builder
	for _, c := range columns {
		b.WriteString(", " + d.Quote(c))
	}
	return b.String()
}

// collect reads all that a query finds. With pinned, its last column is the pin.
func collect(ctx context.Context, db Execer, query string, args []any, read Reader, pinned bool) (out lines, err error) {
	found, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return lines{}, err
	}
	defer found.Close()
	for found.Next() {
		var pin string
		scan := found.Scan
		if pinned {
			scan = func(dest ...any) error { return found.Scan(append(dest, &pin)...) }
		}
		key, row, err := read(ctx, scan)
		if err != nil {
			return lines{}, err
		}
		out.keys, out.rows, out.pins = append(out.keys, key), append(out.rows, row), append(out.pins, pin)
	}
	if err := found.Err(); err != nil {
		return lines{}, err
	}
	return out, found.Close()
}

// single reads one row by its key, if it is there.
func (t Table) single(ctx context.Context, db Execer, d Dialect, columns []string, k Key, read Reader) (row any, pin string, ok bool, err error) {
	conds, args := make([]string, len(k)), make([]any, len(k))
	for i, v := range k {
		conds[i], args[i] = d.Quote(t.Key[i])+" = ?", v
	}
	query := "SELECT " + t.columns(d) + list(d, columns) + t.pinned(d) + " FROM " + t.Name + " WHERE " + strings.Join(conds, " AND ")
	found, err := collect(ctx, db, d.rebind(query), args, read, len(t.Pins) > 0)
	if err != nil || len(found.rows) == 0 {
		return nil, "", false, err
	}
	return found.rows[0], found.pins[0], true, nil
}

// boundary is the key of the row that is size rows behind lo; nil where there are fewer.
func (t Table) boundary(ctx context.Context, db Execer, d Dialect, lo Key, size int, read Reader) (Key, error) {
	where, args := t.Between(d, lo, nil)
	query := "SELECT " + t.columns(d) + " FROM " + t.Name + " WHERE " + where + " ORDER BY " + t.columns(d) + fmt.Sprintf(" LIMIT 1 OFFSET %d", size-1)
	found, err := collect(ctx, db, d.rebind(query), args, read, false)
	if err != nil || len(found.keys) == 0 {
		return nil, err
	}
	return found.keys[0], nil
}

// Change is the new text of one column of one row, and the old one that it must still have.
type Change struct {
	Key      Key
	Column   int // among the columns that the task changes
	Old, New string
	pin      string // what the pinned columns were

	// Where a task writes columns beside others: what the other column holds, as it was read, and the bytes to write. nil is NULL.
	Beside any
	Bytes  []byte
}

// types is what the database calls the types of a table's primary key and changed columns, for the parameters of [Table.store].
type types struct {
	key, changed []string
	prefix       string // of the UPDATE: MariaDB's way to wait for locks no longer than a second
}

// look asks the database for the types of columns, which the statement for a page has to name. It fails where a column is not there.
func (t Table) look(ctx context.Context, db Execer, d Dialect, bare, schema string, changed []string) (types, error) {
	var out types
	if d.Name == "sqlite" {
		return types{key: make([]string, len(t.Key)), changed: make([]string, len(changed))}, nil
	}
	if d.Name == "postgres" {
		// Rows that a policy hides are rows that nobody would hear of.
		var hides bool
		err := db.QueryRowContext(ctx, `SELECT COALESCE(row_security_active(to_regclass($1)), false)`, t.Name).Scan(&hides)
		if err != nil {
			return out, err
		}
		if hides {
			return out, fmt.Errorf("walk: row-level security of table %s may hide rows from this database user; take one that owns the table or has BYPASSRLS", t.Name)
		}
	}
	if d.Name == "mysql" {
		var version string
		if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return out, err
		}
		if strings.Contains(version, "MariaDB") {
			out.prefix = "SET STATEMENT innodb_lock_wait_timeout=1 FOR "
		}
	}
	for i, c := range append(append([]string(nil), t.Key...), changed...) {
		var name string
		var err error
		switch d.Name {
		case "postgres":
			err = db.QueryRowContext(ctx, `SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped`, t.Name, c).Scan(&name)
		case "mysql":
			var kind string
			var charset, collation sql.NullString
			args := []any{bare, c}
			where := "table_schema = database()"
			if schema != "" {
				where, args = "table_schema = ?", []any{schema, bare, c}
			}
			err = db.QueryRowContext(ctx, "SELECT column_type, character_set_name, collation_name FROM information_schema.columns WHERE "+where+" AND table_name = ? AND column_name = ?", args...).Scan(&kind, &charset, &collation)
			name = mysqlType(kind, charset.String, collation.String)
		}
		if errors.Is(err, sql.ErrNoRows) {
			return out, fmt.Errorf("walk: table %s has no column %q", t.Name, c)
		}
		if err != nil {
			return out, err
		}
		if i < len(t.Key) {
			out.key = append(out.key, name)
		} else {
			out.changed = append(out.changed, name)
		}
	}
	return out, nil
}

// mysqlType is a column of JSON_TABLE that compares with a table's column as that compares with itself. Bytes come in hexadecimal.
func mysqlType(kind, charset, collation string) string {
	switch {
	case charset != "":
		return fmt.Sprintf("VARCHAR(768) CHARACTER SET %s COLLATE %s", charset, collation)
	case strings.Contains(kind, "binary"), strings.Contains(kind, "blob"):
		return "" // hex
	case strings.Contains(kind, "int"):
		if strings.Contains(kind, "unsigned") {
			return "BIGINT UNSIGNED"
		}
		return "BIGINT"
	}
	return kind
}

// store writes one column of many rows in one statement, each where the old text still stands and the pinned columns are what they were, and gives the
// positions of those that were not written: another writer was faster, or deleted the row. With busy, rows that others hold are not waited for.
func (t Table) store(ctx context.Context, db Execer, d Dialect, ty types, column string, changes []Change, busy bool) (missed []int, err error) {
	var n int
	var done map[int]bool
	switch {
	case t.awkward(d, ty, changes):
		return t.storeEach(ctx, db, d, column, changes)
	case d.Name == "postgres":
		n, done, err = t.storePostgres(ctx, db, d, ty, column, changes, busy)
	case d.Name == "mysql":
		n, done, err = t.storeMySQL(ctx, db, d, ty, column, changes)
	default:
		n, done, err = t.storeSQLite(ctx, db, d, column, changes)
	}
	if err != nil || n == len(changes) {
		return nil, err
	}
	for i := range changes {
		if !done[i] {
			missed = append(missed, i)
		}
	}
	return missed, nil
}

// longestText is the length of text and bytes that a page of MySQL has room for.
const longestText = 768

// awkward reports a page with primary keys that its JSON does not carry as they are.
func (t Table) awkward(d Dialect, ty types, changes []Change) bool {
	if d.Name == "postgres" {
		return false
	}
	for _, c := range changes {
		for i, v := range c.Key {
			switch v := v.(type) {
			case string:
				if !utf8.ValidString(v) || strings.Contains(v, "\x00") || d.Name == "mysql" && (len(v) > longestText || ty.key[i] == "") {
					return true
				}
			case []byte:
				if d.Name == "mysql" && len(v) > longestText {
					return true
				}
			case time.Time, float64:
				return true
			}
		}
	}
	return false
}

// storeEach is store with a statement for each row, for what no other form does.
func (t Table) storeEach(ctx context.Context, db Execer, d Dialect, column string, changes []Change) (missed []int, err error) {
	var conds []string
	for _, c := range t.Key {
		conds = append(conds, d.Quote(c)+" = ?")
	}
	conds = append(conds, d.exactly(d.Quote(column))+" = "+d.exactly("?"))
	if len(t.Pins) > 0 {
		conds = append(conds, d.exactly(d.pin("", t.Pins))+" = "+d.exactly("?"))
	}
	query := d.rebind(fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s", t.Name, d.Quote(column), strings.Join(conds, " AND ")))
	for i, c := range changes {
		args := []any{c.New}
		for _, v := range c.Key {
			args = append(args, v)
		}
		args = append(args, c.Old)
		if len(t.Pins) > 0 {
			args = append(args, c.pin)
		}
		result, err := db.ExecContext(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		switch n, err := result.RowsAffected(); {
		case err != nil:
			return nil, err
		case n == 0:
			missed = append(missed, i)
		}
	}
	return missed, nil
}

// storeBeside writes bytes of one column for each row where the column beside it still is what was read, and gives the changes of rows where it is not, or which
// somebody else holds, and with how.careful those that a unique index refused.
func (t Table) storeBeside(ctx context.Context, db Execer, d Dialect, ty types, column, beside string, changes []Change, how storing) (missed, refused []Change, err error) {
	for _, c := range changes {
		var conds []string
		var args []any
		for i, v := range c.Key {
			conds, args = append(conds, d.Quote(t.Key[i])+" = ?"), append(args, v)
		}
		switch v := c.Beside.(type) {
		case nil:
			conds = append(conds, d.Quote(beside)+" IS NULL")
		case string:
			conds, args = append(conds, d.exactly(d.Quote(beside))+" = "+d.exactly("?")), append(args, v)
		default:
			conds, args = append(conds, d.Quote(beside)+" = ?"), append(args, v)
		}
		where := " WHERE " + strings.Join(conds, " AND ")
		if how.busy && d.Name == "postgres" || d.Name == "mysql" { // which has no way to wait for a shorter while
			lock := " FOR UPDATE SKIP LOCKED"
			if d.Name == "postgres" {
				lock = " FOR NO KEY UPDATE SKIP LOCKED"
			}
			var one int
			err := db.QueryRowContext(ctx, d.rebind("SELECT 1 FROM "+t.Name+where+lock), args...).Scan(&one)
			if errors.Is(err, sql.ErrNoRows) {
				missed = append(missed, c)
				continue
			}
			if err != nil {
				return nil, nil, err
			}
		}
		if how.careful {
			if _, err := db.ExecContext(ctx, "SAVEPOINT rowseal_row"); err != nil {
				return nil, nil, err
			}
		}
		var value any
		if c.Bytes != nil {
			value = c.Bytes
		}
		result, err := db.ExecContext(ctx, d.rebind(ty.prefix+"UPDATE "+t.Name+" SET "+d.Quote(column)+" = ?"+where), append([]any{value}, args...)...)
		if how.careful && duplicated(err) {
			if _, err := db.ExecContext(ctx, "ROLLBACK TO SAVEPOINT rowseal_row"); err != nil {
				return nil, nil, err
			}
			refused = append(refused, c)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if how.careful {
			if _, err := db.ExecContext(ctx, "RELEASE SAVEPOINT rowseal_row"); err != nil {
				return nil, nil, err
			}
		}
		switch n, err := result.RowsAffected(); {
		case err != nil:
			return nil, nil, err
		case n == 0:
			missed = append(missed, c)
		}
	}
	return missed, refused, nil
}

// clearBeside takes out what columns hold, of rows where the column beside it still is what was read: unique indexes whose entries are to change places.
func (t Table) clearBeside(ctx context.Context, db Execer, d Dialect, ty types, column, beside string, changes []Change) error {
	empty := slices.Clone(changes)
	for i := range empty {
		empty[i].Bytes = nil
	}
	_, _, err := t.storeBeside(ctx, db, d, ty, column, beside, empty, storing{})
	return err
}

// storePostgres passes arrays as text, which every driver takes, and has the database give them their types.
func (t Table) storePostgres(ctx context.Context, db Execer, d Dialect, ty types, column string, changes []Change, busy bool) (int, map[int]bool, error) {
	texts := 2 // old and new
	if len(t.Pins) > 0 {
		texts = 3
	}
	arrays := make([]strings.Builder, len(t.Key)+texts)
	for i := range arrays {
		size := 24
		if text := i - len(t.Key); text >= 0 && len(changes) > 0 {
			size = len([]string{changes[0].Old, changes[0].New, changes[0].pin}[text]) + 24
		}
		arrays[i].Grow(len(changes) * size) // envelopes of a table are about as long as each other
	}
	for i, c := range changes {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		for k, v := range c.Key {
			arrays[k].WriteByte(sep)
			arrayElement(&arrays[k], v)
		}
		for k, v := range []string{c.Old, c.New, c.pin}[:texts] {
			arrays[len(t.Key)+k].WriteByte(sep)
			arrayText(&arrays[len(t.Key)+k], v)
		}
	}
	args := make([]any, len(arrays))
	for i := range arrays {
		arrays[i].WriteByte('}')
		args[i] = arrays[i].String()
	}
	var casts, names, match []string
	for i, c := range t.Key {
		casts, names = append(casts, fmt.Sprintf("CAST($%d AS %s[])", i+1, ty.key[i])), append(names, fmt.Sprintf("k%d", i))
		match = append(match, fmt.Sprintf("t.%s = v.k%d", d.Quote(c), i))
	}
	for i, name := range []string{"old", "new", "pin"}[:texts] {
		casts, names = append(casts, fmt.Sprintf("CAST($%d AS text[])", len(t.Key)+i+1)), append(names, name)
	}
	same := strings.Join(match, " AND ")
	match = append(match, fmt.Sprintf("t.%s = v.old", d.Quote(column)))
	if len(t.Pins) > 0 {
		match = append(match, d.pin("t.", t.Pins)+" = v.pin")
	}
	still := strings.Join(match, " AND ")
	page := fmt.Sprintf("unnest(%s) WITH ORDINALITY AS v(%s, n)", strings.Join(casts, ", "), strings.Join(names, ", "))
	if busy {
		// A row that somebody holds is left for later: to wait for it would keep all others of the page from everyone.
		return positions(ctx, db, fmt.Sprintf(`WITH rowseal_page AS (SELECT * FROM %s),
			rowseal_free AS (SELECT v.n FROM %s AS t JOIN rowseal_page AS v ON %s FOR NO KEY UPDATE OF t SKIP LOCKED)
			UPDATE %s AS t SET %s = v.new FROM rowseal_page AS v JOIN rowseal_free AS free ON free.n = v.n WHERE %s RETURNING v.n - 1`,
			page, t.Name, still, t.Name, d.Quote(column), still), args)
	}
	result, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE %s AS t SET %s = v.new FROM %s WHERE %s", t.Name, d.Quote(column), page, still), args...)
	if err != nil {
		return 0, nil, err
	}
	affected, err := result.RowsAffected()
	if err != nil || int(affected) == len(changes) {
		return int(affected), nil, err
	}
	// It does not say which. What it wrote nobody else could have: no two wraps are alike.
	return positions(ctx, db, fmt.Sprintf("SELECT v.n - 1 FROM %s JOIN %s AS t ON %s WHERE t.%s = v.new", page, t.Name, same, d.Quote(column)), args)
}

func arrayElement(b *strings.Builder, v any) {
	switch v := v.(type) {
	case []byte:
		b.WriteString(`"\\x` + hex.EncodeToString(v) + `"`)
	case string:
		arrayText(b, v)
	case time.Time:
		b.WriteString(`"` + v.Format("2006-01-02 15:04:05.999999Z07:00") + `"`)
	default:
		fmt.Fprint(b, v)
	}
}

func arrayText(b *strings.Builder, s string) {
	b.WriteByte('"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		b.WriteByte('\\')
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	b.WriteString(s)
	b.WriteByte('"')
}

// storeSQLite passes one JSON text: the number of parameters is bounded.
func (t Table) storeSQLite(ctx context.Context, db Execer, d Dialect, column string, changes []Change) (int, map[int]bool, error) {
	doc, hexed, err := document(changes)
	if err != nil {
		return 0, nil, err
	}
	var names, match []string
	for i, c := range t.Key {
		value := fmt.Sprintf("json_extract(value, '$[%d]')", i)
		if hexed[i] {
			value = "unhex(" + value + ")"
		}
		names = append(names, fmt.Sprintf("%s AS k%d", value, i))
		match = append(match, fmt.Sprintf("t.%s = v.k%d", d.Quote(c), i))
	}
	k := len(t.Key)
	from := fmt.Sprintf("(SELECT key AS n, %s, json_extract(value, '$[%d]') AS old, json_extract(value, '$[%d]') AS new, json_extract(value, '$[%d]') AS pin FROM json_each(?)) AS v", strings.Join(names, ", "), k, k+1, k+2)
	on := strings.Join(match, " AND ")
	still := on
	if len(t.Pins) > 0 {
		still += " AND " + d.pin("t.", t.Pins) + " = v.pin"
	}
	result, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE %s AS t SET %s = v.new FROM %s WHERE %s AND t.%s = v.old", t.Name, d.Quote(column), from, still, d.Quote(column)), doc)
	if err != nil {
		return 0, nil, err
	}
	affected, err := result.RowsAffected()
	if err != nil || int(affected) == len(changes) {
		return int(affected), nil, err
	}
	// It does not say which, and RETURNING knows the table alone: those that have the new text now.
	return positions(ctx, db, fmt.Sprintf("SELECT v.n FROM %s JOIN %s AS t ON %s WHERE t.%s = v.new", from, t.Name, on, d.Quote(column)), []any{doc})
}

func positions(ctx context.Context, db Execer, query string, args []any) (int, map[int]bool, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	done := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return 0, nil, err
		}
		done[n] = true
	}
	if err := rows.Err(); err != nil {
		return 0, nil, err
	}
	return len(done), done, rows.Close()
}

// storeMySQL joins with one JSON text. done is nil where all were written.
func (t Table) storeMySQL(ctx context.Context, db Execer, d Dialect, ty types, column string, changes []Change) (n int, done map[int]bool, err error) {
	doc, hexed, err := document(changes)
	if err != nil {
		return 0, nil, err
	}
	var columns, match []string
	for i, c := range t.Key {
		kind, value := ty.key[i], fmt.Sprintf("v.k%d", i)
		if hexed[i] || kind == "" {
			kind, value = "VARCHAR(1536) CHARACTER SET ascii", "UNHEX("+value+")"
		}
		columns = append(columns, fmt.Sprintf("k%d %s PATH '$[%d]'", i, kind, i))
		match = append(match, fmt.Sprintf("t.%s = %s", d.Quote(c), value))
	}
	k := len(t.Key)
	columns = append(columns, fmt.Sprintf("old LONGTEXT CHARACTER SET utf8mb4 PATH '$[%d]'", k), fmt.Sprintf("new LONGTEXT CHARACTER SET utf8mb4 PATH '$[%d]'", k+1),
		fmt.Sprintf("pin LONGTEXT CHARACTER SET utf8mb4 PATH '$[%d]'", k+2))
	still := d.exactly("t."+d.Quote(column)) + " = CAST(v.old AS BINARY)"
	if len(t.Pins) > 0 {
		still += " AND " + d.exactly(d.pin("t.", t.Pins)) + " = CAST(v.pin AS BINARY)"
	}
	// A row that somebody holds is left for later: to wait for it would keep all others of the page from everyone.
	from := fmt.Sprintf("JSON_TABLE(?, '$[*]' COLUMNS (n FOR ORDINALITY, %s)) AS v", strings.Join(columns, ", "))
	n, free, err := positions(ctx, db, fmt.Sprintf("SELECT v.n FROM %s STRAIGHT_JOIN %s AS t ON %s WHERE %s FOR UPDATE SKIP LOCKED", from, t.Name, strings.Join(match, " AND "), still), []any{doc})
	if err != nil || n == 0 {
		return 0, nil, err
	}
	done = make(map[int]bool, n)
	own := make([]Change, 0, n)
	for i, c := range changes {
		if free[i+1] { // ordinality counts from 1
			done[i], own = true, append(own, c)
		}
	}
	if n < len(changes) {
		if doc, _, err = document(own); err != nil {
			return 0, nil, err
		}
	}
	query := ty.prefix + fmt.Sprintf("UPDATE %s AS t JOIN %s ON %s SET t.%s = v.new WHERE %s", t.Name, from, strings.Join(match, " AND "), d.Quote(column), still)
	result, err := db.ExecContext(ctx, query, doc)
	if err != nil {
		return 0, nil, err
	}
	affected, err := result.RowsAffected()
	if err != nil || int(affected) == n {
		return n, done, err
	}
	return 0, nil, fmt.Errorf("walk: internal error: %d rows of %d that are locked were written", affected, n)
}

// document is a page as JSON: arrays of key parts, old, new and pin. hexed says which parts are bytes, in hexadecimal.
func document(changes []Change) (doc string, hexed []bool, err error) {
	all := make([][]any, len(changes))
	for i, c := range changes {
		if hexed == nil {
			hexed = make([]bool, len(c.Key))
		}
		for k, v := range c.Key {
			if b, ok := v.([]byte); ok {
				hexed[k], v = true, hex.EncodeToString(b)
			}
			all[i] = append(all[i], v)
		}
		all[i] = append(all[i], c.Old, c.New, c.pin)
	}
	b, err := json.Marshal(all)
	return string(b), hexed, err
}
