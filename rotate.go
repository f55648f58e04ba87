// rotate.go owns the rotation of a single row's keys. Whole tables are the work of package rotation.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// Rotate moves the keys of one row to the keyring's current version, and gives value what the row has then. The row's data key stays, so no
// sealed field is touched, and neither is anything else in the row: no hook runs and updated_at stays. Where writers that may not decrypt have
// added data keys ([Config].WriteOnly), those that no field needs are dropped, and where this program may decrypt the newest takes the place of
// all, the fields under others being sealed anew with it; where it may not, each is moved by itself. value is a pointer to a
// registered model with its primary key set; the keys and the context are read from the database, whatever value holds.
//
// Each key is stored only where the one that was read still stands. Rotate tries again when another writer was faster, and gives
// [ErrStaleKey] when that keeps happening. A row that is current already costs one query and no call to the key service.
func Rotate(ctx context.Context, db *gorm.DB, value any) error {
	p, ok := db.Plugins[row.PluginName].(*Plugin)
	if !ok {
		return fmt.Errorf("rowseal: rotate %T: %w; call db.Use(plugin) first", value, ErrNoPlugin)
	}
	v := reflect.ValueOf(value)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("rowseal: rotate %T: %w; pass a pointer to a row of a registered model", value, ErrModel)
	}
	stmt := db.Session(&gorm.Session{NewDB: true, Context: ctx, Initialized: true}).Statement
	if err := stmt.Parse(value); err != nil {
		return fmt.Errorf("rowseal: rotate %T: %w", value, err)
	}
	m := p.typed(stmt)
	if m == nil {
		return fmt.Errorf("rowseal: rotate %T: %w: it is not registered; add it to rowseal.Config.Models", value, ErrModel)
	}
	c := &change{model: m, value: v.Elem()}
	if c.id, ok = m.Identity(c.value); !ok {
		return fmt.Errorf("rowseal: rotate %s: %w, which is not set", m.Plan.Schema.Name, ErrIdentity)
	}
	if m.Computed() {
		// The method is asked of the row as the database has it: the struct may hold changes that are not saved.
		fresh := reflect.New(m.Plan.Schema.ModelType)
		for _, f := range m.Plan.Schema.PrimaryFields {
			f.ReflectValueOf(ctx, fresh).Set(f.ReflectValueOf(ctx, c.value))
		}
		tx := Sealed(db.Session(&gorm.Session{NewDB: true, Context: ctx, SkipHooks: true}))
		if err := tx.Unscoped().Take(fresh.Interface()).Error; err != nil {
			return fmt.Errorf("rowseal: rotate %s: %w", m.Describe(c.value), err)
		}
		c.stored = fresh.Elem()
	}
	for _, g := range m.Plan.Groups {
		old, next, err := rotateKey(stmt, p, c, g)
		if err != nil {
			return err
		}
		if next != nil {
			c.adopt(g, old, next)
		}
	}
	return nil
}

// rotateTries bounds the race with other writers; each try costs a query and a rewrap.
const rotateTries = 3

// rotateKey gives the states that the row had and has; nil where it has no key.
func rotateKey(stmt *gorm.Statement, p *Plugin, c *change, g *row.Group) (old, next *row.State, err error) {
	for try := range rotateTries {
		text, dbRow, err := c.storedKey(stmt, g, try > 0, nil)
		if err != nil {
			return nil, nil, fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), err)
		}
		if !dbRow.IsValid() {
			return nil, nil, fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), gorm.ErrRecordNotFound)
		}
		if text == "" || kmskey.IsTombstone(text) {
			return nil, nil, nil // no sealed field was ever stored under this key, or none is any more
		}
		old, err := c.model.Closed(g, dbRow, text)
		if err != nil {
			return nil, nil, err
		}
		var moved []*row.Field
		next := old
		if old.Keys() > 1 || old.Spent() {
			if old, err = c.storedCells(stmt, g, try > 0); err != nil {
				return nil, nil, fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), err)
			}
			if old.Text() != text {
				continue // dbRow's context may be another by now
			}
			if next, moved, err = merge(stmt, p, c, old, dbRow); err != nil {
				return nil, nil, err
			}
		}
		if next, err = c.model.Rewrapped(lend(stmt.Context, stmt), next, g, dbRow); err != nil {
			return nil, nil, err
		}
		stored := next == old
		if !stored {
			if stored, err = swapKey(stmt, c, g, dbRow, old, next, moved); err != nil {
				return nil, nil, fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), err)
			}
		}
		if stored {
			return old, next, nil
		}
	}
	return nil, nil, fmt.Errorf("rowseal: rotate %s: %w, %d times; try again", c.model.Describe(c.value), ErrStaleKey, rotateTries)
}

// merge makes one data key of several, where that can be done: without a call where no field needs the others, else by unwrapping all of them.
func merge(stmt *gorm.Statement, p *Plugin, c *change, s *row.State, dbRow reflect.Value) (next *row.State, moved []*row.Field, err error) {
	if next, err = s.Pruned(func(*row.Field) bool { return false }); err != nil || next.Keys() == 1 && !next.Spent() || p.denied.Load() {
		return next, nil, err
	}
	merged, moved, ok, err := c.model.Merged(lend(stmt.Context, stmt), next, dbRow)
	switch {
	case errors.Is(err, kmskey.ErrDenied):
		p.denied.Store(true) // a rotator that sees no key is not to ask for each row
		return next, nil, nil
	case errors.Is(err, ErrWriteOnly):
		return next, nil, nil
	case err != nil:
		return nil, nil, err
	case !ok:
		return next, nil, nil // one field does not open; the keys move all the same, each by itself
	}
	return merged, moved, nil
}

// adopt gives the row in memory the envelope that the database has now, with what is open already.
func (c *change) adopt(g *row.Group, old, next *row.State) {
	s := g.State(c.value)
	switch {
	case !s.Serves(c.model, c.id) || !c.value.CanAddr():
		return
	case s.Text() != old.Text():
		// Another writer has replaced the data key since the row was read: what is open under the old one must seal nothing more.
		next = s.Overtaken(next)
	case old.Keys() > 1 || old.Spent():
		next = s.Merging(old, next)
	default:
		g.SetState(c.value, s.WithEnvelope(next))
		return
	}
	g.SetState(c.value, next)
	next.Reattach(c.value)
}

// swapKey stores a row's new envelope where the old one still stands. Fields that were sealed anew go with it, each where its old ciphertext
// stands: the newest data key, which other writers seal under, is in both envelopes. The context columns must be those that the key was wrapped for:
// under a version whose context leaves one out it can change without a new key.
func swapKey(stmt *gorm.Statement, c *change, g *row.Group, dbRow reflect.Value, old, next *row.State, moved []*row.Field) (bool, error) {
	column := stmt.Quote(g.Column.DBName)
	set, args := []string{column + " = ?"}, []any{next.Text()}
	for _, f := range moved {
		set, args = append(set, stmt.Quote(f.Column.DBName)+" = ?"), append(args, next.Stored(f))
	}
	where, ids := identify(stmt, c.model, c.value)
	where, args = append(where, exact(stmt.DB, column)+" = ?"), append(append(args, ids...), old.Text())
	for _, f := range moved {
		name := stmt.Quote(f.Column.DBName)
		if f.Text {
			name = exact(stmt.DB, name)
		}
		where, args = append(where, name+" = ?"), append(args, old.Stored(f))
	}
	pins, values := pinned(stmt, c.model, dbRow, nil)
	where, args = append(where, pins...), append(args, values...)
	result := inside(stmt.DB).Exec(fmt.Sprintf("UPDATE %s SET %s WHERE %s", quotedTable(stmt), strings.Join(set, ", "), strings.Join(where, " AND ")), args...)
	return result.RowsAffected == 1, result.Error
}
