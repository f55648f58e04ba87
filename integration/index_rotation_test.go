package integration

// index_rotation_test.go owns indexes that take the place of others: filled while programs write, and unique all the time.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/rotation"
)

// The model of a program, from release to release: while the key of its index is rotated, it writes two indexes, and looks at the first.
type (
	memberOne struct {
		ID    uint64
		Login string `gorm:"serializer:rowseal" rowseal:"unique=lower"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	memberBoth struct {
		ID    uint64
		Login string `gorm:"serializer:rowseal" rowseal:"unique=lower,unique=lower+v2"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	memberSwitched struct {
		ID    uint64
		Login string `gorm:"serializer:rowseal" rowseal:"unique=lower+v2,unique=lower"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	memberTwo struct {
		ID    uint64
		Login string `gorm:"serializer:rowseal" rowseal:"unique=lower+v2"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
)

func (memberOne) TableName() string      { return "members" }
func (memberBoth) TableName() string     { return "members" }
func (memberSwitched) TableName() string { return "members" }
func (memberTwo) TableName() string      { return "members" }

// release is one of these programs.
type release struct {
	name  string
	db    *gorm.DB
	model reflect.Type
}

func released(t *testing.T, w *world, name string, model any) release {
	t.Helper()
	keys := localKeys(t)
	db, plugin := another(t, w, keys, rowseal.Config{Models: []any{rowseal.Model{Value: model, Name: "Member"}}})
	patiently(t, w, func() error { return db.AutoMigrate(model) })
	patiently(t, w, func() error { return plugin.MakeIndexKeys(t.Context(), db) })
	return release{name, db, reflect.TypeOf(model).Elem()}
}

// patiently tries again where SQLite's one lock went to the writers for longer than its driver waits.
func patiently(t *testing.T, w *world, do func() error) {
	t.Helper()
	err := do()
	for i := 0; i < 10 && err != nil && isSQLite(w.kind) && lost(err); i++ {
		err = do()
	}
	ok(t, err)
}

// row is one of the model's, with an id and a login.
func (r release) row(id uint64, login string) any {
	v := reflect.New(r.model)
	v.Elem().FieldByName("ID").SetUint(id)
	v.Elem().FieldByName("Login").SetString(login)
	return v.Interface()
}

func (r release) pointer() any { return reflect.New(r.model).Interface() }

// find gives ids and logins of what a query finds.
func (r release) find(t testing.TB, tx *gorm.DB) (ids []uint64, logins []string) {
	t.Helper()
	rows := reflect.New(reflect.SliceOf(r.model))
	ok(t, tx.Find(rows.Interface()).Error)
	for i := range rows.Elem().Len() {
		ids, logins = append(ids, rows.Elem().Index(i).FieldByName("ID").Uint()), append(logins, rows.Elem().Index(i).FieldByName("Login").String())
	}
	return ids, logins
}

// Of so many logins the first are those of rows that nobody changes, so that there is something to fill; the others are few, so that they meet.
const quiet, logins = 20, 60

// register is what was accepted: which row has which login. A row is with one writer at a time, who takes it out before a statement that changes it begins and puts back what came of it, so that two rows under
// one login have it in the database too, at that moment.
type register struct {
	mu      sync.Mutex
	owners  map[string]uint64 // by login, in lower case
	idle    []string          // logins of rows that a writer may take
	written chan struct{}     // for whoever waits for the next write

	accepted, refused atomic.Int64
}

// put notes that a row has a login.
func (g *register) put(t *testing.T, by, login string, id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	login = strings.ToLower(login)
	if other, taken := g.owners[login]; taken {
		t.Errorf("%s: rows %d and %d both have the login %q", by, other, id, login)
		return
	}
	g.owners[login] = id
	n, err := strconv.Atoi(strings.TrimPrefix(login, "user "))
	if err != nil {
		t.Errorf("%s: the login %q is none of the test's", by, login)
		return
	}
	if n >= quiet {
		g.idle = append(g.idle, login)
	}
}

// take gives a row to a writer alone.
func (g *register) take(random *rand.Rand) (login string, id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.idle) <= 8 {
		return "", 0
	}
	i := random.IntN(len(g.idle))
	login = g.idle[i]
	id = g.owners[login]
	g.idle = slices.Delete(g.idle, i, i+1)
	delete(g.owners, login)
	return login, id
}

// next waits for a write that is accepted from now on.
func (g *register) next() { <-g.written }

// busy writes the same few logins over and over, in any spelling, and notes what the unique indexes accept: so many times, and then until it is told to stop and some write was accepted
// and some refused, which chance may leave out of a few.
func (r release) busy(t *testing.T, stop context.Context, random *rand.Rand, g *register, times int) {
	shown := func() bool { return g.accepted.Load() > 0 && g.refused.Load() > 0 }
	for i := 0; i < times || stop.Err() == nil || !shown() && i < 100*times; i++ {
		login := fmt.Sprintf("user %d", random.IntN(logins))
		if random.IntN(2) == 0 {
			login = strings.ToUpper(login)
		}
		var err error
		wrote := false
		switch op := random.IntN(7); op {
		case 0, 1, 2:
			row, tx := r.row(0, login), r.db
			if op == 2 {
				tx = tx.Clauses(clause.OnConflict{DoNothing: true})
			}
			tx = tx.Create(row)
			id := reflect.ValueOf(row).Elem().FieldByName("ID").Uint()
			switch err = tx.Error; {
			case err != nil:
			case op == 2 && id == 0: // MySQL counts the row that was there
				g.refused.Add(1)
			default:
				wrote = true
				g.put(t, r.name, login, id)
			}
		case 3, 4:
			old, id := g.take(random)
			if id == 0 {
				break
			}
			tx := r.db.Model(r.row(id, "")).Update("login", login)
			if err = tx.Error; err != nil {
				login = old
			} else if tx.RowsAffected != 1 {
				t.Errorf("%s: an update wrote %d rows", r.name, tx.RowsAffected)
			}
			wrote = err == nil
			g.put(t, r.name, login, id)
		case 5:
			old, id := g.take(random)
			if id == 0 {
				break
			}
			if err = r.db.Delete(r.row(id, "")).Error; err != nil {
				g.put(t, r.name, old, id)
			}
		default:
			rows := reflect.New(reflect.SliceOf(r.model))
			if err = r.db.Where("login", login).Find(rows.Interface()).Error; err == nil && rows.Elem().Len() > 1 {
				t.Errorf("%s: %d rows are found by the login %q", r.name, rows.Elem().Len(), login)
			}
			if err != nil && strings.Contains(err.Error(), "0A000") {
				err = nil // the columns changed between pgx's preparing and running it
			}
		}
		switch {
		case wrote:
			g.accepted.Add(1)
			select {
			case g.written <- struct{}{}:
			default:
			}
		case err == nil:
		case unique(err):
			g.refused.Add(1)
		case errors.Is(err, rowseal.ErrStaleKey), lost(err):
			// another goroutine was faster
		default:
			t.Errorf("%s: %v", r.name, err)
			return
		}
	}
}

func unique(err error) bool {
	text := err.Error()
	return strings.Contains(text, "23505") || strings.Contains(text, "Duplicate entry") || strings.Contains(text, "UNIQUE constraint failed")
}

func lost(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "deadlock") || strings.Contains(text, "40001") || strings.Contains(text, "locked") || strings.Contains(text, "has changed since last read")
}

// TestIndexRotationAcceptsNoDuplicate: a unique index gives way to one under another key, while programs of the release before and after write the same few values at once: in every
// phase, while the new column is made, while it is filled and verified from beginning to end, and while the old one is dropped. At no moment do two rows have one value.
func TestIndexRotationAcceptsNoDuplicate(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind)
		one := released(t, w, "one", &memberOne{})
		both, switched, two := func() release { return released(t, w, "both", &memberBoth{}) }, func() release { return released(t, w, "switched", &memberSwitched{}) }, func() release { return released(t, w, "two", &memberTwo{}) }
		g := &register{owners: map[string]uint64{}, written: make(chan struct{})}
		for i := range quiet {
			row := one.row(0, fmt.Sprint("User ", i))
			ok(t, one.db.Create(row).Error)
			g.put(t, "one", fmt.Sprint("user ", i), reflect.ValueOf(row).Elem().FieldByName("ID").Uint())
		}
		seed, phases := rand.Uint64(), uint64(0)
		t.Logf("seed %d", seed)
		phase := func(name string, meanwhile func(), programs ...release) {
			t.Helper()
			phases++
			g.accepted.Store(0)
			g.refused.Store(0)
			stop, cancel := context.WithCancel(t.Context())
			defer cancel()
			var writers sync.WaitGroup
			many := 4
			if isSQLite(kind) {
				many = 1 // beside what goes on meanwhile: SQLite's lock is given to whoever asks first
			}
			for i := range many {
				random := rand.New(rand.NewPCG(seed, 8*phases+uint64(i)))
				writers.Go(func() { programs[i%len(programs)].busy(t, stop, random, g, 15) })
			}
			if meanwhile != nil {
				g.next() // they are at it
				before := g.accepted.Load()
				meanwhile()
				g.next() // and are so still
				t.Logf("%s: %d writes were accepted meanwhile", name, g.accepted.Load()-before)
			}
			cancel()
			writers.Wait()
			for _, p := range programs {
				ids, names := p.find(t, p.db)
				if len(ids) != len(g.owners) {
					t.Errorf("%s: %d rows, and %d were accepted", name, len(ids), len(g.owners))
				}
				for i, login := range names {
					if g.owners[strings.ToLower(login)] != ids[i] {
						t.Errorf("%s: row %d has the login %q, which row %d was given", name, ids[i], login, g.owners[strings.ToLower(login)])
					}
				}
				for login, id := range g.owners {
					if found, _ := p.find(t, p.db.Where("login", strings.ToUpper(login))); len(found) != 1 || found[0] != id {
						t.Errorf("%s: program %s finds %v by %q, want %d", name, p.name, found, login, id)
					}
				}
			}
			if g.accepted.Load() == 0 || g.refused.Load() == 0 {
				t.Errorf("%s: %d writes were accepted and %d refused: it has shown nothing", name, g.accepted.Load(), g.refused.Load())
			}
		}
		altering := func(name string, meanwhile func(), programs ...release) {
			t.Helper()
			if kind == postgres { // pgx keeps statements whose result a new column changes, with their connections
				w.plain.SetMaxIdleConns(0)
				defer w.plain.SetMaxIdleConns(10)
			}
			phase(name, meanwhile, programs...)
		}
		verify := func(p release) {
			t.Helper()
			v, err := rotation.Verify(t.Context(), p.db, p.pointer(), 0, rotation.Config{MaxPage: 5})
			ok(t, err)
			if !v.Clean() || v.Indexes == 0 {
				t.Errorf("%s: %+v", p.name, v)
			}
		}
		// Between any two pages of a fill something is written.
		fill := func(p release) {
			t.Helper()
			var report *rotation.Report
			patiently(t, w, func() (err error) {
				report, err = rotation.FillIndexes(t.Context(), p.db, p.pointer(), rotation.Config{All: true, MaxPage: 10, Progress: func(rotation.Progress) { g.next() }})
				return err
			})
			if report.Failed != 0 || report.Rewrapped == 0 {
				t.Errorf("%+v", report)
			}
		}
		phase("before", nil, one)
		var b release
		altering("the column is made", func() { b = both() }, one)
		phase("some programs write both", nil, one, b)
		phase("all write both, and the rest is filled", func() { fill(b) }, b, both())
		phase("all write both, and they are verified", func() { verify(b) }, b)
		s := switched()
		phase("some look at the new one", nil, b, s)
		phase("all look at the new one", func() { verify(s) }, s, switched())
		phase("the old one is unique no more", func() {
			patiently(t, w, func() error { return s.db.Migrator().DropIndex(s.pointer(), "idx_members_login_lower_bidx") })
		}, s)
		next := two()
		phase("some write the new one alone", nil, s, next)
		last := two()
		altering("the old one is dropped", func() {
			patiently(t, w, func() error {
				_, err := w.plain.Exec("ALTER TABLE members DROP COLUMN login_lower_bidx")
				return err
			})
		}, next, last)
		phase("after", func() { verify(next) }, next, two())
	})
}

type (
	// fillDoc is a model before an index, and fillDocs the same with it: two texts that differ in case alone are then one.
	fillDoc struct {
		ID    uint64
		Name  string  `gorm:"serializer:rowseal" rowseal:"unique"`
		Alias *string `gorm:"serializer:rowseal" rowseal:"text,key=AliasKey"`
		rowseal.RowKey
		AliasKey rowseal.Key `gorm:"column:encrypted_kms_key_alias" json:"-"`
	}
	fillDocs struct {
		ID    uint64
		Name  string  `gorm:"serializer:rowseal" rowseal:"unique,unique=lower"`
		Alias *string `gorm:"serializer:rowseal" rowseal:"text,key=AliasKey,index=first3+9bits"`
		rowseal.RowKey
		AliasKey rowseal.Key `gorm:"column:encrypted_kms_key_alias" json:"-"`
	}
)

func (fillDoc) TableName() string  { return "fill_docs" }
func (fillDocs) TableName() string { return "fill_docs" }

// fillWorld is a table of a program before the index, and the program after it.
func fillWorld(t *testing.T, kind string, rows []fillDoc) (w *world, before, after *gorm.DB, calls *kmskeytest.Counter) {
	w = newIndexed(t, kind)
	calls = kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: calls}}, Namespace: "test"})
	ok(t, err)
	if kind == postgres {
		w.plain.SetMaxIdleConns(0) // pgx keeps statements whose result a new column changes
	}
	before, plugin := another(t, w, keys, rowseal.Config{Models: []any{rowseal.Model{Value: &fillDoc{}, Name: "Doc"}}})
	ok(t, before.AutoMigrate(&fillDoc{}))
	ok(t, plugin.MakeIndexKeys(t.Context(), before))
	ok(t, before.CreateInBatches(&rows, 100).Error)
	after, _ = another(t, w, keys, rowseal.Config{Models: []any{rowseal.Model{Value: &fillDocs{}, Name: "Doc"}}})
	ok(t, after.AutoMigrate(&fillDocs{}))
	w.plain.SetMaxIdleConns(10)
	calls.Reset()
	return w, before, after, calls
}

// TestFillIndexesNamesWhatItCannot: a row that does not open and two rows that the new index takes for one are named and left as they are, and an index that a program without it left stale is mended.
func TestFillIndexesNamesWhatItCannot(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		rows := []fillDoc{{Name: "Ada", Alias: new("lovelace")}, {Name: "ada"}, {Name: "Grace", Alias: new("hopper")}, {Name: "Edsger"}, {Name: "Barbara"}}
		w, before, after, calls := fillWorld(t, kind, rows)
		w.tamper(t, "UPDATE fill_docs SET name = ? WHERE id = ?", w.cell(t, "fill_docs", "name", rows[3].ID), rows[4].ID)
		report, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{})
		var partial *rotation.PartialError
		if !errors.As(err, &partial) {
			t.Fatalf("%v", err)
		}
		classes := map[string]string{}
		for _, f := range report.Failures {
			classes[f.Class+" "+f.Column] = f.Row
			if strings.Contains(strings.ToLower(f.Message), "ada") {
				t.Errorf("a value is named: %s", f.Message)
			}
		}
		if len(report.Failures) != 2 || classes["duplicate name_lower_bidx"] == "" || classes["not_authentic name_lower_bidx"]+classes["field name_lower_bidx"] != fmt.Sprint(rows[4].ID) || report.Rewrapped != 5 || !strings.Contains(err.Error(), "5 indexes were written, and 2 could not be") {
			t.Errorf("%v\n%+v", err, report)
		}
		if got := calls.Count("unwrap"); got != 7+1+7 { // five rows, two of them with another key, the index key, and the duplicate seven times more
			t.Errorf("%d calls", got)
		}
		fails(t, after.Where(rowseal.EqBy("Name", "lower", "grace")).Find(&[]fillDocs{}).Error, rowseal.ErrIndexIncomplete, "rotation.FillIndexes")
		ok(t, after.Delete(&fillDocs{ID: rows[1].ID}).Error)
		w.tamper(t, "DELETE FROM fill_docs WHERE id = ?", rows[4].ID)
		// A program that does not know the new index leaves it as it was.
		ok(t, before.Model(&fillDoc{ID: rows[2].ID}).Updates(map[string]any{"name": "Hopper", "alias": nil}).Error)
		for _, tt := range []struct {
			all                  bool
			wrote, failed, sound int64
		}{{false, 1, 1, 6}, {true, 1, 0, 7}, {true, 0, 0, 7}} {
			report, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{All: tt.all})
			ok(t, err)
			v, err := rotation.Verify(t.Context(), after, &fillDocs{}, 0, rotation.Config{})
			ok(t, err)
			if report.Rewrapped != tt.wrote || report.Failed != 0 || v.Failed != tt.failed || v.Clean() != (tt.failed == 0) || v.Indexes != tt.sound {
				t.Errorf("all %t: %+v\n%+v", tt.all, report, v)
			}
		}
		var found []fillDocs
		ok(t, after.Where(rowseal.EqBy("Name", "lower", "HOPPER")).Find(&found).Error)
		if len(found) != 1 || found[0].ID != rows[2].ID {
			t.Errorf("%+v", found)
		}
		for name, tt := range map[string]struct {
			model any
			cfg   rotation.Config
			says  string
		}{
			"no such column": {&fillDocs{}, rotation.Config{Columns: []string{"name"}}, `has no index "name"`},
			"no index":       {&fillDocs{}, rotation.Config{Columns: []string{"encrypted_kms_key"}}, "has no index"},
		} {
			if _, err := rotation.FillIndexes(t.Context(), after, tt.model, tt.cfg); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: calls}}, Namespace: "test"})
		ok(t, err)
		_, err = rotation.FillIndexes(t.Context(), w.bare(t), &fillDocs{}, rotation.Config{Keys: keys})
		fails(t, err, rowseal.ErrNoPlugin)
		only, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{All: true, Columns: []string{"alias_first3_9bits_bidx"}})
		ok(t, err)
		if only.Seen != 3 || only.Target != "fill_docs: alias_first3_9bits_bidx" {
			t.Errorf("%+v", only)
		}
	})
}

// TestFillIndexesGoesOn: processes that are stopped at any point, writers and a row that somebody holds leave nothing out and write nothing twice.
func TestFillIndexesGoesOn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		rows := make([]fillDoc, 700)
		for i := range rows {
			rows[i] = fillDoc{Name: fmt.Sprintf("Name %d", i), Alias: new(fmt.Sprint("alias ", i))}
		}
		w, _, after, calls := fillWorld(t, kind, rows)
		var held *gorm.DB
		if !isSQLite(kind) { // which locks the whole database
			held = w.bare(t).Begin()
			defer held.Rollback()
			ok(t, held.Exec("UPDATE fill_docs SET id = id WHERE id = ?", rows[50].ID).Error)
		}
		var release sync.Once
		cfg := rotation.Config{MaxPage: 50, Lease: time.Second, Progress: func(p rotation.Progress) {
			if held != nil && p.Pending > 0 {
				release.Do(func() { ok(t, held.Commit().Error) })
			}
		}}
		var stopped int
		for at := 40; at < 400; at += 60 { // calls after which a process is stopped
			ctx, cancel := context.WithCancel(t.Context())
			var made atomic.Int64
			calls.Before = func(context.Context, kmskeytest.Call) error {
				if made.Add(1) == int64(at) {
					cancel()
				}
				return nil
			}
			_, err := rotation.FillIndexes(ctx, after, &fillDocs{}, cfg)
			if errors.Is(err, context.Canceled) {
				stopped++
			} else if err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		calls.Before = nil
		if stopped < 3 {
			t.Fatalf("%d were stopped: it has shown nothing", stopped)
		}
		var work sync.WaitGroup
		reports := make([]*rotation.Report, 3)
		for i := range reports {
			work.Go(func() {
				var err error
				one := cfg
				one.Owner = fmt.Sprint("process ", i)
				reports[i], err = rotation.FillIndexes(t.Context(), after, &fillDocs{}, one)
				ok(t, err)
			})
		}
		const changed = 30
		for i := range changed {
			ok(t, after.Model(&fillDocs{ID: rows[600+i].ID}).Update("name", fmt.Sprint("changed ", i)).Error)
		}
		work.Wait()
		v, err := rotation.Verify(t.Context(), after, &fillDocs{}, 0, rotation.Config{})
		ok(t, err)
		if v.Failed != 0 || v.Indexes != 3*int64(len(rows)) {
			t.Errorf("%+v", v)
		}
		for _, r := range reports {
			// Of three indexes of each row the exact one was there. What a writer changed it filled by itself, before or after the run came by.
			if r.Run != reports[0].Run || r.Seen != 3*int64(len(rows)) || r.Rewrapped > 2*int64(len(rows)) || r.Rewrapped < 2*int64(len(rows))-changed || r.Rewrapped+r.Current+r.Raced != r.Seen || r.Failed != 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}
