// branchkeys.go owns where branch keys stand in the database: wrapped, committed apart from every transaction, and read on the connection of
// the statement that needs one where that is in a transaction.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey/branchkey"
)

// BranchKeys keeps wrapped branch keys in the tables that migrations.Up makes in db's database, which should be the one that the rows are in, so that a
// backup has both. It goes past GORM's callbacks, so db need not have the plugin, and may be the *gorm.DB that gets it afterwards; it must be no
// transaction.
//
// A statement inside a transaction reads on the transaction's own connection, so that it does not wait for a second one. A branch key that is missing is never made there: it
// takes a connection beside it, for which it waits five seconds at most; SQLite, and pools of one connection, have none, and the error says so.
// [branchkey.Keys.Make] makes keys before.
func BranchKeys(db *gorm.DB) branchkey.Store { return branchKeys{db} }

type branchKeys struct{ db *gorm.DB }

// ErrBranchKey: a branch key is missing, and could not be made in a transaction.
var ErrBranchKey = branchkey.ErrInTransaction

// statementKey carries the connection of a statement in a transaction to the store.
type statementKey struct{}

// lend lets the store use the connection of the statement, where that is in a transaction. The context goes to key services alone.
func lend(ctx context.Context, stmt *gorm.Statement) context.Context {
	if !inTransaction(stmt) {
		return ctx
	}
	return context.WithValue(ctx, statementKey{}, &loan{pool: poolOf(stmt)})
}

// loan is the connection of a statement's transaction. A connection answers one question at a time, and a statement may need keys of several tenants at once.
type loan struct {
	pool gorm.ConnPool
	mu   sync.Mutex
}

func lent(ctx context.Context) (l *loan, inside bool) {
	l, inside = ctx.Value(statementKey{}).(*loan)
	return l, inside
}

// on has ask run on the statement's own connection, or on one of the pool where it is not in a transaction.
func (b branchKeys) on(ctx context.Context, ask func(gorm.ConnPool) error) error {
	l, inside := lent(ctx)
	if !inside {
		return ask(b.pool())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return ask(l.pool)
}

func (b branchKeys) pool() gorm.ConnPool { return poolOf(b.db.Statement) }

// alone reports that there is no connection beside that of a transaction.
func (b branchKeys) alone() bool {
	own, err := b.db.DB()
	return err != nil || b.db.Name() == "sqlite" || own.Stats().MaxOpenConnections == 1
}

const findBranchKey = "SELECT sealed FROM rowseal_branch_keys WHERE namespace = ? AND tenant = ? AND generation = ?"

// Find reads on the statement's connection, and where that shows nothing beside it: the transaction's snapshot may be older than the key.
func (b branchKeys) Find(ctx context.Context, at branchkey.Slot) (string, error) {
	_, inside := lent(ctx)
	// All connections may be with statements that wait for a key: one that streams its rows has no other to lend.
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	var sealed string
	err := b.on(brief, func(pool gorm.ConnPool) (err error) {
		sealed, err = b.find(brief, pool, at)
		return err
	})
	if err != nil || sealed != "" || !inside || b.alone() {
		return sealed, err
	}
	return b.find(brief, b.pool(), at)
}

func (b branchKeys) find(ctx context.Context, pool gorm.ConnPool, at branchkey.Slot) (sealed string, err error) {
	rows, err := pool.QueryContext(ctx, bindings(b.db, findBranchKey), at.Namespace, at.Tenant, at.Generation)
	if err != nil {
		return "", fmt.Errorf("%w; the table is made by migrations.Up", err)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&sealed)
	}
	return sealed, errors.Join(err, rows.Err())
}

// Add never writes in the statement's transaction.
func (b branchKeys) Add(ctx context.Context, at branchkey.Slot, sealed string) (string, error) {
	if _, inside := lent(ctx); inside {
		if b.alone() {
			return "", ErrBranchKey
		}
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		ctx = brief
	}
	query := "INSERT INTO rowseal_branch_keys (namespace, tenant, generation, sealed, created_ms) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	if isMySQL(b.db) {
		query = "INSERT IGNORE INTO rowseal_branch_keys (namespace, tenant, generation, sealed, created_ms) VALUES (?, ?, ?, ?, ?)"
	}
	if _, err := b.pool().ExecContext(ctx, bindings(b.db, query), at.Namespace, at.Tenant, at.Generation, sealed, time.Now().UnixMilli()); err != nil {
		return "", err
	}
	stands, err := b.find(ctx, b.pool(), at)
	if err == nil && stands == "" {
		err = errors.New("it was stored, and is not there")
	}
	return stands, err
}

// Replace compares and sets.
func (b branchKeys) Replace(ctx context.Context, at branchkey.Slot, old, next string) (bool, error) {
	result, err := b.pool().ExecContext(ctx, bindings(b.db, "UPDATE rowseal_branch_keys SET sealed = ? WHERE namespace = ? AND tenant = ? AND generation = ? AND sealed = ?"),
		next, at.Namespace, at.Tenant, at.Generation, old)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// All is in the order of tenant and generation.
func (b branchKeys) All(ctx context.Context, namespace string) (entries []branchkey.Entry, err error) {
	rows, err := b.pool().QueryContext(ctx, bindings(b.db, "SELECT tenant, generation, sealed FROM rowseal_branch_keys WHERE namespace = ? ORDER BY tenant, generation"), namespace)
	if err != nil {
		return nil, fmt.Errorf("%w; the table is made by migrations.Up", err)
	}
	defer rows.Close()
	for rows.Next() {
		e := branchkey.Entry{Slot: branchkey.Slot{Namespace: namespace}}
		if err := rows.Scan(&e.Tenant, &e.Generation, &e.Sealed); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// epochName is the row of rowseal_epochs that branch keys go by; no row is epoch 0.
const epochName = "branch-keys"

// Epoch reads beside a transaction where it can: in one, it would be that of the snapshot.
func (b branchKeys) Epoch(ctx context.Context) (epoch int64, err error) {
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if _, inside := lent(ctx); inside && b.alone() {
		err = b.on(brief, func(pool gorm.ConnPool) (err error) {
			epoch, err = b.readEpoch(brief, pool)
			return err
		})
		return epoch, err
	}
	return b.readEpoch(brief, b.pool())
}

func (b branchKeys) readEpoch(ctx context.Context, pool gorm.ConnPool) (epoch int64, err error) {
	rows, err := pool.QueryContext(ctx, bindings(b.db, "SELECT epoch FROM rowseal_epochs WHERE name = ?"), epochName)
	if err != nil {
		return 0, fmt.Errorf("%w; the table is made by migrations.Up", err)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&epoch)
	}
	return epoch, errors.Join(err, rows.Err())
}

// Revoke counts up, from whichever number stands there.
func (b branchKeys) Revoke(ctx context.Context) error {
	insert := "INSERT INTO rowseal_epochs (name, epoch) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET epoch = rowseal_epochs.epoch + 1"
	if isMySQL(b.db) {
		insert = "INSERT INTO rowseal_epochs (name, epoch) VALUES (?, 1) ON DUPLICATE KEY UPDATE epoch = epoch + 1"
	}
	_, err := b.pool().ExecContext(ctx, bindings(b.db, insert), epochName)
	return err
}
