// branchkeys.go owns where branch keys stand in the database: wrapped, committed apart from every transaction, and read on the connection of
// the statement that needs one where that is in a transaction.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
)

// BranchKeys keeps wrapped branch keys in the tables that migrations.Up makes in db's database, which should be the one that the rows are in, so that a
// backup has both. It goes past GORM's callbacks, so db need not have the plugin, and may be the *gorm.DB that gets it afterwards; it must be no
// transaction.
//
// A statement inside a transaction reads on a connection beside it where one is free, and else on the transaction's own, so that it never waits for a second one. A branch key
// that is missing is never made on that: it takes a connection beside it, for which it waits five seconds at most; SQLite, and pools of one connection, have none. The error is [ErrBranchKey].
// [branchkey.Keys.Make] makes keys before. What a transaction's own connection shows may be of its snapshot: one that began before a tenant was shredded may bring a key back into memory,
// until that is asked for again.
func BranchKeys(db *gorm.DB) branchkey.Store {
	return &branchKeys{db: db, finding: map[question]*finding{}}
}

func (b *branchKeys) pool() gorm.ConnPool { return poolOf(b.db.Statement) }

type branchKeys struct {
	db *gorm.DB

	round atomic.Uint64 // counts changes of the epoch: what was read before one is given to nobody after it
	epoch atomic.Int64

	mu      sync.Mutex
	finding map[question]*finding // outside of transactions, so that a page of rows that finds a key missing takes one connection and not thirty
}

// question is for the branch keys of a slot, in a round.
type question struct {
	branchkey.Slot
	round uint64
}

// finding is one question's answer. Who waits for it holds no connection.
type finding struct {
	done chan struct{}
	keys []branchkey.Key
	err  error
}

// branchID is a question for one key.
type branchID struct {
	question
	id string
}

// ErrBranchKey: a branch key is missing, and could not be made in a transaction.
var ErrBranchKey = branchkey.ErrInTransaction

// answers reports whether an answer is good enough for whoever wants id, which is any key where it is "": one that is not may be from before the key was there.
func answers(keys []branchkey.Key, id string) bool {
	return slices.ContainsFunc(keys, func(k branchkey.Key) bool { return id == "" || k.ID == id })
}

// Find reads beside a transaction where it can, and else on its connection; where that does not show the key, its snapshot may be older.
func (b *branchKeys) Find(ctx context.Context, at branchkey.Slot, id string) ([]branchkey.Key, error) {
	if l, inside := lent(ctx, b.db); inside {
		return b.findInside(ctx, l, at, id)
	}
	for _, later := range []bool{false, true} {
		// Another's answer may be from before the key was there, and the row read since; the next one was asked for after this one came. An error may be that the other left.
		keys, mine, err := b.findOnce(ctx, at)
		if mine || err == nil && (later || answers(keys, id)) {
			return keys, err
		}
	}
	return b.findBriefly(ctx, at)
}

// findOnce asks, or waits for the answer of who does.
func (b *branchKeys) findOnce(ctx context.Context, at branchkey.Slot) (keys []branchkey.Key, mine bool, err error) {
	q := question{at, b.round.Load()}
	b.mu.Lock()
	f, asked := b.finding[q]
	if !asked {
		f = &finding{done: make(chan struct{}), err: errors.New("it panicked")}
		b.finding[q] = f
	}
	b.mu.Unlock()
	if asked {
		select {
		case <-f.done:
			return f.keys, false, f.err
		case <-ctx.Done():
			return nil, true, ctx.Err()
		}
	}
	defer func() {
		b.mu.Lock()
		delete(b.finding, q)
		b.mu.Unlock()
		close(f.done)
	}()
	f.keys, f.err = b.findBriefly(ctx, at)
	return f.keys, true, f.err
}

// findBriefly reads on a connection of the pool. All may be with statements that wait for a key: one that streams its rows has no other to lend.
func (b *branchKeys) findBriefly(ctx context.Context, at branchkey.Slot) ([]branchkey.Key, error) {
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	keys, err := b.find(brief, b.pool(), at)
	if errors.Is(err, kmskey.ErrShredded) && len(keys) > 0 {
		// Whoever added one died before it looked. Where this does not succeed the next one tries.
		if _, left := b.destroy(brief, at.Namespace, at.Tenant); left != nil {
			err = fmt.Errorf("%w, and a wrapped key of the tenant's stands in the table yet: %w", err, left)
		}
	}
	return keys, err
}

func (b *branchKeys) findInside(ctx context.Context, l *loan, at branchkey.Slot, id string) (keys []branchkey.Key, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := question{at, b.round.Load()}
	if keys = l.found[q]; answers(keys, id) || l.lacks[branchID{q, id}] {
		return keys, nil
	}
	defer func() {
		if err != nil {
			return
		}
		if l.found == nil {
			l.found, l.lacks = map[question][]branchkey.Key{}, map[branchID]bool{}
		}
		if len(keys) > 0 {
			l.found[q] = keys
		}
		if id != "" && !answers(keys, id) {
			l.lacks[branchID{q, id}] = true
		}
	}()
	var refused error
	if beside(ctx, b.db, func(ctx context.Context) (err error) {
		if keys, err = b.find(ctx, b.pool(), at); errors.Is(err, kmskey.ErrShredded) {
			refused, err = err, nil // which is an answer
		}
		return err
	}) {
		return keys, refused
	}
	brief, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if keys, err = b.find(brief, l.pool, at); err != nil || answers(keys, id) || alone(b.db) {
		return keys, err
	}
	keys, err = b.find(brief, b.pool(), at)
	if id == "" {
		err = unmade(ctx, brief, err)
	}
	return keys, err
}

// unmade says of a key that is to be made, and for which no connection came, what to do before.
func unmade(ctx, brief context.Context, err error) error {
	if err != nil && brief.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w (%w)", ErrBranchKey, err)
	}
	return err
}

// The tombstone of a shredded tenant is a row of generation 0, which no key has, so that one question finds it with the keys of any generation.
const findBranchKeys = "SELECT generation, key_id, sealed, created_ms FROM rowseal_branch_keys WHERE namespace = ? AND tenant = ? AND generation IN (0, ?) ORDER BY created_ms, key_id"

func (b *branchKeys) find(ctx context.Context, pool gorm.ConnPool, at branchkey.Slot) (keys []branchkey.Key, err error) {
	rows, err := pool.QueryContext(ctx, bindings(b.db, findBranchKeys), at.Namespace, at.Tenant, at.Generation)
	if err != nil {
		return nil, unread(ctx, err)
	}
	defer rows.Close()
	shredded := false
	for rows.Next() {
		var k branchkey.Key
		var generation int
		if err := rows.Scan(&generation, &k.ID, &k.Sealed, &k.Created); err != nil {
			return nil, err
		}
		if shredded = shredded || generation == 0; generation != 0 {
			keys = append(keys, k)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if shredded {
		return keys, kmskey.ErrShredded
	}
	return keys, nil
}

// Add never writes in the statement's transaction.
func (b *branchKeys) Add(ctx context.Context, at branchkey.Slot, keys ...branchkey.Key) ([]branchkey.Key, error) {
	if _, inside := lent(ctx, b.db); inside {
		if alone(b.db) {
			return nil, ErrBranchKey
		}
		brief, cancel := context.WithTimeout(ctx, indexWait)
		defer cancel()
		stand, err := b.add(brief, at, keys)
		return stand, unmade(ctx, brief, err)
	}
	return b.add(ctx, at, keys)
}

func (b *branchKeys) add(ctx context.Context, at branchkey.Slot, keys []branchkey.Key) ([]branchkey.Key, error) {
	var failed error
	for i, k := range keys {
		if failed = b.insert(ctx, at, k); failed != nil && i == 0 {
			return nil, failed
		} else if failed != nil {
			break
		}
	}
	// Whoever leaves now must not leave the key of a shredded tenant behind.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), indexWait)
	defer cancel()
	stand, err := b.find(ctx, b.pool(), at)
	if errors.Is(err, kmskey.ErrShredded) {
		// A tombstone that is not seen here comes before the DELETE that follows it, which then finds what was inserted.
		if _, err := b.destroy(ctx, at.Namespace, at.Tenant); err != nil {
			return nil, err
		}
	}
	if err == nil {
		err = failed
	}
	return stand, err
}

// insert leaves a key alone that is there.
func (b *branchKeys) insert(ctx context.Context, at branchkey.Slot, k branchkey.Key) error {
	query := "INSERT INTO rowseal_branch_keys (namespace, tenant, generation, key_id, sealed, created_ms) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	if isMySQL(b.db) {
		// Not INSERT IGNORE, which would shorten what is too long as well.
		query = "INSERT INTO rowseal_branch_keys (namespace, tenant, generation, key_id, sealed, created_ms) VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE key_id = key_id"
	}
	_, err := b.pool().ExecContext(ctx, bindings(b.db, query), at.Namespace, at.Tenant, at.Generation, k.ID, k.Sealed, k.Created)
	return err
}

// Replace compares and sets.
func (b *branchKeys) Replace(ctx context.Context, at branchkey.Slot, id, old, next string) (bool, error) {
	result, err := b.pool().ExecContext(ctx, bindings(b.db, "UPDATE rowseal_branch_keys SET sealed = ? WHERE namespace = ? AND tenant = ? AND generation = ? AND key_id = ? AND sealed = ?"),
		next, at.Namespace, at.Tenant, at.Generation, id, old)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// All is in the order of tenant, generation and id.
func (b *branchKeys) All(ctx context.Context, namespace string) (entries []branchkey.Entry, err error) {
	rows, err := b.pool().QueryContext(ctx, bindings(b.db, "SELECT tenant, generation, key_id, sealed, created_ms FROM rowseal_branch_keys "+
		"WHERE namespace = ? AND generation > 0 AND sealed <> '' ORDER BY tenant, generation, key_id"), namespace)
	if err != nil {
		return nil, unread(ctx, err)
	}
	defer rows.Close()
	for rows.Next() {
		e := branchkey.Entry{Slot: branchkey.Slot{Namespace: namespace}}
		if err := rows.Scan(&e.Tenant, &e.Generation, &e.ID, &e.Sealed, &e.Created); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

// Shred writes the tombstone, and then deletes, each committed by itself: whoever adds a key meanwhile either finds the tombstone or has its key deleted.
func (b *branchKeys) Shred(ctx context.Context, namespace, tenant string) (int, error) {
	if err := b.insert(ctx, branchkey.Slot{Namespace: namespace, Tenant: tenant}, branchkey.Key{Created: time.Now().UnixMilli()}); err != nil {
		return 0, unread(ctx, err)
	}
	return b.destroy(ctx, namespace, tenant)
}

// destroy deletes the keys of a tenant that has a tombstone.
func (b *branchKeys) destroy(ctx context.Context, namespace, tenant string) (int, error) {
	result, err := b.pool().ExecContext(ctx, bindings(b.db, "DELETE FROM rowseal_branch_keys WHERE namespace = ? AND tenant = ? AND generation > 0"), namespace, tenant)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// branchEpoch is the row of rowseal_epochs that branch keys go by; no row is epoch 0.
const branchEpoch = "branch-keys"

// Epoch reads beside a transaction where it can. In one, it may be that of the snapshot, and is not recent.
func (b *branchKeys) Epoch(ctx context.Context) (epoch int64, recent bool, err error) {
	epoch, recent, err = epochs{b.db, branchEpoch}.read(ctx)
	if err == nil && b.epoch.Swap(epoch) != epoch {
		b.round.Add(1)
	}
	return epoch, recent, err
}

// Revoke counts up.
func (b *branchKeys) Revoke(ctx context.Context) error {
	defer b.round.Add(1)
	return epochs{b.db, branchEpoch}.raise(ctx)
}
