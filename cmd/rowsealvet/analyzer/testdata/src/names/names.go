package names // want package:"models Patient:t_patient"

import (
	"github.com/rowseal/rowseal"
	"gorm.io/gorm"
)

// Patient is checked with -tableprefix=t_ -singulartable.
type Patient struct {
	ID   uint64
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func raw(db *gorm.DB, n string) {
	db.Exec("UPDATE t_patient SET name = ?", n) // want `Exec writes Patient, column name`
	db.Exec("UPDATE patients SET name = ?", n)
}
