// model.go owns what a struct says about its columns, read from its Go type as GORM and internal/row read it at run time.

package analyzer

import (
	"go/types"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// model is a struct that GORM stores. Its fields are exported for package gob, which carries facts.
type model struct {
	Package, Name string
	Table         string // "" where it is computed
	Columns       []column
}

// column is one field. The order is that of the struct, so that facts are the same bytes each time.
type column struct {
	Name    string // "" for a relation
	Field   string // in Go
	Sealed  bool
	Key     bool
	Primary bool
	Context bool // of the encryption context

	path   []string // the named structs that it is embedded in
	rowKey bool     // the key of a RowKey
	chosen string   // the key field that its tag names
	field  *types.Var
	always bool // a create writes it even where it is zero, and never as NULL
}

// sealed reports a model with sealed fields and a key for them.
func (m *model) sealed() bool {
	return m.asksSealing() && slices.ContainsFunc(m.Columns, func(c column) bool { return c.Key })
}

func (m *model) asksSealing() bool {
	return slices.ContainsFunc(m.Columns, func(c column) bool { return c.Sealed })
}

// lookup finds a column by its name, in any case.
func (m *model) lookup(name string) *column {
	for i := range m.Columns {
		if c := &m.Columns[i]; c.Name != "" && strings.EqualFold(c.Name, name) {
			return c
		}
	}
	return nil
}

// lookupField finds a column as GORM does for writes: by its name, else by its Go name.
func (m *model) lookupField(name string) *column {
	if c := m.lookup(name); c != nil {
		return c
	}
	for i := range m.Columns {
		if m.Columns[i].Field == name {
			return &m.Columns[i]
		}
	}
	return nil
}

// describe reads a named struct type. It gives nil for every other type.
func (c *checker) describe(named *types.Named) *model {
	if m, ok := c.described[named]; ok {
		return m
	}
	c.described[named] = nil
	st, ok := named.Underlying().(*types.Struct)
	if !ok || named.Obj().Pkg() == nil {
		return nil
	}
	m := &model{Package: named.Obj().Pkg().Path(), Name: named.Obj().Name(), Table: c.tableOf(named)}
	c.walk(m, st, "", nil, false, map[*types.Struct]bool{})
	if !slices.ContainsFunc(m.Columns, func(c column) bool { return c.Primary }) {
		for i := range m.Columns {
			if strings.EqualFold(m.Columns[i].Name, "id") {
				m.Columns[i].Primary = true
				break
			}
		}
	}
	c.bind(m)
	c.described[named] = m
	return m
}

func (c *checker) walk(m *model, st *types.Struct, prefix string, path []string, rowKey bool, seen map[*types.Struct]bool) {
	if seen[st] {
		return
	}
	seen[st] = true
	defer delete(seen, st)
	for i := range st.NumFields() {
		f, tag := st.Field(i), reflect.StructTag(st.Tag(i))
		settings := schema.ParseTagSetting(tag.Get("gorm"), ";")
		if ignored := settings["-"]; !f.Exported() || ignored == "-" || strings.EqualFold(ignored, "all") {
			continue
		}
		typ := deref(f.Type())
		if inner, ok := typ.Underlying().(*types.Struct); ok && c.embeds(f, typ, settings) {
			path := path
			if _, named := settings["EMBEDDED"]; named || !f.Anonymous() {
				path = append(slices.Clip(path), f.Name())
			}
			inRowKey := isRow(typ, "RowKey")
			if inRowKey && !f.Anonymous() {
				path = path[:len(path)-1] // a RowKey is no level of its own
			}
			c.walk(m, inner, prefix+settings["EMBEDDEDPREFIX"], path, inRowKey, seen)
			continue
		}
		col := column{Name: settings["COLUMN"], Field: f.Name(), Key: isRow(f.Type(), "Key"), path: path, rowKey: rowKey, field: f}
		col.Sealed = !col.Key && (asksSealing(tag, settings) || isRow(typ, "Secret"))
		col.Primary = truth(settings, "PRIMARYKEY") || truth(settings, "PRIMARY_KEY")
		if col.Sealed {
			col.chosen, _ = row.CheckTag(tag.Get("rowseal")) // a wrong tag is reported by tags.go, where it stands
		}
		if col.Name == "" && (col.Sealed || col.Key || !isRelation(f.Type())) {
			col.Name = c.names.ColumnName(m.Table, f.Name())
		}
		_, readable := settings["->"]
		_, writable := settings["<-"]
		_, isBasic := f.Type().Underlying().(*types.Basic)
		col.always = !readable && !writable && settings["DEFAULT"] == "" && (isBasic && !hasMethod(f.Type(), "Value") || isTime(f.Type()))
		if col.Name != "" {
			col.Name = prefix + col.Name
		}
		m.Columns = append(m.Columns, col)
	}
}

// embeds reports that GORM takes a field's own fields in its place.
func (c *checker) embeds(f *types.Var, typ types.Type, settings map[string]string) bool {
	if _, ok := settings["EMBEDDED"]; ok {
		return true
	}
	return f.Anonymous() && !isTime(typ) && !hasMethod(typ, "Value") && settings["SERIALIZER"] == ""
}

// asksSealing is row.asksSealing for a tag in source code.
func asksSealing(tag reflect.StructTag, settings map[string]string) bool {
	_, word := tag.Lookup("rowseal")
	return word || namesSerializer(settings)
}

func namesSerializer(settings map[string]string) bool {
	return strings.EqualFold(strings.TrimSpace(settings["SERIALIZER"]), row.SerializerName)
}

func truth(settings map[string]string, name string) bool {
	v, ok := settings[name]
	return ok && !strings.EqualFold(v, "false")
}

const (
	gormPath    = "gorm.io/gorm"
	clausePath  = "gorm.io/gorm/clause"
	rowsealPath = "github.com/rowseal/rowseal"
	rowPath     = "github.com/rowseal/rowseal/internal/row"
)

// isRow reports a type that models use: the root package's names are aliases.
func isRow(t types.Type, name string) bool {
	return isNamed(t, rowPath, name) || isNamed(t, rowsealPath, name)
}

func isNamed(t types.Type, path, name string) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == name && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == path
}

func isTime(t types.Type) bool { return isNamed(t, "time", "Time") }

func hasMethod(t types.Type, name string) bool {
	obj, _, _ := types.LookupFieldOrMethod(t, true, nil, name)
	_, ok := obj.(*types.Func)
	return ok
}

// isRelation reports a field without a column: another struct, or several of them.
func isRelation(t types.Type) bool {
	t = deref(t)
	if hasMethod(t, "Value") || hasMethod(t, "GormDataType") {
		return false
	}
	switch u := t.Underlying().(type) {
	case *types.Slice:
		_, ok := deref(u.Elem()).Underlying().(*types.Struct)
		return ok
	case *types.Struct:
		return !isTime(t)
	}
	return false
}

func deref(t types.Type) types.Type {
	for {
		p, ok := types.Unalias(t).(*types.Pointer)
		if !ok {
			return types.Unalias(t)
		}
		t = p.Elem()
	}
}

// structOf finds the named struct behind pointers, slices and arrays, as GORM does with a destination.
func structOf(t types.Type) *types.Named {
	for t != nil {
		switch u := types.Unalias(t).(type) {
		case *types.Pointer:
			t = u.Elem()
		case *types.Slice:
			t = u.Elem()
		case *types.Array:
			t = u.Elem()
		case *types.Named:
			switch under := u.Underlying().(type) {
			case *types.Struct:
				return u
			case *types.Slice:
				t = under.Elem()
			default:
				return nil
			}
		default:
			return nil
		}
	}
	return nil
}

// relation follows the fields of a path such as "Chart.Doctor".
func relation(named *types.Named, path string) *types.Named {
	for name := range strings.SplitSeq(path, ".") {
		obj, _, _ := types.LookupFieldOrMethod(named, true, nil, name)
		f, ok := obj.(*types.Var)
		if !ok {
			return nil
		}
		if named = structOf(f.Type()); named == nil {
			return nil
		}
	}
	return named
}
