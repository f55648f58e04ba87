// Package vaulttransit wraps data keys with the transit engine of HashiCorp Vault or OpenBao, through a function over either
// vendor's client: a [Caller], a dozen lines in README.md. It imports no client.
//
// The transit key must be derived:
//
//	vault write -f transit/keys/app derived=true
//
// A data key is made locally and wrapped by transit/encrypt. The encryption context goes to Vault as bytes, its canonical form,
// and Vault derives from the transit key and the context the key that it encrypts with: under another context nothing opens.
// A row stores mount, name and version of the key ("transit/keys/app:v3") and Vault's ciphertext ("vault:v3:…"). What a row
// stores selects nothing but a version of the configured key; any other reference is refused before a call.
//
// On a key that is not derived, Vault takes the context and ignores it. So the first wrap, unwrap or rewrap of a Provider is
// followed by a second request, the same without a context, which Vault must refuse: that takes no permission beyond the one at
// hand. Vault's encrypt makes a key that does not exist, not derived perhaps, so each encrypt asks for a type of key
// that there is not: it counts only where Vault would make a key, and then Vault refuses. A mistyped name is
// [kmskey.ErrNotFound], whatever the token may do. [Provider.Check] looks at the key itself, for start-up.
//
// # Policies
//
// Each duty is one path with "update". No duty needs "create" (Vault makes keys with it) or transit/keys:
//
//	path "transit/encrypt/app" { capabilities = ["update"] } # writer
//	path "transit/decrypt/app" { capabilities = ["update"] } # reader
//	path "transit/rewrap/app"  { capabilities = ["update"] } # rotator, under an unchanged context
//	path "transit/keys/app"    { capabilities = ["read"] }   # Check, where it is called
//
// With a list of allowed_parameters, allow plaintext, ciphertext, context and type, and for batches batch_input and
// partial_failure_response_code. A writer's token without "create" is refused as [kmskey.ErrDenied] where the key does not
// exist: Vault asks for the permission first.
//
// # Rotation
//
// After "vault write -f transit/keys/app/rotate", new rows use the new version of the key and older ones still open. To move
// those, list the same Provider under the next number of the keyring ({1: {Provider: p}, 2: {Provider: p}}): the rotation then
// uses transit/rewrap, which never shows the data key. Vault cannot rewrap to another context, key or server; there the keyring
// unwraps and wraps in memory, which takes "update" on decrypt and encrypt. Raise min_decryption_version only
// when no row needs the old version.
//
// # Limits
//
// Which server and namespace answers is the client's matter, and no part of what is stored or bound: a row copied between two
// servers does not open, as their keys differ, and that is all that tells them apart. Vault's audit log holds the
// context as an HMAC, so it does not say which row was opened, and no policy can ask for a part of it. The
// context is bound by derivation alone, not as associated data, which transit/rewrap ignores. Vault's clients take and give
// strings: the copies of data keys in them, for the time of a call, cannot be cleared.
package vaulttransit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// Service is what wrapped keys of this package name. It is the same for OpenBao, whose ciphertexts begin with "vault:" too.
const Service = "vault"

// Caller makes one request to Vault's HTTP API: a write (PUT or POST) of in to path, or, where in is nil, a read (GET) of path.
// path begins with the mount, without "/v1/". out is the "data" of the answer, nil where there is none. An answer of another status
// than 2xx is a [*StatusError]; any other error means that nothing is known of the request. A Caller must be safe for
// concurrent use, heed ctx, keep neither in nor out, and log neither. Address, token, namespace, TLS and retries are its matter.
type Caller func(ctx context.Context, path string, in map[string]any) (out map[string]any, err error)

// StatusError is an answer of Vault that is no success.
type StatusError struct {
	Status   int      // the HTTP status
	Messages []string // "errors" of the answer; may be empty
}

// Config has what is seldom needed. The zero Config works.
type Config struct {
	// Mount is the path at which the transit engine is mounted, without slashes around it. A namespace may stand before it, or be
	// set on the client, which is better: what stands here is stored with each row. Defaults to "transit".
	Mount string

	// Timeout bounds each request, the client's retries included. A shorter deadline of the caller's own counts as well. The
	// vendors' clients by default try twice again, with pauses of a second and more, what is answered with 412, 429 or 5xx or not
	// at all; that is set on the client. Defaults to 10 seconds.
	Timeout time.Duration
}

// Provider is a [kmskey.Provider] and [kmskey.Rewrapper] on one transit key. It is safe for concurrent use, keeps neither data
// keys nor contexts, and makes one request per act, apart from the client's retries and one request more for the first.
type Provider struct {
	call    Caller
	mount   string
	key     string
	timeout time.Duration

	derived  atomic.Bool   // the key was found to be derived, which cannot change
	checking chan struct{} // holds one token: one act at a time finds out
}

var (
	_ kmskey.Provider  = (*Provider)(nil)
	_ kmskey.Rewrapper = (*Provider)(nil)

	_ kmskey.BatchRewrapper = (*Provider)(nil)
	_ kmskey.Owner          = (*Provider)(nil)
)

const (
	defaultMount   = "transit"
	defaultTimeout = 10 * time.Second
)

// New checks its arguments and makes no call. key is the name of a key of the transit engine that exists and is derived.
func New(call Caller, key string, cfg Config) (*Provider, error) {
	fail := func(format string, args ...any) (*Provider, error) {
		return nil, fmt.Errorf("vaulttransit: new provider: "+format, args...)
	}
	p := &Provider{call: call, mount: cfg.Mount, key: key, timeout: cfg.Timeout, checking: make(chan struct{}, 1)}
	if p.mount == "" {
		p.mount = defaultMount
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	switch {
	case call == nil:
		return fail("no Caller; make one over the client of Vault or OpenBao, as in README.md")
	case !isKeyName(key):
		return fail("key %.200q: expected the name of a transit key, 1 to 200 letters, digits, '_', and '-' and '.' between them", key)
	case !isMount(p.mount):
		return fail("Config.Mount %.200q: expected a path such as \"transit\" or \"team/transit\", at most 400 bytes, without slashes around it", p.mount)
	case cfg.Timeout < 0:
		return fail("Config.Timeout is %v; leave it zero for %v", cfg.Timeout, defaultTimeout)
	}
	return p, nil
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// isKeyName knows the names that Vault takes (framework.GenericNameRegex). None has a character that a path could read otherwise.
func isKeyName(s string) bool {
	return len(s) >= 1 && len(s) <= 200 && only(s, letters+digits+"_-.") && !strings.ContainsAny(s[:1]+s[len(s)-1:], "-.")
}

func isMount(s string) bool {
	for segment := range strings.SplitSeq(s, "/") {
		if !only(segment, letters+digits+"_-.") || segment == "" || segment == "." || segment == ".." {
			return false
		}
	}
	return len(s) <= 400
}

func only(s, set string) bool { return strings.Trim(s, set) == "" }

// String names the configured key.
func (p *Provider) String() string {
	if p == nil {
		return "vaulttransit.Provider(nil)"
	}
	return "vaulttransit.Provider(" + p.path("keys") + ")"
}

// path is the API's path to the key under one of transit's endpoints.
func (p *Provider) path(endpoint string) string { return p.mount + "/" + endpoint + "/" + p.key }

// Wrap encrypts dek under the newest version of the configured key: one request to transit/encrypt.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	a := act{p, "wrap", p.path("keys")}
	in, secret, err := a.plain(dek, ec)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	in["type"] = noType
	out, err := a.do(ctx, in, secret)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return a.wrapped(out)
}

// Unwrap decrypts w, once it is known to lie under a version of the configured key: one request to transit/decrypt. A row under any
// other key is refused with [kmskey.ErrForeignKey] and no request is made.
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	a := act{p, "unwrap", w.KeyRef}
	in, err := a.sealed(w, ec)
	if err != nil {
		return kmskey.DEK{}, err
	}
	out, err := a.do(ctx, in)
	if err != nil {
		return kmskey.DEK{}, err
	}
	return a.unwrapped(out)
}

// Rewrap moves w to the newest version of the configured key without showing the data key: one request to transit/rewrap. It fails
// with [kmskey.ErrNotRewrappable], having made no request, where the context changes and where source is not p itself:
// another Provider may stand for another server, of which Vault knows nothing.
func (p *Provider) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	a := act{p, "rewrap", w.KeyRef}
	if src, ok := source.(*Provider); !ok || src != p {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrNotRewrappable, "to rewrap within one key, list one Provider under both versions",
			fmt.Errorf("from another provider, %T", source))
	}
	in, err := a.sealed(w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	if !from.Equal(to) {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrNotRewrappable, "", errors.New("the context changes, and Vault rewraps under an unchanged one alone"))
	}
	out, err := a.do(ctx, in)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return a.wrapped(out)
}

// noType is no type of key. transit/encrypt looks at it where it would have to make the key, and only there.
const noType = "none-the-key-must-exist"

// act is one of the provider's three acts, for its requests and its errors.
type act struct {
	p   *Provider
	op  string // "wrap", "unwrap", "rewrap", "check"
	ref string
}

// endpoints is where transit serves each act.
var endpoints = map[string]string{"wrap": "encrypt", "unwrap": "decrypt", "rewrap": "rewrap", "check": "keys"}

// begin bounds a request in time. A context that is done is refused here, so that no request is made.
func (a act) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, a.fail(kmskey.ErrUnavailable, "", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.p.timeout)
	return ctx, cancel, nil
}

// request is one request to the act's endpoint. secrets is what no error may repeat.
func (a act) request(ctx context.Context, in map[string]any, secrets ...string) (map[string]any, error) {
	ctx, done, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	out, err := a.p.call(ctx, a.p.path(endpoints[a.op]), in)
	if err != nil {
		return nil, a.failed(ctx, err, secrets...)
	}
	return out, nil
}

// do makes the act's request, and finds out whether the key is derived if that is not known yet. The act comes first: a
// key that is missing or closed has errors of its own.
func (a act) do(ctx context.Context, in map[string]any, secrets ...string) (map[string]any, error) {
	out, err := a.request(ctx, in, secrets...)
	if err != nil {
		return nil, err
	}
	if err := a.derived(ctx, in); err != nil {
		return nil, err
	}
	return out, nil
}

// derived repeats the request in without its context, once in the life of the provider. A derived key cannot serve that, so an
// answer means that Vault ignores contexts.
func (a act) derived(ctx context.Context, in map[string]any) error {
	p := a.p
	if p.derived.Load() {
		return nil
	}
	select {
	case p.checking <- struct{}{}:
		defer func() { <-p.checking }()
	case <-ctx.Done():
		return a.fail(kmskey.ErrUnavailable, "", ctx.Err())
	}
	if p.derived.Load() {
		return nil
	}
	probe := map[string]any{"context": ""} // there, in case a policy requires the parameter, and none to Vault
	for _, name := range []string{"ciphertext", "type"} {
		if v, ok := in[name]; ok {
			probe[name] = v
		}
	}
	if a.op == "wrap" {
		probe["plaintext"] = base64.StdEncoding.EncodeToString(make([]byte, kmskey.DEKSize)) // no data key is shown to a key that binds nothing
	}
	_, err := a.request(ctx, probe)
	if err == nil {
		return a.fail(kmskey.ErrInvalid, "make another key: vault write -f "+p.mount+"/keys/<name> derived=true",
			fmt.Errorf("the key %s is not derived, so Vault ignores the encryption context", p.path("keys")))
	}
	if s, ok := errors.AsType[*StatusError](err); ok && s.Status == 400 && s.says(missingContext) {
		p.derived.Store(true)
		return nil
	}
	return err
}

func encodeContext(ec kmskey.Context) string {
	return base64.StdEncoding.EncodeToString(ec.Canonical())
}

// plain is the request, or the item of a batch, that wraps dek, and the secret in it.
func (a act) plain(dek kmskey.DEK, ec kmskey.Context) (in map[string]any, secret string, err error) {
	if dek.IsZero() {
		return nil, "", a.fail(kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	secret = base64.StdEncoding.EncodeToString(dek.Bytes())
	// The canonical form of a context is never empty, so Vault never takes it for a missing one.
	return map[string]any{"plaintext": secret, "context": encodeContext(ec)}, secret, nil
}

// sealed is the request, or the item of a batch, that opens or rewraps w, which must lie under the configured key.
func (a act) sealed(w kmskey.Wrapped, ec kmskey.Context) (map[string]any, error) {
	p := a.p
	if w.Service != Service {
		return nil, a.fail(kmskey.ErrForeignKey, "give this row's version the provider of the service that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is %q", w.Service, Service))
	}
	version, ok := p.version(w.KeyRef)
	if !ok {
		return nil, a.fail(kmskey.ErrForeignKey, "if the key is yours, give it a version of its own in the keyring",
			fmt.Errorf("only %s is configured", p.path("keys")))
	}
	blob := string(w.Blob)
	inBlob, err := versionOf(blob)
	if err != nil {
		return nil, a.fail(kmskey.ErrContextMismatch, "", err)
	}
	if inBlob != version {
		// Vault reads version 0 as 1, so what it takes is more than what it gives out.
		return nil, a.fail(kmskey.ErrContextMismatch, "", errors.New("the ciphertext is of another version than the row's key reference"))
	}
	return map[string]any{"ciphertext": blob, "context": encodeContext(ec)}, nil
}

// version is that of the configured key which ref names.
func (p *Provider) version(ref string) (version string, ok bool) {
	version, ok = strings.CutPrefix(ref, p.path("keys")+":v")
	return version, ok && isVersion(version)
}

// Owns reports whether w lies under a version of the configured key, by mount and name: it makes no request and knows no server.
func (p *Provider) Owns(w kmskey.Wrapped) bool {
	_, ok := p.version(w.KeyRef)
	return ok && w.Service == Service
}

// wrapped checks what Vault wrapped. What sealed would refuse must not be stored: the row could never be read.
func (a act) wrapped(out map[string]any) (kmskey.Wrapped, error) {
	blob, _ := out["ciphertext"].(string)
	version, err := versionOf(blob)
	if err != nil {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "is that Vault's transit engine, and does the client wrap no responses?", err)
	}
	return kmskey.Wrapped{Service: Service, KeyRef: a.p.path("keys") + ":v" + version, Blob: []byte(blob)}, nil
}

func (a act) unwrapped(out map[string]any) (kmskey.DEK, error) {
	text, ok := out["plaintext"].(string)
	if !ok {
		return kmskey.DEK{}, a.fail(kmskey.ErrInvalid, "is that Vault's transit engine, and does the client wrap no responses?", errors.New("the answer has no plaintext"))
	}
	plaintext, err := base64.StdEncoding.Strict().DecodeString(text)
	defer clear(plaintext)
	if err != nil {
		// Not err itself: it may tell a byte of the answer.
		return kmskey.DEK{}, a.fail(kmskey.ErrInvalid, "", errors.New("the plaintext in the answer is not base64"))
	}
	dek, err := kmskey.DEKFromBytes(plaintext)
	if err != nil {
		return kmskey.DEK{}, a.fail(kmskey.ErrInvalid, "this ciphertext was made by something else", err)
	}
	return dek, nil
}

const (
	// overhead is what AES-GCM adds: a nonce of 12 bytes and a tag of 16.
	overhead = 12 + 16
	// maxBlob leaves room for longer forms than today's 89 bytes, and is far below what a request may hold.
	maxBlob = 512
)

// versionOf is the version in Vault's ciphertext, vault:v3:<base64>. Each ciphertext has one such text: what is altered without
// Vault's noticing (line breaks and trailing bits in base64, zeros before the version) is refused here.
func versionOf(blob string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("%d bytes that are no ciphertext of Vault: %s", len(blob), why)
	}
	if len(blob) > maxBlob {
		return bad("too long")
	}
	rest, ok := strings.CutPrefix(blob, "vault:v")
	version, encoded, cut := strings.Cut(rest, ":")
	if !ok || !cut || !isVersion(version) {
		return bad("expected vault:v<version>:<base64>")
	}
	// Decoding skips line breaks, so the way back is compared.
	data, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || base64.StdEncoding.EncodeToString(data) != encoded {
		return bad("malformed base64")
	}
	if len(data) < overhead+kmskey.DEKSize {
		return bad("too short")
	}
	return version, nil
}

// isVersion knows the decimal form of 1 and above.
func isVersion(s string) bool {
	n, err := strconv.ParseUint(s, 10, 31)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

func (a act) fail(kind error, hint string, cause error) error {
	return &kmskey.Error{Op: a.op, Service: Service, KeyRef: a.ref, Kind: kind, Hint: hint, Err: cause}
}
