// insert.go owns the keys of rows that are being created: which rows need one, when each can be wrapped, and the way back.

package row

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/rowseal/rowseal/kmskey"
)

// Insert is the keys of one INSERT. It is used by one goroutine.
type Insert struct {
	Model *Model
	Ahead *Insert // that made the keys of some of the rows before; nil for none

	undo   []undo
	maker  *maker // of the states that this Insert made or copied
	memory memory
	reused map[*Group][]any // envelopes that rows brought along, which the database may have replaced since

	early []kmskey.Row    // of rows without an id: one for each context that they will have but for it
	seen  map[string]bool // of those
}

// maker is an Insert, as the states know it that it made.
type maker struct{ _ byte } // not empty, or all would lie in one place

// Reused lists the envelopes of a group that were not made by this Insert.
func (in *Insert) Reused(g *Group) []any { return in.reused[g] }

type undo struct {
	group *Group
	value reflect.Value
	state *State
}

// Prepare gives every row in values the keys it can have by now: a row with an id, or of a model whose context needs none, gets a
// data key that is wrapped, several at a time; a row that brings a key of its own is left alone. A row whose id the database will
// assign is passed over, and with last set gets a token in place of its envelope: call [Insert.Tokens] after the insert.
//
// Prepare is called before the transaction, so that no connection waits for the key service, and again, with last set, when the
// hooks have run: what they changed is noticed then.
func (in *Insert) Prepare(ctx context.Context, values []reflect.Value, last bool) error {
	return Prepare(ctx, []Batch{{in, values}}, last)
}

// Batch is the rows of one INSERT.
type Batch struct {
	Insert *Insert
	Values []reflect.Value
}

// Prepare is [Insert.Prepare] for several INSERTs, whose calls to the key service run together.
func Prepare(ctx context.Context, batches []Batch, last bool) error {
	type call struct {
		batch  int
		state  *State
		closed bool
		early  *kmskey.Row // of a state that is not made yet
	}
	var calls []call
	for i, b := range batches {
		fresh, closed, err := b.Insert.collect(b.Values, last)
		if err != nil {
			return err
		}
		calls = slices.Grow(calls, len(fresh)+len(closed))
		for _, s := range fresh {
			calls = append(calls, call{batch: i, state: s})
		}
		if m := b.Insert.Model; m.writeOnly && len(closed) > 0 {
			return fmt.Errorf("rowseal: upsert %s: %w, and the rows that exist keep their keys; load them and save each, or write all sealed columns by primary key (clause.OnConflict{UpdateAll: true})", m.Plan.Schema.Name, ErrWriteOnly)
		}
		for _, r := range b.Insert.early {
			calls = append(calls, call{batch: i, early: &r})
		}
		b.Insert.early = nil
		for _, s := range closed {
			calls = append(calls, call{batch: i, state: s, closed: true})
		}
	}
	if len(calls) == 0 {
		return nil
	}
	errs := make([][]error, len(batches))
	do := func(ctx context.Context, i int) error {
		c := calls[i]
		m := batches[c.batch].Insert.Model
		switch {
		case c.early != nil:
			return m.Keys.Prepare(ctx, *c.early)
		case c.closed:
			return c.state.named(c.state.unwrap(ctx, m))
		}
		return c.state.named(c.state.wrap(ctx))
	}
	for i, err := range batches[0].Insert.Model.Parallel(ctx, len(calls), do) {
		errs[calls[i].batch] = append(errs[calls[i].batch], err)
	}
	for i, b := range batches {
		if err := Summary(fmt.Sprintf("rowseal: keys for %d new rows of %s", len(b.Values), b.Insert.Model.Plan.Schema.Name), errs[i]); err != nil {
			return err
		}
	}
	return nil
}

// named is an error of s's key with its column: others of the row may lie under other keys of the service.
func (s *State) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("key %s: %w", s.group.Column.DBName, err)
}

// collect gives the rows their states, and lists those whose keys must be wrapped or unwrapped now.
func (in *Insert) collect(values []reflect.Value, last bool) (fresh, closed []*State, err error) {
	if in.undo == nil { // the second time, few rows get another state
		in.undo = make([]undo, 0, len(values))
	}
	for _, v := range values {
		id, known := in.Model.identityLike(v, in.Model.Plan.Groups[0].State(v).identity())
		for _, g := range in.Model.Plan.Groups {
			if _, ok := follow(v, g.path); !ok {
				continue // an embedded struct that is not there has no fields to seal
			}
			s, err := in.reuse(g, v, id)
			switch {
			case err != nil:
				return nil, nil, err
			case s != nil:
				if !s.Open() {
					closed = append(closed, s)
				}
				continue
			case !known && in.Model.NeedsID() && !last:
				in.foresee(g, v)
				continue
			}
			if s := g.State(v); s != nil && in.made(s) {
				if _, token := s.Token(); token {
					return nil, nil, fmt.Errorf("rowseal: create %s: %w: one struct is there twice, and both rows would have one key; create it once", in.Model.Plan.Schema.Name, ErrUnsupported)
				}
			}
			s, err = in.newState(g, v, id, known)
			if err != nil {
				return nil, nil, err
			}
			if _, token := s.Token(); !token {
				fresh = append(fresh, s)
			}
			in.put(g, v, s)
		}
	}
	return fresh, closed, nil
}

// foresee notes what is known of the context of a row without an id, so that the keyring can prepare for it before the transaction.
func (in *Insert) foresee(g *Group, v reflect.Value) {
	if !in.Model.Keys.Prepares() {
		return
	}
	r, id, ok := in.Model.partly(g, v)
	if !ok || in.seen[id] {
		return
	}
	if in.seen == nil {
		in.seen = map[string]bool{}
	}
	in.seen[id] = true
	in.early = append(in.early, r)
}

// Summary is one error for many calls that mostly fail for the same reason.
func Summary(act string, errs []error) error {
	var first error
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	switch {
	case failed == 0:
		return nil
	case failed == 1:
		return fmt.Errorf("%s: %w", act, first)
	default:
		return fmt.Errorf("%s: %d failed, the first: %w", act, failed, first)
	}
}

// reuse gives the state that v brings along, where it fits the row that is being inserted: made by an earlier Prepare or rolled
// back, or loaded from a row that was deleted since. A state of another row is left aside, but not silently where it holds
// ciphertext that was never opened: the new row would lose that value.
func (in *Insert) reuse(g *Group, v reflect.Value, id string) (*State, error) {
	s := g.State(v)
	if s == nil {
		return nil, nil
	}
	if in.made(s) && !in.Model.NeedsID() {
		if same, err := in.Model.sameContextAs(s, g, v, id); err != nil || same {
			return s, err
		}
		return nil, nil // a hook changed the context
	}
	serves := s.Serves(in.Model, id)
	if serves {
		same, err := in.Model.sameContextAs(s, g, v, id)
		if err != nil {
			return nil, fmt.Errorf("rowseal: create %s: %w", in.Model.Describe(v), err)
		}
		serves = same
	}
	if err := in.refuseLost(g, v, s, serves); err != nil {
		return nil, err
	}
	if !serves {
		return nil, nil
	}
	if !in.made(s) {
		s = s.Clone() // copies of the struct keep what they were read with
		in.put(g, v, s)
		if in.reused == nil {
			in.reused = map[*Group][]any{}
		}
		in.reused[g] = append(in.reused[g], s.text)
	}
	return s, nil
}

// refuseLost refuses a row that would be stored without what s stands for; serves says whether s is the row's own.
func (in *Insert) refuseLost(g *Group, v reflect.Value, s *State, serves bool) error {
	for _, f := range g.Fields {
		target, ok := follow(v, f.path)
		if !ok || !target.IsZero() {
			continue
		}
		if s.lost(f, serves) {
			return fmt.Errorf("rowseal: create %s: %s: %w and would be stored empty; load the row with it, or set it", in.Model.Describe(v), f.Place(), ErrNotLoaded)
		}
	}
	return nil
}

// Adopt gives the row in v the key of the row that an upsert will find in its place. stored has that row's primary key, which v has too,
// and its context; text is its key column, "" for NULL. The key is opened by the next Prepare.
func (in *Insert) Adopt(g *Group, v, stored reflect.Value, text string) error {
	id, _ := in.Model.Identity(v)
	s := g.State(v)
	serves := s.Serves(in.Model, id)
	if serves && (s.Text() == text || text == "" && in.made(s)) {
		return nil
	}
	if s != nil {
		if serves && s.Shredded() { // its zero values are not the ones of the row that has the id now
			return fmt.Errorf("rowseal: upsert %s, when it was loaded: %w; load the row that there is now", in.Model.Describe(v), kmskey.ErrShredded)
		}
		if err := in.refuseLost(g, v, s, serves); err != nil {
			return err
		}
	}
	if text == "" {
		in.put(g, v, nil) // a first key will be made
		return nil
	}
	next, err := in.Model.Closed(g, stored, text)
	if err != nil {
		return err
	}
	in.put(g, v, next)
	return nil
}

// made reports whether this Insert made the state.
func (in *Insert) made(s *State) bool {
	return s.maker != nil && (s.maker == in.maker || in.Ahead != nil && s.maker == in.Ahead.maker)
}

// lost reports whether inserting the zero value of f would forget a value that the state stands for.
func (s *State) lost(f *Field, sameRow bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.cells[f.pos].status {
	case locked:
		return true
	case absent:
		// A state that was scanned and lacks the column was loaded in part.
		return sameRow && s.epoch != nil
	default:
		return false
	}
}

func (in *Insert) newState(g *Group, v reflect.Value, id string, known bool) (*State, error) {
	s := in.memory.state(g)
	s.model, s.id = in.Model, id
	if !known && in.Model.NeedsID() {
		if !in.Model.Assigned() {
			return nil, fmt.Errorf("rowseal: create %s: %w, which is not set; set it in Go", in.Model.Plan.Schema.Name, ErrIdentity)
		}
		s.text, s.token = newToken(), true
		return s, s.draw() // it seals before its key can be wrapped
	}
	var err error
	s.row, err = in.Model.bindAs(g, v, id)
	if err == nil {
		err = s.row.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("rowseal: create %s: %w", in.Model.Describe(v), err)
	}
	return s, nil
}

// newToken is what stands in the key column until the row's id is known: docs/format.md, section 4.
func newToken() string {
	var b [16]byte
	rand.Read(b[:])
	return kmskey.TokenPrefix + base64.RawStdEncoding.EncodeToString(b[:])
}

func (in *Insert) put(g *Group, v reflect.Value, s *State) {
	if in.maker == nil {
		in.maker = &maker{}
	}
	if s != nil {
		s.maker = in.maker // nobody else has it yet
	}
	in.undo = append(in.undo, undo{g, v, g.State(v)})
	g.SetState(v, s)
}

// Undo gives every row back the state that it brought. It is for inserts that failed.
func (in *Insert) Undo() {
	for i := len(in.undo) - 1; i >= 0; i-- {
		in.undo[i].group.SetState(in.undo[i].value, in.undo[i].state)
	}
	in.undo, in.maker = nil, nil
}

// Pending is one row that stands in the table under tokens.
type Pending struct {
	Value  reflect.Value
	Tokens []string // by group; "" for a group that is not there
}

// Tokens lists the rows that were inserted under tokens.
func (in *Insert) Tokens() []Pending {
	var out []Pending
	index := map[any]int{}
	for _, u := range in.undo {
		s := u.group.State(u.value)
		if s == nil {
			continue
		}
		token, ok := s.Token()
		if !ok {
			continue
		}
		at := reflect.Indirect(u.value).Addr().Interface()
		i, seen := index[at]
		if !seen {
			i = len(out)
			index[at] = i
			out = append(out, Pending{u.value, make([]string, len(in.Model.Plan.Groups))})
		}
		out[i].Tokens[u.group.pos] = token
	}
	return out
}

// Settle wraps the keys of rows whose ids are known now, several at a time, and gives the envelope for each token.
func (in *Insert) Settle(ctx context.Context, rows []Pending) (map[string]string, error) {
	type unsettled struct {
		token string
		state *State
	}
	var work []unsettled
	for _, p := range rows {
		id, ok := in.Model.Identity(p.Value)
		if !ok {
			return nil, fmt.Errorf("rowseal: create %s: %w, and the database did not give it back", in.Model.Plan.Schema.Name, ErrIdentity)
		}
		for pos, token := range p.Tokens {
			if token == "" {
				continue
			}
			g := in.Model.Plan.Groups[pos]
			s := g.State(p.Value)
			row, err := in.Model.bindAs(g, p.Value, id)
			if err != nil {
				return nil, fmt.Errorf("rowseal: create %s: %w", in.Model.Describe(p.Value), err)
			}
			s.mu.Lock()
			s.row, s.id = row, id
			s.mu.Unlock()
			work = append(work, unsettled{token, s})
		}
	}
	errs := in.Model.Parallel(ctx, len(work), func(ctx context.Context, i int) error { return work[i].state.named(work[i].state.wrap(ctx)) })
	if err := Summary(fmt.Sprintf("rowseal: keys for %d new rows of %s", len(rows), in.Model.Plan.Schema.Name), errs); err != nil {
		return nil, err
	}
	envelopes := make(map[string]string, len(work))
	for _, w := range work {
		envelopes[w.token] = w.state.Text()
	}
	return envelopes, nil
}

// Stored tells the rows that were inserted without an id in their binding what the database assigned.
func (in *Insert) Stored(values []reflect.Value) {
	for _, v := range values {
		for _, g := range in.Model.Plan.Groups {
			if s := g.State(v); s != nil {
				s.mu.Lock()
				if s.id == "" && s.model == in.Model {
					s.id, _ = in.Model.Identity(v)
				}
				s.mu.Unlock()
			}
		}
	}
}

// errNoState is a bug: the gate met a row that nobody prepared.
var errNoState = errors.New("no key was made for the row")

// InsertColumns is what the columns of an INSERT are to a model.
type InsertColumns struct {
	model  *Model
	names  []string
	groups []*Group // by column; nil for other columns
	fields []*Field // by column; nil for other columns
	sealer Sealer
	keyAt  []int // by group, the position of its key column; -1 where the statement lacks it
	idAt   []int // by part of the primary key, likewise
}

// InsertColumns looks up the columns of an INSERT once, for all of its rows.
func (m *Model) InsertColumns(names []string) *InsertColumns {
	c := &InsertColumns{model: m, names: names, groups: make([]*Group, len(names)), fields: make([]*Field, len(names)), sealer: Sealer{room: new(memory)}}
	for range m.Plan.Groups {
		c.keyAt = append(c.keyAt, -1)
	}
	for _, p := range m.ids {
		c.idAt = append(c.idAt, slices.IndexFunc(names, func(name string) bool { return Fold(name) == Fold(p.column.DBName) }))
	}
	for i, name := range names {
		c.fields[i] = m.Plan.Lookup(name)
		if g := m.Plan.LookupKey(name); g != nil {
			c.groups[i], c.keyAt[g.pos] = g, i
		}
	}
	return c
}

// Check is the gate's last look at one row of an INSERT: it arms the key columns and seals the values, and refuses what is not
// sealed under the row's own key.
func (c *InsertColumns) Check(values []any) error {
	m := c.model
	id := c.identity(values)
	for i, value := range values {
		g, f := c.groups[i], c.fields[i]
		switch {
		case g != nil && value != nil:
			k, ok := value.(*KeyValue)
			if !ok || k.group != g {
				return fmt.Errorf("rowseal: insert %s, column %s: %w", m.Plan.Schema.Name, c.names[i], ErrKeyColumn)
			}
			text, err := m.insertable(k.state, id)
			if err == nil && !k.state.token {
				err = c.sameContext(k.state, g, values)
			}
			if err != nil {
				return fmt.Errorf("rowseal: insert %s, column %s: %w", m.Plan.Schema.Name, c.names[i], err)
			}
			k.Arm(text)
		case f != nil && value != nil:
			v, ok := value.(*Value)
			if !ok || v.field != f {
				return fmt.Errorf("rowseal: insert %s, column %s: %w; create rows from structs of the model", m.Plan.Schema.Name, c.names[i], ErrPlaintext)
			}
			if !c.under(values, f.Group, v.state) {
				return fmt.Errorf("rowseal: insert %s, column %s: %w: its key column %s is not part of the statement", m.Plan.Schema.Name, c.names[i], ErrNoKey, f.Group.Column.DBName)
			}
			if err := c.sealer.Seal(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// under reports whether the row is inserted together with the key of s.
func (c *InsertColumns) under(values []any, g *Group, s *State) bool {
	at := c.keyAt[g.pos]
	if at < 0 || s == nil {
		return false
	}
	k, ok := values[at].(*KeyValue)
	return ok && k.state == s
}

// sameContext makes sure that the statement writes the context columns that the key was made for: a callback may have set them since. What
// a model computes itself is its own to keep.
func (c *InsertColumns) sameContext(s *State, g *Group, values []any) error {
	m := c.model
	if m.Computed() || len(m.ContextColumns()) == 0 {
		return nil
	}
	scratch := reflect.New(m.Plan.Schema.ModelType).Elem()
	for i, name := range c.names {
		f := m.Plan.Schema.FieldsByDBName[name]
		if f == nil || !slices.Contains(m.Needed(), name) {
			continue
		}
		if f.Serializer != nil {
			return nil
		}
		if err := f.Set(context.Background(), scratch, values[i]); err != nil {
			return fmt.Errorf("%w: column %q", ErrContext, name)
		}
	}
	same, err := m.SameContext(s, g, scratch)
	if err == nil && !same {
		err = fmt.Errorf("%w: the statement writes another one than the key was made for; set it in a hook, or in a callback before gorm:before_create", ErrContext)
	}
	return err
}

// identity is the primary key as the statement writes it; "" where the database assigns it.
func (c *InsertColumns) identity(values []any) string {
	var known string // what the row's key was made for, which it mostly is
	if at := c.keyAt[0]; at >= 0 {
		if k, ok := values[at].(*KeyValue); ok {
			known = k.state.identity()
		}
	}
	id, ok := c.model.identityOf(known, func(i int) (any, bool) {
		if c.idAt[i] < 0 {
			return nil, false
		}
		return values[c.idAt[i]], true
	})
	if !ok {
		return ""
	}
	return id
}

func (m *Model) insertable(s *State, id string) (string, error) {
	if s == nil {
		return "", errNoState
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.model != m:
		return "", errNoState
	case s.token || (s.id == "" && !m.NeedsID()):
		if id != "" && s.token {
			return "", fmt.Errorf("%w: the statement sets it after the key was made", ErrIdentity)
		}
	case s.id != id:
		return "", fmt.Errorf("%w: the statement writes another one than the key was made for", ErrIdentity)
	}
	return s.text, nil
}
