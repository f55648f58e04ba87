package integration

// rotation_race_test.go owns the race between a rotation and the application's own writes: ways to rotate that lose rows or writes are shown to lose
// them, so that what shows none of it means something.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// RaceDoc is written field by field and as a whole.
type RaceDoc struct {
	ID    uint64 `gorm:"primaryKey;autoIncrement:false"`
	Name  string `gorm:"serializer:rowseal"`
	Phone string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

const (
	raceRows    = 24
	raceLatency = 2 * time.Millisecond // of the key service, while a rotation has a row in hand
	raceBound   = time.Minute          // until a loss must have shown itself; it takes about a second
	raceQuiet   = 3 * time.Second      // for what must lose nothing
)

// racing is a table with writers. Each row has one writer for each of its fields, so that what is acknowledged last is what must be there.
type racing struct {
	t     *testing.T
	pool  *sql.DB
	keys  [4]*kmskey.Keyring // by current version
	dbs   [4]*gorm.DB
	forge *gorm.DB // another database, where rows with keys of their own are made
	acked [raceRows + 1][2]atomic.Int64
	busy  [raceRows + 1]sync.Mutex // an application that writes rows whole does not write them twice at once
	done  atomic.Int64
}

func newRacing(t *testing.T) *racing {
	r := &racing{t: t}
	w := open(t, postgres)
	r.pool = w.plain
	r.pool.SetMaxOpenConns(20)
	r.pool.SetMaxIdleConns(idleConns)
	next, err := localkey.Generate(t.TempDir() + "/next")
	ok(t, err)
	slow := kmskeytest.NewCounter(next)
	slow.Before = func(ctx context.Context, _ kmskeytest.Call) error { return nap(ctx, raceLatency) }
	for v := 1; v <= 2; v++ {
		r.keys[v], err = kmskey.New(kmskey.Config{Current: v, Namespace: "race", Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}, 2: {Provider: slow.Provider()}}})
		ok(t, err)
		r.dbs[v] = silent(t, postgres, r.pool)
		use(t, r.dbs[v], r.keys[v], &RaceDoc{})
	}
	ok(t, r.dbs[1].AutoMigrate(&RaceDoc{}))
	_, err = migrations.Up(t.Context(), r.dbs[1])
	ok(t, err)
	other := open(t, postgres)
	r.forge = silent(t, postgres, other.plain)
	use(t, r.forge, r.keys[1], &RaceDoc{})
	ok(t, r.forge.AutoMigrate(&RaceDoc{}))
	return r
}

func raceText(id uint64, n int64) string { return fmt.Sprintf("%d %d", id, n) }

// reset begins a round: every row under version 1.
func (r *racing) reset() {
	ok(r.t, r.dbs[1].Where("1 = 1").Delete(&RaceDoc{}).Error)
	var docs []RaceDoc
	for id := uint64(1); id <= raceRows; id++ {
		docs = append(docs, RaceDoc{ID: id, Name: raceText(id, 0), Phone: raceText(id, 0)})
		r.acked[id][0].Store(0)
		r.acked[id][1].Store(0)
	}
	ok(r.t, r.dbs[1].Create(&docs).Error)
}

// field is an update of one field through the plugin, under the row's key.
func (r *racing) field(id uint64) error {
	at := rand.IntN(2)
	n := r.acked[id][at].Load() + 1
	err := r.dbs[1].Model(&RaceDoc{ID: id}).Update([]string{"name", "phone"}[at], raceText(id, n)).Error
	if err == nil {
		r.acked[id][at].Store(n)
	}
	return err
}

// save is the shape of GORM's Save through the plugin.
func (r *racing) save(id uint64) error {
	var d RaceDoc
	if err := r.dbs[1].First(&d, id).Error; err != nil {
		return err
	}
	name, phone := r.acked[id][0].Load()+1, r.acked[id][1].Load()+1
	d.Name, d.Phone = raceText(id, name), raceText(id, phone)
	if err := r.dbs[1].Save(&d).Error; err != nil {
		return err
	}
	r.acked[id][0].Store(name)
	r.acked[id][1].Store(phone)
	return nil
}

// raceRow is a row as the database has it.
type raceRow struct {
	name, phone []byte
	key         string
}

func rowOf(pool *sql.DB, id uint64) (s raceRow, err error) {
	err = pool.QueryRow("SELECT name, phone, encrypted_kms_key FROM race_docs WHERE id = $1", id).Scan(&s.name, &s.phone, &s.key)
	return s, err
}

// whole is an application of another make: it writes a row whole, under a new key.
func (r *racing) whole(id uint64) error {
	name, phone := r.acked[id][0].Load()+1, r.acked[id][1].Load()+1
	if err := r.forge.Delete(&RaceDoc{}, id).Error; err != nil {
		return err
	}
	if err := r.forge.Create(&RaceDoc{ID: id, Name: raceText(id, name), Phone: raceText(id, phone)}).Error; err != nil {
		return err
	}
	pool, err := r.forge.DB()
	if err != nil {
		return err
	}
	s, err := rowOf(pool, id)
	if err != nil {
		return err
	}
	if _, err := r.pool.Exec("UPDATE race_docs SET name = $1, phone = $2, encrypted_kms_key = $3 WHERE id = $4", s.name, s.phone, s.key, id); err != nil {
		return err
	}
	r.acked[id][0].Store(name)
	r.acked[id][1].Store(phone)
	return nil
}

// late is an application of another make: it saves every column as it was loaded, the key column too.
func (r *racing) late(id uint64) error {
	s, err := rowOf(r.pool, id)
	if err != nil {
		return err
	}
	if err := nap(context.Background(), rand.N(raceLatency)); err != nil {
		return err
	}
	_, err = r.pool.Exec("UPDATE race_docs SET name = $1, phone = $2, encrypted_kms_key = $3 WHERE id = $4", s.name, s.phone, s.key, id)
	return err
}

// moved is the key of a row under version 2, by the real keyring: a rotation in a database of its own.
func (r *racing) moved(mill *gorm.DB, id uint64, s raceRow) (string, error) {
	if s.key[:3] == "v2:" {
		return s.key, nil
	}
	pool, err := mill.DB()
	if err != nil {
		return "", err
	}
	if _, err := pool.Exec("INSERT INTO race_docs (id, name, phone, encrypted_kms_key) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET name = $2, phone = $3, encrypted_kms_key = $4", id, s.name, s.phone, s.key); err != nil {
		return "", err
	}
	if err := rowseal.Rotate(context.Background(), mill, &RaceDoc{ID: id}); err != nil {
		return "", err
	}
	out, err := rowOf(pool, id)
	return out.key, err
}

// home is a rotation as one would write it at home: for each row, read, rewrap, write.
func (r *racing) home(write func(id uint64, s raceRow, next string) error) func() error {
	w := open(r.t, postgres)
	mill := silent(r.t, postgres, w.plain)
	use(r.t, mill, r.keys[2], &RaceDoc{})
	ok(r.t, mill.AutoMigrate(&RaceDoc{}))
	return func() error {
		for id := uint64(1); id <= raceRows; id++ {
			s, err := rowOf(r.pool, id)
			if err != nil {
				return err
			}
			next, err := r.moved(mill, id, s)
			if err != nil {
				return err
			}
			if err := write(id, s, next); err != nil {
				return err
			}
		}
		return nil
	}
}

// harm is what a round has done.
type harm struct{ closed, lost, old int }

// round rotates once, with writers beside it, and looks at what is left.
func (r *racing) round(rotate func() error, writers ...func(id uint64) error) harm {
	r.t.Helper()
	r.reset()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, write := range writers {
		for range 2 {
			wg.Go(func() {
				for !stop.Load() {
					id := 1 + rand.Uint64N(raceRows)
					r.busy[id].Lock()
					err := write(id)
					r.busy[id].Unlock()
					// Under an unsafe rotation rows do not open any more, and writers meet that.
					if err == nil {
						r.done.Add(1)
					} else if !errors.Is(err, rowseal.ErrStaleKey) && !unreadable(err) {
						r.t.Errorf("writer: %v", err)
						return
					}
				}
			})
		}
	}
	err := rotate()
	stop.Store(true)
	wg.Wait()
	ok(r.t, err)
	return r.count()
}

func unreadable(err error) bool {
	return errors.Is(err, kmskey.ErrCommitment) || errors.Is(err, kmskey.ErrNotAuthentic) || errors.Is(err, field.ErrNotAuthentic) || errors.Is(err, kmskey.ErrContextMismatch)
}

func (r *racing) count() (h harm) {
	r.t.Helper()
	for id := uint64(1); id <= raceRows; id++ {
		s, err := rowOf(r.pool, id)
		ok(r.t, err)
		if s.key[:3] != "v2:" {
			h.old++
		}
		var d RaceDoc
		if err := r.dbs[2].First(&d, id).Error; err != nil {
			if !unreadable(err) {
				r.t.Fatal(err)
			}
			h.closed++
			continue
		}
		if d.Name != raceText(id, r.acked[id][0].Load()) || d.Phone != raceText(id, r.acked[id][1].Load()) {
			h.lost++
		}
	}
	return h
}

// until repeats rounds until the harm shows.
func (r *racing) until(what func(harm) int, rotate func() error, writers ...func(uint64) error) (rounds, rows int) {
	r.t.Helper()
	end := time.Now().Add(raceBound)
	for rows == 0 {
		if time.Now().After(end) {
			r.t.Fatalf("no harm in %d rounds", rounds)
		}
		rounds++
		rows = what(r.round(rotate, writers...))
	}
	return rounds, rows
}

func TestRotationRaces(t *testing.T) {
	r := newRacing(t)
	closed, lost, old := func(h harm) int { return h.closed }, func(h harm) int { return h.lost }, func(h harm) int { return h.old }
	ours := func() error {
		_, err := rotation.RotateKMSKey(t.Context(), r.dbs[2], &RaceDoc{}, rotation.Config{})
		return err
	}

	t.Run("saving all columns loses writes", func(t *testing.T) {
		rotate := r.home(func(id uint64, s raceRow, next string) error {
			_, err := r.pool.Exec("UPDATE race_docs SET name = $1, phone = $2, encrypted_kms_key = $3 WHERE id = $4", s.name, s.phone, next, id)
			return err
		})
		rounds, rows := r.until(lost, rotate, r.field, r.save)
		t.Logf("%d rows lost a write in %d rounds", rows, rounds)
	})
	t.Run("setting the key by id alone makes rows unreadable", func(t *testing.T) {
		rotate := r.home(func(id uint64, s raceRow, next string) error {
			_, err := r.pool.Exec("UPDATE race_docs SET encrypted_kms_key = $1 WHERE id = $2", next, id)
			return err
		})
		rounds, rows := r.until(closed, rotate, r.field, r.whole)
		t.Logf("%d rows do not open after %d rounds", rows, rounds)
	})
	t.Run("an application that saves the key it loaded brings the old version back", func(t *testing.T) {
		rounds, rows := r.until(old, ours, r.late)
		t.Logf("%d rows are under the old version after %d rounds", rows, rounds)
	})
	t.Run("ours", func(t *testing.T) {
		r.done.Store(0)
		rounds := 0
		for end := time.Now().Add(raceQuiet); time.Now().Before(end); rounds++ {
			if h := r.round(ours, r.field, r.save, r.whole); h.closed > 0 || h.lost > 0 {
				t.Fatalf("%+v after %d rounds", h, rounds)
			}
			if h := r.round(ours, r.field, r.save); h != (harm{}) { // without writers of another make, no row is under the old version either
				t.Fatalf("%+v after %d rounds", h, rounds)
			}
		}
		t.Logf("nothing in %d rounds, beside %d writes", 2*rounds, r.done.Load())
	})
}
