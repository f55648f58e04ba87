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

	"github.com/rowseal/rowseal/internal/row"
)

// mapped is the maps of one Create while it runs.
type mapped struct {
	dest  any
	given []map[string]any
	rows  []reflect.Value // what the maps say, as rows of the model
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

// readMaps reads maps into rows of the model, which the keys are made for.
func readMaps(stmt *gorm.Statement, m *row.Model, given []map[string]any) (*mapped, error) {
	a := &mapped{dest: stmt.Dest, given: given}
	for _, entries := range given {
		v := reflect.New(m.Plan.Schema.ModelType).Elem()
		for name, value := range entries {
			if err := readEntry(stmt, m, v, name, value); err != nil {
				return nil, fmt.Errorf("rowseal: create %s: %w", m.Plan.Schema.Name, err)
			}
		}
		a.rows = append(a.rows, v)
	}
	return a, nil
}

func readEntry(stmt *gorm.Statement, m *row.Model, v reflect.Value, name string, value any) error {
	f := stmt.Schema.LookUpField(name)
	if f == nil || f.DBName == "" {
		return nil // the gate knows columns by other spellings
	}
	sealed, bound := m.Plan.Lookup(f.DBName), f.PrimaryKey || m.Computed() || slices.Contains(m.ContextColumns(), f.DBName)
	computed := false
	switch value.(type) {
	case clause.Expression, gorm.Valuer, *gorm.DB:
		computed = true // GORM's setters pass over these in silence
	}
	switch {
	case m.Plan.LookupKey(f.DBName) != nil:
		return fmt.Errorf("column %s: %w", f.DBName, ErrKeyColumn)
	case sealed != nil && value == nil:
		return nil
	case sealed != nil && computed:
		return fmt.Errorf("column %s: %w: an SQL expression cannot be sealed; compute the value in Go", f.DBName, ErrUnsupported)
	case sealed != nil:
		return sealed.Assign(stmt.Context, v, value)
	case bound && (computed || f.Set(stmt.Context, v, value) != nil):
		return fmt.Errorf("column %s: %w: the row's key is bound to it; compute the value in Go", f.DBName, ErrContext)
	}
	return nil
}

// lend puts the plugin's maps in the place of the application's, right before the statement is built.
func (a *mapped) lend(stmt *gorm.Statement, m *row.Model) {
	out := make([]map[string]any, len(a.given))
	for i, entries := range a.given {
		entries = maps.Clone(entries)
		if entries == nil {
			entries = map[string]any{}
		}
		for name, value := range entries {
			f := stmt.Schema.LookUpField(name)
			if f == nil || m.Plan.Lookup(f.DBName) == nil || value == nil {
				continue
			}
			entries[name], _ = f.ValueOf(stmt.Context, a.rows[i])
		}
		for _, g := range m.Plan.Groups {
			entries[g.Column.DBName], _ = g.Column.ValueOf(stmt.Context, a.rows[i])
		}
		for _, name := range m.Plan.Schema.PrimaryFieldDBNames {
			f := m.Plan.Schema.FieldsByDBName[name]
			if value, zero := f.ValueOf(stmt.Context, a.rows[i]); !zero {
				delete(entries, f.Name)
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

// giveBack gives the application its own maps again, with the primary keys and defaults that the rows got.
func (a *mapped) giveBack(stmt *gorm.Statement, m *row.Model) {
	lent, _ := mapsOf(stmt.Dest)
	stmt.Dest = a.dest
	if stmt.DB.Error != nil {
		return
	}
	returned := lent
	if n := len(a.given); n > 1 || isList(stmt.ReflectValue) {
		returned = nil
		if len(lent) == 2*n { // GORM appends them
			returned = lent[n:]
		}
	}
	for i, entries := range a.given {
		if entries == nil {
			continue
		}
		for _, f := range m.Plan.Schema.FieldsWithDefaultDBValue {
			if returned == nil || f.PrimaryKey {
				continue
			}
			if value, ok := returned[i][f.DBName]; ok {
				entries[f.DBName] = value
			}
		}
		for _, f := range m.Plan.Schema.PrimaryFields {
			if value, zero := f.ValueOf(stmt.Context, a.rows[i]); !zero {
				entries[f.DBName] = value
			}
		}
	}
}
