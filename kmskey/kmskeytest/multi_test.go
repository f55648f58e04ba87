package kmskeytest_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// TestRun_Multi: several providers are, to whoever uses them as one, a provider like any other.
func TestRun_Multi(t *testing.T) {
	newKey := func(t *testing.T) *localkey.Provider {
		t.Helper()
		p, err := localkey.Generate(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	kmskeytest.Run(t, kmskeytest.Harness{
		New: func(t *testing.T) kmskeytest.Subject {
			// What happens before each call to either of the two.
			var mu sync.Mutex
			var now func(ctx context.Context) error
			before := func(ctx context.Context, c kmskeytest.Call) error {
				mu.Lock()
				do := now
				mu.Unlock()
				if do == nil {
					return nil
				}
				return do(ctx)
			}
			set := func(do func(context.Context) error) func() {
				mu.Lock()
				defer mu.Unlock()
				now = do
				return func() {
					mu.Lock()
					defer mu.Unlock()
					now = nil
				}
			}
			fails := func(kind error) func(*testing.T) func() {
				return func(*testing.T) func() {
					return set(func(context.Context) error { return &kmskey.Error{Op: "call", Service: "local", Kind: kind} })
				}
			}
			providers := make([]kmskey.Provider, 2)
			for i := range providers {
				counter := kmskeytest.NewCounter(newKey(t))
				counter.Before = before
				providers[i] = counter.Provider()
			}
			m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: providers})
			if err != nil {
				t.Fatal(err)
			}
			foreign, err := newKey(t).Wrap(t.Context(), kmskey.NewDEK(), kmskey.Context{})
			if err != nil {
				t.Fatal(err)
			}
			return kmskeytest.Subject{
				Provider:    m,
				ForeignRefs: []string{foreign.KeyRef},
				Outage:      fails(kmskey.ErrUnavailable),
				Throttle:    fails(kmskey.ErrThrottled),
				Disable:     fails(kmskey.ErrDisabled),
				Remove:      func(t *testing.T) { fails(kmskey.ErrNotFound)(t) },
				Hang: func(*testing.T) (<-chan struct{}, func()) {
					arrived := make(chan struct{}, 16)
					return arrived, set(func(ctx context.Context) error {
						select {
						case arrived <- struct{}{}:
						default:
						}
						<-ctx.Done()
						return &kmskey.Error{Op: "call", Service: "local", Kind: kmskey.ErrUnavailable, Err: ctx.Err()}
					})
				},
			}
		},
		NotApplicable: map[string]string{
			"calls":            "the counters see calls to providers, which refuse what is foreign before any request",
			"deny_wrap":        "permissions are those of the providers inside",
			"deny_unwrap":      "permissions are those of the providers inside",
			"other":            "what a row names is inside the blob; providers inside have runs of their own",
			"rewrap":           "a keyring rewraps with the providers inside, one by one",
			"sibling":          "a keyring rewraps with the providers inside, one by one",
			"generate":         "one draws, and the others would have to wrap what it drew",
			"generate_wrapped": "one draws, and the others would have to wrap what it drew",
		},
	})
}
