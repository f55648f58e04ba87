package kmskey_test

// attack_multi_test.go: what a hostile reviewer tried on Multi. Each was a finding once, or held.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// Reads take the turn of a provider that has rested and do not ask it, so that writes leave it out for good.
func TestAttackMulti_reads_take_the_turn_of_writes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRegion("a"), newRegion("b")
		k := keyring(t, 0, multi(t, kmskey.MultiConfig{Providers: []kmskey.Provider{a, b}, Quorum: 1}))
		key := kmskey.NewDataKey()
		full := wrap(t, k, key, patient(1))
		b.is(kmskey.ErrUnavailable, 0)
		for range 3 {
			wrap(t, k, key, patient(1))
		}
		b.is(nil, 0) // mended
		before := b.wraps.Load()
		for range 100 { // a thousand seconds
			time.Sleep(10 * time.Second)
			opens(t, k, full, patient(1), key)
			wrap(t, k, key, patient(1))
		}
		if n := b.wraps.Load() - before; n == 0 {
			t.Errorf("none of 100 writes in 1,000 seconds asked a provider that is well")
		}
	})
}

// A rotation that fills in a wrap drops that of a provider that rests.
func TestAttackMulti_rewrap_keeps_the_wrap_of_a_provider_that_rests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b, c := newRegion("a"), newRegion("b"), newRegion("c")
		k := keyring(t, 0, multi(t, kmskey.MultiConfig{Providers: []kmskey.Provider{a, b, c}, Quorum: 2}))
		key := kmskey.NewDataKey()
		c.is(kmskey.ErrUnavailable, 0)
		e := wrap(t, k, key, patient(1)) // a and b
		c.is(nil, 0)
		time.Sleep(time.Minute)
		b.is(kmskey.ErrUnavailable, 0)
		for range 3 {
			wrap(t, k, key, patient(2))
		}
		out, err := k.Rewrap(t.Context(), e, patient(1), patient(1))
		if err != nil {
			t.Fatal(err)
		}
		b.is(nil, 0)
		opens(t, keyring(t, 0, a), out, patient(1), key)
		opens(t, keyring(t, 0, c), out, patient(1), key)
		opens(t, keyring(t, 0, b), out, patient(1), key)
	})
}

// A rotation to a new version while a provider is down: fewer wraps than before, and the prefix says that all is done.
func TestAttackMulti_rewrap_to_a_new_version_loses_a_region(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRegion("a"), newRegion("b")
		m := multi(t, kmskey.MultiConfig{Providers: []kmskey.Provider{a, b}, Quorum: 1})
		one, two := keyring(t, 1, m), keyring(t, 2, m, m)
		key := kmskey.NewDataKey()
		e := wrap(t, one, key, patient(1))
		b.is(kmskey.ErrUnavailable, 0)
		// The context of a version is its number here or not; take the same.
		out, err := two.Rewrap(t.Context(), e, patient(1), patient(1))
		if err != nil {
			return // refused: nothing is lost
		}
		b.is(nil, 0)
		if out.Version() != 2 {
			t.Fatal(out.Version())
		}
		opens(t, keyring(t, 2, nil, b), out, patient(1), key)
	})
}

// A region less under the same version, by a provider that has no Owns.
func TestAttackMulti_then_one_provider_that_is_no_owner(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	key := kmskey.NewDataKey()
	e := wrap(t, keyring(t, 1, multi(t, both(a, b))), key, patient(1))
	plain := keyring(t, 1, &testProvider{ref: "b"})
	opens(t, plain, e, patient(1), key)
	out, err := plain.Rewrap(t.Context(), e, patient(1), patient(1))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, plain, out, patient(1), key)
}

// A cancelled ctx gives an error that wraps ctx's: provider.go.
func TestAttackMulti_cancelled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		a, b := newRegion("a"), newRegion("b")
		k := keyring(t, 0, multi(t, both(a, b)))
		key := kmskey.NewDataKey()
		e := wrap(t, k, key, patient(1))
		a.is(kmskey.ErrUnavailable, 0)
		b.is(nil, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.Unwrap(ctx, e, patient(1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("unwrap: %v (%s)", err, kmskey.Outcome(err))
		}
		ctx2, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		_, err = k.Wrap(ctx2, key, patient(1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wrap: %v (%s)", err, kmskey.Outcome(err))
		}
	})
}

// Two servers may give their keys one name. Nobody could tell their wraps apart: the wrap of a server that goes would be kept, and the other dropped.
func TestAttackMulti_the_same_key_twice(t *testing.T) {
	a, b := newRegion("a"), newRegion("a")
	says := func(err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), `two providers of the Multi name their key "a"`) {
			t.Errorf("got %v", err)
		}
	}
	_, err := keyring(t, 0, multi(t, both(a, b))).Wrap(t.Context(), kmskey.NewDataKey(), patient(1))
	says(err)
	// One that is added to rows of the other, under the same version.
	e := wrap(t, keyring(t, 0, a), kmskey.NewDataKey(), patient(1))
	_, err = keyring(t, 0, multi(t, both(a, b))).Rewrap(t.Context(), e, patient(1), patient(1))
	says(err)
}

// A leg that may own more than its own wrap, as AWS before it was asked whose account an alias is of, does not pass another's wrap off as its own.
func TestAttackMulti_a_leg_that_cannot_tell(t *testing.T) {
	a, b := newRegion("a"), newRegion("b")
	key := kmskey.NewDataKey()
	e := wrap(t, keyring(t, 0, multi(t, both(a, b))), key, patient(1))
	greedy := &greedyRegion{region: b}
	// a goes, under the same version: what stays must open without it.
	k := keyring(t, 0, greedy)
	if k.UpToDate(e, patient(1)) {
		t.Error("two wraps are taken for those of one provider")
	}
	out, err := k.Rewrap(t.Context(), e, patient(1), patient(1))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, keyring(t, 0, b), out, patient(1), key)
	// One that comes, under the same version, gets a wrap of its own.
	e = wrap(t, keyring(t, 0, a), key, patient(1))
	if out, err = keyring(t, 0, multi(t, both(a, greedy))).Rewrap(t.Context(), e, patient(1), patient(1)); err != nil {
		t.Fatal(err)
	}
	opens(t, keyring(t, 0, b), out, patient(1), key)
}

// greedyRegion takes every wrap for its own, and is refused by the service.
type greedyRegion struct{ *region }

func (greedyRegion) Owns(kmskey.Wrapped) bool { return true }

func TestAttackObserver_prints(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(s string) { mu.Lock(); defer mu.Unlock(); seen = append(seen, s) }
	k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: multi(t, both(newRegion("a"), newRegion("b")))}}, Observers: []kmskey.Observer{
		func(_ context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
			note(fmt.Sprintf("%v %+v %#v", c, c, c))
			return nil, func(r kmskey.Result) { note(fmt.Sprintf("%v %+v %#v", r, r, r)) }
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	key := kmskey.NewDataKey()
	row := patient(424242)
	e, err := k.Wrap(t.Context(), key, row)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), e, row); err != nil {
		t.Fatal(err)
	}
	if len(seen) == 0 {
		t.Fatal("nothing was observed")
	}
	all := strings.Join(seen, "\n")
	if strings.Contains(all, "424242") || strings.Contains(all, string(key.DEK.Bytes())) || strings.Contains(all, fmt.Sprintf("%x", key.DEK.Bytes())) {
		t.Error("what observers are given shows a context's value or a data key")
	}
}

// One of several data keys whose provider does not answer closes the fields of the others too.
func TestAttackRing_one_key_of_several_closes_all(t *testing.T) {
	p := &testProvider{ref: "r"}
	one := keyring(t, 1, p)
	e := wrap(t, one, kmskey.NewDataKey(), patient(1))
	two := keyring(t, 2, p, p)
	next, _, err := two.Append(t.Context(), e, patient(1))
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := one.Unwrap(t.Context(), next, patient(1)); err != nil || len(keys) != 2 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

func BenchmarkAttackUnwrapMulti(b *testing.B) {
	k, row := keyring(b, 0, multi(b, both(newRegion("a"), newRegion("b")))), patient(1)
	e := wrap(b, k, kmskey.NewDataKey(), row)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Unwrap(b.Context(), e, row); err != nil {
			b.Fatal(err)
		}
	}
}

// A panic of an observer, or of a provider, can be recovered by the caller where there is one provider, and by nobody in a Multi.
func TestAttackObserver_panics(t *testing.T) {
	if os.Getenv("ATTACK_PANIC") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAttackObserver_panics$")
		cmd.Env = append(os.Environ(), "ATTACK_PANIC=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("the process died: %v\n%.200s", err, out)
		}
		return
	}
	for _, p := range []kmskey.Provider{newRegion("a"), multi(t, both(newRegion("a"), newRegion("b")))} {
		k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p}}, Observers: []kmskey.Observer{
			func(context.Context, kmskey.Call) (context.Context, func(kmskey.Result)) { panic("observer") },
		}})
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() { _ = recover() }()
			_, _ = k.Wrap(t.Context(), kmskey.NewDataKey(), patient(1))
		}()
	}
}
