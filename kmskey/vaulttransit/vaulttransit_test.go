package vaulttransit_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func says(t testing.TB, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) || err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%v\nis not %q, or does not say %q", err, kind, text)
	}
}

func provider(t testing.TB, call vaulttransit.Caller, key string) *vaulttransit.Provider {
	t.Helper()
	p, err := vaulttransit.New(call, key, vaulttransit.Config{Timeout: 5 * time.Minute}) // no claim here is about time
	must(t, err)
	return p
}

func row(t testing.TB, id int64) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(id)})
	must(t, err)
	return ec
}

// TestConformance runs the suite over net/http against the fake. Vault's own engine and its vendors' clients are in
// integration/transit.
func TestConformance(t *testing.T) {
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			f := newFake(t, "app", "other")
			f.denied = map[string]string{"reader": "encrypt", "writer": "decrypt"}
			fault := func(status int, message string) func(*testing.T) func() {
				return func(*testing.T) func() {
					f.breakWith(func(w http.ResponseWriter, _ *http.Request) bool { f.answer(w, status, nil, message); return true })
					return func() { f.breakWith(nil) }
				}
			}
			return kmskeytest.Subject{
				Provider:    provider(t, f.caller("app"), "app"),
				ForeignRefs: []string{"transit/keys/other:v1", "team/transit/keys/app:v1", "transit/keys/app", "transit/keys/app:v0", "transit/keys/app:v01", "transit/keys/app:v4294967297"},
				Calls:       func() int { return int(f.calls.Load()) },
				Remove: func(*testing.T) {
					f.mu.Lock()
					defer f.mu.Unlock()
					delete(f.keys, "app")
				},
				Outage:   fault(503, "Vault is sealed"),
				Throttle: fault(429, "rate limit quota exceeded"),
				Hang: func(*testing.T) (<-chan struct{}, func()) {
					arrived := make(chan struct{}, 1)
					f.breakWith(func(_ http.ResponseWriter, r *http.Request) bool {
						arrived <- struct{}{}
						<-r.Context().Done()
						return true
					})
					return arrived, func() { f.breakWith(nil) }
				},
				DenyWrap:   func(t *testing.T) kmskey.Provider { return provider(t, f.caller("reader"), "app") },
				DenyUnwrap: func(t *testing.T) kmskey.Provider { return provider(t, f.caller("writer"), "app") },
				Other:      func(t *testing.T) kmskey.Provider { return provider(t, f.caller("app"), "other") },
			}
		},
		NotApplicable: map[string]string{
			"disabled":         "Vault disables versions of a key, not the key",
			"rewrap_context":   "the context derives the key, so Vault would have to be told both",
			"sibling":          "Vault rewraps within one key",
			"generate":         "data keys are made locally; transit/datakey is not used",
			"generate_wrapped": "data keys are made locally; transit/datakey is not used",
		},
	})
}

func TestNew(t *testing.T) {
	refuse := func(context.Context, string, map[string]any) (map[string]any, error) { panic("New made a call") }
	for _, key := range []string{"a", "app", "app-2.prod_x", "_app", "A9"} {
		for _, mount := range []string{"", "transit", "team/transit", "a/b/c-d.e_f"} {
			if _, err := vaulttransit.New(refuse, key, vaulttransit.Config{Mount: mount}); err != nil {
				t.Error(err)
			}
		}
	}
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		name, key string
		cfg       vaulttransit.Config
		says      string
	}{
		{"no_key", "", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_path", "keys/app", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_parent", "..", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_query", "app?x", vaulttransit.Config{}, "expected the name of a transit key"},
		{"an_escape", "app%2e", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_colon", "app:v1", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_space", "app ", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_hyphen_at_the_end", "app-", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_dot_at_the_start", ".app", vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_very_long_one", long, vaulttransit.Config{}, "expected the name of a transit key"},
		{"a_mount_with_a_slash_after_it", "app", vaulttransit.Config{Mount: "transit/"}, "Config.Mount"},
		{"a_mount_with_a_slash_before_it", "app", vaulttransit.Config{Mount: "/transit"}, "Config.Mount"},
		{"a_mount_that_goes_up", "app", vaulttransit.Config{Mount: "team/../transit"}, "Config.Mount"},
		{"a_mount_with_a_colon", "app", vaulttransit.Config{Mount: "a:b"}, "Config.Mount"},
		{"a_very_long_mount", "app", vaulttransit.Config{Mount: long}, "Config.Mount"},
		{"negative_timeout", "app", vaulttransit.Config{Timeout: -1}, "Config.Timeout"},
	} {
		t.Run(c.name+"_is_refused", func(t *testing.T) {
			p, err := vaulttransit.New(refuse, c.key, c.cfg)
			if p != nil || err == nil || !strings.HasPrefix(err.Error(), "vaulttransit: new provider: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, %v", p, err)
			} else if strings.Contains(err.Error(), long) {
				t.Error("the whole name is repeated")
			}
		})
	}
	if _, err := vaulttransit.New(nil, "app", vaulttransit.Config{}); err == nil || !strings.Contains(err.Error(), "no Caller") {
		t.Error(err)
	}
	if got := fmt.Sprint(provider(t, refuse, "app"), (*vaulttransit.Provider)(nil)); got != "vaulttransit.Provider(transit/keys/app) vaulttransit.Provider(nil)" {
		t.Error(got)
	}
}

// answering is a Caller whose answers change gets after the fake has made them.
func answering(call vaulttransit.Caller, change func(path string, in, out map[string]any) (map[string]any, error)) vaulttransit.Caller {
	return func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		out, err := call(ctx, path, in)
		if err != nil || in["context"] == "" { // the question whether the key is derived
			return out, err
		}
		return change(path, in, out)
	}
}

// everything is each error inside err in each form in which a logger may print it.
func everything(err error) string {
	if err == nil {
		return ""
	}
	text := fmt.Sprintf("%v %+v %#v\n", err, err, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		text += everything(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text += everything(inner)
		}
	}
	return text
}

// TestAnswers: the service's answers are checked too.
func TestAnswers(t *testing.T) {
	f := newFake(t, "app")
	good := provider(t, f.caller(""), "app")
	dek := kmskey.NewDEK()
	w, err := good.Wrap(t.Context(), dek, row(t, 1))
	must(t, err)
	set := func(name string, v any) func(string, map[string]any, map[string]any) (map[string]any, error) {
		return func(_ string, _, out map[string]any) (map[string]any, error) {
			out = maps.Clone(out)
			out[name] = v
			return out, nil
		}
	}
	blob := string(w.Blob)
	for name, v := range map[string]any{
		"nothing": nil, "a_number": 7.0, "empty": "", "no_version": "vault:" + blob[9:], "version_0": "vault:v0:" + blob[9:], "another_prefix": "bao:v1:" + blob[9:],
		"not_base64": "vault:v1:!!!!" + blob[13:], "cut": blob[:len(blob)-4], "cut_inside_a_group": blob[:len(blob)-1], "line_break": blob + "\n", "unpadded_bits": blob[:len(blob)-4] + "AAB=",
		"too_long": "vault:v1:" + strings.Repeat("A", 4096),
	} {
		t.Run("a_ciphertext_that_could_not_be_read_is_not_stored/"+name, func(t *testing.T) {
			p := provider(t, answering(f.caller(""), set("ciphertext", v)), "app")
			got, err := p.Wrap(t.Context(), dek, row(t, 1))
			says(t, err, kmskey.ErrInvalid, "is that Vault's transit engine")
			moved, err := p.Rewrap(t.Context(), p, w, row(t, 1), row(t, 1))
			says(t, err, kmskey.ErrInvalid, "is that Vault's transit engine")
			if got.Blob != nil || moved.Blob != nil {
				t.Error("something was given out")
			}
		})
	}
	for name, c := range map[string]struct {
		v    any
		says string
	}{
		"nothing": {nil, "the answer has no plaintext"}, "a_number": {7.0, "the answer has no plaintext"}, "not_base64": {"c2VjcmV0!", "not base64"},
		"short": {"c2VjcmV0", "made by something else"}, "empty": {"", "made by something else"},
	} {
		t.Run("a_plaintext_that_is_no_data_key_is_refused/"+name, func(t *testing.T) {
			p := provider(t, answering(f.caller(""), set("plaintext", c.v)), "app")
			got, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, kmskey.ErrInvalid, c.says)
			if !got.IsZero() || strings.Contains(everything(err), "c2Vj") || strings.Contains(everything(err), "secret") {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("an_answer_without_data_is_refused", func(t *testing.T) {
		p := provider(t, answering(f.caller(""), func(string, map[string]any, map[string]any) (map[string]any, error) { return nil, nil }), "app")
		_, err := p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "does the client wrap no responses")
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "does the client wrap no responses")
		says(t, p.WrapBatch(t.Context(), []vaulttransit.WrapItem{{DEK: dek, Context: row(t, 1)}})[0].Err, kmskey.ErrInvalid, "0 results for a batch of 1")
		says(t, p.Check(t.Context()), kmskey.ErrNotFound, "check mount, name")
	})
	t.Run("another_refusal_of_the_probe_proves_nothing", func(t *testing.T) {
		said := "something else"
		p := provider(t, func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
			if in["context"] == "" {
				return nil, &vaulttransit.StatusError{Status: 400, Messages: []string{said}}
			}
			return f.caller("")(ctx, path, in)
		}, "app")
		_, err := p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "something else")
		said = "encryption key not found" // it was deleted in between
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		says(t, err, kmskey.ErrNotFound, "")
		said = "missing 'context' for key derivation; …"
		_, err = p.Unwrap(t.Context(), w, row(t, 1))
		must(t, err)
	})
	t.Run("an_empty_answer_to_the_probe_is_no_refusal", func(t *testing.T) {
		p := provider(t, func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
			if in["context"] == "" {
				return nil, nil
			}
			return f.caller("")(ctx, path, in)
		}, "app")
		_, err := p.Wrap(t.Context(), dek, row(t, 1))
		says(t, err, kmskey.ErrInvalid, "is not derived")
	})
}

// TestBatchAnswers: an answer goes to the row whose reference it has, or to none.
func TestBatchAnswers(t *testing.T) {
	f := newFake(t, "app")
	plain := []vaulttransit.WrapItem{{DEK: kmskey.NewDEK(), Context: row(t, 1)}, {DEK: kmskey.NewDEK(), Context: row(t, 2)}, {DEK: kmskey.NewDEK(), Context: row(t, 3)}}
	change := func(do func(results []any) []any) *vaulttransit.Provider {
		return provider(t, answering(f.caller(""), func(_ string, _, out map[string]any) (map[string]any, error) {
			results, ok := out["batch_results"].([]any)
			if !ok {
				return out, nil
			}
			return map[string]any{"batch_results": do(results)}, nil
		}), "app")
	}
	for name, c := range map[string]struct {
		do   func([]any) []any
		says string
	}{
		"exchanged":            {func(r []any) []any { r[0], r[1] = r[1], r[0]; return r }, "result 1 of a batch does not name its item"},
		"one_less":             {func(r []any) []any { return r[:2] }, "2 results for a batch of 3"},
		"one_more":             {func(r []any) []any { return append(r, r[0]) }, "4 results for a batch of 3"},
		"one_twice":            {func(r []any) []any { r[2] = r[1]; return r }, "result 3 of a batch does not name its item"},
		"one_is_no_object":     {func(r []any) []any { r[2] = "x"; return r }, "result 3 of a batch does not name its item"},
		"one_has_no_reference": {func(r []any) []any { delete(r[1].(map[string]any), "reference"); return r }, "result 2 of a batch does not name its item"},
	} {
		t.Run(name, func(t *testing.T) {
			p := change(c.do)
			for _, r := range p.WrapBatch(t.Context(), plain) {
				says(t, r.Err, kmskey.ErrInvalid, c.says)
				if r.Wrapped.Blob != nil {
					t.Error("something was given out")
				}
			}
		})
	}
	t.Run("an_error_that_is_no_text", func(t *testing.T) {
		p := change(func(r []any) []any { r[1].(map[string]any)["error"] = 7.0; return r })
		results := p.WrapBatch(t.Context(), plain)
		must(t, errors.Join(results[0].Err, results[2].Err))
		says(t, results[1].Err, kmskey.ErrInvalid, "status 400")
	})
	t.Run("unchanged", func(t *testing.T) {
		p := change(func(r []any) []any { return r })
		var items []vaulttransit.WrappedItem
		for i, r := range p.WrapBatch(t.Context(), plain) {
			must(t, r.Err)
			items = append(items, vaulttransit.WrappedItem{Wrapped: r.Wrapped, Context: plain[i].Context})
		}
		f.rotate("app")
		for i, r := range p.RewrapBatch(t.Context(), items) {
			must(t, r.Err)
			if r.Wrapped.KeyRef != "transit/keys/app:v2" {
				t.Error(r.Wrapped.KeyRef)
			}
			items[i].Wrapped = r.Wrapped
		}
		for i, r := range p.UnwrapBatch(t.Context(), items) {
			must(t, r.Err)
			if !bytes.Equal(r.DEK.Bytes(), plain[i].DEK.Bytes()) {
				t.Errorf("row %d has the key of another", i)
			}
		}
	})
}

// TestBatchThatFailsAsAWhole: the vendors' clients keep nothing of the answer to a batch of which every item failed.
func TestBatchThatFailsAsAWhole(t *testing.T) {
	f := newFake(t, "app")
	p := provider(t, f.caller(""), "app")
	items := make([]vaulttransit.WrappedItem, 4)
	for i := range items {
		w, err := p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
		must(t, err)
		items[i] = vaulttransit.WrappedItem{Wrapped: w, Context: row(t, 2)}
	}
	before := f.calls.Load()
	for _, r := range p.UnwrapBatch(t.Context(), items) {
		says(t, r.Err, kmskey.ErrContextMismatch, "message authentication failed")
	}
	if got := f.calls.Load() - before; got != 1+4 {
		t.Errorf("%d requests", got)
	}
	t.Run("and_then_meets_trouble", func(t *testing.T) {
		n := 0
		f.breakWith(func(w http.ResponseWriter, _ *http.Request) bool {
			if n++; n == 3 {
				f.answer(w, 503, nil, "Vault is sealed")
			}
			return n == 3
		})
		defer f.breakWith(nil)
		for i, r := range p.UnwrapBatch(t.Context(), items) {
			says(t, r.Err, []error{kmskey.ErrContextMismatch, kmskey.ErrUnavailable, kmskey.ErrUnavailable, kmskey.ErrUnavailable}[i], "")
		}
		if n != 3 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestCheck: what the key says of itself. integration/transit asks Vault's own keys.
func TestCheck(t *testing.T) {
	good := map[string]any{"type": "aes256-gcm96", "derived": true, "convergent_encryption": false, "exportable": false, "allow_plaintext_backup": false, "deletion_allowed": false}
	for _, c := range []struct {
		name string
		v    any
		says string
	}{
		{"type", "aes256-gcm96", ""},
		{"type", "rsa-2048", `of type "rsa-2048"`}, {"type", nil, `of type ""`},
		{"derived", false, "is not derived"}, {"derived", nil, "is not derived"}, {"derived", "true", "is not derived"},
		{"convergent_encryption", true, "convergent"}, {"exportable", true, "exported"}, {"allow_plaintext_backup", true, "backed up in the clear"},
		{"deletion_allowed", true, "deletion_allowed=false"},
	} {
		t.Run(fmt.Sprintf("%s_%v", c.name, c.v), func(t *testing.T) {
			p := provider(t, func(_ context.Context, path string, in map[string]any) (map[string]any, error) {
				if path != "transit/keys/app" || in != nil {
					t.Errorf("asked for %s with %v", path, in)
				}
				out := maps.Clone(good)
				out[c.name] = c.v
				return out, nil
			}, "app")
			err := p.Check(t.Context())
			if c.says == "" {
				must(t, err)
				return
			}
			says(t, err, kmskey.ErrInvalid, c.says)
		})
	}
	p := provider(t, func(context.Context, string, map[string]any) (map[string]any, error) {
		return nil, &vaulttransit.StatusError{Status: 403}
	}, "app")
	says(t, p.Check(t.Context()), kmskey.ErrDenied, `allow this token "read" on transit/keys/app`)
}

// TestNoDataKeyInErrors: whatever a proxy answers, and a client says of its request.
func TestNoDataKeyInErrors(t *testing.T) {
	dek := kmskey.NewDEK()
	encoded := base64.StdEncoding.EncodeToString(dek.Bytes())
	item := []vaulttransit.WrapItem{{DEK: kmskey.NewDEK(), Context: row(t, 1)}, {DEK: dek, Context: row(t, 2)}}
	for name, err := range map[string]error{
		"the_client's_text":     fmt.Errorf("curl -d '{\"plaintext\":\"%s\"}'", encoded),
		"a_proxy's_answer":      &vaulttransit.StatusError{Status: 403, Messages: []string{"refused: " + encoded}},
		"the_end_of_a_long_one": &vaulttransit.StatusError{Status: 403, Messages: []string{strings.Repeat("x", 1000) + encoded}},
	} {
		t.Run(name, func(t *testing.T) {
			p := provider(t, func(context.Context, string, map[string]any) (map[string]any, error) { return nil, err }, "app")
			_, single := p.Wrap(t.Context(), dek, row(t, 1))
			for _, err := range []error{single, p.WrapBatch(t.Context(), item)[0].Err, p.WrapBatch(t.Context(), item)[1].Err} {
				if err == nil || strings.Contains(everything(err), encoded) || strings.Contains(everything(err), encoded[:12]) {
					t.Error("the data key is in the error, or there is none")
				}
			}
			if kind := kmskey.ErrDenied; strings.Contains(name, "proxy") && !errors.Is(single, kind) {
				t.Errorf("%v is not %q", single, kind)
			}
		})
	}
}

// TestStatusError: what callers branch on, by status and text. integration/transit gets most of these from Vault itself.
func TestStatusError(t *testing.T) {
	f := newFake(t, "app")
	w, err := provider(t, f.caller(""), "app").Wrap(t.Context(), kmskey.NewDEK(), row(t, 1))
	must(t, err)
	for _, c := range []struct {
		status   int
		messages []string
		kind     error
		says     string
	}{
		{403, []string{"1 error occurred:\n\t* permission denied\n\n"}, kmskey.ErrDenied, `status 403: 1 error occurred: * permission denied; allow this token "update" on transit/decrypt/app`},
		{403, []string{"permission denied", "invalid token"}, kmskey.ErrDenied, "check the client's token"},
		{400, []string{"missing client token"}, kmskey.ErrDenied, "check the client's token"},
		{401, nil, kmskey.ErrDenied, "status 401; allow"},
		{404, nil, kmskey.ErrNotFound, `is a transit engine mounted at "transit"`},
		{400, []string{"encryption key not found"}, kmskey.ErrNotFound, "vault write -f transit/keys/app derived=true"},
		{400, []string{"no such key version"}, kmskey.ErrNotFound, "trimmed"},
		{400, []string{"ciphertext or signature version is disallowed by policy (too old)"}, kmskey.ErrDisabled, "min_decryption_version"},
		{400, []string{"refusing to use soft-deleted key"}, kmskey.ErrDisabled, "restore it"},
		{400, []string{"cipher: message authentication failed"}, kmskey.ErrContextMismatch, ""},
		{400, []string{"invalid ciphertext: no prefix"}, kmskey.ErrContextMismatch, ""},
		{400, nil, kmskey.ErrInvalid, "status 400"},
		{400, []string{"unknown key type"}, kmskey.ErrInvalid, ""},
		{408, nil, kmskey.ErrUnavailable, ""},
		{412, nil, kmskey.ErrUnavailable, ""},
		{429, nil, kmskey.ErrThrottled, "lower the concurrency"},
		{500, []string{"1 error occurred"}, kmskey.ErrUnavailable, ""},
		{503, []string{"Vault is sealed"}, kmskey.ErrUnavailable, "unseal Vault"},
		{503, []string{"overloaded"}, kmskey.ErrUnavailable, "overloaded"},
		{599, nil, kmskey.ErrUnavailable, ""},
		{301, nil, kmskey.ErrInvalid, "status 301"},
		{0, nil, kmskey.ErrInvalid, ""},
	} {
		t.Run(fmt.Sprintf("%d_%.30q", c.status, c.messages), func(t *testing.T) {
			p := provider(t, func(context.Context, string, map[string]any) (map[string]any, error) {
				return nil, fmt.Errorf("wrapped: %w", &vaulttransit.StatusError{Status: c.status, Messages: c.messages})
			}, "app")
			_, err := p.Unwrap(t.Context(), w, row(t, 1))
			says(t, err, c.kind, c.says)
			if e, ok := errors.AsType[*vaulttransit.StatusError](err); !ok || e.Status != c.status {
				t.Errorf("the cause is lost: %v", err)
			}
		})
	}
	t.Run("a_text_of_any_length_is_cut", func(t *testing.T) {
		got := (&vaulttransit.StatusError{Status: 502, Messages: []string{strings.Repeat("é", 1000)}}).Error()
		if len(got) > 350 || !strings.HasSuffix(got, "é…") {
			t.Errorf("%q", got)
		}
	})
}

// TestWaitingForTheProbe: an act whose context ends while another asks whether the key is derived does not wait for it.
func TestWaitingForTheProbe(t *testing.T) {
	f := newFake(t, "app")
	probing, release, answered := make(chan struct{}), make(chan struct{}), make(chan struct{}, 8)
	p := provider(t, func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		if in["context"] == "" {
			close(probing)
			<-release
		}
		out, err := f.caller("")(ctx, path, in)
		answered <- struct{}{}
		return out, err
	}, "app")
	wrap := func(ctx context.Context, id int64) <-chan error {
		done := make(chan error, 1)
		go func() { _, err := p.Wrap(ctx, kmskey.NewDEK(), row(t, id)); done <- err }()
		return done
	}
	first := wrap(t.Context(), 1)
	<-answered
	<-probing
	ctx, cancel := context.WithCancel(t.Context())
	second := wrap(ctx, 2)
	<-answered
	cancel()
	err := <-second
	says(t, err, kmskey.ErrUnavailable, "")
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(release)
	must(t, <-first)
	_, err = p.Wrap(t.Context(), kmskey.NewDEK(), row(t, 3))
	must(t, err)
}
