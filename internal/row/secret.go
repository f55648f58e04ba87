// secret.go owns Secret: a sealed field that stays sealed in memory until it is asked for.

package row

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"

	"encoding/json"
)

// Secret is a sealed field that is opened only by [Secret.Get]. Reading a row makes no call to the key service for it. It prints
// as "***" in every verb, marshals to null, and refuses to become a query argument, so that no log, argument list or API can
// carry its value by accident.
//
// It needs no tag. Set it with [NewSecret]; a Secret assigned from another row is sealed anew for the row it is saved in, which
// needs that it was opened before. Copies share the value. A Secret is safe for concurrent use.
//
// The zero Secret is not set: in a new row it is stored as NULL, in a loaded row it means that the column was not selected.
type Secret[T any] struct {
	// The tag reaches every field of this type: GORM takes the settings of a Valuer's own fields for those of the outer field.
	// Two pointers, because fmt under a wrong verb such as %s follows the first one that it meets in an unexported field, and prints
	// what lies there.
	box any `gorm:"serializer:rowseal"` // nil or **box
}

// box is what copies of a Secret share.
type box struct {
	mu     sync.Mutex
	opened bool
	null   bool
	value  any // a T, once opened

	state *State // where the sealed value lies; nil for one made by NewSecret
	field *Field
}

// NewSecret is a Secret that holds v.
func NewSecret[T any](v T) Secret[T] { return Secret[T]{hold(&box{opened: true, value: v})} }

func hold(b *box) any { return &b }

// Get gives the value: at most one call to the key service for all the Secrets of a row. NULL gives the zero value. It fails with
// [ErrNotLoaded] on the zero Secret, and otherwise as reading the row would.
func (s Secret[T]) Get(ctx context.Context) (T, error) {
	var zero T
	b := s.boxed()
	if b == nil {
		return zero, fmt.Errorf("rowseal: get secret: %w: it was never set, or its column was not selected", ErrNotLoaded)
	}
	v, err := b.get(ctx, nil)
	if err != nil || v == nil {
		return zero, err
	}
	return v.(T), nil
}

func (b *box) get(ctx context.Context, r *lastKey) (any, error) {
	b.mu.Lock()
	known := b.opened || b.null
	b.mu.Unlock()
	if !known {
		// Not under the lock: another Get may have less time.
		if err := b.state.ready(ctx); err != nil {
			return nil, fmt.Errorf("rowseal: get %s: %w", b.field.Place(), err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened || b.null {
		return b.value, nil
	}
	target := reflect.New(secretType(b.field.Column.FieldType)).Elem()
	if err := b.state.reveal(b.field, target, r); err != nil {
		return nil, fmt.Errorf("rowseal: get %s: %w", b.field.Place(), err)
	}
	b.opened, b.value = true, target.Interface()
	return b.value, nil
}

// ready unwraps the key of a row that was read without opening it.
func (s *State) ready(ctx context.Context) error {
	s.mu.Lock()
	m, err := s.model, s.rowErr
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if m == nil {
		return ErrNotLoaded
	}
	return s.unwrap(ctx, m)
}

const redacted = "***"

// Format prints "***" for every verb.
func (s Secret[T]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String is "***".
func (s Secret[T]) String() string { return redacted }

// GoString is "***".
func (s Secret[T]) GoString() string { return redacted }

// LogValue logs "***".
func (s Secret[T]) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes null.
func (s Secret[T]) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// MarshalText writes "***".
func (s Secret[T]) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalJSON sets the value. It refuses null and "***", which are what a Secret itself looks like in JSON and in print: a client
// that sends back what it was shown must not overwrite the value with it.
func (s *Secret[T]) UnmarshalJSON(b []byte) error {
	var text string
	if string(bytes.TrimSpace(b)) == "null" || (json.Unmarshal(b, &text) == nil && text == redacted) {
		return errors.New("rowseal: secret from JSON: null and \"***\" stand for a value that was not shown; leave the field out to keep it")
	}
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("rowseal: secret from JSON: %w: not a %T (the value is left out)", ErrType, v)
	}
	*s = NewSecret(v)
	return nil
}

// UnmarshalText refuses: text may be what [Secret.MarshalText] wrote.
func (s *Secret[T]) UnmarshalText([]byte) error {
	return errors.New("rowseal: secret from text: refused; use NewSecret")
}

// Value refuses: a Secret goes to the database through its model.
func (s Secret[T]) Value() (driver.Value, error) {
	return nil, fmt.Errorf("rowseal: secret as a query argument: %w", ErrPlaintext)
}

// Scan takes a Secret of the same type, as rows of a model give it, and refuses anything else.
func (s *Secret[T]) Scan(src any) error {
	switch src := src.(type) {
	case Secret[T]:
		*s = src
		return nil
	case nil:
		*s = Secret[T]{hold(&box{null: true})}
		return nil
	}
	return fmt.Errorf("rowseal: scan into a secret: %w; load the row through its model", ErrUnsupported)
}

// secret is what this package sees of every Secret[T].
type secret interface {
	boxed() *box
	attach(*box)
	valueType() reflect.Type
	accept(v any) (ok bool)
}

func (s *Secret[T]) boxed() *box {
	if b, ok := s.box.(**box); ok {
		return *b
	}
	return nil
}
func (s *Secret[T]) attach(b *box)         { s.box = hold(b) }
func (*Secret[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

// accept takes what applications put into maps: a T, a Secret of it, or nil.
func (s *Secret[T]) accept(v any) bool {
	switch v := v.(type) {
	case nil:
		s.box = hold(&box{null: true})
	case Secret[T]:
		*s = v
	case *Secret[T]:
		*s = *v
	case T:
		*s = NewSecret(v)
	default:
		return false
	}
	return true
}

var secretInterface = reflect.TypeFor[secret]()

func isSecret(t reflect.Type) bool { return reflect.PointerTo(t).Implements(secretInterface) }

func secretType(t reflect.Type) reflect.Type {
	return reflect.New(t).Interface().(secret).valueType()
}

func setSecret(target reflect.Value, value any, f *Field) error {
	if !target.Addr().Interface().(secret).accept(value) {
		return fmt.Errorf("rowseal: set %s: %w: a %T does not fit a %s (the value is left out)", f.Place(), ErrType, value, f.Column.FieldType)
	}
	return nil
}

// boxOf finds the box in a Secret that travels as any.
func boxOf(plain any) *box {
	v := reflect.ValueOf(plain)
	if !v.IsValid() {
		return nil
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	s, ok := p.Interface().(secret)
	if !ok {
		return nil
	}
	return s.boxed()
}

// Untouched reports whether a Secret is still the sealed value that its own row was read with, so that writing it would change
// nothing.
func (v *Value) Untouched(s *State) bool {
	b := boxOf(v.plain)
	if b == nil || s == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.null && s.isNull(v.field) {
		return true
	}
	return !b.opened && !b.null && b.field == v.field && (b.state == s || sameRow(b.state, s, v.field))
}

// sameRow reports that both states hold the same ciphertext of the same row. Their envelopes may differ: a rotation leaves the fields alone.
func sameRow(a, b *State, f *Field) bool {
	ai, am, ac := a.known(f)
	bi, bm, bc := b.known(f)
	return ai != "" && ai == bi && am == bm && ac != nil && bytes.Equal(ac, bc)
}

func (s *State) isNull(f *Field) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cells[f.pos].status == null
}

func (s *State) known(f *Field) (id string, m *Model, sealed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id, s.model, s.cells[f.pos].sealed
}

// sealSecret seals a Secret for s. One that belongs to another row, or to another field, is opened there first, without a call.
func (s *State) sealSecret(f *Field, plain any, by *Sealer) ([]byte, bool, error) {
	b := boxOf(plain)
	typ := secretType(f.Column.FieldType)
	if b == nil {
		return s.sealNull(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.null {
		return s.sealNull(f)
	}
	value := reflect.New(typ).Elem()
	switch {
	case b.opened:
		if b.value != nil {
			value.Set(reflect.ValueOf(b.value))
		}
	case b.state.Open():
		if err := b.state.reveal(b.field, value, nil); err != nil {
			return nil, false, fmt.Errorf("rowseal: seal %s: %w", f.Place(), err)
		}
	default:
		return nil, false, fmt.Errorf("rowseal: seal %s: %w: the secret comes from another row or field and is still sealed there; call Get on it first", f.Place(), ErrNotLoaded)
	}
	return s.seal(f, value, by)
}

func (s *State) sealNull(f *Field) ([]byte, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells[f.pos] = cell{status: null}
	return nil, true, nil
}
