// runs.go owns the verb runs.

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rowseal/rowseal/rotation"
)

type runsCommand struct {
	databaseFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *runsCommand) Run(a *app) error {
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	runs, err := rotation.Runs(a.ctx, db)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(a.stdout, runs)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTATE\tOF\tSTARTED\tENDED\tBY\tREASON")
	for _, r := range runs {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, r.Target, moment(r.Started), moment(r.Ended), r.By, or(r.Reason))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprint(a.stdout, b.String())
	return err
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
