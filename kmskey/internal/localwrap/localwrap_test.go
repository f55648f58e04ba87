package localwrap

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
)

var (
	testKey = bytes.Repeat([]byte{0xa5}, KeySize)
	secret  = bytes.Repeat([]byte{0x5a}, KeySize)
)

func TestSeal(t *testing.T) {
	t.Run("opens_under_the_same_key_purpose_reference_and_context", func(t *testing.T) {
		blob, err := Seal(testKey, "local", "ref", []byte("context"), secret)
		if err != nil {
			t.Fatal(err)
		}
		if len(blob) != Size {
			t.Errorf("blob has %d bytes, not %d", len(blob), Size)
		}
		got, err := Open(testKey, "local", "ref", []byte("context"), blob)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("Open: %x, %v", got, err)
		}
	})
	t.Run("derives_as_HKDF_of_the_standard_library", func(t *testing.T) {
		salt := bytes.Repeat([]byte{7}, saltSize)
		sub, err := hkdf.Key(sha256.New, testKey, salt, string(tuple(nil, labelKey, "local", "ref")), KeySize)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := aes.NewCipher(sub)
		reference, _ := cipher.NewGCMWithRandomNonce(block)
		aead, err := subKey(testKey, salt, "local", "ref")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reference.Open(nil, nil, aead.Seal(nil, nil, secret, nil), nil); err != nil {
			t.Error("another sub-key")
		}
	})
	t.Run("salt_and_nonce_differ_on_every_call", func(t *testing.T) {
		a, _ := Seal(testKey, "local", "ref", nil, secret)
		b, _ := Seal(testKey, "local", "ref", nil, secret)
		if bytes.Equal(a[1:17], b[1:17]) || bytes.Equal(a[17:29], b[17:29]) || bytes.Equal(a[29:61], b[29:61]) {
			t.Error("two wraps share a salt, a nonce or a ciphertext")
		}
	})
	t.Run("a_secret_that_is_no_key_is_refused", func(t *testing.T) {
		for _, n := range []int{0, 16, 31, 33} {
			if _, err := Seal(testKey, "local", "ref", nil, make([]byte, n)); err == nil {
				t.Errorf("%d bytes were wrapped", n)
			}
		}
	})
	t.Run("a_wrapping_key_of_another_length_is_refused", func(t *testing.T) {
		for _, n := range []int{0, 16, 24, 31, 33} {
			if _, err := Seal(make([]byte, n), "local", "ref", nil, secret); err == nil {
				t.Errorf("a key of %d bytes wrapped", n)
			}
			if _, err := KeyID(make([]byte, n)); err == nil {
				t.Errorf("a key of %d bytes has an id", n)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	blob, err := Seal(testKey, "local", "ref", []byte("context"), secret)
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Repeat([]byte{0xa6}, KeySize)
	for _, c := range []struct {
		name              string
		key               []byte
		purpose, ref, ctx string
	}{
		{"another_key", other, "local", "ref", "context"},
		{"another_purpose", testKey, "branch", "ref", "context"},
		{"another_reference", testKey, "local", "fer", "context"},
		{"another_context", testKey, "local", "ref", "Context"},
		{"no_context", testKey, "local", "ref", ""},
		{"a_byte_moved_from_purpose_to_reference", testKey, "loca", "lref", "context"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Open(c.key, c.purpose, c.ref, []byte(c.ctx), blob); !errors.Is(err, ErrNotAuthentic) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("every_altered_byte", func(t *testing.T) {
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 0x01
			_, err := Open(testKey, "local", "ref", []byte("context"), bad)
			if want := map[bool]error{true: ErrMalformed, false: ErrNotAuthentic}[i == 0]; !errors.Is(err, want) {
				t.Errorf("byte %d altered: got %v", i, err)
			}
		}
	})
	t.Run("every_other_length", func(t *testing.T) {
		for n := range Size + 2 {
			if n == Size {
				continue
			}
			if _, err := Open(testKey, "local", "ref", []byte("context"), append(bytes.Clone(blob), 0)[:min(n, Size+1)]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d bytes: got %v", n, err)
			}
		}
	})
}

// FuzzOpen: no bytes but those that Seal made open, none panics, and every refusal is one of the two kinds.
func FuzzOpen(f *testing.F) {
	// Fixed, and not sealed anew: fuzzing runs this in several processes, which exchange their inputs.
	good, err := hex.DecodeString("01dd49abd86db475ab232e5ac1d1ba2ccece496d9560138a95926d23662d01e37f4d0163c24400" +
		"a0f39b2f1632264a5ce7167eba500c90f9737a383f4c09c05e333cf18a7c00bc6f43e0a0bf9c")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add([]byte{format1})
	f.Add(good)
	f.Add(good[:Size-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(make([]byte, Size))
	f.Fuzz(func(t *testing.T, blob []byte) {
		got, err := Open(testKey, "local", "ref", []byte("context"), blob)
		switch {
		case err == nil && (!bytes.Equal(blob, good) || !bytes.Equal(got, secret)):
			t.Fatalf("forged: %x opens", blob)
		case err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNotAuthentic):
			t.Fatalf("neither kind: %v", err)
		case err != nil && bytes.Equal(blob, good):
			t.Fatalf("refused what Seal made: %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Seal(testKey, "local", "ref", []byte("context"), secret); err != nil {
			b.Fatal(err)
		}
	}
}
