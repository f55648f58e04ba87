package integration

// attack_rotation_test.go owns attempts to make a rotation lose a row, miscount or hang.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// RotTenant is bound to columns of several types under its new version alone.
type RotTenant struct {
	ID       uint64
	TenantID string `gorm:"size:40"`
	Ward     *int64
	Name     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// RotComputed computes its context from a column.
type RotComputed struct {
	ID    uint64
	Ward  string `gorm:"size:40"`
	Score *float64
	At    time.Time
	Name  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (r *RotComputed) KMSContext(version int) ([]kmskey.Pair, error) {
	pairs := []kmskey.Pair{{Name: "id", Value: kmskey.Uint(r.ID)}}
	if version == 2 {
		pairs = append(pairs, kmskey.Pair{Name: "ward", Value: kmskey.Text(r.Ward)})
	}
	return pairs, nil
}

// attacked is a rotating table whose model is declared.
func attacked(t testing.TB, kind string, m rowseal.Model) *rotating {
	t.Helper()
	next, err := localkey.Generate(t.TempDir() + "/next")
	ok(t, err)
	r := &rotating{old: kmskeytest.NewCounter(localkey.NewInsecure()), new: kmskeytest.NewCounter(next), model: m}
	r.w = openWith(t, kind, r.keys(t, 1), rowseal.Config{Models: []any{m}}, &gorm.Config{})
	_, err = migrations.Up(t.Context(), r.w.db)
	ok(t, err)
	return r
}

// TestAttackRotationContextMoves: under version 1 the context has no tenant, so that a tenant can change without a new key while the page is at the key service.
func TestAttackRotationContextMoves(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		m := rowseal.Model{Value: &RotTenant{}, Contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id", "ward")}}
		r := attacked(t, kind, m)
		var rows []RotTenant
		for i := range 120 {
			rows = append(rows, RotTenant{TenantID: "acme", Ward: new(int64(7)), Name: fmt.Sprint("name ", i)})
		}
		ok(t, r.w.db.Create(&rows).Error)
		app := r.at(t, 1)
		var once atomic.Bool
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") > 60 && once.CompareAndSwap(false, true) { // the page was read
				for i := range 10 {
					a, b := RotTenant{ID: rows[i].ID}, RotTenant{ID: rows[20+i].ID}
					if err := errors.Join(app.Take(&a).Error, app.Take(&b).Error); err != nil {
						t.Error(err)
					}
					if err := errors.Join(app.Model(&a).Update("tenant_id", []string{"ACME", "other", "acme ", "x", "acme'\"\\"}[i%5]).Error, app.Model(&b).Update("ward", i).Error); err != nil {
						t.Error(err)
					}
				}
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotTenant{}, rotation.Config{})
		ok(t, err)
		addsUp(t, report)
		if report.Seen != 120 || report.Rewrapped != 120 {
			t.Errorf("%+v", report)
		}
		only := r.only(t)
		for i, row := range rows {
			got := RotTenant{ID: row.ID}
			if err := only.Take(&got).Error; err != nil || got.Name != row.Name {
				t.Errorf("row %d: %q %v", i, got.Name, err)
			}
		}
	})
}

func TestAttackRotationComputedContextMoves(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		r := attacked(t, kind, rowseal.Model{Value: &RotComputed{}})
		var rows []RotComputed
		for i := range 120 {
			rows = append(rows, RotComputed{Ward: "a", Score: new(0.1), At: time.Now(), Name: fmt.Sprint("name ", i)})
		}
		ok(t, r.w.db.Create(&rows).Error)
		app := r.at(t, 1)
		var once atomic.Bool
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") > 60 && once.CompareAndSwap(false, true) {
				for i := range 10 {
					a := RotComputed{ID: rows[i].ID}
					if err := errors.Join(app.Take(&a).Error, app.Model(&a).Update("ward", "b").Error); err != nil {
						t.Error(err)
					}
				}
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotComputed{}, rotation.Config{})
		ok(t, err)
		addsUp(t, report)
		if report.Seen != 120 || report.Rewrapped != 120 {
			t.Errorf("%+v", report)
		}
		only := r.only(t)
		for i, row := range rows {
			got := RotComputed{ID: row.ID}
			if err := only.Take(&got).Error; err != nil || got.Name != row.Name {
				t.Errorf("row %d: %q %v", i, got.Name, err)
			}
		}
	})
}

// TestAttackRotationCanceledByAService: a service's client that says "canceled" while nobody here canceled. A key that was not moved must not be stored as "".
func TestAttackRotationCanceledByAService(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		r.w.dropChecks(t, &RotText{})
		var all []RotText
		for i := range 60 {
			all = append(all, RotText{Code: fmt.Sprintf("c%03d", i), Name: fmt.Sprint(i)})
		}
		ok(t, r.w.db.Create(&all).Error)
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") > 20 {
				return fmt.Errorf("%w: the client's connection: %w", kmskey.ErrUnavailable, context.Canceled)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		_, _ = rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, rotation.Config{})
		r.w.scan(t, "rot_texts", func(column, value string) {
			if column == "encrypted_kms_key" && !strings.HasPrefix(value, "v") {
				t.Fatalf("a key was lost: %q", value)
			}
		})
	})
}
