package store

import (
	"context"

	"clinic"
	"gorm.io/gorm"
)

func patientsOf(db *gorm.DB) *gorm.DB { return db.Model(&clinic.Patient{}) }

func logsOf(db *gorm.DB) *gorm.DB { return db.Model(&clinic.Log{}) }

// named is asked of both tables, and refused on one of them.
func byNameOf(db *gorm.DB, n string) *gorm.DB {
	return db.Where("name = ?", n) // want `Where compares Patient, column name`
}

// logged is asked of one that has nothing sealed.
func logged(db *gorm.DB, n string) *gorm.DB { return db.Where("name = ?", n) }

func scope(n string) func(*gorm.DB) *gorm.DB {
	return func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", n) } // want `Where compares Patient, column name`
}

func quiet(n string) func(*gorm.DB) *gorm.DB {
	return func(db *gorm.DB) *gorm.DB { return db.Where("name = ?", n) }
}

func sorted(db *gorm.DB) *gorm.DB {
	return db.Order("name") // want `Order sorts by Patient, column name`
}

func inReason(db *gorm.DB) *gorm.DB {
	return db.Order("reason") // want `Order sorts by Consult, column reason`
}

func inSteps(db *gorm.DB) *gorm.DB {
	q := db.Where("ward = 1")
	q = q.Order("phone")   // want `Order sorts by Patient, column phone`
	return q.Order("name") // want `Order sorts by Patient, column name`
}

func typed(db *gorm.DB) gorm.ChainInterface[clinic.Patient] {
	return gorm.G[clinic.Patient](db).Where("id > 0")
}

func several(db *gorm.DB, n string) *gorm.DB {
	q := db.Model(&clinic.Patient{})
	if n == "" {
		return q
	}
	return q.Where("ward = ?", n)
}

type wards struct {
	db, patients, logs *gorm.DB
}

func newWards(db *gorm.DB) *wards {
	w := &wards{db: db, patients: db.Model(&clinic.Patient{})}
	w.logs = logsOf(db)
	return w
}

func (w *wards) all() *gorm.DB { return w.db.Table("patients") }

func (w *wards) byName(db *gorm.DB) *gorm.DB {
	return db.Where("name = ?", "x") // want `Where compares Patient, column name`
}

func (w *wards) use(n string) {
	var rows []map[string]any
	w.patients.Where("name = ?", n).Find(&rows) // want `Where compares Patient, column name`
	w.logs.Where("name = ?", n).Find(&rows)
	w.db.Where("name = ?", n).Find(&rows)
	w.all().Where("phone = ?", n).Find(&rows) // want `Where compares Patient, column phone`
	w.all().Where("ward = ?", n).Find(&rows)
	w.patients.Session(&gorm.Session{NewDB: true}).Where("name = ?", n).Find(&[]clinic.Log{})
	w.db.Scopes(w.byName).Find(&[]clinic.Patient{})
}

// table is made for several tables, so that its field says nothing.
type table struct{ q *gorm.DB }

func tablesOf(db *gorm.DB, n string) {
	patients, logs := table{q: db.Model(&clinic.Patient{})}, table{q: db.Model(&clinic.Log{})}
	logs.q.Where("name = ?", n).Count(nil)
	patients.q.Where("ward = ?", n).Count(nil)
}

func count(q *gorm.DB, n string) {
	q.Where("name = ?", n).Count(nil) // want `Where compares Patient, column name`
}

func countLogs(q *gorm.DB, n string) { q.Where("name = ?", n).Count(nil) }

// labelled sorts DISTINCT rows of one table and plain ones of another, each of which is harmless.
func labelled(q *gorm.DB) { q.Select("name").Count(nil) }

// paged says nothing of a table; it is whose it is given.
func paged(db *gorm.DB, page int) *gorm.DB {
	if page == 0 {
		return db
	}
	return db.Limit(10)
}

func again(db *gorm.DB, n int) *gorm.DB {
	if n == 0 {
		return db.Limit(1)
	}
	db = again(db, n-1)
	db = db
	return again(db, n-1)
}

func helpers(db *gorm.DB, n string) {
	var rows []map[string]any
	var all []clinic.Patient
	var logs []clinic.Log

	patientsOf(db).Where("name = ?", n).Find(&rows) // want `Where compares Patient, column name`
	patientsOf(db).Where("ward = ?", n).Find(&rows)
	logsOf(db).Where("name = ?", n).Find(&rows)
	q := patientsOf(db)
	q.Order("phone").Find(&rows) // want `Order sorts by Patient, column phone`
	patients := db.Model(&clinic.Patient{})
	same := patients
	same.Order("phone").Find(&rows)                                  // want `Order sorts by Patient, column phone`
	several(db, n).Where("phone = ?", n).Find(&rows)                 // want `Where compares Patient, column phone`
	_, _ = typed(db).Where("name = ?", n).Find(context.Background()) // want `Where compares Patient, column name`

	byNameOf(db, n).Find(&all)
	byNameOf(logsOf(db), n).Find(&rows)
	logged(logsOf(db), n).Find(&rows)
	logged(db, n).Find(&logs)
	db.Scopes(scope(n), sorted).Find(&all)
	db.Scopes(quiet(n)).Find(&logs)
	db.Scopes(inSteps).Find(&all)
	db.Preload("Consults", inReason).Find(&all)

	paged(patientsOf(db), 1).Where("name = ?", n).Find(&rows) // want `Where compares Patient, column name`
	paged(db, 1).Where("name = ?", n).Find(&logs)
	paged(logsOf(db), 1).Where("name = ?", n).Find(&rows)
	again(db, 1).Where("name = ?", n).Find(&all) // want `Where compares Patient, column name`
	again(logsOf(db), 1).Where("name = ?", n).Find(&rows)
	db.Where("patient_id IN (?)", patientsOf(db).Select("id").Where("name = ?", n)).Find(&logs) // want `Where compares Patient, column name`
	db.Where(logged(db, n)).Find(&logs)

	count(patientsOf(db), n)
	countLogs(logsOf(db), n)
	countLogs(db.Model(&clinic.Log{}).Joins("JOIN patients p ON p.id = logs.patient_id").Session(&gorm.Session{NewDB: true}).Model(&clinic.Log{}), n)
	labelled(db.Model(&clinic.Log{}).Distinct())
	labelled(db.Model(&clinic.Patient{}))
}
