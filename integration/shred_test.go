package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// ShredPatient has all that a row can have to be erased: two keys, a unique index and a narrow one, columns that take no NULL, text, a Secret, and soft deletion.
type ShredPatient struct {
	ID        uint64
	Ward      string
	Name      string                 `gorm:"not null;serializer:rowseal"`
	Email     *string                `gorm:"serializer:rowseal" rowseal:"unique=lower"`
	Code      string                 `gorm:"not null;serializer:rowseal" rowseal:"index=12bits"`
	Note      string                 `gorm:"not null;serializer:rowseal" rowseal:"text"`
	Born      time.Time              `gorm:"serializer:rowseal"`
	Diagnosis rowseal.Secret[string] `rowseal:"key=MedicalKey"`
	Phone     *string                `gorm:"serializer:rowseal" rowseal:"key=MedicalKey"`
	DeletedAt gorm.DeletedAt
	UpdatedAt time.Time
	Visits    []ShredVisit `gorm:"foreignKey:PatientID"`
	rowseal.RowKey
	MedicalKey rowseal.Key `gorm:"column:encrypted_kms_key_medical" json:"-"`
}

// ShredVisit is of a patient.
type ShredVisit struct {
	PatientID uint64 `gorm:"primaryKey;autoIncrement:false"`
	Day       string `gorm:"primaryKey;size:20"`
	Report    string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// shreds is a world with patients, visits and a ledger.
type shreds struct {
	*world
	ledger *bytes.Buffer
	fail   func(entries []rowseal.ShredEntry) error // what the ledger says; nil for nothing
	rows   []ShredPatient
}

// Append is part of rowseal.ShredLedger.
func (s *shreds) Append(ctx context.Context, entries []rowseal.ShredEntry) error {
	if s.fail != nil {
		if err := s.fail(entries); err != nil {
			return err
		}
	}
	return rowseal.NewShredLedger(s.ledger).Append(ctx, entries)
}

const shredCanary = "canary-of-shredding"

func newShreds(t testing.TB, kind string, patients int) *shreds {
	t.Helper()
	s := &shreds{ledger: &bytes.Buffer{}}
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	s.world = openWith(t, kind, shredKeys(t, counter, 1), rowseal.Config{Models: []any{&ShredPatient{}, &ShredVisit{}}, ShredLedger: s},
		&gorm.Config{TranslateError: true, DisableForeignKeyConstraintWhenMigrating: true})
	s.kms = counter
	_, err := migrations.Up(t.Context(), s.db)
	ok(t, err)
	for i := 1; i <= patients; i++ {
		s.rows = append(s.rows, shredPatient(uint64(i)))
	}
	ok(t, s.used.(*rowseal.Plugin).MakeIndexKeys(t.Context(), s.db))
	var visits []ShredVisit
	for _, r := range s.rows {
		for _, v := range r.Visits {
			v.PatientID = r.ID
			visits = append(visits, v)
		}
	}
	ok(t, s.db.Omit("Visits").CreateInBatches(&s.rows, 50).Error)
	ok(t, s.db.CreateInBatches(&visits, 50).Error)
	s.kms.Reset()
	return s
}

func shredPatient(id uint64) ShredPatient {
	canary := func(what string) string { return fmt.Sprintf("%s %s %d", shredCanary, what, id) }
	return ShredPatient{
		ID: id, Ward: []string{"east", "west"}[id%2], Name: canary("name"), Email: new(canary("email")), Code: canary("code"), Note: canary("note"), Born: time.Unix(1e9, 0),
		Diagnosis: rowseal.NewSecret(canary("diagnosis")), Phone: new(canary("phone")),
		Visits: []ShredVisit{{Day: "2026-01-01", Report: canary("first")}, {Day: "2026-01-02", Report: canary("second")}},
	}
}

// remains lists the columns of a patient and of visits in which something of the old row is left.
func (s *shreds) remains(t testing.TB, before map[string]string, id uint64) (left []string) {
	t.Helper()
	for column, value := range s.columns(t, id) {
		if old := before[column]; value == old && old != "<nil>" && !slices.Contains([]string{"id", "ward", "updated_at", "deleted_at"}, column) {
			left = append(left, column)
		}
	}
	return left
}

// columns is a patient as the database has it.
func (s *shreds) columns(t testing.TB, id uint64) map[string]string {
	t.Helper()
	out, of := map[string]string{}, false
	all, at := []map[string]string{}, map[string]string{}
	s.scan(t, "shred_patients", func(column, value string) {
		if _, again := at[column]; again {
			all, at = append(all, at), map[string]string{}
		}
		at[column] = value
	})
	for _, row := range append(all, at) {
		if row["id"] == fmt.Sprint(id) {
			out, of = row, true
		}
	}
	if !of {
		t.Fatalf("patient %d is gone", id)
	}
	return out
}

func (s *shreds) shred(t testing.TB, db *gorm.DB, models ...any) rowseal.ShredResult {
	t.Helper()
	result, err := rowseal.Shred(db, models...)
	ok(t, err)
	return result
}

func (s *shreds) replay(t testing.TB, db *gorm.DB, models ...any) rowseal.ReplayResult {
	t.Helper()
	result, err := rowseal.ReplayShreds(db, bytes.NewReader(s.ledger.Bytes()), models...)
	ok(t, err)
	return result
}

func TestShredErasesASubject(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 5)
		before := map[uint64]map[string]string{}
		for _, r := range s.rows {
			before[r.ID] = s.columns(t, r.ID)
		}
		// The key service is away, and is not asked.
		s.kms.Before = func(context.Context, kmskeytest.Call) error { return kmskey.ErrUnavailable }
		got := s.shred(t, s.db.Where("id = ?", 3), &ShredPatient{})
		if got != (rowseal.ShredResult{Rows: 1, Keys: 2}) {
			t.Errorf("%+v", got)
		}
		if got := s.shred(t, s.db.Where("patient_id = ?", 3), &ShredVisit{}); got.Rows != 2 || got.Keys != 2 {
			t.Errorf("%+v", got)
		}
		if n := s.kms.Calls(); n != 0 {
			t.Errorf("%d calls to the key service", n)
		}
		s.kms.Before = nil
		if left := s.remains(t, before[3], 3); left != nil {
			t.Errorf("of the old row there is still %v", left)
		}
		now := s.columns(t, 3)
		if now["ward"] != before[3]["ward"] || now["updated_at"] != before[3]["updated_at"] {
			t.Errorf("other columns changed: %v", now)
		}
		for _, r := range s.rows {
			if r.ID != 3 && fmt.Sprint(s.columns(t, r.ID)) != fmt.Sprint(before[r.ID]) {
				t.Errorf("row %d changed", r.ID)
			}
		}

		var all []ShredPatient
		ok(t, s.db.Preload("Visits").Order("id").Find(&all).Error)
		for i, r := range all {
			shredded := r.ID == 3
			if r.EncryptedKMSKey.Shredded() != shredded || r.MedicalKey.Shredded() != shredded {
				t.Errorf("row %d: %v %v", r.ID, r.EncryptedKMSKey.Shredded(), r.MedicalKey.Shredded())
			}
			diagnosis, err := r.Diagnosis.Get(t.Context())
			ok(t, err)
			if empty := r.Name == "" && r.Email == nil && r.Code == "" && r.Note == "" && r.Born.IsZero() && r.Phone == nil && diagnosis == ""; empty != shredded {
				t.Errorf("row %d: %+v", r.ID, r)
			}
			if !shredded && (r.Name != s.rows[i].Name || r.Visits[1].Report != s.rows[i].Visits[1].Report) {
				t.Errorf("row %d: %+v", r.ID, r)
			}
			if shredded && (len(r.Visits) != 2 || r.Visits[0].Report != "" || !r.Visits[0].EncryptedKMSKey.Shredded()) {
				t.Errorf("visits of row %d: %+v", r.ID, r.Visits)
			}
		}
		var names []*string
		ok(t, s.db.Model(&ShredPatient{}).Order("id").Pluck("name", &names).Error)
		if *names[2] != "" || *names[1] != s.rows[1].Name {
			t.Errorf("%v", names)
		}
		var dtos []struct{ Name, Code string }
		ok(t, s.db.Model(&ShredPatient{}).Order("id").Scan(&dtos).Error)
		if dtos[2].Name != "" || dtos[1].Name != s.rows[1].Name {
			t.Errorf("%v", dtos)
		}
		var born time.Time
		ok(t, s.db.Model(&ShredPatient{}).Select("born").Where("id = 3").Row().Scan(&born))
		if !born.IsZero() {
			t.Error(born)
		}
		var maps []map[string]any
		ok(t, s.db.Model(&ShredPatient{}).Select("id", "name", "encrypted_kms_key").Order("id").Find(&maps).Error)
		if maps[2]["name"] != nil && maps[2]["name"] != "" || !strings.HasPrefix(fmt.Sprint(maps[2]["encrypted_kms_key"]), "shredded:") {
			t.Errorf("%v", maps[2])
		}
		ok(t, rowseal.Open(t.Context(), s.db, &all))
		// No index finds it.
		for _, cond := range []any{&ShredPatient{Email: s.rows[2].Email}, &ShredPatient{Code: s.rows[2].Code}} {
			var found []ShredPatient
			ok(t, s.db.Where(cond).Find(&found).Error)
			if len(found) != 0 {
				t.Errorf("found %+v", found)
			}
		}
		// The unique value is free again.
		ok(t, s.db.Create(&ShredPatient{ID: 99, Name: "x", Email: s.rows[2].Email}).Error)

		for want, scope := range map[string]func(*gorm.DB) *gorm.DB{"[3]": rowseal.Shredded, "[1 2 4 5 99]": rowseal.NotShredded, "[]": rowseal.NotUnderVersion(1), "[1 2 4 5 99] ": rowseal.UnderVersion(1)} {
			var ids []uint64
			ok(t, s.db.Model(&ShredPatient{}).Scopes(scope).Order("id").Pluck("id", &ids).Error)
			if fmt.Sprint(ids) != strings.TrimSpace(want) {
				t.Errorf("%v, want %s", ids, want)
			}
		}
		if got := s.shred(t, s.db.Where("id IN ?", []int{2, 3}), &ShredPatient{}); got != (rowseal.ShredResult{Rows: 1, Keys: 2, Already: 1}) {
			t.Errorf("again: %+v", got)
		}
		if strings.Contains(s.ledger.String(), shredCanary) || strings.Contains(s.log.String(), shredCanary) {
			t.Error("plaintext in the ledger or the log")
		}
		ok(t, s.db.Unscoped().Delete(&ShredPatient{ID: 3}).Error)
	})
}

func TestShredTakesConditions(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 6)
		count := func() (n int64) {
			t.Helper()
			ok(t, s.db.Unscoped().Model(&ShredPatient{}).Scopes(rowseal.Shredded).Count(&n).Error)
			return n
		}
		refused := func(db *gorm.DB, kind error, part string, models ...any) {
			t.Helper()
			if len(models) == 0 {
				models = []any{&ShredPatient{}}
			}
			_, err := rowseal.Shred(db, models...)
			fails(t, err, kind, part)
			if n := count(); n != 0 {
				t.Fatalf("%d rows are shredded", n)
			}
		}
		refused(s.db, gorm.ErrMissingWhereClause, "shred ShredPatient")
		refused(s.db.Where(&ShredPatient{}), gorm.ErrMissingWhereClause, "shred ShredPatient")
		refused(s.db.Scopes(func(db *gorm.DB) *gorm.DB { return db }), gorm.ErrMissingWhereClause, "shred")
		refused(s.db.Where("name = ?", "x"), rowseal.ErrCondition, "name")
		refused(s.db.Where(&ShredPatient{Code: s.rows[0].Code}), rowseal.ErrNarrowIndex, "shred")
		refused(s.db.Where("id = 1").Limit(1), rowseal.ErrUnsupported, "LIMIT")
		refused(s.db.Where("id = 1").Order("id"), rowseal.ErrUnsupported, "ORDER BY")
		refused(s.db.Where("id = 1").Joins("JOIN shred_visits ON true"), rowseal.ErrUnsupported, "Where, Not, Or and Scopes")
		refused(s.db.Table("shred_visits").Where("id = 1"), rowseal.ErrUnsupported, "Where, Not, Or and Scopes")
		refused(s.db.Session(&gorm.Session{DryRun: true}).Where("id = 1"), rowseal.ErrUnsupported, "dry run")
		refused(s.db.Where("id = 1"), rowseal.ErrModel, "is not registered", &Doctor{})
		refused(s.db.Where("id = 1"), rowseal.ErrModel, "pointer", ShredPatient{})
		if _, err := rowseal.Shred(s.db.Where("nowhere = 1"), &ShredPatient{}); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Error(err)
		}

		// A subject whose e-mail says where the visits are: after the patient nobody knows.
		_, err := rowseal.Shred(s.db.Where("id IN (?)", s.db.Model(&ShredPatient{}).Select("id").Where(&ShredPatient{Email: s.rows[3].Email})).Or("id < 0"), &ShredPatient{})
		ok(t, err)
		if n := count(); n != 1 {
			t.Errorf("%d rows", n)
		}
		before := s.dump(t, "shred_patients") + s.dump(t, "shred_visits")
		sub := s.db.Model(&ShredPatient{}).Select("id").Where(&ShredPatient{Email: s.rows[4].Email})
		_, err = rowseal.Shred(s.db.Scopes(func(db *gorm.DB) *gorm.DB {
			column := "patient_id"
			if _, patient := db.Statement.Model.(*ShredPatient); patient {
				column = "id"
			}
			return db.Where(column+" IN (?)", sub)
		}), &ShredPatient{}, &ShredVisit{})
		fails(t, err, rowseal.ErrUnsupported, "2 rows were found, and 0 when they were to be shredded", "nothing was shredded")
		if after := s.dump(t, "shred_patients") + s.dump(t, "shred_visits"); after != before {
			t.Error("a Shred that failed changed rows")
		}
		ok(t, s.db.Delete(&s.rows[0]).Error) // soft
		if got := s.shred(t, s.db.Where("ward = ?", "west").Or("ward = ?", "nowhere"), &ShredPatient{}); got.Rows != 3 {
			t.Errorf("%+v", got)
		}
		if got := s.shred(t, s.db, &s.rows[5]); got.Rows != 1 || count() != 5 {
			t.Errorf("by primary key: %+v, %d", got, count())
		}
		if got := s.shred(t, s.db.Session(&gorm.Session{AllowGlobalUpdate: true}), &ShredPatient{}, &ShredVisit{}); got.Rows != 1+12 || got.Already != 5 {
			t.Errorf("all: %+v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := rowseal.Shred(s.db.WithContext(ctx).Where("id = 1"), &ShredPatient{}); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := rowseal.Shred(s.db.Where("id = 1")); !errors.Is(err, rowseal.ErrModel) {
			t.Error(err)
		}
	})
}

func TestShredManyRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 300)
		if got := s.shred(t, s.db.Where("patient_id > 10"), &ShredVisit{}); got != (rowseal.ShredResult{Rows: 580, Keys: 580}) {
			t.Errorf("%+v", got)
		}
		var n int64
		ok(t, s.db.Model(&ShredVisit{}).Scopes(rowseal.NotShredded).Count(&n).Error)
		if n != 20 {
			t.Errorf("%d left", n)
		}
		if lines := strings.Count(s.ledger.String(), "\n"); lines != 581 {
			t.Errorf("%d lines", lines)
		}
		if got := s.shred(t, s.db.Where("id > 295"), &ShredPatient{}); got.Rows != 5 { // each with random bytes of its own
			t.Errorf("%+v", got)
		}
	})
}

// TestShreddedRowsTakeNothing goes through the ways of writing.
func TestShreddedRowsTakeNothing(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 4)
		old := s.rows[1]
		s.shred(t, s.db.Where("id = 2"), &ShredPatient{})
		s.shred(t, s.db.Where("patient_id = 2"), &ShredVisit{})
		stone := s.columns(t, 2)
		load := func() (p ShredPatient) {
			t.Helper()
			ok(t, s.db.First(&p, 2).Error)
			return p
		}
		whole := func(id uint64) ShredPatient {
			p := shredPatient(id)
			p.Visits, p.Email = nil, new("other")
			return p
		}
		visit := ShredVisit{PatientID: 2, Day: "2026-01-01", Report: "new"}
		for name, write := range map[string]func(tx *gorm.DB) error{
			"Save of the row from before": func(tx *gorm.DB) error { p := old; return tx.Omit("Visits").Save(&p).Error },
			"Save of a loaded row":        func(tx *gorm.DB) error { p := load(); p.Name = "new"; return tx.Save(&p).Error },
			"Save of a Secret":            func(tx *gorm.DB) error { p := load(); p.Diagnosis = rowseal.NewSecret("x"); return tx.Save(&p).Error },
			"Save of a whole row":         func(tx *gorm.DB) error { p := whole(2); return tx.Save(&p).Error },
			"Save of a slice":             func(tx *gorm.DB) error { p := []ShredPatient{whole(2), whole(7)}; return tx.Save(&p).Error },
			"Updates of a struct": func(tx *gorm.DB) error {
				return tx.Model(&ShredPatient{ID: 2}).Updates(&ShredPatient{Name: "new"}).Error
			},
			"Updates of a loaded struct": func(tx *gorm.DB) error { p := load(); return tx.Model(&p).Updates(&ShredPatient{Name: "new"}).Error },
			"Updates of a map": func(tx *gorm.DB) error {
				return tx.Model(&ShredPatient{ID: 2}).Updates(map[string]any{"name": "new"}).Error
			},
			"Update":          func(tx *gorm.DB) error { return tx.Model(&ShredPatient{ID: 2}).Update("name", "new").Error },
			"Update to empty": func(tx *gorm.DB) error { p := load(); return tx.Model(&p).Update("name", "").Error },
			"UpdateColumn":    func(tx *gorm.DB) error { return tx.Model(&ShredPatient{ID: 2}).UpdateColumn("phone", "1").Error },
			"Select and Updates": func(tx *gorm.DB) error {
				p := load()
				return tx.Model(&p).Select("Name").Updates(&ShredPatient{}).Error
			},
			"all fields of a visit": func(tx *gorm.DB) error {
				return tx.Model(&ShredVisit{PatientID: 2, Day: "2026-01-01"}).Update("report", "x").Error
			},
			"all fields of a visit, struct": func(tx *gorm.DB) error { v := visit; return tx.Select("*").Updates(&v).Error },
			"Save of a visit":               func(tx *gorm.DB) error { v := visit; return tx.Save(&v).Error },
			"many rows":                     func(tx *gorm.DB) error { return tx.Model(&ShredPatient{}).Where("id > 0").Update("phone", "1").Error },
			"many whole rows":               func(tx *gorm.DB) error { return tx.Model(&ShredVisit{}).Where("day > ''").Update("report", "x").Error },
			"upsert of all": func(tx *gorm.DB) error {
				p := whole(2)
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error
			},
			"upsert of all, visit": func(tx *gorm.DB) error {
				v := visit
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&v).Error
			},
			"upsert of several visits": func(tx *gorm.DB) error {
				v := []ShredVisit{{PatientID: 3, Day: "2026-01-01", Report: "fine"}, visit, {PatientID: 3, Day: "2026-07-01", Report: "fine"}}
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&v).Error
			},
			"upsert of part": func(tx *gorm.DB) error {
				p := whole(2)
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(&p).Error
			},
			"upsert of a group and its key": func(tx *gorm.DB) error {
				v := visit
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "patient_id"}, {Name: "day"}}, DoUpdates: clause.AssignmentColumns([]string{"report", "encrypted_kms_key"})}).Create(&v).Error
			},
			"upsert of the row from before": func(tx *gorm.DB) error {
				p := old
				return tx.Omit("Visits").Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error
			},
			"upsert of a loaded row": func(tx *gorm.DB) error {
				p := load()
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error
			},
			"upsert of a map": func(tx *gorm.DB) error {
				return tx.Model(&ShredVisit{}).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "patient_id"}, {Name: "day"}}, DoUpdates: clause.AssignmentColumns([]string{"report", "encrypted_kms_key"})}).
					Create(map[string]any{"patient_id": 2, "day": "2026-01-01", "report": "x"}).Error
			},
			"FirstOrCreate with Assign": func(tx *gorm.DB) error {
				var p ShredPatient
				return tx.Where("id = 2").Assign(&ShredPatient{Name: "new"}).FirstOrCreate(&p).Error
			},
			"associations": func(tx *gorm.DB) error {
				p := ShredPatient{ID: 2, Ward: "w", Name: "x", Visits: []ShredVisit{visit}}
				return tx.Session(&gorm.Session{FullSaveAssociations: true}).Select("Visits").Updates(&p).Error
			},
			"G Update": func(tx *gorm.DB) error {
				_, err := gorm.G[ShredPatient](tx).Where("id = ?", 2).Update(t.Context(), "name", "x")
				return err
			},
			"G Updates": func(tx *gorm.DB) error {
				_, err := gorm.G[ShredVisit](tx).Where("patient_id = 2").Updates(t.Context(), ShredVisit{Report: "x"})
				return err
			},
		} {
			err := write(s.db)
			if !errors.Is(err, rowseal.ErrShredded) {
				t.Errorf("%s: %v", name, err)
			}
			if now := s.columns(t, 2); fmt.Sprint(now) != fmt.Sprint(stone) {
				t.Fatalf("%s changed the row: %v, was %v", name, now, stone)
			}
		}
		var left int64
		ok(t, s.db.Model(&ShredVisit{}).Scopes(rowseal.Shredded).Count(&left).Error)
		if left != 2 {
			t.Errorf("%d visits are shredded", left)
		}
		// A struct from before that was made by a program without the permission to decrypt.
		writer := s.also(t, s.keys, rowseal.Config{Models: []any{&ShredPatient{}, &ShredVisit{}}, WriteOnly: true})
		fails(t, writer.Model(&ShredPatient{ID: 2}).Update("name", "new").Error, rowseal.ErrShredded)
		var closed ShredPatient
		ok(t, writer.First(&closed, 2).Error)
		closed.Ward = "closed"
		ok(t, writer.Save(&closed).Error)

		// What is not sealed goes on.
		p := load()
		p.Ward = "north"
		ok(t, s.db.Save(&p).Error)
		ok(t, s.db.Model(&p).Update("ward", "south").Error)
		ok(t, s.db.Model(&ShredPatient{}).Where("id > 0").Update("ward", "everywhere").Error)
		ok(t, s.db.Model(&ShredPatient{ID: 2}).Updates(&ShredPatient{Ward: "here"}).Error)
		if p = load(); p.Ward != "here" || !p.EncryptedKMSKey.Shredded() || p.Name != "" {
			t.Errorf("%+v", p)
		}
		ok(t, s.db.Model(&ShredPatient{}).Scopes(rowseal.NotShredded).Where("id > 0").Update("phone", "1").Error)
		ok(t, rowseal.Rotate(t.Context(), s.db, &ShredPatient{ID: 2}))
		ok(t, s.db.Delete(&p).Error)
		ok(t, s.db.Unscoped().Delete(&ShredPatient{ID: 2}).Error)
		p = whole(2)
		ok(t, s.db.Create(&p).Error) // another row, which may have the id
	})
}

func TestShredWhileAnotherWrites(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 2)
		// A whole row is on its way, its key made, when the row is shredded.
		once := false
		s.kms.Before = func(context.Context, kmskeytest.Call) error {
			if !once {
				once = true
				s.shred(t, s.db.Where("patient_id = 1"), &ShredVisit{})
			}
			return nil
		}
		writer := s.db.Session(&gorm.Session{SkipDefaultTransaction: true})
		fails(t, writer.Model(&ShredVisit{PatientID: 1, Day: "2026-01-01"}).Update("report", "late").Error, rowseal.ErrShredded)
		s.kms.Before = nil
		var n int64
		ok(t, s.db.Model(&ShredVisit{}).Scopes(rowseal.Shredded).Count(&n).Error)
		if n != 2 {
			t.Errorf("%d", n)
		}
	})
}

// TestShredAgainstWriters has writers go on in every way until they are told that the row is gone.
func TestShredAgainstWriters(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 2)
		writers := []func() error{
			func() error {
				return s.db.Model(&ShredVisit{PatientID: 1, Day: "2026-01-01"}).Update("report", "whole").Error
			},
			func() error {
				v := ShredVisit{PatientID: 1, Day: "2026-01-01", Report: "upsert"}
				return s.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&v).Error
			},
			func() error {
				return s.db.Model(&ShredVisit{}).Where("patient_id = 1").Update("report", "many").Error
			},
			func() error {
				var v ShredVisit
				if err := s.db.Where("patient_id = 1").First(&v).Error; err != nil {
					return err
				}
				v.Report = "loaded"
				return s.db.Save(&v).Error
			},
		}
		begun := make(chan struct{}, len(writers))
		var wg sync.WaitGroup
		for i, write := range writers {
			wg.Go(func() {
				for n := 0; ; n++ {
					if n == 2 {
						begun <- struct{}{}
					}
					if err := write(); errors.Is(err, rowseal.ErrShredded) {
						return
					} else if n > 5000 {
						t.Errorf("writer %d goes on: %v", i, err)
						return
					}
				}
			})
		}
		for range writers {
			<-begun
		}
		for { // a deadlock is a matter of trying again
			if _, err := rowseal.Shred(s.db.Where("patient_id = 1"), &ShredVisit{}); err == nil {
				break
			} else if t.Context().Err() != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		var n int64
		ok(t, s.db.Model(&ShredVisit{}).Scopes(rowseal.Shredded).Where("patient_id = 1 AND report IS NULL").Count(&n).Error)
		if n != 2 {
			t.Errorf("%d rows are shredded", n)
		}
	})
}

func TestShredRowsOfEveryState(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 3)
		s.dropChecks(t, &ShredVisit{})
		s.tamper(t, "INSERT INTO shred_visits (patient_id, day) VALUES (2, 'none')")
		s.tamper(t, "INSERT INTO shred_visits (patient_id, day, encrypted_kms_key) VALUES (2, 'token', 'pending:AAAAAAAAAAAAAAAAAAAAAA')")
		s.tamper(t, "INSERT INTO shred_visits (patient_id, day, encrypted_kms_key) VALUES (2, 'broken', 'v1:broken')")
		if got := s.shred(t, s.db.Where("patient_id = 2"), &ShredVisit{}); got != (rowseal.ShredResult{Rows: 5, Keys: 2}) {
			t.Errorf("%+v", got)
		}
		var visits []ShredVisit
		ok(t, s.db.Where("patient_id = 2").Find(&visits).Error)
		for _, v := range visits {
			if !v.EncryptedKMSKey.Shredded() {
				t.Errorf("%+v", v)
			}
			v.Report = "new"
			fails(t, s.db.Save(&v).Error, rowseal.ErrShredded)
		}
		// Something sealed that is put back beside a tombstone is an error, and goes with the next Shred.
		s.tamper(t, "UPDATE shred_visits SET report = ? WHERE patient_id = 2 AND day = '2026-01-01'", s.visitCell(t, 1, "report"))
		fails(t, s.db.Where("patient_id = 2").Find(&visits).Error, rowseal.ErrShredded, "destroyed on purpose")
		got, err := rotation.Verify(t.Context(), s.db, &ShredVisit{}, 0, rotation.Config{})
		ok(t, err)
		if got.Failed != 1 || got.Shredded != 4 || got.Failures[0].Class != "shredded" {
			t.Errorf("%+v", got)
		}
		s.shred(t, s.db.Where("patient_id = 2"), &ShredVisit{})
		ok(t, s.db.Where("patient_id = 2").Find(&visits).Error)
	})
}

func (s *shreds) visitCell(t testing.TB, patient int, column string) (raw []byte) {
	t.Helper()
	ok(t, s.plain.QueryRow(fmt.Sprintf("SELECT %s FROM shred_visits WHERE patient_id = %d AND day = '2026-01-01'", column, patient)).Scan(&raw))
	return raw
}

func TestShreddedRowsAreNotRotated(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 8)
		s.shred(t, s.db.Where("id < 7"), &ShredPatient{})
		next := shredKeys(t, s.kms, 2)
		stone := s.columns(t, 2)
		cfg := rotation.Config{Keys: next}
		plan, err := rotation.Plan(t.Context(), s.db, &ShredPatient{}, cfg)
		ok(t, err)
		if plan.Shredded != 12 || plan.Keys != 4 || plan.Broken != 0 || plan.PerKey == 0 {
			t.Errorf("%+v", plan)
		}
		report, err := rotation.RotateKMSKey(t.Context(), s.db, &ShredPatient{}, cfg)
		ok(t, err)
		addsUp(t, report)
		if report.Shredded != 12 || report.Seen != 4 || report.Rewrapped != 4 || report.Failed != 0 {
			t.Errorf("%+v", report)
		}
		var text strings.Builder
		ok(t, report.WriteTable(&text))
		if !strings.Contains(text.String(), "shredded, passed over") {
			t.Error(text.String())
		}
		held, err := rotation.Status(t.Context(), s.db, &ShredPatient{}, cfg)
		ok(t, err)
		counts := map[string]int64{}
		for _, h := range held {
			counts[fmt.Sprintf("%s %d", h.Column, h.Version)] += h.Rows
		}
		if fmt.Sprint(counts) != "map[encrypted_kms_key -2:6 encrypted_kms_key 2:2 encrypted_kms_key_medical -2:6 encrypted_kms_key_medical 2:2]" {
			t.Errorf("%v", counts)
		}
		got, err := rotation.Verify(t.Context(), s.db, &ShredPatient{}, 0, cfg)
		ok(t, err)
		if !got.Clean() || got.Shredded != 12 || got.Keys != 4 || got.Of != 4 {
			t.Errorf("%+v", got)
		}
		if now := s.columns(t, 2); fmt.Sprint(now) != fmt.Sprint(stone) {
			t.Errorf("the row changed: %v", now)
		}
		filled, err := rotation.FillIndexes(t.Context(), s.db, &ShredPatient{}, rotation.Config{All: true})
		ok(t, err)
		if filled.Failed != 0 {
			t.Errorf("%+v", filled)
		}
		if now := s.columns(t, 2); fmt.Sprint(now) != fmt.Sprint(stone) {
			t.Errorf("the row changed: %v", now)
		}
	})
}

// backup keeps the rows of tables, for restore.
func (s *shreds) backup(t testing.TB, tables ...string) {
	t.Helper()
	for _, table := range tables {
		s.tamper(t, fmt.Sprintf("CREATE TABLE backup_%s AS SELECT * FROM %[1]s", table))
	}
}

func (s *shreds) restore(t testing.TB, tables ...string) {
	t.Helper()
	for _, table := range tables {
		s.tamper(t, "DELETE FROM "+table)
		s.tamper(t, fmt.Sprintf("INSERT INTO %s SELECT * FROM backup_%[1]s", table))
	}
}

func TestReplayShredsAfterARestore(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 8)
		tables := []string{"shred_visits", "shred_patients"}
		s.tamper(t, "INSERT INTO shred_visits (patient_id, day) VALUES (2, 'none')")
		s.backup(t, tables...)
		before := map[uint64]map[string]string{}
		for _, r := range s.rows {
			before[r.ID] = s.columns(t, r.ID)
		}
		// After the backup: keys move, rows are erased, one of them under a key that is newer, one is deleted.
		for _, id := range []uint64{2, 3} {
			next := s.also(t, shredKeys(t, s.kms, 2), rowseal.Config{Models: []any{&ShredPatient{}, &ShredVisit{}}})
			ok(t, rowseal.Rotate(t.Context(), next, &ShredPatient{ID: id}))
		}
		ok(t, s.db.Model(&ShredVisit{PatientID: 5, Day: "2026-01-01"}).Update("report", "all of it anew").Error)
		late := ShredPatient{ID: 50, Name: "after the backup"}
		ok(t, s.db.Create(&late).Error)
		s.shred(t, s.db.Where("id IN ?", []int{2, 3, 5, 50}), &ShredPatient{})
		s.shred(t, s.db.Where("patient_id IN ?", []int{2, 5}), &ShredVisit{})

		s.restore(t, tables...)
		// The id of the late row is given anew.
		ok(t, s.db.Create(&ShredPatient{ID: 50, Name: "somebody else"}).Error)
		if strings.Contains(fmt.Sprint(s.columns(t, 2)), "shredded:") {
			t.Fatal("nothing was restored")
		}
		s.kms.Before = func(context.Context, kmskeytest.Call) error { return kmskey.ErrUnavailable }
		got := s.replay(t, s.db)
		s.kms.Before = nil
		if got.Shredded != 3+4 || got.Other != 2 || got.Already != 0 || got.Gone != 0 || len(got.Others) != 2 || got.Others[0].ID[0] != "integer:50" || fmt.Sprint(got.Others[1].ID) != "[integer:5 text:2026-01-01]" {
			t.Errorf("%+v", got)
		}
		for _, id := range []uint64{2, 3, 5} {
			if left := s.remains(t, before[id], id); left != nil {
				t.Errorf("row %d: there is still %v", id, left)
			}
		}
		for _, id := range []uint64{1, 4, 6, 7, 8} {
			if fmt.Sprint(s.columns(t, id)) != fmt.Sprint(before[id]) {
				t.Errorf("row %d changed", id)
			}
		}
		again := s.replay(t, s.db)
		if again.Already != 7 || again.Other != 2 || again.Shredded != 0 {
			t.Errorf("again: %+v", again)
		}
		if got := s.replay(t, s.db, &ShredPatient{}); got.Already != 3 || got.Other != 1 || got.Elsewhere != 5 {
			t.Errorf("one model: %+v", got)
		}
		ok(t, s.db.Unscoped().Delete(&ShredPatient{}, 3).Error)
		if got := s.replay(t, rowseal.ReplayByID(s.db), &ShredVisit{}); got.Shredded != 1 || got.Other != 0 || got.Already != 4 {
			t.Errorf("by id: %+v", got)
		}
		if got := s.replay(t, s.db); got.Gone != 1 || got.Other != 1 {
			t.Errorf("a row that is gone: %+v", got)
		}
		var name string
		ok(t, s.db.Model(&ShredPatient{}).Where("id = 50").Pluck("name", &name).Error)
		if name != "somebody else" {
			t.Error(name)
		}
	})
}

func shredKeys(t testing.TB, first kmskey.Provider, current int) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: first}, 2: {Provider: localkey.NewInsecure()}}, Current: current, Namespace: "test"})
	ok(t, err)
	return keys
}

func TestReplayShredsPassesOverWhatWasRolledBack(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShreds(t, kind, 3)
		before := s.dump(t, "shred_visits") + s.dump(t, "shred_patients")
		unchanged := func(what string) {
			t.Helper()
			if s.dump(t, "shred_visits")+s.dump(t, "shred_patients") != before {
				t.Fatalf("%s: rows changed", what)
			}
		}
		// The ledger fails: at the second model, and at the end.
		full := errors.New("the disk is full")
		for _, at := range []string{"ShredVisit", ""} {
			s.fail = func(entries []rowseal.ShredEntry) error {
				if entries[0].Model == at {
					return full
				}
				return nil
			}
			_, err := rowseal.Shred(s.db.Where("1 = 1"), &ShredPatient{}, &ShredVisit{})
			fails(t, err, full, "rowseal: shred", "ledger")
			unchanged(at)
		}
		s.fail = nil
		if got := s.replay(t, s.db); got.Incomplete != 3+3+6 || got.Shredded != 0 {
			t.Errorf("%+v", got)
		}
		unchanged("replay")
		// The context ends while the ledger is written.
		ctx, cancel := context.WithCancel(t.Context())
		s.fail = func([]rowseal.ShredEntry) error { cancel(); return nil }
		if _, err := rowseal.Shred(s.db.WithContext(ctx).Where("1 = 1"), &ShredPatient{}, &ShredVisit{}); err == nil {
			t.Error("it went on after its context")
		}
		s.fail = nil
		unchanged("a context that ended")
		// The application's own transaction is rolled back, which the ledger cannot know: it was meant.
		s.ledger.Reset()
		mind := errors.New("changed my mind")
		fails(t, s.db.Transaction(func(tx *gorm.DB) error {
			got, err := rowseal.Shred(tx.Where("id = 1"), &ShredPatient{})
			ok(t, err)
			if got.Rows != 1 {
				t.Errorf("%+v", got)
			}
			return mind
		}), mind)
		unchanged("rolled back")
		if got := s.replay(t, s.db); got.Shredded != 1 {
			t.Errorf("%+v", got)
		}
	})
}

func TestReplayShredsRefusesWhatIsNoLedger(t *testing.T) {
	s := newShreds(t, sqliteGo, 2)
	s.shred(t, s.db.Where("id = 1"), &ShredPatient{})
	good := s.ledger.String()
	for _, tt := range []struct{ name, ledger, part string }{
		{"no JSON", good + "canary\n", "line 3: not an entry of a ledger"},
		{"no shred", good + `{"model":"ShredPatient","id":["integer:1"]}` + "\n", "line 3"},
		{"another namespace", strings.ReplaceAll(good, `"namespace":"test"`, `"namespace":"live"`), `line 1: it is of the namespace "live"`},
		{"another model", strings.ReplaceAll(good, `"model":"ShredPatient"`, `"model":"Nobody"`), "line 1: model declaration: Nobody is not registered"},
		{"an id of two parts", strings.ReplaceAll(good, `"integer:1"`, `"integer:1","integer:2"`), "line 1: "},
		{"an id that is no number", strings.ReplaceAll(good, `"integer:1"`, `"text:canary"`), "line 1: "},
		{"an id without type", strings.ReplaceAll(good, `"integer:1"`, `"1"`), "line 1: "},
		{"a number spelt otherwise", strings.ReplaceAll(good, `"integer:1"`, `"integer:01"`), "line 1: "},
		{"too long", good + strings.Repeat("x", 2<<20) + "\n", "line 3: it is too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := rowseal.ReplayShreds(s.db, strings.NewReader(tt.ledger))
			if err == nil || !strings.Contains(err.Error(), tt.part) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%v", err)
			}
		})
	}
	got, err := rowseal.ReplayShreds(s.db, strings.NewReader(good+`{"shred":"torn`))
	ok(t, err)
	if got.Already != 1 {
		t.Errorf("%+v", got)
	}
	_, err = rowseal.ReplayShreds(s.db.Where("id = 1"), strings.NewReader(good))
	fails(t, err, rowseal.ErrUnsupported, "name models")
}

func TestShredFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shreds")
	file, err := rowseal.OpenShredFile(path)
	ok(t, err)
	one := []rowseal.ShredEntry{{Shred: "a", Model: "Patient", ID: []string{"integer:1"}}, {Shred: "a", Complete: true}}
	ok(t, file.Append(t.Context(), one))
	ok(t, file.Close())
	if err := file.Append(t.Context(), one); err == nil {
		t.Error("it wrote into a file that is closed")
	}
	whole, err := os.ReadFile(path)
	ok(t, err)
	// What a crash left of a line goes when the file is opened again.
	for _, torn := range []string{"", `{"shred":"b`, strings.Repeat("x", 10_000)} {
		ok(t, os.WriteFile(path, append(slices.Clone(whole), torn...), 0o600))
		file, err := rowseal.OpenShredFile(path)
		ok(t, err)
		ok(t, file.Append(t.Context(), one))
		ok(t, file.Close())
		now, err := os.ReadFile(path)
		ok(t, err)
		if string(now) != string(whole)+string(whole) {
			t.Errorf("%q", now)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if _, err := rowseal.OpenShredFile(t.TempDir()); err == nil {
		t.Error("a folder")
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(whole)), "\n") {
		if !json.Valid([]byte(line)) {
			t.Error(line)
		}
	}
	var _ io.Closer = file
}

func TestShredForgetsKeys(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, kms, rows := cached(t, kind, rowseal.KeyCache{Keys: 100})
		var got []Holder
		ok(t, w.db.Find(&got).Error)
		_, err := rowseal.Shred(w.db, &rows[1])
		ok(t, err)
		kms.Reset()
		ok(t, w.db.Find(&got).Error)
		if n := kms.Calls(); n != len(rows)-1 {
			t.Errorf("%d calls: keys are still remembered, or the row that was shredded is asked for", n)
		}
		var epoch int64
		ok(t, w.plain.QueryRow("SELECT epoch FROM rowseal_epochs WHERE name = 'row-keys'").Scan(&epoch))
		if epoch != 1 {
			t.Errorf("epoch %d", epoch)
		}
	})
}

// shredKind shreds a table by pages, restores it and replays.
func shredKind[T any](t *testing.T, kind string, row func(i int) T) {
	t.Run(fmt.Sprintf("%T", *new(T)), func(t *testing.T) {
		const n = 450
		s := &shreds{ledger: &bytes.Buffer{}}
		s.world = openWith(t, kind, localKeys(t), rowseal.Config{Models: []any{new(T)}, ShredLedger: s}, &gorm.Config{})
		rows := make([]T, n)
		for i := range rows {
			rows[i] = row(i)
		}
		ok(t, s.db.CreateInBatches(&rows, 150).Error)
		stmt := &gorm.Statement{DB: s.db}
		ok(t, stmt.Parse(new(T)))
		s.backup(t, stmt.Schema.Table)
		all := s.db.Session(&gorm.Session{AllowGlobalUpdate: true})
		if got := s.shred(t, s.db, &rows[7]); got.Rows != 1 {
			t.Errorf("one: %+v", got)
		}
		if got := s.shred(t, all, new(T)); got.Rows != n-1 || got.Keys%(n-1) != 0 || got.Already != 1 {
			t.Errorf("all: %+v", got)
		}
		s.restore(t, stmt.Schema.Table)
		if got := s.replay(t, s.db); got.Shredded != n || got.Other+got.Gone+got.Already != 0 {
			t.Errorf("%+v", got)
		}
		var left int64
		ok(t, s.db.Model(new(T)).Scopes(rowseal.NotShredded).Count(&left).Error)
		if left != 0 {
			t.Errorf("%d rows are left", left)
		}
	})
}

func TestShredByAnyPrimaryKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		shredKind(t, kind, func(i int) ManText { return ManText{Code: fmt.Sprintf("ü %d'", i), Name: "x"} })
		shredKind(t, kind, func(i int) ManPair {
			return ManPair{Tenant: fmt.Sprint("t", i%5), N: int64(i/10) - 20, Yes: i%10 >= 5, Name: "x"}
		})
		shredKind(t, kind, func(i int) ManUUID { return ManUUID{ID: numbered(i), Name: "x"} })
		shredKind(t, kind, func(i int) ManRaw { return ManRaw{ID: rawID(numbered(i)), Name: "x"} })
		shredKind(t, kind, func(i int) ManLarge { return ManLarge{ID: 1<<63 - 1 - uint64(i), Name: "x"} })
		shredKind(t, kind, func(i int) ManFull { return ManFull{Name: "x", Phone: new("1")} })
		shredKind(t, kind, func(i int) ManHash { return ManHash{Hash: []byte{0xff, byte(i), byte(i >> 8)}, Name: "x"} })
		if !isMySQL(kind) { // whose uuid type is MariaDB's alone
			shredKind(t, kind, func(i int) ManNativeUUID { return ManNativeUUID{ID: numbered(i), Name: "x"} })
			shredKind(t, kind, func(i int) ManTextUUID { return ManTextUUID{ID: strings.ToUpper(numbered(i).String()), Name: "x"} })
		}
	})
}

func TestShredWhoseCommitFails(t *testing.T) {
	s := newShreds(t, postgres, 2)
	before := s.dump(t, "shred_patients")
	s.tamper(t, `CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''too late''; END'`)
	s.tamper(t, `CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON shred_patients DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()`)
	if _, err := rowseal.Shred(s.db.Where("id = 1"), &ShredPatient{}); err == nil || !strings.Contains(err.Error(), "too late") {
		t.Fatal(err)
	}
	if s.dump(t, "shred_patients") != before {
		t.Error("rows changed")
	}
	s.tamper(t, `DROP TRIGGER late ON shred_patients`)
	if got := s.replay(t, s.db); got.Shredded != 1 { // it was meant
		t.Errorf("%+v", got)
	}
}

// TestShredOfRowsWithContexts: nothing is bound to anything any more, so that context columns are columns like any other.
func TestShredOfRowsWithContexts(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _, rows := cached(t, kind, rowseal.KeyCache{})
		_, err := rowseal.Shred(w.db.Where("id <= ?", rows[1].ID), &Holder{})
		ok(t, err)
		var h Holder
		ok(t, w.db.First(&h, rows[0].ID).Error)
		h.TenantID = "tenant 7"
		ok(t, w.db.Save(&h).Error)
		ok(t, w.db.Model(&h).Update("tenant_id", "tenant 8").Error)
		fails(t, w.db.Model(&h).Updates(map[string]any{"tenant_id": "tenant 9", "name": "new"}).Error, rowseal.ErrShredded)
		var again Holder
		ok(t, w.db.First(&again, rows[0].ID).Error)
		if again.TenantID != "tenant 8" || again.Name != "" || !again.EncryptedKMSKey.Shredded() {
			t.Errorf("%+v", again)
		}
		ok(t, rowseal.Rotate(t.Context(), w.db, &again))
		// By a program that may not decrypt, inside the transaction of another.
		writer := w.also(t, w.keys, rowseal.Config{Models: []any{holderModel}, WriteOnly: true})
		ok(t, writer.Transaction(func(tx *gorm.DB) error {
			got, err := rowseal.Shred(tx, &rows[2])
			if got.Rows != 1 {
				t.Errorf("%+v", got)
			}
			return err
		}))
		fails(t, w.db.Model(&rows[2]).Update("name", "new").Error, rowseal.ErrShredded)
	})
}
