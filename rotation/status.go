// status.go owns what is under which version, read without changing anything.

package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// Held is how many rows of a key column are under one version, service and key. A row with several data keys or regions is counted once under each.
type Held struct {
	Column  string `json:"column"`
	Version int    `json:"version"` // 0 for NULL, -1 for what is no envelope, -2 for keys that were shredded
	Service string `json:"service,omitempty"`
	KeyRef  string `json:"key_ref,omitempty"`
	Rows    int64  `json:"rows"`
}

// Status reads every envelope of a model and counts rows by version and key. It makes no call to a key service. A "pending" service counts rows whose insert never
// finished, an "orphan" one rows that have sealed values and no key, where the database user may read those columns.
func Status(ctx context.Context, db *gorm.DB, model any, cfg Config) ([]Held, error) {
	if m, ok := model.(*ManifestModel); ok {
		model = m.Counted()
	}
	j, err := reading(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	counts := map[Held]int64{}
	err = j.walker.Each(ctx, func(_ []walk.Key, rows []any) error {
		for _, r := range rows {
			for i, text := range r.(*row.Read).Texts {
				column := j.columns[i]
				if text == "" {
					counts[Held{Column: column}]++
					continue
				}
				env, err := kmskey.ParseEnvelope(text)
				if errors.Is(err, kmskey.ErrShredded) {
					counts[Held{Column: column, Version: shredded}]++
					continue
				}
				if err != nil {
					counts[Held{Column: column, Version: -1, Service: kmskey.Outcome(err)}]++
					continue
				}
				for _, w := range env.Wraps() {
					counts[Held{column, w.Version, w.Service, w.KeyRef, 0}]++
				}
			}
		}
		return nil
	})
	for i, g := range j.owned {
		if err == nil {
			err = j.orphans(ctx, g, counts, Held{Column: j.columns[i]})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("rotation: status of %s: %w", j.table, err)
	}
	out := make([]Held, 0, len(counts))
	for h, n := range counts {
		h.Rows = n
		out = append(out, h)
	}
	sort.Slice(out, func(a, b int) bool {
		x, y := out[a], out[b]
		if x.Column != y.Column {
			return x.Column < y.Column
		}
		if x.Version != y.Version {
			return x.Version < y.Version
		}
		return x.Service+x.KeyRef < y.Service+y.KeyRef
	})
	return out, nil
}

// orphans tells rows that have no key and need none from those with sealed values that nobody can open.
func (j *job) orphans(ctx context.Context, g *row.Group, counts map[Held]int64, none Held) error {
	if len(g.Fields) == 0 || counts[none] == 0 {
		return nil
	}
	quote := j.ledger.Dialect.Quote
	var any []string
	for _, f := range g.Fields {
		any = append(any, quote(f.Column.DBName)+" IS NOT NULL")
	}
	var n int64
	query := fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE %s IS NULL AND (%s)", j.quoted, quote(none.Column), strings.Join(any, " OR "))
	switch err := j.ledger.DB.QueryRowContext(ctx, query).Scan(&n); {
	case err != nil && strings.Contains(err.Error(), "denied"):
		return nil // a rotator need not be allowed to read sealed columns, and then cannot tell
	case err != nil || n == 0:
		return err
	}
	counts[Held{Column: none.Column, Service: "orphan"}] = n
	if counts[none] -= n; counts[none] <= 0 {
		delete(counts, none)
	}
	return nil
}

// groups counts by version in the database itself, by the prefix of the envelopes.
func (j *job) groups(ctx context.Context) ([]Group, error) {
	if j.kind == kindIndex {
		return countLacking(ctx, j.ledger, j.table, j.spec().Indexes)
	}
	return countGroups(ctx, j.ledger, j.table, j.columns)
}

// filledIndex is an index that a run fills, as its specification keeps it.
type filledIndex struct {
	Column  string `json:"column"`
	Field   string `json:"field"` // the column of the field
	Version int    `json:"version"`
}

// countLacking counts, for each index, rows that have the field: with the index, as its version, and without, as -1. Rows without the field are not counted.
func countLacking(ctx context.Context, l *walk.Ledger, table string, indexes []filledIndex) (out []Group, err error) {
	quote := l.Dialect.Quote
	for _, x := range indexes {
		var all, filled int64
		query := fmt.Sprintf("SELECT COUNT(%s), COUNT(%s) FROM %s WHERE %[1]s IS NOT NULL", quote(x.Field), quote(x.Column), quote(table))
		if err := l.DB.QueryRowContext(ctx, query).Scan(&all, &filled); err != nil {
			return nil, fmt.Errorf("rotation: count %s with index %s: %w", table, x.Column, err)
		}
		if all > filled {
			out = append(out, Group{x.Column, -1, all - filled})
		}
		if filled > 0 {
			out = append(out, Group{x.Column, x.Version, filled})
		}
	}
	return out, nil
}

func countGroups(ctx context.Context, l *walk.Ledger, table string, columns []string) (out []Group, err error) {
	for _, column := range columns {
		quoted := l.Dialect.Quote(column)
		prefix := map[string]string{
			"postgres": "split_part(" + quoted + ", ':', 1)",
			"mysql":    "SUBSTRING_INDEX(" + quoted + ", ':', 1)",
			"sqlite":   "substr(" + quoted + ", 1, instr(" + quoted + ", ':') - 1)",
		}[l.Dialect.Name]
		rows, err := l.DB.QueryContext(ctx, "SELECT "+prefix+" AS p, COUNT(*) FROM "+l.Dialect.Quote(table)+" GROUP BY "+prefix)
		if err != nil {
			return nil, fmt.Errorf("rotation: count %s by version: %w", table, err)
		}
		found, err := scanGroups(rows, column)
		if err != nil {
			return nil, fmt.Errorf("rotation: count %s by version: %w", table, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func scanGroups(rows *sql.Rows, column string) ([]Group, error) {
	defer rows.Close()
	counts := map[int]int64{}
	for rows.Next() {
		var p sql.NullString
		var n int64
		if err := rows.Scan(&p, &n); err != nil {
			return nil, err
		}
		version := 0
		if p.Valid {
			version = -1
			if p.String+":" == kmskey.ShreddedPrefix {
				version = shredded
			}
			if len(p.String) > 1 && p.String[0] == 'v' {
				if v, err := strconv.Atoi(p.String[1:]); err == nil && v > 0 {
					version = v
				}
			}
		}
		counts[version] += n
	}
	var out []Group
	for v, n := range counts {
		out = append(out, Group{column, v, n})
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Version < out[b].Version })
	return out, rows.Err()
}
