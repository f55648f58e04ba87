package integration

// cli_advise_test.go owns rowseal index advise against servers: its counts are those of Go, and no value comes over the wire.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	mysqldriver "gorm.io/driver/mysql"
	postgresdriver "gorm.io/driver/postgres"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/ephemeral"
	"github.com/rowseal/rowseal/integration/internal/mariatest"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

type AdvisePatient struct {
	ID    uint64
	Email string `gorm:"serializer:rowseal" rowseal:"index"`
	Note  string `gorm:"serializer:rowseal" rowseal:"text"`
	rowseal.RowKey
}

// wire passes connections on to a server, and keeps every byte that comes back.
type wire struct {
	address string
	mu      sync.Mutex
	came    bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.came.Write(p)
}

// taken is what came since it was last asked for.
func (w *wire) taken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.came.Reset()
	return w.came.String()
}

func tap(t *testing.T, network, address string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	w := &wire{address: listener.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			server, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
			if err != nil {
				_ = client.Close() // whose next read says it
				continue
			}
			all.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			all.Go(func() { _, _ = io.Copy(io.MultiWriter(client, w), server); _ = client.Close() })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return w
}

// TestCommandLineAdvises: a change of the tool's source alone does not reach the cache of test results: use -count=1.
func TestCommandLineAdvises(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		program := buildTool(t)
		var url string
		var dialector gorm.Dialector
		var w *wire
		switch kind {
		case postgres:
			cfg, err := pgx.ParseConfig(pgtest.DSN(t))
			ok(t, err)
			network, address := "tcp", net.JoinHostPort(cfg.Host, fmt.Sprint(cfg.Port))
			if filepath.IsAbs(cfg.Host) {
				network, address = "unix", filepath.Join(cfg.Host, fmt.Sprintf(".s.PGSQL.%d", cfg.Port))
			}
			w = tap(t, network, address)
			dialector = postgresdriver.Open(cfg.ConnString())
			url = fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", cfg.User, cfg.Password, w.address, cfg.Database)
		case mariadb:
			cfg := mariatest.Config(t)
			w = tap(t, cfg.Net, cfg.Addr)
			dialector = mysqldriver.Open(cfg.FormatDSN())
			tapped := cfg.Clone()
			tapped.Net, tapped.Addr, tapped.TLSConfig = "tcp", w.address, ""
			url = tapped.FormatDSN()
		}
		plain, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		ok(t, err)
		pool, err := plain.DB()
		ok(t, err)
		t.Cleanup(func() { _ = pool.Close() })

		// Texts whose groups differ from database to database, unless they are counted by their bytes. The long ones differ past the length that MySQL sorts by.
		type person struct {
			ID    int
			Note  *string `gorm:"type:text"`
			Owner []byte
			Empty *string
		}
		texts := []string{"Canary", "canary", "canary ", "\tcanary\n", "CÁNARY", "cánary", "Ada <ada@canary.Org>", "a@b@CANARY.org>", "+49 (0) 171-canary", "490171", "",
			strings.Repeat("canary", 300) + "x", strings.Repeat("canary", 300) + "y"}
		var people []person
		for i, text := range texts {
			people = append(people, person{ID: i + 1, Note: &text, Owner: fmt.Appendf(nil, "\xf9canary %d", i%3)})
		}
		people = append(people, person{ID: len(texts) + 1})
		ok(t, plain.Table("people").AutoMigrate(&person{}))
		ok(t, plain.Table("people").Create(&people).Error)

		run := func(code int, args ...string) string {
			t.Helper()
			w.taken()
			cmd := exec.CommandContext(t.Context(), program, append([]string{"index", "advise"}, args...)...)
			cmd.Env = append(without(os.Environ(), "DATABASE_URL"), "DATABASE_URL="+url)
			var out, problems bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &problems
			err := cmd.Run()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
				t.Fatalf("%v: %v\n%s%s", args, err, &out, &problems)
			}
			came := w.taken()
			if came == "" {
				t.Error("nothing was tapped")
			}
			for _, text := range []string{came, out.String(), problems.String()} {
				if strings.Contains(strings.ToLower(text), "canary") {
					t.Errorf("%v: a value left the database", args)
				}
			}
			return out.String() + problems.String()
		}
		type found struct {
			Rows     int64 `json:"rows"`
			Nulls    int64 `json:"null_rows"`
			Distinct int64 `json:"distinct"`
			Largest  int64 `json:"largest"`
		}
		domain := func(s string) string { return strings.ToLower(s[strings.LastIndex(s, "@")+1:]) }
		digits := func(s string) string {
			return strings.Map(func(r rune) rune {
				if r < '0' || r > '9' {
					return -1
				}
				return r
			}, s)
		}
		last4 := func(s string) string { r := []rune(s); return string(r[max(len(r)-4, 0):]) }
		first3 := func(s string) string { r := []rune(s); return string(r[:min(len(r), 3)]) }
		lower, trim := strings.ToLower, strings.TrimSpace
		for expression, steps := range map[string][]func(string) string{
			"": nil, "lower": {lower}, "trim": {trim}, "lower+trim": {lower, trim}, "domain": {domain}, "digits": {digits}, "digits+last4": {digits, last4},
			"last4": {last4}, "first3": {first3}, "first3+trim+lower": {lower, trim, first3},
		} {
			counts := map[string]int64{}
			want := found{Rows: int64(len(texts)), Nulls: 1}
			for _, text := range texts {
				for _, step := range steps {
					text = step(text)
				}
				counts[text]++
				want.Largest = max(want.Largest, counts[text])
			}
			want.Distinct = int64(len(counts))
			args := []string{"--table", "people", "--column", "note", "--json"}
			if expression != "" {
				args = append(args, "--expression", expression)
			}
			var got []found
			ok(t, json.Unmarshal([]byte(run(0, args...)), &got))
			if len(got) != 1 || got[0] != want {
				t.Errorf("%q: %+v, not %+v", expression, got, want)
			}
		}
		if got := run(0, "--table", "people", "--column", "owner"); !strings.Contains(got, "different values                             3\n") {
			t.Error(got)
		}
		for says, args := range map[string][]string{
			"the table has empty, id, note, owner":      {"--table", "people", "--column", "nothing"},
			"nobody.note":                               {"--table", "nobody", "--column", "note"},
			"it has no values (the table has 14 rows)":  {"--table", "people", "--column", "empty"},
			"it holds bytes: an expression is of texts": {"--table", "people", "--column", "owner", "--expression", "lower"},
		} {
			if got := run(1, args...); !strings.Contains(got, says) {
				t.Errorf("%s: %s", says, got)
			}
		}

		if kind == postgres {
			// Whatever holds it up.
			tx := plain.Begin()
			ok(t, tx.Exec("LOCK TABLE people IN ACCESS EXCLUSIVE MODE").Error)
			if got := run(1, "--table", "people", "--column", "note", "--timeout", "300ms"); !strings.Contains(got, "not counted within 300ms; --timeout gives it longer") {
				t.Error(got)
			}
			ok(t, tx.Rollback().Error)

			// Rows that the user may not see are not left out in silence.
			role := "rowseal_advise_" + ephemeral.RandomHex(4)
			for _, statement := range []string{"CREATE ROLE " + role, "GRANT SELECT ON people TO " + role, "ALTER TABLE people ENABLE ROW LEVEL SECURITY", "CREATE POLICY clerks ON people USING (id < 3)"} {
				ok(t, plain.Exec(statement).Error)
			}
			t.Cleanup(func() {
				for _, statement := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
					if _, err := pool.Exec(statement); err != nil {
						t.Error(err)
					}
				}
			})
			whole := url
			url += "&options=-c%20role%3D" + role
			if got := run(1, "--table", "people", "--column", "note"); !strings.Contains(got, "a row-level security policy may hide rows from this user") {
				t.Error(got)
			}
			url = whole
		}

		// What is sealed, and its index.
		keys, err := kmskey.New(kmskey.Config{Current: 1, Namespace: "advise/test", Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
		ok(t, err)
		app, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		ok(t, err)
		plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&AdvisePatient{}}})
		ok(t, err)
		ok(t, app.Use(plugin))
		_, err = migrations.Up(t.Context(), app)
		ok(t, err)
		ok(t, app.AutoMigrate(&AdvisePatient{}))
		ok(t, plugin.MakeIndexKeys(t.Context(), app))
		var patients []AdvisePatient
		for i := range 30 {
			patients = append(patients, AdvisePatient{Email: fmt.Sprint("canary ", i%7), Note: "canary"})
		}
		ok(t, app.Create(&patients).Error)
		var got []found
		ok(t, json.Unmarshal([]byte(run(0, "--table", "advise_patients", "--column", "email_bidx", "--json")), &got))
		if want := (found{Rows: 30, Distinct: 7, Largest: 5}); len(got) != 1 || got[0] != want {
			t.Errorf("%+v", got)
		}
		for _, column := range []string{"email", "note", "encrypted_kms_key"} {
			if got := run(1, "--table", "advise_patients", "--column", column); !strings.Contains(got, "it holds sealed values or keys") {
				t.Errorf("%s: %s", column, got)
			}
		}
	}, postgres, mariadb)
}
