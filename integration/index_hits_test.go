package integration

// index_hits_test.go owns what is found by an index whose columns were exchanged: whichever way a hit is read, once it is opened it is held to what was sought.

import (
	"database/sql"
	"fmt"
	"testing"

	"gorm.io/gorm"

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
