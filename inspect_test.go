package rowseal

import (
	"strings"
	"testing"
)

func TestSQLWords(t *testing.T) {
	for sql, want := range map[string]string{
		"name = ?":                                "name",
		`"name" = ?`:                              "name",
		"`p`.`name` = 'name'":                     "p.name",
		"[p].[name] IN (?)":                       "p.name IN",
		"lower(p.name) like 'it''s name'":         "lower p.name like",
		"id = 1 -- name\nAND name=1":              "id AND name",
		"id = 1 /* name */ AND clinic.p.name = 2": "id AND p.name",
		"x.*, y.":                                 "x y",
		"'unterminated name":                      "",
		"/* unterminated name":                    "",
		`"unterminated name`:                      "unterminated name",
		"":                                        "",
	} {
		var got []string
		for _, w := range sqlWords(sql) {
			switch {
			case w.kind == wordName && w.table != "":
				got = append(got, w.table+"."+w.text)
			case w.kind == wordName:
				got = append(got, w.text)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("sqlWords(%q) = %q, want %q", sql, got, want)
		}
	}
}

// SQL text comes from applications: the words of any text are found without a panic, and every name that stands outside of quotes and
// comments is among them.
func FuzzSQLWords(f *testing.F) {
	for _, seed := range []string{"name = ?", `"na""me"`, "'a''b'", "/*", "--", "[", "`", ".", "a.b.c", "'", "é.ñ", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		sqlWords(sql)
		found := false
		for _, w := range sqlWords("canary; " + sql) {
			found = found || w.text == "canary"
		}
		if !found {
			t.Errorf("the first word of %q is lost", "canary; "+sql)
		}
	})
}
