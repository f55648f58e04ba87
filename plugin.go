// plugin.go owns the front door: configuration, registration of models, and what is put into GORM.

package rowseal

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/sqltext"
	"github.com/rowseal/rowseal/kmskey"
)

// Config describes a [Plugin].
type Config struct {
	// Models lists the models with sealed fields: pointers to structs, as in &Patient{}, or [Model] for one with settings. Every
	// tagged model must be listed, so that mistakes show when the program starts and a table is known even to statements that
	// name no model. Defaults to none.
	Models []any

	// MaxCalls bounds the calls to the key service that one statement has in flight. Raise it for large pages on a service that
	// is far away; lower it where the service's quota is shared. Defaults to 80.
	MaxCalls int

	// MaxRows bounds the rows that one update of sealed columns writes where it names no single row by its primary key: the keys of
	// all of them are opened before the first is written. Raise it where larger updates are wanted in one transaction; -1 refuses
	// such updates. Defaults to 10,000.
	MaxRows int

	// IndexKeyAge is how long a process remembers the keys of blind indexes before it asks the key service again: so long may one that was revoked be used.
	// While the service is away they are used on. Defaults to an hour.
	IndexKeyAge time.Duration

	// Expressions are the application's own steps in the expressions of blind indexes, by the names that tags use: "phone.v1" for rowseal:"index=phone.v1". The
	// same text must give the same result for ever, in every process; what would change it is another name, phone.v2, and another index. They are given texts in the clear, and
	// must be safe for concurrent use. A value that is sought goes through them too, so what is done twice should be as if it were done once. Defaults to none.
	Expressions field.Functions

	// KeyCache has the process remember the keys of rows that it opened. Defaults to none.
	KeyCache KeyCache

	// ShredLedger is told of each row that [Shred] shreds, outside of the database, so that [ReplayShreds] can do it again after a restore. Defaults to none: then rows that were shredded
	// come back with a backup.
	ShredLedger ShredLedger

	// NoChecks keeps AutoMigrate from putting CHECK constraints on sealed columns and key columns, which stop plaintext that does not
	// come through GORM. Set it where the schema is made by other means, and see [Checks]. Defaults to false.
	NoChecks bool

	// WriteOnly is for programs that may encrypt and not decrypt. Rows are read as under [Sealed], and no row's key is ever unwrapped, only those of
	// blind indexes, where a model has some: what would need one fails with [ErrWriteOnly], without a call. New rows are created as ever. A change of a row's sealed columns is sealed under a data key
	// that is added to the row's envelope, so that its other fields stay what they are: one call. A row holds four data keys, and whoever reads it makes
	// a call for each; keys that no field needs any more are dropped, and [Rotate] makes one of the others, in a program that may decrypt.
	// Updates of many rows, and upserts that write into rows that exist, pass only where they write all sealed columns under a key. Defaults to false.
	WriteOnly bool
}

// Model is a registered model with settings.
type Model struct {
	// Value is a pointer to the struct, as in &Patient{}. Required.
	Value any

	// Name is the logical name that ciphertexts and keys are bound to. Set it, once and for good, to be free to rename the Go type
	// later: a changed name opens nothing. Defaults to the name of the Go type.
	Name string

	// Context declares the encryption context. Defaults to model_name and model_id.
	Context Context

	// Contexts declares the context of single key versions, so that a change of context is a new version. Defaults to Context.
	Contexts map[int]Context

	// Tenant names the column of Context that tells tenants apart, for indexes whose tag says tenant. Settle it before the first of them: indexes of another
	// column's values find nothing, until rotation.FillIndexes with Config.All has made them anew. Defaults to the only column of Context.
	Tenant string
}

const (
	// A service 10 ms away answers 8,000 calls a second then, for as long as the statement lasts: less than the 10,000 that AWS KMS grants an account where it grants least.
	defaultMaxCalls = 80
	defaultMaxRows  = 10_000
	defaultIndexAge = time.Hour
)

// Plugin is the GORM plugin. Make one for each *gorm.DB. It is safe for concurrent use after [gorm.DB.Use].
type Plugin struct {
	keys   *kmskey.Keyring
	config Config
	home   *gorm.Config // of the *gorm.DB that it serves

	models map[reflect.Type]*row.Model
	tables map[string]*row.Model
	// columns is what the last look asks about, by table.
	columns map[string]*sqltext.Columns
	names   sqltext.Names // of the tables
	others  sync.Map      // columns of other models' tables, as statements show them
	knows   atomic.Int64  // how many tables
	texts   texts

	cache *row.KeyCache // of rows' keys; nil for none

	leading sync.Map // *schema.Schema to whether its relations lead to a sealed model

	indexes    sync.Map // *indexed, by model
	searchable bool     // some model has an index

	denied atomic.Bool // the key service refused to unwrap for a merge of data keys: it is not asked for that again

	checks  []*check
	warned  sync.Map // tables without CHECKs, of which a warning was given
	remakes sync.Map // *remake, by connection pool
}

// New makes a plugin with a keyring. Models are checked when the plugin is given to db.Use.
func New(keys *kmskey.Keyring, config Config) (*Plugin, error) {
	if keys == nil {
		return nil, errors.New("rowseal: new plugin: no keyring; make one with kmskey.New")
	}
	if config.MaxCalls < 0 {
		return nil, fmt.Errorf("rowseal: new plugin: Config.MaxCalls is %d, not a number of calls", config.MaxCalls)
	}
	if config.MaxCalls == 0 {
		config.MaxCalls = defaultMaxCalls
	}
	if config.IndexKeyAge < 0 {
		return nil, fmt.Errorf("rowseal: new plugin: Config.IndexKeyAge is %v; leave it zero for %v", config.IndexKeyAge, defaultIndexAge)
	}
	if config.IndexKeyAge == 0 {
		config.IndexKeyAge = defaultIndexAge
	}
	if err := config.Expressions.Check(); err != nil {
		return nil, fmt.Errorf("rowseal: new plugin: Config.Expressions: %w", err)
	}
	if config.MaxRows == 0 {
		config.MaxRows = defaultMaxRows
	}
	p := &Plugin{keys: keys, config: config}
	cache, err := p.newKeyCache()
	if err != nil {
		return nil, err
	}
	p.cache = cache
	return p, nil
}

// Name is the plugin's name in GORM.
func (p *Plugin) Name() string { return row.PluginName }

// Initialize checks every registered model and hooks the plugin into db. db.Use calls it.
func (p *Plugin) Initialize(db *gorm.DB) error {
	if p.models != nil && p.home == db.Config {
		// gorm.Open with a *gorm.Config that is in use takes the callbacks away from both.
		err := errors.New("rowseal: gorm.Open: this *gorm.Config belongs to another *gorm.DB already; make one for each")
		return errors.Join(err, p.hook(db), p.hookLook(db))
	}
	if p.models != nil {
		return errors.New("rowseal: db.Use: this plugin serves another *gorm.DB already; make one for each")
	}
	if err := p.register(db); err != nil {
		return err
	}
	p.home = db.Config
	if err := errors.Join(p.hook(db), p.hookLook(db)); err != nil {
		return fmt.Errorf("rowseal: db.Use: %w", err)
	}
	p.gate(db)
	return nil
}

func (p *Plugin) register(db *gorm.DB) error {
	models, tables, names := map[reflect.Type]*row.Model{}, map[string]*row.Model{}, map[string]string{}
	var errs []error
	for _, value := range p.config.Models {
		m, err := p.bind(db, value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s := m.Plan.Schema
		if other, taken := names[m.Name]; taken {
			errs = append(errs, fmt.Errorf("rowseal: model %s: %w: its logical name %q is also that of %s, so their ciphertexts could be exchanged; set Model.Name", s, ErrModel, m.Name, other))
			continue
		}
		for _, x := range m.Plan.Indexed() {
			if own := x.Expression.Own(); own != "" && p.config.Expressions[own] == nil {
				errs = append(errs, fmt.Errorf("rowseal: model %s, field %s: %w: its index names the function %q, which Config.Expressions lacks", s, x.Field.Column.BindName(), ErrModel, own))
			}
		}
		names[m.Name] = s.String()
		models[s.ModelType], tables[tableName(s.Table)] = m, m
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := p.putChecks(db, models); err != nil {
		return err
	}
	p.models, p.tables, p.columns = models, tables, map[string]*sqltext.Columns{}
	for _, m := range models {
		p.searchable = p.searchable || m.Plan.HasIndexes()
	}
	for name, m := range tables {
		p.columns[name] = columnsOf(m, name)
	}
	var written []string
	for _, m := range tables {
		written = append(written, bareName(m.Plan.Schema.Table))
	}
	p.names = sqltext.NewNames(written)
	return nil
}

func (p *Plugin) bind(db *gorm.DB, value any) (*row.Model, error) {
	m, ok := value.(Model)
	if !ok {
		m = Model{Value: value}
	}
	stmt := &gorm.Statement{DB: db}
	if m.Value == nil {
		return nil, fmt.Errorf("rowseal: Config.Models: %w: a nil model; list pointers to structs, as in &Patient{}", ErrModel)
	}
	if err := stmt.Parse(m.Value); err != nil {
		return nil, fmt.Errorf("rowseal: Config.Models: %T: %w: %w", m.Value, ErrModel, err)
	}
	plan := row.PlanOf(stmt.Schema)
	if plan == nil {
		if row.Tagged(stmt.Schema) {
			return nil, fmt.Errorf("rowseal: model %s: %w: it has sealed fields and no key column; embed rowseal.RowKey", stmt.Schema.Name, ErrModel)
		}
		return nil, fmt.Errorf("rowseal: model %s: %w: it has no sealed field and no key column; remove it from Config.Models", stmt.Schema.Name, ErrModel)
	}
	keys := p.keys
	if p.config.WriteOnly {
		keys = keys.WriteOnly()
	}
	return row.Bind(plan, row.Options{Cache: p.cache, Name: m.Name, Context: m.Context, Contexts: m.Contexts, Tenant: m.Tenant, Keys: keys, Limit: p.config.MaxCalls, WriteOnly: p.config.WriteOnly, Dialect: db.Dialector.Name()})
}

// Knows is how a model's own guard asks for the plugin; it is not for applications.
func (p *Plugin) Knows(plan *row.Plan) error {
	if plan.Err != nil {
		return fmt.Errorf("%w: %w", ErrModel, plan.Err)
	}
	if _, ok := p.models[plan.Schema.ModelType]; !ok {
		return fmt.Errorf("rowseal: model %s: %w: it is not registered; add it to rowseal.Config.Models", plan.Schema, ErrModel)
	}
	return nil
}

// Bound is how packages beside this one ask for a registered model; it is not for applications.
func (p *Plugin) Bound(plan *row.Plan) *row.Model { return p.models[plan.Schema.ModelType] }

// Registered is how packages beside this one read the settings; it is not for applications.
func (m Model) Registered() row.Registered { return row.Registered(m) }

// model gives the model of a statement: by its Go type, else by the name of its table; nil for any other. A statement on a tagged
// model that is not registered has met the model's guard already.
func (p *Plugin) model(stmt *gorm.Statement) *row.Model {
	if m := p.typed(stmt); m != nil {
		return m
	}
	return p.tables[statementTable(stmt)]
}

// typed gives the model whose own struct type the statement works on.
func (p *Plugin) typed(stmt *gorm.Statement) *row.Model {
	if row.PlanOf(stmt.Schema) == nil {
		return nil // the short way for most
	}
	return p.models[stmt.Schema.ModelType]
}

// statementTable finds the table in Table("patients"), Table("patients AS p") and Table("clinic.patients p").
func statementTable(stmt *gorm.Statement) string {
	if stmt.TableExpr != nil {
		if words := strings.Fields(stmt.TableExpr.SQL); len(words) > 0 {
			return tableName(words[0])
		}
	}
	return tableName(stmt.Table)
}

// tableName is the last part of a table's name, without quotes, in lower case: what databases compare.
func tableName(s string) string { return row.Fold(s) }

func bareName(s string) string {
	return strings.Trim(s[strings.LastIndexByte(s, '.')+1:], "`\"[]")
}
