package integration

import (
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// Rows that are created from maps are like those created from structs, and the maps get ids and defaults, and nothing sealed.
func TestRowsFromMaps(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		c.seed(t)
		one := map[string]any{"Name": name, "ward": "m", "code": "m1", "Score": 7, "nick": nil}
		ok(t, c.db.Model(&Chart{}).Create(one).Error)
		two := []map[string]any{{"name": name, "code": "m2"}, {"PHONE": "555", "Code": "m3", "level": "high"}}
		ok(t, c.db.Model(&Chart{}).Create(&two).Error)
		three := []map[string]any{{"ID": 40, "name": "x", "code": "m4"}, {"id": 41, "notes": rowseal.NewSecret("y"), "code": "m5"}}
		ok(t, c.db.Model(&Chart{}).Create(three).Error)
		if len(one) != 6 || one["Name"] != name || len(two) != 2 || len(three) != 2 {
			t.Errorf("the application's maps were changed: %v %v %v", one, two, three)
		}
		var got []Chart
		ok(t, c.db.Where("id > 2").Order("id").Find(&got).Error)
		ids := []any{one["id"], two[0]["id"], two[1]["id"], three[0]["id"], three[1]["id"]}
		for i, id := range ids {
			if want, _ := id.(uint64); got[i].ID != want || want == 0 {
				t.Errorf("row %d has id %d, its map %v (%T)", i, got[i].ID, id, id)
			}
		}
		notes, err := got[4].Notes.Get(t.Context())
		if err != nil || got[0].Name != name || got[0].Score != 7 || got[0].Nick != nil || got[1].Name != name || got[2].Phone != "555" || got[2].Level != "high" || got[3].Name != "x" || notes != "y" {
			t.Errorf("%v %+v", err, got)
		}
		got[2].Name = "z"
		ok(t, c.db.Save(&got[2]).Error)
	})
}

// What a map says that cannot be sealed, or would leave a row without its key, is refused before anything is written.
func TestRowsFromMapsAreRefused(t *testing.T) {
	refusals := map[string]struct {
		err   error
		names string
		run   func(db *gorm.DB) error
	}{
		"an expression": {rowseal.ErrUnsupported, "name", func(db *gorm.DB) error {
			return db.Model(&Chart{}).Create(map[string]any{"name": gorm.Expr("'" + name + "'")}).Error
		}},
		"a sub-query": {rowseal.ErrUnsupported, "name", func(db *gorm.DB) error {
			return db.Model(&Chart{}).Create(map[string]any{"name": db.Model(&LogEntry{}).Select("ward")}).Error
		}},
		"another type": {rowseal.ErrType, "Score", func(db *gorm.DB) error { return db.Model(&Chart{}).Create(map[string]any{"score": name}).Error }},
		"a key": {rowseal.ErrKeyColumn, "encrypted_kms_key", func(db *gorm.DB) error {
			return db.Model(&Chart{}).Create(map[string]any{"encrypted_kms_key": "v1:x"}).Error
		}},
		"quotes": {rowseal.ErrPlaintext, "name", func(db *gorm.DB) error { return db.Model(&Chart{}).Create(map[string]any{`"name"`: name}).Error }},
		"an id computed": {rowseal.ErrContext, "id", func(db *gorm.DB) error {
			return db.Model(&Chart{}).Create(map[string]any{"name": name, "id": gorm.Expr("7")}).Error
		}},
		"a context computed": {rowseal.ErrContext, "tenant_id", func(db *gorm.DB) error {
			return db.Model(&Account{}).Create(map[string]any{"name": name, "tenant_id": gorm.Expr("7")}).Error
		}},
		"RETURNING": {rowseal.ErrUnsupported, "", func(db *gorm.DB) error {
			return db.Model(&Chart{}).Clauses(clause.Returning{}).Create(map[string]any{"name": name}).Error
		}},
	}
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		for what, r := range refusals {
			t.Run(what, func(t *testing.T) {
				c.seed(t)
				before := c.everything(t)
				c.spy.Reset()
				err := r.run(c.db)
				fails(t, err, r.err, r.names)
				if after := c.everything(t); after != before {
					t.Errorf("something was written:\n%s", difference(before, after))
				}
				for _, e := range c.spy.Events() {
					if strings.Contains(e.String(), name) {
						t.Errorf("plaintext reached the driver: %s", e)
					}
				}
			})
		}
	})
}

// The tenant that a map names is in the row's context.
func TestRowsFromMapsWithAContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		m := map[string]any{"tenant_id": 9, "Name": name}
		ok(t, c.db.Model(&Account{}).Create(m).Error)
		if got := load[Account](t, c.db, m["id"]); got.Name != name || got.TenantID != 9 {
			t.Errorf("%+v", got)
		}
	})
}
