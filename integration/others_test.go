package integration

// others_test.go owns what an application's other models see of the plugin: nothing in their SQL, and next to nothing in their time.

import (
	"database/sql"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	sqlitedriver "github.com/glebarez/go-sqlite"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
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

// sealedModels are the models that the plugin knows while it meets others.
var sealedModels = []any{&Doctor{}, &Chart{}, &Consult{}, &Label{}, &File{}, &Hooked{}, &Visit{}}

func books(n int) []Book {
	author := uint64(1)
	out := make([]Book, n)
	for i := range out {
		out[i] = Book{Title: "A title of some length", Pages: i, AuthorID: &author}
	}
	return out
}

// otherStatements are what the benchmark measures.
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
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: sealedModels})
	ok(t, err)
	ok(t, with.Use(plugin))
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

// memory is what a statement allocates: the median of some runs, since now and then a map or a pool grows.
func memory(t testing.TB, run func(*gorm.DB) error, db *gorm.DB) (allocs, bytes float64) {
	t.Helper()
	var all, sizes []float64
	for range 201 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := run(db)
		runtime.ReadMemStats(&after)
		ok(t, err)
		all = append(all, float64(after.Mallocs-before.Mallocs))
		sizes = append(sizes, float64(after.TotalAlloc-before.TotalAlloc))
	}
	return quantile(all, 0.5), quantile(sizes, 0.5)
}

func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
