package main

import (
	"strings"
	"testing"
)

// TestRun holds what the program prints of the rows, before, after, and after a restore.
func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	whole := `"Ada Lovelace"` + "\n" + `      visit 1: "likes engines"` + "\n" + `      visit 2: "sleeps too little"`
	gone := `"", shredded` + "\n" + `      visit 1: "", shredded` + "\n" + `      visit 2: "", shredded`
	rest := `"Grace Hopper"` + "\n" + `      visit 3: "found the moth"`
	steps := strings.Split(out.String(), "\n\n")
	if len(steps) != 6 {
		t.Fatalf("%d steps:\n%s", len(steps), &out)
	}
	for i, want := range map[int]string{0: whole, 1: gone, 3: whole, 4: gone} {
		if !strings.Contains(steps[i], "patient 1, ward east: "+want) || !strings.Contains(steps[i], "patient 2, ward west: "+rest) {
			t.Errorf("step %d does not print %s and %s:\n%s", i+1, want, rest, steps[i])
		}
	}
	for _, line := range []string{"rows: 3, data keys destroyed: 3", "rows shredded again: 3; rows that have another key now: 0"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("it does not print %q:\n%s", line, &out)
		}
	}
}
