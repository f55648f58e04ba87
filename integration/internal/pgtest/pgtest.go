// Package pgtest gives every test a fresh database on a real PostgreSQL server, and so a program that measures.
//
// One server serves a test binary. It starts when the first test asks for a database and stops when [ephemeral.Main]
// returns. The first of these that the environment allows provides it:
//
//   - TEST_DATABASE_URL, a server that is already there. The role must be allowed to create databases.
//   - A container, through testcontainers-go, when a Docker engine answers. TEST_POSTGRES_IMAGE names the image.
//     Defaults to the official one.
//   - The server's own binaries, run as a throw-away cluster. They are looked for in TEST_POSTGRES_BIN, PATH, what
//     pg_config names, and /usr/lib/postgresql.
//
// TEST_POSTGRES=docker or =local allows only that way, and an obstacle is then an error instead of a step down the
// list. TEST_REQUIRE=docker (a comma-separated list) does not allow a step past Docker either. Where no way is left the
// test fails; with -short it is skipped, unless CI is set or TEST_REQUIRE names postgres.
package pgtest

// pgtest.go owns what a test sees: the server's life and a database per test.

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

// dropTimeout bounds the clean-up of one test, whose own context has ended by then.
const dropTimeout = 30 * time.Second

// A server is a running PostgreSQL in which databases may be created.
type server struct {
	url  string // of an existing database, as a role that may create others
	way  string // "url", "docker" or "local"
	from string // the way with what it used, for people
	stop func() error
}

var shared struct {
	start  sync.Once
	server *server
	err    error
}

// DSN creates a database for t alone and returns its URL. The database is dropped when t ends, connections to it
// included. DSN ends t when there is no server, and is safe for parallel tests.
func DSN(t testing.TB) string {
	t.Helper()
	ephemeral.NeedsMain(t)
	shared.start.Do(func() {
		cfg := fromEnv()
		shared.server, shared.err = announce(choose(cfg, starters{url: startURL, docker: startDocker, local: startLocal}))
		if shared.err == nil {
			ephemeral.AtExit(shared.server.stop)
		}
	})
	if err := shared.err; err != nil {
		if maySkip(fromEnv(), testing.Short(), err) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	return shared.server.dsn(t)
}

// Start is [DSN] for a program that is no test: a server, which no one else uses, and a database on it. stop ends both.
func Start(ctx context.Context) (dsn string, stop func() error, err error) {
	s, err := announce(choose(fromEnv(), starters{url: startURL, docker: startDocker, local: startLocal}))
	if err != nil {
		return "", nil, err
	}
	dsn, drop, err := s.create(ctx)
	if err != nil {
		return "", nil, errors.Join(err, s.stop())
	}
	return dsn, func() error { return errors.Join(drop(), s.stop()) }, nil
}

// Which names the way this test binary's server came: "url", "docker" or "local", and "" while there is none. It may
// be called once [DSN] has returned.
func Which() string {
	if shared.server == nil {
		return ""
	}
	return shared.server.way
}

// announce says once, on standard error, which server the tests run on: a result is worth little without it.
func announce(s *server, err error) (*server, error) {
	if err != nil {
		return nil, err
	}
	var version string
	err = s.admin(context.Background(), func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "show server_version").Scan(&version)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: ask the server's version (%s): %w", s.from, err), s.stop())
	}
	fmt.Fprintf(os.Stderr, "pgtest: PostgreSQL %s from %s\n", version, s.from)
	return s, nil
}

func (s *server) dsn(t testing.TB) string {
	t.Helper()
	dsn, drop, err := s.create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return dsn
}

// create makes a database, and the function that drops it again, connections to it included.
func (s *server) create(ctx context.Context) (dsn string, drop func() error, err error) {
	name := "pgtest_" + ephemeral.RandomHex(8)
	if dsn, err = withDatabase(s.url, name); err != nil {
		return "", nil, err
	}
	// template0 and not template1: nobody can be connected to it, which would make CREATE DATABASE fail, and nothing
	// that someone left in the server's template gets into the test.
	if err := s.exec(ctx, "create database "+name+" template template0 encoding 'UTF8'"); err != nil {
		return "", nil, fmt.Errorf("pgtest: create a database (%s): %w", s.from, err)
	}
	return dsn, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
		defer cancel()
		// force: a pool that the test did not close must not hide behind an error about its connections.
		if err := s.exec(ctx, "drop database "+name+" with (force)"); err != nil {
			return fmt.Errorf("pgtest: drop database %s (%s): %w", name, s.from, err)
		}
		return nil
	}, nil
}

func (s *server) exec(ctx context.Context, sql string) error {
	return s.admin(ctx, func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, sql)
		return err
	})
}

func (s *server) admin(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	c, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	return do(ctx, c)
}

// withDatabase is dsn with another database. It takes both forms that libpq knows, a URL and key=value pairs.
func withDatabase(dsn, name string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " dbname=" + name, nil // the last of two equal keys counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		// Not err itself: it quotes the URL, password included.
		return "", errors.New("pgtest: read TEST_DATABASE_URL: not a URL; write postgres://user:password@host:port/database")
	}
	u.Path = "/" + name
	q := u.Query()
	q.Del("dbname") // it would win over the path
	q.Del("database")
	u.RawQuery = q.Encode()
	return u.String(), nil
}
