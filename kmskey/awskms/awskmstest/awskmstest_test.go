package awskmstest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func start(t *testing.T) *awskmstest.Server { return awskmstest.New(t, awskmstest.Config{}) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks an error's code, over the wire or from a method of the server.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	got := ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		got = api.ErrorCode()
	} else if fault, ok := errors.AsType[*awskmstest.Fault](err); ok {
		got = fault.Code
	}
	if got != code {
		t.Errorf("%v, want %s", err, code)
	}
}

var (
	ctx   = context.Background()
	words = map[string]string{"model": "Patient", "id": "7"}
)

func encrypt(t *testing.T, c *kms.Client, key, plaintext string) []byte {
	t.Helper()
	out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte(plaintext), EncryptionContext: words})
	must(t, err)
	return out.CiphertextBlob
}

func decrypt(c *kms.Client, key *string, blob []byte, ec map[string]string) (string, error) {
	out, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: key, CiphertextBlob: blob, EncryptionContext: ec})
	if err != nil {
		return "", err
	}
	return string(out.Plaintext), nil
}

func TestEncryptDecrypt(t *testing.T) {
	srv := start(t)
	c, key, other := srv.Client(), srv.CreateKey(), srv.CreateKey()
	out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("secret"), EncryptionContext: words})
	must(t, err)
	blob := out.CiphertextBlob
	if *out.KeyId != key || bytes.Contains(blob, []byte("secret")) {
		t.Errorf("%s: %q", *out.KeyId, blob)
	}
	t.Run("opens_with_and_without_the_key's_name", func(t *testing.T) {
		id := key[strings.LastIndex(key, "/")+1:]
		for _, name := range []*string{nil, &key, &id} {
			got, err := decrypt(c, name, blob, words)
			if err != nil || got != "secret" {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
	t.Run("the_context_is_enforced", func(t *testing.T) {
		for name, ec := range map[string]map[string]string{
			"none":             nil,
			"another_value":    {"model": "Patient", "id": "8"},
			"a_missing_pair":   {"model": "Patient"},
			"an_extra_pair":    {"model": "Patient", "id": "7", "x": ""},
			"exchanged_values": {"model": "7", "id": "Patient"},
			"moved_bytes":      {"mode": "lPatient", "id": "7"},
		} {
			if _, err := decrypt(c, &key, blob, ec); err == nil {
				t.Errorf("%s: opened", name)
			} else {
				refused(t, err, "InvalidCiphertextException")
			}
		}
	})
	t.Run("every_altered_byte_is_refused", func(t *testing.T) {
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 1
			if _, err := decrypt(c, &key, bad, words); err == nil {
				t.Errorf("byte %d", i)
			}
			if _, err := decrypt(c, nil, bad, words); err == nil {
				t.Errorf("byte %d, without the key's name", i)
			}
		}
	})
	t.Run("another_key_is_the_incorrect_one", func(t *testing.T) {
		_, err := decrypt(c, &other, blob, words)
		refused(t, err, "IncorrectKeyException")
	})
	t.Run("limits_are_those_of_AWS", func(t *testing.T) {
		encrypt(t, c, key, strings.Repeat("x", 4096))
		for _, n := range []int{0, 4097} {
			_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: make([]byte, n)})
			refused(t, err, "ValidationException")
		}
		for _, n := range []int{0, 6145} {
			_, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &key, CiphertextBlob: make([]byte, n)})
			refused(t, err, "ValidationException")
		}
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: map[string]string{"a": strings.Repeat("x", 8192)}})
		refused(t, err, "ValidationException")
	})
	t.Run("rotation_keeps_old_ciphertexts_readable", func(t *testing.T) {
		must(t, srv.RotateKeyOnDemand(key))
		_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &key})
		must(t, err)
		newer := encrypt(t, c, key, "newer")
		for _, b := range [][]byte{blob, newer} {
			if _, err := decrypt(c, &key, b, words); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestReEncrypt(t *testing.T) {
	srv := start(t)
	from, to := srv.CreateKey(), srv.CreateKey()
	c := srv.NewPrincipal("rotator", "kms:ReEncryptFrom", "kms:ReEncryptTo").Client()
	blob := encrypt(t, srv.Client(), from, "secret")
	there := map[string]string{"id": "8"}
	out, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{
		CiphertextBlob: blob, SourceKeyId: &from, SourceEncryptionContext: words, DestinationKeyId: &to, DestinationEncryptionContext: there,
	})
	must(t, err)
	if *out.KeyId != to || *out.SourceKeyId != from {
		t.Errorf("%s from %s", *out.KeyId, *out.SourceKeyId)
	}
	if got, err := decrypt(srv.Client(), &to, out.CiphertextBlob, there); err != nil || got != "secret" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = decrypt(c, &to, out.CiphertextBlob, there)
	refused(t, err, "AccessDeniedException")
	_, err = c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: there, DestinationKeyId: &to})
	refused(t, err, "InvalidCiphertextException")
	_, err = c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: &to, SourceEncryptionContext: words, DestinationKeyId: &to})
	refused(t, err, "IncorrectKeyException")
}

func TestGenerateDataKey(t *testing.T) {
	srv := start(t)
	key := srv.CreateKey()
	c := srv.Client()
	out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: words})
	must(t, err)
	got, err := decrypt(c, out.KeyId, out.CiphertextBlob, words)
	if err != nil || got != string(out.Plaintext) || len(got) != 32 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	without, err := c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &key, NumberOfBytes: aws.Int32(24)})
	must(t, err)
	if got, err := decrypt(c, nil, without.CiphertextBlob, nil); err != nil || len(got) != 24 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key})
	refused(t, err, "ValidationException")
}

func TestKeyStates(t *testing.T) {
	srv := start(t)
	c, key := srv.Client(), srv.CreateKey()
	must(t, srv.CreateAlias("alias/app", key))
	blob := encrypt(t, c, key, "secret")
	uses := map[string]func() error{
		"encrypt": func() error {
			_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/app"), Plaintext: []byte("x")})
			return err
		},
		"decrypt":                  func() error { _, err := decrypt(c, &key, blob, words); return err },
		"decrypt_without_its_name": func() error { _, err := decrypt(c, nil, blob, words); return err },
		"generate": func() error {
			_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256})
			return err
		},
		"reencrypt": func() error {
			_, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: words, DestinationKeyId: &key})
			return err
		},
	}
	all := func(t *testing.T, code string) {
		t.Helper()
		for name, use := range uses {
			if err := use(); code != "" {
				refused(t, err, code)
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	state := func(t *testing.T, want types.KeyState) {
		t.Helper()
		out, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/app")})
		must(t, err)
		m := out.KeyMetadata
		if m.KeyState != want || m.Enabled != (want == types.KeyStateEnabled) || *m.Arn != key || (m.DeletionDate != nil) != (want == types.KeyStatePendingDeletion) {
			t.Errorf("%s, enabled %t, %s", m.KeyState, m.Enabled, *m.Arn)
		}
	}
	t.Run("enabled", func(t *testing.T) { all(t, ""); state(t, types.KeyStateEnabled) })
	t.Run("disabled", func(t *testing.T) {
		_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key})
		must(t, err)
		all(t, "DisabledException")
		state(t, types.KeyStateDisabled)
	})
	t.Run("enabled_again", func(t *testing.T) {
		_, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key})
		must(t, err)
		all(t, "")
	})
	t.Run("pending_deletion", func(t *testing.T) {
		_, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)})
		must(t, err)
		all(t, "KMSInvalidStateException")
		state(t, types.KeyStatePendingDeletion)
		refused(t, srv.EnableKey(key), "KMSInvalidStateException")
	})
	t.Run("cancelled_deletion_leaves_it_disabled", func(t *testing.T) {
		_, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &key})
		must(t, err)
		all(t, "DisabledException")
		must(t, srv.EnableKey(key))
		all(t, "")
		refused(t, srv.CancelKeyDeletion(key), "KMSInvalidStateException")
	})
	t.Run("deleted", func(t *testing.T) {
		must(t, srv.DeleteKey(key))
		_, err := decrypt(c, &key, blob, words)
		refused(t, err, "NotFoundException")
		_, err = c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/app")})
		refused(t, err, "NotFoundException")
	})
	t.Run("windows_are_7_to_30_days", func(t *testing.T) {
		key := srv.CreateKey()
		for _, n := range []int32{6, 31} {
			_, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &n})
			refused(t, err, "ValidationException")
		}
	})
}

func TestAliases(t *testing.T) {
	srv := start(t)
	c, a, b := srv.Client(), srv.CreateKey(), srv.CreateKey()
	name := aws.String("alias/app")
	_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: &a})
	must(t, err)
	points := func(want string) {
		t.Helper()
		for _, id := range []string{*name, "arn:aws:kms:" + srv.Region() + ":" + srv.Account() + ":" + *name} {
			out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
			if err != nil || *out.KeyId != want {
				t.Errorf("%s: %v", id, err)
			}
		}
	}
	points(a)
	_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: name, TargetKeyId: &b})
	refused(t, err, "AlreadyExistsException")
	_, err = c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: name, TargetKeyId: &b})
	must(t, err)
	points(b)
	refused(t, srv.UpdateAlias("alias/none", a), "NotFoundException")
	refused(t, srv.CreateAlias("app", a), "ValidationException")
	refused(t, srv.CreateAlias("alias/aws/app", a), "InvalidAliasNameException")
	_, err = c.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: name})
	must(t, err)
	_, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: name, Plaintext: []byte("x")})
	refused(t, err, "NotFoundException")
}

func TestPermissions(t *testing.T) {
	srv := start(t)
	key, other := srv.CreateKey(), srv.CreateKey()
	blob := encrypt(t, srv.Client(), key, "secret")
	t.Run("each_action_on_its_own", func(t *testing.T) {
		writer := srv.NewPrincipal("writer", "kms:Encrypt")
		encrypt(t, writer.Client(), key, "x")
		_, err := decrypt(writer.Client(), &key, blob, words)
		refused(t, err, "AccessDeniedException")
		want := "User: arn:aws:iam::" + srv.Account() + ":user/writer is not authorized to perform: kms:Decrypt on resource: " + key
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		writer.Allow("kms:Decrypt")
		if _, err := decrypt(writer.Client(), &key, blob, words); err != nil {
			t.Error(err)
		}
		writer.Deny("kms:Decrypt")
		_, err = decrypt(writer.Client(), &key, blob, words)
		refused(t, err, "AccessDeniedException")
	})
	t.Run("on_one_key_alone", func(t *testing.T) {
		p := srv.NewPrincipal("one")
		p.AllowOn(key, "kms:Encrypt")
		encrypt(t, p.Client(), key, "x")
		_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &other, Plaintext: []byte("x")})
		refused(t, err, "AccessDeniedException")
	})
	t.Run("management_too", func(t *testing.T) {
		p := srv.NewPrincipal("nobody").Client()
		_, err := p.CreateKey(ctx, &kms.CreateKeyInput{})
		refused(t, err, "AccessDeniedException")
		_, err = p.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key})
		refused(t, err, "AccessDeniedException")
		out, err := srv.Client().CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("mine")})
		must(t, err)
		encrypt(t, srv.Client(), *out.KeyMetadata.Arn, "x")
	})
	t.Run("another_account_needs_it_by_key_and_is_not_told_what_exists", func(t *testing.T) {
		p := srv.NewPrincipalIn("999988887777", "stranger", "kms:*")
		for _, arn := range []string{key, strings.Replace(key, "key/", "key/0", 1)} {
			_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("x")})
			refused(t, err, "AccessDeniedException")
		}
		p.AllowOn(key, "kms:Encrypt")
		encrypt(t, p.Client(), key, "x")
		id := key[strings.LastIndex(key, "/")+1:] // means a key of the stranger's own account
		_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		refused(t, err, "NotFoundException")
	})
}

func TestRegions(t *testing.T) {
	srv := start(t)
	key := srv.CreateKey()
	there := srv.Client(func(o *kms.Options) { o.Region = "us-east-1" })
	_, err := there.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	refused(t, err, "NotFoundException")
	far, err := srv.CreateKeyIn(srv.Account(), "us-east-1")
	must(t, err)
	blob := encrypt(t, there, far, "x")
	_, err = decrypt(srv.Client(), nil, blob, words)
	refused(t, err, "AccessDeniedException")
	if _, err := srv.CreateKeyIn(srv.Account(), "xx-nowhere-1"); err == nil {
		t.Error("a key in a region that is not served")
	}
	_, err = srv.Client(func(o *kms.Options) { o.Region = "eu-west-3" }).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &key})
	refused(t, err, "InvalidSignatureException")
}

func TestUnsupported(t *testing.T) {
	srv := start(t)
	c, key := srv.Client(), srv.CreateKey()
	_, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{})
	refused(t, err, "UnsupportedOperationException")
	_, err = c.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &key, GrantId: aws.String("x"), DryRun: aws.Bool(true)})
	refused(t, err, "UnsupportedOperationException")
	_, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})
	refused(t, err, "InvalidKeyUsageException")
	_, err = c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("nonsense"), Plaintext: []byte("x")})
	refused(t, err, "NotFoundException")
}

// TestSignatures sends requests made by hand: what the SDK signs is what counts, all of it.
func TestSignatures(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	srv := awskmstest.New(t, awskmstest.Config{Now: func() time.Time { return now }})
	key := srv.CreateKey()
	creds := srv.NewPrincipal("hand", "kms:*").Credentials()
	type request struct {
		creds           aws.Credentials
		service, region string
		at              time.Time
		body, sent      string
		after           func(r *http.Request)
	}
	send := func(t *testing.T, q request) (int, string) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, srv.URL()+"/", strings.NewReader(q.sent))
		must(t, err)
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
		sum := sha256.Sum256([]byte(q.body))
		must(t, v4.NewSigner().SignHTTP(ctx, q.creds, r, hex.EncodeToString(sum[:]), q.service, q.region, q.at))
		if q.after != nil {
			q.after(r)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		must(t, err)
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Header.Get("X-Amzn-Errortype")
	}
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	body := `{"KeyId":"` + key + `"}`
	good := request{creds: creds, service: "kms", region: srv.Region(), at: now, body: body, sent: body}
	for _, c := range []struct {
		name   string
		change func(q *request)
		code   string
	}{
		{"a_good_one_is_taken", func(*request) {}, ""},
		{"four_minutes_early_is_taken", func(q *request) { q.at = now.Add(4 * time.Minute) }, ""},
		{"four_minutes_late_is_taken", func(q *request) { q.at = now.Add(-4 * time.Minute) }, ""},
		{"six_minutes_early", func(q *request) { q.at = now.Add(6 * time.Minute) }, "InvalidSignatureException"},
		{"six_minutes_late", func(q *request) { q.at = now.Add(-6 * time.Minute) }, "InvalidSignatureException"},
		{"a_wrong_secret", func(q *request) { q.creds.SecretAccessKey += "x" }, "InvalidSignatureException"},
		{"an_unknown_access_key", func(q *request) { q.creds.AccessKeyID = "AKIAUNKNOWN" }, "UnrecognizedClientException"},
		{"a_session_token", func(q *request) { q.creds.SessionToken = "x" }, "UnrecognizedClientException"},
		{"another_service", func(q *request) { q.service = "s3" }, "InvalidSignatureException"},
		{"another_region", func(q *request) { q.region = "eu-west-3" }, "InvalidSignatureException"},
		{"an_altered_body", func(q *request) { q.sent = strings.Replace(body, "KeyId", "Keyid", 1) }, "InvalidSignatureException"},
		{"an_altered_header", func(q *request) {
			q.after = func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.DisableKey") }
		}, "InvalidSignatureException"},
		{"an_altered_date", func(q *request) {
			q.after = func(r *http.Request) { r.Header.Set("X-Amz-Date", now.Add(time.Second).Format("20060102T150405Z")) }
		}, "InvalidSignatureException"},
		{"an_altered_query", func(q *request) { q.after = func(r *http.Request) { r.URL.RawQuery = "x=1" } }, "InvalidSignatureException"},
		{"a_target_that_is_not_signed", func(q *request) {
			q.after = func(r *http.Request) {
				r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";x-amz-target", "", 1))
			}
		}, "InvalidSignatureException"},
		{"no_authorization", func(q *request) { q.after = func(r *http.Request) { r.Header.Del("Authorization") } }, "MissingAuthenticationTokenException"},
		{"half_an_authorization", func(q *request) {
			q.after = func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }
		}, "IncompleteSignatureException"},
		{"no_date", func(q *request) { q.after = func(r *http.Request) { r.Header.Del("X-Amz-Date") } }, "IncompleteSignatureException"},
		{"another_content_type", func(q *request) { q.after = func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") } }, "UnknownOperationException"},
		{"another_method", func(q *request) { q.after = func(r *http.Request) { r.Method = http.MethodPut } }, "UnknownOperationException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := good
			c.change(&q)
			status, code := send(t, q)
			if code != c.code || (status == http.StatusOK) != (c.code == "") {
				t.Errorf("%d %s, want %s", status, code, c.code)
			}
		})
	}
}

func TestHook(t *testing.T) {
	t.Run("sees_who_asks_for_what", func(t *testing.T) {
		srv := start(t)
		key := srv.CreateKey()
		var got awskmstest.Call
		srv.SetBefore(func(_ context.Context, c awskmstest.Call) error { got = c; return nil })
		encrypt(t, srv.NewPrincipal("app", "kms:*").Client(), key, "x")
		if got.Operation != "Encrypt" || got.Principal != "app" || got.Region != srv.Region() || got.KeyID != key || got.N != 1 || got.Context["id"] != "7" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("answers_in_its_place", func(t *testing.T) {
		srv := start(t)
		key := srv.CreateKey()
		for code, err := range map[string]error{
			"ThrottlingException":  awskmstest.Throttled(),
			"KMSInternalException": awskmstest.Outage(),
			"Custom":               &awskmstest.Fault{Code: "Custom", Status: 418},
		} {
			srv.SetBefore(func(context.Context, awskmstest.Call) error { return err })
			_, err := srv.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			refused(t, err, code)
		}
		srv.SetBefore(func(context.Context, awskmstest.Call) error { return errors.New("anything else") })
		_, err := srv.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		refused(t, err, "KMSInternalException")
		srv.SetBefore(func(context.Context, awskmstest.Call) error { return awskmstest.ErrDropConnection })
		_, err = srv.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		if _, ok := errors.AsType[smithy.APIError](err); err == nil || ok {
			t.Errorf("dropped: %v", err)
		}
		srv.SetBefore(nil)
		encrypt(t, srv.Client(), key, "x")
	})
	t.Run("holds_calls_and_the_most_in_flight_is_seen", func(t *testing.T) {
		const n = 7
		srv := start(t)
		key := srv.CreateKey()
		var arrived sync.WaitGroup
		arrived.Add(n)
		release := make(chan struct{})
		srv.SetBefore(func(context.Context, awskmstest.Call) error { arrived.Done(); <-release; return nil })
		c := srv.Client()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if _, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}); err != nil {
					t.Error(err)
				}
			})
		}
		arrived.Wait()
		close(release)
		wg.Wait()
		if srv.MaxInFlight() != n || srv.Calls("Encrypt") != n || srv.TotalCalls() != n {
			t.Errorf("at most %d, %d calls", srv.MaxInFlight(), srv.TotalCalls())
		}
		srv.ResetCounts()
		if srv.TotalCalls() != 0 {
			t.Error("ResetCounts left counts")
		}
	})
	t.Run("is_released_when_the_client_goes_away", func(t *testing.T) {
		srv := start(t)
		key := srv.CreateKey()
		arrived, released := make(chan struct{}), make(chan struct{})
		srv.SetBefore(func(ctx context.Context, _ awskmstest.Call) error {
			close(arrived)
			<-ctx.Done()
			close(released)
			return ctx.Err()
		})
		call, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() {
			_, err := srv.Client().Encrypt(call, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			done <- err
		}()
		<-arrived
		cancel()
		<-released
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("is_released_when_the_server_closes", func(t *testing.T) {
		srv, err := awskmstest.NewServer(awskmstest.Config{})
		must(t, err)
		key := srv.CreateKey()
		arrived, released := make(chan struct{}), make(chan struct{})
		srv.SetBefore(func(ctx context.Context, _ awskmstest.Call) error {
			close(arrived)
			<-ctx.Done()
			close(released)
			return ctx.Err()
		})
		done := make(chan error)
		go func() {
			_, err := srv.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
			done <- err
		}()
		<-arrived
		srv.Close()
		<-released
		if err := <-done; err == nil {
			t.Error("an answer from a closed server")
		}
	})
}

func TestNewServerRefuses(t *testing.T) {
	for name, cfg := range map[string]awskmstest.Config{
		"a_region_that_is_none": {Regions: []string{"Frankfurt"}},
		"a_short_account":       {Account: "123"},
	} {
		if _, err := awskmstest.NewServer(cfg); err == nil || !strings.HasPrefix(err.Error(), "awskmstest: new server: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	srv := awskmstest.New(t, awskmstest.Config{Regions: []string{"us-gov-west-1"}, Account: "123456789012"})
	if arn := srv.CreateKey(); !strings.HasPrefix(arn, "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/") {
		t.Error(arn)
	}
	if srv.Region() != "us-gov-west-1" || srv.Account() != "123456789012" || !strings.HasPrefix(srv.URL(), "http://127.0.0.1:") {
		t.Error(srv.Region(), srv.Account(), srv.URL())
	}
}

func ExampleNewServer() {
	srv, err := awskmstest.NewServer(awskmstest.Config{})
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	key := srv.CreateKey()
	writer := srv.NewPrincipal("writer", "kms:Encrypt").Client()
	_, err = writer.Decrypt(context.Background(), &kms.DecryptInput{KeyId: &key, CiphertextBlob: []byte("…")})
	denied, _ := errors.AsType[smithy.APIError](err)
	fmt.Println(denied.ErrorCode(), srv.Calls("Decrypt"))
	// Output: AccessDeniedException 1
}
