package localkey_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// The part of the corpus that released code has read. It only grows: append vectors to the file, then raise both.
const (
	pinnedBytes  = 3454
	pinnedSHA256 = "0f701db27221d1e97cd51ee41dd89ed537550b7ee86b89679803f746e0cb47c3"
)

type vector struct {
	name, service, ref      string
	key, context, blob, dek []byte
	pairs                   []kmskey.Pair
}

// readVectors parses blocks of "word: value" lines, each block ended by its dek.
func readVectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(text) < pinnedBytes {
		t.Fatalf("the corpus has %d bytes, less than the %d it had: vectors are append-only", len(text), pinnedBytes)
	}
	if sum := sha256.Sum256(text[:pinnedBytes]); hex.EncodeToString(sum[:]) != pinnedSHA256 {
		t.Fatalf("an old vector was changed: vectors are append-only (sha256 of the first %d bytes is %x)", pinnedBytes, sum)
	}
	var all []vector
	var v vector
	for n, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		word, value, _ := strings.Cut(line, ": ")
		var err error
		switch word {
		case "name":
			v = vector{name: value}
		case "service":
			v.service = value
		case "ref":
			v.ref = value
		case "key":
			v.key, err = hex.DecodeString(value)
		case "pair":
			v.pairs = append(v.pairs, readPair(t, value))
		case "context":
			v.context, err = hex.DecodeString(value)
		case "blob":
			v.blob, err = hex.DecodeString(value)
		case "dek":
			v.dek, err = hex.DecodeString(value)
			all = append(all, v)
		default:
			t.Fatalf("line %d: unknown word %q", n+1, word)
		}
		if err != nil {
			t.Fatalf("line %d: %v", n+1, err)
		}
	}
	if len(all) == 0 {
		t.Fatal("the corpus is empty")
	}
	return all
}

// readPair reads a quoted name, a type and a value.
func readPair(t *testing.T, s string) kmskey.Pair {
	t.Helper()
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		t.Fatalf("pair %s: %v", s, err)
	}
	name, _ := strconv.Unquote(quoted)
	typ, value, _ := strings.Cut(strings.TrimPrefix(s[len(quoted):], " "), " ")
	p := kmskey.Pair{Name: name}
	switch typ {
	case "text":
		var text string
		text, err = strconv.Unquote(value)
		p.Value = kmskey.Text(text)
	case "integer":
		if strings.HasPrefix(value, "-") {
			var i int64
			i, err = strconv.ParseInt(value, 10, 64)
			p.Value = kmskey.Int(i)
		} else {
			var u uint64
			u, err = strconv.ParseUint(value, 10, 64)
			p.Value = kmskey.Uint(u)
		}
	case "uuid", "bytes":
		var b []byte
		b, err = hex.DecodeString(value)
		p.Value = kmskey.Bytes(b)
		if typ == "uuid" && len(b) == 16 {
			p.Value = kmskey.UUID([16]byte(b))
		}
	case "bool":
		p.Value = kmskey.Bool(value == "true")
	default:
		t.Fatalf("pair %s: unknown type %q", s, typ)
	}
	if err != nil {
		t.Fatalf("pair %s: %v", s, err)
	}
	return p
}

func TestVectors(t *testing.T) {
	for _, v := range readVectors(t) {
		t.Run(v.name, func(t *testing.T) {
			ec, err := kmskey.NewContext(v.pairs...)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ec.Canonical(), v.context) {
				t.Errorf("context encodes as %x, not %x", ec.Canonical(), v.context)
			}
			p := localkey.NewInsecure()
			if v.service == localkey.Service {
				p = newKey(t, v.key)
			}
			if p.KeyRef() != v.ref {
				t.Errorf("key reference %q, not %q", p.KeyRef(), v.ref)
			}
			got, err := p.Unwrap(t.Context(), kmskey.Wrapped{Service: v.service, KeyRef: v.ref, Blob: v.blob}, ec)
			if err != nil || !bytes.Equal(got.Bytes(), v.dek) {
				t.Errorf("unwrap: %v", err)
			}
			if dek, err := openBySpecification(v); err != nil || !bytes.Equal(dek, v.dek) {
				t.Errorf("by the specification: %x, %v", dek, err)
			}
		})
	}
}

// openBySpecification is docs/format.md, section 8, written down a second time and with plain AES-GCM, so that the vectors
// hold the document and the code to each other.
func openBySpecification(v vector) ([]byte, error) {
	texts := func(all ...string) (b []byte) {
		for _, s := range all {
			b = binary.BigEndian.AppendUint32(append(b, 0x01), uint32(len(s)))
			b = append(b, s...)
		}
		return b
	}
	if len(v.blob) != 77 || v.blob[0] != 1 {
		return nil, fmt.Errorf("%d bytes", len(v.blob))
	}
	id, err := hkdf.Key(sha256.New, v.key, nil, string(texts("rowseal/local-wrap/1/key-id")), 8)
	if err != nil || v.service+":"+hex.EncodeToString(id) != v.ref {
		return nil, fmt.Errorf("key id %x, %v", id, err)
	}
	sub, err := hkdf.Key(sha256.New, v.key, v.blob[1:17], string(texts("rowseal/local-wrap/1/key", v.service, v.ref)), 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, v.blob[17:], append(texts("rowseal/local-wrap/1/aad", v.service, v.ref), v.context...))
}
