// pace.go owns how fast a rotation asks a key service: fewer calls at once while it throttles, more again when it does not.

package rotation

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// pace is a semaphore whose size follows the service: halved when it throttles, one more after as many answers as it lets through (additive increase,
// multiplicative decrease, as TCP does; Chiu and Jain, 1989).
type pace struct {
	mu      sync.Mutex
	most    int
	limit   int
	flying  int
	good    int // answers since the limit last moved
	flown   int // calls that ended since it was last halved
	waiting []chan struct{}
}

func newPace(most int) *pace { return &pace{most: most, limit: most, flown: 2 * most} }

func (p *pace) acquire(ctx context.Context) error {
	p.mu.Lock()
	if p.flying < p.limit {
		p.flying++
		p.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-turn: // it came in between, and goes to the next
		p.flying--
		p.admit()
	default:
		for i, w := range p.waiting {
			if w == turn {
				p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
				break
			}
		}
	}
	return ctx.Err()
}

func (p *pace) release(throttled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying--
	p.flown++
	switch {
	case throttled && p.flown >= 2*p.limit: // once for those that were under way together when it was halved before
		p.limit, p.good, p.flown = max(1, p.limit/2), 0, 0
	case !throttled:
		if p.good++; p.good >= p.limit && p.limit < p.most {
			p.limit, p.good = p.limit+1, 1
		}
	}
	p.admit()
}

func (p *pace) admit() {
	for p.flying < p.limit && len(p.waiting) > 0 {
		p.flying++
		close(p.waiting[0])
		p.waiting = p.waiting[1:]
	}
}

// pause is a wait that doubles, up to a bound, with full jitter.
type pause struct {
	first, most, next time.Duration
}

func newPause(first, most time.Duration) *pause { return &pause{first, most, first} }

func (p *pause) reset() { p.next = p.first }

func (p *pause) wait(ctx context.Context) error {
	d := p.next/2 + rand.N(p.next/2+1)
	p.next = min(p.next*2, p.most)
	return sleep(ctx, d)
}

// turn waits for one event of a limiter. The limiter's own Wait gives up at once, with an error of its own, where a deadline would come first.
func turn(ctx context.Context, l *rate.Limiter) error {
	r := l.Reserve()
	err := sleep(ctx, r.Delay())
	if err != nil {
		r.Cancel()
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each calls do for 0 to n-1 from at most the given number of goroutines, which have all ended when it returns. The first error ends the contexts of all, and is given.
func each(ctx context.Context, n, most int, do func(ctx context.Context, i int) error) error {
	work, halt := context.WithCancelCause(ctx)
	defer halt(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, most) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && work.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(work, i); err != nil {
					halt(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(work)
}
