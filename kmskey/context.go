// context.go owns the encryption context: what a wrapped key is bound to, and the two forms in which services take it.

package kmskey

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rowseal/rowseal/internal/canon"
)

// Value is one typed value of a [Context] or of a primary key. Build it with [Text], [Int], [Uint], [UUID], [Bytes] or
// [Bool]. Values of different types never encode alike: Int(1) is not Text("1").
type Value = canon.Value

// Text is a string, taken as it is stored.
func Text(s string) Value { return canon.Text(s) }

// Int is an integer; Int(1) equals Uint(1), so that a column may change its Go type between the two.
func Int(i int64) Value { return canon.Int(i) }

// Uint is an unsigned integer; see [Int].
func Uint(u uint64) Value { return canon.Uint(u) }

// UUID is the sixteen bytes of a UUID. Services that take strings see its lower-case form.
func UUID(u [16]byte) Value { return canon.UUID(u) }

// Bytes is a byte string. Services that take strings see it in lower-case hexadecimal.
func Bytes(b []byte) Value { return canon.Bytes(b) }

// Bool is a truth value.
func Bool(b bool) Value { return canon.Bool(b) }

// Pair is one named value of a [Context].
type Pair struct {
	Name  string
	Value Value
}

// contextLabel begins every canonical context.
const contextLabel = "rowseal/context"

// maxContextBytes is the smallest limit among the services: AWS KMS takes 8 KiB of context (API reference, Encrypt).
const maxContextBytes = 8 << 10

// Context is an encryption context: named values that a key service authenticates when it wraps a data key and that must
// be given again, equal, to unwrap it. It is not secret. Services write it to their audit logs in the clear (CloudTrail
// does), so it must hold no personal data: ids and names of models, not of people.
//
// The zero Context is empty and valid. Contexts are immutable and safe for concurrent use.
type Context struct {
	// Two pointers for the reason given at [DEK]: inside another struct, fmt would print the values. nil is the empty context.
	data **contextData
}

type contextData struct {
	pairs []Pair // sorted by name, names unique
}

// heldContext is the data and the pointer to it that a Context points to, in one allocation, with room for as much as most rows have.
type heldContext struct {
	at    *contextData
	data  contextData
	pairs [3]Pair
}

// NewContext builds a context from pairs in any order. Names must be unique, not empty, valid UTF-8 and not begin with
// "aws:", which AWS reserves; the whole encoding is limited to 8 KiB.
func NewContext(pairs ...Pair) (Context, error) {
	h := new(heldContext)
	sorted := append(h.pairs[:0], pairs...)
	slices.SortFunc(sorted, func(a, b Pair) int { return strings.Compare(a.Name, b.Name) })
	size := canon.Text(contextLabel).Size()
	for i, p := range sorted {
		switch {
		case p.Name == "":
			return Context{}, errors.New("kmskey: encryption context: a name is empty")
		case !utf8.ValidString(p.Name) || !p.Value.ValidUTF8():
			return Context{}, fmt.Errorf("kmskey: encryption context: %q is not valid UTF-8; use kmskey.Bytes for binary values", p.Name)
		case strings.HasPrefix(p.Name, "aws:"):
			return Context{}, fmt.Errorf("kmskey: encryption context: the name %q begins with \"aws:\", which AWS reserves", p.Name)
		case p.Value.IsZero():
			return Context{}, fmt.Errorf("kmskey: encryption context: %q has no value", p.Name)
		case i > 0 && sorted[i-1].Name == p.Name:
			return Context{}, fmt.Errorf("kmskey: encryption context: the name %q is given twice", p.Name)
		}
		size += canon.Text(p.Name).Size() + p.Value.Size()
	}
	if size > maxContextBytes {
		return Context{}, fmt.Errorf("kmskey: encryption context: %d bytes, more than the %d that key services take", size, maxContextBytes)
	}
	h.data = contextData{sorted}
	h.at = &h.data
	return Context{&h.at}, nil
}

func (c Context) pairs() []Pair {
	if c.data == nil {
		return nil
	}
	return (*c.data).pairs
}

// Pairs yields the names and values in order of name.
func (c Context) Pairs() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for _, p := range c.pairs() {
			if !yield(p.Name, p.Value) {
				return
			}
		}
	}
}

// Get gives the value of one name; ok is false where the context has none.
func (c Context) Get(name string) (value Value, ok bool) {
	for _, p := range c.pairs() {
		if p.Name == name {
			return p.Value, true
		}
	}
	return Value{}, false
}

// Len is the number of pairs.
func (c Context) Len() int { return len(c.pairs()) }

// Strings is the form of services that take pairs of strings, such as AWS KMS. Types are lost in it (1 and "1" agree),
// which is safe because a key's commitment holds the typed primary key as well. An empty context gives nil.
func (c Context) Strings() map[string]string {
	pairs := c.pairs()
	if len(pairs) == 0 {
		return nil
	}
	m := make(map[string]string, len(pairs))
	for _, p := range pairs {
		m[p.Name] = p.Value.String()
	}
	return m
}

// Canonical is the form of services that take bytes: the injective encoding of docs/format.md, section 3. The caller may
// keep and change the result.
func (c Context) Canonical() []byte { return c.AppendCanonical(make([]byte, 0, 128)) }

// AppendCanonical appends [Context.Canonical] to dst.
func (c Context) AppendCanonical(dst []byte) []byte {
	dst = canon.AppendText(dst, contextLabel)
	for _, p := range c.pairs() {
		dst = canon.Append(canon.AppendText(dst, p.Name), p.Value)
	}
	return dst
}

// Equal reports whether both contexts hold the same names with the same typed values.
func (c Context) Equal(d Context) bool { return slices.Equal(c.pairs(), d.pairs()) }

// String lists the names without their values, so that a context in an error or a log line shows its shape and no data.
func (c Context) String() string {
	names := make([]string, c.Len())
	for i, p := range c.pairs() {
		names[i] = p.Name
	}
	return "{" + strings.Join(names, " ") + "}"
}

// Format prints [Context.String] for every verb: %d would otherwise take the struct apart.
func (c Context) Format(s fmt.State, verb rune) {
	if verb == 'v' && s.Flag('#') {
		_, _ = io.WriteString(s, c.GoString())
		return
	}
	_, _ = io.WriteString(s, c.String())
}

// LogValue logs [Context.String].
func (c Context) LogValue() slog.Value { return slog.StringValue(c.String()) }

// GoString is [Context.String], so that %#v shows no values either.
func (c Context) GoString() string { return "kmskey.Context" + c.String() }
