// admin.go owns the operations that manage keys and look at them: policies, tags, rotation, lists.

package awskmstest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// management is what a key has beside its material.
type management struct {
	policy     *document // nil is AWS's default: the account decides
	policyText string
	tags       map[string]string
	rotation   int // days; 0 is off
}

type tag struct{ TagKey, TagValue string }

// furnish gives a new key what CreateKey was asked for.
func (s *Server) furnish(c caller, k *key, policy string, tags []tag, bypass bool) error {
	if err := k.tag(tags); err != nil {
		return err
	}
	if len(tags) > 0 {
		if err := c.mayName("kms:TagResource", "*"); err != nil {
			return err
		}
	}
	if policy == "" {
		return nil
	}
	return s.setPolicy(c, k, policy, bypass)
}

func (s *Server) setPolicy(c caller, k *key, text string, bypass bool) error {
	malformed := func(why string) error { return &Fault{Code: "MalformedPolicyDocumentException", Message: why} }
	d, err := parseDocument(text, true)
	if err != nil {
		return malformed(err.Error())
	}
	for _, statement := range d.statements {
		for _, p := range statement.principals {
			if !s.isPrincipal(p) {
				return malformed("Policy contains a statement with one or more invalid principals.")
			}
		}
	}
	before := k.management
	k.policy, k.policyText = &d, text
	if !bypass && c.why("kms:PutKeyPolicy", k) != "" {
		k.management = before
		return malformed("The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// isPrincipal: AWS takes no policy that names somebody who does not exist. Accounts exist.
func (s *Server) isPrincipal(name string) bool {
	if name == "*" || isAccount(name) || strings.HasPrefix(name, "arn:") && strings.HasSuffix(name, ":root") {
		return true
	}
	for _, p := range s.principals {
		if p.ARN() == name {
			return true
		}
	}
	return false
}

func (k *key) tag(tags []tag) error {
	for _, t := range tags {
		if t.TagKey == "" || len(t.TagKey) > 128 || len(t.TagValue) > 256 || strings.HasPrefix(t.TagKey, "aws:") {
			return &Fault{Code: "TagException", Message: fmt.Sprintf("the tag %q is malformed or reserved", t.TagKey)}
		}
		if k.tags == nil {
			k.tags = map[string]string{}
		}
		k.tags[t.TagKey] = t.TagValue
	}
	if len(k.tags) > 50 {
		return &Fault{Code: "TagException", Message: "Too many tags."}
	}
	return nil
}

func putKeyPolicy(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId, PolicyName, Policy      string
		BypassPolicyLockoutSafetyCheck bool
	}
	k, err := s.named(c, "kms:PutKeyPolicy", body, &in, &in.KeyId, &in.PolicyName)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.setPolicy(c, k, in.Policy, in.BypassPolicyLockoutSafetyCheck)
}

func getKeyPolicy(s *Server, c caller, body []byte) (any, error) {
	var in struct{ KeyId, PolicyName string }
	k, err := s.named(c, "kms:GetKeyPolicy", body, &in, &in.KeyId, &in.PolicyName)
	if err != nil {
		return nil, err
	}
	text := k.policyText
	if text == "" {
		text = `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"arn:` +
			partition(k.region) + `:iam::` + k.account + `:root"},"Action":"kms:*","Resource":"*"}]}`
	}
	return map[string]any{"Policy": text, "PolicyName": "default"}, nil
}

// named decodes a request and finds its key; a key's only policy has the name default.
func (s *Server) named(c caller, action string, body []byte, in any, id, policy *string) (*key, error) {
	if err := decode(body, in); err != nil {
		return nil, err
	}
	if policy != nil && *policy != "" && *policy != "default" {
		return nil, &Fault{Code: "NotFoundException", Message: "No such policy exists"}
	}
	return s.findFor(c, action, *id)
}

func tagResource(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId string
		Tags  []tag
	}
	k, err := s.named(c, "kms:TagResource", body, &in, &in.KeyId, nil)
	if err != nil {
		return nil, err
	}
	return struct{}{}, k.tag(in.Tags)
}

func untagResource(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId   string
		TagKeys []string
	}
	k, err := s.named(c, "kms:UntagResource", body, &in, &in.KeyId, nil)
	if err != nil {
		return nil, err
	}
	for _, name := range in.TagKeys {
		delete(k.tags, name)
	}
	return struct{}{}, nil
}

func listResourceTags(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId, Marker string
		Limit         int
	}
	k, err := s.named(c, "kms:ListResourceTags", body, &in, &in.KeyId, nil)
	if err != nil {
		return nil, err
	}
	tags := make([]tag, 0, len(k.tags))
	for _, name := range slices.Sorted(maps.Keys(k.tags)) {
		tags = append(tags, tag{name, k.tags[name]})
	}
	return page("Tags", tags, in.Marker, in.Limit, 50)
}

// page is one answer of a list: from the element whose number is the marker.
func page[E any](name string, all []E, marker string, limit, most int) (any, error) {
	start := 0
	if marker != "" {
		n, err := strconv.Atoi(marker)
		if err != nil || n < 0 || n > len(all) {
			return nil, &Fault{Code: "InvalidMarkerException"}
		}
		start = n
	}
	if limit <= 0 {
		limit = most
	}
	end := min(start+limit, len(all))
	out := map[string]any{name: all[start:end], "Truncated": end < len(all)}
	if end < len(all) {
		out["NextMarker"] = strconv.Itoa(end)
	}
	return out, nil
}

func enableKeyRotation(s *Server, c caller, body []byte) (any, error) {
	in := struct {
		KeyId                string
		RotationPeriodInDays int
	}{RotationPeriodInDays: 365}
	k, err := s.named(c, "kms:EnableKeyRotation", body, &in, &in.KeyId, nil)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, err
	}
	if in.RotationPeriodInDays < 90 || in.RotationPeriodInDays > 2560 {
		return nil, invalid("Value at 'rotationPeriodInDays' failed to satisfy constraint: Member must be between 90 and 2560")
	}
	k.rotation = in.RotationPeriodInDays
	return struct{}{}, nil
}

func disableKeyRotation(s *Server, c caller, body []byte) (any, error) {
	k, err := s.one(c, "kms:DisableKeyRotation", body)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, err
	}
	k.rotation = 0
	return struct{}{}, nil
}

func getKeyRotationStatus(s *Server, c caller, body []byte) (any, error) {
	k, err := s.one(c, "kms:GetKeyRotationStatus", body)
	if err != nil {
		return nil, err
	}
	out := map[string]any{"KeyId": k.arn, "KeyRotationEnabled": k.rotation > 0}
	if k.rotation > 0 {
		out["RotationPeriodInDays"] = k.rotation
		out["NextRotationDate"] = float64(s.now().Add(time.Duration(k.rotation)*24*time.Hour).UnixMilli()) / 1000
	}
	return out, nil
}

func listKeys(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		Marker string
		Limit  int
	}
	if err := firstError(decode(body, &in), c.mayName("kms:ListKeys", "*")); err != nil {
		return nil, err
	}
	type entry struct{ KeyId, KeyArn string }
	var all []entry
	for _, arn := range slices.Sorted(maps.Keys(s.keys)) {
		if k := s.keys[arn]; k.account == c.account && k.region == c.region {
			all = append(all, entry{k.id, k.arn})
		}
	}
	return page("Keys", all, in.Marker, in.Limit, 100)
}

func listAliases(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId, Marker string
		Limit         int
	}
	if err := firstError(decode(body, &in), c.mayName("kms:ListAliases", "*")); err != nil {
		return nil, err
	}
	var of *key
	if in.KeyId != "" {
		k, err := s.find(c, in.KeyId)
		if err != nil {
			return nil, err
		}
		of = k
	}
	type entry struct{ AliasName, AliasArn, TargetKeyId string }
	var all []entry
	own := aliasARN(c.region, c.account, "alias/")
	for _, arn := range slices.Sorted(maps.Keys(s.aliases)) {
		if k := s.aliases[arn]; strings.HasPrefix(arn, own) && (of == nil || k == of) {
			all = append(all, entry{arn[len(own)-len("alias/"):], arn, k.id})
		}
	}
	return page("Aliases", all, in.Marker, in.Limit, 50)
}
