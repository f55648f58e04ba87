package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// site is a fake AWS, an operator with a policy of their own, and the calls that they made.
type site struct {
	*awskmstest.Server
	endpoint string

	mu    sync.Mutex
	calls []string
}

// reads are the operations that change nothing.
var reads = []string{"DescribeKey", "ListAliases", "ListKeys", "ListResourceTags", "GetKeyRotationStatus", "GetKeyPolicy"}

// operatorPolicy is all that provisioning takes, as docs/operations.md shows it.
func operatorPolicy(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	must(t, err)
	_, policy, found := strings.Cut(string(text), "```json\n")
	policy, _, closed := strings.Cut(policy, "```")
	if !found || !closed {
		t.Fatal("docs/operations.md shows no policy")
	}
	return policy
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{Server: awskmstest.New(t, awskmstest.Config{})}
	s.endpoint = s.URL()
	operator, err := s.NewPrincipalWithPolicy("operator", operatorPolicy(t))
	must(t, err)
	t.Setenv("AWS_ACCESS_KEY_ID", operator.Credentials().AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", operator.Credentials().SecretAccessKey)
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	s.failAt("", 0, nil)
	return s
}

// failAt answers with fault from the nth call of an operation on ("" for any), and notes all calls.
func (s *site) failAt(operation string, n int, fault error) {
	s.mu.Lock()
	s.calls = nil
	s.mu.Unlock()
	seen := 0
	s.SetBefore(func(_ context.Context, c awskmstest.Call) error {
		if c.Principal != "operator" {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if operation == "" || operation == c.Operation {
			if seen++; fault != nil && seen >= n {
				return fault
			}
		}
		s.calls = append(s.calls, c.Operation)
		return nil
	})
}

// writes are the calls since the last failAt that change something, in their order.
func (s *site) writes() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.DeleteFunc(slices.Clone(s.calls), func(op string) bool { return slices.Contains(reads, op) }), " ")
}

func (s *site) provision(t *testing.T, args ...string) result {
	t.Helper()
	return rowseal(t, append([]string{"provision", "aws", "--app", "clinic", "--env", "production", "--account", s.Account(), "--endpoint", s.endpoint}, args...)...)
}

func (s *site) provisions(t *testing.T, args ...string) string {
	t.Helper()
	r := s.provision(t, args...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	return r.stdout
}

// in is a client of the administrator for a region.
func (s *site) in(region string) *kms.Client {
	return s.Client(func(o *kms.Options) { o.Region = region })
}

// state is what is there in a region, in words, without the names of keys.
func (s *site) state(t *testing.T, region string) string {
	t.Helper()
	c := s.in(region)
	var b strings.Builder
	keys, err := c.ListKeys(t.Context(), &kms.ListKeysInput{})
	must(t, err)
	for _, k := range keys.Keys {
		d, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: k.KeyArn})
		must(t, err)
		r, err := c.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: k.KeyArn})
		must(t, err)
		p, err := c.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: k.KeyArn})
		must(t, err)
		tags, err := tagsOf(t.Context(), c, *k.KeyArn)
		must(t, err)
		aliases, err := c.ListAliases(t.Context(), &kms.ListAliasesInput{KeyId: k.KeyArn})
		must(t, err)
		fmt.Fprintf(&b, "%q %s rotates %v/%d tags %v policy %s aliases", *d.KeyMetadata.Description, d.KeyMetadata.KeyState, r.KeyRotationEnabled, aws.ToInt32(r.RotationPeriodInDays), tags, *p.Policy)
		for _, a := range aliases.Aliases {
			fmt.Fprintf(&b, " %s", *a.AliasName)
		}
		b.WriteString("\n")
	}
	return b.String()
}

var keyID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

func scrub(text string) string { return keyID.ReplaceAllString(text, "KEY") }

func TestProvision(t *testing.T) {
	s := newSite(t)
	args := []string{"--class", "medical", "--model", "Patient", "--context", "environment=production"}
	dry := s.provisions(t, append(args, "--dry-run")...)
	golden(t, "provision/dry-run.golden", dry)
	if s.writes() != "" || s.state(t, "eu-central-1") != "" {
		t.Errorf("a dry run called %s", s.writes())
	}
	golden(t, "provision/first.golden", scrub(s.provisions(t, args...)))
	if got := s.writes(); got != "CreateKey EnableKeyRotation CreateAlias" {
		t.Errorf("made by %s", got)
	}
	state := s.state(t, "eu-central-1")
	golden(t, "provision/state.golden", state)

	s.failAt("", 0, nil)
	golden(t, "provision/second.golden", scrub(s.provisions(t, args...)))
	if s.writes() != "" || s.state(t, "eu-central-1") != state {
		t.Errorf("the second run called %s", s.writes())
	}
	t.Run("as JSON", func(t *testing.T) {
		golden(t, "provision/second.json", scrub(s.provisions(t, append(args, "--format", "json")...)))
	})
	t.Run("the key is used as printed", func(t *testing.T) {
		_, arn, _ := strings.Cut(dry, `awskms.New(client, "`)
		arn, _, _ = strings.Cut(arn, `"`)
		_, err := s.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("x"), EncryptionContext: contexts["right"]})
		must(t, err)
		_, err = s.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("x"), EncryptionContext: contexts["model"]})
		if !isDenied(err) {
			t.Errorf("another model: %v", err)
		}
	})
	t.Run("the key is protected from deletion", func(t *testing.T) {
		_, err := s.Client().ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: aws.String(keyOf(t, s, "eu-central-1", "alias/clinic/production/medical"))})
		if !isDenied(err) {
			t.Errorf("%v", err)
		}
	})
	t.Run("another class has another key", func(t *testing.T) {
		s.provisions(t)
		if keyOf(t, s, "eu-central-1", "alias/clinic/production") == keyOf(t, s, "eu-central-1", "alias/clinic/production/medical") {
			t.Error("the same")
		}
	})
}

func keyOf(t *testing.T, s *site, region, alias string) string {
	t.Helper()
	out, err := s.in(region).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &alias})
	must(t, err)
	return *out.KeyMetadata.Arn
}

// TestProvisionRegions: one independent key for each, and a region that is refused leaves the others as they are.
func TestProvisionRegions(t *testing.T) {
	s := newSite(t)
	both := []string{"--region", "eu-central-1", "--region", "us-east-1"}
	s.provisions(t)
	first := s.state(t, "eu-central-1")
	s.failAt("", 0, nil)
	golden(t, "provision/second-region.golden", scrub(s.provisions(t, both...)))
	if s.writes() != "CreateKey EnableKeyRotation CreateAlias" || s.state(t, "eu-central-1") != first || s.state(t, "us-east-1") != first {
		t.Errorf("%s\n%s", s.writes(), s.state(t, "us-east-1"))
	}
	if keyOf(t, s, "eu-central-1", "alias/clinic/production") == keyOf(t, s, "us-east-1", "alias/clinic/production") {
		t.Error("one key")
	}

	other, err := s.CreateKeyIn(s.Account(), "us-east-1")
	must(t, err)
	must(t, s.CreateAlias("alias/clinic/staging", other))
	s.failAt("", 0, nil)
	r := rowseal(t, append([]string{"provision", "aws", "--app", "clinic", "--env", "staging", "--account", s.Account(), "--endpoint", s.URL()}, both...)...)
	if r.code != 1 || s.writes() != "" || !strings.HasPrefix(r.stderr, "rowseal provision aws: us-east-1: alias/clinic/staging points to") {
		t.Errorf("%+v, having called %s", r, s.writes())
	}
}

// TestProvisionInterrupted: after each call of a run, another goes on to the same end.
func TestProvisionInterrupted(t *testing.T) {
	whole := newSite(t)
	whole.provisions(t)
	want, calls := whole.state(t, "eu-central-1"), len(whole.calls)
	if calls < 5 {
		t.Fatalf("%d calls", calls)
	}
	for n := 1; n <= calls; n++ {
		t.Run(fmt.Sprintf("after_%d_calls", n-1), func(t *testing.T) {
			s := newSite(t)
			s.failAt("", n, &awskmstest.Fault{Code: "InterruptedForTheTest", Message: "gone"})
			if r := s.provision(t); r.code != 1 || !strings.Contains(r.stderr, "InterruptedForTheTest") {
				t.Fatalf("%+v", r)
			}
			s.failAt("", 0, nil)
			s.provisions(t)
			if got := s.state(t, "eu-central-1"); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			s.failAt("", 0, nil)
			if got := s.provisions(t); !strings.Contains(got, "Nothing to do") || s.writes() != "" {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestProvisionLostAnswer: AWS makes a key and its answer is lost. The request is not repeated, and the key is found again.
func TestProvisionLostAnswer(t *testing.T) {
	s := newSite(t)
	target, err := url.Parse(s.URL())
	must(t, err)
	var lose atomic.Bool
	lose.Store(true)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ModifyResponse: func(r *http.Response) error {
			if lose.Load() && strings.HasSuffix(r.Request.Header.Get("X-Amz-Target"), ".CreateKey") {
				panic(http.ErrAbortHandler)
			}
			return nil
		},
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	s.endpoint = front.URL
	r := s.provision(t)
	if r.code != 1 || !strings.Contains(r.stderr, "the key may have been made all the same: wait a minute") || s.writes() != "CreateKey" {
		t.Errorf("%+v after %s", r, s.writes())
	}
	lose.Store(false)
	s.provisions(t)
	if s.Calls("CreateKey") != 1 || strings.Count(s.state(t, "eu-central-1"), "\n") != 1 {
		t.Errorf("%s", s.state(t, "eu-central-1"))
	}
}

// TestProvisionUnsettled: AWS does not know a new key everywhere at once.
func TestProvisionUnsettled(t *testing.T) {
	s := newSite(t)
	refusals := map[string]int{"EnableKeyRotation": 3, "CreateAlias": 2}
	s.SetBefore(func(_ context.Context, c awskmstest.Call) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if refusals[c.Operation] > 0 {
			refusals[c.Operation]--
			return &awskmstest.Fault{Code: "NotFoundException", Message: "Key does not exist"}
		}
		return nil
	})
	s.provisions(t)
	s.SetBefore(func(_ context.Context, c awskmstest.Call) error {
		if c.Operation == "EnableKeyRotation" {
			return &awskmstest.Fault{Code: "NotFoundException", Message: "Key does not exist"}
		}
		return nil
	})
	if r := rowseal(t, "provision", "aws", "--app", "a", "--env", "b", "--account", s.Account(), "--endpoint", s.URL()); r.code != 1 || !strings.Contains(r.stderr, "1 thing was changed before") {
		t.Errorf("%+v", r)
	}
}

// TestProvisionRefuses: what only people can decide is left, with the words to do it.
func TestProvisionRefuses(t *testing.T) {
	const alias = "alias/clinic/production"
	for name, tt := range map[string]struct {
		scene func(t *testing.T, s *site)
		args  []string
		says  []string
	}{
		"an alias of a key that was not made here": {func(t *testing.T, s *site) { must(t, s.CreateAlias(alias, s.CreateKey())) }, nil,
			[]string{"which was not made here. An alias is never moved", "aws kms tag-resource --region eu-central-1", "aws kms delete-alias"}},
		"an alias of another application's key": {func(t *testing.T, s *site) {
			must(t, s.CreateAlias(alias, tagged(t, s, "alias/payroll/production")))
		}, nil, []string{"which is the key of alias/payroll/production", "aws kms update-alias"}},
		"two keys that say they are it": {func(t *testing.T, s *site) { tagged(t, s, alias); tagged(t, s, alias) }, nil, []string{"and 2 keys have it as their tag", "aws kms untag-resource"}},
		"a key with its tag and another policy": {func(t *testing.T, s *site) { tagged(t, s, alias) }, nil,
			[]string{"another policy than this command's", "aws kms untag-resource"}},
		"a key that is disabled": {func(t *testing.T, s *site) {
			s.provisions(t)
			must(t, s.DisableKey(keyOf(t, s, "eu-central-1", alias)))
		}, nil, []string{"is disabled. If that was a mistake: aws kms enable-key"}},
		"a key that is to be deleted": {func(t *testing.T, s *site) {
			s.provisions(t)
			must(t, s.ScheduleKeyDeletion(keyOf(t, s, "eu-central-1", alias)))
		}, nil, []string{"is to be deleted", "aws kms cancel-key-deletion"}},
		"another policy": {func(t *testing.T, s *site) { s.provisions(t) }, []string{"--model", "Patient"},
			[]string{"differs from the one that these flags give, and was left", "aws kms put-key-policy"}},
		"a principal who does not exist": {func(*testing.T, *site) {}, []string{"--reader", "arn:aws:iam::111122223333:role/nobody"},
			[]string{"make the key: kms:CreateKey:", "does every principal exist", "nothing was changed before"}},
		"expired credentials": {func(_ *testing.T, s *site) {
			s.failAt("", 1, &awskmstest.Fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"})
		}, nil, []string{"eu-central-1: kms:DescribeKey:", "the credentials have expired: log in again (aws sso login)"}},
		"a missing permission": {func(_ *testing.T, s *site) {
			s.failAt("CreateAlias", 1, &awskmstest.Fault{Code: "AccessDeniedException", Message: "User: … is not authorized"})
		}, nil, []string{"make the alias: kms:CreateAlias:", "allow this principal kms:CreateAlias", "2 things were changed before; the same command goes on from here"}},
		"wrong credentials": {func(t *testing.T, _ *site) { t.Setenv("AWS_SECRET_ACCESS_KEY", strings.Repeat("x", 40)) }, nil, []string{"the credentials are not valid in this region"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			tt.scene(t, s)
			before := s.state(t, "eu-central-1")
			r := s.provision(t, tt.args...)
			for _, words := range tt.says {
				if r.code != 1 || !strings.Contains(r.stderr, words) {
					t.Errorf("%+v\nlacks %q", r, words)
				}
			}
			if after := s.state(t, "eu-central-1"); after != before && name != "a missing permission" {
				t.Errorf("changed to %s", after)
			}
		})
	}
}

// tagged is a key, with AWS's default policy, that has the tag of a provisioned one.
func tagged(t *testing.T, s *site, alias string) string {
	t.Helper()
	out, err := s.Client().CreateKey(t.Context(), &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String(aliasTag), TagValue: &alias}}})
	must(t, err)
	return *out.KeyMetadata.Arn
}

// TestProvisionMends: what is safe to put right is.
func TestProvisionMends(t *testing.T) {
	s := newSite(t)
	s.provisions(t)
	want := s.state(t, "eu-central-1")
	c, key := s.Client(), keyOf(t, s, "eu-central-1", "alias/clinic/production")
	for name, tt := range map[string]struct {
		drift func() error
		says  string
		calls string
	}{
		"rotation off": {func() error {
			_, err := c.DisableKeyRotation(t.Context(), &kms.DisableKeyRotationInput{KeyId: &key})
			return err
		}, "it is off", "EnableKeyRotation"},
		"rotation too seldom": {func() error {
			_, err := c.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(2000)})
			return err
		}, "it is every 2000 days", "EnableKeyRotation"},
		"a tag gone": {func() error {
			_, err := c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: &key, TagKeys: []string{"rowseal:environment"}})
			return err
		}, "1 are missing", "TagResource"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, tt.drift())
			drifted := s.state(t, "eu-central-1")
			s.failAt("", 0, nil)
			if got := s.provisions(t, "--dry-run"); !strings.Contains(got, tt.says) || s.writes() != "" || s.state(t, "eu-central-1") != drifted {
				t.Errorf("a dry run called %s and said:\n%s", s.writes(), got)
			}
			if got := s.provisions(t); !strings.Contains(got, tt.says) || !strings.Contains(got, "1 thing was changed") || s.writes() != tt.calls {
				t.Errorf("called %s and said:\n%s", s.writes(), got)
			}
			if got := s.state(t, "eu-central-1"); got != want {
				t.Errorf("%s", got)
			}
		})
	}
	t.Run("an alias gone", func(t *testing.T) {
		_, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/clinic/production")})
		must(t, err)
		s.failAt("", 0, nil)
		s.provisions(t)
		if s.writes() != "CreateAlias" || s.state(t, "eu-central-1") != want {
			t.Errorf("%s\n%s", s.writes(), s.state(t, "eu-central-1"))
		}
	})
	t.Run("an alias gone, and another in its place", func(t *testing.T) {
		must(t, s.CreateAlias("alias/renamed", key))
		_, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/clinic/production")})
		must(t, err)
		s.failAt("", 0, nil)
		s.provisions(t)
		if s.writes() != "CreateAlias" || keyOf(t, s, "eu-central-1", "alias/clinic/production") != key {
			t.Errorf("%s", s.writes())
		}
	})
	t.Run("a policy that is laid out otherwise is the same", func(t *testing.T) {
		out, err := c.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &key})
		must(t, err)
		var v map[string]any
		must(t, json.Unmarshal([]byte(*out.Policy), &v))
		for _, statement := range v["Statement"].([]any) {
			if actions, ok := statement.(map[string]any)["Action"].([]any); ok {
				slices.Reverse(actions)
			}
		}
		text, err := json.MarshalIndent(v, "", "    ")
		must(t, err)
		_, err = c.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(string(text))})
		must(t, err)
		s.provisions(t)
	})
}

// TestProvisionSearch: keys that hide are passed over where their own policy hides them, and nowhere else. A second key must not come of it.
func TestProvisionSearch(t *testing.T) {
	s := newSite(t)
	owner := s.NewPrincipal("owner")
	_, err := s.Client().CreateKey(t.Context(), &kms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true, Policy: aws.String(
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + owner.ARN() + `"},"Action":"kms:*","Resource":"*"}}`)})
	must(t, err)
	s.failAt("CreateAlias", 1, &awskmstest.Fault{Code: "InterruptedForTheTest", Message: "gone"})
	if r := s.provision(t); r.code != 1 || s.writes() != "CreateKey EnableKeyRotation" {
		t.Fatalf("%+v after %s", r, s.writes())
	}
	s.failAt("", 0, nil)
	operator, err := s.NewPrincipalWithPolicy("operator", strings.Replace(operatorPolicy(t), `"kms:ListResourceTags", `, "", 1))
	must(t, err)
	t.Run("without kms:ListResourceTags", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", operator.Credentials().AccessKeyID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", operator.Credentials().SecretAccessKey)
		if r := s.provision(t); r.code != 1 || s.writes() != "" || !strings.Contains(r.stderr, "allow this principal kms:ListResourceTags") {
			t.Errorf("%+v after %s", r, s.writes())
		}
	})
	s.failAt("", 0, nil)
	s.provisions(t)
	if s.writes() != "CreateAlias" {
		t.Errorf("%s", s.writes())
	}
}

// TestProvisionAfterDeletion: a key that is on its way out, and that no alias points to, is not waited for.
func TestProvisionAfterDeletion(t *testing.T) {
	s := newSite(t)
	s.provisions(t)
	old := keyOf(t, s, "eu-central-1", "alias/clinic/production")
	must(t, s.ScheduleKeyDeletion(old))
	_, err := s.Client().DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: aws.String("alias/clinic/production")})
	must(t, err)
	s.provisions(t)
	if keyOf(t, s, "eu-central-1", "alias/clinic/production") == old {
		t.Error("the same key")
	}
}

// TestProvisionAccount: the account is the one of the credentials, as STS names it.
func TestProvisionAccount(t *testing.T) {
	s := newSite(t)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), "Action=GetCallerIdentity") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::%[1]s:user/operator</Arn><UserId>x</UserId><Account>%[1]s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, s.Account())
	}))
	defer sts.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	got := prints(t, "provision", "aws", "--app", "clinic", "--env", "production", "--endpoint", s.URL(), "--dry-run")
	if !strings.Contains(got, "arn:aws:kms:eu-central-1:"+s.Account()+":alias/clinic/production") {
		t.Errorf("%s", got)
	}
}

// TestProvisionTerraform: the same key in HCL, with no call at all.
func TestProvisionTerraform(t *testing.T) {
	s := newSite(t)
	args := []string{"--class", "medical", "--region", "eu-central-1", "--region", "us-east-1", "--context", "environment=production"}
	config := s.provisions(t, append(args, "--format", "terraform")...)
	golden(t, "provision/two-regions.tf", config)
	if s.TotalCalls() != 0 {
		t.Errorf("%d calls", s.TotalCalls())
	}
	s.provisions(t, args...)
	out, err := s.Client().GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: aws.String(keyOf(t, s, "eu-central-1", "alias/clinic/production/medical"))})
	must(t, err)
	if got := policyOf(t, config); !sameJSON(t, got, *out.Policy) {
		t.Errorf("%s\nis not\n%s", got, *out.Policy)
	}
}
