package kmskey_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
)

func box(t testing.TB, k *kmskey.Keyring, name string) *kmskey.Box {
	t.Helper()
	b, err := kmskey.NewBox(k, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func seal(t testing.TB, b *kmskey.Box, message string, ec ...kmskey.Pair) string {
	t.Helper()
	sealed, err := b.Seal(t.Context(), []byte(message), ec...)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func opensTo(t testing.TB, b *kmskey.Box, sealed, want string, ec ...kmskey.Pair) {
	t.Helper()
	if got, err := b.Open(t.Context(), sealed, ec...); err != nil || got == nil || string(got) != want {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// closed fails the test unless sealed gives nothing, for that reason.
func closed(t testing.TB, b *kmskey.Box, sealed string, kind error, ec ...kmskey.Pair) {
	t.Helper()
	if got, err := b.Open(t.Context(), sealed, ec...); got != nil || !errors.Is(err, kind) {
		t.Errorf("got %d bytes, %v, want %v", len(got), err, kind)
	}
}

func report(id int64) kmskey.Pair { return kmskey.Pair{Name: "report", Value: kmskey.Int(id)} }

func TestNewBox_refuses(t *testing.T) {
	k := keyring(t, 1, &testProvider{ref: "r"})
	for _, c := range []struct {
		keys *kmskey.Keyring
		name string
	}{{nil, "reports"}, {k, ""}, {k, "\xff"}} {
		if b, err := kmskey.NewBox(c.keys, c.name); b != nil || err == nil || !strings.HasPrefix(err.Error(), "kmskey: new box: ") {
			t.Errorf("%q: %v, %v", c.name, b, err)
		}
	}
}

func TestBox(t *testing.T) {
	p := &testProvider{ref: "r"}
	b := box(t, keyring(t, 2, nil, p), "reports")
	sealed := seal(t, b, "the message", report(7))
	t.Run("costs one call to seal and one to open", func(t *testing.T) {
		opensTo(t, b, sealed, "the message", report(7))
		if p.wraps.Load() != 1 || p.unwraps.Load() != 1 {
			t.Errorf("%d wraps, %d unwraps", p.wraps.Load(), p.unwraps.Load())
		}
	})
	t.Run("begins with the version", func(t *testing.T) {
		if !strings.HasPrefix(sealed, "v2:") {
			t.Errorf("got %s", sealed)
		}
	})
	t.Run("never seals alike", func(t *testing.T) {
		if seal(t, b, "the message", report(7)) == sealed {
			t.Error("the same twice")
		}
	})
	t.Run("takes messages of any size, a full stop and 31 bytes in base64 longer behind the envelope", func(t *testing.T) {
		for _, n := range []int{0, 1, 2, 3, 4 << 10, 1 << 20} {
			message := strings.Repeat("m", n)
			sealed := seal(t, b, message)
			opensTo(t, b, sealed, message)
			if got, want := len(sealed)-strings.Index(sealed, "."), 1+base64.RawStdEncoding.EncodedLen(31+n); got != want {
				t.Errorf("%d bytes become %d, want %d", n, got, want)
			}
		}
		// What docs/format.md says of AWS KMS: a wrapped key of 184 bytes under an ARN of 78.
		aws := &testProvider{spoil: func(w *kmskey.Wrapped) {
			*w = kmskey.Wrapped{Service: "aws", KeyRef: strings.Repeat("r", 78), Blob: make([]byte, 184)}
		}}
		if n := len(seal(t, box(t, keyring(t, 1, aws), "reports"), "")); n != 421+1+42 {
			t.Errorf("an empty message has %d characters", n)
		}
	})
	t.Run("takes no message too large for a column", func(t *testing.T) {
		calls := p.calls()
		if _, err := b.Seal(t.Context(), make([]byte, 1<<29+1)); err == nil || p.calls() != calls {
			t.Error(err)
		}
	})
	t.Run("takes the context in any order, and with its types", func(t *testing.T) {
		x, y := kmskey.Pair{Name: "x", Value: kmskey.Int(1)}, kmskey.Pair{Name: "y", Value: kmskey.UUID(someUUID)}
		sealed := seal(t, b, "m", x, y)
		opensTo(t, b, sealed, "m", y, x)
		closed(t, b, sealed, kmskey.ErrContextMismatch, kmskey.Pair{Name: "x", Value: kmskey.Text("1")}, y)
	})
	t.Run("refuses a context that is none, before any call", func(t *testing.T) {
		calls := p.calls()
		_, e1 := b.Seal(t.Context(), nil, report(1), report(2))
		_, e2 := b.Open(t.Context(), sealed, report(1), report(2))
		_, e3 := b.Rewrap(t.Context(), sealed, []kmskey.Pair{report(1), report(1)}, nil)
		_, e4 := b.Rewrap(t.Context(), sealed, nil, []kmskey.Pair{{}})
		if e1 == nil || e2 == nil || e3 == nil || e4 == nil || p.calls() != calls {
			t.Errorf("%v, %v, %v, %v, %d calls", e1, e2, e3, e4, p.calls()-calls)
		}
	})
	t.Run("adds the constants of a version to what the service gets", func(t *testing.T) {
		constants := map[string]string{"environment": "test"}
		var seen []kmskey.Context
		k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p, Constants: constants}}, Observers: []kmskey.Observer{
			func(_ context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
				if c.Model != "rowseal/box" || c.Key != "reports" {
					t.Errorf("%s.%s", c.Model, c.Key)
				}
				seen = append(seen, c.Context)
				return nil, nil
			}}})
		if err != nil {
			t.Fatal(err)
		}
		b := box(t, k, "reports")
		opensTo(t, b, seal(t, b, "m", report(7)), "m", report(7))
		for _, c := range seen {
			if fmt.Sprint(c.Strings()) != "map[environment:test report:7]" {
				t.Errorf("got %v", c.Strings())
			}
		}
		if _, err := b.Seal(t.Context(), nil, kmskey.Pair{Name: "environment", Value: kmskey.Text("x")}); err == nil {
			t.Error("a constant is overridden")
		}
	})
}

func TestBox_refuses(t *testing.T) {
	strict, blind := &testProvider{ref: "r"}, &testProvider{ref: "r", blind: true}
	for _, p := range []*testProvider{strict, blind} {
		mismatch := kmskey.ErrContextMismatch
		if p.blind {
			mismatch = kmskey.ErrCommitment
		}
		t.Run(fmt.Sprintf("where the service authenticates no context: %t", p.blind), func(t *testing.T) {
			k := keyring(t, 1, p)
			b := box(t, k, "reports")
			sealed := seal(t, b, "the message", report(7))
			t.Run("another context", func(t *testing.T) {
				closed(t, b, sealed, mismatch, report(8))
				closed(t, b, sealed, mismatch)
				closed(t, b, sealed, mismatch, report(7), kmskey.Pair{Name: "a", Value: kmskey.Text("")})
				closed(t, b, sealed, mismatch, kmskey.Pair{Name: "report", Value: kmskey.Text("7")})
			})
			t.Run("another box", func(t *testing.T) { closed(t, box(t, k, "exports"), sealed, kmskey.ErrCommitment, report(7)) })
			t.Run("another namespace", func(t *testing.T) {
				other, err := kmskey.New(kmskey.Config{Namespace: "clinic/staging", Versions: map[int]kmskey.Version{1: {Provider: p}}})
				if err != nil {
					t.Fatal(err)
				}
				closed(t, box(t, other, "reports"), sealed, kmskey.ErrCommitment, report(7))
			})
			t.Run("the message of another envelope", func(t *testing.T) {
				other := seal(t, b, "another one", report(7))
				closed(t, b, sealed[:strings.Index(sealed, ".")]+other[strings.Index(other, "."):], kmskey.ErrNotAuthentic, report(7))
			})
			t.Run("cut short anywhere, or with more behind it", func(t *testing.T) {
				for i := range sealed {
					if got, err := b.Open(t.Context(), sealed[:i], report(7)); got != nil || !errors.Is(err, kmskey.ErrCorrupt) && !errors.Is(err, kmskey.ErrNotAuthentic) {
						t.Errorf("%d characters: %q, %v", i, got, err)
					}
				}
				for _, s := range []string{sealed + "A", sealed + "=", sealed + ".", sealed + "\n", "\n" + sealed, sealed + sealed, strings.Replace(sealed, ".", ".\n", 1)} {
					if got, err := b.Open(t.Context(), s, report(7)); got != nil || err == nil {
						t.Errorf("%q opens", s)
					}
				}
			})
			t.Run("altered at any character", func(t *testing.T) {
				for i := range sealed {
					for _, c := range []byte{'A', 'B', '/', 'z', '.', ':', 0, 0xFF} {
						altered := []byte(sealed)
						if altered[i] == c {
							continue
						}
						altered[i] = c
						if got, err := b.Open(t.Context(), string(altered), report(7)); got != nil || err == nil {
							t.Errorf("character %d as %q: %q, %v", i, c, got, err)
						}
					}
				}
			})
			t.Run("a message altered at any byte", func(t *testing.T) {
				envelope, text, _ := strings.Cut(sealed, ".")
				message, _ := base64.RawStdEncoding.DecodeString(text)
				for i := range message {
					altered := bytes.Clone(message)
					altered[i] ^= 0x80
					kind := kmskey.ErrNotAuthentic
					if i < 3 {
						kind = kmskey.ErrCorrupt
					}
					closed(t, b, envelope+"."+base64.RawStdEncoding.EncodeToString(altered), kind, report(7))
				}
			})
		})
	}
}

// TestBox_and_rows_are_strangers gives a box and a row the same name, context and key service, which even lets every context pass.
func TestBox_and_rows_are_strangers(t *testing.T) {
	k := keyring(t, 1, &testProvider{ref: "r", blind: true})
	name := "encrypted_kms_key"
	b := box(t, k, name)
	ec := newContext(t, report(7))
	// The row that the box would be if its commitment had no label of its own.
	row := kmskey.Row{Model: "rowseal/box", Key: name, ID: []kmskey.Value{kmskey.Bytes(ec.Canonical())}, Context: pairs(report(7))}
	key := kmskey.NewDataKey()
	e := wrap(t, k, key, row)
	fieldKey, err := field.NewKey(key.DEK.Bytes(), key.ID)
	if err != nil {
		t.Fatal(err)
	}
	place := field.NewPlace("clinic/test", "rowseal/box", name)
	sealedField := fieldKey.Seal(nil, place, []byte("\x01value"))
	sealed := seal(t, b, "message", report(7))
	envelope, text, _ := strings.Cut(sealed, ".")
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a sealed message is no envelope", func(t *testing.T) {
		if _, err := kmskey.ParseEnvelope(sealed); !errors.Is(err, kmskey.ErrCorrupt) {
			t.Error(err)
		}
	})
	t.Run("nor is its envelope a row's", func(t *testing.T) {
		e, err := kmskey.ParseEnvelope(envelope)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, k, e, row, kmskey.ErrCommitment)
	})
	t.Run("nor is its message a field", func(t *testing.T) {
		if _, err := fieldKey.Open(nil, place, raw); !errors.Is(err, field.ErrUnknownSuite) {
			t.Error(err)
		}
	})
	t.Run("a row's envelope and field are no sealed message", func(t *testing.T) {
		closed(t, b, e.String(), kmskey.ErrCorrupt, report(7))
		closed(t, b, e.String()+"."+base64.RawStdEncoding.EncodeToString(sealedField), kmskey.ErrCorrupt, report(7))
		asMessage := append([]byte{0xFB}, sealedField[1:]...)
		closed(t, b, e.String()+"."+base64.RawStdEncoding.EncodeToString(asMessage), kmskey.ErrCommitment, report(7))
		closed(t, b, e.String()+"."+text, kmskey.ErrCommitment, report(7))
	})
	t.Run("and neither is moved as the other", func(t *testing.T) {
		if got, err := b.Rewrap(t.Context(), e.String()+"."+text, []kmskey.Pair{report(7)}, nil); got != "" || !errors.Is(err, kmskey.ErrCommitment) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("a box takes no ring and no unbound envelope", func(t *testing.T) {
		ring, _, err := k.Append(t.Context(), e, row)
		if err != nil {
			t.Fatal(err)
		}
		closed(t, b, ring.String()+"."+text, kmskey.ErrCorrupt, report(7))
		closed(t, b, wrap(t, k, key, visit(1)).String()+"."+text, kmskey.ErrCorrupt, report(7))
	})
	t.Run("nor the token of a row", func(t *testing.T) {
		closed(t, b, "pending:AAAAAAAAAAAAAAAAAAAAAA."+text, kmskey.ErrPending, report(7))
		closed(t, b, "pending:AAAAAAAAAAAAAAAAAAAAAA", kmskey.ErrCorrupt, report(7))
	})
}

func TestBox_rotation(t *testing.T) {
	p1, p2 := &testProvider{ref: "key-1"}, &testProvider{ref: "key-2"}
	old := box(t, keyring(t, 1, p1), "reports")
	sealed := seal(t, old, "the message", report(7))
	at7, at8 := []kmskey.Pair{report(7)}, []kmskey.Pair{report(8)}
	rewrap := func(b *kmskey.Box, sealed string, from, to []kmskey.Pair) string {
		t.Helper()
		out, err := b.Rewrap(t.Context(), sealed, from, to)
		if err != nil {
			t.Fatal(err)
		}
		if out[strings.Index(out, "."):] != sealed[strings.Index(sealed, "."):] {
			t.Error("the message has changed")
		}
		return out
	}
	b := box(t, keyring(t, 2, p1, p2), "reports")
	t.Run("reads what an older version sealed", func(t *testing.T) { opensTo(t, b, sealed, "the message", at7...) })
	moved := rewrap(b, sealed, at7, at7)
	t.Run("moves to the current version, and the old one goes", func(t *testing.T) {
		only2 := box(t, keyring(t, 2, nil, p2), "reports")
		opensTo(t, only2, moved, "the message", at7...)
		closed(t, only2, sealed, kmskey.ErrUnknownVersion, at7...)
		_, err := only2.Open(t.Context(), sealed, at7...)
		_, err2 := only2.Rewrap(t.Context(), sealed, at7, at7)
		if !strings.Contains(err.Error(), `in box "reports": `) || !strings.Contains(err.Error(), "unknown key version 1; the keyring has 2") || !errors.Is(err2, kmskey.ErrUnknownVersion) {
			t.Errorf("%v, %v", err, err2)
		}
	})
	t.Run("what is current is left alone, without a call", func(t *testing.T) {
		calls := p1.calls() + p2.calls()
		if rewrap(b, moved, at7, at7) != moved || p1.calls()+p2.calls() != calls {
			t.Error("changed, or asked")
		}
	})
	t.Run("moves to another context", func(t *testing.T) {
		out := rewrap(b, moved, at7, at8)
		opensTo(t, b, out, "the message", at8...)
		closed(t, b, out, kmskey.ErrContextMismatch, at7...)
	})
	t.Run("and not from one that it was not sealed under", func(t *testing.T) {
		if out, err := b.Rewrap(t.Context(), moved, at8, at7); out != "" || !errors.Is(err, kmskey.ErrContextMismatch) {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("refuses what is no sealed message", func(t *testing.T) {
		if out, err := b.Rewrap(t.Context(), moved+"\n", at7, at7); out != "" || !errors.Is(err, kmskey.ErrCorrupt) {
			t.Errorf("%q, %v", out, err)
		}
	})
	t.Run("needs no data key where the service can rewrap", func(t *testing.T) {
		r1, r2 := &rewrapper{testProvider: testProvider{ref: "key-1"}}, &rewrapper{testProvider: testProvider{ref: "key-2"}}
		b := box(t, keyring(t, 2, r1, r2), "reports")
		out := rewrap(b, sealed, at7, at7)
		if r1.calls()+r2.calls() != 0 || r2.rewraps.Load() != 1 {
			t.Errorf("%d calls, %d rewraps", r1.calls()+r2.calls(), r2.rewraps.Load())
		}
		opensTo(t, b, out, "the message", at7...)
	})
}

func TestBox_over_several_regions(t *testing.T) {
	east, west, north := newRegion("east"), newRegion("west"), newRegion("north")
	b := box(t, keyring(t, 1, multi(t, both(east, west))), "reports")
	sealed := seal(t, b, "the message", report(7))
	east.is(kmskey.ErrUnavailable, 0)
	opensTo(t, b, sealed, "the message", report(7))
	east.is(nil, 0)

	// A region more: its wrap is made by Rewrap.
	wider := box(t, keyring(t, 1, multi(t, both(east, west, north))), "reports")
	out, err := wider.Rewrap(t.Context(), sealed, []kmskey.Pair{report(7)}, []kmskey.Pair{report(7)})
	if err != nil || out == sealed {
		t.Fatal(err)
	}
	opensTo(t, box(t, keyring(t, 1, north), "reports"), out, "the message", report(7))
}

func TestBox_keys_chosen_by_context(t *testing.T) {
	tenants := map[string]*testProvider{"1": {ref: "tenant-1"}, "2": {ref: "tenant-2"}}
	k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Choose: func(row kmskey.Row, ec kmskey.Context) (kmskey.Provider, error) {
		tenant, _ := ec.Get("tenant_id")
		if p := tenants[tenant.String()]; p != nil && row.Model == "rowseal/box" && row.Key == "reports" {
			return p, nil
		}
		return nil, errors.New("no such tenant")
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	b := box(t, k, "reports")
	tenant := kmskey.Pair{Name: "tenant_id", Value: kmskey.Int(2)}
	opensTo(t, b, seal(t, b, "m", tenant), "m", tenant)
	if tenants["1"].calls() != 0 || tenants["2"].calls() != 2 {
		t.Error("another tenant's key was used")
	}
	if _, err := b.Seal(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "no such tenant") {
		t.Error(err)
	}
}

func TestBox_is_safe_for_concurrent_use(t *testing.T) {
	b := box(t, keyring(t, 2, &testProvider{ref: "key-1"}, &testProvider{ref: "key-2"}), "reports")
	one := seal(t, b, "one", report(1))
	var wg sync.WaitGroup
	for i := range int64(50) {
		wg.Go(func() {
			message := strings.Repeat("m", int(i)*100)
			opensTo(t, b, seal(t, b, message, report(i)), message, report(i))
			opensTo(t, b, one, "one", report(1))
		})
	}
	wg.Wait()
}

func TestBox_shows_no_secret(t *testing.T) {
	p := &recorder{testProvider: testProvider{ref: "r", blind: true}}
	b := box(t, keyring(t, 1, p), "reports")
	message, id := "canary-message-4711", int64(98765432198765)
	sealed := seal(t, b, message, report(id))
	envelope, text, _ := strings.Cut(sealed, ".")
	var out strings.Builder
	out.WriteString(printed(b))
	for _, s := range []string{"", "v1:", envelope, envelope + ".", sealed[:len(sealed)-1], sealed + "A", sealed + "!", "." + text, message} {
		_, err := b.Open(t.Context(), s, report(id))
		out.WriteString(printed(err))
	}
	_, err := b.Open(t.Context(), sealed, report(id+1))
	out.WriteString(printed(err))
	_, err = b.Rewrap(t.Context(), sealed, []kmskey.Pair{report(id + 1)}, []kmskey.Pair{report(id)})
	out.WriteString(printed(err))
	p.fail = kmskey.ErrDenied
	_, err = b.Seal(t.Context(), []byte(message), report(id))
	out.WriteString(printed(err))
	for _, secret := range [][]byte{p.dek, []byte(message), []byte("9876543219876")} {
		if forms := shows(out.String(), secret); forms != nil {
			t.Errorf("a secret of %d bytes is shown in %d forms", len(secret), len(forms))
		}
	}
}

// recorder keeps the last data key that it wrapped.
type recorder struct {
	testProvider
	dek []byte
}

func (r *recorder) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	r.dek = bytes.Clone(dek.Bytes())
	return r.testProvider.Wrap(ctx, dek, ec)
}

// boxTuples is what docs/format.md says of a message's derivations: the info of its commitment, that of its key, and the associated data.
func boxTuples(namespace, name string, id byte, ec kmskey.Context) (commitment, key, data []byte) {
	number := kmskey.Uint(uint64(id))
	commitment = tuple(kmskey.Text("rowseal/box-commitment"), kmskey.Int(1), number, kmskey.Text(namespace), kmskey.Text(name), kmskey.Bytes(ec.Canonical()))
	key = tuple(kmskey.Text("rowseal/box-key"), kmskey.Int(1))
	data = tuple(kmskey.Text("rowseal/box"), kmskey.Int(0xFB), kmskey.Int(1), kmskey.Text(namespace), kmskey.Text(name), number)
	return commitment, key, data
}
