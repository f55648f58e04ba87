// keyring.go owns what applications hold: numbered versions of the wrapping key, and the three acts on a row's envelope.

package kmskey

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
}

// Version is one generation of the wrapping key.
type Version struct {
	// Provider reaches the key. Required.
	Provider Provider

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
}

// DataKey is one data key of a row, with its number in the envelope.
type DataKey struct {
	ID  byte
	DEK DEK
}

// Keyring wraps and unwraps the data keys of rows. It is immutable and safe for concurrent use. It caches nothing: each act
// costs one call to a key service per data key.
type Keyring struct {
	current   int
	namespace string
	versions  map[int]version
}

type version struct {
	provider  Provider
	constants []Pair
}

// New checks cfg and builds a keyring. It makes no call.
func New(cfg Config) (*Keyring, error) {
	k := &Keyring{current: cfg.Current, namespace: cfg.Namespace, versions: make(map[int]version, len(cfg.Versions))}
	if len(cfg.Versions) == 0 {
		return nil, errors.New("kmskey: new keyring: Config.Versions is empty; list at least one, for instance {1: {Provider: p}}")
	}
	for _, n := range slices.Sorted(maps.Keys(cfg.Versions)) {
		v := cfg.Versions[n]
		if n < 1 || n > maxVersion {
			return nil, fmt.Errorf("kmskey: new keyring: version %d is not 1 to %d", n, maxVersion)
		}
		if v.Provider == nil {
			return nil, fmt.Errorf("kmskey: new keyring: version %d has no Provider", n)
		}
		var constants []Pair
		for _, name := range slices.Sorted(maps.Keys(v.Constants)) {
			constants = append(constants, Pair{name, Text(v.Constants[name])})
		}
		if _, err := NewContext(constants...); err != nil {
			return nil, fmt.Errorf("kmskey: new keyring: version %d: %w", n, err)
		}
		k.versions[n] = version{v.Provider, constants}
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

// Namespace is [Config].Namespace.
func (k *Keyring) Namespace() string { return k.namespace }

// firstID numbers the data key of a new envelope.
const firstID = 1

// NewDataKey draws a data key for a row that has none yet. It makes no call; [Keyring.Wrap] does.
func NewDataKey() DataKey { return DataKey{firstID, NewDEK()} }

// Wrap puts a row's only data key into a new envelope under the current version: one call.
func (k *Keyring) Wrap(ctx context.Context, key DataKey, row Row) (Envelope, error) {
	sealed, err := k.wrap(ctx, key, row)
	if err != nil {
		return Envelope{}, err
	}
	return Envelope{row.Unbound, []sealedKey{sealed}}, nil
}

func (k *Keyring) wrap(ctx context.Context, key DataKey, row Row) (sealedKey, error) {
	// Either would be written, and never be read again.
	if key.ID == 0 || key.DEK.IsZero() {
		return sealedKey{}, errors.New("kmskey: wrap: the data key is zero; make one with kmskey.NewDataKey")
	}
	if err := row.check(); err != nil {
		return sealedKey{}, fmt.Errorf("kmskey: wrap: %w", err)
	}
	v := k.versions[k.current]
	ec, err := k.context(k.current, row)
	if err != nil {
		return sealedKey{}, err
	}
	w, err := v.provider.Wrap(ctx, key.DEK, ec)
	if err != nil {
		return sealedKey{}, atVersion(k.current, err)
	}
	if err := checkWrapped(w); err != nil {
		return sealedKey{}, fmt.Errorf("kmskey: wrap: version %d: the provider broke its contract: %w", k.current, err)
	}
	return sealedKey{key.ID, uint32(k.current), k.commit(key, row), []Wrapped{w}}, nil
}

// Unwrap gives a row's data keys, oldest first: one call for each, which is one for all rows but those in the middle of a
// reseal. It checks each key's commitment to the row, so that an envelope copied from elsewhere fails with [ErrCommitment] even
// where a key service would accept it.
func (k *Keyring) Unwrap(ctx context.Context, e Envelope, row Row) ([]DataKey, error) {
	if e.IsZero() {
		return nil, fmt.Errorf("kmskey: unwrap: %w: it holds no key", ErrCorrupt)
	}
	if e.unbound && !row.Unbound && !row.AdmitUnbound {
		return nil, fmt.Errorf("kmskey: unwrap: %w: the envelope is not bound to a row, and rows of this model must be", ErrCommitment)
	}
	row.Unbound = e.unbound
	keys := make([]DataKey, 0, len(e.keys))
	for _, s := range e.keys {
		dek, err := k.unwrap(ctx, s, row)
		if err != nil {
			for _, key := range keys {
				key.DEK.Destroy()
			}
			return nil, err
		}
		keys = append(keys, DataKey{s.id, dek})
	}
	return keys, nil
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

func (k *Keyring) unwrap(ctx context.Context, s sealedKey, row Row) (DEK, error) {
	if err := row.check(); err != nil {
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w", err)
	}
	v, ok := k.versions[int(s.version)]
	if !ok {
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w %d; the keyring has %s: list it until rotation has moved every row",
			ErrUnknownVersion, s.version, k.numbers())
	}
	ec, err := k.context(int(s.version), row)
	if err != nil {
		return DEK{}, err
	}
	dek, err := unwrapAny(ctx, v.provider, s.wraps, ec)
	if err != nil {
		return DEK{}, atVersion(int(s.version), err)
	}
	if dek.IsZero() {
		return DEK{}, fmt.Errorf("kmskey: unwrap: version %d: the provider broke its contract: no key and no error", s.version)
	}
	want := k.commit(DataKey{s.id, dek}, row)
	if subtle.ConstantTimeCompare(want[:], s.commitment[:]) != 1 {
		dek.Destroy()
		return DEK{}, fmt.Errorf("kmskey: unwrap: %w (its commitment names another row, model, key or namespace, or was altered)", ErrCommitment)
	}
	return dek, nil
}

// unwrapAny asks for the wraps in turn: they are alternatives, so the first that opens is the answer. This is not a trial of keys:
// each wrap names its own.
func unwrapAny(ctx context.Context, p Provider, wraps []Wrapped, ec Context) (DEK, error) {
	var failed error
	for _, w := range wraps {
		dek, err := p.Unwrap(ctx, w, ec)
		switch {
		case err == nil:
			return dek, nil
		case failed == nil:
			failed = err
		default:
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}
	return DEK{}, failed
}

// Rewrap moves every data key of an envelope to the current version, and from one row's binding to another's where they differ
// (a changed primary key or context). The data keys stay the same, so sealed fields stay valid. Where the service can do it
// ([Rewrapper]) and the binding is the same, no data key is seen. The result equals e, without a call, where all of it is current
// already. A bound envelope stays bound, whatever to.Unbound says; an unbound one becomes bound where to asks for it.
func (k *Keyring) Rewrap(ctx context.Context, e Envelope, from, to Row) (Envelope, error) {
	if e.IsZero() {
		return Envelope{}, fmt.Errorf("kmskey: rewrap: %w: it holds no key", ErrCorrupt)
	}
	if e.unbound && !from.Unbound && !from.AdmitUnbound {
		return Envelope{}, fmt.Errorf("kmskey: rewrap: %w: the envelope is not bound to a row, and rows of this model must be", ErrCommitment)
	}
	from.Unbound = e.unbound
	// Unbound is for what an INSERT could not know. Here the primary key is known, so nothing is loosened.
	to.Unbound = to.Unbound && e.unbound
	sameRow := from.Model == to.Model && from.Key == to.Key && slices.Equal(from.ID, to.ID) && from.Unbound == to.Unbound
	out := Envelope{to.Unbound, slices.Clone(e.keys)}
	for i, s := range e.keys {
		rewrapped, err := k.rewrap(ctx, s, from, to, sameRow)
		if err != nil {
			return Envelope{}, err
		}
		out.keys[i] = rewrapped
	}
	return out, nil
}

func (k *Keyring) rewrap(ctx context.Context, s sealedKey, from, to Row, sameRow bool) (sealedKey, error) {
	if sameRow {
		if done, ok, err := k.rewrapAtService(ctx, s, from, to); ok || err != nil {
			return done, err
		}
	}
	dek, err := k.unwrap(ctx, s, from)
	if err != nil {
		return sealedKey{}, err
	}
	defer dek.Destroy()
	return k.wrap(ctx, DataKey{s.id, dek}, to)
}

// rewrapAtService rewraps without seeing the data key; ok is false where that cannot be done. The commitment is kept, since it
// holds nothing that changes.
func (k *Keyring) rewrapAtService(ctx context.Context, s sealedKey, from, to Row) (done sealedKey, ok bool, err error) {
	source, known := k.versions[int(s.version)]
	if !known {
		return sealedKey{}, false, nil // unwrap says what is missing
	}
	oldContext, err := k.context(int(s.version), from)
	if err != nil {
		return sealedKey{}, false, err
	}
	newContext, err := k.context(k.current, to)
	if err != nil {
		return sealedKey{}, false, err
	}
	if int(s.version) == k.current && oldContext.Equal(newContext) {
		return s, true, nil
	}
	target, can := k.versions[k.current].provider.(Rewrapper)
	if !can || len(s.wraps) != 1 {
		return sealedKey{}, false, nil
	}
	w, err := target.Rewrap(ctx, source.provider, s.wraps[0], oldContext, newContext)
	if errors.Is(err, ErrNotRewrappable) {
		return sealedKey{}, false, nil
	}
	if err != nil {
		return sealedKey{}, false, atVersion(k.current, err)
	}
	if err := checkWrapped(w); err != nil {
		return sealedKey{}, false, fmt.Errorf("kmskey: rewrap: version %d: the provider broke its contract: %w", k.current, err)
	}
	return sealedKey{s.id, uint32(k.current), s.commitment, []Wrapped{w}}, true, nil
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

// commit derives the 32 bytes that tie a data key to its row: docs/format.md, section 5.
func (k *Keyring) commit(key DataKey, row Row) [commitmentSize]byte {
	info := canon.AppendText(make([]byte, 0, 256), "rowseal/commitment")
	info = canon.Append(info, canon.Uint(suiteAESGCM))
	info = canon.Append(info, canon.Uint(uint64(key.ID)))
	info = canon.AppendText(info, k.namespace)
	info = canon.AppendText(info, row.Model)
	info = canon.AppendText(info, row.Key)
	if !row.Unbound {
		for _, part := range row.ID {
			info = canon.Append(info, part)
		}
	}
	// Expand alone, without Extract: a data key is uniformly random (RFC 5869, section 3.3).
	out, err := hkdf.Expand(sha256.New, key.DEK.Bytes(), string(info), commitmentSize)
	if err != nil {
		panic("kmskey: internal error: HKDF of 32 bytes from a 32-byte key: " + err.Error())
	}
	return [commitmentSize]byte(out)
}
