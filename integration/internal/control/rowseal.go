// Package rowseal is the control of docs/surface.md. It has the names of the real package rowseal, so that the same tests compile against
// it, and does what is done without a plugin: one AES-GCM key for all, a GORM serializer, and for a field without a tag a type whose Value
// encrypts and whose Scan decrypts. It refuses nothing. [TestClosedControl] builds the tests with it in the real package's place.
package rowseal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/kmskey"
)

func init() { schema.RegisterSerializer("rowseal", serializer{}) }

// magic begins every ciphertext, and stays recognizable in JSON.
var magic = []byte("control:")

var aead = func() cipher.AEAD {
	block, err := aes.NewCipher([]byte("a key for all rows, 32 bytes wide"[:32]))
	if err != nil {
		panic(err)
	}
	g, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return g
}()

func seal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return aead.Seal(bytes.Clone(magic), nil, text, nil), nil
}

// opened is every ciphertext that went back through a serializer or a Secret, on its way to a field.
var opened sync.Map

func open(dbValue, into any) error {
	var sealed []byte
	switch v := dbValue.(type) {
	case []byte:
		sealed = v
	case string:
		sealed = []byte(v)
	default:
		return fmt.Errorf("control: %T is no ciphertext", dbValue)
	}
	if !bytes.HasPrefix(sealed, magic) {
		return errors.New("control: no ciphertext")
	}
	text, err := aead.Open(nil, nil, sealed[len(magic):], nil)
	if err != nil {
		return err
	}
	opened.Store(string(sealed), true)
	return json.Unmarshal(text, into)
}

type serializer struct{}

// Value implements [schema.SerializerValuerInterface].
func (serializer) Value(_ context.Context, _ *schema.Field, _ reflect.Value, fieldValue any) (any, error) {
	if v := reflect.ValueOf(fieldValue); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil
	}
	return seal(fieldValue)
}

// Scan implements [schema.SerializerInterface].
func (serializer) Scan(ctx context.Context, field *schema.Field, dst reflect.Value, dbValue any) error {
	v := reflect.New(field.FieldType)
	if dbValue != nil {
		if err := open(dbValue, v.Interface()); err != nil {
			return err
		}
	}
	field.ReflectValueOf(ctx, dst).Set(v.Elem())
	return nil
}

// Secret is an encrypting type.
type Secret[T any] struct{ v *T }

// NewSecret holds v.
func NewSecret[T any](v T) Secret[T] { return Secret[T]{&v} }

// Get gives what it holds.
func (s Secret[T]) Get(context.Context) (v T, err error) {
	if s.v == nil {
		return v, ErrNotLoaded
	}
	return *s.v, nil
}

// Value implements [driver.Valuer].
func (s Secret[T]) Value() (driver.Value, error) {
	if s.v == nil {
		return nil, nil
	}
	return seal(*s.v)
}

// Scan implements [database/sql.Scanner].
func (s *Secret[T]) Scan(dbValue any) error {
	s.v = nil
	if dbValue == nil {
		return nil
	}
	s.v = new(T)
	return open(dbValue, s.v)
}

// GormDataType is that of bytes.
func (Secret[T]) GormDataType() string { return string(schema.Bytes) }

// Key is a column of text that nothing reads.
type Key string

// Envelope is empty.
func (Key) Envelope() string { return "" }

// RowKey is such a column.
type RowKey struct {
	EncryptedKMSKey Key `gorm:"column:encrypted_kms_key" json:"-"`
}

// What follows has the form of the real package and no effect.

type (
	// Context has no effect.
	Context struct {
		Columns   []string
		Constants map[string]string
		OmitID    bool
	}
	// Pair is the real one.
	Pair = kmskey.Pair
	// Model has no effect.
	Model struct {
		Value    any
		Name     string
		Context  Context
		Contexts map[int]Context
	}
	// Config has no effect.
	Config struct {
		Models   []any
		MaxCalls int
		MaxRows  int
		NoChecks bool
	}
	// Check is none here.
	Check struct {
		Table, Column, Name, Constraint string
		Alter                           []string
	}
)

// Checks gives none.
func Checks(*gorm.DB, any) ([]Check, error) { return nil, nil }

// Columns has no effect.
func Columns(names ...string) Context { return Context{Columns: names} }

// Open has no effect.
func Open(context.Context, *gorm.DB, any) error { return nil }

// Rotate has no effect.
func Rotate(context.Context, *gorm.DB, any) error { return nil }

// Sealed has no effect.
func Sealed(db *gorm.DB) *gorm.DB { return db }

// Plugin tells the tests what was done with ciphertext. It has no effect on the database.
type Plugin struct{}

// New makes one.
func New(*kmskey.Keyring, Config) (*Plugin, error) { return &Plugin{}, nil }

// Name implements [gorm.Plugin].
func (*Plugin) Name() string { return "control" }

// Initialize implements [gorm.Plugin].
func (*Plugin) Initialize(*gorm.DB) error { return nil }

// Magic begins every ciphertext.
func (*Plugin) Magic() string { return string(magic) }

// Opened reports a ciphertext that was opened on its way to a field.
func (*Plugin) Opened(v []byte) bool {
	_, ok := opened.Load(string(v))
	return ok
}

// The errors of the real package, none of which is ever given, but for ErrNotLoaded.
var (
	ErrNoPlugin    = errors.New("no plugin")
	ErrModel       = errors.New("model")
	ErrUnsupported = errors.New("unsupported")
	ErrPlaintext   = errors.New("plaintext")
	ErrCondition   = errors.New("condition")
	ErrKeyColumn   = errors.New("key column")
	ErrStaleKey    = errors.New("stale key")
	ErrNotLoaded   = errors.New("not loaded")
	ErrNoKey       = errors.New("no key")
	ErrIdentity    = errors.New("identity")
	ErrContext     = errors.New("context")
	ErrType        = errors.New("type")
	ErrIndexColumn = errors.New("index column")
)
