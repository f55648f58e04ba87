// Package advise computes what a blind index tells those who read the table, from how often values occur and from nothing else. The sums, their limits and their sources are
// in docs/blind-indexes.md.
package advise

// advise.go owns the sums, and the bounds that a verdict goes by.

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
)

// The bounds of a verdict. They are judgements, not theorems: docs/blind-indexes.md has the reasons.
const (
	// MinDistinct: what has fewer values than this is listed somewhere with how common each is, as sexes, states and diagnoses are.
	MinDistinct = 100

	// MaxShare: knowing nothing but the commonest value gives away no more than one row in twenty.
	MaxShare = 0.05

	// MaxMatched: who knows exactly how often each value occurs, and nothing else, is expected to name no more than one row in a hundred.
	MaxMatched = 0.01

	// MinRows: of fewer rows it cannot be told whether values that occur once will stay so.
	MinRows = 1000

	// MinRepeats: few values, or a common one, count as such where they occur ten times; else they are what a small table has by chance.
	MinRepeats = 10

	// SmallClass: rows that share their value with fewer rows than this are counted by themselves.
	SmallClass = 5

	// Bits is the width of an index whose tag says nothing of it.
	Bits = 128
)

// Class is all values that occur equally often.
type Class struct {
	Count  int64 // how often each occurs
	Values int64 // how many there are
}

// Sums is what the counts say. Its JSON is stable.
type Sums struct {
	Rows     int64 `json:"rows"`     // that have a value
	Distinct int64 `json:"distinct"` // values

	Largest int64   `json:"largest"`       // rows of the commonest value
	Share   float64 `json:"largest_share"` // of all rows: what a guess of the commonest value gives away

	MinEntropy float64 `json:"min_entropy_bits"`      // of one guess at one row
	Entropy    float64 `json:"entropy_bits"`          // Shannon's
	Collision  float64 `json:"collision_probability"` // that two different rows have the same value

	Unique int64 `json:"unique_rows"`           // rows whose value no other row has
	Small  int64 `json:"rows_in_small_classes"` // rows whose value fewer than SmallClass rows have

	// Certain is the rows of values that are alone in how often they occur. Who knows exactly how often each value occurs names them without a doubt.
	Certain int64 `json:"certain_rows"`

	// Matched is the rows that they name on average, where they guess among values that occur equally often.
	Matched int64 `json:"matched_rows"`
}

// Sum adds up. It fails where there is nothing to add, and on counts that are none.
func Sum(classes []Class) (Sums, error) {
	values := map[int64]int64{}
	for _, c := range classes {
		if c.Count < 1 || c.Values < 1 {
			return Sums{}, fmt.Errorf("advise: %d values that occur %d times each", c.Values, c.Count)
		}
		values[c.Count] += c.Values
	}
	if len(values) == 0 {
		return Sums{}, errors.New("advise: no value")
	}
	var s Sums
	for n, v := range values {
		s.Rows, s.Distinct, s.Largest = s.Rows+n*v, s.Distinct+v, max(s.Largest, n)
		if n < SmallClass {
			s.Small += n * v
		}
		if v == 1 {
			s.Certain += n
		}
		// Among v values that occur n times each, a random assignment has one in its place on average, whatever v is: a random permutation has one fixed point.
		s.Matched += n
	}
	s.Unique = values[1]
	rows := float64(s.Rows)
	for _, n := range slices.Sorted(maps.Keys(values)) { // in one order, so that the same counts give the same digits
		v, p := float64(values[n]), float64(n)/rows
		s.Entropy -= v * p * math.Log2(p)
		if s.Rows > 1 {
			s.Collision += v * p * float64(n-1) / (rows - 1)
		}
	}
	s.Entropy = max(s.Entropy, 0) // not -0
	s.Share = float64(s.Largest) / rows
	s.MinEntropy = math.Log2(rows / float64(s.Largest))
	return s, nil
}

// MatchedShare is [Sums].Matched as a part of all rows.
func (s Sums) MatchedShare() float64 { return float64(s.Matched) / float64(s.Rows) }

// Verdict is what to make of an index.
type Verdict string

// The verdicts, from the worst on.
const (
	Unsafe Verdict = "unsafe"            // it gives the values away
	Leaks  Verdict = "leaks_frequencies" // it gives part of them away to who knows how common they are
	TooFew Verdict = "too_few_rows"      // nothing speaks against it, and there are not enough rows to say so
	Fine   Verdict = "fine"              // it tells which rows have equal values, as every index does, and little more
)

// Reason is why.
type Reason string

// The reasons.
const (
	FewValues   Reason = "few_values"
	CommonValue Reason = "common_value"
	Matchable   Reason = "matchable"
)

// Judge gives the verdict on an index of full width, and its reasons.
func (s Sums) Judge() (Verdict, []Reason) {
	reasons := []Reason{}
	if s.Distinct < MinDistinct && s.Rows >= MinRepeats*s.Distinct {
		reasons = append(reasons, FewValues)
	}
	if s.Share > MaxShare && s.Largest >= MinRepeats {
		reasons = append(reasons, CommonValue)
	}
	switch {
	case len(reasons) > 0:
		return Unsafe, reasons
	case s.Rows < MinRows:
		return TooFew, reasons
	case s.MatchedShare() > MaxMatched:
		return Leaks, append(reasons, Matchable)
	}
	return Fine, reasons
}

// Narrow gives the range of bits in which a narrower index is worth having: at most so many that two values share an entry on average, and at least so many that the values which
// share one are no more than the square root of all. It is false where no number is both.
func (s Sums) Narrow() (from, to int, ok bool) {
	to = bits.Len64(uint64(s.Distinct)) - 2                   // the largest with Distinct/2^to >= 2
	from = int(math.Ceil(math.Log2(float64(s.Distinct)) / 2)) // the smallest with Distinct/2^from <= sqrt(Distinct)
	return from, to, from >= 1 && from <= to
}

// Kept is what an index of so many bits does. Its JSON is stable.
type Kept struct {
	Bits   int     `json:"bits"`
	Values float64 `json:"values_per_entry"` // that share an entry, the one that is sought among them
	Extra  float64 `json:"extra_rows"`       // that a look-up finds beside those it seeks, for the average value
	Share  float64 `json:"largest_share"`    // of rows under the commonest value's entry, on average
}

// Keep says what an index of this many bits does.
func (s Sums) Keep(width int) Kept {
	entries := math.Exp2(float64(width))
	rows, distinct := float64(s.Rows), float64(s.Distinct)
	return Kept{width, 1 + (distinct-1)/entries, (rows - rows/distinct) / entries, s.Share + (1-s.Share)/entries}
}

// Bar is the values that occur From to To times.
type Bar struct {
	From   int64 `json:"from"`
	To     int64 `json:"to"`
	Values int64 `json:"values"`
	Rows   int64 `json:"rows"`
}

// Histogram groups classes by powers of two: values that occur once, 2 to 3 times, 4 to 7 times and so on, up to the commonest. Bars between that have no value are there too.
func Histogram(classes []Class) []Bar {
	bars := []Bar{}
	for _, c := range classes {
		i := bits.Len64(uint64(c.Count)) - 1
		for len(bars) <= i {
			from := int64(1) << len(bars)
			bars = append(bars, Bar{From: from, To: 2*from - 1})
		}
		bars[i].Values, bars[i].Rows = bars[i].Values+c.Values, bars[i].Rows+c.Count*c.Values
	}
	return bars
}
