package integration

// context_test.go owns what a row's key is bound to at the key service: declared columns, methods, constants, versions and names,
// and every kind of primary key.

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type ContextDoc struct {
	ID       uint64
	TenantID string
	Title    string
	Body     string `gorm:"serializer:rowseal"`
	Extra    string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// ContextNote has a single sealed field, so that every write of it replaces the key.
type ContextNote struct {
	ID       uint64
	TenantID string
	Title    string
	Body     *string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func tenants(value any) rowseal.Model {
	return rowseal.Model{Value: value, Context: rowseal.Columns("tenant_id")}
}

// opened is a world for one registered model.
func opened(t testing.TB, kind string, m rowseal.Model) *world { return open(t, kind, m) }

func doc(t testing.TB, w *world) uint64 {
	t.Helper()
	d := ContextDoc{TenantID: "acme", Title: "t", Body: "body", Extra: "extra"}
	ok(t, w.db.Create(&d).Error)
	return d.ID
}

func note(t testing.TB, w *world) uint64 {
	t.Helper()
	n := ContextNote{TenantID: "acme", Title: "t", Body: new("body")}
	ok(t, w.db.Create(&n).Error)
	return n.ID
}

// bodies reads a row anew, with whatever context its columns say now.
func bodies(t testing.TB, w *world, id uint64, tenant, body, extra string) {
	t.Helper()
	d := load[ContextDoc](t, w.db, id)
	if d.TenantID != tenant || d.Body != body || d.Extra != extra {
		t.Fatalf("row %d holds %q, %q, %q; want %q, %q, %q", id, d.TenantID, d.Body, d.Extra, tenant, body, extra)
	}
}

func noted(t testing.TB, w *world, id uint64, tenant, body string) {
	t.Helper()
	n := load[ContextNote](t, w.db, id)
	if n.TenantID != tenant || n.Body == nil || *n.Body != body {
		t.Fatalf("row %d holds %q, %v; want %q, %q", id, n.TenantID, n.Body, tenant, body)
	}
}

func TestContextColumnsAreAlwaysSelected(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, tenants(&ContextDoc{}))
		id := doc(t, w)
		var byName, omitting ContextDoc
		ok(t, w.db.Select("body").Take(&byName, id).Error)
		ok(t, w.db.Omit("tenant_id", "TenantID", "extra").Take(&omitting, id).Error)
		if byName.Body != "body" || omitting.Body != "body" {
			t.Fatalf("read %q and %q", byName.Body, omitting.Body)
		}
	})
}

func TestContextColumnsAreAlwaysInserted(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, tenants(&ContextDoc{}))
		for _, db := range []*gorm.DB{w.db.Select("body"), w.db.Select("Body", "Title"), w.db.Omit("tenant_id", "extra"), w.db.Omit("TenantID", "Extra")} {
			d := ContextDoc{TenantID: "acme", Body: "body"}
			ok(t, db.Create(&d).Error)
			bodies(t, w, d.ID, "acme", "body", "")
		}
	})
}

func TestContextColumnOfALoadedRowIsRewrappedInTheSameStatement(t *testing.T) {
	writes := map[string]func(db *gorm.DB, d *ContextDoc) error{
		"Save":   func(db *gorm.DB, d *ContextDoc) error { d.TenantID = "other"; return db.Save(d).Error },
		"Update": func(db *gorm.DB, d *ContextDoc) error { return db.Model(d).Update("tenant_id", "other").Error },
		"Updates": func(db *gorm.DB, d *ContextDoc) error {
			return db.Model(d).Updates(ContextDoc{TenantID: "other"}).Error
		},
		"Column": func(db *gorm.DB, d *ContextDoc) error { return db.Model(d).UpdateColumn("TenantID", "other").Error },
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, tenants(&ContextDoc{}))
				id := doc(t, w)
				d := load[ContextDoc](t, w.db, id)
				w.spy.Reset()
				ok(t, write(w.db, &d))
				if n := w.spy.Count("exec", "UPDATE"); n != 1 {
					t.Errorf("%d updates", n)
				}
				bodies(t, w, id, "other", "body", "extra")
				ok(t, w.db.Model(&d).Update("body", "new").Error)
				bodies(t, w, id, "other", "new", "extra")
			})
		}
	})
}

func TestContextColumnOfAnUnloadedRowIsRefused(t *testing.T) {
	writes := map[string]func(db *gorm.DB, id uint64) error{
		"Update": func(db *gorm.DB, id uint64) error {
			return db.Model(&ContextDoc{ID: id}).Update("tenant_id", "other").Error
		},
		"Updates": func(db *gorm.DB, id uint64) error {
			return db.Model(&ContextDoc{ID: id}).Updates(ContextDoc{TenantID: "other", Body: "new"}).Error
		},
		"Where": func(db *gorm.DB, id uint64) error {
			return db.Model(&ContextDoc{}).Where("id = ?", id).Update("tenant_id", "other").Error
		},
		"Table": func(db *gorm.DB, id uint64) error {
			return db.Table("context_docs").Where("id = ?", id).Update("tenant_id", "other").Error
		},
		"Expr": func(db *gorm.DB, id uint64) error {
			var d ContextDoc
			db.Take(&d, id)
			return db.Model(&d).Update("tenant_id", gorm.Expr("'other'")).Error
		},
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, tenants(&ContextDoc{}))
				id := doc(t, w)
				if err := write(w.db, id); err == nil || !strings.Contains(err.Error(), "tenant_id") {
					t.Errorf("error %v does not name the column", err)
				}
				bodies(t, w, id, "acme", "body", "extra")
			})
		}
	})
}

// ContextFile has a context of two columns, and two keys that are bound to them.
type ContextFile struct {
	ID       uint64
	TenantID string
	Region   string
	Body     string `gorm:"serializer:rowseal"`
	Phone    string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// ContextHouse has a key in a struct that is not there for every row.
type ContextHouse struct {
	ID       uint64
	TenantID string
	Street   string   `gorm:"serializer:rowseal"`
	Home     *KeysOwn `gorm:"embedded;embeddedPrefix:home_"`
	rowseal.RowKey
}

// A struct without an embedded one says nothing of the key that the row may have there.
func TestContextDoesNotMoveFromUnderAKeyThatTheStructLacks(t *testing.T) {
	writes := map[string]func(db *gorm.DB, id uint64) error{
		"not loaded": func(db *gorm.DB, id uint64) error {
			return db.Model(&ContextHouse{ID: id}).Updates(map[string]any{"tenant_id": "other", "street": "other"}).Error
		},
		"loaded, and set to nil": func(db *gorm.DB, id uint64) error {
			var h ContextHouse
			db.Take(&h, id)
			h.TenantID, h.Home = "other", nil
			return db.Save(&h).Error
		},
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, tenants(&ContextHouse{}))
				h := ContextHouse{TenantID: "acme", Street: "street", Home: &KeysOwn{Street: "home"}}
				ok(t, w.db.Create(&h).Error)
				fails(t, write(w.db, h.ID), rowseal.ErrContext, "home_key", "load the row")
				if now := load[ContextHouse](t, w.db, h.ID); now.TenantID != "acme" || now.Street != "street" || now.Home == nil || now.Home.Street != "home" {
					t.Errorf("the row holds %q, %q, %v", now.TenantID, now.Street, now.Home)
				}
				without := ContextHouse{TenantID: "acme", Street: "street"}
				ok(t, w.db.Create(&without).Error)
				ok(t, write(w.db, without.ID))
				if now := load[ContextHouse](t, w.db, without.ID); now.TenantID != "other" || now.Home != nil {
					t.Errorf("the row without it holds %q, %v", now.TenantID, now.Home)
				}
			})
		}
	})
}

// A statement that replaces what one key seals, or all of it, and knows no more than a part of the context, would leave keys behind that nothing opens.
func TestContextThatIsWrittenInPartLeavesNoKeyBehind(t *testing.T) {
	writes := map[string]func(db *gorm.DB, id uint64) error{
		"update of all fields and one of two columns": func(db *gorm.DB, id uint64) error {
			return db.Model(&ContextFile{ID: id}).Updates(map[string]any{"region": "us", "body": "other", "phone": "other"}).Error
		},
		"upsert of one of two keys": func(db *gorm.DB, id uint64) error {
			columns := clause.AssignmentColumns([]string{"tenant_id", "region", "body", "encrypted_kms_key"})
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: columns}).
				Create(&ContextFile{ID: id, TenantID: "other", Region: "us", Body: "other", Phone: "other"}).Error
		},
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, rowseal.Model{Value: &ContextFile{}, Context: rowseal.Columns("tenant_id", "region")})
				f := ContextFile{TenantID: "acme", Region: "eu", Body: "body", Phone: "phone"}
				ok(t, w.db.Create(&f).Error)
				fails(t, write(w.db, f.ID), rowseal.ErrContext, "load it")
				if now := load[ContextFile](t, w.db, f.ID); now.TenantID != "acme" || now.Region != "eu" || now.Body != "body" || now.Phone != "phone" {
					t.Errorf("the row holds %q, %q, %q, %q", now.TenantID, now.Region, now.Body, now.Phone)
				}
			})
		}
	})
}

// The struct names a row by its id alone; its other columns are zero, and are not the row's context.
func TestContextOfAnUnloadedRowIsReadFromTheDatabase(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		t.Run("one of two fields", func(t *testing.T) {
			w := opened(t, kind, tenants(&ContextDoc{}))
			id := doc(t, w)
			ok(t, w.db.Model(&ContextDoc{ID: id}).Update("body", "new").Error)
			bodies(t, w, id, "acme", "new", "extra")
		})
		t.Run("all fields", func(t *testing.T) {
			w := opened(t, kind, tenants(&ContextDoc{}))
			id := doc(t, w)
			ok(t, w.db.Model(&ContextDoc{ID: id}).Updates(map[string]any{"body": "new", "extra": "more"}).Error)
			bodies(t, w, id, "acme", "new", "more")
		})
		t.Run("the only field", func(t *testing.T) {
			w := opened(t, kind, tenants(&ContextNote{}))
			id := note(t, w)
			ok(t, w.db.Model(&ContextNote{ID: id}).Update("body", "new").Error)
			noted(t, w, id, "acme", "new")
		})
		t.Run("first key", func(t *testing.T) {
			w := opened(t, kind, tenants(&ContextDoc{}))
			w.tamper(t, "INSERT INTO context_docs (id, tenant_id) VALUES (?, ?)", 9, "acme")
			ok(t, w.db.Model(&ContextDoc{ID: 9, TenantID: "not saved"}).Update("body", "new").Error)
			bodies(t, w, 9, "acme", "new", "")
		})
	})
}

// What a retry of a transaction after a serialization failure does.
func TestContextColumnChangedAgainAfterARollbackIsRewrappedAgain(t *testing.T) {
	writes := map[string]func(tx *gorm.DB, d *ContextDoc) error{
		"Update": func(tx *gorm.DB, d *ContextDoc) error { return tx.Model(d).Update("tenant_id", "other").Error },
		"Save":   func(tx *gorm.DB, d *ContextDoc) error { d.TenantID = "other"; return tx.Save(d).Error },
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, tenants(&ContextDoc{}))
				id := doc(t, w)
				d := load[ContextDoc](t, w.db, id)
				fails(t, w.db.Transaction(func(tx *gorm.DB) error {
					ok(t, write(tx, &d))
					return errAbort
				}), errAbort)
				want := "other"
				if err := w.db.Transaction(func(tx *gorm.DB) error { return write(tx, &d) }); err != nil {
					fails(t, err, rowseal.ErrStaleKey, "ContextDoc")
					want = "acme"
				}
				bodies(t, w, id, want, "body", "extra")
			})
		}
	})
}

func TestContextColumnWrittenBackByAStaleWriterDoesNotBreakTheRow(t *testing.T) {
	writes := map[string]func(db *gorm.DB, d *ContextDoc) error{
		"Column": func(db *gorm.DB, d *ContextDoc) error {
			return db.Model(d).Updates(map[string]any{"title": "new", "tenant_id": d.TenantID}).Error
		},
		"Select": func(db *gorm.DB, d *ContextDoc) error { return db.Select("title", "tenant_id").Save(d).Error },
		"Save":   func(db *gorm.DB, d *ContextDoc) error { d.Title = "new"; return db.Save(d).Error },
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := opened(t, kind, tenants(&ContextDoc{}))
				id := doc(t, w)
				stale, first := load[ContextDoc](t, w.db, id), load[ContextDoc](t, w.db, id)
				ok(t, w.db.Model(&first).Update("tenant_id", "other").Error)
				if err := write(w.db, &stale); err != nil && !errors.Is(err, rowseal.ErrStaleKey) {
					t.Errorf("refused, with another error than ErrStaleKey: %v", err)
				}
				if d := load[ContextDoc](t, w.db, id); d.Body != "body" || d.Extra != "extra" {
					t.Fatalf("row holds %q, %q", d.Body, d.Extra)
				}
			})
		}
	})
}

func TestContextColumnOfARowWithNullsIsRewrapped(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, tenants(&ContextNote{}))
		n := ContextNote{TenantID: "acme"}
		ok(t, w.db.Create(&n).Error)
		a, b := load[ContextNote](t, w.db, n.ID), load[ContextNote](t, w.db, n.ID)
		a.TenantID = "other"
		ok(t, w.db.Save(&a).Error)
		b.Title = "new" // stale, and its tenant is the old one
		if err := w.db.Save(&b).Error; err != nil && !errors.Is(err, rowseal.ErrStaleKey) {
			t.Errorf("refused, with another error than ErrStaleKey: %v", err)
		}
		c := load[ContextNote](t, w.db, n.ID)
		ok(t, w.db.Model(&c).Update("body", "body").Error)
		noted(t, w, n.ID, c.TenantID, "body")
	})
}

func TestContextColumnDoesNotKeepARowWithoutKeyFromBeingSaved(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, tenants(&ContextDoc{}))
		// A row from before the model had sealed columns.
		w.tamper(t, "INSERT INTO context_docs (id, tenant_id, title) VALUES (?, ?, ?)", 9, "acme", "t")
		d := load[ContextDoc](t, w.db, 9)
		d.Title, d.Body = "new", "body"
		ok(t, w.db.Save(&d).Error)
		bodies(t, w, 9, "acme", "body", "")
	})
}

type ContextUnset struct {
	ID       uint64
	TenantID *string
	Title    string
	Body     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestContextColumnThatIsNullIsAnError(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, tenants(&ContextUnset{}))
		r := ContextUnset{Body: "body"}
		fails(t, w.db.Create(&r).Error, rowseal.ErrContext, "ContextUnset", "tenant_id")
		r.TenantID = new("acme")
		ok(t, w.db.Create(&r).Error)
		loaded := load[ContextUnset](t, w.db, r.ID)
		loaded.TenantID = nil
		fails(t, w.db.Save(&loaded).Error, rowseal.ErrContext, "ContextUnset", "tenant_id")
		if got := load[ContextUnset](t, w.db, r.ID); got.Body != "body" {
			t.Fatal(got.Body)
		}
		w.tamper(t, "UPDATE context_unsets SET tenant_id = NULL")
		var broken ContextUnset
		fails(t, w.db.Take(&broken, r.ID).Error, rowseal.ErrContext, "ContextUnset", "tenant_id")
	})
}

// A later version needs a column that older rows do not have yet.
func TestContextColumnOfALaterVersionMayBeNullUntilThen(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		v1, _, _ := generations(t)
		m := rowseal.Model{Value: &ContextUnset{}, Contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		w := openWith(t, kind, v1, rowseal.Config{Models: []any{m}}, &gorm.Config{})
		r := ContextUnset{Body: "body"}
		ok(t, w.db.Create(&r).Error)
		loaded := load[ContextUnset](t, w.db, r.ID)
		loaded.Title = "new"
		ok(t, w.db.Save(&loaded).Error)
		ok(t, w.db.Model(&loaded).Update("body", "other").Error)
		if got := load[ContextUnset](t, w.db, r.ID); got.Body != "other" || got.Title != "new" {
			t.Fatalf("row holds %q, %q", got.Title, got.Body)
		}
	})
}

type ContextMethod struct {
	ID       uint64
	TenantID string
	Body     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (c *ContextMethod) KMSContext(int) ([]rowseal.Pair, error) {
	return []rowseal.Pair{{Name: "tenant", Value: kmskey.Text(c.TenantID)}, {Name: "row", Value: kmskey.Uint(c.ID)}}, nil
}

func TestContextByMethodFollowsTheRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ContextMethod{})
		r := ContextMethod{TenantID: "acme", Body: "body"}
		ok(t, w.db.Create(&r).Error)
		loaded := load[ContextMethod](t, w.db, r.ID)
		loaded.TenantID = "other"
		ok(t, w.db.Save(&loaded).Error)
		if got := load[ContextMethod](t, w.db, r.ID); got.Body != "body" || got.TenantID != "other" {
			t.Fatalf("%+v", got)
		}
		ok(t, rowseal.Rotate(t.Context(), w.db, &loaded))
	})
}

func TestContextByMethodIsNotComputedFromARowThatWasNotLoaded(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ContextMethod{})
		r := ContextMethod{TenantID: "acme", Body: "body"}
		ok(t, w.db.Create(&r).Error)
		want := "new"
		if err := w.db.Model(&ContextMethod{ID: r.ID}).Update("body", "new").Error; err != nil {
			want = "body"
		}
		if got := load[ContextMethod](t, w.db, r.ID); got.Body != want {
			t.Fatalf("%+v", got)
		}
		if err := w.db.Model(&ContextMethod{ID: r.ID}).Update("tenant_id", "other").Error; err == nil {
			load[ContextMethod](t, w.db, r.ID)
		}
	})
}

// Any column may be part of a context that a method computes, so no statement may change it without the row.
func TestContextByMethodIsNotChangedForManyRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ContextMethod{})
		r := ContextMethod{TenantID: "acme", Body: "body"}
		ok(t, w.db.Create(&r).Error)
		if err := w.db.Model(&ContextMethod{}).Where("tenant_id = ?", "acme").Update("tenant_id", "other").Error; err != nil {
			t.Logf("refused: %v", err)
		}
		if got := load[ContextMethod](t, w.db, r.ID); got.Body != "body" {
			t.Fatalf("%+v", got)
		}
	})
}

func TestContextConstantsOfAVersionAreNeededToOpen(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		production := keyring(t, "production")
		w := openWith(t, kind, production, rowseal.Config{Models: []any{&ContextDoc{}}}, &gorm.Config{})
		id := doc(t, w)
		bodies(t, w, id, "acme", "body", "extra")
		var d ContextDoc
		err := w.also(t, keyring(t, "staging"), rowseal.Config{Models: []any{&ContextDoc{}}}).Take(&d, id).Error
		fails(t, err, kmskey.ErrContextMismatch, fmt.Sprintf("ContextDoc %d", id), "version 1")
	})
}

func keyring(t testing.TB, environment string) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{
		1: {Provider: localkey.NewInsecure(), Constants: map[string]string{"environment": environment}}}})
	ok(t, err)
	return keys
}

func TestContextWithoutIDIsWrappedBeforeOneInsert(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, rowseal.Model{Value: &ContextDoc{}, Context: rowseal.Context{OmitID: true}})
		d := ContextDoc{TenantID: "acme", Body: "body", Extra: "extra"}
		ok(t, w.db.Create(&d).Error)
		var kinds []string
		for _, e := range w.spy.Events() {
			if e.Kind != "close" {
				kinds = append(kinds, strings.ToLower(strings.TrimSpace(e.Kind+" "+strings.SplitN(e.SQL, " ", 2)[0])))
			}
		}
		if got := strings.Join(kinds, ", "); got != "kms, begin, query insert, commit" {
			t.Errorf("create did: %s", got)
		}
		bodies(t, w, d.ID, "acme", "body", "extra")
		ok(t, w.db.Model(&d).Update("body", "new").Error)
		ok(t, w.db.Model(&ContextDoc{ID: d.ID}).Updates(map[string]any{"body": "b", "extra": "e"}).Error)
		bodies(t, w, d.ID, "acme", "b", "e")
	})
}

type ContextHooked struct {
	ID       uint64
	TenantID string
	Body     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (c *ContextHooked) BeforeCreate(*gorm.DB) error { c.TenantID = "acme"; return nil }

func TestContextColumnSetByAHookIsTheOneWrapped(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, omit := range []bool{false, true} {
			w := opened(t, kind, rowseal.Model{Value: &ContextHooked{}, Context: rowseal.Context{Columns: []string{"tenant_id"}, OmitID: omit}})
			for _, id := range []uint64{0, 77} {
				r := ContextHooked{ID: id, Body: "body"}
				ok(t, w.db.Create(&r).Error)
				if got := load[ContextHooked](t, w.db, r.ID); got.Body != "body" || got.TenantID != "acme" {
					t.Fatalf("%+v", got)
				}
			}
		}
	})
}

func TestContextChangesWithTheVersion(t *testing.T) {
	contexts := map[string]map[int]rowseal.Context{
		"a column is added":   {2: rowseal.Columns("tenant_id")},
		"a column is dropped": {1: rowseal.Columns("tenant_id"), 2: {}},
		"the id is dropped":   {2: {OmitID: true}},
		"the id is added":     {1: {OmitID: true}, 2: {}},
	}
	each(t, func(t *testing.T, kind string) {
		for what, c := range contexts {
			t.Run(what, func(t *testing.T) {
				defer func() {
					if r := recover(); r != nil {
						t.Fatalf("panic: %v", r)
					}
				}()
				v1, v2, _ := generations(t)
				config := rowseal.Config{Models: []any{rowseal.Model{Value: &ContextDoc{}, Contexts: c}}}
				w := openWith(t, kind, v1, config, &gorm.Config{})
				db2 := w.also(t, v2, config)
				id := doc(t, w)
				if d := load[ContextDoc](t, db2, id); d.Body != "body" {
					t.Fatal(d.Body)
				}
				ok(t, rowseal.Rotate(t.Context(), db2, &ContextDoc{ID: id}))
				if key := w.cell(t, "context_docs", "encrypted_kms_key", id); !strings.HasPrefix(string(key), "v2:") {
					t.Fatalf("key is %.20q", key)
				}
				bodies(t, w, id, "acme", "body", "extra")
				if d := load[ContextDoc](t, db2, id); d.Body != "body" {
					t.Fatal(d.Body)
				}
				ok(t, db2.Model(&ContextDoc{ID: id}).Update("body", "new").Error)
				bodies(t, w, id, "acme", "new", "extra")
			})
		}
	})
}

type ContextRenamed struct {
	Number uint64      `gorm:"primaryKey;column:id"`
	Words  string      `gorm:"serializer:rowseal;column:words" rowseal:"name=body"`
	Extra  string      `gorm:"serializer:rowseal"`
	Key    rowseal.Key `gorm:"column:wrapped" rowseal:"name=encrypted_kms_key" json:"-"`
}

func (ContextRenamed) TableName() string { return "documents" }

func TestContextSurvivesRenamesOfTypeTableAndColumns(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := opened(t, kind, rowseal.Model{Value: &ContextDoc{}, Name: "Document"})
		id := doc(t, w)
		for _, ddl := range []string{"ALTER TABLE context_docs RENAME TO documents", "ALTER TABLE documents RENAME COLUMN body TO words", "ALTER TABLE documents RENAME COLUMN encrypted_kms_key TO wrapped"} {
			w.tamper(t, ddl)
		}
		db := w.also(t, w.keys, rowseal.Config{Models: []any{rowseal.Model{Value: &ContextRenamed{}, Name: "Document"}}})
		d := load[ContextRenamed](t, db, id)
		if d.Words != "body" || d.Extra != "extra" {
			t.Fatalf("read %q, %q", d.Words, d.Extra)
		}
		d.Words = "new"
		ok(t, db.Save(&d).Error)
		if d := load[ContextRenamed](t, db, id); d.Words != "new" || d.Extra != "extra" {
			t.Fatalf("read %q, %q", d.Words, d.Extra)
		}
	})
}

type KeysComposite struct {
	Clinic string `gorm:"primaryKey"`
	Number int64  `gorm:"primaryKey;autoIncrement:false"`
	Body   string `gorm:"serializer:rowseal"`
	Extra  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestKeysOfCompositePrimaryKeys(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &KeysComposite{})
		rows := []*KeysComposite{{Clinic: "a", Number: 1, Body: "a1"}, {Clinic: "a", Number: 0, Body: "a0"}, {Clinic: "a1", Number: 1, Body: "a11"}}
		ok(t, w.db.Create(rows).Error)
		for _, r := range rows {
			var got KeysComposite
			ok(t, w.db.Take(&got, "clinic = ? AND number = ?", r.Clinic, r.Number).Error)
			if got.Body != r.Body {
				t.Fatalf("%+v", got)
			}
			ok(t, w.db.Model(&got).Update("extra", r.Body+"x").Error)
			ok(t, rowseal.Rotate(t.Context(), w.db, &KeysComposite{Clinic: r.Clinic, Number: r.Number}))
			ok(t, w.db.Model(&KeysComposite{Clinic: r.Clinic, Number: r.Number}).Update("body", r.Body+"y").Error)
		}
		for _, r := range rows {
			var got KeysComposite
			ok(t, w.db.Take(&got, "clinic = ? AND number = ?", r.Clinic, r.Number).Error)
			if got.Body != r.Body+"y" || got.Extra != r.Body+"x" {
				t.Fatalf("%+v", got)
			}
		}
	})
}

// KeysSingle has one sealed field, so that every write of it replaces the key without reading the old one.
type KeysSingle struct {
	Clinic string `gorm:"primaryKey"`
	Number int64  `gorm:"primaryKey;autoIncrement:false"`
	Body   string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// GORM leaves parts of a primary key that are zero out of its conditions.
func TestKeysOfCompositePrimaryKeysWithAZeroPartAreNotWrittenToOtherRows(t *testing.T) {
	writes := map[string]func(db *gorm.DB) error{
		"a zero part": func(db *gorm.DB) error {
			return db.Model(&KeysSingle{Clinic: "a", Number: 0}).Update("body", "new").Error
		},
		"no part": func(db *gorm.DB) error {
			return db.Model(&KeysSingle{}).Where("clinic = ? AND number = 0", "a").Update("body", "new").Error
		},
	}
	each(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w := open(t, kind, &KeysSingle{})
				rows := []*KeysSingle{{Clinic: "a", Number: 1, Body: "a1"}, {Clinic: "a", Number: 0, Body: "a0"}}
				ok(t, w.db.Create(rows).Error)
				if err := write(w.db); err != nil {
					t.Logf("refused: %v", err)
				}
				var got KeysSingle
				ok(t, w.db.Take(&got, "clinic = ? AND number = ?", "a", 1).Error)
				if got.Body != "a1" {
					t.Fatalf("%+v", got)
				}
			})
		}
	})
}

type KeysUUID struct {
	ID   uuid.UUID `gorm:"type:uuid;primaryKey"`
	Body string    `gorm:"serializer:rowseal"`
	More string    `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (k *KeysUUID) BeforeCreate(*gorm.DB) error {
	if k.ID == uuid.Nil {
		k.ID = uuid.New()
	}
	return nil
}

type KeysUUIDText struct {
	ID   string `gorm:"type:uuid;primaryKey"`
	Body string `gorm:"serializer:rowseal"`
	More string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type KeysText struct {
	ID   string `gorm:"primaryKey"`
	Body string `gorm:"serializer:rowseal"`
	More string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestKeysOfUUIDsAndText(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &KeysUUID{}, &KeysUUIDText{}, &KeysText{})
		made, chosen := KeysUUID{Body: "made"}, KeysUUID{ID: uuid.New(), Body: "chosen"}
		ok(t, w.db.Create([]*KeysUUID{&made, &chosen}).Error)
		for _, r := range []KeysUUID{made, chosen} {
			got := load[KeysUUID](t, w.db, r.ID)
			if got.Body != r.Body || got.ID != r.ID {
				t.Fatalf("%+v", got)
			}
			ok(t, w.db.Model(&got).Update("body", "new").Error)
			ok(t, w.db.Model(&KeysUUID{ID: r.ID}).Update("more", "more").Error)
			ok(t, rowseal.Rotate(t.Context(), w.db, &KeysUUID{ID: r.ID}))
			if got := load[KeysUUID](t, w.db, r.ID); got.Body != "new" || got.More != "more" {
				t.Fatalf("%+v", got)
			}
		}
		// Postgres gives a uuid back in lower case.
		upper := strings.ToUpper(uuid.NewString())
		ok(t, w.db.Create(&KeysUUIDText{ID: upper, Body: "upper"}).Error)
		if got := load[KeysUUIDText](t, w.db, upper); got.Body != "upper" {
			t.Fatalf("%+v", got)
		}
		ok(t, w.db.Model(&KeysUUIDText{ID: upper}).Update("more", "more").Error)
		ids := []string{"a", " a", "1", "ü"}
		if !isMySQL(kind) {
			ids = append(ids, "A") // the same as "a" there
		}
		for _, id := range ids {
			ok(t, w.db.Create(&KeysText{ID: id, Body: "of " + id}).Error)
			ok(t, w.db.Model(&KeysText{ID: id}).Update("more", "more").Error)
			if got := load[KeysText](t, w.db, id); got.Body != "of "+id || got.More != "more" {
				t.Fatalf("%+v", got)
			}
		}
	})
}

type KeysPlace struct {
	City   string
	Street string `gorm:"serializer:rowseal"`
}

type KeysOwn struct {
	Street string      `gorm:"serializer:rowseal"`
	Key    rowseal.Key `gorm:"column:key" json:"-"`
}

type KeysEmbedded struct {
	ID       uint64
	TenantID string
	KeysPlace
	Home *KeysOwn `gorm:"embedded;embeddedPrefix:home_"`
	Work KeysOwn  `gorm:"embedded;embeddedPrefix:work_"`
	rowseal.RowKey
}

func TestKeysOfEmbeddedStructs(t *testing.T) {
	models := map[string]any{"default context": &KeysEmbedded{}, "context column": tenants(&KeysEmbedded{})}
	each(t, func(t *testing.T, kind string) {
		for what, m := range models {
			t.Run(what, func(t *testing.T) {
				w := open(t, kind, m)
				r := KeysEmbedded{TenantID: "acme", KeysPlace: KeysPlace{Street: "anonymous"}, Work: KeysOwn{Street: "work"}}
				ok(t, w.db.Create(&r).Error)
				r = load[KeysEmbedded](t, w.db, r.ID)
				if r.Home != nil || r.Street != "anonymous" || r.Work.Street != "work" {
					t.Fatalf("%+v", r)
				}
				r.City = "Berlin"
				ok(t, w.db.Save(&r).Error)
				r.Home = &KeysOwn{Street: "home"}
				ok(t, w.db.Save(&r).Error)
				r = load[KeysEmbedded](t, w.db, r.ID)
				if r.Home == nil || r.Home.Street != "home" || r.Street != "anonymous" || r.City != "Berlin" {
					t.Fatalf("%+v", r)
				}
				set := KeysEmbedded{TenantID: "acme", Home: &KeysOwn{Street: "at once"}}
				ok(t, w.db.Create([]*KeysEmbedded{&set, {TenantID: "acme"}}).Error)
				if got := load[KeysEmbedded](t, w.db, set.ID); got.Home == nil || got.Home.Street != "at once" {
					t.Fatalf("%+v", got)
				}
			})
		}
	})
}

func TestKeysOfOneRowOpenIndependently(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		id := ada(t, w.db)
		w.kms.Reset()
		ok(t, w.db.Model(&LostRow{ID: id}).Update("phone", "556").Error)
		if n := w.kms.Count("unwrap"); n != 0 {
			t.Errorf("%d unwraps to replace the only field under a key", n)
		}
		holds(t, w.db, id, "Ada", "likes numbers", "556")
		w.tamper(t, "UPDATE lost_rows SET encrypted_kms_key = encrypted_kms_key_phone")
		var r LostRow
		fails(t, w.db.Take(&r, id).Error, kmskey.ErrCommitment, "LostRow", "encrypted_kms_key")
		if r.Phone == nil || *r.Phone != "556" {
			t.Fatal("the other key's field did not open")
		}
	})
}

func TestKeysRotatedOpenWithoutTheOldVersion(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, rotator := ring(t, kind, &LostRow{})
		rotated, left := ada(t, w.db), ada(t, w.db)
		r := load[LostRow](t, rotator, rotated)
		r.Ward = "not saved"
		ok(t, rowseal.Rotate(t.Context(), rotator, &r))
		w.kms.Reset()
		ok(t, rowseal.Rotate(t.Context(), rotator, &r))
		if n := w.kms.Calls(); n != 0 {
			t.Errorf("%d calls for a row that is current", n)
		}
		only2, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{2: {Provider: w.kms, Constants: map[string]string{"generation": "two"}}}, Namespace: "test"})
		ok(t, err)
		db := w.also(t, only2, rowseal.Config{Models: []any{&LostRow{}}})
		holds(t, db, rotated, "Ada", "likes numbers", "555")
		ok(t, rotator.Model(&r).Update("name", "Grace").Error)
		holds(t, db, rotated, "Grace", "likes numbers", "555")
		if ward := w.cell(t, "lost_rows", "ward", rotated); string(ward) != "7" {
			t.Errorf("the rotation wrote ward %q", ward)
		}
		var old LostRow
		fails(t, db.Take(&old, left).Error, kmskey.ErrUnknownVersion, fmt.Sprintf("LostRow %d", left), "unknown key version 1", "encrypted_kms_key")
	})
}
