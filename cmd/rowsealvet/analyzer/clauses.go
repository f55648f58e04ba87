// clauses.go owns the findings in package clause: expressions and clauses wherever they stand among a statement's arguments.

package analyzer

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"

	"github.com/rowseal/rowseal/internal/sqltext"
)

// expressions looks at gorm.Expr, clauses and conditions wherever they stand in an argument, or in a variable that has one value.
func (s *statement) expressions(m call, arg ast.Expr, seen []types.Object) {
	ast.Inspect(arg, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.KeyValueExpr:
			if _, ok := n.Key.(*ast.Ident); ok { // a field's name, or a key that is looked at as a column
				s.expressions(m, n.Value, seen)
				return false
			}
		case *ast.Ident:
			obj, ok := s.pass.TypesInfo.Uses[n].(*types.Var)
			if !ok || obj.IsField() || slices.Contains(seen, types.Object(obj)) || !ofClause(obj.Type()) {
				break
			}
			if values := s.values(obj); len(values) == 1 {
				s.expressions(m, values[0], append(slices.Clip(seen), obj))
			}
		case *ast.CallExpr:
			if s.heads[n] != nil {
				return false // a chain of its own
			}
			s.upserts(m, n)
			s.helper(m, n)
			if fn := s.callee(n); fn != nil && fn.FullName() == "gorm.io/gorm.Expr" && len(n.Args) > 0 {
				if text, ok := s.text(n.Args[0]); ok {
					s.expression(m, n.Args[0], s.fill(text, n.Args[1:]))
				}
			}
		case *ast.CompositeLit:
			return s.clause(m, n, seen)
		}
		return true
	})
}

// expression looks at the text of a gorm.Expr where it stands.
func (s *statement) expression(m call, at ast.Node, text string) {
	switch m.name {
	case "Select", "Distinct", "Pluck":
		s.listed(m, at, "", text)
	case "Table", "Joins", "InnerJoins":
		// A sub-query, which reads what it likes.
		s.judge(m, at, slices.DeleteFunc(s.uses(strings.Trim(text, "() \n\t")), isRead), "compares")
	default:
		s.compared(m, at, text)
	}
}

func isRead(u sqltext.Use) bool {
	return u.Kind == sqltext.Read || u.Kind == sqltext.ReadAs || u.Kind == sqltext.Star
}

// ofClause reports the types of package clause, and slices of them.
func ofClause(t types.Type) bool {
	if list, ok := t.Underlying().(*types.Slice); ok {
		if _, named := types.Unalias(t).(*types.Named); !named {
			t = list.Elem()
		}
	}
	n, ok := deref(t).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == clausePath
}

// clause looks at a literal of package clause. It reports whether what stands inside is to be looked at by itself.
func (s *statement) clause(m call, lit *ast.CompositeLit, seen []types.Object) bool {
	t, ok := deref(s.pass.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok || t.Obj().Pkg() == nil || t.Obj().Pkg().Path() != clausePath {
		return true
	}
	fields := fieldsOf(lit, t)
	switch t.Obj().Name() {
	case "Eq", "Neq":
		if v := fields["Value"]; v != nil && !s.isNil(v) { // else IS NULL
			s.clauseColumn(m, fields["Column"], " WHERE ", " = 1", "compares")
		}
	case "Gt", "Gte", "Lt", "Lte", "Like", "IN":
		s.clauseColumn(m, fields["Column"], " WHERE ", " = 1", "compares")
	case "OrderByColumn":
		s.clauseColumn(m, fields["Column"], " ORDER BY ", "", "sorts by")
	case "GroupBy":
		for _, column := range s.elements(fields["Columns"]) {
			s.clauseColumn(m, column, " GROUP BY ", "", "groups by")
		}
	case "Expr", "NamedExpr":
		if sql := fields["SQL"]; sql != nil {
			if text, ok := s.text(sql); ok {
				var vars []ast.Expr
				if values, _ := ast.Unparen(fields["Vars"]).(*ast.CompositeLit); values != nil {
					vars = values.Elts
				}
				s.expression(m, sql, s.fill(text, vars))
			}
		}
	case "Select":
		if e := fields["Expression"]; e != nil {
			list := m
			list.name = "Select"
			s.expressions(list, e, seen)
		}
		return false
	case "Returning":
		s.returning(m, lit, fields)
	case "Assignment":
		s.assignment(m, fields)
	case "OnConflict":
		s.conflict(m, fields, seen)
		return false
	case "Association":
		s.associated(m, fields, seen)
		return false
	}
	return true
}

// clauseColumn looks at a column, given by name or as a clause.Column, in its clause.
func (s *statement) clauseColumn(m call, e ast.Expr, before, after, act string) {
	name, at, ok := s.columnIn(e)
	if ok && columnText.MatchString(name) {
		from := "SELECT 1 FROM " + s.from()
		s.judge(m, at, s.added(from+before+quote(name)+after, from), act)
	}
}

// columnIn reads the name of a column, with its table where it has one.
func (s *statement) columnIn(e ast.Expr) (name string, at ast.Expr, ok bool) {
	if e == nil {
		return "", nil, false
	}
	lit, obj := s.literal(e)
	if lit == nil || !isNamed(s.pass.TypesInfo.TypeOf(lit), clausePath, "Column") {
		name, ok = s.text(e)
		return name, e, ok
	}
	fields := s.fields(lit)
	if fields["Name"] == nil || fields["Raw"] != nil {
		return "", nil, false
	}
	name, ok = s.text(fields["Name"])
	if table := fields["Table"]; table != nil && ok {
		if t, known := s.text(table); known && t != currentTable && t != "" {
			name = t + "." + name
		}
	}
	if obj != nil {
		return name, e, ok
	}
	return name, fields["Name"], ok
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

// fill puts tables and columns of package clause in the place of their question marks, as GORM does.
func (s *statement) fill(text string, vars []ast.Expr) string {
	if len(vars) == 0 || strings.Count(text, "?") != len(vars) {
		return text
	}
	var out strings.Builder
	for i, part := range strings.Split(text, "?") {
		if i > 0 {
			out.WriteString(s.nameIn(vars[i-1]))
		}
		out.WriteString(part)
	}
	return out.String()
}

// nameIn writes a clause.Table or clause.Column as it stands in text; a question mark for every other value.
func (s *statement) nameIn(e ast.Expr) string {
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		switch at := s.joined[s.pass.TypesInfo.ObjectOf(id)]; {
		case at == 1 && s.sub.alias != "":
			return s.sub.alias
		case at == 2 && s.sub.outer != "":
			return s.sub.outer
		}
	}
	lit, _ := s.literal(e)
	if lit == nil {
		return "?"
	}
	switch t := s.pass.TypesInfo.TypeOf(lit); {
	case isNamed(t, clausePath, "Column"):
		if name, _, ok := s.columnIn(lit); ok && columnText.MatchString(name) {
			return quote(name)
		}
	case isNamed(t, clausePath, "Table"):
		if f := s.fields(lit); f["Name"] != nil && f["Alias"] == nil && f["Raw"] == nil {
			if name, ok := s.text(f["Name"]); ok && columnText.MatchString(name) {
				return quote(name)
			}
		}
	}
	return "?"
}

// returning looks at RETURNING: columns under other names and expressions cannot be opened, and into several new rows at once GORM
// would put them in an order of its own.
func (s *statement) returning(m call, lit *ast.CompositeLit, fields map[string]ast.Expr) {
	columns := s.elements(fields["Columns"])
	many := s.createsMany()
	if many && len(lit.Elts) == 0 {
		s.sayReturning(m, lit, "all columns")
		return
	}
	for _, column := range columns {
		f := s.fields(column)
		if f["Name"] == nil {
			continue
		}
		text, ok := s.text(f["Name"])
		if !ok || text == "" {
			continue
		}
		if col := s.sub.model.sealedOrKey(text); many && (col != nil || text == "*") {
			what := "all columns"
			if col != nil {
				what = "column " + col.Name
			}
			s.sayReturning(m, f["Name"], what)
			continue
		}
		if f["Raw"] == nil {
			if !columnText.MatchString(text) {
				continue
			}
			text = quote(text)
		}
		if f["Alias"] != nil {
			if alias, ok := s.text(f["Alias"]); ok && alias != "" {
				text += " AS " + quote(alias)
			}
		}
		s.listed(m, f["Name"], "", text)
	}
}

func (s *statement) sayReturning(m call, at ast.Node, what string) {
	s.report(at, fmt.Sprintf("%s returns %s of %s from a create of several rows, which is refused with rowseal.ErrUnsupported; leave sealed and key columns out of RETURNING, or create one row", m.name, what, s.sub.model.Name))
}

// createsMany reports that several rows of a model with sealed fields are created at once.
func (s *statement) createsMany() bool {
	if !s.isModel() {
		return false
	}
	return slices.ContainsFunc(s.all, func(m call) bool {
		if m.name != "Create" && m.name != "CreateInBatches" && m.name != "Save" || len(m.args) == 0 {
			return false
		}
		t := s.pass.TypesInfo.TypeOf(m.args[0])
		if t == nil {
			return false
		}
		_, list := deref(t).Underlying().(*types.Slice)
		return list
	})
}

// sealedOrKey finds a column that is sealed or a key; m may be nil.
func (m *model) sealedOrKey(name string) *column {
	if m == nil {
		return nil
	}
	if c := m.lookup(bare(name)); c != nil && (c.Sealed || c.Key) {
		return c
	}
	return nil
}

// assignment looks at a clause.Assignment, which takes columns, not Go names. Set of gorm.G makes an update of it, or a create.
func (s *statement) assignment(m call, fields map[string]ast.Expr) {
	name, at, ok := s.columnIn(fields["Column"])
	value := fields["Value"]
	if !ok || value == nil {
		return
	}
	update := m.name != "Set" || slices.ContainsFunc(s.all, func(m call) bool { return m.name == "Update" })
	switch {
	case update:
		s.writes(m, []entry{{at, value}}, name)
	case s.isModel():
		s.inserts(m, []entry{{at, value}}, name)
	}
}

// conflict looks at an upsert. Its expressions may speak of the row that was to be inserted.
func (s *statement) conflict(m call, fields map[string]ast.Expr, seen []types.Object) {
	inner := *s
	if !s.sub.tabled {
		inner.sub.beside += " JOIN " + s.sub.table + " AS excluded ON true"
	}
	for _, column := range s.elements(fields["Columns"]) {
		s.clauseColumn(m, column, " WHERE ", " = 1", "compares")
	}
	for _, name := range []string{"Where", "TargetWhere"} {
		if fields[name] != nil {
			inner.expressions(m, fields[name], seen)
		}
	}
	do := fields["DoUpdates"]
	if do == nil || fields["DoNothing"] != nil {
		return
	}
	inner.untargeted = fields["Columns"] == nil && fields["UpdateAll"] == nil
	lit, _ := s.literal(do)
	if lit == nil || !isNamed(s.pass.TypesInfo.TypeOf(lit), clausePath, "Set") {
		inner.expressions(m, do, seen)
		return
	}
	for _, a := range s.elements(lit) {
		f := s.fields(a)
		if name, at, ok := s.columnIn(f["Column"]); ok && f["Value"] != nil {
			s.upsert(m, at, name, f["Value"])
			if from, _, ok := s.columnIn(f["Value"]); !ok || !strings.EqualFold(from, "excluded."+bare(name)) {
				inner.expressions(m, f["Value"], seen)
			}
		}
	}
}

// associated looks at a clause.Association, which is about the model at the other end.
func (s *statement) associated(m call, fields map[string]ast.Expr, seen []types.Object) {
	name := fields["Association"]
	if name == nil || s.sub.typ == nil {
		return
	}
	path, ok := s.text(name)
	if !ok {
		return
	}
	to := relation(s.sub.typ, path)
	if to == nil {
		return
	}
	inner := *s
	inner.sub, inner.all = s.subject(to), nil
	for _, name := range []string{"Conditions", "Set"} {
		if fields[name] != nil {
			inner.expressions(m, fields[name], seen)
		}
	}
}

// helperPath is the package of the field helpers that gorm's command line tool generates code for.
const helperPath = "gorm.io/cli/gorm/field"

// helper looks at a generated field helper, as in generated.Patient.Name.Eq("x"): the variable has the name of the model, and its
// fields those of the model's.
func (s *statement) helper(m call, node *ast.CallExpr) {
	fn := s.callee(node)
	if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != helperPath || s.sub.model == nil {
		return
	}
	method, ok := ast.Unparen(node.Fun).(*ast.SelectorExpr)
	if !ok {
		return
	}
	field, ok := ast.Unparen(method.X).(*ast.SelectorExpr)
	if !ok {
		return
	}
	var variable *ast.Ident
	switch x := ast.Unparen(field.X).(type) {
	case *ast.Ident:
		variable = x
	case *ast.SelectorExpr:
		variable = x.Sel
	}
	if variable == nil || variable.Name != s.sub.model.Name {
		return
	}
	i := slices.IndexFunc(s.sub.model.Columns, func(c column) bool { return c.Field == field.Sel.Name })
	if i < 0 || !s.sub.model.Columns[i].Sealed {
		return
	}
	col := &s.sub.model.Columns[i]
	switch name := fn.Name(); name {
	case "Asc", "Desc":
		s.say(m, node, s.sub.model, col, "sorts by")
	case "SetExpr", "Incr", "Decr", "Mul", "Div":
		s.sayExpression(m, node, s.sub.model, col)
	case "Eq", "EqExpr", "Neq", "NeqExpr", "Gt", "GtExpr", "Gte", "GteExpr", "Lt", "LtExpr", "Lte", "LteExpr", "Between", "Like", "NotLike", "ILike",
		"Regexp", "NotRegexp", "In", "NotIn":
		s.say(m, node, s.sub.model, col, "compares")
	}
}
