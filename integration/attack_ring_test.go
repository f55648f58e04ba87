package integration

// attack_ring_test.go: what a hostile reviewer tried on rings of data keys, Config.WriteOnly and Rotate. Each was a finding once.

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// ARing is what the tables here hold; ARingOlder is the same table as an older version of the program knows it.
type ARing struct {
	ID       uint64
	TenantID string
	Title    string
	A        string  `gorm:"serializer:rowseal"`
	B        string  `gorm:"serializer:rowseal"`
	C        *string `gorm:"serializer:rowseal"`
	S        rowseal.Secret[string]
	rowseal.RowKey
}

func (ARing) TableName() string { return "a_rings" }

type ARingOlder struct {
	ID       uint64
	TenantID string
	Title    string
	A        string `gorm:"serializer:rowseal"`
	B        string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (ARingOlder) TableName() string { return "a_rings" }

// ARingMethod computes its context.
type ARingMethod struct {
	ID     uint64
	Tenant string
	Title  string
	A      string `gorm:"serializer:rowseal"`
	B      string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (m *ARingMethod) KMSContext(int) ([]rowseal.Pair, error) {
	return []rowseal.Pair{{Name: "row", Value: kmskey.Uint(m.ID)}, {Name: "tenant", Value: kmskey.Text(m.Tenant)}}, nil
}

type program struct {
	db      *gorm.DB
	counter *kmskeytest.Counter
}

// start is a program that shares the database of w.
func start(t testing.TB, w *world, model any, current int, writeOnly bool) program {
	t.Helper()
	c := kmskeytest.NewCounter(localkey.NewInsecure())
	versions := map[int]kmskey.Version{1: {Provider: c}, 2: {Provider: c}}
	keys, err := kmskey.New(kmskey.Config{Current: current, Versions: versions, Namespace: "test"})
	ok(t, err)
	db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{model}, WriteOnly: writeOnly})
	ok(t, err)
	ok(t, db.Use(plugin))
	return program{db, c}
}

func aRing(t testing.TB, db *gorm.DB) ARing {
	t.Helper()
	r := ARing{TenantID: "acme", Title: "t", A: "a", B: "b", C: new("c"), S: rowseal.NewSecret("s")}
	ok(t, db.Create(&r).Error)
	return r
}

func aRingHolds(t testing.TB, db *gorm.DB, id uint64, want string) {
	t.Helper()
	var r ARing
	if err := db.First(&r, id).Error; err != nil {
		t.Errorf("the row does not open: %v", err)
		return
	}
	c := "NULL"
	if r.C != nil {
		c = *r.C
	}
	s, err := r.S.Get(context.Background())
	if err != nil {
		t.Errorf("the secret does not open: %v", err)
	}
	if is := fmt.Sprintf("%s %s %s %s", r.A, r.B, c, s); is != want {
		t.Errorf("the row holds %q, want %q", is, want)
	}
}

// F1: an older deploy, whose struct lacks a newer sealed column, drops the data key that the column needs.
func TestAttackRingOlderDeployRotates(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		older := start(t, w, rowseal.Model{Value: &ARingOlder{}, Name: "ARing"}, 1, false)
		r := aRing(t, full.db)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error) // keys 1 and 2; b, c and s are under 1
		ok(t, rowseal.Rotate(t.Context(), older.db, &ARingOlder{ID: r.ID}))
		aRingHolds(t, full.db, r.ID, "a2 b c s")
	})
}

func TestAttackRingOlderWriterPrunes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		older := start(t, w, rowseal.Model{Value: &ARingOlder{}, Name: "ARing"}, 1, true)
		r := aRing(t, full.db)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Updates(map[string]any{"a": "a2", "b": "b2"}).Error)
		ok(t, older.db.Model(&ARingOlder{ID: r.ID, TenantID: "acme"}).Update("a", "a3").Error) // 1 is used by c and s alone
		aRingHolds(t, full.db, r.ID, "a3 b2 c s")
	})
}

// F2: the added key is left out of the SET when the context of another version moved.
func TestAttackRingAddedKeyIsStoredWhereTheContextMoves(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		m := rowseal.Model{Value: &ARing{}, Contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, m, 1, false), start(t, w, m, 1, true)
		r := aRing(t, full.db)
		var loaded ARing
		ok(t, writer.db.First(&loaded, r.ID).Error)
		loaded.TenantID, loaded.A = "globex", "a2"
		ok(t, writer.db.Save(&loaded).Error)
		aRingHolds(t, full.db, r.ID, "a2 b c s")
	})
}

// F3: a computed context of a row that was not loaded.
func TestAttackRingComputedContextOfARowNotLoaded(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARingMethod{})
		full, writer := start(t, w, &ARingMethod{}, 1, false), start(t, w, &ARingMethod{}, 1, true)
		r := ARingMethod{Tenant: "acme", A: "a", B: "b"}
		ok(t, full.db.Create(&r).Error)
		if err := full.db.Model(&ARingMethod{ID: r.ID}).Update("a", "a1").Error; err == nil {
			t.Error("a program that decrypts wrote")
		}
		err := writer.db.Model(&ARingMethod{ID: r.ID}).Update("a", "a2").Error
		t.Log("the writer says:", err)
		var got ARingMethod
		if err := full.db.First(&got, r.ID).Error; err != nil || got.B != "b" {
			t.Errorf("the whole row is lost: %q, %v", got.B, err)
		}
	})
}

// F4: a computed context that moves in a Save whose first try found the row under another key.
func TestAttackRingComputedContextMovesInARetry(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARingMethod{})
		full, writer, other := start(t, w, &ARingMethod{}, 1, false), start(t, w, &ARingMethod{}, 1, true), start(t, w, &ARingMethod{}, 1, true)
		r := ARingMethod{Tenant: "acme", A: "a", B: "b"}
		ok(t, full.db.Create(&r).Error)
		var mine, theirs ARingMethod
		ok(t, writer.db.First(&mine, r.ID).Error)
		ok(t, other.db.First(&theirs, r.ID).Error)
		ok(t, other.db.Model(&theirs).Update("a", "a2").Error)
		mine.Tenant, mine.A = "globex", "a3"
		err := writer.db.Save(&mine).Error
		t.Log("the writer says:", err)
		var got ARingMethod
		if err := full.db.First(&got, r.ID).Error; err != nil || got.B != "b" {
			t.Errorf("the whole row is lost: %q %q, %v", got.Tenant, got.B, err)
		}
	})
}

// F5: a tenant that another program changes between a writer's load and its write; the row is under a version whose context has no tenant.
func TestAttackRingContextColumnMovesUnderAWriter(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		m := rowseal.Model{Value: &ARing{}, Contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		w := open(t, kind, &ARing{})
		one, two, writer := start(t, w, m, 1, false), start(t, w, m, 2, false), start(t, w, m, 2, true)
		r := aRing(t, one.db)
		var loaded ARing
		ok(t, writer.db.First(&loaded, r.ID).Error)
		moved := load[ARing](t, one.db, r.ID)
		moved.TenantID = "globex"
		ok(t, one.db.Save(&moved).Error)
		err := writer.db.Model(&loaded).Update("a", "a2").Error
		t.Log("the writer says:", err)
		aRingHolds(t, two.db, r.ID, "a2 b c s")
	})
}

// F6: the same within Rotate, whose call takes time. Not new in this branch.
func TestAttackRingContextColumnMovesUnderARotation(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		m := rowseal.Model{Value: &ARing{}, Contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		w := open(t, kind, &ARing{})
		one, two := start(t, w, m, 1, false), start(t, w, m, 2, false)
		r := aRing(t, one.db)
		var once atomic.Bool
		two.counter.Before = func(context.Context, kmskeytest.Call) error {
			if once.CompareAndSwap(false, true) {
				moved := load[ARing](t, one.db, r.ID)
				moved.TenantID = "globex"
				ok(t, one.db.Save(&moved).Error)
			}
			return nil
		}
		t.Log("the rotation says:", rowseal.Rotate(t.Context(), two.db, &ARing{ID: r.ID}))
		aRingHolds(t, two.db, r.ID, "a b c s")
	})
}

// F7: Rotate reads the row twice where its ring has several keys, and moves the envelope of the second look to the context of the first.
func TestAttackRingRotateLooksTwice(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, tenants(&ARing{}))
		full, writer := start(t, w, tenants(&ARing{}), 1, false), start(t, w, tenants(&ARing{}), 1, true)
		rotator := start(t, w, tenants(&ARing{}), 1, false)
		r := aRing(t, full.db)
		var loaded ARing
		ok(t, writer.db.First(&loaded, r.ID).Error)
		ok(t, writer.db.Model(&loaded).Update("a", "a2").Error)
		var looks atomic.Int32
		ok(t, rotator.db.Callback().Row().Before("gorm:row").Register("attack", func(*gorm.DB) {
			if looks.Add(1) == 2 {
				moved := load[ARing](t, full.db, r.ID)
				moved.TenantID = "globex"
				ok(t, full.db.Save(&moved).Error)
			}
		}))
		t.Log("the rotation says:", rowseal.Rotate(t.Context(), rotator.db, &ARing{ID: r.ID}))
		aRingHolds(t, full.db, r.ID, "a2 b c s")
	})
}

// F8: 254 changes, and the row takes no more, whatever rotates it.
func TestAttackRingNumbersRunOut(t *testing.T) {
	w := open(t, sqliteGo, &ARing{})
	full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
	r := aRing(t, full.db)
	for i := range 600 {
		if i%50 == 49 {
			ok(t, rowseal.Rotate(t.Context(), full.db, &ARing{ID: r.ID}))
		}
		if err := writer.db.Model(&ARing{ID: r.ID}).Update("a", fmt.Sprint("a", i)).Error; err != nil {
			rotate := rowseal.Rotate(t.Context(), full.db, &ARing{ID: r.ID})
			t.Fatalf("change %d: %v; rotate: %v; and then: %v", i, err, rotate, writer.db.Model(&ARing{ID: r.ID}).Update("a", "x").Error)
		}
	}
}

// F9: a writer that loaded a row with several keys, and is late.
func TestAttackRingLateWriterOfARingOfTwo(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer, other := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		ok(t, other.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		var loaded ARing
		ok(t, writer.db.First(&loaded, r.ID).Error)
		ok(t, other.db.Model(&ARing{ID: r.ID}).Update("b", "b2").Error)
		ok(t, writer.db.Model(&loaded).Update("a", "a3").Error)
		aRingHolds(t, full.db, r.ID, "a3 b2 c s")
	})
}

// F10: a retry forgets what the struct stands for, and a field that is cleared afterwards stays.
func TestAttackRingClearedFieldAfterARetry(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer, other := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true), start(t, w, &ARing{}, 1, true)
		r := aRing(t, writer.db) // all fields are at hand
		ok(t, other.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		ok(t, writer.db.Model(&r).Update("a", "a3").Error)
		r.B = ""
		ok(t, writer.db.Save(&r).Error)
		aRingHolds(t, full.db, r.ID, "a3  c s")
	})
}

// F11: a Secret that nobody touched, in a row that was rotated: an older value comes back.
func TestAttackRingSecretComesBackAfterRotate(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		loaded := load[ARing](t, full.db, r.ID)
		ok(t, full.db.Model(&ARing{ID: r.ID}).Update("s", "newer").Error) // the envelope stays
		ok(t, rowseal.Rotate(t.Context(), full.db, &loaded))
		loaded.Title = "t2"
		ok(t, full.db.Save(&loaded).Error)
		aRingHolds(t, full.db, r.ID, "a2 b c newer")
	})
}

// F12: likewise of a row read under Sealed: it cannot be saved any more.
func TestAttackRingSealedRowAfterRotate(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		loaded := load[ARing](t, rowseal.Sealed(full.db), r.ID)
		ok(t, rowseal.Rotate(t.Context(), full.db, &loaded))
		loaded.Title = "t2"
		ok(t, full.db.Save(&loaded).Error)
		aRingHolds(t, full.db, r.ID, "a2 b c s")
		ok(t, rowseal.Open(t.Context(), full.db, &loaded))
		if loaded.A != "a2" || loaded.B != "b" || got(t, loaded.S) != "s" {
			t.Errorf("%+v", loaded)
		}
	})
}

// F13: WriteOnly, and a key is unwrapped.
func TestAttackRingWriteOnlyNeverUnwraps(t *testing.T) {
	w := open(t, sqliteGo, tenants(&ARing{}))
	full, writer, writer2 := start(t, w, tenants(&ARing{}), 1, false), start(t, w, tenants(&ARing{}), 1, true), start(t, w, tenants(&ARing{}), 2, true)
	r := aRing(t, full.db)
	var loaded ARing
	ok(t, writer.db.First(&loaded, r.ID).Error)
	loaded.TenantID, loaded.A = "globex", "a2"
	t.Log("save:", writer.db.Save(&loaded).Error)
	if n := writer.counter.Count("unwrap"); n > 0 {
		t.Errorf("Save unwrapped %d keys", n)
	}
	t.Log("rotate:", rowseal.Rotate(t.Context(), writer2.db, &ARing{ID: r.ID}))
	if n := writer2.counter.Count("unwrap"); n > 0 {
		t.Errorf("Rotate unwrapped %d keys", n)
	}
}

// F14: one field that does not open, and the row's key cannot move any more.
func TestAttackRingOneBadFieldStopsARotation(t *testing.T) {
	w := open(t, sqliteGo, &ARing{})
	full, writer, next := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true), start(t, w, &ARing{}, 2, false)
	r := aRing(t, full.db)
	ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
	raw := w.cell(t, "a_rings", "b", r.ID)
	raw[len(raw)-1] ^= 1
	w.tamper(t, "UPDATE a_rings SET b = ? WHERE id = ?", raw, r.ID)
	if err := rowseal.Rotate(t.Context(), next.db, &ARing{ID: r.ID}); err != nil {
		t.Error(err)
	}
}

// F15: Rotate of a struct with unsaved changes of its computed context.
func TestAttackRingRotateTakesAnUnsavedContextForTheRows(t *testing.T) {
	w := open(t, sqliteGo, &ARingMethod{})
	full := start(t, w, &ARingMethod{}, 1, false)
	r := ARingMethod{Tenant: "acme", A: "a", B: "b"}
	ok(t, full.db.Create(&r).Error)
	loaded := load[ARingMethod](t, full.db, r.ID)
	loaded.Tenant = "globex"
	t.Log("rotate:", rowseal.Rotate(t.Context(), full.db, &loaded))
	ok(t, full.db.Save(&loaded).Error)
	var got ARingMethod
	if err := full.db.First(&got, r.ID).Error; err != nil || got.B != "b" {
		t.Errorf("the whole row is lost: %q %q, %v", got.Tenant, got.B, err)
	}
}

// Not new: a first key is made for the context that the struct was read with.
func TestAttackRingFirstKeyUnderAMovedContext(t *testing.T) {
	w := open(t, sqliteGo, tenants(&ARing{}))
	full := start(t, w, tenants(&ARing{}), 1, false)
	r := aRing(t, full.db)
	w.tamper(t, "UPDATE a_rings SET a = NULL, b = NULL, c = NULL, s = NULL, encrypted_kms_key = NULL WHERE id = ?", r.ID)
	loaded := load[ARing](t, full.db, r.ID)
	moved := load[ARing](t, full.db, r.ID)
	ok(t, full.db.Model(&moved).Update("tenant_id", "globex").Error)
	t.Log(full.db.Model(&loaded).Update("a", "a2").Error)
	var got ARing
	if err := full.db.First(&got, r.ID).Error; err != nil {
		t.Error(err)
	}
}

var _ = clause.OnConflict{}
