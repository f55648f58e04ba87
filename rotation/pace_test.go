package rotation

import "testing"

// TestPaceGivesWayInAStorm: a service that throttles everything, from the first call on.
func TestPaceGivesWayInAStorm(t *testing.T) {
	p := newPace(64)
	round := func(throttled bool) {
		n := p.limit
		for range n {
			if err := p.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for range n {
			p.release(throttled)
		}
	}
	round(true)
	if p.limit != 32 {
		t.Errorf("after one round: %d", p.limit)
	}
	for range 10 {
		round(true)
	}
	if p.limit != 1 {
		t.Errorf("in a storm: %d", p.limit)
	}
	for range 100 {
		round(false)
	}
	if p.limit != 64 {
		t.Errorf("after it: %d", p.limit)
	}
}
