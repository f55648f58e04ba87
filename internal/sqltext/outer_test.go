package sqltext

import (
	"fmt"
	"strings"
	"testing"
)

func TestOuterOf(t *testing.T) {
	// A text with a mark where its select list ends, and the tables there; "" where nothing can be added.
	for _, c := range []struct{ sql, tables string }{
		{"SELECT name |FROM charts", "charts=charts alone"},
		{"select `charts`.`name` |from `charts` where id = 1 ORDER BY `charts`.`id` LIMIT 1", "charts=`charts` alone"},
		{`SELECT "name" |FROM "public"."charts"`, `charts="charts" alone`},
		{`SELECT c.name AS n |FROM charts AS "C" WHERE EXISTS (SELECT max(id) FROM log GROUP BY id)`, `c="C" alone`},
		{"SELECT c.name, d.name |FROM charts c LEFT JOIN doctors d ON d.id = c.doctor_id", "c=c d=d"},
		{"SELECT charts.name |FROM log, charts", "charts=charts"},
		{"SELECT name, 'FROM' -- FROM\n|FROM charts", "charts=charts alone"},
		{"SELECT /* FROM */ name |FROM charts FOR UPDATE", "charts=charts alone"},
		{"WITH x AS (SELECT id FROM log GROUP BY id) SELECT name |FROM charts JOIN x ON x.id = charts.id", "charts=charts"},
		{"SELECT x.name |FROM (SELECT DISTINCT name FROM charts) x", "alone"},
		{"SELECT DISTINCT id FROM charts", ""},
		{"SELECT DISTINCT ON (id) id FROM charts", ""},
		{"SELECT id FROM charts GROUP BY id", ""},
		{"SELECT id FROM charts HAVING true", ""},
		{"SELECT max(id), name FROM charts", ""},
		{"SELECT name, (SELECT count(*) FROM log) AS n FROM charts", ""},
		{"SELECT id FROM charts UNION ALL SELECT id FROM charts", ""},
		{"(SELECT id FROM charts)", ""},
		{"SELECT 1", ""},
		{"SELECT id FROM charts; SELECT id FROM doctors", ""},
		{"EXPLAIN SELECT id FROM charts", ""},
		{"INSERT INTO log (id) SELECT id FROM charts", ""},
		{"UPDATE charts SET ward = 1 RETURNING name", ""},
		{"DELETE FROM charts RETURNING name", ""},
		{"CREATE TABLE t AS SELECT name FROM charts", ""},
		{"SELECT name INTO t FROM charts", ""},
		{"SELECT charts.name |FROM charts JOIN charts ON true", ""},
		// Read in two ways.
		{`SELECT name, 'a\' FROM charts -- ' FROM charts`, ""},
		{"SELECT name # FROM charts\n FROM charts", ""},
	} {
		text := strings.Replace(c.sql, "|", "", 1)
		o := OuterOf(text, lookup)
		got, want := "", c.tables
		if o != nil {
			for _, p := range o.Tables {
				got += fmt.Sprintf("%s=%s ", p.As, p.Written)
			}
			if o.Alone {
				got += "alone"
			}
			if at := strings.IndexByte(c.sql, '|'); at != o.End {
				t.Errorf("%s: ends at %d, want %d", c.sql, o.End, at)
			}
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%s\n got %q\nwant %q", c.sql, got, want)
		}
	}
}

// TestUses_from tells two uses of one table apart.
func TestUses_from(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT a.name, b.name AS n FROM charts a JOIN charts b ON b.id = a.id": "a b",
		"SELECT charts.name FROM public.charts":                                 "charts",
		"SELECT name FROM charts c":                                             "c",
		"SELECT c.* FROM charts c":                                              "c",
		"SELECT name FROM (SELECT name FROM charts c) x":                        "",
		"WITH x AS (SELECT * FROM charts) SELECT * FROM x":                      "",
		"UPDATE charts SET ward = 1 RETURNING name":                             "charts",
	} {
		var got []string
		for _, u := range Uses(sql, lookup, nil) {
			if u.Query {
				got = append(got, u.From)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: from %q, want %q", sql, got, want)
		}
	}
}
