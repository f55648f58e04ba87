package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/*.golden and testdata/vault anew")

// TestMain lets the test binary be the tool, for TestProcess.
func TestMain(m *testing.M) {
	if os.Getenv("ROWSEAL_TEST_PROCESS") != "" {
		main()
	}
	os.Exit(m.Run())
}

type result struct {
	stdout, stderr string
	code           int
}

// rowseal runs the tool in this process. Pauses take no time.
func rowseal(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	a := &app{ctx: t.Context(), stdout: &stdout, sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
	code := run(a, args, &stderr)
	return result{stdout.String(), stderr.String(), code}
}

// prints is rowseal where it must succeed.
func prints(t *testing.T, args ...string) string {
	t.Helper()
	r := rowseal(t, args...)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("rowseal %s: %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, got)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHelp: what a newcomer sees first.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"policy"}, {"policy", "aws"}, {"policy", "vault"}, {"policy", "gcp"}, {"policy", "azure"}, {"provision", "aws"}, {"rotate"}, {"status"}, {"verify"}, {"index", "advise"}, {"migrate", "down"}} {
		golden(t, filepath.Join("help", strings.Join(append([]string{"rowseal"}, args...), "-")+".golden"), prints(t, append(args, "--help")...))
	}
	if prints(t) != prints(t, "--help") {
		t.Error("without arguments there is something else than help")
	}
}

// TestProcess: the exit codes, and what goes where.
func TestProcess(t *testing.T) {
	self, err := os.Executable()
	must(t, err)
	run := func(env []string, args ...string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, self, args...)
		cmd.Env = append(append(os.Environ(), "ROWSEAL_TEST_PROCESS=1"), env...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
			t.Fatal(err)
		}
		return result{string(out), stderr.String(), cmd.ProcessState.ExitCode()}
	}
	if r := run(nil, "policy", "aws", "--role", "writer", "--key", someKey); r.code != 0 || !strings.HasPrefix(r.stdout, "{") || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	if r := run(nil, "policy", "aws", "--role", "boss", "--key", someKey); r.code != 2 || r.stdout != "" || !strings.HasPrefix(r.stderr, "rowseal policy aws: --role \"boss\"") {
		t.Errorf("%+v", r)
	}
	none := []string{"AWS_ACCESS_KEY_ID=", "AWS_PROFILE=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true"}
	if r := run(none, "provision", "aws", "--app", "clinic", "--env", "production", "--region", "eu-central-1"); r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "no credentials were found") {
		t.Errorf("%+v", r)
	}
}

// TestUsage: each mistake has its own words, exit code 2, and nothing on standard output.
func TestUsage(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	aws := func(args ...string) []string { return append([]string{"policy", "aws"}, args...) }
	writerOf := func(args ...string) []string { return append(aws("--role", "writer", "--key", someKey), args...) }
	keyPolicy := func(args ...string) []string { return append(aws("--kind", "key", "--key", someKey), args...) }
	provision := func(args ...string) []string {
		return append([]string{"provision", "aws", "--env", "production", "--account", "111122223333"}, args...)
	}
	const user = "arn:aws:iam::111122223333:role/clinic"
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"nonsense"}, "unexpected argument nonsense"},
		{[]string{"policy"}, "expected one of"},
		{aws(), `--role "": expected writer`},
		{aws("--role", "boss", "--key", someKey), `--role "boss": expected writer`},
		{aws("--role", "writer"), "--key is missing"},
		{aws("--role", "writer", "--key", "alias/clinic"), "is an alias, which IAM does not look at; give the key's ARN"},
		{aws("--role", "writer", "--key", "arn:aws:kms:eu-central-1:111122223333:alias/clinic"), "is an alias"},
		{aws("--role", "writer", "--key", "arn:aws:kms:eu-central-1:1111:key/1234abcd-12ab-34cd-56ef-1234567890ab"), "expected the ARN of a key"},
		{aws("--role", "writer", "--key", "1234abcd-12ab-34cd-56ef-1234567890ab"), "expected the ARN of a key"},
		{writerOf("--from", someKey), "belong to --role rotator"},
		{writerOf("--alias", "alias/clinic"), "--alias belongs to --role administrator"},
		{writerOf("--writer", user), "belong to --kind key"},
		{writerOf("--format", "yaml"), `--format must be one of "json","terraform" but got "yaml"`},
		{writerOf("--context", "environment"), "expected \"<key>=<value>\""},
		{writerOf("--context", "environment="), "expected a name and a value"},
		{writerOf("--context", "aws:env=x"), "which AWS reserves"},
		{writerOf("--context", "model_name=Patient"), "give the models with --model"},
		{writerOf("--context", "user=${aws:username}"), "IAM would take for a variable"},
		{writerOf("--context", "a-b=1", "--context", "aB=2"), "tell it from the others"},
		{writerOf("--context-key", "tenant_*"), "without wildcards"},
		{aws("--role", "rotator", "--key", someKey, "--from-context", "staging"), "expected a constant such as environment=staging, or none"},
		{aws("--role", "administrator", "--key", someKey, "--alias", "clinic"), "expected a name such as alias/clinic/production"},
		{writerOf("--model", strings.Repeat("x", 6000)), "and AWS takes 6144: name fewer models"},
		{keyPolicy("--model", strings.Repeat("x", 20000), "--writer", user), "and AWS takes 32768"},
		{keyPolicy("--role", "writer"), "--role belongs to --kind identity"},
		{keyPolicy("--account", "444455556666"), "is not the account of --key"},
		{aws("--kind", "key"), "--account is missing"},
		{keyPolicy("--writer", "clinic"), "expected the ARN of an IAM role or user"},
		{keyPolicy("--writer", "arn:aws:iam::111122223333:root"), "expected the ARN of an IAM role or user"},
		{keyPolicy("--writer", "*"), "expected the ARN of an IAM role or user"},
		{keyPolicy("--writer", "arn:aws-cn:iam::111122223333:role/clinic"), "is in partition aws"},
		{keyPolicy("--account-may", "nothing"), "needs an --administrator"},
		{keyPolicy("--account-may", "all"), "expected use, manage or nothing"},
		{[]string{"policy", "vault", "--role", "writer"}, "missing flags: --key=NAME"},
		{[]string{"policy", "vault", "--role", "writer", "--key", "app/../sys"}, "expected the name of a transit key"},
		{[]string{"policy", "vault", "--role", "writer", "--key", "app", "--mount", "/transit"}, "without slashes around it"},
		{[]string{"policy", "gcp", "--role", "writer", "--key", "k", "--member", "user:a@b.c"}, "expected projects/"},
		{[]string{"policy", "gcp", "--role", "writer", "--key", someCryptoKey, "--member", "allUsers"}, "expected a kind and a name"},
		{[]string{"policy", "azure", "--role", "writer", "--vault", "acme", "--key", "rows"}, "expected a resource id"},
		{[]string{"policy", "azure", "--role", "writer", "--vault", someVault, "--key", "rows", "--format", "az"}, "--principal belongs to --format az"},
		{provision(), "missing flags: --app=NAME"},
		{provision("--app", "clinic"), "--region is missing"},
		{provision("--app", "clinic/x", "--region", "eu-central-1"), "expected letters, digits"},
		{provision("--app", "aws", "--region", "eu-central-1"), "reserved for AWS"},
		{provision("--app", "clinic", "--region", "eu-central"), "expected a region"},
		{provision("--app", "clinic", "--region", "eu-central-1", "--region", "eu-central-1"), "is there twice"},
		{provision("--app", "clinic", "--region", "cn-north-1", "--writer", user), "is in partition aws-cn"},
	} {
		r := rowseal(t, tt.args...)
		if r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("rowseal %s: %d\n%s%s", strings.Join(tt.args, " "), r.code, r.stdout, r.stderr)
		}
	}
	if got := rowseal(t, "policy", "aws", "--role", "boss", "--key", someKey).stderr; !strings.HasSuffix(got, "\nSee rowseal policy aws --help\n") {
		t.Errorf("%q", got)
	}
}

const (
	someKey       = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	someOldKey    = "arn:aws:kms:eu-central-1:111122223333:key/5678abcd-12ab-34cd-56ef-1234567890ab"
	someCryptoKey = "projects/clinic-1/locations/europe-west3/keyRings/rows/cryptoKeys/clinic"
	someVault     = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/clinic/providers/Microsoft.KeyVault/vaults/clinic-rows"
)

// TestWriteErrors: a closed pipe is a failure.
func TestWriteErrors(t *testing.T) {
	for _, args := range [][]string{
		{"policy", "aws", "--role", "writer", "--key", someKey},
		{"policy", "aws", "--role", "writer", "--key", someKey, "--format", "terraform"},
		{"policy", "vault", "--role", "writer", "--key", "app"},
		{"policy", "gcp", "--role", "writer", "--key", someCryptoKey, "--member", "user:a@b.c"},
		{"policy", "azure", "--role", "writer", "--vault", someVault, "--key", "rows"},
	} {
		var stderr bytes.Buffer
		if code := run(&app{ctx: t.Context(), stdout: brokenPipe{}}, args, &stderr); code != 1 || !strings.Contains(stderr.String(), "io: read/write on closed pipe") {
			t.Errorf("rowseal %s: %d %s", strings.Join(args, " "), code, &stderr)
		}
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
