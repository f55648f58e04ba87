// observe.go owns what an application may see of the calls to its key services: enough for a log, a trace or a bill, and no secret.

package kmskey

import (
	"context"
	"errors"
	"fmt"
)

// Call is one act that a [Keyring] is about to ask of a provider. It holds no data key and no ciphertext.
type Call struct {
	Op       string // "wrap", "unwrap" or "rewrap"
	Version  int    // the keyring's version: the one wrapped or rewrapped to, or unwrapped with
	Provider string // the provider by its own String, for instance "awskms.Provider(alias/app, eu-central-1)"
	Model    string // the logical name of the model; "rowseal/box" for a Box
	Key      string // the logical name of the key column, or of the box
	KeyRef   string // the key that the row names; empty when wrapping

	// Context is the encryption context, of a rewrap the one that is moved to. It prints its names alone; [Context.Strings] gives the values
	// too, which are what the service's own log has. They name rows, so an observer that writes them down should be asked for it.
	Context Context
}

// Result is how a [Call] ended.
type Result struct {
	// Service is the kind of key service, as in [Wrapped]: "aws". It is empty where a failing provider does not say.
	Service string
	// KeyRef is the key that the service used, as far as it is known.
	KeyRef string
	// Err is the provider's error, nil for success. [Outcome] gives its kind in one word.
	Err error
}

// Observer sees each act of a provider begin, and its end by the function that it gives, which may be nil. The provider is called with the
// context that it gives, so that a span can be a parent of the client's own. Observers are called concurrently, must not block, and cannot
// change what happens. An act that is refused before any request is made, as foreign_key, invalid or not_rewrappable, is seen as well.
type Observer func(ctx context.Context, call Call) (context.Context, func(Result))

// outcomes is the word for each kind of failure, in the order in which they are looked for.
var outcomes = []struct {
	kind error
	word string
}{
	{ErrDenied, "denied"}, {ErrNotFound, "not_found"}, {ErrDisabled, "disabled"}, {ErrThrottled, "throttled"},
	{ErrContextMismatch, "context_mismatch"}, {ErrForeignKey, "foreign_key"}, {ErrInvalid, "invalid"},
	{ErrShredded, "shredded"}, {ErrNotRewrappable, "not_rewrappable"}, {ErrCommitment, "commitment"}, {ErrNotAuthentic, "not_authentic"}, {ErrCorrupt, "corrupt"}, {ErrPending, "pending"},
	{ErrUnknownVersion, "unknown_version"}, {ErrWriteOnly, "write_only"}, {ErrRingFull, "ring_full"},
	{context.Canceled, "cancelled"}, {context.DeadlineExceeded, "timeout"}, {ErrUnavailable, "unavailable"},
}

// Outcome is the kind of an error of this package in one word, for logs and metrics: "ok" for nil, "throttled" for what wraps [ErrThrottled],
// and so on; "cancelled" and "timeout" where the caller's context or a provider's own limit ended the call; "error" for anything else.
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.kind) {
			return o.word
		}
	}
	return "error"
}

// asker makes the acts of one data key, and shows them to the observers.
type asker struct {
	observers []Observer
	call      Call
}

func (a *asker) begin(ctx context.Context, op, ref string, p Provider, ec Context) (context.Context, func(Result)) {
	if len(a.observers) == 0 {
		return ctx, func(Result) {}
	}
	c := a.call
	c.Op, c.KeyRef, c.Context, c.Provider = op, ref, ec, nameOf(p)
	ends := make([]func(Result), 0, len(a.observers))
	for _, observe := range a.observers {
		next, end := observe(ctx, c)
		if next != nil {
			ctx = next
		}
		if end != nil {
			ends = append(ends, end)
		}
	}
	return ctx, func(r Result) {
		for i := len(ends) - 1; i >= 0; i-- { // as defers: the span inside ends first
			ends[i](r)
		}
	}
}

func nameOf(p Provider) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", p)
}

func (a *asker) wrap(ctx context.Context, p Provider, dek DEK, ec Context) (Wrapped, error) {
	ctx, end := a.begin(ctx, "wrap", "", p, ec)
	w, err := p.Wrap(ctx, dek, ec)
	w, err = a.checked(w, err)
	end(resultOf(w, err))
	return w, err
}

func (a *asker) unwrap(ctx context.Context, p Provider, w Wrapped, ec Context) (DEK, error) {
	ctx, end := a.begin(ctx, "unwrap", w.KeyRef, p, ec)
	dek, err := p.Unwrap(ctx, w, ec)
	if err == nil && dek.IsZero() {
		err = fmt.Errorf("%w: no key and no error", errContract)
	}
	end(resultOf(w, err))
	return dek, err
}

func (a *asker) rewrap(ctx context.Context, p Rewrapper, source Provider, w Wrapped, from, to Context) (Wrapped, error) {
	target, _ := p.(Provider)
	ctx, end := a.begin(ctx, "rewrap", w.KeyRef, target, to)
	out, err := p.Rewrap(ctx, source, w, from, to)
	out, err = a.checked(out, err)
	end(resultOf(out, err))
	return out, err
}

func resultOf(w Wrapped, err error) Result {
	r := Result{w.Service, w.KeyRef, err}
	if e, ok := errors.AsType[*Error](err); ok && r.Service == "" {
		r.Service = e.Service
	}
	return r
}

// errContract is a provider's bug.
var errContract = errors.New("the provider broke its contract")

// checked lets nothing pass that an envelope could not hold: it would be written, and never be read again.
func (a *asker) checked(w Wrapped, err error) (Wrapped, error) {
	if err != nil {
		return Wrapped{}, err
	}
	if err := checkWrapped(w); err != nil {
		return Wrapped{}, fmt.Errorf("%w: %w", errContract, err)
	}
	return w, nil
}
