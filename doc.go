// Package rowseal is field-level encryption for GORM. Every row has its own data key; a key management service (KMS) wraps the
// keys; the database sees only ciphertext.
//
// A model says which fields are sealed, and embeds [RowKey], the column that holds the row's wrapped data key:
//
//	type Patient struct {
//		ID    uint64
//		Name  string                 `gorm:"serializer:rowseal"`
//		Phone *string                `gorm:"serializer:rowseal"`
//		Notes rowseal.Secret[string] // opened only by Notes.Get(ctx)
//		rowseal.RowKey
//	}
//
// A keyring and a [Plugin] are made once, when the program starts; from then on GORM is used as before:
//
//	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: provider}}})
//	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}})
//	err = db.Use(plugin)
//
//	db.Create(&p) // a data key is made and wrapped, the fields are sealed
//	db.First(&p, id) // the key is unwrapped, the fields are opened
//
// # What is guaranteed
//
//   - No way through GORM stores or compares the plaintext of a sealed field. What cannot be sealed or opened is refused, with an
//     error that says what to write instead.
//   - Plaintext from raw SQL and other programs is refused by the database itself, by a CHECK on each column, which AutoMigrate puts on
//     tables that it makes or that hold no row ([Checks]).
//   - A ciphertext opens only in its own model, column and row.
//   - One call to the key service for each data key and statement, never one for each field; several at a time for several rows
//     ([Config].MaxCalls); before the transaction where the id can be known, and after the result set is closed.
//   - A row stays readable through copies of its struct, rollbacks, races and changed keys, or the statement that would have
//     made it unreadable is an error.
//
// What is not guaranteed is in docs/threat-model.md; it is short, and meant to be read first.
//
// # The struct tag
//
// A field is sealed by gorm:"serializer:rowseal". Beside it, the tag rowseal:"…" takes these words, separated by commas:
//
//	key=Field     seal under the key field of that Go name, not the nearest RowKey
//	name=logical  the name that the ciphertext is bound to, where the column was renamed; the column's name otherwise
//	json          seal the value as JSON, for types that nothing else fits
//	text          store the ciphertext as text, not as bytes
//
// A key field takes name=logical. Mistakes are errors of db.Use, which name model, field and mend.
//
// # Types
//
// Strings, []byte, bool, all integers and floats, time.Time (instant, offset and zone abbreviation), anything with driver.Valuer
// and sql.Scanner, anything with encoding.TextMarshaler and TextUnmarshaler, pointers to these, and with "json" any type. A nil
// pointer is stored as NULL; zero values and empty strings are sealed.
//
// # Other destinations
//
// Sealed columns open wherever GORM reads plain ones: in structs that are no model, maps, Pluck, Scan, Rows, ScanRows and Row. What the
// opening needs is added to the select list and hidden again, where that changes no row; where it would (DISTINCT, GROUP BY, functions, set
// operations), the error says what to select. A column of another name than its own is opened under that name. One row that does
// not open makes the whole read an error. Find opens the columns that its destination has; Scan and Rows open all that are
// selected. Rows opens 512 rows at a time, while its result set is open.
//
// In Rows and Scan the values take any Go type of their kind; a variable of type any gets one that prints as "***".
//
// # Encryption context
//
// By default a key is bound to model_name and model_id. [Context] declares other columns and constants; a model with a KMSContext
// method ([Contexter]) computes its own. The context stands in the key service's audit log in the clear.
//
// # Concurrency
//
// A *gorm.DB with the plugin is as safe for concurrent use as one without. Structs of a model may be copied; copies share what is
// known of the row's key, safely.
package rowseal
