// branchkeys.go owns where branch keys stand in the database: wrapped, committed apart from every transaction, and read on the connection of
// the statement that needs one where that is in a transaction.

package rowseal

import (
	"context"
	"errors"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey/branchkey"
)

// BranchKeys keeps wrapped branch keys in the tables that migrations.Up makes in db's database, which should be the one that the rows are in, so that a
// backup has both. It goes past GORM's callbacks, so db need not have the plugin, and may be the *gorm.DB that gets it afterwards; it must be no
// transaction.
//
// A statement inside a transaction reads on a connection beside it where one is free, and else on the transaction's own, so that it never waits for a second one. A branch key
// that is missing is never made on that: it takes a connection beside it, for which it waits five seconds at most; SQLite, and pools of one connection, have none, and the error says so.
// [branchkey.Keys.Make] makes keys before.
func BranchKeys(db *gorm.DB) branchkey.Store {
	return &branchKeys{db: db, finding: map[branchkey.Slot]*finding{}}
}

func (b *branchKeys) pool() gorm.ConnPool { return poolOf(b.db.Statement) }

type branchKeys struct {
	db *gorm.DB

	mu      sync.Mutex
	finding map[branchkey.Slot]*finding // outside of transactions, so that a page of rows that finds a key missing takes one connection and not thirty
}

// finding is one question for a branch key. Who waits for it holds no connection.
type finding struct {
	done   chan struct{}
	sealed string
	err    error
}

// ErrBranchKey: a branch key is missing, and could not be made in a transaction.
var ErrBranchKey = branchkey.ErrInTransaction

const findBranchKey = "SELECT sealed FROM rowseal_branch_keys WHERE namespace = ? AND tenant = ? AND generation = ?"

// Find reads beside a transaction where it can, and else on its connection; where that shows nothing, its snapshot may be older than the key.
func (b *branchKeys) Find(ctx context.Context, at branchkey.Slot) (string, error) {
	if l, inside := lent(ctx); inside {
		return b.findInside(ctx, l, at)
	}
	for range 2 {
		// Another's answer may be from before the key was there, and the row read since; the next one is not. Its error may be that the other left.
		sealed, mine, err := b.findOnce(ctx, at)
		if mine || err == nil && sealed != "" {
			return sealed, err
		}
	}
	return b.findBriefly(ctx, at)
}

// findOnce asks, or waits for the answer of who does.
func (b *branchKeys) findOnce(ctx context.Context, at branchkey.Slot) (sealed string, mine bool, err error) {
	b.mu.Lock()
	f, asked := b.finding[at]
	if !asked {
		f = &finding{done: make(chan struct{}), err: errors.New("it panicked")}
		b.finding[at] = f
	}
	b.mu.Unlock()
	if asked {
		select {
		case <-f.done:
			return f.sealed, false, f.err
		case <-ctx.Done():
			return "", true, ctx.Err()
		}
	}
	defer func() {
		b.mu.Lock()
		delete(b.finding, at)
		b.mu.Unlock()
		close(f.done)
	}()
	f.sealed, f.err = b.findBriefly(ctx, at)
	return f.sealed, true, f.err
}

// findBriefly reads on a connection of the pool. All may be with statements that wait for a key: one that streams its rows has no other to lend.
func (b *branchKeys) findBriefly(ctx context.Context, at branchkey.Slot) (string, error) {
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	return b.find(brief, b.pool(), at)
}

func (b *branchKeys) findInside(ctx context.Context, l *loan, at branchkey.Slot) (sealed string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sealed = l.found[at]; sealed != "" {
		return sealed, nil
	}
	defer func() {
		if err == nil && sealed != "" {
			if l.found == nil {
				l.found = map[branchkey.Slot]string{}
			}
			l.found[at] = sealed
		}
	}()
	if beside(ctx, b.db, func(ctx context.Context) (err error) {
		sealed, err = b.find(ctx, b.pool(), at)
		return err
	}) {
		return sealed, nil
	}
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if sealed, err = b.find(brief, l.pool, at); err != nil || sealed != "" || alone(b.db) {
		return sealed, err
	}
	return b.find(brief, b.pool(), at)
}

func (b *branchKeys) find(ctx context.Context, pool gorm.ConnPool, at branchkey.Slot) (sealed string, err error) {
	rows, err := pool.QueryContext(ctx, bindings(b.db, findBranchKey), at.Namespace, at.Tenant, at.Generation)
	if err != nil {
		return "", unread(ctx, err)
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&sealed)
	}
	return sealed, errors.Join(err, rows.Err())
}

// Add never writes in the statement's transaction.
func (b *branchKeys) Add(ctx context.Context, at branchkey.Slot, sealed string) (string, error) {
	if _, inside := lent(ctx); inside {
		if alone(b.db) {
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
func (b *branchKeys) Replace(ctx context.Context, at branchkey.Slot, old, next string) (bool, error) {
	result, err := b.pool().ExecContext(ctx, bindings(b.db, "UPDATE rowseal_branch_keys SET sealed = ? WHERE namespace = ? AND tenant = ? AND generation = ? AND sealed = ?"),
		next, at.Namespace, at.Tenant, at.Generation, old)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// All is in the order of tenant and generation.
func (b *branchKeys) All(ctx context.Context, namespace string) (entries []branchkey.Entry, err error) {
	rows, err := b.pool().QueryContext(ctx, bindings(b.db, "SELECT tenant, generation, sealed FROM rowseal_branch_keys WHERE namespace = ? ORDER BY tenant, generation"), namespace)
	if err != nil {
		return nil, unread(ctx, err)
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

// branchEpoch is the row of rowseal_epochs that branch keys go by; no row is epoch 0.
const branchEpoch = "branch-keys"

// Epoch reads beside a transaction where it can. In one, it may be that of the snapshot, and is not recent.
func (b *branchKeys) Epoch(ctx context.Context) (epoch int64, recent bool, err error) {
	return epochs{b.db, branchEpoch}.read(ctx)
}

// Revoke counts up.
func (b *branchKeys) Revoke(ctx context.Context) error { return epochs{b.db, branchEpoch}.raise(ctx) }
