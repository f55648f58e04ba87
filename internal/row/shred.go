// shred.go owns rows whose keys were destroyed on purpose: what is known of one in memory, and the primary keys by which a ledger names them.

package row

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/kmskey"
)

// isTombstone is [kmskey.IsTombstone], at no cost for what is none: it is asked of every row that is read.
func isTombstone(text string) bool {
	return strings.HasPrefix(text, kmskey.ShreddedPrefix) && kmskey.IsTombstone(text)
}

// Shredded reports that the row's key was destroyed on purpose, as far as is known: when the row was last read.
func (s *State) Shredded() bool { return isTombstone(s.Text()) }

// bury makes fillers the NULLs that they stand for, where the key column holds a tombstone. The Go field's zero value says nothing then, as in a row that was not opened, so that saving the
// row leaves it alone. mu is held.
func (s *State) bury() {
	if !isTombstone(s.text) {
		return
	}
	s.left = true
	for i, c := range s.cells {
		if c.status == locked && field.IsFiller(c.sealed) {
			s.cells[i] = cell{status: null}
		}
	}
}

// Shredded reports whether the row's keys were destroyed on purpose (rowseal.Shred), when it was last read. Its sealed fields have their zero values then.
func (k Key) Shredded() bool { return k.state.Shredded() }

// Filler is what stands in a column that takes no NULL.
func (f *Field) Filler() any {
	if f.Text {
		return string(appendText(field.Filler()))
	}
	return field.Filler()
}

// Size is the length of what the column holds.
func (x *Index) Size() int { return x.size() }

// Buried reports that the sealed columns are what they are beside a tombstone.
func (c *Cells) Buried() bool {
	for _, f := range c.group.Fields {
		held := f.cell(c.raw[f.pos].scan(), func(b []byte) []byte { return b })
		if held.status != null && !field.IsFiller(held.sealed) {
			return false
		}
	}
	return true
}

// TypedID writes the parts of a canonical primary key for a ledger.
func TypedID(id string) (parts []string) {
	for _, v := range canon.Values(id) {
		parts = append(parts, v.Typed())
	}
	return parts
}

// SetTypedID gives the row in v, which must be addressable, the primary key that [TypedID] wrote, and returns its canonical form.
func (m *Model) SetTypedID(ctx context.Context, v reflect.Value, parts []string) (string, error) {
	if len(parts) != len(m.ids) {
		return "", fmt.Errorf("%w: %d parts, and %s has %d", ErrIdentity, len(parts), m.Plan.Schema.Name, len(m.ids))
	}
	var want []byte
	for i, text := range parts {
		value, ok := canon.ParseTyped(text)
		if !ok {
			return "", fmt.Errorf("%w: part %d is no value with its type", ErrIdentity, i+1)
		}
		if !setPart(ctx, m.ids[i].column, v, value) {
			return "", fmt.Errorf("%w: part %d does not fit the column %q", ErrIdentity, i+1, m.ids[i].column.DBName)
		}
		want = canon.Append(want, value)
	}
	if id, ok := m.Identity(v); !ok || id != string(want) {
		return "", fmt.Errorf("%w: it does not fit the primary key of %s", ErrIdentity, m.Plan.Schema.Name)
	}
	return string(want), nil
}

func setPart(ctx context.Context, f *schema.Field, v reflect.Value, value canon.Value) bool {
	target := f.ReflectValueOf(ctx, v)
	for target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
		target = target.Elem()
	}
	text := value.String()
	switch kind := target.Kind(); {
	case target.CanInt():
		n, err := strconv.ParseInt(text, 10, target.Type().Bits())
		target.SetInt(n)
		return err == nil
	case target.CanUint():
		n, err := strconv.ParseUint(text, 10, target.Type().Bits())
		target.SetUint(n)
		return err == nil
	case kind == reflect.Bool:
		target.SetBool(text == "true")
	case kind == reflect.String:
		target.SetString(text)
	case kind == reflect.Slice && target.Type().Elem().Kind() == reflect.Uint8:
		target.SetBytes([]byte(value.Raw()))
	case kind == reflect.Array && target.Type().Elem().Kind() == reflect.Uint8 && target.Len() == len(value.Raw()):
		reflect.Copy(target, reflect.ValueOf([]byte(value.Raw())))
	default: // a Valuer of a form of its own
		return f.Set(ctx, v, value.Raw()) == nil || f.Set(ctx, v, text) == nil
	}
	return true
}
