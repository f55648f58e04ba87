package store

import (
	"context"
	"fmt"

	"clinic"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

func Touch() {}

type repo struct{ *gorm.DB }

const byName = "name = ?"

func conditions(db *gorm.DB, n string, args []any) {
	var p clinic.Patient
	var all []clinic.Patient
	var log clinic.Log

	db.Where("name = ?", n).First(&p)                              // want `Where compares Patient, column name, which is sealed, and is refused with rowseal.ErrCondition: every ciphertext is different; look rows up by another column, or compare in Go after loading`
	db.Where(byName, n).Find(&all)                                 // want `Where compares Patient, column name`
	db.Where("ward = ?", n).Or("lower(NAME) = ?", n).Find(&all)    // want `Or compares Patient, column name`
	db.Model(&p).Not("birthday > ?", n).Count(nil)                 // want `Not compares Patient, column birthday`
	db.First(&p, "patients.notes = ?", n)                          // want `First compares Patient, column notes`
	db.Delete(&clinic.Patient{}, "home_email = ?", n)              // want `Delete compares Patient, column home_email`
	db.Where("name", n).First(&p)                                  // want `Where compares Patient, column name`
	db.Where("(ward, phone) = (?, ?)", 1, n).First(&p)             // want `Where compares Patient, column phone`
	db.Where("ward = '" + n + "' AND name = '" + n + "'").Find(&p) // want `Where compares Patient, column name`
	db.Where(fmt.Sprintf("%s = ?", "name"), n).Find(&p)            // want `Where compares Patient, column name`
	repo{db}.Where("name = ?", n).Find(&all)                       // want `Where compares Patient, column name`
	db.Table("patients").Where("name = ?", n).Scan(&log)           // want `Where compares Patient, column name`
	db.Table("hr.staff AS s").Where("s.name = ?", n).Scan(&log)    // want `Where compares Doctor, column name`
	db.Where("name = ?", n).First(&clinic.Doctor{})                // want `Where compares Doctor, column name`
	db.Where("serial = ?", n).First(&clinic.Device{})              // want `Where compares Device, column serial`
	db.Where("name = ?", n).Find(&clinic.Shadow{})                 // want `Where compares Patient, column name`

	db.Where("ward = ? AND name IS NULL", n).First(&p)
	db.Where("name", nil).First(&p)
	db.Where("home_city = ?", n).First(&p)
	db.Where("name = ?", n).First(&log)
	db.Where("'name' = ?", n).First(&p)
	db.Where("encrypted_kms_key NOT LIKE ?", "v2:%").First(&p)
	db.Where("7").First(&p)
	db.First(&p, 7)
	db.Where(n, args...).First(&p)
	db.Where("name = ?", n) // of which model?
}

func contexts(db *gorm.DB, n string) {
	var all []clinic.Patient
	var logs []clinic.Log

	q := db.Model(&clinic.Patient{})
	if n != "" {
		q = q.Where("name = ?", n) // want `Where compares Patient, column name`
	}
	q.Find(&all)

	later := db.Where("name = ?", n) // want `Where compares Patient, column name`
	later.Find(&all)

	harmless := db.Where("name = ?", n)
	harmless.Find(&logs)

	tx := db.WithContext(context.Background())
	tx.Where("name = ?", n).Find(&logs)
	tx.Where("name = ?", n).Find(&all) // want `Where compares Patient, column name`

	_ = db.Transaction(func(tx *gorm.DB) error {
		return tx.Where("name = ?", n).Find(&all).Error // want `Where compares Patient, column name`
	})
	db.Scopes(func(tx *gorm.DB) *gorm.DB { return tx.Where("name = ?", n) }).Find(&all)                      // want `Where compares Patient, column name`
	db.Where(db.Where("ward = ?", 1).Or("name = ?", n)).Find(&all)                                           // want `Or compares Patient, column name`
	db.Where("patient_id IN (?)", db.Model(&clinic.Patient{}).Select("id").Where("name = ?", n)).Find(&logs) // want `Where compares Patient, column name`
	db.Preload("Consults", "reason = ?", n).Find(&all)                                                       // want `Preload compares Consult, column reason`
	db.Preload("Consults", func(tx *gorm.DB) *gorm.DB { return tx.Order("reason") }).Find(&all)              // want `Order sorts by Consult, column reason`
	db.Preload("Consults.Patient.Doctor", "name = ?", n).Find(&all)                                          // want `Preload compares Doctor, column name`
	db.Model(&all[0]).Association("Consults").Find(&[]clinic.Consult{}, "reason = ?", n)                     // want `Find compares Consult, column reason`
	db.Joins("Patient", db.Where("name = ?", n)).Find(&[]clinic.Consult{})                                   // want `Where compares Patient, column name`
	db.Joins("Patient").Where(`"Patient"."name" = ?`, n).Find(&[]clinic.Consult{})                           // want `Where compares Patient, column name`
	db.Joins("Patient.Doctor").Where("Patient__Doctor.name = ?", n).Find(&[]clinic.Consult{})                // want `Where compares Doctor, column name`
	db.Joins("JOIN patients p ON p.id = logs.patient_id AND p.name = logs.name").Find(&logs)                 // want `Joins compares Patient, column name`
	db.Joins("JOIN patients p ON p.id = logs.patient_id").Where("p.name = ?", n).Find(&logs)                 // want `Where compares Patient, column name`
	db.Where("EXISTS (SELECT 1 FROM patients p WHERE p.id = logs.patient_id AND p.name = ?)", n).Find(&logs) // want `Where compares Patient, column name`
	db.Where("patients.name = ?", n)                                                                         // want `Where compares Patient, column name`
	_, _ = gorm.G[clinic.Patient](db).Where("name = ?", n).Find(context.Background())                        // want `Where compares Patient, column name`
	_ = gorm.G[clinic.Patient](db).Exec(context.Background(), "DELETE FROM patients WHERE name = ?", n)      // want `Exec compares Patient, column name`
	db.Joins("JOIN patients p ON p.id = logs.patient_id").Where("logs.name = ?", n).Find(&logs)
	db.Preload("Consults").Joins("Doctor").Find(&all)
}

func clauses(db *gorm.DB, n string) {
	var p clinic.Patient
	var all []clinic.Patient
	var rows []map[string]any

	db.Order("name DESC").Find(&all)                                                                // want `Order sorts by Patient, column name, which is sealed, and is refused with rowseal.ErrCondition: ciphertext has no order; sort in Go after loading`
	db.Order("ward, birthday").Find(&all)                                                           // want `Order sorts by Patient, column birthday`
	db.Order(clause.OrderByColumn{Column: clause.Column{Name: "name"}}).Find(&all)                  // want `Order sorts by Patient, column name`
	db.Model(&p).Select("count(*)").Group("name").Find(&rows)                                       // want `Group groups by Patient, column name, which is sealed, and is refused with rowseal.ErrCondition: every ciphertext is different; group in Go`
	db.Model(&p).Select("ward").Group("ward").Having("max(name) > ?", n).Find(&rows)                // want `Having compares Patient, column name`
	db.Select("id", "name || 'x' AS y").Find(&all)                                                  // want `Select computes with Patient, column name, which is sealed, and is refused with rowseal.ErrCondition: the database has ciphertext; compute in Go`
	db.Select("id, name AS ward").Find(&all)                                                        // want `Select reads Patient, column name, which is sealed, under another name`
	db.Distinct("name").Find(&all)                                                                  // want `Distinct compares Patient, column name`
	db.Model(&p).Select("name").Distinct().Count(nil)                                               // want `Select compares Patient, column name`
	db.Table("patients").Pluck("lower(name)", &rows)                                                // want `Pluck computes with Patient, column name`
	db.Table("(SELECT id FROM patients WHERE name = ?) AS x", n).Find(&rows)                        // want `Table compares Patient, column name`
	db.Where(clause.Eq{Column: "name", Value: n}).Find(&all)                                        // want `Where compares Patient, column name`
	db.Where(clause.Like{Column: clause.Column{Table: clause.CurrentTable, Name: "name"}}).Find(&p) // want `Where compares Patient, column name`
	db.Where("id > ? AND ?", 0, gorm.Expr("name = ?", n)).Find(&all)                                // want `Where compares Patient, column name`
	db.Model(&p).Update("ward", gorm.Expr("CASE WHEN name = ? THEN 1 END", n))                      // want `Update compares Patient, column name`

	db.Order("ward").Select("id", "name").Distinct("ward").Find(&all) // want `Select compares Patient, column name`
	db.Select("id", "name", "Notes").Order("ward, name IS NULL").Find(&all)
	db.Model(&p).Select("ward").Rows()
	db.Model(&p).Select("ward, count(name) AS n").Group("ward").Having("count(*) > 1").Scan(&rows)
	db.Where(clause.Eq{Column: "name", Value: nil}).Find(&all)
	db.Model(&p).Pluck("ward", &rows)
	db.Select("Name").Create(&p)
	db.Model(&p).Find(&all)

	// What columns give under their own names is opened, whatever they are read into.
	db.Model(&p).Select("Name").Scan(&rows)
	db.Model(&p).Pluck("Name", &rows)
	db.Model(&p).Find(&rows)
	db.Model(&p).Find(&[]clinic.Shadow{})
	db.Model(&p).Rows()
	db.Model(&p).Raw("SELECT * FROM patients").Scan(&rows)
	db.Table("patients").Select("name").Scan(&rows)
	db.Model(&clinic.Log{}).Select("logs.id, p.name").Joins("JOIN patients p ON p.id = logs.patient_id").Scan(&rows)
	_ = gorm.G[clinic.Patient](db).Select("name").Scan(context.Background(), &rows)

	// Under another name, but not into the model's own struct.
	db.Table("patients").Select("id", "name AS n").Find(&rows)
	db.Table("patients").Pluck("name AS n", &rows)
	db.Raw("WITH x(a, b) AS (SELECT * FROM patients) SELECT a FROM x").Scan(&rows) // want `Raw gives columns of Patient other names, behind which the sealed ones cannot be told, and is refused with rowseal.ErrUnsupported; keep their own`
	db.Raw("SELECT name AS n FROM patients").Scan(&rows)
	db.Model(&p).Select("id, name AS ward").Find(&all)                                  // want `Select reads Patient, column name`
	_, _ = gorm.G[clinic.Patient](db).Select("name AS ward").Find(context.Background()) // want `Select reads Patient, column name`
	db.Model(&p).Select("id, name AS label").Scan(&rows)
	db.Model(&p).Raw("SELECT name AS label FROM patients").Scan(&rows)
	db.Where("id IN (?)", db.Table("patients").Select("name AS n")).Find(&rows)
	later := db.Table("patients").Select("name AS n")
	db.Where("ward IN (?)", later).Find(&rows)
	db.Table("(?) AS x", gorm.Expr("SELECT id, name FROM patients")).Select("id").Find(&rows)
	db.Table("(?) AS x", gorm.Expr("SELECT id FROM patients WHERE name = ?", n)).Select("id").Find(&rows) // want `Table compares Patient, column name`
	db.Select(gorm.Expr("id, name")).Find(&all)
	db.Select(gorm.Expr("lower(name) AS ward")).Find(&all) // want `Select computes with Patient, column name`
}

func raw(db *gorm.DB, n, table string) {
	var p clinic.Patient
	var rows []map[string]any

	db.Exec("UPDATE patients SET name = ? WHERE id = 1", n)                     // want `Exec writes Patient, column name, which is sealed, in plaintext, and is refused with rowseal.ErrPlaintext; write through the model, as in db.Model\(&row\).Update\("name", value\)`
	db.Exec("INSERT INTO patients (id, ward, phone) VALUES (?, ?, ?)", 1, 2, n) // want `Exec writes Patient, column phone`
	db.Exec("INSERT INTO patients VALUES (?)", n)                               // want `Exec inserts into patients without a column list, and may fill its sealed columns with plaintext, which is refused with rowseal.ErrPlaintext`
	db.Exec("UPDATE patients SET encrypted_kms_key_phone = ''")                 // want `Exec writes Patient, column encrypted_kms_key_phone, a key column, which the plugin alone writes, and is refused with rowseal.ErrKeyColumn; rowseal.Rotate moves a row`
	db.Exec("UPDATE patients SET id = 2 WHERE id = 1")                          // want `Exec writes Patient, column id, to which the rows' keys are bound`
	db.Exec("ALTER TABLE patients ALTER COLUMN name SET DEFAULT 'x'")           // want `Exec writes Patient, column name`
	db.Exec("UPDATE hr.staff SET name = ?", n)                                  // want `Exec writes Doctor, column name`
	db.Raw("SELECT id FROM patients WHERE name = ?", n).Scan(&rows)             // want `Raw compares Patient, column name`
	db.Raw("SELECT * FROM patients").Scan(&rows)
	db.Raw(fmt.Sprintf("SELECT id FROM patients WHERE %s = 1 ORDER BY name", n)).Rows() // want `Raw compares Patient, column name`

	query := "SELECT id FROM patients"
	query += " WHERE ward = 1"
	db.Raw(query).Scan(&rows)
	once := "SELECT id FROM patients WHERE name = ''"
	db.Raw(once).Scan(&rows) // want `Raw compares Patient, column name`

	db.Raw("SELECT * FROM patients").Find(&p)
	db.Exec("UPDATE patients SET ward = ?", n)
	db.Exec("INSERT INTO patients (id, ward) VALUES (1, 2)")
	db.Exec("UPDATE logs SET name = ?", n)
	db.Exec("UPDATE x_devices SET serial = ?", n)
	db.Exec(fmt.Sprintf("UPDATE patients%s SET name = ?", table), n)
	db.Exec("UPDATE "+table+" SET name = ?", n)
}
