package kmsurl

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/azurekv"
	"github.com/rowseal/rowseal/kmskey/gcpkms"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// environ is the test's whole environment, as far as the vendors' clients read it.
func environ(t *testing.T, set map[string]string) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		for _, prefix := range []string{"AWS_", "VAULT_", "BAO_", "GOOGLE_", "AZURE_", "ROWSEAL_", "HTTP_PROXY", "HTTPS_PROXY"} {
			if strings.HasPrefix(strings.ToUpper(name), prefix) {
				unset(t, name)
			}
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	unset(t, "CLOUDSDK_CONFIG")
	t.Setenv("HOME", filepath.Dir(empty))
	t.Setenv("APPDATA", filepath.Dir(empty))
	for name, value := range map[string]string{"AWS_CONFIG_FILE": empty, "AWS_SHARED_CREDENTIALS_FILE": empty, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"} {
		t.Setenv(name, value)
	}
	for name, value := range set {
		t.Setenv(name, value)
	}
}

// unset takes a variable away until the test ends. An empty one is another thing: an empty BAO_ADDR hides VAULT_ADDR.
func unset(t *testing.T, name string) {
	t.Helper()
	t.Setenv(name, "")
	must(t, os.Unsetenv(name))
}

func startAWS(t *testing.T) *awskmstest.Server {
	t.Helper()
	s := awskmstest.New(t, awskmstest.Config{Regions: []string{"eu-west-1", "eu-central-1"}})
	for _, region := range []string{"eu-west-1", "eu-central-1"} {
		arn, err := s.CreateKeyIn(s.Account(), region)
		must(t, err)
		must(t, s.CreateAlias("alias/app", arn))
	}
	c := s.NewPrincipal("app", "kms:*").Credentials()
	environ(t, map[string]string{"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.SecretAccessKey})
	return s
}

func opens(t *testing.T, text string, h hooks) *Connection {
	t.Helper()
	c, err := open(t.Context(), text, h)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func row(t *testing.T, id int64) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	must(t, err)
	return ec
}

// roundTrip wraps and unwraps, and finds that another row's context opens nothing.
func roundTrip(t *testing.T, c *Connection) kmskey.Wrapped {
	t.Helper()
	dek := kmskey.NewDEK()
	w, err := c.Provider.Wrap(t.Context(), dek, row(t, 7))
	must(t, err)
	got, err := c.Provider.Unwrap(t.Context(), w, row(t, 7))
	must(t, err)
	if !bytes.Equal(got.Bytes(), dek.Bytes()) {
		t.Error("another data key came out")
	}
	if _, err := c.Provider.Unwrap(t.Context(), w, row(t, 8)); !errors.Is(err, kmskey.ErrContextMismatch) {
		t.Errorf("under another context: %v", err)
	}
	return w
}

func TestOpen(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "rowseal.key")
	_, err := localkey.Generate(keyFile)
	must(t, err)
	const envKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

	for name, c := range map[string]struct {
		text func(t *testing.T) (string, hooks)
		want kmskey.Provider
		ref  string // what a row stores begins with this
	}{
		"awskms by alias": {func(t *testing.T) (string, hooks) {
			return "awskms:alias/app?region=eu-west-1&timeout=5s&endpoint=" + startAWS(t).URL(), hooks{}
		}, &awskms.Provider{}, "arn:aws:kms:eu-west-1:111122223333:key/"},
		"awskms by ARN, in its region whatever AWS_REGION says": {func(t *testing.T) (string, hooks) {
			s := startAWS(t)
			t.Setenv("AWS_REGION", "us-east-2")
			return "awskms:arn:aws:kms:eu-central-1:111122223333:alias/app?endpoint=" + s.URL(), hooks{}
		}, &awskms.Provider{}, "arn:aws:kms:eu-central-1:"},
		"awskms in the environment's region": {func(t *testing.T) (string, hooks) {
			s := startAWS(t)
			t.Setenv("AWS_REGION", "eu-central-1")
			t.Setenv("AWS_ENDPOINT_URL_KMS", s.URL())
			return "awskms:alias/app?account=111122223333", hooks{}
		}, &awskms.Provider{}, "arn:aws:kms:eu-central-1:"},
		"azurekv": {func(t *testing.T) (string, hooks) {
			a, h := startAzure(t)
			t.Cleanup(func() {
				if a.host.Load() != "acme.vault.azure.net" {
					t.Errorf("asked %v", a.host.Load())
				}
			})
			return "azurekv:https://acme.vault.azure.net/keys/rows?timeout=5s", h
		}, &azurekv.Provider{}, "https://acme.vault.azure.net/keys/rows/"},
		"gcpkms": {func(t *testing.T) (string, hooks) {
			environ(t, nil)
			return "gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows?attempts=1&endpoint=http://" + startGoogle(t), hooks{}
		}, &gcpkms.Provider{}, "projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows/cryptoKeyVersions/1"},
		"vault by its environment": {func(t *testing.T) (string, hooks) {
			environ(t, map[string]string{"VAULT_ADDR": startVault(t).URL, "VAULT_TOKEN": "t0ken", "VAULT_NAMESPACE": "acme"})
			return "vault:team/transit/app", hooks{}
		}, &vaulttransit.Provider{}, "team/transit/keys/app:v1"},
		"vault by options, which come before the environment": {func(t *testing.T) (string, hooks) {
			environ(t, map[string]string{"BAO_ADDR": "http://127.0.0.1:1", "VAULT_AGENT_ADDR": "http://127.0.0.1:1", "BAO_TOKEN": "t0ken", "BAO_NAMESPACE": "other"})
			return "vault:team/transit/app?namespace=acme&timeout=5s&addr=" + startVault(t).URL, hooks{}
		}, &vaulttransit.Provider{}, "team/transit/keys/app:v1"},
		"local key of a file": {func(t *testing.T) (string, hooks) {
			return "local:file:" + keyFile, hooks{}
		}, &localkey.Provider{}, "local:"},
		"local key of the environment": {func(t *testing.T) (string, hooks) {
			environ(t, map[string]string{"ROWSEAL_KEY": envKey})
			return "local:env:ROWSEAL_KEY", hooks{}
		}, &localkey.Provider{}, "local:"},
		"the test key": {func(t *testing.T) (string, hooks) {
			return " insecure-test-key\n", hooks{}
		}, &localkey.Provider{}, "insecure-test:"},
	} {
		t.Run(name, func(t *testing.T) {
			text, h := c.text(t)
			opened := opens(t, text, h)
			// Not something around it: rewrapping asks whether the source is of its own kind.
			if got, want := reflect.TypeOf(opened.Provider), reflect.TypeOf(c.want); got != want {
				t.Errorf("a %v, not a %v", got, want)
			}
			must(t, opened.Check(t.Context()))
			if w := roundTrip(t, opened); !strings.HasPrefix(w.KeyRef, c.ref) {
				t.Errorf("the row names %s", w.KeyRef)
			}
			must(t, opened.Close())
			must(t, opened.Close())
			_, err := opened.Provider.Wrap(t.Context(), kmskey.NewDEK(), row(t, 7))
			if _, held := opened.Provider.(*gcpkms.Provider); held && err == nil {
				t.Error("the connection is still open")
			}
		})
	}
}

func TestOpen_several(t *testing.T) {
	s := startAWS(t)
	one, two := "awskms:alias/app?region=eu-west-1&endpoint="+s.URL(), "awskms:alias/app?region=eu-central-1&endpoint="+s.URL()
	c := opens(t, one+"\n\t"+two, hooks{})
	roundTrip(t, c)
	must(t, c.Check(t.Context()))
	if n := s.Calls("DescribeKey"); n != 2 {
		t.Errorf("Check asked %d times", n)
	}

	write := func(c *Connection) error {
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: c.Provider}}})
		must(t, err)
		_, err = keys.Wrap(t.Context(), kmskey.NewDataKey(), kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(7)}})
		return err
	}
	s.SetBefore(func(_ context.Context, call awskmstest.Call) error {
		if call.Region == "eu-west-1" {
			return awskmstest.Outage()
		}
		return nil
	})
	if err := write(c); !errors.Is(err, kmskey.ErrUnavailable) {
		t.Errorf("with half of the regions: %v", err)
	}
	must(t, write(opens(t, "quorum=1 "+one+" "+two, hooks{})))
	err := c.Check(t.Context())
	if !errors.Is(err, kmskey.ErrUnavailable) || strings.Contains(err.Error(), "eu-central-1") {
		t.Errorf("Check: %v", err)
	}
}

func TestOpen_awskms_options(t *testing.T) {
	environ(t, map[string]string{"AWS_REGION": "us-east-2", "AWS_CONFIG_FILE": filepath.Join(t.TempDir(), "config")})
	must(t, os.WriteFile(os.Getenv("AWS_CONFIG_FILE"), []byte("[profile prod]\nregion = eu-north-1\naws_access_key_id = AKIAPROD\naws_secret_access_key = x\n"), 0o600))
	for text, want := range map[string]struct {
		region, endpoint, key string
		fips                  aws.FIPSEndpointState
	}{
		"awskms:alias/app": {region: "us-east-2"},
		"awskms:alias/app?region=eu-west-1&fips=true":                          {region: "eu-west-1", fips: aws.FIPSEndpointStateEnabled},
		"awskms:alias/app?endpoint=https://kms.example.org":                    {region: "us-east-2", endpoint: "https://kms.example.org"},
		"awskms:alias/app?profile=prod&region=eu-west-3":                       {region: "eu-west-3", key: "AKIAPROD"},
		"awskms:arn:aws:kms:ca-central-1:111122223333:alias/app?profile=prod":  {region: "ca-central-1", key: "AKIAPROD"},
		"awskms:arn:aws:kms:eu-central-1:111122223333:alias/app?timeout=100ms": {region: "eu-central-1"},
	} {
		u, err := parseURL(text)
		must(t, err)
		client, err := clientAWS(t.Context(), u)
		must(t, err)
		o := client.Options()
		if o.Region != want.region || aws.ToString(o.BaseEndpoint) != want.endpoint || o.EndpointOptions.UseFIPSEndpoint != want.fips {
			t.Errorf("%s: region %s, endpoint %s, FIPS %v", text, o.Region, aws.ToString(o.BaseEndpoint), o.EndpointOptions.UseFIPSEndpoint)
		}
		if want.key != "" {
			c, err := o.Credentials.Retrieve(t.Context())
			must(t, err)
			if c.AccessKeyID != want.key {
				t.Errorf("%s: access key %s", text, c.AccessKeyID)
			}
		}
	}
}

// TestOpen_awskms_retries: what may be asked again is bounded by time, also in the mode in which nothing refills the SDK's own budget; how often one
// request is, and in which mode, stays the environment's matter.
func TestOpen_awskms_retries(t *testing.T) {
	s := startAWS(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "7")
	for text, budget := range map[string]string{
		"awskms:alias/app?region=eu-west-1":              "the budget of 10 repeats a second",
		"awskms:alias/app?region=eu-west-1&retries=3":    "the budget of 3 repeats a second",
		"awskms:alias/app?region=eu-west-1&retries=0":    "the budget of 0 repeats a second",
		"awskms:alias/app?region=eu-west-1&retries=1000": "the budget of 1000 repeats a second",
	} {
		for _, mode := range []aws.RetryMode{aws.RetryModeStandard, aws.RetryModeAdaptive} {
			t.Setenv("AWS_RETRY_MODE", string(mode))
			u, err := parseURL(text)
			must(t, err)
			client, err := clientAWS(t.Context(), u)
			must(t, err)
			o := client.Options()
			if o.RetryMode != mode || o.Retryer.MaxAttempts() != 7 {
				t.Errorf("%s: mode %s, %d attempts", text, o.RetryMode, o.Retryer.MaxAttempts())
			}
			// Whatever time passes here, time refills no more than the budget, and this asks for much more.
			var spent error
			for range 1_000_000 {
				if _, spent = o.Retryer.GetRetryToken(t.Context(), errors.New("throttled")); spent != nil {
					break
				}
			}
			if spent == nil || !strings.Contains(spent.Error(), budget) {
				t.Errorf("%s, %s: %v", text, mode, spent)
			}
		}
	}

	// Without a budget a throttled request is made once.
	s.SetBefore(func(context.Context, awskmstest.Call) error { return awskmstest.Throttled() })
	s.ResetCounts()
	c := opens(t, "awskms:alias/app?region=eu-west-1&retries=0&endpoint="+s.URL(), hooks{})
	if _, err := c.Provider.Wrap(t.Context(), kmskey.NewDEK(), row(t, 7)); !errors.Is(err, kmskey.ErrThrottled) || s.TotalCalls() != 1 {
		t.Errorf("%v, %d calls", err, s.TotalCalls())
	}
}

// TestCheck_asks: no service is passed over, and a key that is not there is found.
func TestCheck_asks(t *testing.T) {
	environ(t, nil)
	t.Run("gcpkms", func(t *testing.T) {
		g := &google{}
		must(t, opens(t, "gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows?endpoint=http://"+g.start(t), hooks{}).Check(t.Context()))
		if n := g.calls.Load(); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
	t.Run("azurekv", func(t *testing.T) {
		a, h := startAzure(t)
		must(t, opens(t, "azurekv:https://acme.vault.azure.net/keys/rows", h).Check(t.Context()))
		if n := a.calls.Load(); n < 2 {
			t.Errorf("%d calls", n)
		}
		err := opens(t, "azurekv:https://acme.vault.azure.net/keys/other", h).Check(t.Context())
		if !errors.Is(err, kmskey.ErrNotFound) || !strings.HasPrefix(err.Error(), "kmsurl: check azurekv:https://acme.vault.azure.net/keys/other: ") {
			t.Error(err)
		}
	})
	t.Run("each_provider_of_a_service_has_a_Check", func(t *testing.T) {
		for _, p := range []kmskey.Provider{&awskms.Provider{}, &azurekv.Provider{}, &gcpkms.Provider{}, &vaulttransit.Provider{}} {
			if _, ok := p.(interface{ Check(context.Context) error }); !ok {
				t.Errorf("%T", p)
			}
		}
	})
}

// TestOpen_rewraps: two connections have two clients, and AWS moves rows between them all the same.
func TestOpen_rewraps(t *testing.T) {
	s := startAWS(t)
	arn, err := s.CreateKeyIn(s.Account(), "eu-west-1")
	must(t, err)
	old := opens(t, "awskms:alias/app?account=111122223333&region=eu-west-1&endpoint="+s.URL(), hooks{})
	current := opens(t, "awskms:"+arn+"?endpoint="+s.URL(), hooks{})
	w := roundTrip(t, old)
	moved, err := current.Provider.(kmskey.Rewrapper).Rewrap(t.Context(), old.Provider, w, row(t, 7), row(t, 7))
	must(t, err)
	if moved.KeyRef != arn {
		t.Errorf("the row names %s", moved.KeyRef)
	}
}

// random is what differs each time.
var random = regexp.MustCompile(`(RequestID: |127\.0\.0\.1:|key/)[0-9a-f-]{4,}`)

// TestErrors is what is printed, to the letter.
func TestErrors(t *testing.T) {
	s := startAWS(t)
	at, dead, google := "&endpoint="+s.URL(), startDead(t), startGoogle(t)
	fault := func(f *awskmstest.Fault) func(*testing.T) {
		return func(t *testing.T) {
			s.SetBefore(func(context.Context, awskmstest.Call) error { return f })
			t.Cleanup(func() { s.SetBefore(nil) })
		}
	}
	vault := func(token string) func(*testing.T) {
		return func(t *testing.T) {
			t.Setenv("VAULT_ADDR", startVault(t).URL)
			t.Setenv("VAULT_NAMESPACE", "acme")
			t.Setenv("VAULT_TOKEN", token)
		}
	}
	for _, c := range []struct {
		text string
		set  func(*testing.T)
		want string
	}{
		// What Open says.
		{
			"awskms:arn:aws:kms:eu-west-1:111122223333", nil,
			`kmsurl: open awskms:arn:aws:kms:eu-west-1:111122223333: awskms: new provider: key "arn:aws:kms:eu-west-1:111122223333": not an ARN of KMS; expected a key id (1234abcd-12ab-34cd-56ef-1234567890ab), a key ARN (arn:aws:kms:eu-central-1:111122223333:key/……), an alias (alias/app) or an alias ARN`,
		},
		{
			"awskms:app?region=eu-west-1", nil,
			`kmsurl: open awskms:app?region=eu-west-1: awskms: new provider: key "app": not a key id; an alias begins with alias/; expected a key id (1234abcd-12ab-34cd-56ef-1234567890ab), a key ARN (arn:aws:kms:eu-central-1:111122223333:key/……), an alias (alias/app) or an alias ARN`,
		},
		{
			"awskms:alias/app", nil,
			`kmsurl: open awskms:alias/app: no region: add the option region, name the key by its ARN, or set AWS_REGION`,
		},
		{
			"awskms:alias/app?region=eu-west-1&profile=prod", nil,
			`kmsurl: open awskms:alias/app?profile=prod&region=eu-west-1: failed to get shared config profile, prod`,
		},
		{
			"awskms:alias/app?region=eu-west-1&previous=arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", nil,
			`kmsurl: open awskms:alias/app?previous=arn:aws:kms:us-east-1:111122223333:key/…&region=eu-west-1: awskms: new provider: Config.PreviousKeys: "arn:aws:kms:us-east-1:111122223333:key/…" is not in the client's region eu-west-1; give that key a version of its own in the keyring`,
		},
		{
			"awskms:alias/app?region=eu-west-1&replicas=cn-north-1", nil,
			`kmsurl: open awskms:alias/app?region=eu-west-1&replicas=cn-north-1: awskms: new provider: Config.ReplicaRegions: cn-north-1 is in partition aws-cn, and replicas stay within aws`,
		},
		{
			"azurekv:https://acme.vault.azure.net/keys/a_b", nil,
			`kmsurl: open azurekv:https://acme.vault.azure.net/keys/a_b: azurekv: new provider: key "https://acme.vault.azure.net/keys/a_b": the name is malformed; expected https://<vault>.vault.azure.net/keys/<name>, with or without /<version>`,
		},
		{
			"gcpkms:projects/acme/cryptoKeys/rows?endpoint=http://localhost:1", nil,
			`kmsurl: open gcpkms:projects/acme/cryptoKeys/rows?endpoint=http://localhost:1: gcpkms: new provider: key "projects/acme/cryptoKeys/rows": not the full name of a CryptoKey; expected projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>`,
		},
		{
			"gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows", func(t *testing.T) { t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "none.json") },
			`kmsurl: open gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows: open none.json: no such file or directory`,
		},
		{
			"vault:transit/app", nil,
			`kmsurl: open vault:transit/app: no address: set VAULT_ADDR, or add the option addr`,
		},
		{
			"vault:transit/a:b?addr=http://127.0.0.1:1", nil,
			`kmsurl: open vault:transit/a:b?addr=http://127.0.0.1:1: vaulttransit: new provider: key "a:b": expected the name of a transit key, 1 to 200 letters, digits, '_', and '-' and '.' between them`,
		},
		{
			"local:file:./none.key", nil,
			`kmsurl: open local:file:./none.key: localkey: key file: stat ./none.key: no such file or directory; make one with: (umask 077; openssl rand -hex 32 > ./none.key)`,
		},
		{
			"local:env:ROWSEAL_KEY", nil,
			`kmsurl: open local:env:ROWSEAL_KEY: localkey: environment variable ROWSEAL_KEY is not set; set it to a key made with: openssl rand -hex 32`,
		},
		{
			"awskms:alias/app?region=eu-west-1 local:env:ROWSEAL_KEY", nil,
			`kmsurl: open local:env:ROWSEAL_KEY: localkey: environment variable ROWSEAL_KEY is not set; set it to a key made with: openssl rand -hex 32`,
		},

		// What Check says.
		{
			"awskms:alias/app?region=eu-west-1" + at, fault(&awskmstest.Fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}),
			`kmsurl: check awskms:alias/app?endpoint=http://127.0.0.1:…&region=eu-west-1: kmskey: check with aws key "alias/app": access denied: operation error KMS: DescribeKey, https response error StatusCode: 400, RequestID: …, api error ExpiredTokenException: The security token included in the request is expired; the client's credentials have expired: sign in again, or give it credentials that renew themselves (a role, SSO)`,
		},
		{
			"awskms:alias/none?region=eu-west-1" + at, nil,
			`kmsurl: check awskms:alias/none?endpoint=http://127.0.0.1:…&region=eu-west-1: kmskey: check with aws key "alias/none": key not found: operation error KMS: DescribeKey, https response error StatusCode: 400, RequestID: …, NotFoundException: Alias arn:aws:kms:eu-west-1:111122223333:alias/none is not found.; the client asked in region eu-west-1: check the key's name, account and region`,
		},
		{
			"awskms:alias/app?account=444455556666&region=eu-west-1" + at, nil,
			`kmsurl: check awskms:alias/app?account=444455556666&endpoint=http://127.0.0.1:…&region=eu-west-1: kmskey: check with aws key "alias/app": invalid request: AWS KMS used key "arn:aws:kms:eu-west-1:111122223333:key/…", which lies outside the configuration; check Config.Account and the client's credentials and region`,
		},
		{
			"awskms:alias/app?region=eu-west-1" + at, func(t *testing.T) { unset(t, "AWS_ACCESS_KEY_ID") },
			`kmsurl: check awskms:alias/app?endpoint=http://127.0.0.1:…&region=eu-west-1: kmskey: check with aws key "alias/app": access denied: operation error KMS: DescribeKey, get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled to EC2 IMDS via client option, or "AWS_EC2_METADATA_DISABLED" environment variable; the client has no credentials: give the process a role or a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
		},
		{
			"awskms:alias/app?region=eu-west-1&timeout=100ms&endpoint=http://" + dead, nil,
			`kmsurl: check awskms:alias/app?endpoint=http://127.0.0.1:…&region=eu-west-1&timeout=100ms: kmskey: check with aws key "alias/app": key service unavailable: operation error KMS: DescribeKey, https response error StatusCode: 0, RequestID: , canceled, context deadline exceeded; each call has 100ms at most (Config.Timeout), and no more than the caller's deadline`,
		},
		{
			"gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/none?endpoint=http://" + google, nil,
			`kmsurl: check gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/none?endpoint=http://127.0.0.1:…: kmskey: check with gcp key "projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/none": key not found: rpc error: code = NotFound desc = CryptoKey projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/none not found.; check project, location, key ring and key of the name`,
		},
		{
			"gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/denied?endpoint=http://" + google, nil,
			`kmsurl: check gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/denied?endpoint=http://127.0.0.1:…: kmskey: check with gcp key "projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/denied": access denied: rpc error: code = PermissionDenied desc = Permission 'cloudkms.cryptoKeyVersions.useToDecrypt' denied on resource 'projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/denied' (or it may not exist).; grant this principal on the key what it is to do: cloudkms.cryptoKeyVersions.useToEncrypt (roles/cloudkms.cryptoKeyEncrypter), cloudkms.cryptoKeyVersions.useToDecrypt (roles/cloudkms.cryptoKeyDecrypter), or both; Google may answer so too where the key does not exist, so check project, location, key ring and key`,
		},
		{
			"vault:team/transit/app", vault(""),
			`kmsurl: check vault:team/transit/app: kmskey: check with vault key "team/transit/keys/app": access denied: Vault answered with status 400: missing client token; check the client's token: it is missing, expired or revoked`,
		},
		{
			"vault:team/transit/app", vault("other"),
			`kmsurl: check vault:team/transit/app: kmskey: check with vault key "team/transit/keys/app": access denied: Vault answered with status 403: permission denied; invalid token; check the client's token: it is missing, expired or revoked`,
		},
		{
			"vault:team/transit/none", vault("t0ken"),
			`kmsurl: check vault:team/transit/none: kmskey: check with vault key "team/transit/keys/none": key not found; check mount, name and the client's namespace, or make the key: vault write -f team/transit/keys/none derived=true`,
		},
		{
			"vault:team/transit/app?timeout=100ms&addr=http://" + dead, nil,
			`kmsurl: check vault:team/transit/app?addr=http://127.0.0.1:…&timeout=100ms: kmskey: check with vault key "team/transit/keys/app": key service unavailable: context deadline exceeded; each request has 100ms at most (Config.Timeout), and no more than the caller's deadline`,
		},
	} {
		t.Run("", func(t *testing.T) {
			if c.set != nil {
				c.set(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			opened, err := Open(ctx, c.text)
			if err == nil {
				err = errors.Join(opened.Check(ctx), opened.Close())
			}
			if err == nil {
				t.Fatal("no error")
			}
			if ctx.Err() != nil {
				t.Error("it took the whole time")
			}
			got := random.ReplaceAllString(err.Error(), "$1…")
			if got != c.want {
				t.Errorf("%s: got\n%s\nwant\n%s", c.text, got, c.want)
			}
		})
	}
}

// TestOpen_dead: nothing that does not answer is waited for beyond the context.
func TestOpen_dead(t *testing.T) {
	environ(t, map[string]string{"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "0123456789abcdef0123456789abcdef01234567", "VAULT_TOKEN": "x"})
	addr := startDead(t)
	for _, text := range []string{
		"awskms:alias/app?region=eu-west-1&endpoint=http://" + addr,
		"gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows?endpoint=http://" + addr,
		"vault:transit/app?addr=http://" + addr,
	} {
		t.Run(strings.ReplaceAll(text, "/", "|"), func(t *testing.T) {
			c := opens(t, text, hooks{})
			dek := kmskey.NewDEK()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := c.Check(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Check: %v", err)
			}
			if _, err := c.Provider.Wrap(ctx, dek, row(t, 7)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kmskey.ErrUnavailable) {
				t.Errorf("Wrap: %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, "insecure-test-key"); !errors.Is(err, context.Canceled) {
		t.Errorf("under a context that is done: %v", err)
	}
}
