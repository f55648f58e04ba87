package kmskeytest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// broken is a working provider with one fault. Its methods call the fields where they are set.
type broken struct {
	good   kmskey.Provider
	wrap   func(ctx context.Context, good kmskey.Provider, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error)
	unwrap func(ctx context.Context, good kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error)
	owns   func(good kmskey.Provider, w kmskey.Wrapped) bool
}

func (b broken) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	if b.wrap != nil {
		return b.wrap(ctx, b.good, dek, ec)
	}
	return b.good.Wrap(ctx, dek, ec)
}

func (b broken) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if b.unwrap != nil {
		return b.unwrap(ctx, b.good, w, ec)
	}
	return b.good.Unwrap(ctx, w, ec)
}

func (b broken) Owns(w kmskey.Wrapped) bool {
	if b.owns != nil {
		return b.owns(b.good, w)
	}
	return b.good.(kmskey.Owner).Owns(w)
}

// brokenProviders is faults that the suite must find, and the subtest that must find each.
func brokenProviders() map[string]struct {
	b    broken
	seen string
} {
	type P = kmskey.Provider
	type W = kmskey.Wrapped
	type D = kmskey.DEK
	type C = kmskey.Context
	var kept = make(map[string]D)
	return map[string]struct {
		b    broken
		seen string
	}{
		"ignores_the_context": {broken{
			wrap:   func(ctx context.Context, p P, d D, _ C) (W, error) { return p.Wrap(ctx, d, C{}) },
			unwrap: func(ctx context.Context, p P, w W, _ C) (D, error) { return p.Unwrap(ctx, w, C{}) },
		}, "another_context_is_refused"},
		"ignores_types_without_saying_so": {broken{
			wrap:   func(ctx context.Context, p P, d D, ec C) (W, error) { return p.Wrap(ctx, d, untyped(ec)) },
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) { return p.Unwrap(ctx, w, untyped(ec)) },
		}, "every_type_of_context_value_binds"},
		"accepts_foreign_key_references": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				w.KeyRef = localkey.NewInsecure().KeyRef()
				return p.Unwrap(ctx, w, ec)
			},
		}, "a_foreign_key_reference_is_refused_before_any_call"},
		"accepts_other_services": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				w.Service = localkey.ServiceInsecure
				return p.Unwrap(ctx, w, ec)
			},
		}, "another_service_is_refused_before_any_call"},
		"opens_by_whichever_key_fits": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				d, err := p.Unwrap(ctx, w, ec)
				if errors.Is(err, kmskey.ErrContextMismatch) {
					other, _ := localkey.New(bytes.Repeat([]byte{7}, 32), localkey.Config{})
					w.KeyRef = other.KeyRef()
					if d, err := (another{other}).Unwrap(ctx, w, ec); err == nil {
						return d, nil
					}
				}
				return d, err
			},
		}, "a_blob_of_another_key_is_refused"},
		"prints_the_key": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				d, err := p.Unwrap(ctx, w, ec)
				if err != nil {
					for _, d := range kept {
						err = fmt.Errorf("%w (keys so far: %x)", err, d.Bytes())
					}
				}
				return d, err
			},
			wrap: func(ctx context.Context, p P, d D, ec C) (W, error) {
				if !d.IsZero() {
					clear(kept)
					kept[""], _ = kmskey.DEKFromBytes(d.Bytes())
				}
				return p.Wrap(ctx, d, ec)
			},
		}, "another_context_is_refused"},
		"has_errors_without_a_kind": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				d, err := p.Unwrap(ctx, w, ec)
				if err != nil {
					err = errors.New("failed")
				}
				return d, err
			},
		}, "an_altered_blob_is_refused"},
		"has_errors_of_two_kinds": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				d, err := p.Unwrap(ctx, w, ec)
				if err != nil {
					err = errors.Join(err, kmskey.ErrInvalid)
				}
				return d, err
			},
		}, "an_altered_blob_is_refused"},
		"gives_a_key_with_an_error": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				d, err := p.Unwrap(ctx, w, ec)
				if err != nil {
					d = kmskey.NewDEK()
				}
				return d, err
			},
		}, "another_context_is_refused"},
		"stores_the_key_in_the_clear": {broken{
			wrap: func(ctx context.Context, p P, d D, ec C) (W, error) {
				w, err := p.Wrap(ctx, d, ec)
				if err == nil {
					w.Blob = append(w.Blob, d.Bytes()...)
				}
				return w, err
			},
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				w.Blob = w.Blob[:max(0, len(w.Blob)-32)]
				return p.Unwrap(ctx, w, ec)
			},
		}, "two_wraps_of_one_key_differ"},
		"ignores_what_follows_the_blob": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				w.Blob = w.Blob[:min(len(w.Blob), 77)]
				return p.Unwrap(ctx, w, ec)
			},
		}, "a_blob_of_another_length_is_refused"},
		"panics_at_a_zero_key": {broken{
			wrap: func(ctx context.Context, p P, d D, ec C) (W, error) { _ = d.Bytes(); return p.Wrap(ctx, d, ec) },
		}, "a_data_key_that_holds_no_key_is_refused"},
		"destroys_the_key_it_wraps": {broken{
			wrap: func(ctx context.Context, p P, d D, ec C) (W, error) { defer d.Destroy(); return p.Wrap(ctx, d, ec) },
		}, "inputs_are_neither_changed_nor_kept"},
		"clears_the_blob_it_unwraps": {broken{
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) { defer clear(w.Blob); return p.Unwrap(ctx, w, ec) },
		}, "inputs_are_neither_changed_nor_kept"},
		"ignores_cancellation": {broken{
			wrap:   func(_ context.Context, p P, d D, ec C) (W, error) { return p.Wrap(context.Background(), d, ec) },
			unwrap: func(_ context.Context, p P, w W, ec C) (D, error) { return p.Unwrap(context.Background(), w, ec) },
		}, "a_cancelled_context_gives_its_error"},
		"normalises_unicode": {broken{
			wrap:   func(ctx context.Context, p P, d D, ec C) (W, error) { return p.Wrap(ctx, d, ascii(ec)) },
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) { return p.Unwrap(ctx, w, ascii(ec)) },
		}, "unicode_in_contexts_is_taken_as_it_is"},
		"owns_everything": {broken{owns: func(P, W) bool { return true }}, "it_knows_its_own_wraps_without_a_call"},
		"owns_nothing":    {broken{owns: func(P, W) bool { return false }}, "it_knows_its_own_wraps_without_a_call"},
		"owns_what_other_services_wrapped": {broken{
			owns: func(p P, w W) bool { return w.KeyRef == localkey.NewInsecure().KeyRef() },
		}, "it_knows_its_own_wraps_without_a_call"},
		"owns_what_opens_and_not_what_is_its_own": {broken{
			owns: func(p P, w W) bool { return len(w.Blob) > 0 && p.(kmskey.Owner).Owns(w) },
		}, "it_knows_its_own_wraps_without_a_call"},
		"names_no_service": {broken{
			wrap: func(ctx context.Context, p P, d D, ec C) (W, error) {
				w, err := p.Wrap(ctx, d, ec)
				if err == nil {
					w.Service = ""
				}
				return w, err
			},
			unwrap: func(ctx context.Context, p P, w W, ec C) (D, error) {
				if w.Service == "" {
					w.Service = localkey.ServiceInsecure
				}
				return p.Unwrap(ctx, w, ec)
			},
		}, "what_wrap_answers_fits_an_envelope"},
	}
}

func untyped(ec kmskey.Context) kmskey.Context {
	var pairs []kmskey.Pair
	for name, v := range ec.Pairs() {
		pairs = append(pairs, kmskey.Pair{Name: name, Value: kmskey.Text(v.String())})
	}
	out, _ := kmskey.NewContext(pairs...)
	return out
}

// ascii drops what is not ASCII, as a stand-in for a normalisation.
func ascii(ec kmskey.Context) kmskey.Context {
	var pairs []kmskey.Pair
	for name, v := range ec.Pairs() {
		s := strings.Map(func(r rune) rune {
			if r > 127 {
				return -1
			}
			return r
		}, strings.ReplaceAll(v.String(), "ë", "e"))
		pairs = append(pairs, kmskey.Pair{Name: name, Value: kmskey.Text(s)})
	}
	out, _ := kmskey.NewContext(pairs...)
	return out
}

// another is a second key of the insecure key's service.
type another struct{ key *localkey.Provider }

func (a another) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	w, err := a.key.Wrap(ctx, dek, ec)
	if err == nil {
		w.Service = localkey.ServiceInsecure
	}
	return w, err
}

func (a another) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	w.Service = localkey.Service
	return a.key.Unwrap(ctx, w, ec)
}

func harness(p kmskey.Provider) kmskeytest.Harness {
	na := make(map[string]string)
	for _, name := range []string{"calls", "disabled", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap", "sibling"} {
		na[name] = "a local key has no service"
	}
	_, rewraps := p.(kmskey.Rewrapper)
	_, owns := p.(kmskey.Owner)
	_, generates := p.(kmskey.Generator)
	_, blind := p.(kmskey.BlindGenerator)
	for name, has := range map[string]bool{"rewrap": rewraps, "owner": owns, "generate": generates, "generate_wrapped": blind} {
		if !has {
			na[name] = "this one has not got it"
		}
	}
	other, _ := localkey.New(bytes.Repeat([]byte{7}, 32), localkey.Config{})
	return kmskeytest.Harness{
		New: func(*testing.T) kmskeytest.Subject {
			return kmskeytest.Subject{Provider: p, ForeignRefs: []string{other.KeyRef()}, Other: func(*testing.T) kmskey.Provider { return another{other} }}
		},
		NotApplicable: na,
	}
}

// generating adds the drawing of data keys to a provider, with a fault where one is set.
type generating struct {
	kmskey.Provider
	fault func(dek kmskey.DEK, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, kmskey.Wrapped)
	fixed *kmskey.DEK // drawn each time
	deaf  bool        // to its context.Context
}

func (g generating) Generate(ctx context.Context, ec kmskey.Context) (kmskey.DEK, kmskey.Wrapped, error) {
	dek := kmskey.NewDEK()
	if g.fixed != nil {
		dek, _ = kmskey.DEKFromBytes(g.fixed.Bytes())
	}
	if g.deaf {
		ctx = context.Background()
	}
	w, err := g.Wrap(ctx, dek, ec)
	if err != nil {
		return kmskey.DEK{}, kmskey.Wrapped{}, err
	}
	if g.fault != nil {
		dek, w = g.fault(dek, w, ec)
	}
	return dek, w, nil
}

func (g generating) GenerateWrapped(ctx context.Context, ec kmskey.Context) (kmskey.Wrapped, error) {
	_, w, err := g.Generate(ctx, ec)
	return w, err
}

// brokenGenerators is faults of generated keys. Each must be found where keys are shown, and where they are not unless shown says so.
func brokenGenerators() map[string]struct {
	g     generating
	shown bool
} {
	type D = kmskey.DEK
	type W = kmskey.Wrapped
	good, ctx, fixed := localkey.NewInsecure(), context.Background(), kmskey.NewDEK()
	return map[string]struct {
		g     generating
		shown bool
	}{
		"gives_another_key_than_it_wrapped": {generating{good, func(_ D, w W, _ kmskey.Context) (D, W) { return kmskey.NewDEK(), w }, nil, false}, true},
		"gives_no_key":                      {generating{good, func(_ D, w W, _ kmskey.Context) (D, W) { return kmskey.DEK{}, w }, nil, false}, true},
		"generates_without_the_context": {generating{good, func(d D, _ W, _ kmskey.Context) (D, W) {
			w, _ := good.Wrap(ctx, d, kmskey.Context{})
			return d, w
		}, nil, false}, false},
		"names_another_key":            {generating{good, func(d D, w W, _ kmskey.Context) (D, W) { w.KeyRef += "0"; return d, w }, nil, false}, false},
		"draws_the_same_twice":         {generating{good, nil, &fixed, false}, false},
		"generates_after_cancellation": {generating{good, nil, nil, true}, false},
	}
}

// rewrapping adds rewrapping to a provider, to another context or not.
type rewrapping struct {
	kmskey.Provider
	fixed bool // refuses to change the context
}

func (r rewrapping) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	if source != kmskey.Provider(r) || r.fixed && !from.Equal(to) {
		return kmskey.Wrapped{}, &kmskey.Error{Op: "rewrap", Service: "test", Kind: kmskey.ErrNotRewrappable}
	}
	dek, err := r.Unwrap(ctx, w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return r.Wrap(ctx, dek, to)
}

func rewrappingHarness(fixed, excused bool) kmskeytest.Harness {
	h := harness(rewrapping{localkey.NewInsecure(), fixed})
	if excused {
		h.NotApplicable["rewrap_context"] = "rewraps under an unchanged context alone"
	}
	return h
}

// brokenHarnesses is harnesses that the suite must refuse.
func brokenHarnesses() map[string]kmskeytest.Harness {
	unexcused := harness(localkey.NewInsecure())
	delete(unexcused.NotApplicable, "outage")
	blank := harness(localkey.NewInsecure())
	blank.NotApplicable["outage"] = " "
	unknown := harness(localkey.NewInsecure())
	unknown.NotApplicable["outrage"] = "misspelt"
	stale := harness(localkey.NewInsecure())
	stale.NotApplicable["context_type"] = "says that types do not count, and they do"
	same := harness(localkey.NewInsecure())
	same.New = func(*testing.T) kmskeytest.Subject {
		p := localkey.NewInsecure()
		return kmskeytest.Subject{Provider: p, ForeignRefs: []string{"x"}, Other: func(*testing.T) kmskey.Provider { return p }}
	}
	powerless := harness(struct{ kmskey.Provider }{localkey.NewInsecure()})
	delete(powerless.NotApplicable, "owner")
	return map[string]kmskeytest.Harness{
		"no_excuse":                          unexcused,
		"a_blank_excuse":                     blank,
		"another_key_that_is_the_same":       same,
		"unknown_excuse":                     unknown,
		"a_stale_excuse":                     stale,
		"a_power_that_is_missing":            powerless,
		"no_new":                             {},
		"a_fixed_context_and_no_excuse":      rewrappingHarness(true, false),
		"a_stale_excuse_for_a_fixed_context": rewrappingHarness(false, true),
		"new_without_one":                    {New: func(*testing.T) kmskeytest.Subject { return kmskeytest.Subject{} }},
	}
}

// TestRunFindsFaults runs the suite against broken providers and harnesses, each in a process of its own, where it must fail.
func TestRunFindsFaults(t *testing.T) {
	run := func(t *testing.T, name, seen string) {
		t.Helper()
		t.Parallel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$/^"+seen)
		cmd.Env = append(os.Environ(), "ROWSEAL_TEST_BROKEN="+name)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("the suite passed: %v\n%s", err, out)
		}
		if !strings.Contains(string(out), "--- FAIL: TestHelperProcess") {
			t.Errorf("it failed in another way:\n%s", out)
		}
	}
	for name, c := range brokenProviders() {
		t.Run("a_provider_that_"+name, func(t *testing.T) { run(t, name, c.seen) })
	}
	for name, c := range brokenGenerators() {
		t.Run("a_generator_that_"+name, func(t *testing.T) { run(t, name, "a_generated_key_is_as_if_it_had_been_wrapped") })
		if !c.shown {
			t.Run("a_blind_generator_that_"+name, func(t *testing.T) { run(t, name, "a_key_may_be_generated_without_being_shown") })
		}
	}
	for name := range brokenHarnesses() {
		t.Run("a_harness_with_"+name, func(t *testing.T) { run(t, name, "") })
	}
}

// TestHelperProcess is no test: TestRunFindsFaults starts it as a process of its own.
func TestHelperProcess(t *testing.T) {
	name := os.Getenv("ROWSEAL_TEST_BROKEN")
	if name == "" {
		return
	}
	if h, ok := brokenHarnesses()[name]; ok {
		kmskeytest.Run(t, h)
		return
	}
	if c, ok := brokenGenerators()[name]; ok {
		kmskeytest.Run(t, harness(c.g))
		return
	}
	b := brokenProviders()[name].b
	b.good = localkey.NewInsecure()
	kmskeytest.Run(t, harness(b))
}

// TestRunPasses: the same harness around the same provider, without a fault, passes.
func TestRunPasses(t *testing.T) {
	t.Run("without_rewrap", func(t *testing.T) { kmskeytest.Run(t, harness(broken{good: localkey.NewInsecure()})) })
	t.Run("with_generate", func(t *testing.T) { kmskeytest.Run(t, harness(generating{Provider: localkey.NewInsecure()})) })
	t.Run("without_a_power", func(t *testing.T) { kmskeytest.Run(t, harness(struct{ kmskey.Provider }{localkey.NewInsecure()})) })
	t.Run("with_rewrap", func(t *testing.T) { kmskeytest.Run(t, rewrappingHarness(false, false)) })
	t.Run("with_rewrap_under_one_context", func(t *testing.T) { kmskeytest.Run(t, rewrappingHarness(true, true)) })
}
