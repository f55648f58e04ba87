package field_test

import (
	"bytes"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rowseal/rowseal/field"
)

type (
	name  string
	blob  []byte
	octet byte
	level int8

	// cents has its Valuer on the value and its Scanner on the pointer, as is usual.
	cents struct{ n int64 }
	// token has both on the pointer.
	token struct{ s string }
	// tags give NULL for none.
	tags []string
	// onlyBytes reads []byte alone and gives a string, as types do that were written against MySQL.
	onlyBytes struct{ s string }
	// onlyString is the opposite.
	onlyString struct{ s string }
	// merger adds to what it holds.
	merger struct{ all []string }
	// shade has MarshalText on the value.
	shade uint8
	// writeOnly has no Scanner, so that its Valuer does not count.
	writeOnly string

	profile struct {
		Name  string            `json:"name"`
		Tags  []string          `json:"tags,omitempty"`
		Extra map[string]int    `json:"extra,omitempty"`
		Next  *profile          `json:"next,omitempty"`
		Any   map[string]any    `json:"any,omitempty"`
		Times map[int]time.Time `json:"times,omitempty"`
	}
)

func (c cents) Value() (driver.Value, error) { return c.n, nil }
func (c *cents) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("cents: %v", v)
	}
	c.n = n
	return nil
}

func (k *token) Value() (driver.Value, error) { return []byte(k.s), nil }
func (k *token) Scan(v any) error             { k.s = string(v.([]byte)); return nil }

func (l tags) Value() (driver.Value, error) {
	if len(l) == 0 {
		return nil, nil
	}
	return strings.Join(l, ","), nil
}
func (l *tags) Scan(v any) error {
	if *l = nil; v != nil {
		*l = strings.Split(v.(string), ",")
	}
	return nil
}

func (o onlyBytes) Value() (driver.Value, error) { return o.s, nil }
func (o *onlyBytes) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok {
		return errors.New("want []byte")
	}
	o.s = string(b)
	return nil
}

func (o onlyString) Value() (driver.Value, error) { return []byte(o.s), nil }
func (o *onlyString) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return errors.New("want string")
	}
	o.s = s
	return nil
}

func (m merger) Value() (driver.Value, error) { return strings.Join(m.all, ","), nil }
func (m *merger) Scan(v any) error            { m.all = append(m.all, v.(string)); return nil }

func (s shade) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "shade-%d", uint8(s)), nil }
func (s *shade) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "shade-%d", (*uint8)(s))
	return err
}

func (writeOnly) Value() (driver.Value, error) { return "other", nil }

func ptr[T any](v T) *T { return &v }

var (
	berlin = time.FixedZone("CEST", 2*3600)
	moment = time.Date(1815, 12, 10, 13, 14, 15, 123456789, berlin)
)

// roundTrips are values with the plaintext that they have had since the first release, as kind and payload.
var roundTrips = []struct {
	name      string
	value     any
	json      bool
	plaintext string
}{
	{"a string", "Ada", false, "01 416461"},
	{"an empty string", "", false, "01"},
	{"a string that is not UTF-8", "\xff\x00", false, "01 ff00"},
	{"a named string", name("Ada"), false, "01 416461"},
	{"a string with a Valuer and no Scanner", writeOnly("own"), false, "01 6f776e"},
	{"bytes", []byte{0, 0xFF}, false, "02 00ff"},
	{"empty bytes", []byte{}, false, "02"},
	{"named bytes", blob{7}, false, "02 07"},
	{"bytes of a named byte", []octet{7, 8}, false, "02 0708"},
	{"json.RawMessage as bytes", json.RawMessage(`{}`), false, "02 7b7d"},
	{"a 16 byte array", [16]byte{1, 15: 2}, false, "02 01000000000000000000000000000002"},
	{"an empty array", [0]byte{}, false, "02"},
	{"true", true, false, "03 01"},
	{"false", false, false, "03 00"},
	{"int zero", 0, false, "04 0000000000000000"},
	{"int -1", -1, false, "04 ffffffffffffffff"},
	{"int8 least", int8(math.MinInt8), false, "04 ffffffffffffff80"},
	{"int8 greatest", int8(math.MaxInt8), false, "04 000000000000007f"},
	{"int16 least", int16(math.MinInt16), false, "04 ffffffffffff8000"},
	{"int16 greatest", int16(math.MaxInt16), false, "04 0000000000007fff"},
	{"int32 least", int32(math.MinInt32), false, "04 ffffffff80000000"},
	{"int32 greatest", int32(math.MaxInt32), false, "04 000000007fffffff"},
	{"int64 least", int64(math.MinInt64), false, "04 8000000000000000"},
	{"int64 greatest", int64(math.MaxInt64), false, "04 7fffffffffffffff"},
	{"a named int", level(-3), false, "04 fffffffffffffffd"},
	{"a duration", time.Second, false, "04 000000003b9aca00"},
	{"uint", uint(1), false, "05 0000000000000001"},
	{"uint8 greatest", uint8(math.MaxUint8), false, "05 00000000000000ff"},
	{"uint16 greatest", uint16(math.MaxUint16), false, "05 000000000000ffff"},
	{"uint32 greatest", uint32(math.MaxUint32), false, "05 00000000ffffffff"},
	{"uint64 greatest", uint64(math.MaxUint64), false, "05 ffffffffffffffff"},
	{"a float", 1.5, false, "06 3ff8000000000000"},
	{"minus zero", math.Copysign(0, -1), false, "06 8000000000000000"},
	{"infinity", math.Inf(1), false, "06 7ff0000000000000"},
	{"minus infinity", math.Inf(-1), false, "06 fff0000000000000"},
	{"NaN", math.NaN(), false, "06 7ff8000000000001"},
	{"the least float", math.SmallestNonzeroFloat64, false, "06 0000000000000001"},
	{"a float32", float32(0.1), false, "06 3fb99999a0000000"},
	{"the greatest float32", float32(math.MaxFloat32), false, "06 47efffffe0000000"},
	{"float32 NaN", float32(math.NaN()), false, "06 7ff8000000000000"},
	{"float32 infinity", float32(math.Inf(-1)), false, "06 fff0000000000000"},
	{"a time with zone and nanoseconds", moment, false, "07 fffffffede388907 075bcd15 00001c20 43455354"},
	{"the zero time", time.Time{}, false, "07 fffffff1886e0900 00000000 00000000"},
	{"the epoch in UTC", time.Unix(0, 0).UTC(), false, "07 0000000000000000 00000000 00000000"},
	{"a zone called UTC that is not UTC", time.Unix(0, 0).In(time.FixedZone("UTC", 0)), false, "07 0000000000000000 00000000 00000000 555443"},
	{"a zone without a name", time.Unix(0, 0).In(time.FixedZone("", -3600)), false, "07 0000000000000000 00000000 fffff1f0"},
	{"a zone with seconds", time.Unix(0, 0).In(time.FixedZone("LMT", -1172)), false, "07 0000000000000000 00000000 fffffb6c 4c4d54"},
	{"a zone of 64 bytes", time.Unix(0, 0).In(time.FixedZone(strings.Repeat("z", 64), 1)), false, "07 0000000000000000 00000000 00000001 " + strings.Repeat("7a", 64)},
	{"a far time", time.Unix(math.MaxInt64, 999999999).UTC(), false, "07 7fffffffffffffff 3b9ac9ff 00000000"},
	{"sql.NullString", sql.NullString{String: "", Valid: true}, false, "01"},
	{"sql.NullInt64", sql.NullInt64{Int64: -1, Valid: true}, false, "04 ffffffffffffffff"},
	{"sql.NullInt16", sql.NullInt16{Int16: 5, Valid: true}, false, "04 0000000000000005"},
	{"sql.NullByte", sql.NullByte{Byte: 255, Valid: true}, false, "04 00000000000000ff"},
	{"sql.NullBool", sql.NullBool{Bool: true, Valid: true}, false, "03 01"},
	{"sql.NullFloat64", sql.NullFloat64{Float64: 1.5, Valid: true}, false, "06 3ff8000000000000"},
	{"sql.NullTime", sql.NullTime{Time: time.Unix(1, 2).UTC(), Valid: true}, false, "07 0000000000000001 00000002 00000000"},
	{"sql.Null of string", sql.Null[string]{V: "Ada", Valid: true}, false, "01 416461"},
	{"sql.Null of uint16", sql.Null[uint16]{V: 9, Valid: true}, false, "04 0000000000000009"},
	{"a Valuer on the value", cents{250}, false, "04 00000000000000fa"},
	{"a Valuer on the pointer", token{"t"}, false, "02 74"},
	{"a slice with Valuer", tags{"a", "b"}, false, "01 612c62"},
	{"a Scanner that takes []byte alone and a Valuer that gives a string", onlyBytes{"x"}, false, "01 78"},
	{"a Scanner that takes string alone and a Valuer that gives []byte", onlyString{"x"}, false, "02 78"},
	{"netip.Addr", netip.MustParseAddr("2001:db8::1"), false, "08 323030313a6462383a3a31"},
	{"the zero netip.Addr", netip.Addr{}, false, "08"},
	{"net.IP", net.IPv4(192, 0, 2, 1), false, "08 3139322e302e322e31"},
	{"big.Int", *big.NewInt(-77), false, "08 2d3737"},
	{"an integer with MarshalText", shade(3), false, "08 73686164652d33"},
	{"a pointer to a string", ptr("Ada"), false, "01 416461"},
	{"a pointer to an empty string", ptr(""), false, "01"},
	{"a pointer to a time", ptr(time.Unix(0, 0).UTC()), false, "07 0000000000000000 00000000 00000000"},
	{"a pointer to bytes", &[]byte{1}, false, "02 01"},
	{"a pointer to a Valuer on the value", &cents{250}, false, "04 00000000000000fa"},
	{"a pointer to a Valuer on the pointer", &token{"t"}, false, "02 74"},
	{"a pointer to a big.Int", big.NewInt(-77), false, "08 2d3737"},
	{"a pointer to sql.NullString", &sql.NullString{String: "x", Valid: true}, false, "01 78"},
	{"a JSON struct", profile{Name: "Ada", Tags: []string{"x"}, Extra: map[string]int{"b": 1, "a": 2}, Next: &profile{}}, true,
		"09" + hex.EncodeToString([]byte(`{"name":"Ada","tags":["x"],"extra":{"a":2,"b":1},"next":{"name":""}}`))},
	{"a JSON map", map[string]string{"k": "v"}, true, "09" + hex.EncodeToString([]byte(`{"k":"v"}`))},
	{"a nil JSON map", map[string]string(nil), true, "09" + hex.EncodeToString([]byte(`null`))},
	{"a JSON slice", []int{1, 2}, true, "09" + hex.EncodeToString([]byte(`[1,2]`))},
	{"an empty JSON slice", []int{}, true, "09" + hex.EncodeToString([]byte(`[]`))},
	{"a pointer to a JSON struct", &profile{Name: "Ada"}, true, "09" + hex.EncodeToString([]byte(`{"name":"Ada"}`))},
	{"a JSON string", "Ada", true, "09" + hex.EncodeToString([]byte(`"Ada"`))},
	{"JSON of a complex struct", url.URL{Scheme: "https", Host: "example.org"}, true, ""},
}

func codec(t testing.TB, typ reflect.Type, asJSON bool) *field.Codec {
	t.Helper()
	c, err := field.CodecFor(typ, asJSON)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// encode appends v, which it passes by value, as a map's values and a callback's copies come.
func encode(t testing.TB, v any, asJSON bool) (plaintext []byte, null bool) {
	t.Helper()
	plaintext, null, err := codec(t, reflect.TypeOf(v), asJSON).Append(nil, reflect.ValueOf(v))
	if err != nil {
		t.Fatal(err)
	}
	return plaintext, null
}

// render shows all of a value that counts, the same in every process and, as far as can be, in every language.
func render(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Time:
		zone, offset := x.Zone()
		return fmt.Sprintf("%d.%09d %+d %q UTC=%v", x.Unix(), x.Nanosecond(), offset, zone, x.Location() == time.UTC)
	case float32:
		return fmt.Sprintf("%v %08x", x, math.Float32bits(x))
	case float64:
		return fmt.Sprintf("%v %016x", x, math.Float64bits(x))
	case []byte:
		return hex.EncodeToString(x)
	case [16]byte:
		return hex.EncodeToString(x[:])
	case big.Int:
		return x.String()
	case netip.Addr:
		return x.String()
	case sql.NullTime:
		return fmt.Sprintf("%s Valid=%v", render(reflect.ValueOf(x.Time)), x.Valid)
	}
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return "&" + render(v.Elem())
	}
	switch b, err := json.Marshal(v.Interface()); {
	case v.Kind() == reflect.String:
		return fmt.Sprintf("%q", v)
	case err != nil || v.Kind() == reflect.Struct && string(b) == "{}":
		return fmt.Sprintf("%#v", v)
	default:
		return string(b)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCodec(t *testing.T) {
	for _, c := range roundTrips {
		t.Run(c.name+" comes back, by its one encoding", func(t *testing.T) {
			plaintext, null := encode(t, c.value, c.json)
			if null {
				t.Fatal("NULL")
			}
			if want := unhex(t, c.plaintext); c.plaintext != "" && !bytes.Equal(plaintext, want) {
				t.Errorf("encoded as %x, want %x", plaintext, want)
			}
			typ := reflect.TypeOf(c.value)
			got := reflect.New(typ).Elem()
			if err := codec(t, typ, c.json).Set(got, plaintext); err != nil {
				t.Fatal(err)
			}
			if typ.Kind() == reflect.Pointer && !c.json {
				// %#v would compare addresses.
				if a, b := render(got.Elem()), render(reflect.ValueOf(c.value).Elem()); a != b {
					t.Errorf("got %s, want %s", a, b)
				}
			} else if !reflect.DeepEqual(got.Interface(), c.value) && render(got) != render(reflect.ValueOf(c.value)) {
				t.Errorf("got %s, want %s", render(got), render(reflect.ValueOf(c.value)))
			}
			clear(plaintext)
			if again, _ := encode(t, got.Interface(), c.json); c.plaintext != "" && !bytes.Equal(again, unhex(t, c.plaintext)) {
				t.Errorf("encoded again, after the plaintext was overwritten, as %x", again)
			}
		})
	}
}

func TestCodec_NULL(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any // stored as NULL, and what NULL gives
		json  bool
	}{
		{"a nil pointer", (*string)(nil), false},
		{"a nil pointer to a Valuer", (*token)(nil), false},
		{"a nil pointer to a struct tagged JSON", (*profile)(nil), true},
		{"nil bytes", []byte(nil), false},
		{"nil named bytes", blob(nil), false},
		{"an invalid sql.NullString", sql.NullString{}, false},
		{"an invalid sql.Null", sql.Null[int]{}, false},
		{"a Valuer that gives nil", tags(nil), false},
	} {
		t.Run(c.name+" is NULL", func(t *testing.T) {
			cc := codec(t, reflect.TypeOf(c.value), c.json)
			out, null, err := cc.Append([]byte("kept"), reflect.ValueOf(c.value))
			if err != nil || !null || string(out) != "kept" {
				t.Errorf("got %q, %v, %v", out, null, err)
			}
			got := reflect.New(reflect.TypeOf(c.value)).Elem()
			if err := cc.SetNull(got); err != nil || !reflect.DeepEqual(got.Interface(), c.value) {
				t.Errorf("NULL gives %#v, %v", got.Interface(), err)
			}
		})
	}
	t.Run("a pointer to a Valuer that gives nil is NULL", func(t *testing.T) {
		if out, null := encode(t, &sql.NullString{}, false); !null || len(out) != 0 {
			t.Errorf("got %x, %v", out, null)
		}
	})
	t.Run("NULL empties what was there", func(t *testing.T) {
		for _, v := range []any{ptr("old"), ptr(name("old")), ptr(7), ptr([]byte("old")), ptr(moment), ptr(tags{"old"}), ptr(sql.NullInt64{Int64: 1, Valid: true}), ptr(ptr("old"))} {
			elem := reflect.ValueOf(v).Elem()
			if err := codec(t, elem.Type(), false).SetNull(elem); err != nil || !elem.IsZero() {
				t.Errorf("%s: %v, %v", elem.Type(), elem, err)
			}
		}
	})
	t.Run("a Scanner that refuses NULL is an error without its text", func(t *testing.T) {
		var c cents
		err := codec(t, reflect.TypeOf(c), false).SetNull(reflect.ValueOf(&c).Elem())
		if !errors.Is(err, field.ErrType) || strings.Contains(err.Error(), "nil") {
			t.Errorf("got %v", err)
		}
	})
}

func TestCodec_dst_is_appended_to(t *testing.T) {
	for _, c := range roundTrips {
		out, _, err := codec(t, reflect.TypeOf(c.value), c.json).Append([]byte("kept"), reflect.ValueOf(c.value))
		want, _ := encode(t, c.value, c.json)
		if err != nil || string(out) != "kept"+string(want) {
			t.Errorf("%s: %x, %v", c.name, out, err)
		}
	}
}

// TestCodec_conversions holds what a column may change its Go type to.
func TestCodec_conversions(t *testing.T) {
	for _, c := range []struct {
		from, to any // to is the value expected, or the zero value of its type where err is set
		err      error
	}{
		{int8(-5), int64(-5), nil},
		{int64(127), int8(127), nil},
		{int64(128), int8(0), field.ErrType},
		{int64(-129), int8(0), field.ErrType},
		{uint8(200), int16(200), nil},
		{uint8(200), int8(0), field.ErrType},
		{int32(5), uint64(5), nil},
		{int32(-5), uint64(0), field.ErrType},
		{int64(256), uint8(0), field.ErrType},
		{uint64(math.MaxInt64), int64(math.MaxInt64), nil},
		{uint64(math.MaxInt64 + 1), int64(0), field.ErrType},
		{uint64(math.MaxUint64), int(0), field.ErrType},
		{uint64(math.MaxUint64), sql.NullInt64{}, field.ErrType},
		{uint32(7), sql.NullInt64{Int64: 7, Valid: true}, nil},
		{int64(7), ptr(7), nil},
		{ptr(7), uint8(7), nil},
		{cents{7}, 7, nil},
		{7, cents{7}, nil},
		{float32(0.5), 0.5, nil},
		{0.5, float32(0.5), nil},
		{0.1, float32(0), field.ErrType},
		{1e300, float32(0), field.ErrType},
		{math.Inf(1), float32(math.Inf(1)), nil},
		{math.Copysign(0, -1), float32(math.Copysign(0, -1)), nil},
		{1, 0.0, field.ErrType},
		{1.0, 0, field.ErrType},
		{true, 0, field.ErrType},
		{1, false, field.ErrType},
		{"x", name("x"), nil},
		{name("x"), sql.NullString{String: "x", Valid: true}, nil},
		{"x", []byte("x"), nil},
		{"", []byte{}, nil},
		{[]byte("x"), "", field.ErrType},
		{"abcd", [4]byte{}, field.ErrType},
		{[4]byte{1, 2, 3, 4}, []byte{1, 2, 3, 4}, nil},
		{[]byte{1, 2, 3, 4}, [4]byte{1, 2, 3, 4}, nil},
		{[]byte{1, 2, 3}, [4]byte{}, field.ErrType},
		{[]byte{1, 2, 3, 4, 5}, [4]byte{}, field.ErrType},
		{"192.0.2.1", netip.MustParseAddr("192.0.2.1"), nil},
		{netip.MustParseAddr("192.0.2.1"), "192.0.2.1", nil},
		{netip.MustParseAddr("192.0.2.1"), []byte(nil), field.ErrType},
		{netip.MustParseAddr("192.0.2.1"), onlyBytes{"192.0.2.1"}, nil},
		{"not an address", netip.Addr{}, field.ErrType},
		{[]byte("192.0.2.1"), netip.Addr{}, field.ErrType},
		{"2026-01-01T00:00:00Z", time.Time{}, field.ErrType},
		{time.Unix(0, 0).UTC(), sql.NullTime{Time: time.Unix(0, 0).UTC(), Valid: true}, nil},
		{sql.NullTime{Time: time.Unix(0, 0).UTC(), Valid: true}, time.Unix(0, 0).UTC(), nil},
		{time.Unix(0, 0).UTC(), "", field.ErrType},
		{time.Unix(0, 0).UTC(), int64(0), field.ErrType},
		{"x", cents{}, field.ErrType},
		{"x", 0, field.ErrType},
	} {
		verb := "opens as"
		if c.err != nil {
			verb = "does not fit"
		}
		t.Run(fmt.Sprintf("%T %v %s %T", c.from, reflect.Indirect(reflect.ValueOf(c.from)), verb, c.to), func(t *testing.T) {
			plaintext, _ := encode(t, c.from, false)
			got := reflect.New(reflect.TypeOf(c.to)).Elem()
			err := codec(t, got.Type(), false).Set(got, plaintext)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || !reflect.DeepEqual(got.Interface(), c.to) {
				t.Errorf("got %#v, %v", got.Interface(), err)
			}
		})
	}
	t.Run("JSON and the other kinds do not mix", func(t *testing.T) {
		var s string
		v := reflect.ValueOf(&s).Elem()
		asJSON, _ := encode(t, "x", true)
		plain, _ := encode(t, "x", false)
		if err := codec(t, v.Type(), false).Set(v, asJSON); !errors.Is(err, field.ErrType) {
			t.Errorf("JSON as string: %v", err)
		}
		if err := codec(t, v.Type(), true).Set(v, plain); !errors.Is(err, field.ErrType) {
			t.Errorf("string as JSON: %v", err)
		}
	})
}

func TestCodec_malformed_plaintext_is_refused(t *testing.T) {
	for _, c := range []struct {
		name, plaintext string
		into            any
		err             error
	}{
		{"no kind", "", "", field.ErrMalformed},
		{"kind zero", "00", "", field.ErrType},
		{"unknown kind", "0a61", "", field.ErrType},
		{"unknown kind for a Scanner", "ff61", sql.NullString{}, field.ErrType},
		{"JSON for a Scanner", "0931", sql.NullInt64{}, field.ErrType},
		{"bool of no byte", "03", false, field.ErrMalformed},
		{"bool of two bytes", "030001", false, field.ErrMalformed},
		{"bool 2", "0302", false, field.ErrMalformed},
		{"bool 2 for a Scanner", "0302", sql.NullBool{}, field.ErrMalformed},
		{"short integer", "0400000000000000", 0, field.ErrMalformed},
		{"long integer", "04000000000000000000", 0, field.ErrMalformed},
		{"short integer for a Scanner", "0400", sql.NullInt64{}, field.ErrMalformed},
		{"short unsigned", "05", uint(0), field.ErrMalformed},
		{"short float", "06000000", 0.0, field.ErrMalformed},
		{"short float for a Scanner", "06000000", sql.NullFloat64{}, field.ErrMalformed},
		{"short time", "07" + strings.Repeat("00", 15), time.Time{}, field.ErrMalformed},
		{"short time for a Scanner", "07", sql.NullTime{}, field.ErrMalformed},
		{"a second of 10^9 nanoseconds", "07 0000000000000000 3b9aca00 00000000", time.Time{}, field.ErrMalformed},
		{"a zone of 65 bytes", "07" + strings.Repeat("00", 16) + strings.Repeat("7a", 65), time.Time{}, field.ErrMalformed},
		{"JSON that is not", "097b", profile{}, field.ErrType},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, asJSON := c.into.(profile)
			got := reflect.New(reflect.TypeOf(c.into)).Elem()
			if err := codec(t, got.Type(), asJSON).Set(got, unhex(t, c.plaintext)); !errors.Is(err, c.err) || !got.IsZero() {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestCodec_Set_starts_from_nothing(t *testing.T) {
	t.Run("a Scanner does not see the old value", func(t *testing.T) {
		m := merger{[]string{"old"}}
		if err := codec(t, reflect.TypeOf(m), false).Set(reflect.ValueOf(&m).Elem(), []byte("\x01new")); err != nil || len(m.all) != 1 {
			t.Errorf("got %q, %v", m.all, err)
		}
	})
	t.Run("JSON does not merge into the old value", func(t *testing.T) {
		m := map[string]int{"old": 1}
		if err := codec(t, reflect.TypeOf(m), true).Set(reflect.ValueOf(&m).Elem(), []byte("\x09{\"new\":2}")); err != nil || len(m) != 1 {
			t.Errorf("got %v, %v", m, err)
		}
	})
	t.Run("a pointer is not written through", func(t *testing.T) {
		s := "old"
		p := &s
		if err := codec(t, reflect.TypeOf(p), false).Set(reflect.ValueOf(&p).Elem(), []byte("\x01new")); err != nil || s != "old" || *p != "new" {
			t.Errorf("got %q and %q, %v", s, *p, err)
		}
	})
}

func TestCodecFor_refuses(t *testing.T) {
	for _, v := range []any{
		struct{ A int }{}, []string{}, map[string]int{}, [4]int{}, [4]octet{}, ptr(ptr("")), make(chan int), func() {}, 1i, uintptr(1),
		ptr(any(nil)), &struct{}{}, ptr([]string{}),
	} {
		t.Run(fmt.Sprintf("%T, and says what to do", v), func(t *testing.T) {
			c, err := field.CodecFor(reflect.TypeOf(v), false)
			if c != nil || err == nil || !strings.Contains(err.Error(), `rowseal:"json"`) || !strings.Contains(err.Error(), reflect.TypeOf(v).String()) {
				t.Errorf("got %v, %v", c, err)
			}
		})
	}
}

const canary = "canary-4711-canary"

// loud quotes its value in every error, as many types do.
type loud struct{ s string }

func (l loud) Value() (driver.Value, error) { return nil, errors.New("bad value " + l.s) }
func (l *loud) Scan(v any) error            { return fmt.Errorf("bad value %s", v) }

type loudText struct{ s string }

func (l loudText) MarshalText() ([]byte, error)  { return nil, errors.New("bad value " + l.s) }
func (l *loudText) UnmarshalText(b []byte) error { return fmt.Errorf("bad value %s", b) }

type loudJSON struct{ s string }

func (l loudJSON) MarshalJSON() ([]byte, error) { return nil, errors.New("bad value " + l.s) }
func (loudJSON) UnmarshalJSON(b []byte) error   { return fmt.Errorf("bad value %s", b) }

// odd gives what is not a driver.Value.
type odd struct{ s string }

func (o odd) Value() (driver.Value, error) { return o, nil }
func (*odd) Scan(any) error                { return nil }

func TestCodec_errors_hold_no_value(t *testing.T) {
	quiet := func(t *testing.T, err error) {
		t.Helper()
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), canary) || !strings.HasPrefix(err.Error(), "field: ") {
			t.Errorf("got %v", err)
		}
		for ; err != nil; err = errors.Unwrap(err) {
			if strings.Contains(err.Error(), canary) {
				t.Errorf("inside: %v", err)
			}
		}
	}
	for _, c := range []struct {
		value any
		json  bool
	}{
		{loud{canary}, false}, {&loud{canary}, false}, {loudText{canary}, false}, {loudJSON{canary}, true}, {odd{canary}, false},
		{time.Unix(0, 0).In(time.FixedZone(strings.Repeat(canary, 4), 0)), false},
		{time.Unix(0, 0).In(time.FixedZone(canary, math.MaxInt32+1)), false},
		{map[string]any{canary: func() {}}, true},
		{json.RawMessage(canary), true},
	} {
		t.Run(fmt.Sprintf("sealing %T", c.value), func(t *testing.T) {
			_, null, err := codec(t, reflect.TypeOf(c.value), c.json).Append(nil, reflect.ValueOf(c.value))
			if null {
				t.Error("stored as NULL")
			}
			quiet(t, err)
		})
	}
	for _, typ := range types {
		for _, kind := range []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF} {
			v := reflect.New(typ.typ).Elem()
			if err := codec(t, typ.typ, typ.json).Set(v, append([]byte{kind}, canary...)); err != nil {
				t.Run(fmt.Sprintf("opening kind %d into %s", kind, typ.name), func(t *testing.T) { quiet(t, err) })
			}
		}
	}
}

// types are all that the fuzzer decodes into, by the names that vectors use. exact tells that each plaintext of the type's own
// kind has one decoding and one encoding.
var types = []struct {
	name  string
	typ   reflect.Type
	json  bool
	exact byte // the kind, 0 for none
}{
	{"string", reflect.TypeFor[string](), false, 1},
	{"[]byte", reflect.TypeFor[[]byte](), false, 2},
	{"[16]byte", reflect.TypeFor[[16]byte](), false, 2},
	{"bool", reflect.TypeFor[bool](), false, 3},
	{"int", reflect.TypeFor[int](), false, 4},
	{"int8", reflect.TypeFor[int8](), false, 4},
	{"int16", reflect.TypeFor[int16](), false, 4},
	{"int32", reflect.TypeFor[int32](), false, 4},
	{"int64", reflect.TypeFor[int64](), false, 4},
	{"uint", reflect.TypeFor[uint](), false, 5},
	{"uint8", reflect.TypeFor[uint8](), false, 5},
	{"uint16", reflect.TypeFor[uint16](), false, 5},
	{"uint32", reflect.TypeFor[uint32](), false, 5},
	{"uint64", reflect.TypeFor[uint64](), false, 5},
	{"float32", reflect.TypeFor[float32](), false, 0}, // a NaN loses what does not fit
	{"float64", reflect.TypeFor[float64](), false, 6},
	{"time.Time", reflect.TypeFor[time.Time](), false, 7},
	{"*string", reflect.TypeFor[*string](), false, 1},
	{"*time.Time", reflect.TypeFor[*time.Time](), false, 7},
	{"sql.NullString", reflect.TypeFor[sql.NullString](), false, 1},
	{"sql.NullInt64", reflect.TypeFor[sql.NullInt64](), false, 4},
	{"sql.NullTime", reflect.TypeFor[sql.NullTime](), false, 7},
	{"sql.NullBool", reflect.TypeFor[sql.NullBool](), false, 3},
	{"sql.NullFloat64", reflect.TypeFor[sql.NullFloat64](), false, 6},
	{"netip.Addr", reflect.TypeFor[netip.Addr](), false, 0},
	{"big.Int", reflect.TypeFor[big.Int](), false, 0},
	{"profile", reflect.TypeFor[profile](), true, 0},
	{"any", reflect.TypeFor[any](), true, 0},
	{"loud", reflect.TypeFor[loud](), false, 0},
	{"loudText", reflect.TypeFor[loudText](), false, 0},
	{"loudJSON", reflect.TypeFor[loudJSON](), true, 0},
	{"onlyBytes", reflect.TypeFor[onlyBytes](), false, 1},
}
