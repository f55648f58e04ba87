// state.go owns what is known of one row's key in memory, and the rules that keep a row readable:
//
//   - Bound: a state serves only the row it was made or loaded for; Serves compares the primary key each time.
//   - Copied on scan: a row read again gets a new state. A copy of the struct may still hold the old one.
//   - Same value, same ciphertext: a field that did not change keeps the bytes that the database has.
//   - Never opened, never overwritten: a cell that was not opened stands for the bytes in the database, whatever the Go field
//     holds; a write of the Go field's zero value leaves it alone.

package row

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
)

// State is one key group of one row. Its methods are safe for concurrent use, so that copies of a struct may share it.
type State struct {
	group *Group
	epoch *Epoch // the statement that scanned it, until that has accounted for it; nil for a row made in memory
	maker *maker // who made it for an INSERT

	mu     sync.Mutex
	model  *Model         // who opened or made it; nil while only scanned
	row    binding        // what the envelope is bound to
	rowErr error          // why row is not known
	id     string         // canonical primary key; "" while the database has not assigned it
	text   string         // the key column
	dek    kmskey.DataKey // held only until it is wrapped
	ring   []ringKey      // opened data keys, oldest first; nil while closed
	cells  []cell
	others []byte // data keys that columns beyond the model name, where they were read: see Cells

	over chan struct{} // closed when a call that opens the key ends, where somebody waits

	// The flags lie together: there is a state for each row, and so 16 of them take exactly four kilobytes.
	opening bool // a call that opens the key is under way
	token   bool // text is the token of an insert in progress
	left    bool // read without opening: a NULL, too, is not in its Go field yet
	fresh   bool // epoch has not accounted for it yet: for that statement alone to ask, without mu
}

// ringKey is one data key of the row: opened, or with the reason why it cannot be.
type ringKey struct {
	id       byte
	resting  field.RestingKey
	expanded *field.Key // in a ring that many rows' states share; else nil, since most rows in memory use theirs no more
	err      error
}

// lastKey is the key that was used last, expanded: the fields of a row, one after the other, take it once. It is used by one goroutine.
type lastKey struct {
	of  field.RestingKey
	key *field.Key
}

// expand gives k ready for use. A nil r has it expanded for one use.
func (r *lastKey) expand(k ringKey) (*field.Key, error) {
	switch {
	case k.err != nil:
		return nil, k.err
	case k.expanded != nil:
		return k.expanded, nil
	case r != nil && r.key != nil && r.of == k.resting:
		return r.key, nil
	}
	key, err := k.resting.Expand()
	if r != nil {
		r.of, r.key = k.resting, key
	}
	return key, err
}

// cell is one sealed field of the row.
type cell struct {
	status status
	sealed []byte // as in section 6 of the format; nil for NULL
}

type status byte

const (
	absent status = iota // not selected, or never written: the database may hold anything
	null                 // NULL in the database, or to be
	locked               // ciphertext is here, and was not opened
	opened               // ciphertext is here, and the Go field had its value
)

func newState(g *Group) *State {
	s := stateFor(len(g.Fields))
	s.group = g
	return s
}

// stateFor makes a state with so many cells, in one allocation where they are few.
func stateFor(cells int) *State {
	const few = 4
	if cells > few {
		return &State{cells: make([]cell, cells)}
	}
	both := &struct {
		state State
		cells [few]cell
	}{}
	both.state.cells = both.cells[:cells:cells]
	return &both.state
}

// Text is the key column, "" for none.
func (s *State) Text() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// Token reports whether the key column holds the token of an insert in progress, and which.
func (s *State) Token() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text, s.token
}

// identity is the canonical primary key as far as s knows it.
func (s *State) identity() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Serves reports whether the state may be used for the row of m with this canonical primary key.
func (s *State) Serves(m *Model, id string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.model == m && s.text != "" && !s.token && s.id == id && id != ""
}

// Keyless reports a row of m with this primary key that was read and whose key column was NULL.
func (s *State) Keyless(m *Model, id string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.model == m && s.epoch != nil && s.text == "" && s.id == id && id != ""
}

// Unread reports that s was read from the database, and f was not: its Go value says nothing.
func (s *State) Unread(f *Field) bool { return s != nil && s.epoch != nil && !s.Settled(f) }

// Open reports whether the data key is at hand, so that sealing needs no call.
func (s *State) Open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring != nil
}

// Settled reports whether the bytes of f in the database are known and its Go value was opened; an unsettled field that holds
// the zero value must not be written.
func (s *State) Settled(f *Field) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cells[f.pos]
	return c.status == opened || c.status == null
}

// LeftNull reports that the database had NULL when the row was read without opening it: the Go field's zero value says no more than that.
func (s *State) LeftNull(f *Field) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left && s.cells[f.pos].status == null
}

// Clone is a copy that a statement may change: copies of the struct keep what they were read with.
func (s *State) Clone() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := stateFor(len(s.cells))
	copy(c.cells, s.cells)
	c.group, c.epoch, c.left, c.model, c.row, c.rowErr, c.id = s.group, s.epoch, s.left, s.model, s.row, s.rowErr, s.id
	c.text, c.token, c.dek, c.ring, c.others = s.text, s.token, s.dek, s.ring, s.others
	return c
}

// Locked reports whether the state holds ciphertext of f that was not opened.
func (s *State) Locked(f *Field) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cells[f.pos].status == locked
}

// WithEnvelope is a copy of s with the envelope of next, which wraps the same data keys.
func (s *State) WithEnvelope(next *State) *State {
	c := s.Clone()
	next.mu.Lock()
	defer next.mu.Unlock()
	c.text, c.row, c.rowErr = next.text, next.row, nil
	return c
}

// seal encrypts plain for f under the row's newest data key and remembers the ciphertext. An unchanged value gives the same
// bytes as before. null reports NULL.
func (s *State) seal(f *Field, plain reflect.Value, by *Sealer) (sealed []byte, isNull bool, err error) {
	buf := buffers.Get().(*[]byte)
	defer giveBack(buf)
	plaintext, isNull, err := f.Codec.Append((*buf)[:0], plain)
	if err != nil {
		return nil, false, fmt.Errorf("rowseal: seal %s: %w", f.Place(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.cells[f.pos]
	if isNull {
		*c = cell{status: null}
		return nil, true, nil
	}
	*buf = plaintext
	if s.ring == nil {
		cause := ErrNoKey
		if isTombstone(s.text) {
			cause = ErrShredded
		}
		return nil, false, fmt.Errorf("rowseal: seal %s: %w", f.Place(), cause)
	}
	key, err := by.key.expand(s.ring[len(s.ring)-1])
	if err != nil {
		return nil, false, fmt.Errorf("rowseal: seal %s: %w", f.Place(), err)
	}
	if c.sealed != nil && s.holds(f, key, c.sealed, plaintext) {
		c.status = opened
		return c.sealed, false, nil
	}
	sealed = key.Seal(by.room.room(len(plaintext)+field.Overhead-1), s.model.place(f), plaintext)
	*c = cell{opened, sealed}
	return sealed, false, nil
}

// holds reports whether ciphertext is plaintext already, under the key that would seal it. It is a decryption of some hundred
// nanoseconds, where remembering every plaintext would double the memory that holds secrets.
func (s *State) holds(f *Field, newest *field.Key, sealed, plaintext []byte) bool {
	if id, err := field.KeyID(sealed); err != nil || id != newest.ID() {
		return false
	}
	old, err := newest.Open(plaintext[len(plaintext):], s.model.place(f), sealed) // in the same buffer, where it has room
	defer clear(old)
	return err == nil && bytes.Equal(old, plaintext)
}

// reveal opens one cell into the Go field of v. The state must be open.
func (s *State) reveal(f *Field, target reflect.Value, r *lastKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.cells[f.pos]
	if c.status == null {
		return f.Codec.SetNull(target)
	}
	buf := buffers.Get().(*[]byte)
	defer giveBack(buf)
	plaintext, err := s.open((*buf)[:0], f, c.sealed, r)
	if err != nil {
		return err
	}
	*buf = plaintext
	if err := f.Codec.Set(target, plaintext); err != nil { // it copies what it keeps
		return err
	}
	c.status = opened
	return nil
}

// open decrypts with the one key of the ring that the ciphertext names, and appends to dst.
func (s *State) open(dst []byte, f *Field, sealed []byte, r *lastKey) ([]byte, error) {
	place := s.model.place(f)
	id, err := field.KeyID(sealed)
	if err != nil {
		return nil, fmt.Errorf("field: open %s: %w", place, err)
	}
	for _, k := range s.ring {
		if k.id != id {
			continue
		}
		key, err := r.expand(k)
		if err != nil {
			return nil, fmt.Errorf("field: open %s: data key %d of the row: %w", place, id, err)
		}
		return key.Open(dst, place, sealed)
	}
	return nil, fmt.Errorf("field: open %s: %w", place, field.ErrOtherKey)
}

// buffers hold plaintext for as long as it is sealed or opened.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

// giveBack clears a buffer. A large one is left to the collector.
func giveBack(buf *[]byte) {
	clear((*buf)[:cap(*buf)])
	if cap(*buf) <= 16<<10 {
		buffers.Put(buf)
	}
}

// unwrap reads the envelope and makes the field keys ready: one call to the key service, however many ask, unless the state is open already.
// Who waits for the call of another does so no longer than ctx.
func (s *State) unwrap(ctx context.Context, m *Model) error {
	if m.writeOnly {
		return ErrWriteOnly // also where a key is at hand: it may be one that was added, and opens no other field
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.ring == nil && s.opening {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	if s.ring != nil {
		return nil
	}
	text := s.text
	ring, err := s.call(ctx, m)
	if err == nil && s.text != text {
		err = ErrStaleKey // another copy of the struct has moved on
	}
	if err == nil {
		s.ring = ring
	}
	return err
}

// wait gives mu away until the call that is under way has ended.
func (s *State) wait(ctx context.Context) error {
	if s.over == nil {
		s.over = make(chan struct{})
	}
	over := s.over
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call gives mu away for the call to the key service.
func (s *State) call(ctx context.Context, m *Model) ([]ringKey, error) {
	text, binding := s.text, s.row
	s.opening = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.opening = false
		if s.over != nil {
			close(s.over)
			s.over = nil
		}
	}()
	if text == "" {
		return nil, fmt.Errorf("%w: the key column %q is NULL or was not selected", ErrNoKey, s.group.Column.DBName)
	}
	if m.cache != nil {
		return m.cache.open(ctx, m, binding, text)
	}
	return m.open(ctx, binding, text)
}

func fieldKeys(keys []kmskey.DataKey) (ring []ringKey, err error) {
	ring = make([]ringKey, 0, len(keys))
	for _, k := range keys {
		if k.Err != nil {
			ring = append(ring, ringKey{id: k.ID, err: k.Err})
			continue
		}
		resting, failed := field.RestingKeyFrom(k.DEK.Derive, k.ID)
		err = errors.Join(err, failed)
		ring = append(ring, ringKey{id: k.ID, resting: resting})
		k.DEK.Destroy()
	}
	return ring, err
}

// draw gives a new row its data key, where it has none.
func (s *State) draw() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring != nil {
		return nil
	}
	dek := kmskey.NewDataKey()
	resting, err := field.RestingKeyFrom(dek.DEK.Derive, dek.ID)
	if err != nil {
		return err
	}
	s.dek, s.ring = dek, []ringKey{{id: dek.ID, resting: resting}}
	return nil
}

// wrap puts a new row's data key into its envelope: one call to the key service. The key is drawn here, where rows do not wait for each other, unless it was before.
func (s *State) wrap(ctx context.Context) error {
	if err := s.draw(); err != nil {
		return err
	}
	s.mu.Lock()
	m, dek, binding, row := s.model, s.dek, s.row, s.row.row()
	s.mu.Unlock()
	if err := binding.returns(); err != nil {
		return err
	}
	env, err := m.Keys.Wrap(ctx, dek, row)
	if err != nil {
		return err
	}
	dek.DEK.Destroy()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.token, s.dek = env.String(), false, kmskey.DataKey{}
	return nil
}
