// key.go owns the key field of a model: an opaque handle to the row's key, which travels with copies of the struct.

package row

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
)

// RowKey gives a model its key column, encrypted_kms_key. Embed it. It has no methods, because the methods of an embedded type
// become the model's own; what it holds is a [Key].
type RowKey struct {
	EncryptedKMSKey Key `gorm:"column:encrypted_kms_key" json:"-"`
}

// Key is a key column of a model: the row's data key, wrapped, as the database holds it, and what the plugin knows of it in
// memory. The plugin alone reads and writes it. A copy of a struct shares its Key; that is safe, since a Key is bound to its row
// and is left aside where the row is another. The zero Key is a row that was not stored yet.
//
// Key prints as nothing but the version of its envelope.
type Key struct {
	// A pointer, so that it survives the copies GORM makes of a struct between scanning and handing it out.
	state *State
}

// Envelope is the key column as it was last read or written: "v1:…". It is not secret. It is "" for a row that was not stored.
func (k Key) Envelope() string {
	if k.state == nil {
		return ""
	}
	k.state.mu.Lock()
	defer k.state.mu.Unlock()
	if k.state.token {
		return ""
	}
	return k.state.text
}

// String is the version of the envelope, for instance "rowseal.Key(v1)".
func (k Key) String() string {
	text := k.Envelope()
	for i := range len(text) {
		if text[i] == ':' {
			return "rowseal.Key(" + text[:i] + ")"
		}
	}
	return "rowseal.Key()"
}

// Format prints [Key.String] for every verb.
func (k Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// GoString is [Key.String].
func (k Key) GoString() string { return k.String() }

// LogValue logs [Key.String].
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON writes null: a key column is no part of an API.
func (k Key) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON accepts null alone.
func (k *Key) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	return fmt.Errorf("rowseal: key from JSON: %w", ErrKeyColumn)
}

// Value refuses: GORM takes keys through the plugin, and nothing else may write one.
func (k Key) Value() (driver.Value, error) {
	return nil, fmt.Errorf("rowseal: key as a query argument: %w", ErrKeyColumn)
}

// Scan refuses: rows are read through models. A key that was read beside opened values is taken.
func (k *Key) Scan(src any) error {
	if h, ok := src.(*keyHandle); ok {
		k.state = h.state
		return nil
	}
	return fmt.Errorf("rowseal: scan of a key column: %w; load the row through its model", ErrUnsupported)
}

// GormDataType keeps GORM from looking into the struct for a type; the column type is set by the parse hook.
func (Key) GormDataType() string { return "string" }

// State gives the state of the row in v, nil where there is none.
func (g *Group) State(v reflect.Value) *State {
	f, ok := follow(v, g.path)
	if !ok {
		return nil
	}
	return f.Interface().(Key).state
}

// Present reports whether the row in v has the key field: a nil embedded pointer does not.
func (g *Group) Present(v reflect.Value) bool {
	_, ok := follow(v, g.path)
	return ok
}

// SetState puts a state into the row in v. It does nothing where v cannot be changed or an embedded pointer is nil.
func (g *Group) SetState(v reflect.Value, s *State) {
	if f, ok := follow(v, g.path); ok && f.CanSet() {
		f.Set(reflect.ValueOf(Key{s}))
	}
}

// KeyValue is what GORM is given for a key column. Only the plugin arms it.
type KeyValue struct {
	group *Group
	state *State
	text  string // set by Arm
}

// NewKeyValue is the value of a key column that the plugin writes itself.
func NewKeyValue(g *Group, s *State) *KeyValue { return &KeyValue{group: g, state: s} }

// Group is the key column's group.
func (k *KeyValue) Group() *Group { return k.group }

// Arm makes the value text that the column may get: the gate calls it for a row that is being inserted under its own state.
func (k *KeyValue) Arm(text string) { k.text = text }

// Armed reports whether the plugin meant the column to be written.
func (k *KeyValue) Armed() bool { return k.text != "" }

// Value is the text for the database, and an error before [KeyValue.Arm].
func (k *KeyValue) Value() (driver.Value, error) {
	if k.text == "" {
		return nil, errors.New("rowseal: internal error: a key column without its key")
	}
	return k.text, nil
}

// String prints no key.
func (k *KeyValue) String() string { return "rowseal.KeyValue" }
