// provider.go owns the seam to key management services: two methods, and the powers some services have beside them.

package kmskey

import "context"

// Provider wraps and unwraps data keys with a key that never leaves its service. It is the only thing an adapter for a
// key management service must implement; kmskeytest.Run holds every one to this contract:
//
//   - Wrap encrypts dek under the provider's current key and binds it to ec. The key reference in the answer is what the
//     service says it used (an ARN, not an alias), so that the row still opens when an alias moves.
//   - Unwrap gives back the same key, and only under an equal context. It refuses, before any call, a Wrapped of another
//     service and a key reference that lies outside the provider's configuration ([ErrForeignKey]): rows select among
//     configured keys, they never add one.
//   - A Wrapped that is cut short, too long or altered, and one from another row, is [ErrContextMismatch]: services do not tell
//     these apart, and no caller may need to. A zero dek is [ErrInvalid].
//   - Both fail with an error that wraps exactly one of this package's error kinds (see errors.go) and, where there is
//     one, the cause; the text holds no plaintext and no key bytes. A cancelled ctx gives an error that wraps ctx's.
//   - Both are safe for concurrent use and keep neither dek nor ec.
//
// What changes how a service is reached (retries, several regions, branch keys) is a Provider around Providers.
type Provider interface {
	Wrap(ctx context.Context, dek DEK, ec Context) (Wrapped, error)
	Unwrap(ctx context.Context, w Wrapped, ec Context) (DEK, error)
}

// Rewrapper is the power of services that move a wrapped key to another key or context without showing it: ReEncrypt on
// AWS, rewrap on Vault. source is the provider that w lies under, perhaps the Rewrapper itself; source decides whether w names
// one of its keys, exactly as in Unwrap. The answer lies under the Rewrapper's own current key and the context to.
//
// It fails with [ErrNotRewrappable], having made no call, where source is not of a kind whose keys the service can read, and where the
// service can rewrap under an unchanged context alone and to is another than from.
type Rewrapper interface {
	Rewrap(ctx context.Context, source Provider, w Wrapped, from, to Context) (Wrapped, error)
}

// BatchRewrapper is the power of services that rewrap many keys in one request. Item by item it keeps the contract of Rewrap: a result for each, in their order, and
// [ErrNotRewrappable] where Rewrap would give it. Where a whole request fails, its items have its error.
type BatchRewrapper interface {
	Rewrapper
	RewrapAll(ctx context.Context, source Provider, items []RewrapItem) []RewrapResult
}

// RewrapItem is one key of a batch.
type RewrapItem struct {
	Wrapped  Wrapped
	From, To Context
}

// RewrapResult is what became of one item: Wrapped, or Err.
type RewrapResult struct {
	Wrapped Wrapped
	Err     error
}

// Owner is the power to say without a call whether a wrapped key lies under a key of the provider's configuration. Owns reports what Unwrap
// would decide before its call: it is false exactly where Unwrap fails with [ErrForeignKey]. It is what lets several providers share a row,
// and a rotation see which of them has no wrap there yet. Every provider of this module has it.
type Owner interface {
	Owns(w Wrapped) bool
}

// Generator is the power of services that draw data keys themselves, from their own random generator, and give them out both in the clear and
// wrapped, in one call. The answer is as if Wrap had been given a new key: Unwrap opens it under an equal context. Where a rule asks for keys
// from a validated module, this is how to have them; a principal that only writes then sees them all the same.
type Generator interface {
	Generate(ctx context.Context, ec Context) (DEK, Wrapped, error)
}

// BlindGenerator is the power of services that draw data keys and give them out wrapped alone, so that whoever prepares keys never sees one.
type BlindGenerator interface {
	GenerateWrapped(ctx context.Context, ec Context) (Wrapped, error)
}

// Preparer is the power to see to whatever Wrap will need while it is not yet known for which row: a tenant's branch key, which could not be made inside the
// transaction that gives the row its id. ec is the row's context as far as it is known. Nothing depends on it: Wrap does the same later, where it can.
type Preparer interface {
	Prepare(ctx context.Context, ec Context) error
}

// Wrapped is a data key as a service gave it out. It is not secret.
type Wrapped struct {
	// Service names the kind of key service: "aws", "local". 1 to 16 bytes, lower-case letters, digits and hyphens.
	Service string
	// KeyRef names the wrapping key at the service, as the service itself named it when it wrapped. At most 1024 bytes
	// of UTF-8; empty where a service has only one key.
	KeyRef string
	// Blob is the ciphertext. 1 to 16384 bytes.
	Blob []byte
}
