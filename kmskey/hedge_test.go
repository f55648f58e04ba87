package kmskey_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowseal/rowseal/kmskey"
)

// late is a key service whose answers take as long as take says of the call's number.
type late struct {
	testProvider
	take     func(n int32) (time.Duration, error)
	inFlight atomic.Int64
}

func (l *late) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	l.inFlight.Add(1)
	defer l.inFlight.Add(-1)
	dek, err := l.testProvider.Unwrap(ctx, w, ec)
	d, failed := l.take(l.unwraps.Load())
	select {
	case <-time.After(d):
		if failed != nil {
			return kmskey.DEK{}, failed
		}
		return dek, err
	case <-ctx.Done():
		return kmskey.DEK{}, &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrUnavailable, Err: ctx.Err()}
	}
}

func slow(t *testing.T, hedge time.Duration, take func(n int32) (time.Duration, error)) (*kmskey.Keyring, *late) {
	t.Helper()
	l := &late{testProvider: testProvider{ref: "r"}, take: take}
	k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: l}}, Hedge: hedge})
	if err != nil {
		t.Fatal(err)
	}
	return k, l
}

var hedged = kmskey.Row{Model: "Patient", Key: "k", ID: []kmskey.Value{kmskey.Int(1)}}

func TestHedge(t *testing.T) {
	const after, quick, long = 25 * time.Millisecond, 10 * time.Millisecond, time.Second
	denied := &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrDenied}
	away := &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrUnavailable}
	for _, c := range []struct {
		name  string
		take  func(n int32) (time.Duration, error)
		calls int
		waits time.Duration
		err   error
	}{
		{"an_answer_in_time_is_asked_for_once", func(int32) (time.Duration, error) { return quick, nil }, 1, quick, nil},
		{"a_late_one_twice", func(n int32) (time.Duration, error) { return []time.Duration{0, long, quick}[n], nil }, 2, after + quick, nil},
		{"the_first_answer_counts", func(n int32) (time.Duration, error) { return []time.Duration{0, 30 * time.Millisecond, long}[n], nil }, 2, 30 * time.Millisecond, nil},
		{"a_refusal_in_time_is_one", func(int32) (time.Duration, error) { return quick, denied }, 1, quick, kmskey.ErrDenied},
		{"a_late_refusal_stands", func(n int32) (time.Duration, error) {
			if n == 1 {
				return 30 * time.Millisecond, denied
			}
			return long, nil
		}, 2, 30 * time.Millisecond, kmskey.ErrDenied},
		{"an_outage_of_the_first_waits_for_the_second", func(n int32) (time.Duration, error) {
			if n == 1 {
				return 30 * time.Millisecond, away
			}
			return 40 * time.Millisecond, nil
		}, 2, after + 40*time.Millisecond, nil},
		{"a_failing_second_leaves_the_first", func(n int32) (time.Duration, error) {
			if n == 1 {
				return 90 * time.Millisecond, nil
			}
			return quick, away
		}, 2, 90 * time.Millisecond, nil},
		{"both_fail", func(int32) (time.Duration, error) { return 30 * time.Millisecond, away }, 2, after + 30*time.Millisecond, kmskey.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, service := slow(t, after, c.take)
				key := kmskey.NewDataKey()
				e, err := k.Wrap(t.Context(), key, hedged)
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				got, err := k.Unwrap(t.Context(), e, hedged)
				if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Errorf("%v, want %v", err, c.err)
				}
				if err == nil && string(got[0].DEK.Bytes()) != string(key.DEK.Bytes()) {
					t.Error("another data key")
				}
				if waits := time.Since(begun); waits != c.waits || int(service.unwraps.Load()) != c.calls || service.inFlight.Load() != 0 {
					t.Errorf("%v and %d calls, %d still in flight; want %v and %d", waits, service.unwraps.Load(), service.inFlight.Load(), c.waits, c.calls)
				}
			})
		})
	}
	t.Run("a_service_that_is_slow_as_a_whole_is_not_asked_twice_for_everything", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, service := slow(t, after, func(int32) (time.Duration, error) { return 2 * after, nil })
			e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), hedged)
			if err != nil {
				t.Fatal(err)
			}
			const n = 1000
			for range n {
				if _, err := k.Unwrap(t.Context(), e, hedged); err != nil {
					t.Fatal(err)
				}
			}
			if calls := service.unwraps.Load(); calls > n+n/20+10 {
				t.Errorf("%d calls for %d keys", calls, n)
			}
		})
	})
	t.Run("a_cancelled_caller_leaves_nothing_behind", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, service := slow(t, after, func(int32) (time.Duration, error) { return long, nil })
			e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), hedged)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if _, err := k.Unwrap(ctx, e, hedged); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
			if n := service.inFlight.Load(); n != 0 {
				t.Errorf("%d calls go on", n)
			}
		})
	})
	t.Run("a_provider_that_panics_panics_in_the_caller", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k, _ := slow(t, after, func(n int32) (time.Duration, error) {
				if n == 2 {
					panic("provider")
				}
				return long, nil
			})
			e, err := k.Wrap(t.Context(), kmskey.NewDataKey(), hedged)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if p := recover(); p == nil || !strings.HasPrefix(p.(string), "provider\n") {
					t.Errorf("%v", p)
				}
			}()
			_, _ = k.Unwrap(t.Context(), e, hedged)
		})
	})
	t.Run("less_than_nothing_is_refused", func(t *testing.T) {
		if _, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: &testProvider{ref: "r"}}}, Hedge: -1}); err == nil || !strings.Contains(err.Error(), "Config.Hedge") {
			t.Errorf("%v", err)
		}
	})
}
