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

	above []place        // where it is an argument
	from  types.Object   // the variable, field or function that it begins with
	to    []types.Object // what it is assigned to or passed as, and the function that returns it

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
	beside string       // further tables behind FROM
	alias  string       // the name that a join gives the table
	outer  string       // the table that it is joined to
	before []call       // the calls by which a variable came to be about it; nil where that is not how it was found
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
	from   map[types.Object][]*chain       // by what they begin with
	given  map[types.Object][]ast.Expr     // variables and fields with their values, functions with what they return
	passed map[types.Object][]ast.Expr     // parameters with what callers pass
	of     map[types.Object][]types.Object // what else is given a variable or the result of a function
	params map[types.Object][]place        // parameters of functions that are arguments
	joined map[types.Object]int            // parameters of a join's function that stand for tables, by position
	funcs  map[types.Object]*ast.FuncDecl
}

func (c *checker) collect() *statements {
	s := &statements{
		checker: c, heads: map[*ast.CallExpr]*chain{}, from: map[types.Object][]*chain{}, given: map[types.Object][]ast.Expr{},
		passed: map[types.Object][]ast.Expr{}, of: map[types.Object][]types.Object{}, params: map[types.Object][]place{},
		joined: map[types.Object]int{}, funcs: map[types.Object]*ast.FuncDecl{},
	}
	inner := map[*ast.CallExpr]bool{}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				s.funcs[c.pass.TypesInfo.Defs[n.Name]] = n
			case *ast.CallExpr:
				if inner[n] {
					break
				}
				if m, x, ok := c.method(n); ok {
					s.add(m, x, inner)
				}
			}
			return true
		})
	}
	for obj, values := range c.assigned {
		for _, v := range values {
			s.link(s.given, obj, v)
		}
	}
	for obj, decl := range s.funcs {
		s.returns(obj, decl)
	}
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			if node, ok := n.(*ast.CallExpr); ok {
				s.passes(node)
			}
			return true
		})
	}
	for _, ch := range s.chains {
		s.place(ch)
	}
	s.exportAbout()
	for _, ch := range s.chains {
		if ch.from = s.object(ch.root); ch.from != nil {
			s.from[ch.from] = append(s.from[ch.from], ch)
		}
	}
	return s
}

// object is the variable, field or function that an expression gets a *gorm.DB or its like from; a function of another package where that
// says what it is about.
func (s *statements) object(e ast.Expr) types.Object {
	if e == nil || !isStatement(s.pass.TypesInfo.TypeOf(e)) {
		return nil
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return s.pass.TypesInfo.ObjectOf(e)
	case *ast.SelectorExpr:
		if v, ok := s.pass.TypesInfo.Uses[e.Sel].(*types.Var); ok {
			return v.Origin()
		}
	case *ast.CallExpr:
		if fn := s.callee(e); fn != nil && (s.funcs[fn.Origin()] != nil || fn.Pkg() != s.pass.Pkg && s.pass.ImportObjectFact(fn.Origin(), new(aboutFact))) {
			return fn.Origin()
		}
	}
	return nil
}

// isStatement reports a type whose methods make statements.
func isStatement(t types.Type) bool {
	if t == nil {
		return false
	}
	n, ok := deref(t).(*types.Named)
	return ok && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == gormPath && slices.Contains(receivers, n.Obj().Name())
}

// link notes that an object is given a value.
func (s *statements) link(values map[types.Object][]ast.Expr, obj types.Object, value ast.Expr) {
	if value == nil || obj == nil || !isStatement(s.pass.TypesInfo.TypeOf(value)) {
		return
	}
	values[obj] = append(values[obj], value)
	if node, ok := ast.Unparen(value).(*ast.CallExpr); ok && s.heads[node] != nil {
		s.heads[node].to = append(s.heads[node].to, obj)
	} else if other := s.object(value); other != nil && other != obj {
		s.of[other] = append(s.of[other], obj)
	}
}

// returns notes what a function gives back, where it is one value.
func (s *statements) returns(obj types.Object, decl *ast.FuncDecl) {
	if decl.Body == nil {
		return
	}
	ast.Inspect(decl.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			if len(n.Results) == 1 {
				s.link(s.given, obj, n.Results[0])
			}
		}
		return true
	})
}

// passes notes what a function of this package is given.
func (s *statements) passes(node *ast.CallExpr) {
	fn := s.callee(node)
	if fn == nil {
		return
	}
	decl := s.funcs[fn.Origin()]
	if decl == nil || fn.Signature().Variadic() {
		return
	}
	for i, param := range s.parameters(decl.Type) {
		if i < len(node.Args) {
			s.link(s.passed, param, node.Args[i])
		}
	}
}

// parameters lists a function's parameters; nil for those without a name.
func (s *statements) parameters(t *ast.FuncType) (out []types.Object) {
	for _, f := range t.Params.List {
		if len(f.Names) == 0 {
			out = append(out, nil)
		}
		for _, name := range f.Names {
			out = append(out, s.pass.TypesInfo.Defs[name])
		}
	}
	return out
}

// used lists the chains that go on with an object.
func (s *statements) used(obj types.Object, seen map[types.Object]bool) (out []*chain) {
	if obj == nil || seen[obj] {
		return nil
	}
	seen[obj] = true
	out = slices.Clone(s.from[obj])
	for _, other := range s.of[obj] {
		if isField(other) && len(s.assigned[other]) > 1 {
			continue
		}
		out = append(out, s.used(other, seen)...)
	}
	return out
}

// add follows a chain from its last call to what it begins with.
func (s *statements) add(last call, x ast.Expr, inner map[*ast.CallExpr]bool) {
	ch := &chain{calls: []call{last}}
	for {
		if s.isFresh(ch.calls[len(ch.calls)-1]) {
			x = nil // what stood before has nothing to do with what follows; it is found as a chain of its own
			break
		}
		m, next, ok := s.method(x)
		if !ok {
			break
		}
		inner[m.node] = true
		ch.calls = append(ch.calls, m)
		x = next
	}
	slices.Reverse(ch.calls)
	s.chains = append(s.chains, ch)
	s.heads[last.node] = ch
	if x == nil {
		return
	}
	ch.root = ast.Unparen(x)
	if t, ok := types.Unalias(s.pass.TypesInfo.TypeOf(x)).(*types.Named); ok && t.TypeArgs().Len() == 1 {
		ch.generic = structOf(t.TypeArgs().At(0))
	}
	if node, ok := ch.root.(*ast.CallExpr); ok && len(node.Args) > 1 {
		if fn := s.callee(node); fn != nil && fn.FullName() == "gorm.io/gorm.G" {
			// gorm.G hands its options to Clauses.
			ch.calls = slices.Insert(ch.calls, 0, call{name: "Clauses", node: node, args: node.Args[1:], recv: "DB"})
		}
	}
}

// isFresh reports Session with NewDB, which begins a statement anew.
func (s *statements) isFresh(m call) bool {
	if m.name != "Session" || len(m.args) != 1 {
		return false
	}
	lit, _ := s.literal(m.args[0])
	if lit == nil {
		return false
	}
	t, ok := types.Unalias(s.pass.TypesInfo.TypeOf(lit)).(*types.Named)
	return ok && fieldsOf(lit, t)["NewDB"] != nil
}

// place notes what stands among the arguments of a chain.
func (s *statements) place(ch *chain) {
	for i, m := range ch.calls {
		for j, arg := range m.args {
			p := place{ch, i, j}
			if node, ok := ast.Unparen(arg).(*ast.CallExpr); ok && s.heads[node] != nil {
				s.heads[node].above = append(s.heads[node].above, p)
			} else if fn := s.object(arg); ok && fn != nil {
				for _, r := range s.given[fn] {
					if node, ok := ast.Unparen(r).(*ast.CallExpr); ok && s.heads[node] != nil {
						s.heads[node].above = append(s.heads[node].above, p)
					}
				}
			} else if t := s.function(arg); t != nil {
				for k, param := range s.parameters(t) {
					switch {
					case param == nil:
					case k == 0:
						s.params[param] = append(s.params[param], p)
					case isNamed(param.Type(), clausePath, "Table"):
						s.joined[param] = k
					}
				}
			}
		}
	}
}

// function finds the function that an argument is: a literal, a function or method of this package, a variable that holds one alone, or
// what a function of this package returns in its one statement.
func (s *statements) function(e ast.Expr) *ast.FuncType {
	switch e := ast.Unparen(e).(type) {
	case *ast.FuncLit:
		return e.Type
	case *ast.Ident:
		obj := s.pass.TypesInfo.ObjectOf(e)
		if decl := s.funcs[obj]; decl != nil {
			return decl.Type
		}
		if values := s.values(obj); len(values) == 1 {
			if lit, ok := ast.Unparen(values[0]).(*ast.FuncLit); ok {
				return lit.Type
			}
		}
	case *ast.SelectorExpr:
		if fn, ok := s.pass.TypesInfo.Uses[e.Sel].(*types.Func); ok {
			if decl := s.funcs[fn.Origin()]; decl != nil {
				return decl.Type
			}
		}
	case *ast.CallExpr:
		fn := s.callee(e)
		if fn == nil {
			break
		}
		decl := s.funcs[fn.Origin()]
		if decl == nil || decl.Body == nil || len(decl.Body.List) != 1 {
			break
		}
		if ret, ok := decl.Body.List[0].(*ast.ReturnStmt); ok && len(ret.Results) == 1 {
			if lit, ok := ast.Unparen(ret.Results[0]).(*ast.FuncLit); ok {
				return lit.Type
			}
		}
	}
	return nil
}

// about lists what a chain may be about: what it says itself, else what made the variable or was passed to the function it begins with,
// and the statements that it is a part of; else its own destination, else what the chains say that go on with it.
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
	out := append(s.origins(ch.root, nil, newTrail().past(ch)), s.parts(ch.above)...)
	// A function may have callers that say nothing.
	if len(out) == 0 || len(s.passed[ch.from]) > 0 {
		out = append(out, s.ahead(ch, map[*chain]bool{})...)
	}
	return out
}

// ahead is what a chain is about by its destination, or by what goes on with it.
func (s *statements) ahead(ch *chain, seen map[*chain]bool) (out []subject) {
	if seen[ch] {
		return nil
	}
	seen[ch] = true
	if d := s.destination(ch); d != nil {
		return []subject{s.subject(d)}
	}
	for _, obj := range ch.to {
		if isField(obj) && len(s.assigned[obj]) > 1 {
			continue // which struct has which value is not known
		}
		for _, next := range s.used(obj, map[types.Object]bool{}) {
			if next == ch {
				continue
			}
			if own, said := s.said(next); said {
				out = append(out, own...)
				continue
			}
			out = append(append(out, s.parts(next.above)...), s.ahead(next, seen)...)
		}
	}
	return out
}

// frame is a call of a function of this package: what its parameters are.
type frame struct {
	args  map[types.Object]ast.Expr
	outer *frame
	depth int
}

// enter gives what a function of this package returns, and the frame to read it in; nil for every other call, and in the depth.
func (s *statements) enter(node *ast.CallExpr, in *frame) ([]ast.Expr, *frame) {
	fn := s.object(node)
	if fn == nil || s.funcs[fn] == nil || in != nil && in.depth > 4 {
		return nil, nil
	}
	inner := &frame{args: map[types.Object]ast.Expr{}, outer: in}
	if in != nil {
		inner.depth = in.depth + 1
	}
	for i, param := range s.parameters(s.funcs[fn].Type) {
		if i < len(node.Args) && param != nil {
			inner.args[param] = node.Args[i]
		}
	}
	return s.given[fn], inner
}

// trail is where a search has been: chains for good, variables until the next chain, since one that is made of itself is asked again.
type trail struct {
	chains    map[*chain]bool
	variables map[types.Object]bool
}

func newTrail() trail { return trail{map[*chain]bool{}, map[types.Object]bool{}} }

func (t trail) past(ch *chain) trail {
	t.chains[ch] = true
	return trail{t.chains, map[types.Object]bool{}}
}

// origins is what the chains say that an expression comes from, each with the calls by which it did.
func (s *statements) origins(e ast.Expr, in *frame, seen trail) (out []subject) {
	if e == nil {
		return nil
	}
	e = ast.Unparen(e)
	if node, ok := e.(*ast.CallExpr); ok {
		made := s.heads[node]
		if made == nil {
			if sub, ok := s.imported(node); ok {
				return []subject{sub}
			}
			results, inner := s.enter(node, in)
			for _, r := range results {
				out = append(out, s.origins(r, inner, seen)...)
			}
			return out
		}
		if own, said := s.said(made); said {
			for _, sub := range own {
				sub.before = s.calls(node, in, newTrail())
				out = append(out, sub)
			}
			return out
		}
		if seen.chains[made] {
			return nil
		}
		for _, sub := range s.origins(made.root, in, seen.past(made)) {
			sub.before = append(slices.Clip(sub.before), made.calls...)
			out = append(out, sub)
		}
		return out
	}
	obj := s.object(e)
	if obj == nil {
		return nil
	}
	if in != nil && in.args[obj] != nil {
		return s.origins(in.args[obj], in.outer, seen)
	}
	if seen.variables[obj] {
		return nil
	}
	seen.variables[obj] = true
	if isField(obj) {
		return s.fieldOrigins(obj, in, seen)
	}
	for _, v := range slices.Concat(s.given[obj], s.passed[obj]) {
		out = append(out, s.origins(v, in, seen)...)
	}
	return append(out, s.parts(s.params[obj])...)
}

func isField(obj types.Object) bool {
	v, ok := obj.(*types.Var)
	return ok && v.IsField()
}

// fieldOrigins is origins of a field. Which struct has which value is not known, so that all must be about the same.
func (s *statements) fieldOrigins(obj types.Object, in *frame, seen trail) (out []subject) {
	if slices.Contains(s.assigned[obj], nil) {
		return nil
	}
	for _, v := range s.given[obj] {
		subs := s.origins(v, in, seen)
		if len(subs) != 1 || len(out) > 0 && (out[0].typ != subs[0].typ || out[0].table != subs[0].table) {
			return nil
		}
		out = append(out, subs...)
	}
	return out
}

// calls lists the calls that an expression comes from. Where it is a parameter, its callers are not asked: each has calls of its own.
func (s *statements) calls(e ast.Expr, in *frame, seen trail) (out []call) {
	if e == nil {
		return nil
	}
	e = ast.Unparen(e)
	if node, ok := e.(*ast.CallExpr); ok {
		made := s.heads[node]
		switch {
		case made == nil:
			results, inner := s.enter(node, in)
			for _, r := range results {
				out = append(out, s.calls(r, inner, seen)...)
			}
		case !seen.chains[made]:
			out = append(s.calls(made.root, in, seen.past(made)), made.calls...)
		}
		return out
	}
	obj := s.object(e)
	if obj == nil {
		return nil
	}
	if in != nil && in.args[obj] != nil {
		return s.calls(in.args[obj], in.outer, seen)
	}
	if seen.variables[obj] {
		return nil
	}
	seen.variables[obj] = true
	if isField(obj) && len(s.assigned[obj]) > 1 {
		return nil
	}
	for _, v := range s.given[obj] {
		out = append(out, s.calls(v, in, seen)...)
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

// parts is partOf for several places.
func (s *statements) parts(places []place) (out []subject) {
	for _, p := range places {
		for _, sub := range s.partOf(p) {
			sub.before = nil
			out = append(out, sub)
		}
	}
	return out
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
		t, ok := s.joinTarget(m.args[0])
		if !ok {
			return nil
		}
		for _, outer := range s.about(p.chain) {
			if outer.typ == nil {
				continue
			}
			if m.name == "Preload" {
				if to := relation(outer.typ, t.path); to != nil {
					out = append(out, s.subject(to))
				}
			} else if sub, ok := s.joinedSubject(outer, t); ok {
				out = append(out, sub)
			}
		}
	}
	return out
}

// joinTarget is what a join or preload names: a path of relations, or a clause.JoinTarget, with its alias and sub-query.
type joinTarget struct {
	path, alias string
	query       ast.Expr
}

func (s *statements) joinTarget(e ast.Expr) (t joinTarget, ok bool) {
	if text, ok := s.text(e); ok {
		return joinTarget{path: text, alias: quoteAlias(text)}, true
	}
	var alias ast.Expr
	e = ast.Unparen(e)
	if id, ok := e.(*ast.Ident); ok {
		if values := s.values(s.pass.TypesInfo.ObjectOf(id)); len(values) == 1 {
			e = ast.Unparen(values[0])
		}
	}
	for {
		node, isCall := e.(*ast.CallExpr)
		if !isCall {
			break
		}
		fn := s.callee(node)
		if fn == nil || fn.Pkg() == nil || fn.Pkg().Path() != clausePath || len(node.Args) == 0 {
			return t, false
		}
		if sel, method := ast.Unparen(node.Fun).(*ast.SelectorExpr); method && fn.Name() == "As" {
			if alias == nil {
				alias = node.Args[0]
			}
			e = ast.Unparen(sel.X)
			continue
		}
		switch fn.Name() {
		case "AssociationFrom":
			if len(node.Args) == 2 {
				t.query = node.Args[1]
			}
		case "Association", "Has":
		default:
			return t, false
		}
		t.path, ok = s.text(node.Args[0])
		break
	}
	if lit, isLit := e.(*ast.CompositeLit); isLit && isNamed(s.pass.TypesInfo.TypeOf(lit), clausePath, "JoinTarget") {
		fields := fieldsOf(lit, types.Unalias(s.pass.TypesInfo.TypeOf(lit)).(*types.Named))
		t.query = fields["Subquery"]
		if alias == nil {
			alias = fields["Table"]
		}
		if fields["Association"] != nil {
			t.path, ok = s.text(fields["Association"])
		}
	}
	if t.alias = quoteAlias(t.path); alias != nil {
		name, known := s.text(alias)
		if !known {
			return t, false
		}
		t.alias = quote(name)
	}
	return t, ok
}

// joinedSubject is what the condition of a join is about.
func (s *statements) joinedSubject(outer subject, t joinTarget) (subject, bool) {
	if t.query != nil {
		node, ok := ast.Unparen(t.query).(*ast.CallExpr)
		if !ok || s.heads[node] == nil {
			return subject{}, false
		}
		inner := s.about(s.heads[node])
		if len(inner) != 1 || slices.ContainsFunc(s.all(s.heads[node]), func(m call) bool { return m.name == "Select" || m.name == "Omit" }) {
			return subject{}, false // it may have other columns than its table
		}
		sub := inner[0]
		sub.given, sub.tabled, sub.before = nil, false, nil
		sub.table, sub.alias, sub.outer = "(SELECT * FROM "+sub.table+") AS "+t.alias, t.alias, outer.table
		sub.beside = " JOIN " + outer.table + " ON true"
		return sub, true
	}
	to := relation(outer.typ, t.path)
	if to == nil {
		return subject{}, false
	}
	sub := s.subject(to)
	sub.table += " " + t.alias
	sub.alias, sub.outer, sub.beside = t.alias, outer.table, " JOIN "+outer.table+" ON true"
	return sub, true
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

// all is the calls of a chain, behind those that made what it begins with.
func (s *statements) all(ch *chain) []call {
	return append(s.calls(ch.root, nil, newTrail().past(ch)), ch.calls...)
}

// behindFrom is the text behind FROM with its joins.
func (s *statements) behindFrom(sub subject, calls []call) string {
	from := sub.table
	for _, m := range calls {
		if m.name == "Clauses" {
			from = s.fromClause(m, from)
		}
	}
	from += sub.beside
	for _, m := range calls {
		if m.name == "Joins" || m.name == "InnerJoins" {
			from += s.join(sub, m)
		}
	}
	return from
}

// fromClause puts the tables and joins of clause.From in the place of a statement's table.
func (s *statements) fromClause(m call, from string) string {
	for _, arg := range m.args {
		lit, _ := s.literal(arg)
		if lit == nil || !isNamed(s.pass.TypesInfo.TypeOf(lit), clausePath, "From") {
			continue
		}
		fields := s.fields(lit)
		var tables []string
		for _, t := range s.elements(fields["Tables"]) {
			tables = append(tables, s.tableText(t))
		}
		if len(tables) > 0 {
			from = strings.Join(tables, ", ")
		}
		for _, j := range s.elements(fields["Joins"]) {
			if join := s.fields(j); join["Table"] != nil {
				if t, _ := s.literal(join["Table"]); t != nil {
					from += " JOIN " + s.tableText(t) + " ON true"
				}
			}
		}
	}
	return from
}

// tableText writes a clause.Table as it stands behind FROM.
func (s *statements) tableText(lit *ast.CompositeLit) string {
	fields := s.fields(lit)
	name, ok := gap, false
	if fields["Name"] != nil {
		name, ok = s.text(fields["Name"])
	}
	if !ok || name == currentTable {
		return gap
	}
	out := quoteTable(name)
	if fields["Alias"] != nil {
		if alias, ok := s.text(fields["Alias"]); ok && alias != "" {
			out += " AS " + quote(alias)
		}
	}
	return out
}

// fields names the elements of a literal of a named struct.
func (c *checker) fields(lit *ast.CompositeLit) map[string]ast.Expr {
	if t, ok := deref(c.pass.TypesInfo.TypeOf(lit)).(*types.Named); ok {
		return fieldsOf(lit, t)
	}
	return nil
}

// elements lists the literals in a literal slice.
func (c *checker) elements(e ast.Expr) (out []*ast.CompositeLit) {
	if e == nil {
		return nil
	}
	lit, _ := c.literal(e)
	if lit == nil {
		return nil
	}
	for _, elt := range lit.Elts {
		if inner, _ := c.literal(elt); inner != nil {
			out = append(out, inner)
		}
	}
	return out
}

// join is the text of one join.
func (s *statements) join(sub subject, m call) string {
	if len(m.args) == 0 {
		return ""
	}
	t, ok := s.joinTarget(m.args[0])
	if !ok {
		return ""
	}
	if m.recv != "DB" {
		if joined, ok := s.joinedSubject(sub, t); ok && sub.typ != nil {
			return " LEFT JOIN " + joined.table + " ON true"
		}
		return ""
	}
	if sub.typ == nil {
		return " " + t.path
	}
	var out strings.Builder
	parts := strings.Split(t.path, ".")
	for i := range parts {
		path := strings.Join(parts[:i+1], ".")
		to := relation(sub.typ, path)
		if to == nil {
			return " " + t.path
		}
		out.WriteString(" LEFT JOIN " + s.subject(to).table + " " + quoteAlias(path) + " ON true")
	}
	return out.String()
}
