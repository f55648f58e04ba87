// cancel.go owns the verb cancel.

package main

import (
	"fmt"

	"github.com/rowseal/rowseal/rotation"
)

type cancelCommand struct {
	databaseFlags
	ID     string `arg:"" name:"run" help:"The run, as rowseal runs lists it."`
	Reason string `default:"by rowseal cancel" placeholder:"TEXT" help:"Why, for whoever meets it."`
}

func (c *cancelCommand) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	if err := rotation.Cancel(a.ctx, db, c.ID, c.Reason); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "run %s is cancelled; what it moved stays so\n", c.ID)
	return err
}
