// mysql.go owns what MySQL and MariaDB do otherwise, where a row's key could be lost by it:
//
//   - Text compares without regard to case, accents and trailing spaces. Keys, tokens and primary keys are compared as bytes.
//   - A transaction reads as of its first read, and writes what is there now. Where a write found no row, the row is read locked.

package rowseal

import (
	"reflect"

	"gorm.io/gorm"

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
