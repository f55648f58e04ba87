// retries.go owns how often a client asks again.

package awskms

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Retries is an option of kms.NewFromConfig and kms.New that bounds how often the client asks again, so that a service in need is not
// asked more on top:
//
//	client := kms.NewFromConfig(cfg, awskms.Retries(10))
//
// What is asked again, how often for one call (RetryMaxAttempts, by default 3 requests in all) and after which pauses stays the SDK's
// matter and is set there. Of all clients made with the one value of Retries together, at most perSecond requests in a second are
// repeats, and as many (at least one) at once; with 0 none are. A call whose repeat is not in the budget fails with what AWS answered, at once.
//
// The SDK's own budget knows no time: 100 repeats, and a new one for each five calls that succeed at first. In its adaptive mode
// nothing refills it (aws-sdk-go-v2 v1.47): a client that was throttled a hundred times in its life never asks again.
//
// RetryMode of the client's options is kept. In [aws.RetryModeAdaptive], once AWS throttles, the client also slows down its first
// requests, which wait in the process; one that waits longer than [Config].Timeout fails with [kmskey.ErrThrottled]. Bound one
// request, so that a repeat is left time where an answer never comes, with the HTTP client:
// awshttp.NewBuildableClient().WithTimeout(2*time.Second).
func Retries(perSecond float64) func(*kms.Options) {
	b := &budget{perSecond: perSecond, now: time.Now}
	return func(o *kms.Options) { o.Retryer = b.retryer(o.RetryMode) }
}

// budget is a bucket of repeats that time refills, behind the SDK's seam for one ([retry.RateLimiter]).
type budget struct {
	perSecond float64
	now       func() time.Time

	mu   sync.Mutex
	left float64
	at   time.Time // of left
}

func (b *budget) retryer(mode aws.RetryMode, options ...func(*retry.StandardOptions)) aws.RetryerV2 {
	options = append(options, func(o *retry.StandardOptions) {
		o.RateLimiter = b
		o.RetryCost, o.RetryTimeoutCost, o.ThrottlingRetryCost = 1, 1, 1
	})
	if mode == aws.RetryModeAdaptive {
		return paced{retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) { o.StandardOptions = options })}
	}
	return retry.NewStandard(options...)
}

// GetToken takes cost from the budget, or fails.
func (b *budget) GetToken(_ context.Context, cost uint) (release func() error, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := max(b.perSecond, 1)
	if now := b.now(); b.at.IsZero() {
		b.left, b.at = full, now
	} else if passed := now.Sub(b.at); passed > 0 {
		b.left, b.at = min(b.left+passed.Seconds()*b.perSecond, full), now
	}
	if b.perSecond <= 0 || b.left < float64(cost) {
		return nil, fmt.Errorf("awskms: not asked again: the budget of %g repeats a second (awskms.Retries) is used up", b.perSecond)
	}
	b.left -= float64(cost)
	return func() error { return nil }, nil
}

// AddTokens does nothing: a call that succeeds earns no repeats, since time does.
func (b *budget) AddTokens(uint) error { return nil }

// paced is the adaptive mode whose waiting has a type of error.
type paced struct{ *retry.AdaptiveMode }

// GetAttemptToken waits until a request may go out.
func (p paced) GetAttemptToken(ctx context.Context) (release func(error) error, err error) {
	release, err = p.AdaptiveMode.GetAttemptToken(ctx)
	if err != nil {
		return nil, &heldBack{err}
	}
	return release, nil
}

// heldBack is a request that the client did not send, as AWS had throttled it before.
type heldBack struct{ err error }

func (h *heldBack) Error() string {
	return "held back by the client, after AWS asked for fewer calls: " + h.err.Error()
}
func (h *heldBack) Unwrap() error { return h.err }
