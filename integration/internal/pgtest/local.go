package pgtest

// local.go owns the server run from local binaries.

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/rowseal/rowseal/integration/internal/ephemeral"
)

const (
	startCluster = `printf '%s\n' "$PASSWORD" >"$dir/password" &&
"$BIN/initdb" -D "$dir/data" -U postgres --pwfile="$dir/password" -A scram-sha-256 -E UTF8 --no-locale --no-sync &&
"$BIN/pg_ctl" -D "$dir/data" -l "$dir/log" -o "$OPTIONS" -w -t 60 start`
	stopCluster = `"$BIN/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null || tail -n 60 "$dir/log"`
)

// throwAway trades durability for speed: nobody opens this data again after a crash.
var throwAway = []string{
	"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
	// Parallel tests each hold a pool.
	"-c", "max_connections=300",
}

func startLocal(cfg config) (*server, error) {
	bin, err := findBinaries(cfg.bin)
	if err != nil {
		return nil, err
	}
	// A free port can be taken by another process before the server has it; three in a row are something else.
	for try := 1; ; try++ {
		s, err := runLocal(bin)
		if err == nil || try == 3 || !strings.Contains(err.Error(), "could not bind") {
			return s, err
		}
	}
}

func runLocal(bin string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	password := ephemeral.RandomHex(16)
	options := append([]string{"-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}, throwAway...)
	_, stop, err := ephemeral.Program{
		Name: "pgtest", From: bin, Start: startCluster, Stop: stopCluster,
		Env:   []string{"BIN=" + bin, "PASSWORD=" + password, "OPTIONS=" + strings.Join(options, " ")},
		Hide:  "PG", // PGPORT, PGDATA and the like
		Users: []string{"postgres", "nobody"},
	}.Run()
	if err != nil {
		return nil, err
	}
	return &server{
		url: "postgres://postgres:" + password + "@127.0.0.1:" + port + "/postgres?sslmode=disable",
		way: "local", from: "local binaries in " + bin, stop: stop,
	}, nil
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// findBinaries returns the folder of initdb, pg_ctl and postgres. A folder that was named is the only one looked at.
func findBinaries(named string) (string, error) {
	if named != "" {
		if err := hasBinaries(named); err != nil {
			return "", fmt.Errorf("%w: TEST_POSTGRES_BIN: %w", ephemeral.ErrNoBinaries, err)
		}
		return named, nil
	}
	var folders []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(initdb))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		panic("pgtest: internal error: " + err.Error())
	}
	slices.SortFunc(debian, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	for _, folder := range append(folders, debian...) {
		if hasBinaries(folder) == nil {
			return folder, nil
		}
	}
	return "", fmt.Errorf("%w in PATH, by pg_config or in /usr/lib/postgresql; TEST_POSTGRES_BIN names their folder",
		ephemeral.ErrNoBinaries)
}

// majorVersion reads the 15 of /usr/lib/postgresql/15/bin, and the 9 of 9.6.
func majorVersion(folder string) int {
	major, _, _ := strings.Cut(filepath.Base(filepath.Dir(folder)), ".")
	n, _ := strconv.Atoi(major) // what is no number comes last
	return n
}

func hasBinaries(folder string) error {
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}
