package integration

import (
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
)

// ScopeDoc has two keys, each of which may lie under another version.
type ScopeDoc struct {
	ID    uint64
	Title string
	Name  string  `gorm:"serializer:rowseal"`
	Phone *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

func TestScopesFindRowsByVersion(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		m := newManifested(t, kind, &ScopeDoc{})
		old := []ScopeDoc{{Title: "both old", Name: "a", Phone: new("1")}, {Title: "moved", Name: "b", Phone: new("2")}, {Title: "half moved", Name: "c"}}
		ok(t, m.w.db.Create(&old).Error)
		next := m.bare(t)
		plugin, err := rowseal.New(m.keys(t, 2, 1, 2), rowseal.Config{Models: []any{&ScopeDoc{}}})
		ok(t, err)
		ok(t, next.Use(plugin))
		ok(t, rowseal.Rotate(t.Context(), next, &old[1]))
		ok(t, next.Create(&ScopeDoc{Title: "new", Name: "d", Phone: new("4")}).Error)
		ok(t, next.Create(&ScopeDoc{Title: "none"}).Error)
		// A row of which one key lies elsewhere, under a version whose number begins with the same digit.
		m.w.dropChecks(t, &ScopeDoc{})
		m.w.tamper(t, "UPDATE scope_docs SET encrypted_kms_key = 'v21:x' WHERE title = 'half moved'")

		titles := func(scope func(*gorm.DB) *gorm.DB, more ...func(*gorm.DB) *gorm.DB) (out string) {
			t.Helper()
			var rows []ScopeDoc
			ok(t, next.Scopes(append(more, scope)...).Select("id", "title").Order("id").Find(&rows).Error)
			for _, r := range rows {
				out += r.Title + ";"
			}
			return out
		}
		for _, tt := range []struct {
			name, want string
			scope      func(*gorm.DB) *gorm.DB
		}{
			{"under 1", "both old;half moved;", rowseal.UnderVersion(1)},
			{"under 2", "moved;new;none;", rowseal.UnderVersion(2)},
			{"not under 2", "both old;half moved;", rowseal.NotUnderVersion(2)},
			{"not under 1", "moved;half moved;new;none;", rowseal.NotUnderVersion(1)},
			{"one key", "moved;new;none;", rowseal.UnderVersion(2, "encrypted_kms_key_phone")},
		} {
			if got := titles(tt.scope); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
		if got := titles(rowseal.NotUnderVersion(2), func(db *gorm.DB) *gorm.DB { return db.Where("title = ?", "both old") }); got != "both old;" {
			t.Errorf("beside another condition: %s", got)
		}
		var n int64
		ok(t, next.Model(&ScopeDoc{}).Scopes(rowseal.NotUnderVersion(2)).Count(&n).Error)
		if n != 2 {
			t.Errorf("%d rows are counted", n)
		}
		fails(t, next.Scopes(rowseal.UnderVersion(1, "name")).Find(&[]ScopeDoc{}).Error, rowseal.ErrModel, `it has no key column "name"`)
		fails(t, next.Table("scope_docs").Scopes(rowseal.UnderVersion(1)).Find(&[]map[string]any{}).Error, rowseal.ErrModel, "name the model with db.Model")
		if err := next.Scopes(rowseal.UnderVersion(0)).Find(&[]ScopeDoc{}).Error; err == nil || !strings.Contains(err.Error(), "there is no version 0") {
			t.Error(err)
		}
	})
}
