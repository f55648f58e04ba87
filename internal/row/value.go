// value.go owns what GORM is given for a sealed field, and what rows are scanned into.

package row

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"

	"github.com/rowseal/rowseal/kmskey"
)

// Value is what GORM gets for a sealed field. Until the gate calls [Value.Seal], its only use in a query is an error: a value
// that reaches the database by a way we did not foresee cannot be plaintext.
type Value struct {
	field *Field
	state *State // of the struct that it was read from; may be nil
	plain any

	done   bool
	null   bool
	result driver.Value
}

// NewValue is a value that did not come from a struct of the model, to be sealed under s.
func NewValue(f *Field, s *State, plain any) *Value { return &Value{field: f, state: s, plain: plain} }

// Under is the value to be sealed under s: v itself where nothing was to become of it yet.
func (v *Value) Under(s *State) *Value {
	if v.state == nil && !v.done && v != v.field.none {
		v.state = s
		return v
	}
	return NewValue(v.field, s, v.plain)
}

// NullValue is NULL for a sealed column. It needs no key.
func NullValue(f *Field) *Value { return &Value{field: f, done: true, null: true} }

// Null reports whether the value is NULL whatever it is sealed under.
func (v *Value) Null() bool { return v.null }

// Field is the field that the value is for.
func (v *Value) Field() *Field { return v.field }

// State is the state that the value would be sealed under; nil for none.
func (v *Value) State() *State { return v.state }

// Plain is the Go value.
func (v *Value) Plain() any { return v.plain }

// Seal encrypts the value under its state. Calling it again changes nothing, so that the statement's text, the driver and the
// logger see the same bytes.
func (v *Value) Seal() error { return new(Sealer).Seal(v) }

// Sealer seals the values of one statement. Of the fields of a row, one after the other, the first has its key expanded. It is used by one goroutine.
type Sealer struct {
	room *memory // for ciphertext; nil has each lie by itself
	key  lastKey
}

// Seal is [Value.Seal].
func (by *Sealer) Seal(v *Value) error {
	if v.done {
		return nil
	}
	if v.state == nil {
		return fmt.Errorf("rowseal: seal %s: %w", v.field.Place(), ErrNoKey)
	}
	sealed, isNull, err := v.state.sealAny(v.field, v.plain, by)
	if err != nil {
		return err
	}
	// plain stays until the statement ends: a retry under another key seals it again.
	switch {
	case isNull:
		v.result = nil
	case v.field.Text:
		v.result = string(appendText(sealed))
	default:
		v.result = sealed
	}
	v.done = true
	return nil
}

// sealAny seals a Go value, which may be a Secret of this or of another row.
func (s *State) sealAny(f *Field, plain any, by *Sealer) ([]byte, bool, error) {
	if f.Secret {
		return s.sealSecret(f, plain, by)
	}
	v := reflect.ValueOf(plain)
	if !v.IsValid() {
		v = reflect.Zero(f.Column.FieldType)
	}
	return s.seal(f, v, by)
}

// errUnsealed is what drivers get for a value the gate did not seal.
var errUnsealed = errors.New("rowseal: " + ErrPlaintext.Error())

// Value is the ciphertext. Before Seal it is an error, beside a fingerprint: GORM's Statement.Changed compares values this way and drops
// errors.
func (v *Value) Value() (driver.Value, error) {
	if !v.done {
		return v.fingerprint(), fmt.Errorf("%w: %s; is %w? call db.Use(plugin) first", errUnsealed, v.field.Place(), ErrNoPlugin)
	}
	return v.result, nil
}

// fingerprint is equal for equal values of a field within this process, and tells nothing else: it is keyed by a secret that is drawn
// anew each time the program starts.
func (v *Value) fingerprint() string {
	plain := reflect.ValueOf(v.plain)
	if v.field.Secret {
		b := boxOf(v.plain)
		if b == nil {
			return "(sealed nothing)"
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.opened {
			return fmt.Sprintf("(sealed %p)", b)
		}
		plain = reflect.ValueOf(b.value)
	}
	if !plain.IsValid() {
		return "(sealed nothing)"
	}
	plaintext, _, err := v.field.Codec.Append(nil, plain)
	defer clear(plaintext)
	if err != nil {
		return "(sealed " + rand.Text() + ")"
	}
	mac := hmac.New(sha256.New, processKey())
	mac.Write(plaintext)
	return "(sealed " + hex.EncodeToString(mac.Sum(nil)[:16]) + ")"
}

// processKey is drawn when it is first needed.
var processKey = sync.OnceValue(func() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
})

// Format prints the field's name for every verb, never its value.
func (v *Value) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, v.String()) }

// String is the field's name.
func (v *Value) String() string { return "rowseal.Value(" + v.field.Place() + ")" }

// GoString is the field's name.
func (v *Value) GoString() string { return v.String() }

// Poison is a bind value whose conversion always fails. It stands in a refused statement in place of what was refused, so that
// the statement can never run, not even shortened: a sub-query's error does not reach its parent, and a condition that merely
// vanished would make DELETE … WHERE id IN (SELECT …) delete everything.
type Poison struct{ Err error }

// Value fails.
func (p Poison) Value() (driver.Value, error) { return nil, p.Err }

// String is what a log shows.
func (Poison) String() string { return "(refused)" }

// The scan targets. GORM hands rows.Scan a pointer from a pool and then the same pointer to Field.Set. A pointer to a nil pointer
// is how GORM recognises the missing side of a LEFT JOIN, so NULL must stay nil.

// scanned is what a driver has for a column, lent until the next row is scanned: Field.Set comes before that, and copies.
type scanned struct{ src any }

// Scan takes it as it is.
func (c *scanned) Scan(src any) error {
	c.src = src
	return nil
}

// orNil is c, or nil for NULL.
func (c *scanned) orNil() *scanned {
	if c.src == nil {
		return nil
	}
	return c
}

// copied is the same, kept.
type copied struct{ scanned }

// Scan takes what the driver has, by copy.
func (c *copied) Scan(src any) error {
	if b, ok := src.([]byte); ok {
		src = bytes.Clone(b)
	}
	c.src = src
	return nil
}

// scan is the same without the difference; nil for NULL.
func (c *copied) scan() *scanned {
	if c == nil {
		return nil
	}
	return &c.scanned
}

// text is what a key column holds.
func (c *scanned) text() string {
	switch src := c.src.(type) {
	case []byte:
		return string(src)
	case string:
		return src
	default:
		return "not text"
	}
}

// targets is a pool of scan targets for GORM. They come back empty: a row that cannot be scanned must not get what was in another one.
type targets[T any] struct{ pool *sync.Pool }

func newTargets[T any]() targets[T] { return targets[T]{&sync.Pool{New: func() any { return new(T) }}} }

func (t targets[T]) Get() any { return t.pool.Get() }
func (t targets[T]) Put(used any) {
	if p, ok := used.(*T); ok {
		*p = *new(T)
		t.pool.Put(p)
	}
}

var (
	sealedTargets = newTargets[*scanned]()
	ownTargets    = newTargets[scanned]()
)

// Epoch marks one statement that reads rows: states that it scans are its own, and it must open or account for each. It is the statement's context while
// GORM runs it, and not a moment longer: a statement that a hook of the application starts would take the mark for its own.
type Epoch struct {
	context.Context // the statement's own, without the mark

	// Returning says that the statement gives back part of rows that are in memory, so that states begin as copies.
	Returning bool

	over     bool // its states were accounted for
	awaiting int  // states that were not
	memory   memory
	jobs     []job  // what was claimed, and may have something to open
	room     [1]job // for them: most statements read one row
}

// memory is where an epoch's rows lie, several in one allocation. A row that is kept keeps what is known of its neighbours with it, ciphertext and keys, so
// they are few: slabRows rows, slabBytes bytes.
type memory struct {
	states []State
	cells  []cell
	bytes  []byte
	ids    strings.Builder
	rows   int // of the last allocation
}

const (
	slabRows  = 16
	slabBytes = 4 << 10
)

// state is [newState]. Each allocation is for twice as many rows as the last, since most statements read one.
func (m *memory) state(g *Group) *State {
	n := len(g.Fields)
	if m.rows == 0 {
		m.rows = 1
		return newState(g)
	}
	if len(m.states) == 0 {
		m.rows = min(2*m.rows, slabRows)
		m.states = make([]State, m.rows)
	}
	if len(m.cells) < n {
		m.cells = make([]cell, n*m.rows)
	}
	s := &m.states[0]
	s.group, s.cells = g, m.cells[:n:n]
	m.states, m.cells = m.states[1:], m.cells[n:]
	return s
}

// identity is [Model.Identity], "" for none.
func (m *memory) identity(model *Model, v reflect.Value) string {
	var room [64]byte
	id, ok := model.appendID(room[:0], v)
	if !ok {
		return ""
	}
	if m.ids.Cap()-m.ids.Len() < len(id) {
		rows := min(max(m.rows, 1), slabRows)
		m.ids = strings.Builder{} // one that grew would copy what others hold
		m.ids.Grow(rows * len(id))
	}
	from := m.ids.Len()
	m.ids.Write(id)
	return m.ids.String()[from:]
}

// copy keeps what a driver lent.
func (m *memory) copy(b []byte) []byte { return append(m.room(len(b)), b...) }

// room is for n bytes of ciphertext, and nobody else's.
func (m *memory) room(n int) []byte {
	if m == nil || n > slabBytes/4 {
		return make([]byte, 0, n)
	}
	from := len(m.bytes)
	if cap(m.bytes)-from < n {
		m.bytes, from = make([]byte, 0, min(max(2*cap(m.bytes), 256, n), slabBytes)), 0
	}
	m.bytes = m.bytes[:from+n]
	return m.bytes[from:from:len(m.bytes)]
}

type epochKey struct{}

// Value gives the mark to what scans rows.
func (e *Epoch) Value(key any) any {
	if key == (epochKey{}) {
		return e
	}
	return e.Context.Value(key)
}

// Format prints a name for every verb: a context may be printed by anybody, and this one knows rows.
func (e *Epoch) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, e.String()) }

// String is the name.
func (e *Epoch) String() string { return "rowseal.Epoch" }

// accounted takes the place of an epoch in the states that it accounted for: a row that stays in memory holds no statement and no context.
var accounted = &Epoch{}

// reading reports that a statement opens what it scans.
func reading(ctx context.Context) bool { _, ok := ctx.Value(epochKey{}).(*Epoch); return ok }

// Awaits reports states that the statement scanned and that were not accounted for.
func (e *Epoch) Awaits() bool { return e.awaiting > 0 }

// Scanned reports a state that the epoch's statement scanned a row into, and that nobody else has yet.
func (e *Epoch) Scanned(s *State) bool { return s != nil && s.epoch == e && s.fresh && !e.over }

// Forget drops ciphertext of f that was never opened from the row in v: the database has something else. Copies of the struct keep it.
func (e *Epoch) Forget(f *Field, v reflect.Value) {
	s := f.Group.State(v)
	if s == nil || !s.Locked(f) {
		return
	}
	if !e.Scanned(s) {
		s = s.Clone()
		f.Group.SetState(v, s)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells[f.pos] = cell{}
}

// touch gives the state that the statement scans into, in the key field of the row in v.
func (g *Group) touch(ctx context.Context, v reflect.Value) (*State, error) {
	e, ok := ctx.Value(epochKey{}).(*Epoch)
	if !ok {
		return nil, fmt.Errorf("rowseal: read %s: %w: it comes as ciphertext, from rows that the plugin did not see, or a type that it does not open there; use Find, First, Take or FindInBatches, or db.Raw(…).Find",
			g.Plan.Schema.Name, ErrUnsupported)
	}
	key, ok := follow(v, g.path)
	if !ok {
		key = g.Column.ReflectValueOf(ctx, v) // which makes what is embedded by pointer
	}
	s := key.Interface().(Key).state
	if s != nil && s.epoch == e {
		return s, nil
	}
	if s != nil && e.Returning {
		s = s.Clone()
	} else {
		s = e.memory.state(g)
	}
	s.epoch, s.fresh = e, true
	e.awaiting++
	key.Set(reflect.ValueOf(Key{s}))
	return s, nil
}

func (g *Group) scanKey(ctx context.Context, v reflect.Value, c *scanned) error {
	var t string
	if c == nil {
		if _, ok := follow(v, g.path); !ok || !reading(ctx) {
			return nil // NULL: nothing to say of an embedded struct that is not there; else the fields say what was read
		}
	} else {
		if h, ok := c.src.(*keyHandle); ok { // of a row that was opened already
			*g.Column.ReflectValueOf(ctx, v).Addr().Interface().(*Key) = Key{h.state}
			return nil
		}
		t = c.text()
	}
	s, err := g.touch(ctx, v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t != s.text {
		// Another key: what was known under the old one does not count any more, except what this statement brings.
		s.text, s.token, s.ring, s.dek = t, false, nil, kmskey.DataKey{}
	}
	return nil
}

func (f *Field) scanCell(ctx context.Context, v reflect.Value, c *scanned) error {
	if c == nil {
		if _, ok := follow(v, f.path); !ok {
			return nil
		}
	}
	switch {
	case c != nil && isOpened(c.src):
		return f.take(ctx, v, c.src)
	case c == nil && !reading(ctx):
		return f.take(ctx, v, nil)
	}
	s, err := f.Group.touch(ctx, v)
	if err != nil {
		return err
	}
	// The Go field is emptied, so that a value of an earlier load cannot stand for what was read now and does not open.
	f.Column.ReflectValueOf(ctx, v).SetZero()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cells[f.pos] = f.cell(c, s.epoch.memory.copy)
	return nil
}

// cell keeps what the column holds. What is not ours is kept as it is, for the error when it is opened.
func (f *Field) cell(c *scanned, keep func([]byte) []byte) cell {
	if c == nil {
		return cell{status: null}
	}
	var text string
	switch src := c.src.(type) {
	case []byte:
		if !f.Text {
			return cell{locked, keep(src)}
		}
		text = string(src)
	case string:
		text = src
	}
	sealed, err := parseText(text)
	if err != nil {
		return cell{locked, []byte{0}} // opens as ErrPlaintext
	}
	return cell{locked, sealed}
}
