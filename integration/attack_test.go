package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
)

// Pair is a row with two words for a primary key.
type Pair struct {
	A    string `gorm:"primaryKey;size:20"`
	B    string `gorm:"primaryKey;size:20"`
	Ward string
	Name string `gorm:"serializer:rowseal"`
	City string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// GORM tells rows apart by their keys joined with "_".
func TestAttackManyRowsWithKeysThatJoinToTheSame(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Pair{})
		all := []Pair{{A: "x_y", B: "z", Ward: "a", Name: "Ada", City: "Rome"}, {A: "x", B: "y_z", Ward: "a", Name: "Ada", City: "Rome"}}
		ok(t, w.db.Create(&all).Error)
		update := w.db.Model(&Pair{}).Where("ward = 'a'").Update("name", "Grace")
		ok(t, update.Error)
		var got []Pair
		ok(t, w.db.Find(&got).Error)
		if update.RowsAffected != 2 || got[0].Name != "Grace" || got[1].Name != "Grace" {
			t.Errorf("%d rows affected: %+v", update.RowsAffected, got)
		}
	})
}

// Resident is a row that is deleted softly.
type Resident struct {
	ID   uint64
	Ward string
	Name string `gorm:"serializer:rowseal"`
	City string `gorm:"serializer:rowseal"`
	rowseal.RowKey
	DeletedAt gorm.DeletedAt
}

// A statement that has the condition of soft deletion already is used for an update.
func TestAttackManyRowsSoftDeletedStatementIsUsedAgain(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Resident{})
		all := []Resident{{Ward: "a", Name: "Ada"}, {Ward: "a", Name: "Ada"}, {Ward: "a", Name: "Ada"}}
		ok(t, w.db.Create(&all).Error)
		ok(t, w.db.Delete(&all[2]).Error)
		q := w.db.Model(&Resident{}).Where("ward = 'a'")
		ok(t, q.Update("name", "Grace").Error)
		ok(t, q.Update("name", "Edith").Error)
		ok(t, q.Update("ward", "a").Error)
		var got []Resident
		ok(t, w.db.Unscoped().Order("id").Find(&got).Error)
		if got[0].Name != "Edith" || got[1].Name != "Edith" || got[2].Name != "Ada" {
			t.Errorf("%+v", got)
		}
		ok(t, w.db.Unscoped().Model(&Resident{}).Where("ward = 'a'").Update("name", "Rosa").Error)
		if got := load[Resident](t, w.db.Unscoped(), all[2].ID); got.Name != "Rosa" {
			t.Errorf("%+v", got)
		}
	})
}

// A global update leaves a statement that can be used again.
func TestAttackManyRowsGloballyAndAgain(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 4)
		q := w.db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Member{})
		ok(t, q.Update("name", "Grace").Error)
		ok(t, q.Update("ward", "z").Error)
		ok(t, q.Update("name", "Edith").Error)
		equal(t, stored(t, w), []string{"z|Edith|city 1|old|555", "z|Edith|city 2|old|555", "z|Edith|city 3|old|555", "z|Edith|city 4|old|555"})
	})
}

// GORM does not put the value into rows that it cannot change. Saved afterwards, they keep it.
func TestAttackManyRowsThatWereNotOpened(t *testing.T) {
	ways := map[string]func(db *gorm.DB, rows *[]Member) error{
		"a slice": func(db *gorm.DB, rows *[]Member) error {
			return db.Model(*rows).Where("id > 0").Update("name", "Grace").Error
		},
		"a pointer": func(db *gorm.DB, rows *[]Member) error {
			return db.Model(rows).Where("id > 0").Update("name", "Grace").Error
		},
		"clause.Set": func(db *gorm.DB, rows *[]Member) error {
			return db.Model(rows).Where("id > 0").Clauses(clause.Set{{Column: clause.Column{Name: "name"}, Value: "Grace"}}).Updates(map[string]any{}).Error
		},
		"all of a group": func(db *gorm.DB, rows *[]Member) error {
			return db.Model(*rows).Where("id > 0").Updates(map[string]any{"name": "Grace", "city": "Rome", "notes": "new"}).Error
		},
	}
	loads := map[string]func(db *gorm.DB) *gorm.DB{
		"sealed":  rowseal.Sealed,
		"in part": func(db *gorm.DB) *gorm.DB { return db.Select("id", "ward") },
	}
	each(t, func(t *testing.T, kind string) {
		for how, read := range loads {
			for what, update := range ways {
				t.Run(how+" "+what, func(t *testing.T) {
					w := open(t, kind, &Member{})
					members(t, w, 3)
					var rows []Member
					ok(t, read(w.db).Order("id").Find(&rows).Error)
					ok(t, update(w.db, &rows))
					for i := range rows {
						rows[i].Ward = "z"
						ok(t, w.db.Save(&rows[i]).Error)
					}
					for _, got := range stored(t, w) {
						if !strings.HasPrefix(got, "z|Grace|") {
							t.Error(got)
						}
					}
				})
			}
		}
	})
}

// The same of one row.
func TestAttackOneRowThatWasNotOpenedBySet(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 1)
		var row Member
		ok(t, rowseal.Sealed(w.db).First(&row, all[0].ID).Error)
		ok(t, w.db.Model(&row).Clauses(clause.Set{{Column: clause.Column{Name: "name"}, Value: "Grace"}}).Updates(map[string]any{}).Error)
		row.Ward = "z"
		ok(t, w.db.Save(&row).Error)
		equal(t, stored(t, w), []string{"z|Grace|city 1|old|555"})
	})
}

// What was set to NULL does not come back when the row is opened.
func TestAttackNullOfRowsThatWereNotOpened(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 2)
		for what, values := range map[string]map[string]any{"alone": {"phone": nil}, "beside": {"phone": nil, "name": "Grace"}} {
			for _, one := range []bool{true, false} {
				ok(t, w.db.Model(&Member{}).Where("id > 0").Update("phone", "555").Error)
				var rows []Member
				ok(t, rowseal.Sealed(w.db).Order("id").Find(&rows).Error)
				if one {
					ok(t, w.db.Model(&rows[0]).Updates(values).Error)
				} else {
					ok(t, w.db.Model(&rows).Updates(values).Error)
				}
				ok(t, rowseal.Open(t.Context(), w.db, rows))
				ok(t, w.db.Save(&rows[0]).Error)
				if got := load[Member](t, w.db, all[0].ID); got.Phone != nil {
					t.Errorf("%s, one %v: %q came back", what, one, *got.Phone)
				}
			}
		}
	})
}

// RETURNING gives the row back that was not opened, without what became NULL.
func TestAttackNullOfARowThatIsReturned(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		c.seed(t)
		for _, many := range []bool{false, true} {
			ok(t, c.db.Model(&Chart{}).Where("id = 1").Update("nick", "Ace").Error)
			var rows []Chart
			ok(t, rowseal.Sealed(c.db).Find(&rows, 1).Error)
			tx := c.db.Model(&rows[0])
			if many {
				tx = c.db.Model(&rows)
			}
			ok(t, tx.Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "name"}, {Name: "encrypted_kms_key"}}}).Updates(map[string]any{"name": name, "nick": nil}).Error)
			if rows[0].Nick != nil || rows[0].Name != name {
				t.Errorf("%+v", rows[0])
			}
			ok(t, rowseal.Open(t.Context(), c.db, rows))
			if rows[0].Nick != nil {
				t.Errorf("%q came back", *rows[0].Nick)
			}
		}
	}, sqliteGo, postgres)
}

// A copy of a loaded row that had no key overwrites nothing when the row has got one.
func TestAttackManyRowsThatHadNoKey(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 2)
		w.tamper(t, "UPDATE members SET encrypted_kms_key = NULL, name = NULL, city = NULL, notes = NULL WHERE id > ?", 0)
		var rows []Member
		ok(t, w.db.Order("id").Find(&rows).Error)
		copied := rows[0]
		ok(t, w.db.Model(&rows).Update("name", "Grace").Error)
		fails(t, w.db.Save(&copied).Error, rowseal.ErrStaleKey)
		rows[1].City = "Rome"
		w.reset()
		ok(t, w.db.Save(&rows[1]).Error)
		if n := w.kms.Calls(); n != 0 {
			t.Errorf("%d calls to the key service", n)
		}
		if got := load[Member](t, w.db, all[0].ID); got.Name != "Grace" {
			t.Errorf("%+v", got)
		}
		if got := load[Member](t, w.db, all[1].ID); got.Name != "Grace" || got.City != "Rome" {
			t.Errorf("%+v", got)
		}
	})
}

// MySQL has no RETURNING in an UPDATE, and GORM leaves the clause out.
func TestAttackManyRowsReturnedWhereTheDatabaseReturnsNone(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 4)
		rows := slices.Clone(all)
		update := w.db.Model(&rows).Clauses(clause.Returning{}).Update("name", "Grace")
		ok(t, update.Error)
		if len(rows) != 4 || update.RowsAffected != 4 {
			t.Fatalf("%d rows are left, %d affected", len(rows), update.RowsAffected)
		}
		for _, r := range rows {
			if r.Name != "Grace" || r.ID == 0 {
				t.Errorf("%+v", r)
			}
		}
	}, sqliteGo, postgres, mysqlLike)
}

// RETURNING without the key column, and into other kinds of Model.
func TestAttackManyRowsReturnedInPart(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		all := members(t, w, 4)
		part := clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "name"}}}
		t.Run("a slice", func(t *testing.T) {
			var got []Member
			ok(t, w.db.Model(&got).Clauses(part).Where("ward = 'a'").Update("name", "Grace").Error)
			if len(got) != 2 || got[0].Name != "Grace" {
				t.Fatalf("%+v", got)
			}
			ok(t, w.db.Model(&got[0]).Update("city", "Rome").Error)
			ok(t, w.db.Model(&got[0]).Update("city", "city 1").Error)
		})
		t.Run("an array", func(t *testing.T) {
			got := [4]Member{all[3], all[2], all[1], all[0]}
			fails(t, w.db.Model(&got).Clauses(part).Where("ward = 'a'").Update("name", "Edith").Error, rowseal.ErrUnsupported, "RETURNING")
		})
		t.Run("a struct", func(t *testing.T) {
			var got Member
			ok(t, w.db.Model(&got).Clauses(clause.Returning{}).Where("ward = 'a'").Update("name", "Rosa").Error)
			if got.Name != "Rosa" {
				t.Errorf("%+v", got)
			}
		})
		for _, m := range stored(t, w) {
			if !strings.Contains(m, "|Ada|") && !strings.Contains(m, "|Rosa|") {
				t.Error(m)
			}
		}
	}, sqliteGo, postgres)
}

// An update that takes several statements is one of the rows that met the condition when it began.
func TestAttackManyRowsOfAConditionThatTheUpdateChanges(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		const rows = 600
		newest := func(db *gorm.DB) *gorm.DB {
			return db.Table("members").Select("id").Where("ward = 'a'").Order("id DESC").Limit(250)
		}
		ways := map[string]struct {
			update func(db *gorm.DB) *gorm.DB
			wrote  int64
			on     string
		}{
			"a sub-query of the same table": {func(db *gorm.DB) *gorm.DB {
				return db.Model(&Member{}).Where("id IN (?)", newest(db)).Updates(map[string]any{"ward": "z", "name": "Grace"})
			}, 250, "sqlite postgres"},
			"a count": {func(db *gorm.DB) *gorm.DB {
				return db.Model(&Member{}).Where("ward = 'a' AND (SELECT count(*) FROM members AS m WHERE m.ward = 'a') > 200").Updates(map[string]any{"ward": "z", "name": "Grace"})
			}, 300, ""},
			"an expression": {func(db *gorm.DB) *gorm.DB {
				return db.Model(&Member{}).Where("ward = 'a'").Updates(map[string]any{"visits": gorm.Expr("(SELECT max(visits) + 1 FROM members)"), "name": "Grace"})
			}, 300, ""},
			"a sub-query of another table": {func(db *gorm.DB) *gorm.DB {
				return db.Model(&Member{}).Where("ward = 'a' AND EXISTS (SELECT 1 FROM log_entries WHERE log_entries.chart_id < members.id)").Updates(map[string]any{"ward": "z", "name": "Grace"})
			}, 300, ""},
		}
		for what, way := range ways {
			if !(path{on: way.on}).runsOn(kind) {
				continue
			}
			t.Run(what, func(t *testing.T) {
				w := open(t, kind, &Member{})
				ok(t, w.db.AutoMigrate(&LogEntry{}))
				ok(t, w.db.Create(&LogEntry{ChartID: 0}).Error)
				members(t, w, rows)
				before := w.dump(t, "members")
				update := way.update(w.db)
				if update.Error != nil {
					fails(t, update.Error, rowseal.ErrUnsupported, "Member", "sub-query")
					if what == "a sub-query of another table" {
						t.Error(update.Error)
					}
					if w.dump(t, "members") != before {
						t.Error("something was written")
					}
					return
				}
				grace, visits := 0, map[int]bool{}
				var all []Member
				ok(t, w.db.Find(&all).Error)
				for _, m := range all {
					if m.Name == "Grace" {
						grace++
						visits[m.Visits] = true
					}
				}
				if update.RowsAffected != way.wrote || grace != int(way.wrote) || len(visits) != 1 {
					t.Errorf("%d affected, %d written, want %d; visits %v", update.RowsAffected, grace, way.wrote, visits)
				}
			})
		}
	}, sqliteGo, postgres, mariadb)
}

// A sub-query keeps the columns that it has.
func TestAttackSubqueryOnAModelWithSealedFields(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 4)
		var got []Member
		ok(t, w.db.Where("id IN (?)", w.db.Model(&Member{}).Select("id").Where("ward = 'a'")).Find(&got).Error)
		if len(got) != 2 || got[0].Name != "Ada" {
			t.Errorf("%+v", got)
		}
		ok(t, w.db.Model(&Member{}).Where("id IN (?)", w.db.Model(&Member{}).Select("id").Where("ward = 'a'")).Update("name", "Grace").Error)
		equal(t, stored(t, w), expected(4, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|555", i) }))
	})
}

// In the application's own transaction, which goes on, an update that failed half way leaves nothing.
func TestAttackManyRowsFailInATransactionThatGoesOn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const rows = 700
		w, rotator := ring(t, kind, &Member{})
		all := members(t, w, rows)
		old := w.cell(t, "members", "encrypted_kms_key", all[rows-2].ID)
		ok(t, rowseal.Rotate(t.Context(), rotator, &Member{ID: all[rows-2].ID}))
		fresh := w.cell(t, "members", "encrypted_kms_key", all[rows-2].ID)
		w.tamper(t, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?", string(old), all[rows-2].ID)
		bad := strings.Replace(string(fresh), "v2:", "v9:", 1)
		ok(t, w.db.Callback().Update().After("rowseal:before_update").Before("rowseal:watch_update").Register("other writer", func(db *gorm.DB) {
			_, err := db.Statement.ConnPool.ExecContext(context.Background(), replaceBinds(w, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?"), bad, all[rows-2].ID)
			ok(t, err)
		}))
		for _, db := range []*gorm.DB{w.db, w.db.Session(&gorm.Session{PrepareStmt: true})} {
			ok(t, db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace").Error; err == nil {
					t.Error("no error")
				}
				return tx.Model(&Member{}).Where("ward = 'b'").Update("city", "Rome").Error
			}))
		}
		var got []Member
		ok(t, w.db.Where("id <> ?", all[rows-2].ID).Find(&got).Error)
		for _, m := range got {
			if m.Name != "Ada" || m.Ward == "b" && m.City != "Rome" {
				t.Fatalf("%+v", m)
			}
		}
	})
}

// meanwhile runs f once, between the reading of the keys and the first UPDATE, on the statement's own connection.
func meantime(t testing.TB, w *world, f func(exec func(query string, args ...any))) {
	t.Helper()
	done := false
	ok(t, w.db.Callback().Update().After("rowseal:before_update").Before("rowseal:watch_update").Register("meanwhile", func(db *gorm.DB) {
		if done {
			return
		}
		done = true
		f(func(query string, args ...any) {
			_, err := db.Statement.ConnPool.ExecContext(context.Background(), replaceBinds(w, query), args...)
			ok(t, err)
		})
	}))
}

// rotatedKeys gives a key column of the first n members as it would be under the next version, and puts it back.
func rotatedKeys(t testing.TB, w *world, rotator *gorm.DB, all []Member, n int, name string) []string {
	t.Helper()
	old := column(t, w, "members", name)
	other := column(t, w, "members", "encrypted_kms_key_phone")
	if name != "encrypted_kms_key" {
		other = column(t, w, "members", "encrypted_kms_key")
	}
	for i := range n {
		ok(t, rowseal.Rotate(t.Context(), rotator, &Member{ID: all[i].ID}))
	}
	rotated := column(t, w, "members", name)
	for i := range n {
		w.tamper(t, "UPDATE members SET "+name+" = ? WHERE id = ?", old[i], all[i].ID)
		if name != "encrypted_kms_key" {
			w.tamper(t, "UPDATE members SET encrypted_kms_key = ? WHERE id = ?", other[i], all[i].ID)
		} else {
			w.tamper(t, "UPDATE members SET encrypted_kms_key_phone = ? WHERE id = ?", other[i], all[i].ID)
		}
	}
	return rotated
}

// What is not sealed is written once for each row, too, whichever of its keys another writer changed.
func TestAttackManyRowsOfWhichSomeAreWrittenAgain(t *testing.T) {
	writes := map[string]map[string]any{
		"one group":  {"name": "Grace", "visits": gorm.Expr("visits + 1")},
		"two groups": {"name": "Grace", "phone": "777", "visits": gorm.Expr("visits + 1")},
		"new keys":   {"name": "Grace", "city": "Rome", "notes": "new", "phone": "777", "visits": gorm.Expr("visits + 1")},
	}
	each(t, func(t *testing.T, kind string) {
		for what, values := range writes {
			for _, key := range []string{"encrypted_kms_key", "encrypted_kms_key_phone"} {
				t.Run(what+" "+key, func(t *testing.T) {
					const rows = 310
					w, rotator := ring(t, kind, &Member{})
					all := members(t, w, rows)
					rotated := rotatedKeys(t, w, rotator, all, 20, key)
					w.reset()
					meantime(t, w, func(exec func(string, ...any)) {
						for i := range rotated[:20] {
							exec("UPDATE members SET "+key+" = ? WHERE id = ?", rotated[i], all[i].ID)
						}
					})
					loaded := slices.Clone(all)
					update := w.db.Model(&loaded).Where("ward = 'a'").Updates(values)
					ok(t, update.Error)
					if update.RowsAffected != rows/2 {
						t.Errorf("%d rows affected", update.RowsAffected)
					}
					var got []Member
					ok(t, w.db.Order("id").Find(&got).Error)
					for i, m := range got {
						if once := 1 - i%2; m.Visits != once || (m.Name == "Grace") != (once == 1) {
							t.Fatalf("%+v", m)
						}
					}
					loaded[0].City = "Oslo"
					ok(t, w.db.Save(&loaded[0]).Error)
					if m := load[Member](t, w.db, all[0].ID); m.City != "Oslo" || m.Name != "Grace" {
						t.Errorf("%+v", m)
					}
				})
			}
		}
	})
}

// A transaction that reads the past sees keys that are not there any more.
func TestAttackManyRowsInATransactionThatReadsThePast(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w, rotator := ring(t, kind, &Member{})
		all := members(t, w, 20)
		ok(t, w.db.Transaction(func(tx *gorm.DB) error {
			var n int64
			ok(t, tx.Model(&Member{}).Count(&n).Error)
			for i := range 10 {
				ok(t, rowseal.Rotate(t.Context(), rotator, &Member{ID: all[i].ID}))
			}
			ok(t, rotator.Delete(&Member{}, all[12].ID).Error)
			update := tx.Model(&Member{}).Where("ward = 'a'").Update("name", "Grace")
			if update.RowsAffected != 9 {
				t.Errorf("%d rows affected", update.RowsAffected)
			}
			return update.Error
		}))
		want := expected(20, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|555", i) })
		equal(t, stored(t, w), slices.Delete(want, 12, 13))
	})
}

// A row whose context another writer changed is sealed under the key that it has then.
func TestAttackManyRowsWhoseContextChanges(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, insecure(t), rowseal.Config{Models: []any{rowseal.Model{Value: &Account{}, Context: rowseal.Columns("tenant_id")}}}, &gorm.Config{})
		all := []Account{{TenantID: 7, Name: "a"}, {TenantID: 8, Name: "b"}, {TenantID: 8, Name: "c"}}
		ok(t, w.db.Create(&all).Error)
		old := w.cell(t, "accounts", "encrypted_kms_key", all[0].ID)
		ok(t, w.db.Model(&all[0]).Update("tenant_id", 9).Error)
		moved := w.cell(t, "accounts", "encrypted_kms_key", all[0].ID)
		w.tamper(t, "UPDATE accounts SET encrypted_kms_key = ?, tenant_id = 7 WHERE id = ?", string(old), all[0].ID)
		meantime(t, w, func(exec func(string, ...any)) {
			exec("UPDATE accounts SET encrypted_kms_key = ?, tenant_id = 9 WHERE id = ?", string(moved), all[0].ID)
		})
		update := w.db.Model(&Account{}).Where("id > 0").Update("name", "z")
		ok(t, update.Error)
		if got := load[Account](t, w.db, all[0].ID); update.RowsAffected != 3 || got.Name != "z" || got.TenantID != 9 {
			t.Errorf("%d %+v", update.RowsAffected, got)
		}
	})
}

// A clause.Set of the application stays as it was.
func TestAttackManyRowsBySetTwice(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 4)
		q := w.db.Model(&Member{}).Where("ward = 'a'").Clauses(clause.Set{{Column: clause.Column{Name: "name"}, Value: "Grace"}})
		ok(t, q.Updates(map[string]any{}).Error)
		ok(t, q.Updates(map[string]any{}).Error)
		equal(t, stored(t, w), expected(4, func(i int) string { return fmt.Sprintf("a|Grace|city %d|old|555", i) }))
	})
}

// A join that a table's name hides.
func TestAttackManyRowsOfATableWithAJoin(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		ok(t, w.db.AutoMigrate(&LogEntry{}))
		all := members(t, w, 4)
		ok(t, w.db.Create([]LogEntry{{ChartID: all[0].ID}, {ChartID: all[0].ID}, {ChartID: all[2].ID}}).Error)
		before := w.dump(t, "members")
		for _, table := range []string{"members JOIN (SELECT chart_id FROM log_entries) l ON l.chart_id = members.id", "members, (SELECT chart_id FROM log_entries) l"} {
			fails(t, w.db.Table(table).Model(&Member{}).Where("members.ward = 'a' AND l.chart_id = members.id").Update("name", "Grace").Error, rowseal.ErrUnsupported, "join")
		}
		if w.dump(t, "members") != before {
			t.Error("something was written")
		}
	})
}

// A callback of the application sets columns of a row that comes from a map, as it would of a struct's.
func TestAttackMapsThatACallbackChanges(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		set := map[string]any{}
		ok(t, c.db.Callback().Create().Before("gorm:before_create").Register("tenant", func(db *gorm.DB) {
			for name, value := range set {
				db.Statement.SetColumn(name, value, true)
			}
		}))
		set["TenantID"] = uint64(9)
		m := map[string]any{"Name": name}
		ok(t, c.db.Model(&Account{}).Create(m).Error)
		if got := load[Account](t, c.db, m["id"]); got.Name != name || got.TenantID != 9 {
			t.Errorf("%+v", got)
		}
		clear(set)
		set["Name"] = "Grace"
		for _, m := range []map[string]any{{"Name": name, "tenant_id": 7}, {"tenant_id": 7}} {
			ok(t, c.db.Model(&Account{}).Create(m).Error)
			if got := load[Account](t, c.db, m["id"]); got.Name != "Grace" || got.TenantID != 7 {
				t.Errorf("%+v", got)
			}
		}
	})
}

// What a map says of a context column is what the row has and its key is bound to, however it is written.
func TestAttackMapsWithAContextColumn(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		q := `"`
		if isMySQL(kind) {
			q = "`"
		}
		for what, entries := range map[string]map[string]any{
			"quoted":    {q + "tenant_id" + q: 9, "name": name},
			"qualified": {"accounts.tenant_id": 9, "name": name},
			"upper":     {"TENANT_ID": 9, "name": name},
			"a float":   {"tenant_id": 9.75, "name": name},
			"text":      {"tenant_id": "9", "name": name},
			"absent":    {"name": name},
			"nil":       {"tenant_id": nil, "name": name},
			"twice":     {"tenant_id": 9, "TenantID": 8, "name": name},
		} {
			t.Run(what, func(t *testing.T) {
				c.seed(t)
				before := c.everything(t)
				err := c.db.Model(&Account{}).Create(entries).Error
				if slices.Contains([]string{"quoted", "qualified", "twice"}, what) {
					fails(t, err, rowseal.ErrUnsupported, "tenant_id")
					if c.everything(t) != before {
						t.Error("something was written")
					}
					return
				}
				ok(t, err)
				var got Account
				ok(t, c.db.Last(&got).Error)
				if got.Name != name {
					t.Errorf("%+v", got)
				}
				if tenant := c.cell(t, "accounts", "tenant_id", got.ID); string(tenant) != fmt.Sprint(got.TenantID) {
					t.Errorf("the database has %q, the row %d", tenant, got.TenantID)
				}
			})
		}
	})
}

// One column under two names.
func TestAttackMapsThatNameAColumnTwice(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		for what, entries := range map[string]map[string]any{
			"sealed":          {"name": name, "Name": "Grace", "code": "x"},
			"sealed and NULL": {"name": nil, "Name": "Grace", "code": "x"},
			"id":              {"id": 40, "ID": 41, "name": name, "code": "x"},
		} {
			for _, list := range []bool{false, true} {
				t.Run(fmt.Sprint(what, list), func(t *testing.T) {
					c.seed(t)
					var err error
					if list {
						err = c.db.Model(&Chart{}).Create([]map[string]any{entries}).Error
					} else {
						err = c.db.Model(&Chart{}).Create(entries).Error
					}
					fails(t, err, rowseal.ErrUnsupported, "twice")
				})
			}
		}
	})
}

// A primary key in another spelling than the column's.
func TestAttackMapsWithAnIDSpeltOtherwise(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		for i, spelt := range []string{"id", "ID", "Id"} {
			m := map[string]any{spelt: 50 + i, "name": name, "code": fmt.Sprint(i)}
			ok(t, c.db.Model(&Chart{}).Create(m).Error)
			if got := load[Chart](t, c.db, 50+i); got.Name != name {
				t.Errorf("%s: %+v", spelt, got)
			}
			l := []map[string]any{{spelt: 60 + i, "name": name, "code": fmt.Sprint("l", i)}}
			ok(t, c.db.Model(&Chart{}).Create(&l).Error)
			if got := load[Chart](t, c.db, 60+i); got.Name != name {
				t.Errorf("%s: %+v", spelt, got)
			}
		}
	})
}

// A map gets the id of its row, also where the key was made without it.
func TestAttackMapsOfRowsWithoutAnIDInTheContext(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, insecure(t), rowseal.Config{Models: []any{rowseal.Model{Value: &Member{}, Context: rowseal.Context{OmitID: true}}}}, &gorm.Config{})
		one, two := map[string]any{"name": "Ada"}, []map[string]any{{"name": "Grace"}, {"name": "Edith"}}
		ok(t, w.db.Model(&Member{}).Create(one).Error)
		ok(t, w.db.Model(&Member{}).Create(&two).Error)
		for i, m := range []map[string]any{one, two[0], two[1]} {
			if _, has := m["id"]; !has {
				t.Fatalf("map %d has no id: %v", i, m)
			}
			if got := load[Member](t, w.db, m["id"]); got.Name != m["name"] {
				t.Errorf("%+v", got)
			}
		}
	})
}

// An upsert gives a map the id of the row that it met.
func TestAttackMapsThatMeetAnotherRow(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		c.seed(t)
		up := clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, DoUpdates: clause.AssignmentColumns([]string{"ward"})}
		m := map[string]any{"code": "a", "ward": "upserted"}
		ok(t, c.db.Model(&Chart{}).Clauses(up).Create(m).Error)
		var got Chart
		ok(t, c.db.Take(&got, "code = 'a'").Error)
		if got.Ward != "upserted" {
			t.Errorf("%+v", got)
		}
		if id, has := m["id"]; has && fmt.Sprint(id) != fmt.Sprint(got.ID) {
			t.Errorf("the map has id %v, its row %d", id, got.ID)
		}
		l := []map[string]any{{"code": "a", "ward": "again"}, {"code": "new", "ward": "again"}, {"code": "b", "ward": "again"}}
		ok(t, c.db.Model(&Chart{}).Clauses(up).Create(&l).Error)
		for _, m := range l {
			var got Chart
			ok(t, c.db.Take(&got, "code = ?", m["code"]).Error)
			if id, has := m["id"]; has && fmt.Sprint(id) != fmt.Sprint(got.ID) {
				t.Errorf("the map has id %v, its row %d", id, got.ID)
			}
		}
		l = []map[string]any{{"code": "a", "ward": "not"}, {"code": "new2", "ward": "again"}, {"code": "b", "ward": "not"}}
		ok(t, c.db.Model(&Chart{}).Clauses(clause.OnConflict{DoNothing: true}).Create(&l).Error)
		for _, m := range l {
			var got Chart
			ok(t, c.db.Take(&got, "code = ?", m["code"]).Error)
			if id, has := m["id"]; has && fmt.Sprint(id) != fmt.Sprint(got.ID) {
				t.Errorf("DO NOTHING: the map has id %v, its row %d", id, got.ID)
			}
		}
	})
}

// What RETURNING names comes into the map.
func TestAttackMapsGetWhatIsReturned(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		m := map[string]any{"code": "x", "ward": gorm.Expr("upper('w')"), "name": name}
		ok(t, c.db.Model(&Chart{}).Clauses(clause.Returning{Columns: []clause.Column{{Name: "id"}, {Name: "ward"}}}).Create(m).Error)
		if fmt.Sprint(m["ward"]) != "W" || m["name"] != name {
			t.Errorf("%v", m)
		}
	}, sqliteGo, postgres)
}

// All the ways to create from maps that nothing else tries.
func TestAttackMapsOtherwise(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		c := openClosed(t, kind)
		many := []map[string]any{{"code": "1", "name": "1"}, {"code": "2", "name": "2"}, {"code": "3", "name": "3"}}
		ok(t, c.db.Model(&Chart{}).CreateInBatches(&many, 2).Error)
		ok(t, c.db.Model(&Chart{}).CreateInBatches([]map[string]any{{"code": "4", "name": "4"}, {"code": "5", "name": "5"}, {"code": "6", "name": "6"}}, 2).Error)
		ok(t, gorm.G[Chart](c.db).Set(clause.Assignment{Column: clause.Column{Name: "name"}, Value: "7"}, clause.Assignment{Column: clause.Column{Name: "code"}, Value: "7"}).Create(t.Context()))
		one := map[string]any{"code": "8", "name": "8"}
		ok(t, c.db.Model(&Chart{}).Create(&one).Error)
		ok(t, c.db.Model(&Chart{}).Select("code", "name").Create(map[string]any{"code": "9", "name": "9", "ward": "not selected"}).Error)
		ok(t, c.db.Model(&Chart{}).Omit("encrypted_kms_key", "id", "ward").Create(map[string]any{"code": "10", "name": "10", "ward": "omitted"}).Error)
		var got []Chart
		ok(t, c.db.Order("id").Find(&got).Error)
		if len(got) != 10 {
			t.Fatalf("%d rows", len(got))
		}
		for _, r := range got {
			if r.Name != r.Code || r.Ward != "" {
				t.Errorf("%+v", r)
			}
		}
		for _, m := range append(many, one) {
			if got := load[Chart](t, c.db, m["id"]); got.Code != m["code"] {
				t.Errorf("map %v has the id of %+v", m, got)
			}
		}
		text := c.db.ToSQL(func(tx *gorm.DB) *gorm.DB {
			return tx.Model(&Chart{}).Create(map[string]any{"name": name, "code": "x"})
		})
		if strings.Contains(text, name) {
			t.Error(text)
		}
		if err := c.db.Model(&Chart{}).Create([]map[string]any{}).Error; err == nil {
			t.Error("an empty slice")
		}
		ok(t, c.db.Model(&Chart{}).Create([]map[string]any{{"code": "n"}, nil}).Error)
	})
}

// Two updates of the same rows at once: the last one's values stand, and all open.
func TestAttackManyRowsTwoAtOnce(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		members(t, w, 400)
		w.db.Logger = logger.Discard
		errs := make(chan error, 4)
		for i, values := range []map[string]any{
			{"name": "Grace", "city": "Rome", "notes": "new"}, {"name": "Edith", "city": "Oslo", "notes": "newer"}, {"name": "Rosa"}, {"phone": "777"},
		} {
			go func() {
				errs <- w.db.Model(&Member{}).Where("ward = 'a'").Update("visits", i).Updates(values).Error
			}()
		}
		for range 4 {
			if err := <-errs; err != nil && !strings.Contains(strings.ToLower(err.Error()), "deadlock") && !errors.Is(err, rowseal.ErrStaleKey) {
				t.Error(err)
			}
		}
		for _, s := range stored(t, w) { // opens every row
			if strings.HasPrefix(s, "a|Ada|") {
				t.Error(s)
			}
		}
	}, postgres, mariadb)
}

// Rows with and without an id in one statement, and an upsert that replaces a row whole.
func TestAttackMapsWithAndWithoutIDs(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Member{})
		mixed := []map[string]any{{"id": 90, "name": "a"}, {"name": "b"}, {"id": 70, "name": "c"}, {"name": "d"}}
		ok(t, w.db.Model(&Member{}).Create(&mixed).Error)
		for _, m := range mixed {
			if got := load[Member](t, w.db, m["id"]); got.Name != m["name"] {
				t.Errorf("%v has the id of %+v", m, got)
			}
		}
		ok(t, w.db.Exec("DELETE FROM members").Error)
		all := members(t, w, 2)
		whole := map[string]any{"id": all[0].ID, "name": "Grace", "city": "Rome", "notes": "new", "phone": "777", "ward": "z"}
		ok(t, w.db.Model(&Member{}).Clauses(clause.OnConflict{UpdateAll: true}).Create(whole).Error)
		equal(t, stored(t, w), []string{"z|Grace|Rome|new|777", "b|Ada|city 2|old|555"})
		part := map[string]any{"id": all[0].ID, "name": "Edith", "ward": "y"}
		fails(t, w.db.Model(&Member{}).Clauses(clause.OnConflict{UpdateAll: true}).Create(part).Error, rowseal.ErrUnsupported)
		ok(t, w.db.Model(&Member{}).Clauses(clause.OnConflict{DoNothing: true}).Create(part).Error)
		both := []map[string]any{
			{"id": all[0].ID, "name": "Rosa", "city": "Oslo", "notes": "newer", "phone": "888", "ward": "x"},
			{"id": 500, "name": "Rosa", "city": "Oslo", "notes": "newer", "phone": nil, "ward": "x"},
		}
		ok(t, w.db.Model(&Member{}).Clauses(clause.OnConflict{UpdateAll: true}).Create(both).Error)
		equal(t, stored(t, w), []string{"x|Rosa|Oslo|newer|888", "b|Ada|city 2|old|555", "x|Rosa|Oslo|newer|NULL"})
	})
}

// A callback that runs last of all sets a context column: the row opens, or is not stored.
func TestAttackCallbackThatChangesTheContextLast(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := openWith(t, kind, insecure(t), rowseal.Config{Models: []any{rowseal.Model{Value: &Account{}, Context: rowseal.Columns("tenant_id")}}}, &gorm.Config{})
		ok(t, w.db.Callback().Create().Before("gorm:create").Register("tenant", func(db *gorm.DB) {
			switch dest := db.Statement.Dest.(type) {
			case *[]map[string]any:
				(*dest)[0]["tenant_id"] = 9
			default:
				db.Statement.SetColumn("tenant_id", uint64(9), true)
			}
		}))
		for how, create := range map[string]func() error{
			"a struct":         func() error { return w.db.Create(&Account{Name: name}).Error },
			"a struct with id": func() error { return w.db.Create(&Account{ID: 100, Name: name}).Error },
			"a map":            func() error { return w.db.Model(&Account{}).Create(map[string]any{"name": name}).Error },
			"a map with id":    func() error { return w.db.Model(&Account{}).Create(map[string]any{"id": 101, "name": name}).Error },
			"maps":             func() error { return w.db.Model(&Account{}).Create(&[]map[string]any{{"name": name}}).Error },
		} {
			if err := create(); err != nil {
				fails(t, err, rowseal.ErrContext, "Account")
			}
			var all []Account
			if err := w.db.Find(&all).Error; err != nil {
				t.Fatalf("%s: %v", how, err)
			}
		}
	})
}
