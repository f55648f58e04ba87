package pgtest

// choose.go owns the decision where the server comes from.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

// defaultImage is pinned to a major version, so that a new one is a change of this repository.
const defaultImage = "postgres:17"

// A starter fails with one of these when its way is not there at all, and with another error when it is there but
// broken.
var (
	errNoEngine   = errors.New("no Docker engine answers")
	errNoBinaries = ephemeral.ErrNoBinaries
)

// errNoServer is the end of the list.
var errNoServer = errors.New("no PostgreSQL server for the tests")

type config struct {
	url     string
	way     string // "", "docker" or "local"
	image   string
	bin     string
	require []string
	ci      bool
}

func fromEnv() config {
	cfg := config{
		url:   os.Getenv("TEST_DATABASE_URL"),
		way:   os.Getenv("TEST_POSTGRES"),
		image: os.Getenv("TEST_POSTGRES_IMAGE"),
		bin:   os.Getenv("TEST_POSTGRES_BIN"),
		ci:    os.Getenv("CI") != "",

		require: ephemeral.Required(),
	}
	if cfg.image == "" {
		cfg.image = defaultImage
	}
	return cfg
}

func (cfg config) requires(part string) bool { return slices.Contains(cfg.require, part) }

type starters struct {
	url, docker, local func(config) (*server, error)
}

func choose(cfg config, start starters) (*server, error) {
	if cfg.url != "" {
		return start.url(cfg)
	}
	switch cfg.way {
	case "", "docker", "local":
	default:
		return nil, fmt.Errorf("pgtest: TEST_POSTGRES=%s is not known; set docker, local or nothing", cfg.way)
	}
	var noDocker error
	if cfg.way != "local" {
		s, err := start.docker(cfg)
		if err == nil {
			return s, nil
		}
		if cfg.way == "docker" {
			return nil, fmt.Errorf("pgtest: start PostgreSQL as TEST_POSTGRES=docker asks: %w", err)
		}
		if cfg.requires("docker") {
			return nil, fmt.Errorf("pgtest: start PostgreSQL as TEST_REQUIRE=docker asks: %w", err)
		}
		if !errors.Is(err, errNoEngine) {
			fmt.Fprintf(os.Stderr, "pgtest: going on without Docker: %v\n", err)
		}
		noDocker = err
	}
	s, err := start.local(cfg)
	switch {
	case err == nil:
		return s, nil
	case cfg.way == "local":
		return nil, fmt.Errorf("pgtest: start PostgreSQL as TEST_POSTGRES=local asks: %w", err)
	case cfg.bin != "" || !errors.Is(err, errNoBinaries):
		return nil, fmt.Errorf("pgtest: start PostgreSQL: %w", err)
	}
	return nil, fmt.Errorf("pgtest: %w: set TEST_DATABASE_URL to a server where databases may be created, "+
		"or make Docker work (%w), or install the server's binaries, e.g. apt-get install postgresql (%w)",
		errNoServer, noDocker, err)
}

// maySkip is the one case in which a missing server does not fail a test: someone at a desk asked for the short run.
func maySkip(cfg config, short bool, err error) bool {
	return short && !cfg.ci && !cfg.requires("postgres") && errors.Is(err, errNoServer)
}

func startURL(cfg config) (*server, error) {
	// Parsed here, so that a slip is reported as the variable's and not as the first test's.
	c, err := pgx.ParseConfig(cfg.url)
	if err != nil {
		return nil, fmt.Errorf("pgtest: read TEST_DATABASE_URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(context.Background(), c)
	if err != nil {
		return nil, fmt.Errorf("pgtest: reach TEST_DATABASE_URL: %w", err)
	}
	if err := conn.Close(context.Background()); err != nil {
		return nil, fmt.Errorf("pgtest: leave TEST_DATABASE_URL: %w", err)
	}
	return &server{
		url: cfg.url, way: "url", from: fmt.Sprintf("TEST_DATABASE_URL (%s:%d)", c.Host, c.Port),
		stop: func() error { return nil },
	}, nil
}
