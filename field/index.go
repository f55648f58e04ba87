// index.go owns blind indexes: keyed hashes by which equal values find each other without being opened. docs/format.md, section 14.

package field

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/rowseal/rowseal/internal/canon"
)

// IndexSize is the length of a blind index in bytes. 128 bits are wide enough for a unique index: among 10^9 different values two have the same
// index with a probability of 10^-21 (birthday bound), so a duplicate that it refuses is one.
const IndexSize = 16

// ErrIndex: a value of this kind has no blind index. A truth value has two, and an index would be the value itself; floating point numbers that print alike may
// differ; JSON has many spellings.
var ErrIndex = errors.New("values of this kind have no blind index")

// IndexPlace is what a blind index is of. Its names are logical: they stay when a Go type, table or column is renamed.
type IndexPlace struct {
	Namespace string // application and environment
	Model     string
	Field     string // the sealed field
	Name      string // of the index among those of the field
	Version   int    // of the index key, from 1

	// Expression is what is done to a text before it is hashed, as [Expression.String] writes it. "" is nothing.
	Expression string

	// Bits is how much of the hash is kept, 1 to [MaxBits]; 0 is all of [IndexSize] bytes. A narrower index has values share an entry that are not equal, so that it
	// tells less: see docs/threat-model.md. It can keep nothing unique.
	Bits int

	// Tenants has equal values of two tenants have different indexes: the place's own key computes none, and [IndexKey.Tenant] gives the one that does.
	Tenants bool
}

// MaxBits is the widest of the narrower indexes. With more, no two values of a table would meet, which is what all bits are for.
const MaxBits = 64

// IndexKey computes the blind indexes of one place. It is safe for concurrent use.
//
// Equal values have equal indexes, which is what an index is for and what it tells whoever reads the table: how often each value occurs, and which
// rows share one. Without the key it does not tell which value that is. With the key, values are found by trying them: HMAC-SHA-256 is
// fast, and a field that few values are possible for hides nothing from whoever has it.
type IndexKey struct {
	// Behind a pointer of its own, as in Key: fmt would follow it into the key.
	state *indexState
}

type indexState struct {
	place  IndexPlace
	root   []byte                         // of the tenants' keys; nil for a key that computes indexes
	last   atomic.Pointer[tenantIndexKey] // the tenant that was asked for last, which is mostly the next one
	size   int                            // bytes that are kept
	mask   byte                           // of the last one
	fold   func(string) string            // nil for none
	hashes sync.Pool                      // of *indexHash, keyed: a new one hashes two blocks of key first
}

type tenantIndexKey struct {
	tenant string
	key    *IndexKey
}

type indexHash struct {
	hash.Hash
	kind [1]byte
	sum  [sha256.Size]byte
}

// NewIndexKey derives the key of a place from an index key of [KeySize] bytes. own has the application's function that the place's expression names, if any.
func NewIndexKey(root []byte, p IndexPlace, own Functions) (*IndexKey, error) {
	e, err := ParseExpression(p.Expression)
	switch {
	case len(root) != KeySize:
		return nil, fmt.Errorf("field: an index key has %d bytes, not %d", KeySize, len(root))
	case p.Version < 1 || p.Model == "" || p.Field == "" || p.Name == "":
		return nil, errors.New("field: an index needs a model, a field, a name and a version from 1") // what it gives would be another's
	case err != nil:
		return nil, fmt.Errorf("field: the expression of an index: %w", err)
	case e.String() != p.Expression:
		return nil, fmt.Errorf("field: the expression of an index: %q is written %q", p.Expression, e)
	case p.Bits < 0 || p.Bits > MaxBits:
		return nil, fmt.Errorf("field: an index of %d bits: it has 1 to %d, or all", p.Bits, MaxBits)
	}
	do, err := e.bind(own)
	if err != nil {
		return nil, err
	}
	label := "rowseal/index-key"
	if p.Tenants {
		label = "rowseal/tenant-index-keys" // else a value's hash under the one key could be a tenant's key under the other
	}
	info := canon.Append(canon.AppendText(nil, label), canon.Uint(suiteAESGCM))
	for _, name := range []string{p.Namespace, p.Model, p.Field, p.Name} {
		info = canon.AppendText(info, name)
	}
	info = canon.Append(info, canon.Int(int64(p.Version)))
	if p.Expression != "" {
		info = canon.AppendText(info, p.Expression)
	}
	if p.Bits != 0 {
		info = canon.Append(info, canon.Int(int64(p.Bits)))
	}
	// Expand alone, without Extract: an index key is uniformly random (RFC 5869, section 3.3).
	sub, err := hkdf.Expand(sha256.New, root, string(info), KeySize)
	if err != nil {
		return nil, fmt.Errorf("field: derive the key of an index: %w", err)
	}
	s := &indexState{place: p, fold: do, size: IndexSize, mask: 0xFF}
	if p.Bits != 0 {
		s.size, s.mask = (p.Bits+7)/8, 0xFF<<((8-p.Bits%8)%8)
	}
	if p.Tenants {
		s.root = sub
	} else {
		s.hashes.New = func() any { return &indexHash{Hash: hmac.New(sha256.New, sub)} }
	}
	return &IndexKey{s}, nil
}

// Tenant is the key of one tenant's indexes, where the place has Tenants. Any text is a tenant, the empty one too.
func (k *IndexKey) Tenant(tenant string) (*IndexKey, error) {
	s := k.state
	if s.root == nil {
		return nil, errors.New("field: the key of one tenant's indexes: the place has no tenants, or the key is a tenant's already")
	}
	if last := s.last.Load(); last != nil && last.tenant == tenant {
		return last.key, nil
	}
	sub, err := hkdf.Expand(sha256.New, s.root, string(canon.AppendText(canon.AppendText(nil, "rowseal/tenant-index-key"), tenant)), KeySize)
	if err != nil {
		return nil, fmt.Errorf("field: derive the key of a tenant's indexes: %w", err)
	}
	own := &indexState{place: s.place, fold: s.fold, size: s.size, mask: s.mask}
	own.hashes.New = func() any { return &indexHash{Hash: hmac.New(sha256.New, sub)} }
	last := &tenantIndexKey{strings.Clone(tenant), &IndexKey{own}}
	s.last.Store(last)
	return last.key, nil
}

// Place is what the key's indexes are of.
func (k *IndexKey) Place() IndexPlace { return k.state.place }

// Size is the length of the place's indexes in bytes: [IndexSize], or what holds its bits.
func (k *IndexKey) Size() int { return k.state.size }

// Append appends the index of a value to dst, [IndexKey.Size] bytes; bits beyond the place's are zero. plaintext is the value as [Codec.Append] writes it. A column may change its Go type as
// long as its values stay what they are: texts and bytes of the same bytes have one index, so have integers of the same number and times of the same instant. It fails
// with [ErrIndex] for values that have none.
func (k *IndexKey) Append(dst, plaintext []byte) ([]byte, error) {
	n := len(dst)
	dst, err := k.AppendWhole(dst, plaintext)
	if err != nil {
		return nil, err
	}
	dst = dst[:n+k.state.size]
	dst[len(dst)-1] &= k.state.mask
	return dst, nil
}

// AppendWhole appends [IndexSize] bytes whatever the place's bits are: by them, values are told apart that share a narrower index. They are compared in memory, and are
// not for storing.
func (k *IndexKey) AppendWhole(dst, plaintext []byte) ([]byte, error) {
	switch {
	case k.state.root != nil:
		return nil, errors.New("field: an index of a place with tenants, and no tenant is given")
	case len(plaintext) == 0:
		return nil, fmt.Errorf("%w: it has no kind", ErrIndex)
	}
	kind, payload := plaintext[0], plaintext[1:]
	switch kind {
	case kindString, kindBytes, kindText:
		if k.state.fold != nil && kind == kindBytes {
			return nil, fmt.Errorf("%w: bytes are not folded as texts are", ErrIndex)
		}
		if k.state.fold != nil && utf8.Valid(payload) { // else folding would make others equal to it
			payload = []byte(k.state.fold(string(payload)))
			defer clear(payload)
		}
		kind = kindString
	case kindInt, kindUint:
		if kind == kindUint && len(payload) == 8 && payload[0] < 0x80 {
			kind = kindInt
		}
	case kindTime:
		if len(payload) < instantSize {
			return nil, fmt.Errorf("%w: %w", ErrIndex, ErrMalformed)
		}
		payload = payload[:instantSize]
	default:
		return nil, fmt.Errorf("%w: %s", ErrIndex, kindName(kind))
	}
	if k.state.fold != nil && kind != kindString {
		return nil, fmt.Errorf("%w: only texts are folded, not %s", ErrIndex, kindName(kind))
	}
	h := k.state.hashes.Get().(*indexHash)
	defer k.state.hashes.Put(h)
	h.Reset()
	h.kind[0] = kind
	h.Write(h.kind[:])
	h.Write(payload)
	return append(dst, h.Sum(h.sum[:0])[:IndexSize]...), nil
}

// instantSize is the part of a time's payload that says when, not where: seconds and nanoseconds.
const instantSize = 12

const redactedIndexKey = "field.IndexKey(***)"

// Format prints "field.IndexKey(***)" for every verb.
func (k *IndexKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redactedIndexKey) }

// String prints "field.IndexKey(***)".
func (k *IndexKey) String() string { return redactedIndexKey }

// GoString prints "field.IndexKey(***)".
func (k *IndexKey) GoString() string { return redactedIndexKey }

// LogValue logs "field.IndexKey(***)".
func (k *IndexKey) LogValue() slog.Value { return slog.StringValue(redactedIndexKey) }

// MarshalText writes "field.IndexKey(***)"; JSON and other encoders use it.
func (k *IndexKey) MarshalText() ([]byte, error) { return []byte(redactedIndexKey), nil }
