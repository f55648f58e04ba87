// names.go owns what keys are called: ids, aliases and their ARNs, in the partitions and regions of AWS.

package awskms

import (
	"fmt"
	"strings"
)

// name is a parsed KeyId. The first three are set for ARNs only; key or alias is.
type name struct {
	partition, region, account string
	key, alias                 string
}

const nameForms = `a key id (1234abcd-12ab-34cd-56ef-1234567890ab), a key ARN (arn:aws:kms:eu-central-1:111122223333:key/1234abcd-…), an alias (alias/app) or an alias ARN`

// parseName reads a KeyId in any of the four forms.
func parseName(s string) (name, error) {
	bad := func(why string) (name, error) {
		return name{}, fmt.Errorf("key %.200q: %s; expected %s", s, why, nameForms)
	}
	rest := s
	var n name
	if strings.HasPrefix(s, "arn:") {
		parts := strings.SplitN(s, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" {
			return bad("not an ARN of KMS")
		}
		n.partition, n.region, n.account, rest = parts[1], parts[3], parts[4], parts[5]
		switch {
		case !isWord(n.partition) || !strings.HasPrefix(n.partition, "aws"):
			return bad("the partition is malformed")
		case !isWord(n.region):
			return bad("the region is malformed")
		case !isAccount(n.account):
			return bad("the account does not have twelve digits")
		}
		if id, ok := strings.CutPrefix(rest, "key/"); ok {
			rest = id
		} else if !strings.HasPrefix(rest, "alias/") {
			return bad("neither key/ nor alias/ follows the account")
		}
		if strings.HasPrefix(parts[5], "key/alias/") {
			return bad("key/ and alias/ together")
		}
	}
	switch alias, isAlias := strings.CutPrefix(rest, "alias/"); {
	case isAlias && isAliasName(alias):
		n.alias = alias
	case isAlias:
		return bad("the alias is malformed")
	case isKeyID(rest):
		n.key = rest
	case rest == "":
		return bad("empty")
	case isAliasName(rest) && n.account == "":
		return bad("not a key id; an alias begins with alias/")
	default:
		return bad("not a key id")
	}
	return n, nil
}

// parseKeyARN reads what rows hold: the ARN of a key, not of an alias.
func parseKeyARN(s string) (name, error) {
	n, err := parseName(s)
	if err == nil && (n.account == "" || n.key == "") {
		err = fmt.Errorf("%.200q is not the ARN of a key (arn:aws:kms:eu-central-1:111122223333:key/…)", s)
	}
	return n, err
}

// in is the same name in another region, where a multi-Region key has a replica of the same account and id.
func (n name) in(region string) name { n.region = region; return n }

// arn is the key ARN of a name that parseKeyARN read.
func (n name) arn() string {
	return "arn:" + n.partition + ":kms:" + n.region + ":" + n.account + ":key/" + n.key
}

// isMultiRegion knows the ids of multi-Region keys. No other key of AWS has such an id.
func isMultiRegion(keyID string) bool { return strings.HasPrefix(keyID, "mrk-") }

// isKeyID knows 1234abcd-12ab-34cd-56ef-1234567890ab and mrk-1234abcd12ab34cd56ef1234567890ab.
func isKeyID(s string) bool {
	if digits, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(digits) == 32 && only(digits, "0123456789abcdef")
	}
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || !only(parts[i], "0123456789abcdef") {
			return false
		}
	}
	return true
}

func isAliasName(s string) bool {
	return len(s) >= 1 && len(s) <= 250 && only(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-")
}

func isAccount(s string) bool { return len(s) == 12 && only(s, "0123456789") }

func isWord(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && only(s, "abcdefghijklmnopqrstuvwxyz0123456789-")
}

// isRegion knows the form of regions (us-east-1, us-gov-west-1, eusc-de-east-1) and not whether there is one.
func isRegion(s string) bool {
	last := s[max(0, len(s)-1):]
	return isWord(s) && strings.Count(s, "-") >= 2 && strings.Trim(s, "-") == s && only(last, "0123456789")
}

func only(s, set string) bool { return strings.Trim(s, set) == "" }

// partitionOf is the partition of a region whose name tells it, else "". Only "" is left open, never guessed: a region belongs
// to one partition, so where the region agrees the partition can only be malformed, and AWS refuses it.
func partitionOf(region string) string {
	for prefix, p := range map[string]string{
		"cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "us-isof-": "aws-iso-f",
		"eu-isoe-": "aws-iso-e", "eusc-": "aws-eusc",
	} {
		if strings.HasPrefix(region, prefix) {
			return p
		}
	}
	for _, prefix := range []string{"us-east-", "us-west-", "eu-central-", "eu-west-", "eu-north-", "eu-south-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-"} {
		if strings.HasPrefix(region, prefix) {
			return "aws"
		}
	}
	return ""
}
