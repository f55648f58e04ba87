package main

// limit.go owns the limit variant: the least that encryption by row costs through GORM. Scan targets and setters of its own stand in the
// parsed schema, one key unwraps all rows, nothing is checked, bound or remembered beyond what AES-GCM needs. No product can be cheaper
// with a key for each row, and this is no product.

import (
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
	keys bool      // dek holds the row's key
	of   uint64    // of an update, the row that it changes
	row  *limitRow // while the row is written or scanned: a key schedule is more than a kilobyte
}

// limitRow is what is needed for one row at a time, and taken for the next.
type limitRow struct {
	aead   cipher.AEAD
	random [(1 + fieldsOfRow) * nonceBytes]byte
	aad    [5 + 8]byte
	slab   []byte // holds all sealed values of a row
}

var limitRows = sync.Pool{New: func() any { return new(limitRow) }}

func (n *limitNote) begin() (err error) {
	n.row = limitRows.Get().(*limitRow)
	n.row.aead, err = newAEAD(n.dek[:])
	return err
}

func (n *limitNote) end() {
	n.row.aead, n.row.slab = nil, nil
	limitRows.Put(n.row)
	n.row = nil
}

// limitCell takes the driver's bytes as they are, and opens them where they lie: pgx makes them for each value and forgets them. Other drivers
// use theirs again.
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
	lazy bool // leave the fields sealed, as ciphertext in the struct
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
func (n *limitNote) aad(r *limitRow, i int) []byte {
	id := n.ID
	if id == 0 {
		id = n.of
	}
	return binary.BigEndian.AppendUint64(append(r.aad[:0], 'n', 'o', 't', 'e', byte(i)), id)
}

const keyColumn = 0xff

func (l limit) wrap(_ context.Context, v reflect.Value) (any, bool) {
	n := note(v)
	if n.keys { // loaded: the key stays
		return nil, true
	}
	n.keys = true
	rand.Read(n.dek[:])
	if err := n.begin(); err != nil {
		panic("bench: internal error: " + err.Error())
	}
	// All nonces of a row in one call.
	r := n.row
	rand.Read(r.random[:])
	overhead := nonceBytes + l.kek.Overhead()
	r.slab = make([]byte, 0, keyBytes+len(n.A)+len(n.B)+len(n.C)+(1+fieldsOfRow)*overhead)
	return r.add(l.kek, fieldsOfRow, n.dek[:], n.aad(r, keyColumn)), false
}

// add seals a value behind those that the slab has.
func (r *limitRow) add(aead cipher.AEAD, nonce int, plain, aad []byte) []byte {
	once := r.random[nonce*nonceBytes:][:nonceBytes]
	from := len(r.slab)
	r.slab = aead.Seal(append(r.slab, once...), once, plain, aad)
	return r.slab[from:len(r.slab):len(r.slab)]
}

func (l limit) unwrap(_ context.Context, v reflect.Value, value any) error {
	n := note(v)
	b := value.(*limitCell).b
	if l.lazy {
		n.Wrapped = b
		return nil
	}
	if len(b) < nonceBytes {
		return errors.New("bench: open a key of the limit variant: too short")
	}
	r := limitRows.Get().(*limitRow)
	defer limitRows.Put(r)
	if _, err := l.kek.Open(n.dek[:0], b[:nonceBytes], b[nonceBytes:], n.aad(r, keyColumn)); err != nil {
		return err
	}
	n.keys = true
	return n.begin()
}

func (l limit) seal(i int) func(context.Context, reflect.Value) (any, bool) {
	return func(_ context.Context, v reflect.Value) (any, bool) {
		n := note(v)
		text := *n.text(i)
		if text == "" {
			return nil, true
		}
		plain := unsafe.Slice(unsafe.StringData(text), len(text)) // read, and not written
		if n.row != nil {
			out := n.row.add(n.row.aead, i, plain, n.aad(n.row, i))
			if i == fieldsOfRow-1 {
				n.end()
			}
			return out, false
		}
		// A loaded row, of which one field changes.
		if err := n.begin(); err != nil {
			panic("bench: internal error: " + err.Error())
		}
		rand.Read(n.row.random[:nonceBytes])
		out := n.row.add(n.row.aead, 0, plain, n.aad(n.row, i))
		n.end()
		return limitSealed{out, text}, false
	}
}

func (l limit) open(i int) func(context.Context, reflect.Value, any) error {
	return func(_ context.Context, v reflect.Value, value any) error {
		n := note(v)
		if s, ok := value.(limitSealed); ok { // an update gives the struct what it wrote
			*n.text(i) = s.text
			return nil
		}
		b := value.(*limitCell).b
		if !l.lazy {
			var err error
			if b, err = n.row.aead.Open(b[nonceBytes:nonceBytes], b[:nonceBytes], b[nonceBytes:], n.aad(n.row, i)); err != nil {
				return err
			}
			if i == fieldsOfRow-1 {
				n.end()
			}
		}
		// Nobody else has these bytes.
		*n.text(i) = unsafe.String(unsafe.SliceData(b), len(b))
		return nil
	}
}
