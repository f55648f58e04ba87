package kmskeytest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// rewraps gives the insecure key a Rewrap, which local keys have no use for.
type rewraps struct{ *localkey.Provider }

func (r rewraps) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	if _, ok := source.(rewraps); !ok {
		return kmskey.Wrapped{}, kmskey.ErrNotRewrappable
	}
	dek, err := source.Unwrap(ctx, w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	return r.Wrap(ctx, dek, to)
}

func TestCounter(t *testing.T) {
	ctx, ec := context.Background(), kmskey.Context{}
	t.Run("counts_calls_by_operation_and_failed_ones_too", func(t *testing.T) {
		c := kmskeytest.NewCounter(rewraps{localkey.NewInsecure()})
		p := c.Provider()
		w, err := p.Wrap(ctx, kmskey.NewDEK(), ec)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := p.Unwrap(ctx, w, ec); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.(kmskey.Rewrapper).Rewrap(ctx, p, w, ec, ec); err != nil {
			t.Errorf("rewrap from itself: %v", err)
		}
		if _, err := p.(kmskey.Rewrapper).Rewrap(ctx, c, w, ec, ec); err != nil {
			t.Errorf("rewrap from the plain counter: %v", err)
		}
		if _, err := p.Unwrap(ctx, kmskey.Wrapped{}, ec); err == nil {
			t.Error("an empty Wrapped opened")
		}
		if c.Count("wrap") != 1 || c.Count("unwrap") != 3 || c.Count("rewrap") != 2 || c.Calls() != 6 || c.InFlight() != 0 || c.MaxInFlight() != 1 {
			t.Errorf("%d %d %d, %d calls, %d in flight, at most %d", c.Count("wrap"), c.Count("unwrap"), c.Count("rewrap"), c.Calls(), c.InFlight(), c.MaxInFlight())
		}
		c.Reset()
		if c.Calls() != 0 || c.MaxInFlight() != 0 {
			t.Error("Reset left counts")
		}
	})
	t.Run("shows_the_powers_of_the_inside_and_no_others", func(t *testing.T) {
		local := localkey.NewInsecure()
		type (
			R = kmskey.Rewrapper
			G = kmskey.Generator
			B = kmskey.BlindGenerator
		)
		all := struct {
			rewraps
			generating
		}{rewraps{local}, generating{Provider: local}}
		for _, inner := range []kmskey.Provider{
			local, rewraps{local}, generating{Provider: local},
			struct {
				kmskey.Provider
				R
				G
				B
			}{local, all, all, all},
			struct {
				kmskey.Provider
				R
				G
			}{local, all, all},
			struct {
				kmskey.Provider
				R
				B
			}{local, all, all},
			struct {
				kmskey.Provider
				G
			}{local, all},
			struct {
				kmskey.Provider
				B
			}{local, all},
		} {
			c := kmskeytest.NewCounter(inner)
			for _, p := range []kmskey.Provider{inner, c.Provider()} {
				_, r := p.(R)
				_, g := p.(G)
				_, b := p.(B)
				_, wantR := inner.(R)
				_, wantG := inner.(G)
				_, wantB := inner.(B)
				if r != wantR || g != wantG || b != wantB {
					t.Errorf("%T: %t %t %t, want %t %t %t", p, r, g, b, wantR, wantG, wantB)
				}
				if b {
					if _, err := p.(B).GenerateWrapped(ctx, ec); err != nil {
						t.Error(err)
					}
				}
				if g {
					if _, _, err := p.(G).Generate(ctx, ec); err != nil {
						t.Error(err)
					}
				}
			}
			if _, ok := any(c).(R); ok {
				t.Error("the counter itself shows a power")
			}
			_, g := inner.(G)
			_, b := inner.(B)
			if (c.Count("generate") == 1) != g || (c.Count("generate wrapped") == 1) != b {
				t.Errorf("%T: counted %d and %d", inner, c.Count("generate"), c.Count("generate wrapped"))
			}
		}
	})
	t.Run("owns_what_the_inside_owns_and_asking_is_no_call", func(t *testing.T) {
		local := localkey.NewInsecure()
		w, err := local.Wrap(ctx, kmskey.NewDEK(), ec)
		if err != nil {
			t.Fatal(err)
		}
		c := kmskeytest.NewCounter(local)
		if !c.Owns(w) || c.Owns(kmskey.Wrapped{}) || c.Calls() != 0 {
			t.Errorf("%t %t, %d calls", c.Owns(w), c.Owns(kmskey.Wrapped{}), c.Calls())
		}
	})
	t.Run("before_may_fail_a_call", func(t *testing.T) {
		want := errors.New("no")
		c := kmskeytest.NewCounter(localkey.NewInsecure())
		c.Before = func(_ context.Context, call kmskeytest.Call) error {
			if call.Op == "wrap" {
				return want
			}
			return nil
		}
		if w, err := c.Wrap(ctx, kmskey.NewDEK(), ec); !errors.Is(err, want) || w.Blob != nil {
			t.Errorf("%v, %v", w, err)
		}
	})
	t.Run("before_may_hold_calls_and_the_most_in_flight_is_seen", func(t *testing.T) {
		const n = 5
		var arrived sync.WaitGroup
		arrived.Add(n)
		release := make(chan struct{})
		c := kmskeytest.NewCounter(localkey.NewInsecure())
		c.Before = func(context.Context, kmskeytest.Call) error { arrived.Done(); <-release; return nil }
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				if _, err := c.Wrap(ctx, kmskey.NewDEK(), ec); err != nil {
					t.Error(err)
				}
			})
		}
		arrived.Wait()
		if c.InFlight() != n {
			t.Errorf("%d in flight", c.InFlight())
		}
		close(release)
		wg.Wait()
		if c.MaxInFlight() != n || c.InFlight() != 0 {
			t.Errorf("at most %d, now %d", c.MaxInFlight(), c.InFlight())
		}
	})
}
