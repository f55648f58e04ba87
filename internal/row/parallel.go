package row

import (
	"context"
	"sync"
	"sync/atomic"
)

// parallel calls f for 0 to n-1 from at most limit goroutines, which all end before it returns, and gives the errors by index. A
// call that was not begun when ctx ended has ctx's error. One failure does not stop the others: a page with one bad row still
// opens the rest.
func parallel(ctx context.Context, limit, n int, f func(ctx context.Context, i int) error) []error {
	if n == 1 && ctx.Err() == nil { // as most statements have it, without goroutines and what they need
		return []error{f(ctx, 0)}
	}
	errs := make([]error, n)
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			if err := ctx.Err(); err != nil {
				errs[i] = err
				continue
			}
			errs[i] = f(ctx, i)
		}
	}
	var wg sync.WaitGroup
	for range min(limit, n) - 1 {
		wg.Go(work)
	}
	if n > 0 {
		work()
	}
	wg.Wait()
	return errs
}
