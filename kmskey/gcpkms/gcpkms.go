// Package gcpkms wraps data keys with Google Cloud KMS, through Google's own client, cloud.google.com/go/kms/apiv1.
//
// A data key is made locally and wrapped by Encrypt under the primary version of one CryptoKey of purpose ENCRYPT_DECRYPT. The
// encryption context goes to Google as additional authenticated data, its canonical bytes: under another context nothing opens, and
// types count (1 is not "1"). Google authenticates these bytes and neither stores nor logs them.
//
// A row stores the CryptoKeyVersion that encrypted, as Google answered ("projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3").
// Decrypt is asked of the configured CryptoKey, and Google finds the version in the ciphertext. So what a row stores selects
// nothing: a reference to any other key is refused before a call, and the version in it is for people and for SQL.
//
// # Permissions
//
// Each duty is one permission on the key, which one of Google's roles holds:
//
//	writer   cloudkms.cryptoKeyVersions.useToEncrypt   roles/cloudkms.cryptoKeyEncrypter
//	reader   cloudkms.cryptoKeyVersions.useToDecrypt   roles/cloudkms.cryptoKeyDecrypter
//	rotator  both                                      roles/cloudkms.cryptoKeyEncrypterDecrypter
//
// Grant them on the CryptoKey, not on the project. Nothing here lists or looks at keys. Without the permission Google answers alike whether
// or not the key exists, so a mistyped name is mostly [kmskey.ErrDenied]. [Provider.Check] finds out at start-up, with any one of these
// permissions, whether it is there.
//
// # Rotation
//
// A rotation at Google, scheduled or by hand, makes a new primary version: new rows use it, and older ones still open as long as their version
// is enabled. To move those, list the same Provider under the next number of the keyring ({1: {Provider: p}, 2: {Provider: p}}) and
// rotate. Google cannot re-encrypt by itself, so a Provider is no [kmskey.Rewrapper], and the keyring unwraps and wraps in the memory of the
// rotator, which therefore needs both permissions. Disable a version and wait before destroying it: what lies under a destroyed
// version is lost.
//
// # Checksums
//
// Google's client does not check that what it sends and gets is whole. Here every request carries CRC32C checksums of the data key or
// ciphertext and of the context, and every answer is held to Google's: an answer that does not say that it verified ours, or whose own
// is missing or wrong, is [kmskey.ErrUnavailable], and nothing of it is used. A data key that was damaged on its way to Google would
// be found out no earlier than at the first read, when it is too late.
//
// # Logs
//
// The client writes whole requests and answers to its log at level debug (GOOGLE_SDK_GO_LOGGING_LEVEL, option.WithLogger). The messages
// of this package hold no data key there: a codec puts it into the request when that is encoded, and takes it out of the answer when that
// is decoded. For this the client must be the one over gRPC. Interceptors do not see data keys either. gRPC's own binary
// log (GRPC_BINARY_LOG_FILTER) has the encoded bytes, so it must stay off.
//
// Google's audit log has Encrypt and Decrypt among the Data Access logs, which are off until they are switched on for Cloud KMS.
// They name principal, time and key and not the additional authenticated data, so they do not tell which row was opened, and no
// IAM condition can ask for a part of the context.
//
// # Limits
//
// A key of protection level HSM takes data key and context of together 8 KiB, so contexts of almost 8 KiB need a software
// key. The buffers of gRPC, which hold data keys for the time of a call, cannot be cleared. Credentials, endpoint and quota project are the
// client's.
package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	kms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/rowseal/rowseal/kmskey"
)

// Service is what wrapped keys of this package name.
const Service = "gcp"

// Config has what is seldom needed. The zero Config works.
type Config struct {
	// Timeout bounds each act, repeated requests and the pauses between them included. A shorter deadline of the caller's own counts as
	// well. Defaults to 10 seconds.
	Timeout time.Duration

	// Attempts is how many requests an act makes at most, where Google answers that it is unavailable, was not in time, or that a quota
	// is used up; 1 makes one alone. The pauses are random, of up to 0.2 seconds first and twice as long each time. It takes the place of the
	// client's own setting for these two methods, which repeats nothing for want of quota, and all else until the deadline, whose error
	// then hides the cause. Defaults to 3.
	Attempts int
}

// Provider is a [kmskey.Provider] on one CryptoKey. It is safe for concurrent use, keeps neither data keys nor contexts, and makes one
// request per act, apart from those that are repeated ([Config].Attempts).
type Provider struct {
	client   *kms.KeyManagementClient
	key      string
	timeout  time.Duration
	attempts int
}

var (
	_ kmskey.Provider = (*Provider)(nil)
	_ kmskey.Owner    = (*Provider)(nil)
)

const (
	defaultTimeout  = 10 * time.Second
	defaultAttempts = 3
)

// New checks its arguments and makes no call. client is made with kms.NewKeyManagementClient, and closed by the caller after the last use;
// key is the full name of a CryptoKey, projects/…/locations/…/keyRings/…/cryptoKeys/…, as Google shows it.
func New(client *kms.KeyManagementClient, key string, cfg Config) (*Provider, error) {
	fail := func(format string, args ...any) (*Provider, error) {
		return nil, fmt.Errorf("gcpkms: new provider: "+format, args...)
	}
	if client == nil {
		return fail("no client; make one with kms.NewKeyManagementClient")
	}
	//lint:ignore SA1019 The connection is not used. That there is one is what tells the client over gRPC from the one over REST.
	if client.Connection() == nil {
		return fail("the client is one over REST; make one with kms.NewKeyManagementClient")
	}
	if err := checkKey(key); err != nil {
		return fail("%w", err)
	}
	p := &Provider{client: client, key: key, timeout: cfg.Timeout, attempts: cfg.Attempts}
	switch {
	case cfg.Timeout < 0:
		return fail("Config.Timeout is %v; leave it zero for %v", cfg.Timeout, defaultTimeout)
	case cfg.Attempts < 0:
		return fail("Config.Attempts is %d; leave it zero for %d, or set 1 to repeat nothing", cfg.Attempts, defaultAttempts)
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	if p.attempts == 0 {
		p.attempts = defaultAttempts
	}
	return p, nil
}

// Wrap encrypts dek under the primary version of the configured key: one Encrypt. KeyRef in the answer is the version that Google named.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	a := act{p, "wrap", p.key}
	if dek.IsZero() {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	ctx, done, err := a.begin(ctx)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	defer done()
	aad := ec.Canonical()
	tries := &retries{left: p.attempts}
	// Without the plaintext, which the codec adds: the client logs its requests.
	out, err := p.client.Encrypt(ctx, &kmspb.EncryptRequest{
		Name: p.key, PlaintextCrc32C: checksum(dek.Bytes()),
		AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}, tries.option(), (&codec{plaintext: dek.Bytes()}).option())
	if err != nil {
		return kmskey.Wrapped{}, a.failed(ctx, err, tries)
	}
	return a.wrapped(out)
}

// Unwrap decrypts w, once it is known to lie under a version of the configured key: one Decrypt. A row under any other key is refused with
// [kmskey.ErrForeignKey] and no call is made.
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	a := act{p, "unwrap", w.KeyRef}
	if err := a.admit(w); err != nil {
		return kmskey.DEK{}, err
	}
	ctx, done, err := a.begin(ctx)
	if err != nil {
		return kmskey.DEK{}, err
	}
	defer done()
	aad := ec.Canonical()
	tries, answer := &retries{left: p.attempts}, &codec{}
	defer answer.clear()
	out, err := p.client.Decrypt(ctx, &kmspb.DecryptRequest{
		Name: p.key, Ciphertext: w.Blob, CiphertextCrc32C: checksum(w.Blob),
		AdditionalAuthenticatedData: aad, AdditionalAuthenticatedDataCrc32C: checksum(aad),
	}, tries.option(), answer.option())
	if err != nil {
		return kmskey.DEK{}, a.failed(ctx, err, tries)
	}
	return a.unwrapped(out, answer.plaintext)
}

// Owns reports whether w lies under a version of the configured key. It makes no call.
func (p *Provider) Owns(w kmskey.Wrapped) bool { return w.Service == Service && p.owns(w.KeyRef) }

// String names the configured key.
func (p *Provider) String() string {
	if p == nil {
		return "gcpkms.Provider(nil)"
	}
	return "gcpkms.Provider(" + p.key + ")"
}

// act is one call, for its errors.
type act struct {
	p   *Provider
	op  string // "wrap", "unwrap"
	ref string
}

// begin bounds the act in time. A context that is done is refused here, so that no request is made.
func (a act) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, a.fail(kmskey.ErrUnavailable, "", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.p.timeout)
	return ctx, cancel, nil
}

// maxBlob is what an envelope holds, far above the hundred-odd bytes that Google makes of a data key.
const maxBlob = 16384

// admit decides whether w lies under the configured key.
func (a act) admit(w kmskey.Wrapped) error {
	if w.Service != Service {
		return a.fail(kmskey.ErrForeignKey, "give this row's version the provider of the service that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is %q", w.Service, Service))
	}
	if !a.p.owns(w.KeyRef) {
		return a.fail(kmskey.ErrForeignKey, "if the key is yours, give it a version of its own in the keyring",
			fmt.Errorf("only versions of %s are configured", a.p.key))
	}
	if len(w.Blob) < 1 || len(w.Blob) > maxBlob {
		return a.fail(kmskey.ErrContextMismatch, "", fmt.Errorf("a wrapped key of %d bytes, which is none of Google's", len(w.Blob)))
	}
	return nil
}

// owns reports whether ref is a version of the configured key, in the one form that Google has for it.
func (p *Provider) owns(ref string) bool {
	version, ok := strings.CutPrefix(ref, p.key+"/cryptoKeyVersions/")
	n, err := strconv.ParseUint(version, 10, 63)
	return ok && err == nil && n > 0 && strconv.FormatUint(n, 10) == version
}

// wrapped checks Google's answer to Encrypt. A name that admit would refuse must not be stored: the row could never be read.
func (a act) wrapped(out *kmspb.EncryptResponse) (kmskey.Wrapped, error) {
	switch {
	case !out.GetVerifiedPlaintextCrc32C():
		return kmskey.Wrapped{}, a.damaged("Google did not verify the checksum of the data key")
	case !out.GetVerifiedAdditionalAuthenticatedDataCrc32C():
		return kmskey.Wrapped{}, a.damaged("Google did not verify the checksum of the encryption context")
	case !matches(out.GetCiphertextCrc32C(), out.GetCiphertext()):
		return kmskey.Wrapped{}, a.damaged("the wrapped key does not have the checksum that came with it")
	case len(out.GetCiphertext()) < 1 || len(out.GetCiphertext()) > maxBlob:
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "is the endpoint Cloud KMS?", fmt.Errorf("the service answered with %d bytes", len(out.GetCiphertext())))
	case !a.p.owns(out.GetName()):
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "configure the key by the name that Google has for it, with the project's id and not its number",
			fmt.Errorf("the service used %.400q, which is no version of the configured key", out.GetName()))
	}
	return kmskey.Wrapped{Service: Service, KeyRef: out.GetName(), Blob: out.GetCiphertext()}, nil
}

// unwrapped checks Google's answer to Decrypt, whose plaintext the codec took out.
func (a act) unwrapped(out *kmspb.DecryptResponse, plaintext []byte) (kmskey.DEK, error) {
	if !matches(out.GetPlaintextCrc32C(), plaintext) {
		return kmskey.DEK{}, a.damaged("the data key does not have the checksum that came with it")
	}
	dek, err := kmskey.DEKFromBytes(plaintext)
	if err != nil {
		return kmskey.DEK{}, a.fail(kmskey.ErrInvalid, "this ciphertext was made by something else", err)
	}
	return dek, nil
}

// damaged is an answer or a request that did not come through whole.
func (a act) damaged(what string) error {
	return a.fail(kmskey.ErrUnavailable, "try again; where it stays so, something between here and Google changes requests or answers", errors.New(what))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is CRC32C as Google takes it. It guards against accidents, not against people; those the service's own encryption stops.
func checksum(data []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(data, castagnoli)))
}

// matches wants the checksum to be there: Google always sends it.
func matches(sum *wrapperspb.Int64Value, data []byte) bool {
	return sum != nil && sum.GetValue() == checksum(data).GetValue()
}

func (a act) fail(kind error, hint string, cause error) error {
	return &kmskey.Error{Op: a.op, Service: Service, KeyRef: a.ref, Kind: kind, Hint: hint, Err: cause}
}

const keyForm = "projects/<project>/locations/<location>/keyRings/<ring>/cryptoKeys/<key>"

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
	word   = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits + "_-"
)

// checkKey reads the name of a CryptoKey. No part can hold a slash, so no two names are read alike.
func checkKey(s string) error {
	bad := func(why string) error { return fmt.Errorf("key %.200q: %s; expected %s", s, why, keyForm) }
	parts := strings.Split(s, "/")
	if len(parts) == 10 && parts[8] == "cryptoKeyVersions" {
		return bad("a version is named, and Google chooses versions itself; leave out /cryptoKeyVersions/…")
	}
	if len(parts) != 8 {
		return bad("not the full name of a CryptoKey")
	}
	for i, part := range []struct{ collection, set string }{
		{"projects", lower + digits + "-.:"}, // "example.com:app" is the project app of a domain
		{"locations", lower + digits + "-"},
		{"keyRings", word},
		{"cryptoKeys", word},
	} {
		collection, id := parts[2*i], parts[2*i+1]
		if collection != part.collection {
			return bad(fmt.Sprintf("%q where %q belongs", collection, part.collection))
		}
		if len(id) < 1 || len(id) > 100 || strings.Trim(id, part.set) != "" || strings.Trim(id, ".") == "" {
			return bad("the name in " + part.collection + " is malformed")
		}
	}
	return nil
}
