// statements.go owns the findings in statements: what of a chain is text or names columns, and what the plugin would say to it.

package analyzer

import (
	"fmt"
	"go/ast"
	"go/types"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rowseal/rowseal/internal/sqltext"
)

func (c *checker) checkStatements() {
	s := c.collect()
	for _, ch := range s.chains {
		subjects := s.about(ch)
		if len(subjects) == 0 {
			subjects = []subject{{table: gap}} // text may still name a table
		}
		for _, sub := range subjects {
			st := &statement{statements: s, chain: ch, sub: sub, all: s.all(ch)}
			if sub.before != nil {
				st.all = append(slices.Clip(sub.before), ch.calls...) // a function has several callers, each with calls of its own
			}
			for _, m := range ch.calls {
				st.check(m)
			}
		}
	}
}

// statement is one chain under one subject.
type statement struct {
	*statements
	chain *chain
	sub   subject
	all   []call

	untargeted bool // inside an upsert that names no columns to find rows by
}

func (s *statement) has(names ...string) bool {
	return slices.ContainsFunc(s.all, func(m call) bool { return slices.Contains(names, m.name) })
}

func (s *statement) check(m call) {
	for _, arg := range m.args {
		s.expressions(m, arg, nil)
	}
	if len(m.args) == 0 {
		return
	}
	switch m.name {
	case "Where", "Or", "Not", "Having":
		s.conditions(m, m.args)
	case "First", "Take", "Last", "Find", "FirstOrInit", "FirstOrCreate":
		s.conditions(m, m.args[1:])
	case "Delete":
		if m.recv == "DB" {
			s.conditions(m, m.args[1:])
		}
	case "Preload":
		s.preload(m)
	case "Order":
		s.piece(m, m.args[0], " ORDER BY ", "sorts by")
	case "Group":
		s.piece(m, m.args[0], " GROUP BY ", "groups by")
	case "Joins", "InnerJoins":
		s.joins(m)
	case "Select", "Distinct":
		s.selects(m)
	case "Pluck":
		s.pluck(m)
	case "Table":
		if text, ok := s.text(m.args[0]); ok {
			s.judge(m, m.args[0], s.uses("SELECT 1 FROM "+quoteTable(text)), "compares")
		}
	case "Exec", "Raw":
		s.raw(m)
	case "Update", "UpdateColumn":
		if len(m.args) == 2 {
			s.writes(m, []entry{{m.args[0], m.args[1]}}, "")
		}
	case "Updates", "UpdateColumns":
		s.updates(m)
	case "Create", "CreateInBatches", "Save":
		s.creates(m)
	}
}

// from is the text behind FROM as all calls make it.
func (s *statement) from() string { return s.behindFrom(s.sub, s.all) }

// piece looks at a text in its clause.
func (s *statement) piece(m call, arg ast.Expr, clause, act string) {
	if text, ok := s.text(arg); ok && text != "" {
		from := "SELECT 1 FROM " + s.from()
		s.judge(m, arg, s.added(from+clause+text, from), act)
	}
}

// compared looks at a text as a condition.
func (s *statement) compared(m call, at ast.Node, text string) {
	from := "SELECT 1 FROM " + s.from()
	s.judge(m, at, s.added(from+" WHERE ("+text+"\n)", from), "compares")
}

// conditions reads what Where and its like take: a text with its values, or any number of maps, structs and expressions.
func (s *statement) conditions(m call, args []ast.Expr) {
	if len(args) == 0 {
		return
	}
	if text, ok := s.text(args[0]); ok {
		if _, err := strconv.Atoi(text); err == nil || text == "" {
			return // a primary key
		}
		if len(args) == 2 && s.isNil(args[1]) && columnText.MatchString(text) {
			return // column IS NULL
		}
		s.compared(m, args[0], s.fill(text, args[1:]))
		return
	}
	for _, arg := range args {
		t := s.pass.TypesInfo.TypeOf(arg)
		switch {
		case t == nil:
		case isMap(t):
			s.mapCondition(m, arg)
		default:
			s.structCondition(m, arg)
		}
	}
}

var columnText = regexp.MustCompile("^[\\w.\"`]+$")

// mapCondition looks at the keys of a map that is a condition: columns of the statement's own table, unless they name another.
func (s *statement) mapCondition(m call, arg ast.Expr) {
	for _, e := range s.mapEntries(arg) {
		key, ok := s.text(e.key)
		if !ok || strings.Contains(key, gap) {
			continue
		}
		s.typo(m, e.key, key, false)
		if s.isNil(e.value) {
			continue // IS NULL
		}
		from := s.sub.table
		if strings.Contains(key, ".") {
			from = s.from()
		}
		from = "SELECT 1 FROM " + from
		s.judge(m, e.key, s.added(from+" WHERE "+quote(key)+" = 1", from), "compares")
	}
}

// structCondition looks at the sealed fields that a struct literal sets: GORM compares those that are not zero.
func (s *statement) structCondition(m call, arg ast.Expr) {
	lit, _ := s.literal(arg)
	for _, set := range s.setFields(lit) {
		if set.column.Sealed {
			s.say(m, set.at, set.model, set.column, "compares")
		}
	}
}

type setField struct {
	at     ast.Node
	model  *model
	column *column
}

// setFields lists the columns that a literal of a struct sets to something else than zero. lit may be nil.
func (s *statement) setFields(lit *ast.CompositeLit) (out []setField) {
	if lit == nil {
		return nil
	}
	named, ok := types.Unalias(s.pass.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok {
		return nil
	}
	m := s.describe(named)
	if m == nil {
		return nil
	}
	for _, elt := range lit.Elts {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		id, ok := kv.Key.(*ast.Ident)
		if !ok || s.isZero(kv.Value) {
			continue
		}
		for i := range m.Columns {
			if col := &m.Columns[i]; len(col.path) == 0 && col.Field == id.Name && s.pass.TypesInfo.Uses[id] == col.field {
				out = append(out, setField{kv, m, col})
			}
		}
	}
	return out
}

// preload looks at the conditions that stand behind a relation's name.
func (s *statement) preload(m call) {
	path, ok := s.text(m.args[0])
	if !ok || len(m.args) < 2 || s.sub.typ == nil {
		return
	}
	to := relation(s.sub.typ, path)
	if to == nil {
		return
	}
	inner := *s
	inner.sub, inner.all = s.subject(to), nil
	inner.conditions(m, m.args[1:])
}

// joins looks at the text of one join, beside the table and the joins before it.
func (s *statement) joins(m call) {
	if text, ok := s.text(m.args[0]); !ok || text == "" {
		return
	}
	var before []call
	for _, other := range s.all {
		if other.node == m.node {
			break
		}
		before = append(before, other)
	}
	from := "SELECT 1 FROM " + s.behindFrom(s.sub, before)
	s.judge(m, m.args[0], s.added(from+s.join(s.sub, m), from), "compares")
}

// selects looks at select lists: what they compute, and what would come as ciphertext.
func (s *statement) selects(m call) {
	distinct := ""
	if s.has("Distinct") {
		distinct = "DISTINCT "
	}
	for _, arg := range m.args {
		text, ok := s.text(arg)
		if !ok || text == "" {
			continue
		}
		s.listed(m, arg, distinct, s.columnName(text))
		if strings.Contains(text, "?") || strings.Contains(text, "@") {
			return // what follows are values
		}
	}
}

func (s *statement) pluck(m call) {
	text, ok := s.text(m.args[0])
	if !ok || text == "" {
		return
	}
	distinct := ""
	if s.has("Distinct") {
		distinct = "DISTINCT "
	}
	s.listed(m, m.args[0], distinct, s.columnName(text))
}

// listed looks at a part of a select list.
func (s *statement) listed(m call, at ast.Node, distinct, text string) {
	from := " FROM " + s.from()
	uses := s.added("SELECT "+distinct+text+from, "SELECT 1"+from)
	uses = slices.DeleteFunc(uses, s.opened)
	act := "computes with"
	if distinct != "" {
		act = "compares"
	}
	s.judge(m, at, uses, act)
}

// opened reports a column in a select list that comes to the caller in plain, or to nobody: one under its own name, whatever it is read
// into, and one under another name where the rows do not go into the model's own struct.
func (s *statement) opened(u sqltext.Use) bool {
	switch u.Kind {
	case sqltext.Read, sqltext.Star:
		return true
	case sqltext.ReadAs:
		return !u.Query || !s.has(ends...) || len(s.chain.above) > 0 || u.As == u.Column || strings.HasSuffix(u.As, "__"+u.Column) || !s.intoModel()
	}
	return false
}

// ends are the calls that give a result; what has none of them may become a sub-query, which gives nothing to anybody.
var ends = []string{"First", "Take", "Last", "Find", "FindInBatches", "Scan", "Row", "Rows", "Pluck",
	"Create", "CreateInBatches", "Save", "Update", "Updates", "UpdateColumn", "UpdateColumns", "Delete"}

// intoModel reports that rows are read into the struct of the statement's own model.
func (s *statement) intoModel() bool {
	for _, m := range s.all {
		switch m.name {
		case "First", "Take", "Last", "Find", "FindInBatches":
			if m.recv != "DB" {
				return true
			}
			if into := s.destinationOf(m); into != nil && s.sub.typ != nil && types.Identical(into, s.sub.typ) {
				return true
			}
		}
	}
	return false
}

// columnName puts the column in the place of a field's Go name, as GORM does in select lists.
func (s *statement) columnName(text string) string {
	if s.sub.model != nil && word.MatchString(text) {
		if c := s.sub.model.lookupField(text); c != nil && c.Name != "" {
			return quote(c.Name)
		}
	}
	return text
}

// raw looks at a whole statement.
func (s *statement) raw(m call) {
	text, ok := s.text(m.args[0])
	if !ok {
		return
	}
	uses := slices.DeleteFunc(s.uses(s.fill(text, m.args[1:])), func(u sqltext.Use) bool {
		return s.opened(u) || u.Kind == sqltext.ReadAs && m.name == "Exec"
	})
	s.judge(m, m.args[0], uses, "compares")
}

// judge reports what the plugin would refuse of the uses of a text. act is what a comparison is called here.
func (s *statement) judge(m call, at ast.Node, uses []sqltext.Use, act string) {
	for _, u := range uses {
		if u.Column == "" {
			if models := s.tables.byName[u.Table.Table]; len(models) > 0 {
				s.sayAll(m, at, models[0], u.Kind)
			}
			continue
		}
		mod, col := s.tables.find(u.Table.Table, u.Column)
		if mod == nil {
			continue
		}
		switch u.Kind {
		case sqltext.Compared:
			if col.Sealed {
				s.say(m, at, mod, col, act)
			}
		case sqltext.Read, sqltext.ReadAs:
			if col.Sealed {
				s.say(m, at, mod, col, "reads")
			}
		case sqltext.Set, sqltext.Inserted, sqltext.Defaulted:
			if col.Sealed || col.Key || u.Kind == sqltext.Set {
				s.say(m, at, mod, col, "writes")
			}
		}
	}
}

// sayAll reports a use of a table that names no column.
func (s *statement) sayAll(m call, at ast.Node, mod *model, kind sqltext.Kind) {
	switch kind {
	case sqltext.InsertedAll:
		s.report(at, fmt.Sprintf("%s inserts into %s without a column list, and may fill its sealed columns with plaintext, which is refused with rowseal.ErrPlaintext; create rows from structs of %s", m.name, mod.Table, mod.Name))
	case sqltext.Renamed:
		s.report(at, fmt.Sprintf("%s gives columns of %s other names, behind which the sealed ones cannot be told, and is refused with rowseal.ErrUnsupported; keep their own", m.name, mod.Name))
	}
}

// say reports one use of one column.
func (s *statement) say(m call, at ast.Node, mod *model, col *column, act string) {
	place := fmt.Sprintf("%s, column %s", mod.Name, col.Name)
	const condition = "which is sealed, and is refused with rowseal.ErrCondition"
	switch {
	case act == "writes" && col.Key:
		s.report(at, fmt.Sprintf("%s writes %s, a key column, which the plugin alone writes, and is refused with rowseal.ErrKeyColumn; rowseal.Rotate moves a row to another key", m.name, place))
	case act == "writes" && col.Primary:
		s.report(at, fmt.Sprintf("%s writes %s, to which the rows' keys are bound, and is refused with rowseal.ErrIdentity; create the row anew under the new one, and delete this one", m.name, place))
	case act == "writes" && !col.Sealed:
		s.report(at, fmt.Sprintf("%s writes %s, to which the rows' keys are bound by their context, and is refused with rowseal.ErrIdentity; load the row, change it and save it", m.name, place))
	case act == "writes":
		s.report(at, fmt.Sprintf("%s writes %s, which is sealed, in plaintext, and is refused with rowseal.ErrPlaintext; write through the model, as in db.Model(&row).Update(%q, value)", m.name, place, col.Name))
	case act == "reads":
		s.report(at, fmt.Sprintf("%s reads %s, which is sealed, under another name, by which it is not opened, and is refused with rowseal.ErrUnsupported; select it under its own name, with db.Model(&%s{})", m.name, place, mod.Name))
	case act == "sorts by":
		s.report(at, fmt.Sprintf("%s sorts by %s, %s: ciphertext has no order; sort in Go after loading", m.name, place, condition))
	case act == "groups by":
		s.report(at, fmt.Sprintf("%s groups by %s, %s: every ciphertext is different; group in Go after loading", m.name, place, condition))
	case act == "computes with":
		s.report(at, fmt.Sprintf("%s computes with %s, %s: the database has ciphertext; compute in Go after loading", m.name, place, condition))
	default:
		s.report(at, fmt.Sprintf("%s %s %s, %s: every ciphertext is different; look rows up by another column, or compare in Go after loading", m.name, act, place, condition))
	}
}
