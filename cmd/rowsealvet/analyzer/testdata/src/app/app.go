package app // want package:"models Consult:consults Device: Doctor:hr.staff Patient:patients"

import (
	"gorm.io/gorm"
	"store"
)

// Purge knows the models through store alone, which does not show them.
func Purge(db *gorm.DB) error {
	store.Touch()
	return db.Exec("UPDATE patients SET name = ?", "x").Error // want `Exec writes Patient, column name, which is sealed, in plaintext; write through the model`
}
