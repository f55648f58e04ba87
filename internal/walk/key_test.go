package walk

import (
	"bytes"
	"database/sql/driver"
	"math"
	"reflect"
	"testing"
	"time"
)

var keys = []Key{
	{int64(0)}, {int64(1)}, {int64(-1)}, {int64(math.MaxInt64)}, {int64(math.MinInt64)}, {uint64(math.MaxInt64) + 1}, {uint64(math.MaxUint64)},
	{""}, {"1"}, {"é \" \\ ' {} , \n \x00 \u2028"}, {[]byte{}}, {[]byte{0, 1, 0xff}}, {true}, {false}, {1.5}, {-0.1}, {float64(1)}, {math.MaxFloat64}, {math.SmallestNonzeroFloat64},
	{time.Date(2026, 11, 29, 22, 53, 25, 123456789, time.UTC)}, {"acme", int64(7)}, {int64(1), "1", []byte("1"), true},
}

func same(a, b driver.Value) bool {
	if x, ok := a.(time.Time); ok {
		y, ok := b.(time.Time)
		return ok && x.Equal(y)
	}
	return reflect.DeepEqual(a, b)
}

func TestKeyComesBackAsItWas(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range keys {
		text := k.String()
		if seen[text] {
			t.Errorf("%v is written as another key is: %s", k, text)
		}
		seen[text] = true
		back, err := ParseKey(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if len(back) != len(k) || back.String() != text {
			t.Errorf("%#v became %#v", k, back)
			continue
		}
		for i := range k {
			if !same(k[i], back[i]) {
				t.Errorf("%#v became %#v", k[i], back[i])
			}
		}
	}
}

// TestKeyOfAnyBytes: Postgres text is UTF-8, and that of other databases need not be. Two keys must not become one.
func TestKeyOfTextThatIsNoUTF8(t *testing.T) {
	a, b := Key{"a\xff"}, Key{"a\xfe"}
	if a.String() == b.String() {
		t.Fatalf("two keys are %s", a)
	}
	for _, k := range []Key{a, b} {
		back, err := ParseKey(k.String())
		if err != nil || !reflect.DeepEqual(back, k) {
			t.Errorf("%q became %q, %v", k, back, err)
		}
	}
}

func TestNormal(t *testing.T) {
	type named string
	type id uint32
	raw := []byte("ab")
	for _, c := range []struct{ in, want any }{
		{uint64(7), int64(7)}, {uint64(math.MaxUint64), uint64(math.MaxUint64)}, {int8(-3), int64(-3)}, {id(9), int64(9)}, {named("x"), "x"}, {raw, []byte("ab")}, {true, true}, {float32(0.5), 0.5},
	} {
		got, err := Normal(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Normal(%#v) = %#v, %v; want %#v", c.in, got, err, c.want)
		}
	}
	got, _ := Normal(raw)
	raw[0] = 'X'
	if !bytes.Equal(got.([]byte), []byte("ab")) {
		t.Error("it holds the driver's own bytes")
	}
	for _, v := range []any{nil, (*int)(nil)} {
		if got, err := Normal(v); err == nil {
			t.Errorf("Normal(%#v) = %#v; want an error", v, got)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, k := range keys {
		f.Add(k.String())
	}
	for _, s := range []string{"", "null", "[]", "{}", "[{}]", `[{"i":"x"}]`, `[{"i":"1","s":"2"}]`, `[{"x":"0"}]`, `[{"t":"now"}]`, `[{"f":1e999}]`, `[{"i":"99999999999999999999"}]`, `[{"i":"+1"}]`, `[{"y":1}]`, `[{"i":"1"}] `} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			return
		}
		if len(k) == 0 {
			t.Fatalf("%q is a key of no part", text)
		}
		again, err := ParseKey(k.String())
		if err != nil || len(again) != len(k) {
			t.Fatalf("%q: %v, %v", text, again, err)
		}
		for i := range k {
			if !same(k[i], again[i]) {
				t.Fatalf("%q: %#v became %#v", text, k[i], again[i])
			}
		}
	})
}
