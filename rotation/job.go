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
	moving  *kmskey.Keyring // keys, with what they do noted
	owned   []*row.Group
	columns []string // of owned
	reading *row.Reading
	ledger  *walk.Ledger
	walker  *walk.Walker
	table   string // without quotes
	quoted  string
	target  string
	kind    string // of run

	indexes []*row.Index  // that are filled, or verified
	sums    row.IndexKeys // nil where none are

	pace  *pace
	limit *rate.Limiter

	telling sync.Mutex // of progress
	told    time.Time
	meters  map[string]*meter // by run

	failing atomic.Bool               // some key failed here
	halted  atomic.Bool               // the run was paused or cancelled: lanes end at the next page
	over    atomic.Pointer[overdraft] // the run whose budget was found used up
	good    atomic.Pointer[attempt]   // the last key that was moved: asked again where another's is refused, or its service away
}

// overdraft is a run that more keys failed of than its budget allows.
type overdraft struct {
	run string
	err error
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
		return row.Bind(plan, row.Options{Name: reg.Name, Context: reg.Context, Contexts: reg.Contexts, Tenant: reg.Tenant, Keys: keys})
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

// newJob checks everything that needs no database.
func newJob(ctx context.Context, db *gorm.DB, model any, cfg Config) (*job, error) {
	m, err := bind(ctx, db, model, cfg.Keys)
	if err != nil {
		return nil, err
	}
	j := &job{cfg: cfg, db: db, model: m, keys: m.Keys, table: m.Plan.Schema.Table, kind: kindRewrap}
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
	j.columns, j.moving = j.reading.Keys(), j.keys.Observed(j.observe)
	if j.ledger, err = ledgerAt(db); err != nil {
		return nil, err
	}
	j.quoted = j.ledger.Dialect.Quote(j.table)
	j.target = j.table + ": " + strings.Join(j.columns, ", ")
	schema, bare := "", j.table
	if i := strings.LastIndexByte(j.table, '.'); i >= 0 {
		schema, bare = j.table[:i], j.table[i+1:]
	}
	j.walker = &walk.Walker{
		Ledger: j.ledger,
		Task: walk.Task{
			Table: walk.Table{Name: j.quoted, Key: j.reading.IDs(), Pins: j.reading.Pins()}, Bare: bare, Schema: schema,
			Read: j.reading.Columns(), Writes: j.columns, Key: reader(j.reading, true), Row: reader(j.reading, false), Change: j.change,
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
