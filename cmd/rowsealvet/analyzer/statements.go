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
}

func (s *statement) has(names ...string) bool {
	return slices.ContainsFunc(s.all, func(m call) bool { return slices.Contains(names, m.name) })
}

func (s *statement) check(m call) {
	for _, arg := range m.args {
		s.expressions(m, arg)
	}
	s.reads(m)
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
			s.writes(m, []entry{{m.args[0], m.args[1]}})
		}
	case "Updates", "UpdateColumns":
		s.updates(m)
	case "Create", "CreateInBatches":
		s.creates(m)
	}
}

// from is the text behind FROM as all calls make it.
func (s *statement) from() string { return s.joined(s.sub, s.all) }

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
		s.compared(m, args[0], text)
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
	for _, set := range s.sealedFields(arg) {
		if set.model != nil {
			s.say(m, set.at, set.model, set.column, "compares")
		}
	}
}

type setField struct {
	at     ast.Node
	model  *model
	column *column
}

// sealedFields lists the sealed fields that a literal of a model sets.
func (s *statement) sealedFields(arg ast.Expr) (out []setField) {
	lit, _ := s.literal(arg)
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
		if !ok {
			continue
		}
		for i := range m.Columns {
			if col := &m.Columns[i]; col.Sealed && len(col.path) == 0 && col.Field == id.Name && s.pass.TypesInfo.Uses[id] == col.field {
				out = append(out, setField{kv, m, col})
			}
		}
	}
	return out
}

// expressions looks at gorm.Expr and the clauses of conditions wherever they stand in an argument.
func (s *statement) expressions(m call, arg ast.Expr) {
	ast.Inspect(arg, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			if s.heads[n] != nil {
				return false // a chain of its own
			}
			s.upserts(m, n)
			if fn := s.callee(n); fn != nil && fn.FullName() == "gorm.io/gorm.Expr" && len(n.Args) > 0 {
				if text, ok := s.text(n.Args[0]); ok {
					s.compared(m, n.Args[0], text)
				}
			}
		case *ast.CompositeLit:
			s.clause(m, n)
		}
		return true
	})
}

// clause looks at the column of a clause literal.
func (s *statement) clause(m call, lit *ast.CompositeLit) {
	t, ok := types.Unalias(s.pass.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok || t.Obj().Pkg() == nil || t.Obj().Pkg().Path() != clausePath {
		return
	}
	act := "compares"
	switch t.Obj().Name() {
	case "Eq", "Neq", "Gt", "Gte", "Lt", "Lte", "Like", "IN":
	case "OrderByColumn":
		act = "sorts by"
	default:
		return
	}
	fields := fieldsOf(lit, t)
	if v := fields["Value"]; v != nil && s.isNil(v) || fields["Column"] == nil {
		return
	}
	at := fields["Column"]
	name, ok := s.text(at)
	if inner, isLit := ast.Unparen(at).(*ast.CompositeLit); isLit && isNamed(s.pass.TypesInfo.TypeOf(inner), clausePath, "Column") {
		column := fieldsOf(inner, types.Unalias(s.pass.TypesInfo.TypeOf(inner)).(*types.Named))
		if column["Name"] == nil || column["Raw"] != nil {
			return
		}
		at = column["Name"]
		name, ok = s.text(at)
		if table := column["Table"]; table != nil && ok {
			if t, known := s.text(table); known && t != currentTable {
				name = t + "." + name
			}
		}
	}
	if ok && columnText.MatchString(name) {
		from := "SELECT 1 FROM " + s.from()
		s.judge(m, at, s.added(from+" WHERE "+quote(name)+" = 1", from), act)
	}
}

// currentTable is clause.CurrentTable.
const currentTable = "~~~ct~~~"

// fieldsOf names the elements of a struct literal.
func fieldsOf(lit *ast.CompositeLit, t *types.Named) map[string]ast.Expr {
	out := map[string]ast.Expr{}
	st, ok := t.Underlying().(*types.Struct)
	if !ok {
		return out
	}
	for i, elt := range lit.Elts {
		if kv, ok := elt.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok {
				out[id.Name] = kv.Value
			}
		} else if i < st.NumFields() {
			out[st.Field(i).Name()] = elt
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
	from := "SELECT 1 FROM " + s.joined(s.sub, before)
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
		text = s.columnName(text)
		from := " FROM " + s.from()
		uses := s.added("SELECT "+distinct+text+from, "SELECT 1"+from)
		uses = slices.DeleteFunc(uses, func(u sqltext.Use) bool {
			switch u.Kind {
			case sqltext.Read, sqltext.Star:
				return !s.has("Scan", "Row", "Rows")
			case sqltext.ReadAs:
				return strings.HasSuffix(u.As, "__"+u.Column)
			}
			return false
		})
		act := "computes with"
		if distinct != "" {
			act = "compares"
		}
		s.judge(m, arg, uses, act)
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
	from := " FROM " + s.from()
	s.judge(m, m.args[0], s.added("SELECT "+distinct+s.columnName(text)+from, "SELECT 1"+from), "computes with")
}

// reads looks at results of all columns that come to something else than the model.
func (s *statement) reads(m call) {
	mod := s.sub.model
	if mod == nil || !mod.sealed() || s.sub.given == nil || s.sub.tabled || s.chain.above != nil || s.has("Select", "Omit", "Distinct", "Raw", "Group", "Clauses", "Scopes") {
		return
	}
	switch m.name {
	case "Rows", "Row", "Scan":
		s.sayAll(m, m.node, mod, sqltext.Star)
	case "Find", "First", "Take", "Last":
		if len(m.args) == 0 {
			return
		}
		t := s.pass.TypesInfo.TypeOf(m.args[0])
		if t != nil && isMap(t) {
			s.sayAll(m, m.args[0], mod, sqltext.Star)
			return
		}
		named := structOf(t)
		if named == nil || types.Identical(named, s.sub.typ) {
			return
		}
		if dto := s.describe(named); dto != nil {
			for _, c := range dto.Columns {
				if col := mod.lookup(c.Name); col != nil && col.Sealed {
					s.say(m, m.args[0], mod, col, "reads")
				}
			}
		}
	}
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
	uses := slices.DeleteFunc(s.uses(text), func(u sqltext.Use) bool {
		reads := u.Kind == sqltext.Read || u.Kind == sqltext.ReadAs || u.Kind == sqltext.Star
		return reads && !(u.Query && s.has("Scan", "Row", "Rows"))
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

func (s *statement) sayAll(m call, at ast.Node, mod *model, kind sqltext.Kind) {
	if kind == sqltext.InsertedAll {
		s.report(at, fmt.Sprintf("%s inserts into %s without a column list, and may fill its sealed columns with plaintext; create rows from structs of %s", m.name, mod.Table, mod.Name))
		return
	}
	s.report(at, fmt.Sprintf("%s reads all columns of %s, of which the sealed ones come as ciphertext; load %s with Find, First, Take or FindInBatches, or select other columns", m.name, mod.Name, mod.Name))
}

// say reports one use of one column.
func (s *statement) say(m call, at ast.Node, mod *model, col *column, act string) {
	place := fmt.Sprintf("%s, column %s", mod.Name, col.Name)
	switch {
	case act == "writes" && col.Key:
		s.report(at, fmt.Sprintf("%s writes %s, a key column, which the plugin alone writes; rowseal.Rotate moves a row to another key", m.name, place))
	case act == "writes" && !col.Sealed:
		s.report(at, fmt.Sprintf("%s writes %s, to which the rows' keys are bound; create the row anew under the new one, and delete this one", m.name, place))
	case act == "writes":
		s.report(at, fmt.Sprintf("%s writes %s, which is sealed, in plaintext; write through the model, as in db.Model(&row).Update(%q, value)", m.name, place, col.Name))
	case act == "reads":
		s.report(at, fmt.Sprintf("%s reads %s, which is sealed, as ciphertext; load %s with Find, First, Take or FindInBatches, or select other columns", m.name, place, mod.Name))
	case act == "sorts by":
		s.report(at, fmt.Sprintf("%s sorts by %s, which is sealed: ciphertext has no order; sort in Go after loading", m.name, place))
	case act == "groups by":
		s.report(at, fmt.Sprintf("%s groups by %s, which is sealed: every ciphertext is different; group in Go after loading", m.name, place))
	case act == "computes with":
		s.report(at, fmt.Sprintf("%s computes with %s, which is sealed: the database has ciphertext; compute in Go after loading", m.name, place))
	default:
		s.report(at, fmt.Sprintf("%s %s %s, which is sealed: every ciphertext is different; look rows up by another column, or compare in Go after loading", m.name, act, place))
	}
}
