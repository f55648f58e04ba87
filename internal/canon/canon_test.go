package canon_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/internal/canon"
)

var uuid = [16]byte{0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x12, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0xff}

// fixed are encodings that lie under every commitment and every authentication tag ever written.
var fixed = []struct {
	name    string
	value   canon.Value
	encoded string
	text    string
}{
	{"text", canon.Text("ab"), "01 00000002 6162", "ab"},
	{"empty text", canon.Text(""), "01 00000000", ""},
	{"text as stored", canon.Text("Ä\x00 "), "01 00000004 c3840020", "Ä\x00 "},
	{"text that is not UTF-8", canon.Text("\xff"), "01 00000001 ff", "\xff"},
	{"zero", canon.Int(0), "02 00000001 30", "0"},
	{"one", canon.Int(1), "02 00000001 31", "1"},
	{"unsigned one", canon.Uint(1), "02 00000001 31", "1"},
	{"minus one", canon.Int(-1), "02 00000002 2d31", "-1"},
	{"least integer", canon.Int(math.MinInt64), "02 00000014 2d39323233333732303336383534373735383038", "-9223372036854775808"},
	{"greatest integer", canon.Uint(math.MaxUint64), "02 00000014 3138343436373434303733373039353531363135", "18446744073709551615"},
	{"UUID", canon.UUID(uuid), "03 00000010 123e4567e89b12d3a4564266141740ff", "123e4567-e89b-12d3-a456-4266141740ff"},
	{"bytes", canon.Bytes([]byte{0, 0xFF}), "04 00000002 00ff", "00ff"},
	{"no bytes", canon.Bytes(nil), "04 00000000", ""},
	{"false", canon.Bool(false), "05 00000001 00", "false"},
	{"true", canon.Bool(true), "05 00000001 01", "true"},
}

func TestAppend(t *testing.T) {
	for _, c := range fixed {
		t.Run(c.name+" has its one encoding", func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(c.encoded, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if got := canon.Append([]byte("kept"), c.value); !bytes.Equal(got, append([]byte("kept"), want...)) {
				t.Errorf("got %x, want %x after what was there", got, want)
			}
			if got := c.value.String(); got != c.text {
				t.Errorf("String: got %q, want %q", got, c.text)
			}
			if c.value.IsZero() {
				t.Error("IsZero of a value that was set")
			}
		})
	}
	t.Run("Values takes a tuple apart", func(t *testing.T) {
		var encoded []byte
		var want []canon.Value
		for _, c := range fixed {
			encoded, want = canon.Append(encoded, c.value), append(want, c.value)
		}
		if got := canon.Values(string(encoded)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := canon.Values(""); got != nil {
			t.Errorf("of nothing: %v", got)
		}
	})
	t.Run("AppendInt and AppendUint are Append of an integer", func(t *testing.T) {
		for _, i := range []int64{0, 1, -1, 42, math.MinInt64, math.MaxInt64} {
			if got, want := canon.AppendInt([]byte("kept"), i), canon.Append([]byte("kept"), canon.Int(i)); !bytes.Equal(got, want) {
				t.Errorf("%d: got %x, want %x", i, got, want)
			}
			if got, want := canon.AppendUint([]byte("kept"), uint64(i)), canon.Append([]byte("kept"), canon.Uint(uint64(i))); !bytes.Equal(got, want) {
				t.Errorf("%d: got %x, want %x", uint64(i), got, want)
			}
		}
	})
	t.Run("AppendText is Append of a text", func(t *testing.T) {
		if a, b := canon.AppendText(nil, "x"), canon.Append(nil, canon.Text("x")); !bytes.Equal(a, b) {
			t.Errorf("%x and %x", a, b)
		}
	})
	t.Run("a value that was never set panics", func(t *testing.T) {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "canon: internal error: ") {
				t.Errorf("got %q", got)
			}
		}()
		canon.Append(nil, canon.Value{})
	})
	t.Run("bytes are copied", func(t *testing.T) {
		b := []byte{1}
		v := canon.Bytes(b)
		b[0] = 2
		if v != canon.Bytes([]byte{1}) {
			t.Error("the value changed with its argument")
		}
	})
}

// tricky are values that a careless encoding would take for each other.
var tricky = []canon.Value{
	canon.Text(""), canon.Text("1"), canon.Text("a"), canon.Text("ab"), canon.Text("\x00"), canon.Text("\x01"), canon.Text("true"),
	canon.Text("\x01\x00\x00\x00\x01a"), canon.Text("123e4567-e89b-12d3-a456-4266141740ff"), canon.Text(string(uuid[:])),
	canon.Int(0), canon.Int(1), canon.Int(-1), canon.Uint(math.MaxUint64), canon.UUID(uuid),
	canon.Bytes(nil), canon.Bytes([]byte("1")), canon.Bytes([]byte{0}), canon.Bytes(uuid[:]), canon.Bool(false), canon.Bool(true),
}

func TestAppend_no_two_tuples_have_one_encoding(t *testing.T) {
	seen := make(map[string][]canon.Value)
	var visit func(tuple []canon.Value, encoded []byte)
	visit = func(tuple []canon.Value, encoded []byte) {
		if other, ok := seen[string(encoded)]; ok {
			t.Fatalf("%q and %q are both %x", other, tuple, encoded)
		}
		seen[string(encoded)] = slices.Clone(tuple)
		if len(tuple) == 3 {
			return
		}
		for _, v := range tricky {
			visit(append(tuple, v), canon.Append(encoded[:len(encoded):len(encoded)], v))
		}
	}
	visit(nil, nil)
	if n := len(tricky); len(seen) != 1+n+n*n+n*n*n {
		t.Errorf("%d encodings", len(seen))
	}
}

// split reads an encoding back, by docs/format.md alone: that this can be done is what makes the encoding injective.
func split(encoded []byte) (tuple []canon.Value) {
	for len(encoded) > 0 {
		raw := encoded[5 : 5+binary.BigEndian.Uint32(encoded[1:])]
		switch encoded[0] {
		case 1:
			tuple = append(tuple, canon.Text(string(raw)))
		case 2:
			var i int64
			var u uint64
			if _, err := fmt.Sscan(string(raw), &i); err == nil {
				tuple = append(tuple, canon.Int(i))
			} else if _, err := fmt.Sscan(string(raw), &u); err == nil {
				tuple = append(tuple, canon.Uint(u))
			}
		case 3:
			tuple = append(tuple, canon.UUID([16]byte(raw)))
		case 4:
			tuple = append(tuple, canon.Bytes(raw))
		case 5:
			tuple = append(tuple, canon.Bool(raw[0] == 1))
		}
		encoded = encoded[5+len(raw):]
	}
	return tuple
}

func FuzzAppend(f *testing.F) {
	f.Add("ab", int64(1), uint64(1), []byte("c"), true)
	f.Add("", int64(math.MinInt64), uint64(math.MaxUint64), uuid[:], false)
	f.Add("\x01\x00\x00\x00\x01a", int64(-1), uint64(0), []byte{}, true)
	f.Fuzz(func(t *testing.T, s string, i int64, u uint64, b []byte, yes bool) {
		var id [16]byte
		copy(id[:], b)
		tuple := []canon.Value{canon.Text(s), canon.Int(i), canon.Uint(u), canon.UUID(id), canon.Bytes(b), canon.Bool(yes)}
		var encoded []byte
		for _, v := range tuple {
			encoded = canon.Append(encoded, v)
		}
		if got := split(encoded); !slices.Equal(got, tuple) {
			t.Errorf("%x reads back as %q, not %q", encoded, got, tuple)
		}
	})
}

func TestParseUUID(t *testing.T) {
	for text, ok := range map[string]bool{
		"123e4567-e89b-12d3-a456-4266141740ff":    true,
		"123E4567-E89B-12D3-A456-4266141740FF":    true,
		"":                                        false,
		"123e4567e89b12d3a4564266141740ff":        false,
		"{123e4567-e89b-12d3-a456-4266141740ff}":  false,
		"123e4567-e89b-12d3-a456-4266141740f":     false,
		"123e4567-e89b-12d3-a456-4266141740fg":    false,
		"123e4567-e89b-12d3-a4564-266141740ff":    false,
		"123e4567-e89b-12d3-a456-42661417--ff":    false,
		"------------------------------------":    false,
		"123e4567-e89b-12d3-a456-4266141740f\x00": false,
	} {
		t.Run(fmt.Sprintf("%q is a UUID: %v", text, ok), func(t *testing.T) {
			v, got := canon.ParseUUID(text)
			if got != ok || ok && v != canon.UUID(uuid) || !ok && !v.IsZero() {
				t.Errorf("got %v, %v", v, got)
			}
		})
	}
}

func TestTyped(t *testing.T) {
	for _, c := range []struct {
		value canon.Value
		want  string
	}{
		{canon.Text("a:b"), "text:a:b"}, {canon.Text(""), "text:"}, {canon.Int(-7), "integer:-7"}, {canon.Uint(math.MaxUint64), "integer:18446744073709551615"},
		{canon.UUID([16]byte{1, 15: 255}), "uuid:01000000-0000-0000-0000-0000000000ff"}, {canon.Bytes([]byte{0, 0xAB}), "bytes:00ab"}, {canon.Bool(true), "boolean:true"}, {canon.Bool(false), "boolean:false"},
	} {
		if got := c.value.Typed(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
		if back, ok := canon.ParseTyped(c.want); !ok || back != c.value {
			t.Errorf("%s comes back as %v, %v", c.want, back, ok)
		}
	}
	for _, bad := range []string{"", "7", "integer", "integer:", "integer:07", "integer:+7", "integer:-0", "int:7", "uuid:01000000-0000-0000-0000-0000000000FF", "uuid:1", "bytes:0", "bytes:AB", "boolean:yes", "boolean:"} {
		if v, ok := canon.ParseTyped(bad); ok {
			t.Errorf("%q is %v", bad, v)
		}
	}
}
