// report.go owns what a rotation says of itself: progress while it runs, and its report, as a table and as JSON.

package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rowseal/rowseal/internal/walk"
)

// Group is how many rows of a key column are under one version.
type Group struct {
	Column  string `json:"column"`
	Version int    `json:"version"` // 0 for NULL, -1 for what is no envelope, -2 for keys that were shredded; of an index, that of its key, and -1 for rows without it
	Rows    int64  `json:"rows"`
}

// shredded is the version of keys that were destroyed on purpose (rowseal.Shred): there is nothing to move, and nothing to ask a key service.
const shredded = -2

// shreddedOf counts them.
func shreddedOf(groups []Group) (n int64) {
	for _, g := range groups {
		if g.Version == shredded {
			n += g.Rows
		}
	}
	return n
}

// Failure is one key that could not be moved. Its row is unchanged.
type Failure struct {
	Row     string `json:"row"` // the primary key
	Column  string `json:"column"`
	Class   string `json:"class"` // as kmskey.Outcome says it; "contended": other writers changed it each time; "duplicate": a unique index has the value already
	Version int    `json:"version"`
	Message string `json:"message"`
}

// Report is what became of a run. Its JSON is stable: fields are added, and keep their names.
type Report struct {
	Run       string    `json:"run"`
	Kind      string    `json:"kind"` // "rewrap", or "index" for one that filled indexes
	Target    string    `json:"target"`
	Model     string    `json:"model"`
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	Version   int       `json:"version"` // that rows were moved to; that of the keyring where indexes were filled
	StartedBy string    `json:"started_by"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"` // zero while it runs
	Seconds   float64   `json:"seconds"`

	Seen      int64 `json:"seen"`      // keys
	Rewrapped int64 `json:"rewrapped"` // moved by this run, or filled
	Current   int64 `json:"current"`   // needed nothing
	Raced     int64 `json:"raced"`     // moved or filled by another writer meanwhile
	Gone      int64 `json:"gone"`      // deleted meanwhile
	Failed    int64 `json:"failed"`    // could not be moved
	Calls     int64 `json:"kms_calls"` // whose work was stored
	Exposed   int64 `json:"data_keys_exposed"`
	Shredded  int64 `json:"shredded"` // of keys in the table, not of those seen: passed over

	Before   []Group   `json:"before"`
	After    []Group   `json:"after"`
	Failures []Failure `json:"failures"` // the first 1,000
}

const mostFailures = 1000

// Exposure says where data keys were in the clear.
func (r *Report) Exposure() string {
	if r.Exposed == 0 {
		return "none: the key service did it by itself"
	}
	return fmt.Sprintf("%d data keys were in this program's memory", r.Exposed)
}

// WriteTable prints the report for people.
func (r *Report) WriteTable(out io.Writer) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("run", "%s", r.Run)
	row("of", "%s", r.Target)
	state := r.State
	if r.Reason != "" {
		state += ": " + r.Reason
	}
	row("state", "%s", state)
	keys, moved := "keys", "rewrapped"
	if r.Kind == kindIndex {
		keys, moved = "indexes", "written"
	} else {
		row("to version", "%d", r.Version)
	}
	row("took", "%v", time.Duration(r.Seconds*float64(time.Second)).Round(10*time.Millisecond))
	row(keys+" seen", "%d", r.Seen)
	row("  "+moved, "%d", r.Rewrapped)
	row("  current already", "%d", r.Current)
	row("  by others meanwhile", "%d", r.Raced)
	row("  deleted meanwhile", "%d", r.Gone)
	row("  failed", "%d", r.Failed)
	if r.Shredded > 0 {
		row("shredded, passed over", "%d", r.Shredded)
	}
	row("calls to key services", "%d", r.Calls)
	row("exposure", "%s", r.Exposure())
	for i, groups := range [][]Group{r.Before, r.After} {
		for _, g := range groups {
			row([]string{"before", "after"}[i], "%s  %s  %d", g.Column, g.name(r.Kind), g.Rows)
		}
	}
	for _, f := range r.Failures {
		row("failed", "%s  %s  %s  %s", f.Column, f.Row, f.Class, f.Message)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func (g Group) name(kind string) string {
	switch {
	case g.Version == 0:
		return "NULL"
	case g.Version == -1 && kind == kindIndex:
		return "without it"
	case g.Version == -1:
		return "no envelope"
	case g.Version == shredded:
		return "shredded"
	}
	return "v" + strconv.Itoa(g.Version)
}

func (j *job) report(ctx context.Context, id string) (*Report, error) {
	run, err := j.ledger.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := reportOf(ctx, j.ledger, run)
	if err != nil {
		return nil, err
	}
	after, err := j.groups(ctx)
	r.After = append(r.After, after...)
	r.Shredded = shreddedOf(r.After)
	return r, err
}

// reportOf is the report of a run as far as the ledger has it.
func reportOf(ctx context.Context, l *walk.Ledger, run walk.Run) (*Report, error) {
	if run.Report != "" {
		var r Report
		if err := json.Unmarshal([]byte(run.Report), &r); err != nil {
			return nil, fmt.Errorf("rotation: run %s: its report: %w", run.ID, err)
		}
		return &r, nil
	}
	var s spec
	if err := json.Unmarshal([]byte(run.Spec), &s); err != nil {
		return nil, fmt.Errorf("rotation: run %s: its specification: %w", run.ID, err)
	}
	c, _, err := l.Count(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	r := &Report{
		Run: run.ID, Kind: run.Kind, Target: run.Target, Model: s.Model, State: run.State, Reason: run.Reason, Version: s.Version, StartedBy: run.StartedBy,
		Started: run.Created, Ended: run.Ended, Before: append([]Group{}, s.Before...), After: []Group{}, Failures: []Failure{},
		Seen: c.Seen, Rewrapped: c.Changed, Current: c.Current, Raced: c.Raced, Gone: c.Gone, Failed: c.Failed, Calls: c.Calls, Exposed: c.Exposed,
	}
	r.Shredded = shreddedOf(r.Before)
	until := run.Ended
	switch {
	case !until.IsZero():
	case run.State == walk.Paused:
		until = run.Updated
	default:
		until = time.Now() // by another clock than the database's, which is as good for this
	}
	r.Seconds = max(0, until.Sub(run.Created).Seconds())
	failures, err := l.Failures(ctx, run.ID, mostFailures)
	for _, f := range failures {
		r.Failures = append(r.Failures, Failure{f.Key.Display(), f.Column, f.Class, f.Version, f.Message})
	}
	return r, err
}

// Progress is how far a run has come. All numbers are those of the ledger, so of all processes that work on it.
type Progress struct {
	Run     string
	State   string
	Total   int64 // keys, counted when the run began
	Seen    int64
	Changed int64
	Failed  int64
	Pending int64         // of those failed: to be tried again at the end
	Rate    float64       // keys a second, over the last ten seconds
	ETA     time.Duration // until the end at that rate; 0 where it is not known
}

// meter keeps what was seen when.
type meter struct {
	at   []time.Time
	seen []int64
}

func (m *meter) rate(now time.Time, seen int64) float64 {
	m.at, m.seen = append(m.at, now), append(m.seen, seen)
	for len(m.at) > 2 && now.Sub(m.at[0]) > 10*time.Second {
		m.at, m.seen = m.at[1:], m.seen[1:]
	}
	if span := now.Sub(m.at[0]).Seconds(); span > 0 {
		return float64(seen-m.seen[0]) / span
	}
	return 0
}

func (j *job) progress(ctx context.Context, id string, m *meter) (Progress, error) {
	run, err := j.ledger.Get(ctx, id)
	if err != nil {
		return Progress{}, err
	}
	c, _, err := j.ledger.Count(ctx, id)
	if err != nil {
		return Progress{}, err
	}
	p := Progress{Run: id, State: run.State, Total: run.Estimate, Seen: c.Seen, Changed: c.Changed, Failed: c.Failed, Rate: m.rate(time.Now(), c.Seen)}
	if p.Pending, err = j.ledger.Pending(ctx, id); err != nil {
		return Progress{}, err
	}
	if p.Rate > 0 && p.Total > p.Seen {
		p.ETA = time.Duration(float64(p.Total-p.Seen) / p.Rate * float64(time.Second))
	}
	return p, nil
}
