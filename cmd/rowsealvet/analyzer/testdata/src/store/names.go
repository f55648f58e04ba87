package store

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
	db.Where(map[string]any{"TenantID": 1}).First(p)                 // want `Where: TenantID is a field of Patient, and columns are meant here; write "tenant_id"`
	db.Where(map[string]any{"name": nil, "ward": 1, "Ward": 2}).First(p)
	db.Where(map[string]any{"logs.name": n}).Joins("JOIN logs ON logs.patient_id = patients.id").First(p)
	db.Where(map[string]any{"name": n}).First(&clinic.Log{})
	db.Where(&clinic.Patient{Ward: "1"}).First(p)
	db.Where("ward = @name", map[string]any{"name": n}).First(p)

	// Updates.
	db.Model(p).Updates(map[string]any{"emial": n})                         // want `Updates: Patient has no column or field "emial"; did you mean "Email"\?`
	db.Model(p).Updates(map[string]any{"zip_code": n})                      // want `Updates: Patient has no column or field "zip_code"; write the name of a column`
	db.Model(p).Updates(map[string]any{"name": n, "brithday": n})           // want `Updates: Patient has no column or field "brithday"; did you mean "birthday"\?`
	db.Model(p).Update("nmae", n)                                           // want `Update: Patient has no column or field "nmae"; did you mean "name"\?`
	db.Model(p).Updates(map[string]any{"patients.name": n})                 // want `Updates writes Patient, column name, as "patients.name", which is not its name, and is refused with rowseal.ErrUnsupported; write "name"`
	db.Model(p).Update(`"name"`, n)                                         // want `Update writes Patient, column name, as .*, which is not its name`
	db.Model(p).Update("name", gorm.Expr("upper(?)", n))                    // want `Update gives Patient, column name, which is sealed, an SQL expression, which cannot be sealed, and is refused with rowseal.ErrUnsupported; compute the value in Go`
	db.Model(p).Update("encrypted_kms_key", n)                              // want `Update writes Patient, column encrypted_kms_key, a key column`
	db.Model(p).UpdateColumn("ID", 2)                                       // want `UpdateColumn writes Patient, column id, to which the rows' keys are bound, and is refused with rowseal.ErrIdentity; create the row anew`
	db.Table("patients").Where("id = 1").Updates(map[string]any{"name": n}) // want `Updates writes Patient, column name, which is sealed, in plaintext`
	db.Table("patients AS p").Where("id = 1").Update("phone", n)            // want `Update writes Patient, column phone`

	values := map[string]any{"ward": 1}
	values["nane"] = n // want `Updates: Patient has no column or field "nane"; did you mean "name"\?`
	db.Model(p).Updates(values)

	db.Model(p).Updates(map[string]any{"Name": n, "birthday": n, "BornOn": n, "ward": 1, "Email": n, "Doctor": nil})
	db.Model(&clinic.Patient{ID: 1}).Update("name", n)
	db.Model(&clinic.Patient{}).Where("ward = 1").Updates(map[string]any{"ward": 2, "phone": nil})
	db.Model(&clinic.Log{}).Where("id = 1").Updates(map[string]any{"name": n, "nmae": n})
	db.Updates(&clinic.Patient{ID: 1, Name: n})
	db.Model(p).Updates(clinic.Patient{Name: n})
	db.Model(p).Updates(map[string]any{"NAME": n, "HomeEmail": n, "TenantId": 1})
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Updates(ctx, clinic.Patient{ID: 1, Name: n})

	// Many rows are each sealed under their own key.
	db.Model(&clinic.Patient{}).Where("ward = ?", 1).Update("name", n)
	db.Model(new(clinic.Patient)).Where("ward = ?", 1).UpdateColumns(named{"BornOn": n})
	db.Model(&all).Update("home_email", n)
	db.Where("ward = 1").Updates(&clinic.Patient{Ward: "2", Name: n})
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Update(ctx, "name", n)
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Updates(ctx, clinic.Patient{Name: n})

	// Creates.
	db.Model(&clinic.Patient{}).Create(map[string]any{"name": gorm.Expr("upper(?)", n)})       // want `Create gives Patient, column name, which is sealed, an SQL expression`
	db.Model(&clinic.Patient{}).Create([]map[string]any{{"ward": n, "encrypted_kms_key": n}})  // want `Create writes Patient, column encrypted_kms_key, a key column`
	db.Model(&clinic.Patient{}).Create(map[string]any{"patients.name": n})                     // want `Create writes Patient, column name, as "patients.name", which is not its name, and is refused with rowseal.ErrPlaintext; write "name"`
	db.Model(&clinic.Patient{}).Create(map[string]any{"nmae": n})                              // want `Create: Patient has no column or field "nmae"; did you mean "name"\?`
	db.Model(&clinic.Account{}).Create(map[string]any{"tenant_id": gorm.Expr("1"), "name": n}) // want `Create gives Account, column tenant_id, which the rows' keys are bound to by their context, an SQL expression`
	db.Model(&clinic.Patient{}).Create(map[string]any{"ID": 1, "NAME": n, "BornOn": n, "phone": nil, "ward": gorm.Expr("upper(?)", n)})
	db.Model(&clinic.Account{}).Create([]map[string]any{{"tenant_id": 1, "name": n}})
	db.Table("patients").Create(map[string]any{"id": 1, "name": n})                                        // want `Create writes Patient, column name`
	db.Clauses(clause.OnConflict{DoUpdates: clause.Assignments(named{"name": n})}).Create(p)               // want `Clauses writes Patient, column name`
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"ward", "name"})}).Create(p) // want `Clauses would put Patient, column name, which is sealed, into a row that has another key, and is refused with rowseal.ErrUnsupported; find that row`
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"ward"})}).Create(p)
	db.Clauses(clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"phone", "encrypted_kms_key_phone"})}).Create(p)
	db.Model(&clinic.Log{}).Create(map[string]any{"name": n})
	db.Create(&clinic.Patient{Name: n})
}
