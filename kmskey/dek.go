// dek.go owns plaintext data keys in memory: how they are made, and that no way of printing shows them.

package kmskey

import (
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/rowseal/rowseal/internal/expand"
)

// DEKSize is the length of a data key in bytes.
const DEKSize = 32

// DEK is a data key: 32 random bytes that seal the fields of one row. No formatting verb, logger or encoder shows its
// bytes. Copies share the same bytes, so [DEK.Destroy] on one destroys all. The zero DEK is no key.
type DEK struct {
	// Two pointers, because fmt prints unexported fields of an enclosing struct without asking for their methods. An array here
	// would appear in full; a pointer appears as an address, but under a wrong verb, which %s is for pointers, fmt follows the
	// first one that it meets and prints the array behind it. It follows no second one.
	key **dekState
}

// dekState is a key, and the pointer to it that a DEK points to, in one allocation.
type dekState struct {
	at    *dekState
	bytes [DEKSize]byte

	mu     sync.Mutex
	expand expand.Key  // set up when the first key is derived
	gone   atomic.Bool // destroyed: what is left is a key of zeros, which anybody has
}

// emptyDEK is room for a key.
func emptyDEK() DEK {
	s := new(dekState)
	s.at = s
	return DEK{&s.at}
}

// NewDEK draws a data key from the operating system's random generator.
func NewDEK() DEK {
	d := emptyDEK()
	rand.Read(d.Bytes()) // never fails: crypto/rand ends the program when the system has no randomness
	return d
}

// DEKFromBytes copies 32 bytes that a provider unwrapped. The caller should clear b afterwards.
func DEKFromBytes(b []byte) (DEK, error) {
	if len(b) != DEKSize {
		return DEK{}, fmt.Errorf("kmskey: a data key has %d bytes, not %d", DEKSize, len(b))
	}
	d := emptyDEK()
	copy(d.Bytes(), b)
	return d, nil
}

// IsZero reports whether d holds no key, or none any more.
func (d DEK) IsZero() bool { return d.key == nil || (*d.key).gone.Load() }

// Bytes gives the key itself, not a copy. It is for providers and for deriving keys: do not keep it, change it or print
// it. It panics on the zero DEK, where returning nothing could become a key of zeros.
func (d DEK) Bytes() []byte {
	if d.key == nil {
		panic("kmskey: internal error: Bytes of a DEK that holds no key")
	}
	return (*d.key).bytes[:]
}

// Derive gives 32 bytes for info: HKDF-Expand with SHA-256 (RFC 5869, section 2.3). What else is derived from the same key costs a third, since the key is set up
// once. It is for what docs/format.md derives from data keys. The caller should clear the answer. It panics on a DEK
// that was destroyed, as on the zero one.
func (d DEK) Derive(info []byte) [DEKSize]byte {
	b := d.Bytes()
	s := *d.key
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() {
		panic("kmskey: internal error: Derive of a DEK that was destroyed")
	}
	if s.expand.IsZero() {
		s.expand = expand.New(b)
	}
	return s.expand.Expand(info)
}

// Destroy overwrites the key with zeros. It is a best effort: the garbage collector may have moved no copy, but a cipher
// built from the key keeps its own schedule until it is collected.
func (d DEK) Destroy() {
	if d.key != nil {
		s := *d.key
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone.Store(true)
		clear(s.bytes[:])
		s.expand.Release()
	}
}

const redactedDEK = "kmskey.DEK(***)"

// Format prints "kmskey.DEK(***)" for every verb.
func (d DEK) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedDEK) }

// String prints "kmskey.DEK(***)".
func (d DEK) String() string { return redactedDEK }

// GoString prints "kmskey.DEK(***)".
func (d DEK) GoString() string { return redactedDEK }

// LogValue logs "kmskey.DEK(***)".
func (d DEK) LogValue() slog.Value { return slog.StringValue(redactedDEK) }

// MarshalText writes "kmskey.DEK(***)"; JSON and other encoders use it.
func (d DEK) MarshalText() ([]byte, error) { return []byte(redactedDEK), nil }

// Clone is an independent copy of the key: of one that was destroyed, the zero DEK.
func (d DEK) Clone() DEK {
	if d.key == nil {
		return d
	}
	s := *d.key
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone.Load() {
		return DEK{}
	}
	c := emptyDEK()
	copy(c.Bytes(), s.bytes[:])
	return c
}
