// keyring.go owns what applications hold: numbered versions of the wrapping key, and the three acts on a row's envelope.

package kmskey

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowseal/rowseal/internal/canon"
)

// Config describes a [Keyring].
type Config struct {
	// Current is the version that wraps new keys. Change it only after every running process lists the version, since rows
	// written under it are closed to those that do not. Defaults to the only version where there is one.
	Current int

	// Versions lists every version that rows may still need, by number, 1 to 2147483647. A row names its version and opens
	// only with that one; nothing is tried in turn. Remove a version when no row needs it.
	Versions map[int]Version

	// Namespace names application and environment, for instance "clinic/production". It is authenticated with every field and
	// every key, so that a row of one environment does not open in another even where both may use the same KMS key. Settle it
	// before the first row: a changed namespace opens nothing. Defaults to none.
	Namespace string

	// Hedge is how long an unwrap may take before the service is asked a second time; the answer that comes first counts. Set it, to what 19 of 20 calls take, where pages of many rows
	// are read from a service that is slow now and then. It costs one call in twenty at most, which observers and the service's log see. Defaults to none.
	Hedge time.Duration

	// Observers see every act of every provider, for logs, traces and metrics. Defaults to none.
	Observers []Observer
}

// Version is one generation of the wrapping key.
type Version struct {
	// Provider reaches the key; a [Multi] reaches several, each of which opens the row. Required, unless Choose is set.
	Provider Provider

	// Choose picks the provider by row, in place of Provider: for each tenant the tenant's own KMS key, say, by ec.Get("tenant_id"), or one for
	// each classification, by row.Key. It must be quick, safe for concurrent use, and give the same provider for the same row every time, since a
	// row opens with that one alone; its error fails the statement. The context columns that it looks at must be declared, so that they are read with
	// the row. Defaults to none.
	Choose func(row Row, ec Context) (Provider, error)

	// Constants are added to every encryption context under this version, for instance {"environment": "production"}, so that
	// key policies can ask for them. They must not repeat a name of a model's own context. Defaults to none.
	Constants map[string]string
}

// Row names what an envelope is bound to: the row itself, and the key column in it.
type Row struct {
	// Model is the logical name of the model.
	Model string
	// Key is the logical name of the key column.
	Key string
	// ID is the primary key, part by part. Without it a bound envelope is neither made nor opened.
	ID []Value
	// Unbound leaves ID out of the commitment of new envelopes. It is for models whose context has no id and whose id the
	// database assigns; docs/format.md, section 5, says what it costs.
	Unbound bool
	// AdmitUnbound opens envelopes that leave ID out although new ones do not: the model was declared so under an older version.
	// Unbound implies it.
	AdmitUnbound bool
	// Context gives the model's encryption context under a version.
	Context func(version int) ([]Pair, error)

	box bool // a message of a [Box] and no row: another commitment
}

// DataKey is one data key of a row, with its number in the envelope. Of a row with several, Err is why this one did not open; DEK is zero then.
type DataKey struct {
	ID  byte
	DEK DEK
	Err error
}

// Keyring wraps and unwraps the data keys of rows. It is immutable and safe for concurrent use. It caches nothing: each act
// costs one call to a key service per data key.
type Keyring struct {
	current   int
	namespace string
	versions  map[int]version
	observers []Observer
	writeOnly bool
	hedge     *hedge // nil for none
}

// Observed is the same keyring with one observer more.
func (k *Keyring) Observed(o Observer) *Keyring {
	c := *k
	c.observers = append(slices.Clone(k.observers), o)
	return &c
}

// WriteOnly is the same keyring for a program that must not unwrap: what would need it fails with [ErrWriteOnly], without a call. Wrap and Append
// work as ever, and so does Rewrap where the service does it.
func (k *Keyring) WriteOnly() *Keyring {
	c := *k
	c.writeOnly = true
	return &c
}

type version struct {
	legs      *Multi // nil where they are chosen by row
	choose    func(Row, Context) (Provider, error)
	constants []Pair
}

// New checks cfg and builds a keyring. It makes no call.
func New(cfg Config) (*Keyring, error) {
	k := &Keyring{current: cfg.Current, namespace: cfg.Namespace, versions: make(map[int]version, len(cfg.Versions)), observers: slices.Clone(cfg.Observers), hedge: newHedge(cfg.Hedge)}
	if cfg.Hedge < 0 {
		return nil, fmt.Errorf("kmskey: new keyring: Config.Hedge is %v; leave it zero for none", cfg.Hedge)
	}
	if slices.ContainsFunc(k.observers, func(o Observer) bool { return o == nil }) {
		return nil, errors.New("kmskey: new keyring: one of Config.Observers is nil")
	}
	if len(cfg.Versions) == 0 {
		return nil, errors.New("kmskey: new keyring: Config.Versions is empty; list at least one, for instance {1: {Provider: p}}")
	}
	for _, n := range slices.Sorted(maps.Keys(cfg.Versions)) {
		v := cfg.Versions[n]
		if n < 1 || n > maxVersion {
			return nil, fmt.Errorf("kmskey: new keyring: version %d is not 1 to %d", n, maxVersion)
		}
		switch {
		case v.Provider == nil && v.Choose == nil:
			return nil, fmt.Errorf("kmskey: new keyring: version %d has no Provider", n)
		case isNil(v.Provider) && v.Choose == nil:
			return nil, fmt.Errorf("kmskey: new keyring: the Provider of version %d is a nil %T; look at the error that came with it", n, v.Provider)
		case v.Provider != nil && v.Choose != nil:
			return nil, fmt.Errorf("kmskey: new keyring: version %d has both Provider and Choose; keep one", n)
		}
		if g, ok := v.Provider.(interface{ Generation() int }); ok && g.Generation() != n {
			return nil, fmt.Errorf("kmskey: new keyring: version %d has branch keys of generation %d; give it those of its own number: Generation(%d)", n, g.Generation(), n)
		}
		var constants []Pair
		for _, name := range slices.Sorted(maps.Keys(v.Constants)) {
			constants = append(constants, Pair{name, Text(v.Constants[name])})
		}
		if _, err := NewContext(constants...); err != nil {
			return nil, fmt.Errorf("kmskey: new keyring: version %d: %w", n, err)
		}
		next := version{choose: v.Choose, constants: constants}
		if v.Provider != nil {
			next.legs = alone(v.Provider)
		}
		k.versions[n] = next
	}
	if k.current == 0 {
		if len(k.versions) > 1 {
			return nil, fmt.Errorf("kmskey: new keyring: Config.Current is not set; choose one of %s", k.numbers())
		}
		for n := range k.versions {
			k.current = n
		}
	}
	if _, ok := k.versions[k.current]; !ok {
		return nil, fmt.Errorf("kmskey: new keyring: Config.Current is %d, which is not among the versions %s", k.current, k.numbers())
	}
	return k, nil
}

// isNil knows a nil pointer in the interface as well: a constructor gives one beside its error.
func isNil(p Provider) bool {
	v := reflect.ValueOf(p)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

func (k *Keyring) numbers() string {
	var s []string
	for _, n := range slices.Sorted(maps.Keys(k.versions)) {
		s = append(s, fmt.Sprint(n))
	}
	return strings.Join(s, ", ")
}

// Current is the version that wraps new keys.
func (k *Keyring) Current() int { return k.current }

// Numbers lists the versions in ascending order.
func (k *Keyring) Numbers() []int { return slices.Sorted(maps.Keys(k.versions)) }

// Constants gives what a version adds to every encryption context: a copy of [Version].Constants.
func (k *Keyring) Constants(version int) map[string]string {
	constants := map[string]string{}
	for _, p := range k.versions[version].constants {
		constants[p.Name] = p.Value.String()
	}
	return constants
}

// Chooses reports whether the provider of a version is chosen row by row: [Version].Choose.
func (k *Keyring) Chooses(version int) bool { return k.versions[version].choose != nil }

// Namespace is [Config].Namespace.
func (k *Keyring) Namespace() string { return k.namespace }

// firstID numbers the data key of a new envelope.
const firstID = 1

// NewDataKey draws a data key for a row that has none yet. It makes no call; [Keyring.Wrap] does.
func NewDataKey() DataKey { return DataKey{ID: firstID, DEK: NewDEK()} }

// Wrap puts a row's only data key into a new envelope under the current version: one call, or one for each provider of a [Multi].
func (k *Keyring) Wrap(ctx context.Context, key DataKey, row Row) (Envelope, error) {
	sealed, err := k.wrap(ctx, key, row)
	if err != nil {
		return Envelope{}, err
	}
	return Envelope{row.Unbound, []sealedKey{sealed}}, nil
}

// Append gives a row one more data key, under the current version, which seals from then on; those that it has stay as they are and keep
// opening their fields. Nothing is unwrapped: this is how a writer that may not read changes a field of a row. One call. It fails with
// [ErrRingFull] where the envelope has four keys; [Envelope.Prune] drops those that no field needs any more, and a rotation makes one of them.
//
// The new envelope must be stored with the fields that the new key seals, and only where e still stands.
func (k *Keyring) Append(ctx context.Context, e Envelope, row Row) (Envelope, DataKey, error) {
	row, err := e.admit("append", row)
	if err != nil {
		return Envelope{}, DataKey{}, err
	}
	newest := byte(0)
	for _, s := range e.keys {
		newest = max(newest, s.id)
	}
	if len(e.keys) >= maxKeys || newest == 255 {
		return Envelope{}, DataKey{}, fmt.Errorf("kmskey: append: %w: it has %d data keys, the highest numbered %d; rotate the row by a process that may unwrap", ErrRingFull, len(e.keys), newest)
	}
	key := DataKey{ID: newest + 1, DEK: NewDEK()}
	sealed, err := k.wrap(ctx, key, row)
	if err != nil {
		key.DEK.Destroy()
		return Envelope{}, DataKey{}, err
	}
	return Envelope{e.unbound, append(slices.Clone(e.keys), sealed)}, key, nil
}

// Prepares reports whether a provider of the current version is a [Preparer], or may be.
func (k *Keyring) Prepares() bool {
	v := k.versions[k.current]
	return v.legs == nil || slices.ContainsFunc(v.legs.legs, func(l *leg) bool { _, ok := l.Provider.(Preparer); return ok })
}

// Prepare has the providers of the current version see to what wrapping a key of row will need: see [Preparer]. The row's context may lack what is not known yet. Where
// that is too little to choose a provider by, nothing happens.
func (k *Keyring) Prepare(ctx context.Context, row Row) error {
	at, err := k.foreseen(row)
	if err != nil {
		return nil // Wrap will say so, with all of the context
	}
	for _, l := range at.legs.legs {
		if p, ok := l.Provider.(Preparer); ok {
			if err := p.Prepare(ctx, at.context); err != nil {
				return at.failed("prepare", err)
			}
		}
	}
	return nil
}

// foreseen is [Keyring.at] for a row of which not all is known. A Choose that looks at the primary key may count on there being one, as for every other act.
func (k *Keyring) foreseen(row Row) (p place, err error) {
	if k.Chooses(k.current) {
		defer func() {
			if r := recover(); r != nil {
				err = errors.New("kmskey: prepare: Choose panicked; with all of the row it says why")
			}
		}()
	}
	return k.at(k.current, row)
}

// admit is the row as e is bound to it, or why e cannot be the row's.
func (e Envelope) admit(op string, row Row) (Row, error) {
	if e.IsZero() {
		return Row{}, fmt.Errorf("kmskey: %s: %w: it holds no key", op, ErrCorrupt)
	}
	if e.unbound && !row.Unbound && !row.AdmitUnbound {
		return Row{}, fmt.Errorf("kmskey: %s: %w: the envelope is not bound to a row, and rows of this model must be", op, ErrCommitment)
	}
	row.Unbound = e.unbound
	return row, nil
}

func (k *Keyring) wrap(ctx context.Context, key DataKey, row Row) (sealedKey, error) {
	// Either would be written, and never be read again.
	if key.ID == 0 || key.DEK.IsZero() {
		return sealedKey{}, errors.New("kmskey: wrap: the data key is zero; make one with kmskey.NewDataKey")
	}
	if err := row.check(); err != nil {
		return sealedKey{}, fmt.Errorf("kmskey: wrap: %w", err)
	}
	at, err := k.at(k.current, row)
	if err != nil {
		return sealedKey{}, err
	}
	var wraps []Wrapped
	if len(at.legs.legs) == 1 {
		// As most versions have it, without what it takes to ask several.
		var w Wrapped
		w, err = at.wrapBy(ctx, at.legs.legs[0], key.DEK)
		wraps = []Wrapped{w}
	} else {
		wraps, err = at.wrapByAll(ctx, key.DEK)
	}
	if err == nil {
		err = distinct(wraps)
	}
	if err != nil {
		return sealedKey{}, at.failed("wrap", err)
	}
	return sealedKey{key.ID, uint32(k.current), k.commit(key, row), wraps}, nil
}

func (p *place) wrapBy(ctx context.Context, l *leg, dek DEK) (Wrapped, error) {
	w, err := p.wrap(ctx, l.Provider, dek, p.context)
	if err == nil {
		l.used(w)
	}
	return w, err
}

func (p place) wrapByAll(ctx context.Context, dek DEK) ([]Wrapped, error) {
	wraps, _, err := p.legs.all(ctx, nil, p.legs.quorum, false, func(ctx context.Context, l *leg) (Wrapped, error) {
		return p.wrapBy(ctx, l, dek)
	})
	return wraps, err
}

// place is a version of the keyring as one row meets it.
type place struct {
	asker
	n       int
	legs    *Multi
	context Context
}

// at finds a version's providers and context for a row.
func (k *Keyring) at(n int, row Row) (place, error) {
	ec, err := k.context(n, row)
	if err != nil {
		return place{}, err
	}
	v := k.versions[n]
	p := place{asker{k.observers, Call{Version: n, Model: row.Model, Key: row.Key}}, n, v.legs, ec}
	if p.legs == nil {
		chosen, err := v.choose(row, ec)
		if err == nil && isNil(chosen) {
			err = errors.New("it gave no provider and no error")
		}
		if err != nil {
			return place{}, fmt.Errorf("kmskey: version %d: Choose for a row of %s: %w", n, row.Model, err)
		}
		p.legs = alone(chosen)
	}
	return p, nil
}

// holds reports that a data key is where p would put it, which lies at source now.
func (p place) holds(s sealedKey, source place) bool {
	return p.n == source.n && p.context.Equal(source.context) && p.legs.covers(s.wraps) && !p.legs.behind(s.wraps)
}

// failed tells an error of a provider under which version and context names it happened.
func (p place) failed(op string, err error) error {
	e, ok := err.(*Error)
	if !ok {
		return fmt.Errorf("kmskey: %s: version %d: %w", op, p.n, err)
	}
	c := *e
	c.Version = p.n
	if c.Hint == "" && c.Kind == ErrContextMismatch {
		// Which of them differs no service tells. The names are known, and mostly it is clear then which value moved.
		c.Hint = fmt.Sprintf("asked under the context %v: either one of these is not what it was when the key was wrapped, or the key is another row's or was altered", p.context)
	}
	return &c
}

// Unwrap gives a row's data keys, oldest first: one call for each, which is one for all rows but those that a writer added a key to. It
// checks each key's commitment to the row, so that an envelope copied from elsewhere fails with [ErrCommitment] even
// where a key service would accept it. Where the row has several keys, one that can never open (a writer was configured wrongly, or the envelope was
// altered) does not close the others: it has its error in [DataKey].Err. Where none opens, and where one did not only for now, Unwrap fails.
func (k *Keyring) Unwrap(ctx context.Context, e Envelope, row Row) ([]DataKey, error) {
	row, err := e.admit("unwrap", row)
	if err != nil {
		return nil, err
	}
	keys := make([]DataKey, 0, len(e.keys))
	var failed error
	broken := 0
	for _, s := range e.keys {
		dek, err := k.unwrap(ctx, s, row)
		if err != nil && failed == nil {
			failed = err
		}
		if err != nil {
			broken++
		}
		if err != nil && !(len(e.keys) > 1 && final(err)) || broken == len(e.keys) {
			for _, key := range keys {
				key.DEK.Destroy()
			}
			return nil, failed
		}
		keys = append(keys, DataKey{s.id, dek, err})
	}
	return keys, nil
}

// final reports an error that trying again does not change.
func final(err error) bool {
	for _, kind := range []error{ErrContextMismatch, ErrCommitment, ErrForeignKey, ErrUnknownVersion} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// check refuses a row that a commitment could not tell from others.
func (r Row) check() error {
	if r.Unbound {
		return nil
	}
	if len(r.ID) == 0 {
		return fmt.Errorf("a row of %s has no primary key to bind to", r.Model)
	}
	for i, part := range r.ID {
		if part.IsZero() {
			return fmt.Errorf("part %d of the primary key of a row of %s is not set", i+1, r.Model)
		}
	}
	return nil
}

// names says what a commitment tells apart.
func (r Row) names() string {
	if r.box {
		return "box, context or namespace"
	}
	return "row, model, key or namespace"
}

func (k *Keyring) unwrap(ctx context.Context, s sealedKey, row Row) (DEK, error) {
	if k.writeOnly {
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w", ErrWriteOnly)
	}
	if err := row.check(); err != nil {
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w", err)
	}
	if err := k.knows(s.version); err != nil {
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w", err)
	}
	at, err := k.at(int(s.version), row)
	if err != nil {
		return DEK{}, err
	}
	var dek DEK
	if len(at.legs.legs) == 1 && len(s.wraps) == 1 && k.hedge == nil {
		// As most rows have it, without what it takes to ask several. The one leg refuses itself what is not its own.
		if dek, err = at.unwrap(ctx, at.legs.legs[0].Provider, s.wraps[0], at.context); err == nil {
			dek, err = k.committed(dek, s, row)
		}
	} else {
		dek, err = k.unwrapAny(ctx, at, s, row)
	}
	if err != nil {
		return DEK{}, at.failed("unwrap", err)
	}
	return dek, nil
}

func (k *Keyring) unwrapAny(ctx context.Context, at place, s sealedKey, row Row) (DEK, error) {
	return at.legs.any(ctx, s.wraps, func(ctx context.Context, l *leg, w Wrapped) (DEK, error) {
		dek, err := k.hedge.unwrap(ctx, func(ctx context.Context) (DEK, error) { return at.unwrap(ctx, l.Provider, w, at.context) })
		if err != nil {
			return DEK{}, err
		}
		// Before the answer counts: another wrap may hold the row's key where this one was exchanged.
		return k.committed(dek, s, row)
	})
}

// committed is the data key, if it is the one that the row's envelope commits to.
func (k *Keyring) committed(dek DEK, s sealedKey, row Row) (DEK, error) {
	want := k.commit(DataKey{ID: s.id, DEK: dek}, row)
	if subtle.ConstantTimeCompare(want[:], s.commitment[:]) != 1 {
		dek.Destroy()
		return DEK{}, fmt.Errorf("%w (its commitment names another %s, or was altered)", ErrCommitment, row.names())
	}
	return dek, nil
}

func (k *Keyring) knows(version uint32) error {
	if _, ok := k.versions[int(version)]; !ok {
		return fmt.Errorf("%w %d; the keyring has %s: list it until rotation has moved every row", ErrUnknownVersion, version, k.numbers())
	}
	return nil
}

// UpToDate reports that [Keyring.Rewrap] would change nothing of a row's envelope, as far as that is known without a call: every data key is under the current version,
// its context, and every key that the version has.
func (k *Keyring) UpToDate(e Envelope, row Row) bool {
	row, err := e.admit("rewrap", row)
	if err != nil {
		return false
	}
	target, err := k.at(k.current, row)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(e.keys, func(s sealedKey) bool { return int(s.version) != k.current || !target.holds(s, target) })
}

// Rewrap moves every data key of an envelope to the current version, and from one row's binding to another's where they differ
// (a changed primary key or context). The data keys stay the same, so sealed fields stay valid. Where the service can do it
// ([Rewrapper]) and the primary key is the same, no data key is seen, but where the service denies it within one version, so that only the context changes, and
// permits unwrapping and wrapping. Of a [Multi], wraps that are missing are made, which takes unwrapping one
// of the others, and wraps that no provider owns any more are dropped. The result equals e, without a call, where all of it is current
// already. A bound envelope stays bound, whatever to.Unbound says; an unbound one becomes bound where to asks for it.
//
// A row that lies under the current version and another key of it than the service now uses (a new version of a Vault or Google key, the key that an
// alias was moved to) is rewrapped as well, as far as that is known: from the last key that the service was seen to use.
func (k *Keyring) Rewrap(ctx context.Context, e Envelope, from, to Row) (Envelope, error) {
	return k.rewrapAll(ctx, e, from, to, false)
}

// Refresh is [Keyring.Rewrap] for an envelope that may be current already: each of its data keys is wrapped anew all the same. It is for services that do
// not tell their key's versions apart, as AWS after its yearly rotation.
func (k *Keyring) Refresh(ctx context.Context, e Envelope, from, to Row) (Envelope, error) {
	return k.rewrapAll(ctx, e, from, to, true)
}

func (k *Keyring) rewrapAll(ctx context.Context, e Envelope, from, to Row, fresh bool) (Envelope, error) {
	from, err := e.admit("rewrap", from)
	if err != nil {
		return Envelope{}, err
	}
	// Unbound is for what an INSERT could not know. Here the primary key is known, so nothing is loosened.
	to.Unbound = to.Unbound && e.unbound
	sameRow := from.Model == to.Model && from.Key == to.Key && slices.Equal(from.ID, to.ID) && from.Unbound == to.Unbound
	out := Envelope{to.Unbound, slices.Clone(e.keys)}
	for i, s := range e.keys {
		rewrapped, err := k.rewrap(ctx, s, from, to, sameRow, fresh)
		if err != nil {
			return Envelope{}, err
		}
		out.keys[i] = rewrapped
	}
	return out, nil
}

func (k *Keyring) rewrap(ctx context.Context, s sealedKey, from, to Row, sameRow, fresh bool) (sealedKey, error) {
	if err := k.knows(s.version); err != nil {
		return sealedKey{}, fmt.Errorf("kmskey: rewrap: %w", err)
	}
	if !sameRow {
		dek, err := k.unwrap(ctx, s, from)
		if err != nil {
			return sealedKey{}, err
		}
		defer dek.Destroy()
		return k.wrap(ctx, DataKey{ID: s.id, DEK: dek}, to)
	}
	source, err := k.at(int(s.version), from)
	if err != nil {
		return sealedKey{}, err
	}
	target, err := k.at(k.current, to)
	if err != nil {
		return sealedKey{}, err
	}
	stays := source.n == target.n && source.context.Equal(target.context)
	if !fresh && target.holds(s, source) {
		return s, nil
	}
	// The data key is unwrapped when the first leg needs it, and once.
	unwrapped := sync.OnceValues(func() (DEK, error) { return k.unwrap(ctx, s, from) })
	needed := atomic.Bool{}
	defer func() {
		if needed.Load() {
			if dek, err := unwrapped(); err == nil {
				dek.Destroy()
			}
		}
	}()
	// What moves to another version must have all of its wraps: by the version nobody would find it again. What changes its context within one is
	// an application's write, and has its quorum.
	have, need := make([]*Wrapped, len(target.legs.legs)), target.legs.quorum
	if source.n != target.n {
		need = len(have)
	}
	for i, l := range target.legs.legs {
		if w, ok := target.legs.has(l, s.wraps); ok && stays && !fresh && !l.left(w) {
			have[i] = &w
		}
	}
	kept := count(have)
	// An application's write, or its message: whoever may decrypt and encrypt need not be permitted to rewrap. A rotation that is not must say so, since it
	// promises that no data key is seen.
	lenient := from.box || source.n == target.n && !fresh
	wraps, missing, err := target.legs.all(ctx, have, need, true, func(ctx context.Context, l *leg) (Wrapped, error) {
		w, err := rewrapAtService(ctx, source, target, l, s.wraps)
		denied := lenient && errors.Is(err, ErrDenied)
		if !denied && !errors.Is(err, ErrNotRewrappable) {
			if err == nil {
				l.used(w)
			}
			return w, err
		}
		needed.Store(true)
		dek, unwrapErr := unwrapped()
		switch {
		case unwrapErr != nil && denied && errors.Is(unwrapErr, ErrDenied):
			return Wrapped{}, err // it is the permission to rewrap that lacks
		case unwrapErr != nil:
			return Wrapped{}, unwrapErr
		}
		if w, err = target.wrap(ctx, l.Provider, dek, target.context); err == nil {
			l.used(w)
		}
		return w, err
	})
	if err == nil {
		err = distinct(wraps)
	}
	if err != nil {
		return sealedKey{}, target.failed("rewrap", err)
	}
	if (stays || fresh) && missing != nil && len(wraps) == kept {
		return sealedKey{}, target.failed("rewrap", missing) // nothing was gained, and something is still missing
	}
	// The commitment is kept, since it holds nothing that changes.
	return sealedKey{s.id, uint32(k.current), s.commitment, wraps}, nil
}

// rewrapAtService makes l's wrap out of those that there are, without seeing the data key. ErrNotRewrappable says that this cannot be done.
func rewrapAtService(ctx context.Context, source, target place, l *leg, wraps []Wrapped) (Wrapped, error) {
	r, can := l.Provider.(Rewrapper)
	if !can {
		return Wrapped{}, ErrNotRewrappable
	}
	failed := ErrNotRewrappable
	for _, s := range source.legs.legs {
		for _, w := range wraps {
			// Where there is one provider and one wrap, Rewrap itself refuses what is foreign, and says why.
			if len(wraps) > 1 && !s.owns(w) {
				continue
			}
			out, err := target.rewrap(ctx, r, s.Provider, w, source.context, target.context)
			switch {
			case err == nil:
				return out, nil
			case errors.Is(err, ErrNotRewrappable):
			case len(source.legs.legs) > 1 && errors.Is(err, ErrForeignKey):
			case len(wraps) > 1 && errors.Is(err, ErrContextMismatch): // damaged: it is made anew out of another one
			default:
				failed = err
			}
		}
	}
	return Wrapped{}, failed
}

// context joins a model's own pairs with the constants of a version.
func (k *Keyring) context(n int, row Row) (Context, error) {
	var pairs []Pair
	if row.Context != nil {
		own, err := row.Context(n)
		if err != nil {
			return Context{}, fmt.Errorf("kmskey: encryption context of %s: %w", row.Model, err)
		}
		pairs = own
	}
	return NewContext(append(pairs[:len(pairs):len(pairs)], k.versions[n].constants...)...)
}

// commit derives the 32 bytes that tie a data key to its row: docs/format.md, section 5, or to a message of a box: section 13.
func (k *Keyring) commit(key DataKey, row Row) [commitmentSize]byte {
	purpose := "rowseal/commitment"
	if row.box {
		purpose = "rowseal/box-commitment"
	}
	info := canon.AppendText(make([]byte, 0, 256), purpose)
	info = canon.Append(info, canon.Uint(suiteAESGCM))
	info = canon.Append(info, canon.Uint(uint64(key.ID)))
	info = canon.AppendText(info, k.namespace)
	if !row.box {
		info = canon.AppendText(info, row.Model)
	}
	info = canon.AppendText(info, row.Key)
	if !row.Unbound {
		for _, part := range row.ID {
			info = canon.Append(info, part)
		}
	}
	return key.DEK.Derive(info)
}
