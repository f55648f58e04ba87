package integration

// index_rotation_test.go owns indexes that take the place of others: filled while programs write, and unique all the time.

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
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
	if w.kind == postgres { // pgx keeps statements whose result a new column changes
		w.plain.SetMaxIdleConns(0)
		defer w.plain.SetMaxIdleConns(10)
	}
	db, plugin := another(t, w, keys, rowseal.Config{Models: []any{rowseal.Model{Value: model, Name: "Member"}}})
	ok(t, db.AutoMigrate(model))
	ok(t, plugin.MakeIndexKeys(t.Context(), db))
	return release{name, db, reflect.TypeOf(model).Elem()}
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

// logins is how many values there are: few, so that they meet, and enough for some rows to be left alone for a phase.
const logins = 40

// busy writes the same few logins over and over, in any spelling, and counts what the unique indexes refused.
func (r release) busy(t *testing.T, ctx context.Context, random *rand.Rand, accepted, refused *atomic.Int64, times int) {
	for range times {
		if ctx.Err() != nil {
			return
		}
		login := fmt.Sprintf("user %d", random.IntN(logins))
		if random.IntN(2) == 0 {
			login = strings.ToUpper(login)
		}
		var err error
		switch random.IntN(5) {
		case 0, 1:
			err = r.db.Create(r.row(0, login)).Error
		case 2:
			err = r.db.Clauses(clause.OnConflict{DoNothing: true}).Create(r.row(0, login)).Error
		case 3:
			var ids []uint64
			if err = r.db.Model(r.pointer()).Pluck("id", &ids).Error; err == nil && len(ids) > 0 {
				err = r.db.Model(r.row(ids[random.IntN(len(ids))], "")).Update("login", login).Error
			}
		default:
			var ids []uint64
			if err = r.db.Model(r.pointer()).Pluck("id", &ids).Error; err == nil && len(ids) > 8 {
				err = r.db.Delete(r.row(ids[random.IntN(len(ids))], "")).Error
			}
		}
		switch {
		case err == nil:
			accepted.Add(1)
		case unique(err):
			refused.Add(1)
		case errors.Is(err, rowseal.ErrStaleKey), errors.Is(err, gorm.ErrRecordNotFound), lost(err):
			// another goroutine was faster, or deleted the row
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

// TestIndexRotationAcceptsNoDuplicate: a unique index gives way to one under another key, while programs of the release before and after write the same few values at once in every
// phase, and at no moment do two rows have one.
func TestIndexRotationAcceptsNoDuplicate(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind)
		one := released(t, w, "one", &memberOne{})
		both, switched, two := func() release { return released(t, w, "both", &memberBoth{}) }, func() release { return released(t, w, "switched", &memberSwitched{}) }, func() release { return released(t, w, "two", &memberTwo{}) }
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		phase := func(name string, meanwhile func(), programs ...release) {
			t.Helper()
			times := 30
			if meanwhile != nil {
				times = 6 // so that there is something left to fill
			}
			var accepted, refused atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var writers sync.WaitGroup
			for i := range 6 {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				writers.Go(func() { programs[i%len(programs)].busy(t, ctx, random, &accepted, &refused, times) })
			}
			if meanwhile != nil {
				meanwhile()
			}
			writers.Wait()
			for _, p := range programs {
				seen := map[string]uint64{}
				ids, names := p.find(t, p.db)
				for i, login := range names {
					login = strings.ToLower(login)
					if other := seen[login]; other != 0 {
						t.Errorf("%s: rows %d and %d both have the login %q", name, other, ids[i], login)
					}
					seen[login] = ids[i]
				}
				for login, id := range seen {
					if found, _ := p.find(t, p.db.Where("login", strings.ToUpper(login))); len(found) != 1 || found[0] != id {
						t.Errorf("%s: program %s finds %v by %q, want %d", name, p.name, found, login, id)
					}
				}
			}
			if accepted.Load() == 0 || refused.Load() == 0 {
				t.Errorf("%s: %d writes were accepted and %d refused: it has shown nothing", name, accepted.Load(), refused.Load())
			}
		}
		fill := func(p release) {
			t.Helper()
			report, err := rotation.FillIndexes(t.Context(), p.db, p.pointer(), rotation.Config{All: true, MaxPage: 3})
			ok(t, err)
			if report.Failed != 0 {
				t.Errorf("%+v", report)
			}
		}
		verify := func(p release) {
			t.Helper()
			v, err := rotation.Verify(t.Context(), p.db, p.pointer(), 0, rotation.Config{})
			ok(t, err)
			if !v.Clean() || v.Indexes == 0 {
				t.Errorf("%s: %+v", p.name, v)
			}
		}
		phase("before", nil, one)
		b := both()
		phase("some programs write both", nil, one, b)
		phase("all write both, and the rest is filled", func() { fill(b) }, b, both())
		verify(b)
		s := switched()
		phase("some look at the new one", nil, b, s)
		phase("all look at the new one", nil, s, switched())
		verify(s)
		ok(t, s.db.Migrator().DropIndex(s.pointer(), "idx_members_login_lower_bidx"))
		next := two()
		phase("some write the new one alone", nil, s, next)
		phase("all write the new one alone", nil, next, two())
		w.tamper(t, "ALTER TABLE members DROP COLUMN login_lower_bidx")
		next = two()
		phase("after", nil, next)
		verify(next)
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
