// open.go owns reading: from the rows that a statement scanned to plaintext in their structs.

package row

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/rowseal/rowseal/field"
)

// Target is one row that a statement scanned.
type Target struct {
	Model *Model
	Value reflect.Value // the struct; addressable
}

// OpenError is what is wrong with some rows of a result. Every other row, and every other field of these, was opened.
type OpenError struct {
	Failed int     // rows
	Errs   []error // one for each key or field, in the order of the result
}

// Error names the first three places, and how many more there are.
func (e *OpenError) Error() string {
	const most = 3
	var b strings.Builder
	for i, err := range e.Errs {
		if i == most {
			fmt.Fprintf(&b, "; and %d more", len(e.Errs)-most)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

// Unwrap gives every error, so that errors.Is finds any kind among them.
func (e *OpenError) Unwrap() []error { return e.Errs }

// job is one key group of one row on its way.
type job struct {
	model  *Model
	group  *Group
	state  *State
	value  reflect.Value
	open   bool // has something to open now
	fields bool // has fields, not only Secrets, that a later call opens
	err    error
}

// Reveal opens what the epoch's statement scanned into targets: first all keys, several at a time and at most limit, then the fields.
// Secrets are left sealed, and a row of nothing else costs no call. Every row is handled, whatever happens to others; the error is an
// [*OpenError].
//
// It must run when the result set is closed, so that no connection waits for the key service.
func (e *Epoch) Reveal(ctx context.Context, limit int, targets []Target) error {
	for _, t := range targets {
		e.Claim(t)
	}
	return e.Open(ctx, limit)
}

// Claim ties what the statement scanned of one row to it. [Epoch.Open] follows the last.
func (e *Epoch) Claim(t Target) {
	if e.awaiting == 0 {
		return
	}
	if e.jobs == nil {
		e.jobs = e.room[:0]
		if e.awaiting > 1 {
			e.jobs = make([]job, 0, e.awaiting)
		}
	}
	for _, g := range t.Model.Plan.Groups {
		if j, ok := e.claim(t, g, false); ok {
			e.jobs = append(e.jobs, j)
		}
	}
}

// Claimed reports that something was.
func (e *Epoch) Claimed() bool { return len(e.jobs) > 0 }

// Open is [Epoch.Reveal] for rows that were claimed.
func (e *Epoch) Open(ctx context.Context, limit int) error {
	lost := e.End()
	err := run(ctx, limit, e.jobs, false)
	e.jobs, e.room = nil, [1]job{} // who keeps the statement's context keeps no rows
	if err != nil {
		return err
	}
	return lost
}

// Leave ties what the epoch's statement scanned to its rows and opens nothing: no call, no decryption. The Go fields keep their zero
// values, which stand for what is in the database and overwrite nothing; [OpenLater] opens them.
func (e *Epoch) Leave(targets []Target) error {
	for _, t := range targets {
		e.LeaveRow(t)
	}
	return e.End()
}

// LeaveRow does it for one row. [Epoch.End] follows the last.
func (e *Epoch) LeaveRow(t Target) {
	for _, g := range t.Model.Plan.Groups {
		j, ok := e.claim(t, g, true)
		if !ok {
			continue
		}
		for _, f := range g.Fields {
			if f.Secret {
				j.state.attach(f, j.value)
			}
		}
	}
}

// claim ties the state of one group that the statement scanned to its row; ok is false where there is none.
func (e *Epoch) claim(t Target, g *Group, leave bool) (j job, ok bool) {
	s := g.State(t.Value)
	if !e.Scanned(s) {
		return j, false // or the same struct, reached twice
	}
	e.awaiting--
	j = job{model: t.Model, group: g, state: s, value: t.Value}
	j.adopt(e, leave)
	return j, true
}

// End is when every row that could be found was claimed.
func (e *Epoch) End() (lost error) {
	if n := e.awaiting; n > 0 {
		// A row whose fields look empty because nobody opened them would be taken for data.
		lost = fmt.Errorf("rowseal: %d rows were read into structs that could not be found again: %w; load them by a query of their own", n, ErrUnsupported)
	}
	e.over, e.memory = true, memory{} // states know their epoch, and must not hold the room that is left
	return lost
}

// OpenLater opens what is still sealed in rows that were read before, Secrets included, several keys at a time and at most limit. A field
// that was set since is left as it is.
func OpenLater(ctx context.Context, limit int, targets []Target) error {
	var jobs []job
	for _, t := range targets {
		for _, g := range t.Model.Plan.Groups {
			s := g.State(t.Value)
			if s == nil || s.model == nil {
				continue
			}
			j := job{model: t.Model, group: g, state: s, value: t.Value, err: s.rowErr}
			for _, f := range g.Fields {
				if b := f.box(t.Value); b != nil && b.sealed() {
					j.open = true
				}
				if !f.Secret && s.Locked(f) {
					j.open, j.fields = true, true
				}
			}
			jobs = append(jobs, j)
		}
	}
	return run(ctx, limit, jobs, true)
}

// adopt ties a scanned state to its row.
func (j *job) adopt(e *Epoch, leave bool) {
	row, err := j.model.bindAs(j.group, j.value, e.memory.identity(j.model, j.value))
	s := j.state
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.fresh = accounted, false
	s.left = s.left || leave
	s.model, s.row, s.rowErr, s.id = j.model, row, err, row.id
	s.bury()
	for _, f := range j.group.Fields {
		if s.cells[f.pos].status == locked && !f.Secret {
			j.open = true
		}
	}
	j.err = err
}

// run unwraps the keys of jobs that have something to open, then opens it.
func run(ctx context.Context, limit int, jobs []job, secrets bool) error {
	switch {
	case len(jobs) > 1:
		unwrap(ctx, limit, jobs)
	case len(jobs) == 1 && jobs[0].open && jobs[0].err == nil: // as most statements have it, without what several need
		j := &jobs[0]
		if j.err = ctx.Err(); j.err == nil {
			j.err = j.state.unwrap(ctx, j.model)
		}
	}
	var failed *OpenError
	for i := range jobs {
		errs := jobs[i].reveal(ctx, secrets)
		if len(errs) == 0 {
			continue
		}
		if failed == nil {
			failed = &OpenError{}
		}
		failed.Failed++
		failed.Errs = append(failed.Errs, errs...)
	}
	if failed != nil {
		return failed
	}
	return nil
}

// unwrap unwraps the keys of jobs that have something to open, several at a time.
func unwrap(ctx context.Context, limit int, jobs []job) {
	opening := make([]*job, 0, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if j.open && j.err == nil {
			opening = append(opening, j)
		}
	}
	for i, err := range parallel(ctx, limit, len(opening), func(ctx context.Context, i int) error {
		return opening[i].state.unwrap(ctx, opening[i].model)
	}) {
		opening[i].err = err
	}
}

// reveal fills the Go fields of one job, as far as they open.
func (j *job) reveal(ctx context.Context, secrets bool) (errs []error) {
	if j.open && j.err != nil {
		for _, f := range j.group.Fields {
			if f.Secret && !secrets {
				j.state.attach(f, j.value) // Get says why it does not open
			}
		}
		return []error{fmt.Errorf("rowseal: open %s: key %s: %w", j.model.Describe(j.value), j.group.Column.DBName, j.err)}
	}
	if j.fields {
		// Copies of the struct were not opened, and their zero values must go on meaning that. The key is open in both by now.
		j.state = j.group.State(j.value).Clone()
		j.state.left = false
		j.group.SetState(j.value, j.state)
	}
	var r lastKey
	for _, f := range j.group.Fields {
		var err error
		switch {
		case f.Secret && secrets:
			if b := f.box(j.value); b != nil {
				_, err = b.get(ctx, &r)
			}
		case f.Secret:
			j.state.attach(f, j.value)
		case !secrets || j.fields && f.empty(j.value):
			err = j.revealField(ctx, f, &r)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rowseal: open %s: %w", j.model.Describe(j.value), err))
		}
	}
	return errs
}

// empty reports that the Go field still has the zero value that it was read with.
func (f *Field) empty(v reflect.Value) bool {
	target, ok := follow(v, f.path)
	return ok && target.IsZero()
}

func (j *job) revealField(ctx context.Context, f *Field, r *lastKey) error {
	j.state.mu.Lock()
	status := j.state.cells[f.pos].status
	j.state.mu.Unlock()
	if status != locked && status != null {
		return nil // not selected, or known already
	}
	if _, ok := follow(j.value, f.path); !ok {
		return nil
	}
	return j.state.reveal(f, f.Column.ReflectValueOf(ctx, j.value), r)
}

// attach gives a Secret field its handle to the sealed value.
func (s *State) attach(f *Field, v reflect.Value) {
	target, ok := follow(v, f.path)
	if !ok || !target.CanAddr() {
		return
	}
	s.mu.Lock()
	status := s.cells[f.pos].status
	s.mu.Unlock()
	switch status {
	case locked:
		target.Addr().Interface().(secret).attach(&box{state: s, field: f})
	case null:
		target.Addr().Interface().(secret).attach(&box{null: true, state: s, field: f})
	case absent, opened:
	}
}

func (f *Field) box(v reflect.Value) *box {
	if !f.Secret {
		return nil
	}
	target, ok := follow(v, f.path)
	if !ok || !target.CanAddr() {
		return nil
	}
	return target.Addr().Interface().(secret).boxed()
}

func (b *box) sealed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.opened && !b.null
}

// untouched reports a handle that nobody opened or set.
func (b *box) untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.opened
}

func appendText(sealed []byte) []byte { return field.AppendText(nil, sealed) }

func parseText(text string) ([]byte, error) { return field.ParseText(text) }
