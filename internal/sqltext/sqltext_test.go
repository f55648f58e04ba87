package sqltext

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Two tables of interest; the column ward is none.
func lookup(table string) *Columns { return known[table] }

var known = map[string]*Columns{
	"charts":  {"charts", func(c string) bool { return c == "name" || c == "score" || c == "key" }},
	"doctors": {"doctors", func(c string) bool { return c == "name" }},
}

// A table of no interest whose columns are known.
func owns(table, column string) bool {
	return table == "visits" && (column == "name" || column == "id")
}

func uses(sql string) string {
	var out []string
	for _, u := range Uses(sql, lookup, owns) {
		kind := [...]string{"read", "read-as", "star", "compared", "inserted", "set", "inserted-all", "defaulted", "set-again", "renamed"}[u.Kind]
		s := kind + " " + u.Table.Table
		if u.Column != "" {
			s += "." + u.Column
		}
		if u.As != "" {
			s += " as " + u.As
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestUses(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		// Nothing of interest.
		{"SELECT name FROM patients WHERE name = 'x'", ""},
		{"SELECT 'charts.name' FROM patients WHERE name = 'x'", ""},
		{"SELECT id, ward FROM charts WHERE ward = ? AND id IN (?,?)", ""},
		{"SELECT count(*) FROM charts", ""},
		{"SELECT count(name) FROM charts", ""},
		{"SELECT ward * 2 FROM charts", ""},
		{"", ""},
		// Select lists.
		{`SELECT * FROM "charts" WHERE "charts"."deleted_at" IS NULL`, "star charts"},
		{"SELECT charts.* FROM charts", "star charts"},
		{"SELECT c.*, p.* FROM charts c JOIN patients p ON p.id = c.id", "star charts"},
		{"SELECT p.* FROM charts c JOIN patients p ON p.id = c.id", ""},
		{"SELECT id, name, ward FROM charts", "read charts.name"},
		{"select `charts`.`name`,`key` from `charts` order by `charts`.`id` limit 1", "read charts.key, read charts.name"},
		{"SELECT name AS name FROM charts", "read charts.name"},
		{"SELECT name AS ward FROM charts", "read-as charts.name as ward"},
		{"SELECT name ward FROM charts", "read-as charts.name as ward"},
		{`SELECT "Doctor"."name" AS "Doctor__name" FROM charts LEFT JOIN doctors "Doctor" ON "Doctor"."id" = charts.doctor_id`, "read-as doctors.name as doctor__name"},
		{"TABLE charts", "star charts"},
		{"(TABLE charts)", "star charts"},
		{"(SELECT * FROM charts)", "star charts"},
		{"((SELECT * FROM charts)) UNION ALL (SELECT * FROM patients)", "star charts"},
		{"(SELECT id FROM charts)", ""},
		{"SELECT * FROM (TABLE charts) x WHERE name = 'x'", "compared charts.name, star charts"},
		{"WITH x AS (TABLE charts) SELECT name FROM x", "read charts.name"},
		{"CREATE TABLE charts (name text)", ""},
		// What comes under another name.
		{"SELECT id, ward FROM charts UNION ALL SELECT id, name FROM charts", "compared charts.name"},
		{"SELECT 1 AS id, NULL AS ward UNION ALL SELECT id, name FROM charts", "compared charts.name"},
		{"SELECT id, ward AS name FROM visits UNION ALL SELECT id, name FROM charts", "read charts.name"},
		{"SELECT id, name FROM charts UNION ALL SELECT id, name FROM charts", "read charts.name"},
		{"SELECT id, name AS n FROM charts UNION ALL SELECT id, name AS n FROM charts", "read-as charts.name as n"},
		{"SELECT id, name AS n FROM charts UNION ALL SELECT id, name FROM charts", "compared charts.name, read-as charts.name as n"},
		{"SELECT * FROM charts UNION ALL SELECT * FROM charts", "star charts"},
		{"SELECT * FROM patients UNION ALL SELECT * FROM charts", "renamed charts, star charts"},
		{"SELECT * FROM (SELECT * FROM patients UNION ALL SELECT * FROM charts) x", "renamed charts, star charts"},
		{"SELECT * FROM (SELECT a.id, a.name, b.name FROM charts a JOIN charts b ON b.id = a.id) x", "compared charts.name, star charts"},
		{"SELECT * FROM (SELECT p.*, c.* FROM patients p JOIN charts c ON c.id = p.id) x", "renamed charts, star charts"},
		{"SELECT * FROM (SELECT * FROM patients p, charts c) x", "renamed charts, star charts"},
		{"SELECT * FROM (SELECT p.name, c.* FROM patients p JOIN charts c ON c.id = p.id) x", "renamed charts, star charts"},
		{"SELECT * FROM (SELECT c.*, p.ward FROM patients p JOIN charts c ON c.id = p.id) x", "star charts"},
		{"SELECT DISTINCT name FROM charts", "compared charts.name"},
		{"SELECT count(DISTINCT name) FROM charts", "compared charts.name"},
		{"SELECT COUNT(DISTINCT(name)) FROM charts", "compared charts.name"},
		{"SELECT name = 'x' FROM charts", "compared charts.name"},
		{"SELECT CASE WHEN name = 'x' THEN 1 END FROM charts", "compared charts.name"},
		{"SELECT lower(name) FROM charts", "compared charts.name"},
		{"SELECT coalesce(ward, name) FROM charts", "compared charts.name"},
		{"SELECT name::text FROM charts", "compared charts.name"},
		{"SELECT id, 'x' || name FROM charts", "compared charts.name"},
		{"SELECT name IS NULL FROM charts", ""},
		{"SELECT (SELECT charts.name) FROM charts", "compared charts.name"},
		// Conditions.
		{"SELECT id FROM charts WHERE name = ?", "compared charts.name"},
		{"SELECT id FROM CHARTS WHERE NAME = ?", "compared charts.name"},
		{"SELECT id FROM charts WHERE ? = name", "compared charts.name"},
		{"SELECT id FROM charts WHERE (ward = 1 OR (name LIKE ?))", "compared charts.name"},
		{"SELECT id FROM charts WHERE name IS NULL AND charts.score IS NOT NULL", ""},
		{"SELECT id FROM charts WHERE name IS DISTINCT FROM ?", "compared charts.name"},
		{"SELECT id FROM charts WHERE ward IS DISTINCT FROM name", "compared charts.name"},
		{"SELECT id FROM charts WHERE EXTRACT(year FROM name) = 1", "compared charts.name"},
		{"SELECT id FROM charts WHERE lower(name) = ?", "compared charts.name"},
		{"SELECT id FROM charts ORDER BY name", "compared charts.name"},
		{"SELECT ward FROM charts GROUP BY ward, name HAVING max(score) > 1", "compared charts.name, compared charts.score"},
		{"SELECT id, row_number() OVER (PARTITION BY name) FROM charts", "compared charts.name"},
		{"SELECT id FROM charts WHERE ward = 1 FOR UPDATE", ""},
		{"DELETE FROM charts WHERE name = ?", "compared charts.name"},
		{"DELETE FROM patients USING charts WHERE charts.name = patients.name", "compared charts.name"},
		{"(SELECT id FROM charts WHERE name = 1)", "compared charts.name"},
		// Scope.
		{"SELECT id FROM patients WHERE name = ? AND id IN (SELECT ward FROM charts)", ""},
		{"SELECT id FROM patients WHERE EXISTS (SELECT 1 FROM charts WHERE name = ?)", "compared charts.name"},
		{"SELECT id FROM patients p WHERE EXISTS (SELECT 1 FROM charts x WHERE x.ward = p.name)", ""},
		{"SELECT id FROM patients p WHERE EXISTS (SELECT 1 FROM charts x WHERE x.name = p.name)", "compared charts.name"},
		{"SELECT id FROM patients WHERE ? IN (SELECT name FROM charts)", "compared charts.name"},
		{"SELECT p.id FROM patients p JOIN charts x ON x.id = p.id AND x.name = ?", "compared charts.name"},
		{"SELECT p.id FROM patients p JOIN charts x USING (name)", "compared charts.name"},
		{"SELECT p.id FROM patients p JOIN charts x ON x.id = p.id WHERE p.name = ?", ""},
		{"SELECT p.id FROM patients p JOIN charts x ON x.id = p.id WHERE name = ?", "compared charts.name"},
		{"SELECT p.id FROM patients p JOIN q ON q.id = p.id, charts WHERE score = ?", "compared charts.score"},
		{"SELECT id FROM patients, charts WHERE score = ?", "compared charts.score"},
		{"SELECT id FROM charts WHERE nowhere.name = ?", "compared charts.name"},
		{"SELECT id FROM charts WHERE id IN (SELECT id FROM visits WHERE name = ?)", ""},
		{"SELECT id FROM charts WHERE id IN (SELECT id FROM visits WHERE score = ?)", "compared charts.score"},
		{"SELECT id FROM charts WHERE id IN (SELECT id FROM unknown WHERE name = ?)", "compared charts.name"},
		{"SELECT id FROM visits, charts WHERE name = ?", "compared charts.name"},
		{"SELECT x.id FROM (SELECT * FROM charts) AS x WHERE x.name = ?", "compared charts.name"},
		{"SELECT x.name FROM (SELECT id, name FROM charts) x", "read charts.name"},
		{"SELECT x.n FROM (SELECT id, name AS n FROM charts) x WHERE n = ?", "compared charts.name"},
		{"WITH x AS (SELECT * FROM charts) SELECT id FROM x WHERE name = ?", "compared charts.name"},
		{"WITH x AS MATERIALIZED (SELECT name FROM charts), y AS (SELECT 1) SELECT id FROM x WHERE x.name = ?", "compared charts.name"},
		{"SELECT id FROM clinic.charts WHERE clinic.charts.name = ?", "compared charts.name"},
		{"SELECT id FROM ONLY charts WHERE name = ?", "compared charts.name"},
		{"SELECT id FROM doctors UNION SELECT id FROM charts WHERE score = 1", "compared charts.score"},
		// What MySQL and MariaDB alone take.
		{"SELECT SQL_NO_CACHE name FROM charts", "read charts.name"},
		{"SELECT HIGH_PRIORITY SQL_CALC_FOUND_ROWS name AS ward FROM charts", "read-as charts.name as ward"},
		{"SELECT STRAIGHT_JOIN name FROM charts", "read charts.name"},
		{"SELECT SQL_BIG_RESULT * FROM charts", "star charts"},
		{"SELECT DISTINCTROW name FROM charts", "compared charts.name"},
		{"HANDLER charts READ FIRST WHERE name = 'x'", "compared charts.name"},
		{"LOAD DATA LOCAL INFILE 'x' INTO TABLE charts (id, name)", "inserted charts.name"},
		{"LOAD DATA INFILE 'x' INTO TABLE charts (id) SET name = 'x'", "set charts.name"},
		{"LOAD DATA INFILE 'x' INTO TABLE charts FIELDS TERMINATED BY ',' (id, name)", "inserted-all charts"},
		{"UPDATE charts SET ward = 1 /*M! , name = 'x' */", "set charts.name"},
		{"UPDATE charts SET ward = 1 /*M!100100 , name = 'x' */", "set charts.name"},
		// Writing.
		{"INSERT INTO charts (id, name) VALUES (1, 'x') RETURNING id", "inserted charts.name"},
		{"INSERT INTO charts VALUES (1, 'x')", "inserted-all charts"},
		{"INSERT INTO charts SELECT * FROM old", "inserted-all charts, star charts"},
		{"INSERT INTO charts DEFAULT VALUES", ""},
		{"INSERT INTO charts (ward) VALUES (1)", ""},
		{"REPLACE INTO charts (name) VALUES (1)", "inserted charts.name"},
		{"INSERT OR REPLACE INTO charts (name) VALUES (1)", "inserted charts.name"},
		{"INSERT INTO log (name) SELECT name FROM charts", "read charts.name"},
		{"INSERT INTO charts (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x', ward = 1", "set charts.name"},
		{"INSERT INTO charts (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE charts.score = 1", "compared charts.score, set charts.name"},
		{"INSERT INTO charts (id) VALUES (1) ON CONFLICT (id) WHERE name = 'x' DO NOTHING", "compared charts.name"},
		{"INSERT INTO charts (id) VALUES (1) ON CONFLICT (name) DO NOTHING", "compared charts.name"},
		{"INSERT INTO charts (id) VALUES (1) ON DUPLICATE KEY UPDATE name = VALUES(name)", "set charts.name"},
		{"INSERT INTO charts (id) VALUES ((SELECT id FROM doctors WHERE name = 'x'))", "compared doctors.name"},
		{"UPDATE charts SET ward = 1, name = 'x' WHERE id = 1", "set charts.name"},
		{`UPDATE "charts" AS c SET "name"=$1,"ward"=$2 WHERE c.id = 1 AND "key" = $3`, "compared charts.key, set charts.name"},
		{"UPDATE charts SET ward = CASE WHEN name = 'x' THEN 'a' ELSE 'b' END, score = 1", "compared charts.name, set charts.score"},
		{"UPDATE charts SET ward = (SELECT name FROM doctors LIMIT 1)", "compared doctors.name"},
		{"UPDATE charts SET (ward, name) = (1, 2)", "set charts.name"},
		{"UPDATE charts SET name = 1, ward = 2, name = 'x'", "set charts.name, set-again charts.name"},
		{"UPDATE charts SET name = 1; UPDATE charts SET name = 2", "set charts.name"},
		{"UPDATE patients p JOIN charts c ON c.id = p.id SET c.name = 1", "set charts.name"},
		{"UPDATE patients SET name = 1 WHERE id IN (SELECT id FROM charts)", ""},
		{"UPDATE charts SET ward = 1 RETURNING name, CASE WHEN score = 1 THEN 1 END", "compared charts.score, read charts.name"},
		{"WITH x AS (UPDATE charts SET name = 1 RETURNING id) SELECT * FROM x", "set charts.name, star charts"},
		{"BEGIN; UPDATE charts SET name = 1; COMMIT", "set charts.name"},
		{";UPDATE charts SET name = 1", "set charts.name"},
		{"EXPLAIN UPDATE charts SET name = 1", "set charts.name"},
		{"DO $$ BEGIN UPDATE charts SET name = 'x'; END $$", "set charts.name"},
		{"DO $a$ BEGIN UPDATE charts SET name = 'x'; END $a$", "set charts.name"},
		{"COPY charts (id, name) FROM STDIN", "inserted charts.name"},
		{"COPY charts FROM STDIN", "inserted-all charts"},
		{"MERGE INTO charts c USING new n ON n.id = c.id WHEN MATCHED THEN UPDATE SET name = n.name WHEN NOT MATCHED THEN INSERT (name) VALUES (1)", "inserted charts.name, set charts.name"},
		// DDL.
		{"CREATE TABLE charts (id int, name bytea, score bytea)", ""},
		{"ALTER TABLE charts ALTER COLUMN name TYPE bytea USING name::bytea", ""},
		{"CREATE TABLE copy AS SELECT id FROM charts WHERE name = 'x'", "compared charts.name"},
		{"CREATE VIEW v AS (SELECT id FROM charts WHERE name = 'x')", "compared charts.name"},
		{"ALTER TABLE charts ALTER COLUMN name SET DEFAULT 'x'", "defaulted charts.name"},
		{"ALTER TABLE charts ADD FOREIGN KEY (id) REFERENCES x ON UPDATE CASCADE ON DELETE SET NULL", ""},
		// Words that hide.
		{"SELECT id FROM charts -- name = 'x'\nWHERE ward = 1", ""},
		{"SELECT id FROM charts /* ' */ WHERE name = 'x'", "compared charts.name"},
		{"SELECT id FROM charts /* /* */ ' */ WHERE name = 'x' --'", "compared charts.name"},
		{`SELECT id FROM charts WHERE ward = 'a\' AND name = 'x'`, "compared charts.name"},
		{`SELECT id FROM charts WHERE ward = E'it\'s' AND name = 'x'`, "compared charts.name"},
		{"SELECT id FROM charts WHERE ward = $$'$$ AND name = 'x'", "compared charts.name"},
		{"SELECT id FROM charts WHERE ward = 'it''s' AND [name] = 'x'", "compared charts.name"},
		{"SELECT id FROM charts WHERE ward = 'unclosed", ""},
	} {
		if got := uses(c.sql); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.sql, got, c.want)
		}
	}
}

// Text comes from applications. Whatever stands before it, a comparison in a statement of its own is found, as long as nothing before it
// is left open.
func FuzzUses(f *testing.F) {
	for _, seed := range []string{"", "SELECT 1", "INSERT INTO charts", "UPDATE charts SET name", "WITH x AS (", "$$", "'", "/*", "a.b.*", "(((", ")", "[", "\\"} {
		f.Add(seed)
	}
	const last = "SELECT id FROM charts WHERE score = 1"
	f.Fuzz(func(t *testing.T, sql string) {
		Uses(sql, lookup, owns)
		if strings.ContainsAny(sql, "'\"`[$\\(") || strings.Contains(sql, "--") || strings.Contains(sql, "/*") {
			return
		}
		if got := uses(fmt.Sprintf("%s; %s", sql, last)); !strings.Contains(got, "compared charts.score") {
			t.Errorf("%q hides what follows: %q", sql, got)
		}
	})
}

func TestQueries(t *testing.T) {
	for sql, want := range map[string]bool{
		`ward = 'a'`:                                                false,
		`members.ward = 'SELECT members'`:                           false,
		`id IN (SELECT id FROM members WHERE ward = 'a')`:           true,
		`id IN (TABLE members)`:                                     true,
		`id IN (SELECT id FROM "clinic"."Members")`:                 true,
		`id IN (SELECT id FROM other, ` + "`members`" + ` m)`:       true,
		`EXISTS (SELECT 1 FROM other WHERE other.id = members.id)`:  false,
		`EXISTS (SELECT 1 FROM other /* members */ WHERE x = 1)`:    false,
		`EXISTS (SELECT 1 FROM other /*! JOIN members ON a = b */)`: true,
		`visits = (SELECT max(visits) + 1 FROM ONLY members)`:       true,
	} {
		if got := Queries(sql, "members"); got != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
}
