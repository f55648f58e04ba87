package integration

// attack_rotation5_test.go owns rotations under odd orders, small rights and strange settings.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

type RotICU struct {
	ID   string `gorm:"primaryKey;type:text COLLATE \"und-x-icu\""`
	B    string `gorm:"primaryKey;type:text COLLATE \"C\""`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotNoCase struct {
	ID   string `gorm:"primaryKey;type:text COLLATE NOCASE"`
	B    string `gorm:"primaryKey;type:text COLLATE RTRIM"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotFixed struct {
	ID   string `gorm:"primaryKey;type:char(20)"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type RotLatin struct {
	ID   string `gorm:"primaryKey;type:varchar(1000) CHARACTER SET latin1 COLLATE latin1_swedish_ci"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestAttackRotationOddOrders(t *testing.T) {
	odd := func(i int) string {
		return []string{"a", "A", "ä", "Z", "z", "É", "-", "_", "ß", "ss", "é", "aa"}[i%12]
	}
	eachDriver(t, func(t *testing.T, kind string) {
		switch {
		case kind == postgres:
			rotateKind(t, kind, &RotICU{}, func(i int) RotICU {
				return RotICU{ID: odd(i) + "-" + odd(i/12) + fmt.Sprint(i/24), B: odd(i+3) + fmt.Sprint(i), Name: fmt.Sprint(i)}
			}, func(i int, r RotICU) bool { return r.Name == fmt.Sprint(i) })
			rotateKind(t, kind, &RotFixed{}, func(i int) RotFixed {
				return RotFixed{ID: fmt.Sprintf("%-20s", odd(i)+fmt.Sprint(i)), Name: fmt.Sprint(i)}
			},
				func(i int, r RotFixed) bool { return r.Name == fmt.Sprint(i) })
		case isSQLite(kind):
			rotateKind(t, kind, &RotNoCase{}, func(i int) RotNoCase {
				return RotNoCase{ID: odd(i), B: odd(i+3) + fmt.Sprint(i), Name: fmt.Sprint(i)}
			}, func(i int, r RotNoCase) bool { return r.Name == fmt.Sprint(i) })
		default:
			rotateKind(t, kind, &RotFixed{}, func(i int) RotFixed { return RotFixed{ID: odd(i) + fmt.Sprint(i), Name: fmt.Sprint(i)} },
				func(i int, r RotFixed) bool { return r.Name == fmt.Sprint(i) })
			rotateKind(t, kind, &RotLatin{}, func(i int) RotLatin {
				return RotLatin{ID: strings.Repeat("é", 700+i%90) + fmt.Sprint(i), Name: fmt.Sprint(i)}
			}, func(i int, r RotLatin) bool { return r.Name == fmt.Sprint(i) })
		}
	})
}

// TestAttackRotationSmallRights: a role that may read what it needs, write key columns, and keep the ledger.
func TestAttackRotationSmallRights(t *testing.T) {
	r := attacked(t, postgres, rowseal.Model{Value: &RotTenant{}, Context: rowseal.Columns("tenant_id")})
	var rows []RotTenant
	for i := range 60 {
		rows = append(rows, RotTenant{TenantID: "acme", Name: fmt.Sprint("name ", i)})
	}
	ok(t, r.w.db.Create(&rows).Error)
	role := fmt.Sprintf("rotator%d", time.Now().UnixNano())
	r.w.plain.SetMaxOpenConns(1)
	for _, q := range []string{"CREATE ROLE " + role, "GRANT SELECT (id, tenant_id, encrypted_kms_key), UPDATE (encrypted_kms_key) ON rot_tenants TO " + role,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON rowseal_runs, rowseal_ranges, rowseal_failures, rowseal_events TO " + role, "SET ROLE " + role} {
		r.w.tamper(t, q)
	}
	report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotTenant{}, rotation.Config{})
	ok(t, err)
	if report.Rewrapped != 60 {
		t.Errorf("%+v", report)
	}
	r.w.tamper(t, "RESET ROLE")
	r.w.tamper(t, "DROP OWNED BY "+role)
	r.w.tamper(t, "DROP ROLE "+role)
}

// TestAttackRotationOfRings: rows to which writers that may not decrypt have added keys, rotated by one that may not either.
func TestAttackRotationOfRings(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		d := newDuties(t, kind)
		_, err := migrations.Up(t.Context(), d.world.db)
		ok(t, err)
		writer := d.writer(t)
		var ids []uint64
		for range 15 {
			row := d.create(t)
			ok(t, writer.Model(&RoleDoc{ID: row.ID}).Update("A", "changed").Error)
			ids = append(ids, row.ID)
		}
		report, err := rotation.RotateKMSKey(t.Context(), d.world.db, &RoleDoc{}, rotation.Config{Keys: d.keys(t, 2, "kms:ReEncryptFrom", "kms:ReEncryptTo")})
		ok(t, err)
		addsUp(t, report)
		if report.Rewrapped != 15 || report.Exposed != 0 {
			t.Errorf("%+v", report)
		}
		for _, id := range ids {
			if got := load[RoleDoc](t, d.as(t, 2, false, "kms:Decrypt"), id); got.A != "changed" || got.B != "b" {
				t.Errorf("%+v", got)
			}
		}
	})
}

// TestAttackRotationHangs: a service that never answers; the caller gives up.
func TestAttackRotationHangs(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("hang", func(t *testing.T) {
		r := newRotating(t, sqliteGo, &RotText{})
		texts(t, r, 300)
		var once sync.Once
		r.new.Before = func(ctx context.Context, _ kmskeytest.Call) error {
			if r.new.Count("wrap") > 100 {
				once.Do(func() {})
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, rotation.Config{Lanes: 2, MaxPage: 50})
		if !errors.Is(err, context.DeadlineExceeded) || report == nil || report.State != "running" {
			t.Errorf("%v %+v", err, report)
		}
		r.new.Before = nil
		report, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 300 {
			t.Errorf("%+v", report)
		}
		_, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Lease: 2})
		if err == nil || !strings.Contains(err.Error(), "too short") {
			t.Error(err)
		}
		_, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Owner: strings.Repeat("ö", 300)})
		ok(t, err)
	})
	for range 50 {
		if runtime.NumGoroutine() <= before+3 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d goroutines more", runtime.NumGoroutine()-before)
}
