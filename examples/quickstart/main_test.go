package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// What differs from run to run: ciphertext, envelopes, and references that are derived from keys.
var random = regexp.MustCompile(`[0-9a-f]{28}\.\.\.|v\d:[A-Za-z0-9+/]{25}\.\.\.|local:[0-9a-f]{16}`)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log("\n" + out.String())

	steps := regexp.MustCompile(`(?m)^\d\. `).Split(out.String(), -1)
	if len(steps) != 10 {
		t.Fatalf("%d steps, want 9 after the title", len(steps)-1)
	}
	for i, phrases := range [][]string{
		{"SQLite and a local key"},
		{"ids 1 and 2"},
		{"Ada Lovelace", "1815-12-10", "***", "likes engines"},
		{"ward                  4  east", "f90101", "v1:"},
		{"name               new bytes", "born               same bytes", "email              same bytes", "email_bidx         same bytes", "phone              same bytes", "notes              same bytes", "encrypted_kms_key  same bytes"},
		{"found Grace Hopper by the blind index", "UNIQUE constraint failed: patients.email_bidx"},
		{"open Patient.notes: not authentic", "open Patient.name: not authentic", "key encrypted_kms_key", "wrong row"},
		{"a sealed column cannot be compared", "a blind index, name_bidx", "CHECK constraint failed"},
		{"encrypted_kms_key  new bytes", "row 1  v1:", "->  v2:", "row 2  v1:", "db.First(&p, 1)  Augusta Ada King", "db.First(&p, 2)  Grace Hopper"},
		{"2 keys seen, 1 rewrapped, 1 current already, 0 failed", "row 2  v2:"},
	} {
		for _, phrase := range phrases {
			if !strings.Contains(flat(steps[i]), flat(phrase)) {
				t.Errorf("step %d does not say %q:\n%s", i, phrase, steps[i])
			}
		}
	}
	// Whole beginnings of values: four digits alone stand in ciphertext, printed in hexadecimal, once in some hundred runs.
	for _, value := range []string{"Ada Lovelace", "likes engines", "+44 20 7946", "ada@example.org"} {
		if strings.Contains(steps[3], value) || strings.Contains(steps[3], fmt.Sprintf("%x", value)[:20]) {
			t.Errorf("the database shows %q:\n%s", value, steps[3])
		}
	}
	if n := strings.Count(out.String(), "-> refused: "); n != 6 {
		t.Errorf("%d refusals, want 6", n)
	}

	var again strings.Builder
	if err := run(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	if a, b := random.ReplaceAllString(out.String(), "(random)"), random.ReplaceAllString(again.String(), "(random)"); a != b {
		t.Errorf("two runs differ in more than ciphertext:\n%s\n%s", a, b)
	}
}

// flat takes line breaks and alignment out.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }
