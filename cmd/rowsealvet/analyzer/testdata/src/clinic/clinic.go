package clinic // want package:"models Account:accounts Consult:consults Device: Doctor:hr.staff Patient:patients"

import (
	"time"

	"github.com/rowseal/rowseal"
	"gorm.io/gorm"
)

type Contact struct {
	Email string `gorm:"serializer:rowseal"`
	City  string
}

type Patient struct {
	ID        uint64
	Ward      string
	TenantID  uint64
	Name      string                 `gorm:"serializer:rowseal"`
	BornOn    time.Time              `gorm:"column:birthday;serializer:rowseal"`
	Phone     *string                `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Notes     rowseal.Secret[string] // no tag
	Home      Contact                `gorm:"embedded;embeddedPrefix:home_"`
	DoctorID  uint64
	Doctor    *Doctor
	Consults  []Consult
	DeletedAt time.Time
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

type Doctor struct {
	gorm.Model
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

const staff = "staff"

func (*Doctor) TableName() string { return "hr." + staff } // want TableName:"table hr.staff"

type Consult struct {
	ID        uint64
	PatientID uint64
	Patient   *Patient
	Reason    string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Device has a table that only the running program knows.
type Device struct {
	ID     uint64
	Serial string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (d Device) TableName() string { return prefix() + "devices" }

func prefix() string { return "x_" }

// Account is bound to its tenant, where it is registered.
type Account struct {
	ID       uint64
	TenantID uint64
	RegionID uint64
	Ward     string
	Name     string `gorm:"serializer:rowseal"`
	Mail     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Log has no sealed field, and columns of the same names.
type Log struct {
	ID        uint64
	PatientID uint64
	Name      string
}

// Shadow maps the patients' table without the tags.
type Shadow struct {
	ID   uint64
	Name string
}

func (Shadow) TableName() string { return "patients" } // want TableName:"table patients"

// Partial maps it too, with columns that may be NULL or are only read.
type Partial struct {
	ID    uint64
	Ward  string
	Phone *string
	Name  string `gorm:"->"`
}

func (Partial) TableName() string { return "patients" } // want TableName:"table patients"
