// Package localkey wraps data keys with a 32-byte key that the process itself holds, from a file or the environment.
//
// It is the embedded default: with it Rowseal runs on a bare machine, in development, in tests and in products that have no
// key service. What it guarantees is what every provider does: a wrapped key opens only with the same key and an equal
// encryption context, anything else is an error, and the wrapped form can be stored by anyone. A generated key is never
// kept in memory alone: [Generate] and [FromFileOrGenerate] return only once the key is durable in a file that did not
// exist before.
//
// What a local key does not give, and a key service does:
//
//   - Separation. Whoever reads the process's memory, its environment, the key file or a backup of either holds the key
//     and opens every row, for ever, without a trace. Behind a key service the key itself cannot be taken.
//   - Duties. A holder of the key can wrap and unwrap; there is no way to permit writing without reading.
//   - An audit log, rate limits, a switch to disable the key, and deletion that someone else witnesses.
//   - Rewrapping without showing data keys: moving rows to another key unwraps them in memory.
//   - Recovery. A lost file is lost data. Keep a copy of the key apart from the database and from its backups.
//
// The file's mode is checked, but not who owns its directory or who may read a process's environment.
//
// A key of another file is told apart from an altered row: the key reference stored with a row is derived from the key, and
// unwrapping under another key is refused as [kmskey.ErrForeignKey] before anything is decrypted. To change keys, list both
// as versions of the keyring and rotate.
package localkey

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/internal/localwrap"
)

// The services that wrapped keys of this package name.
const (
	// Service is that of keys from [New], [FromEnv], [FromFile], [Generate] and [FromFileOrGenerate].
	Service = "local"
	// ServiceInsecure is that of [NewInsecure] and [NewInsecureEncryptOnly]. It differs, so that SQL and reports find rows
	// that were sealed with the public test key, and a real key never opens them.
	ServiceInsecure = "insecure-test"
)

// KeySize is the length of a local key in bytes.
const KeySize = localwrap.KeySize

// Config has no settings yet. It is there so that one can come without another constructor.
type Config struct{}

// Provider is a [kmskey.Provider] around one local key. It reaches no service: it does not block, and a cancelled context
// is refused before any work. It is safe for concurrent use, keeps neither data keys nor contexts, and prints as its key
// reference.
type Provider struct {
	// Two pointers, because fmt shows what one points to when a copied Provider meets a wrong verb; see kmskey.DEK.
	key     **[KeySize]byte
	service string
	ref     string
	// denyUnwrap makes the encrypt-only test key: it stands for a writer whose key service grants Encrypt alone.
	denyUnwrap bool
}

var (
	_ kmskey.Provider = (*Provider)(nil)
	_ kmskey.Owner    = (*Provider)(nil)
)

// New copies key, which must have 32 bytes from a random generator; a key of zeros and the public test key are refused. The
// caller may clear key afterwards. A passphrase is no key: derive one with a password hash, or generate one.
func New(key []byte, _ Config) (*Provider, error) {
	p, err := newProvider(key)
	if err != nil {
		return nil, fmt.Errorf("localkey: key given to New: %w", err)
	}
	return p, nil
}

// newProvider checks a real key. Its errors name neither source nor content; callers put the source before them.
func newProvider(key []byte) (*Provider, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("%d bytes, not %d; make one with: openssl rand -hex %d", len(key), KeySize, KeySize)
	}
	if subtle.ConstantTimeCompare(key, make([]byte, KeySize)) == 1 {
		return nil, fmt.Errorf("all bytes are zero, which is no key; make one with: openssl rand -hex %d", KeySize)
	}
	if subtle.ConstantTimeCompare(key, []byte(insecureKey)) == 1 {
		return nil, fmt.Errorf("this is the public test key of localkey.NewInsecure; make one with: openssl rand -hex %d", KeySize)
	}
	return build(Service, key)
}

func build(service string, key []byte) (*Provider, error) {
	id, err := localwrap.KeyID(key)
	if err != nil {
		return nil, err
	}
	held := (*[KeySize]byte)(bytes.Clone(key))
	p := &Provider{key: &held, service: service, ref: service + ":" + id}
	return p, nil
}

// KeyRef is the reference that rows wrapped by p hold: "local:" and 16 hexadecimal digits derived from the key. It is not
// secret and tells nothing about the key.
func (p *Provider) KeyRef() string { return p.ref }

// Wrap encrypts dek with AES-256-GCM under a sub-key of its own, bound to ec and to the key reference. The blob has 77
// bytes. It fails with [kmskey.ErrInvalid] for a zero dek, and with [kmskey.ErrUnavailable] and ctx's error when ctx is
// done.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	if err := ctx.Err(); err != nil {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrUnavailable, "", err)
	}
	if dek.IsZero() {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	blob, err := localwrap.Seal((*p.key)[:], p.service, p.ref, ec.AppendCanonical(make([]byte, 0, 256)), dek.Bytes())
	if err != nil {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrInvalid, "", err)
	}
	return kmskey.Wrapped{Service: p.service, KeyRef: p.ref, Blob: blob}, nil
}

// Unwrap is the inverse of [Provider.Wrap]. A Wrapped of another service or another local key is refused with
// [kmskey.ErrForeignKey]; another context or an altered blob with [kmskey.ErrContextMismatch]; anything, by the
// encrypt-only test key, with [kmskey.ErrDenied].
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if err := ctx.Err(); err != nil {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrUnavailable, "", err)
	}
	if w.Service != p.service {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrForeignKey, "give this row's version the provider of the service that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is %q", w.Service, p.service))
	}
	if w.KeyRef != p.ref {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrForeignKey, "is this the right key file? To change keys, list both as versions of the keyring",
			fmt.Errorf("wrapped under another key; this one is %q", p.ref))
	}
	if p.denyUnwrap {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrDenied, "unwrap with localkey.NewInsecure", errors.New("this test key encrypts only"))
	}
	secret, err := localwrap.Open((*p.key)[:], p.service, p.ref, ec.AppendCanonical(make([]byte, 0, 256)), w.Blob)
	if err != nil {
		kind := kmskey.ErrInvalid
		if errors.Is(err, localwrap.ErrNotAuthentic) || errors.Is(err, localwrap.ErrMalformed) {
			kind = kmskey.ErrContextMismatch
		}
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kind, "", err)
	}
	defer clear(secret)
	dek, err := kmskey.DEKFromBytes(secret)
	if err != nil {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrInvalid, "", err)
	}
	return dek, nil
}

// Owns reports whether w was wrapped with this key. It is also true of the encrypt-only test key, which cannot unwrap it.
func (p *Provider) Owns(w kmskey.Wrapped) bool { return w.Service == p.service && w.KeyRef == p.ref }

func (p *Provider) fail(op, ref string, kind error, hint string, cause error) error {
	return &kmskey.Error{Op: op, Service: p.service, KeyRef: ref, Kind: kind, Hint: hint, Err: cause}
}

// Format prints "localkey.Provider(" and the key reference for every verb.
func (p *Provider) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, p.String()) }

// String prints "localkey.Provider(" and the key reference.
func (p *Provider) String() string {
	if p == nil {
		return "localkey.Provider(nil)"
	}
	return "localkey.Provider(" + p.ref + ")"
}

// GoString is [Provider.String].
func (p *Provider) GoString() string { return p.String() }

// LogValue is [Provider.String].
func (p *Provider) LogValue() slog.Value { return slog.StringValue(p.String()) }
