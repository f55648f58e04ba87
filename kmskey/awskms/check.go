// check.go owns what can be known about key and permissions before the first row.

package awskms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/rowseal/rowseal/kmskey"
)

// Check asks AWS about the configured key and says what is wrong with it, or with credentials, region and configuration. Call it at
// start-up. The kinds of its errors are those of using the key: [kmskey.ErrDisabled], with the date where a deletion is scheduled,
// [kmskey.ErrNotFound], [kmskey.ErrDenied], and [kmskey.ErrInvalid] for a key of another kind, account or region than configured, and for
// a region in [Config].ReplicaRegions without a replica. Each request has [Config].Timeout, and there are six at most.
//
// It asks by DescribeKey, which takes kms:DescribeKey; the account of a bare alias or key id is known from then on. Where that is not
// permitted, dry runs find out whether this principal may do at least one of a provider's acts with the key, and more cannot be found out.
// They have no encryption context, so a policy that asks for one refuses them: there, permit kms:DescribeKey.
func (p *Provider) Check(ctx context.Context) error {
	call := act{p, "check", p.keyID, kmskey.Context{}}
	var out *kms.DescribeKeyOutput
	denied, err := call.try(ctx, func(ctx context.Context) (err error) {
		out, err = p.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(p.keyID), GrantTokens: p.tokens()}, noBodies)
		return err
	})
	if err == nil {
		return call.described(out.KeyMetadata)
	}
	if !denied {
		return err
	}
	key, tokens, dry := aws.String(p.keyID), p.tokens(), aws.Bool(true)
	blind := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	for _, try := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := p.client.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: make([]byte, kmskey.DEKSize), DryRun: dry, GrantTokens: tokens}, noBodies)
			return err
		},
		func(ctx context.Context) error {
			_, err := p.client.Decrypt(ctx, &kms.DecryptInput{KeyId: key, DryRun: dry, DryRunModifiers: blind, GrantTokens: tokens}, noBodies)
			return err
		},
		func(ctx context.Context) error {
			_, err := p.client.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: key, DestinationKeyId: key, DryRun: dry, DryRunModifiers: blind, GrantTokens: tokens}, noBodies)
			return err
		},
		func(ctx context.Context) error {
			_, err := p.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256, DryRun: dry, GrantTokens: tokens}, noBodies)
			return err
		},
		func(ctx context.Context) error {
			_, err := p.client.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: key, KeySpec: types.DataKeySpecAes256, DryRun: dry, GrantTokens: tokens}, noBodies)
			return err
		},
	} {
		switch denied, dry := call.try(ctx, try); {
		case dry == nil:
			return call.fail(kmskey.ErrInvalid, "is the endpoint AWS KMS?", errors.New("the service did what it was to try only"))
		case is[*types.DryRunOperationException](dry):
			return nil // the answer that it would have succeeded
		case !denied:
			return dry
		}
	}
	return call.fail(kmskey.ErrDenied, "allow this principal kms:DescribeKey on the key, and what it is to do: kms:Encrypt, kms:Decrypt, kms:ReEncrypt*, kms:GenerateDataKey*", err)
}

// try makes one request and reports whether AWS refused it for want of permission alone.
func (a act) try(ctx context.Context, do func(context.Context) error) (denied bool, err error) {
	ctx, done, err := a.begin(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	if err := do(ctx); err != nil {
		api, ok := errors.AsType[smithy.APIError](err)
		return ok && strings.HasPrefix(api.ErrorCode(), "AccessDenied") && !withoutCredentials(err), a.failed(ctx, err)
	}
	return false, nil
}

// described holds what DescribeKey answered to the configuration, and learns the account from it.
func (a act) described(m *types.KeyMetadata) error {
	p := a.p
	if m == nil {
		m = &types.KeyMetadata{}
	}
	n, err := parseKeyARN(aws.ToString(m.Arn))
	if err != nil {
		return a.fail(kmskey.ErrInvalid, "is the endpoint AWS KMS?", fmt.Errorf("the service answered with key %.200q", aws.ToString(m.Arn)))
	}
	if err := a.configured(n); err != nil {
		return err
	}
	p.learn(n.arn())

	var wrong []string
	if m.KeyManager == types.KeyManagerTypeAws {
		wrong = append(wrong, "AWS manages it for services of its own: make a key, and an alias that does not begin with alias/aws/")
	}
	if m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != types.KeySpecSymmetricDefault {
		wrong = append(wrong, fmt.Sprintf("it is of spec %.40s and usage %.40s: make a symmetric key for encryption (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)", m.KeySpec, m.KeyUsage))
	}
	wrong = append(wrong, p.unreplicated(n, m)...)
	if len(wrong) > 0 {
		return a.fail(kmskey.ErrInvalid, "", errors.New(strings.Join(wrong, "; ")))
	}

	switch m.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateDisabled:
		return a.fail(kmskey.ErrDisabled, "enable it, or list its successor first", nil)
	}
	state := strings.ToLower(string(m.KeyState))
	hint, kind := a.state(func(part string) bool { return strings.Contains(state, part) })
	cause := fmt.Errorf("the key is in state %.40s", m.KeyState)
	if m.DeletionDate != nil {
		cause = fmt.Errorf("%w, to be deleted at %s", cause, m.DeletionDate.UTC().Format(time.RFC3339))
	}
	return a.fail(kind, hint, cause)
}

// unreplicated says which regions of Config.ReplicaRegions have no key related to the configured one. Those may have replicas of
// previous keys, so that nothing is said where there are any.
func (p *Provider) unreplicated(n name, m *types.KeyMetadata) (wrong []string) {
	if len(p.replicas) == 0 || len(p.previous) > 0 {
		return nil
	}
	if m.MultiRegionConfiguration == nil {
		return []string{"Config.ReplicaRegions is set and it is a key of one region: make a multi-Region key, or leave them out"}
	}
	regions := []string{n.region}
	if primary := m.MultiRegionConfiguration.PrimaryKey; primary != nil {
		regions = append(regions, aws.ToString(primary.Region))
	}
	for _, replica := range m.MultiRegionConfiguration.ReplicaKeys {
		regions = append(regions, aws.ToString(replica.Region))
	}
	for _, region := range p.replicas {
		if !slices.Contains(regions, region) {
			wrong = append(wrong, "it has no replica in "+region+", which Config.ReplicaRegions names")
		}
	}
	return wrong
}
