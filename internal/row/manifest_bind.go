// manifest_bind.go owns a model whose Go type is not here: the same plan and the same [Model], over raw values instead of a struct, so that
// identities and contexts come from the same code.

package row

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/kmskey"
)

// Bind joins the model with keys, as [Bind] does for a plan. What the application's keyring adds to contexts must be in this one too.
func (m *ManifestModel) Bind(keys *kmskey.Keyring) (*Model, error) {
	fail := func(format string, args ...any) (*Model, error) {
		return nil, fmt.Errorf("rowseal: model %s of the manifest: %w", m.Name, fmt.Errorf(format, args...))
	}
	switch {
	case m.versions == nil:
		return fail("%w: it was not read by ParseManifest", ErrModel)
	case m.Only != "":
		return fail("%w: %s; run rotation.RotateKMSKey(ctx, db, &%s{}, rotation.Config{}) in a program of the application", ErrContext, m.Only, m.Name)
	case keys.Namespace() != m.namespace:
		return fail("%w: its namespace is %q, and the keyring's %q", ErrModel, m.namespace, keys.Namespace())
	}
	numbers := keys.Numbers()
	if _, ok := m.versions[keys.Current()]; !ok {
		return fail("%w: version %d is not in the application's keyring, which has %v: it could not open what is moved there; list the version in the application first, then export the manifest anew",
			kmskey.ErrUnknownVersion, keys.Current(), slices.Sorted(maps.Keys(m.versions)))
	}
	for _, n := range numbers {
		// Rows would move to a context that the application does not know.
		if v, ok := m.versions[n]; ok && !maps.Equal(v.Constants, keys.Constants(n)) {
			return fail("%w: the application's keyring adds the constants %v under version %d, and this one %v", ErrContext, v.Constants, n, keys.Constants(n))
		}
	}
	p, err := m.plan()
	if err != nil {
		return fail("%w: %w", ErrModel, err)
	}
	o := Options{Name: m.Name, Keys: keys, Context: m.Context.declaration(), Contexts: map[int]Context{}}
	for n, c := range m.Contexts {
		if slices.Contains(numbers, n) {
			o.Contexts[n] = c.declaration()
		}
	}
	bound, err := Bind(p, o)
	if err != nil {
		return nil, err
	}
	bound.admitUnbound = bound.admitUnbound || m.Unbound
	return bound, nil
}

// Counted is the model for whoever reads its key columns and opens or moves nothing, which needs no context. It can be bound where the model itself is
// refused, unless its primary key is one that only the application reads.
func (m *ManifestModel) Counted() *ManifestModel {
	c := *m
	c.Only, c.Context, c.Contexts = "", ManifestContext{}, nil
	for _, id := range c.PrimaryKey {
		if id.Kind == "" {
			c.Only = m.Only
		}
	}
	return &c
}

func (c ManifestContext) declaration() Context {
	out := Context{Constants: c.Constants, OmitID: c.OmitID}
	for _, column := range c.Columns {
		out.Columns = append(out.Columns, column.Column)
	}
	return out
}

// plan makes by hand what GORM's parser makes of a Go type, as far as a [Model] and its [Reading] look at it.
func (m *ManifestModel) plan() (*Plan, error) {
	s := &schema.Schema{Name: m.Name, Table: m.Table, FieldsByName: map[string]*schema.Field{}, FieldsByDBName: map[string]*schema.Field{}}
	p := &Plan{Schema: s, byColumn: map[string]*Field{}, keys: map[string]*Group{}}
	var fields []reflect.StructField
	add := func(column string, t reflect.Type) *schema.Field {
		f := &schema.Field{Name: column, DBName: column, Schema: s, FieldType: t, IndirectFieldType: t, BindNames: []string{column}}
		f.StructField = reflect.StructField{Name: "F" + strconv.Itoa(len(fields)), Type: t, Index: []int{len(fields)}}
		fields = append(fields, f.StructField)
		s.Fields, s.DBNames = append(s.Fields, f), append(s.DBNames, column)
		s.FieldsByDBName[column], s.FieldsByName[column] = f, f
		return f
	}
	rawField := func(c ManifestColumn) *schema.Field {
		f := add(c.Column, reflect.TypeFor[raw]())
		if c.Kind == KindUUID {
			f.DataType = "uuid"
		}
		at := f.StructField.Index[0]
		f.NewValuePool = rawPool(c.Kind)
		f.Set = func(_ context.Context, row reflect.Value, v any) error {
			row.Field(at).Set(reflect.ValueOf(*v.(*raw)))
			return nil
		}
		f.ValueOf = func(_ context.Context, row reflect.Value) (any, bool) {
			c := row.Field(at).Interface().(raw)
			return c.stored, c.stored == nil
		}
		return f
	}
	for _, c := range m.PrimaryKey {
		f := rawField(c)
		f.PrimaryKey = true
		s.PrimaryFields = append(s.PrimaryFields, f)
	}
	if len(s.PrimaryFields) == 1 {
		s.PrioritizedPrimaryField = s.PrimaryFields[0]
		s.PrioritizedPrimaryField.HasDefaultValue = m.Assigned
	}
	for _, n := range append([]int{0}, slices.Sorted(maps.Keys(m.Contexts))...) {
		declared := m.Context
		if n > 0 {
			declared = m.Contexts[n]
		}
		for _, c := range declared.Columns {
			if s.FieldsByDBName[c.Column] == nil {
				rawField(c)
			}
		}
	}
	for _, k := range m.Keys {
		g := &Group{Plan: p, Name: k.Name, Column: add(k.Column, reflect.TypeFor[Key]()), pos: len(p.Groups)}
		p.Groups = append(p.Groups, g)
		p.keys[Fold(k.Column)] = g
		for _, f := range k.Fields {
			sealed := &Field{Group: g, Name: f.Name, Column: add(f.Column, reflect.TypeFor[[]byte]()), Text: f.Text, pos: len(g.Fields)}
			g.Fields = append(g.Fields, sealed)
			p.byColumn[Fold(f.Column)] = sealed
		}
	}
	s.ModelType = reflect.StructOf(fields)
	return p, nil
}

// raw is the value of a column whose Go type is not known, as the driver gave it.
type raw struct {
	kind   Kind
	stored any // int64, uint64, string, []byte or bool; nil for NULL
}

// Scan takes what a driver gives for a column of the kind, as package sql converts it.
func (c *raw) Scan(src any) (err error) {
	c.stored = nil
	if src == nil {
		return nil
	}
	switch c.kind {
	case KindText:
		var s sql.NullString
		err = s.Scan(src)
		c.stored = s.String
	case KindBytes:
		var b sql.Null[[]byte]
		err = b.Scan(src)
		c.stored = b.V
	case KindBool:
		var b sql.NullBool
		err = b.Scan(src)
		c.stored = b.Bool
	case KindInteger:
		var signed sql.NullInt64
		if err = signed.Scan(src); err == nil {
			c.stored = signed.Int64
			break
		}
		var unsigned sql.Null[uint64]
		if unsigned.Scan(src) == nil {
			c.stored, err = unsigned.V, nil
		}
	case KindUUID:
		switch v := src.(type) {
		case []byte:
			if len(v) == 16 {
				c.stored = slices.Clone(v)
				break
			}
			c.stored = string(v)
		case [16]byte:
			c.stored = v[:]
		default:
			var s sql.NullString
			err = s.Scan(src)
			c.stored = s.String
		}
	default:
		err = fmt.Errorf("kind %q is none of %v", c.kind, kinds)
	}
	return err
}

// Value is what goes into a [kmskey.Value].
func (c raw) Value() (driver.Value, error) {
	if b, ok := c.stored.([]byte); ok && c.kind == KindUUID {
		return [16]byte(b), nil
	}
	return c.stored, nil
}

// rawPool stands for GORM's pool of scan targets.
type rawPool Kind

func (k rawPool) Get() any { return &raw{kind: Kind(k)} }

func (rawPool) Put(any) {}
