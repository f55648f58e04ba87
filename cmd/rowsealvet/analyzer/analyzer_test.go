package analyzer

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// The packages gorm.io/gorm and github.com/rowseal/rowseal below testdata are stubs; TestVettool in the folder above runs the real ones.
func TestAnalyzer(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), newAnalyzer(), "clinic", "store", "app")
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), newAnalyzer(), "tags")
}

func TestNamingFlags(t *testing.T) {
	a := newAnalyzer()
	for name, value := range map[string]string{"tableprefix": "t_", "singulartable": "true"} {
		if err := a.Flags.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	analysistest.Run(t, analysistest.TestData(), a, "names")
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"name", "nmae", 1}, {"name", "nane", 1}, {"serialiser", "serializer", 1},
		{"rowseal", "rowsael", 1}, {"rowseal", "row_seal", 1}, {"ward", "name", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
