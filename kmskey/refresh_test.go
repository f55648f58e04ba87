package kmskey_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// versioned is a service whose key gets new versions, as Vault's and Google's do: it opens what lies under any, and wraps under the newest.
type versioned struct {
	*region
	prefix string
}

func (v versioned) Owns(w kmskey.Wrapped) bool {
	return w.Service == "test" && strings.HasPrefix(w.KeyRef, v.prefix)
}

func (v versioned) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if !v.Owns(w) {
		return v.region.Unwrap(ctx, w, ec)
	}
	v.unwraps.Add(1)
	at := testProvider{ref: w.KeyRef}
	return at.open("unwrap", w, ec)
}

func TestKeyring_Rewrap_finds_what_the_service_has_left(t *testing.T) {
	key := kmskey.NewDataKey()
	p := versioned{newRegion("app:v1"), "app:"}
	k := keyring(t, 1, p)
	e := wrap(t, k, key, patient(1))
	p.ref = "app:v2" // at the service; nobody knows here yet
	calls := p.calls()
	if out, err := k.Rewrap(t.Context(), e, patient(1), patient(1)); err != nil || out.String() != e.String() || p.calls() != calls {
		t.Errorf("%v, %d calls", err, p.calls()-calls)
	}
	if !k.UpToDate(e, patient(1)) {
		t.Error("it is behind what nobody knows of")
	}
	wrap(t, k, kmskey.NewDataKey(), patient(2)) // the answer tells
	if k.UpToDate(e, patient(1)) {
		t.Error("a key of the service's old version is up to date")
	}
	moved, err := k.Rewrap(t.Context(), e, patient(1), patient(1))
	if err != nil || moved.Wraps()[0].KeyRef != "app:v2" || moved.Version() != 1 {
		t.Fatalf("%v, %v", moved.Wraps(), err)
	}
	opens(t, k, moved, patient(1), key)
	calls = p.calls()
	if !k.UpToDate(moved, patient(1)) || k.UpToDate(kmskey.Envelope{}, patient(1)) {
		t.Error("moved, it is not up to date; or the empty envelope is")
	}
	if out, err := k.Rewrap(t.Context(), moved, patient(1), patient(1)); err != nil || out.String() != moved.String() || p.calls() != calls {
		t.Errorf("%v, %d calls", err, p.calls()-calls)
	}
}

func TestKeyring_Rewrap_takes_related_keys_for_one(t *testing.T) {
	key := kmskey.NewDataKey()
	p := versioned{newRegion("arn:aws:kms:us-east-1:1:key/mrk-7"), "arn:"}
	k := keyring(t, 1, p)
	e := wrap(t, k, key, patient(1))
	p.ref = "arn:aws:kms:eu-central-1:1:key/mrk-7"
	wrap(t, k, kmskey.NewDataKey(), patient(2))
	if out, err := k.Rewrap(t.Context(), e, patient(1), patient(1)); err != nil || out.String() != e.String() {
		t.Errorf("a row of the other region was moved: %v, %v", out.Wraps(), err)
	}
}

func TestKeyring_Refresh(t *testing.T) {
	key := kmskey.NewDataKey()
	eu, us := &rewrapping{region: newRegion("eu")}, &rewrapping{region: newRegion("us")}
	for _, p := range []kmskey.Provider{&testProvider{ref: "r"}, eu, multi(t, both(eu, us))} {
		k := keyring(t, 1, p)
		e := wrap(t, k, key, patient(1))
		eu.rewraps.Store(0)
		out, err := k.Refresh(t.Context(), e, patient(1), patient(1))
		if err != nil || out.Version() != 1 || len(out.Wraps()) != len(e.Wraps()) {
			t.Fatalf("%v: %v, %v", p, out.Wraps(), err)
		}
		opens(t, k, out, patient(1), key)
		switch p := p.(type) {
		case *testProvider:
			if p.wraps.Load() != 2 || p.unwraps.Load() != 2 { // and opens
				t.Errorf("%d wraps, %d unwraps", p.wraps.Load(), p.unwraps.Load())
			}
		default:
			if eu.rewraps.Load() != 1 {
				t.Errorf("%v: %d rewraps", p, eu.rewraps.Load())
			}
		}
	}
}
