package rowseal

import (
	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// RowKey gives a model its key column, encrypted_kms_key. Embed it in every model with sealed fields.
type RowKey = row.RowKey

// Key is a key column. Further keys stand beside [RowKey], each with a column of its own; fields choose one with rowseal:"key=Name".
type Key = row.Key

// Secret is a sealed field that is opened only by Get. It needs no tag.
type Secret[T any] = row.Secret[T]

// NewSecret is a [Secret] that holds v.
func NewSecret[T any](v T) Secret[T] { return row.NewSecret(v) }

// Context declares the encryption context of a model's rows; see [Model].
type Context = row.Context

// Columns declares a context of the named columns beside model_name and model_id.
func Columns(names ...string) Context { return row.Columns(names...) }

// Contexter is a model that computes its encryption context itself.
type Contexter = row.Contexter

// Pair is one named value of an encryption context.
type Pair = kmskey.Pair

// OpenError lists the rows of a result that could not be opened. All others were.
type OpenError = row.OpenError

// The errors that applications branch on. Every error of the plugin wraps one of these, or one of package kmskey's or field's.
var (
	// ErrNoPlugin: a tagged model is used on a *gorm.DB without the plugin.
	ErrNoPlugin = row.ErrNoPlugin
	// ErrModel: a model's declaration is wrong, or the model is not registered.
	ErrModel = row.ErrModel
	// ErrUnsupported: this way of reading or writing is refused on a model with sealed fields. The text says what to write instead.
	ErrUnsupported = row.ErrUnsupported
	// ErrPlaintext: a value would have reached the database unsealed.
	ErrPlaintext = row.ErrPlaintext
	// ErrCondition: a condition, order or group compares a sealed column.
	ErrCondition = row.ErrCondition
	// ErrKeyColumn: something else than the plugin would write a key column.
	ErrKeyColumn = row.ErrKeyColumn
	// ErrStaleKey: another writer changed the row's key while it was being written. Load the row and try again.
	ErrStaleKey = row.ErrStaleKey
	// ErrNotLoaded: a field's value is not in memory: it was not selected, or could not be opened.
	ErrNotLoaded = row.ErrNotLoaded
	// ErrNoKey: a row has sealed fields and no key, or the key column was not selected.
	ErrNoKey = row.ErrNoKey
	// ErrIdentity: the row's primary key is missing, or would change under a key that is bound to it.
	ErrIdentity = row.ErrIdentity
	// ErrContext: the row's encryption context cannot be built.
	ErrContext = row.ErrContext
	// ErrType: a value does not fit the Go type of its field.
	ErrType = row.ErrType
)
