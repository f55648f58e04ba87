// index.go owns what a model says of its blind indexes, and the value of an index column on its way to the database.

package row

import (
	"context"
	"crypto/hmac"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
)

// Index is a blind index of a sealed field: a column of its own that holds a keyed hash, by which equal values are found. The plugin writes it wherever it
// writes the field, in the same statement; nobody else does.
type Index struct {
	Field  *Field
	Name   string // logical, in the derivation of its key
	Column string
	Unique bool
	Folds  string // what is done to a text before it is hashed; "" for nothing
}

// indexSuffix makes the column of an index out of that of the field.
const indexSuffix = "_bidx"

// LookupIndex finds an index by the name of its column, as [Plan.Lookup] does.
func (p *Plan) LookupIndex(column string) *Index { return p.indexes[fold(column)] }

// HasIndexes reports whether any field has one.
func (p *Plan) HasIndexes() bool { return len(p.indexes) > 0 }

// Indexed lists the indexes in the order of their fields.
func (p *Plan) Indexed() (all []*Index) {
	for _, g := range p.Groups {
		for _, f := range g.Fields {
			if f.Index != nil {
				all = append(all, f.Index)
			}
		}
	}
	return all
}

// addIndex takes the index of a field down. Which values can have one is for package field to say; what can be known from the Go type is refused here.
func (p *Plan) addIndex(f *Field, t tag) error {
	elem := f.Column.FieldType
	for elem.Kind() == reflect.Pointer {
		elem = elem.Elem()
	}
	switch {
	case f.Secret:
		return errors.New("a Secret has no blind index yet: its value is not at hand when its row is saved")
	case f.JSON, elem.Kind() == reflect.Bool, elem.Kind() == reflect.Float32, elem.Kind() == reflect.Float64:
		return fmt.Errorf("%w", field.ErrIndex)
	}
	if t.folds != "" && elem.Kind() != reflect.String {
		return fmt.Errorf("%s is done to texts, and it is a %s", t.folds, f.Column.FieldType)
	}
	x := &Index{Field: f, Name: f.Name, Column: f.Column.DBName + indexSuffix, Unique: t.unique, Folds: t.folds}
	if declared := p.Schema.FieldsByDBName[x.Column]; declared != nil && (declared.FieldType != reflect.TypeFor[[]byte]() || declared.PrimaryKey || declared.HasDefaultValue || declared.Serializer != nil) {
		return fmt.Errorf("its index has the column %q, which is that of %s; make that a []byte without settings, or leave it to the plugin", x.Column, declared.BindName())
	}
	f.Index, p.indexes[fold(x.Column)] = x, x
	return nil
}

// adopt gives the schema the column: AutoMigrate makes it, and nothing of GORM's writes it.
func (x *Index) adopt(s *schema.Schema) {
	c := s.FieldsByDBName[x.Column]
	if c == nil {
		c = &schema.Field{
			Name: x.Column, DBName: x.Column, BindNames: []string{x.Column}, EmbeddedBindNames: []string{x.Column}, Schema: s,
			FieldType: reflect.TypeFor[[]byte](), IndirectFieldType: reflect.TypeFor[[]byte](), TagSettings: map[string]string{},
			NewValuePool: targets(func() any { return new(any) }),
		}
		c.ValueOf = func(context.Context, reflect.Value) (any, bool) { return nil, true }
		c.Set = func(context.Context, reflect.Value, any) error { return nil }
		c.ReflectValueOf = func(context.Context, reflect.Value) reflect.Value { return reflect.New(c.FieldType).Elem() }
		s.Fields, s.DBNames = append(s.Fields, c), append(s.DBNames, x.Column)
		s.FieldsByDBName[x.Column], s.FieldsByName[x.Column] = c, c
	} else {
		c.Readable = true
	}
	c.Creatable, c.Updatable = false, false
	c.DataType, c.GORMDataType, c.Size = schema.Bytes, schema.Bytes, field.IndexSize
	// GORM asks the settings whether it is indexed, and the tag's text how.
	setting := "index"
	if x.Unique {
		setting = "uniqueIndex"
	}
	c.Tag = reflect.StructTag(`gorm:"` + setting + `"`)
	c.TagSettings[strings.ToUpper(setting)] = strings.ToUpper(setting)
}

// IndexKeys are those of a model's indexes.
type IndexKeys map[*Index]*field.IndexKey

// IndexKeys derives the keys of the model's indexes from its index key.
func (m *Model) IndexKeys(root []byte, version int) (IndexKeys, error) {
	keys := IndexKeys{}
	for _, x := range m.Plan.Indexed() {
		var err error
		if keys[x], err = field.NewIndexKey(root, field.IndexPlace{Namespace: m.Keys.Namespace(), Model: m.Name, Field: x.Field.Name, Name: x.Name, Version: version, Expression: x.Folds}); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// Value is what the index column holds beside a Go value of the field, as GORM or an application holds it.
func (k IndexKeys) Value(x *Index, plain any) (*IndexValue, error) {
	sum, err := x.of(k[x], plain)
	return &IndexValue{x, sum}, err
}

// Fits reports that the row in v, whose field was read and opened, is one of those that were sought. What was not read is not judged.
func (k IndexKeys) Fits(x *Index, v reflect.Value, sought []*IndexValue) (bool, error) {
	s := x.Field.Group.State(v)
	target, ok := follow(v, x.Field.path)
	if s == nil || !ok || !s.Settled(x.Field) {
		return true, nil
	}
	sum, err := x.of(k[x], target.Interface())
	if err != nil {
		return false, err
	}
	for _, one := range sought {
		if hmac.Equal(one.sum, sum) {
			return true, nil
		}
	}
	return false, nil
}

// Stored is the index of the field of the row in v, which was read and opened, and the field as the column holds it, for whoever writes the one only where the other
// still stands. ok is false where there is nothing to index.
func (k IndexKeys) Stored(x *Index, v reflect.Value) (sum *IndexValue, column any, ok bool, err error) {
	s := x.Field.Group.State(v)
	target, there := follow(v, x.Field.path)
	if s == nil || !there {
		return nil, nil, false, nil
	}
	s.mu.Lock()
	c := s.cells[x.Field.pos]
	s.mu.Unlock()
	if c.status != opened {
		return nil, nil, false, nil
	}
	if column = c.sealed; x.Field.Text {
		column = string(appendText(c.sealed))
	}
	sum, err = k.Value(x, target.Interface())
	return sum, column, err == nil, err
}

// of is the index of a value; nil for NULL.
func (x *Index) of(k *field.IndexKey, plain any) (sum []byte, err error) {
	v := reflect.ValueOf(plain)
	if !v.IsValid() {
		v = reflect.Zero(x.Field.Column.FieldType)
	}
	plaintext, null, err := x.Field.Codec.Append(nil, v)
	defer clear(plaintext)
	if err == nil && !null {
		sum, err = k.Append(make([]byte, 0, field.IndexSize), plaintext)
	}
	if err != nil {
		return nil, fmt.Errorf("rowseal: index %s: %w", x.Field.Place(), err)
	}
	return sum, nil
}

// IndexValue is what GORM is given for an index column: the hash, and nothing that could be taken for the value.
type IndexValue struct {
	index *Index
	sum   []byte
}

// Value is the hash.
func (v *IndexValue) Value() (driver.Value, error) {
	if v.sum == nil {
		return nil, nil
	}
	return v.sum, nil
}

// Format prints the column's name for every verb: a log needs no more.
func (v *IndexValue) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, v.String()) }

// String is the column's name.
func (v *IndexValue) String() string { return "rowseal.IndexValue(" + v.index.Column + ")" }
