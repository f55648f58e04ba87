package field_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/field"
)

var sentinels = map[string]error{
	"ErrPlaintext":    field.ErrPlaintext,
	"ErrMalformed":    field.ErrMalformed,
	"ErrUnknownSuite": field.ErrUnknownSuite,
	"ErrOtherKey":     field.ErrOtherKey,
	"ErrNotAuthentic": field.ErrNotAuthentic,
	"ErrType":         field.ErrType,
	"ErrIndex":        field.ErrIndex,
}

// class names the one sentinel that err wraps.
func class(t testing.TB, err error) string {
	t.Helper()
	var found []string
	for name, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Errorf("%v is %d of the sentinels: %v", err, len(found), found)
		return ""
	}
	return found[0]
}

// dekBytes has a run that no address, length or counter shows.
var dekBytes = bytes.Repeat([]byte{0xC5}, field.KeySize)

func newKey(t testing.TB, dek []byte, id byte) *field.Key {
	t.Helper()
	k, err := field.NewKey(dek, id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var email = field.NewPlace("clinic/test", "Patient", "email")

func TestKey(t *testing.T) {
	k := newKey(t, dekBytes, 1)
	t.Run("a field opens where it was sealed, 32 bytes longer than its value", func(t *testing.T) {
		for n := range 300 {
			value := bytes.Repeat([]byte{'v'}, n)
			sealed := k.Seal(nil, email, append([]byte{0x01}, value...))
			if len(sealed) != n+32 || field.Overhead != 32 {
				t.Fatalf("%d bytes from %d", len(sealed), n)
			}
			plain, err := k.Open(nil, email, sealed)
			if err != nil || !bytes.Equal(plain[1:], value) {
				t.Fatalf("got %q, %v", plain, err)
			}
		}
	})
	t.Run("no two ciphertexts of a value are equal", func(t *testing.T) {
		if a, b := k.Seal(nil, email, []byte("\x01x")), k.Seal(nil, email, []byte("\x01x")); bytes.Equal(a[3:15], b[3:15]) || bytes.Equal(a[15:], b[15:]) {
			t.Errorf("%x and %x", a, b)
		}
	})
	t.Run("a place is its names, not its pointer", func(t *testing.T) {
		sealed := k.Seal(nil, email, []byte("\x01x"))
		if _, err := k.Open(nil, field.NewPlace("clinic/test", "Patient", "email"), sealed); err != nil {
			t.Error(err)
		}
	})
	t.Run("every id seals and opens", func(t *testing.T) {
		for id := 1; id <= 255; id++ {
			k := newKey(t, dekBytes, byte(id))
			sealed := k.Seal(nil, email, []byte("\x01x"))
			got, err := field.KeyID(sealed)
			if err != nil || int(got) != id || k.ID() != got {
				t.Fatalf("id %d: KeyID %d, ID %d, %v", id, got, k.ID(), err)
			}
			if _, err := k.Open(nil, email, sealed); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("dst is appended to, with room and without", func(t *testing.T) {
		for _, room := range []int{0, 1, 3, 64, 4096} {
			dst := append(make([]byte, 0, room), "kept"...)
			sealed := k.Seal(dst, email, []byte("\x01value"))
			if !bytes.HasPrefix(sealed, []byte("kept")) {
				t.Fatalf("Seal gave %q", sealed)
			}
			plain, err := k.Open(append(make([]byte, 0, room), "kept"...), email, sealed[4:])
			if err != nil || string(plain) != "kept\x01value" {
				t.Fatalf("Open gave %q, %v", plain, err)
			}
		}
	})
	t.Run("Open leaves the sealed bytes as they are", func(t *testing.T) {
		sealed := k.Seal(nil, email, []byte("\x01value"))
		before := bytes.Clone(sealed)
		if _, err := k.Open(nil, email, sealed); err != nil || !bytes.Equal(sealed, before) {
			t.Errorf("%x became %x, %v", before, sealed, err)
		}
	})
	t.Run("it is safe for concurrent use", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 100 {
					if _, err := k.Open(nil, email, k.Seal(nil, email, []byte("\x01x"))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestKey_Open_refuses(t *testing.T) {
	k := newKey(t, dekBytes, 1)
	sealed := k.Seal(nil, email, []byte("\x01"+canary))
	refused := func(t *testing.T, k *field.Key, p *field.Place, sealed []byte, want string) {
		t.Helper()
		dst := append(make([]byte, 0, 256), "kept"...)
		plain, err := k.Open(dst, p, sealed)
		if plain != nil || err == nil {
			t.Errorf("opened %q", plain)
			return
		}
		if got := class(t, err); want != "" && got != want {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
		if !strings.HasPrefix(err.Error(), "field: open "+p.String()+": ") || strings.Contains(err.Error(), canary) {
			t.Errorf("error text: %v", err)
		}
		if bytes.Contains(dst[:cap(dst)], []byte(canary)) {
			t.Error("the plaintext is in dst's spare capacity")
		}
	}
	other := bytes.Clone(dekBytes)
	other[31] ^= 1
	for _, c := range []struct {
		name   string
		key    *field.Key
		place  *field.Place
		sealed []byte
		want   string
	}{
		{"another column", k, field.NewPlace("clinic/test", "Patient", "phone"), sealed, "ErrNotAuthentic"},
		{"another model", k, field.NewPlace("clinic/test", "Doctor", "email"), sealed, "ErrNotAuthentic"},
		{"another namespace", k, field.NewPlace("clinic/live", "Patient", "email"), sealed, "ErrNotAuthentic"},
		{"names that join to the same text", k, field.NewPlace("clinic/testPatient", "", "email"), sealed, "ErrNotAuthentic"},
		{"another data key", newKey(t, other, 1), email, sealed, "ErrNotAuthentic"},
		{"the same data key by another number", newKey(t, dekBytes, 2), email, sealed, "ErrOtherKey"},
		{"a number changed with the key's", newKey(t, dekBytes, 2), email, alter(sealed, 2, 2), "ErrNotAuthentic"},
		{"a number above the prepared table, changed with the key's", newKey(t, dekBytes, 200), email, alter(sealed, 2, 200), "ErrNotAuthentic"},
		{"nothing", k, email, nil, "ErrPlaintext"},
		{"text", k, email, []byte("ada@example.org, who wrote the first program"), "ErrPlaintext"},
		{"text in any script", k, email, []byte("Ада Лавлейс \U0010FFFF"), "ErrPlaintext"},
		{"a zero byte", k, email, make([]byte, 64), "ErrPlaintext"},
		{"the format byte alone", k, email, sealed[:1], "ErrMalformed"},
		{"a header alone", k, email, sealed[:3], "ErrMalformed"},
		{"no kind", k, email, sealed[:31], "ErrMalformed"},
		{"one byte less", k, email, sealed[:len(sealed)-1], "ErrNotAuthentic"},
		{"one byte more", k, email, append(bytes.Clone(sealed), 0), "ErrNotAuthentic"},
		{"key number zero", k, email, alter(sealed, 2, 0), "ErrMalformed"},
		{"another format", k, email, alter(sealed, 0, 0xFA), "ErrUnknownSuite"},
		{"the format below", k, email, alter(sealed, 0, 0xF8), "ErrUnknownSuite"},
		{"suite zero", k, email, alter(sealed, 1, 0), "ErrUnknownSuite"},
		{"the padding flag", k, email, alter(sealed, 1, 0x81), "ErrUnknownSuite"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.key, c.place, c.sealed, c.want) })
	}
	t.Run("any bit changed", func(t *testing.T) {
		for i := range sealed {
			for bit := range 8 {
				want := "ErrNotAuthentic"
				switch {
				case i == 0: // below or above 0xF8
					want = ""
				case i == 1:
					want = "ErrUnknownSuite"
				case i == 2 && bit == 0: // 1 becomes 0
					want = "ErrMalformed"
				case i == 2:
					want = "ErrOtherKey"
				}
				refused(t, k, email, alter(sealed, i, sealed[i]^1<<bit), want)
			}
		}
	})
	t.Run("any truncation", func(t *testing.T) {
		for n := range sealed {
			refused(t, k, email, sealed[:n], "")
		}
	})
}

func alter(sealed []byte, i int, to byte) []byte {
	b := bytes.Clone(sealed)
	b[i] = to
	return b
}

func TestNewKey_refuses(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if k, err := field.NewKey(make([]byte, n), 1); k != nil || err == nil || !strings.HasPrefix(err.Error(), "field: ") {
			t.Errorf("%d bytes: %v, %v", n, k, err)
		}
	}
	if k, err := field.NewKey(dekBytes, 0); k != nil || err == nil {
		t.Errorf("number 0, which no sealed field may have: %v, %v", k, err)
	}
}

// resting derives as a data key's own method does.
func resting(t testing.TB, dek []byte, id byte) field.RestingKey {
	t.Helper()
	r, err := field.RestingKeyFrom(func(info []byte) (sub [field.KeySize]byte) {
		b, err := hkdf.Expand(sha256.New, dek, string(info), field.KeySize)
		if err != nil {
			t.Fatal(err)
		}
		copy(sub[:], b)
		return sub
	}, id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRestingKey(t *testing.T) {
	r := resting(t, dekBytes, 7)
	t.Run("it opens what the key seals, and the other way round, as often as it is expanded", func(t *testing.T) {
		k := newKey(t, dekBytes, 7)
		for range 3 {
			expanded, err := r.Expand()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ seals, opens *field.Key }{{k, expanded}, {expanded, k}} {
				plain, err := c.opens.Open(nil, email, c.seals.Seal(nil, email, []byte("\x01value")))
				if err != nil || string(plain) != "\x01value" || c.seals.ID() != 7 {
					t.Errorf("got %d bytes, %v, number %d", len(plain), err, c.seals.ID())
				}
			}
		}
	})
	t.Run("copies are equal, and no others", func(t *testing.T) {
		same := r
		if same != r || r == resting(t, dekBytes, 7) || r == (field.RestingKey{}) {
			t.Error("one key for another")
		}
	})
	t.Run("number 0, which no sealed field may have, is refused", func(t *testing.T) {
		if r, err := field.RestingKeyFrom(func([]byte) (sub [field.KeySize]byte) { return sub }, 0); err == nil || !r.IsZero() {
			t.Errorf("%v, %v", r, err)
		}
	})
	t.Run("no key is no key of zeros", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("it was expanded")
			}
		}()
		_, _ = field.RestingKey{}.Expand()
	})
}

// TestSpecification seals and opens by docs/format.md and the standard library alone.
func TestSpecification(t *testing.T) {
	text := func(s string) string { return fmt.Sprintf("\x01\x00\x00\x00%c%s", len(s), s) }
	integer := func(s string) string { return fmt.Sprintf("\x02\x00\x00\x00%c%s", len(s), s) }
	key, err := hkdf.Expand(sha256.New, dekBytes, text("rowseal/field-key")+integer("1"), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []byte{1, 7, 8, 255} {
		k := newKey(t, dekBytes, id)
		data := text("rowseal/field") + integer("249") + integer("1") + text("clinic/test") + text("Patient") + text("email") + integer(fmt.Sprint(id))
		t.Run(fmt.Sprintf("what the code seals with number %d opens by the specification", id), func(t *testing.T) {
			sealed := k.Seal(nil, email, []byte("\x01value"))
			if !bytes.HasPrefix(sealed, []byte{0xF9, 0x01, id}) {
				t.Errorf("header %x", sealed[:3])
			}
			plain, err := aead.Open(nil, nil, sealed[3:], []byte(data))
			if err != nil || string(plain) != "\x01value" {
				t.Errorf("got %q, %v", plain, err)
			}
		})
		t.Run(fmt.Sprintf("what the specification seals with number %d opens in the code", id), func(t *testing.T) {
			sealed := aead.Seal([]byte{0xF9, 0x01, id}, nil, []byte("\x01value"), []byte(data))
			plain, err := k.Open(nil, email, sealed)
			if err != nil || string(plain) != "\x01value" {
				t.Errorf("got %q, %v", plain, err)
			}
		})
	}
}

// spellings are the ways in which a text could show a secret, for whoever searches one for it.
func spellings(secret []byte) map[string]string {
	return map[string]string{
		"raw": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret), "list": strings.Trim(fmt.Sprint(secret), "[]"),
		"Go": strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"), "base64": base64.RawStdEncoding.EncodeToString(secret[:6]), "quoted": strings.Trim(fmt.Sprintf("%q", secret), `"`),
	}
}

func TestKey_never_prints(t *testing.T) {
	k := newKey(t, dekBytes, 1)
	sub, err := hkdf.Expand(sha256.New, dekBytes, "\x01\x00\x00\x00\x11rowseal/field-key\x02\x00\x00\x00\x011", 32)
	if err != nil {
		t.Fatal(err)
	}
	held := []any{k, *k, &k, struct{ K *field.Key }{k}, struct{ k *field.Key }{k}, &struct{ k field.Key }{*k}, []*field.Key{k}, map[string]*field.Key{"k": k}, any(k)}
	r := resting(t, dekBytes, 1)
	held = append(held, r, &r, struct{ R field.RestingKey }{r}, struct{ r field.RestingKey }{r}, &struct{ r field.RestingKey }{r}, struct{ r *field.RestingKey }{&r}, []field.RestingKey{r}, map[field.RestingKey]int{r: 1})
	var out strings.Builder
	for _, v := range held {
		for _, verb := range "vsqxXdboOcUeEfFgGtTp" {
			for _, flag := range []string{"", "+", "#", " ", "0"} {
				_, _ = fmt.Fprintf(&out, "%"+flag+string(verb)+"\n", v)
			}
		}
		b, _ := json.Marshal(v)
		out.Write(b)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "k", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("key", "k", v)
	}
	// The round keys of AES are words in either order, and the first eight are the key.
	for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
		for _, verb := range []string{"%d %d", "%x %x", "%#x, %#x", "%X %X", "%o %o", "%b %b"} {
			if words := fmt.Sprintf(verb, order.Uint32(sub), order.Uint32(sub[4:])); strings.Contains(out.String(), words) {
				t.Errorf("the round keys are shown as %s", verb)
			}
		}
	}
	for name, secret := range map[string][]byte{"data key": dekBytes[:8], "field key": sub[:8]} {
		for form, s := range spellings(secret) {
			if strings.Contains(out.String(), s) {
				t.Errorf("the %s is shown as %s", name, form)
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v %s %x", k, k, k, k, k); got != strings.TrimSpace(strings.Repeat("field.Key(***) ", 5)) {
		t.Errorf("got %q", got)
	}
	if got := fmt.Sprintf("%v %+v %#v %s %x", r, r, r, r, r); got != strings.TrimSpace(strings.Repeat("field.RestingKey(***) ", 5)) {
		t.Errorf("got %q", got)
	}
}

func TestParseText(t *testing.T) {
	k := newKey(t, dekBytes, 1)
	t.Run("what AppendText wrote comes back", func(t *testing.T) {
		for n := range 70 {
			sealed := k.Seal(nil, email, make([]byte, n+1))
			text := field.AppendText([]byte("kept"), sealed)
			got, err := field.ParseText(string(text[4:]))
			if !bytes.HasPrefix(text, []byte("keptrs1:")) || err != nil || !bytes.Equal(got, sealed) {
				t.Fatalf("%s: %x, %v", text, got, err)
			}
		}
	})
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "ErrPlaintext"},
		{"text", "ada@example.org", "ErrPlaintext"},
		{"the prefix in capitals", "RS1:+QEB", "ErrPlaintext"},
		{"a later prefix", "rs2:+QEB", "ErrPlaintext"},
		{"the prefix alone", "rs1:", "ErrMalformed"},
		{"text behind the prefix", "rs1:hello", "ErrMalformed"},
		{"base64 of text behind the prefix", "rs1:aGVsbG8", "ErrMalformed"},
		{"padding", "rs1:+QEBAA==", "ErrMalformed"},
		{"base64 for URLs", "rs1:-QEB", "ErrMalformed"},
		{"unused bits", "rs1:+QEBAB", "ErrMalformed"},
		{"a single character", "rs1:+QEBA", "ErrMalformed"},
		{"a line break", "rs1:+QEB\n", "ErrMalformed"},
		{"a carriage return inside", "rs1:+Q\rEB", "ErrMalformed"},
		{"a space", "rs1: +QEB", "ErrMalformed"},
		{"a zero byte", "rs1:+QEB\x00", "ErrMalformed"},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			sealed, err := field.ParseText(c.text)
			if sealed != nil || err == nil || class(t, err) != c.want {
				t.Errorf("got %x, %v", sealed, err)
			}
		})
	}
}

func TestKeyID_refuses(t *testing.T) {
	for sealed, want := range map[string]string{
		"":                                 "ErrPlaintext",
		"68656c6c6f":                       "ErrPlaintext",
		"f9":                               "ErrMalformed",
		"f90101":                           "ErrMalformed",
		"fa0101" + strings.Repeat("0", 64): "ErrUnknownSuite",
		"f90201" + strings.Repeat("0", 64): "ErrUnknownSuite",
		"f90100" + strings.Repeat("0", 64): "ErrMalformed",
	} {
		b, err := hex.DecodeString(sealed)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := field.KeyID(b); id != 0 || err == nil || class(t, err) != want {
			t.Errorf("%s: %d, %v", sealed, id, err)
		}
	}
}
