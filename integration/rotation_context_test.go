package integration

import (
	"context"
	"fmt"
	"sync"
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

// RotTenant has a column that is part of its context from version 2 on.
type RotTenant struct {
	ID       uint64
	TenantID uint64
	Name     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// TestRotationIntoAnotherContext: a column that the old version's context leaves out changes while a key is being wrapped for its old value. The key column
// tells nothing of it, and the row would never open again.
func TestRotationIntoAnotherContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const rows = 300
		next, err := localkey.Generate(t.TempDir() + "/next")
		ok(t, err)
		counter := kmskeytest.NewCounter(next)
		keys := func(current int) *kmskey.Keyring {
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}, 2: {Provider: counter}}})
			ok(t, err)
			return k
		}
		model := rowseal.Model{Value: &RotTenant{}, Contexts: map[int]rowseal.Context{1: {}, 2: rowseal.Columns("tenant_id")}}
		w := openWith(t, kind, keys(1), rowseal.Config{Models: []any{model}}, &gorm.Config{})
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		var all []RotTenant
		for i := range rows {
			all = append(all, RotTenant{TenantID: 1, Name: fmt.Sprint(i)})
		}
		ok(t, w.db.Create(&all).Error)

		// It is an application's write that knows only the old version, under which the column is no part of the context, so in raw SQL it may be.
		// The page is read by the time that its first key is wrapped; and once more when what was left over is tried again.
		var calls atomic.Int64
		var mu sync.Mutex
		counter.Before = func(context.Context, kmskeytest.Call) error {
			mu.Lock()
			defer mu.Unlock()
			switch n := calls.Add(1); n {
			case 2: // not of the preflight, which stores nothing
				w.tamper(t, "UPDATE rot_tenants SET tenant_id = 2 WHERE id % 3 = 0")
			case rows + 3:
				w.tamper(t, "UPDATE rot_tenants SET tenant_id = 3 WHERE id % 3 = 0 AND encrypted_kms_key LIKE 'v1:%'")
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), w.db, model, rotation.Config{Keys: keys(2), MaxPage: 1000, Lease: time.Second})
		ok(t, err)
		addsUp(t, report)
		if report.Rewrapped != rows {
			t.Errorf("%+v", report)
		}
		only, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{2: {Provider: next}}})
		ok(t, err)
		db := silent(t, kind, w.plain)
		plugin, err := rowseal.New(only, rowseal.Config{Models: []any{rowseal.Model{Value: &RotTenant{}, Context: rowseal.Columns("tenant_id")}}})
		ok(t, err)
		ok(t, db.Use(plugin))
		var got []RotTenant
		ok(t, db.Order("id").Find(&got).Error)
		changed := 0
		for i, d := range got {
			if d.Name != fmt.Sprint(i) {
				t.Fatalf("%+v", d)
			}
			if d.TenantID > 1 {
				changed++
			}
		}
		if len(got) != rows || changed != rows/3 || calls.Load() < rows+rows/3 {
			t.Errorf("%d rows, %d changed, %d calls", len(got), changed, calls.Load())
		}
	})
}
