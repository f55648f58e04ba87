package examples

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/kmslog"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// The code of README.md comes from here and from quickstart, and is run. That README.md shows just this is checked by readme_test.go
// at the root: a test in this module would be answered from the cache when README.md changes.

// #region two_keys
type Patient struct {
	ID    uint64
	Ward  string
	Name  string                 `gorm:"serializer:rowseal"`
	Phone *string                `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"` // under another data key
	Notes rowseal.Secret[string] // opened only by Notes.Get(ctx)

	rowseal.RowKey             // column encrypted_kms_key
	PhoneKey       rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// #endregion

// #region use
func protect(db *gorm.DB, provider kmskey.Provider) error {
	keys, err := kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: provider}},
		Namespace: "clinic/production",
	})
	if err != nil {
		return err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	if err != nil {
		return err
	}
	return db.Use(plugin) // from here on, GORM as before
}

// #endregion

type Invoice struct {
	ID       uint64
	TenantID uint64
	IBAN     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func withContext(keys *kmskey.Keyring) (*rowseal.Plugin, error) {
	// #region context
	return rowseal.New(keys, rowseal.Config{Models: []any{
		rowseal.Model{Value: &Invoice{}, Name: "Invoice", Context: rowseal.Columns("tenant_id")},
	}})
	// #endregion
}

func production(ctx context.Context) (kmskey.Provider, error) {
	// #region aws
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return awskms.New(kms.NewFromConfig(cfg), "alias/app", awskms.Config{})
	// #endregion
}

func localDevelopment(dir string) (kmskey.Provider, error) {
	// #region local
	return localkey.FromFileOrGenerate(filepath.Join(dir, "rowseal.key"))
	// #endregion
}

func secrets(ctx context.Context, db *gorm.DB) error {
	// #region secret
	var page []Patient
	if err := db.Limit(100).Find(&page).Error; err != nil { // no call for Notes
		return err
	}
	if err := rowseal.Open(ctx, db, page); err != nil { // all of them at once
		return err
	}
	notes, err := page[0].Notes.Get(ctx) // one of them; here it is open already
	// #endregion
	if notes != "likes engines" {
		return fmt.Errorf("%q", notes)
	}
	return err
}

func projections(db *gorm.DB) error {
	// #region projections
	var cards []struct{ Ward, Name string }
	if err := db.Model(&Patient{}).Find(&cards).Error; err != nil {
		return err
	}
	var names []string
	if err := db.Model(&Patient{}).Pluck("name", &names).Error; err != nil {
		return err
	}
	rows, err := db.Model(&Patient{}).Select("name", "ward").Rows()
	// #endregion
	if err != nil {
		return err
	}
	for rows.Next() {
		var name, ward string
		if err := rows.Scan(&name, &ward); err != nil || name != names[0] || ward != cards[0].Ward || name != cards[0].Name {
			return errors.Join(fmt.Errorf("%q %q, %v, %v", name, ward, cards, names), err)
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

func versions(old, next kmskey.Provider) (*kmskey.Keyring, error) {
	// #region versions
	return kmskey.New(kmskey.Config{
		Current: 2, // new rows
		Versions: map[int]kmskey.Version{
			1: {Provider: old}, // still opened
			2: {Provider: next},
		},
		Namespace: "clinic/production",
	})
	// #endregion
}

func regions(frankfurt, virginia kmskey.Provider) (kmskey.Provider, error) {
	// #region regions
	return kmskey.NewMulti(kmskey.MultiConfig{
		Providers: []kmskey.Provider{frankfurt, virginia}, // reading asks the first, and the next where it fails or is slow
		Quorum:    1,                                      // writing goes on with one; rotation makes what is missing
	})
	// #endregion
}

func tenantKeys(tenants map[string]kmskey.Provider) (*kmskey.Keyring, error) {
	// #region tenants
	return kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {
		Choose: func(row kmskey.Row, ec kmskey.Context) (kmskey.Provider, error) {
			tenant, _ := ec.Get("tenant_id") // a column of the model's declared context
			if p, ok := tenants[tenant.String()]; ok {
				return p, nil
			}
			return nil, fmt.Errorf("tenant %v has no key", tenant)
		},
	}}})
	// #endregion
}

func writer(keys *kmskey.Keyring) (*rowseal.Plugin, error) {
	// #region writer
	return rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}, WriteOnly: true})
	// #endregion
}

func outside(ctx context.Context, keys *kmskey.Keyring, report []byte) ([]byte, error) {
	// #region box
	box, err := kmskey.NewBox(keys, "exports")
	if err != nil {
		return nil, err
	}
	sealed, err := box.Seal(ctx, report, kmskey.Pair{Name: "report", Value: kmskey.Int(7)}) // text, "v1:…"
	if err != nil {
		return nil, err
	}
	return box.Open(ctx, sealed, kmskey.Pair{Name: "report", Value: kmskey.Int(7)})
	// #endregion
}

func audited(provider kmskey.Provider, logger *slog.Logger) (*kmskey.Keyring, error) {
	// #region audit
	return kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: provider}},
		Observers: []kmskey.Observer{kmslog.New(logger, kmslog.Config{})},
	})
	// #endregion
}

func rotate(ctx context.Context, db *gorm.DB, id uint64) error {
	// #region rotate
	return rowseal.Rotate(ctx, db, &Patient{ID: id})
	// #endregion
}

func rotateTable(ctx context.Context, db *gorm.DB) error {
	// #region rotate_table
	if _, err := migrations.Up(ctx, db); err != nil { // the ledger's tables, once
		return err
	}
	report, err := rotation.RotateKMSKey(ctx, db, &Patient{}, rotation.Config{})
	// #endregion
	if err == nil && report.Failed > 0 {
		err = errors.New("a key was not moved")
	}
	return err
}

func connect(t *testing.T, file string, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.Logger = logger.Discard
	db, err := gorm.Open(sqlite.Open(file), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
	})
	return db
}

func TestREADME_snippets_run(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "readme.db")
	t.Setenv("AWS_REGION", "eu-central-1")
	_, err := production(t.Context()) // makes no call
	check(t, err)
	old, err := localDevelopment(dir)
	check(t, err)
	db := connect(t, file, &gorm.Config{})
	check(t, protect(db, old))
	check(t, db.AutoMigrate(&Patient{}))
	phone := "555"
	p := Patient{Ward: "east", Name: "Ada", Phone: &phone, Notes: rowseal.NewSecret("likes engines")}
	check(t, db.Create(&p).Error)
	check(t, secrets(t.Context(), db))
	check(t, projections(db))

	next, err := localkey.Generate(filepath.Join(dir, "next.key"))
	check(t, err)
	keys, err := versions(old, next)
	check(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	check(t, err)
	later := connect(t, file, &gorm.Config{})
	check(t, later.Use(plugin))
	check(t, rotate(t.Context(), later, p.ID))
	check(t, rotateTable(t.Context(), later))
	var got Patient
	check(t, later.First(&got, p.ID).Error)
	if !strings.HasPrefix(got.EncryptedKMSKey.Envelope(), "v2:") || !strings.HasPrefix(got.PhoneKey.Envelope(), "v2:") || got.Name != "Ada" {
		t.Errorf("after the rotation: %v, %v, %s", got.EncryptedKMSKey, got.PhoneKey, got.Name)
	}

	// Written under two keys and by a program that opens nothing, in a database of its own, with a record of each call.
	both, err := regions(old, next)
	check(t, err)
	var log strings.Builder
	keys, err = audited(both, slog.New(slog.NewTextHandler(&log, nil)))
	check(t, err)
	blind, err := writer(keys)
	check(t, err)
	writing := connect(t, filepath.Join(dir, "writer.db"), &gorm.Config{})
	check(t, writing.Use(blind))
	check(t, writing.AutoMigrate(&Patient{}))
	check(t, writing.Create(&Patient{Name: "Ada"}).Error)
	check(t, writing.Model(&Patient{ID: 1}).Update("name", "Grace").Error)
	var unread Patient
	check(t, writing.First(&unread).Error)
	if unread.Name != "" || strings.Count(log.String(), "op=wrap") != 6 || strings.Contains(log.String(), "op=unwrap") {
		t.Errorf("a writer read %q; its calls:\n%s", unread.Name, log.String())
	}
	report, err := outside(t.Context(), keys, []byte("quarterly"))
	check(t, err)
	if string(report) != "quarterly" {
		t.Errorf("%q", report)
	}

	keys, err = tenantKeys(map[string]kmskey.Provider{"7": next})
	check(t, err)
	tenants, err := withContext(keys)
	check(t, err)
	invoices := connect(t, filepath.Join(dir, "invoices.db"), &gorm.Config{})
	check(t, invoices.Use(tenants))
	check(t, invoices.AutoMigrate(&Invoice{}))
	in := Invoice{TenantID: 7, IBAN: "DE02"}
	check(t, invoices.Create(&in).Error)
	check(t, invoices.Select("iban").First(&Invoice{}, in.ID).Error) // tenant_id comes along
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Each is a row of README.md's table, as readme_test.go at the root checks.
func TestREADME_refusals(t *testing.T) {
	dir := t.TempDir()
	provider, err := localDevelopment(dir)
	check(t, err)
	db := connect(t, filepath.Join(dir, "refusals.db"), &gorm.Config{})
	check(t, protect(db, provider))
	check(t, db.AutoMigrate(&Patient{}))
	phone := "555"
	row := Patient{Ward: "east", Name: "Ada", Phone: &phone}
	check(t, db.Create(&row).Error)

	var p Patient
	var dto []struct{ Name string }
	var names []string
	for _, c := range []struct {
		says string
		kind error
		do   func() error
	}{
		{`db.Model(&p).Update("name", gorm.Expr("upper(name)"))`, rowseal.ErrUnsupported, func() error {
			return db.Model(&row).Update("name", gorm.Expr("upper(name)")).Error
		}},
		{`db.Table("patients").Where("id = ?", 1).Update("name", n)`, rowseal.ErrPlaintext, func() error {
			return db.Table("patients").Where("id = ?", 1).Update("name", "canary").Error
		}},
		{`db.Exec("UPDATE patients SET name = ?", n)`, rowseal.ErrPlaintext, func() error {
			return db.Exec("UPDATE patients SET name = ?", "canary").Error
		}},
		{`db.Where("name = ?", n).First(&p)`, rowseal.ErrCondition, func() error {
			return db.Where("name = ?", "canary").First(&p).Error
		}},
		{`db.Where(&Patient{Name: n}).FirstOrCreate(&p)`, rowseal.ErrCondition, func() error {
			return db.Where(&Patient{Name: "canary"}).FirstOrCreate(&p).Error
		}},
		{`db.Order("name").Find(&all)`, rowseal.ErrCondition, func() error {
			return db.Order("name").Find(&[]Patient{}).Error
		}},
		{`db.Model(&Patient{}).Distinct().Pluck("name", &names)`, rowseal.ErrCondition, func() error {
			return db.Model(&Patient{}).Distinct().Pluck("name", &names).Error
		}},
		{`db.Model(&Patient{}).Pluck("upper(name)", &names)`, rowseal.ErrCondition, func() error {
			return db.Model(&Patient{}).Pluck("upper(name)", &names).Error
		}},
		{`db.Model(&Patient{}).Select("max(id) AS id, name").Find(&dto)`, rowseal.ErrUnsupported, func() error {
			return db.Model(&Patient{}).Select("max(id) AS id, name").Find(&dto).Error
		}},
		{`db.Model(&Patient{}).Select("name AS ward").Find(&dto)`, rowseal.ErrUnsupported, func() error {
			return db.Model(&Patient{}).Select("name AS ward").Find(&dto).Error
		}},
		{`db.Scopes(rowseal.Sealed).Model(&Patient{}).Find(&dto)`, rowseal.ErrUnsupported, func() error {
			return db.Scopes(rowseal.Sealed).Model(&Patient{}).Find(&dto).Error
		}},
		{`clause.OnConflict{OnConstraint: "wards", UpdateAll: true}`, rowseal.ErrUnsupported, func() error {
			return db.Clauses(clause.OnConflict{OnConstraint: "wards", UpdateAll: true}).Create(&Patient{Ward: "east", Name: "canary"}).Error
		}},
		{`db.Model(&p).Update("id", 2)`, rowseal.ErrIdentity, func() error {
			return db.Model(&Patient{ID: row.ID}).Update("id", 2).Error
		}},
		{`db.Model(&p).Update("encrypted_kms_key", s)`, rowseal.ErrKeyColumn, func() error {
			return db.Model(&row).Update("encrypted_kms_key", "v1:canary").Error
		}},
	} {
		t.Run(c.says, func(t *testing.T) {
			err := c.do()
			t.Log(err)
			if !errors.Is(err, c.kind) {
				t.Errorf("got %v, want an error that is %q", err, c.kind)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("the value is in the error: %v", err)
			}
		})
	}
	var again Patient
	check(t, db.First(&again, row.ID).Error)
	if again.Name != "Ada" || *again.Phone != "555" {
		t.Errorf("the row is %+v", again)
	}
}
