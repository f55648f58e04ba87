package integration

// bound_test.go owns one promise: a ciphertext opens only in its model, column and row, and only through a plugin that knows the
// model.

import (
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type BoundRow struct {
	ID     uint64
	Ward   string
	First  string                 `gorm:"serializer:rowseal"`
	Second string                 `gorm:"serializer:rowseal"`
	Third  rowseal.Secret[string] // opened later
	rowseal.RowKey
}

// BoundTwin has the columns of BoundRow.
type BoundTwin struct {
	ID     uint64
	Ward   string
	First  string `gorm:"serializer:rowseal"`
	Second string `gorm:"serializer:rowseal"`
	Third  rowseal.Secret[string]
	rowseal.RowKey
}

func bound(t testing.TB, db *gorm.DB) uint64 {
	t.Helper()
	r := BoundRow{Ward: "7", First: "one", Second: "two", Third: rowseal.NewSecret("three")}
	ok(t, db.Create(&r).Error)
	return r.ID
}

const set = "UPDATE bound_rows SET "

func TestBoundToItsColumn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		id := bound(t, w.db)
		first, second := w.cell(t, "bound_rows", "first", id), w.cell(t, "bound_rows", "second", id)
		w.tamper(t, set+"first = ?, second = ? WHERE id = ?", second, first, id)
		var r BoundRow
		err := w.db.Take(&r, id).Error
		fails(t, err, field.ErrNotAuthentic, fmt.Sprintf("BoundRow %d", id), "first", "second")
		if r.First != "" || r.Second != "" || r.Ward != "7" {
			t.Fatalf("read %+v", r)
		}
	})
}

func TestBoundToItsColumnAsASecret(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		id := bound(t, w.db)
		w.tamper(t, set+"third = first WHERE id = ?", id)
		r := load[BoundRow](t, w.db, id)
		_, err := r.Third.Get(t.Context())
		fails(t, err, field.ErrNotAuthentic, "BoundRow.Third")
		fails(t, rowseal.Open(t.Context(), w.db, &r), field.ErrNotAuthentic, fmt.Sprintf("BoundRow %d", id), "BoundRow.Third")
	})
}

func TestBoundToItsRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		a, b := bound(t, w.db), bound(t, w.db)
		first, key := w.cell(t, "bound_rows", "first", a), string(w.cell(t, "bound_rows", "encrypted_kms_key", a))
		w.tamper(t, set+"first = ? WHERE id = ?", first, b)
		var r BoundRow
		fails(t, w.db.Take(&r, b).Error, field.ErrNotAuthentic, fmt.Sprintf("BoundRow %d", b), "first")
		if r.First != "" || r.Second != "two" {
			t.Fatalf("read %+v", r)
		}
		// The key along with the field: the service refuses its context.
		w.tamper(t, set+"encrypted_kms_key = ? WHERE id = ?", key, b)
		r = BoundRow{}
		fails(t, w.db.Take(&r, b).Error, kmskey.ErrContextMismatch, fmt.Sprintf("BoundRow %d", b), "encrypted_kms_key")
		if r.First != "" {
			t.Fatalf("read %+v", r)
		}
		if r := load[BoundRow](t, w.db, a); r.First != "one" {
			t.Fatalf("read %+v", r)
		}
	})
}

// Someone who may re-encrypt at the key service moves a key to another row's context. The commitment still names the first row.
func TestBoundToItsRowWhateverTheKeyServiceSays(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		a, b := bound(t, w.db), bound(t, w.db)
		env, err := kmskey.ParseEnvelope(string(w.cell(t, "bound_rows", "encrypted_kms_key", a)))
		ok(t, err)
		// The same row in the commitment, another one in the context.
		from, to := boundTo(a, a), boundTo(b, a)
		moved, err := w.keys.Rewrap(t.Context(), env, from, to)
		ok(t, err)
		w.tamper(t, set+"encrypted_kms_key = ?, first = ? WHERE id = ?", moved.String(), w.cell(t, "bound_rows", "first", a), b)
		var r BoundRow
		fails(t, w.db.Take(&r, b).Error, kmskey.ErrCommitment, fmt.Sprintf("BoundRow %d", b), "encrypted_kms_key")
		if r.First != "" {
			t.Fatalf("read %+v", r)
		}
	})
}

// boundTo is a row with the context of one id and the commitment of another.
func boundTo(contextID, id uint64) kmskey.Row {
	return kmskey.Row{Model: "BoundRow", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Uint(id)}, Context: func(int) ([]kmskey.Pair, error) {
		return []kmskey.Pair{{Name: "model_name", Value: kmskey.Text("BoundRow")}, {Name: "model_id", Value: kmskey.Uint(contextID)}}, nil
	}}
}

func TestBoundToItsModel(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{}, &BoundTwin{})
		id := bound(t, w.db)
		twin := BoundTwin{ID: id, First: "eins", Second: "zwei"}
		ok(t, w.db.Create(&twin).Error)
		w.tamper(t, "UPDATE bound_twins SET first = (SELECT first FROM bound_rows)")
		var r BoundTwin
		fails(t, w.db.Take(&r, id).Error, field.ErrNotAuthentic, fmt.Sprintf("BoundTwin %d", id), "first")
		w.tamper(t, "UPDATE bound_twins SET first = (SELECT first FROM bound_rows), encrypted_kms_key = (SELECT encrypted_kms_key FROM bound_rows)")
		r = BoundTwin{}
		fails(t, w.db.Take(&r, id).Error, kmskey.ErrContextMismatch, fmt.Sprintf("BoundTwin %d", id), "encrypted_kms_key")
		if r.First != "" {
			t.Fatalf("read %+v", r)
		}
	})
}

// With a context that says nothing, only the commitment is left.
func TestBoundByCommitmentWhereTheContextIsConstant(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundConstant{}, &BoundConstantTwin{})
		rows := []*BoundConstant{{ID: "a", Body: "of a"}, {ID: "b", Body: "of b"}}
		ok(t, w.db.Create(rows).Error)
		ok(t, w.db.Create(&BoundConstantTwin{ID: "a", Body: "of twin"}).Error)
		w.tamper(t, "UPDATE bound_constants SET body = (SELECT body FROM bound_constants WHERE id = 'a'), encrypted_kms_key = (SELECT encrypted_kms_key FROM bound_constants WHERE id = 'a') WHERE id = 'b'")
		var r BoundConstant
		fails(t, w.db.Take(&r, "id = ?", "b").Error, kmskey.ErrCommitment, "BoundConstant b", "encrypted_kms_key")
		w.tamper(t, "UPDATE bound_constant_twins SET body = (SELECT body FROM bound_constants WHERE id = 'a'), encrypted_kms_key = (SELECT encrypted_kms_key FROM bound_constants WHERE id = 'a')")
		var twin BoundConstantTwin
		fails(t, w.db.Take(&twin, "id = ?", "a").Error, kmskey.ErrCommitment, "BoundConstantTwin a", "encrypted_kms_key")
		if r.Body != "" || twin.Body != "" {
			t.Fatalf("read %q, %q", r.Body, twin.Body)
		}
	})
}

type BoundConstant struct {
	ID   string `gorm:"primaryKey"`
	Body string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (*BoundConstant) KMSContext(int) ([]rowseal.Pair, error) { return nil, nil }

type BoundConstantTwin struct {
	ID   string `gorm:"primaryKey"`
	Body string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (*BoundConstantTwin) KMSContext(int) ([]rowseal.Pair, error) { return nil, nil }

func namespace(t testing.TB, name string) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: name})
	ok(t, err)
	return keys
}

func TestBoundToItsNamespace(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		config := rowseal.Config{Models: []any{&BoundRow{}}}
		w := openWith(t, kind, namespace(t, "clinic/production"), config, &gorm.Config{})
		id := bound(t, w.db)
		var r BoundRow
		err := w.also(t, namespace(t, "clinic/test"), config).Take(&r, id).Error
		fails(t, err, kmskey.ErrCommitment, fmt.Sprintf("BoundRow %d", id), "encrypted_kms_key", "namespace")
		if r.First != "" || r.Ward != "7" {
			t.Fatalf("read %+v", r)
		}
	})
}

func TestBoundToItsKeyring(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		config := rowseal.Config{Models: []any{&BoundRow{}}}
		own, err := localkey.New([]byte("0123456789abcdef0123456789abcdef"), localkey.Config{})
		ok(t, err)
		keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: own}}})
		ok(t, err)
		w1, w2 := openWith(t, kind, namespace(t, "test"), config, &gorm.Config{}), openWith(t, kind, keys, config, &gorm.Config{})
		id := bound(t, w1.db)
		r := load[BoundRow](t, w1.db, id)
		// The same struct to the other database: no row there, so nothing is written; then a row of its own, under that database's key.
		c := r
		if result := w2.db.Model(&c).Update("first", "x"); result.Error != nil || result.RowsAffected != 0 {
			t.Fatalf("%d rows, error %v", result.RowsAffected, result.Error)
		}
		_, err = r.Third.Get(t.Context())
		ok(t, err)
		if err := w2.db.Save(&r).Error; err != nil {
			t.Fatal(err)
		}
		for _, db := range []*gorm.DB{w1.db, w2.db} {
			got := load[BoundRow](t, db, id)
			third, err := got.Third.Get(t.Context())
			ok(t, err)
			if got.First != "one" || got.Second != "two" || third != "three" {
				t.Fatalf("read %+v, %q", got, third)
			}
		}
		// And back.
		r.Second = "zwei"
		ok(t, w1.db.Save(&r).Error)
		if got := load[BoundRow](t, w1.db, id); got.Second != "zwei" {
			t.Fatalf("read %+v", got)
		}
	})
}

func TestBoundToItsKeyringOnOneTable(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		config := rowseal.Config{Models: []any{&BoundRow{}}}
		w := openWith(t, kind, namespace(t, "test"), config, &gorm.Config{})
		stranger := w.also(t, namespace(t, "other"), config)
		id := bound(t, w.db)
		r := load[BoundRow](t, w.db, id)
		fails(t, stranger.Model(&r).Update("first", "x").Error, kmskey.ErrCommitment, fmt.Sprintf("BoundRow %d", id))
		fails(t, rowseal.Rotate(t.Context(), w.db, &BoundRow{}), rowseal.ErrIdentity)
		if got := load[BoundRow](t, w.db, id); got.First != "one" {
			t.Fatalf("read %+v", got)
		}
	})
}

func TestBoundToThePlugin(t *testing.T) {
	paths := map[string]func(db *gorm.DB) error{
		"Create":      func(db *gorm.DB) error { return db.Create(&BoundRow{First: "canary"}).Error },
		"CreateSlice": func(db *gorm.DB) error { return db.Create(&[]BoundRow{{First: "canary"}}).Error },
		"CreateMap":   func(db *gorm.DB) error { return db.Model(&BoundRow{}).Create(map[string]any{"first": "canary"}).Error },
		"Save":        func(db *gorm.DB) error { return db.Save(&BoundRow{ID: 1, First: "canary"}).Error },
		"Update":      func(db *gorm.DB) error { return db.Model(&BoundRow{ID: 1}).Update("first", "canary").Error },
		"UpdatesMap": func(db *gorm.DB) error {
			return db.Model(&BoundRow{ID: 1}).Updates(map[string]any{"first": "canary"}).Error
		},
		"UpdateColumn": func(db *gorm.DB) error { return db.Model(&BoundRow{ID: 1}).UpdateColumn("first", "canary").Error },
		"Unscoped":     func(db *gorm.DB) error { return db.Unscoped().Create(&BoundRow{First: "canary"}).Error },
		"UnscopedUpdate": func(db *gorm.DB) error {
			return db.Unscoped().Model(&BoundRow{ID: 1}).Updates(map[string]any{"first": "canary"}).Error
		},
		"First":         func(db *gorm.DB) error { return db.First(&BoundRow{}).Error },
		"Find":          func(db *gorm.DB) error { return db.Find(&[]BoundRow{}).Error },
		"UnscopedFind":  func(db *gorm.DB) error { return db.Unscoped().Find(&[]BoundRow{}).Error },
		"RawFind":       func(db *gorm.DB) error { return db.Raw("SELECT * FROM bound_rows").Find(&[]BoundRow{}).Error },
		"Condition":     func(db *gorm.DB) error { return db.Where(&BoundRow{First: "canary"}).Find(&[]BoundRow{}).Error },
		"FirstOrCreate": func(db *gorm.DB) error { return db.FirstOrCreate(&BoundRow{}, BoundRow{First: "canary"}).Error },
	}
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		id := bound(t, w.db)
		before := w.dump(t, "bound_rows")
		for how, path := range paths {
			t.Run(how+" without a plugin", func(t *testing.T) {
				fails(t, path(w.bare(t)), rowseal.ErrNoPlugin, "BoundRow")
			})
			t.Run(how+" of a model that is not registered", func(t *testing.T) {
				err := path(w.also(t, w.keys, rowseal.Config{}))
				fails(t, err, rowseal.ErrModel, "BoundRow", "not registered", "Config.Models")
			})
		}
		if after := w.dump(t, "bound_rows"); after != before {
			t.Fatalf("the table changed:\n%s", after)
		}
		scanned := w.bare(t).Raw("SELECT * FROM bound_rows").Scan(&[]BoundRow{}).Error
		fails(t, scanned, rowseal.ErrUnsupported, "BoundRow")
		fails(t, rowseal.Rotate(t.Context(), w.bare(t), &BoundRow{ID: id}), rowseal.ErrNoPlugin, "BoundRow")
		fails(t, rowseal.Open(t.Context(), w.bare(t), &BoundRow{ID: id}), rowseal.ErrNoPlugin, "BoundRow")
	})
}

func TestBoundPluginServesOneDB(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &BoundRow{})
		plugin := w.db.Plugins["rowseal"]
		if err := w.bare(t).Use(plugin); err == nil {
			t.Fatal("one plugin on two databases")
		}
	})
}
