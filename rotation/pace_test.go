package rotation

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func (p *pace) state() (limit, flying, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit, p.flying, len(p.waiting)
}

func TestPaceBoundsWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(5)
		var flying, most atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if err := p.acquire(t.Context()); err != nil {
					t.Error(err)
					return
				}
				n := flying.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(time.Second)
				flying.Add(-1)
				p.release(false)
			})
		}
		start := time.Now()
		wg.Wait()
		if most.Load() != 5 || time.Since(start) != 20*time.Second {
			t.Errorf("%d at once, in %v; want 5, in 20 s", most.Load(), time.Since(start))
		}
		if limit, n, waiting := p.state(); limit != 5 || n != 0 || waiting != 0 {
			t.Errorf("left behind: limit %d, %d in flight, %d waiting", limit, n, waiting)
		}
	})
}

func TestPaceHalvesOnceForThoseUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(64)
		take := func(n int) {
			for range n {
				if err := p.acquire(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		take(64)
		p.release(false) // an answer, so that a throttled one after it says something new
		for range 63 {
			p.release(true)
		}
		if limit, _, _ := p.state(); limit != 32 {
			t.Errorf("limit %d after one storm, want 32", limit)
		}
		// Then one at a time, down to 1 and not below.
		for _, want := range []int{16, 8, 4, 2, 1, 1, 1} {
			take(1)
			p.release(false)
			take(1)
			p.release(true)
			if limit, _, _ := p.state(); limit != want {
				t.Errorf("limit %d, want %d", limit, want)
			}
		}
		// And up by one for as many answers as it lets through, to 64 and not above.
		answers := 0
		for limit := 1; limit < 64; limit, _, _ = p.state() {
			take(1)
			p.release(false)
			if answers++; answers > 64*64 {
				t.Fatal("it does not recover")
			}
		}
		if answers < 63*64/2-64 {
			t.Errorf("back at 64 after %d answers, which is a jump", answers)
		}
		for range 200 {
			take(1)
			p.release(false)
		}
		if limit, _, _ := p.state(); limit != 64 {
			t.Errorf("limit %d, more than it may be", limit)
		}
	})
}

// TestPaceThrottledFromTheStart: a service that has not given one answer.
func TestPaceThrottledFromTheStart(t *testing.T) {
	p := newPace(8)
	for range 8 {
		if err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 8 {
		p.release(true)
	}
	if limit, flying, _ := p.state(); limit != 4 || flying != 0 {
		t.Errorf("limit %d, %d in flight; want 4 and none", limit, flying)
	}
}

func TestPaceCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1)
		if err := p.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var gaveUp atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := p.acquire(ctx); errors.Is(err, context.Canceled) {
					gaveUp.Add(1)
				} else if err == nil {
					p.release(false)
				}
			})
		}
		var patient atomic.Bool
		wg.Go(func() {
			if err := p.acquire(t.Context()); err == nil {
				patient.Store(true)
				p.release(false)
			}
		})
		synctest.Wait()
		// At the same moment: whoever gives up and has its turn all the same hands it on.
		cancel()
		p.release(false)
		wg.Wait()
		if !patient.Load() {
			t.Error("who waited on did not get its turn")
		}
		if limit, flying, waiting := p.state(); limit != 1 || flying != 0 || waiting != 0 {
			t.Errorf("limit %d, %d in flight, %d waiting, %d gave up", limit, flying, waiting, gaveUp.Load())
		}
	})
}

func TestPauseDoublesUpToItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPause(time.Second, 5*time.Second)
		for _, most := range []time.Duration{1, 2, 4, 5, 5} {
			start := time.Now()
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d < most*time.Second/2 || d > most*time.Second {
				t.Errorf("waited %v, want between half of %d s and all of it", d, most)
			}
		}
		p.reset()
		start := time.Now()
		_ = p.wait(t.Context())
		if d := time.Since(start); d > time.Second {
			t.Errorf("waited %v after a reset", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start = time.Now()
		if err := p.wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
