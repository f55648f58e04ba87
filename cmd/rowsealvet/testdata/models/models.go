// Package models is vetted by TestVettool.
package models

import "github.com/rowseal/rowseal"

type Patient struct {
	ID    uint64
	Ward  string
	Name  string `gorm:"serializer:rowseal"`
	Notes rowseal.Secret[string]
	rowseal.RowKey
}

func (Patient) TableName() string { return "clinic_patients" }

type Visit struct {
	ID        uint64
	PatientID uint64
	Patient   *Patient
}
