package gcpkms_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/gcpkms"
)

func TestCheck(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "app")
	check := func(t *testing.T, principal, key string) (calls int, err error) {
		t.Helper()
		before := f.count()
		err = provider(t, f.client(t, principal), key, gcpkms.Config{Attempts: 1}).Check(t.Context())
		if err != nil && !strings.HasPrefix(err.Error(), "kmskey: check with gcp key ") {
			t.Errorf("%v is no error of a check", err)
		}
		return f.count() - before, err
	}
	t.Run("any_one_duty_is_enough", func(t *testing.T) {
		for _, principal := range []string{"app", "reader", "writer"} {
			if n, err := check(t, principal, key); err != nil || n != 2 {
				t.Errorf("%s: %v, %d calls", principal, err, n)
			}
		}
	})
	t.Run("asks_under_a_context_of_its_own", func(t *testing.T) {
		ec, err := kmskey.NewContext(kmskey.Pair{Name: "purpose", Value: kmskey.Text("rowseal/check")})
		must(t, err)
		for _, m := range f.requests() {
			r, ok := m.(interface{ GetAdditionalAuthenticatedData() []byte })
			if !ok || string(r.GetAdditionalAuthenticatedData()) != string(ec.Canonical()) {
				t.Errorf("a %T under another", m)
			}
		}
	})
	t.Run("finds_who_may_do_neither", func(t *testing.T) {
		_, err := check(t, "nobody", key)
		says(t, err, kmskey.ErrDenied, "useToEncrypt", "useToDecrypt", "where the key does not exist")
	})
	t.Run("finds_bad_credentials_in_one_call", func(t *testing.T) {
		n, err := check(t, "stranger", key)
		says(t, err, kmskey.ErrDenied, "check the client's credentials")
		if n != 1 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("finds_a_key_that_is_not_there_for_each_duty", func(t *testing.T) {
		for _, principal := range []string{"app", "reader", "writer"} {
			_, err := check(t, principal, key+"s")
			says(t, err, kmskey.ErrNotFound, "check project, location, key ring and key")
		}
	})
	t.Run("finds_a_disabled_key", func(t *testing.T) {
		f.setState(key, 1, "DISABLED")
		defer f.setState(key, 1, "ENABLED")
		for _, principal := range []string{"app", "writer"} {
			n, err := check(t, principal, key)
			says(t, err, kmskey.ErrDisabled, "enable the key's primary version")
			if n != 1 {
				t.Errorf("%d calls", n)
			}
		}
	})
	t.Run("finds_a_key_that_Google_has_under_another_name", func(t *testing.T) {
		f.setDamage(func(m proto.Message) {
			if r, ok := m.(*kmspb.EncryptResponse); ok {
				r.Name = strings.Replace(r.Name, "acme-prod", "123456789012", 1)
			}
		})
		defer f.setDamage(nil)
		_, err := check(t, "app", key)
		says(t, err, kmskey.ErrInvalid, "with the project's id and not its number")
	})
	t.Run("what_is_no_want_of_a_permission_is_not_taken_for_one", func(t *testing.T) {
		refused := because(t, codes.PermissionDenied, "Cloud Key Management Service (KMS) API has not been used in project 7 before or it is disabled.", "SERVICE_DISABLED")
		// At each of the two calls: after a wrap that went well, too.
		for from := range 2 {
			n := 0
			f.setBefore(func(context.Context, int) error {
				if n++; n > from {
					return refused
				}
				return nil
			})
			made, err := check(t, "app", key)
			says(t, err, kmskey.ErrDenied, "enable the API cloudkms.googleapis.com")
			if made != from+1 {
				t.Errorf("%d calls", made)
			}
		}
		f.setBefore(nil)
	})
	t.Run("finds_a_service_that_is_away", func(t *testing.T) {
		for principal, from := range map[string]int{"app": 0, "writer": 1, "reader": 1} {
			n := 0
			f.setBefore(func(context.Context, int) error {
				if n++; n > from {
					return status.Error(codes.Unavailable, "The service is currently unavailable.")
				}
				return nil
			})
			_, err := check(t, principal, key)
			says(t, err, kmskey.ErrUnavailable, "currently unavailable")
		}
		f.setBefore(nil)
	})
	t.Run("finds_a_service_that_is_none", func(t *testing.T) {
		other := []byte(strings.Repeat("x", kmskey.DEKSize))
		f.setDamage(func(m proto.Message) {
			if r, ok := m.(*kmspb.DecryptResponse); ok {
				r.Plaintext, r.PlaintextCrc32C = other, crc32c(other)
			}
		})
		defer f.setDamage(nil)
		_, err := check(t, "app", key)
		says(t, err, kmskey.ErrInvalid, "gave back another data key", "is the endpoint Cloud KMS?")
	})
	t.Run("never_waits_longer_than_its_timeout", func(t *testing.T) {
		f.setBefore(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		defer f.setBefore(nil)
		err := provider(t, f.client(t, "app"), key, gcpkms.Config{Timeout: 50 * time.Millisecond}).Check(t.Context())
		says(t, err, kmskey.ErrUnavailable, "Config.Timeout")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no DeadlineExceeded", err)
		}
	})
}
