package expand

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding"
	"fmt"
	"reflect"
	"sync"
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

func TestDerive(t *testing.T) {
	key, salt := bytes.Repeat([]byte{0xa5}, 32), bytes.Repeat([]byte{7}, 16)
	for _, n := range []int{0, 1, 64, 300} {
		info := bytes.Repeat([]byte("i"), n)
		want, err := hkdf.Key(sha256.New, key, salt, string(info), Size)
		if err != nil {
			t.Fatal(err)
		}
		if got := Derive(key, salt, info); !bytes.Equal(got[:], want) {
			t.Errorf("info of %d bytes: %x, not %x", n, got, want)
		}
	}
}

func TestRelease(t *testing.T) {
	t.Run("leaves_nothing_of_the_key_in_the_hashes", func(t *testing.T) {
		k := New(bytes.Repeat([]byte{0xa5}, 32))
		h := k.hashes
		k.Expand([]byte("info that ends in the middle of a block"))
		k.Release()
		for i, sum := range h.both {
			if state, err := sum.(encoding.BinaryMarshaler).MarshalBinary(); err != nil || !bytes.Equal(state, blank) {
				t.Errorf("hash %d: %x, %v", i, state, err)
			}
		}
		// MarshalBinary leaves out what lies behind the end of the block, and so may not see all that is there.
		if dump := fmt.Sprintf("%+v", reflect.ValueOf(h.both[0]).Elem()); dump != fmt.Sprintf("%+v", reflect.ValueOf(sha256.New()).Elem()) {
			t.Errorf("not as a new one: %s", dump)
		}
	})
	t.Run("keys_of_many_goroutines_do_not_meet", func(t *testing.T) {
		var wg sync.WaitGroup
		for g := range 8 {
			key := bytes.Repeat([]byte{byte(g)}, 32)
			want, err := hkdf.Expand(sha256.New, key, "info", Size)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for range 200 {
					k := New(key)
					if got := k.Expand([]byte("info")); !bytes.Equal(got[:], want) {
						t.Errorf("key %d: %x, not %x", g, got, want)
					}
					k.Release()
				}
			})
		}
		wg.Wait()
	})
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
