// check.go owns what must be true of the transit key itself.

package vaulttransit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rowseal/rowseal/kmskey"
)

// Check reads the configured key and says what is wrong with it: that it is missing ([kmskey.ErrNotFound]), or, all in one
// [kmskey.ErrInvalid], that it is not aes256-gcm96, not derived, convergent (equal data keys of a row would show), or that who has
// the permission may export it, back it up in the clear, or delete it and with it every row. Call it at start-up, or from a job
// with a token of its own: it takes "read" on transit/keys/<name>, which writers, readers and rotators do not need.
func (p *Provider) Check(ctx context.Context) error {
	a := act{p, "check", p.path("keys")}
	out, err := a.request(ctx, nil)
	if err != nil {
		return err
	}
	if len(out) == 0 { // the clients give no error for 404 on a read
		return a.fail(kmskey.ErrNotFound, fmt.Sprintf("check mount, name and the client's namespace, or make the key: vault write -f %s derived=true", p.path("keys")), nil)
	}
	var wrong []string
	if kind, _ := out["type"].(string); kind != "aes256-gcm96" {
		wrong = append(wrong, fmt.Sprintf("it is of type %.40q, not aes256-gcm96: make another key", kind))
	}
	if derived, _ := out["derived"].(bool); derived {
		p.derived.Store(true)
	} else {
		wrong = append(wrong, "it is not derived, so Vault ignores the encryption context: make another key with derived=true")
	}
	for _, setting := range []struct{ name, says string }{
		{"convergent_encryption", "it is convergent, so equal ciphertexts show equal data keys: make another key"},
		{"exportable", "it may be exported, which cannot be taken back: make another key"},
		{"allow_plaintext_backup", "it may be backed up in the clear, which cannot be taken back: make another key"},
		{"deletion_allowed", "it may be deleted, and every row with it: vault write " + p.path("keys") + "/config deletion_allowed=false"},
	} {
		if set, _ := out[setting.name].(bool); set {
			wrong = append(wrong, setting.says)
		}
	}
	if len(wrong) > 0 {
		return a.fail(kmskey.ErrInvalid, "", errors.New(strings.Join(wrong, "; ")))
	}
	return nil
}
