package field_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/rowseal/rowseal/field"
)

// A row of the benchmarks is three fields of 40 bytes under a data key of its own.
var benchPlaces = [3]*field.Place{
	field.NewPlace("clinic/test", "Patient", "name"), field.NewPlace("clinic/test", "Patient", "email"), field.NewPlace("clinic/test", "Patient", "note"),
}

var benchValue = append([]byte{0x01}, bytes.Repeat([]byte{'v'}, 40)...)

func BenchmarkSealRow(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		k := newKey(b, dekBytes, 1)
		for _, p := range benchPlaces {
			k.Seal(nil, p, benchValue)
		}
	}
}

func BenchmarkOpenRow(b *testing.B) {
	var sealed [3][]byte
	for i, p := range benchPlaces {
		sealed[i] = newKey(b, dekBytes, 1).Seal(nil, p, benchValue)
	}
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		k := newKey(b, dekBytes, 1)
		for i, p := range benchPlaces {
			if _, err := k.Open(buf, p, sealed[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkNewKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newKey(b, dekBytes, 1)
	}
}

func BenchmarkSeal(b *testing.B) {
	k := newKey(b, dekBytes, 1)
	b.ReportAllocs()
	for b.Loop() {
		k.Seal(nil, email, benchValue)
	}
}

func BenchmarkOpen(b *testing.B) {
	k := newKey(b, dekBytes, 1)
	sealed := k.Seal(nil, email, benchValue)
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(buf, email, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCodec(b *testing.B) {
	for _, c := range []struct {
		name  string
		value any
	}{{"string", string(benchValue[1:])}, {"int64", int64(1)}, {"time", time.Unix(0, 0).UTC()}, {"pointer", ptr("Ada")}, {"valuer", cents{1}}} {
		codec := codec(b, reflect.TypeOf(c.value), false)
		from := reflect.New(reflect.TypeOf(c.value)).Elem()
		from.Set(reflect.ValueOf(c.value))
		to := reflect.New(from.Type()).Elem()
		b.Run(c.name+"/append", func(b *testing.B) {
			buf := make([]byte, 0, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := codec.Append(buf, from); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/set", func(b *testing.B) {
			plaintext, _ := encode(b, c.value, false)
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.Set(to, plaintext); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
