package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// TestErrorKinds: what AWS, emulators and the network answer, by the class that callers branch on and by what there is to do. Messages are
// AWS's where they are documented or decide.
func TestErrorKinds(t *testing.T) {
	const key, user = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "User: arn:aws:iam::111122223333:user/app"
	const refused = user + " is not authorized to perform: kms:Decrypt on resource: " + key
	for _, c := range []struct {
		code, message string
		status        int
		kind          error
		hint          string
	}{
		{"AccessDeniedException", "told so", 400, kmskey.ErrDenied, "allow this principal kms:Decrypt on the key"},
		{"AccessDeniedException", refused + " because no identity-based policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "allow this principal kms:Decrypt on " + key + " in an IAM policy of the principal"},
		{"AccessDeniedException", refused + " because no resource-based policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "in the key policy, whose conditions count (kms:ViaService"},
		{"AccessDeniedException", refused + " because no session policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "in the session policy that the role was taken with"},
		{"AccessDeniedException", refused + " because no permissions boundary allows the kms:Decrypt action", 400, kmskey.ErrDenied, "in the principal's permissions boundary"},
		{"AccessDeniedException", refused + " because no service control policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "in the service control policies of the organization"},
		{"AccessDeniedException", refused + " because no VPC endpoint policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "in the policy of the VPC endpoint"},
		{"AccessDeniedException", refused + " with an explicit deny in a service control policy", 400, kmskey.ErrDenied, "is denied in the service control policies of the organization: take the Deny away there, an Allow elsewhere does not help"},
		{"AccessDeniedException", refused + " with an explicit deny in a resource control policy", 400, kmskey.ErrDenied, "is denied in the resource control policies"},
		{"AccessDeniedException", refused + " with an explicit deny in an identity-based policy", 400, kmskey.ErrDenied, "is denied in an IAM policy of the principal"},
		{"AccessDeniedException", refused + " with an explicit deny in a resource-based policy", 400, kmskey.ErrDenied, "is denied in the key policy, whose conditions count (kms:ViaService"},
		{"AccessDeniedException", refused + " with an explicit deny in a VPC endpoint policy", 400, kmskey.ErrDenied, "is denied in the policy of the VPC endpoint"},
		{"AccessDeniedException", strings.Replace(refused, "iam::111122223333", "iam::999988887777", 1) + " because no identity-based policy allows the kms:Decrypt action", 400, kmskey.ErrDenied, "its policy there and an IAM policy of account 999988887777 must both allow it"},
		{"AccessDeniedException", user + " is not authorized to perform: kms:Decrypt on this resource because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access", 400, kmskey.ErrDenied, "AWS does not tell whether there is such a key in region eu-central-1"},
		{"AccessDeniedException", "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.", 400, kmskey.ErrDenied, "allow this principal kms:Decrypt on it"},
		{"AccessDenied", "told so", 403, kmskey.ErrDenied, "allow this principal kms:Decrypt"},
		{"NotAuthorized", "told so", 400, kmskey.ErrDenied, "allow this principal kms:Decrypt"},
		{"UnrecognizedClientException", "The security token included in the request is invalid.", 403, kmskey.ErrDenied, "AWS does not know the client's access key"},
		{"InvalidClientTokenId", "told so", 403, kmskey.ErrDenied, "AWS does not know the client's access key"},
		{"ExpiredTokenException", "The security token included in the request is expired", 400, kmskey.ErrDenied, "the client's credentials have expired"},
		{"ExpiredToken", "told so", 400, kmskey.ErrDenied, "the client's credentials have expired"},
		{"RequestExpired", "told so", 400, kmskey.ErrDenied, "the client's credentials have expired"},
		{"InvalidSignatureException", "Signature expired: 20300102T000000Z is now earlier than 20300102T030000Z (5 min.)", 403, kmskey.ErrDenied, "set this machine's clock"},
		{"InvalidSignatureException", "Signature not yet current: 20300102T060000Z is still later than 20300102T030000Z (5 min.)", 403, kmskey.ErrDenied, "set this machine's clock"},
		{"InvalidSignatureException", "The request signature we calculated does not match", 403, kmskey.ErrDenied, "check the client's secret access key"},
		{"SignatureDoesNotMatch", "told so", 403, kmskey.ErrDenied, "check the client's secret access key"},
		{"IncompleteSignature", "told so", 403, kmskey.ErrDenied, "check the client's secret access key"},
		{"IncompleteSignatureException", "told so", 403, kmskey.ErrDenied, "check the client's secret access key"},
		{"MissingAuthenticationToken", "told so", 403, kmskey.ErrDenied, "check the client's credentials"},
		{"MissingAuthenticationTokenException", "told so", 403, kmskey.ErrDenied, "check the client's credentials"},
		{"OptInRequired", "told so", 403, kmskey.ErrDenied, "that the account has the region enabled"},
		{"SomethingNew", "told so", 403, kmskey.ErrDenied, "check the client's credentials"},
		{"SomethingNew", "told so", 401, kmskey.ErrDenied, "check the client's credentials"},
		{"DisabledException", key + " is disabled.", 400, kmskey.ErrDisabled, "enable it, or list its successor first"},
		{"KMSInvalidStateException", key + " is pending deletion.", 400, kmskey.ErrDisabled, "cancel-key-deletion and then enable-key bring it back; Provider.Check says until when"},
		{"KMSInvalidStateException", key + " is pending replica deletion.", 400, kmskey.ErrDisabled, "its deletion is scheduled"},
		{"KMSInvalidStateException", key + " is pending import.", 400, kmskey.ErrDisabled, "import the same material again"},
		{"KMSInvalidStateException", key + " is creating.", 400, kmskey.ErrUnavailable, "try again in some minutes"},
		{"KMSInvalidStateException", key + " is updating.", 400, kmskey.ErrUnavailable, "try again in some minutes"},
		{"KMSInvalidStateException", key + " is unavailable.", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"KMSInvalidStateException", "told so", 400, kmskey.ErrDisabled, "list its successor first"},
		{"CloudHsmClusterNotActiveException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"CloudHsmClusterInvalidConfigurationException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"CustomKeyStoreInvalidStateException", "told so", 400, kmskey.ErrUnavailable, "connect it"},
		{"CustomKeyStoreNotFoundException", "told so", 400, kmskey.ErrUnavailable, "connect it"},
		{"XksProxyUriUnreachableException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"XksProxyInvalidResponseException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"XksProxyIncorrectAuthenticationCredentialException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"XksKeyNotFoundException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"XksKeyInvalidConfigurationException", "told so", 400, kmskey.ErrUnavailable, "the key is in a custom key store"},
		{"NotFoundException", "told so", 400, kmskey.ErrNotFound, "region eu-central-1"},
		{"InvalidCiphertextException", "", 400, kmskey.ErrContextMismatch, "the encryption context sent has the pairs {model_id model_name}"},
		{"IncorrectKeyException", "told so", 400, kmskey.ErrContextMismatch, "not of the key that the row names"},
		{"ThrottlingException", "told so", 400, kmskey.ErrThrottled, "lower the concurrency"},
		{"TooManyRequestsException", "told so", 400, kmskey.ErrThrottled, "lower the concurrency"},
		{"LimitExceededException", "told so", 400, kmskey.ErrThrottled, "lower the concurrency"},
		{"RequestLimitExceeded", "told so", 400, kmskey.ErrThrottled, "lower the concurrency"},
		{"SomethingNew", "told so", 429, kmskey.ErrThrottled, "lower the concurrency"},
		{"KMSInternalException", "told so", 500, kmskey.ErrUnavailable, "try again"},
		{"KeyUnavailableException", "told so", 500, kmskey.ErrUnavailable, "cannot be used for now"},
		{"DependencyTimeoutException", "told so", 503, kmskey.ErrUnavailable, "try again"},
		{"ServiceUnavailableException", "told so", 503, kmskey.ErrUnavailable, "try again"},
		{"ServiceUnavailable", "told so", 503, kmskey.ErrUnavailable, "try again"},
		{"InternalFailure", "told so", 500, kmskey.ErrUnavailable, "try again"},
		{"InternalError", "told so", 500, kmskey.ErrUnavailable, "try again"},
		{"RequestTimeout", "told so", 408, kmskey.ErrUnavailable, "try again"},
		{"RequestTimeoutException", "told so", 408, kmskey.ErrUnavailable, "try again"},
		{"SomethingNew", "told so", 408, kmskey.ErrUnavailable, ""},
		{"SomethingNew", "told so", 502, kmskey.ErrUnavailable, ""},
		{"InvalidArnException", "told so", 400, kmskey.ErrInvalid, "check the configured key's name"},
		{"InvalidKeyUsageException", "told so", 400, kmskey.ErrInvalid, "configure a symmetric key"},
		{"InvalidGrantTokenException", "told so", 400, kmskey.ErrInvalid, "Config.GrantTokens"},
		{"UnsupportedOperationException", "told so", 400, kmskey.ErrInvalid, "is the endpoint an emulator"},
		{"DryRunOperationException", "told so", 400, kmskey.ErrInvalid, ""},
		{"ValidationException", "told so", 400, kmskey.ErrInvalid, ""},
		{"ValidationError", "told so", 400, kmskey.ErrInvalid, ""},
		{"SerializationException", "told so", 400, kmskey.ErrInvalid, ""},
		{"SomethingNew", "told so", 400, kmskey.ErrInvalid, "is the endpoint AWS KMS?"},
	} {
		t.Run(fmt.Sprintf("%s_%d_%.90s", c.code, c.status, c.message), func(t *testing.T) {
			srv := awskmstest.New(t, awskmstest.Config{})
			p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{})
			w := wrap(t, p, row(t, 1))
			srv.SetBefore(func(context.Context, awskmstest.Call) error {
				return &awskmstest.Fault{Code: c.code, Message: c.message, Status: c.status}
			})
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, c.kind, c.hint)
			api, ok := errors.AsType[smithy.APIError](err)
			if !ok || api.ErrorCode() != c.code {
				t.Errorf("the cause is lost: %v", err)
			}
			if strings.Contains(err.Error(), "Patient") {
				t.Errorf("a value of the context is in the error: %v", err)
			}
		})
	}
	t.Run("a_context_without_pairs_is_said_to_have_none", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{})
		_, err := p.Unwrap(t.Context(), wrap(t, p, row(t, 1)), kmskey.Context{})
		says(t, err, kmskey.ErrContextMismatch, "the encryption context sent has no pairs")
	})
	t.Run("each_act_names_its_own_action", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		key, other := srv.CreateKey(), srv.CreateKey()
		w := wrap(t, provider(t, srv.Client(), key, awskms.Config{}), row(t, 1))
		nobody := provider(t, srv.NewPrincipal("nobody").Client(), key, awskms.Config{})
		half := provider(t, srv.NewPrincipal("half", "kms:ReEncryptTo").Client(), other, awskms.Config{PreviousKeys: []string{key}})
		_, wrapping := nobody.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		_, unwrapping := nobody.Unwrap(t.Context(), w, row(t, 1))
		_, rewrapping := half.Rewrap(t.Context(), half, w, row(t, 1), row(t, 1))
		_, _, generating := nobody.Generate(t.Context(), row(t, 1))
		_, blind := nobody.GenerateWrapped(t.Context(), row(t, 1))
		for action, err := range map[string]error{
			"kms:Encrypt": wrapping, "kms:Decrypt": unwrapping, "kms:ReEncryptFrom": rewrapping,
			"kms:GenerateDataKey": generating, "kms:GenerateDataKeyWithoutPlaintext": blind,
		} {
			says(t, err, kmskey.ErrDenied, "allow this principal "+action+" on "+key+" in an IAM policy")
		}
	})
	t.Run("a_pending_deletion_is_disabled", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		key := srv.CreateKey()
		p := provider(t, srv.Client(), key, awskms.Config{})
		w := wrap(t, p, row(t, 1))
		must(t, srv.ScheduleKeyDeletion(key))
		_, err := p.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrDisabled, "cancel-key-deletion and then enable-key bring it back; Provider.Check says until when")
	})
	t.Run("a_dropped_connection_is_unavailable", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{})
		srv.SetBefore(func(context.Context, awskmstest.Call) error { return awskmstest.ErrDropConnection })
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrUnavailable, "the endpoint was not reached: check network, proxy and VPC endpoint")
	})
	t.Run("a_server_that_is_gone_is_unavailable", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{})
		srv.Close()
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrUnavailable, "the endpoint was not reached")
	})
	t.Run("a_wrong_secret_is_denied", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		client := srv.Client(func(o *kms.Options) {
			creds, _ := o.Credentials.Retrieve(context.Background())
			creds.SecretAccessKey += "x"
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil })
		})
		_, err := provider(t, client, srv.CreateKey(), awskms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrDenied, "check the client's secret access key and region")
	})
	t.Run("the_provider's_own_timeout_is_a_deadline", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		p := provider(t, srv.Client(), srv.CreateKey(), awskms.Config{Timeout: time.Nanosecond})
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrUnavailable, "Config.Timeout")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no DeadlineExceeded", err)
		}
	})
}

// TestCredentials: what the SDK says when it has none, which is none of AWS KMS's answers.
func TestCredentials(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	key := srv.CreateKey()
	with := func(retrieve func(context.Context) (aws.Credentials, error), cfg awskms.Config, options ...func(*kms.Options)) *awskms.Provider {
		return provider(t, srv.Client(append(options, func(o *kms.Options) {
			o.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(retrieve))
		})...), key, cfg)
	}
	wraps := func(p *awskms.Provider) error {
		_, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		return err
	}
	fails := func(err error) func(context.Context) (aws.Credentials, error) {
		return func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, err }
	}
	t.Run("none_is_denied", func(t *testing.T) {
		err := wraps(with(fails(errors.New("no EC2 IMDS role found")), awskms.Config{}))
		says(t, err, kmskey.ErrDenied, "the client has no credentials: give the process a role or a profile")
		says(t, err, kmskey.ErrDenied, "no EC2 IMDS role found")
	})
	t.Run("none_is_denied_after_retries_too", func(t *testing.T) {
		imds := &net.OpError{Op: "dial", Err: errors.New("no route to host")} // what the SDK takes for worth a repeat
		err := wraps(with(fails(imds), awskms.Config{}, func(o *kms.Options) {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.Backoff = noPause })
		}))
		says(t, err, kmskey.ErrDenied, "exceeded maximum number of attempts")
		says(t, err, kmskey.ErrDenied, "the client has no credentials")
	})
	t.Run("a_role_that_may_not_be_taken_is_denied_and_not_for_want_of_the_key's_permission", func(t *testing.T) {
		sts := &smithy.GenericAPIError{Code: "AccessDenied", Message: "User: arn:aws:iam::111122223333:user/app is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/app", Fault: smithy.FaultClient}
		err := wraps(with(fails(sts), awskms.Config{}))
		says(t, err, kmskey.ErrDenied, "the client has no credentials")
		if strings.Contains(err.Error(), "kms:Encrypt") {
			t.Errorf("%v blames the key", err)
		}
	})
	t.Run("a_role_that_cannot_be_taken_for_now_is_unavailable", func(t *testing.T) {
		for _, sts := range []error{
			&smithy.GenericAPIError{Code: "Throttling", Fault: smithy.FaultClient},
			&smithy.GenericAPIError{Code: "InternalFailure", Fault: smithy.FaultServer},
		} {
			says(t, wraps(with(fails(sts), awskms.Config{})), kmskey.ErrUnavailable, "no credentials for now")
		}
	})
	t.Run("waiting_for_them_ends_with_the_timeout", func(t *testing.T) {
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		deaf := func(context.Context) (aws.Credentials, error) {
			<-release
			return aws.Credentials{}, errors.New("late")
		}
		err := wraps(with(deaf, awskms.Config{Timeout: 20 * time.Millisecond}))
		says(t, err, kmskey.ErrUnavailable, "the time went by in waiting for credentials")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v is no DeadlineExceeded", err)
		}
	})
	t.Run("expired_ones_are_denied", func(t *testing.T) {
		srv.SetBefore(func(context.Context, awskmstest.Call) error {
			return &awskmstest.Fault{Code: "ExpiredTokenException", Message: "The security token included in the request is expired"}
		})
		defer srv.SetBefore(nil)
		says(t, wraps(provider(t, srv.Client(), key, awskms.Config{})), kmskey.ErrDenied, "sign in again")
	})
	t.Run("without_a_provider_of_them_the_request_is_not_signed_and_denied", func(t *testing.T) {
		err := wraps(provider(t, srv.Client(func(o *kms.Options) { o.Credentials = nil }), key, awskms.Config{}))
		says(t, err, kmskey.ErrDenied, "credentials")
	})
}

// TestClock: a machine whose clock is wrong is told so. (Where a client may repeat, the SDK also corrects its signatures by AWS's Date.)
func TestClock(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{Now: func() time.Time { return time.Now().Add(-time.Hour) }})
	key := srv.CreateKey()
	_, err := provider(t, srv.Client(), key, awskms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
	says(t, err, kmskey.ErrDenied, "set this machine's clock")
}

// seen is an HTTP client that answers nothing and keeps the host that was asked.
type seen struct{ host string }

func (s *seen) Do(r *http.Request) (*http.Response, error) {
	s.host = r.URL.Host
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
}

// TestEndpoints: where the client asks is the client's matter, and that it is asked there.
func TestEndpoints(t *testing.T) {
	for _, c := range []struct {
		name, host string
		options    func(*kms.Options)
	}{
		{"the_region's_own", "kms.eu-central-1.amazonaws.com", func(*kms.Options) {}},
		{"FIPS", "kms-fips.eu-central-1.amazonaws.com", func(o *kms.Options) { o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled }},
		{"FIPS_in_GovCloud", "kms-fips.us-gov-west-1.amazonaws.com", func(o *kms.Options) {
			o.Region, o.EndpointOptions.UseFIPSEndpoint = "us-gov-west-1", aws.FIPSEndpointStateEnabled
		}},
		{"a_VPC_endpoint", "vpce-0123.kms.eu-central-1.vpce.amazonaws.com", func(o *kms.Options) {
			o.BaseEndpoint = aws.String("https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &seen{}
			o := kms.Options{Region: "eu-central-1", HTTPClient: s, Retryer: aws.NopRetryer{}, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "a secret of some length"}, nil
			})}
			_, err := provider(t, kms.New(o, c.options), "alias/app", awskms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
			says(t, err, kmskey.ErrUnavailable, "the endpoint's name does not resolve")
			if s.host != c.host {
				t.Errorf("asked %q, want %q", s.host, c.host)
			}
		})
	}
	t.Run("FIPS_and_an_endpoint_of_its_own_do_not_go_together", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		client := srv.Client(func(o *kms.Options) { o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateEnabled })
		_, err := provider(t, client, srv.CreateKey(), awskms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrInvalid, "do not go together")
		if srv.TotalCalls() != 0 {
			t.Errorf("%d calls", srv.TotalCalls())
		}
	})
	t.Run("a_certificate_that_is_not_trusted_is_unavailable", func(t *testing.T) {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the handshake that the client ended
		s.StartTLS()
		defer s.Close()
		o := awskmstest.New(t, awskmstest.Config{}).Client().Options()
		o.BaseEndpoint, o.HTTPClient = aws.String(s.URL), &http.Client{Transport: &http.Transport{}}
		_, err := provider(t, kms.New(o), "alias/app", awskms.Config{}).Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		says(t, err, kmskey.ErrUnavailable, "the endpoint's certificate is not trusted")
	})
}

// noPause is no pause between attempts.
var noPause = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
