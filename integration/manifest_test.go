package integration

// manifest_test.go owns rotations by the manifest alone: that identities and contexts are those of the Go models, on every database.

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

type (
	// ManText, ManPair, … have the kinds of primary key that there are.
	ManText struct {
		Code string `gorm:"primaryKey;size:64"`
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManPair struct {
		Tenant string `gorm:"primaryKey;size:40"`
		N      int64  `gorm:"primaryKey;autoIncrement:false"`
		Yes    bool   `gorm:"primaryKey"`
		Name   string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManUUID struct {
		ID   uuid.UUID `gorm:"primaryKey;type:char(36)"`
		Name string    `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManNativeUUID struct {
		ID   uuid.UUID `gorm:"primaryKey;type:uuid"`
		Name string    `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManTextUUID struct {
		ID   string `gorm:"primaryKey;type:uuid"`
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManRaw struct {
		ID   rawID  `gorm:"primaryKey"`
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManHash struct {
		Hash []byte `gorm:"primaryKey;size:32"`
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	ManLarge struct {
		ID   uint64 `gorm:"primaryKey;autoIncrement:false"`
		Name string `gorm:"serializer:rowseal"`
		rowseal.RowKey
	}
	// ManFull has everything that a context may hold, and two keys under other names.
	ManFull struct {
		ID     uint64
		Tenant uuid.UUID `gorm:"type:char(36)"`
		Ward   *string
		Beds   int32
		Open   bool
		Mark   []byte
		Name   string  `gorm:"serializer:rowseal"`
		Phone  *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey,text"`
		rowseal.RowKey
		PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" rowseal:"name=telephone" json:"-"`
	}
)

// rawID stores a UUID as its 16 bytes.
type rawID [16]byte

func (r rawID) Value() (driver.Value, error) { return append([]byte(nil), r[:]...), nil }

func (r *rawID) Scan(src any) error {
	b, ok := src.([]byte)
	if !ok || copy(r[:], b) != 16 {
		return fmt.Errorf("a %T of %d bytes", src, len(b))
	}
	return nil
}

func (rawID) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Name() == "postgres" {
		return "bytea"
	}
	return "varbinary(16)"
}

// manifested is a table that its application knows, and a rotator that has the manifest alone.
type manifested struct {
	w         *world
	providers map[int]kmskey.Provider
	model     any
}

var manConstants = map[int]map[string]string{2: {"environment": "test"}}

func (m *manifested) keys(t testing.TB, current int, numbers ...int) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Namespace: "manifest/test", Versions: map[int]kmskey.Version{}}
	for _, n := range numbers {
		cfg.Versions[n] = kmskey.Version{Provider: m.providers[n], Constants: manConstants[n]}
	}
	keys, err := kmskey.New(cfg)
	ok(t, err)
	return keys
}

func newManifested(t testing.TB, kind string, model any) *manifested {
	t.Helper()
	next, err := localkey.Generate(t.TempDir() + "/next")
	ok(t, err)
	m := &manifested{providers: map[int]kmskey.Provider{1: localkey.NewInsecure(), 2: next}, model: model}
	m.w = openWith(t, kind, m.keys(t, 1, 1, 2), rowseal.Config{Models: []any{model}}, &gorm.Config{})
	_, err = migrations.Up(t.Context(), m.w.db)
	ok(t, err)
	return m
}

// bare is a *gorm.DB without the plugin.
func (m *manifested) bare(t testing.TB) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector(m.w.kind, m.w.plain), &gorm.Config{Logger: m.w.db.Logger})
	ok(t, err)
	return db
}

func (m *manifested) manifest(t testing.TB) *rotation.ManifestModel {
	t.Helper()
	text, err := rowseal.Manifest(m.w.db)
	ok(t, err)
	parsed, err := rotation.ParseManifest(text)
	ok(t, err)
	return parsed.Models[0]
}

// only is the application at version 2 alone.
func (m *manifested) only(t testing.TB, model any) *gorm.DB {
	t.Helper()
	db := m.bare(t)
	plugin, err := rowseal.New(m.keys(t, 2, 2), rowseal.Config{Models: []any{model}})
	ok(t, err)
	ok(t, db.Use(plugin))
	return db
}

func byManifest[T any](t *testing.T, kind string, rows int, row func(i int) T, holds func(i int, row T) bool) {
	t.Helper()
	t.Run(strings.TrimPrefix(fmt.Sprintf("%T", *new(T)), "integration."), func(t *testing.T) {
		m := newManifested(t, kind, new(T))
		all := []T{}
		for i := range rows {
			all = append(all, row(i))
		}
		ok(t, m.w.db.CreateInBatches(&all, 100).Error)
		model := m.manifest(t)
		held, err := rotation.Status(t.Context(), m.bare(t), model, rotation.Config{Keys: m.keys(t, 2, 1, 2)})
		ok(t, err)
		if len(held) != 1 || held[0].Version != 1 || held[0].Rows != int64(rows) {
			t.Errorf("%+v", held)
		}
		report, err := rotation.RotateKMSKey(t.Context(), m.bare(t), model, rotation.Config{Keys: m.keys(t, 2, 1, 2), MaxPage: 60})
		ok(t, err)
		addsUp(t, report)
		if report.Rewrapped != int64(rows) || report.Model != model.Name {
			t.Errorf("%+v", report)
		}
		found, err := rotation.Verify(t.Context(), m.bare(t), model, 0, rotation.Config{Keys: m.keys(t, 2, 2)})
		ok(t, err)
		if !found.Clean() || found.Keys != int64(rows) || found.Fields != int64(rows) {
			t.Errorf("%+v", found)
		}
		db := m.only(t, new(T))
		for i := range rows {
			got := row(i)
			ok(t, db.Take(&got).Error)
			if !holds(i, got) {
				t.Fatalf("row %d: %+v", i, got)
			}
		}
	})
}

func TestManifestRotatesAnyPrimaryKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const n = 130
		name := func(i int) string { return fmt.Sprint("name ", i) }
		id := numbered
		byManifest(t, kind, n, func(i int) ManText {
			return ManText{Code: fmt.Sprintf("k%c'\"\\{},%d é", 'a'+i%26, i), Name: name(i)}
		}, func(i int, r ManText) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManPair {
			return ManPair{Tenant: fmt.Sprint("t", i%7), N: int64(-1 - i), Yes: i%2 == 0, Name: name(i)}
		}, func(i int, r ManPair) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManUUID { return ManUUID{ID: id(i), Name: name(i)} }, func(i int, r ManUUID) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManRaw { return ManRaw{ID: rawID(id(i)), Name: name(i)} }, func(i int, r ManRaw) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManHash { h := id(i); return ManHash{Hash: append(h[:], 0, 0xFF, 'x'), Name: name(i)} }, func(i int, r ManHash) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManLarge {
			large := uint64(i)<<40 + 1
			if isMySQL(kind) {
				large = math.MaxUint64 - uint64(i)
			}
			return ManLarge{ID: large, Name: name(i)}
		}, func(i int, r ManLarge) bool { return r.Name == name(i) })
		if isMySQL(kind) {
			return // whose uuid type is MariaDB's alone
		}
		byManifest(t, kind, n, func(i int) ManNativeUUID { return ManNativeUUID{ID: id(i), Name: name(i)} }, func(i int, r ManNativeUUID) bool { return r.Name == name(i) })
		byManifest(t, kind, n, func(i int) ManTextUUID {
			text := id(i).String()
			if i%2 == 0 {
				text = strings.ToUpper(text)
			}
			return ManTextUUID{ID: text, Name: name(i)}
		}, func(i int, r ManTextUUID) bool { return r.Name == name(i) })
	})
}

func TestManifestRotatesAnyContext(t *testing.T) {
	everything := rowseal.Context{Columns: []string{"tenant", "ward", "beds", "open", "mark"}, Constants: map[string]string{"purpose": "care"}}
	omit := rowseal.Context{OmitID: true, Columns: []string{"tenant"}}
	for name, model := range map[string]rowseal.Model{
		"one for all":          {Name: "Full", Context: everything},
		"columns come":         {Name: "Full", Contexts: map[int]rowseal.Context{2: everything}},
		"columns go":           {Name: "Full", Context: everything, Contexts: map[int]rowseal.Context{2: rowseal.Columns("open")}},
		"without id":           {Context: omit},
		"without id no longer": {Context: omit, Contexts: map[int]rowseal.Context{2: everything}},
		"without id from now":  {Context: everything, Contexts: map[int]rowseal.Context{2: omit}},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				model := model
				model.Value = &ManFull{}
				m := newManifested(t, kind, model)
				const rows = 40
				var all []ManFull
				for i := range rows {
					all = append(all, ManFull{Tenant: numbered(i), Ward: new(fmt.Sprint("Ward é ", i)), Beds: int32(i - 20), Open: i%2 == 0, Mark: []byte{byte(i), 0, 0xFF},
						Name: fmt.Sprint("name ", i), Phone: new(fmt.Sprint("phone ", i))})
				}
				ok(t, m.w.db.Create(&all).Error)
				// A run that the application began, and was stopped in, goes on without it.
				ctx, cancel := context.WithCancel(t.Context())
				_, err := rotation.RotateKMSKey(ctx, m.bare(t), model, rotation.Config{Keys: m.keys(t, 2, 1, 2), Rate: 20, Progress: func(rotation.Progress) { cancel() }})
				cancel()
				if !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				planned, err := rotation.Plan(t.Context(), m.bare(t), m.manifest(t), rotation.Config{Keys: m.keys(t, 2, 1, 2)})
				ok(t, err)
				report, err := rotation.RotateKMSKey(t.Context(), m.bare(t), m.manifest(t), rotation.Config{Keys: m.keys(t, 2, 1, 2)})
				ok(t, err)
				addsUp(t, report)
				if report.Seen != 2*rows || report.Rewrapped != 2*rows || planned.Active == nil || planned.Active.ID != report.Run || planned.PerKey != 2 || planned.Keys+planned.Current != 2*rows {
					t.Errorf("%+v %+v", report, planned)
				}
				found, err := rotation.Verify(t.Context(), m.bare(t), m.manifest(t), 0, rotation.Config{Keys: m.keys(t, 2, 2)})
				ok(t, err)
				if !found.Clean() || found.Keys != 2*rows || found.Fields != 2*rows {
					t.Errorf("%+v", found)
				}
				var got []ManFull
				ok(t, m.only(t, model).Order("id").Find(&got).Error)
				for i, r := range got {
					if r.Name != fmt.Sprint("name ", i) || *r.Phone != fmt.Sprint("phone ", i) {
						t.Fatalf("%+v", r)
					}
				}
				if len(got) != rows {
					t.Errorf("%d rows", len(got))
				}
			})
		})
	}
}

// TestPlanWritesNothing: nor does it need the ledger.
func TestPlanWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		m := newManifested(t, kind, &ManText{})
		for i := range 12 {
			ok(t, m.w.db.Create(&ManText{Code: fmt.Sprint(i), Name: "x"}).Error)
		}
		_, err := migrations.Down(t.Context(), m.w.db, 0)
		ok(t, err)
		m.w.dropChecks(t, &ManText{})
		m.w.tamper(t, "UPDATE man_texts SET encrypted_kms_key = 'nonsense' WHERE code = '3'")
		before := m.w.dump(t, "man_texts")
		planned, err := rotation.Plan(t.Context(), m.bare(t), m.manifest(t), rotation.Config{Keys: m.keys(t, 2, 1, 2)})
		ok(t, err)
		if planned.Keys != 11 || planned.Broken != 1 || planned.PerKey != 2 || planned.Calls != 22 || !planned.Exposes || planned.Ledger || planned.Active != nil || planned.Version != 2 || planned.Target != "man_texts: encrypted_kms_key" {
			t.Errorf("%+v", planned)
		}
		if m.w.dump(t, "man_texts") != before {
			t.Error("the table changed")
		}
		_, err = rotation.RotateKMSKey(t.Context(), m.bare(t), m.manifest(t), rotation.Config{Keys: m.keys(t, 2, 1, 2)})
		fails(t, err, rotation.ErrNoLedger, "rowseal migrate up")
	})
}
