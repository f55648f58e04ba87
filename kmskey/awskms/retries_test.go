package awskms

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

// repeating is a provider on a client that repeats without pauses, within a budget whose time is now.
func repeating(t *testing.T, srv *awskmstest.Server, b *budget, mode aws.RetryMode, timeout time.Duration, options ...func(*kms.Options)) *Provider {
	t.Helper()
	client := srv.Client(append([]func(*kms.Options){func(o *kms.Options) {
		o.Retryer = b.retryer(mode, func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	}}, options...)...)
	p, err := New(client, srv.CreateKey(), Config{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wraps(t *testing.T, p *Provider) error {
	t.Helper()
	_, err := p.Wrap(t.Context(), kmskey.NewDEK(), kmskey.Context{})
	return err
}

func TestRetries(t *testing.T) {
	throttled := func(until int) func(context.Context, awskmstest.Call) error {
		return func(_ context.Context, c awskmstest.Call) error {
			if until == 0 || c.N <= until {
				return awskmstest.Throttled()
			}
			return nil
		}
	}
	t.Run("throttled_twice_and_then_answered_succeeds", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{Before: throttled(2)})
		if err := wraps(t, repeating(t, srv, &budget{perSecond: 10, now: time.Now}, "", time.Minute)); err != nil {
			t.Error(err)
		}
		if srv.Calls("Encrypt") != 3 {
			t.Errorf("%d requests", srv.Calls("Encrypt"))
		}
	})
	t.Run("throttled_for_ever_asks_again_within_the_budget_alone", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{Before: throttled(0)})
		now := time.Unix(1, 0)
		b := &budget{perSecond: 10, now: func() time.Time { return now }}
		// Two clients share the budget of one value.
		providers := []*Provider{repeating(t, srv, b, "", time.Minute), repeating(t, srv, b, "", time.Minute)}
		const calls = 50
		for _, second := range []struct {
			passed  time.Duration
			repeats int
		}{{0, 10}, {time.Second, 10}, {500 * time.Millisecond, 5}, {0, 0}, {time.Hour, 10}, {-time.Hour, 0}} {
			now = now.Add(second.passed)
			srv.ResetCounts()
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					if err := wraps(t, providers[i%2]); !errors.Is(err, kmskey.ErrThrottled) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := srv.TotalCalls(); n != calls+second.repeats {
				t.Errorf("%d requests for %d calls, want %d repeats", n, calls, second.repeats)
			}
		}
		if err := wraps(t, providers[0]); !strings.Contains(err.Error(), "awskms: not asked again: the budget of 10 repeats a second") {
			t.Errorf("%v does not say why it was not repeated", err)
		}
	})
	t.Run("a_budget_of_less_than_one_a_second_has_one_at_once", func(t *testing.T) {
		now := time.Unix(1, 0)
		b := &budget{perSecond: 0.5, now: func() time.Time { return now }}
		for i, want := range []bool{true, false, false, true, false} {
			if _, err := b.GetToken(t.Context(), 1); (err == nil) != want {
				t.Errorf("%d: %v", i, err)
			}
			now = now.Add(700 * time.Millisecond)
		}
	})
	t.Run("a_budget_of_none_repeats_nothing", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{Before: throttled(0)})
		if err := wraps(t, repeating(t, srv, &budget{now: time.Now}, "", time.Minute)); !errors.Is(err, kmskey.ErrThrottled) || srv.TotalCalls() != 1 {
			t.Errorf("%v, %d requests", err, srv.TotalCalls())
		}
	})
	t.Run("the_client's_own_settings_are_kept", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{})
		option := Retries(7)
		for mode, adaptive := range map[aws.RetryMode]bool{aws.RetryModeStandard: false, aws.RetryModeAdaptive: true} {
			o := srv.Client(func(o *kms.Options) { o.RetryMode, o.RetryMaxAttempts = mode, 6 }, option).Options()
			if o.Retryer.MaxAttempts() != 6 {
				t.Errorf("%s: %d attempts", mode, o.Retryer.MaxAttempts())
			}
			o = kms.Options{RetryMode: mode}
			option(&o)
			if _, is := o.Retryer.(paced); is != adaptive || o.Retryer.MaxAttempts() != retry.DefaultMaxAttempts {
				t.Errorf("%s: %T", mode, o.Retryer)
			}
		}
	})
	t.Run("what_waits_for_its_turn_in_adaptive_mode_fails_as_throttled_in_time", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{Before: throttled(0)})
		p := repeating(t, srv, &budget{perSecond: 100, now: time.Now}, aws.RetryModeAdaptive, 50*time.Millisecond)
		for range 5 {
			if err := wraps(t, p); !errors.Is(err, kmskey.ErrThrottled) {
				t.Error(err)
			}
		}
		// The slowest pace of the SDK is a request in two seconds; at first one or two are free.
		if n := srv.TotalCalls(); n > 4 {
			t.Errorf("%d requests", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Wrap(ctx, kmskey.NewDEK(), kmskey.Context{}); !errors.Is(err, kmskey.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	t.Run("an_attempt_that_is_not_answered_ends_and_is_repeated", func(t *testing.T) {
		hang := func(until int) func(context.Context, awskmstest.Call) error {
			return func(ctx context.Context, c awskmstest.Call) error {
				if c.N <= until {
					<-ctx.Done()
				}
				return nil
			}
		}
		bounded := func(o *kms.Options) {
			o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(300 * time.Millisecond).WithTransportOptions(func(tr *http.Transport) { tr.Proxy, tr.DisableKeepAlives = nil, true })
		}
		srv := awskmstest.New(t, awskmstest.Config{Before: hang(1)})
		if err := wraps(t, repeating(t, srv, &budget{perSecond: 10, now: time.Now}, "", time.Minute, bounded)); err != nil || srv.TotalCalls() < 2 {
			t.Errorf("%v after %d requests", err, srv.TotalCalls())
		}
		srv = awskmstest.New(t, awskmstest.Config{Before: hang(1000)})
		if err := wraps(t, repeating(t, srv, &budget{perSecond: 10, now: time.Now}, "", time.Minute, bounded)); !errors.Is(err, kmskey.ErrUnavailable) || srv.TotalCalls() != 3 {
			t.Errorf("%v after %d requests", err, srv.TotalCalls())
		}
	})
	t.Run("the_act_ends_with_its_timeout_whatever_repeats_are_left", func(t *testing.T) {
		srv := awskmstest.New(t, awskmstest.Config{Before: throttled(0)})
		client := srv.Client(func(o *kms.Options) { o.RetryMaxAttempts = 1000 }, Retries(1000))
		p, err := New(client, srv.CreateKey(), Config{Timeout: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := wraps(t, p); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Config.Timeout") {
			t.Error(err)
		}
	})
}
