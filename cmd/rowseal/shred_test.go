package main

import (
	"regexp"
	"testing"

	root "github.com/rowseal/rowseal"
)

// TestShreddedRows: every verb counts them on a line of their own, and asks no key service for them.
func TestShreddedRows(t *testing.T) {
	c := newClinic(t, 6)
	db, shut := c.app(t, c.keys)
	if _, err := root.Shred(db.Where("id <= ?", 4), &Patient{}); err != nil {
		t.Fatal(err)
	}
	shut()
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"status", c.args("status"), 0, []string{`Patient +encrypted_kms_key +shredded +- +- +4`, `Patient +encrypted_kms_key_phone +shredded +- +- +4`}},
		{"status, JSON", c.args("status", "--json"), 0, []string{`"version": -2,\s+"rows": 4`}},
		{"verify", c.args("verify", "--key", "1=insecure-test-key"), 0, []string{`keys that unwrap +4 of 4 in the table`, `\nshredded +8\n`, `do not open +0`}},
		{"dry run", c.rotate("--dry-run"), 0, []string{`now +encrypted_kms_key +shredded +4`, `keys to move +4`, `shredded, passed over +8`}},
		{"rotate", c.rotate("--json"), 0, []string{`"rewrapped": 4`, `"failed": 0`, `"shredded": 8`}},
		{"rotate again", c.rotate(), 0, []string{`shredded, passed over +8`}},
		{"verify after it", c.args("verify", "--key", "2=local:file:"+c.next), 0, []string{`\nshredded +8\n`, `left to rotate +0`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rowseal(t, tt.args...)
			if r.code != tt.code {
				t.Errorf("it ended with %d", r.code)
			}
			for _, want := range tt.want {
				if !regexp.MustCompile(want).MatchString(r.stdout) {
					t.Errorf("no %q in\n%s%s", want, r.stdout, r.stderr)
				}
			}
		})
	}
}
