package integration

// mysql_test.go owns what MySQL and MariaDB do otherwise: loose comparisons, upserts without conditions, reads of the past inside a
// transaction, counts of changed rows, and SQL that only they understand.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
)

func eachMySQL(t *testing.T, f func(t *testing.T, kind string)) { on(t, f, mariadb, mysqlLike) }

// mysqlPaths are ways to write or compare that only MySQL and MariaDB take.
var mysqlPaths = func() []path {
	// Some write the id as well, or name the column on both sides.
	plain, key := refused(rowseal.ErrPlaintext, rowseal.ErrIdentity, rowseal.ErrCondition), refused(rowseal.ErrKeyColumn, rowseal.ErrPlaintext)
	var paths []path
	for sql, w := range map[string]want{
		"INSERT INTO charts SET code = 'x', name = '" + name + "'":                                                         plain,
		"INSERT INTO charts (id, code) VALUES (1, 'a') ON DUPLICATE KEY UPDATE name = '" + name + "'":                      plain,
		"INSERT INTO charts (id, code) VALUES (1, 'a') ON DUPLICATE KEY UPDATE encrypted_kms_key = 'v1:x'":                 key,
		"INSERT IGNORE charts (code, name) VALUES ('x', '" + name + "')":                                                   plain,
		"INSERT LOW_PRIORITY INTO charts (code, name) VALUES ('x', '" + name + "')":                                        plain,
		"REPLACE INTO charts SET id = 1, name = '" + name + "'":                                                            plain,
		"REPLACE charts (id, name) VALUES (1, '" + name + "')":                                                             plain,
		"UPDATE LOW_PRIORITY charts SET name = '" + name + "'":                                                             plain,
		"UPDATE IGNORE charts SET name = '" + name + "'":                                                                   plain,
		"UPDATE charts, doctors SET charts.name = '" + name + "' WHERE doctors.id = 1":                                     plain,
		"UPDATE doctors d JOIN charts x ON x.doctor_id = d.id SET x.name = '" + name + "'":                                 plain,
		"UPDATE charts SET ward = 'z' /*! , name = '" + name + "' */":                                                      plain,
		"UPDATE charts SET ward = 'z' /*!50000 , name = '" + name + "' */":                                                 plain,
		"UPDATE charts SET ward = 'z' /*M! , name = '" + name + "' */":                                                     plain,
		"UPDATE charts SET ward = 'z' /*M!100100 , name = '" + name + "' */":                                               plain,
		"# don't\nUPDATE charts SET name = '" + name + "'":                                                                 plain,
		"UPDATE charts SET ward = 5--1, name = '" + name + "'":                                                             plain,
		`UPDATE charts SET ward = "\"", name = "` + name + `", code = "\""`:                                                plain,
		`UPDATE charts SET ward = '\'', name = "` + name + `", code = '\''`:                                                plain,
		"LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE charts (id, name)":                                                  plain,
		"LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE charts (id) SET name = '" + name + "'":                              plain,
		"LOAD DATA LOCAL INFILE '/dev/null' INTO TABLE charts":                                                             plain,
		"DELETE QUICK FROM charts WHERE name = '" + name + "'":                                                             cond,
		"DELETE x FROM charts x WHERE x.name = '" + name + "'":                                                             cond,
		"DELETE FROM x USING charts AS x WHERE x.name = '" + name + "'":                                                    cond,
		"DELETE FROM charts ORDER BY name LIMIT 1":                                                                         cond,
		"SET @x = (SELECT count(*) FROM charts WHERE name = '" + name + "')":                                               cond,
		"DO (SELECT id FROM charts WHERE name <=> '" + name + "')":                                                         cond,
		"CREATE TABLE closed_copy SELECT id FROM charts WHERE name RLIKE '" + name + "'":                                   cond,
		"ALTER TABLE charts MODIFY name longblob DEFAULT '" + name + "'":                                                   plain,
		"UPDATE charts SET ward = CASE name WHEN '" + name + "' THEN 'a' ELSE 'b' END":                                     cond,
		"UPDATE charts SET name = IF(id = 1, '" + name + "', name)":                                                        plain,
		"INSERT INTO charts (id, code) VALUES (1, 'a') ON DUPLICATE KEY UPDATE ward = IF(name = '" + name + "', 'a', 'b')": cond,
	} {
		paths = append(paths, path{name: "Exec " + strings.ReplaceAll(sql, name, "x"), on: "mysql", run: raws(sql), want: w})
	}
	for _, sql := range []string{
		"SELECT id FROM charts WHERE MATCH (name) AGAINST ('" + name + "')",
		"SELECT SQL_NO_CACHE id FROM charts WHERE name = '" + name + "'",
		"SELECT id FROM charts FORCE INDEX (PRIMARY) WHERE name = '" + name + "'",
		"SELECT id FROM charts PARTITION (p0) WHERE name = '" + name + "'",
		"SELECT id FROM charts WHERE ward = 'w' XOR name = '" + name + "'",
		"SELECT id FROM charts STRAIGHT_JOIN doctors WHERE charts.name = '" + name + "'",
		"SELECT id FROM charts PROCEDURE ANALYSE() WHERE name = '" + name + "'",
		"HANDLER charts READ FIRST WHERE name = '" + name + "'",
	} {
		paths = append(paths, path{name: "Raw " + strings.ReplaceAll(sql, name, "x"), on: "mysql", run: selects(sql), want: cond})
	}
	for _, sql := range []string{"SELECT SQL_NO_CACHE name AS ward FROM charts", "SELECT HIGH_PRIORITY name AS ward FROM charts", "SELECT SQL_CALC_FOUND_ROWS name ward FROM charts"} {
		paths = append(paths, path{name: "Raw " + sql, on: "mysql", run: selects(sql), want: refused(rowseal.ErrUnsupported, rowseal.ErrCondition)})
	}
	slices.SortFunc(paths, func(a, b path) int { return strings.Compare(a.name, b.name) })
	return append(paths,
		path{name: "OnConflict that meets another row's unique value", on: "mysql", run: func(c *closed) error {
			v := renewed()
			v.ID, v.Code = 9, "b"
			err := c.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(v).Error
			return errors.Join(err, expect(v.ID, uint64(9)))
		}, want: refused(gorm.ErrDuplicatedKey)},
		path{name: "OnConflict DoNothing that meets another row's unique value", on: "mysql", run: func(c *closed) error {
			v := renewed()
			v.ID, v.Code = 9, "b"
			err := c.db.Clauses(clause.OnConflict{DoNothing: true}).Create(v).Error
			return errors.Join(err, expect(v.ID, uint64(9)))
		}, want: same},
		path{name: "OnConflict of a row without id that meets another row's unique value", on: "mysql", run: func(c *closed) error {
			v := renewed()
			v.Code = "b"
			return c.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(v).Error
		}, want: refused(gorm.ErrDuplicatedKey)},
		path{name: "Save of a new row with id that meets another row's unique value", on: "mysql", run: func(c *closed) error {
			v := renewed()
			v.ID, v.Code = 9, "b"
			return c.db.Save(v).Error
		}, want: refused(gorm.ErrDuplicatedKey)},
		path{name: "Save of a slice, one of which meets another row's unique value", on: "mysql", run: func(c *closed) error {
			a, b := renewed(), renewed()
			a.ID, a.Code, b.ID, b.Code = 9, "new", 10, "b"
			return c.db.Save([]*Chart{a, b}).Error
		}, want: refused(gorm.ErrDuplicatedKey)},
		path{name: "OnConflict without a transaction that meets another row's unique value", on: "mysql", run: func(c *closed) error {
			v := renewed()
			v.ID, v.Code = 9, "b"
			return c.db.Session(&gorm.Session{SkipDefaultTransaction: true}).Clauses(clause.OnConflict{UpdateAll: true}).Create(v).Error
		}, want: refused(gorm.ErrDuplicatedKey)},
		path{name: "OnConflict of loaded and other rows together", on: "mysql", run: func(c *closed) error {
			one, two, three := c.load(1), conflict(renewed()), renewed()
			one.Name, three.Code = name, "new"
			if _, err := one.Notes.Get(context.Background()); err != nil {
				return err
			}
			return c.db.Clauses(clause.OnConflict{UpdateAll: true}).Create([]*Chart{one, two, three}).Error
		}, want: sealed("nssssss " + fresh + " " + fresh)},
		path{name: "OnConflict Assignments of a plain column beside the sealed ones", on: "mysql", run: func(c *closed) error {
			do := append(clause.AssignmentColumns([]string{"phone", "encrypted_kms_key_phone"}), clause.Assignments(map[string]any{"ward": gorm.Expr("concat(charts.ward, ?)", "!")})...)
			if err := c.db.Clauses(clause.OnConflict{Columns: byID, DoUpdates: do}).Create(conflict(renewed())).Error; err != nil {
				return err
			}
			return expect(c.load(2).Ward, "w!")
		}, want: sealed(rest + " ssssssn")},
		path{name: "clause.Insert{Modifier: IGNORE}", on: "mysql", run: func(c *closed) error {
			a, b := renewed(), renewed()
			a.Code, b.Code = "a", "new"
			return c.db.Clauses(clause.Insert{Modifier: "IGNORE"}).Create([]*Chart{a, b}).Error
		}, want: sealed(rest2 + " " + fresh)},
	)
}()

// MySQLText has a primary key that the database takes for equal to others.
type MySQLText struct {
	ID   string `gorm:"primaryKey"`
	Ward string
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func TestMySQLRowIsNotWrittenUnderAnIDThatOnlyTheCollationTakesForItsOwn(t *testing.T) {
	writes := map[string]func(db *gorm.DB, id string) error{
		"Update": func(db *gorm.DB, id string) error { return db.Model(&MySQLText{ID: id}).Update("name", "Grace").Error },
		"Save":   func(db *gorm.DB, id string) error { return db.Save(&MySQLText{ID: id, Name: "Grace"}).Error },
		"Upsert": func(db *gorm.DB, id string) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&MySQLText{ID: id, Name: "Grace"}).Error
		},
		"Set": func(db *gorm.DB, id string) error {
			return db.Model(&MySQLText{ID: id}).Clauses(clause.Set{{Column: clause.Column{Name: "name"}, Value: "Grace"}}).Updates(map[string]any{}).Error
		},
		"Rotate": func(db *gorm.DB, id string) error {
			return rowseal.Rotate(context.Background(), db, &MySQLText{ID: id})
		},
	}
	eachMySQL(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			for _, id := range []string{"ADA", "ada ", "ädä"} {
				t.Run(how+" "+id, func(t *testing.T) {
					w, rotator := ring(t, kind, &MySQLText{})
					ok(t, w.db.Create(&MySQLText{ID: "ada", Name: "Ada"}).Error)
					before := w.dump(t, "my_sql_texts")
					err := write(rotator, id)
					if err == nil && how != "Update" && how != "Set" { // no row is no error there
						t.Error("no error")
					}
					if how == "Rotate" {
						fails(t, err, gorm.ErrRecordNotFound, id)
					}
					if after := w.dump(t, "my_sql_texts"); after != before {
						t.Fatalf("error %v, and the row is now\n%s", err, after)
					}
					if r := load[MySQLText](t, w.db, "ada"); r.Name != "Ada" {
						t.Fatalf("row holds %q", r.Name)
					}
				})
			}
		}
	})
}

// An old table's text is in another character set than the connection's.
func TestMySQLRowOfAnotherCharacterSetIsFound(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w, rotator := ring(t, kind, &MySQLText{})
		w.tamper(t, "ALTER TABLE my_sql_texts CONVERT TO CHARACTER SET latin1")
		r := MySQLText{ID: "Zoë", Name: "Ada"}
		ok(t, w.db.Create(&r).Error)
		ok(t, rowseal.Rotate(t.Context(), rotator, &MySQLText{ID: r.ID}))
		ok(t, w.db.Model(&r).Update("name", "Grace").Error)
		ok(t, w.db.Model(&MySQLText{ID: r.ID}).Update("name", "Edith").Error)
		ok(t, w.db.Save(&MySQLText{ID: r.ID, Name: "Joan"}).Error)
		ok(t, w.db.Save([]*MySQLText{{ID: r.ID, Name: "Zoë"}}).Error)
		if got := load[MySQLText](t, w.db, r.ID); got.Name != "Zoë" {
			t.Fatalf("row holds %q", got.Name)
		}
	})
}

// Base64 that differs in case alone is another key.
func TestMySQLKeyIsComparedByItsBytes(t *testing.T) {
	alike := map[string]func(string) string{
		"case":            func(s string) string { return s[:len(s)-1] + swapped(s[len(s)-1:]) },
		"trailing spaces": func(s string) string { return s + " " },
	}
	eachMySQL(t, func(t *testing.T, kind string) {
		for how, change := range alike {
			t.Run(how, func(t *testing.T) {
				w, rotator := ring(t, kind, &LostRow{})
				id := ada(t, w.db)
				key := string(w.cell(t, "lost_rows", "encrypted_kms_key", id))
				for swapped(key[len(key)-1:]) == key[len(key)-1:] { // a digit has no case
					ok(t, w.db.Model(&LostRow{ID: id}).Updates(map[string]any{"name": "Ada", "notes": "likes numbers", "phone": "555"}).Error)
					key = string(w.cell(t, "lost_rows", "encrypted_kms_key", id))
				}
				loaded := load[LostRow](t, w.db, id)
				other := change(key)
				w.tamper(t, "UPDATE lost_rows SET encrypted_kms_key = ? WHERE id = ?", other, id)
				before := w.dump(t, "lost_rows")
				for _, write := range []func() error{
					func() error { return w.db.Model(&loaded).Update("name", "Grace").Error },
					func() error { return w.db.Model(&loaded).Update("notes", "compiles").Error },
					func() error { return w.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&loaded).Error },
				} {
					if err := write(); err == nil {
						t.Error("no error")
					}
				}
				if after := w.dump(t, "lost_rows"); after != before {
					t.Fatalf("another key was taken for the row's own:\n%s", difference(before, after))
				}
				w.tamper(t, "UPDATE lost_rows SET encrypted_kms_key = ? WHERE id = ?", key, id)
				ok(t, rowseal.Rotate(t.Context(), rotator, &LostRow{ID: id}))
				holds(t, w.db, id, "Ada", "likes numbers", "555")
			})
		}
	})
}

func swapped(s string) string {
	if upper := strings.ToUpper(s); upper != s {
		return upper
	}
	return strings.ToLower(s)
}

// The transaction goes on reading the row as it was when it first read.
func TestMySQLStaleWriterInsideATransactionSeesTheRotation(t *testing.T) {
	writes := map[string]func(db *gorm.DB, r *LostRow) error{
		"Save":      func(db *gorm.DB, r *LostRow) error { r.Name = "Grace"; return db.Save(r).Error },
		"Update":    func(db *gorm.DB, r *LostRow) error { return db.Model(r).Update("name", "Grace").Error },
		"Unloaded":  func(db *gorm.DB, r *LostRow) error { return db.Model(&LostRow{ID: r.ID}).Update("name", "Grace").Error },
		"SaveSlice": func(db *gorm.DB, r *LostRow) error { r.Name = "Grace"; return db.Save([]*LostRow{r}).Error },
		"Rotate":    func(db *gorm.DB, r *LostRow) error { return rowseal.Rotate(context.Background(), db, r) },
	}
	eachMySQL(t, func(t *testing.T, kind string) {
		for how, write := range writes {
			t.Run(how, func(t *testing.T) {
				w, rotator := ring(t, kind, &LostRow{})
				id := ada(t, w.db)
				want := "Grace"
				err := w.db.Transaction(func(tx *gorm.DB) error {
					r := load[LostRow](t, tx, id) // from here on the transaction sees this
					if _, err := r.Notes.Get(t.Context()); err != nil {
						return err
					}
					ok(t, rowseal.Rotate(t.Context(), rotator, &LostRow{ID: id}))
					return write(tx, &r)
				})
				if err != nil && !errors.Is(err, rowseal.ErrStaleKey) {
					t.Fatal(err)
				}
				if err != nil || how == "Rotate" {
					want = "Ada"
				}
				holds(t, rotator, id, want, "likes numbers", "555")
				if key := w.cell(t, "lost_rows", "encrypted_kms_key", id); how != "Rotate" && !strings.HasPrefix(string(key), "v2:") {
					t.Errorf("the key is %.20q: the rotation is undone", key)
				}
			})
		}
	})
}

// GORM's Save takes an UPDATE that changed nothing for one that found nothing, where the connection counts changed rows.
func TestMySQLSaveOfAnUnchangedRowIsNoInsert(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		for how, selects := range map[string][]string{"loaded": {"*"}, "loaded in part": {"id", "ward"}} {
			t.Run(how, func(t *testing.T) {
				w := open(t, kind, &LostRow{})
				id := ada(t, w.db)
				var r LostRow
				ok(t, w.db.Select(selects).Take(&r, id).Error)
				w.spy.Reset()
				result := w.db.Save(&r)
				ok(t, result.Error)
				if n := w.spy.Count("exec", "INSERT") + w.spy.Count("query", "INSERT"); n != 0 || result.RowsAffected != 1 {
					t.Errorf("%d INSERTs, %d rows affected; want none, 1", n, result.RowsAffected)
				}
				holds(t, w.db, id, "Ada", "likes numbers", "555")
				// A condition that leaves the row out still does.
				if n := w.db.Where("ward = ?", "nobody's").Select("*").Updates(&r).RowsAffected; n != 0 {
					t.Errorf("%d rows affected by an update whose condition the row does not meet", n)
				}
			})
		}
	})
}

func TestMySQLBatchFindsItsRowsWhateverTheServerCountsIn(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		ok(t, w.db.Connection(func(db *gorm.DB) error {
			db = db.Session(&gorm.Session{})
			ok(t, db.Exec("SET SESSION auto_increment_increment = 7").Error)
			for range 2 {
				rows := make([]*LostRow, 400)
				for i := range rows {
					rows[i] = &LostRow{Name: fmt.Sprint("row ", i), Notes: rowseal.NewSecret("n"), Phone: new("p")}
				}
				ok(t, db.Create(rows).Error)
				for i, r := range rows {
					if i%40 == 0 {
						holds(t, db, r.ID, fmt.Sprint("row ", i), "n", "p")
					}
				}
			}
			return nil
		}))
		if n := count(t, w, "lost_rows WHERE encrypted_kms_key LIKE 'v1:%'"); n != 800 {
			t.Errorf("%d rows under keys, want 800", n)
		}
	})
}

// The ids that GORM counts up are a hint, and the tokens the proof.
func TestMySQLBatchFindsItsRowsWhateverGORMTookForTheirIDs(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		for _, offset := range []uint64{1000, ^uint64(0)} { // too high, and too low
			_ = w.db.Callback().Create().Remove("miscount")
			ok(t, w.db.Callback().Create().After("gorm:create").Before("rowseal:after_create").Register("miscount", func(db *gorm.DB) {
				for _, r := range db.Statement.Dest.([]*LostRow) {
					r.ID += offset
				}
			}))
			rows := []*LostRow{{Name: "a", Notes: rowseal.NewSecret("n"), Phone: new("p")}, {Name: "b", Notes: rowseal.NewSecret("n"), Phone: new("p")}}
			ok(t, w.db.Create(rows).Error)
			for _, r := range rows {
				holds(t, w.db, r.ID, r.Name, "n", "p")
			}
		}
	})
}

// The key column has no index to find a token by.
func TestMySQLCreateReadsNoOtherRow(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		rows := make([]LostRow, 500)
		ok(t, w.db.Create(&rows).Error)
		ok(t, w.db.Connection(func(db *gorm.DB) error {
			db = db.Session(&gorm.Session{})
			scanned := func() (n int) {
				ok(t, db.Raw("SELECT sum(variable_value) FROM information_schema.session_status WHERE variable_name IN ('HANDLER_READ_NEXT', 'HANDLER_READ_RND_NEXT')").Scan(&n).Error)
				return n
			}
			scanned()
			before := scanned()
			idle := scanned() - before // what asking costs
			before = scanned()
			ok(t, db.Create(&[]LostRow{{Name: "a"}, {Name: "b"}}).Error)
			if n := scanned() - before - idle; n > 20 {
				t.Errorf("%d rows were read to create 2", n)
			}
			return nil
		}))
	})
}

// A statement that found its row by the token alone would lock every row.
func TestMySQLCreateWaitsForNoOtherRow(t *testing.T) {
	eachMySQL(t, func(t *testing.T, kind string) {
		w := open(t, kind, &LostRow{})
		id := ada(t, w.db)
		ok(t, w.db.Transaction(func(tx *gorm.DB) error {
			ok(t, tx.Model(&LostRow{ID: id}).Update("ward", "8").Error)
			return w.db.Connection(func(db *gorm.DB) error {
				ok(t, db.Exec("SET SESSION innodb_lock_wait_timeout = 1").Error)
				return db.Create(&[]LostRow{{Name: "a"}, {Name: "b"}}).Error
			})
		}))
	})
}
