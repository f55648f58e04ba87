package integration

// others_test.go owns what an application's other models see of the plugin: nothing in their SQL, and next to nothing in their time.

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	sqlitedriver "github.com/glebarez/go-sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
)

type Author struct {
	ID    uint64
	Name  string
	Books []Book
}

type Book struct {
	ID        uint64
	Title     string
	Pages     int
	AuthorID  *uint64
	Author    *Author
	UpdatedAt time.Time
	DeletedAt gorm.DeletedAt
}

// sealedModels are the models that the plugin knows while it meets others. Charts have indexes, so that conditions of all models are looked through for them.
var sealedModels = []any{&Doctor{}, &Chart{}, &Consult{}, &Label{}, &File{}, &Hooked{}, &Visit{}}

func books(n int) []Book {
	author := uint64(1)
	out := make([]Book, n)
	for i := range out {
		out[i] = Book{Title: "A title of some length", Pages: i, AuthorID: &author}
	}
	return out
}

// otherStatements are those that are measured.
var otherStatements = []struct {
	name string
	run  func(db *gorm.DB) error
}{
	{"create 1", func(db *gorm.DB) error { return db.Create(&books(1)[0]).Error }},
	{"create 100", func(db *gorm.DB) error { b := books(100); return db.Create(&b).Error }},
	{"take 1", func(db *gorm.DB) error { return db.Take(&Book{}, 7).Error }},
	{"find 100", func(db *gorm.DB) error { return db.Where("id <= ?", 100).Find(&[]Book{}).Error }},
	{"update", func(db *gorm.DB) error { return db.Model(&Book{ID: 7}).Update("title", "another").Error }},
	{"save", func(db *gorm.DB) error { b := books(1)[0]; b.ID = 8; return db.Save(&b).Error }},
	{"delete", func(db *gorm.DB) error { return db.Delete(&Book{}, 1<<40).Error }},
	{"count", func(db *gorm.DB) error { var n int64; return db.Model(&Book{}).Where("id = ?", 7).Count(&n).Error }},
	{"raw", func(db *gorm.DB) error {
		var title string
		return db.Raw("SELECT title FROM books WHERE id = ?", 7).Scan(&title).Error
	}},
	{"exec", func(db *gorm.DB) error { return db.Exec("UPDATE books SET pages = ? WHERE id = ?", 3, 7).Error }},
	{"joins", func(db *gorm.DB) error { return db.Joins("Author").Where("books.id = ?", 7).Find(&[]Book{}).Error }},
	{"preload", func(db *gorm.DB) error { return db.Preload("Author").Where("id = ?", 7).Find(&[]Book{}).Error }},
}

// moreOtherStatements give what they read, too.
var moreOtherStatements = []struct {
	name string
	run  func(db *gorm.DB) (any, error)
}{
	{"create in batches", func(db *gorm.DB) (any, error) { b := books(5); return b, db.CreateInBatches(&b, 2).Error }},
	{"create with associations", func(db *gorm.DB) (any, error) {
		a := Author{Name: "b", Books: books(2)}
		return &a, db.Create(&a).Error
	}},
	{"create from a map", func(db *gorm.DB) (any, error) {
		return nil, db.Model(&Book{}).Create([]map[string]any{{"Title": "m"}, {"Title": "n"}}).Error
	}},
	{"create some columns", func(db *gorm.DB) (any, error) {
		b := books(1)[0]
		return &b, db.Select("Title").Omit("Pages").Create(&b).Error
	}},
	{"upsert", func(db *gorm.DB) (any, error) {
		b := books(1)[0]
		b.ID = 9
		return &b, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&b).Error
	}},
	{"upsert of one column", func(db *gorm.DB) (any, error) {
		b := books(1)[0]
		b.ID = 9
		return &b, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"title"})}).Create(&b).Error
	}},
	{"insert what is not there", func(db *gorm.DB) (any, error) {
		b := books(1)[0]
		b.ID = 9
		return &b, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&b).Error
	}},
	{"a key that is taken", func(db *gorm.DB) (any, error) { return nil, db.Create(&Author{ID: 1}).Error }},
	{"first or create", func(db *gorm.DB) (any, error) {
		var a Author
		return &a, db.Where(Author{Name: "c"}).Attrs(Author{Name: "c"}).FirstOrCreate(&a).Error
	}},
	{"find or assign", func(db *gorm.DB) (any, error) {
		var b Book
		return &b, db.Where("id = ?", 9).Assign(Book{Pages: 4}).FirstOrCreate(&b).Error
	}},
	{"first", func(db *gorm.DB) (any, error) { var b Book; return &b, db.First(&b).Error }},
	{"last", func(db *gorm.DB) (any, error) { var b Book; return &b, db.Order("pages").Last(&b).Error }},
	{"none", func(db *gorm.DB) (any, error) { var b Book; return &b, db.First(&b, 1<<40).Error }},
	{"conditions", func(db *gorm.DB) (any, error) {
		var all []Book
		return &all, db.Where(&Book{Pages: 3}).Or("title LIKE ? AND id IN ?", "%x%", []int{1, 2}).Not(map[string]any{"pages": 7}).Order("id DESC").Limit(3).Offset(1).Find(&all).Error
	}},
	{"sub-queries", func(db *gorm.DB) (any, error) {
		var all []Book
		authors := db.Model(&Author{}).Select("id").Where("name = ?", "a")
		return &all, db.Where("author_id IN (?)", authors).Where("id > (?)", db.Model(&Book{}).Select("MIN(id)")).Order("id").Find(&all).Error
	}},
	{"from a sub-query", func(db *gorm.DB) (any, error) {
		var n []int
		return &n, db.Table("(?) AS u", db.Model(&Book{}).Select("pages").Where("id < ?", 5)).Order("pages").Pluck("pages", &n).Error
	}},
	{"a sub-query on a sealed model's table", func(db *gorm.DB) (any, error) {
		var all []Book
		return &all, db.Where("id IN (?)", db.Table("charts").Select("doctor_id").Where("ward = ?", "w")).Find(&all).Error
	}},
	{"a join with a sealed model's table", func(db *gorm.DB) (any, error) {
		var all []Book
		return &all, db.Select("books.*").Joins("LEFT JOIN charts ON charts.id = books.id AND charts.ward = ?", "w").Where("books.id < ?", 4).Order("books.id").Find(&all).Error
	}},
	{"a table's name in a string", func(db *gorm.DB) (any, error) {
		var n int64
		return &n, db.Model(&Book{}).Where("title = 'charts' OR title <> ?", "name").Count(&n).Error
	}},
	{"group", func(db *gorm.DB) (any, error) {
		var got []map[string]any
		return &got, db.Model(&Book{}).Select("pages, COUNT(*) AS n").Group("pages").Having("COUNT(*) > ?", 0).Order("pages").Find(&got).Error
	}},
	{"distinct", func(db *gorm.DB) (any, error) {
		var titles []string
		return &titles, db.Model(&Book{}).Distinct("title").Order("title").Pluck("title", &titles).Error
	}},
	{"scan elsewhere", func(db *gorm.DB) (any, error) {
		var got []struct{ Title, Name string }
		return &got, db.Model(&Book{}).Select("books.title, authors.name").Joins("JOIN authors ON authors.id = books.author_id").Order("books.id").Scan(&got).Error
	}},
	{"joins", func(db *gorm.DB) (any, error) {
		var all []Book
		return &all, db.InnerJoins("Author", db.Where(&Author{Name: "a"})).Order("books.id").Find(&all).Error
	}},
	{"preload", func(db *gorm.DB) (any, error) {
		var all []Author
		return &all, db.Preload("Books", "pages > ?", 1).Preload("Books.Author").Order("id").Find(&all).Error
	}},
	{"association", func(db *gorm.DB) (any, error) {
		a := Author{ID: 1}
		var got []Book
		books := db.Model(&a).Association("Books")
		err := errors.Join(books.Append(&Book{Title: "more"}), books.Replace(&Book{ID: 2}), books.Delete(&Book{ID: 2}), books.Find(&got), books.Clear())
		return []any{got, books.Count()}, err
	}},
	{"updates", func(db *gorm.DB) (any, error) {
		b := Book{ID: 3}
		return &b, errors.Join(
			db.Model(&b).Updates(Book{Title: "u", Pages: 5}).Error,
			db.Model(&b).Updates(map[string]any{"title": "v", "pages": gorm.Expr("pages + ?", 1)}).Error,
			db.Model(&b).UpdateColumn("pages", 9).Error,
			db.Model(&Book{}).Where("id > ?", 3).Update("pages", 1).Error,
			db.Table("books").Where("id = ?", 4).Update("title", "w").Error,
			db.Model(&b).Select("*").Omit("AuthorID").Updates(Book{ID: 3, Title: "x"}).Error)
	}},
	{"update without a condition", func(db *gorm.DB) (any, error) { return nil, db.Model(&Book{}).Update("pages", 1).Error }},
	{"save", func(db *gorm.DB) (any, error) {
		all := books(2)
		all[0].ID = 3
		return &all, db.Save(&all).Error
	}},
	{"save what is not there", func(db *gorm.DB) (any, error) {
		b := books(1)[0]
		b.ID = 5000
		return &b, db.Save(&b).Error
	}},
	{"delete", func(db *gorm.DB) (any, error) {
		return nil, errors.Join(db.Delete(&Book{ID: 5}).Error, db.Where("id IN ?", []int{6, 7}).Delete(&Book{}).Error, db.Unscoped().Delete(&Book{}, 8).Error)
	}},
	{"rows", func(db *gorm.DB) (any, error) {
		rows, err := db.Model(&Book{}).Order("id").Rows()
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		var all []Book
		for rows.Next() {
			var b Book
			if err := db.ScanRows(rows, &b); err != nil {
				return nil, err
			}
			all = append(all, b)
		}
		return all, rows.Err()
	}},
	{"row", func(db *gorm.DB) (any, error) {
		var n int
		err := db.Raw("SELECT COUNT(*) FROM books WHERE id < ?", 5).Row().Scan(&n)
		return n, err
	}},
	{"find in batches", func(db *gorm.DB) (any, error) {
		var some, all []Book
		err := db.Where("id < ?", 9).FindInBatches(&some, 3, func(*gorm.DB, int) error { all = append(all, some...); return nil }).Error
		return all, err
	}},
	{"raw", func(db *gorm.DB) (any, error) {
		var all []Book
		return &all, db.Raw("SELECT * FROM books WHERE title = @title ORDER BY id", sql.Named("title", "w")).Scan(&all).Error
	}},
	{"an error of the database", func(db *gorm.DB) (any, error) { return nil, db.Exec("UPDATE books SET none = 1").Error }},
	{"transactions", func(db *gorm.DB) (any, error) {
		return nil, db.Transaction(func(tx *gorm.DB) error {
			inner := tx.Transaction(func(tx *gorm.DB) error {
				return errors.Join(tx.Model(&Book{ID: 3}).Update("title", "inner").Error, errRollback)
			})
			if !errors.Is(inner, errRollback) {
				return inner
			}
			return tx.Create(&Author{Name: "in a transaction"}).Error
		})
	}},
	{"sessions", func(db *gorm.DB) (any, error) {
		var b Book
		db = db.Session(&gorm.Session{PrepareStmt: true, SkipDefaultTransaction: true, QueryFields: true})
		return &b, errors.Join(db.Take(&b, 3).Error, db.Model(&b).Update("title", "prepared").Error, db.Take(&b).Error)
	}},
	{"a dry run", func(db *gorm.DB) (any, error) {
		tx := db.Session(&gorm.Session{DryRun: true}).Where("title = ?", "x").Find(&[]Book{})
		return tx.Statement.SQL.String(), tx.Error
	}},
	{"a reused statement", func(db *gorm.DB) (any, error) {
		var n int64
		var all []Book
		tx := db.Model(&Book{}).Where("id < ?", 9)
		return &all, errors.Join(tx.Count(&n).Error, tx.Order("id").Find(&all).Error)
	}},
	{"locking, hints and scopes", func(db *gorm.DB) (any, error) {
		var b Book
		return &b, db.Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("id = ?", 3) }).Clauses(clause.Locking{Strength: "UPDATE"}).Find(&b).Error
	}},
}

// raceDetector is set where the tests run under it.
var raceDetector bool

// savepoint is a name that GORM draws anew each time.
var savepoint = regexp.MustCompile(`sp\d+`)

// TestOtherModelsSeeNothing runs the same statements with the plugin and without, each on a database of its own: what reaches the driver, what
// is read, and what fails is the same.
func TestOtherModelsSeeNothing(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
		at := func() time.Time { return noon }
		var plain, with *gorm.DB
		var spies [2]*sqlspy.Recorder
		for i, db := range []**gorm.DB{&plain, &with} {
			spies[i] = &sqlspy.Recorder{}
			*db, _ = connect(t, kind, spies[i], &gorm.Config{Logger: logger.Discard, NowFunc: at})
			pool, err := (*db).DB()
			ok(t, err)
			pool.SetMaxOpenConns(1) // statements are prepared once
			ok(t, (*db).AutoMigrate(&Author{}, &Book{}))
			ok(t, (*db).Exec("CREATE TABLE charts (id INTEGER, doctor_id INTEGER, ward VARCHAR(9), name VARCHAR(9))").Error)
			ok(t, (*db).Create(&Author{Name: "a", Books: books(20)}).Error)
		}
		use(t, with, insecure(t), sealedModels...)
		seenAll := 0
		compare := func(name string, run func(db *gorm.DB) (any, error)) {
			t.Run(name, func(t *testing.T) {
				var seen [2]string
				for i, db := range []*gorm.DB{plain, with} {
					spies[i].Reset()
					got, err := run(db)
					shown, _ := json.MarshalIndent(got, "", " ")
					var b strings.Builder
					for _, e := range spies[i].Events() {
						fmt.Fprintln(&b, e.Kind, savepoint.ReplaceAllString(e.SQL, "savepoint"))
						for _, arg := range e.Args {
							if v := reflect.ValueOf(arg); v.IsValid() {
								fmt.Fprintln(&b, reflect.Indirect(v))
							}
						}
					}
					seenAll += len(spies[i].Events())
					seen[i] = fmt.Sprintf("%s%s\nerror %v", &b, shown, err)
				}
				if seen[0] != seen[1] {
					t.Errorf("without the plugin\n%s\nwith it\n%s", seen[0], seen[1])
				}
			})
		}
		for _, s := range otherStatements {
			compare(s.name, func(db *gorm.DB) (any, error) { return nil, s.run(db) })
		}
		for _, s := range moreOtherStatements {
			compare(s.name, s.run)
		}
		if seenAll < 300 {
			t.Errorf("%d events", seenAll)
		}
	})
}

// TestOtherModelsAllocateNothingMore but for texts of the application's own, the look that reads them, and for others one object for several statements.
func TestOtherModelsAllocateNothingMore(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector a sync.Pool loses what is put back, by chance: GORM's allocations are different each time")
	}
	plain, _, with := threeOn(t, sqliteGo)
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty pools that both fill again
	more := func(t *testing.T, run func(*gorm.DB) error) float64 {
		least := math.Inf(1)
		for range 3 { // the driver has better and worse days, too
			allocs, _ := memory(t, run, plain)
			withPlugin, _ := memory(t, run, with)
			least = min(least, withPlugin-allocs)
		}
		return least
	}
	for _, s := range otherStatements {
		t.Run(s.name, func(t *testing.T) {
			looks := 0.0
			if s.name == "raw" || s.name == "exec" {
				looks = 1
			}
			if n := more(t, s.run); n > looks {
				t.Errorf("%v more allocations", n)
			}
		})
	}
	for _, rows := range []int{1, 200} {
		t.Run(fmt.Sprint(rows, " rows"), func(t *testing.T) {
			for name, run := range map[string]func(db *gorm.DB) error{
				"create":  func(db *gorm.DB) error { b := books(rows); return db.Create(&b).Error },
				"find":    func(db *gorm.DB) error { return db.Limit(rows).Find(&[]Book{}).Error },
				"preload": func(db *gorm.DB) error { return db.Preload("Author").Limit(rows).Find(&[]Book{}).Error },
				"joins":   func(db *gorm.DB) error { return db.Joins("Author").Limit(rows).Find(&[]Book{}).Error },
				"update":  func(db *gorm.DB) error { return db.Model(&Book{}).Where("id <= ?", rows).Update("pages", 1).Error },
			} {
				if n := more(t, run); n > 0 {
					t.Errorf("%s: %v more allocations", name, n)
				}
			}
		})
	}
}

// A dry run is looked at also where another callback put its own connection in place of the plugin's.
func TestADryRunIsLookedAtOnAnyConnection(t *testing.T) {
	c := openClosed(t, sqliteGo)
	swap := c.withIntruder(func(db *gorm.DB) { db.Statement.ConnPool = c.db.ConnPool }).Session(&gorm.Session{DryRun: true})
	tx := swap.Where("id IN (SELECT chart_id FROM charts WHERE name = ?)", name).Find(&[]LogEntry{})
	fails(t, tx.Error, rowseal.ErrCondition)
	spotless(t, "a dry run", tx.Dialector.Explain(tx.Statement.SQL.String(), tx.Statement.Vars...))
}

// BenchmarkOtherModels holds statements on models without sealed fields against plain GORM, on one database in one process. The two take
// turns of a fraction of a millisecond, and what counts is the ratio of their CPU times in the same turn, as its median and quartiles. A/A is
// plain GORM against itself: what noise makes of nothing. The garbage collector works between the rounds, not within one, where it would
// fall to one or the other; what it will cost more is told by the bytes.
func BenchmarkOtherModels(b *testing.B) {
	const part, turns = 300 * time.Microsecond, 20
	for _, kind := range []string{sqliteGo, postgres} {
		b.Run(kind, func(b *testing.B) {
			plain, again, with := threeOn(b, kind)
			variants := []*gorm.DB{plain, again, with}
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			for _, s := range otherStatements {
				b.Run(s.name, func(b *testing.B) {
					cpu := func(db *gorm.DB, n int) float64 {
						start := cpuTime()
						for range n {
							ok(b, s.run(db))
						}
						return float64(cpuTime()-start) / float64(n)
					}
					allocs, bytes := memory(b, s.run, plain)
					moreAllocs, moreBytes := memory(b, s.run, with)
					n := max(1, int(float64(part)/cpu(again, 100)))
					var base, control, ratios []float64
					for b.Loop() {
						runtime.GC()
						for turn := range turns {
							var took [3]float64
							for i := range variants {
								i = (i + turn) % len(variants)
								took[i] = cpu(variants[i], n)
							}
							base = append(base, took[0]/1000)
							control = append(control, took[1]/took[0])
							ratios = append(ratios, 2*took[2]/(took[0]+took[1]))
						}
						ok(b, plain.Unscoped().Delete(&Book{}, "id > 1000").Error)
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(quantile(base, 0.5), "plain-µs")
					b.ReportMetric(quantile(control, 0.5), "A/A")
					b.ReportMetric(quantile(ratios, 0.5), "cpu-ratio")
					b.ReportMetric(quantile(ratios, 0.25), "cpu-ratio-p25")
					b.ReportMetric(quantile(ratios, 0.75), "cpu-ratio-p75")
					b.ReportMetric(moreAllocs-allocs, "more-allocs")
					b.ReportMetric(moreBytes-bytes, "more-B")
				})
			}
		})
	}
}

// threeOn opens one database three times: twice with plain GORM, and with the plugin.
func threeOn(t testing.TB, kind string) (plain, again, with *gorm.DB) {
	t.Helper()
	var pool *sql.DB
	if kind == sqliteGo {
		pool = sql.OpenDB(dsnConnector{":memory:", &sqlitedriver.Driver{}})
	} else {
		config, err := pgx.ParseConfig(pgtest.DSN(t))
		ok(t, err)
		pool = stdlib.OpenDB(*config)
	}
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = pool.Close() })
	plain, again, with = silent(t, kind, pool), silent(t, kind, pool), silent(t, kind, pool)
	use(t, with, insecure(t), sealedModels...)
	ok(t, plain.AutoMigrate(&Author{}, &Book{}))
	ok(t, plain.Create(&Author{Name: "a"}).Error)
	some := books(1000)
	ok(t, plain.Create(&some).Error)
	return plain, again, with
}

// silent opens GORM without a log.
func silent(t testing.TB, kind string, pool *sql.DB) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector(kind, pool), &gorm.Config{Logger: logger.Discard})
	ok(t, err)
	return db
}

// memory is what a statement allocates: the least of some runs, since now and then a map or a pool grows.
func memory(t testing.TB, run func(*gorm.DB) error, db *gorm.DB) (allocs, bytes float64) {
	t.Helper()
	var all, sizes []float64
	for range 25 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := run(db)
		runtime.ReadMemStats(&after)
		ok(t, err)
		all = append(all, float64(after.Mallocs-before.Mallocs))
		sizes = append(sizes, float64(after.TotalAlloc-before.TotalAlloc))
	}
	return slices.Min(all), slices.Min(sizes)
}

func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
