package integration

// others_test.go owns what an application's other models see of the plugin: nothing in their SQL, and next to nothing in their time.

import (
	"database/sql"
	"runtime"
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

// silent opens GORM on a pool, with the plugin or without.
func silent(b testing.TB, kind string, pool *sql.DB, plugin *rowseal.Plugin) *gorm.DB {
	b.Helper()
	db, err := gorm.Open(dialector(kind, pool), &gorm.Config{Logger: logger.Discard})
	ok(b, err)
	if plugin != nil {
		ok(b, db.Use(plugin))
	}
	return db
}

// BenchmarkOtherModels holds statements on models without sealed fields against plain GORM: the two take turns on one database, and what
// counts is the ratio of their CPU times in the same round, as its median and lower quartile. A/A is plain GORM against itself, so what
// the machine's noise makes of nothing; believe no ratio that is nearer to 1 than that one.
func BenchmarkOtherModels(b *testing.B) {
	const part = 4 * time.Millisecond // of CPU for one variant in one round: short, since what else the machine does comes in bursts
	for _, kind := range []string{sqliteGo, postgres} {
		b.Run(kind, func(b *testing.B) {
			var pool *sql.DB
			if kind == sqliteGo {
				pool = sql.OpenDB(dsnConnector{":memory:", &sqlitedriver.Driver{}})
			} else {
				config, err := pgx.ParseConfig(pgtest.DSN(b))
				ok(b, err)
				pool = stdlib.OpenDB(*config)
			}
			pool.SetMaxOpenConns(1)
			b.Cleanup(func() { _ = pool.Close() })
			keys, _ := counted(b)
			plugin, err := rowseal.New(keys, rowseal.Config{Models: sealedModels})
			ok(b, err)
			variants := []*gorm.DB{silent(b, kind, pool, nil), silent(b, kind, pool, nil), silent(b, kind, pool, plugin)}
			plain := variants[0]
			ok(b, plain.AutoMigrate(&Author{}, &Book{}))
			ok(b, plain.Create(&Author{Name: "a"}).Error)
			some := books(1000)
			ok(b, plain.Create(&some).Error)

			for _, s := range otherStatements {
				b.Run(s.name, func(b *testing.B) {
					measure := func(db *gorm.DB, n int) (cpu time.Duration, allocs float64) {
						var before, after runtime.MemStats
						runtime.ReadMemStats(&before)
						start := cpuTime()
						for range n {
							ok(b, s.run(db))
						}
						cpu = cpuTime() - start
						runtime.ReadMemStats(&after)
						return cpu, float64(after.Mallocs-before.Mallocs) / float64(n)
					}
					for _, db := range variants {
						measure(db, 20)
					}
					probe, _ := measure(plain, 20)
					n := max(1, int(20*part/(probe+1)))
					var ratios, control, extra, base []float64
					for round := 0; b.Loop(); round++ {
						cpu, allocs := make([]float64, len(variants)), make([]float64, len(variants))
						for i := range variants {
							i = (i + round) % len(variants)
							took, made := measure(variants[i], n)
							cpu[i], allocs[i] = float64(took), made
						}
						base = append(base, cpu[0]/float64(n)/1000)
						control = append(control, cpu[1]/cpu[0])
						ratios = append(ratios, 2*cpu[2]/(cpu[0]+cpu[1]))
						extra = append(extra, allocs[2]-allocs[0])
						ok(b, plain.Unscoped().Delete(&Book{}, "id > 1000").Error)
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(quantile(base, 0.5), "plain-cpu-µs")
					b.ReportMetric(quantile(control, 0.5), "A/A-ratio")
					b.ReportMetric(quantile(ratios, 0.25), "ratio-p25")
					b.ReportMetric(quantile(ratios, 0.5), "ratio")
					b.ReportMetric(quantile(extra, 0.5), "extra-allocs")
				})
			}
		})
	}
}

func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[int(q*float64(len(values)-1)+0.5)]
}
