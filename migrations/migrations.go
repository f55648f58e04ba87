// Package migrations makes the plugin's own tables: the ledger of runs, where a rotation keeps its ranges, counters, failures and events, and the wrapped keys of
// blind indexes and of branches.
//
// [Up] applies what a database lacks; it may run at every start of every process. Who migrates by other means takes the SQL from [Files]: each
// file records its own version, so that Up then finds nothing to do, whoever ran it.
//
// The databases are PostgreSQL, MySQL from 8.0 and MariaDB from 10.6 ("mysql"), and SQLite ("sqlite"). On PostgreSQL the tables go to the first
// schema of the connection's search_path, and later ones to where the first are; elsewhere to the connection's database. GORM's
// NamingStrategy has no say: the names are fixed, and all begin with rowseal_.
//
// A migration only adds, in every later release: a service still works when a newer one has migrated the database first. Up then leaves it as it is
// and warns through GORM's logger; [Status] shows it.
//
// Everything runs on one connection, past GORM's callbacks and logger. It is the one a *gorm.DB from [gorm.DB.Connection] holds, else one of
// the pool's. Within a transaction and in a dry run it is refused.
package migrations

// migrations.go owns what is to be done, and when it is refused.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"
)

var (
	// ErrRuns is the refusal to drop a ledger that holds runs.
	ErrRuns = errors.New("the ledger holds runs")
	// ErrIndexKeys is the refusal to drop the keys of blind indexes.
	ErrIndexKeys = errors.New("there are keys of blind indexes")
	// ErrBranchKeys is the refusal to drop branch keys, by which every row under them would be lost.
	ErrBranchKeys = errors.New("there are branch keys")
)

// Version is one migration.
type Version struct {
	Number  int
	Name    string
	Applied time.Time // by the database's clock; zero where it is not applied
	Newer   bool      // of a later release: the database has it, this build does not know it
}

// Up applies what the database lacks, in order, and returns that. However many processes call it at once, each migration is applied by one
// of them, and none returns before all are done. Where nothing is missing it only reads, and needs no right to change tables.
//
// A migration is one transaction on PostgreSQL and SQLite. On MySQL and MariaDB, whose DDL knows none, each statement can be repeated and the
// version is recorded last: what a crash left half-done, the next Up completes. It waits for others as long as ctx lets it.
func Up(ctx context.Context, db *gorm.DB) ([]Version, error) {
	return with(ctx, db, "up", func(s *session) (done []Version, err error) {
		for {
			have, err := s.recorded(ctx)
			if err != nil {
				return done, err
			}
			m, err := next(s.known, have)
			if m == nil || err != nil {
				if last, known := highest(have), len(s.known); last > known {
					db.Logger.Warn(ctx, "rowseal: migrations: the database is at version %d, of a later release; this build knows %d, and leaves it as it is", last, known)
				}
				return done, err
			}
			var ours Version
			err = s.alone(ctx, func() error {
				have, err := s.recorded(ctx)
				if _, faster := have[m.number]; faster || err != nil {
					return err
				}
				if err := s.run(ctx, m, m.up); err != nil {
					return err
				}
				have, err = s.recorded(ctx)
				ours = have[m.number]
				return err
			})
			if err != nil {
				return done, err
			}
			if ours.Number != 0 {
				done = append(done, ours)
			}
		}
	})
}

// Down reverses what is above version to, the last first, and returns that; with 0 nothing is left. It refuses with [ErrRuns] while the
// ledger holds any run, with [ErrIndexKeys] while any blind index has a key, with [ErrBranchKeys] while there is a branch key, and what a later release applied. On MySQL it needs the privilege LOCK TABLES.
func Down(ctx context.Context, db *gorm.DB, to int) ([]Version, error) {
	return with(ctx, db, "down", func(s *session) ([]Version, error) { return s.down(ctx, to, false) })
}

// Discard is Down for a ledger of runs that have ended, and loses them: their reports, failures and events. A run that is running or paused
// is refused with [ErrRuns] here as well; cancel it first. So are branch keys, with [ErrBranchKeys]: rows would be lost. Keys of blind indexes are lost too, and with them what the indexes hold: drop the index columns first.
func Discard(ctx context.Context, db *gorm.DB, to int) ([]Version, error) {
	return with(ctx, db, "discard", func(s *session) ([]Version, error) { return s.down(ctx, to, true) })
}

// Status lists the migrations that this build knows and those that the database has, in order. It only reads.
func Status(ctx context.Context, db *gorm.DB) ([]Version, error) {
	return with(ctx, db, "status", func(s *session) ([]Version, error) {
		have, err := s.recorded(ctx)
		if err != nil {
			return nil, err
		}
		for i := range s.known {
			if m := &s.known[i]; have[m.number].Number == 0 {
				have[m.number] = Version{Number: m.number, Name: m.name}
			}
		}
		return slices.SortedFunc(maps.Values(have), func(a, b Version) int { return a.Number - b.Number }), nil
	})
}

func with(ctx context.Context, db *gorm.DB, act string, f func(*session) ([]Version, error)) ([]Version, error) {
	s, err := open(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrations: %s: %w", act, err)
	}
	defer s.close()
	versions, err := f(s)
	if err != nil {
		return versions, fmt.Errorf("migrations: %s: %w", act, err)
	}
	return versions, nil
}

// next is the first migration that is missing, nil when none is.
func next(known []migration, have map[int]Version) (*migration, error) {
	for i := range known {
		m := &known[i]
		if _, ok := have[m.number]; ok {
			continue
		}
		if last := highest(have); last > m.number {
			return nil, fmt.Errorf("version %d is applied and %d (%s) is not; run %s, or insert its row into rowseal_migrations if its tables stand", last, m.number, m.name, m.file("up"))
		}
		return m, nil
	}
	return nil, nil
}

func highest(have map[int]Version) (last int) {
	for n := range have {
		last = max(last, n)
	}
	return last
}

func (s *session) down(ctx context.Context, to int, discard bool) (done []Version, err error) {
	if to < 0 {
		return nil, fmt.Errorf("to version %d: there is none below 0, where nothing is left", to)
	}
	for i := len(s.known) - 1; i >= to; i-- {
		m := &s.known[i]
		var was Version
		err := s.alone(ctx, func() error {
			have, err := s.recorded(ctx)
			if err != nil {
				return err
			}
			if last := highest(have); last > len(s.known) {
				return fmt.Errorf("version %d is of a later release; reverse it with that release, this build knows %d", last, len(s.known))
			}
			if was = have[m.number]; was.Number == 0 && (s.transactional() || highest(have) > m.number) {
				return nil
			}
			// Where DDL knows no transaction, what is not recorded may still stand, half-done.
			unlock, err := s.guard(ctx, discard)
			if err != nil {
				return err
			}
			return errors.Join(s.run(ctx, m, m.down), unlock())
		})
		if err != nil {
			return done, err
		}
		if was.Number != 0 {
			done = append(done, was)
		}
	}
	return done, nil
}
