package integration

// index_hits_test.go owns what is found by an index whose columns were exchanged: whichever way a hit is read, once it is opened it is held to what was sought.

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

func TestIndexHitsAreCompared(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexedWith(t, kind, rowseal.Config{Models: []any{&IdxDoc{}, &IdxPet{}}}, &gorm.Config{DisableForeignKeyConstraintWhenMigrating: true}) // they go round in a circle
		ok(t, w.db.AutoMigrate(&IdxOwner{}))
		db := w.db
		docs := idxDocs(3)
		ok(t, db.Create(&docs).Error)
		owner := IdxOwner{Name: "o", Pets: []IdxPet{{Chip: "one"}, {Chip: "two"}}}
		ok(t, db.Create(&owner).Error)
		ok(t, db.Model(&owner).Update("first_id", owner.Pets[0].ID).Error)
		type dto struct {
			ID    uint64
			Score int
		}
		paths := map[string]func(score int, chip string) error{
			"Find":   func(score int, _ string) error { return db.Where("score", score).Find(&[]IdxDoc{}).Error },
			"First":  func(score int, _ string) error { return db.Where("score", score).First(&IdxDoc{}).Error },
			"list":   func(score int, _ string) error { return db.Where("score", []int{score, 77}).Find(&[]IdxDoc{}).Error },
			"struct": func(score int, _ string) error { return db.Model(&IdxDoc{}).Where("score", score).Find(&[]dto{}).Error },
			"one struct": func(score int, _ string) error {
				return db.Model(&IdxDoc{}).Where(&IdxDoc{Score: score}).Take(&dto{}).Error
			},
			"Scan": func(score int, _ string) error { return db.Model(&IdxDoc{}).Where("score", score).Scan(&[]dto{}).Error },
			"Pluck": func(score int, _ string) error {
				return db.Model(&IdxDoc{}).Where("score", score).Pluck("score", &[]int{}).Error
			},
			"map": func(score int, _ string) error {
				return db.Model(&IdxDoc{}).Where("score", score).Find(&[]map[string]any{}).Error
			},
			"Row": func(score int, _ string) error {
				var n int
				return db.Model(&IdxDoc{}).Select("score").Where("score", score).Row().Scan(&n)
			},
			"Rows": func(score int, _ string) error {
				rows, err := db.Model(&IdxDoc{}).Select("score").Where(rowseal.Eq("Score", score)).Rows()
				return drained(rows, err)
			},
			"alias": func(score int, _ string) error {
				return db.Table("idx_docs AS d").Select("d.id", "d.score").Where("d.score", score).Find(&[]dto{}).Error
			},
			"generics": func(score int, _ string) error {
				_, err := gorm.G[IdxDoc](db).Where(&IdxDoc{Score: score}).Find(t.Context())
				return err
			},
			"join": func(_ int, chip string) error {
				return db.InnerJoins("First", db.Where(&IdxPet{Chip: chip})).Find(&[]IdxOwner{}).Error
			},
			"preload": func(_ int, chip string) error {
				return db.Preload("Pets", &IdxPet{Chip: chip}).Find(&[]IdxOwner{}).Error
			},
			"association": func(_ int, chip string) error {
				return db.Model(&owner).Where(&IdxPet{Chip: chip}).Association("Pets").Find(&[]IdxPet{})
			},
		}
		paths["relation"] = func(_ int, chip string) error {
			return db.Joins("First").Where("First.chip", chip).Find(&[]IdxOwner{}).Error
		}
		paths["relation, map"] = func(_ int, chip string) error {
			return db.Joins("First").Where(map[string]any{"First.chip": chip}).Find(&[]IdxOwner{}).Error
		}
		paths["relation, column"] = func(_ int, chip string) error {
			return db.Joins("First").Where(clause.Eq{Column: clause.Column{Table: "First", Name: "chip"}, Value: chip}).Find(&[]IdxOwner{}).Error
		}
		paths["relation, nested"] = func(_ int, chip string) error {
			return db.Joins("IdxOwner").Joins("IdxOwner.First").Where("IdxOwner__First.chip", chip).Find(&[]IdxPet{}).Error
		}
		paths["relation, Pluck"] = func(_ int, chip string) error {
			return db.Model(&IdxOwner{}).Joins("First").Where("First.chip", chip).Pluck("First.chip", &[]string{}).Error
		}
		paths["relation, its own condition, maps"] = func(_ int, chip string) error {
			return db.Model(&IdxOwner{}).InnerJoins("First", db.Where(&IdxPet{Chip: chip})).Find(&[]map[string]any{}).Error
		}
		paths["relation, twice"] = func(_ int, chip string) error {
			tx := db.InnerJoins("First", db.Where(&IdxPet{Chip: chip})).Where("idx_owners.id > 0")
			if err := tx.Find(&[]IdxOwner{}).Error; err != nil && !errors.Is(err, rowseal.ErrIndexMismatch) {
				return err
			}
			tx.Error = nil
			return tx.Find(&[]IdxOwner{}).Error
		}
		paths["relation, generics"] = func(_ int, chip string) error {
			_, err := gorm.G[IdxOwner](db).Joins(clause.InnerJoin.Association("First"), func(on gorm.JoinBuilder, _, _ clause.Table) error {
				on.Where(&IdxPet{Chip: chip})
				return nil
			}).Find(t.Context())
			return err
		}
		paths["relation, generics, alias"] = func(_ int, chip string) error {
			_, err := gorm.G[IdxOwner](db).Joins(clause.InnerJoin.Association("First").As("f"), func(on gorm.JoinBuilder, _, _ clause.Table) error {
				on.Where(map[string]any{"chip": chip})
				return nil
			}).Find(t.Context())
			return err
		}
		paths["join by text"] = func(_ int, chip string) error {
			return db.Model(&IdxOwner{}).Joins("JOIN idx_pets ON idx_pets.idx_owner_id = idx_owners.id").Where("idx_pets.chip", chip).Pluck("idx_pets.chip", &[]string{}).Error
		}
		undone := errors.New("undone")
		returning := func(change func(tx *gorm.DB, rows *[]IdxDoc) error) func(int, string) error {
			return func(score int, _ string) error {
				var rows []IdxDoc
				err := db.Transaction(func(tx *gorm.DB) error {
					if err := change(tx.Clauses(clause.Returning{}).Where("score", score), &rows); err != nil {
						return err
					}
					if len(rows) != 1 || rows[0].Score != score {
						return fmt.Errorf("%+v", rows)
					}
					return undone
				})
				if errors.Is(err, undone) {
					return nil
				}
				return err
			}
		}
		paths["DELETE … RETURNING"] = returning(func(tx *gorm.DB, rows *[]IdxDoc) error { return tx.Delete(rows).Error })
		if !isMySQL(kind) {
			paths["UPDATE … RETURNING"] = returning(func(tx *gorm.DB, rows *[]IdxDoc) error { return tx.Model(rows).Update("ward", "w").Error })
			paths["UPDATE … RETURNING, sealed"] = returning(func(tx *gorm.DB, rows *[]IdxDoc) error { return tx.Model(rows).Update("note", "w").Error })
			paths["UPDATE … RETURNING, of some columns"] = returning(func(tx *gorm.DB, rows *[]IdxDoc) error {
				*rows = make([]IdxDoc, 1)
				return tx.Model(rows).Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "score"}, {Name: "encrypted_kms_key"}}}).Update("note", "w").Error
			})
			paths["UPDATE … RETURNING, of one row"] = returning(func(tx *gorm.DB, rows *[]IdxDoc) error {
				*rows = make([]IdxDoc, 1)
				return tx.Model(&(*rows)[0]).Update("note", "w").Error
			})
		}
		for name, path := range paths {
			if err := path(2, "one"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		// An intruder has one row found by the value of another.
		w.tamper(t, "UPDATE idx_docs SET score_bidx = ? WHERE id = ?", w.cell(t, "idx_docs", "score_bidx", docs[2].ID), docs[0].ID)
		w.tamper(t, "UPDATE idx_docs SET score_bidx = NULL WHERE id = ?", docs[2].ID)
		one, two := w.cell(t, "idx_pets", "chip_bidx", owner.Pets[0].ID), w.cell(t, "idx_pets", "chip_bidx", owner.Pets[1].ID)
		w.tamper(t, "UPDATE idx_pets SET chip_bidx = NULL")
		w.tamper(t, "UPDATE idx_pets SET chip_bidx = ? WHERE id = ?", two, owner.Pets[0].ID)
		w.tamper(t, "UPDATE idx_pets SET chip_bidx = ? WHERE id = ?", one, owner.Pets[1].ID)
		for name, path := range paths {
			err := path(2, "two")
			if err == nil {
				t.Errorf("%s: another row was passed off as the one sought", name)
				continue
			}
			fails(t, err, rowseal.ErrIndexMismatch)
		}
		// What a statement changed that fails so is undone with it.
		var failing []IdxDoc
		fails(t, db.Clauses(clause.Returning{}).Where("score", 2).Delete(&failing).Error, rowseal.ErrIndexMismatch, "IdxDoc", "Score")
		if !isMySQL(kind) {
			fails(t, db.Model(&failing).Clauses(clause.Returning{}).Where("score", 2).Update("ward", "changed").Error, rowseal.ErrIndexMismatch)
			fails(t, db.Model(&failing).Clauses(clause.Returning{}).Where("score", 2).Update("note", "changed").Error, rowseal.ErrIndexMismatch)
			// The value that is written is none that was sought, and what is not given back is not opened.
			for _, r := range []clause.Returning{{}, {Columns: []clause.Column{{Name: "id"}}}} {
				err := db.Transaction(func(tx *gorm.DB) error {
					for column, value := range map[string]any{"score": 9, "ward": "changed"} {
						if column == "ward" && len(r.Columns) == 0 {
							continue
						}
						var rows []IdxDoc
						if err := tx.Model(&rows).Clauses(r).Where("score", []int{2, 9}).Update(column, value).Error; err != nil || len(rows) != 1 || rows[0].ID != docs[0].ID {
							return fmt.Errorf("%s: %v, %+v", column, err, rows)
						}
					}
					return undone
				})
				if !errors.Is(err, undone) {
					t.Error(err)
				}
			}
		}
		var left, changed int64
		ok(t, db.Model(&IdxDoc{}).Count(&left).Error)
		ok(t, db.Model(&IdxDoc{}).Where("ward = ?", "changed").Count(&changed).Error)
		if left != 3 || changed != 0 {
			t.Errorf("%d rows are left, and %d changed", left, changed)
		}
		// What does not open the field has nothing to compare with.
		var ids []uint64
		ok(t, db.Model(&IdxDoc{}).Where("score", 2).Pluck("id", &ids).Error)
		if fmt.Sprint(ids) != fmt.Sprint([]uint64{docs[0].ID}) {
			t.Errorf("rows %v", ids)
		}
	})
}

func drained(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
	}
	return rows.Err()
}
