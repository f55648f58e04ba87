// index.go owns what a model says of its blind indexes, and the value of an index column on its way to the database.

package row

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
)

// Index is a blind index of a sealed field: a column of its own that holds a keyed hash, by which equal values are found. The plugin writes it wherever it
// writes the field, in the same statement; nobody else does.
type Index struct {
	Field      *Field
	Terms      string // what the tag says of it, behind index= or unique=; "" for nothing
	Column     string
	Unique     bool // within the tenant, where it has Tenant
	Expression field.Expression
	Tenant     bool // equal values of two tenants have different hashes
	Bits       int  // 0 for all
	Version    int  // of its key
}

// Place names the index in errors: "Patient.Email", "Patient.Email (domain)".
func (x *Index) Place() string {
	if x.Terms == "" {
		return x.Field.Place()
	}
	return x.Field.Place() + " (" + x.Terms + ")"
}

// Narrow reports that values share an entry of it that are not equal.
func (x *Index) Narrow() bool { return x.Bits != 0 }

// Main is the index that conditions on the field itself look at: the first that is of all of its value; nil for none.
func (f *Field) Main() *Index {
	for _, x := range f.Indexes {
		if !x.Expression.Part() {
			return x
		}
	}
	return nil
}

// IndexBy finds an index by its terms, in any order; nil for none.
func (f *Field) IndexBy(terms string) *Index {
	t, err := parseIndex(terms, terms != "")
	if err != nil {
		return nil
	}
	for _, x := range f.Indexes {
		if x.Terms == t.String() {
			return x
		}
	}
	return nil
}

// IsIndex reports that a text is one that a tag could say of an index.
func IsIndex(terms string) bool {
	_, err := parseIndex(terms, terms != "")
	return err == nil
}

// indexSuffix makes the column of an index out of that of the field and its terms: another expression, width or version is another column, which is filled before anything looks at it.
const indexSuffix = "_bidx"

func indexColumn(f *Field, t indexTag) string {
	name := f.Column.DBName
	if terms := t.String(); terms != "" {
		name += "_" + strings.NewReplacer("+", "_", ".", "__").Replace(terms) // no function's name has two underscores, so no two of them meet
	}
	return name + indexSuffix
}

// longestColumn is what every database takes: Postgres cuts off a longer name, without a word.
const longestColumn = 63

// LookupIndex finds an index by the name of its column, as [Plan.Lookup] does.
func (p *Plan) LookupIndex(column string) *Index { return p.indexes[Fold(column)] }

// HasIndexes reports whether any field has one.
func (p *Plan) HasIndexes() bool { return len(p.indexes) > 0 }

// HasNarrowIndexes reports whether any field has one of fewer than all bits.
func (p *Plan) HasNarrowIndexes() bool { return p.narrow }

// Indexed lists the indexes in the order of their fields.
func (p *Plan) Indexed() (all []*Index) {
	for _, g := range p.Groups {
		for _, f := range g.Fields {
			all = append(all, f.Indexes...)
		}
	}
	return all
}

// IndexVersions lists the versions of the index key that the indexes need.
func (p *Plan) IndexVersions() (all []int) {
	for _, x := range p.Indexed() {
		if !slices.Contains(all, x.Version) {
			all = append(all, x.Version)
		}
	}
	slices.Sort(all)
	return all
}

// addIndex takes an index of a field down. Which values can have one is for package field to say; what can be known from the Go type is refused here.
func (p *Plan) addIndex(f *Field, t indexTag) error {
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
	if e := t.expression.String(); e != "" && elem.Kind() != reflect.String {
		return fmt.Errorf("%s is done to texts, and it is a %s", e, f.Column.FieldType)
	}
	x := &Index{Field: f, Terms: t.String(), Column: indexColumn(f, t), Unique: t.unique, Expression: t.expression, Tenant: t.tenant, Bits: t.bits, Version: t.version}
	if len(x.Column) > longestColumn {
		return fmt.Errorf("its index has the column %q, of %d bytes, and databases take %d; give the field a shorter column, or the index fewer steps", x.Column, len(x.Column), longestColumn)
	}
	if p.indexes[Fold(x.Column)] != nil {
		return fmt.Errorf("two indexes have the column %q", x.Column)
	}
	if declared := p.Schema.FieldsByDBName[x.Column]; declared != nil && (declared.FieldType != reflect.TypeFor[[]byte]() || declared.PrimaryKey || declared.HasDefaultValue || declared.Serializer != nil) {
		return fmt.Errorf("its index has the column %q, which is that of %s; make that a []byte without settings, or leave it to the plugin", x.Column, declared.BindName())
	}
	f.Indexes, p.indexes[Fold(x.Column)] = append(f.Indexes, x), x
	p.narrow = p.narrow || x.Narrow()
	return nil
}

// adopt gives the schema the column: AutoMigrate makes it, and nothing of GORM's writes it.
func (x *Index) adopt(s *schema.Schema) {
	c := s.FieldsByDBName[x.Column]
	if c == nil {
		c = &schema.Field{
			Name: x.Column, DBName: x.Column, BindNames: []string{x.Column}, EmbeddedBindNames: []string{x.Column}, Schema: s,
			FieldType: reflect.TypeFor[[]byte](), IndirectFieldType: reflect.TypeFor[[]byte](), TagSettings: map[string]string{},
			NewValuePool: newTargets[any](),
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
	c.DataType, c.GORMDataType, c.Size = schema.Bytes, schema.Bytes, x.size()
	// GORM asks the settings whether it is indexed, and the tag's text how.
	setting := "index"
	if x.Unique {
		setting = "uniqueIndex"
	}
	value := ""
	if name := "idx_" + strings.ReplaceAll(s.Table, ".", "_") + "_" + x.Column; len(name) > longestColumn {
		// GORM would shorten it by SHA-1, which panics under GODEBUG=fips140=only.
		sum := sha256.Sum256([]byte(name))
		value = fmt.Sprintf(":%s_%x", name[:longestColumn-17], sum[:8])
	}
	c.Tag = reflect.StructTag(`gorm:"` + setting + value + `"`)
	c.TagSettings[strings.ToUpper(setting)] = strings.ToUpper(setting)
}

// IndexKeys are those of a model's indexes.
type IndexKeys map[*Index]*field.IndexKey

// size is the length of what the column holds.
func (x *Index) size() int {
	if x.Bits == 0 {
		return field.IndexSize
	}
	return (x.Bits + 7) / 8
}

// IndexKeys derives the keys of the model's indexes from its index keys, by version. own has the application's functions.
func (m *Model) IndexKeys(roots map[int][]byte, own field.Functions) (IndexKeys, error) {
	keys := IndexKeys{}
	for _, x := range m.Plan.Indexed() {
		var err error
		place := field.IndexPlace{Namespace: m.Keys.Namespace(), Model: m.Name, Field: x.Field.Name, Name: x.Field.Name, Version: x.Version, Expression: x.Expression.String(), Bits: x.Bits, Tenants: x.Tenant}
		if keys[x], err = field.NewIndexKey(roots[x.Version], place, own); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// key is the one that an index is computed with: a tenant's, where the index has tenants.
func (k IndexKeys) key(x *Index, tenant string) (*field.IndexKey, error) {
	if !x.Tenant {
		return k[x], nil
	}
	key, err := k[x].Tenant(tenant)
	if err != nil {
		return nil, fmt.Errorf("rowseal: index %s: %w", x.Place(), err)
	}
	return key, nil
}

// Value is what the index column holds beside a Go value of the field, as GORM or an application holds it, in a row of the tenant.
func (k IndexKeys) Value(x *Index, tenant string, plain any) (*IndexValue, error) {
	key, err := k.key(x, tenant)
	if err != nil {
		return nil, err
	}
	sum, whole, err := x.of(key, plain)
	return &IndexValue{x, key, sum, whole}, err
}

// Sum is what the index column holds beside a plaintext in the form of field.Codec, in the row in v; nil for nil, which is NULL.
func (m *Model) Sum(k IndexKeys, x *Index, v reflect.Value, plaintext []byte) ([]byte, error) {
	if plaintext == nil {
		return nil, nil
	}
	tenant, err := m.TenantFor(x, v)
	if err != nil {
		return nil, err
	}
	key, err := k.key(x, tenant)
	if err != nil {
		return nil, err
	}
	sum, err := key.Append(nil, plaintext)
	if err != nil {
		return nil, fmt.Errorf("rowseal: index %s: %w", x.Place(), err)
	}
	return sum, nil
}

// Fits reports that the row in v, whose field was read and opened, is one of those that were sought by an index; read is false where it was not.
func Fits(v reflect.Value, sought []*IndexValue) (fits, read bool, err error) {
	x := sought[0].index
	s := x.Field.Group.State(v)
	target, ok := follow(v, x.Field.path)
	if s == nil || !ok || !s.Settled(x.Field) {
		return false, false, nil
	}
	var key *field.IndexKey
	var whole []byte
	for _, one := range sought { // in the order of their keys, of which there is one for each tenant
		if one.key != key {
			if _, whole, err = x.of(one.key, target.Interface()); err != nil {
				return false, true, err
			}
			key = one.key
		}
		if hmac.Equal(one.whole, whole) {
			return true, true, nil
		}
	}
	return false, true, nil
}

// of is the index of a value as it is stored, and all of its bits; nil for NULL.
func (x *Index) of(k *field.IndexKey, plain any) (sum, whole []byte, err error) {
	v := reflect.ValueOf(plain)
	if !v.IsValid() {
		v = reflect.Zero(x.Field.Column.FieldType)
	}
	plaintext, null, err := x.Field.Codec.Append(nil, v)
	defer clear(plaintext)
	if err == nil && !null {
		sum, err = k.Append(make([]byte, 0, field.IndexSize), plaintext)
		whole = sum
	}
	if err == nil && !null && x.Narrow() {
		whole, err = k.AppendWhole(nil, plaintext)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("rowseal: index %s: %w", x.Place(), err)
	}
	return sum, whole, nil
}

// IndexValue is what GORM is given for an index column: the hash, and nothing that could be taken for the value.
type IndexValue struct {
	index *Index
	key   *field.IndexKey
	sum   []byte
	whole []byte // all bits, where sum has fewer
}

// Index is what it is a value of.
func (v *IndexValue) Index() *Index { return v.index }

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
