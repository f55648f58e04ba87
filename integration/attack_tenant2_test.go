package integration

// attack_tenant2_test.go owns attacks on the contexts and indexes of tenants by associations, programs that only write, and fills beside movers.

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// AtkTenant has its users by the column that tells tenants apart.
type AtkTenant struct {
	ID    uint64
	Users []AtkUser `gorm:"foreignKey:TenantID"`
}

type AtkUser struct {
	ID       uint64
	TenantID uint64
	Tenant   *AtkTenant
	Name     string `gorm:"serializer:rowseal" rowseal:"index=tenant"`
	rowseal.RowKey
}

func TestAttackTenantAssociations(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, localKeys(t), rowseal.Config{Models: []any{tenants(&AtkUser{})}}, &gorm.Config{DisableForeignKeyConstraintWhenMigrating: true})
		db := w.db
		_, err := migrations.Up(t.Context(), db)
		ok(t, err)
		ok(t, db.AutoMigrate(&AtkTenant{}))
		one, two := AtkTenant{ID: 1, Users: []AtkUser{{Name: "Ada"}, {Name: "Bob"}}}, AtkTenant{ID: 2, Users: []AtkUser{{Name: "Ada"}}}
		ok(t, db.Create(&one).Error)
		ok(t, db.Create(&two).Error)
		opensAll(t, db, &AtkUser{})
		var users []AtkUser
		if err := db.Model(&one).Association("Users").Find(&users, map[string]any{"name": "Ada"}); err != nil || len(users) != 1 || users[0].TenantID != 1 {
			t.Error(err, len(users))
		}
		if err := db.Model([]*AtkTenant{&one, &two}).Where("name", "Ada").Association("Users").Find(&users); err != nil || len(users) != 2 {
			t.Error(err, len(users))
		}
		if n := db.Model(&one).Where(AtkUser{Name: "Ada"}).Association("Users").Count(); n != 1 {
			t.Errorf("Count gives %d", n)
		}
		var all []AtkTenant
		err = db.Preload("Users", func(tx *gorm.DB) *gorm.DB { return tx.Where("name", "Ada") }).Order("id").Find(&all).Error
		if err != nil || len(all) != 2 || len(all[0].Users) != 1 || len(all[1].Users) != 1 {
			t.Error("Preload", err, all)
		}
		err = db.Preload("Users", map[string]any{"name": "Ada"}).Order("id").Find(&all).Error
		if err != nil || len(all) != 2 || len(all[0].Users) != 1 || len(all[1].Users) != 1 {
			t.Error("Preload by a map", err, all)
		}
		u := one.Users[0]
		for how, move := range map[string]func() error{
			"Append":  func() error { return db.Model(&two).Association("Users").Append(&u) },
			"Replace": func() error { return db.Model(&two).Association("Users").Replace(&u) },
			"Delete":  func() error { return db.Model(&one).Association("Users").Delete(&u) },
			"Clear":   func() error { return db.Model(&two).Association("Users").Clear() },
			"Tenant":  func() error { return db.Model(&u).Association("Tenant").Replace(&two) },
			"Save":    func() error { u.Tenant = &two; return db.Save(&u).Error },
		} {
			refusedOrDone(t, how, move())
			opensAll(t, db, &AtkUser{})
			u = load[AtkUser](t, db, u.ID)
			var n int64
			if err := db.Model(&AtkUser{}).Where("tenant_id", u.TenantID).Where("name", "Ada").Where("id", u.ID).Count(&n).Error; err != nil || n != 1 {
				t.Errorf("%s: %v: %d in tenant %d", how, err, n, u.TenantID)
			}
		}
		ok(t, db.Model(&AtkUser{}).Create(map[string]any{"TenantID": 3, "Name": "map"}).Error)
		ok(t, db.Model(&AtkUser{}).Create([]map[string]any{{"TenantID": 3, "Name": "a"}, {"tenant_id": 4, "name": "b"}}).Error)
		opensAll(t, db, &AtkUser{})
		// Of rows that are not there.
		ok(t, db.Model(&AtkUser{ID: 999}).Update("name", "x").Error)
		ok(t, db.Model(&AtkUser{}).Where("tenant_id", 99).Update("name", "x").Error)
		ok(t, db.Model(&AtkUser{ID: 999}).Updates(map[string]any{"name": "x", "tenant_id": 4}).Error) // nobody
		ok(t, db.Delete(&AtkTenant{}, 1).Error)
	})
}

// A program that only writes.
func TestAttackTenantWriteOnly(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, rowseal.Model{Value: &atkFile{}, Context: rowseal.Columns("tenant_id", "region")})
		f := atkFile{TenantID: "acme", Region: "eu", Body: new("body"), Phone: new("phone")}
		ok(t, w.db.Create(&f).Error)
		w.tamper(t, "INSERT INTO atk_files (id, tenant_id, region) VALUES (77, 'acme', 'eu')")
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecureEncryptOnly()}}, Namespace: "test"})
		ok(t, err)
		db, _ := another(t, w, keys, rowseal.Config{WriteOnly: true, Models: []any{rowseal.Model{Value: &atkFile{}, Context: rowseal.Columns("tenant_id", "region")}}})
		for _, how := range []struct {
			name  string
			write func() error
		}{
			{"file in part", func() error { return db.Model(&atkFile{ID: f.ID}).Update("body", "b2").Error }},
			{"file, loaded", func() error {
				var g atkFile
				if err := db.Take(&g, f.ID).Error; err != nil {
					return err
				}
				return db.Model(&g).Updates(map[string]any{"body": "b3"}).Error
			}},
			{"moved, loaded", func() error {
				var g atkFile
				if err := db.Take(&g, f.ID).Error; err != nil {
					return err
				}
				return db.Model(&g).Updates(map[string]any{"tenant_id": "other"}).Error
			}},
			{"moved and written in part, loaded", func() error {
				var g atkFile
				if err := db.Take(&g, f.ID).Error; err != nil {
					return err
				}
				return db.Model(&g).Updates(map[string]any{"tenant_id": "other", "body": "x"}).Error
			}},
			{"moved and written, not loaded", func() error {
				return db.Model(&atkFile{ID: f.ID}).Updates(map[string]any{"tenant_id": "third", "region": "us", "body": "x", "phone": nil}).Error
			}},
			{"the same context, loaded", func() error {
				var g atkFile
				if err := db.Take(&g, f.ID).Error; err != nil {
					return err
				}
				return db.Save(&g).Error
			}},
			{"keyless, moved by another meanwhile", func() error {
				var g, o atkFile
				if err := db.Take(&g, 77).Error; err != nil {
					return err
				}
				ok(t, w.db.Take(&o, 77).Error)
				ok(t, w.db.Model(&o).Updates(map[string]any{"tenant_id": "other", "phone": "p"}).Error)
				return db.Model(&g).Updates(map[string]any{"region": "us", "body": "x"}).Error
			}},
			{"stale, same context", func() error {
				var g, o atkFile
				if err := db.Take(&g, 77).Error; err != nil {
					return err
				}
				ok(t, w.db.Take(&o, 77).Error)
				ok(t, rowseal.Rotate(t.Context(), w.db, &o))
				return db.Save(&g).Error
			}},
			{"stale, moved", func() error {
				var g, o atkFile
				if err := db.Take(&g, 77).Error; err != nil {
					return err
				}
				ok(t, w.db.Take(&o, 77).Error)
				ok(t, w.db.Model(&o).Update("tenant_id", "moved").Error)
				return db.Save(&g).Error
			}},
		} {
			refusedOrDone(t, how.name, how.write())
			opensAll(t, w.db, &atkFile{})
		}
	})
}

// FillIndexes and rotations beside writers who move rows.
func TestAttackTenantFillBesideMoves(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := newIndexed(t, kind, tenants(&atkPerson{}))
		db := w.db
		for i := range 12 {
			ok(t, db.Create(&atkPerson{ID: uint64(i + 1), AtkOwner: AtkOwner{1}, Name: "Ada", Nick: new("n"), Work: AtkHome{Street: "work"}, Ward: "w"}).Error)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if n > 0 && n%2 == 0 {
					_, err := rotation.FillIndexes(t.Context(), db, &atkPerson{}, rotation.Config{All: true})
					lockedOut(t, kind, "fill all", err)
				} else {
					w.tamper(t, "UPDATE atk_people SET name_tenant_bidx = NULL WHERE id < 6")
					_, err := rotation.FillIndexes(t.Context(), db, &atkPerson{}, rotation.Config{})
					lockedOut(t, kind, "fill", err)
				}
			}
		})
		var movers sync.WaitGroup
		for g := range 3 {
			movers.Go(func() {
				for round := range 20 {
					var p atkPerson
					if err := db.Take(&p, 1+(g*5+round)%12).Error; err != nil {
						t.Error(err)
						return
					}
					lockedOut(t, kind, "move", db.Model(&p).Update("tenant_id", round%3+1).Error)
					lockedOut(t, kind, "change", db.Model(&p).Update("name", fmt.Sprint(round)).Error)
				}
			})
		}
		movers.Wait()
		close(stop)
		wg.Wait()
		_, err := rotation.FillIndexes(t.Context(), db, &atkPerson{}, rotation.Config{})
		ok(t, err)
		opensAll(t, db, &atkPerson{})
	})
}

// refusedOrDone holds a write to one of two: it was done, or it was refused for a reason that the plugin gives. What it left is for opensAll to see.
func refusedOrDone(t *testing.T, how string, err error) {
	t.Helper()
	for _, reason := range []error{nil, rowseal.ErrContext, rowseal.ErrUnsupported, rowseal.ErrStaleKey, rowseal.ErrNotLoaded, rowseal.ErrWriteOnly, rowseal.ErrIdentity} {
		if errors.Is(err, reason) {
			return
		}
	}
	t.Errorf("%s: %v", how, err)
}

// lockedOut is refusedOrDone beside other writers: on SQLite they lock each other out.
func lockedOut(t *testing.T, kind, how string, err error) {
	t.Helper()
	if isSQLite(kind) && err != nil && strings.Contains(err.Error(), "locked") {
		return
	}
	refusedOrDone(t, how, err)
}
