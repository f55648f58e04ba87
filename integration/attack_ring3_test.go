package integration

import (
	"database/sql"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// A row read under Sealed, that another writer added a key to, is rotated: Open does not open it any more.
func TestAttackRingOpenAfterRotateOfAStaleSealedRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		loaded := load[ARing](t, rowseal.Sealed(full.db), r.ID)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		ok(t, rowseal.Rotate(t.Context(), full.db, &loaded))
		if err := rowseal.Open(t.Context(), full.db, &loaded); err != nil {
			t.Error(err)
		}
		loaded.Title = "t2"
		ok(t, full.db.Save(&loaded).Error)
		aRingHolds(t, full.db, r.ID, "a2 b c s")
	})
}

// Held: unsaved changes survive a rotation of a stale struct, and are not written by it.
func TestAttackRingUnsavedChangesAndRotate(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		for _, stale := range []bool{false, true} {
			r := aRing(t, full.db)
			var loaded ARing
			if !stale {
				ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
			}
			ok(t, full.db.First(&loaded, r.ID).Error)
			if stale {
				ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
			}
			loaded.B, loaded.C = "", nil
			ok(t, rowseal.Rotate(t.Context(), full.db, &loaded))
			aRingHolds(t, full.db, r.ID, "a2 b c s")
			ok(t, full.db.Save(&loaded).Error)
			want := "a2  NULL s"
			if stale {
				want = "a  NULL s" // Save writes what the struct has
			}
			aRingHolds(t, full.db, r.ID, want)
		}
	})
}

// Two structs of one process for one table and one logical name.
func TestAttackRingTwoStructsOfOneTable(t *testing.T) {
	w := open(t, sqliteGo, &ARing{})
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&ARing{}, rowseal.Model{Value: &ARingOlder{}, Name: "ARing"}}})
	if err == nil {
		err = db.Use(plugin)
	}
	if err != nil {
		t.Log("refused:", err)
		return
	}
	writer := start(t, w, &ARing{}, 1, true)
	r := aRing(t, db)
	ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
	ok(t, rowseal.Rotate(t.Context(), db, &ARingOlder{ID: r.ID}))
	aRingHolds(t, db, r.ID, "a2 b c s")
}

// A writer with another namespace, or another logical name: nothing tells it, and all of the row is closed to everyone.
func TestAttackRingWriterOfAnotherNamespace(t *testing.T) {
	w := open(t, sqliteGo, &ARing{})
	full := start(t, w, &ARing{}, 1, false)
	writer := start(t, w, rowseal.Model{Value: &ARing{}, Name: "Renamed"}, 1, true)
	r := aRing(t, full.db)
	t.Log("the writer says:", writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
	var got ARing
	err := full.db.First(&got, r.ID).Error
	if got.B != "b" {
		t.Errorf("field b, which it did not write, is closed: %v", err)
	}
}

// A row that is gone, loaded with one key and with two.
func TestAttackRingWriterOfARowThatIsGone(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, ring := range []int{1, 2} {
			w := open(t, kind, &ARing{})
			full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
			r := aRing(t, full.db)
			if ring == 2 {
				ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
			}
			var loaded ARing
			ok(t, writer.db.First(&loaded, r.ID).Error)
			ok(t, full.db.Delete(&ARing{ID: r.ID}).Error)
			tx := writer.db.Model(&loaded).Update("a", "x")
			t.Log(ring, "update:", tx.RowsAffected, tx.Error)
			if tx.Error != nil {
				t.Errorf("%d keys: an update of a row that is gone: %v", ring, tx.Error)
			}
			loaded.A = "y"
			t.Log(ring, "save:", writer.db.Save(&loaded).Error)
		}
	})
}

// A rotator that may not decrypt asked to, for every row with several keys, every time; now once in its life.
func TestAttackRingRotatorAsksForDecrypt(t *testing.T) {
	d := newDuties(t, sqliteGo)
	writer := d.writer(t)
	rotator := d.as(t, 2, false, "kms:ReEncryptFrom", "kms:ReEncryptTo")
	d.fake.ResetCounts()
	for range 5 {
		r := d.create(t)
		ok(t, writer.Model(&RoleDoc{ID: r.ID}).Update("a", "a2").Error)
		ok(t, rowseal.Rotate(t.Context(), rotator, &RoleDoc{ID: r.ID}))
		ok(t, rowseal.Rotate(t.Context(), rotator, &RoleDoc{ID: r.ID}))
	}
	if n := d.fake.Calls("Decrypt"); n > 1 {
		t.Errorf("%d Decrypt were asked for, and denied", n)
	}
}

// What was read of the row to choose its keys is taken for what the struct was read with.
func TestAttackRingSaveAfterAnUpdateOfARowThatMovedOn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer, other := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		ok(t, other.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
		var held ARing
		ok(t, writer.db.First(&held, r.ID).Error)
		ok(t, full.db.Model(&ARing{ID: r.ID}).Update("s", "newer").Error) // the envelope stays
		ok(t, writer.db.Model(&held).Update("a", "a3").Error)
		held.Title = "t2"
		ok(t, writer.db.Save(&held).Error) // S was never touched
		aRingHolds(t, full.db, r.ID, "a3 b c newer")
	})
}

func TestAttackRingNullThatNobodyLoaded(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, ring := range []int{1, 2} {
			w := open(t, kind, &ARing{})
			full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
			r := aRing(t, full.db)
			ok(t, full.db.Model(&ARing{ID: r.ID}).Update("c", nil).Error)
			if ring == 2 {
				ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("b", "b").Error)
			}
			held := ARing{ID: r.ID, TenantID: "acme"} // never loaded
			ok(t, writer.db.Model(&held).Update("a", "a3").Error)
			ok(t, full.db.Model(&ARing{ID: r.ID}).Update("c", "newer").Error)
			held.Title = "t2"
			ok(t, writer.db.Save(&held).Error)
			t.Log("a row with", ring, "keys:")
			aRingHolds(t, full.db, r.ID, "a3 b newer s")
		}
	})
}

// Another program moved the context that the model computes; a writer that loaded the row before adds a key under the old one.
func TestAttackRingComputedContextMovedByAnother(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARingMethod{})
		full, writer := start(t, w, &ARingMethod{}, 1, false), start(t, w, &ARingMethod{}, 1, true)
		r := ARingMethod{Tenant: "acme", A: "a", B: "b"}
		ok(t, full.db.Create(&r).Error)
		var held ARingMethod
		ok(t, writer.db.First(&held, r.ID).Error)
		r.Tenant = "globex"
		ok(t, full.db.Save(&r).Error)
		t.Log("the writer says:", writer.db.Model(&held).Update("a", "a2").Error)
		var got ARingMethod
		if err := full.db.First(&got, r.ID).Error; err != nil || got.B != "b" {
			t.Errorf("the whole row is lost: %q %q, %v", got.Tenant, got.B, err)
		}
	})
}

// The same with nobody else: a row of two keys, loaded, whose computed context moves in a Save.
func TestAttackRingComputedContextMovesOfARingOfTwo(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARingMethod{})
		full, writer := start(t, w, &ARingMethod{}, 1, false), start(t, w, &ARingMethod{}, 1, true)
		r := ARingMethod{Tenant: "acme", A: "a", B: "b"}
		ok(t, full.db.Create(&r).Error)
		var held ARingMethod
		ok(t, writer.db.First(&held, r.ID).Error)
		ok(t, writer.db.Model(&held).Update("a", "a2").Error)
		held = ARingMethod{}
		ok(t, writer.db.First(&held, r.ID).Error)
		held.Tenant, held.A = "globex", "a3"
		t.Log("the writer says:", writer.db.Save(&held).Error)
		var got ARingMethod
		if err := full.db.First(&got, r.ID).Error; err != nil || got.B != "b" {
			t.Errorf("the whole row is lost: %q %q, %v", got.Tenant, got.B, err)
		}
	})
}

// A row that was loaded after the snapshot of the transaction that it is written in was taken.
func TestAttackRingSnapshotOlderThanTheStruct(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ARing{})
		full, writer := start(t, w, &ARing{}, 1, false), start(t, w, &ARing{}, 1, true)
		r := aRing(t, full.db)
		ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("b", "b2").Error)
		err := writer.db.Transaction(func(tx *gorm.DB) error {
			var n int64
			ok(t, tx.Model(&ARing{}).Count(&n).Error) // the snapshot
			ok(t, writer.db.Model(&ARing{ID: r.ID}).Update("a", "a2").Error)
			var held ARing
			ok(t, writer.db.First(&held, r.ID).Error)
			return tx.Model(&held).Update("a", "a3").Error
		}, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		t.Log(err)
		want := "a3 b2 c s"
		if err != nil {
			want = "a2 b2 c s"
		}
		aRingHolds(t, full.db, r.ID, want)
	}, postgres, mariadb)
}
