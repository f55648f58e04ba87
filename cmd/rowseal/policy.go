// policy.go owns the verb policy: the roles, and what the services' policies have in common.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

type policyCommand struct {
	AWS   policyAWS   `cmd:"" name:"aws" help:"Print an IAM policy, or a key policy, for AWS KMS."`
	Vault policyVault `cmd:"" help:"Print a policy for the transit engine of Vault or OpenBao."`
	GCP   policyGCP   `cmd:"" name:"gcp" help:"Print the IAM bindings of a CryptoKey of Google Cloud KMS."`
	Azure policyAzure `cmd:"" help:"Print a role definition for a key of Azure Key Vault, and its assignment."`
}

// The roles. An application is writer and reader in one; whoever rotates keys needs neither.
const (
	writer        = "writer"
	reader        = "reader"
	rotator       = "rotator"
	application   = "application"
	administrator = "administrator"
)

// printJSON writes v as people and version control like it: indented, names in the order of the struct or of the alphabet.
func printJSON(w io.Writer, v any) error {
	text, err := marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("print JSON: %w", err)
	}
	return b.Bytes(), nil
}
