package integration

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

// Scopes of the plugin's own, and conditions beside them, shred what they name.
func TestAttackShredScopes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for name, c := range map[string]struct {
			db   func(*gorm.DB) *gorm.DB
			of   *AtkCase
			want string
		}{
			"scope, where": {func(db *gorm.DB) *gorm.DB { return db.Scopes(rowseal.NotShredded).Where("id = 3") }, &AtkCase{}, "[1 3]"},
			"where, scope": {func(db *gorm.DB) *gorm.DB { return db.Where("id = 3").Scopes(rowseal.NotShredded) }, &AtkCase{}, "[1 3]"},
			"scope, id":    {func(db *gorm.DB) *gorm.DB { return db.Scopes(rowseal.NotShredded) }, &AtkCase{ID: 3}, "[1 3]"},
			"shredded, id": {func(db *gorm.DB) *gorm.DB { return db.Scopes(rowseal.Shredded) }, &AtkCase{ID: 3}, "[1]"},
			"version":      {func(db *gorm.DB) *gorm.DB { return db.Scopes(rowseal.UnderVersion(1)).Where("ward = 'west'") }, &AtkCase{}, "[1 3]"},
			"session": {func(db *gorm.DB) *gorm.DB {
				base := db.Where("ward = 'west'").Session(&gorm.Session{})
				ok(t, base.Or("ward = 'east'").Find(&[]AtkCase{}).Error)
				return base
			}, &AtkCase{}, "[1 3]"},
			"not": {func(db *gorm.DB) *gorm.DB { return db.Not("ward = 'east' OR id = 1") }, &AtkCase{}, "[1 3]"},
			"group": {func(db *gorm.DB) *gorm.DB {
				return db.Where("ward = 'west'").Where(db.Where("id = 3").Or("id = 4"))
			}, &AtkCase{}, "[1 3]"},
		} {
			t.Run(name, func(t *testing.T) {
				s := newAtk(t, kind, &AtkCase{})
				atkCases(t, s)
				_, err := rowseal.Shred(s.db, &AtkCase{ID: 1})
				ok(t, err)
				_, err = rowseal.Shred(c.db(s.db), c.of)
				if got := stones(t, s, &AtkCase{}); got != c.want || err != nil {
					t.Errorf("%s, want %s: %v", got, c.want, err)
				}
			})
		}
	})
}

// AtkPlain is the table of AtkCase, of a program that does not know what is sealed.
type AtkPlain struct {
	ID              uint64
	Ward            string
	EncryptedKMSKey *string
	MoreKey         *string
	Name            []byte
}

func (AtkPlain) TableName() string { return "atk_cases" }

// What would take a tombstone away is refused.
func TestAttackTombstoneOverwritten(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkCase{})
		atkCases(t, s)
		var alive AtkCase
		ok(t, s.db.First(&alive, 4).Error)
		var stale AtkCase
		ok(t, s.db.First(&stale, 2).Error)
		_, err := rowseal.Shred(s.db, &AtkCase{ID: 2})
		ok(t, err)
		before := s.columns2(t, "atk_cases", 2)
		for name, write := range map[string]func(tx *gorm.DB) error{
			"Table map": func(tx *gorm.DB) error {
				return tx.Table("atk_cases").Where("id = 2").Updates(map[string]any{"encrypted_kms_key": nil}).Error
			},
			"Table sealed": func(tx *gorm.DB) error {
				return tx.Table("atk_cases").Where("id = 2").Updates(map[string]any{"name": "new"}).Error
			},
			"Table upper": func(tx *gorm.DB) error {
				return tx.Table("ATK_CASES").Where("id = 2").Updates(map[string]any{"ENCRYPTED_KMS_KEY": nil}).Error
			},
			"plain Save": func(tx *gorm.DB) error { return tx.Save(&AtkPlain{ID: 2, Ward: "w"}).Error },
			"plain Select": func(tx *gorm.DB) error {
				return tx.Model(&AtkPlain{ID: 2}).Select("EncryptedKMSKey").Updates(&AtkPlain{}).Error
			},
			"plain upsert": func(tx *gorm.DB) error {
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&AtkPlain{ID: 2}).Error
			},
			"key column": func(tx *gorm.DB) error { return tx.Model(&AtkCase{ID: 2}).Update("encrypted_kms_key", nil).Error },
			"key field": func(tx *gorm.DB) error {
				return tx.Model(&AtkCase{ID: 2}).Update("EncryptedKMSKey", rowseal.Key{}).Error
			},
			"key of another": func(tx *gorm.DB) error {
				return tx.Model(&AtkCase{ID: 2}).Update("EncryptedKMSKey", alive.EncryptedKMSKey).Error
			},
			"struct of another": func(tx *gorm.DB) error { a := alive; a.ID = 2; a.MRN, a.Badge = nil, nil; return tx.Save(&a).Error },
			"key in a struct": func(tx *gorm.DB) error {
				return tx.Model(&AtkCase{ID: 2}).Select("encrypted_kms_key").Updates(&AtkCase{RowKey: alive.RowKey}).Error
			},
			"set clause": func(tx *gorm.DB) error {
				return tx.Model(&AtkCase{ID: 2}).Clauses(clause.Set{{Column: clause.Column{Name: "encrypted_kms_key"}, Value: nil}}).Updates(map[string]any{"ward": "x"}).Error
			},
			"expression": func(tx *gorm.DB) error {
				return tx.Model(&AtkCase{ID: 2}).UpdateColumn("encrypted_kms_key", gorm.Expr("NULL")).Error
			},
			"G set": func(tx *gorm.DB) error {
				_, err := gorm.G[AtkCase](tx).Where("id = 2").Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: "new"}).Update(t.Context())
				return err
			},
			"stale, NULL":     func(tx *gorm.DB) error { c := stale; c.Name, c.Notes = nil, nil; return tx.Save(&c).Error },
			"stale, nil more": func(tx *gorm.DB) error { c := stale; c.AtkMore = nil; return tx.Omit("Name", "Notes").Save(&c).Error },
			"stale, Omit": func(tx *gorm.DB) error {
				c := stale
				c.Ward = "q"
				return tx.Omit("Name", "Notes", "Phone").Save(&c).Error
			},
			"another id": func(tx *gorm.DB) error { return tx.Model(&AtkCase{}).Where("id = 4").Update("id", 2).Error },
			"delete, create": func(tx *gorm.DB) error {
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(map[string]any{"encrypted_kms_key": gorm.Expr("excluded.encrypted_kms_key")})}).Create(&AtkCase{ID: 2, Name: new("x")}).Error
			},
			"many, loaded": func(tx *gorm.DB) error { return tx.Model(&[]AtkCase{stale, alive}).Update("name", "new").Error },
			"many, whole": func(tx *gorm.DB) error {
				return tx.Model(&[]AtkCase{stale, alive}).Updates(map[string]any{"name": "new", "notes": "new"}).Error
			},
			"Assign": func(tx *gorm.DB) error {
				return tx.Where(&AtkCase{ID: 2}).Assign(map[string]any{"name": "x", "notes": "y"}).FirstOrCreate(&AtkCase{}).Error
			},
			"slice save": func(tx *gorm.DB) error { c := []AtkCase{stale}; c[0].Ward = "z"; return tx.Save(&c).Error },
		} {
			err := s.db.Transaction(func(tx *gorm.DB) error {
				err := write(tx)
				after := s.columnsOn(t, tx, "atk_cases", 2)
				for k := range before {
					if len(after) > 0 && after[k] != before[k] && k != "ward" && k != "mrn" && k != "badge" {
						t.Errorf("%s: %s became %q: %v", name, k, after[k], err)
					}
				}
				return errors.New("back")
			})
			_ = err
		}
	})
}

// A transaction that has its snapshot from before the Shred writes.
func TestAttackShredOldSnapshot(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkCase{})
		for name, write := range map[string]func(tx *gorm.DB, c AtkCase) error{
			"whole": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Model(&AtkCase{ID: 2}).Updates(map[string]any{"name": "new", "notes": "new"}).Error
			},
			"part": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Model(&AtkCase{ID: 2}).Updates(map[string]any{"name": "new"}).Error
			},
			"loaded": func(tx *gorm.DB, c AtkCase) error { c.Name = new("new"); return tx.Save(&c).Error },
			"many": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Model(&AtkCase{}).Where("id = 2").Updates(map[string]any{"name": "new"}).Error
			},
			"many whole": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Model(&AtkCase{}).Where("id = 2").Updates(map[string]any{"name": "new", "notes": "new"}).Error
			},
			"upsert": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&AtkCase{ID: 2, Name: new("new"), Notes: new("new"), AtkMore: &AtkMore{Phone: new("new")}}).Error
			},
			"upsert by mrn": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "mrn"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(&AtkCase{MRN: new("mrn2"), Name: new("new")}).Error
			},
			"upsert by mrn, whole": func(tx *gorm.DB, _ AtkCase) error {
				return tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "mrn"}}, UpdateAll: true}).Create(&AtkCase{MRN: new("mrn2"), Name: new("new"), Notes: new("n")}).Error
			},
			"rotate": func(tx *gorm.DB, _ AtkCase) error { return rowseal.Rotate(t.Context(), tx, &AtkCase{ID: 2}) },
			"ward":   func(tx *gorm.DB, c AtkCase) error { c.Ward = "new"; return tx.Select("Ward").Updates(&c).Error },
		} {
			ok(t, s.db.Exec("DELETE FROM atk_cases").Error)
			atkCases(t, s)
			tx := s.db.Begin(&sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			ok(t, tx.Error)
			var c AtkCase
			ok(t, tx.First(&c, 2).Error)
			_, err := rowseal.Shred(s.db, &AtkCase{ID: 2})
			ok(t, err)
			before := s.columns2(t, "atk_cases", 2)
			err = write(tx, c)
			commit := tx.Commit().Error
			after := s.columns2(t, "atk_cases", 2)
			for k := range before {
				if after[k] != before[k] && k != "ward" {
					t.Errorf("%s: %s became %q: %v, %v", name, k, after[k], err, commit)
				}
			}
		}
	}, postgres, mariadb, mysqlLike)
}

// A partitioned table, with a partition that takes no NULL.
func TestAttackShredPartitions(t *testing.T) {
	s := newAtk(t, postgres, &AtkCase{})
	s.tamper(t, `ALTER TABLE atk_cases RENAME TO atk_old`)
	s.tamper(t, `CREATE TABLE atk_cases (LIKE atk_old INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY RANGE (id)`)
	s.tamper(t, `CREATE TABLE atk_low PARTITION OF atk_cases FOR VALUES FROM (0) TO (3)`)
	s.tamper(t, `CREATE TABLE atk_high PARTITION OF atk_cases FOR VALUES FROM (3) TO (300)`)
	atkCases(t, s)
	s.tamper(t, `ALTER TABLE atk_high ALTER COLUMN name SET NOT NULL`)
	got, err := rowseal.Shred(s.db.Where("id > 1"), &AtkCase{})
	if err != nil || got.Rows != 3 {
		t.Errorf("%+v %v", got, err)
	}
	if dump := s.dump(t, "atk_cases"); strings.Count(dump, "=v1:") != 2 {
		t.Error(fmt.Sprint(dump))
	}
}

// AtkOld is AtkCase as an earlier release of the application has it.
type AtkOld struct {
	ID   uint64
	Ward string
	Name *string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (AtkOld) TableName() string { return "atk_cases" }

// A program of an earlier release, which lacks a sealed column and its key, shreds nothing by halves.
func TestAttackShredByAnOlderProgram(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newAtk(t, kind, &AtkCase{})
		atkCases(t, s)
		older := s.also(t, s.keys, rowseal.Config{Models: []any{rowseal.Model{Value: &AtkOld{}, Name: "AtkCase"}}})
		_, err := rowseal.Shred(older, &AtkOld{ID: 2})
		fails(t, err, rowseal.ErrModel, "holds something sealed", "drop it")
		var c AtkCase
		ok(t, s.db.First(&c, 2).Error)
		if c.AtkMore == nil || c.Phone == nil || *c.Phone != "p" || c.Name == nil {
			t.Errorf("%+v", c)
		}
		// What the row does not hold is in nobody's way.
		s.tamper(t, "UPDATE atk_cases SET notes = NULL, phone = NULL, more_key = NULL WHERE id = 3")
		got, err := rowseal.Shred(older, &AtkOld{ID: 3})
		ok(t, err)
		if got.Rows != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// A ledger's text could not name a primary key that is no UTF-8, so there must be no such row.
func TestAttackReplayOfBytesInText(t *testing.T) {
	s := newAtk(t, sqliteGo, &ManText{})
	if err := s.db.Create(&ManText{Code: "a\xff", Name: "x"}).Error; err == nil || !strings.Contains(err.Error(), `"model_id" is not valid UTF-8`) {
		t.Error(err)
	}
}
