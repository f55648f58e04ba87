package transit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// endpoint is the real service that someone names, taken before the environment is emptied of what clients read from it.
var endpoint = struct {
	connection
	mount, key string
}{
	connection{address: os.Getenv("VAULT_ADDR"), token: os.Getenv("VAULT_TOKEN"), namespace: os.Getenv("VAULT_NAMESPACE"), retries: 2},
	os.Getenv("VAULTTRANSIT_TEST_MOUNT"), os.Getenv("VAULTTRANSIT_TEST_KEY"),
}

func TestMain(m *testing.M) {
	for _, setting := range os.Environ() {
		name, _, _ := strings.Cut(setting, "=")
		if strings.HasPrefix(name, "VAULT_") && !strings.Contains(name, "CA") && !strings.Contains(name, "TLS") || strings.HasPrefix(name, "BAO_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func says(t testing.TB, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v\nis not %q, or does not say %q", err, kind, text)
	}
}

func row(t testing.TB, id int64) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	must(t, err)
	return ec
}

// vendor is what a test makes providers with.
type vendor func(t testing.TB, c connection) vaulttransit.Caller

func (v vendor) provider(t testing.TB, s *server, token, key string) *vaulttransit.Provider {
	t.Helper()
	// A thousand calls at once on a loaded machine under the race detector may take long; no claim here is about time.
	p, err := vaulttransit.New(v(t, connection{address: s.url, token: token}), key, vaulttransit.Config{Timeout: 5 * time.Minute})
	must(t, err)
	return p
}

// each runs a test with both vendors' clients, each on a server of its own with the derived key "app".
func each(t *testing.T, test func(t *testing.T, s *server, v vendor)) {
	for name, v := range vendors {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.createKey(t, "app", map[string]any{"derived": true})
			test(t, s, v)
		})
	}
}

func wrap(t testing.TB, p kmskey.Provider, dek kmskey.DEK, ec kmskey.Context) kmskey.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), dek, ec)
	must(t, err)
	return w
}

func opens(t testing.TB, p kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context, dek kmskey.DEK) {
	t.Helper()
	got, err := p.Unwrap(t.Context(), w, ec)
	must(t, err)
	if !bytes.Equal(got.Bytes(), dek.Bytes()) {
		t.Fatal("another key came back")
	}
}

var notApplicable = map[string]string{
	"disabled":         "Vault disables versions of a key, not the key; TestVersions closes one",
	"rewrap_context":   "the context derives the key, so Vault would have to be told both",
	"sibling":          "Vault rewraps within one key",
	"generate":         "data keys are made locally; transit/datakey is not used",
	"generate_wrapped": "data keys are made locally; transit/datakey is not used",
}

func subject(t *testing.T, v vendor) kmskeytest.Subject {
	s := newServer(t)
	s.createKey(t, "app", map[string]any{"derived": true})
	s.createKey(t, "other", map[string]any{"derived": true}) // so that a refusal is the provider's, not the service's
	fault := func(f func(http.ResponseWriter, *http.Request) bool) func(*testing.T) func() {
		return func(*testing.T) func() {
			s.breakWith(f)
			return func() { s.breakWith(nil) }
		}
	}
	may := s.token("encrypt/app update,create", "decrypt/app update", "rewrap/app update", "encrypt/other update", "decrypt/other update")
	return kmskeytest.Subject{
		Provider: v.provider(t, s, may, "app"),
		ForeignRefs: []string{
			"transit/keys/other:v1", "team/transit/keys/app:v1", "transit/keys/app", "transit/keys/app:v", "transit/keys/app:v0", "transit/keys/app:v01",
			"transit/keys/app:v1 ", "transit/keys/app:v-1", "transit/keys/app:v1:v1", "transit/keys/app:v99999999999", "transit/keys/app/../other:v1",
			"transit/encrypt/app:v1", "Transit/keys/app:v1", "app:v1", "vault:v1",
		},
		Calls:    func() int { return int(s.calls.Load()) },
		Remove:   func(t *testing.T) { s.deleteKey(t, "app") },
		Outage:   fault(answerWith(http.StatusServiceUnavailable, "Vault is sealed")),
		Throttle: fault(answerWith(http.StatusTooManyRequests, `request path "transit/encrypt/app": rate limit quota exceeded`)),
		Hang: func(*testing.T) (<-chan struct{}, func()) {
			arrived := make(chan struct{}, 1)
			s.breakWith(func(_ http.ResponseWriter, r *http.Request) bool {
				arrived <- struct{}{}
				<-r.Context().Done()
				return true
			})
			return arrived, func() { s.breakWith(nil) }
		},
		DenyWrap:   func(t *testing.T) kmskey.Provider { return v.provider(t, s, s.token("decrypt/app update"), "app") },
		DenyUnwrap: func(t *testing.T) kmskey.Provider { return v.provider(t, s, s.token("encrypt/app update"), "app") },
		Other:      func(t *testing.T) kmskey.Provider { return v.provider(t, s, may, "other") },
	}
}

func TestConformance(t *testing.T) {
	for name, v := range vendors {
		t.Run(name, func(t *testing.T) {
			kmskeytest.Run(t, kmskeytest.Harness{
				New:           func(t *testing.T) kmskeytest.Subject { return subject(t, v) },
				NotApplicable: notApplicable,
			})
		})
	}
	t.Run("counted", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				s := subject(t, vendors["vault"])
				s.Provider = kmskeytest.NewCounter(s.Provider).Provider()
				return s
			},
			NotApplicable: notApplicable,
		})
	})
}

// TestConformanceAtEndpoint runs the suite against a Vault or OpenBao that someone names, in addition to the engine in this process:
// VAULTTRANSIT_TEST_KEY (a derived key), VAULT_ADDR, VAULT_TOKEN, and where they differ from the defaults VAULTTRANSIT_TEST_MOUNT and
// VAULT_NAMESPACE. The token needs "update" on encrypt, decrypt and rewrap. Faults cannot be made there.
func TestConformanceAtEndpoint(t *testing.T) {
	if endpoint.key == "" {
		t.Log("nothing asked for: VAULTTRANSIT_TEST_KEY is not set; TestConformance ran against the engine in this process")
		return
	}
	for name, value := range map[string]string{"VAULT_ADDR": endpoint.address, "VAULT_TOKEN": endpoint.token} {
		if value == "" {
			t.Fatalf("%s is not set", name)
		}
	}
	na := maps.Clone(notApplicable)
	for _, fault := range []string{"calls", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap", "other"} {
		na[fault] = "the service at VAULT_ADDR is not ours to break or count"
	}
	for name, v := range vendors {
		t.Run(name, func(t *testing.T) {
			kmskeytest.Run(t, kmskeytest.Harness{
				New: func(t *testing.T) kmskeytest.Subject {
					p, err := vaulttransit.New(v(t, endpoint.connection), endpoint.key, vaulttransit.Config{Mount: endpoint.mount})
					must(t, err)
					return kmskeytest.Subject{Provider: p, ForeignRefs: []string{"nowhere/keys/" + endpoint.key + ":v1", "transit/keys/" + endpoint.key + "x:v1"}}
				},
				NotApplicable: na,
			})
		})
	}
}

// TestREADME: what README.md shows works as it stands.
func TestREADME(t *testing.T) {
	s := newServer(t)
	s.createKey(t, "app", map[string]any{"derived": true})
	config := vault.DefaultConfig()
	must(t, config.Error)
	config.Address = s.url
	client, err := vault.NewClient(config)
	must(t, err)
	client.SetToken(root)
	p, err := newProvider(client)
	must(t, err)
	must(t, p.Check(t.Context()))
	dek := kmskey.NewDEK()
	opens(t, p, wrap(t, p, dek, row(t, 1)), row(t, 1), dek)
}

// TestDuties: each duty has a token of its own, with "update" on one path.
func TestDuties(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		writer := v.provider(t, s, s.token("encrypt/app update"), "app")
		reader := v.provider(t, s, s.token("decrypt/app update"), "app")
		rotator := v.provider(t, s, s.token("rewrap/app update"), "app")
		auditor := v.provider(t, s, s.token("keys/app read"), "app")
		dek := kmskey.NewDEK()
		w := wrap(t, writer, dek, row(t, 1))
		opens(t, reader, w, row(t, 1), dek)
		s.rotate(t, "app")
		moved, err := rotator.Rewrap(t.Context(), rotator, w, row(t, 1), row(t, 1))
		must(t, err)
		if moved.KeyRef != "transit/keys/app:v2" {
			t.Errorf("moved to %q", moved.KeyRef)
		}
		opens(t, reader, moved, row(t, 1), dek)
		must(t, auditor.Check(t.Context()))

		_, err = writer.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDenied, `allow this token "update" on transit/decrypt/app`)
		_, err = reader.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrDenied, `allow this token "update" on transit/encrypt/app`)
		_, err = reader.Rewrap(t.Context(), reader, w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrDenied, `allow this token "update" on transit/rewrap/app`)
		_, err = rotator.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDenied, `allow this token "update" on transit/decrypt/app`)
		says(t, writer.Check(t.Context()), kmskey.ErrDenied, `allow this token "read" on transit/keys/app`)
		_, err = v.provider(t, s, "revoked", "app").Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDenied, "check the client's token")
		_, err = v.provider(t, s, "", "app").Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDenied, "check the client's token")
	})
}

// TestKeyring: what a rotation of rows does, with the rights that it needs.
func TestKeyring(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		keyring := func(current int, p kmskey.Provider, constants map[string]string) *kmskey.Keyring {
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: map[int]kmskey.Version{1: {Provider: p}, 2: {Provider: p, Constants: constants}}})
			must(t, err)
			return k
		}
		r := kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(7)}, Context: func(int) ([]kmskey.Pair, error) {
			return []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(7)}}, nil
		}}
		app := v.provider(t, s, s.token("encrypt/app update", "decrypt/app update"), "app")
		key := kmskey.NewDataKey()
		e, err := keyring(1, app, nil).Wrap(t.Context(), key, r)
		must(t, err)
		s.rotate(t, "app")
		open := func(e kmskey.Envelope, k *kmskey.Keyring) {
			t.Helper()
			keys, err := k.Unwrap(t.Context(), e, r)
			must(t, err)
			if len(keys) != 1 || !bytes.Equal(keys[0].DEK.Bytes(), key.DEK.Bytes()) {
				t.Error("another key came back")
			}
		}

		rotator := v.provider(t, s, s.token("rewrap/app update"), "app")
		s.requests()
		moved, err := keyring(2, rotator, nil).Rewrap(t.Context(), e, r, r)
		must(t, err)
		for _, path := range s.requests() {
			if path != "transit/rewrap/app" {
				t.Errorf("rotating asked for %s", path)
			}
		}
		if moved.Version() != 2 {
			t.Errorf("version %d", moved.Version())
		}
		open(moved, keyring(2, app, nil))

		// With another context Vault cannot do it: the keyring unwraps and wraps, which this rotator may not and the application may.
		constants := map[string]string{"environment": "production"}
		_, err = keyring(2, rotator, constants).Rewrap(t.Context(), e, r, r)
		says(t, err, kmskey.ErrDenied, "transit/decrypt/app")
		moved, err = keyring(2, app, constants).Rewrap(t.Context(), e, r, r)
		must(t, err)
		open(moved, keyring(2, app, constants))
	})
}

// TestVersions: a transit key's own versions.
func TestVersions(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		p := v.provider(t, s, root, "app")
		first, second := kmskey.NewDEK(), kmskey.NewDEK()
		w1 := wrap(t, p, first, row(t, 1))
		s.rotate(t, "app")
		w2 := wrap(t, p, second, row(t, 2))
		if w1.KeyRef != "transit/keys/app:v1" || w2.KeyRef != "transit/keys/app:v2" || !strings.HasPrefix(string(w2.Blob), "vault:v2:") || w2.Service != "vault" {
			t.Errorf("%q %q, then %q %q", w1.KeyRef, w1.Blob, w2.KeyRef, w2.Blob)
		}
		opens(t, p, w1, row(t, 1), first)
		opens(t, p, w2, row(t, 2), second)
		moved, err := p.Rewrap(t.Context(), p, w1, row(t, 1), row(t, 1))
		must(t, err)
		if moved.KeyRef != w2.KeyRef {
			t.Errorf("moved to %q", moved.KeyRef)
		}
		opens(t, p, moved, row(t, 1), first)

		t.Run("a_version_that_is_not_the_ciphertexts_own_is_refused", func(t *testing.T) {
			before := s.calls.Load()
			lying := w1
			lying.KeyRef = w2.KeyRef
			_, err := p.Unwrap(t.Context(), lying, row(t, 1))
			says(t, err, kmskey.ErrContextMismatch, "another version than the row's key reference")
			if s.calls.Load() != before {
				t.Error("Vault was asked")
			}
			lying.Blob = bytes.Replace(w1.Blob, []byte(":v1:"), []byte(":v2:"), 1)
			_, err = p.Unwrap(t.Context(), lying, row(t, 1))
			says(t, err, kmskey.ErrContextMismatch, "message authentication failed")
			lying.KeyRef, lying.Blob = "transit/keys/app:v9", bytes.Replace(w1.Blob, []byte(":v1:"), []byte(":v9:"), 1)
			_, err = p.Unwrap(t.Context(), lying, row(t, 1))
			says(t, err, kmskey.ErrContextMismatch, "version is too new")
		})
		t.Run("what_Vault_reads_as_the_same_ciphertext_is_refused", func(t *testing.T) {
			before := s.calls.Load()
			for _, blob := range []string{
				strings.Replace(string(w1.Blob), ":v1:", ":v0:", 1), strings.Replace(string(w1.Blob), ":v1:", ":v01:", 1), strings.Replace(string(w1.Blob), ":v1:", ":v+1:", 1),
				string(w1.Blob) + "\n", string(w1.Blob[:40]) + "\r\n" + string(w1.Blob[40:]),
			} {
				other := w1
				other.Blob = []byte(blob)
				_, err := p.Unwrap(t.Context(), other, row(t, 1))
				says(t, err, kmskey.ErrContextMismatch, "")
			}
			if s.calls.Load() != before {
				t.Error("Vault was asked")
			}
		})
		t.Run("below_min_decryption_version_a_row_is_closed_and_not_lost", func(t *testing.T) {
			s.configure(t, "app", map[string]any{"min_decryption_version": 2})
			_, err := p.Unwrap(t.Context(), w1, row(t, 1))
			says(t, err, kmskey.ErrDisabled, "lower min_decryption_version of transit/keys/app")
			_, err = p.Rewrap(t.Context(), p, w1, row(t, 1), row(t, 1))
			says(t, err, kmskey.ErrDisabled, "lower min_decryption_version")
			opens(t, p, w2, row(t, 2), second)
			wrap(t, p, first, row(t, 1))
			s.configure(t, "app", map[string]any{"min_decryption_version": 1})
			opens(t, p, w1, row(t, 1), first)
		})
	})
}

// TestMissingKey: no request makes a key, whatever the token may do.
func TestMissingKey(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		dek := kmskey.NewDEK()
		for name, token := range map[string]string{"root": root, "creator": s.token("encrypt/ap update,create", "rewrap/ap update", "decrypt/ap update", "keys/ap read")} {
			p := v.provider(t, s, token, "ap") // "app", mistyped
			_, err := p.Wrap(t.Context(), dek, row(t, 1))
			says(t, err, kmskey.ErrNotFound, "vault write -f transit/keys/ap derived=true")
			for _, r := range p.WrapBatch(t.Context(), []vaulttransit.WrapItem{{DEK: dek, Context: row(t, 1)}, {DEK: dek, Context: row(t, 2)}}) {
				says(t, r.Err, kmskey.ErrNotFound, "vault write -f transit/keys/ap derived=true")
			}
			w := wrap(t, v.provider(t, s, root, "app"), dek, row(t, 1))
			w.KeyRef = "transit/keys/ap:v1"
			_, err = p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrNotFound, "encryption key not found")
			_, err = p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
			says(t, err, kmskey.ErrNotFound, "encryption key not found")
			says(t, p.Check(t.Context()), kmskey.ErrNotFound, "vault write -f transit/keys/ap derived=true")
			if got := s.keys(t); !slices.Equal(got, []string{"app"}) {
				t.Errorf("%s: the keys are now %q", name, got)
			}
		}
		p := v.provider(t, s, s.token("encrypt/ap update"), "ap")
		_, err := p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrDenied, "Vault answers so too where the key does not exist")

		// The same encrypt as an application's own, without the guard, makes the key: the fault that is guarded against is real.
		caller := v(t, connection{address: s.url, token: root})
		_, err = caller(t.Context(), "transit/encrypt/typo", map[string]any{"plaintext": "AAAA", "context": "AAAA"})
		must(t, err)
		if !slices.Contains(s.keys(t), "typo") {
			t.Error("Vault made no key: is the guard needed?")
		}
	})
	t.Run("no_engine_at_the_mount", func(t *testing.T) {
		each(t, func(t *testing.T, s *server, v vendor) {
			p, err := vaulttransit.New(v(t, connection{address: s.url, token: root}), "app", vaulttransit.Config{Mount: "team/transit"})
			must(t, err)
			_, err = p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
			says(t, err, kmskey.ErrNotFound, `is a transit engine mounted at "team/transit"`)
			says(t, p.Check(t.Context()), kmskey.ErrNotFound, "check mount, name")
		})
	})
}

// TestNotDerived: a key that takes contexts and ignores them is found out by the duty at hand, before anything is given out.
func TestNotDerived(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		s.createKey(t, "plain", nil)
		const want = "transit/keys/plain is not derived, so Vault ignores the encryption context"
		dek, ec := kmskey.NewDEK(), row(t, 1)
		made := s.admin(t, logical.UpdateOperation, "encrypt/plain", map[string]any{
			"plaintext": base64.StdEncoding.EncodeToString(dek.Bytes()), "context": base64.StdEncoding.EncodeToString(ec.Canonical()),
		})
		w := kmskey.Wrapped{Service: "vault", KeyRef: "transit/keys/plain:v1", Blob: []byte(made["ciphertext"].(string))}
		items := []vaulttransit.WrappedItem{{Wrapped: w, Context: ec}}

		writer := v.provider(t, s, s.token("encrypt/plain update"), "plain")
		reader := v.provider(t, s, s.token("decrypt/plain update"), "plain")
		rotator := v.provider(t, s, s.token("rewrap/plain update"), "plain")
		for range 2 { // the verdict is not forgotten
			got, err := writer.Wrap(t.Context(), dek, ec)
			says(t, err, kmskey.ErrInvalid, want)
			opened, err := reader.Unwrap(t.Context(), w, ec)
			says(t, err, kmskey.ErrInvalid, want)
			moved, err := rotator.Rewrap(t.Context(), rotator, w, ec, ec)
			says(t, err, kmskey.ErrInvalid, want)
			if got.Blob != nil || !opened.IsZero() || moved.Blob != nil {
				t.Error("something was given out")
			}
			for _, r := range writer.WrapBatch(t.Context(), []vaulttransit.WrapItem{{DEK: dek, Context: ec}}) {
				says(t, r.Err, kmskey.ErrInvalid, want)
			}
			for _, r := range reader.UnwrapBatch(t.Context(), items) {
				says(t, r.Err, kmskey.ErrInvalid, want)
				if !r.DEK.IsZero() {
					t.Error("a key was given out")
				}
			}
			for _, r := range rotator.RewrapBatch(t.Context(), items) {
				says(t, r.Err, kmskey.ErrInvalid, want)
			}
		}
		says(t, v.provider(t, s, root, "plain").Check(t.Context()), kmskey.ErrInvalid, "it is not derived")
	})
}

// TestCost: one request per act, and one more for the first.
func TestCost(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		p := v.provider(t, s, root, "app")
		asked := func(want ...string) {
			t.Helper()
			if got := s.requests(); !slices.Equal(got, want) {
				t.Errorf("asked for %q, want %q", got, want)
			}
		}
		dek := kmskey.NewDEK()
		w := wrap(t, p, dek, row(t, 1))
		asked("transit/encrypt/app", "transit/encrypt/app")
		wrap(t, p, dek, row(t, 1))
		asked("transit/encrypt/app")
		opens(t, p, w, row(t, 1), dek)
		asked("transit/decrypt/app")
		_, err := p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
		must(t, err)
		asked("transit/rewrap/app")
		reader := v.provider(t, s, root, "app")
		opens(t, reader, w, row(t, 1), dek)
		asked("transit/decrypt/app", "transit/decrypt/app")
		checked := v.provider(t, s, root, "app")
		must(t, checked.Check(t.Context()))
		opens(t, checked, w, row(t, 1), dek)
		asked("transit/keys/app", "transit/decrypt/app")
	})
}

func TestCheck(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		must(t, v.provider(t, s, root, "app").Check(t.Context()))
		for _, c := range []struct {
			name   string
			config map[string]any
			says   []string
		}{
			{"plain", nil, []string{"it is not derived"}},
			{"short", map[string]any{"derived": true, "type": "aes128-gcm96"}, []string{`it is of type "aes128-gcm96"`}},
			{"chacha", map[string]any{"derived": true, "type": "chacha20-poly1305"}, []string{`it is of type "chacha20-poly1305"`}},
			{"signing", map[string]any{"derived": true, "type": "ed25519"}, []string{`it is of type "ed25519"`}},
			{"rsa", map[string]any{"type": "rsa-2048"}, []string{`it is of type "rsa-2048"`, "it is not derived"}},
			{"convergent", map[string]any{"derived": true, "convergent_encryption": true}, []string{"it is convergent"}},
			{"open", map[string]any{"derived": true, "exportable": true, "allow_plaintext_backup": true}, []string{"it may be exported", "it may be backed up in the clear"}},
		} {
			s.createKey(t, c.name, c.config)
			err := v.provider(t, s, root, c.name).Check(t.Context())
			for _, text := range c.says {
				says(t, err, kmskey.ErrInvalid, text)
			}
			if err != nil && strings.Count(err.Error(), "; ") != len(c.says)-1 {
				t.Errorf("%s: says more than that: %v", c.name, err)
			}
		}
		s.configure(t, "app", map[string]any{"deletion_allowed": true})
		says(t, v.provider(t, s, root, "app").Check(t.Context()), kmskey.ErrInvalid, "vault write transit/keys/app/config deletion_allowed=false")
		_, err := v.provider(t, s, root, "signing").Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrInvalid, "message encryption not supported")
	})
}

func TestBatch(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		p := v.provider(t, s, s.token("encrypt/app update", "decrypt/app update", "rewrap/app update"), "app")
		const n = 1200
		plain := make([]vaulttransit.WrapItem, n)
		for i := range plain {
			plain[i] = vaulttransit.WrapItem{DEK: kmskey.NewDEK(), Context: row(t, int64(i))}
		}
		wrapped := make([]vaulttransit.WrappedItem, n)
		for i, r := range p.WrapBatch(t.Context(), plain) {
			must(t, r.Err)
			wrapped[i] = vaulttransit.WrappedItem{Wrapped: r.Wrapped, Context: plain[i].Context}
		}
		same := func(t *testing.T, results []vaulttransit.UnwrapResult) {
			t.Helper()
			if len(results) != n {
				t.Fatalf("%d results", len(results))
			}
			for i, r := range results {
				must(t, r.Err)
				if !bytes.Equal(r.DEK.Bytes(), plain[i].DEK.Bytes()) {
					t.Fatalf("row %d has the key of another", i)
				}
			}
		}
		asked := func(t *testing.T, want int) {
			t.Helper()
			if got := len(s.requests()); got != want {
				t.Errorf("%d requests, want %d", got, want)
			}
		}
		asked(t, 3+1)
		t.Run("each_row_gets_its_own_key_back", func(t *testing.T) {
			same(t, p.UnwrapBatch(t.Context(), wrapped))
			asked(t, 3)
			opens(t, p, wrapped[77].Wrapped, row(t, 77), plain[77].DEK) // the same form as a single wrap
		})
		t.Run("rewrapped_to_a_new_version", func(t *testing.T) {
			s.rotate(t, "app")
			s.requests()
			moved := slices.Clone(wrapped)
			for i, r := range p.RewrapBatch(t.Context(), wrapped) {
				must(t, r.Err)
				if r.Wrapped.KeyRef != "transit/keys/app:v2" {
					t.Fatalf("row %d is under %q", i, r.Wrapped.KeyRef)
				}
				moved[i].Wrapped = r.Wrapped
			}
			asked(t, 3)
			same(t, p.UnwrapBatch(t.Context(), moved))
			asked(t, 3)
		})
		t.Run("an_item_fails_alone", func(t *testing.T) {
			items := slices.Clone(wrapped[:6])
			items[1].Context = row(t, 99)
			items[2].Wrapped.KeyRef = "transit/keys/other:v1"
			items[3].Wrapped.Blob = items[3].Wrapped.Blob[:50]
			items[4].Wrapped.Service = "aws"
			kinds := []error{nil, kmskey.ErrContextMismatch, kmskey.ErrForeignKey, kmskey.ErrContextMismatch, kmskey.ErrForeignKey, nil}
			s.requests()
			unwrapped := p.UnwrapBatch(t.Context(), items)
			rewrapped := p.RewrapBatch(t.Context(), items)
			asked(t, 2)
			for i, kind := range kinds {
				if kind != nil {
					says(t, unwrapped[i].Err, kind, "unwrap")
					says(t, rewrapped[i].Err, kind, "rewrap")
					if !unwrapped[i].DEK.IsZero() || rewrapped[i].Wrapped.Blob != nil {
						t.Errorf("item %d gave something out", i)
					}
					continue
				}
				must(t, unwrapped[i].Err)
				must(t, rewrapped[i].Err)
				if !bytes.Equal(unwrapped[i].DEK.Bytes(), plain[i].DEK.Bytes()) {
					t.Errorf("item %d has another key", i)
				}
				opens(t, p, rewrapped[i].Wrapped, items[i].Context, plain[i].DEK)
			}
			says(t, unwrapped[1].Err, kmskey.ErrContextMismatch, "message authentication failed")
			s.requests()
			holes := slices.Clone(plain[:3])
			holes[1].DEK = kmskey.DEK{}
			results := p.WrapBatch(t.Context(), holes)
			says(t, results[1].Err, kmskey.ErrInvalid, "the data key holds no key")
			must(t, errors.Join(results[0].Err, results[2].Err))
			opens(t, p, results[2].Wrapped, holes[2].Context, holes[2].DEK)
		})
		t.Run("where_every_item_fails_each_still_says_why", func(t *testing.T) {
			s.requests()
			items := slices.Clone(wrapped[:3])
			for i := range items {
				items[i].Context = row(t, 99)
			}
			for _, r := range p.UnwrapBatch(t.Context(), items) {
				says(t, r.Err, kmskey.ErrContextMismatch, "message authentication failed")
			}
			asked(t, 1+3) // the clients drop what a batch of failures says
			for _, r := range p.RewrapBatch(t.Context(), items) {
				says(t, r.Err, kmskey.ErrContextMismatch, "message authentication failed")
			}
			asked(t, 1)
			s.configure(t, "app", map[string]any{"min_decryption_version": 2})
			defer s.configure(t, "app", map[string]any{"min_decryption_version": 1})
			for _, r := range p.UnwrapBatch(t.Context(), wrapped[:2]) {
				says(t, r.Err, kmskey.ErrDisabled, "min_decryption_version")
			}
		})
		t.Run("a_request_that_fails_is_the_error_of_its_items_and_all_after", func(t *testing.T) {
			s.breakWith(answerWith(http.StatusServiceUnavailable, "Vault is sealed"))
			defer s.breakWith(nil)
			s.requests()
			for _, r := range p.WrapBatch(t.Context(), plain) {
				if !errors.Is(r.Err, kmskey.ErrUnavailable) || r.Wrapped.Blob != nil {
					t.Fatal(r.Err)
				}
			}
			asked(t, 1)
			second := 0
			s.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				second++
				return second == 2 && answerWith(http.StatusTooManyRequests, "rate limit quota exceeded")(w, r)
			})
			for i, r := range p.UnwrapBatch(t.Context(), wrapped) {
				if i < 500 && r.Err != nil || i >= 500 && !errors.Is(r.Err, kmskey.ErrThrottled) {
					t.Fatalf("item %d: %v", i, r.Err)
				}
			}
			asked(t, 2)
		})
		t.Run("no_items_and_no_sendable_ones_make_no_request", func(t *testing.T) {
			s.requests()
			if len(p.WrapBatch(t.Context(), nil)) != 0 || len(p.UnwrapBatch(t.Context(), nil)) != 0 || len(p.RewrapBatch(t.Context(), nil)) != 0 {
				t.Error("results of nothing")
			}
			says(t, p.UnwrapBatch(t.Context(), []vaulttransit.WrappedItem{{}})[0].Err, kmskey.ErrForeignKey, "")
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			err := p.WrapBatch(cancelled, plain[:1])[0].Err
			says(t, err, kmskey.ErrUnavailable, "")
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			asked(t, 0)
		})
		t.Run("a_duty_that_is_not_given_is_denied", func(t *testing.T) {
			writer := v.provider(t, s, s.token("encrypt/app update"), "app")
			for _, r := range writer.UnwrapBatch(t.Context(), wrapped[:2]) {
				says(t, r.Err, kmskey.ErrDenied, `allow this token "update" on transit/decrypt/app`)
			}
		})
	})
}

// TestTrouble: what Vault and the network say of themselves.
func TestTrouble(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		p := v.provider(t, s, root, "app")
		dek := kmskey.NewDEK()
		w := wrap(t, p, dek, row(t, 1))
		for _, c := range []struct {
			status  int
			message string
			kind    error
			says    string
		}{
			{503, "Vault is sealed", kmskey.ErrUnavailable, "unseal Vault"},
			{500, "internal error", kmskey.ErrUnavailable, "status 500: internal error"},
			{502, "upstream", kmskey.ErrUnavailable, "status 502"},
			{412, "required index state not present", kmskey.ErrUnavailable, "status 412"},
			{429, "rate limit quota exceeded", kmskey.ErrThrottled, "lower the concurrency"},
			{401, "who?", kmskey.ErrDenied, "transit/decrypt/app"},
			{400, "something new", kmskey.ErrInvalid, "something new"},
			{405, "unsupported operation", kmskey.ErrInvalid, "unsupported operation"},
			{413, "http: request body too large", kmskey.ErrInvalid, "too large"},
		} {
			s.breakWith(answerWith(c.status, c.message))
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, c.kind, c.says)
			if e, ok := errors.AsType[*vaulttransit.StatusError](err); !ok || e.Status != c.status {
				t.Errorf("the cause is lost: %v", err)
			}
		}
		t.Run("a_page_of_a_proxy_is_cut_short", func(t *testing.T) {
			s.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(http.StatusBadGateway)
				_, _ = w.Write(bytes.Repeat([]byte("<p>sorry</p> "), 1000))
				return true
			})
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrUnavailable, "sorry")
			if len(err.Error()) > 700 {
				t.Errorf("%d bytes", len(err.Error()))
			}
		})
		t.Run("a_connection_that_is_dropped", func(t *testing.T) {
			s.breakWith(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrUnavailable, "")
		})
		s.breakWith(nil)
		opens(t, p, w, row(t, 1), dek)
		t.Run("the_provider's_own_timeout", func(t *testing.T) {
			short, err := vaulttransit.New(v(t, connection{address: s.url, token: root}), "app", vaulttransit.Config{Timeout: time.Nanosecond})
			must(t, err)
			_, err = short.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrUnavailable, "Config.Timeout")
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		t.Run("the_client's_retries_and_namespace_are_used", func(t *testing.T) {
			p, err := vaulttransit.New(v(t, connection{address: s.url, token: root, namespace: "team-a", retries: 2}), "app", vaulttransit.Config{Timeout: 5 * time.Minute})
			must(t, err)
			must(t, p.Check(t.Context()))
			n := 0
			s.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				if got := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/"); got != "team-a" {
					t.Errorf("namespace %q", got)
				}
				n++
				return n <= 2 && answerWith(http.StatusTooManyRequests, "rate limit quota exceeded")(w, r)
			})
			defer s.breakWith(nil)
			wrap(t, p, dek, row(t, 1))
			if n != 3 {
				t.Errorf("%d requests", n)
			}
		})
		t.Run("a_probe_that_gets_no_verdict_gives_nothing_out_and_is_made_again", func(t *testing.T) {
			fresh := v.provider(t, s, root, "app")
			n := 0
			s.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				n++
				return n == 2 && answerWith(http.StatusTooManyRequests, "rate limit quota exceeded")(w, r)
			})
			_, err := fresh.Wrap(t.Context(), dek, row(t, 1))
			says(t, err, kmskey.ErrThrottled, "")
			s.breakWith(nil)
			s.requests()
			wrap(t, fresh, dek, row(t, 1))
			if got := len(s.requests()); got != 2 {
				t.Errorf("%d requests", got)
			}
		})
	})
}

// TestSources: what may be rewrapped.
func TestSources(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		p, twin := v.provider(t, s, root, "app"), v.provider(t, s, root, "app")
		w := wrap(t, p, kmskey.NewDEK(), row(t, 1))
		s.requests()
		_, err := p.Rewrap(t.Context(), twin, w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrNotRewrappable, "list one Provider under both versions")
		_, err = p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 2))
		says(t, err, kmskey.ErrNotRewrappable, "under an unchanged one alone")
		if got := s.requests(); len(got) != 0 {
			t.Errorf("asked for %q", got)
		}
		_, err = p.Rewrap(t.Context(), p, w, row(t, 2), row(t, 2))
		says(t, err, kmskey.ErrContextMismatch, "message authentication failed")
	})
}

func BenchmarkProvider(b *testing.B) {
	for name, v := range vendors {
		s := newServer(b)
		s.createKey(b, "app", map[string]any{"derived": true})
		p := vendor(v).provider(b, s, root, "app")
		items := make([]vaulttransit.WrapItem, 100)
		for i := range items {
			items[i] = vaulttransit.WrapItem{DEK: kmskey.NewDEK(), Context: row(b, int64(i))}
		}
		run := func(how string, perOp int, do func() error) {
			b.Run(name+"/"+how, func(b *testing.B) {
				before := s.calls.Load()
				b.ReportAllocs()
				for b.Loop() {
					must(b, do())
				}
				b.ReportMetric(float64(s.calls.Load()-before)/float64(b.N)/float64(perOp), "requests/key")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(perOp), "ns/key")
			})
		}
		run("wrap", 1, func() error { _, err := p.Wrap(context.Background(), items[0].DEK, items[0].Context); return err })
		run("wrap_100", 100, func() error { return p.WrapBatch(context.Background(), items)[99].Err })
	}
}
