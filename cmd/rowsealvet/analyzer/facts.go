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
type modelsFact struct{ Models []*model }

func (*modelsFact) AFact() {}

func (f *modelsFact) String() string {
	var names []string
	for _, m := range f.Models {
		names = append(names, m.Name+":"+m.Table)
	}
	return "models " + strings.Join(names, " ")
}

// tableFact is the constant that a TableName method returns.
type tableFact struct{ Table string }

func (*tableFact) AFact() {}

func (f *tableFact) String() string { return "table " + f.Table }

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
	add := func(m *model) {
		same := func(o *model) bool { return o.Package == m.Package && o.Name == m.Name }
		if !slices.ContainsFunc(all.Models, same) {
			all.Models = append(all.Models, m)
			c.tables.add(m)
		}
	}
	imports := c.pass.AllPackageFacts()
	slices.SortFunc(imports, func(a, b analysis.PackageFact) int { return strings.Compare(a.Package.Path(), b.Package.Path()) })
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
	if len(all.Models) > 0 {
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
		if c := m.lookup(name); c != nil && (c.Sealed || c.Key || c.Primary) {
			return m, c
		}
	}
	return nil, nil
}

// bare is the last part of a name, without quotes, in lower case: what databases compare.
func bare(name string) string {
	return strings.ToLower(strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`\"[]"))
}
