package rotation

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCrewGrowsWhereItWaitsAndShrinksWhereItDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crew{}
		page := func(n int, d time.Duration) (most int64, took time.Duration) {
			var flying, peak atomic.Int64
			seen := make([]atomic.Int64, n)
			start := time.Now()
			c.do(t.Context(), n, 64, 1, func(i int) {
				seen[i].Add(1)
				f := flying.Add(1)
				for m := peak.Load(); f > m && !peak.CompareAndSwap(m, f); m = peak.Load() {
				}
				time.Sleep(d)
				flying.Add(-1)
			})
			for i := range seen {
				if seen[i].Load() != 1 {
					t.Fatalf("unit %d was done %d times", i, seen[i].Load())
				}
			}
			return peak.Load(), time.Since(start)
		}
		if most, took := page(1000, 10*time.Millisecond); most != 64 || took > 180*time.Millisecond {
			t.Errorf("the first page: %d at once, %v", most, took)
		}
		if most, took := page(1000, 10*time.Millisecond); most != 64 || took > 161*time.Millisecond {
			t.Errorf("the next: %d at once, %v", most, took)
		}
		if most, _ := page(3, 10*time.Millisecond); most != 3 {
			t.Errorf("a page of three: %d at once", most)
		}
		page(1000, 0) // wrapped right here
		if size := c.size.Load(); size > 64/2 {
			t.Errorf("%d for units that wait for nobody", size)
		}
		page(0, time.Second)
	})
}

func TestCrewStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var did atomic.Int64
		c := &crew{}
		c.do(ctx, 1000, 8, 1, func(int) {
			if did.Add(1) == 20 {
				cancel()
			}
			time.Sleep(time.Millisecond)
		})
		if n := did.Load(); n < 20 || n > 30 {
			t.Errorf("%d were done, want about 20", n)
		}
	})
}
