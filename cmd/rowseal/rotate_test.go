package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	root "github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

type (
	Patient struct {
		ID       uint64
		TenantID string
		Name     string  `gorm:"serializer:rowseal"`
		Phone    *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
		root.RowKey
		PhoneKey root.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
	}
	Visit struct {
		Clinic string `gorm:"primaryKey"`
		N      int    `gorm:"primaryKey;autoIncrement:false"`
		Note   string `gorm:"serializer:rowseal"`
		root.RowKey
	}
	Computed struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal"`
		root.RowKey
	}
)

func (c *Computed) KMSContext(int) ([]kmskey.Pair, error) {
	return []kmskey.Pair{{Name: "computed", Value: kmskey.Uint(c.ID)}}, nil
}

// clinic is an application's database with rows under version 1, its manifest, and the key of version 2.
type clinic struct {
	file, manifest, next string
	keys                 *kmskey.Keyring
	models               []any
}

const canary = "Ada Canary"

func newClinic(t *testing.T, patients int, models ...any) *clinic {
	t.Helper()
	dir := t.TempDir()
	c := &clinic{file: filepath.Join(dir, "clinic.db"), manifest: filepath.Join(dir, "rowseal.json"), next: filepath.Join(dir, "next.key")}
	next, err := localkey.Generate(c.next)
	must(t, err)
	c.keys, err = kmskey.New(kmskey.Config{Current: 1, Namespace: "clinic/test", Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}, 2: {Provider: next, Constants: map[string]string{"environment": "test"}}}})
	must(t, err)
	if c.models = models; models == nil {
		c.models = []any{root.Model{Value: &Patient{}, Context: root.Columns("tenant_id")}, &Visit{}}
	}
	db, shut := c.app(t, c.keys)
	defer shut()
	for _, model := range c.models {
		if m, ok := model.(root.Model); ok {
			model = m.Value
		}
		must(t, db.AutoMigrate(model))
	}
	text, err := root.Manifest(db)
	must(t, err)
	must(t, os.WriteFile(c.manifest, text, 0o600))
	if models != nil {
		return c
	}
	var rows []Patient
	for i := range patients {
		rows = append(rows, Patient{TenantID: fmt.Sprint("tenant ", i%3), Name: fmt.Sprint(canary, " ", i), Phone: new(fmt.Sprint("phone ", i))})
	}
	must(t, db.CreateInBatches(&rows, 500).Error)
	must(t, db.Create([]Visit{{Clinic: "a", N: 1, Note: "x"}, {Clinic: "b", N: 1, Note: "y"}}).Error)
	_, err = migrations.Up(t.Context(), db)
	must(t, err)
	return c
}

// app is the application.
func (c *clinic) app(t *testing.T, keys *kmskey.Keyring) (*gorm.DB, func()) {
	t.Helper()
	db, err := gorm.Open(sqlite.Open("file:"+c.file+"?_pragma=busy_timeout(10000)"), &gorm.Config{})
	must(t, err)
	plugin, err := root.New(keys, root.Config{Models: c.models})
	must(t, err)
	must(t, db.Use(plugin))
	pool, err := db.DB()
	must(t, err)
	return db, func() { must(t, pool.Close()) }
}

// args are a command's, with database and manifest.
func (c *clinic) args(verb string, more ...string) []string {
	return append([]string{verb, "--database", "sqlite:" + c.file, "--manifest", c.manifest}, more...)
}

func (c *clinic) keyArgs() []string {
	return []string{"--key", "1=insecure-test-key", "--key", "2=local:file:" + c.next, "--current", "2"}
}

func (c *clinic) rotate(more ...string) []string {
	return c.args("rotate", append(c.keyArgs(), more...)...)
}

var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{8}-\d{6}-[0-9a-f]{8}`), "RUN"},
	{regexp.MustCompile(`(?m)^\w+: \d+ of \d+ keys, (running|\d+/s.*) \(run \S+\)\n`), ""}, // where it takes long enough
	{regexp.MustCompile(`(took +)\S+`), "${1}TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "MOMENT"},
	{regexp.MustCompile(`("seconds": )[0-9.e-]+`), "${1}0"},
	{regexp.MustCompile(`("started_by": ")[^"]+`), "${1}HOST/PID"},
	{regexp.MustCompile(`(MOMENT +)(MOMENT +)\S+/\d+ +`), "${1}${2}HOST/PID  "},
	{regexp.MustCompile(`\d+/s(, \S+ left)?`), "N/s"},
	{regexp.MustCompile(`local:[0-9a-f]{8,}`), "local:KEY"},
}

func (c *clinic) normal(text string) string {
	text = strings.ReplaceAll(text, filepath.Dir(c.file), "DIR")
	for _, v := range volatile {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return text
}

// readable checks that the application opens everything with version 2 alone.
func (c *clinic) readable(t *testing.T, patients int) {
	t.Helper()
	next, err := localkey.FromFile(c.next)
	must(t, err)
	keys, err := kmskey.New(kmskey.Config{Namespace: "clinic/test", Versions: map[int]kmskey.Version{2: {Provider: next, Constants: map[string]string{"environment": "test"}}}})
	must(t, err)
	db, shut := c.app(t, keys)
	defer shut()
	var rows []Patient
	must(t, db.Order("id").Find(&rows).Error)
	var visits []Visit
	must(t, db.Find(&visits).Error)
	for i, r := range rows {
		if r.Name != fmt.Sprint(canary, " ", i) || *r.Phone != fmt.Sprint("phone ", i) {
			t.Fatalf("row %d: %+v", i, r)
		}
	}
	if len(rows) != patients || len(visits) != 2 {
		t.Errorf("%d patients, %d visits", len(rows), len(visits))
	}
}

// TestRotate: the whole way of an operator, and what each step prints.
func TestRotate(t *testing.T) {
	c := newClinic(t, 700)
	var all strings.Builder
	step := func(name string, args []string) {
		t.Helper()
		r := rowseal(t, args...)
		all.WriteString(r.stdout + r.stderr)
		if r.code != 0 {
			t.Errorf("%s: %d", name, r.code)
		}
		text := c.normal(r.stdout + "--- standard error ---\n" + r.stderr)
		if strings.HasSuffix(name, "-runs") {
			text = regexp.MustCompile("  +").ReplaceAllString(text, "  ") // columns are as wide as the host's name
		}
		golden(t, filepath.Join("rotate", name+".golden"), text)
	}
	step("1-status", c.args("status"))
	step("2-dry-run", c.rotate("--dry-run", "--rate", "20"))
	step("3-dry-run-json", c.rotate("--dry-run", "--json", "--model", "patients", "--price", "0.3"))
	if runs := prints(t, "runs", "--database", "sqlite:"+c.file); strings.Count(runs, "\n") != 1 {
		t.Errorf("a dry run left\n%s", runs)
	}
	step("4-rotate", c.rotate())
	step("5-status", c.args("status"))
	step("6-again-json", c.rotate("--json", "--quiet"))
	step("7-status-json", c.args("status", "--json", "--model", "Visit"))
	step("8-runs", []string{"runs", "--database", "sqlite:" + c.file})
	var runs []rotation.Run
	must(t, json.Unmarshal([]byte(prints(t, "runs", "--database", "sqlite:"+c.file, "--json")), &runs))
	if len(runs) != 4 {
		t.Fatalf("%+v", runs)
	}
	step("9-report", []string{"report", "--database", "sqlite:" + c.file, runs[3].ID})
	c.readable(t, 700)
	down := []string{"migrate", "down", "--database", "sqlite:" + c.file}
	if r := rowseal(t, down...); r.code != 1 || !strings.Contains(r.stderr, "--discard loses it") {
		t.Errorf("%+v", r)
	}
	if out := prints(t, append(down, "--discard")...); out != "removed 1 ledger\n" {
		t.Error(out)
	}
	if strings.Contains(all.String(), canary) {
		t.Error("a value was printed")
	}
}

// TestRotateByFlags: one model without a manifest.
func TestRotateByFlags(t *testing.T) {
	c := newClinic(t, 20)
	args := append([]string{"rotate", "--quiet", "--database", "sqlite:" + c.file, "--table", "patients", "--name", "Patient", "--id", "id:integer", "--key-column", "encrypted_kms_key", "--key-column", "encrypted_kms_key_phone",
		"--context-column", "tenant_id:text", "--namespace", "clinic/test", "--constant", "2:environment=test"}, c.keyArgs()...)
	if out := prints(t, args...); !strings.Contains(out, "rewrapped            40") {
		t.Error(out)
	}
	if out := prints(t, append(c.rotate("--quiet", "--model", "Visit"), "--rate", "1000")...); !strings.Contains(out, "rewrapped            2") {
		t.Error(out)
	}
	c.readable(t, 20)
	args[len(args)-1] = "1" // back again, but the column holds text
	for i, arg := range args {
		if arg == "id:integer" {
			args[i] = "id:text"
		}
	}
	if r := rowseal(t, append(args, "--dry-run")...); r.code != 1 || !strings.Contains(r.stderr, "patients: none of the first keys could be moved for a trial") || !strings.Contains(r.stdout, "not known") {
		t.Errorf("%+v", r)
	}
	if r := rowseal(t, append(args, "--budget=-1")...); r.code != exitPartial || !strings.Contains(r.stdout, "failed               40") {
		t.Errorf("%+v", r)
	}
	// Keys in the environment.
	t.Setenv("DATABASE_URL", "sqlite:"+c.file)
	t.Setenv("ROWSEAL_MANIFEST", c.manifest)
	t.Setenv("ROWSEAL_KEY_1", "insecure-test-key")
	t.Setenv("ROWSEAL_KEY_2", "local:file:"+c.next)
	t.Setenv("ROWSEAL_CURRENT", "2")
	if out := prints(t, "rotate", "--quiet"); strings.Count(out, "done") != 2 {
		t.Error(out)
	}
	t.Setenv("ROWSEAL_MANIFEST", "")
	if out := prints(t, "status", "--table", "patients", "--name", "Patient", "--id", "id:integer"); !strings.Contains(out, "Patient  encrypted_kms_key  v2") {
		t.Error(out)
	}
}

// TestRotateSaysWhatToDo: what a new user meets.
func TestRotateSaysWhatToDo(t *testing.T) {
	c := newClinic(t, 3)
	text, err := os.ReadFile(c.manifest)
	must(t, err)
	torn := filepath.Join(t.TempDir(), "torn.json")
	must(t, os.WriteFile(torn, text[:len(text)/2], 0o600))
	bare := newClinic(t, 0, &Computed{})
	database := "sqlite:" + c.file
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no manifest":        {append([]string{"rotate", "--database", database}, c.keyArgs()...), 2, "--manifest is missing: in the application, write what rowseal.Manifest(db) gives to a file"},
		"no such manifest":   {append([]string{"rotate", "--database", database, "--manifest", "nowhere.json"}, c.keyArgs()...), 2, "nowhere.json: no such file"},
		"torn manifest":      {append([]string{"rotate", "--database", database, "--manifest", torn}, c.keyArgs()...), 2, "export it anew in the application"},
		"both":               {c.rotate("--table", "x"), 2, "--manifest has all of --table"},
		"half a model":       {append([]string{"rotate", "--database", database, "--table", "x"}, c.keyArgs()...), 2, "--table, --name and --id are needed"},
		"kind":               {append([]string{"rotate", "--database", database, "--table", "x", "--name", "X", "--id", "id:number"}, c.keyArgs()...), 2, `kind "number" is none of [integer text uuid bytes bool]`},
		"unknown model":      {c.rotate("--model", "Doctor"), 2, `--model "Doctor": the manifest has Patient, Visit`},
		"no keys":            {c.args("rotate"), 2, "--key is missing: list each version"},
		"no current":         {c.args("rotate", "--key", "1=insecure-test-key", "--key", "2=local:file:"+c.next), 2, "--current is missing: which of the versions [1 2]"},
		"current unknown":    {c.args("rotate", "--key", "1=insecure-test-key", "--current", "2"), 2, "there is no --key 2=…"},
		"bad key":            {c.args("rotate", "--key", "1=paper:x"), 1, "--key 1: kmsurl: open"},
		"constant":           {c.rotate("--constant", "environment=x"), 2, "as in 2:environment=production"},
		"other constant":     {c.rotate("--constant", "2:environment=x"), 1, "adds the constants map[environment:test] under version 2, and this one map[environment:x]"},
		"version not listed": {c.args("rotate", "--key", "1=insecure-test-key", "--key", "3=local:file:"+c.next, "--current", "3"), 1, "list the version in the application first"},
		"old key missing":    {c.args("rotate", "--key", "2=local:file:"+c.next), 1, "are under version 1, and the keyring has [2]"},
		"column":             {c.rotate("--model", "Visit", "--column", "nothing"), 1, `no key column "nothing"`},
		"no database":        {[]string{"runs"}, 2, "--database is missing, and DATABASE_URL is not set: expected postgres://"},
		"database unknown":   {[]string{"runs", "--database", "oracle://u:secret@h/d"}, 2, "expected postgres://"},
		"database not there": {[]string{"runs", "--database", "sqlite:nowhere.db"}, 2, "no such file"},
		"database broken":    {[]string{"runs", "--database", "mysql://u:secret%@h/d"}, 2, "--database: no URL"},
		"database closed":    {[]string{"runs", "--database", "postgres://u:secret@127.0.0.1:1/d"}, 1, "open the database: "},
		"no such run":        {[]string{"pause", "--database", database, "x"}, 1, `run "x": no such run`},
		"no ledger":          {append([]string{"rotate", "--database", "sqlite:" + bare.file, "--table", "computeds", "--name", "Computed", "--id", "id:integer", "--namespace", "clinic/test"}, bare.keyArgs()...), 1, "rowseal migrate up"},
		"no ledger, runs":    {[]string{"runs", "--database", "sqlite:" + bare.file}, 1, "rowseal migrate up"},
		"computed":           {bare.rotate(), 1, "its context is computed by the method KMSContext; run rotation.RotateKMSKey(ctx, db, &Computed{}, rotation.Config{}) in a program of the application"},
	} {
		r := rowseal(t, tt.args...)
		if r.code != tt.code || !strings.Contains(r.stderr, tt.says) || strings.Contains(r.stderr, "secret") || tt.code != 0 && r.stdout != "" {
			t.Errorf("%s: %d\n%s%s", name, r.code, r.stdout, r.stderr)
		}
	}
}

func TestMigrate(t *testing.T) {
	c := newClinic(t, 0, &Computed{})
	database := []string{"--database", "sqlite:" + c.file}
	for i, tt := range []struct{ verb, says string }{
		{"status", "1 ledger: missing\n"}, {"up", "applied 1 ledger\n"}, {"up", "nothing to do\n"}, {"status", "1 ledger: applied MOMENT\n"}, {"down", "removed 1 ledger\n"}, {"down", "nothing to do\n"},
	} {
		if got := c.normal(prints(t, append([]string{"migrate", tt.verb}, database...)...)); got != tt.says {
			t.Errorf("%d: migrate %s: %q", i, tt.verb, got)
		}
	}
}

func TestDialectorOf(t *testing.T) {
	for text, want := range map[string]string{
		"mysql://u:p%40ss@h/d?parseTime=true": "u:p@ss@tcp(h:3306)/d?parseTime=true",
		"mysql://u@h:3307/d":                  "u@tcp(h:3307)/d",
	} {
		got, err := mysqlDSN(text)
		if err != nil || got != want {
			t.Errorf("%s: %q %v", text, got, err)
		}
	}
	for text, name := range map[string]string{"postgres://h/d": "postgres", "host=h dbname=d": "postgres", "u:p@tcp(h)/d": "mysql", "mysql://h/d": "mysql", "sqlite:" + os.DevNull: "sqlite"} {
		d, err := dialectorOf(text)
		if err != nil || d.Name() != name {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// rotating is a rotation in a process of its own, which is under way: it has shown progress.
type rotating struct {
	*exec.Cmd
	run    string
	stderr bytes.Buffer // complete once it has ended
	err    error        // of reading it
	ended  chan struct{}
}

func (c *clinic) begin(t *testing.T, more ...string) *rotating {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	r := &rotating{Cmd: exec.CommandContext(t.Context(), self, c.rotate(more...)...), ended: make(chan struct{})}
	r.Env = append(os.Environ(), "ROWSEAL_TEST_PROCESS=1")
	pipe, err := r.StderrPipe()
	must(t, err)
	must(t, r.Start())
	buf := make([]byte, 4096)
	for !bytes.Contains(r.stderr.Bytes(), []byte("\n")) {
		n, err := pipe.Read(buf)
		r.stderr.Write(buf[:n])
		must(t, err)
	}
	r.run = regexp.MustCompile(`\d{8}-\d{6}-[0-9a-f]{8}`).FindString(r.stderr.String())
	go func() {
		defer close(r.ended)
		_, r.err = r.stderr.ReadFrom(pipe)
		_ = r.Wait() // it ends as the test has it end: by a code or a signal, which ProcessState has
	}()
	t.Cleanup(func() { <-r.ended })
	return r
}

// ends waits for the end, which must come with this code.
func (r *rotating) ends(t *testing.T, code int) {
	t.Helper()
	<-r.ended
	must(t, r.err)
	if got := r.ProcessState.ExitCode(); got != code {
		t.Errorf("it ended with %d, not %d: %s", got, code, r.stderr.String())
	}
}

// TestRotateIsKilled: what was stored is kept, and the next call goes on as soon as the lease has run out.
func TestRotateIsKilled(t *testing.T) {
	const patients = 1500
	c := newClinic(t, patients)
	var first string
	for range 3 {
		r := c.begin(t, "--rate", "1500", "--model", "Patient", "--lease", "300ms")
		must(t, r.Process.Kill())
		<-r.ended
		if first == "" {
			first = r.run
		}
		if r.run != first {
			t.Errorf("run %s after %s", r.run, first)
		}
	}
	out := prints(t, c.rotate("--quiet", "--lease", "300ms")...)
	if !strings.Contains(out, first) || !strings.Contains(out, fmt.Sprintf("keys seen              %d", 2*patients)) || !strings.Contains(out, fmt.Sprintf("  rewrapped            %d", 2*patients)) {
		t.Error(out)
	}
	c.readable(t, patients)
}

// TestRotateEndsAtTheSecondSignal: whatever it waits for.
func TestRotateEndsAtTheSecondSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("package os cannot send an interrupt to another process on Windows")
	}
	c := newClinic(t, 300)
	r := c.begin(t, "--rate", "100", "--model", "Patient")
	db, shut := c.app(t, c.keys)
	defer shut()
	pool, err := db.DB()
	must(t, err)
	held, err := pool.Conn(t.Context())
	must(t, err)
	defer held.Close()
	_, err = held.ExecContext(t.Context(), "BEGIN EXCLUSIVE") // so that no report can be read
	must(t, err)
	for signals := 0; ; signals++ {
		if err := r.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case <-r.ended:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		if status, is := r.ProcessState.Sys().(syscall.WaitStatus); !is || !status.Signaled() || signals == 0 {
			t.Errorf("after %d signals it ended as %v", signals+1, r.ProcessState)
		}
		break
	}
	_, err = held.ExecContext(t.Context(), "ROLLBACK")
	must(t, err)
	prints(t, c.rotate("--quiet")...)
	c.readable(t, 300)
}

// TestVerify: fields as well as keys, with the new key alone.
func TestVerify(t *testing.T) {
	c := newClinic(t, 30)
	verify := func(more ...string) result {
		t.Helper()
		return rowseal(t, c.args("verify", more...)...)
	}
	if r := verify("--key", "1=insecure-test-key"); r.code != 0 || !strings.Contains(r.stdout, "keys that unwrap          60 of 60 in the table") || !strings.Contains(r.stdout, "fields that authenticate  60") {
		t.Errorf("%+v", r)
	}
	if r := verify(c.keyArgs()...); r.code != 1 || !strings.Contains(r.stderr, "62 keys are not where version 2 puts them; rowseal rotate moves them") {
		t.Errorf("%+v", r)
	}
	prints(t, c.rotate("--quiet")...)
	next := []string{"--key", "2=local:file:" + c.next}
	if r := verify(next...); r.code != 0 || strings.Count(r.stdout, "do not open               0") != 2 {
		t.Errorf("%+v", r)
	}
	if r := verify(append(next, "--sample", "5", "--model", "Patient", "--json")...); r.code != 0 || !json.Valid([]byte(r.stdout)) || !strings.Contains(r.stdout, `"failed": 0`) || !strings.Contains(r.stdout, `"of": 60`) {
		t.Errorf("%+v", r)
	}
	byFlags := append([]string{"verify", "--database", "sqlite:" + c.file, "--table", "visits", "--name", "Visit", "--id", "clinic:text", "--id", "n:integer", "--namespace", "clinic/test", "--constant", "2:environment=test"}, next...)
	if r := rowseal(t, byFlags...); r.code != 0 || !strings.Contains(r.stdout, "only a manifest names them") || !strings.Contains(r.stdout, "keys that unwrap  2 of 2") {
		t.Errorf("%+v", r)
	}
	if r := verify("--key", "2=local:file:"+c.next, "--sample=-1"); r.code != 1 || !strings.Contains(r.stderr, "a sample of -1 rows") {
		t.Errorf("%+v", r)
	}
	db, shut := c.app(t, c.keys)
	pool, err := db.DB()
	must(t, err)
	_, err = pool.Exec("UPDATE patients SET name = (SELECT name FROM patients WHERE id = 1) WHERE id = 2")
	must(t, err)
	shut()
	if r := verify(next...); r.code != exitPartial || !strings.Contains(r.stdout, "encrypted_kms_key  2  field  field: open Patient.name") || !strings.Contains(r.stderr, "1 keys or fields do not open") || strings.Contains(r.stdout+r.stderr, canary) {
		t.Errorf("%+v", r)
	}
}

// TestRotateIsPausedAndStopped: by other processes, and by signals.
func TestRotateIsPausedAndStopped(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("package os cannot send an interrupt to another process on Windows")
	}
	const patients = 1500
	c := newClinic(t, patients)
	begin := func() *rotating {
		t.Helper()
		return c.begin(t, "--rate", "400", "--model", "Patient")
	}
	r := begin()
	run := r.run
	must(t, r.Process.Signal(os.Interrupt))
	if r.ends(t, exitStopped); !strings.Contains(r.stderr.String(), "all of it is kept; the same command goes on there (run "+run+")") {
		t.Error(r.stderr.String())
	}

	if r = begin(); r.run != run {
		t.Errorf("run %s after %s", r.run, run)
	}
	if out := prints(t, "pause", "--database", "sqlite:"+c.file, run, "--reason", "lunch"); !strings.Contains(out, "to go on: rowseal resume "+run) {
		t.Error(out)
	}
	r.ends(t, exitPaused)
	if r := rowseal(t, c.rotate("--quiet", "--model", "Patient")...); r.code != exitPaused || !strings.Contains(r.stderr, "lunch") {
		t.Errorf("%+v", r)
	}
	if out := prints(t, "resume", "--database", "sqlite:"+c.file, run); !strings.Contains(out, "may go on") {
		t.Error(out)
	}
	r = begin()
	must(t, r.Process.Signal(syscall.SIGTERM))
	r.ends(t, exitStopped)
	out := prints(t, c.rotate("--quiet")...)
	if !strings.Contains(out, run) || !strings.Contains(out, fmt.Sprintf("keys seen              %d", 2*patients)) {
		t.Errorf("%s", out)
	}
	c.readable(t, patients)

	out = prints(t, "runs", "--database", "sqlite:"+c.file)
	if strings.Count(out, "done") != 2 {
		t.Error(out)
	}
	if r := rowseal(t, "cancel", "--database", "sqlite:"+c.file, run); r.code != 1 || !strings.Contains(r.stderr, "is done, and cannot become cancelled") {
		t.Errorf("%+v", r)
	}
}

// TestRotateGoesOnPastAModelOfTheApplication: the others are moved, and the exit code says that not all is done.
func TestRotateGoesOnPastAModelOfTheApplication(t *testing.T) {
	c := newClinic(t, 0, &Computed{}, &Visit{})
	db, shut := c.app(t, c.keys)
	must(t, db.Create(&Visit{Clinic: "a", N: 1, Note: "x"}).Error)
	must(t, db.Create(&Computed{ID: 1, Name: "y"}).Error)
	shut()
	prints(t, "migrate", "up", "--database", "sqlite:"+c.file)
	r := rowseal(t, c.rotate("--quiet")...)
	if r.code != 1 || !strings.Contains(r.stdout, "rewrapped            1") || !strings.Contains(r.stderr, "model Computed of the manifest") {
		t.Errorf("%+v", r)
	}
	prints(t, c.rotate("--quiet", "--model", "Visit")...)
	if r := rowseal(t, c.args("status")...); r.code != 0 || !strings.Contains(r.stdout, "Visit     encrypted_kms_key  v2") || !strings.Contains(r.stdout, "Computed  encrypted_kms_key  v1") {
		t.Errorf("%+v", r)
	}
}

// TestRotatePartly: rows that fail are named, and the exit code says so.
func TestRotatePartly(t *testing.T) {
	c := newClinic(t, 30)
	db, shut := c.app(t, c.keys)
	pool, err := db.DB()
	must(t, err)
	_, err = pool.Exec("UPDATE patients SET encrypted_kms_key = (SELECT encrypted_kms_key FROM patients WHERE id = 1) WHERE id = 2")
	must(t, err)
	shut()
	r := rowseal(t, c.rotate("--quiet")...)
	if r.code != exitPartial || !strings.Contains(r.stderr, "1 could not be; encrypted_kms_key 2: ") || !strings.Contains(r.stdout, "context_mismatch") || strings.Count(r.stdout, "state ") != 2 {
		t.Errorf("%d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
