package integration

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// distant is a key service that takes 10 ms for a call, and 100 ms for one in a hundred.
func distant() *kmskeytest.Counter {
	c := kmskeytest.NewCounter(localkey.NewInsecure())
	c.Before = func(ctx context.Context, call kmskeytest.Call) error {
		d := 10 * time.Millisecond
		if rand.IntN(100) == 0 {
			d = 100 * time.Millisecond
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return &kmskey.Error{Op: call.Op, Service: "test", Kind: kmskey.ErrUnavailable, Err: ctx.Err()}
		}
	}
	return c
}

// BenchmarkColdFind1000 reads 1,000 rows with nothing in memory, from a key service that is some way off.
func BenchmarkColdFind1000(b *testing.B) {
	r := newBranched(b, postgres)
	quick, _ := r.process(b, 1)
	ok(b, quick.Create(holders(1000, 1)).Error)
	read := func(b *testing.B, db *gorm.DB) {
		var got []Holder
		ok(b, db.Find(&got).Error)
		if len(got) != 1000 || got[999].Name == "" {
			b.Fatalf("%d rows", len(got))
		}
	}
	for _, c := range []struct {
		name  string
		calls int
		hedge time.Duration
	}{{"direct", 0, 0}, {"direct hedged", 0, 25 * time.Millisecond}, {"direct hedged 256 at once", 256, 25 * time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			counter := distant()
			keys, err := kmskey.New(kmskey.Config{Namespace: "test", Versions: map[int]kmskey.Version{1: {Provider: counter}}, Hedge: c.hedge})
			ok(b, err)
			db := r.w.also(b, keys, rowseal.Config{Models: []any{holderModel}, MaxCalls: c.calls})
			for b.Loop() {
				read(b, db)
			}
			b.ReportMetric(float64(counter.Calls())/float64(b.N), "kms-calls/op")
		})
	}
	b.Run("branch", func(b *testing.B) {
		r.kms = distant()
		db, _ := r.process(b, 2)
		ok(b, db.Exec("DELETE FROM holders").Error)
		ok(b, db.Create(holders(1000, 1)).Error)
		r.kms.Reset()
		for b.Loop() {
			b.StopTimer()
			db, _ := r.process(b, 2)
			b.StartTimer()
			read(b, db)
		}
		b.ReportMetric(float64(r.kms.Calls())/float64(b.N), "kms-calls/op")
	})
}
