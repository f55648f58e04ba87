// rotate.go owns the verb rotate: models one after the other, what is said of each, and how it ends.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/rotation"
)

type rotateCommand struct {
	databaseFlags
	modelFlags
	keyFlags

	Column []string `group:"Pace and extent" sep:"none" placeholder:"NAME" help:"A key column; all of each model where none is given. Repeatable."`
	All    bool     `group:"Pace and extent" help:"Wrap keys anew that are current already: after a key service has rotated its key by itself."`
	Rate   float64  `group:"Pace and extent" placeholder:"N" help:"Data keys in a second, at most, to leave the rest of a quota to the application. Default: no bound."`
	Calls  int      `group:"Pace and extent" placeholder:"N" help:"Calls to key services in flight at once. Default: 64."`
	Lanes  int      `group:"Pace and extent" placeholder:"N" help:"Parts of a table that are worked on at once. Default: 1."`

	Timeout time.Duration `group:"Pace and extent" placeholder:"DURATION" help:"For one call to a key service; what takes longer is tried again. Default: 30s."`
	Lease   time.Duration `group:"Pace and extent" placeholder:"DURATION" help:"After which others take over what this program was at, where it is gone. Default: 30s."`

	Budget int64 `group:"Pace and extent" placeholder:"N" help:"Keys that may fail before the rotation stops; --budget=-1 goes on whatever fails. Default: 100."`

	DryRun bool    `group:"Output" help:"Say what is to do, how many calls it takes, what they cost and how long. One key is moved for a trial and not stored; nothing is written."`
	Price  float64 `group:"Output" default:"0.03" placeholder:"USD" help:"Of 10,000 calls, for --dry-run. Default: 0.03, which AWS takes."`
	JSON   bool    `group:"Output" name:"json" help:"Print a list of reports in JSON."`
	Quiet  bool    `group:"Output" help:"Show no progress."`
}

// Help is what rotate --help says beside its flags.
func (*rotateCommand) Help() string {
	return `Each row's data key is wrapped anew and stays the same: no field changes, and no row is locked while a key service answers. Called again, it goes on where
it was. Several may run at once and share the work. Roll the new version out to every process of the application first.

  rowseal rotate --dry-run --manifest rowseal.json --key 1=awskms:arn:… --key 2=awskms:arn:… --current 2

It ends with 0 when all is done, 3 when it is done but for rows that failed, 4 when it is paused, 5 when a signal stopped it, 2 for a mistake
in the call, and 1 for all else.`
}

// The codes that a rotation ends with, beside 0, 1 and 2.
const (
	exitPartial = 3
	exitPaused  = 4
	exitStopped = 5
)

func (c *rotateCommand) Run(a *app) error {
	models, keys, db, shut, err := prepared(a, c.databaseFlags, c.modelFlags, c.keyFlags)
	if err != nil {
		return err
	}
	defer shut()
	cfg := rotation.Config{Keys: keys, Columns: c.Column, All: c.All, Rate: c.Rate, Calls: c.Calls, Timeout: c.Timeout, Lanes: c.Lanes, Budget: c.Budget, Lease: c.Lease}
	if c.DryRun {
		return c.plan(a, db, models, cfg)
	}
	reports := []*rotation.Report{}
	ends := &ends{}
	for _, model := range models {
		report, err := c.rotate(a, db, model, cfg)
		if report != nil {
			reports = append(reports, report)
			if !c.JSON {
				if err := printReport(a.stdout, report); err != nil {
					return err
				}
			}
		}
		if ends.add(model, report, err); ends.code == exitStopped || ends.fatal {
			break
		}
	}
	if c.JSON {
		if err := printJSON(a.stdout, reports); err != nil {
			return err
		}
	}
	return ends.err()
}

func printReport(w io.Writer, r *rotation.Report) error {
	if err := r.WriteTable(w); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (c *rotateCommand) rotate(a *app, db *gorm.DB, model *rotation.ManifestModel, cfg rotation.Config) (*rotation.Report, error) {
	var p *progress
	if !c.Quiet {
		p = newProgress(a.stderr, model.Table)
		cfg.Progress = p.show
	}
	report, err := rotation.RotateKMSKey(a.ctx, db, model, cfg)
	p.end()
	return report, err
}

// ends adds up how several rotations ended: the gravest code counts.
type ends struct {
	code  int
	fatal bool // the next model would meet the same
	texts []string
}

// gravity orders the codes.
var gravity = map[int]int{0: 0, exitPartial: 1, exitPaused: 2, 1: 3, exitStopped: 4}

func (e *ends) add(model *rotation.ManifestModel, report *rotation.Report, err error) {
	if err == nil {
		return
	}
	code, text := 1, err.Error()
	_, partial := errors.AsType[*rotation.PartialError](err)
	switch {
	case partial:
		code = exitPartial
	case errors.Is(err, context.Canceled):
		code = exitStopped
		text = "stopped before it began; nothing was changed"
		if report != nil {
			text = fmt.Sprintf("stopped: %d keys of %s are moved, and all of it is kept; the same command goes on there (run %s)", report.Rewrapped, model.Table, report.Run)
		}
	case report == nil && errors.Is(err, rotation.ErrPaused):
		code = exitPaused
	case report != nil && report.State == "paused":
		code = exitPaused
		text = fmt.Sprintf("paused (%s): %d keys of %s are moved; to go on: rowseal resume %s, then the same command", report.Reason, report.Rewrapped, model.Table, report.Run)
	default:
		e.fatal = model.Only == ""
	}
	if gravity[code] > gravity[e.code] {
		e.code = code
	}
	e.texts = append(e.texts, text)
}

func (e *ends) err() error {
	if e.code == 0 {
		return nil
	}
	return &exitError{e.code, errors.New(strings.Join(e.texts, "\n  "))}
}

// planned is what a dry run says of a model.
type planned struct {
	*rotation.Planned
	Cost    float64 `json:"cost_usd"`
	Seconds float64 `json:"seconds_at_rate"` // 0 where no rate is given
}

func (c *rotateCommand) plan(a *app, db *gorm.DB, models []*rotation.ManifestModel, cfg rotation.Config) error {
	plans := []planned{}
	ends := &ends{}
	for _, model := range models {
		p, err := rotation.Plan(a.ctx, db, model, cfg)
		if err != nil {
			if ends.add(model, nil, err); ends.fatal || ends.code == exitStopped {
				break
			}
			continue
		}
		next := planned{Planned: p, Cost: float64(p.Calls) * c.Price / 10_000}
		if c.Rate > 0 {
			next.Seconds = float64(p.Keys) / c.Rate
		}
		plans = append(plans, next)
		if p.Keys > 0 && p.PerKey == 0 {
			ends.add(model, nil, fmt.Errorf("%s: none of the first keys could be moved for a trial: they do not fit these keys and contexts, or are damaged", model.Table))
		}
	}
	if c.JSON {
		if err := printJSON(a.stdout, plans); err != nil {
			return err
		}
		return ends.err()
	}
	for _, p := range plans {
		if err := c.printPlan(a.stdout, p); err != nil {
			return err
		}
	}
	return ends.err()
}

func (c *rotateCommand) printPlan(out io.Writer, p planned) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("dry run of", "%s", p.Target)
	line("to version", "%d", p.Version)
	for _, g := range p.Before {
		line("now", "%s  %s  %d", g.Column, versionName(g.Version), g.Rows)
	}
	line("keys to move", "%d", p.Keys)
	if p.Broken > 0 {
		line("would fail", "%d, which hold no envelope", p.Broken)
	}
	if p.Shredded > 0 {
		line("shredded, passed over", "%d", p.Shredded)
	}
	if p.Current > 0 && !c.All {
		line("of that version already", "%d, of which those under another key of it are moved too", p.Current)
	}
	if p.PerKey == 0 {
		line("calls to key services", "not known: no key was moved for a trial")
	} else {
		line("calls to key services", "%d, %d for each key, as tried on one row", p.Calls, p.PerKey)
		line("cost", "%.4f USD at %s for 10,000 calls", p.Cost, strconv.FormatFloat(c.Price, 'f', -1, 64))
		exposure := "would stay in the key service"
		if p.Exposes {
			exposure = "would be in this program's memory"
		}
		line("data keys", "%s", exposure)
	}
	if p.Seconds > 0 {
		line("time", "%v at --rate %g", time.Duration(p.Seconds*float64(time.Second)).Round(time.Second), c.Rate)
	} else {
		line("time", "as fast as the key service answers; --rate bounds it")
	}
	switch {
	case !p.Ledger:
		line("before it", "rowseal migrate up: the tables that it keeps its place in are missing")
	case p.Active != nil:
		line("goes on with", "run %s, which is %s", p.Active.ID, p.Active.State)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

func versionName(n int) string {
	switch n {
	case 0:
		return "NULL"
	case -1:
		return "no envelope"
	case -2:
		return "shredded"
	}
	return "v" + strconv.Itoa(n)
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}
