package integration

// index_test.go owns blind indexes: that every way of writing a field writes its index, and every way of asking for one finds it or is refused.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// IdxDoc has an index that is unique and two that are not.
type IdxDoc struct {
	ID    uint64
	Ward  string
	Email string  `gorm:"serializer:rowseal" rowseal:"unique"`
	Phone *string `gorm:"serializer:rowseal" rowseal:"index,key=PhoneKey,text"`
	Score int     `gorm:"serializer:rowseal" rowseal:"index"`
	Note  string  `gorm:"serializer:rowseal"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// IdxHooked is the same with a hook that writes the field.
type IdxHooked IdxDoc

func (IdxHooked) TableName() string { return "idx_docs" }

func (*IdxHooked) BeforeUpdate(tx *gorm.DB) error {
	if email, given := tx.Get("next e-mail"); given {
		tx.Statement.SetColumn("Email", email)
	}
	return nil
}

func newIndexed(t testing.TB, kind string, models ...any) *world {
	t.Helper()
	w := open(t, kind, models...)
	_, err := migrations.Up(t.Context(), w.db)
	ok(t, err)
	return w
}

// newIndexedWith is newIndexed with settings.
func newIndexedWith(t testing.TB, kind string, config rowseal.Config, gormConfig *gorm.Config) *world {
	t.Helper()
	w := openWith(t, kind, localKeys(t), config, gormConfig)
	_, err := migrations.Up(t.Context(), w.db)
	ok(t, err)
	return w
}

func idxDocs(n int) []IdxDoc {
	out := make([]IdxDoc, n)
	for i := range out {
		out[i] = IdxDoc{Ward: fmt.Sprint(i % 2), Email: fmt.Sprintf("p%d@example.org", i), Phone: new(fmt.Sprint("+49 ", i%3)), Score: i % 4, Note: "x"}
	}
	return out
}

// ids lists the rows that a query finds.
func ids(t testing.TB, tx *gorm.DB) string {
	t.Helper()
	var rows []IdxDoc
	ok(t, tx.Order("id").Find(&rows).Error)
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprint(r.ID))
	}
	return strings.Join(out, " ")
}

func TestIndexFindsWhatUsersWrite(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		docs := idxDocs(6)
		ok(t, w.db.Create(&docs).Error)
		db := w.db
		id := func(is ...int) string {
			var out []string
			for _, i := range is {
				out = append(out, fmt.Sprint(docs[i].ID))
			}
			return strings.Join(out, " ")
		}
		for name, tt := range map[string]struct {
			tx   *gorm.DB
			want string
		}{
			"struct":                {db.Where(&IdxDoc{Email: "p1@example.org"}), id(1)},
			"struct by value":       {db.Where(IdxDoc{Score: 2}), id(2)},
			"struct, two fields":    {db.Where(&IdxDoc{Score: 1, Phone: new("+49 1")}), id(1)},
			"struct, other column":  {db.Where(&IdxDoc{Ward: "1", Score: 1}), id(1, 5)},
			"struct, chosen zero":   {db.Where(&IdxDoc{}, "Score"), id(0, 4)},
			"map":                   {db.Where(map[string]any{"email": "p2@example.org"}), id(2)},
			"map of list":           {db.Where(map[string]any{"email": []string{"p2@example.org", "p4@example.org", "none"}}), id(2, 4)},
			"map of nil":            {db.Where(map[string]any{"phone": nil}), ""},
			"column":                {db.Where("email", "p3@example.org"), id(3)},
			"column with table":     {db.Where("idx_docs.email", "p3@example.org"), id(3)},
			"column, list":          {db.Where("email", []string{"p3@example.org", "p0@example.org"}), id(0, 3)},
			"clause.Eq":             {db.Where(clause.Eq{Column: "score", Value: 3}), id(3)},
			"clause.Eq, list":       {db.Where(clause.Eq{Column: clause.Column{Name: "score"}, Value: []int{3, 2}}), id(2, 3)},
			"clause.IN":             {db.Where(clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: "score"}, Values: []any{1, 2}}), id(1, 2, 5)},
			"clause.IN, empty":      {db.Where(clause.IN{Column: "score"}), ""},
			"clause.Neq":            {db.Where(clause.Neq{Column: "score", Value: 0}), id(1, 2, 3, 5)},
			"clause.Neq, list":      {db.Where(clause.Neq{Column: "score", Value: []int{0, 1}}), id(2, 3)},
			"Not, struct":           {db.Not(&IdxDoc{Score: 1}), id(0, 2, 3, 4)},
			"Not, map":              {db.Not(map[string]any{"score": []int{0, 1}}), id(2, 3)},
			"Not, column":           {db.Not("score", 1), id(0, 2, 3, 4)},
			"Or":                    {db.Where(&IdxDoc{Score: 3}).Or(&IdxDoc{Email: "p0@example.org"}), id(0, 3)},
			"Or, map":               {db.Where("ward = ?", "nowhere").Or(map[string]any{"score": 2}), id(2)},
			"nested":                {db.Where(db.Where(&IdxDoc{Score: 1}).Or("score", 2)).Where("ward = ?", "1"), id(1, 5)},
			"And, Or, Not":          {db.Where(clause.And(clause.Or(clause.Eq{Column: "score", Value: 1}, clause.Eq{Column: "score", Value: 2}), clause.Not(clause.Eq{Column: "email", Value: "p1@example.org"}))), id(2, 5)},
			"rowseal.Eq":            {db.Where(rowseal.Eq("Email", "p5@example.org")), id(5)},
			"rowseal.Eq, column":    {db.Where(rowseal.Eq("email", "p5@example.org")), id(5)},
			"rowseal.Eq, list":      {db.Where(rowseal.Eq("Score", []int{2, 3})), id(2, 3)},
			"pointer":               {db.Where("phone", new("+49 2")), id(2, 5)},
			"another integer":       {db.Where("score", uint8(2)), id(2)},
			"sub-query":             {db.Where("id IN (?)", db.Model(&IdxDoc{}).Select("id").Where(&IdxDoc{Score: 1})), id(1, 5)},
			"beside a plain column": {db.Where("score", 1).Where("ward", "1"), id(1, 5)},
			"nobody":                {db.Where(&IdxDoc{Email: "P1@example.org"}), ""},
		} {
			if got := ids(t, tt.tx); got != tt.want {
				t.Errorf("%s: rows %q, want %q", name, got, tt.want)
			}
		}
		for name, inline := range map[string][]any{
			"a struct":     {&IdxDoc{Score: 1}},
			"a map":        {map[string]any{"score": 1}},
			"a name":       {"score", 1},
			"a list":       {"score", []int{1}},
			"an Eq":        {rowseal.Eq("Score", 1)},
			"a clause":     {clause.Eq{Column: "score", Value: 1}},
			"a nested one": {db.Where("score", 1)},
		} {
			var rows []IdxDoc
			ok(t, db.Order("id").Find(&rows, inline...).Error)
			if len(rows) != 2 || rows[0].ID != docs[1].ID || rows[1].ID != docs[5].ID {
				t.Errorf("inline, %s: %d rows", name, len(rows))
			}
			var first, last IdxDoc
			ok(t, db.First(&first, inline...).Error)
			ok(t, db.Last(&last, inline...).Error)
			if first.ID != docs[1].ID || last.ID != docs[5].ID {
				t.Errorf("inline, %s: %d and %d", name, first.ID, last.ID)
			}
		}
		var one IdxDoc
		ok(t, db.First(&one, IdxDoc{Email: "p4@example.org"}).Error)
		if one.Email != "p4@example.org" || one.Note != "x" {
			t.Errorf("%+v", one)
		}
		one = IdxDoc{}
		ok(t, db.Take(&one, map[string]any{"email": "p3@example.org"}).Error)
		var n int64
		ok(t, db.Model(&IdxDoc{}).Where(&IdxDoc{Score: 1}).Count(&n).Error)
		var emails []string
		ok(t, db.Model(&IdxDoc{}).Where("score", 1).Order("id").Pluck("email", &emails).Error)
		if one.ID != docs[3].ID || n != 2 || !slices.Equal(emails, []string{"p1@example.org", "p5@example.org"}) {
			t.Errorf("%d, %d, %v", one.ID, n, emails)
		}
		generic, err := gorm.G[IdxDoc](db).Where(&IdxDoc{Email: "p2@example.org"}).First(t.Context())
		ok(t, err)
		if generic.ID != docs[2].ID {
			t.Errorf("%+v", generic)
		}
	})
}

// TestIndexFollowsEveryWrite: whatever writes the field, the new value is found and the old one is not.
func TestIndexFollowsEveryWrite(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		db := w.db
		docs := idxDocs(4)
		ok(t, db.Create(&docs).Error)
		at := func(i int) IdxDoc {
			var d IdxDoc
			ok(t, db.First(&d, docs[i].ID).Error)
			return d
		}
		found := func(email string) string { t.Helper(); return ids(t, db.Where(&IdxDoc{Email: email})) }
		write := func(name, email string, i int, do func(d IdxDoc) error) {
			t.Helper()
			before := at(i).Email
			ok(t, do(at(i)))
			if found(before) != "" || found(email) != fmt.Sprint(docs[i].ID) || at(i).Email != email {
				t.Errorf("%s: %q finds %q, %q finds %q", name, before, found(before), email, found(email))
			}
		}
		write("save", "a1", 1, func(d IdxDoc) error { d.Email = "a1"; return db.Save(&d).Error })
		write("update", "a2", 1, func(d IdxDoc) error { return db.Model(&d).Update("email", "a2").Error })
		write("update by Go name", "a2b", 1, func(d IdxDoc) error { return db.Model(&d).Update("Email", "a2b").Error })
		write("update column", "a3", 1, func(d IdxDoc) error { return db.Model(&d).UpdateColumn("email", "a3").Error })
		write("updates of a struct", "a4", 1, func(d IdxDoc) error { return db.Model(&d).Updates(IdxDoc{Email: "a4"}).Error })
		write("updates of a map", "a5", 1, func(d IdxDoc) error { return db.Model(&d).Updates(map[string]any{"email": "a5", "ward": "9"}).Error })
		write("update of a row that was not loaded", "a6", 1, func(d IdxDoc) error { return db.Model(&IdxDoc{ID: d.ID}).Update("email", "a6").Error })
		write("update under a condition", "a7", 1, func(d IdxDoc) error { return db.Model(&IdxDoc{}).Where("id = ?", d.ID).Update("email", "a7").Error })
		write("update found by the index", "a8", 1, func(d IdxDoc) error {
			return db.Model(&IdxDoc{}).Where(&IdxDoc{Email: "a7"}).Update("email", "a8").Error
		})
		write("upsert of all", "a9", 1, func(d IdxDoc) error {
			d.Email = "a9"
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&d).Error
		})
		write("upsert of columns", "a10", 1, func(d IdxDoc) error {
			fresh := IdxDoc{ID: d.ID, Ward: d.Ward, Email: "a10", Score: d.Score, Phone: d.Phone, Note: d.Note}
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"email", "score", "note", "encrypted_kms_key"})}).Create(&fresh).Error
		})
		write("upsert of one column", "a11", 1, func(d IdxDoc) error {
			fresh := IdxDoc{ID: d.ID, Email: "a11"}
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"email"})}).Create(&fresh).Error
		})
		write("generic update", "a12", 1, func(d IdxDoc) error {
			_, err := gorm.G[IdxDoc](db).Where("id = ?", d.ID).Update(t.Context(), "email", "a12")
			return err
		})
		write("assign of FirstOrCreate", "a13", 1, func(d IdxDoc) error {
			var got IdxDoc
			return db.Where("id = ?", d.ID).Assign(IdxDoc{Email: "a13"}).FirstOrCreate(&got).Error
		})
		write("save of a slice", "a16", 2, func(d IdxDoc) error { d.Email = "a16"; rows := []IdxDoc{d}; return db.Save(&rows).Error })
		write("select of columns", "a17", 2, func(d IdxDoc) error {
			return db.Model(&d).Select("email", "ward").Updates(IdxDoc{Email: "a17", Score: 99}).Error
		})
		write("select of all", "a18", 2, func(d IdxDoc) error { d.Email = "a18"; return db.Model(&d).Select("*").Updates(d).Error })
		write("by the table's name", "a19", 2, func(d IdxDoc) error { return db.Table("idx_docs").Model(&d).Update("email", "a19").Error })
		write("in a transaction", "a20", 2, func(d IdxDoc) error {
			return db.Transaction(func(tx *gorm.DB) error { return tx.Model(&d).Update("email", "a20").Error })
		})
		hooked, _ := another(t, w, localKeys(t), rowseal.Config{Models: []any{rowseal.Model{Value: &IdxHooked{}, Name: "IdxDoc"}}})
		write("in a hook", "a21", 2, func(d IdxDoc) error {
			h := IdxHooked(d)
			return hooked.Set("next e-mail", "a21").Model(&h).Update("ward", "7").Error
		})
		write("beside a writer that was faster", "a23", 2, func(d IdxDoc) error {
			other := d
			next := d
			ok(t, rowseal.Rotate(t.Context(), db, &IdxDoc{ID: d.ID}))
			ok(t, db.Model(&other).Update("email", "a22").Error)
			return db.Model(&next).Update("email", "a23").Error
		})
		ok(t, db.Model(&IdxDoc{ID: docs[2].ID}).Omit("email").Updates(IdxDoc{Email: "left out", Ward: "8"}).Error)
		if found("left out") != "" || found("a23") != fmt.Sprint(docs[2].ID) {
			t.Error("a field that was left out was indexed")
		}
		if !isMySQL(kind) {
			returned := IdxDoc{ID: docs[2].ID}
			ok(t, db.Model(&returned).Clauses(clause.Returning{}).Update("email", "a24").Error)
			if found("a24") != fmt.Sprint(docs[2].ID) || returned.Email != "a24" {
				t.Errorf("%+v", returned)
			}
		}
		ok(t, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&IdxDoc{ID: docs[2].ID, Email: "nothing"}).Error)
		if found("nothing") != "" {
			t.Error("an insert that did nothing is found")
		}
		ok(t, db.AutoMigrate(&IdxDoc{})) // once more
		ok(t, db.CreateInBatches([]IdxDoc{{Email: "b1"}, {Email: "b2"}, {Email: "b3"}}, 2).Error)
		if found("b3") == "" {
			t.Error("a row of a batch is not found")
		}
		ok(t, db.Where("email", []string{"b1", "b2", "b3"}).Delete(&IdxDoc{}).Error)
		// Many rows at once.
		ok(t, db.Model(&IdxDoc{}).Where("id > 0").Update("score", 77).Error)
		if got := ids(t, db.Where(&IdxDoc{Score: 77})); strings.Count(got, " ") != 3 {
			t.Errorf("an update of many rows is found in %q", got)
		}
		// NULL, and back.
		ok(t, db.Model(&IdxDoc{ID: docs[0].ID}).Update("phone", nil).Error)
		if got := ids(t, db.Where("phone", "+49 0")); got != fmt.Sprint(docs[3].ID) {
			t.Errorf("a phone that is NULL now is found in %q", got)
		}
		ok(t, db.Model(&IdxDoc{ID: docs[0].ID}).Update("phone", "+49 0").Error)
		if got := ids(t, db.Where("phone", "+49 0")); got != fmt.Sprintf("%d %d", docs[0].ID, docs[3].ID) {
			t.Errorf("a phone that is back is found in %q", got)
		}
		// From a map.
		ok(t, db.Model(&IdxDoc{}).Create(map[string]any{"email": "from a map", "score": 5}).Error)
		if found("from a map") == "" {
			t.Error("a row from a map is not found")
		}
		// FirstOrCreate by the field.
		var made, again IdxDoc
		ok(t, db.FirstOrCreate(&made, IdxDoc{Email: "first or"}).Error)
		ok(t, db.FirstOrCreate(&again, IdxDoc{Email: "first or"}).Error)
		if made.ID == 0 || made.ID != again.ID || again.Email != "first or" {
			t.Errorf("%+v %+v", made, again)
		}
		if found("first or") != fmt.Sprint(made.ID) {
			t.Error("what FirstOrCreate made is not found")
		}
		ok(t, db.Where(&IdxDoc{Email: "first or"}).Delete(&IdxDoc{}).Error)
		if found("first or") != "" {
			t.Error("it was not deleted")
		}
	})
}

func TestIndexIsUnique(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		docs := idxDocs(3)
		ok(t, w.db.Create(&docs).Error)
		if err := w.db.Create(&IdxDoc{Email: "p1@example.org"}).Error; err == nil {
			t.Error("a second row has the same e-mail")
		}
		if err := w.db.Model(&docs[0]).Update("email", "p1@example.org").Error; err == nil {
			t.Error("an update made it the same")
		}
		if got := ids(t, w.db.Where(&IdxDoc{Email: "p1@example.org"})); got != fmt.Sprint(docs[1].ID) {
			t.Errorf("rows %q", got)
		}
	})
}

func TestIndexRefuses(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		docs := idxDocs(2)
		ok(t, w.db.Create(&docs).Error)
		db := w.db
		var rows []IdxDoc
		var n int64
		before := w.dump(t, "idx_docs")
		const instead = `it has a blind index, which is found by db.Where(&IdxDoc{Email: v}), db.Where("email", v), a map, or rowseal.Eq("Email", v), for equal values alone`
		for name, tt := range map[string]struct {
			err  error
			kind error
			says string
		}{
			"text":                 {db.Where("email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"inline text":          {db.Find(&rows, "email = ?", "p1@example.org").Error, rowseal.ErrCondition, instead},
			"Not, text":            {db.Not("email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"Or, text":             {db.Where("id = ?", 0).Or("email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"Or, beside its index": {db.Where("email", "p0@example.org").Or("email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"IN, text":             {db.Where("email IN ?", []string{"p1@example.org"}).Find(&rows).Error, rowseal.ErrCondition, instead},
			"named":                {db.Where("email = @mail", sql.Named("mail", "p1@example.org")).Find(&rows).Error, rowseal.ErrCondition, instead},
			"named, in a map":      {db.Where("email = @mail", map[string]any{"mail": "p1@example.org"}).Find(&rows).Error, rowseal.ErrCondition, instead},
			"unequal, text":        {db.Where("email <> ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"HAVING":               {db.Model(&IdxDoc{}).Select("ward").Group("ward").Having("max(email) = ?", "p1@example.org").Find(&[]map[string]any{}).Error, rowseal.ErrCondition, instead},
			"GROUP BY":             {db.Model(&IdxDoc{}).Select("count(*) AS n").Group("email").Find(&[]map[string]any{}).Error, rowseal.ErrCondition, instead},
			"JOIN, text":           {db.Joins("JOIN idx_docs AS o ON o.id = idx_docs.id AND o.email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"UPDATE, text":         {db.Model(&IdxDoc{}).Where("email = ?", "p1@example.org").Update("ward", "9").Error, rowseal.ErrCondition, instead},
			"UPDATE, sealed, text": {db.Model(&IdxDoc{}).Where("email = ?", "p1@example.org").Update("note", "9").Error, rowseal.ErrCondition, instead},
			"DELETE, text":         {db.Where("email = ?", "p1@example.org").Delete(&IdxDoc{}).Error, rowseal.ErrCondition, instead},
			"DELETE, inline text":  {db.Delete(&IdxDoc{}, "email = ?", "p1@example.org").Error, rowseal.ErrCondition, instead},
			"Raw SELECT":           {db.Raw("SELECT * FROM idx_docs WHERE email = ?", "p1@example.org").Find(&rows).Error, rowseal.ErrCondition, instead},
			"Exec UPDATE":          {db.Exec("UPDATE idx_docs SET ward = '9' WHERE email = ?", "p1@example.org").Error, rowseal.ErrCondition, instead},
			"Exec DELETE":          {db.Exec("DELETE FROM idx_docs WHERE email = ?", "p1@example.org").Error, rowseal.ErrCondition, instead},
			"Count, text":          {db.Model(&IdxDoc{}).Where("email = ?", "p1@example.org").Count(&n).Error, rowseal.ErrCondition, instead},
			"sub-query, text":      {db.Where("id IN (?)", db.Model(&IdxDoc{}).Select("id").Where("email = ?", "p1@example.org")).Find(&rows).Error, rowseal.ErrCondition, instead},
			"generics, text":       {orError(gorm.G[IdxDoc](db).Where("email = ?", "p1@example.org").Find(t.Context())), rowseal.ErrCondition, instead},
			"generics, update":     {orError(gorm.G[IdxDoc](db).Where("email = ?", "p1@example.org").Update(t.Context(), "ward", "9")), rowseal.ErrCondition, instead},
			"generics, delete":     {orError(gorm.G[IdxDoc](db).Where("email = ?", "p1@example.org").Delete(t.Context())), rowseal.ErrCondition, instead},
			"order":                {db.Order("email").Find(&rows).Error, rowseal.ErrCondition, instead},
			"order, clause":        {db.Order(clause.OrderByColumn{Column: clause.Column{Name: "email"}, Desc: true}).Find(&rows).Error, rowseal.ErrCondition, instead},
			"expression":           {db.Where("email", gorm.Expr("lower(?)", "X")).Find(&rows).Error, rowseal.ErrCondition, instead},
			"DISTINCT":             {db.Distinct("email").Find(&rows).Error, rowseal.ErrCondition, instead},
			"like":                 {db.Where(clause.Like{Column: "email", Value: "p%"}).Find(&rows).Error, rowseal.ErrCondition, "for equal values alone"},
			"greater":              {db.Where(clause.Gt{Column: "score", Value: 1}).Find(&rows).Error, rowseal.ErrCondition, "for equal values alone"},
			"no index":             {db.Where(&IdxDoc{Note: "x"}).Find(&rows).Error, rowseal.ErrCondition, "compare it in Go"},
			"expression in a list": {db.Where("email", []any{gorm.Expr("lower(?)", "X")}).Find(&rows).Error, rowseal.ErrCondition, "an SQL expression among the values"},
			"wrong type":           {db.Where("score", "many").Find(&rows).Error, rowseal.ErrType, "IdxDoc.Score"},
			"index by a table":     {db.Table("idx_docs").Where("id = ?", docs[0].ID).Update("email_bidx", []byte("x")).Error, rowseal.ErrIndexColumn, "email_bidx"},
			"index by raw SQL":     {db.Exec("UPDATE idx_docs SET email_bidx = NULL").Error, rowseal.ErrIndexColumn, "write the field"},
			"index in an insert":   {db.Exec("INSERT INTO idx_docs (id, email_bidx) VALUES (77, NULL)").Error, rowseal.ErrIndexColumn, "email_bidx"},
		} {
			if tt.err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			fails(t, tt.err, tt.kind, tt.says)
			if strings.Contains(tt.err.Error(), "p1@example.org") {
				t.Errorf("%s: %v", name, tt.err)
			}
		}
		if w.dump(t, "idx_docs") != before {
			t.Error("a refused statement changed something")
		}
		// What GORM may not write it passes over.
		ok(t, db.Model(&docs[0]).Updates(map[string]any{"email_bidx": []byte("x"), "email": "other"}).Error)
		ok(t, db.Model(&docs[0]).Update("email_bidx", []byte("x")).Error)
		ok(t, db.Model(&IdxDoc{}).Create(map[string]any{"email": "y", "email_bidx": []byte("x")}).Error)
		if got := ids(t, db.Where("email", []string{"other", "y"})); strings.Count(got, " ") != 1 {
			t.Errorf("rows %q", got)
		}
		sql := db.ToSQL(func(tx *gorm.DB) *gorm.DB { return tx.Where(&IdxDoc{Email: "p1@example.org"}).Find(&rows) })
		if strings.Contains(sql, "example.org") || !strings.Contains(sql, "email_bidx") {
			t.Error(sql)
		}
	})
}

// TestIndexKeysAreMadeOnce: by whoever needs one first, by all processes together, never in a transaction, and asked for once.
func TestIndexKeysAreMadeOnce(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		counter := kmskeytest.NewCounter(localkey.NewInsecure())
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
		ok(t, err)
		w := openWith(t, kind, keys, rowseal.Config{Models: []any{&IdxDoc{}}}, &gorm.Config{})
		docs := idxDocs(2)
		err = w.db.Create(&docs).Error
		if err == nil || !strings.Contains(err.Error(), "the table is made by migrations.Up") {
			t.Fatal(err)
		}
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		undo := errors.New("undo")
		err = w.db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&docs).Error; err != nil {
				return err
			}
			return undo
		})
		if isSQLite(kind) {
			fails(t, err, rowseal.ErrIndexKey, "call Plugin.MakeIndexKeys when the program starts")
			err = w.db.Transaction(func(tx *gorm.DB) error { return tx.Where(&IdxDoc{Score: 1}).Find(&docs).Error })
			fails(t, err, rowseal.ErrIndexKey)
		} else if !errors.Is(err, undo) {
			t.Error(err)
		}

		// Several processes at once.
		var programs []*gorm.DB
		var wg sync.WaitGroup
		for range 4 {
			db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
			ok(t, err)
			plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&IdxDoc{}}})
			ok(t, err)
			ok(t, db.Use(plugin))
			programs = append(programs, db)
			wg.Go(func() { ok(t, plugin.MakeIndexKeys(t.Context(), db)) })
		}
		wg.Wait()
		var n int
		ok(t, w.plain.QueryRow("SELECT count(*) FROM rowseal_index_keys").Scan(&n))
		if n != 1 {
			t.Errorf("%d keys", n)
		}
		docs = idxDocs(3)
		ok(t, programs[0].Create(&docs).Error)
		counter.Reset()
		for i := range 10 {
			for _, db := range programs {
				if got := ids(t, rowseal.Sealed(db).Where(&IdxDoc{Email: docs[i%3].Email})); got != fmt.Sprint(docs[i%3].ID) {
					t.Errorf("rows %q", got)
				}
			}
		}
		if counter.Calls() != 0 {
			t.Errorf("%d calls for look-ups that open nothing", counter.Calls())
		}
		ok(t, w.db.Transaction(func(tx *gorm.DB) error { return tx.Where(&IdxDoc{Score: 1}).Find(&docs).Error }))
		// What is wrapped for one model opens for no other, nor under another namespace.
		other, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "elsewhere"})
		ok(t, err)
		db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
		ok(t, err)
		plugin, err := rowseal.New(other, rowseal.Config{Models: []any{&IdxDoc{}}})
		ok(t, err)
		ok(t, db.Use(plugin))
		fails(t, plugin.MakeIndexKeys(t.Context(), db), kmskey.ErrCommitment, "index key of model IdxDoc")
	})
}

// TestIndexOfAnotherRow: an index column that was moved or altered does not pass one row off as another.
func TestIndexOfAnotherRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		docs := idxDocs(3)
		ok(t, w.db.Create(&docs).Error)
		w.tamper(t, "UPDATE idx_docs SET email_bidx = NULL WHERE id = ?", docs[1].ID)
		w.tamper(t, "UPDATE idx_docs SET score_bidx = ? WHERE id = ?", w.cell(t, "idx_docs", "score_bidx", docs[2].ID), docs[0].ID)
		var rows []IdxDoc
		err := w.db.Where(&IdxDoc{Score: 2}).Find(&rows).Error
		fails(t, err, rowseal.ErrIndexMismatch, "IdxDoc", "Score")
		if strings.Contains(err.Error(), "+49") {
			t.Error(err)
		}
		ok(t, w.db.Where(&IdxDoc{Score: 2}).Omit("score").Find(&rows).Error) // nothing to compare with
		ok(t, w.db.Where(&IdxDoc{Score: 2}).Or("ward = ?", "0").Find(&rows).Error)
		var d IdxDoc
		ok(t, w.db.First(&d, docs[0].ID).Error)
		ok(t, w.db.Model(&d).Update("score", d.Score).Error)
		if got := ids(t, w.db.Where(&IdxDoc{Score: 2})); got != fmt.Sprint(docs[2].ID) {
			t.Errorf("mended, it finds %q", got)
		}
		// A program that looks for the first time sees that a row lacks its index.
		again, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
		ok(t, err)
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
		ok(t, err)
		plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&IdxDoc{}}})
		ok(t, err)
		ok(t, again.Use(plugin))
		fails(t, again.Where(&IdxDoc{Email: "p0@example.org"}).Find(&rows).Error, rowseal.ErrIndexIncomplete, "rotation.FillIndexes")
		d = IdxDoc{}
		ok(t, again.First(&d, docs[1].ID).Error)
		ok(t, again.Save(&d).Error)
		if got := ids(t, again.Where(&IdxDoc{Email: d.Email})); got != fmt.Sprint(docs[1].ID) {
			t.Errorf("filled, it finds %q", got)
		}
	})
}

// another is a second process of an application on the same table.
func another(t testing.TB, w *world, keys *kmskey.Keyring, cfg rowseal.Config) (*gorm.DB, *rowseal.Plugin) {
	t.Helper()
	db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(keys, cfg)
	ok(t, err)
	ok(t, db.Use(plugin))
	return db, plugin
}

// TestIndexKeysMoveToANewVersion: an old version can be taken out when rows and index keys are moved, and until then it says what it is needed for.
func TestIndexKeysMoveToANewVersion(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		old := localkey.NewInsecure()
		next, err := localkey.Generate(t.TempDir() + "/next")
		ok(t, err)
		keys := func(current int, versions ...int) *kmskey.Keyring {
			cfg := kmskey.Config{Current: current, Versions: map[int]kmskey.Version{}, Namespace: "test"}
			for _, n := range versions {
				cfg.Versions[n] = kmskey.Version{Provider: map[int]kmskey.Provider{1: old, 2: next}[n]}
			}
			k, err := kmskey.New(cfg)
			ok(t, err)
			return k
		}
		models := rowseal.Config{Models: []any{&IdxDoc{}}}
		w := openWith(t, kind, keys(1, 1), models, &gorm.Config{})
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		docs := idxDocs(3)
		ok(t, w.db.Create(&docs).Error)

		both, plugin := another(t, w, keys(2, 1, 2), models)
		_, err = rotation.RotateKMSKey(t.Context(), both, &IdxDoc{}, rotation.Config{})
		ok(t, err)
		only, _ := another(t, w, keys(2, 2), models)
		fails(t, only.Where(&IdxDoc{Score: 1}).Find(&[]IdxDoc{}).Error, kmskey.ErrUnknownVersion, "index key of model IdxDoc")
		for range 2 {
			ok(t, plugin.MakeIndexKeys(t.Context(), both))
		}
		fails(t, both.Transaction(func(tx *gorm.DB) error { return plugin.MakeIndexKeys(t.Context(), tx) }), rowseal.ErrUnsupported)
		only, _ = another(t, w, keys(2, 2), models)
		if got := ids(t, only.Where(&IdxDoc{Email: docs[2].Email})); got != fmt.Sprint(docs[2].ID) {
			t.Errorf("rows %q", got)
		}
		ok(t, only.Create(&IdxDoc{Email: "new"}).Error)
		if got := ids(t, w.db.Model(&IdxDoc{}).Select("id").Where("email", "new")); got == "" {
			t.Error("a program that began before does not find what the new one wrote")
		}
	})
}

type (
	// IdxOwner has rows with indexes, and nothing sealed itself.
	IdxOwner struct {
		ID   uint64
		Name string
		Pets []IdxPet

		FirstID *uint64
		First   *IdxPet `gorm:"foreignKey:FirstID"`
	}
	IdxPet struct {
		ID         uint64
		IdxOwnerID uint64
		IdxOwner   *IdxOwner
		Chip       string `gorm:"serializer:rowseal" rowseal:"unique"`
		ChipBidx   []byte // declared, for those who want it in Go
		rowseal.RowKey
	}
)

// TestIndexBesideOtherTables: relations, aliases, sub-queries, changes and deletes.
func TestIndexBesideOtherTables(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexedWith(t, kind, rowseal.Config{Models: []any{&IdxPet{}}}, &gorm.Config{DisableForeignKeyConstraintWhenMigrating: true}) // they go round in a circle
		ok(t, w.db.AutoMigrate(&IdxOwner{}))
		owners := []IdxOwner{{Name: "1", Pets: []IdxPet{{Chip: "a"}, {Chip: "b"}}}, {Name: "2", Pets: []IdxPet{{Chip: "c"}}}}
		ok(t, w.db.Create(&owners).Error)
		db := w.db
		var got []IdxOwner
		ok(t, db.Preload("Pets", func(tx *gorm.DB) *gorm.DB { return tx.Where(&IdxPet{Chip: "b"}) }).Order("id").Find(&got).Error)
		if len(got) != 2 || len(got[0].Pets) != 1 || got[0].Pets[0].Chip != "b" || len(got[1].Pets) != 0 || len(got[0].Pets[0].ChipBidx) != 16 {
			t.Errorf("%+v", got)
		}
		ok(t, db.Where("id IN (?)", db.Model(&IdxPet{}).Select("idx_owner_id").Where(&IdxPet{Chip: "c"})).Find(&got).Error)
		if len(got) != 1 || got[0].ID != owners[1].ID {
			t.Errorf("%+v", got)
		}
		var pets []IdxPet
		ok(t, db.Joins("IdxOwner").Where("idx_pets.chip", "a").Find(&pets).Error)
		if len(pets) != 1 || pets[0].IdxOwner == nil || pets[0].IdxOwner.ID != owners[0].ID {
			t.Errorf("%+v", pets)
		}
		ok(t, db.Model(&IdxOwner{}).Joins("JOIN idx_pets ON idx_pets.idx_owner_id = idx_owners.id").Where("idx_pets.chip", []string{"c", "x"}).Find(&got).Error)
		if len(got) != 1 || got[0].ID != owners[1].ID {
			t.Errorf("%+v", got)
		}
		ok(t, db.Model(&owners[0]).Association("Pets").Find(&pets, map[string]any{"chip": "b"}))
		if len(pets) != 1 || pets[0].Chip != "b" {
			t.Errorf("%+v", pets)
		}
		ok(t, db.Table("idx_pets AS p").Where(map[string]any{"chip": "a"}).Find(&pets).Error)
		if len(pets) != 1 || pets[0].Chip != "a" {
			t.Errorf("%+v", pets)
		}
		var n int64
		ok(t, db.Table("idx_pets").Where("chip", "a").Count(&n).Error)
		if n != 1 {
			t.Errorf("%d rows by the table's name alone", n)
		}
		// A relation that is joined under a condition on it.
		ok(t, db.Model(&owners[0]).Update("first_id", owners[0].Pets[0].ID).Error)
		for chip, want := range map[string]int{"a": 1, "b": 0} {
			got = nil
			ok(t, db.InnerJoins("First", db.Where(&IdxPet{Chip: chip})).Find(&got).Error)
			if len(got) != want || want == 1 && got[0].First.Chip != chip {
				t.Errorf("%s: %+v", chip, got)
			}
		}
		// The same, by the name that GORM gives it.
		first := func(tx *gorm.DB) func() ([]IdxOwner, error) {
			return func() (rows []IdxOwner, err error) { return rows, tx.Find(&rows).Error }
		}
		generic := func(target clause.JoinTarget, on func(gorm.JoinBuilder)) func() ([]IdxOwner, error) {
			return func() ([]IdxOwner, error) {
				return gorm.G[IdxOwner](db).Joins(target, func(b gorm.JoinBuilder, _, _ clause.Table) error { on(b); return nil }).Find(t.Context())
			}
		}
		for chip, want := range map[string]int{"a": 1, "b": 0} {
			for name, find := range map[string]func() ([]IdxOwner, error){
				"Where":             first(db.Joins("First").Where("First.chip", chip)),
				"Where, list":       first(db.Joins("First").Where("First.chip", []string{chip, "x"})),
				"map":               first(db.Joins("First").Where(map[string]any{"First.chip": chip})),
				"Eq":                first(db.Joins("First").Where(clause.Eq{Column: clause.Column{Table: "First", Name: "chip"}, Value: chip})),
				"Eq by name":        first(db.Joins("First").Where(clause.Eq{Column: "First.chip", Value: chip})),
				"nested":            first(db.Joins("First").Where(db.Where("First.chip", chip).Where("idx_owners.id > 0"))),
				"beside another":    first(db.Joins("First").Where("First.chip", chip).Where("name", "1")),
				"own condition":     first(db.InnerJoins("First", db.Where("chip", chip))),
				"generics, struct":  generic(clause.InnerJoin.Association("First"), func(b gorm.JoinBuilder) { b.Where(&IdxPet{Chip: chip}) }),
				"generics, map":     generic(clause.InnerJoin.Association("First"), func(b gorm.JoinBuilder) { b.Where(map[string]any{"chip": chip}) }),
				"generics, renamed": generic(clause.InnerJoin.Association("First").As("f"), func(b gorm.JoinBuilder) { b.Where("f.chip", chip) }),
				"generics, Where": func() ([]IdxOwner, error) {
					return gorm.G[IdxOwner](db).Joins(clause.LeftJoin.Association("First").As("f"), nil).Where(map[string]any{"f.chip": chip}).Find(t.Context())
				},
			} {
				rows, err := find()
				if err != nil || len(rows) != want || want == 1 && (rows[0].First == nil || rows[0].First.Chip != chip) {
					t.Errorf("%s, %s: %d rows, %v", name, chip, len(rows), err)
				}
			}
		}
		var other []IdxOwner
		ok(t, db.Joins("First").Not(map[string]any{"First.chip": "b"}).Find(&other).Error)
		if len(other) != 1 || other[0].ID != owners[0].ID {
			t.Errorf("%+v", other)
		}
		ok(t, db.Joins("First").Where("First.chip", nil).Find(&other).Error)
		if len(other) != 1 || other[0].ID != owners[1].ID {
			t.Errorf("%+v", other)
		}
		ok(t, db.Joins("First").Where("First.chip", "a").Or("name", "2").Order("idx_owners.id").Find(&other).Error)
		if len(other) != 2 {
			t.Errorf("%+v", other)
		}
		ok(t, db.Model(&IdxOwner{}).Joins("First").Where("First.chip", "a").Count(&n).Error)
		var chips []string
		ok(t, db.Model(&IdxOwner{}).Joins("First").Where("First.chip", "a").Pluck("First.chip", &chips).Error)
		if n != 1 || !slices.Equal(chips, []string{"a"}) {
			t.Errorf("%d, %v", n, chips)
		}
		pets = nil
		ok(t, db.Joins("IdxOwner").Joins("IdxOwner.First").Where("IdxOwner__First.chip", "a").Where("idx_pets.chip", "b").Find(&pets).Error)
		if len(pets) != 1 || pets[0].Chip != "b" || pets[0].IdxOwner == nil || pets[0].IdxOwner.First == nil || pets[0].IdxOwner.First.Chip != "a" {
			t.Errorf("%+v", pets)
		}
		for name, tt := range map[string]struct {
			err  error
			says string
		}{
			"text on a relation":   {db.Joins("First").Where(`? = ?`, clause.Column{Table: "First", Name: "chip"}, "a").Find(&other).Error, `db.Where("First.chip", v)`},
			"order by a relation":  {db.Joins("First").Order(clause.OrderByColumn{Column: clause.Column{Table: "First", Name: "chip"}}).Find(&other).Error, `db.Where("First.chip", v)`},
			"text on a table":      {db.Model(&IdxOwner{}).Joins("JOIN idx_pets ON idx_pets.idx_owner_id = idx_owners.id").Where("idx_pets.chip = ?", "a").Find(&other).Error, `db.Where("idx_pets.chip", v)`},
			"text of a join":       {db.Joins("JOIN idx_pets ON idx_pets.idx_owner_id = idx_owners.id AND idx_pets.chip = ?", "a").Find(&other).Error, `db.Where("idx_pets.chip", v)`},
			"generics, a subquery": {orError(gorm.G[IdxOwner](db).Joins(clause.InnerJoin.AssociationFrom("First", gorm.G[IdxPet](db).Where("id > 0")).As("f"), func(b gorm.JoinBuilder, _, _ clause.Table) error { b.Where("f.chip", "a"); return nil }).Find(t.Context())), ""},
		} {
			if tt.err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			fails(t, tt.err, rowseal.ErrCondition, tt.says)
		}
		ok(t, db.Model(&owners[0]).Association("Pets").Append(&IdxPet{Chip: "d"}))
		ok(t, db.Where(&IdxPet{Chip: "d"}).First(&IdxPet{}).Error)
		pet := IdxPet{ChipBidx: []byte("not mine to say"), Chip: "e", IdxOwnerID: owners[0].ID}
		ok(t, db.Create(&pet).Error)
		ok(t, db.Where(&IdxPet{Chip: "e"}).First(&IdxPet{}).Error)
		pet.Chip = "f"
		ok(t, db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&pet).Error)
		ok(t, db.Where(&IdxPet{Chip: "f"}).First(&IdxPet{}).Error)
		if result := db.Where("chip", []string{"a", "b"}).Delete(&IdxPet{}); result.Error != nil || result.RowsAffected != 2 {
			t.Errorf("%d, %v", result.RowsAffected, result.Error)
		}
		result := db.Model(&IdxPet{}).Where(&IdxPet{Chip: "c"}).Update("idx_owner_id", owners[0].ID)
		if result.Error != nil || result.RowsAffected != 1 {
			t.Errorf("%d, %v", result.RowsAffected, result.Error)
		}
		if strings.Contains(w.dump(t, "idx_pets"), "not mine") {
			t.Error("what the application put into the index column was stored")
		}
	})
}

func orError[T any](_ T, err error) error { return err }

// TestIndexKeysAge: they are asked for again, used on through an outage, and not after a refusal.
func TestIndexKeysAge(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		counter := kmskeytest.NewCounter(localkey.NewInsecure())
		var says error
		counter.Before = func(_ context.Context, c kmskeytest.Call) error { return says }
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
		ok(t, err)
		w := openWith(t, kind, keys, rowseal.Config{Models: []any{&IdxDoc{}}, IndexKeyAge: time.Nanosecond}, &gorm.Config{})
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		docs := idxDocs(2)
		ok(t, w.db.Create(&docs).Error)
		find := func() error {
			var rows []IdxDoc
			return rowseal.Sealed(w.db).Where(&IdxDoc{Email: docs[0].Email}).Find(&rows).Error
		}
		counter.Reset()
		ok(t, find())
		ok(t, find())
		if n := counter.Count("unwrap"); n != 2 {
			t.Errorf("%d calls for two searches with keys that are old at once", n)
		}
		says = &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrUnavailable}
		ok(t, find())
		says = &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrDenied}
		fails(t, find(), kmskey.ErrDenied, "index key of model IdxDoc")
		says = nil
		ok(t, find())
	})
}

// TestIndexIsFilled: rows from before the index get it, whoever writes meanwhile, and a search waits for that.
func TestIndexIsFilled(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		const rows = 450
		ok(t, w.db.Create(&IdxDoc{Email: "the key is made"}).Error)
		docs := idxDocs(rows)
		ok(t, w.db.CreateInBatches(&docs, 150).Error)
		w.tamper(t, "UPDATE idx_docs SET email_bidx = NULL, phone_bidx = NULL WHERE id > ?", docs[10].ID)
		w.tamper(t, "UPDATE idx_docs SET score_bidx = NULL")
		before := w.cell(t, "idx_docs", "email", docs[20].ID)
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
		ok(t, err)
		db, _ := another(t, w, keys, rowseal.Config{Models: []any{&IdxDoc{}}})
		fails(t, db.Where(&IdxDoc{Email: docs[30].Email}).Find(&[]IdxDoc{}).Error, rowseal.ErrIndexIncomplete)
		var writers sync.WaitGroup
		for i := 40; i < 60; i++ {
			writers.Go(func() { ok(t, w.db.Model(&IdxDoc{ID: docs[i].ID}).Update("email", fmt.Sprint("moved ", i)).Error) })
		}
		filled, err := rotation.FillIndexes(t.Context(), db, &IdxDoc{}, rotation.Config{})
		ok(t, err)
		writers.Wait()
		// Three indexes of each row, but for two of the first eleven; what writers wrote meanwhile they filled themselves.
		if all := int64(3*rows + 1 - 2*11); filled.Rewrapped > all || filled.Rewrapped < all-20 || filled.Failed != 0 || filled.Kind != "index" {
			t.Errorf("%+v", filled)
		}
		again, err := rotation.FillIndexes(t.Context(), db, &IdxDoc{}, rotation.Config{})
		ok(t, err)
		if again.Rewrapped != 0 || again.Calls != 0 || again.Current != 3*(rows+1) {
			t.Errorf("%+v", again)
		}
		for i, d := range docs {
			want := d.Email
			if i >= 40 && i < 60 {
				want = fmt.Sprint("moved ", i)
			}
			if got := ids(t, rowseal.Sealed(db).Where(&IdxDoc{Email: want})); got != fmt.Sprint(d.ID) {
				t.Fatalf("row %d is found as %q", i, got)
			}
		}
		if string(w.cell(t, "idx_docs", "email", docs[20].ID)) != string(before) {
			t.Error("the field was written")
		}
		if got := ids(t, rowseal.Sealed(db).Where("score", 2)); strings.Count(got, " ") != rows/4-1 {
			t.Errorf("%d rows", strings.Count(got, " ")+1)
		}
		type stranger struct{ ID int }
		_, err = rotation.FillIndexes(t.Context(), db, &stranger{}, rotation.Config{})
		fails(t, err, rowseal.ErrModel)
	})
}

// IdxFold has an index that tells texts apart by no more than their letters.
type IdxFold struct {
	ID    uint64
	Email string `gorm:"serializer:rowseal" rowseal:"unique=trim+lower"`
	rowseal.RowKey
}

func TestIndexFoldsTexts(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxFold{})
		ada := IdxFold{Email: "Ada@Example.org"}
		ok(t, w.db.Create(&ada).Error)
		for _, email := range []string{"Ada@Example.org", "ada@example.ORG", " ADA@example.org\t"} {
			var got IdxFold
			ok(t, w.db.Where(&IdxFold{Email: email}).First(&got).Error)
			if got.Email != "Ada@Example.org" {
				t.Errorf("%q finds %q", email, got.Email)
			}
			if err := w.db.Create(&IdxFold{Email: email}).Error; err == nil {
				t.Errorf("a second row has %q", email)
			}
		}
		var n int64
		ok(t, w.db.Model(&IdxFold{}).Where("email", "ada@example.com").Count(&n).Error)
		if n != 0 {
			t.Errorf("%d rows", n)
		}
		ok(t, w.db.Model(&ada).Update("email", "ADA@EXAMPLE.ORG").Error)
		var got IdxFold
		ok(t, w.db.Where("email", "ada@example.org").First(&got).Error)
		if got.Email != "ADA@EXAMPLE.ORG" {
			t.Errorf("%+v", got)
		}
	})
}

// TestEqWithoutIndexes: it knows Go names in any model of the plugin's, and sends nothing that it cannot place.
func TestEqWithoutIndexes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ScopeDoc{})
		doc := ScopeDoc{Title: "one", Name: "a"}
		ok(t, w.db.Create(&doc).Error)
		var got ScopeDoc
		ok(t, w.db.Where(rowseal.Eq("Title", "one")).First(&got).Error)
		ok(t, w.db.Model(&got).Where(rowseal.Eq("Title", "one")).Update("name", "b").Error)
		got = ScopeDoc{}
		ok(t, w.db.Where(clause.Not(rowseal.Eq("Title", "two"))).First(&got).Error)
		if got.ID != doc.ID || got.Name != "b" {
			t.Errorf("%+v", got)
		}
		fails(t, w.db.Where(rowseal.Eq("Name", "secret value")).First(&got).Error, rowseal.ErrCondition)
		fails(t, w.db.Where(rowseal.Eq("Nmae", "secret value")).First(&got).Error, rowseal.ErrCondition, "no such field")
		if strings.Contains(w.log.String(), "secret value") {
			t.Error("the value was logged")
		}
	})
}
