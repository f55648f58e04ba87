package mariatest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

// hungTest bounds waits for an event that comes at once unless something is broken.
const hungTest = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv("MARIATEST_TEST_OWNER") != "" {
		ownServer()
		return
	}
	ephemeral.Main(m)
}

func TestConfig(t *testing.T) {
	Config(t)
	names := make(chan string, 4)
	t.Run("databases", func(t *testing.T) {
		for i := range cap(names) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				config := Config(t)
				names <- config.DBName
				db := connect(t, config)
				for _, stmt := range []string{"create table t (x int)", "insert into t values (1)"} {
					if _, err := db.Exec(stmt); err != nil {
						t.Fatal(err) // the second of two tests in one database would fail on the table
					}
				}
			})
		}
	})
	close(names)
	for name := range names {
		var left int
		if err := shared.server.admin.QueryRow("select count(*) from information_schema.schemata where schema_name = ?", name).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left != 0 {
			t.Errorf("database %s is left behind by a test that ended", name)
		}
	}
}

func TestLocalServerLeavesNothingBehind(t *testing.T) {
	s := localServer(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(s.config.Addr)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stopped server left its folder behind (%v)", err)
	}
}

// localServer runs one, whichever the environment gives the other tests.
func localServer(t *testing.T) *server {
	t.Helper()
	s, err := startLocal()
	if errors.Is(err, ephemeral.ErrNoBinaries) && !ephemeral.Requires("mariadb") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerThatDoesNotStartSaysWhy(t *testing.T) {
	localServer(t).stop() // skips where there are no binaries
	bin := filepath.Join(t.TempDir(), "mariadbd")
	if err := os.WriteFile(bin, []byte("#!/bin/sh\necho nonsense >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for folder := filepath.Dir(bin); len(folder) > len(os.TempDir()); folder = filepath.Dir(folder) {
		os.Chmod(folder, 0o755) // another user runs it
	}
	t.Setenv("PATH", filepath.Dir(bin)+":"+os.Getenv("PATH"))
	if _, err := startLocal(); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v, want one with what the server said", err)
	}
}

func TestDatabaseComparesLooselyByDefault(t *testing.T) {
	var same bool
	if err := connect(t, Config(t)).QueryRow("select 'key' = 'KEY '").Scan(&same); err != nil || !same {
		t.Errorf("'key' = 'KEY ' is %v, %v: nothing would show that keys are compared exactly", same, err)
	}
}

func TestGivenServer(t *testing.T) {
	c := Config(t)
	s, err := choose(c.FormatDSN(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("test", func(t *testing.T) { connect(t, s.database(t)) })
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if _, err := choose("root:hunter2@nowhere", nil); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "TEST_MARIADB_URL") {
		t.Errorf("a broken DSN: %v, want an error that names the variable, without the password", err)
	}
}

func TestNothingIsLeftOutThatIsRequiredOrBroken(t *testing.T) {
	none := func() (*server, error) { return nil, ephemeral.ErrNoBinaries }
	broken := func() (*server, error) { return nil, errors.New("broken") }
	for _, tt := range []struct {
		name    string
		local   func() (*server, error)
		require string
		want    bool
	}{
		{"absent", none, "", true},
		{"absent, and another part required", none, "postgres", true},
		{"absent and required", none, "postgres, mariadb", false},
		{"broken", broken, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TEST_REQUIRE", tt.require)
			_, err := choose("", tt.local)
			if err == nil || mayLeaveOut(err) != tt.want {
				t.Errorf("error %v, left out: %v, want %v", err, mayLeaveOut(err), tt.want)
			}
		})
	}
}

// A test binary that is killed runs no clean-up of its own.
func TestLocalServerEndsWithItsProcess(t *testing.T) {
	localServer(t).stop() // skips where there are no binaries
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MARIATEST_TEST_OWNER=1")
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
	dsn, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(errors.Join(err, cmd.Wait()))
	}
	config, err := mysql.ParseDSN(strings.TrimSpace(dsn))
	if err != nil {
		t.Fatal(err)
	}
	c, err := connect(t, config).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() {
		// Returns when the server ends the connection.
		_, err := c.ExecContext(context.Background(), "select sleep(?)", 2*hungTest.Seconds())
		waits <- err
	}()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	select {
	case err := <-waits:
		if err == nil {
			t.Error("the server outlived the process that started it")
		}
	case <-time.After(hungTest):
		t.Error("the server outlives the process that started it")
	}
}

// ownServer is the process that TestLocalServerEndsWithItsProcess kills.
func ownServer() {
	s, err := startLocal()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.config.FormatDSN())
	io.Copy(io.Discard, os.Stdin)
	s.stop()
}

func connect(t *testing.T, config *mysql.Config) *sql.DB {
	t.Helper()
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	return db
}
