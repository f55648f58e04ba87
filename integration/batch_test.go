package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type Visit struct {
	ID     uint64
	Ward   string
	Reason string `gorm:"serializer:rowseal"`
	Doctor string `gorm:"serializer:rowseal"`
	Cost   int    `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func visits(n int) []Visit {
	out := make([]Visit, n)
	for i := range out {
		out[i] = Visit{Ward: "7", Reason: fmt.Sprint("reason ", i), Doctor: "Dr. Noor", Cost: i}
	}
	return out
}

// kinds of the recorded events in order, runs of the same kind as one.
func shape(w *world) (out []string) {
	for _, e := range w.spy.Events() {
		if len(out) == 0 || out[len(out)-1] != e.Kind {
			out = append(out, e.Kind)
		}
	}
	return out
}

// gathering lets calls to the key service pass only when n of them are in flight, so that a test sees how many there are at once
// without waiting for time to pass. The last of total calls pass without being gathered.
func gathering(n, total int) func(context.Context, kmskeytest.Call) error {
	var mu sync.Mutex
	waiting, seen := 0, 0
	release := make(chan struct{})
	return func(ctx context.Context, _ kmskeytest.Call) error {
		mu.Lock()
		waiting++
		seen++
		mine := release
		if waiting == n || seen == total {
			close(release)
			waiting, release = 0, make(chan struct{})
		}
		mu.Unlock()
		select {
		case <-mine:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestCreating1000RowsOnPostgres(t *testing.T) {
	const rows, limit = 1000, 16
	fake := awskmstest.New(t, awskmstest.Config{})
	key := fake.CreateKey()
	provider, err := awskms.New(fake.Client(), key, awskms.Config{})
	ok(t, err)
	counter := kmskeytest.NewCounter(provider)
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}})
	ok(t, err)
	w := openWith(t, "postgres", keys, rowseal.Config{Models: []any{&Visit{}}, MaxCalls: limit}, &gorm.Config{})
	gather := gathering(limit, rows)
	counter.Before = func(ctx context.Context, c kmskeytest.Call) error {
		w.spy.Note("kms")
		return gather(ctx, c)
	}
	all := visits(rows)
	ok(t, w.db.Create(&all).Error)

	if got := shape(w); !slices.Equal(got, []string{"query", "close", "kms", "begin", "query", "close", "commit"}) {
		t.Errorf("the order of events is %v", got)
	}
	if n := w.spy.Count("query", "nextval"); n != 1 {
		t.Errorf("%d sequence queries, want 1", n)
	}
	if n := w.spy.Count("query", "insert into"); n != 1 {
		t.Errorf("%d INSERTs, want 1", n)
	}
	if n := fake.Calls("Encrypt"); n != rows || fake.TotalCalls() != rows {
		t.Errorf("%d calls of Encrypt and %d in all, want %d", n, fake.TotalCalls(), rows)
	}
	if n := counter.MaxInFlight(); n != limit {
		t.Errorf("%d calls in flight, want %d", n, limit)
	}
	for i := 1; i < rows; i++ {
		if all[i].ID <= all[i-1].ID {
			t.Fatalf("ids are not in the order of the rows: %d after %d", all[i].ID, all[i-1].ID)
		}
	}

	w.spy.Reset()
	fake.ResetCounts()
	gather = gathering(limit, rows)
	var got []Visit
	ok(t, w.db.Order("id").Find(&got).Error)
	if s := shape(w); !slices.Equal(s, []string{"query", "close", "kms"}) {
		t.Errorf("keys were not unwrapped after the result set was closed: %v", s)
	}
	if n := fake.Calls("Decrypt"); n != rows {
		t.Errorf("%d calls of Decrypt, want %d", n, rows)
	}
	for i, v := range got {
		if v.Reason != fmt.Sprint("reason ", i) || v.Cost != i || v.ID != all[i].ID {
			t.Fatalf("row %d came back as %+v", i, v)
		}
	}
}

func TestClientMadeIDsNeedNoSequence(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Visit{})
		all := visits(50)
		for i := range all {
			all[i].ID = uint64(1000 + i)
		}
		ok(t, w.db.Create(&all).Error)
		if got := shape(w); !slices.Equal(got, []string{"kms", "begin", "query", "close", "commit"}) {
			t.Errorf("the order of events is %v", got)
		}
	})
}

func TestIDsThatTheDatabaseAssignsAreSettledInTheSameTransaction(t *testing.T) {
	w := open(t, "sqlite", &Visit{})
	all := visits(450)
	ok(t, w.db.Create(&all).Error)
	if got := shape(w); got[0] != "begin" || got[len(got)-1] != "commit" {
		t.Errorf("the order of events is %v", got)
	}
	var got []Visit
	ok(t, w.db.Order("id").Find(&got).Error)
	for i, v := range got {
		if v.Reason != fmt.Sprint("reason ", i) || v.ID != all[i].ID {
			t.Fatalf("row %d came back as %+v", i, v)
		}
	}
}

// counted is a keyring on the insecure local key, and its counter.
func counted(b *testing.B) (*kmskey.Keyring, *kmskeytest.Counter) {
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}})
	ok(b, err)
	return keys, counter
}

// PlainVisit is Visit as GORM alone would store it.
type PlainVisit struct {
	ID     uint64
	Ward   string
	Reason string
	Doctor string
	Cost   int
}

// BenchmarkCreate1000 reports calls to the key service and SQL statements for each call of Create, beside plain GORM in the same run.
func BenchmarkCreate1000(b *testing.B) {
	keys, counter := counted(b)
	w := openWith(b, "postgres", keys, rowseal.Config{Models: []any{&Visit{}}}, &gorm.Config{})
	w.db.Logger = w.db.Logger.LogMode(1)
	ok(b, w.db.AutoMigrate(&PlainVisit{}))
	b.Run("sealed", func(b *testing.B) {
		b.ReportAllocs()
		counter.Reset()
		w.spy.Reset()
		for b.Loop() {
			all := visits(1000)
			ok(b, w.db.Create(&all).Error)
		}
		b.ReportMetric(float64(counter.Calls())/float64(b.N), "kms-calls/op")
		b.ReportMetric(float64(w.spy.Count("query", ""))/float64(b.N), "queries/op")
		b.ReportMetric(float64(counter.MaxInFlight()), "in-flight")
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		w.spy.Reset()
		for b.Loop() {
			all := make([]PlainVisit, 1000)
			for i, v := range visits(1000) {
				all[i] = PlainVisit{Ward: v.Ward, Reason: v.Reason, Doctor: v.Doctor, Cost: v.Cost}
			}
			ok(b, w.db.Create(&all).Error)
		}
		b.ReportMetric(float64(w.spy.Count("query", ""))/float64(b.N), "queries/op")
	})
}

// BenchmarkFind1000 reads 1,000 rows opened, and as plain GORM does.
func BenchmarkFind1000(b *testing.B) {
	keys, counter := counted(b)
	w := openWith(b, "postgres", keys, rowseal.Config{Models: []any{&Visit{}}}, &gorm.Config{})
	w.db.Logger = w.db.Logger.LogMode(1)
	ok(b, w.db.AutoMigrate(&PlainVisit{}))
	all := visits(1000)
	ok(b, w.db.Create(&all).Error)
	for _, v := range all {
		ok(b, w.db.Create(&PlainVisit{Ward: v.Ward, Reason: v.Reason, Doctor: v.Doctor, Cost: v.Cost}).Error)
	}
	b.Run("sealed", func(b *testing.B) {
		b.ReportAllocs()
		counter.Reset()
		for b.Loop() {
			var got []Visit
			ok(b, w.db.Find(&got).Error)
		}
		b.ReportMetric(float64(counter.Calls())/float64(b.N), "kms-calls/op")
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var got []PlainVisit
			ok(b, w.db.Find(&got).Error)
		}
	})
}

// sideBySide runs the same statements on 1,000 sealed rows and on as many of plain GORM, and counts the calls to the key service.
func sideBySide(b *testing.B, run func(tx *gorm.DB, model any) error) {
	keys, counter := counted(b)
	w := openWith(b, "postgres", keys, rowseal.Config{Models: []any{&Visit{}}}, &gorm.Config{})
	w.db.Logger = w.db.Logger.LogMode(1)
	ok(b, w.db.AutoMigrate(&PlainVisit{}))
	all, plain := visits(1000), make([]PlainVisit, 1000)
	for i, v := range all {
		plain[i] = PlainVisit{Ward: v.Ward, Reason: v.Reason, Doctor: v.Doctor, Cost: v.Cost}
	}
	ok(b, w.db.Create(&all).Error)
	ok(b, w.db.Create(&plain).Error)
	for _, of := range []struct {
		name  string
		model any
	}{{"sealed", &Visit{}}, {"plain", &PlainVisit{}}} {
		b.Run(of.name, func(b *testing.B) {
			b.ReportAllocs()
			counter.Reset()
			for b.Loop() {
				ok(b, run(w.db, of.model))
			}
			b.ReportMetric(float64(counter.Calls())/float64(b.N), "kms-calls/op")
		})
	}
}

// BenchmarkUpdateMany1000 gives one field of 1,000 rows a value, in one call.
func BenchmarkUpdateMany1000(b *testing.B) {
	sideBySide(b, func(tx *gorm.DB, model any) error {
		return tx.Model(model).Where("id > 0").Update("reason", "checked").Error
	})
}

// BenchmarkPluck1000 reads one field of 1,000 rows.
func BenchmarkPluck1000(b *testing.B) {
	sideBySide(b, func(tx *gorm.DB, model any) error {
		var reasons []string
		return tx.Model(model).Pluck("reason", &reasons).Error
	})
}

// BenchmarkCount1000 reads nothing sealed of a model with sealed fields.
func BenchmarkCount1000(b *testing.B) {
	sideBySide(b, func(tx *gorm.DB, model any) error {
		var n int64
		return tx.Model(model).Where("ward = ?", "7").Count(&n).Error
	})
}
