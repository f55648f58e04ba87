// crew.go owns how many goroutines move the keys of a page.

package rotation

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// crew is as many goroutines as calls to a key service need that are waited for, and no more than leave a processor free where keys are wrapped right here:
// Go looks at the network only when a processor has nothing to do (or every 10 ms), and the page before this one is being stored over it meanwhile.
type crew struct {
	size atomic.Int64 // that the last page needed; 0 before the first
}

const (
	crewTick  = time.Millisecond
	crewQuick = 200 * time.Microsecond // a unit that takes less waits for nobody
)

// do calls unit for each number below n, at most that many at once, until ctx is done. It returns when all calls have.
func (c *crew) do(ctx context.Context, n, most, lanes int, unit func(int)) {
	if n == 0 {
		return
	}
	least := min(most, max(1, (runtime.GOMAXPROCS(0)-1)/lanes))
	size := min(most, n, max(least, int(c.size.Load())))
	var next, done, busy atomic.Int64
	leaving := make(chan struct{}, most)
	alive := 0
	hire := func(more int) {
		alive += more
		for range more {
			go func() {
				defer func() { leaving <- struct{}{} }()
				for ctx.Err() == nil {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					start := time.Now()
					unit(i)
					busy.Add(int64(time.Since(start)))
					done.Add(1)
				}
			}()
		}
	}
	hire(size)
	tick := time.NewTicker(crewTick)
	defer tick.Stop()
	for last := int64(0); alive > 0; {
		select {
		case <-leaving:
			alive--
		case <-tick.C:
			at := done.Load()
			// They have not come further by one each, in the time of several quick ones: they wait, and others can ask meanwhile.
			if at-last < int64(size) && int(next.Load()) < n && size < most {
				more := min(size, most-size)
				hire(more)
				size += more
			}
			last = at
		}
	}
	if did := done.Load(); did > 0 && time.Duration(busy.Load()/did) < crewQuick {
		size = least
	}
	c.size.Store(int64(size))
}
