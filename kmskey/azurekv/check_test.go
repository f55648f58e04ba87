package azurekv_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/azurekv"
)

func TestCheck(t *testing.T) {
	f := start(t)
	key := f.createKey(t, "rows")
	check := func(t *testing.T, principal, key string) (calls int, err error) {
		t.Helper()
		before := f.count()
		err = provider(t, f.client(t, principal), key, azurekv.Config{}).Check(t.Context())
		if err != nil && !strings.HasPrefix(err.Error(), "kmskey: check with azure key ") {
			t.Errorf("%v is no error of a check", err)
		}
		return f.count() - before, err
	}
	t.Run("any_one_duty_is_enough", func(t *testing.T) {
		for _, principal := range []string{"app", "reader", "writer"} {
			for _, key := range []string{key, key + "/" + f.keys["rows"][0].id} {
				if n, err := check(t, principal, key); err != nil || n != 2 {
					t.Errorf("%s: %v, %d calls", principal, err, n)
				}
			}
		}
	})
	t.Run("finds_who_may_do_neither", func(t *testing.T) {
		_, err := check(t, "nobody", key)
		says(t, err, kmskey.ErrDenied, "Microsoft.KeyVault/vaults/keys/wrap/action", "unwrap/action", "a new grant takes some minutes")
	})
	t.Run("finds_a_credential_without_a_token", func(t *testing.T) {
		p := provider(t, f.clientOf(t, credential{err: errors.New("no identity here")}), key, azurekv.Config{})
		says(t, p.Check(t.Context()), kmskey.ErrDenied, "gave no token for this vault")
	})
	t.Run("finds_a_key_that_is_not_there_for_each_duty", func(t *testing.T) {
		for _, principal := range []string{"app", "reader", "writer"} {
			_, err := check(t, principal, key+"-none")
			says(t, err, kmskey.ErrNotFound, "check vault, name and version of the key")
		}
	})
	t.Run("finds_states", func(t *testing.T) {
		defer f.setState("rows", 0, "")
		f.setState("rows", 0, "disabled")
		for _, principal := range []string{"app", "reader", "writer"} {
			_, err := check(t, principal, key)
			says(t, err, kmskey.ErrDisabled, "enable this version of the key")
		}
		f.setState("rows", 0, "expired")
		_, err := check(t, "writer", key)
		says(t, err, kmskey.ErrDisabled, "outside its dates")
		_, err = check(t, "reader", key) // it still unwraps
		must(t, err)
	})
	t.Run("what_is_no_want_of_a_permission_is_not_taken_for_one", func(t *testing.T) {
		for inner, text := range map[string]string{"KeyOperationForbidden": "the key itself does not permit this", "ForbiddenByFirewall": "firewall refused this network"} {
			// At each of the two calls: after a wrap that went well, too.
			for from := range 2 {
				n := 0
				f.setBefore(func(context.Context, int) *answer {
					if n++; n > from {
						return &answer{status: 403, code: "Forbidden", inner: inner}
					}
					return nil
				})
				made, err := check(t, "app", key)
				says(t, err, kmskey.ErrDenied, text)
				if made != from+1 {
					t.Errorf("%d calls", made)
				}
			}
		}
		f.setBefore(nil)
	})
	t.Run("access_policies_are_permissions_too", func(t *testing.T) {
		n := 0
		f.setBefore(func(context.Context, int) *answer {
			if n++; n == 2 {
				return &answer{status: 403, code: "Forbidden", inner: "ForbiddenByPolicy"}
			}
			return nil
		})
		defer f.setBefore(nil)
		_, err := check(t, "app", key)
		must(t, err)
	})
	t.Run("finds_a_service_that_is_away", func(t *testing.T) {
		for principal, from := range map[string]int{"app": 0, "writer": 1} {
			n := 0
			f.setBefore(func(context.Context, int) *answer {
				if n++; n > from {
					return outage
				}
				return nil
			})
			_, err := check(t, principal, key)
			says(t, err, kmskey.ErrUnavailable, "temporarily unavailable")
		}
		f.setBefore(nil)
	})
	t.Run("finds_the_client_of_another_vault", func(t *testing.T) {
		f.setRewrite(func(kid, value string) string {
			return fmt.Sprintf(`{"kid":%q,"value":%q}`, strings.Replace(kid, "acme", "other", 1), value)
		})
		defer f.setRewrite(nil)
		_, err := check(t, "app", key)
		says(t, err, kmskey.ErrInvalid, "make the client for the vault that the key's identifier names")
	})
	t.Run("finds_a_service_that_is_none", func(t *testing.T) {
		f.setRewrite(func(kid, value string) string {
			raw, err := base64.RawURLEncoding.DecodeString(value)
			if err == nil && len(raw) == 64 { // what came out, of which the data key is the first half
				raw[0] ^= 1
				value = base64.RawURLEncoding.EncodeToString(raw)
			}
			return fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, value)
		})
		defer f.setRewrite(nil)
		_, err := check(t, "app", key)
		says(t, err, kmskey.ErrInvalid, "gave back another data key", "is the endpoint Azure Key Vault?")
	})
	t.Run("never_waits_longer_than_its_timeout", func(t *testing.T) {
		f.setBefore(func(ctx context.Context, _ int) *answer { <-ctx.Done(); return outage })
		defer f.setBefore(nil)
		err := provider(t, f.client(t, "app"), key, azurekv.Config{Timeout: 100 * time.Millisecond}).Check(t.Context())
		says(t, err, kmskey.ErrUnavailable, "Config.Timeout")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no DeadlineExceeded", err)
		}
	})
}
