// create.go owns new rows: ids ahead of the transaction, keys for all of them at once, and the second step where only the database
// knows the id.

package rowseal

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// creation is one Create while it runs.
type creation struct {
	insert    *row.Insert
	values    []reflect.Value
	allocated []reflect.Value // rows that came without id
	ahead     []*aheadRow     // what was made ahead for each row; nil for nothing
	compared  bool            // an upsert under a condition
	spared    bool            // an upsert that leaves rows alone whose keys were shredded, and no others
	target    []*schema.Field // the columns of an upsert whose rows were looked up
	met       []encounter     // what was found, by row
	replaced  []*row.Group    // what an upsert replaces whose count of rows does not tell
	leaves    bool            // it may leave rows out on purpose
	ids       []reflect.Value // the primary keys of an upsert's rows, by column
	selects   []string
	omits     []string
	maps      *mapped // where the rows come from maps; nil for none
}

// prepareCreate runs before the transaction.
func (p *Plugin) prepareCreate(db *gorm.DB) {
	stmt := db.Statement
	drop(db)
	if db.Error != nil || stmt.Schema == nil {
		return
	}
	if plan := row.PlanOf(stmt.Schema); plan != nil {
		// GORM does not ask a model's guard under Unscoped.
		if err := p.Knows(plan); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	if db.DryRun {
		return
	}
	if p.makeIndexKeys(db); db.Error != nil {
		return
	}
	m := p.typed(stmt)
	a, err := p.lookAhead(db)
	if err != nil {
		_ = db.AddError(err)
		return
	}
	var batches []row.Batch
	if a != nil && a.stmt == stmt {
		batches = a.batches()
		defer a.learn()
	}
	if m == nil {
		_ = db.AddError(row.Prepare(lend(stmt.Context, stmt), batches, false))
		return
	}
	values := structs(stmt.ReflectValue, m.Plan.Schema.ModelType)
	var fromMaps *mapped
	if _, ok := mapsOf(stmt.Dest); ok {
		fromMaps = &mapped{}
		if err := fromMaps.read(stmt, m); err != nil {
			_ = db.AddError(err)
			return
		}
		values = fromMaps.rows
	}
	switch {
	case isList(stmt.ReflectValue) && stmt.ReflectValue.Type().Elem().Kind() == reflect.Interface:
		fail(db, "create", m, ErrUnsupported, "; create rows from a slice of the model, not of interfaces")
		return
	case len(values) == 0 && isList(stmt.ReflectValue) && stmt.ReflectValue.Len() == 0:
		return // GORM has an error for an empty slice
	case len(values) == 0:
		fail(db, "create", m, ErrUnsupported, "; create rows from structs of the model, or from maps")
		return
	case !values[0].CanAddr():
		fail(db, "create", m, ErrUnsupported, "; pass a pointer, as in db.Create(&row)")
		return
	}
	c := &creation{insert: &row.Insert{Model: m, Ahead: a.insertOf(m)}, values: values, ahead: make([]*aheadRow, len(values)), maps: fromMaps}
	for i, v := range values {
		c.ahead[i] = a.of(m, v)
	}
	if m.Assigned() {
		for _, v := range values {
			if !m.Identified(v) {
				c.allocated = append(c.allocated, v)
			}
		}
	}
	keep(db, c)
	if err := meet(db, c, false); err != nil {
		_ = db.AddError(err)
		return
	}
	if m.NeedsID() && !conflictsIgnored(stmt) {
		if _, err := p.allocate(db, m, quotedTable(stmt), c.values); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	_ = db.AddError(row.Prepare(lend(stmt.Context, stmt), append(batches, row.Batch{Insert: c.insert, Values: values}), false))
}

func isList(v reflect.Value) bool { return v.Kind() == reflect.Slice || v.Kind() == reflect.Array }

// conflictsIgnored reports ON CONFLICT DO NOTHING. GORM then gives the ids that the database returns to the rows without one, in
// order, so that ids taken ahead would confuse it.
func conflictsIgnored(stmt *gorm.Statement) bool {
	c, ok := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	return ok && c.DoNothing
}

// allocateSQL takes ids for a whole batch from the sequence behind a column, in one query. It gives no row where the table is not
// there, and NULL where the column has no sequence of its own or takes no value (GENERATED ALWAYS). OFFSET 0 keeps the look-up from
// being repeated for each id.
const allocateSQL = `SELECT CASE WHEN s.identity = 'a' OR s.name IS NULL THEN NULL ELSE nextval(s.name::regclass) END
FROM (SELECT a.attidentity AS identity, pg_get_serial_sequence($1::text, a.attname::text) AS name
      FROM pg_attribute a WHERE a.attrelid = to_regclass($1::text) AND a.attname = $2::text AND NOT a.attisdropped OFFSET 0) s,
     generate_series(1, $3::bigint)`

// allocate sets the ids of those values that have none on Postgres, where one query before the transaction saves a second UPDATE after the
// insert. It reports whether it did.
func (p *Plugin) allocate(db *gorm.DB, m *row.Model, table string, values []reflect.Value) (taken bool, err error) {
	id := m.Plan.Schema.PrioritizedPrimaryField
	if db.Name() != "postgres" || id == nil || !sequenced(id) || len(m.Plan.Schema.PrimaryFields) != 1 {
		return false, nil
	}
	var rows []reflect.Value
	for _, v := range values {
		if !m.Identified(v) {
			rows = append(rows, v)
		}
	}
	if len(rows) == 0 {
		return false, nil
	}
	ctx := db.Statement.Context
	ids, err := takeIDs(ctx, db, table, id.DBName, len(rows))
	if err != nil {
		return false, fmt.Errorf("rowseal: create %s: take %d ids from the sequence: %w", m.Plan.Schema.Name, len(rows), err)
	}
	if len(ids) != len(rows) {
		return false, nil // no sequence to take from: the database assigns, and the key follows
	}
	for i, v := range rows {
		if err := id.Set(ctx, v, ids[i]); err != nil {
			return false, fmt.Errorf("rowseal: create %s: set id: %w", m.Plan.Schema.Name, err)
		}
	}
	return true, nil
}

// sequenced reports an integer key that GORM leaves to the database.
func sequenced(f *schema.Field) bool {
	integer := f.GORMDataType == schema.Int || f.GORMDataType == schema.Uint
	plain := f.DefaultValue == "" || strings.HasPrefix(f.DefaultValue, "nextval(")
	return integer && f.HasDefaultValue && f.DefaultValueInterface == nil && plain
}

func takeIDs(ctx context.Context, db *gorm.DB, table, column string, n int) (ids []int64, err error) {
	rows, err := db.Statement.ConnPool.QueryContext(ctx, allocateSQL, table, column, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id sql.NullInt64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if id.Valid {
			ids = append(ids, id.Int64)
		}
	}
	slices.Sort(ids) // rows get ascending ids in their own order
	return ids, rows.Err()
}

// beforeCreate runs inside the transaction, after the application's hooks and right before the INSERT is built.
func (p *Plugin) beforeCreate(db *gorm.DB) {
	c, ok := kept[creation](db)
	if !ok || db.Error != nil {
		return
	}
	stmt, m := db.Statement, c.insert.Model
	if err := refuseReturning(stmt, m); err != nil {
		fail(db, "create", m, err, "; leave sealed and key columns out of RETURNING, or create one row")
		return
	}
	if c.maps != nil {
		if err := c.maps.read(stmt, m); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	if err := meet(db, c, true); err != nil {
		_ = db.AddError(err)
		return
	}
	if err := c.insert.Prepare(lend(stmt.Context, stmt), c.values, true); err != nil {
		_ = db.AddError(err)
		return
	}
	if len(c.insert.Tokens()) > 0 && !inTransaction(stmt) {
		fail(db, "create", m, ErrUnsupported, ": the database assigns the id and SkipDefaultTransaction is on, so a crash could leave a row without its key; run it in db.Transaction, or set the id in Go")
		return
	}
	c.force(stmt)
	if c.target == nil {
		c.compare(stmt)
	} else {
		c.keep()
	}
	if c.maps != nil {
		c.maps.lend(stmt, m)
	}
	mark(db, true)
}

// compare makes an upsert of loaded rows leave alone those whose key another writer changed: the key that they bring would undo a
// rotation. A row whose primary key only a collation takes for the same is left alone too: the key is bound to the one that it brings.
func (c *creation) compare(stmt *gorm.Statement) {
	conflict, ok := stmt.Clauses["ON CONFLICT"].Expression.(clause.OnConflict)
	if !ok || conflict.DoNothing || (!conflict.UpdateAll && len(conflict.DoUpdates) == 0) || isMySQL(stmt.DB) {
		return // on MySQL, see onDuplicateKey
	}
	var where []clause.Expression
	written := func(g *row.Group) bool { return conflict.UpdateAll || updates(conflict, g.Column.DBName) }
	for _, f := range c.insert.Model.Plan.Schema.PrimaryFields {
		if !row.Literal(f) || !slices.ContainsFunc(c.insert.Model.Plan.Groups, written) {
			continue
		}
		own := bytewise(stmt.DB, stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: f.DBName}))
		theirs := bytewise(stmt.DB, stmt.Quote(clause.Column{Table: "excluded", Name: f.DBName}))
		where = append(where, clause.Expr{SQL: own + " = " + theirs})
		c.compared = len(conflict.Where.Exprs) == 0
	}
	for _, g := range c.insert.Model.Plan.Groups {
		if !written(g) {
			continue
		}
		where = append(where, &unshredded{g.Column.DBName})
		c.spared = len(conflict.Where.Exprs) == 0
		texts := c.insert.Reused(g)
		if len(texts) == 0 {
			continue
		}
		own := stmt.Quote(clause.Column{Table: clause.CurrentTable, Name: g.Column.DBName})
		theirs := stmt.Quote(clause.Column{Table: "excluded", Name: g.Column.DBName})
		where = append(where, clause.Expr{SQL: "(" + own + " = " + theirs + " OR " + theirs + " NOT IN ?)", Vars: []any{texts}})
		c.compared = len(conflict.Where.Exprs) == 0 // else rows may be left out on purpose
	}
	if len(where) == 0 {
		return
	}
	c.keep() // RETURNING gives ids to structs in order, those of rows left out first
	if len(conflict.Where.Exprs) > 0 {
		where = append(where, bracketed{conflict.Where}) // an OR in it would undo the others
	}
	conflict.Where = clause.Where{Exprs: where}
	stmt.AddClause(conflict)
}

// shredded is the error of an upsert that was to write into a row whose keys were shredded; nil for none.
func (c *creation) shredded(db *gorm.DB) error {
	m := c.insert.Model
	for first := 0; first < len(c.values); first += settleBatch {
		batch := c.values[first:min(first+settleBatch, len(c.values))]
		stored, err := storedKeys(db.Statement, c, m.Plan.Groups, first, batch)
		if err != nil {
			return fmt.Errorf("rowseal: upsert %s: read the keys: %w", m.Plan.Schema.Name, err)
		}
		for _, v := range batch {
			id, _ := m.Identity(v)
			for _, text := range stored[id] {
				if err := buried(text); err != nil {
					return fmt.Errorf("rowseal: upsert %s: %w", m.Describe(v), err)
				}
			}
		}
	}
	return nil
}

// refuseReturning refuses what would replace the elements of a slice by new ones.
func refuseReturning(stmt *gorm.Statement, m *row.Model) error {
	r, ok := stmt.Clauses["RETURNING"].Expression.(clause.Returning)
	if _, maps := mapsOf(stmt.Dest); !ok || !isList(stmt.ReflectValue) && !maps {
		return nil
	}
	if len(r.Columns) == 0 {
		return ErrUnsupported
	}
	for _, c := range r.Columns {
		if c.Name == "*" || m.Plan.Lookup(c.Name) != nil || m.Plan.LookupKey(c.Name) != nil {
			return ErrUnsupported
		}
	}
	return nil
}

func inTransaction(stmt *gorm.Statement) bool {
	_, ok := stmt.ConnPool.(gorm.TxCommitter)
	return ok
}

// force makes the columns that belong to a key part of the INSERT, whatever Select and Omit say: without the id that the key is bound
// to, the database would assign another.
func (c *creation) force(stmt *gorm.Statement) {
	c.selects, c.omits = stmt.Selects, stmt.Omits
	m := c.insert.Model
	needed := m.Needed()
	for _, g := range m.Plan.Groups {
		needed = append(needed, g.Column.DBName)
	}
	if len(stmt.Selects) > 0 {
		stmt.Selects = append(slices.Clone(stmt.Selects), needed...)
	}
	stmt.Omits = slices.DeleteFunc(slices.Clone(stmt.Omits), func(name string) bool { return slices.Contains(needed, columnOf(stmt, name)) })
}

// columnOf is the column behind a name in Select or Omit, which may be a Go name or carry its table.
func columnOf(stmt *gorm.Statement, name string) string {
	if f := stmt.Schema.LookUpField(name); f != nil {
		return f.DBName
	}
	return strings.Trim(name[strings.LastIndexByte(name, '.')+1:], "`\"[]")
}

// afterCreate runs right after the INSERT: it completes rows that were inserted under tokens.
func (p *Plugin) afterCreate(db *gorm.DB) {
	c, ok := kept[creation](db)
	if !ok {
		return
	}
	epoch := unmark(db)
	if epoch == nil {
		return
	}
	stmt, m := db.Statement, c.insert.Model
	if c.maps != nil {
		c.maps.take(stmt, m)
		defer c.maps.giveBack(stmt, m)
	}
	stmt.Selects, stmt.Omits = c.selects, c.omits
	c.giveBack()
	if db.Error != nil || db.DryRun {
		return
	}
	if (c.compared || c.spared) && db.RowsAffected < int64(len(c.values)) {
		if err := c.shredded(db); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	if c.compared && db.RowsAffected < int64(len(c.values)) {
		if c.target != nil {
			_ = db.AddError(fmt.Errorf("rowseal: upsert %s: %w, or the row was put there, since it was looked up; try again", m.Plan.Schema.Name, ErrStaleKey))
			return
		}
		_ = db.AddError(fmt.Errorf("rowseal: upsert %s: %w, or its primary key is spelt otherwise; load the rows and try again", m.Plan.Schema.Name, ErrStaleKey))
		return
	}
	if err := settle(db, c); err != nil {
		_ = db.AddError(err)
		return
	}
	if len(c.replaced) > 0 {
		if err := confirm(db, c); err != nil {
			_ = db.AddError(err)
			return
		}
	}
	if err := c.settleAhead(db); err != nil {
		_ = db.AddError(err)
		return
	}
	c.insert.Stored(c.values)
	targets := make([]row.Target, len(c.values))
	for i, v := range c.values {
		targets[i] = row.Target{Model: m, Value: v}
	}
	_ = db.AddError(p.reveal(stmt, epoch, p.config.WriteOnly, targets))
}

// finishCreate runs last. A row that was not stored is given back as it came, so that creating it again works.
func (p *Plugin) finishCreate(db *gorm.DB) {
	defer p.finishAhead(db)
	c, ok := kept[creation](db)
	forget[creation](db)
	if !ok || db.Error == nil {
		return
	}
	c.insert.Undo()
	for i := range c.met {
		c.restore(db.Statement.Context, i)
	}
	for _, v := range c.allocated {
		c.insert.Model.Plan.Schema.PrioritizedPrimaryField.ReflectValueOf(db.Statement.Context, v).SetZero()
	}
}

// settleBatch keeps a statement below the smallest limit of bind values: 999 in old SQLite, 65,535 in Postgres and MySQL.
const settleBatch = 150

// settle gives rows their keys that the database gave their ids. It works by the tokens in the key columns, not by the ids that GORM
// put into the structs, since those can be on the wrong element (a batch with ON CONFLICT DO NOTHING).
func settle(db *gorm.DB, c *creation) error {
	pending := c.insert.Tokens()
	if len(pending) == 0 {
		return nil
	}
	id := c.insert.Model.Plan.Schema.PrioritizedPrimaryField
	// GORM may have put ids on the wrong structs; the tokens say which row is whose. The lowest of those ids says where to look: no
	// index helps to find a token.
	var from any
	for _, p := range pending {
		v := id.ReflectValueOf(db.Statement.Context, p.Value)
		if lower(v, from) {
			from = v.Interface()
		}
		v.SetZero()
	}
	for batch := range slices.Chunk(pending, settleBatch) {
		found, err := findTokens(db, c.insert.Model, batch, from)
		if err == nil && len(found) < len(batch) && from != nil {
			// A conflict was passed over, or the ids are in no order.
			missing := slices.DeleteFunc(slices.Clone(batch), func(p row.Pending) bool { return c.insert.Model.Identified(p.Value) })
			var more []row.Pending
			more, err = findTokens(db, c.insert.Model, missing, nil)
			found = append(found, more...)
		}
		if err != nil {
			return fmt.Errorf("rowseal: create %s: read the new ids: %w", c.insert.Model.Plan.Schema.Name, err)
		}
		envelopes, err := c.insert.Settle(lend(db.Statement.Context, db.Statement), found)
		if err != nil {
			return err
		}
		if err := replaceTokens(db, c.insert.Model, found, envelopes); err != nil {
			return fmt.Errorf("rowseal: create %s: store the keys: %w", c.insert.Model.Plan.Schema.Name, err)
		}
	}
	return nil
}

// lower reports an integer id below the one that is known; nil is above all.
func lower(v reflect.Value, than any) bool {
	switch {
	case v.IsZero():
		return false
	case v.CanInt():
		return than == nil || v.Int() < reflect.ValueOf(than).Int()
	case v.CanUint():
		return than == nil || v.Uint() < reflect.ValueOf(than).Uint()
	default:
		return false
	}
}

// lead is the token that finds a row, and its key column.
func lead(m *row.Model, p row.Pending) (g *row.Group, token string) {
	for i, token := range p.Tokens {
		if token != "" {
			return m.Plan.Groups[i], token
		}
	}
	return nil, ""
}

// findTokens reads back which row has which id, and sets the ids. Rows that were not inserted, because of a conflict, are left out. It
// looks at ids not below from; nil is all.
func findTokens(db *gorm.DB, m *row.Model, batch []row.Pending, from any) ([]row.Pending, error) {
	stmt, ctx := db.Statement, db.Statement.Context
	byToken := map[string]row.Pending{}
	byGroup := map[*row.Group][]any{}
	for _, p := range batch {
		g, token := lead(m, p)
		byToken[token] = p
		byGroup[g] = append(byGroup[g], token)
	}
	var found []row.Pending
	for g, tokens := range byGroup {
		groups := []*row.Group{g}
		query := fmt.Sprintf("SELECT %s FROM %s WHERE %s IN ?", strings.Join(quoted(stmt, keyColumns(m, groups)), ","), quotedTable(stmt), exact(db, stmt.Quote(g.Column.DBName)))
		args := []any{tokens}
		if from != nil {
			query, args = query+" AND "+stmt.Quote(m.Plan.Schema.PrimaryFieldDBNames[0])+" >= ?", append(args, from)
		}
		rows, err := inside(db).Raw(query, args...).Rows()
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			r, err := scanKeys(ctx, rows, m, groups)
			if err != nil {
				_ = rows.Close()
				return nil, err
			}
			p := byToken[r.texts[0]]
			for _, f := range m.Plan.Schema.PrimaryFields {
				f.ReflectValueOf(ctx, p.Value).Set(f.ReflectValueOf(ctx, r.value))
			}
			found = append(found, p)
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// replaceTokens puts the envelopes in place of the tokens: one UPDATE for all rows and key columns.
func replaceTokens(db *gorm.DB, m *row.Model, rows []row.Pending, envelopes map[string]string) error {
	stmt := db.Statement
	byGroup := map[*row.Group][]row.Pending{}
	for _, p := range rows {
		g, _ := lead(m, p)
		byGroup[g] = append(byGroup[g], p)
	}
	for first, rows := range byGroup {
		var sets []string
		var args []any
		for i, g := range m.Plan.Groups {
			var cases strings.Builder
			column := stmt.Quote(g.Column.DBName)
			for _, p := range rows {
				if token := p.Tokens[i]; token != "" {
					cases.WriteString(" WHEN ? THEN ?")
					args = append(args, token, envelopes[token])
				}
			}
			if cases.Len() > 0 {
				sets = append(sets, fmt.Sprintf("%s = CASE %s%s ELSE %s END", column, exact(db, column), cases.String(), column))
			}
		}
		var ids, tokens []any
		id := m.Plan.Schema.PrioritizedPrimaryField
		for _, p := range rows {
			_, token := lead(m, p)
			value, _ := id.ValueOf(stmt.Context, p.Value)
			ids, tokens = append(ids, value), append(tokens, token)
		}
		// By the ids as well: without an index to find a token by, MySQL would lock every row of the table.
		query := fmt.Sprintf("UPDATE %s SET %s WHERE %s IN ? AND %s IN ?", quotedTable(stmt), strings.Join(sets, ", "), stmt.Quote(id.DBName), exact(db, stmt.Quote(first.Column.DBName)))
		result := inside(db).Exec(query, append(args, ids, tokens)...)
		if result.Error != nil {
			return result.Error
		}
		if result.RowsAffected != int64(len(rows)) {
			return fmt.Errorf("%d rows of %d had their token: %w", result.RowsAffected, len(rows), ErrStaleKey)
		}
	}
	return nil
}

func quotedTable(stmt *gorm.Statement) string {
	if stmt.TableExpr != nil {
		return stmt.TableExpr.SQL
	}
	return stmt.Quote(stmt.Table)
}

type insideKey struct{}

// inside is a statement of the plugin's own in the same transaction, which its guards let pass. The mark names the statement, since another
// callback that starts one of the application's beside it hands on its context.
func inside(db *gorm.DB) *gorm.DB {
	tx := db.Session(&gorm.Session{NewDB: true, SkipHooks: true, Initialized: true})
	tx.Statement.Context = context.WithValue(db.Statement.Context, insideKey{}, tx.Statement)
	return tx
}

func isInside(stmt *gorm.Statement) bool { return stmt.Context.Value(insideKey{}) == stmt }
