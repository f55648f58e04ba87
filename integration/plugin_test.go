package integration

import (
	"testing"

	"github.com/rowseal/rowseal"
)

type Patient struct {
	ID    uint64
	Ward  string
	Name  string                 `gorm:"serializer:rowseal"`
	Phone *string                `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Notes rowseal.Secret[string] // opened only by Get
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

func TestRoundTrip(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Patient{})
		phone := "555"
		p := Patient{Name: "Ada", Ward: "7", Phone: &phone, Notes: rowseal.NewSecret("likes numbers")}
		ok(t, w.db.Create(&p).Error)
		t.Log(w.dump(t, "patients"))
		for _, e := range w.spy.Events() {
			t.Log(e.Kind, e.SQL)
		}
		w.spy.Reset()
		var got Patient
		ok(t, w.db.First(&got, p.ID).Error)
		if got.Name != "Ada" || got.Phone == nil || *got.Phone != "555" {
			t.Fatalf("read %+v", got)
		}
		notes, err := got.Notes.Get(t.Context())
		ok(t, err)
		if notes != "likes numbers" {
			t.Fatal(notes)
		}
		for _, e := range w.spy.Events() {
			t.Log(e.Kind, e.SQL)
		}
		got.Name = "Grace"
		ok(t, w.db.Save(&got).Error)
		ok(t, w.db.Model(&got).Update("name", "Edith").Error)
		ok(t, w.db.Model(&Patient{ID: p.ID}).Updates(map[string]any{"Ward": "8", "phone": nil}).Error)
		got = Patient{}
		ok(t, w.db.First(&got, p.ID).Error)
		if got.Name != "Edith" || got.Phone != nil || got.Ward != "8" {
			t.Fatalf("read %+v", got)
		}
		ok(t, rowseal.Rotate(t.Context(), w.db, &got))
	})
}
