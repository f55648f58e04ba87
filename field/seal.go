// seal.go owns the AEAD: how a field key comes from a data key, what a ciphertext is bound to, and the two calls.

package field

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/internal/expand"
)

// Why a field does not open. Errors of [Key.Open] wrap exactly one; their text names the place, never a value.
var (
	// ErrPlaintext: the column holds something that Rowseal did not write.
	ErrPlaintext = errors.New("not sealed: the column holds something else than a sealed field")
	// ErrMalformed: the field is cut short or not well-formed.
	ErrMalformed = errors.New("malformed: truncated, or not well-formed")
	// ErrUnknownSuite: the field was written by a later release, or its header was altered.
	ErrUnknownSuite = errors.New("unknown format or suite: written by a later release, or altered")
	// ErrOtherKey: the field names a data key that this one is not.
	ErrOtherKey = errors.New("sealed under another data key than the row's")
	// ErrNotAuthentic: the field was not sealed for this place under this key, or was altered.
	ErrNotAuthentic = errors.New("not authentic (wrong key, wrong row, wrong column, or altered)")
	// ErrType: the value opened, and does not fit the Go type.
	ErrType = errors.New("value does not fit the Go type")
)

// KeySize is the length of a data key in bytes.
const KeySize = 32

// Place is where a field lives. Its names are logical: they stay when a Go type, table or column is renamed. A Place is
// immutable and safe for concurrent use.
type Place struct {
	model, column string
	// data is the associated data for each data key id. Rows have one data key, seldom more, and ids count up from 1, so
	// the table is short; higher ids pay an allocation.
	data   [placeIDs][]byte
	prefix []byte
}

const placeIDs = 8

// NewPlace names a field by namespace (application and environment), logical model and logical column.
func NewPlace(namespace, model, column string) *Place {
	p := &Place{model: model, column: column}
	p.prefix = canon.AppendText(nil, "rowseal/field")
	p.prefix = canon.Append(p.prefix, canon.Uint(formatField))
	p.prefix = canon.Append(p.prefix, canon.Uint(suiteAESGCM))
	p.prefix = canon.AppendText(p.prefix, namespace)
	p.prefix = canon.AppendText(p.prefix, model)
	p.prefix = canon.AppendText(p.prefix, column)
	for id := range p.data {
		p.data[id] = p.build(byte(id))
	}
	return p
}

func (p *Place) build(id byte) []byte {
	return canon.Append(p.prefix[:len(p.prefix):len(p.prefix)], canon.Uint(uint64(id)))
}

func (p *Place) associatedData(id byte) []byte {
	if int(id) < len(p.data) {
		return p.data[id]
	}
	return p.build(id)
}

// String is "model.column".
func (p *Place) String() string { return p.model + "." + p.column }

func (p *Place) fail(act string, err error) error {
	return fmt.Errorf("field: %s %s: %w", act, p, err)
}

// Key seals and opens the fields of one row. It is safe for concurrent use, and holds the expanded key until it is collected.
//
// A key takes at most 2^32 messages (NIST SP 800-38D, section 8.3, for random nonces), which a row's fields do not reach: one
// update a second takes 136 years.
type Key struct {
	// Behind a pointer of its own, because fmt follows the first pointer that it meets under a wrong verb such as %s, wherever
	// that stands, and then shows what lies there: a copied Key would end in the round keys of AES.
	state *keyState
}

type keyState struct {
	aead cipher.AEAD
	id   byte
}

// NewKey derives the field key from a row's data key: one derivation and one key schedule, however many fields follow. id is the
// data key's number in its envelope, 1 to 255.
func NewKey(dek []byte, id byte) (*Key, error) {
	if len(dek) != KeySize {
		return nil, fmt.Errorf("field: a data key has %d bytes, not %d", KeySize, len(dek))
	}
	if id == 0 {
		return nil, errNumber
	}
	k := expand.New(dek)
	defer k.Release()
	// Expand alone, without Extract: a data key is uniformly random (RFC 5869, section 3.3).
	sub := k.Expand(fieldKeyInfo)
	defer clear(sub[:])
	return expanded(sub[:], id)
}

// errNumber is of a key whose fields would be malformed.
var errNumber = errors.New("field: a data key's number is 1 to 255, not 0")

func expanded(sub []byte, id byte) (*Key, error) {
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, fmt.Errorf("field: expand a field key: %w", err)
	}
	// A random nonce is safe here: a data key seals one row's fields, far below 2^32 messages. It is also the only AES-GCM
	// that Go allows under fips140=only.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("field: expand a field key: %w", err)
	}
	held := &struct { // both in one allocation
		key   Key
		state keyState
	}{state: keyState{aead, id}}
	held.key.state = &held.state
	return &held.key, nil
}

// RestingKey is a [Key] that is not expanded: 32 bytes, where a Key takes three quarters of a kilobyte. It is for rows that stay in memory when their fields were opened or
// sealed, which most do without either happening again. It is immutable and safe for concurrent use, and comparable: copies are equal, and no others. The zero RestingKey is none.
type RestingKey struct {
	// Two pointers, for the reason that kmskey.DEK gives.
	key **restingState
}

// restingState is a key, and the pointer to it that a RestingKey points to, in one allocation.
type restingState struct {
	at    *restingState
	bytes [KeySize]byte
	id    byte
}

// RestingKeyFrom derives the field key from a data key that derives by itself: derive gives HKDF-Expand with SHA-256 and 32 bytes for an info, as kmskey.DEK.Derive does. It is
// for where other things are derived from the same key, whose set-up is then paid once. id is as for [NewKey].
func RestingKeyFrom(derive func(info []byte) [KeySize]byte, id byte) (RestingKey, error) {
	if id == 0 {
		return RestingKey{}, errNumber
	}
	sub := derive(fieldKeyInfo)
	defer clear(sub[:])
	s := &restingState{bytes: sub, id: id}
	s.at = s
	return RestingKey{&s.at}, nil
}

// IsZero reports that there is no key.
func (r RestingKey) IsZero() bool { return r.key == nil }

// Expand gives the key ready for use: one key schedule. It panics on the zero RestingKey.
func (r RestingKey) Expand() (*Key, error) {
	if r.IsZero() {
		panic("field: internal error: Expand of a RestingKey that holds no key")
	}
	return expanded((*r.key).bytes[:], (*r.key).id)
}

var fieldKeyInfo = canon.Append(canon.AppendText(nil, "rowseal/field-key"), canon.Uint(suiteAESGCM))

// ID is the number of the data key in its envelope.
func (k *Key) ID() byte { return k.state.id }

// Seal encrypts plaintext for p and appends the field to dst: [Overhead]-1 bytes more than plaintext, which itself begins with
// its kind. Two calls never give the same bytes. plaintext and the spare capacity of dst must not overlap.
func (k *Key) Seal(dst []byte, p *Place, plaintext []byte) []byte {
	dst = slices.Grow(dst, headerSize+nonceSize+len(plaintext)+tagSize)
	dst = append(dst, formatField, suiteAESGCM, k.state.id)
	return k.state.aead.Seal(dst, nil, plaintext, p.associatedData(k.state.id))
}

// Open appends to dst the plaintext of a field that was sealed for p under k. It fails with one of [ErrPlaintext],
// [ErrMalformed], [ErrUnknownSuite], [ErrOtherKey] and [ErrNotAuthentic]; then nothing was released.
func (k *Key) Open(dst []byte, p *Place, sealed []byte) ([]byte, error) {
	id, body, err := split(sealed)
	if err != nil {
		return nil, p.fail("open", err)
	}
	if id != k.state.id {
		return nil, p.fail("open", ErrOtherKey)
	}
	// aead.Open's own error says nothing more, and wrapping it would promise it.
	plain, err := k.state.aead.Open(dst, nil, body, p.associatedData(id))
	if err != nil {
		return nil, p.fail("open", ErrNotAuthentic)
	}
	return plain, nil
}

const (
	redactedKey     = "field.Key(***)"
	redactedResting = "field.RestingKey(***)"
)

// Format prints "field.Key(***)" for every verb.
func (k *Key) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedKey) }

// String prints "field.Key(***)".
func (k *Key) String() string { return redactedKey }

// GoString prints "field.Key(***)".
func (k *Key) GoString() string { return redactedKey }

// LogValue logs "field.Key(***)".
func (k *Key) LogValue() slog.Value { return slog.StringValue(redactedKey) }

// MarshalText writes "field.Key(***)"; JSON and other encoders use it.
func (k *Key) MarshalText() ([]byte, error) { return []byte(redactedKey), nil }

// Format prints "field.RestingKey(***)" for every verb.
func (r RestingKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedResting) }

// String prints "field.RestingKey(***)".
func (r RestingKey) String() string { return redactedResting }

// GoString prints "field.RestingKey(***)".
func (r RestingKey) GoString() string { return redactedResting }

// LogValue logs "field.RestingKey(***)".
func (r RestingKey) LogValue() slog.Value { return slog.StringValue(redactedResting) }

// MarshalText writes "field.RestingKey(***)"; JSON and other encoders use it.
func (r RestingKey) MarshalText() ([]byte, error) { return []byte(redactedResting), nil }
