package integration

// cli_test.go owns the command line tool against servers: it is built and run as an operator does.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	mysqldriver "gorm.io/driver/mysql"
	postgresdriver "gorm.io/driver/postgres"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/ephemeral"
	"github.com/rowseal/rowseal/integration/internal/mariatest"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/rotation"
)

// buildTool is the program that operators run. It is built once for all tests.
func buildTool(t *testing.T) string {
	t.Helper()
	program, err := builtTool()
	ok(t, err)
	return program
}

var builtTool = sync.OnceValues(func() (program string, err error) {
	dir, err := os.MkdirTemp("", "rowseal-tool-")
	if err != nil {
		return "", err
	}
	ephemeral.AtExit(func() error { return os.RemoveAll(dir) })
	program = filepath.Join(dir, "rowseal")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../cmd/rowseal" // which has a workspace of its own
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return program, nil
})

// TestCommandLineRotates: rows of a running application's database move to another key of AWS by a rotator that may only re-encrypt. A change of the
// tool's source alone does not reach the cache of test results: use -count=1.
func TestCommandLineRotates(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		program := buildTool(t)
		var url string
		var dialector gorm.Dialector
		switch kind {
		case postgres:
			url = pgtest.DSN(t)
			dialector = postgresdriver.Open(url)
		case mariadb:
			url = mariatest.Config(t).FormatDSN()
			dialector = mysqldriver.Open(url + "?parseTime=true")
			if strings.Contains(url, "?") {
				dialector = mysqldriver.Open(url + "&parseTime=true")
			}
		}
		fake := awskmstest.New(t, awskmstest.Config{})
		arns := map[int]string{1: fake.CreateKey(), 2: fake.CreateKey()}
		keyring := func(current int, numbers ...int) *kmskey.Keyring {
			cfg := kmskey.Config{Current: current, Namespace: "cli/test", Versions: map[int]kmskey.Version{}}
			for _, n := range numbers {
				p, err := awskms.New(fake.Client(), arns[n], awskms.Config{})
				ok(t, err)
				cfg.Versions[n] = kmskey.Version{Provider: p, Constants: map[int]map[string]string{2: {"environment": "test"}}[n]}
			}
			keys, err := kmskey.New(cfg)
			ok(t, err)
			return keys
		}
		app := func(keys *kmskey.Keyring) *gorm.DB {
			db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
			ok(t, err)
			plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&RotDoc{}}})
			ok(t, err)
			ok(t, db.Use(plugin))
			pool, err := db.DB()
			ok(t, err)
			t.Cleanup(func() { _ = pool.Close() })
			return db
		}
		db := app(keyring(1, 1, 2))
		ok(t, db.AutoMigrate(&RotDoc{}))
		const rows = 150
		var docs []RotDoc
		for i := range rows {
			docs = append(docs, RotDoc{Ward: "w", Name: fmt.Sprint("name ", i), Phone: new(fmt.Sprint("phone ", i))})
		}
		ok(t, db.Create(&docs).Error)
		text, err := rowseal.Manifest(db)
		ok(t, err)
		manifest := filepath.Join(t.TempDir(), "rowseal.json")
		ok(t, os.WriteFile(manifest, text, 0o600))

		who := fake.NewPrincipal("rotator", "kms:ReEncryptFrom", "kms:ReEncryptTo").Credentials()
		run := func(code int, args ...string) (stdout, stderr string) {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), program, args...)
			cmd.Env = append(without(os.Environ(), "DATABASE_URL"), "DATABASE_URL="+url, "ROWSEAL_MANIFEST="+manifest, "ROWSEAL_KEY_1=awskms:"+arns[1], "ROWSEAL_KEY_2=awskms:"+arns[2], "ROWSEAL_CURRENT=2",
				"AWS_ENDPOINT_URL_KMS="+fake.URL(), "AWS_REGION="+fake.Region(), "AWS_ACCESS_KEY_ID="+who.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+who.SecretAccessKey, "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
				"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
			var out, problems bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &problems
			err := cmd.Run()
			if exit, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			} else if got := cmd.ProcessState.ExitCode(); got != code {
				t.Fatalf("%v ended with %d\n%s%s%v", args, got, &out, &problems, exit)
			}
			return out.String(), problems.String()
		}
		if _, problems := run(1, "rotate"); !strings.Contains(problems, "rowseal migrate up") {
			t.Error(problems)
		}
		run(0, "migrate", "up")
		fake.ResetCounts()
		dry, _ := run(0, "rotate", "--dry-run", "--rate", "100")
		if !strings.Contains(dry, "300, 1 for each key, as tried on one row") || !strings.Contains(dry, "would stay in the key service") || fake.TotalCalls() != 1 {
			t.Errorf("%s%d calls", dry, fake.TotalCalls())
		}
		out, problems := run(0, "rotate", "--json")
		var reports []rotation.Report
		ok(t, json.Unmarshal([]byte(out), &reports))
		if len(reports) != 1 || reports[0].Rewrapped != 2*rows || reports[0].Exposed != 0 || reports[0].Calls != 2*rows || fake.Calls("Decrypt") != 0 {
			t.Errorf("%s", out)
		}
		status, _ := run(0, "status")
		if !strings.Contains(status, arns[2]) || strings.Contains(status, arns[1]) {
			t.Error(status)
		}
		t.Logf("\n%s\n%s\n%s", dry, problems, status)
		var got []RotDoc
		ok(t, app(keyring(2, 2)).Order("id").Find(&got).Error)
		for i, d := range got {
			if d.Name != fmt.Sprint("name ", i) || *d.Phone != fmt.Sprint("phone ", i) {
				t.Fatalf("%+v", d)
			}
		}
		if len(got) != rows {
			t.Errorf("%d rows", len(got))
		}
	}, postgres, mariadb)
}
