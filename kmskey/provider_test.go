// provider_test.go owns the test provider: transparent, deterministic and without any security.

package kmskey_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// testProvider wraps by XOR with a pad that HMAC gives for its reference and the context, and adds a tag. Vectors are made with
// it, so it must not change.
type testProvider struct {
	ref   string
	blind bool  // takes any context, as a key service does that authenticates none
	fail  error // what every call gives
	spoil func(*kmskey.Wrapped)
	zero  bool // unwraps to no key and no error

	wraps, unwraps atomic.Int32
}

func (p *testProvider) mac(label string, ec kmskey.Context, dek []byte) []byte {
	h := hmac.New(sha256.New, []byte("rowseal test provider, not secret"))
	fmt.Fprintf(h, "%s\x00%s\x00%x\x00", label, p.ref, dek)
	if !p.blind {
		h.Write(ec.Canonical())
	}
	return h.Sum(nil)
}

func (p *testProvider) seal(dek kmskey.DEK, ec kmskey.Context) kmskey.Wrapped {
	blob := make([]byte, 32, 48)
	subtle.XORBytes(blob, dek.Bytes(), p.mac("pad", ec, nil))
	return kmskey.Wrapped{Service: "test", KeyRef: p.ref, Blob: append(blob, p.mac("tag", ec, dek.Bytes())[:16]...)}
}

func (p *testProvider) open(op string, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if w.Service != "test" || w.KeyRef != p.ref {
		return kmskey.DEK{}, &kmskey.Error{Op: op, Service: "test", KeyRef: w.KeyRef, Kind: kmskey.ErrForeignKey}
	}
	if len(w.Blob) == 48 {
		b := make([]byte, 32)
		subtle.XORBytes(b, w.Blob, p.mac("pad", ec, nil))
		if hmac.Equal(w.Blob[32:], p.mac("tag", ec, b)[:16]) {
			return kmskey.DEKFromBytes(b)
		}
	}
	return kmskey.DEK{}, &kmskey.Error{Op: op, Service: "test", KeyRef: w.KeyRef, Kind: kmskey.ErrContextMismatch}
}

func (p *testProvider) Wrap(_ context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	p.wraps.Add(1)
	if p.fail != nil {
		return kmskey.Wrapped{}, p.fail
	}
	w := p.seal(dek, ec)
	if p.spoil != nil {
		p.spoil(&w)
	}
	return w, nil
}

func (p *testProvider) Unwrap(_ context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	p.unwraps.Add(1)
	if p.fail != nil || p.zero {
		return kmskey.DEK{}, p.fail
	}
	return p.open("unwrap", w, ec)
}

func (p *testProvider) calls() int { return int(p.wraps.Load() + p.unwraps.Load()) }

// rewrapper is a testProvider that can rewrap keys of other testProviders.
type rewrapper struct {
	testProvider
	refuse  error
	rewraps atomic.Int32
}

func (r *rewrapper) Rewrap(_ context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	r.rewraps.Add(1)
	if r.refuse != nil {
		return kmskey.Wrapped{}, r.refuse
	}
	var p *testProvider
	switch source := source.(type) {
	case *testProvider:
		p = source
	case *rewrapper:
		p = &source.testProvider
	default:
		return kmskey.Wrapped{}, errors.New("unknown source")
	}
	dek, err := p.open("rewrap", w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	out := r.seal(dek, to)
	if r.spoil != nil {
		r.spoil(&out)
	}
	return out, nil
}

// appender appends to what it is given.
type appender struct{}

func (appender) Wrap(context.Context, kmskey.DEK, kmskey.Context) (kmskey.Wrapped, error) {
	return kmskey.Wrapped{}, errors.New("appender wraps nothing")
}

func (appender) Unwrap(_ context.Context, w kmskey.Wrapped, _ kmskey.Context) (kmskey.DEK, error) {
	_ = append(w.Blob, "0123456789abcdef"...)
	return kmskey.DEK{}, errors.New("appender unwraps nothing")
}

// patient is a row by the default rules: bound, with model_name and model_id as its context.
func patient(id int64) kmskey.Row {
	return kmskey.Row{
		Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(id)},
		Context: pairs(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)}),
	}
}

// visit is a row of a model whose context has no id and whose id the database assigns.
func visit(id int64) kmskey.Row {
	return kmskey.Row{
		Model: "Visit", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(id)}, Unbound: true,
		Context: pairs(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Visit")}),
	}
}

func pairs(p ...kmskey.Pair) func(int) ([]kmskey.Pair, error) {
	return func(int) ([]kmskey.Pair, error) { return p, nil }
}

func keyring(t testing.TB, current int, versions ...kmskey.Provider) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Namespace: "clinic/test", Versions: make(map[int]kmskey.Version)}
	for i, p := range versions {
		if p != nil {
			cfg.Versions[i+1] = kmskey.Version{Provider: p}
		}
	}
	k, err := kmskey.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wrap(t testing.TB, k *kmskey.Keyring, key kmskey.DataKey, row kmskey.Row) kmskey.Envelope {
	t.Helper()
	e, err := k.Wrap(t.Context(), key, row)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// opens fails the test unless e gives key for row, alone.
func opens(t testing.TB, k *kmskey.Keyring, e kmskey.Envelope, row kmskey.Row, want ...kmskey.DataKey) {
	t.Helper()
	got, err := k.Unwrap(t.Context(), e, row)
	if err != nil || len(got) != len(want) {
		t.Errorf("%d keys, %v", len(got), err)
		return
	}
	for i := range want {
		if got[i].ID != want[i].ID || string(got[i].DEK.Bytes()) != string(want[i].DEK.Bytes()) {
			t.Errorf("key %d is another", i)
		}
	}
}

// refused fails the test unless row gets nothing from e, for that reason.
func refused(t testing.TB, k *kmskey.Keyring, e kmskey.Envelope, row kmskey.Row, kind error) {
	t.Helper()
	if got, err := k.Unwrap(t.Context(), e, row); got != nil || !errors.Is(err, kind) {
		t.Errorf("got %v, %v, want %v", got, err, kind)
	}
}
