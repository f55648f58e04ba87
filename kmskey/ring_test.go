package kmskey_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

func TestKeyring_Append(t *testing.T) {
	p := &testProvider{ref: "r"}
	k := keyring(t, 0, p)
	first := kmskey.NewDataKey()
	e := wrap(t, k, first, patient(1))
	keys := []kmskey.DataKey{first}
	for n := 2; n <= 4; n++ {
		unwraps := p.unwraps.Load()
		next, key, err := k.Append(t.Context(), e, patient(1))
		if err != nil || next.Keys() != n || next.Current() != byte(n) || key.ID != byte(n) || p.unwraps.Load() != unwraps {
			t.Fatalf("%d keys, the newest %d, %v", next.Keys(), next.Current(), err)
		}
		keys = append(keys, key)
		opens(t, k, next, patient(1), keys...)
		opens(t, k, e, patient(1), keys[:n-1]...) // the old envelope is not touched
		e = next
	}
	calls := p.calls()
	if next, _, err := k.Append(t.Context(), e, patient(1)); !next.IsZero() || !errors.Is(err, kmskey.ErrRingFull) || p.calls() != calls {
		t.Errorf("a fifth key: %v, %v", next, err)
	}
	t.Run("prune keeps what is used and what seals", func(t *testing.T) {
		pruned := e.Prune(1, 3)
		opens(t, k, pruned, patient(1), keys[0], keys[2], keys[3])
		opens(t, k, e.Prune(), patient(1), keys[3])
		if same := e.Prune(1, 2, 3, 4); same.String() != e.String() {
			t.Error("changed")
		}
		again, key, err := k.Append(t.Context(), pruned, patient(1))
		if err != nil || key.ID != 5 || again.Keys() != 4 {
			t.Errorf("number %d, %v: a number is not used again", key.ID, err)
		}
	})
	t.Run("numbers end at 255", func(t *testing.T) {
		last := wrap(t, k, kmskey.DataKey{ID: 255, DEK: kmskey.NewDEK()}, patient(1))
		if _, _, err := k.Append(t.Context(), last, patient(1)); !errors.Is(err, kmskey.ErrRingFull) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refuses what Unwrap would refuse for the row itself", func(t *testing.T) {
		if _, _, err := k.Append(t.Context(), kmskey.Envelope{}, patient(1)); !errors.Is(err, kmskey.ErrCorrupt) {
			t.Errorf("an empty envelope: %v", err)
		}
		loose, bound := wrap(t, k, first, visit(1)), visit(1)
		bound.Unbound = false
		if _, _, err := k.Append(t.Context(), loose, bound); !errors.Is(err, kmskey.ErrCommitment) {
			t.Errorf("an unbound envelope: %v", err)
		}
		p.fail = kmskey.ErrDenied
		defer func() { p.fail = nil }()
		if next, key, err := k.Append(t.Context(), wrapFree(e), patient(1)); !next.IsZero() || !key.DEK.IsZero() || !errors.Is(err, kmskey.ErrDenied) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an older version stays in the ring until rotation", func(t *testing.T) {
		p2 := &testProvider{ref: "r2"}
		two := keyring(t, 2, p, p2)
		mixed, key, err := two.Append(t.Context(), wrap(t, k, first, patient(1)), patient(1))
		if err != nil || mixed.Version() != 1 {
			t.Fatalf("version %d, %v", mixed.Version(), err)
		}
		opens(t, two, mixed, patient(1), first, key)
		moved, err := two.Rewrap(t.Context(), mixed, patient(1), patient(1))
		if err != nil || moved.Version() != 2 || p2.wraps.Load() != 2 {
			t.Fatalf("version %d, %d wraps, %v", moved.Version(), p2.wraps.Load(), err)
		}
		opens(t, keyring(t, 2, nil, p2), moved, patient(1), first, key)
	})
}

// wrapFree is e with room for one key more.
func wrapFree(e kmskey.Envelope) kmskey.Envelope { return e.Prune(2, 3) }

func TestKeyring_Choose(t *testing.T) {
	tenants := map[string]*testProvider{"7": {ref: "seven"}, "8": {ref: "eight"}}
	cause := errors.New("no such tenant")
	k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {
		Choose: func(row kmskey.Row, ec kmskey.Context) (kmskey.Provider, error) {
			tenant, _ := ec.Get("tenant_id")
			if tenant.IsZero() {
				return nil, nil
			}
			p, ok := tenants[tenant.String()]
			if !ok {
				return nil, cause
			}
			return p, nil
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	row := func(id int64, tenant ...int64) kmskey.Row {
		r := patient(id)
		own := []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(id)}}
		for _, n := range tenant {
			own = append(own, kmskey.Pair{Name: "tenant_id", Value: kmskey.Int(n)})
		}
		r.Context = pairs(own...)
		return r
	}
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, row(1, 7))
	opens(t, k, e, row(1, 7), key)
	if tenants["7"].calls() != 2 || tenants["8"].calls() != 0 {
		t.Errorf("%d and %d calls", tenants["7"].calls(), tenants["8"].calls())
	}
	refused(t, k, e, row(1, 8), kmskey.ErrForeignKey)
	refused(t, k, e, row(1, 9), cause)
	if _, err := k.Wrap(t.Context(), key, row(1)); err == nil || !strings.Contains(err.Error(), "gave no provider and no error") {
		t.Errorf("got %v", err)
	}
	// A row that changes its tenant is unwrapped with the old one's key and wrapped with the new one's.
	moved, err := k.Rewrap(t.Context(), e, row(1, 7), row(1, 8))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, k, moved, row(1, 8), key)
	refused(t, k, moved, row(1, 7), kmskey.ErrForeignKey)

	for says, v := range map[string]kmskey.Version{
		"version 1 has no Provider":                    {},
		"version 1 has both Provider and Choose; keep": {Provider: tenants["7"], Choose: func(kmskey.Row, kmskey.Context) (kmskey.Provider, error) { return nil, nil }},
	} {
		if _, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: v}}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v", says, err)
		}
	}
}

func TestKeyring_Observers(t *testing.T) {
	type seen struct {
		call   kmskey.Call
		result kmskey.Result
	}
	var log []seen
	var order []string
	a, b := &rewrapping{region: newRegion("a")}, newRegion("b")
	type mark struct{}
	k, err := kmskey.New(kmskey.Config{Current: 2, Versions: map[int]kmskey.Version{1: {Provider: a}, 2: {Provider: a}}, Observers: []kmskey.Observer{
		func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
			order = append(order, "outer begins")
			return context.WithValue(ctx, mark{}, true), func(r kmskey.Result) {
				order = append(order, "outer ends")
				log = append(log, seen{c, r})
			}
		},
		func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
			if ctx.Value(mark{}) == nil {
				t.Error("the inner observer does not get the outer one's context")
			}
			order = append(order, "inner begins")
			return nil, func(kmskey.Result) { order = append(order, "inner ends") }
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	key := kmskey.NewDataKey()
	e := wrap(t, keyring(t, 1, a), key, patient(1))
	opens(t, keyring(t, 1, a), e, patient(1), key)
	if len(log) != 0 {
		t.Fatal("another keyring was seen")
	}
	moved, err := k.Rewrap(t.Context(), e, patient(1), patient(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), moved, patient(1)); !errors.Is(err, kmskey.ErrCommitment) { // another namespace
		t.Fatal(err)
	}
	a.is(kmskey.ErrThrottled, 0)
	if _, err := k.Wrap(t.Context(), key, patient(1)); err == nil {
		t.Fatal("no error")
	}
	want := []struct {
		op, ref, used, outcome string
		version                int
	}{
		{"rewrap", "a", "a", "ok", 2},
		{"unwrap", "a", "a", "ok", 2}, // the service did its part
		{"wrap", "", "", "throttled", 2},
	}
	if len(log) != len(want) {
		t.Fatalf("%d calls", len(log))
	}
	for i, w := range want {
		c, r := log[i].call, log[i].result
		if c.Op != w.op || c.KeyRef != w.ref || r.KeyRef != w.used || kmskey.Outcome(r.Err) != w.outcome || c.Version != w.version ||
			r.Service != "test" || c.Model != "Patient" || c.Key != "encrypted_kms_key" || c.Context.String() != "{model_id model_name}" || c.Provider == "" {
			t.Errorf("call %d: %+v %+v", i, c, r)
		}
	}
	if got := order[:4]; !slices.Equal(got, []string{"outer begins", "inner begins", "inner ends", "outer ends"}) {
		t.Error(got)
	}

	var calls atomic.Int32
	many, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: multi(t, both(b, newRegion("c")))}}, Observers: []kmskey.Observer{
		func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
			calls.Add(1)
			return ctx, nil
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	wrap(t, many, key, patient(1))
	if calls.Load() != 2 {
		t.Errorf("%d calls seen; each region's is one", calls.Load())
	}
	if _, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: a}}, Observers: []kmskey.Observer{nil}}); err == nil {
		t.Error("a nil observer")
	}
}

func TestOutcome(t *testing.T) {
	for want, err := range map[string]error{
		"ok":            nil,
		"error":         errors.New("x"),
		"throttled":     &kmskey.Error{Kind: kmskey.ErrThrottled},
		"cancelled":     &kmskey.Error{Kind: kmskey.ErrUnavailable, Err: context.Canceled},
		"timeout":       &kmskey.Error{Kind: kmskey.ErrUnavailable, Err: context.DeadlineExceeded},
		"unavailable":   kmskey.ErrUnavailable,
		"foreign_key":   kmskey.ErrForeignKey,
		"not_authentic": kmskey.ErrNotAuthentic,
	} {
		if got := kmskey.Outcome(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}
