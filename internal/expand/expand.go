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
	"encoding"
	"hash"
	"sync"
)

// Size is the length of a derived key in bytes.
const Size = sha256.Size

// Key derives keys from one key. It is used by one goroutine at a time, and not copied: two of them would give the same hashes back.
type Key struct {
	_      noCopy
	mac    hash.Hash
	hashes *hashes // that the HMAC is made of
	used   bool
}

// New sets the key up. The caller may clear key afterwards; what is not given back by [Key.Release] is left to the collector.
func New(key []byte) Key {
	h := pool.Get().(*hashes)
	return Key{mac: hmac.New(h.next, key), hashes: h}
}

// IsZero reports whether the key was never set up, or released.
func (k *Key) IsZero() bool { return k.mac == nil }

// Release ends the key. Its hashes serve another one, which saves half of the memory that an HMAC takes. What is released already stays so.
func (k *Key) Release() {
	h := k.hashes
	if h == nil {
		return
	}
	// The HMAC alone reached them, and nobody reaches the HMAC any more. It keeps a copy of the key's pads, as that of a key that is not released does.
	k.mac, k.hashes = nil, nil
	if h.wipe() {
		pool.Put(h)
	}
}

// noCopy has go vet look for copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// hashes are the two of one HMAC.
type hashes struct {
	both  [2]hash.Hash
	given int // the one that was given last
	// room is what the HMAC reads from and writes to. Behind an interface that must be on the heap; so what callers give and get stays on their stacks.
	room [sha256.BlockSize]byte
}

var pool = sync.Pool{New: func() any { return &hashes{both: [2]hash.Hash{sha256.New(), sha256.New()}} }}

// blank is the state of a hash that nothing was written to.
var blank, _ = sha256.New().(encoding.BinaryMarshaler).MarshalBinary()

// next gives the one and the other in turn: in FIPS mode, hmac.New takes one first to look at its type. It refuses to make an HMAC of one hash alone.
func (h *hashes) next() hash.Hash {
	h.given = 1 - h.given
	return h.both[h.given]
}

// wipe overwrites all that the hashes hold: unlike Reset, also the block that was not full. It is false where a hash must not be used again.
func (h *hashes) wipe() bool {
	clear(h.room[:])
	for _, sum := range h.both {
		if state, ok := sum.(encoding.BinaryUnmarshaler); !ok || state.UnmarshalBinary(blank) != nil {
			return false
		}
	}
	return true
}

// Expand derives the key for info.
func (k *Key) Expand(info []byte) [Size]byte {
	k.write(info)
	k.hashes.room[0] = 0x01
	k.mac.Write(k.hashes.room[:1])
	return k.sum()
}

// Derive is HKDF of one block, Extract and Expand, of a key that is used once.
func Derive(key, salt, info []byte) [Size]byte {
	extract := New(salt)
	extract.write(key)
	prk := extract.mac.Sum(extract.hashes.room[:0])
	k := New(prk)
	extract.Release() // and prk with it
	defer k.Release()
	return k.Expand(info)
}

func (k *Key) write(b []byte) {
	if k.used { // else the HMAC is as new, and Reset would save its state for another time
		k.mac.Reset()
	}
	k.used = true
	for len(b) > 0 {
		n := copy(k.hashes.room[:], b)
		k.mac.Write(k.hashes.room[:n])
		b = b[n:]
	}
}

func (k *Key) sum() (out [Size]byte) {
	copy(out[:], k.mac.Sum(k.hashes.room[:0]))
	clear(k.hashes.room[:])
	return out
}
