// chain.go owns the statements of GORM in source code: chains of method calls, which variables and function literals tie together, and
// the model that each is about.

package analyzer

import (
	"go/ast"
	"go/types"
	"slices"
	"strings"
)

// call is one method of GORM in a chain.
type call struct {
	name string
	node *ast.CallExpr
	args []ast.Expr // without the context that methods of gorm.G take first
	recv string     // DB, Association, or an interface behind gorm.G
}

// chain is calls on one value: db.Model(&p).Where("…").First(&p).
type chain struct {
	calls   []call
	root    ast.Expr
	generic *types.Named // T of gorm.G[T]

	above *place       // where it is an argument, or its root is a parameter of a function literal that is one
	from  types.Object // the variable that it begins with
	to    types.Object // the variable that it is assigned to

	subjects []subject
	state    int // of subjects: 0 unknown, 1 being found, 2 known
}

// place is an argument of a call.
type place struct {
	chain *chain
	call  int
	arg   int
}

// subject is what a statement is about.
type subject struct {
	typ    *types.Named // nil where only a table is known
	model  *model       // nil likewise
	table  string       // the text behind FROM, without joins
	given  ast.Expr     // what Model was given; nil for none
	tabled bool         // the table was named by Table
}

// receivers are the types of package gorm whose methods make statements.
var receivers = []string{"DB", "Association", "Interface", "CreateInterface", "ChainInterface", "ExecInterface", "SetUpdateOnlyInterface",
	"SetCreateOrUpdateInterface", "JoinBuilder", "PreloadBuilder"}

// method reads a call of a method of GORM.
func (c *checker) method(e ast.Expr) (m call, x ast.Expr, ok bool) {
	node, ok := ast.Unparen(e).(*ast.CallExpr)
	if !ok {
		return call{}, nil, false
	}
	sel, ok := ast.Unparen(node.Fun).(*ast.SelectorExpr)
	if !ok {
		return call{}, nil, false
	}
	fn, ok := c.pass.TypesInfo.Uses[sel.Sel].(*types.Func)
	if !ok || fn.Pkg() == nil || fn.Pkg().Path() != gormPath || fn.Signature().Recv() == nil {
		return call{}, nil, false
	}
	recv, ok := deref(fn.Signature().Recv().Type()).(*types.Named)
	if !ok || !slices.Contains(receivers, recv.Obj().Name()) {
		return call{}, nil, false
	}
	m = call{name: fn.Name(), node: node, args: node.Args, recv: recv.Obj().Name()}
	if params := fn.Signature().Params(); params.Len() > 0 && isNamed(params.At(0).Type(), "context", "Context") && len(m.args) > 0 {
		m.args = m.args[1:]
	}
	return m, sel.X, true
}

// statements is every chain of the package.
type statements struct {
	*checker
	chains []*chain
	heads  map[*ast.CallExpr]*chain
	from   map[types.Object][]*chain // by the variable they begin with
	to     map[types.Object][]*chain // by the variable they are assigned to
	params map[types.Object]*place   // parameters of function literals that are arguments
}

func (c *checker) collect() *statements {
	s := &statements{checker: c, heads: map[*ast.CallExpr]*chain{}, from: map[types.Object][]*chain{}, to: map[types.Object][]*chain{}, params: map[types.Object]*place{}}
	inner := map[*ast.CallExpr]bool{}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			node, ok := n.(*ast.CallExpr)
			if !ok || inner[node] {
				return true
			}
			if m, x, ok := c.method(node); ok {
				s.add(m, x, inner)
			}
			return true
		})
	}
	for _, ch := range s.chains {
		s.place(ch)
	}
	for _, ch := range s.chains {
		if id, ok := ch.root.(*ast.Ident); ok {
			ch.from = c.pass.TypesInfo.ObjectOf(id)
			s.from[ch.from] = append(s.from[ch.from], ch)
			if p := s.params[ch.from]; p != nil && ch.above == nil {
				ch.above = p
			}
		}
	}
	for obj, values := range c.assigned {
		for _, v := range values {
			if node, ok := ast.Unparen(v).(*ast.CallExpr); ok && s.heads[node] != nil {
				s.heads[node].to = obj
				s.to[obj] = append(s.to[obj], s.heads[node])
			}
		}
	}
	return s
}

// add follows a chain from its last call to what it begins with.
func (s *statements) add(last call, x ast.Expr, inner map[*ast.CallExpr]bool) {
	ch := &chain{calls: []call{last}}
	for {
		m, next, ok := s.method(x)
		if !ok {
			break
		}
		inner[m.node] = true
		ch.calls = append(ch.calls, m)
		x = next
	}
	slices.Reverse(ch.calls)
	ch.root = ast.Unparen(x)
	if t, ok := types.Unalias(s.pass.TypesInfo.TypeOf(x)).(*types.Named); ok && t.TypeArgs().Len() == 1 {
		ch.generic = structOf(t.TypeArgs().At(0))
	}
	s.chains = append(s.chains, ch)
	s.heads[last.node] = ch
}

// place notes what stands among the arguments of a chain.
func (s *statements) place(ch *chain) {
	for i, m := range ch.calls {
		for j, arg := range m.args {
			switch arg := ast.Unparen(arg).(type) {
			case *ast.CallExpr:
				if inner := s.heads[arg]; inner != nil {
					inner.above = &place{ch, i, j}
				}
			case *ast.FuncLit:
				for _, f := range arg.Type.Params.List {
					for _, name := range f.Names {
						s.params[s.pass.TypesInfo.Defs[name]] = &place{ch, i, j}
					}
				}
			}
		}
	}
}

// about lists what a chain may be about: what it says itself, else what the chains say that its variable was made by, or the statement
// that it is a part of, else its own destination, else what the chains say that go on with it.
func (s *statements) about(ch *chain) []subject {
	switch ch.state {
	case 1:
		return nil // a variable that is made of itself
	case 2:
		return ch.subjects
	}
	ch.state = 1
	ch.subjects = s.find(ch)
	ch.state = 2
	return ch.subjects
}

func (s *statements) find(ch *chain) []subject {
	if own, said := s.said(ch); said {
		return own
	}
	if before := s.before(ch, map[*chain]bool{}); len(before) > 0 {
		return before
	}
	if ch.above != nil {
		if part := s.partOf(*ch.above); len(part) > 0 {
			return part
		}
	}
	if d := s.destination(ch); d != nil {
		return []subject{s.subject(d)}
	}
	var after []subject
	if ch.to != nil {
		for _, next := range s.from[ch.to] {
			if next != ch {
				after = append(after, s.about(next)...)
			}
		}
	}
	return after
}

// before is what the chains say that made the variable this one begins with.
func (s *statements) before(ch *chain, seen map[*chain]bool) (out []subject) {
	if ch.from == nil || seen[ch] {
		return nil
	}
	seen[ch] = true
	for _, made := range s.to[ch.from] {
		if made == ch {
			continue
		}
		if own, said := s.said(made); said {
			out = append(out, own...)
		} else {
			out = append(out, s.before(made, seen)...)
		}
	}
	return out
}

func (s *statements) subject(named *types.Named) subject {
	m := s.describe(named)
	if m == nil {
		return subject{typ: named}
	}
	if m.sealed() {
		s.tables.add(m)
	}
	return subject{typ: named, model: m, table: quoteTable(s.tables.stand(m))}
}

// quoteTable leaves a text that is more than a name as it is.
func quoteTable(name string) string {
	switch {
	case strings.HasPrefix(name, standIn):
		return `"` + name + `"`
	case strings.ContainsAny(name, " ()`\""):
		return name
	}
	return quote(name)
}

// said is the subject that a chain names by Model, Table or its type.
func (s *statements) said(ch *chain) ([]subject, bool) {
	var sub subject
	said := false
	if ch.generic != nil {
		sub, said = s.subject(ch.generic), true
	}
	for i, m := range ch.calls {
		switch {
		case m.recv == "Association":
			// Its methods are about what stands at the other end.
			if out := s.destinationOf(ch.calls[i]); out != nil {
				return []subject{s.subject(out)}, true
			}
			return nil, true
		case m.name == "Model" && len(m.args) == 1:
			said = true
			given := ast.Unparen(m.args[0])
			tabled, table := sub.tabled, sub.table
			sub = subject{}
			if named := structOf(s.pass.TypesInfo.TypeOf(given)); named != nil {
				sub = s.subject(named)
			}
			sub.given = given
			if tabled {
				sub.tabled, sub.table = true, table
			}
		case m.name == "Table" && len(m.args) > 0:
			said = true
			sub.tabled, sub.table = true, gap
			if text, ok := s.text(m.args[0]); ok {
				sub.table = quoteTable(text)
			}
		}
	}
	if sub.table == "" {
		sub.table = gap
	}
	if !said {
		return nil, false
	}
	return []subject{sub}, true
}

// partOf is what a chain or function literal in an argument is about.
func (s *statements) partOf(p place) (out []subject) {
	m := p.chain.calls[p.call]
	switch m.name {
	case "Where", "Or", "Not", "Having":
		if p.arg == 0 {
			return s.about(p.chain)
		}
	case "Scopes":
		return s.about(p.chain)
	case "Joins", "InnerJoins", "Preload":
		if p.arg == 0 {
			return nil
		}
		path, ok := s.text(m.args[0])
		if !ok {
			return nil
		}
		for _, outer := range s.about(p.chain) {
			if outer.typ == nil {
				continue
			}
			if to := relation(outer.typ, path); to != nil {
				sub := s.subject(to)
				if m.name != "Preload" {
					sub.table += " " + quoteAlias(path)
				}
				out = append(out, sub)
			}
		}
	}
	return out
}

// quoteAlias is the name that GORM gives a joined relation.
func quoteAlias(path string) string { return `"` + strings.ReplaceAll(path, ".", "__") + `"` }

// destination is the struct that the last call reads into, or writes.
func (s *statements) destination(ch *chain) *types.Named {
	for _, m := range slices.Backward(ch.calls) {
		if d := s.destinationOf(m); d != nil {
			return d
		}
	}
	return nil
}

func (s *statements) destinationOf(m call) *types.Named {
	switch m.name {
	case "First", "Take", "Last", "Find", "FindInBatches", "FirstOrInit", "FirstOrCreate", "Delete", "Create", "CreateInBatches", "Save", "Updates",
		"UpdateColumns":
		if len(m.args) > 0 {
			return structOf(s.pass.TypesInfo.TypeOf(m.args[0]))
		}
	}
	return nil
}

// all is the calls of a chain, behind those of the chains that made its variable.
func (s *statements) all(ch *chain) []call { return s.allWithin(ch, map[*chain]bool{}) }

func (s *statements) allWithin(ch *chain, seen map[*chain]bool) (out []call) {
	if seen[ch] {
		return nil
	}
	seen[ch] = true
	if ch.from != nil {
		for _, made := range s.to[ch.from] {
			out = append(out, s.allWithin(made, seen)...)
		}
	}
	return append(out, ch.calls...)
}

// joined is the text behind FROM with its joins.
func (s *statements) joined(sub subject, calls []call) string {
	from := sub.table
	for _, m := range calls {
		if m.name == "Joins" || m.name == "InnerJoins" {
			from += s.join(sub, m)
		}
	}
	return from
}

// join is the text of one join.
func (s *statements) join(sub subject, m call) string {
	if len(m.args) == 0 {
		return ""
	}
	text, ok := s.text(m.args[0])
	if !ok {
		return ""
	}
	if sub.typ == nil {
		return " " + text
	}
	var out strings.Builder
	parts := strings.Split(text, ".")
	for i := range parts {
		path := strings.Join(parts[:i+1], ".")
		to := relation(sub.typ, path)
		if to == nil {
			return " " + text
		}
		out.WriteString(" LEFT JOIN " + s.subject(to).table + " " + quoteAlias(path) + " ON true")
	}
	return out.String()
}
