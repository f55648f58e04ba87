// callbacks.go owns where the plugin stands in GORM: one table of callbacks, and what they keep while a statement runs.

package rowseal

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// hook registers the callbacks. Where they stand matters:
//
//   - Keys of new rows are made before the transaction, and looked at again when the application's hooks have run.
//   - Values are sealed while the statement's text is built (gate.go), so that loggers and tracers only ever see ciphertext.
//   - Rows are opened when the result set is closed, and before Preload and AfterFind, which see plaintext.
//   - The mark of a statement (row.Epoch) is in its context only while GORM itself runs it, never while a hook of the application
//     does, since statements started there would inherit it.
func (p *Plugin) hook(db *gorm.DB) error {
	cb := db.Callback()
	create, update, query, del := cb.Create(), cb.Update(), cb.Query(), cb.Delete()

	// GORM leaves its transaction callbacks out of the list when the whole *gorm.DB skips default transactions; a callback before
	// one that does not exist would land at the end.
	first, firstUpdate, firstDelete := "gorm:begin_transaction", "gorm:begin_transaction", "gorm:begin_transaction"
	if db.SkipDefaultTransaction {
		first, firstUpdate, firstDelete = "gorm:before_create", "gorm:setup_reflect_value", "gorm:before_delete"
	}
	return errors.Join(
		create.Before(first).Register("rowseal:prepare_create", p.prepareCreate),
		create.After("gorm:save_before_associations").Before("gorm:create").Register("rowseal:before_create", p.beforeCreate),
		create.After("gorm:create").Before("gorm:save_after_associations").Register("rowseal:after_create", p.afterCreate),
		create.Register("rowseal:finish_create", p.finishCreate),

		update.Before(firstUpdate).Register("rowseal:prepare_update", p.tryIndexKeys),
		update.After("gorm:save_before_associations").Before("gorm:update").Register("rowseal:before_update", p.beforeUpdate),
		update.After("gorm:update").Before("gorm:save_after_associations").Register("rowseal:after_update", p.afterUpdate),

		query.Before("gorm:query").Register("rowseal:before_query", p.beforeQuery),
		cb.Row().Before("gorm:row").Register("rowseal:before_row", p.beforeRow),
		query.After("gorm:query").Before("gorm:preload").Register("rowseal:after_query", p.afterQuery),

		del.Before(firstDelete).Register("rowseal:prepare_delete", p.tryIndexKeys),
		del.Before("gorm:delete").Register("rowseal:before_delete", p.beforeDelete),
		del.After("gorm:delete").Before("gorm:after_delete").Register("rowseal:after_delete", p.afterDelete),
	)
}

// running is what the callbacks of one statement keep for later ones. It stands among the statement's clauses, as GORM's own mark of a soft delete does, under a
// name that nothing builds: settings would be for this, and cost each statement two allocations and a look-up in a map for many goroutines each time.
type running struct {
	stmt atomic.Pointer[gorm.Statement] // whose it is, nil when that is over: GORM copies clauses into sessions that begin in mid-statement
	kept []any
	room [2]any // for kept, as most need it
}

const runningClause = "rowseal:running"

// Build is what makes it an expression; it is never called.
func (*running) Build(clause.Builder) {}

func runningOf(stmt *gorm.Statement) *running {
	r, ok := stmt.Clauses[runningClause].Expression.(*running)
	if !ok || r.stmt.Load() != stmt {
		return nil
	}
	return r
}

// keep and kept carry a value from one callback of a statement to a later one.
func keep[T any](db *gorm.DB, v *T) {
	r := runningOf(db.Statement)
	if r == nil {
		if own, ok := any(v).(interface{ list() *running }); ok {
			r = own.list()
		} else {
			r = new(running)
		}
		r.stmt.Store(db.Statement)
		r.kept = r.room[:0]
		db.Statement.Clauses[runningClause] = clause.Clause{Expression: r}
	}
	r.kept = append(r.kept, v)
}

func kept[T any](db *gorm.DB) (*T, bool) {
	r := runningOf(db.Statement)
	if r == nil {
		return nil, false
	}
	for _, k := range r.kept {
		if v, ok := k.(*T); ok {
			return v, true
		}
	}
	return nil, false
}

// forget drops what was kept, so that rows do not live on in a *gorm.DB that is used again.
func forget[T any](db *gorm.DB) {
	r := runningOf(db.Statement)
	if r == nil {
		return
	}
	r.kept = slices.DeleteFunc(r.kept, func(k any) bool { _, ok := k.(*T); return ok })
	if len(r.kept) == 0 {
		drop(db)
	}
}

// drop forgets all that was kept: at the end, and at the beginning, since an end may have been left out by a panic. What was kept may be part of the statement's context, which others keep for longer,
// and so lets go of the statement.
func drop(db *gorm.DB) {
	if r := runningOf(db.Statement); r != nil {
		r.stmt.Store(nil)
		clear(r.kept)
		r.kept = nil
	}
	delete(db.Statement.Clauses, runningClause)
}

// bare reports a statement on none of our models that joins none either: nothing is kept in it.
func bare(stmt *gorm.Statement) bool {
	return row.PlanOf(stmt.Schema) == nil && !joinsAny(stmt, func(s *schema.Schema) bool { return row.PlanOf(s) != nil })
}

// marked is a statement while GORM runs it.
type marked struct {
	running
	epoch *row.Epoch // nil before it is marked
	place row.Epoch
}

// list is where keep finds room.
func (m *marked) list() *running { return &m.running }

// mark puts an epoch into the statement's context; unmark must follow before anything of the application runs. GORM runs
// every callback even after an error, so it does.
func mark(db *gorm.DB, returning bool) {
	m := new(marked)
	keep(db, m)
	m.begin(db, returning)
}

func unmark(db *gorm.DB) *row.Epoch {
	m, ok := kept[marked](db)
	if !ok {
		return nil
	}
	forget[marked](db)
	return m.end(db)
}

func (m *marked) begin(db *gorm.DB, returning bool) {
	m.epoch = &m.place
	m.epoch.Context, m.epoch.Returning = db.Statement.Context, returning
	db.Statement.Context = m.epoch
}

// end gives the epoch, nil where there is none.
func (m *marked) end(db *gorm.DB) *row.Epoch {
	if m.epoch != nil {
		db.Statement.Context = m.epoch.Context
	}
	return m.epoch
}

// structs lists the structs of type t in v, which is one, a pointer to one, or a slice or array of either.
func structs(v reflect.Value, t reflect.Type) []reflect.Value {
	out := make([]reflect.Value, 0, room(v))
	eachStruct(v, t, func(e reflect.Value) { out = append(out, e) })
	return out
}

// room is for how many structs v has room.
func room(v reflect.Value) int {
	switch v = reflect.Indirect(v); v.Kind() {
	case reflect.Slice, reflect.Array:
		return v.Len()
	case reflect.Struct:
		return 1
	}
	return 0
}

// eachStruct is structs without a list of them.
func eachStruct(v reflect.Value, t reflect.Type, do func(reflect.Value)) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == t {
			do(v)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			e := v.Index(i)
			for e.Kind() == reflect.Pointer || e.Kind() == reflect.Interface {
				e = e.Elem()
			}
			if e.IsValid() && e.Type() == t {
				do(e)
			}
		}
	}
}

// fail stops a statement with an error that names the model.
func fail(db *gorm.DB, act string, m *row.Model, err error, advice string) {
	_ = db.AddError(fmt.Errorf("rowseal: %s %s: %w%s", act, m.Plan.Schema.Name, err, advice))
}
