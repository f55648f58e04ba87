// plan.go owns what a model says about itself: which fields are sealed, under which key, and where everything lies in the
// struct. A plan is a pure function of the Go type and GORM's naming strategy; it holds no secret and needs no keyring.

package row

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
)

// SerializerName is the name in the gorm tag that makes a field sealed: gorm:"serializer:rowseal".
const SerializerName = "rowseal"

// Plan is the structure of one model.
type Plan struct {
	Schema *schema.Schema
	Groups []*Group
	// Err is every mistake in the model's declaration, joined; nil where there is none. A plan with an error seals and opens
	// nothing.
	Err error

	byColumn map[string]*Field
	keys     map[string]*Group // by key column
	indexes  map[string]*Index // by column
	own      map[string]string // see Own
	narrow   bool              // one of them is
	bound    bool              // it is that of a registered model
	pointers bool              // fields lie in structs that are embedded by pointer
}

// Group is one key column and the fields sealed under it.
type Group struct {
	Plan   *Plan
	Name   string // logical, in the commitment
	Column *schema.Field
	Own    any // the column in a statement's own table, as GORM is asked to write it
	Fields []*Field
	path   []step
	pos    int // in Plan.Groups
}

// Field is one sealed field.
type Field struct {
	Group  *Group
	Name   string // logical, in the associated data
	Column *schema.Field
	Codec  *field.Codec
	Text   bool // stored as text, not bytes
	JSON   bool // sealed as JSON
	Secret bool // a Secret[T], opened only on request
	// Indexes are its blind indexes, in the order of the tag.
	Indexes []*Index

	path   []step
	pos    int    // in Group.Fields
	assign setter // GORM's own setter of the Go value
	none   *Value // the zero value of its Go type, of any row that has no key: most of what GORM asks a struct of changes for. It is never sealed
}

type setter = func(ctx context.Context, v reflect.Value, value any) error

// Place names the field in errors: "Patient.Email".
func (f *Field) Place() string { return f.Column.Schema.Name + "." + f.Column.BindName() }

// Lookup finds a sealed field by the name of its column, in any case, quoted or behind its table: databases take all of these.
func (p *Plan) Lookup(column string) *Field { return p.byColumn[Fold(column)] }

// LookupKey finds a group by the name of its key column, as [Plan.Lookup] does.
func (p *Plan) LookupKey(column string) *Group { return p.keys[Fold(column)] }

// Fold is the last part of a column's or a table's name, without quotes, in lower case: what databases compare.
func Fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return strings.ToLower(strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`\"[]"))
		}
	}
	return name // as nearly all are written
}

// Sealed lists the sealed columns in the order of the schema.
func (p *Plan) Sealed() []string {
	var names []string
	for _, name := range p.Schema.DBNames {
		if p.Lookup(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// PlanOf gives the plan that was made when GORM parsed the schema; nil for a model without a key column.
func PlanOf(s *schema.Schema) *Plan {
	if s == nil {
		return nil
	}
	for _, c := range s.CreateClauses {
		if g, ok := c.(*guard); ok {
			return g.plan
		}
	}
	return nil
}

// Tagged reports whether any field of the schema asks to be sealed, by its tag or its type. A tagged schema without a plan is
// a model that forgot its key column.
func Tagged(s *schema.Schema) bool {
	return slices.ContainsFunc(s.Fields, asksSealing)
}

func asksSealing(f *schema.Field) bool {
	_, word := f.Tag.Lookup("rowseal")
	return (word && !isKey(f)) || namesSerializer(f) || isSecret(f.FieldType)
}

func namesSerializer(f *schema.Field) bool {
	return strings.EqualFold(strings.TrimSpace(f.TagSettings["SERIALIZER"]), SerializerName)
}

func isKey(f *schema.Field) bool { return f.FieldType == reflect.TypeFor[Key]() }

// newPlan reads a schema while GORM still builds it: fields and their setters exist, relations do not yet.
func newPlan(s *schema.Schema) *Plan {
	p := &Plan{Schema: s, byColumn: map[string]*Field{}, keys: map[string]*Group{}, indexes: map[string]*Index{}}
	p.pointers = slices.ContainsFunc(s.Fields, func(f *schema.Field) bool {
		path := pathOf(f)
		return slices.ContainsFunc(path[:max(len(path)-1, 0)], func(s step) bool { return s.pointer })
	})
	var errs []error
	fail := func(f *schema.Field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("rowseal: model %s, field %s: %w", s.Name, f.BindName(), fmt.Errorf(format, args...)))
	}
	for _, f := range s.Fields {
		if isKey(f) {
			p.addKey(f, fail)
		}
	}
	for _, f := range s.Fields {
		if asksSealing(f) {
			p.addField(f, fail)
		}
	}
	p.Err = errors.Join(errs...)
	return p
}

type failFunc func(f *schema.Field, format string, args ...any)

func (p *Plan) addKey(f *schema.Field, fail failFunc) {
	t, err := parseTag(f.Tag.Get("rowseal"))
	switch {
	case err != nil:
		fail(f, "tag rowseal: %w", err)
	case t.key != "" || t.json || t.text || len(t.indexes) > 0:
		fail(f, "tag rowseal: a key column takes only name=logical")
	case p.Schema.FieldsByDBName[f.DBName] != f || p.keys[Fold(f.DBName)] != nil:
		fail(f, "two fields have the column %q, and GORM keeps only one; give each key a column of its own, as in gorm:\"column:encrypted_kms_key_phone\"", f.DBName)
	case f.PrimaryKey || f.Unique || f.HasDefaultValue || !f.Creatable || !f.Updatable || !f.Readable:
		fail(f, "a key column can have no default, permission, unique or primaryKey setting")
	default:
		g := &Group{Plan: p, Name: f.DBName, Column: f, path: pathOf(f), pos: len(p.Groups)}
		g.Own = clause.Column{Table: clause.CurrentTable, Name: f.DBName}
		if t.name != "" {
			g.Name = t.name
		}
		for _, other := range p.Groups {
			if other.Name == g.Name {
				fail(f, "its logical name %q is also that of %s", g.Name, other.Column.BindName())
			}
		}
		p.Groups = append(p.Groups, g)
		p.keys[Fold(f.DBName)] = g
	}
}

func (p *Plan) addField(f *schema.Field, fail failFunc) {
	t, err := parseTag(f.Tag.Get("rowseal"))
	if err != nil {
		fail(f, "tag rowseal: %w", err)
		return
	}
	if err := checkField(p.Schema, f); err != nil {
		fail(f, "%w", err)
		return
	}
	g, err := p.chooseKey(f, t.key)
	if err != nil {
		fail(f, "%w", err)
		return
	}
	typ, secret := f.FieldType, isSecret(f.FieldType)
	if !secret && isSecret(f.IndirectFieldType) {
		fail(f, "a pointer to a Secret; use rowseal.Secret without the pointer, which can be NULL by itself")
		return
	}
	if secret {
		typ = secretType(f.FieldType)
	}
	codec, err := field.CodecFor(typ, t.json)
	if err != nil {
		fail(f, "%w", err)
		return
	}
	sealed := &Field{Group: g, Name: f.DBName, Column: f, Codec: codec, Text: t.text, JSON: t.json, Secret: secret, path: pathOf(f), pos: len(g.Fields)}
	if t.name != "" {
		sealed.Name = t.name
	}
	for _, other := range p.byColumn {
		if other.Name == sealed.Name {
			fail(f, "its logical name %q is also that of %s", sealed.Name, other.Column.BindName())
			return
		}
	}
	g.Fields = append(g.Fields, sealed)
	p.byColumn[Fold(f.DBName)] = sealed
	for _, x := range t.indexes {
		if err := p.addIndex(sealed, x); err != nil {
			fail(f, "%w", err)
		}
	}
}

// checkField refuses settings that GORM would carry out with the plaintext, or that ciphertext makes void.
func checkField(s *schema.Schema, f *schema.Field) error {
	set := f.TagSettings
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(n string) bool { _, ok := set[n]; return ok })
	}
	switch {
	case !namesSerializer(f):
		return errors.New(`it has a rowseal tag but would be stored in plaintext; add gorm:"serializer:rowseal"`)
	case !isOurs(f.Serializer):
		return errors.New(`GORM uses another serializer for it: remove "json" from its gorm tag, and check that no package registers the name "rowseal"`)
	case f.DBName == "":
		return errors.New("it has no column; a sealed field needs one")
	case s.FieldsByDBName[f.DBName] != f:
		return fmt.Errorf("column %q belongs to another field of the struct, which GORM would store in plaintext; rename one", f.DBName)
	case f.PrimaryKey:
		return errors.New("a primary key cannot be sealed")
	case f.Unique || has("UNIQUE", "UNIQUEINDEX", "INDEX"):
		return errors.New("a sealed column cannot be indexed or unique: every ciphertext is different")
	case f.HasDefaultValue || has("DEFAULT"):
		return errors.New("a default would be stored in plaintext; set the value in Go, for instance in BeforeCreate")
	case has("CHECK"):
		return errors.New("a CHECK would compare ciphertext with plaintext; check the value in Go")
	case has("TYPE", "SIZE"):
		return errors.New("remove type and size: rowseal chooses the column type; for text columns use rowseal:\"text\"")
	case f.AutoCreateTime > 0 || f.AutoUpdateTime > 0:
		return errors.New("GORM would fill it with the time in plaintext; add autoCreateTime:false or autoUpdateTime:false, or rename it")
	case !f.Creatable || !f.Updatable || !f.Readable:
		return errors.New("a sealed field cannot be restricted by -> or <-")
	}
	return nil
}

// chooseKey finds the key field that f is sealed under: the one its tag names, else the nearest around it. A RowKey comes before
// a plain Key in the same struct, so that further keys can stand beside it.
func (p *Plan) chooseKey(f *schema.Field, name string) (*Group, error) {
	at := level(f)
	if name != "" {
		for n := len(at); n >= 0; n-- {
			for _, g := range p.Groups {
				if g.Column.Name == name && slices.Equal(level(g.Column), at[:n]) {
					return g, nil
				}
			}
		}
		return nil, fmt.Errorf("tag rowseal: key=%s names no field of type rowseal.Key in this struct or around it", name)
	}
	for n := len(at); n >= 0; n-- {
		var near []*Group
		for _, g := range p.Groups {
			if slices.Equal(level(g.Column), at[:n]) {
				near = append(near, g)
			}
		}
		if rowKeys := slices.DeleteFunc(slices.Clone(near), func(g *Group) bool { return !inRowKey(g.Column) }); len(rowKeys) > 0 {
			near = rowKeys
		}
		switch len(near) {
		case 0:
			continue
		case 1:
			return near[0], nil
		}
		var names []string
		for _, g := range near {
			names = append(names, g.Column.Name)
		}
		return nil, fmt.Errorf("several keys fit (%s); choose one, as in rowseal:\"key=%s\"", strings.Join(names, ", "), names[0])
	}
	return nil, errors.New("no key column around it; embed rowseal.RowKey in the model")
}

// level is the path of structs that a field belongs to. Anonymous embedding does not count, and neither does RowKey itself.
func level(f *schema.Field) []string {
	names := f.EmbeddedBindNames[:len(f.EmbeddedBindNames)-1]
	if inRowKey(f) && len(names) > 0 && len(f.BindNames) > 1 && names[len(names)-1] == f.BindNames[len(f.BindNames)-2] {
		names = names[:len(names)-1]
	}
	return names
}

// inRowKey reports whether a key field is the one inside a RowKey.
func inRowKey(f *schema.Field) bool {
	return f.Name == rowKeyField && f.StructField.Index != nil && len(f.BindNames) > 1
}

var rowKeyField = reflect.TypeFor[RowKey]().Field(0).Name

// step is one hop from a struct to a field: an index, and whether what stands there is a pointer to the next struct.
type step struct {
	index   int
	pointer bool
}

// pathOf reads GORM's index path, which marks embedded pointers by negative numbers.
func pathOf(f *schema.Field) []step {
	path := make([]step, len(f.StructField.Index))
	for i, index := range f.StructField.Index {
		if index < 0 {
			path[i] = step{-index - 1, true}
		} else {
			path[i] = step{index, false}
		}
	}
	return path
}

// Related gives the struct that a relation field of v holds; ok is false where there is none.
func Related(v reflect.Value, f *schema.Field) (reflect.Value, bool) {
	r, ok := follow(v, pathOf(f))
	for ok && r.Kind() == reflect.Pointer {
		ok = !r.IsNil()
		r = r.Elem()
	}
	return r, ok && r.Kind() == reflect.Struct
}

// Copy is a copy of the row in v whose embedded pointers lead to copies of their own.
func (p *Plan) Copy(v reflect.Value) reflect.Value {
	c := reflect.New(p.Schema.ModelType).Elem()
	c.Set(v)
	if !p.pointers {
		return c
	}
	done := map[any]bool{} // by the pointer's place
	for _, f := range p.Schema.Fields {
		at := c
		path := pathOf(f)
		for _, s := range path[:max(len(path)-1, 0)] {
			at = at.Field(s.index)
			if !s.pointer {
				continue
			}
			if at.IsNil() || !at.CanSet() {
				break
			}
			if place := at.Addr().Interface(); !done[place] {
				done[place] = true
				own := reflect.New(at.Type().Elem())
				own.Elem().Set(at.Elem())
				at.Set(own)
			}
			at = at.Elem()
		}
	}
	return c
}

// follow walks a path through v without allocating: GORM's own ReflectValueOf would fill nil embedded pointers of a struct that
// the caller only wants to read. ok is false where a pointer on the way is nil.
func follow(v reflect.Value, path []step) (reflect.Value, bool) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return reflect.Value{}, false
		}
		v = v.Elem()
	}
	for i, s := range path {
		v = v.Field(s.index)
		if s.pointer && i < len(path)-1 {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
	}
	return v, true
}
