// indexkeys.go owns the keys of blind indexes: made once, asked for seldom, and never in a transaction that may be rolled back.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

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
	outages  int   // how often somebody who had the turn found the key service away
	outage   error // the last time
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

// enoughOutages is how often those who wait see others find the key service away before they take it from them. One may have been a moment's; to ask one after the other would have the last of n wait
// for n timeouts.
const enoughOutages = 2

// outagesSeen counts them, and gives the last.
func (i *indexed) outagesSeen() (int, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.outages, i.outage
}

func (i *indexed) sawOutage(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.outages, i.outage = i.outages+1, err
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
		for _, version := range m.Plan.IndexVersions() {
			if err := p.moveIndexKey(stmt, m, version); err != nil {
				return fmt.Errorf("rowseal: index key %d of model %s: %w", version, m.Plan.Schema.Name, err)
			}
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
	p.seeToIndexKeys(db, func(*row.Model) bool { return false })
}

// tryIndexKeys is makeIndexKeys for statements that may need none. Where keys that were made cannot be had, one that does hears why when it is built.
func (p *Plugin) tryIndexKeys(db *gorm.DB) {
	p.seeToIndexKeys(db, func(m *row.Model) bool { return p.hasIndexKeys(db.Statement, m) })
}

func (p *Plugin) seeToIndexKeys(db *gorm.DB, dispensable func(*row.Model) bool) {
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
		if _, err := p.indexKeys(stmt, m); err != nil && !dispensable(m) {
			_ = db.AddError(err)
			return
		}
	}
}

// hasIndexKeys reports that the keys of a model's indexes were made.
func (p *Plugin) hasIndexKeys(stmt *gorm.Statement, m *row.Model) bool {
	return !slices.ContainsFunc(m.Plan.IndexVersions(), func(version int) bool {
		sealed, err := readIndexKey(stmt.Context, stmt.DB, poolOf(stmt), m, version)
		return err != nil || sealed == ""
	})
}

// SearchKeys is how packages beside this one ask for the keys of a model's indexes, to compare them with values that they open; it is not for applications.
func (p *Plugin) SearchKeys(ctx context.Context, db *gorm.DB, plan *row.Plan) (row.IndexKeys, error) {
	m := p.models[plan.Schema.ModelType]
	if m == nil {
		return nil, nil
	}
	if p.config.WriteOnly {
		return nil, fmt.Errorf("rowseal: indexes of %s: %w, and the values must be opened; run it in a program that decrypts", m.Plan.Schema.Name, ErrWriteOnly)
	}
	return p.indexKeys(db.WithContext(ctx).Statement, m)
}

// moveIndexKey moves a key to the current version, unless another process has.
func (p *Plugin) moveIndexKey(stmt *gorm.Statement, m *row.Model, version int) error {
	sealed, err := readIndexKey(stmt.Context, stmt.DB, poolOf(stmt), m, version)
	if err != nil {
		return err
	}
	box, ec, err := p.indexBox(m, version)
	if err != nil {
		return err
	}
	moved, err := box.Rewrap(stmt.Context, sealed, ec, ec)
	if err != nil || moved == sealed {
		return err
	}
	_, err = poolOf(stmt).ExecContext(stmt.Context, bindings(stmt.DB, "UPDATE rowseal_index_keys SET sealed = ? WHERE model = ? AND version = ? AND sealed = ?"), moved, m.Name, version, sealed)
	return err
}

// indexBox is what a model's index key is sealed in, and under which context: one that permits to find rows, and none of them to be opened.
func (p *Plugin) indexBox(m *row.Model, version int) (*kmskey.Box, []kmskey.Pair, error) {
	box, err := kmskey.NewBox(p.keys, "rowseal/index-keys")
	return box, []kmskey.Pair{{Name: "purpose", Value: kmskey.Text("rowseal/index")}, {Name: "model_name", Value: kmskey.Text(m.Name)}, {Name: "index_version", Value: kmskey.Int(int64(version))}}, err
}

// indexKeys gives the keys of a model's indexes: one call to the key service for a process and its time.
func (p *Plugin) indexKeys(stmt *gorm.Statement, m *row.Model) (row.IndexKeys, error) {
	i, age := p.indexedOf(m), p.config.IndexKeyAge
	keys, old := i.known(age)
	if keys != nil && !old {
		return keys, nil
	}
	if keys == nil && !inTransaction(stmt) {
		before, _ := i.outagesSeen()
		select {
		case i.turn <- struct{}{}:
			defer func() { <-i.turn }()
		case <-stmt.Context.Done():
			return nil, stmt.Context.Err()
		}
		if keys, old = i.known(age); keys != nil && !old {
			return keys, nil
		}
		if n, err := i.outagesSeen(); keys == nil && n-before >= enoughOutages {
			return nil, err
		}
	}
	fresh, err := p.askIndexKeys(stmt, m)
	if err != nil {
		err = fmt.Errorf("rowseal: index key of model %s: %w", m.Plan.Schema.Name, err)
	}
	away := errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled)
	if away && stmt.Context.Err() == nil && !isSubQuery(stmt.DB) { // which has a patience of its own
		i.sawOutage(err)
	}
	switch {
	case err == nil:
		i.keep(fresh, age)
		return fresh, nil
	case away && keys != nil && stmt.Context.Err() == nil:
		return keys, nil // it has not said no
	case keys != nil && stmt.Context.Err() == nil:
		i.keep(nil, age)
	}
	return nil, err
}

// askIndexKeys reads the wrapped keys, one for each version, makes those that are missing, and has them unwrapped.
func (p *Plugin) askIndexKeys(stmt *gorm.Statement, m *row.Model) (row.IndexKeys, error) {
	ctx := stmt.Context
	if isSubQuery(stmt.DB) {
		// It may have been built on another handle than the statement that it is part of, which then waits for it with the last connection.
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		ctx = brief
	}
	roots := map[int][]byte{}
	defer func() {
		for _, root := range roots {
			clear(root)
		}
	}()
	for _, version := range m.Plan.IndexVersions() {
		sealed, err := readIndexKey(ctx, stmt.DB, poolOf(stmt), m, version)
		if err != nil {
			return nil, err
		}
		box, ec, err := p.indexBox(m, version)
		if err != nil {
			return nil, err
		}
		if sealed == "" {
			if sealed, err = p.newIndexKey(stmt, m, version, box, ec); err != nil {
				return nil, err
			}
		}
		if roots[version], err = box.Open(ctx, sealed, ec...); err != nil {
			return nil, err
		}
	}
	return m.IndexKeys(roots, p.config.Expressions)
}

// indexWait bounds what waits for a connection that may never come.
const indexWait = 5 * time.Second

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
func (p *Plugin) newIndexKey(stmt *gorm.Statement, m *row.Model, version int, box *kmskey.Box, ec []kmskey.Pair) (sealed string, err error) {
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
		if sealed, err = readIndexKey(brief, stmt.DB, own, m, version); err != nil {
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
	return keepIndexKey(ctx, stmt.DB, pool, m, version, made)
}

// readIndexKey gives "" where there is none.
func readIndexKey(ctx context.Context, db *gorm.DB, pool gorm.ConnPool, m *row.Model, version int) (sealed string, err error) {
	rows, err := pool.QueryContext(ctx, bindings(db, "SELECT sealed FROM rowseal_index_keys WHERE model = ? AND version = ?"), m.Name, version)
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
func keepIndexKey(ctx context.Context, db *gorm.DB, pool gorm.ConnPool, m *row.Model, version int, made string) (string, error) {
	query := "INSERT INTO rowseal_index_keys (model, version, sealed, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
	if isMySQL(db) {
		query = "INSERT IGNORE INTO rowseal_index_keys (model, version, sealed, created_ms) VALUES (?, ?, ?, ?)"
	}
	if _, err := pool.ExecContext(ctx, bindings(db, query), m.Name, version, made, time.Now().UnixMilli()); err != nil {
		return "", fmt.Errorf("store it: %w", err)
	}
	sealed, err := readIndexKey(ctx, db, pool, m, version)
	if err == nil && sealed == "" {
		err = errors.New("it was stored, and is not there")
	}
	return sealed, err
}
