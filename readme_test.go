package rowseal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	marker  = regexp.MustCompile(`^\s*// #region (\w+)$`)
	// refusal is a case of TestREADME_refusals, and a row of README.md's table.
	refusal = regexp.MustCompile("(?m)^\t\t\\{`(.*)`, rowseal\\.Err")
	row     = regexp.MustCompile("(?m)^\\| `(db\\..*?|clause\\..*?)` \\| .* \\| .* \\|$")
)

// TestREADME_code holds every Go block of README.md and docs/key-services.md to a region of code that is compiled and run in examples/ or, over a vendor's own
// client, in integration/transit, kmskey/gcpkms, kmskey/azurekv and kmskey/kmsurl, and the other way round.
func TestREADME_code(t *testing.T) {
	regions := map[string]string{} // name by code
	sources, err := filepath.Glob("examples/*/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal("no examples", err)
	}
	for _, source := range append(sources, "examples/readme_test.go", "integration/transit/clients_test.go", "kmskey/gcpkms/readme_test.go", "kmskey/azurekv/readme_test.go", "kmskey/kmsurl/readme_test.go") {
		for code, name := range regionsOf(t, source) {
			regions[code] = source + " " + name
		}
	}
	if len(regions) < 8 {
		t.Fatalf("%d regions", len(regions))
	}
	shown := map[string]bool{}
	for _, page := range []string{"README.md", "docs/key-services.md"} {
		for _, b := range goBlock.FindAllStringSubmatch(read(t, page), -1) {
			code := strings.TrimSpace(b[1])
			if _, ok := regions[code]; !ok {
				t.Errorf("this block of %s is no region of code that runs:\n%s", page, b[1])
			}
			shown[code] = true
		}
	}
	for code, region := range regions {
		if !shown[code] {
			t.Errorf("no page shows the region %s", region)
		}
	}
}

// TestREADME_refusals holds the table of what is refused to the statements that examples/readme_test.go tries.
func TestREADME_refusals(t *testing.T) {
	tried := map[string]bool{}
	for _, m := range refusal.FindAllStringSubmatch(read(t, "examples/readme_test.go"), -1) {
		tried[m[1]] = true
	}
	shown := row.FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(shown) == 0 || len(tried) != len(shown) {
		t.Errorf("%d refusals are tried, and README.md shows %d", len(tried), len(shown))
	}
	for _, m := range shown {
		if !tried[m[1]] {
			t.Errorf("README.md says that this is refused, and nothing tries it: %s", m[1])
		}
		delete(tried, m[1])
	}
	for statement := range tried {
		t.Errorf("README.md has no row for %s", statement)
	}
}

var (
	link      = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	namedTest = regexp.MustCompile("`(Test[A-Za-z0-9_]+)(\\*?)`")
)

// TestDocs_links follows every link of a page to a file of this repository.
func TestDocs_links(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	decisions, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(decisions) == 0 {
		t.Fatal("no decisions", err)
	}
	checked := 0
	for _, page := range append(append(pages, decisions...), "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			checked++
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
	if checked < 10 {
		t.Fatalf("%d links", checked)
	}
}

// TestArchitecture_names_tests_that_exist holds the table of promises to the tests: "TestX", or "TestX*" for all that begin so.
func TestArchitecture_names_tests_that_exist(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, "_test.go") {
			code.WriteString(read(t, file))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := namedTest.FindAllStringSubmatch(read(t, "docs/architecture.md"), -1)
	if len(names) < 20 {
		t.Fatalf("%d tests are named", len(names))
	}
	for _, m := range names {
		declared := "\nfunc " + m[1]
		if m[2] == "" {
			declared += "("
		}
		if !strings.Contains(code.String(), declared) {
			t.Errorf("docs/architecture.md names %s, and there is none", m[1]+m[2])
		}
	}
}

// regionsOf reads what stands between "// #region name" and "// #endregion", without the indentation of the marker.
func regionsOf(t *testing.T, file string) map[string]string {
	t.Helper()
	regions := map[string]string{}
	name, indent := "", ""
	var code []string
	for line := range strings.Lines(read(t, file)) {
		line = strings.TrimRight(line, "\r\n")
		switch m := marker.FindStringSubmatch(line); {
		case m != nil && name != "":
			t.Fatalf("%s: region %s begins inside %s", file, m[1], name)
		case m != nil:
			name, code = m[1], nil
			indent = line[:len(line)-len(strings.TrimLeft(line, "\t"))]
		case strings.TrimSpace(line) == "// #endregion":
			if name == "" {
				t.Fatalf("%s: the end of a region that never began", file)
			}
			regions[strings.TrimSpace(strings.Join(code, "\n"))] = name
			name = ""
		case name != "":
			code = append(code, strings.TrimPrefix(line, indent))
		}
	}
	if name != "" {
		t.Fatalf("%s: region %s has no end", file, name)
	}
	return regions
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
