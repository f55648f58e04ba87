package store

import (
	"clinic"
	"gorm.io/gorm"
)

func Patients(db *gorm.DB) *gorm.DB { return db.Model(&clinic.Patient{}).Where("ward = 1") } // want Patients:"about Patient:\"patients\""

func Logs(db *gorm.DB) *gorm.DB { return db.Model(&clinic.Log{}) } // want Logs:"about Log:\"logs\""

func Paged(db *gorm.DB) *gorm.DB { return db.Limit(10) }

func Either(db *gorm.DB, n string) *gorm.DB {
	if n == "" {
		return db.Model(&clinic.Patient{})
	}
	return db
}

type Store struct{ db *gorm.DB }

func New(db *gorm.DB) *Store { return &Store{db} }

func (s *Store) Staff() *gorm.DB { return s.db.Table("hr.staff") } // want Staff:"about :\"hr\".\"staff\""

func pages(db *gorm.DB) {
	Paged(db.Model(&clinic.Patient{})).Find(&[]clinic.Patient{})
}
