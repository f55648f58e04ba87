// Package expand is the first block of HKDF-Expand (RFC 5869, section 2.3) under a key that is set up once:
//
//	HKDF-Expand(key, info, 32) = HMAC-SHA-256(key, info || 0x01)
//
// crypto/hkdf sets the HMAC up anew for every derivation, which costs more than the derivation. Keys are uniformly random, so Extract is left out
// (section 3.3).
package expand

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// Size is the length of a derived key in bytes.
const Size = sha256.Size

// Key derives keys from one key. It is used by one goroutine at a time.
type Key struct{ mac hash.Hash }

// New sets the key up. The caller may clear key afterwards; the HMAC's own state is left to the collector.
func New(key []byte) *Key { return &Key{hmac.New(sha256.New, key)} }

// Expand derives the key for info, which it may write behind.
func (k *Key) Expand(info []byte) (out [Size]byte) {
	k.mac.Reset()
	k.mac.Write(append(info, 0x01))
	k.mac.Sum(out[:0])
	return out
}
