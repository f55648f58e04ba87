// project.go owns opened values outside their model's struct: what a row of a result holds in place of ciphertext, and how a struct of the
// model takes it back.

package row

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/rowseal/rowseal/field"
)

// The types of marked values. What scans a marked value is not known beforehand: a variable of the application, which gets the plain
// value by its kind, or a struct of the model, which must not take anything for opened that this package did not open. database/sql quotes
// values that it cannot convert in its errors; these print as "***".
type (
	openText  string
	openJSON  string
	openBytes []byte
	openInt   int64
	openUint  uint64
	openFloat float64
	openBool  int64 // 0 or 1; database/sql converts no bool but bool itself
	openTime  time.Time
	openValue struct{ value any } // of a Valuer, for structs of the model alone
)

// Marks says how values are marked.
type Marks byte

// The ways of marking.
const (
	Unmarked       Marks = iota // for structs, maps and variables that are no model's
	MarkedByHand                // for whoever the application hands the rows to
	MarkedForModel              // for a struct with fields of a model
)

func (openText) Format(s fmt.State, _ rune)  { _, _ = io.WriteString(s, redacted) }
func (openJSON) Format(s fmt.State, _ rune)  { _, _ = io.WriteString(s, redacted) }
func (openBytes) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }
func (openInt) Format(s fmt.State, _ rune)   { _, _ = io.WriteString(s, redacted) }
func (openUint) Format(s fmt.State, _ rune)  { _, _ = io.WriteString(s, redacted) }
func (openFloat) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }
func (openBool) Format(s fmt.State, _ rune)  { _, _ = io.WriteString(s, redacted) }
func (openTime) Format(s fmt.State, _ rune)  { _, _ = io.WriteString(s, redacted) }
func (openValue) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalJSON is the JSON itself: GORM's json serializer marshals what is neither text nor bytes before it reads it.
func (v openJSON) MarshalJSON() ([]byte, error) { return []byte(v), nil }

// keyHandle stands for a key column that was read beside opened values. A struct of the model takes the row's state from it.
type keyHandle struct{ state *State }

// String is what [Key] shows.
func (h *keyHandle) String() string { return Key{h.state}.String() }

// Format prints [keyHandle.String].
func (h *keyHandle) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, h.String()) }

// Opened gives the value of a sealed field of the row in v, after [Epoch.Reveal], for whatever scans it. Unmarked, it is what a driver
// would give for the field in plain, or the Go value where no driver has one.
func Opened(f *Field, v reflect.Value, marks Marks) (any, error) {
	marked := marks != Unmarked
	target, ok := follow(v, f.path)
	s := f.Group.State(v)
	if !ok || s == nil || s.isNull(f) && (marks == MarkedForModel || !s.Shredded()) {
		return nil, nil // NULL
	}
	// A shredded row's is the zero value, like that of its struct, where the field's type has no NULL: a page must not fail for what does not scan one.
	if f.Secret {
		return target.Interface(), nil
	}
	for target.Kind() == reflect.Pointer {
		if target.IsNil() {
			return nil, nil // NULL
		}
		target = target.Elem()
	}
	fails := func() (any, error) {
		return nil, fmt.Errorf("rowseal: read %s: %w: a %s cannot be scanned from a row; read it with Find", f.Place(), ErrUnsupported, f.Column.FieldType)
	}
	if f.JSON {
		if !marked {
			return target.Interface(), nil
		}
		text, err := json.Marshal(target.Interface())
		if err != nil {
			return fails()
		}
		return openJSON(text), nil
	}
	if t, ok := target.Interface().(time.Time); ok {
		if marked {
			return openTime(t), nil
		}
		return t, nil
	}
	if valuer, ok := target.Addr().Interface().(driver.Valuer); ok {
		if marks == MarkedForModel {
			return openValue{target.Interface()}, nil
		}
		// Not marked in other hands: its own Scan decides, and knows what drivers give. A struct of the model refuses it.
		value, err := valuer.Value()
		if err != nil {
			return fails()
		}
		return value, nil
	}
	if value, ok := basic(target, marked); ok {
		return value, nil
	}
	if !marked {
		return target.Interface(), nil
	}
	if m, ok := target.Addr().Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			return fails()
		}
		return openText(text), nil
	}
	return fails()
}

// basic gives values of the kinds that drivers know.
func basic(v reflect.Value, marked bool) (any, bool) {
	pick := func(plain, mark any) (any, bool) {
		if marked {
			return mark, true
		}
		return plain, true
	}
	switch v.Kind() {
	case reflect.String:
		return pick(v.String(), openText(v.String()))
	case reflect.Bool:
		if v.Bool() {
			return pick(true, openBool(1))
		}
		return pick(false, openBool(0))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return pick(v.Int(), openInt(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return pick(v.Uint(), openUint(v.Uint()))
	case reflect.Float32:
		return pick(v.Interface(), openFloat(v.Float()))
	case reflect.Float64:
		return pick(v.Float(), openFloat(v.Float()))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return pick(bytes.Clone(v.Bytes()), openBytes(bytes.Clone(v.Bytes())))
		}
	case reflect.Array:
		if marked && v.Type().Elem().Kind() == reflect.Uint8 {
			return openBytes(bytes.Clone(v.Bytes())), true
		}
	}
	return nil, false
}

// LooksSealed reports a value of the database that has the form of a sealed field.
func LooksSealed(value driver.Value) bool {
	var raw []byte
	switch value := value.(type) {
	case []byte:
		raw = value
	case string:
		raw = []byte(value)
	}
	if len(raw) == 0 {
		return false
	}
	_, bytesErr := field.KeyID(raw)
	_, textErr := field.ParseText(string(raw))
	return bytesErr == nil || textErr == nil
}

// KeyOf is what stands for a group's key column beside opened values; nil for NULL.
func KeyOf(g *Group, v reflect.Value) any {
	s := g.State(v)
	if s.Text() == "" {
		return nil
	}
	return &keyHandle{s}
}

// The types that GORM scans into a map by, from rows whose columns have no field.
type (
	// MapKey gives the text of a key column.
	MapKey struct{ text string }
	// MapSecret gives a Secret as it is.
	MapSecret struct{ value any }
)

// Scan takes what [KeyOf] gave.
func (k *MapKey) Scan(src any) error {
	if h, ok := src.(*keyHandle); ok {
		k.text = h.state.Text()
		return nil
	}
	return (*Key)(nil).Scan(src)
}

// Value is the envelope, which GORM puts into the map.
func (k MapKey) Value() (driver.Value, error) { return k.text, nil }

// Scan takes a Secret.
func (s *MapSecret) Scan(src any) error {
	s.value = src
	return nil
}

// Value is the Secret, which GORM puts into the map.
func (s MapSecret) Value() (driver.Value, error) { return s.value, nil }

// ScanType is the type that a map gets for f from marked values.
func (f *Field) ScanType() reflect.Type {
	switch {
	case f.Secret:
		return reflect.TypeFor[MapSecret]()
	case f.JSON:
		return reflect.TypeFor[string]()
	}
	return f.Column.FieldType
}

// isOpened reports a marked value or a Secret. It is false for anything else, ciphertext first of all.
func isOpened(src any) bool {
	switch src.(type) {
	case []byte, string, nil:
		return false // what drivers give
	case openText, openJSON, openBytes, openInt, openUint, openFloat, openBool, openTime, openValue:
		return true
	}
	return isSecret(reflect.TypeOf(src))
}

// take puts an opened value into the Go field of v, beside the row's state.
func (f *Field) take(ctx context.Context, v reflect.Value, value any) error {
	target := f.Column.ReflectValueOf(ctx, v)
	if value == nil {
		if err := f.Codec.SetNull(target); err != nil {
			return err
		}
	} else if err := f.fill(target, value); err != nil {
		return fmt.Errorf("rowseal: set %s: %w (the value is left out)", f.Place(), ErrType)
	}
	if !f.Group.Plan.bound {
		return nil // a struct around the model, or like it: its states would be of no use to the model
	}
	for _, g := range f.Group.Plan.Groups {
		k, ok := follow(v, g.path)
		if !ok || k.Interface().(Key).state != nil {
			continue
		}
		// The key column may not be part of the result. The state says what was read, so that a write can leave alone what was not.
		s := newState(g)
		s.epoch = passed
		g.SetState(v, s)
	}
	s := f.Group.State(v)
	if s == nil || s.epoch != passed {
		return nil // the key column came first, with a state that knows the field
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c := &s.cells[f.pos]; {
	case value == nil:
		c.status = null
	case !f.Secret: // a zero Secret is never written
		c.status = opened
	}
	return nil
}

// passed marks the states of rows that came through rows of the application's own hands, without their key columns.
var passed = &Epoch{}

func (f *Field) fill(target reflect.Value, value any) error {
	if f.Secret {
		return setSecret(target, value, f)
	}
	elem := target
	for elem.Kind() == reflect.Pointer {
		elem.Set(reflect.New(elem.Type().Elem()))
		elem = elem.Elem()
	}
	switch value := value.(type) {
	case openJSON:
		return json.Unmarshal([]byte(value), elem.Addr().Interface())
	case openValue:
		elem.Set(reflect.ValueOf(value.value))
	case openTime:
		elem.Set(reflect.ValueOf(time.Time(value)))
	case openBytes:
		if elem.Kind() == reflect.Array {
			reflect.Copy(elem, reflect.ValueOf([]byte(value)))
			return nil
		}
		elem.SetBytes(bytes.Clone(value))
	case openText:
		if elem.Kind() == reflect.String {
			elem.SetString(string(value))
			return nil
		}
		return elem.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(value))
	case openInt:
		elem.SetInt(int64(value))
	case openUint:
		elem.SetUint(uint64(value))
	case openFloat:
		elem.SetFloat(float64(value))
	case openBool:
		elem.SetBool(value == 1)
	default:
		return ErrType
	}
	return nil
}
