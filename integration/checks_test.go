package integration

// checks_test.go owns the database's own guard: what the CHECKs stop and let pass, where AutoMigrate puts them on and leaves them out,
// and that their failure shows no value.

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

type GuardedPlace struct {
	Street string `gorm:"serializer:rowseal"`
}

// Guarded has a sealed column of each form, one of a reserved name, one of an embedded struct, and one whose constraint's name is too
// long.
type Guarded struct {
	ID     uint64
	Ward   string       `gorm:"index"`
	Name   string       `gorm:"serializer:rowseal"`
	Text   string       `gorm:"serializer:rowseal" rowseal:"text"`
	Score  int64        `gorm:"serializer:rowseal"`
	Order  []byte       `gorm:"serializer:rowseal"`
	Place  GuardedPlace `gorm:"embedded;embeddedPrefix:place_"`
	Notes  rowseal.Secret[string]
	Phone  string `gorm:"serializer:rowseal" rowseal:"key=PhoneKey"`
	Longer string `gorm:"serializer:rowseal;column:a_name_that_is_so_long_that_nothing_fits_behind_it"`
	rowseal.RowKey
	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
}

// GuardedNote has no sealed field.
type GuardedNote struct {
	ID   uint64
	Ward string `gorm:"index;check:ward <> 'x'"`
}

func guardedRow() *Guarded {
	return &Guarded{Ward: "7", Name: canary, Text: canary, Score: canaryNumber, Order: []byte(canary), Place: GuardedPlace{canary},
		Notes: rowseal.NewSecret(canary), Phone: canary, Longer: canary}
}

func testKeys(t testing.TB) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	return keys
}

func checksOf(t testing.TB, db *gorm.DB, model any) []rowseal.Check {
	t.Helper()
	checks, err := rowseal.Checks(db, model)
	ok(t, err)
	return checks
}

// on finds out which of a model's constraints the database has.
func (w *world) on(t testing.TB, model any) (names []string) {
	t.Helper()
	for _, c := range checksOf(t, w.db, model) {
		if w.db.Migrator().HasConstraint(model, c.Name) {
			names = append(names, c.Name)
		}
	}
	return names
}

// raw gives a value as a second program would bind it to a column.
func (w *world) raw(column string, v any) any {
	if w.kind != postgres {
		return v
	}
	if column == "text" || strings.HasPrefix(column, "encrypted") {
		return fmt.Sprint(v)
	}
	if b, ok := v.([]byte); ok {
		return b
	}
	return []byte(fmt.Sprint(v))
}

func TestChecksStopPlaintextOfOtherPrograms(t *testing.T) {
	long := strings.Repeat("Ada Lovelace ", 10)
	inBinary := map[string]any{
		"text": "Ada", "long text": long, "bytes": []byte(long), "empty": "", "no bytes": []byte{}, "number": 4815162342, "digits": strings.Repeat("4815162342", 9),
		"two bytes a letter": strings.Repeat("߿", 40), "three": strings.Repeat("€", 40), "the last letter of all": strings.Repeat("\U0010ffff", 40),
		"JSON": `{"name": "` + long + `"}`, "JSON text": `"` + long + `"`, "text form": "rs1:" + strings.Repeat("+QEB", 20), "a byte order mark": "\ufeff" + long,
		"too short": append([]byte{0xf9, 1, 1}, make([]byte, 28)...), "another format": append([]byte{0xfa, 1, 1}, make([]byte, 60)...),
		"sealed, behind a space": append([]byte{' ', 0xf9, 1, 1}, make([]byte, 60)...), "a zero byte": make([]byte, 60),
	}
	inText := map[string]any{
		"text": "Ada", "long text": long, "empty": "", "number": 4815162342, "JSON": `{"name": "` + long + `"}`, "no prefix": strings.Repeat("+QEB", 20),
		"prefix in uppercase": "RS1:" + strings.Repeat("+QEB", 20), "prefix alone": "rs1:", "too short": "rs1:+QEB", "behind a space": " rs1:" + strings.Repeat("+QEB", 20),
		"in a second line": "x\nrs1:" + strings.Repeat("+QEB", 20), "full width": "ｒｓ１:" + strings.Repeat("+QEB", 20),
	}
	inKey := map[string]any{
		"text": "hello", "long text": long, "empty": "", "number": 4815162342, "version in uppercase": "V1:AQABAQE", "version 0": "v0:AQABAQE", "no version": "v:AQABAQE",
		"no number": "v1x:AQABAQE", "no colon": "v1", "no colon, long": "v1 " + long, "a word": "very important: " + long, "another token": "PENDING:AAAAAAAAAAAAAAAAAAAAAA", "token without a colon": "pending",
		"behind a space": " v1:AQABAQE", "in a second line": "x\nv1:AQABAQE", "text form": "rs1:" + strings.Repeat("+QEB", 20),
	}
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.Create(guardedRow()).Error)
		checks := checksOf(t, w.db, &Guarded{})
		if len(checks) != 10 || len(w.on(t, &Guarded{})) != 10 {
			t.Fatalf("%d constraints of %d", len(w.on(t, &Guarded{})), len(checks))
		}
		before := w.dump(t, "guardeds")
		for _, c := range checks {
			bad := inBinary
			if c.Column == "text" {
				bad = inText
			} else if strings.HasPrefix(c.Column, "encrypted") {
				bad = inKey
			}
			for what, v := range bad {
				for _, query := range []string{"UPDATE guardeds SET %s = %s", "INSERT INTO guardeds (%s) VALUES (%s)"} {
					query = fmt.Sprintf(query, w.quote(c.Column), w.bind(1))
					if _, err := w.plain.Exec(query, w.raw(c.Column, v)); err == nil || !strings.Contains(err.Error(), c.Name) {
						t.Errorf("%s of %s: error %v, not of %s", query, what, err, c.Name)
					}
				}
			}
			if kind != postgres { // what a client writes into the text itself; Postgres takes no number there
				for _, literal := range []string{"'Ada'", "4815162342", "3.5", "''"} {
					query := "UPDATE guardeds SET " + w.quote(c.Column) + " = " + literal
					if _, err := w.plain.Exec(query); err == nil || !strings.Contains(err.Error(), c.Name) {
						t.Errorf("%s: error %v, not of %s", query, err, c.Name)
					}
				}
			}
		}
		if after := w.dump(t, "guardeds"); after != before {
			t.Fatal(difference(before, after))
		}

		var columns []string
		for _, c := range checks {
			columns = append(columns, w.quote(c.Column))
		}
		list := strings.Join(columns, ", ")
		w.tamper(t, "INSERT INTO guardeds ("+list+") SELECT "+list+" FROM guardeds")
		w.tamper(t, "INSERT INTO guardeds (ward) VALUES ('8')")
		w.tamper(t, "UPDATE guardeds SET encrypted_kms_key = 'pending:AAAAAAAAAAAAAAAAAAAAAA' WHERE ward = '8'")
		w.tamper(t, "UPDATE guardeds SET encrypted_kms_key = 'v12:AQABAQE' WHERE ward = '8'")
		w.tamper(t, "UPDATE guardeds SET "+strings.Join(columns, " = NULL, ")+" = NULL WHERE ward = '8'")
		var r Guarded
		ok(t, w.db.Take(&r, 1).Error)
		if r.Name != canary || r.Text != canary || r.Score != canaryNumber || r.Place.Street != canary || r.Longer != canary {
			t.Errorf("row holds %+v", r)
		}
	})
}

// A *gorm.DB without the plugin has one way that asks no guard of the model.
func TestChecksStopAConnectionWithoutThePlugin(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		before := w.dump(t, "guardeds")
		err := w.bare(t).Model(&Guarded{}).Unscoped().Create(map[string]any{"name": w.raw("name", canary)}).Error
		if err == nil || w.dump(t, "guardeds") != before {
			t.Errorf("error %v, and the table holds\n%s", err, w.dump(t, "guardeds"))
		}
	})
}

// changes lists what was sent to the driver and is no query.
func changes(w *world) (texts []string) {
	for _, e := range w.spy.Events() {
		if e.Kind == "exec" || e.Kind == "query" && !strings.HasPrefix(e.SQL, "SELECT") {
			texts = append(texts, e.SQL)
		}
	}
	return texts
}

func TestChecksArePutOnOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.AutoMigrate(&Guarded{}))
		if texts := changes(w); texts != nil {
			t.Errorf("AutoMigrate again: %q", texts)
		}
		ok(t, w.db.Create(guardedRow()).Error)
		w.spy.Reset()
		ok(t, w.db.AutoMigrate(&Guarded{}))
		if texts := changes(w); texts != nil {
			t.Errorf("AutoMigrate of a table with rows: %q", texts)
		}
		if strings.Contains(w.log.String(), "stays without") {
			t.Errorf("a warning:\n%s", w.log)
		}
	})
}

// later gives a world whose table was made without constraints, and a second process that has them and the same log.
func later(t testing.TB, kind string, models ...any) (w *world, db *gorm.DB) {
	t.Helper()
	w = openWith(t, kind, testKeys(t), rowseal.Config{Models: models, NoChecks: true}, &gorm.Config{})
	db = w.also(t, w.keys, rowseal.Config{Models: models})
	db.Logger = w.db.Logger
	return w, db
}

func TestChecksAreLeftOutOnRequest(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w, _ := later(t, kind, &Guarded{})
		ok(t, w.db.AutoMigrate(&Guarded{}))
		if names := w.on(t, &Guarded{}); names != nil {
			t.Errorf("NoChecks, and the table has %q", names)
		}
		ok(t, w.db.Create(guardedRow()).Error)
	})
}

func TestChecksArePutOnAnEmptyTable(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w, db := later(t, kind, &Guarded{})
		ok(t, db.AutoMigrate(&Guarded{}))
		if names := w.on(t, &Guarded{}); len(names) != 10 {
			t.Errorf("the table has %q\n%s", names, w.log)
		}
		if !db.Migrator().HasIndex(&Guarded{}, "Ward") {
			t.Error("the index is gone")
		}
		w.spy.Reset()
		ok(t, db.AutoMigrate(&Guarded{}))
		if texts := changes(w); texts != nil {
			t.Errorf("AutoMigrate again: %q", texts)
		}
		ok(t, db.Create(guardedRow()).Error)
	})
}

// schema is the database's own description of everything that SQLite has, and of the table's rows.
func (w *world) schema(t testing.TB, table string) string {
	t.Helper()
	if isSQLite(w.kind) {
		return w.dump(t, "sqlite_master") + w.dump(t, table)
	}
	return w.dump(t, table)
}

func TestChecksAreLeftOutOfATableWithRows(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w, db := later(t, kind, &Guarded{})
		ok(t, w.db.Create(guardedRow()).Error)
		w.tamper(t, "INSERT INTO guardeds (ward, name) VALUES ('8', ?)", w.raw("name", "from before")) // and one that would not pass
		before := w.schema(t, "guardeds")
		w.spy.Reset()
		for range 2 {
			ok(t, db.AutoMigrate(&Guarded{}))
		}
		ok(t, db.Migrator().CreateConstraint(&Guarded{}, "Name"))
		ok(t, db.Transaction(func(tx *gorm.DB) error { return tx.AutoMigrate(&Guarded{}) }))
		for _, text := range changes(w) {
			if !strings.Contains(text, "SAVEPOINT") {
				t.Errorf("sent %s", text)
			}
		}
		if names := w.on(t, &Guarded{}); names != nil {
			t.Errorf("the table has %q", names)
		}
		if after := w.schema(t, "guardeds"); after != before {
			t.Error(difference(before, after))
		}
		log := w.log.String()
		if strings.Count(log, "stays without") != 1 || !strings.Contains(log, "rowseal: model Guarded: table guardeds stays without CHECKs that it lacks, as rowseal_guardeds__") || !strings.Contains(log, "the table holds rows") || !strings.Contains(log, "rowseal.Checks") {
			t.Errorf("not one warning that says what to do:\n%s", log)
		}
		ok(t, db.Create(guardedRow()).Error)
		if kind != postgres && !isMySQL(kind) {
			return
		}

		// What the warning says.
		err := alter(db, &Guarded{})
		if err == nil || !strings.Contains(err.Error(), "rowseal_guardeds__name") || errors.Is(err, rowseal.ErrPlaintext) {
			t.Fatalf("error %v of a row that does not pass", err)
		}
		w.tamper(t, "DELETE FROM guardeds WHERE ward = '8'")
		for _, c := range w.on(t, &Guarded{}) {
			ok(t, db.Migrator().DropConstraint(&Guarded{}, c))
		}
		ok(t, alter(db, &Guarded{}))
		if names := w.on(t, &Guarded{}); len(names) != 10 {
			t.Errorf("the table has %q", names)
		}
		if _, err := w.plain.Exec("UPDATE guardeds SET name = 'Ada'"); err == nil {
			t.Error("plaintext passed")
		}
		w.spy.Reset()
		ok(t, db.AutoMigrate(&Guarded{}))
		if texts := changes(w); texts != nil {
			t.Errorf("AutoMigrate finds more to do: %q", texts)
		}
	})
}

// One name may begin as another.
func TestChecksAreLeftOutOneByOne(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.Create(guardedRow()).Error)
		for i, c := range checksOf(t, w.db, &Guarded{}) {
			ok(t, w.db.Migrator().DropConstraint(&Guarded{}, c.Name))
			if isSQLite(kind) { // where GORM loses them
				ok(t, w.db.Migrator().CreateIndex(&Guarded{}, "Ward"))
				w.tamper(t, fmt.Sprintf("CREATE INDEX another_%d ON guardeds (ward, id)", i))
			}
			before := w.schema(t, "guardeds")
			w.spy.Reset()
			ok(t, w.db.AutoMigrate(&Guarded{}))
			if texts := changes(w); texts != nil || len(w.on(t, &Guarded{})) != 9-i || w.schema(t, "guardeds") != before {
				t.Errorf("without %s: sent %q", c.Name, texts)
			}
		}
	})
}

// alter runs the statements of a migration written by hand.
func alter(db *gorm.DB, model any) error {
	checks, err := rowseal.Checks(db, model)
	if err != nil {
		return err
	}
	for _, c := range checks {
		for _, text := range c.Alter {
			if err := db.Exec(text).Error; err != nil {
				return err
			}
		}
	}
	return nil
}

// GORM makes a SQLite table anew for a constraint, which would lose what hangs at it.
func TestChecksAreLeftOutOfASQLiteTableThatWouldLoseSomething(t *testing.T) {
	for what, ddl := range map[string]string{
		"a view":                "CREATE VIEW wards AS SELECT ward FROM guardeds",
		"a trigger":             "CREATE TRIGGER guarded_trigger AFTER UPDATE ON guardeds BEGIN SELECT 1; END",
		"another table's":       "CREATE TRIGGER note_trigger AFTER UPDATE ON guarded_notes BEGIN DELETE FROM GUARDEDS; END",
		"an index":              "CREATE INDEX guarded_index ON guardeds (ward, id)",
		"the ids it had given":  "INSERT INTO guardeds (ward) VALUES ('x'); DELETE FROM guardeds",
		"a view, in a row more": "INSERT INTO guardeds (ward) VALUES ('x'); CREATE VIEW wards AS SELECT ward FROM guardeds",
	} {
		t.Run(what, func(t *testing.T) {
			w, db := later(t, sqliteGo, &Guarded{})
			ok(t, db.AutoMigrate(&GuardedNote{}))
			_, err := w.plain.Exec(ddl)
			ok(t, err)
			before := w.schema(t, "guardeds") + w.dump(t, "sqlite_sequence")
			ok(t, db.AutoMigrate(&Guarded{}))
			if after := w.schema(t, "guardeds") + w.dump(t, "sqlite_sequence"); after != before {
				t.Error(difference(before, after))
			}
			if !strings.Contains(w.log.String(), "stays without") {
				t.Error("no warning")
			}
			ok(t, db.Create(guardedRow()).Error)
		})
	}
}

// guardedBefore is the same table some releases ago.
type guardedBefore struct {
	ID   uint64
	Ward string `gorm:"index"`
	Name string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

func (guardedBefore) TableName() string { return "guardeds" }

func TestChecksOfANewColumn(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for _, rows := range []int{0, 1} {
			w := openWith(t, kind, testKeys(t), rowseal.Config{Models: []any{&guardedBefore{}}}, &gorm.Config{})
			if rows > 0 {
				ok(t, w.db.Create(&guardedBefore{Name: canary}).Error)
			}
			w.db = w.also(t, w.keys, rowseal.Config{Models: []any{&Guarded{}}})
			ok(t, w.db.AutoMigrate(&Guarded{}))
			ok(t, w.db.Create(guardedRow()).Error)
			want := 10
			if rows > 0 {
				want = 2 // those it had
			}
			if names := w.on(t, &Guarded{}); len(names) != want {
				t.Errorf("with %d rows, the table has %q", rows, names)
			}
			if _, err := w.plain.Exec("UPDATE guardeds SET name = 'Ada'"); err == nil {
				t.Error("plaintext passed")
			}
		}
	})
}

func TestChecksDroppedAndRenamed(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.Create(guardedRow()).Error)
		m := w.db.Migrator()
		plaintext := func(table, column string, passes bool) {
			t.Helper()
			tx, err := w.plain.Begin()
			ok(t, err)
			defer tx.Rollback()
			if _, err := tx.Exec("UPDATE " + table + " SET " + column + " = 'Ada'"); (err == nil) != passes {
				t.Errorf("plaintext in %s.%s: error %v", table, column, err)
			}
		}
		plaintext("guardeds", "name", false)
		ok(t, m.DropConstraint(&Guarded{}, "Name"))
		if m.HasConstraint(&Guarded{}, "Name") {
			t.Error("dropped, and there")
		}
		plaintext("guardeds", "name", true)
		plaintext("guardeds", "score", false)
		ok(t, m.DropColumn(&Guarded{}, "Name"))

		ok(t, m.RenameTable("guardeds", "renamed"))
		plaintext("renamed", "score", false)
		ok(t, m.RenameTable("renamed", "guardeds"))
		ok(t, m.RenameColumn(&Guarded{}, "score", "points"))
		plaintext("guardeds", "points", false)
		// GORM makes a SQLite table anew with what it had, so there the constraint must go first.
		before := w.schema(t, "guardeds")
		if err := m.DropColumn(&Guarded{}, "phone"); err != nil {
			if !isSQLite(kind) {
				t.Error(err)
			}
			if after := w.schema(t, "guardeds"); after != before {
				t.Error(difference(before, after))
			}
			ok(t, m.DropConstraint(&Guarded{}, "Phone"))
			ok(t, m.DropColumn(&Guarded{}, "phone"))
		}
	})
}

// A table of another name than the model's is AutoMigrate's without constraints, and Checks gives them.
func TestChecksOfAnotherTable(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		other := w.db.Table("archived")
		ok(t, other.AutoMigrate(&Guarded{}))
		checks := checksOf(t, other, &Guarded{})
		if checks[0].Table != "archived" || !strings.HasPrefix(checks[0].Name, "rowseal_archived__") {
			t.Errorf("%+v", checks[0])
		}
		ok(t, alter(other, &Guarded{}))
		_, err := w.plain.Exec("INSERT INTO archived (name) VALUES ('Ada')")
		if (err == nil) != isSQLite(kind) {
			t.Errorf("error %v", err)
		}
		ok(t, w.db.Table("archived").Create(guardedRow()).Error)
	})
}

// The text of Checks is whole, as it stands.
func TestChecksInACreateTable(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		db, plain := connect(t, kind, &sqlspy.Recorder{}, &gorm.Config{})
		var lines []string
		for _, c := range checksOf(t, db, &Doctor{}) { // no plugin is needed
			lines = append(lines, c.Constraint)
		}
		bytes, id := "blob", "integer primary key"
		if kind == postgres {
			bytes, id = "bytea", "bigserial primary key"
		} else if isMySQL(kind) {
			id = "serial"
		}
		_, err := plain.Exec("CREATE TABLE doctors (id " + id + ", name " + bytes + ", encrypted_kms_key text, " + strings.Join(lines, ", ") + ")")
		ok(t, err)
		if _, err := plain.Exec("INSERT INTO doctors (name) VALUES ('Ada')"); err == nil {
			t.Error("plaintext passed")
		}
		_, err = rowseal.Checks(db, &GuardedNote{})
		fails(t, err, rowseal.ErrModel, "GuardedNote")
		_, err = rowseal.Checks(db, &withDefaults{})
		fails(t, err, rowseal.ErrModel, "withDefaults")
	})
}

// GuardedByHand has columns that AutoMigrate does not make.
type GuardedByHand struct {
	ID    uint64
	Name  string `gorm:"serializer:rowseal"`
	Other string `gorm:"serializer:rowseal;-:migration"`
	rowseal.RowKey
}

func TestChecksOfAColumnMadeByHand(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &GuardedByHand{})
		if checks := checksOf(t, w.db, &GuardedByHand{}); len(checks) != 3 || len(w.on(t, &GuardedByHand{})) != 2 {
			t.Errorf("%d constraints, and the table has %q", len(checks), w.on(t, &GuardedByHand{}))
		}
		ok(t, w.db.Omit("Other").Create(&GuardedByHand{Name: canary}).Error)
	})
}

// GORM prints what a dry run of AutoMigrate would do.
func TestChecksInADryRun(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for _, rows := range []bool{false, true} {
			w, db := later(t, kind, &Doctor{})
			if rows {
				ok(t, w.db.Create(&Doctor{Name: canary}).Error)
			}
			before := w.schema(t, "doctors")
			w.spy.Reset()
			ok(t, db.Session(&gorm.Session{DryRun: true}).AutoMigrate(&Doctor{}))
			if texts := changes(w); texts != nil || w.schema(t, "doctors") != before {
				t.Errorf("sent %q", texts)
			}
			if left := strings.Contains(w.log.String(), "stays without"); left != rows {
				t.Errorf("left out: %v, with rows: %v", left, rows)
			}
		}
	})
}

func TestChecksOfOneGormConfigForTwoDatabases(t *testing.T) {
	w := open(t, sqliteGo, &Guarded{})
	shared := *w.db.Config
	shared.Plugins = map[string]gorm.Plugin{}
	second := func(config rowseal.Config, kind string) error {
		pool, _ := connect(t, kind, &sqlspy.Recorder{}, &gorm.Config{})
		db, err := gorm.Open(dialector(kind, pool.ConnPool), &shared)
		ok(t, err)
		p, err := rowseal.New(w.keys, config)
		ok(t, err)
		return db.Use(p)
	}
	fails(t, second(rowseal.Config{Models: []any{&Guarded{}}}, postgres), rowseal.ErrModel, "Guarded", "gorm.Config")
	fails(t, second(rowseal.Config{Models: []any{&Guarded{}}, NoChecks: true}, sqliteGo), rowseal.ErrModel, "Guarded", "gorm.Config")
	ok(t, second(rowseal.Config{Models: []any{&Guarded{}}}, sqliteGo))
}

// A model without sealed fields meets nothing of all this.
func TestChecksLeaveOtherModelsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		statements := func(plugin bool) (texts []string) {
			r := &sqlspy.Recorder{}
			db, plain := connect(t, kind, r, &gorm.Config{})
			if plugin {
				p, err := rowseal.New(testKeys(t), rowseal.Config{Models: []any{&Guarded{}}})
				ok(t, err)
				ok(t, db.Use(p))
			}
			r.Reset()
			ok(t, db.AutoMigrate(&GuardedNote{}))
			_, err := plain.Exec("INSERT INTO guarded_notes (ward) VALUES ('7')")
			ok(t, err)
			ok(t, db.Migrator().DropConstraint(&GuardedNote{}, "Ward"))
			ok(t, db.AutoMigrate(&GuardedNote{}))
			for _, e := range r.Events() {
				texts = append(texts, e.Kind+" "+e.SQL)
			}
			return texts
		}
		with, without := statements(true), statements(false)
		if !slices.Equal(with, without) {
			t.Errorf("with the plugin\n%s\nwithout\n%s", strings.Join(with, "\n"), strings.Join(without, "\n"))
		}
	})
}

// sneak is something in the database that the last look cannot see into: a trigger that writes plaintext of a column, or of the key.
func (w *world) sneak(t testing.TB, column string) {
	t.Helper()
	set := "UPDATE guardeds SET " + column + " = '" + canary + "'"
	switch {
	case isSQLite(w.kind):
		w.tamper(t, "CREATE TRIGGER sneak AFTER INSERT ON guarded_notes BEGIN "+set+"; END")
	case w.kind == postgres:
		w.tamper(t, "CREATE FUNCTION sneak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+set+"; RETURN NEW; END $$")
		w.tamper(t, "CREATE TRIGGER sneak AFTER INSERT ON guarded_notes FOR EACH ROW EXECUTE FUNCTION sneak()")
	default:
		w.tamper(t, "CREATE TRIGGER sneak AFTER INSERT ON guarded_notes FOR EACH ROW "+set)
	}
}

func TestChecksFailWithoutTheRow(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for _, translated := range []bool{false, true} {
			for column, want := range map[string]error{"name": rowseal.ErrPlaintext, "encrypted_kms_key_phone": rowseal.ErrKeyColumn} {
				w := openWith(t, kind, testKeys(t), rowseal.Config{Models: []any{&Guarded{}}}, &gorm.Config{TranslateError: translated})
				ok(t, w.db.AutoMigrate(&GuardedNote{}))
				ok(t, w.db.Create(guardedRow()).Error)
				w.sneak(t, column)
				before := w.dump(t, "guardeds")
				returning := "INSERT INTO guarded_notes (ward) VALUES ('7') RETURNING id"
				writes := map[string]func(db *gorm.DB) error{
					"Create":      func(db *gorm.DB) error { return db.Create(&GuardedNote{Ward: "7"}).Error },
					"Create many": func(db *gorm.DB) error { return db.Create([]*GuardedNote{{Ward: "7"}, {Ward: "8"}}).Error },
					"Exec":        func(db *gorm.DB) error { return db.Exec("INSERT INTO guarded_notes (ward) VALUES ('7')").Error },
					"Transaction": func(db *gorm.DB) error {
						return db.Transaction(func(tx *gorm.DB) error { return tx.Save(&GuardedNote{Ward: "7"}).Error })
					},
					"Prepared": func(db *gorm.DB) error {
						return db.Session(&gorm.Session{PrepareStmt: true}).Create(&GuardedNote{Ward: "7"}).Error
					},
					"Raw Find": func(db *gorm.DB) error { return db.Raw(returning).Find(&[]GuardedNote{}).Error },
				}
				// Rows that GORM hands on fail while they are read, with the driver's error; only Postgres' is more than the constraint's
				// name, and that comes before there are rows.
				handed := map[string]func(db *gorm.DB) error{
					"Raw Scan": func(db *gorm.DB) error { return db.Raw(returning).Scan(new(uint64)).Error },
					"Row":      func(db *gorm.DB) error { return db.Raw(returning).Row().Scan(new(uint64)) },
				}
				for how, write := range handed {
					if kind == postgres {
						writes[how] = write
						continue
					}
					err := write(w.db)
					if err == nil || strings.Contains(fmt.Sprintf("%+v %#v", err, err), canary) {
						t.Errorf("%s: %v", how, err)
					}
				}
				for how, write := range writes {
					err := write(w.db)
					fails(t, err, want, "rowseal: write Guarded, column "+column, "rowseal_guardeds__"+column)
					if !errors.Is(err, gorm.ErrCheckConstraintViolated) {
						t.Errorf("%s: %v is not gorm.ErrCheckConstraintViolated", how, err)
					}
					notDrivers(t, how, err)
				}
				if kind == postgres {
					// Here the error comes while rows are read.
					w.tamper(t, "CREATE FUNCTION late(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN IF n = 1000 THEN UPDATE guardeds SET "+column+" = '"+canary+"'; END IF; RETURN n; END $$")
					err := w.db.Raw("SELECT late(n) AS id FROM generate_series(1, 1000) AS n").Find(&[]GuardedNote{}).Error
					fails(t, err, want, "column "+column)
					notDrivers(t, "late", err)
				}
				if after := w.dump(t, "guardeds"); after != before {
					t.Error(difference(before, after))
				}
				if log := w.log.String(); strings.Contains(log, canary) || !strings.Contains(log, "rowseal: write Guarded, column "+column) {
					t.Errorf("the log holds plaintext, or not the error:\n%s", log)
				}
			}
		}
	})
}

// notDrivers checks that nothing of a driver's own error is left in err, and no value.
func notDrivers(t testing.TB, how string, err error) {
	t.Helper()
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(text, canary) {
			t.Errorf("%s: the error holds plaintext: %s", how, text)
		}
	}
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var coded interface{ Code() int }
	var stated interface{ SQLState() string }
	if errors.As(err, &pg) || errors.As(err, &my) || errors.As(err, &coded) || errors.As(err, &stated) {
		t.Errorf("%s: %#v is the driver's", how, err)
	}
	unwraps(t, how, err)
}

// unwraps checks that all that err wraps are values without fields of their own to print.
func unwraps(t testing.TB, how string, err error) {
	t.Helper()
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		unwraps(t, how, err.Unwrap())
	case interface{ Unwrap() []error }:
		for _, e := range err.Unwrap() {
			unwraps(t, how, e)
		}
	default:
		if kind := fmt.Sprintf("%T", err); kind != "*errors.errorString" {
			t.Errorf("%s: the error wraps a %s", how, kind)
		}
	}
}

// Other errors of the same tables stay as they are.
func TestChecksLeaveOtherErrorsAlone(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		w := open(t, kind, &Guarded{})
		ok(t, w.db.AutoMigrate(&GuardedNote{}))
		for how, err := range map[string]error{
			"a CHECK of the application's": w.db.Create(&GuardedNote{Ward: "x"}).Error,
			"a table that is not there":    w.db.Exec("DELETE FROM rowseal_guardeds__name").Error,
			"a constraint twice":           w.db.Exec("ALTER TABLE guardeds ADD " + checksOf(t, w.db, &Guarded{})[0].Constraint).Error,
		} {
			if err == nil || errors.Is(err, rowseal.ErrPlaintext) || errors.Is(err, rowseal.ErrKeyColumn) {
				t.Errorf("%s: %v", how, err)
			}
		}
		fails(t, w.db.Take(&Guarded{}).Error, gorm.ErrRecordNotFound)
		if err := w.db.Raw("SELECT ward FROM guardeds").Row().Scan(new(string)); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("error %v", err)
		}
	})
}

// A constraint that was put on by hand, on a table of another name.
func TestChecksPutOnByHandFailWithoutTheRow(t *testing.T) {
	w := open(t, postgres, &Guarded{})
	ok(t, w.db.Table("archived").AutoMigrate(&Guarded{}))
	ok(t, alter(w.db.Table("archived"), &Guarded{}))
	ok(t, w.db.Session(&gorm.Session{Logger: logger.Discard}).Exec("CREATE FUNCTION sneak() RETURNS void LANGUAGE sql AS $$ INSERT INTO archived (score) VALUES ('"+canary+"') $$").Error)
	err := w.db.Exec("SELECT sneak()").Error
	fails(t, err, rowseal.ErrPlaintext, "rowseal_archived__score")
	notDrivers(t, "Exec", err)
}
