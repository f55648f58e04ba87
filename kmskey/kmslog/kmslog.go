// Package kmslog writes the calls to key services to a [slog.Logger]: who was asked to do what with which key, and what came of it.
//
//	kmskey.New(kmskey.Config{Versions: …, Observers: []kmskey.Observer{kmslog.New(logger, kmslog.Config{})}})
//
// Each act of a provider is one record, "kms call", when it ends. Its attributes are listed in docs/observability.md. Successes are of level
// Info, what trying again may mend is a warning, and what someone has to look at an error. No record holds plaintext, key bytes or
// wrapped keys; of the encryption context it has the names.
//
// The record is the application's word. What happened to a key is in the service's own audit log, where the application cannot change it.
package kmslog

import (
	"context"
	"log/slog"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// Config describes what is logged. The zero Config works.
type Config struct {
	// ContextValues adds the values of the encryption context, by default the model's name and the row's id: the log then says who touched
	// which row when, and is to be guarded and kept as such. Set it where the service's own log does not name rows (all but AWS KMS).
	// Defaults to names alone.
	ContextValues bool
}

// New is an observer for [kmskey.Config]. Where a trace goes on in the context, list it behind the tracing observer, so that a handler that
// adds trace ids finds the span of the call. logger must not block. Defaults to slog.Default where logger is nil.
func New(logger *slog.Logger, cfg Config) kmskey.Observer {
	if logger == nil {
		logger = slog.Default()
	}
	return func(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
		start := time.Now()
		return ctx, func(r kmskey.Result) {
			outcome := kmskey.Outcome(r.Err)
			level := levelOf(outcome)
			if !logger.Enabled(ctx, level) {
				return
			}
			ref := r.KeyRef
			if ref == "" {
				ref = c.KeyRef
			}
			attrs := make([]slog.Attr, 0, 12)
			attrs = append(attrs, slog.String("op", c.Op), slog.String("provider", c.Provider), slog.String("service", r.Service),
				slog.Int("version", c.Version), slog.String("model", c.Model), slog.String("key", c.Key), slog.String("key_ref", ref),
				slog.Any("context", c.Context), slog.String("outcome", outcome), slog.Duration("duration", time.Since(start)))
			if r.Err != nil {
				attrs = append(attrs, slog.String("error", r.Err.Error()))
			}
			if cfg.ContextValues {
				values := make([]any, 0, c.Context.Len())
				for name, value := range c.Context.Pairs() {
					values = append(values, slog.String(name, value.String()))
				}
				attrs = append(attrs, slog.Group("context_values", values...))
			}
			logger.LogAttrs(ctx, level, "kms call", attrs...)
		}
	}
}

// levelOf is Warn for what may pass by itself or was the caller's wish, and Error for all that is not expected of a sound configuration.
func levelOf(outcome string) slog.Level {
	switch outcome {
	case "ok", "not_rewrappable": // the keyring unwraps and wraps instead
		return slog.LevelInfo
	case "throttled", "unavailable", "timeout", "cancelled":
		return slog.LevelWarn
	}
	return slog.LevelError
}
