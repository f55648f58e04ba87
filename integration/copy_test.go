package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/shopspring/decimal"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/pgcopy"
)

func TestCopyRoundTrip(t *testing.T) {
	w := open(t, postgres, &Visit{})
	all := visits(1000)
	for i := range all {
		all[i].Reason = fmt.Sprint(canary, i)
	}
	ok(t, pgcopy.Create(t.Context(), w.db, all, pgcopy.Config{}))
	if got := shape(w); !slices.Equal(got, []string{"query", "close", "kms", "begin", "exec", "commit"}) {
		t.Errorf("the order of events is %v", got)
	}
	if n := w.spy.Count("query", "nextval"); n != 1 {
		t.Errorf("%d sequence queries, want 1", n)
	}
	if n := w.spy.Count("exec", "copy"); n != 1 {
		t.Errorf("%d COPYs, want 1", n)
	}
	if n := w.kms.Calls(); n != len(all) {
		t.Errorf("%d calls to the key service, want one for each row", n)
	}
	if dump := w.dump(t, "visits"); strings.Contains(dump, canary) || !strings.Contains(dump, "ward=7") {
		t.Error("the table holds plaintext, or nothing")
	}
	if strings.Contains(w.log.String(), canary) || !strings.Contains(w.log.String(), `COPY "visits" ("ward","reason"`) {
		t.Errorf("the log holds plaintext, or does not name the statement:\n%.500s", w.log.String())
	}
	var got []Visit
	ok(t, w.db.Order("id").Find(&got).Error)
	if len(got) != len(all) {
		t.Fatalf("%d rows", len(got))
	}
	for i, v := range got {
		if v.ID != all[i].ID || v.Reason != all[i].Reason || v.Cost != i || v.Ward != "7" {
			t.Fatalf("row %d came back as %+v", i, v)
		}
	}
	// The structs hold their keys, as after Create.
	calls := w.kms.Calls()
	all[3].Doctor = "Dr. Malik"
	ok(t, w.db.Save(&all[3]).Error)
	if n := w.kms.Calls(); n != calls {
		t.Errorf("saving a row that was copied made %d calls", n-calls)
	}
}

func TestCopyBoundsCalls(t *testing.T) {
	const rows, limit = 200, 16
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}})
	ok(t, err)
	w := openWith(t, postgres, keys, rowseal.Config{Models: []any{&Visit{}}, MaxCalls: limit}, &gorm.Config{})
	counter.Before = gathering(limit, rows)
	ok(t, pgcopy.Create(t.Context(), w.db, visits(rows), pgcopy.Config{}))
	if n := counter.MaxInFlight(); n != limit {
		t.Errorf("%d calls in flight, want %d", n, limit)
	}
}

// CopyGuest has most of what GORM does with a field, and hooks.
type CopyGuest struct {
	ID      uuid.UUID `gorm:"type:uuid;primaryKey"`
	Name    string    `gorm:"serializer:rowseal"`
	Email   string    `gorm:"serializer:rowseal" rowseal:"unique=lower+trim"`
	Phone   *string   `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Notes   rowseal.Secret[string]
	Tags    []string    `gorm:"serializer:json"`
	Seen    int64       `gorm:"serializer:unixtime;type:timestamptz"`
	Level   int         `gorm:"default:3"`
	Address CopyAddress `gorm:"embedded;embeddedPrefix:at_"`
	Room    string      `gorm:"check:room <> 'closed'"`
	Created time.Time   `gorm:"autoCreateTime"`
	Updated int64       `gorm:"autoUpdateTime:milli"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`

	hooks []string
	fail  string
}

type CopyAddress struct {
	Street string
	Number int
}

func (g *CopyGuest) hook(name string) error {
	g.hooks = append(g.hooks, name)
	if g.fail == name {
		return errors.New("the hook fails")
	}
	return nil
}

func (g *CopyGuest) BeforeSave(*gorm.DB) error { return g.hook("BeforeSave") }
func (g *CopyGuest) BeforeCreate(*gorm.DB) error {
	if g.ID == uuid.Nil {
		g.ID = uuid.New()
	}
	return g.hook("BeforeCreate")
}
func (g *CopyGuest) AfterCreate(*gorm.DB) error { return g.hook("AfterCreate") }
func (g *CopyGuest) AfterSave(*gorm.DB) error   { return g.hook("AfterSave") }

func copyGuests(n int) []*CopyGuest {
	out := make([]*CopyGuest, n)
	for i := range out {
		phone := fmt.Sprint(canary, "+49 ", i)
		out[i] = &CopyGuest{Name: fmt.Sprint(canary, " name ", i), Email: fmt.Sprintf("%s%d@example.org", canary, i), Phone: &phone,
			Notes: rowseal.NewSecret(canary + " notes"), Tags: []string{"a", "b"}, Seen: 1_700_000_000, Address: CopyAddress{"Lane", i}, Room: "open"}
	}
	return out
}

func TestCopyDoesWhatCreateDoes(t *testing.T) {
	w := openGuests(t, &gorm.Config{})
	all := copyGuests(20)
	all[4].Phone = nil
	all[5].Level = 9
	ok(t, pgcopy.Create(t.Context(), w.db, all, pgcopy.Config{}))
	// The hooks set the ids, and no connection waited for the keys that they are bound to.
	events := slices.DeleteFunc(w.spy.Events(), func(e sqlspy.Event) bool { return e.Kind != "kms" && e.Kind != "begin" })
	if last := events[len(events)-1].Kind; last != "begin" {
		t.Error("the key service was called inside the transaction")
	}
	if strings.Contains(w.dump(t, "copy_guests"), canary) {
		t.Error("the table holds plaintext")
	}
	for i, g := range all {
		if want := []string{"BeforeSave", "BeforeCreate", "AfterCreate", "AfterSave"}; !slices.Equal(g.hooks, want) {
			t.Fatalf("row %d ran %v", i, g.hooks)
		}
		var got CopyGuest
		ok(t, w.db.Where(&CopyGuest{Email: fmt.Sprintf(" %s%d@EXAMPLE.org", canary, i)}).First(&got).Error)
		notes, err := got.Notes.Get(t.Context())
		ok(t, err)
		if got.ID != g.ID || got.Name != g.Name || notes != canary+" notes" || !slices.Equal(got.Tags, g.Tags) || got.Seen != g.Seen || got.Address != g.Address {
			t.Errorf("row %d came back as %+v", i, got)
		}
		if (got.Phone == nil) != (i == 4) || i != 4 && *got.Phone != *g.Phone {
			t.Errorf("row %d: another phone", i)
		}
		if level := 3 + 6*b2i(i == 5); got.Level != level || g.Level != level {
			t.Errorf("row %d: level %d, in the struct %d", i, got.Level, g.Level)
		}
		if got.Created.IsZero() || got.Updated == 0 || !got.Created.Equal(g.Created.Truncate(time.Microsecond)) && got.Created.Sub(g.Created).Abs() > time.Microsecond {
			t.Errorf("row %d: created %v, in the struct %v", i, got.Created, g.Created)
		}
	}
	// Hooks may be skipped, and columns chosen.
	more := copyGuests(2)
	for i, g := range more {
		g.ID, g.Email = uuid.New(), fmt.Sprint("other", i, "@example.org")
	}
	ok(t, pgcopy.Create(t.Context(), w.db.Session(&gorm.Session{SkipHooks: true}).Omit("Phone", "Tags"), more, pgcopy.Config{}))
	var got CopyGuest
	ok(t, w.db.First(&got, "id = ?", more[1].ID).Error)
	if len(more[1].hooks) > 0 || got.Phone != nil || got.Tags != nil || got.Name != more[1].Name {
		t.Errorf("hooks %v, and %+v", more[1].hooks, got)
	}
	ok(t, pgcopy.Create(t.Context(), w.db.Select("Name", "Room"), []*CopyGuest{{Name: "only", Room: "open", Address: CopyAddress{"gone", 1}}}, pgcopy.Config{}))
	got = CopyGuest{}
	ok(t, w.db.Last(&got, "at_street IS NULL").Error)
	if got.Name != "only" {
		t.Errorf("selected columns came back as %+v", got)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// openGuests is open for guests and visits, with a table for keys of indexes, whose own calls are over.
func openGuests(t *testing.T, config *gorm.Config) *world {
	t.Helper()
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
	ok(t, err)
	w := openWith(t, postgres, keys, rowseal.Config{Models: []any{&CopyGuest{}, &Visit{}}}, config)
	_, err = migrations.Up(t.Context(), w.db)
	ok(t, err)
	ok(t, w.used.(*rowseal.Plugin).MakeIndexKeys(t.Context(), w.db))
	w.kms = counter
	counter.Before = func(context.Context, kmskeytest.Call) error { w.spy.Note("kms"); return nil }
	w.spy.Reset()
	return w
}

// untouched fails unless nothing is stored and the structs are what they were.
func untouched[T any](t *testing.T, w *world, table string, rows, before []T) {
	t.Helper()
	if dump := w.dump(t, table); dump != "" {
		t.Errorf("the table holds\n%s", dump)
	}
	if !reflect.DeepEqual(rows, before) {
		t.Errorf("the structs changed: %+v, were %+v", rows, before)
	}
}

func deref(rows []*CopyGuest) (out []CopyGuest) {
	for _, g := range rows {
		out = append(out, *g)
	}
	return out
}

func TestCopyFailsWhole(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(w *world, rows []*CopyGuest)
		also  func(tx *gorm.DB) error
		says  string
	}{
		{"BeforeCreate", func(_ *world, rows []*CopyGuest) { rows[7].fail = "BeforeCreate" }, nil, "the hook fails"},
		{"AfterSave", func(_ *world, rows []*CopyGuest) { rows[7].fail = "AfterSave" }, nil, "the hook fails"},
		{"a unique index", func(_ *world, rows []*CopyGuest) { rows[7].Email = strings.ToUpper(rows[2].Email) }, nil, "duplicate"},
		{"a CHECK", func(_ *world, rows []*CopyGuest) { rows[7].Room = "closed" }, nil, "chk_copy_guests_room"},
		{"the key service", func(w *world, _ []*CopyGuest) {
			w.kms.Before = func(context.Context, kmskeytest.Call) error { return errors.New("the service is away") }
		}, nil, "away"},
		{"what else was to be done", func(*world, []*CopyGuest) {}, func(tx *gorm.DB) error {
			var n int64
			if err := tx.Model(&CopyGuest{}).Count(&n).Error; err != nil || n != 20 {
				return fmt.Errorf("%d rows, %w", n, err)
			}
			return errors.New("not wanted")
		}, "not wanted"},
		{"a constraint at the commit", func(w *world, _ []*CopyGuest) {
			w.tamper(t, `CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late' USING DETAIL = NEW::text; END $$`)
			w.tamper(t, `CREATE CONSTRAINT TRIGGER late AFTER INSERT ON copy_guests DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()`)
		}, nil, "too late"},
		{"a trigger that leaves rows out", func(w *world, _ []*CopyGuest) {
			w.tamper(t, `CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.at_number = 3 THEN RETURN NULL; END IF; RETURN NEW; END $$`)
			w.tamper(t, `CREATE TRIGGER leave_out BEFORE INSERT ON copy_guests FOR EACH ROW EXECUTE FUNCTION leave_out()`)
		}, nil, "19 of 20"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := openGuests(t, &gorm.Config{})
			rows := copyGuests(20)
			tt.spoil(w, rows)
			before := deref(rows)
			err := pgcopy.Create(t.Context(), w.db, rows, pgcopy.Config{Also: tt.also})
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("error %v, want one that says %q", err, tt.says)
			}
			untouched(t, w, "copy_guests", deref(rows), before)
			var pg *pgconn.PgError
			if errors.As(err, &pg) && (pg.Detail != "" || pg.Where != "") {
				t.Errorf("the error tells of the row: %q %q", pg.Detail, pg.Where)
			}
			if shown := fmt.Sprintf("%+v %#v", err, err); strings.Contains(shown, canary) || strings.Contains(w.log.String(), canary) {
				t.Errorf("the error or the log shows a value: %s", shown)
			}
			// The same rows may be tried again.
			if tt.also != nil {
				ok(t, pgcopy.Create(t.Context(), w.db, rows, pgcopy.Config{}))
			}
		})
	}
	t.Run("a panic", func(t *testing.T) {
		w := openGuests(t, &gorm.Config{})
		rows := copyGuests(3)
		before := deref(rows)
		func() {
			defer func() { _ = recover() }()
			_ = pgcopy.Create(t.Context(), w.db, rows, pgcopy.Config{Also: func(*gorm.DB) error { panic("no") }})
		}()
		untouched(t, w, "copy_guests", deref(rows), before)
		pool, err := w.db.DB()
		ok(t, err)
		if n := pool.Stats().InUse; n != 0 {
			t.Errorf("%d connections are in use", n)
		}
	})
	t.Run("cancelled while copying", func(t *testing.T) {
		w := openGuests(t, &gorm.Config{})
		// The server waits for a lock that the test holds, so that the COPY is under way when it is cancelled.
		lock, err := w.plain.Begin()
		ok(t, err)
		defer func() { _ = lock.Rollback() }()
		_, err = lock.Exec("LOCK TABLE copy_guests IN SHARE MODE")
		ok(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		rows := copyGuests(20)
		before := deref(rows)
		go func() {
			// Not on lock's connection: a transaction sees pg_stat_activity as it was when it first looked.
			// The server gives no sign of a wait, so it is asked until it tells of one.
			for n := 0; n == 0; {
				if err := w.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'copy%' AND wait_event_type = 'Lock' AND datname = current_database()").Scan(&n); err != nil {
					break
				}
			}
			cancel()
		}()
		if err := pgcopy.Create(ctx, w.db, rows, pgcopy.Config{}); err == nil {
			t.Fatal("no error")
		}
		ok(t, lock.Rollback())
		untouched(t, w, "copy_guests", deref(rows), before)
	})
	t.Run("cancelled before", func(t *testing.T) {
		w := open(t, postgres, &Visit{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		rows := visits(3)
		if err := pgcopy.Create(ctx, w.db, rows, pgcopy.Config{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		untouched(t, w, "visits", rows, visits(3))
	})
}

func TestCopyInATransaction(t *testing.T) {
	for name, config := range map[string]*gorm.Config{"plain": {}, "without default transactions": {SkipDefaultTransaction: true}, "prepared": {PrepareStmt: true}} {
		t.Run(name, func(t *testing.T) {
			w := openGuests(t, config)
			// The caller's.
			rows := copyGuests(5)
			ok(t, w.db.Transaction(func(tx *gorm.DB) error {
				if err := pgcopy.Create(t.Context(), tx, rows, pgcopy.Config{}); err != nil {
					return err
				}
				if dump := w.dump(t, "copy_guests"); dump != "" {
					t.Error("others see the rows before the commit")
				}
				var got CopyGuest
				return tx.First(&got, "id = ?", rows[0].ID).Error
			}))
			// Rolled back by the caller.
			gone := errors.New("gone")
			if err := w.db.Transaction(func(tx *gorm.DB) error {
				ok(t, pgcopy.Create(t.Context(), tx, visits(3), pgcopy.Config{}))
				return gone
			}); err != gone {
				t.Fatal(err)
			}
			if dump := w.dump(t, "visits"); dump != "" {
				t.Error("rows outlive their transaction")
			}
			// Its own, with another COPY and an UPDATE.
			w.spy.Reset()
			more := copyGuests(2)
			more[0].Email, more[1].Email = "x@example.org", "y@example.org"
			ok(t, pgcopy.Create(t.Context(), w.db, more, pgcopy.Config{Also: func(tx *gorm.DB) error {
				if err := pgcopy.Create(t.Context(), tx, visits(3), pgcopy.Config{}); err != nil {
					return err
				}
				return tx.Model(more[0]).Update("name", "changed").Error
			}}))
			if n := w.spy.Count("begin", ""); n != 1 {
				t.Errorf("%d transactions, want 1", n)
			}
			var n int64
			ok(t, w.db.Model(&Visit{}).Count(&n).Error)
			var got CopyGuest
			ok(t, w.db.Where(&CopyGuest{Email: "x@example.org"}).First(&got).Error)
			if n != 3 || got.Name != "changed" {
				t.Errorf("%d visits, name %q", n, got.Name)
			}
			pool, err := w.db.DB()
			ok(t, err)
			if n := pool.Stats().InUse; n != 0 {
				t.Errorf("%d connections are in use", n)
			}
		})
	}
	t.Run("session without default transactions", func(t *testing.T) {
		w := openGuests(t, &gorm.Config{})
		rows := copyGuests(5)
		rows[4].fail = "AfterSave"
		if err := pgcopy.Create(t.Context(), w.db.Session(&gorm.Session{SkipDefaultTransaction: true}), rows, pgcopy.Config{}); err == nil || w.dump(t, "copy_guests") != "" {
			t.Errorf("error %v", err)
		}
	})
}

type CopyOwner struct {
	ID     uint64
	Name   string `gorm:"serializer:rowseal"`
	Visits []CopyPart
	rowseal.RowKey
}

type CopyPart struct {
	ID          uint64
	CopyOwnerID uint64
	Label       string
}

type CopyUUID struct {
	ID   uuid.UUID `gorm:"type:uuid;default:gen_random_uuid()"`
	Name string    `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type CopyAlways struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type CopyMade struct {
	ID    uint64
	Name  string    `gorm:"serializer:rowseal"`
	Token string    `gorm:"default:md5('x')"`
	At    time.Time `gorm:"default:now()"`
	rowseal.RowKey
}

type CopyPlace struct {
	ID    uint64
	Point CopyPoint `gorm:"type:text"`
}

// CopyPoint speaks to GORM in SQL.
type CopyPoint struct{ X int }

func (p CopyPoint) GormValue(context.Context, *gorm.DB) clause.Expr {
	if p.X < 0 {
		return clause.Expr{SQL: "NULL"}
	}
	if p.X < 10 {
		return clause.Expr{SQL: "?", Vars: []any{fmt.Sprint(p.X)}}
	}
	return clause.Expr{SQL: "concat(?, 'x')", Vars: []any{p.X}}
}
func (p *CopyPoint) Scan(v any) error {
	_, err := fmt.Sscan(fmt.Sprint(v), &p.X)
	return err
}

// CopyStray is tagged, and registered nowhere.
type CopyStray struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestCopyRefuses(t *testing.T) {
	w := open(t, postgres, &Visit{}, &CopyOwner{}, &CopyUUID{}, &CopyAlways{}, &CopyMade{})
	ok(t, w.db.AutoMigrate(&CopyPart{}, &CopyPlace{}))
	other := open(t, sqliteGo, &Visit{})
	w.tamper(t, "ALTER TABLE copy_always ALTER id DROP DEFAULT")
	w.tamper(t, "ALTER TABLE copy_always ALTER id ADD GENERATED ALWAYS AS IDENTITY")
	bare, _ := connect(t, postgres, w.spy, &gorm.Config{Logger: logger.Discard})
	ok(t, bare.AutoMigrate(&Visit{}))
	ctx, db := t.Context(), w.db
	none := pgcopy.Config{}
	for _, tt := range []struct {
		name string
		err  error
		kind error
		says string
	}{
		{"another database", pgcopy.Create(ctx, other.db, visits(2), none), rowseal.ErrUnsupported, "Postgres"},
		{"maps", pgcopy.Create(ctx, db.Model(&Visit{}), []map[string]any{{"reason": canary}}, none), rowseal.ErrUnsupported, "slice of the model"},
		{"interfaces", pgcopy.Create(ctx, db, []any{&Visit{}}, none), rowseal.ErrUnsupported, "slice of the model"},
		{"another model", pgcopy.Create(ctx, db.Model(&CopyOwner{}), visits(2), none), rowseal.ErrUnsupported, "db.Model"},
		{"a dry run", pgcopy.Create(ctx, db.Session(&gorm.Session{DryRun: true}), visits(2), none), rowseal.ErrUnsupported, "dry run"},
		{"DO NOTHING", pgcopy.Create(ctx, db.Clauses(clause.OnConflict{DoNothing: true}), visits(2), none), rowseal.ErrUnsupported, "ON CONFLICT"},
		{"an upsert by a scope", pgcopy.Create(ctx, db.Scopes(func(tx *gorm.DB) *gorm.DB { return tx.Clauses(clause.OnConflict{UpdateAll: true}) }), visits(2), none), rowseal.ErrUnsupported, "ON CONFLICT"},
		{"RETURNING", pgcopy.Create(ctx, db.Clauses(clause.Returning{}), visits(2), none), rowseal.ErrUnsupported, "RETURNING"},
		{"RETURNING by a scope", pgcopy.Create(ctx, db.Scopes(func(tx *gorm.DB) *gorm.DB { return tx.Clauses(clause.Returning{}) }), visits(2), none), rowseal.ErrUnsupported, "RETURNING"},
		{"a table by a scope", pgcopy.Create(ctx, db.Scopes(func(tx *gorm.DB) *gorm.DB { return tx.Table("visits2") }), visits(2), none), rowseal.ErrUnsupported, "db.Table"},
		{"associations", pgcopy.Create(ctx, db, []CopyOwner{{Name: "a"}, {Name: "b", Visits: []CopyPart{{Label: "x"}}}}, none), rowseal.ErrUnsupported, "clause.Associations"},
		{"an id of the database", pgcopy.Create(ctx, db, []CopyUUID{{Name: "a"}}, none), rowseal.ErrUnsupported, "set it in Go"},
		{"an id that takes no value", pgcopy.Create(ctx, db, []CopyAlways{{Name: "a"}}, none), rowseal.ErrUnsupported, "set it in Go"},
		{"values of the database", pgcopy.Create(ctx, db, []CopyMade{{Name: "a", At: time.Now()}}, none), rowseal.ErrUnsupported, `db.Omit("token")`},
		{"values of the database in some rows", pgcopy.Create(ctx, db, []CopyMade{{Name: "a", Token: "t", At: time.Now()}, {Name: "b", At: time.Now()}}, none), rowseal.ErrUnsupported, "row 1 leaves it to the database"},
		{"an expression", pgcopy.Create(ctx, db, []CopyPlace{{Point: CopyPoint{1}}, {Point: CopyPoint{11}}}, none), rowseal.ErrUnsupported, "row 1 has an SQL expression"},
		{"a model that is not registered", pgcopy.Create(ctx, db, []CopyStray{{Name: canary}}, none), rowseal.ErrModel, "not registered"},
		{"no plugin", pgcopy.Create(ctx, bare, visits(2), none), rowseal.ErrNoPlugin, "db.Use"},
		{"no plugin, and not asked", pgcopy.Create(ctx, bare.Unscoped(), visits(2), none), rowseal.ErrNoPlugin, "db.Use"},
		{"a nil row", pgcopy.Create(ctx, db, []*Visit{{}, nil}, none), gorm.ErrInvalidData, "row 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fails(t, tt.err, tt.kind, tt.says)
			if strings.Contains(fmt.Sprintf("%+v", tt.err), canary) {
				t.Errorf("the error shows a value: %v", tt.err)
			}
		})
	}
	for _, e := range w.spy.Events() {
		if e.Kind == "exec" && strings.HasPrefix(e.SQL, "COPY") {
			t.Errorf("reached the database: %s", e.SQL)
		}
	}
	// What is written instead passes.
	ok(t, pgcopy.Create(ctx, db.Omit(clause.Associations), []CopyOwner{{Name: "b", Visits: []CopyPart{{Label: "x"}}}}, none))
	ok(t, pgcopy.Create(ctx, db, []CopyUUID{{ID: uuid.New(), Name: "a"}}, none))
	ok(t, pgcopy.Create(ctx, db.Omit("token", "At"), []CopyMade{{Name: "a"}}, none))
	ok(t, pgcopy.Create(ctx, db, []CopyPlace{{Point: CopyPoint{1}}, {Point: CopyPoint{-1}}}, none))
	ok(t, pgcopy.Create(ctx, db, []Visit(nil), none))
	var got CopyMade
	ok(t, db.First(&got).Error)
	if got.Token == "" || got.At.IsZero() {
		t.Errorf("what was left to the database came back as %+v", got)
	}
	var points []sql.NullString
	ok(t, db.Model(&CopyPlace{}).Order("id").Pluck("point", &points).Error)
	if len(points) != 2 || points[0].String != "1" || points[1].Valid {
		t.Errorf("points %v", points)
	}
}

// What takes the gate away leaves nothing that could be sent.
func TestCopyFailsClosed(t *testing.T) {
	for name, take := range map[string]func(db *gorm.DB){
		"no gate": func(db *gorm.DB) { delete(db.ClauseBuilders, "VALUES") },
		"plaintext in front of the gate": func(db *gorm.DB) {
			gate := db.ClauseBuilders["VALUES"]
			db.ClauseBuilders["VALUES"] = func(c clause.Clause, b clause.Builder) {
				v := c.Expression.(clause.Values)
				for i, column := range v.Columns {
					if column.Name == "reason" {
						v.Values[0][i] = canary
					}
				}
				gate(c, b)
			}
		},
		"plaintext behind the gate": func(db *gorm.DB) {
			gate := db.ClauseBuilders["VALUES"]
			db.ClauseBuilders["VALUES"] = func(c clause.Clause, b clause.Builder) {
				next := c.Builder
				c.Builder = func(c clause.Clause, b clause.Builder) {
					v := c.Expression.(clause.Values)
					for i, column := range v.Columns {
						if column.Name == "reason" {
							v.Values[0][i] = canary
						}
					}
					next(c, b)
				}
				gate(c, b)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, postgres, &Visit{})
			take(w.db)
			rows := visits(3)
			rows[0].Reason = canary
			err := pgcopy.Create(t.Context(), w.db, rows, pgcopy.Config{})
			fails(t, err, rowseal.ErrPlaintext)
			if w.dump(t, "visits") != "" || strings.Contains(w.log.String(), canary) || strings.Contains(err.Error(), canary) {
				t.Error("a value got out")
			}
		})
	}
}

// CopyKind has a column of many types of Postgres.
type CopyKind struct {
	ID      uint64
	Sealed  string `gorm:"serializer:rowseal"`
	Small   int16  `gorm:"type:smallint"`
	Int     int    `gorm:"type:int"`
	Big     uint64
	Real    float32 `gorm:"type:real"`
	Double  float64
	Money   decimal.Decimal `gorm:"type:numeric(12,2)"`
	Digits  string          `gorm:"type:numeric"`
	Flag    bool
	FlagP   *bool
	Text    string
	Short   string `gorm:"type:varchar(40)"`
	Fixed   string `gorm:"type:char(4)"`
	Bytes   []byte
	NoBytes []byte
	UUID    uuid.UUID  `gorm:"type:uuid"`
	UUIDP   *uuid.UUID `gorm:"type:uuid"`
	UUIDS   string     `gorm:"type:uuid"`
	At      time.Time
	AtP     *time.Time
	Local   time.Time `gorm:"type:timestamp"`
	Day     time.Time `gorm:"type:date"`
	DayS    string    `gorm:"type:date"`
	Clock   string    `gorm:"type:time without time zone"`
	Span    string    `gorm:"type:interval"`
	Null    sql.NullString
	NullInt sql.NullInt64
	JSON    string         `gorm:"type:jsonb"`
	Map     map[string]any `gorm:"serializer:json;type:jsonb"`
	Gob     []string       `gorm:"serializer:gob;type:bytea"`
	Unix    int64          `gorm:"serializer:unixtime;type:timestamptz"`
	List    CopyList       `gorm:"type:text[]"`
	Inet    string         `gorm:"type:inet"`
	Range   string         `gorm:"type:int4range"`
	Bits    string         `gorm:"type:bit varying"`
	Search  string         `gorm:"type:tsvector"`
	Color   CopyColor
	Deleted gorm.DeletedAt
	Odd     string
	rowseal.RowKey
}

// CopyList is a list as Valuers give one.
type CopyList []string

func (l CopyList) Value() (driver.Value, error) { return "{" + strings.Join(l, ",") + "}", nil }
func (l *CopyList) Scan(v any) error {
	*l = strings.Split(strings.Trim(fmt.Sprint(v), "{}"), ",")
	return nil
}

type CopyColor string

func TestCopyKinds(t *testing.T) {
	for _, kind := range []struct{ name, color string }{{"binary", "text"}, {"text", "copy_color"}} {
		t.Run(kind.name, func(t *testing.T) {
			w := open(t, postgres, &CopyKind{})
			if kind.color != "text" {
				w.tamper(t, "CREATE TYPE copy_color AS ENUM ('red', 'green')")
				w.tamper(t, "ALTER TABLE copy_kinds ALTER color TYPE copy_color USING color::copy_color")
				w.tamper(t, "ALTER TABLE copy_kinds ADD CHECK (color IS NOT NULL)")
			}
			at := time.Date(2026, 11, 30, 9, 55, 1, 123456789, time.FixedZone("", 3600))
			id, yes := uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), true
			full := CopyKind{Sealed: "sealed", Small: -3, Int: 7, Big: 1 << 60, Real: 1.5, Double: 0.1, Money: decimal.RequireFromString("-1234.50"), Digits: "12345678901234567890.0123",
				Flag: true, FlagP: &yes, Text: "tab\tline\nback\\slash\r \u00e9 \\N", Short: "short", Fixed: "ab", Bytes: []byte{0, 1, 0xff, '\\', '\n'}, UUID: id, UUIDP: &id, UUIDS: id.String(),
				At: at, AtP: &at, Local: at, Day: at, DayS: "2026-11-30", Clock: "09:55:01", Span: "1 day 02:00:00", Null: sql.NullString{String: "n", Valid: true},
				NullInt: sql.NullInt64{Int64: 4, Valid: true}, JSON: `{"a": [1, "é"]}`, Map: map[string]any{"k": "v"}, Gob: []string{"g"}, Unix: 1_700_000_000, List: CopyList{"a", "b"},
				Inet: "10.0.0.1/8", Range: "[1,5)", Bits: "1011", Search: "'cat' 'dog'", Color: "red", Deleted: gorm.DeletedAt{Time: at, Valid: true}, Odd: "\\."}
			empty := CopyKind{Digits: "0", UUIDS: id.String(), DayS: "2026-01-01", Clock: "00:00", Span: "0", JSON: "null", Inet: "::1", Range: "empty", Color: "green"}
			db := w.db
			if kind.name == "binary" {
				db = db.Omit("Digits", "DayS", "Clock", "Span", "List", "Inet", "Range", "Bits", "Search") // are the server's to read
			}
			copies := []CopyKind{full, empty}
			ok(t, pgcopy.Create(t.Context(), db, copies, pgcopy.Config{}))
			inserts := []CopyKind{full, empty}
			ok(t, db.Create(&inserts).Error)
			if n := w.spy.Count("exec", "copy"); n != 1 {
				t.Errorf("%d COPYs", n)
			}
			// As text, which shows every bit that the database holds. Sealed and key columns differ on purpose.
			rows, err := w.plain.Query("SELECT to_jsonb(k) - 'id' - 'sealed' - 'encrypted_kms_key' FROM copy_kinds k ORDER BY id")
			ok(t, err)
			var got []string
			for rows.Next() {
				var s string
				ok(t, rows.Scan(&s))
				got = append(got, s)
			}
			ok(t, rows.Err())
			if len(got) != 4 || got[0] != got[2] || got[1] != got[3] {
				t.Errorf("COPY and INSERT differ:\n%s", strings.Join(got, "\n"))
			}
			var read []CopyKind
			ok(t, w.db.Unscoped().Order("id").Find(&read).Error)
			if read[0].Sealed != "sealed" || read[0].Text != full.Text {
				t.Errorf("came back as %+v", read[0])
			}
		})
	}
}

type CopyMisfit struct {
	ID    uint64
	Count string  `gorm:"type:int"`
	Spot  CopyMap `gorm:"type:int"`
	Name  string  `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// CopyMap gives drivers what fits no column.
type CopyMap struct{ V string }

func (m CopyMap) Value() (driver.Value, error) {
	if m.V == "" {
		return nil, nil
	}
	return m.V, nil
}

func TestCopyNamesTheColumnOfAValueThatDoesNotFit(t *testing.T) {
	w := open(t, postgres, &CopyMisfit{})
	for name, rows := range map[string][]CopyMisfit{
		"read by the server": {{Count: "1"}, {Count: canary, Name: "n"}},
		"read here":          {{}, {Spot: CopyMap{canary}, Name: "n"}},
	} {
		t.Run(name, func(t *testing.T) {
			db, column := w.db, "column count"
			if name == "read here" {
				db, column = w.db.Omit("count"), "row 1, column spot"
			}
			err := pgcopy.Create(t.Context(), db, rows, pgcopy.Config{})
			if err == nil || !strings.Contains(err.Error(), column) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), canary) {
				t.Errorf("error %v, want one that names %s and no value", err, column)
			}
			if w.dump(t, "copy_misfits") != "" {
				t.Error("something was stored")
			}
			// The connection is as good as before.
			ok(t, pgcopy.Create(t.Context(), db, rows[:1], pgcopy.Config{}))
			w.tamper(t, "DELETE FROM copy_misfits")
		})
	}
}

type CopyLink struct {
	Left  uint64 `gorm:"primaryKey;autoIncrement:false"`
	Right string `gorm:"primaryKey"`
	Note  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestCopyCompositeKeys(t *testing.T) {
	w := open(t, postgres, &CopyLink{})
	ok(t, pgcopy.Create(t.Context(), w.db, []CopyLink{{Left: 1, Right: "a", Note: "x"}, {Left: 1, Right: "b", Note: "y"}}, pgcopy.Config{}))
	var got CopyLink
	ok(t, w.db.First(&got, &CopyLink{Left: 1, Right: "b"}).Error)
	if got.Note != "y" {
		t.Errorf("came back as %+v", got)
	}
}

func TestCopyByAWriterThatMayNotDecrypt(t *testing.T) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecureEncryptOnly()}}})
	ok(t, err)
	w := openWith(t, postgres, keys, rowseal.Config{Models: []any{&Visit{}}, WriteOnly: true}, &gorm.Config{})
	ok(t, pgcopy.Create(t.Context(), w.db, visits(10), pgcopy.Config{}))
	if n := strings.Count(w.dump(t, "visits"), "ward=7"); n != 10 {
		t.Errorf("%d rows", n)
	}
}

func TestCopyPlainModels(t *testing.T) {
	w := open(t, postgres, &Visit{})
	bare, plain := connect(t, postgres, w.spy, &gorm.Config{Logger: logger.Discard})
	for name, db := range map[string]*gorm.DB{"with the plugin": w.db, "without": bare} {
		t.Run(name, func(t *testing.T) {
			ok(t, db.AutoMigrate(&PlainVisit{}))
			rows := []*PlainVisit{{Ward: "1"}, {Ward: "2"}}
			ok(t, pgcopy.Create(t.Context(), db, rows, pgcopy.Config{}))
			var got PlainVisit
			ok(t, db.First(&got, rows[1].ID).Error)
			if got.Ward != "2" {
				t.Errorf("came back as %+v", got)
			}
		})
	}
	_ = plain
	// A struct of the application's own for a registered table does not get past the gate.
	type stray struct {
		ID           uint64
		Reason, Ward string
	}
	err := pgcopy.Create(t.Context(), w.db.Table("visits"), []stray{{Reason: canary}}, pgcopy.Config{})
	fails(t, err, rowseal.ErrPlaintext, "reason")
}

func TestCopyConcurrently(t *testing.T) {
	w := open(t, postgres, &Visit{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				if err := pgcopy.Create(t.Context(), w.db, visits(50), pgcopy.Config{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var got []Visit
	ok(t, w.db.Find(&got).Error)
	if len(got) != 8*4*50 {
		t.Errorf("%d rows", len(got))
	}
}

func TestCopyOf100000Rows(t *testing.T) {
	w := openWith(t, postgres, localKeys(t), rowseal.Config{Models: []any{&Visit{}}}, &gorm.Config{})
	all := visits(100_000)
	ok(t, pgcopy.Create(t.Context(), w.db, all, pgcopy.Config{}))
	var n int64
	ok(t, w.db.Model(&Visit{}).Count(&n).Error)
	var got Visit
	ok(t, w.db.First(&got, all[99_999].ID).Error)
	if n != 100_000 || got.Reason != "reason 99999" {
		t.Errorf("%d rows, the last is %+v", n, got)
	}
}

// hiding is a driver that knows no arguments but database/sql's own, as most do.
type hiding struct {
	driver.Connector
}

func (h hiding) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := h.Connector.Connect(ctx)
	return hidingConn{c}, err
}

type hidingConn struct{ driver.Conn }

func (c hidingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c hidingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func TestCopyNeedsPgx(t *testing.T) {
	parsed, err := pgx.ParseConfig(pgtest.DSN(t))
	ok(t, err)
	pool := sql.OpenDB(hiding{stdlib.GetConnector(*parsed)})
	defer pool.Close()
	db, err := gorm.Open(dialector(postgres, pool), &gorm.Config{Logger: logger.Discard})
	ok(t, err)
	ok(t, db.AutoMigrate(&PlainVisit{}))
	rows := []PlainVisit{{Ward: "1"}}
	fails(t, pgcopy.Create(t.Context(), db, rows, pgcopy.Config{}), rowseal.ErrUnsupported, "pgx")
	var n int64
	ok(t, db.Model(&PlainVisit{}).Count(&n).Error)
	if n != 0 || rows[0].ID != 0 {
		t.Errorf("%d rows, and %+v", n, rows[0])
	}
}
