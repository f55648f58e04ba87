// keycache.go owns what applications say of the memory of rows' keys, and the revocation of what is in it.

package rowseal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal/internal/row"
)

// KeyCache has a process remember the keys of rows that it opened, so that opening them again costs no call to the key service. It is for rows that are read again and
// again under keys of the service itself; where there are many rows, branch keys (package kmskey/branchkey) cost fewer calls and need no memory. The zero value is none: every statement
// asks for each row's key, and the service's log shows who read which row and when. With a cache it shows the first time.
//
// A key is remembered with all that it is bound to, so that an envelope that was copied to another row is asked for, and refused.
type KeyCache struct {
	// Keys is how many keys are remembered, about one KiB each; the one that was not used for longest goes. Defaults to 0, no cache.
	Keys int

	// MaxAge is how long a key is used before the service is asked again. A key that the service would refuse is used on for so long, unless [Revoke] is called. Defaults to 15 minutes.
	MaxAge time.Duration

	// MaxStale is the same while the service cannot be reached or throttles. Defaults to 4 hours, or MaxAge where that is longer.
	MaxStale time.Duration

	// EpochAge is how often a process looks whether [Revoke] was called: one query, on the table rowseal_epochs that migrations.Up makes. Defaults to 20 seconds; at most a minute.
	EpochAge time.Duration
}

// keysEpoch is the row of rowseal_epochs that caches of rows' keys go by; no row is epoch 0.
const keysEpoch = "row-keys"

// newKeyCache gives nil for none.
func (p *Plugin) newKeyCache() (*row.KeyCache, error) {
	c := p.config.KeyCache
	switch {
	case c == (KeyCache{}):
		return nil, nil
	case c.Keys <= 0:
		return nil, fmt.Errorf("rowseal: new plugin: Config.KeyCache.Keys is %d; say how many keys are remembered", c.Keys)
	case p.config.WriteOnly:
		return nil, errors.New("rowseal: new plugin: Config.KeyCache does not go with WriteOnly, which opens no key")
	}
	cache, err := row.NewKeyCache(row.CacheConfig{Keys: c.Keys, MaxAge: c.MaxAge, MaxStale: c.MaxStale, EpochAge: c.EpochAge, Epoch: p.readKeysEpoch})
	if err != nil {
		return nil, fmt.Errorf("rowseal: new plugin: Config.KeyCache: %w", err)
	}
	return cache, nil
}

func (p *Plugin) readKeysEpoch(ctx context.Context) (epoch int64, recent bool, err error) {
	return epochs{&gorm.DB{Config: p.home}, keysEpoch}.read(ctx)
}

// Revoke has every process that shares db's database forget the keys that it remembers under [Config].KeyCache, within a minute, and ask the service again for those that it needs. Call it
// after a key was disabled or a permission taken away. Structs that were loaded before keep their row's key for as long as the application holds them: it opens their Secrets and seals what
// is saved. Branch keys have a Revoke of their own.
func Revoke(ctx context.Context, db *gorm.DB) error {
	if p, ok := db.Plugins[row.PluginName].(*Plugin); ok && p.cache != nil {
		p.cache.Forget()
	}
	if err := (epochs{db, keysEpoch}).raise(ctx); err != nil {
		return fmt.Errorf("rowseal: revoke: %w; other processes go on for up to their MaxAge", err)
	}
	return nil
}
