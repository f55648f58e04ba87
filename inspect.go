// inspect.go owns conditions: finding sealed columns where a statement would compare, order or group by them. Every ciphertext is
// different, so such a comparison never matches, and its plaintext would go to the database's log.

package rowseal

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

func (p *Plugin) checkWhere(c clause.Clause, stmt *gorm.Statement) error {
	if w, ok := c.Expression.(clause.Where); ok {
		return p.inspect(stmt, w.Exprs)
	}
	return p.inspect(stmt, []clause.Expression{c.Expression})
}

func (p *Plugin) checkOrder(c clause.Clause, stmt *gorm.Statement) error {
	o, ok := c.Expression.(clause.OrderBy)
	if !ok {
		return p.inspect(stmt, []clause.Expression{c.Expression})
	}
	for _, column := range o.Columns {
		if err := p.inspectColumn(stmt, column.Column); err != nil {
			return err
		}
	}
	return p.inspect(stmt, []clause.Expression{o.Expression})
}

func (p *Plugin) checkGroup(c clause.Clause, stmt *gorm.Statement) error {
	g, ok := c.Expression.(clause.GroupBy)
	if !ok {
		return nil
	}
	for _, column := range g.Columns {
		if err := p.inspectColumn(stmt, column); err != nil {
			return err
		}
	}
	return p.inspect(stmt, g.Having)
}

func (p *Plugin) checkFrom(c clause.Clause, stmt *gorm.Statement) error {
	f, ok := c.Expression.(clause.From)
	if !ok {
		return nil
	}
	for _, j := range f.Joins {
		if err := p.inspect(stmt, append([]clause.Expression{j.Expression}, j.ON.Exprs...)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plugin) checkSelect(c clause.Clause, stmt *gorm.Statement) error {
	s, ok := c.Expression.(clause.Select)
	if !ok || !(s.Distinct || stmt.Distinct) {
		return nil
	}
	for _, column := range s.Columns {
		if err := p.inspectColumn(stmt, column); err != nil {
			return err
		}
	}
	return p.inspect(stmt, []clause.Expression{s.Expression})
}

// inspect refuses sealed columns in expressions, as far as they can be seen: GORM's own clauses by their columns, SQL text by its words.
// IS NULL is admitted, since NULL is never sealed.
func (p *Plugin) inspect(stmt *gorm.Statement, exprs []clause.Expression) error {
	for _, e := range exprs {
		if err := p.inspectOne(stmt, e); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plugin) inspectOne(stmt *gorm.Statement, e clause.Expression) error {
	switch e := e.(type) {
	case nil:
		return nil
	case clause.Where:
		return p.inspect(stmt, e.Exprs)
	case clause.AndConditions:
		return p.inspect(stmt, e.Exprs)
	case clause.OrConditions:
		return p.inspect(stmt, e.Exprs)
	case clause.NotConditions:
		return p.inspect(stmt, e.Exprs)
	case clause.Expr:
		return p.inspectSQL(stmt, e.SQL)
	case clause.NamedExpr:
		return p.inspectSQL(stmt, e.SQL)
	case clause.IN:
		return p.inspectColumn(stmt, e.Column)
	case clause.Eq:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Neq:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Gt:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Gte:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Lt:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Lte:
		return p.inspectPair(stmt, e.Column, e.Value)
	case clause.Like:
		return p.inspectPair(stmt, e.Column, e.Value)
	}
	return nil
}

func (p *Plugin) inspectPair(stmt *gorm.Statement, column, value any) error {
	if other, ok := value.(clause.Column); ok {
		if err := p.inspectColumn(stmt, other); err != nil {
			return err
		}
	}
	if value == nil {
		return nil // IS NULL
	}
	return p.inspectColumn(stmt, column)
}

func (p *Plugin) inspectColumn(stmt *gorm.Statement, column any) error {
	switch column := column.(type) {
	case clause.Column:
		if column.Raw {
			return p.inspectSQL(stmt, column.Name)
		}
		if table, name, ok := cutLast(column.Name, "."); ok && column.Table == "" {
			return p.refuseSealed(stmt, table, name)
		}
		return p.refuseSealed(stmt, column.Table, column.Name)
	case []clause.Column:
		for _, c := range column {
			if err := p.inspectColumn(stmt, c); err != nil {
				return err
			}
		}
	case string:
		return p.inspectSQL(stmt, column)
	case clause.Expression:
		return p.inspectOne(stmt, column)
	}
	return nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// refuseSealed is the verdict on one column.
func (p *Plugin) refuseSealed(stmt *gorm.Statement, table, column string) error {
	m := p.modelOf(stmt, table)
	if m == nil {
		return nil
	}
	f := m.Plan.Lookup(strings.Trim(column, "`\"[]"))
	if f == nil && m.Plan.Schema != nil {
		if named := m.Plan.Schema.LookUpField(column); named != nil {
			f = m.Plan.Lookup(named.DBName)
		}
	}
	if f == nil {
		return nil
	}
	return fmt.Errorf("rowseal: query %s, column %s: %w; compare it in Go after loading, or look the row up by another column",
		m.Plan.Schema.Name, f.Column.DBName, ErrCondition)
}

// modelOf finds the model behind a table's name or alias in a statement: the statement's own, a joined relation's, or a registered
// table. An alias that is none of these may stand for the statement's own model, so it is taken for that.
func (p *Plugin) modelOf(stmt *gorm.Statement, table string) *row.Model {
	own := p.model(stmt)
	name := tableName(table)
	if name == "" || table == clause.CurrentTable || name == tableName(stmt.Table) {
		return own
	}
	if m, ok := p.tables[name]; ok {
		return m
	}
	if stmt.Schema != nil {
		if s := relation(stmt.Schema, strings.Split(table, "__")); s != nil {
			return p.models[s.ModelType]
		}
		for _, j := range stmt.Joins {
			if strings.EqualFold(j.Alias, table) {
				if s := relation(stmt.Schema, strings.Split(j.Name, ".")); s != nil {
					return p.models[s.ModelType]
				}
			}
		}
	}
	return nil
}

func relation(s *schema.Schema, names []string) *schema.Schema {
	for _, name := range names {
		rel, ok := s.Relationships.Relations[name]
		if !ok {
			return nil
		}
		s = rel.FieldSchema
	}
	return s
}

// inspectSQL looks for sealed columns among the words of SQL text. It is not a parser: it refuses a little more than it must, and what
// hides a name from it (dynamic SQL, views) is left to the database's own CHECK.
func (p *Plugin) inspectSQL(stmt *gorm.Statement, sql string) error {
	words := sqlWords(sql)
	for i, w := range words {
		if w.kind != wordName {
			continue
		}
		if isNullTest(words[i+1:]) {
			continue
		}
		if err := p.refuseSealed(stmt, w.table, w.text); err != nil {
			return err
		}
	}
	return nil
}

// isNullTest reports that a column is followed by IS NULL or IS NOT NULL.
func isNullTest(rest []word) bool {
	at := func(i int) string {
		if i < len(rest) {
			return strings.ToUpper(rest[i].text)
		}
		return ""
	}
	return at(0) == "IS" && (at(1) == "NULL" || (at(1) == "NOT" && at(2) == "NULL"))
}

type wordKind byte

const (
	wordName   wordKind = iota // an identifier or keyword, perhaps quoted
	wordSymbol                 // one character of anything else
)

type word struct {
	kind  wordKind
	table string // what stood before the dot
	text  string
}

// sqlWords splits SQL into names and symbols, leaving out strings and comments. Quoted names lose their quotes, and a qualified name
// becomes one word with its table.
func sqlWords(sql string) []word {
	var words []word
	qualify := "" // a name and a dot were read
	add := func(text string) {
		words = append(words, word{wordName, qualify, text})
		qualify = ""
	}
	loose := func() { // a name and a dot with no name behind
		if qualify != "" {
			words = append(words, word{wordName, "", qualify})
			qualify = ""
		}
	}
	r := []rune(sql)
	for i := 0; i < len(r); {
		c := r[i]
		switch {
		case unicode.IsSpace(c):
			i++
		case c == '-' && i+1 < len(r) && r[i+1] == '-':
			for i < len(r) && r[i] != '\n' {
				i++
			}
		case c == '/' && i+1 < len(r) && r[i+1] == '*':
			for i += 2; i < len(r) && !(r[i-1] == '*' && r[i] == '/'); i++ {
			}
			i++
		case c == '\'':
			i = skipQuoted(r, i, '\'')
		case c == '"' || c == '`' || c == '[':
			end := map[rune]rune{'"': '"', '`': '`', '[': ']'}[c]
			next := skipQuoted(r, i, end)
			add(strings.Trim(string(r[i:min(next, len(r))]), "`\"[]"))
			i = next
		case unicode.IsLetter(c) || c == '_':
			start := i
			for i < len(r) && (unicode.IsLetter(r[i]) || unicode.IsDigit(r[i]) || r[i] == '_' || r[i] == '$') {
				i++
			}
			add(string(r[start:i]))
		case c == '.' && len(words) > 0 && words[len(words)-1].kind == wordName:
			qualify = words[len(words)-1].text
			words = words[:len(words)-1]
			i++
		default:
			loose()
			words = append(words, word{wordSymbol, "", string(c)})
			i++
		}
	}
	loose()
	return words
}

// skipQuoted gives the position after a quoted stretch; a doubled quote does not end it.
func skipQuoted(r []rune, i int, end rune) int {
	for i++; i < len(r); i++ {
		if r[i] == end {
			if i+1 < len(r) && r[i+1] == end && end != ']' {
				i++
				continue
			}
			return i + 1
		}
	}
	return i
}

// checkRaw refuses SQL text of the application that writes sealed or key columns, or compares them.
func (p *Plugin) checkRaw(stmt *gorm.Statement) error {
	if isInside(stmt) {
		return nil
	}
	words := sqlWords(stmt.SQL.String())
	if len(words) == 0 {
		return nil
	}
	verb := strings.ToUpper(words[0].text)
	if !slices.Contains([]string{"INSERT", "UPDATE", "REPLACE", "MERGE", "WITH", "SELECT", "DELETE", "COPY", "EXPLAIN"}, verb) {
		return nil // DDL and settings name columns without touching values
	}
	var models []*row.Model
	for _, w := range words {
		if m, ok := p.tables[tableName(w.text)]; ok && w.kind == wordName && !slices.Contains(models, m) {
			models = append(models, m)
		}
	}
	writes := slices.ContainsFunc(words, func(w word) bool {
		return slices.Contains([]string{"INSERT", "UPDATE", "REPLACE", "MERGE", "COPY"}, strings.ToUpper(w.text))
	})
	for _, m := range models {
		compared, assigns := false, false
		for i, w := range words {
			switch strings.ToUpper(w.text) {
			case "SET":
				assigns = true
			case "WHERE", "FROM", "RETURNING":
				assigns = false
			}
			if assigns && w.kind == wordName && i+1 < len(words) && words[i+1].text == "=" && slices.Contains(m.Needed(), strings.ToLower(w.text)) {
				return fmt.Errorf("rowseal: raw SQL on %s, column %s: %w: rows' keys are bound to it; use db.Model(&row)", m.Plan.Schema.Name, w.text, ErrIdentity)
			}
			if slices.Contains([]string{"WHERE", "ON", "HAVING", "ORDER", "GROUP", "SET", "USING"}, strings.ToUpper(w.text)) {
				compared = true
			}
			if strings.EqualFold(w.text, "FROM") {
				compared = false // a sub-query or DELETE begins anew
			}
			if w.kind != wordName || isNullTest(words[i+1:]) {
				continue
			}
			f, g := m.Plan.Lookup(w.text), m.Plan.LookupKey(w.text)
			switch {
			case writes && (f != nil || g != nil):
				return fmt.Errorf("rowseal: raw SQL on %s, column %s: %w; write it through the model", m.Plan.Schema.Name, w.text, ErrPlaintext)
			case compared && f != nil:
				return fmt.Errorf("rowseal: raw SQL on %s, column %s: %w; look the row up by another column", m.Plan.Schema.Name, w.text, ErrCondition)
			}
		}
		if writes && hidesColumns(words) {
			return fmt.Errorf("rowseal: raw SQL on %s: %w: an INSERT without a column list may fill sealed columns; write it through the model", m.Plan.Schema.Name, ErrPlaintext)
		}
	}
	return nil
}

// hidesColumns reports an INSERT whose columns are not listed: INSERT INTO t VALUES, INSERT INTO t SELECT.
func hidesColumns(words []word) bool {
	for i, w := range words {
		if strings.EqualFold(w.text, "INTO") && i+2 < len(words) {
			return words[i+2].text != "("
		}
	}
	return false
}
