package integration

// attack_index_test.go owns defects of blind indexes that a hostile reviewer found: one function for each.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

type (
	// AtkClinic has nothing sealed, and a column that is named as a sealed one of AtkPatient is.
	AtkClinic struct {
		ID    uint64
		Email string
	}
	AtkPatient struct {
		ID        uint64
		ClinicID  *uint64
		Clinic    *AtkClinic
		DoctorID  *uint64
		Doctor    *AtkPatient
		Email     string    `gorm:"serializer:rowseal" rowseal:"index"`
		Score     int       `gorm:"serializer:rowseal" rowseal:"index"`
		Tiny      int8      `gorm:"serializer:rowseal" rowseal:"index"`
		Unsigned  uint64    `gorm:"serializer:rowseal" rowseal:"index"`
		Born      time.Time `gorm:"serializer:rowseal" rowseal:"index"`
		Reference string    `gorm:"serializer:rowseal" rowseal:"index"`
		rowseal.RowKey
	}
)

// atkUUID is what packages for UUIDs have.
type atkUUID [16]byte

func (u atkUUID) String() string               { return fmt.Sprintf("%x", u[:]) }
func (u atkUUID) Value() (driver.Value, error) { return u.String(), nil }

// TestAttackIndexColumnOfAnotherTable: a map's key with a table in front is about that table.
func TestAttackIndexColumnOfAnotherTable(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		ok(t, w.db.AutoMigrate(&AtkClinic{}))
		clinics := []AtkClinic{{Email: "north@example.org"}, {Email: "south@example.org"}}
		ok(t, w.db.Create(&clinics).Error)
		patients := []AtkPatient{{ClinicID: &clinics[0].ID, Email: "south@example.org"}, {ClinicID: &clinics[1].ID, Email: "other"}}
		ok(t, w.db.Create(&patients).Error)
		for name, tx := range map[string]*gorm.DB{
			"column, relation": w.db.Joins("Clinic").Where("Clinic.email", "south@example.org"),
			"map, relation":    w.db.Joins("Clinic").Where(map[string]any{"Clinic.email": "south@example.org"}),
			"map, join":        w.db.Joins("JOIN atk_clinics ON atk_clinics.id = atk_patients.clinic_id").Where(map[string]any{"atk_clinics.email": "south@example.org"}),
			"clause.Column":    w.db.Joins("JOIN atk_clinics ON atk_clinics.id = atk_patients.clinic_id").Where(clause.Eq{Column: clause.Column{Name: "atk_clinics.email"}, Value: "south@example.org"}),
		} {
			var got []AtkPatient
			if err := tx.Find(&got).Error; err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(got) != 1 || got[0].ID != patients[1].ID {
				t.Errorf("%s: found %d rows, the first %+v; want the patient of the clinic in the south", name, len(got), got)
			}
		}
	})
}

// TestAttackIndexPlaintextOfASaveThatChangedNothing: MySQL counts no row, and the look for it takes the condition as it came.
func TestAttackIndexPlaintextOfASaveThatChangedNothing(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		p := AtkPatient{Email: "secret@example.org", Born: time.Unix(1, 0)}
		ok(t, w.db.Create(&p).Error)
		ok(t, w.db.First(&p, p.ID).Error)
		err := w.db.Where("email", "secret@example.org").Save(&p).Error
		if err != nil {
			t.Error(err)
		}
		if strings.Contains(w.log.String(), "secret@example.org") {
			for line := range strings.Lines(w.log.String()) {
				if strings.Contains(line, "secret@example.org") {
					t.Error("plaintext was logged and sent: " + line)
				}
			}
		}
		err = w.db.Where(&AtkPatient{Email: "secret@example.org"}).Save(&p).Error
		if err != nil {
			t.Error(err)
		}
	}, mariadb)
}

// TestAttackIndexMismatchOfAJoinedRow: a joined row of the same model is not what was sought.
func TestAttackIndexMismatchOfAJoinedRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		doctor := AtkPatient{Email: "doctor"}
		ok(t, w.db.Create(&doctor).Error)
		p := AtkPatient{Email: "patient", DoctorID: &doctor.ID}
		ok(t, w.db.Create(&p).Error)
		var got []AtkPatient
		err := w.db.Joins("Doctor").Where(&AtkPatient{Email: "patient"}).Find(&got).Error
		if err != nil || len(got) != 1 || got[0].Doctor == nil || got[0].Doctor.Email != "doctor" {
			t.Errorf("%v, %+v", err, got)
		}
	})
}

// TestAttackIndexMismatchOfARowThatWasNotFound: a struct that was loaded before, and the query finds no row.
func TestAttackIndexMismatchOfARowThatWasNotFound(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		p := AtkPatient{Email: "before"}
		ok(t, w.db.Create(&p).Error)
		var d AtkPatient
		ok(t, w.db.First(&d, p.ID).Error)
		result := w.db.Limit(1).Find(&d, &AtkPatient{Email: "nobody"})
		if result.Error != nil || result.RowsAffected != 0 {
			t.Errorf("Find: %d rows, %v", result.RowsAffected, result.Error)
		}
		if err := w.db.FirstOrInit(&d, AtkPatient{Email: "nobody"}).Error; err != nil {
			t.Errorf("FirstOrInit: %v", err)
		}
	})
}

// TestAttackIndexNullBecomesAValue: NULL in a condition on a field that is no pointer.
func TestAttackIndexNullBecomesAValue(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		rows := []AtkPatient{{Email: ""}, {Email: "a"}}
		ok(t, w.db.Create(&rows).Error)
		for name, tt := range map[string]struct {
			tx   *gorm.DB
			want int
		}{
			"nil pointer":      {w.db.Where("email", (*string)(nil)), 0},
			"sql.NullString":   {w.db.Where("email", sql.NullString{}), 0},
			"not nil pointer":  {w.db.Not("email", (*string)(nil)), 2},
			"nil in a list":    {w.db.Where("email", []any{"a", nil}), 1},
			"nil in clause.IN": {w.db.Where(clause.IN{Column: "email", Values: []any{"a", nil}}), 1},
			"nil pointers":     {w.db.Where("email", []*string{nil}), 0},
		} {
			var got []AtkPatient
			if err := tt.tx.Find(&got).Error; err != nil || len(got) != tt.want {
				t.Errorf("%s: %d rows, want %d, %v", name, len(got), tt.want, err)
			}
		}
	})
}

// TestAttackIndexValueIsNotAList: bytes and UUIDs are one value for a field of text, as GORM takes them.
func TestAttackIndexValueIsNotAList(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		id := atkUUID{1, 2, 3}
		rows := []AtkPatient{{Email: "a", Reference: id.String()}}
		ok(t, w.db.Create(&rows).Error)
		for name, tx := range map[string]*gorm.DB{
			"bytes":       w.db.Where("email", []byte("a")),
			"UUID":        w.db.Where("reference", id),
			"UUID in map": w.db.Where(map[string]any{"reference": id}),
			"UUIDs":       w.db.Where("reference", []atkUUID{id}),
		} {
			var got []AtkPatient
			if err := tx.Find(&got).Error; err != nil || len(got) != 1 {
				t.Errorf("%s: %d rows, %v", name, len(got), err)
			}
		}
	})
}

// TestAttackIndexValueIsTruncated: what does not fit the field is no value that the field has.
func TestAttackIndexValueIsTruncated(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		rows := []AtkPatient{{Score: 1, Tiny: 44, Unsigned: 1<<64 - 1}}
		ok(t, w.db.Create(&rows).Error)
		for name, tx := range map[string]*gorm.DB{
			"1.5 is 1":         w.db.Where("score", 1.5),
			"300 is 44":        w.db.Where("tiny", 300),
			"-1 is 1<<64-1":    w.db.Where("unsigned", -1),
			"true is 1":        w.db.Where("score", true),
			"300 is 44 in map": w.db.Where(map[string]any{"tiny": int64(300)}),
		} {
			var got []AtkPatient
			if err := tx.Find(&got).Error; err == nil && len(got) != 0 {
				t.Errorf("%s: %d rows, and no error", name, len(got))
			}
		}
	})
}

// TestAttackIndexExpressionInAList: GORM's setters pass over an expression in silence.
func TestAttackIndexExpressionInAList(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		rows := []AtkPatient{{Email: ""}, {Email: "x"}}
		ok(t, w.db.Create(&rows).Error)
		for name, tx := range map[string]*gorm.DB{
			"list":      w.db.Where("email", []any{gorm.Expr("lower(?)", "X")}),
			"clause.IN": w.db.Where(clause.IN{Column: "email", Values: []any{gorm.Expr("lower(?)", "X")}}),
			"sub-query": w.db.Where(clause.IN{Column: "email", Values: []any{w.db.Model(&AtkPatient{}).Select("email")}}),
		} {
			var got []AtkPatient
			if err := tx.Find(&got).Error; err == nil {
				t.Errorf("%s: no error, and %d rows, the first with %q", name, len(got), got[0].Email)
			}
		}
	})
}

// TestAttackIndexDeadlock: who waits for a turn inside a transaction has a connection, and who has the turn waits for one.
func TestAttackIndexDeadlock(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		ok(t, w.db.Create(&AtkPatient{Email: "a"}).Error)
		db, _ := another(t, w, w.keys, rowseal.Config{Models: []any{&AtkPatient{}}})
		w.plain.SetMaxOpenConns(1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		other := make(chan error, 1)
		err := db.Transaction(func(tx *gorm.DB) error {
			go func() { other <- db.WithContext(ctx).Where(&AtkPatient{Email: "a"}).Find(&[]AtkPatient{}).Error }()
			for w.plain.Stats().WaitCount == 0 && ctx.Err() == nil { // package sql counts who waits for a connection, and gives no signal
				runtime.Gosched()
			}
			return tx.WithContext(ctx).Where(&AtkPatient{Email: "a"}).Find(&[]AtkPatient{}).Error
		})
		if err := errors.Join(err, <-other); err != nil {
			t.Error(err)
		}
	})
}

// TestAttackIndexSubQueryOfAnotherHandle: a sub-query is only built, and needs no connection of its own.
func TestAttackIndexSubQueryOfAnotherHandle(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		ok(t, w.db.Create(&AtkPatient{Email: "a"}).Error)
		db, plugin := another(t, w, w.keys, rowseal.Config{Models: []any{&AtkPatient{}}})
		ok(t, plugin.MakeIndexKeys(t.Context(), db)) // else it fails after a while: nobody knows whose connection it may use
		w.plain.SetMaxOpenConns(1)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		db = db.WithContext(ctx)
		err := db.Transaction(func(tx *gorm.DB) error {
			return tx.Where("id IN (?)", db.Model(&AtkPatient{}).Select("id").Where(&AtkPatient{Email: "a"})).Find(&[]AtkPatient{}).Error
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestAttackIndexFirstOrCreateByEq: the row that is made has the value that was sought.
func TestAttackIndexFirstOrCreateByEq(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		var d, init AtkPatient
		ok(t, w.db.Where(rowseal.Eq("Email", "sought")).FirstOrInit(&init).Error)
		ok(t, w.db.Where(rowseal.Eq("Email", "sought")).FirstOrCreate(&d).Error)
		if d.Email != "sought" || init.Email != "sought" {
			t.Errorf("made with %q, %q", d.Email, init.Email)
		}
		d, init = AtkPatient{}, AtkPatient{}
		ok(t, w.db.Where(clause.Eq{Column: "email", Value: "other"}).FirstOrCreate(&d).Error)
		if d.Email != "other" {
			t.Errorf("by clause.Eq, made with %q", d.Email)
		}
	})
}

// TestAttackIndexIncompleteInAnotherTable: rows of another table of the model lack their index, and a search passes over them.
func TestAttackIndexIncompleteInAnotherTable(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		if isSQLite(kind) || kind == postgres {
			w.tamper(t, "CREATE TABLE atk_patients_eu AS SELECT * FROM atk_patients")
		} else {
			w.tamper(t, "CREATE TABLE atk_patients_eu LIKE atk_patients")
		}
		ok(t, w.db.Table("atk_patients_eu").Create(&AtkPatient{ID: 7, Email: "a"}).Error)
		w.tamper(t, "UPDATE atk_patients_eu SET email_bidx = NULL")
		var got []AtkPatient
		err := w.db.Table("atk_patients_eu").Where(&AtkPatient{Email: "a"}).Find(&got).Error
		if !errors.Is(err, rowseal.ErrIndexIncomplete) {
			t.Errorf("%d rows, %v", len(got), err)
		}
	})
}

// TestAttackIndexFirstDelete: a Delete outside of a transaction, as a program's first statement.
func TestAttackIndexFirstDelete(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		ok(t, w.db.Where(&AtkPatient{Email: "a"}).Delete(&AtkPatient{}).Error)
	})
}

// TestAttackIndexJoinedConditionCounts: what Find takes, Count and Pluck take.
func TestAttackIndexJoinedConditionCounts(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		doctor := AtkPatient{Email: "doctor"}
		ok(t, w.db.Create(&doctor).Error)
		ok(t, w.db.Create(&AtkPatient{Email: "patient", DoctorID: &doctor.ID}).Error)
		var got []AtkPatient
		on := w.db.Where(&AtkPatient{Email: "doctor"})
		ok(t, w.db.InnerJoins("Doctor", on).Find(&got).Error)
		var n int64
		if err := w.db.Model(&AtkPatient{}).InnerJoins("Doctor", on).Count(&n).Error; err != nil || n != 1 {
			t.Errorf("Count: %d, %v", n, err)
		}
	})
}

// AtkRenamed has a sealed field whose column is not named as the field.
type AtkRenamed struct {
	ID    uint64
	Email string `gorm:"serializer:rowseal;column:mail" rowseal:"index"`
	rowseal.RowKey
}

// TestAttackIndexEqOfNoColumn: rowseal.Eq is for sealed fields, and what it cannot resolve it must not send in the clear.
func TestAttackIndexEqOfNoColumn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkRenamed{})
		ok(t, w.db.Create(&AtkRenamed{Email: "secret@example.org"}).Error)
		var n int64
		if err := w.db.Table("atk_renameds").Where(rowseal.Eq("Email", "secret@example.org")).Count(&n).Error; err != nil || n != 1 {
			t.Errorf("by the Go name, without a model: %d, %v", n, err)
		}
		if err := w.db.Where(rowseal.Eq("Emial", "secret@example.org")).Find(&[]AtkRenamed{}).Error; err == nil {
			t.Error("no error for a field that there is none of")
		}
		for line := range strings.Lines(w.log.String()) {
			if strings.Contains(line, "secret@example.org") {
				t.Error("plaintext was logged and sent: " + line)
			}
		}
	})
}

// TestAttackIndexFirstBatch: CreateInBatches begins a transaction by itself.
func TestAttackIndexFirstBatch(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		if isSQLite(kind) { // where a second connection would wait for the transaction
			err := w.db.CreateInBatches([]AtkPatient{{Email: "a"}, {Email: "b"}, {Email: "c"}}, 2).Error
			fails(t, err, rowseal.ErrIndexKey, "MakeIndexKeys when the program starts")
			return
		}
		ok(t, w.db.CreateInBatches([]AtkPatient{{Email: "a"}, {Email: "b"}, {Email: "c"}}, 2).Error)
	})
}

// TestAttackIndexDryRun: a dry run asks no database and makes no keys, also for a sub-query in it.
func TestAttackIndexDryRun(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &AtkPatient{})
		w.spy.Reset()
		text := w.db.ToSQL(func(tx *gorm.DB) *gorm.DB {
			return tx.Where("id IN (?)", w.db.Model(&AtkPatient{}).Select("id").Where(&AtkPatient{Email: "a"})).Find(&[]AtkPatient{})
		})
		var n int
		ok(t, w.plain.QueryRow("SELECT count(*) FROM rowseal_index_keys").Scan(&n))
		if n != 0 {
			t.Errorf("a dry run made %d keys, of %s", n, text)
		}
	})
}

// TestAttackIndexAsATarget: an upsert whose target is an index is refused, or works; it is not to be tried again forever.
func TestAttackIndexAsATarget(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		ok(t, w.db.Create(&IdxDoc{Email: "a", Score: 1}).Error)
		on := clause.OnConflict{Columns: []clause.Column{{Name: "email_bidx"}}, DoUpdates: clause.AssignmentColumns([]string{"score"})}
		if err := w.db.Clauses(on).Create(&IdxDoc{Email: "a", Score: 2}).Error; errors.Is(err, rowseal.ErrStaleKey) {
			t.Errorf("nobody changed the key: %v", err)
		}
	})
}
