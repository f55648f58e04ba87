// Package field is one value and its ciphertext.
//
// [Key] is a row's data key made ready; [Key.Seal] encrypts one value for one [Place] (model and column) and [Key.Open] gives it
// back, only there and only under that key. [Codec] turns Go values into the bytes that are sealed. The bytes on disk are
// specified in docs/format.md, sections 5 to 7.
//
// What is guaranteed: a sealed field does not show its value, beyond its length; changed by a single bit, or moved to another
// column, model or key, it does not open. What is not: an older ciphertext of the same place and key opens as well as the newest,
// and lengths are visible. Binding to the row is the work of the key (package kmskey), not of the field.
//
// The package uses the standard library alone and runs under GODEBUG=fips140=only.
package field
