package integration

// walk_test.go owns the walk's SQL against databases as they are: intervals of composite keys, edges of ranges, tables that change under it.

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rowseal/rowseal/internal/walk"
	"github.com/rowseal/rowseal/migrations"
)

// walked is a table of two key columns and one of text, and a walk that appends "!" to every text.
type walked struct {
	w      *world
	walker *walk.Walker
	before func(rows []any) // what happens between reading and storing
}

type walkedRow struct {
	key  walk.Key
	text string
}

func newWalked(t testing.TB, kind string, rangeSize, page int) *walked {
	t.Helper()
	x := &walked{w: open(t, kind)}
	_, err := migrations.Up(t.Context(), x.w.db)
	ok(t, err)
	x.w.tamper(t, "CREATE TABLE walked (a BIGINT NOT NULL, b VARCHAR(20) NOT NULL, txt VARCHAR(100) NOT NULL, PRIMARY KEY (a, b))")
	quote := func(name string) string {
		var b strings.Builder
		x.w.db.QuoteTo(&b, name)
		return b.String()
	}
	scan := func(whole bool) walk.Reader {
		return func(_ context.Context, scan func(...any) error) (walk.Key, any, error) {
			var a int64
			var b, text string
			dest := []any{&a, &b}
			if whole {
				dest = append(dest, &text)
			}
			if err := scan(dest...); err != nil {
				return nil, nil, err
			}
			key := walk.Key{driver.Value(a), driver.Value(b)}
			return key, walkedRow{key, text}, nil
		}
	}
	x.walker = &walk.Walker{
		Ledger: &walk.Ledger{DB: x.w.plain, Dialect: walk.Dialect{Name: x.w.db.Name(), Quote: quote}},
		Task: walk.Task{
			Table: walk.Table{Name: quote("walked"), Key: []string{"a", "b"}}, Bare: "walked", Read: []string{"txt"}, Writes: []string{"txt"},
			Key: scan(false), Row: scan(true),
			Change: func(_ context.Context, rows []any) ([]walk.Result, error) {
				if x.before != nil && len(rows) > 0 {
					x.before(rows)
				}
				results := make([]walk.Result, len(rows))
				for i, r := range rows {
					if text := r.(walkedRow).text; strings.HasSuffix(text, "!") {
						results[i].Current = 1
					} else {
						results[i].Changes = []walk.Change{{Old: text, New: text + "!"}}
					}
				}
				return results, nil
			},
		},
		Config: walk.Config{RangeSize: rangeSize, MaxPage: page, Page: time.Second, Lease: time.Minute, Owner: "test"},
	}
	return x
}

// run walks to the end and gives the counts.
func (x *walked) run(t testing.TB, id string) walk.Counters {
	t.Helper()
	l := x.walker.Ledger
	ok(t, l.Create(t.Context(), l.DB, walk.Run{ID: id, Kind: "test", Target: id, Spec: "{}", StartedBy: "test"}))
	for {
		_, err := x.walker.Lane(t.Context(), id, func() bool { return false })
		ok(t, err)
		open, _, unplanned, err := x.walker.Left(t.Context(), id)
		ok(t, err)
		if open == 0 && !unplanned {
			break
		}
	}
	c, _, err := l.Count(t.Context(), id)
	ok(t, err)
	if c.Seen != c.Changed+c.Current+c.Raced+c.Gone+c.Failed {
		t.Errorf("the counts do not add up: %+v", c)
	}
	return c
}

func (x *walked) insert(t testing.TB, a int, b string) {
	x.w.tamper(t, "INSERT INTO walked (a, b, txt) VALUES (?, ?, ?)", a, b, "x")
}

func (x *walked) count(t testing.TB, where string) (n int) {
	t.Helper()
	ok(t, x.w.plain.QueryRow("SELECT COUNT(*) FROM walked WHERE "+where).Scan(&n))
	return n
}

// TestWalkOfCompositeKeys: every interval between two keys, there or not, has the rows that row values say it has, whatever form the database is asked in.
func TestWalkOfCompositeKeys(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		x := newWalked(t, kind, 3, 2)
		var all []walk.Key
		for a := range 4 {
			for _, b := range []string{"", "1", "10", "2", "a"} {
				if (a+len(b))%3 != 0 {
					x.insert(t, a, b)
				}
				all = append(all, walk.Key{int64(a), b})
			}
		}
		less := func(x, y walk.Key) bool {
			if x[0] != y[0] {
				return x[0].(int64) < y[0].(int64)
			}
			return x[1].(string) < y[1].(string)
		}
		var there []walk.Key
		ok(t, x.walker.Each(t.Context(), func(_ []walk.Key, rows []any) error {
			for _, r := range rows {
				there = append(there, r.(walkedRow).key)
			}
			return nil
		}))
		if len(there) != x.count(t, "1 = 1") || !slices.IsSortedFunc(there, func(a, b walk.Key) int {
			if less(a, b) {
				return -1
			}
			return 1
		}) {
			t.Fatalf("%d rows: %v", len(there), there)
		}
		for _, d := range []string{x.w.db.Name(), "mysql"} { // the form for MySQL everywhere: each of them understands it
			for _, lo := range append([]walk.Key{nil}, all...) {
				for _, hi := range append([]walk.Key{nil}, all...) {
					var want []string
					for _, k := range there {
						if (lo == nil || less(lo, k)) && (hi == nil || !less(hi, k)) {
							want = append(want, k.String())
						}
					}
					where, args := x.walker.Task.Table.Between(walk.Dialect{Name: d, Quote: x.walker.Ledger.Dialect.Quote}, lo, hi)
					for i := 1; strings.Contains(where, "?"); i++ {
						if x.w.kind != postgres {
							break
						}
						where = strings.Replace(where, "?", fmt.Sprintf("$%d", i), 1)
					}
					rows, err := x.w.plain.Query("SELECT a, b FROM walked WHERE "+where+" ORDER BY a, b", args...)
					ok(t, err)
					var got []string
					for rows.Next() {
						var a int64
						var b string
						ok(t, rows.Scan(&a, &b))
						got = append(got, walk.Key{a, b}.String())
					}
					ok(t, rows.Err())
					if !slices.Equal(got, want) {
						t.Fatalf("behind %v up to %v, as %s:\n%v, want\n%v", lo, hi, d, got, want)
					}
				}
			}
		}
	}, sqliteGo, postgres, mariadb)
}

func TestWalkOfEdges(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, c := range []struct {
			name                  string
			rows, rangeSize, page int
		}{
			{"an empty table", 0, 10, 10}, {"one row", 1, 10, 10}, {"ranges of one row", 40, 1, 10}, {"pages of one row", 30, 7, 1},
			{"just a range", 20, 20, 50}, {"just a page", 10, 100, 10}, {"one more than a range", 21, 20, 20},
		} {
			t.Run(c.name, func(t *testing.T) {
				x := newWalked(t, kind, c.rangeSize, c.page)
				for i := range c.rows {
					x.insert(t, i/3, fmt.Sprint(i))
				}
				got := x.run(t, "r1")
				if got.Seen != int64(c.rows) || got.Changed != int64(c.rows) || x.count(t, "txt <> 'x!'") != 0 {
					t.Errorf("%+v", got)
				}
				if again := x.run(t, "r2"); again.Current != int64(c.rows) || again.Changed != 0 {
					t.Errorf("%+v", again)
				}
			})
		}
	})
}

// TestWalkOfATableThatChanges: rows come, go and change between the reading of a page and its storing.
func TestWalkOfATableThatChanges(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		x := newWalked(t, kind, 30, 10)
		const rows = 100
		for i := range rows {
			x.insert(t, i, "b")
		}
		var pages, deleted, written atomic.Int64
		x.before = func(all []any) {
			n := pages.Add(1)
			if n > 8 {
				return
			}
			first, second := all[0].(walkedRow), all[len(all)-1].(walkedRow)
			x.w.tamper(t, "DELETE FROM walked WHERE a = ? AND b = ?", first.key[0], first.key[1])
			deleted.Add(1)
			if len(all) > 1 {
				x.w.tamper(t, "UPDATE walked SET txt = ? WHERE a = ? AND b = ?", []string{"other", "done!"}[n%2], second.key[0], second.key[1])
				written.Add(1)
			}
			x.insert(t, rows+int(n), "new") // behind the end: the last range has none
		}
		got := x.run(t, "r")
		if got.Gone != deleted.Load() || got.Raced == 0 || got.Failed != 0 || got.Seen < rows {
			t.Errorf("%+v, %d deleted, %d written", got, deleted.Load(), written.Load())
		}
		if n := x.count(t, "txt NOT IN ('x!', 'other!', 'done!')"); n != 0 {
			t.Errorf("%d rows are left as they were", n)
		}
		if n := x.count(t, "1 = 1"); n != rows {
			t.Errorf("%d rows, want %d: a deleted one came back, or one is lost", n, rows)
		}
	})
}
