// index.go owns the columns of blind indexes: in every statement that writes a field, and in rows from before the index.

package rowseal

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
)

// filled makes sure that no row has the field and not its index: a search would pass over it. What was once complete stays so, as long as every writer knows the
// index.
func (p *Plugin) filled(stmt *gorm.Statement, m *row.Model, x *row.Index) error {
	table := stmt.Quote(m.Plan.Schema.Table)
	if p.model(stmt) == m && stmt.Table != "" && (stmt.TableExpr == nil || len(stmt.TableExpr.Vars) == 0) {
		table = quotedTable(stmt) // which may be another one of the same model
	}
	i, at := p.indexedOf(m), indexTable{x, table}
	i.mu.Lock()
	complete := i.complete[at]
	i.mu.Unlock()
	if complete {
		return nil
	}
	ctx := stmt.Context
	if isSubQuery(stmt.DB) {
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		ctx = brief
	}
	query := fmt.Sprintf("SELECT 1 FROM %s WHERE %s IS NOT NULL AND %s IS NULL LIMIT 1", table, stmt.Quote(x.Field.Column.DBName), stmt.Quote(x.Column))
	var one int
	switch err := poolOf(stmt).QueryRowContext(ctx, query).Scan(&one); {
	case errors.Is(err, sql.ErrNoRows):
		i.mu.Lock()
		defer i.mu.Unlock()
		i.complete[at] = true
		return nil
	case err != nil:
		return fmt.Errorf("rowseal: index %s: look whether it is complete: %w", x.Place(), err)
	}
	return fmt.Errorf("rowseal: index %s: %w; call rotation.FillIndexes", x.Place(), ErrIndexIncomplete)
}

// indexValue is the index of a Go value in a row of the tenant.
func (p *Plugin) indexValue(stmt *gorm.Statement, m *row.Model, x *row.Index, tenant string, plain any) (*row.IndexValue, error) {
	keys, err := p.indexKeys(stmt, m)
	if err != nil {
		return nil, err
	}
	return keys.Value(x, tenant, plain)
}

// indexOf is what is written to an index column beside a value of its field, in a row of the tenant. nil is NULL.
func (p *Plugin) indexOf(stmt *gorm.Statement, m *row.Model, x *row.Index, value any, tenant func(*row.Value) (string, error)) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case *byKey: // one value for many rows, each under its own key
		if !x.Tenant {
			return p.indexOf(stmt, m, x, v.values[0], tenant)
		}
		by := &byKey{column: x.Column, group: v.group, texts: v.texts}
		for _, one := range v.values {
			sum, err := p.indexOf(stmt, m, x, one, tenant)
			if err != nil {
				return nil, err
			}
			by.sums = append(by.sums, sum)
		}
		return by, nil
	case *row.Value:
		if v.Null() {
			return nil, nil
		}
		of, err := tenant(v)
		if err != nil {
			return nil, err
		}
		return p.indexValue(stmt, m, x, of, v.Plain())
	case row.Poison:
		return v, nil // a dry run
	}
	return nil, fmt.Errorf("rowseal: index %s: %w", x.Place(), ErrPlaintext)
}

// indexRows adds index columns to the rows of an INSERT.
func (p *Plugin) indexRows(stmt *gorm.Statement, m *row.Model, values clause.Values) (clause.Values, error) {
	out := clause.Values{Columns: slices.Clip(values.Columns), Values: slices.Clone(values.Values)}
	for i, v := range out.Values {
		out.Values[i] = slices.Clip(v)
	}
	tenantAt := -1
	if f := m.TenantColumn(); f != nil {
		tenantAt = slices.IndexFunc(values.Columns, func(c clause.Column) bool { return columnName(c.Name) == columnName(f.DBName) })
	}
	for at, column := range values.Columns {
		f := m.Plan.Lookup(column.Name)
		if f == nil {
			continue
		}
		for _, x := range f.Indexes {
			out.Columns = append(out.Columns, clause.Column{Name: x.Column})
			for i, v := range values.Values {
				// By what the statement writes: before the database has given the row an id, its key is bound to nothing yet.
				sum, err := p.indexOf(stmt, m, x, v[at], func(*row.Value) (string, error) {
					switch {
					case !x.Tenant:
						return "", nil
					case tenantAt < 0:
						return "", fmt.Errorf("rowseal: index %s: %w: the statement lacks column %q", x.Place(), ErrContext, m.TenantColumn().DBName)
					}
					return m.TenantOf(stmt.Context, x, v[tenantAt])
				})
				if err != nil {
					return values, err
				}
				out.Values[i] = append(out.Values[i], sum)
			}
		}
	}
	return out, nil
}

// indexSet adds index columns to the SET of an UPDATE, each behind its field: MySQL sees in one assignment what those before it did, and keys, by which rows are told apart, come last.
func (p *Plugin) indexSet(stmt *gorm.Statement, m *row.Model, set clause.Set) (clause.Set, error) {
	out := make(clause.Set, 0, 2*len(set))
	add := func(x *row.Index, value any) {
		out = append(out, clause.Assignment{Column: clause.Column{Name: x.Column}, Value: value})
		lookOf(stmt).admit(m, columnName(x.Column))
	}
	for _, a := range set {
		out = append(out, a)
		f := m.Plan.Lookup(a.Column.Name)
		if f == nil {
			continue
		}
		for _, x := range f.Indexes {
			sum, err := p.indexOf(stmt, m, x, a.Value, func(v *row.Value) (string, error) { return v.State().TenantFor(x) })
			if err != nil {
				return set, err
			}
			add(x, sum)
		}
	}
	if c, ok := kept[change](stmt.DB); ok && c.model == m {
		for _, r := range c.groups {
			for _, k := range r.carried {
				for _, sum := range k.sums {
					add(sum.Index(), sum)
				}
			}
		}
	}
	return out, nil
}

// indexConflict adds index columns to what an upsert takes from its rows.
func (p *Plugin) indexConflict(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) clause.OnConflict {
	updates := slices.Clip(conflict.DoUpdates)
	for _, a := range conflict.DoUpdates {
		f := m.Plan.Lookup(a.Column.Name)
		if f == nil {
			continue
		}
		for _, x := range f.Indexes {
			updates = append(updates, clause.Assignment{Column: clause.Column{Name: x.Column}, Value: clause.Column{Table: "excluded", Name: x.Column}})
			lookOf(stmt).admit(m, columnName(x.Column))
		}
	}
	conflict.DoUpdates = updates
	return conflict
}
