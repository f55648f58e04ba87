// reading.go owns rows as whoever walks a table reads them: identity, context and key columns, and nothing sealed.

package row

import (
	"context"
	"fmt"
	"reflect"

	"gorm.io/gorm/schema"
)

// Reading scans rows of a model without GORM. It is immutable and safe for concurrent use.
type Reading struct {
	model  *Model
	ids    []*schema.Field
	others []*schema.Field // that the context needs
	groups []*Group
	sealed bool // the sealed columns are read too
	index  []*Index
}

// Read is one row.
type Read struct {
	Value reflect.Value // the struct, with identity and context
	Texts []string      // the key columns, by group; "" for NULL
	Cells []*Cells      // the sealed columns, by group, where they are read
	Sums  [][]byte      // the columns of indexes, where they are read; nil for NULL
}

// Reading is for the key columns of the given groups.
func (m *Model) Reading(groups []*Group) *Reading {
	r := &Reading{model: m, ids: m.Plan.Schema.PrimaryFields, groups: groups}
	for _, f := range m.Plan.Schema.Fields {
		if f.DBName == "" || f.PrimaryKey || m.Plan.Lookup(f.DBName) != nil || m.Plan.LookupKey(f.DBName) != nil {
			continue
		}
		needed := m.method // which may look at any column
		for _, name := range m.ContextColumns() {
			needed = needed || name == f.DBName
		}
		if needed {
			r.others = append(r.others, f)
		}
	}
	return r
}

// Whole is r with the sealed columns.
func (r *Reading) Whole() *Reading {
	c := *r
	c.sealed = true
	return &c
}

// Indexed is r with the columns of indexes.
func (r *Reading) Indexed(all []*Index) *Reading {
	c := *r
	c.index = all
	return &c
}

// IDs names the columns of the primary key.
func (r *Reading) IDs() (names []string) {
	for _, f := range r.ids {
		names = append(names, f.DBName)
	}
	return names
}

// Keys names the key columns.
func (r *Reading) Keys() (names []string) {
	for _, g := range r.groups {
		names = append(names, g.Column.DBName)
	}
	return names
}

// Pins names the columns that a context may be made of, beside the primary key. A key that was wrapped for what they held must not be stored where they hold
// something else: under a version whose context leaves one out, it can change without a new key.
func (r *Reading) Pins() (names []string) {
	for _, f := range r.others {
		names = append(names, f.DBName)
	}
	return names
}

// Columns names what [Reading.Scan] scans behind the primary key.
func (r *Reading) Columns() (names []string) {
	for _, f := range r.others {
		names = append(names, f.DBName)
	}
	names = append(names, r.Keys()...)
	if r.sealed {
		for _, g := range r.groups {
			names = append(names, NewCells(g).Columns()...)
		}
	}
	for _, x := range r.index {
		names = append(names, x.Column)
	}
	return names
}

// Scan scans one row. With ids, the primary key alone.
func (r *Reading) Scan(ctx context.Context, ids bool, scan func(dest ...any) error) (*Read, error) {
	out := &Read{Value: reflect.New(r.model.Plan.Schema.ModelType).Elem()}
	fields := r.ids
	if !ids {
		fields = append(fields[:len(fields):len(fields)], r.others...)
		out.Texts = make([]string, len(r.groups))
	}
	dest := make([]any, 0, len(fields)+len(r.groups))
	for _, f := range fields {
		dest = append(dest, f.NewValuePool.Get())
	}
	texts := make([]*copied, len(out.Texts))
	for i := range texts {
		dest = append(dest, &texts[i])
	}
	if r.sealed && !ids {
		for _, g := range r.groups {
			c := NewCells(g)
			out.Cells, dest = append(out.Cells, c), append(dest, c.Targets()...)
		}
	}
	if !ids {
		out.Sums = make([][]byte, len(r.index))
		for i := range out.Sums {
			dest = append(dest, &out.Sums[i])
		}
	}
	if err := scan(dest...); err != nil {
		return nil, err
	}
	for i, f := range fields {
		if err := f.Set(ctx, out.Value, dest[i]); err != nil {
			return nil, fmt.Errorf("rowseal: column %q of %s: %w", f.DBName, r.model.Plan.Schema.Name, err)
		}
		f.NewValuePool.Put(dest[i])
	}
	for i, t := range texts {
		if t != nil {
			out.Texts[i] = t.text()
		}
	}
	return out, nil
}

// ID gives the primary key of a row, part by part, as the driver is given it.
func (r *Reading) ID(ctx context.Context, row *Read) (parts []any) {
	for _, f := range r.ids {
		v, _ := f.ValueOf(ctx, row.Value)
		parts = append(parts, v)
	}
	return parts
}

// Registered is a model as applications list it, with what it needs beside its Go type.
type Registered struct {
	Value    any
	Name     string
	Context  Context
	Contexts map[int]Context
	Tenant   string
}
