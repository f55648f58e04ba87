// Package localwrap wraps 32-byte keys with a 32-byte key that this process holds: the local key wraps data keys with it,
// and a branch key those of its tenant. It owns every byte of the wrapped form, which docs/format.md specifies.
//
// A wrapped key opens only with the same wrapping key, purpose, key reference and context. Each wrap uses a sub-key of its
// own, derived by HKDF-SHA-256 with 16 random bytes, so that the 2^32 messages that AES-GCM allows one key with random
// nonces bound nothing here: one wrapping key may wrap as many keys as a table has rows.
//
// It hides nothing from whoever holds the wrapping key, and, as all of AES-GCM, does not commit to it: that a blob opens
// proves that its maker knew a key, not that it opens under one key alone. The envelope's commitment does that.
package localwrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/internal/expand"
)

const (
	// KeySize is the length of a wrapping key and of a wrapped key.
	KeySize = 32
	// Size is the length of every wrapped key: format, salt, nonce, ciphertext, tag.
	Size = 1 + saltSize + nonceSize + KeySize + tagSize

	saltSize  = 16
	nonceSize = 12
	tagSize   = 16

	// format1 is the first byte of a wrapped key. Its number is also in the labels below, which are authenticated.
	format1 = 0x01
)

// The labels keep sub-keys, associated data and key ids apart from each other and from all other uses of a key.
const (
	labelKey = "rowseal/local-wrap/1/key"
	labelAAD = "rowseal/local-wrap/1/aad"
	labelID  = "rowseal/local-wrap/1/key-id"
)

var (
	// ErrMalformed: the blob is no wrapped key of a known format.
	ErrMalformed = errors.New("not a locally wrapped key")
	// ErrNotAuthentic: the blob was wrapped under another key, purpose, reference or context, or altered.
	ErrNotAuthentic = errors.New("message authentication failed")
)

// KeyID names a wrapping key without telling anything about it: 8 bytes in hexadecimal, derived by HKDF. It is for telling
// keys apart, not for proving which one was used: 64 bits are too few against someone who may choose keys.
func KeyID(key []byte) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	id, err := hkdf.Key(sha256.New, key, nil, string(canon.AppendText(nil, labelID)), 8)
	if err != nil {
		return "", fmt.Errorf("localwrap: derive a key id: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// Seal wraps secret, 32 bytes, under key for the given purpose, key reference and canonical context. The answer has [Size]
// bytes and differs on every call.
func Seal(key []byte, purpose, ref string, context, secret []byte) ([]byte, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("localwrap: wrap: a key of %d bytes, not %d", len(secret), KeySize)
	}
	blob := make([]byte, 1+saltSize, Size)
	blob[0] = format1
	salt := blob[1:]
	rand.Read(salt) // never fails: crypto/rand ends the program when the system has no randomness
	aead, err := subKey(key, salt, purpose, ref)
	if err != nil {
		return nil, err
	}
	data := rooms.Get().(*[]byte)
	defer rooms.Put(data)
	*data = aad((*data)[:0], purpose, ref, context)
	return aead.Seal(blob, nil, secret, *data), nil
}

// Open is the inverse of [Seal]. Its errors wrap [ErrMalformed] or [ErrNotAuthentic], or tell of a wrapping key that does
// not have 32 bytes. The caller should clear the answer after use.
func Open(key []byte, purpose, ref string, context, blob []byte) ([]byte, error) {
	if len(blob) != Size {
		return nil, fmt.Errorf("localwrap: unwrap: %w: %d bytes, not %d", ErrMalformed, len(blob), Size)
	}
	if blob[0] != format1 {
		return nil, fmt.Errorf("localwrap: unwrap: %w: unknown format 0x%02x", ErrMalformed, blob[0])
	}
	aead, err := subKey(key, blob[1:1+saltSize], purpose, ref)
	if err != nil {
		return nil, err
	}
	data := rooms.Get().(*[]byte)
	defer rooms.Put(data)
	*data = aad((*data)[:0], purpose, ref, context)
	secret, err := aead.Open(nil, nil, blob[1+saltSize:], *data)
	if err != nil {
		return nil, fmt.Errorf("localwrap: unwrap: %w", ErrNotAuthentic)
	}
	return secret, nil
}

// subKey derives the key of one wrap.
func subKey(key, salt []byte, purpose, ref string) (cipher.AEAD, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	sub := expand.Derive(key, salt, tuple(make([]byte, 0, 128), labelKey, purpose, ref))
	defer clear(sub[:])
	return newAEAD(sub[:])
}

// newAEAD draws and prepends its own nonces, as FIPS 140-3 asks.
func newAEAD(sub []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, fmt.Errorf("localwrap: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("localwrap: %w", err)
	}
	return aead, nil
}

// aad repeats purpose and reference, though the sub-key depends on them already: it costs some bytes of GHASH and leaves
// nothing to think about where two derivations ever met.
func aad(dst []byte, purpose, ref string, context []byte) []byte {
	return append(tuple(dst, labelAAD, purpose, ref), context...)
}

// rooms hold associated data, and nothing that is secret, while a key is wrapped or unwrapped.
var rooms = sync.Pool{New: func() any { return new([]byte) }}

func tuple(dst []byte, texts ...string) []byte {
	for _, s := range texts {
		dst = canon.AppendText(dst, s)
	}
	return dst
}

func checkKey(key []byte) error {
	if len(key) != KeySize {
		return fmt.Errorf("localwrap: a wrapping key has %d bytes, not %d", KeySize, len(key))
	}
	return nil
}
