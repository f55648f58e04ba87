package integration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal/kmskey"
)

// hookedPool calls before and after each statement that was executed.
type hookedPool struct {
	*sql.DB
	before, after func(query string)
}

func (h *hookedPool) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if h.before != nil {
		h.before(query)
	}
	result, err := h.DB.ExecContext(ctx, query, args...)
	if h.after != nil {
		h.after(query)
	}
	return result, err
}

// GetDBConn is for gorm.DB.DB.
func (h *hookedPool) GetDBConn() (*sql.DB, error) { return h.DB, nil }

// A process puts a key back while its tenant is shredded, and its caller leaves before it has looked for a tombstone.
func TestAttackBranchPutBackAndLeft(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		pool := &hookedPool{DB: b.w.db.ConnPool.(*sql.DB)}
		db, err := gorm.Open(dialector(kind, pool), &gorm.Config{Logger: logger.Discard})
		ok(t, err)
		one, first := b.with(t, db, 2)
		ok(t, first.Make(t.Context(), 2, "acme"))
		create(t, one, "acme", "before")
		_, admin := b.process(t, 2)
		b.w.tamper(t, "DELETE FROM rowseal_branch_keys")
		advance(30 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		pool.before = func(query string) {
			if strings.HasPrefix(query, "INSERT INTO rowseal_branch_keys") {
				pool.before = nil
				if _, err := admin.Shred(t.Context(), "acme"); err != nil {
					t.Error(err)
				}
			}
		}
		pool.after = func(query string) {
			if strings.HasPrefix(query, "INSERT INTO rowseal_branch_keys") {
				pool.after = nil
				cancel()
			}
		}
		if err := first.Make(ctx, 2, "acme"); !errors.Is(err, kmskey.ErrShredded) && !errors.Is(err, context.Canceled) {
			t.Errorf("make: %v", err)
		}
		if ctx.Err() == nil {
			t.Fatal("nothing was put back")
		}
		if keys := b.keys(t, "acme"); len(keys) != 1 || keys[0] != "" {
			t.Errorf("of a tenant that was shredded the table has %q", keys)
		}
	})
}

// A transaction whose snapshot is from before the tenant was shredded reads a row when the process has seen the new epoch already: for how long does the process hold the key afterwards?
func TestAttackBranchOldSnapshot(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		small := b.small(t, 1) // one connection: what is asked in a transaction is asked on it
		one, first := b.with(t, small, 2)
		ok(t, first.Make(t.Context(), 2, "acme", "globex"))
		create(t, one, "acme", "gone")
		create(t, one, "globex", "stays")
		_, admin := b.process(t, 2)
		tx := one.Begin(&sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		ok(t, tx.Error)
		ok(t, tx.First(&Holder{}, "tenant_id = ?", "globex").Error)
		_, err := admin.Shred(t.Context(), "acme")
		ok(t, err)
		advance(30 * time.Second)
		if err := tx.First(&Holder{}, "tenant_id = ?", "acme").Error; err != nil && !errors.Is(err, kmskey.ErrShredded) { // its snapshot has the key yet
			t.Error(err)
		}
		ok(t, tx.Rollback().Error)
		for _, after := range []time.Duration{0, 25 * time.Second, 65 * time.Second} {
			advance(after)
			read := one.First(&Holder{}, "tenant_id = ?", "acme").Error
			write := one.Create(&Holder{TenantID: "acme", Name: "new"}).Error
			if after > time.Minute && (read == nil || write == nil) {
				t.Errorf("a minute later: %v, %v", read, write)
			}
		}
		if keys := b.keys(t, "acme"); len(keys) != 1 || keys[0] != "" {
			t.Errorf("%q", keys)
		}
	}, postgres, mariadb)
}
