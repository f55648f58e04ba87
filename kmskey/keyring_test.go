package kmskey_test

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

func TestNew_refuses(t *testing.T) {
	p := &testProvider{ref: "r"}
	one := map[int]kmskey.Version{1: {Provider: p}}
	for _, c := range []struct {
		name string
		cfg  kmskey.Config
		says string
	}{
		{"no versions", kmskey.Config{}, "Config.Versions is empty"},
		{"a current version without versions", kmskey.Config{Current: 1}, "Config.Versions is empty"},
		{"version zero", kmskey.Config{Versions: map[int]kmskey.Version{0: {Provider: p}}}, "version 0 is not 1 to 2147483647"},
		{"a negative version", kmskey.Config{Versions: map[int]kmskey.Version{-1: {Provider: p}}}, "version -1 is not 1 to"},
		{"a version above 31 bits", kmskey.Config{Versions: map[int]kmskey.Version{1 << 31: {Provider: p}}}, "version 2147483648 is not 1 to"},
		{"no provider", kmskey.Config{Versions: map[int]kmskey.Version{1: {}}}, "version 1 has no Provider"},
		{"several versions and none current", kmskey.Config{Versions: map[int]kmskey.Version{3: {Provider: p}, 1: {Provider: p}}}, "choose one of 1, 3"},
		{"a current version that is not listed", kmskey.Config{Current: 2, Versions: one}, "Config.Current is 2, which is not among the versions 1"},
		{"a negative current version", kmskey.Config{Current: -1, Versions: one}, "Config.Current is -1, which is not among"},
		{"a constant that AWS reserves", kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p, Constants: map[string]string{"aws:x": "y"}}}}, `version 1: kmskey: encryption context: the name "aws:x"`},
		{"a constant without a name", kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p, Constants: map[string]string{"": "y"}}}}, "a name is empty"},
		{"a constant that is not UTF-8", kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p, Constants: map[string]string{"x": "\xff"}}}}, "not valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := kmskey.New(c.cfg)
			if k != nil || err == nil || !strings.HasPrefix(err.Error(), "kmskey: new keyring: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, %v", k, err)
			}
		})
	}
	t.Run("and takes the only version as current", func(t *testing.T) {
		k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{7: {Provider: p}}, Namespace: "n"})
		if err != nil || k.Current() != 7 || k.Namespace() != "n" {
			t.Errorf("got %v, %v", k, err)
		}
	})
	t.Run("and is not changed by a later change of its Config", func(t *testing.T) {
		constants := map[string]string{"a": "1"}
		versions := map[int]kmskey.Version{1: {Provider: p, Constants: constants}}
		k, err := kmskey.New(kmskey.Config{Versions: versions})
		if err != nil {
			t.Fatal(err)
		}
		key := kmskey.NewDataKey()
		e := wrap(t, k, key, patient(1))
		constants["a"] = "2"
		delete(versions, 1)
		opens(t, k, e, patient(1), key)
	})
}

func TestKeyring_Wrap(t *testing.T) {
	p := &testProvider{ref: "r"}
	k := keyring(t, 2, nil, p)
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, patient(1))
	t.Run("makes one call, and Unwrap another", func(t *testing.T) {
		if p.wraps.Load() != 1 || p.unwraps.Load() != 0 {
			t.Errorf("%d wraps, %d unwraps", p.wraps.Load(), p.unwraps.Load())
		}
		opens(t, k, e, patient(1), key)
		if p.wraps.Load() != 1 || p.unwraps.Load() != 1 {
			t.Errorf("%d wraps, %d unwraps", p.wraps.Load(), p.unwraps.Load())
		}
	})
	t.Run("writes the current version, which the text shows", func(t *testing.T) {
		if e.Version() != 2 || !strings.HasPrefix(e.String(), "v2:") {
			t.Errorf("got %s", e)
		}
	})
	t.Run("writes what parses", func(t *testing.T) {
		again, err := kmskey.ParseEnvelope(e.String())
		if err != nil || again.String() != e.String() {
			t.Errorf("got %v, %v", again, err)
		}
		opens(t, k, again, patient(1), key)
	})
	t.Run("numbers a first key 1", func(t *testing.T) {
		if key.ID != 1 {
			t.Errorf("got %d", key.ID)
		}
	})
	t.Run("draws another key each time", func(t *testing.T) {
		if string(kmskey.NewDataKey().DEK.Bytes()) == string(key.DEK.Bytes()) {
			t.Error("the same key twice")
		}
	})
}

func TestKeyring_Wrap_refuses(t *testing.T) {
	cause := errors.New("cause")
	unset := patient(1)
	unset.ID = []kmskey.Value{kmskey.Int(1), {}}
	noID := patient(1)
	noID.ID = nil
	failing := patient(1)
	failing.Context = func(int) ([]kmskey.Pair, error) { return nil, cause }
	for _, c := range []struct {
		name  string
		p     *testProvider
		key   kmskey.DataKey
		row   kmskey.Row
		says  string
		is    error
		calls int
	}{
		{"no data key", &testProvider{}, kmskey.DataKey{ID: 1}, patient(1), "the data key is zero", nil, 0},
		{"a data key numbered 0", &testProvider{}, kmskey.DataKey{DEK: kmskey.NewDEK()}, patient(1), "the data key is zero", nil, 0},
		{"a bound row without a primary key", &testProvider{}, kmskey.NewDataKey(), noID, "a row of Patient has no primary key to bind to", nil, 0},
		{"a part of the primary key that is not set", &testProvider{}, kmskey.NewDataKey(), unset, "part 2 of the primary key of a row of Patient is not set", nil, 0},
		{"a context that fails", &testProvider{}, kmskey.NewDataKey(), failing, "encryption context of Patient: cause", cause, 0},
		{"a provider that fails", &testProvider{fail: kmskey.ErrDenied}, kmskey.NewDataKey(), patient(1), "version 1: ", kmskey.ErrDenied, 1},
		{"a provider without a service", &testProvider{spoil: func(w *kmskey.Wrapped) { w.Service = "" }}, kmskey.NewDataKey(), patient(1), "the provider broke its contract", nil, 1},
		{"a provider with a bad service", &testProvider{spoil: func(w *kmskey.Wrapped) { w.Service = "AWS KMS" }}, kmskey.NewDataKey(), patient(1), "the provider broke its contract", nil, 1},
		{"a provider with a long key reference", &testProvider{spoil: func(w *kmskey.Wrapped) { w.KeyRef = strings.Repeat("r", 1025) }}, kmskey.NewDataKey(), patient(1), "the provider broke its contract", nil, 1},
		{"a provider without a wrapped key", &testProvider{spoil: func(w *kmskey.Wrapped) { w.Blob = nil }}, kmskey.NewDataKey(), patient(1), "the provider broke its contract", nil, 1},
		{"a provider with a long wrapped key", &testProvider{spoil: func(w *kmskey.Wrapped) { w.Blob = make([]byte, 16385) }}, kmskey.NewDataKey(), patient(1), "the provider broke its contract", nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := keyring(t, 0, c.p).Wrap(t.Context(), c.key, c.row)
			if !e.IsZero() || err == nil || !strings.Contains(err.Error(), c.says) || c.is != nil && !errors.Is(err, c.is) || c.p.calls() != c.calls {
				t.Errorf("got %v, %v, %d calls", e, err, c.p.calls())
			}
		})
	}
}

func TestKeyring_Unwrap_refuses(t *testing.T) {
	p := &testProvider{ref: "r"}
	k := keyring(t, 1, p)
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, patient(1))

	t.Run("a version it does not have, and names those it has", func(t *testing.T) {
		other := keyring(t, 3, nil, p, p)
		before := p.calls()
		refused(t, other, e, patient(1), kmskey.ErrUnknownVersion)
		if _, err := other.Unwrap(t.Context(), e, patient(1)); !strings.Contains(err.Error(), "version 1; the keyring has 2, 3") || p.calls() != before {
			t.Errorf("got %v, %d calls", err, p.calls()-before)
		}
	})
	t.Run("another row or model, by the provider's context", func(t *testing.T) {
		refused(t, k, e, patient(2), kmskey.ErrContextMismatch)
		refused(t, k, e, visit(1), kmskey.ErrContextMismatch)
	})
	t.Run("a row without a primary key, before any call", func(t *testing.T) {
		row, before := patient(1), p.calls()
		row.ID = nil
		if got, err := k.Unwrap(t.Context(), e, row); got != nil || err == nil || p.calls() != before {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a provider that gives no key and no error", func(t *testing.T) {
		if got, err := keyring(t, 0, &testProvider{zero: true}).Unwrap(t.Context(), e, patient(1)); got != nil || err == nil || !strings.Contains(err.Error(), "broke its contract") {
			t.Errorf("got %v, %v", got, err)
		}
	})
	t.Run("a provider that fails, with its kind", func(t *testing.T) {
		refused(t, keyring(t, 0, &testProvider{fail: kmskey.ErrThrottled}), e, patient(1), kmskey.ErrThrottled)
	})
}

// TestKeyring_commitment uses a provider that ignores the context, so that the commitment alone stands between two rows.
func TestKeyring_commitment(t *testing.T) {
	blind := &testProvider{ref: "r", blind: true}
	k := keyring(t, 1, blind)
	key := kmskey.NewDataKey()
	home := kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(1), kmskey.Text("2")}}
	e := wrap(t, k, key, home)
	opens(t, k, e, home, key)
	for _, c := range []struct {
		name   string
		change func(*kmskey.Row)
	}{
		{"another row", func(r *kmskey.Row) { r.ID = []kmskey.Value{kmskey.Int(2), kmskey.Text("2")} }},
		{"the same row with its id as text", func(r *kmskey.Row) { r.ID = []kmskey.Value{kmskey.Text("1"), kmskey.Text("2")} }},
		{"the parts of the primary key exchanged", func(r *kmskey.Row) { r.ID = []kmskey.Value{kmskey.Text("2"), kmskey.Int(1)} }},
		{"a part of the primary key less", func(r *kmskey.Row) { r.ID = r.ID[:1] }},
		{"a part of the primary key more", func(r *kmskey.Row) { r.ID = append(r.ID[:2:2], kmskey.Int(3)) }},
		{"another model", func(r *kmskey.Row) { r.Model = "Doctor" }},
		{"another key column", func(r *kmskey.Row) { r.Key = "encrypted_kms_key_phone" }},
		{"names that join to the same text", func(r *kmskey.Row) { r.Model, r.Key = "Patientencrypted", "_kms_key" }},
	} {
		t.Run(c.name+" is refused", func(t *testing.T) {
			row := home
			c.change(&row)
			refused(t, k, e, row, kmskey.ErrCommitment)
		})
	}
	t.Run("another namespace is refused", func(t *testing.T) {
		other, err := kmskey.New(kmskey.Config{Namespace: "clinic/live", Versions: map[int]kmskey.Version{1: {Provider: blind}}})
		if err != nil {
			t.Fatal(err)
		}
		refused(t, other, e, home, kmskey.ErrCommitment)
	})
	t.Run("any changed byte of an envelope opens nothing else", func(t *testing.T) {
		_, text, _ := strings.Cut(e.String(), ":")
		body, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range body {
			changed := append([]byte(nil), body...)
			changed[i] ^= 1
			e, err := kmskey.ParseEnvelope("v1:" + base64.RawStdEncoding.EncodeToString(changed))
			if err != nil {
				continue
			}
			if got, err := k.Unwrap(t.Context(), e, home); err == nil {
				t.Errorf("byte %d changed: opens %v", i, got)
			}
		}
	})
	t.Run("signed and unsigned ids agree", func(t *testing.T) {
		row := home
		row.ID = []kmskey.Value{kmskey.Uint(1), kmskey.Text("2")}
		opens(t, k, e, row, key)
	})
	t.Run("it is HKDF-Expand as specified", func(t *testing.T) {
		text := func(s string) string { return fmt.Sprintf("\x01\x00\x00\x00%c%s", len(s), s) }
		integer := func(s string) string { return fmt.Sprintf("\x02\x00\x00\x00%c%s", len(s), s) }
		info := text("rowseal/commitment") + integer("1") + integer("1") + text("clinic/test") + text("Patient") + text("encrypted_kms_key")
		for _, unbound := range []bool{false, true} {
			row, info := home, info
			if row.Unbound = unbound; !unbound {
				info += integer("1") + text("2")
			}
			want, err := hkdf.Expand(sha256.New, key.DEK.Bytes(), info, 32)
			if err != nil {
				t.Fatal(err)
			}
			_, encoded, _ := strings.Cut(wrap(t, k, key, row).String(), ":")
			body, err := base64.RawStdEncoding.DecodeString(encoded)
			if err != nil || string(body[10:42]) != string(want) || (body[1] == 1) != unbound {
				t.Errorf("unbound %v: %x, want the commitment %x, %v", unbound, body, want, err)
			}
		}
	})
}

func TestKeyring_unbound(t *testing.T) {
	p := &testProvider{ref: "r"}
	k := keyring(t, 1, p)
	key := kmskey.NewDataKey()
	bound := func(r kmskey.Row) kmskey.Row { r.Unbound = false; return r }
	noID := visit(0)
	noID.ID = nil
	loose, tight := wrap(t, k, key, noID), wrap(t, k, key, bound(visit(1)))
	t.Run("an unbound envelope opens for any row of its context", func(t *testing.T) {
		opens(t, k, loose, visit(1), key)
		opens(t, k, loose, visit(2), key)
	})
	t.Run("and is refused where rows must be bound, before any call", func(t *testing.T) {
		before := p.calls()
		refused(t, k, loose, bound(visit(1)), kmskey.ErrCommitment)
		if _, err := k.Rewrap(t.Context(), loose, bound(visit(1)), bound(visit(1))); !errors.Is(err, kmskey.ErrCommitment) {
			t.Errorf("Rewrap: %v", err)
		}
		if p.calls() != before {
			t.Error("a call was made")
		}
	})
	t.Run("a bound envelope opens in a model of unbound rows, in its own row alone", func(t *testing.T) {
		opens(t, k, tight, visit(1), key)
		refused(t, k, tight, visit(2), kmskey.ErrCommitment)
	})
	t.Run("the flag alone cannot be set or cleared", func(t *testing.T) {
		for _, e := range []kmskey.Envelope{loose, tight} {
			body, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(e.String(), "v1:"))
			if err != nil {
				t.Fatal(err)
			}
			body[1] ^= 1
			forged, err := kmskey.ParseEnvelope("v1:" + base64.RawStdEncoding.EncodeToString(body))
			if err != nil {
				t.Fatal(err)
			}
			refused(t, k, forged, visit(1), kmskey.ErrCommitment)
		}
	})
}

func TestKeyring_ring(t *testing.T) {
	for n := 2; n <= 4; n++ {
		t.Run(fmt.Sprintf("of %d keys", n), func(t *testing.T) {
			providers := make([]kmskey.Provider, n)
			for i := range providers {
				providers[i] = &testProvider{ref: fmt.Sprint("r", i)}
			}
			var keys []kmskey.DataKey
			var envelopes []kmskey.Envelope
			for i := range n {
				keys = append(keys, kmskey.DataKey{ID: byte(10 - i), DEK: kmskey.NewDEK()})
				envelopes = append(envelopes, wrap(t, keyring(t, i+1, providers...), keys[i], patient(1)))
			}
			ring := join(t, 1, envelopes...)
			k := keyring(t, n, providers...)
			opens(t, k, ring, patient(1), keys...)
			for i, p := range providers {
				if p.(*testProvider).calls() != 2 {
					t.Errorf("provider %d: %d calls", i, p.(*testProvider).calls())
				}
			}
			refused(t, k, ring, patient(2), kmskey.ErrContextMismatch)

			moved, err := k.Rewrap(t.Context(), ring, patient(1), patient(1))
			if err != nil || moved.Version() != n {
				t.Fatalf("Rewrap: version %d, %v", moved.Version(), err)
			}
			opens(t, keyring(t, n, append(make([]kmskey.Provider, n-1), providers[n-1])...), moved, patient(1), keys...)

			providers[n-1].(*testProvider).fail = kmskey.ErrUnavailable
			refused(t, k, ring, patient(1), kmskey.ErrUnavailable)
		})
	}
	t.Run("whose keys are exchanged is refused by their numbers", func(t *testing.T) {
		k := keyring(t, 0, &testProvider{ref: "r", blind: true})
		dek := kmskey.NewDEK()
		_, text, _ := strings.Cut(wrap(t, k, kmskey.DataKey{ID: 1, DEK: dek}, patient(1)).String(), ":")
		body, _ := base64.RawStdEncoding.DecodeString(text)
		body[3] = 2
		e, err := kmskey.ParseEnvelope("v1:" + base64.RawStdEncoding.EncodeToString(body))
		if err != nil {
			t.Fatal(err)
		}
		refused(t, k, e, patient(1), kmskey.ErrCommitment)
	})
}

func TestKeyring_alternatives(t *testing.T) {
	p := &testProvider{ref: "r"}
	k := keyring(t, 0, p)
	key := kmskey.NewDataKey()
	one := wrap(t, k, key, patient(1)).String()
	body, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(one, "v1:"))
	if err != nil {
		t.Fatal(err)
	}
	head, own := string(body[:42]), string(body[43:])
	with := func(wraps ...string) kmskey.Envelope {
		e, err := kmskey.ParseEnvelope(rawText("v1:", head, string([]byte{byte(len(wraps))}), strings.Join(wraps, "")))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	foreign := rawWrap("test", "elsewhere", "blob")
	t.Run("the first wrap that opens is the answer", func(t *testing.T) {
		opens(t, k, with(own, foreign), patient(1), key)
		opens(t, k, with(foreign, own), patient(1), key)
	})
	t.Run("where none opens, the error has one kind and the text of all", func(t *testing.T) {
		_, err := k.Unwrap(t.Context(), with(foreign, rawWrap("test", "r", "blob")), patient(1))
		if !errors.Is(err, kmskey.ErrContextMismatch) || errors.Is(err, kmskey.ErrForeignKey) || !strings.Contains(err.Error(), kmskey.ErrForeignKey.Error()) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a wrap of another key of the row's own service does not hide the one that fits", func(t *testing.T) {
		blind := &testProvider{ref: "r", blind: true}
		k := keyring(t, 0, blind)
		other := blind.seal(kmskey.NewDEK(), kmskey.Context{})
		fits := blind.seal(key.DEK, kmskey.Context{})
		exchanged := with(rawWrap("test", "r", string(other.Blob)), rawWrap("test", "r", string(fits.Blob)))
		opens(t, k, exchanged, patient(1), key)
		refused(t, k, with(rawWrap("test", "r", string(other.Blob))), patient(1), kmskey.ErrCommitment)
	})
}

func TestKeyring_Rewrap(t *testing.T) {
	key := kmskey.NewDataKey()
	rewrap := func(t *testing.T, k *kmskey.Keyring, e kmskey.Envelope, from, to kmskey.Row) kmskey.Envelope {
		t.Helper()
		out, err := k.Rewrap(t.Context(), e, from, to)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	commitment := func(e kmskey.Envelope) string {
		_, text, _ := strings.Cut(e.String(), ":")
		body, err := base64.RawStdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(body[10:42])
	}
	t.Run("of what is current makes no call and changes nothing", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r"}}
		k := keyring(t, 0, p)
		e := wrap(t, k, key, patient(1))
		if out := rewrap(t, k, e, patient(1), patient(1)); out.String() != e.String() || p.calls() != 1 || p.rewraps.Load() != 0 {
			t.Errorf("got %s, %d calls", out, p.calls())
		}
	})
	t.Run("to a new version with a Rewrapper is one call that shows no key, and keeps the commitment", func(t *testing.T) {
		p1, p2 := &testProvider{ref: "r1"}, &rewrapper{testProvider: testProvider{ref: "r2"}}
		e := wrap(t, keyring(t, 1, p1), key, patient(1))
		k := keyring(t, 2, p1, p2)
		out := rewrap(t, k, e, patient(1), patient(1))
		if p1.calls() != 1 || p2.calls() != 0 || p2.rewraps.Load() != 1 || out.Version() != 2 || commitment(out) != commitment(e) {
			t.Errorf("version %d, %d unwraps, %d wraps, %d rewraps", out.Version(), p1.unwraps.Load(), p2.wraps.Load(), p2.rewraps.Load())
		}
		opens(t, keyring(t, 2, nil, p2), out, patient(1), key)
		opens(t, k, e, patient(1), key) // the old envelope is not touched
	})
	t.Run("of a copied envelope with a blind Rewrapper opens nowhere", func(t *testing.T) {
		p1, p2 := &testProvider{ref: "r1", blind: true}, &rewrapper{testProvider: testProvider{ref: "r2", blind: true}}
		k := keyring(t, 2, p1, p2)
		e := wrap(t, keyring(t, 1, p1), key, patient(1))
		out := rewrap(t, k, e, patient(2), patient(2))
		refused(t, k, out, patient(2), kmskey.ErrCommitment)
	})
	for _, c := range []struct {
		name   string
		target kmskey.Provider
	}{
		{"without a Rewrapper", &testProvider{ref: "r2"}},
		{"with a Rewrapper that cannot", &rewrapper{testProvider: testProvider{ref: "r2"}, refuse: fmt.Errorf("other: %w", kmskey.ErrNotRewrappable)}},
	} {
		t.Run("to a new version "+c.name+" unwraps and wraps", func(t *testing.T) {
			p1 := &testProvider{ref: "r1"}
			k := keyring(t, 2, p1, c.target)
			e := wrap(t, keyring(t, 1, p1), key, patient(1))
			out := rewrap(t, k, e, patient(1), patient(1))
			if p1.unwraps.Load() != 1 || out.Version() != 2 || commitment(out) != commitment(e) {
				t.Errorf("version %d, %d unwraps", out.Version(), p1.unwraps.Load())
			}
			opens(t, keyring(t, 2, nil, c.target), out, patient(1), key)
		})
	}
	t.Run("to another context of the same row is the Rewrapper's work", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r"}}
		k := keyring(t, 0, p)
		e := wrap(t, k, key, patient(1))
		moved := patient(1)
		moved.Context = pairs(kmskey.Pair{Name: "tenant_id", Value: kmskey.Int(9)})
		out := rewrap(t, k, e, patient(1), moved)
		if p.rewraps.Load() != 1 || p.unwraps.Load() != 0 {
			t.Errorf("%d rewraps, %d unwraps", p.rewraps.Load(), p.unwraps.Load())
		}
		opens(t, k, out, moved, key)
		refused(t, k, out, patient(1), kmskey.ErrContextMismatch)
	})
	t.Run("to another context of the same row unwraps where rewrapping is not permitted, and says so where neither is", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r"}, refuse: &kmskey.Error{Op: "rewrap", Service: "test", Kind: kmskey.ErrDenied, Hint: "allow rewrapping"}}
		k := keyring(t, 0, p)
		e := wrap(t, k, key, patient(1))
		moved := patient(1)
		moved.Context = pairs(kmskey.Pair{Name: "tenant_id", Value: kmskey.Int(9)})
		opens(t, k, rewrap(t, k, e, patient(1), moved), moved, key)
		p.fail = &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrDenied, Hint: "allow unwrapping"}
		if out, err := k.Rewrap(t.Context(), e, patient(1), moved); !out.IsZero() || !errors.Is(err, kmskey.ErrDenied) || !strings.Contains(err.Error(), "allow rewrapping") {
			t.Errorf("got %v, %v", out, err)
		}
	})
	t.Run("to another row unwraps, even where nothing else changes", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r"}}
		k := keyring(t, 0, p)
		from, to := patient(1), patient(1)
		to.ID = []kmskey.Value{kmskey.Int(2)}
		out := rewrap(t, k, wrap(t, k, key, from), from, to)
		if p.rewraps.Load() != 0 || p.unwraps.Load() != 1 {
			t.Errorf("%d rewraps, %d unwraps", p.rewraps.Load(), p.unwraps.Load())
		}
		opens(t, k, out, to, key)
		refused(t, k, out, from, kmskey.ErrCommitment)
	})
	t.Run("to another row refuses an envelope that was copied", func(t *testing.T) {
		k := keyring(t, 0, &testProvider{ref: "r", blind: true})
		if out, err := k.Rewrap(t.Context(), wrap(t, k, key, patient(1)), patient(2), patient(3)); !out.IsZero() || !errors.Is(err, kmskey.ErrCommitment) {
			t.Errorf("got %v, %v", out, err)
		}
	})
	t.Run("binds an unbound envelope where the row asks for it", func(t *testing.T) {
		k := keyring(t, 0, &testProvider{ref: "r"})
		to := visit(1)
		to.Unbound = false
		out := rewrap(t, k, wrap(t, k, key, visit(1)), visit(1), to)
		opens(t, k, out, to, key)
		refused(t, k, out, visit(2), kmskey.ErrCommitment)
	})
	t.Run("never unbinds", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r2"}}
		k := keyring(t, 2, &testProvider{ref: "r1"}, p)
		from := visit(1)
		from.Unbound = false
		e := wrap(t, keyring(t, 1, &testProvider{ref: "r1"}), key, from)
		out := rewrap(t, k, e, visit(1), visit(1))
		if p.rewraps.Load() != 1 {
			t.Error("the data key was shown")
		}
		opens(t, k, out, visit(1), key)
		refused(t, k, out, visit(2), kmskey.ErrCommitment)
	})
	t.Run("keeps an unbound envelope unbound, without seeing the key", func(t *testing.T) {
		p := &rewrapper{testProvider: testProvider{ref: "r2"}}
		k := keyring(t, 2, &testProvider{ref: "r1"}, p)
		out := rewrap(t, k, wrap(t, keyring(t, 1, &testProvider{ref: "r1"}), key, visit(1)), visit(1), visit(1))
		if p.rewraps.Load() != 1 || p.calls() != 0 {
			t.Error("the data key was shown")
		}
		opens(t, k, out, visit(7), key)
	})
	for _, c := range []struct {
		name     string
		p2       *rewrapper
		versions bool // version 1 is listed
		want     error
		says     string
	}{
		{"a version that is not listed", &rewrapper{}, false, kmskey.ErrUnknownVersion, "the keyring has 2"},
		{"a Rewrapper that fails, without unwrapping instead", &rewrapper{refuse: kmskey.ErrDenied}, true, kmskey.ErrDenied, "kmskey: rewrap: version 2"},
		{"a Rewrapper that breaks its contract", &rewrapper{testProvider: testProvider{spoil: func(w *kmskey.Wrapped) { w.Blob = nil }}}, true, nil, "broke its contract"},
	} {
		t.Run("refuses "+c.name, func(t *testing.T) {
			p1 := &testProvider{ref: "r1"}
			e := wrap(t, keyring(t, 1, p1), key, patient(1))
			k := keyring(t, 2, nil, c.p2)
			if c.versions {
				k = keyring(t, 2, p1, c.p2)
			}
			out, err := k.Rewrap(t.Context(), e, patient(1), patient(1))
			if !out.IsZero() || err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || p1.unwraps.Load() != 0 {
				t.Errorf("got %v, %v", out, err)
			}
		})
	}
}

func TestKeyring_constants(t *testing.T) {
	p := &testProvider{ref: "r"}
	with := func(constants map[string]string) *kmskey.Keyring {
		k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p, Constants: constants}}})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	live := with(map[string]string{"environment": "live", "app": "clinic"})
	key := kmskey.NewDataKey()
	e := wrap(t, live, key, patient(1))
	t.Run("are in the context", func(t *testing.T) {
		opens(t, live, e, patient(1), key)
		refused(t, with(map[string]string{"environment": "test", "app": "clinic"}), e, patient(1), kmskey.ErrContextMismatch)
		refused(t, with(nil), e, patient(1), kmskey.ErrContextMismatch)
	})
	t.Run("must not repeat a model's own name", func(t *testing.T) {
		_, err := with(map[string]string{"model_id": "1"}).Wrap(t.Context(), key, patient(1))
		if err == nil || !strings.Contains(err.Error(), `"model_id" is given twice`) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("do not end up in the model's own pairs", func(t *testing.T) {
		shared := make([]kmskey.Pair, 1, 8)
		shared[0] = kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}
		row := patient(1)
		row.Context = pairs(shared...)
		wrap(t, live, key, row)
		if got := shared[:2][1]; got.Name != "" {
			t.Errorf("the model's slice holds %q", got.Name)
		}
	})
}

func TestKeyring_is_safe_for_concurrent_use(t *testing.T) {
	k := keyring(t, 2, &testProvider{ref: "r1"}, &rewrapper{testProvider: testProvider{ref: "r2"}})
	old := keyring(t, 1, &testProvider{ref: "r1"})
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			key := kmskey.NewDataKey()
			e, err := old.Wrap(context.Background(), key, patient(i))
			if err == nil {
				e, err = k.Rewrap(context.Background(), e, patient(i), patient(i))
			}
			if err == nil {
				_, err = k.Unwrap(context.Background(), e, patient(i))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestKeyring_tells_of_its_versions(t *testing.T) {
	p := &testProvider{ref: "r"}
	k, err := kmskey.New(kmskey.Config{Current: 1, Versions: map[int]kmskey.Version{
		1: {Provider: p, Constants: map[string]string{"environment": "test"}},
		2: {Choose: func(kmskey.Row, kmskey.Context) (kmskey.Provider, error) { return p, nil }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := k.Constants(1)
	got["environment"] = "changed"
	if k.Constants(1)["environment"] != "test" || len(k.Constants(2)) != 0 || k.Chooses(1) || !k.Chooses(2) || k.Chooses(3) {
		t.Errorf("%v %v", k.Constants(1), k.Constants(2))
	}
}
