package awskmstest_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func TestGrants(t *testing.T) {
	type grantInput = kms.CreateGrantInput
	scene := func(t *testing.T) (srv *awskmstest.Server, key string, app *awskmstest.Principal, grant func(change func(*grantInput), ops ...types.GrantOperation) *kms.CreateGrantOutput) {
		srv = start(t)
		key, app = srv.CreateKey(), srv.NewPrincipal("app")
		return srv, key, app, func(change func(*grantInput), ops ...types.GrantOperation) *kms.CreateGrantOutput {
			t.Helper()
			in := &grantInput{KeyId: &key, GranteePrincipal: aws.String(app.ARN()), Operations: ops}
			if change != nil {
				change(in)
			}
			out, err := srv.Client().CreateGrant(ctx, in)
			must(t, err)
			return out
		}
	}
	seals := func(c *kms.Client, key string, ec map[string]string, tokens ...string) error {
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: ec, GrantTokens: tokens})
		return err
	}
	t.Run("allow_their_operations_on_their_key_to_their_grantee", func(t *testing.T) {
		srv, key, app, grant := scene(t)
		grant(nil, types.GrantOperationEncrypt)
		must(t, seals(app.Client(), key, words))
		_, err := decrypt(app.Client(), &key, encrypt(t, srv.Client(), key, "x"), words)
		refused(t, err, "AccessDeniedException")
		refused(t, seals(app.Client(), srv.CreateKey(), words), "AccessDeniedException")
		refused(t, seals(srv.NewPrincipal("other").Client(), key, words), "AccessDeniedException")
	})
	t.Run("hold_to_their_constraints", func(t *testing.T) {
		for name, c := range map[string]struct {
			constraints    types.GrantConstraints
			same, more, no bool
		}{
			"subset": {types.GrantConstraints{EncryptionContextSubset: words}, true, true, false},
			"equals": {types.GrantConstraints{EncryptionContextEquals: words}, true, false, false},
		} {
			_, key, app, grant := scene(t)
			grant(func(in *grantInput) { in.Constraints = &c.constraints }, types.GrantOperationEncrypt)
			more := map[string]string{"model": "Patient", "id": "7", "tenant": "1"}
			for _, try := range []struct {
				ec   map[string]string
				want bool
			}{{words, c.same}, {more, c.more}, {nil, c.no}, {map[string]string{"model": "Patient"}, false}} {
				if err := seals(app.Client(), key, try.ec); (err == nil) != try.want {
					t.Errorf("%s with %v: %v", name, try.ec, err)
				}
			}
		}
	})
	t.Run("need_their_token_until_they_are_settled", func(t *testing.T) {
		srv, key, app, grant := scene(t)
		srv.UnsettleGrants()
		token := *grant(nil, types.GrantOperationEncrypt).GrantToken
		refused(t, seals(app.Client(), key, words), "AccessDeniedException")
		must(t, seals(app.Client(), key, words, token))
		refused(t, seals(app.Client(), key, words, token+"0"), "InvalidGrantTokenException")
		refused(t, seals(app.Client(), key, words, make([]string, 11)...), "ValidationException")
		refused(t, seals(srv.NewPrincipal("thief").Client(), key, words, token), "AccessDeniedException")
		srv.SettleGrants()
		must(t, seals(app.Client(), key, words))
	})
	t.Run("end_when_they_are_revoked_or_retired", func(t *testing.T) {
		srv, key, app, grant := scene(t)
		id := grant(nil, types.GrantOperationEncrypt).GrantId
		_, err := app.Client().RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &key, GrantId: id})
		refused(t, err, "AccessDeniedException")
		_, err = srv.Client().RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &key, GrantId: id})
		must(t, err)
		refused(t, seals(app.Client(), key, words), "AccessDeniedException")
		_, err = srv.Client().RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &key, GrantId: id})
		refused(t, err, "NotFoundException")

		out := grant(nil, types.GrantOperationEncrypt, types.GrantOperationRetireGrant)
		_, err = srv.NewPrincipal("other").Client().RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: out.GrantToken})
		refused(t, err, "AccessDeniedException")
		_, err = app.Client().RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: out.GrantToken})
		must(t, err)
		refused(t, seals(app.Client(), key, words, *out.GrantToken), "AccessDeniedException")

		retirer := srv.NewPrincipal("retirer")
		out = grant(func(in *grantInput) { in.RetiringPrincipal = aws.String(retirer.ARN()) }, types.GrantOperationEncrypt)
		_, err = retirer.Client().RetireGrant(ctx, &kms.RetireGrantInput{KeyId: &key, GrantId: out.GrantId})
		must(t, err)
		_, err = retirer.Client().RetireGrant(ctx, &kms.RetireGrantInput{})
		refused(t, err, "ValidationException")
	})
	t.Run("are_listed_and_made_once_under_one_name", func(t *testing.T) {
		srv, key, app, grant := scene(t)
		named := func(in *grantInput) {
			in.Name, in.Constraints = aws.String("app"), &types.GrantConstraints{EncryptionContextSubset: words}
		}
		id := *grant(named, types.GrantOperationEncrypt).GrantId
		if again := *grant(named, types.GrantOperationEncrypt).GrantId; again != id {
			t.Error("made twice")
		}
		grant(nil, types.GrantOperationDecrypt)
		out, err := srv.Client().ListGrants(ctx, &kms.ListGrantsInput{KeyId: &key})
		must(t, err)
		if len(out.Grants) != 2 || *out.Grants[0].GrantId != id || *out.Grants[0].GranteePrincipal != app.ARN() || out.Grants[0].Constraints.EncryptionContextSubset["id"] != "7" {
			t.Errorf("%+v", out.Grants)
		}
		one, err := srv.Client().ListGrants(ctx, &kms.ListGrantsInput{KeyId: &key, GrantId: &id})
		must(t, err)
		if len(one.Grants) != 1 {
			t.Errorf("%+v", one.Grants)
		}
		_, err = app.Client().ListGrants(ctx, &kms.ListGrantsInput{KeyId: &key})
		refused(t, err, "AccessDeniedException")
	})
	t.Run("of_what_the_fake_has_not_are_refused", func(t *testing.T) {
		srv, key, app, _ := scene(t)
		_, err := srv.Client().CreateGrant(ctx, &grantInput{KeyId: &key, GranteePrincipal: aws.String(app.ARN()), Operations: []types.GrantOperation{types.GrantOperationSign}})
		refused(t, err, "UnsupportedOperationException")
		_, err = srv.Client().CreateGrant(ctx, &grantInput{KeyId: &key, GranteePrincipal: aws.String(app.ARN()), Operations: []types.GrantOperation{}})
		refused(t, err, "ValidationException")
		_, err = app.Client().CreateGrant(ctx, &grantInput{KeyId: &key, GranteePrincipal: aws.String(app.ARN()), Operations: []types.GrantOperation{types.GrantOperationEncrypt}})
		refused(t, err, "AccessDeniedException")
	})
}
