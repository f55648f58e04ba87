// statement.go owns the moment at which GORM's INSERT becomes a COPY: when the gate has sealed its values.

package pgcopy

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
)

// build is the builder of the clause VALUES. The gate calls it with the rows that it sealed; what it refused never comes here.
func (c *creation) build(from clause.Clause, b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		b.AddVar(b, row.Poison{Err: c.refuse("a builder that is no *gorm.Statement")})
		return
	}
	values, ok := from.Expression.(clause.Values)
	if !ok {
		err := c.refuse("another plugin makes a %T of its rows", from.Expression)
		_ = stmt.AddError(err)
		stmt.AddVar(stmt, row.Poison{Err: err})
		return
	}
	if err := c.check(stmt, values); err != nil {
		_ = stmt.AddError(err)
		stmt.AddVar(stmt, row.Poison{Err: err})
		return
	}
	delete(stmt.Clauses, "RETURNING") // so that GORM expects no rows
	stmt.SQL.Reset()
	stmt.WriteString("COPY ")
	stmt.WriteQuoted(clause.Table{Name: clause.CurrentTable})
	stmt.WriteString(" (")
	for i, column := range values.Columns {
		if i > 0 {
			stmt.WriteByte(',')
		}
		stmt.WriteQuoted(column.Name)
	}
	stmt.WriteString(") FROM STDIN")
	c.copied = &copied{name: c.name, columns: values.Columns, rows: values.Values}
	c.copied.describe = "SELECT " + columnList(stmt, values.Columns) + " FROM " + quotedTable(stmt, stmt.Schema)
	stmt.Vars = []any{c.copied}
}

func columnList(stmt *gorm.Statement, columns []clause.Column) (list string) {
	for i, column := range columns {
		if i > 0 {
			list += ","
		}
		list += stmt.Quote(column.Name)
	}
	return list
}

// check refuses rows that a COPY would not store as the INSERT does.
func (c *creation) check(stmt *gorm.Statement, values clause.Values) error {
	if err := c.refuseClauses(stmt); err != nil {
		return err
	}
	if _, ours := stmt.Clauses["RETURNING"].Expression.(nothing); !ours {
		return c.refuse("RETURNING gives nothing back; read the rows after it")
	}
	if table := quotedTable(stmt, stmt.Schema); table != c.table {
		return c.refuse("a scope or hook chose its table; name it by db.Table before")
	}
	written := map[string]bool{}
	plan := row.PlanOf(stmt.Schema)
	for i, column := range values.Columns {
		written[column.Name] = true
		fits := sealedAs(plan, column.Name)
		for n, v := range values.Values {
			switch value := v[i].(type) {
			case nil, *row.Value, *row.KeyValue, *row.IndexValue, string, []byte, bool, int, int64, uint64, time.Time:
			case gorm.Valuer:
				plain, ok := literal(stmt, value)
				if !ok {
					return c.refuse("column %s: row %d has an SQL expression; set a value, or use db.CreateInBatches", column.Name, n)
				}
				v[i] = plain
			case driver.Valuer:
			case clause.Expression, *gorm.DB:
				if e, ok := value.(clause.Expr); ok && e.SQL == "DEFAULT" {
					return c.refuse("column %s: row %d leaves it to the database, other rows set it; set it in all rows, or in none and pass db.Omit(%q)", column.Name, n, column.Name)
				}
				return c.refuse("column %s: row %d has an SQL expression; set a value, or use db.CreateInBatches", column.Name, n)
			}
			if fits != nil && v[i] != nil && reflect.TypeOf(v[i]) != fits {
				// The gate has seen to it. This is in case that another plugin took the gate away.
				return fmt.Errorf("pgcopy: create %s, column %s: %w", c.name, column.Name, row.ErrPlaintext)
			}
		}
	}
	selected, restricted := stmt.SelectAndOmitColumns(true, false)
	for _, f := range stmt.Schema.FieldsWithDefaultDBValue {
		if v, ok := selected[f.DBName]; written[f.DBName] || ok && !v || !ok && restricted && !f.PrimaryKey {
			continue
		}
		if f.PrimaryKey {
			return c.refuse("column %s: the database makes the id and a COPY gives nothing back; set it in Go, in BeforeCreate for example", f.DBName)
		}
		return c.refuse("column %s: the database makes the value and a COPY gives nothing back; set it in Go, or pass db.Omit(%q) to leave it to the database unread", f.DBName, f.DBName)
	}
	return nil
}

// literal is the value of one that speaks to GORM in SQL, where that is a value and no more, as it is for JSON on Postgres.
func literal(stmt *gorm.Statement, v gorm.Valuer) (any, bool) {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
		return nil, true
	}
	switch e := v.GormValue(stmt.Context, stmt.DB); {
	case e.SQL == "NULL":
		return nil, true
	case e.SQL == "?" && len(e.Vars) == 1:
		switch plain := e.Vars[0].(type) {
		case gorm.Valuer, clause.Expression, *gorm.DB:
			return nil, false
		default:
			return plain, true
		}
	}
	return nil, false
}

// sealedAs is the type of what the gate leaves in a column; nil for any.
func sealedAs(plan *row.Plan, column string) reflect.Type {
	switch {
	case plan == nil:
	case plan.Lookup(column) != nil:
		return reflect.TypeFor[*row.Value]()
	case plan.LookupKey(column) != nil:
		return reflect.TypeFor[*row.KeyValue]()
	case plan.LookupIndex(column) != nil:
		return reflect.TypeFor[*row.IndexValue]()
	}
	return nil
}
