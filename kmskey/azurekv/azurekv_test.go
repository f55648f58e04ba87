package azurekv_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	azlog "github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	keysfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/azurekv"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func provider(t *testing.T, client *azkeys.Client, key string, cfg azurekv.Config) *azurekv.Provider {
	t.Helper()
	p, err := azurekv.New(client, key, cfg)
	must(t, err)
	return p
}

func row(t *testing.T, id int64) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	must(t, err)
	return ec
}

func wrap(t *testing.T, p kmskey.Provider, ec kmskey.Context) (kmskey.DEK, kmskey.Wrapped) {
	t.Helper()
	dek := kmskey.NewDEK()
	w, err := p.Wrap(t.Context(), dek, ec)
	must(t, err)
	return dek, w
}

func opens(t *testing.T, p kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context, dek kmskey.DEK) {
	t.Helper()
	got, err := p.Unwrap(t.Context(), w, ec)
	must(t, err)
	if !bytes.Equal(got.Bytes(), dek.Bytes()) {
		t.Fatal("another key came back")
	}
}

func says(t *testing.T, err, kind error, texts ...string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%v\nis not %q", err, kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v\ndoes not say %q", err, text)
		}
	}
}

func always(a *answer) func(context.Context, int) *answer {
	return func(context.Context, int) *answer { return a }
}

var (
	outage    = &answer{status: 503, code: "ServiceUnavailable", message: "The service is temporarily unavailable."}
	throttled = &answer{status: 429, code: "Throttled", message: "Request was not processed because too many requests were received.", header: http.Header{"Retry-After": {"1"}}}
)

func subject(t *testing.T) kmskeytest.Subject {
	f := start(t)
	key, foreign := f.createKey(t, "rows"), f.createKey(t, "other")
	// A thousand calls at once on a loaded machine under the race detector may take long; no claim here is about time.
	p := provider(t, f.client(t, "app"), key, azurekv.Config{Timeout: 5 * time.Minute})
	fault := func(a *answer) func(*testing.T) func() {
		return func(*testing.T) func() {
			f.setBefore(always(a))
			return func() { f.setBefore(nil) }
		}
	}
	version := key + "/" + f.keys["rows"][0].id
	return kmskeytest.Subject{
		Provider: p,
		ForeignRefs: []string{
			foreign + "/" + f.keys["other"][0].id, strings.Replace(version, "acme", "evil", 1), strings.Replace(version, "vault.azure.net", "vault.azure.net.evil.example", 1),
			strings.Replace(version, "vault.azure.net", "vault.azure.cn", 1), strings.Replace(version, "https:", "http:", 1), strings.Replace(version, ".net", ".net:443", 1),
			strings.Replace(version, "acme", "user@acme", 1), strings.Replace(version, "keys", "secrets", 1), strings.Replace(version, "/keys", "//keys", 1),
			strings.Replace(version, "/rows", "/x/../rows", 1), key, key + "/", version + "/", version + "?api-version=7.4", version + "#", version + "0", version[:len(version)-1],
			key + "/" + strings.Repeat("g", 32), key + "/" + strings.Repeat("../", 10) + "ab", strings.ToUpper(version), key + "/" + strings.Repeat("A", 32), " " + version,
		},
		Calls: f.countAll,
		Disable: func(*testing.T) func() {
			f.setState("rows", 0, "disabled")
			return func() { f.setState("rows", 0, "") }
		},
		Remove:   func(*testing.T) { f.remove("rows") },
		Outage:   fault(outage),
		Throttle: fault(throttled),
		Hang: func(*testing.T) (<-chan struct{}, func()) {
			arrived := make(chan struct{}, 1)
			f.setBefore(func(ctx context.Context, _ int) *answer {
				arrived <- struct{}{}
				<-ctx.Done()
				return outage
			})
			return arrived, func() { f.setBefore(nil) }
		},
		DenyWrap:   func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "reader"), key, azurekv.Config{}) },
		DenyUnwrap: func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "writer"), key, azurekv.Config{}) },
		Other:      func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "app"), foreign, azurekv.Config{}) },
	}
}

var notApplicable = map[string]string{
	"rewrap":           "Azure has no call that moves a wrapped key to another version; the keyring unwraps and wraps",
	"sibling":          "without rewrap nothing moves from one provider to another",
	"generate":         "Key Vault wraps keys and draws none",
	"generate_wrapped": "Key Vault wraps keys and draws none",
}

func TestConformance(t *testing.T) {
	kmskeytest.Run(t, kmskeytest.Harness{New: subject, NotApplicable: notApplicable})
}

// TestConformanceAtAzure runs the suite against a real key, in addition to the fake: AZUREKV_TEST_KEY is its identifier, and the credential is
// that of azidentity.NewDefaultAzureCredential. Faults cannot be made there.
func TestConformanceAtAzure(t *testing.T) {
	key := os.Getenv("AZUREKV_TEST_KEY")
	if key == "" {
		t.Log("nothing asked for: AZUREKV_TEST_KEY is not set; TestConformance ran against the fake")
		return
	}
	url, _, ok := strings.Cut(key, "/keys/")
	if !ok {
		t.Fatalf("AZUREKV_TEST_KEY is %q, not https://<vault>.vault.azure.net/keys/<name>", key)
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	must(t, err)
	client, err := azkeys.NewClient(url, credential, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: 10}}})
	must(t, err)
	na := maps.Clone(notApplicable)
	for _, fault := range []string{"calls", "disabled", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap", "other"} {
		na[fault] = "the service is not ours to break or count"
	}
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			return kmskeytest.Subject{
				Provider:    provider(t, client, key, azurekv.Config{Timeout: 5 * time.Minute}),
				ForeignRefs: []string{vault + "/keys/nowhere/" + strings.Repeat("0", 32), url + "/keys/nowhere/" + strings.Repeat("0", 32)},
			}
		},
		NotApplicable: na,
	})
}

func TestNew(t *testing.T) {
	f := start(t)
	client := f.client(t, "app")
	const key, version = vault + "/keys/rows", "0123456789abcdef0123456789abcdef"
	for given, taken := range map[string]string{
		key:                 key,
		key + "/" + version: key + "/" + version,
		"HTTPS://Acme.Vault.Azure.Net/keys/Rows/" + strings.ToUpper(version): key + "/" + version,
		"https://hsm.managedhsm.azure.net/keys/rows":                         "https://hsm.managedhsm.azure.net/keys/rows",
		"https://acme.vault.usgovcloudapi.net/keys/a-1":                      "https://acme.vault.usgovcloudapi.net/keys/a-1",
		"https://localhost:8443/keys/rows":                                   "https://localhost:8443/keys/rows",
	} {
		if p, err := azurekv.New(client, given, azurekv.Config{}); err != nil || p.String() != "azurekv.Provider("+taken+")" {
			t.Error(given, p, err)
		}
	}
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name, key string
		cfg       azurekv.Config
		says      string
	}{
		{"empty", "", azurekv.Config{}, "not a key's identifier"},
		{"a_name", "rows", azurekv.Config{}, "https://<vault>.vault.azure.net/keys/<name>"},
		{"a_vault", vault, azurekv.Config{}, "not a key's identifier"},
		{"http", strings.Replace(key, "https", "http", 1), azurekv.Config{}, "not a key's identifier"},
		{"a_secret", strings.Replace(key, "keys", "secrets", 1), azurekv.Config{}, "not a key's identifier"},
		{"a_trailing_slash", key + "/", azurekv.Config{}, "the version is malformed"},
		{"two_slashes", strings.Replace(key, "/keys", "//keys", 1), azurekv.Config{}, "not a key's identifier"},
		{"more_behind_it", key + "/" + version + "/wrapkey", azurekv.Config{}, "not a key's identifier"},
		{"a_short_version", key + "/" + version[1:], azurekv.Config{}, "the version is malformed"},
		{"a_version_of_other_letters", key + "/" + strings.Repeat("g", 32), azurekv.Config{}, "the version is malformed"},
		{"a_query", key + "?api-version=7.4", azurekv.Config{}, "the name is malformed"},
		{"an_escape", key + "%2f", azurekv.Config{}, "the name is malformed"},
		{"a_letter_whose_small_form_is_k", vault + "/\u212aeys/rows", azurekv.Config{}, "not a key's identifier"},
		{"a_user", strings.Replace(key, "acme", "user@acme", 1), azurekv.Config{}, "the host is malformed"},
		{"a_trailing_dot", strings.Replace(key, ".net", ".net.", 1), azurekv.Config{}, "the host is malformed"},
		{"the_usual_port", strings.Replace(key, ".net", ".net:443", 1), azurekv.Config{}, "needs no naming"},
		{"no_port", strings.Replace(key, ".net", ".net:", 1), azurekv.Config{}, "malformed port"},
		{"an_odd_port", strings.Replace(key, ".net", ".net:08443", 1), azurekv.Config{}, "malformed port"},
		{"a_very_long_one", long, azurekv.Config{}, "not a key's identifier"},
		{"a_very_long_host", "https://" + strings.Repeat("x.", 500) + "x/keys/rows", azurekv.Config{}, "too long"},
		{"a_negative_timeout", key, azurekv.Config{Timeout: -1}, "Config.Timeout"},
	} {
		t.Run(c.name+"_is_refused", func(t *testing.T) {
			p, err := azurekv.New(client, c.key, c.cfg)
			if p != nil || err == nil || !strings.HasPrefix(err.Error(), "azurekv: new provider: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", p, err)
			} else if strings.Contains(err.Error(), long) {
				t.Error("the whole identifier is repeated")
			}
		})
	}
	t.Run("no_client_is_refused", func(t *testing.T) {
		if _, err := azurekv.New(nil, key, azurekv.Config{}); err == nil || !strings.Contains(err.Error(), "no client") {
			t.Error(err)
		}
	})
	if n := f.countAll(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// TestRequests: what goes to Azure is the data key and the hash of the context's canonical form, and nothing of it without a token.
func TestRequests(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	ec := row(t, 7)
	dek, w := wrap(t, p, ec)
	opens(t, p, w, ec, dek)
	hash := sha256.Sum256(ec.Canonical())
	payload := append(bytes.Clone(dek.Bytes()), hash[:]...)
	id := f.keys["rows"][0].id
	paths, bodies := f.sent()
	if want := []string{"/keys/rows/wrapkey", "/keys/rows/wrapkey", "/keys/rows/" + id + "/unwrapkey"}; !slices.Equal(paths, want) {
		t.Fatalf("%q", paths)
	}
	if bodies[0] != "" {
		t.Error("the request without a token has a body")
	}
	for i, want := range [][]byte{1: payload, 2: w.Blob} {
		var sent map[string]string
		if i == 0 {
			continue
		}
		must(t, json.Unmarshal([]byte(bodies[i]), &sent))
		if len(sent) != 2 || sent["alg"] != "RSA-OAEP-256" || sent["value"] != base64.RawURLEncoding.EncodeToString(want) {
			t.Errorf("request %d asks for something else", i)
		}
	}
	if w.Service != "azure" || w.KeyRef != key+"/"+id || len(w.Blob) != 256 {
		t.Errorf("%q %q, %d bytes", w.Service, w.KeyRef, len(w.Blob))
	}
	if got, err := rsa.DecryptOAEP(sha256.New(), nil, f.keys["rows"][0].private, w.Blob, nil); err != nil || !bytes.Equal(got, payload) {
		t.Error("the wrapped key holds something else", err)
	}
}

// TestPayload: the bytes are those of docs/format.md, section 11, for ever.
func TestPayload(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	payload, err := hex.DecodeString("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" + "eb3e8ac53f89bbf2d855aa3cacb63ae7fd0f7ed77554c96bb6c2267d7be9b8f7")
	must(t, err)
	dek, err := kmskey.DEKFromBytes(payload[:32])
	must(t, err)
	w, err := p.Wrap(t.Context(), dek, row(t, 42))
	must(t, err)
	private := f.keys["rows"][0].private
	if got, err := rsa.DecryptOAEP(sha256.New(), nil, private, w.Blob, nil); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("%x is wrapped, %v", got, err)
	}
	w.Blob, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, payload, nil)
	must(t, err)
	opens(t, p, w, row(t, 42), dek)
}

// TestIdentifiers_ignore_case: whatever case a service is configured with, and Azure answers with, rows have one form.
func TestIdentifiers_ignore_case(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	plain, loud := provider(t, f.client(t, "app"), key, azurekv.Config{}), provider(t, f.client(t, "app"), "https://ACME.vault.azure.net/keys/Rows", azurekv.Config{})
	f.setRewrite(func(kid, value string) string {
		return fmt.Sprintf(`{"kid":%q,"value":%q}`, strings.Replace(strings.ToUpper(kid), "HTTPS", "https", 1), value)
	})
	dek, w := wrap(t, loud, row(t, 7))
	if w.KeyRef != key+"/"+f.keys["rows"][0].id {
		t.Error(w.KeyRef)
	}
	opens(t, plain, w, row(t, 7), dek)
	opens(t, loud, w, row(t, 7), dek)
}

// TestOwns: Owns is false exactly where Unwrap fails with ErrForeignKey, and makes no call.
func TestOwns(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	_, w := wrap(t, p, row(t, 7))
	other := func(change func(*kmskey.Wrapped)) kmskey.Wrapped {
		c := w
		change(&c)
		return c
	}
	cases := []kmskey.Wrapped{
		w, {},
		other(func(w *kmskey.Wrapped) { w.Blob = nil }), other(func(w *kmskey.Wrapped) { w.Blob = []byte{1} }),
		other(func(w *kmskey.Wrapped) { w.Blob = make([]byte, 256) }),
		other(func(w *kmskey.Wrapped) { w.Service = "aws" }), other(func(w *kmskey.Wrapped) { w.Service = "" }),
		other(func(w *kmskey.Wrapped) { w.KeyRef = key + "/" + strings.Repeat("0", 32) }), // a version that is not there: ours, and not found
	}
	for _, ref := range subject(t).ForeignRefs {
		cases = append(cases, other(func(w *kmskey.Wrapped) { w.KeyRef = ref }))
	}
	owned := 0
	for _, c := range cases {
		calls := f.countAll()
		owns := p.Owns(c)
		if f.countAll() != calls {
			t.Error("Owns made a call")
		}
		_, err := p.Unwrap(t.Context(), c, row(t, 7))
		if asked := f.countAll() != calls; asked != (owns && len(c.Blob) == 256) {
			t.Errorf("%q with %d bytes: asked %t", c.KeyRef, len(c.Blob), asked)
		}
		if owns == errors.Is(err, kmskey.ErrForeignKey) {
			t.Errorf("%q %q: owned %t, and Unwrap says %v", c.Service, c.KeyRef, owns, err)
		}
		if owns {
			owned++
		}
	}
	if owned != 5 {
		t.Errorf("%d are owned", owned)
	}
}

// TestAnswers: an answer that is not what was asked for gives neither a wrapped key, which could never be read, nor a data key.
func TestAnswers(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	id := f.keys["rows"][0].id
	p, pinned := provider(t, f.client(t, "app"), key, azurekv.Config{}), provider(t, f.client(t, "app"), key+"/"+id, azurekv.Config{})
	dek, w := wrap(t, p, row(t, 7))
	kids := func(old, new string) func(kid, value string) string {
		return func(kid, value string) string {
			return fmt.Sprintf(`{"kid":%q,"value":%q}`, strings.Replace(kid, old, new, 1), value)
		}
	}
	values := func(b []byte) func(kid, value string) string {
		return func(kid, _ string) string {
			return fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, base64.RawURLEncoding.EncodeToString(b))
		}
	}
	text := func(s string) func(string, string) string { return func(string, string) string { return s } }
	for _, c := range []struct {
		name    string
		rewrite func(kid, value string) string
		p       kmskey.Provider
		op      string
		kind    error
		says    string
	}{
		{"another_vault", kids("acme", "beta"), p, "wrap", kmskey.ErrInvalid, "make the client for the vault"},
		{"another_key", kids("/rows/", "/cols/"), p, "wrap", kmskey.ErrInvalid, "no version of the configured key"},
		{"no_version", kids("/"+id, ""), p, "wrap", kmskey.ErrInvalid, "no version of the configured key"},
		{"no_identifier", text(`{"value":"AAAA"}`), p, "wrap", kmskey.ErrInvalid, "no version of the configured key"},
		{"another_version_than_the_configured_one", kids(id, strings.Repeat("0", 32)), pinned, "wrap", kmskey.ErrInvalid, "was asked for"},
		{"a_short_blob", values(make([]byte, 128)), p, "wrap", kmskey.ErrInvalid, "2048, 3072 or 4096"},
		{"no_blob", values(nil), p, "wrap", kmskey.ErrInvalid, "2048, 3072 or 4096"},
		{"no_JSON_for_a_wrapped_key", text("<html>"), p, "wrap", kmskey.ErrUnavailable, ""},
		{"a_bare_data_key", values(dek.Bytes()), p, "unwrap", kmskey.ErrContextMismatch, "made by something else"},
		{"more_than_a_payload", values(make([]byte, 65)), p, "unwrap", kmskey.ErrContextMismatch, "made by something else"},
		{"a_payload_of_another_context", values(make([]byte, 64)), p, "unwrap", kmskey.ErrContextMismatch, "for another context"},
		{"nothing", text(""), p, "unwrap", kmskey.ErrContextMismatch, "0 bytes came out"},
		{"no_JSON_for_a_data_key", text("<html>"), p, "unwrap", kmskey.ErrUnavailable, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.setRewrite(c.rewrite)
			defer f.setRewrite(nil)
			var err error
			if c.op == "wrap" {
				var got kmskey.Wrapped
				got, err = c.p.Wrap(t.Context(), dek, row(t, 7))
				if got.Blob != nil || got.KeyRef != "" {
					t.Error("a wrapped key was given out")
				}
			} else {
				var got kmskey.DEK
				got, err = c.p.Unwrap(t.Context(), w, row(t, 7))
				if !got.IsZero() {
					t.Error("a data key was given out")
				}
			}
			says(t, err, c.kind, "kmskey: "+c.op+" with azure key", c.says)
		})
	}
	opens(t, p, w, row(t, 7), dek)
}

// TestVersions: rotation at Azure, and what becomes of rows under older versions.
func TestVersions(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	ec := row(t, 7)
	oldDEK, old := wrap(t, p, ec)
	id := f.rotate(t, "rows")
	newDEK, current := wrap(t, p, ec)
	if current.KeyRef != key+"/"+id || old.KeyRef == current.KeyRef {
		t.Errorf("wrapped under %q", current.KeyRef)
	}
	opens(t, p, old, ec, oldDEK)
	opens(t, p, current, ec, newDEK)

	t.Run("a_blob_under_another_version_than_its_own_is_refused", func(t *testing.T) {
		moved := old
		moved.KeyRef = current.KeyRef // as if someone had changed it in the row
		_, err := p.Unwrap(t.Context(), moved, ec)
		says(t, err, kmskey.ErrContextMismatch, "BadParameter: Error occurred while decoding OAEP padding.")
	})
	t.Run("a_configured_version_wraps_and_every_version_unwraps", func(t *testing.T) {
		pinned := provider(t, f.client(t, "app"), old.KeyRef, azurekv.Config{})
		dek, w := wrap(t, pinned, ec)
		if w.KeyRef != old.KeyRef {
			t.Errorf("wrapped under %q", w.KeyRef)
		}
		opens(t, pinned, w, ec, dek)
		opens(t, pinned, current, ec, newDEK)
		opens(t, p, w, ec, dek)
	})
	t.Run("an_expired_version_unwraps_and_does_not_wrap", func(t *testing.T) {
		f.setState("rows", 1, "expired")
		defer f.setState("rows", 1, "")
		_, err := p.Wrap(t.Context(), newDEK, ec)
		says(t, err, kmskey.ErrDisabled, "expired key", "make another")
		opens(t, p, current, ec, newDEK)
	})
	t.Run("a_disabled_version_does_not_open_and_the_current_one_does", func(t *testing.T) {
		f.setState("rows", 0, "disabled")
		defer f.setState("rows", 0, "")
		_, err := p.Unwrap(t.Context(), old, ec)
		says(t, err, kmskey.ErrDisabled, "KeyDisabled", "enable this version", old.KeyRef)
		opens(t, p, current, ec, newDEK)
	})
	t.Run("the_keyring_moves_rows_to_the_new_version_by_unwrap_and_wrap", func(t *testing.T) {
		who := kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(7)}, Context: func(int) ([]kmskey.Pair, error) {
			return []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(7)}}, nil
		}}
		before := keyring(t, provider(t, f.client(t, "app"), old.KeyRef, azurekv.Config{}), 1)
		e, err := before.Wrap(t.Context(), kmskey.DataKey{ID: 1, DEK: oldDEK}, who)
		must(t, err)
		after := keyring(t, p, 2)
		_, err = p.Wrap(t.Context(), newDEK, ec) // so that the challenge is behind it
		must(t, err)
		calls := f.countAll()
		moved, err := after.Rewrap(t.Context(), e, who, who)
		must(t, err)
		if n := f.countAll() - calls; n != 2 {
			t.Errorf("%d calls, want UnwrapKey and WrapKey", n)
		}
		f.setState("rows", 0, "disabled") // nothing needs it any more
		got, err := after.Unwrap(t.Context(), moved, who)
		must(t, err)
		if len(got) != 1 || !bytes.Equal(got[0].DEK.Bytes(), oldDEK.Bytes()) {
			t.Error("another key came back")
		}
		if _, err := after.Unwrap(t.Context(), e, who); !errors.Is(err, kmskey.ErrDisabled) {
			t.Error(err)
		}
	})
}

// keyring has one provider under every version up to current, as for a rotation within one key.
func keyring(t *testing.T, p kmskey.Provider, current int) *kmskey.Keyring {
	t.Helper()
	versions := map[int]kmskey.Version{}
	for n := 1; n <= current; n++ {
		versions[n] = kmskey.Version{Provider: p}
	}
	k, err := kmskey.New(kmskey.Config{Current: current, Versions: versions})
	must(t, err)
	return k
}

// TestErrors: each answer has one kind and the next step, and its code, status and headers are there for the caller.
func TestErrors(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	dek, w := wrap(t, p, row(t, 7))
	forbidden := func(inner, message string) *answer {
		return &answer{status: 403, code: "Forbidden", inner: inner, message: message, header: http.Header{"X-Ms-Request-Id": {"r1"}}}
	}
	for _, c := range []struct {
		name         string
		answer       *answer
		wrap, unwrap error
		says         string
	}{
		{"rbac", forbidden("ForbiddenByRbac", "Caller is not authorized."), kmskey.ErrDenied, kmskey.ErrDenied, "Key Vault Crypto Service Encryption User"},
		{"access_policy", forbidden("AccessDenied", "The user does not have keys permission."), kmskey.ErrDenied, kmskey.ErrDenied, "in the vault's access policies"},
		{"access_policy_by_its_newer_name", forbidden("ForbiddenByPolicy", "no"), kmskey.ErrDenied, kmskey.ErrDenied, "in the vault's access policies"},
		{"firewall", forbidden("ForbiddenByFirewall", "Client address is not authorized."), kmskey.ErrDenied, kmskey.ErrDenied, "the vault's firewall"},
		{"no_public_network", forbidden("ForbiddenByConnection", "Public network access is disabled."), kmskey.ErrDenied, kmskey.ErrDenied, "private endpoint"},
		{"key_operations", forbidden("KeyOperationForbidden", "Operation is not permitted on this key."), kmskey.ErrDenied, kmskey.ErrDenied, "among its key operations"},
		{"no_inner_code", forbidden("", "no"), kmskey.ErrDenied, kmskey.ErrDenied, "data action"},
		{"disabled", forbidden("KeyDisabled", "Operation is not allowed on a disabled key."), kmskey.ErrDisabled, kmskey.ErrDisabled, "enable this version"},
		{"not_yet_valid", forbidden("", "Operation wrapKey is not allowed on a key that is not yet valid."), kmskey.ErrDisabled, kmskey.ErrDisabled, "outside its dates"},
		{"not_found", &answer{status: 404, code: "KeyNotFound", message: "no"}, kmskey.ErrNotFound, kmskey.ErrNotFound, "recovered until it is purged"},
		{"conflict", &answer{status: 409, code: "Conflict", message: "Key is currently being deleted."}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, "being deleted"},
		{"bad_request", &answer{status: 400, code: "BadParameter", message: "no"}, kmskey.ErrInvalid, kmskey.ErrContextMismatch, "BadParameter"},
		{"method", &answer{status: 405, code: "x", message: "no"}, kmskey.ErrInvalid, kmskey.ErrInvalid, "the endpoint Azure Key Vault?"},
		{"throttled", throttled, kmskey.ErrThrottled, kmskey.ErrThrottled, "a vault of its own"},
		{"timeout_of_the_service", &answer{status: 408, code: "x", message: "no"}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, ""},
		{"internal", &answer{status: 500, code: "InternalServerError", message: "no"}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, ""},
		{"a_gateway_without_JSON", &answer{status: 502, body: "<html>secret page</html>"}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, "status 502"},
		{"a_broken_connection", &answer{}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, "EOF"},
		{"an_answer_that_breaks_off", &answer{status: 200, header: http.Header{"Content-Length": {"1000"}}, body: `{"kid":`}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, "unexpected EOF"},
		{"a_success_that_is_none", &answer{status: 202, body: `{"value":"AAAA"}`}, kmskey.ErrUnavailable, kmskey.ErrUnavailable, "status 202"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.setBefore(always(c.answer))
			defer f.setBefore(nil)
			calls := f.count()
			_, err := p.Wrap(t.Context(), dek, row(t, 7))
			says(t, err, c.wrap, c.says)
			_, err = p.Unwrap(t.Context(), w, row(t, 7))
			says(t, err, c.unwrap, c.says)
			if n := f.count() - calls; n != 2 {
				t.Errorf("%d requests", n)
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "secret page") {
				t.Errorf("%v", err)
			}
			cause, ok := errors.AsType[*azcore.ResponseError](err)
			if ok != (c.answer.status > 200) || ok && (cause.StatusCode != c.answer.status || cause.ErrorCode != c.answer.code ||
				cause.RawResponse.Header.Get("X-Ms-Request-Id") != c.answer.header.Get("X-Ms-Request-Id")) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
	t.Run("a_missing_permission_is_named", func(t *testing.T) {
		reader, writer := provider(t, f.client(t, "reader"), key, azurekv.Config{}), provider(t, f.client(t, "writer"), key, azurekv.Config{})
		_, err := reader.Wrap(t.Context(), dek, row(t, 7))
		says(t, err, kmskey.ErrDenied, "Microsoft.KeyVault/vaults/keys/wrap/action on the key", "ForbiddenByRbac: Caller is not authorized to perform action on resource. Caller:")
		_, err = writer.Unwrap(t.Context(), w, row(t, 7))
		says(t, err, kmskey.ErrDenied, "Microsoft.KeyVault/vaults/keys/unwrap/action on the key")
		opens(t, reader, w, row(t, 7), dek)
	})
	t.Run("a_long_message_is_cut", func(t *testing.T) {
		f.setBefore(always(forbidden("ForbiddenByRbac", strings.Repeat("way too long ", 500))))
		defer f.setBefore(nil)
		_, err := p.Wrap(t.Context(), dek, row(t, 7))
		if says(t, err, kmskey.ErrDenied, "…"); len(err.Error()) > 1500 {
			t.Errorf("%d bytes", len(err.Error()))
		}
	})
}

// TestCredentials: who gets no token is denied, and told apart from a service that is away.
func TestCredentials(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	refused := func(c azcore.TokenCredential, change ...func(*azkeys.ClientOptions)) error {
		_, err := provider(t, f.clientOf(t, c, change...), key, azurekv.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		return err
	}
	t.Run("an_unknown_principal", func(t *testing.T) {
		says(t, refused(credential{principal: "stranger"}), kmskey.ErrDenied, "AKV10000", "the vault's tenant")
	})
	t.Run("a_credential_that_fails", func(t *testing.T) {
		cause := errors.New("no identity is assigned")
		if err := refused(credential{err: cause}); !errors.Is(err, cause) {
			t.Error("the cause is lost", err)
		} else {
			says(t, err, kmskey.ErrDenied, "gave no token", "no identity is assigned")
		}
	})
	t.Run("azidentity", func(t *testing.T) {
		says(t, refused(credential{err: &azidentity.AuthenticationFailedError{}}), kmskey.ErrDenied, "gave no token")
		says(t, refused(credential{err: azidentity.NewCredentialUnavailableError("not logged in")}), kmskey.ErrDenied, "not logged in")
	})
	t.Run("a_token_that_is_fetched_after_the_challenge_is_known", func(t *testing.T) {
		c := &fickle{credential: credential{principal: "app"}}
		p := provider(t, f.clientOf(t, c), key, azurekv.Config{})
		wrap(t, p, row(t, 7))
		c.set(errors.New("the secret has expired"))
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrDenied, "the secret has expired")
	})
}

// fickle's tokens are old at once, so that each call asks for another.
type fickle struct {
	credential
	mu sync.Mutex
}

func (c *fickle) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *fickle) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token, err := c.credential.GetToken(ctx, o)
	token.ExpiresOn = time.Now()
	return token, err
}

// TestTime: the client's repeated requests survive what passes, and end with the deadline, whose error tells the last answer.
func TestTime(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	patient := func(o *azkeys.ClientOptions) {
		o.Retry = policy.RetryOptions{MaxRetries: 1000, RetryDelay: time.Millisecond, MaxRetryDelay: time.Hour}
	}
	now := &answer{status: 429, code: "Throttled", message: "Too many."}
	for name, a := range map[string]*answer{"quota": now, "outage": outage, "broken_connection": {}} {
		t.Run(name+"_that_ends_is_survived", func(t *testing.T) {
			p := provider(t, f.client(t, "app", patient), key, azurekv.Config{})
			dek, w := wrap(t, p, row(t, 7))
			first := f.count()
			f.setBefore(func(_ context.Context, n int) *answer {
				if n-first <= 2 {
					return a
				}
				return nil
			})
			defer f.setBefore(nil)
			opens(t, p, w, row(t, 7), dek)
			if n := f.count() - first; n != 3 {
				t.Errorf("%d requests", n)
			}
		})
	}
	t.Run("the_deadline_ends_them_in_a_pause_and_the_cause_is_told", func(t *testing.T) {
		f.setBefore(always(&answer{status: 429, code: "Throttled", message: "Too many.", header: http.Header{"Retry-After": {"60"}}}))
		defer f.setBefore(nil)
		_, err := provider(t, f.client(t, "app", patient), key, azurekv.Config{Timeout: time.Second}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "the last answer: Azure answered with status 429 Throttled: Too many.", "1s at most (Config.Timeout)")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the deadline", err)
		}
	})
	t.Run("a_service_that_does_not_answer_ends_with_the_timeout", func(t *testing.T) {
		f.setBefore(func(ctx context.Context, _ int) *answer { <-ctx.Done(); return outage })
		defer f.setBefore(nil)
		_, err := provider(t, f.client(t, "app"), key, azurekv.Config{Timeout: 200 * time.Millisecond}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "(Config.Timeout)")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the deadline", err)
		}
	})
	t.Run("a_context_that_is_done_makes_no_request", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		requests := f.countAll()
		_, err := provider(t, f.client(t, "app", patient), key, azurekv.Config{}).Wrap(ctx, kmskey.NewDEK(), row(t, 7))
		if says(t, err, kmskey.ErrUnavailable); f.countAll() != requests {
			t.Error("requests were made")
		}
	})
	t.Run("nobody_there_is_unavailable", func(t *testing.T) {
		gone := start(t)
		gone.addr = "127.0.0.1:1"
		_, err := provider(t, gone.client(t, "app"), key, azurekv.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "127.0.0.1:1")
	})
}

// TestSecrets: neither the client's log, as it is unless bodies are asked for, nor any error holds a data key, whatever Azure or something in
// its place answers. The control shows that they would.
func TestSecrets(t *testing.T) {
	var mu sync.Mutex
	var text strings.Builder
	azlog.SetListener(func(_ azlog.Event, s string) {
		mu.Lock()
		defer mu.Unlock()
		text.WriteString(s)
	})
	defer azlog.SetListener(nil)
	logged := func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
	f := start(t)
	key := f.createKey(t, "rows")
	p := provider(t, f.client(t, "app"), key, azurekv.Config{})
	dek, w := wrap(t, p, row(t, 7))
	opens(t, p, w, row(t, 7), dek)
	hash := sha256.Sum256(row(t, 7).Canonical())
	value := base64.RawURLEncoding.EncodeToString(append(bytes.Clone(dek.Bytes()), hash[:]...))
	for name, rewrite := range map[string]func(kid, _ string) string{
		"text":       func(string, string) string { return value },
		"a_number":   func(kid, _ string) string { return fmt.Sprintf(`{"kid":1,"value":%q}`, value) },
		"an_object":  func(kid, _ string) string { return fmt.Sprintf(`{"kid":%q,"value":{"x":%q}}`, kid, value) },
		"padded":     func(kid, _ string) string { return fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, value+"==") },
		"cut_off":    func(kid, _ string) string { return fmt.Sprintf(`{"kid":%q,"value":"%s`, kid, value) },
		"in_the_kid": func(string, string) string { return fmt.Sprintf(`{"kid":[%q],"value":%q}`, value, value) },
		"other_context": func(kid, _ string) string {
			return fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, value[:43]+strings.Repeat("A", 43))
		},
	} {
		t.Run("a_damaged_answer/"+name, func(t *testing.T) {
			f.setRewrite(rewrite)
			defer f.setRewrite(nil)
			if _, err := p.Unwrap(t.Context(), w, row(t, 7)); err == nil || holds(deep(err), dek.Bytes()) {
				t.Error("no error, or one with the data key")
			}
		})
	}
	if log := logged(); strings.Count(log, "OUTGOING REQUEST") < 10 || !strings.Contains(log, "/wrapkey") || holds(log, dek.Bytes()) {
		t.Error("the client's log does not show its requests, or it shows the data key")
	}
	echoed := fmt.Sprintf(`{"alg":"RSA-OAEP-256","value":%q}`, value)
	for name, a := range map[string]*answer{
		"a_page":            {status: 400, body: "<html>" + echoed},
		"a_message":         {status: 400, code: "BadRequest", message: "not understood: " + echoed},
		"a_message_in_hex":  {status: 403, code: "BadRequest", message: hex.EncodeToString(dek.Bytes())},
		"a_code":            {status: 500, code: value, inner: value},
		"a_success_of_sort": {status: 201, body: fmt.Sprintf(`{"error":{"message":%q}}`, value)},
	} {
		t.Run("a_gateway_that_repeats_the_request/"+name, func(t *testing.T) {
			f.setBefore(always(a))
			defer f.setBefore(nil)
			_, wrapErr := p.Wrap(t.Context(), dek, row(t, 7))
			_, unwrapErr := p.Unwrap(t.Context(), w, row(t, 7))
			for _, err := range []error{wrapErr, unwrapErr} {
				if err == nil || holds(deep(err), dek.Bytes()) {
					t.Error("no error, or one with the data key")
				}
				if response, ok := errors.AsType[*azcore.ResponseError](err); !ok || response.RawResponse.Request.Body != nil || response.RawResponse.Request.Header != nil {
					t.Error("the error has the request's body or token")
				}
			}
		})
	}
	t.Run("control", func(t *testing.T) {
		open := provider(t, f.client(t, "app", func(o *azkeys.ClientOptions) { o.Logging.IncludeBody = true }), key, azurekv.Config{})
		dek, _ := wrap(t, open, row(t, 7))
		if !strings.Contains(logged(), base64.RawURLEncoding.EncodeToString(dek.Bytes()[:30])) {
			t.Error("bodies are not logged when asked for, so nothing above was shown")
		}
	})
}

// deep is every form in which an error may be printed, and every error inside it.
func deep(err error) string {
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	if j, jsonErr := json.Marshal(err); jsonErr == nil {
		text += string(j)
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			text += deep(inner)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text += deep(inner)
		}
	}
	return text
}

// holds looks for the first 30 bytes of the key, which are whole in base64 whatever stands behind them.
func holds(text string, key []byte) bool {
	key = key[:30]
	return slices.ContainsFunc([]string{
		string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key), strings.Trim(fmt.Sprint(key), "[]"),
	}, func(form string) bool { return strings.Contains(text, form) })
}

// TestVendorsFake: the same over the server that Microsoft has for tests of its client, with the keys as real.
func TestVendorsFake(t *testing.T) {
	private := rsaKeys()[0]
	kid := azkeys.ID(vault + "/keys/rows/0123456789abcdef0123456789abcdef")
	respond := func(out []byte) azkeys.KeyOperationResult { return azkeys.KeyOperationResult{KID: &kid, Result: out} }
	server := &keysfake.Server{
		WrapKey: func(_ context.Context, name, version string, in azkeys.KeyOperationParameters, _ *azkeys.WrapKeyOptions) (r azfake.Responder[azkeys.WrapKeyResponse], e azfake.ErrorResponder) {
			out, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, in.Value, nil)
			if err != nil || name != "rows" || version != "" || *in.Algorithm != azkeys.EncryptionAlgorithmRSAOAEP256 {
				e.SetResponseError(http.StatusBadRequest, "BadParameter")
				return
			}
			r.SetResponse(http.StatusOK, azkeys.WrapKeyResponse{KeyOperationResult: respond(out)}, nil)
			return
		},
		UnwrapKey: func(_ context.Context, name, version string, in azkeys.KeyOperationParameters, _ *azkeys.UnwrapKeyOptions) (r azfake.Responder[azkeys.UnwrapKeyResponse], e azfake.ErrorResponder) {
			out, err := rsa.DecryptOAEP(sha256.New(), nil, private, in.Value, nil)
			// This server reads the version into the name.
			if err != nil || strings.Trim(name+"/"+version, "/") != "rows/"+kid.Version() {
				e.SetResponseError(http.StatusBadRequest, "BadParameter")
				return
			}
			r.SetResponse(http.StatusOK, azkeys.UnwrapKeyResponse{KeyOperationResult: respond(out)}, nil)
			return
		},
	}
	client, err := azkeys.NewClient(vault, &azfake.TokenCredential{}, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: keysfake.NewServerTransport(server)}})
	must(t, err)
	p := provider(t, client, vault+"/keys/rows", azurekv.Config{})
	dek, w := wrap(t, p, row(t, 7))
	opens(t, p, w, row(t, 7), dek)
	_, err = p.Unwrap(t.Context(), w, row(t, 8))
	says(t, err, kmskey.ErrContextMismatch, "for another context")
	w.Blob[7] ^= 1
	_, err = p.Unwrap(t.Context(), w, row(t, 7))
	says(t, err, kmskey.ErrContextMismatch, "status 400 BadParameter")
	server.WrapKey = func(context.Context, string, string, azkeys.KeyOperationParameters, *azkeys.WrapKeyOptions) (_ azfake.Responder[azkeys.WrapKeyResponse], e azfake.ErrorResponder) {
		e.SetResponseError(http.StatusNotFound, "KeyNotFound")
		return
	}
	_, err = p.Wrap(t.Context(), dek, row(t, 7))
	says(t, err, kmskey.ErrNotFound, "KeyNotFound")
}
