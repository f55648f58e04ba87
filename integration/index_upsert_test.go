package integration

// index_upsert_test.go owns upserts whose target is the unique index of a sealed field.

import (
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// TestIndexIsTheTargetOfUpserts: the row that has the value is the one that is written, under its own key, by the name of the field as by that of the index.
func TestIndexIsTheTargetOfUpserts(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, target := range []string{"email", "email_bidx"} {
			w := newIndexed(t, kind, &IdxDoc{})
			db := w.db
			docs := idxDocs(4)
			ok(t, db.Create(&docs).Error)
			on := func(columns ...string) clause.OnConflict {
				return clause.OnConflict{Columns: []clause.Column{{Name: target}}, DoUpdates: clause.AssignmentColumns(columns)}
			}
			check := func(id uint64, want IdxDoc) {
				t.Helper()
				var got IdxDoc
				ok(t, db.First(&got, id).Error)
				phone := "NULL"
				if got.Phone != nil {
					phone = *got.Phone
				}
				if got.Email != want.Email || got.Ward != want.Ward || got.Score != want.Score || got.Note != want.Note || phone != *want.Phone {
					t.Errorf("%s: %+v (%s), want %+v", target, got, phone, want)
				}
				for name, cond := range map[string]any{"email": want.Email, "score": want.Score, "phone": want.Phone} {
					if got := " " + ids(t, db.Where(name, cond)) + " "; !strings.Contains(got, " "+fmt.Sprint(id)+" ") {
						t.Errorf("%s: by %s: rows %q", target, name, got)
					}
				}
			}
			// Part of a group, all of one, other groups, plain columns alone, everything.
			one := IdxDoc{Email: docs[0].Email, Score: 70, Note: "never"}
			ok(t, db.Clauses(on("score")).Create(&one).Error)
			want := docs[0]
			want.Score = 70
			check(docs[0].ID, want)
			if one.ID != docs[0].ID {
				t.Errorf("the struct has the id %d", one.ID)
			}
			ok(t, db.Clauses(on("phone", "ward")).Create(&IdxDoc{Email: docs[1].Email, Phone: new("+1"), Ward: "7"}).Error)
			want = docs[1]
			want.Phone, want.Ward = new("+1"), "7"
			check(docs[1].ID, want)
			ok(t, db.Clauses(on("ward")).Create(&IdxDoc{Email: docs[2].Email, Ward: "8", Note: "never"}).Error)
			want = docs[2]
			want.Ward = "8"
			check(docs[2].ID, want)
			all := []IdxDoc{{Email: docs[3].Email, Score: 71, Note: "y", Ward: "9", Phone: new("+2")}, {Email: "new", Score: 72, Note: "z", Ward: "9", Phone: new("+3")}}
			ok(t, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: target}}, UpdateAll: true}).Create(&all).Error)
			if all[0].ID != docs[3].ID {
				t.Errorf("the struct has the id %d", all[0].ID)
			}
			check(docs[3].ID, all[0])
			check(all[1].ID, all[1])
			ok(t, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: target}}, DoNothing: true}).Create(&IdxDoc{Email: "new", Score: 99}).Error)
			check(all[1].ID, all[1])
			ok(t, db.Clauses(on("email", "score")).Create(&IdxDoc{Email: "new", Score: 73}).Error)
			all[1].Score = 73
			check(all[1].ID, all[1])
			var n int64
			ok(t, db.Model(&IdxDoc{}).Count(&n).Error)
			if n != 5 {
				t.Errorf("%d rows", n)
			}
			if strings.Contains(w.log.String(), "p1@example.org") {
				t.Error("a value was logged")
			}
			fails(t, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "note"}}, DoUpdates: clause.AssignmentColumns([]string{"score"})}).Create(&IdxDoc{Email: "other"}).Error, rowseal.ErrCondition, `rowseal:"unique"`)
			fails(t, db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "score"}}, DoUpdates: clause.AssignmentColumns([]string{"note"})}).Create(&IdxDoc{Email: "other"}).Error, rowseal.ErrCondition, `rowseal:"unique"`)
			fails(t, db.Clauses(on("email_bidx")).Create(&IdxDoc{Email: "other"}).Error, rowseal.ErrIndexColumn)
		}
	})
}
