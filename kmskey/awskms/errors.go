// errors.go owns what AWS's errors mean: a kind to branch on, a hint to act on, and no trace of a data key.

package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/rowseal/rowseal/kmskey"
)

// failedUnder is failed for a call that asked for a key by name. Where that was the configured name, because the account is not
// known yet, AWS saying that another key was used most likely means that the alias has moved on.
func (a act) failedUnder(ctx context.Context, key known, err error) error {
	out := a.failed(ctx, err)
	var wrong *types.IncorrectKeyException
	if k, ok := errors.AsType[*kmskey.Error](out); ok && key.byName && errors.As(err, &wrong) {
		k.Hint = fmt.Sprintf("the row lies under a key that %q no longer names: set Config.Account, or list the key in Config.PreviousKeys", key.ask)
	}
	return out
}

// failed gives an error of the client its kind. ctx is the call's own.
func (a act) failed(ctx context.Context, err error) error {
	scrub(err)
	if ctxErr := ctx.Err(); ctxErr != nil {
		if !errors.Is(err, ctxErr) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
		hint := ""
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			hint = fmt.Sprintf("each call has %v at most (Config.Timeout), and no more than the caller's deadline", a.p.timeout)
		}
		return a.fail(kmskey.ErrUnavailable, hint, err)
	}
	kind := kindOf(a.op, err)
	return a.fail(kind, a.hint(kind, err), err)
}

// scrub takes the response out of an error that the SDK keeps it in: the answer to Decrypt is the data key.
func scrub(err error) {
	var broken *smithy.DeserializationError
	if errors.As(err, &broken) {
		clear(broken.Snapshot)
		broken.Snapshot = nil
	}
}

// kindOf goes by the SDK's types where there is one, else by the code, else by the HTTP status, since emulators and proxies
// answer with codes that AWS does not. Without any answer the service is unavailable.
func kindOf(op string, err error) error {
	switch {
	case is[*types.DisabledException](err), is[*types.KMSInvalidStateException](err):
		return kmskey.ErrDisabled
	case is[*types.NotFoundException](err):
		return kmskey.ErrNotFound
	case is[*types.InvalidCiphertextException](err), is[*types.IncorrectKeyException](err):
		if op == "wrap" {
			return kmskey.ErrInvalid
		}
		return kmskey.ErrContextMismatch
	case is[*types.KeyUnavailableException](err), is[*types.DependencyTimeoutException](err), is[*types.KMSInternalException](err):
		return kmskey.ErrUnavailable
	case is[*types.InvalidKeyUsageException](err), is[*types.InvalidArnException](err), is[*types.InvalidGrantTokenException](err),
		is[*types.UnsupportedOperationException](err), is[*types.DryRunOperationException](err):
		return kmskey.ErrInvalid
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code := api.ErrorCode()
		if _, throttled := retry.DefaultThrottleErrorCodes[code]; throttled {
			return kmskey.ErrThrottled
		}
		switch code {
		case "AccessDeniedException", "AccessDenied", "NotAuthorized", "OptInRequired",
			"UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException", "ExpiredToken", "RequestExpired",
			"InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException",
			"MissingAuthenticationToken", "MissingAuthenticationTokenException":
			return kmskey.ErrDenied
		case "ValidationException", "ValidationError", "SerializationException":
			return kmskey.ErrInvalid
		case "ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalError", "RequestTimeout", "RequestTimeoutException":
			return kmskey.ErrUnavailable
		}
	}
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && response.Response != nil {
		switch status := response.HTTPStatusCode(); {
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return kmskey.ErrDenied
		case status == http.StatusTooManyRequests:
			return kmskey.ErrThrottled
		case status == http.StatusRequestTimeout:
			return kmskey.ErrUnavailable
		case status >= 400 && status < 500:
			return kmskey.ErrInvalid
		}
	}
	return kmskey.ErrUnavailable
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// hint is the next step, where the kind tells it.
func (a act) hint(kind, err error) string {
	switch kind {
	case kmskey.ErrDenied:
		if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() != "AccessDeniedException" && api.ErrorCode() != "AccessDenied" {
			return "check the client's credentials, region and clock"
		}
		switch a.op {
		case "wrap":
			return "allow this principal kms:Encrypt on the key"
		case "unwrap":
			return "allow this principal kms:Decrypt on the key"
		}
		return "allow this principal kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one"
	case kmskey.ErrDisabled:
		if is[*types.DisabledException](err) {
			return "enable it, or list its successor first"
		}
		return "if its deletion is scheduled, cancel that and enable it, or list its successor first"
	case kmskey.ErrNotFound:
		return fmt.Sprintf("the client asked in region %s: check the key's name, account and region", a.p.region)
	case kmskey.ErrThrottled:
		return "lower the concurrency, or raise the account's quota for cryptographic operations"
	}
	return ""
}
