// maps.go owns rows that are created from maps: db.Model(&Patient{}).Create(map[string]any{…}). GORM takes their entries as they are; the
// plugin gives it maps of its own in their place, with the keys, and sealed values.

package rowseal

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// mapped is the maps of one Create while it runs.
type mapped struct {
	dest     any
	given    []map[string]any
	rows     []reflect.Value  // what the maps say, as rows of the model
	returned []map[string]any // what the database gave back, by row; nil for nothing
}

// mapsOf lists the maps that a statement creates rows from; ok is false where it creates them from something else.
func mapsOf(dest any) (given []map[string]any, ok bool) {
	switch dest := dest.(type) {
	case map[string]any:
		return []map[string]any{dest}, true
	case *map[string]any:
		return []map[string]any{*dest}, true
	case []map[string]any:
		return dest, true
	case *[]map[string]any:
		return *dest, true
	}
	return nil, false
}

// read reads the maps into rows of the model, which the keys are made for. It is called again when the application's callbacks have run:
// rows keep the keys that were made, and ids that came from elsewhere.
func (a *mapped) read(stmt *gorm.Statement, m *row.Model) error {
	given, _ := mapsOf(stmt.Dest)
	if a.rows != nil && len(given) != len(a.rows) {
		return fmt.Errorf("rowseal: create %s: %w: a callback changed the number of rows", m.Plan.Schema.Name, ErrUnsupported)
	}
	a.dest, a.given = stmt.Dest, given
	for i, entries := range given {
		v := reflect.New(m.Plan.Schema.ModelType).Elem()
		written := map[string]string{}
		for name, value := range entries {
			f, err := readEntry(stmt, m, v, name, value)
			if err == nil && f != nil && written[f.DBName] != "" {
				err = fmt.Errorf("column %s: %w: the map names it twice", f.DBName, ErrUnsupported)
			}
			if err != nil {
				return fmt.Errorf("rowseal: create %s: %w", m.Plan.Schema.Name, err)
			}
			if f != nil {
				written[f.DBName] = name
			}
		}
		if i == len(a.rows) {
			a.rows = append(a.rows, v)
			continue
		}
		for _, g := range m.Plan.Groups {
			g.SetState(v, g.State(a.rows[i]))
		}
		for _, f := range m.Plan.Schema.PrimaryFields {
			if _, zero := f.ValueOf(stmt.Context, v); zero {
				f.ReflectValueOf(stmt.Context, v).Set(f.ReflectValueOf(stmt.Context, a.rows[i]))
			}
		}
		a.rows[i].Set(v)
	}
	return nil
}

// readEntry reads one entry, and gives the field where it is sealed or a row's key is bound to it.
func readEntry(stmt *gorm.Statement, m *row.Model, v reflect.Value, name string, value any) (*schema.Field, error) {
	f := stmt.Schema.LookUpField(name)
	otherwise := f == nil
	if otherwise {
		f = column(stmt.Schema, name) // which databases take as well
	}
	if f == nil || f.DBName == "" {
		return nil, nil
	}
	sealed, bound := m.Plan.Lookup(f.DBName), isBound(m, f)
	computed := false
	switch value.(type) {
	case clause.Expression, gorm.Valuer, *gorm.DB:
		computed = true // GORM's setters pass over these in silence
	}
	switch {
	case m.Plan.LookupKey(f.DBName) != nil:
		return nil, fmt.Errorf("column %s: %w", f.DBName, ErrKeyColumn)
	case sealed != nil && otherwise:
		return nil, nil // the gate refuses it
	case sealed != nil && value == nil:
		return f, nil
	case sealed != nil && computed:
		return nil, fmt.Errorf("column %s: %w: an SQL expression cannot be sealed; compute the value in Go", f.DBName, ErrUnsupported)
	case sealed != nil:
		return f, sealed.Assign(stmt.Context, v, value)
	case bound && otherwise:
		return nil, fmt.Errorf("column %s: %w: it is written as %q; write %q", f.DBName, ErrUnsupported, name, f.DBName)
	case bound && (computed || f.Set(stmt.Context, v, value) != nil):
		return nil, fmt.Errorf("column %s: %w: the row's key is bound to it; compute the value in Go", f.DBName, ErrContext)
	case bound:
		return f, nil
	}
	return nil, nil
}

// isBound reports a column that a row's key may be bound to.
func isBound(m *row.Model, f *schema.Field) bool {
	return m.Computed() || slices.Contains(m.Needed(), f.DBName)
}

// lend puts the plugin's maps in the place of the application's, right before the statement is built. What a key is bound to is written as
// it was bound: a database may read another value from what a map holds.
func (a *mapped) lend(stmt *gorm.Statement, m *row.Model) {
	out := make([]map[string]any, len(a.given))
	for i, given := range a.given {
		entries := make(map[string]any, len(given))
		for name, value := range given {
			if f := stmt.Schema.LookUpField(name); f != nil && f.DBName != "" && (m.Plan.Lookup(f.DBName) != nil || isBound(m, f)) {
				name = f.DBName
				if value != nil {
					value, _ = f.ValueOf(stmt.Context, a.rows[i])
				}
			}
			entries[name] = value
		}
		for _, g := range m.Plan.Groups {
			entries[g.Column.DBName], _ = g.Column.ValueOf(stmt.Context, a.rows[i])
		}
		for _, name := range m.Needed() {
			f := m.Plan.Schema.FieldsByDBName[name]
			if value, zero := f.ValueOf(stmt.Context, a.rows[i]); !zero || !f.PrimaryKey {
				entries[name] = value
			}
		}
		out[i] = entries
	}
	if isList(stmt.ReflectValue) {
		stmt.Dest = &out // GORM cannot put what RETURNING gives into a slice that it has no pointer to
	} else {
		stmt.Dest = out[0]
	}
}

// take gives the statement the application's maps again, and the rows the primary keys that the database gave back.
func (a *mapped) take(stmt *gorm.Statement, m *row.Model) {
	lent, _ := mapsOf(stmt.Dest)
	stmt.Dest = a.dest
	if stmt.DB.Error != nil {
		return
	}
	for i, v := range a.rows { // keys that are made now are bound to what was written, whoever put it there last
		for _, name := range m.ContextColumns() {
			if value, ok := lent[i][name]; ok {
				_ = stmt.AddError(m.Plan.Schema.FieldsByDBName[name].Set(stmt.Context, v, value))
			}
		}
	}
	_, returning := stmt.Clauses["RETURNING"]
	conflict, upsert := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	switch n := len(a.given); {
	case !returning || !slices.Contains(stmt.BuildClauses, "RETURNING"):
		// GORM counts up from the first id, whatever ids the maps bring.
		if upsert || slices.ContainsFunc(a.rows, m.Identified) {
			return
		}
		a.setIDs(stmt, m, lent)
	case !isList(stmt.ReflectValue) && stmt.DB.RowsAffected == 1:
		a.returned = lent
		a.setIDs(stmt, m, lent)
	case isList(stmt.ReflectValue) && len(lent) == 2*n: // GORM appends them
		a.returned = lent[n:]
		a.setIDs(stmt, m, a.returned)
	case upsert && !conflict.DoNothing:
		// Nobody knows which rows these are; the ids taken ahead may be none's.
		for i, entries := range a.given {
			for _, f := range m.Plan.Schema.PrimaryFields {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(entries)), func(name string) bool { return stmt.Schema.LookUpField(name) == f }) {
					f.ReflectValueOf(stmt.Context, a.rows[i]).SetZero()
				}
			}
		}
	}
}

func (a *mapped) setIDs(stmt *gorm.Statement, m *row.Model, from []map[string]any) {
	for i, v := range a.rows {
		for _, f := range m.Plan.Schema.PrimaryFields {
			if value, ok := from[i][f.DBName]; ok && value != nil {
				_ = f.Set(stmt.Context, v, value)
			}
		}
	}
}

// giveBack puts primary keys and what RETURNING names into the application's maps.
func (a *mapped) giveBack(stmt *gorm.Statement, m *row.Model) {
	if stmt.DB.Error != nil {
		return
	}
	returning, _ := stmt.Clauses["RETURNING"].Expression.(clause.Returning)
	for i, entries := range a.given {
		if entries == nil {
			continue
		}
		for _, column := range returning.Columns {
			if a.returned == nil {
				break
			}
			if value, ok := a.returned[i][column.Name]; ok {
				entries[column.Name] = value
			}
		}
		for _, f := range m.Plan.Schema.PrimaryFields {
			if value, zero := f.ValueOf(stmt.Context, a.rows[i]); !zero {
				entries[f.DBName] = value
			}
		}
	}
}
