package awskms

import (
	"strings"
	"testing"
)

// FuzzParseName: what parses is made of its parts, so that nothing hides in a name that a row brings along.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"", "app", "alias/app", "alias/", "1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1234abcd12ab34cd56ef1234567890ab",
		"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws:kms:eu-central-1:111122223333:alias/app", "arn:aws:kms:eu-central-1:111122223333:key/alias/app",
		"arn:aws-cn:kms:cn-north-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab", "arn:aws:kms::: ", "arn:aws:kms:a:b:c:d",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseName(s)
		if err != nil {
			if len(s) > 2000 && strings.Contains(err.Error(), s) {
				t.Fatal("an error repeats a name of any length")
			}
			return
		}
		again := n.key
		if n.alias != "" {
			again = "alias/" + n.alias
		} else if n.account != "" {
			again = "key/" + again
		}
		if n.account != "" {
			again = strings.Join([]string{"arn", n.partition, "kms", n.region, n.account, again}, ":")
		}
		if again != s {
			t.Fatalf("%q parses as %q", s, again)
		}
		if arn, err := parseKeyARN(s); err == nil && (arn.key == "" || arn.account == "" || arn.alias != "" || arn.arn() != s) {
			t.Fatalf("%q is no key ARN", s)
		}
	})
}
