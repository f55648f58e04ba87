package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// A struct that was read while the row was shredded is saved when the id is another row's.
func TestAttackShreddedStructOverANewRow(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for name, write := range map[string]func(tx *gorm.DB, p *ShredPatient) error{
			"Save":    func(tx *gorm.DB, p *ShredPatient) error { return tx.Save(p).Error },
			"slice":   func(tx *gorm.DB, p *ShredPatient) error { return tx.Save(&[]ShredPatient{*p}).Error },
			"Updates": func(tx *gorm.DB, p *ShredPatient) error { return tx.Select("*").Updates(p).Error },
			"upsert": func(tx *gorm.DB, p *ShredPatient) error {
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(p).Error
			},
			"copy": func(tx *gorm.DB, p *ShredPatient) error {
				q := ShredPatient{ID: p.ID, Ward: p.Ward, RowKey: p.RowKey, MedicalKey: p.MedicalKey}
				return tx.Save(&q).Error
			},
			"by mail": func(tx *gorm.DB, p *ShredPatient) error {
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"name", "ward"})}).Create(p).Error
			},
			"Rotate": func(tx *gorm.DB, p *ShredPatient) error { return rowseal.Rotate(t.Context(), tx, p) },
		} {
			s := newShreds(t, kind, 3)
			s.shred(t, s.db.Where("id = 2"), &ShredPatient{})
			var p ShredPatient
			ok(t, s.db.First(&p, 2).Error)
			ok(t, s.db.Unscoped().Delete(&ShredPatient{ID: 2}).Error)
			fresh := shredPatient(2)
			fresh.Visits = nil
			ok(t, s.db.Create(&fresh).Error)
			p.Ward = "late"
			err := write(s.db, &p)
			var now ShredPatient
			ok(t, s.db.First(&now, 2).Error)
			secret, _ := now.Diagnosis.Get(t.Context())
			if now.Name != fresh.Name || now.Email == nil || now.Phone == nil || now.Code != fresh.Code || secret == "" || now.Born.IsZero() || now.Note != fresh.Note {
				t.Errorf("%s: %+v %v", name, now, err)
			}
		}
	})
}

// A shredded row has random bytes in a narrow index: who searches a value that has the same is not disturbed.
func TestAttackShreddedNarrowIndex(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 3)
		s.shred(t, s.db.Where("id < 3"), &ShredPatient{})
		s.tamper(t, "UPDATE shred_patients SET code_12bits_bidx = (SELECT b FROM (SELECT code_12bits_bidx AS b FROM shred_patients WHERE id = 3) AS x)")
		var got []ShredPatient
		ok(t, s.db.Where(&ShredPatient{Code: s.rows[2].Code}).Find(&got).Error)
		if len(got) != 1 || got[0].ID != 3 {
			t.Errorf("%+v", got)
		}
		// The empty text is what shredded rows read as.
		var empty []ShredPatient
		ok(t, s.db.Where("id > 0").Where(rowseal.Eq("Code", "")).Find(&empty).Error)
		if len(empty) != 0 {
			t.Errorf("%d", len(empty))
		}
	})
}

// Several calls at once, of sets that overlap, while rows are inserted: whatever is shredded is in a call of the ledger that is complete.
func TestAttackShredsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := &shreds{ledger: &bytes.Buffer{}}
		locked := &lockedBuffer{}
		s.world = openWith(t, kind, localKeys(t), rowseal.Config{Models: []any{&AtkCase{}}, ShredLedger: rowseal.NewShredLedger(locked)}, &gorm.Config{})
		const n = 600
		rows := make([]AtkCase, n)
		for i := range rows {
			rows[i] = AtkCase{ID: uint64(i + 1), Ward: "w", Name: new("x"), Notes: new("y")}
		}
		ok(t, s.db.CreateInBatches(&rows, 200).Error)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range 20 {
					_, err := rowseal.Shred(s.db.Where("id > ? AND id <= ?", i*100, i*100+350), &AtkCase{})
					if err == nil {
						return
					} // a deadlock, which is a matter of trying again
				}
				t.Error("it never passed")
			})
		}
		wg.Go(func() {
			for i := range 60 {
				var err error
				for try := 0; try == 0 || err != nil && try < 20; try++ { // which may be in a deadlock too
					err = s.db.Create(&AtkCase{ID: uint64(1000 + i), Ward: "w", Name: new("x")}).Error
				}
				if err != nil {
					t.Errorf("create: %v", err)
				}
			}
		})
		wg.Wait()
		var dead []uint64
		ok(t, s.db.Model(&AtkCase{}).Scopes(rowseal.Shredded).Pluck("id", &dead).Error)
		complete, in := map[string]bool{}, map[string][]string{}
		for _, line := range bytes.Split(bytes.TrimSpace([]byte(locked.String())), []byte("\n")) {
			var e rowseal.ShredEntry
			ok(t, json.Unmarshal(line, &e))
			if e.Complete {
				complete[e.Shred] = true
			} else {
				in[e.ID[0]] = append(in[e.ID[0]], e.Shred)
			}
		}
		if len(dead) != n {
			t.Errorf("%d are shredded", len(dead))
		}
		for _, id := range dead {
			found := false
			for _, call := range in[fmt.Sprint("integer:", id)] {
				found = found || complete[call]
			}
			if !found {
				t.Errorf("row %d is in no call that is complete", id)
			}
		}
	})
}

// A failed part of an application's own transaction, which has no savepoints.
func TestAttackShredHalf(t *testing.T) {
	s := newShreds(t, postgres, 3)
	half := s.db.Session(&gorm.Session{DisableNestedTransaction: true})
	err := half.Transaction(func(tx *gorm.DB) error {
		sub := tx.Session(&gorm.Session{NewDB: true}).Model(&ShredPatient{}).Select("id").Where(&ShredPatient{Email: s.rows[1].Email})
		_, err := rowseal.Shred(tx.Scopes(func(db *gorm.DB) *gorm.DB {
			column := "patient_id"
			if _, patient := db.Statement.Model.(*ShredPatient); patient {
				column = "id"
			}
			return db.Where(column+" IN (?)", sub)
		}), &ShredPatient{}, &ShredVisit{})
		if !errors.Is(err, rowseal.ErrUnsupported) {
			t.Error(err)
		}
		return nil // it goes on: "nothing was shredded"
	})
	ok(t, err)
	var n int64
	ok(t, s.db.Unscoped().Model(&ShredPatient{}).Scopes(rowseal.Shredded).Count(&n).Error)
	if n != 0 {
		got := s.replay(t, s.db)
		t.Errorf("the error says that nothing was shredded, and %d rows are; the ledger: %+v", n, got)
	}
}

// What only begins like a tombstone is not overwritten, and whoever tries is told so.
func TestAttackBrokenTombstone(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkCase{})
		atkCases(t, s)
		s.tamper(t, "UPDATE atk_cases SET encrypted_kms_key = 'shredded:x', more_key = 'shredded:x', name = NULL, notes = NULL, phone = NULL WHERE id = 2")
		for name, write := range map[string]func() error{
			"whole": func() error {
				return s.db.Model(&AtkCase{ID: 2}).Updates(map[string]any{"name": "new", "notes": "new"}).Error
			},
			"upsert": func() error {
				return s.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&AtkCase{ID: 2, Name: new("new"), Notes: new("new"), AtkMore: &AtkMore{Phone: new("new")}}).Error
			},
			"many": func() error {
				return s.db.Model(&AtkCase{}).Where("id = 2").Updates(map[string]any{"name": "new", "notes": "new"}).Error
			},
		} {
			err := write()
			if got := s.columns2(t, "atk_cases", 2); err == nil {
				t.Errorf("%s: no error, and the row has the name %q", name, got["name"])
			}
		}
	})
}

// AtkPair has a key of two parts, which may be nil.
type AtkPair struct {
	A    *string `gorm:"primaryKey;size:20"`
	B    *string `gorm:"primaryKey;size:20"`
	Name string  `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// A value with a part of its primary key names no row; the part must not be passed over.
func TestAttackShredPartOfAKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkPair{})
		for _, a := range []string{"x", "y"} {
			ok(t, s.db.Create(&AtkPair{A: &a, B: new("1"), Name: "n"}).Error)
		}
		got, err := rowseal.Shred(s.db.Where("b = ?", "1"), &AtkPair{A: new("x")})
		if got.Rows > 1 || err == nil && got.Rows != 0 {
			t.Errorf("%+v %v", got, err)
		}
	})
}
