// migrate.go owns the verb migrate: the tables that rotations keep their place in.

package main

import (
	"errors"
	"fmt"

	"github.com/rowseal/rowseal/migrations"
)

type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Make the tables, or bring them up to date."`
	Down   migrateDown   `cmd:"" help:"Remove the tables. Refused while they hold runs or keys of indexes."`
	Status migrateStatus `cmd:"" help:"List what is applied."`
}

type migrateUp struct{ databaseFlags }

type migrateDown struct {
	databaseFlags
	To      int  `default:"0" placeholder:"N" help:"The version that stays; 0, the default, leaves nothing."`
	Discard bool `help:"Lose the reports of runs that have ended, and the keys of blind indexes, without which no index finds anything."`
}

type migrateStatus struct {
	databaseFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *migrateUp) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	done, err := migrations.Up(a.ctx, db)
	return printVersions(a, "applied", "nothing to do", done, err)
}

func (c *migrateDown) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	down := migrations.Down
	if c.Discard {
		down = migrations.Discard
	}
	done, err := down(a.ctx, db, c.To)
	if errors.Is(err, migrations.ErrRuns) && !c.Discard {
		err = fmt.Errorf("%w; rowseal report keeps what they say, and --discard loses it", err)
	}
	return printVersions(a, "removed", "nothing to do", done, err)
}

// printVersions says what was done, also where not all was.
func printVersions(a *app, verb, none string, done []migrations.Version, err error) error {
	for _, v := range done {
		if _, werr := fmt.Fprintf(a.stdout, "%s %d %s\n", verb, v.Number, v.Name); werr != nil {
			return errors.Join(err, werr)
		}
	}
	if len(done) == 0 && err == nil {
		_, err = fmt.Fprintln(a.stdout, none)
	}
	return err
}

func (c *migrateStatus) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	versions, err := migrations.Status(a.ctx, db)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, versions)
	}
	for _, v := range versions {
		state := "missing"
		switch {
		case v.Newer:
			state = "applied " + moment(v.Applied) + ", by a later release"
		case !v.Applied.IsZero():
			state = "applied " + moment(v.Applied)
		}
		if _, err := fmt.Fprintf(a.stdout, "%d %s: %s\n", v.Number, v.Name, state); err != nil {
			return err
		}
	}
	return nil
}
