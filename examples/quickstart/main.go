// Command quickstart shows what Rowseal does to a row, on SQLite with a local key. It needs no set-up: database and keys lie in a
// temporary folder that is removed at the end.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

// #region model
type Patient struct {
	ID    uint64
	Ward  string                 // not sealed: queries can use it
	Name  string                 `gorm:"serializer:rowseal"`
	Born  time.Time              `gorm:"serializer:rowseal"`
	Email string                 `gorm:"serializer:rowseal" rowseal:"unique"` // found by a blind index
	Phone *string                `gorm:"serializer:rowseal"`                  // NULL stays NULL
	Notes rowseal.Secret[string] // opened only by Notes.Get(ctx)

	rowseal.RowKey // column encrypted_kms_key: the row's own data key, wrapped
}

// #endregion

// open connects GORM to the file and puts the plugin in.
func open(file string, keys *kmskey.Keyring) (*gorm.DB, error) {
	db, err := gorm.Open(sqlite.Open(file), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "rowseal-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "clinic.db")
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	key, err := localkey.FromFileOrGenerate(filepath.Join(dir, "first.key"))
	if err != nil {
		return err
	}
	keys, err := kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: key}},
		Namespace: "clinic/quickstart",
	})
	if err != nil {
		return err
	}
	db, err := open(file, keys)
	if err != nil {
		return err
	}
	defer closeDB(db, &err)
	// The plugin's own tables: the keys of blind indexes, and where rotations keep their place.
	if _, err := migrations.Up(ctx, db); err != nil {
		return err
	}
	if err := db.AutoMigrate(&Patient{}); err != nil {
		return err
	}
	// What an intruder, a backup or a database administrator sees: the same file, without Rowseal.
	raw, err := sql.Open("sqlite", file)
	if err != nil {
		return err
	}
	defer raw.Close()
	plain := &table{db: raw, out: out}

	say("Rowseal quickstart: SQLite and a local key, in a temporary folder.\n")

	say("1. Create two patients: db.Create(&ada)")
	phone := "+44 20 7946 0000"
	ada := Patient{Ward: "east", Name: "Ada Lovelace", Born: time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC), Email: "ada@example.org", Phone: &phone, Notes: rowseal.NewSecret("likes engines")}
	grace := Patient{Ward: "west", Name: "Grace Hopper", Born: time.Date(1906, 12, 9, 0, 0, 0, 0, time.UTC), Email: "grace@example.org", Notes: rowseal.NewSecret("found the moth")}
	if err := errors.Join(db.Create(&ada).Error, db.Create(&grace).Error); err != nil {
		return err
	}
	say("   stored under the ids %d and %d, each with a data key of its own\n", ada.ID, grace.ID)

	say("2. Load one: db.First(&got, 1)")
	var got Patient
	if err := db.First(&got, 1).Error; err != nil {
		return err
	}
	say("   name   %s", got.Name)
	say("   born   %s", got.Born.Format(time.DateOnly))
	say("   notes  %v                  (a Secret prints like this, whatever the verb)", got.Notes)
	notes, err := got.Notes.Get(ctx)
	if err != nil {
		return err
	}
	say("   notes  %s        (after got.Notes.Get(ctx))\n", notes)

	say("3. What the database holds: a second connection, without Rowseal")
	before, err := plain.read(1)
	if err != nil {
		return err
	}
	plain.show(before)
	say("")

	say(`4. Update one field: db.Model(&got).Update("name", "Augusta Ada King")`)
	if err := db.Model(&got).Update("name", "Augusta Ada King").Error; err != nil {
		return err
	}
	after, err := plain.read(1)
	if err != nil {
		return err
	}
	plain.compare(before, after)
	say("")

	say(`5. Find by e-mail: db.Where(&Patient{Email: "grace@example.org"}).First(&found)`)
	var found Patient
	if err := db.Where(&Patient{Email: "grace@example.org"}).First(&found).Error; err != nil {
		return err
	}
	say("   found %s by the blind index, a keyed hash in the column email_bidx, which is unique", found.Name)
	say(`   db.Create(&Patient{Email: "grace@example.org"})`)
	if err := refused(out, db.Create(&Patient{Email: "grace@example.org"}).Error); err != nil {
		return err
	}
	say("")

	say("6. Move ciphertexts about, with raw SQL on the second connection")
	for _, swap := range []string{
		`UPDATE patients SET notes = name WHERE id = 1`,
		`UPDATE patients SET name = (SELECT name FROM patients WHERE id = 2) WHERE id = 1`,
		`UPDATE patients SET (name, born, notes, encrypted_kms_key) = (SELECT name, born, notes, encrypted_kms_key FROM patients WHERE id = 2) WHERE id = 1`,
	} {
		say("   %s", swap)
		if _, err := raw.Exec(swap); err != nil {
			return err
		}
		var moved Patient
		err := db.First(&moved, 1).Error
		if err == nil {
			_, err = moved.Notes.Get(ctx)
		}
		if err := refused(out, err); err != nil {
			return err
		}
		if err := plain.write(after); err != nil {
			return err
		}
	}
	say("   (all moved back)\n")

	say("7. Store plaintext past Rowseal; ask for what cannot be answered on ciphertext")
	say(`   UPDATE patients SET name = 'Ada' WHERE id = 1    (second connection; AutoMigrate put a CHECK on each column)`)
	_, err = raw.Exec(`UPDATE patients SET name = 'Ada' WHERE id = 1`)
	if err := refused(out, err); err != nil {
		return err
	}
	say(`   db.Where("name = ?", "Grace Hopper").First(&p)`)
	if err := refused(out, db.Where("name = ?", "Grace Hopper").First(&found).Error); err != nil {
		return err
	}
	say("")

	say("8. Rotate: a second key, listed as version 2 and current; then rowseal.Rotate(ctx, db, &row)")
	next, err := localkey.FromFileOrGenerate(filepath.Join(dir, "second.key"))
	if err != nil {
		return err
	}
	both, err := kmskey.New(kmskey.Config{
		Current:   2,
		Versions:  map[int]kmskey.Version{1: {Provider: key}, 2: {Provider: next}},
		Namespace: "clinic/quickstart",
	})
	if err != nil {
		return err
	}
	rotated, err := open(file, both)
	if err != nil {
		return err
	}
	defer closeDB(rotated, &err)
	row := Patient{ID: 1}
	err = rowseal.Rotate(ctx, rotated, &row)
	if err != nil {
		return err
	}
	now, err := plain.read(1)
	if err != nil {
		return err
	}
	plain.compare(after, now)
	say("   row 1  %s  ->  %s", cut(after["encrypted_kms_key"]), cut(now["encrypted_kms_key"]))
	other, err := plain.read(2)
	if err != nil {
		return err
	}
	say("   row 2  %s      (not rotated, and still opens: version 1 is listed)", cut(other["encrypted_kms_key"]))
	for _, id := range []int{1, 2} {
		var p Patient
		if err := rotated.First(&p, id).Error; err != nil {
			return err
		}
		say("   db.First(&p, %d)  %s", id, p.Name)
	}
	say("")

	say("9. Rotate the whole table: rotation.RotateKMSKey(ctx, db, &Patient{}, rotation.Config{})")
	report, err := rotation.RotateKMSKey(ctx, rotated, &Patient{}, rotation.Config{})
	if err != nil {
		return err
	}
	say("   %d keys seen, %d rewrapped, %d current already, %d failed; killed half-way, the same call goes on", report.Seen, report.Rewrapped, report.Current, report.Failed)
	if other, err = plain.read(2); err != nil {
		return err
	}
	say("   row 2  %s", cut(other["encrypted_kms_key"]))
	return nil
}

// refused prints an error that was expected; without one, the quickstart fails.
func refused(out io.Writer, err error) error {
	if err == nil {
		return errors.New("this should have been refused")
	}
	fmt.Fprintln(out, wrap("-> refused: "+err.Error(), "   ", 110))
	return nil
}

func closeDB(db *gorm.DB, err *error) {
	pool, poolErr := db.DB()
	if poolErr == nil {
		poolErr = pool.Close()
	}
	*err = errors.Join(*err, poolErr)
}

// table looks at the patients as anyone does who has the file and no key.
type table struct {
	db  *sql.DB
	out io.Writer
}

var columns = []string{"id", "ward", "name", "born", "email", "email_bidx", "phone", "notes", "encrypted_kms_key"}

func (t *table) read(id int) (map[string]any, error) {
	values, dest := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	err := t.db.QueryRow("SELECT "+strings.Join(columns, ", ")+" FROM patients WHERE id = ?", id).Scan(dest...)
	row := map[string]any{}
	for i, name := range columns {
		row[name] = values[i]
	}
	return row, err
}

// write puts a row back as it was.
func (t *table) write(row map[string]any) error {
	var sets []string
	var args []any
	for _, name := range columns[1:] {
		sets, args = append(sets, name+" = ?"), append(args, row[name])
	}
	_, err := t.db.Exec("UPDATE patients SET "+strings.Join(sets, ", ")+" WHERE id = ?", append(args, row["id"])...)
	return err
}

func (t *table) show(row map[string]any) {
	for _, name := range columns {
		size := ""
		switch v := row[name].(type) {
		case []byte:
			size = fmt.Sprint(len(v))
		case string:
			size = fmt.Sprint(len(v))
		}
		fmt.Fprintf(t.out, "   %-18s %4s  %s\n", name, size, cut(row[name]))
	}
}

// compare says of each sealed column and of the key whether its bytes changed.
func (t *table) compare(before, after map[string]any) {
	for _, name := range columns[2:] {
		verdict := "same bytes"
		if a, b := fmt.Sprint(before[name]), fmt.Sprint(after[name]); a != b {
			verdict = "new bytes"
		}
		fmt.Fprintf(t.out, "   %-18s %s\n", name, verdict)
	}
}

// cut shows the beginning of a value, bytes in hexadecimal.
func cut(v any) string {
	const most = 28
	var s string
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		s = fmt.Sprintf("%x", v)
	default:
		s = fmt.Sprint(v)
	}
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}

// wrap breaks a long line between words.
func wrap(s, indent string, width int) string {
	var b strings.Builder
	b.WriteString(indent)
	length := 0
	for i, word := range strings.Fields(s) {
		if i > 0 && length+1+len(word) > width {
			b.WriteString("\n" + indent + "   ")
			length = 3
		} else if i > 0 {
			b.WriteString(" ")
			length++
		}
		b.WriteString(word)
		length += len(word)
	}
	return b.String()
}
