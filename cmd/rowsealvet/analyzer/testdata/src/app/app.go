package app // want package:"models Account:accounts Consult:consults Device: Doctor:hr.staff Patient:patients Account.tenant_id Account.region_id"

import (
	"gorm.io/gorm"
	"store"
)

// Purge knows the models through store alone, which does not show them.
func Purge(db *gorm.DB) error {
	store.Touch()
	return db.Exec("UPDATE patients SET name = ?", "x").Error // want `Exec writes Patient, column name, which is sealed, in plaintext, and is refused with rowseal.ErrPlaintext; write through the model`
}

// Patients is told by store what its functions return.
func Patients(db *gorm.DB, n string) {
	var rows []map[string]any
	store.Patients(db).Where("name = ?", n).Find(&rows) // want `Where compares Patient, column name`
	q := store.Patients(db)
	q.Order("phone").Find(&rows)                           // want `Order sorts by Patient, column phone`
	store.New(db).Staff().Where("name = ?", n).Find(&rows) // want `Where compares Doctor, column name`
	store.Patients(db).Where("ward = ?", n).Find(&rows)
	store.Paged(db).Where("name = ?", n).Find(&rows)
	store.Logs(db).Where("name = ?", n).Find(&rows)
	store.Either(db, n).Where("name = ?", n).Find(&rows)
}
