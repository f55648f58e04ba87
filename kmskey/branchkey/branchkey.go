// branchkey.go owns what applications hold: the branch keys of all tenants, and the acts on them.

package branchkey

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rowseal/rowseal/internal/keycache"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/internal/localwrap"
)

// boxName is what branch keys are sealed in: docs/format.md, section 15.
const boxName = "rowseal/branch-keys"

// Config describes [Keys].
type Config struct {
	// Keys is the keyring that wraps branch keys: its versions are keys of the service. It is another one than the rows', which holds generations of
	// branch keys; give both the same namespace. Its observers see the calls that are really made. Required.
	Keys *kmskey.Keyring

	// Store keeps the wrapped branch keys. Required.
	Store Store

	// Tenant names the pair of the rows' encryption contexts that tells tenants apart, for instance "tenant_id"; models declare it by
	// rowseal.Columns("tenant_id"). Every row under a generation must have it. Its value is written to the key service's log in the clear. Settle it
	// before the first row. Defaults to none: all rows are one tenant's.
	Tenant string

	// MaxAge is how long a process uses a branch key before it asks the service again; it asks ahead, at four fifths of that, so that nobody waits. A key
	// that was disabled is used on for so long, unless [Keys.Revoke] is called. Defaults to 15 minutes.
	MaxAge time.Duration

	// MaxStale is the hard limit on the same while the service cannot be reached or throttles. Defaults to 4 hours, or MaxAge where that is longer.
	MaxStale time.Duration

	// Tenants bounds the branch keys that a process holds; the one that was not used for longest goes. Defaults to 1,000.
	Tenants int

	// EpochAge is how often a process looks whether [Keys.Revoke] was called: one query on the store. Defaults to 20 seconds; at most a minute.
	EpochAge time.Duration

	// Now is the clock; tests set it. Defaults to time.Now.
	Now func() time.Time
}

const (
	// mostUses bounds a branch key's uses before it is asked for again: AES-GCM's own bound does not apply, since each use has a sub-key, so this one only keeps
	// the count far from 2^48, where sub-keys would begin to meet (docs/format.md, section 10).
	mostUses = 1 << 40
)

// Keys holds the branch keys of all tenants. It is safe for concurrent use. A process needs one.
type Keys struct {
	keys   *kmskey.Keyring
	box    *kmskey.Box
	store  Store
	tenant string
	cache  *keycache.Cache[Slot, *localwrap.Branch]
	epoch  *keycache.Epoch
	making chan struct{} // holds one: who makes a branch key that nobody has
}

// New checks cfg. It makes no call and no query.
func New(cfg Config) (*Keys, error) {
	fail := func(format string, args ...any) (*Keys, error) {
		return nil, fmt.Errorf("branchkey: new: "+format, args...)
	}
	if cfg.Keys == nil {
		return fail("Config.Keys is nil; give it the keyring that wraps branch keys")
	}
	if cfg.Store == nil {
		return fail("Config.Store is nil; rowseal.BranchKeys(db) is one")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	epoch, err := keycache.NewEpoch(cfg.EpochAge, cfg.Now)
	if err != nil {
		return fail("Config.%w", err)
	}
	box, err := kmskey.NewBox(cfg.Keys, boxName)
	if err != nil {
		return fail("%w", err)
	}
	cache, err := keycache.New[Slot](keycache.Config{
		MaxAge: cfg.MaxAge, MaxStale: cfg.MaxStale, Entries: cfg.Tenants, MaxUses: mostUses, Now: cfg.Now,
		Away: func(err error) bool {
			return errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled) || errors.Is(err, errStore)
		},
		// Of a transaction that is broken or shows an old snapshot.
		Own: func(err error) bool { return errors.Is(err, errStore) || errors.Is(err, errMissing) },
	}, (*localwrap.Branch).Destroy)
	if err != nil {
		return fail("%w", err)
	}
	return &Keys{keys: cfg.Keys, box: box, store: cfg.Store, tenant: cfg.Tenant, cache: cache,
		epoch: epoch, making: make(chan struct{}, 1)}, nil
}

// Make makes the branch keys of tenants that have none yet, and shows that each opens: two calls for each that is made. A branch key that is missing is
// otherwise made by the first row that needs it, which costs that row the calls; and on SQLite, or with a pool of one connection, no
// statement in a transaction can. Without tenants it makes the one of all rows, where [Config.Tenant] is not set.
func (k *Keys) Make(ctx context.Context, generation int, tenants ...string) error {
	if len(tenants) == 0 && k.tenant == "" {
		tenants = []string{""}
	}
	for _, t := range tenants {
		at := Slot{k.keys.Namespace(), t, generation}
		if err := k.use(ctx, at, true, func(*localwrap.Branch) error { return nil }); err != nil {
			return fmt.Errorf("branchkey: make: %w", err)
		}
	}
	return nil
}

// Report is what [Keys.Rotate] did.
type Report struct {
	Keys    int // branch keys in the store
	Moved   int // now under the current version
	Current int // were there already
	Raced   int // moved by another process meanwhile
	Failed  int // still where they were
}

// Rotate moves every branch key of the store to the current version of [Config.Keys], by the service itself where it can, and one call for each. No row is
// written: rows lie under the branch keys, which stay the same. Afterwards no row needs the older versions. Where some cannot be moved it goes on with the
// others, and the error joins theirs; calling it again goes on with what is left. A process whose keyring still has an older version as its current one may make a branch key under it
// meanwhile: call Rotate once every process has the new one, and take the older version out when it reports all as Current.
func (k *Keys) Rotate(ctx context.Context) (Report, error) {
	entries, err := k.store.All(ctx, k.keys.Namespace())
	if err != nil {
		return Report{}, fmt.Errorf("branchkey: rotate: list the branch keys: %w", err)
	}
	r := Report{Keys: len(entries)}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			errs = append(errs, ctx.Err())
			r.Failed += len(entries) - r.Moved - r.Current - r.Raced - r.Failed
			break
		}
		moved, err := k.box.Rewrap(ctx, e.Sealed, k.context(e.Slot), k.context(e.Slot))
		stored := false
		switch {
		case err == nil && moved == e.Sealed:
			r.Current++
			continue
		case err == nil:
			stored, err = k.store.Replace(ctx, e.Slot, e.Sealed, moved)
		}
		switch {
		case err != nil:
			r.Failed++
			errs = append(errs, fmt.Errorf("branch key of generation %d: %w", e.Generation, err))
		case stored:
			r.Moved++
		default:
			r.Raced++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return r, fmt.Errorf("branchkey: rotate: %d of %d not moved: %w", r.Failed, r.Keys, err)
	}
	return r, nil
}

// Revoke has every process forget its branch keys within a minute, and ask the service again for those that it needs. Call it after a key was disabled or a
// permission taken away: what the service then refuses is not used on. Call it after a restore or a failover too, before anything writes, or start the processes anew: they may
// hold branch keys that the table has lost, and rows written under those open no more once they are forgotten.
func (k *Keys) Revoke(ctx context.Context) error {
	k.cache.Flush()
	if err := k.store.Revoke(ctx); err != nil {
		return fmt.Errorf("branchkey: revoke: %w; other processes go on for up to their MaxAge", err)
	}
	return nil
}

// context is what the service wraps a branch key under: docs/format.md, section 15.
func (k *Keys) context(at Slot) []kmskey.Pair {
	pairs := []kmskey.Pair{
		{Name: "purpose", Value: kmskey.Text(boxName)},
		{Name: "branch_version", Value: kmskey.Int(int64(at.Generation))},
	}
	// Empty values are left out: not every service takes them.
	if at.Tenant != "" {
		pairs = append(pairs, kmskey.Pair{Name: "tenant", Value: kmskey.Text(at.Tenant)})
	}
	if at.Namespace != "" {
		pairs = append(pairs, kmskey.Pair{Name: "application", Value: kmskey.Text(at.Namespace)})
	}
	return pairs
}

// errStore: it is the store that failed, and not the key service.
var errStore = errors.New("the table of branch keys")

// errMissing: the store has no branch key for the slot.
var errMissing = errors.New("no branch key for this tenant and generation")

// use has do work with a branch key, which must not be kept. A missing one is made where that is asked for.
func (k *Keys) use(ctx context.Context, at Slot, create bool, do func(*localwrap.Branch) error) error {
	// Before the key itself: what is loaded after this is not older than this epoch.
	if err := k.epoch.Check(ctx, k.store.Epoch, k.cache.Flush); err != nil {
		return err
	}
	load := func(ctx context.Context) (*localwrap.Branch, error) { return k.load(ctx, at) }
	first := load
	if !k.cache.Has(at) {
		// The table is read before others wait for this one's answer: they may hold the very connections that it waits for.
		sealed, err := k.store.Find(ctx, at)
		first = func(ctx context.Context) (*localwrap.Branch, error) { return k.open(ctx, at, sealed, err) }
	}
	err := k.cache.Use(ctx, at, 0, first, do)
	if !create || !errors.Is(err, errMissing) {
		return err
	}
	// One at a time, so that a page of rows of a new tenant makes one key and not thirty.
	select {
	case k.making <- struct{}{}:
		defer func() { <-k.making }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := k.cache.Use(ctx, at, 0, load, do); !errors.Is(err, errMissing) {
		return err // somebody else was first
	}
	if err := k.create(ctx, at); err != nil {
		return err
	}
	// Read back and opened, before any row depends on it. The answer to a question from before the key was there may still be on its way; the next one is not.
	err = k.cache.Use(ctx, at, 0, load, do)
	if errors.Is(err, errMissing) {
		err = k.cache.Use(ctx, at, 0, load, do)
	}
	return err
}

func (k *Keys) load(ctx context.Context, at Slot) (*localwrap.Branch, error) {
	sealed, err := k.store.Find(ctx, at)
	return k.open(ctx, at, sealed, err)
}

// open has what the table holds unwrapped.
func (k *Keys) open(ctx context.Context, at Slot, sealed string, err error) (*localwrap.Branch, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: read: %w", errStore, err)
	}
	if sealed == "" {
		return nil, errMissing
	}
	key, err := k.box.Open(ctx, sealed, k.context(at)...)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return localwrap.NewBranch(key)
}

func (k *Keys) create(ctx context.Context, at Slot) error {
	fresh := kmskey.NewDEK() // 32 random bytes, as a branch key is
	defer fresh.Destroy()
	sealed, err := k.box.Seal(ctx, fresh.Bytes(), k.context(at)...)
	if err != nil {
		return err
	}
	if _, err := k.store.Add(ctx, at, sealed); err != nil {
		return fmt.Errorf("%w: store a new one: %w", errStore, err)
	}
	return nil
}

// String prints no key.
func (k *Keys) String() string { return "branchkey.Keys(***)" }

// Format prints [Keys.String] for every verb.
func (k *Keys) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }
