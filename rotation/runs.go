// runs.go owns runs from outside: which there are, what became of each, and the three things that can be done to one.

package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/walk"
)

// Run is a rotation as the ledger has it.
type Run struct {
	ID      string    `json:"id"`
	Target  string    `json:"target"` // table and key columns
	State   string    `json:"state"`  // running, paused, cancelled, done or failed
	Reason  string    `json:"reason,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"` // zero while it is active
	By      string    `json:"by"`
}

func runOf(r walk.Run) Run {
	return Run{r.ID, r.Target, r.State, r.Reason, r.Created, r.Ended, r.StartedBy}
}

// Runs lists all runs, the latest first.
func Runs(ctx context.Context, db *gorm.DB) ([]Run, error) {
	l, err := ledgerOf(ctx, db)
	if err != nil {
		return nil, err
	}
	found, err := l.List(ctx)
	runs := make([]Run, len(found))
	for i, r := range found {
		runs[i] = runOf(r)
	}
	return runs, err
}

// ReportOf gives the report of a run, as far as it has come.
func ReportOf(ctx context.Context, db *gorm.DB, id string) (*Report, error) {
	l, err := ledgerOf(ctx, db)
	if err != nil {
		return nil, err
	}
	run, err := l.Get(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("rotation: report: %w", err)
	}
	r, err := reportOf(ctx, l, run)
	if err != nil || run.State != walk.Done || run.Report != "" {
		return r, err
	}
	// Whoever ended it is about to store the report, or was killed before it could.
	var s spec
	if err := json.Unmarshal([]byte(run.Spec), &s); err != nil {
		return nil, fmt.Errorf("rotation: run %s: its specification: %w", run.ID, err)
	}
	var after []Group
	if run.Kind == kindIndex {
		after, err = countLacking(ctx, l, s.Table, s.Indexes)
	} else {
		after, err = countGroups(ctx, l, s.Table, s.Columns)
	}
	r.After = append(r.After, after...)
	return r, err
}

// Pause stops a run at the next page of each lane, wherever it runs. What is done stays done; [Resume] lets it go on.
func Pause(ctx context.Context, db *gorm.DB, id, reason string) error {
	return move(ctx, db, id, walk.Paused, reason, walk.Running)
}

// Resume lets a paused run go on: by the next call of [RotateKMSKey], or by the programs that keep runs going.
func Resume(ctx context.Context, db *gorm.DB, id string) error {
	return move(ctx, db, id, walk.Running, "", walk.Paused)
}

// Cancel ends a run for good. Rows that were moved stay so; another run begins with what is left.
func Cancel(ctx context.Context, db *gorm.DB, id, reason string) error {
	return move(ctx, db, id, walk.Cancelled, reason, walk.Running, walk.Paused)
}

func move(ctx context.Context, db *gorm.DB, id, state, reason string, from ...string) error {
	l, err := ledgerOf(ctx, db)
	if err != nil {
		return err
	}
	run, err := l.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	moved, err := l.Move(ctx, id, state, reason, from...)
	if err == nil && !moved {
		err = fmt.Errorf("rotation: run %s is %s, and cannot become %s", id, run.State, state)
	}
	return err
}
