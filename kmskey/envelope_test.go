package kmskey_test

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// rawWrap and rawKey build envelope bodies by docs/format.md, section 4, right or wrong.
func rawWrap(service, ref, blob string) string {
	b := append([]byte{byte(len(service))}, service...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(ref))), ref...)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(blob))), blob...))
}

func rawKey(id, suite, mode byte, version uint32, wraps int, content string) string {
	b := binary.BigEndian.AppendUint32([]byte{id, suite, mode}, version)
	return string(append(b, strings.Repeat("c", 32)...)) + string([]byte{byte(wraps)}) + content
}

func rawText(prefix string, body ...string) string {
	return prefix + base64.RawStdEncoding.EncodeToString([]byte(strings.Join(body, "")))
}

// join puts the keys of several envelopes into one, as a writer does that may not unwrap.
func join(t testing.TB, oldest int, envelopes ...kmskey.Envelope) kmskey.Envelope {
	t.Helper()
	var keys, flags string
	for _, e := range envelopes {
		_, text, _ := strings.Cut(e.String(), ":")
		body, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil || body[2] != 1 {
			t.Fatal("not an envelope of one key", err)
		}
		flags, keys = string(body[1]), keys+string(body[3:])
	}
	e, err := kmskey.ParseEnvelope(rawText(fmt.Sprintf("v%d:", oldest), "\x01", flags, string([]byte{byte(len(envelopes))}), keys))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var goodWrap = rawWrap("test", "ref", "blob")

func good(version uint32) string { return rawKey(1, 1, 1, version, 1, goodWrap) }

func TestParseEnvelope_reads(t *testing.T) {
	for _, c := range []struct {
		name, text string
		version    int
	}{
		{"one key", rawText("v1:", "\x01\x00\x01", good(1)), 1},
		{"an unbound key", rawText("v1:", "\x01\x01\x01", good(1)), 1},
		{"the greatest version", rawText("v2147483647:", "\x01\x00\x01", good(1<<31-1)), 1<<31 - 1},
		{"the greatest id", rawText("v1:", "\x01\x00\x01", rawKey(255, 1, 1, 1, 1, goodWrap)), 1},
		{"four keys, the oldest version in the middle", rawText("v2:", "\x01\x00\x04",
			rawKey(9, 1, 1, 3, 1, goodWrap), rawKey(8, 1, 1, 2, 1, goodWrap), rawKey(7, 1, 1, 5, 1, goodWrap), rawKey(6, 1, 1, 4, 1, goodWrap)), 2},
		{"eight wraps", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 8, strings.Repeat(goodWrap, 8))), 1},
		{"an empty key reference", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "", "b"))), 1},
		{"the longest of all", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a-service-of-16b", strings.Repeat("r", 1024), strings.Repeat("b", 16384)))), 1},
		{"a reference beyond ASCII", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "schlüssel", "b"))), 1},
	} {
		t.Run(c.name+", and writes the same text", func(t *testing.T) {
			e, err := kmskey.ParseEnvelope(c.text)
			if err != nil || e.IsZero() || e.Version() != c.version || e.String() != c.text {
				t.Errorf("got version %d, %q, %v", e.Version(), e, err)
			}
		})
	}
}

// corrupt are texts that are no envelope.
var corrupt = []struct{ name, text string }{
	{"nothing", ""},
	{"plaintext", "ada@example.org"},
	{"no version", rawText("", "\x01\x00\x01", good(1))},
	{"an empty version", rawText("v:", "\x01\x00\x01", good(1))},
	{"a capital V", rawText("V1:", "\x01\x00\x01", good(1))},
	{"version zero", rawText("v0:", "\x01\x00\x01", good(0))},
	{"a leading zero", rawText("v01:", "\x01\x00\x01", good(1))},
	{"a sign", rawText("v+1:", "\x01\x00\x01", good(1))},
	{"a leading space", rawText(" v1:", "\x01\x00\x01", good(1))},
	{"another version than inside", rawText("v2:", "\x01\x00\x01", good(1))},
	{"the newest version of the ring", rawText("v2:", "\x01\x00\x02", good(1), rawKey(2, 1, 1, 2, 1, goodWrap))},
	{"a version above the limit", rawText("v2147483648:", "\x01\x00\x01", good(1<<31))},
	{"a version above 32 bits", rawText("v4294967297:", "\x01\x00\x01", good(1))},
	{"no body", "v1:"},
	{"no base64", "v1:!!!!"},
	{"padding", "v1:" + base64.StdEncoding.EncodeToString([]byte("\x01\x00\x01"+rawKey(1, 1, 1, 1, 1, rawWrap("test", "ref", "blo"))))},
	{"base64 for URLs", "v1:" + base64.RawURLEncoding.EncodeToString([]byte("\x01\x00\x01"+rawKey(1, 1, 1, 1, 1, rawWrap("a", "", "\xff\xff\xff\xff"))))},
	{"unused bits set", strings.TrimSuffix(rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "", "b"))), "g") + "h"},
	{"a line break", rawText("v1:", "\x01\x00\x01", good(1)) + "\n"},
	{"a line break inside", "v1:\n" + rawText("", "\x01\x00\x01", good(1))},
	{"a trailing space", rawText("v1:", "\x01\x00\x01", good(1)) + " "},
	{"a later format", rawText("v1:", "\x02\x00\x01", good(1))},
	{"format zero", rawText("v1:", "\x00\x00\x01", good(1))},
	{"a reserved flag", rawText("v1:", "\x01\x02\x01", good(1))},
	{"no key", rawText("v1:", "\x01\x00\x00")},
	{"five keys", rawText("v1:", "\x01\x00\x05", good(1), rawKey(2, 1, 1, 1, 1, goodWrap), rawKey(3, 1, 1, 1, 1, goodWrap), rawKey(4, 1, 1, 1, 1, goodWrap), rawKey(5, 1, 1, 1, 1, goodWrap))},
	{"fewer keys than counted", rawText("v1:", "\x01\x00\x02", good(1))},
	{"more keys than counted", rawText("v1:", "\x01\x00\x01", good(1), rawKey(2, 1, 1, 1, 1, goodWrap))},
	{"a byte after the end", rawText("v1:", "\x01\x00\x01", good(1), "\x00")},
	{"id zero", rawText("v1:", "\x01\x00\x01", rawKey(0, 1, 1, 1, 1, goodWrap))},
	{"an id twice", rawText("v1:", "\x01\x00\x02", good(1), good(1))},
	{"a later suite", rawText("v1:", "\x01\x00\x01", rawKey(1, 2, 1, 1, 1, goodWrap))},
	{"the reserved branch mode", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 2, 1, 1, goodWrap))},
	{"no wrap", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 0, ""))},
	{"nine wraps", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 9, strings.Repeat(goodWrap, 9)))},
	{"an empty service", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("", "ref", "blob")))},
	{"a service of 17 bytes", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a-service-of-17-b", "ref", "blob")))},
	{"a service in capitals", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("AWS", "ref", "blob")))},
	{"a service with a bad byte inside", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a s", "ref", "blob")))},
	{"a key reference of 1025 bytes", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", strings.Repeat("r", 1025), "blob")))},
	{"a key reference that is not UTF-8", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "\xff", "blob")))},
	{"an empty wrapped key", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "ref", "")))},
	{"a wrapped key of 16385 bytes", rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap("a", "ref", strings.Repeat("b", 16385))))},
	{"a shredded key", "shredded:2026-01-01"},
}

func TestParseEnvelope_corrupt(t *testing.T) {
	isCorrupt := func(t *testing.T, text string) {
		t.Helper()
		e, err := kmskey.ParseEnvelope(text)
		if !e.IsZero() || !errors.Is(err, kmskey.ErrCorrupt) || errors.Is(err, kmskey.ErrPending) || !strings.HasPrefix(err.Error(), "kmskey: read envelope: ") {
			t.Errorf("%q: got %v, %v", text, e, err)
		}
	}
	for _, c := range corrupt {
		t.Run(c.name+" is refused", func(t *testing.T) { isCorrupt(t, c.text) })
	}
	whole := "\x01\x00\x02" + rawKey(1, 1, 1, 1, 2, goodWrap+goodWrap) + rawKey(2, 1, 1, 1, 1, goodWrap)
	t.Run("every truncation is refused", func(t *testing.T) {
		for n := range whole {
			isCorrupt(t, rawText("v1:", whole[:n]))
		}
		text := rawText("v1:", whole)
		for n := range text {
			isCorrupt(t, text[:n])
		}
	})
	t.Run("every changed byte is refused, or is another envelope with a text of its own", func(t *testing.T) {
		for i := range len(whole) {
			for b := range 256 {
				if byte(b) == whole[i] {
					continue
				}
				text := rawText("v1:", whole[:i], string([]byte{byte(b)}), whole[i+1:])
				if e, err := kmskey.ParseEnvelope(text); err != nil {
					isCorrupt(t, text)
				} else if e.String() != text {
					t.Errorf("byte %d as %02x: %q encodes to %q", i, b, text, e)
				}
			}
		}
	})
	t.Run("an error quotes nothing of the column", func(t *testing.T) {
		for _, text := range []string{"canary@example.org", "v1:canary@", "v1:Y2FuYXJ5", "shredded:canary", "pending:canary", "vcanary:AQAB"} {
			if _, err := kmskey.ParseEnvelope(text); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}

func TestParseEnvelope_pending(t *testing.T) {
	for _, text := range []string{"pending:AAAAAAAAAAAAAAAAAAAAAA", "pending:", "pending:damaged"} {
		if e, err := kmskey.ParseEnvelope(text); !e.IsZero() || !errors.Is(err, kmskey.ErrPending) || errors.Is(err, kmskey.ErrCorrupt) {
			t.Errorf("%q: got %v, %v", text, e, err)
		}
	}
}

func TestEnvelope_zero(t *testing.T) {
	var e kmskey.Envelope
	if !e.IsZero() || e.Version() != 0 || e.String() != "" {
		t.Errorf("IsZero %v, version %d, %q", e.IsZero(), e.Version(), e)
	}
	k := keyring(t, 0, &testProvider{ref: "r"})
	refused(t, k, e, patient(1), kmskey.ErrCorrupt)
	if got, err := k.Rewrap(t.Context(), e, patient(1), patient(1)); !got.IsZero() || !errors.Is(err, kmskey.ErrCorrupt) {
		t.Errorf("Rewrap: %v, %v", got, err)
	}
}

func TestEnvelope_is_immutable(t *testing.T) {
	// A provider that appends to one wrapped key must not write into the next, which lies behind it in memory.
	text := rawText("v1:", "\x01\x00\x02", rawKey(1, 1, 1, 1, 2, rawWrap("test", "r", "one")+rawWrap("test", "r", "two")), rawKey(2, 1, 1, 1, 1, goodWrap))
	e, err := kmskey.ParseEnvelope(text)
	if err != nil {
		t.Fatal(err)
	}
	k := keyring(t, 0, appender{})
	if _, err := k.Unwrap(t.Context(), e, patient(1)); err == nil {
		t.Error("opened")
	}
	if e.String() != text {
		t.Errorf("%q became %q", text, e)
	}
}

func TestEnvelope_size(t *testing.T) {
	// The numbers of the table in docs/format.md.
	for _, c := range []struct {
		service   string
		ref, blob int
		bytes     int
		text      int
	}{
		{"aws", 78, 184, 48 + 3 + 78 + 184, 421},
		{"local", 22, 77, 48 + 5 + 22 + 77, 206},
	} {
		text := rawText("v1:", "\x01\x00\x01", rawKey(1, 1, 1, 1, 1, rawWrap(c.service, strings.Repeat("r", c.ref), strings.Repeat("b", c.blob))))
		if _, err := kmskey.ParseEnvelope(text); err != nil || len(text) != c.text || base64.RawStdEncoding.DecodedLen(len(text)-3) != c.bytes {
			t.Errorf("%s: %d characters, %v", c.service, len(text), err)
		}
	}
}
