package kmskey_test

import (
	"errors"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// What is left of a data key is 32 zeros, which must seal nothing and be wrapped for nothing.
func TestAttackBranchDestroyedDataKeyIsNone(t *testing.T) {
	key := kmskey.NewDataKey()
	key.DEK.Destroy()
	p := &testProvider{ref: "k"}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: p}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Wrap(t.Context(), key, kmskey.Row{Model: "M", Key: "k", ID: []kmskey.Value{kmskey.Int(1)}}); err == nil {
		t.Error("a keyring wrapped it")
	}
	if !key.DEK.Clone().IsZero() {
		t.Error("it has a clone")
	}
	defer func() {
		if recover() == nil {
			t.Error("a key was derived from it")
		}
	}()
	key.DEK.Derive(nil)
}

// Choose was always given rows with a primary key where their model has one. What prepares for rows without one must not break it.
func TestAttackBranchChooseByPrimaryKey(t *testing.T) {
	p := &testProvider{ref: "k"}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Choose: func(r kmskey.Row, _ kmskey.Context) (kmskey.Provider, error) {
		if r.ID[0].String() == "" {
			return nil, errors.New("no id")
		}
		return p, nil
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Prepare(t.Context(), kmskey.Row{Model: "M", Key: "k"}); err != nil {
		t.Error(err)
	}
	if _, err := keys.Wrap(t.Context(), kmskey.NewDataKey(), kmskey.Row{Model: "M", Key: "k", ID: []kmskey.Value{kmskey.Int(1)}}); err != nil {
		t.Error(err)
	}
}
