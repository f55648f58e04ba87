package integration

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// TestExampleAWSKMS builds examples/awskms and runs it as its readers do, once with its own fake and once with the AWS SDK's
// environment, which leads to a fake here. A change of the example's source alone does not reach the cache of test results: use
// -count=1.
func TestExampleAWSKMS(t *testing.T) {
	program := filepath.Join(t.TempDir(), "awskms")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../examples/awskms")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	run := func(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(without(os.Environ(), "DATABASE_URL", "KMS_KEY_ID", "KMS_NEXT_KEY_ID"), env...)
		var out, problems bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &problems
		err := cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return out.String(), problems.String(), exit.ExitCode()
		}
		ok(t, err)
		return out.String(), problems.String(), 0
	}

	t.Run("without a database it says what to set", func(t *testing.T) {
		stdout, stderr, code := run(t, nil)
		if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "DATABASE_URL is not set; set it to") {
			t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	})

	common := []string{
		"KMS calls   100 Encrypt\n   statements  1 SELECT, 1 BEGIN, 1 INSERT, 1 COMMIT\n",
		"KMS calls   100 Decrypt\n   statements  1 SELECT\n",
		`{"model_id":"1","model_name":"Patient"}`,
		"configured  alias/app\n",
		"KMS calls   1 ReEncrypt",
		"envelope    v1:... -> v2:...\n",
		`read again  "Patient 1"`,
	}
	t.Run("with its own fake", func(t *testing.T) {
		dsn := pgtest.DSN(t)
		stdout, stderr, code := run(t, []string{"DATABASE_URL=" + dsn, "KMS_KEY_ID=alias/never-asked"}, "-fake")
		says(t, stdout, stderr, code, append(common, "a FAKE AWS KMS", "row 101 is stored", "access denied", "allow this principal kms:Decrypt")...)
	})
	t.Run("with a key from the environment", func(t *testing.T) {
		dsn := pgtest.DSN(t)
		server := awskmstest.New(t, awskmstest.Config{})
		first, second := server.CreateKey(), server.CreateKey()
		ok(t, server.CreateAlias("alias/app", first))
		who := server.NewPrincipal("app", "kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo").Credentials()
		stdout, stderr, code := run(t, []string{
			"DATABASE_URL=" + dsn, "KMS_KEY_ID=alias/app", "KMS_NEXT_KEY_ID=" + second,
			"AWS_ENDPOINT_URL_KMS=" + server.URL(), "AWS_REGION=" + server.Region(),
			"AWS_ACCESS_KEY_ID=" + who.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + who.SecretAccessKey, "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
			"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		})
		says(t, stdout, stderr, code, append(common, "AWS KMS in region "+server.Region()+", key alias/app", first, second, "shown with the fake alone")...)
		if strings.Contains(stdout, "a FAKE AWS KMS") {
			t.Errorf("the fake answered:\n%s", stdout)
		}
		if n := server.Calls("Encrypt"); n != 100 {
			t.Errorf("the server saw %d Encrypt, want 100", n)
		}
		gone(t, dsn)
	})
}

func says(t *testing.T, stdout, stderr string, code int, phrases ...string) {
	t.Helper()
	t.Log("\n" + stdout)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, phrase := range phrases {
		if !strings.Contains(stdout, phrase) {
			t.Errorf("it does not say %q", phrase)
		}
	}
}

// gone checks that the example left nothing behind.
func gone(t *testing.T, dsn string) {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	ok(t, err)
	defer db.Close()
	var n int
	ok(t, db.QueryRow("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'rowseal_example_%'").Scan(&n))
	if n != 0 {
		t.Errorf("%d schemas are left", n)
	}
}

// without takes variables out of an environment.
func without(env []string, names ...string) (out []string) {
next:
	for _, e := range env {
		for _, name := range names {
			if strings.HasPrefix(e, name+"=") {
				continue next
			}
		}
		out = append(out, e)
	}
	return out
}

// TestExampleRotation runs examples/rotation with a Postgres database, so on River too.
func TestExampleRotation(t *testing.T) {
	dsn := pgtest.DSN(t)
	program := filepath.Join(t.TempDir(), "rotation")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../examples/rotation")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(without(os.Environ(), "DATABASE_URL"), "DATABASE_URL="+dsn)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	if err != nil && code == 0 {
		t.Fatal(err)
	}
	says(t, out.String(), problems.String(), code, "On River, in Postgres", "3. A worker stops: ", " of 2000 keys are moved, and the run is running\n4. The next worker takes the lanes over\n",
		"  rewrapped            2000\n", `read again: "Patient 2000", under v2:…`)
	gone(t, dsn)
}
