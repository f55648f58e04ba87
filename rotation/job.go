// job.go owns a rotation while it runs: the model's rows, the keyring, and what a page of them becomes.

package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// job is one rotation in one process.
type job struct {
	cfg     Config
	db      *gorm.DB
	keys    *kmskey.Keyring
	model   *row.Model
	owned   []*row.Group
	reading *row.Reading
	ledger  *walk.Ledger
	walker  *walk.Walker
	table   string // without quotes
	quoted  string
	target  string

	pace  *pace
	limit *rate.Limiter

	telling sync.Mutex // of progress
	told    time.Time
	meters  map[string]*meter // by run

	failing atomic.Bool               // some key failed here
	halted  atomic.Bool               // the run was paused or cancelled: lanes end at the next page
	over    atomic.Pointer[overdraft] // the run whose budget was found used up
	good    atomic.Pointer[attempt]   // the last key that was moved: asked again where another's service does not answer
}

// overdraft is a run that more keys failed of than its budget allows.
type overdraft struct {
	run string
	err error
}

// attempt is a key that is to be moved.
type attempt struct {
	group *row.Group
	read  *row.Read
	text  string
}

// bound is what the plugin says of a model.
type bound interface {
	Bound(plan *row.Plan) *row.Model
}

// registered is a rowseal.Model.
type registered interface{ Registered() row.Registered }

// bind finds the model, its keys and its declaration.
func bind(ctx context.Context, db *gorm.DB, model any, keys *kmskey.Keyring) (*row.Model, error) {
	if m, ok := model.(*ManifestModel); ok {
		if keys == nil {
			return nil, fmt.Errorf("rotation: model %s of the manifest: no keyring; set Config.Keys", m.Name)
		}
		return m.Bind(keys)
	}
	reg := row.Registered{Value: model}
	if r, ok := model.(registered); ok {
		reg = r.Registered()
	}
	if reg.Value == nil {
		return nil, errors.New("rotation: no model; pass a pointer to its struct, as in &Patient{}")
	}
	stmt := &gorm.Statement{DB: db, Context: ctx}
	if err := stmt.Parse(reg.Value); err != nil {
		return nil, fmt.Errorf("rotation: %T: %w: %w", reg.Value, row.ErrModel, err)
	}
	plan := row.PlanOf(stmt.Schema)
	if plan == nil || len(plan.Groups) == 0 {
		return nil, fmt.Errorf("rotation: model %s: %w: it has no key column, so nothing of it is sealed; embed rowseal.RowKey", stmt.Schema.Name, row.ErrModel)
	}
	plugin, installed := db.Plugins[row.PluginName].(bound)
	if _, declared := model.(registered); installed && keys != nil && !declared {
		// The plugin knows the model's name and context, which a pointer to the struct does not say.
		if m := plugin.Bound(plan); m != nil {
			return m.Under(keys)
		}
	}
	if keys != nil {
		return row.Bind(plan, row.Options{Name: reg.Name, Context: reg.Context, Contexts: reg.Contexts, Keys: keys})
	}
	if !installed {
		return nil, fmt.Errorf("rotation: model %s: %w; call db.Use(plugin) first, or set Config.Keys", stmt.Schema.Name, row.ErrNoPlugin)
	}
	m := plugin.Bound(plan)
	if m == nil {
		return nil, fmt.Errorf("rotation: model %s: %w: it is not registered; add it to rowseal.Config.Models", stmt.Schema.Name, row.ErrModel)
	}
	return m, nil
}

// open checks everything that needs no row.
func open(ctx context.Context, db *gorm.DB, model any, cfg Config) (*job, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	j, err := newJob(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	return j, j.prepare(ctx)
}

// newJob checks everything that needs no database.
func newJob(ctx context.Context, db *gorm.DB, model any, cfg Config) (*job, error) {
	m, err := bind(ctx, db, model, cfg.Keys)
	if err != nil {
		return nil, err
	}
	j := &job{cfg: cfg, db: db, model: m, keys: m.Keys, table: m.Plan.Schema.Table}
	for _, name := range cfg.Columns {
		if m.Plan.LookupKey(name) == nil {
			return nil, fmt.Errorf("rotation: Config.Columns: %s has no key column %q", j.table, name)
		}
	}
	for _, g := range m.Plan.Groups {
		if len(cfg.Columns) == 0 || slices.ContainsFunc(cfg.Columns, func(name string) bool { return m.Plan.LookupKey(name) == g }) {
			j.owned = append(j.owned, g)
		}
	}
	j.reading = m.Reading(j.owned)
	if j.ledger, err = ledgerAt(db); err != nil {
		return nil, err
	}
	j.quoted = j.ledger.Dialect.Quote(j.table)
	j.target = j.table + ": " + strings.Join(j.reading.Keys(), ", ")
	schema, bare := "", j.table
	if i := strings.LastIndexByte(j.table, '.'); i >= 0 {
		schema, bare = j.table[:i], j.table[i+1:]
	}
	j.walker = &walk.Walker{
		Ledger: j.ledger,
		Task: walk.Task{
			Table: walk.Table{Name: j.quoted, Key: j.reading.IDs(), Pins: j.reading.Pins()}, Bare: bare, Schema: schema,
			Read: j.reading.Columns(), Writes: j.reading.Keys(), Key: reader(j.reading, true), Row: reader(j.reading, false), Change: j.change,
		},
		Config: walk.Config{RangeSize: rangeSize, MaxPage: cfg.MaxPage, Page: cfg.PageTime, Lease: cfg.Lease, Owner: cfg.Owner},
	}
	j.pace = newPace(cfg.Calls)
	if cfg.Rate > 0 {
		j.limit = rate.NewLimiter(rate.Limit(cfg.Rate), max(1, int(cfg.Rate/10)))
	}
	return j, nil
}

// reader scans rows for a walk; with ids, their primary keys alone.
func reader(r *row.Reading, ids bool) walk.Reader {
	return func(ctx context.Context, scan func(...any) error) (walk.Key, any, error) {
		read, err := r.Scan(ctx, ids, scan)
		if err != nil {
			return nil, nil, err
		}
		var key walk.Key
		for _, part := range r.ID(ctx, read) {
			v, err := walk.Normal(part)
			if err != nil {
				return nil, nil, err
			}
			key = append(key, v)
		}
		return key, read, nil
	}
}

// prepare looks at the tables.
func (j *job) prepare(ctx context.Context) error {
	if err := j.ledger.Check(ctx); err != nil {
		return err
	}
	if err := j.walker.Prepare(ctx); err != nil {
		return fmt.Errorf("rotation: %w", err)
	}
	return nil
}

// ledgerAt is the ledger in a *gorm.DB's own database.
func ledgerAt(db *gorm.DB) (*walk.Ledger, error) {
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("rotation: the *gorm.DB: %w; pass one that is no transaction", err)
	}
	quote := func(name string) string {
		var b strings.Builder
		db.Dialector.QuoteTo(&b, name)
		return b.String()
	}
	return &walk.Ledger{DB: pool, Dialect: walk.Dialect{Name: db.Name(), Quote: quote}}, nil
}

// ledgerOf is the same, where its tables are there.
func ledgerOf(ctx context.Context, db *gorm.DB) (*walk.Ledger, error) {
	l, err := ledgerAt(db)
	if err != nil {
		return nil, err
	}
	return l, l.Check(ctx)
}

// change is what the walk does with a page: every key in it is moved, as many at once as pace and rate allow. A service that does not answer is waited for.
func (j *job) change(ctx context.Context, rows []any) ([]walk.Result, error) {
	type unit struct{ row, column int }
	var units []unit
	for i, r := range rows {
		for c, text := range r.(*row.Read).Texts {
			if text != "" {
				units = append(units, unit{i, c})
			}
		}
	}
	type outcome struct {
		next           string
		failure        *walk.Failure
		calls, exposed int64
		err            error
		done           bool
	}
	outcomes := make([]outcome, len(units))
	if j.keys.Batches() && !j.cfg.All && len(units) > 0 {
		batch := make([]kmskey.RewrapRow, len(units))
		for n, u := range units {
			read := rows[u.row].(*row.Read)
			env, err := kmskey.ParseEnvelope(read.Texts[u.column])
			if err != nil {
				continue // its own turn says so
			}
			if r, err := j.model.Row(j.owned[u.column], read.Value); err == nil {
				batch[n] = kmskey.RewrapRow{Envelope: env, Row: r}
			}
		}
		if j.limit != nil {
			// The limiter lets no more through at once than its burst.
			for range units {
				if err := turn(ctx, j.limit); err != nil {
					return nil, err
				}
			}
		}
		for n, r := range j.keys.RewrapAll(ctx, batch) {
			if r.Done {
				outcomes[n] = outcome{next: r.Envelope.String(), calls: 1, done: true}
				if outcomes[n].next == rows[units[n].row].(*row.Read).Texts[units[n].column] {
					outcomes[n].calls = 0
				}
			}
		}
	}
	var next atomic.Int64
	work, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	var wg sync.WaitGroup
	for range min(len(units), j.cfg.Calls) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(units) || work.Err() != nil {
					return
				}
				u, o := units[n], &outcomes[n]
				if o.done {
					continue
				}
				read := rows[u.row].(*row.Read)
				a := &attempt{j.owned[u.column], read, read.Texts[u.column]}
				for round := 1; ; round++ {
					o.next, o.failure, o.calls, o.exposed, o.err = j.move(work, a.group, a.read, a.text)
					if !errors.Is(o.err, kmskey.ErrUnavailable) || !j.answers(work, a) {
						break
					}
					if round == awayRounds { // it is this key's own service that is away: nobody else is to wait for it
						o.failure, o.err = &walk.Failure{Class: kmskey.Outcome(o.err), Message: o.err.Error()}, nil
						break
					}
				}
				if o.err == nil && o.calls > 0 && o.failure == nil {
					j.good.Store(a)
				}
				if o.err != nil {
					halt(o.err) // the page is tried again as a whole
					return
				}
				o.done = true
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if work.Err() != nil {
		return nil, context.Cause(work)
	}
	results := make([]walk.Result, len(rows))
	for n, u := range units {
		o, r := outcomes[n], &results[u.row]
		if !o.done {
			return nil, errors.New("rotation: internal error: a key without an outcome") // which must not be stored as one
		}
		r.Calls += o.calls
		r.Exposed += o.exposed
		text := rows[u.row].(*row.Read).Texts[u.column]
		switch {
		case o.failure != nil:
			j.failing.Store(true)
			o.failure.Column = j.reading.Keys()[u.column]
			r.Failures = append(r.Failures, *o.failure)
		case o.next == text:
			r.Current++
		default:
			r.Changes = append(r.Changes, walk.Change{Column: u.column, Old: text, New: o.next})
		}
	}
	return results, nil
}

// awayRounds bounds how often a key is tried moveTries times while others are moved well.
const awayRounds = 3

// answers reports that another key than a's can be moved, so that the service is there.
func (j *job) answers(ctx context.Context, a *attempt) bool {
	good := j.good.Load()
	if good == nil || good == a {
		return false
	}
	_, failure, calls, _, err := j.move(ctx, good.group, good.read, good.text)
	return err == nil && failure == nil && calls > 0
}

// counted is the keyring with its calls counted, and the data keys that they show.
func (j *job) counted(made, seen *atomic.Int64) *kmskey.Keyring {
	return j.keys.Observed(func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
		return ctx, func(res kmskey.Result) {
			if errors.Is(res.Err, kmskey.ErrNotRewrappable) || errors.Is(res.Err, kmskey.ErrForeignKey) {
				return // no request was made
			}
			made.Add(1)
			if c.Op == "unwrap" && res.Err == nil {
				seen.Add(1)
			}
		}
	})
}

// moveTries bounds how often a key is tried whose service does not answer, before the page is put back.
const moveTries = 5

// move rewraps one key. failure is what will not go away; err is a service that does not answer.
func (j *job) move(ctx context.Context, g *row.Group, read *row.Read, text string) (next string, failure *walk.Failure, calls, exposed int64, err error) {
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		return "", &walk.Failure{Class: kmskey.Outcome(err), Message: err.Error()}, 0, 0, nil
	}
	fails := func(err error) (string, *walk.Failure, int64, int64, error) {
		return "", &walk.Failure{Class: kmskey.Outcome(err), Version: env.Version(), Message: err.Error()}, calls, exposed, nil
	}
	r, err := j.model.Row(g, read.Value)
	if err != nil {
		return fails(err)
	}
	// The observer is of this key alone: calls of several providers come at once.
	var made, seen atomic.Int64
	var paid atomic.Bool // one turn for a try, however many requests it takes, and none for a key that needs nothing
	keys := j.counted(&made, &seen).Observed(func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
		if j.limit != nil && paid.CompareAndSwap(false, true) {
			_ = turn(ctx, j.limit) // where ctx ends, the call says so
		}
		return ctx, nil
	})
	pause := newPause(100*time.Millisecond, 5*time.Second)
	for try := 1; ; try++ {
		paid.Store(false)
		if err := j.pace.acquire(ctx); err != nil {
			return "", nil, 0, 0, err
		}
		var moved kmskey.Envelope
		if j.cfg.All {
			moved, err = keys.Refresh(ctx, env, r, r)
		} else {
			moved, err = keys.Rewrap(ctx, env, r, r)
		}
		j.pace.release(errors.Is(err, kmskey.ErrThrottled))
		calls, exposed = made.Load(), seen.Load()
		switch {
		case err == nil:
			return moved.String(), nil, calls, exposed, nil
		case ctx.Err() != nil:
			return "", nil, calls, exposed, ctx.Err()
		case !errors.Is(err, kmskey.ErrUnavailable) && !errors.Is(err, kmskey.ErrThrottled):
			return fails(err)
		case try == moveTries:
			return "", nil, calls, exposed, err
		}
		if err := pause.wait(ctx); err != nil {
			return "", nil, calls, exposed, err
		}
	}
}

// preflight moves the key of one row, and stores nothing: what is wrong with the target itself shows here. It looks at a few rows, since one may be damaged, and
// at none that need nothing: a rotator may lack the right to move keys away from the target. It gives the calls that the key took, and those of them that
// showed it; 0 where no key was moved.
func (j *job) preflight(ctx context.Context) (calls, exposed int64, err error) {
	but := fmt.Sprintf("v%d:", j.keys.Current())
	if j.cfg.All {
		but = ""
	}
	rows, err := j.walker.Sample(ctx, 5, but)
	if err != nil {
		return 0, 0, fmt.Errorf("rotation: read %s: %w", j.table, err)
	}
	var first error
	for _, r := range rows {
		read := r.(*row.Read)
		for c, text := range read.Texts {
			env, err := kmskey.ParseEnvelope(text)
			if text == "" || err != nil || but != "" && strings.HasPrefix(text, but) {
				continue
			}
			kmsRow, err := j.model.Row(j.owned[c], read.Value)
			if err != nil {
				continue // the row's own trouble
			}
			var made, seen atomic.Int64
			_, err = j.counted(&made, &seen).Refresh(ctx, env, kmsRow, kmsRow)
			switch {
			case err == nil:
				return made.Load(), seen.Load(), nil
			case errors.Is(err, kmskey.ErrContextMismatch), errors.Is(err, kmskey.ErrCommitment), errors.Is(err, kmskey.ErrForeignKey), errors.Is(err, kmskey.ErrUnknownVersion):
				continue // the row's own trouble
			case first == nil:
				first = err
			}
		}
	}
	if first != nil {
		return 0, 0, fmt.Errorf("rotation: %s: refused before the first row: %w", j.table, first)
	}
	return 0, 0, nil
}
