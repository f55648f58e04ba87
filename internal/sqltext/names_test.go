package sqltext

import (
	"strings"
	"testing"
)

func FuzzNames(f *testing.F) {
	f.Add("SELECT * FROM \"Clinic\".\"Patients\"", "patients,charts")
	f.Add("patient", "patients")
	f.Add("ppatientspatients", "patients,ps")
	f.Add("select 1", "")
	f.Add("x", "x")
	f.Add("SELECT ÄRZTE", "ärzte,charts")
	f.Add("FROM ilaclar", "İlaclar")
	f.Add("FROM xxȺ", "xxⱥ")
	f.Add("FROM Patients", "PATIENTS")
	f.Add("FROM ZÄHLER, zähler", "zähler")
	f.Add(strings.Repeat("pat", 100)+"CHARTS", "patients,charts,charts_of_a_ward")
	f.Fuzz(func(t *testing.T, text, list string) {
		var names []string
		for name := range strings.SplitSeq(list, ",") {
			if name != "" {
				names = append(names, name)
			}
		}
		holds, short := false, false
		for _, name := range names {
			for i := range text {
				holds = holds || len(text)-i >= len(name) && strings.EqualFold(text[i:i+len(name)], name)
			}
			short = short || len(name) < 2 || strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 })
			holds = holds || strings.Contains(strings.ToLower(text), strings.ToLower(name)) && short
		}
		n := NewNames(names)
		switch got := n.In(text); {
		case holds && !got:
			t.Errorf("%q holds one of %q", text, names)
		case got && !holds && !short:
			t.Errorf("%q holds none of %q", text, names)
		}
	})
}
