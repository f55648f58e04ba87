// mysql.go owns what MySQL and MariaDB do otherwise, where a row's key could be lost by it:
//
//   - Text compares without regard to case, accents and trailing spaces. Keys, tokens and primary keys are compared as bytes.
//   - An upsert has no WHERE and no target: a conflict on any unique key updates the row that is there, whichever row that is.
//   - A transaction reads as of its first read, and writes what is there now. Where a write found no row, the row is read locked.
//   - Rows affected are those that changed, unless the connection asks for those that were found (clientFoundRows).

package rowseal

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

func isMySQL(db *gorm.DB) bool { return db.Name() == "mysql" }

// exact is a column, given quoted, as it is compared character for character, whatever its character set.
func exact(db *gorm.DB, quoted string) string {
	if isMySQL(db) {
		return "CAST(CONVERT(" + quoted + " USING utf8mb4) AS BINARY)"
	}
	return quoted
}

// bytewise is a text column or bind value, given quoted, as it is compared character for character, whatever the column's collation or type
// takes for equal.
func bytewise(db *gorm.DB, quoted string) string {
	switch db.Name() {
	case "postgres":
		return "convert_to(CAST(" + quoted + " AS text), 'UTF8')"
	case "sqlite":
		return "CAST(" + quoted + " AS blob)"
	case "mysql":
		return exact(db, quoted)
	default:
		return quoted
	}
}

// literally is the condition that a text column, given quoted, holds a bind value character for character.
func literally(db *gorm.DB, quoted string) string {
	switch db.Name() {
	case "postgres": // whose char(n) pads what it gives back
		return "(" + bytewise(db, quoted) + " = " + bytewise(db, "?") + " OR pg_typeof(" + quoted + ") = 'character'::regtype)"
	case "sqlite":
		return bytewise(db, quoted) + " = " + bytewise(db, "?")
	default:
		return bytewise(db, quoted) + " = ?"
	}
}

// locked makes a SELECT one that reads what is there now. The UPDATE that found no row holds the row's lock already.
func locked(db *gorm.DB, query string) string {
	if isMySQL(db) {
		return query + " FOR UPDATE"
	}
	return query
}

// identify is the condition that finds the row in v and no other. It keeps the comparison that an index serves.
func identify(stmt *gorm.Statement, m *row.Model, v reflect.Value) (where []string, args []any) {
	for _, f := range m.Plan.Schema.PrimaryFields {
		value, _ := f.ValueOf(stmt.Context, v)
		quoted := stmt.Quote(f.DBName)
		where, args = append(where, quoted+" = ?"), append(args, value)
		if row.Literal(f) {
			where, args = append(where, literally(stmt.DB, quoted)), append(args, value)
		}
	}
	return where, args
}

// onDuplicateKey makes an upsert leave alone every row but the one with the same primary key, and that one too if its key is not the one
// that was loaded. What it left alone is found by [confirm].
func onDuplicateKey(m *row.Model, conflict clause.OnConflict, stmt *gorm.Statement) clause.OnConflict {
	l := lookOf(stmt)
	c, creates := kept[creation](stmt.DB)
	if creates = creates && c.insert.Model == m; creates {
		c.replaced = nil
		c.keep()
	}
	if len(conflict.DoUpdates) == 0 {
		// What the dialect would make of DO NOTHING, with a column that is never a sealed one.
		id := clause.Column{Name: m.Plan.Schema.PrimaryFieldDBNames[0]}
		conflict.DoNothing, conflict.DoUpdates = false, []clause.Assignment{{Column: id, Value: id}}
		l.admit(m, columnName(id.Name))
		stmt.AddClause(conflict)
		return conflict
	}
	if !creates {
		return conflict
	}
	own := func(name string) string {
		return stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: name})
	}
	theirs := func(name string) string { return "VALUES(" + stmt.Quote(name) + ")" }
	if looked(stmt, m, conflict) {
		conflict = withKeys(m, conflict, stmt)
		if c.replaced = groupsOf(m, conflict); len(c.replaced) == 0 {
			c.replaced, c.leaves = m.Plan.Groups, true // no key is written, and each stands where its context does
		}
		return c.conditional(conflict, stmt, sameRow(m, conflict, stmt, theirs), nil)
	}
	var conditions []string
	var vars []any
	for _, f := range m.Plan.Schema.PrimaryFields {
		a, b := own(f.DBName), theirs(f.DBName)
		if row.Literal(f) {
			a, b = exact(stmt.DB, a), exact(stmt.DB, b)
		}
		conditions = append(conditions, a+" = "+b)
	}
	for _, g := range m.Plan.Groups {
		if !updates(conflict, g.Column.DBName) {
			continue
		}
		c.replaced = append(c.replaced, g)
		conditions = append(conditions, "("+own(g.Column.DBName)+" IS NULL OR "+own(g.Column.DBName)+" NOT LIKE '"+kmskey.ShreddedPrefix+"%')")
		texts := c.insert.Reused(g)
		if len(texts) == 0 {
			continue
		}
		a, b := exact(stmt.DB, own(g.Column.DBName)), exact(stmt.DB, theirs(g.Column.DBName))
		same := a + " = " + b
		if len(texts) < len(c.values) {
			same = "(" + same + " OR " + b + " NOT IN (?" + strings.Repeat(",?", len(texts)-1) + "))"
			vars = append(vars, texts...)
		}
		conditions = append(conditions, same)
	}
	if len(c.replaced) == 0 {
		c.ids = nil // it is the other row that is updated, on purpose
		return conflict
	}
	return c.conditional(conflict, stmt, conditions, vars)
}

// conditional gives every assignment the same condition: it holds before and after each of them, so that their order says nothing.
func (c *creation) conditional(conflict clause.OnConflict, stmt *gorm.Statement, conditions []string, vars []any) clause.OnConflict {
	l := lookOf(stmt)
	own := func(name string) string {
		return stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: name})
	}
	theirs := func(name string) string { return "VALUES(" + stmt.Quote(name) + ")" }
	condition := strings.Join(conditions, " AND ")
	conflict.DoUpdates = slices.Clone(conflict.DoUpdates)
	for i, a := range conflict.DoUpdates {
		from, excluded := a.Value.(clause.Column)
		if excluded = excluded && from.Table == "excluded"; excluded {
			text := "IF(" + condition + "," + theirs(from.Name) + "," + own(a.Column.Name) + ")"
			l.write(text, theirs(from.Name))
			conflict.DoUpdates[i].Value = clause.Expr{SQL: text, Vars: vars}
			continue
		}
		conflict.DoUpdates[i].Value = clause.Expr{SQL: "IF(" + condition + ",?," + own(a.Column.Name) + ")", Vars: append(slices.Clone(vars), a.Value)}
	}
	return conflict
}

// keep copies the primary keys of the rows.
func (c *creation) keep() {
	c.ids = nil
	for _, v := range c.values {
		for _, f := range c.insert.Model.Plan.Schema.PrimaryFields {
			id := reflect.New(f.FieldType).Elem()
			id.Set(f.ReflectValueOf(context.Background(), v))
			c.ids = append(c.ids, id)
		}
	}
}

// giveBack puts back the primary keys that RETURNING replaced by those of the rows that were in the way: MariaDB gives them.
func (c *creation) giveBack() {
	fields := c.insert.Model.Plan.Schema.PrimaryFields
	for i, id := range c.ids {
		if v := c.values[i/len(fields)]; !id.IsZero() {
			fields[i%len(fields)].ReflectValueOf(context.Background(), v).Set(id)
		}
	}
}

func updates(conflict clause.OnConflict, column string) bool {
	return slices.ContainsFunc(conflict.DoUpdates, func(a clause.Assignment) bool { return columnName(a.Column.Name) == columnName(column) })
}

// confirm makes sure that each row of an upsert stands in the table under the key that it brought: rows affected do not tell.
func confirm(db *gorm.DB, c *creation) error {
	stmt, m := db.Statement, c.insert.Model
	refuse := func(v reflect.Value, err error, advice string) error {
		return fmt.Errorf("rowseal: upsert %s: %w; %s", m.Describe(v), err, advice)
	}
	for first := 0; first < len(c.values); first += settleBatch {
		batch := c.values[first:min(first+settleBatch, len(c.values))]
		stored, err := storedKeys(stmt, c, c.replaced, first, batch)
		if err != nil {
			return fmt.Errorf("rowseal: upsert %s: read the keys: %w", m.Plan.Schema.Name, err)
		}
		for _, v := range batch {
			id, _ := m.Identity(v)
			texts, ok := stored[id]
			if !ok && c.target != nil {
				return refuse(v, fmt.Errorf("%w: %w", ErrStaleKey, gorm.ErrDuplicatedKey), "another row has one of its unique values; try again, and if that does not help, find that row and save it")
			}
			if !ok {
				return refuse(v, gorm.ErrDuplicatedKey, "the row that exists has another primary key, which its key is bound to; find it and save it")
			}
			for i, g := range c.replaced {
				if texts[i] == "" && c.leaves {
					g.SetState(v, nil) // the row was left out on purpose, and has no key
					continue
				}
				if g.Present(v) && g.State(v).Text() != texts[i] {
					if kmskey.IsTombstone(texts[i]) {
						return refuse(v, ErrShredded, "it takes no sealed value any more")
					}
					return refuse(v, ErrStaleKey, "load the row and try again")
				}
			}
		}
	}
	return nil
}

// storedKeys reads key columns of the rows that an upsert writes, by primary key, and by the values that a row was looked up by. batch are the
// rows from the first on.
func storedKeys(stmt *gorm.Statement, c *creation, groups []*row.Group, first int, batch []reflect.Value) (map[string][]string, error) {
	m := c.insert.Model
	var conditions []string
	var args []any
	for i, v := range batch {
		if m.Identified(v) {
			where, values := identify(stmt, m, v)
			if c.target != nil && c.met[first+i].stored.IsValid() { // else its key is new, and tells whether it was written
				for at, f := range c.target {
					where, values = append(where, stmt.Quote(f.DBName)+" = ?"), append(values, c.met[first+i].values[at])
				}
			}
			conditions, args = append(conditions, strings.Join(where, " AND ")), append(args, values...)
		}
	}
	if len(conditions) == 0 {
		return nil, nil
	}
	columns := quoted(stmt, keyColumns(m, groups))
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(columns, ","), quotedTable(stmt), strings.Join(conditions, " OR "))
	rows, err := inside(stmt.DB).Raw(locked(stmt.DB, query), args...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[string][]string{}
	for rows.Next() {
		r, err := scanKeys(stmt.Context, rows, m, groups)
		if err != nil {
			return nil, err
		}
		id, _ := m.Identity(r.value)
		out[id] = r.texts
	}
	return out, rows.Err()
}

// found counts the row where an update of a whole row met it and had nothing to change. GORM's Save would take "no row changed" for
// "no row", and insert it.
func (c *change) found(db *gorm.DB) error {
	stmt := db.Statement
	where, ok := stmt.Clauses["WHERE"].Expression.(clause.Where)
	if !isMySQL(db) || !slices.Equal(stmt.Selects, []string{"*"}) || c.id == "" || !ok {
		return nil
	}
	tx := inside(db).Table(stmt.Table)
	tx.Statement.TableExpr = stmt.TableExpr
	var one []int
	err := tx.Select("1").Clauses(where, clause.Locking{Strength: "UPDATE"}).Limit(1).Scan(&one).Error
	if err != nil {
		return fmt.Errorf("rowseal: update %s: look for the row: %w", c.model.Describe(c.value), err)
	}
	db.RowsAffected = int64(len(one))
	if db.Statement.Result != nil {
		db.Statement.Result.RowsAffected = db.RowsAffected
	}
	return nil
}
