// errors.go owns what Google's errors mean: which are worth another request, a kind to branch on, and a hint to act on.

package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rowseal/rowseal/kmskey"
)

// retries decides for one act whether a request is repeated.
type retries struct {
	left    int // requests, the one under way included
	backoff gax.Backoff
	last    error // the last answer that says more than that time was up
}

var repeatable = []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted}

func (r *retries) option() gax.CallOption {
	r.backoff = gax.Backoff{Initial: 200 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2}
	return gax.WithRetry(func() gax.Retryer { return r })
}

// Retry is asked after each failed request.
func (r *retries) Retry(err error) (time.Duration, bool) {
	if r.last == nil || status.Code(err) != codes.DeadlineExceeded {
		r.last = err
	}
	r.left--
	return r.backoff.Pause(), r.left > 0 && slices.Contains(repeatable, status.Code(err))
}

// failed gives an error of the client its kind. ctx is the act's own.
func (a act) failed(ctx context.Context, err error, tries *retries) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		// The client gives a bare context error, without a status, where time ran out in a pause: then the answer before it is the cause.
		if tries.last != nil && !errors.Is(err, tries.last) {
			err = fmt.Errorf("%w (the last answer: %w)", err, tries.last)
		}
		if !errors.Is(err, ctxErr) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
		hint := ""
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			hint = fmt.Sprintf("each act has %v at most (Config.Timeout), and no more than the caller's deadline", a.p.timeout)
		}
		return a.fail(kmskey.ErrUnavailable, hint, err)
	}
	hint, kind := a.meaning(err)
	return a.fail(kind, hint, err)
}

// meaning goes by the status. Of InvalidArgument, only the text tells apart what was damaged on its way.
func (a act) meaning(err error) (hint string, kind error) {
	permission, role := "cloudkms.cryptoKeyVersions.useToEncrypt", "roles/cloudkms.cryptoKeyEncrypter"
	if a.op == "unwrap" {
		permission, role = "cloudkms.cryptoKeyVersions.useToDecrypt", "roles/cloudkms.cryptoKeyDecrypter"
	}
	switch status.Code(err) {
	case codes.Unauthenticated:
		return "check the client's credentials", kmskey.ErrDenied
	case codes.PermissionDenied:
		switch reason(err) {
		case "SERVICE_DISABLED":
			return "enable the API cloudkms.googleapis.com in the client's project", kmskey.ErrDenied
		case "BILLING_DISABLED":
			return "enable billing in the key's project", kmskey.ErrDenied
		case "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
			return "give the client's credentials the scope https://www.googleapis.com/auth/cloudkms", kmskey.ErrDenied
		}
		return fmt.Sprintf("grant this principal %s on the key, which %s holds; Google may answer so too where the key does not exist", permission, role), kmskey.ErrDenied
	case codes.NotFound:
		return "check project, location, key ring and key of the name", kmskey.ErrNotFound
	case codes.FailedPrecondition:
		if a.op == "wrap" {
			return "enable the key's primary version, or make another version the primary one", kmskey.ErrDisabled
		}
		return "enable the version that Google names; if its destruction is scheduled, restore it first", kmskey.ErrDisabled
	case codes.ResourceExhausted:
		return "lower the concurrency, or raise the project's quota for cryptographic requests", kmskey.ErrThrottled
	case codes.InvalidArgument:
		switch {
		case strings.Contains(err.Error(), "crc32c"):
			return "the request did not reach Google whole; try again", kmskey.ErrUnavailable
		case a.op == "unwrap":
			return "", kmskey.ErrContextMismatch
		}
		return "is the key's purpose ENCRYPT_DECRYPT?", kmskey.ErrInvalid
	case codes.Unimplemented:
		return "is the endpoint Cloud KMS?", kmskey.ErrInvalid
	case codes.OutOfRange, codes.AlreadyExists:
		return "", kmskey.ErrInvalid
	}
	return "", kmskey.ErrUnavailable
}

// reason is the machine-readable one that Google's front adds to some errors.
func reason(err error) string {
	if api, ok := errors.AsType[*apierror.APIError](err); ok {
		return api.Reason()
	}
	return ""
}
