package integration

// secret_test.go owns Secret: sealed in memory until it is asked for.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
)

type SecretRow struct {
	ID    uint64
	Ward  string
	Notes rowseal.Secret[string]
	Score rowseal.Secret[int]
	Maybe rowseal.Secret[*string]
	rowseal.RowKey
}

func secret(t testing.TB, w *world, notes string) uint64 {
	t.Helper()
	r := SecretRow{Ward: "7", Notes: rowseal.NewSecret(notes), Score: rowseal.NewSecret(42)}
	ok(t, w.db.Create(&r).Error)
	w.kms.Reset()
	return r.ID
}

func got[T any](t testing.TB, s rowseal.Secret[T]) T {
	t.Helper()
	v, err := s.Get(t.Context())
	ok(t, err)
	return v
}

func noteOf(t testing.TB, w *world, id uint64, want string) {
	t.Helper()
	r := load[SecretRow](t, w.db, id)
	if notes := got(t, r.Notes); notes != want {
		t.Fatalf("row %d holds %q, want %q", id, notes, want)
	}
}

func calls(t testing.TB, w *world, want int, what string) {
	t.Helper()
	if n := w.kms.Calls(); n != want {
		t.Errorf("%s: %d calls to the key service, want %d", what, n, want)
	}
	w.kms.Reset()
}

func TestSecretCostsNoCallUntilGetAndOneForTheRow(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "a")
		secret(t, w, "b")
		var page []SecretRow
		ok(t, w.db.Find(&page).Error)
		r := load[SecretRow](t, w.db, id)
		calls(t, w, 0, "read")
		c := r
		if got(t, r.Notes) != "a" || got(t, c.Score) != 42 || got(t, r.Maybe) != nil || got(t, r.Notes) != "a" {
			t.Fatal("wrong values")
		}
		calls(t, w, 1, "Get of all")
	})
}

func TestSecretsOfARowThatAreAskedForTogetherCostOneCall(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		r := load[SecretRow](t, w.db, secret(t, w, "a"))
		w.kms.Before = func(context.Context, kmskeytest.Call) error {
			// Long enough for the other goroutine to ask, if it would.
			for range 100_000 {
				if w.kms.Count("unwrap") > 1 {
					break
				}
				runtime.Gosched()
			}
			return nil
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.Notes.Get(context.Background()) })
		wg.Go(func() { _, _ = r.Score.Get(context.Background()) })
		wg.Wait()
		calls(t, w, 1, "two Gets at once")
	})
}

func TestSecretWaitsForAnotherCallNoLongerThanItsOwnContext(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		r := load[SecretRow](t, w.db, secret(t, w, "a"))
		called, answer := make(chan struct{}), make(chan struct{})
		w.kms.Before = func(context.Context, kmskeytest.Call) error {
			close(called)
			<-answer
			return nil
		}
		var first string
		var wg sync.WaitGroup
		wg.Go(func() { first, _ = r.Notes.Get(context.Background()) })
		<-called
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, notes := r.Notes.Get(ctx)
		_, score := r.Score.Get(ctx)
		if !errors.Is(notes, context.Canceled) || !errors.Is(score, context.Canceled) {
			t.Errorf("Get gave %v and %v", notes, score)
		}
		close(answer)
		wg.Wait()
		if first != "a" || got(t, r.Notes) != "a" || got(t, r.Score) != 42 {
			t.Error("wrong values")
		}
		calls(t, w, 1, "three Gets")
	})
}

func TestSecretsOfAPageAreOpenedTogether(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		rows := make([]SecretRow, 20)
		for i := range rows {
			rows[i] = SecretRow{Notes: rowseal.NewSecret(fmt.Sprint("note ", i)), Score: rowseal.NewSecret(i)}
		}
		ok(t, w.db.Create(&rows).Error)
		w.kms.Reset()
		var page []SecretRow
		ok(t, w.db.Order("id").Find(&page).Error)
		// All calls wait until all are there: were they made in turn, the first would give up.
		w.kms.Before = func(context.Context, kmskeytest.Call) error {
			for range 10_000_000 {
				if w.kms.Count("unwrap") == len(page) {
					return nil
				}
				runtime.Gosched()
			}
			return fmt.Errorf("the others did not come")
		}
		ok(t, rowseal.Open(t.Context(), w.db, &page))
		calls(t, w, len(page), "Open")
		ok(t, rowseal.Open(t.Context(), w.db, page))
		for i, r := range page {
			if got(t, r.Notes) != fmt.Sprint("note ", i) || got(t, r.Score) != i {
				t.Fatalf("row %d", i)
			}
		}
		calls(t, w, 0, "Get after Open")
	})
}

func TestSecretsOfAPageOpenExceptThoseThatCannot(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		bad, good := secret(t, w, "a"), secret(t, w, "b")
		w.tamper(t, "UPDATE secret_rows SET notes = score WHERE id = ?", bad)
		var page []*SecretRow
		ok(t, w.db.Order("id").Find(&page).Error)
		err := rowseal.Open(t.Context(), w.db, page)
		fails(t, err, field.ErrNotAuthentic, fmt.Sprintf("SecretRow %d", bad), "SecretRow.Notes")
		if strings.Contains(err.Error(), fmt.Sprintf("SecretRow %d:", good)) {
			t.Errorf("%v names the good row", err)
		}
		if got(t, page[1].Notes) != "b" || got(t, page[0].Score) != 42 {
			t.Fatal("wrong values")
		}
	})
}

func TestSecretPrintsAsStars(t *testing.T) {
	s := rowseal.NewSecret("canary")
	type holder struct {
		S rowseal.Secret[string]
		P *rowseal.Secret[string]
	}
	h := holder{s, &s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T %[1]v", "%10.2f", "%p", "%t", "%w"} {
		for _, v := range []any{s, &s, h, &h, []any{s}, map[string]any{"a": s}} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
		// fmt asks no Formatter for %p and %w.
		if text := fmt.Sprintf(verb, s); !strings.Contains(text, "***") && verb != "%p" && verb != "%w" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	var b bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))} {
		l.Info("m", "s", s, "h", h)
	}
	if strings.Contains(b.String(), "canary") {
		t.Error(b.String())
	}
}

func TestSecretIsNullInJSONAndRefusesItsOwnLook(t *testing.T) {
	r := SecretRow{ID: 1, Notes: rowseal.NewSecret("canary")}
	text, err := json.Marshal(r)
	ok(t, err)
	if strings.Contains(string(text), "canary") || !strings.Contains(string(text), `"Notes":null`) {
		t.Fatal(string(text))
	}
	for _, look := range []string{`null`, ` null `, `"***"`, `"\u002a**"`} {
		in := SecretRow{Notes: rowseal.NewSecret("kept")}
		if json.Unmarshal([]byte(`{"Notes":`+look+`}`), &in) == nil {
			t.Errorf("%s was accepted", look)
		}
		if got(t, in.Notes) != "kept" {
			t.Errorf("%s replaced the value", look)
		}
	}
	var in SecretRow
	ok(t, json.Unmarshal([]byte(`{"Notes":"new"}`), &in))
	if got(t, in.Notes) != "new" {
		t.Fatal("not set")
	}
	if err := json.Unmarshal([]byte(`{"Score":"canary"}`), &in); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("error %v", err)
	}
}

func TestSecretUntouchedKeepsItsCiphertextWithoutACall(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "a")
		before := w.cell(t, "secret_rows", "notes", id)
		r := load[SecretRow](t, w.db, id)
		r.Ward = "8"
		ok(t, w.db.Save(&r).Error)
		ok(t, w.db.Model(&r).Updates(SecretRow{Ward: "9"}).Error)
		calls(t, w, 0, "Save")
		if got(t, r.Notes) != "a" {
			t.Fatal("wrong value")
		}
		calls(t, w, 1, "Get")
		ok(t, w.db.Save(&r).Error)
		calls(t, w, 0, "Save after Get")
		if after := w.cell(t, "secret_rows", "notes", id); !bytes.Equal(before, after) {
			t.Error("the ciphertext changed")
		}
		if ward := w.cell(t, "secret_rows", "ward", id); string(ward) != "9" {
			t.Errorf("ward is %q", ward)
		}
		noteOf(t, w, id, "a")
	})
}

func TestSecretOfAnotherRowIsSealedAnewOnceOpened(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		a, b := secret(t, w, "a"), secret(t, w, "b")
		from, to := load[SecretRow](t, w.db, a), load[SecretRow](t, w.db, b)
		to.Notes = from.Notes
		for how, write := range map[string]func() error{
			"Save":    func() error { return w.db.Save(&to).Error },
			"Updates": func() error { return w.db.Model(&SecretRow{ID: b}).Updates(SecretRow{Notes: from.Notes}).Error },
			"Map":     func() error { return w.db.Model(&SecretRow{ID: b}).Update("notes", from.Notes).Error },
			"Create":  func() error { return w.db.Create(&SecretRow{ID: 900, Notes: from.Notes}).Error },
		} {
			if err := write(); err == nil {
				t.Errorf("%s of a secret that is sealed elsewhere", how)
			} else {
				fails(t, err, rowseal.ErrNotLoaded, "SecretRow.Notes")
			}
			noteOf(t, w, b, "b")
		}
		got(t, from.Notes)
		ok(t, w.db.Save(&to).Error)
		ok(t, w.db.Create(&SecretRow{ID: 900, Notes: from.Notes}).Error)
		for _, id := range []uint64{a, b, 900} {
			noteOf(t, w, id, "a")
		}
	})
}

func TestSecretOfOneRowRestoredFromAnOlderLoadIsWritten(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "old")
		old := load[SecretRow](t, w.db, id)
		ok(t, w.db.Model(&SecretRow{ID: id}).Update("notes", "new").Error)
		now := load[SecretRow](t, w.db, id)
		now.Notes = old.Notes
		want := "old"
		if err := w.db.Save(&now).Error; err != nil {
			fails(t, err, rowseal.ErrNotLoaded, "SecretRow.Notes")
			want = "new"
		}
		noteOf(t, w, id, want)
	})
}

func TestSecretKeptFromBeforeAWriteIsWhatItWas(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "old")
		r := load[SecretRow](t, w.db, id)
		before := r.Notes
		r.Notes = rowseal.NewSecret("new")
		ok(t, w.db.Save(&r).Error)
		noteOf(t, w, id, "new")
		if v := got(t, before); v != "old" {
			t.Errorf("the secret that was read says %q now", v)
		}
		r.Notes = before
		ok(t, w.db.Save(&r).Error)
		noteOf(t, w, id, "old")
	})
}

func TestSecretOfACopyIsNotChangedByAWriteThatFailed(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "old")
		r := load[SecretRow](t, w.db, id)
		c := r
		c.Notes = rowseal.NewSecret("new")
		if w.db.Where("no_such_column = 1").Save(&c).Error == nil {
			t.Fatal("no error")
		}
		if v := got(t, r.Notes); v != "old" {
			t.Errorf("the secret says %q", v)
		}
		noteOf(t, w, id, "old")
	})
}

func TestSecretInAMapIsAPlainValueOrNil(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "a")
		r := load[SecretRow](t, w.db, id)
		ok(t, w.db.Model(&r).Updates(map[string]any{"notes": "b", "score": 43}).Error)
		noteOf(t, w, id, "b")
		if got(t, r.Notes) != "b" || got(t, r.Score) != 43 {
			t.Fatal("the struct does not hold what was written")
		}
		ok(t, w.db.Model(&SecretRow{ID: id}).Update("notes", rowseal.NewSecret("c")).Error)
		noteOf(t, w, id, "c")
		err := w.db.Model(&r).Update("score", "canary").Error
		fails(t, err, rowseal.ErrType, "SecretRow.Score")
		if strings.Contains(err.Error(), "canary") {
			t.Error(err)
		}
		ok(t, w.db.Model(&r).Update("notes", nil).Error)
		if raw := w.cell(t, "secret_rows", "notes", id); raw != nil {
			t.Errorf("notes is %x", raw)
		}
		noteOf(t, w, id, "")
	})
}

func TestSecretThatIsNull(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "a")
		r := load[SecretRow](t, w.db, id)
		if got(t, r.Maybe) != nil {
			t.Fatal("NULL is not nil")
		}
		calls(t, w, 0, "Get of NULL")
		r.Maybe = rowseal.NewSecret(new("set"))
		ok(t, w.db.Save(&r).Error)
		r = load[SecretRow](t, w.db, id)
		if v := got(t, r.Maybe); v == nil || *v != "set" {
			t.Fatal("not set")
		}
		r.Maybe = rowseal.NewSecret[*string](nil)
		ok(t, w.db.Save(&r).Error)
		if raw := w.cell(t, "secret_rows", "maybe", id); raw != nil {
			t.Errorf("maybe is %x", raw)
		}
		noteOf(t, w, id, "a")
	})
}

func TestSecretThatWasNotLoadedSaysSoAndIsKept(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		id := secret(t, w, "a")
		var r SecretRow
		ok(t, w.db.Select("ward").Take(&r, id).Error)
		_, err := r.Notes.Get(t.Context())
		fails(t, err, rowseal.ErrNotLoaded)
		ok(t, w.db.Save(&r).Error)
		noteOf(t, w, id, "a")
		if _, err := w.plain.Exec("UPDATE secret_rows SET ward = 'x' WHERE ward = "+w.bind(1), rowseal.NewSecret("canary")); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("a secret as a query argument: %v", err)
		}
	})
}

func TestSecretWhoseServiceIsDownOpensLater(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		w := open(t, kind, &SecretRow{})
		r := load[SecretRow](t, w.db, secret(t, w, "a"))
		w.kms.Before = func(context.Context, kmskeytest.Call) error { return down }
		_, err := r.Notes.Get(t.Context())
		fails(t, err, kmskey.ErrUnavailable, "SecretRow.Notes")
		w.kms.Before = nil
		if got(t, r.Notes) != "a" {
			t.Fatal("wrong value")
		}
	})
}
