package row

import (
	"os"
	"strings"
	"sync"
	"testing"

	"gorm.io/gorm/schema"
)

type checkedRow struct {
	ID   uint64
	Ward string
	Name string `gorm:"serializer:rowseal"`
	Note string `gorm:"serializer:rowseal" rowseal:"text"`
	RowKey
}

func quoteWith(mark string) func(string) string {
	return func(name string) string { return mark + name + mark }
}

// TestChecks_are_those_of_the_specification holds docs/format.md, section 12, to the code.
func TestChecks_are_those_of_the_specification(t *testing.T) {
	page, err := os.ReadFile("../../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## 12.")
	if !found {
		t.Fatal("docs/format.md has no section 12")
	}
	section = strings.Join(strings.Fields(section), " ")
	s, err := schema.Parse(&checkedRow{}, &sync.Map{}, schema.NamingStrategy{})
	if err != nil {
		t.Fatal(err)
	}
	plan := PlanOf(s)
	for dialect, mark := range map[string]string{"postgres": `"`, "mysql": "`", "sqlite": "`"} {
		checks, ok := plan.Checks(dialect, s.Table, quoteWith(mark))
		if !ok || len(checks) != 3 {
			t.Fatalf("%s: %d constraints", dialect, len(checks))
		}
		for i, want := range []struct {
			column string
			key    bool
		}{{"name", false}, {"note", false}, {"encrypted_kms_key", true}} {
			c := checks[i]
			if c.Column.DBName != want.column || c.Key != want.key || c.Name != "rowseal_checked_rows__"+want.column {
				t.Errorf("%s: constraint %d is %s on %s", dialect, i, c.Name, c.Column.DBName)
			}
			if !strings.Contains(section, c.Expr) {
				t.Errorf("docs/format.md, section 12, has no\n%s", c.Expr)
			}
			// What GORM would bind, take for a named argument, or lose count of.
			if strings.ContainsAny(c.Expr, "?@$;") || dialect == "sqlite" && strings.ContainsAny(c.Expr, "|\"\t") || strings.Contains(c.Expr, "''") {
				t.Errorf("%s: GORM's migrators misread %s", dialect, c.Expr)
			}
		}
	}
	if _, ok := plan.Checks("sqlserver", s.Table, quoteWith(`"`)); ok {
		t.Error("constraints for a database whose SQL is not known")
	}
}

func TestCheckName(t *testing.T) {
	long := strings.Repeat("x", 40)
	for in, want := range map[[2]string]string{
		{"patients", "name"}:                               "rowseal_patients__name",
		{"clinic.patients", "name"}:                        "rowseal_patients__name",
		{`"clinic"."patients"`, "name"}:                    "rowseal_patients__name",
		{"Patients", "Name"}:                               "rowseal_Patients__Name",
		{long, "name"}:                                     "rowseal_" + long + "__name",
		{strings.Repeat("x", 26), strings.Repeat("y", 27)}: "rowseal_" + strings.Repeat("x", 26) + "__" + strings.Repeat("y", 27),
		{strings.Repeat("x", 26), strings.Repeat("y", 28)}: "rowseal_" + strings.Repeat("x", 26) + "__" + strings.Repeat("y", 18) + "_84dade20",
		{"my patients", "name"}:                            "rowseal_my_patients__name_fe203916",
		{"патиенты", "name"}:                               "rowseal___________name_bc634a11",
	} {
		got := checkName(in[0], in[1])
		if got != want {
			t.Errorf("checkName(%q, %q) = %q, want %q", in[0], in[1], got, want)
		}
		if len(got) > maxName || strings.Trim(got, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Errorf("checkName(%q, %q) = %q, which is not a name", in[0], in[1], got)
		}
	}
	// What MySQL, where a name is one of the whole database, would take for the same.
	seen := map[string][2]string{}
	for _, c := range [][2]string{{"a", "b_c"}, {"a_b", "c"}, {long + "a", long}, {long, "a" + long}, {long + "b", long}, {"ä", "b"}, {"ö", "b"}, {"a b", "c"}, {"a_b", "d"}, {"a-b", "c"}} {
		name := checkName(c[0], c[1])
		if other, taken := seen[name]; taken {
			t.Errorf("%q and %q are both %s", c, other, name)
		}
		seen[name] = c
	}
}
