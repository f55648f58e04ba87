// ids.go owns ids that a sequence gives: they are taken for all rows before anything else is done.

package pgcopy

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// takeSQL takes n values from the sequence behind a column, in one query, as the plugin does for an INSERT; as one array, which comes faster than n rows. It gives
// NULLs where there is no sequence, or where the column takes no value (GENERATED ALWAYS), and NULL where there is no such column. OFFSET 0 keeps the look-up from
// being repeated for each.
const takeSQL = `SELECT array_agg(nextval(s.name))::text
FROM (SELECT CASE WHEN a.attidentity <> 'a' THEN pg_get_serial_sequence($1::text, a.attname::text)::regclass END AS name
      FROM pg_attribute a WHERE a.attrelid = to_regclass($1::text) AND a.attname = $2::text AND NOT a.attisdropped OFFSET 0) s,
     generate_series(1, $3::bigint)`

// takeIDs fills integer columns with a sequence where rows have none.
func (c *creation) takeIDs(ctx context.Context, tx *gorm.DB, rows reflect.Value) error {
	c.table = quotedTable(tx.Statement, c.schema)
	for _, f := range c.schema.FieldsWithDefaultDBValue {
		if !sequenced(f) || slices.ContainsFunc(tx.Statement.Omits, func(name string) bool { return !f.PrimaryKey && (name == f.Name || name == f.DBName) }) {
			continue
		}
		var without []reflect.Value
		for i := range rows.Len() {
			if v := reflect.Indirect(rows.Index(i)); isZero(ctx, f, v) {
				without = append(without, v)
			}
		}
		if len(without) == 0 {
			continue
		}
		ids, err := take(ctx, tx.Statement.ConnPool, c.table, f.DBName, len(without))
		if err != nil {
			return fmt.Errorf("pgcopy: create %s: take %d values of %s from its sequence: %w", c.name, len(without), f.DBName, err)
		}
		if len(ids) != len(without) {
			continue // what is missing then is refused when the hooks have run
		}
		for i, v := range without {
			if err := f.Set(ctx, v, ids[i]); err != nil {
				return fmt.Errorf("pgcopy: create %s: set %s: %w", c.name, f.DBName, err)
			}
		}
	}
	return nil
}

func isZero(ctx context.Context, f *schema.Field, v reflect.Value) bool {
	_, zero := f.ValueOf(ctx, v)
	return zero
}

// sequenced reports an integer column that GORM leaves to the database.
func sequenced(f *schema.Field) bool {
	integer := f.GORMDataType == schema.Int || f.GORMDataType == schema.Uint
	plain := f.DefaultValue == "" || strings.HasPrefix(f.DefaultValue, "nextval(")
	return integer && f.DefaultValueInterface == nil && plain
}

func take(ctx context.Context, pool gorm.ConnPool, table, column string, n int) (ids []int64, err error) {
	var array sql.NullString
	if err := pool.QueryRowContext(ctx, takeSQL, table, column, n).Scan(&array); err != nil {
		return nil, err
	}
	ids = make([]int64, 0, n)
	for text := range strings.SplitSeq(strings.Trim(array.String, "{}"), ",") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, nil // NULL: no sequence to take from
		}
		ids = append(ids, id)
	}
	slices.Sort(ids) // rows get ascending ids in their own order
	return ids, nil
}

func quotedTable(stmt *gorm.Statement, s *schema.Schema) string {
	switch {
	case stmt.TableExpr != nil:
		return stmt.TableExpr.SQL
	case stmt.Table != "":
		return stmt.Quote(stmt.Table)
	}
	return stmt.Quote(s.Table)
}
