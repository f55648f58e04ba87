package ratio

import (
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	for name, c := range map[string]struct {
		values []float64
		want   Summary
	}{
		"of nothing is zero":                  {nil, Summary{}},
		"of one value is that value":          {[]float64{3}, Summary{3, 3, 3}},
		"between neighbours is linear":        {[]float64{1, 2}, Summary{1.25, 1.5, 1.75}},
		"needs no order":                      {[]float64{5, 1, 3, 2, 4}, Summary{2, 3, 4}},
		"is not moved by one value far away":  {[]float64{1, 2, 3, 4, 1e9}, Summary{2, 3, 4}},
		"of equal values is that value again": {[]float64{7, 7, 7, 7}, Summary{7, 7, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			given := slices.Clone(c.values)
			if got := Summarize(c.values); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
			if !slices.Equal(given, c.values) {
				t.Error("the values were put into another order: rounds are paired by it")
			}
		})
	}
}

func TestPaired(t *testing.T) {
	// A machine that is slow for one round is slow for both.
	if got := Paired([]float64{2, 20, 2}, []float64{1, 10, 1}); !slices.Equal(got, []float64{2, 2, 2}) {
		t.Errorf("%v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("rounds of different number were paired")
		}
	}()
	Paired([]float64{1}, nil)
}

func TestVoid(t *testing.T) {
	for median, want := range map[float64]bool{0: true, 0.89: true, 0.9: false, 1: false, 1.1: false, 1.11: true} {
		if Void(Summary{Median: median}) != want {
			t.Errorf("an A/A row of %v: void is not %v", median, want)
		}
	}
}

func TestGate(t *testing.T) {
	g := Gate{Limit: 2, Aim: 1.5}
	for name, c := range map[string]struct {
		s               Summary
		missed, reached bool
	}{
		"at the aim":                            {Summary{1.4, 1.5, 1.6}, false, true},
		"between aim and limit":                 {Summary{1.5, 1.6, 1.7}, false, false},
		"the median alone is over the limit":    {Summary{1.9, 2.1, 2.4}, false, false},
		"the lower quartile is at the limit":    {Summary{2, 2.1, 2.4}, false, false},
		"the lower quartile is over the limit":  {Summary{2.01, 2.1, 2.4}, true, false},
		"a count over the limit is always over": {Summary{3, 3, 3}, true, false},
	} {
		if g.Missed(c.s) != c.missed || g.Reached(c.s) != c.reached {
			t.Errorf("%s: missed %v, reached %v", name, g.Missed(c.s), g.Reached(c.s))
		}
	}
}

func TestSummary_String(t *testing.T) {
	for want, s := range map[string]Summary{
		"2.34 (1.23–3.46)": {1.234, 2.344, 3.456},
		"32":               {32, 32, 32}, // a count
		"1.406":            {1.4062, 1.4062, 1.4062},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
