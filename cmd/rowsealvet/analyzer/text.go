// text.go owns text in source code: what of it is constant, and the statements that pieces of SQL are looked at in.

package analyzer

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"regexp"
	"slices"
	"strings"

	"github.com/rowseal/rowseal/internal/sqltext"
)

// gap stands for what the program fills in. It is an identifier that no table has, and makes one of what it touches.
const gap = "_rowsealvet_"

// text reads a string as far as it is constant. ok is false where nothing of it is.
func (c *checker) text(e ast.Expr) (s string, ok bool) { return c.textWithin(e, 8) }

func (c *checker) textWithin(e ast.Expr, depth int) (string, bool) {
	e = ast.Unparen(e)
	if depth == 0 {
		return gap, false
	}
	if v := c.pass.TypesInfo.Types[e].Value; v != nil {
		if v.Kind() == constant.String {
			return constant.StringVal(v), true
		}
		return gap, false
	}
	switch e := e.(type) {
	case *ast.BinaryExpr:
		if e.Op == token.ADD {
			left, okLeft := c.textWithin(e.X, depth-1)
			right, okRight := c.textWithin(e.Y, depth-1)
			return left + right, okLeft || okRight
		}
	case *ast.Ident:
		if values := c.values(c.pass.TypesInfo.ObjectOf(e)); len(values) == 1 {
			return c.textWithin(values[0], depth-1)
		}
	case *ast.CallExpr:
		fn := c.callee(e)
		if fn == nil || fn.FullName() != "fmt.Sprintf" || len(e.Args) == 0 || e.Ellipsis.IsValid() {
			break
		}
		format, ok := c.textWithin(e.Args[0], depth-1)
		i := 0
		format = verb.ReplaceAllStringFunc(format, func(v string) string {
			if v == "%%" {
				return "%"
			}
			i++
			if i < len(e.Args) && (v == "%s" || v == "%v") {
				s, _ := c.textWithin(e.Args[i], depth-1)
				return s
			}
			return gap
		})
		return format, ok
	}
	return gap, false
}

var verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z%]`)

func (c *checker) callee(e *ast.CallExpr) *types.Func {
	fun := ast.Unparen(e.Fun)
	switch f := fun.(type) {
	case *ast.IndexExpr:
		fun = f.X
	case *ast.IndexListExpr:
		fun = f.X
	}
	var id *ast.Ident
	switch f := ast.Unparen(fun).(type) {
	case *ast.Ident:
		id = f
	case *ast.SelectorExpr:
		id = f.Sel
	default:
		return nil
	}
	fn, _ := c.pass.TypesInfo.Uses[id].(*types.Func)
	return fn
}

// uses asks package sqltext what a text does with the tables of the catalog.
func (c *checker) uses(sql string) []sqltext.Use {
	return sqltext.Uses(named.ReplaceAllString(sql, "$1?"), c.tables.lookup, nil)
}

// named is a named argument of GORM's, which stands in the source and not in the statement.
var named = regexp.MustCompile(`(^|[^\w@])@\w+`)

// added are the uses of a text that another one does not have: those of the piece that makes the difference.
func (c *checker) added(sql, without string) []sqltext.Use {
	base := c.uses(without)
	return slices.DeleteFunc(c.uses(sql), func(u sqltext.Use) bool { return slices.Contains(base, u) })
}

var word = regexp.MustCompile(`^\w+$`)

// quote writes a name as the databases take it, part by part.
func quote(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.Trim(p, "`\"[]") + `"`
	}
	return strings.Join(parts, ".")
}
