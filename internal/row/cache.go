// cache.go owns the memory of rows' opened keys, where an application asks for one.

package row

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/internal/keycache"
	"github.com/rowseal/rowseal/kmskey"
)

// KeyCache remembers the keys of rows that were opened: what the AEAD is made of, so that opening the row again costs neither a call nor a derivation. It is safe for concurrent use.
type KeyCache struct {
	cache *keycache.Cache[place, []ringKey]
	epoch *keycache.Epoch
	read  func(context.Context) (int64, bool, error)
}

// place is all that decides whether an envelope opens, and to what: docs/format.md, section 9. With the envelope alone, one that was copied to another row would
// be answered from memory.
type place struct {
	model    *Model
	group    *Group
	id       string // canonical primary key
	contexts string // canonical contexts of all versions, where they take more than the primary key
	envelope string
}

// CacheConfig bounds a KeyCache.
type CacheConfig struct {
	Keys                       int
	MaxAge, MaxStale, EpochAge time.Duration
	Epoch                      func(context.Context) (value int64, recent bool, err error)
	Now                        func() time.Time // defaults to time.Now
}

// NewKeyCache checks cfg. It makes no query.
func NewKeyCache(cfg CacheConfig) (*KeyCache, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	epoch, err := keycache.NewEpoch(cfg.EpochAge, cfg.Now)
	if err != nil {
		return nil, err
	}
	cache, err := keycache.New[place](keycache.Config{
		MaxAge: cfg.MaxAge, MaxStale: cfg.MaxStale, Entries: cfg.Keys, Now: cfg.Now,
		Away: func(err error) bool {
			return errors.Is(err, kmskey.ErrUnavailable) || errors.Is(err, kmskey.ErrThrottled)
		},
	}, func([]ringKey) {
		// Nothing that could be overwritten: the data key was when the field key was made of it, the AES key schedule is behind the standard library's
		// interface, and states of rows that were read share the ring. It goes to the collector, as that of a row that is not remembered does.
	})
	if err != nil {
		return nil, err
	}
	return &KeyCache{cache, epoch, cfg.Epoch}, nil
}

// Forget drops every key.
func (c *KeyCache) Forget() { c.cache.Flush() }

// open gives the ring of an envelope: from memory, or by a call.
func (c *KeyCache) open(ctx context.Context, m *Model, b binding, text string) (ring []ringKey, err error) {
	if err := c.epoch.Check(ctx, c.read, c.cache.Flush); err != nil {
		return nil, fmt.Errorf("rowseal: %w: %w", kmskey.ErrUnavailable, err)
	}
	at := place{model: m, group: b.group, id: b.id, envelope: text}
	if b.contexts != nil {
		for i, pairs := range b.contexts.pairs {
			if b.contexts.errs[i] != nil {
				return m.open(ctx, b, text) // of some version the context is not known, and it may be the envelope's
			}
			ec, err := kmskey.NewContext(pairs...)
			if err != nil {
				return nil, err
			}
			at.contexts = string(canon.Append([]byte(at.contexts), canon.Bytes(ec.Canonical())))
		}
	}
	var spoilt []ringKey
	err = c.cache.Use(ctx, at, 0, func(ctx context.Context) ([]ringKey, error) {
		ring, err := m.open(ctx, b, text)
		if err != nil {
			return nil, err
		}
		for i, k := range ring {
			if k.err != nil {
				spoilt = ring
				return nil, errSpoilt
			}
			if ring[i].expanded, err = k.resting.Expand(); err != nil {
				return nil, err
			}
		}
		return ring, nil
	}, func(held []ringKey) error {
		ring = held[:len(held):len(held)] // many rows' states share it
		return nil
	})
	if errors.Is(err, errSpoilt) {
		if spoilt == nil { // another caller's question
			return m.open(ctx, b, text)
		}
		return spoilt, nil
	}
	return ring, err
}

// errSpoilt: a data key of the row does not open. What is mended in the row should show at once.
var errSpoilt = errors.New("row: internal error: a ring with a key that does not open")

// open makes the call.
func (m *Model) open(ctx context.Context, b binding, text string) ([]ringKey, error) {
	env, err := kmskey.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	keys, err := m.Keys.Unwrap(ctx, env, b.row())
	if err != nil {
		return nil, b.padded(err)
	}
	return fieldKeys(keys)
}
