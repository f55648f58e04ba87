package integration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/rotation"
)

// clocked gives b's processes a clock, and the function that moves it.
func (b *branched) clocked() (advance func(time.Duration)) {
	var moved atomic.Int64
	b.now = func() time.Time { return time.Now().Add(time.Duration(moved.Load())) }
	return func(d time.Duration) { moved.Add(int64(d)) }
}

// create stores a holder of one tenant, named so.
func create(t testing.TB, db *gorm.DB, tenant, name string) {
	t.Helper()
	ok(t, db.Create(&Holder{TenantID: tenant, Name: name}).Error)
}

// names are those of all holders, as a process that has just started reads them.
func (b *branched) names(t testing.TB) string {
	t.Helper()
	db, _ := b.process(t, 2)
	var all []Holder
	ok(t, db.Order("id").Find(&all).Error)
	text := ""
	for _, h := range all {
		text += h.Name + " "
	}
	return text
}

// keys are the ids of a tenant's branch keys, the one that wraps first.
func (b *branched) keys(t testing.TB, tenant string) (ids []string) {
	t.Helper()
	all, err := b.w.plain.Query("SELECT key_id FROM rowseal_branch_keys WHERE tenant = '" + tenant + "' ORDER BY created_ms, key_id")
	ok(t, err)
	defer all.Close()
	for all.Next() {
		var id string
		ok(t, all.Scan(&id))
		ids = append(ids, id)
	}
	ok(t, all.Err())
	return ids
}

// A failover or a restore takes the branch key out of the table that a process works with, and another process makes one in its place.
func TestBranchKeyLost(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		one, first := b.process(t, 2)
		ok(t, first.Make(t.Context(), 2, "acme"))
		create(t, one, "acme", "before")
		b.w.tamper(t, "DELETE FROM rowseal_branch_keys")
		create(t, one, "acme", "after")
		advance(time.Millisecond)
		two, second := b.process(t, 2)
		ok(t, second.Make(t.Context(), 2, "acme"))
		create(t, two, "acme", "elsewhere")
		other := b.keys(t, "acme")

		b.calls()
		advance(20 * time.Second)
		create(t, one, "acme", "then")
		if _, calls := b.calls(); calls != 0 {
			t.Errorf("it was put back with %d calls", calls)
		}
		create(t, two, "acme", "last")
		if want := "before after elsewhere then last "; b.names(t) != want {
			t.Errorf("a fresh process reads %q, want %q", b.names(t), want)
		}
		if keys := b.keys(t, "acme"); len(keys) != 2 || len(other) != 1 || keys[1] != other[0] {
			t.Errorf("the table has %v, and had %v before the first was put back", keys, other)
		}
	})
}

// Revoke has every process put back what it knows, within a minute and in whatever it does next.
func TestBranchKeyLostAndRevoked(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		one, first := b.process(t, 2)
		const tenants = 5
		for i := range tenants {
			ok(t, first.Make(t.Context(), 2, fmt.Sprint("tenant ", i)))
			create(t, one, fmt.Sprint("tenant ", i), fmt.Sprint(i))
		}
		b.w.tamper(t, "DELETE FROM rowseal_branch_keys WHERE tenant <> 'tenant 0'")
		_, admin := b.process(t, 2)
		ok(t, admin.Revoke(t.Context()))
		advance(20 * time.Second)
		ok(t, one.First(&Holder{}, "tenant_id = ?", "tenant 0").Error)
		if got := b.names(t); got != "0 1 2 3 4 " {
			t.Errorf("a fresh process reads %q", got)
		}
	})
}

// A row whose branch key is lost for good says which one that is, from memory as well; other rows are unharmed.
func TestBranchKeyUnknown(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		one, first := b.process(t, 2)
		ok(t, first.Make(t.Context(), 2, "acme"))
		rows := make([]Holder, 1000)
		for i := range rows {
			rows[i] = Holder{TenantID: "acme", Name: "lost"}
		}
		ok(t, one.Create(&rows).Error)
		lost := b.keys(t, "acme")[0]
		b.w.tamper(t, "DELETE FROM rowseal_branch_keys")
		two, second := b.process(t, 2)
		fails(t, two.First(&Holder{}).Error, kmskey.ErrNotFound, "no branch key "+lost, `tenant "acme"`, "bring its row back from a backup")
		ok(t, second.Make(t.Context(), 2, "acme"))
		create(t, two, "acme", "found")
		b.calls()
		b.w.spy.Reset()
		var all []Holder
		fails(t, two.Find(&all, "1 = 1").Error, kmskey.ErrContextMismatch, "no branch key "+lost, "the table has 1 other for them")
		if _, calls := b.calls(); calls != 0 {
			t.Errorf("%d calls for rows whose key is lost", calls)
		}
		// One, or one for each of the 64 calls that this Config.MaxCalls lets begin at once.
		if n := b.w.spy.Count("query", "rowseal_branch_keys"); n < 1 || n > 64 {
			t.Errorf("%d questions for 1,000 rows whose key is lost", n)
		}
		var found Holder
		ok(t, two.Last(&found).Error)
		if found.Name != "found" {
			t.Errorf("%+v", found)
		}
	})
}

// Two processes that make a tenant's first key at once.
func TestBranchKeyMadeTwice(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		meet := make(chan struct{})
		var wraps atomic.Int64
		b.kms.Before = func(ctx context.Context, c kmskeytest.Call) error {
			if c.Op == "wrap" && wraps.Add(1) <= 2 { // both have found none
				select {
				case meet <- struct{}{}:
				case <-meet:
				case <-ctx.Done():
				}
			}
			return nil
		}
		processes := make([]*gorm.DB, 2)
		var wg sync.WaitGroup
		for i := range processes {
			db, branches := b.process(t, 2)
			processes[i] = db
			wg.Go(func() {
				if err := branches.Make(t.Context(), 2, "acme"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := wraps.Load(); n != 2 {
			t.Fatalf("%d keys were made", n)
		}
		for i, db := range processes {
			create(t, db, "acme", fmt.Sprint(i))
		}
		advance(20 * time.Second)
		for i, db := range processes {
			create(t, db, "acme", fmt.Sprint(i+2))
		}
		if got := b.names(t); got != "0 1 2 3 " {
			t.Errorf("a fresh process reads %q", got)
		}
		keys := b.keys(t, "acme")
		if len(keys) != 2 {
			t.Errorf("%v", keys)
		}
	})
}

func TestBranchShred(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		advance := b.clocked()
		one, branches := b.process(t, 2)
		ok(t, branches.Make(t.Context(), 2, "acme", "globex"))
		ok(t, branches.Make(t.Context(), 3, "acme"))
		create(t, one, "acme", "gone")
		create(t, one, "globex", "stays")
		two, _ := b.process(t, 2)
		ok(t, two.First(&Holder{}, "tenant_id = ?", "acme").Error)

		_, admin := b.process(t, 2) // which holds no key
		n, err := admin.Shred(t.Context(), "acme")
		if err != nil || n != 2 {
			t.Fatalf("%d, %v", n, err)
		}
		b.calls()
		shredded := func(when string, db *gorm.DB, branches *branchkey.Keys) {
			t.Helper()
			text := `tenant "acme" was shredded`
			fails(t, db.First(&Holder{}, "tenant_id = ?", "acme").Error, kmskey.ErrShredded, text)
			fails(t, db.Create(&Holder{TenantID: "acme", Name: "new"}).Error, kmskey.ErrShredded, text)
			fails(t, db.Transaction(func(tx *gorm.DB) error { return tx.Create(&Holder{TenantID: "acme", Name: "new"}).Error }), kmskey.ErrShredded, text)
			for _, generation := range []int{2, 3, 4} {
				fails(t, branches.Make(t.Context(), generation, "acme"), kmskey.ErrShredded, text)
			}
			var h Holder
			ok(t, db.First(&h, "tenant_id = ?", "globex").Error)
			if h.Name != "stays" {
				t.Errorf("%s: %+v", when, h)
			}
		}
		advance(20 * time.Second)
		shredded("warm, in another process", one, branches)
		cold, coldKeys := b.process(t, 2)
		shredded("cold", cold, coldKeys)
		later, laterKeys := b.process(t, 3)
		fails(t, later.Create(&Holder{TenantID: "acme", Name: "new"}).Error, kmskey.ErrShredded)
		advance(time.Hour)
		shredded("later", one, branches)

		if keys := b.keys(t, "acme"); len(keys) != 1 || keys[0] != "" {
			t.Errorf("the table has %q", keys)
		}
		report, err := b.branches(t, later, 2).Rotate(t.Context())
		ok(t, err)
		if report != (branchkey.Report{Keys: 1, Moved: 1}) {
			t.Errorf("%+v", report)
		}
		status, err := laterKeys.Status(t.Context())
		ok(t, err)
		if status.Keys != 1 || status.Versions[2] != 1 {
			t.Errorf("%+v", status)
		}
		// The walk over rows names those that are lost, the first row among them, and moves the others.
		walk, err := rotation.RotateKMSKey(t.Context(), later, &Holder{}, rotation.Config{})
		var partial *rotation.PartialError
		if !errors.As(err, &partial) || walk.Rewrapped != 1 || walk.Failed != 1 || walk.Failures[0].Class != "shredded" {
			t.Errorf("%+v, %v", walk, err)
		}
	})
}

// A key that is added while its tenant is shredded does not stay.
func TestBranchShredWhileAKeyIsMade(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, branches := b.process(t, 2)
		_, admin := b.process(t, 2)
		b.kms.Before = func(ctx context.Context, c kmskeytest.Call) error {
			if c.Op == "wrap" { // it has found neither a key nor a tombstone
				_, err := admin.Shred(ctx, "acme")
				return err
			}
			return nil
		}
		fails(t, branches.Make(t.Context(), 2, "acme"), kmskey.ErrShredded, `tenant "acme" was shredded`)
		if keys := b.keys(t, "acme"); len(keys) != 1 || keys[0] != "" {
			t.Errorf("the table has %q", keys)
		}
	})
}

// A process that died between adding a key and looking for a tombstone left the key; who finds the two takes it away.
func TestBranchShredLeftAKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		one, branches := b.process(t, 2)
		ok(t, branches.Make(t.Context(), 2, "acme"))
		create(t, one, "acme", "gone")
		left := b.keys(t, "acme")[0]
		_, err := branches.Shred(t.Context(), "acme")
		ok(t, err)
		b.w.tamper(t, "INSERT INTO rowseal_branch_keys (namespace, tenant, generation, key_id, sealed, created_ms) VALUES ('test', 'acme', 2, 'left', ?, 1)", left)
		fresh, _ := b.process(t, 2)
		fails(t, fresh.First(&Holder{}, "tenant_id = ?", "acme").Error, kmskey.ErrShredded)
		if keys := b.keys(t, "acme"); len(keys) != 1 || keys[0] != "" {
			t.Errorf("the table has %q", keys)
		}
	})
}

// Where no connection comes to make a key on, the error says what to do before.
func TestBranchKeyWithoutAConnection(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		cold, _ := b.with(t, b.small(t, 2), 2)
		hold := cold.Begin()
		defer hold.Rollback()
		err := cold.Transaction(func(tx *gorm.DB) error { return tx.Create(&Holder{TenantID: "new", Name: "n"}).Error })
		fails(t, err, branchkey.ErrInTransaction, "make it before: branchkey.Keys.Make")
	}, postgres, mariadb)
}
