// batch.go owns many keys in one request: how they are cut into requests, and that each answer goes to its own row.

package vaulttransit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/rowseal/rowseal/kmskey"
)

// WrapItem is one data key of [Provider.WrapBatch].
type WrapItem struct {
	DEK     kmskey.DEK
	Context kmskey.Context
}

// WrappedItem is one wrapped key of [Provider.UnwrapBatch] and [Provider.RewrapBatch].
type WrappedItem struct {
	Wrapped kmskey.Wrapped
	Context kmskey.Context
}

// WrapResult is what became of one item: Wrapped, or Err, of the same kinds as the errors of Wrap and Rewrap.
type WrapResult struct {
	Wrapped kmskey.Wrapped
	Err     error
}

// UnwrapResult is what became of one item: DEK, or Err, of the same kinds as the errors of Unwrap.
type UnwrapResult struct {
	DEK kmskey.DEK
	Err error
}

// maxBatch keeps a request below a fifth of the 32 MiB that Vault takes by default, with contexts of the longest kind, 8 KiB.
const maxBatch = 500

// WrapBatch wraps many data keys, in requests of up to 500, and gives a result for each item, in their order. An item that
// fails fails alone; where a whole request fails, its items and all after them have its error. Beside the round trips, that is a
// fifth of the time that its items take one by one.
func (p *Provider) WrapBatch(ctx context.Context, items []WrapItem) []WrapResult {
	results := make([]WrapResult, len(items))
	a := act{p, "wrap", p.path("keys")}
	entries := make([]entry, len(items))
	for i, item := range items {
		in, secret, err := a.plain(item.DEK, item.Context)
		entries[i] = entry{a, in, secret, err}
	}
	p.batch(ctx, "wrap", entries, func(i int, out map[string]any) (err error) {
		results[i].Wrapped, err = entries[i].act.wrapped(out)
		return err
	})
	for i := range results {
		results[i].Err = entries[i].err
	}
	return results
}

// UnwrapBatch is to Unwrap what WrapBatch is to Wrap. Foreign and malformed items are refused without being sent.
func (p *Provider) UnwrapBatch(ctx context.Context, items []WrappedItem) []UnwrapResult {
	results := make([]UnwrapResult, len(items))
	entries := p.wrappedEntries("unwrap", items)
	p.batch(ctx, "unwrap", entries, func(i int, out map[string]any) (err error) {
		results[i].DEK, err = entries[i].act.unwrapped(out)
		return err
	})
	for i := range results {
		results[i].Err = entries[i].err
	}
	return results
}

// RewrapBatch moves wrapped keys of p to the newest version of its key, each under its own unchanged context, as Rewrap does.
func (p *Provider) RewrapBatch(ctx context.Context, items []WrappedItem) []WrapResult {
	results := make([]WrapResult, len(items))
	entries := p.wrappedEntries("rewrap", items)
	p.batch(ctx, "rewrap", entries, func(i int, out map[string]any) (err error) {
		results[i].Wrapped, err = entries[i].act.wrapped(out)
		return err
	})
	for i := range results {
		results[i].Err = entries[i].err
	}
	return results
}

// RewrapAll is [Provider.RewrapBatch] for a keyring. It fails with [kmskey.ErrNotRewrappable], item by item, as Rewrap does.
func (p *Provider) RewrapAll(ctx context.Context, source kmskey.Provider, items []kmskey.RewrapItem) []kmskey.RewrapResult {
	results := make([]kmskey.RewrapResult, len(items))
	var send []WrappedItem
	var at []int
	for i, item := range items {
		if src, ok := source.(*Provider); !ok || src != p || !item.From.Equal(item.To) {
			// Rewrap itself says why, and makes no request.
			results[i].Wrapped, results[i].Err = p.Rewrap(ctx, source, item.Wrapped, item.From, item.To)
			continue
		}
		send, at = append(send, WrappedItem{item.Wrapped, item.From}), append(at, i)
	}
	for n, r := range p.RewrapBatch(ctx, send) {
		results[at[n]] = kmskey.RewrapResult(r)
	}
	return results
}

// entry is one item on its way: what is sent for it, or why it failed.
type entry struct {
	act    act
	in     map[string]any
	secret string
	err    error
}

func (e *entry) secrets() []string {
	if e.secret == "" {
		return nil
	}
	return []string{e.secret}
}

func (p *Provider) wrappedEntries(op string, items []WrappedItem) []entry {
	entries := make([]entry, len(items))
	for i, item := range items {
		a := act{p, op, item.Wrapped.KeyRef}
		in, err := a.sealed(item.Wrapped, item.Context)
		entries[i] = entry{a, in, "", err}
	}
	return entries
}

// batch sends the entries that have no error yet. take gets each answer; what fails is noted at its entry.
func (p *Provider) batch(ctx context.Context, op string, entries []entry, take func(i int, out map[string]any) error) {
	var send []int
	for i := range entries {
		if entries[i].err == nil {
			send = append(send, i)
		}
	}
	for len(send) > 0 {
		part := send[:min(maxBatch, len(send))]
		done, err := p.part(ctx, op, entries, part, take)
		send = send[done:]
		if err != nil {
			// Vault would refuse the rest likewise, or is in trouble.
			for _, i := range send {
				entries[i].err = entries[i].act.as(err)
			}
			return
		}
	}
}

// as is err, told of another act of the same request.
func (a act) as(err error) error {
	if e, ok := err.(*kmskey.Error); ok {
		c := *e
		c.KeyRef = a.ref
		return &c
	}
	return err
}

// part is one request, for the entries that part lists. It gives how many of them, from the first, have their result or their own
// error; err is that of the others.
func (p *Provider) part(ctx context.Context, op string, entries []entry, part []int, take func(i int, out map[string]any) error) (done int, err error) {
	a := act{p, op, p.path("keys")}
	input := make([]any, len(part))
	secrets := make([]string, 0, len(part))
	for n, i := range part {
		item := maps.Clone(entries[i].in)
		item["reference"] = strconv.Itoa(i)
		input[n] = item
		if entries[i].secret != "" {
			secrets = append(secrets, entries[i].secret)
		}
	}
	in := map[string]any{"batch_input": input}
	if op == "wrap" {
		in["type"] = noType
	}
	if op != "rewrap" { // which always answers with 200
		// The clients drop what comes with 400, the good items too.
		in["partial_failure_response_code"] = http.StatusOK
	}
	out, err := a.request(ctx, in, secrets...)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusBadRequest && len(e.Messages) == 0 {
		// Where every item failed, Vault answers with 400 all the same, and the clients drop why.
		return p.oneByOne(ctx, op, entries, part, take)
	}
	if err != nil {
		return 0, err
	}
	answers, err := a.answers(out, part)
	if err != nil {
		return 0, err
	}
	failed := func(answer map[string]any) bool { return answer["error"] != nil }
	if n := slices.IndexFunc(answers, func(answer map[string]any) bool { return !failed(answer) }); n >= 0 {
		// Before any answer is given out, as for single acts.
		like := maps.Clone(entries[part[n]].in)
		if op == "wrap" {
			like["type"] = noType
		}
		if err := a.derived(ctx, like); err != nil {
			return 0, err
		}
	}
	for n, i := range part {
		e := &entries[i]
		if !failed(answers[n]) {
			e.err = take(i, answers[n])
			continue
		}
		said, _ := answers[n]["error"].(string)
		e.err = e.act.failed(ctx, &StatusError{http.StatusBadRequest, []string{said}}, e.secrets()...)
	}
	return len(part), nil
}

// oneByOne is part in single requests. It ends early where the next would fail for the same reason.
func (p *Provider) oneByOne(ctx context.Context, op string, entries []entry, part []int, take func(i int, out map[string]any) error) (done int, err error) {
	for n, i := range part {
		e := &entries[i]
		in := maps.Clone(e.in)
		if op == "wrap" {
			in["type"] = noType
		}
		out, err := e.act.do(ctx, in, e.secrets()...)
		switch {
		case err == nil:
			e.err = take(i, out)
		case errors.Is(err, kmskey.ErrUnavailable), errors.Is(err, kmskey.ErrThrottled), errors.Is(err, kmskey.ErrDenied):
			return n, err
		default:
			e.err = err
		}
	}
	return len(part), nil
}

// answers reads the results of a batch, one for each item of part in its order. Vault repeats the reference of each item: an
// answer that went to another row would make both unreadable.
func (a act) answers(out map[string]any, part []int) ([]map[string]any, error) {
	bad := func(why string, args ...any) ([]map[string]any, error) {
		return nil, a.fail(kmskey.ErrInvalid, "is that Vault's transit engine, and does the client wrap no responses?", fmt.Errorf(why, args...))
	}
	results, _ := out["batch_results"].([]any)
	if len(results) != len(part) {
		return bad("%d results for a batch of %d", len(results), len(part))
	}
	answers := make([]map[string]any, len(part))
	for n, i := range part {
		answer, ok := results[n].(map[string]any)
		if reference, _ := answer["reference"].(string); !ok || reference != strconv.Itoa(i) {
			return bad("result %d of a batch does not name its item", n+1)
		}
		answers[n] = answer
	}
	return answers, nil
}
