package integration

// attack_ring2_test.go: more of attack_ring_test.go: every way to read and write as a writer, transactions, and a storm.

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
)

type ARingOwner struct {
	ID   uint64
	Name string
	Two  []ATwo `gorm:"foreignKey:OwnerID"`
}

// ATwo has two keys, text columns and a soft delete.
type ATwo struct {
	ID      uint64
	OwnerID uint64
	Title   string
	A       string  `gorm:"serializer:rowseal" rowseal:"text"`
	B       *string `gorm:"serializer:rowseal"`
	S       rowseal.Secret[string]
	P       string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Q       string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey,text"`
	Deleted gorm.DeletedAt
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

func two(t testing.TB, db *gorm.DB) ATwo {
	t.Helper()
	r := ATwo{OwnerID: 1, Title: "t", A: "a", B: new("b"), S: rowseal.NewSecret("s"), P: "p", Q: "q"}
	ok(t, db.Create(&r).Error)
	return r
}

func showTwo(db *gorm.DB, id uint64) string {
	var r ATwo
	if err := db.Unscoped().First(&r, id).Error; err != nil {
		return "ERROR " + err.Error()
	}
	b := "NULL"
	if r.B != nil {
		b = *r.B
	}
	s, err := r.S.Get(context.Background())
	if err != nil {
		s = "ERROR " + err.Error()
	}
	return strings.Join([]string{r.A, b, s, r.P, r.Q}, " ")
}

func TestAttackWriterEveryWay(t *testing.T) {
	type dto struct {
		ID uint64
		A  string
		S  string
	}
	ways := map[string]struct {
		do   func(db *gorm.DB, id uint64, see func(...any)) error
		want string // what the row holds then; "" for unchanged
	}{
		"pluck": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s []string
			err := db.Model(&ATwo{}).Pluck("a", &s).Error
			see(s)
			return err
		}},
		"pluck bytes": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s [][]byte
			err := db.Model(&ATwo{}).Pluck("b", &s).Error
			see(s)
			return err
		}},
		"dto": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s []dto
			err := db.Model(&ATwo{}).Find(&s).Error
			see(s)
			return err
		}},
		"take dto": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s dto
			err := db.Model(&ATwo{}).Take(&s).Error
			see(s)
			return err
		}},
		"scan dto": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s dto
			err := db.Model(&ATwo{}).Select("id", "a").Scan(&s).Error
			see(s)
			return err
		}},
		"raw scan": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s []dto
			err := db.Raw("SELECT id, a FROM a_twos").Scan(&s).Error
			see(s)
			return err
		}},
		"raw string": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s string
			err := db.Raw("SELECT a FROM a_twos").Scan(&s).Error
			see(s)
			return err
		}},
		"raw bytes": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s []byte
			err := db.Raw("SELECT b FROM a_twos").Row().Scan(&s)
			see(s)
			return err
		}},
		"map": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			s := map[string]any{}
			err := db.Model(&ATwo{}).Take(&s).Error
			see(s)
			return err
		}},
		"maps": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var s []map[string]any
			err := db.Table("a_twos").Find(&s).Error
			see(s)
			return err
		}},
		"rows": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			rows, err := db.Model(&ATwo{}).Select("a", "p").Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var a, p any
				if err := rows.Scan(&a, &p); err != nil {
					return err
				}
				see(a, p)
			}
			return rows.Err()
		}},
		"scan rows": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			rows, err := db.Model(&ATwo{}).Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var a ATwo
				if err := db.ScanRows(rows, &a); err != nil {
					return err
				}
				see(a.A, a.P)
			}
			return rows.Err()
		}},
		"preload": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var o ARingOwner
			err := db.Preload("Two").First(&o).Error
			for _, x := range o.Two {
				see(x.A, x.B, x.P)
			}
			return err
		}},
		"preload, save owner": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var o ARingOwner
			if err := db.Preload("Two").First(&o).Error; err != nil {
				return err
			}
			o.Name = "x"
			return db.Save(&o).Error
		}},
		"preload, save all": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var o ARingOwner
			if err := db.Preload("Two").First(&o).Error; err != nil {
				return err
			}
			o.Name = "x"
			return db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&o).Error
		}},
		"replace association": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var o ARingOwner
			if err := db.Preload("Two").First(&o).Error; err != nil {
				return err
			}
			return db.Model(&o).Association("Two").Replace(o.Two)
		}},
		"first or create": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			err := db.Where(ATwo{Title: "t"}).Attrs(ATwo{A: "attr"}).FirstOrCreate(&r).Error
			see(r.A)
			return err
		}},
		"first or create, assign": {want: "as b s p q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			return db.Where(ATwo{Title: "t"}).Assign(ATwo{A: "as"}).FirstOrCreate(&r).Error
		}},
		"save loaded": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			r.Title = "x"
			return db.Save(&r).Error
		}},
		"save part": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.Select("title").First(&r, id).Error; err != nil {
				return err
			}
			r.P = "p2"
			return db.Save(&r).Error
		}, want: "a b s p2 q"},
		"save a slice": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r []ATwo
			if err := db.Find(&r).Error; err != nil {
				return err
			}
			r[0].A = "sl"
			return db.Save(&r).Error
		}},
		"save a copy as another": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			r.ID = 0
			return db.Create(&r).Error
		}},
		"updates with a loaded one": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			return db.Model(&ATwo{ID: id}).Select("*").Updates(&r).Error
		}},
		"select star updates itself": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			return db.Model(&r).Select("*").Updates(r).Error
		}},
		"update column": {want: "a b s p q2", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Model(&ATwo{ID: id}).UpdateColumn("q", "q2").Error
		}},
		"update columns of both": {want: "a2 b s p q2", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Model(&ATwo{ID: id}).UpdateColumns(map[string]any{"q": "q2", "a": "a2"}).Error
		}},
		"returning": {want: "a2 b s p q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			r := ATwo{ID: id}
			err := db.Model(&r).Clauses(clause.Returning{}).Update("a", "a2").Error
			see(r.A, r.P)
			if err == nil {
				r.Title = "z"
				err = db.Save(&r).Error
			}
			return err
		}},
		"returning loaded": {want: "a2 b s p2 q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			err := db.Model(&r).Clauses(clause.Returning{Columns: []clause.Column{{Name: "a"}, {Name: "q"}}}).Update("a", "a2").Error
			see(r.A, r.P, r.Q)
			if err == nil {
				r.P = "p2"
				err = db.Save(&r).Error
			}
			return err
		}},
		"create returning": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			r := ATwo{Title: "new", A: "plain"}
			err := db.Clauses(clause.Returning{}).Create(&r).Error
			r.Title = "newer"
			return errors.Join(err, db.Save(&r).Error)
		}},
		"delete returning": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r []ATwo
			err := db.Unscoped().Clauses(clause.Returning{}).Where("title = ?", "nothing").Delete(&r).Error
			return err
		}},
		"generics update": {want: "g b s p q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			_, err := gorm.G[ATwo](db).Where("id = ?", id).Update(context.Background(), "a", "g")
			return err
		}},
		"generics updates": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			_, err := gorm.G[ATwo](db).Where("title = ?", "t").Updates(context.Background(), ATwo{A: "g"})
			return err
		}},
		"table": {want: "tb b s p q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Table("a_twos").Model(&ATwo{ID: id}).Update("a", "tb").Error
		}},
		"upsert of all": {want: "1 NULL 2 3 4", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&ATwo{ID: id, A: "1", S: rowseal.NewSecret("2"), P: "3", Q: "4"}).Error
		}},
		"upsert of one key": {want: "a b s 3 4", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"p", "q"})}).Create(&ATwo{ID: id, P: "3", Q: "4"}).Error
		}},
		"upsert of one key, named": {want: "a b s 3 4", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"p", "q", "encrypted_kms_key_phone"})}).Create(&ATwo{ID: id, P: "3", Q: "4"}).Error
		}},
		"upsert of a part, loaded": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			r.A = "u"
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"a"})}).Create(&r).Error
		}},
		"null": {want: "a NULL s p q", do: func(db *gorm.DB, id uint64, see func(...any)) error {
			return db.Model(&ATwo{ID: id}).Update("b", nil).Error
		}},
		"secret of another row": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			return db.Model(&ATwo{ID: id + 1}).Updates(ATwo{S: r.S}).Error
		}},
		"soft delete": {do: func(db *gorm.DB, id uint64, see func(...any)) error { return db.Delete(&ATwo{ID: id}).Error }},
		"save deleted": {do: func(db *gorm.DB, id uint64, see func(...any)) error {
			var r ATwo
			if err := db.First(&r, id).Error; err != nil {
				return err
			}
			if err := db.Delete(&r).Error; err != nil {
				return err
			}
			r.A = "x"
			return db.Save(&r).Error
		}},
	}
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ATwo{})
		ok(t, w.db.AutoMigrate(&ARingOwner{}))
		ok(t, w.db.Create(&ARingOwner{ID: 1, Name: "n"}).Error)
		full := start(t, w, &ATwo{}, 1, false)
		for _, ring := range []int{1, 2} {
			for name, way := range ways {
				t.Run(fmt.Sprint(name, " ", ring), func(t *testing.T) {
					ok(t, full.db.Unscoped().Where("1 = 1").Delete(&ATwo{}).Error)
					writer := start(t, w, &ATwo{}, 1, true)
					r := two(t, full.db)
					if ring == 2 {
						ok(t, writer.db.Model(&ATwo{ID: r.ID}).Updates(map[string]any{"a": "a", "p": "p"}).Error)
					}
					before := showTwo(full.db, r.ID)
					err := way.do(writer.db, r.ID, func(seen ...any) {
						for _, s := range seen {
							text := fmt.Sprintf("%s %q", s, s)
							if strings.Contains(text, "rs1:") || strings.Contains(text, "\xf9") || strings.Contains(text, `\xf9`) {
								t.Errorf("ciphertext was given out: %.80q", text)
							}
						}
						t.Logf("saw %.100q", fmt.Sprint(seen...))
					})
					after := showTwo(full.db, r.ID)
					want := before
					if err == nil && way.want != "" {
						want = way.want
					}
					if after != want {
						t.Errorf("the row holds %q, want %q (%v)", after, want, err)
					}
					if n := writer.counter.Count("unwrap"); n != 0 {
						t.Errorf("%d keys were unwrapped", n)
					}
					t.Logf("err: %.150v", err)
				})
			}
		}
	}, sqliteGo, postgres, mariadb)
}

func TestAttackWriterRolledBack(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ATwo{})
		full, writer := start(t, w, &ATwo{}, 1, false), start(t, w, &ATwo{}, 1, true)
		r := two(t, full.db)
		var loaded ATwo
		ok(t, writer.db.First(&loaded, r.ID).Error)
		stop := errors.New("stop")
		_ = writer.db.Transaction(func(tx *gorm.DB) error {
			loaded.A, loaded.P = "a2", "p2"
			ok(t, tx.Save(&loaded).Error)
			_ = tx.Transaction(func(tx *gorm.DB) error {
				loaded.Q = "q2"
				ok(t, tx.Save(&loaded).Error)
				return stop
			})
			loaded.Title = "x"
			ok(t, tx.Save(&loaded).Error)
			return stop
		})
		if s := showTwo(full.db, r.ID); s != "a b s p q" {
			t.Error(s)
		}
		other := loaded
		ok(t, writer.db.Model(&other).Update("a", "a3").Error)
		if s := showTwo(full.db, r.ID); s != "a3 b s p q" {
			t.Error(s)
		}
		ok(t, writer.db.Save(&loaded).Error)
		if s := showTwo(full.db, r.ID); s != "a2 b s p2 q2" {
			t.Error(s)
		}
		// Rotation that is rolled back.
		l2 := load[ATwo](t, full.db, r.ID)
		_ = full.db.Transaction(func(tx *gorm.DB) error {
			ok(t, rowseal.Rotate(t.Context(), tx, &l2))
			return stop
		})
		l2.A = "a4"
		ok(t, full.db.Save(&l2).Error)
		if s := showTwo(full.db, r.ID); s != "a4 b s p2 q2" {
			t.Error(s)
		}
		// Savepoint: rolled back to before the change, within a transaction that commits.
		var l3 ATwo
		ok(t, writer.db.First(&l3, r.ID).Error)
		ok(t, writer.db.Transaction(func(tx *gorm.DB) error {
			tx.SavePoint("one")
			l3.A = "a5"
			ok(t, tx.Save(&l3).Error)
			tx.RollbackTo("one")
			l3.P = "p5"
			return tx.Save(&l3).Error
		}))
		if s := showTwo(full.db, r.ID); s != "a5 b s p5 q2" {
			t.Error(s)
		}
	})
}

// A storm: writers with and without decrypt, rotations, transactions of all levels, rollbacks. What was acknowledged last is there.
func TestAttackStorm(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		w := open(t, kind, &ATwo{})
		full := start(t, w, &ATwo{}, 1, false)
		r := two(t, full.db)
		columns := []string{"a", "b", "s", "p", "q"}
		last := []string{"a", "b", "s", "p", "q"}
		odd := map[string]int{}
		var mu sync.Mutex
		stop := errors.New("stop")
		var wg sync.WaitGroup
		for i, column := range columns {
			wg.Go(func() {
				p := start(t, w, &ATwo{}, 1+i%2, i != 1 && i != 4)
				var held ATwo
				for n := range 60 {
					value := fmt.Sprint(column, n)
					level := []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead}[rand.IntN(3)]
					back := rand.IntN(4) == 0
					write := func(tx *gorm.DB) error {
						switch n % 3 {
						case 0:
							return tx.Model(&ATwo{ID: r.ID}).Update(column, value).Error
						case 1:
							if held.ID == 0 || rand.IntN(3) == 0 {
								held = ATwo{}
								if err := tx.First(&held, r.ID).Error; err != nil {
									return err
								}
							}
							return tx.Model(&held).Update(column, value).Error
						}
						if i != 1 && i != 4 && held.ID != 0 { // what a writer did not open it leaves alone
							switch i {
							case 0:
								held.A = value
							case 2:
								held.S = rowseal.NewSecret(value)
							case 3:
								held.P = value
							}
							err := tx.Save(&held).Error
							if err != nil {
								held = ATwo{}
							}
							return err
						}
						return tx.Model(&ATwo{ID: r.ID}).Updates(map[string]any{column: value, "title": value}).Error
					}
					var err error
					if rand.IntN(2) == 0 {
						err = write(p.db)
					} else {
						err = p.db.Transaction(func(tx *gorm.DB) error {
							if rand.IntN(2) == 0 { // a snapshot
								var seen ATwo
								if err := rowseal.Sealed(tx).First(&seen, r.ID).Error; err != nil {
									return err
								}
							}
							if err := write(tx); err != nil {
								return err
							}
							if back {
								return stop
							}
							return nil
						}, &sql.TxOptions{Isolation: level})
					}
					if err == nil {
						last[i] = value
						continue
					}
					if !errors.Is(err, stop) {
						mu.Lock()
						odd[fmt.Sprintf("%.90v", err)]++
						mu.Unlock()
					}
				}
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		var rg sync.WaitGroup
		for i := range 2 {
			rg.Go(func() {
				rot := start(t, w, &ATwo{}, 1+i, false)
				held := ATwo{ID: r.ID}
				for ctx.Err() == nil {
					if rand.IntN(2) == 0 {
						held = ATwo{ID: r.ID}
						_ = rot.db.First(&held).Error
					}
					err := rowseal.Rotate(t.Context(), rot.db, &held)
					if err != nil && !errors.Is(err, rowseal.ErrStaleKey) {
						mu.Lock()
						odd[fmt.Sprintf("rotate: %.90v", err)]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		cancel()
		rg.Wait()
		for text, n := range odd {
			t.Logf("%d times %s", n, text)
		}
		if s := showTwo(full.db, r.ID); s != strings.Join(last, " ") {
			t.Errorf("the row holds %q, want %q", s, strings.Join(last, " "))
		}
	}, postgres, mariadb)
}

var _ = kmskey.ErrRingFull
