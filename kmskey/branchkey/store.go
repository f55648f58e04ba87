// store.go owns the seam to the table that branch keys stand in.

package branchkey

import (
	"context"
	"errors"
)

// ErrInTransaction is for [Store.Add]: the caller is in a transaction, and there is no connection beside it.
var ErrInTransaction = errors.New("branch key missing, and the transaction's connection is the only one; make it before: branchkey.Keys.Make")

// Slot is the place of one branch key.
type Slot struct {
	// Namespace is that of the keyring which wraps branch keys.
	Namespace string
	// Tenant is "" where there is one for all.
	Tenant string
	// Generation is the version of the rows' keyring that the branch key stands for.
	Generation int
}

// Entry is a branch key as it is stored: wrapped, and no secret.
type Entry struct {
	Slot
	Sealed string
}

// Store keeps wrapped branch keys. rowseal.BranchKeys is one on any database of GORM's. A branch key that is lost takes every row of its tenant with
// it, so a store is backed up with the rows. It must be safe for concurrent use.
type Store interface {
	// Find gives the sealed branch key of a slot, "" where there is none.
	Find(ctx context.Context, at Slot) (sealed string, err error)

	// Add stores a sealed branch key unless the slot has one, and gives the one that it has then. It must be committed when Add returns: rows of
	// other transactions will need it, so it must not go with one that is rolled back. It fails with
	// [ErrInTransaction] where that cannot be.
	Add(ctx context.Context, at Slot, sealed string) (stands string, err error)

	// Replace stores next where old still stands, and reports whether it did.
	Replace(ctx context.Context, at Slot, old, next string) (bool, error)

	// All lists the branch keys of a namespace.
	All(ctx context.Context, namespace string) ([]Entry, error)

	// Epoch is a number that Revoke makes larger: 0 at first. recent is false where it was read in a transaction, and may be that of its snapshot.
	Epoch(ctx context.Context) (epoch int64, recent bool, err error)

	// Revoke makes Epoch larger.
	Revoke(ctx context.Context) error
}
