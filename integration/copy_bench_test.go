package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/pgcopy"
)

// Load and PlainLoad are the rows of the comparison: three fields of 40 bytes.
type Load struct {
	ID uint64
	A  string `gorm:"serializer:rowseal"`
	B  string `gorm:"serializer:rowseal"`
	C  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type PlainLoad struct {
	ID      uint64
	A, B, C string
}

func forty(i int, name string) string {
	return name + strings.Repeat("x", 40-len(name)-8) + fmt.Sprintf("%08d", i)
}

func loads(n int) []Load {
	out := make([]Load, n)
	for i := range out {
		out[i] = Load{A: forty(i, "a"), B: forty(i, "b"), C: forty(i, "c")}
	}
	return out
}

func plainLoads(n int) []PlainLoad {
	out := make([]PlainLoad, n)
	for i := range out {
		out[i] = PlainLoad{A: forty(i, "a"), B: forty(i, "b"), C: forty(i, "c")}
	}
	return out
}

// BenchmarkCopyRounds compares ways to create 1,000 rows, in rounds that have one of each, so that what slows the machine slows them all: sealed rows by COPY and by Create,
// plaintext by CreateInBatches twice (whose ratio is the noise), and plaintext by COPY. COPY_ROUNDS is the number of rounds.
func BenchmarkCopyRounds(b *testing.B) {
	w := openWith(b, postgres, localKeys(b), rowseal.Config{Models: []any{&Load{}}}, &gorm.Config{})
	w.db.Logger = w.db.Logger.LogMode(1)
	ok(b, w.db.AutoMigrate(&PlainLoad{}))
	const rows = 1000
	rounds := 25
	if n, err := strconv.Atoi(os.Getenv("COPY_ROUNDS")); err == nil {
		rounds = n
	}
	ways := []struct {
		name string
		run  func() error
	}{
		{"plain CreateInBatches", func() error { all := plainLoads(rows); return w.db.CreateInBatches(&all, rows).Error }},
		{"sealed pgcopy", func() error { return pgcopy.Create(b.Context(), w.db, loads(rows), pgcopy.Config{}) }},
		{"plain CreateInBatches again", func() error { all := plainLoads(rows); return w.db.CreateInBatches(&all, rows).Error }},
		{"sealed CreateInBatches", func() error { all := loads(rows); return w.db.CreateInBatches(&all, rows).Error }},
		{"plain pgcopy", func() error { return pgcopy.Create(b.Context(), w.db, plainLoads(rows), pgcopy.Config{}) }},
	}
	for b.Loop() {
		took := make([][]time.Duration, len(ways))
		for round := range rounds + 3 {
			for n := range ways {
				i := (n + round) % len(ways) // nobody is always after the same
				start := time.Now()
				ok(b, ways[i].run())
				if round >= 3 { // warm
					took[i] = append(took[i], time.Since(start))
				}
			}
		}
		base := took[0]
		for i, way := range ways {
			ratios := make([]float64, rounds)
			for r := range ratios {
				ratios[r] = float64(took[i][r]) / float64(base[r])
			}
			slices.Sort(ratios)
			sorted := slices.Sorted(slices.Values(took[i]))
			b.Logf("%-28s median %8v, fastest %8v, of plain CreateInBatches %.2f (middle half %.2f to %.2f)", way.name,
				sorted[rounds/2].Round(10*time.Microsecond), sorted[0].Round(10*time.Microsecond), ratios[rounds/2], ratios[rounds/4], ratios[rounds*3/4])
			if i == 1 {
				b.ReportMetric(ratios[rounds/2], "of-plain")
			}
		}
	}
}
