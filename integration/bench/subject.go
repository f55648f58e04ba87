package main

// subject.go owns what each variant is asked to do, in the same GORM calls for all of them.

import (
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// record is a row as everybody sees it.
type record struct {
	id   uint64
	text [fieldsOfRow]string
}

// A subject is one variant with a table of its own.
type subject interface {
	variant() string
	// fill empties the table and stores rows.
	fill(rows []record) error
	// create stores the rows, so many in a statement, in a table that is emptied before.
	create(rows []record, batch int) contestant
	// find reads the whole table so many times, opened or as it is stored.
	find(rows []record, times int, opened bool) contestant
	// take reads each row by its id, in a statement each.
	take(rows []record) contestant
	// update changes one field of each row, which was loaded before, in a statement each.
	update(rows []record) (contestant, error)
	// stored is what the table holds of these rows, in bytes: over the plaintext of one field, and of a whole row.
	stored(rows []record) (field, row float64, err error)
}

// A contestant is one subject at one operation.
type contestant struct {
	variant string
	before  func() error         // not measured
	run     func(*gorm.DB) error // measured
	// check tells whether the last run did its work, and how many fields it opened.
	check func() (opened int, err error)

	timed, counted *gorm.DB
	spy            *sqlspy.Recorder
	kms            *kmskeytest.Counter

	// elsewhere, if set, is a round in another process, in place of all above.
	elsewhere func() (sample, error)
}

// table is a subject. Its models reach GORM as they would in an application; pack, unpack and patch are called outside of what is measured.
type table[M any] struct {
	name           string
	timed, counted *gorm.DB // the latter with a spy, and a counter between it and its keys
	plain          *gorm.DB // without plugins, for what is no variant's business
	spy            *sqlspy.Recorder
	kms            *kmskeytest.Counter

	pack   func(record) M
	unpack func(*M) record
	patch  func(loaded *M, text string) M // what Updates is given
	sealed func(*gorm.DB) *gorm.DB        // a session that opens nothing; nil where there is none
}

func newTable[M any](l *lab, name, prefix string, prepare func(*gorm.DB, kmskey.Provider) error,
	pack func(record) M, unpack func(*M) record, patch func(*M, string) M) (*table[M], error) {
	// The local key reaches no network, so that what is measured is Rowseal.
	t := &table[M]{name: name, spy: &sqlspy.Recorder{}, kms: kmskeytest.NewCounter(localkey.NewInsecure()), pack: pack, unpack: unpack, patch: patch}
	var err error
	if t.plain, err = l.open("", nil); err != nil {
		return nil, err
	}
	// What counts also slows down, so what is timed has no counters.
	if t.timed, err = l.open(prefix, nil); err != nil {
		return nil, err
	}
	if t.counted, err = l.open(prefix, t.spy); err != nil {
		return nil, err
	}
	if prepare != nil {
		if err := errors.Join(prepare(t.timed, localkey.NewInsecure()), prepare(t.counted, t.kms)); err != nil {
			return nil, fmt.Errorf("bench: prepare %s: %w", name, err)
		}
	}
	if err := t.timed.AutoMigrate(new(M)); err != nil {
		return nil, fmt.Errorf("bench: make the table of %s: %w", name, err)
	}
	return t, nil
}

func (t *table[M]) variant() string { return t.name }

func (t *table[M]) contestant() contestant {
	return contestant{variant: t.name, timed: t.timed, counted: t.counted, spy: t.spy, kms: t.kms,
		before: func() error { return nil }, check: func() (int, error) { return 0, nil }}
}

func (t *table[M]) models(rows []record) []M {
	models := make([]M, len(rows))
	for i, r := range rows {
		models[i] = t.pack(r)
	}
	return models
}

// tableName is the table, quoted.
func (t *table[M]) tableName() (string, error) {
	stmt := &gorm.Statement{DB: t.timed}
	if err := stmt.Parse(new(M)); err != nil {
		return "", err
	}
	return `"` + stmt.Schema.Table + `"`, nil
}

func (t *table[M]) empty() error {
	name, err := t.tableName()
	if err != nil {
		return err
	}
	return t.plain.Exec("TRUNCATE " + name).Error
}

func (t *table[M]) fill(rows []record) error {
	name, err := t.tableName()
	if err != nil {
		return err
	}
	models := t.models(rows)
	return errors.Join(t.empty(), t.timed.CreateInBatches(&models, 1000).Error, t.plain.Exec("VACUUM ANALYZE "+name).Error)
}

func (t *table[M]) create(rows []record, batch int) contestant {
	c := t.contestant()
	var models []M
	c.before = func() error {
		models = t.models(rows)
		return t.empty()
	}
	c.run = func(db *gorm.DB) error {
		for part := range slices.Chunk(models, batch) {
			if err := db.Create(&part).Error; err != nil {
				return err
			}
		}
		return nil
	}
	c.check = func() (int, error) {
		models = nil
		var got []M
		if err := t.timed.Find(&got).Error; err != nil {
			return 0, err
		}
		_, err := t.compare(rows, got, true)
		return 0, err
	}
	return c
}

// compare holds what was read against what was stored, and counts the fields that are in the clear. Without opened a sealed field is empty.
func (t *table[M]) compare(want []record, got []M, opened bool) (fields int, err error) {
	if len(got) != len(want) {
		return 0, fmt.Errorf("bench: %s: %d rows, not %d", t.name, len(got), len(want))
	}
	byID := make(map[uint64]record, len(want))
	for _, r := range want {
		byID[r.id] = r
	}
	for i := range got {
		r := t.unpack(&got[i])
		for j, text := range r.text {
			if text != "" {
				fields++
			}
			if text != byID[r.id].text[j] && (opened || text != "") {
				return 0, fmt.Errorf("bench: %s: field %d of row %d is not what was stored", t.name, j, r.id)
			}
		}
	}
	return fields, nil
}

func (t *table[M]) find(rows []record, times int, opened bool) contestant {
	c := t.contestant()
	session := func(db *gorm.DB) *gorm.DB { return db }
	if !opened && t.sealed != nil {
		session = t.sealed
	}
	var got []M
	c.before = func() error { got = nil; return nil }
	c.run = func(db *gorm.DB) error {
		for range times {
			got = nil
			if err := session(db).Find(&got).Error; err != nil {
				return err
			}
		}
		return nil
	}
	c.check = func() (int, error) { return t.compare(rows, got, opened || t.sealed == nil) }
	return c
}

func (t *table[M]) take(rows []record) contestant {
	c := t.contestant()
	got := make([]M, len(rows))
	c.before = func() error { clear(got); return nil }
	c.run = func(db *gorm.DB) error {
		for i := range rows {
			if err := db.Take(&got[i], rows[i].id).Error; err != nil {
				return err
			}
		}
		return nil
	}
	c.check = func() (int, error) { return t.compare(rows, got, true) }
	return c
}

func (t *table[M]) update(rows []record) (contestant, error) {
	c := t.contestant()
	// A row that was loaded belongs to the plugin that loaded it.
	loaded := map[*gorm.DB][]M{t.timed: nil, t.counted: nil}
	for db := range loaded {
		var got []M
		if err := db.Order("id").Find(&got).Error; err != nil {
			return c, err
		}
		loaded[db] = got
	}
	round, patches, want := 0, make([]M, len(rows)), make([]record, len(rows))
	c.before = func() error {
		round++
		for i, r := range rows {
			r.text[0] = rows[(i+round)%len(rows)].text[round%fieldsOfRow]
			patches[i], want[i] = t.patch(&loaded[t.timed][i], r.text[0]), r
		}
		return nil
	}
	c.run = func(db *gorm.DB) error {
		for i := range loaded[db] {
			// A struct, since the one-key serializer stores plaintext where Update is given a column and a value.
			if err := db.Model(&loaded[db][i]).Updates(&patches[i]).Error; err != nil {
				return err
			}
		}
		return nil
	}
	c.check = func() (int, error) {
		var got []M
		if err := t.timed.Find(&got).Error; err != nil {
			return 0, err
		}
		_, err := t.compare(want, got, true)
		return 0, err
	}
	return c, nil
}

func (t *table[M]) stored(rows []record) (field, row float64, err error) {
	if err := t.fill(rows); err != nil {
		return 0, 0, err
	}
	name, err := t.tableName()
	if err != nil {
		return 0, 0, err
	}
	var fields float64
	// The header of each value is not in octet_length, and is in pg_column_size, as PostgreSQL keeps it.
	if err := t.plain.Raw("SELECT avg(octet_length(a) + octet_length(b) + octet_length(c)) FROM " + name).Row().Scan(&fields); err != nil {
		return 0, 0, err
	}
	if err := t.plain.Raw("SELECT avg(pg_column_size(t.*)) FROM " + name + " t").Row().Scan(&row); err != nil {
		return 0, 0, err
	}
	return fields/fieldsOfRow - float64(len(rows[0].text[0])), row, nil
}
