// tombstone.go owns what stands in the place of an envelope that was destroyed on purpose: docs/format.md, section 16.

package kmskey

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowseal/rowseal/internal/canon"
)

// Tombstone is what a key column holds after its data keys were destroyed on purpose: a digest for each, by which a ledger knows them again, and
// nothing that opens anything. A Tombstone is immutable and safe for concurrent use. The zero Tombstone is that of a column without a key.
type Tombstone struct{ digests []string }

// Tombstone is what takes the place of e. It makes no call. A key that is moved, to another version, service or context, keeps its digest.
func (e Envelope) Tombstone() Tombstone {
	var t Tombstone
	for _, k := range e.keys {
		sum := sha256.Sum256(canon.Append(canon.AppendText(nil, "rowseal/shredded"), canon.Bytes(k.commitment[:])))
		t.digests = append(t.digests, strict.EncodeToString(sum[:]))
	}
	return t
}

// Digests has one for each data key, oldest first.
func (t Tombstone) Digests() []string { return slices.Clone(t.digests) }

// Meets reports that some data key of t is among digests.
func (t Tombstone) Meets(digests []string) bool {
	return slices.ContainsFunc(t.digests, func(d string) bool { return slices.Contains(digests, d) })
}

// String encodes the tombstone as the key column holds it.
func (t Tombstone) String() string { return ShreddedPrefix + strings.Join(t.digests, ".") }

// IsTombstone reports whether text is what [Tombstone.String] writes.
func IsTombstone(text string) bool {
	_, err := ParseTombstone(text)
	return err == nil
}

// ParseTombstone reads what [Tombstone.String] writes, and fails with [ErrCorrupt] for anything else. It authenticates nothing.
func ParseTombstone(text string) (Tombstone, error) {
	fail := func(why string) (Tombstone, error) {
		return Tombstone{}, fmt.Errorf("kmskey: read tombstone: %w: %w", ErrCorrupt, errors.New(why))
	}
	rest, ok := strings.CutPrefix(text, ShreddedPrefix)
	switch {
	case !ok:
		return fail("no prefix \"" + ShreddedPrefix + "\"")
	case rest == "":
		return Tombstone{}, nil
	case strings.ContainsAny(rest, "\r\n"): // which the decoder passes over
		return fail("line break in base64")
	}
	digests := strings.Split(rest, ".")
	if len(digests) > maxKeys {
		return fail("too many digests")
	}
	for _, d := range digests {
		if sum, err := strict.DecodeString(d); err != nil || len(sum) != sha256.Size {
			return fail("a digest is not 32 bytes of base64")
		}
	}
	return Tombstone{digests}, nil
}
