// grants.go owns grants: what one principal may do with one key by CreateGrant, and from when on AWS knows it.

package awskmstest

import (
	"maps"
	"reflect"
	"slices"
)

// grant is one grant, live or ended. An ended one is kept, so that its token is known and opens nothing.
type grant struct {
	createGrantInput
	id, token string
	on        *key
	created   float64
	settled   bool // known without its token
	ended     bool
}

type createGrantInput struct {
	KeyId, GranteePrincipal, RetiringPrincipal, Name string
	Operations                                       []string
	Constraints                                      *grantConstraints
}

type grantConstraints struct {
	EncryptionContextSubset map[string]string `json:",omitempty"`
	EncryptionContextEquals map[string]string `json:",omitempty"`
}

// takes reports whether the constraints, if any, let a request with this context through.
func (g *grantConstraints) takes(ec map[string]string) bool {
	if g == nil {
		return true
	}
	for name, value := range g.EncryptionContextSubset {
		if got, ok := ec[name]; !ok || got != value {
			return false
		}
	}
	return g.EncryptionContextEquals == nil || maps.Equal(g.EncryptionContextEquals, ec)
}

// grantOperations are those that a grant on a symmetric key may hold and the fake has; true where they take an encryption context.
var grantOperations = map[string]bool{
	"Encrypt": true, "Decrypt": true, "ReEncryptFrom": true, "ReEncryptTo": true, "GenerateDataKey": true,
	"GenerateDataKeyWithoutPlaintext": true, "DescribeKey": false, "RetireGrant": false,
}

// asking is c with what one request brings along for its authorization.
func (c caller) asking(tokens []string, ec map[string]string) caller {
	c.tokens, c.context = tokens, ec
	return c
}

// granted reports whether a grant lets the caller do action ("kms:Encrypt") with k; the server's lock is held.
func (c caller) granted(action string, k *key) bool {
	for _, g := range c.server.grants {
		operation := action[len("kms:"):]
		if !g.ended && g.on == k && g.GranteePrincipal == c.ARN() && slices.Contains(g.Operations, operation) &&
			(g.settled || slices.Contains(c.tokens, g.token)) && (!grantOperations[operation] || g.Constraints.takes(c.context)) {
			return true
		}
	}
	return false
}

// checkTokens refuses tokens that no grant had.
func (s *Server) checkTokens(tokens []string) error {
	if len(tokens) > 10 {
		return invalid("Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10")
	}
	for _, token := range tokens {
		if !slices.ContainsFunc(s.grants, func(g *grant) bool { return g.token == token }) {
			return &Fault{Code: "InvalidGrantTokenException", Message: "The grant token is not valid."}
		}
	}
	return nil
}

func createGrant(s *Server, c caller, body []byte) (any, error) {
	var in createGrantInput
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	k, err := s.findFor(c, "kms:CreateGrant", in.KeyId)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, err
	}
	if in.GranteePrincipal == "" || len(in.Operations) == 0 {
		return nil, invalid("Value at 'granteePrincipal' or 'operations' failed to satisfy constraint: Member must not be null")
	}
	for _, operation := range in.Operations {
		if _, ok := grantOperations[operation]; !ok {
			return nil, unsupported("a grant of " + operation)
		}
	}
	in.KeyId = k.arn
	for _, g := range s.grants {
		// With a name, what is asked twice is made once.
		if !g.ended && in.Name != "" && reflect.DeepEqual(g.createGrantInput, in) {
			return map[string]any{"GrantId": g.id, "GrantToken": g.token}, nil
		}
	}
	g := &grant{
		createGrantInput: in, id: randomHex(32), token: randomHex(64), on: k,
		created: float64(s.now().UnixMilli()) / 1000, settled: !s.grantsNeedToken,
	}
	s.grants = append(s.grants, g)
	return map[string]any{"GrantId": g.id, "GrantToken": g.token}, nil
}

func (s *Server) findGrant(match func(*grant) bool) (*grant, error) {
	i := slices.IndexFunc(s.grants, func(g *grant) bool { return !g.ended && match(g) })
	if i < 0 {
		return nil, &Fault{Code: "NotFoundException", Message: "Grant ID not found"}
	}
	return s.grants[i], nil
}

func revokeGrant(s *Server, c caller, body []byte) (any, error) {
	var in struct{ KeyId, GrantId string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	k, err := s.findFor(c, "kms:RevokeGrant", in.KeyId)
	if err != nil {
		return nil, err
	}
	g, err := s.findGrant(func(g *grant) bool { return g.on == k && g.id == in.GrantId })
	if err != nil {
		return nil, err
	}
	g.ended = true
	return struct{}{}, nil
}

func retireGrant(s *Server, c caller, body []byte) (any, error) {
	var in struct{ KeyId, GrantId, GrantToken string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if (in.GrantToken == "") == (in.KeyId == "" || in.GrantId == "") {
		return nil, invalid("Specify either a grant token, or a key ARN and a grant id.")
	}
	g, err := s.findGrant(func(g *grant) bool {
		return in.GrantToken != "" && g.token == in.GrantToken || g.on.arn == in.KeyId && g.id == in.GrantId
	})
	if err != nil {
		return nil, err
	}
	mayRetire := g.RetiringPrincipal == c.ARN() || g.GranteePrincipal == c.ARN() && slices.Contains(g.Operations, "RetireGrant")
	if !mayRetire && !c.may("kms:RetireGrant", g.on) {
		return nil, denied(c, "kms:RetireGrant", g.on.arn, "because no identity-based policy allows the kms:RetireGrant action")
	}
	g.ended = true
	return struct{}{}, nil
}

func listGrants(s *Server, c caller, body []byte) (any, error) {
	var in struct{ KeyId, GrantId, GranteePrincipal string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	k, err := s.findFor(c, "kms:ListGrants", in.KeyId)
	if err != nil {
		return nil, err
	}
	list := []any{}
	for _, g := range s.grants {
		if g.ended || g.on != k || in.GrantId != "" && in.GrantId != g.id || in.GranteePrincipal != "" && in.GranteePrincipal != g.GranteePrincipal {
			continue
		}
		entry := map[string]any{
			"KeyId": k.arn, "GrantId": g.id, "GranteePrincipal": g.GranteePrincipal, "Operations": g.Operations,
			"CreationDate": g.created, "IssuingAccount": "arn:" + partition(k.region) + ":iam::" + k.account + ":root",
		}
		if g.Name != "" {
			entry["Name"] = g.Name
		}
		if g.RetiringPrincipal != "" {
			entry["RetiringPrincipal"] = g.RetiringPrincipal
		}
		if g.Constraints != nil {
			entry["Constraints"] = g.Constraints
		}
		list = append(list, entry)
	}
	return map[string]any{"Grants": list, "Truncated": false}, nil
}

// UnsettleGrants makes grants that are created from now on need their token, as on AWS for up to some minutes, until SettleGrants.
func (s *Server) UnsettleGrants() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grantsNeedToken = true
}

// SettleGrants makes every grant known, so that none needs its token any longer.
func (s *Server) SettleGrants() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grantsNeedToken = false
	for _, g := range s.grants {
		g.settled = true
	}
}
