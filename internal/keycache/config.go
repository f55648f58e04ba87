// config.go owns what may be set of a cache: defaults, bounds, and what is refused.

package keycache

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config bounds a [Cache]. The zero value of every field but Away works; a negative one is refused.
type Config struct {
	// MaxAge is the age from which a key is asked for again before it is used. Shorter, and a revocation is noticed earlier, at the price of
	// more calls. Age counts from when the question was asked, not from its answer. Defaults to 15 minutes.
	MaxAge time.Duration
	// Ahead is the age from which one caller at a time asks again, while all others go on with the key that is there. MaxAge turns it off.
	// Defaults to 80 % of MaxAge.
	Ahead time.Duration
	// MaxStale is the hard limit: up to this age keys are used while the service is away, and never longer. It is how long an outage may last,
	// and how long whoever can cut the service off puts a revocation off. MaxAge turns this off. Defaults to 4 hours, or MaxAge where that is longer.
	MaxStale time.Duration
	// Patience is the pause between two questions for one key while the service is away. Longer, and fewer callers spend a time-out on it.
	// Defaults to 10 seconds.
	Patience time.Duration
	// Entries is the number of keys in memory; the least recently used goes first. Raise it where Stats shows evictions. Defaults to 1,000.
	Entries int
	// MaxUses is the number of uses of one key, after which it is asked for again, service away or not. A use is one call of Cache.Use: who
	// seals k messages in each sets this to 2^32/k. Defaults to 2^32, the messages that NIST SP 800-38D allows under one AES-GCM key with
	// random nonces. It bounds the key only where load makes a new one; where load unwraps the same again, it bounds what a process does
	// between two answers of the service.
	MaxUses int64
	// MaxBytes is the number of bytes of one key's uses, likewise. Defaults to 2^52: 2^48 blocks, after which AES-GCM's ciphertext is told from
	// random with an advantage of 2^-33.
	MaxBytes int64
	// Away says of an error that the service could not be reached, did not answer in time or throttles, as opposed to refusing. What it does
	// not say so of destroys the key at once. Required.
	Away func(error) bool
	// Own says of an error that it is of what its caller brought along, a connection say: those who waited for the answer ask with their own. Defaults to none.
	Own func(error) bool
	// Now is the clock. Defaults to time.Now; tests set it.
	Now func() time.Time
}

// complete puts in the defaults, and refuses what cannot be meant.
func (cfg Config) complete() (Config, error) {
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 15*time.Minute)
	cfg.Ahead = cmp.Or(cfg.Ahead, cfg.MaxAge-cfg.MaxAge/5)
	cfg.MaxStale = cmp.Or(cfg.MaxStale, max(4*time.Hour, cfg.MaxAge))
	cfg.Patience = cmp.Or(cfg.Patience, 10*time.Second)
	cfg.Entries = cmp.Or(cfg.Entries, 1000)
	cfg.MaxUses = cmp.Or(cfg.MaxUses, 1<<32)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 1<<52)
	if cfg.Own == nil {
		cfg.Own = func(error) bool { return false }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	for _, f := range []struct {
		name     string
		value    any
		negative bool
	}{
		{"MaxAge", cfg.MaxAge, cfg.MaxAge < 0}, {"Ahead", cfg.Ahead, cfg.Ahead < 0}, {"MaxStale", cfg.MaxStale, cfg.MaxStale < 0},
		{"Patience", cfg.Patience, cfg.Patience < 0}, {"Entries", cfg.Entries, cfg.Entries < 0},
		{"MaxUses", cfg.MaxUses, cfg.MaxUses < 0}, {"MaxBytes", cfg.MaxBytes, cfg.MaxBytes < 0},
	} {
		if f.negative {
			return cfg, fmt.Errorf("keycache: %s is %v; give a positive value, or 0 for the default", f.name, f.value)
		}
	}
	switch {
	case cfg.Ahead > cfg.MaxAge:
		return cfg, fmt.Errorf("keycache: Ahead is %v, longer than MaxAge, which is %v; give MaxAge to turn it off", cfg.Ahead, cfg.MaxAge)
	case cfg.MaxStale < cfg.MaxAge:
		return cfg, fmt.Errorf("keycache: MaxStale is %v, shorter than MaxAge, which is %v; give MaxAge to turn it off", cfg.MaxStale, cfg.MaxAge)
	case cfg.Away == nil:
		return cfg, errors.New("keycache: Away is missing; it tells an outage, in which keys are used on, from a refusal")
	}
	return cfg, nil
}
