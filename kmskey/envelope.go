// envelope.go owns every byte of the key column: docs/format.md, section 4.

package kmskey

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	formatEnvelope = 0x01
	suiteAESGCM    = 0x01
	modeDirect     = 0x01
	flagUnbound    = 0x01

	commitmentSize = 32

	maxVersion = 1<<31 - 1
	maxKeys    = 4
	maxWraps   = 8
	maxService = 16
	maxKeyRef  = 1024
	maxBlob    = 16 << 10

	// TokenPrefix begins the token that stands in a key column until the row's id is known.
	TokenPrefix = "pending:"
	// ShreddedPrefix begins the [Tombstone] of keys that were destroyed on purpose.
	ShreddedPrefix = "shredded:"
)

// strict refuses unused bits that are set: two texts for one envelope would break comparisons in SQL.
var strict = base64.RawStdEncoding.Strict()

// Envelope is what a row's key column holds: its data keys, each wrapped by one or more key services. It is not secret, and
// worth nothing without them. An Envelope is immutable and safe for concurrent use. The zero Envelope is none; see
// [Envelope.IsZero].
type Envelope struct {
	unbound bool
	keys    []sealedKey // 1 to maxKeys, oldest first, the last one seals; none in the zero Envelope
}

// sealedKey is one data key of an envelope.
type sealedKey struct {
	id         byte
	version    uint32
	commitment [commitmentSize]byte
	wraps      []Wrapped // 1 to maxWraps, alternatives to each other
}

// IsZero reports whether e holds nothing.
func (e Envelope) IsZero() bool { return len(e.keys) == 0 }

// Version is the oldest key version in the envelope: the N of its prefix. It is 0 for the zero Envelope.
func (e Envelope) Version() int {
	if e.IsZero() {
		return 0
	}
	oldest := e.keys[0].version
	for _, k := range e.keys[1:] {
		oldest = min(oldest, k.version)
	}
	return int(oldest)
}

// Keys is the number of data keys in the envelope.
func (e Envelope) Keys() int { return len(e.keys) }

// Wrap is one wrap of an envelope, without its ciphertext.
type Wrap struct {
	Key     byte // the number of the data key
	Version int
	Service string
	KeyRef  string
}

// Wraps lists what the envelope's data keys lie under.
func (e Envelope) Wraps() (wraps []Wrap) {
	for _, s := range e.keys {
		for _, w := range s.wraps {
			wraps = append(wraps, Wrap{s.id, int(s.version), w.Service, w.KeyRef})
		}
	}
	return wraps
}

// Current is the number of the data key that seals; 0 for the zero Envelope.
func (e Envelope) Current() byte {
	if e.IsZero() {
		return 0
	}
	return e.keys[len(e.keys)-1].id
}

// Prune is e without the data keys that no field was sealed under any more: those whose number is not in used, but never the one that
// seals. Nothing is unwrapped. The caller must know all fields of the key column, and store the result only where e still stands: then no
// other writer can have sealed anything under a key that was dropped, since that takes the newest.
func (e Envelope) Prune(used ...byte) Envelope {
	newest := e.Current()
	keys := slices.DeleteFunc(slices.Clone(e.keys), func(s sealedKey) bool { return s.id != newest && !slices.Contains(used, s.id) })
	return Envelope{e.unbound, keys}
}

// String encodes the envelope as the key column holds it. It is "" for the zero Envelope.
func (e Envelope) String() string {
	if e.IsZero() {
		return ""
	}
	body := make([]byte, 0, 512)
	var flags byte
	if e.unbound {
		flags |= flagUnbound
	}
	body = append(body, formatEnvelope, flags, byte(len(e.keys)))
	for _, k := range e.keys {
		body = append(body, k.id, suiteAESGCM, modeDirect)
		body = binary.BigEndian.AppendUint32(body, k.version)
		body = append(body, k.commitment[:]...)
		body = append(body, byte(len(k.wraps)))
		for _, w := range k.wraps {
			body = append(append(body, byte(len(w.Service))), w.Service...)
			body = append(binary.BigEndian.AppendUint16(body, uint16(len(w.KeyRef))), w.KeyRef...)
			body = append(binary.BigEndian.AppendUint16(body, uint16(len(w.Blob))), w.Blob...)
		}
	}
	return "v" + strconv.Itoa(e.Version()) + ":" + strict.EncodeToString(body)
}

// ParseEnvelope reads what a key column holds. It fails with [ErrPending] for whatever begins as the token of an unfinished insert, with [ErrShredded]
// for a [Tombstone], and otherwise with [ErrCorrupt] for anything that [Envelope.String] does not write. It never panics, and authenticates nothing.
func ParseEnvelope(text string) (Envelope, error) {
	if strings.HasPrefix(text, TokenPrefix) {
		return Envelope{}, fmt.Errorf("kmskey: read envelope: %w", ErrPending)
	}
	if strings.HasPrefix(text, ShreddedPrefix) {
		if IsTombstone(text) {
			return Envelope{}, fmt.Errorf("kmskey: read envelope: %w", ErrShredded)
		}
		return Envelope{}, fmt.Errorf("kmskey: read envelope: %w: it begins as a tombstone and is none", ErrCorrupt)
	}
	e, err := parseEnvelope(text)
	if err != nil {
		return Envelope{}, fmt.Errorf("kmskey: read envelope: %w: %w", ErrCorrupt, err)
	}
	return e, nil
}

func parseEnvelope(text string) (Envelope, error) {
	prefix, encoded, ok := strings.Cut(text, ":")
	if !ok || !strings.HasPrefix(prefix, "v") {
		return Envelope{}, errors.New("no version prefix such as \"v1:\"")
	}
	// The decoder passes over line breaks, which would be a second text for the same envelope.
	if strings.ContainsAny(encoded, "\r\n") {
		return Envelope{}, errors.New("line break in base64")
	}
	body, err := strict.DecodeString(encoded)
	if err != nil {
		return Envelope{}, errors.New("not base64")
	}
	e, err := parseBody(body)
	if err != nil {
		return Envelope{}, err
	}
	if prefix[1:] != strconv.Itoa(e.Version()) {
		return Envelope{}, errors.New("its prefix is not the oldest version inside")
	}
	return e, nil
}

// reader takes fields from the front of a body. After the first shortage every further read gives zeros and short stays set, so
// that the parser reads straight down and asks once.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return make([]byte, min(n, commitmentSize)) // callers take at most fixed sizes from it
	}
	b := r.rest[:n:n] // a provider that appends to its blob must not write into the next one
	r.rest = r.rest[n:]
	return b
}

func (r *reader) u8() int  { return int(r.bytes(1)[0]) }
func (r *reader) u16() int { return int(binary.BigEndian.Uint16(r.bytes(2))) }

func parseBody(body []byte) (Envelope, error) {
	r := &reader{rest: body}
	format, flags, count := r.u8(), r.u8(), r.u8()
	switch {
	case r.short:
		return Envelope{}, errors.New("truncated")
	case format != formatEnvelope:
		return Envelope{}, fmt.Errorf("unknown format %d, written by a later release or altered", format)
	case flags&^flagUnbound != 0:
		return Envelope{}, fmt.Errorf("unknown flags 0x%02x, written by a later release or altered", flags)
	case count < 1 || count > maxKeys:
		return Envelope{}, fmt.Errorf("%d data keys, not 1 to %d", count, maxKeys)
	}
	e := Envelope{unbound: flags&flagUnbound != 0, keys: make([]sealedKey, count)}
	var seen [256]bool
	for i := range e.keys {
		if err := parseKey(r, &e.keys[i]); err != nil {
			return Envelope{}, err
		}
		if id := e.keys[i].id; id == 0 || seen[id] {
			return Envelope{}, fmt.Errorf("data key id %d is zero or stands twice", id)
		}
		seen[e.keys[i].id] = true
	}
	if len(r.rest) != 0 {
		return Envelope{}, errors.New("bytes after the end")
	}
	return e, nil
}

func parseKey(r *reader, k *sealedKey) error {
	id, suite, mode := r.u8(), r.u8(), r.u8()
	k.id = byte(id)
	k.version = binary.BigEndian.Uint32(r.bytes(4))
	copy(k.commitment[:], r.bytes(commitmentSize))
	wraps := r.u8()
	switch {
	case r.short:
		return errors.New("truncated")
	case suite != suiteAESGCM:
		return fmt.Errorf("unknown suite %d, written by a later release or altered", suite)
	case mode != modeDirect:
		return fmt.Errorf("unknown mode %d, written by a later release or altered", mode)
	case k.version == 0 || k.version > maxVersion:
		return fmt.Errorf("version %d, not 1 to %d", k.version, maxVersion)
	case wraps < 1 || wraps > maxWraps:
		return fmt.Errorf("%d wraps, not 1 to %d", wraps, maxWraps)
	}
	k.wraps = make([]Wrapped, wraps)
	for i := range k.wraps {
		w := Wrapped{Service: string(r.bytes(r.u8())), KeyRef: string(r.bytes(r.u16())), Blob: r.bytes(r.u16())}
		if r.short {
			return errors.New("truncated")
		}
		if err := checkWrapped(w); err != nil {
			return err
		}
		k.wraps[i] = w
	}
	return nil
}

// checkWrapped holds the limits of one wrap, on the way in and on the way out.
func checkWrapped(w Wrapped) error {
	switch {
	case w.Service == "" || len(w.Service) > maxService || strings.Trim(w.Service, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return errors.New("a wrap's service is not 1 to 16 bytes of a-z, 0-9 and hyphen")
	case len(w.KeyRef) > maxKeyRef || !utf8.ValidString(w.KeyRef):
		return fmt.Errorf("a wrap's key reference is not at most %d bytes of UTF-8", maxKeyRef)
	case len(w.Blob) == 0 || len(w.Blob) > maxBlob:
		return fmt.Errorf("a wrapped key has %d bytes, not 1 to %d", len(w.Blob), maxBlob)
	}
	return nil
}
