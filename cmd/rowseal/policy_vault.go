// policy_vault.go owns the policies for the transit engine of Vault and OpenBao.

package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

type policyVault struct {
	Role  string `required:"" enum:"writer,reader,rotator,application,administrator" placeholder:"ROLE" help:"writer, reader, rotator, application or administrator."`
	Key   string `required:"" placeholder:"NAME" help:"The name of the transit key."`
	Mount string `default:"transit" placeholder:"PATH" help:"Where the transit engine is mounted. Defaults to ${default}."`
	Check bool   `help:"Allow the key to be looked at as well, for vaulttransit's Check at start-up."`
}

var vaultName = regexp.MustCompile(`^[a-zA-Z0-9_](?:[a-zA-Z0-9_.-]{0,198}[a-zA-Z0-9_])?$`)

// vaultPath is one path of a policy; parameters are the only ones that it takes.
type vaultPath struct {
	comment    string
	path       string
	capability string
	parameters []string
}

// batch is what a request for many rows has instead. What stands inside batch_input Vault does not hold to allowed_parameters.
var batch = []string{"batch_input", "partial_failure_response_code"}

func (p *policyVault) Run(a *app) error {
	if !vaultName.MatchString(p.Key) {
		return usage("--key %q: expected the name of a transit key, letters, digits, '_', and '-' and '.' between them", p.Key)
	}
	for segment := range strings.SplitSeq(p.Mount, "/") {
		if !vaultName.MatchString(segment) {
			return usage("--mount %q: expected a path such as transit or team/transit, without slashes around it", p.Mount)
		}
	}
	at := func(endpoint string) string { return p.Mount + "/" + endpoint + "/" + p.Key }
	// "create" is never given: with it, encrypt makes a key that does not exist. "type" is there because vaulttransit asks for a type that
	// there is not, so that not even a mistyped name makes one.
	encrypt := vaultPath{"wrap data keys", at("encrypt"), "update", slices.Concat([]string{"context", "plaintext", "type"}, batch)}
	decrypt := vaultPath{"unwrap data keys", at("decrypt"), "update", slices.Concat([]string{"ciphertext", "context"}, batch)}
	rewrap := vaultPath{"move data keys to the key's newest version, unseen; a new context needs encrypt and decrypt", at("rewrap"), "update", slices.Concat([]string{"ciphertext", "context"}, batch)}
	look := vaultPath{"look at the key", at("keys"), "read", nil}
	var paths []vaultPath
	switch p.Role {
	case writer:
		paths = []vaultPath{encrypt}
	case reader:
		paths = []vaultPath{decrypt}
	case rotator:
		paths = []vaultPath{rewrap}
	case application:
		paths = []vaultPath{encrypt, decrypt}
	case administrator:
		paths = []vaultPath{look,
			{"make a new version", at("keys") + "/rotate", "update", []string{}},
			// Not deletion_allowed, exportable and allow_plaintext_backup: what they open cannot be closed again, or takes the key with it.
			{"retire versions; deletion, export and backup stay closed", at("keys") + "/config", "update", []string{"auto_rotate_period", "min_decryption_version", "min_encryption_version"}}}
	}
	if p.Check && p.Role != administrator {
		paths = append(paths, look)
	}
	f := hclwrite.NewEmptyFile()
	for i, path := range paths {
		if i > 0 {
			f.Body().AppendNewline()
		}
		f.Body().AppendUnstructuredTokens(hclwrite.Tokens{{Type: hclsyntax.TokenComment, Bytes: []byte("# " + p.Role + ": " + path.comment + "\n")}})
		body := f.Body().AppendNewBlock("path", []string{path.path}).Body()
		body.SetAttributeValue("capabilities", cty.ListVal([]cty.Value{cty.StringVal(path.capability)}))
		if len(path.parameters) > 0 {
			allowed := map[string]cty.Value{}
			for _, name := range path.parameters {
				allowed[name] = cty.ListValEmpty(cty.String) // any value
			}
			body.SetAttributeValue("allowed_parameters", cty.ObjectVal(allowed))
		}
	}
	_, err := f.WriteTo(a.stdout)
	return err
}
