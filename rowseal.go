package rowseal

import (
	"github.com/rowseal/rowseal/internal/row"
	"github.com/rowseal/rowseal/kmskey"
)

// RowKey gives a model its key column, encrypted_kms_key. Embed it in every model with sealed fields. It has no methods, because the
// methods of an embedded type become the model's own, and stays out of JSON.
type RowKey = row.RowKey

// Key is a key column: the row's wrapped data key, which the plugin alone reads and writes. Further keys stand beside [RowKey], each with
// a column of its own; fields choose one with rowseal:"key=Name":
//
//	PhoneKey rowseal.Key `gorm:"column:encrypted_kms_key_phone" json:"-"`
//
// Its method Envelope() string gives the column's text, "v1:…", which is not secret, and Shredded() bool whether [Shred] destroyed the row's keys. It prints as no more than its version.
type Key = row.Key

// Secret is a sealed field that stays sealed in memory until it is asked for:
//
//	func (s Secret[T]) Get(ctx context.Context) (T, error)
//
// Get makes at most one call to the key service for all Secrets of a row; [Open] opens those of a whole page. NULL gives the zero value;
// a Secret that was never set, or whose column was not selected, gives [ErrNotLoaded].
//
// A Secret needs no tag. It prints as "***" in every verb, marshals to null, refuses to be unmarshalled from null and "***", and refuses
// to be a query argument. Assigned to a field of another row, it is sealed anew when that row is saved, if it was opened before, and
// refused otherwise. Copies share the value. It is safe for concurrent use.
type Secret[T any] = row.Secret[T]

// NewSecret is a [Secret] that holds v.
func NewSecret[T any](v T) Secret[T] { return row.NewSecret(v) }

// Context declares the encryption context of a model's rows; see [Model]. The zero Context is model_name and model_id. Its fields:
//
//	Columns   []string          // columns added to it by name; always read and written with the key, never NULL
//	Constants map[string]string // added as they are
//	OmitID    bool              // leaves model_id out, at the price named in docs/format.md, section 5
//
// The key service writes the context to its audit log in the clear, so it must name no person.
type Context = row.Context

// Columns declares a context of the named columns beside model_name and model_id.
func Columns(names ...string) Context { return row.Columns(names...) }

// Contexter is a model that computes its encryption context itself:
//
//	KMSContext(version int) ([]rowseal.Pair, error)
//
// The result is the whole context, to which only the constants of the key version are added. It must depend on nothing but the row's own
// columns. Only the application can rotate such rows, and they must be loaded before they are changed.
type Contexter = row.Contexter

// Pair is one named value of an encryption context.
type Pair = kmskey.Pair

// OpenError lists what could not be opened in a result: Failed is the number of rows, Errs has one error for each key or field, in the
// order of the result. Every other row, and every other field of these, was opened. errors.Is finds any kind among Errs.
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
	// ErrIndexKey: a blind index has no key yet, and the statement, which is in a transaction, cannot make one; see [Plugin.MakeIndexKeys].
	ErrIndexKey = row.ErrIndexKey
	// ErrIndexColumn: something else than the plugin would write the column of a blind index.
	ErrIndexColumn = row.ErrIndexColumn
	// ErrIndexIncomplete: a search by an index that rows from before it lack.
	ErrIndexIncomplete = row.ErrIndexIncomplete
	// ErrNarrowIndex: a condition by an index of fewer than all bits, in a statement whose result could not be told from what shares its entries.
	ErrNarrowIndex = row.ErrNarrowIndex
	// ErrIndexMismatch: a row was found by the index of a value that it does not have.
	ErrIndexMismatch = row.ErrIndexMismatch
	// ErrTenant: a condition by an index of which each tenant has one, and nothing beside it says whose.
	ErrTenant = row.ErrTenant
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
	// ErrShredded: the row's keys were destroyed on purpose, by [Shred]. It takes no sealed value any more; its other columns do, and it can be deleted.
	ErrShredded = row.ErrShredded
	// ErrWriteOnly: a row's key would have to be unwrapped, and [Config].WriteOnly forbids it.
	ErrWriteOnly = row.ErrWriteOnly
	// ErrType: a value does not fit the Go type of its field.
	ErrType = row.ErrType
)
