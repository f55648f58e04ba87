package kmsotel_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmsotel"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// region is a local key that says where it is, keeps the data keys that it saw, and fails when told.
type region struct {
	*localkey.Provider
	name   string
	fail   error
	client trace.Tracer // of an instrumented client

	mu   sync.Mutex
	deks [][]byte
}

func newRegion(name string) *region { return &region{Provider: localkey.NewInsecure(), name: name} }

func (r *region) String() string { return "region(" + r.name + ")" }

func (r *region) Owns(w kmskey.Wrapped) bool { return w.KeyRef == r.name }

func (r *region) request(ctx context.Context) error {
	if r.client != nil {
		_, span := r.client.Start(ctx, "HTTP POST", trace.WithSpanKind(trace.SpanKindClient))
		span.End()
	}
	return r.fail
}

func (r *region) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	r.mu.Lock()
	r.deks = append(r.deks, bytes.Clone(dek.Bytes()))
	r.mu.Unlock()
	if err := r.request(ctx); err != nil {
		return kmskey.Wrapped{}, err
	}
	w, err := r.Provider.Wrap(ctx, dek, ec)
	return kmskey.Wrapped{Service: "region", KeyRef: r.name, Blob: append([]byte(w.KeyRef+"\x00"), w.Blob...)}, err
}

func (r *region) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if err := r.request(ctx); err != nil {
		return kmskey.DEK{}, err
	}
	ref, blob, _ := bytes.Cut(w.Blob, []byte{0})
	return r.Provider.Unwrap(ctx, kmskey.Wrapped{Service: "insecure-test", KeyRef: string(ref), Blob: blob}, ec)
}

// Values that no span and no metric may hold.
const (
	canaryID     = 98765432198765
	canaryTenant = "tenant-canary-4711"
)

func row() kmskey.Row {
	return kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{kmskey.Int(canaryID)}, Context: func(int) ([]kmskey.Pair, error) {
		return []kmskey.Pair{{Name: "model_id", Value: kmskey.Int(canaryID)}, {Name: "tenant", Value: kmskey.Text(canaryTenant)}}, nil
	}}
}

// telemetry is what an application sets up, read back.
type telemetry struct {
	spans  *tracetest.InMemoryExporter
	tracer *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader
	meter  *sdkmetric.MeterProvider
}

func newTelemetry() telemetry {
	spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	return telemetry{spans, sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)), reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
}

func (tel telemetry) keyring(t testing.TB, p kmskey.Provider, providers bool) *kmskey.Keyring {
	t.Helper()
	observe, err := kmsotel.New(kmsotel.Config{TracerProvider: tel.tracer, MeterProvider: tel.meter, Providers: providers})
	if err != nil {
		t.Fatal(err)
	}
	k, err := kmskey.New(kmskey.Config{Current: 3, Versions: map[int]kmskey.Version{3: {Provider: p}}, Observers: []kmskey.Observer{observe}})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (tel telemetry) metrics(t testing.TB) map[string]metricdata.Metrics {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := tel.reader.Collect(context.Background(), &data); err != nil || len(data.ScopeMetrics) != 1 {
		t.Fatal(err, len(data.ScopeMetrics))
	}
	all := make(map[string]metricdata.Metrics)
	for _, m := range data.ScopeMetrics[0].Metrics {
		all[m.Name] = m
	}
	return all
}

func (tel telemetry) calls(t testing.TB) []metricdata.DataPoint[int64] {
	t.Helper()
	sum, ok := tel.metrics(t)["rowseal.kms.calls"].Data.(metricdata.Sum[int64])
	if !ok || !sum.IsMonotonic {
		t.Fatalf("%T", sum)
	}
	return sum.DataPoints
}

// table gives the rows of a section of docs/observability.md, cell by cell.
func table(t testing.TB, section string) (rows [][]string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "\n## "+section+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "| `") {
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

func TestNew_makes_a_span_between_the_callers_and_the_clients(t *testing.T) {
	tel := newTelemetry()
	p := newRegion("east")
	p.client = tel.tracer.Tracer("client")
	p.fail = &kmskey.Error{Op: "unwrap", Service: "region", Kind: kmskey.ErrDenied, Err: errors.New("the cause")}
	ctx, root := tel.tracer.Tracer("app").Start(t.Context(), "GET /patients")
	if _, err := tel.keyring(t, p, false).Wrap(ctx, kmskey.NewDataKey(), row()); !errors.Is(err, kmskey.ErrDenied) {
		t.Fatal(err)
	}
	root.End()
	spans := tel.spans.GetSpans()
	if len(spans) != 3 {
		t.Fatalf("%d spans", len(spans))
	}
	client, call, app := spans[0], spans[1], spans[2] // as they end
	if client.Parent.SpanID() != call.SpanContext.SpanID() || call.Parent.SpanID() != app.SpanContext.SpanID() || call.SpanContext.TraceID() != app.SpanContext.TraceID() {
		t.Error("not a chain")
	}
	if call.Name != "rowseal.kms wrap" || call.SpanKind != trace.SpanKindInternal || call.InstrumentationScope.Name != "github.com/rowseal/rowseal/kmskey/kmsotel" {
		t.Errorf("%s, %v, %v", call.Name, call.SpanKind, call.InstrumentationScope)
	}
	if call.Status != (sdktrace.Status{Code: codes.Error, Description: "kmskey: unwrap with region: access denied: the cause"}) {
		t.Errorf("status %v", call.Status)
	}
	got := attribute.NewSet(call.Attributes...)
	want := attribute.NewSet(attribute.String("rowseal.kms.operation", "wrap"), attribute.String("rowseal.kms.provider", "region(east)"),
		attribute.String("rowseal.kms.service", "region"), attribute.Int("rowseal.kms.version", 3), attribute.String("rowseal.kms.model", "Patient"),
		attribute.String("rowseal.kms.key", "encrypted_kms_key"), attribute.String("rowseal.kms.key_ref", ""),
		attribute.StringSlice("rowseal.kms.context.names", []string{"model_id", "tenant"}), attribute.String("rowseal.kms.outcome", "denied"),
		attribute.String("error.type", "denied"))
	if !got.Equals(&want) {
		t.Errorf("got  %v\nwant %v", got.ToSlice(), want.ToSlice())
	}
	types := map[attribute.Type]string{attribute.STRING: "string", attribute.INT64: "int", attribute.STRINGSLICE: "string[]"}
	rows := table(t, "Spans")
	if len(rows) != got.Len() {
		t.Errorf("the document lists %d attributes, and there are %d", len(rows), got.Len())
	}
	for _, cells := range rows {
		if v, ok := got.Value(attribute.Key(cells[0])); !ok || types[v.Type()] != cells[1] {
			t.Errorf("%s is %v, %t", cells[0], v.Type(), ok)
		}
	}
}

func TestNew_outcomes(t *testing.T) {
	for _, c := range []struct {
		err     error
		outcome string
		failed  bool
	}{
		{nil, "ok", false},
		{kmskey.ErrNotRewrappable, "not_rewrappable", false},
		{kmskey.ErrThrottled, "throttled", true},
		{fmt.Errorf("%w: %w", kmskey.ErrUnavailable, context.DeadlineExceeded), "timeout", true},
		{context.Canceled, "cancelled", true},
		{kmskey.ErrForeignKey, "foreign_key", true},
		{errors.New("x"), "error", true},
	} {
		tel := newTelemetry()
		observe, err := kmsotel.New(kmsotel.Config{TracerProvider: tel.tracer, MeterProvider: tel.meter})
		if err != nil {
			t.Fatal(err)
		}
		_, end := observe(t.Context(), kmskey.Call{Op: "rewrap", KeyRef: "asked"})
		end(kmskey.Result{Err: c.err})
		span := tel.spans.GetSpans()[0]
		set := attribute.NewSet(span.Attributes...)
		word, _ := set.Value("rowseal.kms.outcome")
		ref, _ := set.Value("rowseal.kms.key_ref")
		if word.AsString() != c.outcome || ref.AsString() != "asked" || (span.Status.Code == codes.Error) != c.failed || set.HasValue("error.type") != c.failed {
			t.Errorf("%v: %v, %v", c.err, set.ToSlice(), span.Status)
		}
		if got, _ := tel.calls(t)[0].Attributes.Value("rowseal.kms.outcome"); got.AsString() != c.outcome {
			t.Errorf("%v: counted as %s", c.err, got.AsString())
		}
	}
}

func TestNew_measures_what_the_document_lists(t *testing.T) {
	for _, providers := range []bool{false, true} {
		// Nothing random but the ids of spans, which are not crypto/rand's: in FIPS mode random bytes take a clock that runs.
		synctest.Test(t, func(t *testing.T) {
			tel := newTelemetry()
			observe, err := kmsotel.New(kmsotel.Config{TracerProvider: tel.tracer, MeterProvider: tel.meter, Providers: providers})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, end := observe(t.Context(), kmskey.Call{Op: "wrap", Provider: "region(east)", Version: 3, Model: "Patient", Key: "encrypted_kms_key"})
				time.Sleep(30 * time.Millisecond)
				end(kmskey.Result{Service: "region", KeyRef: "east"})
			}
			metrics := tel.metrics(t)
			rows := table(t, "Metrics")
			if len(rows) != len(metrics) {
				t.Errorf("%d metrics, %d in the document", len(metrics), len(rows))
			}
			var sets []attribute.Set
			for _, cells := range rows {
				m := metrics[cells[0]]
				switch data := m.Data.(type) {
				case metricdata.Sum[int64]:
					if cells[1] != "counter" || data.DataPoints[0].Value != 2 {
						t.Errorf("%s: %+v", cells[0], data)
					}
					sets = append(sets, data.DataPoints[0].Attributes)
				case metricdata.Histogram[float64]:
					if at := data.DataPoints[0]; cells[1] != "histogram" || at.Count != 2 || at.Sum != 0.06 || at.BucketCounts[5] != 2 || at.Bounds[5] != 0.05 || at.Bounds[13] != 30 {
						t.Errorf("%s: %+v", cells[0], at)
					}
					sets = append(sets, data.DataPoints[0].Attributes)
				default:
					t.Errorf("%s: %T", cells[0], data)
				}
				if m.Unit != cells[2] {
					t.Errorf("%s: unit %s", cells[0], m.Unit)
				}
			}
			kvs := []attribute.KeyValue{attribute.String("rowseal.kms.operation", "wrap"), attribute.String("rowseal.kms.service", "region"),
				attribute.Int("rowseal.kms.version", 3), attribute.String("rowseal.kms.model", "Patient"), attribute.String("rowseal.kms.outcome", "ok")}
			if providers {
				kvs = append(kvs, attribute.String("rowseal.kms.provider", "region(east)"))
			}
			want := attribute.NewSet(kvs...)
			for _, got := range sets {
				if !got.Equals(&want) {
					t.Errorf("got  %v\nwant %v", got.ToSlice(), want.ToSlice())
				}
			}
		})
	}
}

func TestNew_shows_each_region(t *testing.T) {
	tel := newTelemetry()
	east, west := newRegion("east"), newRegion("west")
	m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: []kmskey.Provider{east, west}})
	if err != nil {
		t.Fatal(err)
	}
	k := tel.keyring(t, m, true)
	e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), row())
	if err != nil {
		t.Fatal(err)
	}
	east.fail = &kmskey.Error{Op: "unwrap", Service: "region", Kind: kmskey.ErrUnavailable}
	if _, err := k.Unwrap(t.Context(), e, row()); err != nil {
		t.Fatal(err)
	}
	spell := func(set attribute.Set) string {
		var words []string
		for _, name := range []attribute.Key{"operation", "provider", "outcome"} {
			v, _ := set.Value("rowseal.kms." + name)
			words = append(words, v.AsString())
		}
		return strings.Join(words, " ")
	}
	var spans, series []string
	for _, s := range tel.spans.GetSpans() {
		spans = append(spans, spell(attribute.NewSet(s.Attributes...)))
	}
	for _, p := range tel.calls(t) {
		series = append(series, spell(p.Attributes))
	}
	slices.Sort(spans)
	slices.Sort(series)
	if want := []string{"unwrap region(east) unavailable", "unwrap region(west) ok", "wrap region(east) ok", "wrap region(west) ok"}; !slices.Equal(spans, want) || !slices.Equal(series, want) {
		t.Errorf("spans %q, series %q", spans, series)
	}
}

func TestNew_shows_no_secret_and_no_context_value(t *testing.T) {
	tel := newTelemetry()
	p := newRegion("east")
	k := tel.keyring(t, p, true)
	ctx, root := tel.tracer.Tracer("app").Start(t.Context(), "root") // sampled, so that metrics have exemplars
	e, err := k.Wrap(ctx, kmskey.NewDataKey(), row())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(ctx, e, row()); err != nil {
		t.Fatal(err)
	}
	other := row()
	other.Context = nil
	if _, err := k.Unwrap(ctx, e, other); !errors.Is(err, kmskey.ErrContextMismatch) {
		t.Fatal(err)
	}
	root.End()
	var data metricdata.ResourceMetrics
	if err := tel.reader.Collect(ctx, &data); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%+v\n%#v\n%+v\n%#v\n%s", tel.spans.GetSpans(), tel.spans.GetSpans(), data, data, asJSON)
	for _, s := range tel.spans.GetSpans().Snapshots() {
		out += fmt.Sprintf("\n%v %+v %v", s.Attributes(), s.Events(), s.Status())
	}
	if strings.Count(out, "context_mismatch") < 4 || !strings.Contains(out, "model_id") {
		t.Fatal("the search would find nothing")
	}
	dek := p.deks[0]
	for _, s := range []string{string(dek[:8]), hex.EncodeToString(dek[:8]), base64.StdEncoding.EncodeToString(dek[:6]), base64.URLEncoding.EncodeToString(dek[:6]),
		strings.Trim(fmt.Sprint(dek[:8]), "[]"), strings.Trim(fmt.Sprintf("%q", dek[:8]), `"`), fmt.Sprint(canaryID), canaryTenant} {
		if strings.Contains(out, s) {
			t.Errorf("%q is shown", s)
		}
	}
}

func TestNew_is_safe_for_concurrent_use(t *testing.T) {
	tel := newTelemetry()
	k := tel.keyring(t, newRegion("east"), false)
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
	n := int64(0)
	for _, p := range tel.calls(t) {
		n += p.Value
	}
	if len(tel.spans.GetSpans()) != 200 || n != 200 || len(tel.calls(t)) != 2 {
		t.Errorf("%d spans, %d calls in %d series", len(tel.spans.GetSpans()), n, len(tel.calls(t)))
	}
}

func TestNew_without_a_set_up_records_nothing(t *testing.T) {
	observe, err := kmsotel.New(kmsotel.Config{}) // the global providers are no-ops here
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := observe(t.Context(), kmskey.Call{Op: "wrap"})
	end(kmskey.Result{})
	if trace.SpanFromContext(ctx).IsRecording() {
		t.Error("a span is recorded")
	}
}

func BenchmarkObserver(b *testing.B) {
	tel := newTelemetry()
	for _, c := range []struct {
		name string
		cfg  kmsotel.Config
	}{{"off", kmsotel.Config{}}, {"on", kmsotel.Config{TracerProvider: sdktrace.NewTracerProvider(), MeterProvider: tel.meter}}} {
		b.Run(c.name, func(b *testing.B) {
			observe, err := kmsotel.New(c.cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, end := observe(b.Context(), kmskey.Call{Op: "unwrap", Provider: "region(east)", Version: 3, Model: "Patient", Key: "encrypted_kms_key", KeyRef: "east"})
				end(kmskey.Result{Service: "region", KeyRef: "east"})
			}
		})
	}
}
