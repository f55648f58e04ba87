// codec.go owns the plaintext of a field: which Go types can be sealed, and as which bytes (docs/format.md, section 7).

package field

import (
	"database/sql"
	"database/sql/driver"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

// The kinds, one byte before each payload.
const (
	kindString = 0x01
	kindBytes  = 0x02
	kindBool   = 0x03
	kindInt    = 0x04
	kindUint   = 0x05
	kindFloat  = 0x06
	kindTime   = 0x07
	kindText   = 0x08
	kindJSON   = 0x09
)

// maxZone bounds a zone abbreviation. Real ones have at most 6 bytes; time.FixedZone takes anything.
const maxZone = 64

// maxValue bounds what is sealed: 1 GiB, the largest value of a Postgres column.
const maxValue = 1<<30 - 64

// Codec turns values of one Go type into the bytes that are sealed, and back. It is safe for concurrent use.
type Codec struct {
	typ    reflect.Type
	append func(dst []byte, v reflect.Value) ([]byte, error) // nil, nil for NULL
	set    func(v reflect.Value, kind byte, payload []byte) error
}

// CodecFor finds the codec of a type: strings, []byte and [n]byte, bool, all integers and floats, time.Time, types with
// driver.Valuer and sql.Scanner (sql.Null among them), types with encoding.TextMarshaler and encoding.TextUnmarshaler (decimals,
// netip.Addr), and pointers to all of these. Anything else is an error that says so. With asJSON every type goes through
// encoding/json, these too.
//
// A value that implements several of these is sealed by the first that fits, in the order above except that named types with
// methods come before their underlying kinds.
func CodecFor(t reflect.Type, asJSON bool) (*Codec, error) {
	if asJSON {
		return &Codec{t, appendJSON, setJSON}, nil
	}
	if t.Kind() == reflect.Pointer {
		elem, err := CodecFor(t.Elem(), false)
		if err != nil || t.Elem().Kind() == reflect.Pointer {
			return nil, unsupported(t)
		}
		return pointerCodec(t, elem), nil
	}
	ptr := reflect.PointerTo(t)
	switch {
	case t == timeType:
		return &Codec{t, appendTimeValue, setTime}, nil
	case ptr.Implements(valuerType) && ptr.Implements(scannerType):
		return &Codec{t, appendValuer, setScanner}, nil
	case ptr.Implements(textMarshalerType) && ptr.Implements(textUnmarshalerType):
		return &Codec{t, appendTextMarshaler, setKind(kindText, setTextUnmarshaler)}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return &Codec{t, appendString, setString}, nil
	case reflect.Bool:
		return &Codec{t, appendBool, setKind(kindBool, setBool)}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return &Codec{t, appendInt, setInteger}, nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &Codec{t, appendUint, setInteger}, nil
	case reflect.Float32, reflect.Float64:
		return &Codec{t, appendFloat, setKind(kindFloat, setFloat)}, nil
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return &Codec{t, appendBytes, setBytes}, nil
		}
	case reflect.Array:
		if t.Elem() == reflect.TypeFor[byte]() {
			return &Codec{t, appendArray, setKind(kindBytes, setArray)}, nil
		}
	}
	return nil, unsupported(t)
}

func unsupported(t reflect.Type) error {
	return fmt.Errorf("field: type %s cannot be sealed as it is; tag it rowseal:\"json\", or give it driver.Valuer and sql.Scanner", t)
}

var (
	timeType            = reflect.TypeFor[time.Time]()
	valuerType          = reflect.TypeFor[driver.Valuer]()
	scannerType         = reflect.TypeFor[sql.Scanner]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// Append appends the plaintext of v, which must have the codec's type. null reports that v is stored as NULL and nothing was
// appended. Errors do not hold the value.
func (c *Codec) Append(dst []byte, v reflect.Value) (out []byte, null bool, err error) {
	out, err = c.append(dst, v)
	if err != nil {
		return nil, false, fmt.Errorf("field: encode %s: %w", c.typ, err)
	}
	if len(out)-len(dst) > maxValue {
		return nil, false, fmt.Errorf("field: encode %s: larger than 1 GiB", c.typ)
	}
	if out == nil {
		return dst, true, nil
	}
	return out, false, nil
}

// Set decodes plaintext into v, which must be settable and have the codec's type. It copies what it keeps. It fails with
// [ErrType] where the value does not fit without loss, and then v is unchanged or zero.
func (c *Codec) Set(v reflect.Value, plaintext []byte) error {
	if len(plaintext) == 0 {
		return fmt.Errorf("field: decode %s: %w", c.typ, ErrMalformed)
	}
	if err := c.set(v, plaintext[0], plaintext[1:]); err != nil {
		return fmt.Errorf("field: decode %s into %s: %w", kindName(plaintext[0]), c.typ, err)
	}
	return nil
}

// SetNull sets v to what NULL is in its type: nil, the zero value, or what Scan(nil) makes of it.
func (c *Codec) SetNull(v reflect.Value) error {
	v.SetZero()
	if s, ok := v.Addr().Interface().(sql.Scanner); ok {
		if err := s.Scan(nil); err != nil {
			return fmt.Errorf("field: decode NULL into %s: %w", c.typ, ErrType)
		}
	}
	return nil
}

func kindName(kind byte) string {
	names := [...]string{"", "string", "bytes", "bool", "int", "uint", "float", "time", "text", "json"}
	if kind == 0 || int(kind) >= len(names) {
		return fmt.Sprintf("kind 0x%02x", kind)
	}
	return names[kind]
}

// setKind is a setter for values of one kind alone.
func setKind(want byte, set func(reflect.Value, []byte) error) func(reflect.Value, byte, []byte) error {
	return func(v reflect.Value, kind byte, payload []byte) error {
		// Text and string are both text; a column may move from one to the other.
		if kind != want && !(want == kindText && kind == kindString) {
			return ErrType
		}
		return set(v, payload)
	}
}

func pointerCodec(t reflect.Type, elem *Codec) *Codec {
	return &Codec{
		typ: t,
		append: func(dst []byte, v reflect.Value) ([]byte, error) {
			if v.IsNil() {
				return nil, nil
			}
			return elem.append(dst, v.Elem())
		},
		set: func(v reflect.Value, kind byte, payload []byte) error {
			p := reflect.New(elem.typ)
			if err := elem.set(p.Elem(), kind, payload); err != nil {
				return err
			}
			v.Set(p)
			return nil
		},
	}
}

func appendString(dst []byte, v reflect.Value) ([]byte, error) {
	return append(append(dst, kindString), v.String()...), nil
}

func setString(v reflect.Value, kind byte, payload []byte) error {
	if kind != kindString && kind != kindText {
		return ErrType
	}
	v.SetString(string(payload))
	return nil
}

func appendBytes(dst []byte, v reflect.Value) ([]byte, error) {
	if v.IsNil() {
		return nil, nil
	}
	return append(append(dst, kindBytes), v.Bytes()...), nil
}

func setBytes(v reflect.Value, kind byte, payload []byte) error {
	// A string column may become bytes: nothing is lost. The other way round, bytes need not be text.
	if kind != kindBytes && kind != kindString {
		return ErrType
	}
	v.SetBytes(append([]byte{}, payload...)) // never nil: nil is NULL
	return nil
}

func appendArray(dst []byte, v reflect.Value) ([]byte, error) {
	dst = append(dst, kindBytes)
	for i := range v.Len() { // v need not be addressable, so Bytes could panic
		dst = append(dst, byte(v.Index(i).Uint()))
	}
	return dst, nil
}

func setArray(v reflect.Value, payload []byte) error {
	if len(payload) != v.Len() {
		return ErrType
	}
	reflect.Copy(v, reflect.ValueOf(payload))
	return nil
}

func appendBool(dst []byte, v reflect.Value) ([]byte, error) {
	if v.Bool() {
		return append(dst, kindBool, 1), nil
	}
	return append(dst, kindBool, 0), nil
}

func setBool(v reflect.Value, payload []byte) error {
	if len(payload) != 1 || payload[0] > 1 {
		return ErrMalformed
	}
	v.SetBool(payload[0] == 1)
	return nil
}

func appendInt(dst []byte, v reflect.Value) ([]byte, error) {
	return binary.BigEndian.AppendUint64(append(dst, kindInt), uint64(v.Int())), nil
}

func appendUint(dst []byte, v reflect.Value) ([]byte, error) {
	return binary.BigEndian.AppendUint64(append(dst, kindUint), v.Uint()), nil
}

// setInteger accepts either integer kind where the number fits: a column may change its width or sign.
func setInteger(v reflect.Value, kind byte, payload []byte) error {
	if kind != kindInt && kind != kindUint {
		return ErrType
	}
	if len(payload) != 8 {
		return ErrMalformed
	}
	u := binary.BigEndian.Uint64(payload)
	if v.CanInt() {
		i := int64(u)
		if v.OverflowInt(i) || (kind == kindUint && i < 0) {
			return ErrType
		}
		v.SetInt(i)
		return nil
	}
	if v.OverflowUint(u) || (kind == kindInt && int64(u) < 0) {
		return ErrType
	}
	v.SetUint(u)
	return nil
}

func appendFloat(dst []byte, v reflect.Value) ([]byte, error) {
	return binary.BigEndian.AppendUint64(append(dst, kindFloat), math.Float64bits(v.Float())), nil
}

func setFloat(v reflect.Value, payload []byte) error {
	if len(payload) != 8 {
		return ErrMalformed
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(payload))
	// A float32 column reads what float32 wrote; a value that would be rounded is a loss.
	if v.Kind() == reflect.Float32 && float64(float32(f)) != f && !math.IsNaN(f) {
		return ErrType
	}
	v.SetFloat(f)
	return nil
}

func appendTimeValue(dst []byte, v reflect.Value) ([]byte, error) {
	return appendTime(dst, v.Interface().(time.Time))
}

// appendTime keeps the instant to the nanosecond, the offset and the abbreviation. The rules of a location are not kept: they
// change, and the reader's zone database may lack it.
func appendTime(dst []byte, t time.Time) ([]byte, error) {
	zone, offset := t.Zone()
	if t.Location() == time.UTC {
		zone = ""
	}
	if int(int32(offset)) != offset {
		return nil, errors.New("the time zone's offset is longer than 68 years")
	}
	if len(zone) > maxZone {
		return nil, errors.New("the time zone's abbreviation is longer than 64 bytes")
	}
	dst = append(dst, kindTime)
	dst = binary.BigEndian.AppendUint64(dst, uint64(t.Unix()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Nanosecond()))
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(offset)))
	return append(dst, zone...), nil
}

func parseTime(payload []byte) (time.Time, error) {
	if len(payload) < 16 || len(payload) > 16+maxZone {
		return time.Time{}, ErrMalformed
	}
	sec := int64(binary.BigEndian.Uint64(payload))
	nsec := binary.BigEndian.Uint32(payload[8:])
	offset := int32(binary.BigEndian.Uint32(payload[12:]))
	if nsec >= 1e9 {
		return time.Time{}, ErrMalformed
	}
	t := time.Unix(sec, int64(nsec))
	if offset == 0 && len(payload) == 16 {
		return t.UTC(), nil
	}
	return t.In(time.FixedZone(string(payload[16:]), int(offset))), nil
}

func setTime(v reflect.Value, kind byte, payload []byte) error {
	if kind != kindTime {
		return ErrType
	}
	t, err := parseTime(payload)
	if err != nil {
		return err
	}
	v.Set(reflect.ValueOf(t))
	return nil
}

// addressable gives a pointer to v, or to a copy where v has no address (map values, structs passed by value).
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}

// The errors of users' own methods are dropped below, here and in the setters: they like to quote the value.

func appendValuer(dst []byte, v reflect.Value) ([]byte, error) {
	value, err := addressable(v).Interface().(driver.Valuer).Value()
	if err != nil {
		return nil, errors.New("its Value method failed (its error is left out, as it may hold the value)")
	}
	switch value := value.(type) {
	case nil:
		return nil, nil
	case string:
		return append(append(dst, kindString), value...), nil
	case []byte:
		if value == nil {
			return nil, nil
		}
		return append(append(dst, kindBytes), value...), nil
	case bool:
		return appendBool(dst, reflect.ValueOf(value))
	case int64:
		return appendInt(dst, reflect.ValueOf(value))
	case float64:
		return appendFloat(dst, reflect.ValueOf(value))
	case time.Time:
		return appendTime(dst, value)
	default:
		return nil, fmt.Errorf("its Value method gave a %T, which is not a driver.Value", value)
	}
}

func setScanner(v reflect.Value, kind byte, payload []byte) error {
	var value any
	switch kind {
	case kindString, kindText:
		value = string(payload)
	case kindBytes:
		value = append([]byte{}, payload...)
	case kindTime:
		t, err := parseTime(payload)
		if err != nil {
			return err
		}
		value = t
	case kindBool:
		var b bool
		if err := setBool(reflect.ValueOf(&b).Elem(), payload); err != nil {
			return err
		}
		value = b
	case kindInt, kindUint:
		var i int64
		if err := setInteger(reflect.ValueOf(&i).Elem(), kind, payload); err != nil {
			return err
		}
		value = i
	case kindFloat:
		var f float64
		if err := setFloat(reflect.ValueOf(&f).Elem(), payload); err != nil {
			return err
		}
		value = f
	default:
		return ErrType
	}
	if scan(v, value) {
		return nil
	}
	// Drivers differ in whether text comes as string or []byte, so a type written against one may refuse the other, even what its
	// own Value gave. It would be sealed and never open again.
	switch value := value.(type) {
	case string:
		if scan(v, []byte(value)) {
			return nil
		}
	case []byte:
		if scan(v, string(value)) {
			return nil
		}
	}
	return ErrType
}

// scan scans into a fresh value: a Scanner that merges into its receiver must not see what was there.
func scan(v reflect.Value, value any) bool {
	p := reflect.New(v.Type())
	if err := p.Interface().(sql.Scanner).Scan(value); err != nil {
		return false
	}
	v.Set(p.Elem())
	return true
}

func appendTextMarshaler(dst []byte, v reflect.Value) ([]byte, error) {
	text, err := addressable(v).Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return nil, errors.New("its MarshalText method failed (its error is left out, as it may hold the value)")
	}
	return append(append(dst, kindText), text...), nil
}

func setTextUnmarshaler(v reflect.Value, payload []byte) error {
	p := reflect.New(v.Type())
	if err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText(append([]byte{}, payload...)); err != nil {
		return ErrType
	}
	v.Set(p.Elem())
	return nil
}

func appendJSON(dst []byte, v reflect.Value) ([]byte, error) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil
	}
	text, err := json.Marshal(addressable(v).Interface())
	if err != nil {
		return nil, errors.New("encoding/json failed (its error is left out, as it may hold the value)")
	}
	return append(append(dst, kindJSON), text...), nil
}

func setJSON(v reflect.Value, kind byte, payload []byte) error {
	if kind != kindJSON {
		return ErrType
	}
	p := reflect.New(v.Type())
	if err := json.Unmarshal(payload, p.Interface()); err != nil {
		return ErrType
	}
	v.Set(p.Elem())
	return nil
}
