package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/pgcopy"
)

func TestCopyRoundTrip(t *testing.T) {
	w := open(t, postgres, &Visit{})
	all := visits(1000)
	for i := range all {
		all[i].Reason = fmt.Sprint(canary, i)
	}
	ok(t, pgcopy.Create(t.Context(), w.db, all, pgcopy.Config{}))
	if got := shape(w); !slices.Equal(got, []string{"query", "close", "kms", "begin", "exec", "commit"}) {
		t.Errorf("the order of events is %v", got)
	}
	if n := w.spy.Count("query", "nextval"); n != 1 {
		t.Errorf("%d sequence queries, want 1", n)
	}
	if n := w.spy.Count("exec", "copy"); n != 1 {
		t.Errorf("%d COPYs, want 1", n)
	}
	if n := w.kms.Calls(); n != len(all) {
		t.Errorf("%d calls to the key service, want one for each row", n)
	}
	if dump := w.dump(t, "visits"); strings.Contains(dump, canary) || !strings.Contains(dump, "ward=7") {
		t.Error("the table holds plaintext, or nothing")
	}
	if strings.Contains(w.log.String(), canary) || !strings.Contains(w.log.String(), `COPY "visits" ("ward","reason"`) {
		t.Errorf("the log holds plaintext, or does not name the statement:\n%.500s", w.log.String())
	}
	var got []Visit
	ok(t, w.db.Order("id").Find(&got).Error)
	if len(got) != len(all) {
		t.Fatalf("%d rows", len(got))
	}
	for i, v := range got {
		if v.ID != all[i].ID || v.Reason != all[i].Reason || v.Cost != i || v.Ward != "7" {
			t.Fatalf("row %d came back as %+v", i, v)
		}
	}
	// The structs hold their keys, as after Create.
	calls := w.kms.Calls()
	all[3].Doctor = "Dr. Malik"
	ok(t, w.db.Save(&all[3]).Error)
	if n := w.kms.Calls(); n != calls {
		t.Errorf("saving a row that was copied made %d calls", n-calls)
	}
}
