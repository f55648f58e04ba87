package main

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

var roles = []string{writer, reader, rotator, application, administrator}

// TestPolicies holds what is printed to files that people have read.
func TestPolicies(t *testing.T) {
	for _, role := range roles {
		aws := []string{"policy", "aws", "--role", role, "--key", someKey, "--model", "Patient", "--model", "Visit", "--context", "environment=production"}
		golden(t, filepath.Join("aws", role+".json"), prints(t, aws...))
		golden(t, filepath.Join("aws", role+".tf"), prints(t, append(aws, "--format", "terraform")...))
		golden(t, filepath.Join("vault", role+".hcl"), prints(t, "policy", "vault", "--role", role, "--key", "app"))
		gcp := []string{"policy", "gcp", "--role", role, "--key", someCryptoKey, "--member", "serviceAccount:clinic@clinic-1.iam.gserviceaccount.com"}
		golden(t, filepath.Join("gcp", role+".sh"), prints(t, gcp...))
		golden(t, filepath.Join("gcp", role+".json"), prints(t, append(gcp, "--format", "json")...))
		azure := []string{"policy", "azure", "--role", role, "--vault", someVault, "--key", "rows"}
		golden(t, filepath.Join("azure", role+".json"), prints(t, azure...))
		golden(t, filepath.Join("azure", role+".sh"), prints(t, append(azure, "--format", "az", "--principal", "99999999-2222-3333-4444-555555555555")...))
	}
	golden(t, "aws/writer-index.json", prints(t, "policy", "aws", "--role", "writer", "--key", someKey, "--model", "Patient", "--context", "environment=production", "--index"))
	golden(t, "aws/rotator-two-keys.json", prints(t, "policy", "aws", "--role", "rotator", "--key", someKey, "--from", someOldKey,
		"--context", "environment=production", "--from-context", "none", "--check"))
	golden(t, "aws/administrator-alias.json", prints(t, "policy", "aws", "--role", "administrator", "--key", someKey, "--alias", "alias/clinic/production"))
	golden(t, "aws/writer-everything.json", prints(t, "policy", "aws", "--role", "writer", "--key", someKey, "--context-key", "tenant_id", "--direct", "--check"))
	golden(t, "vault/reader-check.hcl", prints(t, "policy", "vault", "--role", "reader", "--key", "app", "--mount", "team/transit", "--check"))

	const iam = "arn:aws:iam::111122223333:role/"
	all := []string{"policy", "aws", "--kind", "key", "--key", someKey, "--writer", iam + "intake", "--reader", iam + "reports", "--rotator", iam + "rotator",
		"--application", iam + "clinic", "--application", iam + "portal", "--administrator", iam + "keys", "--break-glass", iam + "break-glass",
		"--model", "Patient", "--context", "environment=production", "--direct", "--check"}
	golden(t, "aws/key.json", prints(t, all...))
	golden(t, "aws/key.tf", prints(t, append(all, "--format", "terraform")...))
	golden(t, "aws/key-of-the-account.json", prints(t, "policy", "aws", "--kind", "key", "--account", "111122223333"))
}

// TestTerraform: the configuration is HCL, and its policy says what the JSON says.
func TestTerraform(t *testing.T) {
	for _, args := range [][]string{
		{"policy", "aws", "--role", "rotator", "--key", someKey, "--from", someOldKey, "--model", `a "quoted" %{if} ü`, "--context", "environment=pro%{duction"},
		{"policy", "aws", "--role", "administrator", "--key", someKey, "--alias", "alias/clinic"},
		{"policy", "aws", "--kind", "key", "--key", someKey, "--writer", "arn:aws:iam::111122223333:role/a+b=c,d.e@f-g", "--context", "a.b/c=1"},
	} {
		want := prints(t, args...)
		got := policyOf(t, prints(t, append(args, "--format", "terraform")...))
		if !sameJSON(t, got, want) {
			t.Errorf("rowseal %s:\n%s\nin HCL is\n%s", strings.Join(args, " "), want, got)
		}
	}
}

// policyOf evaluates the first attribute policy in a configuration, as Terraform does.
func policyOf(t *testing.T, config string) string {
	t.Helper()
	f, diags := hclsyntax.ParseConfig([]byte(config), "main.tf", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%v in:\n%s", diags, config)
	}
	for _, block := range f.Body.(*hclsyntax.Body).Blocks {
		if policy := block.Body.Attributes["policy"]; policy != nil {
			v, diags := policy.Expr.Value(&hcl.EvalContext{Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc}})
			if diags.HasErrors() || v.Type() != cty.String {
				t.Fatal(diags)
			}
			return v.AsString()
		}
	}
	t.Fatal("no policy")
	return ""
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	must(t, json.Unmarshal([]byte(a), &x))
	must(t, json.Unmarshal([]byte(b), &y))
	return reflect.DeepEqual(x, y)
}
