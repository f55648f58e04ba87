// writes.go owns the findings in updates and creates by name: columns that cannot be sealed this way, and names that are no column.

package analyzer

import (
	"fmt"
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// updates looks at what Updates takes.
func (s *statement) updates(m call) {
	arg := m.args[0]
	if t := s.pass.TypesInfo.TypeOf(arg); t != nil && isMap(t) {
		s.writes(m, s.mapEntries(arg), "")
		return
	}
	if table, typ := s.foreign(arg); typ != nil {
		s.stores(m, arg, table, typ, false)
		return
	}
	if !s.isModel() {
		return
	}
	lit, obj := s.literal(arg)
	if s.sub.given == nil && (obj != nil || !s.keyless(lit)) {
		return // a row that may have been loaded
	}
	if s.sub.given != nil && !s.unloaded() {
		return
	}
	fields := s.setFields(lit)
	names := make([]*column, len(fields))
	for i, f := range fields {
		names[i] = f.column
	}
	for _, f := range fields {
		if f.model == s.sub.model && f.column.Context && !s.sealsAll(f.model, names) {
			s.sayUnloaded(m, f.at, f.model, f.column)
		}
	}
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

// unloaded reports that a statement's model is a value that was made for it, so that it cannot hold a key.
func (s *statement) unloaded() bool {
	if s.sub.given == nil {
		return s.chain.generic != nil
	}
	if t := s.pass.TypesInfo.TypeOf(s.sub.given); t != nil {
		if _, list := deref(t).Underlying().(*types.Slice); list {
			return false
		}
	}
	lit, obj := s.literal(s.sub.given)
	return s.manyRows() || obj == nil && s.keyless(lit)
}

// keyless reports a literal that sets single columns by name, and no key among them. lit may be nil.
func (s *statement) keyless(lit *ast.CompositeLit) bool {
	if lit == nil {
		return false
	}
	named, ok := types.Unalias(s.pass.TypesInfo.TypeOf(lit)).(*types.Named)
	if !ok {
		return false
	}
	m := s.describe(named)
	return m != nil && !slices.ContainsFunc(lit.Elts, func(elt ast.Expr) bool {
		kv, ok := elt.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		id, ok := kv.Key.(*ast.Ident)
		return !ok || !slices.ContainsFunc(m.Columns, func(c column) bool { return c.Field == id.Name && len(c.path) == 0 && !c.Key })
	})
}

// sealsAll reports that all sealed columns are among those that are written: then the row gets a new key, under its new context.
func (s *statement) sealsAll(mod *model, written []*column) bool {
	for i := range mod.Columns {
		if mod.Columns[i].Sealed && !slices.ContainsFunc(written, func(c *column) bool { return c != nil && c.Name == mod.Columns[i].Name }) {
			return false
		}
	}
	return true
}

// writes looks at assignments by name. exact is the column of a clause.Assignment, which takes no Go names; "" for all others.
func (s *statement) writes(m call, entries []entry, exact string) {
	written := make([]*column, len(entries))
	for i, e := range entries {
		if name, ok := s.text(e.key); ok && s.sub.model != nil {
			written[i] = s.fieldOf(s.sub.model, name)
		}
	}
	table, typ := s.foreign(nil)
	for i, e := range entries {
		name, ok := exact, true
		if name == "" {
			name, ok = s.text(e.key)
		}
		if !ok || strings.Contains(name, gap) {
			continue
		}
		if s.sub.typ == nil || table != "" {
			if typ != nil && written[i] != nil && exact == "" {
				name = written[i].Name
			}
			s.writesTable(m, e, table, name, true)
			continue
		}
		if !s.isModel() {
			continue
		}
		s.typo(m, e.key, name, exact == "")
		col := s.sub.model.lookup(bare(name))
		if col == nil && exact == "" {
			col = written[i]
		}
		switch {
		case col == nil:
		case col.Key:
			s.say(m, e.key, s.sub.model, col, "writes")
		case col.Primary && (exact != "" || m.name != "Updates" && m.name != "UpdateColumns" || s.manyRows() || s.isExpression(e.value)):
			s.say(m, e.key, s.sub.model, col, "writes")
		case !col.Sealed && !col.Context:
		case name != col.Name && (exact != "" || !s.spells(name, col)):
			s.sayName(m, e.key, s.sub.model, col, name, "rowseal.ErrUnsupported")
		case s.isExpression(e.value):
			s.sayExpression(m, e.value, s.sub.model, col)
		case col.Context && s.unloaded() && (s.manyRows() || exact == "" && !s.sealsAll(s.sub.model, written)):
			s.sayUnloaded(m, e.key, s.sub.model, col)
		}
	}
}

func (s *statement) sayName(m call, at ast.Node, mod *model, col *column, name, refused string) {
	s.report(at, fmt.Sprintf("%s writes %s, column %s, as %q, which is not its name, and is refused with %s; write %q", m.name, mod.Name, col.Name, name, refused, col.Name))
}

func (s *statement) sayExpression(m call, at ast.Node, mod *model, col *column) {
	if col.Context {
		s.report(at, fmt.Sprintf("%s gives %s, column %s, which the rows' keys are bound to by their context, an SQL expression, and is refused with rowseal.ErrContext; compute the value in Go", m.name, mod.Name, col.Name))
		return
	}
	s.report(at, fmt.Sprintf("%s gives %s, column %s, which is sealed, an SQL expression, which cannot be sealed, and is refused with rowseal.ErrUnsupported; compute the value in Go", m.name, mod.Name, col.Name))
}

func (s *statement) sayUnloaded(m call, at ast.Node, mod *model, col *column) {
	s.report(at, fmt.Sprintf("%s writes %s, column %s, to which the rows' keys are bound by their context, in rows that were not loaded, and is refused with rowseal.ErrContext or rowseal.ErrUnsupported; load the rows, change them and save them", m.name, mod.Name, col.Name))
}

// foreign gives the table that a statement writes, and the struct that it writes from, where the table is named by itself or by a
// TableName method, and the struct is not the model that it is sealed for. dest is what the statement was given, nil where it is names
// and values. typ is nil where there is no struct.
func (s *statement) foreign(dest ast.Expr) (table string, typ *types.Named) {
	typ = s.sub.typ
	if typ == nil && dest != nil {
		typ = structOf(s.pass.TypesInfo.TypeOf(dest))
	}
	switch into := s.writeClause(); {
	case into != "":
		table = into
	case s.sub.tabled:
		table = s.sub.table
	case typ != nil && hasMethod(typ, "TableName"):
		table = s.tableOf(typ)
	case typ == nil:
		return s.sub.table, nil
	}
	table, _, _ = strings.Cut(table, " ") // "patients AS p"
	own := func(m *model) bool {
		return typ != nil && m.Name == typ.Obj().Name() && typ.Obj().Pkg() != nil && m.Package == typ.Obj().Pkg().Path()
	}
	models := s.tables.byName[bare(table)]
	if len(models) == 0 || slices.ContainsFunc(models, own) {
		return "", nil
	}
	if typ != nil {
		if d := s.describe(typ); d != nil && d.sealed() && bare(d.Table) == bare(table) {
			return "", nil // another model of the same table
		}
	}
	return table, typ
}

// writeClause is the table that clause.Insert or clause.Update names; "" for none.
func (s *statement) writeClause() string {
	for _, m := range s.all {
		if m.name != "Clauses" {
			continue
		}
		for _, arg := range m.args {
			lit, _ := s.literal(arg)
			if lit == nil {
				continue
			}
			if t := s.pass.TypesInfo.TypeOf(lit); !isNamed(t, clausePath, "Insert") && !isNamed(t, clausePath, "Update") {
				continue
			}
			if e := s.fields(lit)["Table"]; e != nil {
				if table, _ := s.literal(e); table != nil {
					if name := s.fields(table)["Name"]; name != nil {
						if text, ok := s.text(name); ok && text != currentTable {
							return text
						}
					}
				}
			}
		}
	}
	return ""
}

// writesTable looks at an assignment to a table without its model: there is no row, so no key.
func (s *statement) writesTable(m call, e entry, table, name string, update bool) {
	if s.isNil(e.value) {
		return
	}
	table, _, _ = strings.Cut(table, " ") // "patients AS p"
	if mod, col := s.tables.find(bare(table), bare(name)); mod != nil && (col.Sealed || col.Key || update) {
		s.say(m, e.key, mod, col, "writes")
	}
}

// stores looks at a struct that is written to a table of a model with sealed fields, and is not that model: what it holds is plaintext.
// all tells that every column is written, not those alone that are not zero.
func (s *statement) stores(m call, arg ast.Expr, table string, typ *types.Named, all bool) {
	if s.has("Select", "Omit") {
		return // the columns that are left may be harmless
	}
	d := s.describe(typ)
	if d == nil {
		return
	}
	lit, _ := s.literal(arg)
	set := s.setFields(lit)
	for i := range d.Columns {
		c := &d.Columns[i]
		if c.Name == "" {
			continue
		}
		mod, col := s.tables.find(bare(table), bare(c.Name))
		if mod == nil || !col.Sealed && !col.Key {
			continue
		}
		at := ast.Node(arg)
		if k := slices.IndexFunc(set, func(f setField) bool { return f.column.Field == c.Field && len(c.path) == 0 }); k >= 0 {
			at = set[k].at
		} else if !all || !c.always {
			continue
		}
		s.report(at, fmt.Sprintf("%s writes %s, column %s, which is sealed, in plaintext from a struct of %s, and is refused with rowseal.ErrPlaintext; write rows of %s from structs of %s", m.name, mod.Name, col.Name, d.Name, table, mod.Name))
		return
	}
}

// creates looks at what Create and Save take.
func (s *statement) creates(m call) {
	arg := m.args[0]
	t := s.pass.TypesInfo.TypeOf(arg)
	if t == nil {
		return
	}
	if !isMap(t) {
		if table, typ := s.foreign(arg); typ != nil {
			s.stores(m, arg, table, typ, true)
		} else if from := structOf(t); from != nil && m.name != "Save" && s.isModel() && s.sub.given != nil && !types.Identical(from, s.sub.typ) {
			s.report(arg, fmt.Sprintf("%s of %s from a struct of %s, which has no key column for its sealed fields, and is refused with rowseal.ErrUnsupported; create rows from structs of %s", m.name, s.sub.model.Name, from.Obj().Name(), s.sub.model.Name))
		}
		return
	}
	if s.isModel() {
		if m.name != "Save" {
			s.inserts(m, s.mapEntries(arg), "")
		}
		return
	}
	if table, _ := s.foreign(nil); table != "" {
		for _, e := range s.mapEntries(arg) {
			if name, ok := s.text(e.key); ok {
				s.writesTable(m, e, table, name, false)
			}
		}
	}
}

// isModel reports a statement about a model with sealed fields, in its own table.
func (s *statement) isModel() bool {
	return s.sub.typ != nil && !s.sub.tabled && s.sub.model != nil && s.sub.model.sealed()
}

// fieldOf finds a column as GORM does for what is written: by its name, its Go name, or what the naming strategy makes of another spelling.
func (c *checker) fieldOf(m *model, name string) *column {
	if col := m.lookupField(name); col != nil {
		return col
	}
	return m.lookup(c.names.ColumnName(m.Table, name))
}

// spells reports a name that GORM finds a column by when it is written.
func (c *checker) spells(name string, col *column) bool {
	return name == col.Name || name == col.Field || c.names.ColumnName("", name) == col.Name
}

// inserts looks at the names and values of new rows of a model. exact is as in writes.
func (s *statement) inserts(m call, entries []entry, exact string) {
	for _, e := range entries {
		name, ok := exact, true
		if name == "" {
			name, ok = s.text(e.key)
		}
		if !ok || strings.Contains(name, gap) {
			continue
		}
		s.typo(m, e.key, name, true)
		mod := s.sub.model
		col := s.fieldOf(mod, name)
		if col == nil {
			col = mod.lookup(bare(name))
		}
		switch {
		case col == nil:
		case col.Key:
			s.say(m, e.key, mod, col, "writes")
		case !col.Sealed && !col.Context:
		case col.Sealed && !s.spells(name, col):
			s.sayName(m, e.key, mod, col, name, "rowseal.ErrPlaintext")
		case s.isExpression(e.value):
			s.sayExpression(m, e.value, mod, col)
		}
	}
}

// upserts looks at clause.Assignments and clause.AssignmentColumns: what they put into a row that exists must be sealed under that row's
// key, or bring its own. Where the upsert names the columns that rows are told by, the plugin looks them up.
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
				s.upsert(m, e.key, name, e.value)
			}
		}
	case "AssignmentColumns":
		lit, _ := s.literal(node.Args[0])
		if lit == nil {
			return
		}
		var sealed, bound, key ast.Expr
		var column, contextual, wrapped *column
		for _, elt := range lit.Elts {
			name, ok := s.text(elt)
			if !ok {
				return
			}
			col := mod.lookup(bare(name))
			switch {
			case col == nil || !mod.sealed():
			case col.Key:
				key, wrapped = elt, col
			case col.Primary:
				s.say(m, elt, mod, col, "writes")
			case col.Sealed && name != col.Name:
				s.sayName(m, elt, mod, col, name, "rowseal.ErrUnsupported")
			case col.Sealed && sealed == nil:
				sealed, column = elt, col
			case col.Context:
				bound, contextual = elt, col
			}
		}
		switch {
		case sealed != nil && key == nil && s.untargeted:
			s.report(sealed, fmt.Sprintf("%s would put %s, column %s, which is sealed, into a row that has another key, and is refused with rowseal.ErrUnsupported; find that row and save it, or upsert by primary key with UpdateAll", m.name, mod.Name, column.Name))
		case sealed == nil && key != nil:
			s.say(m, key, mod, wrapped, "writes")
		case sealed == nil && bound != nil:
			s.say(m, bound, mod, contextual, "writes")
		}
	}
}

// upsert looks at one assignment of an upsert.
func (s *statement) upsert(m call, at ast.Node, name string, value ast.Expr) {
	mod := s.sub.model
	if mod == nil || s.sub.tabled || !mod.sealed() {
		return
	}
	col := mod.lookup(bare(name))
	if col == nil || s.isNil(value) {
		return
	}
	if from, _, ok := s.columnIn(value); ok && strings.EqualFold(from, "excluded."+col.Name) && !col.Primary {
		return // the value of the row that was to be inserted, as clause.AssignmentColumns takes it
	}
	if col.Sealed || col.Key || col.Primary {
		s.say(m, at, mod, col, "writes")
	}
}

// typo reports a name that is no column of a model with sealed fields. GORM takes Go names in what is written, and columns alone in
// conditions; databases may take columns in any case.
func (s *statement) typo(m call, at ast.Node, name string, goNames bool) {
	mod := s.sub.model
	if mod == nil || !mod.sealed() || s.sub.tabled || !word.MatchString(name) || mod.lookup(name) != nil || goNames && s.fieldOf(mod, name) != nil {
		return
	}
	if col := mod.lookupField(name); col != nil {
		if !goNames && col.Name != "" {
			s.report(at, fmt.Sprintf("%s: %s is a field of %s, and columns are meant here; write %q", m.name, name, mod.Name, col.Name))
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
