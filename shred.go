// shred.go owns rows whose keys are destroyed on purpose: a tombstone takes the place of each envelope, and nothing that was sealed stays in
// the row.

package rowseal

import (
	"context"
	"crypto/rand"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// ShredResult is what [Shred] did.
type ShredResult struct {
	Rows    int64 // shredded
	Keys    int64 // data keys of theirs that are gone
	Already int64 // rows that had been shredded before
}

// Shred destroys the data keys of the rows that db's conditions find in each of the models, and all that was sealed under them: a tombstone takes the place of every envelope, and NULL that of every
// sealed column and blind index. Columns that are not sealed stay. It cannot be undone.
//
//	rowseal.Shred(db.Where("patient_id = ?", 7), &Visit{}, &Letter{})
//	rowseal.Shred(db, &patient) // with its primary key set, that row alone
//
// It makes no call to a key service and needs no permission there, but for the index's own key where a condition is by a blind index. Soft-deleted rows are included. All of it is one transaction, or part of the one that db is; rows are locked in the order of their
// primary keys, some hundreds at a time, and model after model as they are given. No hook runs, and updated_at stays.
//
// A row with a sealed value or a wrapped key in a column that the model does not have, as a newer release of the program may have it, is [ErrModel], and nothing is shredded.
//
// Without conditions it fails with [gorm.ErrMissingWhereClause], unless AllowGlobalUpdate is on. Conditions are Where, Not, Or and Scopes; anything else on db is refused. A condition that finds fewer rows after
// some of them were shredded, as a sub-query on a sealed field of one of the models does, fails, and nothing is shredded. What a blind index finds is not opened and so not compared: where somebody else may write to the database, shred by primary key. Rows that row-level security
// hides are not found, as by a DELETE.
//
// Columns that only another model of the same table seals stay, under a key that is gone: name that model too.
//
// Afterwards sealed fields of the rows have their zero values when they are read, without an error, and whatever would seal a value in one of them fails with [ErrShredded], a loaded row that is saved in a slice or as an association included. [Key].Shredded tells of a row that was read, [Shredded] and [NotShredded] are conditions.
// Keys that processes remember ([Config].KeyCache) are forgotten as by [Revoke]; where db is a transaction, call Revoke after its commit. Rows in the memory of programs stay as they are, but cannot be saved.
//
// Backups, replicas that lag, and the server's own log of changes still have the rows, sealed, and their wrapped keys: see docs/operations.md, Erasure. [Config].ShredLedger is told of each row before the commit, so that [ReplayShreds] can shred it again after a restore. Should
// the commit then fail, or the application's own transaction be rolled back, it says of rows that they are shredded that are not, and a later replay shreds them.
func Shred(db *gorm.DB, models ...any) (ShredResult, error) {
	s, err := newShredding(db)
	if err == nil && len(models) == 0 {
		err = fmt.Errorf("%w: none was given", ErrModel)
	}
	if err != nil {
		return ShredResult{}, fmt.Errorf("rowseal: shred: %w", err)
	}
	s.ledger, s.id = s.plugin.config.ShredLedger, rand.Text()
	parts := make([]*shredPart, len(models))
	for i, value := range models {
		if parts[i], err = s.part(db, value); err != nil {
			return ShredResult{}, fmt.Errorf("rowseal: shred %T: %w", value, err)
		}
	}
	whole := db.Session(&gorm.Session{})
	whole.DisableNestedTransaction = false // who goes on after an error must not commit a part of it, which the ledger does not have
	err = whole.Transaction(func(tx *gorm.DB) error {
		for _, p := range parts {
			if err := s.count(tx, p); err != nil {
				return fmt.Errorf("rowseal: shred %s: %w", p.model.Plan.Schema.Name, err)
			}
		}
		for _, p := range parts {
			if err := s.walk(tx, p); err != nil {
				return fmt.Errorf("rowseal: shred %s: %w", p.model.Plan.Schema.Name, err)
			}
		}
		if s.ledger == nil || s.result.Rows == 0 {
			return nil
		}
		if err := s.ledger.Append(tx.Statement.Context, []ShredEntry{{Shred: s.id, Time: time.Now().UTC(), Complete: true}}); err != nil {
			return fmt.Errorf("rowseal: shred: ledger: %w", err)
		}
		return nil
	})
	if err != nil {
		return ShredResult{}, err
	}
	return s.result, s.forget(db)
}

// Shredded is a scope: the rows that were shredded, by [Shred].
func Shredded(db *gorm.DB) *gorm.DB {
	return byKeyText(db, "Shredded", kmskey.ShreddedPrefix, nil, func(like clause.Like) clause.Expression { return like }, clause.Or)
}

// NotShredded is a scope: the rows that were not.
func NotShredded(db *gorm.DB) *gorm.DB {
	alive := func(like clause.Like) clause.Expression {
		return clause.Or(clause.Eq{Column: like.Column}, clause.Not(like))
	}
	return byKeyText(db, "NotShredded", kmskey.ShreddedPrefix, nil, alive, clause.And)
}

// shredPage is how many rows are locked and written by one statement, at most.
const shredPage = 200

// shredding is one call.
type shredding struct {
	plugin *Plugin
	ledger ShredLedger
	id     string // in the ledger
	result ShredResult
}

// shredPart is one model of it.
type shredPart struct {
	model   *row.Model
	ids     clause.Expression   // of the value that was given; nil where it has none
	where   []clause.Expression // the application's
	counted int64
	fixed   map[string]bool // columns that take no NULL; nil before the table was looked at
	others  []string        // columns of the table that the model does not have
}

// shredRow is one row.
type shredRow struct {
	value      reflect.Value
	id         string
	texts      []string           // the key columns, by group
	tombstones []kmskey.Tombstone // what takes their place
}

func newShredding(db *gorm.DB) (*shredding, error) {
	p, ok := db.Plugins[row.PluginName].(*Plugin)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w; call db.Use(plugin) first", ErrNoPlugin)
	case db.Error != nil:
		return nil, db.Error
	case db.DryRun:
		return nil, fmt.Errorf("%w: a dry run shreds nothing; count the rows with db.Model(…).Unscoped().Count", ErrUnsupported)
	}
	if err := onlyWhere(db.Statement); err != nil {
		return nil, err
	}
	return &shredding{plugin: p}, nil
}

// part finds the model of a value.
func (s *shredding) part(db *gorm.DB, value any) (*shredPart, error) {
	stmt := &gorm.Statement{DB: db, Context: db.Statement.Context}
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("%w; pass a pointer to a registered model", ErrModel)
	}
	if err := stmt.Parse(value); err != nil {
		return nil, err
	}
	m := s.plugin.typed(stmt)
	if m == nil {
		return nil, fmt.Errorf("%w: it is not registered; add it to rowseal.Config.Models", ErrModel)
	}
	p := &shredPart{model: m}
	if m.Identified(v.Elem()) {
		p.ids = idsCondition(stmt, m, []reflect.Value{v.Elem()})
		return p, nil
	}
	for _, f := range m.Plan.Schema.PrimaryFields {
		if _, zero := f.ValueOf(stmt.Context, v.Elem()); !zero { // the conditions alone would find rows with another
			return nil, fmt.Errorf("%w: only a part of it is set; set all of it, or none and name the rows by conditions", ErrIdentity)
		}
	}
	return p, nil
}

// count settles what the conditions are, scopes included, and how many rows they find.
func (s *shredding) count(tx *gorm.DB, p *shredPart) (err error) {
	q := tx.Session(&gorm.Session{}).Model(reflect.New(p.model.Plan.Schema.ModelType).Interface()).Unscoped()
	if p.ids != nil {
		q = q.Where(p.ids)
	}
	q = q.Count(&p.counted)
	if q.Error != nil {
		return q.Error
	}
	stmt := q.Statement
	if err := onlyWhere(stmt); err != nil {
		return err
	}
	where, _ := stmt.Clauses["WHERE"].Expression.(clause.Where)
	if len(where.Exprs) == 0 && !stmt.AllowGlobalUpdate {
		return gorm.ErrMissingWhereClause
	}
	p.where = where.Exprs
	if p.ids != nil && len(p.where) > 1 {
		if err := p.alone(tx, stmt); err != nil {
			return err
		}
	}
	return p.look(tx)
}

// alone has the conditions beside a primary key find that row or none. GORM joins them by AND as they are, so that an OR in one would find others.
func (p *shredPart) alone(tx *gorm.DB, stmt *gorm.Statement) error {
	if err := refuseOr(stmt); err != nil {
		return err
	}
	where := make([]clause.Expression, len(p.where))
	for i, e := range p.where {
		where[i] = bracketed{e}
	}
	p.where = where
	q := tx.Session(&gorm.Session{NewDB: true}).Model(reflect.New(p.model.Plan.Schema.ModelType).Interface()).Unscoped()
	q.Statement.AddClause(clause.Where{Exprs: slices.Clone(where)})
	return q.Count(&p.counted).Error
}

// walk shreds the rows of one model.
func (s *shredding) walk(tx *gorm.DB, p *shredPart) error {
	var last reflect.Value
	met := int64(0)
	for {
		q := p.lockedRows(tx)
		if len(p.where) > 0 {
			q.Statement.AddClause(clause.Where{Exprs: []clause.Expression{bracketed{clause.Where{Exprs: slices.Clone(p.where)}}}})
		}
		if last.IsValid() {
			q.Statement.AddClause(clause.Where{Exprs: []clause.Expression{behind(q.Statement, p.model, last)}})
		}
		rows, err := p.read(q.Limit(p.pageSize()))
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break // and not where a page is short: Postgres leaves out what changed while it waited for a lock
		}
		if err := s.write(tx, p, rows); err != nil {
			return err
		}
		met, last = met+int64(len(rows)), rows[len(rows)-1].value
	}
	if met < p.counted {
		return fmt.Errorf("%w: %d rows were found, and %d when they were to be shredded: a condition looks at what shredding changes, or rows were deleted meanwhile; nothing was shredded: name the rows by their primary keys, or try again", ErrUnsupported, p.counted, met)
	}
	return nil
}

// onlyWhere refuses whatever would not be heeded.
func onlyWhere(stmt *gorm.Statement) error {
	if stmt.TableExpr != nil || len(stmt.Joins) > 0 || len(stmt.Selects) > 0 || len(stmt.Omits) > 0 || stmt.Distinct {
		return fmt.Errorf("%w: it takes Where, Not, Or and Scopes alone", ErrUnsupported)
	}
	for _, name := range []string{"LIMIT", "ORDER BY", "GROUP BY", "FOR", "RETURNING", "ON CONFLICT", "SET", "WITH"} {
		if _, given := stmt.Clauses[name]; given {
			return fmt.Errorf("%w: it takes Where, Not, Or and Scopes alone, and no %s", ErrUnsupported, name)
		}
	}
	return nil
}

// pageSize keeps a page's statement below the smallest limit of bind values.
func (p *shredPart) pageSize() int {
	ids, groups := len(p.model.Plan.Schema.PrimaryFields), len(p.model.Plan.Groups)
	for _, g := range p.model.Plan.Groups {
		for _, f := range g.Fields {
			if p.random(f) {
				return 1 // each row has random bytes of its own
			}
		}
	}
	fields := len(p.model.Plan.Schema.DBNames)
	return max(1, min(shredPage, (maxVars-fields)/(ids*(1+groups)+groups)))
}

// random reports that some index of a field holds random bytes in a row that was shredded.
func (p *shredPart) random(f *row.Field) bool {
	return slices.ContainsFunc(f.Indexes, func(x *row.Index) bool {
		return p.fixed[columnName(f.Column.DBName)] || p.fixed[columnName(x.Column)]
	})
}

// lockedRows is a query of key columns, locked in the order of primary keys, soft-deleted rows included. The conditions that it gets are looked at like any other.
func (p *shredPart) lockedRows(tx *gorm.DB) *gorm.DB {
	m := p.model
	q := tx.Session(&gorm.Session{NewDB: true, SkipHooks: true}).Model(reflect.New(m.Plan.Schema.ModelType).Interface()).Unscoped()
	q.Statement.Selects = append(slices.Clone(p.others), keyColumns(m, m.Plan.Groups)...)
	for _, f := range m.Plan.Schema.PrimaryFields {
		q = q.Order(clause.OrderByColumn{Column: clause.Column{Table: clause.CurrentTable, Name: f.DBName}})
	}
	if tx.Name() != "sqlite" { // where a transaction that wrote sees no change of others
		q.Statement.AddClause(clause.Locking{Strength: clause.LockingStrengthUpdate})
	}
	return q
}

func (p *shredPart) read(q *gorm.DB) (out []*shredRow, err error) {
	m := p.model
	found, err := q.Rows()
	if err != nil {
		return nil, err
	}
	defer found.Close()
	others := make([]any, len(p.others))
	for i, name := range p.others {
		others[i] = &stranger{name}
	}
	for found.Next() {
		k, err := scanKeys(q.Statement.Context, found, m, m.Plan.Groups, others...)
		if err != nil {
			return nil, err
		}
		r := &shredRow{value: k.value, texts: k.texts}
		var ok bool
		if r.id, ok = m.Identity(k.value); !ok {
			return nil, fmt.Errorf("%w, and a row without one was met", ErrIdentity)
		}
		for _, text := range k.texts {
			t, err := kmskey.ParseTombstone(text)
			if err != nil {
				env, _ := kmskey.ParseEnvelope(text) // what is none names no key, and goes all the same
				t = env.Tombstone()
			}
			r.tombstones = append(r.tombstones, t)
		}
		out = append(out, r)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return out, found.Close()
}

// stranger is a scan target for a column that the model does not have, and refuses a value of a model that does: it would stay, and open.
type stranger struct{ column string }

func (s *stranger) Scan(src any) error {
	var raw []byte
	switch src := src.(type) {
	case []byte:
		raw = src
	case string:
		raw = []byte(src)
	}
	_, err := kmskey.ParseEnvelope(string(raw))
	if _, sealed := field.KeyID(raw); err != nil && sealed != nil && !strings.HasPrefix(string(raw), field.TextPrefix) {
		return nil
	}
	return fmt.Errorf("%w: the column %q holds something sealed, and the model does not have it: it would not be shredded; call Shred in a program whose model has the column, or drop it", ErrModel, s.column)
}

// dead reports that every key column holds a tombstone.
func (r *shredRow) dead() bool {
	return !slices.ContainsFunc(r.texts, func(text string) bool { return !kmskey.IsTombstone(text) })
}

// write shreds a page of rows, and tells the ledger.
func (s *shredding) write(tx *gorm.DB, p *shredPart, rows []*shredRow) error {
	var dead, alive []*shredRow
	for _, r := range rows {
		if r.dead() {
			dead = append(dead, r)
		} else {
			alive = append(alive, r)
		}
	}
	for _, page := range [][]*shredRow{dead, alive} { // what is left in a row with tombstones goes too
		for chunk := range slices.Chunk(page, p.pageSize()) {
			n, err := p.update(tx, chunk)
			if err == nil && n != int64(len(chunk)) && !chunk[0].dead() {
				err = fmt.Errorf("%w: the statement changed %d rows of %d", ErrIdentity, n, len(chunk))
			}
			if err != nil {
				return err
			}
		}
	}
	s.result.Already += int64(len(dead))
	s.result.Rows += int64(len(alive))
	var entries []ShredEntry
	for _, r := range alive {
		e := ShredEntry{Shred: s.id, Time: time.Now().UTC(), Namespace: p.model.Keys.Namespace(), Model: p.model.Name, Table: p.model.Plan.Schema.Table, ID: row.TypedID(r.id)}
		for i, g := range p.model.Plan.Groups {
			e.Keys = append(e.Keys, ShredKey{g.Name, r.tombstones[i].Digests()})
			if !kmskey.IsTombstone(r.texts[i]) {
				s.result.Keys += int64(len(r.tombstones[i].Digests()))
			}
		}
		entries = append(entries, e)
	}
	if s.ledger == nil || len(entries) == 0 {
		return nil
	}
	if err := s.ledger.Append(tx.Statement.Context, entries); err != nil {
		return fmt.Errorf("ledger: %w", err)
	}
	return nil
}

// update is the one statement for a page.
func (p *shredPart) update(tx *gorm.DB, page []*shredRow) (int64, error) {
	m := p.model
	stmt := &gorm.Statement{DB: tx, Context: tx.Statement.Context, Schema: m.Plan.Schema, Table: m.Plan.Schema.Table}
	var set []string
	var args []any
	assign := func(column, text string, values ...any) {
		set, args = append(set, stmt.Quote(column)+" = "+text), append(args, values...)
	}
	for _, g := range m.Plan.Groups {
		for _, f := range g.Fields {
			fixed := p.fixed[columnName(f.Column.DBName)]
			if fixed {
				assign(f.Column.DBName, "?", f.Filler())
			} else {
				assign(f.Column.DBName, "NULL")
			}
			for _, x := range f.Indexes {
				if fixed || p.fixed[columnName(x.Column)] { // a field that stands there without its index would be taken for one from before it
					random := make([]byte, x.Size())
					rand.Read(random)
					assign(x.Column, "?", random)
				} else {
					assign(x.Column, "NULL")
				}
			}
		}
	}
	for i, g := range m.Plan.Groups {
		text, values := strings.Builder{}, []any{}
		text.WriteString("CASE")
		for _, r := range page {
			where, ids := sameID(stmt, m, r.value)
			text.WriteString(" WHEN " + where + " THEN ?")
			values = append(append(values, ids...), r.tombstones[i].String())
		}
		text.WriteString(" ELSE " + stmt.Quote(g.Column.DBName) + " END")
		assign(g.Column.DBName, text.String(), values...)
	}
	var where []string
	for _, r := range page {
		one, ids := sameID(stmt, m, r.value)
		where, args = append(where, one), append(args, ids...)
	}
	result := inside(tx).Exec(fmt.Sprintf("UPDATE %s SET %s WHERE %s", quotedTable(stmt), strings.Join(set, ", "), strings.Join(where, " OR ")), args...)
	return result.RowsAffected, result.Error
}

// sameID is the condition that finds a row that was just locked by its primary key.
func sameID(stmt *gorm.Statement, m *row.Model, v reflect.Value) (string, []any) {
	var conds []string
	var args []any
	for _, f := range m.Plan.Schema.PrimaryFields {
		value, _ := f.ValueOf(stmt.Context, v)
		conds, args = append(conds, stmt.Quote(f.DBName)+" = ?"), append(args, value)
	}
	return "(" + strings.Join(conds, " AND ") + ")", args
}

// idsCondition finds rows by their primary keys.
func idsCondition(stmt *gorm.Statement, m *row.Model, values []reflect.Value) clause.Expression {
	var conds []string
	var args []any
	for _, v := range values {
		one, ids := identify(stmt, m, v)
		if stmt.DB.Name() == "sqlite" {
			// Where a UUID is text. A ledger has it in lower case, whatever case the row has it in.
			for _, f := range m.Plan.Schema.PrimaryFields {
				plain := stmt.Quote(f.DBName) + " = ?"
				if i := slices.Index(one, plain); i >= 0 && strings.EqualFold(string(f.DataType), "uuid") {
					one[i] = plain + " COLLATE NOCASE"
				}
			}
		}
		conds, args = append(conds, "("+strings.Join(one, " AND ")+")"), append(args, ids...)
	}
	return clause.Expr{SQL: "(" + strings.Join(conds, " OR ") + ")", Vars: args}
}

// behind is the condition that a row comes after another in the order of primary keys.
func behind(stmt *gorm.Statement, m *row.Model, v reflect.Value) clause.Expression {
	var ors []clause.Expression
	var same []clause.Expression
	for _, f := range m.Plan.Schema.PrimaryFields {
		value, _ := f.ValueOf(stmt.Context, v)
		column := clause.Column{Table: clause.CurrentTable, Name: f.DBName}
		ors = append(ors, clause.And(append(slices.Clone(same), clause.Gt{Column: column, Value: value})...))
		same = append(same, clause.Eq{Column: column, Value: value})
	}
	return bracketed{clause.Or(ors...)}
}

// look asks the database which columns the table has beside the model's own, and which take no NULL: models need not say it.
func (p *shredPart) look(tx *gorm.DB) error {
	table, stmt := p.model.Plan.Schema.Table, tx.Statement
	name := bareName(table)
	space := strings.Trim(strings.TrimSuffix(table[:len(table)-len(table[strings.LastIndexByte(table, '.')+1:])], "."), "`\"[]")
	p.fixed = map[string]bool{}
	var query string
	var args []any
	switch tx.Name() {
	case "postgres":
		// Partitions may be stricter than their table.
		query, args = "WITH RECURSIVE part(id) AS (SELECT CAST(to_regclass(?) AS oid) UNION SELECT inhrelid FROM pg_inherits JOIN part ON inhparent = part.id) "+
			"SELECT attname AS name, bool_or(attnotnull) AS fixed, bool_or(attrelid = to_regclass(?)) AS own FROM pg_attribute JOIN part ON attrelid = part.id WHERE attnum > 0 AND NOT attisdropped GROUP BY attname",
			[]any{stmt.Quote(table), stmt.Quote(table)}
	case "mysql":
		query, args = "SELECT column_name AS name, is_nullable = 'NO' AS fixed, 1 AS own FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?", []any{space, name}
	case "sqlite":
		query, args = `SELECT name, "notnull" <> 0 AS fixed, 1 AS own FROM pragma_table_info(?)`, []any{name}
		if space != "" {
			query, args = `SELECT name, "notnull" <> 0 AS fixed, 1 AS own FROM pragma_table_info(?, ?)`, []any{name, space}
		}
	default:
		return nil
	}
	var columns []struct {
		Name       string
		Fixed, Own bool
	}
	if err := inside(tx).Raw(query, args...).Scan(&columns).Error; err != nil {
		return fmt.Errorf("look at the table's columns: %w", err)
	}
	known := map[string]bool{}
	for _, name := range p.model.Plan.Schema.DBNames {
		known[columnName(name)] = true
	}
	for _, g := range p.model.Plan.Groups {
		for _, f := range g.Fields {
			for _, x := range f.Indexes {
				known[columnName(x.Column)] = true
			}
		}
	}
	for _, c := range columns {
		p.fixed[columnName(c.Name)] = c.Fixed
		if c.Own && !known[columnName(c.Name)] { // Own: a child of PostgreSQL's inheritance may have more
			p.others = append(p.others, c.Name)
		}
	}
	return nil
}

// forget drops keys from memory, here and, where that is committed, elsewhere.
func (s *shredding) forget(db *gorm.DB) error {
	remembers := s.plugin.cache != nil
	if s.result.Rows == 0 {
		return nil
	}
	if inTransaction(db.Statement) {
		if remembers {
			s.plugin.cache.Forget()
		}
		return nil
	}
	// What is shredded stays so, whatever becomes of the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(db.Statement.Context), indexWait)
	defer cancel()
	if err := Revoke(ctx, db); err != nil && remembers { // else there may be no table for it, and nobody who asks
		return fmt.Errorf("rowseal: shred: the rows are shredded; %w", err)
	}
	return nil
}
