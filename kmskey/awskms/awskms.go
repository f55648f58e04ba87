// Package awskms wraps data keys with AWS KMS, through the service client of aws-sdk-go-v2.
//
// A data key is made locally and wrapped by Encrypt, so that a service with nothing but kms:Encrypt can write rows; reading
// them takes kms:Decrypt, and moving them to another key or context kms:ReEncryptFrom and kms:ReEncryptTo, without the data
// key ever leaving AWS. The encryption context goes to AWS as pairs of strings: AWS enforces it, key policies can ask for it,
// and CloudTrail logs it in the clear.
//
// The key may be configured by key id, key ARN, alias or alias ARN. What a row stores is always the key ARN that AWS answered
// with, and that ARN is what AWS is asked to decrypt with, so rows still open when an alias moves on.
//
// A row's ARN selects among the configured keys and never adds one. Before any call it must name the client's region, and
//
//   - where a key id or key ARN is configured: that key, or one of [Config].PreviousKeys;
//   - where an alias is configured: any key of the alias's account, or one of PreviousKeys. An alias ARN or [Config].Account
//     says which account that is; else the account is the one that AWS named when it was first asked for the configured
//     alias. Until then rows are unwrapped under the alias itself, which AWS resolves in the caller's own account: the row has
//     no say.
//
// Where rows were wrapped in several regions under related multi-Region keys (mrk-…), [Config].ReplicaRegions lets them open, and
// move, in each.
//
// The client and all that belongs to it (credentials, retries, endpoints) are the caller's. [Retries] bounds how often it asks again.
// BaseEndpoint of its options names a VPC endpoint or an emulator, and EndpointOptions.UseFIPSEndpoint (AWS_USE_FIPS_ENDPOINT) the
// region's FIPS endpoint; both at once the SDK refuses. [Provider.Check] finds at start-up what is wrong with key, account, region and
// credentials.
//
// Limits: types of context values are lost in AWS's pairs of strings (1 and "1" agree; the commitment in the envelope tells them
// apart); the SDK's own buffers, which hold data keys for the time of a call, cannot be cleared; and a client with request or
// response bodies in its ClientLogMode would log data keys, so those two bits are switched off for the calls made here.
package awskms

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/rowseal/rowseal/kmskey"
)

// Service is what wrapped keys of this package name.
const Service = "aws"

// API is what this package needs of a client. [*kms.Client] has it, and a type that embeds API or *kms.Client, to count or to delay.
// DescribeKey is for [Provider.Check] alone, and the two that generate for [Provider.Generate] and [Provider.GenerateWrapped].
type API interface {
	Encrypt(ctx context.Context, in *kms.EncryptInput, options ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in *kms.DecryptInput, options ...func(*kms.Options)) (*kms.DecryptOutput, error)
	ReEncrypt(ctx context.Context, in *kms.ReEncryptInput, options ...func(*kms.Options)) (*kms.ReEncryptOutput, error)
	GenerateDataKey(ctx context.Context, in *kms.GenerateDataKeyInput, options ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error)
	GenerateDataKeyWithoutPlaintext(ctx context.Context, in *kms.GenerateDataKeyWithoutPlaintextInput, options ...func(*kms.Options)) (*kms.GenerateDataKeyWithoutPlaintextOutput, error)
	DescribeKey(ctx context.Context, in *kms.DescribeKeyInput, options ...func(*kms.Options)) (*kms.DescribeKeyOutput, error)
	Options() kms.Options
}

// Config has what is seldom needed. The zero Config works.
type Config struct {
	// Account is the twelve-digit account of the configured key. Set it where a bare alias or key id is configured and the
	// process never wraps: it then knows from the start which rows are its own, also those under keys that the alias has
	// left. Defaults to the account in the configured ARN, else to the one that AWS names first.
	Account string

	// PreviousKeys are ARNs of further keys, in the client's region and of any account, whose rows may be unwrapped and
	// moved. Wrapping never uses them. Defaults to none.
	PreviousKeys []string

	// ReplicaRegions are regions in which the configured multi-Region key (mrk-…), or one of PreviousKeys, has related keys. Rows
	// that were wrapped there are unwrapped and moved with the related key of the client's own region: the same account and key id,
	// and so the same key material, which AWS is asked for by its ARN in the own region. A row still selects among the
	// configured keys. The client's own region may be in the list, so that one list serves all regions. Defaults to none: rows of
	// other regions are refused.
	ReplicaRegions []string

	// GrantTokens gives the tokens of grants that may be too new for AWS to know everywhere: CreateGrant answers with one, which opens
	// what the grant allows during the first minutes. It is called for each call to AWS, concurrently, and must be quick. AWS takes
	// ten at most. Defaults to none.
	GrantTokens func() []string

	// Timeout bounds each call, the client's retries included. A shorter deadline of the caller's own counts as well.
	// Defaults to 10 seconds.
	Timeout time.Duration
}

// Provider is a [kmskey.Provider] on one AWS KMS key, with all the optional powers: [kmskey.Rewrapper], [kmskey.Owner],
// [kmskey.Generator] and [kmskey.BlindGenerator]. It is safe for concurrent use, keeps neither data keys nor contexts, and makes one
// call to AWS per act, apart from the client's retries.
type Provider struct {
	client     API
	canCompare bool // whether client may be compared with ==
	keyID      string
	partition  string // "" where it is not known
	region     string
	account    string // "" where it is not configured
	key        string // the id, where a key id or key ARN is configured
	previous   map[string]bool
	replicas   []string // regions
	tokens     func() []string
	timeout    time.Duration

	// learned is the account and partition that AWS answered with for keyID.
	learned atomic.Pointer[owner]
}

type owner struct{ partition, account string }

var (
	_ kmskey.Provider       = (*Provider)(nil)
	_ kmskey.Rewrapper      = (*Provider)(nil)
	_ kmskey.Owner          = (*Provider)(nil)
	_ kmskey.Generator      = (*Provider)(nil)
	_ kmskey.BlindGenerator = (*Provider)(nil)
	_ API                   = (*kms.Client)(nil)
)

const defaultTimeout = 10 * time.Second

// New checks its arguments and makes no call. keyID is a key id, a key ARN, an alias ("alias/app") or an alias ARN; an ARN must
// be of the client's region.
func New(client API, keyID string, cfg Config) (*Provider, error) {
	fail := func(format string, args ...any) (*Provider, error) {
		return nil, fmt.Errorf("awskms: new provider: "+format, args...)
	}
	if client == nil || isNilPointer(client) {
		return fail("no client; make one with kms.NewFromConfig")
	}
	name, err := parseName(keyID)
	if err != nil {
		return fail("%w", err)
	}
	p := &Provider{
		client: client, canCompare: reflect.TypeOf(client).Comparable(),
		keyID: keyID, region: client.Options().Region, account: cfg.Account, key: name.key,
		previous: make(map[string]bool, len(cfg.PreviousKeys)), replicas: slices.Clone(cfg.ReplicaRegions),
		tokens: cfg.GrantTokens, timeout: cfg.Timeout,
	}
	if p.tokens == nil {
		p.tokens = func() []string { return nil }
	}
	switch {
	case p.region == "":
		return fail("the client has no region; set AWS_REGION, or Region of its options")
	case name.region != "" && name.region != p.region:
		return fail("key %q is in region %s and the client is for %s; make a client for the key's region", keyID, name.region, p.region)
	case cfg.Account != "" && !isAccount(cfg.Account):
		return fail("Config.Account %q does not have twelve digits", cfg.Account)
	case cfg.Account != "" && name.account != "" && cfg.Account != name.account:
		return fail("key %q is of account %s and Config.Account is %s; leave one of them out", keyID, name.account, cfg.Account)
	case cfg.Timeout < 0:
		return fail("Config.Timeout is %v; leave it zero for %v", cfg.Timeout, defaultTimeout)
	}
	p.partition = partitionOf(p.region)
	if name.account != "" {
		if p.partition != "" && p.partition != name.partition {
			return fail("key %q is in partition %s, and region %s in %s", keyID, name.partition, p.region, p.partition)
		}
		p.partition, p.account = name.partition, name.account
	}
	if p.timeout == 0 {
		p.timeout = defaultTimeout
	}
	multiRegion := name.alias != "" || isMultiRegion(name.key)
	for _, arn := range cfg.PreviousKeys {
		previous, err := parseKeyARN(arn)
		switch {
		case err != nil:
			return fail("Config.PreviousKeys: %w", err)
		case previous.region != p.region:
			return fail("Config.PreviousKeys: %q is not in the client's region %s; give that key a version of its own in the keyring", arn, p.region)
		case p.partition != "" && previous.partition != p.partition:
			return fail("Config.PreviousKeys: %q is not in partition %s", arn, p.partition)
		}
		p.previous[arn] = true
		multiRegion = multiRegion || isMultiRegion(previous.key)
	}
	if len(p.replicas) > 0 && !multiRegion {
		return fail("Config.ReplicaRegions is set and key %q is of one region; only keys that begin with mrk- have replicas", keyID)
	}
	for _, region := range p.replicas {
		switch other := partitionOf(region); {
		case !isRegion(region):
			return fail("Config.ReplicaRegions: %.80q is no region such as us-east-1", region)
		case p.partition != "" && other != "" && other != p.partition:
			return fail("Config.ReplicaRegions: %s is in partition %s, and replicas stay within %s", region, other, p.partition)
		}
	}
	return p, nil
}

func isNilPointer(v any) bool {
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// Wrap encrypts dek under the configured key: one Encrypt. KeyRef in the answer is the key ARN that AWS named.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	call := act{p, "wrap", p.keyID, ec}
	if dek.IsZero() {
		return kmskey.Wrapped{}, call.fail(kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	ctx, done, err := call.begin(ctx)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	defer done()
	out, err := p.client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: aws.String(p.keyID), Plaintext: dek.Bytes(), EncryptionContext: ec.Strings(), GrantTokens: p.tokens(),
	}, noBodies)
	if err != nil {
		return kmskey.Wrapped{}, call.failed(ctx, err)
	}
	return call.wrapped(aws.ToString(out.KeyId), out.CiphertextBlob)
}

// Unwrap decrypts w under the key that it names, once that is known to be one of the configured keys: one Decrypt. A row under
// any other key is refused with [kmskey.ErrForeignKey] and no call is made.
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	call := act{p, "unwrap", w.KeyRef, ec}
	key, err := call.admit(w)
	if err != nil {
		return kmskey.DEK{}, err
	}
	ctx, done, err := call.begin(ctx)
	if err != nil {
		return kmskey.DEK{}, err
	}
	defer done()
	out, err := p.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: aws.String(key.ask), CiphertextBlob: w.Blob, EncryptionContext: ec.Strings(), GrantTokens: p.tokens(),
	}, noBodies)
	if err != nil {
		return kmskey.DEK{}, call.failedUnder(ctx, key, err)
	}
	defer clear(out.Plaintext)
	if err := call.confirm(p, key, aws.ToString(out.KeyId)); err != nil {
		return kmskey.DEK{}, err
	}
	dek, err := kmskey.DEKFromBytes(out.Plaintext)
	if err != nil {
		return kmskey.DEK{}, call.fail(kmskey.ErrInvalid, "this ciphertext was made by something else", err)
	}
	return dek, nil
}

// Rewrap moves w, which lies under a key of source, to p's key and the context to: one ReEncrypt by p's client, which needs
// kms:ReEncryptFrom on the old key and kms:ReEncryptTo on the new one. It fails with [kmskey.ErrNotRewrappable], having made no
// call, where source is no Provider of this package, where source is in another region and p has no replica of the row's key
// ([Config].ReplicaRegions), and where source is configured by a bare alias or key id, has another client, and does not know its
// account yet: p's client may be of another account.
func (p *Provider) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	call := act{p, "rewrap", w.KeyRef, from}
	src, ok := source.(*Provider)
	if !ok || src == nil {
		return kmskey.Wrapped{}, call.fail(kmskey.ErrNotRewrappable, "", fmt.Errorf("a source of type %T", source))
	}
	key, err := act{src, "rewrap", w.KeyRef, from}.admit(w)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	if src.region != p.region {
		// ReEncrypt stays within a region, so that p itself must have the row's key there.
		far := src.region
		if src = p; !p.Owns(w) {
			return kmskey.Wrapped{}, call.fail(kmskey.ErrNotRewrappable, "a multi-Region key goes there if its regions are in Config.ReplicaRegions of the target",
				fmt.Errorf("from region %s to %s", far, p.region))
		}
		if key, err = call.admit(w); err != nil {
			return kmskey.Wrapped{}, err
		}
	}
	if key.byName && !src.sharesClient(p) {
		return kmskey.Wrapped{}, call.fail(kmskey.ErrNotRewrappable, "set Config.Account of the source, or give both the same client",
			fmt.Errorf("the account of the source's key %q is not known", src.keyID))
	}
	ctx, done, err := call.begin(ctx)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	defer done()
	out, err := p.client.ReEncrypt(ctx, &kms.ReEncryptInput{
		SourceKeyId: aws.String(key.ask), CiphertextBlob: w.Blob, SourceEncryptionContext: from.Strings(),
		DestinationKeyId: aws.String(p.keyID), DestinationEncryptionContext: to.Strings(), GrantTokens: p.tokens(),
	}, noBodies)
	if err != nil {
		return kmskey.Wrapped{}, call.failedUnder(ctx, key, err)
	}
	if err := call.confirm(src, key, aws.ToString(out.SourceKeyId)); err != nil {
		return kmskey.Wrapped{}, err
	}
	return call.wrapped(aws.ToString(out.KeyId), out.CiphertextBlob)
}

// Owns reports whether w lies under a key of the configuration, those of [Config].PreviousKeys and replicas included. It makes no call.
// Where a bare alias or key id is configured and its account is not known yet, a key of any account may be the provider's;
// [Config].Account or [Provider.Check] ends that.
func (p *Provider) Owns(w kmskey.Wrapped) bool {
	_, err := act{p: p}.own(w)
	return err == nil
}

// sharesClient reports whether both call AWS as the same principal, so that a bare name means the same key to both.
func (p *Provider) sharesClient(q *Provider) bool {
	return p == q || p.canCompare && q.canCompare && p.client == q.client
}

// String names the configured key.
func (p *Provider) String() string {
	if p == nil {
		return "awskms.Provider(nil)"
	}
	return fmt.Sprintf("awskms.Provider(%s, %s)", p.keyID, p.region)
}

// owner is the account and partition of the configured key, as far as they are known.
func (p *Provider) owner() owner {
	if p.account != "" && p.partition != "" {
		return owner{p.partition, p.account}
	}
	if l := p.learned.Load(); l != nil {
		return *l
	}
	return owner{p.partition, p.account}
}

// noBodies keeps data keys out of the client's log, for this call.
func noBodies(o *kms.Options) {
	o.ClientLogMode &^= aws.LogRequestWithBody | aws.LogResponseWithBody
}

// act is one call, for its errors.
type act struct {
	p   *Provider
	op  string // "wrap", "unwrap", "rewrap", "generate", "generate wrapped", "check"
	ref string
	ec  kmskey.Context // that the service is to find authentic, for its names; values are in no error
}

// begin bounds the call in time. A context that is done is refused here, so that no request is made.
func (a act) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, a.fail(kmskey.ErrUnavailable, "", err)
	}
	ctx, cancel := context.WithTimeout(ctx, a.p.timeout)
	return ctx, cancel, nil
}

// maxBlob is the longest ciphertext that AWS takes (API reference, Decrypt).
const maxBlob = 6144

// known is how AWS is asked for a row's key.
type known struct {
	ask    string // the KeyId to ask for
	arn    string // the key that AWS must answer with
	byName bool   // ask is the configured name, which a row cannot choose, as the account is not known
}

// admit is own, and refuses blobs that AWS would not take.
func (a act) admit(w kmskey.Wrapped) (known, error) {
	key, err := a.own(w)
	if err == nil && (len(w.Blob) < 1 || len(w.Blob) > maxBlob) {
		err = a.fail(kmskey.ErrContextMismatch, "", fmt.Errorf("a wrapped key of %d bytes, where AWS KMS makes 1 to %d", len(w.Blob), maxBlob))
	}
	return key, err
}

// own decides whether w lies under a key of the configuration.
func (a act) own(w kmskey.Wrapped) (known, error) {
	p := a.p
	if w.Service != Service {
		return known{}, a.fail(kmskey.ErrForeignKey, "give this row's version the provider of the service that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is %q", w.Service, Service))
	}
	ref, err := parseKeyARN(w.KeyRef)
	if err != nil {
		return known{}, a.fail(kmskey.ErrForeignKey, "", errors.New("the row does not name an AWS KMS key by its ARN"))
	}
	foreign := func(what string) (known, error) {
		return known{}, a.fail(kmskey.ErrForeignKey, "if the key is yours, list its ARN in Config.PreviousKeys, or give it a version of its own in the keyring", errors.New(what))
	}
	if ref.region != p.region && isMultiRegion(ref.key) && slices.Contains(p.replicas, ref.region) {
		// From here on it is the related key in the own region, and that must be one of the configuration like any other.
		ref = ref.in(p.region)
	}
	key := known{ask: ref.arn(), arn: ref.arn()}
	switch own := p.owner(); {
	case ref.region != p.region && isMultiRegion(ref.key):
		return known{}, a.fail(kmskey.ErrForeignKey, "if it is a replica of the configured key, list that region in Config.ReplicaRegions",
			errors.New("the row's key is not in the client's region "+p.region))
	case ref.region != p.region:
		return foreign("the row's key is not in the client's region " + p.region)
	case own.partition != "" && ref.partition != own.partition:
		return foreign("the row's key is not in partition " + own.partition)
	case p.previous[key.arn]:
	case p.key != "" && ref.key != p.key:
		return foreign(fmt.Sprintf("only key %q is configured", p.keyID))
	case own.account != "" && ref.account != own.account:
		return foreign(fmt.Sprintf("the configured key %q is of account %s", p.keyID, own.account))
	case own.account == "":
		key.ask, key.byName = p.keyID, true
	}
	return key, nil
}

// confirm checks that AWS used the key that the row names. src is the provider whose key it is.
func (a act) confirm(src *Provider, key known, answered string) error {
	if answered != key.arn {
		return a.fail(kmskey.ErrContextMismatch, "", fmt.Errorf("AWS KMS opened it with key %.200q, which is not the one that the row names", answered))
	}
	if key.byName {
		src.learn(answered)
	}
	return nil
}

// learn takes note of what AWS answered with for the configured name, and of nothing else.
func (p *Provider) learn(arn string) {
	if p.learned.Load() != nil {
		return
	}
	if name, err := parseKeyARN(arn); err == nil {
		p.learned.CompareAndSwap(nil, &owner{name.partition, name.account})
	}
}

// wrapped checks AWS's answer for the configured key. An ARN that admit would refuse must not be stored: the row could never be
// read.
func (a act) wrapped(arn string, blob []byte) (kmskey.Wrapped, error) {
	name, err := parseKeyARN(arn)
	if err != nil || len(blob) < 1 || len(blob) > maxBlob {
		return kmskey.Wrapped{}, a.fail(kmskey.ErrInvalid, "is the endpoint AWS KMS?", fmt.Errorf("the service answered with key %.200q and %d bytes", arn, len(blob)))
	}
	if err := a.configured(name); err != nil {
		return kmskey.Wrapped{}, err
	}
	a.p.learn(arn)
	return kmskey.Wrapped{Service: Service, KeyRef: arn, Blob: blob}, nil
}

// configured checks that the key which AWS named for the configured one is what the configuration says.
func (a act) configured(n name) error {
	p := a.p
	switch own := p.owner(); {
	case p.key != "" && n.key != p.key,
		n.region != p.region,
		own.partition != "" && n.partition != own.partition,
		own.account != "" && n.account != own.account:
		return a.fail(kmskey.ErrInvalid, "check Config.Account and the client's credentials and region",
			fmt.Errorf("AWS KMS used key %q, which lies outside the configuration", n.arn()))
	}
	return nil
}

func (a act) fail(kind error, hint string, cause error) error {
	return &kmskey.Error{Op: a.op, Service: Service, KeyRef: a.ref, Kind: kind, Hint: hint, Err: cause}
}
