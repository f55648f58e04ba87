package store // want package:"models Account:accounts Consult:consults Device: Doctor:hr.staff Patient:patients Account.tenant_id Account.region_id"

import (
	"context"

	"clinic"
	"generated"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

func joinBuilders(db *gorm.DB, n string) {
	ctx := context.Background()
	consults, patients := gorm.G[clinic.Consult](db), gorm.G[clinic.Patient](db)

	_, _ = gorm.G[clinic.Consult](db).Joins(clause.JoinTarget{Association: "Patient"}, func(db gorm.JoinBuilder, join, cur clause.Table) error {
		db.Where("name = ?", n)                                                              // want `Where compares Patient, column name`
		db.Where("ward = ?", n).Or("Patient.phone = ?", n)                                   // want `Or compares Patient, column phone`
		db.Not(map[string]any{"name": n, "ward": n})                                         // want `Not compares Patient, column name`
		db.Where("?.name = ?", join, n)                                                      // want `Where compares Patient, column name`
		db.Where("?.reason = ?", cur, n)                                                     // want `Where compares Consult, column reason`
		db.Where(clause.Eq{Column: clause.Column{Table: "Patient", Name: "name"}, Value: n}) // want `Where compares Patient, column name`
		db.Select("id", "name").Where("?.id = ?.patient_id AND ward = ?", join, cur, n)
		db.Where(map[string]any{"name": nil})
		return nil
	}).Find(ctx)
	_, _ = consults.Joins(clause.Has("Patient.Doctor"), func(db gorm.JoinBuilder, join, _ clause.Table) error {
		db.Where("name = ?", n) // want `Where compares Doctor, column name`
		return nil
	}).Find(ctx)
	_, _ = consults.Joins(clause.LeftJoin.Association("Patient").As("p"), func(db gorm.JoinBuilder, join, _ clause.Table) error {
		db.Where("p.ward = ?", n)
		return nil
	}).Where("p.name = ?", n).Find(ctx) // want `Where compares Patient, column name`
	_, _ = consults.Joins(clause.LeftJoin.AssociationFrom("Patient", gorm.G[clinic.Patient](db).Where("name = ?", n)).As("x"), // want `Where compares Patient, column name`
		func(db gorm.JoinBuilder, join, _ clause.Table) error {
			db.Where("?.id = consults.patient_id", join)
			return nil
		}).Find(ctx)
	_, _ = gorm.G[clinic.Log](db).Joins(clause.LeftJoin.AssociationFrom("Patient", patients.Select("id")).As("x"), nil).Where("name = ?", n).Find(ctx)
	_, _ = consults.Joins(clause.LeftJoin.Association("Patient"), nil).Where("ward = ?", n).Find(ctx)

	_ = gorm.G[clinic.Patient](db, clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.Assignments(named{"name": n})}).Create(ctx, nil) // want `Clauses writes Patient, column name`
	_ = gorm.G[clinic.Patient](db, clause.OnConflict{UpdateAll: true}).Create(ctx, nil)

	_, _ = patients.Preload("Consults", func(db gorm.PreloadBuilder) error {
		db.Where("reason = ?", n) // want `Where compares Consult, column reason`
		db.Order("reason")        // want `Order sorts by Consult, column reason`
		db.Where("patient_id > ?", 1).Order("id")
		return nil
	}).Find(ctx)
}

func sets(db *gorm.DB, n string, p *clinic.Patient) {
	ctx := context.Background()
	name := clause.Column{Name: "name"}

	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: name, Value: gorm.Expr("upper(?)", n)}).Update(ctx)                                             // want `Set gives Patient, column name, which is sealed, an SQL expression`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "Name"}, Value: n}).Update(ctx)                                             // want `Set writes Patient, column name, as "Name", which is not its name, and is refused with rowseal.ErrUnsupported; write "name"`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "BornOn"}, Value: n}).Update(ctx)                                           // want `Set: BornOn is a field of Patient, and columns are meant here; write "birthday"`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "id"}, Value: 2}).Update(ctx)                                               // want `Set writes Patient, column id, to which the rows' keys are bound`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Set{{Column: clause.Column{Name: "encrypted_kms_key"}, Value: n}}).Update(ctx)                                     // want `Set writes Patient, column encrypted_kms_key, a key column`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "ward"}, Value: gorm.Expr("CASE WHEN name = ? THEN 1 END", n)}).Update(ctx) // want `Set compares Patient, column name`
	_ = gorm.G[clinic.Patient](db).Set(clause.Assignment{Column: name, Value: gorm.Expr("''")}).Create(ctx)                                                                         // want `Set gives Patient, column name, which is sealed, an SQL expression`
	_ = gorm.G[clinic.Account](db).Set(clause.Assignment{Column: name, Value: n}, clause.Set{{Column: clause.Column{Name: "id"}, Value: 1}, {Column: clause.Column{Name: "tenant_id"}, Value: 1}}).Create(ctx)
	_, _ = gorm.G[clinic.Patient](db).Set(clause.Association{Association: "Consults", Conditions: []clause.Expression{clause.Eq{Column: "reason", Value: n}}}).Update(ctx)                    // want `Set compares Consult, column reason`
	_, _ = gorm.G[clinic.Patient](db).Set(clause.Association{Association: "Consults", Set: []clause.Assignment{{Column: clause.Column{Name: "reason"}, Value: gorm.Expr("''")}}}).Update(ctx) // want `Set gives Consult, column reason, which is sealed, an SQL expression`
	db.Model(p).Clauses(clause.Set{{Column: name, Value: clause.Expr{SQL: "upper(ward)"}}}).Updates(named{})                                                                                  // want `Clauses gives Patient, column name, which is sealed, an SQL expression`
	db.Model(p).Clauses(clause.Set{{Column: clause.Column{Name: "NAME"}, Value: n}}).Updates(named{})                                                                                         // want `Clauses writes Patient, column name, as "NAME"`
	db.Table("patients").Clauses(clause.Set{{Column: name, Value: n}}).Updates(named{})                                                                                                       // want `Clauses writes Patient, column name, which is sealed, in plaintext`

	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(clause.Assignment{Column: name, Value: n}, clause.Assignment{Column: clause.Column{Name: "ward"}, Value: gorm.Expr("upper(ward)")}).Update(ctx)
	_ = gorm.G[clinic.Log](db).Set(clause.Assignment{Column: name, Value: gorm.Expr("upper(?)", n)}).Create(ctx)
	_, _ = gorm.G[clinic.Patient](db).Set(clause.Association{Association: "Consults", Conditions: []clause.Expression{clause.Eq{Column: "id", Value: 1}}}).Update(ctx)
	db.Model(p).Clauses(clause.Set{{Column: name, Value: n}, {Column: clause.Column{Name: "phone"}, Value: nil}}).Updates(named{})
	db.Set("name", gorm.Expr("name = 1")).First(&clinic.Log{})
}

func clauseLiterals(db *gorm.DB, n string, p *clinic.Patient) {
	var all []clinic.Patient
	var logs []clinic.Log
	byID := []clause.Column{{Name: "id"}}

	db.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: n}}}).Find(&all)                                                            // want `Clauses compares Patient, column name`
	db.Clauses(clause.Select{Expression: clause.Expr{SQL: "lower(name) AS ward"}}).Find(&all)                                                                       // want `Select computes with Patient, column name`
	db.Clauses(clause.Eq{Column: "phone", Value: n}).Find(&all)                                                                                                     // want `Clauses compares Patient, column phone`
	db.Clauses(clause.Not(clause.And(clause.IN{Column: clause.Column{Name: "name"}, Values: []any{n}}))).Find(&all)                                                 // want `Clauses compares Patient, column name`
	db.Clauses(clause.GroupBy{Columns: []clause.Column{{Name: "ward"}, {Name: "name"}}}).Find(&all)                                                                 // want `Clauses groups by Patient, column name`
	db.Clauses(clause.GroupBy{Columns: []clause.Column{{Name: "ward"}}, Having: []clause.Expression{clause.Expr{SQL: "max(name) > ?", Vars: []any{n}}}}).Find(&all) // want `Clauses compares Patient, column name`
	db.Clauses(clause.OrderBy{Columns: []clause.OrderByColumn{{Column: clause.Column{Name: "birthday"}, Desc: true}}}).Find(&all)                                   // want `Clauses sorts by Patient, column birthday`
	db.Clauses(clause.OrderBy{Expression: gorm.Expr("CASE WHEN name = ? THEN 0 END", n)}).Find(&all)                                                                // want `Clauses compares Patient, column name`
	db.Where("? = ?", clause.Column{Name: "name"}, n).Find(&all)                                                                                                    // want `Where compares Patient, column name`
	db.Exec("UPDATE ? SET ? = ?", clause.Table{Name: "patients"}, clause.Column{Name: "name"}, n)                                                                   // want `Exec writes Patient, column name`
	on := clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: "x", Name: "name"}, Value: n}}}                                            // want `Clauses compares Patient, column name`
	db.Clauses(clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "patients", Alias: "x"}, ON: on}}}).Find(&logs)
	db.Model(&clinic.Log{}).Clauses(clause.From{Tables: []clause.Table{{Name: "patients"}}}).Where("phone = ?", n).Find(&logs)            // want `Where compares Patient, column phone`
	db.Clauses(clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "patients", Alias: "x"}}}}).Where("x.name = ?", n).Find(&logs) // want `Where compares Patient, column name`

	db.Clauses(clause.Returning{}).Create(&all)                                                                                            // want `Clauses returns all columns of Patient from a create of several rows, which is refused with rowseal.ErrUnsupported; leave sealed and key columns out of RETURNING, or create one row`
	db.Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "phone"}}}).CreateInBatches(all, 10)                         // want `Clauses returns column phone of Patient from a create of several rows`
	db.Model(p).Clauses(clause.Returning{Columns: []clause.Column{{Name: "CASE WHEN name = '' THEN 1 END", Raw: true}}}).Update("ward", n) // want `Clauses computes with Patient, column name`

	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"ward"}), Where: clause.Where{Exprs: []clause.Expression{gorm.Expr("patients.name = ?", n)}}}).Create(p)                                           // want `Clauses compares Patient, column name`
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"ward"}), Where: clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: "excluded", Name: "name"}, Value: n}}}}).Create(p) // want `Clauses compares Patient, column name`
	db.Clauses(clause.OnConflict{Columns: byID, DoNothing: true, TargetWhere: clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: n}}}}).Create(p)                                                                         // want `Clauses compares Patient, column name`
	db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoNothing: true}).Create(p)                                                                                                                                          // want `Clauses compares Patient, column name`
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Set{{Column: clause.Column{Name: "name"}, Value: n}}}).Create(p)                                                                                                              // want `Clauses writes Patient, column name, which is sealed, in plaintext`
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(named{"ward": gorm.Expr("excluded.name")})}).Create(p)                                                                                                            // want `Clauses compares Patient, column name`
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(named{"id": 2})}).Create(p)                                                                                                                                       // want `Clauses writes Patient, column id, to which the rows' keys are bound`
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"encrypted_kms_key"})}).Create(p)                                                                                                                  // want `Clauses writes Patient, column encrypted_kms_key, a key column`
	conflict := clause.OnConflict{DoUpdates: clause.AssignmentColumns([]string{"name"})}                                                                                                                                                        // want `Clauses would put Patient, column name`
	db.Clauses(conflict).Create(p)
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"NAME"})}).Create(p) // want `Clauses writes Patient, column name, as "NAME"`

	db.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name"}, clause.Eq{Column: "ward", Value: n}}}).Find(&all) // IS NULL
	db.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: nil}, clause.Eq{Column: "ward", Value: n}}}).Find(&all)
	db.Clauses(clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: n}}}).Find(&logs)
	db.Clauses(clause.Eq{Column: "ward", Value: n}, clause.OrderBy{Columns: []clause.OrderByColumn{{Column: clause.Column{Name: "ward"}}}}).Find(&all)
	db.Clauses(clause.GroupBy{Columns: []clause.Column{{Name: "ward"}}}).Select("ward").Find(&all)
	db.Clauses(clause.Select{Expression: clause.Expr{SQL: "id, name"}}).Find(&all)
	db.Clauses(clause.From{Joins: []clause.Join{{Table: clause.Table{Name: "patients", Alias: "x"}}}}).Where("logs.name = ?", n).Find(&logs)
	db.Clauses(clause.Returning{}).Create(p)
	db.Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}}}).Create(&all)
	db.Model(p).Clauses(clause.Returning{Columns: []clause.Column{{Name: "name"}}}).Update("name", n)
	db.Clauses(clause.Returning{}).Where("ward = ?", n).Delete(&all)
	db.Clauses(clause.OnConflict{UpdateAll: true}).Create(p)
	db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "ward"}}, UpdateAll: true}).Create(p)
	db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "ward"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(p)
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Set{{Column: clause.Column{Name: "name"}, Value: clause.Column{Table: "excluded", Name: "name"}}}}).Create(p)
	db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: clause.Assignments(named{"ward": gorm.Expr("excluded.ward")})}).Create(p)
}

// structs writes a model's table from structs that are not the model.
func structs(db *gorm.DB, n string, s clinic.Shadow) {
	db.Create(&clinic.Shadow{ID: 1})                                                                        // want `Create writes Patient, column name, which is sealed, in plaintext from a struct of Shadow, and is refused with rowseal.ErrPlaintext; write rows of patients from structs of Patient`
	db.Create(&s)                                                                                           // want `Create writes Patient, column name, .* from a struct of Shadow`
	db.CreateInBatches([]clinic.Shadow{{Name: n}}, 10)                                                      // want `CreateInBatches writes Patient, column name, .* from a struct of Shadow`
	db.Save(&s)                                                                                             // want `Save writes Patient, column name, .* from a struct of Shadow`
	db.Where("id = 1").Updates(clinic.Shadow{Name: n})                                                      // want `Updates writes Patient, column name, .* from a struct of Shadow`
	db.Model(&s).Update("Name", n)                                                                          // want `Update writes Patient, column name, which is sealed, in plaintext`
	db.Model(&s).Updates(map[string]any{"name": n})                                                         // want `Updates writes Patient, column name, which is sealed, in plaintext`
	db.Model(&clinic.Shadow{}).Where("id = 1").Update("id", 2)                                              // want `Update writes Patient, column id, to which the rows' keys are bound`
	db.Table("patients").Create(&clinic.Log{Name: n})                                                       // want `Create writes Patient, column name, .* from a struct of Log`
	db.Table("patients AS p").Where("p.id = 1").Updates(clinic.Log{Name: n})                                // want `Updates writes Patient, column name, .* from a struct of Log`
	db.Table("patients").Save(&clinic.Doctor{Name: n})                                                      // want `Save writes Patient, column name, .* from a struct of Doctor`
	db.Create(&clinic.Partial{Phone: &n})                                                                   // want `Create writes Patient, column phone, .* from a struct of Partial`
	db.Clauses(clause.Insert{Table: clause.Table{Name: "patients"}}).Create(&clinic.Log{Name: n})           // want `Create writes Patient, column name, .* from a struct of Log`
	db.Model(&clinic.Log{}).Clauses(clause.Update{Table: clause.Table{Name: "patients"}}).Update("name", n) // want `Update writes Patient, column name, which is sealed, in plaintext`
	db.Model(&clinic.Patient{}).Create(&s)                                                                  // want `Create of Patient from a struct of Shadow, which has no key column for its sealed fields, and is refused with rowseal.ErrUnsupported; create rows from structs of Patient`

	db.Create(&clinic.Partial{Ward: n})
	db.Save(&clinic.Partial{Ward: n})
	db.Updates(&clinic.Shadow{ID: 1})
	db.Select("ID").Create(&s)
	db.Omit("Name").Create(&s)
	db.Model(&s).Update("ward", n)
	db.Model(&s).Update("name", nil)
	db.Model(&clinic.Patient{ID: 1}).Updates(clinic.Shadow{Name: n})
	db.Table("patients").Create(&clinic.Patient{Name: n})
	db.Table("patients_old").Create(&clinic.Log{Name: n})
	db.Create(&clinic.Log{Name: n})
	db.Delete(&clinic.Shadow{ID: 1})
	db.Clauses(clause.Insert{Modifier: "IGNORE"}).Create(&clinic.Log{Name: n})
}

func fieldHelpers(db *gorm.DB, n string) {
	ctx := context.Background()

	_, _ = gorm.G[clinic.Patient](db).Where(generated.Patient.Name.Eq(n)).Find(ctx)                                    // want `Where compares Patient, column name`
	_, _ = gorm.G[clinic.Patient](db).Order(generated.Patient.Name.Desc()).Find(ctx)                                   // want `Order sorts by Patient, column name`
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(generated.Patient.Name.SetExpr(gorm.Expr("''"))).Update(ctx) // want `Set gives Patient, column name, which is sealed, an SQL expression`
	_, _ = gorm.G[clinic.Patient](db).Where(generated.Patient.Name.IsNull()).Where(generated.Patient.Ward.Eq(n)).Find(ctx)
	_, _ = gorm.G[clinic.Patient](db).Where("id = 1").Set(generated.Patient.Name.Set(n), generated.Patient.Ward.SetExpr(gorm.Expr("''"))).Update(ctx)
	_, _ = gorm.G[clinic.Log](db).Where(generated.Log.Name.Eq(n)).Find(ctx)
}
