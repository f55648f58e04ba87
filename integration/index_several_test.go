package integration

// index_several_test.go owns fields with several blind indexes, of parts of their values, and of fewer bits.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
)

// IdxMany has fields with several indexes, with one that is of a part alone, and with one of so few bits that many values share an entry.
type IdxMany struct {
	ID    uint64
	Email string  `gorm:"serializer:rowseal" rowseal:"unique=lower+trim,index=domain,index=first3+6bits"`
	Card  string  `gorm:"serializer:rowseal" rowseal:"index=digits+last4"`
	Name  string  `gorm:"serializer:rowseal" rowseal:"index=fold+2bits"`
	Phone *string `gorm:"serializer:rowseal" rowseal:"index=national.v1+digits,text"`
	Note  string  `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// national is a telephone number as it is dialled within the country.
func national(s string) string {
	if rest, abroad := strings.CutPrefix(s, "+49"); abroad {
		return "0" + strings.TrimLeft(rest, " (0)")
	}
	return s
}

func openSeveral(t *testing.T, kind string) (*world, []IdxMany) {
	w := newIndexedWith(t, kind, rowseal.Config{Models: []any{&IdxMany{}}, Expressions: field.Functions{"national.v1": national}}, &gorm.Config{})
	rows := make([]IdxMany, 40)
	for i := range rows {
		rows[i] = IdxMany{Email: fmt.Sprintf("P%d@Clinic%d.example", i, i%3), Card: fmt.Sprintf("4000-%04d %04d", i, i%10), Name: fmt.Sprintf("Name %d", i%20), Note: "x"}
		if i%2 == 0 {
			rows[i].Phone = new(fmt.Sprintf("+49 (0)30 %d", i%4))
		}
	}
	ok(t, w.db.Create(&rows).Error)
	return w, rows
}

func TestIndexesOfOneField(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, rows := openSeveral(t, kind)
		want := func(such func(IdxMany) bool) (ids []uint64) {
			for _, r := range rows {
				if such(r) {
					ids = append(ids, r.ID)
				}
			}
			return ids
		}
		check := func(name string, tx *gorm.DB, such func(IdxMany) bool) {
			t.Helper()
			var found []IdxMany
			tx = tx.Order("id").Find(&found)
			ok(t, tx.Error)
			ids := make([]uint64, len(found))
			for i := range found {
				if ids[i] = found[i].ID; found[i].Note != "x" {
					t.Errorf("%s: %+v", name, found[i])
				}
			}
			if expected := want(such); !slices.Equal(ids, expected) || len(expected) == 0 || tx.RowsAffected != int64(len(ids)) {
				t.Errorf("%s: rows %v (%d), want %v", name, ids, tx.RowsAffected, expected)
			}
		}
		db := w.db
		named := func(name string) func(IdxMany) bool { return func(r IdxMany) bool { return r.Name == name } }
		check("main", db.Where("email", " p7@clinic1.EXAMPLE"), func(r IdxMany) bool { return r.ID == rows[7].ID })
		check("main by name", db.Where(rowseal.EqBy("Email", "trim+lower", "p7@clinic1.example")), func(r IdxMany) bool { return r.ID == rows[7].ID })
		check("domain", db.Where(rowseal.EqBy("Email", "domain", "clinic1.example")), func(r IdxMany) bool { return strings.HasSuffix(r.Email, "Clinic1.example") })
		check("domain of a whole", db.Where(rowseal.EqBy("email", "domain", "nobody@CLINIC2.example")), func(r IdxMany) bool { return strings.HasSuffix(r.Email, "Clinic2.example") })
		check("not a domain", db.Where(clause.Not(rowseal.EqBy("email", "domain", "clinic2.example"))), func(r IdxMany) bool { return !strings.HasSuffix(r.Email, "Clinic2.example") })
		check("last 4", db.Where(rowseal.EqBy("Card", "last4+digits", "0003")), func(r IdxMany) bool { return strings.HasSuffix(r.Card, "0003") })
		check("own function", db.Where(&IdxMany{Phone: new("030-2")}), func(r IdxMany) bool { return r.Phone != nil && strings.HasSuffix(*r.Phone, "2") })
		// Of two bits, a fourth of all rows shares each entry.
		check("narrow", db.Where(&IdxMany{Name: "NAME 3"}), named("Name 3"))
		check("narrow, list", db.Where("name", []string{"name 3", "name 5"}), func(r IdxMany) bool { return r.Name == "Name 3" || r.Name == "Name 5" })
		check("narrow, twice", db.Where(&IdxMany{Name: "name 3"}).Where(rowseal.EqBy("Email", "6bits+first3", "P3@")), func(r IdxMany) bool { return r.ID == rows[3].ID })
		check("narrow, nested", db.Where(db.Where("name", "name 3").Where("id > ?", 0)), named("Name 3"))
		check("narrow, selected", db.Select("name", "note").Where("name", "name 3"), named("Name 3"))
		check("null", db.Where("phone", nil), func(r IdxMany) bool { return r.Phone == nil })
		for name := range 20 {
			check("each", db.Where("name", fmt.Sprint("name ", name)), named(fmt.Sprint("Name ", name)))
		}
		pointers := []*IdxMany{}
		tx := db.Where(&IdxMany{Name: "Name 3"}).Find(&pointers)
		ok(t, tx.Error)
		if len(pointers) != 2 || tx.RowsAffected != 2 || slices.Contains(pointers, nil) || slices.Contains(pointers[:cap(pointers)][len(pointers):], pointers[0]) {
			t.Errorf("%d pointers", len(pointers))
		}
		generic, err := gorm.G[IdxMany](db).Where(&IdxMany{Name: "Name 4"}).Find(t.Context())
		ok(t, err)
		if len(generic) != 2 || generic[0].Name != "Name 4" {
			t.Errorf("%d rows", len(generic))
		}
		// All indexes follow a write.
		ok(t, db.Model(&rows[3]).Updates(map[string]any{"email": "x@new.example", "name": "Other", "card": "9999", "phone": nil}).Error)
		rows[3].Email, rows[3].Name, rows[3].Card, rows[3].Phone = "x@new.example", "Other", "9999", nil
		mine := func(r IdxMany) bool { return r.ID == rows[3].ID }
		check("domain that follows", db.Where(rowseal.EqBy("Email", "domain", "new.example")), mine)
		check("card that follows", db.Where(rowseal.EqBy("Card", "digits+last4", "9999")), mine)
		check("narrow that follows", db.Where("name", "other"), mine)
		if err := db.Create(&IdxMany{Email: "X@NEW.example "}).Error; err == nil {
			t.Error("a duplicate was accepted")
		}
		var n int64
		ok(t, db.Model(&IdxMany{}).Where(rowseal.EqBy("Email", "domain", "clinic1.example")).Count(&n).Error)
		if n != int64(len(want(func(r IdxMany) bool { return strings.HasSuffix(r.Email, "Clinic1.example") }))) {
			t.Errorf("%d rows are counted", n)
		}
		if got := w.cell(t, "idx_manies", "name_fold_2bits_bidx", rows[0].ID); len(fmt.Sprint(got)) == 0 {
			t.Error("no narrow index")
		}
	})
}

func TestNarrowIndexRefuses(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, rows := openSeveral(t, kind)
		db := w.db
		var many []IdxMany
		var one IdxMany
		var n int64
		var names []string
		narrow := &IdxMany{Name: "Name 3"}
		type dto struct{ Name string }
		before := w.dump(t, "idx_manies")
		for name, err := range map[string]error{
			"First":           db.Where(narrow).First(&one).Error,
			"Take":            db.Where(narrow).Take(&one).Error,
			"Find into one":   db.Where(narrow).Find(&one).Error,
			"Limit":           db.Where(narrow).Limit(5).Find(&many).Error,
			"Offset":          db.Where(narrow).Limit(-1).Offset(2).Find(&many).Error,
			"FindInBatches":   db.Where(narrow).FindInBatches(&many, 5, func(*gorm.DB, int) error { return nil }).Error,
			"Count":           db.Model(&IdxMany{}).Where(narrow).Count(&n).Error,
			"Pluck":           db.Model(&IdxMany{}).Where(narrow).Pluck("name", &names).Error,
			"another struct":  db.Model(&IdxMany{}).Where(narrow).Find(&[]dto{}).Error,
			"maps":            db.Model(&IdxMany{}).Where(narrow).Find(&[]map[string]any{}).Error,
			"Or":              db.Where(narrow).Or("id = ?", rows[0].ID).Find(&many).Error,
			"Or, nested":      db.Where("1 = 1").Where(db.Where("id = ?", 1).Or(narrow)).Find(&many).Error,
			"Not":             db.Not(narrow).Find(&many).Error,
			"Neq":             db.Where(clause.Neq{Column: "name", Value: "Name 3"}).Find(&many).Error,
			"sub-query":       db.Where("id IN (?)", db.Model(&IdxMany{}).Select("id").Where(narrow)).Find(&many).Error,
			"Distinct":        db.Distinct("id", "name").Where(narrow).Find(&many).Error,
			"Group":           db.Group("id").Where(narrow).Find(&many).Error,
			"join by text":    db.Joins("JOIN idx_manies AS o ON o.id = idx_manies.id").Where(narrow).Find(&many).Error,
			"Update":          db.Model(&IdxMany{}).Where(narrow).Update("note", "y").Error,
			"Delete":          db.Where(narrow).Delete(&IdxMany{}).Error,
			"FirstOrCreate":   db.Where(narrow).FirstOrCreate(&one).Error,
			"FirstOrInit":     db.Where(narrow).FirstOrInit(&one).Error,
			"Sealed":          rowseal.Sealed(db).Where(narrow).Find(&many).Error,
			"not selected":    db.Select("id", "note").Where(narrow).Find(&many).Error,
			"omitted":         db.Omit("name").Where(narrow).Find(&many).Error,
			"Rows":            rowsOf(db.Model(&IdxMany{}).Where(narrow)),
			"a list, limited": db.Where("name", []string{"Name 3", "Name 4"}).Limit(1).Find(&many).Error,
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			fails(t, err, rowseal.ErrNarrowIndex)
		}
		for name, tt := range map[string]struct {
			err  error
			says string
		}{
			"no such index":    {db.Where(rowseal.EqBy("Email", "last4", "a")).Find(&many).Error, `it has "lower+trim", "domain", "first3+6bits"`},
			"no index":         {db.Where(rowseal.EqBy("Note", "last4", "a")).Find(&many).Error, "gives that field such an index"},
			"not sealed":       {db.Where(rowseal.EqBy("ID", "last4", 1)).Find(&many).Error, "gives that field such an index"},
			"no such field":    {db.Where(rowseal.EqBy("Mail", "last4", "a")).Find(&many).Error, "no such field"},
			"only of a part":   {db.Where(&IdxMany{Card: "1"}).Find(&many).Error, `rowseal.EqBy("Card", "digits+last4", v)`},
			"without a tag":    {db.Where(rowseal.EqBy("Email", "", "a")).Find(&many).Error, "gives that field such an index"},
			"nothing to parse": {db.Where(rowseal.EqBy("Email", "x+", "a")).Find(&many).Error, "gives that field such an index"},
		} {
			if tt.err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			fails(t, tt.err, rowseal.ErrCondition, tt.says)
		}
		if w.dump(t, "idx_manies") != before {
			t.Error("a refused statement changed something")
		}
	})
}

func rowsOf(tx *gorm.DB) error {
	rows, err := tx.Rows()
	if err != nil {
		return err
	}
	return rows.Close()
}

func TestIndexesThatModelsCannotHave(t *testing.T) {
	type long struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal;column:a_name_that_is_nearly_as_long_as_it_may_be" rowseal:"index=lower+trim+last4"`
		rowseal.RowKey
	}
	type number struct {
		ID    uint64
		Score int `gorm:"serializer:rowseal" rowseal:"index=digits"`
		rowseal.RowKey
	}
	type taken struct {
		ID         uint64
		Mail       string `gorm:"serializer:rowseal" rowseal:"index=domain"`
		MailDomain string `gorm:"serializer:rowseal" rowseal:"index"`
		rowseal.RowKey
	}
	type unknown struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"index=phone.v1"`
		rowseal.RowKey
	}
	keys := localKeys(t)
	for _, tt := range []struct {
		model any
		says  string
	}{{&long{}, "databases take 63"}, {&number{}, "digits is done to texts, and it is a int"}, {&taken{}, `two indexes have the column "mail_domain_bidx"`}, {&unknown{}, `the function "phone.v1", which Config.Expressions lacks`}} {
		plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{tt.model}})
		ok(t, err)
		db, _ := connect(t, sqliteGo, &sqlspy.Recorder{}, &gorm.Config{})
		fails(t, db.Use(plugin), rowseal.ErrModel, tt.says)
	}
	for says, f := range map[string]field.Functions{"ends in a version": {"phone": national, "a__b.v1": national}, "is nil": {"phone.v1": nil}} {
		if _, err := rowseal.New(keys, rowseal.Config{Expressions: f}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v", err)
		}
	}
}
