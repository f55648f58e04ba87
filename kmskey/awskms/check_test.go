package awskms_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func TestCheck(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	key := srv.CreateKey()
	must(t, srv.CreateAlias("alias/app", key))
	t.Run("a_good_key_under_each_name", func(t *testing.T) {
		for _, name := range []string{key, keyID(key), "alias/app", "arn:aws:kms:" + srv.Region() + ":" + srv.Account() + ":alias/app"} {
			srv.ResetCounts()
			if err := provider(t, srv.Client(), name, awskms.Config{}).Check(t.Context()); err != nil || srv.TotalCalls() != 1 {
				t.Errorf("%s: %v, %d calls", name, err, srv.TotalCalls())
			}
		}
	})
	t.Run("teaches_the_account", func(t *testing.T) {
		p := provider(t, srv.Client(), "alias/app", awskms.Config{})
		far, err := srv.CreateKeyIn(otherAccount, srv.Region())
		must(t, err)
		w := kmskey.Wrapped{Service: "aws", KeyRef: far, Blob: []byte{1}}
		if !p.Owns(w) {
			t.Error("knows the account beforehand: the test proves nothing")
		}
		must(t, p.Check(t.Context()))
		if p.Owns(w) {
			t.Error("still takes a key of another account for its own")
		}
	})
	t.Run("finds_a_key_that_is_not_there", func(t *testing.T) {
		says(t, provider(t, srv.Client(), "alias/ap", awskms.Config{}).Check(t.Context()), kmskey.ErrNotFound, "check the key's name, account and region")
	})
	t.Run("finds_a_key_of_another_account", func(t *testing.T) {
		err := provider(t, srv.Client(), "alias/app", awskms.Config{Account: otherAccount}).Check(t.Context())
		says(t, err, kmskey.ErrInvalid, "check Config.Account")
	})
	t.Run("finds_states_and_says_until_when", func(t *testing.T) {
		key := srv.CreateKey()
		p := provider(t, srv.Client(), key, awskms.Config{})
		must(t, srv.DisableKey(key))
		says(t, p.Check(t.Context()), kmskey.ErrDisabled, "enable it, or list its successor first")
		must(t, srv.ScheduleKeyDeletion(key))
		err := p.Check(t.Context())
		says(t, err, kmskey.ErrDisabled, "to be deleted at "+time.Now().UTC().AddDate(0, 0, 30).Format("2006-01-02T"))
		says(t, err, kmskey.ErrDisabled, "cancel-key-deletion")
	})
	t.Run("finds_bad_credentials_in_one_request", func(t *testing.T) {
		client := srv.Client(func(o *kms.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "a secret of some length"}, nil
			})
		})
		srv.ResetCounts()
		says(t, provider(t, client, key, awskms.Config{}).Check(t.Context()), kmskey.ErrDenied, "AWS does not know the client's access key")
		if srv.TotalCalls() != 1 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("without_DescribeKey_any_one_duty_is_enough", func(t *testing.T) {
		for _, duty := range [][]string{{"kms:Encrypt"}, {"kms:Decrypt"}, {"kms:ReEncryptFrom", "kms:ReEncryptTo"}, {"kms:GenerateDataKey"}, {"kms:GenerateDataKeyWithoutPlaintext"}} {
			if err := provider(t, srv.NewPrincipal("duty", duty...).Client(), key, awskms.Config{}).Check(t.Context()); err != nil {
				t.Errorf("%v: %v", duty, err)
			}
		}
		srv.ResetCounts()
		nobody := provider(t, srv.NewPrincipal("nobody").Client(), key, awskms.Config{})
		says(t, nobody.Check(t.Context()), kmskey.ErrDenied, "allow this principal kms:DescribeKey on the key, and what it is to do")
		if srv.TotalCalls() != 6 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("without_DescribeKey_a_dry_run_finds_states_too", func(t *testing.T) {
		key := srv.CreateKey()
		must(t, srv.DisableKey(key))
		p := provider(t, srv.NewPrincipal("writer", "kms:Encrypt").Client(), key, awskms.Config{})
		says(t, p.Check(t.Context()), kmskey.ErrDisabled, "enable it")
	})
	t.Run("an_endpoint_that_ignores_dry_runs_is_found", func(t *testing.T) {
		client := wet{srv.Client()}
		says(t, provider(t, client, key, awskms.Config{}).Check(t.Context()), kmskey.ErrInvalid, "did what it was to try only")
	})
	t.Run("finds_keys_of_another_kind", func(t *testing.T) {
		for _, c := range []struct {
			from, to string
			kind     error
			says     string
		}{
			{`"KeyUsage":"ENCRYPT_DECRYPT"`, `"KeyUsage":"SIGN_VERIFY"`, kmskey.ErrInvalid, "make a symmetric key for encryption"},
			{`"KeySpec":"SYMMETRIC_DEFAULT"`, `"KeySpec":"RSA_2048"`, kmskey.ErrInvalid, "make a symmetric key for encryption"},
			{`"KeyManager":"CUSTOMER"`, `"KeyManager":"AWS"`, kmskey.ErrInvalid, "AWS manages it for services of its own"},
			{`"Arn":"` + key + `"`, `"Arn":"x"`, kmskey.ErrInvalid, "is the endpoint AWS KMS?"},
			{`"KeyState":"Enabled"`, `"KeyState":"Unavailable"`, kmskey.ErrUnavailable, "the key is in a custom key store"},
			{`"KeyState":"Enabled"`, `"KeyState":"PendingImport"`, kmskey.ErrDisabled, "import the same material again"},
			{`"KeyState":"Enabled"`, `"KeyState":"Creating"`, kmskey.ErrUnavailable, "try again in some minutes"},
		} {
			client := tampering(srv, func(b []byte) []byte {
				if !bytes.Contains(b, []byte(c.from)) {
					t.Errorf("%s does not hold %s", b, c.from)
				}
				return bytes.ReplaceAll(b, []byte(c.from), []byte(c.to))
			})
			says(t, provider(t, client, key, awskms.Config{}).Check(t.Context()), c.kind, c.says)
		}
	})
	t.Run("never_waits_longer_than_its_timeout", func(t *testing.T) {
		srv.SetBefore(func(ctx context.Context, _ awskmstest.Call) error { <-ctx.Done(); return ctx.Err() })
		defer srv.SetBefore(nil)
		err := provider(t, srv.Client(), key, awskms.Config{Timeout: 20 * time.Millisecond}).Check(t.Context())
		says(t, err, kmskey.ErrUnavailable, "Config.Timeout")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no DeadlineExceeded", err)
		}
	})
}

// wet is a service that may not describe its key and does what it is asked to try.
type wet struct{ awskms.API }

func (w wet) DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, o ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	in.KeyId = aws.String("arn:aws:kms:eu-central-1:" + otherAccount + ":key/1234abcd-12ab-34cd-56ef-1234567890ab") // denied
	return w.API.DescribeKey(ctx, in, o...)
}

func (w wet) Encrypt(ctx context.Context, in *kms.EncryptInput, o ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	in.DryRun = nil
	return w.API.Encrypt(ctx, in, o...)
}
