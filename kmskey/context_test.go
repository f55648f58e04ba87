package kmskey_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

var someUUID = [16]byte{0x12, 0x3E, 0x45, 0x67, 0xE8, 0x9B, 0x12, 0xD3, 0xA4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xFF}

func newContext(t testing.TB, pairs ...kmskey.Pair) kmskey.Context {
	t.Helper()
	c, err := kmskey.NewContext(pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContext(t *testing.T) {
	all := []kmskey.Pair{
		{Name: "text", Value: kmskey.Text("As Stored ")}, {Name: "int", Value: kmskey.Int(-5)}, {Name: "uint", Value: kmskey.Uint(1 << 63)},
		{Name: "uuid", Value: kmskey.UUID(someUUID)}, {Name: "bytes", Value: kmskey.Bytes([]byte{0, 0xFF})}, {Name: "yes", Value: kmskey.Bool(true)},
		{Name: "no", Value: kmskey.Bool(false)}, {Name: "", Value: kmskey.Text("")}, {Name: "Ä", Value: kmskey.Text("")},
	}
	all[7].Name = "empty"
	c := newContext(t, all...)
	t.Run("has one canonical form, whatever the order of its pairs", func(t *testing.T) {
		back := slices.Clone(all)
		slices.Reverse(back)
		d := newContext(t, back...)
		if !bytes.Equal(c.Canonical(), d.Canonical()) || !c.Equal(d) {
			t.Errorf("%x and %x", c.Canonical(), d.Canonical())
		}
		if all[0].Name != "text" {
			t.Error("the caller's pairs were sorted")
		}
	})
	t.Run("has pairs in order of name", func(t *testing.T) {
		var names []string
		for name, v := range c.Pairs() {
			if v.IsZero() {
				t.Error("no value")
			}
			names = append(names, name)
		}
		if !slices.Equal(names, []string{"bytes", "empty", "int", "no", "text", "uint", "uuid", "yes", "Ä"}) || c.Len() != len(names) {
			t.Errorf("got %q of %d", names, c.Len())
		}
		for range c.Pairs() {
			break // must not panic
		}
	})
	t.Run("has the strings that services take", func(t *testing.T) {
		want := map[string]string{"text": "As Stored ", "int": "-5", "uint": "9223372036854775808", "uuid": "123e4567-e89b-12d3-a456-4266141740ff",
			"bytes": "00ff", "yes": "true", "no": "false", "empty": "", "Ä": ""}
		if got := c.Strings(); !maps.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("is canonical by the specification", func(t *testing.T) {
		want := "010000000f726f777365616c2f636f6e74657874" + "01000000086d6f64656c5f6964" + "02000000023432" + "010000000a6d6f64656c5f6e616d65" + "010000000750617469656e74"
		got := newContext(t, kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(42)})
		if hex.EncodeToString(got.Canonical()) != want {
			t.Errorf("got %x", got.Canonical())
		}
	})
	t.Run("tells types apart where strings do not", func(t *testing.T) {
		a, b := newContext(t, kmskey.Pair{Name: "id", Value: kmskey.Int(1)}), newContext(t, kmskey.Pair{Name: "id", Value: kmskey.Text("1")})
		if a.Equal(b) || bytes.Equal(a.Canonical(), b.Canonical()) || !maps.Equal(a.Strings(), b.Strings()) {
			t.Error("1 and \"1\"")
		}
		if u := newContext(t, kmskey.Pair{Name: "id", Value: kmskey.Uint(1)}); !a.Equal(u) {
			t.Error("1 and unsigned 1 differ")
		}
	})
	t.Run("is empty when zero", func(t *testing.T) {
		var zero kmskey.Context
		empty := newContext(t)
		if !zero.Equal(empty) || !empty.Equal(zero) || !bytes.Equal(zero.Canonical(), empty.Canonical()) || zero.Strings() != nil || empty.Strings() != nil || zero.Len() != 0 {
			t.Errorf("%x and %x", zero.Canonical(), empty.Canonical())
		}
		for range zero.Pairs() {
			t.Error("a pair")
		}
		if got := fmt.Sprint(zero); got != "{}" {
			t.Errorf("prints as %q", got)
		}
	})
	t.Run("does not change with what it gave out", func(t *testing.T) {
		before := c.Canonical()
		clear(c.Canonical())
		clear(c.Strings())
		if !bytes.Equal(c.Canonical(), before) || c.Strings()["int"] != "-5" {
			t.Error("changed")
		}
	})
}

func TestNewContext_refuses(t *testing.T) {
	long := func(n int) kmskey.Pair { return kmskey.Pair{Name: "n", Value: kmskey.Text(strings.Repeat("v", n))} }
	// Purpose, name and value each have 5 bytes before them.
	const most = 8<<10 - (5 + len("rowseal/context")) - (5 + len("n")) - 5
	if c := newContext(t, long(most)); len(c.Canonical()) != 8<<10 {
		t.Errorf("the longest context has %d bytes", len(c.Canonical()))
	}
	for _, c := range []struct {
		name  string
		pairs []kmskey.Pair
		says  string
	}{
		{"an empty name", []kmskey.Pair{{Value: kmskey.Int(1)}}, "a name is empty"},
		{"a name twice", []kmskey.Pair{{Name: "a", Value: kmskey.Int(1)}, {Name: "b", Value: kmskey.Int(1)}, {Name: "a", Value: kmskey.Int(2)}}, `"a" is given twice`},
		{"a name twice with one value", []kmskey.Pair{{Name: "a", Value: kmskey.Int(1)}, {Name: "a", Value: kmskey.Int(1)}}, `"a" is given twice`},
		{"a name that AWS reserves", []kmskey.Pair{{Name: "aws:sourceArn", Value: kmskey.Int(1)}}, "which AWS reserves"},
		{"a name that is not UTF-8", []kmskey.Pair{{Name: "\xff", Value: kmskey.Int(1)}}, "not valid UTF-8"},
		{"a value that is not UTF-8", []kmskey.Pair{{Name: "a", Value: kmskey.Text("\xff")}}, "use kmskey.Bytes"},
		{"no value", []kmskey.Pair{{Name: "a"}}, `"a" has no value`},
		{"more than 8 KiB", []kmskey.Pair{long(most + 1)}, "8193 bytes, more than the 8192"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := kmskey.NewContext(c.pairs...)
			if got.Len() != 0 || err == nil || !strings.HasPrefix(err.Error(), "kmskey: encryption context: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
	t.Run("without quoting a value", func(t *testing.T) {
		if _, err := kmskey.NewContext(kmskey.Pair{Name: "a", Value: kmskey.Text("canary\xff")}); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("got %v", err)
		}
	})
}
