// expression.go owns what is done to a text before it is hashed: which texts an index takes for one. docs/format.md, section 14.

package field

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Expression is what is done to a text before it is hashed, so that an index finds texts that differ in no more than that. It is written as its steps with a plus
// between them, "lower+trim", in any order, and done in this one:
//
//	own.v1   a function of the application's, whose name ends in its version: what it does is as fixed as a format
//	fold     Unicode's compatibility caseless form (NFKC and case folding; Unicode 3.13, D146): ﬁ is fi, Ａ is a, ß is ss
//	lower    each letter in lower case, as package unicode has it; not beside fold, which does that too
//	trim     without white space at both ends, also of the part that is kept
//	digits   the digits 0 to 9 alone, as for telephone numbers
//	domain   what follows the last @, in lower case; all of a text without one
//	firstN   the first N characters (code points), N from 1 to 99; all of a shorter text
//	lastN    the last N
//
// The last three keep a part of the value: by them, rows are found whose values differ. But for functions of the application's, what is done twice is as if it were done once, so that all of a value and its part are sought alike. A text that is not UTF-8 stays what it is.
//
// Every index tells whoever reads the table which rows have equal values of its expression, and how many there are of each. What that gives away depends on
// how few there are, and on what else is known:
//
//   - The steps that keep all of the value tell a little more than no expression: that two spellings are one.
//   - digits of a telephone number is the number. All of them are tried in hours by who has the index key.
//   - domain has few values and very uneven ones. The commonest are known to everybody, so that whoever reads the table knows the provider or the employer of
//     most rows; a domain of one's own is as good as a name.
//   - last4 of a card or account has 10,000 values: among 10,000 rows one shares its value with one other on the average. Beside another list that shows the
//     last four, which is most receipts, it joins the two.
//   - firstN of a name is close to the name for the common ones. Two rows with an equal prefix and two different indexes of the whole are different values: each
//     further index of a field narrows down what it can be.
//   - A function of one's own gives away what it keeps.
//
// Letters that Unicode assigns later fold to themselves until a release knows them; all others fold for ever as today, by Unicode's stability policy.
type Expression struct {
	own   string
	folds []string
	part  string
	n     int
}

// Functions are an application's own steps, by name.
type Functions map[string]func(string) string

// folds keep all of a text, in the order in which they are done.
var folds = []struct {
	name string
	do   func(string) string
}{
	{"fold", fold},
	{"lower", strings.ToLower},
	{"trim", strings.TrimSpace},
	{"digits", func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < '0' || r > '9' {
				return -1
			}
			return r
		}, s)
	}},
}

func fold(s string) string {
	// A Caser is one goroutine's.
	once := norm.NFKC.String(cases.Fold().String(norm.NFD.String(s)))
	return norm.NFKC.String(cases.Fold().String(once))
}

var (
	ownName  = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*\.v[1-9][0-9]*$`)
	partName = regexp.MustCompile(`^(first|last)([1-9][0-9]?)$`)
)

// ParseExpression reads an expression. "" is none.
func ParseExpression(text string) (Expression, error) {
	var e Expression
	if text == "" {
		return e, nil
	}
	given := map[string]bool{}
	for step := range strings.SplitSeq(text, "+") {
		part := partName.FindStringSubmatch(step)
		switch {
		case given[step]:
			return Expression{}, fmt.Errorf("%q: one of its steps stands twice", text)
		case ownName.MatchString(step):
			if e.own != "" {
				return Expression{}, fmt.Errorf("%q: two functions of the application's; make one that does both", text)
			}
			e.own = step
		case step == "domain", part != nil:
			if e.part != "" {
				return Expression{}, fmt.Errorf("%q: two steps that each keep a part; make an index of each", text)
			}
			if e.part = step; part != nil {
				e.n, _ = strconv.Atoi(part[2]) // one or two digits
			}
		case !isFold(step):
			return Expression{}, fmt.Errorf("%q: %q is nothing that can be done to a text; that is fold, lower, trim, digits, domain, first4, last4 (or another number), and functions of one's own, such as phone.v1", text, step)
		}
		given[step] = true
	}
	if given["fold"] && given["lower"] {
		return Expression{}, fmt.Errorf("%q: fold does what lower does", text)
	}
	for _, f := range folds {
		if given[f.name] {
			e.folds = append(e.folds, f.name)
		}
	}
	return e, nil
}

func isFold(name string) bool {
	for _, f := range folds {
		if f.name == name {
			return true
		}
	}
	return false
}

// String writes an expression, its steps in the order in which they are done: the form that stands in the derivation of keys.
func (e Expression) String() string {
	steps := slices.Clone(e.folds)
	if e.own != "" {
		steps = slices.Insert(steps, 0, e.own)
	}
	if e.part != "" {
		steps = append(steps, e.part)
	}
	return strings.Join(steps, "+")
}

// Part reports that it keeps a part of the value by itself, or may: functions of the application's are not looked into.
func (e Expression) Part() bool { return e.part != "" }

// Own is the name of the application's function; "" for none.
func (e Expression) Own() string { return e.own }

// Apply does it to a text: what is hashed. own has the application's function, if there is one.
func (e Expression) Apply(text string, own Functions) (string, error) {
	do, err := e.bind(own)
	if do == nil || err != nil || !utf8.ValidString(text) { // else folding would make others equal to it
		return text, err
	}
	return do(text), nil
}

// bind gives the function; nil where nothing is done.
func (e Expression) bind(own Functions) (func(string) string, error) {
	var steps []func(string) string
	if e.own != "" {
		f := own[e.own]
		if f == nil {
			return nil, fmt.Errorf("field: there is no function %q", e.own)
		}
		steps = append(steps, f)
	}
	for _, f := range folds {
		if slices.Contains(e.folds, f.name) {
			steps = append(steps, f.do)
		}
	}
	switch {
	case e.part == "domain":
		steps = append(steps, func(s string) string { return strings.ToLower(s[strings.LastIndexByte(s, '@')+1:]) })
	case strings.HasPrefix(e.part, "first"):
		steps = append(steps, func(s string) string { return s[:cut(s, e.n)] })
	case strings.HasPrefix(e.part, "last"):
		steps = append(steps, func(s string) string { return s[cut(s, utf8.RuneCountInString(s)-e.n):] })
	}
	if e.part != "" && slices.Contains(e.folds, "trim") {
		steps = append(steps, strings.TrimSpace) // what was cut may begin or end with a space now, and a part that is sought would lose it
	}
	if len(steps) == 0 {
		return nil, nil
	}
	return func(s string) string {
		for _, do := range steps {
			s = do(s)
		}
		return s
	}, nil
}

// cut is where the first n characters of a text end.
func cut(s string, n int) int {
	for i := range s {
		if n <= 0 {
			return i
		}
		n--
	}
	if n < 0 {
		return 0
	}
	return len(s)
}

// Check reports names that no tag can use.
func (f Functions) Check() error {
	for name, do := range f {
		switch {
		case !ownName.MatchString(name):
			return fmt.Errorf("the name %q: it ends in a version, as phone.v1 does, since what the function does must never change under one name", name)
		case do == nil:
			return errors.New("the function " + name + " is nil")
		}
	}
	return nil
}
