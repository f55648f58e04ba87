package integration

// speed_bench_test.go owns what sealed fields cost beside plain GORM: the same rows, in the same process, in turns.

import (
	"database/sql"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
)

type (
	// BenchPerson has three sealed fields of 40 bytes, BenchPlainPerson the same as GORM alone stores them.
	BenchPerson struct {
		ID    uint64
		Name  string `gorm:"serializer:rowseal"`
		Email string `gorm:"serializer:rowseal"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	BenchPlainPerson struct {
		ID    uint64
		Name  string
		Email string
		Note  string
	}
	// BenchOther is an application's other model.
	BenchOther BenchPlainPerson
)

func benchText(i, n int) string { return fmt.Sprintf("%040d", i*7+n) }

// inUse is what the heap holds once the garbage is gone.
func inUse() int64 {
	var m runtime.MemStats
	for range 2 { // what pools held goes with the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkSpeed reports CPU time and allocations for each row, and their ratio to plain GORM: the median over rounds in which both have their turn.
// BENCH_ROUNDS=15 is more rounds than 7; the time of one is a part of a second. Run it with -benchtime 1x.
func BenchmarkSpeed(b *testing.B) {
	connect := func(b *testing.B) *gorm.DB {
		parsed, err := pgx.ParseConfig(pgtest.DSN(b))
		ok(b, err)
		pool := sql.OpenDB(stdlib.GetConnector(*parsed))
		b.Cleanup(func() { _ = pool.Close() })
		db, err := gorm.Open(dialector(postgres, pool), &gorm.Config{Logger: logger.Discard})
		ok(b, err)
		return db
	}
	db, bare := connect(b), connect(b)
	plugin, err := rowseal.New(localKeys(b), rowseal.Config{Models: []any{&BenchPerson{}}})
	ok(b, err)
	ok(b, db.Use(plugin))
	ok(b, db.AutoMigrate(&BenchPerson{}, &BenchOther{}))
	ok(b, bare.AutoMigrate(&BenchPlainPerson{}, &BenchOther{}))

	const rows = 10_000
	sealed, plain, other := make([]BenchPerson, rows), make([]BenchPlainPerson, rows), make([]BenchOther, rows)
	next := uint64(0)
	fill := func() {
		for i := range sealed {
			next++
			sealed[i] = BenchPerson{ID: next, Name: benchText(i, 0), Email: benchText(i, 1), Note: benchText(i, 2)}
			plain[i] = BenchPlainPerson{ID: next, Name: benchText(i, 0), Email: benchText(i, 1), Note: benchText(i, 2)}
			other[i] = BenchOther(plain[i])
		}
	}
	empty := func() {
		ok(b, db.Exec("TRUNCATE bench_people").Error)
		ok(b, bare.Exec("TRUNCATE bench_plain_people").Error)
		fill()
	}
	none := func() {}

	b.Run("create", func(b *testing.B) {
		compare(b, rows, empty,
			func() { ok(b, db.CreateInBatches(&sealed, 1000).Error) },
			func() { ok(b, bare.CreateInBatches(&plain, 1000).Error) })
	})
	empty()
	ok(b, db.CreateInBatches(&sealed, 1000).Error)
	ok(b, bare.CreateInBatches(&plain, 1000).Error)
	for _, db := range []*gorm.DB{db, bare} {
		ok(b, db.Exec("TRUNCATE bench_others").Error)
		ok(b, db.CreateInBatches(&other, 1000).Error)
	}
	first := sealed[0].ID
	findPlain := func() {
		var got []BenchPlainPerson
		ok(b, bare.Find(&got).Error)
	}
	b.Run("find", func(b *testing.B) {
		compare(b, rows, none, func() {
			var got []BenchPerson
			ok(b, db.Find(&got).Error)
		}, findPlain)
		var got []BenchPerson
		before := inUse()
		ok(b, db.Find(&got).Error)
		b.ReportMetric(float64(inUse()-before)/rows, "kept-B/row")
		runtime.KeepAlive(got)
	})
	b.Run("find_not_opened", func(b *testing.B) {
		compare(b, rows, none, func() {
			var got []BenchPerson
			ok(b, rowseal.Sealed(db).Find(&got).Error)
		}, findPlain)
	})
	const times = 2000
	b.Run("take", func(b *testing.B) {
		compare(b, times, none, func() {
			for i := range uint64(times) {
				var got BenchPerson
				ok(b, db.Take(&got, first+i).Error)
			}
		}, func() {
			for i := range uint64(times) {
				var got BenchPlainPerson
				ok(b, bare.Take(&got, first+i).Error)
			}
		})
	})
	b.Run("update", func(b *testing.B) {
		change := 0
		compare(b, times, func() { change++ }, func() {
			for i := range times {
				ok(b, db.Model(&sealed[i]).Update("note", benchText(i, change)).Error)
			}
		}, func() {
			for i := range times {
				ok(b, bare.Model(&plain[i]).Update("note", benchText(i, change)).Error)
			}
		})
	})
	b.Run("others_find", func(b *testing.B) {
		find := func(db *gorm.DB) func() {
			return func() {
				var got []BenchOther
				ok(b, db.Find(&got).Error)
			}
		}
		compare(b, rows, none, find(db), find(bare))
	})
	b.Run("others_take", func(b *testing.B) {
		take := func(db *gorm.DB) func() {
			return func() {
				for i := range uint64(times) {
					var got BenchOther
					ok(b, db.Take(&got, first+i).Error)
				}
			}
		}
		compare(b, times, none, take(db), take(bare))
	})
}

// compare gives each side its turn in every round, the order changing, and reports medians.
func compare(b *testing.B, rows int, before, sealed, plain func()) {
	rounds := 7
	if text := os.Getenv("BENCH_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		ok(b, err)
	}
	var cpu, allocs [2][]float64
	var cpuRatio, wallRatio []float64
	for b.Loop() {
		for round := range rounds + 1 {
			before()
			var took, wall [2]time.Duration
			for turn := range 2 {
				side := (round + turn) % 2
				runtime.GC()
				var m, n runtime.MemStats
				runtime.ReadMemStats(&m)
				from, start := cpuTime(), time.Now()
				[2]func(){sealed, plain}[side]()
				took[side], wall[side] = cpuTime()-from, time.Since(start)
				runtime.ReadMemStats(&n)
				if round > 0 { // the first warms up
					cpu[side] = append(cpu[side], float64(took[side].Nanoseconds())/float64(rows))
					allocs[side] = append(allocs[side], float64(n.Mallocs-m.Mallocs)/float64(rows))
				}
			}
			if round > 0 {
				cpuRatio = append(cpuRatio, float64(took[0])/float64(took[1]))
				wallRatio = append(wallRatio, float64(wall[0])/float64(wall[1]))
			}
		}
	}
	median := func(values []float64) float64 {
		slices.Sort(values)
		return values[len(values)/2]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(cpu[0]), "cpu-ns/row")
	b.ReportMetric(median(cpu[1]), "plain-cpu-ns/row")
	b.ReportMetric(median(cpuRatio), "cpu-ratio")
	b.ReportMetric(cpuRatio[len(cpuRatio)/4], "cpu-ratio-q1")
	b.ReportMetric(median(wallRatio), "wall-ratio")
	b.ReportMetric(median(allocs[0]), "allocs/row")
	b.ReportMetric(median(allocs[0])/median(allocs[1]), "allocs-ratio")
}
