// multi.go owns several wraps of one data key, under the keys of several regions or services: who is asked, in which order, and who is
// waited for.

package kmskey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MultiConfig describes a [Multi].
type MultiConfig struct {
	// Providers are the services or regions, 2 to 8, in the order in which reading asks them: the nearest first. Each must be an [Owner], so
	// that a wrap is only ever shown to the service that made it, and each must name its key otherwise than the others: what two servers of Vault wrap under keys
	// of one mount and name cannot be told apart, and is refused when it is to be stored. A region may be added at the end or taken away later, under a new version
	// or the same; rotation makes the wraps that are missing and drops those that are too many. Required.
	Providers []Provider

	// Quorum is how many wraps a new data key needs before its row is written. Lower it to write on through an outage; what is missing then is
	// filled in by rotation, and until it is, the row opens only where its wraps are. A rotation that finds the region still down says so. Defaults to all.
	Quorum int

	// Patience is how long one provider is waited for. After that, reading asks the next as well and takes the first answer, and writing
	// that has its quorum goes on without the rest. Set it above the slowest usual answer. Defaults to 500 ms.
	Patience time.Duration

	// Failures is how many failures in a row, slow answers included, make a provider rest: it is asked last then. Defaults to 3.
	Failures int

	// Rest is how long a provider rests. Then one call tries it, and it rests again if that fails. Defaults to 10 seconds.
	Rest time.Duration
}

const (
	defaultPatience = 500 * time.Millisecond
	defaultFailures = 3
	defaultRest     = 10 * time.Second
)

// Multi is several providers under one version of a [Keyring]: each data key is wrapped under the key of every one of them, and any one
// opens it. So the loss of a region, an account or a vendor loses no row; and whoever may decrypt at the weakest of them reads the row, since
// wraps are alternatives.
//
// A Multi remembers which of its providers failed lately, for as long as it lives: make one for a process. It is safe for concurrent use. Each act
// has ended when it returns: calls that lost a race are cancelled and waited for, so a provider must end with its context, as [Provider] asks.
//
// Wrap and Unwrap, for use outside a keyring, are of one wrap, by the first provider that answers. [Keyring] and [Box] use all.
type Multi struct {
	legs     []*leg
	quorum   int
	patience time.Duration // 0: nobody is hurried
}

// leg is one provider of a Multi.
type leg struct {
	Provider
	failures int // after which it rests; 0 for never
	rest     time.Duration

	ref atomic.Pointer[string] // of the key that the service last used

	mu     sync.Mutex
	failed int       // in a row
	until  time.Time // when it may be asked again; zero while it does not rest
}

var (
	_ Provider = (*Multi)(nil)
	_ Owner    = (*Multi)(nil)
)

// NewMulti checks cfg and makes no call.
func NewMulti(cfg MultiConfig) (*Multi, error) {
	fail := func(format string, args ...any) (*Multi, error) {
		return nil, fmt.Errorf("kmskey: new multi: "+format, args...)
	}
	switch n := len(cfg.Providers); {
	case n < 2 || n > maxWraps:
		return fail("%d providers, not 2 to %d", n, maxWraps)
	case cfg.Quorum < 0 || cfg.Quorum > n:
		return fail("Quorum is %d, and there are %d providers; leave it zero for all", cfg.Quorum, n)
	case cfg.Patience < 0 || cfg.Rest < 0 || cfg.Failures < 0:
		return fail("Patience, Rest and Failures cannot be negative; leave them zero for %v, %v and %d", defaultPatience, defaultRest, defaultFailures)
	}
	m := &Multi{quorum: cfg.Quorum, patience: cfg.Patience}
	if m.quorum == 0 {
		m.quorum = len(cfg.Providers)
	}
	if m.patience == 0 {
		m.patience = defaultPatience
	}
	for i, p := range cfg.Providers {
		if p == nil {
			return fail("provider %d is nil", i+1)
		}
		if _, nested := p.(*Multi); nested {
			return fail("provider %d is a Multi itself; list its providers", i+1)
		}
		if _, ok := p.(Owner); !ok {
			return fail("provider %d, %s, cannot tell its own wraps from others; give it the method Owns of kmskey.Owner", i+1, nameOf(p))
		}
		l := &leg{Provider: p, failures: cfg.Failures, rest: cfg.Rest}
		if l.failures == 0 {
			l.failures = defaultFailures
		}
		if l.rest == 0 {
			l.rest = defaultRest
		}
		m.legs = append(m.legs, l)
	}
	return m, nil
}

// alone is a provider as the only one of its version.
func alone(p Provider) *Multi {
	if m, ok := p.(*Multi); ok {
		return m
	}
	return &Multi{legs: []*leg{{Provider: p}}, quorum: 1}
}

// owns reports whether w lies under the leg's key. A provider that cannot tell is alone in its version: all wraps there may be its own.
func (l *leg) owns(w Wrapped) bool {
	o, ok := l.Provider.(Owner)
	return !ok || o.Owns(w)
}

// has finds a leg's own wrap among several; ok is false where there is none, or where nobody can tell: two servers may give their keys one name, and AWS
// does not say whose account an alias is of before it was asked. A wrap that is taken for another's would be kept in its place, and the other be gone.
func (m *Multi) has(l *leg, wraps []Wrapped) (w Wrapped, ok bool) {
	for _, other := range wraps {
		switch {
		case !l.owns(other):
		case ok:
			return Wrapped{}, false
		default:
			w, ok = other, true
		}
	}
	if ok && slices.ContainsFunc(m.legs, func(other *leg) bool { return other != l && other.owns(w) }) {
		return Wrapped{}, false
	}
	return w, ok
}

// distinct refuses wraps of two legs that nobody could tell apart when they are read.
func distinct(wraps []Wrapped) error {
	for i, w := range wraps {
		if slices.ContainsFunc(wraps[:i], func(other Wrapped) bool { return other.Service == w.Service && other.KeyRef == w.KeyRef }) {
			return fmt.Errorf("two providers of the Multi name their key %.200q, so that nobody could tell their wraps apart; give the keys different names, at Vault different mounts", w.KeyRef)
		}
	}
	return nil
}

// used notes which key the service used.
func (l *leg) used(w Wrapped) {
	if last := l.ref.Load(); last == nil || *last != w.KeyRef {
		ref := w.KeyRef // not &w.KeyRef, which would have each wrap allocated
		l.ref.Store(&ref)
	}
}

// left reports that the service has moved on from the key that w lies under. The related keys of a multi-Region key of AWS are one.
func (l *leg) left(w Wrapped) bool {
	ref := l.ref.Load()
	if ref == nil || *ref == w.KeyRef {
		return false
	}
	_, now, _ := strings.Cut(*ref, ":key/mrk-")
	_, then, _ := strings.Cut(w.KeyRef, ":key/mrk-")
	return now == "" || now != then
}

// behind reports that a service has moved on from the key that one of the wraps lies under.
func (m *Multi) behind(wraps []Wrapped) bool {
	return slices.ContainsFunc(m.legs, func(l *leg) bool {
		w, ok := m.has(l, wraps)
		return ok && l.left(w)
	})
}

// rests reports whether the leg is to be asked last. Asking takes nothing from it: see take.
func (l *leg) rests() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.until.IsZero() && time.Now().Before(l.until)
}

// take is said of a call that begins. Of a leg that has rested, one call tries it: until that has ended well, it rests for everyone else.
func (l *leg) take() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.until.IsZero() {
		l.until = time.Now().Add(l.rest)
	}
}

// note counts what became of a call. What says something about the row alone shows that the service is there.
func (l *leg) note(err error) {
	bad := false
	for _, kind := range []error{ErrUnavailable, ErrThrottled, ErrDisabled, ErrNotFound} { // a policy may deny single rows
		bad = bad || errors.Is(err, kind)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.failures == 0:
	case !bad:
		l.failed, l.until = 0, time.Time{}
	default:
		l.failed++
		if l.failed >= l.failures {
			l.until = time.Now().Add(l.rest)
		}
	}
}

// slow counts a call that took longer than the patience.
func (l *leg) slow() { l.note(ErrUnavailable) }

// any asks for the data key behind wraps that are alternatives: one leg after the other, the next also when one is slow. This is no trial of
// keys: each wrap names its own, and is shown to none but the leg that owns it.
func (m *Multi) any(ctx context.Context, wraps []Wrapped, do func(context.Context, *leg, Wrapped) (DEK, error)) (DEK, error) {
	if len(m.legs) == 1 && len(wraps) == 1 {
		return do(ctx, m.legs[0], wraps[0]) // it refuses itself what is not its own
	}
	type attempt struct {
		leg  *leg
		wrap Wrapped
	}
	var queue, resting []attempt
	for _, l := range m.legs {
		own := slices.DeleteFunc(slices.Clone(wraps), func(w Wrapped) bool { return !l.owns(w) })
		if len(own) == 0 {
			continue
		}
		to := &queue
		if l.rests() {
			to = &resting
		}
		for _, w := range own {
			*to = append(*to, attempt{l, w})
		}
	}
	queue = append(queue, resting...)
	if len(queue) == 0 {
		// It refuses before any call, and says what is configured.
		return do(ctx, m.legs[0], wraps[0])
	}
	if len(queue) == 1 {
		queue[0].leg.take()
		dek, err := do(ctx, queue[0].leg, queue[0].wrap)
		if err == nil || ctx.Err() == nil {
			queue[0].leg.note(err)
		}
		return dek, err
	}

	type answer struct {
		leg      *leg
		dek      DEK
		err      error
		panicked any
	}
	calls, cancel := context.WithCancel(ctx)
	answers := make(chan answer)
	flying := 0
	defer func() {
		cancel()
		for ; flying > 0; flying-- {
			(<-answers).dek.Destroy()
		}
	}()
	var hurry <-chan time.Time
	var last *leg
	start := func() {
		a := queue[0]
		queue, last = queue[1:], a.leg
		flying++
		a.leg.take()
		go func() {
			got := answer{leg: a.leg}
			defer func() {
				got.panicked = recover() // in the caller's goroutine somebody may expect it
				answers <- got
			}()
			got.dek, got.err = do(calls, a.leg, a.wrap)
		}()
		if m.patience > 0 {
			hurry = time.After(m.patience)
		}
	}
	var errs []error
	for start(); ; {
		select {
		case a := <-answers:
			flying--
			if a.panicked != nil {
				panic(a.panicked)
			}
			if a.err == nil || ctx.Err() == nil {
				a.leg.note(a.err)
			}
			if a.err == nil {
				return a.dek, nil
			}
			errs = append(errs, a.err)
			switch {
			case len(queue) > 0 && ctx.Err() == nil:
				start()
			case flying == 0:
				return DEK{}, gather(ctx, errs)
			}
		case <-hurry:
			hurry = nil
			last.slow()
			if len(queue) > 0 && ctx.Err() == nil {
				start()
			}
		}
	}
}

// all makes a wrap with every leg that has none in have, which has a place for each, and gives all in the order of the legs. It fails where they are fewer
// than need; missing says why some are not there. Legs that rest are left out where the others suffice, unless each is wanted: a rotation
// is there to make what is missing.
func (m *Multi) all(ctx context.Context, have []*Wrapped, need int, each bool, do func(context.Context, *leg) (Wrapped, error)) (wraps []Wrapped, missing, err error) {
	if len(m.legs) == 1 {
		if have != nil && have[0] != nil {
			return []Wrapped{*have[0]}, nil, nil
		}
		w, err := do(ctx, m.legs[0])
		if err != nil {
			return nil, nil, err
		}
		return []Wrapped{w}, nil, nil
	}
	made := make([]*Wrapped, len(m.legs))
	copy(made, have)
	var first, resting []int
	for i, l := range m.legs {
		switch {
		case made[i] != nil:
		case each || need == len(m.legs) || !l.rests():
			first = append(first, i)
		default:
			resting = append(resting, i)
		}
	}
	if count(made)+len(first) < need {
		first, resting = append(first, resting...), nil
	}
	errs := m.some(ctx, first, made, need, do)
	if count(made) < need && len(resting) > 0 && ctx.Err() == nil {
		errs = append(errs, m.some(ctx, resting, made, need, do)...)
	}
	for _, w := range made {
		if w != nil {
			wraps = append(wraps, *w)
		}
	}
	if len(errs) > 0 {
		missing = gather(ctx, errs)
	}
	if len(wraps) < need {
		hint := ""
		if need == len(m.legs) && need == m.quorum {
			hint = "; to write on through an outage, set MultiConfig.Quorum"
		}
		return nil, nil, fmt.Errorf("%d of %d wraps, where %d are needed%s: %w", len(wraps), len(m.legs), need, hint, missing)
	}
	return wraps, missing, nil
}

func count(wraps []*Wrapped) (n int) {
	for _, w := range wraps {
		if w != nil {
			n++
		}
	}
	return n
}

// some asks the given legs, all at once. Where as many wraps as are needed are there, the rest has as long as the patience lasts.
func (m *Multi) some(ctx context.Context, which []int, wraps []*Wrapped, need int, do func(context.Context, *leg) (Wrapped, error)) (errs []error) {
	type answer struct {
		leg      int
		wrap     Wrapped
		err      error
		panicked any
	}
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(which))
	waiting := make(map[int]bool, len(which))
	for _, i := range which {
		waiting[i] = true
		m.legs[i].take()
		go func() {
			got := answer{leg: i}
			defer func() {
				got.panicked = recover()
				answers <- got
			}()
			got.wrap, got.err = do(calls, m.legs[i])
		}()
	}
	var hurry <-chan time.Time
	var panicked any
	for len(waiting) > 0 {
		if count(wraps) >= need && hurry == nil {
			hurry = time.After(m.patience)
		}
		select {
		case a := <-answers:
			delete(waiting, a.leg)
			if a.panicked != nil {
				panicked = a.panicked
				cancel()
				continue
			}
			if a.err == nil || calls.Err() == nil {
				m.legs[a.leg].note(a.err)
			}
			if a.err == nil {
				wraps[a.leg] = &a.wrap
			} else {
				errs = append(errs, a.err)
			}
		case <-hurry:
			hurry = make(chan time.Time) // once
			for i := range waiting {
				m.legs[i].slow()
			}
			cancel() // the answers are still waited for: nothing goes on behind the caller's back
		}
	}
	if panicked != nil {
		panic(panicked)
	}
	return errs
}

// gather is one error for several providers, of one kind: where trying again may help, that one, else the first that is more than a provider's
// word that the wrap is not its own. The others are in its text.
func gather(ctx context.Context, errs []error) error {
	if err := ctx.Err(); err != nil && !slices.ContainsFunc(errs, func(e error) bool { return errors.Is(e, err) }) {
		// The caller gave up, which is what it asks for, whatever a provider said before.
		errs = append(slices.Clone(errs), &Error{Op: "wait", Service: "multi", Kind: ErrUnavailable, Err: err})
	}
	if len(errs) == 1 {
		return errs[0]
	}
	worth := func(err error) int {
		switch {
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return 3
		case errors.Is(err, ErrUnavailable), errors.Is(err, ErrThrottled):
			return 2
		case errors.Is(err, ErrForeignKey):
			return 0
		}
		return 1
	}
	main := 0
	for i, err := range errs {
		if worth(err) > worth(errs[main]) {
			main = i
		}
	}
	others := make([]string, 0, len(errs))
	for i, err := range errs {
		if i != main {
			others = append(others, err.Error())
		}
	}
	also := strings.Join(others, "; ")
	e, ok := errs[main].(*Error)
	if !ok {
		return fmt.Errorf("%w; and: %s", errs[main], also)
	}
	c := *e
	if c.Err == nil {
		c.Err = errors.New("and: " + also)
	} else {
		c.Err = fmt.Errorf("%w; and: %s", c.Err, also)
	}
	return &c
}

// covers reports whether wraps are just those that the legs make: one of each, and none of anyone else.
func (m *Multi) covers(wraps []Wrapped) bool {
	for _, l := range m.legs {
		if _, ok := m.has(l, wraps); !ok {
			return false
		}
	}
	return !slices.ContainsFunc(wraps, func(w Wrapped) bool { return !m.Owns(w) }) && len(wraps) == len(m.legs)
}

// Owns reports whether w lies under the key of one of the providers.
func (m *Multi) Owns(w Wrapped) bool {
	return slices.ContainsFunc(m.legs, func(l *leg) bool { return l.owns(w) })
}

// Wrap wraps dek under the key of one provider: the first, in the order in which reading asks them, that answers.
func (m *Multi) Wrap(ctx context.Context, dek DEK, ec Context) (Wrapped, error) {
	var legs, resting []*leg
	for _, l := range m.legs {
		if l.rests() {
			resting = append(resting, l)
		} else {
			legs = append(legs, l)
		}
	}
	var errs []error
	for _, l := range append(legs, resting...) {
		l.take()
		w, err := l.Wrap(ctx, dek, ec)
		if err == nil || ctx.Err() == nil {
			l.note(err)
		}
		if err == nil {
			return w, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || errors.Is(err, ErrInvalid) {
			break
		}
	}
	return Wrapped{}, gather(ctx, errs)
}

// Unwrap asks the provider that owns w.
func (m *Multi) Unwrap(ctx context.Context, w Wrapped, ec Context) (DEK, error) {
	return m.any(ctx, []Wrapped{w}, func(ctx context.Context, l *leg, w Wrapped) (DEK, error) { return l.Unwrap(ctx, w, ec) })
}

// String names the providers.
func (m *Multi) String() string {
	if m == nil {
		return "kmskey.Multi(nil)"
	}
	names := make([]string, len(m.legs))
	for i, l := range m.legs {
		names[i] = nameOf(l.Provider)
	}
	return "kmskey.Multi(" + strings.Join(names, ", ") + ")"
}
