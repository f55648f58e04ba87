// project.go owns projections: sealed columns that a statement reads into something else than their model's own struct. It finds out of the
// finished text which column of the result is which, and adds those without which they cannot be opened.

package rowseal

import (
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/sqltext"
)

// projection is a statement whose result is opened on its way.
type projection struct {
	plugin *Plugin
	text   string
	parts  []part
	claims map[string]source // columns of the result, by name in lower case
	added  []source          // its last columns, which nobody sees
	needs  []source          // what the opening takes from the others
	marks  row.Marks
	dest   *schema.Schema // the struct that they are scanned into; nil where it is none, or not known
	reach  reach          // of its rows
	maps   bool           // they go into maps
	sealed bool           // under Sealed
	shown  *opening       // what came of it
}

// reach is which rows are opened, and when.
type reach byte

const (
	whole    reach = iota // all of them, at once
	first                 // the first one: GORM scans no more
	unstated              // the first one, and all others when they are asked for
	paged                 // page by page: the application reads them itself
)

// part is a table of the result.
type part struct {
	model *row.Model
	from  string // its name or alias
}

// pending is a use of a column that only a projection can serve.
type pending struct {
	model *row.Model
	use   sqltext.Use
}

// field finds a column whatever its case.
func (p part) field(column string) *schema.Field {
	s := p.model.Plan.Schema
	if f := s.FieldsByDBName[column]; f != nil {
		return f
	}
	for _, name := range s.DBNames {
		if strings.EqualFold(name, column) {
			return s.FieldsByDBName[name]
		}
	}
	return nil
}

// names reports that GORM would find a field by this name.
func (p part) names(name string) bool {
	return p.field(name) != nil || slices.ContainsFunc(p.model.Plan.Schema.Fields, func(f *schema.Field) bool { return strings.EqualFold(f.Name, name) })
}

// source is a column of the part.
func (p part) source(n int, f *schema.Field) source {
	return source{part: n, column: f, sealed: p.model.Plan.Lookup(f.DBName), key: p.model.Plan.LookupKey(f.DBName)}
}

// needed lists the columns without which the sealed ones among columns cannot be opened.
func (p part) needed(columns []string) []*schema.Field {
	var fields []*schema.Field
	add := func(f *schema.Field) {
		if !slices.Contains(fields, f) {
			fields = append(fields, f)
		}
	}
	for _, c := range columns {
		if f := p.model.Plan.Lookup(c); f != nil {
			add(f.Group.Column)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	s := p.model.Plan.Schema
	for _, c := range p.model.Needed() {
		add(s.FieldsByDBName[c])
	}
	if p.model.Computed() {
		for _, c := range s.DBNames {
			if p.model.Plan.Lookup(c) == nil && p.model.Plan.LookupKey(c) == nil {
				add(s.FieldsByDBName[c])
			}
		}
	}
	return fields
}

// project makes a projection of what a statement reads; nil where nothing of it is sealed.
func (l *look) project(text string, reads []pending) (*projection, error) {
	p := &projection{plugin: l.plugin, text: text, claims: map[string]source{}}
	columns := map[int][]string{}
	claim := func(n int, name string, f *schema.Field, named bool) error {
		s := p.parts[n].source(n, f)
		other, taken := p.claims[name]
		s.named = named || taken && other.named
		other.named = s.named
		if taken && other != s {
			if other.sealed == nil && other.key == nil && s.sealed == nil && s.key == nil {
				s = passedOn
			} else {
				return p.refuse(s, fmt.Sprintf("two columns of the result are called %q; give each a name of its own", name))
			}
		}
		p.claims[name] = s
		return nil
	}
	own := l.opens == byGORM && !l.raw && l.stmt.Schema != nil && destType(l.stmt.ReflectValue) == l.stmt.Schema.ModelType &&
		tableName(l.stmt.Schema.Table) == statementTable(l.stmt)
	outer := sqltext.OuterOf(text, l.lookup())
	for _, r := range reads {
		n := slices.IndexFunc(p.parts, func(q part) bool { return q.model == r.model && q.from == r.use.From })
		if n < 0 {
			n = len(p.parts)
			p.parts = append(p.parts, part{r.model, r.use.From})
		}
		of := []string{r.use.Column}
		if r.use.Kind == sqltext.Star {
			of = r.model.Plan.Schema.DBNames
		}
		for _, column := range of {
			f := p.parts[n].field(column)
			if f == nil {
				continue
			}
			s, name := p.parts[n].source(n, f), strings.ToLower(column)
			if r.use.Kind == sqltext.ReadAs {
				name = r.use.As
			}
			switch {
			case r.use.Kind == sqltext.Star && outer != nil && !outer.Alone && s.sealed == nil && s.key == nil:
				continue // the name may be another table's
			case s.sealed != nil && own:
				return nil, p.refuse(s, "saving a "+l.stmt.Schema.Name+" would store it in plaintext; read into a struct that is no model")
			case s.sealed != nil && r.use.Kind == sqltext.ReadAs && p.parts[n].names(name):
				return nil, p.refuse(s, "it would be taken for column "+name+"; give it a name that no column has")
			}
			columns[n] = append(columns[n], f.DBName)
			if err := claim(n, name, f, r.use.Kind != sqltext.Star); err != nil {
				return nil, err
			}
		}
	}
	if err := p.complete(l, outer, columns); err != nil || len(p.parts) == 0 {
		return nil, err
	}
	return p, nil
}

// complete adds the columns that are missing.
func (p *projection) complete(l *look, outer *sqltext.Outer, columns map[int][]string) error {
	var more strings.Builder
	anything := false
	for n, q := range p.parts {
		needed := q.needed(columns[n])
		anything = anything || len(needed) > 0
		var missing []string
		place := ""
		if outer != nil {
			for _, t := range outer.Tables {
				if t.As == q.from {
					place = t.Written
				}
			}
		}
		for _, f := range needed {
			found := slices.Contains(columns[n], f.DBName)
			if found && (place == "" || outer.Alone || q.model.Plan.LookupKey(f.DBName) != nil) {
				p.needs = append(p.needs, q.source(n, f))
				continue // and beside another table's columns its name may be theirs as well
			}
			if place == "" {
				missing = append(missing, f.DBName)
				continue
			}
			fmt.Fprintf(&more, ", %s.%s AS %s", place, l.stmt.Quote(clause.Column{Name: f.DBName}), addedName(len(p.added)))
			p.added = append(p.added, q.source(n, f))
		}
		for _, c := range columns[n] {
			f := q.model.Plan.Lookup(c)
			if f == nil || f.Secret {
				continue
			}
			if p.plugin.leaves(l.stmt) {
				return p.refuse(q.source(n, f.Column), "under rowseal.Sealed and Config.WriteOnly nothing is opened, and only the model's struct and a rowseal.Secret can stay sealed")
			}
			if len(missing) > 0 {
				return p.refuse(q.source(n, f.Column), "select "+strings.Join(missing, ", ")+" of the same row as well")
			}
		}
	}
	if !anything {
		p.parts = nil
		return nil
	}
	for name, s := range p.claims {
		if s.part >= 0 && s.sealed == nil && s.key == nil && !slices.ContainsFunc(p.needs, func(n source) bool { return n.part == s.part && n.column == s.column }) {
			delete(p.claims, name) // nothing depends on it
		}
	}
	if more.Len() > 0 {
		p.text = insert(p.text, outer.End, more.String())
	}
	return nil
}

// addedName is what a column is called that nobody sees.
func addedName(n int) string { return fmt.Sprint("rowseal_", n) }

func (p *projection) refuse(s source, advice string) error {
	return fmt.Errorf("rowseal: read %s, column %s: %w; %s", s.column.Schema.Name, s.column.DBName, ErrUnsupported, advice)
}

// aim tells the projection who will scan.
func (p *projection) aim(stmt *gorm.Statement, byHand bool) {
	p.sealed = p.plugin.leaves(stmt)
	if byHand {
		p.marks = row.MarkedByHand
		p.reach = paged
		if reflect.TypeOf(stmt.DB.Logger) == reflect.TypeOf(logger.Recorder.New()) {
			p.reach = unstated // Scan, which takes its own text down
		}
		return
	}
	switch stmt.Dest.(type) {
	case map[string]any, *map[string]any:
		p.maps, p.reach = true, first
		return
	case *[]map[string]any:
		p.maps = true
		return
	case *time.Time, *sql.NullInt32, *sql.NullInt64, *sql.NullFloat64, *sql.NullBool, *sql.NullString, *sql.NullTime:
		return // GORM scans every row into it
	}
	if v := reflect.Indirect(stmt.ReflectValue); v.Kind() == reflect.Struct {
		p.reach = first
	}
	dest := &gorm.Statement{DB: stmt.DB}
	if t := destType(stmt.ReflectValue); t != nil && t.Kind() == reflect.Struct && dest.Parse(reflect.New(t).Interface()) == nil {
		if len(stmt.ColumnMapping) == 0 {
			p.dest = dest.Schema
		}
		if row.PlanOf(dest.Schema) != nil {
			p.marks = row.MarkedForModel
		}
	}
}

var misfit = regexp.MustCompile(`name "([^"]*)"`)

// settle ends a projection: GORM has scanned it. GORM takes a Secret and a key, which refuse to be arguments, for nothing when it puts
// them into a map; and errors of database/sql quote the value that did not fit.
func (p *projection) settle(db *gorm.DB) {
	if p.shown == nil || len(p.parts) == 0 {
		return // the statement itself failed, or nothing was opened
	}
	if db.Error != nil {
		text := db.Error.Error()
		switch {
		case db.RowsAffected == 0:
			return // not found, or stopped before
		case p.shown.ctx.Err() != nil:
			db.Error = p.shown.ctx.Err()
			return
		case !strings.Contains(text, "sql: ") && (errors.Is(db.Error, ErrUnsupported) || errors.Is(db.Error, ErrType)):
			return // our own
		}
		var columns []string
		for _, m := range misfit.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(columns, m[1]) {
				columns = append(columns, m[1])
			}
		}
		db.Error = fmt.Errorf("rowseal: read %s: %w: what it is read into does not fit column %s (the value is left out)",
			p.parts[0].model.Plan.Schema.Name, ErrType, strings.Join(columns, ", "))
		return
	}
	if !p.maps {
		return
	}
	var maps []map[string]any
	switch dest := db.Statement.Dest.(type) {
	case map[string]any:
		maps = []map[string]any{dest}
	case *map[string]any:
		maps = []map[string]any{*dest}
	case *[]map[string]any:
		maps = (*dest)[len(*dest)-int(db.RowsAffected):]
	}
	for i, m := range maps[:min(len(maps), int(db.RowsAffected))] {
		for at, name := range p.shown.names {
			value := p.shown.page[i][at]
			switch s := p.shown.slots[at]; {
			case value == nil:
			case s.key != nil:
				var key row.MapKey
				if key.Scan(value) == nil {
					m[name], _ = key.Value()
				}
			case s.sealed != nil && s.sealed.Secret:
				m[name] = value
			}
		}
	}
}
