package expand

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"testing"
)

func TestExpand(t *testing.T) {
	key := bytes.Repeat([]byte{0xa5}, 32)
	k := New(key)
	for _, n := range []int{0, 1, 55, 56, 63, 64, 65, 300} {
		info := bytes.Repeat([]byte("i"), n)
		want, err := hkdf.Expand(sha256.New, key, string(info), Size)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time with the state of the first
			if got := k.Expand(info); !bytes.Equal(got[:], want) {
				t.Errorf("info of %d bytes: %x, not %x", n, got, want)
			}
		}
	}
}

func BenchmarkExpand(b *testing.B) {
	key, info := bytes.Repeat([]byte{0xa5}, 32), make([]byte, 150, 151)
	b.Run("set_up_once", func(b *testing.B) {
		b.ReportAllocs()
		k := New(key)
		for b.Loop() {
			k.Expand(info)
		}
	})
	b.Run("crypto/hkdf", func(b *testing.B) {
		b.ReportAllocs()
		text := string(info)
		for b.Loop() {
			_, _ = hkdf.Expand(sha256.New, key, text, Size)
		}
	})
}
