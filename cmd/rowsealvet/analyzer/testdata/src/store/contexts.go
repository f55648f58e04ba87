package store

import (
	"context"

	"clinic"
	"github.com/rowseal/rowseal"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

const tenant = "tenant_id"

var config = rowseal.Config{Models: []any{
	&clinic.Patient{},
	rowseal.Model{Value: &clinic.Account{}, Context: rowseal.Columns(tenant), Contexts: map[int]rowseal.Context{
		2: {Columns: []string{"tenant_id", "region_id"}},
	}},
}}

func contextColumns(db *gorm.DB, n string) {
	ctx := context.Background()
	var a clinic.Account
	db.First(&a, 1)

	db.Model(&clinic.Account{ID: 1}).Update("tenant_id", 8)                                                                                      // want `Update writes Account, column tenant_id, to which the rows' keys are bound by their context, in rows that were not loaded, and is refused with rowseal.ErrContext or rowseal.ErrUnsupported; load the rows, change them and save them`
	db.Model(&clinic.Account{ID: 1}).Updates(map[string]any{"RegionID": 8, "ward": n})                                                           // want `Updates writes Account, column region_id, .* in rows that were not loaded`
	db.Model(&clinic.Account{ID: 1}).Updates(map[string]any{"tenant_id": 8, "name": n})                                                          // want `Updates writes Account, column tenant_id, .* in rows that were not loaded`
	db.Model(&clinic.Account{}).Where("ward = ?", n).Update("tenant_id", 8)                                                                      // want `Update writes Account, column tenant_id, .* in rows that were not loaded`
	db.Model(new(clinic.Account)).Where("ward = ?", n).UpdateColumn("tenant_id", 8)                                                              // want `UpdateColumn writes Account, column tenant_id, .* in rows that were not loaded`
	db.Updates(&clinic.Account{ID: 1, TenantID: 8})                                                                                              // want `Updates writes Account, column tenant_id, .* in rows that were not loaded`
	db.Model(&clinic.Account{ID: 1}).Updates(clinic.Account{TenantID: 8, Name: n})                                                               // want `Updates writes Account, column tenant_id, .* in rows that were not loaded`
	_, _ = gorm.G[clinic.Account](db).Where("id = 1").Update(ctx, "tenant_id", 8)                                                                // want `Update writes Account, column tenant_id, .* in rows that were not loaded`
	_, _ = gorm.G[clinic.Account](db).Where("id = 1").Set(clause.Assignment{Column: clause.Column{Name: "tenant_id"}, Value: 8}).Update(ctx)     // want `Set writes Account, column tenant_id, .* in rows that were not loaded`
	db.Model(&a).Update("tenant_id", gorm.Expr("tenant_id + 1"))                                                                                 // want `Update gives Account, column tenant_id, which the rows' keys are bound to by their context, an SQL expression, and is refused with rowseal.ErrContext; compute the value in Go`
	db.Table("accounts").Where("id = 1").Update("tenant_id", 8)                                                                                  // want `Update writes Account, column tenant_id, to which the rows' keys are bound by their context, and is refused with rowseal.ErrIdentity; load the row, change it and save it`
	db.Exec("UPDATE accounts SET tenant_id = ? WHERE id = 1", 8)                                                                                 // want `Exec writes Account, column tenant_id, .* and is refused with rowseal.ErrIdentity`
	db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"tenant_id"})}).Create(&a) // want `Clauses writes Account, column tenant_id, .* and is refused with rowseal.ErrIdentity`

	db.Model(&a).Update("tenant_id", 8)
	db.Model(&clinic.Account{ID: 1, RowKey: a.RowKey}).Update("tenant_id", 8)
	db.Updates(&clinic.Account{ID: 1, TenantID: 8, RowKey: a.RowKey})
	a.TenantID = 9
	db.Save(&a)
	db.Updates(&a)
	db.Where("tenant_id = ?", 8).Order("tenant_id").Find(&[]clinic.Account{})
	db.Model(&clinic.Account{ID: 1}).Updates(map[string]any{"tenant_id": 8, "region_id": 1, "name": n, "mail": n}) // under a new key
	db.Model(&clinic.Account{ID: 1}).Clauses(clause.Set{
		{Column: clause.Column{Name: "tenant_id"}, Value: 8}, {Column: clause.Column{Name: "region_id"}, Value: 1},
		{Column: clause.Column{Name: "name"}, Value: n}, {Column: clause.Column{Name: "mail"}, Value: n},
	}).Updates(named{})
	db.Model(&clinic.Account{ID: 1}).Update("ward", n)
	db.Model(&clinic.Patient{ID: 1}).Update("tenant_id", 8) // no context of this model
	db.Exec("INSERT INTO accounts (id, tenant_id) VALUES (1, 2)")
	db.Create(&clinic.Account{TenantID: 8})
}
