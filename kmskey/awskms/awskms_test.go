package awskms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

const otherAccount = "999988887777"

func provider(t *testing.T, client awskms.API, key string, cfg awskms.Config) *awskms.Provider {
	t.Helper()
	p, err := awskms.New(client, key, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keyID(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func row(t *testing.T, id int64) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	must(t, err)
	return ec
}

func wrap(t *testing.T, p kmskey.Provider, ec kmskey.Context) kmskey.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), kmskey.NewDEK(), ec)
	must(t, err)
	return w
}

// subject is a provider on a server of its own, configured by one form of the key's name.
func subject(t *testing.T, name func(srv *awskmstest.Server, arn string) string) kmskeytest.Subject {
	srv := awskmstest.New(t, awskmstest.Config{})
	arn := srv.CreateKey()
	must(t, srv.CreateAlias("alias/app", arn))
	foreign, err := srv.CreateKeyIn(otherAccount, srv.Region())
	must(t, err)
	app := srv.NewPrincipal("app", "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext")
	app.AllowOn(foreign, "kms:*") // so that a refusal is the provider's, not the service's
	configured := name(srv, arn)
	// A thousand calls at once on a loaded machine under the race detector may take long; no claim here is about time.
	p := provider(t, app.Client(), configured, awskms.Config{Timeout: 5 * time.Minute})
	fault := func(err error) func(*testing.T) func() {
		return func(*testing.T) func() {
			srv.SetBefore(func(context.Context, awskmstest.Call) error { return err })
			return func() { srv.SetBefore(nil) }
		}
	}
	refs := []string{
		foreign,
		strings.Replace(arn, srv.Region(), "us-east-1", 1),
		strings.Replace(arn, srv.Account(), otherAccount, 1),
		strings.Replace(arn, "arn:aws:", "arn:aws-cn:", 1),
		strings.Replace(arn, ":kms:", ":s3:", 1),
		"arn:aws:kms:" + srv.Region() + ":" + srv.Account() + ":alias/app",
		"alias/app",
		keyID(arn),
		strings.ToUpper(arn),
		arn + "0",
	}
	if !strings.Contains(configured, "alias/") {
		refs = append(refs, srv.CreateKey()) // of the same account and region, and not configured
	}
	return kmskeytest.Subject{
		Provider:    p,
		ForeignRefs: refs,
		Calls:       srv.TotalCalls,
		Disable: func(t *testing.T) func() {
			must(t, srv.DisableKey(arn))
			return func() { must(t, srv.EnableKey(arn)) }
		},
		Remove:   func(t *testing.T) { must(t, srv.DeleteKey(arn)) },
		Outage:   fault(awskmstest.Outage()),
		Throttle: fault(awskmstest.Throttled()),
		Hang: func(*testing.T) (<-chan struct{}, func()) {
			arrived := make(chan struct{}, 1)
			srv.SetBefore(func(ctx context.Context, _ awskmstest.Call) error {
				arrived <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			return arrived, func() { srv.SetBefore(nil) }
		},
		DenyWrap: func(t *testing.T) kmskey.Provider {
			return provider(t, srv.NewPrincipal("reader", "kms:Decrypt").Client(), arn, awskms.Config{})
		},
		DenyUnwrap: func(t *testing.T) kmskey.Provider {
			return provider(t, srv.NewPrincipal("writer", "kms:Encrypt").Client(), arn, awskms.Config{})
		},
		Sibling: func(t *testing.T) kmskey.Provider { return provider(t, app.Client(), foreign, awskms.Config{}) },
		Other:   func(t *testing.T) kmskey.Provider { return provider(t, app.Client(), srv.CreateKey(), awskms.Config{}) },
	}
}

var notApplicable = map[string]string{
	"context_type": "AWS takes pairs of strings, in which 1 and \"1\" agree; the envelope's commitment holds the types",
}

func TestConformance(t *testing.T) {
	for form, name := range map[string]func(srv *awskmstest.Server, arn string) string{
		"key_id":  func(_ *awskmstest.Server, arn string) string { return keyID(arn) },
		"key_ARN": func(_ *awskmstest.Server, arn string) string { return arn },
		"alias":   func(*awskmstest.Server, string) string { return "alias/app" },
		"alias_ARN": func(srv *awskmstest.Server, _ string) string {
			return "arn:aws:kms:" + srv.Region() + ":" + srv.Account() + ":alias/app"
		},
	} {
		t.Run(form, func(t *testing.T) {
			kmskeytest.Run(t, kmskeytest.Harness{
				New:           func(t *testing.T) kmskeytest.Subject { return subject(t, name) },
				NotApplicable: notApplicable,
			})
		})
	}
	t.Run("counted", func(t *testing.T) {
		kmskeytest.Run(t, kmskeytest.Harness{
			New: func(t *testing.T) kmskeytest.Subject {
				s := subject(t, func(_ *awskmstest.Server, arn string) string { return arn })
				s.Provider = kmskeytest.NewCounter(s.Provider).Provider()
				sibling := s.Sibling
				s.Sibling = func(t *testing.T) kmskey.Provider { return kmskeytest.NewCounter(sibling(t)).Provider() }
				return s
			},
			NotApplicable: notApplicable,
		})
	})
}

// TestConformanceAtEndpoint runs the suite against a service that someone names, such as LocalStack or AWS itself, in addition to
// the fake: AWSKMS_TEST_ENDPOINT (a URL, or "aws" for the region's own), AWSKMS_TEST_KEY, AWS_REGION and an access key in the
// environment. Faults cannot be made there.
func TestConformanceAtEndpoint(t *testing.T) {
	endpoint, key := os.Getenv("AWSKMS_TEST_ENDPOINT"), os.Getenv("AWSKMS_TEST_KEY")
	if endpoint == "" && key == "" {
		t.Log("nothing asked for: AWSKMS_TEST_ENDPOINT and AWSKMS_TEST_KEY are not set; TestConformance ran against the fake")
		return
	}
	for _, name := range []string{"AWSKMS_TEST_ENDPOINT", "AWSKMS_TEST_KEY", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if os.Getenv(name) == "" {
			t.Fatalf("%s is not set", name)
		}
	}
	creds := aws.Credentials{
		AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN"),
	}
	options := kms.Options{
		Region:      os.Getenv("AWS_REGION"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil }),
	}
	if endpoint != "aws" {
		options.BaseEndpoint = aws.String(endpoint)
	}
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			return kmskeytest.Subject{
				Provider: provider(t, kms.New(options), key, awskms.Config{}),
				ForeignRefs: []string{
					"arn:aws:kms:xx-nowhere-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
					"arn:aws:kms:" + options.Region + ":000000000001:key/1234abcd-12ab-34cd-56ef-1234567890ab",
				},
			}
		},
		NotApplicable: withFaults("the service at AWSKMS_TEST_ENDPOINT is not ours to break or count", "calls", "sibling", "other"),
	})
}

// withFaults is notApplicable with an excuse for every fault, and for more.
func withFaults(why string, more ...string) map[string]string {
	na := maps.Clone(notApplicable)
	for _, name := range append(more, "disabled", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap") {
		na[name] = why
	}
	return na
}

func TestNew(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	const arn = "arn:aws:kms:eu-central-1:111122223333:key/" + id
	for _, c := range []struct{ name, key string }{
		{"key_id", id},
		{"multi_region_key_id", "mrk-1234abcd12ab34cd56ef1234567890ab"},
		{"key_ARN", arn},
		{"alias", "alias/app"},
		{"alias_with_every_character", "alias/App/prod_2-x"},
		{"alias_of_AWS", "alias/aws/s3"},
		{"alias_ARN", "arn:aws:kms:eu-central-1:111122223333:alias/app"},
	} {
		t.Run(c.name+"_is_taken", func(t *testing.T) {
			if _, err := awskms.New(srv.Client(), c.key, awskms.Config{}); err != nil {
				t.Error(err)
			}
		})
	}
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name, key string
		cfg       awskms.Config
		says      string
	}{
		{"empty", "", awskms.Config{}, "expected a key id"},
		{"alias_without_its_prefix", "app", awskms.Config{}, "an alias begins with alias/"},
		{"alias_without_a_name", "alias/", awskms.Config{}, "the alias is malformed"},
		{"alias_with_a_space", "alias/a b", awskms.Config{}, "the alias is malformed"},
		{"short_key_id", "1234abcd-12ab", awskms.Config{}, "an alias begins with alias/"},
		{"trailing_space", id + " ", awskms.Config{}, "not a key id"},
		{"line_break", id + "\n", awskms.Config{}, "not a key id"},
		{"ARN_of_another_service", "arn:aws:s3:::bucket", awskms.Config{}, "not an ARN of KMS"},
		{"ARN_without_a_region", "arn:aws:kms::111122223333:key/" + id, awskms.Config{}, "the region is malformed"},
		{"ARN_without_an_account", "arn:aws:kms:eu-central-1::key/" + id, awskms.Config{}, "twelve digits"},
		{"ARN_with_a_short_account", "arn:aws:kms:eu-central-1:1111:key/" + id, awskms.Config{}, "twelve digits"},
		{"ARN_of_neither", "arn:aws:kms:eu-central-1:111122223333:grant/" + id, awskms.Config{}, "neither key/ nor alias/"},
		{"ARN_of_both", "arn:aws:kms:eu-central-1:111122223333:key/alias/app", awskms.Config{}, "key/ and alias/ together"},
		{"ARN_with_more", arn + ":1", awskms.Config{}, "not a key id"},
		{"ARN_of_another_partition", strings.Replace(arn, "arn:aws:", "arn:aws-cn:", 1), awskms.Config{}, "partition"},
		{"ARN_of_a_strange_partition", strings.Replace(arn, "arn:aws:", "arn:evil:", 1), awskms.Config{}, "partition is malformed"},
		{"ARN_of_another_region", strings.Replace(arn, "eu-central-1", "us-east-1", 1), awskms.Config{}, "make a client for the key's region"},
		{"a_very_long_one", long, awskms.Config{}, "expected a key id"},
		{"account_with_letters", "alias/app", awskms.Config{Account: "11112222333x"}, "Config.Account"},
		{"account_against_the_ARN", arn, awskms.Config{Account: otherAccount}, "leave one of them out"},
		{"negative_timeout", "alias/app", awskms.Config{Timeout: -1}, "Config.Timeout"},
		{"previous_key_that_is_an_id", "alias/app", awskms.Config{PreviousKeys: []string{id}}, "Config.PreviousKeys"},
		{"previous_key_that_is_an_alias", "alias/app", awskms.Config{PreviousKeys: []string{"arn:aws:kms:eu-central-1:111122223333:alias/app"}}, "Config.PreviousKeys"},
		{"replicas_of_a_key_of_one_region", arn, awskms.Config{ReplicaRegions: []string{"us-east-1"}}, "only keys that begin with mrk- have replicas"},
		{"replicas_in_no_region", "alias/app", awskms.Config{ReplicaRegions: []string{"Virginia"}}, "is no region such as us-east-1"},
		{"replicas_in_another_partition", "alias/app", awskms.Config{ReplicaRegions: []string{"us-gov-west-1"}}, "replicas stay within aws"},
		{"previous_key_of_another_region", "alias/app", awskms.Config{PreviousKeys: []string{strings.Replace(arn, "eu-central-1", "us-east-1", 1)}}, "not in the client's region"},
	} {
		t.Run(c.name+"_is_refused", func(t *testing.T) {
			p, err := awskms.New(srv.Client(), c.key, c.cfg)
			if p != nil || err == nil || !strings.HasPrefix(err.Error(), "awskms: new provider: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", p, err)
			} else if strings.Contains(err.Error(), long) {
				t.Error("the whole name is repeated")
			}
		})
	}
	t.Run("no_client_is_refused", func(t *testing.T) {
		for _, client := range []awskms.API{nil, (*kms.Client)(nil)} {
			if _, err := awskms.New(client, arn, awskms.Config{}); err == nil || !strings.Contains(err.Error(), "no client") {
				t.Error(err)
			}
		}
	})
	t.Run("a_client_without_a_region_is_refused", func(t *testing.T) {
		client := srv.Client(func(o *kms.Options) { o.Region = "" })
		if _, err := awskms.New(client, arn, awskms.Config{}); err == nil || !strings.Contains(err.Error(), "no region") {
			t.Error(err)
		}
	})
	t.Run("makes_no_call", func(t *testing.T) {
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
}

func TestDuties(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	old, current := srv.CreateKey(), srv.CreateKey()
	writer := provider(t, srv.NewPrincipal("writer", "kms:Encrypt").Client(), old, awskms.Config{})
	reader := provider(t, srv.NewPrincipal("reader", "kms:Decrypt").Client(), current, awskms.Config{PreviousKeys: []string{old}})
	rotator := srv.NewPrincipal("rotator", "kms:ReEncryptFrom", "kms:ReEncryptTo").Client()
	from, to := provider(t, rotator, old, awskms.Config{}), provider(t, rotator, current, awskms.Config{})

	dek := kmskey.NewDEK()
	w, err := writer.Wrap(t.Context(), dek, row(t, 1))
	must(t, err)
	t.Run("a_rotator_with_reencrypt_alone_moves_what_a_writer_with_encrypt_alone_wrote_for_a_reader_with_decrypt_alone", func(t *testing.T) {
		srv.ResetCounts()
		moved, err := to.Rewrap(t.Context(), from, w, row(t, 1), row(t, 1))
		must(t, err)
		if moved.KeyRef != current {
			t.Errorf("moved to %q", moved.KeyRef)
		}
		if srv.Calls("ReEncrypt") != 1 || srv.TotalCalls() != 1 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
		got, err := reader.Unwrap(t.Context(), moved, row(t, 1))
		must(t, err)
		if !bytes.Equal(got.Bytes(), dek.Bytes()) {
			t.Error("another key came back")
		}
	})
	t.Run("the_error_names_the_missing_action", func(t *testing.T) {
		_, err := writer.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDenied, "allow this principal kms:Decrypt")
		_, err = reader.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrDenied, "allow this principal kms:Encrypt")
		_, err = writer.Rewrap(t.Context(), writer, w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrDenied, "kms:ReEncryptFrom on the old key and kms:ReEncryptTo")
	})
	t.Run("either_half_of_reencrypt_alone_is_denied", func(t *testing.T) {
		for _, half := range []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"} {
			client := srv.NewPrincipal("half", half, "kms:Encrypt", "kms:Decrypt").Client()
			_, err := provider(t, client, current, awskms.Config{}).Rewrap(t.Context(), provider(t, client, old, awskms.Config{}), w, row(t, 1), row(t, 1))
			says(t, err, kmskey.ErrDenied, "kms:ReEncrypt")
		}
	})
}

func says(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v\nis not %q, or does not say %q", err, kind, text)
	}
}

// TestAliases: what a row may choose where only a name is configured.
func TestAliases(t *testing.T) {
	type scene struct {
		srv      *awskmstest.Server
		old, new string
		w        kmskey.Wrapped // under old, to which the alias pointed
	}
	set := func(t *testing.T) scene {
		srv := awskmstest.New(t, awskmstest.Config{})
		s := scene{srv: srv, old: srv.CreateKey(), new: srv.CreateKey()}
		must(t, srv.CreateAlias("alias/app", s.old))
		s.w = wrap(t, provider(t, srv.Client(), "alias/app", awskms.Config{}), row(t, 1))
		srv.ResetCounts()
		return s
	}
	t.Run("a_row_keeps_the_key_ARN_and_not_the_alias", func(t *testing.T) {
		s := set(t)
		if s.w.KeyRef != s.old || s.w.Service != "aws" {
			t.Errorf("%q %q", s.w.Service, s.w.KeyRef)
		}
	})
	t.Run("rows_open_after_the_alias_moved_once_the_account_is_known", func(t *testing.T) {
		s := set(t)
		must(t, s.srv.UpdateAlias("alias/app", s.new))
		arn := "arn:aws:kms:" + s.srv.Region() + ":" + s.srv.Account() + ":alias/app"
		for name, p := range map[string]*awskms.Provider{
			"alias_ARN":      provider(t, s.srv.Client(), arn, awskms.Config{}),
			"Config.Account": provider(t, s.srv.Client(), "alias/app", awskms.Config{Account: s.srv.Account()}),
			"PreviousKeys":   provider(t, s.srv.Client(), "alias/app", awskms.Config{PreviousKeys: []string{s.old}}),
		} {
			if _, err := p.Unwrap(t.Context(), s.w, row(t, 1)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		p := provider(t, s.srv.Client(), "alias/app", awskms.Config{})
		if w := wrap(t, p, row(t, 2)); w.KeyRef != s.new {
			t.Errorf("wrapped under %q", w.KeyRef)
		}
		if _, err := p.Unwrap(t.Context(), s.w, row(t, 1)); err != nil {
			t.Errorf("learned by wrapping: %v", err)
		}
	})
	t.Run("rows_are_moved_by_the_same_provider_after_the_key_behind_its_alias_was_exchanged", func(t *testing.T) {
		s := set(t)
		client := s.srv.NewPrincipal("rotator", "kms:ReEncryptFrom", "kms:ReEncryptTo").Client()
		p := provider(t, client, "alias/app", awskms.Config{Account: s.srv.Account()})
		must(t, s.srv.UpdateAlias("alias/app", s.new))
		if !p.Owns(s.w) {
			t.Error("does not own the rows of the key that the alias left")
		}
		moved, err := p.Rewrap(t.Context(), p, s.w, row(t, 1), row(t, 1))
		must(t, err)
		must(t, s.srv.DisableKey(s.old))
		reader := provider(t, s.srv.NewPrincipal("reader", "kms:Decrypt").Client(), "alias/app", awskms.Config{Account: s.srv.Account()})
		if _, err := reader.Unwrap(t.Context(), moved, row(t, 1)); err != nil || moved.KeyRef != s.new || !reader.Owns(moved) {
			t.Errorf("%v, %q", err, moved.KeyRef)
		}
		_, err = reader.Unwrap(t.Context(), s.w, row(t, 1))
		says(t, err, kmskey.ErrDisabled, "enable it")
	})
	t.Run("a_reader_that_does_not_know_the_account_asks_for_the_alias_and_learns", func(t *testing.T) {
		s := set(t)
		var asked []string
		var mu sync.Mutex
		s.srv.SetBefore(func(_ context.Context, c awskmstest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, c.KeyID)
			return nil
		})
		p := provider(t, s.srv.NewPrincipal("reader", "kms:Decrypt").Client(), "alias/app", awskms.Config{})
		for range 2 {
			_, err := p.Unwrap(t.Context(), s.w, row(t, 1))
			must(t, err)
		}
		if fmt.Sprint(asked) != fmt.Sprint([]string{"alias/app", s.old}) {
			t.Errorf("asked for %q", asked)
		}
	})
	t.Run("a_reader_that_does_not_know_the_account_is_told_what_to_set_when_the_alias_has_moved", func(t *testing.T) {
		s := set(t)
		must(t, s.srv.UpdateAlias("alias/app", s.new))
		p := provider(t, s.srv.Client(), "alias/app", awskms.Config{})
		_, err := p.Unwrap(t.Context(), s.w, row(t, 1))
		says(t, err, kmskey.ErrContextMismatch, "set Config.Account, or list the key in Config.PreviousKeys")
	})
	t.Run("a_row_does_not_choose_the_account", func(t *testing.T) {
		s := set(t)
		evil, err := s.srv.CreateKeyIn(otherAccount, s.srv.Region())
		must(t, err)
		// The attacker lets everyone use the key, as a key policy can; all that stands between is the provider.
		app := s.srv.NewPrincipal("app", "kms:*")
		app.AllowOn(evil, "kms:*")
		attacker := s.srv.NewPrincipalIn(otherAccount, "attacker", "kms:*")
		planted := wrap(t, provider(t, attacker.Client(), evil, awskms.Config{}), row(t, 1))
		var asked []string
		s.srv.SetBefore(func(_ context.Context, c awskmstest.Call) error { asked = append(asked, c.KeyID); return nil })
		for name, key := range map[string]string{"alias": "alias/app", "key_id": keyID(s.old)} {
			p := provider(t, app.Client(), key, awskms.Config{})
			if _, err := p.Unwrap(t.Context(), planted, row(t, 1)); err == nil {
				t.Errorf("%s: a planted key opened", name)
			}
			_, err := p.Unwrap(t.Context(), s.w, row(t, 1))
			must(t, err)
			if _, err := p.Unwrap(t.Context(), planted, row(t, 1)); !errors.Is(err, kmskey.ErrForeignKey) {
				t.Errorf("%s, knowing its account: %v", name, err)
			}
		}
		for _, ref := range asked {
			if ref == evil {
				t.Error("AWS was asked for the key that the row chose")
			}
		}
	})
	t.Run("a_row_that_names_another_key_than_the_one_that_opens_it_is_refused", func(t *testing.T) {
		s := set(t)
		p := provider(t, s.srv.Client(), "alias/app", awskms.Config{})
		lying := s.w
		lying.KeyRef = strings.Replace(s.w.KeyRef, s.srv.Account(), otherAccount, 1)
		_, err := p.Unwrap(t.Context(), lying, row(t, 1))
		says(t, err, kmskey.ErrContextMismatch, "not the one that the row names")
		// Nothing was learned from it: the account would now be the row's.
		_, err = p.Unwrap(t.Context(), s.w, row(t, 1))
		must(t, err)
	})
	t.Run("an_account_that_is_not_the_aliases_is_found_out_before_a_row_is_lost", func(t *testing.T) {
		s := set(t)
		p := provider(t, s.srv.Client(), "alias/app", awskms.Config{Account: otherAccount})
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrInvalid, "check Config.Account")
	})
	t.Run("a_previous_key_of_another_account_opens_and_moves", func(t *testing.T) {
		s := set(t)
		merged, err := s.srv.CreateKeyIn(otherAccount, s.srv.Region())
		must(t, err)
		app := s.srv.NewPrincipal("app", "kms:*")
		app.AllowOn(merged, "kms:*")
		w := wrap(t, provider(t, app.Client(), merged, awskms.Config{}), row(t, 1))
		p := provider(t, app.Client(), "alias/app", awskms.Config{PreviousKeys: []string{merged}})
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		must(t, err)
		moved, err := p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
		must(t, err)
		if moved.KeyRef != s.old {
			t.Errorf("moved to %q", moved.KeyRef)
		}
	})
}

func TestRewrapSources(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	old, current := srv.CreateKey(), srv.CreateKey()
	must(t, srv.CreateAlias("alias/old", old))
	client := srv.Client()
	w := wrap(t, provider(t, client, "alias/old", awskms.Config{}), row(t, 1))
	target := provider(t, client, current, awskms.Config{})
	t.Run("a_bare_alias_on_the_same_client_is_resolved_by_AWS", func(t *testing.T) {
		_, err := target.Rewrap(t.Context(), provider(t, client, "alias/old", awskms.Config{}), w, row(t, 1), row(t, 1))
		must(t, err)
	})
	t.Run("a_bare_alias_on_another_client_is_not_resolved_in_the_wrong_account", func(t *testing.T) {
		srv.ResetCounts()
		source := provider(t, srv.Client(), "alias/old", awskms.Config{})
		_, err := target.Rewrap(t.Context(), source, w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrNotRewrappable, "set Config.Account of the source")
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
		_, err = source.Unwrap(t.Context(), w, row(t, 1)) // now it knows
		must(t, err)
		_, err = target.Rewrap(t.Context(), source, w, row(t, 1), row(t, 1))
		must(t, err)
	})
	t.Run("another_region_is_not_rewrappable", func(t *testing.T) {
		srv.ResetCounts()
		far, err := srv.CreateKeyIn(srv.Account(), "us-east-1")
		must(t, err)
		there := provider(t, srv.Client(func(o *kms.Options) { o.Region = "us-east-1" }), far, awskms.Config{})
		_, err = there.Rewrap(t.Context(), provider(t, client, old, awskms.Config{}), w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrNotRewrappable, "from region eu-central-1 to us-east-1")
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
}

// tamper is an HTTP client that changes answers on their way.
type tamper struct {
	inner  kms.HTTPClient
	change func(body []byte) []byte
}

func (c tamper) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.inner.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	body = c.change(body)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

func tampering(srv *awskmstest.Server, change func([]byte) []byte) *kms.Client {
	return srv.Client(func(o *kms.Options) { o.HTTPClient = tamper{o.HTTPClient, change} })
}

// failing is a client whose Decrypt fails with err.
type failing struct {
	awskms.API
	err error
}

func (c failing) Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	return nil, c.err
}

// everything is each error inside err in each form in which a logger may print it.
func everything(err error) string {
	if err == nil {
		return ""
	}
	text := fmt.Sprintf("%v %+v %#v\n", err, err, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		text += everything(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text += everything(inner)
		}
	}
	return text
}

// TestAnswers: the service's answers are checked too, and an answer that holds the data key does not reach an error or a log.
func TestAnswers(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	key, other := srv.CreateKey(), srv.CreateKey()
	good := provider(t, srv.Client(), key, awskms.Config{})
	dek := kmskey.NewDEK()
	w, err := good.Wrap(t.Context(), dek, row(t, 1))
	must(t, err)
	swap := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(key), []byte(other)) }
	t.Run("another_key_than_asked_for_is_refused", func(t *testing.T) {
		p := provider(t, tampering(srv, swap), key, awskms.Config{})
		_, err := p.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrContextMismatch, "not the one that the row names")
		_, err = p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "outside the configuration")
		_, err = p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
		says(t, err, kmskey.ErrContextMismatch, "not the one that the row names")
	})
	t.Run("no_key_and_no_bytes_are_refused", func(t *testing.T) {
		p := provider(t, tampering(srv, func([]byte) []byte { return []byte("{}") }), key, awskms.Config{})
		_, err := p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "is the endpoint AWS KMS?")
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrContextMismatch, "")
	})
	t.Run("a_generated_key_under_another_key_or_of_another_length_is_refused", func(t *testing.T) {
		for name, change := range map[string]func([]byte) []byte{
			"under_another": swap,
			"short": func(b []byte) []byte {
				return bytes.Replace(b, []byte(`"Plaintext":"`), []byte(`"Plaintext":"c2hvcnQ=","x":"`), 1)
			},
			"none":    func(b []byte) []byte { return bytes.Replace(b, []byte(`"Plaintext":"`), []byte(`"x":"`), 1) },
			"nothing": func([]byte) []byte { return []byte("{}") },
		} {
			got, w, err := provider(t, tampering(srv, change), key, awskms.Config{}).Generate(t.Context(), row(t, 1))
			says(t, err, kmskey.ErrInvalid, "")
			if !got.IsZero() || w.Blob != nil || strings.Contains(everything(err), "short") {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := provider(t, tampering(srv, swap), key, awskms.Config{}).GenerateWrapped(t.Context(), row(t, 1))
		says(t, err, kmskey.ErrInvalid, "outside the configuration")
	})
	t.Run("a_plaintext_that_is_no_data_key_is_refused", func(t *testing.T) {
		out, err := srv.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("sixteen bytes...")})
		must(t, err)
		_, err = good.Unwrap(t.Context(), kmskey.Wrapped{Service: "aws", KeyRef: key, Blob: out.CiphertextBlob}, kmskey.Context{})
		says(t, err, kmskey.ErrInvalid, "made by something else")
		if strings.Contains(err.Error(), "sixteen") {
			t.Error("the plaintext is in the error")
		}
	})
	t.Run("a_broken_answer_does_not_carry_the_data_key_into_the_error", func(t *testing.T) {
		encoded := base64.StdEncoding.EncodeToString(dek.Bytes())
		answer := []byte(`{"Plaintext":"` + encoded + `"`)
		broken := &smithy.DeserializationError{Err: errors.New("unexpected EOF"), Snapshot: answer}
		for name, client := range map[string]awskms.API{
			"cut":      tampering(srv, func(b []byte) []byte { return b[:len(b)-2] }),
			"followed": tampering(srv, func(b []byte) []byte { return append(b[:len(b)-1], `,"KeyId":7}`...) }),
			"no_JSON":  tampering(srv, func(b []byte) []byte { return append([]byte("<"), b...) }),
			// smithy-go keeps what it could not read, in some versions and protocols also of an answer that is no error.
			"kept": failing{srv.Client(), &smithy.OperationError{ServiceID: "KMS", OperationName: "Decrypt", Err: broken}},
		} {
			_, err := provider(t, client, key, awskms.Config{}).Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrUnavailable, "")
			text := everything(err)
			if strings.Contains(text, encoded) || strings.Contains(text, string(dek.Bytes()[:8])) || strings.Contains(text, "0x50, 0x6c, 0x61, 0x69, 0x6e") {
				t.Errorf("%s: the data key is in the error", name)
			}
		}
		if bytes.Contains(answer, []byte(encoded)) {
			t.Error("the answer that the SDK's error kept is still in memory")
		}
	})
	t.Run("a_client_that_logs_bodies_does_not_log_data_keys", func(t *testing.T) {
		var log strings.Builder
		var mu sync.Mutex
		client := srv.Client(func(o *kms.Options) {
			o.ClientLogMode = aws.LogRequest | aws.LogResponse | aws.LogRequestWithBody | aws.LogResponseWithBody | aws.LogSigning | aws.LogRetries
			o.Logger = logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(&log, format, args...)
			})
		})
		p := provider(t, client, key, awskms.Config{})
		w, err := p.Wrap(t.Context(), dek, row(t, 1))
		must(t, err)
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		must(t, err)
		drawn, _, err := p.Generate(t.Context(), row(t, 1))
		must(t, err)
		if strings.Contains(log.String(), base64.StdEncoding.EncodeToString(drawn.Bytes())) {
			t.Error("the log holds the generated data key")
		}
		if !strings.Contains(log.String(), "TrentService.Decrypt") {
			t.Error("nothing was logged: the test proves nothing")
		}
		if strings.Contains(log.String(), base64.StdEncoding.EncodeToString(dek.Bytes())) {
			t.Error("the log holds the data key")
		}
	})
}

// TestCost: one call per act.
func TestCost(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{})
	w := wrap(t, p, row(t, 1))
	_, err := p.Unwrap(t.Context(), w, row(t, 1))
	must(t, err)
	_, err = p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 2))
	must(t, err)
	if srv.Calls("Encrypt") != 1 || srv.Calls("Decrypt") != 1 || srv.Calls("ReEncrypt") != 1 || srv.TotalCalls() != 3 {
		t.Errorf("%d calls", srv.TotalCalls())
	}
}

func BenchmarkProvider(b *testing.B) {
	srv := awskmstest.New(b, awskmstest.Config{})
	p, err := awskms.New(srv.Client(), srv.CreateKey(), awskms.Config{})
	if err != nil {
		b.Fatal(err)
	}
	dek := kmskey.NewDEK()
	b.ReportAllocs()
	for b.Loop() {
		w, err := p.Wrap(b.Context(), dek, kmskey.Context{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Unwrap(b.Context(), w, kmskey.Context{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(srv.TotalCalls())/float64(b.N), "calls/op")
}

// TestBoxBeyondTheServicesLimit: a message has a data key of its own, which is all that AWS sees of it.
func TestBoxBeyondTheServicesLimit(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	key := srv.CreateKey()
	message := make([]byte, 100_000)
	rand.Read(message)
	// The control: AWS itself takes 4,096 bytes.
	if _, err := srv.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(key), Plaintext: message}); err == nil || !strings.Contains(err.Error(), "4096") {
		t.Fatalf("the service took 100 kB: %v", err)
	}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: provider(t, srv.Client(), key, awskms.Config{})}}})
	must(t, err)
	box, err := kmskey.NewBox(keys, "exports")
	must(t, err)
	srv.ResetCounts()
	report := kmskey.Pair{Name: "report", Value: kmskey.Int(7)}
	sealed, err := box.Seal(t.Context(), message, report)
	must(t, err)
	got, err := box.Open(t.Context(), sealed, report)
	must(t, err)
	if !bytes.Equal(got, message) {
		t.Errorf("%d bytes came back, and others", len(got))
	}
	if srv.Calls("Encrypt") != 1 || srv.Calls("Decrypt") != 1 || srv.TotalCalls() != 2 {
		t.Errorf("%d Encrypt, %d Decrypt", srv.Calls("Encrypt"), srv.Calls("Decrypt"))
	}
	if _, err := box.Open(t.Context(), sealed, kmskey.Pair{Name: "report", Value: kmskey.Int(8)}); !errors.Is(err, kmskey.ErrContextMismatch) {
		t.Errorf("under another context: %v", err)
	}
}
