// tag.go owns the grammar of the rowseal struct tag. It is a public promise: words are added, never changed.
//
//	tag   = word { "," word }
//	word  = "key=" GoField | "name=" logical | "json" | "text" | ( "index" | "unique" ) [ "=" term { "+" term } ]
//	term  = step of a field.Expression | "tenant" | number "bits" | "v" number
//
// Each word stands once, but index and unique once for each index. Spaces around words are allowed. The gorm tag beside it must name the serializer rowseal; see checkField in plan.go.

package row

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/rowseal/rowseal/field"
)

// tag is what a rowseal struct tag says.
type tag struct {
	key  string // Go name of the key field to seal under; "" is the nearest
	name string // logical name, where the column was renamed; "" is the column's name
	json bool   // seal as JSON
	text bool   // store as text

	indexes []indexTag
}

// indexTag is what it says of one blind index.
type indexTag struct {
	unique     bool
	expression field.Expression
	tenant     bool // each tenant has one of its own
	bits       int  // 0 for all
	version    int  // of the index key, from 1
}

// String is what stands behind index= or unique=, in the plainest way.
func (t indexTag) String() string {
	var terms []string
	if e := t.expression.String(); e != "" {
		terms = append(terms, e)
	}
	if t.tenant {
		terms = append(terms, tenantTerm)
	}
	if t.bits != 0 {
		terms = append(terms, fmt.Sprintf("%dbits", t.bits))
	}
	if t.version != 1 {
		terms = append(terms, fmt.Sprintf("v%d", t.version))
	}
	return strings.Join(terms, "+")
}

// CheckTag holds the text of a rowseal tag to the grammar, for tools that read source code. key is the Go name of the key field that
// the tag chooses, "" where it leaves that to the model.
func CheckTag(text string) (key string, err error) {
	t, err := parseTag(text)
	return t.key, err
}

func parseTag(s string) (tag, error) {
	var t tag
	seen := map[string]bool{}
	if strings.TrimSpace(s) == "" {
		return t, nil
	}
words:
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		name, value, hasValue := strings.Cut(word, "=")
		if seen[name] && name != "index" && name != "unique" {
			return tag{}, fmt.Errorf("the word %q stands twice", name)
		}
		seen[name] = true
		switch name {
		case "key", "name":
			if value == "" || strings.ContainsAny(value, " \t") {
				return tag{}, fmt.Errorf("%q needs a value without spaces, as in %s=%s", word, name, map[string]string{"key": "PhoneKey", "name": "old_column"}[name])
			}
			if name == "key" {
				t.key = value
			} else {
				t.name = value
			}
			continue
		case "json":
			t.json = true
		case "text":
			t.text = true
		case "index", "unique":
			x, err := parseIndex(value, hasValue)
			if err != nil {
				return tag{}, fmt.Errorf("%q: %w", word, err)
			}
			x.unique = name == "unique"
			if x.unique && x.bits != 0 {
				return tag{}, fmt.Errorf("%q: a narrower index finds values alike that are not; only one of all bits can be unique", word)
			}
			for i := range t.indexes {
				if other := &t.indexes[i]; other.String() == x.String() {
					if other.unique == x.unique {
						return tag{}, fmt.Errorf("the word %q stands twice", word)
					}
					other.unique = true
					continue words
				}
			}
			t.indexes = append(t.indexes, x)
			continue
		case "":
			return tag{}, errors.New("an empty word; check the commas")
		default:
			return tag{}, fmt.Errorf("unknown word %q; the words are key=Field, name=logical, json, text, index and unique", word)
		}
		if hasValue {
			return tag{}, fmt.Errorf("%q takes no value", name)
		}
	}
	return t, nil
}

const tenantTerm = "tenant"

var (
	bitsTerm    = regexp.MustCompile(`^([1-9][0-9]?)bits$`)
	versionTerm = regexp.MustCompile(`^v([1-9][0-9]{0,5})$`)
)

// parseIndex reads what stands behind index= or unique=, in any order.
func parseIndex(value string, given bool) (indexTag, error) {
	t := indexTag{version: 1}
	if !given {
		return t, nil
	}
	var steps []string
	versioned := false
	for term := range strings.SplitSeq(value, "+") {
		bits, version := bitsTerm.FindStringSubmatch(term), versionTerm.FindStringSubmatch(term)
		switch {
		case bits != nil && t.bits != 0, version != nil && versioned, term == tenantTerm && t.tenant:
			return t, fmt.Errorf("%q: one of these stands twice", term)
		case bits != nil:
			t.bits, _ = strconv.Atoi(bits[1]) // digits, and few
		case version != nil:
			t.version, _ = strconv.Atoi(version[1]) // likewise
			versioned = true
		case term == tenantTerm:
			t.tenant = true
		case term == "":
			return t, errors.New("an empty term; check the plus signs")
		default:
			steps = append(steps, term)
		}
	}
	if t.bits > field.MaxBits {
		return t, fmt.Errorf("an index of 1 to %d bits, or of all", field.MaxBits)
	}
	var err error
	t.expression, err = field.ParseExpression(strings.Join(steps, "+"))
	return t, err
}
