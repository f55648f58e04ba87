// resume.go owns the verb resume.

package main

import (
	"fmt"

	"github.com/rowseal/rowseal/rotation"
)

type resumeCommand struct {
	databaseFlags
	ID string `arg:"" name:"run" help:"The run, as rowseal runs lists it."`
}

func (c *resumeCommand) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	if err := rotation.Resume(a.ctx, db, c.ID); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "run %s may go on; the next rowseal rotate takes it up\n", c.ID)
	return err
}
