// variables.go owns what is known of variables: the expressions that are assigned to them.

package analyzer

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
)

// entry is one key of a map with its value.
type entry struct{ key, value ast.Expr }

func (c *checker) readVariables() {
	c.assigned, c.entries = map[types.Object][]ast.Expr{}, map[types.Object][]entry{}
	set := func(target, value ast.Expr) {
		switch t := ast.Unparen(target).(type) {
		case *ast.Ident:
			if obj := c.pass.TypesInfo.ObjectOf(t); obj != nil {
				c.assigned[obj] = append(c.assigned[obj], value)
			}
		case *ast.SelectorExpr:
			if v, ok := c.pass.TypesInfo.Uses[t.Sel].(*types.Var); ok {
				c.assigned[v.Origin()] = append(c.assigned[v.Origin()], value)
			}
		case *ast.IndexExpr:
			if id, ok := ast.Unparen(t.X).(*ast.Ident); ok {
				obj := c.pass.TypesInfo.ObjectOf(id)
				c.entries[obj] = append(c.entries[obj], entry{t.Index, value})
			}
		}
	}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, target := range n.Lhs {
					if len(n.Rhs) == len(n.Lhs) && (n.Tok == token.ASSIGN || n.Tok == token.DEFINE) {
						set(target, n.Rhs[i])
					} else {
						set(target, nil)
					}
				}
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if len(n.Values) == len(n.Names) {
						set(name, n.Values[i])
					} else if len(n.Values) > 0 {
						set(name, nil)
					}
				}
			case *ast.RangeStmt:
				set(n.Key, nil)
				set(n.Value, nil)
			case *ast.CompositeLit:
				// The fields of a literal, as repo{db: db.Model(&Patient{})} sets them.
				for _, elt := range n.Elts {
					if kv, ok := elt.(*ast.KeyValueExpr); ok {
						if id, ok := kv.Key.(*ast.Ident); ok {
							if v, ok := c.pass.TypesInfo.Uses[id].(*types.Var); ok && v.IsField() {
								set(id, kv.Value)
							}
						}
					}
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					set(n.X, nil) // whoever has the address may change it
				}
			}
			return true
		})
	}
}

// values lists all that a variable is ever given; nothing where that is not known.
func (c *checker) values(obj types.Object) []ast.Expr {
	if obj == nil || slices.Contains(c.assigned[obj], nil) {
		return nil
	}
	return c.assigned[obj]
}

// literal finds the composite literal that an expression stands for: itself, its address, or that of a variable that is given one alone.
func (c *checker) literal(e ast.Expr) (*ast.CompositeLit, types.Object) {
	e = ast.Unparen(e)
	if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.AND {
		e = ast.Unparen(u.X)
	}
	switch e := e.(type) {
	case *ast.CompositeLit:
		return e, nil
	case *ast.Ident:
		obj := c.pass.TypesInfo.ObjectOf(e)
		if values := slices.DeleteFunc(slices.Clone(c.assigned[obj]), func(v ast.Expr) bool { return v == nil }); len(values) == 1 {
			if lit, ok := ast.Unparen(values[0]).(*ast.CompositeLit); ok {
				return lit, obj
			}
		}
	}
	return nil, nil
}

// mapEntries lists the entries of a map, or of the maps in a slice, as far as they stand in the source.
func (c *checker) mapEntries(e ast.Expr) (out []entry) {
	lit, obj := c.literal(e)
	if obj == nil {
		if id, ok := ast.Unparen(e).(*ast.Ident); ok {
			obj = c.pass.TypesInfo.ObjectOf(id) // made by make
		}
	}
	if obj != nil {
		out = append(out, c.entries[obj]...)
	}
	if lit == nil {
		return out
	}
	for _, elt := range lit.Elts {
		switch elt := elt.(type) {
		case *ast.KeyValueExpr:
			out = append(out, entry{elt.Key, elt.Value})
		case *ast.CompositeLit:
			out = append(out, c.mapEntries(elt)...)
		}
	}
	return out
}

// isMap reports a map with string keys, or pointers to or slices of such.
func isMap(t types.Type) bool {
	for t != nil {
		switch u := types.Unalias(t).Underlying().(type) {
		case *types.Pointer:
			t = u.Elem()
		case *types.Slice:
			t = u.Elem()
		case *types.Map:
			b, ok := u.Key().Underlying().(*types.Basic)
			return ok && b.Info()&types.IsString != 0
		default:
			return false
		}
	}
	return false
}

func (c *checker) isNil(e ast.Expr) bool { return c.pass.TypesInfo.Types[e].IsNil() }

// isZero reports nil and the constants that are the zero of their type.
func (c *checker) isZero(e ast.Expr) bool {
	if c.isNil(e) {
		return true
	}
	v := c.pass.TypesInfo.Types[e].Value
	if v == nil {
		return false
	}
	switch v.Kind() {
	case constant.String:
		return constant.StringVal(v) == ""
	case constant.Bool:
		return !constant.BoolVal(v)
	default:
		return constant.Sign(v) == 0
	}
}

// isExpression reports a value that is SQL: it cannot be sealed.
func (c *checker) isExpression(e ast.Expr) bool {
	t := c.pass.TypesInfo.TypeOf(e)
	return t != nil && (isNamed(deref(t), clausePath, "Expr") || isNamed(deref(t), clausePath, "NamedExpr") || isNamed(deref(t), gormPath, "DB"))
}
