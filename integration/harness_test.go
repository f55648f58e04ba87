package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	sqlitedriver "github.com/glebarez/go-sqlite"
	"github.com/glebarez/sqlite"
	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	mysqldriver "gorm.io/driver/mysql"
	postgresdriver "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"database/sql/driver"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/integration/internal/ephemeral"
	"github.com/rowseal/rowseal/integration/internal/mariatest"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/integration/internal/sqlspy"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// children are what this binary is where tests start it anew: a program that does not return, on the database that a variable of the environment names.
var children = map[string]func(dsn string){}

func TestMain(m *testing.M) {
	for name, run := range children {
		if dsn := os.Getenv(name); dsn != "" {
			run(dsn)
		}
	}
	ephemeral.AtExit(surface.atExit)
	ephemeral.Main(m)
}

// bench is one database with the plugin, and everything that a test may want to look at.
type world struct {
	db    *gorm.DB
	spy   *sqlspy.Recorder
	kms   *kmskeytest.Counter
	keys  *kmskey.Keyring
	plain *sql.DB // a second connection without plugin or spy
	kind  string
	log   *lockedBuffer
	used  gorm.Plugin // what the database was given
}

// The kinds of database, and of reaching one.
const (
	sqliteGo  = "sqlite"     // without a C compiler
	sqliteCgo = "sqlite-cgo" // SQLite's own C code
	postgres  = "postgres"
	mariadb   = "mariadb"
	// mysqlLike is MariaDB as MySQL is: without RETURNING, so that ids are counted up from the first of a batch. It also has the
	// driver count the rows that an UPDATE found, not those it changed, and put values into the text itself.
	mysqlLike = "mysql-like"
)

func isSQLite(kind string) bool { return kind == sqliteGo || kind == sqliteCgo }
func isMySQL(kind string) bool  { return kind == mariadb || kind == mysqlLike }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string { return l.since(0) }

func (l *lockedBuffer) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Len()
}

// since is what was written after the first n bytes. All of it grows with each path of a test that tries many.
func (l *lockedBuffer) since(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.b.Bytes()[n:])
}

// idleConns is how many connections a pool keeps. Of the two that are usual, those that work at once would close and open theirs all the time, which
// costs a server, and a client that proves it knows the password, more than most statements.
const idleConns = 16

// connect opens a fresh database of one kind.
func connect(t testing.TB, kind string, r *sqlspy.Recorder, config *gorm.Config) (db *gorm.DB, plain *sql.DB) {
	t.Helper()
	var spied, own driver.Connector
	switch {
	case isSQLite(kind):
		file := filepath.Join(t.TempDir(), "test.db")
		own = goSQLite(file)
		if kind == sqliteCgo {
			own = cgoSQLite(file)
		}
		spied = own
	case kind == postgres:
		parsed, err := pgx.ParseConfig(pgtest.DSN(t))
		if err != nil {
			t.Fatal(err)
		}
		own = stdlib.GetConnector(*parsed)
		spied = own
	case isMySQL(kind):
		c := mariatest.Config(t)
		c.ParseTime = true
		own = mysqlConnector(t, c)
		if kind == mysqlLike {
			c.ClientFoundRows, c.InterpolateParams = true, true
		}
		spied = mysqlConnector(t, c)
	}
	pool := sql.OpenDB(r.Connector(spied))
	plain = sql.OpenDB(own)
	t.Cleanup(func() { _, _ = pool.Close(), plain.Close() })
	for _, p := range []*sql.DB{pool, plain} {
		p.SetMaxIdleConns(idleConns)
	}
	db, err := gorm.Open(dialector(kind, pool), config)
	if err != nil {
		t.Fatal(err)
	}
	return db, plain
}

func dialector(kind string, pool gorm.ConnPool) gorm.Dialector {
	switch kind {
	case sqliteGo:
		return sqlite.Dialector{Conn: pool}
	case sqliteCgo:
		return cgoDialector(pool)
	case postgres:
		return postgresdriver.New(postgresdriver.Config{Conn: pool})
	case mariadb, mysqlLike:
		return mysqldriver.New(mysqldriver.Config{Conn: pool, DisableWithReturning: kind == mysqlLike})
	}
	panic("no kind " + kind)
}

// Nothing is synced to the disk: a process that dies loses nothing by that, and no test cuts the power.
func goSQLite(file string) driver.Connector {
	return dsnConnector{"file:" + file + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate", &sqlitedriver.Driver{}}
}

func mysqlConnector(t testing.TB, c *mysql.Config) driver.Connector {
	t.Helper()
	connector, err := mysql.NewConnector(c.Clone())
	if err != nil {
		t.Fatal(err)
	}
	return connector
}

type dsnConnector struct {
	dsn    string
	driver driver.Driver
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }

// open gives a world with a keyring of one local key, and tables for the models.
func open(t testing.TB, kind string, models ...any) *world {
	t.Helper()
	counter := kmskeytest.NewCounter(localkey.NewInsecure())
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: counter}}, Namespace: "test"})
	if err != nil {
		t.Fatal(err)
	}
	w := openWith(t, kind, keys, rowseal.Config{Models: models}, &gorm.Config{})
	w.kms = counter
	counter.Before = func(context.Context, kmskeytest.Call) error { w.spy.Note("kms"); return nil }
	return w
}

// localKeys is a keyring of one version under the insecure local key.
func localKeys(t testing.TB) *kmskey.Keyring {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "test"})
	ok(t, err)
	return keys
}

func openWith(t testing.TB, kind string, keys *kmskey.Keyring, config rowseal.Config, gormConfig *gorm.Config) *world {
	t.Helper()
	w := &world{spy: &sqlspy.Recorder{}, keys: keys, kind: kind, log: &lockedBuffer{}}
	gormConfig.Logger = logger.New(log.New(w.log, "", 0), logger.Config{LogLevel: logger.Info})
	w.db, w.plain = connect(t, kind, w.spy, gormConfig)
	plugin, err := rowseal.New(keys, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.db.Use(plugin); err != nil {
		t.Fatal(err)
	}
	w.used = plugin
	for _, m := range config.Models {
		if named, ok := m.(rowseal.Model); ok {
			m = named.Value
		}
		if err := w.db.AutoMigrate(m); err != nil {
			t.Fatal(err)
		}
	}
	w.spy.Reset()
	return w
}

// each runs a test on every database.
func each(t *testing.T, f func(t *testing.T, kind string)) { on(t, f, sqliteGo, postgres, mariadb) }

// eachDriver runs a test on every database, and on those that have several ways to be reached by each.
func eachDriver(t *testing.T, f func(t *testing.T, kind string)) {
	kinds := []string{sqliteGo, postgres, mariadb, mysqlLike}
	if cgoSQLite != nil {
		kinds = append(kinds, sqliteCgo)
	}
	on(t, f, kinds...)
}

// on runs a test on some databases.
func on(t *testing.T, f func(t *testing.T, kind string), kinds ...string) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f(t, kind)
		})
	}
}

// The cgo driver, where there is one.
var (
	cgoSQLite    func(file string) driver.Connector
	cgoDialector func(gorm.ConnPool) gorm.Dialector
)

// dump is every byte of a table, as a second connection sees it.
func (w *world) dump(t testing.TB, table string) string {
	t.Helper()
	var b strings.Builder
	w.scan(t, table, func(column, value string) { fmt.Fprintf(&b, "%s=%s\n", column, value) })
	return b.String()
}

// scan goes through a table's values, as a second connection sees them.
func (w *world) scan(t testing.TB, table string, each func(column, value string)) {
	t.Helper()
	rows, err := w.plain.Query("SELECT * FROM " + table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		dest := make([]any, len(columns))
		for i := range dest {
			dest[i] = new(any)
		}
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		for i, d := range dest {
			v := *d.(*any)
			if raw, ok := v.([]byte); ok {
				v = string(raw)
			}
			each(columns[i], fmt.Sprint(v))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// cell reads one column of one row as the database has it.
func (w *world) cell(t testing.TB, table, column string, id any) []byte {
	t.Helper()
	var raw []byte
	query := fmt.Sprintf("SELECT %s FROM %s WHERE id = %s", w.quote(column), table, w.bind(1))
	if err := w.plain.QueryRow(query, id).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// tamper changes rows behind the plugin's back.
func (w *world) tamper(t testing.TB, query string, args ...any) {
	t.Helper()
	for i := range args {
		query = strings.Replace(query, "?", w.bind(i+1), 1)
	}
	if _, err := w.plain.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

// dropChecks takes the database's own guard off a model's table, for tests that store what it would stop.
func (w *world) dropChecks(t testing.TB, model any) {
	t.Helper()
	checks, err := rowseal.Checks(w.db, model)
	ok(t, err)
	for _, c := range checks {
		ok(t, w.db.Migrator().DropConstraint(model, c.Name))
	}
}

// quote is for columns whose names some database reserves.
func (w *world) quote(column string) string {
	if isMySQL(w.kind) {
		return "`" + column + "`"
	}
	return `"` + column + `"`
}

func (w *world) bind(n int) string {
	if w.kind == postgres {
		return fmt.Sprintf("$%d", n)
	}
	return "?"
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks for a kind of error whose text names every part.
func fails(t testing.TB, err, kind error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %v", kind)
	}
	if !errors.Is(err, kind) {
		t.Fatalf("error %v\nis not %v", err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q\ndoes not name %q", err, part)
		}
	}
}

// writerOnly is a world whose key service wraps and does not unwrap.
func writerOnly(t testing.TB, kind string, models ...any) *world {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecureEncryptOnly()}}})
	ok(t, err)
	return openWith(t, kind, keys, rowseal.Config{Models: models}, &gorm.Config{})
}

// inRegion makes a client for another region than the server's first.
func inRegion(region string) func(*kms.Options) {
	return func(o *kms.Options) { o.Region = region }
}

// plainCell reads one column of the row that another column names.
func (w *world) plainCell(t testing.TB, table, column, by string, id any) []byte {
	t.Helper()
	var raw []byte
	if err := w.plain.QueryRow(fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s", w.quote(column), table, w.quote(by), w.bind(1)), id).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	return raw
}
