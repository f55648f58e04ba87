// pause.go owns the verb pause.

package main

import (
	"fmt"

	"github.com/rowseal/rowseal/rotation"
)

type pauseCommand struct {
	databaseFlags
	ID     string `arg:"" name:"run" help:"The run, as rowseal runs lists it."`
	Reason string `default:"by rowseal pause" placeholder:"TEXT" help:"Why, for whoever meets it."`
}

func (c *pauseCommand) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	if err := rotation.Pause(a.ctx, db, c.ID, c.Reason); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "run %s is paused; to go on: rowseal resume %s\n", c.ID, c.ID)
	return err
}
