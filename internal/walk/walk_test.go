package walk

import (
	"math"
	"testing"
	"time"
)

func TestPagesStayWithinTheirBound(t *testing.T) {
	w := &Walker{Config: Config{MaxPage: 10, Page: time.Millisecond, Lease: time.Minute}}
	w.page.Store(10)
	for _, took := range []time.Duration{time.Second, 0, time.Second} {
		if w.adapt(10, 0, took); w.page.Load() > 10 || w.page.Load() < 1 {
			t.Errorf("a page of %d", w.page.Load())
		}
	}
}

func TestKeysKeepTheirTypes(t *testing.T) {
	for _, k := range []Key{
		{int64(-5), "a\"b", []byte{0, 255}}, {uint64(math.MaxUint64)}, {"\xff\xfe"}, {true, 1.5}, {math.Inf(1)}, {int64(1)}, {"1"}, {""}, {[]byte{}},
		{time.Date(2024, 1, 2, 3, 4, 5, 6000, time.UTC)},
	} {
		back, err := ParseKey(k.String())
		if err != nil || back.String() != k.String() {
			t.Errorf("%v: %s: %v %v", k, k, back, err)
		}
		for i := range k {
			if b, ok := k[i].([]byte); ok {
				if string(b) != string(back[i].([]byte)) {
					t.Errorf("%v: %v", k, back)
				}
			} else if k[i] != back[i] {
				t.Errorf("%#v: %#v", k, back)
			}
		}
	}
}
