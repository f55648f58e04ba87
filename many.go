// many.go owns updates of many rows at once, where each row is sealed under its own key:
//
//   - The keys of all rows are read without a lock, and unwrapped, before the first row is written.
//   - Each UPDATE gives every row of a page the ciphertext for the key that it has at that moment: CASE key column WHEN key THEN
//     ciphertext. A row with another key is not met.
//   - A row whose key another writer changed meanwhile is read again, and has a page with others like it.

package rowseal

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/sqltext"
	"github.com/rowseal/rowseal/kmskey"
)

// many is one update of many rows while it runs.
type many struct {
	change *change
	groups []*row.Group // with values in the SET
	fresh  []bool       // by group: all of it is written, under a new key for each row
	set    clause.Set
	where  []clause.Expression // the application's

	pages    [][]*member
	only     []clause.Expression // the condition that only the rows of the current page meet
	begun    bool
	held     bool // behind a savepoint
	affected int64
	given    reflect.Value      // the slice that RETURNING fills, as it came
	returned reflect.Value      // what it gave, of all pages
	done     map[string]*member // written, by id
}

// member is one row of it.
type member struct {
	id    string
	value reflect.Value // with its primary key and context
	keys  []memberKey   // by group
	tries int           // how often another writer was faster
}

// memberKey is one of its keys.
type memberKey struct {
	text string     // the key column, "" for NULL
	next *row.State // what the row is sealed under
	made bool       // next is a new key, to be stored
}

// spread finds the rows that the statement would change, and their keys.
func (c *change) spread(stmt *gorm.Statement, touched []*row.Group, limit int) error {
	m := c.model
	where, _ := stmt.Clauses["WHERE"].Expression.(clause.Where)
	if len(where.Exprs) == 0 && !stmt.AllowGlobalUpdate {
		return gorm.ErrMissingWhereClause // the conditions on keys would hide it from GORM
	}
	if limit < 0 {
		return fmt.Errorf("rowseal: update %s: %w: it would write %s of many rows, and Config.MaxRows forbids it; name one row, as in db.Model(&%s{ID: id})",
			m.Plan.Schema.Name, ErrUnsupported, strings.Join(c.columns(), ", "), m.Plan.Schema.Name)
	}
	if _, from := stmt.Clauses["FROM"]; from || len(stmt.Joins) > 0 || joinsTables(stmt) {
		return fmt.Errorf("rowseal: update %s: %w: it writes %s by a join; put the other table into a sub-query of Where", m.Plan.Schema.Name, ErrUnsupported, strings.Join(c.columns(), ", "))
	}
	if returning(stmt) && isList(stmt.ReflectValue) && (stmt.ReflectValue.Kind() == reflect.Array || !stmt.ReflectValue.CanSet()) {
		return fmt.Errorf("rowseal: update %s: %w: RETURNING gives rows in any order; pass a pointer to a slice", m.Plan.Schema.Name, ErrUnsupported)
	}
	a := &many{change: c, groups: touched, set: c.set, where: where.Exprs, done: map[string]*member{}}
	for _, g := range touched {
		if err := c.refuseForeign(g, nil); err != nil {
			return err
		}
		a.fresh = append(a.fresh, c.count(g) == len(g.Fields) && c.contextGiven())
	}
	rows, err := a.read(stmt, nil, limit)
	if err == nil && len(rows) > limit {
		err = fmt.Errorf("%w: it would write %s of more than %d rows, whose keys are all opened first; do it in batches, or raise Config.MaxRows", ErrUnsupported, strings.Join(c.columns(), ", "), limit)
	}
	if err == nil {
		err = a.keepIDs(stmt, rows)
	}
	if err == nil {
		err = a.open(stmt, rows, nil)
	}
	if err == nil {
		a.pages = a.paginate(rows)
		if len(a.pages) > 1 && !inTransaction(stmt) {
			err = fmt.Errorf("%w: it takes %d statements for %d rows, and SkipDefaultTransaction is on; run it in db.Transaction", ErrUnsupported, len(a.pages), len(rows))
		}
		if err == nil && len(a.pages) > 1 && a.rereads(stmt) {
			err = fmt.Errorf("%w: it takes %d statements for %d rows, and a sub-query on its own table would see what those before have written; read the primary keys or the value first, and update by them", ErrUnsupported, len(a.pages), len(rows))
		}
	}
	if err == nil && len(a.pages) > 1 {
		err = a.hold(stmt)
	}
	if err != nil {
		return fmt.Errorf("rowseal: update %s: %w", m.Plan.Schema.Name, err)
	}
	c.many = a
	return a.next(stmt)
}

// keepIDs takes a primary key out of the SET that the rows have already. GORM puts it there from a struct that is not the statement's model,
// as in db.Model(&Patient{}).Where("id = ?", 7).Updates(patient).
func (a *many) keepIDs(stmt *gorm.Statement, rows []*member) error {
	m := a.change.model
	var set clause.Set
	for _, as := range a.set {
		f := column(stmt.Schema, as.Column.Name)
		if f == nil || !f.PrimaryKey {
			set = append(set, as)
			continue
		}
		given := reflect.New(m.Plan.Schema.ModelType).Elem()
		if f.Set(stmt.Context, given, as.Value) != nil || slices.ContainsFunc(rows, func(r *member) bool { return !m.SameColumn(f, given, r.value) }) {
			return fmt.Errorf("column %s: %w: the update would give rows another; leave it out", f.DBName, ErrIdentity)
		}
	}
	a.set = set
	return nil
}

// joinsTables reports Table("a JOIN b …") and Table("a, b"), by which MySQL updates a join: a row would be met several times.
func joinsTables(stmt *gorm.Statement) bool {
	return stmt.TableExpr != nil && (len(strings.Fields(stmt.TableExpr.SQL)) > 3 || strings.Contains(stmt.TableExpr.SQL, ",")) // name AS alias
}

// read gives the rows that the statement meets, in the order of their primary keys, which all such updates lock them in; one more than
// limit, if there are so many. again looks only for these, as they are now.
func (a *many) read(stmt *gorm.Statement, again []*member, limit int) (rows []*member, err error) {
	m, s := a.change.model, a.change.model.Plan.Schema
	tx := stmt.DB.Session(&gorm.Session{NewDB: true, Context: stmt.Context, SkipHooks: true}) // not [inside]: the condition is looked at
	tx = tx.Model(reflect.New(s.ModelType).Interface())
	tx.Statement.Table, tx.Statement.TableExpr, tx.Statement.Unscoped = stmt.Table, stmt.TableExpr, stmt.Unscoped
	tx.Statement.Selects = keyColumns(m, a.groups)
	if where := a.where; len(where) > 0 {
		tx.Statement.AddClause(clause.Where{Exprs: []clause.Expression{bracketed{clause.Where{Exprs: where}}}})
	}
	limited := false
	for _, name := range []string{"ORDER BY", "LIMIT"} { // where the dialect's UPDATE takes them
		if part, given := stmt.Clauses[name]; given && slices.Contains(stmt.BuildClauses, name) {
			tx.Statement.Clauses[name] = part
			limited = limited || name == "LIMIT"
		}
	}
	if again != nil {
		tx.Statement.AddClause(clause.Where{Exprs: []clause.Expression{a.named(stmt, again)}})
		if isMySQL(stmt.DB) {
			tx.Statement.AddClause(clause.Locking{Strength: clause.LockingStrengthUpdate})
		}
	}
	if _, ordered := tx.Statement.Clauses["ORDER BY"]; !ordered {
		for _, f := range s.PrimaryFields {
			tx = tx.Order(clause.OrderByColumn{Column: clause.Column{Table: clause.CurrentTable, Name: f.DBName}})
		}
	}
	if !limited {
		tx = tx.Limit(limit + 1)
	}
	found, err := tx.Rows()
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		k, err := scanKeys(stmt.Context, found, m, a.groups)
		if err != nil {
			return nil, err
		}
		r := &member{value: k.value}
		var ok bool
		if r.id, ok = m.Identity(k.value); !ok {
			return nil, fmt.Errorf("%w, and a row without one was met", ErrIdentity)
		}
		for _, text := range k.texts {
			r.keys = append(r.keys, memberKey{text: text})
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return rows, found.Close()
}

// open gives every row the state that it is sealed under: what a loaded row of the statement holds, what the row was found with before, or
// the key that was just read.
func (a *many) open(stmt *gorm.Statement, rows []*member, before map[string]*member) error {
	m := a.change.model
	loaded := map[string]reflect.Value{}
	for _, v := range structs(stmt.ReflectValue, m.Plan.Schema.ModelType) {
		if id, ok := m.Identity(v); ok {
			loaded[id] = v
		}
	}
	n := len(a.groups)
	errs := m.Parallel(lend(stmt.Context, stmt), len(rows)*n, func(ctx context.Context, i int) (err error) {
		r, at := rows[i/n], i%n
		g, k := a.groups[at], &r.keys[at]
		var known *row.State
		if v, ok := loaded[r.id]; ok && g.State(v).Serves(m, r.id) {
			known = g.State(v).Clone()
		}
		if old := before[r.id]; old != nil && !old.keys[at].made {
			known = old.keys[at].next
		}
		switch damaged := buried(k.text); {
		case damaged != nil && !kmskey.IsTombstone(k.text):
			err = fmt.Errorf("rowseal: key %s of %s: %w", g.Column.DBName, m.Describe(r.value), damaged)
		case damaged != nil:
			err = fmt.Errorf("rowseal: key %s of %s: %w; leave such rows out by db.Scopes(rowseal.NotShredded)", g.Column.DBName, m.Describe(r.value), ErrShredded)
		case k.text == "" || a.fresh[at]:
			k.made = true
			k.next, err = m.Fresh(ctx, g, r.value)
		case m.WriteOnly():
			err = fmt.Errorf("rowseal: key %s of %s: %w; load the rows and save each, or write all sealed columns of the key at once", g.Column.DBName, m.Describe(r.value), ErrWriteOnly)
		case known != nil && known.Text() == k.text:
			k.next, err = known, m.Ready(ctx, known, r.value)
		default:
			k.next, err = m.Stored(ctx, g, r.value, k.text)
			if err == nil && known != nil {
				k.next.Keep(known)
			}
		}
		return err
	})
	return row.Summary(fmt.Sprintf("keys of %d rows", len(rows)), errs)
}

// rereads reports that the application's condition, or an expression that it assigns, has a query on the table itself: one statement does not
// see what it writes, several do.
func (a *many) rereads(stmt *gorm.Statement) bool {
	text := &gorm.Statement{DB: stmt.DB, Context: stmt.Context, Schema: stmt.Schema, Table: stmt.Table, TableExpr: stmt.TableExpr, Clauses: map[string]clause.Clause{}}
	clause.Where{Exprs: slices.Clone(a.where)}.Build(text)
	for _, as := range a.set {
		if _, sealed := as.Value.(*row.Value); !sealed {
			_ = text.WriteByte(' ')
			text.AddVar(text, as.Value)
		}
	}
	return sqltext.Queries(text.SQL.String(), tableName(a.change.model.Plan.Schema.Table)) || sqltext.Queries(text.SQL.String(), statementTable(stmt))
}

// paginate makes pages of rows that one statement can write. A row without a key has a page of its own: there is no key to find it by.
func (a *many) paginate(rows []*member) (pages [][]*member) {
	vars := len(a.change.model.Plan.Schema.PrimaryFields) + len(a.groups)
	for _, as := range a.set {
		if v, sealed := as.Value.(*row.Value); sealed && !v.Null() {
			vars += 2
			for _, x := range v.Field().Indexes {
				if x.Tenant {
					vars += 2
				}
			}
		}
	}
	for _, fresh := range a.fresh {
		if fresh {
			vars += 2
		}
	}
	size := max(1, maxVars/vars)
	var page []*member
	for _, r := range rows {
		if slices.ContainsFunc(r.keys, func(k memberKey) bool { return k.text == "" }) {
			pages = append(pages, []*member{r})
			continue
		}
		if page = append(page, r); len(page) == size {
			pages, page = append(pages, page), nil
		}
	}
	if len(page) > 0 {
		pages = append(pages, page)
	}
	return pages
}

// maxVars keeps a statement below the smallest limit of bind values: 999 in old SQLite, 65,535 in Postgres and MySQL.
const maxVars = 900

// next makes the statement the one for the first page that is left.
func (a *many) next(stmt *gorm.Statement) error {
	c := a.change
	if len(a.pages) == 0 {
		// It must meet no row. Sealed under a key that is thrown away it does no harm if it is logged.
		idle := &member{}
		for _, g := range a.groups {
			s, err := c.model.Idle(g)
			if err != nil {
				return err
			}
			idle.keys = append(idle.keys, memberKey{next: s})
		}
		c.set = a.assignments([]*member{idle})
		a.only = []clause.Expression{clause.Expr{SQL: "1 = 0"}}
	} else {
		page := a.pages[0]
		c.set = a.assignments(page)
		a.only = []clause.Expression{a.named(stmt, page)}
		for at, g := range a.groups {
			a.only = append(a.only, a.keyed(stmt, g, at, page))
		}
	}
	stmt.AddClause(c.set)
	if a.returns(stmt) {
		if !a.given.IsValid() {
			a.given = reflect.ValueOf(stmt.ReflectValue.Interface())
		}
		stmt.ReflectValue.SetZero() // GORM would put the rows into those that are there, in any order
	}
	if !a.begun {
		a.begun = true
		where := stmt.Clauses["WHERE"]
		// Two, where the application has one: GORM counts conditions when it looks for the application's own.
		exprs := []clause.Expression{a}
		if len(a.where) > 0 {
			exprs = []clause.Expression{bracketed{clause.Where{Exprs: a.where}}, a}
		}
		where.Name, where.Expression = "WHERE", clause.Where{Exprs: exprs}
		stmt.Clauses["WHERE"] = where
	}
	return nil
}

// assignments is the SET for one page: what is not sealed as it came, what is sealed by key, and new keys last, since MySQL sees in one
// assignment what those before it did.
func (a *many) assignments(page []*member) (set clause.Set) {
	var keys clause.Set
	for _, as := range a.set {
		v, sealed := as.Value.(*row.Value)
		if !sealed || v.Null() {
			set = append(set, as)
			continue
		}
		at := slices.Index(a.groups, v.Field().Group)
		by := &byKey{column: v.Field().Column.DBName, group: v.Field().Group, texts: textsAt(page, at)}
		for _, r := range page {
			by.values = append(by.values, row.NewValue(v.Field(), r.keys[at].next, v.Plain()))
		}
		set = append(set, clause.Assignment{Column: as.Column, Value: by.value()})
	}
	for at, g := range a.groups {
		by := &byKey{column: g.Column.DBName, group: g, texts: textsAt(page, at)}
		for _, r := range page {
			if r.keys[at].made {
				k := row.NewKeyValue(g, r.keys[at].next)
				k.Arm(r.keys[at].next.Text())
				by.keys = append(by.keys, k)
			}
		}
		if len(by.keys) > 0 {
			keys = append(keys, clause.Assignment{Column: clause.Column{Name: g.Column.DBName}, Value: by.value()})
		}
	}
	return append(set, keys...)
}

func textsAt(page []*member, at int) (texts []any) {
	for _, r := range page {
		texts = append(texts, r.keys[at].text)
	}
	return texts
}

// Build writes the condition that only the page meets.
func (a *many) Build(b clause.Builder) { clause.Where{Exprs: a.only}.Build(b) }

// named is the condition that an index serves. GORM's own helper takes rows for one whose keys are the same when joined.
func (a *many) named(stmt *gorm.Statement, page []*member) clause.Expression {
	var columns []clause.Column
	for _, name := range a.change.model.Plan.Schema.PrimaryFieldDBNames {
		columns = append(columns, clause.Column{Table: clause.CurrentTable, Name: name})
	}
	var values []any
	for _, r := range page {
		var id []any
		for _, f := range a.change.model.Plan.Schema.PrimaryFields {
			value, _ := f.ValueOf(stmt.Context, r.value)
			id = append(id, value)
		}
		if len(id) == 1 {
			values = append(values, id[0])
		} else {
			values = append(values, id)
		}
	}
	if len(columns) == 1 {
		return clause.IN{Column: columns[0], Values: values}
	}
	return clause.IN{Column: columns, Values: values}
}

// keyed is the condition that these rows have the keys that they were read with.
func (a *many) keyed(stmt *gorm.Statement, g *row.Group, at int, page []*member) clause.Expression {
	if page[0].keys[at].text == "" {
		return &keyCondition{group: g}
	}
	column := exact(stmt.DB, stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: g.Column.DBName}))
	return clause.Expr{SQL: column + " IN ?", Vars: []any{textsAt(page, at)}}
}

// byKey is a value for each row, found by the key that the row has.
type byKey struct {
	column string
	group  *row.Group
	texts  []any
	values []*row.Value    // of a sealed column
	keys   []*row.KeyValue // of the key column
	sums   []any           // of the column of an index, where rows may have other tenants
}

// value is the expression, and for a row without a key the value itself: such a row has a page of its own.
func (v *byKey) value() any {
	switch {
	case v.texts[0] != "":
		return v
	case len(v.keys) == 1:
		return v.keys[0]
	default:
		return v.values[0]
	}
}

// of reports that every value is one for the field.
func (v *byKey) of(f *row.Field) bool {
	return v.keys == nil && v.sums == nil && !slices.ContainsFunc(v.values, func(one *row.Value) bool { return one.Field() != f })
}

func (v *byKey) seal() error {
	for _, one := range v.values {
		if err := one.Seal(); err != nil {
			return err
		}
	}
	return nil
}

// Build writes the expression, for the look as what it stands for: a value.
func (v *byKey) Build(b clause.Builder) {
	stmt, ok := b.(*gorm.Statement)
	if !ok {
		b.AddVar(b, row.Poison{Err: fmt.Errorf("rowseal: %w: a builder that is no *gorm.Statement", ErrUnsupported)})
		return
	}
	from := stmt.SQL.Len()
	_, _ = stmt.WriteString("CASE " + exact(stmt.DB, stmt.Quote(v.group.Column.DBName)))
	for i, text := range v.texts {
		_, _ = stmt.WriteString(" WHEN ")
		stmt.AddVar(stmt, text)
		_, _ = stmt.WriteString(" THEN ")
		switch {
		case v.keys != nil:
			stmt.AddVar(stmt, v.keys[i])
		case v.sums != nil:
			stmt.AddVar(stmt, v.sums[i])
		default:
			stmt.AddVar(stmt, v.values[i])
		}
	}
	_, _ = stmt.WriteString(" ELSE " + stmt.Quote(v.column) + " END")
	lookOf(stmt).write(stmt.SQL.String()[from:], "?")
}

// finish settles the first page, and writes the others.
func (p *Plugin) finish(db *gorm.DB, a *many) {
	stmt := db.Statement
	defer a.restore(stmt)
	defer a.release(db)
	for len(a.pages) > 0 && db.Error == nil && !db.DryRun {
		page := a.pages[0]
		a.pages = a.pages[1:]
		if db.RowsAffected > int64(len(page)) {
			_ = db.AddError(fmt.Errorf("rowseal: update %s: %w: the statement changed %d rows of %d", a.change.model.Plan.Schema.Name, ErrIdentity, db.RowsAffected, len(page)))
			return
		}
		a.affected += db.RowsAffected
		a.collect(stmt)
		if err := a.settle(db, page); err != nil {
			_ = db.AddError(fmt.Errorf("rowseal: update %s: %w", a.change.model.Plan.Schema.Name, err))
			return
		}
		if len(a.pages) > 0 {
			if err := a.next(stmt); err != nil {
				_ = db.AddError(err)
				return
			}
			_ = db.AddError(p.again(db))
		}
	}
	if db.Error == nil {
		db.RowsAffected = a.affected
		if stmt.Result != nil {
			stmt.Result.RowsAffected = a.affected
		}
	}
}

const savepoint = "rowseal_update"

// hold makes a savepoint where the application has a transaction of its own, and may go on with it after an error: a single statement that
// fails would have written nothing.
func (a *many) hold(stmt *gorm.Statement) error {
	if _, ours := stmt.DB.InstanceGet("gorm:started_transaction"); ours || stmt.DB.DisableNestedTransaction {
		return nil
	}
	a.held = true
	return inside(stmt.DB).SavePoint(savepoint).Error
}

// release takes the savepoint away, and with it what was written where that failed.
func (a *many) release(db *gorm.DB) {
	if !a.held {
		return
	}
	tx := inside(db)
	tx.Statement.Context, tx.Error = context.WithoutCancel(tx.Statement.Context), nil
	if db.Error != nil {
		_ = db.AddError(tx.RollbackTo(savepoint).Error)
	}
	pool := tx.Statement.ConnPool
	if prepared, ok := pool.(*gorm.PreparedStmtTX); ok {
		pool = prepared.Tx // MySQL prepares no such statement
	}
	if slices.Contains([]string{"postgres", "mysql", "sqlite"}, db.Name()) { // others need not
		_, err := pool.ExecContext(tx.Statement.Context, "RELEASE SAVEPOINT "+savepoint)
		_ = db.AddError(err)
	}
}

// manyTries bounds the race of one row with other writers.
const manyTries = 3

// settle notes which rows of a page were written, and gives those whose key another writer changed another page.
func (a *many) settle(db *gorm.DB, page []*member) error {
	missed := map[string]*member{}
	if db.RowsAffected < int64(len(page)) {
		now, err := a.read(db.Statement, page, len(page))
		if err != nil {
			return fmt.Errorf("read the keys again: %w", err)
		}
		before := map[string]*member{}
		for _, r := range page {
			before[r.id] = r
		}
		var rows []*member
		for _, r := range now {
			if old := before[r.id]; !old.holds(r) {
				if r.tries = old.tries + 1; r.tries == manyTries {
					return fmt.Errorf("%s: %w, %d times; try again", a.change.model.Describe(r.value), ErrStaleKey, manyTries)
				}
				rows, missed[r.id] = append(rows, r), r
			}
		}
		if len(rows) > 0 && !inTransaction(db.Statement) {
			return fmt.Errorf("%d rows: %w, and SkipDefaultTransaction is on; run it in db.Transaction", len(rows), ErrStaleKey)
		}
		if len(rows) > 0 && a.rereads(db.Statement) {
			return fmt.Errorf("%d rows: %w, and a sub-query on the table would see what was written of the others; try again", len(rows), ErrStaleKey)
		}
		if err := a.open(db.Statement, rows, before); err != nil {
			return err
		}
		a.pages = append(a.pages, a.paginate(rows)...)
	}
	for _, r := range page {
		if missed[r.id] == nil {
			a.done[r.id] = r
		}
	}
	return nil
}

// holds reports that the row, as it is now, has the keys that its page left it with.
func (r *member) holds(now *member) bool {
	for at, k := range now.keys {
		if k.text != r.keys[at].text && k.text != r.keys[at].next.Text() {
			return false
		}
	}
	return true
}

// returns reports that the rows of each page come back into a slice.
func (a *many) returns(stmt *gorm.Statement) bool {
	return returning(stmt) && stmt.ReflectValue.Kind() == reflect.Slice
}

// returning reports that the statement gives rows back, in a dialect that can.
func returning(stmt *gorm.Statement) bool {
	_, given := stmt.Clauses["RETURNING"]
	return given && slices.Contains(stmt.BuildClauses, "RETURNING")
}

func scanned(db *gorm.DB, s *row.State) bool {
	m, ok := kept[marked](db)
	return ok && m.epoch.Scanned(s)
}

// collect keeps the rows that RETURNING gave: the next page replaces them.
func (a *many) collect(stmt *gorm.Statement) {
	if !a.returns(stmt) {
		return
	}
	if !a.returned.IsValid() {
		a.returned = reflect.MakeSlice(stmt.ReflectValue.Type(), 0, 0)
	}
	a.returned = reflect.AppendSlice(a.returned, stmt.ReflectValue)
}

// restore gives the statement back its own condition, and loaded or returned rows their keys.
func (a *many) restore(stmt *gorm.Statement) {
	where := stmt.Clauses["WHERE"]
	if w, ok := where.Expression.(clause.Where); ok {
		exprs := slices.Clone(a.where)
		for _, e := range w.Exprs {
			switch e.(type) {
			case *many, bracketed:
			default:
				exprs = append(exprs, e)
			}
		}
		where.Expression = clause.Where{Exprs: exprs}
		stmt.Clauses["WHERE"] = where
		if len(exprs) == 0 {
			delete(stmt.Clauses, "WHERE")
		}
	}
	if stmt.DB.Error != nil {
		if a.given.IsValid() {
			stmt.ReflectValue.Set(a.given)
		}
		return
	}
	if a.returned.IsValid() {
		stmt.ReflectValue.Set(a.returned)
	}
	for _, v := range structs(stmt.ReflectValue, a.change.model.Plan.Schema.ModelType) {
		id, _ := a.change.model.Identity(v)
		r := a.done[id]
		if r == nil || !v.CanAddr() {
			continue
		}
		for at, g := range a.groups {
			switch s := g.State(v); {
			case s.Serves(a.change.model, id), s.Keyless(a.change.model, id):
				if a.change.inRows(stmt) {
					g.SetState(v, r.keys[at].next)
				}
			case s == nil:
			case s.Text() == "" && scanned(stmt.DB, s): // RETURNING gave the row without its key column
				s.Fill(r.keys[at].next, nil)
			default:
				s.Lend(r.keys[at].next)
			}
		}
	}
}
