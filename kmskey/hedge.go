// hedge.go owns the second question: where a service's answer is late, it is asked once more, and the first answer counts.

package kmskey

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Among a thousand calls of which one in a hundred is slow, some are slow for certain, and a page of rows waits for the last. A second question after the time that most
// take answers those soon, for a few calls more: J. Dean, L. A. Barroso, The Tail at Scale, CACM 56(2), 2013.
const (
	// hedgeShare bounds what that costs: one second question for so many first ones. A service that is slow as a whole is not asked twice for everything.
	hedgeShare = 20
	// hedgeBurst is how many may come at once.
	hedgeBurst = 10
)

type hedge struct {
	after time.Duration

	mu   sync.Mutex
	owed int // of a second question, in parts of hedgeShare
}

func newHedge(after time.Duration) *hedge {
	if after == 0 {
		return nil
	}
	return &hedge{after: after, owed: hedgeBurst * hedgeShare}
}

func (h *hedge) earn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owed = min(h.owed+1, hedgeBurst*hedgeShare)
}

func (h *hedge) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owed < hedgeShare {
		return false
	}
	h.owed -= hedgeShare
	return true
}

// unwrap asks, and asks again where there is no answer in time. Neither question goes on when it returns.
func (h *hedge) unwrap(ctx context.Context, ask func(context.Context) (DEK, error)) (DEK, error) {
	if h == nil {
		return ask(ctx)
	}
	h.earn()
	first, endFirst := context.WithCancel(ctx)
	defer endFirst()
	second, endSecond := context.WithCancel(ctx)
	defer endSecond()
	type answer struct {
		dek   DEK
		err   error
		panic string
	}
	again := make(chan answer, 1)
	// The first question is asked by the caller's own goroutine: where it is answered in time, which is nearly always, none is made.
	timer := time.AfterFunc(h.after, func() {
		a := answer{err: errNotAsked}
		defer func() {
			if p := recover(); p != nil { // it is raised where the caller can meet it
				a = answer{panic: fmt.Sprintf("%v\n%s", p, debug.Stack())}
			}
			if a.err == nil {
				endFirst()
			}
			again <- a
		}()
		if h.spend() {
			a.dek, a.err = ask(second)
		}
	})
	dek, err := ask(first)
	if timer.Stop() {
		return dek, err
	}
	// A refusal stands, and needs no second opinion; one that came of our own cancellation is none.
	if err == nil || first.Err() == nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrThrottled) {
		endSecond()
	}
	a := <-again
	switch {
	case a.panic != "":
		panic(a.panic)
	case err == nil || a.err != nil:
		a.dek.Destroy()
		return dek, err
	}
	return a.dek, nil
}

var errNotAsked = errors.New("kmskey: internal error: not asked")
