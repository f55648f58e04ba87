// Package pgcopy creates rows in Postgres by COPY: for loads in which db.CreateInBatches is too slow.
//
//	err := pgcopy.Create(ctx, db, patients, pgcopy.Config{})
//
// It is db.Create in every respect but the last step. GORM runs its hooks, sets its times, asks its serializers; the plugin makes a data key for each row and
// seals the fields at its gate, and the gate's rows, which would have become the VALUES of an INSERT, go to the server in the binary form of COPY. Nothing can come past the
// gate this way that could not by INSERT, and what the gate did not seal is no value that could be sent. Models without sealed fields are copied
// too, with or without the plugin.
//
// # When to use it
//
// An INSERT of 1,000 rows is a text of 1,000 rows, which GORM writes, and a parameter for each value, which the server parses: with COPY there is neither, nor
// the limit of 65,535 parameters. What COPY does not save is the making of keys: one call to the key service for each row, as ever, which rowseal.Config.MaxCalls and branch
// keys make cheaper. On the machine that this was written on, 1,000 rows with three
// sealed fields of 40 bytes took 0.6 to 0.9 of the time of db.CreateInBatches, most of it for keys under a local key; rows of a model without sealed fields and with few, short columns
// took the same by both. BenchmarkCopyRounds in module integration has the figures of yours.
// It needs GORM's Postgres driver on pgx, as gorm.io/driver/postgres is by itself.
//
// All rows of a call are in memory, with their keys, and go in one COPY: some kilobytes for each. Give it ten thousand rows at a time rather than ten million.
//
// # What is guaranteed
//
// All rows are stored, or none. When Create fails, the structs are what they were before the call: ids, times, keys and what hooks set. What a struct
// only points to is not restored.
//
// Ids that a sequence gives are taken ahead for all rows, in one query, and are in the structs afterwards, in the rows' order. Data keys are made after that, as many at a time as
// rowseal.Config.MaxCalls, and no transaction begins before they are there: it begins with the first statement that needs it, which is the COPY itself, unless a
// hook asks the database before. So rows whose ids BeforeCreate sets call the key service outside of it as well, which db.Create cannot.
//
// # In a transaction
//
// Given a *gorm.DB that is in a transaction, Create runs in it, on its connection, and leaves it to its owner; the key service is called while that transaction is open,
// as it is by db.Create. To have other statements stand or fall with the rows, and no transaction wait for the key service, hand them to [Config].Also.
//
// # What is refused
//
// What COPY cannot do is refused with an error that says what to write instead, which is a [rowseal.ErrUnsupported], before anything is sent:
//
//   - ON CONFLICT and RETURNING, and values that are SQL expressions;
//   - values that the database makes (defaults other than a sequence's): a COPY gives nothing back. Set them in Go, or leave the column to the database,
//     unread, by db.Omit("Column");
//   - ids that the database alone knows (GENERATED ALWAYS, default:gen_random_uuid()): set them in Go, in BeforeCreate for example;
//   - rows with associations: create those by themselves, and pass db.Omit(clause.Associations);
//   - any database but Postgres, and any driver but pgx.
//
// Where a trigger leaves rows out, so that fewer are stored than were sent, Create fails, with none stored. Postgres itself refuses COPY
// under row-level security, and does not apply rules (CREATE RULE) to it.
package pgcopy

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/internal/row"
)

// ErrLeftOut: the database stored fewer rows than were sent, since a trigger left some out. None is stored.
var ErrLeftOut = errors.New("the database left rows out")

// Config says what goes with the rows. The zero Config works.
type Config struct {
	// Also runs in the transaction of the rows, after they are stored, and what it returns decides whether they are. Set it where
	// other statements stand or fall with the rows. Defaults to nothing.
	Also func(tx *gorm.DB) error
}

// Create stores rows, a slice of a model or of pointers to one, by COPY, all of them or none. Table, Select, Omit, Session and scopes of db count as they do for
// db.Create. It is safe for concurrent use, as db is.
func Create[T any](ctx context.Context, db *gorm.DB, rows []T, config Config) (err error) {
	if len(rows) == 0 && config.Also == nil {
		return nil
	}
	tx := db.WithContext(ctx)
	c := &creation{}
	if err := c.begin(tx, reflect.TypeFor[T]()); err != nil {
		return err
	}
	saved, err := save(rows, c.name)
	if err != nil {
		return err
	}
	t, err := enter(ctx, tx.Statement.ConnPool)
	if err != nil {
		return fmt.Errorf("pgcopy: create %s: %w", c.name, err)
	}
	defer func() {
		if r := recover(); r != nil {
			t.end(false)
			restore(rows, saved)
			panic(r)
		}
		if end := t.end(err == nil); err == nil && end != nil {
			err = fmt.Errorf("pgcopy: create %s: commit: %w", c.name, withoutRow(end))
		}
		if err != nil {
			restore(rows, saved)
		}
	}()
	if len(rows) > 0 {
		if err := c.run(ctx, db, tx, t, reflect.ValueOf(&rows)); err != nil {
			return err
		}
	}
	if config.Also != nil {
		also := db.Session(&gorm.Session{NewDB: true, Context: ctx})
		also.Statement.ConnPool = t
		return config.Also(also)
	}
	return nil
}

// creation is one Create while it runs.
type creation struct {
	name   string // of the model
	schema *schema.Schema
	copied *copied // what the gate let through; nil for nothing yet
	table  string  // that ids were taken for
}

// begin refuses what can be refused before anything is done.
func (c *creation) begin(tx *gorm.DB, t reflect.Type) error {
	model := t
	if model.Kind() == reflect.Pointer {
		model = model.Elem()
	}
	c.name = model.String()
	switch {
	case tx.Error != nil:
		return tx.Error
	case model.Kind() != reflect.Struct:
		return c.refuse("rows of %s; pass a slice of the model, or of pointers to it", t)
	case tx.Name() != "postgres":
		return c.refuse("COPY is for Postgres, and this database is %s; use db.CreateInBatches", tx.Name())
	case tx.DryRun:
		return c.refuse("a dry run copies nothing")
	}
	stmt := &gorm.Statement{DB: tx}
	if err := stmt.Parse(reflect.New(model).Interface()); err != nil {
		return fmt.Errorf("pgcopy: create %s: %w", c.name, err)
	}
	c.schema, c.name = stmt.Schema, stmt.Schema.Name
	if plan := row.PlanOf(c.schema); plan != nil {
		// The model's own guard asks later, and not under Unscoped.
		p, ok := tx.Plugins[row.PluginName].(row.Installed)
		if !ok {
			return fmt.Errorf("pgcopy: create %s: %w; call db.Use(plugin) first", c.name, rowseal.ErrNoPlugin)
		}
		if err := p.Knows(plan); err != nil {
			return err
		}
	}
	if m := tx.Statement.Model; m != nil {
		if of := reflect.TypeOf(m); of != reflect.PointerTo(model) && of != model {
			return c.refuse("db.Model names a %T; pass rows of it, or leave Model out", m)
		}
	}
	if _, ok := tx.Statement.Clauses["RETURNING"]; ok {
		return c.refuse("RETURNING gives nothing back; read the rows after it")
	}
	return c.refuseClauses(tx.Statement)
}

// refuseClauses refuses what COPY has no words for.
func (c *creation) refuseClauses(stmt *gorm.Statement) error {
	if _, ok := stmt.Clauses["ON CONFLICT"]; ok {
		return c.refuse("there is no ON CONFLICT; use db.CreateInBatches with it, or copy into another table first")
	}
	insert, _ := stmt.Clauses["INSERT"].Expression.(clause.Insert)
	if insert.Modifier != "" || insert.Table.Name != "" {
		return c.refuse("clause.Insert with a modifier or a table; name the table by db.Table")
	}
	return nil
}

func (c *creation) refuse(format string, args ...any) error {
	return fmt.Errorf("pgcopy: create %s: %w: %s", c.name, errRefused, fmt.Sprintf(format, args...))
}

// errRefused is a [rowseal.ErrUnsupported] that speaks of models without sealed fields as well.
var errRefused error = refused{}

type refused struct{}

func (refused) Error() string        { return "refused by COPY" }
func (refused) Is(target error) bool { return target == rowseal.ErrUnsupported }

// run has GORM create the rows, and the statement that it makes of them copied.
func (c *creation) run(ctx context.Context, db, tx *gorm.DB, t *txn, rows reflect.Value) error {
	stmt := tx.Statement
	if err := c.refuseAssociations(tx, rows.Elem()); err != nil {
		return err
	}
	if err := c.takeIDs(ctx, tx, rows.Elem()); err != nil {
		return err
	}
	stmt.ConnPool = t
	switch plan := row.PlanOf(c.schema); {
	case t.foreign:
	case tx.Callback().Create().Get("gorm:begin_transaction") != nil:
		// GORM begins the transaction, and statements of the plugin's own go before it.
		stmt.ConnPool, tx.Config.SkipDefaultTransaction = &before{t}, false
	case plan != nil && plan.HasIndexes():
		// The whole *gorm.DB does without. What the plugin would have asked for by then it is asked for now; an error is its gate's to tell.
		if p, ok := tx.Plugins[row.PluginName].(searcher); ok {
			_, _ = p.SearchKeys(ctx, db, plan)
		}
	}
	// GORM keeps a clause's own builder when it puts the rows in, and the gate calls it with what it sealed.
	stmt.Clauses["VALUES"] = clause.Clause{Name: "VALUES", Builder: c.build}
	stmt.Clauses["RETURNING"] = clause.Clause{Name: "RETURNING", Expression: nothing{}}
	result := tx.Create(rows.Interface())
	switch {
	case result.Error != nil:
		return result.Error
	case c.copied == nil || !c.copied.done:
		return c.refuse("another plugin builds or runs its INSERT otherwise; use db.CreateInBatches")
	case c.copied.stored != int64(rows.Elem().Len()):
		return fmt.Errorf("pgcopy: create %s: %w: %d of %d were stored, which is a trigger's doing; use db.CreateInBatches", c.name, ErrLeftOut, c.copied.stored, rows.Elem().Len())
	}
	return nil
}

// searcher is a plugin that knows the keys of blind indexes.
type searcher interface {
	SearchKeys(ctx context.Context, db *gorm.DB, plan *row.Plan) (row.IndexKeys, error)
}

// nothing stands where GORM would put RETURNING.
type nothing struct{}

func (nothing) Build(clause.Builder) {}

// refuseAssociations finds rows that bring others along.
func (c *creation) refuseAssociations(tx *gorm.DB, rows reflect.Value) error {
	if len(c.schema.Relationships.Relations) == 0 {
		return nil
	}
	stmt := &gorm.Statement{DB: tx, Schema: c.schema, Selects: tx.Statement.Selects, Omits: tx.Statement.Omits}
	selected, restricted := stmt.SelectAndOmitColumns(true, false)
	for name, rel := range c.schema.Relationships.Relations {
		if v, ok := selected[name]; ok && !v || !ok && restricted || rel.Field == nil {
			continue
		}
		for i := range rows.Len() {
			if _, zero := rel.Field.ValueOf(tx.Statement.Context, reflect.Indirect(rows.Index(i))); !zero {
				return c.refuse("row %d has %s, and a COPY writes one table; create them by themselves, and pass db.Omit(clause.Associations)", i, name)
			}
		}
	}
	return nil
}

// save copies the structs themselves.
func save[T any](rows []T, name string) ([]reflect.Value, error) {
	if reflect.TypeFor[T]().Kind() != reflect.Pointer {
		return []reflect.Value{reflect.ValueOf(slices.Clone(rows))}, nil
	}
	saved := make([]reflect.Value, len(rows))
	for i, p := range rows {
		v := reflect.ValueOf(p)
		if v.IsNil() {
			return nil, fmt.Errorf("pgcopy: create %s: row %d is nil: %w", name, i, gorm.ErrInvalidData)
		}
		saved[i] = reflect.New(v.Type().Elem()).Elem()
		saved[i].Set(v.Elem())
	}
	return saved, nil
}

func restore[T any](rows []T, saved []reflect.Value) {
	if reflect.TypeFor[T]().Kind() != reflect.Pointer {
		reflect.Copy(reflect.ValueOf(rows), saved[0])
		return
	}
	for i, p := range rows {
		reflect.ValueOf(p).Elem().Set(saved[i])
	}
}
