// index.go owns blind indexes in GORM: their keys, their columns in every statement that writes a field, and conditions, which become a look at those columns.

package rowseal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// indexVersion is that of every index key so far.
const indexVersion = 1

// indexPatience is how long index keys are used for longer while the key service is away, before it is asked again.
const indexPatience = time.Minute

// indexed is what a process knows of a model's indexes.
type indexed struct {
	// turn holds one: who asks for keys that nobody has yet. Only statements outside of transactions wait for it, and hold no connection meanwhile: it is a
	// connection that who has the turn may wait for.
	turn chan struct{}

	mu       sync.Mutex
	keys     row.IndexKeys
	until    time.Time // they serve without another question
	complete map[indexTable]bool
}

// indexTable is an index in one of the tables that a model may have.
type indexTable struct {
	index *row.Index
	table string
}

func (p *Plugin) indexedOf(m *row.Model) *indexed {
	known, ok := p.indexes.Load(m)
	if !ok {
		fresh := &indexed{turn: make(chan struct{}, 1), complete: map[indexTable]bool{}}
		known, _ = p.indexes.LoadOrStore(m, fresh)
	}
	return known.(*indexed)
}

// known gives the keys that are at hand. Of those that are old, one caller is told to ask again, and all others go on with them.
func (i *indexed) known(age time.Duration) (keys row.IndexKeys, old bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys == nil || time.Now().Before(i.until) {
		return i.keys, false
	}
	i.until = time.Now().Add(min(indexPatience, age))
	return i.keys, true
}

func (i *indexed) keep(keys row.IndexKeys, age time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.until = keys, time.Now().Add(age)
}

// MakeIndexKeys makes the keys of blind indexes that models lack, and moves those that are not under the keyring's current version to it, so that an old version can be
// taken out when rows are rotated too. Call it when the program starts, after migrations.Up, on a db that is no transaction. It makes a call to the key service for each
// model, and one more for each key that moves. A key that is missing is otherwise made by the first statement that needs it; on SQLite not by one in
// a transaction, nor elsewhere where the pool has a single connection: it must not go with a transaction that is rolled back. Any number of processes may call it at once.
func (p *Plugin) MakeIndexKeys(ctx context.Context, db *gorm.DB) error {
	stmt := db.WithContext(ctx).Statement
	if inTransaction(stmt) {
		return fmt.Errorf("rowseal: make index keys: %w: in a transaction", ErrUnsupported)
	}
	for _, m := range p.models {
		if !m.Plan.HasIndexes() {
			continue
		}
		if _, err := p.indexKeys(stmt, m); err != nil {
			return err
		}
		if err := p.moveIndexKey(stmt, m); err != nil {
			return fmt.Errorf("rowseal: index key of model %s: %w", m.Plan.Schema.Name, err)
		}
		for _, x := range m.Plan.Indexed() {
			// So that it is known. An error is no reason not to start: rows may lack the index until FillIndexes has run, and the table may not be there yet. A search asks again.
			_ = p.filled(stmt, m, x)
		}
	}
	return nil
}

// makeIndexKeys sees to keys before a statement's own transaction begins, in which none could be made: of its model, and of all where its rows may bring others along.
func (p *Plugin) makeIndexKeys(db *gorm.DB) {
	stmt := db.Statement
	if !p.searchable || db.Error != nil || stmt.Schema == nil || db.DryRun || inTransaction(stmt) {
		return
	}
	own := p.typed(stmt)
	if own == nil && !p.leads(stmt.Schema) {
		return
	}
	for _, m := range p.models {
		if !m.Plan.HasIndexes() || m != own && !p.leads(stmt.Schema) {
			continue
		}
		if _, err := p.indexKeys(stmt, m); err != nil {
			_ = db.AddError(err)
			return
		}
	}
}

// moveIndexKey moves a key to the current version, unless another process has.
func (p *Plugin) moveIndexKey(stmt *gorm.Statement, m *row.Model) error {
	sealed, err := readIndexKey(stmt.Context, stmt.DB, poolOf(stmt), m)
	if err != nil {
		return err
	}
	box, ec, err := p.indexBox(m)
	if err != nil {
		return err
	}
	moved, err := box.Rewrap(stmt.Context, sealed, ec, ec)
	if err != nil || moved == sealed {
		return err
	}
	_, err = poolOf(stmt).ExecContext(stmt.Context, bindings(stmt.DB, "UPDATE rowseal_index_keys SET sealed = ? WHERE model = ? AND version = ? AND sealed = ?"), moved, m.Name, indexVersion, sealed)
	return err
}

// indexBox is what a model's index key is sealed in, and under which context: one that permits to find rows, and none of them to be opened.
func (p *Plugin) indexBox(m *row.Model) (*kmskey.Box, []kmskey.Pair, error) {
	box, err := kmskey.NewBox(p.keys, "rowseal/index-keys")
	return box, []kmskey.Pair{{Name: "purpose", Value: kmskey.Text("rowseal/index")}, {Name: "model_name", Value: kmskey.Text(m.Name)}, {Name: "index_version", Value: kmskey.Int(indexVersion)}}, err
}

// indexKeys gives the keys of a model's indexes: one call to the key service for a process and its time.
func (p *Plugin) indexKeys(stmt *gorm.Statement, m *row.Model) (row.IndexKeys, error) {
	i, age := p.indexedOf(m), p.config.IndexKeyAge
	keys, old := i.known(age)
	if keys != nil && !old {
		return keys, nil
	}
	if keys == nil && !inTransaction(stmt) {
		select {
		case i.turn <- struct{}{}:
			defer func() { <-i.turn }()
		case <-stmt.Context.Done():
			return nil, stmt.Context.Err()
		}
		if keys, old = i.known(age); keys != nil && !old {
			return keys, nil
		}
	}
	fresh, err := p.askIndexKeys(stmt, m)
	away := errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled)
	switch {
	case err == nil:
		i.keep(fresh, age)
		return fresh, nil
	case away && keys != nil && stmt.Context.Err() == nil:
		return keys, nil // it has not said no
	case keys != nil && stmt.Context.Err() == nil:
		i.keep(nil, age)
	}
	return nil, fmt.Errorf("rowseal: index key of model %s: %w", m.Plan.Schema.Name, err)
}

// askIndexKeys reads the wrapped key, which it makes where there is none, and has it unwrapped.
func (p *Plugin) askIndexKeys(stmt *gorm.Statement, m *row.Model) (row.IndexKeys, error) {
	ctx := stmt.Context
	if isSubQuery(stmt.DB) {
		// It may have been built on another handle than the statement that it is part of, which then waits for it with the last connection.
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		ctx = brief
	}
	sealed, err := readIndexKey(ctx, stmt.DB, poolOf(stmt), m)
	if err != nil {
		return nil, err
	}
	box, ec, err := p.indexBox(m)
	if err != nil {
		return nil, err
	}
	if sealed == "" {
		if sealed, err = p.newIndexKey(stmt, m, box, ec); err != nil {
			return nil, err
		}
	}
	root, err := box.Open(ctx, sealed, ec...)
	if err != nil {
		return nil, err
	}
	defer clear(root)
	return m.IndexKeys(root, indexVersion)
}

// indexWait bounds what waits for a connection that may never come.
const indexWait = 5 * time.Second

// poolOf is the connection of a statement, without the last look.
func poolOf(stmt *gorm.Statement) gorm.ConnPool {
	switch pool := stmt.ConnPool.(type) {
	case lookingPool:
		return pool.ConnPool
	case lookingTx:
		return pool.ConnPool
	}
	return stmt.ConnPool
}

// bindings writes ? as the database does.
func bindings(db *gorm.DB, query string) string {
	if db.Name() != "postgres" {
		return query
	}
	for n := 1; strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", fmt.Sprintf("$%d", n), 1)
	}
	return query
}

// newIndexKey makes a key, or gives the one that another process has made, past the statement's own transaction: what other rows will be found by must not go with one that is rolled back.
func (p *Plugin) newIndexKey(stmt *gorm.Statement, m *row.Model, box *kmskey.Box, ec []kmskey.Pair) (sealed string, err error) {
	ctx, pool := stmt.Context, poolOf(stmt)
	if isSubQuery(stmt.DB) {
		return "", ErrIndexKey // perhaps of a dry run, and perhaps of a transaction
	}
	if inTransaction(stmt) {
		own, err := (&gorm.DB{Config: p.home}).DB()
		if err != nil || stmt.DB.Name() == "sqlite" || own.Stats().MaxOpenConnections == 1 {
			return "", ErrIndexKey // a second connection would wait for this one, or see another database
		}
		// All connections may be in transactions that wait for a key.
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		if sealed, err = readIndexKey(brief, stmt.DB, own, m); err != nil {
			return "", fmt.Errorf("%w (%w)", ErrIndexKey, err)
		}
		if sealed != "" {
			return sealed, nil // since the transaction's snapshot was taken
		}
		ctx, pool = brief, own
	}
	// A data key is 32 random bytes, as an index key is.
	fresh := kmskey.NewDEK()
	defer fresh.Destroy()
	made, err := box.Seal(stmt.Context, fresh.Bytes(), ec...)
	if err != nil {
		return "", err
	}
	return keepIndexKey(ctx, stmt.DB, pool, m, made)
}

// readIndexKey gives "" where there is none.
func readIndexKey(ctx context.Context, db *gorm.DB, pool gorm.ConnPool, m *row.Model) (sealed string, err error) {
	rows, err := pool.QueryContext(ctx, bindings(db, "SELECT sealed FROM rowseal_index_keys WHERE model = ? AND version = ?"), m.Name, indexVersion)
	if err != nil {
		return "", fmt.Errorf("read it: %w; the table is made by migrations.Up", err)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&sealed)
	}
	return sealed, errors.Join(err, rows.Err())
}

// keepIndexKey stores a key unless there is one, and gives the one that is there then.
func keepIndexKey(ctx context.Context, db *gorm.DB, pool gorm.ConnPool, m *row.Model, made string) (string, error) {
	query := "INSERT INTO rowseal_index_keys (model, version, sealed, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
	if isMySQL(db) {
		query = "INSERT IGNORE INTO rowseal_index_keys (model, version, sealed, created_ms) VALUES (?, ?, ?, ?)"
	}
	if _, err := pool.ExecContext(ctx, bindings(db, query), m.Name, indexVersion, made, time.Now().UnixMilli()); err != nil {
		return "", fmt.Errorf("store it: %w", err)
	}
	sealed, err := readIndexKey(ctx, db, pool, m)
	if err == nil && sealed == "" {
		err = errors.New("it was stored, and is not there")
	}
	return sealed, err
}

// filled makes sure that no row has the field and not its index: a search would pass over it. What was once complete stays so, as long as every writer knows the
// index.
func (p *Plugin) filled(stmt *gorm.Statement, m *row.Model, x *row.Index) error {
	table := stmt.Quote(m.Plan.Schema.Table)
	if p.model(stmt) == m && stmt.Table != "" && (stmt.TableExpr == nil || len(stmt.TableExpr.Vars) == 0) {
		table = quotedTable(stmt) // which may be another one of the same model
	}
	i, at := p.indexedOf(m), indexTable{x, table}
	i.mu.Lock()
	complete := i.complete[at]
	i.mu.Unlock()
	if complete {
		return nil
	}
	ctx := stmt.Context
	if isSubQuery(stmt.DB) {
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		ctx = brief
	}
	query := fmt.Sprintf("SELECT 1 FROM %s WHERE %s IS NOT NULL AND %s IS NULL LIMIT 1", table, stmt.Quote(x.Field.Column.DBName), stmt.Quote(x.Column))
	var one int
	switch err := poolOf(stmt).QueryRowContext(ctx, query).Scan(&one); {
	case errors.Is(err, sql.ErrNoRows):
		i.mu.Lock()
		defer i.mu.Unlock()
		i.complete[at] = true
		return nil
	case err != nil:
		return fmt.Errorf("rowseal: index %s: look whether it is complete: %w", x.Field.Place(), err)
	}
	return fmt.Errorf("rowseal: index %s: %w; call rowseal.FillIndexes", x.Field.Place(), ErrIndexIncomplete)
}

// FillIndexes writes the indexes that rows of a model lack, which have stood in the table since before the model had them, and gives the number of rows. Soft-deleted rows are rows. It changes no
// other column, runs no hook, and passes over nothing: a row that another writer changes meanwhile is looked at again, and one that does not open is an error. It can be stopped at any point and called again.
// It makes one call to the key service for each row and key column. Every program that writes the model must know its indexes by now.
func FillIndexes(ctx context.Context, db *gorm.DB, model any) (filled int64, err error) {
	p, ok := db.Plugins[row.PluginName].(*Plugin)
	if !ok {
		return 0, fmt.Errorf("rowseal: fill indexes of %T: %w; call db.Use(plugin) first", model, ErrNoPlugin)
	}
	m := p.models[destType(reflect.ValueOf(model))]
	if m == nil {
		return 0, fmt.Errorf("rowseal: fill indexes of %T: %w: it is not registered; add it to rowseal.Config.Models", model, ErrModel)
	}
	if p.config.WriteOnly {
		return 0, fmt.Errorf("rowseal: fill indexes of %s: %w, and the values must be opened; run it in a program that decrypts", m.Plan.Schema.Name, ErrWriteOnly)
	}
	stmt := db.WithContext(ctx).Statement
	var lacks []string
	for _, x := range m.Plan.Indexed() {
		lacks = append(lacks, fmt.Sprintf("(%s IS NOT NULL AND %s IS NULL)", stmt.Quote(x.Field.Column.DBName), stmt.Quote(x.Column)))
	}
	if len(lacks) == 0 {
		return 0, nil
	}
	keys, err := p.indexKeys(stmt, m)
	if err != nil {
		return 0, err
	}
	fail := func(err error) (int64, error) {
		return filled, fmt.Errorf("rowseal: fill indexes of %s: %w", m.Plan.Schema.Name, err)
	}
	for idle := 0; idle < fillTries; {
		rows := reflect.New(reflect.SliceOf(m.Plan.Schema.ModelType))
		tx := db.Session(&gorm.Session{NewDB: true, SkipHooks: true, Context: ctx})
		if err := tx.Unscoped().Where(strings.Join(lacks, " OR ")).Limit(fillPage).Find(rows.Interface()).Error; err != nil {
			return fail(err)
		}
		if rows.Elem().Len() == 0 {
			return filled, nil
		}
		before := filled
		for i := range rows.Elem().Len() {
			wrote, err := p.fill(tx, m, keys, rows.Elem().Index(i))
			if err != nil {
				return fail(err)
			}
			if wrote {
				filled++
			}
		}
		if idle++; filled > before {
			idle = 0
		}
	}
	return fail(fmt.Errorf("%w: other writers change the rows that are left each time", ErrStaleKey))
}

const (
	fillPage  = 200 // rows that are opened at once
	fillTries = 10  // pages without any progress
)

// fill writes the indexes that one row lacks, each where the field still is what was read.
func (p *Plugin) fill(tx *gorm.DB, m *row.Model, keys row.IndexKeys, v reflect.Value) (wrote bool, err error) {
	stmt := tx.Model(v.Addr().Interface()).Statement
	if err := stmt.Parse(v.Addr().Interface()); err != nil {
		return false, err
	}
	for _, x := range m.Plan.Indexed() {
		sum, sealed, ok, err := keys.Stored(x, v)
		if err != nil {
			return wrote, err
		}
		if !ok {
			continue
		}
		where, args := identify(stmt, m, v)
		column := stmt.Quote(x.Field.Column.DBName)
		if x.Field.Text {
			column = exact(tx, column)
		}
		where, args = append(where, column+" = ?", stmt.Quote(x.Column)+" IS NULL"), append(args, sealed)
		query := fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s", quotedTable(stmt), stmt.Quote(x.Column), strings.Join(where, " AND "))
		result := inside(tx).Exec(query, append([]any{sum}, args...)...)
		if result.Error != nil {
			return wrote, result.Error
		}
		wrote = wrote || result.RowsAffected > 0
	}
	return wrote, nil
}

// indexValue is the index of a Go value.
func (p *Plugin) indexValue(stmt *gorm.Statement, m *row.Model, x *row.Index, plain any) (*row.IndexValue, error) {
	keys, err := p.indexKeys(stmt, m)
	if err != nil {
		return nil, err
	}
	return keys.Value(x, plain)
}

// indexOf is what is written to an index column beside a value of its field. nil is NULL.
func (p *Plugin) indexOf(stmt *gorm.Statement, m *row.Model, x *row.Index, value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case *byKey: // one value for many rows, each under its own key
		return p.indexOf(stmt, m, x, v.values[0])
	case *row.Value:
		if v.Null() {
			return nil, nil
		}
		return p.indexValue(stmt, m, x, v.Plain())
	case row.Poison:
		return v, nil // a dry run
	}
	return nil, fmt.Errorf("rowseal: index %s: %w", x.Field.Place(), ErrPlaintext)
}

// indexRows adds index columns to the rows of an INSERT.
func (p *Plugin) indexRows(stmt *gorm.Statement, m *row.Model, values clause.Values) (clause.Values, error) {
	for at, column := range values.Columns {
		f := m.Plan.Lookup(column.Name)
		if f == nil || f.Index == nil {
			continue
		}
		values.Columns = append(values.Columns[:len(values.Columns):len(values.Columns)], clause.Column{Name: f.Index.Column})
		rows := make([][]any, len(values.Values))
		for i, v := range values.Values {
			sum, err := p.indexOf(stmt, m, f.Index, v[at])
			if err != nil {
				return values, err
			}
			rows[i] = append(v[:len(v):len(v)], sum)
		}
		values.Values = rows
	}
	return values, nil
}

// indexSet adds index columns to the SET of an UPDATE.
func (p *Plugin) indexSet(stmt *gorm.Statement, m *row.Model, set clause.Set) (clause.Set, error) {
	out := set[:len(set):len(set)]
	for _, a := range set {
		f := m.Plan.Lookup(a.Column.Name)
		if f == nil || f.Index == nil {
			continue
		}
		sum, err := p.indexOf(stmt, m, f.Index, a.Value)
		if err != nil {
			return set, err
		}
		out = append(out, clause.Assignment{Column: clause.Column{Name: f.Index.Column}, Value: sum})
		lookOf(stmt).admit(m, columnName(f.Index.Column))
	}
	return out, nil
}

// indexConflict adds index columns to what an upsert takes from its rows.
func (p *Plugin) indexConflict(stmt *gorm.Statement, m *row.Model, conflict clause.OnConflict) clause.OnConflict {
	updates := conflict.DoUpdates[:len(conflict.DoUpdates):len(conflict.DoUpdates)]
	for _, a := range conflict.DoUpdates {
		f := m.Plan.Lookup(a.Column.Name)
		if f == nil || f.Index == nil {
			continue
		}
		updates = append(updates, clause.Assignment{Column: clause.Column{Name: f.Index.Column}, Value: clause.Column{Table: "excluded", Name: f.Index.Column}})
		lookOf(stmt).admit(m, columnName(f.Index.Column))
	}
	conflict.DoUpdates = updates
	return conflict
}

// Eq is the condition that a field, by its Go name or its column, has a value: for a sealed field with an index, in db.Where(rowseal.Eq("Email", v)). Values of a slice are
// alternatives, and nil is NULL.
func Eq(field string, value any) clause.Expression {
	return clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: field, Alias: eqMark}, Value: value}
}

// eqMark is not a name that a database takes, should nobody resolve it.
const eqMark = "rowseal.Eq\x00"

// resolved is the column behind the name in an [Eq].
func (p *Plugin) resolved(stmt *gorm.Statement, c clause.Column) (clause.Column, error) {
	s := stmt.Schema
	if m := p.model(stmt); m != nil {
		s = m.Plan.Schema
	}
	if s == nil {
		return c, fmt.Errorf("rowseal: Eq(%q): %w: the statement has no model to find it in", c.Name, ErrCondition)
	}
	f := s.LookUpField(c.Name)
	if f == nil || f.DBName == "" {
		return c, fmt.Errorf("rowseal: Eq(%q): %w: model %s has no such field", c.Name, ErrCondition, s.Name)
	}
	return clause.Column{Table: c.Table, Name: f.DBName}, nil
}

// holdsEq reports an [Eq] among conditions, which is all that there is to see to where no model has an index.
func holdsEq(exprs []clause.Expression) bool {
	for _, e := range exprs {
		found := false
		switch e := e.(type) {
		case clause.Eq:
			c, ok := e.Column.(clause.Column)
			found = ok && c.Alias == eqMark
		case clause.AndConditions:
			found = holdsEq(e.Exprs)
		case clause.OrConditions:
			found = holdsEq(e.Exprs)
		case clause.NotConditions:
			found = holdsEq(e.Exprs)
		case clause.Where:
			found = holdsEq(e.Exprs)
		case bracketed: // around each condition of an update
			found = holdsEq([]clause.Expression{e.Expression})
		}
		if found {
			return true
		}
	}
	return false
}

// searched is a copy of conditions in which those on sealed fields with an index are conditions on the index. The statement's own stay what they are: GORM reads them for
// FirstOrCreate.
func (p *Plugin) searched(stmt *gorm.Statement, exprs []clause.Expression) (out []clause.Expression, changed bool, err error) {
	for i, e := range exprs {
		next, other, err := p.searchedOne(stmt, e)
		if err != nil {
			return nil, false, err
		}
		if other && !changed {
			out, changed = slices.Clone(exprs), true
		}
		if other {
			out[i] = next
		}
	}
	return out, changed, nil
}

func (p *Plugin) searchedOne(stmt *gorm.Statement, e clause.Expression) (instead clause.Expression, changed bool, err error) {
	switch e := e.(type) {
	case clause.Eq:
		marked := false
		if c, ok := e.Column.(clause.Column); ok && c.Alias == eqMark {
			if c, err = p.resolved(stmt, c); err != nil {
				return nil, false, err
			}
			e.Column, marked = c, true
		}
		sums, err := p.sums(stmt, e.Column, e.Value)
		switch {
		case err != nil:
			return nil, false, err
		case sums == nil && !marked:
			return nil, false, nil
		case sums == nil:
			return e, true, nil
		case sums.null:
			return clause.Eq{Column: e.Column}, true, nil
		case sums.list:
			return clause.IN{Column: sums.column, Values: sums.values}, true, nil
		}
		return clause.Eq{Column: sums.column, Value: sums.values[0]}, true, nil
	case clause.Neq:
		sums, err := p.sums(stmt, e.Column, e.Value)
		switch {
		case err != nil || sums == nil:
			return nil, false, err
		case sums.null:
			return clause.Neq{Column: e.Column}, true, nil
		case sums.list:
			return clause.Not(clause.IN{Column: sums.column, Values: sums.values}), true, nil
		}
		return clause.Neq{Column: sums.column, Value: sums.values[0]}, true, nil
	case clause.IN:
		sums, err := p.sums(stmt, e.Column, e.Values)
		if err != nil || sums == nil {
			return nil, false, err
		}
		return clause.IN{Column: sums.column, Values: sums.values}, true, nil
	case clause.AndConditions:
		if inner, changed, err := p.searched(stmt, e.Exprs); changed || err != nil {
			return clause.AndConditions{Exprs: inner}, changed, err
		}
	case clause.OrConditions:
		if inner, changed, err := p.searched(stmt, e.Exprs); changed || err != nil {
			return clause.OrConditions{Exprs: inner}, changed, err
		}
	case clause.NotConditions:
		if inner, changed, err := p.searched(stmt, e.Exprs); changed || err != nil {
			return clause.NotConditions{Exprs: inner}, changed, err
		}
	case clause.Where:
		if inner, changed, err := p.searched(stmt, e.Exprs); changed || err != nil {
			return clause.Where{Exprs: inner}, changed, err
		}
	case bracketed:
		if inner, changed, err := p.searchedOne(stmt, e.Expression); changed || err != nil {
			return bracketed{inner}, changed, err
		}
	}
	return nil, false, nil
}

// hunt is what a statement seeks, as far as every row that it finds must have it.
type hunt struct {
	sought map[*row.Index][]*row.IndexValue
}

// note takes down the conditions on the statement's own model that stand beside all others: with an OR next to one, a row need not meet it.
func (h *hunt) note(stmt *gorm.Statement, m *row.Model, exprs []clause.Expression) {
	for _, e := range exprs {
		if _, or := e.(clause.OrConditions); or {
			return
		}
	}
	add := func(column any, values ...any) {
		c, ok := column.(clause.Column)
		if !ok || c.Table != "" && c.Table != clause.CurrentTable && !strings.EqualFold(bareName(c.Table), bareName(stmt.Table)) {
			return
		}
		x := m.Plan.LookupIndex(c.Name)
		if x == nil || h.sought[x] != nil {
			return
		}
		var sums []*row.IndexValue
		for _, v := range values {
			if sum, ours := v.(*row.IndexValue); ours {
				sums = append(sums, sum)
			}
		}
		if len(sums) == len(values) && len(sums) > 0 {
			h.sought[x] = sums
		}
	}
	for _, e := range exprs {
		switch e := e.(type) {
		case clause.Eq:
			add(e.Column, e.Value)
		case clause.IN:
			add(e.Column, e.Values...)
		case clause.AndConditions:
			h.note(stmt, m, e.Exprs)
		case clause.Where:
			h.note(stmt, m, e.Exprs)
		}
	}
}

// confirm holds rows that were opened to what was sought: an index column says what its writer wrote, and the value is authentic.
func (p *Plugin) confirm(db *gorm.DB, m *row.Model) error {
	h, ok := kept[hunt](db)
	if !ok || len(h.sought) == 0 || db.RowsAffected == 0 {
		return nil
	}
	forget[hunt](db)
	keys, err := p.indexKeys(db.Statement, m)
	if err != nil {
		return err
	}
	for x, sought := range h.sought {
		for _, v := range structs(db.Statement.ReflectValue, m.Plan.Schema.ModelType) { // not those of relations, which nobody sought
			fits, err := keys.Fits(x, v, sought)
			if err == nil && !fits {
				err = ErrIndexMismatch
			}
			if err != nil {
				return fmt.Errorf("rowseal: query %s: %s: %w", m.Describe(v), x.Field.Place(), err)
			}
		}
	}
	return nil
}

// indexedColumn is where a condition on a field looks instead.
type indexedColumn struct {
	model  *row.Model
	index  *row.Index
	column clause.Column
}

// indexedBy finds the index behind the column of a condition; nil for none.
func (p *Plugin) indexedBy(stmt *gorm.Statement, column any) *indexedColumn {
	var c clause.Column
	switch column := column.(type) {
	case string:
		c.Name = column
	case clause.Column:
		if c = column; c.Raw || c.Alias != "" {
			return nil
		}
	default:
		return nil
	}
	if i := strings.LastIndexByte(c.Name, '.'); i >= 0 { // GORM leaves what stands in front where it is, and nothing in Table
		c.Table, c.Name = c.Name[:i], c.Name[i+1:]
	}
	m := p.model(stmt)
	if own := c.Table == "" || c.Table == clause.CurrentTable || strings.EqualFold(bareName(c.Table), bareName(stmt.Table)); !own {
		m = p.tables[tableName(c.Table)]
	}
	if m == nil {
		return nil
	}
	f := m.Plan.Lookup(c.Name)
	if f == nil || f.Index == nil {
		return nil
	}
	c.Name = f.Index.Column
	return &indexedColumn{m, f.Index, c}
}

// sought is what a condition looks for in the column of an index.
type sought struct {
	column clause.Column
	values []any
	list   bool
	null   bool // it asks for NULL, which the sealed column has as any other
}

// sums are the indexes of the values that a column is compared with; nil where the condition stays what it is, because it is none on an index, or asks for NULL, or for what only the
// database knows.
func (p *Plugin) sums(stmt *gorm.Statement, column, value any) (*sought, error) {
	found := p.indexedBy(stmt, column)
	if found == nil || ofDatabase(value) || value == nil {
		return nil, nil
	}
	f, out := found.index.Field, &sought{column: found.column}
	values := []any{value}
	if v := reflect.ValueOf(value); isList(v) && !isOne(value) {
		values, out.list = make([]any, v.Len()), true
		for i := range values {
			values[i] = v.Index(i).Interface()
		}
	}
	plains := make([]any, len(values))
	for i, v := range values {
		switch {
		case ofDatabase(v):
			return nil, fmt.Errorf("rowseal: query %s: %w: an SQL expression among the values; ask for it in a condition of its own", f.Place(), ErrCondition)
		case isNil(v):
			out.null = !out.list
			continue
		}
		plain, err := plainOf(stmt, f, v)
		if err != nil {
			return nil, err
		}
		if plains[i] = plain; isNil(plain) {
			plains[i], out.null = nil, !out.list
		}
	}
	if out.null {
		return out, nil
	}
	out.values = make([]any, len(values))
	if stmt.DB.DryRun && !isSubQuery(stmt.DB) {
		for i := range values {
			out.values[i] = dryValue(found.model, found.index.Column)
		}
		return out, nil
	}
	if err := p.filled(stmt, found.model, found.index); err != nil {
		return nil, err
	}
	for i, plain := range plains {
		if plain == nil {
			continue // NULL in a list
		}
		sum, err := p.indexValue(stmt, found.model, found.index, plain)
		if err != nil {
			return nil, err
		}
		out.values[i] = sum
	}
	return out, nil
}

// ofDatabase reports what becomes a value in the database alone.
func ofDatabase(v any) bool {
	switch v.(type) {
	case clause.Expression, gorm.Valuer, *gorm.DB, clause.Column, clause.Table:
		return true
	}
	return false
}

// isOne reports that a slice or array is one value and no list of them: bytes, and types that say themselves what they are.
func isOne(v any) bool {
	_, says := v.(driver.Valuer)
	return says || reflect.TypeOf(v).Elem().Kind() == reflect.Uint8
}

// isNil reports what a database would take for NULL.
func isNil(v any) bool {
	if ours, ok := v.(*row.Value); ok {
		return ours == nil || ours.Null() || isNil(ours.Plain())
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Interface:
		if r.IsNil() {
			return true
		}
	case reflect.Slice:
		return r.IsNil() && isOne(v)
	}
	if valuer, ok := v.(driver.Valuer); ok {
		d, err := valuer.Value()
		return err == nil && d == nil
	}
	return r.Kind() == reflect.Pointer && isNil(r.Elem().Interface())
}

// plainOf is a value as the field itself would hold it.
func plainOf(stmt *gorm.Statement, f *row.Field, value any) (any, error) {
	if ours, ok := value.(*row.Value); ok {
		if ours.Field() == f {
			return ours.Plain(), nil
		}
		value = ours.Plain()
	}
	scratch := reflect.New(f.Column.Schema.ModelType)
	if err := f.Assign(stmt.Context, scratch, value); err != nil {
		return nil, err
	}
	plain := f.Column.ReflectValueOf(stmt.Context, scratch).Interface()
	if !sameNumber(value, plain) {
		return nil, fmt.Errorf("rowseal: query %s: %w: a number that a %s cannot hold (the value is left out)", f.Place(), ErrType, f.Column.FieldType)
	}
	return plain, nil
}

// sameNumber reports that a number is what it was: GORM's setters cut off what does not fit, and another value would be found.
func sameNumber(given, plain any) bool {
	a, b := reflect.ValueOf(given), reflect.ValueOf(plain)
	for a.Kind() == reflect.Pointer && !a.IsNil() {
		a = a.Elem()
	}
	for b.Kind() == reflect.Pointer && !b.IsNil() {
		b = b.Elem()
	}
	switch {
	case a.CanInt() && b.CanInt():
		return a.Int() == b.Int()
	case a.CanInt() && b.CanUint():
		return a.Int() >= 0 && uint64(a.Int()) == b.Uint()
	case a.CanUint() && b.CanUint():
		return a.Uint() == b.Uint()
	case a.CanUint() && b.CanInt():
		return b.Int() >= 0 && uint64(b.Int()) == a.Uint()
	case a.CanFloat() && b.CanInt():
		return float64(b.Int()) == a.Float()
	case a.CanFloat() && b.CanUint():
		return float64(b.Uint()) == a.Float()
	}
	return true
}
