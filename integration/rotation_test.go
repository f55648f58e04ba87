package integration

// rotation_test.go owns rotations of whole tables: that every row is moved or named, and that the counts say just what happened.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// RotDoc has a soft delete, a timestamp, a hook and two key columns.
type RotDoc struct {
	ID        uint64
	Ward      string
	Name      string  `gorm:"serializer:rowseal"`
	Phone     *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	UpdatedAt time.Time
	DeletedAt gorm.DeletedAt
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

func (*RotDoc) BeforeUpdate(*gorm.DB) error { return errors.New("a rotation ran a hook") }

// RotText, RotPair and RotUUID have other kinds of primary key.
type RotText struct {
	Code string `gorm:"primaryKey;size:64"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotPair struct {
	Tenant string `gorm:"primaryKey;size:40"`
	N      int64  `gorm:"primaryKey;autoIncrement:false"`
	Name   string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotUUID struct {
	ID   uuid.UUID `gorm:"primaryKey;type:uuid"`
	Name string    `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// rotating is a table under version 1, and the programs that share it.
type rotating struct {
	w        *world
	old, new *kmskeytest.Counter
	file     string // of the new key
	model    any
}

func newRotating(t testing.TB, kind string, model any) *rotating {
	t.Helper()
	file := t.TempDir() + "/next"
	next, err := localkey.Generate(file)
	ok(t, err)
	r := &rotating{old: kmskeytest.NewCounter(localkey.NewInsecure()), new: kmskeytest.NewCounter(next), file: file, model: model}
	r.w = openWith(t, kind, r.keys(t, 1), rowseal.Config{Models: []any{model}}, &gorm.Config{})
	_, err = migrations.Up(t.Context(), r.w.db)
	ok(t, err)
	return r
}

func (r *rotating) keys(t testing.TB, current int) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Current: current, Namespace: "rotating", Versions: map[int]kmskey.Version{1: {Provider: r.old.Provider()}, 2: {Provider: r.new.Provider()}}})
	ok(t, err)
	return keys
}

// only is a keyring without the old version.
func (r *rotating) only(t testing.TB) *gorm.DB {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Namespace: "rotating", Versions: map[int]kmskey.Version{2: {Provider: r.new.Provider()}}})
	ok(t, err)
	return r.with(t, keys)
}

func (r *rotating) at(t testing.TB, current int) *gorm.DB { return r.with(t, r.keys(t, current)) }

func (r *rotating) with(t testing.TB, keys *kmskey.Keyring) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector(r.w.kind, r.w.plain), &gorm.Config{Logger: r.w.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{r.model}})
	ok(t, err)
	ok(t, db.Use(plugin))
	return db
}

// adds up checks that the counts of a report leave nothing out.
func addsUp(t testing.TB, r *rotation.Report) {
	t.Helper()
	if r.Seen != r.Rewrapped+r.Current+r.Raced+r.Gone+r.Failed {
		t.Errorf("the counts do not add up: %+v", r)
	}
}

func TestRotationMovesEveryRow(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotDoc{})
		const rows = 1234
		docs := make([]RotDoc, rows)
		for i := range docs {
			docs[i] = RotDoc{Ward: "w", Name: fmt.Sprint("name ", i), Phone: new(fmt.Sprint("phone ", i))}
		}
		ok(t, r.w.db.CreateInBatches(&docs, 500).Error)
		ok(t, r.w.db.Delete(&docs[7]).Error) // soft
		r.w.tamper(t, "UPDATE rot_docs SET name = NULL, encrypted_kms_key = NULL WHERE id = ?", docs[9].ID)
		var before []RotDoc
		ok(t, rowseal.Sealed(r.w.db).Unscoped().Order("id").Find(&before).Error)
		ciphertext := string(r.w.cell(t, "rot_docs", "name", docs[3].ID))

		var last rotation.Progress
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotDoc{}, rotation.Config{Progress: func(p rotation.Progress) { last = p }})
		ok(t, err)
		addsUp(t, report)
		if report.Seen != 2*rows-1 || report.Rewrapped != 2*rows-1 || report.Calls != 2*(2*rows-1) || report.Exposed != 2*rows-1 || report.State != "done" {
			t.Errorf("%+v", report)
		}
		if last.Seen != report.Seen || last.Changed != report.Rewrapped || last.State != "done" {
			t.Errorf("the last progress is %+v", last)
		}
		var after []RotDoc
		ok(t, r.only(t).Unscoped().Order("id").Find(&after).Error)
		for i, d := range after {
			if i != 9 && (d.Name != fmt.Sprint("name ", i)) || *d.Phone != fmt.Sprint("phone ", i) || !d.UpdatedAt.Equal(before[i].UpdatedAt) {
				t.Fatalf("row %d: %+v", i, d)
			}
		}
		if string(r.w.cell(t, "rot_docs", "name", docs[3].ID)) != ciphertext {
			t.Error("a field was touched")
		}

		// What is current needs no call, and the second run says so.
		calls := r.old.Calls() + r.new.Calls()
		again, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotDoc{}, rotation.Config{})
		ok(t, err)
		addsUp(t, again)
		if again.Rewrapped != 0 || again.Current != 2*rows-1 || again.Run == report.Run || r.old.Calls()+r.new.Calls()-calls > 2 { // the one row of the preflight
			t.Errorf("%+v, %d calls", again, r.old.Calls()+r.new.Calls()-calls)
		}
		held, err := rotation.Status(t.Context(), r.at(t, 2), &RotDoc{}, rotation.Config{})
		ok(t, err)
		for _, h := range held {
			if h.Version != 2 && !(h.Version == 0 && h.Column == "encrypted_kms_key" && h.Rows == 1) {
				t.Errorf("%+v", h)
			}
		}
		var table bytes.Buffer
		ok(t, report.WriteTable(&table))
		js, err := json.Marshal(report)
		ok(t, err)
		t.Logf("%s\n%s", table.String(), js)
	})
}

func rotateKind[T any](t *testing.T, kind string, model any, make func(i int) T, holds func(i int, row T) bool) {
	t.Helper()
	r := newRotating(t, kind, model)
	const rows = 700
	all := []T{}
	for i := range rows {
		all = append(all, make(i))
	}
	ok(t, r.w.db.CreateInBatches(&all, 350).Error)
	report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), model, rotation.Config{MaxPage: 60})
	ok(t, err)
	addsUp(t, report)
	if report.Rewrapped != rows {
		t.Errorf("%+v", report)
	}
	only := r.only(t)
	for i := range rows {
		got := make(i)
		ok(t, only.Take(&got).Error)
		if !holds(i, got) {
			t.Fatalf("row %d: %+v", i, got)
		}
	}
}

func TestRotationByAnyPrimaryKey(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		// Letters of several scripts, quotes, and what JSON and arrays give a meaning to.
		code := func(i int) string { return fmt.Sprintf("k%c'\"\\{},%d é", 'a'+i%26, i) }
		rotateKind(t, kind, &RotText{}, func(i int) RotText { return RotText{Code: code(i), Name: fmt.Sprint(i)} }, func(i int, r RotText) bool { return r.Name == fmt.Sprint(i) })
		rotateKind(t, kind, &RotPair{}, func(i int) RotPair {
			return RotPair{Tenant: fmt.Sprint("t", i%7), N: int64(i + 1), Name: fmt.Sprint(i)}
		}, func(i int, r RotPair) bool { return r.Name == fmt.Sprint(i) })
		if isMySQL(kind) {
			return // whose uuid type is MariaDB's alone
		}
		id := numbered
		rotateKind(t, kind, &RotUUID{}, func(i int) RotUUID { return RotUUID{ID: id(i), Name: fmt.Sprint(i)} }, func(i int, r RotUUID) bool { return r.Name == fmt.Sprint(i) })
	})
}

func TestRotationNamesWhatFails(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		r.w.dropChecks(t, &RotText{})
		var all []RotText
		for i := range 300 {
			all = append(all, RotText{Code: fmt.Sprintf("c%03d", i), Name: fmt.Sprint(i)})
		}
		ok(t, r.w.db.Create(&all).Error)
		other := string(r.w.plainCell(t, "rot_texts", "encrypted_kms_key", "code", "c007"))
		damaged := []byte(string(r.w.plainCell(t, "rot_texts", "encrypted_kms_key", "code", "c100")))
		damaged[len(damaged)-5] ^= 1
		r.w.tamper(t, "UPDATE rot_texts SET encrypted_kms_key = ? WHERE code = 'c008'", other) // of another row
		r.w.tamper(t, "UPDATE rot_texts SET encrypted_kms_key = ? WHERE code = 'c100'", string(damaged))
		r.w.tamper(t, "UPDATE rot_texts SET encrypted_kms_key = 'v1:nonsense' WHERE code = 'c200'")
		r.w.tamper(t, "UPDATE rot_texts SET encrypted_kms_key = 'pending:AAAAAAAAAAAAAAAAAAAAAA' WHERE code = 'c201'")
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		var partial *rotation.PartialError
		if !errors.As(err, &partial) || partial.Report != report {
			t.Fatal(err)
		}
		addsUp(t, report)
		if report.Failed != 4 || report.Rewrapped != 296 || len(report.Failures) != 4 || report.State != "done" {
			t.Fatalf("%+v", report)
		}
		rows := map[string]string{}
		for _, f := range report.Failures {
			rows[f.Row] = f.Class
		}
		if rows["c008"] != "context_mismatch" || rows["c200"] != "corrupt" || rows["c201"] != "pending" || rows["c100"] == "" {
			t.Errorf("%v", rows)
		}
		if !strings.Contains(err.Error(), "4 could not be") || !strings.Contains(err.Error(), "c0") {
			t.Error(err)
		}
		if string(r.w.plainCell(t, "rot_texts", "encrypted_kms_key", "code", "c008")) != other {
			t.Error("a row that failed was changed")
		}
		// A budget stops a run that goes wrong.
		r.w.tamper(t, "UPDATE rot_texts SET encrypted_kms_key = 'v1:nonsense'")
		_, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Budget: 20, MaxPage: 50, Rate: 100})
		var partly *rotation.PartialError
		if !errors.Is(err, rotation.ErrBudget) && !errors.As(err, &partly) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRotationIsRefusedBeforeTheFirstRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		fake := awskmstest.New(t, awskmstest.Config{})
		oldARN, nextARN := fake.CreateKey(), fake.CreateKey()
		keys := func(current int, versions ...int) *kmskey.Keyring {
			cfg := kmskey.Config{Current: current, Versions: map[int]kmskey.Version{}}
			for _, n := range versions {
				p, err := awskms.New(fake.Client(), map[int]string{1: oldARN, 2: nextARN}[n], awskms.Config{})
				ok(t, err)
				cfg.Versions[n] = kmskey.Version{Provider: p}
			}
			k, err := kmskey.New(cfg)
			ok(t, err)
			return k
		}
		w := openWith(t, kind, keys(1, 1), rowseal.Config{Models: []any{&RotText{}}}, &gorm.Config{})
		ok(t, w.db.Create(&RotText{Code: "a", Name: "a"}).Error)
		before := w.dump(t, "rot_texts")
		rotate := func(k *kmskey.Keyring, model any, cfg rotation.Config) error {
			cfg.Keys = k
			_, err := rotation.RotateKMSKey(t.Context(), w.db, model, cfg)
			if w.dump(t, "rot_texts") != before {
				t.Error("the table changed")
			}
			return err
		}
		fails(t, rotate(keys(2, 1, 2), &RotText{}, rotation.Config{}), rotation.ErrNoLedger, "migrations.Up")
		_, err := migrations.Up(t.Context(), w.db)
		ok(t, err)
		fails(t, rotate(keys(2, 2), &RotText{}, rotation.Config{}), kmskey.ErrUnknownVersion, "1 of encrypted_kms_key are under version 1", "the keyring has [2]")
		ok(t, fake.DisableKey(nextARN))
		fails(t, rotate(keys(2, 1, 2), &RotText{}, rotation.Config{}), kmskey.ErrDisabled, "before the first row")
		ok(t, fake.EnableKey(nextARN))
		if err := rotate(keys(2, 1, 2), &RotText{}, rotation.Config{Columns: []string{"nothing"}}); err == nil || !strings.Contains(err.Error(), `no key column "nothing"`) {
			t.Error(err)
		}
		type Plain struct{ ID int }
		if err := rotate(keys(2, 1, 2), &Plain{}, rotation.Config{}); err == nil || !strings.Contains(err.Error(), "no key column") {
			t.Error(err)
		}
		type Nowhere struct {
			ID   int
			Name string `gorm:"serializer:rowseal"`
			rowseal.RowKey
		}
		if err := rotate(keys(2, 1, 2), &Nowhere{}, rotation.Config{}); err == nil {
			t.Error("a table that is not there")
		} else {
			t.Log(err)
		}
		runs, err := rotation.Runs(t.Context(), w.db)
		ok(t, err)
		if len(runs) != 0 {
			t.Errorf("%d runs were written down", len(runs))
		}
	})
}

// TestRotationByAnotherService: a rotator that may not decrypt.
func TestRotationWithoutDecrypt(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		_, err := migrations.Up(t.Context(), d.world.db)
		ok(t, err)
		for range 25 {
			d.create(t)
		}
		rotator := d.keys(t, 2, "kms:ReEncryptFrom", "kms:ReEncryptTo")
		d.fake.ResetCounts()
		report, err := rotation.RotateKMSKey(t.Context(), d.world.db, &RoleDoc{}, rotation.Config{Keys: rotator})
		ok(t, err)
		addsUp(t, report)
		if report.Rewrapped != 25 || report.Exposed != 0 || d.fake.Calls("ReEncrypt") != 26 || d.fake.TotalCalls() != 26 {
			t.Errorf("%+v, %d calls", report, d.fake.TotalCalls())
		}
	})
}

// TestRotationIsPaused: at the next page, not at the end of the range, and by any process.
func TestRotationIsPaused(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		const rows = 1200
		var all []RotText
		for i := range rows {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "0"})
		}
		ok(t, r.w.db.CreateInBatches(&all, 500).Error)
		for i, end := range []func(id string) error{
			func(id string) error { return rotation.Pause(t.Context(), r.w.db, id, "lunch") },
			func(id string) error { return rotation.Cancel(t.Context(), r.w.db, id, "enough") },
		} {
			once := sync.OnceFunc(func() {
				runs, err := rotation.Runs(t.Context(), r.w.db)
				ok(t, err)
				ok(t, end(runs[0].ID))
			})
			report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{MaxPage: 50, Rate: 200, Progress: func(p rotation.Progress) {
				if p.Changed > 0 {
					once()
				}
			}})
			if i == 0 && !errors.Is(err, rotation.ErrPaused) || err == nil || !strings.Contains(err.Error(), []string{"(lunch)", "cancelled"}[i]) {
				t.Fatal(err)
			}
			if report == nil || report.Seen == rows || report.Rewrapped == 0 {
				t.Fatalf("%+v", report)
			}
			if i == 0 {
				_, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
				fails(t, err, rotation.ErrPaused, "lunch")
				ok(t, rotation.Resume(t.Context(), r.w.db, report.Run))
			}
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		addsUp(t, report)
		if report.Current+report.Rewrapped != rows || report.Current == 0 {
			t.Errorf("%+v", report)
		}
	})
}

// numbered is a UUID for each number, in no order.
func numbered(i int) uuid.UUID {
	sum := sha256.Sum256([]byte(fmt.Sprint(i)))
	return uuid.UUID(sum[:16])
}

// TestRotationSharesAndResumes: several programs at once on one run, each stopped again and again, with writers beside them.
func TestRotationSharesAndResumes(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		rows := 2500
		if kind == sqliteGo {
			rows = 800 // one writer at a time, so all of it takes longer
		}
		var all []RotText
		for i := range rows {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "0"})
		}
		ok(t, r.w.db.CreateInBatches(&all, 500).Error)
		var stop atomic.Bool
		var writers, rotators sync.WaitGroup
		for i := range 2 {
			db := r.at(t, 1+i)
			writers.Go(func() {
				for n := i; !stop.Load(); n = (n + 17) % rows {
					err := db.Model(&RotText{Code: fmt.Sprintf("c%05d", n)}).Update("name", "w").Error
					busy := err != nil && kind == sqliteGo && strings.Contains(err.Error(), "SQLITE_BUSY") // it has one writer at a time, and no queue for them
					if err != nil && !busy && !errors.Is(err, rowseal.ErrStaleKey) {
						t.Errorf("writer: %v", err)
						return
					}
				}
			})
		}
		var stops atomic.Int32
		var reports sync.Map
		for range 3 {
			db := r.at(t, 2)
			rotators.Go(func() {
				for {
					// Longer each time, so that a slow machine comes to an end too.
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond+time.Duration(stops.Load())*5*time.Millisecond)
					report, err := rotation.RotateKMSKey(ctx, db, &RotText{}, rotation.Config{MaxPage: 50, Lease: 500 * time.Millisecond})
					cancel()
					if err == nil {
						reports.Store(report.Run, report)
						return
					}
					if ctx.Err() == nil {
						t.Errorf("rotator: %v", err)
						return
					}
					if stops.Add(1) > 500 {
						t.Error("no end")
						return
					}
				}
			})
		}
		rotators.Wait()
		stop.Store(true)
		writers.Wait()
		// What writers of version 1 left behind is moved by one more.
		last, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		addsUp(t, last)
		runs, err := rotation.Runs(t.Context(), r.w.db)
		ok(t, err)
		for _, run := range runs {
			report, err := rotation.ReportOf(t.Context(), r.w.db, run.ID)
			ok(t, err)
			addsUp(t, report)
			if report.Seen != int64(rows) {
				t.Errorf("run %s saw %d keys", run.ID, report.Seen)
			}
		}
		var got []RotText
		ok(t, r.only(t).Find(&got).Error)
		if len(got) != rows {
			t.Errorf("%d rows", len(got))
		}
		t.Logf("stopped %d times in %d runs", stops.Load(), len(runs))
	}, postgres, mariadb, sqliteGo)
}

func TestRotationVerify(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotDoc{})
		r.w.dropChecks(t, &RotDoc{})
		var docs []RotDoc
		for i := range 400 {
			docs = append(docs, RotDoc{Name: fmt.Sprint(i), Phone: new("p")})
		}
		ok(t, r.w.db.CreateInBatches(&docs, 200).Error)
		verify := func(db *gorm.DB, sample int) *rotation.Verification {
			t.Helper()
			v, err := rotation.Verify(t.Context(), db, &RotDoc{}, sample, rotation.Config{})
			ok(t, err)
			return v
		}
		if v := verify(r.at(t, 1), 0); !v.Clean() || v.Rows != 400 || v.Keys != 800 || v.Fields != 800 {
			t.Errorf("%+v", v)
		}
		if v := verify(r.at(t, 2), 0); v.Clean() || v.Behind != 800 || v.Failed != 0 {
			t.Errorf("%+v", v)
		}
		if v := verify(r.at(t, 1), 50); !v.Clean() || v.Rows < 10 || v.Rows > 150 || v.Of != 800 {
			t.Errorf("a sample of %d rows: %+v", v.Rows, v)
		}
		_, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotDoc{}, rotation.Config{})
		ok(t, err)
		if v := verify(r.only(t), 0); !v.Clean() || v.Keys != 800 || v.Fields != 800 {
			t.Errorf("%+v", v)
		}
		// A field that was altered, a key of another row, a row without its key, plaintext.
		name := r.w.cell(t, "rot_docs", "name", docs[3].ID)
		name[len(name)-1] ^= 1
		r.w.tamper(t, "UPDATE rot_docs SET name = ? WHERE id = ?", name, docs[3].ID)
		r.w.tamper(t, "UPDATE rot_docs SET encrypted_kms_key = ? WHERE id = ?", string(r.w.cell(t, "rot_docs", "encrypted_kms_key", docs[5].ID)), docs[4].ID)
		r.w.tamper(t, "UPDATE rot_docs SET encrypted_kms_key = NULL WHERE id = ?", docs[6].ID)
		r.w.tamper(t, "UPDATE rot_docs SET name = ? WHERE id = ?", []byte("plain text"), docs[7].ID)
		before := r.w.dump(t, "rot_docs")
		held, err := rotation.Status(t.Context(), r.only(t), &RotDoc{}, rotation.Config{})
		ok(t, err)
		if len(held) != 3 || held[0].Service != "orphan" || held[0].Version != 0 || held[0].Rows != 1 || held[1].Rows != 399 {
			t.Errorf("%+v", held)
		}
		v := verify(r.only(t), 0)
		found := map[string]string{}
		for _, f := range v.Failures {
			found[f.Row] = f.Class
			if strings.Contains(f.Message, "plain text") {
				t.Error(f.Message)
			}
		}
		id := func(i int) string { return fmt.Sprint(docs[i].ID) }
		if v.Failed != 4 || v.Orphans != 1 || found[id(3)] != "field" || found[id(4)] != "context_mismatch" || found[id(6)] != "orphan" || found[id(7)] != "field" {
			t.Errorf("%+v %v", v, found)
		}
		if r.w.dump(t, "rot_docs") != before {
			t.Error("it changed the table")
		}
	})
}

func TestRotationPauseResumeCancel(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		var all []RotText
		for i := range 600 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "0"})
		}
		ok(t, r.w.db.CreateInBatches(&all, 300).Error)
		// The service stops in the middle, so that there is a middle.
		var calls atomic.Int32
		arrived, free := make(chan struct{}), make(chan struct{})
		r.new.Before = func(ctx context.Context, c kmskeytest.Call) error {
			if calls.Add(1) == 150 {
				close(arrived)
			}
			if calls.Load() >= 150 {
				select {
				case <-free:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		rotate := func() (*rotation.Report, error) {
			return rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{MaxPage: 50})
		}
		type result struct {
			report *rotation.Report
			err    error
		}
		done := make(chan result, 1)
		go func() { report, err := rotate(); done <- result{report, err} }()
		<-arrived
		runs, err := rotation.Runs(t.Context(), r.w.db)
		ok(t, err)
		if len(runs) != 1 || runs[0].State != "running" {
			t.Fatalf("%+v", runs)
		}
		ok(t, rotation.Pause(t.Context(), r.w.db, runs[0].ID, "a deploy"))
		close(free)
		got := <-done
		if got.err == nil || got.report == nil || got.report.State != "paused" || got.report.Rewrapped == 0 || got.report.Rewrapped == 600 {
			t.Fatalf("%+v, %v", got.report, got.err)
		}
		_, err = rotate()
		fails(t, err, rotation.ErrPaused, "a deploy", "resume or cancel it first")
		ok(t, rotation.Resume(t.Context(), r.w.db, runs[0].ID))
		report, err := rotate()
		ok(t, err)
		addsUp(t, report)
		if report.Run != runs[0].ID || report.Rewrapped != 600 {
			t.Errorf("%+v", report)
		}
		if err := rotation.Cancel(t.Context(), r.w.db, runs[0].ID, ""); err == nil || !strings.Contains(err.Error(), "is done, and cannot become cancelled") {
			t.Error(err)
		}
		fails(t, rotation.Pause(t.Context(), r.w.db, "nothing", ""), rotation.ErrNoRun)
	})
}
