// store.go owns the seam to the table that branch keys stand in.

package branchkey

import (
	"context"
	"errors"
)

// ErrInTransaction is for [Store.Add]: the caller is in a transaction, and there is no connection beside it.
var ErrInTransaction = errors.New("branch key missing, and no connection is free beside the transaction's to make it on; make it before: branchkey.Keys.Make")

// Slot is the place of a tenant's branch keys of one generation. It has one key, and more only where the table lost one and another was made before the
// first was put back, or where two processes made the first at once: all of them open, and the oldest wraps.
type Slot struct {
	// Namespace is that of the keyring which wraps branch keys.
	Namespace string
	// Tenant is "" where there is one for all.
	Tenant string
	// Generation is the version of the rows' keyring that the branch key stands for. It is at least 1.
	Generation int
}

// Key is a branch key as it is stored: wrapped, and no secret.
type Key struct {
	// ID is the key id that every wrap under the key names, 16 hexadecimal digits in lower case.
	ID string
	// Sealed is the wrapped key. It is empty where the key was destroyed on purpose: such a key is not put back.
	Sealed string
	// Created is when it was made, in milliseconds since 1970.
	Created int64
}

// Entry is a branch key and its place.
type Entry struct {
	Slot
	Key
}

// Store keeps wrapped branch keys. rowseal.BranchKeys is one on any database of GORM's. A branch key that is lost takes every row of its tenant with
// it, so a store is backed up with the rows. It must be safe for concurrent use.
type Store interface {
	// Find gives the branch keys of a slot, the oldest first: by Created, then by ID. An answer that lacks id, or is empty where id is "", must not be from before
	// the call, unless the caller is in a transaction and there is no connection beside it; none may be from before Epoch gave another number, or before Revoke. It fails with [kmskey.ErrShredded] where the tenant was shredded.
	Find(ctx context.Context, at Slot, id string) ([]Key, error)

	// Add stores those of keys whose ID the slot does not have, and gives all that it has then, as Find does. They must be committed when Add returns: rows of
	// other transactions will need them, so they must not go with one that is rolled back. It fails with [ErrInTransaction] where that cannot be, and with
	// [kmskey.ErrShredded], leaving nothing behind, where the tenant was shredded, before or meanwhile.
	Add(ctx context.Context, at Slot, keys ...Key) ([]Key, error)

	// Replace stores next as the sealed form of the key id where old still stands, and reports whether it did.
	Replace(ctx context.Context, at Slot, id, old, next string) (bool, error)

	// All lists the branch keys of a namespace, but for those that were destroyed.
	All(ctx context.Context, namespace string) ([]Entry, error)

	// Shred destroys the branch keys of a tenant, of every generation, and has Find and Add fail with [kmskey.ErrShredded] for that tenant from then on, whatever the generation. It gives
	// the number of keys that it destroyed. Where it fails it may have done a part, and may be called again.
	Shred(ctx context.Context, namespace, tenant string) (int, error)

	// Epoch is a number that Revoke makes larger: 0 at first. recent is false where it was read in a transaction, and may be that of its snapshot.
	Epoch(ctx context.Context) (epoch int64, recent bool, err error)

	// Revoke makes Epoch larger.
	Revoke(ctx context.Context) error
}
