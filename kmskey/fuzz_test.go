package kmskey_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

func FuzzParseEnvelope(f *testing.F) {
	for _, r := range readVectors(f) {
		f.Add(r.get("envelope"))
	}
	for _, c := range corrupt {
		f.Add(c.text)
	}
	_, stone := documented(f)
	f.Add(stone)
	k := keyring(f, 0, appender{})
	f.Fuzz(func(t *testing.T, text string) {
		e, err := kmskey.ParseEnvelope(text)
		if err != nil {
			kinds := 0
			for _, kind := range []error{kmskey.ErrCorrupt, kmskey.ErrPending, kmskey.ErrShredded} {
				if errors.Is(err, kind) {
					kinds++
				}
			}
			if kinds != 1 || kmskey.IsTombstone(text) != errors.Is(err, kmskey.ErrShredded) || !e.IsZero() {
				t.Errorf("%q: %v, %v", text, e, err)
			}
			return
		}
		if e.IsZero() || e.Version() < 1 || e.String() != text {
			t.Errorf("%q parses and encodes to %q", text, e)
		}
		if _, err := k.Unwrap(t.Context(), e, visit(1)); err == nil || e.String() != text {
			t.Errorf("%q became %q, %v", text, e, err)
		}
	})
}

// FuzzEnvelopeBody is FuzzParseEnvelope behind the base64, where most bytes are.
func FuzzEnvelopeBody(f *testing.F) {
	n := 0
	for _, r := range readVectors(f) {
		for i, c := range r.get("envelope") {
			if body, err := base64.RawStdEncoding.DecodeString(r.get("envelope")[i+1:]); c == ':' && err == nil {
				f.Add(body, uint32(1))
				n++
			}
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, body []byte, version uint32) {
		text := "v" + kmskey.Uint(uint64(version)).String() + ":" + base64.RawStdEncoding.EncodeToString(body)
		if e, err := kmskey.ParseEnvelope(text); err == nil && e.String() != text || err != nil && !errors.Is(err, kmskey.ErrCorrupt) {
			t.Errorf("%q: %q, %v", text, e, err)
		}
	})
}

func FuzzSealedMessage(f *testing.F) {
	n := 0
	for _, r := range readVectors(f) {
		if r["sealed"] != nil {
			f.Add(r.get("sealed"))
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	for _, c := range corrupt {
		f.Add(c.text + ".+wEB")
	}
	// Whose wraps are all its own, so that what parses is moved to where it is already.
	k := keyring(f, 1, stub{kmskey.NewDEK()})
	b := box(f, k, "reports")
	f.Fuzz(func(t *testing.T, text string) {
		out, err := b.Rewrap(t.Context(), text, nil, nil)
		if err == nil && out != text || err != nil && out != "" {
			t.Errorf("%q became %q, %v", text, out, err)
		}
		if err == nil {
			_, encoded, _ := strings.Cut(text, ".")
			raw, err := base64.RawStdEncoding.DecodeString(encoded)
			if err != nil || base64.RawStdEncoding.EncodeToString(raw) != encoded || !bytes.HasPrefix(raw, []byte{0xFB, 1}) {
				t.Errorf("%q parses and holds %x, %v", text, raw, err)
			}
		}
		if message, err := b.Open(t.Context(), text); err == nil {
			t.Errorf("%q opens as %q", text, message)
		}
	})
}

func FuzzContext(f *testing.F) {
	n := 0
	for _, r := range readVectors(f) {
		if r["context"] == nil {
			continue
		}
		own, err := r.row(f).Context(1)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(own[0].Name, own[0].Value.String(), own[len(own)-1].Name, []byte(own[len(own)-1].Value.String()), int64(1))
		n++
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Add("a", "\x01\x00\x00\x00\x01b", "ab", []byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, name1, text, name2 string, b []byte, i int64) {
		p := []kmskey.Pair{{Name: name1, Value: kmskey.Text(text)}, {Name: name2, Value: kmskey.Bytes(b)}, {Name: "id", Value: kmskey.Int(i)}}
		c, err := kmskey.NewContext(p...)
		d, err2 := kmskey.NewContext(p[2], p[1], p[0])
		if (err == nil) != (err2 == nil) {
			t.Fatalf("the order decides: %v, %v", err, err2)
		}
		if err != nil {
			return
		}
		if !c.Equal(d) || !bytes.Equal(c.Canonical(), d.Canonical()) || len(c.Strings()) != 3 || c.Len() != 3 {
			t.Errorf("%v and %v", c, d)
		}
		// Reading the canonical form back, by docs/format.md alone, gives the pairs: no two contexts share it.
		rest := c.Canonical()[5+len("rowseal/context"):]
		next := func(tag byte) string {
			if rest[0] != tag {
				t.Fatalf("tag %d, want %d", rest[0], tag)
			}
			n := 5 + int(binary.BigEndian.Uint32(rest[1:]))
			s := string(rest[5:n])
			rest = rest[n:]
			return s
		}
		for name, v := range c.Pairs() {
			if got := next(1); got != name {
				t.Errorf("name %q, want %q", got, name)
			}
			switch name {
			case name1:
				if got := next(1); got != text || v != kmskey.Text(text) {
					t.Errorf("text %q", got)
				}
			case name2:
				if got := next(4); got != string(b) {
					t.Errorf("bytes %q", got)
				}
			default:
				if got := next(2); got != v.String() {
					t.Errorf("integer %q", got)
				}
			}
		}
		if len(rest) != 0 {
			t.Errorf("%x is left", rest)
		}
	})
}
