// Package sqltext finds what SQL text does with given columns: reads them, compares them, writes them. It is how the plugin looks at
// a statement last of all, when nothing but its text is left: whatever clause, expression, sub-query or raw string it was made of,
// the text is the same to this package.
//
// It is not a parser of SQL, and needs none of a parser's trust: it follows parentheses, the clauses of each query, and the tables
// and aliases in its scope. Where text is unclear it reports more uses than there are, never fewer. What it cannot see is what the
// text does not say: views, functions, SQL put together inside the database, whole rows turned into a value.
package sqltext

import (
	"slices"
	"strings"
)

// Columns are the columns of one table that a caller asks about. Names are in lower case.
type Columns struct {
	Table string
	Has   func(column string) bool
}

// Lookup gives the columns of a table, by its name in lower case without schema; nil for tables that nobody asks about.
type Lookup func(table string) *Columns

// Kind is what is done with a column.
type Kind byte

const (
	// Read: it stands alone in a select list, under its own name.
	Read Kind = iota
	// ReadAs: it stands alone in a select list, under the name in Use.As.
	ReadAs
	// Star: all columns of the table stand in a select list. Use.Column is empty.
	Star
	// Compared: it is part of a condition, an order, a group or an expression.
	Compared
	// Inserted: it is in the column list of an INSERT.
	Inserted
	// Set: it is assigned by an UPDATE or an upsert.
	Set
	// InsertedAll: an INSERT names no columns. Use.Column is empty.
	InsertedAll
	// Defaulted: a default or another expression is put on it by ALTER.
	Defaulted
	// SetAgain: it is assigned a second time by the same UPDATE or upsert. SQLite and MySQL take the last.
	SetAgain
	// Renamed: columns of the table get other names in the text, so that what is done with them cannot be seen. Use.Column is empty.
	Renamed
)

// Use is one thing that a statement does.
type Use struct {
	Table  *Columns
	Column string
	Kind   Kind
	As     string // for ReadAs, in lower case
	Query  bool   // in the outermost select list, or in RETURNING: it is part of the result
	From   string // the table's name or alias in the outermost query, in lower case; "" where it is not there, or not known which
}

// Owner tells whether a table that nobody asks about has a column, as far as that is known. Names are in lower case.
type Owner func(table, column string) bool

// Uses lists what a text of one or more statements does with the columns that lookup knows. With owns, which may be nil, a name without
// its table belongs to a table of the innermost query that owns it; without, it may be one of an outer query that lookup knows.
func Uses(sql string, lookup Lookup, owns Owner) []Use {
	var all []Use
	for _, d := range dialects(sql) {
		for _, u := range usesIn(sql, d, lookup, owns) {
			if !slices.Contains(all, u) {
				all = append(all, u)
			}
		}
	}
	return all
}

// Queries reports whether a query inside the text names a table, in lower case, other than in front of a column.
func Queries(sql, table string) bool {
	for _, d := range dialects(sql) {
		if queriesIn(sql, d, table, false) {
			return true
		}
	}
	return false
}

func queriesIn(sql string, d dialect, table string, query bool) bool {
	tokens := append(lex(sql, d), token{kind: end})
	for i, t := range tokens[:len(tokens)-1] {
		inside := d
		inside.depth++
		switch {
		case t.is("SELECT", "TABLE"):
			query = true
		case t.kind == block && queriesIn(t.text, inside, table, query):
			return true
		case query && t.identifier() && strings.ToLower(t.text) == table && !tokens[i+1].symbol("."):
			return true
		}
	}
	return false
}

// usesIn is Uses in one reading of the text.
func usesIn(sql string, d dialect, lookup Lookup, owns Owner) []Use {
	tokens := lex(sql, d)
	if !mentions(tokens, lookup) {
		return nil
	}
	s := newScanner(sql, tokens, d, lookup, owns)
	s.statements()
	return s.uses
}

func newScanner(sql string, tokens []token, d dialect, lookup Lookup, owns Owner) *scanner {
	return &scanner{sql: sql, tokens: tokens, dialect: d, lookup: lookup, owns: owns, ctes: map[string][]*Columns{}}
}

// mentions is the short way for the many statements that have nothing to do with any table of interest.
func mentions(tokens []token, lookup Lookup) bool {
	for _, t := range tokens {
		if t.kind == block || t.identifier() && lookup(strings.ToLower(t.text)) != nil {
			return true
		}
	}
	return false
}

// clause is where in a query a token stands.
type clause byte

const (
	nowhere   clause = iota
	with             // between WITH and the query itself
	ddl              // CREATE, ALTER and the like, up to a query inside
	list             // a select list, or RETURNING
	from             // tables
	condition        // anything that compares
	columns          // the column list of an INSERT
	target           // the table that is written
	assign           // the left side in SET
	conflict         // the columns behind ON CONFLICT
	call             // arguments of a function
)

// level is one pair of parentheses, or a whole statement.
type level struct {
	outer     *level
	clause    clause
	distinct  bool
	counting  bool     // arguments of count(…)
	whole     bool     // it is the statement, or a branch of it, in parentheses
	merged    bool     // its tables are those of a table expression of the outer level
	cte       string   // its tables go under this name
	assigning bool     // on the right side of an assignment
	joining   bool     // between FROM and WHERE, where a comma brings another table
	renamed   bool     // its columns get other names from outside
	branch    int      // of a UNION
	matched   bool     // its branches are compared with each other: UNION without ALL
	item      int      // of the select list
	first     []string // the select list of the first branch, whose names hold for all
	listEnd   int      // where its select list ends
	computes  bool     // it groups, or its select list has parentheses

	tables []table
	refs   []ref
	stars  []ref
}

// table is a name in scope.
type table struct {
	name    string // "" for a table expression
	alias   string
	columns []*Columns // several for a table expression; none for a table nobody asks about
	written string     // its alias, else its name, as the text writes it
}

// ref is a column's name, to be understood when the level's tables are known.
type ref struct {
	table, column string
	kind          Kind
	as            string
	query         bool
	item, branch  int  // of a star
	listed        bool // in a select list, or an argument: Postgres takes a table's name there for its whole row
}

type scanner struct {
	sql     string
	tokens  []token
	dialect dialect
	at      int
	lookup  Lookup
	owns    Owner
	uses    []Use
	set     []Use // columns that the statement has written so far
	ctes    map[string][]*Columns
	seen    []*Columns // every table of interest so far, for names that resolve nowhere
	into    []*Columns // the table that the statement writes
	verb    string
	levels  []*level // of the statement, resolved when all its tables are known
	roots   []*level // of all statements, each with what makes it more than a plain query
	plan    bool     // EXPLAIN: no row is given back
}

func (s *scanner) peek(n int) token {
	if s.at+n < 0 || s.at+n >= len(s.tokens) {
		return token{kind: end}
	}
	return s.tokens[s.at+n]
}

func (s *scanner) statements() {
	for _, t := range s.tokens {
		if t.identifier() {
			if c := s.lookup(strings.ToLower(t.text)); c != nil && !slices.Contains(s.seen, c) {
				s.seen = append(s.seen, c)
			}
		}
	}
	for s.at < len(s.tokens) {
		s.verb, s.into, s.plan, s.set = "", nil, false, nil
		root := &level{}
		s.levels = []*level{root}
		begin := s.at
		s.scan(root)
		if s.at > begin {
			root.computes = root.computes || s.verb != "" || s.plan
			s.roots = append(s.roots, root)
		}
		for _, l := range s.levels {
			s.resolve(l)
		}
		s.at++ // the semicolon
	}
}

// scan reads one level up to its closing parenthesis, a semicolon of the outermost level, or the end.
func (s *scanner) scan(l *level) {
	for s.at < len(s.tokens) {
		t := s.peek(0)
		switch {
		case t.symbol(")"):
			if l.outer != nil {
				return
			}
		case t.symbol(";") && l.outer == nil:
			return
		case t.symbol("("):
			s.open(l)
			continue
		case t.kind == block:
			inside := s.dialect
			inside.depth++
			s.uses = append(s.uses, usesIn(t.text, inside, s.lookup, s.owns)...)
		case t.kind == name && l.clause == list && t.is("AS") && s.peek(1).identifier():
			s.at++ // whatever word it is, it is an alias
		case t.kind == name && !s.isName(l) && s.keyword(l, t):
		case t.identifier():
			s.identifier(l)
			continue
		case t.symbol(",") && l.joining:
			l.clause = from
		case t.symbol(",") && l.clause == list:
			l.item++
		case t.symbol("=") && l.clause == assign:
			l.clause = condition
			s.at++
			s.value(l)
			continue
		case t.symbol("*") && l.clause == list && s.isStar():
			s.star(l, "")
		}
		s.at++
	}
}

// value reads the right side of an assignment up to its comma, so that what follows is a left side again.
func (s *scanner) value(l *level) {
	l.assigning = true
	defer func() { l.assigning = false }()
	for s.at < len(s.tokens) {
		t := s.peek(0)
		switch {
		case t.symbol(","):
			l.clause = assign
			s.at++
			return
		case t.symbol(")"), t.symbol(";"), t.is("WHERE", "FROM", "RETURNING", "ON", "WHEN", "ORDER", "LIMIT") && !s.inCase():
			l.clause = assign
			return
		case t.symbol("("):
			s.open(l)
		case t.identifier():
			s.identifier(l)
		default:
			s.at++
		}
	}
}

// inCase reports that a WHEN belongs to a CASE, not to a MERGE.
func (s *scanner) inCase() bool { return s.peek(0).is("WHEN") && s.verb != "MERGE" }

// isName reports that a word is a name, although some database has a keyword of it: Postgres takes most words for names.
func (s *scanner) isName(l *level) bool {
	next := s.peek(1)
	switch {
	case next.symbol("."):
		// MySQL takes ".a.b" for a.b behind the words that are reserved everywhere.
		return (s.peek(2).identifier() || s.peek(2).symbol("*")) && !s.peek(0).is(reserved...)
	case l.clause == list:
		return next.symbol(",")
	case l.clause == from || l.clause == target:
		word := strings.ToLower(s.peek(0).text)
		return s.ctes[word] != nil || s.lookup(word) != nil
	}
	return false
}

// keyword moves the level to another clause; it reports false for a name that is none here.
func (s *scanner) keyword(l *level, t token) bool {
	if l.clause == call && !t.is("SELECT", "DISTINCT", "ORDER", "WITH") {
		return false // EXTRACT(year FROM x), SUBSTRING(x FOR 2)
	}
	open := l.clause == nowhere || l.clause == with
	switch {
	case t.is("SELECT"):
		l.clause, l.distinct, l.joining, l.item = list, false, false, 0
	case l.clause == list && t.is(modifiers...) && s.peek(-1).is(selects...):
	case t.is("DISTINCT", "DISTINCTROW") && (l.clause == list || l.clause == call) && !s.peek(-1).is("IS", "NOT"):
		l.distinct = true
	case t.is("ALL") && s.peek(-1).is("SELECT"):
	case t.is("WITH") && open:
		l.clause = with
	case t.is("RECURSIVE") && l.clause == with:
	case t.is("TABLE") && open && !s.peek(1).is("AS"): // TABLE name is SELECT * FROM name
		l.clause, l.item = list, 0
		s.star(l, "")
		l.clause = from
	case l.clause == nowhere && l.outer == nil && (t.is("EXPLAIN") && (s.at == 0 || s.peek(-1).symbol(";")) || s.plan && t.is("ANALYZE", "VERBOSE")):
		s.plan = true
	case open && t.is("CREATE", "ALTER", "DROP", "COMMENT", "TRUNCATE", "GRANT", "REVOKE", "ANALYZE", "VACUUM", "PRAGMA", "SET", "SHOW", "REINDEX", "LOCK") && !(t.is("SET") && s.verb == "LOAD"):
		l.clause = ddl
		s.verb = strings.ToUpper(t.text)
	case l.clause == ddl && t.is("BEGIN", "DO"): // of a trigger, of a rule
		l.clause = nowhere
	case l.clause == ddl && t.is("WHERE", "WHEN"): // of an index, of a trigger
		l.clause = condition
		for _, c := range s.seen {
			l.tables = append(l.tables, table{columns: []*Columns{c}})
		}
	case l.clause == ddl:
		s.alter(t)
		return false
	case t.is("LOOP") && (s.dialect.depth > 0 || s.tokens[0].is("BEGIN", "CREATE")): // a statement follows
		l.clause, l.joining = nowhere, false
	case open && t.is("INSERT", "REPLACE", "MERGE", "DELETE", "UPDATE", "COPY", "LOAD", "HANDLER"):
		s.verb = strings.ToUpper(t.text)
		l.clause = target
		if s.verb == "DELETE" || s.verb == "HANDLER" {
			l.clause = from
		}
	case t.is("INTO") && (l.clause == target || l.clause == list):
		l.clause, l.computes = target, true
	case t.is("ONLY", "IGNORE", "LATERAL", "TABLE", "LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "QUICK") && (l.clause == target || l.clause == from):
	case t.is("OR") && l.clause == target: // INSERT OR REPLACE
		s.at++
	case t.is("FROM") && s.peek(-1).is("DISTINCT") && s.peek(-2).is("IS", "NOT"): // a IS DISTINCT FROM b
	case t.is("USING") && s.peek(1).symbol("("):
		l.clause = condition
	case t.is("FROM") || t.is("USING", "JOIN", "STRAIGHT_JOIN") && l.clause != list:
		if l.clause == list && l.listEnd == 0 {
			l.listEnd = t.from
		}
		l.clause, l.joining = from, true
	case t.is("LEFT", "RIGHT", "INNER", "OUTER", "FULL", "CROSS", "NATURAL") && l.clause != list:
	case t.is("ON") && s.peek(1).is("CONFLICT"):
		l.clause = conflict
		s.at++
	case t.is("ON") && s.peek(1).is("DUPLICATE"):
		for s.at < len(s.tokens) && !s.peek(0).is("UPDATE") {
			s.at++
		}
		l.clause = assign
	case t.is("DO") && s.peek(1).is("UPDATE", "NOTHING"):
		s.at++
	case t.is("UPDATE") && s.peek(-1).is("THEN"): // MERGE … WHEN MATCHED THEN UPDATE
	case t.is("INSERT") && s.peek(-1).is("THEN"):
		l.clause = target
	case t.is("SET") && s.verb != "" && l.clause != list:
		l.clause = assign
	case t.is("VALUES"):
		s.unlisted(l)
		l.clause = condition
	case t.is("DEFAULT") && s.peek(1).is("VALUES"):
		l.clause = condition
		s.at++
	case t.is("RETURNING"):
		l.clause, l.distinct, l.joining = list, false, false
	case t.is("ON") && l.clause != nowhere:
		l.clause = condition
	case t.is("WHERE", "HAVING", "GROUP", "ORDER", "PARTITION", "WINDOW", "LIMIT", "OFFSET", "FOR", "FETCH", "QUALIFY") && l.clause != nowhere:
		l.clause, l.joining = condition, false
		l.computes = l.computes || t.is("HAVING", "GROUP", "PARTITION", "WINDOW", "QUALIFY")
	case t.is("UNION", "INTERSECT", "EXCEPT"):
		l.branch++
		l.matched = l.matched || !s.peek(1).is("ALL")
		l.clause, l.joining = nowhere, false // the tables of all branches stay in scope: more is found, not less
	case t.is("BEGIN", "START", "COMMIT", "DECLARE", "CALL", "DO", "END", "ATOMIC") && open:
	default:
		return false
	}
	return true
}

// alter finds ALTER … SET DEFAULT and ADD CHECK on a column of interest.
func (s *scanner) alter(t token) {
	if s.verb != "ALTER" || !t.is("DEFAULT") || s.peek(1).is("NULL") || s.peek(-1).is("DROP") {
		return
	}
	for _, c := range s.seen {
		for _, w := range s.tokens {
			if w.identifier() && c.Has(strings.ToLower(w.text)) {
				s.uses = append(s.uses, Use{Table: c, Column: strings.ToLower(w.text), Kind: Defaulted})
			}
		}
	}
}

// unlisted reports an INSERT that goes on without a column list.
func (s *scanner) unlisted(l *level) {
	if l.clause != target || s.verb == "UPDATE" {
		return
	}
	for _, c := range s.into {
		s.uses = append(s.uses, Use{Table: c, Kind: InsertedAll})
	}
}

// open reads a pair of parentheses.
func (s *scanner) open(l *level) {
	before := s.peek(-1)
	if l.assigning && before.is("VALUES") && s.peek(-2).symbol("=") && s.peek(1).identifier() && s.peek(2).symbol(")") && s.endsValue(3) {
		s.at += 3 // MySQL's VALUES(column): what would have been inserted
		return
	}
	l.computes = l.computes || l.clause == list
	inner := &level{clause: condition}
	switch {
	case l.clause == with:
		// name [(columns)] AS [NOT MATERIALIZED] (query)
		inner.clause = nowhere
		if s.peek(-1).is("AS", "MATERIALIZED") {
			inner.cte, inner.renamed = s.cteName()
		}
	case l.clause == ddl:
		inner.clause = ddl
	case l.clause == target && s.verb == "UPDATE": // UPDATE (a JOIN b)
		inner.clause, inner.merged = from, true
	case l.clause == target && s.peek(1).is("SELECT", "WITH"):
		inner.clause = nowhere
	case l.clause == target:
		inner.clause = columns
		s.nested(l, inner)
		l.clause = nowhere // VALUES or a query follows
		return
	case l.clause == assign:
		inner.clause = columns // (a, b) = (…)
	case l.clause == from && (!before.identifier() || before.is("FROM", "JOIN", "USING", "LATERAL", "ONLY")):
		inner.clause, inner.merged = nowhere, true
		if !s.peek(1).is("SELECT", "WITH", "VALUES") {
			inner.clause = from // a join in parentheses
		}
	case l.clause == conflict:
		inner.clause = condition
	case before.kind == quoted || before.kind == name && !before.is(operators...):
		inner.clause, inner.counting = call, before.is("count")
	}
	if (l.outer == nil || l.whole) && l.clause == nowhere && (s.peek(1).is("SELECT", "WITH", "TABLE") || s.peek(1).symbol("(")) {
		inner.whole, inner.clause = true, nowhere
	}
	inner.distinct = l.distinct && l.clause == list || l.distinct && l.clause == call
	s.nested(l, inner)
	if inner.merged {
		inner.renamed = s.addTable(l, "", s.gives(inner))
	}
}

// gives lists the tables whose columns a table expression may have: its own, and with LATERAL those of the outer level.
func (s *scanner) gives(l *level) []*Columns {
	out := merge(l.tables)
	add := func(cols []*Columns) {
		for _, c := range cols {
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	for _, r := range l.refs {
		if r.kind == Read {
			cols, _ := s.find(l, r.table, r.column)
			add(cols)
		}
	}
	for _, r := range l.stars {
		for _, t := range l.outer.tables {
			if r.table != "" && r.table == t.alias {
				add(t.columns)
			}
		}
	}
	return out
}

func merge(tables []table) (out []*Columns) {
	for _, t := range tables {
		out = append(out, t.columns...)
	}
	return out
}

// cteName finds the name in front of "[(columns)] AS [NOT MATERIALIZED] (", and whether there are columns.
func (s *scanner) cteName() (name string, renamed bool) {
	i := s.at - 1
	for i >= 0 && s.tokens[i].is("AS", "NOT", "MATERIALIZED") {
		i--
	}
	if i >= 0 && s.tokens[i].symbol(")") {
		renamed = true
		for i >= 0 && !s.tokens[i].symbol("(") {
			i--
		}
		i--
	}
	if i >= 0 && s.tokens[i].identifier() {
		name = strings.ToLower(s.tokens[i].text)
	}
	return name, renamed
}

func (s *scanner) nested(outer, inner *level) {
	inner.outer = outer
	s.levels = append(s.levels, inner)
	s.at++ // the opening parenthesis
	s.scan(inner)
	s.at++ // the closing one
	if inner.cte != "" {
		s.ctes[inner.cte] = merge(inner.tables)
	}
}

// operators are the names before a parenthesis that do not call a function, and those after a column that make it part of an expression.
var operators = []string{"IN", "AND", "OR", "NOT", "LIKE", "ILIKE", "IS", "BETWEEN", "SIMILAR", "REGEXP", "RLIKE", "GLOB", "MATCH", "DIV", "MOD", "XOR",
	"COLLATE", "WHEN", "THEN", "ELSE", "CASE", "ANY", "SOME", "ALL", "EXISTS", "AS", "ON", "WHERE", "HAVING", "BY", "VALUES", "SELECT", "FROM", "JOIN",
	"UNION", "EXCEPT", "INTERSECT", "SET", "USING", "DISTINCT", "OVER", "FILTER", "ESCAPE", "TO", "ISNULL", "NOTNULL", "CONFLICT", "RETURNING", "OPERATOR"}

// reserved are the words that no database takes for a name.
var reserved = append([]string{"SELECT", "ALL", "DISTINCT", "FROM", "JOIN", "WHERE", "ON", "HAVING", "INTO", "USING", "UPDATE", "TABLE"}, modifiers...)

// modifiers are the names that MySQL takes between SELECT and its list, and selects those that a list follows.
var modifiers = []string{"HIGH_PRIORITY", "STRAIGHT_JOIN", "SQL_NO_CACHE", "SQL_CACHE", "SQL_CALC_FOUND_ROWS", "SQL_SMALL_RESULT", "SQL_BIG_RESULT", "SQL_BUFFER_RESULT"}

var selects = append([]string{"SELECT", "ALL"}, modifiers...)

// addTable puts a table or a table expression into scope, with the alias that follows it. It reports that names for its columns follow
// the alias.
func (s *scanner) addTable(l *level, tableName string, cols []*Columns) (renamed bool) {
	alias, written := tableName, s.raw(-1)
	as := s.peek(0).is("AS")
	if as {
		s.at++
	}
	if t := s.peek(0); t.kind == quoted || t.kind == name && (as || !t.is(notAlias...) || s.isAlias(t)) {
		alias, written = strings.ToLower(t.text), s.raw(0)
		s.at++
		renamed = l.clause == from && s.peek(0).symbol("(") && s.peek(1).identifier() && (s.peek(2).symbol(",") || s.peek(2).symbol(")")) &&
			!t.is("INDEX", "KEY")
	}
	l.tables = append(l.tables, table{tableName, alias, cols, written})
	return renamed
}

// isAlias reports that a word which may begin something else behind a table begins nothing.
func (s *scanner) isAlias(t token) bool {
	next := s.peek(1)
	return (t.is("INDEXED", "USE", "FORCE", "IGNORE", "TABLESAMPLE", "PARTITION") || t.is("SET") && s.verb == "" || t.is("LOOP", "DO", "WITH", "TO") && s.dialect.depth == 0) &&
		(next.kind == end || next.symbol(",") || next.symbol(")") || next.symbol(";") || next.is(notAlias...))
}

var notAlias = []string{"SET", "WHERE", "ON", "USING", "JOIN", "LEFT", "RIGHT", "INNER", "OUTER", "FULL", "CROSS", "NATURAL", "ORDER", "GROUP", "HAVING", "LIMIT",
	"OFFSET", "FOR", "FETCH", "UNION", "EXCEPT", "INTERSECT", "RETURNING", "VALUES", "SELECT", "DEFAULT", "WINDOW", "FROM", "TABLESAMPLE", "WHEN",
	"STRAIGHT_JOIN", "LOOP", "INDEXED", "FORCE", "USE", "IGNORE", "PARTITION", "WITH", "DO", "TO", "INTO"}

// identifier reads a name with its qualifiers and files it under the level's clause.
func (s *scanner) identifier(l *level) {
	before := s.peek(-1)
	begin := s.at
	qualifier, last := "", strings.ToLower(s.peek(0).text)
	s.at++
	for s.peek(0).symbol(".") {
		switch next := s.peek(1); {
		case next.identifier():
			qualifier, last = last, strings.ToLower(next.text)
			s.at += 2
		case next.symbol("*"):
			switch {
			case l.clause == list && !s.peek(2).symbol(":"):
				s.star(l, last)
			case l.clause == list || l.clause == call && !l.counting:
				l.refs = append(l.refs, ref{column: last, kind: Compared, listed: true}) // to_json(a.*), a.*::text
			}
			s.at += 2
			return
		default:
			s.at++
		}
	}
	if s.peek(0).symbol("(") && !s.tokens[begin].is(operators...) && l.clause != from && l.clause != target && l.clause != with {
		return // a function's name
	}
	switch l.clause {
	case with, nowhere, ddl:
	case target, from:
		s.table(l, last)
	case columns:
		s.write(qualifier, last, Inserted, Set, l)
	case assign:
		s.write(qualifier, last, Set, Set, l)
	case list:
		s.listed(l, before, qualifier, last)
	case call:
		if !l.counting || l.distinct || !before.symbol("(") || !s.peek(0).symbol(")") {
			l.refs = append(l.refs, ref{table: qualifier, column: last, kind: Compared, listed: true})
		}
	case condition, conflict:
		if qualifier == "excluded" && l.assigning && before.symbol("=") && s.endsValue(0) || s.isNullTest(before) {
			return // column = excluded.column
		}
		l.refs = append(l.refs, ref{table: qualifier, column: last, kind: Compared})
	}
}

func (s *scanner) table(l *level, name string) {
	if s.peek(0).symbol("(") && l.clause == from {
		s.addTable(l, name, nil) // a function that gives rows; its arguments are read next
		return
	}
	var cols []*Columns
	if c := s.lookup(name); c != nil {
		cols = []*Columns{c}
	} else if c, ok := s.ctes[name]; ok {
		cols = c
	}
	if l.clause == target {
		s.into = cols
		if (s.verb == "COPY" || s.verb == "LOAD") && !s.peek(0).symbol("(") {
			s.unlisted(l)
		}
	}
	writing := l.clause == target
	if s.addTable(l, name, cols) {
		s.rename(cols)
	}
	if writing && s.verb != "UPDATE" && s.peek(0).is("SELECT", "WITH", "TABLE") {
		s.unlisted(l)
	}
}

// write files a column on the left side of an assignment.
func (s *scanner) write(qualifier, column string, insert, set Kind, l *level) {
	kind := set
	if l.clause == columns && (l.outer == nil || l.outer.clause != assign) {
		kind = insert
	}
	into := s.into
	if kind == set && l.outer == nil && s.verb == "UPDATE" {
		// UPDATE a JOIN b SET …: any table in scope may be the one.
		for _, t := range l.tables {
			if qualifier != "" && qualifier == t.alias {
				into = t.columns
				break
			}
			into = append(into[:len(into):len(into)], t.columns...)
		}
	}
	for i, c := range into {
		if !c.Has(column) || slices.Contains(into[:i], c) {
			continue
		}
		u := Use{Table: c, Column: column, Kind: kind}
		if kind == Set && slices.Contains(s.set, u) {
			u.Kind = SetAgain
		}
		s.uses, s.set = append(s.uses, u), append(s.set, u)
	}
}

// listed files a column of a select list: alone there it is read, in an expression it is compared.
func (s *scanner) listed(l *level, before token, qualifier, column string) {
	for len(l.first) <= l.item && l.branch == 0 {
		l.first = append(l.first, "")
	}
	if s.isNullTest(before) {
		return
	}
	r := ref{table: qualifier, column: column, kind: Read, query: l.outer == nil, listed: true}
	alone := before.is("RETURNING") || before.is(selects...) || before.symbol(",")
	next := s.peek(0)
	switch {
	case !alone || l.distinct:
		r.kind = Compared
	case next.is("AS") && s.peek(1).identifier():
		r.kind, r.as = ReadAs, strings.ToLower(s.peek(1).text)
		s.at += 2
	case next.kind == quoted || next.kind == name && !next.is(notAlias...) && !next.is(operators...):
		r.kind, r.as = ReadAs, strings.ToLower(next.text)
		s.at++
	case next.symbol(","), next.symbol(")"), next.symbol(";"), next.kind == end, next.is(notAlias...), next.is("INTO"):
	default:
		r.kind = Compared
	}
	if r.kind == ReadAs && r.as == column {
		r.kind, r.as = Read, ""
	}
	shown := column
	if r.kind == ReadAs && r.query {
		shown = r.as
	}
	if r.kind == Read || r.kind == ReadAs && r.query {
		switch {
		case l.branch == 0 && !r.query && slices.Contains(l.first[:l.item], column):
			r.kind = Compared // SQLite calls the second of a name "name:1"
		case l.branch == 0:
			l.first[l.item] = shown
		case l.item >= len(l.first) || l.first[l.item] != shown:
			r.kind = Compared // the first branch has another name for it
		}
	}
	l.refs = append(l.refs, r)
}

// isStar reports a star that stands for columns, and does not multiply.
func (s *scanner) isStar() bool {
	before := s.peek(-1)
	return before.is("RETURNING", "DISTINCT", "DISTINCTROW") || before.is(selects...) || before.symbol(",") ||
		before.symbol(".") && s.peek(-2).symbol(")") // (a).*
}

// star files the columns of a table, or of all, in a select list.
func (s *scanner) star(l *level, table string) {
	r := ref{table: table, query: l.outer == nil || l.whole, item: l.item, branch: l.branch}
	for len(l.first) <= l.item && l.branch == 0 {
		l.first = append(l.first, "")
	}
	if l.branch == 0 {
		l.first[l.item] = "*"
	} else if l.item >= len(l.first) || l.first[l.item] != "*" {
		r.kind = Compared
	}
	l.stars = append(l.stars, r)
}

func (s *scanner) rename(cols []*Columns) {
	for _, c := range cols {
		s.uses = append(s.uses, Use{Table: c, Kind: Renamed})
	}
}

// endsValue reports that the right side of an assignment ends n tokens on.
func (s *scanner) endsValue(n int) bool {
	t := s.peek(n)
	return t.kind == end || t.symbol(",") || t.symbol(";") || t.symbol(")") || t.is("WHERE", "RETURNING", "FROM", "ON", "WHEN")
}

// isNullTest reports that IS NULL or IS NOT NULL follows a name that no operator binds to what stands before it.
func (s *scanner) isNullTest(before token) bool {
	if before.kind == symbol && !before.symbol("(") && !before.symbol(",") || before.is("LIKE", "ILIKE", "IN", "BETWEEN", "SIMILAR", "REGEXP", "RLIKE", "GLOB", "MATCH", "FROM") {
		return false
	}
	return s.peek(0).is("IS") && (s.peek(1).is("NULL") || s.peek(1).is("NOT") && s.peek(2).is("NULL"))
}

// resolve understands the names of a level, whose tables are all known now.
func (s *scanner) resolve(l *level) {
	for _, r := range l.refs {
		if r.listed && r.table == "" {
			s.row(l, r.column)
		}
		if l.matched && r.kind == Read {
			r.kind = Compared
		}
		if s.plan && r.query && r.kind != Compared {
			continue
		}
		// A sub-query that is neither a table nor the result gives its columns to a comparison. One that is a table passes
		// them on, to be found where they are used; under another name they would not be.
		if !r.query && (r.kind == ReadAs || r.kind == Read && (l.renamed || !l.merged && l.cte == "")) {
			r.kind, r.as = Compared, ""
		}
		if !r.query && r.kind == Read {
			continue
		}
		cols, from := s.find(l, r.table, r.column)
		for i, c := range cols {
			u := Use{Table: c, Column: r.column, Kind: r.kind, As: r.as, Query: r.query}
			if r.query && r.kind != Compared {
				u.From = from[i]
			}
			s.uses = append(s.uses, u)
			if r.kind == ReadAs && slices.ContainsFunc(l.refs, func(o ref) bool { return o.kind == Compared && o.table == "" && o.column == r.as }) {
				s.uses = append(s.uses, Use{Table: c, Column: r.column, Kind: Compared}) // SQLite knows the alias in WHERE, all in ORDER BY
			}
		}
	}
	for _, r := range l.stars {
		if r.kind == Compared || l.renamed || s.shadowed(l, r) {
			for _, t := range l.tables {
				if r.table == "" || r.table == t.alias {
					s.rename(t.columns)
				}
			}
		}
		if s.plan {
			continue
		}
		if !r.query {
			continue // what a table expression passes on is found where it is used
		}
		known := false
		for _, t := range l.tables {
			if r.table == "" || r.table == t.alias {
				known = true
				for _, c := range t.columns {
					s.uses = append(s.uses, Use{Table: c, Kind: Star, Query: true, From: s.inScope(t)})
				}
			}
		}
		for _, c := range s.seen {
			if !known && r.table != "" {
				s.uses = append(s.uses, Use{Table: c, Kind: Star, Query: true}) // it may be any of them
			}
		}
	}
}

// row reports a name that is no column's, but a table's of interest: its whole row becomes one value.
func (s *scanner) row(l *level, name string) {
	for at := l; at != nil; at = at.outer {
		if slices.ContainsFunc(at.tables, func(t table) bool { return s.owned(t, name) }) {
			return
		}
		for _, t := range at.tables {
			if t.alias == name && s.inScope(t) != "" && len(t.columns) == 1 && !t.columns[0].Has(name) {
				s.rename(t.columns)
				return
			}
		}
	}
}

// shadowed reports a star whose columns may get other names: those of another table in the first branch of a UNION, or those that SQLite
// gives to the second column of a name in a table expression.
func (s *scanner) shadowed(l *level, r ref) bool {
	if l.branch > 0 {
		for _, t := range l.tables {
			if len(t.columns) != 1 || t.columns[0] != l.tables[0].columns[0] {
				return true
			}
		}
	}
	if r.query || r.branch > 0 || !l.merged && l.cte == "" {
		return false
	}
	earlier := l.first[:min(r.item, len(l.first))]
	for i, t := range l.tables {
		if r.table != "" && r.table != t.alias {
			continue
		}
		for _, c := range t.columns {
			if r.table == "" && i > 0 || slices.Contains(earlier, "*") || slices.ContainsFunc(earlier, func(name string) bool { return name != "" && c.Has(name) }) {
				return true
			}
		}
	}
	return false
}

// owned reports that a table of no interest has the column.
func (s *scanner) owned(t table, column string) bool {
	return s.owns != nil && t.name != "" && len(t.columns) == 0 && s.owns(t.name, column)
}

// find gives the tables of interest that a column may belong to, and the names that they have in scope: those of the innermost scope that
// has the name. A qualifier that is nowhere in scope may be anything, so that every table of the statement counts.
func (s *scanner) find(l *level, qualifier, column string) (out []*Columns, from []string) {
	add := func(cols []*Columns, in string) {
		for _, c := range cols {
			if c.Has(column) && !slices.Contains(out, c) {
				out, from = append(out, c), append(from, in)
			}
		}
	}
	for at := l; at != nil; at = at.outer {
		known := false
		exact := slices.ContainsFunc(at.tables, func(t table) bool { return qualifier == t.alias })
		for _, t := range at.tables {
			if qualifier == "" || qualifier == t.alias || !exact && slices.ContainsFunc(t.columns, func(c *Columns) bool { return c.Table == qualifier }) {
				known = known || qualifier != "" || s.owned(t, column)
				add(t.columns, s.inScope(t))
			}
		}
		if known || len(out) > 0 {
			return out, from
		}
	}
	if qualifier != "" {
		add(s.seen, "")
	}
	return out, from
}

// inScope is the name of a table of interest that stands in FROM itself.
func (s *scanner) inScope(t table) string {
	if _, hidden := s.ctes[t.name]; hidden || t.name == "" || s.lookup(t.name) == nil {
		return ""
	}
	return t.alias
}

// raw is a token as the text writes it.
func (s *scanner) raw(n int) string { t := s.peek(n); return s.sql[t.from:t.to] }
