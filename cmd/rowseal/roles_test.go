package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// contexts are those of a row of the model Patient in production, and of all else that a caller may try.
var contexts = map[string]map[string]string{
	"right":       {"model_name": "Patient", "model_id": "7", "environment": "production"},
	"another_row": {"model_name": "Patient", "model_id": "8", "environment": "production"},
	"model":       {"model_name": "Salary", "model_id": "7", "environment": "production"},
	"environment": {"model_name": "Patient", "model_id": "7", "environment": "staging"},
	"no_constant": {"model_name": "Patient", "model_id": "7"},
	"no_model":    {"model_id": "7", "environment": "production"},
	"other_case":  {"Model_Name": "Patient", "model_id": "7", "environment": "production"},
	"more":        {"model_name": "Patient", "model_id": "7", "environment": "production", "x": "1"},
	"none":        nil,
}

// scene is one key with a ciphertext under every context, and another key, before the policy of the first is put.
type scene struct {
	srv        *awskmstest.Server
	key, other string
	blobs      map[string][]byte
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{srv: awskmstest.New(t, awskmstest.Config{}), blobs: map[string][]byte{}}
	s.key, s.other = s.srv.CreateKey(), s.srv.CreateKey()
	for name, ec := range contexts {
		out, err := s.srv.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("data key"), EncryptionContext: ec})
		must(t, err)
		s.blobs[name] = out.CiphertextBlob
	}
	must(t, s.srv.CreateAlias("alias/clinic/old", s.key))
	return s
}

// attempts is everything that a principal may try, by name. What an attempt changes it changes back behind the policies, or it is tried last.
func (s *scene) attempts() (names []string, attempts map[string]func(ctx context.Context, c *kms.Client) error) {
	attempts = map[string]func(ctx context.Context, c *kms.Client) error{}
	add := func(name string, f func(ctx context.Context, c *kms.Client) error) {
		names = append(names, name)
		attempts[name] = f
	}
	reEncrypt := func(from, to, key string) func(ctx context.Context, c *kms.Client) error {
		return func(ctx context.Context, c *kms.Client) error {
			_, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: &s.key, CiphertextBlob: s.blobs[from], SourceEncryptionContext: contexts[from],
				DestinationKeyId: &key, DestinationEncryptionContext: contexts[to]})
			return err
		}
	}
	for name, ec := range contexts {
		add("Encrypt/"+name, func(ctx context.Context, c *kms.Client) error {
			_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("x"), EncryptionContext: ec})
			return err
		})
		add("Decrypt/"+name, func(ctx context.Context, c *kms.Client) error {
			_, err := c.Decrypt(ctx, &kms.DecryptInput{KeyId: &s.key, CiphertextBlob: s.blobs[name], EncryptionContext: ec})
			return err
		})
		add("GenerateDataKey/"+name, func(ctx context.Context, c *kms.Client) error {
			_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &s.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
			return err
		})
		add("GenerateDataKeyWithoutPlaintext/"+name, func(ctx context.Context, c *kms.Client) error {
			_, err := c.GenerateDataKeyWithoutPlaintext(ctx, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &s.key, KeySpec: types.DataKeySpecAes256, EncryptionContext: ec})
			return err
		})
		add("ReEncrypt/"+name+"_to_right", reEncrypt(name, "right", s.key))
		if name != "right" {
			add("ReEncrypt/right_to_"+name, reEncrypt("right", name, s.key))
		}
	}
	add("ReEncrypt/to_another_key", reEncrypt("right", "right", s.other))
	add("Encrypt/another_key", func(ctx context.Context, c *kms.Client) error {
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &s.other, Plaintext: []byte("x"), EncryptionContext: contexts["right"]})
		return err
	})
	add("Encrypt/by_alias", func(ctx context.Context, c *kms.Client) error {
		_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/clinic/old"), Plaintext: []byte("x"), EncryptionContext: contexts["right"]})
		return err
	})
	add("DescribeKey", func(ctx context.Context, c *kms.Client) error {
		_, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &s.key})
		return err
	})
	add("GetKeyPolicy", func(ctx context.Context, c *kms.Client) error {
		_, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &s.key})
		return err
	})
	add("GetKeyRotationStatus", func(ctx context.Context, c *kms.Client) error {
		_, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &s.key})
		return err
	})
	add("EnableKeyRotation", func(ctx context.Context, c *kms.Client) error {
		_, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &s.key})
		return err
	})
	add("DisableKeyRotation", func(ctx context.Context, c *kms.Client) error {
		_, err := c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &s.key})
		return err
	})
	add("RotateKeyOnDemand", func(ctx context.Context, c *kms.Client) error {
		_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &s.key})
		return err
	})
	add("TagResource", func(ctx context.Context, c *kms.Client) error {
		_, err := c.TagResource(ctx, &kms.TagResourceInput{KeyId: &s.key, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
		return err
	})
	add("UntagResource", func(ctx context.Context, c *kms.Client) error {
		_, err := c.UntagResource(ctx, &kms.UntagResourceInput{KeyId: &s.key, TagKeys: []string{"a"}})
		return err
	})
	add("ListResourceTags", func(ctx context.Context, c *kms.Client) error {
		_, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: &s.key})
		return err
	})
	add("CreateAlias", func(ctx context.Context, c *kms.Client) error {
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/clinic/production"), TargetKeyId: &s.key})
		return err
	})
	add("CreateAlias/another_name", func(ctx context.Context, c *kms.Client) error {
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/payroll"), TargetKeyId: &s.key})
		return err
	})
	add("UpdateAlias/of_another_key", func(ctx context.Context, c *kms.Client) error {
		_, err := c.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/other"), TargetKeyId: &s.key})
		return err
	})
	add("ListAliases", func(ctx context.Context, c *kms.Client) error {
		_, err := c.ListAliases(ctx, &kms.ListAliasesInput{})
		return err
	})
	add("ListKeys", func(ctx context.Context, c *kms.Client) error {
		_, err := c.ListKeys(ctx, &kms.ListKeysInput{})
		return err
	})
	add("CreateKey", func(ctx context.Context, c *kms.Client) error {
		_, err := c.CreateKey(ctx, &kms.CreateKeyInput{})
		return err
	})
	add("DisableKey", func(ctx context.Context, c *kms.Client) error {
		_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &s.key})
		return errors.Join(err, s.srv.EnableKey(s.key))
	})
	add("EnableKey", func(ctx context.Context, c *kms.Client) error {
		_, err := c.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &s.key})
		return err
	})
	add("ScheduleKeyDeletion", func(ctx context.Context, c *kms.Client) error {
		_, err := c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &s.key})
		if err == nil {
			err = errors.Join(s.srv.CancelKeyDeletion(s.key), s.srv.EnableKey(s.key))
		}
		return err
	})
	add("CancelKeyDeletion", func(ctx context.Context, c *kms.Client) error {
		if err := s.srv.ScheduleKeyDeletion(s.key); err != nil {
			return err
		}
		_, err := c.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &s.key})
		_ = s.srv.CancelKeyDeletion(s.key) // where c could not
		return errors.Join(err, s.srv.EnableKey(s.key))
	})
	add("PutKeyPolicy", func(ctx context.Context, c *kms.Client) error {
		_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: aws.String(
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:*","Resource":"*"}}`)})
		return err
	})
	return names, attempts
}

// allows tries everything and gives what was allowed, sorted. Whatever is not allowed must have been denied.
func (s *scene) allows(t *testing.T, p *awskmstest.Principal) []string {
	t.Helper()
	var allowed []string
	names, attempts := s.attempts()
	for _, name := range names {
		err := attempts[name](t.Context(), p.Client())
		api, _ := errors.AsType[smithy.APIError](err)
		switch {
		case err == nil:
			allowed = append(allowed, name)
		case api == nil || api.ErrorCode() != "AccessDeniedException":
			t.Errorf("%s: %v, which is neither allowed nor denied", name, err)
		}
	}
	slices.Sort(allowed)
	if len(names) != 76 {
		t.Errorf("%d attempts", len(names))
	}
	return allowed
}

func same(t *testing.T, got []string, want string) {
	t.Helper()
	fields := strings.Fields(want)
	slices.Sort(fields)
	if !slices.Equal(got, fields) {
		for _, name := range fields {
			if !slices.Contains(got, name) {
				t.Errorf("%s: denied", name)
			}
		}
		for _, name := range got {
			if !slices.Contains(fields, name) {
				t.Errorf("%s: allowed", name)
			}
		}
	}
}

// manage is what whoever manages a key may do by its own policy: what names an alias, and lists, takes an identity policy as well.
const manage = "DescribeKey GetKeyPolicy GetKeyRotationStatus EnableKeyRotation DisableKeyRotation RotateKeyOnDemand TagResource UntagResource " +
	"ListResourceTags EnableKey CancelKeyDeletion PutKeyPolicy "

// rolesTable is what each role may do, of all that is tried. docs/operations.md has it in words.
var rolesTable = map[string]string{
	writer: "Encrypt/right Encrypt/another_row Encrypt/by_alias DescribeKey",
	reader: "Decrypt/right Decrypt/another_row DescribeKey",
	// Both halves are asked on their own: one row's context to another's is allowed, and the data key's commitment is what refuses it.
	rotator:       "ReEncrypt/right_to_right ReEncrypt/another_row_to_right ReEncrypt/right_to_another_row DescribeKey",
	application:   "Encrypt/right Encrypt/another_row Encrypt/by_alias Decrypt/right Decrypt/another_row DescribeKey",
	administrator: manage + "DisableKey ScheduleKeyDeletion CreateAlias ListAliases ListKeys",
}

var production = []string{"--model", "Patient", "--context", "environment=production"}

// TestRoles: the identity policy of each role, as printed, on a principal who has nothing else.
func TestRoles(t *testing.T) {
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			s := newScene(t)
			must(t, s.srv.CreateAlias("alias/other", s.other))
			args := slices.Concat([]string{"policy", "aws", "--role", role, "--key", s.key, "--check"}, production)
			if role == administrator {
				args = append(args, "--alias", "alias/clinic/production")
			}
			p, err := s.srv.NewPrincipalWithPolicy(role, prints(t, args...))
			must(t, err)
			same(t, s.allows(t, p), rolesTable[role])
		})
	}
}

// TestRolesWithout: what a policy without any condition flag leaves open, and what it does not.
func TestRolesWithout(t *testing.T) {
	s := newScene(t)
	must(t, s.srv.CreateAlias("alias/other", s.other))
	p, err := s.srv.NewPrincipalWithPolicy("p", prints(t, "policy", "aws", "--role", "writer", "--key", s.key))
	must(t, err)
	same(t, s.allows(t, p), "Encrypt/no_constant")
	p, err = s.srv.NewPrincipalWithPolicy("q", prints(t, "policy", "aws", "--role", "writer", "--key", s.key, "--context-key", "environment"))
	must(t, err)
	same(t, s.allows(t, p), "Encrypt/right Encrypt/another_row Encrypt/model Encrypt/environment Encrypt/no_constant Encrypt/no_model Encrypt/by_alias")
}

// TestRotatorBetweenKeys: from the old key and context to the new ones, and nowhere else, whatever else the principal is given.
func TestRotatorBetweenKeys(t *testing.T) {
	s := newScene(t)
	stranger := s.srv.CreateKey()
	p, err := s.srv.NewPrincipalWithPolicy("rotator", prints(t, slices.Concat([]string{"policy", "aws", "--role", "rotator", "--key", s.other, "--from", s.key,
		"--from-context", "none"}, production)...))
	must(t, err)
	must(t, p.AttachPolicy(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"`+stranger+`"}}`))
	move := func(from, to, key string) error {
		_, err := p.Client().ReEncrypt(t.Context(), &kms.ReEncryptInput{SourceKeyId: &s.key, CiphertextBlob: s.blobs[from], SourceEncryptionContext: contexts[from],
			DestinationKeyId: &key, DestinationEncryptionContext: contexts[to]})
		return err
	}
	must(t, move("no_constant", "right", s.other))
	for _, m := range [][3]string{{"no_constant", "right", s.key}, {"no_constant", "right", stranger}, {"right", "right", s.other}, {"no_constant", "environment", s.other}, {"none", "right", s.other}} {
		if move(m[0], m[1], m[2]) == nil {
			t.Errorf("%v", m)
		}
	}
}

// TestSameKey: what a rotator whom a key policy names could do with a key of their own, and what --same-key takes from them.
func TestSameKey(t *testing.T) {
	for _, flag := range []string{"--check", "--same-key"} {
		s := newScene(t)
		p, err := s.srv.NewPrincipalWithPolicy("rotator", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"`+s.other+`"}}`)
		must(t, err)
		_, err = s.srv.Client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key,
			Policy: aws.String(prints(t, slices.Concat([]string{"policy", "aws", "--kind", "key", "--key", s.key, "--rotator", p.ARN(), flag}, production)...))})
		must(t, err)
		_, attempts := s.attempts()
		must(t, attempts["ReEncrypt/right_to_another_row"](t.Context(), p.Client()))
		if err := attempts["ReEncrypt/to_another_key"](t.Context(), p.Client()); (err == nil) != (flag == "--check") {
			t.Errorf("with %s: %v", flag, err)
		}
	}
}

// TestKeyPolicy: a key's own policy, on principals who have no identity policy, and on one whose identity policy allows everything.
func TestKeyPolicy(t *testing.T) {
	put := func(t *testing.T, s *scene, flags ...string) {
		t.Helper()
		must(t, s.srv.CreateAlias("alias/other", s.other))
		_, err := s.srv.Client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key,
			Policy: aws.String(prints(t, slices.Concat([]string{"policy", "aws", "--kind", "key", "--key", s.key}, production, flags)...))})
		must(t, err)
	}
	roleFlags := func(s *scene) (flags []string, who map[string]*awskmstest.Principal) {
		who = map[string]*awskmstest.Principal{}
		for _, role := range append(slices.Clone(roles), "break-glass") {
			who[role] = s.srv.NewPrincipal(role)
			flags = append(flags, "--"+role, who[role].ARN())
		}
		return append(flags, "--check"), who
	}
	want := map[string]string{administrator: manage, "break-glass": "DescribeKey EnableKey CancelKeyDeletion DisableKey ScheduleKeyDeletion"}
	for _, role := range append(slices.Clone(roles), "break-glass") {
		t.Run(role, func(t *testing.T) {
			s := newScene(t)
			flags, who := roleFlags(s)
			put(t, s, append(flags, "--same-key")...)
			if want[role] == "" {
				want[role] = rolesTable[role]
			}
			same(t, s.allows(t, who[role]), want[role])
		})
	}
	everything := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
	beside := "Encrypt/another_key CreateAlias/another_name UpdateAlias/of_another_key CreateAlias ListAliases ListKeys CreateKey "
	t.Run("the account's administrator", func(t *testing.T) {
		s := newScene(t)
		flags, _ := roleFlags(s)
		put(t, s, flags...)
		p, err := s.srv.NewPrincipalWithPolicy("root-of-all", everything)
		must(t, err)
		same(t, s.allows(t, p), beside+manage)
	})
	t.Run("the account's administrator, where IAM decides", func(t *testing.T) {
		s := newScene(t)
		put(t, s)
		p, err := s.srv.NewPrincipalWithPolicy("root-of-all", everything)
		must(t, err)
		var uses strings.Builder
		for _, ec := range []string{"right", "another_row"} {
			for _, op := range []string{"Encrypt", "Decrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext"} {
				fmt.Fprintf(&uses, "%s/%s ", op, ec)
			}
		}
		uses.WriteString("Encrypt/by_alias ReEncrypt/right_to_right ReEncrypt/right_to_another_row ReEncrypt/another_row_to_right ReEncrypt/to_another_key ")
		same(t, s.allows(t, p), beside+manage+uses.String())
	})
	t.Run("the account's administrator, where no constant is asked for", func(t *testing.T) {
		s := newScene(t)
		_, err := s.srv.Client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, Policy: aws.String(prints(t, "policy", "aws", "--kind", "key", "--key", s.key))})
		must(t, err)
		p, err := s.srv.NewPrincipalWithPolicy("root-of-all", everything)
		must(t, err)
		_, attempts := s.attempts()
		for name, attempt := range attempts {
			if ec, ok := strings.CutPrefix(name, "Decrypt/"); ok && (attempt(t.Context(), p.Client()) == nil) != (ec == "no_constant") {
				t.Errorf("%s", name)
			}
		}
	})
	t.Run("nobody, where the account may do nothing", func(t *testing.T) {
		s := newScene(t)
		keys := s.srv.NewPrincipal("keys")
		_, err := s.srv.Client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key, BypassPolicyLockoutSafetyCheck: true,
			Policy: aws.String(prints(t, "policy", "aws", "--kind", "key", "--key", s.key, "--administrator", keys.ARN(), "--account-may", "nothing"))})
		must(t, err)
		p, err := s.srv.NewPrincipalWithPolicy("root-of-all", everything)
		must(t, err)
		must(t, s.srv.CreateAlias("alias/other", s.other))
		same(t, s.allows(t, p), "Encrypt/another_key ListAliases ListKeys CreateKey")
	})
}

// TestAdministratorCannotHelpThemselves: the denial in an identity policy holds even after they have put another key policy.
func TestAdministratorCannotHelpThemselves(t *testing.T) {
	s := newScene(t)
	p, err := s.srv.NewPrincipalWithPolicy("keys", prints(t, "policy", "aws", "--role", "administrator", "--key", s.key))
	must(t, err)
	_, attempts := s.attempts()
	must(t, attempts["PutKeyPolicy"](t.Context(), p.Client())) // everybody may do everything
	if err := attempts["Decrypt/right"](t.Context(), p.Client()); err == nil {
		t.Error("the administrator decrypts")
	}
	other := s.srv.NewPrincipal("an accomplice")
	if err := attempts["Decrypt/right"](t.Context(), other.Client()); err != nil {
		t.Errorf("this is what the policy does not give, and docs/operations.md says so: %v", err)
	}
}

// FuzzPolicy: whatever stands in models and contexts, the policy is one that AWS would take, and allows that context and no other.
func FuzzPolicy(f *testing.F) {
	f.Add("Patient", "environment", "production", "tenant_id")
	f.Add(`"},"x":{"`, `a"b`, "*", "model_name")
	f.Add("<&>", "ü", "\x00", "a b")
	srv, err := awskmstest.NewServer(awskmstest.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(srv.Close)
	key := srv.CreateKey()
	f.Fuzz(func(t *testing.T, model, name, value, more string) {
		var out strings.Builder
		a := &app{ctx: t.Context(), stdout: &out}
		p := &policyAWS{Kind: "identity", Role: writer, Key: []string{key}, Format: "json",
			Context: contextFlags{Model: []string{model}, Context: map[string]string{name: value}, ContextKey: []string{more}}}
		if err := p.Run(a); err != nil {
			if _, ok := errors.AsType[*usageError](err); !ok {
				t.Fatal(err)
			}
			return
		}
		who, err := srv.NewPrincipalWithPolicy("writer", out.String())
		if err != nil && strings.Contains(err.Error(), "more than the 6144") {
			return
		}
		must(t, err)
		encrypt := func(ec map[string]string) error {
			_, err := who.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: ec})
			return err
		}
		if strings.EqualFold(name, "model_id") || strings.EqualFold(name, "model_name") {
			return
		}
		if err := encrypt(map[string]string{"model_name": model, "model_id": "1", name: value}); err != nil {
			t.Errorf("its own context: %v in\n%s", err, out.String())
		}
		for _, ec := range []map[string]string{nil, {"model_name": model}, {"model_name": model + "x", name: value}, {"model_name": model, name: value + "x"}, {"model_name": model, name: value, more + name + "y": "1"}} {
			if encrypt(ec) == nil {
				t.Errorf("%q is allowed by\n%s", ec, out.String())
			}
		}
	})
}

// TestPolicyForIndexes: with --index a writer makes and unwraps index keys and opens no row, by its own policy and by that of the key.
func TestPolicyForIndexes(t *testing.T) {
	index := map[string]string{"purpose": "rowseal/index", "model_name": "Patient", "index_version": "1", "environment": "production"}
	with := func(name, value string) map[string]string {
		ec := maps.Clone(index)
		if ec[name] = value; value == "" {
			delete(ec, name)
		}
		return ec
	}
	contexts := map[string]map[string]string{
		"right": index, "another version": with("index_version", "2"), "another model": with("model_name", "Doctor"), "another purpose": with("purpose", "rowseal/rows"),
		"no purpose": with("purpose", ""), "another name": with("model_id", "1"), "another environment": with("environment", "staging"),
	}
	for name, byKey := range map[string]bool{"identity policy": false, "key policy": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			blobs := map[string][]byte{}
			for name, ec := range contexts {
				out, err := s.srv.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("x"), EncryptionContext: ec})
				must(t, err)
				blobs[name] = out.CiphertextBlob
			}
			var p *awskmstest.Principal
			if byKey {
				p = s.srv.NewPrincipal("writer")
				_, err := s.srv.Client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &s.key,
					Policy: aws.String(prints(t, slices.Concat([]string{"policy", "aws", "--kind", "key", "--key", s.key, "--writer", p.ARN(), "--index"}, production)...))})
				must(t, err)
			} else {
				var err error
				p, err = s.srv.NewPrincipalWithPolicy(writer, prints(t, slices.Concat([]string{"policy", "aws", "--role", writer, "--key", s.key, "--index"}, production)...))
				must(t, err)
			}
			for name, ec := range contexts {
				_, encrypts := p.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("x"), EncryptionContext: ec})
				_, decrypts := p.Client().Decrypt(t.Context(), &kms.DecryptInput{KeyId: &s.key, CiphertextBlob: blobs[name], EncryptionContext: ec})
				if may := name == "right" || name == "another version"; (encrypts == nil) != may || (decrypts == nil) != may {
					t.Errorf("%s: encrypt %v, decrypt %v", name, encrypts, decrypts)
				}
			}
			row := map[string]string{"model_name": "Patient", "model_id": "1", "environment": "production"}
			out, err := p.Client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: &s.key, Plaintext: []byte("x"), EncryptionContext: row})
			must(t, err)
			if _, err := p.Client().Decrypt(t.Context(), &kms.DecryptInput{KeyId: &s.key, CiphertextBlob: out.CiphertextBlob, EncryptionContext: row}); err == nil {
				t.Error("a writer opens a row")
			}
		})
	}
}
