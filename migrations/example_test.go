package migrations_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/migrations"
)

// At the start of every process, before the first rotation.
func ExampleUp() {
	var db *gorm.DB // from gorm.Open
	applied, err := migrations.Up(context.Background(), db)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range applied {
		log.Printf("rowseal: applied %d (%s)", v.Number, v.Name)
	}
}

// For who migrates by other means: write the files where that tool looks for them.
func ExampleFiles() {
	files, err := migrations.Files("postgres")
	if err != nil {
		log.Fatal(err)
	}
	names, _ := fs.Glob(files, "*")
	for _, name := range names {
		fmt.Println(name)
	}
	// or os.CopyFS("db/rowseal", files)

	// Output:
	// 0001_ledger.down.sql
	// 0001_ledger.up.sql
}
