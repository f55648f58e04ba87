package main

import (
	"strings"
	"testing"
)

// TestRun holds the counts that the program prints.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, line := range []string{
		"calls to the key service: 6, ",
		"3000 rows\n   calls: 0\n",
		"rows opened: 3000, the last Customer 3000, DE00000000000000002999; calls: 3\n4.",
		"branch keys moved: 3 of 3; rows written: 0; calls: 3\n",
		"configuration:\n   rows opened: 3000, the last Customer 3000, DE00000000000000002999; calls: 3\n",
		"rows rewrapped: 3000; calls: 9,",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("it does not print %q:\n%s", line, &out)
		}
	}
}
