// errors.go owns the errors that applications branch on. The root package exports them under the same names.

package row

import (
	"errors"

	"github.com/rowseal/rowseal/kmskey"
)

// Each error of the plugin wraps one of these, or one of package kmskey's or field's.
var (
	// ErrNoPlugin: a tagged model is used on a *gorm.DB without the plugin.
	ErrNoPlugin = errors.New("no rowseal plugin on this *gorm.DB")
	// ErrModel: a model's declaration is wrong, or the model is not registered.
	ErrModel = errors.New("model declaration")
	// ErrUnsupported: this way of reading or writing a sealed column is refused. The text says what to write instead.
	ErrUnsupported = errors.New("refused on a model with sealed fields")
	// ErrPlaintext: a value would have reached the database unsealed.
	ErrPlaintext = errors.New("refused: the value of a sealed column is not sealed here")
	// ErrCondition: a condition, order or group compares a sealed column, whose every ciphertext is different.
	ErrCondition = errors.New("refused: a sealed column cannot be compared or ordered")
	// ErrKeyColumn: something else than the plugin would write a key column.
	ErrKeyColumn = errors.New("refused: a key column is written by the plugin alone")
	// ErrNarrowIndex: a condition by an index of fewer than all bits, where what shares its entries could not be taken out of the result.
	ErrNarrowIndex = errors.New("a narrower index finds other values too, which can only be taken out of a list of rows that are opened: use Find into a slice of the model, the condition beside all others, without limit, group, join, Or and Not")
	// ErrIndexKey: a blind index has no key yet, and the statement, which is in a transaction, cannot make one beside it.
	ErrIndexKey = errors.New("there is none yet, and it cannot be made beside this transaction; call Plugin.MakeIndexKeys when the program starts")
	// ErrIndexColumn: something else than the plugin would write the column of a blind index.
	ErrIndexColumn = errors.New("refused: the column of a blind index is written by the plugin alone, wherever its field is")
	// ErrIndexIncomplete: a search by an index that rows from before it lack.
	ErrIndexIncomplete = errors.New("rows have the field and not its index, so that a search would pass over them")
	// ErrIndexMismatch: a row was found by an index that is not its value's.
	ErrIndexMismatch = errors.New("its blind index is not that of its value (altered, or written by a program without the index); save the field again to mend it, or all of them by rotation.FillIndexes with Config.All")
	// ErrTenant: a condition by an index of which each tenant has one, and nothing beside it says whose.
	ErrTenant = errors.New("each tenant has an index of its own, and no condition beside this one says whose to look at")
	// ErrStaleKey: another writer changed the row's key while it was being written. Load the row and try again.
	ErrStaleKey = errors.New("the row's key was changed by another writer")
	// ErrNotLoaded: a field's value is not in memory: it was not selected, or could not be opened.
	ErrNotLoaded = errors.New("the field was not loaded")
	// ErrNoKey: a row has sealed fields and no key in its key column, or the key column was not selected.
	ErrNoKey = errors.New("no key for the row")
	// ErrIdentity: the row's primary key is missing, or would change under a key that is bound to it.
	ErrIdentity = errors.New("the row's key is bound to its primary key")
	// ErrContext: the row's encryption context cannot be built.
	ErrContext = errors.New("encryption context")
	// ErrShredded: the row's keys were destroyed on purpose. It takes no sealed value any more.
	ErrShredded = kmskey.ErrShredded
	// ErrWriteOnly: a row's key would have to be unwrapped, and the plugin was configured not to.
	ErrWriteOnly = kmskey.ErrWriteOnly
	// ErrType: a value does not fit the Go type of its field.
	ErrType = errors.New("wrong type")
)
