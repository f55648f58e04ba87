// fill.go owns blind indexes of rows from before the index: written by a walk, as keys are moved, each where its field still is what was opened.

package rotation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/kmskey"
)

// kindIndex is the kind of runs that fill indexes, beside kindRewrap.
const (
	kindRewrap = "rewrap"
	kindIndex  = "index"
)

// FillIndexes writes the blind indexes that rows of a model lack, which have stood in the table since before the model had them, as [RotateKMSKey] moves keys: it can be killed at any point and called again, any number of processes may share
// the work, rows that others change meanwhile are looked at again, and the report is exact. Soft-deleted rows are rows. It changes no other column and runs no hook. With Config.All every index is computed anew, and one that is not its value's is
// mended, whoever wrote it.
//
// It makes a call to the key service for each row and key column that lacks something, and needs the permission to decrypt. The plugin must be installed on db, since the keys and expressions of indexes are the application's. Config.Columns names columns of indexes.
//
// A row whose value a unique index has already, since two rows differ in no more than what a new expression passes over, is recorded as failed, of class "duplicate": the other keeps its entry, and this one has none.
//
// When it ends without an error, every row that was there has every index. Programs that write the model must know the index before: one that does not leaves it as it was. [Verify] compares all of them with their values.
func FillIndexes(ctx context.Context, db *gorm.DB, model any, cfg Config) (*Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	columns := cfg.Columns
	cfg.Columns = nil // of keys
	j, err := newJob(ctx, db, model, cfg)
	if err != nil {
		return nil, err
	}
	if err := j.fills(ctx, columns); err != nil {
		return nil, err
	}
	return j.run(ctx)
}

// longestTarget is what the ledger takes, with room to spare.
const longestTarget = 400

// searching is what the plugin has beside models.
type searching interface {
	SearchKeys(ctx context.Context, db *gorm.DB, plan *row.Plan) (row.IndexKeys, error)
}

// searchKeys gives the keys of a model's indexes; nil where it has none, or no plugin knows them.
func searchKeys(ctx context.Context, db *gorm.DB, m *row.Model) (row.IndexKeys, error) {
	p, installed := db.Plugins[row.PluginName].(searching)
	if !installed || !m.Plan.HasIndexes() {
		return nil, nil
	}
	return p.SearchKeys(ctx, db, m.Plan)
}

// indexesOf lists the indexes of the fields of groups.
func indexesOf(groups []*row.Group) (all []*row.Index) {
	for _, g := range groups {
		for _, f := range g.Fields {
			all = append(all, f.Indexes...)
		}
	}
	return all
}

// fills makes a job one that fills indexes.
func (j *job) fills(ctx context.Context, only []string) (err error) {
	for _, name := range only {
		if j.model.Plan.LookupIndex(name) == nil {
			return fmt.Errorf("rotation: fill indexes: Config.Columns: %s has no index %q", j.table, name)
		}
	}
	j.indexes = indexesOf(j.owned)
	if len(only) > 0 {
		j.indexes = slices.DeleteFunc(j.indexes, func(x *row.Index) bool {
			return !slices.ContainsFunc(only, func(name string) bool { return j.model.Plan.LookupIndex(name) == x })
		})
	}
	if len(j.indexes) == 0 {
		return fmt.Errorf("rotation: fill indexes: model %s has none", j.model.Name)
	}
	if j.sums, err = searchKeys(ctx, j.db, j.model); err != nil {
		return err
	}
	if j.sums == nil {
		return fmt.Errorf("rotation: fill indexes: model %s: %w; call db.Use(plugin) first: the application knows what its indexes are of", j.model.Name, row.ErrNoPlugin)
	}
	j.kind, j.columns = kindIndex, nil
	var beside []string
	for _, x := range j.indexes {
		j.columns, beside = append(j.columns, x.Column), append(beside, x.Field.Column.DBName)
	}
	j.owned = slices.DeleteFunc(slices.Clone(j.owned), func(g *row.Group) bool {
		return !slices.ContainsFunc(j.indexes, func(x *row.Index) bool { return x.Field.Group == g })
	})
	if j.target = j.table + ": " + strings.Join(j.columns, ", "); len(j.target) > longestTarget {
		sum := sha256.Sum256([]byte(j.target))
		j.target = fmt.Sprintf("%s: %d indexes (%x)", j.table, len(j.columns), sum[:8])
	}
	j.reading = j.model.Reading(j.owned)
	whole := j.reading.Whole().Indexed(j.indexes)
	t := &j.walker.Task
	if !slices.ContainsFunc(j.indexes, func(x *row.Index) bool { return x.Tenant }) {
		t.Table.Pins = nil // an index depends on its field alone
	}
	t.Read, t.Writes, t.Beside, t.Row, t.Change = whole.Columns(), j.columns, beside, reader(whole, false), j.fill
	return nil
}

// fill is what the walk does with a page.
func (j *job) fill(ctx context.Context, rows []any) ([]walk.Result, error) {
	results := make([]walk.Result, len(rows))
	err := each(ctx, len(rows), j.cfg.Calls, func(ctx context.Context, i int) (err error) {
		results[i], err = j.filled(ctx, rows[i].(*row.Read))
		return err // the page is tried again as a whole
	})
	return results, err
}

// filled says what becomes of the indexes of one row. Its error is a service that does not answer.
func (j *job) filled(ctx context.Context, read *row.Read) (out walk.Result, err error) {
	for i, g := range j.owned {
		var lacks []int
		for n, x := range j.indexes {
			switch {
			case x.Field.Group != g:
			case j.cfg.All || (read.Cells[i].Stored(x.Field) == nil) != (read.Sums[n] == nil):
				lacks = append(lacks, n)
			default:
				out.Current++
			}
		}
		if len(lacks) == 0 {
			continue
		}
		if kmskey.IsTombstone(read.Texts[i]) {
			out.Current += int64(len(lacks)) // whatever stands there is what Shred left
			continue
		}
		fail := func(class string, err error, which ...int) {
			j.failing.Store(true)
			for _, n := range which {
				out.Failures = append(out.Failures, walk.Failure{Column: j.columns[n], Class: class, Version: versionOf(read.Texts[i]), Message: err.Error()})
			}
		}
		if read.Texts[i] == "" {
			if !read.Cells[i].Empty() {
				fail("orphan", row.ErrNoKey, lacks...)
				continue
			}
			for _, n := range lacks {
				if read.Sums[n] == nil {
					out.Current++
				} else {
					out.Changes = append(out.Changes, walk.Change{Column: n})
				}
			}
			continue
		}
		sums := map[*row.Index][]byte{}
		seen := map[*row.Index]bool{}
		_, errs, err := j.opened(ctx, g, read, i, func(f *row.Field, plaintext []byte) error {
			for _, n := range lacks {
				x := j.indexes[n]
				if x.Field != f {
					continue
				}
				sum, err := j.model.Sum(j.sums, x, read.Value, plaintext)
				if err != nil {
					return err
				}
				sums[x], seen[x] = sum, true
			}
			return nil
		}, func() { clear(sums); clear(seen) })
		if err != nil {
			return out, err
		}
		out.Calls++
		out.Exposed++
		for _, n := range lacks {
			x := j.indexes[n]
			switch {
			case !seen[x]:
				err := errors.Join(errs...)
				class := kmskey.Outcome(err)
				if class == "error" {
					class = "field"
				}
				fail(class, err, n)
			case bytes.Equal(sums[x], read.Sums[n]) && (sums[x] == nil) == (read.Sums[n] == nil):
				out.Current++
			default:
				out.Changes = append(out.Changes, walk.Change{Column: n, Beside: read.Cells[i].Stored(x.Field), Bytes: sums[x]})
			}
		}
	}
	return out, nil
}
