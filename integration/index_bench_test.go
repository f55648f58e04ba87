package integration

// index_bench_test.go owns what a look-up by a blind index costs, beside the same look-up on plaintext.

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

type (
	// BenchMail is found by its e-mail's blind index or by its plain login, BenchPlainMail by the e-mail.
	BenchMail struct {
		ID    uint64
		Login string `gorm:"index"`
		Email string `gorm:"serializer:rowseal" rowseal:"index"`
		rowseal.RowKey
	}
	BenchPlainMail struct {
		ID    uint64
		Email string `gorm:"index"`
		// As many bytes as the other row has.
		Padding []byte
	}
)

// BenchmarkIndexLookup: BENCH_ROWS=1000000 make microbench BENCH=IndexLookup BENCHTIME=20x. Each round looks up 500 e-mails in both tables, in turns.
func BenchmarkIndexLookup(b *testing.B) {
	rows := 20_000
	if text := os.Getenv("BENCH_ROWS"); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		ok(b, err)
	}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "bench"})
	ok(b, err)
	w := openWith(b, postgres, keys, rowseal.Config{Models: []any{&BenchMail{}}}, &gorm.Config{})
	w.db.Logger = w.db.Logger.LogMode(1)
	_, err = migrations.Up(b.Context(), w.db)
	ok(b, err)
	ok(b, w.db.AutoMigrate(&BenchPlainMail{}))
	// 40 characters, in no order, as people come: an index that only grows at its end is denser than any other.
	email := func(i int) string { return fmt.Sprintf("%08x.%07d.person@mail.example.org", uint32(i)*2654435761, i) }
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			for from := half * 1000; from < rows; from += 2000 {
				sealed, plain := make([]BenchMail, min(1000, rows-from)), make([]BenchPlainMail, min(1000, rows-from))
				for i := range sealed {
					sealed[i].Login, sealed[i].Email, plain[i].Email, plain[i].Padding = email(from+i), email(from+i), email(from+i), make([]byte, 200)
				}
				if err := w.db.Create(&sealed).Error; err != nil {
					b.Error(err)
				}
				if err := w.db.Create(&plain).Error; err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, table := range []string{"bench_mails", "bench_plain_mails"} {
		_, err := w.plain.Exec("VACUUM ANALYZE " + table)
		ok(b, err)
	}
	grown := map[string]float64{}
	size := func(index string) (bytes float64) {
		ok(b, w.plain.QueryRow("SELECT pg_relation_size(to_regclass($1))", index).Scan(&bytes))
		return bytes
	}
	// As they grew, row by row, and as they are made of a table at once.
	const blind, text = "idx_bench_mails_email_bidx", "idx_bench_plain_mails_email"
	for _, index := range []string{blind, text} {
		grown[index] = size(index)
		_, err := w.plain.Exec("REINDEX INDEX " + index)
		ok(b, err)
	}
	lookups := 500
	round := func(one func(email string) (uint64, error)) time.Duration {
		start := time.Now()
		for range lookups {
			i := rand.IntN(rows)
			id, err := one(email(i))
			if err != nil || id == 0 {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	plain := func(email string) (uint64, error) {
		var m BenchPlainMail
		err := w.db.Where(&BenchPlainMail{Email: email}).Take(&m).Error
		return m.ID, err
	}
	sealed := func(db *gorm.DB) func(email string) (uint64, error) {
		return func(email string) (uint64, error) {
			var m BenchMail
			err := db.Where(&BenchMail{Email: email}).Take(&m).Error
			return m.ID, err
		}
	}
	login := func(db *gorm.DB) func(email string) (uint64, error) {
		return func(email string) (uint64, error) {
			var m BenchMail
			err := db.Where(&BenchMail{Login: email}).Take(&m).Error
			return m.ID, err
		}
	}
	kept := rowseal.Sealed(w.db).Session(&gorm.Session{})
	var left, opened, again, index []float64
	for b.Loop() {
		base := round(plain)
		left = append(left, round(sealed(kept)).Seconds()/base.Seconds())
		base = round(plain)
		opened = append(opened, round(sealed(w.db)).Seconds()/base.Seconds())
		base = round(login(kept))
		index = append(index, round(sealed(kept)).Seconds()/base.Seconds())
		base = round(plain)
		again = append(again, round(plain).Seconds()/base.Seconds())
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(quantile(index, 0.5), "of-plain-column")
	b.ReportMetric(quantile(left, 0.5), "of-plain-sealed")
	b.ReportMetric(quantile(opened, 0.5), "of-plain-opened")
	b.ReportMetric(quantile(again, 0.5), "of-plain-plain")
	b.ReportMetric(size(blind)/size(text), "of-plain-index-bytes")
	b.ReportMetric(grown[blind]/grown[text], "of-plain-index-bytes-grown")
}
