// Package mariatest gives every test a fresh database on a real MariaDB server, which stands for MySQL as well.
//
// One server serves a test binary. It starts when the first test asks for a database and stops when [ephemeral.Main]
// returns. It is
//
//   - TEST_MARIADB_URL, where that is set: the DSN of a server that is already there, in the form of the Go driver,
//     as in root:secret@tcp(127.0.0.1:3306)/. The user must be allowed to create databases.
//   - else the server's own binaries, mariadbd and mariadb-install-db, run in a folder of their own. They are looked
//     for in PATH, /usr/sbin and /usr/bin; Debian has them in mariadb-server-core.
//
// Without either, what needs MariaDB is left out, which is said once on standard error. TEST_REQUIRE=mariadb (a
// comma-separated list) makes it a failure.
package mariatest

// mariatest.go owns what a test sees: the choice of a server, and a database per test.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

// dropTimeout bounds the clean-up of one test, whose own context has ended by then.
const dropTimeout = 30 * time.Second

// A server is a running MariaDB in which databases may be created.
type server struct {
	config *mysql.Config
	admin  *sql.DB
	from   string // where it came from, for people
	stop   func() error
}

var shared struct {
	start  sync.Once
	server *server
	err    error
}

// Config creates a database for t alone and returns how to reach it. The database is dropped when t ends. Config ends t
// when there is no server, and is safe for parallel tests.
func Config(t testing.TB) *mysql.Config {
	t.Helper()
	ephemeral.NeedsMain(t)
	shared.start.Do(func() {
		shared.server, shared.err = choose(os.Getenv("TEST_MARIADB_URL"), startLocal)
		if shared.err == nil {
			ephemeral.AtExit(shared.server.stop)
			return
		}
		if mayLeaveOut(shared.err) {
			fmt.Fprintf(os.Stderr, "########  LEFT OUT: every test on MariaDB. %v\n", shared.err)
		}
	})
	if err := shared.err; err != nil {
		if mayLeaveOut(err) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return shared.server.database(t)
}

// errNoServer is the end of the list.
var errNoServer = errors.New("no MariaDB server for the tests")

// mayLeaveOut is the one case in which a missing server is no failure: nothing was there, and nobody asked for it.
func mayLeaveOut(err error) bool {
	return errors.Is(err, errNoServer) && !ephemeral.Requires("mariadb")
}

func choose(url string, local func() (*server, error)) (*server, error) {
	s, err := given(url)
	if url == "" {
		s, err = local()
	}
	switch {
	case errors.Is(err, ephemeral.ErrNoBinaries):
		return nil, fmt.Errorf("mariatest: %w: set TEST_MARIADB_URL to a server where databases may be created, or install "+
			"the server's binaries, e.g. apt-get install mariadb-server-core (%w); TEST_REQUIRE=mariadb makes this a failure", errNoServer, err)
	case err != nil:
		return nil, fmt.Errorf("mariatest: %w", err)
	}
	return s, nil
}

func given(url string) (*server, error) {
	config, err := mysql.ParseDSN(url)
	if err != nil {
		// Not err itself: it may quote the DSN, password included.
		return nil, errors.New("read TEST_MARIADB_URL: not a DSN; write user:password@tcp(host:port)/")
	}
	return open(config, "TEST_MARIADB_URL ("+config.Addr+")", func() error { return nil })
}

// open says once, on standard error, which server the tests run on: a result is worth little without it.
func open(config *mysql.Config, from string, stop func() error) (*server, error) {
	config = config.Clone()
	config.DBName = ""
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the DSN (%s): %w", from, err), stop())
	}
	s := &server{config: config, admin: sql.OpenDB(connector), from: from}
	s.stop = func() error { return errors.Join(s.admin.Close(), stop()) }
	var version string
	if err := s.admin.QueryRow("select version()").Scan(&version); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the server's version (%s): %w", from, err), s.stop())
	}
	fmt.Fprintf(os.Stderr, "mariatest: MariaDB %s from %s\n", version, from)
	return s, nil
}

func (s *server) database(t testing.TB) *mysql.Config {
	t.Helper()
	name := "mariatest_" + ephemeral.RandomHex(8)
	// The collation is the harshest of the usual ones: case, accents and trailing spaces do not count.
	if _, err := s.admin.ExecContext(t.Context(), "create database "+name+" character set utf8mb4 collate utf8mb4_unicode_ci"); err != nil {
		t.Fatalf("mariatest: create a database (%s): %v", s.from, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
		defer cancel()
		if _, err := s.admin.ExecContext(ctx, "drop database "+name); err != nil {
			t.Errorf("mariatest: drop database %s (%s): %v", name, s.from, err)
		}
	})
	config := s.config.Clone()
	config.DBName = name
	return config
}

// The server trades durability for speed, since nobody opens this data again after a crash, and listens on a socket in
// its own folder alone. What answers there is the server: it needs no port and no password. Temporary tables are in its folder too:
// a server that starts takes away all that it finds where those of others may be in use.
const (
	startServer = `mkdir "$dir/tmp" &&
"$INSTALL" --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve &&
{ "$SERVER" --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" --socket="$dir/socket" --pid-file="$dir/pid" --log-error="$dir/log.err" \
    --skip-networking --skip-name-resolve --skip-log-bin --max-connections=500 --character-set-server=utf8mb4 \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --innodb-fast-shutdown=2 --innodb-lock-wait-timeout=20 \
    --innodb-file-per-table=0 & server=$!; } &&
until grep -q "ready for connections" "$dir/log.err" 2>/dev/null; do
  waited=$((${waited:-0} + 1)); [ $waited -lt 3000 ] && kill -0 "$server" || { cat "$dir/log.err"; break; }
  sleep 0.02
done &&
grep -q "ready for connections" "$dir/log.err"`
	stopServer = `kill -KILL "${server:-}"; wait "${server:-}"; [ $? -eq 137 ] || tail -n 60 "$dir/log.err"`
)

func startLocal() (*server, error) {
	bin, err := find("mariadbd", "mysqld")
	if err != nil {
		return nil, err
	}
	install, err := find("mariadb-install-db", "mysql_install_db")
	if err != nil {
		return nil, err
	}
	dir, stop, err := ephemeral.Program{
		Name: "mariatest", From: bin, Start: startServer, Stop: stopServer,
		Env:   []string{"SERVER=" + bin, "INSTALL=" + install},
		Hide:  "MYSQL", // MYSQL_UNIX_PORT, MYSQL_HOME and the like
		Users: []string{"mysql", "nobody"},
	}.Run()
	if err != nil {
		return nil, err
	}
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr = "root", "unix", filepath.Join(dir, "socket")
	return open(config, "local binaries, "+bin, stop)
}

// find looks for a program under its names. Debian keeps servers in /usr/sbin, which is not in everybody's PATH.
func find(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, folder := range []string{"/usr/sbin", "/usr/bin"} {
			if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no %s in PATH, /usr/sbin or /usr/bin", ephemeral.ErrNoBinaries, names[0])
}
