// ahead.go owns the keys of associated rows: GORM creates those inside the transaction of their owner, and their keys are made before it
// begins, together with the owner's, wherever the rows and their ids are known by then.

package rowseal

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// ahead is the keys that were made for the associations of one Create. GORM hands a statement's settings on to those of its associations,
// and they find it there.
type ahead struct {
	stmt   *gorm.Statement // the outermost
	groups []*aheadGroup   // by model
	ids    map[string]bool // of rows that came with one: GORM creates each once
	states map[*row.State]*aheadRow
}

type aheadGroup struct {
	insert *row.Insert
	rows   []*aheadRow
}

type aheadRow struct {
	value     reflect.Value
	insert    *row.Insert
	states    []*row.State // that it was given, by group
	allocated bool         // its id was taken from the sequence
	stored    bool
}

type aheadKey struct{}

// aheadOf gives what the outermost statement made ahead; nil for none.
func aheadOf(db *gorm.DB) *ahead {
	v, _ := db.Statement.Settings.Load(aheadKey{})
	a, _ := v.(*ahead)
	return a
}

// leads reports whether a relation of the model, or one of theirs, leads to a model with sealed fields.
func (p *Plugin) leads(s *schema.Schema) bool {
	if known, ok := p.leading.Load(s); ok {
		return known.(bool)
	}
	seen := map[*schema.Schema]bool{}
	var search func(s *schema.Schema) bool
	search = func(s *schema.Schema) bool {
		seen[s] = true
		for _, rel := range s.Relationships.Relations {
			if to := rel.FieldSchema; to != nil && (p.models[to.ModelType] != nil || !seen[to] && search(to)) {
				return true
			}
		}
		return false
	}
	found := search(s)
	p.leading.Store(s, found)
	return found
}

// lookAhead finds the new rows among the associations of a statement's rows, and gives them their ids where it can.
func (p *Plugin) lookAhead(db *gorm.DB) (*ahead, error) {
	stmt := db.Statement
	if stmt.Schema == nil || p.typed(stmt) == nil && !p.leads(stmt.Schema) {
		return nil, nil // its settings are left alone, as those of [bare] statements are
	}
	if a := aheadOf(db); a != nil {
		if a.stmt != stmt {
			return a, nil // inside another
		}
		stmt.Settings.Delete(aheadKey{}) // left over by a panic
	}
	if !p.leads(stmt.Schema) {
		return nil, nil
	}
	owners := structs(stmt.ReflectValue, stmt.Schema.ModelType)
	if len(owners) == 0 || !owners[0].CanAddr() {
		return nil, nil
	}
	a := &ahead{stmt: stmt, ids: map[string]bool{}, states: map[*row.State]*aheadRow{}}
	seen := map[any]bool{}
	for _, v := range owners {
		seen[v.Addr().Interface()] = true
	}
	selected, restricted := stmt.SelectAndOmitColumns(true, false)
	saved := func(rel *schema.Relationship) bool {
		v, ok := selected[rel.Name]
		rows, known := selected[rel.Name+".*"]
		return (ok && v || !ok && !restricted) && (!known || rows)
	}
	p.walk(stmt.Context, a, stmt.Schema, owners, saved, seen, len(selected) == 0 && !restricted)
	if len(a.groups) == 0 {
		return nil, nil
	}
	for _, g := range a.groups {
		if err := p.allocateAhead(db, g); err != nil {
			return nil, err
		}
	}
	stmt.Settings.Store(aheadKey{}, a)
	return a, nil
}

// walk collects the rows that GORM will create for the owners' relations, each once. Below the first relations it goes only where nothing
// was selected or omitted.
func (p *Plugin) walk(ctx context.Context, a *ahead, s *schema.Schema, owners []reflect.Value, saved func(*schema.Relationship) bool, seen map[any]bool, deep bool) {
	for _, rels := range [][]*schema.Relationship{s.Relationships.BelongsTo, s.Relationships.HasOne, s.Relationships.HasMany, s.Relationships.Many2Many} {
		for _, rel := range rels {
			to := rel.FieldSchema
			m := p.models[to.ModelType]
			if !saved(rel) || m == nil && !(deep && p.leads(to)) {
				continue
			}
			var found []reflect.Value
			for _, owner := range owners {
				if _, zero := rel.Field.ValueOf(ctx, owner); zero {
					continue
				}
				for _, v := range structs(rel.Field.ReflectValueOf(ctx, owner), to.ModelType) {
					if v.CanAddr() && !seen[v.Addr().Interface()] {
						seen[v.Addr().Interface()] = true
						found = append(found, v)
					}
				}
			}
			if m != nil && !m.Computed() && !moves(rel, m) {
				for _, v := range found {
					a.add(ctx, m, v)
				}
			}
			if deep && len(found) > 0 && p.leads(to) {
				p.walk(ctx, a, to, found, saved, seen, deep)
			}
		}
	}
}

// moves reports that saving the relation writes what the keys of its rows are bound to.
func moves(rel *schema.Relationship, m *row.Model) bool {
	return slices.ContainsFunc(rel.References, func(ref *schema.Reference) bool {
		return ref.ForeignKey.Schema.ModelType == m.Plan.Schema.ModelType && slices.Contains(m.Needed(), ref.ForeignKey.DBName)
	})
}

// add notes a row that has no key yet. One that was loaded or created before has one, and the context of another may be its owner's hooks'
// to set.
func (a *ahead) add(ctx context.Context, m *row.Model, v reflect.Value) {
	for _, name := range m.ContextColumns() {
		if _, zero := m.Plan.Schema.LookUpField(name).ValueOf(ctx, v); zero {
			return
		}
	}
	for _, g := range m.Plan.Groups {
		if g.State(v) != nil {
			return
		}
	}
	if id, known := m.Identity(v); known {
		id = m.Name + "\x00" + id
		if a.ids[id] {
			return
		}
		a.ids[id] = true
	}
	i := slices.IndexFunc(a.groups, func(g *aheadGroup) bool { return g.insert.Model == m })
	if i < 0 {
		i = len(a.groups)
		a.groups = append(a.groups, &aheadGroup{insert: &row.Insert{Model: m}})
	}
	a.groups[i].rows = append(a.groups[i].rows, &aheadRow{value: v, insert: a.groups[i].insert})
}

// allocateAhead takes ids from the sequence. Where GORM reads more than the id back from the INSERT, it must not find ids in place: it
// passes over such rows where conflicts are ignored.
func (p *Plugin) allocateAhead(db *gorm.DB, g *aheadGroup) error {
	m := g.insert.Model
	if !m.NeedsID() || len(m.Plan.Schema.FieldsWithDefaultDBValue) != 1 {
		return nil
	}
	var values []reflect.Value
	for _, r := range g.rows {
		if !m.Identified(r.value) {
			r.allocated = true
			values = append(values, r.value)
		}
	}
	taken, err := p.allocate(db, m, db.Statement.Quote(m.Plan.Schema.Table), values)
	for _, r := range g.rows {
		r.allocated = r.allocated && taken
	}
	return err
}

// batches are the rows whose keys are made ahead.
func (a *ahead) batches() (out []row.Batch) {
	for _, g := range a.groups {
		b := row.Batch{Insert: g.insert}
		for _, r := range g.rows {
			b.Values = append(b.Values, r.value)
		}
		out = append(out, b)
	}
	return out
}

// learn notes the states of the rows: hooks may copy the structs.
func (a *ahead) learn() {
	for _, made := range a.groups {
		for _, r := range made.rows {
			for _, g := range made.insert.Model.Plan.Groups {
				s := g.State(r.value)
				r.states = append(r.states, s)
				if s != nil {
					a.states[s] = r
				}
			}
		}
	}
}

// of gives what was made ahead for the row in v; nil for nothing.
func (a *ahead) of(m *row.Model, v reflect.Value) *aheadRow {
	if a == nil {
		return nil
	}
	for _, g := range m.Plan.Groups {
		if s := g.State(v); s != nil && a.states[s] != nil {
			return a.states[s]
		}
	}
	return nil
}

// insertOf gives the Insert that made keys of a model ahead; nil for none.
func (a *ahead) insertOf(m *row.Model) *row.Insert {
	if a == nil {
		return nil
	}
	for _, g := range a.groups {
		if g.insert.Model == m {
			return g.insert
		}
	}
	return nil
}

// settleAhead notes which of the rows were stored. Where conflicts are ignored, a row with an id of ours may have been passed over: it
// gets back what it came with.
func (c *creation) settleAhead(db *gorm.DB) error {
	var rows []*aheadRow
	for i, v := range c.values {
		if r := c.ahead[i]; r != nil {
			r.stored = true
			if r.allocated && conflictsIgnored(db.Statement) {
				r.value = v
				rows = append(rows, r)
			}
		}
	}
	m := c.insert.Model
	for page := range slices.Chunk(rows, settleBatch) {
		look := &creation{insert: c.insert}
		for _, r := range page {
			look.values = append(look.values, r.value)
		}
		stored, err := storedKeys(db.Statement, look, m.Plan.Groups, 0, look.values)
		if err != nil {
			return fmt.Errorf("rowseal: create %s: read the keys: %w", m.Plan.Schema.Name, err)
		}
		for _, r := range page {
			id, _ := m.Identity(r.value)
			texts := stored[id]
			for pos, g := range m.Plan.Groups {
				if texts == nil || g.State(r.value).Text() != texts[pos] {
					r.giveBack()
					break
				}
			}
		}
	}
	return nil
}

// giveBack takes from the row what was made ahead. A row that got another key since was stored by somebody else.
func (r *aheadRow) giveBack() {
	m := r.insert.Model
	for pos, s := range r.states {
		if m.Plan.Groups[pos].State(r.value) != s {
			return
		}
	}
	for _, g := range m.Plan.Groups {
		g.SetState(r.value, nil)
	}
	if r.allocated {
		m.Plan.Schema.PrioritizedPrimaryField.ReflectValueOf(context.Background(), r.value).SetZero()
	}
	r.stored = false
}

// finishAhead runs last. Rows that were not stored are given back as they came.
func (p *Plugin) finishAhead(db *gorm.DB) {
	if db.Statement.Schema == nil || !p.leads(db.Statement.Schema) {
		return
	}
	a := aheadOf(db)
	if a == nil || a.stmt != db.Statement {
		return
	}
	db.Statement.Settings.Delete(aheadKey{})
	for _, g := range a.groups {
		for _, r := range g.rows {
			if db.Error != nil || !r.stored {
				r.giveBack()
			}
		}
	}
}
