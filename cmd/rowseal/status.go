// status.go owns the verb status: what is under which version and key.

package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/rowseal/rowseal/rotation"
)

type statusCommand struct {
	databaseFlags
	modelFlags
	JSON bool `name:"json" help:"Print JSON."`
}

// Help is what status --help says beside its flags.
func (*statusCommand) Help() string {
	return "It reads every envelope, changes nothing, and asks no key service: it needs no keys. A row with several data keys or regions is counted under each."
}

// held is a count with its model.
type held struct {
	Model string `json:"model"`
	Table string `json:"table"`
	rotation.Held
}

func (c *statusCommand) Run(a *app) error {
	m, err := c.manifest(func() (map[int]rotation.ManifestVersion, error) { return map[int]rotation.ManifestVersion{1: {}}, nil })
	if err != nil {
		return err
	}
	models, err := c.choose(m)
	if err != nil {
		return err
	}
	keys, err := noKeys(m)
	if err != nil {
		return err
	}
	db, shut, err := c.open(a)
	if err != nil {
		return err
	}
	defer shut()
	all := []held{}
	for _, model := range models {
		counts, err := rotation.Status(a.ctx, db, model, rotation.Config{Keys: keys})
		if err != nil {
			return err
		}
		for _, h := range counts {
			all = append(all, held{model.Name, model.Table, h})
		}
	}
	if c.JSON {
		return printJSON(a.stdout, all)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tCOLUMN\tVERSION\tSERVICE\tKEY\tROWS")
	for _, h := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", h.Model, h.Column, versionName(h.Version), or(h.Service), or(h.KeyRef), h.Rows)
	}
	runs, err := rotation.Runs(a.ctx, db)
	if err != nil && !errors.Is(err, rotation.ErrNoLedger) {
		return err
	}
	for _, r := range runs {
		if r.State == "running" || r.State == "paused" {
			fmt.Fprintf(w, "\nrun %s of %s is %s\n", r.ID, r.Target, r.State)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprint(a.stdout, b.String())
	return err
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
