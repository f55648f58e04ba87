// search.go owns conditions on fields with blind indexes, which become a look at the indexes, and holds what is found to what was sought.

package rowseal

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// Eq is the condition that a field, by its Go name or its column, has a value: for a sealed field with an index, in db.Where(rowseal.Eq("Email", v)). Values of a slice are
// alternatives, and nil is NULL.
func Eq(field string, value any) clause.Expression {
	return clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: field, Alias: eqMark}, Value: value}
}

// EqBy is [Eq] by one of several indexes of a field: the one whose tag says by, as in rowseal:"index=domain" and
//
//	db.Where(rowseal.EqBy("Email", "domain", "example.org"))
//
// The same is done to value as to what is stored, so that all of a value and the part that the index keeps find the same rows. FirstOrCreate makes no value of it.
func EqBy(field, by string, value any) clause.Expression {
	// Under a name that is no field's: FirstOrCreate would take a part for the whole.
	return clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: field + "\x00" + by, Alias: eqMark}, Value: value}
}

// eqMark is not a name that a database takes, should nobody resolve it: outside of conditions, where GORM writes it out, the last look refuses it.
const eqMark = "rowseal.Eq\x00"

// resolved is the column behind the name in an [Eq].
func (p *Plugin) resolved(stmt *gorm.Statement, c clause.Column) (clause.Column, error) {
	s := stmt.Schema
	if m := p.model(stmt); m != nil {
		s = m.Plan.Schema
	}
	if s == nil {
		return c, fmt.Errorf("rowseal: Eq(%q): %w: the statement has no model to find it in", c.Name, ErrCondition)
	}
	var found []*schema.Field
	for _, f := range s.Fields {
		switch {
		case f.DBName == "":
		case f.DBName == c.Name, f.BindName() == c.Name:
			return clause.Column{Table: c.Table, Name: f.DBName}, nil
		case f.Name == c.Name:
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return c, fmt.Errorf("rowseal: Eq(%q): %w: model %s has no such field", c.Name, ErrCondition, s.Name)
	case 1:
		return clause.Column{Table: c.Table, Name: found[0].DBName}, nil
	}
	return c, fmt.Errorf("rowseal: Eq(%q): %w: model %s has it as %s and as %s; say which", c.Name, ErrCondition, s.Name, found[0].BindName(), found[1].BindName())
}

// holdsEq reports an [Eq] among conditions, which is all that there is to see to where no model has an index.
func holdsEq(exprs []clause.Expression) bool {
	return slices.ContainsFunc(exprs, isEq)
}

// isEq reports that a condition is an [Eq], or has one in it.
func isEq(e clause.Expression) bool {
	switch e := e.(type) {
	case clause.Eq:
		c, ok := e.Column.(clause.Column)
		return ok && strings.HasPrefix(c.Alias, eqMark)
	case clause.AndConditions:
		return holdsEq(e.Exprs)
	case clause.OrConditions:
		return holdsEq(e.Exprs)
	case clause.NotConditions:
		return holdsEq(e.Exprs)
	case clause.Where:
		return holdsEq(e.Exprs)
	case bracketed: // around each condition of an update
		return isEq(e.Expression)
	}
	return false
}

// searched is a copy of conditions in which those on sealed fields with an index are conditions on the index. The statement's own stay what they are: GORM reads them for
// FirstOrCreate. With narrow, what they find is held to the values sought before anybody sees it, as far as every row must meet them. around has what
// says of which tenants the rows are.
func (p *Plugin) searched(stmt *gorm.Statement, exprs []clause.Expression, narrow bool, around surroundings) (out []clause.Expression, changed bool, err error) {
	narrow = narrow && !alternatives(exprs)
	for i, e := range exprs {
		next, other, err := p.searchedOne(stmt, e, narrow, around)
		if err != nil {
			return nil, false, err
		}
		if other && !changed {
			out, changed = slices.Clone(exprs), true
		}
		if other {
			out[i] = next
		}
	}
	return out, changed, nil
}

// alternatives reports that a row need not meet each of these conditions. A text with an OR is one condition where GORM puts brackets around it, which it does for OR between spaces alone.
func alternatives(exprs []clause.Expression) bool {
	return slices.ContainsFunc(exprs, func(e clause.Expression) bool {
		text := ""
		switch e := e.(type) {
		case clause.OrConditions:
			return true
		case clause.Expr:
			text = e.SQL
		case clause.NamedExpr:
			text = e.SQL
		}
		return loose.MatchString(text) && !strings.Contains(strings.ToUpper(text), " OR ")
	})
}

var loose = regexp.MustCompile(`(?i)\b(or|xor)\b|\|\|`)

func (p *Plugin) searchedOne(stmt *gorm.Statement, e clause.Expression, narrow bool, around surroundings) (instead clause.Expression, changed bool, err error) {
	switch e := e.(type) {
	case clause.Eq:
		by, marked := byMain, false
		if c, ok := e.Column.(clause.Column); ok && strings.HasPrefix(c.Alias, eqMark) {
			if name, terms, given := strings.Cut(c.Name, "\x00"); given {
				c.Name, by = name, terms
			}
			if c, err = p.resolved(stmt, c); err != nil {
				return nil, false, err
			}
			e.Column, marked = c, true
		}
		sums, err := p.sums(stmt, e.Column, e.Value, by, narrow, around)
		switch {
		case err != nil:
			return nil, false, err
		case sums == nil && !marked:
			return nil, false, nil
		case sums == nil:
			return e, true, nil
		case sums.null:
			return clause.Eq{Column: e.Column}, true, nil
		case sums.list:
			return clause.IN{Column: sums.column, Values: sums.values}, true, nil
		}
		return clause.Eq{Column: sums.column, Value: sums.values[0]}, true, nil
	case clause.Neq:
		sums, err := p.sums(stmt, e.Column, e.Value, byMain, false, around)
		switch {
		case err != nil || sums == nil:
			return nil, false, err
		case sums.null:
			return clause.Neq{Column: e.Column}, true, nil
		case sums.list:
			return clause.Not(clause.IN{Column: sums.column, Values: sums.values}), true, nil
		}
		return clause.Neq{Column: sums.column, Value: sums.values[0]}, true, nil
	case clause.IN:
		if on, err := p.indexedBy(stmt, e.Column, byMain); on == nil || err != nil {
			return nil, false, err // before the list becomes one value, which costs other models' statements
		}
		sums, err := p.sums(stmt, e.Column, e.Values, byMain, narrow, around)
		if err != nil || sums == nil {
			return nil, false, err
		}
		return clause.IN{Column: sums.column, Values: sums.values}, true, nil
	case clause.AndConditions:
		if inner, changed, err := p.searched(stmt, e.Exprs, narrow, around.and(e.Exprs)); changed || err != nil {
			return clause.AndConditions{Exprs: inner}, changed, err
		}
	case clause.OrConditions:
		if len(e.Exprs) == 1 { // more have OR between them
			around = around.and(e.Exprs)
		}
		if inner, changed, err := p.searched(stmt, e.Exprs, false, around); changed || err != nil {
			return clause.OrConditions{Exprs: inner}, changed, err
		}
	case clause.NotConditions:
		if inner, changed, err := p.searched(stmt, e.Exprs, false, around); changed || err != nil {
			return clause.NotConditions{Exprs: inner}, changed, err
		}
	case clause.Where:
		if inner, changed, err := p.searched(stmt, e.Exprs, narrow, around.and(e.Exprs)); changed || err != nil {
			return clause.Where{Exprs: inner}, changed, err
		}
	case bracketed:
		if inner, changed, err := p.searchedOne(stmt, e.Expression, false, around); changed || err != nil {
			return bracketed{inner}, changed, err
		}
	}
	return nil, false, nil
}

// chooses finds what may make a text choose among rows, or count them.
var chooses = regexp.MustCompile(`(?i)[(]|\b(distinct|limit|offset|fetch|union|intersect|except|group|having|over|window)\b`)

// filters reports a statement whose result is a list of its model's rows that are opened before anybody sees them, so that what a narrow index finds beside the value sought can be taken out: a
// limit, a group, a join or a single row would have come from among those too.
func (p *Plugin) filters(stmt *gorm.Statement) bool {
	has := func(name string) bool {
		c, ok := stmt.Clauses[name]
		return ok && c.Expression != nil
	}
	if from, ok := stmt.Clauses["FROM"].Expression.(clause.From); ok && len(from.Joins)+max(len(from.Tables)-1, 0) > 0 {
		return false
	}
	var texts []string
	if s, ok := stmt.Clauses["SELECT"].Expression.(clause.Select); has("SELECT") {
		if !ok || s.Distinct || s.Expression != nil {
			return false
		}
		for _, c := range s.Columns {
			if c.Raw {
				texts = append(texts, c.Name)
			}
		}
	}
	if o, ok := stmt.Clauses["ORDER BY"].Expression.(clause.OrderBy); has("ORDER BY") {
		if !ok || o.Expression != nil {
			return false
		}
		for _, c := range o.Columns {
			if c.Column.Raw {
				texts = append(texts, c.Column.Name)
			}
		}
	}
	if slices.ContainsFunc(texts, chooses.MatchString) {
		return false
	}
	return reflect.Indirect(stmt.ReflectValue).Kind() == reflect.Slice && len(stmt.Joins) == 0 && !stmt.Distinct && !has("LIMIT") && !has("GROUP BY") && !p.leaves(stmt)
}

// hunt is what a statement seeks in one of its tables, as far as every row that it finds must have it.
type hunt struct {
	model      *row.Model
	table      string // what the statement calls the table
	own        bool   // it is the statement's own
	relation   string // the relation that it was joined as; "" for none
	conditions []huntedFor
}

// huntedFor is one condition: values that are alternatives.
type huntedFor struct {
	index *row.Index
	sums  []*row.IndexValue
}

// met calls add for the conditions on indexes that stand beside all others: with an OR next to one, a row need not meet it.
func met(exprs []clause.Expression, add func(c clause.Column, sums []*row.IndexValue)) {
	if alternatives(exprs) {
		return
	}
	one := func(column any, values ...any) {
		c, ok := column.(clause.Column)
		if !ok {
			return
		}
		var sums []*row.IndexValue
		for _, v := range values {
			switch sum, ours := v.(*row.IndexValue); {
			case ours:
				sums = append(sums, sum)
			case v != nil: // NULL in a list, which finds nothing
				return
			}
		}
		if len(sums) > 0 {
			add(c, sums)
		}
	}
	for _, e := range exprs {
		switch e := e.(type) {
		case clause.Eq:
			one(e.Column, e.Value)
		case clause.IN:
			one(e.Column, e.Values...)
		case clause.AndConditions:
			met(e.Exprs, add)
		case clause.Where:
			met(e.Exprs, add)
		case bracketed:
			met([]clause.Expression{e.Expression}, add)
		}
	}
}

// hunted takes down what conditions seek, in each table.
func (p *Plugin) hunted(stmt *gorm.Statement, exprs []clause.Expression) (hunts []*hunt) {
	met(exprs, func(c clause.Column, sums []*row.IndexValue) {
		at := p.place(stmt, c)
		if at.model == nil {
			return
		}
		x := at.model.Plan.LookupIndex(c.Name)
		if x == nil {
			return
		}
		i := slices.IndexFunc(hunts, func(h *hunt) bool { return h.model == at.model && h.table == at.table && h.own == at.own })
		if i < 0 {
			i, hunts = len(hunts), append(hunts, &at)
		}
		hunts[i].conditions = append(hunts[i].conditions, huntedFor{x, sums})
	})
	return hunts
}

// place finds the table that a condition is on: the statement's own, a relation that is joined, by the name that GORM gives it, or a model's.
func (p *Plugin) place(stmt *gorm.Statement, c clause.Column) hunt {
	if ownColumn(stmt, c) {
		return hunt{model: p.model(stmt), table: stmt.Table, own: true}
	}
	at := hunt{model: p.tables[tableName(c.Table)], table: bareName(c.Table)}
	eachJoined(stmt, func(alias, path string, s *schema.Schema) {
		if alias == at.table && at.relation == "" {
			at.model, at.relation = p.models[s.ModelType], path
		}
	})
	return at
}

// eachJoined goes over joined relations, and those on the way to them, by what GORM calls them in the statement.
func eachJoined(stmt *gorm.Statement, do func(alias, path string, s *schema.Schema)) {
	if stmt.Schema == nil {
		return
	}
	for _, j := range stmt.Joins {
		names := strings.Split(j.Name, ".")
		if j.Expression != nil || relation(stmt.Schema, names) == nil {
			continue // a sub-query, or a text
		}
		for i := range names {
			on := names[:i+1]
			do(aliasOf(on, j.Alias, i == len(names)-1), strings.Join(on, "."), relation(stmt.Schema, on))
		}
	}
}

// aliasOf is what GORM calls a joined relation: all names on the way, or what the last one was given.
func aliasOf(names []string, given string, last bool) string {
	if last && given != "" {
		return given
	}
	return strings.Join(names, "__")
}

// holds reports whether a row that was opened is one that was sought: an index column says what its writer wrote, and the value is authentic. A field that was not read is not judged.
// A row that is not is an error, but for one that only shares an entry of a narrow index.
func (h *hunt) holds(v reflect.Value) (bool, error) {
	sought := true
	for _, c := range h.conditions {
		fits, read, err := row.Fits(v, c.sums)
		switch {
		case err != nil:
		case !read && c.index.Narrow():
			err = fmt.Errorf("%w; select the field, so that what was found can be told from what shares its entry", ErrNarrowIndex)
		case !read || fits:
		case c.index.Narrow():
			sought = false
		default:
			err = ErrIndexMismatch
		}
		if err != nil {
			return false, fmt.Errorf("rowseal: query %s: %s: %w", h.model.Describe(v), c.index.Place(), err)
		}
	}
	return sought, nil
}

// confirm holds the rows of a result that were opened, the first so many, to what was sought, and takes those out that only share an entry of a narrow index.
func (p *Plugin) confirm(db *gorm.DB, m *row.Model, most int) error {
	h, ok := kept[hunt](db)
	if !ok || db.RowsAffected == 0 {
		return nil
	}
	forget[hunt](db)
	rows := structs(db.Statement.ReflectValue, m.Plan.Schema.ModelType)
	rows = rows[:min(len(rows), most)]
	others := map[int]bool{}
	for i, v := range rows {
		sought, err := h.holds(v)
		if err != nil {
			return err
		}
		if !sought {
			others[i] = true
		}
	}
	if len(others) > 0 {
		db.RowsAffected -= int64(takeOut(db.Statement.ReflectValue, others))
	}
	return nil
}

// returned keeps what an UPDATE or DELETE seeks that gives its rows back, as far as these say it: not in a field that the statement itself writes, nor in one that RETURNING leaves out.
func returned(stmt *gorm.Statement, h *hunt) {
	set, _ := stmt.Clauses["SET"].Expression.(clause.Set)
	given, _ := stmt.Clauses["RETURNING"].Expression.(clause.Returning)
	h.conditions = slices.DeleteFunc(h.conditions, func(c huntedFor) bool {
		name := c.index.Field.Column.DBName
		named := func(c clause.Column) bool { return c.Name == "*" || columnName(c.Name) == columnName(name) }
		return slices.ContainsFunc(set, func(a clause.Assignment) bool { return named(a.Column) }) ||
			len(given.Columns) > 0 && !slices.ContainsFunc(given.Columns, named)
	})
	if len(h.conditions) > 0 {
		keep(stmt.DB, h)
	}
}

// confirmReturned holds the rows that an UPDATE or DELETE gave back to what it sought. They are the first: GORM puts them over those that were in a list.
func (p *Plugin) confirmReturned(db *gorm.DB, m *row.Model) error {
	defer forget[hunt](db)
	return p.confirm(db, m, int(db.RowsAffected))
}

// joinHunt is what is sought in joined relations.
type joinHunt []*hunt

// seekJoined adds to it.
func seekJoined(db *gorm.DB, h *hunt) {
	hunts, ok := kept[joinHunt](db)
	if !ok {
		hunts = &joinHunt{}
		keep(db, hunts)
	}
	*hunts = append(*hunts, h)
}

// confirmJoins holds joined rows that were opened to what was sought in them.
func (p *Plugin) confirmJoins(db *gorm.DB) error {
	hunts, ok := kept[joinHunt](db)
	if !ok {
		return nil
	}
	forget[joinHunt](db)
	stmt := db.Statement
	for _, h := range *hunts {
		for _, v := range structs(stmt.ReflectValue, stmt.Schema.ModelType) {
			s, at, there := stmt.Schema, v, true
			for part := range strings.SplitSeq(h.relation, ".") {
				rel := s.Relationships.Relations[part]
				if at, there = row.Related(at, rel.Field); !there {
					break
				}
				s = rel.FieldSchema
			}
			if !there {
				continue
			}
			if _, err := h.holds(at); err != nil {
				return err
			}
		}
	}
	return nil
}

// ownColumn reports that a condition is on the statement's own table.
func ownColumn(stmt *gorm.Statement, c clause.Column) bool {
	return c.Table == "" || c.Table == clause.CurrentTable || strings.EqualFold(bareName(c.Table), bareName(stmt.Table))
}

// takeOut takes elements out of a list, and clears where they stood.
func takeOut(list reflect.Value, at map[int]bool) (n int) {
	list = reflect.Indirect(list)
	for i := range list.Len() {
		if at[i] {
			n++
		} else if n > 0 {
			list.Index(i - n).Set(list.Index(i))
		}
	}
	for i := list.Len() - n; i < list.Len(); i++ {
		list.Index(i).SetZero()
	}
	list.SetLen(list.Len() - n)
	return n
}

// indexedColumn is where a condition on a field looks instead.
type indexedColumn struct {
	model  *row.Model
	index  *row.Index
	column clause.Column
}

// byMain asks for the index that conditions on the field itself look at.
const byMain = "\x00main"

// indexedBy finds the index behind the column of a condition; nil for none.
func (p *Plugin) indexedBy(stmt *gorm.Statement, column any, by string) (*indexedColumn, error) {
	var c clause.Column
	switch column := column.(type) {
	case string:
		c.Name = column
	case clause.Column:
		if c = column; c.Raw || c.Alias != "" {
			return nil, nil
		}
	default:
		return nil, nil
	}
	if i := strings.LastIndexByte(c.Name, '.'); i >= 0 { // GORM leaves what stands in front where it is, and nothing in Table
		c.Table, c.Name = c.Name[:i], c.Name[i+1:]
	}
	m := p.place(stmt, c).model
	if m == nil && by == byMain {
		return nil, nil
	}
	if m == nil {
		return nil, fmt.Errorf("rowseal: EqBy(%q, %s): %w: the field is none of a model with sealed fields", c.Name, termsOf(by), ErrCondition)
	}
	f := m.Plan.Lookup(c.Name)
	var x *row.Index
	switch {
	case f == nil:
	case by == byMain:
		x = f.Main()
	default:
		x = f.IndexBy(by)
	}
	if x == nil && by == byMain {
		return nil, nil
	}
	if x == nil {
		return nil, fmt.Errorf("rowseal: EqBy(%q, %s): %w: no tag gives that field such an index%s", c.Name, termsOf(by), ErrCondition, has(f))
	}
	c.Name = x.Column
	return &indexedColumn{m, x, c}, nil
}

// termsOf is what EqBy was given for an index, where it is a possible one: by mistake it may be the value.
func termsOf(by string) string {
	if row.IsIndex(by) {
		return strconv.Quote(by)
	}
	return "(left out, since it is no index)"
}

// has lists the indexes of a field.
func has(f *row.Field) string {
	if f == nil || len(f.Indexes) == 0 {
		return ""
	}
	var all []string
	for _, x := range f.Indexes {
		all = append(all, strconv.Quote(x.Terms))
	}
	return "; it has " + strings.Join(all, ", ")
}

// sought is what a condition looks for in the column of an index.
type sought struct {
	column clause.Column
	values []any
	list   bool
	null   bool // it asks for NULL, which the sealed column has as any other
}

// sums are the indexes of the values that a column is compared with; nil where the condition stays what it is, because it is none on an index, or asks for NULL, or for what only the
// database knows.
func (p *Plugin) sums(stmt *gorm.Statement, column, value any, by string, narrow bool, around surroundings) (*sought, error) {
	found, err := p.indexedBy(stmt, column, by)
	if err != nil || found == nil || ofDatabase(value) || value == nil {
		return nil, err
	}
	if found.index.Narrow() && (!narrow || found.model != p.typed(stmt) || !ownColumn(stmt, found.column)) {
		return nil, fmt.Errorf("rowseal: query %s: %w", found.index.Place(), ErrNarrowIndex)
	}
	f, out := found.index.Field, &sought{column: found.column}
	values := []any{value}
	if isList(reflect.ValueOf(value)) && !isOne(value) {
		values, out.list = alternativesOf(value), true
	}
	plains := make([]any, len(values))
	for i, v := range values {
		switch {
		case ofDatabase(v):
			return nil, fmt.Errorf("rowseal: query %s: %w: an SQL expression among the values; ask for it in a condition of its own", f.Place(), ErrCondition)
		case isNil(v):
			out.null = !out.list
			continue
		}
		plain, err := plainOf(stmt, f, v)
		if err != nil {
			return nil, err
		}
		if plains[i] = plain; isNil(plain) {
			plains[i], out.null = nil, !out.list
		}
	}
	if out.null {
		return out, nil
	}
	tenants, err := p.tenants(stmt, found, around)
	if err != nil {
		return nil, err
	}
	out.list = out.list || len(tenants) != 1
	dry := stmt.DB.DryRun && !isSubQuery(stmt.DB)
	if !dry {
		if err := p.filled(stmt, found.model, found.index); err != nil {
			return nil, err
		}
	}
	out.values = make([]any, 0, len(tenants)*len(plains))
	for _, tenant := range tenants {
		for _, plain := range plains {
			var sum any
			switch {
			case dry:
				sum = dryValue(found.model, found.index.Column)
			case plain != nil: // NULL in a list stays it
				if sum, err = p.indexValue(stmt, found.model, found.index, tenant, plain); err != nil {
					return nil, err
				}
			}
			out.values = append(out.values, sum)
		}
	}
	return out, nil
}

// ofDatabase reports what becomes a value in the database alone.
func ofDatabase(v any) bool {
	switch v.(type) {
	case clause.Expression, gorm.Valuer, *gorm.DB, clause.Column, clause.Table:
		return true
	}
	return false
}

// isOne reports that a slice or array is one value and no list of them: bytes, and types that say themselves what they are.
func isOne(v any) bool {
	_, says := v.(driver.Valuer)
	return says || reflect.TypeOf(v).Elem().Kind() == reflect.Uint8
}

// isNil reports what a database would take for NULL.
func isNil(v any) bool {
	if ours, ok := v.(*row.Value); ok {
		return ours == nil || ours.Null() || isNil(ours.Plain())
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Interface:
		if r.IsNil() {
			return true
		}
	case reflect.Slice:
		return r.IsNil() && isOne(v)
	}
	if valuer, ok := v.(driver.Valuer); ok {
		d, err := valuer.Value()
		return err == nil && d == nil
	}
	return r.Kind() == reflect.Pointer && isNil(r.Elem().Interface())
}

// plainOf is a value as the field itself would hold it.
func plainOf(stmt *gorm.Statement, f *row.Field, value any) (any, error) {
	if ours, ok := value.(*row.Value); ok {
		if ours.Field() == f {
			return ours.Plain(), nil
		}
		value = ours.Plain()
	}
	scratch := reflect.New(f.Column.Schema.ModelType)
	if err := f.Assign(stmt.Context, scratch, value); err != nil {
		return nil, err
	}
	plain := f.Column.ReflectValueOf(stmt.Context, scratch).Interface()
	if !sameNumber(value, plain) {
		return nil, fmt.Errorf("rowseal: query %s: %w: a number that a %s cannot hold (the value is left out)", f.Place(), ErrType, f.Column.FieldType)
	}
	return plain, nil
}

// sameNumber reports that a number is what it was: GORM's setters cut off what does not fit, and another value would be found.
func sameNumber(given, plain any) bool {
	a, b := reflect.ValueOf(given), reflect.ValueOf(plain)
	for a.Kind() == reflect.Pointer && !a.IsNil() {
		a = a.Elem()
	}
	for b.Kind() == reflect.Pointer && !b.IsNil() {
		b = b.Elem()
	}
	switch {
	case a.CanInt() && b.CanInt():
		return a.Int() == b.Int()
	case a.CanInt() && b.CanUint():
		return a.Int() >= 0 && uint64(a.Int()) == b.Uint()
	case a.CanUint() && b.CanUint():
		return a.Uint() == b.Uint()
	case a.CanUint() && b.CanInt():
		return b.Int() >= 0 && uint64(b.Int()) == a.Uint()
	case a.CanFloat() && b.CanInt():
		return float64(b.Int()) == a.Float()
	case a.CanFloat() && b.CanUint():
		return float64(b.Uint()) == a.Float()
	}
	return true
}
