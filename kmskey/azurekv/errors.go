// errors.go owns what Azure's errors mean: a kind to branch on, a hint to act on, and no trace of a data key.

package azurekv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/rowseal/rowseal/kmskey"
)

// failed gives an error of the client its kind. ctx is the act's own; last is the client's last answer, if there was one.
func (a act) failed(ctx context.Context, err error, last *http.Response) error {
	var answer *refusal
	if response, ok := errors.AsType[*azcore.ResponseError](err); ok {
		answer = read(response)
		err = answer
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		if answer == nil && last != nil {
			err = fmt.Errorf("%w (the last answer: %w)", err, read(&azcore.ResponseError{StatusCode: last.StatusCode, RawResponse: last}))
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
	if answer != nil {
		hint, kind := a.meaning(answer)
		return a.fail(kind, hint, err)
	}
	// azidentity's errors, and what azcore makes of those of other credentials, have this mark. So has an answer that broke off, of which
	// only the text tells.
	var final interface{ NonRetriable() }
	if errors.As(err, &final) && !strings.HasPrefix(err.Error(), "body download policy: ") {
		return a.fail(kmskey.ErrDenied, "the client's credential gave no token for this vault: check it, and whether its own service can be reached", err)
	}
	return a.fail(kmskey.ErrUnavailable, "", err)
}

// refusal is an answer of Azure that is no success, in one line.
type refusal struct {
	status               int
	code, inner, message string
	err                  *azcore.ResponseError
}

// Error names the status, Azure's code or, where there is one, the more exact inner one, and what Azure says about it.
func (r *refusal) Error() string {
	text := fmt.Sprintf("Azure answered with status %d", r.status)
	if code := cmp.Or(r.inner, r.code); code != "" {
		text += " " + code
	}
	if r.message != "" {
		text += ": " + r.message
	}
	return text
}

// Unwrap gives the client's error, for its code, its status and the headers of the answer.
func (r *refusal) Unwrap() error { return r.err }

// keylike is text as long as a data key in base64 or hexadecimal. Names, GUIDs and versions of keys are shorter.
var keylike = regexp.MustCompile(`[A-Za-z0-9+_-]{40,}`)

// read takes from the client's error what may be printed. The rest of it is left out: the answer to UnwrapKey is a data key, the request of
// WrapKey has one in it, and a gateway that refuses a request may repeat it.
func read(response *azcore.ResponseError) *refusal {
	r := &refusal{status: response.StatusCode, code: keylike.ReplaceAllString(response.ErrorCode, "…")}
	clean := &http.Response{StatusCode: r.status, Status: http.StatusText(r.status), Body: http.NoBody}
	if raw := response.RawResponse; raw != nil {
		clean.Header = raw.Header
		if raw.Request != nil {
			clean.Request = &http.Request{Method: raw.Request.Method, URL: raw.Request.URL} // neither its body nor its token
		}
		var body struct {
			Error struct {
				Code, Message string
				InnerError    struct{ Code string }
			}
		}
		if text, err := runtime.Payload(raw); err == nil && json.Unmarshal(text, &body) == nil {
			said := strings.Join(strings.Fields(keylike.ReplaceAllString(body.Error.Message, "…")), " ")
			const most = 600 // of Azure's, which name caller, action and resource
			if len(said) > most {
				said = strings.ToValidUTF8(said[:most], "") + "…"
			}
			r.message = said
			r.code = cmp.Or(r.code, keylike.ReplaceAllString(body.Error.Code, "…"))
			r.inner = keylike.ReplaceAllString(body.Error.InnerError.Code, "…")
		}
	}
	r.err = &azcore.ResponseError{ErrorCode: r.code, StatusCode: r.status, RawResponse: clean}
	return r
}

// meaning goes by the status. Of 403, only the inner code and the text tell a key that may not be used from a principal that may not use it.
func (a act) meaning(r *refusal) (hint string, kind error) {
	action, permission := "wrap", "wrapKey"
	if a.op == "unwrap" {
		action, permission = "unwrap", "unwrapKey"
	}
	switch {
	case r.status == http.StatusUnauthorized:
		return "check the client's credential: is it of the vault's tenant and cloud?", kmskey.ErrDenied
	case r.status == http.StatusForbidden:
		switch r.inner {
		case "KeyOperationForbidden":
			return "the key itself does not permit this: have wrapKey and unwrapKey among its key operations", kmskey.ErrDenied
		case "ForbiddenByFirewall", "ForbiddenByConnection":
			return "the vault's firewall refused this network: allow it, or reach the vault through its private endpoint", kmskey.ErrDenied
		case "ForbiddenByPolicy", "AccessDenied":
			return fmt.Sprintf("give this principal the key permission %s in the vault's access policies", permission), kmskey.ErrDenied
		}
		// "Operation unwrapKey is not allowed on a disabled key.", "… on an expired key."
		if r.inner == "KeyDisabled" || strings.Contains(r.message, "is not allowed on a") {
			return "enable this version of the key, or, if it is outside its dates, make another; old rows open under an enabled version that has expired", kmskey.ErrDisabled
		}
		return fmt.Sprintf("grant this principal the data action Microsoft.KeyVault/vaults/keys/%s/action on the key, which the role Key Vault Crypto "+
			"Service Encryption User has (managedHsm for vaults on a Managed HSM); a new grant takes some minutes", action), kmskey.ErrDenied
	case r.status == http.StatusNotFound:
		return "check vault, name and version of the key; a deleted key can be recovered until it is purged", kmskey.ErrNotFound
	case r.status == http.StatusTooManyRequests:
		return "lower the concurrency, or give the key a vault of its own: all keys of a vault share its limit", kmskey.ErrThrottled
	case r.status == http.StatusRequestTimeout, r.status == http.StatusConflict: // 409: the key is being deleted or recovered
		return "", kmskey.ErrUnavailable
	case r.status == http.StatusBadRequest && a.op == "unwrap": // "Error occurred while decoding OAEP padding."
		return "", kmskey.ErrContextMismatch
	case r.status >= 400 && r.status < 500:
		return "is it an RSA key of 2048, 3072 or 4096 bits, and the endpoint Azure Key Vault?", kmskey.ErrInvalid
	}
	return "", kmskey.ErrUnavailable
}
