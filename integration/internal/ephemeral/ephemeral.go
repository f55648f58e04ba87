// Package ephemeral is what the databases of tests have in common: servers that live as long as the test binary which started them, and
// the environment that says which of them must be there.
package ephemeral

// ephemeral.go owns the end of a test binary, and what the environment requires.

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// ErrNoBinaries is for a server whose programs are not on this machine.
var ErrNoBinaries = errors.New("no server binaries")

var ending struct {
	mainRuns atomic.Bool
	mu       sync.Mutex
	stops    []func() error
}

// Main runs a package's tests and stops the servers that they shared. A package that asks for a database needs it:
//
//	func TestMain(m *testing.M) { ephemeral.Main(m) }
func Main(m *testing.M) {
	ending.mainRuns.Store(true)
	code := m.Run()
	for _, stop := range ending.stops {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// NeedsMain ends t where nothing would stop a server that it starts.
func NeedsMain(t testing.TB) {
	t.Helper()
	if !ending.mainRuns.Load() {
		t.Fatal("ephemeral: nothing would stop the server; add to the package: func TestMain(m *testing.M) { ephemeral.Main(m) }")
	}
}

// AtExit has [Main] call stop when the tests are over.
func AtExit(stop func() error) {
	ending.mu.Lock()
	defer ending.mu.Unlock()
	ending.stops = append(ending.stops, stop)
}

// Required lists the parts that TEST_REQUIRE names.
func Required() (parts []string) {
	for part := range strings.SplitSeq(os.Getenv("TEST_REQUIRE"), ",") {
		parts = append(parts, strings.TrimSpace(part))
	}
	return parts
}

// Requires reports that TEST_REQUIRE names a part.
func Requires(part string) bool { return slices.Contains(Required(), part) }

// RandomHex is n random bytes as text.
func RandomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
