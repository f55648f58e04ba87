package branchkey_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// table is a Store in memory, for what does not depend on a database. Those that do are in the module integration.
type table struct {
	snapshot bool // the epoch is that of a transaction
	mu       sync.Mutex
	keys     map[branchkey.Slot][]branchkey.Key
	shredded map[string]bool // by tenant
	epoch    int64
	asked    int    // for the epoch
	found    int    // questions for keys
	fails    error  // every act
	closed   error  // Add alone
	then     func() // once, when Find has its answer
}

func newTable() *table {
	return &table{keys: map[branchkey.Slot][]branchkey.Key{}, shredded: map[string]bool{}}
}

func (s *table) Find(_ context.Context, at branchkey.Slot, _ string) ([]branchkey.Key, error) {
	s.mu.Lock()
	s.found++
	keys, err := s.stand(at)
	then := s.then
	s.then = nil
	s.mu.Unlock()
	if then != nil {
		then()
	}
	return keys, err
}

func (s *table) stand(at branchkey.Slot) ([]branchkey.Key, error) {
	switch {
	case s.fails != nil:
		return nil, s.fails
	case s.shredded[at.Tenant]:
		return nil, kmskey.ErrShredded
	}
	return slices.Clone(s.keys[at]), nil
}

func (s *table) Add(_ context.Context, at branchkey.Slot, keys ...branchkey.Key) ([]branchkey.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if s.fails == nil && s.closed == nil && !s.shredded[at.Tenant] && !slices.ContainsFunc(s.keys[at], func(o branchkey.Key) bool { return o.ID == k.ID }) {
			s.keys[at] = append(s.keys[at], k)
		}
	}
	slices.SortFunc(s.keys[at], func(a, b branchkey.Key) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	if s.closed != nil {
		return nil, s.closed
	}
	return s.stand(at)
}

func (s *table) Replace(_ context.Context, at branchkey.Slot, id, old, next string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range s.keys[at] {
		if s.fails == nil && k.ID == id && k.Sealed == old {
			s.keys[at][i].Sealed = next
			return true, nil
		}
	}
	return false, s.fails
}

func (s *table) All(_ context.Context, namespace string) (all []branchkey.Entry, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, keys := range s.keys {
		for _, k := range keys {
			if at.Namespace == namespace && k.Sealed != "" {
				all = append(all, branchkey.Entry{Slot: at, Key: k})
			}
		}
	}
	slices.SortFunc(all, func(a, b branchkey.Entry) int { return strings.Compare(a.Tenant, b.Tenant) })
	return all, s.fails
}

func (s *table) Shred(_ context.Context, namespace, tenant string) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return 0, s.fails
	}
	s.shredded[tenant] = true
	for at, keys := range s.keys {
		if at.Namespace == namespace && at.Tenant == tenant {
			n += len(keys)
			delete(s.keys, at)
		}
	}
	return n, nil
}

// lose is what a restore does.
func (s *table) lose() { s.mu.Lock(); defer s.mu.Unlock(); clear(s.keys) }

// at changes what stands in a slot of one key.
func (s *table) put(at branchkey.Slot, sealed string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[at][0].Sealed = sealed
}

func (s *table) finds() int { s.mu.Lock(); defer s.mu.Unlock(); return s.found }

func (s *table) Epoch(context.Context) (int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.epoch, !s.snapshot, s.fails
}

func (s *table) setEpoch(n int64)   { s.mu.Lock(); defer s.mu.Unlock(); s.epoch = n }
func (s *table) setSnapshot(b bool) { s.mu.Lock(); defer s.mu.Unlock(); s.snapshot = b }
func (s *table) questions() int     { s.mu.Lock(); defer s.mu.Unlock(); return s.asked }

func (s *table) Revoke(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	return s.fails
}

func (s *table) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails = err
}

// clock is moved by tests.
type clock struct{ ns atomic.Int64 }

func newClock() *clock                   { c := &clock{}; c.ns.Store(time.Now().UnixNano()); return c }
func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// rig is branch keys over a counted key service.
type rig struct {
	*branchkey.Keys
	kms   *kmskeytest.Counter
	table *table
	clock *clock
	down  atomic.Pointer[error]
}

func (r *rig) fail(err error) {
	if err == nil {
		r.down.Store(nil)
		return
	}
	r.down.Store(&err)
}

func newRig(t testing.TB, change func(*branchkey.Config)) *rig {
	t.Helper()
	r := &rig{kms: kmskeytest.NewCounter(localkey.NewInsecure()), table: newTable(), clock: newClock()}
	r.kms.Before = func(context.Context, kmskeytest.Call) error {
		if err := r.down.Load(); err != nil {
			return *err
		}
		return nil
	}
	inner, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: r.kms}}, Namespace: "clinic/test"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := branchkey.Config{Keys: inner, Store: r.table, Tenant: "tenant_id", Now: r.clock.Now}
	if change != nil {
		change(&cfg)
	}
	if r.Keys, err = branchkey.New(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

func contextOf(t testing.TB, tenant string, id int64) kmskey.Context {
	t.Helper()
	c, err := kmskey.NewContext(kmskey.Pair{Name: "tenant_id", Value: kmskey.Text(tenant)}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wrap(t testing.TB, p kmskey.Provider, ec kmskey.Context) kmskey.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), kmskey.NewDEK(), ec)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func unwrap(t testing.TB, p kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context) {
	t.Helper()
	if _, err := p.Unwrap(t.Context(), w, ec); err != nil {
		t.Fatal(err)
	}
}

// The provider keeps the contract of all providers. Its keys are too old at once, so that every act asks the service, and what is wrong with that shows.
func TestConformance(t *testing.T) {
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			r := newRig(t, func(c *branchkey.Config) {
				c.Tenant, c.MaxAge, c.MaxStale, c.Now = "", 1, 1, nil
			})
			for _, generation := range []int{1, 2} {
				if err := r.Make(t.Context(), generation); err != nil {
					t.Fatal(err)
				}
			}
			failing := func(kind error) func(*testing.T) func() {
				return func(*testing.T) func() {
					r.fail(&kmskey.Error{Op: "unwrap", Service: "test", Kind: kind})
					return func() { r.fail(nil) }
				}
			}
			return kmskeytest.Subject{
				Provider:    r.Generation(2),
				ForeignRefs: []string{"1", "3", "02", "2 ", ""},
				Calls:       r.kms.Calls,
				Disable:     failing(kmskey.ErrDisabled),
				Remove:      func(t *testing.T) { failing(kmskey.ErrNotFound)(t) },
				Outage:      failing(kmskey.ErrUnavailable),
				Throttle:    failing(kmskey.ErrThrottled),
				Other:       func(*testing.T) kmskey.Provider { return r.Generation(1) },
			}
		},
		NotApplicable: map[string]string{
			"hang":             "a call that hangs is the inner keyring's provider's, which has its own run",
			"deny_wrap":        "whoever has a branch key both wraps and unwraps",
			"deny_unwrap":      "whoever has a branch key both wraps and unwraps",
			"sibling":          "no service rewraps what lies under a branch key",
			"rewrap":           "no service rewraps what lies under a branch key",
			"rewrap_context":   "no service rewraps what lies under a branch key",
			"generate":         "data keys are drawn by the process",
			"generate_wrapped": "data keys are drawn by the process",
		},
	})
}

func TestOneCallForEachTenant(t *testing.T) {
	r := newRig(t, nil)
	p := r.Generation(2)
	var tenants []string
	for i := range 10 {
		tenants = append(tenants, fmt.Sprint("tenant ", i))
	}
	if err := r.Make(t.Context(), 2, tenants...); err != nil {
		t.Fatal(err)
	}
	if wraps, unwraps := r.kms.Count("wrap"), r.kms.Count("unwrap"); wraps != 10 || unwraps != 10 {
		t.Errorf("making 10 keys: %d wraps and %d unwraps", wraps, unwraps)
	}
	rows := map[string][]kmskey.Wrapped{}
	for i := range 1000 {
		tenant := tenants[i%10]
		rows[tenant] = append(rows[tenant], wrap(t, p, contextOf(t, tenant, int64(i))))
	}
	// Another process, cold, with 100 goroutines at once.
	other := newRig(t, func(c *branchkey.Config) { c.Store = r.table })
	q := other.Generation(2)
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			for i := range 10 {
				n := g*10 + i
				tenant := tenants[n%10]
				if _, err := q.Unwrap(t.Context(), rows[tenant][n/10], contextOf(t, tenant, int64(n))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if calls := other.kms.Calls(); calls != 10 {
		t.Errorf("%d calls for 1,000 rows of 10 tenants by 100 goroutines, want 10", calls)
	}
	if other.table.asked != 0 || r.table.asked != 2 {
		t.Errorf("the epoch was asked for %d times, want once for each process", r.table.asked)
	}
}

func TestANewTenantHasOneKey(t *testing.T) {
	r := newRig(t, nil)
	p := r.Generation(2)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ec := contextOf(t, "acme", int64(i))
			w, err := p.Wrap(t.Context(), kmskey.NewDEK(), ec)
			if err == nil {
				_, err = p.Unwrap(t.Context(), w, ec)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(r.table.keys) != 1 || r.kms.Count("wrap") != 1 || r.kms.Count("unwrap") != 1 {
		t.Errorf("%d keys, %d wraps and %d unwraps; want one of each", len(r.table.keys), r.kms.Count("wrap"), r.kms.Count("unwrap"))
	}
}

// Of two processes that make a key, both use the one that was stored.
func TestTwoProcessesMakeOneKey(t *testing.T) {
	shared := newTable()
	a, b := newRig(t, func(c *branchkey.Config) { c.Store = shared }), newRig(t, func(c *branchkey.Config) { c.Store = shared })
	meet := make(chan struct{})
	for _, r := range []*rig{a, b} {
		r.kms.Before = func(_ context.Context, c kmskeytest.Call) error {
			if c.Op == "wrap" { // both have found none, and make one
				select {
				case meet <- struct{}{}:
				case <-meet:
				}
			}
			return nil
		}
	}
	ec := contextOf(t, "acme", 1)
	wrapped := make([]kmskey.Wrapped, 2)
	var wg sync.WaitGroup
	for i, r := range []*rig{a, b} {
		wg.Go(func() {
			var err error
			if wrapped[i], err = r.Generation(2).Wrap(t.Context(), kmskey.NewDEK(), ec); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	unwrap(t, a.Generation(2), wrapped[1], ec)
	unwrap(t, b.Generation(2), wrapped[0], ec)
}

func TestRowsAreBound(t *testing.T) {
	r := newRig(t, nil)
	p := r.Generation(2)
	ec := contextOf(t, "acme", 1)
	w := wrap(t, p, ec)
	wrap(t, p, contextOf(t, "globex", 1))
	refused := func(name string, p kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context, want error, says string) {
		t.Helper()
		_, err := p.Unwrap(t.Context(), w, ec)
		if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	untenanted, _ := kmskey.NewContext(kmskey.Pair{Name: "model_id", Value: kmskey.Int(1)})
	cold := newRig(t, func(c *branchkey.Config) { c.Store = r.table })
	for _, q := range []kmskey.Provider{p, cold.Generation(2), cold.Generation(2)} { // warm, cold, warmed
		refused("another row", q, w, contextOf(t, "acme", 2), kmskey.ErrContextMismatch, "message authentication failed")
		refused("another tenant", q, w, contextOf(t, "globex", 1), kmskey.ErrContextMismatch, "another tenant's")
		refused("a tenant without a key", q, w, contextOf(t, "initech", 1), kmskey.ErrNotFound, `for tenant "initech" and generation 2: the table has none for them`)
		refused("no tenant", q, w, untenanted, kmskey.ErrContextMismatch, `rowseal.Columns("tenant_id")`)
	}
	refused("another generation", r.Generation(3), w, ec, kmskey.ErrForeignKey, "generation 3 of branch keys")
	if _, err := p.Wrap(t.Context(), kmskey.NewDEK(), untenanted); !errors.Is(err, kmskey.ErrInvalid) {
		t.Errorf("a row without a tenant was wrapped: %v", err)
	}
	if _, err := p.Wrap(t.Context(), kmskey.NewDEK(), contextOf(t, strings.Repeat("x", 256), 1)); !errors.Is(err, kmskey.ErrInvalid) {
		t.Errorf("a tenant of 256 bytes: %v", err)
	}
	if len(r.table.keys) != 2 {
		t.Errorf("%d branch keys; reading made some", len(r.table.keys))
	}
}

// Whoever can write to the table can exchange branch keys, and gains nothing.
func TestBranchKeysAreBound(t *testing.T) {
	r := newRig(t, nil)
	ec := contextOf(t, "acme", 1)
	w := wrap(t, r.Generation(2), ec)
	wrap(t, r.Generation(2), contextOf(t, "globex", 1))
	wrap(t, r.Generation(3), ec)
	acme := branchkey.Slot{Namespace: "clinic/test", Tenant: "acme", Generation: 2}
	own := r.table.keys[acme][0].Sealed
	for name, sealed := range map[string]string{
		"another tenant's":      r.table.keys[branchkey.Slot{Namespace: "clinic/test", Tenant: "globex", Generation: 2}][0].Sealed,
		"another generation's":  r.table.keys[branchkey.Slot{Namespace: "clinic/test", Tenant: "acme", Generation: 3}][0].Sealed,
		"cut short":             own[:len(own)-1],
		"plaintext of somebody": "00000000000000000000000000000000",
	} {
		r.table.put(acme, sealed)
		cold := newRig(t, func(c *branchkey.Config) { c.Store = r.table })
		_, err := cold.Generation(2).Unwrap(t.Context(), w, ec)
		if !errors.Is(err, kmskey.ErrInvalid) || errors.Is(err, kmskey.ErrContextMismatch) || !strings.Contains(err.Error(), "rows under it are unharmed") {
			t.Errorf("%s: %v", name, err)
		}
		unwrap(t, r.Generation(2), w, ec) // warm: the key that it has is the right one
	}
	r.table.put(acme, own)
	cold := newRig(t, func(c *branchkey.Config) { c.Store = r.table })
	unwrap(t, cold.Generation(2), w, ec)
}

func TestOutageIsBridgedUpToALimit(t *testing.T) {
	r := newRig(t, nil)
	p, ec := r.Generation(2), contextOf(t, "acme", 1)
	w := wrap(t, p, ec)
	r.fail(&kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrUnavailable})
	for range 7 { // 3 h 30
		r.clock.advance(30 * time.Minute)
		unwrap(t, p, w, ec)
	}
	r.clock.advance(31 * time.Minute)
	if _, err := p.Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrUnavailable) {
		t.Errorf("after the limit of 4 hours: %v", err)
	}
	r.fail(nil)
	unwrap(t, p, w, ec)
}

func TestARefusalHoldsAtOnce(t *testing.T) {
	for _, kind := range []error{kmskey.ErrDenied, kmskey.ErrDisabled, kmskey.ErrNotFound} {
		r := newRig(t, nil)
		p, ec := r.Generation(2), contextOf(t, "acme", 1)
		w := wrap(t, p, ec)
		r.fail(&kmskey.Error{Op: "unwrap", Service: "test", Kind: kind})
		r.clock.advance(11 * time.Minute)
		unwrap(t, p, w, ec)
		r.clock.advance(2 * time.Minute) // asked ahead, at 12 of 15 minutes
		for range 2 {
			if _, err := p.Unwrap(t.Context(), w, ec); !errors.Is(err, kind) {
				t.Errorf("%v: %v", kind, err)
			}
		}
	}
}

func TestRevocationHoldsWithinAMinute(t *testing.T) {
	a := newRig(t, nil)
	b := newRig(t, func(c *branchkey.Config) { c.Store = a.table })
	ec := contextOf(t, "acme", 1)
	w := wrap(t, a.Generation(2), ec)
	unwrap(t, b.Generation(2), w, ec)
	denied := &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrDenied}
	a.fail(denied)
	b.fail(denied)
	unwrap(t, b.Generation(2), w, ec) // it is in memory
	if err := a.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrDenied) {
		t.Errorf("where Revoke was called: %v", err)
	}
	b.clock.advance(time.Minute)
	if _, err := b.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrDenied) {
		t.Errorf("elsewhere, a minute later: %v", err)
	}
	// With the table out of reach nobody knows: not longer than a minute either.
	a.fail(nil)
	unwrap(t, a.Generation(2), w, ec)
	a.table.fail(errors.New("connection refused"))
	a.clock.advance(50 * time.Second)
	unwrap(t, a.Generation(2), w, ec)
	a.clock.advance(11 * time.Second)
	if _, err := a.Generation(2).Unwrap(t.Context(), w, ec); !errors.Is(err, kmskey.ErrUnavailable) || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a minute without the epoch: %v", err)
	}
}

// rewrappable is a local key that rewraps from its kind, as services do.
type rewrappable struct{ *localkey.Provider }

func (r rewrappable) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	dek, err := source.Unwrap(ctx, w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return r.Wrap(ctx, dek, to)
}

func TestRotate(t *testing.T) {
	r := newRig(t, nil)
	p := r.Generation(2)
	ec := contextOf(t, "tenant 3", 1)
	var tenants []string
	for i := range 10 {
		tenants = append(tenants, fmt.Sprint("tenant ", i))
	}
	if err := r.Make(t.Context(), 2, tenants...); err != nil {
		t.Fatal(err)
	}
	w := wrap(t, p, ec)
	key := make([]byte, 32)
	key[0] = 1
	local, err := localkey.New(key, localkey.Config{})
	if err != nil {
		t.Fatal(err)
	}
	next := kmskeytest.NewCounter(rewrappable{local})
	inner, err := kmskey.New(kmskey.Config{Current: 2, Namespace: "clinic/test", Versions: map[int]kmskey.Version{1: {Provider: r.kms}, 2: {Provider: next.Provider()}}})
	if err != nil {
		t.Fatal(err)
	}
	moving, err := branchkey.New(branchkey.Config{Keys: inner, Store: r.table, Tenant: "tenant_id"})
	if err != nil {
		t.Fatal(err)
	}
	r.kms.Reset()
	got, err := moving.Rotate(t.Context())
	if err != nil || got != (branchkey.Report{Keys: 10, Moved: 10}) {
		t.Errorf("%+v, %v", got, err)
	}
	if calls := r.kms.Calls() + next.Calls(); next.Count("rewrap") != 10 || calls > 10+r.kms.Count("unwrap") {
		t.Errorf("%d calls for 10 tenants", calls)
	}
	next.Reset()
	again, err := moving.Rotate(t.Context())
	if err != nil || again != (branchkey.Report{Keys: 10, Current: 10}) || next.Calls() != 0 {
		t.Errorf("again: %+v, %v, %d calls", again, err, next.Calls())
	}
	// The rows are what they were, and the old key of the service is needed no more.
	alone, err := kmskey.New(kmskey.Config{Namespace: "clinic/test", Versions: map[int]kmskey.Version{2: {Provider: next}}})
	if err != nil {
		t.Fatal(err)
	}
	after, err := branchkey.New(branchkey.Config{Keys: alone, Store: r.table, Tenant: "tenant_id"})
	if err != nil {
		t.Fatal(err)
	}
	unwrap(t, after.Generation(2), w, ec)
	// A key that does not move leaves the others moved.
	r.table.put(branchkey.Slot{Namespace: "clinic/test", Tenant: "tenant 5", Generation: 2}, "v1:broken")
	part, err := after.Rotate(t.Context())
	if !errors.Is(err, kmskey.ErrCorrupt) || part != (branchkey.Report{Keys: 10, Current: 9, Failed: 1}) {
		t.Errorf("%+v, %v", part, err)
	}
}

func TestNew_refuses(t *testing.T) {
	inner, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  branchkey.Config
		says string
	}{
		{branchkey.Config{Store: newTable()}, "Config.Keys is nil"},
		{branchkey.Config{Keys: inner}, "rowseal.BranchKeys(db) is one"},
		{branchkey.Config{Keys: inner, Store: newTable(), EpochAge: 2 * time.Minute}, "Config.EpochAge is 2m0s, not up to 1m0s"},
		{branchkey.Config{Keys: inner, Store: newTable(), MaxAge: time.Hour, MaxStale: time.Minute}, "MaxStale"},
	} {
		if _, err := branchkey.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v", err)
		}
	}
	k, err := branchkey.New(branchkey.Config{Keys: inner, Store: newTable()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{2: {Provider: k.Generation(3)}}}); err == nil || !strings.Contains(err.Error(), "Generation(2)") {
		t.Errorf("a generation under another version: %v", err)
	}
}

func TestNothingPrints(t *testing.T) {
	r := newRig(t, nil)
	p := r.Generation(2)
	wrap(t, p, contextOf(t, "acme", 1))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, r.Keys) + fmt.Sprintf(verb, *p); got != "branchkey.Keys(***)branchkey.Provider(generation 2)" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func BenchmarkProvider(b *testing.B) {
	r := newRig(b, func(c *branchkey.Config) { c.Now = nil })
	p, ec := r.Generation(2), contextOf(b, "acme", 1)
	w := wrap(b, p, ec)
	r.kms.Reset()
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		dek := kmskey.NewDEK()
		for b.Loop() {
			_, _ = p.Wrap(b.Context(), dek, ec)
		}
		b.ReportMetric(float64(r.kms.Calls()), "kms-calls")
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = p.Unwrap(b.Context(), w, ec)
		}
		b.ReportMetric(float64(r.kms.Calls()), "kms-calls")
	})
}
