// rotate.go owns the rotation of a single row's keys. Whole tables are the work of package rotation.

package rowseal

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
)

// Rotate moves the keys of one row to the keyring's current version, and gives value what the row has then. The row's data key stays, so no
// sealed field is touched, and neither is anything else in the row: no hook runs and updated_at stays. value is a pointer to a
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
	for _, g := range m.Plan.Groups {
		next, from, err := rotateKey(stmt, c, g)
		if err != nil {
			return err
		}
		if next != nil {
			c.adopt(g, next, from)
		}
	}
	return nil
}

// rotateTries bounds the race with other writers; each try costs a query and a rewrap.
const rotateTries = 3

// rotateKey gives the state that the key column has afterwards; nil where the row has no key.
func rotateKey(stmt *gorm.Statement, c *change, g *row.Group) (state *row.State, from string, err error) {
	for try := range rotateTries {
		text, dbRow, err := c.storedKey(stmt, g, try > 0)
		if err != nil {
			return nil, "", fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), err)
		}
		if !dbRow.IsValid() {
			return nil, "", fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), gorm.ErrRecordNotFound)
		}
		if text == "" {
			return nil, "", nil // no sealed field was ever stored under this key
		}
		old, err := c.model.Closed(g, dbRow, text)
		if err != nil {
			return nil, "", err
		}
		next, err := c.model.Rewrapped(stmt.Context, old, g, dbRow)
		if err != nil {
			return nil, "", err
		}
		stored := next == old
		if !stored {
			if stored, err = swapKey(stmt, c, g, text, next.Text()); err != nil {
				return nil, "", fmt.Errorf("rowseal: rotate %s: %w", c.model.Describe(c.value), err)
			}
		}
		if stored {
			return next, text, nil
		}
	}
	return nil, "", fmt.Errorf("rowseal: rotate %s: %w, %d times; try again", c.model.Describe(c.value), ErrStaleKey, rotateTries)
}

// adopt gives the row in memory the envelope that the database has now, with what is open already.
func (c *change) adopt(g *row.Group, next *row.State, from string) {
	s := g.State(c.value)
	if !s.Serves(c.model, c.id) || !c.value.CanAddr() {
		return
	}
	if s.Text() != from {
		// Another writer has replaced the data key since the row was read: what is open under the old one must seal nothing more.
		next.Keep(s)
		g.SetState(c.value, next)
		return
	}
	g.SetState(c.value, s.WithEnvelope(next))
}

func swapKey(stmt *gorm.Statement, c *change, g *row.Group, old, next string) (bool, error) {
	column := stmt.Quote(g.Column.DBName)
	where, args := identify(stmt, c.model, c.value)
	where, args = append(where, exact(stmt.DB, column)+" = ?"), append(append([]any{next}, args...), old)
	result := inside(stmt.DB).Exec(fmt.Sprintf("UPDATE %s SET %s = ? WHERE %s", quotedTable(stmt), column, strings.Join(where, " AND ")), args...)
	return result.RowsAffected == 1, result.Error
}
