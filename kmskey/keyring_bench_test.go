package kmskey_test

import (
	"context"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// still is a provider that does nothing, so that a benchmark shows what the keyring itself costs.
type still struct{ dek kmskey.DEK }

func (still) Wrap(context.Context, kmskey.DEK, kmskey.Context) (kmskey.Wrapped, error) {
	return kmskey.Wrapped{Service: "still", Blob: []byte{1}}, nil
}
func (s still) Unwrap(context.Context, kmskey.Wrapped, kmskey.Context) (kmskey.DEK, error) {
	return s.dek, nil
}

func BenchmarkKeyring(b *testing.B) {
	key := kmskey.NewDataKey()
	k := keyring(b, 0, still{key.DEK})
	row := patient(1)
	e := wrap(b, k, key, row)
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Wrap(b.Context(), key, row); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Unwrap(b.Context(), e, row); err != nil {
				b.Fatal(err)
			}
		}
	})
}
