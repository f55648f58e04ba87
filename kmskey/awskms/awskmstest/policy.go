// policy.go owns policy documents: which of them AWS would take, and what they allow. Whatever it does not know it refuses when the
// document is given, so that no test passes because a condition was overlooked.

package awskmstest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// document is a policy that was read: an identity's, or a key's.
type document struct{ statements []statement }

type statement struct {
	allow                   bool
	principals              []string // of a key policy: ARNs, accounts, "*"
	actions, resources      []string
	notActions, notResource bool // the lists above name what is not meant
	conditions              []condition
}

type condition struct {
	set      string // "", "ForAllValues", "ForAnyValue"
	operator string
	ifExists bool
	key      string // in lower case
	values   []string
}

// AttachPolicy adds an identity policy to the principal, in the JSON that IAM takes. Allow statements of several policies add up, an
// explicit deny wins, and what a key's own policy denies or does not leave to the account stays denied. Elements, operators and
// condition keys that the fake does not know are an error.
func (p *Principal) AttachPolicy(policy string) error {
	d, err := parseDocument(policy, false)
	if err != nil {
		return fmt.Errorf("awskmstest: attach policy to %s: %w", p.name, err)
	}
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.policies = append(p.policies, d)
	return nil
}

// NewPrincipalWithPolicy makes a principal of the server's account that is allowed what the identity policy allows.
func (s *Server) NewPrincipalWithPolicy(name, policy string) (*Principal, error) {
	p := s.NewPrincipal(name)
	if err := p.AttachPolicy(policy); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.principals, p.keyID)
		return nil, err
	}
	return p, nil
}

// The limits of IAM (a managed policy, white space not counted) and of KMS (a key policy).
const (
	maxIdentityPolicy = 6144
	maxKeyPolicy      = 32768
)

func parseDocument(text string, ofKey bool) (document, error) {
	fail := func(format string, args ...any) (document, error) {
		return document{}, fmt.Errorf("policy: "+format, args...)
	}
	if ofKey && len(text) > maxKeyPolicy {
		return fail("%d bytes, more than the %d of a key policy", len(text), maxKeyPolicy)
	}
	bare := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	if !ofKey && len(bare) > maxIdentityPolicy {
		return fail("%d characters without white space, more than the %d of a managed policy", len(bare), maxIdentityPolicy)
	}
	if strings.Contains(text, "${") {
		return fail("policy variables (${…}) are not supported by awskmstest")
	}
	top, err := object([]byte(text), "Version", "Id", "Statement")
	if err != nil {
		return fail("%w", err)
	}
	if version, err := list(top["Version"]); err != nil || len(version) != 1 || version[0] != "2012-10-17" {
		return fail("Version must be 2012-10-17")
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(top["Statement"], &raw); err != nil {
		raw = []json.RawMessage{top["Statement"]}
	}
	var d document
	sids := map[string]bool{}
	for i, r := range raw {
		s, sid, err := parseStatement(r, ofKey)
		if err != nil {
			return fail("statement %d: %w", i+1, err)
		}
		if sid != "" && sids[sid] {
			return fail("statement %d: the Sid %q is there twice", i+1, sid)
		}
		sids[sid] = true
		d.statements = append(d.statements, s)
	}
	if len(d.statements) == 0 {
		return fail("no Statement")
	}
	return d, nil
}

func parseStatement(raw []byte, ofKey bool) (s statement, sid string, err error) {
	m, err := object(raw, "Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return s, "", err
	}
	lists := map[string][]string{}
	for name, r := range m {
		if name == "Principal" || name == "Condition" {
			continue
		}
		if lists[name], err = list(r); err != nil {
			return s, "", fmt.Errorf("%s: %w", name, err)
		}
	}
	sid = strings.Join(lists["Sid"], "")
	if strings.ContainsFunc(sid, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || ofKey && r == ' ')
	}) {
		return s, "", fmt.Errorf("the Sid %q has more than letters and digits", sid)
	}
	switch effect := strings.Join(lists["Effect"], ""); effect {
	case "Allow", "Deny":
		s.allow = effect == "Allow"
	default:
		return s, "", fmt.Errorf("the Effect is %q", effect)
	}
	one := func(name, not string) (values []string, negated bool, err error) {
		if len(lists[name])+len(lists[not]) == 0 || len(lists[name]) > 0 && len(lists[not]) > 0 {
			return nil, false, fmt.Errorf("expects either %s or %s", name, not)
		}
		return slices.Concat(lists[name], lists[not]), len(lists[not]) > 0, nil
	}
	if s.actions, s.notActions, err = one("Action", "NotAction"); err != nil {
		return s, "", err
	}
	for _, a := range s.actions {
		if service, _, ok := strings.Cut(a, ":"); a != "*" && (!ok || service == "") {
			return s, "", fmt.Errorf("the action %q names no service", a)
		}
	}
	if s.resources, s.notResource, err = one("Resource", "NotResource"); err != nil {
		return s, "", err
	}
	if principal, there := m["Principal"]; there != ofKey {
		return s, "", errors.New("a key policy has a Principal, an identity policy has none")
	} else if there {
		if s.principals, err = parsePrincipals(principal); err != nil {
			return s, "", err
		}
	}
	if m["Condition"] == nil {
		return s, sid, nil
	}
	operators, err := object(m["Condition"])
	if err != nil {
		return s, "", fmt.Errorf("condition: %w", err)
	}
	for _, operator := range slices.Sorted(maps.Keys(operators)) {
		keys, err := object(operators[operator])
		if err != nil {
			return s, "", fmt.Errorf("condition: %s: %w", operator, err)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			c, err := parseCondition(operator, key, keys[key], ofKey)
			if err != nil {
				return s, "", fmt.Errorf("condition: %s: %s: %w", operator, key, err)
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return s, sid, nil
}

func parsePrincipals(raw []byte) ([]string, error) {
	if values, err := list(raw); err == nil {
		if !slices.Equal(values, []string{"*"}) {
			return nil, fmt.Errorf("the Principal %q is neither \"*\" nor {\"AWS\": …}", values)
		}
		return values, nil
	}
	m, err := object(raw, "AWS")
	if err != nil {
		return nil, fmt.Errorf("principal: %w", err)
	}
	values, err := list(m["AWS"])
	if err != nil || len(values) == 0 {
		return nil, errors.New("the Principal names nobody")
	}
	for _, v := range values {
		if v != "*" && !isAccount(v) && !strings.HasPrefix(v, "arn:") {
			return nil, fmt.Errorf("the principal %q is neither an ARN nor an account", v)
		}
	}
	return values, nil
}

var operators = map[string]func(want, got string) bool{
	"StringEquals":           func(want, got string) bool { return want == got },
	"StringEqualsIgnoreCase": strings.EqualFold,
	"StringLike":             like,
	"ArnEquals":              like, // as on AWS: both compare with wildcards
	"ArnLike":                like,
	"Bool":                   func(want, got string) bool { return strings.EqualFold(want, got) },
	"Null":                   nil,
}

// The negated operators are true where no value is equal, and where there is no value.
var negated = map[string]string{
	"StringNotEquals": "StringEquals", "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase", "StringNotLike": "StringLike",
	"ArnNotEquals": "ArnEquals", "ArnNotLike": "ArnLike",
}

const (
	contextPrefix = "kms:encryptioncontext:"
	contextKeys   = "kms:encryptioncontextkeys"
)

// conditionKeys are those that the fake knows the value of, in lower case, as AWS compares them.
var conditionKeys = []string{
	"kms:reencryptonsamekey", "kms:viaservice", "kms:calleraccount", "aws:principalarn", "aws:principalaccount", "aws:requestedregion",
}

func parseCondition(operator, key string, raw []byte, ofKey bool) (condition, error) {
	c := condition{operator: operator, key: strings.ToLower(key)}
	if set, rest, ok := strings.Cut(operator, ":"); ok {
		if c.set, c.operator = set, rest; set != "ForAllValues" && set != "ForAnyValue" {
			return c, errors.New("the set operator is unknown")
		}
	}
	c.operator, c.ifExists = strings.CutSuffix(c.operator, "IfExists")
	_, known := operators[c.operator]
	_, knownNegated := negated[c.operator]
	isContext := strings.HasPrefix(c.key, contextPrefix) && c.key != contextPrefix
	switch {
	case !known && !knownNegated:
		return c, errors.New("the operator is not supported by awskmstest")
	case !isContext && c.key != contextKeys && !slices.Contains(conditionKeys, c.key):
		return c, errors.New("the condition key is not supported by awskmstest")
	case c.set != "" && c.key != contextKeys:
		// AWS refuses this for contexts: ForAllValues would allow a request without the pair.
		return c, errors.New("a set operator with a condition key that has one value (OverlyPermissiveCondition)")
	case c.set == "" && c.key == contextKeys && c.operator != "Null":
		return c, errors.New("a condition key of many values needs ForAllValues or ForAnyValue")
	case c.operator == "Null" && (c.ifExists || c.set != ""):
		return c, errors.New("the operator Null stands alone")
	case c.key == "kms:calleraccount" && !ofKey:
		return c, errors.New("this condition key counts in key policies alone")
	}
	var err error
	if c.values, err = list(raw); err != nil || len(c.values) == 0 {
		return c, errors.New("no values")
	}
	if c.operator == "Null" || c.operator == "Bool" {
		if len(c.values) != 1 || c.values[0] != "true" && c.values[0] != "false" {
			return c, errors.New("expects true or false")
		}
	}
	return c, nil
}

// object reads a JSON object, with every name once and none but names, where there are any.
func object(raw []byte, names ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("expects an object of JSON")
	}
	m := map[string]json.RawMessage{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if _, twice := m[name]; twice || len(names) > 0 && !slices.Contains(names, name) {
			return nil, fmt.Errorf("the element %q is there twice, or not supported by awskmstest", name)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		m[name] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the object")
	}
	return m, nil
}

// list reads a string, or a list of them; truth values and numbers count as their text.
func list(raw []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	many, ok := v.([]any)
	if !ok {
		many = []any{v}
	}
	var values []string
	for _, one := range many {
		switch one.(type) {
		case string, bool, json.Number:
			values = append(values, fmt.Sprint(one))
		default:
			return nil, errors.New("expects a string or a list of strings")
		}
	}
	return values, nil
}

// like compares with the wildcards * and ?.
func like(pattern, s string) bool {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*':
			for j := 0; j <= len(s); j++ {
				if like(pattern[i+1:], s[j:]) {
					return true
				}
			}
			return false
		case '?':
			if s == "" {
				return false
			}
		default:
			if s == "" || s[0] != pattern[i] {
				return false
			}
		}
		s = s[1:]
	}
	return s == ""
}

// ask is one action on one resource, with what conditions may look at.
type ask struct {
	action, resource string
	facts            map[string][]string
}

func (s *statement) matches(a ask) bool {
	action := slices.ContainsFunc(s.actions, func(p string) bool { return like(strings.ToLower(p), strings.ToLower(a.action)) })
	resource := slices.ContainsFunc(s.resources, func(p string) bool { return like(p, a.resource) })
	if action == s.notActions || resource == s.notResource {
		return false
	}
	for _, c := range s.conditions {
		if !c.holds(a.facts[c.key]) {
			return false
		}
	}
	return true
}

func (c condition) holds(got []string) bool {
	if c.operator == "Null" {
		return (c.values[0] == "true") == (len(got) == 0)
	}
	name, not := negated[c.operator]
	if !not {
		name = c.operator
	}
	one := func(v string) bool {
		return not != slices.ContainsFunc(c.values, func(want string) bool { return operators[name](want, v) })
	}
	switch {
	case len(got) == 0 && c.ifExists, len(got) == 0 && c.set == "ForAllValues":
		return true // the pitfall of ForAllValues: nothing is among anything
	case c.set == "ForAnyValue":
		return slices.ContainsFunc(got, one)
	case len(got) == 0:
		return not
	}
	return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
}

// The reasons, as AWS words them.
const (
	noIdentity   = "because no identity-based policy allows the %s action"
	noResource   = "because no resource-based policy allows the %s action"
	denyIdentity = "with an explicit deny in an identity-based policy"
	denyResource = "with an explicit deny in a resource-based policy"
)

// why is the reason for which c may not do action on k, "" where it may; the server's lock is held.
//
// An explicit deny in either policy wins. A principal of the key's account is allowed by what the key policy gives to it by name, or
// by its own policies where the key policy gives the action to the account. One of another account needs both.
func (c caller) why(action string, k *key) string {
	if c.scene {
		return ""
	}
	facts, err := c.facts(action)
	if err != nil {
		return "because " + err.Error()
	}
	a := ask{action, k.arn, facts}
	identity := c.identity(a, func(on map[string]bool) bool { return on[k.arn] || on["*"] && k.account == c.account })
	if identity == denyIdentity {
		return identity
	}
	if k.policy == nil { // as with AWS's default policy: the account decides
		if identity != "" {
			return fmt.Sprintf(identity, action)
		}
		return ""
	}
	named, delegated := false, false
	root := "arn:" + partition(c.region) + ":iam::" + c.account + ":root"
	for _, s := range k.policy.statements {
		byName := slices.Contains(s.principals, c.ARN()) || slices.Contains(s.principals, "*")
		byAccount := slices.Contains(s.principals, root) || slices.Contains(s.principals, c.account)
		switch {
		case !byName && !byAccount || !s.matches(a):
		case !s.allow:
			return denyResource
		default:
			named, delegated = named || byName, delegated || byAccount
		}
	}
	switch {
	case named && k.account == c.account:
		return ""
	case !named && !delegated:
		return fmt.Sprintf(noResource, action)
	case identity != "":
		return fmt.Sprintf(identity, action)
	}
	return ""
}

// whyName is why for what has no policy of its own: an alias, or the account ("*").
func (c caller) whyName(action, resource string) string {
	if c.scene {
		return ""
	}
	facts, err := c.facts(action)
	if err != nil {
		return "because " + err.Error()
	}
	// Lists of actions on single keys leave aliases to the key.
	identity := c.identity(ask{action, resource, facts}, func(on map[string]bool) bool { return on["*"] || resource != "*" && len(on) > 0 })
	if identity == noIdentity {
		return fmt.Sprintf(identity, action)
	}
	return identity
}

func (c caller) mayName(action, resource string) error {
	if reason := c.whyName(action, resource); reason != "" {
		return denied(c, action, resource, reason)
	}
	return nil
}

// identity is what the principal's own policies and lists say: "", noIdentity or denyIdentity.
func (c caller) identity(a ask, listed func(on map[string]bool) bool) string {
	answer := noIdentity
	if listed(c.allowed[a.action]) || listed(c.allowed["kms:*"]) {
		answer = ""
	}
	for _, d := range c.policies {
		for _, s := range d.statements {
			switch {
			case !s.matches(a):
			case !s.allow:
				return denyIdentity
			default:
				answer = ""
			}
		}
	}
	return answer
}

// facts is what conditions may look at in the request.
func (c caller) facts(action string) (map[string][]string, error) {
	var in struct {
		EncryptionContext, SourceEncryptionContext, DestinationEncryptionContext map[string]string
		SourceKeyId, DestinationKeyId                                            string
		CiphertextBlob                                                           []byte
		Constraints                                                              grantConstraints
	}
	// What cannot be read has no facts; the operation refuses it before it asks.
	_ = json.Unmarshal(c.body, &in)
	facts := map[string][]string{
		"aws:principalarn": {c.ARN()}, "aws:principalaccount": {c.account}, "aws:requestedregion": {c.region}, "kms:calleraccount": {c.account},
	}
	ec := in.EncryptionContext
	switch action {
	case "kms:ReEncryptFrom":
		ec = in.SourceEncryptionContext
	case "kms:ReEncryptTo":
		ec = in.DestinationEncryptionContext
	case "kms:CreateGrant":
		ec = maps.Clone(in.Constraints.EncryptionContextSubset)
		if ec == nil {
			ec = in.Constraints.EncryptionContextEquals
		}
	}
	for name, value := range ec {
		key := contextPrefix + strings.ToLower(name)
		if facts[key] != nil {
			return nil, errors.New("awskmstest does not guess which of two names in the encryption context that differ by case AWS looks at")
		}
		facts[key] = []string{value}
		facts[contextKeys] = append(facts[contextKeys], name)
	}
	if strings.HasPrefix(action, "kms:ReEncrypt") {
		to, _ := c.server.find(c, in.DestinationKeyId)
		id, _ := blobKeyID(in.CiphertextBlob)
		facts["kms:reencryptonsamekey"] = []string{fmt.Sprint(to != nil && to.id == id)}
	}
	return facts, nil
}
