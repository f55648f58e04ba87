package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

// hungTest bounds waits for an event that comes at once unless something is broken.
const hungTest = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_TEST_OWNER") != "" {
		ownServer()
		return
	}
	ephemeral.Main(m)
}

func TestDSN(t *testing.T) {
	var names []string
	var leaked sync.Map
	t.Run("databases", func(t *testing.T) {
		got := make(chan string, 8)
		for i := range cap(got) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				dsn := DSN(t)
				c, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				// Not closed by this test: the drop must not mind.
				leaked.Store(i, c)
				// The second of two tests in one database would fail on the table.
				mustExec(t, c, "create table t (x int)")
				mustExec(t, c, "insert into t values (1)")
				var name string
				var rows int
				if err := c.QueryRow(t.Context(), "select current_database(), count(*) from t").Scan(&name, &rows); err != nil {
					t.Fatal(err)
				}
				if rows != 1 {
					t.Errorf("%d rows, want the one of this test", rows)
				}
				got <- name
			})
		}
		t.Cleanup(func() {
			close(got)
			for name := range got {
				names = append(names, name)
			}
		})
	})
	slices.Sort(names)
	if n := len(slices.Compact(slices.Clone(names))); n != 8 {
		t.Fatalf("8 tests had %d databases: %q", n, names)
	}
	var left int
	c := connect(t, shared.server.url)
	if err := c.QueryRow(t.Context(), "select count(*) from pg_database where datname = any($1)", names).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d databases are left behind by tests that ended", left)
	}
	for _, c := range leaked.Range {
		c.(*pgx.Conn).Close(t.Context())
	}
}

func TestStart(t *testing.T) {
	t.Setenv("TEST_DATABASE_URL", DSN(t)) // one server is enough
	dsn, stop, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, connect(t, dsn), "create table t (x int)")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if c, err := pgx.Connect(t.Context(), dsn); err == nil {
		c.Close(t.Context())
		t.Error("the database is left behind")
	}
}

func TestWhich(t *testing.T) {
	DSN(t)
	cfg := fromEnv()
	want := []string{"docker", "local"}
	switch {
	case cfg.url != "":
		want = []string{"url"}
	case cfg.way != "":
		want = []string{cfg.way}
	case cfg.requires("docker"):
		want = []string{"docker"}
	}
	if got := Which(); !slices.Contains(want, got) {
		t.Errorf("Which() = %q, want one of %q", got, want)
	}
}

// Each way is run for itself, whichever one the environment chose for the other tests.
func TestWays(t *testing.T) {
	t.Run("url", func(t *testing.T) {
		DSN(t)
		s, err := startURL(config{url: shared.server.url})
		if err != nil {
			t.Fatal(err)
		}
		testServer(t, s)
	})
	t.Run("docker", func(t *testing.T) {
		cfg := fromEnv()
		if !cfg.requires("docker") && cfg.way != "docker" && !hasImage(t, cfg.image) {
			t.Skipf("no Docker engine that has %s; TEST_REQUIRE=docker makes this a failure", cfg.image)
		}
		s, err := startDocker(cfg)
		if err != nil {
			t.Fatal(err)
		}
		testServer(t, s)
	})
	t.Run("local", func(t *testing.T) {
		s := localServer(t)
		var folder string
		query(t, s.url, "show data_directory", &folder)
		testServer(t, s)
		if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the stopped server left %s behind (%v)", folder, err)
		}
	})
}

// A test binary that is killed runs no clean-up of its own.
func TestLocalServerEndsWithItsProcess(t *testing.T) {
	localServer(t).stop() // skips where there are no binaries
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGTEST_TEST_OWNER=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // keeps the owner waiting
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dsn string
	if _, err := fmt.Fscanln(stdout, &dsn); err != nil {
		t.Fatal(errors.Join(err, cmd.Wait()))
	}
	c := connect(t, dsn)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"

	ctx, cancel := context.WithTimeout(t.Context(), hungTest)
	defer cancel()
	// Nothing notifies: this returns when the server ends the connection.
	if _, err := c.WaitForNotification(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the server outlived the process that started it (%v)", err)
	}
}

// ownServer is the process that TestLocalServerEndsWithItsProcess kills.
func ownServer() {
	s, err := startLocal(fromEnv())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.url)
	io.Copy(io.Discard, os.Stdin)
	s.stop()
}

func TestLocalBinaries(t *testing.T) {
	if _, err := startLocal(config{bin: t.TempDir()}); !errors.Is(err, errNoBinaries) || !strings.Contains(err.Error(), "TEST_POSTGRES_BIN") {
		t.Errorf("a folder without binaries: %v, want errNoBinaries that names TEST_POSTGRES_BIN", err)
	}
	for folder, want := range map[string]int{
		"/usr/lib/postgresql/15/bin": 15, "/usr/lib/postgresql/9.6/bin": 9, "/usr/lib/postgresql/x/bin": 0,
	} {
		if got := majorVersion(folder); got != want {
			t.Errorf("majorVersion(%q) = %d, want %d", folder, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name          string
		cfg           config
		docker, local error
		want          string // the way chosen, else
		err           error  // the cause, and
		says          string // what helps
	}{
		{name: "a given server comes first", cfg: config{url: "postgres://x", way: "docker"}, want: "url"},
		{name: "Docker before binaries", want: "docker"},
		{name: "binaries where no engine answers", docker: errNoEngine, want: "local"},
		{name: "binaries where Docker fails", docker: broken, want: "local"},
		{name: "only Docker when asked for", cfg: config{way: "docker"}, docker: broken, err: broken, says: "TEST_POSTGRES=docker"},
		{name: "only Docker when required", cfg: config{require: []string{"postgres", "docker"}}, docker: errNoEngine, err: errNoEngine, says: "TEST_REQUIRE=docker"},
		{name: "only binaries when asked for", cfg: config{way: "local"}, want: "local"},
		{name: "binaries asked for and absent", cfg: config{way: "local"}, local: errNoBinaries, err: errNoBinaries, says: "TEST_POSTGRES=local"},
		{name: "binaries named and absent", cfg: config{bin: "/nowhere"}, docker: errNoEngine, local: errNoBinaries, err: errNoBinaries},
		{name: "binaries that fail", docker: errNoEngine, local: broken, err: broken},
		{name: "nothing", docker: errNoEngine, local: errNoBinaries, err: errNoServer, says: "TEST_DATABASE_URL"},
		{name: "an unknown way", cfg: config{way: "dokcer"}, says: "TEST_POSTGRES=dokcer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			starter := func(way string, err error) func(config) (*server, error) {
				return func(config) (*server, error) {
					if err != nil {
						return nil, err
					}
					return &server{way: way}, nil
				}
			}
			s, err := choose(tt.cfg, starters{
				url: starter("url", nil), docker: starter("docker", tt.docker), local: starter("local", tt.local),
			})
			switch {
			case tt.want != "":
				if err != nil || s.way != tt.want {
					t.Errorf("chose %v, %v; want %s", s, err, tt.want)
				}
			case err == nil:
				t.Errorf("chose %s, want an error", s.way)
			case tt.err != nil && !errors.Is(err, tt.err), !strings.Contains(err.Error(), tt.says):
				t.Errorf("error %q, want one of %q that says %q", err, tt.err, tt.says)
			}
		})
	}
}

func TestSkipIsForTheShortRunAlone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   config
		short bool
		err   error
		want  bool
	}{
		{name: "short", short: true, err: errNoServer, want: true},
		{name: "not short", err: errNoServer},
		{name: "short in CI", cfg: config{ci: true}, short: true, err: errNoServer},
		{name: "short but required", cfg: config{require: []string{"postgres"}}, short: true, err: errNoServer},
		{name: "short but broken", short: true, err: errNoBinaries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := maySkip(tt.cfg, tt.short, tt.err); got != tt.want {
				t.Errorf("maySkip = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWithDatabase(t *testing.T) {
	for _, dsn := range []string{
		"postgres://u:p%40ss@db.example:5433/app?sslmode=disable",
		"postgresql://u:p%40ss@db.example:5433?sslmode=disable&dbname=app",
		"host=db.example port=5433 user=u password=p@ss dbname=app sslmode=disable",
	} {
		got, err := withDatabase(dsn, "fresh")
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgx.ParseConfig(got)
		if err != nil {
			t.Fatal(err)
		}
		if c.Database != "fresh" || c.Host != "db.example" || c.Port != 5433 || c.User != "u" || c.Password != "p@ss" {
			t.Errorf("withDatabase(%q) = %q", dsn, got)
		}
	}
	if _, err := withDatabase("postgres://u:hunter2@db:port/", "fresh"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a broken URL: %v, want an error without the password", err)
	}
}

// testServer has one test use s as DSN would, then stops it.
func testServer(t *testing.T, s *server) {
	t.Helper()
	t.Run("test", func(t *testing.T) {
		var got int
		query(t, s.dsn(t), "select 42", &got)
		if got != 42 {
			t.Errorf("got %d", got)
		}
	})
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func localServer(t *testing.T) *server {
	t.Helper()
	cfg := fromEnv()
	s, err := startLocal(cfg)
	if errors.Is(err, errNoBinaries) && cfg.way != "local" && cfg.bin == "" {
		t.Skipf("%v; TEST_POSTGRES=local makes this a failure", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hasImage(t *testing.T, image string) bool {
	t.Helper()
	c, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.ImageInspect(t.Context(), image)
	return err == nil
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func mustExec(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, dsn, sql string, into any) {
	t.Helper()
	if err := connect(t, dsn).QueryRow(t.Context(), sql).Scan(into); err != nil {
		t.Fatal(err)
	}
}
