// policy_test.go owns the policies that `rowseal policy vault` prints: read as Vault reads them, and held against Vault's engine.

package transit

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// vaultPolicy is what Vault's own parser takes of a policy, as far as these have it (vault/policy.go).
type vaultPolicy struct {
	Paths []struct {
		Path         string           `hcl:",key"`
		Capabilities []string         `hcl:"capabilities"`
		Parameters   map[string][]any `hcl:"allowed_parameters"`
	} `hcl:"path"`
}

// tokenFor makes a token with a policy in HCL.
func (s *server) tokenFor(t *testing.T, policy string) string {
	t.Helper()
	var parsed vaultPolicy
	must(t, hcl.Decode(&parsed, policy))
	if len(parsed.Paths) == 0 {
		t.Fatalf("no paths in:\n%s", policy)
	}
	var rules []string
	parameters := map[string]map[string]bool{}
	for _, p := range parsed.Paths {
		rules = append(rules, strings.TrimPrefix(p.Path, mount+"/")+" "+strings.Join(p.Capabilities, ","))
		if p.Parameters == nil {
			continue
		}
		parameters[p.Path] = map[string]bool{}
		for name, values := range p.Parameters {
			if len(values) > 0 {
				t.Fatalf("%s: values of parameters are not known here", p.Path)
			}
			parameters[p.Path][name] = true
		}
	}
	token := s.token(rules...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parameters[token] = parameters
	return token
}

func printed(t *testing.T, role string) string {
	t.Helper()
	text, err := os.ReadFile("../../cmd/rowseal/testdata/vault/" + role + ".hcl")
	must(t, err)
	return string(text)
}

// TestPrintedPolicies: each role does its duty, one row at a time and many at once, and nothing else.
func TestPrintedPolicies(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		dek := kmskey.NewDEK()
		w := wrap(t, v.provider(t, s, root, "app"), dek, row(t, 1))
		for role, duties := range map[string][]string{
			"writer": {"wrap"}, "reader": {"unwrap"}, "rotator": {"rewrap"}, "application": {"wrap", "unwrap"}, "administrator": nil,
		} {
			p := v.provider(t, s, s.tokenFor(t, printed(t, role)), "app")
			_, wrapped := p.Wrap(t.Context(), dek, row(t, 1))
			_, unwrapped := p.Unwrap(t.Context(), w, row(t, 1))
			_, rewrapped := p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
			items := []vaulttransit.WrappedItem{{Wrapped: w, Context: row(t, 1)}, {Wrapped: w, Context: row(t, 1)}}
			acts := map[string][]error{
				"wrap":   {wrapped, p.WrapBatch(t.Context(), []vaulttransit.WrapItem{{DEK: dek, Context: row(t, 1)}, {DEK: dek, Context: row(t, 2)}})[1].Err},
				"unwrap": {unwrapped, p.UnwrapBatch(t.Context(), items)[1].Err},
				"rewrap": {rewrapped, p.RewrapBatch(t.Context(), items)[1].Err},
			}
			for act, errs := range acts {
				for i, err := range errs {
					if allowed := slices.Contains(duties, act); allowed && err != nil || !allowed && !errors.Is(err, kmskey.ErrDenied) {
						t.Errorf("%s: %s, try %d: %v", role, act, i, err)
					}
				}
			}
			if err := p.Check(t.Context()); (err == nil) != (role == "administrator") {
				t.Errorf("%s: check: %v", role, err)
			}
		}
	})
}

// TestPrintedParameters: what a role may not send, and what an administrator may not set.
func TestPrintedParameters(t *testing.T) {
	each(t, func(t *testing.T, s *server, v vendor) {
		for _, tt := range []struct {
			role, path string
			in         map[string]any
			allowed    bool
		}{
			{"writer", "transit/encrypt/app", map[string]any{"plaintext": "", "context": "YQ=="}, true},
			{"writer", "transit/encrypt/app", map[string]any{"plaintext": "", "context": "YQ==", "key_version": 1}, false},
			{"writer", "transit/encrypt/app", map[string]any{"plaintext": "", "context": "YQ==", "associated_data": "YQ=="}, false},
			{"writer", "transit/encrypt/other", map[string]any{"plaintext": "", "context": "YQ=="}, false},
			{"writer", "transit/datakey/plaintext/app", map[string]any{"context": "YQ=="}, false},
			{"administrator", "transit/keys/app/rotate", map[string]any{}, true},
			{"administrator", "transit/keys/app/config", map[string]any{"min_decryption_version": 1}, true},
			{"administrator", "transit/keys/app/config", map[string]any{"deletion_allowed": true}, false},
			{"administrator", "transit/keys/app/config", map[string]any{"exportable": true}, false},
			{"administrator", "transit/keys/app/config", map[string]any{"allow_plaintext_backup": true}, false},
			{"administrator", "transit/export/encryption-key/app", nil, false},
			{"administrator", "transit/backup/app", nil, false},
			{"rotator", "transit/keys/app/rotate", map[string]any{}, false},
		} {
			_, err := v(t, connection{address: s.url, token: s.tokenFor(t, printed(t, tt.role))})(t.Context(), tt.path, tt.in)
			refused, _ := errors.AsType[*vaulttransit.StatusError](err)
			if tt.allowed && err != nil || !tt.allowed && (refused == nil || refused.Status != http.StatusForbidden) {
				t.Errorf("%s: %s %v: %v", tt.role, tt.path, tt.in, err)
			}
		}
	})
}
