package store // want package:"models Consult:consults Device: Doctor:hr.staff Patient:patients"

import (
	"context"

	"clinic"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

type named = map[string]any

func keys(db *gorm.DB, p *clinic.Patient, n string) {
	var all []clinic.Patient
	ctx := context.Background()

	// Conditions.
	db.Where(map[string]any{"ward": 1, "name": n}).First(p)          // want `Where compares Patient, column name`
	db.Where(map[string]any{"patients.name": n}).First(p)            // want `Where compares Patient, column name`
	db.Where(named{"Name": n}).First(p)                              // want `Where compares Patient, column name`
	db.Not(map[string][]string{"phone": {n}}).Find(&all)             // want `Not compares Patient, column phone`
	db.Where(&clinic.Patient{Ward: "1", Name: n}).First(p)           // want `Where compares Patient, column name`
	db.FirstOrCreate(p, clinic.Patient{Phone: &n})                   // want `FirstOrCreate compares Patient, column phone`
	db.Table("patients").Where(map[string]any{"name": n}).Find(&all) // want `Where compares Patient, column name`
	db.Where(map[string]any{"wrad": 1}).First(p)                     // want `Where: Patient has no column or field "wrad"; did you mean "ward"\?`
	db.Where(map[string]any{"TenantID": 1}).First(p)                 // want `Where: TenantID is a field of Patient, and conditions take columns; write "tenant_id"`
	db.Where(map[string]any{"name": nil, "ward": 1, "Ward": 2}).First(p)
	db.Where(map[string]any{"logs.name": n}).Joins("JOIN logs ON logs.patient_id = patients.id").First(p)
	db.Where(map[string]any{"name": n}).First(&clinic.Log{})
	db.Where(&clinic.Patient{Ward: "1"}).First(p)
	db.Where("ward = @name", map[string]any{"name": n}).First(p)

	// Updates.
	db.Model(p).Updates(map[string]any{"emial": n})                                         // want `Updates: Patient has no column or field "emial"; did you mean "Email"\?`
	db.Model(p).Updates(map[string]any{"zip_code": n})                                      // want `Updates: Patient has no column or field "zip_code"; write the name of a column`
	db.Model(p).Updates(map[string]any{"name": n, "brithday": n})                           // want `Updates: Patient has no column or field "brithday"; did you mean "birthday"\?`
	db.Model(p).Update("nmae", n)                                                           // want `Update: Patient has no column or field "nmae"; did you mean "name"\?`
	db.Model(p).Updates(map[string]any{"patients.name": n})                                 // want `Updates writes Patient, column name, which is sealed, under another name, so it is not sealed; write "name"`
	db.Model(p).Update(`"name"`, n)                                                         // want `Update writes Patient, column name, which is sealed, under another name`
	db.Model(p).Update("name", gorm.Expr("upper(?)", n))                                    // want `Update gives Patient, column name, which is sealed, an SQL expression, which cannot be sealed; compute the value in Go`
	db.Model(p).Update("encrypted_kms_key", n)                                              // want `Update writes Patient, column encrypted_kms_key, a key column`
	db.Model(p).UpdateColumn("ID", 2)                                                       // want `UpdateColumn writes Patient, column id, to which the rows' keys are bound`
	db.Model(&clinic.Patient{}).Where("ward = ?", 1).Update("name", n)                      // want `Update writes Patient, column name, which is sealed, in many rows at once, each of which has its own key; load the rows and save each, or name one, as in db.Model\(&Patient{ID: id}\)`
	db.Model(new(clinic.Patient)).Where("ward = ?", 1).UpdateColumns(named{"BornOn": n})    // want `UpdateColumns writes Patient, column birthday, which is sealed, in many rows`
	db.Model(&all).Update("home_email", n)                                                  // want `Update writes Patient, column home_email, which is sealed, in many rows`
	db.Where("ward = 1").Updates(&clinic.Patient{Ward: "2", Name: n})                       // want `Updates writes Patient, column name, which is sealed, in many rows`
	db.Table("patients").Where("id = 1").Updates(map[string]any{"name": n})                 // want `Updates writes Patient, column name, which is sealed, in plaintext`
	db.Table("patients AS p").Where("id = 1").Update("phone", n)                            // want `Update writes Patient, column phone`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Update(ctx, "name", n)                // want `Update writes Patient, column name, which is sealed, in many rows`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Updates(ctx, clinic.Patient{Name: n}) // want `Updates writes Patient, column name, which is sealed, in many rows`

	values := map[string]any{"ward": 1}
	values["nane"] = n // want `Updates: Patient has no column or field "nane"; did you mean "name"\?`
	db.Model(p).Updates(values)

	db.Model(p).Updates(map[string]any{"Name": n, "birthday": n, "BornOn": n, "ward": 1, "Email": n, "Doctor": nil})
	db.Model(&clinic.Patient{ID: 1}).Update("name", n)
	db.Model(&clinic.Patient{}).Where("ward = 1").Updates(map[string]any{"ward": 2, "phone": nil})
	db.Model(&clinic.Log{}).Where("id = 1").Updates(map[string]any{"name": n, "nmae": n})
	db.Updates(&clinic.Patient{ID: 1, Name: n})
	db.Model(p).Updates(clinic.Patient{Name: n})
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Updates(ctx, clinic.Patient{ID: 1, Name: n})

	// Creates.
	db.Model(&clinic.Patient{}).Create(map[string]any{"name": n})                                          // want `Create of Patient from a map, which has no key column for its sealed fields; create rows from structs of Patient`
	db.Model(&clinic.Patient{}).Create([]map[string]any{{"ward": n}})                                      // want `Create of Patient from a map`
	db.Table("patients").Create(map[string]any{"id": 1, "name": n})                                        // want `Create writes Patient, column name`
	db.Clauses(clause.OnConflict{DoUpdates: clause.Assignments(named{"name": n})}).Create(p)               // want `Clauses writes Patient, column name`
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"ward", "name"})}).Create(p) // want `Clauses would put Patient, column name, which is sealed, into a row that has another key`
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"ward"})}).Create(p)
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"phone", "encrypted_kms_key_phone"})}).Create(p)
	db.Model(&clinic.Log{}).Create(map[string]any{"name": n})
	db.Create(&clinic.Patient{Name: n})
}
