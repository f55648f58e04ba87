// errors.go owns the kinds of failure that callers branch on, and the one error type that carries them.

package kmskey

import (
	"errors"
	"strconv"
	"strings"
)

// The kinds of failure of a key service. Errors of providers wrap exactly one; test with errors.Is.
var (
	// ErrDenied: the service refused for lack of permission.
	ErrDenied = errors.New("access denied")
	// ErrNotFound: the service knows no such key.
	ErrNotFound = errors.New("key not found")
	// ErrDisabled: the key exists and cannot be used: disabled, or waiting for its deletion.
	ErrDisabled = errors.New("key disabled")
	// ErrUnavailable: the service could not be reached, failed, or did not answer in time. Trying again may help.
	ErrUnavailable = errors.New("key service unavailable")
	// ErrThrottled: the service asks for fewer calls. Trying again later helps.
	ErrThrottled = errors.New("throttled by the key service")
	// ErrContextMismatch: the service did not authenticate the wrapped key: another context (another row), another key,
	// or altered bytes. Services do not tell these apart.
	ErrContextMismatch = errors.New("not authentic under this encryption context (wrong row, wrong key, or altered)")
	// ErrForeignKey: the key reference stored with the row is not one that this configuration may use. No call was made.
	ErrForeignKey = errors.New("key reference outside the configuration")
	// ErrInvalid: the service or this package refused the request itself: a malformed key name, a key of the wrong type.
	ErrInvalid = errors.New("invalid request")
	// ErrShredded: the key was destroyed on purpose, so that what it sealed stays unreadable for good. No call was made.
	ErrShredded = errors.New("key destroyed on purpose; what it sealed is unreadable for good")
	// ErrNotRewrappable: a [Rewrapper] cannot take keys of that provider, or not change the context; unwrapping and wrapping
	// does. No call was made.
	ErrNotRewrappable = errors.New("cannot be rewrapped by the service")
)

// The kinds of failure of an envelope and of a sealed message, found without or after a call.
var (
	// ErrCorrupt: the key column does not hold a well-formed envelope, or a text not a well-formed sealed message.
	ErrCorrupt = errors.New("corrupt envelope")
	// ErrPending: the key column holds the token of a row whose insert never finished; its fields have no key.
	ErrPending = errors.New("row was inserted without its key")
	// ErrUnknownVersion: the envelope needs a version that the keyring does not have.
	ErrUnknownVersion = errors.New("unknown key version")
	// ErrRingFull: the envelope holds as many data keys as it can; a rotation that may unwrap makes one of them.
	ErrRingFull = errors.New("envelope holds no further data key")
	// ErrWriteOnly: a data key would have to be unwrapped, by a keyring that was made by [Keyring.WriteOnly]. No call was made.
	ErrWriteOnly = errors.New("this program only writes")
	// ErrCommitment: the data key is not the one that the envelope commits to for this model, key and row.
	ErrCommitment = errors.New("data key does not belong to this row")
	// ErrNotAuthentic: the message of a [Box] was altered, or stands behind the envelope of another.
	ErrNotAuthentic = errors.New("message not authentic (altered, or another envelope's)")
)

// Error is a failed call to a key service. It wraps its Kind and its Err.
type Error struct {
	Op      string // "wrap", "unwrap", "rewrap"; of some providers also "generate", "generate wrapped", "check"
	Version int    // the keyring's version; 0 where the call came from elsewhere
	Service string // as in [Wrapped]
	KeyRef  string // the key that was asked for; may be empty
	Kind    error  // one of the kinds above
	Hint    string // what to do about it; may be empty
	Err     error  // the service's own error; may be nil
}

// Error names the act, the key, the kind, the cause and the next step, as far as they are known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("kmskey: " + e.Op)
	if e.Version != 0 {
		b.WriteString(" (version " + strconv.Itoa(e.Version) + ")")
	}
	b.WriteString(" with " + e.Service)
	if e.KeyRef != "" {
		b.WriteString(" key " + quote(e.KeyRef))
	}
	b.WriteString(": " + e.Kind.Error())
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// quote is strconv.Quote with a bound: a key reference may come from a damaged row, and an error is no place for 16 KiB.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.Quote(s)
}
