package pgtest

// docker.go owns the server in a container.

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

const (
	// dockerTimeout includes the pull of an image. Without it a network that drops packets holds the tests for ever.
	dockerTimeout = 90 * time.Second
	// reachTimeout bounds the search for the address of a server that has said it is ready.
	reachTimeout = 15 * time.Second
	dialTimeout  = 2 * time.Second
)

func startDocker(cfg config) (*server, error) {
	// Asked first, since a failed Run does not tell a missing engine from a missing image.
	provider, err := testcontainers.ProviderDocker.GetProvider()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoEngine, err)
	}
	provider.Close()

	ctx, cancel := context.WithTimeout(context.Background(), dockerTimeout)
	defer cancel()
	password := ephemeral.RandomHex(16)
	container, err := postgres.Run(ctx, cfg.image,
		postgres.WithUsername("postgres"),
		postgres.WithPassword(password),
		postgres.WithDatabase("postgres"),
		// The first time it is the entrypoint's set-up server that is ready. The usual second condition, that the port
		// answers, is reach's: testcontainers would look at one address alone.
		testcontainers.WithWaitStrategyAndDeadline(dockerTimeout,
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2)),
		testcontainers.WithCmdArgs(throwAway...),
		// In memory, see [ephemeral.Program]; what an engine has under its containers may be slower than a disk.
		testcontainers.WithTmpfs(map[string]string{"/var/lib/postgresql/data": "rw"}),
		testcontainers.WithLogger(log.New(io.Discard, "", 0)), // a failure says it all in its error
	)
	stop := func() error {
		if err := testcontainers.TerminateContainer(container); err != nil {
			return fmt.Errorf("pgtest: remove the container: %w", err)
		}
		return nil
	}
	if err == nil {
		var dsn string
		if dsn, err = reach(ctx, container, password); err == nil {
			return &server{url: dsn, way: "docker", from: "Docker, image " + cfg.image, stop: stop}, nil
		}
	}
	if container != nil {
		_ = stop() // why it did not start is the better news
	}
	return nil, fmt.Errorf("start a container of %s (TEST_POSTGRES_IMAGE names another image, "+
		"TESTCONTAINERS_RYUK_DISABLED=true does without the reaper's): %w", cfg.image, err)
}

// reach finds the address at which the container's port is published. testcontainers guesses it, and where it takes
// its host for a container guesses the default gateway. That is right inside a container that was handed the engine's
// socket and wrong where the engine runs beside the tests, in a virtual machine made from an image, say. So loopback is
// tried first, where nothing listens in the other case. The password is this container's alone: what answers to it is
// the server.
func reach(ctx context.Context, container *postgres.PostgresContainer, password string) (string, error) {
	port, err := container.MappedPort(ctx, "5432/tcp")
	if err != nil {
		return "", err
	}
	guess, err := container.Host(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		for _, host := range []string{"127.0.0.1", guess} {
			u := url.URL{
				Scheme: "postgres", User: url.UserPassword("postgres", password),
				Host: net.JoinHostPort(host, port.Port()), Path: "/postgres", RawQuery: "sslmode=disable",
			}
			if err = answers(ctx, u.String()); err == nil {
				return u.String(), nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("its port is published but not reached; TESTCONTAINERS_HOST_OVERRIDE names the "+
				"engine's host: %w", err)
		case <-again.C: // some engines publish a port a little later than the server is ready
		}
	}
}

func answers(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	return c.Close(ctx)
}
