// policy_gcp.go owns the bindings for Google Cloud KMS: one of Google's own roles on the CryptoKey.

package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

type policyGCP struct {
	Role   string   `required:"" enum:"writer,reader,rotator,application,administrator" placeholder:"ROLE" help:"writer, reader, rotator, application or administrator."`
	Key    string   `required:"" placeholder:"NAME" help:"The CryptoKey: projects/…/locations/…/keyRings/…/cryptoKeys/…"`
	Member []string `sep:"none" required:"" placeholder:"MEMBER" help:"Who has the role: serviceAccount:clinic@project.iam.gserviceaccount.com, group:…, principal:…"`
	Format string   `enum:"gcloud,json" default:"gcloud" placeholder:"FORMAT" help:"gcloud: commands that add the binding. json: the binding, for a policy that you keep elsewhere. Defaults to ${default}."`
}

// Google has no call that moves a data key inside the service, so a rotator encrypts and decrypts.
var gcpRoles = map[string]string{
	writer:        "roles/cloudkms.cryptoKeyEncrypter",
	reader:        "roles/cloudkms.cryptoKeyDecrypter",
	rotator:       "roles/cloudkms.cryptoKeyEncrypterDecrypter",
	application:   "roles/cloudkms.cryptoKeyEncrypterDecrypter",
	administrator: "roles/cloudkms.admin",
}

var (
	cryptoKey = regexp.MustCompile(`^projects/([^/\s]+)/locations/([a-z0-9-]+)/keyRings/([a-zA-Z0-9_-]{1,63})/cryptoKeys/([a-zA-Z0-9_-]{1,63})$`)
	gcpMember = regexp.MustCompile(`^(serviceAccount|user|group|domain|principal|principalSet):[^\s'"\\` + "`" + `$]+$`)
	gcpID     = regexp.MustCompile(`^[a-z0-9.:-]+$`)
)

func (p *policyGCP) Run(a *app) error {
	key := cryptoKey.FindStringSubmatch(p.Key)
	if key == nil || !gcpID.MatchString(key[1]) {
		return usage("--key %q: expected projects/…/locations/…/keyRings/…/cryptoKeys/…, without a version", p.Key)
	}
	for _, member := range p.Member {
		// allUsers and allAuthenticatedUsers are members of Google's too, and never meant.
		if !gcpMember.MatchString(member) {
			return usage("--member %q: expected a kind and a name, such as serviceAccount:clinic@project.iam.gserviceaccount.com", member)
		}
	}
	role := gcpRoles[p.Role]
	if p.Format == "json" {
		type binding struct {
			Role    string   `json:"role"`
			Members []string `json:"members"`
		}
		return printJSON(a.stdout, struct {
			Bindings []binding `json:"bindings"`
		}{[]binding{{role, p.Member}}})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s, on this key alone. Google has no condition on the encryption context.\n", p.Role)
	for _, member := range p.Member {
		fmt.Fprintf(&b, "gcloud kms keys add-iam-policy-binding %s --project=%s --location=%s --keyring=%s \\\n  --member='%s' --role=%s --condition=None\n",
			key[4], key[1], key[2], key[3], member, role)
	}
	_, err := io.WriteString(a.stdout, b.String())
	return err
}
