// terraform.go owns what is printed in HCL. hclwrite quotes and lays it out: a template would have to know HCL's escapes.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

func (p *policyAWS) terraform(w io.Writer, d document) error {
	policy, err := jsonencode(d)
	if err != nil {
		return err
	}
	f := hclwrite.NewEmptyFile()
	if p.Kind == "key" {
		if len(p.Key) == 0 {
			return usage("--key is missing: which key the policy is for")
		}
		body := f.Body().AppendNewBlock("resource", []string{"aws_kms_key_policy", "rowseal"}).Body()
		body.SetAttributeValue("key_id", cty.StringVal(p.Key[0]))
		body.SetAttributeRaw("policy", policy)
	} else {
		body := f.Body().AppendNewBlock("resource", []string{"aws_iam_policy", "rowseal_" + p.Role}).Body()
		body.SetAttributeValue("name", cty.StringVal("rowseal-"+p.Role))
		body.SetAttributeRaw("policy", policy)
	}
	_, err = f.WriteTo(w)
	return err
}

// jsonencode is the call of Terraform's function that gives v's JSON.
func jsonencode(v any) (hclwrite.Tokens, error) {
	text, err := marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	tokens, err := hclTokens(d)
	if err != nil {
		return nil, err
	}
	return hclwrite.TokensForFunctionCall("jsonencode", tokens), nil
}

// hclTokens is the next value of a JSON text as an expression of HCL, its names in their order.
func hclTokens(d *json.Decoder) (hclwrite.Tokens, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return hclwrite.TokensForValue(cty.StringVal(t)), nil
	case json.Delim:
		var attributes []hclwrite.ObjectAttrTokens
		var elements []hclwrite.Tokens
		for d.More() {
			next, err := hclTokens(d)
			if err != nil {
				return nil, err
			}
			if t == '[' {
				elements = append(elements, next)
				continue
			}
			name := next
			if text := strings.Trim(string(name.Bytes()), `"`); hclsyntax.ValidIdentifier(text) {
				name = hclwrite.TokensForIdentifier(text)
			}
			value, err := hclTokens(d)
			if err != nil {
				return nil, err
			}
			attributes = append(attributes, hclwrite.ObjectAttrTokens{Name: name, Value: value})
		}
		if _, err := d.Token(); err != nil {
			return nil, err
		}
		if t == '[' {
			return hclwrite.TokensForTuple(elements), nil
		}
		return hclwrite.TokensForObject(attributes), nil
	}
	return nil, fmt.Errorf("internal error: %T in a policy", t)
}

// terraform prints the same key as resources of the AWS provider, which has one block for each region.
func (p *provisionAWS) terraform(w io.Writer, regions []string, d document) error {
	policy, err := jsonencode(d)
	if err != nil {
		return err
	}
	f := hclwrite.NewEmptyFile()
	block := func(labels ...string) *hclwrite.Body {
		if len(f.Body().Blocks()) > 0 {
			f.Body().AppendNewline()
		}
		return f.Body().AppendNewBlock(labels[0], labels[1:]).Body()
	}
	identifier := strings.NewReplacer("-", "_")
	for _, region := range regions {
		body := block("provider", "aws")
		body.SetAttributeValue("alias", cty.StringVal(identifier.Replace(region)))
		body.SetAttributeValue("region", cty.StringVal(region))
	}
	for _, region := range regions {
		provider := hclwrite.TokensForIdentifier("aws." + identifier.Replace(region))
		name := identifier.Replace("rowseal_" + strings.Join(p.names(), "_") + "_" + region)
		key := block("resource", "aws_kms_key", name)
		key.SetAttributeRaw("provider", provider)
		key.SetAttributeValue("description", cty.StringVal(p.description()))
		key.SetAttributeValue("enable_key_rotation", cty.True)
		key.SetAttributeValue("rotation_period_in_days", cty.NumberIntVal(rotationDays))
		key.SetAttributeValue("deletion_window_in_days", cty.NumberIntVal(deletionDays))
		tags := map[string]cty.Value{}
		for _, t := range p.tags() {
			tags[t[0]] = cty.StringVal(t[1])
		}
		key.SetAttributeValue("tags", cty.ObjectVal(tags))
		key.SetAttributeRaw("policy", policy)
		key.AppendNewBlock("lifecycle", nil).Body().SetAttributeValue("prevent_destroy", cty.True)

		alias := block("resource", "aws_kms_alias", name)
		alias.SetAttributeRaw("provider", provider)
		alias.SetAttributeValue("name", cty.StringVal(p.alias()))
		alias.SetAttributeRaw("target_key_id", hclwrite.TokensForIdentifier("aws_kms_key."+name+".key_id"))

		block("output", name).SetAttributeRaw("value", hclwrite.TokensForIdentifier("aws_kms_alias."+name+".arn"))
	}
	_, err = f.WriteTo(w)
	return err
}
