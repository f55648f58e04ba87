// errors.go owns what callers branch on, and which errors are worth another try.

package rotation

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

var (
	// ErrPaused: the run was paused, by [Pause]; it goes on with [Resume].
	ErrPaused = errors.New("the run is paused")
	// ErrBudget: more keys failed than [Config].Budget allows. The run has ended; the next one begins with what is left.
	ErrBudget = errors.New("too many keys failed")
	// ErrElsewhere: this program is not set up for the run, because it lacks the model, or its keyring has another current version; another one may be.
	ErrElsewhere = errors.New("the run is not for this program")
	// ErrNoRun: there is no such run.
	ErrNoRun = walk.ErrNoRun
	// ErrNoLedger: the plugin's own tables are not there; make them with migrations.Up.
	ErrNoLedger = walk.ErrNoLedger
)

// PartialError is a rotation that went through the whole table and could not move every key, or a filling that could not write every index.
type PartialError struct {
	Report *Report
}

// Error names the first rows.
func (e *PartialError) Error() string {
	var b strings.Builder
	done, again := "keys were moved", "rotate again"
	if e.Report.Kind == kindIndex {
		done, again = "indexes were written", "fill indexes again"
	}
	fmt.Fprintf(&b, "rotation: run %s of %s: %d %s, and %d could not be", e.Report.Run, e.Report.Target, e.Report.Rewrapped, done, e.Report.Failed)
	for i, f := range e.Report.Failures {
		if i == 3 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %s %s: %s", f.Column, f.Row, f.Message)
	}
	b.WriteString("; mend them and " + again + ": what is done stays done")
	return b.String()
}

// transient reports an error of a service or a database that may be gone the next time. Those of single rows never come here.
func transient(err error) bool {
	if errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var network net.Error
	if errors.As(err, &network) {
		return true
	}
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		switch code := state.SQLState(); {
		case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "40"), strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57"), code == "55P03":
			return true // connection, transaction rollback, resources, operator, lock not available
		}
	}
	text := err.Error()
	for _, says := range []string{"database is locked", "Deadlock found", "Lock wait timeout", "invalid connection", "connection refused", "closed network connection", "Too many connections", "Server shutdown in progress", "Connection was killed",
		"Query execution was interrupted", "max_statement_time exceeded", "Record has changed since last read", "broken pipe", "unexpected EOF", "conn closed"} {
		if strings.Contains(text, says) {
			return true
		}
	}
	return false
}
