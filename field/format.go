// format.go owns every byte of a sealed field on disk: docs/format.md, section 6.

package field

import (
	"encoding/base64"
	"strings"
)

const (
	formatField = 0xF9
	notUTF8     = 0xF8 // this byte and all above never occur in UTF-8 (RFC 3629, section 3)
	suiteAESGCM = 0x01

	headerSize = 3
	nonceSize  = 12
	tagSize    = 16

	// Overhead is how many bytes a sealed field has more than its value: header, nonce, kind and tag.
	Overhead = headerSize + nonceSize + 1 + tagSize

	// FirstByte is what every sealed field begins with, and no UTF-8 text.
	FirstByte = formatField
	// TextPrefix is what a sealed field begins with in a text column.
	TextPrefix = "rs1:"
)

// strict refuses what decodes to bytes that encode differently: two texts for one field would be a malleable format.
var strict = base64.RawStdEncoding.Strict()

// split checks the header and gives the data key's id and the sealed remainder.
func split(sealed []byte) (id byte, body []byte, err error) {
	switch {
	case len(sealed) == 0 || sealed[0] < notUTF8:
		return 0, nil, ErrPlaintext
	case sealed[0] != formatField:
		return 0, nil, ErrUnknownSuite
	case len(sealed) < headerSize:
		return 0, nil, ErrMalformed
	case sealed[1] != suiteAESGCM:
		return 0, nil, ErrUnknownSuite
	// The shortest plaintext is a kind and no payload.
	case len(sealed) < Overhead || sealed[2] == 0:
		return 0, nil, ErrMalformed
	}
	return sealed[2], sealed[headerSize:], nil
}

// KeyID reads from a sealed field which of the row's data keys sealed it. It checks the header and authenticates nothing.
func KeyID(sealed []byte) (byte, error) {
	id, _, err := split(sealed)
	return id, err
}

// AppendText appends the form of a sealed field that text columns hold.
func AppendText(dst, sealed []byte) []byte {
	return strict.AppendEncode(append(dst, TextPrefix...), sealed)
}

// ParseText reverses [AppendText]. It fails with [ErrPlaintext] without the prefix and with [ErrMalformed] for anything else that
// AppendText does not write.
func ParseText(text string) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, TextPrefix)
	if !ok {
		return nil, ErrPlaintext
	}
	// The decoder passes over line breaks, which would be a second text for the same bytes.
	if strings.ContainsAny(rest, "\r\n") {
		return nil, ErrMalformed
	}
	sealed, err := strict.DecodeString(rest)
	// Behind the prefix nothing is plaintext any more: [Key.Open] would call a text such as "rs1:abcd" just that, and a
	// migrating column would let it pass.
	if err != nil || len(sealed) == 0 || sealed[0] < notUTF8 {
		return nil, ErrMalformed
	}
	return sealed, nil
}

// filler stands in a sealed column that takes no NULL, in a row that was shredded: docs/format.md, section 16. It has the form that a CHECK
// asks for, and the suite of nothing.
var filler = [Overhead]byte{formatField}

// Filler is what a sealed column that takes no NULL holds in a row that was shredded. It opens under no key.
func Filler() []byte {
	b := filler
	return b[:]
}

// IsFiller reports whether a sealed column holds [Filler].
func IsFiller(sealed []byte) bool { return string(sealed) == string(filler[:]) }
