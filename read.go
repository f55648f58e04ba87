// read.go owns results that come into their model's own struct: what must be selected so that rows can be opened, and opening them.

package rowseal

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/sqltext"
)

// reading is one query while it runs.
type reading struct {
	marked
	model   *row.Model
	selects []string
	omits   []string
	mapping map[string]string
}

func (p *Plugin) beforeQuery(db *gorm.DB) {
	stmt := db.Statement
	drop(db)
	unmap(stmt)
	if p.searchJoins(db); db.Error != nil {
		return
	}
	m := p.typed(stmt)
	if m == nil || destType(stmt.ReflectValue) != m.Plan.Schema.ModelType {
		if p.joinsSealed(stmt) && destType(stmt.ReflectValue) == stmt.Schema.ModelType {
			r := &reading{}
			keep(db, r)
			r.begin(db, false)
			p.extendJoins(stmt)
		}
		return
	}
	for from, to := range stmt.ColumnMapping {
		if m.Plan.Lookup(from) != nil || m.Plan.Lookup(to) != nil {
			fail(db, "read", m, ErrUnsupported, "; MapColumns cannot name a sealed column")
			return
		}
	}
	r := &reading{model: m, selects: stmt.Selects, omits: stmt.Omits, mapping: stmt.ColumnMapping}
	keep(db, r)
	if stmt.SQL.Len() == 0 && !isSubQuery(db) {
		extendSelects(stmt, m)
		p.extendJoins(stmt)
	}
	r.begin(db, false)
}

// unmap takes out the plugin's own ColumnMapping that a panic left, or that was copied from a statement while it ran.
func unmap(stmt *gorm.Statement) {
	if row.IsOwn(stmt.ColumnMapping) {
		stmt.ColumnMapping = nil
	}
}

// destType is the struct that rows are scanned into.
func destType(v reflect.Value) reflect.Type {
	if !v.IsValid() {
		return nil
	}
	if v.Kind() == reflect.Interface {
		v = reflect.Indirect(v.Elem())
	}
	if !v.IsValid() {
		return nil
	}
	t := v.Type()
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// extendSelects adds the columns without which a row can neither be opened nor safely saved: its keys, its primary key and its
// context. Where that would change the result (DISTINCT, GROUP BY, functions) it adds nothing, and what then does not open is an
// error.
func extendSelects(stmt *gorm.Statement, m *row.Model) {
	if len(stmt.Selects) == 0 && len(stmt.Omits) == 0 {
		return
	}
	needed := m.Needed()
	for _, g := range m.Plan.Groups {
		needed = append(needed, g.Column.DBName)
	}
	stmt.Omits = slices.DeleteFunc(slices.Clone(stmt.Omits), func(name string) bool { return slices.Contains(needed, columnOf(stmt, name)) })
	_, grouped := stmt.Clauses["GROUP BY"]
	if len(stmt.Selects) == 0 || stmt.Distinct || grouped {
		return
	}
	var names []string
	for _, s := range stmt.Selects {
		for part := range strings.SplitSeq(s, ",") {
			part = strings.TrimSpace(part)
			if strings.Contains(part, "*") || strings.ContainsAny(part, "()") {
				return
			}
			names = append(names, columnOf(stmt, part))
		}
	}
	stmt.Selects = slices.Clone(stmt.Selects)
	for _, name := range needed {
		if !slices.Contains(names, name) {
			stmt.Selects = append(stmt.Selects, name)
		}
	}
}

// extend does the same for a text of the application's own, where its result is rows of one table and stays so.
func (l *look) extend(text string) string {
	from := l.loads[0].From
	var names []string
	for _, u := range l.loads {
		if u.Kind == sqltext.Star || u.From != from {
			return text
		}
		if u.Kind == sqltext.Read {
			names = append(names, u.Column)
		}
	}
	outer := sqltext.OuterOf(text, l.lookup())
	if outer == nil {
		return text
	}
	i := slices.IndexFunc(outer.Tables, func(t sqltext.Place) bool { return t.As == from })
	if i < 0 {
		return text
	}
	needed := l.dest.Needed()
	for _, g := range l.dest.Plan.Groups {
		needed = append(needed, g.Column.DBName)
	}
	var more strings.Builder
	for _, name := range needed {
		if !slices.Contains(names, strings.ToLower(name)) {
			more.WriteString(", " + outer.Tables[i].Written + "." + l.stmt.Quote(clause.Column{Name: name}))
		}
	}
	return insert(text, outer.End, more.String())
}

// insert puts more columns at the end of a select list.
func insert(text string, end int, more string) string {
	if more == "" {
		return text
	}
	return strings.TrimRight(text[:end], " ") + more + " " + text[end:]
}

// extendJoins does the same for relations that are joined with a select list of their own.
func (p *Plugin) extendJoins(stmt *gorm.Statement) {
	if stmt.Schema == nil {
		return
	}
	for i, j := range stmt.Joins {
		s := relation(stmt.Schema, strings.Split(j.Name, "."))
		if s == nil {
			continue
		}
		m := p.models[s.ModelType]
		if m == nil {
			continue
		}
		joined := &gorm.Statement{DB: stmt.DB, Schema: s, Selects: j.Selects, Omits: j.Omits, Clauses: map[string]clause.Clause{}}
		extendSelects(joined, m)
		stmt.Joins[i].Selects, stmt.Joins[i].Omits = joined.Selects, joined.Omits
	}
}

// beforeRow stands before statements whose rows the application scans.
func (p *Plugin) beforeRow(db *gorm.DB) {
	drop(db)
	p.searchJoins(db)
}

// searchJoins has the conditions of joined relations look at indexes: GORM builds them past its clause builders.
func (p *Plugin) searchJoins(db *gorm.DB) {
	stmt := db.Statement
	if db.Error != nil || stmt.Schema == nil {
		return
	}
	for i, j := range stmt.Joins {
		if j.On == nil || j.Expression != nil || !p.searchable && !holdsEq(j.On.Exprs) {
			continue // before anything is made for it, which costs other models' statements
		}
		names := strings.Split(j.Name, ".")
		s := relation(stmt.Schema, names)
		if s == nil || p.models[s.ModelType] == nil && !holdsEq(j.On.Exprs) {
			continue
		}
		joined := &gorm.Statement{DB: db, Schema: s, Table: aliasOf(names, j.Alias, true), TableExpr: &clause.Expr{SQL: stmt.Quote(s.Table)},
			Context: stmt.Context, ConnPool: stmt.ConnPool, Clauses: map[string]clause.Clause{}}
		exprs, changed, err := p.searched(joined, j.On.Exprs, false, surroundings{outermost: j.On.Exprs})
		switch {
		case err != nil:
			_ = db.AddError(err)
			continue
		case changed:
			stmt.Joins[i].On = &clause.Where{Exprs: exprs}
		default:
			exprs = j.On.Exprs // which may be changed already, in a statement that runs again
		}
		for _, h := range p.hunted(joined, exprs) {
			if h.own { // of another table a row without the relation need not meet it
				h.relation = j.Name
				seekJoined(db, h)
			}
		}
	}
}

// relation follows the names of relations from a model.
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

func (p *Plugin) joinsSealed(stmt *gorm.Statement) bool {
	return joinsAny(stmt, func(s *schema.Schema) bool { return p.models[s.ModelType] != nil })
}

// joinsAny reports whether a relation that is joined, or one on the way to it, is of such a model.
func joinsAny(stmt *gorm.Statement, such func(*schema.Schema) bool) bool {
	if stmt.Schema == nil {
		return false
	}
	for _, j := range stmt.Joins {
		s := stmt.Schema
		for name := range strings.SplitSeq(j.Name, ".") {
			rel, ok := s.Relationships.Relations[name]
			if !ok {
				break
			}
			if s = rel.FieldSchema; such(s) {
				return true
			}
		}
	}
	return false
}

func (p *Plugin) afterQuery(db *gorm.DB) {
	defer drop(db)
	r, ok := kept[reading](db)
	if !ok {
		return
	}
	forget[reading](db)
	epoch := r.end(db)
	stmt := db.Statement
	if r.model != nil {
		stmt.Selects, stmt.Omits, stmt.ColumnMapping = r.selects, r.omits, r.mapping
	}
	if epoch == nil || db.Error != nil || db.DryRun {
		return
	}
	if p.leaves(stmt) {
		p.eachTarget(stmt, epoch.LeaveRow)
		_ = db.AddError(epoch.End())
		return
	}
	p.eachTarget(stmt, epoch.Claim)
	if err := p.open(stmt, epoch); err != nil {
		_ = db.AddError(err)
		return
	}
	if err := p.confirmJoins(db); err != nil || r.model == nil {
		_ = db.AddError(err)
		return
	}
	_ = db.AddError(p.confirm(db, r.model, math.MaxInt))
}

// reveal opens what a statement scanned, or leaves it sealed.
func (p *Plugin) reveal(stmt *gorm.Statement, epoch *row.Epoch, leave bool, targets []row.Target) error {
	if leave {
		return epoch.Leave(targets)
	}
	for _, t := range targets {
		epoch.Claim(t)
	}
	return p.open(stmt, epoch)
}

// open opens what was claimed of it.
func (p *Plugin) open(stmt *gorm.Statement, epoch *row.Epoch) error {
	ctx := stmt.Context
	if epoch.Claimed() {
		ctx = lend(ctx, stmt)
	}
	return epoch.Open(ctx, p.config.MaxCalls)
}

// leaves reports a statement under Sealed, or a program that opens nothing.
func (p *Plugin) leaves(stmt *gorm.Statement) bool {
	leave, ok := stmt.Settings.Load(sealedSetting)
	return p.config.WriteOnly || ok && leave == true
}

const sealedSetting = "rowseal:sealed"

// Sealed is a session that reads rows without opening them: no call to the key service, no decryption. It serves lists that show no
// sealed field, and programs without the permission to decrypt. It stands before a query, or in its scopes, and holds for its preloads
// and joins as well:
//
//	rowseal.Sealed(db).Find(&patients)
//	db.Scopes(rowseal.Sealed).Find(&patients)
//
// A destination other than the model's struct is refused, unless all it reads of sealed columns are Secrets. In the model's struct the
// sealed fields have their zero values, which overwrite nothing when such a row is saved; [Open] opens them later. Preloaded and joined
// rows want an Open of their own, and until then their owner is saved with Omit(clause.Associations): GORM would insert them.
func Sealed(db *gorm.DB) *gorm.DB { return db.Set(sealedSetting, true) }

// targets lists the rows of a result, joined relations included.
func (p *Plugin) targets(stmt *gorm.Statement) []row.Target {
	out := make([]row.Target, 0, room(stmt.ReflectValue))
	p.eachTarget(stmt, func(t row.Target) { out = append(out, t) })
	return out
}

func (p *Plugin) eachTarget(stmt *gorm.Statement, do func(row.Target)) {
	t := stmt.Schema.ModelType
	m := p.models[t]
	eachStruct(stmt.ReflectValue, t, func(v reflect.Value) {
		if m != nil {
			do(row.Target{Model: m, Value: v})
		}
		for _, j := range stmt.Joins {
			s, at := stmt.Schema, v
			for name := range strings.SplitSeq(j.Name, ".") {
				rel, ok := s.Relationships.Relations[name]
				if !ok {
					break
				}
				if at, ok = row.Related(at, rel.Field); !ok {
					break
				}
				s = rel.FieldSchema
				if joined := p.models[s.ModelType]; joined != nil {
					do(row.Target{Model: joined, Value: at})
				}
			}
		}
	})
}

// beforeDelete and afterDelete open what DELETE … RETURNING gives back.
func (p *Plugin) beforeDelete(db *gorm.DB) {
	drop(db)
	if db.Error == nil && p.typed(db.Statement) != nil {
		mark(db, true)
	}
}

func (p *Plugin) afterDelete(db *gorm.DB) {
	defer drop(db)
	epoch := unmark(db)
	if epoch == nil || db.Error != nil || db.DryRun {
		return
	}
	if err := p.reveal(db.Statement, epoch, p.config.WriteOnly, p.targets(db.Statement)); err != nil || p.config.WriteOnly {
		_ = db.AddError(err)
		return
	}
	_ = db.AddError(p.confirmReturned(db, p.typed(db.Statement)))
}

// Open opens what is still sealed in rows that were read before: their [Secret] fields, and all sealed fields of rows read under [Sealed].
// rows is a pointer to a row, or a slice of rows. It makes one call to the key service for each key that is needed, several at a time.
// A field that was set since the row was read is left alone. Rows that do not open are listed in the error, an [*OpenError]; all others
// are open.
func Open(ctx context.Context, db *gorm.DB, rows any) error {
	p, ok := db.Plugins[row.PluginName].(*Plugin)
	if !ok {
		return fmt.Errorf("rowseal: open %T: %w; call db.Use(plugin) first", rows, ErrNoPlugin)
	}
	v := reflect.ValueOf(rows)
	t := destType(v)
	m := p.models[t]
	if m == nil {
		return fmt.Errorf("rowseal: open %T: %w: it is not registered; add it to rowseal.Config.Models", rows, ErrModel)
	}
	var targets []row.Target
	for _, r := range structs(v, t) {
		if !r.CanAddr() {
			return fmt.Errorf("rowseal: open %T: %w; pass a pointer", rows, ErrUnsupported)
		}
		targets = append(targets, row.Target{Model: m, Value: r})
	}
	return row.OpenLater(ctx, p.config.MaxCalls, targets)
}
