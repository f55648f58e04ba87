// Package kmsotel shows the calls to key services as OpenTelemetry spans and metrics.
//
//	observe, err := kmsotel.New(kmsotel.Config{})
//	keys, err := kmskey.New(kmskey.Config{Versions: …, Observers: []kmskey.Observer{observe}})
//
// Each act of a provider is a span, a child of the caller's: the spans of an instrumented client become its children. Metrics count the
// calls and their duration, by what is few: operation, service, version, model, outcome. Their names are listed in docs/observability.md.
//
// Neither holds plaintext, key bytes or wrapped keys, nor values of the encryption context. An error on a span has the text of the provider's
// error.
//
// The package is a module of its own, so that whoever does not trace pays nothing for it. It needs OpenTelemetry's API alone.
package kmsotel

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rowseal/rowseal/kmskey"
)

const scope = "github.com/rowseal/rowseal/kmskey/kmsotel"

// The attributes, as docs/observability.md lists them.
const (
	operation    = attribute.Key("rowseal.kms.operation")
	service      = attribute.Key("rowseal.kms.service")
	provider     = attribute.Key("rowseal.kms.provider")
	version      = attribute.Key("rowseal.kms.version")
	model        = attribute.Key("rowseal.kms.model")
	key          = attribute.Key("rowseal.kms.key")
	keyRef       = attribute.Key("rowseal.kms.key_ref")
	contextNames = attribute.Key("rowseal.kms.context.names")
	outcome      = attribute.Key("rowseal.kms.outcome")
	errorType    = attribute.Key("error.type")
)

// buckets are seconds. A local key answers in microseconds, a service of the same region in 5 to 20 ms, one of another continent in 300, and
// clients try again for some seconds.
var buckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Config says where spans and metrics go. The zero Config works.
type Config struct {
	// TracerProvider makes the spans. Defaults to OpenTelemetry's global one.
	TracerProvider trace.TracerProvider

	// MeterProvider makes the metrics. Defaults to OpenTelemetry's global one.
	MeterProvider metric.MeterProvider

	// Providers adds the provider by its own name to the metrics, so that the regions of a [kmskey.Multi] are told apart. Each provider is then
	// a time series for every combination of the others: leave it unset where keys are chosen by row. Spans have it always. Defaults to false.
	Providers bool
}

// New is an observer for [kmskey.Config]. List it before observers that look for a span in the context.
func New(cfg Config) (kmskey.Observer, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	tracer, meter := cfg.TracerProvider.Tracer(scope), cfg.MeterProvider.Meter(scope)
	calls, err := meter.Int64Counter("rowseal.kms.calls", metric.WithUnit("{call}"), metric.WithDescription("Acts that were asked of a provider."))
	if err != nil {
		return nil, fmt.Errorf("kmsotel: new: %w", err)
	}
	duration, err := meter.Float64Histogram("rowseal.kms.call.duration", metric.WithUnit("s"),
		metric.WithDescription("How long a provider took to answer, retries of its client included."), metric.WithExplicitBucketBoundaries(buckets...))
	if err != nil {
		return nil, fmt.Errorf("kmsotel: new: %w", err)
	}
	return func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
		start := time.Now()
		// Internal, as the request itself is the client's span where the client is instrumented, and none where the key is local.
		ctx, span := tracer.Start(ctx, "rowseal.kms "+c.Op, trace.WithAttributes(operation.String(c.Op), provider.String(c.Provider),
			version.Int(c.Version), model.String(c.Model), key.String(c.Key), contextNames.StringSlice(names(c.Context))))
		return ctx, func(r kmskey.Result) {
			took := time.Since(start).Seconds()
			word := kmskey.Outcome(r.Err)
			few := []attribute.KeyValue{operation.String(c.Op), service.String(r.Service), version.Int(c.Version), model.String(c.Model), outcome.String(word)}
			if cfg.Providers {
				few = append(few, provider.String(c.Provider))
			}
			with := metric.WithAttributeSet(attribute.NewSet(few...))
			calls.Add(ctx, 1, with)
			duration.Record(ctx, took, with)

			if span.IsRecording() {
				ref := r.KeyRef
				if ref == "" {
					ref = c.KeyRef
				}
				span.SetAttributes(service.String(r.Service), keyRef.String(ref), outcome.String(word))
				switch word {
				case "ok", "not_rewrappable": // no failure: the keyring unwraps and wraps instead
				default:
					span.SetAttributes(errorType.String(word))
					span.SetStatus(codes.Error, r.Err.Error())
				}
			}
			span.End()
		}
	}, nil
}

func names(c kmskey.Context) []string {
	all := make([]string, 0, c.Len())
	for name := range c.Pairs() {
		all = append(all, name)
	}
	return all
}
