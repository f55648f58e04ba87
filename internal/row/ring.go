// ring.go owns rows that hold several data keys: the one that a writer adds who may not open the others, and how one is made of them again.

package row

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
)

// Cells are the sealed columns of one group, as the plugin reads them for itself, and which data keys are named in columns that the model does
// not have: another program's model of the same table may seal more columns under the same keys.
type Cells struct {
	group  *Group
	raw    []*copied // by field; nil for NULL
	others []byte
}

// NewCells makes room for one row.
func NewCells(g *Group) *Cells { return &Cells{group: g, raw: make([]*copied, len(g.Fields))} }

// Columns names what [Cells.Targets] scans.
func (c *Cells) Columns() (names []string) {
	for _, f := range c.group.Fields {
		names = append(names, f.Column.DBName)
	}
	return names
}

// Targets are scan targets, one for each column.
func (c *Cells) Targets() (targets []any) {
	for i := range c.raw {
		targets = append(targets, &c.raw[i]) // a pointer to a pointer, for NULL
	}
	return targets
}

// Other gives a scan target for a column that is not among Columns. What the model knows is passed over.
func (c *Cells) Other(name string) any {
	p := c.group.Plan
	if p.Lookup(name) != nil || p.LookupKey(name) != nil || p.Schema.FieldsByDBName[name] != nil {
		return new(sql.RawBytes)
	}
	return (*otherCell)(c)
}

type otherCell Cells

// Scan notes the data key that a value names, where it may be a sealed one. A value that only looks like one keeps a key that could go.
func (c *otherCell) Scan(src any) error {
	var raw []byte
	switch src := src.(type) {
	case []byte:
		raw = src
	case string:
		raw = []byte(src)
	}
	if sealed, err := field.ParseText(string(raw)); err == nil {
		raw = sealed
	}
	if id, err := field.KeyID(raw); err == nil {
		c.others = append(c.others, id)
	}
	return nil
}

// State is the row in v with these columns and the key column text, not opened.
func (c *Cells) State(m *Model, v reflect.Value, text string) (*State, error) {
	s, err := m.Closed(c.group, v, text)
	if err != nil {
		return nil, err
	}
	for _, f := range c.group.Fields {
		s.cells[f.pos] = f.cell(c.raw[f.pos].scan(), func(b []byte) []byte { return b })
	}
	s.others = c.others
	return s, nil
}

// Keys is the number of data keys in the envelope; 0 where there is none.
func (s *State) Keys() int {
	env, err := kmskey.ParseEnvelope(s.Text())
	if err != nil {
		return 0
	}
	return env.Keys()
}

// Pruned is s without the data keys that none of its fields is sealed under, those that written names left aside: they are about to get new
// ciphertext. It is s itself where nothing can go, and where some field was not read or is no ciphertext, so that nobody knows what it needs.
func (s *State) Pruned(written func(*Field) bool) (*State, error) {
	s.mu.Lock()
	text := s.text
	used := slices.Clone(s.others)
	for _, f := range s.group.Fields {
		c := s.cells[f.pos]
		if written(f) || c.status == null {
			continue
		}
		id, err := field.KeyID(c.sealed)
		if c.status == absent || err != nil {
			s.mu.Unlock()
			return s, nil
		}
		used = append(used, id)
	}
	s.mu.Unlock()
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	pruned := env.Prune(used...)
	if pruned.Keys() == env.Keys() {
		return s, nil
	}
	c := s.Clone()
	c.text = pruned.String()
	return c, nil
}

// Appended is the row in v with one data key more, which alone is at hand and seals from now on: one call, and nothing is opened. The data keys
// that no field needs any more go: see [State.Pruned].
func (m *Model) Appended(ctx context.Context, s *State, v reflect.Value, written func(*Field) bool) (*State, error) {
	fail := func(err error) (*State, error) {
		return nil, fmt.Errorf("rowseal: add a key to %s: %w", m.Describe(v), err)
	}
	s, err := s.Pruned(written)
	if err != nil {
		return fail(err)
	}
	c := s.Clone()
	env, err := kmskey.ParseEnvelope(c.text)
	if err != nil {
		return fail(err)
	}
	next, key, err := m.Keys.Append(ctx, env, c.row.row())
	if err != nil {
		return fail(err)
	}
	c.text = next.String()
	c.ring, err = fieldKeys([]kmskey.DataKey{key})
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// spent is the number of a newest data key from which a merge begins to count anew, long before the numbers end: that takes a key of its own.
const spent = 128

// Spent reports that the row's data keys should be numbered anew.
func (s *State) Spent() bool {
	env, err := kmskey.ParseEnvelope(s.Text())
	return err == nil && env.Current() >= spent
}

// Merged is the row in v under one data key, and the fields that were sealed anew for it: the newest of those that it has, or a fresh one where
// their numbers come to an end. The others go, but for those that columns beyond this model name. All data keys are unwrapped, one call for each. s
// must hold every field as the database has it. ok is false where a field does not open: nothing can be merged then.
func (m *Model) Merged(ctx context.Context, s *State, v reflect.Value) (merged *State, moved []*Field, ok bool, err error) {
	fail := func(err error) (*State, []*Field, bool, error) {
		return nil, nil, false, fmt.Errorf("rowseal: merge the keys of %s: %w", m.Describe(v), err)
	}
	if err := s.unwrap(ctx, m); err != nil {
		return fail(err)
	}
	c := s.Clone()
	env, err := kmskey.ParseEnvelope(c.text)
	if err != nil {
		return fail(err)
	}
	newest := c.ring[len(c.ring)-1]
	if env = env.Prune(c.others...); s.Spent() && len(c.others) == 0 {
		key := kmskey.NewDataKey()
		if env, err = m.Keys.Wrap(ctx, key, c.row.row()); err != nil {
			return fail(err)
		}
		ring, err := fieldKeys([]kmskey.DataKey{key})
		if err != nil {
			return fail(err)
		}
		newest = ring[0]
	}
	if newest.err != nil {
		return nil, nil, false, nil
	}
	fresh := newest.resting != c.ring[len(c.ring)-1].resting
	var opens, seals lastKey // which are one key or two
	for _, f := range c.group.Fields {
		cell := &c.cells[f.pos]
		if cell.status == null {
			continue
		}
		plaintext, err := c.open(nil, f, cell.sealed, &opens)
		if err != nil {
			return nil, nil, false, nil
		}
		if id, _ := field.KeyID(cell.sealed); id != newest.id || fresh {
			key, err := seals.expand(newest)
			if err != nil {
				clear(plaintext)
				return fail(err)
			}
			cell.sealed = key.Seal(make([]byte, 0, len(cell.sealed)), m.place(f), plaintext)
			moved = append(moved, f)
		}
		clear(plaintext)
	}
	c.text, c.ring = env.String(), []ringKey{newest}
	return c, moved, true, nil
}

// Stored is what the column of f holds: nil for NULL.
func (s *State) Stored(f *Field) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cells[f.pos]
	switch {
	case c.status == null || c.status == absent:
		return nil
	case f.Text:
		return string(appendText(c.sealed))
	}
	return c.sealed
}

// Bare is s without what is known of its fields.
func (s *State) Bare() *State {
	c := s.Clone()
	clear(c.cells)
	return c
}

// Bound is s with what the envelope is bound to taken from of, which has the same one. The row of a loaded struct knows it, where the model computes it.
func (s *State) Bound(of *State) *State {
	c, of := s.Clone(), of.Clone()
	c.row, c.rowErr = of.row, of.rowErr
	return c
}

// Merging is s, what a struct holds of a row, after the database had was and now has merged. What the struct's Go fields stand for stays so.
func (s *State) Merging(was, merged *State) *State {
	c, was, merged := s.Clone(), was.Clone(), merged.Clone()
	c.text, c.row, c.rowErr = merged.text, merged.row, nil
	if merged.ring != nil {
		c.ring = merged.ring
	}
	for i := range c.cells {
		switch cell := &c.cells[i]; {
		case cell.status == locked:
			cell.sealed, cell.status = merged.cells[i].sealed, merged.cells[i].status
		case cell.status == opened && bytes.Equal(cell.sealed, was.cells[i].sealed):
			cell.sealed = merged.cells[i].sealed
		case cell.status == opened:
			cell.sealed = nil // another writer's value stands there
		}
	}
	return c
}

// Overtaken is what a struct that holds s of a row has, when the database has next under another envelope. What was never opened is what the database
// has now, where that was read.
func (s *State) Overtaken(next *State) *State {
	c, s, next := next.Bare(), s.Clone(), next.Clone()
	c.Keep(s)
	for i := range c.cells {
		if s.cells[i].status == locked && next.cells[i].status != absent {
			c.cells[i] = next.cells[i]
		}
	}
	return c
}

// Reattach gives the Secrets of the row in v that are still sealed their handles in s, whose ciphertext is newer.
func (s *State) Reattach(v reflect.Value) {
	for _, f := range s.group.Fields {
		if b := f.box(v); b != nil && b.state != nil && b.field == f && b.untouched() {
			s.attach(f, v)
		}
	}
}

// Empty reports that no sealed column has a value.
func (c *Cells) Empty() bool {
	return !slices.ContainsFunc(c.raw, func(b *copied) bool { return b != nil })
}

// Stored is what the column of a field holds, for a comparison with it; nil for NULL.
func (c *Cells) Stored(f *Field) any {
	raw := c.raw[f.pos]
	if raw == nil {
		return nil
	}
	if b, ok := raw.src.([]byte); ok && f.Text {
		return string(b)
	}
	return raw.src
}

// Authenticate unwraps the data keys of the row in v, whose key column is text, and opens every field, for nobody to see: one call for each key. It gives the
// number of fields that hold something and an error for each that does not open. see is shown each plaintext, in the form of field.Codec, and nil for NULL; it must not keep it. Its errors are among the others.
func (m *Model) Authenticate(ctx context.Context, g *Group, v reflect.Value, text string, cells *Cells, see func(f *Field, plaintext []byte) error) (fields int, errs []error) {
	if m.cache != nil { // to prove that the key service opens the row, and not that it once did
		asking := *m
		asking.cache, m = nil, &asking
	}
	s, err := cells.State(m, v, text)
	if err == nil {
		err = s.unwrap(ctx, m)
	}
	if err != nil {
		return 0, []error{err}
	}
	var r lastKey
	for _, f := range g.Fields {
		c := s.cells[f.pos]
		var plaintext []byte
		if c.status != null {
			fields++
			if plaintext, err = s.open(nil, f, c.sealed, &r); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := see(f, plaintext); err != nil {
			errs = append(errs, err)
		}
		clear(plaintext)
	}
	return fields, errs
}
