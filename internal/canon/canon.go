// Package canon is the one canonical encoding of names and values that Rowseal authenticates.
//
// Associated data, key commitments, encryption contexts and cache keys are all tuples of typed values. Each value is
// written as a tag byte, its length as four bytes big-endian, and its bytes, so that no two different tuples give the
// same string: the integer 1 is not the text "1", and ("ab", "c") is not ("a", "bc"). docs/format.md, section 2, is the
// specification; nothing here may change for bytes that were ever written.
package canon

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The tags of the encoding. They are on disk, by way of every authentication tag and commitment.
const (
	tagText    = 0x01
	tagInteger = 0x02
	tagUUID    = 0x03
	tagBytes   = 0x04
	tagBool    = 0x05

	headerSize = 5 // tag and length
)

// Value is one typed component of a tuple. The zero Value is no value at all; see [Value.IsZero]. Values are comparable
// with ==, and equal exactly when their encodings are.
type Value struct {
	tag byte
	// raw holds the encoded bytes. Integers are canonical decimal text, so that int64 and uint64 columns agree.
	raw string
}

// Text is s as it is stored: no case folding, no normalisation.
func Text(s string) Value { return Value{tagText, s} }

// Int is an integer of any width.
func Int(i int64) Value { return Value{tagInteger, strconv.FormatInt(i, 10)} }

// Uint is an integer of any width; Uint(1) equals Int(1).
func Uint(u uint64) Value { return Value{tagInteger, strconv.FormatUint(u, 10)} }

// UUID is the sixteen bytes of a UUID, however its column spells it.
func UUID(u [16]byte) Value { return Value{tagUUID, string(u[:])} }

// Bytes is a copy of b.
func Bytes(b []byte) Value { return Value{tagBytes, string(b)} }

// Bool is a truth value.
func Bool(b bool) Value {
	if b {
		return Value{tagBool, "\x01"}
	}
	return Value{tagBool, "\x00"}
}

// ParseUUID reads the 36 character form, in either case. A column declared as uuid may be a string in Go, and a database
// gives such a string back in lower case, so only the sixteen bytes can identify the row.
func ParseUUID(s string) (Value, bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return Value{}, false
	}
	var u [16]byte
	n, err := hex.Decode(u[:], []byte(strings.ReplaceAll(s, "-", "")))
	if err != nil || n != len(u) {
		return Value{}, false
	}
	return UUID(u), true
}

// IsZero reports whether v was never set.
func (v Value) IsZero() bool { return v.tag == 0 }

// String is the form in which a value appears in services that take pairs of strings (AWS KMS): decimal digits, lower
// case UUIDs, lower case hexadecimal for bytes, "true" and "false". It is not injective across types; [Append] is.
func (v Value) String() string {
	switch v.tag {
	case tagUUID:
		h := hex.EncodeToString([]byte(v.raw))
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	case tagBytes:
		return hex.EncodeToString([]byte(v.raw))
	case tagBool:
		return strconv.FormatBool(v.raw == "\x01")
	default:
		return v.raw
	}
}

// ValidUTF8 reports whether String is valid UTF-8, as it is for all but some texts.
func (v Value) ValidUTF8() bool { return v.tag != tagText || utf8.ValidString(v.raw) }

// Size is how many bytes [Append] adds.
func (v Value) Size() int { return headerSize + len(v.raw) }

// Append adds the encoding of v to dst.
func Append(dst []byte, v Value) []byte {
	if v.tag == 0 {
		panic("canon: internal error: encoding a value that was never set")
	}
	if uint64(len(v.raw)) > math.MaxUint32 {
		panic("canon: internal error: encoding a value of more than 4 GiB") // its length would wrap, and so collide
	}
	dst = append(dst, v.tag)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.raw)))
	return append(dst, v.raw...)
}

// AppendInt is Append(dst, Int(i)) without building the Value.
func AppendInt(dst []byte, i int64) []byte {
	from := len(dst)
	return sized(strconv.AppendInt(append(dst, tagInteger, 0, 0, 0, 0), i, 10), from)
}

// AppendUint is Append(dst, Uint(u)) without building the Value.
func AppendUint(dst []byte, u uint64) []byte {
	from := len(dst)
	return sized(strconv.AppendUint(append(dst, tagInteger, 0, 0, 0, 0), u, 10), from)
}

// sized writes the length of the last value, which begins at from.
func sized(dst []byte, from int) []byte {
	binary.BigEndian.PutUint32(dst[from+1:], uint32(len(dst)-from-headerSize))
	return dst
}

// Values takes apart what [Append] made of values. They share the memory of encoded. Anything else is a bug, and panics.
func Values(encoded string) []Value {
	if encoded == "" {
		return nil
	}
	values := make([]Value, 0, 1) // most primary keys have one part
	for encoded != "" {
		end := headerSize + int(binary.BigEndian.Uint32([]byte(encoded[1:headerSize])))
		values = append(values, Value{encoded[0], encoded[headerSize:end]})
		encoded = encoded[end:]
	}
	return values
}

// AppendText is Append(dst, Text(s)) without building the Value.
func AppendText(dst []byte, s string) []byte { return Append(dst, Value{tagText, s}) }

// types are the names of the tags, where a value is written down for people and programs other than this one.
var types = map[byte]string{tagText: "text", tagInteger: "integer", tagUUID: "uuid", tagBytes: "bytes", tagBool: "boolean"}

// Typed is the value's type, a colon, and [Value.String]. No two values have the same.
func (v Value) Typed() string { return types[v.tag] + ":" + v.String() }

// ParseTyped reads what [Value.Typed] writes, and nothing else.
func ParseTyped(s string) (v Value, ok bool) {
	name, text, _ := strings.Cut(s, ":")
	switch name {
	case "text":
		v = Text(text)
	case "integer":
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			v = Int(i)
		} else if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			v = Uint(u)
		}
	case "uuid":
		if u, ok := ParseUUID(text); ok {
			v = u
		}
	case "bytes":
		if b, err := hex.DecodeString(text); err == nil {
			v = Bytes(b)
		}
	case "boolean":
		v = Bool(text == "true")
	}
	return v, !v.IsZero() && v.Typed() == s
}

// Raw is the value's bytes without its type: those of a text, a UUID or bytes, the decimal digits of an integer.
func (v Value) Raw() string { return v.raw }
