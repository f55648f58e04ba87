// Command erasure shows how a person's rows are made unreadable for good, and what becomes of that when a backup is restored. It needs no set-up: database, key and
// ledger lie in a temporary folder that is removed at the end.
//
//	go run ./examples/erasure
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type Patient struct {
	ID   uint64
	Ward string
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

type Visit struct {
	ID        uint64
	PatientID uint64
	Report    string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "erasure:", err)
		os.Exit(1)
	}
}

// open connects GORM to the file, with the ledger.
func open(file string, keys *kmskey.Keyring, ledger rowseal.ShredLedger) (*gorm.DB, error) {
	db, err := gorm.Open(sqlite.Open(file), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}, &Visit{}}, ShredLedger: ledger})
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

func closeDB(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

func run(ctx context.Context, out io.Writer) (err error) {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	dir, err := os.MkdirTemp("", "rowseal-erasure-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	key, err := localkey.FromFileOrGenerate(filepath.Join(dir, "local.key"))
	if err != nil {
		return err
	}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: key}}, Namespace: "clinic/erasure"})
	if err != nil {
		return err
	}
	// In production: where a restore of the database does not reach.
	ledger, err := rowseal.OpenShredFile(filepath.Join(dir, "shreds.jsonl"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()

	file := filepath.Join(dir, "clinic.db")
	db, err := open(file, keys, ledger)
	if err != nil {
		return err
	}
	if err := db.AutoMigrate(&Patient{}, &Visit{}); err != nil {
		return err
	}
	say("1. Two patients with their visits, and last night's backup")
	people := []Patient{{ID: 1, Ward: "east", Name: "Ada Lovelace"}, {ID: 2, Ward: "west", Name: "Grace Hopper"}}
	visits := []Visit{{PatientID: 1, Report: "likes engines"}, {PatientID: 1, Report: "sleeps too little"}, {PatientID: 2, Report: "found the moth"}}
	if err := errors.Join(db.Create(&people).Error, db.Create(&visits).Error); err != nil {
		return err
	}
	if err := closeDB(db); err != nil {
		return err
	}
	backup, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if db, err = open(file, keys, ledger); err != nil {
		return err
	}
	if err := show(ctx, db, say); err != nil {
		return err
	}

	say("2. Ada asks to be forgotten: rowseal.Shred, one transaction and no call to the key service")
	err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		person, err := rowseal.Shred(tx, &Patient{ID: 1})
		if err != nil {
			return err
		}
		history, err := rowseal.Shred(tx.Where("patient_id = ?", 1), &Visit{})
		if err != nil {
			return err
		}
		say("   rows: %d, data keys destroyed: %d", person.Rows+history.Rows, person.Keys+history.Keys)
		return nil
	})
	if err != nil {
		return err
	}
	if err := show(ctx, db, say); err != nil {
		return err
	}

	say("3. Nobody writes into them by accident: db.Model(&Patient{ID: 1}).Update(\"name\", …)")
	err = db.WithContext(ctx).Model(&Patient{ID: 1}).Update("name", "Ada").Error
	if !errors.Is(err, rowseal.ErrShredded) {
		return fmt.Errorf("the update gave %v", err)
	}
	say("   %v\n", err)

	say("4. The disk dies, and the backup is restored. It is from before")
	if err := errors.Join(closeDB(db), os.WriteFile(file, backup, 0o600)); err != nil {
		return err
	}
	if db, err = open(file, keys, ledger); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDB(db)) }()
	if err := show(ctx, db, say); err != nil {
		return err
	}

	say("5. Before anything else is done: rowseal.ReplayShreds, with the ledger")
	lines, err := os.Open(filepath.Join(dir, "shreds.jsonl"))
	if err != nil {
		return err
	}
	defer lines.Close()
	again, err := rowseal.ReplayShreds(db.WithContext(ctx), lines)
	if err != nil {
		return err
	}
	say("   rows shredded again: %d; rows that have another key now: %d", again.Shredded, again.Other)
	if err := show(ctx, db, say); err != nil {
		return err
	}
	say("Other copies of the backup open as before, until they have expired or the service's key is deleted: docs/threat-model.md, Erasure.")
	return nil
}

// show prints what an application reads.
func show(ctx context.Context, db *gorm.DB, say func(string, ...any)) error {
	var people []Patient
	var visits []Visit
	if err := errors.Join(db.WithContext(ctx).Find(&people).Error, db.WithContext(ctx).Find(&visits).Error); err != nil {
		return err
	}
	for _, p := range people {
		say("   patient %d, ward %s: %q%s", p.ID, p.Ward, p.Name, note(p.EncryptedKMSKey))
		for _, v := range visits {
			if v.PatientID == p.ID {
				say("      visit %d: %q%s", v.ID, v.Report, note(v.EncryptedKMSKey))
			}
		}
	}
	say("")
	return nil
}

func note(k rowseal.Key) string {
	if k.Shredded() {
		return ", shredded"
	}
	return ""
}
