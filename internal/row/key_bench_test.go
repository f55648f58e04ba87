package row_test

import (
	"testing"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// BenchmarkRowKey is all that a row's key takes under a local key, without a database: from nothing to the text of its column, and from that to the key of its fields.
func BenchmarkRowKey(b *testing.B) {
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}, Namespace: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	id := kmskey.Int(7)
	patient := kmskey.Row{Model: "Patient", Key: "encrypted_kms_key", ID: []kmskey.Value{id}, Context: func(int) ([]kmskey.Pair, error) {
		return []kmskey.Pair{{Name: "model_name", Value: kmskey.Text("Patient")}, {Name: "model_id", Value: id}}, nil
	}}
	made := func() string {
		key := kmskey.NewDataKey()
		defer key.DEK.Destroy()
		e, err := keys.Wrap(b.Context(), key, patient)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := field.RestingKeyFrom(key.DEK.Derive, key.ID); err != nil {
			b.Fatal(err)
		}
		return e.String()
	}
	b.Run("made", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			made()
		}
	})
	text := made()
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e, err := kmskey.ParseEnvelope(text)
			if err != nil {
				b.Fatal(err)
			}
			deks, err := keys.Unwrap(b.Context(), e, patient)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := field.RestingKeyFrom(deks[0].DEK.Derive, deks[0].ID); err != nil {
				b.Fatal(err)
			}
			deks[0].DEK.Destroy()
		}
	})
}
