package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestRun holds what the program prints without a database; what it prints with one is held in integration/examples_test.go.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out, ""); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text := out.String()
	t.Log("\n" + text)
	stopped := regexp.MustCompile(`3\. The process stops: (\d+) of 2000 keys are moved, and the run is running\n`).FindStringSubmatch(text)
	if stopped == nil {
		t.Fatal("it does not say where it stopped")
	}
	if n, err := strconv.Atoi(stopped[1]); err != nil || n == 0 || n >= rows {
		t.Errorf("it stopped at %s", stopped[1])
	}
	flat := strings.Join(strings.Fields(text), " ")
	for _, line := range []string{
		"1. 2000 rows under version 1 of the keyring",
		"2. A run to version 2 begins with a row of the application's, in one transaction",
		"4. The next process finds the run when it starts, and goes on there",
		"of patients: encrypted_kms_key state done to version 2",
		"keys seen 2000 rewrapped 2000 current already 0 by others meanwhile 0 deleted meanwhile 0 failed 0",
		"before encrypted_kms_key v1 2000 after encrypted_kms_key v2 2000",
		`read again: "Patient 2000", under v2:…`,
		"Set DATABASE_URL to a Postgres database",
	} {
		if !strings.Contains(flat, line) {
			t.Errorf("it does not print %q", line)
		}
	}
}
