package kmskey_test

import (
	"testing"

	"github.com/rowseal/rowseal/kmskey"
)

// The provider costs two or three HMACs, so these numbers are what a keyring adds to a call to a key service.

func BenchmarkWrap(b *testing.B) {
	k, key, row := keyring(b, 0, &testProvider{ref: "r"}), kmskey.NewDataKey(), patient(1)
	b.ReportAllocs()
	for b.Loop() {
		wrap(b, k, key, row)
	}
}

func BenchmarkUnwrap(b *testing.B) {
	p := &testProvider{ref: "r"}
	k, row := keyring(b, 0, p), patient(1)
	e := wrap(b, k, kmskey.NewDataKey(), row)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Unwrap(b.Context(), e, row); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(p.unwraps.Load())/float64(b.N), "calls/op")
}

func BenchmarkParseEnvelope(b *testing.B) {
	text := wrap(b, keyring(b, 0, &testProvider{ref: "r"}), kmskey.NewDataKey(), patient(1)).String()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kmskey.ParseEnvelope(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvelopeString(b *testing.B) {
	e := wrap(b, keyring(b, 0, &testProvider{ref: "r"}), kmskey.NewDataKey(), patient(1))
	b.ReportAllocs()
	for b.Loop() {
		_ = e.String()
	}
}

func BenchmarkNewContext(b *testing.B) {
	own, err := patient(1).Context(1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := kmskey.NewContext(own...); err != nil {
			b.Fatal(err)
		}
	}
}
