// box.go owns sealed messages outside models, byte by byte: docs/format.md, section 13.

package kmskey

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rowseal/rowseal/internal/canon"
)

const (
	formatMessage = 0xFB
	headerSize    = 3  // format, suite, id
	sealedSize    = 28 // nonce and tag
	maxMessage    = 1 << 29

	// boxModel is what Choose and observers see in place of a model. The commitment does not hold it: a model may have that name.
	boxModel = "rowseal/box"
)

// Box seals messages that are no fields of a model: exports, queue entries, files. Each has a data key of its own, so a key service's limit on
// what it encrypts (4 KiB with AWS KMS) is none on messages, which have at most 512 MiB. A sealed message is text: its envelope, which begins
// with the version as in a row's key column, so that `sealed LIKE 'v1:%'` selects what version 1 is still needed for, and behind a full
// stop the message, with 31 bytes more than its plaintext, in base64.
//
// It opens in a box of the same name and namespace, under an equal context, and nowhere else; as a row's key or field it is refused, and a row's
// is refused here. Whoever can replace a sealed message can replace it by another of the same box and context: what tells them apart
// belongs in the context.
//
// A Box is immutable and safe for concurrent use. It caches nothing: each act makes one call to the key service, or one for each
// provider of a [Multi] that is asked.
type Box struct {
	keys *Keyring
	name string
}

// NewBox names a box. The name says what the messages are, for instance "exports"; it is authenticated with every message, so a renamed box opens
// nothing. For [Version].Choose and observers, a box is the model "rowseal/box" and its name the key column.
func NewBox(keys *Keyring, name string) (*Box, error) {
	switch {
	case keys == nil:
		return nil, errors.New("kmskey: new box: no keyring; make one with kmskey.New")
	case name == "" || !utf8.ValidString(name):
		return nil, errors.New("kmskey: new box: the name is empty or not valid UTF-8")
	}
	return &Box{keys, name}, nil
}

// Seal encrypts message under a new data key, which the current version wraps under ec and the version's constants. One call.
func (b *Box) Seal(ctx context.Context, message []byte, ec ...Pair) (string, error) {
	if len(message) > maxMessage {
		return "", b.failed("seal", fmt.Errorf("%d bytes, more than the %d that a message may have", len(message), maxMessage))
	}
	row, err := b.row(ec)
	if err != nil {
		return "", b.failed("seal", err)
	}
	key := NewDataKey()
	defer key.DEK.Destroy()
	e, err := b.keys.Wrap(ctx, key, row)
	if err != nil {
		return "", b.failed("seal", err)
	}
	sealed := append(make([]byte, 0, headerSize+sealedSize+len(message)), formatMessage, suiteAESGCM, key.ID)
	// A random nonce is safe here: the key seals this one message.
	sealed = boxCipher(key.DEK).Seal(sealed, nil, message, b.associatedData(key.ID))
	envelope := e.String()
	text := append(make([]byte, 0, len(envelope)+1+strict.EncodedLen(len(sealed))), envelope...)
	return string(strict.AppendEncode(append(text, '.'), sealed)), nil
}

// Open gives back a message that this box sealed under an equal context. One call. Text that Seal does not write is [ErrCorrupt], and makes no
// call; a wrong context is the service's [ErrContextMismatch] or [ErrCommitment], another box or namespace ErrCommitment, and an
// altered message [ErrNotAuthentic].
func (b *Box) Open(ctx context.Context, sealed string, ec ...Pair) ([]byte, error) {
	e, body, _, err := parseBox(sealed)
	if err != nil {
		return nil, b.failed("open", err)
	}
	row, err := b.row(ec)
	if err != nil {
		return nil, b.failed("open", err)
	}
	keys, err := b.keys.Unwrap(ctx, e, row)
	if err != nil {
		return nil, b.failed("open", err)
	}
	defer keys[0].DEK.Destroy()
	message, err := boxCipher(keys[0].DEK).Open(make([]byte, 0, len(body)-sealedSize), nil, body, b.associatedData(keys[0].ID))
	if err != nil {
		return nil, b.failed("open", ErrNotAuthentic)
	}
	return message, nil
}

// Rewrap moves a sealed message to the current version, and from one context to another where they differ, as [Keyring.Rewrap] does: the
// message stays as it is, byte for byte, and is not decrypted. It gives back sealed itself, without a call, where that is current already. The
// result must be stored only where sealed still stands.
func (b *Box) Rewrap(ctx context.Context, sealed string, from, to []Pair) (string, error) {
	e, _, text, err := parseBox(sealed)
	if err != nil {
		return "", b.failed("rewrap", err)
	}
	source, err := b.row(from)
	if err != nil {
		return "", b.failed("rewrap", err)
	}
	target, err := b.row(to)
	if err != nil {
		return "", b.failed("rewrap", err)
	}
	e, err = b.keys.Rewrap(ctx, e, source, target)
	if err != nil {
		return "", b.failed("rewrap", err)
	}
	return e.String() + "." + text, nil
}

func (b *Box) failed(op string, err error) error {
	return fmt.Errorf("kmskey: %s in box %q: %w", op, b.name, err)
}

// row is what envelopes of the box are bound to: its name, and the whole of the context, with its types, in place of a primary key.
func (b *Box) row(ec []Pair) (Row, error) {
	c, err := NewContext(ec...)
	if err != nil {
		return Row{}, err
	}
	return Row{
		Model: boxModel, Key: b.name, ID: []Value{Bytes(c.Canonical())}, box: true,
		Context: func(int) ([]Pair, error) { return c.pairs(), nil },
	}, nil
}

func (b *Box) associatedData(id byte) []byte {
	data := canon.AppendText(make([]byte, 0, 128), "rowseal/box")
	data = canon.Append(data, canon.Uint(formatMessage))
	data = canon.Append(data, canon.Uint(suiteAESGCM))
	data = canon.AppendText(data, b.keys.namespace)
	data = canon.AppendText(data, b.name)
	return canon.Append(data, canon.Uint(uint64(id)))
}

var boxKeyInfo = string(canon.Append(canon.AppendText(nil, "rowseal/box-key"), canon.Uint(suiteAESGCM)))

// boxCipher is package field's derivation under another label: a row's data key, where it ever came here, would open nothing.
func boxCipher(dek DEK) cipher.AEAD {
	key, err := hkdf.Expand(sha256.New, dek.Bytes(), boxKeyInfo, DEKSize)
	if err != nil {
		panic("kmskey: internal error: HKDF of 32 bytes from a 32-byte key: " + err.Error())
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("kmskey: internal error: AES with a 32-byte key: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block) // the only AES-GCM that Go allows under fips140=only
	if err != nil {
		panic("kmskey: internal error: AES-GCM: " + err.Error())
	}
	return aead
}

// parseBox takes a sealed message apart: its envelope, what the cipher takes, and the text behind the full stop. It authenticates nothing.
func parseBox(sealed string) (e Envelope, body []byte, text string, err error) {
	corrupt := func(why string) (Envelope, []byte, string, error) {
		return Envelope{}, nil, "", fmt.Errorf("%w: %s", ErrCorrupt, why)
	}
	envelope, text, ok := strings.Cut(sealed, ".")
	if !ok {
		return corrupt("no message behind the envelope")
	}
	if e, err = ParseEnvelope(envelope); err != nil {
		return Envelope{}, nil, "", err
	}
	// The decoder passes over line breaks, which would be a second text for the same message.
	message, err := strict.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return corrupt("the message is not base64")
	}
	switch {
	case e.unbound || len(e.keys) != 1:
		return corrupt("its envelope is not a box's")
	case len(message) < headerSize+sealedSize:
		return corrupt("the message is cut short")
	case message[0] != formatMessage || message[1] != suiteAESGCM:
		return corrupt("unknown format or suite of the message, written by a later release or altered")
	case message[2] != e.keys[0].id:
		return corrupt("the message names another data key than the envelope's")
	}
	return e, message[headerSize:], text, nil
}
