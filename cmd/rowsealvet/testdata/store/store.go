// Package store is vetted by TestVettool. It sees the models through facts.
package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/cmd/rowsealvet/testdata/models"
)

type Draft struct {
	ID   uint64
	Name string `gorm:"serialiser:rowseal"` // finding
}

func Use(db *gorm.DB, n string) {
	var p models.Patient
	db.Where("ward = ?", n).First(&p)
	db.Where("name = ?", n).First(&p)                  // finding
	db.Exec("UPDATE clinic_patients SET notes = ?", n) // finding
	db.Exec("UPDATE patients SET notes = ?", n)
	db.Model(&p).Updates(map[string]any{"ward": n, "nmae": n})                        // finding
	db.Order(clause.OrderByColumn{Column: clause.Column{Name: "name"}}).Find(&p)      // finding
	_, _ = gorm.G[models.Patient](db).Where("name = ?", n).Find(context.Background()) // finding
	_, _ = gorm.G[models.Patient](db).Where("ward = ?", n).Order("ward").Find(context.Background())
}
