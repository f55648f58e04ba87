package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// Member is a row of an update of many.
type Member struct {
	ID     uint64
	Ward   string
	Visits int
	Name   string `gorm:"serializer:rowseal"`
	City   string `gorm:"serializer:rowseal" rowseal:"text"`
	Notes  rowseal.Secret[string]
	Phone  *string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// members stores n rows, the odd ones in ward a, the even ones in b.
func members(t testing.TB, w *world, n int) []Member {
	t.Helper()
	all := make([]Member, n)
	for i := range all {
		all[i] = Member{Ward: []string{"b", "a"}[(i+1)%2], Name: "Ada", City: fmt.Sprint("city ", i+1), Notes: rowseal.NewSecret("old"), Phone: new("555")}
	}
	ok(t, w.db.Create(&all).Error)
	w.reset()
	return all
}

func (w *world) reset() {
	w.spy.Reset()
	if w.kms != nil {
		w.kms.Reset()
	}
}

// stored is every member as a new session reads it, its secret opened: "ward name city notes phone".
func stored(t testing.TB, w *world) (out []string) {
	t.Helper()
	var all []Member
	ok(t, w.db.Session(&gorm.Session{NewDB: true}).Order("id").Find(&all).Error)
	ok(t, rowseal.Open(t.Context(), w.db, all))
	for _, m := range all {
		notes, err := m.Notes.Get(t.Context())
		ok(t, err)
		phone := "NULL"
		if m.Phone != nil {
			phone = *m.Phone
		}
		out = append(out, strings.Join([]string{m.Ward, m.Name, m.City, notes, phone}, "|"))
	}
	return out
}

// expected is what stored gives for n members whose rows in ward a were changed.
func expected(n int, change func(i int) string) (out []string) {
	for i := 1; i <= n; i++ {
		if i%2 == 1 {
			out = append(out, change(i))
		} else {
			out = append(out, fmt.Sprintf("b|Ada|city %d|old|555", i))
		}
	}
	return out
}

func equal(t testing.TB, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("row %d of %d is %q, want %q of %d", i+1, len(got), got[min(i, len(got)-1)], want[min(i, len(want)-1)], len(want))
		}
	}
}

// Every row is sealed under its own key, and keeps it; the keys are read and opened before the first row is written.
func TestManyRowsAreSealedUnderTheirOwnKeys(t *testing.T) {
	const rows = 1000
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, rows)
		keys := column(t, w, "members", "encrypted_kms_key")
		update := w.db.Model(&Member{}).Where("ward = ?", "a").Updates(map[string]any{"Name": "Grace", "city": "Paris", "visits": gorm.Expr("visits + 1"), "ward": "a"})
		ok(t, update.Error)
		if update.RowsAffected != rows/2 {
			t.Errorf("%d rows affected, want %d", update.RowsAffected, rows/2)
		}
		if got := shape(w); !slices.Equal(got, []string{"begin", "query", "close", "kms", "exec", "commit"}) {
			t.Errorf("the order of events is %v", got)
		}
		if n := w.kms.Calls(); n != rows/2 {
			t.Errorf("%d calls to the key service, want one for each of %d rows", n, rows/2)
		}
		if n := w.spy.Count("exec", "update"); n != 4 { // 150 rows in each
			t.Errorf("%d UPDATEs, want 4", n)
		}
		equal(t, stored(t, w), expected(rows, func(int) string { return "a|Grace|Paris|old|555" }))
		equal(t, column(t, w, "members", "encrypted_kms_key"), keys)
		if got := column(t, w, "members", "visits"); strings.Count(strings.Join(got, ""), "1") != rows/2 {
			t.Error("an expression was not carried out once for each row")
		}
	})
}

// column is one column of a table, in the order of the rows.
func column(t testing.TB, w *world, table, name string) (out []string) {
	t.Helper()
	rows, err := w.plain.Query("SELECT " + w.quote(name) + " FROM " + table + " ORDER BY id")
	ok(t, err)
	defer rows.Close()
	for rows.Next() {
		var s sql.NullString
		ok(t, rows.Scan(&s))
		out = append(out, s.String)
	}
	ok(t, rows.Err())
	return out
}

// The ways to name many rows, and what each of them holds afterwards.
func TestManyRowsByEveryCondition(t *testing.T) {
	grace := func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|555", i) }
	ways := map[string]struct {
		update func(db *gorm.DB) *gorm.DB
		after  []string
		on     string
	}{
		"Update": {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace") }},
		"UpdateColumn": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").UpdateColumn("Name", "Grace")
		}},
		"struct": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Updates(Member{Name: "Grace"})
		}},
		"a map": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where(map[string]any{"ward": "a"}).Update("name", "Grace")
		}},
		"a struct": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where(&Member{Ward: "a"}).Update("name", "Grace")
		}},
		"primary keys": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where([]int{1, 3, 5, 7}).Update("name", "Grace")
		}},
		"OR": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("id = 1 OR id = 3").Or("id = ?", 5).Or("id = 7").Update("name", "Grace")
		}},
		"OR in lines": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("id = 1\nOR\nid = 3\nOR id IN (5,7)").Update("name", "Grace")
		}},
		"NOT": {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Not("ward = 'b'").Update("name", "Grace") }},
		"a sub-query": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("id IN (?)", db.Model(&LogEntry{}).Select("chart_id")).Update("name", "Grace")
		}},
		"a scope": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Scopes(func(db *gorm.DB) *gorm.DB { return db.Where("ward = 'a'") }).Update("name", "Grace")
		}},
		"Table": {update: func(db *gorm.DB) *gorm.DB {
			return db.Table("members").Model(&Member{}).Where("ward = 'a'").Update("name", "Grace")
		}},
		"an alias": {update: func(db *gorm.DB) *gorm.DB {
			return db.Table("members AS m").Model(&Member{}).Where("m.ward = 'a'").Update("name", "Grace")
		}, on: "postgres sqlite"},
		"Dest alone": {update: func(db *gorm.DB) *gorm.DB { return db.Where("ward = 'a'").Updates(&Member{Name: "Grace"}) }},
		"loaded rows": {update: func(db *gorm.DB) *gorm.DB {
			var all []Member
			db.Where("ward = 'a'").Find(&all)
			return db.Model(&all).Update("name", "Grace")
		}},
		"loaded and more": {update: func(db *gorm.DB) *gorm.DB {
			var all []*Member
			db.Find(&all)
			return db.Model(all).Where("ward = 'a'").Update("name", "Grace")
		}},
		"a secret": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Update("notes", rowseal.NewSecret("new"))
		}, after: expected(8, func(i int) string { return fmt.Sprintf("a|Ada|city %d|new|555", i) })},
		"a secret's text":      {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Where("ward = 'a'").Update("notes", "new") }, after: expected(8, func(i int) string { return fmt.Sprintf("a|Ada|city %d|new|555", i) })},
		"a group's only field": {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Where("ward = 'a'").Update("phone", "777") }, after: expected(8, func(i int) string { return fmt.Sprintf("a|Ada|city %d|old|777", i) })},
		"both groups": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"phone": "777", "name": "Grace"})
		}, after: expected(8, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|777", i) })},
		"all fields": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"phone": "777", "name": "Grace", "city": "Rome", "notes": "new"})
		}, after: expected(8, func(i int) string { return "a|Grace|Rome|new|777" })},
		"NULL beside": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"phone": nil, "name": "Grace"})
		}, after: expected(8, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|NULL", i) })},
		"empty": {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Where("ward = 'a'").Update("name", "") }, after: expected(8, func(i int) string { return fmt.Sprintf("a||city %d|old|555", i) })},
		"all, globally": {update: func(db *gorm.DB) *gorm.DB {
			return db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Member{}).Updates(map[string]any{"name": gorm.Expr("name")})
		}, after: expected(8, func(i int) string { return fmt.Sprintf("a|Ada|city %d|old|555", i) })},
		"none": {update: func(db *gorm.DB) *gorm.DB { return db.Model(&Member{}).Where("ward = 'z'").Update("name", "Grace") }, after: expected(8, func(i int) string { return fmt.Sprintf("a|Ada|city %d|old|555", i) })},
		"LIMIT": {update: func(db *gorm.DB) *gorm.DB {
			return db.Model(&Member{}).Where("ward = 'a'").Order("id DESC").Limit(2).Update("name", "Grace")
		}, on: "mysql", after: expected(8, func(i int) string {
			if i < 5 {
				return fmt.Sprintf("a|Ada|city %d|old|555", i)
			}
			return grace(i)
		})},
		"generics": {update: func(db *gorm.DB) *gorm.DB {
			n, err := gorm.G[Member](db).Where("ward = ?", "a").Update(context.Background(), "name", "Grace")
			return &gorm.DB{Error: err, RowsAffected: int64(n)}
		}},
	}
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		ok(t, w.db.AutoMigrate(&LogEntry{}))
		ok(t, w.db.Create([]LogEntry{{ChartID: 1}, {ChartID: 3}, {ChartID: 5}, {ChartID: 7}}).Error)
		for name, way := range ways {
			if !(path{on: way.on}).runsOn(kind) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				ok(t, w.db.Exec("DELETE FROM members").Error)
				all := make([]Member, 8)
				for i := range all {
					all[i] = Member{ID: uint64(i + 1), Ward: []string{"b", "a"}[(i+1)%2], Name: "Ada", City: fmt.Sprint("city ", i+1), Notes: rowseal.NewSecret("old"), Phone: new("555")}
				}
				ok(t, w.db.Create(&all).Error)
				tx := way.update(w.db)
				want := way.after
				switch {
				case want == nil:
					ok(t, tx.Error)
					want = expected(8, grace)
					if tx.RowsAffected != 4 {
						t.Errorf("%d rows affected", tx.RowsAffected)
					}
				case name == "all, globally":
					fails(t, tx.Error, rowseal.ErrUnsupported)
				default:
					ok(t, tx.Error)
				}
				equal(t, stored(t, w), want)
			})
		}
	})
}

// GORM writes the id of a struct that is not the statement's model.
func TestManyRowsByAStructWithItsID(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 4)
		before := w.dump(t, "members")
		fails(t, w.db.Model(&Member{}).Where("ward = 'a'").Updates(Member{ID: all[0].ID, Name: "Grace"}).Error, rowseal.ErrIdentity, "id")
		fails(t, w.db.Model(&Member{}).Where("id = ?", all[0].ID).Updates(Member{ID: 99, Name: "Grace"}).Error, rowseal.ErrIdentity, "id")
		fails(t, w.db.Model(&Member{}).Where("id = ?", all[0].ID).Updates(map[string]any{"id": gorm.Expr("id"), "name": "Grace"}).Error, rowseal.ErrIdentity, "id")
		if after := w.dump(t, "members"); after != before {
			t.Error("something was written:\n" + difference(before, after))
		}
		ok(t, w.db.Model(&Member{}).Where("id = ?", all[0].ID).Updates(Member{ID: all[0].ID, Name: "Grace"}).Error)
		all[2].Name = "Edith"
		ok(t, w.db.Model(&Member{}).Where("id = ?", all[2].ID).Updates(all[2]).Error)
		if got := stored(t, w); got[0] != "a|Grace|city 1|old|555" || got[2] != "a|Edith|city 3|old|555" {
			t.Errorf("%q", got)
		}
	})
}

// What cannot be done, or must not be, changes nothing.
func TestManyRowsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		keys := insecure(t)
		models := []any{&Member{}}
		w := openWith(t, kind, keys, rowseal.Config{Models: models, MaxRows: 3}, &gorm.Config{})
		none := w.also(t, keys, rowseal.Config{Models: models, MaxRows: -1})
		loose := w.alsoWith(t, keys, rowseal.Config{Models: models}, &gorm.Config{SkipDefaultTransaction: true, Logger: logger.Discard})
		all := make([]Member, 300)
		for i := range all {
			all[i] = Member{Ward: "a", Name: "Ada", Notes: rowseal.NewSecret("old")}
		}
		ok(t, w.db.Create(&all).Error)
		before := w.dump(t, "members")
		fails(t, w.db.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace").Error, rowseal.ErrUnsupported, "Member", "name", "more than 3 rows", "Config.MaxRows")
		fails(t, none.Model(&Member{}).Where("id = 1").Update("name", "Grace").Error, rowseal.ErrUnsupported, "Member", "name", "Config.MaxRows")
		fails(t, loose.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace").Error, rowseal.ErrUnsupported, "SkipDefaultTransaction", "db.Transaction")
		fails(t, w.db.Model(&Member{}).Update("name", "Grace").Error, gorm.ErrMissingWhereClause)
		fails(t, w.db.Model(&Member{}).Where("name = ?", word("new", "name")).Update("ward", "z").Error, rowseal.ErrCondition)
		fails(t, w.db.Model(&Member{}).Where("name = ?", word("new", "name")).Update("name", "Grace").Error, rowseal.ErrCondition)
		fails(t, w.db.Model(&Member{}).Where("id IN (?)", w.db.Model(&Member{}).Select("id").Where("name = ?", word("new", "name"))).Update("name", "Grace").Error, rowseal.ErrCondition)
		fails(t, w.db.Model(&Member{}).Where("id < 3").Updates(map[string]any{"name": "Grace", "id": 9}).Error, rowseal.ErrIdentity)
		if after := w.dump(t, "members"); after != before {
			t.Error("something was written:\n" + difference(before, after))
		}
		for _, e := range w.spy.Events() {
			if strings.Contains(e.String(), word("new", "name")) {
				t.Errorf("plaintext reached the driver: %s", e)
			}
		}
		ok(t, loose.Transaction(func(tx *gorm.DB) error { return tx.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace").Error }))
		ok(t, loose.Model(&Member{}).Where("id = ?", all[0].ID).Update("name", "Ada").Error)
		ok(t, w.db.Model(&Member{}).Where("id < ?", all[3].ID).Update("city", "Rome").Error)
	})
}

func insecure(t testing.TB) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	return keys
}

// Another writer is faster: it rotates keys, or replaces them, or deletes rows, after the keys were read.
func TestManyRowsAgainstOtherWriters(t *testing.T) {
	const rows = 400
	each(t, func(t *testing.T, kind string) {
		w, rotator := ring(t, kind, &Member{})
		all := members(t, w, rows)
		old := column(t, w, "members", "encrypted_kms_key")
		for i := range 100 {
			ok(t, rowseal.Rotate(t.Context(), rotator, &Member{ID: all[i].ID}))
		}
		rotated := column(t, w, "members", "encrypted_kms_key")
		for i := range 100 {
			w.tamper(t, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?", old[i], all[i].ID)
		}
		ok(t, w.db.Callback().Update().After("rowseal:before_update").Before("rowseal:watch_update").Register("other writer", func(db *gorm.DB) {
			for i := range 100 {
				_, err := db.Statement.ConnPool.ExecContext(context.Background(), replaceBinds(w, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?"), rotated[i], all[i].ID)
				ok(t, err)
			}
			_, err := db.Statement.ConnPool.ExecContext(context.Background(), replaceBinds(w, "DELETE FROM members WHERE id = ?"), all[rows-2].ID)
			ok(t, err)
		}))
		w.reset()
		update := w.db.Model(&Member{}).Where("ward = ?", "a").Update("name", "Grace")
		ok(t, update.Error)
		if update.RowsAffected != rows/2-1 {
			t.Errorf("%d rows affected, want %d", update.RowsAffected, rows/2-1)
		}
		want := expected(rows, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|555", i) })
		equal(t, stored(t, w), slices.Delete(want, rows-2, rows-1))
		equal(t, column(t, w, "members", "encrypted_kms_key")[:100], rotated[:100])
		if n := w.kms.Count("unwrap"); n < rows/2+50 {
			t.Errorf("%d keys were unwrapped; the 50 that changed were not verified", n)
		}
	})
}

func replaceBinds(w *world, query string) string {
	for i := 1; strings.Contains(query, "?") && w.kind == postgres; i++ {
		query = strings.Replace(query, "?", w.bind(i), 1)
	}
	return query
}

// Rows that have no key yet get one, once.
func TestManyRowsWithoutKeys(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 20)
		w.tamper(t, "UPDATE members SET encrypted_kms_key = NULL, name = NULL, city = NULL, notes = NULL WHERE id < ?", all[10].ID)
		ok(t, w.db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"name": "Grace", "phone": "777"}).Error)
		ok(t, w.db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"city": "Rome"}).Error)
		var got []Member
		ok(t, w.db.Where("ward = 'a'").Find(&got).Error)
		for _, m := range got {
			if m.Name != "Grace" || m.City != "Rome" || *m.Phone != "777" {
				t.Errorf("%+v", m)
			}
		}
	})
}

// What the rows hold in memory is what the database has, and no key is opened twice.
func TestManyLoadedRows(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 400)
		ok(t, w.db.Model(&all).Where("ward = 'a'").Update("name", "Grace").Error)
		if n := w.kms.Calls(); n != 0 {
			t.Errorf("%d calls to the key service for keys that are open", n)
		}
		all[0].City = "Rome"
		before := w.cell(t, "members", "name", all[0].ID)
		ok(t, w.db.Save(&all[0]).Error)
		if string(before) != string(w.cell(t, "members", "name", all[0].ID)) {
			t.Error("an unchanged value was sealed anew")
		}
		w.reset()
		ok(t, w.db.Model(&all).Where("ward = 'a'").Update("phone", "777").Error) // under new keys
		w.reset()
		ok(t, w.db.Model(&all[0]).Update("phone", "888").Error)
		if n := w.kms.Calls(); n != 0 {
			t.Errorf("%d calls to the key service for a key that was just made", n)
		}
		if got := load[Member](t, w.db, all[0].ID); *got.Phone != "888" || got.City != "Rome" || got.Name != "Grace" {
			t.Errorf("%+v", got)
		}
	})
}

// RETURNING gives the rows of every page, opened with the keys that sealed them.
func TestManyRowsReturned(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 700)
		var got []Member
		update := w.db.Model(&got).Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "name"}, {Name: "encrypted_kms_key"}}}).Where("ward = 'a'").Update("name", "Grace")
		ok(t, update.Error)
		if len(got) != 350 || update.RowsAffected != 350 {
			t.Fatalf("%d rows returned, %d affected", len(got), update.RowsAffected)
		}
		for _, m := range got {
			if m.Name != "Grace" {
				t.Fatalf("%+v", m)
			}
		}
		if n := w.kms.Calls(); n != 350 {
			t.Errorf("%d calls to the key service", n)
		}
		ok(t, w.db.Model(&got[349]).Update("city", "Rome").Error)
		if n := w.kms.Calls(); n != 350 {
			t.Errorf("%d calls to the key service after an update of a returned row", n)
		}
		if m := load[Member](t, w.db, got[349].ID); m.City != "Rome" || m.Name != "Grace" {
			t.Errorf("%+v", m)
		}
	}, sqliteGo, postgres)
}

// A key that does not open stops the update before anything is written, and is named.
func TestManyRowsWithABadOne(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 20)
		other := w.cell(t, "members", "encrypted_kms_key", all[3].ID)
		w.tamper(t, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?", string(other), all[4].ID)
		before := w.dump(t, "members")
		fails(t, w.db.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace").Error, kmskey.ErrContextMismatch, fmt.Sprint("Member ", all[4].ID))
		if after := w.dump(t, "members"); after != before {
			t.Error("something was written:\n" + difference(before, after))
		}
	})
}

// A statement is as it was when it is used again.
func TestManyRowsTwice(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 20)
		q := w.db.Model(&Member{}).Where("ward = 'a'")
		ok(t, q.Update("name", "Grace").Error)
		ok(t, q.Update("name", "Edith").Error)
		var n int64
		ok(t, q.Count(&n).Error)
		if n != 10 {
			t.Errorf("counted %d", n)
		}
		equal(t, stored(t, w), expected(20, func(i int) string { return fmt.Sprintf("a|Edith|city %d|old|555", i) }))
	})
}

// The context of each row is its own.
func TestManyRowsWithAContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, insecure(t), rowseal.Config{Models: []any{rowseal.Model{Value: &Account{}, Context: rowseal.Columns("tenant_id")}}}, &gorm.Config{})
		all := []Account{{TenantID: 7, Name: "a"}, {TenantID: 8, Name: "b"}, {TenantID: 8, Name: "c"}}
		ok(t, w.db.Create(&all).Error)
		ok(t, w.db.Model(&Account{}).Where("id > 0").Update("name", "z").Error)
		fails(t, w.db.Model(&Account{}).Where("id > 0").Updates(map[string]any{"name": "y", "tenant_id": 9}).Error, rowseal.ErrUnsupported, "tenant_id")
		var got []Account
		ok(t, w.db.Order("id").Find(&got).Error)
		for i, a := range got {
			if a.Name != "z" || a.TenantID != all[i].TenantID {
				t.Errorf("%+v", a)
			}
		}
	})
}
