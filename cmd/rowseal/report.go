// report.go owns the verb report.

package main

import "github.com/rowseal/rowseal/rotation"

type reportCommand struct {
	databaseFlags
	ID   string `arg:"" name:"run" help:"The run, as rowseal runs lists it."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *reportCommand) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	r, err := rotation.ReportOf(a.ctx, db, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, r)
	}
	return r.WriteTable(a.stdout)
}
