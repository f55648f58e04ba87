package main

import (
	"regexp"
	"strings"
	"testing"
)

var measured = regexp.MustCompile(`in [0-9.]+[mµ]?s\n`)

// TestRun holds what the program prints, but for the times and how many calls were on their way when the region was given up.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	text := measured.ReplaceAllString(out.String(), "in …\n")
	for _, line := range []string{
		"calls    200 wrap in eu-central-1: ok, 200 wrap in us-east-1: ok",
		"rows     200 opened in …\n   calls    200 unwrap in eu-central-1: ok",
		"unwrap in eu-central-1: cancelled, 200 unwrap in us-east-1: ok",
		"calls    1 wrap in us-east-1: ok",
		"calls    1 wrap in eu-central-1: ok, 1 unwrap in us-east-1: ok",
		`it reads     name "", email ""`,
		"added to the row: 1 wrap in eu-central-1: ok, 1 wrap in us-east-1: ok",
		`others read  name "Patient 1", email "new@example.org": 2 unwrap in eu-central-1: ok`,
		`others read  name "Patient 1", email "new@example.org": 1 unwrap in eu-central-1: ok`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("it does not print %q:\n%s", line, text)
		}
	}
}
