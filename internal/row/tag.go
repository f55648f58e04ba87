// tag.go owns the grammar of the rowseal struct tag. It is a public promise: words are added, never changed.
//
//	tag   = word { "," word }
//	word  = "key=" GoField | "name=" logical | "json" | "text" | ( "index" | "unique" ) [ "=" fold { "+" fold } ]
//	fold  = "lower" | "trim"
//
// Spaces around words are allowed. The gorm tag beside it must name the serializer rowseal; see checkField in plan.go.

package row

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// tag is what a rowseal struct tag says.
type tag struct {
	key  string // Go name of the key field to seal under; "" is the nearest
	name string // logical name, where the column was renamed; "" is the column's name
	json bool   // seal as JSON
	text bool   // store as text

	index  bool   // keep a blind index
	unique bool   // one whose values are unique
	folds  string // what is done to a text before it is hashed: field.IndexPlace.Expression
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
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		name, value, hasValue := strings.Cut(word, "=")
		if seen[name] {
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
			folds, err := parseFolds(word, value, hasValue)
			if err != nil {
				return tag{}, err
			}
			if t.index && t.folds != folds {
				return tag{}, fmt.Errorf("%q: a field has one index, and the other word says otherwise what is done to its texts", word)
			}
			t.index, t.unique, t.folds = true, t.unique || name == "unique", folds
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

// parseFolds reads what stands behind index= or unique=, in any order.
func parseFolds(word, value string, given bool) (string, error) {
	if !given {
		return "", nil
	}
	folds := strings.Split(value, "+")
	slices.Sort(folds)
	if len(slices.Compact(slices.Clone(folds))) < len(folds) {
		return "", fmt.Errorf("%q: one of these stands twice", word)
	}
	for _, f := range folds {
		if f != "lower" && f != "trim" {
			return "", fmt.Errorf("%q: %q is nothing that can be done to a text; that is lower, trim or lower+trim", word, f)
		}
	}
	return strings.Join(folds, "+"), nil
}
