// keys.go owns what the plugin reads of rows for itself: primary keys, context and key columns.

package rowseal

import (
	"context"
	"database/sql"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// keyRow is a row as far as the plugin reads it for itself.
type keyRow struct {
	value reflect.Value // of the model, with its primary key and context
	texts []string      // the key columns by group, "" for NULL
}

// keyFields lists the columns of primary key and context.
func keyFields(m *row.Model) (fields []*schema.Field) {
	for _, name := range m.Needed() {
		fields = append(fields, m.Plan.Schema.LookUpField(name))
	}
	return fields
}

// keyColumns lists what [scanKeys] scans, by name: primary key, context, and the key columns of groups.
func keyColumns(m *row.Model, groups []*row.Group) (names []string) {
	for _, f := range keyFields(m) {
		names = append(names, f.DBName)
	}
	for _, g := range groups {
		names = append(names, g.Column.DBName)
	}
	return names
}

func quoted(stmt *gorm.Statement, names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = stmt.Quote(name)
	}
	return out
}

// scanKeys scans one row of these columns, behind those that first is for.
func scanKeys(ctx context.Context, rows *sql.Rows, m *row.Model, groups []*row.Group, first ...any) (keyRow, error) {
	r := keyRow{value: reflect.New(m.Plan.Schema.ModelType).Elem()}
	fields, columns, texts := keyFields(m), first, make([]sql.NullString, len(groups))
	for _, f := range fields {
		columns = append(columns, reflect.New(reflect.PointerTo(f.FieldType)).Interface()) // a pointer to a pointer, for NULL
	}
	for i := range texts {
		columns = append(columns, &texts[i])
	}
	if err := rows.Scan(columns...); err != nil {
		return keyRow{}, err
	}
	for i, f := range fields {
		if p := reflect.ValueOf(columns[len(first)+i]).Elem(); !p.IsNil() {
			f.ReflectValueOf(ctx, r.value).Set(p.Elem())
		}
	}
	for _, text := range texts {
		r.texts = append(r.texts, text.String)
	}
	return r, nil
}
