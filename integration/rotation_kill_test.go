package integration

// rotation_kill_test.go owns rotations that are killed: programs of their own, ended by SIGKILL at any point, beside writers, readers and a rotation that
// lives. What the ledger says afterwards is held against the database's own record of every key that changed.

import (
	"context"
	"crypto/fips140"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// KillDoc has two key columns, so that a page is two statements.
type KillDoc struct {
	ID    uint64 `gorm:"primaryKey;autoIncrement:false"`
	Name  string `gorm:"serializer:rowseal"`
	Phone string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

const (
	killVersions = 400 // that a keyring of this test has; a run goes to each, and far fewer are needed
	killLease    = 300 * time.Millisecond

	// What the environment tells a rotator that is to be killed.
	killDSN   = "ROWSEAL_KILL_DSN"
	killPoint = "ROWSEAL_KILL_POINT" // "<n> <before|after> <part of a statement>", or "<n> kms"
)

// killKeys has the local keys of versions first to killVersions. before is asked at each call, to be as slow as a key service.
func killKeys(first, current int, before func(context.Context, kmskeytest.Call) error) (*kmskey.Keyring, error) {
	return versionKeys(first, current, killVersions, before)
}

func versionKeys(first, current, last int, before func(context.Context, kmskeytest.Call) error) (*kmskey.Keyring, error) {
	versions := map[int]kmskey.Version{}
	for v := first; v <= last; v++ {
		key := sha256.Sum256([]byte("kill " + strconv.Itoa(v)))
		p, err := localkey.New(key[:], localkey.Config{})
		if err != nil {
			return nil, err
		}
		versions[v] = kmskey.Version{Provider: p}
		if before != nil {
			c := kmskeytest.NewCounter(p)
			c.Before = before
			versions[v] = kmskey.Version{Provider: c.Provider()}
		}
	}
	return kmskey.New(kmskey.Config{Current: current, Namespace: "kill", Versions: versions})
}

// killPool opens the database under a name that the database's own record has.
func killPool(dsn, who string, tracer pgx.QueryTracer) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = who
	config.Tracer = tracer
	pool := stdlib.OpenDB(*config)
	pool.SetMaxIdleConns(idleConns)
	return pool, nil
}

// killSwitch ends its own process at one statement.
type killSwitch struct {
	n     atomic.Int64
	after bool
	part  string
}

func (k *killSwitch) hit(sql string, after bool) {
	if k.part != "" && k.after == after && strings.Contains(sql, k.part) && k.n.Add(-1) == 0 {
		die()
	}
}

func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // SIGKILL
	}
	select {}
}

type statementKey struct{}

func (k *killSwitch) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	k.hit(d.SQL, false)
	return context.WithValue(ctx, statementKey{}, d.SQL)
}

func (k *killSwitch) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	if text, ok := ctx.Value(statementKey{}).(string); ok && d.Err == nil {
		k.hit(text, true)
	}
}

func init() { children[killDSN] = killedRotator }

// killedRotator is the program that is killed. It ends by itself only where something is wrong.
func killedRotator(dsn string) {
	k := &killSwitch{}
	var calls atomic.Int64
	point := strings.SplitN(os.Getenv(killPoint), " ", 3)
	n, _ := strconv.ParseInt(point[0], 10, 64) // 0 for none
	switch {
	case len(point) == 3:
		k.n.Store(n)
		k.after, k.part = point[1] == "after", point[2]
	case len(point) == 2:
		calls.Store(n)
	}
	err := rotateForever(context.Background(), dsn, "killed", k, rotation.Config{Calls: 32, MaxPage: 200, Lanes: 1 + rand.IntN(2), Lease: killLease}, func(ctx context.Context, _ kmskeytest.Call) error {
		if calls.Add(-1) == 0 {
			die()
		}
		if rand.IntN(4) > 0 {
			return nil
		}
		return nap(ctx, rand.N(2*time.Millisecond))
	})
	fmt.Fprintln(os.Stderr, "rotator:", err)
	os.Exit(3)
}

func nap(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rotateForever moves the table to the version that kill_target names, and then to the next one.
func rotateForever(ctx context.Context, dsn, who string, tracer pgx.QueryTracer, cfg rotation.Config, before func(context.Context, kmskeytest.Call) error) error {
	pool, err := killPool(dsn, who, tracer)
	if err != nil {
		return err
	}
	defer pool.Close()
	db, err := gorm.Open(dialector(postgres, pool), &gorm.Config{})
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := rotateOnce(ctx, db, cfg, before); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func rotateOnce(ctx context.Context, db *gorm.DB, cfg rotation.Config, before func(context.Context, kmskeytest.Call) error) error {
	var target int
	if err := db.WithContext(ctx).Raw("SELECT version FROM kill_target").Scan(&target).Error; err != nil {
		return err
	}
	// A run that began just before the target moved on is finished first.
	runs, err := rotation.Runs(ctx, db)
	if err != nil {
		return err
	}
	version := target
	for _, r := range runs {
		if r.State == "running" {
			report, err := rotation.ReportOf(ctx, db, r.ID)
			if err != nil {
				return err
			}
			version = report.Version
		}
	}
	if cfg.Keys, err = killKeys(1, version, before); err != nil {
		return err
	}
	_, err = rotation.RotateKMSKey(ctx, db, &KillDoc{}, cfg)
	switch {
	case err == nil && version == target:
		return db.WithContext(ctx).Exec("UPDATE kill_target SET version = version + 1 WHERE version = ?", target).Error
	case err != nil && !strings.Contains(err.Error(), "and this keyring's current one is"): // the others have gone on
		return err
	}
	return nil
}

// killPoints are where programs are killed that are not killed at a random time, and up to which time at that point.
var killPoints = []struct {
	at   string
	most int
}{
	{"before begin", 8}, {"after begin", 8}, {"before commit", 8}, {"after commit", 8},
	{"before UPDATE \"kill_docs\"", 8}, {"after UPDATE \"kill_docs\"", 8}, {"after FROM \"kill_docs\" WHERE", 8}, // a page was read
	{"before plan_cursor = ", 1}, {"after plan_cursor = ", 1}, {"after INSERT INTO rowseal_ranges", 2}, {"after INSERT INTO rowseal_runs", 1}, {"after INSERT INTO rowseal_events", 1},
	{"after SET fence = fence + 1", 2}, {"before seen = seen + ", 6}, {"after seen = seen + ", 6}, {"after lease_ms = 0", 2},
	{"after rowseal_failures WHERE run_id = $1 AND class", 2}, {"after DELETE FROM rowseal_failures", 3}, {"before DELETE FROM rowseal_failures", 3}, {"after INSERT INTO rowseal_failures", 2},
	{"before SET state = ", 1}, {"after SET state = ", 1}, {"before SET report = ", 1}, {"after SET report = ", 1}, {"before UPDATE kill_target", 1},
	{"kms", 2000},
}

const killAudit = `
CREATE TABLE kill_target (version int);
INSERT INTO kill_target VALUES (2);
CREATE TABLE kill_audit (n bigserial, row_id bigint, key_column text, was text, became text, who text, run text);
CREATE FUNCTION kill_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	-- The range whose row this very transaction has written: the walk holds it before it stores a page.
	held text := (SELECT string_agg(DISTINCT run_id, ',') FROM rowseal_ranges WHERE xmin = pg_current_xact_id()::xid);
BEGIN
	INSERT INTO kill_audit (row_id, key_column, was, became, who, run)
		SELECT o.id, 'encrypted_kms_key', split_part(o.encrypted_kms_key, ':', 1), split_part(n.encrypted_kms_key, ':', 1), current_setting('application_name'), held
		FROM old_rows o JOIN new_rows n USING (id) WHERE o.encrypted_kms_key IS DISTINCT FROM n.encrypted_kms_key
		UNION ALL
		SELECT o.id, 'encrypted_kms_key_phone', split_part(o.encrypted_kms_key_phone, ':', 1), split_part(n.encrypted_kms_key_phone, ':', 1), current_setting('application_name'), held
		FROM old_rows o JOIN new_rows n USING (id) WHERE o.encrypted_kms_key_phone IS DISTINCT FROM n.encrypted_kms_key_phone;
	RETURN NULL;
END $$;
CREATE TRIGGER kill_note AFTER UPDATE ON kill_docs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION kill_note();`

// killTable is the table as its writers know it: the number in each row's Name, once the database has acknowledged it.
type killTable struct {
	acked []atomic.Int64 // by id: 0 is no row, -1 a deleted one
	next  atomic.Uint64  // id
	dsn   string

	mu  sync.Mutex
	dbs map[int]*gorm.DB // by current version
}

// at is the database as a program has it whose keyring stands at a version.
func (k *killTable) at(t testing.TB, pool *sql.DB, current int) *gorm.DB {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dbs[current] == nil {
		keys, err := killKeys(1, current, nil)
		ok(t, err)
		db := silent(t, postgres, pool)
		use(t, db, keys, &KillDoc{})
		k.dbs[current] = db
	}
	return k.dbs[current]
}

func (k *killTable) doc(id uint64, n int64) *KillDoc {
	return &KillDoc{ID: id, Name: fmt.Sprintf("%d %d", id, n), Phone: fmt.Sprintf("phone %d", id)}
}

func (k *killTable) number(d KillDoc) (n int64, err error) {
	var id uint64
	if _, err := fmt.Sscanf(d.Name, "%d %d", &id, &n); err != nil || id != d.ID || d.Phone != fmt.Sprintf("phone %d", d.ID) {
		return 0, fmt.Errorf("row %d holds %q, %q", d.ID, d.Name, d.Phone)
	}
	return n, nil
}

// write does one thing to a row of this writer's own.
func (k *killTable) write(t testing.TB, pool *sql.DB, version int, id uint64, what int) error {
	// Some programs are a version behind. Rotate is the work of those that are not.
	if what%2 == 0 && what != 0 {
		version = max(1, version-1)
	}
	db := k.at(t, pool, version)
	was := k.acked[id].Load()
	if was < 0 {
		return nil
	}
	switch {
	case what == 0:
		err := rowseal.Rotate(t.Context(), db, &KillDoc{ID: id})
		if errors.Is(err, rowseal.ErrStaleKey) {
			return nil
		}
		return err
	case what == 1:
		id := k.next.Add(1)
		if int(id) >= len(k.acked) {
			return nil
		}
		err := db.Create(k.doc(id, 1)).Error
		if err == nil {
			k.acked[id].Store(1)
		}
		return err
	case what == 2:
		k.acked[id].Store(-1) // before: a reader may find it gone from now on
		return db.Delete(&KillDoc{ID: id}).Error
	case what < 6:
		var d KillDoc
		if err := db.First(&d, id).Error; err != nil {
			return err
		}
		d.Name = fmt.Sprintf("%d %d", id, was+1)
		if err := db.Save(&d).Error; err != nil {
			return err
		}
	default:
		if err := db.Model(&KillDoc{ID: id}).Update("name", fmt.Sprintf("%d %d", id, was+1)).Error; err != nil {
			return err
		}
	}
	k.acked[id].Store(was + 1)
	return nil
}

// TestRotationKilled is 200 kills, which take a good minute; 60 under the race detector, and 20 with -short or in FIPS mode, which changes nothing of what is killed.
func TestRotationKilled(t *testing.T) {
	kills, rows := int64(200), uint64(15_000) // two ranges
	switch {
	case testing.Short(), fips140.Enabled():
		kills = 20
	case raceDetector:
		kills = 60
	}
	dsn := pgtest.DSN(t)
	pool, err := killPool(dsn, "writer", nil)
	ok(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	pool.SetMaxOpenConns(20)
	k := &killTable{acked: make([]atomic.Int64, 2*rows), dsn: dsn, dbs: map[int]*gorm.DB{}}
	first := k.at(t, pool, 1)
	ok(t, first.AutoMigrate(&KillDoc{}))
	_, err = migrations.Up(t.Context(), first)
	ok(t, err)
	var docs []*KillDoc
	for range rows {
		id := k.next.Add(1)
		docs = append(docs, k.doc(id, 1))
		k.acked[id].Store(1)
	}
	ok(t, first.CreateInBatches(docs, 1000).Error)
	docs = nil
	_, err = pool.Exec(killAudit)
	ok(t, err)
	target := func() (v int) {
		ok(t, pool.QueryRow("SELECT version FROM kill_target").Scan(&v))
		return v
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var beside sync.WaitGroup
	var writes, reads, stale atomic.Int64
	const writers = 3
	for w := range uint64(writers) {
		beside.Go(func() {
			for ctx.Err() == nil {
				id := (rand.Uint64N(min(k.next.Load(), uint64(len(k.acked)-writers))/writers) * writers) + w + 1
				if k.acked[id].Load() <= 0 {
					continue
				}
				switch err := k.write(t, pool, target(), id, rand.IntN(30)); {
				case errors.Is(err, rowseal.ErrStaleKey):
					stale.Add(1)
				case err != nil:
					t.Errorf("writer: %v", err)
					return
				}
				writes.Add(1)
				_ = nap(ctx, time.Millisecond) // the machine is for the rotators
			}
		})
	}
	beside.Go(func() {
		for ctx.Err() == nil {
			id := 1 + rand.Uint64N(min(k.next.Load(), uint64(len(k.acked)-1)))
			least := k.acked[id].Load()
			var d KillDoc
			err := k.at(t, pool, target()).First(&d, id).Error
			if errors.Is(err, gorm.ErrRecordNotFound) && (least == 0 || k.acked[id].Load() < 0) {
				continue
			}
			if err == nil {
				var n int64
				if n, err = k.number(d); err == nil && n < least {
					err = fmt.Errorf("row %d has write %d, and %d was acknowledged", id, n, least)
				}
			}
			if err != nil {
				t.Errorf("reader: %v", err)
				return
			}
			reads.Add(1)
			_ = nap(ctx, time.Millisecond)
		}
	})
	// The second rotation lives, and takes over what the dead leave behind. Now and then it is stopped in order.
	beside.Go(func() {
		cfg := rotation.Config{Calls: 8, MaxPage: 200, Lease: killLease}
		for ctx.Err() == nil {
			brief, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			if err := rotateForever(brief, dsn, "living", nil, cfg, nil); err != nil && brief.Err() == nil {
				t.Errorf("the second rotation: %v", err)
			}
			cancel()
			_ = nap(ctx, time.Second)
		}
	})

	// The rotators that die, several at a time.
	var killers sync.WaitGroup
	var begun, dead, self atomic.Int64
	var mu sync.Mutex
	where := map[string]int{}
	for range 2 {
		killers.Go(func() {
			for n := begun.Add(1); n <= kills; n = begun.Add(1) {
				// Every second one at a point, if it comes there in time.
				point, wait := "", 20*time.Millisecond+rand.N(400*time.Millisecond)
				if n%2 == 0 {
					p := killPoints[int(n/2)%len(killPoints)]
					point, wait = fmt.Sprintf("%d %s", 1+rand.IntN(p.most), p.at), time.Second
				}
				itself, err := killOne(ctx, dsn, point, wait)
				if err != nil {
					t.Errorf("kill %d (%s): %v", n, point, err)
					return
				}
				dead.Add(1)
				if itself {
					self.Add(1)
					mu.Lock()
					where[point[strings.IndexByte(point, ' ')+1:]]++
					mu.Unlock()
				}
			}
		})
	}
	killers.Wait()
	stop()
	beside.Wait()
	if t.Failed() {
		return
	}

	// One more that nobody kills, and that nobody writes beside: everything is at its version then.
	db := silent(t, postgres, pool)
	last := target()
	for target() < last+2 {
		ok(t, rotateOnce(t.Context(), db, rotation.Config{Lease: killLease}, nil))
	}
	last++
	keys, err := killKeys(last, last, nil)
	ok(t, err)
	only := silent(t, postgres, pool)
	use(t, only, keys, &KillDoc{}) // this has the last version alone, and those after it, which no row is under
	var got []KillDoc
	ok(t, only.Find(&got).Error)
	found := map[uint64]bool{}
	for _, d := range got {
		n, err := k.number(d)
		if acked := k.acked[d.ID].Load(); err != nil || n != acked {
			t.Errorf("row %d: write %d, and %d was acknowledged: %v", d.ID, n, acked, err)
		}
		found[d.ID] = true
	}
	for id := range k.acked {
		if k.acked[id].Load() > 0 && !found[uint64(id)] {
			t.Errorf("row %d is lost", id)
		}
	}
	moved := k.agree(t, pool, only)
	t.Logf("%d killed, %d of them at a point; %d keys moved to %d versions; %d writes (%d refused as stale), %d reads", dead.Load(), self.Load(), moved, last, writes.Load(), stale.Load(), reads.Load())
	for _, p := range slices.Sorted(maps.Keys(where)) {
		t.Logf("  %3d %s", where[p], p)
	}
	if self.Load() == 0 { // how many depends on how busy the machine is
		t.Error("none died at its point")
	}
}

// killOne runs a rotator and kills it, after wait at the latest. itself says that it came to its own point before.
func killOne(ctx context.Context, dsn, point string, wait time.Duration) (itself bool, err error) {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), killDSN+"="+dsn, killPoint+"="+point)
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return false, err
	}
	var sent atomic.Bool
	timer := time.AfterFunc(wait, func() {
		sent.Store(true)
		_ = cmd.Process.Kill()
	})
	defer timer.Stop()
	err = cmd.Wait()
	if status, isWait := cmd.ProcessState.Sys().(syscall.WaitStatus); isWait && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return !sent.Load(), nil
	}
	return false, fmt.Errorf("it was not killed: %w: %s", err, stderr.String())
}

// agree holds the ledger of every run against what the database itself has noted, and gives the number of keys that were moved.
func (k *killTable) agree(t *testing.T, pool *sql.DB, db *gorm.DB) (moved int64) {
	t.Helper()
	noted := map[string]int64{}
	var twice, strange int64
	query := func(dest []any, text string, each func()) {
		rows, err := pool.Query(text)
		ok(t, err)
		defer rows.Close()
		for rows.Next() {
			ok(t, rows.Scan(dest...))
			each()
		}
		ok(t, rows.Err())
	}
	var run string
	var n int64
	query([]any{&run, &n}, "SELECT run, COUNT(*) FROM kill_audit WHERE run IS NOT NULL GROUP BY run", func() { noted[run] = n })
	ok(t, pool.QueryRow("SELECT COUNT(*) FROM (SELECT 1 FROM kill_audit WHERE run IS NOT NULL GROUP BY run, row_id, key_column HAVING COUNT(*) > 1) AS x").Scan(&twice))
	// A program that only rotates changes keys while it holds a range, and never into what they are.
	ok(t, pool.QueryRow("SELECT COUNT(*) FROM kill_audit WHERE who <> 'writer' AND run IS NULL OR run IS NOT NULL AND was = became").Scan(&strange))
	if twice != 0 {
		t.Errorf("%d keys were moved twice by one run", twice)
	}
	if strange != 0 {
		t.Errorf("%d changes of keys are none that a run or a writer makes", strange)
	}
	runs, err := rotation.Runs(t.Context(), db)
	ok(t, err)
	for _, r := range runs {
		report, err := rotation.ReportOf(t.Context(), db, r.ID)
		ok(t, err)
		addsUp(t, report)
		if r.State != "done" || report.Failed != 0 {
			t.Errorf("run %s is %s, %d failed: %v", r.ID, r.State, report.Failed, report.Failures)
		}
		if noted[r.ID] != report.Rewrapped {
			t.Errorf("run %s says that it moved %d keys, and the database noted %d", r.ID, report.Rewrapped, noted[r.ID])
		}
		moved += report.Rewrapped
		delete(noted, r.ID)
		t.Logf("run %s to version %d: %d seen, %d rewrapped, %d current, %d raced, %d gone", r.ID, report.Version, report.Seen, report.Rewrapped, report.Current, report.Raced, report.Gone)
	}
	if len(noted) != 0 {
		t.Errorf("runs that the ledger does not have: %v", noted)
	}
	return moved
}
