// facts.go owns what packages tell those that import them: their models, and the tables that TableName methods name.

package analyzer

import (
	"go/ast"
	"go/constant"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"

	"github.com/rowseal/rowseal/internal/sqltext"
)

// modelsFact is every model with sealed fields in a package and in what it imports. It holds those of the imports too, because go vet
// hands on the facts of direct imports alone.
type modelsFact struct {
	Models   []*model
	Contexts []context
}

func (*modelsFact) AFact() {}

func (f *modelsFact) String() string {
	var names []string
	for _, m := range f.Models {
		names = append(names, m.Name+":"+m.Table)
	}
	for _, d := range f.Contexts {
		names = append(names, d.Name+"+"+d.Column)
	}
	return "models " + strings.Join(names, " ")
}

// tableFact is the constant that a TableName method returns.
type tableFact struct{ Table string }

func (*tableFact) AFact() {}

func (f *tableFact) String() string { return "table " + f.Table }

// aboutFact is what every statement is about that a function returns, whatever it is passed: a model, or a table alone.
type aboutFact struct{ Package, Name, Table string }

func (*aboutFact) AFact() {}

func (f *aboutFact) String() string { return "about " + f.Name + ":" + f.Table }

// exportAbout tells other packages what the functions of this one return.
func (s *statements) exportAbout() {
	for obj, decl := range s.funcs {
		fn, ok := obj.(*types.Func)
		if !ok || !fn.Exported() || len(s.given[obj]) == 0 {
			continue
		}
		unknown := &frame{args: map[types.Object]ast.Expr{}}
		for _, param := range s.parameters(decl.Type) {
			if param != nil {
				unknown.args[param] = ast.NewIdent("_") // its callers' own affair
			}
		}
		var about *aboutFact
		for _, r := range s.given[obj] {
			subs := s.origins(r, unknown, newTrail())
			if len(subs) != 1 || subs[0].table == gap {
				about = nil
				break
			}
			f := &aboutFact{Table: subs[0].table}
			if named := subs[0].typ; named != nil && named.Obj().Pkg() != nil {
				f.Package, f.Name = named.Obj().Pkg().Path(), named.Obj().Name()
			}
			if about != nil && *about != *f {
				about = nil
				break
			}
			about = f
		}
		if about != nil {
			s.pass.ExportObjectFact(fn, about)
		}
	}
}

// imported is what a call of another package's function gives a statement about.
func (s *statements) imported(node *ast.CallExpr) (subject, bool) {
	fn := s.callee(node)
	var about aboutFact
	if fn == nil || fn.Pkg() == s.pass.Pkg || !s.pass.ImportObjectFact(fn.Origin(), &about) {
		return subject{}, false
	}
	if about.Name == "" {
		return subject{table: about.Table, tabled: true}, true
	}
	named := find(fn.Pkg(), about.Package, about.Name, map[*types.Package]bool{})
	if named == nil {
		return subject{}, false
	}
	sub := s.subject(named)
	sub.given = node
	if sub.table != about.Table {
		sub.table, sub.tabled = about.Table, true
	}
	return sub, true
}

// find looks for a type in a package and what it imports.
func find(p *types.Package, path, name string, seen map[*types.Package]bool) *types.Named {
	if seen[p] {
		return nil
	}
	seen[p] = true
	if p.Path() == path {
		obj, _ := p.Scope().Lookup(name).(*types.TypeName)
		if obj == nil {
			return nil
		}
		named, _ := types.Unalias(obj.Type()).(*types.Named)
		return named
	}
	for _, imp := range p.Imports() {
		if named := find(imp, path, name, seen); named != nil {
			return named
		}
	}
	return nil
}

// exportTables reads the TableName methods of the package.
func (c *checker) exportTables() {
	for _, file := range c.pass.Files {
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Name.Name != "TableName" || fn.Body == nil || len(fn.Body.List) != 1 {
				continue
			}
			ret, ok := fn.Body.List[0].(*ast.ReturnStmt)
			if !ok || len(ret.Results) != 1 {
				continue
			}
			value := c.pass.TypesInfo.Types[ret.Results[0]].Value
			obj, ok := c.pass.TypesInfo.Defs[fn.Name].(*types.Func)
			if ok && value != nil && value.Kind() == constant.String {
				c.pass.ExportObjectFact(obj, &tableFact{constant.StringVal(value)})
			}
		}
	}
}

// tableOf names the table of a struct; "" where the program computes it.
func (c *checker) tableOf(named *types.Named) string {
	obj, _, _ := types.LookupFieldOrMethod(named, true, nil, "TableName")
	method, ok := obj.(*types.Func)
	if !ok {
		return c.names.TableName(named.Obj().Name())
	}
	var fact tableFact
	if c.pass.ImportObjectFact(method.Origin(), &fact) {
		return fact.Table
	}
	return ""
}

// learn fills the catalog with the models of imported packages and of this one, and passes them on.
func (c *checker) learn() {
	c.tables.byName = map[string][]*model{}
	var all modelsFact
	imports := c.pass.AllPackageFacts()
	slices.SortFunc(imports, func(a, b analysis.PackageFact) int { return strings.Compare(a.Package.Path(), b.Package.Path()) })
	for _, f := range imports {
		if models, ok := f.Fact.(*modelsFact); ok {
			c.contexts = append(c.contexts, models.Contexts...)
		}
	}
	c.readContexts()
	all.Contexts = c.contexts
	add := func(m *model) {
		same := func(o *model) bool { return o.Package == m.Package && o.Name == m.Name }
		if !slices.ContainsFunc(all.Models, same) {
			c.bind(m)
			all.Models = append(all.Models, m)
			c.tables.add(m)
		}
	}
	for _, f := range imports {
		if models, ok := f.Fact.(*modelsFact); ok {
			for _, m := range models.Models {
				add(m)
			}
		}
	}
	scope := c.pass.Pkg.Scope()
	for _, name := range scope.Names() {
		if named := declared(scope.Lookup(name)); named != nil {
			if m := c.describe(named); m != nil && m.sealed() {
				add(m)
			}
		}
	}
	if len(all.Models) > 0 || len(all.Contexts) > 0 {
		c.pass.ExportPackageFact(&all)
	}
	for _, obj := range c.pass.TypesInfo.Defs {
		// Types of a function are models here, and nowhere else.
		if named := declared(obj); named != nil && obj.Parent() != scope {
			if m := c.describe(named); m != nil && m.sealed() {
				c.tables.add(m)
			}
		}
	}
}

// declared gives the type that an object declares, nil for aliases and generic types.
func declared(obj types.Object) *types.Named {
	name, ok := obj.(*types.TypeName)
	if !ok || name.IsAlias() {
		return nil
	}
	named, ok := name.Type().(*types.Named)
	if !ok || named.TypeParams().Len() > 0 {
		return nil
	}
	return named
}

// catalog is the tables with sealed columns, by name in lower case without schema.
type catalog struct {
	byName  map[string][]*model
	columns map[string]*sqltext.Columns
}

func (t *catalog) add(m *model) {
	if name := bare(m.Table); name != "" && !slices.Contains(t.byName[name], m) {
		t.byName[name] = append(t.byName[name], m)
	}
}

// standIn begins the names that stand for tables whose names are not known.
const standIn = "rowsealvet "

// stand gives a table whose name the program computes one that can stand in text.
func (t *catalog) stand(m *model) string {
	if m.Table != "" {
		return m.Table
	}
	name := strings.ToLower(standIn + strings.NewReplacer("/", " ", ".", " ").Replace(m.Package+"."+m.Name))
	if t.byName[name] == nil && m.sealed() {
		t.byName[name] = []*model{m}
	}
	return name
}

// lookup is what package sqltext asks.
func (t *catalog) lookup(name string) *sqltext.Columns {
	models := t.byName[name]
	if models == nil {
		return nil
	}
	if c := t.columns[name]; c != nil {
		return c
	}
	if t.columns == nil {
		t.columns = map[string]*sqltext.Columns{}
	}
	t.columns[name] = &sqltext.Columns{Table: name, Has: func(column string) bool { _, c := t.find(name, column); return c != nil }}
	return t.columns[name]
}

// find gives a column that the plugin cares about, and its model.
func (t *catalog) find(table, name string) (*model, *column) {
	for _, m := range t.byName[table] {
		if c := m.lookup(name); c != nil && (c.Sealed || c.Key || c.Primary || c.Context) {
			return m, c
		}
	}
	return nil, nil
}

// bare is the last part of a name, without quotes, in lower case: what databases compare.
func bare(name string) string {
	return strings.ToLower(strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`\"[]"))
}
