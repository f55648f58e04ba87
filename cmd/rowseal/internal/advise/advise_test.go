package advise

import (
	"math"
	"reflect"
	"slices"
	"testing"
)

func sum(t *testing.T, classes ...Class) Sums {
	t.Helper()
	s, err := Sum(classes)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) }

func TestSum(t *testing.T) {
	for name, tt := range map[string]struct {
		classes []Class
		want    Sums
	}{
		"one row":       {[]Class{{1, 1}}, Sums{Rows: 1, Distinct: 1, Largest: 1, Share: 1, Unique: 1, Small: 1, Certain: 1, Matched: 1}},
		"one value":     {[]Class{{8, 1}}, Sums{Rows: 8, Distinct: 1, Largest: 8, Share: 1, Collision: 1, Certain: 8, Matched: 8}},
		"all different": {[]Class{{1, 1024}}, Sums{Rows: 1024, Distinct: 1024, Largest: 1, Share: 1. / 1024, MinEntropy: 10, Entropy: 10, Unique: 1024, Small: 1024, Matched: 1}},
		"equally often": {[]Class{{4, 16}}, Sums{Rows: 64, Distinct: 16, Largest: 4, Share: 1. / 16, MinEntropy: 4, Entropy: 4, Collision: 3. / 63, Small: 64, Matched: 4}},
		"half, quarter, quarter": {[]Class{{4, 1}, {2, 2}}, Sums{Rows: 8, Distinct: 3, Largest: 4, Share: .5, MinEntropy: 1, Entropy: 1.5,
			Collision: (4*3 + 2*2*1) / (8. * 7), Small: 8, Certain: 4, Matched: 6}},
		"in two parts": {[]Class{{2, 1}, {5, 1}, {2, 1}}, Sums{Rows: 9, Distinct: 3, Largest: 5, Share: 5. / 9, MinEntropy: math.Log2(9. / 5), Entropy: -(5./9*math.Log2(5./9) + 4./9*math.Log2(2./9)),
			Collision: (5*4 + 2*2) / (9. * 8), Small: 4, Certain: 5, Matched: 7}},
	} {
		got := sum(t, tt.classes...)
		if !near(got.Share, tt.want.Share) || !near(got.MinEntropy, tt.want.MinEntropy) || !near(got.Entropy, tt.want.Entropy) || !near(got.Collision, tt.want.Collision) {
			t.Errorf("%s: %+v", name, got)
		}
		got.Share, got.MinEntropy, got.Entropy, got.Collision = tt.want.Share, tt.want.MinEntropy, tt.want.Entropy, tt.want.Collision
		if got != tt.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, classes := range [][]Class{nil, {{0, 1}}, {{1, 0}}, {{1, 1}, {-1, 3}}} {
		if _, err := Sum(classes); err == nil {
			t.Errorf("%v has sums", classes)
		}
	}
}

// TestMatched: the average over all ways to guess among values that occur equally often, counted out.
func TestMatched(t *testing.T) {
	counts := []int64{3, 3, 3, 2, 1, 1} // how often the six values occur
	var ways, rows int64
	var assign func(guess []int)
	assign = func(guess []int) {
		if len(guess) == len(counts) {
			ways++
			for value, g := range guess {
				if value == g {
					rows += counts[value]
				}
			}
			return
		}
		for g := range counts {
			if counts[g] == counts[len(guess)] && !slices.Contains(guess, g) {
				assign(append(slices.Clone(guess), g))
			}
		}
	}
	assign(nil)
	s := sum(t, Class{3, 3}, Class{2, 1}, Class{1, 2})
	if ways != 6*1*2 || s.Matched*ways != rows || s.Certain != 2 {
		t.Errorf("%d rows in %d ways, and %+v", rows, ways, s)
	}
}

func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		classes []Class
		want    Verdict
		reasons []Reason
	}{
		"e-mail addresses":                {[]Class{{1, 100_000}, {2, 300}, {3, 4}}, Fine, []Reason{}},
		"two sexes":                       {[]Class{{5100, 1}, {4900, 1}}, Unsafe, []Reason{FewValues, CommonValue}},
		"99 values, equally often":        {[]Class{{100, 99}}, Unsafe, []Reason{FewValues}},
		"100 values, equally often":       {[]Class{{100, 100}}, Fine, []Reason{}},
		"a common domain":                 {[]Class{{1, 9000}, {1000, 1}}, Unsafe, []Reason{CommonValue}},
		"surnames":                        {[]Class{{1, 9000}, {40, 1}, {30, 1}, {20, 1}, {11, 1}}, Leaks, []Reason{Matchable}},
		"a small table, all different":    {[]Class{{1, 50}}, TooFew, []Reason{}},
		"a small table with two the same": {[]Class{{1, 10}, {2, 1}}, TooFew, []Reason{}},
		"a small table of few values":     {[]Class{{20, 5}}, Unsafe, []Reason{FewValues, CommonValue}},
		"one row":                         {[]Class{{1, 1}}, TooFew, []Reason{}},
	} {
		got, reasons := sum(t, tt.classes...).Judge()
		if got != tt.want || !reflect.DeepEqual(reasons, tt.reasons) {
			t.Errorf("%s: %s %v", name, got, reasons)
		}
	}
}

// TestNarrow: the ends of the range are its definition, held against the sums themselves.
func TestNarrow(t *testing.T) {
	for d, want := range map[int64]struct {
		from, to int
		ok       bool
	}{
		1: {0, -1, false}, 2: {1, 0, false}, 3: {1, 0, false}, 4: {1, 1, true}, 7: {2, 1, false}, 8: {2, 2, true}, 1024: {5, 9, true}, 1025: {6, 9, true}, 50_000: {8, 14, true}, 1 << 20: {10, 19, true},
	} {
		from, to, ok := sum(t, Class{3, d}).Narrow()
		if from != want.from || to != want.to || ok != want.ok {
			t.Errorf("%d values: %d to %d, %v", d, from, to, ok)
		}
		values := func(width int) float64 { return float64(d) / math.Exp2(float64(width)) }
		if ok && (values(to) < 2 || values(to+1) >= 2 || values(from) > math.Sqrt(float64(d)) || values(from-1) <= math.Sqrt(float64(d))) {
			t.Errorf("%d values: %d to %d", d, from, to)
		}
	}
}

func TestKeep(t *testing.T) {
	s := sum(t, Class{10, 1024}) // 10,240 rows
	if k := s.Keep(5); k.Bits != 5 || !near(k.Values, 1+1023./32) || !near(k.Extra, 10230./32) || !near(k.Share, 1./1024+1023./1024/32) {
		t.Errorf("%+v", k)
	}
	if k := s.Keep(Bits); !near(k.Values, 1) || k.Extra > 1e-30 || !near(k.Share, s.Share) {
		t.Errorf("%+v", k)
	}
	if k := s.Keep(0); k.Values != 1024 || k.Extra != 10230 || k.Share != 1 { // one hash for all: a look-up reads the table
		t.Errorf("%+v", k)
	}
}

func TestHistogram(t *testing.T) {
	got := Histogram([]Class{{1, 5}, {2, 1}, {3, 2}, {9, 1}, {16, 3}})
	want := []Bar{{1, 1, 5, 5}, {2, 3, 3, 8}, {4, 7, 0, 0}, {8, 15, 1, 9}, {16, 31, 3, 48}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if len(Histogram(nil)) != 0 {
		t.Error("bars of nothing")
	}
}
