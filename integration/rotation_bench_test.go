package integration

// rotation_bench_test.go owns what a rotation costs: memory that does not grow with the table, and time beside that of the database's own work.

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// BenchDoc is a row as an application has it: some hundred bytes, and its key.
type BenchDoc struct {
	ID   uint64 `gorm:"primaryKey;autoIncrement:false"`
	Name string `gorm:"serializer:rowseal"`
	Note string
	rowseal.RowKey
}

const (
	// benchRows is how many rows BenchmarkRotation has where BENCH_ROWS says nothing. The figures are for 1,000,000.
	benchRows = 20_000
	benchFew  = 10_000 // rows of the table that memory is compared with
	benchLoop = 1_000  // rows that the loop of GORM updates goes through

	benchDSN  = "ROWSEAL_BENCH_DSN" // what tells a child to rotate and to look at its heap
	benchGoal = "ROWSEAL_BENCH_VERSION"
)

func rowsToBench(b *testing.B) int {
	text := os.Getenv("BENCH_ROWS")
	if text == "" {
		return benchRows
	}
	n, err := strconv.Atoi(text)
	ok(b, err)
	return n
}

// benched is a table under version 1, and how far it has been moved.
type benched struct {
	dsn     string
	pool    *sql.DB
	db      *gorm.DB
	rows    int
	version int
}

func newBenched(b *testing.B, rows int) *benched {
	b.Helper()
	dsn := pgtest.DSN(b)
	pool, err := killPool(dsn, "bench", nil)
	ok(b, err)
	b.Cleanup(func() { _ = pool.Close() })
	t := &benched{dsn, pool, silent(b, postgres, pool), rows, 1}
	keys, err := versionKeys(1, 1, 1, nil)
	ok(b, err)
	writer := silent(b, postgres, pool)
	use(b, writer, keys, &BenchDoc{})
	ok(b, writer.AutoMigrate(&BenchDoc{}))
	_, err = migrations.Up(b.Context(), writer)
	ok(b, err)
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			for from := half * 1000; from < rows; from += 2000 {
				docs := make([]BenchDoc, min(1000, rows-from))
				for i := range docs {
					docs[i] = BenchDoc{ID: uint64(from + i + 1), Name: "Ada Lovelace", Note: "what else an application has in a row, some dozen bytes of it"}
				}
				if err := writer.Create(&docs).Error; err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.settle(b)
	return t
}

// settle has the database clean up now, and not while time is taken.
func (t *benched) settle(b testing.TB) {
	_, err := t.pool.Exec("VACUUM ANALYZE bench_docs")
	ok(b, err)
	_, err = t.pool.Exec("CHECKPOINT")
	ok(b, err)
	runtime.GC()
}

// rotate moves the whole table to the next version.
func (t *benched) rotate(b testing.TB, cfg rotation.Config, before func(context.Context, kmskeytest.Call) error) (took time.Duration) {
	b.Helper()
	t.version++
	var err error
	cfg.Keys, err = versionKeys(t.version-1, t.version, t.version, before)
	ok(b, err)
	start := time.Now()
	report, err := rotation.RotateKMSKey(b.Context(), t.db, &BenchDoc{}, cfg)
	took = time.Since(start)
	ok(b, err)
	if report.Rewrapped != int64(t.rows) {
		b.Fatalf("%d rows of %d", report.Rewrapped, t.rows)
	}
	return took
}

// floor writes the same bytes to the same column of the same pages: what the database takes for it by itself.
func (t *benched) floor(b testing.TB, page int) time.Duration {
	b.Helper()
	start := time.Now()
	for from := 0; from < t.rows; from += page {
		_, err := t.pool.Exec("UPDATE bench_docs SET encrypted_kms_key = encrypted_kms_key || '' WHERE id > $1 AND id <= $2", from, from+page)
		ok(b, err)
	}
	return time.Since(start)
}

// loop is what one writes without a tool: an UPDATE for each row. It need not even rewrap.
func (t *benched) loop(b testing.TB, n int) time.Duration {
	b.Helper()
	start := time.Now()
	for id := 1; id <= n; id++ {
		ok(b, t.db.Table("bench_docs").Where("id = ?", id).UpdateColumn("encrypted_kms_key", gorm.Expr("encrypted_kms_key || ''")).Error)
	}
	return time.Since(start)
}

// BenchmarkRotation: BENCH_ROWS=1000000 make microbench BENCH=BenchmarkRotation BENCHTIME=3x.
func BenchmarkRotation(b *testing.B) {
	t := newBenched(b, rowsToBench(b))
	perSecond := func(took time.Duration, rows int) float64 { return float64(rows) / took.Seconds() }

	// One rotation, one UPDATE of SQL alone, one loop, and again: what counts is their ratio within a round.
	for _, lanes := range []int{1, 2} {
		b.Run(fmt.Sprintf("local keys, lanes=%d", lanes), func(b *testing.B) {
			var ratios, whole, loops, rates []float64
			for b.Loop() {
				t.settle(b)
				ours := t.rotate(b, rotation.Config{Lanes: lanes}, nil)
				t.settle(b)
				floor := t.floor(b, 1000)
				t.settle(b)
				single := t.floor(b, t.rows)
				loop := t.loop(b, benchLoop)
				ratios = append(ratios, ours.Seconds()/floor.Seconds())
				whole = append(whole, ours.Seconds()/single.Seconds())
				rates = append(rates, perSecond(ours, t.rows))
				loops = append(loops, perSecond(ours, t.rows)/perSecond(loop, benchLoop))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(quantile(rates, 0.5), "rows/s")
			b.ReportMetric(quantile(ratios, 0.5), "of-sql-pages")
			b.ReportMetric(quantile(whole, 0.5), "of-one-update")
			b.ReportMetric(quantile(loops, 0.5), "times-gorm-loop")
		})
	}

	b.Run("10 ms a row, calls=64", func(b *testing.B) {
		few := t
		if t.rows > 100_000 { // 15 seconds are enough
			few = newBenched(b, 100_000)
		}
		slow := func(ctx context.Context, c kmskeytest.Call) error {
			if c.Op == "wrap" { // the one call that a service which rewraps would have
				return nap(ctx, 10*time.Millisecond)
			}
			return nil
		}
		var rates []float64
		for b.Loop() {
			few.settle(b)
			rates = append(rates, perSecond(few.rotate(b, rotation.Config{Calls: 64}, slow), few.rows))
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(quantile(rates, 0.5), "rows/s")
	})

	b.Run("memory", func(b *testing.B) {
		small := newBenched(b, benchFew)
		var least, most, growth []float64
		for b.Loop() {
			few, many := small.heap(b), t.heap(b)
			least, most, growth = append(least, few/(1<<20)), append(most, many/(1<<20)), append(growth, many/few)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(quantile(least, 0.5), "MiB-10k-rows")
		b.ReportMetric(quantile(most, 1), "MiB-all-rows")
		b.ReportMetric(quantile(growth, 0.5), "growth")
	})
}

// heap rotates in a process of its own, and gives the most that the heap's objects took, garbage included.
func (t *benched) heap(b *testing.B) float64 {
	b.Helper()
	t.version++
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchDSN+"="+t.dsn, benchGoal+"="+strconv.Itoa(t.version))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	ok(b, err)
	var said heapOf
	ok(b, json.Unmarshal(out, &said))
	if said.Rewrapped != int64(t.rows) {
		b.Fatalf("%d rows of %d", said.Rewrapped, t.rows)
	}
	return float64(said.Peak)
}

type heapOf struct {
	Rewrapped int64
	Peak      uint64
}

func init() { children[benchDSN] = benchedRotator }

// benchedRotator is the process that is looked at.
func benchedRotator(dsn string) {
	err := func() error {
		version, err := strconv.Atoi(os.Getenv(benchGoal))
		if err != nil {
			return err
		}
		pool, err := killPool(dsn, "bench", nil)
		if err != nil {
			return err
		}
		db, err := gorm.Open(dialector(postgres, pool), &gorm.Config{Logger: logger.Discard})
		if err != nil {
			return err
		}
		keys, err := versionKeys(version-1, version, version, nil)
		if err != nil {
			return err
		}
		var out heapOf
		stop, stopped := make(chan struct{}), make(chan struct{})
		runtime.GC()
		go func() {
			defer close(stopped)
			sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				metrics.Read(sample)
				out.Peak = max(out.Peak, sample[0].Value.Uint64())
				select {
				case <-tick.C:
				case <-stop:
					return
				}
			}
		}()
		report, err := rotation.RotateKMSKey(context.Background(), db, &BenchDoc{}, rotation.Config{Keys: keys})
		close(stop)
		<-stopped
		if err != nil {
			return err
		}
		out.Rewrapped = report.Rewrapped
		return json.NewEncoder(os.Stdout).Encode(out)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rotator:", err)
		os.Exit(3)
	}
	os.Exit(0)
}
