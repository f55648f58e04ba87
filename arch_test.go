package rowseal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/rowseal/rowseal"

// imports is the import table: what each package of this module may import beside the standard library, and of nested modules those that
// stand here. Arrows point inward. A package of ours is named by its folder; "x/..." allows x and all below it. What is not listed is an error, so that a new
// package, and a new dependency, is a decision. docs/architecture.md draws it.
var imports = map[string]struct{ code, tests []string }{
	".": {
		code: []string{"field", "internal/row", "internal/sqltext", "kmskey", "kmskey/branchkey", "gorm.io/gorm", "gorm.io/gorm/callbacks", "gorm.io/gorm/clause",
			"gorm.io/gorm/logger", "gorm.io/gorm/schema"},
		tests: []string{".", "kmskey/localkey", "kmskey/kmskeytest", "gorm.io/gorm/logger", "gorm.io/gorm/utils/tests"},
	},
	"internal/row": {
		code:  []string{"field", "kmskey", "internal/canon", "internal/keycache", "gorm.io/gorm", "gorm.io/gorm/clause", "gorm.io/gorm/schema"},
		tests: []string{"internal/row", "kmskey/localkey", "kmskey/kmskeytest", "gorm.io/gorm/utils/tests"},
	},
	"internal/walk": {tests: []string{"internal/walk"}},
	"rotation": {
		code:  []string{"internal/row", "internal/walk", "kmskey", "gorm.io/gorm", "golang.org/x/time/rate"},
		tests: []string{"rotation", "kmskey/localkey", "kmskey/kmskeytest"},
	},
	"internal/expand":  {tests: []string{"internal/expand"}},
	"internal/canon":   {tests: []string{"internal/canon"}},
	"internal/sqltext": {tests: []string{"internal/sqltext"}},

	"migrations": {code: []string{"gorm.io/gorm"}, tests: []string{"migrations", "gorm.io/gorm/utils/tests"}},

	"field": {code: []string{"internal/canon", "internal/expand", "golang.org/x/text/cases", "golang.org/x/text/unicode/norm"}, tests: []string{"field"}},

	"kmskey":                    {code: []string{"internal/canon", "internal/expand"}, tests: []string{"kmskey", "field"}},
	"kmskey/internal/localwrap": {code: []string{"internal/canon", "internal/expand"}, tests: []string{"kmskey/internal/localwrap"}},
	"internal/keycache":         {tests: []string{"internal/keycache"}},
	"kmskey/branchkey": {
		code:  []string{"kmskey", "internal/keycache", "kmskey/internal/localwrap"},
		tests: []string{"kmskey/branchkey", "kmskey", "kmskey/kmskeytest", "kmskey/localkey"},
	},
	"kmskey/localkey":     {code: []string{"kmskey", "kmskey/internal/localwrap"}, tests: []string{"kmskey/localkey", "kmskey/kmskeytest"}},
	"kmskey/kmskeytest":   {code: []string{"kmskey"}, tests: []string{"kmskey/kmskeytest", "kmskey/localkey"}},
	"kmskey/kmslog":       {code: []string{"kmskey"}, tests: []string{"kmskey/kmslog", "kmskey/localkey"}},
	"kmskey/vaulttransit": {code: []string{"kmskey"}, tests: []string{"kmskey/vaulttransit", "kmskey/kmskeytest"}},
	"kmskey/awskms": {
		code: []string{"kmskey", "github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/aws/retry",
			"github.com/aws/aws-sdk-go-v2/service/kms/...", "github.com/aws/smithy-go/..."},
		tests: []string{"kmskey/awskms/...", "kmskey/kmskeytest", "github.com/aws/aws-sdk-go-v2/aws/transport/http"},
	},
	"kmskey/awskms/awskmstest": {
		code:  []string{"github.com/aws/aws-sdk-go-v2/aws/...", "github.com/aws/aws-sdk-go-v2/service/kms/..."},
		tests: []string{"kmskey/awskms/awskmstest", "github.com/aws/smithy-go"},
	},
	// Modules of their own.
	"pgcopy": {
		code: []string{".", "internal/row", "github.com/jackc/pgx/v5/...", "gorm.io/gorm", "gorm.io/gorm/clause", "gorm.io/gorm/schema"},
	},
	"rotation/riverjob": {
		code: []string{"rotation", "github.com/jackc/pgx/v5", "github.com/riverqueue/river/..."},
	},
	"kmskey/azurekv": {
		code: []string{"kmskey", "github.com/Azure/azure-sdk-for-go/sdk/azcore/...", "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"},
		tests: []string{"kmskey/azurekv", "kmskey/kmskeytest", "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
			"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"},
	},
	"kmskey/kmsurl": {
		code: []string{"kmskey", "kmskey/awskms", "kmskey/azurekv", "kmskey/gcpkms", "kmskey/localkey", "kmskey/vaulttransit",
			"cloud.google.com/go/kms/apiv1", "google.golang.org/api/option", "google.golang.org/grpc/...",
			"github.com/Azure/azure-sdk-for-go/sdk/azcore", "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
			"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys",
			"github.com/aws/aws-sdk-go-v2/aws", "github.com/aws/aws-sdk-go-v2/config", "github.com/aws/aws-sdk-go-v2/service/kms",
			"github.com/openbao/openbao/api/v2"},
		tests: []string{"kmskey/kmsurl", "kmskey/awskms/awskmstest", "kmskey/kmskeytest", "cloud.google.com/go/kms/apiv1/kmspb",
			"github.com/Azure/azure-sdk-for-go/sdk/azcore/...",
			"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake", "google.golang.org/protobuf/types/known/wrapperspb"},
	},
	"kmskey/gcpkms": {
		code: []string{"kmskey", "cloud.google.com/go/kms/apiv1/...", "github.com/googleapis/gax-go/v2/...", "google.golang.org/grpc/...",
			"google.golang.org/protobuf/proto", "google.golang.org/protobuf/types/known/wrapperspb"},
		tests: []string{"kmskey/gcpkms", "kmskey/kmskeytest", "google.golang.org/api/option", "google.golang.org/genproto/googleapis/rpc/errdetails",
			"google.golang.org/protobuf/encoding/protojson"},
	},
	"kmskey/kmsotel": {
		code: []string{"kmskey", "go.opentelemetry.io/otel", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes",
			"go.opentelemetry.io/otel/metric/...", "go.opentelemetry.io/otel/trace/..."},
		tests: []string{"kmskey/kmsotel", "kmskey/localkey", "go.opentelemetry.io/otel/sdk/..."},
	},
}

// TestImports reads the sources itself: a result of the go command would be answered from the cache of tests when they change.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range goFiles(t) {
		pkg := path.Dir(file)
		rule, listed := imports[pkg]
		if !listed {
			if !seen[pkg] {
				t.Errorf("package %s is not in the import table; add it, and what it may import", pkg)
			}
			seen[pkg] = true
			continue
		}
		seen[pkg] = true
		allowed := rule.code
		if strings.HasSuffix(file, "_test.go") {
			allowed = append(slices.Clone(rule.code), rule.tests...)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, ".") {
				continue // the standard library
			}
			if name == module {
				name = "."
			}
			name = strings.TrimPrefix(name, module+"/")
			if !slices.ContainsFunc(allowed, func(pattern string) bool { return matches(pattern, name) }) {
				t.Errorf("%s imports %s, which the import table does not allow in package %s", file, name, pkg)
			}
		}
	}
	for pkg := range imports {
		if !seen[pkg] {
			t.Errorf("the import table lists package %s, which is gone", pkg)
		}
	}
}

func matches(pattern, name string) bool {
	prefix, all := strings.CutSuffix(pattern, "/...")
	return name == prefix || all && strings.HasPrefix(name, prefix+"/")
}

// goFiles lists the Go files of the root module, whatever their build tags. Nested modules have rules of their own, but for those that the
// table lists.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != ".":
			_, listed := imports[filepath.ToSlash(file)]
			if _, err := os.Stat(filepath.Join(file, "go.mod")); err == nil && !listed || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" {
				return filepath.SkipDir
			}
		case strings.HasSuffix(file, ".go"):
			files = append(files, filepath.ToSlash(file))
		}
		return nil
	})
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files of Go, %v", len(files), err)
	}
	return files
}
