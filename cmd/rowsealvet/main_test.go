package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestVettool runs the tool as go vet does, on packages that use the real gorm and rowseal: findings stand where a line says so.
func TestVettool(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "rowsealvet")
	if out, err := exec.Command("go", "build", "-o", tool, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := []string{"testdata/models/models.go", "testdata/store/store.go"}
	var want []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(source), "\n") {
			if strings.HasSuffix(line, "// finding") {
				want = append(want, filepath.Base(file)+":"+strconv.Itoa(i+1))
			}
		}
	}
	out, err := exec.Command("go", "vet", "-vettool", tool, "./testdata/models", "./testdata/store").CombinedOutput()
	if err == nil {
		t.Error("go vet succeeded")
	}
	var got []string
	for _, found := range regexp.MustCompile(`(?m)(\w+\.go:\d+):\d+: rowseal: `).FindAllStringSubmatch(string(out), -1) {
		got = append(got, found[1])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("findings at %v, want %v\n%s", got, want, out)
	}
}
