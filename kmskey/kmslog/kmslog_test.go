package kmslog_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmslog"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// region is a local key that says where it is, keeps the data keys that it saw, and fails when told.
type region struct {
	*localkey.Provider
	name string
	fail error

	mu   sync.Mutex
	deks [][]byte
}

func newRegion(name string) *region { return &region{Provider: localkey.NewInsecure(), name: name} }

func (r *region) String() string { return "region(" + r.name + ")" }

func (r *region) Owns(w kmskey.Wrapped) bool { return w.KeyRef == r.name }

func (r *region) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	r.mu.Lock()
	r.deks = append(r.deks, bytes.Clone(dek.Bytes()))
	r.mu.Unlock()
	w, err := r.Provider.Wrap(ctx, dek, ec)
	if r.fail != nil || err != nil {
		return kmskey.Wrapped{}, cmp.Or(r.fail, err)
	}
	return kmskey.Wrapped{Service: "region", KeyRef: r.name, Blob: append([]byte(w.KeyRef+"\x00"), w.Blob...)}, nil
}

func (r *region) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if r.fail != nil {
		return kmskey.DEK{}, r.fail
	}
	ref, blob, _ := bytes.Cut(w.Blob, []byte{0})
	return r.Provider.Unwrap(ctx, kmskey.Wrapped{Service: "insecure-test", KeyRef: string(ref), Blob: blob}, ec)
}

// Values that no log may hold unasked.
const (
	canaryID     = 98765432198765
	canaryTenant = "tenant-canary-4711"
)

func row() kmskey.Row {
	return kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(canaryID)}, Context: func(int) ([]kmskey.Pair, error) {
		return []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(canaryID)}, {Name: "tenant", Value: kmskey.Text(canaryTenant)}}, nil
	}}
}

func keyring(t testing.TB, p kmskey.Provider, observers ...kmskey.Observer) *kmskey.Keyring {
	t.Helper()
	k, err := kmskey.New(kmskey.Config{Current: 3, Versions: map[int]kmskey.Version{3: {Provider: p}}, Observers: observers})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// records reads what a JSON handler wrote.
func records(t testing.TB, out string) (all []map[string]any) {
	t.Helper()
	for line := range strings.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// table gives the cells of a section's first table in docs/observability.md.
func table(t testing.TB, section string) (rows [][]string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	for line := range strings.Lines(rest) {
		if m := regexp.MustCompile("^\\| `").FindString(line); m != "" {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			for i := range cells {
				cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
			}
			rows = append(rows, cells)
		}
	}
	if !ok || len(rows) == 0 {
		t.Fatalf("docs/observability.md has no table in %q", section)
	}
	return rows
}

func TestNew_writes_the_attributes_of_the_document(t *testing.T) {
	var want []string
	for _, cells := range table(t, "Log records") {
		want = append(want, cells[0])
	}
	call := kmskey.Call{Op: "wrap", Version: 3, Provider: "region(east)", Model: "Patient", Key: "encrypted_kms_key"}
	own, _ := row().Context(3)
	var err error
	if call.Context, err = kmskey.NewContext(own...); err != nil {
		t.Fatal(err)
	}
	// No random bytes in here: in FIPS mode they take a clock that runs.
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		_, end := kmslog.New(slog.New(slog.NewJSONHandler(&out, nil)), kmslog.Config{ContextValues: true})(t.Context(), call)
		time.Sleep(30 * time.Millisecond)
		end(kmskey.Result{Service: "region", Err: &kmskey.Error{Op: "wrap", Service: "region", Kind: kmskey.ErrDenied, Err: errors.New("the cause")}})
		r := records(t, out.String())[0]
		var got []string
		for _, name := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(out.String(), -1) {
			if _, top := r[name[1]]; top && !slices.Contains([]string{"time", "level", "msg"}, name[1]) {
				got = append(got, name[1])
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
		for name, value := range map[string]any{
			"level": "ERROR", "msg": "kms call", "op": "wrap", "provider": "region(east)", "service": "region", "version": 3.0, "model": "Patient",
			"key": "encrypted_kms_key", "key_ref": "", "context": "{model_id tenant}", "outcome": "denied", "duration": 30e6,
			"error": "kmskey: wrap with region: access denied: the cause",
		} {
			if r[name] != value {
				t.Errorf("%s is %v, want %v", name, r[name], value)
			}
		}
		if got := fmt.Sprint(r["context_values"]); got != "map[model_id:98765432198765 tenant:tenant-canary-4711]" {
			t.Errorf("context_values are %s", got)
		}
	})
}

func TestNew_the_level_is_that_of_the_document(t *testing.T) {
	errs := map[string]error{
		"ok": nil, "not_rewrappable": kmskey.ErrNotRewrappable, "throttled": kmskey.ErrThrottled, "unavailable": kmskey.ErrUnavailable,
		"timeout": context.DeadlineExceeded, "cancelled": context.Canceled, "denied": kmskey.ErrDenied, "not_found": kmskey.ErrNotFound,
		"disabled": kmskey.ErrDisabled, "context_mismatch": kmskey.ErrContextMismatch, "foreign_key": kmskey.ErrForeignKey,
		"invalid": kmskey.ErrInvalid, "shredded": kmskey.ErrShredded, "error": errors.New("x"),
	}
	rows := table(t, "Outcomes")
	if len(rows) != len(errs) {
		t.Errorf("%d outcomes in the document, %d here", len(rows), len(errs))
	}
	for _, cells := range rows {
		var out strings.Builder
		observe := kmslog.New(slog.New(slog.NewJSONHandler(&out, nil)), kmslog.Config{})
		err, known := errs[cells[0]]
		_, end := observe(t.Context(), kmskey.Call{Op: "rewrap", KeyRef: "asked"})
		end(kmskey.Result{Err: err})
		if r := records(t, out.String())[0]; !known || r["outcome"] != cells[0] || r["level"] != cells[1] || r["key_ref"] != "asked" {
			t.Errorf("%s: %v", cells[0], r)
		}
	}
}

func TestNew_shows_no_secret_and_no_value_unasked(t *testing.T) {
	for _, asked := range []bool{false, true} {
		var out strings.Builder
		levels := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
		var observers []kmskey.Observer
		for _, h := range []slog.Handler{slog.NewJSONHandler(&out, levels), slog.NewTextHandler(&out, levels)} {
			observers = append(observers, kmslog.New(slog.New(h), kmslog.Config{ContextValues: asked}))
		}
		p := newRegion("east")
		k := keyring(t, p, observers...)
		e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), row())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(t.Context(), e, row()); err != nil {
			t.Fatal(err)
		}
		other := row()
		other.Context = nil
		if _, err := k.Unwrap(t.Context(), e, other); !errors.Is(err, kmskey.ErrContextMismatch) {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "kms call"); n != 6 {
			t.Fatalf("%d records", n)
		}
		dek := p.deks[0]
		for _, s := range []string{string(dek[:8]), hex.EncodeToString(dek[:8]), base64.StdEncoding.EncodeToString(dek[:6]), base64.URLEncoding.EncodeToString(dek[:6]),
			strings.Trim(fmt.Sprint(dek[:8]), "[]"), strings.Trim(fmt.Sprintf("%q", dek[:8]), `"`)} {
			if strings.Contains(out.String(), s) {
				t.Errorf("the data key is shown as %q", s)
			}
		}
		for _, s := range []string{fmt.Sprint(canaryID), canaryTenant} {
			if strings.Contains(out.String(), s) != asked {
				t.Errorf("asked for values: %t, and %s is there: %t", asked, s, !asked)
			}
		}
	}
}

func TestNew_shows_each_region(t *testing.T) {
	var out strings.Builder
	east, west := newRegion("east"), newRegion("west")
	m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: []kmskey.Provider{east, west}})
	if err != nil {
		t.Fatal(err)
	}
	k := keyring(t, m, kmslog.New(slog.New(slog.NewJSONHandler(&out, nil)), kmslog.Config{}))
	e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), row())
	if err != nil {
		t.Fatal(err)
	}
	east.fail = &kmskey.Error{Op: "unwrap", Service: "region", Kind: kmskey.ErrUnavailable}
	if _, err := k.Unwrap(t.Context(), e, row()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range records(t, out.String()) {
		got = append(got, fmt.Sprint(r["op"], " ", r["key_ref"], " ", r["provider"], " ", r["outcome"]))
	}
	slices.Sort(got[:2]) // both at once
	if want := []string{"wrap east region(east) ok", "wrap west region(west) ok", "unwrap east region(east) unavailable", "unwrap west region(west) ok"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestNew_writes_nothing_that_the_handler_does_not_want(t *testing.T) {
	var out strings.Builder
	k := keyring(t, newRegion("east"), kmslog.New(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})), kmslog.Config{}))
	if _, err := k.Wrap(t.Context(), kmskey.NewDataKey(), row()); err != nil || out.Len() != 0 {
		t.Errorf("%v, %s", err, &out)
	}
	if kmslog.New(nil, kmslog.Config{}) == nil {
		t.Error("no observer without a logger")
	}
}

func TestNew_is_safe_for_concurrent_use(t *testing.T) {
	var out strings.Builder
	k := keyring(t, newRegion("east"), kmslog.New(slog.New(slog.NewJSONHandler(&out, nil)), kmslog.Config{ContextValues: true}))
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), row())
			if err == nil {
				_, err = k.Unwrap(t.Context(), e, row())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(records(t, out.String())); n != 200 {
		t.Errorf("%d records", n)
	}
}

func Example() {
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" || a.Key == "key_ref" {
			return slog.Attr{} // for an output that stays the same
		}
		return a
	}}))
	keys, _ := kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}},
		Observers: []kmskey.Observer{kmslog.New(logger, kmslog.Config{})},
	})
	exports, _ := kmskey.NewBox(keys, "exports")
	_, _ = exports.Seal(context.Background(), []byte("secret"), kmskey.Pair{Name: "report", Value: kmskey.Int(7)})
	// Output:
	// level=INFO msg="kms call" op=wrap provider=localkey.Provider(insecure-test:d5b4bae1fdec7342) service=insecure-test version=1 model=rowseal/box key=exports context={report} outcome=ok
}
