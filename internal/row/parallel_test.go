package row

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParallelKeepsItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var in, most atomic.Int64
		errs := parallel(t.Context(), 5, 23, func(context.Context, int) error {
			if n := in.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second) // of the bubble's clock: all that may run together do
			in.Add(-1)
			return nil
		})
		if errors.Join(errs...) != nil || len(errs) != 23 || most.Load() != 5 {
			t.Errorf("%d results, %d at once, %v", len(errs), most.Load(), errors.Join(errs...))
		}
	})
}

func TestParallelGoesOnAfterAFailure(t *testing.T) {
	bad := errors.New("bad")
	errs := parallel(t.Context(), 3, 10, func(_ context.Context, i int) error {
		if i == 4 {
			return bad
		}
		return nil
	})
	for i, err := range errs {
		if (i == 4) != (err != nil) {
			t.Errorf("result %d is %v", i, err)
		}
	}
}

func TestParallelBeginsNothingAfterItsContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	begun := 0
	errs := parallel(ctx, 1, 10, func(context.Context, int) error {
		begun++
		if begun == 3 {
			cancel()
		}
		return nil
	})
	if begun != 3 || !errors.Is(errs[9], context.Canceled) || errs[2] != nil {
		t.Errorf("%d begun, %v", begun, errs)
	}
}

func TestParallelOfNothing(t *testing.T) {
	if errs := parallel(t.Context(), 4, 0, nil); len(errs) != 0 {
		t.Error(errs)
	}
}
