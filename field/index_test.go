package field_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowseal/rowseal/field"
)

var emailIndex = field.IndexPlace{Namespace: "clinic/test", Model: "Patient", Field: "email", Name: "email", Version: 1}

// own are functions of an application's.
var own = field.Functions{"phone.v1": func(s string) string { return strings.TrimPrefix(s, "+49") }}

func indexKey(t testing.TB, root []byte, p field.IndexPlace) *field.IndexKey {
	t.Helper()
	k, err := field.NewIndexKey(root, p, own)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// index is that of a Go value.
func index(t testing.TB, k *field.IndexKey, v any) string {
	t.Helper()
	plaintext, _, err := codec(t, reflect.TypeOf(v), false).Append(nil, reflect.ValueOf(v))
	if err != nil {
		t.Fatal(err)
	}
	out, err := k.Append([]byte("before"), plaintext)
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	if !bytes.HasPrefix(out, []byte("before")) || len(out) != len("before")+field.IndexSize {
		t.Fatalf("%v: %d bytes", v, len(out))
	}
	return hex.EncodeToString(out[len("before"):])
}

func TestIndexKey(t *testing.T) {
	k := indexKey(t, dekBytes, emailIndex)
	berlin := time.FixedZone("CET", 3600)
	when := time.Date(2026, 11, 30, 9, 0, 0, 7, time.UTC)
	type named string
	same := [][]any{
		{"ada@example.org", []byte("ada@example.org"), named("ada@example.org")},
		{"", []byte{}},
		{int8(5), int64(5), uint16(5), uint64(5)},
		{int64(-5), int16(-5)},
		{uint64(math.MaxUint64)}, {int64(-1)}, {int64(math.MaxInt64), uint64(math.MaxInt64)}, {int64(math.MinInt64)}, {uint64(1 << 63)},
		{when, when.In(berlin)}, {when.Add(1)},
		{"5"}, {"10.0.0.1", netip.MustParseAddr("10.0.0.1")}, {"Ada@example.org"}, {"ada@example.org "},
	}
	seen := map[string]int{}
	for i, values := range same {
		for _, v := range values {
			got := index(t, k, v)
			if at, known := seen[got]; known && at != i {
				t.Errorf("%T %v has the index of %v", v, v, same[at])
			}
			if seen[got] = i; got != index(t, k, values[0]) {
				t.Errorf("%T %v does not have the index of %T %v", v, v, values[0], values[0])
			}
		}
	}
	if len(seen) != len(same) {
		t.Errorf("%d indexes, want %d", len(seen), len(same))
	}
	for i, plaintext := range []string{"", "\x03\x01", "\x06\x00\x00\x00\x00\x00\x00\x00\x00", "\x09null", "\x07short", "\x00", "\xff"} {
		if out, err := k.Append(nil, []byte(plaintext)); !errors.Is(err, field.ErrIndex) || out != nil {
			t.Errorf("case %d: %d bytes, %v", i, len(out), err)
		}
	}
}

// TestIndexKey_of_a_tenant: a place with tenants gives no index without one, and each the same one whoever asked in between.
func TestIndexKey_of_a_tenant(t *testing.T) {
	p := emailIndex
	p.Tenants, p.Bits = true, 12
	all := indexKey(t, dekBytes, p)
	if out, err := all.Append(nil, []byte("\x01a")); err == nil || out != nil {
		t.Errorf("without a tenant: %x, %v", out, err)
	}
	if _, err := indexKey(t, dekBytes, emailIndex).Tenant("acme"); err == nil {
		t.Error("a place without tenants has the key of one")
	}
	first := map[string]string{}
	for range 3 {
		for _, tenant := range []string{"acme", "other", ""} {
			k, err := all.Tenant(tenant)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.Tenant(tenant); err == nil {
				t.Error("the key of a tenant has tenants")
			}
			if k.Size() != 2 || k.Place() != p {
				t.Errorf("%d bytes, %+v", k.Size(), k.Place())
			}
			whole, err := k.AppendWhole(nil, []byte("\x01a"))
			if err != nil || first[tenant] != "" && first[tenant] != string(whole) {
				t.Errorf("tenant %q: %x, then %x, %v", tenant, first[tenant], whole, err)
			}
			first[tenant] = string(whole)
		}
	}
	if first["acme"] == first["other"] || first["acme"] == first[""] {
		t.Errorf("%q", first)
	}
}

// TestIndexKey_is_of_one_place: whatever differs, equal values have other indexes.
func TestIndexKey_is_of_one_place(t *testing.T) {
	places := map[string]field.IndexPlace{}
	for name, change := range map[string]func(*field.IndexPlace){
		"":          func(*field.IndexPlace) {},
		"namespace": func(p *field.IndexPlace) { p.Namespace = "clinic/production" },
		"model":     func(p *field.IndexPlace) { p.Model = "Doctor" },
		"field":     func(p *field.IndexPlace) { p.Field = "phone" },
		"name":      func(p *field.IndexPlace) { p.Name = "domain" },
		"version":   func(p *field.IndexPlace) { p.Version = 2 },
		"lower":     func(p *field.IndexPlace) { p.Expression = "lower" },
		"trim":      func(p *field.IndexPlace) { p.Expression = "trim" },
		"both":      func(p *field.IndexPlace) { p.Expression = "lower+trim" },
		"fold":      func(p *field.IndexPlace) { p.Expression = "fold" },
		"own":       func(p *field.IndexPlace) { p.Expression = "phone.v1" },
		"first9":    func(p *field.IndexPlace) { p.Expression = "first99" },
		"last99":    func(p *field.IndexPlace) { p.Expression = "last99" },
		"shifted":   func(p *field.IndexPlace) { p.Model, p.Field = "Patiente", "mail" },
	} {
		p := emailIndex
		change(&p)
		places[name] = p
	}
	seen := map[string]string{}
	add := func(name string, k *field.IndexKey) {
		got := index(t, k, "ada@example.org")
		if other, known := seen[got]; known {
			t.Errorf("%q and %q have one index", name, other)
		}
		seen[got] = name
	}
	for name, p := range places {
		add(name, indexKey(t, dekBytes, p))
		p.Tenants = true
		for _, tenant := range []string{"", "1", "lower", "acme", "acme\x00"} {
			k, err := indexKey(t, dekBytes, p).Tenant(tenant)
			if err != nil {
				t.Fatal(err)
			}
			add(name+" of tenant "+tenant, k)
		}
	}
	add("another key", indexKey(t, bytes.Repeat([]byte{9}, 32), emailIndex))
	if k := indexKey(t, dekBytes, emailIndex); k.Place() != emailIndex {
		t.Errorf("%+v", k.Place())
	}
}

// TestIndexSpecification computes an index by docs/format.md, section 14, without the code.
func TestIndexSpecification(t *testing.T) {
	text := func(s string) string { return fmt.Sprintf("\x01\x00\x00\x00%c%s", len(s), s) }
	integer := func(s string) string { return fmt.Sprintf("\x02\x00\x00\x00%c%s", len(s), s) }
	key, err := hkdf.Expand(sha256.New, dekBytes, text("rowseal/index-key")+integer("1")+text("clinic/test")+text("Patient")+text("email")+text("email")+integer("1"), 32)
	if err != nil {
		t.Fatal(err)
	}
	k := indexKey(t, dekBytes, emailIndex)
	for value, v := range map[string]any{
		"\x01ada@example.org": "ada@example.org", "\x04\x00\x00\x00\x00\x00\x00\x00\x07": uint8(7), "\x05\xff\xff\xff\xff\xff\xff\xff\xff": uint64(math.MaxUint64),
		"\x07\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x08": time.Unix(9, 8).In(time.FixedZone("CET", 3600)),
	} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(value))
		if want := hex.EncodeToString(mac.Sum(nil)[:16]); index(t, k, v) != want {
			t.Errorf("%v: got %s, want %s", v, index(t, k, v), want)
		}
	}
	// Expression and bits stand behind the version.
	p := emailIndex
	p.Expression, p.Bits, p.Version = "lower+last4", 12, 2
	if key, err = hkdf.Expand(sha256.New, dekBytes, text("rowseal/index-key")+integer("1")+text("clinic/test")+text("Patient")+text("email")+text("email")+integer("2")+text("lower+last4")+"\x02\x00\x00\x00\x0212", 32); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("\x01.org"))
	want := mac.Sum(nil)[:2]
	want[1] &= 0xF0
	if got, err := indexKey(t, dekBytes, p).Append(nil, []byte("\x01ada@EXAMPLE.ORG")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x, %v", got, want, err)
	}
	// And once as bytes: what is stored today is found for ever.
	if got, want := index(t, k, "ada@example.org"), "5eb766d62adbe09b0e45d957040d6c22"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIndexKey_folds_texts(t *testing.T) {
	type named string
	for expression, groups := range map[string][][]any{
		"lower":        {{"Ada@Example.ORG", "ada@example.org", named("ADA@EXAMPLE.ORG")}, {"ada@example.org "}, {"ÉCOLE", "école"}, {"ecole"}, {""}, {"a\xff"}, {"a\xfe"}, {"a\ufffd"}},
		"trim":         {{" Ada\t\n", "Ada", "\u00a0Ada\u2003"}, {"ada"}, {"", "  "}, {"A da"}},
		"lower+trim":   {{" Ada@Example.org", "ada@example.org "}, {"ada @example.org"}},
		"fold":         {{"Straße", "STRASSE", "strasse", "ＳＴＲＡＳＳＥ"}, {"ﬁn", "FIN"}, {"é", "e\u0301", "É"}, {"Σίσυφος", "ΣΊΣΥΦΟΣ"}, {"e"}, {" fin"}, {"a\xff"}, {"A\xff"}},
		"fold+trim":    {{"\u00a0ﬁn\u2003", "FIN"}},
		"digits":       {{"+49 (30) 1234", "49301234", "49-30-1234x"}, {"", "none", "٣"}, {"0049301234"}},
		"domain":       {{"ada@Example.org", "EXAMPLE.ORG", "a@b@example.org", "@example.org"}, {"ada@example.com"}, {"", "ada@"}, {"ada"}},
		"trim+domain":  {{"ada@example.org ", "example.org"}},
		"first2":       {{"Ada", "Ad"}, {"ada", "ad"}, {"A"}, {""}, {"éa1", "éa2"}},
		"last4":        {{"4000 1234", "1234", "91234"}, {"234"}, {""}, {"ééé1", "xééé1"}},
		"digits+last4": {{"12-34", "1 2 3 4", "xx01234"}},
		"phone.v1":     {{"+4930", "30"}, {"+49+4930"}},
	} {
		p := emailIndex
		p.Expression = expression
		k := indexKey(t, dekBytes, p)
		seen := map[string]int{}
		for i, values := range groups {
			for _, v := range values {
				got := index(t, k, v)
				if at, known := seen[got]; known && at != i || got != index(t, k, values[0]) {
					t.Errorf("%s: %q stands with %q", expression, v, values[0])
				}
				seen[got] = i
			}
		}
		for i, plaintext := range []string{"\x02bytes", "\x04\x00\x00\x00\x00\x00\x00\x00\x01", "\x07\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x08"} {
			if _, err := k.Append(nil, []byte(plaintext)); !errors.Is(err, field.ErrIndex) {
				t.Errorf("%s: case %d: %v", expression, i, err)
			}
		}
	}
}

// TestIndexKey_of_fewer_bits: the bits that are kept are those of a hash of its own, all others are zero, and the whole tells apart what shares them.
func TestIndexKey_of_fewer_bits(t *testing.T) {
	for bits := 1; bits <= field.MaxBits; bits++ {
		p := emailIndex
		p.Bits = bits
		k := indexKey(t, dekBytes, p)
		ones := make([]byte, k.Size())
		for i := range 200 {
			plaintext := fmt.Appendf(nil, "\x01%d", i)
			sum, err := k.Append([]byte("x"), plaintext)
			if err != nil || len(sum) != 1+(bits+7)/8 {
				t.Fatalf("%d bits: %d bytes, %v", bits, len(sum), err)
			}
			whole, err := k.AppendWhole(nil, plaintext)
			if err != nil || len(whole) != field.IndexSize || !bytes.HasPrefix(whole, sum[1:len(sum)-1]) {
				t.Fatalf("%d bits: the whole is %x, the index %x, %v", bits, whole, sum[1:], err)
			}
			for b, v := range sum[1:] {
				ones[b] |= v
			}
		}
		for b := range 8 * len(ones) {
			if set := ones[b/8]>>(7-b%8)&1 == 1; set != (b < bits) {
				t.Errorf("%d bits: bit %d is set: %t", bits, b, set)
			}
		}
		p.Bits = bits%field.MaxBits + 1
		a, _ := k.AppendWhole(nil, []byte("\x01a"))
		b, _ := indexKey(t, dekBytes, p).AppendWhole(nil, []byte("\x01a"))
		if bytes.Equal(a, b) {
			t.Errorf("%d bits and %d are parts of one hash", bits, p.Bits)
		}
	}
}

func TestNewIndexKey_refuses(t *testing.T) {
	for name, change := range map[string]func(*field.IndexPlace){
		"no model": func(p *field.IndexPlace) { p.Model = "" }, "no field": func(p *field.IndexPlace) { p.Field = "" }, "no name": func(p *field.IndexPlace) { p.Name = "" },
		"no such expression": func(p *field.IndexPlace) { p.Expression = "upper" }, "in another order": func(p *field.IndexPlace) { p.Expression = "trim+lower" },
		"no such function": func(p *field.IndexPlace) { p.Expression = "phone.v1" }, "fewer than no bits": func(p *field.IndexPlace) { p.Bits = -1 }, "more bits": func(p *field.IndexPlace) { p.Bits = 65 },
		"no version": func(p *field.IndexPlace) { p.Version = 0 }, "a version below": func(p *field.IndexPlace) { p.Version = -1 },
	} {
		p := emailIndex
		change(&p)
		if k, err := field.NewIndexKey(dekBytes, p, nil); err == nil || k != nil {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
	if _, err := field.NewIndexKey(dekBytes[:31], emailIndex, nil); err == nil || !strings.Contains(err.Error(), "32 bytes, not 31") {
		t.Error(err)
	}
}

func TestIndexKey_by_many_at_once(t *testing.T) {
	k := indexKey(t, dekBytes, emailIndex)
	want := index(t, k, "x")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				index(t, k, i)
				if index(t, k, "x") != want {
					t.Error("another index")
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestIndexKey_never_prints(t *testing.T) {
	k := indexKey(t, dekBytes, emailIndex)
	index(t, k, "warm")
	var out strings.Builder
	for _, v := range []any{k, *k, &k, struct{ K *field.IndexKey }{k}, struct{ k *field.IndexKey }{k}, &struct{ k field.IndexKey }{*k}, []*field.IndexKey{k}, map[string]*field.IndexKey{"k": k}} {
		for _, verb := range "vsqxXdbo" {
			for _, flag := range []string{"", "+", "#"} {
				_, _ = fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", v)
			}
		}
		b, _ := json.Marshal(v)
		out.Write(b)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "k", v)
	}
	text := "\x01\x00\x00\x00\x11rowseal/index-key\x02\x00\x00\x00\x011\x01\x00\x00\x00\x0bclinic/test\x01\x00\x00\x00\x07Patient\x01\x00\x00\x00\x05email\x01\x00\x00\x00\x05email\x02\x00\x00\x00\x011"
	sub, err := hkdf.Expand(sha256.New, dekBytes, text, 32)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"index key": dekBytes[:8], "place key": sub[:8]} {
		for form, s := range spellings(secret) {
			if strings.Contains(out.String(), s) {
				t.Errorf("the %s is shown as %s", name, form)
			}
		}
	}
	if !strings.Contains(out.String(), "field.IndexKey(***)") {
		t.Error("it does not print at all")
	}
}

func BenchmarkIndex(b *testing.B) {
	k := indexKey(b, dekBytes, emailIndex)
	plaintext, dst := []byte("\x01ada.lovelace@example.org"), make([]byte, 0, field.IndexSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Append(dst, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}
