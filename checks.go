// checks.go owns the database's own guard, as far as GORM goes: the CHECKs that AutoMigrate puts on, where it leaves them out, and what
// becomes of their errors. What they say is in internal/row/check.go.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

// Check is the CHECK constraint on one sealed column or key column; see [Checks].
type Check struct {
	Table, Column, Name string

	// Constraint is its text in a CREATE TABLE: CONSTRAINT … CHECK (…).
	Constraint string

	// Alter is the statements that put it on a table that exists, in their order. Every row must pass, and on a large table the last
	// one takes its time: Postgres goes on writing meanwhile, MySQL and MariaDB copy the table. It is empty on SQLite, which gives a
	// table no CHECK after it was made.
	Alter []string
}

// Checks gives the CHECK constraints of a model's table in the words of db's database: NULL, or what begins as a sealed field or an
// envelope does. AutoMigrate puts them on tables that it makes and on tables without rows; Checks is for migrations written by hand, and
// for tables that hold rows. db.Table("other") is for another table of the same model, which AutoMigrate leaves without them. db needs no
// plugin.
func Checks(db *gorm.DB, model any) ([]Check, error) {
	stmt := &gorm.Statement{DB: db}
	if err := stmt.ParseWithSpecialTableName(model, db.Statement.Table); err != nil {
		return nil, fmt.Errorf("rowseal: Checks: %T: %w: %w", model, ErrModel, err)
	}
	s, plan := stmt.Schema, row.PlanOf(stmt.Schema)
	if plan == nil {
		return nil, fmt.Errorf("rowseal: Checks: model %s: %w: it has no key column", s, ErrModel)
	}
	if plan.Err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, plan.Err)
	}
	dialect, table := db.Dialector.Name(), stmt.Quote(s.Table)
	if db.Statement.TableExpr != nil {
		table = db.Statement.TableExpr.SQL
	}
	constraints, known := plan.Checks(dialect, s.Table, quoting(stmt))
	if !known {
		return nil, fmt.Errorf("rowseal: Checks: model %s: %w: no CHECK is known for the database %q", s, ErrUnsupported, dialect)
	}
	var checks []Check
	for _, c := range constraints {
		check := Check{Table: s.Table, Column: c.Column.DBName, Name: c.Name, Constraint: clauseOf(stmt, c)}
		add := "ALTER TABLE " + table + " ADD " + check.Constraint
		switch dialect {
		case "postgres":
			// Two steps: the first locks the table for a moment, the second reads it all and stops nobody.
			check.Alter = []string{add + " NOT VALID", "ALTER TABLE " + table + " VALIDATE CONSTRAINT " + stmt.Quote(c.Name)}
		case "mysql":
			// There is no other way; with the words, the statement is not what GORM's migrator writes (leaveOut).
			check.Alter = []string{add + ", ALGORITHM=COPY"}
		}
		checks = append(checks, check)
	}
	return checks, nil
}

func quoting(stmt *gorm.Statement) func(string) string {
	return func(name string) string { return stmt.Quote(name) }
}

// clauseOf is the constraint as GORM's migrator writes it.
func clauseOf(stmt *gorm.Statement, c row.Check) string {
	return "CONSTRAINT " + stmt.Quote(c.Name) + " CHECK (" + c.Expr + ")"
}

// check is one constraint of a registered model.
type check struct {
	row.Check
	model  *row.Model
	clause string
	table  string // quoted
}

// putChecks makes the constraints known, and puts them into the schemas, where GORM's migrator looks for them.
func (p *Plugin) putChecks(db *gorm.DB, models map[reflect.Type]*row.Model) error {
	stmt := &gorm.Statement{DB: db}
	var errs []error
	for _, m := range models {
		s := m.Plan.Schema
		constraints, _ := m.Plan.Checks(db.Dialector.Name(), s.Table, quoting(stmt))
		for _, c := range constraints {
			p.checks = append(p.checks, &check{c, m, clauseOf(stmt, c), stmt.Quote(s.Table)})
			if c.Column.IgnoreMigration {
				continue // AutoMigrate does not make the column
			}
			want, have := c.Name+","+c.Expr, c.Column.TagSettings["CHECK"]
			if p.config.NoChecks {
				want = ""
			}
			// A setting of the application's was refused when the model was parsed, so this is another plugin's. GORM's migrator
			// would put it on whichever *gorm.DB it serves.
			if have != "" && have != want {
				errs = append(errs, fmt.Errorf("rowseal: model %s: %w: another *gorm.DB with another database, or another Config.NoChecks, uses the same gorm.Config; give each its own", s, ErrModel))
				break
			}
			if have != want {
				c.Column.TagSettings["CHECK"] = want
			}
		}
	}
	return errors.Join(errs...)
}

const alterTable = "ALTER TABLE "

// adds reports that a text is the statement of GORM's migrator that puts the constraint on a table that exists.
func (c *check) adds(text string) bool { return text == alterTable+c.table+" ADD "+c.clause }

// stands reports that a statement of GORM's migrator, which failed, is one that would put on a CHECK that is there: another process, which
// migrates the same table, was faster.
func (l *look) stands(text string) bool {
	if !strings.HasPrefix(text, alterTable) {
		return false
	}
	i := slices.IndexFunc(l.plugin.checks, func(c *check) bool { return c.adds(text) })
	if i < 0 {
		return false
	}
	c := l.plugin.checks[i]
	db := l.stmt.DB.Session(&gorm.Session{NewDB: true})
	db.Error = nil
	if !db.Migrator().HasConstraint(reflect.New(c.model.Plan.Schema.ModelType).Interface(), c.Name) {
		return false
	}
	l.say("put on by another process meanwhile: " + c.Name)
	return true
}

// leaveOut reports whether a statement of GORM's migrator is one that would put a CHECK on a table with rows: they may not pass it, and
// to read them all locks the table. Such a statement does not run. It is known by its text, which no other has.
func (l *look) leaveOut(ctx context.Context, text string) (bool, error) {
	if l.plugin.config.NoChecks {
		return false, nil
	}
	_, tx := l.ConnPool.(gorm.TxCommitter)
	tx = tx && l.stmt.DB.Dialector.Name() == "sqlite" && reflect.TypeOf(l.ConnPool).Comparable()
	if tx {
		if again, ok := l.plugin.remakes.Load(l.ConnPool); ok && l.passOver(again.(*remake), text) {
			return true, nil
		}
	}
	switch {
	case strings.HasPrefix(text, alterTable):
		for _, c := range l.plugin.checks {
			if !c.adds(text) {
				continue
			}
			rows, err := l.asks(ctx, "SELECT 1 FROM "+c.table+" LIMIT 1")
			if rows {
				l.warn(ctx, c, "the table holds rows; when they all pass, add them with the statements that rowseal.Checks gives")
			}
			return rows, err
		}
	case tx && strings.HasPrefix(text, "CREATE TABLE "):
		for _, c := range l.plugin.checks {
			s := c.Column.Schema
			table := s.Table[strings.LastIndexByte(s.Table, '.')+1:]
			if !strings.Contains(text, c.clause) || !strings.HasPrefix(text, "CREATE TABLE `"+table+remade+"` ") {
				continue
			}
			// A table that is made anew for another reason keeps the constraints that it has.
			var made string
			if err := l.ConnPool.QueryRowContext(ctx, ddlOfTable, "table", table, table).Scan(&made); err != nil {
				return false, fmt.Errorf("rowseal: put CHECKs on: %w", err)
			}
			if names(made, c.Name) {
				continue
			}
			reason, err := l.keepsAsItIs(ctx, s, table)
			if reason == "" || err != nil {
				return false, err
			}
			l.warn(ctx, c, reason+", and SQLite gives a table no CHECK after it was made; rowseal.Checks gives their text, for a new table that takes the rows over")
			l.plugin.remakes.Store(l.ConnPool, &remake{[]string{
				"INSERT INTO `" + table + remade + "`(",
				"DROP TABLE `" + table + "`",
				"ALTER TABLE `" + table + remade + "` RENAME TO `" + table + "`",
			}})
			return true, nil
		}
	}
	return false, nil
}

// remade is what GORM's SQLite migrator puts behind a table's name while it makes the table anew.
const remade = "__temp"

// remake is the rest of such a making, which is passed over: four statements in one transaction, of which the first did not run. If
// another comes, it runs, and so does what follows: the copying, which comes before the dropping, fails without the new table.
type remake struct{ rest []string }

func (l *look) passOver(r *remake, text string) bool {
	if text != r.rest[0] && !(strings.HasSuffix(r.rest[0], "(") && strings.HasPrefix(text, r.rest[0])) {
		l.plugin.remakes.Delete(l.ConnPool)
		return false
	}
	if r.rest = r.rest[1:]; len(r.rest) == 0 {
		l.plugin.remakes.Delete(l.ConnPool)
	}
	l.say("left out by rowseal")
	return true
}

// keepsAsItIs gives a reason not to make a SQLite table anew. That would lose whatever hangs at it and is not in the model.
func (l *look) keepsAsItIs(ctx context.Context, s *schema.Schema, table string) (reason string, err error) {
	known := []string{"''"}
	for _, index := range s.ParseIndexes() {
		known = append(known, literal(index.Name))
	}
	name := literal(table)
	questions := []struct{ query, reason string }{
		{"SELECT 1 FROM `" + table + "` LIMIT 1", "the table holds rows"},
		{"SELECT 1 FROM sqlite_master WHERE type IN ('view', 'trigger') AND instr(lower(sql), lower(" + name + ")) LIMIT 1", "a view or trigger names the table"},
		{"SELECT 1 FROM sqlite_master WHERE type = 'index' AND tbl_name = " + name + " AND sql IS NOT NULL AND name NOT IN (" + strings.Join(known, ", ") + ") LIMIT 1", "the table has an index that is not the model's"},
	}
	counts, err := l.asks(ctx, "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
	if err != nil {
		return "", err
	}
	if counts {
		questions = append(questions, struct{ query, reason string }{
			"SELECT 1 FROM sqlite_sequence WHERE name = " + name + " AND seq > 0", "the table has held rows, whose ids would be given again",
		})
	}
	for _, q := range questions {
		if yes, err := l.asks(ctx, q.query); yes || err != nil {
			return q.reason, err
		}
	}
	return "", nil
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// asks reports whether a query has a row.
func (l *look) asks(ctx context.Context, query string) (bool, error) {
	rows, err := l.ConnPool.QueryContext(ctx, query)
	if err != nil {
		return false, fmt.Errorf("rowseal: put CHECKs on: %w", err)
	}
	defer rows.Close()
	yes := rows.Next()
	return yes, errors.Join(rows.Err(), rows.Close())
}

// rehearse is for AutoMigrate in a dry run, which then shows what a real one does.
func (l *look) rehearse(db *gorm.DB) {
	text := db.Statement.SQL.String()
	if text == ddlOfTable && db.Statement.Dest == nil && db.Dialector.Name() == "sqlite" {
		// GORM's SQLite migrator reads this before it makes a table anew, and panics on the row that a dry run does not give it.
		db.Statement.Dest = l.ConnPool.QueryRowContext(db.Statement.Context, text, db.Statement.Vars...)
		return
	}
	if l.raw && !l.result {
		_, err := l.leaveOut(db.Statement.Context, text)
		_ = db.AddError(err)
	}
}

const ddlOfTable = "SELECT sql FROM sqlite_master WHERE type = ? AND tbl_name = ? AND name = ?"

// warn says once for each table why it has no CHECKs.
func (l *look) warn(ctx context.Context, c *check, reason string) {
	l.say("left out by rowseal: " + c.Name)
	s := c.model.Plan.Schema
	if _, said := l.plugin.warned.LoadOrStore(s.Table, true); !said {
		l.stmt.DB.Logger.Warn(ctx, "rowseal: model %s: table %s stays without CHECKs that it lacks, as %s: %s", s.Name, s.Table, c.Name, reason)
	}
}

// say puts a comment in place of a statement that did not run, for GORM's log.
func (l *look) say(comment string) {
	l.stmt.SQL.Reset()
	_, _ = l.stmt.WriteString("/* " + comment + " */")
	l.stmt.Vars = nil
}

// checked turns the failure of one of our CHECKs into an error of ours. The driver's own is not wrapped: that of Postgres carries the
// whole row, plaintext included, to whoever prints more of it than its text. No driver is known here, so the constraint is known by its
// name, which stands in every database's message.
func (l *look) checked(text string, err error) error {
	if err == nil || errors.Is(err, ErrPlaintext) || errors.Is(err, ErrKeyColumn) {
		return err
	}
	message := err.Error()
	if !strings.Contains(message, row.CheckPrefix) || isDDL(text) || !violates(err) {
		return err
	}
	own := l.plugin.typed(l.stmt)
	var failed *check
	for _, c := range l.plugin.checks {
		// Tables of one name in several schemas have constraints of one name.
		if names(message, c.Name) && (failed == nil || failed.Name == c.Name && c.model == own) {
			failed = c
		}
	}
	if failed != nil {
		kind, advice := ErrPlaintext, "write it through the model"
		if failed.Key {
			kind, advice = ErrKeyColumn, "create rows from structs of the model"
		}
		return fmt.Errorf("rowseal: write %s, column %s: %w: %w %s; %s", failed.model.Plan.Schema.Name, failed.Column.DBName, kind, gorm.ErrCheckConstraintViolated, failed.Name, advice)
	}
	// A table that was given its constraints by hand, under a name that is no model's.
	if name := wordAt(message, strings.Index(message, row.CheckPrefix)); strings.Contains(name, "__") {
		return fmt.Errorf("rowseal: write: %w: %w %s; write it through the model", ErrPlaintext, gorm.ErrCheckConstraintViolated, name)
	}
	return err
}

// violates reports an error of a CHECK: by Postgres' code, whose messages come in many languages, else by the word that others use.
func violates(err error) bool {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState() == "23514"
	}
	return strings.Contains(strings.ToLower(err.Error()), "constraint")
}

// names reports whether a message holds a name, and not a longer one that begins alike.
func names(message, name string) bool {
	for i := 0; ; i++ {
		at := strings.Index(message[i:], name)
		if at < 0 {
			return false
		}
		if i += at; wordAt(message, i) == name {
			return true
		}
	}
}

// wordAt is the word of letters, digits and underscores that begins at i.
func wordAt(s string, i int) string {
	end := i
	for end < len(s) && (s[end] == '_' || '0' <= s[end] && s[end] <= '9' || 'a' <= s[end]|0x20 && s[end]|0x20 <= 'z') {
		end++
	}
	return s[i:end]
}

// isDDL reports a statement that makes or changes a table: its error holds no row, and says what is to be done about it.
func isDDL(text string) bool {
	text = strings.TrimSpace(text)
	return slices.ContainsFunc([]string{"CREATE ", "ALTER ", "DROP "}, func(word string) bool {
		return len(text) >= len(word) && strings.EqualFold(text[:len(word)], word)
	})
}
