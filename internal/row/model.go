// model.go owns a model with its keys: a plan bound to a keyring, and how a row's identity and encryption context are read.

package row

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/kmskey"
)

// Context declares the KMS encryption context of a model's rows. The zero Context is the default: model_name and model_id. It is
// written to the key service's audit log in the clear, so it must name no person.
type Context struct {
	// Columns are added to the context by name, with the row's values: integers, text, UUIDs, bytes and booleans, never NULL.
	// The plugin always selects them and always writes them with the key. A column declared as char(n) refuses a text that the
	// database would give back with other blanks. Defaults to none.
	Columns []string

	// Constants are added as they are. Defaults to none.
	Constants map[string]string

	// OmitID leaves model_id out, so that a row whose id the database assigns is written by one INSERT, its key wrapped before.
	// The price: the key service no longer tells rows apart, and where the database assigns ids nothing does (docs/format.md,
	// section 5). Defaults to false.
	OmitID bool
}

// Columns declares a context of the named columns beside model_name and model_id.
func Columns(names ...string) Context { return Context{Columns: names} }

// Contexter is a model that computes its encryption context itself. The result is the whole context: nothing is added to it but
// the constants of the key version. It must depend on nothing but the row's own columns, and those must be selected whenever the
// row is read. Rows of such a model can be rotated only by the application.
type Contexter interface {
	KMSContext(version int) ([]kmskey.Pair, error)
}

// Options are what a model needs beside its plan.
type Options struct {
	Name     string // logical name; "" is the Go type's
	Context  Context
	Contexts map[int]Context // of single key versions
	Tenant   string          // the column of the context that tells tenants apart; "" is the only one
	Keys     *kmskey.Keyring
	Limit    int // key service calls in flight

	WriteOnly bool // nothing is unwrapped

	Cache *KeyCache // nil for none

	Dialect string // the name of GORM's dialector, where rows are written
}

// Model is a plan with keys. It is immutable and safe for concurrent use.
type Model struct {
	Plan  *Plan
	Name  string
	Keys  *kmskey.Keyring
	limit int

	writeOnly bool
	options   Options
	cache     *KeyCache

	versions []int // of the keyring, ascending

	ids      []part
	context  declared
	contexts map[int]declared
	tenant   *part // the column that tells tenants apart, where an index does; nil for none
	method   bool

	contextColumns, needed, bound []string         // see the methods
	places                        [][]*field.Place // by group and field
	assigned                      bool             // the database may assign the primary key
	// admitUnbound: some version was declared so that rows were written before their id was known.
	admitUnbound bool
	needsID      bool // a new row's key can be wrapped only when its primary key is known
	idsAlone     bool // no context takes anything from a row but its primary key
	fixed        bool // some part of an identity or a context is a column of fixed width
}

// part is a column whose value goes into an identity or a context.
type part struct {
	column *schema.Field
	path   []step
	uuid   bool
	width  int // n of a column char(n), or 0
}

type declared struct {
	columns   []part
	constants []kmskey.Pair
	omitID    bool
}

// Bind joins a plan with keys, and refuses what cannot work.
func Bind(p *Plan, o Options) (*Model, error) {
	m := &Model{Plan: p, options: o, Name: o.Name, Keys: o.Keys, limit: max(o.Limit, 1), writeOnly: o.WriteOnly, cache: o.Cache, versions: o.Keys.Numbers(), contexts: map[int]declared{}}
	if m.Name == "" {
		m.Name = p.Schema.Name
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("rowseal: model %s: %w: %w", p.Schema.Name, ErrModel, fmt.Errorf(format, args...))
	}
	if p.Err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, p.Err)
	}
	if m.Name == "" {
		return nil, fail("the type has no name; set Model.Name")
	}
	if len(p.Schema.PrimaryFields) == 0 {
		return nil, fail("no primary key, which a row's key is bound to; tag one with gorm:\"primaryKey\"")
	}
	for _, f := range p.Schema.PrimaryFields {
		id, err := newPart(f)
		if err != nil {
			return nil, fail("primary key %s: %w", f.Name, err)
		}
		m.ids = append(m.ids, id)
	}
	prioritized := p.Schema.PrioritizedPrimaryField
	m.assigned = prioritized != nil && len(m.ids) == 1 && prioritized.HasDefaultValue
	var err error
	if m.context, err = m.declare(o.Context); err != nil {
		return nil, fail("context: %w", err)
	}
	for version, c := range o.Contexts {
		if !slices.Contains(m.versions, version) {
			return nil, fail("Contexts names version %d, which the keyring does not have", version)
		}
		if m.contexts[version], err = m.declare(c); err != nil {
			return nil, fail("context of version %d: %w", version, err)
		}
	}
	for _, version := range m.versions {
		m.admitUnbound = m.admitUnbound || (m.assigned && m.declaredFor(version).omitID)
	}
	_, m.method = reflect.New(p.Schema.ModelType).Interface().(Contexter)
	if m.method && (len(o.Context.Columns) > 0 || len(o.Context.Constants) > 0 || o.Context.OmitID || len(o.Contexts) > 0) {
		return nil, fail("both a KMSContext method and a declared context; keep one")
	}
	m.needColumns()
	if err := m.tenanted(o.Tenant); err != nil {
		return nil, fail("%w", err)
	}
	m.needsID = m.method || !m.declaredFor(m.Keys.Current()).omitID || !m.assigned
	m.idsAlone = !m.method && len(m.ContextColumns()) == 0
	m.fixed = slices.ContainsFunc(slices.Concat(m.ids, m.declaredFor(m.Keys.Current()).columns), func(p part) bool { return p.width > 0 })
	for _, g := range p.Groups {
		var places []*field.Place
		for _, f := range g.Fields {
			places = append(places, field.NewPlace(o.Keys.Namespace(), m.Name, f.Name))
		}
		m.places = append(m.places, places)
	}
	p.bound = true
	return m, nil
}

// Under is the same model with another keyring.
func (m *Model) Under(keys *kmskey.Keyring) (*Model, error) {
	o := m.options
	o.Keys, o.WriteOnly, o.Cache = keys, false, nil
	return Bind(m.Plan, o)
}

func (m *Model) place(f *Field) *field.Place { return m.places[f.Group.pos][f.pos] }

func (m *Model) declare(c Context) (declared, error) {
	d := declared{omitID: c.OmitID}
	for _, name := range c.Columns {
		f := m.Plan.Schema.LookUpField(name)
		switch {
		case f == nil || f.DBName == "":
			return d, fmt.Errorf("no column %q", name)
		case m.Plan.Lookup(f.DBName) != nil || m.Plan.LookupKey(f.DBName) != nil:
			return d, fmt.Errorf("column %q is sealed, and the context is needed to open it", name)
		case f.PrimaryKey:
			return d, fmt.Errorf("column %q is a primary key, which model_id holds already", name)
		case f.HasDefaultValue:
			return d, fmt.Errorf("column %q has a default, so its value is not known before the insert; set it in Go", name)
		}
		p, err := newPart(f)
		if err != nil {
			return d, fmt.Errorf("column %q: %w", name, err)
		}
		d.columns = append(d.columns, p)
	}
	for name, value := range c.Constants {
		d.constants = append(d.constants, kmskey.Pair{Name: name, Value: kmskey.Text(value)})
	}
	// A first context of made-up values finds names that are given twice, or that no key service takes.
	sample := []kmskey.Pair{{Name: "model_name", Value: kmskey.Text(m.Name)}}
	for _, p := range m.ids {
		sample = append(sample, kmskey.Pair{Name: m.idName(p), Value: kmskey.Int(1)})
	}
	for _, p := range d.columns {
		sample = append(sample, kmskey.Pair{Name: p.column.DBName, Value: kmskey.Int(1)})
	}
	_, err := kmskey.NewContext(append(sample, d.constants...)...)
	return d, err
}

func newPart(f *schema.Field) (part, error) {
	t := f.FieldType
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	p := part{f, pathOf(f), strings.EqualFold(string(f.DataType), "uuid"), width(f)}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Bool, reflect.String,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return p, nil
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return p, nil
		}
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[driver.Valuer]()) {
		return p, nil
	}
	return p, fmt.Errorf("a %s cannot identify a row; use an integer, text, a UUID, bytes or a bool", f.FieldType)
}

// value reads the column from a row.
func (p part) value(v reflect.Value) (kmskey.Value, error) {
	f, ok := follow(v, p.path)
	for ok && f.Kind() == reflect.Pointer {
		ok = !f.IsNil()
		f = f.Elem()
	}
	if !ok {
		return kmskey.Value{}, fmt.Errorf("column %q is NULL", p.column.DBName)
	}
	return p.convert(f)
}

func (p part) convert(f reflect.Value) (kmskey.Value, error) {
	switch f.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return kmskey.Int(f.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return kmskey.Uint(f.Uint()), nil
	case reflect.Bool:
		return kmskey.Bool(f.Bool()), nil
	case reflect.String:
		if p.uuid {
			u, ok := canon.ParseUUID(f.String())
			if !ok {
				return kmskey.Value{}, fmt.Errorf("column %q is a uuid and does not hold one", p.column.DBName)
			}
			return u, nil
		}
		return kmskey.Text(f.String()), nil
	case reflect.Slice:
		if f.Type().Elem().Kind() == reflect.Uint8 {
			if f.IsNil() {
				return kmskey.Value{}, fmt.Errorf("column %q is NULL", p.column.DBName)
			}
			return kmskey.Bytes(f.Bytes()), nil
		}
	case reflect.Array:
		if f.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, f.Len())
			reflect.Copy(reflect.ValueOf(b), f)
			if len(b) == 16 {
				return kmskey.UUID([16]byte(b)), nil
			}
			return kmskey.Bytes(b), nil
		}
	}
	if valuer, ok := f.Interface().(driver.Valuer); ok {
		value, err := valuer.Value()
		if err == nil && value == nil {
			return kmskey.Value{}, fmt.Errorf("column %q is NULL", p.column.DBName)
		}
		if err == nil && reflect.TypeOf(value).Kind() != f.Kind() {
			return p.convert(reflect.ValueOf(value))
		}
	}
	return kmskey.Value{}, fmt.Errorf("column %q holds nothing that can identify a row", p.column.DBName)
}

// Identity is the canonical primary key of the row in v; ok is false while any part is zero, as it is before the database assigns
// one. A primary key column is never legitimately zero under GORM, which takes zero for "not set".
func (m *Model) Identity(v reflect.Value) (id string, ok bool) { return m.identityLike(v, "") }

// KnownIdentity is Identity without another copy of it, where the row's state knows it; "" for none.
func (m *Model) KnownIdentity(v reflect.Value) string {
	id, _ := m.identityLike(v, m.Plan.Groups[0].State(v).identity())
	return id
}

// identityLike is Identity without another copy of it, where it is what is known.
func (m *Model) identityLike(v reflect.Value, known string) (id string, ok bool) {
	var room [64]byte // on the stack: the text is the one allocation
	buf, ok := m.appendID(room[:0], v)
	if !ok {
		return "", false
	}
	if string(buf) == known {
		return known, true
	}
	return string(buf), true
}

// Identified reports whether the row in v has a primary key.
func (m *Model) Identified(v reflect.Value) bool {
	var room [64]byte
	_, ok := m.appendID(room[:0], v)
	return ok
}

func (m *Model) appendID(buf []byte, v reflect.Value) ([]byte, bool) {
	zero := true
	for _, p := range m.ids {
		f, ok := follow(v, p.path)
		// Of a composite key, single parts may be zero; all of them zero is a key that was not set.
		if !ok || (f.IsZero() && len(m.ids) == 1) {
			return nil, false
		}
		zero = zero && f.IsZero()
		for ok && f.Kind() == reflect.Pointer {
			ok = !f.IsNil()
			f = f.Elem()
		}
		if !ok {
			return nil, false
		}
		if buf, ok = p.append(buf, f); !ok {
			return nil, false
		}
	}
	return buf, !zero
}

// append adds the canonical form of a value of the column. Integers are most primary keys, and need no Value.
func (p part) append(dst []byte, f reflect.Value) ([]byte, bool) {
	switch {
	case f.CanInt():
		return canon.AppendInt(dst, f.Int()), true
	case f.CanUint() && f.Kind() != reflect.Uintptr:
		return canon.AppendUint(dst, f.Uint()), true
	}
	value, err := p.convert(f)
	if err != nil {
		return dst, false
	}
	return canon.Append(dst, value), true
}

// identityOf is the canonical form of primary key values given part by part, in any Go type that the columns take. ok is false
// where one is missing or is no value, such as SQL's DEFAULT. Where it is what is known, there is no other copy of it.
func (m *Model) identityOf(known string, get func(part int) (any, bool)) (id string, ok bool) {
	var room [64]byte
	buf := room[:0]
	for i, p := range m.ids {
		raw, ok := get(i)
		v := reflect.ValueOf(raw)
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if !ok || !v.IsValid() {
			return "", false
		}
		if buf, ok = p.append(buf, v); !ok {
			return "", false
		}
	}
	if string(buf) == known {
		return known, true
	}
	return string(buf), true
}

// Literal reports a primary key column of text, which names a row by its very characters, whatever a collation takes for equal.
func Literal(f *schema.Field) bool {
	column := strings.ToLower(string(f.DataType))
	text := column == string(schema.String) || strings.Contains(column, "char") || strings.Contains(column, "text")
	switch f.IndirectFieldType.Kind() {
	case reflect.String:
		return column != "uuid"
	case reflect.Slice, reflect.Array: // bytes, and UUIDs, which are one in either case
		return false
	default:
		return text // a Valuer
	}
}

// SameColumn reports whether two rows agree in a primary key or context column.
func (m *Model) SameColumn(f *schema.Field, a, b reflect.Value) bool {
	p, err := newPart(f)
	if err != nil {
		return false
	}
	x, xErr := p.value(a)
	y, yErr := p.value(b)
	return (xErr == nil) == (yErr == nil) && x == y // both may be NULL
}

// WriteOnly reports that keys are never unwrapped.
func (m *Model) WriteOnly() bool { return m.writeOnly }

// Computed reports whether the model computes its context itself.
func (m *Model) Computed() bool { return m.method }

// Assigned reports whether the database may assign the primary key.
func (m *Model) Assigned() bool { return m.assigned }

// NeedsID reports whether a new row's key can be wrapped only when its primary key is known.
func (m *Model) NeedsID() bool { return m.needsID }

func (m *Model) declaredFor(version int) declared {
	if d, ok := m.contexts[version]; ok {
		return d
	}
	return m.context
}

// Needed lists the columns that must be read and written together with any key: primary key and context. Nobody may change it in place.
func (m *Model) Needed() []string { return m.needed }

// Needs reports one of these columns, by a name as [Plan.Lookup] takes it.
func (m *Model) Needs(column string) bool { return slices.Contains(m.bound, Fold(column)) }

// ContextColumns lists the columns that any declared context needs. Nobody may change it in place.
func (m *Model) ContextColumns() []string { return m.contextColumns }

// needColumns makes these lists.
func (m *Model) needColumns() {
	add := func(names *[]string, name string) {
		if !slices.Contains(*names, name) {
			*names = append(*names, name)
		}
	}
	for _, version := range slices.Concat([]int{0}, m.versions) { // 0 is none, and has the context of most
		for _, p := range m.declaredFor(version).columns {
			add(&m.contextColumns, p.column.DBName)
		}
	}
	for _, p := range m.ids {
		m.needed = append(m.needed, p.column.DBName)
	}
	for _, name := range m.contextColumns {
		add(&m.needed, name)
	}
	m.contextColumns, m.needed = slices.Clip(m.contextColumns), slices.Clip(m.needed)
	for _, name := range m.needed {
		m.bound = append(m.bound, Fold(name))
	}
}

// Row reads from the row in v what the group's envelope is bound to. The result keeps copies, so that it still names the row as it
// was read when the struct has changed.
func (m *Model) Row(g *Group, v reflect.Value) (kmskey.Row, error) {
	b, err := m.bind(g, v)
	return b.row(), err
}

// binding is what a row's envelope is bound to, in copies. Of most models that is the primary key; the rest is made of it when a key is
// wrapped or unwrapped, which many rows that are read never see.
type binding struct {
	model    *Model
	group    *Group
	id       string    // canonical primary key; "" where it is not known
	contexts *contexts // nil where a context takes nothing but the primary key
}

// contexts are a row's pairs, by version.
type contexts struct {
	pairs [][]kmskey.Pair
	errs  []error
}

func (m *Model) bind(g *Group, v reflect.Value) (binding, error) {
	id, _ := m.Identity(v)
	return m.bindAs(g, v, id)
}

// bindAs is for a row whose canonical primary key is known.
func (m *Model) bindAs(g *Group, v reflect.Value, id string) (binding, error) {
	if id == "" && m.NeedsID() {
		return binding{}, fmt.Errorf("%w, which is not set or was not selected", ErrIdentity)
	}
	b := binding{model: m, group: g, id: id}
	if m.idsAlone {
		return b, nil
	}
	// Every version is read now, since the struct may change; one that cannot be read fails only when it is needed.
	b.contexts = &contexts{make([][]kmskey.Pair, len(m.versions)), make([]error, len(m.versions))}
	for i, version := range m.versions {
		b.contexts.pairs[i], b.contexts.errs[i] = m.pairs(version, canon.Values(id), v)
	}
	return b, nil
}

// row is the form that the keyring takes.
func (b binding) row() kmskey.Row {
	if b.model == nil {
		return kmskey.Row{}
	}
	ids := canon.Values(b.id)
	return kmskey.Row{
		Model: b.model.Name, Key: b.group.Name, ID: ids, Unbound: !b.model.NeedsID(), AdmitUnbound: b.model.admitUnbound,
		Context: func(version int) ([]kmskey.Pair, error) { return b.context(version, ids) },
	}
}

func (b binding) context(version int, ids []kmskey.Value) (pairs []kmskey.Pair, err error) {
	i := slices.Index(b.model.versions, version)
	switch {
	case i < 0:
		return nil, fmt.Errorf("%w: version %d is not in the keyring", ErrContext, version)
	case b.contexts == nil:
		pairs, err = b.model.pairs(version, ids, reflect.Value{})
	default:
		pairs, err = b.contexts.pairs[i], b.contexts.errs[i]
	}
	if err != nil {
		return nil, fmt.Errorf("%w: version %d: %w", ErrContext, version, err)
	}
	return pairs, nil
}

// complete reports why the context of new keys is not known.
func (b binding) complete() error {
	if b.contexts == nil && b.id != "" {
		return nil
	}
	_, err := b.context(b.model.Keys.Current(), canon.Values(b.id))
	return err
}

func (m *Model) pairs(version int, ids []kmskey.Value, v reflect.Value) ([]kmskey.Pair, error) {
	if m.method {
		return m.ask(version, v)
	}
	d := m.declaredFor(version)
	pairs := make([]kmskey.Pair, 0, 1+len(d.constants)+len(m.ids)+len(d.columns))
	pairs = append(append(pairs, kmskey.Pair{Name: "model_name", Value: kmskey.Text(m.Name)}), d.constants...)
	if !d.omitID {
		if len(ids) == 0 {
			return nil, fmt.Errorf("%w, which is not known yet", ErrIdentity)
		}
		for i, p := range m.ids {
			pairs = append(pairs, kmskey.Pair{Name: m.idName(p), Value: ids[i]})
		}
	}
	for _, p := range d.columns {
		value, err := p.value(v)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, kmskey.Pair{Name: p.column.DBName, Value: value})
	}
	return pairs, nil
}

// partly is what is known of a row's binding without its primary key, and what tells it apart from others; ok is false where that is nothing.
func (m *Model) partly(g *Group, v reflect.Value) (r kmskey.Row, id string, ok bool) {
	if m.method {
		return kmskey.Row{}, "", false // it may look at the primary key
	}
	d := m.declaredFor(m.Keys.Current())
	pairs := append([]kmskey.Pair{{Name: "model_name", Value: kmskey.Text(m.Name)}}, d.constants...)
	known := canon.AppendText(nil, g.Name)
	for _, p := range d.columns {
		value, err := p.value(v)
		if err != nil {
			return kmskey.Row{}, "", false
		}
		pairs, known = append(pairs, kmskey.Pair{Name: p.column.DBName, Value: value}), canon.Append(known, value)
	}
	read := func(int) ([]kmskey.Pair, error) { return pairs, nil }
	return kmskey.Row{Model: m.Name, Key: g.Name, Context: read}, string(known), true
}

// idName is the name of one part of the primary key in a context.
func (m *Model) idName(p part) string {
	if len(m.ids) == 1 {
		return "model_id"
	}
	return "model_id." + p.column.DBName
}

// ask calls the model's own method, on a copy where v has no address.
func (m *Model) ask(version int, v reflect.Value) ([]kmskey.Pair, error) {
	v = reflect.Indirect(v)
	if !v.CanAddr() {
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		v = c
	}
	c, ok := v.Addr().Interface().(Contexter)
	if !ok {
		return nil, errors.New("the KMSContext method is gone")
	}
	return c.KMSContext(version)
}

// SameContext reports whether the row in v still has the context that s was read with, under every version.
func (m *Model) SameContext(s *State, g *Group, v reflect.Value) (bool, error) {
	id, _ := m.Identity(v)
	return m.sameContextAs(s, g, v, id)
}

func (m *Model) sameContextAs(s *State, g *Group, v reflect.Value, id string) (bool, error) {
	now, err := m.bindAs(g, v, id)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	before := s.row
	s.mu.Unlock()
	if before == now {
		return true, nil // and neither takes anything but the primary key
	}
	was, is := canon.Values(before.id), canon.Values(now.id)
	for _, version := range m.versions {
		a, aErr := before.context(version, was)
		b, bErr := now.context(version, is)
		if bErr != nil && aErr == nil {
			return false, bErr
		}
		// A column that only a later version needs may be unset on both sides.
		if (aErr == nil) != (bErr == nil) || !slices.Equal(a, b) {
			return false, nil
		}
	}
	return true, nil
}

// Describe identifies the row in v for an error: "Patient 7".
func (m *Model) Describe(v reflect.Value) string {
	id, ok := m.Identity(v)
	if !ok {
		return m.Plan.Schema.Name
	}
	var parts []string
	for _, value := range canon.Values(id) {
		parts = append(parts, value.String())
	}
	return m.Plan.Schema.Name + " " + strings.Join(parts, ",")
}

// Parallel calls f for 0 to n-1, at most as many at a time as the model's limit, and gives the errors by index. It starts no new
// call after ctx ends.
func (m *Model) Parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) []error {
	return parallel(ctx, m.limit, n, f)
}
