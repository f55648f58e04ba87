// hook.go owns what happens while GORM parses a model: column types, values and setters of sealed fields become ours, and
// every statement on the model meets a guard. It is the one moment at which a schema may be changed: all fields are set up, and
// nobody else sees it yet.

package row

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

func init() {
	// GORM finds serializers by name in a registry of its own. These are stateless; they exist so that the tag is known, and so
	// that a tagged model without a key column, or without the plugin, gives our error instead of storing plaintext.
	schema.RegisterSerializer(SerializerName, refusing{})
}

// refusing is the serializer behind the tag. [adopt] takes its place wherever there is a key column, so what still reaches it has
// none.
type refusing struct{}

func isOurs(s schema.SerializerInterface) bool {
	_, ok := s.(refusing)
	return ok
}

func (refusing) Scan(ctx context.Context, f *schema.Field, dst reflect.Value, value any) error {
	// A struct that is no model, and takes a Secret from the row of one.
	if isSecret(f.FieldType) && (value == nil || isSecret(reflect.TypeOf(value))) {
		if f.ReflectValueOf(ctx, dst).Addr().Interface().(secret).accept(value) {
			return nil
		}
		return fmt.Errorf("rowseal: read %s.%s: %w: a %T does not fit a %s", f.Schema.Name, f.BindName(), ErrType, value, f.FieldType)
	}
	return noKeyColumn(f)
}

func (refusing) Value(_ context.Context, f *schema.Field, _ reflect.Value, _ any) (any, error) {
	return nil, noKeyColumn(f)
}

func noKeyColumn(f *schema.Field) error {
	return fmt.Errorf("rowseal: model %s, field %s: %w; embed rowseal.RowKey in the model", f.Schema.Name, f.BindName(), ErrModel)
}

// CreateClauses is GORM's hook, called for every field of type Key when its model is parsed. It is not for applications.
func (Key) CreateClauses(f *schema.Field) []clause.Interface {
	if PlanOf(f.Schema) != nil {
		return nil // another key of the same model came first
	}
	p := newPlan(f.Schema)
	p.adopt()
	g := &guard{p}
	// The other kinds of statement get the guard here, once; their own hooks would be called for each key.
	s := f.Schema
	s.QueryClauses = append(s.QueryClauses, g)
	s.UpdateClauses = append(s.UpdateClauses, g)
	s.DeleteClauses = append(s.DeleteClauses, g)
	return []clause.Interface{g}
}

// guard stops every statement on a model whose *gorm.DB has no plugin, does not know the model, or whose declaration is wrong.
type guard struct{ plan *Plan }

// Installed is what a plugin shows to guards: whether it knows a model.
type Installed interface {
	Knows(p *Plan) error
}

// PluginName is the name under which the plugin stands in gorm.Config.Plugins.
const PluginName = "rowseal"

// The guard is a clause that is never built: GORM asks ModifyStatement in its place.
func (*guard) Name() string               { return PluginName }
func (*guard) Build(clause.Builder)       {}
func (*guard) MergeClause(*clause.Clause) {}

// ModifyStatement refuses the statement where it must.
func (g *guard) ModifyStatement(stmt *gorm.Statement) {
	err := g.check(stmt)
	if err == nil {
		return
	}
	_ = stmt.AddError(err)
	// GORM builds and logs the text of a statement that has failed already, plaintext included. It leaves alone a text that is
	// there, and one with a value that no driver takes cannot run as part of a larger one either.
	_, _ = stmt.WriteString("/* refused by rowseal */ ")
	stmt.AddVar(stmt, Poison{err})
}

func (g *guard) check(stmt *gorm.Statement) error {
	plugin, ok := stmt.DB.Plugins[PluginName].(Installed)
	if !ok {
		return fmt.Errorf("rowseal: model %s has sealed fields: %w; call db.Use(plugin) first", g.plan.Schema.Name, ErrNoPlugin)
	}
	return plugin.Knows(g.plan)
}

// adopt changes the schema: column types that hold ciphertext, no plaintext in DDL, and our own values, setters and scan targets.
func (p *Plan) adopt() {
	for _, f := range p.Schema.Fields {
		if asksSealing(f) {
			blank(p.Schema, f)
		}
	}
	for _, g := range p.Groups {
		blank(p.Schema, g.Column)
		g.Column.DataType, g.Column.GORMDataType = schema.String, schema.String
		g.adopt()
		for _, f := range g.Fields {
			if f.Text {
				f.Column.DataType, f.Column.GORMDataType = schema.String, schema.String
			}
			f.adopt()
			for _, x := range f.Indexes {
				x.adopt(p.Schema)
			}
			p.scanOwn(f.Column)
		}
		p.scanOwn(g.Column)
	}
}

// scanOwn gives a column a second field, for rows that come into the model's own struct and into no relation of it; [Plan.Own] leads GORM there. Its scan target
// is a scanner. That of the first is a pointer to one, which stays nil for NULL, since GORM knows the missing side of a LEFT JOIN by it: database/sql makes a new
// scanner for each value then.
func (p *Plan) scanOwn(c *schema.Field) {
	own := *c
	own.NewValuePool = ownTargets
	if p.own == nil {
		p.own = map[string]string{}
	}
	p.own[c.DBName] = ownPrefix + c.DBName
	p.Schema.FieldsByName[ownPrefix+c.DBName] = &own
}

// ownPrefix is in no name that a database can give a column.
const ownPrefix = "\x00"

// Own is the ColumnMapping of a statement whose rows come into the model's own struct, while GORM scans them. Nobody may change it.
func (p *Plan) Own() map[string]string { return p.own }

// IsOwn reports whether a ColumnMapping is that of [Plan.Own].
func IsOwn(mapping map[string]string) bool {
	for _, to := range mapping {
		return strings.HasPrefix(to, ownPrefix)
	}
	return false
}

// blank makes a column fit for ciphertext, also where the declaration is wrong: AutoMigrate does not ask guards, and must
// neither put a plaintext default into DDL nor make an integer column for sealed bytes.
func blank(s *schema.Schema, f *schema.Field) {
	f.DataType, f.GORMDataType, f.Size = schema.Bytes, schema.Bytes, 0
	f.HasDefaultValue, f.DefaultValue, f.DefaultValueInterface = false, "", nil
	f.AutoCreateTime, f.AutoUpdateTime = 0, 0
	for _, setting := range []string{"TYPE", "SIZE", "DEFAULT", "CHECK", "INDEX", "UNIQUEINDEX"} {
		delete(f.TagSettings, setting)
	}
	f.Unique, f.UniqueIndex = false, ""
	for i, d := range s.FieldsWithDefaultDBValue {
		if d == f {
			s.FieldsWithDefaultDBValue = append(s.FieldsWithDefaultDBValue[:i], s.FieldsWithDefaultDBValue[i+1:]...)
			break
		}
	}
}

func (g *Group) adopt() {
	c, none := g.Column, &KeyValue{group: g}
	c.Serializer = nil
	c.NewValuePool = sealedTargets
	c.ValueOf = func(_ context.Context, v reflect.Value) (any, bool) {
		if _, ok := follow(v, g.path); !ok {
			return nil, true
		}
		s := g.State(v)
		if s == nil {
			return none, true // for everybody: nobody arms it, since it has no key
		}
		return &KeyValue{group: g, state: s}, s.Text() == ""
	}
	c.Set = func(ctx context.Context, v reflect.Value, value any) error {
		switch value := value.(type) {
		case *scanned:
			return g.scanKey(ctx, v, value.orNil())
		case **scanned:
			return g.scanKey(ctx, v, *value)
		case *KeyValue, Key, *Key, nil:
			// Keys do not travel by assignment: the plugin puts each where it belongs.
			return nil
		default:
			return fmt.Errorf("rowseal: model %s, field %s: %w; the plugin writes key columns itself", c.Schema.Name, c.BindName(), ErrKeyColumn)
		}
	}
}

func (f *Field) adopt() {
	c := f.Column
	f.assign = c.Set
	f.none = &Value{field: f, plain: reflect.Zero(c.FieldType).Interface()}
	one := oneZero(c.FieldType)
	c.NewValuePool = sealedTargets
	c.ValueOf = func(ctx context.Context, v reflect.Value) (any, bool) {
		target, ok := follow(v, f.path)
		if !ok {
			return nil, true
		}
		s := f.Group.State(v)
		switch {
		case !target.IsZero():
			return &Value{field: f, state: s, plain: target.Interface()}, false
		case !one:
			return &Value{field: f, state: s, plain: target.Interface()}, true
		case s == nil:
			return f.none, true
		}
		return &Value{field: f, state: s, plain: f.none.plain}, true
	}
	c.Set = func(ctx context.Context, v reflect.Value, value any) error {
		switch value := value.(type) {
		case *scanned:
			return f.scanCell(ctx, v, value.orNil())
		case **scanned:
			return f.scanCell(ctx, v, *value)
		case *Value:
			return f.Assign(ctx, v, value.plain)
		default:
			return f.Assign(ctx, v, value)
		}
	}
}

// oneZero reports a type that has no other value that reflect takes for its zero value, as it takes -0.0 for 0.
func oneZero(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return oneZero(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if !oneZero(t.Field(i).Type) {
				return false
			}
		}
	}
	return true
}

// Assign sets the Go field of v as GORM would, without the value in the error.
func (f *Field) Assign(ctx context.Context, v reflect.Value, value any) (err error) {
	if f.Secret {
		target := f.Column.ReflectValueOf(ctx, v)
		return setSecret(target, value, f)
	}
	// GORM's setters quote the value in their errors, and panic on some.
	defer func() {
		if r := recover(); r != nil || err != nil {
			err = fmt.Errorf("rowseal: set %s: %w: a %T does not fit a %s (the value is left out)", f.Place(), ErrType, value, f.Column.FieldType)
		}
	}()
	return f.assign(ctx, v, value)
}
