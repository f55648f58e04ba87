// Package kmskey is one data key and its wrapped form.
//
// Every row of a sealed model has a data key of its own, 32 random bytes ([DEK]). A key management service encrypts it, bound to an
// encryption context ([Context]), and the result stands in the row's key column as an [Envelope]:
//
//	key service          the wrapping key; it never leaves the service, or the localkey file
//	   │ wraps, under a context: model_name, model_id
//	   ▼
//	envelope (v2:…)      in the row: service, key reference, wrapped data key, commitment
//	   │ unwraps to
//	   ▼
//	data key             in memory, for one statement
//	   │ derives
//	   ▼
//	field key            in memory, beside the row; seals its fields (package field)
//
// A [Provider] is how a service is reached: two methods. Adapters stand in the packages below this one, and kmskeytest.Run is the
// contract that each of them passes. A [Keyring] holds numbered versions of the wrapping key, of which one is current; a row names
// the version that it needs, and is opened with that one or not at all. A [Box] seals messages that are no fields of a row, in the same way.
//
// # What is guaranteed
//
// An envelope opens only for the row that it was made for: the service checks the context, and the keyring checks the commitment,
// which is derived from the data key and names model, key column and primary key. A key reference that stands in a row selects among
// the configured keys and never adds one; anything else is refused before a call is made. Key bytes live in types that no
// formatting verb, logger or encoder prints.
//
// # What is not
//
// Go cannot promise that memory is cleared: [DEK.Destroy] overwrites the bytes it holds, and expanded keys live until they are
// collected. A process that may unwrap can be made to unwrap.
//
// The bytes are specified in docs/format.md. The package uses the standard library alone, and runs under GODEBUG=fips140=only.
package kmskey
