package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// cached is a process with a cache, its rows, and what answers for the key service.
func cached(t testing.TB, kind string, cache rowseal.KeyCache) (w *world, kms *kmskeytest.Counter, rows []Holder) {
	t.Helper()
	kms = kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Namespace: "test", Versions: map[int]kmskey.Version{1: {Provider: kms}}})
	ok(t, err)
	w = openWith(t, kind, keys, rowseal.Config{Models: []any{holderModel}, KeyCache: cache}, &gorm.Config{})
	_, err = migrations.Up(t.Context(), w.db)
	ok(t, err)
	rows = holders(20, 2)
	ok(t, w.db.Create(&rows).Error)
	kms.Reset()
	return w, kms, rows
}

func TestKeyCache(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, kms, rows := cached(t, kind, rowseal.KeyCache{Keys: 100})
		read := func(db *gorm.DB, calls int) {
			t.Helper()
			kms.Reset()
			var got []Holder
			ok(t, db.Order("id").Find(&got).Error)
			for i, h := range got {
				if h.Name != rows[i].Name || h.Note != rows[i].Note {
					t.Fatalf("%+v is not %+v", h, rows[i])
				}
			}
			if n := kms.Calls(); n != calls {
				t.Errorf("%d calls, want %d", n, calls)
			}
		}
		read(w.db, 20)
		read(w.db, 0)
		ok(t, w.db.Transaction(func(tx *gorm.DB) error { read(tx, 0); return nil }))

		// A row that was written by somebody else has another key, or the same with other fields.
		other := w.also(t, w.keys, rowseal.Config{Models: []any{holderModel}})
		rows[3].Name = "changed"
		ok(t, other.Model(&Holder{ID: rows[3].ID}).Update("name", "changed").Error)
		rows[4] = Holder{ID: rows[4].ID, TenantID: rows[4].TenantID, Name: "all", Email: "all", Note: "all"}
		ok(t, other.Delete(&Holder{}, rows[4].ID).Error)
		ok(t, other.Create(&rows[4]).Error)
		read(w.db, 1)

		// A copied envelope is no key, from memory neither.
		own := string(w.cell(t, "holders", "encrypted_kms_key", rows[6].ID))
		w.tamper(t, "UPDATE holders SET encrypted_kms_key = ? WHERE id = ?", string(w.cell(t, "holders", "encrypted_kms_key", rows[5].ID)), rows[6].ID)
		fails(t, w.db.First(&Holder{}, rows[6].ID).Error, kmskey.ErrContextMismatch, "not authentic")
		w.tamper(t, "UPDATE holders SET encrypted_kms_key = ? WHERE id = ?", own, rows[6].ID)
		// Nor is a row whose context was changed behind the plugin's back the row that it was.
		w.tamper(t, "UPDATE holders SET tenant_id = 'tenant 9' WHERE id = ?", rows[7].ID)
		fails(t, w.db.First(&Holder{}, rows[7].ID).Error, kmskey.ErrContextMismatch, "not authentic")
		w.tamper(t, "UPDATE holders SET tenant_id = ? WHERE id = ?", rows[7].TenantID, rows[7].ID)
		read(w.db, 0)

		// Verify proves that the key service opens rows, whatever is in memory.
		kms.Reset()
		report, err := rotation.Verify(t.Context(), w.db, &Holder{}, 0, rotation.Config{})
		ok(t, err)
		if kms.Count("unwrap") < 20 {
			t.Errorf("Verify of 20 rows made %d calls: %+v", kms.Count("unwrap"), report)
		}

		// What the service takes back is not used on.
		kms.Before = func(_ context.Context, c kmskeytest.Call) error {
			return &kmskey.Error{Op: c.Op, Service: "test", Kind: kmskey.ErrDenied}
		}
		read(w.db, 0)
		ok(t, rowseal.Revoke(t.Context(), w.db))
		fails(t, w.db.First(&Holder{}, rows[0].ID).Error, kmskey.ErrDenied, "access denied")
	})
}

// Another process is told by the database.
func TestKeyCacheIsRevokedElsewhere(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, kms, rows := cached(t, kind, rowseal.KeyCache{Keys: 100, EpochAge: time.Nanosecond})
		var got Holder
		ok(t, w.db.First(&got, rows[0].ID).Error)
		other := w.also(t, w.keys, rowseal.Config{Models: []any{holderModel}})
		kms.Before = func(_ context.Context, c kmskeytest.Call) error {
			return &kmskey.Error{Op: c.Op, Service: "test", Kind: kmskey.ErrDisabled}
		}
		ok(t, w.db.First(&Holder{}, rows[0].ID).Error)
		ok(t, rowseal.Revoke(t.Context(), other))
		fails(t, w.db.First(&Holder{}, rows[0].ID).Error, kmskey.ErrDisabled, "key disabled")
	})
}

func TestKeyCacheIsBounded(t *testing.T) {
	w, kms, _ := cached(t, sqliteGo, rowseal.KeyCache{Keys: 5})
	for range 2 {
		kms.Reset()
		var got []Holder
		ok(t, w.db.Find(&got).Error)
		if n := kms.Calls(); n < 15 {
			t.Errorf("20 rows and a cache of 5: %d calls", n)
		}
	}
	for says, cache := range map[string]rowseal.KeyCache{
		"Config.KeyCache.Keys is 0":  {MaxAge: time.Minute},
		"Config.KeyCache.Keys is -1": {Keys: -1},
		"EpochAge is 2m0s":           {Keys: 1, EpochAge: 2 * time.Minute},
		"MaxStale":                   {Keys: 1, MaxAge: time.Hour, MaxStale: time.Minute},
	} {
		if _, err := rowseal.New(w.keys, rowseal.Config{KeyCache: cache}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", cache, err)
		}
	}
	if _, err := rowseal.New(w.keys, rowseal.Config{KeyCache: rowseal.KeyCache{Keys: 1}, WriteOnly: true}); err == nil {
		t.Error("a cache of keys in a program that opens none")
	}
	// Without the table nobody knows what was revoked.
	ok(t, w.db.Exec("DROP TABLE rowseal_epochs").Error)
	fresh := w.also(t, w.keys, rowseal.Config{Models: []any{holderModel}, KeyCache: rowseal.KeyCache{Keys: 5}})
	err := fresh.First(&Holder{}).Error
	if !errors.Is(err, kmskey.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "migrations.Up") {
		t.Errorf("without rowseal_epochs: %v", err)
	}
}
