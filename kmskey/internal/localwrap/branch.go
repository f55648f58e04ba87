// branch.go owns wraps under branch keys. They differ from those under a local key in what they cost: one HMAC with a key that is
// set up already, since a branch key wraps and unwraps every row of its tenant.

package localwrap

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/internal/expand"
)

const (
	// BranchSize is the length of every key that a branch key wraps: format, key id, salt, nonce, ciphertext, tag.
	BranchSize = 1 + branchIDSize + saltSize + nonceSize + KeySize + tagSize

	branchIDSize = 8
	formatBranch = 0x01

	labelBranchKey = "rowseal/branch-wrap/1/key"
	labelBranchAAD = "rowseal/branch-wrap/1/aad"
	labelBranchID  = "rowseal/branch-wrap/1/key-id"
)

// ErrOtherBranch: the blob names another branch key than this one: of another tenant, of another generation, or one that the table no longer holds.
var ErrOtherBranch = errors.New("wrapped under another branch key")

// Branch wraps and unwraps data keys under one branch key. It is safe for concurrent use until [Branch.Destroy].
type Branch struct {
	// Two pointers, for the reason that kmskey.DEK gives.
	key  **[KeySize]byte
	id   [branchIDSize]byte
	keys sync.Pool // *expand.Key, one for each goroutine at work
}

// NewBranch copies key, 32 random bytes. The caller may clear it afterwards.
func NewBranch(key []byte) (*Branch, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	held := new([KeySize]byte)
	copy(held[:], key)
	b := &Branch{key: &held}
	b.keys.New = func() any {
		k := expand.New((*b.key)[:])
		return &k
	}
	id := b.expand(canon.AppendText(nil, labelBranchID))
	copy(b.id[:], id[:])
	return b, nil
}

// ID names the branch key in hexadecimal, without telling anything about it. As [KeyID], it tells keys apart and proves nothing.
func (b *Branch) ID() string { return hex.EncodeToString(b.id[:]) }

// Destroy overwrites the key. The HMACs made of it are left to the collector, which is as much as Go allows.
func (b *Branch) Destroy() {
	clear((*b.key)[:])
	b.keys = sync.Pool{}
}

// expand is HKDF-Expand with the branch key, which is set up once for many rows.
func (b *Branch) expand(info []byte) [KeySize]byte {
	k := b.keys.Get().(*expand.Key)
	defer b.keys.Put(k)
	return k.Expand(info)
}

// Seal wraps secret, 32 bytes, for a key reference and canonical context. The answer has [BranchSize] bytes and differs on every call.
func (b *Branch) Seal(ref string, context, secret []byte) ([]byte, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("localwrap: wrap: a key of %d bytes, not %d", len(secret), KeySize)
	}
	blob := make([]byte, 1+branchIDSize+saltSize, BranchSize)
	blob[0] = formatBranch
	copy(blob[1:], b.id[:])
	rand.Read(blob[1+branchIDSize:]) // never fails: crypto/rand ends the program when the system has no randomness
	aead, err := b.subKey(ref, blob[1+branchIDSize:])
	if err != nil {
		return nil, err
	}
	data := rooms.Get().(*[]byte)
	defer rooms.Put(data)
	*data = branchAAD((*data)[:0], ref, context)
	return aead.Seal(blob, nil, secret, *data), nil
}

// Open is the inverse of [Branch.Seal]. Its errors wrap [ErrMalformed], [ErrOtherBranch] or [ErrNotAuthentic]. The caller should clear the answer
// after use.
func (b *Branch) Open(ref string, context, blob []byte) ([]byte, error) {
	if len(blob) != BranchSize {
		return nil, fmt.Errorf("localwrap: unwrap: %w: %d bytes, not %d", ErrMalformed, len(blob), BranchSize)
	}
	if blob[0] != formatBranch {
		return nil, fmt.Errorf("localwrap: unwrap: %w: unknown format 0x%02x", ErrMalformed, blob[0])
	}
	id, rest := blob[1:1+branchIDSize], blob[1+branchIDSize:]
	// Not what makes it secure, since another key derives another sub-key: it is for the error.
	if subtle.ConstantTimeCompare(id, b.id[:]) != 1 {
		return nil, fmt.Errorf("localwrap: unwrap: %w: it names %x, and this one is %x", ErrOtherBranch, id, b.id)
	}
	aead, err := b.subKey(ref, rest[:saltSize])
	if err != nil {
		return nil, err
	}
	data := rooms.Get().(*[]byte)
	defer rooms.Put(data)
	*data = branchAAD((*data)[:0], ref, context)
	secret, err := aead.Open(nil, nil, rest[saltSize:], *data)
	if err != nil {
		return nil, fmt.Errorf("localwrap: unwrap: %w", ErrNotAuthentic)
	}
	return secret, nil
}

// subKey derives the key of one wrap. The 16 random bytes keep AES-GCM's bound of 2^32 random nonces per key away from the branch key: two of 2^48
// wraps share a sub-key with a chance of 2^-33, and each has a nonce of its own all the same.
func (b *Branch) subKey(ref string, salt []byte) (cipher.AEAD, error) {
	sub := b.expand(canon.Append(tuple(make([]byte, 0, 128), labelBranchKey, ref), canon.Bytes(salt)))
	defer clear(sub[:])
	return newAEAD(sub[:])
}

func branchAAD(dst []byte, ref string, context []byte) []byte {
	return append(tuple(dst, labelBranchAAD, ref), context...)
}

// BranchID is the [Branch.ID] of the branch key that blob names. It refuses a blob that no branch key can have made, before any key is asked for.
func BranchID(blob []byte) (string, error) {
	if len(blob) != BranchSize || blob[0] != formatBranch {
		return "", fmt.Errorf("localwrap: unwrap: %w", ErrMalformed)
	}
	return hex.EncodeToString(blob[1 : 1+branchIDSize]), nil
}
