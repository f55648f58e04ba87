package integration

// attack_index2_test.go owns defects of several and narrow blind indexes that a hostile reviewer found: one function for each.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/rotation"
)

type (
	// Atk2Pet has an index of one bit, so that half of all rows are found beside each value.
	Atk2Pet struct {
		ID      uint64
		OwnerID uint64
		Ward    int
		Name    string `gorm:"serializer:rowseal" rowseal:"index=lower+1bits"`
		rowseal.RowKey
	}
	// Atk2Owner has one of its own.
	Atk2Owner struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"index=lower+1bits"`
		rowseal.RowKey
	}
	// Atk2User has indexes of a part, and a field whose Go name is not that of its column.
	Atk2User struct {
		ID       uint64
		WorkMail string `gorm:"serializer:rowseal" rowseal:"unique=lower,index=domain"`
		Card     string `gorm:"serializer:rowseal" rowseal:"index=digits+last4"`
		rowseal.RowKey
	}
	// Atk2Org has one row for each domain.
	Atk2Org struct {
		ID    uint64
		Email string `gorm:"serializer:rowseal" rowseal:"unique=domain,unique=lower"`
		Note  string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	atk2Mail struct {
		Email string `gorm:"serializer:rowseal" rowseal:"index=domain"`
	}
	// Atk2Homes has two fields of one Go name.
	Atk2Homes struct {
		ID   uint64
		Home atk2Mail `gorm:"embedded;embeddedPrefix:home_"`
		Work atk2Mail `gorm:"embedded;embeddedPrefix:work_"`
		rowseal.RowKey
	}
	// Atk2Long has many indexes with long names.
	Atk2Long struct {
		ID  uint64
		One string `gorm:"serializer:rowseal;column:a_column_with_a_rather_long_name_number_one" rowseal:"index,index=lower,index=fold,index=trim,index=first3,index=last4"`
		Two string `gorm:"serializer:rowseal;column:a_column_with_a_rather_long_name_number_two" rowseal:"index,index=lower,index=fold,index=trim,index=first3,index=last4"`
		rowseal.RowKey
	}
	atk2OwnDomain struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"index=domain.v2"`
		rowseal.RowKey
	}
	atk2DomainTwo struct {
		ID   uint64
		Name string `gorm:"serializer:rowseal" rowseal:"index=domain+v2"`
		rowseal.RowKey
	}
)

func (atk2OwnDomain) TableName() string { return "atk2_domains" }
func (atk2DomainTwo) TableName() string { return "atk2_domains" }

func atk2World(t *testing.T, kind string, config rowseal.Config) *world {
	t.Helper()
	return newIndexedWith(t, kind, config, &gorm.Config{})
}

// atk2Pets makes 40 owners with a pet each, of the same names.
func atk2Pets(t *testing.T, kind string) *gorm.DB {
	t.Helper()
	w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2Owner{}, &Atk2Pet{}}})
	owners, pets := make([]Atk2Owner, 40), make([]Atk2Pet, 40)
	for i := range owners {
		owners[i] = Atk2Owner{Name: fmt.Sprint("name ", i)}
	}
	ok(t, w.db.Create(&owners).Error)
	for i := range pets {
		pets[i] = Atk2Pet{OwnerID: owners[i].ID, Ward: i % 2, Name: owners[i].Name}
	}
	ok(t, w.db.Create(&pets).Error)
	return w.db
}

func atk2Names(pets []Atk2Pet) (names []string) {
	for _, p := range pets {
		names = append(names, p.Name)
	}
	return names
}

// TestAttack2SubQueryOfASliceModel: a sub-query whose model is a slice is taken for a list whose rows are opened and filtered, since GORM gives it its model for a destination. What
// shares an entry with the value sought comes through, and is deleted.
func TestAttack2SubQueryOfASliceModel(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		db := atk2Pets(t, kind)
		narrow := &Atk2Pet{Name: "name 39"}
		var n int64
		var found []Atk2Pet
		if err := db.Where("id IN (?)", db.Model(&[]Atk2Pet{}).Select("id").Where(narrow)).Find(&found).Error; err == nil && len(found) != 1 {
			t.Errorf("IN: %q", atk2Names(found))
		}
		if err := db.Table("(?) AS p", db.Model(&[]Atk2Pet{}).Select("id").Where(narrow)).Count(&n).Error; err == nil && n != 1 {
			t.Errorf("FROM: %d rows are counted", n)
		}
		if tx := db.Where("id IN (?)", db.Model(&[]Atk2Pet{}).Select("id").Where(narrow)).Delete(&Atk2Owner{}); tx.Error == nil && tx.RowsAffected != 1 {
			t.Errorf("DELETE: %d owners are gone", tx.RowsAffected)
		}
	})
}

// TestAttack2NarrowOfAnotherTable: a narrow condition on another table than the one whose rows are opened is let through, and nothing is held to it.
func TestAttack2NarrowOfAnotherTable(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		db := atk2Pets(t, kind)
		for name, tx := range map[string]*gorm.DB{
			"db.Table":           db.Table("atk2_pets, atk2_owners"),
			"clause.From":        db.Clauses(clause.From{Tables: []clause.Table{{Name: "atk2_pets"}, {Name: "atk2_owners"}}}),
			"db.Table with JOIN": db.Table("atk2_pets JOIN atk2_owners ON 1 = 1"),
		} {
			var found []Atk2Pet
			err := tx.Select("atk2_pets.*").Where("atk2_pets.owner_id = atk2_owners.id").Where("atk2_owners.name", "name 39").Find(&found).Error
			if err == nil && len(found) != 1 {
				t.Errorf("%s: %q", name, atk2Names(found))
			}
		}
	})
}

// TestAttack2NarrowLosesRows: a text can make the database choose among the rows, the surplus with them, as a LIMIT clause does, which is refused. The row that is sought is lost.
func TestAttack2NarrowLosesRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		db := atk2Pets(t, kind)
		narrow := &Atk2Pet{Name: "name 39"}
		paths := map[string]*gorm.DB{"LIMIT in Order": db.Order("id LIMIT 1").Where(narrow)}
		if kind == postgres {
			paths["DISTINCT ON"] = db.Select("DISTINCT ON (ward) *").Order("ward, id").Where(narrow)
			paths["DISTINCT ON, clause"] = db.Clauses(clause.Select{Expression: clause.Expr{SQL: "DISTINCT ON (ward) *"}}).Order("ward, id").Where(narrow)
		}
		for name, tx := range paths {
			var found []Atk2Pet
			if err := tx.Find(&found).Error; err == nil && !slices.Equal(atk2Names(found), []string{"name 39"}) {
				t.Errorf("%s: %q", name, atk2Names(found))
			}
		}
	})
}

// TestAttack2EqOutsideOfWhere: where nobody resolves an Eq, as among the arguments of a text, it is sent and logged with the value, unless the Go name is the column's.
func TestAttack2EqOutsideOfWhere(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2User{}}})
		db := w.db
		ok(t, db.Create(&Atk2User{WorkMail: "ada@secret.example"}).Error)
		for name, eq := range map[string]clause.Expression{"Eq": rowseal.Eq("WorkMail", "ada@secret.example"), "EqBy": rowseal.EqBy("WorkMail", "domain", "secret.example")} {
			for path, tx := range map[string]*gorm.DB{
				"argument": db.Where("? OR id = ?", eq, 0),
				"having":   db.Select("id").Group("id").Having(eq),
				"order":    db.Clauses(clause.OrderBy{Expression: eq}),
				"join":     db.Joins("JOIN atk2_users AS o ON ?", eq),
				"raw":      db.Raw("SELECT * FROM atk2_users WHERE ?", eq),
			} {
				w.spy.Reset()
				before := w.log.len()
				err := tx.Find(&[]Atk2User{}).Error
				if err != nil && strings.Contains(err.Error(), "secret.example") {
					t.Errorf("%s, %s: the error has the value", name, path)
				}
				if strings.Contains(w.log.since(before), "secret.example") {
					t.Errorf("%s, %s: the value was sent and logged", name, path)
				}
			}
		}
	})
}

// TestAttack2FirstOrCreateByPart: GORM makes the row out of the conditions, and gives it a part for the whole.
func TestAttack2FirstOrCreateByPart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2User{}}})
		var u, v Atk2User
		if err := w.db.Where(rowseal.EqBy("WorkMail", "domain", "example.org")).FirstOrCreate(&u).Error; err == nil && u.WorkMail != "" {
			t.Errorf("a row has the e-mail address %q", u.WorkMail)
		}
		if err := w.db.Where(rowseal.EqBy("Card", "digits+last4", "1234")).FirstOrInit(&v).Error; err == nil && v.Card != "" {
			t.Errorf("a row has the card %q", v.Card)
		}
	})
}

// TestAttack2UpsertByAPart: an upsert by the field is one by the first unique index, though that is of a part, and writes into the row of another value.
func TestAttack2UpsertByAPart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2Org{}}})
		ok(t, w.db.Create(&Atk2Org{Email: "ada@clinic.example", Note: "ada"}).Error)
		on := clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoUpdates: clause.AssignmentColumns([]string{"note"})}
		err := w.db.Clauses(on).Create(&Atk2Org{Email: "bob@clinic.example", Note: "bob"}).Error
		var got Atk2Org
		ok(t, w.db.First(&got).Error)
		if got.Note != "ada" {
			t.Errorf("the row of %s has the note %q, %v", got.Email, got.Note, err)
		}
	})
}

// TestAttack2TwoIndexesOneColumn: a function of the application's and a built-in step have one column, so that the one is taken for the other, filled, and finds nothing.
func TestAttack2TwoIndexesOneColumn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		own := field.Functions{"domain.v2": func(s string) string { return "own " + s }}
		w := atk2World(t, kind, rowseal.Config{Models: []any{rowseal.Model{Value: &atk2OwnDomain{}, Name: "D"}}, Expressions: own})
		ok(t, w.db.Create(&atk2OwnDomain{Name: "a@b.example"}).Error)
		db, _ := another(t, w, w.keys, rowseal.Config{Models: []any{rowseal.Model{Value: &atk2DomainTwo{}, Name: "D"}}})
		ok(t, db.AutoMigrate(&atk2DomainTwo{}))
		var found []atk2DomainTwo
		if err := db.Where(rowseal.EqBy("Name", "domain+v2", "b.example")).Find(&found).Error; err == nil && len(found) != 1 {
			t.Error("no row, and no error")
		}
	})
}

// TestAttack2FillManyIndexes: the target of the run is the names of all columns, and the ledger takes 512 characters.
func TestAttack2FillManyIndexes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2Long{}}})
		ok(t, w.db.Create(&Atk2Long{One: "a", Two: "b"}).Error)
		w.tamper(t, "UPDATE atk2_longs SET a_column_with_a_rather_long_name_number_one_last4_bidx = NULL")
		if report, err := rotation.FillIndexes(t.Context(), w.db, &Atk2Long{}, rotation.Config{}); err != nil || report.Rewrapped != 1 {
			t.Errorf("%v, %+v", err, report)
		}
	})
}

// TestAttack2FillMendsExchanged: Config.All mends indexes, whoever wrote them, but not those of a unique index that two rows have exchanged: each waits for the other, and both are called duplicates, which they are not.
func TestAttack2FillMendsExchanged(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _, after, _ := fillWorld(t, kind, []fillDoc{{Name: "Ada"}, {Name: "Grace"}})
		one, two := w.cell(t, "fill_docs", "name_bidx", 1), w.cell(t, "fill_docs", "name_bidx", 2)
		w.tamper(t, "UPDATE fill_docs SET name_bidx = NULL")
		w.tamper(t, "UPDATE fill_docs SET name_bidx = ? WHERE id = 1", two)
		w.tamper(t, "UPDATE fill_docs SET name_bidx = ? WHERE id = 2", one)
		if _, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{All: true}); err != nil {
			t.Error(err)
		}
	})
}

// TestAttack2FillMendsAChain: a program of before the index renames each row to what the next one was called. There is no duplicate, but each try mends one row, and after eight the rest are called duplicates.
func TestAttack2FillMendsAChain(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		rows := make([]fillDoc, 20)
		for i := range rows {
			rows[i].Name = fmt.Sprintf("Name %02d", i)
		}
		_, before, after, _ := fillWorld(t, kind, rows)
		_, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{})
		ok(t, err)
		for i := range rows {
			i = len(rows) - 1 - i
			ok(t, before.Model(&fillDoc{ID: rows[i].ID}).Update("name", fmt.Sprintf("Name %02d", i+1)).Error)
		}
		if _, err = rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{All: true}); err != nil {
			t.Error(err)
		}
	})
}

// TestAttack2VerifyWithoutKey: the indexes of a row without a key are not looked at, though they find it.
func TestAttack2VerifyWithoutKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _, after, _ := fillWorld(t, kind, []fillDoc{{Name: "Ada", Alias: new("x")}, {Name: "Grace", Alias: new("y")}})
		_, err := rotation.FillIndexes(t.Context(), after, &fillDocs{}, rotation.Config{})
		ok(t, err)
		w.tamper(t, "UPDATE fill_docs SET alias = NULL, encrypted_kms_key_alias = NULL WHERE id = 2")
		v, err := rotation.Verify(t.Context(), after, &fillDocs{}, 0, rotation.Config{})
		ok(t, err)
		if v.Clean() {
			t.Errorf("an index of no value is clean: %+v", v)
		}
	})
}

// TestAttack2EqByOfAnEmbeddedField: errors advise a name that EqBy does not take, and the one that it takes is that of two fields, of which it chooses one without a word.
func TestAttack2EqByOfAnEmbeddedField(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2Homes{}}})
		ok(t, w.db.Create(&Atk2Homes{Home: atk2Mail{"a@home.example"}, Work: atk2Mail{"a@work.example"}}).Error)
		var rows []Atk2Homes
		fails(t, w.db.Where("work_email = ?", "x").Find(&rows).Error, rowseal.ErrCondition, `rowseal.EqBy("Work.Email", "domain", v)`)
		if err := w.db.Where(rowseal.EqBy("Work.Email", "domain", "work.example")).Find(&rows).Error; err != nil || len(rows) != 1 {
			t.Errorf("as the error says: %d rows, %v", len(rows), err)
		}
		if err := w.db.Where(rowseal.EqBy("Email", "domain", "home.example")).Find(&rows).Error; err == nil && len(rows) == 0 {
			t.Error("one of two fields of this name is asked, and the other is meant")
		}
	}, sqliteGo)
}

// TestAttack2TagSaysTwoVersions: "v1" is not counted as said.
func TestAttack2TagSaysTwoVersions(t *testing.T) {
	for _, tag := range []string{"index=v1+v2", "index=lower+v1+v1", "unique=v1+lower+v3"} {
		if _, err := row.CheckTag(tag); err == nil {
			t.Errorf("%s is accepted", tag)
		}
	}
}

// TestAttack2EqByArgumentsExchanged: who takes value and index for each other, two texts side by side, has the value in the error and in the log.
func TestAttack2EqByArgumentsExchanged(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := atk2World(t, kind, rowseal.Config{Models: []any{&Atk2User{}}})
		err := w.db.Where(rowseal.EqBy("WorkMail", "ada@secret.example", "domain")).Find(&[]Atk2User{}).Error
		fails(t, err, rowseal.ErrCondition)
		if strings.Contains(err.Error()+w.log.String(), "ada@secret.example") {
			t.Error("the value is in the error or the log")
		}
	}, sqliteGo)
}

// TestAttack2OrOnALineOfItsOwn: GORM puts no brackets around such a text, so that rows belong to the result which do not have the value sought. They are no sign of an intruder.
func TestAttack2OrOnALineOfItsOwn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, &IdxDoc{})
		docs := idxDocs(4)
		ok(t, w.db.Create(&docs).Error)
		if got, want := ids(t, w.db.Where("score", 1).Where("ward = '1'\nOR\tid = ?", docs[2].ID)), fmt.Sprint(docs[1].ID, " ", docs[2].ID); got != want {
			t.Errorf("rows %q, want %q", got, want)
		}
		if got, want := ids(t, w.db.Where("score", 1).Where("ward = '1' OR id = ?", docs[2].ID)), fmt.Sprint(docs[1].ID); got != want {
			t.Errorf("rows %q, want %q", got, want)
		}
	})
}
