package integration

// attack_tenant_test.go owns attacks on indexes of tenants, and on rows that move from one encryption context to another.

import (
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/rotation"
)

// opensAll opens every row of a model and checks every index.
func opensAll(t *testing.T, db *gorm.DB, model any) {
	t.Helper()
	v, err := rotation.Verify(t.Context(), db, model, 0, rotation.Config{})
	if err != nil {
		t.Errorf("verify: %v", err)
		return
	}
	if !v.Clean() {
		t.Errorf("%d rows, %d failed: %+v", v.Rows, v.Failed, v.Failures)
	}
}

type atkFile struct {
	ID       uint64
	TenantID string
	Region   string
	Body     *string `gorm:"serializer:rowseal"`
	Phone    *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// A key that the statement says nothing of, or all of whose fields it empties, is bound to the context all the same.
func TestAttackTenantContextKeys(t *testing.T) {
	writes := map[string]func(db *gorm.DB, id uint64) error{
		"loaded with one of two keys": func(db *gorm.DB, id uint64) error {
			var f atkFile
			if err := db.Select("id", "body").Take(&f, id).Error; err != nil {
				return err
			}
			return db.Model(&f).Update("tenant_id", "other").Error
		},
		"loaded with the other key": func(db *gorm.DB, id uint64) error {
			var f atkFile
			if err := db.Select("id", "phone").Take(&f, id).Error; err != nil {
				return err
			}
			return db.Model(&f).Update("tenant_id", "other").Error
		},
		"not loaded, one key emptied": func(db *gorm.DB, id uint64) error {
			return db.Model(&atkFile{ID: id}).Updates(map[string]any{"tenant_id": "other", "region": "us", "body": "new", "phone": nil}).Error
		},
		"not loaded, all emptied": func(db *gorm.DB, id uint64) error {
			return db.Model(&atkFile{ID: id}).Updates(map[string]any{"tenant_id": "other", "region": "us", "body": nil, "phone": nil}).Error
		},
		"saved without loading": func(db *gorm.DB, id uint64) error {
			return db.Save(&atkFile{ID: id, TenantID: "other", Region: "us", Body: new("new")}).Error
		},
		"saved empty without loading": func(db *gorm.DB, id uint64) error {
			return db.Save(&atkFile{ID: id, TenantID: "other", Region: "us"}).Error
		},
		"saved in a list": func(db *gorm.DB, id uint64) error {
			return db.Save([]*atkFile{{ID: id, TenantID: "other", Region: "us", Body: new("new")}}).Error
		},
		"upsert, empty": func(db *gorm.DB, id uint64) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&atkFile{ID: id, TenantID: "other", Region: "us"}).Error
		},
		"upsert of context alone, by values": func(db *gorm.DB, id uint64) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(map[string]any{"tenant_id": "other"})}).
				Create(&atkFile{ID: id, TenantID: "acme", Region: "eu"}).Error
		},
		"upsert of context from another column": func(db *gorm.DB, id uint64) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Set{{Column: clause.Column{Name: "tenant_id"}, Value: clause.Column{Table: "excluded", Name: "region"}}}}).
				Create(&atkFile{ID: id, TenantID: "acme", Region: "eu"}).Error
		},
		"upsert with body, context by values": func(db *gorm.DB, id uint64) error {
			set := clause.AssignmentColumns([]string{"body", "phone"})
			set = append(set, clause.Assignments(map[string]any{"tenant_id": "other"})...)
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: set}).
				Create(&atkFile{ID: id, TenantID: "acme", Region: "eu", Body: new("new")}).Error
		},
		"upsert of all but one context column": func(db *gorm.DB, id uint64) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Omit("region").Create(&atkFile{ID: id, TenantID: "other", Region: "us", Body: new("new")}).Error
		},
		"upsert of some selected": func(db *gorm.DB, id uint64) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Select("id", "body", "phone").Create(&atkFile{ID: id, TenantID: "other", Region: "us", Body: new("new")}).Error
		},
		"moved by Sealed": func(db *gorm.DB, id uint64) error {
			var f atkFile
			if err := db.Scopes(rowseal.Sealed).Take(&f, id).Error; err != nil {
				return err
			}
			return db.Model(&f).Update("tenant_id", "other").Error
		},
		"Select of the context alone": func(db *gorm.DB, id uint64) error {
			f := atkFile{ID: id, TenantID: "other", Region: "us"}
			return db.Select("tenant_id", "region").Updates(&f).Error
		},
		"save of a row that was loaded in part": func(db *gorm.DB, id uint64) error {
			var f atkFile
			if err := db.Select("id", "body").Take(&f, id).Error; err != nil {
				return err
			}
			f.TenantID = "other"
			return db.Save(&f).Error
		},
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, rowseal.Model{Value: &atkFile{}, Context: rowseal.Columns("tenant_id", "region")})
				f := atkFile{TenantID: "acme", Region: "eu", Body: new("body"), Phone: new("phone")}
				ok(t, w.db.Create(&f).Error)
				err := write(w.db, f.ID)
				opensAll(t, w.db, &atkFile{})
				var now atkFile
				ok(t, w.db.Take(&now, f.ID).Error)
				ok(t, w.db.Model(&now).Update("body", "later").Error)
				ok(t, w.db.Model(&now).Update("phone", "later").Error)
				now = load[atkFile](t, w.db, f.ID)
				if *now.Body != "later" || *now.Phone != "later" {
					t.Error("not what was written")
				}
				t.Log(now.TenantID, now.Region, err)
			})
		}
	})
}

// A first key that another writer put there meanwhile.
func TestAttackTenantFirstKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for how, write := range map[string]func(db *gorm.DB, f *atkFile) error{
			"update": func(db *gorm.DB, f *atkFile) error { return db.Model(f).Update("tenant_id", "other").Error },
			"save":   func(db *gorm.DB, f *atkFile) error { f.TenantID = "other"; return db.Save(f).Error },
		} {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, rowseal.Model{Value: &atkFile{}, Context: rowseal.Columns("tenant_id", "region")})
				f := atkFile{ID: 7}
				w.tamper(t, "INSERT INTO atk_files (id, tenant_id, region) VALUES (7, 'acme', 'eu')")
				mine, theirs := load[atkFile](t, w.db, f.ID), load[atkFile](t, w.db, f.ID)
				ok(t, w.db.Model(&theirs).Update("body", "theirs").Error)
				t.Log(write(w.db, &mine))
				opensAll(t, w.db, &atkFile{})
				now := load[atkFile](t, w.db, f.ID)
				t.Log(now.TenantID, now.Body)
			})
		}
	})
}

type atkFixed struct {
	ID       uint64
	TenantID string  `gorm:"<-:create"`
	Body     *string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type atkDefault struct {
	ID       uint64
	TenantID string  `gorm:"default:lower('ACME');size:100"`
	Body     *string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// GORM does not write every column on conflict that it inserts.
func TestAttackTenantColumnsThatGORMLeaves(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for how, write := range map[string]func(db *gorm.DB, id uint64) error{
			"upsert": func(db *gorm.DB, id uint64) error {
				return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&atkFixed{ID: id, TenantID: "other", Body: new("new")}).Error
			},
			"list": func(db *gorm.DB, id uint64) error {
				return db.Save([]*atkFixed{{ID: id, TenantID: "other", Body: new("new")}}).Error
			},
			"save": func(db *gorm.DB, id uint64) error {
				return db.Save(&atkFixed{ID: id, TenantID: "other", Body: new("new")}).Error
			},
			"update": func(db *gorm.DB, id uint64) error {
				return db.Model(&atkFixed{ID: id}).Updates(map[string]any{"tenant_id": "other", "body": "new"}).Error
			},
			"update of a loaded one": func(db *gorm.DB, id uint64) error {
				var f atkFixed
				_ = db.Take(&f, id)
				return db.Model(&f).Updates(map[string]any{"tenant_id": "other", "body": "new"}).Error
			},
			"columns": func(db *gorm.DB, id uint64) error {
				return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"tenant_id", "body", "encrypted_kms_key"})}).Create(&atkFixed{ID: id, TenantID: "other", Body: new("new")}).Error
			},
		} {
			t.Run("fixed "+how, func(t *testing.T) {
				w := opened(t, kind, tenants(&atkFixed{}))
				f := atkFixed{TenantID: "acme", Body: new("body")}
				ok(t, w.db.Create(&f).Error)
				t.Log(write(w.db, f.ID))
				opensAll(t, w.db, &atkFixed{})
				load[atkFixed](t, w.db, f.ID)
			})
		}
		for how, write := range map[string]func(db *gorm.DB, id uint64) error{
			"upsert": func(db *gorm.DB, id uint64) error {
				return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&atkDefault{ID: id, TenantID: "other", Body: new("new")}).Error
			},
			"upsert of zero": func(db *gorm.DB, id uint64) error {
				return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&atkDefault{ID: id, Body: new("new")}).Error
			},
			"list": func(db *gorm.DB, id uint64) error {
				return db.Save([]*atkDefault{{ID: id, TenantID: "other", Body: new("new")}}).Error
			},
			"save": func(db *gorm.DB, id uint64) error {
				return db.Save(&atkDefault{ID: id, TenantID: "other", Body: new("new")}).Error
			},
			"create of zero": func(db *gorm.DB, id uint64) error {
				return db.Create(&atkDefault{Body: new("new")}).Error
			},
			"create of zero and others": func(db *gorm.DB, id uint64) error {
				return db.Create([]*atkDefault{{Body: new("new")}, {TenantID: "x", Body: new("new")}}).Error
			},
		} {
			t.Run("default "+how, func(t *testing.T) {
				w := opened(t, kind, tenants(&atkDefault{}))
				f := atkDefault{TenantID: "first", Body: new("body")}
				ok(t, w.db.Create(&f).Error)
				t.Log(write(w.db, f.ID))
				opensAll(t, w.db, &atkDefault{})
				load[atkDefault](t, w.db, f.ID)
			})
		}
	})
}
