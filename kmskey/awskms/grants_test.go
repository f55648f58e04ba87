package awskms_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// TestGrantTokens: a grant that AWS does not know everywhere yet opens by its token, in each act.
func TestGrantTokens(t *testing.T) {
	srv := awskmstest.New(t, awskmstest.Config{})
	old, key := srv.CreateKey(), srv.CreateKey()
	srv.UnsettleGrants()
	app := srv.NewPrincipal("app")
	grantee, constraint := app.ARN(), &types.GrantConstraints{EncryptionContextSubset: map[string]string{"model_name": "Patient"}}
	grant := func(key string, operations ...types.GrantOperation) string {
		out, err := srv.Client().CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: &grantee, Operations: operations, Constraints: constraint})
		must(t, err)
		return *out.GrantToken
	}
	tokens := []string{
		grant(key, types.GrantOperationEncrypt, types.GrantOperationDecrypt, types.GrantOperationReEncryptTo, types.GrantOperationGenerateDataKey, types.GrantOperationGenerateDataKeyWithoutPlaintext, types.GrantOperationDescribeKey),
		grant(old, types.GrantOperationReEncryptFrom),
	}
	w := wrap(t, provider(t, srv.Client(), old, awskms.Config{}), row(t, 1))
	without := provider(t, app.Client(), key, awskms.Config{PreviousKeys: []string{old}})
	with := provider(t, app.Client(), key, awskms.Config{PreviousKeys: []string{old}, GrantTokens: func() []string { return tokens }})
	uses := func(p *awskms.Provider) map[string]error {
		own, wrapping := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		if wrapping != nil {
			own = kmskey.Wrapped{Service: "aws", KeyRef: key, Blob: []byte{1}}
		}
		_, unwrapping := p.Unwrap(t.Context(), own, row(t, 1))
		_, rewrapping := p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 2))
		_, _, generating := p.Generate(t.Context(), row(t, 1))
		_, blind := p.GenerateWrapped(t.Context(), row(t, 1))
		return map[string]error{"wrap": wrapping, "unwrap": unwrapping, "rewrap": rewrapping, "generate": generating, "generate wrapped": blind, "check": p.Check(t.Context())}
	}
	for name, err := range uses(without) {
		if !errors.Is(err, kmskey.ErrDenied) {
			t.Errorf("%s without the token of an unsettled grant: %v", name, err)
		}
	}
	for name, err := range uses(with) {
		if err != nil {
			t.Errorf("%s with the token: %v", name, err)
		}
	}
	_, err := with.Wrap(t.Context(), kmskey.NewDEK(), kmskey.Context{})
	says(t, err, kmskey.ErrDenied, "kms:Encrypt") // the grant's constraint is AWS's to hold
	srv.SettleGrants()
	for name, err := range uses(without) {
		if err != nil {
			t.Errorf("%s once the grant is settled: %v", name, err)
		}
	}
	unknown := provider(t, app.Client(), key, awskms.Config{GrantTokens: func() []string { return []string{"nonsense"} }})
	_, err = unknown.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
	says(t, err, kmskey.ErrInvalid, "Config.GrantTokens gave a token that AWS does not know")
}
