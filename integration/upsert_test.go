package integration

// upsert_test.go owns upserts into rows that keep their key: by another unique column than the primary key, and of part of a group. Every
// case ends with every row readable by somebody else, or with an error and the table as it was.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

var byCode = []clause.Column{{Name: "code"}}

// on is an upsert by the code, of all columns or of those that are named.
func onCode(columns ...string) clause.OnConflict {
	return clause.OnConflict{Columns: byCode, UpdateAll: len(columns) == 0, DoUpdates: clause.AssignmentColumns(columns)}
}

func lostRow(code, name string) *LostRow {
	return &LostRow{Ward: "8", Code: &code, Name: name, Notes: rowseal.NewSecret(name + "'s notes"), Phone: new(name + "'s phone")}
}

// people reads all rows in a session of its own: "code=name,notes,phone", by id.
func people(t testing.TB, db *gorm.DB) string {
	t.Helper()
	var rows []LostRow
	if err := db.Order("id").Find(&rows).Error; err != nil {
		t.Fatalf("LOST: %v", err)
	}
	var out []string
	for _, r := range rows {
		notes, err := r.Notes.Get(t.Context())
		ok(t, err)
		if r.Phone == nil {
			r.Phone = new("NULL")
		}
		if r.Code == nil {
			r.Code = new("NULL")
		}
		out = append(out, fmt.Sprintf("%s=%s,%s,%s", *r.Code, r.Name, notes, *r.Phone))
	}
	return strings.Join(out, " ")
}

// meanwhile runs f once, between the look-up of an upsert and its transaction.
func meanwhile(t testing.TB, w *world, f func()) {
	t.Helper()
	done := false
	ok(t, w.db.Callback().Create().After("rowseal:prepare_create").Before("gorm:begin_transaction").Register("meanwhile", func(*gorm.DB) {
		if !done {
			done = true
			f()
		}
	}))
}

func TestUpsertByAUniqueColumnWritesUnderTheRowsOwnKey(t *testing.T) {
	const a, b = "a=Ada,Ada's notes,Ada's phone", "b=Bob,Bob's notes,Bob's phone"
	for name, c := range map[string]struct {
		on     clause.OnConflict
		change func(r *LostRow)
		want   string
		ward   string
	}{
		"all columns":              {on: onCode(), want: "a=Grace,Grace's notes,Grace's phone " + b, ward: "8"},
		"one of a group":           {on: onCode("name"), want: "a=Grace,Ada's notes,Ada's phone " + b, ward: "7"},
		"a Secret":                 {on: onCode("notes"), want: "a=Ada,Grace's notes,Ada's phone " + b, ward: "7"},
		"a group":                  {on: onCode("phone"), want: "a=Ada,Ada's notes,Grace's phone " + b, ward: "7"},
		"a group and its key":      {on: onCode("phone", "encrypted_kms_key_phone"), want: "a=Ada,Ada's notes,Grace's phone " + b, ward: "7"},
		"sealed and plain columns": {on: onCode("ward", "name", "phone"), want: "a=Grace,Ada's notes,Grace's phone " + b, ward: "8"},
		"a constant beside": {on: clause.OnConflict{Columns: byCode, DoUpdates: append(clause.AssignmentColumns([]string{"name"}), clause.Assignments(map[string]any{"ward": "9"})...)},
			want: "a=Grace,Ada's notes,Ada's phone " + b, ward: "9"},
		"an expression beside": {on: clause.OnConflict{Columns: byCode, DoUpdates: append(clause.AssignmentColumns([]string{"name"}), clause.Assignments(map[string]any{"ward": gorm.Expr("lower(?)", "X")})...)},
			want: "a=Grace,Ada's notes,Ada's phone " + b, ward: "x"},
		"with the row's own id": {on: onCode(), change: func(r *LostRow) { r.ID = 1 }, want: "a=Grace,Grace's notes,Grace's phone " + b, ward: "8"},
		"NULL for a value":      {on: onCode("phone"), change: func(r *LostRow) { r.Phone = nil }, want: "a=Ada,Ada's notes,NULL " + b, ward: "7"},
		"by the id, part of a group": {on: clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"name"})}, change: func(r *LostRow) { r.ID = 1 },
			want: "a=Grace,Ada's notes,Ada's phone " + b, ward: "7"},
		"a code that is new": {on: onCode("name"), change: func(r *LostRow) { r.Code = new("c") }, want: a + " " + b + " c=Grace,Grace's notes,Grace's phone", ward: "7"},
		"NULL for a code":    {on: onCode(), change: func(r *LostRow) { r.Code = nil }, want: a + " " + b + " NULL=Grace,Grace's notes,Grace's phone", ward: "7"},
	} {
		t.Run(name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, kind string) {
				w, other := ring(t, kind, &LostRow{})
				for i, name := range []string{"Ada", "Bob"} {
					r := lostRow(string("ab"[i]), name)
					r.ID, r.Ward = uint64(i+1), "7"
					ok(t, w.db.Create(r).Error)
				}
				ok(t, rowseal.Rotate(t.Context(), other, &LostRow{ID: 1}))
				if kind == postgres {
					w.tamper(t, "SELECT setval(pg_get_serial_sequence('lost_rows', 'id'), 100)")
				}
				keys := string(w.cell(t, "lost_rows", "encrypted_kms_key", 1)) + string(w.cell(t, "lost_rows", "encrypted_kms_key_phone", 1))
				r := lostRow("a", "Grace")
				if c.change != nil {
					c.change(r)
				}
				ok(t, w.db.Clauses(c.on).Create(r).Error)
				if got := people(t, other); got != c.want {
					t.Errorf("the rows are\n%s, want\n%s", got, c.want)
				}
				if now := string(w.cell(t, "lost_rows", "encrypted_kms_key", 1)) + string(w.cell(t, "lost_rows", "encrypted_kms_key_phone", 1)); now != keys {
					t.Error("the row has other keys")
				}
				if ward := string(w.cell(t, "lost_rows", "ward", 1)); ward != c.ward {
					t.Errorf("ward is %q, want %q", ward, c.ward)
				}
				if strings.HasPrefix(c.want, a) != (r.ID != 1) {
					t.Errorf("the struct has id %d", r.ID)
				}
				// The struct goes on as the row's own.
				ok(t, w.db.Model(r).Update("name", "Edith").Error)
				r.Name, r.Phone = "Edith", new("0")
				ok(t, w.db.Save(r).Error)
				if got := load[LostRow](t, other, r.ID); got.Name != "Edith" || *got.Phone != "0" {
					t.Errorf("afterwards the row holds %q, %q", got.Name, *got.Phone)
				}
			})
		})
	}
}

func TestUpsertOfABatchTellsNewFromOld(t *testing.T) {
	const want = "a=Grace,Grace's notes,Ada's phone b=Bob,Bob's notes,Bob's phone d=Edith,Edith's notes,Dora's phone NULL=Nil,Nil's notes,Nil's phone c=Joan,Joan's notes,Joan's phone"
	eachDriver(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		ok(t, w.db.Create([]*LostRow{lostRow("a", "Ada"), lostRow("b", "Bob"), lostRow("d", "Dora")}).Error)
		null := lostRow("", "Nil")
		null.Code = nil
		rows := []*LostRow{null, lostRow("a", "Grace"), lostRow("c", "Joan"), lostRow("d", "Edith")}
		ok(t, w.db.Clauses(onCode("name", "notes")).Create(rows).Error)
		if got := people(t, other); got != want {
			t.Errorf("the rows are\n%s, want\n%s", got, want)
		}
		for _, r := range rows {
			if stored := load[LostRow](t, other, r.ID); stored.Name != r.Name {
				t.Errorf("the struct of %s has the id of %s", r.Name, stored.Name)
			}
		}
	})
}

// Half of 1000 rows are there: 500 keys are unwrapped and 500 made, before the transaction, and the sequence gives 500 ids.
func TestUpserting1000RowsOnPostgres(t *testing.T) {
	w := open(t, postgres, &LostRow{})
	var old, all []*LostRow
	for i := range 1000 {
		r := lostRow(fmt.Sprint(i), fmt.Sprint("new ", i))
		r.Phone = nil
		all = append(all, r)
		if i%2 == 0 {
			o := lostRow(fmt.Sprint(i), fmt.Sprint("old ", i))
			old = append(old, o)
		}
	}
	ok(t, w.db.Create(old).Error)
	w.spy.Reset()
	w.kms.Reset()
	ok(t, w.db.Clauses(onCode()).Create(all).Error)
	var order []string
	for _, kind := range shape(w) {
		if kind != "close" && (len(order) == 0 || order[len(order)-1] != kind) {
			order = append(order, kind)
		}
	}
	if !slices.Equal(order, []string{"query", "kms", "begin", "query", "commit"}) {
		t.Errorf("the order of events is %v", order)
	}
	if n := w.spy.Count("query", "union all"); n != 7 {
		t.Errorf("%d look-ups for 1000 rows, want 7", n)
	}
	for _, e := range w.spy.Events() {
		if strings.Contains(e.SQL, "nextval") && fmt.Sprint(e.Args[2]) != "500" {
			t.Errorf("the sequence gave %v ids, want 500", e.Args[2])
		}
	}
	if n := w.kms.Calls(); n != 2000 { // two keys for each row
		t.Errorf("%d calls to the key service, want 2000", n)
	}
	var got []LostRow
	ok(t, w.db.Order("id").Find(&got).Error)
	if len(got) != 1000 {
		t.Fatalf("%d rows", len(got))
	}
	for _, r := range got {
		if r.Name != "new "+*r.Code || r.Phone != nil {
			t.Fatalf("row %s holds %s", *r.Code, r.Name)
		}
	}
}

// What another writer does between the look-up and the statement.
func TestUpsertMeetsAnotherWriter(t *testing.T) {
	const old = "a=Ada,Ada's notes,Ada's phone"
	for name, c := range map[string]struct {
		unkeyed bool   // the row had no key
		code    string // what the upsert brings
		act     func(t *testing.T, w *world, other *gorm.DB)
		want    string // "" is an error, and what the other writer left
		left    string
	}{
		"a row is rotated": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, rowseal.Rotate(t.Context(), other, &LostRow{ID: 1}))
		}, left: old},
		"a row gets another data key": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			r := lostRow("a", "Edith")
			r.ID = 1
			ok(t, other.Save(r).Error)
		}, left: "a=Edith,Edith's notes,Edith's phone"},
		"a row is written under its own key": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Model(&LostRow{ID: 1}).Update("notes", "x").Error)
		}, want: "a=Grace,x,Ada's phone"},
		"a row is deleted": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Delete(&LostRow{ID: 1}).Error)
		}, want: "a=Grace,Grace's notes,Grace's phone"},
		"a row is deleted, and another put in its place": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Delete(&LostRow{ID: 1}).Error)
			r := lostRow("a", "Edith")
			r.ID = 50
			ok(t, other.Create(r).Error)
		}, left: "a=Edith,Edith's notes,Edith's phone"},
		"a row is deleted, and made anew with its id": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Delete(&LostRow{ID: 1}).Error)
			r := lostRow("a", "Edith")
			r.ID = 1
			ok(t, other.Create(r).Error)
		}, left: "a=Edith,Edith's notes,Edith's phone"},
		"a row is inserted": {code: "b", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Create(lostRow("b", "Edith")).Error)
		}, left: old + " b=Edith,Edith's notes,Edith's phone"},
		"a row without a key is inserted": {code: "b", act: func(t *testing.T, w *world, other *gorm.DB) {
			w.tamper(t, "INSERT INTO lost_rows (id, code, ward) VALUES (60, 'b', '7')")
		}, left: old + " b=,,NULL"},
		"a row changes its code": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Model(&LostRow{ID: 1}).Update("code", "z").Error)
		}, left: "z=Ada,Ada's notes,Ada's phone"},
		"two rows exchange their codes": {code: "a", act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Model(&LostRow{ID: 1}).Update("code", "z").Error)
			r := lostRow("a", "Edith")
			r.ID = 50
			ok(t, other.Create(r).Error)
		}, left: "z=Ada,Ada's notes,Ada's phone a=Edith,Edith's notes,Edith's phone"},
		"a row gets its first key": {code: "a", unkeyed: true, act: func(t *testing.T, w *world, other *gorm.DB) {
			ok(t, other.Model(&LostRow{ID: 1}).Updates(map[string]any{"name": "Edith", "notes": "x"}).Error)
		}, left: "a=Edith,x,NULL"},
		"nobody comes to a row without a key": {code: "a", unkeyed: true, act: func(t *testing.T, w *world, other *gorm.DB) {},
			want: "a=Grace,,NULL"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				w, other := ring(t, kind, &LostRow{})
				r := lostRow("a", "Ada")
				r.ID = 1
				ok(t, w.db.Create(r).Error)
				if c.unkeyed {
					w.tamper(t, "UPDATE lost_rows SET encrypted_kms_key = NULL, encrypted_kms_key_phone = NULL, name = NULL, notes = NULL, phone = NULL")
				}
				if kind == postgres {
					w.tamper(t, "SELECT setval(pg_get_serial_sequence('lost_rows', 'id'), 100)")
				}
				var middle string
				meanwhile(t, w, func() { c.act(t, w, other); middle = w.dump(t, "lost_rows ORDER BY id") })
				// A second row, which is new, shows whether all of a statement is undone.
				rows := []*LostRow{lostRow(c.code, "Grace"), lostRow("new", "Joan")}
				err := w.db.Clauses(onCode("name")).Create(rows).Error
				got := people(t, other)
				if c.want != "" {
					ok(t, err)
					got, _, _ = strings.Cut(got, " new=")
					if got = strings.TrimPrefix(got, "new=Joan,Joan's notes,Joan's phone "); got != c.want {
						t.Errorf("the rows are\n%s, want\n%s", got, c.want)
					}
					return
				}
				if err == nil {
					t.Fatal("no error")
				}
				if !strings.Contains(name, "changes its code") { // which the database itself refuses
					fails(t, err, rowseal.ErrStaleKey, "LostRow", "try again")
				}
				if got != c.left {
					t.Errorf("the rows are\n%s, want\n%s", got, c.left)
				}
				if after := w.dump(t, "lost_rows ORDER BY id"); after != middle {
					t.Errorf("the table changed:\n%s", difference(middle, after))
				}
				for _, r := range rows {
					clean(t, r)
				}
				// What was given back serves the next try.
				ok(t, w.db.Clauses(onCode("name")).Create(rows).Error)
				if got := people(t, other); !strings.Contains(got, c.code+"=Grace") || !strings.Contains(got, "new=Joan") {
					t.Errorf("the second try leaves\n%s", got)
				}
			})
		})
	}
}

func TestUpsertFromAStaleStructDoesNotUndoARotation(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, rotator := ring(t, kind, &LostRow{})
		r := lostRow("a", "Ada")
		ok(t, w.db.Create(r).Error)
		stale := load[LostRow](t, w.db, r.ID)
		_, err := stale.Notes.Get(t.Context())
		ok(t, err)
		ok(t, rowseal.Rotate(t.Context(), rotator, &LostRow{ID: r.ID}))
		stale.Name = "Grace"
		ok(t, w.db.Clauses(onCode("name")).Create(&stale).Error)
		if got := people(t, rotator); got != "a=Grace,Ada's notes,Ada's phone" {
			t.Errorf("the row is %s", got)
		}
		if key := w.cell(t, "lost_rows", "encrypted_kms_key", r.ID); !strings.HasPrefix(string(key), "v2:") {
			t.Errorf("the key is %.20q: the rotation is undone", key)
		}
	})
}

func TestUpsertOfAPartlyLoadedRowWritesNoEmptyValue(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		r := lostRow("a", "Ada")
		ok(t, w.db.Create(r).Error)
		for _, rotate := range []bool{false, true} {
			var part LostRow
			ok(t, w.db.Select("id", "code", "ward").Take(&part, r.ID).Error)
			if rotate {
				ok(t, rowseal.Rotate(t.Context(), other, &LostRow{ID: r.ID}))
			}
			fails(t, w.db.Clauses(onCode()).Create(&part).Error, rowseal.ErrNotLoaded, "LostRow")
			part.ID = 0
			err := w.db.Clauses(onCode("ward", "name")).Create(&part).Error
			if err != nil {
				fails(t, err, rowseal.ErrNotLoaded, "LostRow")
			}
			if got := people(t, other); got != "a=Ada,Ada's notes,Ada's phone" && err != nil {
				t.Errorf("the row is %s", got)
			}
		}
	})
}

// UpsertDoc is unique within its tenant, which is in the context.
type UpsertDoc struct {
	ID       string `gorm:"primaryKey;size:64"`
	TenantID string `gorm:"size:64;uniqueIndex:tenant_number"`
	Number   int    `gorm:"uniqueIndex:tenant_number"`
	Serial   *int   `gorm:"uniqueIndex"`
	Body     string `gorm:"serializer:rowseal"`
	Extra    string `gorm:"serializer:rowseal"`
	rowseal.RowKey
	before func(*UpsertDoc)
}

func (d *UpsertDoc) BeforeCreate(*gorm.DB) error {
	if d.before != nil {
		d.before(d)
	}
	return nil
}

var byNumber = []clause.Column{{Name: "tenant_id"}, {Name: "number"}}

func upsertDocs(t testing.TB, kind string) *world {
	w := open(t, kind, rowseal.Model{Value: &UpsertDoc{}, Context: rowseal.Columns("tenant_id")})
	for i, tenant := range []string{"acme", "other"} {
		ok(t, w.db.Create(&UpsertDoc{ID: tenant, TenantID: tenant, Number: 1, Serial: new(i + 1), Body: "of " + tenant, Extra: "x"}).Error)
	}
	w.spy.Reset()
	w.kms.Reset()
	return w
}

func docs(t testing.TB, w *world) string {
	t.Helper()
	var rows []UpsertDoc
	if err := w.db.Order("id").Find(&rows).Error; err != nil {
		t.Fatalf("LOST: %v", err)
	}
	var out []string
	for _, d := range rows {
		out = append(out, fmt.Sprintf("%s:%s/%d=%s,%s", d.ID, d.TenantID, d.Number, d.Body, d.Extra))
	}
	return strings.Join(out, " ")
}

func TestUpsertByACompositeTargetWithContextAndHooks(t *testing.T) {
	const acme, other = "acme:acme/1=of acme,x", "other:other/1=of other,x"
	partial := clause.OnConflict{Columns: byNumber, DoUpdates: clause.AssignmentColumns([]string{"body"})}
	bySerial := clause.OnConflict{Columns: []clause.Column{{Name: "serial"}}, UpdateAll: true}
	for name, c := range map[string]struct {
		on   clause.OnConflict
		doc  UpsertDoc
		want string
		id   string
		err  error
		kms  []string
	}{
		"its own tenant's row": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 1, Body: "new", Extra: "y"}, want: "acme:acme/1=new,x " + other, id: "acme", kms: []string{"kms", "begin"}},
		"all columns": {on: clause.OnConflict{Columns: byNumber, UpdateAll: true}, doc: UpsertDoc{TenantID: "acme", Number: 1, Body: "new", Extra: "y"},
			want: "acme:acme/1=new,y " + other, id: "acme", kms: []string{"kms", "begin"}},
		"another tenant's row, found by another column": {on: bySerial, doc: UpsertDoc{TenantID: "acme", Number: 2, Serial: new(2), Body: "new"}, err: rowseal.ErrContext},
		"another id":       {on: partial, doc: UpsertDoc{ID: "mine", TenantID: "acme", Number: 1, Body: "new"}, id: "mine", err: rowseal.ErrIdentity},
		"an id of its own": {on: partial, doc: UpsertDoc{ID: "acme", TenantID: "acme", Number: 1, Body: "new"}, id: "acme", want: "acme:acme/1=new,x " + other},
		"a hook that makes the id of every row": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 1, Body: "new", before: func(d *UpsertDoc) { d.ID = "made" }},
			want: "acme:acme/1=new,x " + other, id: "acme", kms: []string{"kms", "begin"}},
		"a hook that makes the id of a new row": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 9, Body: "new", Extra: "y", before: func(d *UpsertDoc) { d.ID = "made" }},
			want: acme + " made:acme/9=new,y " + other, id: "made"},
		"a hook that changes the number to one that exists": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 9, Body: "new", before: func(d *UpsertDoc) { d.Number, d.ID = 1, "made" }},
			want: "acme:acme/1=new,x " + other, id: "acme"},
		"a hook that changes the number to one that is new": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 1, Body: "new", Extra: "y", before: func(d *UpsertDoc) { d.Number, d.ID = 9, "made" }},
			want: acme + " made:acme/9=new,y " + other, id: "made"},
		"a hook that sets the tenant": {on: partial, doc: UpsertDoc{Number: 1, Body: "new", ID: "acme", before: func(d *UpsertDoc) { d.TenantID = "acme" }},
			want: "acme:acme/1=new,x " + other, id: "acme"},
		"a hook that moves the row to another tenant": {on: bySerial, doc: UpsertDoc{TenantID: "acme", Number: 1, Serial: new(1), Body: "new", before: func(d *UpsertDoc) { d.TenantID = "other" }}, err: rowseal.ErrContext},
		"a hook that takes the key away": {on: partial, doc: UpsertDoc{TenantID: "acme", Number: 1, Body: "new", before: func(d *UpsertDoc) { d.RowKey = rowseal.RowKey{} }},
			want: "acme:acme/1=new,x " + other, id: "acme"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				w := upsertDocs(t, kind)
				before := w.dump(t, "upsert_docs")
				doc, want := c.doc, c.want
				err := w.db.Clauses(c.on).Create(&doc).Error
				if c.err != nil {
					fails(t, err, c.err, "UpsertDoc")
					want = acme + " " + other
					if after := w.dump(t, "upsert_docs"); after != before {
						t.Errorf("the table changed:\n%s", difference(before, after))
					}
				} else {
					ok(t, err)
				}
				if got := docs(t, w); got != want {
					t.Errorf("the rows are\n%s, want\n%s", got, want)
				}
				if doc.ID != c.id {
					t.Errorf("the struct has id %q, want %q", doc.ID, c.id)
				}
				var order []string
				for _, kind := range shape(w) {
					if kind == "kms" || kind == "begin" {
						order = append(order, kind)
					}
				}
				if c.kms != nil && !slices.Equal(order[:2], c.kms) {
					t.Errorf("the order of events is %v", order)
				}
			})
		})
	}
}

// UpsertSoft has what a look-up can go wrong with.
type UpsertSoft struct {
	ID      uint64
	Code    string       `gorm:"size:64;uniqueIndex"`
	Level   string       `gorm:"size:64;default:(lower('LOW'));uniqueIndex"`
	Name    string       `gorm:"serializer:rowseal"`
	Extra   *UpsertExtra `gorm:"embedded;embeddedPrefix:extra_"`
	Deleted gorm.DeletedAt
	rowseal.RowKey
}

type UpsertExtra struct {
	Text string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// UpsertComputed makes its context itself.
type UpsertComputed struct {
	ID   uint64
	Code string `gorm:"size:64;uniqueIndex"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (c *UpsertComputed) KMSContext(int) ([]rowseal.Pair, error) { return nil, nil }

func TestUpsertIsRefusedWhereTheRowCannotBeTold(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &UpsertSoft{}, &UpsertComputed{})
		ok(t, w.db.Create(&UpsertSoft{Code: "a", Level: "one", Name: "Ada", Extra: &UpsertExtra{Text: "x"}}).Error)
		ok(t, w.db.Create(&UpsertComputed{Code: "a", Name: "Ada"}).Error)
		before := w.dump(t, "upsert_softs") + w.dump(t, "upsert_computeds")
		all := func(names ...string) clause.OnConflict {
			on := clause.OnConflict{UpdateAll: true}
			for _, name := range names {
				on.Columns = append(on.Columns, clause.Column{Name: name})
			}
			return on
		}
		for name, c := range map[string]struct {
			on    clause.OnConflict
			row   any
			kind  error
			parts []string
		}{
			"by a sealed column":              {all("name"), &UpsertSoft{Code: "a", Name: "Grace"}, rowseal.ErrCondition, []string{"UpsertSoft", "name"}},
			"by a key column":                 {all("encrypted_kms_key"), &UpsertSoft{Code: "a", Name: "Grace"}, rowseal.ErrCondition, []string{"encrypted_kms_key"}},
			"by an expression":                {clause.OnConflict{UpdateAll: true, Columns: []clause.Column{{Name: "lower(code)", Raw: true}}}, &UpsertSoft{Code: "a"}, rowseal.ErrUnsupported, []string{"find the row"}},
			"by a constraint":                 {clause.OnConflict{UpdateAll: true, OnConstraint: "code"}, &UpsertSoft{Code: "a"}, rowseal.ErrUnsupported, []string{"OnConflict.Columns"}},
			"by a default of the database":    {all("level"), &UpsertSoft{Code: "a"}, rowseal.ErrUnsupported, []string{"level", "set it in Go"}},
			"of two rows that would be one":   {all("code"), []*UpsertSoft{{Code: "b", Level: "two"}, {Code: "b", Level: "three"}}, rowseal.ErrUnsupported, []string{"code", "leave one out"}},
			"of the same row twice":           {all("code"), []*UpsertSoft{{Code: "a", Level: "two"}, {Code: "a", Level: "three"}}, rowseal.ErrUnsupported, []string{"code", "leave one out"}},
			"over a part that the row has":    {all("code"), &UpsertSoft{Code: "a", Name: "Grace"}, rowseal.ErrUnsupported, []string{"extra_encrypted_kms_key"}},
			"of a context that is computed":   {all("code"), &UpsertComputed{Code: "a", Name: "Grace"}, rowseal.ErrContext, []string{"UpsertComputed"}},
			"of another id than the row has":  {all("code"), &UpsertSoft{ID: 77, Code: "a", Name: "Grace"}, rowseal.ErrIdentity, []string{"UpsertSoft 77", "find that row"}},
			"of the key alone":                {onCode("encrypted_kms_key"), &UpsertSoft{Code: "a", Name: "Grace", Extra: &UpsertExtra{}}, rowseal.ErrKeyColumn, []string{"DoUpdates"}},
			"with a value that is not sealed": {clause.OnConflict{Columns: byCode, DoUpdates: clause.Assignments(map[string]any{"name": "Grace"})}, &UpsertSoft{Code: "a"}, rowseal.ErrPlaintext, nil},
			"with the primary key":            {clause.OnConflict{Columns: byCode, DoUpdates: clause.AssignmentColumns([]string{"id", "name"})}, &UpsertSoft{Code: "a"}, rowseal.ErrIdentity, nil},
			"in another spelling":             {onCode("NAME"), &UpsertSoft{Code: "a"}, rowseal.ErrUnsupported, []string{`write "name"`}},
		} {
			t.Run(name, func(t *testing.T) {
				w.spy.Reset()
				fails(t, w.db.Clauses(c.on).Create(c.row).Error, c.kind, c.parts...)
				if n := w.spy.Count("exec", "insert") + w.spy.Count("query", "insert"); n != 0 {
					t.Errorf("%d INSERTs ran", n)
				}
				if after := w.dump(t, "upsert_softs") + w.dump(t, "upsert_computeds"); after != before {
					t.Errorf("the tables changed:\n%s", difference(before, after))
				}
			})
		}
		t.Run("a part that is not written may be nil", func(t *testing.T) {
			ok(t, w.db.Clauses(onCode("name")).Create(&UpsertSoft{Code: "a", Level: "four", Name: "Grace"}).Error)
			if r := load[UpsertSoft](t, w.db, 1); r.Name != "Grace" || r.Extra.Text != "x" {
				t.Errorf("the row is %+v", r)
			}
		})
		t.Run("a soft-deleted row is met", func(t *testing.T) {
			ok(t, w.db.Delete(&UpsertSoft{ID: 1}).Error)
			r := UpsertSoft{Code: "a", Level: "four", Name: "Edith", Extra: &UpsertExtra{Text: "y"}}
			ok(t, w.db.Clauses(all("code")).Create(&r).Error)
			if got := load[UpsertSoft](t, w.db, 1); r.ID != 1 || got.Name != "Edith" || got.Extra.Text != "y" {
				t.Errorf("id %d, and the row is %+v", r.ID, got)
			}
		})
	})
}

// The database's own comparison says which row is met.
func TestUpsertFollowsTheColumnsCollation(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		switch kind {
		case sqliteGo:
			w.tamper(t, "DROP INDEX idx_lost_rows_code")
			w.tamper(t, "CREATE UNIQUE INDEX idx_lost_rows_code ON lost_rows (code COLLATE NOCASE)")
		case postgres:
			if _, err := w.plain.Exec("CREATE EXTENSION IF NOT EXISTS citext"); err != nil {
				// Without the extension, a collation that is not deterministic says the same.
				w.tamper(t, "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
				w.tamper(t, "ALTER TABLE lost_rows ALTER COLUMN code TYPE text COLLATE nocase")
			} else {
				w.tamper(t, "ALTER TABLE lost_rows ALTER COLUMN code TYPE citext")
			}
		}
		ok(t, w.db.Create(lostRow("ada", "Ada")).Error)
		err := w.db.Clauses(onCode("name")).Create(lostRow("ADA", "Grace")).Error
		if kind == sqliteGo {
			// The collation is the index's, not the column's: the look-up finds nothing, and the statement no target.
			if err == nil {
				t.Error("no error")
			}
			return
		}
		ok(t, err)
		if got := people(t, other); got != "ada=Grace,Ada's notes,Ada's phone" {
			t.Errorf("the rows are %s", got)
		}
		// Two structs that only the collation takes for one.
		before := w.dump(t, "lost_rows")
		fails(t, w.db.Clauses(onCode("name")).Create([]*LostRow{lostRow("ada", "Joan"), lostRow("Ada", "Joan")}).Error, rowseal.ErrUnsupported, "leave one out")
		if w.db.Clauses(onCode("name")).Create([]*LostRow{lostRow("new", "Joan"), lostRow("NEW", "Joan")}).Error == nil {
			t.Error("two rows of one code are no error")
		}
		if after := w.dump(t, "lost_rows"); after != before {
			t.Errorf("the table changed:\n%s", difference(before, after))
		}
	})
}

func TestUpsertByAPartialIndex(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		w.tamper(t, "DROP INDEX idx_lost_rows_code")
		w.tamper(t, "CREATE UNIQUE INDEX idx_lost_rows_code ON lost_rows (code) WHERE ward = '8'")
		gone := lostRow("a", "Gone")
		gone.Ward = "-"
		ok(t, w.db.Create([]*LostRow{gone, lostRow("a", "Ada")}).Error)
		c := onCode("name")
		c.TargetWhere = clause.Where{Exprs: []clause.Expression{clause.Eq{Column: clause.Column{Table: clause.CurrentTable, Name: "ward"}, Value: "8"}}}
		if kind == postgres {
			c.TargetWhere = clause.Where{Exprs: []clause.Expression{gorm.Expr("ward = '8'")}} // what an index's condition can be inferred from
		}
		r := lostRow("a", "Grace")
		err := w.db.Clauses(c).Create(r).Error
		if err != nil && kind == sqliteGo {
			t.Logf("SQLite infers no index from a bind value: %v", err)
			c.TargetWhere = clause.Where{Exprs: []clause.Expression{gorm.Expr("ward = '8'")}}
			err = w.db.Clauses(c).Create(r).Error
		}
		ok(t, err)
		if got := people(t, other); got != "a=Gone,Gone's notes,Gone's phone a=Grace,Ada's notes,Ada's phone" {
			t.Errorf("the rows are %s", got)
		}
		c.TargetWhere = clause.Where{Exprs: []clause.Expression{clause.Eq{Column: "name", Value: "canary"}}}
		w.spy.Reset()
		fails(t, w.db.Clauses(c).Create(lostRow("a", "Edith")).Error, rowseal.ErrCondition)
		for _, e := range w.spy.Events() {
			spotless(t, "the driver", driverText(e))
		}
	}, sqliteGo, postgres)
}

// Rows that the application's own condition leaves out are no stale ones.
func TestUpsertWithAConditionLeavesRowsOut(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		ok(t, w.db.Create([]*LostRow{lostRow("a", "Ada"), lostRow("b", "Bob"), lostRow("c", "Cleo")}).Error)
		w.tamper(t, "UPDATE lost_rows SET ward = 'closed' WHERE code = 'a'")
		w.tamper(t, "UPDATE lost_rows SET ward = 'closed', encrypted_kms_key = NULL, name = NULL, notes = NULL WHERE code = 'c'")
		upsert := func() ([]*LostRow, error) {
			c := onCode("name")
			c.Where = clause.Where{Exprs: []clause.Expression{clause.Neq{Column: clause.Column{Table: "lost_rows", Name: "ward"}, Value: "closed"}, clause.Or(gorm.Expr("1 = 2"))}}
			rows := []*LostRow{lostRow("a", "Grace"), lostRow("b", "Joan"), lostRow("c", "Edith"), lostRow("d", "Dora")}
			return rows, w.db.Clauses(c).Create(rows).Error
		}
		rows, err := upsert()
		ok(t, err)
		const want = "a=Ada,Ada's notes,Ada's phone b=Joan,Bob's notes,Bob's phone c=,,Cleo's phone d=Dora,Dora's notes,Dora's phone"
		if got := people(t, other); got != want {
			t.Errorf("the rows are\n%s, want\n%s", got, want)
		}
		for _, r := range rows {
			if stored := load[LostRow](t, other, r.ID); *stored.Code != *r.Code {
				t.Errorf("the struct of %s has the id of %s", *r.Code, *stored.Code)
			}
		}
		if rows[2].EncryptedKMSKey.Envelope() != "" {
			t.Error("a struct holds a key that was not stored")
		}
		meanwhile(t, w, func() { ok(t, rowseal.Rotate(t.Context(), other, &LostRow{ID: 2})) })
		_, err = upsert()
		fails(t, err, rowseal.ErrStaleKey, "LostRow")
		if got := people(t, other); got != want {
			t.Errorf("the rows are\n%s, want\n%s", got, want)
		}
	}, sqliteGo, postgres)
}

func TestUpsertThatFailsGivesTheStructsBackAsTheyCame(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		ok(t, w.db.Create(lostRow("a", "Ada")).Error)
		want := people(t, other)
		rows := func() []*LostRow { return []*LostRow{lostRow("a", "Grace"), lostRow("b", "Joan")} }
		check := func(rows []*LostRow, err error) {
			t.Helper()
			if err == nil {
				t.Fatal("no error")
			}
			for _, r := range rows {
				clean(t, r)
			}
			if got := people(t, other); got != want {
				t.Errorf("the rows are %s", got)
			}
		}
		// The key service does not answer.
		r := rows()
		w.kms.Before = func(context.Context, kmskeytest.Call) error { return errAbort }
		err := w.db.Clauses(onCode()).Create(r).Error
		w.kms.Before = nil
		check(r, err)
		// A later callback fails.
		fail := func(db *gorm.DB) { _ = db.AddError(errAbort) }
		ok(t, w.db.Callback().Create().After("rowseal:after_create").Before("gorm:commit_or_rollback_transaction").Register("fail", fail))
		check(r, w.db.Clauses(onCode()).Create(r).Error)
		ok(t, w.db.Callback().Create().Remove("fail"))
		// The transaction around it is undone.
		err = w.db.Transaction(func(tx *gorm.DB) error {
			ok(t, tx.Clauses(onCode()).Create(r).Error)
			return errAbort
		})
		if !errors.Is(err, errAbort) || people(t, other) != want {
			t.Fatalf("%v, and the rows are %s", err, people(t, other))
		}
		ok(t, w.db.Clauses(onCode()).Create(r).Error)
		if got := people(t, other); got != "a=Grace,Grace's notes,Grace's phone b=Joan,Joan's notes,Joan's phone" {
			t.Errorf("the rows are %s", got)
		}
	})
}

func TestUpsertInOtherSessions(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for name, f := range map[string]func(db *gorm.DB, rows []*LostRow) error{
			"in batches": func(db *gorm.DB, rows []*LostRow) error { return db.Clauses(onCode()).CreateInBatches(rows, 1).Error },
			"in a transaction": func(db *gorm.DB, rows []*LostRow) error {
				return db.Transaction(func(tx *gorm.DB) error { return tx.Clauses(onCode()).Create(rows).Error })
			},
			"with prepared statements": func(db *gorm.DB, rows []*LostRow) error {
				return db.Session(&gorm.Session{PrepareStmt: true}).Clauses(onCode()).Create(rows).Error
			},
			"with fields selected": func(db *gorm.DB, rows []*LostRow) error {
				return db.Clauses(onCode()).Select("Code", "Name", "Notes", "Phone").Create(rows).Error
			},
			"with fields omitted": func(db *gorm.DB, rows []*LostRow) error {
				return db.Clauses(onCode()).Omit("Ward", "ID", "EncryptedKMSKey").Create(rows).Error
			},
			"without hooks": func(db *gorm.DB, rows []*LostRow) error {
				return db.Session(&gorm.Session{SkipHooks: true}).Clauses(onCode()).Create(rows).Error
			},
			"without a transaction": func(db *gorm.DB, rows []*LostRow) error {
				return db.Session(&gorm.Session{SkipDefaultTransaction: true}).Clauses(onCode()).Create(rows).Error
			},
			"of Save": func(db *gorm.DB, rows []*LostRow) error { return db.Clauses(onCode()).Save(rows).Error },
			"after a dry run": func(db *gorm.DB, rows []*LostRow) error {
				dry := db.Session(&gorm.Session{DryRun: true}).Clauses(onCode()).Create(rows)
				if dry.Error != nil {
					return dry.Error
				}
				if sql := dry.Statement.SQL.String(); !strings.Contains(sql, "encrypted_kms_key") {
					return fmt.Errorf("the dry run's text is %s", sql)
				}
				return db.Clauses(onCode()).Create(rows).Error
			},
			"of a row at a time, with RETURNING": func(db *gorm.DB, rows []*LostRow) error {
				for _, r := range rows {
					if err := db.Clauses(onCode(), clause.Returning{}).Create(r).Error; err != nil {
						return err
					}
				}
				return nil
			},
		} {
			t.Run(name, func(t *testing.T) {
				w, other := ring(t, kind, &LostRow{})
				ok(t, w.db.Create([]*LostRow{lostRow("x", "Xenia"), lostRow("a", "Ada")}).Error)
				rows := []*LostRow{lostRow("b", "Joan"), lostRow("a", "Grace")}
				err := f(w.db, rows)
				if name == "without a transaction" && kind != postgres {
					fails(t, err, rowseal.ErrUnsupported, "SkipDefaultTransaction")
					return
				}
				ok(t, err)
				const want = "x=Xenia,Xenia's notes,Xenia's phone a=Grace,Grace's notes,Grace's phone b=Joan,Joan's notes,Joan's phone"
				if got := people(t, other); got != want {
					t.Errorf("the rows are\n%s, want\n%s", got, want)
				}
				for _, r := range rows {
					if stored := load[LostRow](t, other, r.ID); *stored.Code != *r.Code {
						t.Errorf("the struct of %s has the id of %s", *r.Code, *stored.Code)
					}
				}
			})
		}
	})
}

// UpsertUnbound has a context without the id, so that its keys are wrapped before the database assigns one.
type UpsertUnbound struct {
	ID    uint64
	Code  string `gorm:"size:64;uniqueIndex"`
	Name  string `gorm:"serializer:rowseal"`
	Extra string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestUpsertWithoutTheIDInTheContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, rowseal.Model{Value: &UpsertUnbound{}, Context: rowseal.Context{OmitID: true}})
		ok(t, w.db.Create(&[]UpsertUnbound{{Code: "a", Name: "Ada", Extra: "x"}, {Code: "b", Name: "Bob", Extra: "x"}}).Error)
		read := func() string {
			t.Helper()
			var rows []UpsertUnbound
			ok(t, w.db.Order("code").Find(&rows).Error)
			var out []string
			for _, r := range rows {
				out = append(out, r.Code+"="+r.Name+","+r.Extra)
			}
			return strings.Join(out, " ")
		}
		rows := []*UpsertUnbound{{Code: "c", Name: "Cleo", Extra: "y"}, {Code: "b", Name: "Grace", Extra: "y"}}
		w.spy.Reset()
		ok(t, w.db.Clauses(onCode("name")).Create(rows).Error)
		if got := read(); got != "a=Ada,x b=Grace,x c=Cleo,y" {
			t.Errorf("the rows are %s", got)
		}
		if s := shape(w); slices.Index(s, "kms") > slices.Index(s, "begin") {
			t.Errorf("the order of events is %v", s)
		}
		for _, r := range rows {
			if stored := load[UpsertUnbound](t, w.db, r.ID); stored.Code != r.Code {
				t.Errorf("the struct of %s has the id of %s", r.Code, stored.Code)
			}
		}
		var once bool
		ok(t, w.db.Callback().Create().After("rowseal:prepare_create").Before("gorm:begin_transaction").Register("meanwhile", func(db *gorm.DB) {
			if !once {
				once = true
				ok(t, w.db.Session(&gorm.Session{NewDB: true}).Create(&UpsertUnbound{Code: "d", Name: "Dora", Extra: "x"}).Error)
			}
		}))
		fails(t, w.db.Clauses(onCode("name")).Create(&UpsertUnbound{Code: "d", Name: "Joan", Extra: "y"}).Error, rowseal.ErrStaleKey)
		if got := read(); got != "a=Ada,x b=Grace,x c=Cleo,y d=Dora,x" {
			t.Errorf("the rows are %s", got)
		}
	})
}

// A service that may not decrypt goes on replacing whole rows by primary key.
func TestUpsertOfWholeRowsNeedsNoDecryption(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := writerOnly(t, kind, &LostRow{})
		r := lostRow("a", "Ada")
		r.ID = 1
		ok(t, w.db.Create(r).Error)
		for _, db := range []*gorm.DB{w.db, w.db.Omit(clause.Associations), w.db.Select("*")} {
			r = lostRow("a", "Grace")
			r.ID = 1
			ok(t, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(r).Error)
		}
		before := w.dump(t, "lost_rows")
		r = lostRow("a", "Edith")
		if w.db.Clauses(onCode()).Create(r).Error == nil {
			t.Error("a row that exists was written without its key")
		}
		clean(t, r)
		if after := w.dump(t, "lost_rows"); after != before {
			t.Errorf("the table changed:\n%s", difference(before, after))
		}
	})
}

func TestUpsertThatMovesTheTarget(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		ok(t, w.db.Create(lostRow("a", "Ada")).Error)
		c := clause.OnConflict{Columns: byCode, DoUpdates: append(clause.Assignments(map[string]any{"code": "z"}), clause.AssignmentColumns([]string{"name"})...)}
		err := w.db.Clauses(c).Create(lostRow("a", "Grace")).Error
		want := "z=Grace,Ada's notes,Ada's phone"
		if isMySQL(kind) {
			fails(t, err, rowseal.ErrUnsupported, "LostRow", "code", "leave it out")
			want = "a=Ada,Ada's notes,Ada's phone"
		} else {
			ok(t, err)
		}
		if got := people(t, other); got != want {
			t.Errorf("the rows are %s, want %s", got, want)
		}
	})
}

func TestUpsertsAtOnceLeaveAWholeRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &LostRow{})
		const writers = 8
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				db := w.db
				if i%2 == 0 {
					db = other
				}
				for n := range 5 {
					code := string("ab"[n%2])
					name := fmt.Sprint("w", i)
					err := db.Clauses(onCode()).Create([]*LostRow{lostRow(code, name), lostRow(code+name, name)}).Error
					if i == 0 && n == 2 {
						err = db.Where("code = ?", code).Delete(&LostRow{}).Error
					}
					if !errors.Is(err, rowseal.ErrStaleKey) {
						errs[i] = errors.Join(errs[i], err)
					}
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				t.Log(err) // a deadlock, or two inserts at once
			}
		}
		var rows []LostRow
		if err := other.Find(&rows).Error; err != nil {
			t.Fatalf("LOST: %v", err)
		}
		for _, r := range rows {
			if notes, err := r.Notes.Get(t.Context()); err != nil || notes != r.Name+"'s notes" || *r.Phone != r.Name+"'s phone" {
				t.Errorf("a row is of two writers: %s, %s, %s (%v)", r.Name, notes, *r.Phone, err)
			}
		}
	})
}

// UpsertText has a primary key that its column's collation takes for equal to others.
type UpsertText struct {
	ID    string  `gorm:"primaryKey"`
	Code  *string `gorm:"size:64;uniqueIndex"`
	Name  string  `gorm:"serializer:rowseal"`
	Extra string  `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestLostRowIsNotWrittenUnderAnIDThatOnlyTheCollationTakesForItsOwn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, other := ring(t, kind, &UpsertText{})
		switch kind {
		case sqliteGo:
			w.tamper(t, "DROP TABLE upsert_texts")
			w.tamper(t, "CREATE TABLE upsert_texts (id text COLLATE NOCASE PRIMARY KEY, code text UNIQUE, name blob, extra blob, encrypted_kms_key text)")
		case postgres:
			w.tamper(t, "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
			w.tamper(t, "ALTER TABLE upsert_texts ALTER COLUMN id TYPE text COLLATE nocase")
		}
		ok(t, w.db.Create(&UpsertText{ID: "ada", Code: new("a"), Name: "Ada", Extra: "x"}).Error)
		before := w.dump(t, "upsert_texts")
		upsert := func(on clause.OnConflict) func(r *UpsertText) error {
			return func(r *UpsertText) error { return w.db.Clauses(on).Create(r).Error }
		}
		for name, write := range map[string]func(r *UpsertText) error{
			"an upsert":                    upsert(clause.OnConflict{Columns: byID, UpdateAll: true}),
			"an upsert without target":     upsert(clause.OnConflict{UpdateAll: true}),
			"an upsert of part of a group": upsert(clause.OnConflict{Columns: byID, DoUpdates: clause.AssignmentColumns([]string{"name"})}),
			"an upsert by another column":  upsert(onCode("name")),
			"Save":                         func(r *UpsertText) error { return w.db.Save(r).Error },
			"Save of a slice":              func(r *UpsertText) error { return w.db.Save([]*UpsertText{r}).Error },
			"Updates":                      func(r *UpsertText) error { return w.db.Updates(r).Error },
			"Update":                       func(r *UpsertText) error { return w.db.Model(r).Update("name", "Grace").Error },
			"Rotate":                       func(r *UpsertText) error { return rowseal.Rotate(t.Context(), other, r) },
		} {
			t.Run(name, func(t *testing.T) {
				err := write(&UpsertText{ID: "ADA", Code: new("a"), Name: "Grace", Extra: "y"})
				if err == nil && !strings.HasPrefix(name, "Update") { // no row is no error there
					t.Error("no error")
				}
				if after := w.dump(t, "upsert_texts"); after != before {
					t.Fatalf("error %v, and the table changed:\n%s", err, difference(before, after))
				}
			})
		}
		r := load[UpsertText](t, w.db, "ada")
		r.Name = "Grace"
		ok(t, w.db.Save(&r).Error)
		ok(t, rowseal.Rotate(t.Context(), other, &UpsertText{ID: "ada"}))
		ok(t, w.db.Model(&UpsertText{ID: "ada"}).Update("extra", "z").Error)
		if r := load[UpsertText](t, other, "ada"); r.Name != "Grace" || r.Extra != "z" {
			t.Errorf("the row holds %q, %q", r.Name, r.Extra)
		}
	})
}

// What Postgres gives back of a char(n) is padded, and its comparison is not.
func TestLostRowWhoseIDIsPaddedIsFound(t *testing.T) {
	w, other := ring(t, postgres, &UpsertText{})
	w.tamper(t, "ALTER TABLE upsert_texts ALTER COLUMN id TYPE char(6)")
	ok(t, w.db.Create(&UpsertText{ID: "adaada", Code: new("a"), Name: "Ada", Extra: "x"}).Error)
	r := load[UpsertText](t, w.db, "adaada")
	r.Name = "Grace"
	ok(t, w.db.Save(&r).Error)
	ok(t, rowseal.Rotate(t.Context(), other, &r))
	ok(t, w.db.Model(&UpsertText{ID: "adaada"}).Update("extra", "z").Error)
	if r := load[UpsertText](t, other, "adaada"); r.Name != "Grace" || r.Extra != "z" {
		t.Errorf("the row holds %q, %q", r.Name, r.Extra)
	}
}

// One struct that is in a slice twice would be two rows with one key.
func TestLostRowThatIsInABatchTwice(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for name, db := range map[string]func(db *gorm.DB) *gorm.DB{
			"Create":    func(db *gorm.DB) *gorm.DB { return db },
			"DoNothing": func(db *gorm.DB) *gorm.DB { return db.Clauses(clause.OnConflict{DoNothing: true}) },
			"UpdateAll": func(db *gorm.DB) *gorm.DB { return db.Clauses(clause.OnConflict{UpdateAll: true}) },
		} {
			t.Run(name, func(t *testing.T) {
				w, other := ring(t, kind, &LostRow{})
				r := lostRow("a", "Ada")
				r.Code = nil
				err := db(w.db).Create([]*LostRow{r, r}).Error
				if err == nil {
					t.Error("no error")
				}
				if kind != postgres || name == "DoNothing" {
					fails(t, err, rowseal.ErrUnsupported, "LostRow", "twice")
				}
				clean(t, r)
				if got := people(t, other); got != "" {
					t.Errorf("the rows are %s", got)
				}
			})
		}
	})
}

// UpsertMethod computes its context from a column that upserts may write.
type UpsertMethod struct {
	ID           uint64
	UpsertUnitID *uint64
	Code         string `gorm:"size:64;uniqueIndex"`
	Ward         string
	Name         string `gorm:"serializer:rowseal"`
	Extra        string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (m *UpsertMethod) KMSContext(int) ([]rowseal.Pair, error) {
	return []rowseal.Pair{{Name: "ward", Value: kmskey.Text(m.Ward)}, {Name: "row", Value: kmskey.Uint(m.ID)}}, nil
}

type UpsertUnit struct {
	ID   uint64
	Rows []UpsertMethod
}

func TestUpsertMovesNoContextThatTheModelComputes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &UpsertMethod{})
		ok(t, w.db.AutoMigrate(&UpsertUnit{}))
		ok(t, w.db.Create(&UpsertMethod{ID: 1, Code: "a", Ward: "7", Name: "Ada", Extra: "x"}).Error)
		if kind == postgres {
			w.tamper(t, "SELECT setval(pg_get_serial_sequence('upsert_methods', 'id'), 100)")
		}
		whole := clause.OnConflict{UpdateAll: true}
		part := func(target string, columns ...string) clause.OnConflict {
			return clause.OnConflict{Columns: []clause.Column{{Name: target}}, DoUpdates: clause.AssignmentColumns(columns)}
		}
		loaded := func(change func(*UpsertMethod)) *UpsertMethod {
			r := load[UpsertMethod](t, w.db, 1)
			change(&r)
			return &r
		}
		for _, c := range []struct {
			name string
			on   clause.OnConflict
			row  *UpsertMethod
			want string // "" is refused
		}{
			{"a plain column by id", part("id", "ward"), &UpsertMethod{ID: 1, Code: "a", Ward: "8", Name: "Grace"}, ""},
			{"a plain column by code", part("code", "ward"), &UpsertMethod{Code: "a", Ward: "8", Name: "Grace"}, ""},
			{"a plain column of a loaded row, moved", part("id", "ward"), loaded(func(r *UpsertMethod) { r.Ward = "8" }), ""},
			{"a sealed column by code", part("code", "name"), &UpsertMethod{Code: "a", Ward: "7", Name: "Grace"}, ""},
			{"a sealed column of a loaded row", part("code", "name"), loaded(func(r *UpsertMethod) { r.Name = "Grace" }), "a7 Grace x"},
			{"a plain column of a loaded row, as it is", part("id", "ward"), loaded(func(r *UpsertMethod) {}), "a7 Grace x"},
			{"a whole row", whole, &UpsertMethod{ID: 1, Code: "a", Ward: "9", Name: "Edith", Extra: "y"}, "a9 Edith y"},
			{"a row that is new", part("code", "ward"), &UpsertMethod{ID: 2, Code: "b", Ward: "8", Name: "Joan"}, "a9 Edith y b8 Joan "},
		} {
			before := w.dump(t, "upsert_methods")
			err := w.db.Clauses(c.on).Create(c.row).Error
			var rows []UpsertMethod
			if err := w.db.Order("id").Find(&rows).Error; err != nil {
				t.Fatalf("%s: LOST: %v", c.name, err)
			}
			var got []string
			for _, r := range rows {
				got = append(got, r.Code+r.Ward+" "+r.Name+" "+r.Extra)
			}
			switch {
			case c.want == "" && !errors.Is(err, rowseal.ErrContext):
				t.Errorf("%s: error %v", c.name, err)
			case c.want == "" && w.dump(t, "upsert_methods") != before:
				t.Errorf("%s: the row changed", c.name)
			case c.want != "" && (err != nil || strings.Join(got, " ") != c.want):
				t.Errorf("%s: error %v, and the rows are %q, want %q", c.name, err, got, c.want)
			}
		}
		// As associations: new ones, one that is loaded, and one made by hand.
		unit := UpsertUnit{Rows: []UpsertMethod{{Code: "c", Ward: "7", Name: "Cleo"}, load[UpsertMethod](t, w.db, 1)}}
		ok(t, w.db.Create(&unit).Error)
		fails(t, w.db.Create(&UpsertUnit{Rows: []UpsertMethod{{ID: 1, Code: "a", Ward: "7", Name: "Grace"}}}).Error, rowseal.ErrContext, "load the row")
		var again UpsertUnit
		ok(t, w.db.Preload("Rows", func(db *gorm.DB) *gorm.DB { return db.Order("code") }).Take(&again, unit.ID).Error)
		if len(again.Rows) != 2 || again.Rows[0].Name != "Edith" || again.Rows[1].Name != "Cleo" {
			t.Errorf("the rows are %+v", again.Rows)
		}
	})
}

func TestUpsertFromMapsIsRefusedWhereRowsWouldBeLookedUp(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		ok(t, w.db.Create(lostRow("a", "Ada")).Error)
		before := w.dump(t, "lost_rows")
		for _, on := range []clause.OnConflict{onCode(), onCode("name")} {
			err := w.db.Model(&LostRow{}).Clauses(on).Create(map[string]any{"code": "a", "name": "Grace"}).Error
			fails(t, err, rowseal.ErrUnsupported, "LostRow", "structs of the model")
		}
		if after := w.dump(t, "lost_rows"); after != before {
			t.Errorf("the table changed:\n%s", difference(before, after))
		}
	})
}
