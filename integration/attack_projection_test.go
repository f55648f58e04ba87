package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// Pet is sealed, and Toy is not.
type (
	Pet struct {
		ID    uint64
		Room  string
		Name  string  `gorm:"serializer:rowseal"`
		Nick  *string `gorm:"serializer:rowseal"`
		Phone string  `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
		rowseal.RowKey
		PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
	}
	Toy struct {
		ID, PetID         uint64
		Name, Loop, Label string
	}
	// plainPet has the same table without a plugin.
	plainPet struct {
		ID                                    uint64
		Room, Name                            string
		Nick                                  *string
		Phone                                 string
		EncryptedKmsKey, EncryptedKmsKeyPhone string
	}
)

func (plainPet) TableName() string { return "pets" }

// kennel is the same three rows in two databases, one of them without the plugin.
func kennel(t *testing.T, kind string) (w *world, twin *gorm.DB) {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
	ok(t, err)
	w = openWith(t, kind, keys, rowseal.Config{Models: []any{&Pet{}}}, &gorm.Config{})
	twin, _ = connect(t, kind, &sqlspy.Recorder{}, &gorm.Config{Logger: w.db.Logger})
	ok(t, w.db.AutoMigrate(&Toy{}))
	ok(t, twin.AutoMigrate(&plainPet{}, &Toy{}))
	for id := range uint64(3) {
		id++
		var nick *string
		if id < 3 {
			nick = new(fmt.Sprint("k", id))
		}
		pet, toy := Pet{ID: id, Room: "r", Name: fmt.Sprint("n", id), Nick: nick, Phone: fmt.Sprint("p", id)}, Toy{id, id, fmt.Sprint("t", id), "l", "x"}
		ok(t, w.db.Create(&pet).Error)
		ok(t, twin.Create(&plainPet{id, pet.Room, pet.Name, nick, pet.Phone, "v1:a", "v1:b"}).Error)
		ok(t, w.db.Create(&toy).Error)
		ok(t, twin.Create(&toy).Error)
	}
	return w, twin
}

// byRows reads a text by position, keys of any row as the same.
func byRows(db *gorm.DB, text string) (string, error) {
	rows, err := db.Raw(text).Rows()
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	out := fmt.Sprintln(columns)
	for err == nil && rows.Next() {
		cells, into := make([]*string, len(columns)), make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		err = rows.Scan(into...)
		for _, c := range cells {
			out += shown(c) + "|"
		}
		out += "\n"
	}
	if err == nil {
		err = rows.Err()
	}
	return out, err
}

// byMaps reads a text by name.
func byMaps(db *gorm.DB, text string) (string, error) {
	var all []map[string]any
	err := db.Raw(text).Find(&all).Error
	var out []string
	for i, m := range all {
		for name, v := range m {
			out = append(out, fmt.Sprint(i, name, "=", shown(v)))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "|"), err
}

func shown(v any) string {
	switch of := v.(type) {
	case *string:
		if of == nil {
			return "<nil>"
		}
		v = *of
	case []byte:
		v = string(of)
	}
	if text := fmt.Sprint(v); !strings.HasPrefix(text, "v1:") && !strings.HasPrefix(text, "rowseal.Key") {
		return text
	}
	return "key"
}

// words are keywords of some database that another takes for names.
var words = strings.Fields(`explain analyze alter comment set show lock begin do loop insert delete copy load into only ignore lateral
	low_priority quick from using join straight_join left full cross natural values window partition offset fetch qualify union except start
	call end distinct distinctrow with sql_no_cache as case over index use force indexed tablesample any limit`)

var wordy = []string{
	"SELECT 1 AS %s, id, name FROM pets ORDER BY id",
	"SELECT room %s, name FROM pets ORDER BY id",
	"SELECT name AS %s FROM pets ORDER BY id",
	"SELECT %s.name FROM pets %s ORDER BY 1=1",
	"SELECT %s.name FROM pets AS %s ORDER BY 1=1",
	"SELECT %s.* FROM pets AS %s",
	"WITH %s AS (SELECT 1 AS a) SELECT name FROM pets ORDER BY id",
	"WITH %s AS (SELECT name, id, encrypted_kms_key FROM pets) SELECT name FROM %s",
	"SELECT %s.label, pets.name FROM pets JOIN toys %s ON %s.pet_id = pets.id ORDER BY pets.id",
	"SELECT pets.room, %s, pets.name FROM pets JOIN (SELECT 1 AS %s) x ON 1=1 ORDER BY pets.id",
	"SELECT 1 - %s, pets.name FROM pets JOIN (SELECT 1 AS %s) x ON 1=1 ORDER BY pets.id",
	"SELECT room = %s, pets.name FROM pets JOIN (SELECT 'r' AS %s) x ON 1=1 ORDER BY pets.id",
}

// tricky are texts of which each database knows some.
var tricky = []string{
	"SELECT id, name FROM pets ORDER BY id; -- x",
	"SELECT id, name FROM pets ORDER BY id -- x",
	"SELECT pets.name, x.name AS a FROM toys AS pets JOIN pets AS x ON x.id = pets.pet_id ORDER BY x.id",
	"SELECT p.name AS b, q.name AS a, p.id, q.id AS x FROM pets p, pets q WHERE p.id = q.id+1 ORDER BY p.id",
	"SELECT toys.name AS name, pets.name AS a FROM toys LEFT JOIN pets ON pets.id = toys.id ORDER BY toys.id",
	"SELECT toys.label AS phone, pets.name AS a FROM toys LEFT JOIN pets ON pets.id = toys.id ORDER BY toys.id",
	"SELECT 7 AS id, name, encrypted_kms_key FROM pets ORDER BY pets.id",
	"SELECT 'x' AS encrypted_kms_key, name, id FROM pets ORDER BY id",
	"SELECT id, pets.name FROM pets RIGHT JOIN toys USING (id) ORDER BY id",
	"SELECT room IS DISTINCT FROM 'r' AS a, name FROM pets ORDER BY id",
	"SELECT id, name INTO TEMP zz FROM pets",
	"SELECT .pets.name FROM pets ORDER BY id",
	"SELECT DISTINCT .pets.name FROM pets",
	"SELECT 1 AS a /*! , name */ FROM pets ORDER BY id",
	"SELECT pets FROM pets",
	"SELECT pets.*::text FROM pets",
	"SELECT (p).* FROM pets p ORDER BY id",
	"SELECT (p).name FROM pets p ORDER BY id",
	"SELECT to_jsonb(p) AS a FROM pets p",
	"SELECT to_json(p.*) AS a FROM pets p",
	"SELECT array_agg(p)::text AS a FROM pets p",
	"SELECT row(p.*)::text AS a FROM pets p",
	"SELECT ARRAY[name] AS a FROM pets",
	"SELECT (ARRAY[name])[1] AS a FROM pets",
	"SELECT v.name, pets.id FROM pets, LATERAL (SELECT pets.name) v",
	"SELECT v.n, pets.id FROM pets, LATERAL (SELECT pets.name AS n) v",
	"SELECT v.*, pets.id FROM pets, LATERAL (SELECT pets.*) v",
	"WITH x AS (TABLE pets) TABLE x ORDER BY id",
	"WITH x AS (SELECT name AS a FROM pets) TABLE x",
	"UPDATE pets SET room = room RETURNING pets",
	`SELECT U&"n\0061me" FROM pets ORDER BY id`,
	`SELECT U&"n!0061me" UESCAPE '!' FROM pets ORDER BY id`,
	`SELECT name FROM U&"p\0065ts" ORDER BY id`,
	"WITH pets AS (SELECT id, label AS name FROM toys) SELECT name FROM pets ORDER BY id",
	"SELECT id, name, encrypted_kms_key FROM pets WHERE 1=0 UNION ALL SELECT id, phone, encrypted_kms_key FROM pets",
	"SELECT count(*) AS pets FROM pets ORDER BY pets",
	"SELECT count(pets) FROM pets",
}

// TestAttackProjectionTexts holds a result against that of the same text on plain columns: it is the same or refused.
func TestAttackProjectionTexts(t *testing.T) {
	texts := slices.Clone(tricky)
	for _, word := range words {
		for _, text := range wordy {
			texts = append(texts, strings.ReplaceAll(text, "%s", word))
		}
	}
	each(t, func(t *testing.T, kind string) {
		w, twin := kennel(t, kind)
		served := 0
		for _, text := range texts {
			for how, read := range map[string]func(*gorm.DB, string) (string, error){"Rows": byRows, "Find": byMaps} {
				got, err := read(w.db, text)
				if err != nil {
					continue
				}
				served++
				if want, err := read(twin, text); err != nil || got != want {
					t.Errorf("%s, %s:\n got %q\nwant %q, error %v", how, text, got, want, err)
				}
			}
		}
		if served < 100 {
			t.Errorf("%d results", served)
		}
	})
}

// TestAttackProjectionServes reads what must not be refused.
func TestAttackProjectionServes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, twin := kennel(t, kind)
		for _, text := range []string{
			"SELECT loop, pets.name FROM pets JOIN toys ON toys.pet_id = pets.id ORDER BY pets.id",
			"SELECT room IS NOT NULL AS a, name FROM pets ORDER BY id",
			"WITH start AS (SELECT 1 AS a) SELECT name FROM pets ORDER BY id",
			"SELECT id, name FROM pets ORDER BY id -- x",
			"SELECT count(*) AS pets FROM pets ORDER BY pets",
			"SELECT v.name, pets.id FROM pets CROSS JOIN LATERAL (SELECT toys.name FROM toys WHERE toys.pet_id = pets.id) v ORDER BY pets.id",
			"SELECT toys.name, pets.id FROM toys JOIN pets ON pets.id = toys.pet_id ORDER BY pets.id",
		} {
			if isMySQL(kind) && strings.Contains(text, "loop") || kind != postgres && strings.Contains(text, "LATERAL") {
				continue // not known there
			}
			got, err := byRows(w.db, text)
			want, plain := byRows(twin, text)
			if err != nil || plain != nil || got != want {
				t.Errorf("%s:\n got %q\nwant %q, errors %v, %v", text, got, want, err, plain)
			}
		}
	})
}

// badPool is a connection whose driver reports it as bad, before a statement or while its rows are read.
type badPool struct {
	gorm.ConnPool
	statements int
}

func (b *badPool) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	b.statements++
	return nil, driver.ErrBadConn
}

// TestAttackProjectionBadConnection counts how often a statement runs: database/sql repeats it where the connection was bad, and rows of
// the plugin's own driver must not repeat it once more, least of all an UPDATE … RETURNING.
func TestAttackProjectionBadConnection(t *testing.T) {
	w, _ := kennel(t, sqliteGo)
	for name, read := range map[string]func(tx *gorm.DB) error{
		"Find": func(tx *gorm.DB) error { return tx.Model(&Pet{}).Find(&[]GuestName{}).Error },
		"Scan": func(tx *gorm.DB) error {
			return tx.Raw("UPDATE pets SET room = 'x' RETURNING id, name, encrypted_kms_key").Scan(&[]GuestName{}).Error
		},
		"Row": func(tx *gorm.DB) error { return tx.Model(&Pet{}).Select("name").Row().Scan(new(string)) },
	} {
		pool := &badPool{ConnPool: w.db.Statement.ConnPool}
		tx := w.db.Session(&gorm.Session{Context: t.Context()})
		tx.Statement.ConnPool = pool
		if err := read(tx); !errors.Is(err, driver.ErrBadConn) || pool.statements != 1 {
			t.Errorf("%s: %d statements, error %v", name, pool.statements, err)
		}
	}
}

// TestAttackProjectionModel reads into the model's own struct what a keyword could hide: a plain field must not take ciphertext.
func TestAttackProjectionModel(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _ := kennel(t, kind)
		for _, text := range []string{
			"WITH explain AS (SELECT 1 AS a) SELECT id, name AS room FROM pets",
			"SELECT 1 AS loop, id, name AS room FROM pets",
			"SELECT 1 AS from, id, name AS room FROM pets",
			"SELECT set.id, set.name AS room FROM pets AS set",
			"SELECT indexed.id, indexed.name AS room FROM pets indexed",
			`SELECT id, U&"n\0061me" AS room FROM pets`,
			"SELECT v.id, v.name AS room FROM pets, LATERAL (SELECT pets.id, pets.name) v",
			"SELECT pets.name AS room, x.name FROM toys AS pets JOIN pets AS x ON x.id = pets.pet_id",
		} {
			var all []Pet
			if err := w.db.Raw(text).Find(&all).Error; err != nil {
				continue
			}
			for _, p := range all {
				if p.Room != "r" && !strings.HasPrefix(p.Room, "t") {
					t.Errorf("%s: a plain field took %q", text, p.Room)
				}
			}
		}
	})
}

// TestAttackProjectionConcurrently reads by 32 goroutines, some of which stop early, and leaves no connection behind.
func TestAttackProjectionConcurrently(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w, _ := kennel(t, kind)
		pool, err := w.db.DB()
		ok(t, err)
		var group sync.WaitGroup
		for i := range 32 {
			group.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				for range 5 {
					rows, err := w.db.WithContext(ctx).Model(&Pet{}).Order("id").Rows()
					if err != nil {
						t.Error(err)
						return
					}
					more := rows.Next()
					if i%4 == 1 {
						cancel() // while rows are open
					}
					var p Pet
					if more && i%4 != 1 {
						if err := w.db.ScanRows(rows, &p); err != nil || p.Name != "n1" {
							t.Errorf("%q, %v", p.Name, err)
						}
					}
					if i%4 == 1 {
						n := 1
						for rows.Next() {
							n++
						}
						if n < 3 && rows.Err() == nil {
							t.Errorf("%d rows and no error after the context has ended", n)
						}
					}
					_ = rows.Close()
					if i%4 == 1 {
						return
					}
					var names []string
					var n int64
					err = errors.Join(w.db.Model(&Pet{}).Order("id").Pluck("name", &names).Error, w.db.Model(&Pet{}).Count(&n).Error)
					if err != nil || n != 3 || len(names) != 3 || names[2] != "n3" {
						t.Errorf("%v, %d, %v", names, n, err)
					}
				}
			})
		}
		group.Wait()
		if n := pool.Stats().InUse; n != 0 {
			t.Errorf("%d connections are still in use", n)
		}
	})
}

// Chip has a hash beside its sealed field.
type Chip struct {
	ID     uint64
	Digest []byte
	Owner  string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

// TestAttackProjectionBytes reads a hash that begins as a sealed field does.
func TestAttackProjectionBytes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Chip{})
		digest := append([]byte{0xf9, 1, 1}, make([]byte, 29)...)
		ok(t, w.db.Create(&Chip{ID: 1, Digest: digest, Owner: "o"}).Error)
		var all []struct {
			Digest []byte
			Owner  string
		}
		var plucked, scanned [][]byte
		ok(t, errors.Join(w.db.Model(&Chip{}).Find(&all).Error, w.db.Model(&Chip{}).Pluck("digest", &plucked).Error,
			w.db.Raw("SELECT digest FROM chips").Scan(&scanned).Error))
		ok(t, expect([]any{all[0].Digest, all[0].Owner, plucked, scanned}, []any{digest, "o", [][]byte{digest}, [][]byte{digest}}))
		fails(t, w.db.Raw("SELECT owner FROM (SELECT digest AS owner FROM chips) x").Scan(&plucked).Error, rowseal.ErrUnsupported)
	})
}
