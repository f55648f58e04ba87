// mysql.go owns what MySQL and MariaDB do otherwise, where a row's key could be lost by it:
//
//   - Text compares without regard to case, accents and trailing spaces. Keys, tokens and primary keys are compared as bytes.
//   - A transaction reads as of its first read, and writes what is there now. Where a write found no row, the row is read locked.
//   - Rows affected are those that changed, unless the connection asks for those that were found (clientFoundRows).

package rowseal

import (
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
)

func isMySQL(db *gorm.DB) bool { return db.Name() == "mysql" }

// exact is a column, given quoted, as it is compared character for character, whatever its character set.
func exact(db *gorm.DB, quoted string) string {
	if isMySQL(db) {
		return "CAST(CONVERT(" + quoted + " USING utf8mb4) AS BINARY)"
	}
	return quoted
}

// locked makes a SELECT one that reads what is there now. The UPDATE that found no row holds the row's lock already.
func locked(db *gorm.DB, query string) string {
	if isMySQL(db) {
		return query + " FOR UPDATE"
	}
	return query
}

// identify is the condition that finds the row in v and no other. It keeps the comparison that an index serves.
func identify(stmt *gorm.Statement, m *row.Model, v reflect.Value) (where []string, args []any) {
	for _, f := range m.Plan.Schema.PrimaryFields {
		value, _ := f.ValueOf(stmt.Context, v)
		quoted := stmt.Quote(f.DBName)
		where, args = append(where, quoted+" = ?"), append(args, value)
		if isMySQL(stmt.DB) && row.Literal(f) {
			where, args = append(where, exact(stmt.DB, quoted)+" = ?"), append(args, value)
		}
	}
	return where, args
}

// found counts the row where an update of a whole row met it and had nothing to change. GORM's Save would take "no row changed" for
// "no row", and insert it.
func (c *change) found(db *gorm.DB) error {
	stmt := db.Statement
	where, ok := stmt.Clauses["WHERE"].Expression.(clause.Where)
	if !isMySQL(db) || !slices.Equal(stmt.Selects, []string{"*"}) || c.id == "" || !ok {
		return nil
	}
	tx := inside(db).Table(stmt.Table)
	tx.Statement.TableExpr = stmt.TableExpr
	var one []int
	err := tx.Select("1").Clauses(where, clause.Locking{Strength: "UPDATE"}).Limit(1).Scan(&one).Error
	if err != nil {
		return fmt.Errorf("rowseal: update %s: look for the row: %w", c.model.Describe(c.value), err)
	}
	db.RowsAffected = int64(len(one))
	if db.Statement.Result != nil {
		db.Statement.Result.RowsAffected = db.RowsAffected
	}
	return nil
}
