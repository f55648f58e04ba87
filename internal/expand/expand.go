// Package expand is the first block of HKDF-Expand (RFC 5869, section 2.3) under a key that is set up once:
//
//	HKDF-Expand(key, info, 32) = HMAC-SHA-256(key, info || 0x01)
//
// crypto/hkdf sets the HMAC up anew for every derivation, which costs more than the derivation. Keys are uniformly random, so Extract is left out
// (section 3.3); [Derive] has it, for keys that take a salt.
package expand

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
)

// Size is the length of a derived key in bytes.
const Size = sha256.Size

// Key derives keys from one key. It is used by one goroutine at a time.
type Key struct {
	mac  hash.Hash
	used bool
	// room is what the HMAC reads from and writes to: behind an interface that must be on the heap, and so it is allocated once, while what callers
	// give and get stays on their stacks.
	room [sha256.BlockSize]byte
}

// New sets the key up. The caller may clear key afterwards; the HMAC's own state is left to the collector.
func New(key []byte) *Key { return &Key{mac: hmac.New(sha256.New, key)} }

// Expand derives the key for info.
func (k *Key) Expand(info []byte) [Size]byte {
	k.write(info)
	k.room[0] = 0x01
	k.mac.Write(k.room[:1])
	return k.sum()
}

// Derive is HKDF of one block, Extract and Expand, of a key that is used once.
func Derive(key, salt, info []byte) [Size]byte {
	k := New(salt)
	k.write(key)
	k.mac, k.used = hmac.New(sha256.New, k.mac.Sum(k.room[:0])), false
	return k.Expand(info) // which clears the room
}

func (k *Key) write(b []byte) {
	if k.used { // else the HMAC is as new, and Reset would save its state for another time
		k.mac.Reset()
	}
	k.used = true
	for len(b) > 0 {
		n := copy(k.room[:], b)
		k.mac.Write(k.room[:n])
		b = b[n:]
	}
}

func (k *Key) sum() (out [Size]byte) {
	copy(out[:], k.mac.Sum(k.room[:0]))
	clear(k.room[:])
	return out
}
