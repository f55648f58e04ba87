package localwrap

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/internal/canon"
)

func newBranch(t testing.TB, key []byte) *Branch {
	t.Helper()
	b, err := NewBranch(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func refusesBranch(blob []byte) bool {
	_, err := BranchID(blob)
	return errors.Is(err, ErrMalformed)
}

func TestBranch(t *testing.T) {
	b := newBranch(t, testKey)
	t.Run("opens_under_the_same_key_reference_and_context", func(t *testing.T) {
		blob, err := b.Seal("2", []byte("context"), secret)
		if err != nil {
			t.Fatal(err)
		}
		if len(blob) != BranchSize {
			t.Errorf("blob has %d bytes, not %d", len(blob), BranchSize)
		}
		if id, err := BranchID(blob); err != nil || id != b.ID() {
			t.Errorf("it names %s, %v; not %s", id, err, b.ID())
		}
		got, err := newBranch(t, testKey).Open("2", []byte("context"), blob)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("Open: %x, %v", got, err)
		}
	})
	t.Run("salt_and_nonce_differ_on_every_call", func(t *testing.T) {
		x, _ := b.Seal("2", nil, secret)
		y, _ := b.Seal("2", nil, secret)
		if bytes.Equal(x[9:25], y[9:25]) || bytes.Equal(x[25:37], y[25:37]) || bytes.Equal(x[37:69], y[37:69]) {
			t.Error("two wraps share a salt, a nonce or a ciphertext")
		}
	})
	t.Run("derives_as_HKDF_of_the_standard_library", func(t *testing.T) {
		for _, info := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("i"), 300)} {
			want, err := hkdf.Expand(sha256.New, testKey, string(info), KeySize)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.expand(info); !bytes.Equal(got[:], want) {
				t.Errorf("info of %d bytes: %x, not %x", len(info), got, want)
			}
		}
		id, _ := hkdf.Expand(sha256.New, testKey, string(canon.AppendText(nil, "rowseal/branch-wrap/1/key-id")), 8)
		if b.ID() != hex.EncodeToString(id) {
			t.Errorf("id %s, not %x", b.ID(), id)
		}
	})
	t.Run("many_goroutines_share_one", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				own := bytes.Repeat([]byte{byte(i)}, KeySize)
				for range 200 {
					blob, err := b.Seal("2", []byte{byte(i)}, own)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := b.Open("2", []byte{byte(i)}, blob); err != nil || !bytes.Equal(got, own) {
						t.Errorf("goroutine %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("a_secret_or_key_of_another_length_is_refused", func(t *testing.T) {
		for _, n := range []int{0, 16, 31, 33} {
			if _, err := b.Seal("2", nil, make([]byte, n)); err == nil {
				t.Errorf("%d bytes were wrapped", n)
			}
			if _, err := NewBranch(make([]byte, n)); err == nil {
				t.Errorf("%d bytes became a branch key", n)
			}
		}
	})
	t.Run("a_destroyed_key_holds_nothing_and_wraps_nothing", func(t *testing.T) {
		d := newBranch(t, testKey)
		d.Destroy()
		if **d.key != [KeySize]byte{} {
			t.Error("key bytes are left")
		}
		defer func() {
			if recover() == nil {
				t.Error("it wrapped, under a key of zeros")
			}
		}()
		_, _ = d.Seal("2", nil, secret)
	})
}

func TestBranchOpenRefuses(t *testing.T) {
	b := newBranch(t, testKey)
	blob, err := b.Seal("2", []byte("context"), secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		of       *Branch
		ref, ctx string
		want     error
	}{
		{"another_key", newBranch(t, bytes.Repeat([]byte{0xa6}, KeySize)), "2", "context", ErrOtherBranch},
		{"another_reference", b, "3", "context", ErrNotAuthentic},
		{"another_context", b, "2", "Context", ErrNotAuthentic},
		{"no_context", b, "2", "", ErrNotAuthentic},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := c.of.Open(c.ref, []byte(c.ctx), blob); !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("every_altered_byte", func(t *testing.T) {
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 0x01
			want := ErrNotAuthentic
			switch {
			case i == 0:
				want = ErrMalformed
			case i < 9:
				want = ErrOtherBranch
			}
			if _, err := b.Open("2", []byte("context"), bad); !errors.Is(err, want) {
				t.Errorf("byte %d altered: got %v", i, err)
			}
		}
	})
	t.Run("every_other_length", func(t *testing.T) {
		for n := range BranchSize + 2 {
			if n == BranchSize {
				continue
			}
			cut := append(bytes.Clone(blob), 0)[:min(n, BranchSize+1)]
			if _, err := b.Open("2", []byte("context"), cut); !errors.Is(err, ErrMalformed) || !refusesBranch(cut) {
				t.Errorf("%d bytes: got %v", n, err)
			}
		}
	})
	t.Run("a_blob_of_a_local_key", func(t *testing.T) {
		local, _ := Seal(testKey, "branch", "2", []byte("context"), secret)
		if _, err := b.Open("2", []byte("context"), local); !errors.Is(err, ErrMalformed) {
			t.Errorf("got %v", err)
		}
	})
}

// FuzzBranchOpen: no bytes but those that Seal made open, none panics, and every refusal is one of the three kinds.
func FuzzBranchOpen(f *testing.F) {
	b := newBranch(f, testKey)
	good, err := hex.DecodeString(branchBlob)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil))
	f.Add([]byte{formatBranch})
	f.Add(good)
	f.Add(good[:BranchSize-1])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(make([]byte, BranchSize))
	f.Fuzz(func(t *testing.T, blob []byte) {
		got, err := b.Open("2", []byte("context"), blob)
		switch {
		case err == nil && (!bytes.Equal(blob, good) || !bytes.Equal(got, secret)):
			t.Fatalf("forged: %x opens", blob)
		case err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrOtherBranch) && !errors.Is(err, ErrNotAuthentic):
			t.Fatalf("none of the kinds: %v", err)
		case err != nil && bytes.Equal(blob, good):
			t.Fatalf("refused what Seal made: %v", err)
		}
	})
}

func BenchmarkBranch(b *testing.B) {
	key := newBranch(b, testKey)
	context := bytes.Repeat([]byte("c"), 90)
	blob, err := key.Seal("2", context, secret)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = key.Seal("2", context, secret)
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = key.Open("2", context, blob)
		}
	})
}

// branchBlob is a wrapped key of docs/format.md, section 8, under testKey. It opens in every release.
const branchBlob = "01b9e56748ab2a0b95444ff1ef0282f303a167eabc197a9247f165c5c966461b08c2270cf0191374bbff8c063e11ae96e8" +
	"20b407d696f111b28ebc438a2c7b2cd17694af232f4dea2248e700d128217fe86bd191b9"
