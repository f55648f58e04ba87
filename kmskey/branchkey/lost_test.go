package branchkey_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// another is a further process on r's table.
func (r *rig) another(t testing.TB) *rig {
	t.Helper()
	return newRig(t, func(c *branchkey.Config) { c.Store = r.table })
}

var acme = branchkey.Slot{Namespace: "clinic/test", Tenant: "acme", Generation: 2}

// opens has a process that has just started open rows.
func (r *rig) opens(t testing.TB, ec kmskey.Context, rows ...kmskey.Wrapped) {
	t.Helper()
	fresh := r.another(t)
	for i, w := range rows {
		if _, err := fresh.Generation(2).Unwrap(t.Context(), w, ec); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
}

// A table that was restored to before a key was made gets it back from whoever has it, and what was wrapped meanwhile under another opens too.
func TestALostKeyIsPutBack(t *testing.T) {
	ec := contextOf(t, "acme", 1)
	for name, happens := range map[string]func(t *testing.T, a, b *rig, w kmskey.Wrapped){
		"when_more_is_wrapped": func(t *testing.T, a, _ *rig, _ kmskey.Wrapped) {
			a.clock.advance(20 * time.Second)
			wrap(t, a.Generation(2), ec)
		},
		"when_the_service_is_asked_again": func(t *testing.T, a, _ *rig, w kmskey.Wrapped) {
			a.clock.advance(13 * time.Minute)
			unwrap(t, a.Generation(2), w, ec)
		},
		"after_a_revocation": func(t *testing.T, a, b *rig, _ kmskey.Wrapped) {
			if err := b.Revoke(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.clock.advance(20 * time.Second)
			other := contextOf(t, "globex", 1) // whatever it is used for next
			wrap(t, a.Generation(2), other)
		},
		"after_a_revocation_that_came_before_the_restore": func(t *testing.T, a, _ *rig, w kmskey.Wrapped) {
			a.table.setEpoch(4)
			a.clock.advance(20 * time.Second)
			unwrap(t, a.Generation(2), w, ec)
		},
		"where_the_revocation_is_called": func(t *testing.T, a, _ *rig, _ kmskey.Wrapped) {
			if err := a.Revoke(t.Context()); err != nil {
				t.Fatal(err)
			}
			wrap(t, a.Generation(2), ec)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newRig(t, nil)
			a.table.setEpoch(5)
			b := a.another(t)
			b.clock.advance(time.Second) // its keys are the younger ones
			rows := []kmskey.Wrapped{wrap(t, a.Generation(2), ec)}
			first := a.table.keys[acme][0]
			a.table.lose()
			rows = append(rows, wrap(t, a.Generation(2), ec), wrap(t, b.Generation(2), ec))
			if second := a.table.keys[acme]; len(second) != 1 || second[0].ID == first.ID {
				t.Fatalf("%+v", second)
			}
			happens(t, a, b, rows[0])
			if keys := a.table.keys[acme]; len(keys) != 2 || keys[0] != first {
				t.Fatalf("the table has %+v; the first of them was %+v", keys, first)
			}
			rows = append(rows, wrap(t, a.Generation(2), ec), wrap(t, b.Generation(2), ec))
			a.opens(t, ec, rows...)
			for _, r := range []*rig{a, b} {
				for _, w := range rows {
					unwrap(t, r.Generation(2), w, ec)
				}
			}
		})
	}
}

// Putting back makes no call, and what the table does not take is tried again.
func TestALostKeyIsPutBackWhenTheTableTakesIt(t *testing.T) {
	ec := contextOf(t, "acme", 1)
	r := newRig(t, nil)
	w := wrap(t, r.Generation(2), ec)
	r.table.lose()
	r.kms.Reset()
	r.table.closed = errors.New("read-only")
	for range 3 {
		r.clock.advance(20 * time.Second)
		wrap(t, r.Generation(2), ec)
	}
	r.table.closed = nil
	r.clock.advance(20 * time.Second)
	wrap(t, r.Generation(2), ec)
	if len(r.table.keys[acme]) != 1 || r.kms.Calls() != 0 {
		t.Errorf("%d keys, %d calls", len(r.table.keys[acme]), r.kms.Calls())
	}
	// After a revocation it is owed, and whoever comes pays.
	r.table.lose()
	r.table.closed = errors.New("read-only")
	if err := r.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrUnavailable) || !strings.Contains(err.Error(), "put back what it has lost: read-only") {
		t.Errorf("%v", err)
	}
	r.table.closed = nil
	r.clock.advance(10 * time.Second)
	wrap(t, r.Generation(2), contextOf(t, "globex", 1))
	r.opens(t, ec, w)
}

// What an administrator destroyed stays so: in one slot, or of a whole tenant.
func TestADestroyedKeyIsNotPutBack(t *testing.T) {
	ec := contextOf(t, "acme", 1)
	r := newRig(t, nil)
	w := wrap(t, r.Generation(2), ec)
	r.table.put(acme, "")
	for _, age := range []time.Duration{0, 20 * time.Second, 15 * time.Minute} {
		if err := r.Revoke(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.clock.advance(age)
		if _, err := r.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrShredded) || !strings.Contains(err.Error(), r.table.keys[acme][0].ID) {
			t.Errorf("after %v: %v", age, err)
		}
	}
	next := wrap(t, r.Generation(2), ec) // under another
	if keys := r.table.keys[acme]; len(keys) != 2 || keys[0].Sealed != "" {
		t.Errorf("%+v", keys)
	}
	r.opens(t, ec, next)
	r.table.lose()
	if err := r.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	unwrap(t, r.Generation(2), next, ec)
	if keys := r.table.keys[acme]; len(keys) != 1 || keys[0].ID != fmt.Sprintf("%x", next.Blob[1:9]) {
		t.Errorf("after a restore: %+v", keys)
	}
}

func TestShred(t *testing.T) {
	ec, other := contextOf(t, "acme", 1), contextOf(t, "globex", 1)
	a := newRig(t, nil)
	b := a.another(t)
	w, safe := wrap(t, a.Generation(2), ec), wrap(t, a.Generation(2), other)
	wrap(t, a.Generation(3), ec)
	unwrap(t, b.Generation(2), w, ec)
	n, err := a.Shred(t.Context(), "acme")
	if err != nil || n != 2 {
		t.Fatalf("%d keys, %v", n, err)
	}
	shredded := func(when string, r *rig) {
		t.Helper()
		r.kms.Reset()
		var errs []error
		_, err := r.Generation(2).Unwrap(t.Context(), w, ec)
		errs = append(errs, err)
		for _, generation := range []int{2, 3, 4} { // 4 is not there yet
			_, err := r.Generation(generation).Wrap(t.Context(), kmskey.NewDEK(), ec)
			errs = append(errs, err, r.Generation(generation).Prepare(t.Context(), ec), r.Make(t.Context(), generation, "acme"))
		}
		for i, err := range errs {
			if !errors.Is(err, kmskey.ErrShredded) || !strings.Contains(err.Error(), `tenant "acme" was shredded`) || kmskey.Outcome(err) != "shredded" {
				t.Errorf("%s, act %d: %v", when, i, err)
			}
		}
		if r.kms.Calls() != 0 {
			t.Errorf("%s: %d calls", when, r.kms.Calls())
		}
		unwrap(t, r.Generation(2), safe, other)
	}
	shredded("in this process", a)
	unwrap(t, b.Generation(2), w, ec) // which holds it for up to a minute
	b.clock.advance(20 * time.Second)
	shredded("in another, warm", b)
	shredded("in a cold one", a.another(t))
	a.clock.advance(time.Hour)
	shredded("later", a)

	if keys := len(a.table.keys); keys != 1 {
		t.Errorf("%d slots have keys, want 1", keys)
	}
	report, err := a.Rotate(t.Context())
	if err != nil || report != (branchkey.Report{Keys: 1, Current: 1}) {
		t.Errorf("%+v, %v", report, err)
	}
	if n, err := a.Shred(t.Context(), "acme"); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	// A page of its rows is one question.
	before := a.table.finds()
	for range 100 {
		_, _ = a.Generation(2).Unwrap(t.Context(), w, ec)
	}
	if n := a.table.finds() - before; n > 2 {
		t.Errorf("%d questions for 100 rows", n)
	}
}

// A process that has just read the table when the tenant is shredded does not go on with what it read.
func TestShredWhileAKeyIsRead(t *testing.T) {
	ec := contextOf(t, "acme", 1)
	a := newRig(t, nil)
	w := wrap(t, a.Generation(2), ec)
	for name, act := range map[string]func(*rig) error{
		"unwrap": func(r *rig) error { _, err := r.Generation(2).Unwrap(t.Context(), w, ec); return err },
		"wrap":   func(r *rig) error { _, err := r.Generation(2).Wrap(t.Context(), kmskey.NewDEK(), ec); return err },
	} {
		r := newRig(t, nil)
		r.table.keys[acme] = a.table.keys[acme]
		r.table.then = func() {
			if _, err := r.Shred(t.Context(), "acme"); err != nil {
				t.Error(err)
			}
		}
		for range 2 {
			if err := act(r); !errors.Is(err, kmskey.ErrShredded) || r.kms.Calls() != 0 {
				t.Errorf("%s: %v, %d calls", name, err, r.kms.Calls())
			}
		}
	}
}

// A page of rows whose key the table does not have is one question, and no call.
func TestAnUnknownKeyIsLookedForOnce(t *testing.T) {
	ec := contextOf(t, "acme", 1)
	lost := newRig(t, nil)
	w := wrap(t, lost.Generation(2), ec)
	stood := lost.table.keys[acme]
	for name, others := range map[string]bool{"alone": false, "beside_another": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			if others {
				wrap(t, r.Generation(2), ec)
			}
			r.kms.Reset()
			before := r.table.finds()
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					for range 100 {
						_, err := r.Generation(2).Unwrap(t.Context(), w, ec)
						want, says := kmskey.ErrNotFound, "the table has none for them"
						if others {
							want, says = kmskey.ErrContextMismatch, "the table has 1 other for them"
						}
						if !errors.Is(err, want) || !strings.Contains(err.Error(), fmt.Sprintf("no branch key %s for tenant %q and generation 2: %s", stood[0].ID, "acme", says)) ||
							!strings.Contains(err.Error(), "bring its row back from a backup") {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := r.table.finds() - before; n > 10 || r.kms.Calls() != 0 { // one, or one for each that began at once
				t.Errorf("%d questions and %d calls for 1,000 rows", n, r.kms.Calls())
			}
			r.table.mu.Lock()
			r.table.keys[acme] = append(r.table.keys[acme], stood...) // from a backup
			r.table.mu.Unlock()
			r.clock.advance(5 * time.Second)
			unwrap(t, r.Generation(2), w, ec)
		})
	}
}

// Of two processes that make a key at once both keys stay, both open, and both processes go on with the older.
func TestTwoMakersConverge(t *testing.T) {
	a := newRig(t, nil)
	b := a.another(t)
	b.clock.advance(-time.Second) // whose clock is behind, so that the key that comes last is the older
	ec := contextOf(t, "acme", 1)
	var bs kmskey.Wrapped
	b.kms.Before = func(_ context.Context, c kmskeytest.Call) error {
		if c.Op == "wrap" { // it has found none
			b.kms.Before = nil
			bs = wrap(t, a.Generation(2), ec)
		}
		return nil
	}
	rows := []kmskey.Wrapped{wrap(t, b.Generation(2), ec)}
	rows = append(rows, bs)
	keys := a.table.keys[acme]
	if len(keys) != 2 {
		t.Fatalf("%+v", keys)
	}
	a.clock.advance(20 * time.Second)
	for i, r := range []*rig{a, b, a.another(t)} {
		w := wrap(t, r.Generation(2), ec)
		if id := fmt.Sprintf("%x", w.Blob[1:9]); id != keys[0].ID {
			t.Errorf("process %d wraps under %s, and the oldest is %s", i, id, keys[0].ID)
		}
		rows = append(rows, w)
	}
	a.opens(t, ec, rows...)
}

// A key that stands under another's id is not used, and neither is another's in its place.
func TestKeyIDsAreChecked(t *testing.T) {
	r := newRig(t, nil)
	ec := contextOf(t, "acme", 1)
	w := wrap(t, r.Generation(2), ec)
	r.table.keys[acme][0].ID = "0123456789abcdef"
	cold := r.another(t)
	_, err := cold.Generation(2).Wrap(t.Context(), kmskey.NewDEK(), ec)
	if !errors.Is(err, kmskey.ErrInvalid) || !strings.Contains(err.Error(), "under the id 0123456789abcdef") {
		t.Errorf("%v", err)
	}
	if _, err := cold.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrContextMismatch) {
		t.Errorf("%v", err)
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t, nil)
	if err := r.Make(t.Context(), 2, "a", "b", "c", "d"); err != nil {
		t.Fatal(err)
	}
	at := func(tenant string) branchkey.Slot {
		return branchkey.Slot{Namespace: "clinic/test", Tenant: tenant, Generation: 2}
	}
	inner, err := kmskey.New(kmskey.Config{Current: 2, Namespace: "clinic/test", Versions: map[int]kmskey.Version{1: {Provider: r.kms}, 2: {Provider: localkey.NewInsecure()}}})
	if err != nil {
		t.Fatal(err)
	}
	moving, err := branchkey.New(branchkey.Config{Keys: inner, Store: r.table, Tenant: "tenant_id"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moving.Shred(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	status := func(want branchkey.Status) {
		t.Helper()
		if got, err := moving.Status(t.Context()); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	status(branchkey.Status{Keys: 3, Versions: map[int]int{1: 3}})
	if _, err := moving.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := r.another(t) // whose keyring has the old version as its current one
	if err := late.Make(t.Context(), 3, "a"); err != nil {
		t.Fatal(err)
	}
	r.table.put(at("b"), "v1:broken")
	status(branchkey.Status{Keys: 4, Versions: map[int]int{1: 1, 2: 2}, Unread: 1})
}

func TestTenantsAreChecked(t *testing.T) {
	many, one := newRig(t, nil), newRig(t, func(c *branchkey.Config) { c.Tenant = "" })
	shred := func(r *rig, tenants ...string) error { _, err := r.Shred(t.Context(), tenants...); return err }
	for i, c := range []struct {
		err  error
		says string
	}{
		{many.Make(t.Context(), 2, ""), `a tenant of 0 bytes; give what the rows have as "tenant_id"`},
		{many.Make(t.Context(), 2, "acme", strings.Repeat("x", 256)), "a tenant of 256 bytes"},
		{many.Make(t.Context(), 0, "acme"), "generation 0 is no version"},
		{one.Make(t.Context(), 2, "acme"), `tenant "acme", but branchkey.Config.Tenant is not set`},
		{shred(many, ""), "a tenant of 0 bytes"},
		{shred(one), "to destroy them all, delete the service's key"},
		{shred(one, ""), "to destroy them all, delete the service's key"},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), "branchkey: ") || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%d: %v", i, c.err)
		}
	}
	if len(many.table.keys)+len(one.table.keys)+len(many.table.shredded) != 0 {
		t.Error("something was made or shredded")
	}
}

// What a process knows of tenants that it does not use any more goes.
func TestManyTenants(t *testing.T) {
	r := newRig(t, func(c *branchkey.Config) { c.Tenants = 10 })
	ec := contextOf(t, "tenant 0", 1)
	var w kmskey.Wrapped
	for i := range 100 {
		w = wrap(t, r.Generation(2), contextOf(t, fmt.Sprint("tenant ", i), 1))
		wrap(t, r.Generation(2), ec) // stays
	}
	r.table.lose()
	if err := r.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	unwrap(t, r.Generation(2), w, contextOf(t, "tenant 99", 1))
	if n := len(r.table.keys); n < 10 || n > 20 {
		t.Errorf("%d keys were put back, want those in memory and not many more", n)
	}
	if _, ok := r.table.keys[branchkey.Slot{Namespace: "clinic/test", Tenant: "tenant 0", Generation: 2}]; !ok {
		t.Error("the key that is used most was not put back")
	}
}

// Whatever is lost while processes wrap and unwrap at once, a fresh one opens every row once they have had their minute.
func TestNothingIsLostInADisorder(t *testing.T) {
	first := newRig(t, nil)
	processes := []*rig{first, first.another(t), first.another(t)}
	type row struct {
		tenant string
		w      kmskey.Wrapped
	}
	var mu sync.Mutex
	var rows []row
	var wg sync.WaitGroup
	for n, r := range processes {
		for g := range 4 {
			wg.Go(func() {
				for i := range 150 {
					tenant := fmt.Sprint("tenant ", (i+g)%5)
					w, err := r.Generation(2).Wrap(t.Context(), kmskey.NewDEK(), contextOf(t, tenant, 1))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					rows = append(rows, row{tenant, w})
					mu.Unlock()
					switch (i + 7*g + 31*n) % 50 {
					case 0, 1:
						first.table.lose()
					case 2:
						if err := r.Revoke(t.Context()); err != nil {
							t.Error(err)
						}
					case 3, 4, 5, 6:
						r.clock.advance(20 * time.Second)
					case 7:
						r.clock.advance(13 * time.Minute)
					}
				}
			})
		}
	}
	wg.Wait()
	if err := first.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range processes {
		r.clock.advance(time.Minute)
		wrap(t, r.Generation(2), contextOf(t, "another", 1))
	}
	fresh := first.another(t)
	for i, row := range rows {
		if _, err := fresh.Generation(2).Unwrap(t.Context(), row.w, contextOf(t, row.tenant, 1)); err != nil {
			t.Fatalf("row %d of %d: %v", i, len(rows), err)
		}
	}
}
