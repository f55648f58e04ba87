//go:build !unix

package pgtest

import "fmt"

func startLocal(config) (*server, error) {
	return nil, fmt.Errorf("%w are run on this system; use TEST_DATABASE_URL or Docker", errNoBinaries)
}
