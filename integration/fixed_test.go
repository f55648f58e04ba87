package integration

// fixed_test.go owns columns of fixed width in identities and contexts: what is written comes back with other blanks.

import (
	"strings"
	"testing"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
)

type FixedCode struct {
	ID   string `gorm:"primaryKey;type:char(6)"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type FixedTenant struct {
	ID     uint64
	Tenant string `gorm:"type:char(6)"`
	Name   string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// A row is written only where it opens again; the width counts characters, as the databases do.
func TestFixedWidth(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for text, refusal := range map[string]map[string]string{
			"sixsix":  {},
			"zwölf6":  {},
			"short":   {postgres: "make it varchar(6), or give all 6 characters"},
			"blank ":  {mariadb: "make it varchar(6), or take them off"},
			"sixsix ": {postgres: "make it varchar(6)", mariadb: "make it varchar(6)"},
		} {
			t.Run(text, func(t *testing.T) {
				ids, tenants := open(t, kind, &FixedCode{}), opened(t, kind, tenantOf(&FixedTenant{}))
				idErr := ids.db.Create(&FixedCode{ID: text, Name: "Ada"}).Error
				row := FixedTenant{Tenant: text, Name: "Ada"}
				tenantErr := tenants.db.Create(&row).Error
				want := refusal[kind]
				if isMySQL(kind) {
					want = refusal[mariadb]
				}
				if want != "" {
					fails(t, idErr, rowseal.ErrContext, "FixedCode", `column "id" is char(6)`, want)
					fails(t, tenantErr, rowseal.ErrContext, "FixedTenant", `column "tenant" is char(6)`, want)
					for _, err := range []error{idErr, tenantErr} {
						if strings.Contains(err.Error(), text) {
							t.Errorf("the error tells the value: %v", err)
						}
					}
					return
				}
				ok(t, idErr)
				ok(t, tenantErr)
				if got := load[FixedCode](t, ids.db, text); got.Name != "Ada" {
					t.Errorf("opened %q", got.Name)
				}
				if got := load[FixedTenant](t, tenants.db, row.ID); got.Name != "Ada" {
					t.Errorf("opened %q", got.Name)
				}
			})
		}
	})
}

func tenantOf(value any) rowseal.Model {
	return rowseal.Model{Value: value, Context: rowseal.Columns("tenant")}
}

type PaddedTenant struct {
	ID     uint64
	Tenant string
	Name   string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// Where only a migration knows of the width, the row is stored; what it says when it is read is how to have it back.
func TestFixedWidthThatOnlyAMigrationKnows(t *testing.T) {
	w := opened(t, postgres, tenantOf(&PaddedTenant{}))
	w.tamper(t, "ALTER TABLE padded_tenants ALTER COLUMN tenant TYPE char(6)")
	row := PaddedTenant{Tenant: "abc", Name: "Ada"}
	ok(t, w.db.Create(&row).Error)
	fails(t, w.db.First(&PaddedTenant{}, row.ID).Error, kmskey.ErrContextMismatch, `column "tenant" came with blanks at its end`, "ALTER it to varchar(n)")
	w.tamper(t, "ALTER TABLE padded_tenants ALTER COLUMN tenant TYPE varchar(6)")
	if got := load[PaddedTenant](t, w.db, row.ID); got.Name != "Ada" {
		t.Errorf("opened %q", got.Name)
	}
}
