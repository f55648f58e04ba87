package migrations

// session.go owns the one connection that everything runs on, the lock, and how databases differ.

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
)

type session struct {
	conn    *sql.Conn
	dialect string
	known   []migration
	close   func()
}

func open(ctx context.Context, db *gorm.DB) (*session, error) {
	if db.Error != nil {
		return nil, db.Error
	}
	dialect := db.Dialector.Name()
	known, err := load(dialect)
	if err != nil {
		return nil, err
	}
	if db.DryRun {
		return nil, errors.New("db is a dry run, in which nothing runs; migrations.Files has the SQL")
	}
	s := &session{dialect: dialect, known: known}
	switch pool := db.Statement.ConnPool.(type) {
	case gorm.TxCommitter:
		// MySQL would commit it at the first CREATE TABLE, and elsewhere the lock would be held as long as it lasts.
		return nil, errors.New("db is within a transaction; call it before the transaction begins")
	case *sql.Conn:
		s.conn, s.close = pool, func() {}
		return s, nil
	}
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("reach the *sql.DB under the *gorm.DB: %w", err)
	}
	if s.conn, err = pool.Conn(ctx); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.close = func() { _ = s.conn.Close() }
	return s, nil
}

func (s *session) transactional() bool { return s.dialect != "mysql" }

// alone runs f while nobody else does, in a transaction of its own.
func (s *session) alone(ctx context.Context, f func() error) (err error) {
	if s.dialect == "mysql" {
		if err := s.getLock(ctx); err != nil {
			return err
		}
		defer func() {
			if failed := s.cleanUp(ctx, "DO RELEASE_LOCK("+mysqlLock+")"); err == nil && failed != nil {
				err = fmt.Errorf("release the lock: %w", failed)
			}
		}()
	}
	begin := map[string]string{
		// At a higher level it would not see what others did while it waited for the lock.
		"postgres": "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
		// The lock at once: of two that read first, only one can write.
		"sqlite": "BEGIN IMMEDIATE",
		// The first DDL commits; the rest is for a connection without autocommit.
		"mysql": "BEGIN",
	}[s.dialect]
	if err := s.patiently(ctx, func() error { return s.exec(ctx, begin) }); err != nil {
		if ctx.Err() != nil {
			_ = s.cleanUp(ctx, "ROLLBACK") // it may have begun all the same
		}
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.cleanUp(ctx, "ROLLBACK")
		}
	}()
	if s.dialect == "postgres" {
		// The transaction's lock, not the session's: a pooler may give the session away.
		if err := s.exec(ctx, "SELECT pg_advisory_xact_lock(8247341635019108)"); err != nil {
			return fmt.Errorf("wait for the lock: %w", err)
		}
		// A later table goes to where the first ones are, whatever has come before that in the search_path since.
		if err := s.exec(ctx, `SELECT set_config('search_path', n.nspname, true) FROM (SELECT quote_ident(nspname) AS nspname FROM pg_namespace
			WHERE oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('rowseal_migrations'))) n`); err != nil {
			return fmt.Errorf("find the schema: %w", err)
		}
	}
	if err := f(); err != nil {
		return err
	}
	if err := s.patiently(ctx, func() error { return s.exec(ctx, "COMMIT") }); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// mysqlLock is a name for one database: the lock is the server's.
const mysqlLock = "CONCAT('rowseal_', SHA1(DATABASE()))"

func (s *session) getLock(ctx context.Context) error {
	for {
		var got sql.NullInt64
		// In slices: a server may not notice for as long that nobody waits any more.
		if err := s.conn.QueryRowContext(ctx, "SELECT GET_LOCK("+mysqlLock+", 5)").Scan(&got); err != nil {
			return fmt.Errorf("wait for the lock: %w", err)
		}
		switch {
		case got.Int64 == 1:
			return nil
		case !got.Valid:
			return errors.New("wait for the lock: GET_LOCK gave NULL; is the connection without a database?")
		}
	}
}

// patiently repeats what SQLite refuses while another connection writes: how long it waits by itself is up to the DSN, and often not at all.
func (s *session) patiently(ctx context.Context, f func() error) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := f()
		if s.dialect != "sqlite" || err == nil || !strings.Contains(err.Error(), "locked") {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

func (s *session) exec(ctx context.Context, statement string) error {
	_, err := s.conn.ExecContext(ctx, statement)
	return err
}

// cleanUp leaves the connection as it was, or ends it, also when ctx has ended: its next user would pay for it.
func (s *session) cleanUp(ctx context.Context, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.exec(ctx, statement)
	if err != nil {
		_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

func (s *session) run(ctx context.Context, m *migration, statements []string) error {
	for i, statement := range statements {
		if err := s.exec(ctx, statement); err != nil {
			return fmt.Errorf("version %d (%s), statement %d of %d, %s: %w", m.number, m.name, i+1, len(statements), title(statement), err)
		}
	}
	return nil
}

// standing are those of our tables that the database has.
func (s *session) standing(ctx context.Context) (names []string, err error) {
	list := "'" + strings.Join(tables, "', '") + "'"
	return names, s.query(ctx, map[string]string{
		"postgres": "SELECT name FROM unnest(ARRAY[" + list + "]) AS name WHERE to_regclass(name) IS NOT NULL",
		"mysql":    "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN (" + list + ")",
		"sqlite":   "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN (" + list + ")",
	}[s.dialect], func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
}

// recorded are the versions that the database has.
func (s *session) recorded(ctx context.Context) (have map[int]Version, err error) {
	err = s.patiently(ctx, func() error {
		have = map[int]Version{}
		names, err := s.standing(ctx)
		if err != nil || !slices.Contains(names, "rowseal_migrations") {
			return err
		}
		return s.query(ctx, "SELECT version, name, applied_ms FROM rowseal_migrations", func(scan func(...any) error) error {
			var v Version
			var ms int64
			err := scan(&v.Number, &v.Name, &ms)
			v.Applied, v.Newer = time.UnixMilli(ms), v.Number > len(s.known)
			have[v.Number] = v
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read what is applied: %w", err)
	}
	return have, nil
}

func (s *session) query(ctx context.Context, query string, each func(scan func(...any) error) error) error {
	rows, err := s.conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// guard refuses while the ledger holds runs, or there are keys that rows or indexes need, and sees to it that none comes before it is dropped.
func (s *session) guard(ctx context.Context, discard bool) (unlock func() error, err error) {
	unlock = func() error { return nil }
	names, err := s.standing(ctx)
	if err != nil || !slices.Contains(names, "rowseal_runs") {
		return unlock, err
	}
	switch {
	case s.dialect == "postgres":
		err = s.exec(ctx, "LOCK TABLE rowseal_runs IN ACCESS EXCLUSIVE MODE")
		for _, table := range []string{"rowseal_index_keys", "rowseal_branch_keys"} {
			if err == nil && slices.Contains(names, table) {
				err = s.exec(ctx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE")
			}
		}
	case s.dialect == "mysql" && len(names) == len(tables):
		// With some of them gone nothing has run since, and what is not there could not be dropped under this lock, IF EXISTS or not.
		err = s.exec(ctx, "LOCK TABLES "+strings.Join(tables, " WRITE, ")+" WRITE")
		unlock = func() error { return s.cleanUp(ctx, "UNLOCK TABLES") }
	}
	if err != nil {
		return unlock, fmt.Errorf("lock the ledger: %w", err)
	}
	var runs, active, keys, branches int
	err = s.conn.QueryRowContext(ctx, "SELECT count(*), count(active) FROM rowseal_runs").Scan(&runs, &active)
	if err == nil && slices.Contains(names, "rowseal_index_keys") {
		err = s.conn.QueryRowContext(ctx, "SELECT count(*) FROM rowseal_index_keys").Scan(&keys)
	}
	if err == nil && slices.Contains(names, "rowseal_branch_keys") {
		err = s.conn.QueryRowContext(ctx, "SELECT count(*) FROM rowseal_branch_keys WHERE sealed <> ''").Scan(&branches)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("look for runs: %w", err)
	case branches > 0:
		err = fmt.Errorf("%w: %d; no row under one opens without it; where all rows have moved to other keys, empty rowseal_branch_keys yourself", ErrBranchKeys, branches)
	case active > 0:
		err = fmt.Errorf("%w: %d of %d have not ended; cancel them first", ErrRuns, active, runs)
	case runs > 0 && !discard:
		err = fmt.Errorf("%w: all %d have ended; migrations.Discard loses them", ErrRuns, runs)
	case keys > 0 && !discard:
		err = fmt.Errorf("%w: %d; no index finds anything without its key; migrations.Discard loses them", ErrIndexKeys, keys)
	}
	if err != nil {
		return unlock, errors.Join(err, unlock())
	}
	return unlock, nil
}
