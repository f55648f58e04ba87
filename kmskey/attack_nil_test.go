package kmskey_test

import (
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// NewMulti gives a nil *Multi beside its error; whoever drops the error gets a keyring that panics at the first row.
func TestAttackMulti_nil(t *testing.T) {
	m, _ := kmskey.NewMulti(kmskey.MultiConfig{})
	k, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: m}}})
	if err != nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			t.Errorf("panic: %v", r)
		}
	}()
	_, _ = k.Wrap(t.Context(), kmskey.NewDataKey(), patient(1))
}
