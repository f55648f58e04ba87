// update.go owns the keys of rows that exist already: the row's own key from the database, a new one for a row written whole, and
// the same data key under a changed context.

package row

import (
	"bytes"
	"context"
	"fmt"
	"reflect"

	"github.com/rowseal/rowseal/kmskey"
)

// Fresh makes a new data key for the row in v and wraps it: one call. It is for a row that has none, or whose sealed fields are
// all written together with the key column.
func (m *Model) Fresh(ctx context.Context, g *Group, v reflect.Value) (*State, error) {
	id, ok := m.Identity(v)
	in := &Insert{Model: m}
	s, err := in.newState(g, v, id, ok)
	if err != nil {
		return nil, err
	}
	if err := s.wrap(ctx); err != nil {
		return nil, fmt.Errorf("rowseal: key %s for %s: %w", g.Column.DBName, m.Describe(v), err)
	}
	return s, nil
}

// Idle is a state with a data key that is never wrapped and never stored. It seals values of a statement that must find no row.
func (m *Model) Idle(g *Group) (*State, error) {
	s := newState(g)
	s.model = m
	var err error
	s.ring, err = fieldKeys([]kmskey.DataKey{kmskey.NewDataKey()})
	return s, err
}

// Idled is s with a data key that is never stored, for a statement that must find no row.
func (m *Model) Idled(s *State) (*State, error) {
	idle, err := m.Idle(s.group)
	if err != nil {
		return nil, err
	}
	c := s.Clone()
	c.ring = idle.ring
	return c, nil
}

// Stored opens the key that the database holds for the row in v: one call.
func (m *Model) Stored(ctx context.Context, g *Group, v reflect.Value, text string) (*State, error) {
	s := newState(g)
	row, err := m.bind(g, v)
	if err != nil {
		return nil, fmt.Errorf("rowseal: key %s of %s: %w", g.Column.DBName, m.Describe(v), err)
	}
	s.id = row.id
	s.model, s.row, s.text = m, row, text
	if err := s.unwrap(ctx, m); err != nil {
		return nil, fmt.Errorf("rowseal: key %s of %s: %w", g.Column.DBName, m.Describe(v), err)
	}
	return s, nil
}

// Ready opens a state that was read without opening it; without a call where it is open.
func (m *Model) Ready(ctx context.Context, s *State, v reflect.Value) error {
	if err := s.unwrap(ctx, m); err != nil {
		return fmt.Errorf("rowseal: key %s of %s: %w", s.group.Column.DBName, m.Describe(v), err)
	}
	return nil
}

// Lend opens s, which a statement scanned, with the keys of from, where it has the same envelope. Both must be of the same row: an envelope
// can be copied to another.
func (s *State) Lend(from *State) {
	from = from.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring == nil && s.text == from.text {
		s.ring = from.ring
	}
}

// Keep carries what is known of cells from an older state of the same row to a newer one that knows nothing of them. A value that was in
// its Go field still was: its ciphertext goes along where the newer key opens it, so that an unchanged value keeps it. What was never
// opened stays so, and its opening tells whether the newer key fits.
func (s *State) Keep(old *State) {
	old.mu.Lock()
	cells, left := append([]cell(nil), old.cells...), old.left
	old.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = s.left || left
	var r lastKey
	for _, f := range s.group.Fields {
		c := cells[f.pos]
		if c.status == absent || s.cells[f.pos].status != absent {
			continue
		}
		if c.status == opened {
			if _, err := s.open(nil, f, c.sealed, &r); err != nil {
				c.sealed = nil
			}
		}
		s.cells[f.pos] = c
	}
}

// Fill makes s, into which a statement scanned part of the row without its key column, a state under the key of next. origin is what the
// row had before; nil for none.
func (s *State) Fill(next, origin *State) {
	was := make([]cell, len(s.cells))
	if origin != nil {
		origin.mu.Lock()
		copy(was, origin.cells)
		origin.mu.Unlock()
	}
	n := next.Clone()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model, s.row, s.rowErr, s.id, s.left = n.model, n.row, n.rowErr, n.id, n.left
	s.text, s.token, s.dek, s.ring = n.text, n.token, n.dek, n.ring
	for i, c := range s.cells {
		if c.status == was[i].status && bytes.Equal(c.sealed, was[i].sealed) { // not scanned
			s.cells[i] = n.cells[i]
		}
	}
}

// Rewrapped gives the state that the row in v has after its envelope was moved to the current version and to the context and key
// that the row has now. s stays as it is. The two are the same where nothing had to move.
func (m *Model) Rewrapped(ctx context.Context, s *State, g *Group, v reflect.Value) (*State, error) {
	s.mu.Lock()
	text, from := s.text, s.row
	s.mu.Unlock()
	if isTombstone(text) {
		return s, nil // nothing is bound to anything any more
	}
	to, err := m.bind(g, v)
	if err != nil {
		return nil, fmt.Errorf("rowseal: rewrap %s: %w", m.Describe(v), err)
	}
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		return nil, fmt.Errorf("rowseal: rewrap %s: %w", m.Describe(v), err)
	}
	moved, err := m.Keys.Rewrap(ctx, env, from.row(), to.row())
	if err != nil {
		return nil, fmt.Errorf("rowseal: rewrap %s: %w", m.Describe(v), err)
	}
	if moved.String() == text {
		return s, nil
	}
	c := s.Clone()
	c.text, c.row, c.rowErr = moved.String(), to, nil
	return c, nil
}

// Closed is a state for the key column text of the row in v, not opened.
func (m *Model) Closed(g *Group, v reflect.Value, text string) (*State, error) {
	row, err := m.bind(g, v)
	if err != nil {
		return nil, fmt.Errorf("rowseal: key %s of %s: %w", g.Column.DBName, m.Describe(v), err)
	}
	s := newState(g)
	s.id = row.id
	s.model, s.row, s.text = m, row, text
	return s, nil
}
