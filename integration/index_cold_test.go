package integration

// index_cold_test.go owns the first searches of a process: however many begin at once, one of them asks for the index key, and whatever becomes of that one, the others are served.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// TestIndexKeyIsAskedForByOne: many search first. Who waits for the key holds no connection, or those who ask for it would get none.
func TestIndexKeyIsAskedForByOne(t *testing.T) {
	const searchers, connections = 50, 3
	var (
		denied = &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrDenied}
		away   = &kmskey.Error{Op: "unwrap", Service: "test", Kind: kmskey.ErrUnavailable}
	)
	// Not in parallel: goroutines are counted.
	for _, kind := range []string{sqliteGo, postgres, mariadb} {
		t.Run(kind, func(t *testing.T) {
			w := newIndexed(t, kind, &IdxDoc{})
			docs := idxDocs(3)
			ok(t, w.db.Create(&docs).Error)
			w.plain.SetMaxOpenConns(connections)
			for name, tt := range map[string]struct {
				first  error // what the key service answers to the first call, once all others wait
				later  error // and to each after it
				leaves string
				failed int // searches
				as     error
				calls  int // -1 for any number of them
			}{
				"and_all_are_served":                         {calls: 1},
				"and_asked_again_where_that_one_is_refused":  {first: denied, failed: 1, as: kmskey.ErrDenied, calls: 2},
				"and_asked_again_where_the_service_was_away": {first: away, failed: 1, as: kmskey.ErrUnavailable, calls: 2},
				"and_asked_again_where_that_one_went_away":   {leaves: "the first", failed: 1, as: context.Canceled, calls: 2},
				"and_who_waits_may_leave":                    {leaves: "the others", failed: searchers - 1, as: context.Canceled, calls: 1},
				"and_each_is_told_where_all_of_them_are":     {first: denied, later: denied, failed: searchers, as: kmskey.ErrDenied, calls: -1},
				"and_an_outage_is_told_to_all_who_wait":      {first: away, later: away, failed: searchers, as: kmskey.ErrUnavailable, calls: 2},
			} {
				t.Run(name, func(t *testing.T) {
					type who struct{}
					contexts, leave := make([]context.Context, searchers), make([]context.CancelFunc, searchers)
					for i := range searchers {
						contexts[i], leave[i] = context.WithCancel(context.WithValue(t.Context(), who{}, i))
						defer leave[i]()
					}
					ended, left := make(chan error, searchers), make(chan struct{})
					kms, calls := kmskeytest.NewCounter(localkey.NewInsecure()), 0
					kms.Before = func(ctx context.Context, _ kmskeytest.Call) error {
						if calls++; calls > 1 { // the race detector sees to it that they come one after the other
							return tt.later
						}
						if err := all(ctx, searchers); err != nil {
							return err
						}
						switch self := ctx.Value(who{}).(int); tt.leaves {
						case "the first":
							leave[self]()
							<-ctx.Done()
							return ctx.Err()
						case "the others":
							for i := range searchers {
								if i != self {
									leave[i]()
								}
							}
							select {
							case <-left: // while the key is still awaited
							case <-ctx.Done():
								return ctx.Err()
							}
						}
						return tt.first
					}
					keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: kms}}, Namespace: "test"})
					ok(t, err)
					db, _ := another(t, w, keys, rowseal.Config{Models: []any{&IdxDoc{}}})
					for i := range searchers {
						go func() {
							doc, rows := docs[i%len(docs)], []IdxDoc{}
							err := rowseal.Sealed(db.WithContext(contexts[i])).Where(&IdxDoc{Email: doc.Email}).Find(&rows).Error
							if err == nil && (len(rows) != 1 || rows[0].ID != doc.ID) {
								err = fmt.Errorf("%w: %d rows", errUnexpected, len(rows))
							}
							ended <- err
						}()
					}
					failed, patience := 0, time.After(30*time.Second)
					for n := range searchers {
						if n == searchers-1 {
							close(left)
						}
						select {
						case err := <-ended:
							if err == nil {
								continue
							}
							if failed++; !errors.Is(err, tt.as) {
								t.Error(err)
							}
						case <-patience:
							t.Fatalf("%d of %d searches ended", n, searchers)
						}
					}
					if failed != tt.failed {
						t.Errorf("%d searches failed, want %d", failed, tt.failed)
					}
					if n := kms.Count("unwrap"); n != tt.calls && tt.calls >= 0 || n != kms.Calls() || kms.MaxInFlight() != 1 {
						t.Errorf("%d unwraps, %d calls of all, %d at once; want %d unwraps, one after the other", n, kms.Calls(), kms.MaxInFlight(), tt.calls)
					}
				})
			}
		})
	}
}

// all waits until n searches have come to where the key is asked for.
func all(ctx context.Context, n int) error {
	stacks := make([]byte, 16<<20)
	for strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "rowseal.(*Plugin).indexKeys(") < n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}
