// tenant.go owns what tenants are to blind indexes: a condition says whose index it looks at by the conditions beside it, and a row that moves to another tenant takes its indexes along.

package rowseal

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// surroundings are the conditions that a row must meet along with one: those of its own list, and of each list further out. The outermost has a place of its own, since every statement of every
// model has one, and most have no other.
type surroundings struct {
	outermost []clause.Expression
	inner     [][]clause.Expression
}

func (s surroundings) and(exprs []clause.Expression) surroundings {
	return surroundings{s.outermost, append(slices.Clip(s.inner), exprs)}
}

// lists gives those that have no alternatives, from the outermost on.
func (s surroundings) lists() [][]clause.Expression {
	return slices.DeleteFunc(append([][]clause.Expression{s.outermost}, s.inner...), alternatives)
}

// tenants gives those whose rows a condition on an index may find, as the conditions beside it say; one that is none where the index has no tenants.
func (p *Plugin) tenants(stmt *gorm.Statement, on *indexedColumn, around surroundings) ([]string, error) {
	x, m := on.index, on.model
	if !x.Tenant {
		return []string{""}, nil
	}
	for _, exprs := range around.lists() {
		values, said := p.tenantValues(stmt, on, exprs)
		if !said {
			continue
		}
		tenants := make([]string, 0, len(values))
		for _, v := range values {
			tenant, err := m.TenantOf(stmt.Context, x, v)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(tenants, tenant) {
				tenants = append(tenants, tenant)
			}
		}
		return tenants, nil
	}
	return nil, fmt.Errorf("rowseal: query %s: %w; say it beside the condition, as in db.Where(%q, tenant)", x.Place(), ErrTenant, m.TenantColumn().DBName)
}

// tenantValues finds the values that one list of conditions leaves the tenant's column.
func (p *Plugin) tenantValues(stmt *gorm.Statement, on *indexedColumn, exprs []clause.Expression) (values []any, said bool) {
	take := func(column any, given []any) bool {
		if !p.isTenant(stmt, on, column) || slices.ContainsFunc(given, ofDatabase) {
			return false
		}
		for _, v := range given {
			if !isNil(v) { // NULL finds nothing
				values = append(values, v)
			}
		}
		return true
	}
	for _, e := range exprs {
		switch e := e.(type) {
		case clause.Eq:
			said = e.Value != nil && take(e.Column, alternativesOf(e.Value))
		case clause.IN:
			said = take(e.Column, e.Values)
		case clause.Expr:
			if isMySQL(stmt.DB) && strings.Contains(e.SQL, `"`) { // which there is around a text
				continue
			}
			for column, value := range equalities(e) {
				if said = take(clause.Column{Name: column}, alternativesOf(value)); said {
					break
				}
			}
		case clause.AndConditions:
			if !alternatives(e.Exprs) {
				values, said = p.tenantValues(stmt, on, e.Exprs)
			}
		case clause.Where:
			if !alternatives(e.Exprs) {
				values, said = p.tenantValues(stmt, on, e.Exprs)
			}
		case bracketed: // around each condition of an update
			values, said = p.tenantValues(stmt, on, []clause.Expression{e.Expression})
		}
		if said {
			return values, true
		}
	}
	return nil, false
}

// isTenant reports that a column is the one that tells the tenants of an index apart, in the index's own table.
func (p *Plugin) isTenant(stmt *gorm.Statement, on *indexedColumn, column any) bool {
	var c clause.Column
	switch column := column.(type) {
	case string:
		c.Name = column
	case clause.Column:
		if c = column; strings.HasPrefix(c.Alias, eqMark) && !strings.Contains(c.Name, "\x00") {
			var err error
			if c, err = p.resolved(stmt, c); err != nil {
				return false // which the condition itself is refused for
			}
		}
		if c.Raw || c.Alias != "" {
			return false
		}
	default:
		return false
	}
	if i := strings.LastIndexByte(c.Name, '.'); i >= 0 {
		c.Table, c.Name = c.Name[:i], c.Name[i+1:]
	}
	at, of := p.place(stmt, c), p.place(stmt, on.column)
	return columnName(c.Name) == columnName(on.model.TenantColumn().DBName) && at.model == of.model && at.own == of.own && (at.own || at.table == of.table)
}

// alternativesOf is a list of values, or the one.
func alternativesOf(value any) []any {
	v := reflect.ValueOf(value)
	if !isList(v) || isOne(value) {
		return []any{value}
	}
	all := make([]any, v.Len())
	for i := range all {
		all[i] = v.Index(i).Interface()
	}
	return all
}

var (
	// simple is a text without quoted values, comments, brackets and whatever else could have a part of it mean another thing than it seems to.
	simple      = regexp.MustCompile("^(?:[\\w\\s\"`.,=<>!]|\\?|\\(\\?\\))*$")
	involved    = regexp.MustCompile(`(?i)\b(or|xor|not|between|case|select|is)\b|\?\s*\?`)
	conjunction = regexp.MustCompile(`(?i)\sand\s`)
	equality    = regexp.MustCompile("(?i)^\\s*([\\w\"`.]+)\\s*(?:=|\\sin)\\s*(?:\\?|\\(\\?\\))\\s*$")
)

// equalities are the columns and values that a text holds equal: "tenant_id = ?", "a.tenant_id IN ?", and several of these with AND between them.
func equalities(e clause.Expr) func(yield func(column string, value any) bool) {
	return func(yield func(string, any) bool) {
		if !simple.MatchString(e.SQL) || involved.MatchString(e.SQL) || strings.Count(e.SQL, "?") != len(e.Vars) {
			return
		}
		at := 0
		for _, part := range conjunction.Split(e.SQL, -1) {
			n := strings.Count(part, "?")
			if found := equality.FindStringSubmatch(part); found != nil && n == 1 && !yield(found[1], e.Vars[at]) {
				return
			}
			at += n
		}
	}
}

// carried is a field whose indexes go to another tenant with its row, and which the statement does not write. It is part of WHERE, as the condition that the field still is
// what the indexes were made of: another writer may have changed it under the same key.
type carried struct {
	field  *row.Field
	stored any // nil for NULL
	sums   []*row.IndexValue
}

// Build writes the condition, for the look as what it stands for: in a form that is nobody else's, since wherever the text stands it is not looked at.
func (k *carried) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		b.AddVar(b, row.Poison{Err: fmt.Errorf("rowseal: %w: a builder that is no *gorm.Statement", ErrUnsupported)})
		return
	}
	column := stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: k.field.Column.DBName})
	if k.stored == nil {
		_, _ = stmt.WriteString(column + " IS NULL")
		return
	}
	if k.field.Text {
		column = exact(stmt.DB, column)
	}
	from := stmt.SQL.Len()
	_, _ = stmt.WriteString("CASE WHEN " + column + " = ")
	stmt.AddVar(stmt, k.stored)
	_, _ = stmt.WriteString(" THEN 1 ELSE 0 END")
	lookOf(stmt).write(stmt.SQL.String()[from:], "?")
	_, _ = stmt.WriteString(" = 1")
}

// carry finds the indexes that the row takes along to the tenant of next, of fields that the statement does not write.
func (c *change) carry(stmt *gorm.Statement, r *regroup, next *row.State) error {
	m := c.model
	if kmskey.IsTombstone(r.state.Text()) {
		return nil // whoever shredded it emptied its indexes
	}
	for _, f := range r.group.Fields {
		indexes := slices.DeleteFunc(slices.Clone(f.Indexes), func(x *row.Index) bool { return !x.Tenant })
		if len(indexes) == 0 || c.writesField(f) {
			continue
		}
		was, err := r.state.TenantFor(indexes[0])
		if err != nil {
			return err
		}
		tenant, err := next.TenantFor(indexes[0])
		if err != nil {
			return err
		}
		if tenant == was {
			continue // another column of the context moves
		}
		p := stmt.DB.Plugins[row.PluginName].(*Plugin)
		if r.state.Locked(f) || r.state.Settled(f) && !r.state.Open() {
			if err := m.Ready(lend(stmt.Context, stmt), r.state, c.value); err != nil {
				return fmt.Errorf("%w; its indexes are the tenant's own: %s must be opened for them", err, f.Place())
			}
		}
		k := &carried{field: f}
		stored, err := r.state.Carried(f, func(plain any) error {
			for _, x := range indexes {
				sum, err := p.indexValue(stmt, m, x, tenant, plain)
				if err != nil {
					return err
				}
				k.sums = append(k.sums, sum)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("rowseal: update %s: %w", m.Describe(c.value), err)
		}
		k.stored = stored
		r.carried = append(r.carried, k)
	}
	return nil
}

// carriedAlong reports that fields still are what their indexes were made of.
func (c *change) carriedAlong(stmt *gorm.Statement, r *regroup) (bool, error) {
	if len(r.carried) == 0 {
		return true, nil
	}
	now, err := c.storedCells(stmt, r.group, true)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(r.carried, func(k *carried) bool { return !now.Stores(k.field, k.stored) }), nil
}
