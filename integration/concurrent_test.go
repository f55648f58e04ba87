package integration

// concurrent_test.go owns many goroutines on one *gorm.DB, and on two with different keyrings. Under the race detector it is the test that
// nothing of one statement is seen by another.

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

const workers = 32

// side is one *gorm.DB with a keyring of its own, whose charts stand in one ward.
type side struct {
	ward   string
	db     *gorm.DB
	old    *gorm.DB // another process, which still wraps under an old version
	shared []Chart  // loaded once, under the old version; every worker has a copy of the slice
	mu     sync.Mutex
	stored map[uint64]string // what each chart must hold, by id
}

// worker is one goroutine.
type worker struct {
	*side
	number, made int
}

// sideKeys are two keyrings on the same random keys, the one a version ahead.
func sideKeys(t *testing.T) (old, current *kmskey.Keyring) {
	versions := map[int]kmskey.Version{}
	for version := 1; version <= 2; version++ {
		key := make([]byte, localkey.KeySize)
		_, _ = rand.Read(key)
		provider, err := localkey.New(key, localkey.Config{})
		ok(t, err)
		versions[version] = kmskey.Version{Provider: provider}
	}
	for i, keys := range []**kmskey.Keyring{&old, &current} {
		var err error
		*keys, err = kmskey.New(kmskey.Config{Current: i + 1, Versions: versions, Namespace: "test"})
		ok(t, err)
	}
	return old, current
}

var sideModels = []any{&Doctor{}, &Consult{}, &Label{}, &File{},
	rowseal.Model{Value: &Account{}, Context: rowseal.Columns("tenant_id")}}

func use(t testing.TB, db *gorm.DB, keys *kmskey.Keyring, models ...any) {
	t.Helper()
	plugin, err := rowseal.New(keys, rowseal.Config{Models: models})
	ok(t, err)
	ok(t, db.Use(plugin))
}

func TestConcurrent(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := manyWorkers(t, kind)
		s := newSide(t, w, "a", w.db)
		work(t, s)
		s.check(t)
		spotless(t, "the SQL log", w.log.String())
	})
}

func TestConcurrentWithTwoKeyrings(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, one := range []struct {
			name   string
			config func(first *gorm.DB) *gorm.Config
		}{
			{"schema caches of their own", func(first *gorm.DB) *gorm.Config { return &gorm.Config{Logger: first.Logger} }},
			{"one schema cache", func(first *gorm.DB) *gorm.Config {
				config := *first.Config
				config.Plugins, config.ClauseBuilders = nil, nil
				return &config
			}},
		} {
			t.Run(one.name, func(t *testing.T) {
				w := manyWorkers(t, kind)
				second, err := gorm.Open(dialector(kind, w.db.ConnPool), one.config(w.db))
				ok(t, err)
				a, b := newSide(t, w, "a", w.db), newSide(t, w, "b", second)
				work(t, a, b)
				a.check(t)
				b.check(t)
				a.cannotOpen(t, b)
				b.cannotOpen(t, a)
				spotless(t, "the SQL log", w.log.String())
			})
		}
	})
}

// manyWorkers is a database with tables and no plugin yet.
func manyWorkers(t *testing.T, kind string) *world {
	t.Helper()
	w := &world{log: &lockedBuffer{}, kind: kind, spy: &sqlspy.Recorder{}}
	w.db, w.plain = connect(t, kind, w.spy, &gorm.Config{Logger: logger.New(log.New(w.log, "", 0), logger.Config{LogLevel: logger.Info})})
	pool, err := w.db.DB()
	ok(t, err)
	pool.SetMaxOpenConns(4) // for which workers queue in order; SQLite itself, and its busy timeout, know no order
	return w
}

func newSide(t *testing.T, w *world, ward string, db *gorm.DB) *side {
	t.Helper()
	s := &side{ward: ward, db: db, stored: map[uint64]string{}}
	old, current := sideKeys(t)
	_, err := migrations.Up(t.Context(), db)
	ok(t, err)
	// Sides are strangers at one table: each has an index key of its own, which goes by the model's name.
	models := append(slices.Clone(sideModels), rowseal.Model{Value: &Chart{}, Name: "Chart of " + ward})
	use(t, db, current, models...)
	s.old, err = gorm.Open(dialector(w.kind, w.db.ConnPool), &gorm.Config{Logger: w.db.Logger})
	ok(t, err)
	use(t, s.old, old, models...)
	for _, m := range append(models, &LogEntry{}) {
		if named, ok := m.(rowseal.Model); ok {
			m = named.Value
		}
		ok(t, db.AutoMigrate(m))
	}
	first := &worker{side: s, number: -1}
	for range 4 {
		ok(t, first.create(s.old, first.chart()))
	}
	ok(t, s.db.Where("ward = ?", ward).Order("id").Find(&s.shared).Error)
	return s
}

// work lets the workers take the steps, each beginning with another: all of them on one side, and its part on one of several.
func work(t *testing.T, sides ...*side) {
	t.Helper()
	var wg sync.WaitGroup
	for _, s := range sides {
		for n := range workers / len(sides) {
			wg.Go(func() {
				w := &worker{side: s, number: n}
				for i := 0; i < len(steps); i += len(sides) {
					step := steps[(i+n)%len(steps)]
					if err := w.again(step.run); err != nil {
						t.Errorf("%s, worker %d, %s: %v", s.ward, n, step.name, err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// again takes a step anew that the database broke off: of two transactions that wait for each other, MariaDB ends one.
func (w *worker) again(step func(*worker) error) error {
	for range 20 {
		err := step(w)
		if broken := new(mysql.MySQLError); !errors.As(err, &broken) || broken.Number != 1213 {
			return err
		}
	}
	return errors.New("deadlocks")
}

// check reads every chart of the side, and whatever else is open to it.
func (s *side) check(t *testing.T) {
	t.Helper()
	var charts []Chart
	ok(t, s.db.Where("ward = ?", s.ward).Preload("Doctor").Preload("Consults").Preload("Labels").Preload("Files").Find(&charts).Error)
	if len(charts) != len(s.stored) {
		t.Errorf("%s: %d charts, want %d", s.ward, len(charts), len(s.stored))
	}
	for _, c := range charts {
		if err := intact(c, s.stored[c.ID]); err != nil {
			t.Errorf("%s: %v", s.ward, err)
		}
	}
}

// cannotOpen tries the other side's rows.
func (s *side) cannotOpen(t *testing.T, other *side) {
	t.Helper()
	for id := range other.stored {
		var c Chart
		if err := s.db.Take(&c, id).Error; err == nil || c.Name != "" || c.Phone != "" || c.Score != 0 {
			t.Errorf("%s opened chart %d of %s: %v", s.ward, id, other.ward, err)
		}
		if notes, err := c.Notes.Get(context.Background()); err == nil || notes != "" {
			t.Errorf("%s opened the notes of chart %d of %s", s.ward, id, other.ward)
		}
	}
}

// intact compares every sealed field of a chart with the words of one kind.
func intact(c Chart, kind string) error {
	want := chart(kind)
	notes, err := c.Notes.Get(context.Background())
	if err != nil {
		return err
	}
	got := []any{c.Name, string(c.Scan), *c.Nick, c.Profile, c.Score, notes, c.Phone}
	wanted := []any{want.Name, string(want.Scan), *want.Nick, want.Profile, want.Score, word(kind, "notes"), want.Phone}
	if !slices.Equal(got, wanted) {
		return fmt.Errorf("chart %d holds\n%q, want\n%q", c.ID, got, wanted)
	}
	if c.Doctor != nil && c.Doctor.Name != word(kind, "name") {
		return fmt.Errorf("the doctor of chart %d is %q", c.ID, c.Doctor.Name)
	}
	for _, v := range c.Consults {
		if v.Reason != word(kind, "name") {
			return fmt.Errorf("a consult of chart %d has %q", c.ID, v.Reason)
		}
	}
	return nil
}

// chart is a new one with words of its own, which end in its code.
func (w *worker) chart() *Chart {
	w.made++
	code := fmt.Sprintf("%s-%d-%d", w.ward, w.number, w.made)
	c := chart(code)
	c.Ward, c.Code = w.ward, code
	return &c
}

// note remembers what is stored now.
func (w *worker) note(c *Chart, kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if kind == "" {
		delete(w.stored, c.ID)
		return
	}
	w.stored[c.ID] = kind
}

func (w *worker) create(db *gorm.DB, c *Chart) error {
	err := db.Create(c).Error
	if err == nil {
		w.note(c, c.Code)
	}
	return err
}

// put is a chart that was just created.
func (w *worker) put() (*Chart, error) {
	c := w.chart()
	return c, w.create(w.db, c)
}

// fill gives a chart new words.
func fill(c *Chart, kind string) {
	n := chart(kind)
	c.Name, c.Scan, c.Nick, c.Profile, c.Score, c.Notes, c.Phone = n.Name, n.Scan, n.Nick, n.Profile, n.Score, n.Notes, n.Phone
}

// refusedAs is an error unless the plugin refused.
func refusedAs(err error, kinds ...error) error {
	if slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
		return nil
	}
	return fmt.Errorf("not refused as it should be: %v", err)
}

var errRollback = errors.New("rolled back")

var steps = []struct {
	name string
	run  func(w *worker) error
}{
	{"create", func(w *worker) error { _, err := w.put(); return err }},
	{"create with associations", func(w *worker) error {
		c := w.chart()
		secret := word(c.Code, "name")
		c.Doctor, c.Consults = &Doctor{Name: secret}, []Consult{{Reason: secret}, {Reason: secret}}
		c.Labels, c.Files = []Label{{Title: secret}}, []File{{Body: secret}}
		return w.create(w.db, c)
	}},
	{"batch create", func(w *worker) error {
		batch := []*Chart{w.chart(), w.chart(), w.chart()}
		if err := w.db.CreateInBatches(&batch, 2).Error; err != nil {
			return err
		}
		for _, c := range batch {
			w.note(c, c.Code)
		}
		return nil
	}},
	{"upsert", func(w *worker) error {
		c, err := w.put()
		if err != nil {
			return err
		}
		kind := c.Code + "-upserted"
		n := chart(kind)
		n.ID, n.Ward, n.Code = c.ID, c.Ward, c.Code
		if err = w.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&n).Error; err == nil {
			w.note(c, kind)
		}
		return err
	}},
	{"upsert by a unique column", func(w *worker) error {
		c, err := w.put()
		if err != nil {
			return err
		}
		kind := c.Code + "-upserted"
		n := chart(kind)
		n.Ward, n.Code = c.Ward, c.Code
		if err = w.db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, UpdateAll: true}).Create(&n).Error; err == nil {
			w.note(c, kind)
		}
		return err
	}},
	{"update of many rows", func(w *worker) error {
		batch := []*Chart{w.chart(), w.chart(), w.chart()}
		if err := w.db.Create(&batch).Error; err != nil {
			return err
		}
		kind := batch[0].Code + "-many"
		n, ids := chart(kind), []uint64{batch[0].ID, batch[1].ID, batch[2].ID}
		tx := w.db.Model(&Chart{}).Where("id IN ?", ids).Updates(map[string]any{"name": n.Name, "scan": n.Scan, "Nick": n.Nick, "profile": n.Profile, "Score": n.Score, "notes": n.Notes, "phone": n.Phone})
		if tx.Error == nil && tx.RowsAffected != 3 {
			return fmt.Errorf("%d rows updated", tx.RowsAffected)
		}
		for _, c := range batch {
			w.note(c, kind)
		}
		return tx.Error
	}},
	{"create from a map", func(w *worker) error {
		c := w.chart()
		m := map[string]any{"ward": c.Ward, "code": c.Code, "name": c.Name, "scan": c.Scan, "Nick": c.Nick, "profile": c.Profile, "Score": c.Score, "notes": c.Notes, "phone": c.Phone}
		err := w.db.Model(&Chart{}).Create(m).Error
		if err == nil {
			c.ID, _ = m["id"].(uint64)
			w.note(c, c.Code)
		}
		return err
	}},
	{"update one field, and the others by a map", func(w *worker) error {
		c, err := w.put()
		if err != nil {
			return err
		}
		kind := c.Code + "-updated"
		n := chart(kind)
		if err := w.db.Model(c).Update("name", n.Name).Error; err != nil {
			return err
		}
		err = w.db.Model(&Chart{ID: c.ID}).Updates(map[string]any{"scan": n.Scan, "Nick": n.Nick, "profile": n.Profile, "Score": n.Score, "notes": n.Notes, "phone": n.Phone}).Error
		if err == nil {
			w.note(c, kind)
		}
		return err
	}},
	{"save", func(w *worker) error {
		c, err := w.put()
		if err != nil {
			return err
		}
		var got Chart
		if err := w.db.First(&got, c.ID).Error; err != nil {
			return err
		}
		kind := c.Code + "-saved"
		fill(&got, kind)
		if err = w.db.Save(&got).Error; err == nil {
			w.note(&got, kind)
		}
		return err
	}},
	{"read in batches", func(w *worker) error {
		var some []Chart
		seen := 0
		err := w.db.Where("ward = ?", w.ward).Where("id <= ?", w.shared[len(w.shared)-1].ID).FindInBatches(&some, 3, func(*gorm.DB, int) error {
			for _, c := range some {
				seen++
				if err := intact(c, c.Code); err != nil {
					return err
				}
			}
			return nil
		}).Error
		if err == nil && seen != len(w.shared) {
			return fmt.Errorf("%d charts", seen)
		}
		return err
	}},
	{"preload and join", func(w *worker) error {
		c := w.chart()
		secret := word(c.Code, "name")
		c.Doctor, c.Consults = &Doctor{Name: secret}, []Consult{{Reason: secret}}
		if err := w.create(w.db, c); err != nil {
			return err
		}
		var preloaded, joined Chart
		if err := w.db.Preload("Doctor").Preload("Consults").Take(&preloaded, c.ID).Error; err != nil {
			return err
		}
		if err := w.db.Joins("Doctor").Take(&joined, c.ID).Error; err != nil {
			return err
		}
		if preloaded.Doctor == nil || joined.Doctor == nil || len(preloaded.Consults) != 1 {
			return errors.New("something was not loaded")
		}
		return errors.Join(intact(preloaded, c.Code), intact(joined, c.Code))
	}},
	{"get the Secrets of shared rows", func(w *worker) error {
		for _, c := range slices.Clone(w.shared) {
			if err := intact(c, c.Code); err != nil {
				return err
			}
		}
		return nil
	}},
	{"read sealed and open later", func(w *worker) error {
		var some []Chart
		if err := rowseal.Sealed(w.db).Where("ward = ?", w.ward).Order("id").Limit(len(w.shared)).Find(&some).Error; err != nil {
			return err
		}
		if some[0].Name != "" {
			return errors.New("opened under Sealed")
		}
		if err := rowseal.Open(context.Background(), w.db, some); err != nil {
			return err
		}
		for _, c := range some {
			if err := intact(c, c.Code); err != nil {
				return err
			}
		}
		return nil
	}},
	{"rotate", func(w *worker) error {
		c := w.chart()
		if err := w.create(w.old, c); err != nil {
			return err
		}
		if err := rowseal.Rotate(context.Background(), w.db, c); err != nil {
			return err
		}
		// All workers rotate these, and one of them wins.
		for i := range w.shared {
			if err := rowseal.Rotate(context.Background(), w.db, &Chart{ID: w.shared[i].ID}); err != nil {
				return err
			}
		}
		return intact(*c, c.Code)
	}},
	{"refused", func(w *worker) error {
		var all []Chart
		secret := word("new", "name")
		return errors.Join(
			refusedAs(w.db.Where("name = ?", secret).Find(&all).Error, rowseal.ErrCondition),
			refusedAs(w.db.Model(&LogEntry{}).Where("chart_id IN (?)", w.db.Model(&Chart{}).Select("id").Where("phone = ?", secret)).Find(&[]LogEntry{}).Error, rowseal.ErrCondition),
			refusedAs(w.db.Model(&Chart{}).Update("name", secret).Error, gorm.ErrMissingWhereClause),
			refusedAs(w.db.Table("charts").Where("ward = ?", w.ward).Update("name", secret).Error, rowseal.ErrPlaintext),
			refusedAs(w.db.Exec("UPDATE charts SET name = ? WHERE ward = ?", secret, w.ward).Error, rowseal.ErrPlaintext),
			refusedAs(w.db.Model(&Chart{}).Create(map[string]any{"encrypted_kms_key": secret}).Error, rowseal.ErrKeyColumn),
			refusedAs(w.db.Model(&Chart{}).Distinct("name").Find(&all).Error, rowseal.ErrUnsupported, rowseal.ErrCondition),
		)
	}},
	{"another model", func(w *worker) error {
		e := LogEntry{ChartID: w.shared[0].ID, Ward: w.ward, Name: "entry"}
		if err := w.db.Create(&e).Error; err != nil {
			return err
		}
		var found []LogEntry
		charts := w.db.Model(&Chart{}).Select("id").Where("ward = ?", w.ward)
		if err := w.db.Where("name = ?", "entry").Where("chart_id IN (?)", charts).Find(&found, e.ID).Error; err != nil {
			return err
		}
		if len(found) != 1 || found[0].Name != "entry" {
			return fmt.Errorf("found %+v", found)
		}
		return errors.Join(
			w.db.Model(&e).Update("name", "other").Error,
			w.db.Exec("UPDATE log_entries SET name = ? WHERE id = ?", "third", e.ID).Error,
			w.db.Delete(&e).Error)
	}},
	{"transactions", func(w *worker) error {
		var kept *Chart
		err := w.db.Transaction(func(tx *gorm.DB) error {
			kept = w.chart()
			if err := tx.Create(kept).Error; err != nil {
				return err
			}
			err := tx.Transaction(func(inner *gorm.DB) error {
				if err := inner.Model(kept).Update("name", "Canary undone").Error; err != nil {
					return err
				}
				if err := inner.Create(w.chart()).Error; err != nil {
					return err
				}
				return errRollback
			})
			if !errors.Is(err, errRollback) {
				return err
			}
			var got Chart
			if err := tx.Take(&got, kept.ID).Error; err != nil {
				return err
			}
			return intact(got, kept.Code)
		})
		if err == nil {
			w.note(kept, kept.Code)
		}
		return err
	}},
	{"prepared statements", func(w *worker) error {
		db := w.db.Session(&gorm.Session{PrepareStmt: true})
		c := w.chart()
		if err := w.create(db, c); err != nil {
			return err
		}
		kind := c.Code + "-prepared"
		n := chart(kind)
		err := db.Model(c).Select("name", "scan", "nick", "profile", "score", "notes", "phone").Updates(n).Error
		if err != nil {
			return err
		}
		w.note(c, kind)
		var got Chart
		if err := db.Take(&got, c.ID).Error; err != nil {
			return err
		}
		return errors.Join(intact(got, kind), refusedAs(db.Where("phone = ?", "x").Take(&Chart{}).Error, rowseal.ErrCondition))
	}},
	{"rows one at a time", func(w *worker) error {
		rows, err := w.db.Model(&Chart{}).Select("code", "phone").Where("ward = ?", w.ward).Order("id").Limit(len(w.shared)).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var code, phone string
			if err := rows.Scan(&code, &phone); err != nil {
				return err
			}
			if phone != word(code, "phone") {
				return fmt.Errorf("chart %s has another phone", code)
			}
		}
		return rows.Err()
	}},
	{"other types", func(w *worker) error {
		var dtos []struct{ Code, Name string }
		var maps []map[string]any
		var names []string
		mine := func() *gorm.DB {
			return w.db.Model(&Chart{}).Where("ward = ?", w.ward).Order("id").Limit(len(w.shared))
		}
		err := errors.Join(mine().Find(&dtos).Error, mine().Select("code", "name").Find(&maps).Error, mine().Pluck("name", &names).Error)
		if err != nil {
			return err
		}
		for i := range w.shared {
			if want := word(dtos[i].Code, "name"); dtos[i].Name != want || maps[i]["name"] != want || names[i] != want {
				return fmt.Errorf("chart %s has another name", dtos[i].Code)
			}
		}
		return nil
	}},
	{"delete", func(w *worker) error {
		c, err := w.put()
		if err != nil {
			return err
		}
		if err = w.db.Delete(c).Error; err == nil {
			w.note(c, "")
		}
		return err
	}},
	{"a context of columns", func(w *worker) error {
		a := Account{TenantID: uint64(w.number + 2), Name: word("new", "name")}
		if err := w.db.Create(&a).Error; err != nil {
			return err
		}
		a.TenantID += 1000
		if err := w.db.Save(&a).Error; err != nil {
			return err
		}
		var got Account
		if err := w.db.Take(&got, a.ID).Error; err != nil {
			return err
		}
		if got.Name != word("new", "name") || !strings.HasPrefix(got.Name, "Canary") {
			return fmt.Errorf("opened as %q", got.Name)
		}
		return nil
	}},
}

// GORM lets a *gorm.Config be used twice, and then both have the callbacks of the second.
func TestConfigThatIsUsedTwice(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		c.seed(t)
		before := c.everything(t)
		if _, err := gorm.Open(dialector(kind, c.db.ConnPool), c.db.Config); err == nil || !strings.Contains(err.Error(), "make one for each") {
			t.Errorf("opened a second time: %v", err)
		}
		fails(t, c.db.Exec("UPDATE charts SET name = ?", name).Error, rowseal.ErrPlaintext)
		fails(t, c.db.Where("name = ?", name).Find(&[]Chart{}).Error, rowseal.ErrCondition)
		fails(t, c.db.Table("charts").Where("id = ?", 1).Update("name", name).Error, rowseal.ErrPlaintext)
		if after := c.everything(t); after != before {
			t.Errorf("the tables changed:\n%s", difference(before, after))
		}
		c.reread(t, "")
		_ = c.db.Create(renewed()).Error
		spotless(t, "the tables", c.everything(t))
	})
}
