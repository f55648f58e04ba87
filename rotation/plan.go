// plan.go owns what a rotation would do, found out without beginning one.

package rotation

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/walk"
)

// Planned is what [RotateKMSKey] would do. Its JSON is stable: fields are added, and keep their names.
type Planned struct {
	Target   string  `json:"target"` // table and key columns
	Model    string  `json:"model"`
	Version  int     `json:"version"` // that rows would be moved to
	Before   []Group `json:"before"`
	Keys     int64   `json:"keys"`     // to move
	Current  int64   `json:"current"`  // under the version already; those under another key of it are moved too
	Broken   int64   `json:"broken"`   // key columns that hold no envelope: they would fail
	Shredded int64   `json:"shredded"` // keys that were shredded: they are passed over
	// PerKey is how many calls to key services one key took that was moved for a trial and not stored; 0 where there is none.
	PerKey  int64 `json:"calls_per_key"`
	Calls   int64 `json:"kms_calls"`         // Keys times PerKey
	Exposes bool  `json:"data_keys_exposed"` // whether data keys would be in the program's memory
	Active  *Run  `json:"run_that_goes_on"`  // nil where a new run would begin
	Ledger  bool  `json:"ledger_is_there"`   // false: migrations.Up comes first
	All     bool  `json:"all,omitempty"`     // Config.All
}

// Plan counts rows by version, moves one key for a trial, which is not stored, and says what [RotateKMSKey] would do. It writes nothing. It refuses what that
// would refuse.
func Plan(ctx context.Context, db *gorm.DB, model any, cfg Config) (*Planned, error) {
	j, err := reading(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	p := &Planned{Target: j.target, Model: j.model.Name, Version: j.keys.Current(), All: j.cfg.All}
	before, err := j.groups(ctx)
	if err != nil {
		return nil, err
	}
	p.Before = append([]Group{}, before...)
	if err := j.known(p.Before); err != nil {
		return nil, err
	}
	for _, g := range p.Before {
		switch {
		case g.Version == -1:
			p.Broken += g.Rows
		case g.Version == shredded:
			p.Shredded += g.Rows
		case g.Version == p.Version && !j.cfg.All:
			p.Current += g.Rows
		case g.Version > 0:
			p.Keys += g.Rows
		}
	}
	var exposed int64
	if p.PerKey, exposed, err = j.preflight(ctx); err != nil {
		return nil, err
	}
	p.Calls, p.Exposes = p.Keys*p.PerKey, exposed > 0
	switch err := j.ledger.Check(ctx); {
	case errors.Is(err, walk.ErrNoLedger):
		return p, nil
	case err != nil:
		return nil, err
	}
	p.Ledger = true
	run, err := j.ledger.FindActive(ctx, j.ledger.DB, j.target)
	switch {
	case err == nil:
		if run.State != walk.Paused {
			if err := j.joins(run); err != nil {
				return nil, err
			}
		}
		active := runOf(run)
		p.Active = &active
	case !errors.Is(err, walk.ErrNoRun):
		return nil, err
	}
	return p, nil
}

// reading is open for what needs no ledger.
func reading(ctx context.Context, db *gorm.DB, model any, cfg Config) (*job, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	j, err := newJob(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	if err := j.ledger.Dialect.Check(); err != nil {
		return nil, err
	}
	if err := j.walker.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("rotation: %w", err)
	}
	return j, nil
}
