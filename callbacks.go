// callbacks.go owns where the plugin stands in GORM: one table of callbacks, and what they keep while a statement runs.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
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

		update.Before(firstUpdate).Register("rowseal:prepare_update", p.makeIndexKeys),
		update.After("gorm:save_before_associations").Before("gorm:update").Register("rowseal:before_update", p.beforeUpdate),
		update.After("gorm:update").Before("gorm:save_after_associations").Register("rowseal:after_update", p.afterUpdate),

		query.Before("gorm:query").Register("rowseal:before_query", p.beforeQuery),
		cb.Row().Before("gorm:row").Register("rowseal:before_row", p.searchJoins),
		query.After("gorm:query").Before("gorm:preload").Register("rowseal:after_query", p.afterQuery),

		del.Before(firstDelete).Register("rowseal:prepare_delete", p.makeIndexKeys),
		del.Before("gorm:delete").Register("rowseal:before_delete", p.beforeDelete),
		del.After("gorm:delete").Before("gorm:after_delete").Register("rowseal:after_delete", p.afterDelete),
	)
}

// keep and kept carry a value from one callback of a statement to a later one. The key holds the statement, since GORM copies settings
// into the statements of associations; it is what InstanceSet does, without building a string each time.
//
// What is kept belongs to a statement on a model of the plugin's, or to one that joins such a model.
func keep[T any](db *gorm.DB, v *T) { db.Statement.Settings.Store(slot[T]{db.Statement}, v) }

func kept[T any](db *gorm.DB) (*T, bool) {
	if bare(db.Statement) {
		return nil, false
	}
	a, ok := db.Statement.Settings.Load(slot[T]{db.Statement})
	if !ok {
		return nil, false
	}
	v, ok := a.(*T)
	return v, ok && v != nil
}

type slot[T any] struct{ stmt *gorm.Statement }

// forget drops what was kept: at the end, so that rows do not live on in a *gorm.DB that is used again, and at the beginning, since an
// end may have been left out by a panic.
func forget[T any](db *gorm.DB) {
	if !bare(db.Statement) {
		db.Statement.Settings.Delete(slot[T]{db.Statement})
	}
}

// bare reports a statement in which nothing is kept. Its settings are left alone: the first question to a sync.Map allocates.
func bare(stmt *gorm.Statement) bool {
	return row.PlanOf(stmt.Schema) == nil && !joinsAny(stmt, func(s *schema.Schema) bool { return row.PlanOf(s) != nil })
}

// marked is a statement while GORM runs it.
type marked struct {
	epoch *row.Epoch
	outer context.Context
}

// mark puts an epoch into the statement's context; unmark must follow before anything of the application runs. GORM runs
// every callback even after an error, so it does.
func mark(db *gorm.DB, returning bool) {
	m := new(marked)
	m.begin(db, returning)
	keep(db, m)
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
	m.outer = db.Statement.Context
	db.Statement.Context, m.epoch = row.NewEpoch(m.outer, returning)
}

// end gives the epoch, nil where there is none.
func (m *marked) end(db *gorm.DB) *row.Epoch {
	if m.epoch != nil {
		db.Statement.Context = m.outer
	}
	return m.epoch
}

// structs lists the structs of type t in v, which is one, a pointer to one, or a slice or array of either.
func structs(v reflect.Value, t reflect.Type) (out []reflect.Value) {
	v = reflect.Indirect(v)
	if v.Kind() == reflect.Slice {
		out = make([]reflect.Value, 0, v.Len())
	}
	eachStruct(v, t, func(e reflect.Value) { out = append(out, e) })
	return out
}

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
