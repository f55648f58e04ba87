package gcpkms_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/gcpkms"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func provider(t *testing.T, client *kms.KeyManagementClient, key string, cfg gcpkms.Config) *gcpkms.Provider {
	t.Helper()
	p, err := gcpkms.New(client, key, cfg)
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

func subject(t *testing.T) kmskeytest.Subject {
	f := start(t)
	key, foreign := f.createKey(t, "app"), f.createKey(t, "other")
	// A thousand calls at once on a loaded machine under the race detector may take long; no claim here is about time.
	p := provider(t, f.client(t, "app"), key, gcpkms.Config{Timeout: 5 * time.Minute})
	fault := func(err error) func(*testing.T) func() {
		return func(*testing.T) func() {
			f.setBefore(func(context.Context, int) error { return err })
			return func() { f.setBefore(nil) }
		}
	}
	version := key + "/cryptoKeyVersions/"
	return kmskeytest.Subject{
		Provider: p,
		ForeignRefs: []string{
			foreign + "/cryptoKeyVersions/1",
			strings.Replace(version, "acme-prod", "evil", 1) + "1",
			strings.Replace(version, "europe-west3", "us-east1", 1) + "1",
			strings.Replace(version, "keyRings/app", "keyRings/other", 1) + "1",
			key, version, version + "0", version + "01", version + "+1", version + "1/", version + "-1", version + "one",
			version + "1/cryptoKeyVersions/1", version + "99999999999999999999", "https://cloudkms.googleapis.com/v1/" + version + "1",
			strings.ToUpper(version) + "1", "/" + version + "1",
		},
		Calls: f.count,
		Disable: func(*testing.T) func() {
			f.setState(key, 1, "DISABLED")
			return func() { f.setState(key, 1, "ENABLED") }
		},
		Remove:   func(*testing.T) { f.remove(key) },
		Outage:   fault(status.Error(codes.Unavailable, "The service is currently unavailable.")),
		Throttle: fault(status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Cryptographic requests'")),
		Hang: func(*testing.T) (<-chan struct{}, func()) {
			arrived := make(chan struct{}, 1)
			f.setBefore(func(ctx context.Context, _ int) error {
				arrived <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			return arrived, func() { f.setBefore(nil) }
		},
		DenyWrap:   func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "reader"), key, gcpkms.Config{}) },
		DenyUnwrap: func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "writer"), key, gcpkms.Config{}) },
		Other:      func(t *testing.T) kmskey.Provider { return provider(t, f.client(t, "app"), foreign, gcpkms.Config{}) },
	}
}

var notApplicable = map[string]string{
	"rewrap":           "Google has no call that moves a ciphertext to another key; the keyring unwraps and wraps",
	"sibling":          "without rewrap nothing moves from one provider to another",
	"generate":         "Google draws random bytes and does not wrap them in the same call",
	"generate_wrapped": "Google draws random bytes and does not wrap them in the same call",
}

func TestConformance(t *testing.T) {
	kmskeytest.Run(t, kmskeytest.Harness{New: subject, NotApplicable: notApplicable})
}

// TestConformanceAtGoogle runs the suite against a real key, in addition to the fake: GCPKMS_TEST_KEY is its full name, the credentials are
// the application default ones, and GCPKMS_TEST_ENDPOINT (host:port) names another endpoint than Google's. Faults cannot be made there.
func TestConformanceAtGoogle(t *testing.T) {
	key, endpoint := os.Getenv("GCPKMS_TEST_KEY"), os.Getenv("GCPKMS_TEST_ENDPOINT")
	if key == "" {
		if endpoint != "" {
			t.Fatal("GCPKMS_TEST_ENDPOINT is set and GCPKMS_TEST_KEY is not")
		}
		t.Log("nothing asked for: GCPKMS_TEST_KEY is not set; TestConformance ran against the fake")
		return
	}
	var options []option.ClientOption
	if endpoint != "" {
		options = append(options, option.WithEndpoint(endpoint))
	}
	client, err := kms.NewKeyManagementClient(t.Context(), options...)
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	na := map[string]string{}
	for name, why := range notApplicable {
		na[name] = why
	}
	for _, fault := range []string{"calls", "disabled", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap", "other"} {
		na[fault] = "the service is not ours to break or count"
	}
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			return kmskeytest.Subject{
				Provider:    provider(t, client, key, gcpkms.Config{Timeout: 5 * time.Minute, Attempts: 10}),
				ForeignRefs: []string{ring + "/cryptoKeys/nowhere/cryptoKeyVersions/1", key},
			}
		},
		NotApplicable: na,
	})
}

func TestNew(t *testing.T) {
	f := start(t)
	client := f.client(t, "app")
	const key = ring + "/cryptoKeys/app"
	for _, good := range []string{
		key,
		"projects/123456789012/locations/global/keyRings/R_1-x/cryptoKeys/K_2-y",
		"projects/example.com:app/locations/eur5/keyRings/r/cryptoKeys/k",
	} {
		if p, err := gcpkms.New(client, good, gcpkms.Config{}); err != nil || !strings.Contains(p.String(), good) {
			t.Error(p, err)
		}
	}
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name, key string
		cfg       gcpkms.Config
		says      string
	}{
		{"empty", "", gcpkms.Config{}, "not the full name"},
		{"an_id", "app", gcpkms.Config{}, "projects/<project>/locations/<location>"},
		{"a_ring", ring, gcpkms.Config{}, "not the full name"},
		{"a_version", key + "/cryptoKeyVersions/1", gcpkms.Config{}, "leave out /cryptoKeyVersions"},
		{"a_URL", "https://cloudkms.googleapis.com/v1/" + key, gcpkms.Config{}, "not the full name"},
		{"a_leading_slash", "/" + key, gcpkms.Config{}, "not the full name"},
		{"a_trailing_slash", key + "/", gcpkms.Config{}, "not the full name"},
		{"another_collection", strings.Replace(key, "keyRings", "keyrings", 1), gcpkms.Config{}, `"keyrings" where "keyRings" belongs`},
		{"no_project", strings.Replace(key, "acme-prod", "", 1), gcpkms.Config{}, "the name in projects is malformed"},
		{"dots_for_a_project", strings.Replace(key, "acme-prod", "..", 1), gcpkms.Config{}, "the name in projects is malformed"},
		{"a_space", strings.Replace(key, "europe-west3", "europe west3", 1), gcpkms.Config{}, "the name in locations is malformed"},
		{"a_line_break", key + "\n", gcpkms.Config{}, "the name in cryptoKeys is malformed"},
		{"a_query", strings.Replace(key, "keyRings/app", "keyRings/a&b", 1), gcpkms.Config{}, "the name in keyRings is malformed"},
		{"a_very_long_one", long, gcpkms.Config{}, "not the full name"},
		{"a_negative_timeout", key, gcpkms.Config{Timeout: -1}, "Config.Timeout"},
		{"negative_attempts", key, gcpkms.Config{Attempts: -1}, "Config.Attempts"},
	} {
		t.Run(c.name+"_is_refused", func(t *testing.T) {
			p, err := gcpkms.New(client, c.key, c.cfg)
			if p != nil || err == nil || !strings.HasPrefix(err.Error(), "gcpkms: new provider: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", p, err)
			} else if strings.Contains(err.Error(), long) {
				t.Error("the whole name is repeated")
			}
		})
	}
	t.Run("no_client_is_refused", func(t *testing.T) {
		if _, err := gcpkms.New(nil, key, gcpkms.Config{}); err == nil || !strings.Contains(err.Error(), "no client") {
			t.Error(err)
		}
	})
	t.Run("a_client_over_REST_is_refused", func(t *testing.T) {
		rest, err := kms.NewKeyManagementRESTClient(t.Context(), option.WithoutAuthentication())
		must(t, err)
		if _, err := gcpkms.New(rest, key, gcpkms.Config{}); err == nil || !strings.Contains(err.Error(), "over REST") {
			t.Error(err)
		}
	})
	if f.count() != 0 {
		t.Errorf("%d calls", f.count())
	}
}

// TestRequests: what goes to Google is the context's canonical form and a checksum of everything.
func TestRequests(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	p := provider(t, f.client(t, "app"), key, gcpkms.Config{})
	ec := row(t, 7)
	dek, w := wrap(t, p, ec)
	opens(t, p, w, ec, dek)
	sent := f.requests()
	if len(sent) != 2 {
		t.Fatalf("%d requests", len(sent))
	}
	aad := ec.Canonical()
	if want := (&kmspb.EncryptRequest{
		Name: key, Plaintext: dek.Bytes(), PlaintextCrc32C: crc32c(dek.Bytes()), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: crc32c(aad),
	}); !proto.Equal(sent[0], want) {
		t.Error("Encrypt was asked something else")
	}
	if want := (&kmspb.DecryptRequest{
		Name: key, Ciphertext: w.Blob, CiphertextCrc32C: crc32c(w.Blob), AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: crc32c(aad),
	}); !proto.Equal(sent[1], want) {
		t.Error("Decrypt was asked something else")
	}
	if w.Service != "gcp" || w.KeyRef != key+"/cryptoKeyVersions/1" {
		t.Errorf("%q %q", w.Service, w.KeyRef)
	}
}

// TestDamage: what did not come through whole is refused, whichever part it is, and gives neither a wrapped key nor a data key.
func TestDamage(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	p := provider(t, f.client(t, "app"), key, gcpkms.Config{})
	dek, w := wrap(t, p, row(t, 7))
	for _, c := range []struct {
		name   string
		damage func(m proto.Message)
		op     string
		kind   error
		says   string
	}{
		{"data_key_on_its_way", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptRequest); ok {
				r.Plaintext[3] ^= 1
			}
		}, "wrap", kmskey.ErrUnavailable, "did not reach Google whole"},
		{"context_on_its_way_to_encrypt", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptRequest); ok {
				r.AdditionalAuthenticatedData[3] ^= 1
			}
		}, "wrap", kmskey.ErrUnavailable, "did not reach Google whole"},
		{"checksum_of_the_data_key_lost", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptRequest); ok {
				r.PlaintextCrc32C = nil
			}
		}, "wrap", kmskey.ErrUnavailable, "did not verify the checksum of the data key"},
		{"checksum_of_the_context_lost", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptRequest); ok {
				r.AdditionalAuthenticatedDataCrc32C = nil
			}
		}, "wrap", kmskey.ErrUnavailable, "did not verify the checksum of the encryption context"},
		{"wrapped_key_on_its_way_back", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.Ciphertext[9] ^= 1
			}
		}, "wrap", kmskey.ErrUnavailable, "the wrapped key does not have the checksum"},
		{"wrapped_key_without_a_checksum", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.CiphertextCrc32C = nil
			}
		}, "wrap", kmskey.ErrUnavailable, "the wrapped key does not have the checksum"},
		{"empty_wrapped_key", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.Ciphertext, r.CiphertextCrc32C = nil, crc32c(nil)
			}
		}, "wrap", kmskey.ErrInvalid, "is the endpoint Cloud KMS?"},
		{"version_of_another_key", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.Name = strings.Replace(r.Name, "acme-prod", "123456789012", 1)
			}
		}, "wrap", kmskey.ErrInvalid, "with the project's id and not its number"},
		{"no_version", func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.Name = key
			}
		}, "wrap", kmskey.ErrInvalid, "no version of the configured key"},
		{"wrapped_key_on_its_way", func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptRequest); ok {
				r.Ciphertext[9] ^= 1
			}
		}, "unwrap", kmskey.ErrUnavailable, "did not reach Google whole"},
		{"context_on_its_way_to_decrypt", func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptRequest); ok {
				r.AdditionalAuthenticatedData[3] ^= 1
			}
		}, "unwrap", kmskey.ErrUnavailable, "did not reach Google whole"},
		{"data_key_on_its_way_back", func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptResponse); ok {
				r.Plaintext[3] ^= 1
			}
		}, "unwrap", kmskey.ErrUnavailable, "the data key does not have the checksum"},
		{"data_key_without_a_checksum", func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptResponse); ok {
				r.PlaintextCrc32C = nil
			}
		}, "unwrap", kmskey.ErrUnavailable, "the data key does not have the checksum"},
		{"data_key_of_another_length", func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptResponse); ok {
				r.Plaintext = r.Plaintext[:16]
				r.PlaintextCrc32C = crc32c(r.Plaintext)
			}
		}, "unwrap", kmskey.ErrInvalid, "made by something else"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.setDamage(c.damage)
			defer f.setDamage(nil)
			var err error
			if c.op == "wrap" {
				var got kmskey.Wrapped
				got, err = p.Wrap(t.Context(), dek, row(t, 7))
				if got.Blob != nil || got.KeyRef != "" {
					t.Error("a wrapped key was given out")
				}
			} else {
				var got kmskey.DEK
				got, err = p.Unwrap(t.Context(), w, row(t, 7))
				if !got.IsZero() {
					t.Error("a data key was given out")
				}
			}
			says(t, err, c.kind, "kmskey: "+c.op+" with gcp key", c.says)
		})
	}
	opens(t, p, w, row(t, 7), dek)
}

// TestVersions: rotation at Google, and what becomes of rows under older versions.
func TestVersions(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	p := provider(t, f.client(t, "app"), key, gcpkms.Config{})
	ec := row(t, 7)
	oldDEK, old := wrap(t, p, ec)
	f.rotate(t, key)
	newDEK, current := wrap(t, p, ec)
	if current.KeyRef != key+"/cryptoKeyVersions/2" {
		t.Errorf("wrapped under %q", current.KeyRef)
	}
	opens(t, p, old, ec, oldDEK)
	opens(t, p, current, ec, newDEK)

	for _, state := range []string{"DISABLED", "DESTROY_SCHEDULED", "DESTROYED"} {
		t.Run("a_"+state+"_version_is_disabled_and_the_primary_one_still_works", func(t *testing.T) {
			f.setState(key, 1, state)
			_, err := p.Unwrap(t.Context(), old, ec)
			says(t, err, kmskey.ErrDisabled, state, "enable the version that Google names")
			opens(t, p, current, ec, newDEK)
			wrap(t, p, ec)
			f.setState(key, 1, "ENABLED")
		})
	}
	t.Run("a_disabled_primary_version_cannot_wrap_and_the_old_one_still_opens", func(t *testing.T) {
		f.setState(key, 2, "DISABLED")
		_, err := p.Wrap(t.Context(), oldDEK, ec)
		says(t, err, kmskey.ErrDisabled, "enable the key's primary version")
		opens(t, p, old, ec, oldDEK)
		f.setPrimary(key, 1)
		if _, w := wrap(t, p, ec); w.KeyRef != old.KeyRef {
			t.Errorf("wrapped under %q", w.KeyRef)
		}
		f.setState(key, 2, "ENABLED")
		f.setPrimary(key, 2)
	})
	t.Run("the_keyring_moves_rows_to_the_new_version_by_unwrap_and_wrap", func(t *testing.T) {
		before := keyring(t, p, 1)
		data := kmskey.DataKey{ID: 1, DEK: oldDEK}
		who := kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(7)}, Context: func(int) ([]kmskey.Pair, error) {
			return []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(7)}}, nil
		}}
		f.setPrimary(key, 1)
		e, err := before.Wrap(t.Context(), data, who)
		must(t, err)
		f.setPrimary(key, 2)
		after, calls := keyring(t, p, 2), f.count()
		moved, err := after.Rewrap(t.Context(), e, who, who)
		must(t, err)
		if n := f.count() - calls; n != 2 {
			t.Errorf("%d calls, want Decrypt and Encrypt", n)
		}
		f.setState(key, 1, "DISABLED") // nothing needs it any more
		defer f.setState(key, 1, "ENABLED")
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

// TestErrors: each status has one kind, the next step, and no more requests than it is worth.
func TestErrors(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	p := provider(t, f.client(t, "app"), key, gcpkms.Config{})
	dek, w := wrap(t, p, row(t, 7))
	scope := because(t, codes.PermissionDenied, "Request had insufficient authentication scopes.", "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
	api := because(t, codes.PermissionDenied, "Cloud Key Management Service (KMS) API has not been used in project 1 before or it is disabled.", "SERVICE_DISABLED")
	billing := because(t, codes.PermissionDenied, "This API method requires billing to be enabled.", "BILLING_DISABLED")
	for _, c := range []struct {
		name         string
		err          error
		wrap, unwrap error
		says         string
		requests     int
	}{
		{"scope", scope, kmskey.ErrDenied, kmskey.ErrDenied, "auth/cloudkms", 1},
		{"api", api, kmskey.ErrDenied, kmskey.ErrDenied, "enable the API cloudkms.googleapis.com", 1},
		{"billing", billing, kmskey.ErrDenied, kmskey.ErrDenied, "enable billing", 1},
		{"unauthenticated", status.Error(codes.Unauthenticated, "no"), kmskey.ErrDenied, kmskey.ErrDenied, "check the client's credentials", 1},
		{"not_found", status.Error(codes.NotFound, "no"), kmskey.ErrNotFound, kmskey.ErrNotFound, "check project, location, key ring and key", 1},
		{"precondition", status.Error(codes.FailedPrecondition, "no"), kmskey.ErrDisabled, kmskey.ErrDisabled, "version", 1},
		{"invalid", status.Error(codes.InvalidArgument, "no"), kmskey.ErrInvalid, kmskey.ErrContextMismatch, "", 1},
		{"unimplemented", status.Error(codes.Unimplemented, "no"), kmskey.ErrInvalid, kmskey.ErrInvalid, "is the endpoint Cloud KMS?", 1},
		{"out_of_range", status.Error(codes.OutOfRange, "no"), kmskey.ErrInvalid, kmskey.ErrInvalid, "", 1},
		{"internal", status.Error(codes.Internal, "no"), kmskey.ErrUnavailable, kmskey.ErrUnavailable, "", 1},
		{"unknown", errors.New("no"), kmskey.ErrUnavailable, kmskey.ErrUnavailable, "", 1},
		{"cancelled_by_the_service", status.Error(codes.Canceled, "no"), kmskey.ErrUnavailable, kmskey.ErrUnavailable, "", 1},
		{"unavailable", status.Error(codes.Unavailable, "no"), kmskey.ErrUnavailable, kmskey.ErrUnavailable, "", 3},
		{"deadline_of_the_service", status.Error(codes.DeadlineExceeded, "no"), kmskey.ErrUnavailable, kmskey.ErrUnavailable, "", 3},
		{"quota", status.Error(codes.ResourceExhausted, "no"), kmskey.ErrThrottled, kmskey.ErrThrottled, "raise the project's quota", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.setBefore(func(context.Context, int) error { return c.err })
			defer f.setBefore(nil)
			calls := f.count()
			_, err := p.Wrap(t.Context(), dek, row(t, 7))
			says(t, err, c.wrap, c.says)
			if n := f.count() - calls; n != c.requests {
				t.Errorf("wrap: %d requests, want %d", n, c.requests)
			}
			calls = f.count()
			_, err = p.Unwrap(t.Context(), w, row(t, 7))
			says(t, err, c.unwrap, c.says)
			if n := f.count() - calls; n != c.requests {
				t.Errorf("unwrap: %d requests, want %d", n, c.requests)
			}
			if e, ok := errors.AsType[*kmskey.Error](err); !ok || status.Code(e.Err) != status.Code(c.err) {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
	t.Run("a_missing_permission_is_named_with_its_role", func(t *testing.T) {
		reader, writer := provider(t, f.client(t, "reader"), key, gcpkms.Config{}), provider(t, f.client(t, "writer"), key, gcpkms.Config{})
		_, err := reader.Wrap(t.Context(), dek, row(t, 7))
		says(t, err, kmskey.ErrDenied, "grant this principal cloudkms.cryptoKeyVersions.useToEncrypt", "roles/cloudkms.cryptoKeyEncrypter holds", "may not exist")
		_, err = writer.Unwrap(t.Context(), w, row(t, 7))
		says(t, err, kmskey.ErrDenied, "grant this principal cloudkms.cryptoKeyVersions.useToDecrypt", "roles/cloudkms.cryptoKeyDecrypter holds")
		opens(t, reader, w, row(t, 7), dek)
		_, err = provider(t, f.client(t, "stranger"), key, gcpkms.Config{}).Wrap(t.Context(), dek, row(t, 7))
		says(t, err, kmskey.ErrDenied, "check the client's credentials")
	})
	t.Run("a_key_of_another_name_does_not_open_it", func(t *testing.T) {
		other := f.createKey(t, "other")
		moved := w
		moved.KeyRef = other + "/cryptoKeyVersions/1" // as if someone had changed it in the row
		_, err := provider(t, f.client(t, "app"), other, gcpkms.Config{}).Unwrap(t.Context(), moved, row(t, 7))
		says(t, err, kmskey.ErrContextMismatch, "Decryption failed")
	})
}

// TestAttempts: a quota that is used up for a moment is waited for, not for ever, and not past the deadline.
func TestAttempts(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	client := f.client(t, "app")
	failing := func(n int, err error) (requests func() int) {
		first := f.count()
		f.setBefore(func(_ context.Context, call int) error {
			if call-first <= n {
				return err
			}
			return nil
		})
		return func() int { return f.count() - first }
	}
	exhausted, down := status.Error(codes.ResourceExhausted, "quota"), status.Error(codes.Unavailable, "down")
	for name, err := range map[string]error{"quota": exhausted, "outage": down} {
		t.Run(name+"_that_ends_is_survived", func(t *testing.T) {
			requests := failing(2, err)
			dek, w := wrap(t, provider(t, client, key, gcpkms.Config{}), row(t, 7))
			if requests() != 3 {
				t.Errorf("%d requests", requests())
			}
			failing(2, err)
			opens(t, provider(t, client, key, gcpkms.Config{}), w, row(t, 7), dek)
		})
	}
	t.Run("one_attempt_repeats_nothing", func(t *testing.T) {
		requests := failing(1, exhausted)
		_, err := provider(t, client, key, gcpkms.Config{Attempts: 1}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrThrottled)
		if requests() != 1 {
			t.Errorf("%d requests", requests())
		}
	})
	t.Run("the_deadline_ends_them_and_the_cause_is_told", func(t *testing.T) {
		failing(1000, down)
		_, err := provider(t, client, key, gcpkms.Config{Timeout: time.Second, Attempts: 1000}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "down", "1s at most (Config.Timeout)")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the deadline", err)
		}
	})
	t.Run("a_service_that_does_not_answer_ends_with_the_timeout", func(t *testing.T) {
		f.setBefore(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		defer f.setBefore(nil)
		_, err := provider(t, client, key, gcpkms.Config{Timeout: 50 * time.Millisecond}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "(Config.Timeout)")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not wrap the deadline", err)
		}
	})
	t.Run("nobody_there_is_unavailable", func(t *testing.T) {
		gone := start(t)
		gone.addr = "127.0.0.1:1"
		_, err := provider(t, gone.client(t, "app"), key, gcpkms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
		says(t, err, kmskey.ErrUnavailable, "127.0.0.1:1")
	})
}

// TestLogs: the client's own log at level debug, and an interceptor, have requests and answers, and no data key. The control shows that they would.
func TestLogs(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	var log lockedBuffer
	var seen lockedBuffer // by an interceptor
	client := f.client(t, "app", option.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))),
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := invoke(ctx, method, req, reply, cc, opts...)
				for _, m := range []any{req, reply} {
					text, marshalErr := protojson.Marshal(m.(proto.Message))
					if marshalErr != nil {
						t.Error(marshalErr)
					}
					_, _ = seen.Write(text)
				}
				return err
			})))
	p := provider(t, client, key, gcpkms.Config{})
	dek, w := wrap(t, p, row(t, 7))
	opens(t, p, w, row(t, 7), dek)
	text := log.String()
	if n := strings.Count(text, `"api request"`); n != 2 || strings.Count(text, `"api response"`) != 2 || !strings.Contains(text, base64.StdEncoding.EncodeToString(w.Blob)) {
		t.Fatalf("the log does not show what it should, %d requests", n)
	}
	if holds(text, dek.Bytes()) {
		t.Error("the client's log holds the data key")
	}
	if holds(seen.String(), dek.Bytes()) || !strings.Contains(seen.String(), base64.StdEncoding.EncodeToString(w.Blob)) {
		t.Error("an interceptor sees the data key, or sees nothing")
	}

	_, err := client.Encrypt(t.Context(), &kmspb.EncryptRequest{Name: key, Plaintext: dek.Bytes()})
	must(t, err)
	if !holds(log.String(), dek.Bytes()) || !holds(seen.String(), dek.Bytes()) {
		t.Error("the control: the client does not show data keys by itself, so nothing above was shown")
	}
}

func holds(text string, key []byte) bool {
	return slices.ContainsFunc([]string{
		string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key), strings.Trim(fmt.Sprint(key), "[]"),
	}, func(form string) bool { return strings.Contains(text, form) })
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

var _ io.Writer = (*lockedBuffer)(nil)
