// Package ratio is the arithmetic of a comparison on a noisy machine: ratios paired by round, their median and quartiles, and what may be
// concluded from them.
//
// Two runs of a program are far apart where others use the machine; two variants that take turns are not. So a variant is compared with the
// base of the same round, and the ratios of many rounds are summed up by order statistics, which one bad round does not move.
package ratio

import (
	"fmt"
	"slices"
)

// Summary is a distribution in three numbers.
type Summary struct{ Q1, Median, Q3 float64 }

// Summarize gives the quartiles of values, between neighbours linearly, and zeros where there is no value.
func Summarize(values []float64) Summary {
	sorted := slices.Sorted(slices.Values(values))
	return Summary{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// String is the median, and the quartiles in brackets where they differ.
func (s Summary) String() string {
	if s.Q1 == s.Q3 {
		return fmt.Sprintf("%.4g", s.Median)
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Q1, s.Q3)
}

// Paired divides each value by the base of the same round. It panics where the rounds are not the same: that is no comparison.
func Paired(values, base []float64) []float64 {
	if len(values) != len(base) {
		panic(fmt.Sprintf("ratio: internal error: %d rounds against %d", len(values), len(base)))
	}
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = v / base[i]
	}
	return out
}

// Void reports that a run tells nothing: its A/A row, the base against itself, is more than a tenth away from 1. Without rounds a run is void.
func Void(aa Summary) bool { return aa.Median < 0.9 || aa.Median > 1.1 }

// Gate is a promise about a cost, and what is aimed at.
type Gate struct{ Limit, Aim float64 }

// Missed reports that the limit is broken for certain: three quarters of the rounds are over it. What only the median breaks may be noise.
func (g Gate) Missed(s Summary) bool { return s.Q1 > g.Limit }

// Reached reports that the median is where it is aimed at.
func (g Gate) Reached(s Summary) bool { return s.Median <= g.Aim }
