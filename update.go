// update.go owns changes of rows that exist: which key a change is sealed under, what must not be written, and what happens when
// another writer was faster.

package rowseal

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// change is one Update while it runs.
type change struct {
	marked
	model   *row.Model
	value   reflect.Value // the model's row
	before  reflect.Value // a copy of it as it came: GORM puts the new values into the row while it collects them
	stored  reflect.Value // of a model that computes its context: the row as the database has it; invalid where value is to stand for it
	after   reflect.Value // a copy of it as the statement would leave it, as far as that is known in Go; see outcome
	id      string
	set     clause.Set
	given   clause.Set // the SET that was in the statement already
	hadSet  bool
	unread  map[string]bool // columns whose value is what a struct holds that was read without them
	implied map[string]bool // columns whose value is just what the row's own struct holds
	groups  []*regroup
	retried bool
	pinned  bool // the SET writes context columns
	many    *many

	where    clause.Expression   // the condition that the statement came with
	narrowed []clause.Expression // and what became of it; nil for nothing

	// Room for what most changes have: one group, and a few conditions.
	first struct {
		regroup  regroup
		groups   [1]*regroup
		narrowed [4]clause.Expression
	}
}

// regroup is what the statement does to one key group.
type regroup struct {
	group  *row.Group
	state  *row.State    // what the row will have
	origin *row.State    // what the row had
	writes bool          // the key column is in the SET
	moved  bool          // the statement moves the row's context
	absent bool          // the struct does not have the group, so that the row must not have it either
	added  bool          // state has a data key more than the row had, which nobody opened
	pin    *pin          // the context that the row must still have; nil where the key is not written
	expect *keyCondition // the key that the row must still have; nil for none
	seals  bool          // values are sealed under state in this statement

	carried []*carried // not sealed in it, and with indexes of the tenant that the row leaves

	condition keyCondition // for expect
}

// expects sets the key that the row must still have, "" for none.
func (r *regroup) expects(text string) {
	r.condition = keyCondition{group: r.group, text: text}
	r.expect = &r.condition
}

// keyCondition is "key column = what we hold" or "key column IS NULL". It is part of WHERE, so that a row that another writer gave a
// new key is not touched: its other fields are sealed under that key.
type keyCondition struct {
	group *row.Group
	text  string // "" is NULL
	vars  [1]any // text, as it is written
}

func (k *keyCondition) Build(b clause.Builder) {
	if k.text == "" {
		b.WriteQuoted(k.group.Own)
		_, _ = b.WriteString(" IS NULL")
		return
	}
	if stmt, ok := b.(*gorm.Statement); ok && isMySQL(stmt.DB) {
		_, _ = b.WriteString(exact(stmt.DB, stmt.Quote(k.group.Own)))
	} else {
		b.WriteQuoted(k.group.Own)
	}
	_, _ = b.WriteString(" = ")
	k.vars[0] = k.text
	b.AddVar(b, k.vars[:]...)
}

// pin is the condition that a row's context columns, but for those that the statement writes, are what its new key was wrapped for. The key alone does not tell: a
// column that only another version's context has can change without a new key.
type pin struct {
	change *change
	row    reflect.Value
}

func (p *pin) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		return
	}
	conds, args := pinned(stmt, p.change.model, p.row, func(f *schema.Field) bool { return p.change.writesColumn(f.DBName) })
	if len(conds) == 0 {
		_, _ = b.WriteString("1 = 1")
		return
	}
	clause.Expr{SQL: strings.Join(conds, " AND "), Vars: args}.Build(b)
}

// pinned is the conditions that the context columns of the row in v are what they are there, but for those left out.
func pinned(stmt *gorm.Statement, m *row.Model, v reflect.Value, leave func(*schema.Field) bool) (conds []string, args []any) {
	for _, name := range m.ContextColumns() {
		f := m.Plan.Schema.LookUpField(name)
		if leave != nil && leave(f) {
			continue
		}
		quoted := stmt.Quote(f.DBName)
		value, _ := f.ValueOf(stmt.Context, v)
		if d, err := driver.DefaultParameterConverter.ConvertValue(value); err == nil && d == nil {
			conds = append(conds, quoted+" IS NULL")
			continue
		}
		conds, args = append(conds, quoted+" = ?"), append(args, value)
		if row.Literal(f) {
			conds, args = append(conds, literally(stmt.DB, quoted)), append(args, value)
		}
	}
	return conds, args
}

func (c *change) writesColumn(name string) bool {
	return slices.ContainsFunc(c.set, func(a clause.Assignment) bool { return a.Column.Name == name })
}

// beforeUpdate builds the SET itself, with GORM's own rules, and then sees to the sealed columns in it.
func (p *Plugin) beforeUpdate(db *gorm.DB) {
	stmt := db.Statement
	drop(db)
	if db.Error != nil || stmt.Schema == nil || stmt.SQL.Len() > 0 {
		return
	}
	m := p.typed(stmt)
	if m == nil {
		return
	}
	c := &change{model: m, value: reflect.Indirect(stmt.ReflectValue)}
	if c.value.IsValid() && c.value.Type() == m.Plan.Schema.ModelType {
		c.id = m.KnownIdentity(c.value)
		c.before = m.Plan.Copy(c.value)
	} else {
		c.before, c.after = reflect.New(m.Plan.Schema.ModelType).Elem(), reflect.New(m.Plan.Schema.ModelType).Elem()
		c.value = c.before // many rows, or none
	}
	if err := c.build(stmt, p.config.MaxRows); err != nil {
		_ = db.AddError(err)
		return
	}
	if db.Error != nil {
		return
	}
	if len(c.set) > 0 {
		stmt.AddClause(c.set)
	}
	keep(db, c)
	keep(db, &c.marked)
	c.begin(db, true)
}

// outcome is after, which most changes do not ask for.
func (c *change) outcome() reflect.Value {
	if !c.after.IsValid() {
		c.after = c.model.Plan.Copy(c.before)
	}
	return c.after
}

// build collects the assignments and finds the keys for them.
func (c *change) build(stmt *gorm.Statement, maxRows int) error {
	m := c.model
	if given, ok := stmt.Clauses["SET"].Expression.(clause.Set); ok {
		c.set, c.given, c.hadSet = slices.Clone(given), given, true
	} else {
		c.set = callbacks.ConvertToAssignments(stmt)
		if stmt.DB.Error != nil {
			return nil
		}
	}
	if err := c.sort(stmt); err != nil || stmt.DB.DryRun {
		return err
	}
	moved, err := c.contextMoved(stmt)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(m.Plan.Groups, c.touches) && !moved && !c.pinned && !(m.Computed() && c.plainColumns()) {
		return nil
	}
	switch {
	case c.id == "" && (moved || c.pinned):
		return fmt.Errorf("rowseal: update %s: %w: it would write %s of many rows, whose keys are bound to it; load the rows and save each",
			m.Plan.Schema.Name, ErrUnsupported, strings.Join(m.ContextColumns(), ", "))
	case c.id == "":
		return c.spread(stmt, c.touched(), maxRows)
	}
	if err := refuseOr(stmt); err != nil {
		return fmt.Errorf("rowseal: update %s: %w", m.Describe(c.value), err)
	}
	return c.rekey(stmt, moved)
}

// touches reports that the SET has a value of the group that needs a key: NULL needs none.
func (c *change) touches(g *row.Group) bool {
	return slices.ContainsFunc(c.set, func(a clause.Assignment) bool {
		v, ok := a.Value.(*row.Value)
		return ok && v.Field().Group == g && !v.Null()
	})
}

// touched lists the groups with such values, in the order of the SET.
func (c *change) touched() (groups []*row.Group) {
	for _, a := range c.set {
		if v, ok := a.Value.(*row.Value); ok && !v.Null() && !slices.Contains(groups, v.Field().Group) {
			groups = append(groups, v.Field().Group)
		}
	}
	return groups
}

// bound reports whether an assignment to a primary key or context column leaves the row where its keys are bound to: the same primary
// key, and the context that the keys of this statement were made for.
func (c *change) bound(stmt *gorm.Statement, a clause.Assignment) bool {
	f := column(stmt.Schema, a.Column.Name)
	if f == nil || c.id == "" {
		return false
	}
	scratch := reflect.New(c.model.Plan.Schema.ModelType).Elem()
	if f.Set(stmt.Context, scratch, a.Value) != nil {
		return false
	}
	want := c.outcome()
	if f.PrimaryKey {
		want = c.before
	}
	return c.model.SameColumn(f, scratch, want)
}

// sort takes key columns out of the SET and makes every sealed value one of ours.
func (c *change) sort(stmt *gorm.Statement) error {
	plan := c.model.Plan
	set := c.set[:0] // it is ours
	for _, a := range c.set {
		if plan.LookupKey(a.Column.Name) != nil {
			if _, ours := a.Value.(*row.KeyValue); !ours {
				return fmt.Errorf("rowseal: update %s, column %s: %w", plan.Schema.Name, a.Column.Name, ErrKeyColumn)
			}
			continue // an unchanged key is never written: it would undo a rotation that ran since the row was read
		}
		f := plan.Lookup(a.Column.Name)
		if f == nil {
			if err := c.leave(stmt, a); err != nil {
				return err
			}
			set = append(set, a)
			continue
		}
		if a.Column.Name != f.Column.DBName {
			return fmt.Errorf("rowseal: update %s: %w: it is written as %q; write %q", f.Place(), ErrUnsupported, a.Column.Name, f.Column.DBName)
		}
		v, err := c.valueFor(stmt, f, a.Value)
		if err != nil {
			return err
		}
		if c.model.Computed() {
			_ = f.Assign(stmt.Context, c.outcome(), v.Plain())
		}
		a.Value = v
		set = append(set, a)
	}
	c.set = set
	return nil
}

// leave notes in the copy of the row what an assignment to a column that is not sealed makes of it.
func (c *change) leave(stmt *gorm.Statement, a clause.Assignment) error {
	f := column(stmt.Schema, a.Column.Name)
	if f == nil || f.PrimaryKey {
		return nil
	}
	bound := slices.Contains(c.model.ContextColumns(), f.DBName)
	if bound && a.Column.Name != f.DBName {
		return fmt.Errorf("rowseal: update %s, column %s: %w: it is written as %q; write %q", c.model.Plan.Schema.Name, f.DBName, ErrUnsupported, a.Column.Name, f.DBName)
	}
	if !bound && !c.model.Computed() {
		return nil // nobody asks
	}
	if err := f.Set(stmt.Context, c.outcome(), a.Value); err != nil {
		return fmt.Errorf("rowseal: update %s, column %s: %w: it is part of the encryption context; compute the value in Go", c.model.Plan.Schema.Name, f.DBName, ErrContext)
	}
	return nil
}

// valueFor turns what stands in a SET into a value of ours: GORM gives our own from structs of the model, and anything at all from
// maps, single columns and other structs.
func (c *change) valueFor(stmt *gorm.Statement, f *row.Field, raw any) (*row.Value, error) {
	if ours, ok := raw.(*row.Value); ok {
		if ours.Field() == f {
			s := ours.State()
			note(&c.implied, f.Column.DBName, s != nil && s == f.Group.State(c.value))
			note(&c.unread, f.Column.DBName, isZero(ours.Plain()) && s.Unread(f))
			return row.NewValue(f, nil, ours.Plain()), nil
		}
		raw = ours.Plain() // a struct of another type with the same column
	}
	switch raw.(type) {
	case nil:
		return row.NullValue(f), nil
	case clause.Expression, gorm.Valuer, *gorm.DB, []any, clause.Column, clause.Table:
		return nil, fmt.Errorf("rowseal: update %s: %w: an SQL expression cannot be sealed; compute the value in Go", f.Place(), ErrUnsupported)
	}
	// The value takes the field's own type first, as GORM would do it, so that what is sealed opens into that type.
	scratch := reflect.New(c.model.Plan.Schema.ModelType)
	if err := f.Assign(stmt.Context, scratch, raw); err != nil {
		return nil, err
	}
	return row.NewValue(f, nil, f.Column.ReflectValueOf(stmt.Context, scratch).Interface()), nil
}

// note makes the set when something is in it, which of most changes nothing is.
func note(set *map[string]bool, name string, holds bool) {
	if *set == nil && holds {
		*set = map[string]bool{}
	}
	if *set != nil {
		(*set)[name] = holds
	}
}

// columns lists the sealed columns in the SET, for errors.
func (c *change) columns() []string {
	var names []string
	for _, a := range c.set {
		if _, ok := a.Value.(*row.Value); ok {
			names = append(names, a.Column.Name)
		}
	}
	return names
}

// contextMoved reports whether the SET changes what the row's keys are bound to at the key service. For a context that is declared
// that is a look at its columns; for one that the model computes, the whole row.
func (c *change) contextMoved(stmt *gorm.Statement) (bool, error) {
	m := c.model
	columns := m.ContextColumns()
	writes := slices.ContainsFunc(c.set, func(a clause.Assignment) bool { return slices.Contains(columns, a.Column.Name) })
	if !writes && !m.Computed() {
		return false, nil
	}
	c.pinned = writes
	if m.Computed() && c.id == "" {
		return false, fmt.Errorf("rowseal: update %s: %w: the model computes it, and any column may be part of it; load the rows and save each", m.Plan.Schema.Name, ErrContext)
	}
	if c.id == "" {
		return writes, nil // refused with the other columns
	}
	for _, g := range m.Plan.Groups {
		s := g.State(c.value)
		if !s.Serves(m, c.id) {
			if m.Computed() && !s.Keyless(m, c.id) && g.Present(c.value) && !c.contextGiven() && c.plainColumns() {
				return false, fmt.Errorf("rowseal: update %s: %w: the model computes it, and any column may be part of it; load the row first", m.Describe(c.value), ErrContext)
			}
			if s.Keyless(m, c.id) || !g.Present(c.before) || c.count(g) == len(g.Fields) && (!writes || c.contextGiven()) {
				continue // nothing is sealed under it, or all of it is sealed anew, in a context that is known
			}
			if writes && !m.Computed() {
				return false, fmt.Errorf("rowseal: update %s: %w: %s would change, and the row was not loaded; load it, change it and save it",
					m.Describe(c.value), ErrContext, strings.Join(columns, ", "))
			}
			continue
		}
		same, err := m.SameContext(s, g, c.outcome())
		if err != nil {
			return false, fmt.Errorf("rowseal: update %s: %w", m.Describe(c.value), err)
		}
		if !same {
			return true, nil
		}
	}
	return false, nil
}

// refuseOr refuses a top-level OR: GORM joins the row's own condition to its last part only, so the others could match other rows,
// which would get this row's ciphertext.
func refuseOr(stmt *gorm.Statement) error {
	w, ok := stmt.Clauses["WHERE"].Expression.(clause.Where)
	if !ok {
		return nil
	}
	for _, e := range w.Exprs {
		if _, or := e.(clause.OrConditions); or {
			return fmt.Errorf("%w: a condition with OR could match other rows; put it into one Where, or drop it", ErrUnsupported)
		}
	}
	return nil
}

// rekey finds the key for every touched group, and for every group where the context moved.
func (c *change) rekey(stmt *gorm.Statement, moved bool) error {
	known := func(g *row.Group) bool { return g.State(c.value).Serves(c.model, c.id) }
	serves := slices.ContainsFunc(c.model.Plan.Groups, known)
	// It writes the context, be it the one that the row had when it was read: another writer may have moved the row since. Any column may be part of one that is computed.
	computed := c.model.Computed() && c.plainColumns()
	given := c.pinned || computed && c.contextGiven()
	for _, g := range c.model.Plan.Groups {
		present, seals := g.Present(c.before), c.touches(g)
		if !present && (moved || given && !serves) {
			r := c.regroup(g)
			r.absent = true
			r.expects("")
			continue
		}
		// Also one that nothing is sealed under now: its key would be left behind, or another writer's first one.
		bound := given || computed && (known(g) || g.State(c.value).Keyless(c.model, c.id))
		if !moved && !seals && !(bound && present) {
			continue
		}
		r := c.regroup(g)
		r.origin, r.moved = g.State(c.value), moved
		if err := c.chooseKey(stmt, r, moved, seals); err != nil {
			return err
		}
	}
	for _, f := range stmt.Schema.PrimaryFields {
		// GORM leaves the zero parts of a composite key out of its condition, and the whole key with a SET clause of the
		// caller's; other rows would get this row's ciphertext.
		if value, zero := f.ValueOf(stmt.Context, c.before); zero || c.hadSet {
			stmt.AddClause(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: f.DBName}, Value: value}}})
		}
		if value, _ := f.ValueOf(stmt.Context, c.before); row.Literal(f) {
			quoted := stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: f.DBName})
			stmt.AddClause(clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: literally(stmt.DB, quoted), Vars: []any{value}}}})
		}
	}
	return c.bind(stmt)
}

// regroup adds what the statement does to a group.
func (c *change) regroup(g *row.Group) *regroup {
	r := &c.first.regroup
	if len(c.groups) == 0 {
		c.groups = c.first.groups[:0]
	} else {
		r = new(regroup)
	}
	r.group = g
	c.groups = append(c.groups, r)
	return r
}

// chooseKey decides under which key a group's values are sealed:
//
//   - The row was loaded: under its own key, as long as the database still has that one.
//   - All sealed fields of the group are written: under a new key, stored with them. No key needs to be opened for it.
//   - Otherwise under the key that the database has, read now.
//
// Without seals, the statement writes no more than NULL into the group.
func (c *change) chooseKey(stmt *gorm.Statement, r *regroup, moved, seals bool) error {
	m := c.model
	s := r.group.State(c.value)
	if s.Serves(m, c.id) {
		c.keepUnread(r.group, s)
		r.state = s.Clone()
		r.expects(r.state.Text())
		if c.count(r.group) > 0 {
			if err := c.refuseForeign(r.group, nil); err != nil {
				return err
			}
			if err := c.ready(stmt, r); err != nil {
				return err
			}
		}
		if moved {
			next, err := m.Rewrapped(lend(stmt.Context, stmt), r.state, r.group, c.outcome())
			if err == nil {
				err = c.carry(stmt, r, next)
			}
			if err != nil {
				return err
			}
			r.writes, r.state, r.added = r.writes || next != r.state, next, false // a retry would lose the move
			r.pin = &pin{c, c.outcome()}
		}
		return nil
	}
	if s.Keyless(m, c.id) {
		// First keys are stored only where none is.
		c.keepUnread(r.group, s)
		r.state = s.Clone()
		r.expects("")
		if seals && c.count(r.group) > 0 {
			fresh, err := m.Fresh(lend(stmt.Context, stmt), r.group, c.outcome())
			r.state, r.writes, r.pin = fresh, true, &pin{c, c.outcome()}
			return err
		}
		return nil
	}
	if err := c.refuseForeign(r.group, s); err != nil {
		return err
	}
	if c.count(r.group) == len(r.group.Fields) && c.contextGiven() {
		fresh, err := m.Fresh(lend(stmt.Context, stmt), r.group, c.outcome())
		r.state, r.writes = fresh, true
		return err
	}
	return c.readKey(stmt, r)
}

// refuseForeign refuses to write the zero value of a field that came with another row's key and was never opened: a copied struct.
func (c *change) refuseForeign(g *row.Group, s *row.State) error {
	for _, a := range c.set {
		v, ok := a.Value.(*row.Value)
		if ok && v.Field().Group == g && (c.unread[a.Column.Name] || (s != nil && s.Locked(v.Field()) && isZero(v.Plain()))) {
			return fmt.Errorf("rowseal: update %s: %s: %w and would be stored empty; load the row with it, or set it", c.model.Describe(c.value), v.Field().Place(), ErrNotLoaded)
		}
	}
	return nil
}

// keepUnread drops from the SET what the row was loaded without: the zero value of a field that was not selected or could not be
// opened, and a Secret that nobody touched.
func (c *change) keepUnread(g *row.Group, s *row.State) {
	c.set = slices.DeleteFunc(c.set, func(a clause.Assignment) bool {
		v, ok := a.Value.(*row.Value)
		if !ok || v.Field().Group != g {
			return false
		}
		f := v.Field()
		silent := f.Secret || !s.Settled(f) || s.LeftNull(f) // a zero Secret is one that was not selected, whoever called Get on a copy
		return v.Untouched(s) || (c.implied[a.Column.Name] && silent && isZero(v.Plain()))
	})
}

func isZero(plain any) bool {
	v := reflect.ValueOf(plain)
	return !v.IsValid() || v.IsZero()
}

func (c *change) count(g *row.Group) (n int) {
	for _, a := range c.set {
		if v, ok := a.Value.(*row.Value); ok && v.Field().Group == g {
			n++
		}
	}
	return n
}

// plainColumns reports that the SET has columns that are not sealed.
func (c *change) plainColumns() bool {
	return slices.ContainsFunc(c.set, func(a clause.Assignment) bool {
		f := c.model.Plan.Schema.FieldsByDBName[a.Column.Name]
		return c.model.Plan.Lookup(a.Column.Name) == nil && (f == nil || !f.PrimaryKey && f.AutoUpdateTime == 0)
	})
}

// contextGiven reports that the statement writes all that the row's context is made of, so that the struct may be asked for it.
func (c *change) contextGiven() bool {
	writes := func(name string) bool {
		return slices.ContainsFunc(c.set, func(a clause.Assignment) bool { return a.Column.Name == name })
	}
	if c.model.Computed() {
		for _, name := range c.model.Plan.Schema.DBNames {
			f := c.model.Plan.Schema.FieldsByDBName[name]
			if !f.PrimaryKey && c.model.Plan.LookupKey(name) == nil && !writes(name) {
				return false
			}
		}
		return true
	}
	for _, name := range c.model.ContextColumns() {
		if !writes(name) {
			return false
		}
	}
	return true
}

// readKey reads the row's key from the database and opens it. No lock is held while the key service answers; the condition on the key
// is what makes it safe.
func (c *change) readKey(stmt *gorm.Statement, r *regroup) error {
	text, stored, err := c.storedKey(stmt, r.group, false, nil)
	switch {
	case err != nil:
		return err
	case !stored.IsValid():
		// The statement must find no row; sealed under a key that is thrown away it does no harm if it is logged.
		stmt.AddClause(clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "1 = 0"}}})
		r.state, err = c.model.Idle(r.group)
		return err
	case (text == "" || c.model.WriteOnly()) && c.model.Computed(): // nothing is opened that would tell a wrong context
		return fmt.Errorf("rowseal: update %s: %w: the model computes it, and the row was not loaded", c.model.Describe(c.value), ErrContext)
	case text == "":
		r.writes, r.pin = true, &pin{c, stored}
		r.expects("")
		if c.pinned && !c.sameContext(r, stored) {
			return fmt.Errorf("rowseal: update %s: %w; load the row and try again", c.model.Describe(c.value), ErrStaleKey)
		}
		r.state, err = c.model.Fresh(lend(stmt.Context, stmt), r.group, stored)
		return err
	}
	r.expects(text)
	r.state, err = c.sealable(stmt, r, stored, text, false)
	return err
}

// ready makes the key of a loaded row ready to seal: opened, or one more beside it.
func (c *change) ready(stmt *gorm.Statement, r *regroup) error {
	switch {
	case !c.model.WriteOnly():
		if r.state.Open() {
			return nil
		}
		return c.model.Ready(lend(stmt.Context, stmt), r.state, c.value)
	case r.state.Open():
		return nil // this program added it
	case r.state.Keys() == 1 && len(c.model.ContextColumns()) == 0:
		next, err := c.model.Appended(lend(stmt.Context, stmt), r.state, c.value, c.writesField)
		r.state, r.writes, r.added = next, true, true
		return err
	}
	text, stored, err := c.storedKey(stmt, r.group, false, nil)
	if err != nil {
		return err
	}
	if !stored.IsValid() || text != r.expect.text {
		// The statement must find no row, and the retry sees why. Not by the key that is expected: a transaction's snapshot may be older.
		r.expect.text = "-"
		r.state, err = c.model.Idled(r.state)
		return err
	}
	next, err := c.sealable(stmt, r, stored, text, false)
	if err != nil {
		return err
	}
	if c.model.Computed() {
		next = next.Bound(r.state) // as it was loaded: what is in the struct may not be saved yet
	}
	next.Keep(r.state)
	r.state = next
	return nil
}

// sealable is a state that knows no field, under the key column text, which the row in stored was just read with, that can seal. A program that only writes adds
// a data key; where the row has several, it looks first which of them its fields still need.
func (c *change) sealable(stmt *gorm.Statement, r *regroup, stored reflect.Value, text string, now bool) (*row.State, error) {
	m := c.model
	if !m.WriteOnly() {
		return m.Stored(lend(stmt.Context, stmt), r.group, stored, text)
	}
	if c.pinned && !r.moved && !c.sameContext(r, stored) {
		return nil, fmt.Errorf("rowseal: update %s: %w; load the row and try again", m.Describe(c.value), ErrStaleKey)
	}
	s, err := m.Closed(r.group, stored, text)
	if err != nil {
		return nil, err
	}
	if m.Computed() {
		if known := r.group.State(c.value); known.Serves(m, c.id) && known.Text() == text {
			s = s.Bound(known)
		}
	}
	if s.Keys() > 1 {
		if s, err = c.storedCells(stmt, r.group, now); err != nil {
			return nil, err
		}
		if s.Text() != text {
			return nil, ErrStaleKey
		}
	}
	next, err := m.Appended(lend(stmt.Context, stmt), s, stored, c.writesField)
	if err != nil {
		return nil, err
	}
	r.writes, r.added = true, true
	if r.pin == nil {
		r.pin = &pin{change: c}
	}
	r.pin.row = stored
	return next.Bare(), nil
}

// writesField reports that the statement writes f.
func (c *change) writesField(f *row.Field) bool {
	return slices.ContainsFunc(c.set, func(a clause.Assignment) bool {
		v, ok := a.Value.(*row.Value)
		return ok && v.Field() == f
	})
}

// storedCells reads a key column and all sealed columns under it, as the database has them.
func (c *change) storedCells(stmt *gorm.Statement, g *row.Group, now bool) (*row.State, error) {
	cells := row.NewCells(g)
	text, stored, err := c.storedKey(stmt, g, now, cells)
	switch {
	case err != nil:
		return nil, err
	case !stored.IsValid():
		return nil, gorm.ErrRecordNotFound
	case text == "":
		return nil, ErrStaleKey
	}
	return cells.State(c.model, stored, text)
}

// storedKey reads a key column, and a row with the context columns as the database has them; no row where there is none. A model that
// computes its context gets the struct as it is. A write that failed asks for what is there now. cells, if not nil, are read along.
func (c *change) storedKey(stmt *gorm.Statement, g *row.Group, now bool, cells *row.Cells) (text string, stored reflect.Value, err error) {
	m, groups := c.model, []*row.Group{g}
	where, args := identify(stmt, m, c.value)
	var columns []string
	var targets []any
	if cells != nil {
		columns, targets = cells.Columns(), cells.Targets()
	}
	columns = quoted(stmt, append(columns, keyColumns(m, groups)...))
	known := len(columns)
	if cells != nil {
		columns = slices.Insert(columns, 0, "*") // other programs' columns may need a key too
	}
	query := fmt.Sprintf("SELECT %s FROM %s WHERE %s", strings.Join(columns, ","), quotedTable(stmt), strings.Join(where, " AND "))
	if now {
		query = locked(stmt.DB, query)
	}
	rows, err := inside(stmt.DB).Raw(query, args...).Rows()
	if err != nil {
		return "", reflect.Value{}, err
	}
	defer rows.Close()
	if !rows.Next() {
		return "", reflect.Value{}, rows.Err()
	}
	if cells != nil {
		names, err := rows.Columns()
		if err != nil {
			return "", reflect.Value{}, err
		}
		var others []any
		for _, name := range names[:len(names)-known] {
			others = append(others, cells.Other(name))
		}
		targets = append(others, targets...)
	}
	r, err := scanKeys(stmt.Context, rows, m, groups, targets...)
	if err != nil {
		return "", reflect.Value{}, err
	}
	if m.Computed() {
		if r.value.Set(c.value); c.stored.IsValid() {
			r.value.Set(c.stored)
		}
	}
	for _, f := range m.Plan.Schema.PrimaryFields { // as it is written: the column may pad it
		f.ReflectValueOf(stmt.Context, r.value).Set(f.ReflectValueOf(stmt.Context, c.value))
	}
	return r.texts[0], r.value, rows.Close()
}

// bind gives every value its key, and the statement its key columns and conditions.
func (c *change) bind(stmt *gorm.Statement) error {
	for _, r := range c.groups {
		r.seals = false
		for i, a := range c.set {
			if v, ok := a.Value.(*row.Value); ok && v.Field().Group == r.group && !v.Null() {
				v = v.Under(r.state)
				c.set[i].Value = v
				r.seals = true
			}
		}
		if r.writes {
			k := row.NewKeyValue(r.group, r.state)
			k.Arm(r.state.Text())
			c.set = slices.DeleteFunc(c.set, func(a clause.Assignment) bool { return a.Column.Name == r.group.Column.DBName }) // of a first try
			c.set = append(c.set, clause.Assignment{Column: clause.Column{Name: r.group.Column.DBName}, Value: k})
		}
	}
	if !c.retried {
		c.narrow(stmt)
	}
	return nil
}

// narrow makes the statement's condition one that only this row with these keys can meet. GORM puts brackets around text with " OR " in
// it, and only so spelt; each condition gets its own here, since one row's ciphertext must not reach another.
func (c *change) narrow(stmt *gorm.Statement) {
	where := stmt.Clauses["WHERE"]
	w, _ := where.Expression.(clause.Where)
	exprs := c.first.narrowed[:0]
	for _, e := range w.Exprs {
		exprs = append(exprs, bracketed{e})
	}
	for _, r := range c.groups {
		if r.expect != nil {
			exprs = append(exprs, r.expect)
		}
		if r.writes && r.pin != nil {
			exprs = append(exprs, r.pin)
		}
		if r.writes && r.expect == nil {
			exprs = append(exprs, &unshredded{r.group.Column.DBName})
		}
		for _, k := range r.carried {
			exprs = append(exprs, k)
		}
	}
	c.where, c.narrowed = where.Expression, exprs
	where.Name, where.Expression = "WHERE", clause.Where{Exprs: exprs}
	stmt.Clauses["WHERE"] = where
}

// widen takes the conditions on keys out again: the statement may be used once more, when the row has other keys.
func (c *change) widen(stmt *gorm.Statement) {
	where := stmt.Clauses["WHERE"]
	w, ok := where.Expression.(clause.Where)
	if !ok {
		return
	}
	if n := len(c.narrowed); c.where != nil && n > 0 && n == len(w.Exprs) && &c.narrowed[0] == &w.Exprs[0] { // nobody added one since
		where.Expression = c.where
		stmt.Clauses["WHERE"] = where
		return
	}
	exprs := make([]clause.Expression, 0, len(w.Exprs))
	for _, e := range w.Exprs {
		switch e := e.(type) {
		case *keyCondition, *pin, *unshredded, *carried:
		case bracketed:
			exprs = append(exprs, e.Expression)
		default:
			exprs = append(exprs, e)
		}
	}
	where.Expression = clause.Where{Exprs: exprs}
	stmt.Clauses["WHERE"] = where
}

// unshredded is the condition that no tombstone stands in a key column, for a statement that puts a new key there without having looked.
type unshredded struct{ column string }

func (u *unshredded) Build(b clause.Builder) {
	column := clause.Column{Table: clause.CurrentTable, Name: u.column}
	_ = b.WriteByte('(')
	b.WriteQuoted(column)
	_, _ = b.WriteString(" IS NULL OR ")
	b.WriteQuoted(column)
	_, _ = b.WriteString(" NOT LIKE ")
	b.AddVar(b, kmskey.ShreddedPrefix+"%")
	_ = b.WriteByte(')')
}

// buried is the error of a key column that [unshredded] does not meet: a tombstone, or a damaged one. nil is for any other.
func buried(text string) error {
	if !strings.HasPrefix(text, kmskey.ShreddedPrefix) {
		return nil
	}
	if _, err := kmskey.ParseTombstone(text); err != nil {
		return err
	}
	return ErrShredded
}

type bracketed struct{ clause.Expression }

func (e bracketed) Build(b clause.Builder) {
	_ = b.WriteByte('(')
	e.Expression.Build(b)
	_ = b.WriteByte(')')
}

// afterUpdate settles what the statement did.
func (p *Plugin) afterUpdate(db *gorm.DB) {
	c, ok := kept[change](db)
	if !ok {
		return
	}
	defer c.release()
	defer drop(db)
	if c.many != nil {
		p.finish(db, c.many)
	} else if db.Error == nil && !db.DryRun && db.RowsAffected == 0 {
		if err := p.retry(db, c); err != nil {
			_ = db.AddError(err)
		}
		if db.Error == nil && db.RowsAffected == 0 {
			_ = db.AddError(c.found(db))
		}
	}
	epoch := unmark(db)
	if c.hadSet {
		db.Statement.AddClause(c.given)
	} else {
		delete(db.Statement.Clauses, "SET")
	}
	c.widen(db.Statement)
	if db.Error != nil || db.DryRun || epoch == nil {
		return
	}
	if len(c.groups) > 0 && db.RowsAffected > 1 {
		// Not a row of which there is one: the primary key is none, or a view or trigger stands behind the table.
		_ = db.AddError(fmt.Errorf("rowseal: update %s: %w: the statement changed %d rows", c.model.Describe(c.value), ErrIdentity, db.RowsAffected))
		return
	}
	if db.RowsAffected > 0 {
		c.store(db.Statement)
		c.forgetNulls(db.Statement, epoch)
	}
	var targets []row.Target
	if epoch.Awaits() {
		eachStruct(db.Statement.ReflectValue, c.model.Plan.Schema.ModelType, func(v reflect.Value) {
			if v.CanAddr() {
				targets = append(targets, row.Target{Model: c.model, Value: v})
			}
		})
	}
	if err := p.reveal(db.Statement, epoch, p.config.WriteOnly, targets); err != nil || p.config.WriteOnly {
		_ = db.AddError(err)
		return
	}
	_ = db.AddError(p.confirmReturned(db, c.model))
}

// release lets go of the rows: c is part of the statement's context, which others may keep for longer.
func (c *change) release() {
	c.value, c.before, c.stored, c.after = reflect.Value{}, reflect.Value{}, reflect.Value{}, reflect.Value{}
	c.set, c.given, c.groups, c.many, c.where = nil, nil, nil, nil, nil
	first := &c.first.regroup // but for its condition: a session that began in mid-statement has that
	first.state, first.origin, first.pin, first.carried = nil, nil, nil, nil
}

// inRows reports that GORM put the new values into the rows in memory. Where it did not, a row keeps what was known of it: its zero
// values must go on meaning that they were not read.
func (c *change) inRows(stmt *gorm.Statement) bool { return stmt.ReflectValue.CanAddr() && !c.hadSet }

// forgetNulls drops ciphertext that was never opened of fields that were set to NULL, so that opening the row later does not bring it back.
func (c *change) forgetNulls(stmt *gorm.Statement, epoch *row.Epoch) {
	if !c.inRows(stmt) {
		return
	}
	for _, a := range c.set {
		if value, ok := a.Value.(*row.Value); ok && value.Null() {
			for _, v := range structs(stmt.ReflectValue, c.model.Plan.Schema.ModelType) {
				epoch.Forget(value.Field(), v)
			}
		}
	}
}

// store puts the keys that were used into the row, so that the next change needs no look-up.
func (c *change) store(stmt *gorm.Statement) {
	if !c.value.CanAddr() {
		return
	}
	for _, r := range c.groups {
		if !r.seals && !r.writes {
			continue // only compared
		}
		switch s := r.group.State(c.value); {
		case s == r.origin || s == nil:
			if c.inRows(stmt) {
				r.group.SetState(c.value, r.state)
			}
		case s.Text() != r.state.Text():
			s.Fill(r.state, r.origin) // RETURNING scanned the row without its key column
		default:
			// RETURNING scanned the row with its key column, and knows at least as much.
		}
	}
}

// retry handles a statement that found no row although the row's key was named in it: if another writer changed the key since it was
// read, the statement runs once more under the new one. GORM's Save would otherwise take "no row" for "insert it" and bring the
// old key back.
func (p *Plugin) retry(db *gorm.DB, c *change) error {
	stmt := db.Statement
	changed := false
	for _, r := range c.groups {
		if r.expect == nil && !r.writes {
			continue
		}
		text, stored, err := c.storedKey(stmt, r.group, true, nil)
		if err != nil {
			return fmt.Errorf("rowseal: update %s: read the key again: %w", c.model.Describe(c.value), err)
		}
		if err := buried(text); err != nil && stored.IsValid() && (r.writes || r.seals) {
			return fmt.Errorf("rowseal: update %s: key %s: %w", c.model.Describe(c.value), r.group.Column.DBName, err)
		}
		if r.expect == nil {
			continue
		}
		if r.absent && text != "" {
			return fmt.Errorf("rowseal: update %s, column %s: %w: the struct that it is embedded in is nil, the row has a key there, and %s would change; load the row, and change it with the struct in place",
				c.model.Describe(c.value), r.group.Column.DBName, ErrContext, strings.Join(c.model.ContextColumns(), ", "))
		}
		if stored.IsValid() && text == r.expect.text && r.pin != nil && r.writes && !c.samePin(r, stored) {
			return fmt.Errorf("rowseal: update %s: %w, or its context was; load the row and try again", c.model.Describe(c.value), ErrStaleKey)
		}
		if stored.IsValid() && text == r.expect.text {
			switch same, err := c.carriedAlong(stmt, r); {
			case err != nil:
				return fmt.Errorf("rowseal: update %s: read the fields again: %w", c.model.Describe(c.value), err)
			case !same:
				return fmt.Errorf("rowseal: update %s: %w, or a field was whose index is the tenant's own; load the row and try again", c.model.Describe(c.value), ErrStaleKey)
			}
		}
		if !stored.IsValid() || text == r.expect.text {
			continue // the row is gone, or another condition left it out
		}
		if c.retried || r.writes && !r.added || c.model.WriteOnly() && c.model.Computed() || c.pinned && !c.sameContext(r, stored) || text == "" {
			return fmt.Errorf("rowseal: update %s: %w; load the row and try again", c.model.Describe(c.value), ErrStaleKey)
		}
		next, err := c.sealable(stmt, r, stored, text, true)
		if c.model.Computed() && errors.Is(err, kmskey.ErrContextMismatch) {
			// The new key is not bound to the context that the struct gives: who changed it moved the row.
			return fmt.Errorf("rowseal: update %s: %w, or its context was; load the row and try again: %w", c.model.Describe(c.value), ErrStaleKey, err)
		}
		if err != nil {
			return err
		}
		next.Keep(r.state)
		r.state, r.expect.text, changed = next, text, true
	}
	if !changed {
		return nil
	}
	c.retried = true
	if err := p.restart(db, c); err != nil {
		return err
	}
	if db.Error == nil && db.RowsAffected == 0 {
		return p.retry(db, c)
	}
	return nil
}

// samePin reports that the row in the database has the context columns that the statement asked for.
func (c *change) samePin(r *regroup, stored reflect.Value) bool {
	for _, name := range c.model.ContextColumns() {
		f := c.model.Plan.Schema.LookUpField(name)
		if !c.writesColumn(f.DBName) && !c.model.SameColumn(f, r.pin.row, stored) {
			return false
		}
	}
	return true
}

// sameContext reports that the row in the database has the context that the struct writes.
func (c *change) sameContext(r *regroup, stored reflect.Value) bool {
	a, err := c.model.Closed(r.group, stored, "-")
	if err != nil {
		return false
	}
	same, err := c.model.SameContext(a, r.group, c.outcome())
	return err == nil && same
}

// restart runs the statement again with the values sealed anew.
func (p *Plugin) restart(db *gorm.DB, c *change) error {
	if err := c.bind(db.Statement); err != nil {
		return err
	}
	db.Statement.AddClause(c.set)
	return p.again(db)
}

// again runs GORM's own UPDATE once more.
func (p *Plugin) again(db *gorm.DB) error {
	update := db.Callback().Update().Get("gorm:update")
	if update == nil {
		return errors.New("rowseal: internal error: GORM's update callback is gone")
	}
	db.Statement.SQL.Reset()
	db.Statement.Vars = nil
	p.watch(true)(db)
	defer p.unwatch(db)
	update(db)
	return nil
}
