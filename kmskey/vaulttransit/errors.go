// errors.go owns what Vault's answers mean: a kind to branch on, a hint to act on, and no trace of a data key.

package vaulttransit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/rowseal/rowseal/kmskey"
)

// Vault answers most of what is wrong with a request with status 400; only these texts tell the causes apart. They are those of
// Vault 1.14 to 1.21 and OpenBao 2.6.
const (
	missingContext = "missing 'context'"
	keyNotFound    = "encryption key not found"
	unknownType    = "unknown key type"
	notAuthentic   = "message authentication failed"
	malformed      = "invalid ciphertext" // a version that Vault has not reached is among these
	tooOld         = "disallowed by policy (too old)"
	noVersion      = "no such key version"
	softDeleted    = "soft-deleted key" // OpenBao alone has these
)

// Error names the status and what Vault says about it, as far as 300 bytes go.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("Vault answered with status %d", e.Status)
	// Vault makes lists of lines: "1 error occurred:\n\t* permission denied\n\n".
	if said := strings.Join(strings.Fields(strings.Join(e.Messages, "; ")), " "); said != "" {
		const most = 300
		if len(said) > most {
			said = strings.ToValidUTF8(said[:most], "") + "…"
		}
		text += ": " + said
	}
	return text
}

func (e *StatusError) says(text string) bool {
	for _, m := range e.Messages {
		if strings.Contains(m, text) {
			return true
		}
	}
	return false
}

// failed gives an error of the Caller its kind. ctx is the request's own, secrets the data keys in it.
func (a act) failed(ctx context.Context, err error, secrets ...string) error {
	hint, kind := a.meaning(err)
	text := everything(err)
	if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(text, secret) }) {
		// A proxy may answer with what it was sent, and a client may print its request.
		err = errors.New("the client's error repeats a data key and is left out here")
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		if !errors.Is(err, ctxErr) {
			err = fmt.Errorf("%w: %w", ctxErr, err)
		}
		hint := ""
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			hint = fmt.Sprintf("each request has %v at most (Config.Timeout), and no more than the caller's deadline", a.p.timeout)
		}
		return a.fail(kmskey.ErrUnavailable, hint, err)
	}
	return a.fail(kind, hint, err)
}

// everything is what can be printed of err: its text, and the whole of what StatusError shortens.
func everything(err error) string {
	text := fmt.Sprintf("%v %+v", err, err)
	if e, ok := errors.AsType[*StatusError](err); ok {
		text += strings.Join(e.Messages, " ")
	}
	return text
}

// meaning goes by the status, and for 400 by the text. Without any answer the service is unavailable.
func (a act) meaning(err error) (hint string, kind error) {
	e, ok := errors.AsType[*StatusError](err)
	if !ok {
		return "", kmskey.ErrUnavailable
	}
	p := a.p
	switch {
	case e.says("missing client token"), e.says("invalid token"), e.says("bad token"):
		return "check the client's token: it is missing, expired or revoked", kmskey.ErrDenied
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		capability := "update"
		if a.op == "check" {
			capability = "read"
		}
		hint := fmt.Sprintf("allow this token %q on %s", capability, p.path(endpoints[a.op]))
		if a.op == "wrap" {
			hint += "; Vault answers so too where the key does not exist"
		}
		return hint, kmskey.ErrDenied
	case e.says(softDeleted):
		return "restore it, or list its successor first", kmskey.ErrDisabled
	case e.Status == http.StatusTooManyRequests:
		return "lower the concurrency, or raise Vault's rate limit quota", kmskey.ErrThrottled
	case e.Status == http.StatusServiceUnavailable && e.says("sealed"):
		return "unseal Vault", kmskey.ErrUnavailable
	case e.Status == http.StatusNotFound:
		return fmt.Sprintf("is a transit engine mounted at %q in the client's namespace, and has it the key %q?", p.mount, p.key), kmskey.ErrNotFound
	case e.Status >= 500, e.Status == http.StatusRequestTimeout, e.Status == http.StatusPreconditionFailed: // 412: a standby is behind
		return "", kmskey.ErrUnavailable
	case e.says(keyNotFound), e.says(unknownType) && e.says(noType):
		return fmt.Sprintf("check the name, or make the key: vault write -f %s derived=true", p.path("keys")), kmskey.ErrNotFound
	case e.says(noVersion):
		return "that version was trimmed; restore the key from a backup", kmskey.ErrNotFound
	case e.says(tooOld):
		return fmt.Sprintf("lower min_decryption_version of %s until every row is rewrapped", p.path("keys")), kmskey.ErrDisabled
	case a.op != "wrap" && (e.says(notAuthentic) || e.says(malformed)):
		return "", kmskey.ErrContextMismatch
	}
	return "", kmskey.ErrInvalid
}
