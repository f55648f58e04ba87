// gate.go owns sealing: GORM builds the clauses that carry values through here, whatever path the values took and whatever other callbacks
// did. What it cannot account for it refuses, and puts a value in its place that no driver accepts. What it sealed it tells the last
// look (look.go), which refuses every other way of writing a sealed column.

package rowseal

import (
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// gate wraps the clause builders, in front of what the dialect put there.
func (p *Plugin) gate(db *gorm.DB) {
	// Each gives what is to be built in the clause's place, nil for the clause itself.
	checks := map[string]func(clause.Clause, *gorm.Statement) (clause.Expression, error){
		"VALUES":      p.checkValues,
		"SET":         p.checkSet,
		"ON CONFLICT": p.checkConflict,
		"WHERE":       p.checkWhere,
	}
	if db.ClauseBuilders == nil {
		db.ClauseBuilders = map[string]clause.ClauseBuilder{}
	}
	for name, check := range checks {
		next := db.ClauseBuilders[name]
		db.ClauseBuilders[name] = func(c clause.Clause, b clause.Builder) {
			stmt, ok := b.(*gorm.Statement)
			if !ok {
				b.AddVar(b, row.Poison{Err: fmt.Errorf("rowseal: %s: %w: a builder that is no *gorm.Statement", name, ErrUnsupported)})
				return
			}
			instead, err := check(c, stmt)
			if instead != nil {
				c.Expression = instead
			}
			if conflict, ok := c.Expression.(clause.OnConflict); ok && err == nil {
				switch m := p.model(stmt); {
				case m == nil:
				case isMySQL(stmt.DB):
					c.Expression = onDuplicateKey(m, conflict, stmt)
				case looked(stmt, m, conflict):
					c.Expression = guard(m, conflict, stmt)
				}
			}
			if err != nil {
				// The error of a sub-query never reaches its parent, and an empty clause would let the parent run without it.
				_ = stmt.AddError(err)
				stmt.AddVar(stmt, row.Poison{Err: err})
				return
			}
			if next != nil {
				next(c, b)
			} else {
				c.Build(b)
			}
		}
	}
}

// checkValues seals the rows of an INSERT.
func (p *Plugin) checkValues(c clause.Clause, stmt *gorm.Statement) (clause.Expression, error) {
	m := p.model(stmt)
	values, ok := c.Expression.(clause.Values)
	if m == nil || !ok {
		return nil, nil
	}
	if _, prepared := kept[creation](stmt.DB); !prepared && p.typed(stmt) != nil && !stmt.DB.DryRun {
		return nil, errLost // by a hook, or by a callback before the last look's
	}
	names := make([]string, len(values.Columns))
	sealed := false
	for i, column := range values.Columns {
		if names[i] = column.Name; m.Plan.LookupIndex(column.Name) != nil {
			return nil, fmt.Errorf("rowseal: insert %s, column %s: %w", m.Plan.Schema.Name, column.Name, ErrIndexColumn)
		}
		sealed = sealed || m.Plan.Lookup(column.Name) != nil || m.Plan.LookupKey(column.Name) != nil
	}
	if l := lookOf(stmt); l != nil {
		l.inserted = m
	}
	if stmt.DB.DryRun {
		poison(values, m)
		return nil, nil
	}
	if !sealed {
		return nil, nil
	}
	columns := m.InsertColumns(names)
	for _, v := range values.Values {
		if err := columns.Check(v); err != nil {
			return nil, err
		}
	}
	if !m.Plan.HasIndexes() {
		return nil, nil
	}
	return p.indexRows(stmt, m, values)
}

// poison makes the text of a dry run, which has no keys, impossible to run.
func poison(values clause.Values, m *row.Model) {
	for i, column := range values.Columns {
		if m.Plan.Lookup(column.Name) == nil && m.Plan.LookupKey(column.Name) == nil {
			continue
		}
		for _, v := range values.Values {
			if v[i] != nil {
				v[i] = dryValue(m, column.Name)
			}
		}
	}
}

func dryValue(m *row.Model, column string) row.Poison {
	return row.Poison{Err: fmt.Errorf("rowseal: %s, column %s: %w: a dry run makes no keys, so its values are withheld", m.Plan.Schema.Name, column, ErrUnsupported)}
}

// checkSet seals the values of an UPDATE.
func (p *Plugin) checkSet(c clause.Clause, stmt *gorm.Statement) (clause.Expression, error) {
	m := p.model(stmt)
	set, ok := c.Expression.(clause.Set)
	if m == nil || !ok {
		return nil, nil
	}
	l := lookOf(stmt)
	var sealer row.Sealer
	for i, a := range set {
		name := a.Column.Name
		f, g := m.Plan.Lookup(name), m.Plan.LookupKey(name)
		switch {
		case m.Plan.LookupIndex(name) != nil:
			return nil, fmt.Errorf("rowseal: update %s, column %s: %w", m.Plan.Schema.Name, name, ErrIndexColumn)
		case f != nil && a.Value != nil:
			if by, ok := a.Value.(*byKey); ok && by.of(f) {
				if err := by.seal(); err != nil {
					return nil, err
				}
				break
			}
			v, ok := a.Value.(*row.Value)
			if !ok || v.Field() != f {
				return nil, fmt.Errorf("rowseal: update %s, column %s: %w; use db.Model(&row) with the row's primary key", m.Plan.Schema.Name, name, ErrPlaintext)
			}
			if stmt.DB.DryRun {
				set[i].Value = dryValue(m, name)
			} else if err := sealer.Seal(v); err != nil {
				return nil, err
			}
		case g != nil:
			if by, ok := a.Value.(*byKey); ok && by.group == g && by.keys != nil {
				break
			}
			if k, ok := a.Value.(*row.KeyValue); !ok || k.Group() != g || !k.Armed() {
				return nil, fmt.Errorf("rowseal: update %s, column %s: %w", m.Plan.Schema.Name, name, ErrKeyColumn)
			}
		case m.Needs(name):
			c, ok := kept[change](stmt.DB)
			if !ok || c.model != m || !c.bound(stmt, a) {
				return nil, fmt.Errorf("rowseal: update %s, column %s: %w; create the row anew under the new one, and delete this one", m.Plan.Schema.Name, name, ErrIdentity)
			}
		}
		l.admit(m, columnName(name))
	}
	if !m.Plan.HasIndexes() {
		return nil, nil
	}
	return p.indexSet(stmt, m, set)
}

// checkWhere has conditions on sealed fields look at their indexes.
func (p *Plugin) checkWhere(c clause.Clause, stmt *gorm.Statement) (clause.Expression, error) {
	w, ok := c.Expression.(clause.Where)
	if !ok || !p.searchable && !holdsEq(w.Exprs) {
		return nil, nil
	}
	whole := stmt.DB.Statement == stmt && !isSubQuery(stmt.DB)
	r, reads := kept[reading](stmt.DB)
	reads = reads && whole
	exprs, changed, err := p.searched(stmt, w.Exprs, reads && r.model != nil && r.model.Plan.HasNarrowIndexes() && p.filters(stmt), surroundings{outermost: w.Exprs})
	if err != nil || !changed {
		return nil, err
	}
	l := lookOf(stmt)
	mk, marks := kept[marked](stmt.DB)
	for _, h := range p.hunted(stmt, exprs) {
		switch {
		case reads && h.relation != "":
			seekJoined(stmt.DB, h)
		case reads && h.own && h.model == r.model:
			keep(stmt.DB, h)
		case reads: // a table that is joined by text, of which nothing is opened
		case whole && h.own && marks && mk.epoch.Returning && returning(stmt) && !stmt.DB.DryRun:
			returned(stmt, h)
		case l != nil && l.opens != noRows:
			l.sought = append(l.sought, h)
		}
	}
	return clause.Where{Exprs: exprs}, nil
}

// columnName is the bare name of a column, as a caller may have written it.
func columnName(name string) string { return tableName(name) }

func folded(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = columnName(name)
	}
	return out
}

// column is the field behind a column's name, as a caller may have written it.
func column(s *schema.Schema, name string) *schema.Field {
	if f := s.FieldsByDBName[name]; f != nil {
		return f
	}
	for _, f := range s.FieldsByDBName {
		if columnName(f.DBName) == columnName(name) {
			return f
		}
	}
	return s.LookUpField(name)
}

// checkConflict admits three kinds of upsert: one that leaves sealed and key columns alone, one by primary key that replaces all of a group
// together with its key, and one whose rows were looked up (upsert.go). In any other the row that exists would keep one of the two.
func (p *Plugin) checkConflict(c clause.Clause, stmt *gorm.Statement) (clause.Expression, error) {
	m := p.model(stmt)
	conflict, ok := c.Expression.(clause.OnConflict)
	if m == nil || !ok {
		return nil, nil
	}
	conflict = targetIndexes(m, conflict)
	if conflict.DoNothing {
		return conflict, nil
	}
	if err := checkUpdates(stmt, m, conflict); err != nil || !m.Plan.HasIndexes() {
		return nil, err
	}
	return p.indexConflict(stmt, m, conflict), nil
}

func checkUpdates(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) error {
	l := lookOf(stmt)
	updated := map[string]bool{}
	refuse := func(column string, err error, advice string) error {
		return fmt.Errorf("rowseal: upsert %s, column %s: %w; %s", m.Plan.Schema.Name, column, err, advice)
	}
	for _, a := range conflict.DoUpdates {
		name := columnName(a.Column.Name)
		if m.Plan.LookupIndex(name) != nil {
			return refuse(name, ErrIndexColumn, "leave it out of DoUpdates")
		}
		updated[name] = true
		l.admit(m, name)
		from, ok := a.Value.(clause.Column)
		ours := ok && from.Table == "excluded" && columnName(from.Name) == name
		if m.Plan.Lookup(name) == nil && m.Plan.LookupKey(name) == nil {
			if !ours && slices.Contains(folded(m.ContextColumns()), name) {
				return refuse(name, ErrContext, "the row's key is wrapped under another value; load the row, change it and save it")
			}
			continue
		}
		if !ours {
			return refuse(name, ErrPlaintext, "take the value from the row, as clause.AssignmentColumns does")
		}
	}
	known := looked(stmt, m, conflict)
	if known {
		if err := checkLooked(stmt, m, conflict); err != nil {
			return err
		}
	}
	replaced := false
	for _, g := range m.Plan.Groups {
		columns := []string{columnName(g.Column.DBName)}
		for _, f := range g.Fields {
			columns = append(columns, columnName(f.Column.DBName))
		}
		some := slices.ContainsFunc(columns, func(name string) bool { return updated[name] })
		for _, name := range append(columns, folded(m.ContextColumns())...) {
			if some && !updated[name] && !known {
				return refuse(name, ErrUnsupported, "the row that exists would keep it under another key; update all sealed columns together, as clause.OnConflict{UpdateAll: true} does")
			}
		}
		replaced = replaced || some
	}
	ids := folded(m.Plan.Schema.PrimaryFieldDBNames)
	for _, name := range folded(m.Needed()) {
		if updated[name] && (!replaced && !known || slices.Contains(ids, name)) {
			return refuse(name, ErrIdentity, "leave it out of DoUpdates")
		}
	}
	if !replaced || known {
		return nil
	}
	var target []string
	for _, column := range conflict.Columns {
		target = append(target, columnName(column.Name))
	}
	slices.Sort(target)
	if id := slices.Sorted(slices.Values(ids)); conflict.OnConstraint != "" || !slices.Equal(target, id) {
		return refuse(fmt.Sprint(target), ErrUnsupported, "the row that exists has a key of its own and is looked up by its columns; name those of the unique index in OnConflict.Columns")
	}
	return nil
}
