package kmskey_test

import (
	"context"
	"crypto/fips140"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// region is a testProvider that knows its own wraps, and that tests can break, slow down and watch.
type region struct {
	testProvider
	mu    sync.Mutex
	err   error         // what every call gives
	delay time.Duration // before every answer; a call that is cancelled ends at once

	flying atomic.Int32
}

func newRegion(ref string) *region { return &region{testProvider: testProvider{ref: ref}} }

func (r *region) Owns(w kmskey.Wrapped) bool { return w.Service == "test" && w.KeyRef == r.ref }

func (r *region) is(err error, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.delay = err, delay
}

func (r *region) answer(ctx context.Context) error {
	r.flying.Add(1)
	defer r.flying.Add(-1)
	r.mu.Lock()
	err, delay := r.err, r.delay
	r.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return &kmskey.Error{Op: "call", Service: "test", KeyRef: r.ref, Kind: kmskey.ErrUnavailable, Err: ctx.Err()}
		}
	}
	if err != nil {
		return &kmskey.Error{Op: "call", Service: "test", KeyRef: r.ref, Kind: err}
	}
	return ctx.Err()
}

func (r *region) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	w, err := r.testProvider.Wrap(ctx, dek, ec)
	if e := r.answer(ctx); e != nil {
		return kmskey.Wrapped{}, e
	}
	return w, err
}

func (r *region) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if r.Owns(w) {
		if e := r.answer(ctx); e != nil {
			r.unwraps.Add(1)
			return kmskey.DEK{}, e
		}
	}
	return r.testProvider.Unwrap(ctx, w, ec)
}

// rewrapping is a region whose service can rewrap.
type rewrapping struct {
	*region
	rewraps atomic.Int32
}

func (r *rewrapping) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	r.rewraps.Add(1)
	src, ok := source.(*rewrapping)
	if !ok || src.ref != r.ref { // another region
		return kmskey.Wrapped{}, &kmskey.Error{Op: "rewrap", Service: "test", Kind: kmskey.ErrNotRewrappable}
	}
	dek, err := src.open("rewrap", w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return r.seal(dek, to), nil
}

func multi(t testing.TB, cfg kmskey.MultiConfig) *kmskey.Multi {
	t.Helper()
	m, err := kmskey.NewMulti(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func both(ps ...kmskey.Provider) kmskey.MultiConfig { return kmskey.MultiConfig{Providers: ps} }

func TestNewMulti_refuses(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	for says, cfg := range map[string]kmskey.MultiConfig{
		"0 providers, not 2 to 8":   {},
		"1 providers, not 2 to 8":   both(a),
		"9 providers, not 2 to 8":   both(a, b, a, b, a, b, a, b, a),
		"provider 2 is nil":         both(a, nil),
		"cannot tell its own":       both(a, &testProvider{ref: "b"}),
		"provider 1 is a Multi":     both(multi(t, both(a, b)), b),
		"Quorum is 3":               {Providers: []kmskey.Provider{a, b}, Quorum: 3},
		"Quorum is -1":              {Providers: []kmskey.Provider{a, b}, Quorum: -1},
		"Patience, Rest and Fail":   {Providers: []kmskey.Provider{a, b}, Patience: -1},
		"cannot be negative; leave": {Providers: []kmskey.Provider{a, b}, Rest: -1},
	} {
		if m, err := kmskey.NewMulti(cfg); m != nil || err == nil || !strings.HasPrefix(err.Error(), "kmskey: new multi: ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, %v", says, m, err)
		}
	}
}

func TestMulti_wraps_under_every_key(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	k := keyring(t, 0, multi(t, both(a, b)))
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, patient(1))
	if a.wraps.Load() != 1 || b.wraps.Load() != 1 {
		t.Errorf("%d and %d wraps", a.wraps.Load(), b.wraps.Load())
	}
	opens(t, k, e, patient(1), key)
	if a.unwraps.Load() != 1 || b.unwraps.Load() != 0 {
		t.Errorf("the first is to answer alone: %d and %d unwraps", a.unwraps.Load(), b.unwraps.Load())
	}
	opens(t, keyring(t, 0, a), e, patient(1), key)
	opens(t, keyring(t, 0, b), e, patient(1), key)
	opens(t, keyring(t, 0, multi(t, both(b, a))), e, patient(1), key)
	refused(t, k, e, patient(2), kmskey.ErrContextMismatch)

	before := a.calls() + b.calls()
	refused(t, keyring(t, 0, multi(t, both(newRegion("c"), newRegion("d")))), e, patient(1), kmskey.ErrForeignKey)
	if a.calls()+b.calls() != before {
		t.Error("a foreign key was asked for")
	}
}

func TestMulti_reads_through_an_outage(t *testing.T) {
	key := kmskey.NewDataKey() // not in the bubble: in FIPS mode random bytes take a clock that runs
	bubble(t, func(t *testing.T) {
		a, b := newRegion("a"), newRegion("b")
		k := keyring(t, 0, multi(t, both(a, b)))
		e := wrap(t, k, key, patient(1))
		calls := func(do func()) (na, nb int) {
			before, after := a.calls(), b.calls()
			do()
			return a.calls() - before, b.calls() - after
		}
		read := func() { opens(t, k, e, patient(1), key) }

		a.is(kmskey.ErrUnavailable, 0)
		for i := range 3 {
			if na, nb := calls(read); na != 1 || nb != 1 {
				t.Errorf("read %d: %d and %d calls", i, na, nb)
			}
		}
		for range 100 {
			if na, nb := calls(read); na != 0 || nb != 1 {
				t.Fatalf("a region that rests was asked: %d and %d calls", na, nb)
			}
		}
		time.Sleep(11 * time.Second)
		if na, _ := calls(func() { read(); read(); read() }); na != 1 {
			t.Errorf("after its rest, %d of 3 reads tried it; want one", na)
		}
		a.is(nil, 0)
		time.Sleep(11 * time.Second)
		if na, nb := calls(func() { read(); read(); read() }); na != 3 || nb != 0 {
			t.Errorf("mended: %d and %d calls of 3", na, nb)
		}

		// A region that answers nothing costs its patience, until it rests.
		a.is(nil, time.Hour)
		start := time.Now()
		for range 10 {
			read()
		}
		if took := time.Since(start); took != 3*500*time.Millisecond {
			t.Errorf("ten reads past a region that hangs took %v", took)
		}
		if n := a.flying.Load(); n != 0 {
			t.Errorf("%d calls went on behind the reads", n)
		}

		// Where both are down the error can be tried again, and tells of both.
		b.is(kmskey.ErrThrottled, 0)
		a.is(kmskey.ErrDenied, 0)
		_, err := k.Unwrap(t.Context(), e, patient(1))
		if !errors.Is(err, kmskey.ErrThrottled) || errors.Is(err, kmskey.ErrDenied) || !strings.Contains(err.Error(), "access denied") {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a.is(nil, time.Hour)
		b.is(nil, time.Hour)
		if _, err := k.Unwrap(ctx, e, patient(1)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kmskey.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestMulti_what_a_row_is_to_blame_for_does_not_rest_a_region(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	k := keyring(t, 0, multi(t, both(a, b)))
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, patient(1))
	for range 10 {
		refused(t, k, e, patient(2), kmskey.ErrContextMismatch)
	}
	before := a.unwraps.Load()
	opens(t, k, e, patient(1), key)
	if a.unwraps.Load() != before+1 {
		t.Error("the first region was passed over")
	}
}

func TestMulti_quorum(t *testing.T) {
	key := kmskey.NewDataKey() // not in the bubble: in FIPS mode random bytes take a clock that runs
	bubble(t, func(t *testing.T) {
		a, b, c := newRegion("a"), newRegion("b"), newRegion("c")
		strict := keyring(t, 0, multi(t, both(a, b, c)))
		k := keyring(t, 0, multi(t, kmskey.MultiConfig{Providers: []kmskey.Provider{a, b, c}, Quorum: 2}))

		b.is(kmskey.ErrUnavailable, 0)
		if e, err := strict.Wrap(t.Context(), key, patient(1)); !e.IsZero() || !errors.Is(err, kmskey.ErrUnavailable) || !strings.Contains(err.Error(), "2 of 3 wraps, where 3 are needed") || !strings.Contains(err.Error(), "MultiConfig.Quorum") {
			t.Errorf("got %v, %v", e, err)
		}
		partial := wrap(t, k, key, patient(1))
		opens(t, keyring(t, 0, a), partial, patient(1), key)
		opens(t, keyring(t, 0, c), partial, patient(1), key)
		refused(t, keyring(t, 0, b), partial, patient(1), kmskey.ErrForeignKey)

		// As long as the region is down, a rotation says so, and loses nothing.
		for range 5 {
			if out, err := k.Rewrap(t.Context(), partial, patient(1), patient(1)); !errors.Is(err, kmskey.ErrUnavailable) || !out.IsZero() {
				t.Errorf("got %v, %v", out, err)
			}
		}
		b.is(nil, 0) // and it is asked, though it rests
		wraps := a.wraps.Load() + c.wraps.Load()
		full, err := k.Rewrap(t.Context(), partial, patient(1), patient(1))
		if err != nil || a.wraps.Load()+c.wraps.Load() != wraps {
			t.Fatalf("%v; the wraps that are there are to stay", err)
		}
		for _, r := range []*region{a, b, c} {
			opens(t, keyring(t, 0, r), full, patient(1), key)
		}
		calls := a.calls() + b.calls() + c.calls()
		if again, err := k.Rewrap(t.Context(), full, patient(1), patient(1)); err != nil || again.String() != full.String() || a.calls()+b.calls()+c.calls() != calls {
			t.Errorf("what is complete was asked for: %v", err)
		}

		// A region that hangs holds a write up for its patience, and once it rests not at all.
		b.is(nil, time.Hour)
		start := time.Now()
		for range 5 {
			wrap(t, k, key, patient(1))
		}
		if took := time.Since(start); took != 3*500*time.Millisecond {
			t.Errorf("five writes past a region that hangs took %v", took)
		}
		if n := b.flying.Load(); n != 0 {
			t.Errorf("%d calls went on behind the writes", n)
		}
		b.is(kmskey.ErrUnavailable, 0)
		c.is(kmskey.ErrUnavailable, 0)
		if e, err := k.Wrap(t.Context(), key, patient(1)); !e.IsZero() || !errors.Is(err, kmskey.ErrUnavailable) {
			t.Errorf("below the quorum: %v, %v", e, err)
		}
	})
}

func TestMulti_regions_come_and_go_by_rotation(t *testing.T) {
	key := kmskey.NewDataKey()
	eu, us := &rewrapping{region: newRegion("eu")}, &rewrapping{region: newRegion("us")}
	alone := keyring(t, 1, eu)
	e := wrap(t, alone, key, patient(1))

	// A region more, under a new version: its wrap is made of the unwrapped key; the region that was there rewraps.
	two := keyring(t, 2, eu, multi(t, both(eu, us)))
	grown, err := two.Rewrap(t.Context(), e, patient(1), patient(1))
	if err != nil || grown.Version() != 2 || eu.rewraps.Load() != 1 || eu.unwraps.Load() != 1 || us.wraps.Load() != 1 {
		t.Fatalf("version %d, %v; %d rewraps, %d unwraps, %d wraps", grown.Version(), err, eu.rewraps.Load(), eu.unwraps.Load(), us.wraps.Load())
	}
	opens(t, keyring(t, 2, nil, us), grown, patient(1), key)

	// Both under a new version: both rewrap, and no data key is seen.
	unwraps, wraps := eu.unwraps.Load()+us.unwraps.Load(), eu.wraps.Load()+us.wraps.Load()
	three := keyring(t, 3, nil, multi(t, both(eu, us)), multi(t, both(us, eu)))
	moved, err := three.Rewrap(t.Context(), grown, patient(1), patient(1))
	if err != nil || moved.Version() != 3 || eu.unwraps.Load()+us.unwraps.Load() != unwraps || eu.wraps.Load()+us.wraps.Load() != wraps {
		t.Fatalf("version %d, %v; a data key was seen", moved.Version(), err)
	}
	opens(t, three, moved, patient(1), key)

	if !three.UpToDate(moved, patient(1)) || three.UpToDate(grown, patient(1)) || keyring(t, 3, nil, nil, us).UpToDate(moved, patient(1)) {
		t.Error("which envelopes a rotation would change is not told")
	}

	// A region less, under the same version: its wrap goes, without a call.
	calls := eu.calls() + us.calls()
	shrunk, err := keyring(t, 3, nil, nil, us).Rewrap(t.Context(), moved, patient(1), patient(1))
	if err != nil || eu.calls()+us.calls() != calls {
		t.Fatalf("%v, %d calls", err, eu.calls()+us.calls()-calls)
	}
	opens(t, keyring(t, 3, nil, nil, us), shrunk, patient(1), key)
	refused(t, keyring(t, 3, nil, nil, eu), shrunk, patient(1), kmskey.ErrForeignKey)
}

func TestMulti_a_damaged_wrap_is_made_anew(t *testing.T) {
	key := kmskey.NewDataKey()
	eu, us := &rewrapping{region: newRegion("eu")}, &rewrapping{region: newRegion("us")}
	k := keyring(t, 1, multi(t, both(eu, us)))
	e := wrap(t, k, key, patient(1))
	other := wrap(t, k, kmskey.NewDataKey(), patient(2))
	// The wrap of eu is taken from another row.
	const head, size = 3 + 40, 1 + 4 + 2 + 2 + 2 + 48
	body := func(e kmskey.Envelope) string {
		b, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(e.String(), "v1:"))
		if err != nil || len(b) != head+2*size {
			t.Fatal(len(b), err)
		}
		return string(b)
	}
	mixed, err := kmskey.ParseEnvelope(rawText("v1:", body(e)[:head], body(other)[head:head+size], body(e)[head+size:]))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, k, mixed, patient(1), key)
	two := keyring(t, 2, multi(t, both(eu, us)), multi(t, both(eu, us)))
	mended, err := two.Rewrap(t.Context(), mixed, patient(1), patient(1))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, keyring(t, 2, nil, eu), mended, patient(1), key)
	opens(t, keyring(t, 2, nil, us), mended, patient(1), key)
}

func TestMulti_as_a_plain_provider(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	m := multi(t, both(a, b))
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "n", Value: kmskey.Int(1)})
	if err != nil {
		t.Fatal(err)
	}
	dek := kmskey.NewDEK()
	w, err := m.Wrap(t.Context(), dek, ec)
	if err != nil || w.KeyRef != "a" || b.calls() != 0 {
		t.Fatalf("%v, %v", w.KeyRef, err)
	}
	a.is(kmskey.ErrUnavailable, 0)
	if w, err = m.Wrap(t.Context(), dek, ec); err != nil || w.KeyRef != "b" {
		t.Fatalf("%v, %v", w.KeyRef, err)
	}
	if got, err := m.Unwrap(t.Context(), w, ec); err != nil || string(got.Bytes()) != string(dek.Bytes()) {
		t.Error(err)
	}
	if !m.Owns(w) || m.Owns(kmskey.Wrapped{Service: "test", KeyRef: "c", Blob: []byte{1}}) {
		t.Error("Owns")
	}
	if got := fmt.Sprint(m); !strings.HasPrefix(got, "kmskey.Multi(") {
		t.Error(got)
	}
}

// bubble is synctest.Test. In FIPS mode Go gathers entropy from the jitter of the clock, and panics in a bubble, where the clock stands still.
func bubble(t *testing.T, f func(t *testing.T)) {
	if fips140.Enabled() {
		cryptotest.SetGlobalRandom(t, 1)
	}
	synctest.Test(t, f)
}
