package main

// limit.go owns the limit variant: the least that encryption by row costs through GORM. Scan targets and setters of its own stand in the
// parsed schema, one key unwraps all rows, nothing is checked, bound or remembered beyond what AES-GCM needs. No product can be cheaper
// with a key for each row, and this is no product.

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"unsafe"

	"gorm.io/gorm"
)

const (
	keyBytes   = 32
	nonceBytes = 12
)

// limitNote is opened while it is scanned. What begins with a small letter GORM does not see.
type limitNote struct {
	ID uint64 `gorm:"primaryKey;autoIncrement:false"`
	// Before the fields, so that they find the row's key opened.
	Wrapped []byte
	A, B, C string `gorm:"type:bytea"`

	dek  [keyBytes]byte
	keys bool // dek holds the row's key
	row  *limitRow
	of   uint64                  // of an update, the row that it changes
	kept [fieldsOfRow + 1][]byte // fields and key, not opened
}

// limitRow is what is needed while one row is written or scanned, and not kept: a key schedule is more than a kilobyte.
type limitRow struct {
	aead   cipher.AEAD
	nonces []byte
}

// limitCell takes the driver's bytes as they are: they are valid until the next row is scanned, and the setter runs before.
type limitCell struct{ b []byte }

// Scan is part of sql.Scanner.
func (c *limitCell) Scan(v any) error {
	var ok bool
	if c.b, ok = v.([]byte); !ok {
		return fmt.Errorf("bench: scan for the limit variant: %T, not bytes", v)
	}
	return nil
}

// limitSealed is a sealed value on its way into a statement, with the text that the struct gets.
type limitSealed struct {
	sealed []byte
	text   string
}

// Value is part of driver.Valuer.
func (s limitSealed) Value() (driver.Value, error) { return s.sealed, nil }

type limit struct {
	kek  cipher.AEAD
	lazy bool // leave the fields sealed
}

// install puts the limit variant into the schema that db parses of limitNote.
func (l limit) install(db *gorm.DB) error {
	stmt := &gorm.Statement{DB: db}
	if err := stmt.Parse(&limitNote{}); err != nil {
		return err
	}
	cells := &sync.Pool{New: func() any { return new(limitCell) }}
	key := stmt.Schema.LookUpField("Wrapped")
	key.NewValuePool, key.ValueOf, key.Set = cells, l.wrap, l.unwrap
	for i, name := range []string{"A", "B", "C"} {
		f := stmt.Schema.LookUpField(name)
		f.NewValuePool, f.ValueOf, f.Set = cells, l.seal(i), l.open(i)
	}
	return nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func note(v reflect.Value) *limitNote {
	return reflect.Indirect(v).Addr().Interface().(*limitNote)
}

func (n *limitNote) text(i int) *string { return [fieldsOfRow]*string{&n.A, &n.B, &n.C}[i] }

// aad binds a field to its column and row.
func (n *limitNote) aad(i int) []byte {
	id := n.ID
	if id == 0 {
		id = n.of
	}
	return binary.BigEndian.AppendUint64([]byte{'n', 'o', 't', 'e', byte(i)}, id)
}

const keyColumn = 0xff

func (l limit) wrap(_ context.Context, v reflect.Value) (any, bool) {
	n := note(v)
	if n.keys { // loaded: the key stays
		return nil, true
	}
	// The key and all nonces of a row in one call.
	random := make([]byte, keyBytes+(1+fieldsOfRow)*nonceBytes)
	rand.Read(random)
	copy(n.dek[:], random)
	n.keys = true
	aead, err := newAEAD(n.dek[:])
	if err != nil {
		panic("bench: internal error: " + err.Error())
	}
	nonce, rest := random[keyBytes:keyBytes+nonceBytes], random[keyBytes+nonceBytes:]
	n.row = &limitRow{aead, rest}
	out := append(make([]byte, 0, nonceBytes+keyBytes+l.kek.Overhead()), nonce...)
	return l.kek.Seal(out, nonce, n.dek[:], n.aad(keyColumn)), false
}

func (l limit) unwrap(_ context.Context, v reflect.Value, value any) error {
	n := note(v)
	b := value.(*limitCell).b
	if l.lazy {
		n.kept[fieldsOfRow] = bytes.Clone(b)
		return nil
	}
	if len(b) < nonceBytes {
		return errors.New("bench: open a key of the limit variant: too short")
	}
	if _, err := l.kek.Open(n.dek[:0], b[:nonceBytes], b[nonceBytes:], n.aad(keyColumn)); err != nil {
		return err
	}
	n.keys = true
	aead, err := newAEAD(n.dek[:])
	if err != nil {
		return err
	}
	n.row = &limitRow{aead: aead}
	return nil
}

func (l limit) seal(i int) func(context.Context, reflect.Value) (any, bool) {
	return func(_ context.Context, v reflect.Value) (any, bool) {
		n := note(v)
		text := *n.text(i)
		if text == "" {
			return nil, true
		}
		if n.row == nil { // a loaded row: one field changes
			aead, err := newAEAD(n.dek[:])
			if err != nil {
				panic("bench: internal error: " + err.Error())
			}
			nonce := make([]byte, fieldsOfRow*nonceBytes)
			rand.Read(nonce[:nonceBytes])
			n.row = &limitRow{aead, nonce}
			return limitSealed{n.sealed(0, i, text), text}, false
		}
		out := n.sealed(i, i, text)
		if i == fieldsOfRow-1 {
			n.row = nil
		}
		return out, false
	}
}

func (n *limitNote) sealed(nonce, i int, text string) []byte {
	once := n.row.nonces[nonce*nonceBytes:][:nonceBytes]
	out := append(make([]byte, 0, nonceBytes+len(text)+n.row.aead.Overhead()), once...)
	return n.row.aead.Seal(out, once, []byte(text), n.aad(i))
}

func (l limit) open(i int) func(context.Context, reflect.Value, any) error {
	return func(_ context.Context, v reflect.Value, value any) error {
		n := note(v)
		if s, ok := value.(limitSealed); ok { // an update gives the struct what it wrote
			*n.text(i) = s.text
			return nil
		}
		b := value.(*limitCell).b
		if l.lazy {
			n.kept[i] = bytes.Clone(b)
			return nil
		}
		plain, err := n.row.aead.Open(make([]byte, 0, len(b)), b[:nonceBytes], b[nonceBytes:], n.aad(i))
		if err != nil {
			return err
		}
		// Nobody else has these bytes.
		*n.text(i) = unsafe.String(unsafe.SliceData(plain), len(plain))
		if i == fieldsOfRow-1 {
			n.row = nil
		}
		return nil
	}
}
