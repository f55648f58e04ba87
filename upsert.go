// upsert.go owns upserts that write into rows under the keys that those rows have: where the target is another unique column than the
// primary key, or where part of a group is written. The rows that exist are looked up by the target's values before the transaction, each
// struct takes the primary key and the key of the row that it will meet, and the statement changes no row but that one under that key.

package rowseal

import (
	"context"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// encounter is one row of an upsert, and the row that it will meet.
type encounter struct {
	ids    []reflect.Value // the primary key as it came
	unset  bool            // it came without
	states []*row.State    // what it came with, by group
	asked  string          // the target's values that were looked up; "" for not yet
	values []any           // the same; nil where no row can have them
	stored reflect.Value   // primary key and context of the row that exists; invalid for none
	texts  []string        // its key columns, by group
}

// conflictOf is the statement's upsert; ok is false for any other statement, and for DO NOTHING.
func conflictOf(stmt *gorm.Statement) (conflict clause.OnConflict, ok bool) {
	conflict, ok = stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	return conflict, ok && !conflict.DoNothing && (conflict.UpdateAll || len(conflict.DoUpdates) > 0)
}

// meet looks up the rows that an upsert will meet. It runs before the transaction, and again with last set when the hooks have run: rows
// whose values they changed are looked up again.
func meet(db *gorm.DB, c *creation, last bool) error {
	stmt, m := db.Statement, c.insert.Model
	conflict, ok := conflictOf(stmt)
	if !ok || !needsLookUp(stmt, m, conflict) {
		c.part(stmt.Context)
		return nil
	}
	target, err := targetOf(m, conflict)
	if err != nil || target == nil {
		return err // what has no target is the gate's to refuse
	}
	if c.maps != nil {
		return fmt.Errorf("rowseal: upsert %s: %w; the rows that exist are looked up for structs of the model, not for maps", m.Plan.Schema.Name, ErrUnsupported)
	}
	if !slices.Equal(c.target, target) {
		c.part(stmt.Context)
		c.target, c.met = target, make([]encounter, len(c.values))
		for i, v := range c.values {
			c.met[i] = newEncounter(stmt.Context, m, v)
		}
	}
	// What is wrong with a row before its hooks have run may be mended by them.
	later := !last && !stmt.SkipHooks && (stmt.Schema.BeforeSave || stmt.Schema.BeforeCreate)
	var ask []int
	for i, v := range c.values {
		e := &c.met[i]
		values, asked, err := targetValues(stmt, m, target, v)
		if err != nil && !later {
			return err
		}
		if err != nil || asked == e.asked {
			continue
		}
		c.release(stmt.Context, i)
		e.asked, e.values = asked, values
		if values != nil {
			ask = append(ask, i)
		}
	}
	for page := range slices.Chunk(ask, settleBatch) {
		if err := c.lookUp(db, conflict, page); err != nil {
			return fmt.Errorf("rowseal: upsert %s: look up the rows that exist: %w", m.Plan.Schema.Name, err)
		}
	}
	if err := c.distinct(conflict); err != nil && !later {
		return err
	}
	for i := range c.met {
		if !c.met[i].stored.IsValid() {
			continue
		}
		if err := c.adopt(stmt.Context, i); err != nil {
			if !later {
				return err
			}
			c.release(stmt.Context, i)
		}
	}
	return nil
}

// needsLookUp reports whether an upsert writes sealed columns, or what the context is made of, into rows that keep their key. One needs none:
// by primary key, where all sealed columns of each group are replaced together with the key.
func needsLookUp(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) bool {
	byID := len(conflict.Columns) == 0 && conflict.UpdateAll || sameColumns(conflict.Columns, m.Plan.Schema.PrimaryFieldDBNames)
	written := func(name string) bool { return updates(conflict, name) }
	if conflict.UpdateAll {
		selected, restricted := stmt.SelectAndOmitColumns(true, true)
		written = func(name string) bool {
			v, ok := selected[name]
			return ok && v || !ok && !restricted
		}
	}
	// A foreign key may be part of the context.
	moves := m.Computed() || slices.ContainsFunc(m.ContextColumns(), written)
	touched, whole := false, true
	for _, g := range m.Plan.Groups {
		n := 0
		for _, f := range g.Fields {
			if written(f.Column.DBName) {
				n++
			}
		}
		// UpdateAll writes every key column, selected or not: see force.
		some := n > 0 || conflict.UpdateAll || written(g.Column.DBName)
		key := conflict.UpdateAll || written(g.Column.DBName) && !slices.ContainsFunc(m.ContextColumns(), func(name string) bool { return !written(name) })
		touched = touched || some
		if some {
			whole = whole && n == len(g.Fields) && key
		} else { // the key that it leaves alone is bound to the context that the row has
			whole = whole && !moves
		}
	}
	return !(byID && whole) && (touched || moves)
}

func sameColumns(columns []clause.Column, names []string) bool {
	var given []string
	for _, c := range columns {
		given = append(given, columnName(c.Name))
	}
	slices.Sort(given)
	return slices.Equal(given, slices.Sorted(slices.Values(folded(names))))
}

// targetOf gives the columns that rows are looked up by; nil where the statement names none.
func targetOf(m *row.Model, conflict clause.OnConflict) (target []*schema.Field, err error) {
	if conflict.OnConstraint != "" {
		return nil, nil
	}
	columns := conflict.Columns
	if len(columns) == 0 && conflict.UpdateAll {
		for _, name := range m.Plan.Schema.PrimaryFieldDBNames { // as GORM fills it in
			columns = append(columns, clause.Column{Name: name})
		}
	}
	for _, c := range columns {
		f := column(m.Plan.Schema, c.Name)
		switch {
		case f == nil || c.Raw:
			return nil, fmt.Errorf("rowseal: upsert %s: %w: its target is no column of the model, so that rows cannot be looked up by it; find the row and save it", m.Plan.Schema.Name, ErrUnsupported)
		case m.Plan.Lookup(f.DBName) != nil:
			x := uniqueIndex(m.Plan.Lookup(f.DBName))
			if x == nil {
				return nil, fmt.Errorf("rowseal: upsert %s, column %s: %w; name the columns of a unique index that are not sealed, or give it one by the tag rowseal:\"unique\"", m.Plan.Schema.Name, f.DBName, ErrCondition)
			}
			f = column(m.Plan.Schema, x.Column)
		case m.Plan.LookupKey(f.DBName) != nil:
			return nil, fmt.Errorf("rowseal: upsert %s, column %s: %w; name the columns of a unique index that are not sealed", m.Plan.Schema.Name, f.DBName, ErrCondition)
		}
		target = append(target, f)
	}
	return target, nil
}

// uniqueIndex is the index that an upsert by the field itself means; nil for none.
func uniqueIndex(f *row.Field) *row.Index {
	for _, x := range f.Indexes {
		if x.Unique && !x.Expression.Part() { // by a part, the row that is met is another value's
			return x
		}
	}
	return nil
}

// targetIndexes writes the indexes of sealed fields where an upsert names the fields as its target.
func targetIndexes(m *row.Model, conflict clause.OnConflict) clause.OnConflict {
	for i, c := range conflict.Columns {
		if f := m.Plan.Lookup(c.Name); f != nil && !c.Raw {
			if x := uniqueIndex(f); x != nil {
				conflict.Columns = slices.Clone(conflict.Columns)
				conflict.Columns[i].Name = x.Column
			}
		}
	}
	return conflict
}

// targetValues gives what the row in v will be inserted with in the target's columns, and a text of it that tells rows apart. values is
// nil for a row that meets none: with NULL in the target, or without an id where that is the target.
func targetValues(stmt *gorm.Statement, m *row.Model, target []*schema.Field, v reflect.Value) (values []any, asked string, err error) {
	ctx := stmt.Context
	var b strings.Builder
	none := false
	identified := m.Identified(v)
	for _, f := range target {
		if x := m.Plan.LookupIndex(f.DBName); x != nil {
			plain, _ := x.Field.Column.ValueOf(ctx, v)
			sum, err := stmt.DB.Plugins[row.PluginName].(*Plugin).indexOf(stmt, m, x, plain, func(*row.Value) (string, error) { return m.TenantFor(x, v) })
			if err != nil {
				return nil, "", err
			}
			var stored driver.Value
			if s, ok := sum.(*row.IndexValue); ok {
				stored, _ = s.Value()
			}
			none = none || stored == nil
			values = append(values, sum)
			fmt.Fprintf(&b, "%x\x00", stored)
			continue
		}
		value, zero := f.ValueOf(ctx, v)
		switch {
		case f.PrimaryKey && !identified:
			none = true
		case zero && f.DefaultValueInterface != nil:
			value = f.DefaultValueInterface
		case zero && !f.PrimaryKey && (f.HasDefaultValue || f.AutoCreateTime > 0 || f.AutoUpdateTime > 0):
			return nil, "", fmt.Errorf("rowseal: upsert %s, column %s: %w: its value is made by the statement, so that no row can be looked up by it; set it in Go",
				m.Plan.Schema.Name, f.DBName, ErrUnsupported)
		}
		plain, err := driver.DefaultParameterConverter.ConvertValue(value)
		if err != nil {
			plain = value
		}
		none = none || plain == nil
		values = append(values, value)
		fmt.Fprintf(&b, "%T %v\x00", plain, plain)
	}
	if none {
		values = nil
	}
	return values, b.String(), nil
}

func newEncounter(ctx context.Context, m *row.Model, v reflect.Value) encounter {
	e := encounter{unset: !m.Identified(v)}
	for _, f := range m.Plan.Schema.PrimaryFields {
		id := reflect.New(f.FieldType).Elem()
		if _, zero := f.ValueOf(ctx, v); !zero {
			id.Set(f.ReflectValueOf(ctx, v))
		}
		e.ids = append(e.ids, id)
	}
	for _, g := range m.Plan.Groups {
		e.states = append(e.states, g.State(v))
	}
	return e
}

// release takes back what the row in c.values[i] got from the row that it was to meet.
func (c *creation) release(ctx context.Context, i int) {
	e, v, m := &c.met[i], c.values[i], c.insert.Model
	if e.stored.IsValid() {
		id, _ := m.Identity(v)
		if stored, _ := m.Identity(e.stored); e.unset && id == stored {
			c.restore(ctx, i)
		}
		for pos, g := range m.Plan.Groups {
			g.SetState(v, e.states[pos])
		}
	}
	e.asked, e.values, e.stored, e.texts = "", nil, reflect.Value{}, nil
}

// restore gives the row in c.values[i] the primary key that it came with.
func (c *creation) restore(ctx context.Context, i int) {
	for at, f := range c.insert.Model.Plan.Schema.PrimaryFields {
		if id := c.met[i].ids[at]; !id.IsZero() {
			f.ReflectValueOf(ctx, c.values[i]).Set(id)
		} else if _, zero := f.ValueOf(ctx, c.values[i]); !zero {
			f.ReflectValueOf(ctx, c.values[i]).SetZero()
		}
	}
}

// part is for a statement that turned out to be no such upsert.
func (c *creation) part(ctx context.Context) {
	for i := range c.met {
		c.release(ctx, i)
	}
	c.target, c.met = nil, nil
}

// lookUp reads what is needed of the rows that exist. Each row has a SELECT of its own, numbered, in one query: which row of the table is
// the one with a struct's values is for the database's comparison to say, and for no comparison in Go.
func (c *creation) lookUp(db *gorm.DB, conflict clause.OnConflict, page []int) error {
	stmt, m := db.Statement, c.insert.Model
	names := quoted(stmt, keyColumns(m, m.Plan.Groups))
	var query strings.Builder
	var args []any
	for n, i := range page {
		if n > 0 {
			query.WriteString(" UNION ALL ")
		}
		var where []string
		for at, f := range c.target {
			where, args = append(where, stmt.Quote(f.DBName)+" = ?"), append(args, c.met[i].values[at])
		}
		if len(conflict.TargetWhere.Exprs) > 0 && !isMySQL(db) { // of a partial index, which MySQL has none of
			where, args = append(where, "?"), append(args, bracketed{conflict.TargetWhere})
		}
		fmt.Fprintf(&query, "SELECT %d, %s FROM %s WHERE %s", i, strings.Join(names, ","), quotedTable(stmt), strings.Join(where, " AND "))
	}
	// Not past the last look: the condition of a partial index is the application's.
	rows, err := db.Session(&gorm.Session{NewDB: true, SkipHooks: true, Context: stmt.Context}).Table(stmt.Table).Raw(query.String(), args...).Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var i int
		r, err := scanKeys(stmt.Context, rows, m, m.Plan.Groups, &i)
		if err != nil {
			return err
		}
		if i < 0 || i >= len(c.met) || c.met[i].stored.IsValid() {
			return fmt.Errorf("%w: several have the same %s, which is not unique", ErrUnsupported, strings.Join(fieldNames(c.target), ", "))
		}
		c.met[i].stored, c.met[i].texts = r.value, r.texts
	}
	return rows.Err()
}

func fieldNames(fields []*schema.Field) (names []string) {
	for _, f := range fields {
		names = append(names, f.DBName)
	}
	return names
}

// distinct refuses two structs that would be one row: the second would meet the first under another key.
func (c *creation) distinct(conflict clause.OnConflict) error {
	m, seen := c.insert.Model, map[string]bool{}
	for i := range c.met {
		e := &c.met[i]
		var names []string
		if e.stored.IsValid() {
			id, _ := m.Identity(e.stored)
			names = append(names, "id "+id)
		}
		// Outside a partial index, equal values are no conflict.
		if e.values != nil && len(conflict.TargetWhere.Exprs) == 0 {
			names = append(names, e.asked)
		}
		for _, name := range names {
			if seen[name] {
				return fmt.Errorf("rowseal: upsert %s: %w: two of the rows have the same %s; leave one out", m.Plan.Schema.Name, ErrUnsupported, strings.Join(fieldNames(c.target), ", "))
			}
			seen[name] = true
		}
	}
	return nil
}

// adopt gives the row in c.values[i] the primary key and the keys of the row that it will meet.
func (c *creation) adopt(ctx context.Context, i int) error {
	e, v, m := &c.met[i], c.values[i], c.insert.Model
	stored, _ := m.Identity(e.stored)
	if id, _ := m.Identity(v); id != stored {
		if !e.unset {
			return fmt.Errorf("rowseal: upsert %s: %w, and the row that exists is %s; leave the primary key unset, or find that row and save it", m.Describe(v), ErrIdentity, m.Describe(e.stored))
		}
		for _, f := range m.Plan.Schema.PrimaryFields {
			f.ReflectValueOf(ctx, v).Set(f.ReflectValueOf(ctx, e.stored))
		}
	}
	for _, name := range m.ContextColumns() {
		if !m.SameColumn(m.Plan.Schema.LookUpField(name), v, e.stored) {
			return fmt.Errorf("rowseal: upsert %s: %w: the row that exists has another %s; load it, change it and save it", m.Describe(v), ErrContext, name)
		}
	}
	for pos, g := range m.Plan.Groups {
		if !g.Present(v) {
			continue
		}
		if m.Computed() && !unmoved(m, g, v, stored, e.texts[pos]) {
			return fmt.Errorf("rowseal: upsert %s: %w: the model computes it, and any column may be part of it; load the row, change it and save it", m.Describe(v), ErrContext)
		}
		if err := c.insert.Adopt(g, v, e.stored, e.texts[pos]); err != nil {
			return err
		}
	}
	return nil
}

// unmoved reports that the row in v was loaded, has the key that the database has, and the context that it was loaded with.
func unmoved(m *row.Model, g *row.Group, v reflect.Value, id, text string) bool {
	s := g.State(v)
	if !s.Serves(m, id) || s.Text() != text {
		return false
	}
	same, err := m.SameContext(s, g, v)
	return err == nil && same
}

// looked reports whether the rows that this upsert will meet were looked up. A dry run meets none.
func looked(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) bool {
	target, err := targetOf(m, conflict)
	if err != nil || target == nil {
		return false
	}
	c, ok := kept[creation](stmt.DB)
	return stmt.DB.DryRun && needsLookUp(stmt, m, conflict) || ok && c.insert.Model == m && slices.Equal(c.target, target)
}

// groupsOf lists the groups that an upsert writes.
func groupsOf(m *row.Model, conflict clause.OnConflict) (groups []*row.Group) {
	for _, g := range m.Plan.Groups {
		if updates(conflict, g.Column.DBName) || slices.ContainsFunc(g.Fields, func(f *row.Field) bool { return updates(conflict, f.Column.DBName) }) {
			groups = append(groups, g)
		}
	}
	return groups
}

// checkLooked is the gate's part for rows that were looked up: what they would lose.
func checkLooked(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) error {
	for _, a := range conflict.DoUpdates {
		f := m.Plan.Lookup(a.Column.Name)
		if f != nil && a.Column.Name != f.Column.DBName {
			return fmt.Errorf("rowseal: upsert %s: %w: it is written as %q; write %q", f.Place(), ErrUnsupported, a.Column.Name, f.Column.DBName)
		}
	}
	c, _ := kept[creation](stmt.DB)
	for _, t := range conflict.Columns {
		for _, a := range conflict.DoUpdates {
			from, _ := a.Value.(clause.Column)
			moved := columnName(a.Column.Name) == columnName(t.Name) && (from.Table != "excluded" || columnName(from.Name) != columnName(t.Name))
			if moved && isMySQL(stmt.DB) { // each assignment there sees what those before it have done
				return fmt.Errorf("rowseal: upsert %s, column %s: %w: the row is told by it, and would change it; leave it out of DoUpdates", m.Plan.Schema.Name, t.Name, ErrUnsupported)
			}
		}
	}
	for _, g := range groupsOf(m, conflict) {
		if !conflict.UpdateAll && !slices.ContainsFunc(g.Fields, func(f *row.Field) bool { return updates(conflict, f.Column.DBName) }) {
			return fmt.Errorf("rowseal: upsert %s, column %s: %w; leave it out of DoUpdates", m.Plan.Schema.Name, g.Column.DBName, ErrKeyColumn)
		}
		for i := range c.encounters() {
			if e := &c.met[i]; e.stored.IsValid() && e.texts[slices.Index(m.Plan.Groups, g)] != "" && !g.Present(c.values[i]) {
				return fmt.Errorf("rowseal: upsert %s, column %s: %w: the struct that it is embedded in is nil, and the row that exists has a key; set it, or leave its columns out of DoUpdates",
					m.Describe(c.values[i]), g.Column.DBName, ErrUnsupported)
			}
		}
	}
	return nil
}

func (c *creation) encounters() []encounter {
	if c == nil {
		return nil
	}
	return c.met
}

// withKeys adds the key columns of the groups that are written: a row without a key gets one, and any other has the same already.
func withKeys(m *row.Model, conflict clause.OnConflict, stmt *gorm.Statement) clause.OnConflict {
	l := lookOf(stmt)
	conflict.DoUpdates = slices.Clone(conflict.DoUpdates)
	for _, g := range groupsOf(m, conflict) {
		if name := g.Column.DBName; !updates(conflict, name) {
			l.admit(m, columnName(name))
			conflict.DoUpdates = append(conflict.DoUpdates, clause.AssignmentColumns([]string{name})...)
		}
	}
	return conflict
}

// sameRow lists the conditions under which an upsert may write into a row: it has the primary key and the context of the one that was
// looked up, and its keys, or none. A row that was put there meanwhile meets none of them.
func sameRow(m *row.Model, conflict clause.OnConflict, stmt *gorm.Statement, theirs func(column string) string) (conditions []string) {
	own := func(name string) string { return stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: name}) }
	same := func(f *schema.Field) string {
		a, b := own(f.DBName), theirs(f.DBName)
		if row.Literal(f) {
			a, b = bytewise(stmt.DB, a), bytewise(stmt.DB, b)
		}
		return a + " = " + b
	}
	for _, f := range m.Plan.Schema.PrimaryFields {
		conditions = append(conditions, same(f))
	}
	for _, name := range m.ContextColumns() {
		conditions = append(conditions, "("+same(m.Plan.Schema.LookUpField(name))+" OR "+own(name)+" IS NULL AND "+theirs(name)+" IS NULL)")
	}
	groups := groupsOf(m, conflict)
	if m.Computed() { // whatever is written may move the context of all
		groups = m.Plan.Groups
	}
	for _, g := range groups {
		name := g.Column.DBName
		equal := exact(stmt.DB, own(name)) + " = " + exact(stmt.DB, theirs(name))
		if !m.Computed() {
			equal = "(" + equal + " OR " + own(name) + " IS NULL)"
		}
		conditions = append(conditions, equal)
	}
	if isMySQL(stmt.DB) { // where any unique key is the target
		for _, c := range conflict.Columns {
			conditions = append(conditions, own(c.Name)+" = "+theirs(c.Name))
		}
	}
	return conditions
}

// guard makes an upsert of rows that were looked up leave alone every row that is not the one that was found, as it was found. On MySQL
// see onDuplicateKey.
func guard(m *row.Model, conflict clause.OnConflict, stmt *gorm.Statement) clause.OnConflict {
	conflict = withKeys(m, conflict, stmt)
	theirs := func(name string) string { return stmt.Quote(clause.Column{Table: "excluded", Name: name}) }
	text := strings.Join(sameRow(m, conflict, stmt, theirs), " AND ")
	where := []clause.Expression{clause.Expr{SQL: text}}
	c, creates := kept[creation](stmt.DB)
	if len(conflict.Where.Exprs) > 0 {
		where = append(where, bracketed{conflict.Where})
		if creates {
			c.replaced, c.leaves = groupsOf(m, conflict), true
		}
	} else if creates {
		c.compared = true
	}
	conflict.Where = clause.Where{Exprs: where}
	return conflict
}
