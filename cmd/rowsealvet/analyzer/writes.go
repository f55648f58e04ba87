// writes.go owns the findings in updates and creates by name: columns that cannot be sealed this way, and names that are no column.

package analyzer

import (
	"fmt"
	"go/ast"
	"go/types"
	"strings"
)

// updates looks at what Updates takes.
func (s *statement) updates(m call) {
	arg := m.args[0]
	if t := s.pass.TypesInfo.TypeOf(arg); t != nil && isMap(t) {
		s.writes(m, s.mapEntries(arg))
		return
	}
	if s.sub.typ == nil || s.sub.tabled || s.sub.model == nil || !s.sub.model.sealed() || !(s.sub.given != nil && s.manyRows() || s.sub.given == nil && s.noID(arg)) {
		return
	}
	for _, set := range s.sealedFields(arg) {
		s.many(m, set.at, set.model, set.column)
	}
}

// noID reports a literal of the model that sets fields by name, and no primary key among them.
func (s *statement) noID(arg ast.Expr) bool {
	lit, obj := s.literal(arg)
	if lit == nil || obj != nil || len(lit.Elts) == 0 {
		return false
	}
	for _, elt := range lit.Elts {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		id, ok := kv.Key.(*ast.Ident)
		if !ok {
			return false
		}
		if c := s.sub.model.lookupField(id.Name); c == nil || c.Primary {
			return false
		}
	}
	return true
}

// manyRows reports that a statement's model names no row: an empty literal, a slice, or gorm.G, which has none.
func (s *statement) manyRows() bool {
	if s.chain.generic != nil {
		return true
	}
	if s.sub.given == nil {
		return false
	}
	if t := s.pass.TypesInfo.TypeOf(s.sub.given); t != nil {
		if _, list := deref(t).Underlying().(*types.Slice); list {
			return true
		}
	}
	if node, ok := s.sub.given.(*ast.CallExpr); ok {
		id, ok := ast.Unparen(node.Fun).(*ast.Ident)
		if !ok {
			return false
		}
		builtin, ok := s.pass.TypesInfo.Uses[id].(*types.Builtin)
		return ok && builtin.Name() == "new" && s.pass.TypesInfo.Types[node.Args[0]].IsType()
	}
	lit, obj := s.literal(s.sub.given)
	return lit != nil && obj == nil && len(lit.Elts) == 0
}

// writes looks at assignments by name.
func (s *statement) writes(m call, entries []entry) {
	for _, e := range entries {
		name, ok := s.text(e.key)
		if !ok || strings.Contains(name, gap) {
			continue
		}
		if s.sub.typ == nil {
			s.writesTable(m, e, name)
			continue
		}
		if s.sub.tabled || s.sub.model == nil || !s.sub.model.sealed() {
			continue
		}
		s.typo(m, e.key, name, true)
		col := s.sub.model.lookupField(name)
		plain := col != nil
		if col == nil {
			col = s.sub.model.lookup(bare(name))
		}
		switch {
		case col == nil:
		case col.Key:
			s.say(m, e.key, s.sub.model, col, "writes")
		case col.Primary && (m.name != "Updates" && m.name != "UpdateColumns" || s.manyRows() || s.isExpression(e.value)):
			s.say(m, e.key, s.sub.model, col, "writes")
		case !col.Sealed:
		case !plain:
			s.report(e.key, fmt.Sprintf("%s writes %s, column %s, which is sealed, under another name, so it is not sealed; write %q", m.name, s.sub.model.Name, col.Name, col.Name))
		case s.isExpression(e.value):
			s.report(e.value, fmt.Sprintf("%s gives %s, column %s, which is sealed, an SQL expression, which cannot be sealed; compute the value in Go", m.name, s.sub.model.Name, col.Name))
		case s.isNil(e.value):
			// NULL needs no key.
		case s.manyRows():
			s.many(m, e.key, s.sub.model, col)
		}
	}
}

// writesTable looks at an assignment to a table without a model: there is no row, so no key.
func (s *statement) writesTable(m call, e entry, name string) {
	if s.isNil(e.value) {
		return
	}
	table, _, _ := strings.Cut(s.sub.table, " ") // "patients AS p"
	if mod, col := s.tables.find(bare(table), bare(name)); mod != nil && (col.Sealed || col.Key) {
		s.say(m, e.key, mod, col, "writes")
	}
}

func (s *statement) many(m call, at ast.Node, mod *model, col *column) {
	s.report(at, fmt.Sprintf("%s writes %s, column %s, which is sealed, in many rows at once, each of which has its own key; load the rows and save each, or name one, as in db.Model(&%s{ID: id})", m.name, mod.Name, col.Name, mod.Name))
}

// creates looks at what Create takes.
func (s *statement) creates(m call) {
	arg := m.args[0]
	t := s.pass.TypesInfo.TypeOf(arg)
	if t == nil || !isMap(t) {
		return
	}
	if s.sub.typ != nil && !s.sub.tabled {
		if s.sub.model != nil && s.sub.model.sealed() {
			s.report(arg, fmt.Sprintf("%s of %s from a map, which has no key column for its sealed fields; create rows from structs of %s", m.name, s.sub.model.Name, s.sub.model.Name))
		}
		return
	}
	for _, e := range s.mapEntries(arg) {
		if name, ok := s.text(e.key); ok {
			s.writesTable(m, e, name)
		}
	}
}

// upserts looks at clause.Assignments and clause.AssignmentColumns: what they put into a row that exists must be sealed under that row's
// key, or bring its own.
func (s *statement) upserts(m call, node *ast.CallExpr) {
	fn := s.callee(node)
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != clausePath || len(node.Args) != 1 || s.sub.model == nil || s.sub.tabled {
		return
	}
	mod := s.sub.model
	switch fn.Name() {
	case "Assignments":
		for _, e := range s.mapEntries(node.Args[0]) {
			if name, ok := s.text(e.key); ok {
				if col := mod.lookup(bare(name)); col != nil && (col.Sealed || col.Key) && !s.isNil(e.value) {
					s.say(m, e.key, mod, col, "writes")
				}
			}
		}
	case "AssignmentColumns":
		lit, _ := s.literal(node.Args[0])
		if lit == nil {
			return
		}
		var sealed ast.Expr
		var column *column
		for _, elt := range lit.Elts {
			name, ok := s.text(elt)
			if !ok {
				return
			}
			col := mod.lookup(name)
			switch {
			case col == nil:
			case col.Key:
				return
			case col.Sealed && sealed == nil:
				sealed, column = elt, col
			}
		}
		if sealed != nil {
			s.report(sealed, fmt.Sprintf("%s would put %s, column %s, which is sealed, into a row that has another key; find that row and save it, or upsert by primary key with UpdateAll", m.name, mod.Name, column.Name))
		}
	}
}

// typo reports a name that is no column of a model with sealed fields. GORM takes Go names in what is written, and columns alone in
// conditions; databases may take columns in any case.
func (s *statement) typo(m call, at ast.Node, name string, goNames bool) {
	mod := s.sub.model
	if mod == nil || !mod.sealed() || s.sub.tabled || !word.MatchString(name) || mod.lookup(name) != nil {
		return
	}
	if col := mod.lookupField(name); col != nil {
		if !goNames && col.Name != "" {
			s.report(at, fmt.Sprintf("%s: %s is a field of %s, and conditions take columns; write %q", m.name, name, mod.Name, col.Name))
		}
		return
	}
	message := fmt.Sprintf("%s: %s has no column or field %q", m.name, mod.Name, name)
	best, nearest := "", 3
	for _, c := range mod.Columns {
		for _, candidate := range []string{c.Name, c.Field} {
			if d := distance(name, candidate); candidate != "" && d < nearest {
				best, nearest = candidate, d
			}
		}
	}
	if best != "" {
		message += fmt.Sprintf("; did you mean %q?", best)
	} else {
		message += "; write the name of a column"
	}
	s.report(at, message)
}
