package migrations

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"gorm.io/gorm"
	"gorm.io/gorm/utils/tests"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files string
		says  string
	}{
		{"in order", "0001_a.down.sql 0001_a.up.sql 0002_b_c.down.sql 0002_b_c.up.sql", ""},
		{"empty", "", "missing"},
		{"a gap", "0001_a.down.sql 0001_a.up.sql 0003_b.down.sql 0003_b.up.sql", "0003_b.down.sql stands where 0002_b.down.sql belongs"},
		{"from zero", "0000_a.down.sql 0000_a.up.sql", "0000_a.down.sql stands where 0001_a.down.sql belongs"},
		{"one number twice", "0001_a.down.sql 0001_a.up.sql 0001_b.down.sql 0001_b.up.sql", "0001_b.down.sql stands where 0002_b.down.sql belongs"},
		{"two names", "0001_a.down.sql 0001_b.up.sql", "0001_b.up.sql stands where 0001_a.up.sql belongs"},
		{"no way down", "0001_a.up.sql 0002_b.down.sql", "0001_a.up.sql stands where 0001_a.down.sql belongs"},
		{"no way up", "0001_a.down.sql", "missing"},
		{"short number", "1_a.down.sql 1_a.up.sql", "named like"},
		{"another file", "README.md", "named like"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := fstest.MapFS{}
			for _, name := range strings.Fields(tt.files) {
				dir[name] = &fstest.MapFile{Data: []byte("-- " + name + "\nSELECT 1;\n")}
			}
			all, err := parse(dir)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Fatalf("error %v does not say %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range all {
				if m.number != i+1 || !strings.Contains(m.up[0], m.file("up")) || !strings.Contains(m.down[0], m.file("down")) {
					t.Errorf("%d: %+v", i, m)
				}
			}
		})
	}
}

func TestSplit(t *testing.T) {
	got, err := split("-- one\nCREATE TABLE a (\n\tb int\n);\n\nDROP TABLE a;\n")
	if want := []string{"-- one\nCREATE TABLE a (\n\tb int\n)", "DROP TABLE a"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if title(got[0]) != "CREATE TABLE a" {
		t.Errorf("title %q", title(got[0]))
	}
	for _, bad := range []string{"SELECT 1", "SELECT ';', 1;\n", "-- a; b\nSELECT 1;\n"} {
		if _, err := split(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// What the SQL has to keep, for every database and version to come.
func TestFiles(t *testing.T) {
	var all [][]migration
	var columns []string // of the first dialect
	for _, dialect := range dialects {
		known, err := load(dialect)
		if err != nil {
			t.Fatalf("%s: %v", dialect, err)
		}
		all = append(all, known)
		made := map[string]bool{}
		var own []string
		for i, m := range known {
			if first := all[0][i]; len(known) != len(all[0]) || m.name != first.name {
				t.Errorf("%s has %d versions and %s; %s has %d and %s", dialect, len(known), m.file("up"), dialects[0], len(all[0]), first.file("up"))
			}
			if last := m.up[len(m.up)-1]; !strings.HasPrefix(last, fmt.Sprintf("INSERT INTO rowseal_migrations (version, name, applied_ms)\nVALUES (%d, '%s', ", m.number, m.name)) {
				t.Errorf("%s: %s does not record its version last: %s", dialect, m.file("up"), last)
			}
			if first := title(m.down[0]); !strings.Contains(first, "rowseal_migrations") {
				t.Errorf("%s: %s does not remove its version first: %s", dialect, m.file("down"), first)
			}
			for _, s := range slices.Concat(m.up, m.down) {
				for line := range strings.Lines(s) {
					if len(line) > 1 && line[0] == '\t' && 'a' <= line[1] && line[1] <= 'z' {
						own = append(own, strings.NewReplacer("mediumtext", "text", "varbinary", "varchar").Replace(strings.TrimRight(line, ",\n")))
					}
				}
				s = title(s)
				if name, ok := strings.CutPrefix(s, "CREATE TABLE "); ok {
					made[strings.TrimPrefix(name, "IF NOT EXISTS ")] = true
				}
				if dialect == "mysql" && !strings.Contains(s, "EXISTS") && !strings.HasPrefix(s, "INSERT") {
					t.Errorf("%s cannot be repeated after a crash: %s", dialect, s)
				}
			}
		}
		if got := slices.Sorted(maps.Keys(made)); !slices.Equal(got, slices.Sorted(slices.Values(tables))) {
			t.Errorf("%s: the tables are %v, the list has %v", dialect, got, tables)
		}
		if columns == nil {
			columns = own
		}
		if len(own) == 0 || !slices.Equal(own, columns) {
			t.Errorf("%s has the columns %q\n%s has %q", dialects[0], columns, dialect, own)
		}
		dir, err := Files(dialect)
		if err != nil {
			t.Fatal(err)
		}
		if names, err := fs.Glob(dir, "*.sql"); err != nil || len(names) != 2*len(known) {
			t.Errorf("%s: %v, %v", dialect, names, err)
		}
	}
}

func TestNext(t *testing.T) {
	known := []migration{{number: 1, name: "a"}, {number: 2, name: "b"}, {number: 3, name: "c"}}
	for _, tt := range []struct {
		have []int
		want int // 0: none
		says string
	}{
		{nil, 1, ""},
		{[]int{1}, 2, ""},
		{[]int{1, 2}, 3, ""},
		{[]int{1, 2, 3}, 0, ""},
		{[]int{1, 2, 3, 4}, 0, ""},
		{[]int{1, 3}, 0, "version 3 is applied and 2 (b) is not; run 0002_b.up.sql"},
		{[]int{4}, 0, "version 4 is applied and 1 (a) is not"},
	} {
		have := map[int]Version{}
		for _, n := range tt.have {
			have[n] = Version{Number: n}
		}
		m, err := next(known, have)
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v: %v", tt.have, err)
			}
		} else if err != nil || (m == nil) != (tt.want == 0) || m != nil && m.number != tt.want {
			t.Errorf("%v: %+v, %v", tt.have, m, err)
		}
	}
}

func TestAnotherDatabaseIsRefused(t *testing.T) {
	const says = `no SQL for the database "dummy"; there is for postgres, mysql (MariaDB as well) and sqlite`
	db, err := gorm.Open(tests.DummyDialector{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), db); err == nil || err.Error() != "migrations: up: "+says {
		t.Error(err)
	}
	for _, dialect := range []string{"dummy", "", "..", "sqlite/.."} {
		if _, err := Files(dialect); err == nil {
			t.Errorf("%q is accepted", dialect)
		}
	}
}
