// scopes.go owns the conditions that find rows by the version of their keys.

package rowseal

import (
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// UnderVersion is a scope: the rows that need a version of the keyring, those with a key whose oldest data key lies under it.
//
//	db.Model(&Patient{}).Scopes(rowseal.UnderVersion(1)).Count(&n)
//
// With none left, no row needs the version. Key columns may be named; else all of the model count, and a row is found by any of
// them. It makes no call to a key service. It is a LIKE with the envelope's first characters, so an ordinary query reads the whole table.
func UnderVersion(version int, keyColumns ...string) func(*gorm.DB) *gorm.DB {
	return byVersion("UnderVersion", version, keyColumns, func(like clause.Like) clause.Expression { return like })
}

// NotUnderVersion is a scope: the rows with a key that is not wholly under a version, which are those that a rotation to it has left. Rows without a key are not
// among them, and neither are those that were shredded. Key columns as in [UnderVersion].
func NotUnderVersion(version int, keyColumns ...string) func(*gorm.DB) *gorm.DB {
	return byVersion("NotUnderVersion", version, keyColumns, func(like clause.Like) clause.Expression {
		return clause.And(clause.Not(like), clause.Not(clause.Like{Column: like.Column, Value: kmskey.ShreddedPrefix + "%"}))
	})
}

func byVersion(name string, version int, columns []string, as func(clause.Like) clause.Expression) func(*gorm.DB) *gorm.DB {
	return func(db *gorm.DB) *gorm.DB {
		if version < 1 {
			_ = db.AddError(fmt.Errorf("rowseal: %s: there is no version %d; they begin with 1", name, version))
			return db
		}
		return byKeyText(db, name, fmt.Sprintf("v%d:", version), columns, as, clause.Or)
	}
}

// byKeyText finds rows by what one of their key columns, or each of them, begins with.
func byKeyText(db *gorm.DB, name, prefix string, columns []string, as func(clause.Like) clause.Expression, join func(...clause.Expression) clause.Expression) *gorm.DB {
	fail := func(format string, args ...any) *gorm.DB {
		_ = db.AddError(fmt.Errorf("rowseal: %s: %w", name, fmt.Errorf(format, args...)))
		return db
	}
	model := db.Statement.Model
	if model == nil {
		model = db.Statement.Dest
	}
	stmt := &gorm.Statement{DB: db}
	if err := stmt.Parse(model); err != nil {
		return fail("%w: name the model with db.Model(&Patient{}): %w", ErrModel, err)
	}
	plan := row.PlanOf(stmt.Schema)
	if plan == nil || len(plan.Groups) == 0 {
		return fail("model %s: %w: it has no key column", stmt.Schema.Name, ErrModel)
	}
	if len(columns) == 0 {
		for _, g := range plan.Groups {
			columns = append(columns, g.Column.DBName)
		}
	}
	var any []clause.Expression
	for _, c := range columns {
		g := plan.LookupKey(c)
		if g == nil {
			return fail("model %s: %w: it has no key column %q", stmt.Schema.Name, ErrModel, c)
		}
		any = append(any, as(clause.Like{Column: clause.Column{Table: clause.CurrentTable, Name: g.Column.DBName}, Value: prefix + "%"}))
	}
	return db.Where(join(any...))
}
