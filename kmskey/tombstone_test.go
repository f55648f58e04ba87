package kmskey_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// documented gives the envelope of docs/format.md, section 11, and its tombstone, of section 16.
func documented(t testing.TB) (envelope, stone string) {
	t.Helper()
	page, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	find := func(pattern string) string {
		found := regexp.MustCompile(pattern).FindSubmatch(page)
		if found == nil {
			t.Fatalf("docs/format.md has no %s", pattern)
		}
		return string(found[1])
	}
	return find(`(?m)^    envelope +(v1:\S+)$`), find(`(?m)^    tombstone +(shredded:\S+)$`)
}

func TestTombstone(t *testing.T) {
	text, stone := documented(t)
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		t.Fatal(err)
	}
	got := env.Tombstone()
	if got.String() != stone || !kmskey.IsTombstone(stone) || len(got.Digests()) != 1 {
		t.Errorf("%s, and the documentation has %s", got, stone)
	}
	if !got.Meets(got.Digests()) || got.Meets(nil) || (kmskey.Tombstone{}).Meets(got.Digests()) {
		t.Error("Meets")
	}
	if _, err := kmskey.ParseEnvelope(stone); !errors.Is(err, kmskey.ErrShredded) || errors.Is(err, kmskey.ErrCorrupt) || kmskey.Outcome(err) != "shredded" {
		t.Errorf("as an envelope: %v", err)
	}
	if none := (kmskey.Tombstone{}).String(); none != "shredded:" || !kmskey.IsTombstone(none) {
		t.Errorf("%q", none)
	}
	four := stone + strings.Repeat("."+stone[len("shredded:"):], 3)
	if parsed, err := kmskey.ParseTombstone(four); err != nil || parsed.String() != four || len(parsed.Digests()) != 4 {
		t.Errorf("four keys: %v", err)
	}
	for _, bad := range []string{
		"", "shredded", text, "pending:AAAAAAAAAAAAAAAAAAAAAA", "shredded:canary", "shredded:.", stone + ".", stone + "=", stone + "\n", "Shredded:" + stone[9:], " " + stone,
		stone[:len(stone)-1], stone[:len(stone)-1] + "J" /* unused bits */, four + "." + stone[9:],
	} {
		if parsed, err := kmskey.ParseTombstone(bad); !errors.Is(err, kmskey.ErrCorrupt) || strings.Contains(err.Error(), "canary") || len(parsed.Digests()) != 0 {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := kmskey.ParseEnvelope(bad); errors.Is(err, kmskey.ErrShredded) {
			t.Errorf("%q is a shredded key", bad)
		}
	}
}

func FuzzParseTombstone(f *testing.F) {
	_, stone := documented(f)
	for _, seed := range []string{stone, "shredded:", stone + "." + stone[9:], "shredded:canary", stone + "\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := kmskey.ParseTombstone(text)
		if err == nil && parsed.String() != text {
			t.Errorf("%q encodes to %q", text, parsed)
		}
	})
}
