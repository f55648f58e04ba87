// powers.go owns the suite's claims on optional powers: to know one's own, and to draw data keys at the service.

package kmskeytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

func testOwner(t *testing.T, s *suite) {
	o, ok := s.Provider.(kmskey.Owner)
	if !s.has(t, "owner", ok) {
		return
	}
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	// agrees holds Owns to what Unwrap then decides, and to want.
	agrees := func(t *testing.T, w kmskey.Wrapped, want bool) {
		t.Helper()
		blob := bytes.Clone(w.Blob)
		var owns bool
		s.quiet(t, func() { owns = o.Owns(w) })
		if !bytes.Equal(blob, w.Blob) {
			t.Error("Owns changed the blob")
		}
		_, err := s.Provider.Unwrap(t.Context(), w, ec)
		if foreign := errors.Is(err, kmskey.ErrForeignKey); owns == foreign {
			t.Errorf("Owns says %t, and Unwrap: %v", owns, err)
		}
		if owns != want {
			t.Errorf("Owns says %t, want %t", owns, want)
		}
	}
	t.Run("its_own_wrap", func(t *testing.T) { agrees(t, w, true) })
	t.Run("its_own_wrap_whatever_the_blob", func(t *testing.T) {
		for _, blob := range [][]byte{nil, {0}, make([]byte, 16385)} {
			other := w
			other.Blob = blob
			agrees(t, other, true)
		}
	})
	t.Run("another_service", func(t *testing.T) {
		for _, name := range []string{"", "another", w.Service + " "} {
			other := w
			other.Service = name
			agrees(t, other, false)
		}
	})
	t.Run("foreign_references", func(t *testing.T) {
		for _, ref := range s.foreign(t, w) {
			t.Run(fmt.Sprintf("%.80q", ref), func(t *testing.T) {
				other := w
				other.KeyRef = ref
				agrees(t, other, false)
			})
		}
	})
	if s.Sibling != nil {
		t.Run("a_sibling's_wrap", func(t *testing.T) { agrees(t, wrap(t, s.Sibling(t), dek, ec), false) })
	}
	t.Run("nothing", func(t *testing.T) { agrees(t, kmskey.Wrapped{}, false) })
}

func testGenerate(t *testing.T, s *suite) {
	g, ok := s.Provider.(kmskey.Generator)
	if !s.has(t, "generate", ok) {
		return
	}
	ec := patient(t, 7)
	dek, w, err := g.Generate(t.Context(), ec)
	if err != nil {
		t.Fatalf("generate: %v", err)
	}
	if dek.IsZero() {
		t.Fatal("the generated data key holds no key")
	}
	if bytes.Contains(w.Blob, dek.Bytes()) {
		t.Error("the blob holds the data key in the clear")
	}
	s.asWrapped(t, w)
	same(t, dek, unwrap(t, s.Provider, w, ec))
	s.refusesUnwrap(t, w, patient(t, 8), kmskey.ErrContextMismatch, dek)
	other, w2, err := g.Generate(t.Context(), ec)
	if err != nil {
		t.Fatalf("generate again: %v", err)
	}
	if bytes.Equal(dek.Bytes(), other.Bytes()) || bytes.Equal(w.Blob, w2.Blob) {
		t.Error("two generated data keys, or their wraps, are equal")
	}
	again := unwrap(t, s.Provider, w, ec)
	dek.Destroy()
	if again.IsZero() {
		t.Error("a generated and an unwrapped data key share their bytes")
	}

	s.refusesGenerating(t, func(ctx context.Context, p kmskey.Provider) (bool, kmskey.Wrapped, error) {
		dek, w, err := p.(kmskey.Generator).Generate(ctx, ec)
		return dek.IsZero(), w, err
	})
}

func testGenerateWrapped(t *testing.T, s *suite) {
	g, ok := s.Provider.(kmskey.BlindGenerator)
	if !s.has(t, "generate_wrapped", ok) {
		return
	}
	ec := patient(t, 7)
	w, err := g.GenerateWrapped(t.Context(), ec)
	if err != nil {
		t.Fatalf("generate wrapped: %v", err)
	}
	s.asWrapped(t, w)
	dek := unwrap(t, s.Provider, w, ec)
	same(t, dek, unwrap(t, s.Provider, w, ec))
	s.refusesUnwrap(t, w, patient(t, 8), kmskey.ErrContextMismatch, dek)
	w2, err := g.GenerateWrapped(t.Context(), ec)
	if err != nil {
		t.Fatalf("generate wrapped again: %v", err)
	}
	if bytes.Equal(dek.Bytes(), unwrap(t, s.Provider, w2, ec).Bytes()) {
		t.Error("two generated data keys are equal")
	}

	s.refusesGenerating(t, func(ctx context.Context, p kmskey.Provider) (bool, kmskey.Wrapped, error) {
		w, err := p.(kmskey.BlindGenerator).GenerateWrapped(ctx, ec)
		return true, w, err
	})
}

// asWrapped checks that a generated key lies where Wrap would have put it.
func (s *suite) asWrapped(t *testing.T, w kmskey.Wrapped) {
	t.Helper()
	if ours := wrap(t, s.Provider, kmskey.NewDEK(), patient(t, 7)); w.Service != ours.Service || w.KeyRef != ours.KeyRef {
		t.Errorf("generated under %q %q, and Wrap uses %q %q", w.Service, w.KeyRef, ours.Service, ours.KeyRef)
	}
	if len(w.Blob) < 1 || len(w.Blob) > 16384 {
		t.Errorf("blob has %d bytes, not 1 to 16384", len(w.Blob))
	}
}

// refusesGenerating breaks the service in each way that the harness has, and sees that a failed call gives nothing.
func (s *suite) refusesGenerating(t *testing.T, generate func(context.Context, kmskey.Provider) (zero bool, w kmskey.Wrapped, err error)) {
	t.Helper()
	refuses := func(t *testing.T, ctx context.Context, p kmskey.Provider, kind error) error {
		t.Helper()
		zero, w, err := generate(ctx, p)
		refused(t, err, kind, kmskey.DEK{})
		nothing(t, w)
		if !zero {
			t.Error("a refused call gave a data key")
		}
		return err
	}
	t.Run("a_cancelled_context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := refuses(t, ctx, s.Provider, kmskey.ErrUnavailable); !errors.Is(err, context.Canceled) {
			t.Errorf("%v; it does not wrap %v", err, context.Canceled)
		}
	})
	for _, f := range []struct {
		name    string
		breakIt func(*testing.T) func()
		kind    error
	}{
		{"disabled", s.Disable, kmskey.ErrDisabled},
		{"outage", s.Outage, kmskey.ErrUnavailable},
		{"throttled", s.Throttle, kmskey.ErrThrottled},
	} {
		if f.breakIt != nil {
			t.Run(f.name, func(t *testing.T) {
				defer f.breakIt(t)()
				refuses(t, t.Context(), s.Provider, f.kind)
			})
		}
	}
	if s.DenyWrap != nil {
		t.Run("denied", func(t *testing.T) { refuses(t, t.Context(), s.DenyWrap(t), kmskey.ErrDenied) })
	}
	if s.Remove != nil {
		t.Run("not_found", func(t *testing.T) {
			s.Remove(t)
			refuses(t, t.Context(), s.Provider, kmskey.ErrNotFound)
		})
	}
}

// testRewrapAll asks for nothing of providers that take one key at a time.
func testRewrapAll(t *testing.T, s *suite) {
	b, ok := s.Provider.(kmskey.BatchRewrapper)
	if !ok {
		t.Log("not applicable: it takes one key at a time")
		return
	}
	const rows = 40
	deks, items := make([]kmskey.DEK, rows), make([]kmskey.RewrapItem, rows)
	for i := range items {
		deks[i] = kmskey.NewDEK()
		from := patient(t, int64(i))
		items[i] = kmskey.RewrapItem{Wrapped: wrap(t, s.Provider, deks[i], from), From: from, To: s.target(from, patient(t, int64(1000+i)))}
	}
	// One that is altered, one of another row, one of another service: each fails alone.
	altered := items[3].Wrapped
	altered.Blob = bytes.Clone(altered.Blob)
	altered.Blob[len(altered.Blob)/2] ^= 1
	items[3].Wrapped = altered
	items[7].Wrapped = items[8].Wrapped
	items[9].Wrapped.Service = "another"
	wrong := map[int]error{3: kmskey.ErrContextMismatch, 7: kmskey.ErrContextMismatch, 9: kmskey.ErrForeignKey}
	results := b.RewrapAll(t.Context(), s.Provider, items)
	if len(results) != rows {
		t.Fatalf("%d results for %d items", len(results), rows)
	}
	for i, r := range results {
		if kind, bad := wrong[i]; bad {
			refused(t, r.Err, kind, deks[i])
			nothing(t, r.Wrapped)
			continue
		}
		if r.Err != nil {
			t.Fatalf("item %d: %v", i, r.Err)
		}
		same(t, deks[i], unwrap(t, s.Provider, r.Wrapped, items[i].To))
	}
	for _, r := range b.RewrapAll(t.Context(), stranger{}, items[:2]) {
		refused(t, r.Err, kmskey.ErrNotRewrappable, deks[0])
	}
	if got := b.RewrapAll(t.Context(), s.Provider, nil); len(got) != 0 {
		t.Errorf("%d results for nothing", len(got))
	}
}
