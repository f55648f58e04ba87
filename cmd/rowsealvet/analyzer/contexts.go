// contexts.go owns the columns of encryption contexts, which stand where the models are registered.

package analyzer

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// context is one column of a model's encryption context. Its fields are exported for package gob, which carries facts.
type context struct{ Package, Name, Column string }

// readContexts collects what literals of rowseal.Model declare in this package.
func (c *checker) readContexts() {
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !isNamed(c.pass.TypesInfo.TypeOf(lit), rowsealPath, "Model") {
				return true
			}
			fields := c.fields(lit)
			if fields["Value"] == nil {
				return true
			}
			named := structOf(c.pass.TypesInfo.TypeOf(fields["Value"]))
			if named == nil || named.Obj().Pkg() == nil {
				return true
			}
			names := c.contextColumns(fields["Context"])
			if versions := fields["Contexts"]; versions != nil {
				if all, _ := c.literal(versions); all != nil {
					for _, elt := range all.Elts {
						if kv, ok := elt.(*ast.KeyValueExpr); ok {
							names = append(names, c.contextColumns(kv.Value)...)
						}
					}
				}
			}
			for _, name := range names {
				d := context{named.Obj().Pkg().Path(), named.Obj().Name(), name}
				if !slices.Contains(c.contexts, d) {
					c.contexts = append(c.contexts, d)
				}
			}
			return true
		})
	}
}

// contextColumns reads rowseal.Columns("tenant_id") and rowseal.Context{Columns: …}, as far as they are constant.
func (c *checker) contextColumns(e ast.Expr) (names []string) {
	if e == nil {
		return nil
	}
	var columns []ast.Expr
	if id, ok := ast.Unparen(e).(*ast.Ident); ok {
		if values := c.values(c.pass.TypesInfo.ObjectOf(id)); len(values) == 1 {
			e = values[0]
		}
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.CallExpr:
		if fn := c.callee(e); fn != nil && fn.FullName() == rowsealPath+".Columns" && !e.Ellipsis.IsValid() {
			columns = e.Args
		}
	case *ast.CompositeLit:
		if t, ok := types.Unalias(c.pass.TypesInfo.TypeOf(e)).(*types.Named); ok && isRow(t, "Context") {
			if list := c.fields(e)["Columns"]; list != nil {
				if lit, _ := c.literal(list); lit != nil {
					columns = lit.Elts
				}
			}
		}
	}
	for _, column := range columns {
		if name, ok := c.text(column); ok && !strings.Contains(name, gap) {
			names = append(names, name)
		}
	}
	return names
}

// bind marks the columns of a model that are part of its context.
func (c *checker) bind(m *model) {
	for _, d := range c.contexts {
		if d.Package == m.Package && d.Name == m.Name {
			if col := m.lookupField(d.Column); col != nil && !col.Sealed && !col.Key && !col.Primary {
				col.Context = true
			}
		}
	}
}
