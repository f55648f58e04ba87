package awskmstest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

func policy(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func TestConditions(t *testing.T) {
	srv := start(t)
	key := srv.CreateKey()
	for name, tt := range map[string]struct {
		condition string
		allowed   []map[string]string
		denied    []map[string]string
	}{
		"equal": {`"StringEquals":{"kms:EncryptionContext:Model":["A","B"]}`,
			[]map[string]string{{"Model": "A"}, {"Model": "B"}, {"model": "A"}, {"Model": "A", "x": "y"}},
			[]map[string]string{nil, {"Model": "a"}, {"Model": "C"}, {"x": "A"}}},
		"two keys are both meant": {`"StringEquals":{"kms:EncryptionContext:m":"A","kms:EncryptionContext:e":"p"}`,
			[]map[string]string{{"m": "A", "e": "p"}}, []map[string]string{{"m": "A"}, {"m": "A", "e": "q"}}},
		"not equal is true of nothing": {`"StringNotEquals":{"kms:EncryptionContext:m":["A","B"]}`,
			[]map[string]string{nil, {"m": "C"}}, []map[string]string{{"m": "A"}, {"m": "B"}}},
		"like":      {`"StringLike":{"kms:EncryptionContext:m":"A*c?"}`, []map[string]string{{"m": "Acd"}, {"m": "Abbcd"}}, []map[string]string{nil, {"m": "Ac"}, {"m": "acd"}}},
		"if exists": {`"StringEqualsIfExists":{"kms:EncryptionContext:m":"A"}`, []map[string]string{nil, {"m": "A"}}, []map[string]string{{"m": "B"}}},
		"for all values passes without a context": {`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["m","i"]}`,
			[]map[string]string{nil, {"m": "A"}, {"m": "A", "i": "1"}}, []map[string]string{{"M": "A"}, {"m": "A", "x": "1"}}},
		"for all values and null does not": {`"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["m","i"]},"Null":{"kms:EncryptionContextKeys":"false"}`,
			[]map[string]string{{"m": "A"}}, []map[string]string{nil, {"x": "1"}}},
		"for any value": {`"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["m","i"]}`,
			[]map[string]string{{"m": "A", "x": "1"}}, []map[string]string{nil, {"x": "1"}}},
		"null":           {`"Null":{"kms:EncryptionContext:m":true}`, []map[string]string{nil, {"x": "1"}}, []map[string]string{{"m": "A"}}},
		"caller":         {`"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/*"},"StringEquals":{"aws:RequestedRegion":"eu-central-1"}`, []map[string]string{nil}, nil},
		"via no service": {`"Null":{"kms:ViaService":"true"}`, []map[string]string{nil}, nil},
		"via a service":  {`"StringEquals":{"kms:ViaService":"ec2.eu-central-1.amazonaws.com"}`, nil, []map[string]string{nil}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := srv.NewPrincipalWithPolicy("p", policy(`{"Effect":"Allow","Action":"KMS:enc*","Resource":"`+key+`","Condition":{`+tt.condition+`}}`))
			must(t, err)
			for want, contexts := range map[bool][]map[string]string{true: tt.allowed, false: tt.denied} {
				for _, ec := range contexts {
					_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: ec})
					if (err == nil) != want {
						t.Errorf("%v: %v", ec, err)
					}
					if !want {
						refused(t, err, "AccessDeniedException")
					}
				}
			}
		})
	}
	t.Run("names that differ by case are not guessed at", func(t *testing.T) {
		p, err := srv.NewPrincipalWithPolicy("p", policy(`{"Effect":"Allow","Action":"kms:*","Resource":"*"}`))
		must(t, err)
		_, err = p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: map[string]string{"m": "A", "M": "B"}})
		refused(t, err, "AccessDeniedException")
	})
}

func TestPolicyElements(t *testing.T) {
	srv := start(t)
	key, other := srv.CreateKey(), srv.CreateKey()
	can := func(t *testing.T, p *awskmstest.Principal, k string) bool {
		t.Helper()
		_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &k, Plaintext: []byte("x")})
		if err != nil {
			refused(t, err, "AccessDeniedException")
		}
		return err == nil
	}
	for name, tt := range map[string]struct {
		policy      string
		key, others bool
	}{
		"nothing":        {policy(`{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}`), false, false},
		"one resource":   {policy(`{"Effect":"Allow","Action":["kms:Encrypt"],"Resource":["` + key + `"]}`), true, false},
		"not a resource": {policy(`{"Effect":"Allow","Action":"kms:Encrypt","NotResource":"` + key + `"}`), false, true},
		"not an action":  {policy(`{"Effect":"Allow","NotAction":"kms:Decrypt","Resource":"*"}`), true, true},
		"a deny wins":    {policy(`{"Effect":"Allow","Action":"*","Resource":"*"}`, `{"Effect":"Deny","Action":"kms:*","Resource":"`+key+`"}`), false, true},
		"no array":       {`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"arn:aws:kms:*:*:key/*"}}`, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := srv.NewPrincipalWithPolicy("p", tt.policy)
			must(t, err)
			if got := can(t, p, key); got != tt.key {
				t.Errorf("the key: %v", got)
			}
			if got := can(t, p, other); got != tt.others {
				t.Errorf("another key: %v", got)
			}
		})
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	srv := start(t)
	statement := `{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`
	with := func(condition string) string {
		return policy(`{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":` + condition + `}`)
	}
	for name, text := range map[string]string{
		"no JSON":                    `{`,
		"an old version":             `{"Version":"2008-10-17","Statement":[` + statement + `]}`,
		"no statement":               policy(),
		"an unknown element":         `{"Version":"2012-10-17","Statements":[` + statement + `]}`,
		"another case":               policy(`{"effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`),
		"an element twice":           policy(`{"Effect":"Deny","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`),
		"an unknown effect":          policy(`{"Effect":"allow","Action":"kms:Encrypt","Resource":"*"}`),
		"a Sid with a dash":          policy(`{"Sid":"a-b","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`),
		"a Sid twice":                policy(`{"Sid":"a","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`, `{"Sid":"a","Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}`),
		"a principal":                policy(`{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*"}`),
		"no resource":                policy(`{"Effect":"Allow","Action":"kms:Encrypt"}`),
		"Action and NotAction":       policy(`{"Effect":"Allow","Action":"kms:Encrypt","NotAction":"kms:Decrypt","Resource":"*"}`),
		"an action of no service":    policy(`{"Effect":"Allow","Action":"Encrypt","Resource":"*"}`),
		"an unknown operator":        with(`{"NumericEquals":{"kms:EncryptionContext:a":"1"}}`),
		"an unknown set operator":    with(`{"ForSomeValues:StringEquals":{"kms:EncryptionContextKeys":"a"}}`),
		"an unknown key":             with(`{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT"}}`),
		"a set operator on one":      with(`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"1"}}`),
		"no set operator on many":    with(`{"StringEquals":{"kms:EncryptionContextKeys":"a"}}`),
		"a key of key policies":      with(`{"StringEquals":{"kms:CallerAccount":"111122223333"}}`),
		"a variable":                 with(`{"StringEquals":{"kms:EncryptionContext:a":"${aws:username}"}}`),
		"null of neither":            with(`{"Null":{"kms:EncryptionContextKeys":"yes"}}`),
		"more than IAM takes":        policy(statement, `{"Effect":"Allow","Action":"kms:Encrypt","Resource":"`+strings.Repeat("x", 6144)+`"}`),
		"something after the object": policy(statement) + "{}",
	} {
		if _, err := srv.NewPrincipalWithPolicy("p", text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestKeyPolicies(t *testing.T) {
	srv := start(t)
	plain, byName := srv.NewPrincipal("plain"), srv.NewPrincipal("named")
	strong := srv.NewPrincipal("strong", "kms:*")
	foreign := srv.NewPrincipalIn("444455556666", "foreign")
	allow := func(who, action string) string {
		return fmt.Sprintf(`{"Effect":"Allow","Principal":{"AWS":%q},"Action":%q,"Resource":"*"}`, who, action)
	}
	const root = "arn:aws:iam::111122223333:root"
	manage := allow(root, "kms:*Key*")
	can := func(p *awskmstest.Principal, key string) bool {
		_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		return err == nil
	}
	withPolicy := func(t *testing.T, statements ...string) string {
		t.Helper()
		out, err := srv.Client().CreateKey(ctx, &kms.CreateKeyInput{Policy: aws.String(policy(statements...))})
		must(t, err)
		return *out.KeyMetadata.Arn
	}
	for name, tt := range map[string]struct {
		statements []string
		can        []*awskmstest.Principal
	}{
		"what is not given nobody has":          {nil, nil},
		"the account hands on":                  {[]string{allow(root, "kms:Encrypt")}, []*awskmstest.Principal{strong}},
		"the account's number does too":         {[]string{allow("111122223333", "kms:Encrypt")}, []*awskmstest.Principal{strong}},
		"a name needs no identity policy":       {[]string{allow(byName.ARN(), "kms:Encrypt")}, []*awskmstest.Principal{byName}},
		"everyone is everyone of the account":   {[]string{allow("*", "kms:Encrypt")}, []*awskmstest.Principal{plain, byName, strong}},
		"another account needs its own as well": {[]string{allow(foreign.ARN(), "kms:Encrypt")}, nil},
		"a deny wins over the administrator":    {[]string{allow(root, "kms:Encrypt"), `{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			key := withPolicy(t, append(tt.statements, manage)...)
			for _, p := range []*awskmstest.Principal{plain, byName, strong, foreign} {
				want := false
				for _, q := range tt.can {
					want = want || p == q
				}
				if got := can(p, key); got != want {
					t.Errorf("%s: %v", p.ARN(), got)
				}
			}
		})
	}
	t.Run("another account with its own policy", func(t *testing.T) {
		key := withPolicy(t, allow(foreign.ARN(), "kms:Encrypt"), manage)
		must(t, foreign.AttachPolicy(policy(`{"Effect":"Allow","Action":"kms:Encrypt","Resource":"`+key+`"}`)))
		if !can(foreign, key) {
			t.Error("refused")
		}
	})
	t.Run("an identity policy's denial wins over a name in the key's", func(t *testing.T) {
		key := withPolicy(t, allow(byName.ARN(), "kms:Encrypt"), manage)
		if !can(byName, key) {
			t.Error("refused before")
		}
		must(t, byName.AttachPolicy(policy(`{"Effect":"Deny","Action":"kms:Encrypt","Resource":"`+key+`"}`)))
		if can(byName, key) {
			t.Error("allowed")
		}
	})
	t.Run("a policy that locks its maker out is refused", func(t *testing.T) {
		_, err := srv.Client().CreateKey(ctx, &kms.CreateKeyInput{Policy: aws.String(policy(allow(byName.ARN(), "kms:*")))})
		refused(t, err, "MalformedPolicyDocumentException")
		key := withPolicy(t, manage)
		_, err = srv.Client().PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(policy(allow(byName.ARN(), "kms:*")))})
		refused(t, err, "MalformedPolicyDocumentException")
		_, err = srv.Client().PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(policy(allow(byName.ARN(), "kms:*"))), BypassPolicyLockoutSafetyCheck: true})
		must(t, err)
		_, err = srv.Client().GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		refused(t, err, "AccessDeniedException")
	})
	t.Run("a principal that does not exist is refused", func(t *testing.T) {
		_, err := srv.Client().CreateKey(ctx, &kms.CreateKeyInput{Policy: aws.String(policy(allow("arn:aws:iam::111122223333:user/nobody", "kms:*"), manage))})
		refused(t, err, "MalformedPolicyDocumentException")
	})
	t.Run("what is put comes back", func(t *testing.T) {
		key := srv.CreateKey()
		out, err := srv.Client().GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		must(t, err)
		if !strings.Contains(*out.Policy, root) {
			t.Errorf("the default policy is %s", *out.Policy)
		}
		want := policy(manage, allow(byName.ARN(), "kms:Encrypt"))
		_, err = srv.Client().PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: &want})
		must(t, err)
		out, err = srv.Client().GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		must(t, err)
		if *out.Policy != want {
			t.Errorf("%s", *out.Policy)
		}
	})
}

func TestGrantsUnderPolicies(t *testing.T) {
	srv := start(t)
	key, p := srv.CreateKey(), srv.NewPrincipal("grantee")
	_, err := srv.Client().CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String(p.ARN()), Operations: []types.GrantOperation{types.GrantOperationEncrypt}})
	must(t, err)
	use := func(ec map[string]string) error {
		_, err := p.Client().Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: ec})
		return err
	}
	must(t, use(nil))
	_, err = srv.Client().PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(policy(
		`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*Key*","Resource":"*"}`,
		`{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*","Condition":{"Null":{"kms:EncryptionContextKeys":"true"}}}`))})
	must(t, err)
	must(t, use(words)) // what no policy allows, the grant does
	refused(t, use(nil), "AccessDeniedException")
}

func TestReEncryptOnSameKey(t *testing.T) {
	srv := start(t)
	key, other := srv.CreateKey(), srv.CreateKey()
	blob := encrypt(t, srv.Client(), key, "x")
	p, err := srv.NewPrincipalWithPolicy("rotator", policy(
		`{"Effect":"Allow","Action":"kms:ReEncrypt*","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":true}}}`))
	must(t, err)
	move := func(to string) error {
		_, err := p.Client().ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: words, DestinationKeyId: &to})
		return err
	}
	must(t, move(key))
	refused(t, move(other), "AccessDeniedException")
}

func TestManagement(t *testing.T) {
	srv := start(t)
	c, key := srv.Client(), srv.CreateKey()
	t.Run("tags", func(t *testing.T) {
		out, err := c.CreateKey(ctx, &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("1")}}})
		must(t, err)
		id := out.KeyMetadata.KeyId
		_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: aws.String("b"), TagValue: aws.String("2")}}})
		must(t, err)
		_, err = c.UntagResource(ctx, &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"a"}})
		must(t, err)
		got, err := c.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: id})
		must(t, err)
		if len(got.Tags) != 1 || *got.Tags[0].TagKey != "b" || *got.Tags[0].TagValue != "2" || got.Truncated {
			t.Errorf("%v", got.Tags)
		}
		_, err = c.TagResource(ctx, &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: aws.String("aws:a"), TagValue: aws.String("2")}}})
		refused(t, err, "TagException")
	})
	t.Run("rotation", func(t *testing.T) {
		status := func() (bool, int32) {
			out, err := c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &key})
			must(t, err)
			return out.KeyRotationEnabled, aws.ToInt32(out.RotationPeriodInDays)
		}
		if on, _ := status(); on {
			t.Error("on from the start")
		}
		_, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &key})
		must(t, err)
		if on, days := status(); !on || days != 365 {
			t.Error(on, days)
		}
		_, err = c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(89)})
		refused(t, err, "ValidationException")
		_, err = c.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &key})
		must(t, err)
		if on, _ := status(); on {
			t.Error("still on")
		}
	})
	t.Run("lists have pages", func(t *testing.T) {
		for _, name := range []string{"alias/a", "alias/b", "alias/c"} {
			must(t, srv.CreateAlias(name, key))
		}
		var names []string
		pages := kms.NewListAliasesPaginator(c, &kms.ListAliasesInput{Limit: aws.Int32(2)})
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			must(t, err)
			for _, a := range out.Aliases {
				names = append(names, *a.AliasName)
			}
		}
		if strings.Join(names, " ") != "alias/a alias/b alias/c" || srv.Calls("ListAliases") != 2 {
			t.Errorf("%q in %d calls", names, srv.Calls("ListAliases"))
		}
		out, err := c.ListKeys(ctx, &kms.ListKeysInput{})
		must(t, err)
		if len(out.Keys) != 2 {
			t.Errorf("%d keys", len(out.Keys))
		}
	})
}
