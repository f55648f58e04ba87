package integration

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// Holder is a model whose rows have a tenant.
type Holder struct {
	ID       uint64
	TenantID string `gorm:"size:64"`
	Name     string `gorm:"serializer:rowseal"`
	Email    string `gorm:"serializer:rowseal"`
	Note     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

var holderModel = rowseal.Model{Value: &Holder{}, Context: rowseal.Columns("tenant_id")}

// branched is a table of holders and what wraps their keys: version 1 a key service itself, versions 2 and 3 generations of branch keys, which another
// key of the service wraps.
type branched struct {
	w           *world
	direct, kms *kmskeytest.Counter
	next        *kmskeytest.Counter // the service's key after that of kms
	now         func() time.Time    // of processes; nil is time.Now
}

func newBranched(t testing.TB, kind string) *branched {
	t.Helper()
	file := t.TempDir() + "/next"
	next, err := localkey.Generate(file)
	ok(t, err)
	b := &branched{
		w:      openWith(t, kind, localKeys(t), rowseal.Config{Models: []any{holderModel}}, &gorm.Config{}),
		direct: kmskeytest.NewCounter(localkey.NewInsecure()), kms: kmskeytest.NewCounter(localkey.NewInsecure()), next: kmskeytest.NewCounter(next),
	}
	_, err = migrations.Up(t.Context(), b.w.db)
	ok(t, err)
	return b
}

// process is a program that has just started, with one version current.
func (b *branched) process(t testing.TB, current int) (*gorm.DB, *branchkey.Keys) {
	t.Helper()
	db, err := gorm.Open(dialector(b.w.kind, b.w.db.ConnPool), &gorm.Config{Logger: logger.Discard})
	ok(t, err)
	return b.with(t, db, current)
}

func (b *branched) with(t testing.TB, db *gorm.DB, current int) (*gorm.DB, *branchkey.Keys) {
	t.Helper()
	branches := b.branches(t, db, 1)
	b.use(t, db, branches, current)
	return db, branches
}

// use gives a program its keys.
func (b *branched) use(t testing.TB, db *gorm.DB, branches *branchkey.Keys, current int) {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Current: current, Namespace: "test", Versions: map[int]kmskey.Version{
		1: {Provider: b.direct}, 2: {Provider: branches.Generation(2)}, 3: {Provider: branches.Generation(3)},
	}})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{holderModel}, MaxCalls: 64})
	ok(t, err)
	ok(t, db.Use(plugin))
}

// branches are branch keys under a version of the service.
func (b *branched) branches(t testing.TB, db *gorm.DB, current int) *branchkey.Keys {
	t.Helper()
	inner, err := kmskey.New(kmskey.Config{Current: current, Namespace: "test", Versions: map[int]kmskey.Version{1: {Provider: b.kms}, 2: {Provider: b.next}}})
	ok(t, err)
	branches, err := branchkey.New(branchkey.Config{Keys: inner, Store: rowseal.BranchKeys(db), Tenant: "tenant_id", Now: b.now})
	ok(t, err)
	return branches
}

// calls are all calls to key services since the last question.
func (b *branched) calls() (direct, branch int) {
	direct, branch = b.direct.Calls(), b.kms.Calls()+b.next.Calls()
	b.direct.Reset()
	b.kms.Reset()
	b.next.Reset()
	return direct, branch
}

func holders(n, tenants int) []Holder {
	all := make([]Holder, n)
	for i := range all {
		all[i] = Holder{TenantID: fmt.Sprint("tenant ", i%tenants), Name: fmt.Sprint("name ", i), Email: fmt.Sprintf("a%d@example.org", i), Note: fmt.Sprint("note ", i)}
	}
	return all
}

// rows is how many rows tests of cost read. TEST_BRANCH_ROWS sets another number.
func rowsToRead(t testing.TB) int {
	if text := os.Getenv("TEST_BRANCH_ROWS"); text != "" {
		n, err := strconv.Atoi(text)
		ok(t, err)
		return n
	}
	return 5000
}

// seeded is a process under branch keys, and rows that it made.
func (b *branched) seeded(t testing.TB, n, tenants int) (*gorm.DB, []Holder) {
	t.Helper()
	db, _ := b.process(t, 2)
	rows := holders(n, tenants)
	ok(t, db.Create(&rows).Error)
	return db, rows
}

func (b *branched) holds(t testing.TB, db *gorm.DB, rows int) {
	t.Helper()
	n := 0
	var page []Holder
	ok(t, db.Order("id").FindInBatches(&page, 1000, func(*gorm.DB, int) error {
		for _, a := range page {
			if a.Name != fmt.Sprint("name ", n) || a.Email != fmt.Sprintf("a%d@example.org", n) || a.Note != fmt.Sprint("note ", n) {
				t.Fatalf("row %d came back as %+v", n, a)
			}
			n++
		}
		return nil
	}).Error)
	if n != rows {
		t.Fatalf("%d rows, want %d", n, rows)
	}
}

func TestBranchKeysCostOneCallForEachTenant(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		rows := rowsToRead(t)
		db, branches := b.process(t, 2)
		if isSQLite(kind) {
			// CreateInBatches begins a transaction, and SQLite has no connection that could write beside it.
			fails(t, db.CreateInBatches(holders(10, 10), 5).Error, rowseal.ErrBranchKey, "Keys.Make")
			b.calls()
			for i := range 10 {
				ok(t, branches.Make(t.Context(), 2, fmt.Sprint("tenant ", i)))
			}
		}
		ok(t, db.CreateInBatches(holders(rows, 10), 1000).Error)
		if direct, branch := b.calls(); direct != 0 || branch != 20 {
			t.Errorf("%d rows of 10 new tenants: %d calls for rows and %d for branch keys, want 0 and 20: each is made, and opened before it is used", rows, direct, branch)
		}
		db, _ = b.process(t, 2)
		b.holds(t, db, rows)
		if direct, branch := b.calls(); direct != 0 || branch != 10 {
			t.Errorf("%d rows of 10 tenants, cold: %d and %d calls, want 0 and 10", rows, direct, branch)
		}
		b.holds(t, db, rows)
		if _, branch := b.calls(); branch != 0 {
			t.Errorf("warm: %d calls", branch)
		}
		// A hundred goroutines that find it cold.
		db, _ = b.process(t, 2)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				var got []Holder
				if err := db.Where("tenant_id = ?", "tenant 3").Limit(20).Find(&got).Error; err != nil || len(got) != 20 || !strings.HasPrefix(got[0].Name, "name ") {
					t.Errorf("%d rows, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		if direct, branch := b.calls(); direct != 0 || branch != 1 {
			t.Errorf("100 goroutines at one tenant: %d and %d calls, want 0 and 1", direct, branch)
		}
	})
}

// The walk moves rows between the modes, and they open side by side meanwhile.
func TestBranchModesSideBySide(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		const rows, tenants = 300, 5
		direct, _ := b.process(t, 1)
		branch, _ := b.process(t, 2)
		all := holders(rows, tenants)
		for i := 0; i < rows; i += 50 {
			db := direct
			if i/50%2 == 1 {
				db = branch
			}
			part := all[i : i+50]
			ok(t, db.Create(&part).Error)
		}
		b.holds(t, direct, rows)
		b.holds(t, branch, rows)
		sealed := b.w.dump(t, "holders")

		move := func(current, rewrapped, most int) {
			t.Helper()
			db, _ := b.process(t, current)
			b.calls()
			report, err := rotation.RotateKMSKey(t.Context(), db, &Holder{}, rotation.Config{})
			ok(t, err)
			if addsUp(t, report); report.Rewrapped != int64(rewrapped) {
				t.Errorf("to version %d: %d rewrapped of %d seen, want %d", current, report.Rewrapped, report.Seen, rewrapped)
			}
			if perRow, perTenant := b.calls(); perTenant > most || current > 1 && perRow > rewrapped+1 || current == 3 && perRow != 0 {
				t.Errorf("to version %d: %d calls for rows and %d for branch keys, want at most %d of the latter; one row is tried before the first moves", current, perRow, perTenant, most)
			}
			for _, reader := range []int{1, 2, 3} {
				db, _ := b.process(t, reader)
				b.holds(t, db, rows)
			}
		}
		move(2, 150, tenants)   // the direct ones
		move(3, 300, 3*tenants) // replaces the branch keys: two calls for a new one, one for an old one
		move(1, 300, tenants)
		if strings.Contains(b.w.dump(t, "holders"), "v2:") || sealed == "" {
			t.Error("a row is under its old version")
		}
	})
}

func TestBranchRotationOfTheKMSKeyWritesNoRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		const rows, tenants = 200, 10
		db, _ := b.process(t, 2)
		ok(t, db.Create(holders(rows, tenants)).Error)
		before := b.w.dump(t, "holders")
		b.calls()
		report, err := b.branches(t, db, 2).Rotate(t.Context())
		ok(t, err)
		if report != (branchkey.Report{Keys: tenants, Moved: tenants}) {
			t.Errorf("%+v", report)
		}
		// A local key cannot rewrap, so each is an unwrap of the old key and a wrap under the new one.
		if b.next.Calls() != tenants || b.kms.Calls() != tenants {
			t.Errorf("%d and %d calls for %d tenants", b.kms.Calls(), b.next.Calls(), tenants)
		}
		if b.w.dump(t, "holders") != before {
			t.Error("rows were written")
		}
		b.calls()
		// The old key of the service is gone.
		inner, err := kmskey.New(kmskey.Config{Namespace: "test", Versions: map[int]kmskey.Version{2: {Provider: b.next}}})
		ok(t, err)
		db, err = gorm.Open(dialector(kind, b.w.db.ConnPool), &gorm.Config{Logger: logger.Discard})
		ok(t, err)
		branches, err := branchkey.New(branchkey.Config{Keys: inner, Store: rowseal.BranchKeys(db), Tenant: "tenant_id"})
		ok(t, err)
		keys, err := kmskey.New(kmskey.Config{Namespace: "test", Versions: map[int]kmskey.Version{2: {Provider: branches.Generation(2)}}})
		ok(t, err)
		plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{holderModel}})
		ok(t, err)
		ok(t, db.Use(plugin))
		b.holds(t, db, rows)
	})
}

// An envelope that is copied to another row opens there neither from memory nor anew.
func TestBranchKeysBindRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		db, _ := b.process(t, 2)
		all := holders(4, 2) // 1 and 3 are of one tenant, 2 and 4 of another
		ok(t, db.Create(&all).Error)
		for _, to := range []uint64{all[2].ID, all[1].ID} { // of the same tenant, of another
			own := string(b.w.cell(t, "holders", "encrypted_kms_key", to))
			b.w.tamper(t, "UPDATE holders SET encrypted_kms_key = ? WHERE id = ?", string(b.w.cell(t, "holders", "encrypted_kms_key", all[0].ID)), to)
			cold, _ := b.process(t, 2)
			for name, db := range map[string]*gorm.DB{"warm": db, "cold": cold} {
				err := db.First(&Holder{}, to).Error
				if !errors.Is(err, kmskey.ErrContextMismatch) {
					t.Errorf("%s, row %d with the key of row %d: %v", name, to, all[0].ID, err)
				}
			}
			b.w.tamper(t, "UPDATE holders SET encrypted_kms_key = ? WHERE id = ?", own, to)
			ok(t, cold.First(&Holder{}, to).Error)
		}
		// A row that moves to another tenant gets an envelope under that one's branch key.
		a := all[0]
		ok(t, db.Model(&a).Update("tenant_id", "tenant 1").Error)
		var got Holder
		cold, _ := b.process(t, 2)
		ok(t, cold.First(&got, a.ID).Error)
		if got.Name != "name 0" || got.TenantID != "tenant 1" {
			t.Errorf("%+v", got)
		}
	})
}

// What a row stores: docs/format.md, section 8.
func TestBranchRowsAreSmall(t *testing.T) {
	b := newBranched(t, sqliteGo)
	db, _ := b.process(t, 2)
	a := Holder{TenantID: "acme", Name: strings.Repeat("n", 40), Email: strings.Repeat("e", 40), Note: strings.Repeat("o", 40)}
	ok(t, db.Create(&a).Error)
	text := string(b.w.cell(t, "holders", "encrypted_kms_key", a.ID))
	encoded, found := strings.CutPrefix(text, "v2:")
	body, err := base64.RawStdEncoding.DecodeString(encoded)
	if !found || err != nil || len(body) > 144 {
		t.Errorf("%d bytes (%v): %s", len(body), err, text)
	}
	for _, column := range []string{"name", "email", "note"} {
		if n := len(b.w.cell(t, "holders", column, a.ID)); n > 40+32 {
			t.Errorf("%s has %d bytes", column, n)
		}
	}
	t.Logf("a row's envelope has %d bytes, %d as text; a field of 40 has %d", len(body), len(text), len(b.w.cell(t, "holders", "name", a.ID)))
}

func TestBranchKeysInTransactions(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		_, known := b.seeded(t, 1, 1)

		// What is there is read on the transaction's own connection.
		cold, _ := b.process(t, 2)
		ok(t, cold.Transaction(func(tx *gorm.DB) error {
			var got Holder
			if err := tx.First(&got, known[0].ID).Error; err != nil {
				return err
			}
			more := holders(2, 1)
			return tx.Create(&more).Error
		}))

		// What is missing is made beside it, and stays when it is rolled back.
		cold, branches := b.process(t, 2)
		undone := errors.New("undone")
		err := cold.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Holder{TenantID: "new", Name: "n"}).Error; err != nil {
				return err
			}
			return undone
		})
		if isSQLite(kind) {
			fails(t, err, rowseal.ErrBranchKey, "branchkey.Keys.Make")
			ok(t, branches.Make(t.Context(), 2, "new"))
		} else if !errors.Is(err, undone) {
			t.Fatal(err)
		}
		ok(t, cold.Transaction(func(tx *gorm.DB) error { return tx.Create(&Holder{TenantID: "new", Name: "n"}).Error }))
		again, _ := b.process(t, 2)
		var got Holder
		ok(t, again.First(&got, "tenant_id = ?", "new").Error)
		if got.Name != "n" {
			t.Errorf("%+v", got)
		}
	})
}

// A pool of one connection has none beside a transaction's, or beside rows that are being read.
func TestBranchKeysOnOneConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		b := newBranched(t, kind)
		b.seeded(t, 3, 1)
		b.w.plain.SetMaxOpenConns(1)
		one := func() *gorm.DB {
			db, err := gorm.Open(dialector(kind, b.w.plain), &gorm.Config{Logger: logger.Discard})
			ok(t, err)
			db, _ = b.with(t, db, 2)
			return db
		}
		cold := one()
		ok(t, cold.Transaction(func(tx *gorm.DB) error {
			var got []Holder
			if err := tx.Find(&got).Error; err != nil {
				return err
			}
			if err := tx.Model(&got[0]).Update("name", "changed").Error; err != nil {
				return err
			}
			more := holders(1, 1)
			return tx.Create(&more).Error
		}))
		err := one().Transaction(func(tx *gorm.DB) error { return tx.Create(&Holder{TenantID: "new"}).Error })
		fails(t, err, rowseal.ErrBranchKey, "no connection is free beside the transaction")
	})
}
