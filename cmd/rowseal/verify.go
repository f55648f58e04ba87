// verify.go owns the verb verify: whether rows open with the keys at hand.

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rowseal/rowseal/rotation"
)

type verifyCommand struct {
	databaseFlags
	modelFlags
	keyFlags

	Sample  int           `placeholder:"N" help:"Rows of each model to look at, about, drawn at random. Where none of N fails, fewer than 3/N of all do, with 95 % confidence. Default: all."`
	Column  []string      `sep:"none" placeholder:"NAME" help:"A key column; all of each model where none is given. Repeatable."`
	Rate    float64       `placeholder:"N" help:"Data keys in a second, at most. Default: no bound."`
	Calls   int           `placeholder:"N" help:"Calls to key services in flight at once. Default: 64."`
	Timeout time.Duration `placeholder:"DURATION" help:"For one call to a key service; what takes longer is tried again. Default: 30s."`
	JSON    bool          `name:"json" help:"Print JSON."`
}

// Help is what verify --help says beside its flags.
func (*verifyCommand) Help() string {
	return `It reads, changes nothing, and makes a call to a key service for each data key. With the new key alone it shows that the old one is not needed any more:

  rowseal verify --manifest rowseal.json --key 2=awskms:arn:…

It ends with 0 when all that was looked at opens and is under the current version, 3 when something does not open, and 1 when something is left to rotate.`
}

// verified is what was found of a model.
type verified struct {
	Model string `json:"model"`
	Table string `json:"table"`
	*rotation.Verification
}

func (c *verifyCommand) Run(a *app) error {
	models, keys, db, shut, err := prepared(a, c.databaseFlags, c.modelFlags, c.keyFlags)
	if err != nil {
		return err
	}
	defer shut()
	all := []verified{}
	var failed, behind int64
	for _, model := range models {
		v, err := rotation.Verify(a.ctx, db, model, c.Sample, rotation.Config{Keys: keys, Columns: c.Column, Rate: c.Rate, Calls: c.Calls, Timeout: c.Timeout})
		if err != nil {
			return err
		}
		failed, behind = failed+v.Failed, behind+v.Behind
		if all = append(all, verified{model.Name, model.Table, v}); c.JSON {
			continue
		}
		if err := printVerified(a.stdout, model, v); err != nil {
			return err
		}
	}
	if c.JSON {
		if err := printJSON(a.stdout, all); err != nil {
			return err
		}
	}
	switch {
	case failed > 0:
		return &exitError{exitPartial, fmt.Errorf("%d keys or fields do not open", failed)}
	case behind > 0:
		return fmt.Errorf("%d keys are not where version %d puts them; rowseal rotate moves them", behind, keys.Current())
	}
	return nil
}

func printVerified(out io.Writer, model *rotation.ManifestModel, v *rotation.Verification) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("verified", "%s (%s)", model.Name, model.Table)
	line("rows", "%d", v.Rows)
	line("keys that unwrap", "%d of %d in the table", v.Keys, v.Of)
	if describesFields(model) {
		line("fields that authenticate", "%d", v.Fields)
	} else {
		line("fields", "not looked at: only a manifest names them")
	}
	if v.Shredded > 0 {
		line("shredded", "%d", v.Shredded)
	}
	line("left to rotate", "%d", v.Behind)
	line("do not open", "%d", v.Failed)
	for _, f := range v.Failures {
		line("", "%s  %s  %s  %s", f.Column, f.Row, f.Class, f.Message)
	}
	return errors.Join(w.Flush(), write(out, b.String()+"\n"))
}

func write(out io.Writer, text string) error {
	_, err := io.WriteString(out, text)
	return err
}

func describesFields(model *rotation.ManifestModel) bool {
	for _, k := range model.Keys {
		if len(k.Fields) > 0 {
			return true
		}
	}
	return false
}
