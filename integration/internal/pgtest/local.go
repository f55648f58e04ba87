package pgtest

// local.go owns the search for server binaries. What runs them is in local_unix.go.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// throwAway trades durability for speed: nobody opens this data again after a crash.
var throwAway = []string{
	"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
	// Parallel tests each hold a pool.
	"-c", "max_connections=300",
}

// findBinaries returns the folder of initdb, pg_ctl and postgres. A folder that was named is the only one looked at.
func findBinaries(named string) (string, error) {
	if named != "" {
		if err := hasBinaries(named); err != nil {
			return "", fmt.Errorf("%w: TEST_POSTGRES_BIN: %w", errNoBinaries, err)
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
		errNoBinaries)
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
