package keycache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

var (
	errAway    = errors.New("away")
	errRefused = errors.New("refused")
)

// ID is what the tests remember keys under.
type ID [32]byte

// key is what the tests remember: it knows when it is used after its end.
type key struct {
	n         int // of the load that made it, from 1
	destroyed atomic.Int32
	uses      atomic.Int32
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// fixture is a cache, a service whose answers a test sets, and a watch over every key that the cache took.
type fixture struct {
	*Cache[ID, *key]
	clock *clock
	t     testing.TB

	mu    sync.Mutex
	fail  error
	taken []*key
	loads int
}

func newFixture(t testing.TB, cfg Config) *fixture {
	t.Helper()
	f := &fixture{clock: &clock{now: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)}, t: t}
	if cfg.Now == nil {
		cfg.Now = f.clock.Now
	}
	cfg.Away = func(err error) bool { return errors.Is(err, errAway) }
	c, err := New[ID](cfg, func(k *key) {
		if n := k.uses.Load(); n != 0 {
			t.Errorf("key %d was destroyed in %d uses", k.n, n)
		}
		k.destroyed.Add(1)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Cache = c
	t.Cleanup(func() {
		f.Flush()
		for _, k := range f.taken {
			if n := k.destroyed.Load(); n != 1 {
				t.Errorf("key %d was destroyed %d times", k.n, n)
			}
		}
		if len(c.values) != 0 || len(c.asking) != 0 || len(c.doomed) != 0 || c.recent.Len() != 0 {
			t.Errorf("left in the cache: %d values, %d questions, %d doomed, %d in the order", len(c.values), len(c.asking), len(c.doomed), c.recent.Len())
		}
	})
	return f
}

func (f *fixture) answer(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.fail = err }

func (f *fixture) asked() int { f.mu.Lock(); defer f.mu.Unlock(); return f.loads }

// load is the service.
func (f *fixture) load(context.Context) (*key, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loads++
	if f.fail != nil {
		return nil, f.fail
	}
	k := &key{n: f.loads}
	f.taken = append(f.taken, k)
	return k, nil
}

// get uses id once, and gives the number of the load that made the key.
func (f *fixture) get(ctx context.Context, id ID, load func(context.Context) (*key, error)) (n int, err error) {
	err = f.Use(ctx, id, 1, load, func(k *key) error {
		k.uses.Add(1)
		defer k.uses.Add(-1)
		if k.destroyed.Load() != 0 {
			f.t.Errorf("key %d is used after its end", k.n)
		}
		n = k.n
		return nil
	})
	return n, err
}

// want uses id once and holds the answer to key or err, and the number of loads so far.
func (f *fixture) want(id ID, n int, err error, loads int) {
	f.t.Helper()
	got, gotErr := f.get(context.Background(), id, f.load)
	if got != n || !errors.Is(gotErr, err) || err == nil && gotErr != nil || f.asked() != loads {
		f.t.Fatalf("key %d, %v after %d loads; want key %d, %v after %d", got, gotErr, f.asked(), n, err, loads)
	}
}

func (f *fixture) wantStats(want Stats) {
	f.t.Helper()
	if got := f.Stats(); got != want {
		f.t.Errorf("Stats are %+v, want %+v", got, want)
	}
}

// held is a load that begins when a test has seen it, and ends when the test says so.
type held struct {
	begun, end chan struct{}
	load       func(context.Context) (*key, error)
}

func (f *fixture) held() held {
	h := held{begun: make(chan struct{}), end: make(chan struct{})}
	h.load = func(ctx context.Context) (*key, error) {
		close(h.begun)
		select {
		case <-h.end:
			return f.load(ctx)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errAway, ctx.Err()) // as providers do
		}
	}
	return h
}

type result struct {
	n   int
	err error
}

// start uses id in a goroutine of its own.
func (f *fixture) start(ctx context.Context, id ID, load func(context.Context) (*key, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		n, err := f.get(ctx, id, load)
		done <- result{n, err}
	}()
	return done
}

func (f *fixture) wantResult(done <-chan result, n int, err error) {
	f.t.Helper()
	r := <-done
	if r.n != n || !errors.Is(r.err, err) || err == nil && r.err != nil {
		f.t.Fatalf("key %d, %v; want key %d, %v", r.n, r.err, n, err)
	}
}

// bubble runs a test in which synctest.Wait returns when every goroutine waits.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

var ctx = context.Background()

func TestNew(t *testing.T) {
	away := func(error) bool { return false }
	nop := func(int) {}
	t.Run("the_zero_Config_has_the_defaults_that_it_names", func(t *testing.T) {
		c, err := New[ID](Config{Away: away}, nop)
		if err != nil {
			t.Fatal(err)
		}
		got := c.cfg
		if got.MaxAge != 15*time.Minute || got.Ahead != 12*time.Minute || got.MaxStale != 4*time.Hour || got.Patience != 10*time.Second ||
			got.Entries != 1000 || got.MaxUses != 1<<32 || got.MaxBytes != 1<<52 || got.Now == nil {
			t.Errorf("%+v", got)
		}
	})
	t.Run("MaxStale_follows_a_longer_MaxAge", func(t *testing.T) {
		c, err := New[ID](Config{Away: away, MaxAge: math.MaxInt64}, nop)
		if err != nil || c.cfg.MaxStale != math.MaxInt64 || c.cfg.Ahead < math.MaxInt64/2 {
			t.Errorf("%v", err)
		}
	})
	for field, cfg := range map[string]Config{
		"MaxAge": {MaxAge: -1}, "Ahead": {Ahead: -1}, "MaxStale": {MaxStale: -1}, "Patience": {Patience: -1},
		"Entries": {Entries: -1}, "MaxUses": {MaxUses: -1}, "MaxBytes": {MaxBytes: -1},
		"Ahead is 2s":     {MaxAge: time.Second, Ahead: 2 * time.Second},
		"MaxStale is 59s": {MaxAge: time.Minute, MaxStale: 59 * time.Second},
	} {
		t.Run("refuses_"+field, func(t *testing.T) {
			cfg.Away = away
			if _, err := New[ID](cfg, nop); err == nil || !strings.HasPrefix(err.Error(), "keycache: "+field) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := New[ID](Config{}, nop); err == nil || !strings.Contains(err.Error(), "Away is missing") {
		t.Errorf("error %v", err)
	}
	if _, err := New[ID, int](Config{Away: away}, nil); err == nil || !strings.Contains(err.Error(), "destroy is missing") {
		t.Errorf("error %v", err)
	}
}

func TestOneAsks(t *testing.T) {
	bubble(t, "for_a_hundred_who_need_the_same_key", func(t *testing.T) {
		f := newFixture(t, Config{})
		h := f.held()
		all := []<-chan result{f.start(ctx, ID{}, h.load)}
		<-h.begun
		for range 99 {
			all = append(all, f.start(ctx, ID{}, func(context.Context) (*key, error) { t.Error("a second load"); return nil, errRefused }))
		}
		synctest.Wait()
		close(h.end)
		for _, done := range all {
			f.wantResult(done, 1, nil)
		}
		f.wantStats(Stats{Loads: 1, Hits: 99, Entries: 1})
	})
	bubble(t, "and_not_for_another_key", func(t *testing.T) {
		f := newFixture(t, Config{})
		h := f.held()
		first := f.start(ctx, ID{1}, h.load)
		<-h.begun
		f.want(ID{2}, 1, nil, 1)
		close(h.end)
		f.wantResult(first, 2, nil)
	})
	bubble(t, "and_whoever_gives_up_waiting_leaves_at_once", func(t *testing.T) {
		f := newFixture(t, Config{})
		h := f.held()
		leader := f.start(ctx, ID{}, h.load)
		<-h.begun
		impatient, cancel := context.WithCancel(ctx)
		waiter := f.start(impatient, ID{}, f.load)
		synctest.Wait()
		cancel()
		f.wantResult(waiter, 0, context.Canceled)
		close(h.end)
		f.wantResult(leader, 1, nil)
	})
	bubble(t, "and_when_it_gives_up_the_next_asks", func(t *testing.T) {
		f := newFixture(t, Config{})
		for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
			f.Flush()
			first := f.asked()
			leaving, cancel := context.WithCancel(ctx)
			if end == context.DeadlineExceeded {
				leaving, cancel = context.WithTimeout(ctx, time.Second)
			}
			h := f.held()
			leader := f.start(leaving, ID{}, h.load)
			<-h.begun
			var rest []<-chan result
			for range 10 {
				rest = append(rest, f.start(ctx, ID{}, f.load))
			}
			synctest.Wait()
			if end == context.Canceled {
				cancel()
			}
			f.wantResult(leader, 0, end)
			for _, done := range rest {
				f.wantResult(done, first+1, nil)
			}
			cancel()
		}
	})
	bubble(t, "whose_refusal_is_all_the_others'_even_if_it_left_too", func(t *testing.T) {
		f := newFixture(t, Config{})
		leaving, cancel := context.WithCancel(ctx)
		begun, end := make(chan struct{}), make(chan struct{})
		leader := f.start(leaving, ID{}, func(context.Context) (*key, error) { close(begun); <-end; cancel(); return nil, errRefused })
		<-begun
		waiter := f.start(ctx, ID{}, f.load)
		synctest.Wait()
		close(end)
		f.wantResult(leader, 0, errRefused)
		f.wantResult(waiter, 0, errRefused)
		f.want(ID{}, 1, nil, 1) // and is not remembered
	})
	for _, fail := range []error{errAway, errRefused} {
		bubble(t, "whose_error_all_who_waited_share,_and_nobody_later/"+fail.Error(), func(t *testing.T) {
			f := newFixture(t, Config{})
			f.answer(fail)
			h := f.held()
			all := []<-chan result{f.start(ctx, ID{}, h.load)}
			<-h.begun
			for range 99 {
				all = append(all, f.start(ctx, ID{}, f.load))
			}
			synctest.Wait()
			close(h.end)
			for _, done := range all {
				f.wantResult(done, 0, fail)
			}
			f.wantStats(Stats{Loads: 1, Failures: 1})
			f.answer(nil)
			f.want(ID{}, 2, nil, 2)
		})
	}
	bubble(t, "and_nobody_whose_ctx_has_ended", func(t *testing.T) {
		f := newFixture(t, Config{})
		ended, cancel := context.WithCancel(ctx)
		cancel()
		f.wantResult(f.start(ended, ID{}, f.load), 0, context.Canceled)
		f.want(ID{}, 1, nil, 1)
		f.wantResult(f.start(ended, ID{}, f.load), 1, nil) // what is there needs no asking
		f.clock.pass(14 * time.Minute)
		f.wantResult(f.start(ended, ID{}, f.load), 1, nil)
		f.clock.pass(2 * time.Minute)
		f.wantResult(f.start(ended, ID{}, f.load), 0, context.Canceled)
		f.want(ID{}, 2, nil, 2)
	})
	t.Run("in_the_caller's_goroutine,_with_its_ctx", func(t *testing.T) {
		f := newFixture(t, Config{})
		type mark struct{}
		var stack [1 << 14]byte
		_, err := f.get(context.WithValue(ctx, mark{}, "here"), ID{}, func(ctx context.Context) (*key, error) {
			if ctx.Value(mark{}) != "here" {
				t.Error("another ctx")
			}
			if text := string(stack[:runtime.Stack(stack[:], false)]); !strings.Contains(text, "TestOneAsks") {
				t.Errorf("not called by the test:\n%s", text)
			}
			return f.load(ctx)
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("and_may_use_other_keys_for_it", func(t *testing.T) {
		f := newFixture(t, Config{Entries: 1})
		n, err := f.get(ctx, ID{1}, func(ctx context.Context) (k *key, err error) {
			_, err = f.get(ctx, ID{2}, func(ctx context.Context) (*key, error) {
				if _, err := f.get(ctx, ID{3}, f.load); err != nil {
					return nil, err
				}
				return f.load(ctx)
			})
			if err != nil {
				return nil, err
			}
			return f.load(ctx)
		})
		if n != 3 || err != nil {
			t.Errorf("key %d, %v", n, err)
		}
	})
}

func TestPanic(t *testing.T) {
	panics := func(t *testing.T, call func()) {
		t.Helper()
		defer func() {
			if recover() != "canary" {
				t.Error("the panic was lost")
			}
		}()
		call()
	}
	bubble(t, "in_load_lets_the_next_ask", func(t *testing.T) {
		f := newFixture(t, Config{})
		begun, end := make(chan struct{}), make(chan struct{})
		go panics(t, func() {
			_, _ = f.get(ctx, ID{}, func(context.Context) (*key, error) { close(begun); <-end; panic("canary") })
		})
		<-begun
		waiter := f.start(ctx, ID{}, f.load)
		synctest.Wait()
		close(end)
		f.wantResult(waiter, 1, nil)
		f.wantStats(Stats{Loads: 2, Failures: 1, Entries: 1})
	})
	bubble(t, "or_end_of_the_goroutine_in_load_likewise", func(t *testing.T) {
		f := newFixture(t, Config{})
		go func() {
			_, _ = f.get(ctx, ID{}, func(context.Context) (*key, error) { runtime.Goexit(); return nil, nil })
		}()
		synctest.Wait()
		f.want(ID{}, 1, nil, 1)
	})
	t.Run("in_load_leaves_the_old_key", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(13 * time.Minute)
		panics(t, func() { _, _ = f.get(ctx, ID{}, func(context.Context) (*key, error) { panic("canary") }) })
		f.want(ID{}, 2, nil, 2)
	})
	t.Run("in_use_lets_go_of_the_key", func(t *testing.T) {
		f := newFixture(t, Config{})
		for range 2 { // the one who asks, and one who finds it
			panics(t, func() { _ = f.Use(ctx, ID{}, 1, f.load, func(*key) error { panic("canary") }) })
		}
		f.want(ID{}, 1, nil, 1)
	})
}

func TestAge(t *testing.T) {
	t.Run("within_MaxAge_nothing_is_asked_before_Ahead", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(12*time.Minute - 1)
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(1)
		f.want(ID{}, 2, nil, 2)
	})
	t.Run("with_Ahead_off_MaxAge_is_the_limit", func(t *testing.T) {
		f := newFixture(t, Config{MaxAge: time.Minute, Ahead: time.Minute})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Minute - 1)
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(2)
		f.want(ID{}, 2, nil, 2)
	})
	t.Run("counts_from_the_question", func(t *testing.T) {
		f := newFixture(t, Config{})
		if _, err := f.get(ctx, ID{}, func(ctx context.Context) (*key, error) { f.clock.pass(13 * time.Minute); return f.load(ctx) }); err != nil {
			t.Fatal(err)
		}
		f.want(ID{}, 2, nil, 2)
	})
	bubble(t, "ahead_of_MaxAge_one_asks_and_all_others_go_on", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(13 * time.Minute)
		h := f.held()
		asking := f.start(ctx, ID{}, h.load)
		<-h.begun
		for range 10 {
			f.want(ID{}, 1, nil, 1)
		}
		close(h.end)
		f.wantResult(asking, 2, nil)
		f.want(ID{}, 2, nil, 2)
		f.wantStats(Stats{Loads: 2, Hits: 11, Entries: 1})
	})
	bubble(t, "beyond_MaxAge_all_wait_for_the_one_who_asks", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(15*time.Minute + 1)
		h := f.held()
		all := []<-chan result{f.start(ctx, ID{}, h.load)}
		<-h.begun
		for range 10 {
			all = append(all, f.start(ctx, ID{}, f.load))
		}
		synctest.Wait()
		close(h.end)
		for _, done := range all {
			f.wantResult(done, 2, nil)
		}
	})
	bubble(t, "ahead_of_MaxAge_giving_up_costs_nothing", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(13 * time.Minute)
		leaving, cancel := context.WithCancel(ctx)
		h := f.held()
		asking := f.start(leaving, ID{}, h.load)
		<-h.begun
		cancel()
		f.wantResult(asking, 1, nil)
		f.want(ID{}, 2, nil, 2) // it says nothing of the service: no pause
	})
}

func TestRefusal(t *testing.T) {
	for _, age := range []time.Duration{13 * time.Minute, 16 * time.Minute} {
		bubble(t, "destroys_the_key_at_once/"+age.String(), func(t *testing.T) {
			f := newFixture(t, Config{})
			f.want(ID{}, 1, nil, 1)
			f.clock.pass(age)
			f.answer(errRefused)
			f.want(ID{}, 0, errRefused, 2)
			if f.taken[0].destroyed.Load() != 1 {
				t.Error("the key is still there")
			}
			f.want(ID{}, 0, errRefused, 3)
			f.wantStats(Stats{Loads: 3, Failures: 2})
		})
	}
	t.Run("ends_an_outage", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		f.answer(errAway)
		f.want(ID{}, 1, nil, 2)
		f.answer(errRefused)
		f.clock.pass(10 * time.Second)
		f.want(ID{}, 0, errRefused, 3)
		f.answer(errAway)
		f.want(ID{}, 0, errAway, 4)
	})
	bubble(t, "lets_running_uses_end", func(t *testing.T) {
		f := newFixture(t, Config{})
		use, end := make(chan struct{}), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- f.Use(ctx, ID{}, 1, f.load, func(k *key) error {
				close(use)
				<-end
				if k.destroyed.Load() != 0 {
					t.Error("destroyed while in use")
				}
				return nil
			})
		}()
		<-use
		f.clock.pass(13 * time.Minute)
		f.answer(errRefused)
		f.want(ID{}, 0, errRefused, 2)
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if f.taken[0].destroyed.Load() != 1 {
			t.Error("not destroyed after its last use")
		}
	})
}

func TestOutage(t *testing.T) {
	t.Run("is_served_up_to_MaxStale,_with_a_question_for_each_Patience", func(t *testing.T) {
		f := newFixture(t, Config{Patience: time.Hour, MaxAge: 10 * time.Minute, MaxStale: 130 * time.Minute})
		f.want(ID{}, 1, nil, 1)
		f.answer(errAway)
		f.clock.pass(9 * time.Minute)
		f.want(ID{}, 1, nil, 2) // ahead
		f.clock.pass(time.Hour - 1)
		f.want(ID{}, 1, nil, 2)
		f.clock.pass(1)
		f.want(ID{}, 1, nil, 3)
		f.clock.pass(time.Hour)
		f.want(ID{}, 1, nil, 4)
		f.clock.pass(time.Minute) // 130
		f.want(ID{}, 1, nil, 4)
		f.clock.pass(1)
		f.want(ID{}, 0, errAway, 5) // in the middle of a pause
		if f.taken[0].destroyed.Load() != 1 {
			t.Error("the key outlived MaxStale")
		}
		f.want(ID{}, 0, errAway, 6)
		f.answer(nil)
		f.want(ID{}, 7, nil, 7)
		f.wantStats(Stats{Loads: 7, Failures: 5, Hits: 5, Stale: 4, Entries: 1})
	})
	t.Run("that_is_told_after_MaxStale_is_not_served", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		_, err := f.get(ctx, ID{}, func(context.Context) (*key, error) { f.clock.pass(3*time.Hour + 1); return nil, errAway })
		if !errors.Is(err, errAway) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("allows_no_use_beyond_MaxUses,_not_even_of_who_asked", func(t *testing.T) {
		f := newFixture(t, Config{MaxUses: 2})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(13 * time.Minute)
		_, err := f.get(ctx, ID{}, func(context.Context) (*key, error) {
			f.want(ID{}, 1, nil, 1) // another's: the second and last
			return nil, errAway
		})
		if !errors.Is(err, errAway) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("that_ends_is_noticed_by_the_next_question", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		f.answer(errAway)
		f.want(ID{}, 1, nil, 2)
		f.answer(nil)
		f.clock.pass(10 * time.Second)
		f.want(ID{}, 3, nil, 3)
	})
	t.Run("with_MaxStale_at_MaxAge_is_not_served", func(t *testing.T) {
		f := newFixture(t, Config{MaxStale: 15 * time.Minute})
		f.want(ID{}, 1, nil, 1)
		f.answer(errAway)
		f.clock.pass(15 * time.Minute)
		f.want(ID{}, 1, nil, 2)
		f.clock.pass(1)
		f.want(ID{}, 0, errAway, 3)
	})
	bubble(t, "costs_one_caller_a_wait,_and_all_who_came_before_it_was_known", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.answer(errAway)
		f.clock.pass(time.Hour)
		h := f.held()
		first := f.start(ctx, ID{}, h.load)
		<-h.begun
		waiter := f.start(ctx, ID{}, f.load)
		synctest.Wait()
		select {
		case <-waiter:
			t.Error("a key beyond MaxAge was used without a word from the service")
		default:
		}
		close(h.end)
		f.wantResult(first, 1, nil)
		f.wantResult(waiter, 1, nil)
		f.clock.pass(time.Minute)
		h = f.held()
		second := f.start(ctx, ID{}, h.load)
		<-h.begun
		f.want(ID{}, 1, nil, 2) // known to be away: goes on
		close(h.end)
		f.wantResult(second, 1, nil)
	})
	bubble(t, "can_be_a_service_that_hangs_until_a_caller's_deadline", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		late, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		f.wantResult(f.start(late, ID{}, f.held().load), 1, nil)
		f.want(ID{}, 1, nil, 1) // a pause
		f.clock.pass(10 * time.Second)
		f.want(ID{}, 2, nil, 2)
	})
	bubble(t, "is_not_a_caller_that_is_cancelled", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		leaving, cancel := context.WithCancel(ctx)
		h := f.held()
		first := f.start(leaving, ID{}, h.load)
		<-h.begun
		waiter := f.start(ctx, ID{}, f.load)
		synctest.Wait()
		cancel()
		f.wantResult(first, 0, context.Canceled)
		f.wantResult(waiter, 2, nil)
	})
}

func TestBounds(t *testing.T) {
	t.Run("Entries_sends_the_least_recently_used_away", func(t *testing.T) {
		f := newFixture(t, Config{Entries: 2})
		f.want(ID{1}, 1, nil, 1)
		f.want(ID{2}, 2, nil, 2)
		f.want(ID{1}, 1, nil, 2)
		f.want(ID{3}, 3, nil, 3)
		f.want(ID{1}, 1, nil, 3)
		if f.taken[1].destroyed.Load() != 1 {
			t.Error("evicted and not destroyed")
		}
		f.want(ID{2}, 4, nil, 4)
		f.wantStats(Stats{Loads: 4, Hits: 2, Evictions: 2, Entries: 2})
	})
	t.Run("MaxStale_destroys_what_nobody_uses_when_another_key_comes", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{1}, 1, nil, 1)
		f.want(ID{2}, 2, nil, 2)
		f.clock.pass(4*time.Hour + 1)
		f.want(ID{3}, 3, nil, 3)
		f.wantStats(Stats{Loads: 3, Entries: 1})
	})
	for _, fail := range []error{nil, errAway} {
		t.Run(fmt.Sprintf("MaxUses_is_hard/%v", fail), func(t *testing.T) {
			f := newFixture(t, Config{MaxUses: 3})
			for range 3 {
				f.want(ID{}, 1, nil, 1)
			}
			f.answer(fail)
			n := 2
			if fail != nil {
				n = 0
			}
			f.want(ID{}, n, fail, 2)
		})
	}
	t.Run("MaxBytes_is_never_exceeded", func(t *testing.T) {
		f := newFixture(t, Config{MaxBytes: 100})
		use := func(bytes int64) int {
			n := 0
			if err := f.Use(ctx, ID{}, bytes, f.load, func(k *key) error { n = k.n; return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		for i, c := range []struct {
			bytes int64
			key   int
		}{{60, 1}, {40, 1}, {0, 1}, {1, 2}, {100, 3}, {0, 3}} {
			if n := use(c.bytes); n != c.key {
				t.Errorf("use %d of %d bytes: key %d, want %d", i, c.bytes, n, c.key)
			}
		}
		for _, bytes := range []int64{-1, 101, math.MinInt64, math.MaxInt64} {
			if err := f.Use(ctx, ID{}, bytes, f.load, func(*key) error { t.Error("used"); return nil }); err == nil || !strings.Contains(err.Error(), "MaxBytes") {
				t.Errorf("%d bytes: %v", bytes, err)
			}
		}
	})
	t.Run("MaxBytes_does_not_overflow", func(t *testing.T) {
		f := newFixture(t, Config{MaxBytes: math.MaxInt64})
		for i := range 3 {
			n := 0
			if err := f.Use(ctx, ID{}, math.MaxInt64, f.load, func(k *key) error { n = k.n; return nil }); err != nil || n != i+1 {
				t.Errorf("key %d, %v", n, err)
			}
		}
	})
	bubble(t, "uses_of_many_goroutines_are_each_counted", func(t *testing.T) {
		f := newFixture(t, Config{MaxUses: 1})
		var all []<-chan result
		for range 20 {
			all = append(all, f.start(ctx, ID{}, f.load))
		}
		seen := map[int]bool{}
		for _, done := range all {
			r := <-done
			if r.err != nil || seen[r.n] {
				t.Errorf("key %d again, or %v", r.n, r.err)
			}
			seen[r.n] = true
		}
	})
}

func TestFlushAndForget(t *testing.T) {
	for name, forget := range map[string]func(f *fixture){
		"Flush":  func(f *fixture) { f.Flush() },
		"Forget": func(f *fixture) { f.Forget(ID{1}) },
	} {
		bubble(t, name+"_destroys_at_once_or_after_the_last_use", func(t *testing.T) {
			f := newFixture(t, Config{})
			f.want(ID{1}, 1, nil, 1)
			err := f.Use(ctx, ID{1}, 1, f.load, func(k *key) error {
				forget(f)
				if k.destroyed.Load() != 0 {
					t.Error("destroyed while in use")
				}
				f.want(ID{1}, 2, nil, 2)
				return nil
			})
			if err != nil || f.taken[0].destroyed.Load() != 1 {
				t.Errorf("%v, or not destroyed", err)
			}
			forget(f)
			if f.taken[1].destroyed.Load() != 1 {
				t.Error("not destroyed at once")
			}
		})
		bubble(t, name+"_overtakes_questions_on_their_way", func(t *testing.T) {
			f := newFixture(t, Config{})
			h := f.held()
			before := f.start(ctx, ID{1}, h.load)
			<-h.begun
			waiter := f.start(ctx, ID{1}, f.load)
			synctest.Wait()
			forget(f)
			f.want(ID{1}, 1, nil, 1) // does not wait for the old question
			close(h.end)
			f.wantResult(before, 2, nil)
			if f.taken[1].destroyed.Load() != 1 {
				t.Error("the answer from before is kept")
			}
			f.wantResult(waiter, 1, nil)
			f.want(ID{1}, 1, nil, 2)
		})
		bubble(t, name+"_leaves_one_to_ask_when_an_old_question_ends", func(t *testing.T) {
			f := newFixture(t, Config{})
			old, young := f.held(), f.held()
			before := f.start(ctx, ID{1}, old.load)
			<-old.begun
			forget(f)
			after := f.start(ctx, ID{1}, young.load)
			<-young.begun
			close(old.end)
			f.wantResult(before, 1, nil)
			waiter := f.start(ctx, ID{1}, f.load)
			synctest.Wait()
			close(young.end)
			f.wantResult(after, 2, nil)
			f.wantResult(waiter, 2, nil)
		})
		bubble(t, name+"_keeps_an_old_refusal_off_the_new_key", func(t *testing.T) {
			f := newFixture(t, Config{})
			begun, end := make(chan struct{}), make(chan struct{})
			before := f.start(ctx, ID{1}, func(context.Context) (*key, error) { close(begun); <-end; return nil, errRefused })
			<-begun
			forget(f)
			f.want(ID{1}, 1, nil, 1)
			close(end)
			f.wantResult(before, 0, errRefused)
			f.want(ID{1}, 1, nil, 1)
		})
	}
	t.Run("Forget_leaves_the_others", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{1}, 1, nil, 1)
		f.want(ID{2}, 2, nil, 2)
		f.Forget(ID{1})
		f.Forget(ID{3})
		f.want(ID{2}, 2, nil, 2)
	})
	t.Run("destroy_may_call_the_cache", func(t *testing.T) {
		var c *Cache[ID, int]
		c, err := New[ID](Config{Entries: 1, Away: func(error) bool { return false }}, func(int) { c.Stats() })
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			_ = c.Use(ctx, ID{byte(i)}, 0, func(context.Context) (int, error) { return i, nil }, func(int) error { return nil })
		}
		c.Flush()
	})
}

// monotonic moves one of the two readings of a time, as tests cannot set the machine's clock.
func monotonic(tm time.Time, d time.Duration) time.Time {
	(*struct {
		_   uint64
		ext int64
	})(unsafe.Pointer(&tm)).ext += int64(d)
	return tm
}

// TestClock holds the promise that no key is used for longer than either clock allows.
func TestClock(t *testing.T) {
	start := time.Now()
	if moved := monotonic(start, time.Hour); moved.Sub(start) != time.Hour || !moved.Round(0).Equal(start.Round(0)) {
		t.Fatal("time.Time is made otherwise now: move its monotonic reading in another way")
	}
	for name, c := range map[string]struct {
		now  time.Time
		want time.Duration
	}{
		"both":                            {start.Add(time.Hour), time.Hour},
		"the_wall_clock_was_set_back":     {monotonic(start.Add(-time.Hour), 2*time.Hour), time.Hour},
		"the_wall_clock_was_set_forward":  {monotonic(start.Add(2*time.Hour), -time.Hour), 2 * time.Hour},
		"the_machine_slept":               {monotonic(start.Add(time.Hour), -time.Hour), time.Hour},
		"a_wall_clock_alone":              {start.Round(0).Add(time.Hour), time.Hour},
		"a_wall_clock_alone_was_set_back": {start.Round(0).Add(-1), math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			if got := since(c.now, start); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
	t.Run("a_revocation_while_the_machine_slept", func(t *testing.T) {
		now := start
		e, err := NewEpoch(0, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		value, forgotten := int64(0), 0
		look := func() {
			t.Helper()
			err := e.Check(t.Context(), func(context.Context) (int64, bool, error) { return value, true, nil }, func() { forgotten++ })
			if err != nil {
				t.Fatal(err)
			}
		}
		look()
		value, now = 1, monotonic(start.Add(time.Hour), -time.Hour)
		if look(); forgotten != 1 {
			t.Errorf("keys were forgotten %d times", forgotten)
		}
	})
	t.Run("set_back_before_the_question_asks_again,_and_serves_no_outage", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(-time.Hour)
		f.want(ID{}, 2, nil, 2)
		f.clock.pass(-time.Hour)
		f.answer(errAway)
		f.want(ID{}, 0, errAway, 3)
	})
	t.Run("set_back_in_a_pause_ends_it", func(t *testing.T) {
		f := newFixture(t, Config{})
		f.want(ID{}, 1, nil, 1)
		f.clock.pass(time.Hour)
		f.answer(errAway)
		f.want(ID{}, 1, nil, 2)
		f.clock.pass(-30 * time.Minute)
		f.want(ID{}, 1, nil, 3)
	})
}

func TestCache_shows_no_value(t *testing.T) {
	c, err := New[ID](Config{Away: func(error) bool { return false }}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Use(ctx, ID{}, 0, func(context.Context) (string, error) { return "canary", nil }, func(string) error { return nil })
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, v := range []any{c, struct{ C *Cache[ID, string] }{c}, &struct{ c *Cache[ID, string] }{c}} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
				t.Errorf("%s prints the value: %s", verb, text)
			}
		}
	}
}

// TestStorm lets everything happen at once; the fixture watches over the keys.
func TestStorm(t *testing.T) {
	f := newFixture(t, Config{MaxAge: time.Minute, MaxStale: 3 * time.Minute, Patience: 5 * time.Second, Entries: 5, MaxUses: 50})
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 7))
			for range 300 {
				id := ID{byte(r.IntN(8))}
				switch r.IntN(40) {
				case 0:
					f.Flush()
				case 1:
					f.Forget(id)
				case 2, 3:
					f.clock.pass(time.Duration(r.IntN(40)) * time.Second)
				case 4:
					f.answer([]error{errAway, errRefused}[r.IntN(2)])
				case 5, 6:
					f.answer(nil)
				case 7:
					func() {
						defer func() { _ = recover() }()
						_, _ = f.get(ctx, id, func(context.Context) (*key, error) { panic("canary") })
					}()
				case 8:
					ctx, cancel := context.WithCancel(ctx)
					_, _ = f.get(ctx, id, func(ctx context.Context) (*key, error) { cancel(); return nil, ctx.Err() })
					cancel()
				default:
					_, _ = f.get(ctx, id, func(ctx context.Context) (*key, error) {
						runtime.Gosched()
						if id[0] > 0 && r.IntN(2) == 0 { // a key of lower rank first: no circle
							_, _ = f.get(ctx, ID{id[0] - 1}, f.load)
						}
						return f.load(ctx)
					})
				}
				if n := f.Stats().Entries; n > 5 {
					t.Errorf("%d entries", n)
				}
			}
		})
	}
	wg.Wait()
}

func nop(*key) error { return nil }

func TestAHitAllocatesNothing(t *testing.T) {
	f := newFixture(t, Config{Now: time.Now})
	load := f.load
	if n := testing.AllocsPerRun(100, func() { _ = f.Use(ctx, ID{}, 100, load, nop) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUse(b *testing.B) {
	warm := func(b *testing.B) (*fixture, func(context.Context) (*key, error)) {
		f := newFixture(b, Config{Now: time.Now})
		load := f.load
		for i := range 64 {
			_ = f.Use(ctx, ID{byte(i)}, 100, load, nop)
		}
		b.ReportAllocs()
		return f, load
	}
	b.Run("one_goroutine", func(b *testing.B) {
		f, load := warm(b)
		for b.Loop() {
			_ = f.Use(ctx, ID{1}, 100, load, nop)
		}
	})
	b.Run("all_processors_one_key", func(b *testing.B) {
		f, load := warm(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = f.Use(ctx, ID{1}, 100, load, nop)
			}
		})
	})
	b.Run("all_processors_64_keys", func(b *testing.B) {
		f, load := warm(b)
		b.RunParallel(func(pb *testing.PB) {
			for i := byte(0); pb.Next(); i++ {
				_ = f.Use(ctx, ID{i % 64}, 100, load, nop)
			}
		})
	})
	b.Run("cold", func(b *testing.B) {
		c, err := New[ID](Config{Away: func(error) bool { return false }}, func(*key) {})
		if err != nil {
			b.Fatal(err)
		}
		k := new(key)
		load := func(context.Context) (*key, error) { return k, nil }
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			_ = c.Use(ctx, ID{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}, 100, load, nop)
		}
	})
}

// The error of a caller's own connection is no answer for those who wait for it.
func TestAttackBranchErrorsOfACallerAreItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errOwn := errors.New("own")
		f := newFixture(t, Config{Own: func(err error) bool { return errors.Is(err, errOwn) }})
		answer := make(chan struct{})
		leader := make(chan error, 1)
		go func() {
			leader <- f.Cache.Use(t.Context(), ID{1}, 0, func(context.Context) (*key, error) { <-answer; return nil, errOwn }, func(*key) error { return nil })
		}()
		synctest.Wait()
		waiter := make(chan error, 1)
		go func() {
			waiter <- f.Cache.Use(t.Context(), ID{1}, 0, func(context.Context) (*key, error) {
				k := &key{n: 1}
				f.taken = append(f.taken, k)
				return k, nil
			}, func(*key) error { return nil })
		}()
		synctest.Wait()
		if f.Has(ID{1}) {
			t.Error("it has a key that nobody gave")
		}
		close(answer)
		if err := <-leader; !errors.Is(err, errOwn) {
			t.Errorf("who asked: %v", err)
		}
		if err := <-waiter; err != nil {
			t.Errorf("who waited: %v", err)
		}
		if !f.Has(ID{1}) {
			t.Error("it lacks the key")
		}
	})
}
