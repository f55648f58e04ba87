// policy_azure.go owns the role definitions for Azure Key Vault: data actions on one key.

package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

type policyAzure struct {
	Role      string   `required:"" enum:"writer,reader,rotator,application,administrator" placeholder:"ROLE" help:"writer, reader, rotator, application or administrator."`
	Vault     string   `required:"" placeholder:"ID" help:"The vault's resource id: /subscriptions/…/resourceGroups/…/providers/Microsoft.KeyVault/vaults/…"`
	Key       string   `required:"" placeholder:"NAME" help:"The key's name in the vault."`
	Principal []string `sep:"none" placeholder:"ID" help:"Object ids of service principals or managed identities who have the role."`
	Format    string   `enum:"json,az" default:"json" placeholder:"FORMAT" help:"json: the role definition. az: the commands that make it and assign it. Defaults to ${default}."`
}

// Azure has no call that moves a data key inside the service, so a rotator wraps and unwraps. No role has encrypt and decrypt, nor
// backup, import and restore, with which a key leaves its vault or another takes its place.
var azureActions = map[string][]string{
	writer:      {"wrap/action"},
	reader:      {"unwrap/action"},
	rotator:     {"unwrap/action", "wrap/action"},
	application: {"unwrap/action", "wrap/action"},
	administrator: {"create/action", "delete", "read", "recover/action", "rotate/action", "update/action",
		"/keyrotationpolicies/read", "/keyrotationpolicies/write"},
}

var (
	azureVault = regexp.MustCompile(`^(/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[\w.()-]+)/providers/Microsoft\.KeyVault/vaults/([a-zA-Z0-9-]{3,24})$`)
	azureKey   = regexp.MustCompile(`^[a-zA-Z0-9-]{1,127}$`)
	azureID    = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
)

func (p *policyAzure) Run(a *app) error {
	vault := azureVault.FindStringSubmatch(p.Vault)
	switch {
	case vault == nil:
		return usage("--vault %q: expected a resource id, /subscriptions/…/resourceGroups/…/providers/Microsoft.KeyVault/vaults/…, as az keyvault show --name … --query id shows it", p.Vault)
	case !azureKey.MatchString(p.Key):
		return usage("--key %q: expected the key's name, letters, digits and dashes, without vault and version", p.Key)
	case p.Format == "az" && len(p.Principal) == 0, p.Format == "json" && len(p.Principal) > 0:
		return usage("--principal belongs to --format az, which assigns the role: az ad sp show --id … --query id shows an object id")
	}
	for _, id := range p.Principal {
		if !azureID.MatchString(id) {
			return usage("--principal %q: expected an object id, such as 00000000-0000-0000-0000-000000000000", id)
		}
	}
	const vaults = "Microsoft.KeyVault/vaults"
	var actions []string
	for _, action := range azureActions[p.Role] {
		if action[0] == '/' {
			actions = append(actions, vaults+action)
		} else {
			actions = append(actions, vaults+"/keys/"+action)
		}
	}
	name := "Rowseal " + p.Role
	// A custom role may be assigned within a resource group; the assignment is what narrows it to one key.
	definition, err := marshal(struct {
		Name, Description                string
		IsCustom                         bool
		Actions, NotActions, DataActions []string
		NotDataActions                   []string
		AssignableScopes                 []string
	}{name, "What a " + p.Role + " of Rowseal does with a key of Azure Key Vault.", true, []string{}, []string{}, actions, []string{}, []string{vault[1]}})
	if err != nil {
		return err
	}
	if p.Format == "json" {
		_, err = a.stdout.Write(definition)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, on this key alone. Azure has no condition on the encryption context.\naz role definition create --role-definition @- <<'EOF'\n%sEOF\n", p.Role, definition)
	for _, id := range p.Principal {
		fmt.Fprintf(&b, "az role assignment create --role '%s' --assignee-object-id %s --assignee-principal-type ServicePrincipal \\\n  --scope '%s/keys/%s'\n", name, id, p.Vault, p.Key)
	}
	_, err = io.WriteString(a.stdout, b.String())
	return err
}
