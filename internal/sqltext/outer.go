// outer.go owns the place in a text where columns can be added to its result.

package sqltext

import (
	"slices"
	"strings"
)

// Outer is the outermost query of a text, where more columns in its select list would change nothing else: one SELECT without DISTINCT,
// GROUP BY, set operations, or any parenthesis in its list, which may be an aggregate.
type Outer struct {
	End    int  // where in the text its select list ends
	Alone  bool // FROM has one table and nothing else
	Tables []Place
}

// Place is a table of interest in FROM.
type Place struct {
	Table   *Columns
	As      string // its name or alias, in lower case; unique in the query
	Written string // the same as the text writes it
}

// OuterOf finds the outermost query; nil where there is none, where it is no such query, or where the databases read the text differently.
func OuterOf(sql string, lookup Lookup) *Outer {
	var found *Outer
	for i, d := range dialects(sql) {
		s := newScanner(sql, lex(sql, d), d, lookup, nil)
		s.statements()
		o := s.outer()
		if o == nil || i > 0 && (o.End != found.End || o.Alone != found.Alone || !slices.Equal(o.Tables, found.Tables)) {
			return nil
		}
		found = o
	}
	return found
}

func (s *scanner) outer() *Outer {
	if len(s.roots) != 1 {
		return nil
	}
	l := s.roots[0]
	if l.listEnd == 0 || l.computes || l.distinct || l.branch > 0 || len(s.tokens) == 0 || !s.tokens[0].is("SELECT", "WITH") {
		return nil
	}
	o := &Outer{End: l.listEnd, Alone: len(l.tables) == 1}
	for i, t := range l.tables {
		in := s.inScope(t)
		twice := slices.ContainsFunc(l.tables[i+1:], func(o table) bool { return o.alias == t.alias }) ||
			slices.ContainsFunc(l.tables[:i], func(o table) bool { return o.alias == t.alias })
		if in == "" || twice || len(t.columns) != 1 || strings.TrimSpace(t.written) == "" {
			continue
		}
		o.Tables = append(o.Tables, Place{t.columns[0], in, t.written})
	}
	return o
}
