// errors.go owns what AWS's errors mean: a kind to branch on, a hint to act on, and no trace of a data key.

package awskms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/rowseal/rowseal/kmskey"
)

// failedUnder is failed for a call that asked for a row's key. Where it asked for the configured name, because the account is not
// known yet, AWS saying that another key was used most likely means that the alias has moved on.
func (a act) failedUnder(ctx context.Context, key known, err error) error {
	out := a.failed(ctx, err)
	if k, ok := errors.AsType[*kmskey.Error](out); ok && key.byName && is[*types.IncorrectKeyException](err) {
		k.Hint = fmt.Sprintf("the row lies under a key that %q no longer names: set Config.Account, or list the key in Config.PreviousKeys", key.ask)
	}
	return out
}

// failed gives an error of the client its kind and hint. ctx is the call's own.
func (a act) failed(ctx context.Context, err error) error {
	scrub(err)
	ctxErr := ctx.Err()
	if ctxErr == nil {
		hint, kind := a.meaning(err)
		return a.fail(kind, hint, err)
	}
	if !errors.Is(err, ctxErr) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	switch {
	case !errors.Is(ctxErr, context.DeadlineExceeded):
		return a.fail(kmskey.ErrUnavailable, "", err)
	case is[*heldBack](err):
		return a.fail(kmskey.ErrThrottled, hintThrottled, err)
	}
	hint := fmt.Sprintf("each call has %v at most (Config.Timeout), and no more than the caller's deadline", a.p.timeout)
	if withoutCredentials(err) {
		hint = "the time went by in waiting for credentials; " + hint
	}
	return a.fail(kmskey.ErrUnavailable, hint, err)
}

// scrub takes the response out of an error that the SDK keeps it in: the answer to Decrypt is the data key.
func scrub(err error) {
	var broken *smithy.DeserializationError
	if errors.As(err, &broken) {
		clear(broken.Snapshot)
		broken.Snapshot = nil
	}
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

const (
	hintThrottled = "lower the concurrency, or raise the account's quota for cryptographic operations; awskms.Retries bounds how often the client asks again"
	hintStore     = "the key is in a custom key store, which is not connected or not well: see describe-custom-key-stores, and connect it"
)

// meaning goes by the code of AWS's answer, else by the HTTP status, since emulators and proxies answer with codes that AWS does not
// have. Without any answer the service is unavailable.
func (a act) meaning(err error) (hint string, kind error) {
	api, answered := errors.AsType[smithy.APIError](err)
	if withoutCredentials(err) {
		// What answered, if anything, is the service that gives out credentials, and a fault of its own passes.
		if answered && (throttles(api) || api.ErrorFault() == smithy.FaultServer) {
			return "the client got no credentials for now", kmskey.ErrUnavailable
		}
		return "the client has no credentials: give the process a role or a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", kmskey.ErrDenied
	}
	if answered {
		if hint, kind := a.meaningOf(api); kind != nil {
			return hint, kind
		}
	}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.Response != nil && response.HTTPStatusCode() != 0 {
		switch status := response.HTTPStatusCode(); {
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return "check the client's credentials, and what stands between it and AWS", kmskey.ErrDenied
		case status == http.StatusTooManyRequests:
			return hintThrottled, kmskey.ErrThrottled
		case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
			return "is the endpoint AWS KMS?", kmskey.ErrInvalid
		}
		return "", kmskey.ErrUnavailable
	}
	return unreached(err)
}

func throttles(api smithy.APIError) bool {
	_, is := retry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return is
}

// meaningOf is what a code of AWS means; no kind where the code is none of AWS's.
func (a act) meaningOf(api smithy.APIError) (hint string, kind error) {
	code, message := api.ErrorCode(), strings.ToLower(api.ErrorMessage())
	says := func(part string) bool { return strings.Contains(message, part) }
	if throttles(api) {
		return hintThrottled, kmskey.ErrThrottled
	}
	switch code {
	case "AccessDeniedException", "AccessDenied", "NotAuthorized":
		return a.denied(api.ErrorMessage()), kmskey.ErrDenied
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
		return "the client's credentials have expired: sign in again, or give it credentials that renew themselves (a role, SSO)", kmskey.ErrDenied
	case "UnrecognizedClientException", "InvalidClientTokenId":
		return "AWS does not know the client's access key or session token: check the client's credentials and their partition", kmskey.ErrDenied
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException":
		if says("signature expired") || says("not yet current") {
			return "set this machine's clock, which is more than five minutes from AWS's", kmskey.ErrDenied
		}
		return "check the client's secret access key and region, and that no proxy changes requests", kmskey.ErrDenied
	case "MissingAuthenticationToken", "MissingAuthenticationTokenException", "OptInRequired":
		return "check the client's credentials, and that the account has the region enabled", kmskey.ErrDenied

	case "DisabledException":
		return "enable it, or list its successor first", kmskey.ErrDisabled
	case "KMSInvalidStateException":
		return a.state(says)
	case "NotFoundException":
		return fmt.Sprintf("the client asked in region %s: check the key's name, account and region", a.p.region), kmskey.ErrNotFound

	case "InvalidCiphertextException", "IncorrectKeyException":
		if a.op != "unwrap" && a.op != "rewrap" {
			return "is the endpoint AWS KMS?", kmskey.ErrInvalid
		}
		if code == "IncorrectKeyException" {
			return "the ciphertext is not of the key that the row names", kmskey.ErrContextMismatch
		}
		if a.ec.Len() == 0 {
			return "AWS KMS does not say what is wrong; the encryption context sent has no pairs", kmskey.ErrContextMismatch
		}
		return fmt.Sprintf("AWS KMS does not say what is wrong; the encryption context sent has the pairs %.1000s", a.ec), kmskey.ErrContextMismatch

	case "KeyUnavailableException":
		return "the key cannot be used for now; where it is in a custom key store, see describe-custom-key-stores", kmskey.ErrUnavailable
	case "DependencyTimeoutException", "KMSInternalException",
		"ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalError", "RequestTimeout", "RequestTimeoutException":
		return "AWS KMS failed; try again", kmskey.ErrUnavailable

	case "InvalidGrantTokenException":
		return "Config.GrantTokens gave a token that AWS does not know; a grant that is some minutes old needs none", kmskey.ErrInvalid
	case "InvalidKeyUsageException":
		return "configure a symmetric key for encryption (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)", kmskey.ErrInvalid
	case "InvalidArnException":
		return "check the configured key's name", kmskey.ErrInvalid
	case "UnsupportedOperationException":
		return "is the endpoint an emulator that lacks this?", kmskey.ErrInvalid
	case "DryRunOperationException", "ValidationException", "ValidationError", "SerializationException":
		return "", kmskey.ErrInvalid
	}
	for _, store := range []string{"CloudHsm", "CustomKeyStore", "Xks"} {
		if strings.HasPrefix(code, store) {
			return hintStore, kmskey.ErrUnavailable
		}
	}
	return "", nil
}

// state is what KMSInvalidStateException means: the message alone says which state.
func (a act) state(says func(string) bool) (hint string, kind error) {
	switch {
	case says("pending deletion"), says("pendingdeletion"), says("pending replica deletion"), says("pendingreplicadeletion"):
		hint = "its deletion is scheduled, and all rows under it go with it: cancel-key-deletion and then enable-key bring it back"
		if a.op != "check" {
			hint += "; Provider.Check says until when"
		}
		return hint, kmskey.ErrDisabled
	case says("pending import"), says("pendingimport"):
		return "its imported key material is missing or has expired: import the same material again", kmskey.ErrDisabled
	case says("creating"), says("updating"):
		return "it is being made or changed; try again in some minutes", kmskey.ErrUnavailable
	case says("unavailable"), says("key store"), says("cluster"), says("proxy"):
		return hintStore, kmskey.ErrUnavailable
	}
	return "if its deletion is scheduled, cancel that and enable it, or list its successor first", kmskey.ErrDisabled
}

// refusal reads "User: arn:aws:iam::111122223333:user/app is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:… because …".
var refusal = regexp.MustCompile(`User: (\S+) is not authorized to perform: (\w+:\w+) on (?:resource: (\S+)|this resource)`)

// needed is the action that each act takes.
var needed = map[string]string{
	"wrap": "kms:Encrypt", "unwrap": "kms:Decrypt", "rewrap": "kms:ReEncryptFrom on the old key and kms:ReEncryptTo",
	"generate": "kms:GenerateDataKey", "generate wrapped": "kms:GenerateDataKeyWithoutPlaintext", "check": "kms:DescribeKey",
}

// denied is what to allow whom, as far as AWS's message tells: the missing action, the key, and the kind of policy that decided.
func (a act) denied(message string) string {
	action, key, foreign := needed[a.op], "the key", ""
	if m := refusal.FindStringSubmatch(message); m != nil {
		action = m[2]
		if arn, err := parseName(m[3]); err == nil && arn.account != "" {
			key = m[3]
			if caller := strings.Split(m[1], ":"); len(caller) > 4 && caller[4] != arn.account {
				foreign = fmt.Sprintf("; the key is of another account, so that its policy there and an IAM policy of account %.12s must both allow it", caller[4])
			}
		}
	}
	duty := ""
	if a.op == "rewrap" {
		duty = "; moving takes kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one"
	}
	says := func(part string) bool { return strings.Contains(message, part) }
	for _, policy := range []struct{ name, where string }{
		{"service control policy", "in the service control policies of the organization"},
		{"resource control policy", "in the resource control policies of the organization"},
		{"VPC endpoint policy", "in the policy of the VPC endpoint that the request came through"},
		{"permissions boundary", "in the principal's permissions boundary"},
		{"session policy", "in the session policy that the role was taken with"},
		{"resource-based policy", "in the key policy, whose conditions count (kms:ViaService, kms:CallerAccount, kms:EncryptionContext:…)"},
		{"identity-based policy", "in an IAM policy of the principal"},
	} {
		switch {
		case says("explicit deny in a " + policy.name), says("explicit deny in an " + policy.name):
			return fmt.Sprintf("%s on %s is denied %s: take the Deny away there, an Allow elsewhere does not help%s", action, key, policy.where, duty)
		case says("because no " + policy.name + " allows"):
			return fmt.Sprintf("allow this principal %s on %s %s%s%s", action, key, policy.where, foreign, duty)
		}
	}
	if says("does not exist") {
		return fmt.Sprintf("AWS does not tell whether there is such a key in region %s: check its name, and allow this principal %s on it, in its key policy and, from another account, in IAM as well%s", a.p.region, action, duty)
	}
	return fmt.Sprintf("allow this principal %s on %s%s%s", action, key, foreign, duty)
}

// withoutCredentials reports whether the client failed before it asked AWS KMS, for want of credentials.
func withoutCredentials(err error) bool {
	return failedAt(err, "get identity: ", "no identity resolver", "resolve auth scheme: ", "no resolved auth scheme")
}

// failedAt reports whether an error inside err begins with one of the steps. The SDK has no types for its steps; what a service answers
// stands behind the SDK's own words, and cannot be taken for one.
func failedAt(err error, steps ...string) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	for _, step := range steps {
		if strings.HasPrefix(text, step) {
			return true
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return failedAt(e.Unwrap(), steps...)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(inner error) bool { return failedAt(inner, steps...) })
	}
	return false
}

// unreached is what it means that nothing answered.
func unreached(err error) (hint string, kind error) {
	if failedAt(err, "failed to resolve service endpoint") {
		return "the client's region, BaseEndpoint and FIPS or dual-stack settings do not go together", kmskey.ErrInvalid
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS && dns.IsNotFound:
		return "the endpoint's name does not resolve: check the client's region, BaseEndpoint, and the private DNS of a VPC endpoint", kmskey.ErrUnavailable
	case is[*tls.CertificateVerificationError](err):
		return "the endpoint's certificate is not trusted: check BaseEndpoint, proxies that open TLS, and this machine's clock and roots", kmskey.ErrUnavailable
	case is[*smithyhttp.RequestSendError](err):
		return "the endpoint was not reached: check network, proxy and VPC endpoint", kmskey.ErrUnavailable
	}
	return "", kmskey.ErrUnavailable
}
