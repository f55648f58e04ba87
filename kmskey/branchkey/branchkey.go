// branchkey.go owns what applications hold: the branch keys of all tenants, and the acts on them.

package branchkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
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

	// EpochAge is how often a process looks whether [Keys.Revoke] was called, one query on the store, and whether the store still has the keys that it wraps under, one query for each tenant whose rows
	// it writes. Defaults to 20 seconds; at most a minute.
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
	cache  *keycache.Cache[place, *localwrap.Branch]
	known  *known
	epoch  *keycache.Epoch
	now    func() time.Time
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
	cfg.Tenants = cmp.Or(cfg.Tenants, 1000)
	cache, err := keycache.New[place](keycache.Config{
		MaxAge: cfg.MaxAge, MaxStale: cfg.MaxStale, Entries: cfg.Tenants, MaxUses: mostUses, Now: cfg.Now,
		Away: func(err error) bool {
			return errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled) || errors.Is(err, errStore)
		},
		// Of a transaction that is broken or shows an old snapshot.
		Own: func(err error) bool { return errors.Is(err, errStore) || isMissing(err) },
	}, (*localwrap.Branch).Destroy)
	if err != nil {
		return fail("%w", err)
	}
	return &Keys{keys: cfg.Keys, box: box, store: cfg.Store, tenant: cfg.Tenant, cache: cache, known: newKnown(cfg.Tenants, cmp.Or(cfg.EpochAge, keycache.EpochAge), cache.Has),
		epoch: epoch, now: cfg.Now, making: make(chan struct{}, 1)}, nil
}

// Make makes the branch keys of tenants that have none yet, and shows that each opens: two calls for each that is made. A branch key that is missing is
// otherwise made by the first row that needs it, which costs that row the calls; and on SQLite, or with a pool of one connection, no
// statement in a transaction can. Without tenants it makes the one of all rows, where [Config.Tenant] is not set. A tenant that was shredded is [kmskey.ErrShredded]. Tenants before
// the one that fails have their keys.
func (k *Keys) Make(ctx context.Context, generation int, tenants ...string) error {
	if len(tenants) == 0 && k.tenant == "" {
		tenants = []string{""}
	}
	if generation < 1 {
		return fmt.Errorf("branchkey: make: generation %d is no version of a keyring; generations count from 1", generation)
	}
	for _, t := range tenants {
		if err := k.checkTenant(t); err != nil {
			return fmt.Errorf("branchkey: make: %w", err)
		}
	}
	for _, t := range tenants {
		at := Slot{k.keys.Namespace(), t, generation}
		if err := k.use(ctx, at, "", func(*localwrap.Branch) error { return nil }); err != nil {
			return fmt.Errorf("branchkey: make: %w", err)
		}
	}
	return nil
}

// checkTenant refuses a tenant that no row can have: its key would never be used, and the rows' own be made by a row after all.
func (k *Keys) checkTenant(t string) error {
	switch {
	case k.tenant == "" && t != "":
		return fmt.Errorf("tenant %q, but branchkey.Config.Tenant is not set, so that all rows are one tenant's; set it to the name of the pair that tells tenants apart", t)
	case k.tenant != "" && (t == "" || len(t) > maxTenant):
		return fmt.Errorf("a tenant of %d bytes; give what the rows have as %q, 1 to %d bytes", len(t), k.tenant, maxTenant)
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
// meanwhile, and one that puts back a key which the table had lost puts back the wrapping that it knows: call Rotate once every process has the new one, and take the older version out
// when [Keys.Status] counts none under it.
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
			stored, err = k.store.Replace(ctx, e.Slot, e.ID, e.Sealed, moved)
		}
		switch {
		case err != nil:
			r.Failed++
			errs = append(errs, fmt.Errorf("branch key %s of generation %d: %w", e.ID, e.Generation, err))
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

// Status is what the store holds.
type Status struct {
	Keys     int         // branch keys in the store
	Versions map[int]int // how many of them each version of [Config.Keys] wraps
	Unread   int         // of Keys, those whose sealed form is damaged
}

// Status counts the branch keys of the store by the version of [Config.Keys] that wraps them: one that wraps none is needed no more, where no process has it as its current one. It makes no call.
func (k *Keys) Status(ctx context.Context) (Status, error) {
	entries, err := k.store.All(ctx, k.keys.Namespace())
	if err != nil {
		return Status{}, fmt.Errorf("branchkey: status: list the branch keys: %w", err)
	}
	s := Status{Keys: len(entries), Versions: map[int]int{}}
	for _, e := range entries {
		envelope, _, _ := strings.Cut(e.Sealed, ".")
		if parsed, err := kmskey.ParseEnvelope(envelope); err != nil {
			s.Unread++
		} else {
			s.Versions[parsed.Version()]++
		}
	}
	return s, nil
}

// Shred destroys the branch keys of tenants, of every generation: no row of theirs under a branch key opens any more, and none can be written. It gives the number of keys destroyed. What asks for a key of such a
// tenant fails with [kmskey.ErrShredded] from then on, in this process at once and in every other within a minute, and no key is made for the tenant again: the store keeps a tombstone, for generations to come too.
// There is no way back. As with [Keys.Revoke], every process asks the service anew for the keys that it needs.
//
// The keys are gone from the table and from memory, and not from the backups, the write-ahead log and the replicas of the database: there they lie wrapped, and whoever may use the service's key opens them, until those
// are deleted or expire, or the service's key is deleted. After a restore from before the act, or a failover that lost it, the tenants must be shredded again. Rows of the tenants that lie under the service's key directly are not touched, nor is
// what rowseal.Config.KeyCache remembers: call rowseal.Revoke too where that is used.
//
// Where it fails it may have done a part, and may be called again. Without [Config.Tenant], which makes all rows one tenant's, it is refused.
func (k *Keys) Shred(ctx context.Context, tenants ...string) (destroyed int, err error) {
	if k.tenant == "" {
		return 0, errors.New("branchkey: shred: branchkey.Config.Tenant is not set, so that all rows are one tenant's; to destroy them all, delete the service's key")
	}
	for _, t := range tenants {
		if err := k.checkTenant(t); err != nil {
			return 0, fmt.Errorf("branchkey: shred: %w", err)
		}
	}
	var errs []error
	for _, t := range tenants {
		n, err := k.store.Shred(ctx, k.keys.Namespace(), t)
		if destroyed += n; err != nil {
			errs = append(errs, fmt.Errorf("tenant %q: %w; call it again", t, err))
		}
	}
	// After the tombstones are there: who forgets a key now finds one.
	if err := k.store.Revoke(ctx); err != nil {
		errs = append(errs, fmt.Errorf("revoke: %w; other processes go on for up to their MaxAge; call it again", err))
	}
	k.flush()
	if err := errors.Join(errs...); err != nil {
		return destroyed, fmt.Errorf("branchkey: shred: %w", err)
	}
	return destroyed, nil
}

// Revoke has every process forget its branch keys within a minute, and ask the service again for those that it needs. Call it after a key was disabled or a
// permission taken away: what the service then refuses is not used on. It takes no key out of the store, and each process puts back the keys that it knows and the store has lost, so
// call it after a restore or a failover too.
func (k *Keys) Revoke(ctx context.Context) error {
	k.flush()
	if err := k.store.Revoke(ctx); err != nil {
		return fmt.Errorf("branchkey: revoke: %w; other processes go on for up to their MaxAge", err)
	}
	return nil
}

func (k *Keys) flush() {
	k.known.flush() // first: what is asked of the cache from now on goes by no older answer of the table
	k.cache.Flush()
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

func isMissing(err error) bool {
	var m *missing
	return errors.As(err, &m)
}

// use has do work with the branch key id of a slot, which must not be kept. "" is the key that wraps, which is made where there is none.
func (k *Keys) use(ctx context.Context, at Slot, id string, do func(*localwrap.Branch) error) error {
	// Before the key itself: what is loaded after this is not older than this epoch.
	if err := k.epoch.Check(ctx, k.store.Epoch, k.flush); err != nil {
		return err
	}
	k.settle(ctx)
	if id != "" {
		return k.useKey(ctx, place{at, id}, nil, do)
	}
	var gone error
	for range 3 {
		current, said, err := k.current(ctx, at)
		if err != nil {
			return err
		}
		gone = k.useKey(ctx, place{at, current}, said, do)
		if !isMissing(gone) && !errors.Is(gone, kmskey.ErrShredded) {
			return gone
		}
		// It has gone since it was found to be the one that wraps, and nobody here has opened it: which one does, the table must say.
		k.known.forget(at, current)
	}
	return fmt.Errorf("%w: keys are gone as soon as they are found: %s", errStore, gone.Error())
}

// settle compares what this process knows with the table, after a revocation or a restore. What does not succeed the next caller tries, so it has no error: a key may be lost
// in the table alone, and this caller need not want it.
func (k *Keys) settle(ctx context.Context) {
	for {
		at, ok := k.known.owes(k.now())
		if !ok {
			return
		}
		if err := k.find(ctx, at, "").err; err != nil && !errors.Is(err, kmskey.ErrShredded) {
			k.known.stillOwes(at, k.now())
			return
		}
	}
}

// answer is what the table said of a slot.
type answer struct {
	keys  []Key
	err   error
	round uint64 // of known, before the table was asked
}

// useKey has do work with a key; said is what the table has just said of its slot, nil where it was not asked.
func (k *Keys) useKey(ctx context.Context, p place, said *answer, do func(*localwrap.Branch) error) error {
	if said == nil && !k.cache.Has(p) {
		// Before others wait for this one's answer: they may hold the very connections that the table waits for.
		said = k.find(ctx, p.Slot, p.id)
	}
	return k.cache.Use(ctx, p, 0, func(ctx context.Context) (*localwrap.Branch, error) {
		// One from before a revocation would have the cache remember the key of a tenant that was shredded.
		if said == nil || said.round != k.known.round.Load() {
			said = k.find(ctx, p.Slot, p.id)
		}
		if said.err != nil {
			return nil, said.err
		}
		return k.open(ctx, p, said.keys)
	}, do)
}

// current gives the id of the key that wraps, and what the table said where it was asked. A key is made where there is none.
func (k *Keys) current(ctx context.Context, at Slot) (id string, said *answer, err error) {
	ask := func() (answered bool) {
		known, turn := k.known.wraps(at, k.now())
		if !turn {
			id = known
			return true
		}
		said = k.find(ctx, at, "")
		if id, err = wrapping(said.keys), said.err; err != nil && known != "" && !errors.Is(err, kmskey.ErrShredded) {
			id, said, err = known, nil, nil // for as long as its age and the epoch let it
		}
		return id != "" || err != nil
	}
	if ask() {
		return id, said, err
	}
	// One at a time, so that a page of rows of a new tenant makes one key and not thirty.
	select {
	case k.making <- struct{}{}:
		defer func() { <-k.making }()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
	if ask() {
		return id, said, err // somebody else was first
	}
	// Of two processes that make one, both go by the older. It is opened as the table has it, before any row depends on it.
	said = k.create(ctx, at)
	return wrapping(said.keys), said, said.err
}

// find asks the table for the keys of a slot, and gives it back those that it has lost: rows lie under them, and every other process would need another key. Only the keys of a
// shredded tenant, and those whose sealed form was emptied, stay away.
func (k *Keys) find(ctx context.Context, at Slot, id string) *answer {
	round := k.known.round.Load()
	if err := k.known.absent(place{at, id}, k.now()); err != nil {
		return &answer{err: err, round: round}
	}
	keys, err := k.store.Find(ctx, at, id)
	act := "read"
	if err == nil {
		if lost := k.known.lost(at, keys); len(lost) > 0 {
			act = "put back what it has lost"
			keys, err = k.store.Add(ctx, at, lost...)
		}
	}
	return k.note(at, id, act, keys, err, round)
}

// note keeps what the table answered to an act.
func (k *Keys) note(at Slot, id, act string, keys []Key, err error, round uint64) *answer {
	switch {
	case errors.Is(err, kmskey.ErrShredded):
		keys, err := k.known.shredded(at, err, k.now())
		for _, key := range keys {
			k.cache.Forget(place{at, key.ID}) // which a transaction may have shown since, in an old snapshot
		}
		return &answer{err: err, round: round}
	case err != nil:
		return &answer{err: fmt.Errorf("%w: %s: %w", errStore, act, err), round: round}
	}
	k.known.stand(at, id, keys, k.now())
	return &answer{keys: keys, round: round}
}

// open has a key of those that the table holds unwrapped.
func (k *Keys) open(ctx context.Context, p place, keys []Key) (*localwrap.Branch, error) {
	stored := find(keys, p.id)
	switch {
	case stored == nil:
		return nil, &missing{p.Slot, p.id, len(keys)}
	case stored.Sealed == "":
		return nil, &destroyed{fmt.Sprintf("branch key %s of generation %d was emptied in the table", p.id, p.Generation)}
	}
	key, err := k.box.Open(ctx, stored.Sealed, k.context(p.Slot)...)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	b, err := localwrap.NewBranch(key)
	if err != nil {
		return nil, err
	}
	if b.ID() != p.id {
		defer b.Destroy()
		return nil, fmt.Errorf("the table has the key %s under the id %s", b.ID(), p.id)
	}
	k.known.opened(p.Slot, *stored)
	return b, nil
}

func (k *Keys) create(ctx context.Context, at Slot) *answer {
	round := k.known.round.Load()
	fresh := kmskey.NewDEK() // 32 random bytes, as a branch key is
	defer fresh.Destroy()
	b, err := localwrap.NewBranch(fresh.Bytes())
	if err != nil {
		return &answer{err: err}
	}
	defer b.Destroy()
	sealed, err := k.box.Seal(ctx, fresh.Bytes(), k.context(at)...)
	if err != nil {
		return &answer{err: err}
	}
	keys, err := k.store.Add(ctx, at, Key{ID: b.ID(), Sealed: sealed, Created: k.now().UnixMilli()})
	if err == nil && wrapping(keys) == "" {
		err = errors.New("it was stored, and is not there")
	}
	return k.note(at, "", "store a new one", keys, err, round)
}

// String prints no key.
func (k *Keys) String() string { return "branchkey.Keys(***)" }

// Format prints [Keys.String] for every verb.
func (k *Keys) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }
