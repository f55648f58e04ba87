package integration

// review_test.go owns what a review found: rows read under Sealed, rotations beside unsaved changes, embedded pointers.

import (
	"fmt"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type PointerID struct {
	ID   uint64
	Ward string
}

type PointerRow struct {
	*PointerID
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// GORM writes new values into the row while it collects them, also behind an embedded pointer.
func TestBoundWhereTheIDIsBehindAnEmbeddedPointer(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &PointerRow{})
		p := PointerRow{PointerID: &PointerID{ID: 1, Ward: "w"}, Name: "a"}
		ok(t, w.db.Create(&p).Error)
		fails(t, w.db.Model(&p).Update("id", 2).Error, rowseal.ErrIdentity)
		q := PointerRow{PointerID: &PointerID{ID: 1, Ward: "w"}}
		ok(t, w.db.Model(q).Update("ward", "z").Error)
		if q.Ward != "w" {
			t.Error("db.Model(v) changed what v points to")
		}
	})
}

type PairRow struct {
	A    int64  `gorm:"primaryKey;autoIncrement:false"`
	B    int64  `gorm:"primaryKey;autoIncrement:false"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestBoundToAKeyThatWasNotSet(t *testing.T) {
	w := open(t, "sqlite", &PairRow{})
	fails(t, w.db.Create(&PairRow{Name: "x"}).Error, rowseal.ErrIdentity, "set it in Go")
}

func TestSealedNullIsLeftAloneWithoutACall(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := writerOnly(t, kind, &Patient{})
		ok(t, w.db.Create(&Patient{Name: "a", Ward: "7"}).Error)
		w.tamper(t, "UPDATE patients SET name = NULL")
		before := w.dump(t, "patients")
		var got Patient
		ok(t, rowseal.Sealed(w.db).First(&got).Error)
		ok(t, w.db.Save(&got).Error)
		if after := w.dump(t, "patients"); after != before {
			t.Errorf("saved\n%s\nbecame\n%s", before, after)
		}
	})
}

func TestSealedFieldsAndSecretsOpenWithOneCall(t *testing.T) {
	w := open(t, "sqlite", &Patient{})
	ok(t, w.db.Create(&Patient{Name: "a", Notes: rowseal.NewSecret("n")}).Error)
	var got Patient
	ok(t, rowseal.Sealed(w.db).First(&got).Error)
	w.kms.Reset()
	ok(t, rowseal.Open(t.Context(), w.db, &got))
	calls(t, w, 1, "Open")
}

// rotator is a second process, which wraps under version 2.
func rotator(t *testing.T, models ...any) (w *world, next *gorm.DB) {
	versions := map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}, 2: {Provider: localkey.NewInsecure()}}
	open := func(current int) *kmskey.Keyring {
		keys, err := kmskey.New(kmskey.Config{Current: current, Versions: versions})
		ok(t, err)
		return keys
	}
	w = openWith(t, "sqlite", open(1), rowseal.Config{Models: models}, &gorm.Config{})
	next, err := gorm.Open(sqlite.Dialector{Conn: w.plain}, &gorm.Config{})
	ok(t, err)
	plugin, err := rowseal.New(open(2), rowseal.Config{Models: models})
	ok(t, err)
	ok(t, next.Use(plugin))
	return w, next
}

func TestLostNothingWhenAnotherProcessRotatedFirst(t *testing.T) {
	w, next := rotator(t, &Patient{})
	ok(t, w.db.Create(&Patient{Name: "a", Ward: "7"}).Error)
	var cleared, other, sealed Patient
	ok(t, next.First(&cleared).Error)
	ok(t, next.First(&other).Error)
	ok(t, rowseal.Sealed(next).First(&sealed).Error)
	ok(t, rowseal.Rotate(t.Context(), next, &other))

	ok(t, rowseal.Rotate(t.Context(), next, &sealed))
	ok(t, rowseal.Open(t.Context(), next, &sealed))
	if sealed.Name != "a" {
		t.Errorf("a row read under Sealed and rotated opens as %q", sealed.Name)
	}
	cleared.Name = ""
	ok(t, rowseal.Rotate(t.Context(), next, &cleared))
	ok(t, next.Save(&cleared).Error)
	if got := load[Patient](t, next, cleared.ID); got.Name != "" {
		t.Errorf("a name that was cleared beside a rotation is %q", got.Name)
	}
}

func TestSecretUntouchedStaysAfterARotation(t *testing.T) {
	w, next := rotator(t, &SecretRow{})
	id := uint64(1)
	ok(t, w.db.Create(&SecretRow{Notes: rowseal.NewSecret("a")}).Error)
	r := load[SecretRow](t, next, id)
	ok(t, rowseal.Rotate(t.Context(), next, &r))
	r.Ward = "9"
	ok(t, next.Save(&r).Error)
	if r = load[SecretRow](t, next, id); got(t, r.Notes) != "a" || r.Ward != "9" {
		t.Error("the row changed")
	}
}

func TestSecretZeroInALoadedRowIsKeptAlsoAfterGet(t *testing.T) {
	w := open(t, "sqlite", &SecretRow{})
	id := secret(t, w, "a")
	r := load[SecretRow](t, w.db, id)
	got(t, r.Notes)
	r.Notes = rowseal.Secret[string]{}
	ok(t, w.db.Save(&r).Error)
	noteOf(t, w, id, "a")
}

func TestSecretInAnUnexportedFieldIsNotPrinted(t *testing.T) {
	type holder struct{ s rowseal.Secret[string] }
	s := holder{rowseal.NewSecret("PLAIN")}
	for _, v := range []any{s, &s, []any{s}, struct{ x any }{s.s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t", "%c", "%U", "%e"} {
			if out := fmt.Sprintf(verb, v); strings.Contains(out, "PLAIN") || strings.Contains(out, "504c41494e") {
				t.Errorf("%s of %T: %s", verb, v, out)
			}
		}
	}
}

func TestReturningOfSomeColumnsIntoARowThatWasNotLoaded(t *testing.T) {
	// MariaDB has no RETURNING for UPDATE.
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		ok(t, w.db.Create(&Patient{Name: "a", Ward: "7"}).Error)
		p := Patient{ID: 1}
		ok(t, w.db.Model(&p).Clauses(clause.Returning{Columns: []clause.Column{{Name: "name"}}}).Update("name", "b").Error)
		if p.Name != "b" {
			t.Errorf("returned %q", p.Name)
		}
		p.Ward = "8"
		ok(t, w.db.Model(&p).Update("name", "c").Error)
		if got := load[Patient](t, w.db, 1); got.Name != "c" {
			t.Errorf("wrote %q", got.Name)
		}
	}, sqliteGo, postgres)
}

func TestLostNothingWhenAPartOfARowIsSavedAndCreatedAnew(t *testing.T) {
	w := open(t, "sqlite", &Patient{})
	ok(t, w.db.Create(&Patient{Name: "a", Notes: rowseal.NewSecret("n")}).Error)
	var r Patient
	ok(t, w.db.Select("ward", "notes").First(&r).Error)
	r.Notes = rowseal.NewSecret("m")
	ok(t, w.db.Save(&r).Error)
	ok(t, w.db.Delete(&Patient{ID: r.ID}).Error)
	phone := "555"
	r.Phone = &phone // its own key, which was not written
	fails(t, w.db.Create(&r).Error, rowseal.ErrNotLoaded, "Patient.Name")
}
