// look.go owns the last look at a statement: at its text, between GORM and the connection, when every clause, expression, sub-query and
// raw string has become words. The gate (gate.go) seals what goes into a statement; the look makes sure that nothing else does.

package rowseal

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/sqltext"
)

// look is one statement on its way to the connection.
type look struct {
	gorm.ConnPool // where it goes
	plugin        *Plugin
	stmt          *gorm.Statement
	raw           bool       // its text is the application's own
	result        bool       // its rows are handed on
	dest          *row.Model // the model that the rows are opened into; nil for none
	running       *running   // what the plugin's other callbacks keep among the statement's clauses; nil for nothing
	joins         bool       // with joined relations, whose columns carry the relation's name
	opens         scanning   // sealed columns in the result are opened on their way to whoever scans them

	pending    []pending     // what only a projection can serve
	loads      []sqltext.Use // of a text of the application's own, what comes to the model
	projection *projection
	sought     []*hunt // what a projection's rows are held to
	text       string  // what runs
	named      bool    // it names a table with sealed columns

	// What the gate sealed or admitted, for which model.
	inserted *row.Model
	assigned *row.Model
	columns  []string
	written  []string // texts that the plugin itself wrote, each followed by what it stands for
}

// scanning is how the rows of a statement are scanned.
type scanning byte

const (
	noRows scanning = iota // not at all, or into the model's own struct
	byGORM
	byHand // by the application
)

// write notes a text of the plugin's own, which the look reads as another.
func (l *look) write(text, as string) {
	if l != nil {
		l.written = append(l.written, text, as)
	}
}

// admit notes that the gate saw to these columns of an assignment.
func (l *look) admit(m *row.Model, column string) {
	if l == nil {
		return
	}
	if l.assigned != m {
		l.assigned, l.columns = m, nil
	}
	l.columns = append(l.columns, strings.ToLower(column))
}

// watching is how the statements of one of GORM's processors are watched.
type watching struct {
	plugin *Plugin
	result bool
	opens  scanning

	passings passings
}

// watch puts the look between GORM and the connection, for one processor.
func (p *Plugin) watch(result bool) func(*gorm.DB) { return p.watchRows(result, noRows) }

func (p *Plugin) watchRows(result bool, opens scanning) func(*gorm.DB) {
	w := &watching{plugin: p, result: result, opens: opens}
	return func(db *gorm.DB) {
		stmt := db.Statement
		unmap(stmt)
		// A callback that starts a statement of its own hands on the pool of the one it runs in; each has its own look.
		stmt.ConnPool = poolOf(stmt)
		if !p.looksAt(stmt) {
			return
		}
		p.learn(stmt)
		if !w.pass(stmt) {
			w.look(stmt)
		}
	}
}

// look makes it, for one statement.
func (w *watching) look(stmt *gorm.Statement) *look {
	l := &look{ConnPool: stmt.ConnPool, plugin: w.plugin, stmt: stmt, raw: stmt.SQL.Len() > 0, result: w.result, running: runningOf(stmt)}
	switch l.opens = w.opens; w.opens {
	case byGORM:
		if r, reads := kept[reading](stmt.DB); reads {
			l.opens, l.dest, l.joins = noRows, r.model, len(stmt.Joins) > 0
			if r.model != nil && len(stmt.ColumnMapping) == 0 {
				stmt.ColumnMapping = r.model.Plan.Own() // until afterQuery
			}
		}
	case noRows:
		if m, marks := kept[marked](stmt.DB); marks && m.epoch != nil {
			l.dest = w.plugin.typed(stmt)
		}
	case byHand:
	}
	if l.opens != noRows {
		if hunts, joined := kept[joinHunt](stmt.DB); joined {
			l.sought = slices.Clone(*hunts)
		}
	}
	if inTransaction(stmt) {
		stmt.ConnPool = lookingTx{lookingPool{l}}
	} else {
		stmt.ConnPool = lookingPool{l}
	}
	return l
}

// isSubQuery reports a statement that becomes part of another: GORM builds it by a dry run with this logger.
func isSubQuery(db *gorm.DB) bool { return db.DryRun && db.Logger == logger.Discard }

// looksAt leaves out the plugin's own statements.
func (p *Plugin) looksAt(stmt *gorm.Statement) bool { return len(p.tables) > 0 && !isInside(stmt) }

// poolOf is the connection of a statement, without the last look.
func poolOf(stmt *gorm.Statement) gorm.ConnPool {
	switch pool := stmt.ConnPool.(type) {
	case lookingPool:
		return pool.ConnPool
	case lookingTx:
		return pool.ConnPool
	case *passing:
		return pool.pool
	case passingTx:
		return pool.pool
	}
	return stmt.ConnPool
}

// lookOf is the look at a statement; nil for none.
func lookOf(stmt *gorm.Statement) *look {
	if s := passes(stmt); s != nil {
		s.look()
	}
	var l *look
	switch pool := stmt.ConnPool.(type) {
	case lookingPool:
		l = pool.look
	case lookingTx:
		l = pool.look
	}
	if l == nil || l.stmt != stmt {
		return nil // or that of the statement in which this one was started
	}
	return l
}

// unwatch takes it out again. A dry run has no connection, and is looked at here, since its text is logged.
func (p *Plugin) unwatch(db *gorm.DB) {
	stmt := db.Statement
	if s := passes(stmt); s != nil && db.Error == nil && !db.DryRun {
		s.done()
		return
	}
	l := lookOf(stmt)
	if l != nil {
		stmt.ConnPool = l.ConnPool
		db.Error = l.checked(stmt.SQL.String(), db.Error) // what came while rows were read
		if l.lost() {
			if mark, left := stmt.Context.(*row.Epoch); left { // nobody else takes it away
				stmt.Context = mark.Context
			}
			if db.Error == nil {
				_ = db.AddError(errLost)
			}
		}
		if l.projection != nil && l.opens == byGORM && !db.DryRun {
			l.projection.settle(db)
		}
	}
	if !db.DryRun || !p.looksAt(stmt) {
		return
	}
	if l == nil {
		l = &look{ConnPool: stmt.ConnPool, plugin: p, stmt: stmt, result: true} // another callback took it away, and what was admitted with it
	}
	l.rehearse(db)
	l.result = l.result && !isSubQuery(db) // who reads it is its statement's to say
	if err := l.check(stmt.SQL.String(), nil); err != nil {
		_ = db.AddError(err)
		stmt.AddVar(stmt, row.Poison{Err: err}) // the error of a sub-query never reaches its parent
	}
}

// lookingPool is a connection pool behind a look. It is no more than a pointer, which an interface holds without another allocation.
type lookingPool struct{ *look }

func (p lookingPool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := p.look.check(query, args); err != nil {
		return nil, err
	}
	if left, err := p.look.leaveOut(ctx, query); left || err != nil {
		return driver.RowsAffected(0), err
	}
	result, err := p.ConnPool.ExecContext(ctx, query, args...)
	if err != nil && p.look.stands(query) {
		return driver.RowsAffected(0), nil
	}
	return result, p.look.checked(query, err)
}

func (p lookingPool) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := p.look.check(query, args); err != nil {
		return nil, err
	}
	if project := p.look.projection; project != nil {
		return p.look.query(ctx, project, args).open(ctx)
	}
	rows, err := p.ConnPool.QueryContext(ctx, p.look.text, args...)
	return rows, p.look.checked(query, err)
}

func (p lookingPool) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := p.look.check(query, args); err != nil {
		return p.failing(ctx, err)
	}
	if project := p.look.projection; project != nil {
		if len(project.parts) > 0 {
			project.reach = first
		}
		return p.look.query(ctx, project, args).openRow(ctx)
	}
	found := p.ConnPool.QueryRowContext(ctx, query, args...)
	if err := p.look.checked(query, found.Err()); err != found.Err() {
		return p.failing(ctx, err)
	}
	return found
}

// failing is a row with an error of ours, which can only be had from a query that fails: its value never becomes one.
func (p lookingPool) failing(ctx context.Context, err error) *sql.Row {
	poison, query := row.Poison{Err: err}, &strings.Builder{}
	query.WriteString("SELECT ")
	p.look.stmt.DB.Dialector.BindVarTo(query, &gorm.Statement{Vars: []any{poison}}, poison)
	return p.ConnPool.QueryRowContext(ctx, query.String(), poison)
}

// BeginTx serves statements that other callbacks start on this one's connection.
func (p lookingPool) BeginTx(ctx context.Context, opts *sql.TxOptions) (gorm.ConnPool, error) {
	switch inner := p.ConnPool.(type) {
	case gorm.TxBeginner:
		return inner.BeginTx(ctx, opts)
	case gorm.ConnPoolBeginner:
		return inner.BeginTx(ctx, opts)
	}
	return nil, gorm.ErrInvalidTransaction
}

// GetDBConn serves db.DB() in other callbacks.
func (p lookingPool) GetDBConn() (*sql.DB, error) {
	return (&gorm.DB{Config: &gorm.Config{ConnPool: p.ConnPool}}).DB()
}

// lookingTx is the same inside a transaction.
type lookingTx struct{ lookingPool }

func (t lookingTx) Commit() error   { return t.ConnPool.(gorm.TxCommitter).Commit() }
func (t lookingTx) Rollback() error { return t.ConnPool.(gorm.TxCommitter).Rollback() }

// StmtContext makes it what GORM takes for a transaction when another callback begins a session that prepares its statements: that would run outside of it otherwise.
func (t lookingTx) StmtContext(ctx context.Context, s *sql.Stmt) *sql.Stmt {
	return preparedOn(ctx, t.ConnPool, s)
}

// preparedOn is a prepared statement on a transaction's connection. A pool that is no GORM's has prepared it there itself.
func preparedOn(ctx context.Context, pool gorm.ConnPool, s *sql.Stmt) *sql.Stmt {
	if tx, ok := pool.(gorm.Tx); ok {
		return tx.StmtContext(ctx, s)
	}
	return s
}

// check is the verdict. On refusal it also empties the statement, which GORM logs even when it failed.
func (l *look) check(text string, args []any) error {
	l.pending, l.loads, l.projection, l.text, l.named = nil, nil, nil, text, false
	err := l.verdict(text, args)
	switch {
	case err != nil:
	case len(l.pending) > 0:
		if l.projection, err = l.project(text, l.pending); l.projection != nil {
			l.projection.aim(l.stmt, l.opens == byHand)
			l.text = l.projection.text
		}
	case len(l.loads) > 0:
		l.text = l.extend(text)
	case l.named && l.opens != noRows && l.result:
		// Nothing sealed was found. Should the text have been read wrongly, the values tell.
		l.projection = &projection{plugin: l.plugin, text: text, reach: paged}
	}
	if l.text != text {
		l.stmt.SQL.Reset()
		_, _ = l.stmt.WriteString(l.text)
	}
	if err != nil {
		l.stmt.SQL.Reset()
		_, _ = l.stmt.WriteString(refusedText)
		l.stmt.Vars = nil
	}
	return err
}

// refusedText is what stands in place of a statement that was refused, or of a sub-query in the text of a larger one.
const refusedText = "/* refused by rowseal */"

// misplacedEq is in the text where GORM itself wrote an [Eq] out.
const misplacedEq = "Eq\x00"

// errLost stops a statement of which another callback threw away what its own callbacks keep: nobody would finish its rows' keys, or open them.
var errLost = errors.New("rowseal: the statement's clauses were replaced while it ran, and with them what the plugin keeps there; add to them instead")

func (l *look) lost() bool { return l.running != nil && runningOf(l.stmt) != l.running }

func (l *look) verdict(text string, args []any) error {
	if l.lost() {
		return errLost
	}
	own, _ := l.own()
	if own == nil && l.plugin.harmless(text, args) {
		return nil
	}
	for _, a := range args {
		if poison, ok := a.(row.Poison); ok {
			return poison.Err
		}
	}
	if strings.Contains(text, refusedText) {
		return fmt.Errorf("rowseal: %w: in a sub-query", ErrCondition) // its values were written into the text
	}
	if strings.Contains(text, misplacedEq) {
		return fmt.Errorf("rowseal: query: %w: rowseal.Eq outside of a condition of its own, as in db.Where(rowseal.Eq(…)); it is no part of a text, of Having or of a join's text", ErrCondition)
	}
	l.named = true
	if len(l.written) > 0 {
		text = strings.NewReplacer(l.written...).Replace(text)
	}
	knows := l.plugin.knows.Load()
	uses, known := l.plugin.texts.uses(text, knows)
	if known = known && own == nil; !known {
		uses = sqltext.Uses(text, l.lookup(), l.plugin.owns)
		// What is written or compared weighs more than what is read.
		slices.SortStableFunc(uses, func(a, b sqltext.Use) int { return reads(a) - reads(b) })
	}
	for _, u := range uses {
		if err := l.judge(u); err != nil {
			return err
		}
	}
	if !known && own == nil {
		l.plugin.texts.keep(text, knows, uses)
	}
	return nil
}

// texts remembers what texts do that were looked at before: an application has few, and runs them again and again. What was refused is not
// kept, since it may hold a value in the clear.
type texts struct {
	known sync.Map // of readText, by text
	bytes atomic.Int64
}

type readText struct {
	knows int64 // how many tables of other models were known then, on which the reading depends
	uses  []sqltext.Use
}

// maxTexts bounds the memory of a plugin's texts. Beyond it they are forgotten, and read anew: a program whose texts are all different gains nothing.
const maxTexts = 1 << 20

func (t *texts) uses(text string, knows int64) ([]sqltext.Use, bool) {
	v, ok := t.known.Load(text)
	if !ok {
		return nil, false
	}
	read, ok := v.(readText)
	return read.uses, ok && read.knows == knows
}

func (t *texts) keep(text string, knows int64, uses []sqltext.Use) {
	size := int64(len(text)) + 512 // for the uses
	if size > maxTexts/8 {
		return
	}
	if t.bytes.Add(size) > maxTexts {
		t.known.Clear()
		t.bytes.Store(size)
	}
	t.known.Store(strings.Clone(text), readText{knows, uses})
}

// lookup is the plugin's, and knows the statement's own table.
func (l *look) lookup() sqltext.Lookup {
	own, table := l.own()
	if own == nil {
		return l.plugin.lookup
	}
	columns := columnsOf(own, table)
	return func(name string) *sqltext.Columns {
		if name == table {
			return columns
		}
		return l.plugin.columns[name]
	}
}

// own is the statement's own model where the plugin does not know its table, or knows another model's of the same name in another
// schema.
func (l *look) own() (*row.Model, string) {
	m := l.plugin.typed(l.stmt)
	if m == nil {
		return nil, ""
	}
	table := statementTable(l.stmt)
	if table == "" || l.plugin.tables[table] == m {
		return nil, ""
	}
	if l.plugin.tables[table] != nil && tableName(m.Plan.Schema.Table) != table {
		return nil, "" // db.Model(&A{}).Table("bs")
	}
	return m, table
}

func reads(u sqltext.Use) int {
	if u.Kind == sqltext.Read || u.Kind == sqltext.ReadAs || u.Kind == sqltext.Star {
		return 1
	}
	return 0
}

// judge decides on one use of one column.
func (l *look) judge(u sqltext.Use) error {
	m := l.plugin.tables[u.Table.Table]
	if own, table := l.own(); own != nil && table == u.Table.Table {
		m = own
	}
	sealed, key, index := m.Plan.Lookup(u.Column) != nil, m.Plan.LookupKey(u.Column) != nil, m.Plan.LookupIndex(u.Column) != nil
	refuse := func(act string, err error, advice string) error {
		place := m.Plan.Schema.Name
		if u.Column != "" {
			place += ", column " + u.Column
		}
		return fmt.Errorf("rowseal: %s %s: %w; %s", act, place, err, advice)
	}
	switch u.Kind {
	case sqltext.Inserted:
		switch {
		case l.inserted == m:
		case sealed:
			return refuse("insert", ErrPlaintext, "create rows from structs of the model")
		case key:
			return refuse("insert", ErrKeyColumn, "create rows from structs of the model")
		case index:
			return refuse("insert", ErrIndexColumn, "create rows from structs of the model")
		}
	case sqltext.InsertedAll:
		return refuse("insert", ErrPlaintext, "without a column list it may fill sealed columns; create rows from structs of the model")
	case sqltext.SetAgain:
		return refuse("update", ErrPlaintext, "it is assigned twice, and the second value was not seen; assign it once")
	case sqltext.Defaulted:
		if sealed || key || index {
			return refuse("alter", ErrPlaintext, "a default or check would hold plaintext; set the value in Go")
		}
	case sqltext.Set:
		switch {
		case l.assigned == m && slices.Contains(l.columns, u.Column):
		case sealed:
			return refuse("update", ErrPlaintext, "use db.Model(&row) with the row's primary key")
		case key:
			return refuse("update", ErrKeyColumn, "rowseal.Rotate moves a row to another key")
		case index:
			return refuse("update", ErrIndexColumn, "write the field")
		default:
			return refuse("update", ErrIdentity, "rows' keys are bound to it; load the row and save it")
		}
	case sqltext.Compared:
		f := m.Plan.Lookup(u.Column)
		if f != nil && f.Main() != nil && l.plugin.model(l.stmt) != m && len(l.stmt.Joins) > 0 { // without a table's name in front it would be another column
			return refuse("query", ErrCondition, fmt.Sprintf("it has a blind index, which is found by db.Where(%q, v), for equal values alone", l.calls(m)+"."+f.Column.DBName))
		}
		if f != nil && f.Main() == nil && len(f.Indexes) > 0 {
			return refuse("query", ErrCondition, fmt.Sprintf("its blind index is of a part of it: db.Where(rowseal.EqBy(%q, %q, v))", f.Column.BindName(), f.Indexes[0].Terms))
		} else if f != nil && f.Main() != nil {
			return refuse("query", ErrCondition, fmt.Sprintf("it has a blind index, which is found by db.Where(&%s{%s: v}), db.Where(%q, v), a map, or rowseal.Eq(%q, v), for equal values alone",
				m.Plan.Schema.Name, f.Column.BindName(), f.Column.DBName, f.Column.BindName()))
		}
		if sealed {
			return refuse("query", ErrCondition, "compare it in Go after loading, or give it a blind index, "+u.Column+"_bidx, by the tag rowseal:\"index\", and ask for equal values; if another table's column is meant, write that table's name in front of it")
		}
	case sqltext.Renamed:
		return refuse("query", ErrUnsupported, "its columns get other names in the text; keep their own")
	case sqltext.Read, sqltext.ReadAs, sqltext.Star:
		if l.opens != noRows && u.Query && l.result {
			l.pending = append(l.pending, pending{m, u})
			return nil
		}
		if l.raw && l.dest == m && l.result && u.Query {
			l.loads = append(l.loads, u)
		}
		if !l.readable(m, u, sealed) {
			return refuse("read", ErrUnsupported, "it would come as ciphertext; load "+m.Plan.Schema.Name+" with Find, First, Take or FindInBatches, or select other columns")
		}
	}
	return nil
}

// calls is what the statement calls a model's table that is joined.
func (l *look) calls(m *row.Model) string {
	name := m.Plan.Schema.Table
	eachJoined(l.stmt, func(alias, _ string, s *schema.Schema) {
		if l.plugin.models[s.ModelType] == m {
			name = alias
		}
	})
	return name
}

// readable reports whether a column in a select list comes to somebody who can open it, or to nobody.
func (l *look) readable(m *row.Model, u sqltext.Use, sealed bool) bool {
	switch {
	case !l.result || !u.Query:
		return true
	case u.Kind == sqltext.Star:
		return l.dest == m
	case !sealed:
		return true
	case u.Kind == sqltext.ReadAs:
		return l.joins && strings.HasSuffix(u.As, "__"+u.Column)
	default:
		return l.dest == m
	}
}

// harmless is the short way for the statements of an application's other models.
func (p *Plugin) harmless(text string, args []any) bool {
	for _, a := range args {
		if _, poison := a.(row.Poison); poison {
			return false
		}
	}
	return !p.mentions(text) && !strings.Contains(text, refusedText) && !strings.Contains(text, misplacedEq)
}

// mentions reports a text with the name of a table of ours.
func (p *Plugin) mentions(text string) bool {
	return p.names.In(text) || strings.Contains(text, `&"`) // Postgres has escapes in U&"…"
}

// learn remembers the columns of other models' tables, so that a sub-query on one of them may name its own columns without the table.
func (p *Plugin) learn(stmt *gorm.Statement) {
	if stmt.Schema == nil {
		return
	}
	// The schema itself is a key as well: it is at hand without a string to make, for each statement.
	if _, known := p.others.Load(stmt.Schema); known {
		return
	}
	if name := tableName(stmt.Schema.Table); p.tables[name] == nil {
		if _, known := p.others.LoadOrStore(name, folded(stmt.Schema.DBNames)); !known {
			p.knows.Add(1)
		}
	}
	p.others.Store(stmt.Schema, true)
}

func (p *Plugin) owns(table, column string) bool {
	columns, ok := p.others.Load(table)
	return ok && slices.Contains(columns.([]string), column)
}

func (p *Plugin) lookup(table string) *sqltext.Columns { return p.columns[table] }

// columnsOf is what the look asks about in a model's table.
func columnsOf(m *row.Model, table string) *sqltext.Columns {
	bound := folded(m.Needed())
	return &sqltext.Columns{Table: table, Has: func(column string) bool {
		return m.Plan.Lookup(column) != nil || m.Plan.LookupKey(column) != nil || m.Plan.LookupIndex(column) != nil || slices.Contains(bound, column)
	}}
}

// hookLook registers the look around each of GORM's own callbacks, nearest to it.
func (p *Plugin) hookLook(db *gorm.DB) error {
	cb := db.Callback()
	create, update, query, del, rows, raw := cb.Create(), cb.Update(), cb.Query(), cb.Delete(), cb.Row(), cb.Raw()
	return errors.Join(
		create.Before("gorm:create").Register("rowseal:watch_create", p.watch(true)),
		create.After("gorm:create").Before("rowseal:after_create").Register("rowseal:unwatch_create", p.unwatch),
		update.Before("gorm:update").Register("rowseal:watch_update", p.watch(true)),
		update.After("gorm:update").Before("rowseal:after_update").Register("rowseal:unwatch_update", p.unwatch),
		query.Before("gorm:query").Register("rowseal:watch_query", p.watchRows(true, byGORM)),
		query.After("gorm:query").Before("rowseal:after_query").Register("rowseal:unwatch_query", p.unwatch),
		del.Before("gorm:delete").Register("rowseal:watch_delete", p.watch(true)),
		del.After("gorm:delete").Before("rowseal:after_delete").Register("rowseal:unwatch_delete", p.unwatch),
		rows.Before("gorm:row").Register("rowseal:watch_row", p.watchRows(true, byHand)),
		rows.After("gorm:row").Register("rowseal:unwatch_row", p.unwatch),
		raw.Before("gorm:raw").Register("rowseal:watch_raw", p.watch(false)),
		raw.After("gorm:raw").Register("rowseal:unwatch_raw", p.unwatch),
	)
}
