// Package store is vetted by TestVettool. It sees the models through facts.
package store

import (
	"context"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
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

	ctx := context.Background()
	_, _ = gorm.G[models.Visit](db).Joins(clause.LeftJoin.Association("Patient"), func(db gorm.JoinBuilder, join, _ clause.Table) error {
		db.Where("?.name = ?", join, n) // finding
		db.Where("?.ward = ?", join, n)
		return nil
	}).Preload("Patient", func(db gorm.PreloadBuilder) error {
		db.Order("name") // finding
		return nil
	}).Find(ctx)
	_, _ = gorm.G[models.Patient](db).Where("id = ?", 1).Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: gorm.Expr("?", n)}).Update(ctx) // finding
	_, _ = gorm.G[models.Patient](db).Where("id = ?", 1).Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: n}).Update(ctx)
	db.Clauses(clause.OrderBy{Columns: []clause.OrderByColumn{{Column: clause.Column{Name: "name"}}}}).Find(&p) // finding
	db.Table("clinic_patients").Create(&Draft{Name: n})                                                         // finding
	db.Model(&models.Patient{ID: 1}).Update("ward", n)                                                          // finding
	db.Model(&models.Patient{}).Where("id > 0").Update("name", n)
	patients(db).Where("name = ?", n).Find(&[]map[string]any{}) // finding
	patients(db).Where("ward = ?", n).Find(&[]map[string]any{})
}

func patients(db *gorm.DB) *gorm.DB { return db.Model(&models.Patient{}) }

var config = rowseal.Config{Models: []any{rowseal.Model{Value: &models.Patient{}, Context: rowseal.Columns("ward")}}}
