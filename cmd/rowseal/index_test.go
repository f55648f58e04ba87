package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	root "github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/cmd/rowseal/internal/advise"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
)

// people is a database of plain columns.
func people(t *testing.T) (url string, db *gorm.DB) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "people.db")
	db, err := gorm.Open(sqlite.Open("file:"+file), &gorm.Config{})
	must(t, err)
	pool, err := db.DB()
	must(t, err)
	t.Cleanup(func() { must(t, pool.Close()) })
	for _, statement := range []string{
		`CREATE TABLE people (id integer PRIMARY KEY, email text, surname text COLLATE NOCASE, sex text, note text, "odd name" text, photo blob)`,
		// Surnames: one that 60 people have, one that 40 have, one that 25 have, and 1875 that one has.
		`WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 2000)
			INSERT INTO people (email, surname, sex, "odd name", photo) SELECT
			CASE WHEN i <= 1990 THEN printf(' Canary.%d@%s ', i, CASE WHEN i % 4 THEN 'Example.org' ELSE 'x@example' || i || '.com' END) END,
			'Canary' || CASE WHEN i <= 60 THEN 'A' WHEN i <= 100 THEN 'B' WHEN i <= 125 THEN 'b' ELSE i END,
			CASE i % 2 WHEN 0 THEN 'canary f' ELSE 'canary m' END, i, randomblob(40) FROM g`,
		`CREATE TABLE few AS SELECT * FROM people LIMIT 20`,
		`CREATE TABLE nobody AS SELECT * FROM people LIMIT 0`,
	} {
		must(t, db.Exec(statement).Error)
	}
	return "sqlite:" + file, db
}

func advises(t *testing.T, args ...string) []advice {
	t.Helper()
	var all []advice
	text := prints(t, append([]string{"index", "advise", "--json"}, args...)...)
	must(t, json.Unmarshal([]byte(text), &all))
	if strings.Contains(strings.ToLower(text), "canary") {
		t.Errorf("a value was printed:\n%s", text)
	}
	return all
}

// TestIndexAdvise: what is printed, for each verdict.
func TestIndexAdvise(t *testing.T) {
	url, _ := people(t)
	for name, args := range map[string][]string{
		"fine":   {"--table", "people", "--column", "email", "--expression", "lower+trim"},
		"leaks":  {"--table", "people", "--column", "surname"},
		"unsafe": {"--table", "people", "--column", "sex"},
		"few":    {"--table", "few", "--column", "email"},
		"json":   {"--table", "people", "--column", "email", "--column", "surname", "--json"},
	} {
		got := prints(t, append([]string{"index", "advise", "--database", url}, args...)...)
		if strings.Contains(strings.ToLower(got), "canary") {
			t.Errorf("%s: a value was printed", name)
		}
		golden(t, filepath.Join("index", name+".golden"), got)
	}
}

// TestIndexAdviseExpressions: the counts that SQLite gives are those of the texts that Go would make.
func TestIndexAdviseExpressions(t *testing.T) {
	url, db := people(t)
	must(t, db.Exec(`UPDATE people SET note = CASE id WHEN 1 THEN 'ab' WHEN 2 THEN 'AB' WHEN 3 THEN char(9) || 'ab' || char(10) WHEN 4 THEN 'a@b@C.d' WHEN 5 THEN 'x@c.D' WHEN 6 THEN 'äöüß' WHEN 7 THEN 'öüß' WHEN 8 THEN '' END`).Error)
	for expression, want := range map[string][2]int64{ // different values, rows of the commonest
		"":            {8, 1},
		"lower":       {7, 2}, // ab
		"trim":        {7, 2}, // ab
		"lower+trim":  {6, 3}, // ab
		"domain":      {6, 2}, // c.d, and ab
		"domain+trim": {5, 3},
		"last3":       {7, 2}, // öüß
		"first2":      {8, 1},
		"last99":      {8, 1},
		"first1":      {7, 2},
	} {
		args := []string{"--database", url, "--table", "people", "--column", "note"}
		if expression != "" {
			args = append(args, "--expression", expression)
		}
		got := advises(t, args...)
		if len(got) != 1 || got[0].Rows != 8 || got[0].Nulls != 1992 || strings.Count(got[0].Expression, "+") != strings.Count(expression, "+") {
			t.Fatalf("%s: %+v", expression, got)
		}
		if found := [2]int64{got[0].Distinct, got[0].Largest}; found != want {
			t.Errorf("%s: %v, not %v", expression, found, want)
		}
	}
	// A collation groups what has different hashes; a hash does not.
	if got := advises(t, "--database", url, "--table", "people", "--column", "surname", "--expression", "trim", "--expression", "lower"); got[0].Largest != 60 || got[0].Distinct != 1878 || got[1].Largest != 65 || got[1].Distinct != 1877 {
		t.Errorf("%+v", got)
	}
	if got := advises(t, "--database", url, "--table", "people", "--column", "odd name"); got[0].Distinct != 2000 || got[0].Verdict != advise.Fine {
		t.Errorf("%+v", got)
	}
}

type Indexed struct {
	ID    uint64
	Email string `gorm:"serializer:rowseal" rowseal:"index,index=12bits"`
	Name  string `gorm:"serializer:rowseal"`
	Note  string `gorm:"serializer:rowseal" rowseal:"text"`
	root.RowKey
}

// TestIndexAdviseSealed: an index says what the plaintext did; what is sealed is refused.
func TestIndexAdviseSealed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sealed.db")
	db, err := gorm.Open(sqlite.Open("file:"+file+"?_pragma=busy_timeout(10000)"), &gorm.Config{})
	must(t, err)
	pool, err := db.DB()
	must(t, err)
	defer pool.Close()
	_, err = migrations.Up(t.Context(), db)
	must(t, err)
	keys, err := kmskey.New(kmskey.Config{Current: 1, Namespace: "index/test", Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
	must(t, err)
	plugin, err := root.New(keys, root.Config{Models: []any{&Indexed{}}})
	must(t, err)
	must(t, db.Use(plugin))
	must(t, db.AutoMigrate(&Indexed{}))
	must(t, plugin.MakeIndexKeys(t.Context(), db))
	var rows []Indexed
	for i := range 30 {
		rows = append(rows, Indexed{Email: fmt.Sprint("canary ", i%7), Name: fmt.Sprint("canary ", i), Note: "canary"})
	}
	must(t, db.Create(&rows).Error)
	got := advises(t, "--database", "sqlite:"+file, "--table", "indexeds", "--column", "email_bidx")
	if len(got) != 1 || got[0].Rows != 30 || got[0].Distinct != 7 || got[0].Largest != 5 {
		t.Errorf("%+v", got)
	}
	if got := advises(t, "--database", "sqlite:"+file, "--table", "indexeds", "--column", "email_12bits_bidx"); got[0].Rows != 30 || got[0].Distinct < 5 || got[0].Distinct > 7 {
		t.Errorf("%+v", got)
	}
	for _, column := range []string{"email", "name", "note", "encrypted_kms_key"} {
		r := rowseal(t, "index", "advise", "--database", "sqlite:"+file, "--table", "indexeds", "--column", column)
		if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "indexeds."+column+": it holds sealed values or keys") || !strings.Contains(r.stderr, "--column "+column+"_bidx") {
			t.Errorf("%s: %+v", column, r)
		}
	}
	// In the middle of a backfill.
	_, err = pool.Exec("CREATE TABLE half AS SELECT id, CASE WHEN id = 3 THEN name ELSE 'plain ' || id END AS name FROM indexeds")
	must(t, err)
	if r := rowseal(t, "index", "advise", "--database", "sqlite:"+file, "--table", "half", "--column", "name"); r.code != 1 || !strings.Contains(r.stderr, "it holds sealed values") {
		t.Errorf("%+v", r)
	}
}

// TestIndexAdviseSaysWhatToDo: what a new user meets.
func TestIndexAdviseSaysWhatToDo(t *testing.T) {
	url, _ := people(t)
	at := func(table, column string, more ...string) []string {
		return append([]string{"index", "advise", "--database", url, "--table", table, "--column", column}, more...)
	}
	for name, tt := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no table given":      {[]string{"index", "advise", "--database", url, "--column", "email"}, 2, "missing flags: --table=NAME"},
		"no column given":     {[]string{"index", "advise", "--database", url, "--table", "people"}, 2, "missing flags: --column=NAME"},
		"no database":         {[]string{"index", "advise", "--table", "people", "--column", "email"}, 2, "--database is missing"},
		"no such table":       {at("peple", "email"), 1, "peple.email: SQL logic error: no such table: peple"},
		"no such column":      {at("people", "emial"), 1, "no such column: emial (1); the table has email, id, note, odd name, photo, sex, surname"},
		"an empty table":      {at("nobody", "email"), 1, "nobody.email: it has no values (the table has 0 rows)"},
		"an empty column":     {at("people", "note"), 1, "people.note: it has no values (the table has 2000 rows)"},
		"unknown expression":  {at("people", "email", "--expression", "upper"), 2, `--expression "upper": "upper" is nothing that can be done to a text; that is fold, lower`},
		"half an expression":  {at("people", "email", "--expression", "lower+"), 2, `--expression "lower+"`},
		"no expression":       {at("people", "email", "--expression", ""), 2, "--expression is empty; leave it out"},
		"number zero":         {at("people", "email", "--expression", "last0"), 2, `"last0" is nothing`},
		"two parts":           {at("people", "email", "--expression", "domain+last4"), 2, "two steps that each keep a part"},
		"one's own":           {at("people", "email", "--expression", "phone.v1"), 2, "no database knows phone.v1; have a program put what it gives"},
		"fold":                {at("people", "email", "--expression", "trim+fold"), 2, "no database folds as fold does; lower in its place is near enough for an estimate"},
		"not in SQLite":       {at("people", "email", "--expression", "digits+last4"), 1, "people.email (digits+last4): SQLite has no function for digits; have a program put what it gives into a column"},
		"expression of bytes": {at("people", "photo", "--expression", "lower"), 1, "it holds bytes: an expression is of texts"},
		"timeout":             {at("people", "email", "--timeout", "1ns"), 1, "not counted within 1ns; --timeout gives it longer"},
		"no timeout":          {at("people", "email", "--timeout", "0"), 2, "expected a duration above zero"},
	} {
		r := rowseal(t, tt.args...)
		if r.code != tt.code || r.stdout != "" || !strings.Contains(r.stderr, tt.says) || strings.Contains(strings.ToLower(r.stderr), "canary") {
			t.Errorf("%s: %d\n%s%s", name, r.code, r.stdout, r.stderr)
		}
	}
	// Random bytes are no sealed values, though some begin as those do.
	if got := advises(t, "--database", url, "--table", "people", "--column", "photo"); got[0].Distinct != 2000 {
		t.Errorf("%+v", got)
	}
}

// TestIndexAdviseDoesNotWrite: the connection on which a column is counted refuses to.
func TestIndexAdviseDoesNotWrite(t *testing.T) {
	_, db := people(t)
	pool, err := db.DB()
	must(t, err)
	conn, err := pool.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	_, done, err := readOnly(t.Context(), conn, "sqlite", 1)
	must(t, err)
	defer done()
	if _, err := conn.ExecContext(t.Context(), "DELETE FROM people"); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("%v", err)
	}
}

// TestEveryDatabaseHasEveryStep: what is missing is refused by name, and nothing else is.
func TestEveryDatabaseHasEveryStep(t *testing.T) {
	for name, d := range dialects {
		for _, step := range []string{"lower", "trim", "digits", "domain", "first3", "last4"} {
			e, err := parseExpression(step)
			must(t, err)
			group, err := d.group(name, "c", false, e)
			if missing := name == "sqlite" && step == "digits"; (err != nil) != missing || strings.Contains(group, "%!") {
				t.Errorf("%s, %s: %s %v", name, step, group, err)
			}
		}
		if both := []string{d.key, d.keyBytes}; slices.Contains(both, "") {
			t.Errorf("%s has no key", name)
		}
	}
}

type stateError struct{ code string }

func (e stateError) Error() string    { return `ERROR: invalid input "canary"` }
func (e stateError) SQLState() string { return e.code }

// TestIndexAdviseErrors: what a server says of the values that it looked at stays there.
func TestIndexAdviseErrors(t *testing.T) {
	for want, err := range map[string]error{
		"the server could not count it (SQLSTATE 22021; its log says why)":                      fmt.Errorf("wrapped: %w", stateError{"22021"}),
		"a row-level security policy may hide rows from this user (SQLSTATE 42501); ask as the": stateError{"42501"},
		"the server could not count it (error 3854)":                                            &mysqldriver.MySQLError{Number: 3854, Message: "Cannot convert string 'canary'"},
		"context canceled": context.Canceled,
	} {
		if got := withoutValues(err); !strings.HasPrefix(got.Error(), want) || strings.Contains(got.Error(), "canary") {
			t.Errorf("%v", got)
		}
	}
	if err := withoutValues(nil); err != nil {
		t.Error(err)
	}
}
