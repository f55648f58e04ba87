// generate.go owns data keys that AWS draws.

package awskms

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey"
)

// Generate has AWS draw a data key, in its validated modules, and wrap it under the configured key: one GenerateDataKey, which
// takes kms:GenerateDataKey and no kms:Encrypt.
func (p *Provider) Generate(ctx context.Context, ec kmskey.Context) (kmskey.DEK, kmskey.Wrapped, error) {
	call := act{p, "generate", p.keyID, ec}
	ctx, done, err := call.begin(ctx)
	if err != nil {
		return kmskey.DEK{}, kmskey.Wrapped{}, err
	}
	defer done()
	out, err := p.client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: aws.String(p.keyID), KeySpec: types.DataKeySpecAes256, EncryptionContext: ec.Strings(), GrantTokens: p.tokens(),
	}, noBodies)
	if err != nil {
		return kmskey.DEK{}, kmskey.Wrapped{}, call.failed(ctx, err)
	}
	defer clear(out.Plaintext)
	w, err := call.wrapped(aws.ToString(out.KeyId), out.CiphertextBlob)
	if err != nil {
		return kmskey.DEK{}, kmskey.Wrapped{}, err
	}
	dek, err := kmskey.DEKFromBytes(out.Plaintext)
	if err != nil {
		return kmskey.DEK{}, kmskey.Wrapped{}, call.fail(kmskey.ErrInvalid, "is the endpoint AWS KMS?", errors.New("the answer holds no data key of 32 bytes"))
	}
	return dek, w, nil
}

// GenerateWrapped has AWS draw a data key and give it out wrapped alone: one GenerateDataKeyWithoutPlaintext, which takes that
// permission and lets whoever has no other see no data key.
func (p *Provider) GenerateWrapped(ctx context.Context, ec kmskey.Context) (kmskey.Wrapped, error) {
	call := act{p, "generate wrapped", p.keyID, ec}
	ctx, done, err := call.begin(ctx)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	defer done()
	out, err := p.client.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{
		KeyId: aws.String(p.keyID), KeySpec: types.DataKeySpecAes256, EncryptionContext: ec.Strings(), GrantTokens: p.tokens(),
	}, noBodies)
	if err != nil {
		return kmskey.Wrapped{}, call.failed(ctx, err)
	}
	return call.wrapped(aws.ToString(out.KeyId), out.CiphertextBlob)
}
