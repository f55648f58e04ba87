// Package azurekv wraps data keys with an RSA key of Azure Key Vault or Managed HSM, through Microsoft's own client, azkeys.
//
// A data key is made locally and wrapped by WrapKey with RSA-OAEP-256 under the current version of one key. A row stores the
// identifier of the version that wrapped ("https://acme.vault.azure.net/keys/rows/0123456789abcdef0123456789abcdef", in lower case, since
// Azure's identifiers ignore case), and UnwrapKey is asked for that version: Azure does not find it by itself. A reference to any other
// vault or key is refused before a call.
//
// # What is bound, and what is not
//
// RSA takes no associated data. What is wrapped is therefore the data key and the SHA-256 of the encryption context's canonical bytes,
// and the hash is compared after unwrapping: a wrapped key that was moved to another row does not open there. But it is this package that
// refuses, not Azure:
//
//   - Whoever may call UnwrapKey can unwrap any row's key. Azure does not see contexts, so no role can ask for one and no log shows
//     one: the AuditEvent log of the vault names principal, time and key version.
//   - Whoever knows the public key can wrap, for any context, without Azure and without a trace. It is not secret: everyone with keys/read
//     sees it, as the role "Key Vault Reader" has it. So who can also write to the database can put rows of their own making there, and
//     they open.
//
// Where that is not enough, use a service that authenticates the context (AWS KMS, Google Cloud KMS, Vault).
//
// # Permissions
//
// Each duty is one data action under role-based access control, or one key permission under access policies:
//
//	writer   Microsoft.KeyVault/vaults/keys/wrap/action     wrapKey
//	reader   Microsoft.KeyVault/vaults/keys/unwrap/action   unwrapKey
//	rotator  both
//
// The built-in role "Key Vault Crypto Service Encryption User" has both, and keys/read. A custom role each has one. Assign them on the
// key, not on the vault. Managed HSM has roles of its own: "Managed HSM Crypto Service Encryption User", and the actions
// Microsoft.KeyVault/managedHsm/keys/wrap/action and …/unwrap/action. Nothing here reads or lists keys. [Provider.Check] finds out at
// start-up, with any one of these actions, whether it is there.
//
// # Rotation
//
// A rotation at Azure, by policy or by hand, makes a new version of the key: new rows use it, older ones still open as long as their version
// is enabled. To move those, list the same Provider under the next number of the keyring ({1: {Provider: p}, 2: {Provider: p}}) and rotate.
// Azure cannot rewrap, so a Provider is no [kmskey.Rewrapper]: the keyring unwraps and wraps in the memory of the rotator, which needs both
// permissions. An expired version still unwraps and no longer wraps. By Azure's documentation a disabled version does neither; it has been
// seen to wrap (Azure/azure-sdk-for-python#45342), and such rows open once it is enabled.
//
// What lies under a purged key is lost. Keep soft-delete, which every vault has, and switch on purge protection. There is no deleting of
// one version; disable it.
//
// # Repeated requests
//
// The client repeats by itself after 408, 429, 500, 502, 503, 504 and broken connections: three times, after about 0.8, 2.4 and 5.6 seconds or
// what Azure asks for, all within [Config].Timeout. azcore's ClientOptions.Retry changes that. A vault takes, per region and in 10 seconds,
// 4,000 operations with software keys of 2048 bits and 2,000 with those of an HSM; of 3072 bits a quarter, of 4096 bits an eighth. All
// keys and applications of a vault share that, so give the rows a vault of their own. The limits of a Managed HSM depend on its pool.
//
// # Logs
//
// The client's log (azcore/log, AZURE_SDK_GO_LOGGING) has no bodies of successful requests unless ClientOptions.Logging.IncludeBody is
// set. It must stay unset: these bodies hold data keys. Bodies of refusals go there always; Azure's hold none. In errors of this package
// one line is left of them, and no request. Before the first call the client has Azure's challenge answer an empty request, so that no data
// key travels without a token.
//
// # Limits
//
// The client's buffers, which hold data keys for the time of a call, cannot be cleared. Credentials, cloud and proxy are the client's.
package azurekv

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/rowseal/rowseal/kmskey"
)

// Service is what wrapped keys of this package name.
const Service = "azure"

// Config has what is seldom needed. The zero Config works.
type Config struct {
	// Timeout bounds each act, the client's repeated requests, its pauses between them and its fetching of a token included. A shorter
	// deadline of the caller's own counts as well. Defaults to 10 seconds.
	Timeout time.Duration
}

// Provider is a [kmskey.Provider] on one key. It is safe for concurrent use, keeps neither data keys nor contexts, and makes one call of
// the client per act.
type Provider struct {
	client  *azkeys.Client
	key     string // its identifier, without a version
	name    string // the last part of it
	version string // to wrap with; empty for the current one
	timeout time.Duration
}

var (
	_ kmskey.Provider = (*Provider)(nil)
	_ kmskey.Owner    = (*Provider)(nil)
)

const defaultTimeout = 10 * time.Second

// New checks its arguments and makes no call. client is made with azkeys.NewClient for the key's vault; key is the key's identifier as
// Azure shows it, https://<vault>.vault.azure.net/keys/<name>, in any case of letters. With a version at its end, that one wraps instead
// of the current one; every version of the key unwraps all the same.
func New(client *azkeys.Client, key string, cfg Config) (*Provider, error) {
	fail := func(format string, args ...any) (*Provider, error) {
		return nil, fmt.Errorf("azurekv: new provider: "+format, args...)
	}
	if client == nil {
		return fail("no client; make one with azkeys.NewClient")
	}
	p := &Provider{client: client, timeout: cfg.Timeout}
	if err := p.parse(key); err != nil {
		return fail("%w", err)
	}
	if cfg.Timeout < 0 {
		return fail("Config.Timeout is %v; leave it zero for %v", cfg.Timeout, defaultTimeout)
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	return p, nil
}

// A payload is what is wrapped: the data key and the hash of the context that it is bound to.
const payloadSize = kmskey.DEKSize + sha256.Size

func bind(dek kmskey.DEK, ec kmskey.Context) []byte {
	hash := sha256.Sum256(ec.Canonical())
	return append(append(make([]byte, 0, payloadSize), dek.Bytes()...), hash[:]...)
}

// Wrap encrypts dek, with the hash of ec, under the configured or else the current version of the key: one WrapKey. KeyRef in the answer is
// the version that Azure named.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	a := act{p, "wrap", p.key}
	if dek.IsZero() {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	var last *http.Response
	ctx, done := a.begin(ctx, &last)
	defer done()
	payload := bind(dek, ec)
	defer clear(payload)
	out, err := p.client.WrapKey(ctx, p.name, p.version, parameters(payload), nil)
	if err != nil {
		return kmskey.Wrapped{}, a.failed(ctx, err, last)
	}
	return a.wrapped(out.KeyOperationResult)
}

// Unwrap decrypts w with the version that wrapped it, once it is known to be one of the configured key, and compares the hash: one UnwrapKey. A
// row under any other key is refused with [kmskey.ErrForeignKey] and no call is made.
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	a := act{p, "unwrap", w.KeyRef}
	version, err := a.admit(w)
	if err != nil {
		return kmskey.DEK{}, err
	}
	var last *http.Response
	ctx, done := a.begin(ctx, &last)
	defer done()
	out, err := p.client.UnwrapKey(ctx, p.name, version, parameters(w.Blob), nil)
	if err != nil {
		return kmskey.DEK{}, a.failed(ctx, err, last)
	}
	defer clear(out.Result)
	return a.unwrapped(out.Result, ec)
}

// Owns reports whether w lies under a version of the configured key.
func (p *Provider) Owns(w kmskey.Wrapped) bool {
	_, ok := p.versionOf(w.KeyRef)
	return ok && w.Service == Service
}

// String names the configured key.
func (p *Provider) String() string {
	if p == nil {
		return "azurekv.Provider(nil)"
	}
	if p.version != "" {
		return "azurekv.Provider(" + p.key + "/" + p.version + ")"
	}
	return "azurekv.Provider(" + p.key + ")"
}

// RSA-OAEP with SHA-256 in both places. Azure's "RSA-OAEP" is the one with SHA-1.
func parameters(value []byte) azkeys.KeyOperationParameters {
	return azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: value}
}

// act is one call, for its errors.
type act struct {
	p   *Provider
	op  string // "wrap", "unwrap"
	ref string
}

// begin bounds the act in time. last is where the client puts its last answer, which its error leaves out where time ran out in a pause.
func (a act) begin(ctx context.Context, last **http.Response) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, a.p.timeout)
	return policy.WithCaptureResponse(ctx, last), cancel
}

// admit decides whether w lies under the configured key, and gives the version.
func (a act) admit(w kmskey.Wrapped) (version string, err error) {
	if w.Service != Service {
		return "", a.fail(kmskey.ErrForeignKey, "give this row's version the provider of the service that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is %q", w.Service, Service))
	}
	version, ok := a.p.versionOf(w.KeyRef)
	if !ok {
		return "", a.fail(kmskey.ErrForeignKey, "if the key is yours, give it a version of its own in the keyring",
			fmt.Errorf("only versions of %s are configured", a.p.key))
	}
	if !plausible(w.Blob) {
		return "", a.fail(kmskey.ErrContextMismatch, "", fmt.Errorf("a wrapped key of %d bytes, which is none of Azure's", len(w.Blob)))
	}
	return version, nil
}

// plausible: what RSA makes is as long as the key's modulus, and Azure has three lengths.
func plausible(blob []byte) bool {
	n := len(blob)
	return n == 256 || n == 384 || n == 512
}

// wrapped checks Azure's answer to WrapKey. A version that admit would refuse must not be stored: the row could never be read.
func (a act) wrapped(out azkeys.KeyOperationResult) (kmskey.Wrapped, error) {
	var id string
	if out.KID != nil {
		id = fold(string(*out.KID))
	}
	version, ok := a.p.versionOf(id)
	switch {
	case !ok:
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "make the client for the vault that the key's identifier names",
			fmt.Errorf("the service used %.300q, which is no version of the configured key", id))
	case a.p.version != "" && version != a.p.version:
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "is the endpoint Azure Key Vault?",
			fmt.Errorf("the service used version %s and was asked for %s", version, a.p.version))
	case !plausible(out.Result):
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "is it an RSA key of 2048, 3072 or 4096 bits?", fmt.Errorf("the service answered with %d bytes", len(out.Result)))
	}
	return kmskey.Wrapped{Service: Service, KeyRef: a.p.key + "/" + version, Blob: out.Result}, nil
}

// unwrapped holds what came out to the context.
func (a act) unwrapped(payload []byte, ec kmskey.Context) (kmskey.DEK, error) {
	if len(payload) != payloadSize {
		// Anyone can encrypt to a public key, so such a blob is no one's in particular.
		return kmskey.DEK{}, a.fail(kmskey.ErrContextMismatch, "this ciphertext was made by something else",
			fmt.Errorf("%d bytes came out, not %d", len(payload), payloadSize))
	}
	hash := sha256.Sum256(ec.Canonical())
	if subtle.ConstantTimeCompare(hash[:], payload[kmskey.DEKSize:]) != 1 {
		return kmskey.DEK{}, a.fail(kmskey.ErrContextMismatch, "", errors.New("the key was wrapped for another context"))
	}
	dek, err := kmskey.DEKFromBytes(payload[:kmskey.DEKSize])
	if err != nil {
		return kmskey.DEK{}, a.fail(kmskey.ErrInvalid, "", err)
	}
	return dek, nil
}

func (a act) fail(kind error, hint string, cause error) error {
	return &kmskey.Error{Op: a.op, Service: Service, KeyRef: a.ref, Kind: kind, Hint: hint, Err: cause}
}

const keyForm = "https://<vault>.vault.azure.net/keys/<name>, with or without /<version>"

const (
	digits = "0123456789"
	word   = "abcdefghijklmnopqrstuvwxyz" + digits + "-"
)

// fold takes letters to their small form. Only those of ASCII: there are others whose small form is one of ASCII's.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// parse reads a key's identifier into one form, so that no two texts are one key.
func (p *Provider) parse(s string) error {
	bad := func(why string) error { return fmt.Errorf("key %.200q: %s; expected %s", s, why, keyForm) }
	rest, https := strings.CutPrefix(fold(s), "https://")
	parts := strings.Split(rest, "/")
	if !https || len(parts) < 3 || len(parts) > 4 || parts[1] != "keys" {
		return bad("not a key's identifier")
	}
	host, port, hasPort := strings.Cut(parts[0], ":")
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0 || n == 443 || strconv.FormatUint(n, 10) != port) {
		return bad("a malformed port, or the one that needs no naming")
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) < 1 || len(label) > 63 || strings.Trim(label, word) != "" {
			return bad("the host is malformed")
		}
	}
	if name := parts[2]; len(name) < 1 || len(name) > 127 || strings.Trim(name, word) != "" {
		return bad("the name is malformed")
	}
	p.key, p.name = "https://"+strings.Join(parts[:3], "/"), parts[2]
	if len(p.key) > 500 {
		return bad("too long")
	}
	if len(parts) == 4 {
		if p.version = parts[3]; !isVersion(p.version) {
			return bad("the version is malformed")
		}
	}
	return nil
}

// versionOf reads the identifier of a version of the configured key, in the one form that rows have.
func (p *Provider) versionOf(ref string) (version string, ok bool) {
	version, ok = strings.CutPrefix(ref, p.key+"/")
	return version, ok && isVersion(version)
}

func isVersion(s string) bool { return len(s) == 32 && strings.Trim(s, digits+"abcdef") == "" }
