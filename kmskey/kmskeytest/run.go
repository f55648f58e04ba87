// run.go owns the conformance suite: what every provider must do, one subtest per claim.

package kmskeytest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rowseal/rowseal/kmskey"
)

// Harness makes the providers that [Run] tests.
type Harness struct {
	// New makes a provider under a working key, with the means to break what is behind it. Each subtest has its own, made
	// with that subtest's t; clean up with t.Cleanup.
	New func(t *testing.T) Subject

	// NotApplicable says why a power or a fault of the list below cannot be shown for this provider: one sentence for each
	// [Subject] field that is nil, under the name given there, for each power that the provider lacks, "rewrap"
	// ([kmskey.Rewrapper]), "owner" ([kmskey.Owner]), "generate" ([kmskey.Generator]) and "generate_wrapped"
	// ([kmskey.BlindGenerator]), and for "rewrap_context" (the service rewraps under an unchanged context alone) and
	// "context_type" (the service takes pairs of strings, in which 1 and "1" agree).
	NotApplicable map[string]string
}

// Subject is one provider under test. A nil field needs a reason in [Harness.NotApplicable] under the name that its comment
// gives. The func(t) (mend func()) fields break the service behind Provider for all calls from then on, until mend.
type Subject struct {
	Provider kmskey.Provider

	// ForeignRefs ("foreign_refs") are well-formed references of keys that lie outside the provider's configuration:
	// another key, another account, another region.
	ForeignRefs []string
	// Calls ("calls") is the number of requests that reached the service so far. With it the suite proves that a refusal
	// came before any call.
	Calls func() int
	// Disable ("disabled") disables the key, or schedules its deletion.
	Disable func(t *testing.T) (mend func())
	// Remove ("not_found") makes the service forget the key.
	Remove func(t *testing.T)
	// Outage ("outage") makes the service fail or unreachable.
	Outage func(t *testing.T) (mend func())
	// Throttle ("throttled") makes the service refuse calls because they are too many.
	Throttle func(t *testing.T) (mend func())
	// Hang ("hang") makes the service take calls and not answer them. Each call that arrives sends or closes arrived, which
	// must not block the service.
	Hang func(t *testing.T) (arrived <-chan struct{}, mend func())
	// DenyWrap ("deny_wrap") is a provider under the same key for a caller who may unwrap and not wrap.
	DenyWrap func(t *testing.T) kmskey.Provider
	// DenyUnwrap ("deny_unwrap") is a provider under the same key for a caller who may wrap and not unwrap.
	DenyUnwrap func(t *testing.T) kmskey.Provider
	// Sibling ("sibling") is a provider of the same kind under another key, outside Provider's configuration, from which
	// Provider can rewrap.
	Sibling func(t *testing.T) kmskey.Provider
	// Other ("other") is a provider of the same kind at the same service, under another key, which Provider's caller may use at the service
	// as well. What it wrapped is then given to Provider under Provider's own reference, as one who can write to the database can do:
	// only the service can tell.
	Other func(t *testing.T) kmskey.Provider
}

// excusable is every name that NotApplicable may hold, so that a misspelt one is not an excuse.
var excusable = []string{
	"foreign_refs", "calls", "disabled", "not_found", "outage", "throttled", "hang", "deny_wrap", "deny_unwrap",
	"sibling", "other", "rewrap", "rewrap_context", "context_type", "owner", "generate", "generate_wrapped",
}

// kinds is every kind that an error of a provider may have. It must have exactly one.
var kinds = []error{
	kmskey.ErrDenied, kmskey.ErrNotFound, kmskey.ErrDisabled, kmskey.ErrUnavailable, kmskey.ErrThrottled,
	kmskey.ErrContextMismatch, kmskey.ErrForeignKey, kmskey.ErrInvalid, kmskey.ErrShredded, kmskey.ErrNotRewrappable,
	kmskey.ErrCorrupt, kmskey.ErrPending, kmskey.ErrUnknownVersion, kmskey.ErrCommitment,
}

// concurrent is how many wraps, and then unwraps, are started at once.
const concurrent = 1000

// Run runs the suite as subtests of t. It takes some thousands of calls, of which up to 1,000 at a time.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("kmskeytest: Harness.New is not set")
	}
	for name := range h.NotApplicable {
		if !slices.Contains(excusable, name) {
			t.Fatalf("kmskeytest: NotApplicable has %q, which is not one of %q", name, excusable)
		}
	}
	for _, c := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"a_wrapped_key_opens_again", testRoundTrip},
		{"what_wrap_answers_fits_an_envelope", testShape},
		{"two_wraps_of_one_key_differ", testTwoWraps},
		{"every_type_of_context_value_binds", testContextTypes},
		{"another_context_is_refused", testWrongContext},
		{"an_empty_context_is_a_context", testEmptyContext},
		{"unicode_in_contexts_is_taken_as_it_is", testUnicode},
		{"the_order_of_pairs_does_not_matter", testOrder},
		{"an_altered_blob_is_refused", testAltered},
		{"a_blob_of_another_length_is_refused", testLength},
		{"a_blob_of_another_row_is_refused", testSwap},
		{"a_blob_of_another_key_is_refused", testOtherKey},
		{"another_service_is_refused_before_any_call", testOtherService},
		{"a_foreign_key_reference_is_refused_before_any_call", testForeign},
		{"a_data_key_that_holds_no_key_is_refused", testZeroDEK},
		{"inputs_are_neither_changed_nor_kept", testInputs},
		{"a_data_key_cannot_print", testUnprintable},
		{"a_thousand_wraps_and_unwraps_at_once", testConcurrent},
		{"a_cancelled_context_gives_its_error", testCancelled},
		{"a_call_in_flight_ends_with_its_context", testHang},
		{"a_disabled_key_is_refused_as_disabled", testDisabled},
		{"a_missing_key_is_refused_as_not_found", testNotFound},
		{"an_outage_is_refused_as_unavailable", testOutage},
		{"throttling_is_refused_as_throttled", testThrottled},
		{"a_reader_may_be_denied_wrapping", testDenyWrap},
		{"a_writer_may_be_denied_unwrapping", testDenyUnwrap},
		{"rewrap_moves_a_key_to_another_context", testRewrap},
		{"rewrap_moves_a_key_from_another_provider", testRewrapSibling},
		{"rewrap_refuses_what_unwrap_refuses", testRewrapRefuses},
		{"rewrapping_many_is_rewrapping_each", testRewrapAll},
		{"it_knows_its_own_wraps_without_a_call", testOwner},
		{"a_generated_key_is_as_if_it_had_been_wrapped", testGenerate},
		{"a_key_may_be_generated_without_being_shown", testGenerateWrapped},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{h: h, Subject: h.New(t)}
			if s.Provider == nil {
				t.Fatal("kmskeytest: Harness.New gave no Provider")
			}
			c.run(t, s)
		})
	}
}

type suite struct {
	h Harness
	Subject
}

// has decides whether a power or fault is there to be tested: it is, or the harness says why not.
func (s *suite) has(t *testing.T, name string, there bool) bool {
	t.Helper()
	reason, excused := s.h.NotApplicable[name]
	switch {
	case there && excused:
		t.Fatalf("kmskeytest: %q is there and NotApplicable says %q; delete the excuse", name, reason)
	case !there && (!excused || strings.TrimSpace(reason) == ""):
		t.Fatalf("kmskeytest: %q is missing; give it, or say why it cannot be in NotApplicable[%q]", name, name)
	case !there:
		t.Logf("not applicable: %s: %s", name, reason)
	}
	return there
}

// quiet runs do and fails when it reached the service.
func (s *suite) quiet(t *testing.T, do func()) {
	t.Helper()
	if !s.has(t, "calls", s.Calls != nil) {
		do()
		return
	}
	before := s.Calls()
	do()
	if n := s.Calls() - before; n != 0 {
		t.Errorf("%d calls were made, want none", n)
	}
}

func testRoundTrip(t *testing.T, s *suite) {
	dek := kmskey.NewDEK()
	w := wrap(t, s.Provider, dek, patient(t, 7))
	for range 2 {
		same(t, dek, unwrap(t, s.Provider, w, patient(t, 7)))
	}
}

var serviceName = regexp.MustCompile(`^[a-z0-9-]{1,16}$`)

func testShape(t *testing.T, s *suite) {
	w := wrap(t, s.Provider, kmskey.NewDEK(), patient(t, 7))
	if !serviceName.MatchString(w.Service) {
		t.Errorf("service %q is not 1 to 16 lower-case letters, digits and hyphens", w.Service)
	}
	if len(w.KeyRef) > 1024 || !utf8.ValidString(w.KeyRef) {
		t.Errorf("key reference %q is not at most 1024 bytes of UTF-8", w.KeyRef)
	}
	if len(w.Blob) < 1 || len(w.Blob) > 16384 {
		t.Errorf("blob has %d bytes, not 1 to 16384", len(w.Blob))
	}
	if again := wrap(t, s.Provider, kmskey.NewDEK(), patient(t, 8)); again.Service != w.Service || again.KeyRef != w.KeyRef {
		t.Errorf("wrapped by %q %q, then by %q %q", w.Service, w.KeyRef, again.Service, again.KeyRef)
	}
}

func testTwoWraps(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	a, b := wrap(t, s.Provider, dek, ec), wrap(t, s.Provider, dek, ec)
	if bytes.Equal(a.Blob, b.Blob) {
		t.Error("two wraps of one key are equal: whoever reads the column sees which rows share a key")
	}
	if bytes.Contains(a.Blob, dek.Bytes()) {
		t.Error("the blob holds the data key in the clear")
	}
	same(t, dek, unwrap(t, s.Provider, a, ec))
	same(t, dek, unwrap(t, s.Provider, b, ec))
}

// values has for each type a value, another of the same type, and one of another type that prints alike.
func values() map[string]struct{ a, b, alike kmskey.Value } {
	id := [16]byte{0xde, 0xad, 0xbe, 0xef, 4: 1, 15: 9}
	id2 := id
	id2[15]++
	return map[string]struct{ a, b, alike kmskey.Value }{
		"text":        {kmskey.Text("Patient"), kmskey.Text("patient"), kmskey.Value{}},
		"integer":     {kmskey.Int(1), kmskey.Int(2), kmskey.Text("1")},
		"negative":    {kmskey.Int(math.MinInt64), kmskey.Int(math.MinInt64 + 1), kmskey.Text("-9223372036854775808")},
		"unsigned":    {kmskey.Uint(math.MaxUint64), kmskey.Uint(math.MaxUint64 - 1), kmskey.Text("18446744073709551615")},
		"uuid":        {kmskey.UUID(id), kmskey.UUID(id2), kmskey.Text(kmskey.UUID(id).String())},
		"bytes":       {kmskey.Bytes([]byte{0, 0xff}), kmskey.Bytes([]byte{0, 0xfe}), kmskey.Text("00ff")},
		"bool":        {kmskey.Bool(true), kmskey.Bool(false), kmskey.Text("true")},
		"empty_text":  {kmskey.Text(""), kmskey.Text(" "), kmskey.Bytes(nil)},
		"zero_number": {kmskey.Int(0), kmskey.Int(-1), kmskey.Text("0")},
	}
}

func testContextTypes(t *testing.T, s *suite) {
	// Whether types count is asked once, of integer and text: the excuse must be true, not only given.
	dek := kmskey.NewDEK()
	w := wrap(t, s.Provider, dek, newContext(t, pair("id", kmskey.Int(1))))
	_, err := s.Provider.Unwrap(t.Context(), w, newContext(t, pair("id", kmskey.Text("1"))))
	typed := s.has(t, "context_type", err != nil)
	for name, v := range values() {
		t.Run(name, func(t *testing.T) {
			dek, ec := kmskey.NewDEK(), newContext(t, pair("id", v.a))
			w := wrap(t, s.Provider, dek, ec)
			same(t, dek, unwrap(t, s.Provider, w, ec))
			s.refusesUnwrap(t, w, newContext(t, pair("id", v.b)), kmskey.ErrContextMismatch, dek)
			if typed && !v.alike.IsZero() {
				s.refusesUnwrap(t, w, newContext(t, pair("id", v.alike)), kmskey.ErrContextMismatch, dek)
			}
		})
	}
}

func testWrongContext(t *testing.T, s *suite) {
	dek := kmskey.NewDEK()
	name, id := pair("model_name", kmskey.Text("Patient")), pair("model_id", kmskey.Int(7))
	w := wrap(t, s.Provider, dek, newContext(t, name, id))
	for _, c := range []struct {
		name string
		ec   kmskey.Context
	}{
		{"another_value", newContext(t, name, pair("model_id", kmskey.Int(8)))},
		{"another_name", newContext(t, name, pair("model_ID", kmskey.Int(7)))},
		{"a_missing_pair", newContext(t, name)},
		{"an_extra_pair", newContext(t, name, id, pair("tenant", kmskey.Int(1)))},
		{"exchanged_values", newContext(t, pair("model_name", kmskey.Text("7")), pair("model_id", kmskey.Text("Patient")))},
		{"a_byte_moved_from_name_to_value", newContext(t, pair("model_nam", kmskey.Text("ePatient")), id)},
		{"trailing_space", newContext(t, pair("model_name", kmskey.Text("Patient ")), id)},
		{"trailing_nul", newContext(t, pair("model_name", kmskey.Text("Patient\x00")), id)},
		{"no_pairs", kmskey.Context{}},
	} {
		t.Run(c.name, func(t *testing.T) { s.refusesUnwrap(t, w, c.ec, kmskey.ErrContextMismatch, dek) })
	}
	same(t, dek, unwrap(t, s.Provider, w, newContext(t, name, id)))
}

func testEmptyContext(t *testing.T, s *suite) {
	dek := kmskey.NewDEK()
	w := wrap(t, s.Provider, dek, kmskey.Context{})
	same(t, dek, unwrap(t, s.Provider, w, newContext(t)))
	s.refusesUnwrap(t, w, patient(t, 7), kmskey.ErrContextMismatch, dek)
}

func testUnicode(t *testing.T, s *suite) {
	const nfc, nfd = "Zo\u00eb \u2603 \U0001F511", "Zoe\u0308 \u2603 \U0001F511" // one sight, two strings
	dek := kmskey.NewDEK()
	ec := newContext(t, pair("\u043c\u043e\u0434\u0435\u043b\u044c", kmskey.Text(nfc)), pair("quote\"<&>\\", kmskey.Text("tab\tline\n")))
	w := wrap(t, s.Provider, dek, ec)
	same(t, dek, unwrap(t, s.Provider, w, ec))
	other := newContext(t, pair("\u043c\u043e\u0434\u0435\u043b\u044c", kmskey.Text(nfd)), pair("quote\"<&>\\", kmskey.Text("tab\tline\n")))
	s.refusesUnwrap(t, w, other, kmskey.ErrContextMismatch, dek)
}

func testOrder(t *testing.T, s *suite) {
	dek := kmskey.NewDEK()
	a, b, c := pair("a", kmskey.Int(1)), pair("b", kmskey.Int(2)), pair("c", kmskey.Int(3))
	w := wrap(t, s.Provider, dek, newContext(t, a, b, c))
	same(t, dek, unwrap(t, s.Provider, w, newContext(t, c, a, b)))
}

// positions is every index of a short blob, and of a long one its ends and an even spread between.
func positions(n int) []int {
	set := make(map[int]bool)
	for i := range n {
		if n <= 128 || i < 16 || i >= n-32 || i%(n/64) == 0 {
			set[i] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func testAltered(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	for _, i := range positions(len(w.Blob)) {
		for _, bit := range []byte{0x01, 0x80} {
			bad := w
			bad.Blob = bytes.Clone(w.Blob)
			bad.Blob[i] ^= bit
			if !s.refusesUnwrap(t, bad, ec, kmskey.ErrContextMismatch, dek) {
				t.Fatalf("byte %d of %d, bit 0x%02x", i, len(w.Blob), bit)
			}
		}
	}
	same(t, dek, unwrap(t, s.Provider, w, ec))
}

func testLength(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	try := func(name string, blob []byte) {
		t.Run(name, func(t *testing.T) {
			bad := w
			bad.Blob = blob
			s.refusesUnwrap(t, bad, ec, kmskey.ErrContextMismatch, dek)
		})
	}
	try("nil", nil)
	try("empty", []byte{})
	for _, n := range []int{1, 2, 12, 28, len(w.Blob) / 2, len(w.Blob) - 16, len(w.Blob) - 1} {
		if n > 0 && n < len(w.Blob) {
			try(fmt.Sprintf("first_%d_bytes", n), w.Blob[:n:n])
		}
	}
	try("without_its_first_byte", w.Blob[1:])
	try("one_byte_more", append(bytes.Clone(w.Blob), 0))
	try("twice", append(bytes.Clone(w.Blob), w.Blob...))
	try("zeros", make([]byte, len(w.Blob)))
	try("longer_than_an_envelope_holds", make([]byte, 16385))
}

func testSwap(t *testing.T, s *suite) {
	d7, d8 := kmskey.NewDEK(), kmskey.NewDEK()
	w7, w8 := wrap(t, s.Provider, d7, patient(t, 7)), wrap(t, s.Provider, d8, patient(t, 8))
	s.refusesUnwrap(t, w7, patient(t, 8), kmskey.ErrContextMismatch, d7)
	s.refusesUnwrap(t, w8, patient(t, 7), kmskey.ErrContextMismatch, d8)
}

func testOtherKey(t *testing.T, s *suite) {
	if !s.has(t, "other", s.Other != nil) {
		return
	}
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	other := s.Other(t)
	w := wrap(t, other, dek, ec)
	ours := wrap(t, s.Provider, dek, ec)
	if w.Service != ours.Service || w.KeyRef == ours.KeyRef {
		t.Fatalf("kmskeytest: Subject.Other wrapped by %q %q, and Provider by %q %q; it must be another key of the same kind", w.Service, w.KeyRef, ours.Service, ours.KeyRef)
	}
	same(t, dek, unwrap(t, other, w, ec)) // so that a refusal is for the key
	relabelled := w
	relabelled.KeyRef = ours.KeyRef
	s.refusesUnwrap(t, relabelled, ec, kmskey.ErrContextMismatch, dek)
	if r, ok := s.Provider.(kmskey.Rewrapper); ok {
		got, err := r.Rewrap(t.Context(), s.Provider, relabelled, ec, ec)
		refused(t, err, kmskey.ErrContextMismatch, dek)
		nothing(t, got)
	}
	same(t, dek, unwrap(t, s.Provider, ours, ec))
}

func testOtherService(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	for _, name := range []string{"", "another", strings.ToUpper(w.Service), w.Service + " ", strings.Repeat("x", 2000)} {
		other := w
		other.Service = name
		s.quiet(t, func() { s.refusesUnwrap(t, other, ec, kmskey.ErrForeignKey, dek) })
	}
}

// foreign is references that no configuration holds, and the harness's own, which look like those it does hold.
func (s *suite) foreign(t *testing.T, w kmskey.Wrapped) []string {
	refs := []string{"not a key", strings.Repeat("x", 2000), w.KeyRef + "\x00"}
	if w.KeyRef != "" {
		refs = append(refs, "")
	}
	if s.has(t, "foreign_refs", len(s.ForeignRefs) > 0) {
		refs = append(refs, s.ForeignRefs...)
	}
	return refs
}

func testForeign(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	for _, ref := range s.foreign(t, w) {
		t.Run(fmt.Sprintf("%.80q", ref), func(t *testing.T) {
			other := w
			other.KeyRef = ref
			s.quiet(t, func() { s.refusesUnwrap(t, other, ec, kmskey.ErrForeignKey, dek) })
		})
	}
}

func testZeroDEK(t *testing.T, s *suite) {
	s.quiet(t, func() {
		w, err := s.Provider.Wrap(t.Context(), kmskey.DEK{}, patient(t, 7))
		refused(t, err, kmskey.ErrInvalid, kmskey.DEK{})
		nothing(t, w)
	})
}

func testInputs(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	key := bytes.Clone(dek.Bytes())
	w := wrap(t, s.Provider, dek, ec)
	if !bytes.Equal(key, dek.Bytes()) {
		t.Error("wrapping changed the data key")
	}
	dek.Destroy()
	blob := bytes.Clone(w.Blob)
	a := unwrap(t, s.Provider, w, ec)
	if !bytes.Equal(blob, w.Blob) {
		t.Error("unwrapping changed the blob")
	}
	if !bytes.Equal(key, a.Bytes()) {
		t.Error("the unwrapped key changed with the caller's copy of the wrapped one")
	}
	a.Destroy()
	b := unwrap(t, s.Provider, w, ec)
	if !bytes.Equal(key, b.Bytes()) {
		t.Error("two unwraps share the bytes of one key")
	}
	clear(w.Blob)
	w.Blob = blob
	if c := unwrap(t, s.Provider, w, ec); !bytes.Equal(key, c.Bytes()) {
		t.Error("the provider kept the caller's blob")
	}
}

func testUnprintable(t *testing.T, s *suite) {
	dek := kmskey.NewDEK()
	got := unwrap(t, s.Provider, wrap(t, s.Provider, dek, patient(t, 7)), patient(t, 7))
	j, err := json.Marshal(struct{ K kmskey.DEK }{got})
	if err != nil {
		t.Fatal(err)
	}
	text := string(j) + fmt.Sprintf("%v %+v %#v %x %s %+v", got, got, got, got, got, struct{ k kmskey.DEK }{got})
	text += fmt.Sprintf("%v %+v %#v", s.Provider, s.Provider, s.Provider)
	if holdsKey(text, dek) {
		t.Error("a data key or the provider prints the key's bytes")
	}
}

func testConcurrent(t *testing.T, s *suite) {
	type row struct {
		dek kmskey.DEK
		ec  kmskey.Context
		w   kmskey.Wrapped
	}
	rows := make([]row, concurrent)
	all := func(do func(i int, r *row) error) {
		t.Helper()
		// All wait for one signal, so that they really are at once.
		start := make(chan struct{})
		errs := make([]error, len(rows))
		var wg sync.WaitGroup
		for i := range rows {
			wg.Go(func() {
				<-start
				errs[i] = do(i, &rows[i])
			})
		}
		close(start)
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("%.2000s", err.Error())
		}
	}
	for i := range rows {
		rows[i] = row{dek: kmskey.NewDEK(), ec: patient(t, int64(i))}
	}
	all(func(i int, r *row) (err error) {
		r.w, err = s.Provider.Wrap(t.Context(), r.dek, r.ec)
		return err
	})
	all(func(i int, r *row) error {
		got, err := s.Provider.Unwrap(t.Context(), r.w, r.ec)
		if err == nil && !bytes.Equal(got.Bytes(), r.dek.Bytes()) {
			err = fmt.Errorf("row %d has the key of another", i)
		}
		return err
	})
}

func testCancelled(t *testing.T, s *suite) {
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: cancelled, context.DeadlineExceeded: expired} {
		t.Run(strings.ReplaceAll(want.Error(), " ", "_"), func(t *testing.T) {
			got, err := s.Provider.Wrap(ctx, dek, ec)
			refused(t, err, kmskey.ErrUnavailable, dek)
			nothing(t, got)
			if !errors.Is(err, want) {
				t.Errorf("wrap: %v; it does not wrap %v", err, want)
			}
			_, err = s.Provider.Unwrap(ctx, w, ec)
			refused(t, err, kmskey.ErrUnavailable, dek)
			if !errors.Is(err, want) {
				t.Errorf("unwrap: %v; it does not wrap %v", err, want)
			}
		})
	}
}

func testHang(t *testing.T, s *suite) {
	if !s.has(t, "hang", s.Hang != nil) {
		return
	}
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	for name, call := range map[string]func(context.Context) error{
		"wrap":   func(ctx context.Context) error { _, err := s.Provider.Wrap(ctx, dek, ec); return err },
		"unwrap": func(ctx context.Context) error { _, err := s.Provider.Unwrap(ctx, w, ec); return err },
	} {
		t.Run(name, func(t *testing.T) {
			arrived, mend := s.Hang(t)
			defer mend()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- call(ctx) }()
			select {
			case <-arrived:
			case err := <-done:
				t.Fatalf("ended before the service had the call: %v", err)
			}
			cancel()
			err := <-done
			refused(t, err, kmskey.ErrUnavailable, dek)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v; it does not wrap %v", err, context.Canceled)
			}
		})
	}
	same(t, dek, unwrap(t, s.Provider, w, ec))
}

func testDisabled(t *testing.T, s *suite) {
	if s.has(t, "disabled", s.Disable != nil) {
		s.fault(t, s.Disable, kmskey.ErrDisabled)
	}
}

func testOutage(t *testing.T, s *suite) {
	if s.has(t, "outage", s.Outage != nil) {
		s.fault(t, s.Outage, kmskey.ErrUnavailable)
	}
}

func testThrottled(t *testing.T, s *suite) {
	if s.has(t, "throttled", s.Throttle != nil) {
		s.fault(t, s.Throttle, kmskey.ErrThrottled)
	}
}

func testNotFound(t *testing.T, s *suite) {
	if s.has(t, "not_found", s.Remove != nil) {
		s.fault(t, func(t *testing.T) func() { s.Remove(t); return nil }, kmskey.ErrNotFound)
	}
}

// fault breaks the service, sees every operation refused with kind, and, once mended, the same keys work again.
func (s *suite) fault(t *testing.T, breakIt func(*testing.T) func(), kind error) {
	t.Helper()
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	mend := breakIt(t)
	got, err := s.Provider.Wrap(t.Context(), dek, ec)
	refused(t, err, kind, dek)
	nothing(t, got)
	s.refusesUnwrap(t, w, ec, kind, dek)
	if r, ok := s.Provider.(kmskey.Rewrapper); ok {
		got, err := r.Rewrap(t.Context(), s.Provider, w, ec, s.target(ec, patient(t, 8)))
		refused(t, err, kind, dek)
		nothing(t, got)
	}
	if mend == nil {
		return
	}
	mend()
	same(t, dek, unwrap(t, s.Provider, w, ec))
	same(t, dek, unwrap(t, s.Provider, wrap(t, s.Provider, dek, ec), ec))
}

func testDenyWrap(t *testing.T, s *suite) {
	if !s.has(t, "deny_wrap", s.DenyWrap != nil) {
		return
	}
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	w := wrap(t, s.Provider, dek, ec)
	reader := s.DenyWrap(t)
	same(t, dek, unwrap(t, reader, w, ec))
	got, err := reader.Wrap(t.Context(), dek, ec)
	refused(t, err, kmskey.ErrDenied, dek)
	nothing(t, got)
}

func testDenyUnwrap(t *testing.T, s *suite) {
	if !s.has(t, "deny_unwrap", s.DenyUnwrap != nil) {
		return
	}
	dek, ec := kmskey.NewDEK(), patient(t, 7)
	writer := s.DenyUnwrap(t)
	w := wrap(t, writer, dek, ec)
	got, err := writer.Unwrap(t.Context(), w, ec)
	refused(t, err, kmskey.ErrDenied, dek)
	if !got.IsZero() {
		t.Error("a refused unwrap gave a key")
	}
	same(t, dek, unwrap(t, s.Provider, w, ec))
}

func (s *suite) rewrapper(t *testing.T) (kmskey.Rewrapper, bool) {
	t.Helper()
	r, ok := s.Provider.(kmskey.Rewrapper)
	return r, s.has(t, "rewrap", ok)
}

// target is the context to rewrap to: another one, or from itself where the harness says that the service cannot change it.
// testRewrap sees that this is true.
func (s *suite) target(from, another kmskey.Context) kmskey.Context {
	if _, excused := s.h.NotApplicable["rewrap_context"]; excused {
		return from
	}
	return another
}

func testRewrap(t *testing.T, s *suite) {
	r, ok := s.rewrapper(t)
	if !ok {
		return
	}
	dek, from, to := kmskey.NewDEK(), patient(t, 7), patient(t, 8)
	w := wrap(t, s.Provider, dek, from)
	blob := bytes.Clone(w.Blob)
	calls := 0
	if s.Calls != nil {
		calls = s.Calls()
	}
	moved, err := r.Rewrap(t.Context(), s.Provider, w, from, to)
	if !s.has(t, "rewrap_context", !errors.Is(err, kmskey.ErrNotRewrappable)) {
		refused(t, err, kmskey.ErrNotRewrappable, dek)
		nothing(t, moved)
		if s.Calls != nil && s.Calls() != calls {
			t.Errorf("%d calls were made, want none", s.Calls()-calls)
		}
		to = from
		moved, err = r.Rewrap(t.Context(), s.Provider, w, from, to)
	}
	if err != nil {
		t.Fatalf("rewrap: %v", err)
	}
	if moved.Service != w.Service || moved.KeyRef != w.KeyRef || bytes.Equal(moved.Blob, w.Blob) {
		t.Errorf("rewrapped to %q %q; the blob is new: %t", moved.Service, moved.KeyRef, !bytes.Equal(moved.Blob, w.Blob))
	}
	if !bytes.Equal(blob, w.Blob) {
		t.Error("rewrapping changed the blob it was given")
	}
	same(t, dek, unwrap(t, s.Provider, moved, to))
	same(t, dek, unwrap(t, s.Provider, w, from)) // until the new form is stored, the row still holds the old one
	s.refusesUnwrap(t, moved, patient(t, 9), kmskey.ErrContextMismatch, dek)
	if !from.Equal(to) {
		s.refusesUnwrap(t, moved, from, kmskey.ErrContextMismatch, dek)
	}
	again, err := r.Rewrap(t.Context(), s.Provider, moved, to, to)
	if err != nil {
		t.Fatalf("rewrap under the same context: %v", err)
	}
	same(t, dek, unwrap(t, s.Provider, again, to))
}

func testRewrapSibling(t *testing.T, s *suite) {
	r, ok := s.rewrapper(t)
	if !s.has(t, "sibling", s.Sibling != nil) || !ok {
		return
	}
	dek, from := kmskey.NewDEK(), patient(t, 7)
	to := s.target(from, patient(t, 8))
	sibling := s.Sibling(t)
	w := wrap(t, sibling, dek, from)
	// A provider may learn from its own first wrap which account its key is in; what is foreign is certain from then on.
	wrap(t, s.Provider, dek, from)
	// The source decides: to this provider the key is foreign, and only the sibling vouches for it.
	s.quiet(t, func() { s.refusesUnwrap(t, w, from, kmskey.ErrForeignKey, dek) })
	s.quiet(t, func() {
		got, err := r.Rewrap(t.Context(), s.Provider, w, from, to)
		refused(t, err, kmskey.ErrForeignKey, dek)
		nothing(t, got)
	})
	moved, err := r.Rewrap(t.Context(), sibling, w, from, to)
	if err != nil {
		t.Fatalf("rewrap: %v", err)
	}
	if ours := wrap(t, s.Provider, dek, to); moved.Service != ours.Service || moved.KeyRef != ours.KeyRef {
		t.Errorf("rewrapped to %q %q, want %q %q", moved.Service, moved.KeyRef, ours.Service, ours.KeyRef)
	}
	same(t, dek, unwrap(t, s.Provider, moved, to))
	s.refusesUnwrap(t, moved, patient(t, 9), kmskey.ErrContextMismatch, dek)
	if !from.Equal(to) {
		s.refusesUnwrap(t, moved, from, kmskey.ErrContextMismatch, dek)
	}
	same(t, dek, unwrap(t, sibling, w, from))
}

// stranger is a source that no service has heard of.
type stranger struct{ kmskey.Provider }

func testRewrapRefuses(t *testing.T, s *suite) {
	r, ok := s.rewrapper(t)
	if !ok {
		return
	}
	dek, from, to := kmskey.NewDEK(), patient(t, 7), patient(t, 8)
	w := wrap(t, s.Provider, dek, from)
	refuses := func(t *testing.T, ctx context.Context, w kmskey.Wrapped, from kmskey.Context, kind error) error {
		t.Helper()
		got, err := r.Rewrap(ctx, s.Provider, w, from, s.target(from, to))
		refused(t, err, kind, dek)
		nothing(t, got)
		return err
	}
	t.Run("a_source_of_another_kind", func(t *testing.T) {
		for name, source := range map[string]kmskey.Provider{"stranger": stranger{}, "nil": nil} {
			s.quiet(t, func() {
				got, err := r.Rewrap(t.Context(), source, w, from, to)
				if !refused(t, err, kmskey.ErrNotRewrappable, dek) {
					t.Error(name)
				}
				nothing(t, got)
			})
		}
	})
	t.Run("another_context", func(t *testing.T) { refuses(t, t.Context(), w, to, kmskey.ErrContextMismatch) })
	t.Run("an_altered_blob", func(t *testing.T) {
		bad := w
		bad.Blob = bytes.Clone(w.Blob)
		bad.Blob[len(bad.Blob)/2] ^= 1
		refuses(t, t.Context(), bad, from, kmskey.ErrContextMismatch)
	})
	t.Run("an_empty_blob", func(t *testing.T) {
		bad := w
		bad.Blob = nil
		refuses(t, t.Context(), bad, from, kmskey.ErrContextMismatch)
	})
	t.Run("another_service", func(t *testing.T) {
		other := w
		other.Service = "another"
		s.quiet(t, func() { refuses(t, t.Context(), other, from, kmskey.ErrForeignKey) })
	})
	t.Run("a_foreign_key_reference", func(t *testing.T) {
		for _, ref := range s.foreign(t, w) {
			other := w
			other.KeyRef = ref
			s.quiet(t, func() { refuses(t, t.Context(), other, from, kmskey.ErrForeignKey) })
		}
	})
	t.Run("a_cancelled_context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := refuses(t, ctx, w, from, kmskey.ErrUnavailable); !errors.Is(err, context.Canceled) {
			t.Errorf("%v; it does not wrap %v", err, context.Canceled)
		}
	})
}

// refusesUnwrap reports whether w was refused with kind and nothing else was wrong about it.
func (s *suite) refusesUnwrap(t *testing.T, w kmskey.Wrapped, ec kmskey.Context, kind error, dek kmskey.DEK) bool {
	t.Helper()
	got, err := s.Provider.Unwrap(t.Context(), w, ec)
	if !got.IsZero() {
		t.Error("a refused unwrap gave a key")
		return false
	}
	return refused(t, err, kind, dek)
}

// refused checks what holds for every error of a provider: exactly one kind, the wanted one, and no key bytes in any form.
func refused(t *testing.T, err, kind error, dek kmskey.DEK) bool {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %v", kind)
		return false
	}
	var is []error
	for _, k := range kinds {
		if errors.Is(err, k) {
			is = append(is, k)
		}
	}
	ok := len(is) == 1 && is[0] == kind
	if !ok {
		t.Errorf("kinds %q, want exactly %q, of: %v", is, kind, err)
	}
	if !dek.IsZero() && holdsKey(fmt.Sprintf("%v %+v %#v %s", err, err, err, chain(err)), dek) {
		t.Errorf("the error prints key bytes (its text is left out here)")
		ok = false
	}
	return ok
}

// chain is the text of every error inside err, which a caller's logger may print one by one.
func chain(err error) string {
	if err == nil {
		return ""
	}
	text := fmt.Sprintf("%v %+v %#v\n", err, err, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		text += chain(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			text += chain(inner)
		}
	}
	return text
}

// holdsKey looks for any eight bytes of the key, in the forms in which bytes get into text.
func holdsKey(text string, dek kmskey.DEK) bool {
	key := dek.Bytes()
	lower := strings.ToLower(text)
	for i := 0; i+8 <= len(key); i++ {
		part := key[i : i+8]
		decimal := strings.Trim(fmt.Sprint(part), "[]")
		if strings.Contains(text, string(part)) ||
			strings.Contains(lower, hex.EncodeToString(part)) ||
			strings.Contains(text, decimal) || strings.Contains(text, strings.ReplaceAll(decimal, " ", ", ")) ||
			strings.Contains(lower, strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"))) {
			return true
		}
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if strings.Contains(text, enc.EncodeToString(key)) {
			return true
		}
	}
	return false
}

func nothing(t *testing.T, w kmskey.Wrapped) {
	t.Helper()
	if w.Service != "" || w.KeyRef != "" || w.Blob != nil {
		t.Error("a refused call gave a wrapped key")
	}
}

func wrap(t *testing.T, p kmskey.Provider, dek kmskey.DEK, ec kmskey.Context) kmskey.Wrapped {
	t.Helper()
	w, err := p.Wrap(t.Context(), dek, ec)
	if err != nil {
		t.Fatalf("wrap: %v", err)
	}
	return w
}

func unwrap(t *testing.T, p kmskey.Provider, w kmskey.Wrapped, ec kmskey.Context) kmskey.DEK {
	t.Helper()
	dek, err := p.Unwrap(t.Context(), w, ec)
	if err != nil {
		t.Fatalf("unwrap: %v", err)
	}
	return dek
}

func same(t *testing.T, want, got kmskey.DEK) {
	t.Helper()
	if got.IsZero() || !bytes.Equal(want.Bytes(), got.Bytes()) {
		t.Fatal("the unwrapped key is not the one that was wrapped")
	}
}

func pair(name string, v kmskey.Value) kmskey.Pair { return kmskey.Pair{Name: name, Value: v} }

func newContext(t *testing.T, pairs ...kmskey.Pair) kmskey.Context {
	t.Helper()
	ec, err := kmskey.NewContext(pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return ec
}

func patient(t *testing.T, id int64) kmskey.Context {
	t.Helper()
	return newContext(t, pair("model_name", kmskey.Text("Patient")), pair("model_id", kmskey.Int(id)))
}
