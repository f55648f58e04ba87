package awskmstest_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func TestMultiRegionKeys(t *testing.T) {
	scene := func(t *testing.T) (srv *awskmstest.Server, here, there string, c, far *kms.Client) {
		srv = start(t)
		c, far = srv.Client(), srv.Client(func(o *kms.Options) { o.Region = "us-east-1" })
		out, err := c.CreateKey(ctx, &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
		must(t, err)
		here = *out.KeyMetadata.Arn
		r, err := c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &here, ReplicaRegion: aws.String("us-east-1")})
		must(t, err)
		return srv, here, *r.ReplicaKeyMetadata.Arn, c, far
	}
	t.Run("have_one_id_and_one_material", func(t *testing.T) {
		srv, here, there, c, far := scene(t)
		if !strings.Contains(here, ":key/mrk-") || there != strings.Replace(here, srv.Region(), "us-east-1", 1) {
			t.Errorf("%s and %s", here, there)
		}
		must(t, srv.RotateKeyOnDemand(here)) // the primary's rotation is the replicas'
		for _, name := range []*string{nil, &there} {
			if got, err := decrypt(far, name, encrypt(t, c, here, "secret"), words); err != nil || got != "secret" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if got, err := decrypt(c, &here, encrypt(t, far, there, "back"), words); err != nil || got != "back" {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("are_asked_for_in_their_own_region", func(t *testing.T) {
		_, here, _, c, far := scene(t)
		_, err := decrypt(far, &here, encrypt(t, c, here, "x"), words)
		refused(t, err, "NotFoundException")
	})
	t.Run("have_states_of_their_own", func(t *testing.T) {
		srv, here, there, c, far := scene(t)
		must(t, srv.DisableKey(here))
		encrypt(t, far, there, "x")
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &here, Plaintext: []byte("x")})
		refused(t, err, "DisabledException")
	})
	t.Run("describe_each_other", func(t *testing.T) {
		srv, here, there, _, far := scene(t)
		out, err := far.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &there})
		must(t, err)
		m := out.KeyMetadata.MultiRegionConfiguration
		if !*out.KeyMetadata.MultiRegion || m.MultiRegionKeyType != types.MultiRegionKeyTypeReplica || *m.PrimaryKey.Arn != here || len(m.ReplicaKeys) != 1 || *m.ReplicaKeys[0].Region != "us-east-1" {
			t.Errorf("%+v", m)
		}
		out, err = srv.Client().DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(srv.CreateKey())})
		must(t, err)
		if *out.KeyMetadata.MultiRegion || out.KeyMetadata.MultiRegionConfiguration != nil {
			t.Errorf("%+v", out.KeyMetadata)
		}
	})
	t.Run("what_AWS_refuses_is_refused", func(t *testing.T) {
		srv, here, there, _, _ := scene(t)
		for _, c := range []struct{ key, region, code string }{
			{here, "us-east-1", "AlreadyExistsException"},
			{there, srv.Region(), "UnsupportedOperationException"},
			{srv.CreateKey(), "us-east-1", "UnsupportedOperationException"},
			{here, "eu-west-3", "ValidationException"},
		} {
			_, err := srv.ReplicateKey(c.key, c.region)
			refused(t, err, c.code)
		}
		refused(t, srv.RotateKeyOnDemand(there), "UnsupportedOperationException")
		refused(t, srv.ScheduleKeyDeletion(here), "UnsupportedOperationException")
		must(t, srv.ScheduleKeyDeletion(there))
	})
}

func TestDryRuns(t *testing.T) {
	srv := start(t)
	key := srv.CreateKey()
	blob := encrypt(t, srv.Client(), key, "secret")
	dry, blind := aws.Bool(true), []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	all := func(c *kms.Client) map[string]error {
		_, encrypting := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), DryRun: dry})
		_, decrypting := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &key, CiphertextBlob: blob, EncryptionContext: words, DryRun: dry})
		_, blindly := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &key, DryRun: dry, DryRunModifiers: blind})
		_, moving := c.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: &key, DestinationKeyId: &key, CiphertextBlob: blob, SourceEncryptionContext: words, DryRun: dry})
		_, movingBlindly := c.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: &key, DestinationKeyId: &key, DryRun: dry, DryRunModifiers: blind})
		_, generating := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, DryRun: dry})
		_, generatingBlindly := c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, DryRun: dry})
		return map[string]error{"Encrypt": encrypting, "Decrypt": decrypting, "Decrypt blindly": blindly, "ReEncrypt": moving, "ReEncrypt blindly": movingBlindly,
			"GenerateDataKey": generating, "GenerateDataKeyWithoutPlaintext": generatingBlindly}
	}
	for name, err := range all(srv.Client()) {
		t.Run(name+"_would_succeed", func(t *testing.T) { refused(t, err, "DryRunOperationException") })
	}
	for name, err := range all(srv.NewPrincipal("nobody").Client()) {
		t.Run(name+"_would_be_denied", func(t *testing.T) { refused(t, err, "AccessDeniedException") })
	}
	must(t, srv.DisableKey(key))
	for name, err := range all(srv.Client()) {
		t.Run(name+"_would_find_the_key_disabled", func(t *testing.T) { refused(t, err, "DisabledException") })
	}
	_, err := srv.Client().Decrypt(ctx, &kms.DecryptInput{KeyId: &key, DryRunModifiers: blind})
	refused(t, err, "ValidationException")
}
