package integration

import (
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
)

func TestSealedReadsWithoutOpening(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		phone := "555"
		rows := []Patient{
			{Name: "Ada", Ward: "7", Phone: &phone, Notes: rowseal.NewSecret("a")},
			{Name: "Grace", Ward: "8", Notes: rowseal.NewSecret("g")},
		}
		ok(t, w.db.Create(&rows).Error)
		before := w.dump(t, "patients ORDER BY id")

		for name, db := range map[string]func() []Patient{
			"as a session": func() (got []Patient) { ok(t, rowseal.Sealed(w.db).Order("id").Find(&got).Error); return got },
			"as a scope":   func() (got []Patient) { ok(t, w.db.Scopes(rowseal.Sealed).Order("id").Find(&got).Error); return got },
		} {
			t.Run(name, func(t *testing.T) {
				w.kms.Reset()
				got := db()
				if n := w.kms.Calls(); n != 0 {
					t.Errorf("%d calls to the key service", n)
				}
				if len(got) != 2 || got[0].Ward != "7" || got[0].Name != "" || got[0].Phone != nil {
					t.Fatalf("read %+v", got)
				}

				// Saved as it is, nothing is overwritten.
				ok(t, w.db.Save(&got[0]).Error)
				ok(t, w.db.Model(&got[1]).Updates(Patient{Ward: "8"}).Error)
				if n := w.kms.Calls(); n != 0 {
					t.Errorf("%d calls to the key service to save what was not opened", n)
				}
				if after := w.dump(t, "patients ORDER BY id"); after != before {
					t.Errorf("saving rows that were not opened changed them:\n%s\n%s", before, after)
				}

				// Opened later, but not what was set since; a copy made before stays as it was.
				unopened := got[0]
				got[1].Name = "Hopper"
				ok(t, rowseal.Open(t.Context(), w.db, got))
				if got[0].Name != "Ada" || *got[0].Phone != "555" || got[1].Name != "Hopper" {
					t.Errorf("opened %+v", got)
				}
				notes, err := got[1].Notes.Get(t.Context())
				if err != nil || notes != "g" {
					t.Errorf("notes %q, %v", notes, err)
				}
				ok(t, w.db.Save(&unopened).Error)
				var again Patient
				ok(t, w.db.First(&again, unopened.ID).Error)
				if again.Name != "Ada" || again.Phone == nil {
					t.Errorf("saving a copy that was not opened left %+v", again)
				}
			})
		}
	})
}

// A reader without the permission to decrypt lists rows, and changes what is not sealed.
func TestSealedNeedsNoPermissionToDecrypt(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := writerOnly(t, kind, &Patient{})
		p := Patient{Name: "Ada", Ward: "7"}
		ok(t, w.db.Create(&p).Error)
		var got []Patient
		ok(t, rowseal.Sealed(w.db).Find(&got).Error)
		ok(t, w.db.Model(&got[0]).Update("ward", "9").Error)
		if err := rowseal.Open(t.Context(), w.db, &got); err == nil {
			t.Error("opened without the permission")
		}
	})
}

// While GORM scans rows of a model it is led to other fields of the schema, by the statement's ColumnMapping. Nobody else's rows go there: neither those of a statement that
// begins meanwhile as a copy of this one, nor those of this one when it is used again.
func TestScanningLeavesNoColumnMapping(t *testing.T) {
	c := openClosed(t, sqliteGo)
	ok(t, c.db.Create(&Chart{Name: name, Ward: "w"}).Error)
	var names []struct{ Name string }
	within := false
	db := c.withIntruder(func(db *gorm.DB) {
		if within {
			return
		}
		within = true
		ok(t, db.Session(&gorm.Session{}).Find(&names).Error)
	})
	tx := db.Model(&Chart{}).Where("ward = ?", "w")
	var all []Chart
	ok(t, tx.Find(&all).Error)
	if len(all) != 1 || all[0].Name != name || len(names) != 1 || names[0].Name != name {
		t.Errorf("read %d and %d rows, or not all of them", len(all), len(names))
	}
	if m := tx.Statement.ColumnMapping; m != nil {
		t.Errorf("the statement was left with %q", m)
	}

	// A panic leaves out the end.
	panics := true
	tx = c.withIntruder(func(*gorm.DB) {
		if panics {
			panic("of the application")
		}
	}).Model(&Chart{}).Where("ward = ?", "w")
	func() {
		defer func() {
			if got := recover(); got != "of the application" {
				t.Errorf("recovered %v", got)
			}
		}()
		tx.Find(&all)
	}()
	panics = false
	ok(t, tx.Scan(&names).Error)
	ok(t, tx.Find(&all).Error)
	if len(all) != 1 || all[0].Name != name || len(names) != 1 || names[0].Name != name {
		t.Errorf("after a panic: read %d and %d rows, or not all of them", len(all), len(names))
	}
}
