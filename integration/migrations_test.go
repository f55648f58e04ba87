package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal/integration/internal/mariatest"
	"github.com/rowseal/rowseal/integration/internal/pgtest"
	"github.com/rowseal/rowseal/migrations"
)

// sharedDB is one database that several processes, each with a pool of its own, reach.
type sharedDB struct {
	kind      string
	connector driver.Connector
	plain     *sql.DB
}

func newShared(t *testing.T, kind string) *sharedDB {
	t.Helper()
	s := &sharedDB{kind: kind}
	switch {
	case isSQLite(kind):
		file := filepath.Join(t.TempDir(), "test.db")
		s.connector = goSQLite(file)
		if kind == sqliteCgo {
			s.connector = cgoSQLite(file)
		}
	case kind == postgres:
		parsed, err := pgx.ParseConfig(pgtest.DSN(t))
		ok(t, err)
		// As some servers are set: a transaction sees what was there when it began, also where it waited since.
		parsed.RuntimeParams["default_transaction_isolation"] = "repeatable read"
		s.connector = stdlib.GetConnector(*parsed)
	default:
		c := mariatest.Config(t)
		c.MultiStatements = true // for whole files
		c.ParseTime = kind == mariadb
		c.InterpolateParams = kind == mysqlLike
		s.connector = mysqlConnector(t, c)
	}
	s.plain = sql.OpenDB(s.connector)
	t.Cleanup(func() { _ = s.plain.Close() })
	return s
}

// through is another process, which reaches the database through a connector.
func (s *sharedDB) through(t *testing.T, connector driver.Connector, config *gorm.Config) *gorm.DB {
	t.Helper()
	pool := sql.OpenDB(connector)
	t.Cleanup(func() { _ = pool.Close() })
	db, err := gorm.Open(dialector(s.kind, pool), config)
	ok(t, err)
	return db
}

func (s *sharedDB) open(t *testing.T) *gorm.DB {
	t.Helper()
	return s.through(t, s.connector, &gorm.Config{Logger: logger.Discard})
}

// shape is all that a database says of the tables that the migrations make.
func (s *sharedDB) shape(t *testing.T) string {
	t.Helper()
	queries := []string{"SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name LIKE '%rowseal%' ORDER BY type, name"}
	switch {
	case s.kind == postgres:
		queries = []string{
			`SELECT table_schema, table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable, column_default
				FROM information_schema.columns WHERE table_name LIKE 'rowseal%' ORDER BY 1, 2, 3`,
			"SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname LIKE 'rowseal%' ORDER BY 1, 2",
			"SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'rowseal%' ORDER BY 1",
		}
	case isMySQL(s.kind):
		queries = []string{
			`SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default, collation_name
				FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1, 2`,
			"SELECT table_name, engine, table_collation FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1",
			`SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics
				WHERE table_schema = DATABASE() ORDER BY 1, 2, 3`,
			"SELECT constraint_name, table_name, delete_rule FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE() ORDER BY 1",
		}
	}
	var b strings.Builder
	for _, query := range queries {
		rows, err := s.plain.Query(query)
		ok(t, err)
		columns, err := rows.Columns()
		ok(t, err)
		for rows.Next() {
			row := make([]sql.NullString, len(columns))
			dest := make([]any, len(columns))
			for i := range row {
				dest[i] = &row[i]
			}
			ok(t, rows.Scan(dest...))
			fmt.Fprintln(&b, row)
		}
		ok(t, rows.Err())
	}
	return b.String()
}

func (s *sharedDB) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := s.plain.Exec(query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

const insertRun = "INSERT INTO rowseal_runs (id, kind, target, active, state, spec, created_ms, updated_ms) VALUES ('r', 'rewrap', 'patients: key', %s, '%s', '{}', 1, 1)"

func (s *sharedDB) run(t *testing.T, active, state string) {
	t.Helper()
	s.exec(t, fmt.Sprintf(insertRun, active, state))
}

func TestMigrationsUpDownUp(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		before := time.Now().Add(-time.Minute)
		status, err := migrations.Status(t.Context(), db)
		ok(t, err)
		if len(status) == 0 || status[0].Name != "ledger" || !status[0].Applied.IsZero() {
			t.Fatalf("%+v", status)
		}
		none := s.shape(t)
		first, err := migrations.Up(t.Context(), db)
		ok(t, err)
		up := s.shape(t)
		if len(first) != len(status) || strings.Count(up, "rowseal_") < 50 && !isSQLite(kind) || up == none {
			t.Fatalf("applied %+v: %s", first, up)
		}
		status, err = migrations.Status(t.Context(), db)
		ok(t, err)
		if !slices.Equal(status, first) || status[0].Applied.Before(before) || status[0].Applied.After(time.Now().Add(time.Minute)) {
			t.Errorf("Up says %+v, Status %+v", first, status)
		}
		again, err := migrations.Up(t.Context(), db)
		ok(t, err)
		if len(again) != 0 || s.shape(t) != up {
			t.Errorf("a second Up did %+v", again)
		}
		if _, err := migrations.Down(t.Context(), db, -1); err == nil {
			t.Error("down to -1")
		}
		same, err := migrations.Down(t.Context(), db, len(first))
		ok(t, err)
		if len(same) != 0 || s.shape(t) != up {
			t.Errorf("down to the version it has: %+v", same)
		}
		for range 2 {
			down, err := migrations.Down(t.Context(), db, 0)
			ok(t, err)
			if s.shape(t) != none {
				t.Errorf("Down left: %s", s.shape(t))
			}
			if slices.Reverse(down); !slices.Equal(down, first) {
				t.Errorf("reversed %+v of %+v", down, first)
			}
			first = nil // the second time
		}
		_, err = migrations.Up(t.Context(), db)
		ok(t, err)
		if got := s.shape(t); got != up {
			t.Errorf("up, down, up:\n%s\nfirst:\n%s", got, up)
		}
	})
}

// Twenty processes start at once.
func TestMigrationsAtOnce(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		if kind == sqliteGo {
			// A DSN as most have it: nothing waits by itself.
			_, err := s.plain.Exec("PRAGMA journal_mode = DELETE")
			ok(t, err)
			c := s.connector.(dsnConnector)
			c.dsn, _, _ = strings.Cut(c.dsn, "?")
			s.connector = c
		}
		var dbs []*gorm.DB
		for range 20 {
			dbs = append(dbs, s.open(t))
		}
		for round := range 3 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			applied := map[int]int{}
			for _, db := range dbs {
				wg.Go(func() {
					done, err := migrations.Up(t.Context(), db)
					if err != nil {
						t.Error(err)
						return
					}
					status, err := migrations.Status(t.Context(), db)
					if err != nil || slices.ContainsFunc(status, func(v migrations.Version) bool { return v.Applied.IsZero() }) {
						t.Errorf("Up returned before all was done: %+v, %v", status, err)
					}
					mu.Lock()
					defer mu.Unlock()
					for _, v := range done {
						applied[v.Number]++
					}
				})
			}
			wg.Wait()
			for n, times := range applied {
				if times != 1 {
					t.Errorf("round %d: version %d was applied %d times", round, n, times)
				}
			}
			if len(applied) == 0 {
				t.Errorf("round %d: nothing was applied", round)
			}
			_, err := migrations.Down(t.Context(), dbs[round], 0)
			ok(t, err)
		}
	})
}

// A connection that breaks at every statement in turn, before or after the server has run it.
func TestMigrationsAfterACrash(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		for _, after := range []bool{false, true} {
			s := newShared(t, kind)
			db := s.open(t)
			none := s.shape(t)
			_, err := migrations.Up(t.Context(), db)
			ok(t, err)
			up := s.shape(t)

			crash := func(at int, act func(*gorm.DB) error) (survived bool) {
				c := &cutting{Connector: s.connector, after: after}
				broken := s.through(t, c, &gorm.Config{Logger: logger.Discard})
				c.left = at
				err := act(broken)
				if err != nil && !errors.Is(err, errCut) {
					t.Fatalf("cut at statement %d: %v", at, err)
				}
				if err == nil && c.left < 0 && !after {
					t.Fatalf("cut at statement %d, and nobody noticed", at)
				}
				return c.left >= 0
			}
			upThrough := func(db *gorm.DB) error { _, err := migrations.Up(t.Context(), db); return err }
			downThrough := func(db *gorm.DB) error { _, err := migrations.Down(t.Context(), db, 0); return err }
			var ups, downs int
			for ; ; ups++ {
				ok(t, downThrough(db))
				if s.shape(t) != none {
					t.Fatalf("before statement %d: %s", ups, s.shape(t))
				}
				survived := crash(ups, upThrough)
				if half := s.shape(t); half != none && half != up && !isMySQL(kind) {
					t.Errorf("cut at statement %d, half-done:\n%s", ups, half)
				}
				if ups%2 == 1 { // Down too takes what a crashed Up left
					ok(t, downThrough(db))
					if s.shape(t) != none {
						t.Errorf("cut at statement %d, Down left %s", ups, s.shape(t))
					}
				}
				ok(t, upThrough(db))
				if s.shape(t) != up {
					t.Errorf("cut at statement %d, Up gave\n%s", ups, s.shape(t))
				}
				if survived {
					break
				}
			}
			for ; ; downs++ {
				ok(t, upThrough(db))
				survived := crash(downs, downThrough)
				if half := s.shape(t); half != none && half != up && !isMySQL(kind) {
					t.Errorf("cut at statement %d of Down, half-done:\n%s", downs, half)
				}
				if downs%2 == 1 {
					ok(t, upThrough(db))
					if s.shape(t) != up {
						t.Errorf("cut at statement %d of Down, Up gave\n%s", downs, s.shape(t))
					}
				}
				ok(t, downThrough(db))
				if s.shape(t) != none {
					t.Errorf("cut at statement %d of Down, Down left %s", downs, s.shape(t))
				}
				if survived {
					break
				}
			}
			if ups < 10 || downs < 10 {
				t.Errorf("only %d and %d statements", ups, downs)
			}
		}
	})
}

var errCut = errors.New("the connection is cut")

// cutting ends its connections at one statement: the last before left is below 0.
type cutting struct {
	driver.Connector
	left  int
	after bool
}

func (c *cutting) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c.left = 1 << 30 // until gorm.Open has asked what it wants to know
	return &cutConn{Conn: inner, c: c}, nil
}

type cutConn struct {
	driver.Conn
	c   *cutting
	cut bool
}

func (c *cutConn) through(run func() error) error {
	if c.cut {
		return errCut
	}
	if c.c.left--; c.c.left >= 0 {
		return run()
	}
	if c.c.after {
		_ = run()
	}
	c.cut = true
	_ = c.Conn.Close()
	return errCut
}

func (c *cutConn) Close() error {
	if c.cut {
		return nil
	}
	return c.Conn.Close()
}

func (c *cutConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	return result, c.through(func() error {
		result, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
		return err
	})
}

func (c *cutConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (rows driver.Rows, err error) {
	err = c.through(func() error {
		rows, err = c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
		if err == nil && c.c.left < 0 {
			_ = rows.Close()
		}
		return err
	})
	return rows, err
}

// The files as another tool runs them: each at once.
func TestMigrationsFilesByHand(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		none := s.shape(t)
		files, err := migrations.Files(db.Dialector.Name())
		ok(t, err)
		byHand := func(pattern string) {
			names, err := fs.Glob(files, pattern)
			ok(t, err)
			if len(names) == 0 {
				t.Fatal("no files")
			}
			for _, name := range names {
				text, err := fs.ReadFile(files, name)
				ok(t, err)
				s.exec(t, string(text))
			}
		}
		byHand("*.up.sql")
		up := s.shape(t)
		status, err := migrations.Status(t.Context(), db)
		ok(t, err)
		if status[0].Name != "ledger" || time.Since(status[0].Applied).Abs() > time.Minute {
			t.Errorf("%+v", status)
		}
		done, err := migrations.Up(t.Context(), db)
		ok(t, err)
		if len(done) != 0 {
			t.Errorf("Up did %+v", done)
		}
		byHand("*.down.sql")
		if s.shape(t) != none {
			t.Errorf("left: %s", s.shape(t))
		}
		_, err = migrations.Up(t.Context(), db)
		ok(t, err)
		if s.shape(t) != up {
			t.Errorf("by hand\n%s\nUp gives\n%s", up, s.shape(t))
		}
	})
}

func TestMigrationsOfALaterRelease(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		logged := &lockedBuffer{}
		db := s.through(t, s.connector, &gorm.Config{Logger: logger.New(log.New(logged, "", 0), logger.Config{LogLevel: logger.Warn})})
		_, err := migrations.Up(t.Context(), db)
		ok(t, err)
		s.exec(t, "INSERT INTO rowseal_migrations (version, name, applied_ms) VALUES (99, 'later', 1000)")
		done, err := migrations.Up(t.Context(), db)
		ok(t, err)
		if len(done) != 0 || !strings.Contains(logged.String(), "the database is at version 99, of a later release; this build knows 1, and leaves it as it is") {
			t.Errorf("%+v, %s", done, logged)
		}
		status, err := migrations.Status(t.Context(), db)
		ok(t, err)
		if last := status[len(status)-1]; last.Number != 99 || last.Name != "later" || !last.Newer || status[0].Newer || last.Applied.UnixMilli() != 1000 {
			t.Errorf("%+v", status)
		}
		if _, err := migrations.Down(t.Context(), db, 0); err == nil || !strings.Contains(err.Error(), "version 99 is of a later release; reverse it with that release, this build knows 1") {
			t.Error(err)
		}
		// Lost from the list, while later ones are there.
		s.exec(t, "DELETE FROM rowseal_migrations WHERE version = 1")
		if _, err := migrations.Up(t.Context(), db); err == nil || !strings.Contains(err.Error(), "version 99 is applied and 1 (ledger) is not; run 0001_ledger.up.sql, or insert its row") {
			t.Error(err)
		}
	})
}

func TestMigrationsKeepTheLedger(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		_, err := migrations.Up(t.Context(), db)
		ok(t, err)
		up := s.shape(t)
		s.run(t, "'patients: key'", "paused")
		_, err = migrations.Down(t.Context(), db, 0)
		fails(t, err, migrations.ErrRuns, "migrations: down: the ledger holds runs: 1 of 1 have not ended; cancel them first")
		_, err = migrations.Discard(t.Context(), db, 0)
		fails(t, err, migrations.ErrRuns, "1 of 1 have not ended")
		s.exec(t, "UPDATE rowseal_runs SET active = NULL, state = 'done'")
		_, err = migrations.Down(t.Context(), db, 0)
		fails(t, err, migrations.ErrRuns, "all 1 have ended; migrations.Discard loses them")
		if s.shape(t) != up {
			t.Errorf("a refusal changed %s", s.shape(t))
		}
		s.exec(t, "UPDATE rowseal_runs SET reason = 'tables are not locked'")
		// Without its branch key no row of a tenant opens, so nothing drops one.
		s.exec(t, "INSERT INTO rowseal_branch_keys (namespace, tenant, generation, key_id, sealed, created_ms) VALUES ('', 'acme', 2, '0123456789abcdef', 'v1:', 1)")
		_, err = migrations.Down(t.Context(), db, 0)
		fails(t, err, migrations.ErrBranchKeys, "there are branch keys: 1; no row under one opens without it")
		_, err = migrations.Discard(t.Context(), db, 0)
		fails(t, err, migrations.ErrBranchKeys, "empty rowseal_branch_keys yourself")
		s.exec(t, "UPDATE rowseal_branch_keys SET sealed = ''") // what was destroyed is lost already
		done, err := migrations.Discard(t.Context(), db, 0)
		ok(t, err)
		if len(done) != 1 || strings.Contains(s.shape(t), "rowseal_runs") {
			t.Errorf("%+v left %s", done, s.shape(t))
		}
	})
}

// A run that begins while Down waits for it.
func TestMigrationsKeepARunThatBegins(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		_, err := migrations.Up(t.Context(), db)
		ok(t, err)
		tx, err := s.plain.Begin()
		ok(t, err)
		defer tx.Rollback()
		_, err = tx.Exec(fmt.Sprintf(insertRun, "'patients: key'", "running"))
		ok(t, err)
		down := make(chan error, 1)
		go func() { _, err := migrations.Down(t.Context(), db, 0); down <- err }()
		waits := "SELECT count(*) FROM pg_locks WHERE relation = 'rowseal_runs'::regclass AND NOT granted"
		if kind == mariadb {
			waits = "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table%'"
		}
		for n := 0; n == 0; time.Sleep(5 * time.Millisecond) {
			select {
			case err := <-down:
				t.Fatalf("Down did not wait: %v", err)
			default:
				ok(t, s.plain.QueryRow(waits).Scan(&n))
			}
		}
		ok(t, tx.Commit())
		fails(t, <-down, migrations.ErrRuns, "1 of 1")
	}, postgres, mariadb)
}

func TestMigrationsTables(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		_, err := migrations.Up(t.Context(), db)
		ok(t, err)
		s.plain.SetMaxOpenConns(1)
		if isSQLite(kind) {
			s.exec(t, "PRAGMA foreign_keys = ON")
		}
		s.run(t, "'patients: key'", "running")
		if _, err := s.plain.Exec(strings.Replace(fmt.Sprintf(insertRun, "'patients: key'", "running"), "'r'", "'r2'", 1)); err == nil {
			t.Error("two active runs on one target")
		}
		for _, id := range []string{"'r2'", "'r3'", "'R'"} {
			s.exec(t, strings.Replace(fmt.Sprintf(insertRun, "NULL", "done"), "'r'", id, 1))
		}
		s.exec(t, "INSERT INTO rowseal_ranges (run_id, n, lo) VALUES ('r', 1, '[1]'), ('r', 2, NULL)")
		s.exec(t, "INSERT INTO rowseal_failures (run_id, row_hash, key_column, row_key, class, message, at_ms) VALUES ('r', '"+strings.Repeat("a", 64)+"', 'k', '[1]', 'poison', 'm', 1)")
		s.exec(t, "INSERT INTO rowseal_events (run_id, n, at_ms, what, detail) VALUES ('r', 1, 1, 'began', '')")
		if _, err := s.plain.Exec("INSERT INTO rowseal_ranges (run_id, n) VALUES ('nobody', 1)"); err == nil {
			t.Error("a range without a run")
		}
		s.exec(t, "DELETE FROM rowseal_runs WHERE id = 'r'")
		for _, table := range []string{"ranges", "failures", "events"} {
			var n int
			ok(t, s.plain.QueryRow("SELECT count(*) FROM rowseal_"+table).Scan(&n))
			if n != 0 {
				t.Errorf("%d %s outlive their run", n, table)
			}
		}
	})
}

func TestMigrationsOnAnyDB(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		// With the plugin, prepared statements, no transactions, a pool of one, and a logger to whom everything is slow.
		w := open(t, kind)
		pool, err := w.db.DB()
		ok(t, err)
		pool.SetMaxOpenConns(1)
		logged := &lockedBuffer{}
		db := w.db.Session(&gorm.Session{PrepareStmt: true, SkipDefaultTransaction: true, QueryFields: true,
			Logger: logger.New(log.New(logged, "", 0), logger.Config{LogLevel: logger.Info, SlowThreshold: 1})})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, act := range []struct {
			name string
			f    func(*gorm.DB) error
		}{
			{"up", func(db *gorm.DB) error { _, err := migrations.Up(ctx, db); return err }},
			{"status", func(db *gorm.DB) error { _, err := migrations.Status(ctx, db); return err }},
			{"down", func(db *gorm.DB) error { _, err := migrations.Down(ctx, db, 0); return err }},
			{"discard", func(db *gorm.DB) error { _, err := migrations.Discard(ctx, db, 0); return err }},
		} {
			ok(t, act.f(db))
			ok(t, db.Connection(act.f))
			err := db.Transaction(act.f)
			if err == nil || err.Error() != "migrations: "+act.name+": db is within a transaction; call it before the transaction begins" {
				t.Errorf("within a transaction: %v", err)
			}
			if err := act.f(db.Session(&gorm.Session{DryRun: true})); err == nil || !strings.Contains(err.Error(), "dry run") {
				t.Errorf("in a dry run: %v", err)
			}
		}
		if logged.String() != "" {
			t.Errorf("logged: %s", logged)
		}
	})
}

func TestMigrationsWaitAsLongAsTheContext(t *testing.T) {
	eachDriver(t, func(t *testing.T, kind string) {
		s := newShared(t, kind)
		db := s.open(t)
		holder, err := s.plain.Conn(t.Context())
		ok(t, err)
		defer holder.Close()
		hold, release := []string{"BEGIN IMMEDIATE"}, "ROLLBACK"
		switch {
		case kind == postgres:
			hold = []string{"BEGIN", "SELECT pg_advisory_xact_lock(8247341635019108)"}
		case isMySQL(kind):
			hold, release = []string{"DO GET_LOCK(CONCAT('rowseal_', SHA1(DATABASE())), 0)"}, "DO RELEASE_LOCK(CONCAT('rowseal_', SHA1(DATABASE())))"
		}
		for _, q := range hold {
			_, err := holder.ExecContext(t.Context(), q)
			ok(t, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err = migrations.Up(ctx, db)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 15*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		_, err = holder.ExecContext(t.Context(), release)
		ok(t, err)
		done, err := migrations.Up(t.Context(), db)
		ok(t, err)
		if len(done) == 0 {
			t.Error("nothing was applied")
		}
	})
}

// The search_path says where tables go, and later ones go to where the first are.
func TestMigrationsInASchema(t *testing.T) {
	s := newShared(t, postgres)
	s.exec(t, "CREATE SCHEMA app; CREATE SCHEMA \"Other one\"")
	ok(t, s.open(t).Connection(func(db *gorm.DB) error {
		do := func(path string, act func() ([]migrations.Version, error)) (n int) {
			t.Helper()
			ok(t, db.Exec("SET search_path TO "+path).Error)
			done, err := act()
			ok(t, err)
			var now string
			ok(t, db.Raw("SHOW search_path").Scan(&now).Error)
			if now != path {
				t.Errorf("search_path %s is now %s", path, now)
			}
			return len(done)
		}
		up := func() ([]migrations.Version, error) { return migrations.Up(t.Context(), db) }
		down := func() ([]migrations.Version, error) { return migrations.Down(t.Context(), db, 0) }
		if do("app, public", up) == 0 || do(`"Other one", app`, up) != 0 || do(`"Other one"`, up) == 0 {
			t.Errorf("%s", s.shape(t))
		}
		// What is missing goes to where the list is.
		s.exec(t, "DROP TABLE app.rowseal_runs, app.rowseal_ranges, app.rowseal_failures, app.rowseal_events, app.rowseal_index_keys, app.rowseal_branch_keys, app.rowseal_epochs; DELETE FROM app.rowseal_migrations")
		if do("public, app", up) == 0 {
			t.Error("nothing was applied")
		}
		var where string
		ok(t, db.Raw("SELECT string_agg(schemaname || ' ' || n, ', ' ORDER BY schemaname) FROM (SELECT schemaname, count(*) AS n FROM pg_tables WHERE tablename LIKE 'rowseal%' GROUP BY 1) x").Scan(&where).Error)
		if where != "Other one 8, app 8" {
			t.Errorf("tables are in %s", where)
		}
		if do(`public, "Other one"`, down) == 0 || do("public, app", down) == 0 {
			t.Errorf("%s", s.shape(t))
		}
		if shape := s.shape(t); shape != "" {
			t.Errorf("left: %s", shape)
		}
		return nil
	}))
}
