// index_count.go owns the statements by which a column is counted. Their results are numbers: no value of the column leaves the database.

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/cmd/rowseal/internal/advise"
	"github.com/rowseal/rowseal/field"
)

// parseExpression reads an expression as the tag of a field has it, as far as databases can do the same.
func parseExpression(text string) (field.Expression, error) {
	e, err := field.ParseExpression(text)
	switch {
	case err != nil:
		return e, err
	case text == "":
		return e, errors.New("is empty; leave it out where nothing is done")
	case e.Own() != "":
		return e, fmt.Errorf("%q: no database knows %s; have a program put what it gives into a column of a copy of the table, and name that one", text, e.Own())
	case slices.Contains(steps(e), "fold"):
		return e, fmt.Errorf("%q: no database folds as fold does; lower in its place is near enough for an estimate", text)
	}
	return e, nil
}

// steps are those of an expression, in the order in which they are done.
func steps(e field.Expression) []string {
	if e.String() == "" {
		return nil
	}
	return strings.Split(e.String(), "+")
}

// dialect is what databases write differently. Every %s is the quoted column, or the text so far.
type dialect struct {
	// sealed finds what is sealed for certain, or an envelope; in bytes, high finds what a later format may have sealed: any first byte that UTF-8 never has.
	sealedBytes, sealedText, high string

	text  string // the column as text
	steps map[string]string
	part  map[string]string // first and last, with the number behind

	// key makes groups of texts that are the same byte for byte, which is how they are hashed. A collation would put others together.
	key, keyBytes string
}

// What trim takes away is, of what Go counts as white space, that which is ASCII.
var dialects = map[string]dialect{
	"postgres": {
		sealedBytes: `octet_length(%[1]s) >= 32 AND substring(%[1]s from 1 for 2) = decode('f901', 'hex')`,
		high:        `octet_length(%[1]s) >= 32 AND substring(%[1]s from 1 for 1) >= decode('f8', 'hex')`,
		sealedText:  `octet_length(%[1]s::text) >= 47 AND (left(%[1]s::text, 4) = 'rs1:' OR %[1]s::text LIKE 'v_:AQ%%' OR %[1]s::text LIKE 'v__:AQ%%')`,
		text:        `%s::text`,
		key:         `%s COLLATE "C"`,
		keyBytes:    `%s`,
		steps: map[string]string{
			"lower":  `lower(%s)`,
			"trim":   `btrim(%s, E' \t\n\x0b\f\r')`,
			"digits": `regexp_replace(%s, '[^0-9]', '', 'g')`,
			"domain": `lower(substring(%s from '[^@]*$'))`,
		},
		part: map[string]string{"first": `left(%s, %s)`, "last": `right(%s, %s)`},
	},
	"mysql": {
		sealedBytes: `OCTET_LENGTH(%[1]s) >= 32 AND HEX(LEFT(%[1]s, 2)) = 'F901'`,
		high:        `OCTET_LENGTH(%[1]s) >= 32 AND HEX(LEFT(%[1]s, 1)) >= 'F8'`,
		sealedText:  `OCTET_LENGTH(%[1]s) >= 47 AND (LEFT(%[1]s, 4) = 'rs1:' OR %[1]s LIKE 'v_:AQ%%' OR %[1]s LIKE 'v__:AQ%%')`,
		text:        `CONVERT(%s USING utf8mb4)`,
		// A hash, since values are grouped by their first max_sort_length bytes alone, 1024 by default.
		key:      `UNHEX(SHA2(%s, 256))`,
		keyBytes: `UNHEX(SHA2(%s, 256))`,
		steps: map[string]string{
			"lower":  `LOWER(%s)`,
			"trim":   `REGEXP_REPLACE(%s, '^[[:space:]]+|[[:space:]]+$', '')`,
			"digits": `REGEXP_REPLACE(%s, '[^0-9]', '')`,
			"domain": `LOWER(SUBSTRING_INDEX(%s, '@', -1))`,
		},
		part: map[string]string{"first": `LEFT(%s, %s)`, "last": `RIGHT(%s, %s)`},
	},
	"sqlite": {
		// A column takes values of any type.
		sealedBytes: `typeof(%[1]s) = 'blob' AND length(%[1]s) >= 32 AND substr(%[1]s, 1, 2) = x'f901'`,
		high:        `typeof(%[1]s) = 'blob' AND length(%[1]s) >= 32 AND substr(%[1]s, 1, 1) >= x'f8'`,
		sealedText:  `typeof(%[1]s) = 'text' AND length(%[1]s) >= 47 AND (substr(%[1]s, 1, 4) = 'rs1:' OR %[1]s LIKE 'v_:AQ%%' OR %[1]s LIKE 'v__:AQ%%')`,
		text:        `CAST(%s AS TEXT)`,
		key:         `%s COLLATE BINARY`,
		keyBytes:    `%s COLLATE BINARY`,
		steps: map[string]string{
			"lower": `lower(%s)`, // of ASCII
			"trim":  `trim(%s, char(32, 9, 10, 11, 12, 13))`,
			// What rtrim leaves ends with the last @: it takes away every character but that.
			"domain": `lower(substr(%[1]s, length(rtrim(%[1]s, replace(%[1]s, '@', ''))) + 1))`,
		},
		part: map[string]string{"first": `substr(%s, 1, %s)`, "last": `substr(%s, -%s)`},
	},
}

// group is by what values are counted.
func (d dialect) group(name, column string, binary bool, e field.Expression) (string, error) {
	switch {
	case binary && e.String() != "":
		return "", errors.New("it holds bytes: an expression is of texts, and in the column of an index it is done already; leave --expression out")
	case binary || e.String() == "" && name == "sqlite":
		return fmt.Sprintf(d.keyBytes, column), nil
	}
	text := fmt.Sprintf(d.text, column)
	for _, step := range steps(e) {
		form, known := d.steps[step]
		if kind := strings.TrimRight(step, "0123456789"); d.part[kind] != "" {
			text = fmt.Sprintf(d.part[kind], text, strings.TrimPrefix(step, kind))
			continue
		}
		if !known {
			return "", fmt.Errorf("SQLite has no function for %s; have a program put what it gives into a column of a copy of the table, and name that one", step)
		}
		text = fmt.Sprintf(form, text)
	}
	return fmt.Sprintf(d.key, text), nil
}

// counted is a column, in numbers.
type counted struct {
	nulls   int64
	classes []advise.Class
}

// querier is a connection, or a transaction that may not write.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// countColumn counts the values of a column, as the expression leaves them, by how often they occur. The database itself gives up after the timeout.
func countColumn(ctx context.Context, db *gorm.DB, table, column string, e field.Expression, timeout time.Duration) (n counted, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if err != nil && (errors.Is(ctx.Err(), context.DeadlineExceeded) || time.Since(start) >= timeout) {
			err = fmt.Errorf("not counted within %v; --timeout gives it longer, and a replica is the place for it (%w)", timeout, err)
		}
	}()
	pool, err := db.DB()
	if err != nil {
		return n, err
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return n, err
	}
	defer conn.Close()
	name, quotedTable, quoted := db.Name(), db.Statement.Quote(clause.Table{Name: table}), db.Statement.Quote(clause.Column{Name: column})
	d, known := dialects[name]
	if !known {
		return n, fmt.Errorf("databases of the kind %s are not counted", name)
	}
	declared, err := probe(ctx, conn, quotedTable, quoted)
	if err != nil {
		return n, err
	}
	q, done, err := readOnly(ctx, conn, name, timeout)
	if err != nil {
		return n, err
	}
	defer done()

	binary := strings.Contains(declared, "BLOB") || strings.Contains(declared, "BINARY") || declared == "BYTEA"
	sealed, high, blobs := d.sealedText, `1 = 0`, `1 = 0`
	switch {
	case name == "sqlite":
		sealed, high, blobs = "("+d.sealedBytes+") OR ("+d.sealedText+")", d.high, `typeof(%[1]s) = 'blob'`
	case binary:
		sealed, high = d.sealedBytes, d.high
	}
	count := func(condition string) string {
		if strings.Contains(condition, "%[1]s") {
			condition = fmt.Sprintf(condition, quoted)
		}
		return "count(CASE WHEN " + condition + " THEN 1 END)"
	}
	var rows, values, nSealed, nHigh, nBlobs int64
	err = q.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*), count(%s), %s, %s, %s FROM %s", quoted, count(sealed), count(high), count(blobs), quotedTable)).Scan(&rows, &values, &nSealed, &nHigh, &nBlobs)
	if err != nil {
		return n, withoutValues(err)
	}
	switch {
	case values == 0:
		return n, fmt.Errorf("it has no values (the table has %d rows)", rows)
	// Random bytes begin like a sealed value in one row of 65,536, and with a byte that UTF-8 never has in one of 32.
	case nSealed > values/1024, nHigh == values:
		return n, errors.New("it holds sealed values or keys, which all differ, so there is nothing to count. Name the column of its index, " +
			"such as --column " + column + "_bidx, or ask before it is sealed")
	}
	if name == "postgres" && slices.ContainsFunc(steps(e), func(step string) bool { return step == "lower" || step == "domain" }) {
		// The collation "C", which many databases have, knows letters of ASCII alone. Servers may be built without this one, and it is of UTF-8.
		var unicode bool
		if err := q.QueryRowContext(ctx, `SELECT getdatabaseencoding() = 'UTF8' AND EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu')`).Scan(&unicode); err != nil {
			return n, err
		}
		if unicode {
			d.text = `(` + d.text + ` COLLATE pg_catalog."und-x-icu")`
		}
	}
	group, err := d.group(name, quoted, binary || nBlobs > 0, e)
	if err != nil {
		return n, err
	}
	n.nulls = rows - values
	n.classes, err = classes(ctx, q, fmt.Sprintf("SELECT n, count(*) FROM (SELECT count(*) AS n FROM %s WHERE %s IS NOT NULL GROUP BY %s) AS counts GROUP BY n ORDER BY n", quotedTable, quoted, group))
	return n, withoutValues(err)
}

// withoutValues keeps the number of an error and drops the text of a server that has looked at values: it may quote one.
func withoutValues(err error) error {
	if state, is := errors.AsType[interface {
		error
		SQLState() string
	}](err); is {
		if state.SQLState() == "42501" {
			return errors.New("a row-level security policy may hide rows from this user (SQLSTATE 42501); ask as the table's owner, or with BYPASSRLS")
		}
		return fmt.Errorf("the server could not count it (SQLSTATE %s; its log says why)", state.SQLState())
	}
	if e, is := errors.AsType[*mysqldriver.MySQLError](err); is {
		return fmt.Errorf("the server could not count it (error %d)", e.Number)
	}
	return err
}

func classes(ctx context.Context, q querier, query string) (all []advise.Class, err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c advise.Class
		if err := rows.Scan(&c.Count, &c.Values); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// probe gives the column's type, and says which of table and column is not there. It reads no row.
func probe(ctx context.Context, conn *sql.Conn, table, column string) (string, error) {
	types := func(selected string) ([]*sql.ColumnType, error) {
		rows, err := conn.QueryContext(ctx, "SELECT "+selected+" FROM "+table+" WHERE 1 = 0")
		if err != nil {
			return nil, err
		}
		found, err := rows.ColumnTypes()
		return found, errors.Join(err, rows.Close(), rows.Err())
	}
	found, err := types(column)
	if err == nil {
		return strings.ToUpper(found[0].DatabaseTypeName()), nil
	}
	all, tableErr := types("*")
	if tableErr != nil {
		return "", tableErr
	}
	var names []string
	for _, t := range all {
		names = append(names, t.Name())
	}
	slices.Sort(names)
	return "", fmt.Errorf("%w; the table has %s", err, strings.Join(names, ", "))
}

// readOnly sees to it that nothing is written, and that the database itself gives up in time: a connection that is gone does not end the work on every server.
func readOnly(ctx context.Context, conn *sql.Conn, name string, timeout time.Duration) (querier, func(), error) {
	ms := max(timeout.Milliseconds(), 1)
	set := func(x interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	}, statements ...string) error {
		for _, s := range statements {
			if _, err := x.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	switch name {
	case "sqlite":
		// The driver's transactions would take the lock for writing.
		return conn, func() {}, set(conn, "PRAGMA query_only = ON")
	case "mysql":
		var version string
		if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return nil, nil, err
		}
		limit := fmt.Sprintf("SET SESSION max_execution_time = %d", ms)
		if strings.Contains(version, "MariaDB") {
			limit = fmt.Sprintf("SET SESSION max_statement_time = %g", float64(ms)/1000)
		}
		if err := set(conn, limit); err != nil {
			return nil, nil, err
		}
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = tx.Rollback() } // there is nothing to lose
	if name == "postgres" {
		// With policies on, rows may be hidden, and the counts would not be those of the table: that is an error instead.
		if err := set(tx, fmt.Sprintf("SET LOCAL statement_timeout = %d", ms), "SET LOCAL row_security = off"); err != nil {
			done()
			return nil, nil, err
		}
	}
	return tx, done, nil
}
