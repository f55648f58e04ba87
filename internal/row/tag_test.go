package row

import (
	"strings"
	"testing"
)

func TestParseTag(t *testing.T) {
	for text, want := range map[string]tag{
		"":                             {},
		" ":                            {},
		"json":                         {json: true},
		"text":                         {text: true},
		"key=PhoneKey":                 {key: "PhoneKey"},
		"name=old_email":               {name: "old_email"},
		" key=PhoneKey , json,name=a ": {key: "PhoneKey", json: true, name: "a"},
	} {
		got, err := parseTag(text)
		if err != nil || got != want {
			t.Errorf("parseTag(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"jsn":                `unknown word "jsn"`,
		"JSON":               `unknown word "JSON"`,
		"json,":              "empty word",
		",json":              "empty word",
		"json,json":          "twice",
		"key=A,key=B":        "twice",
		"key":                "needs a value",
		"key=":               "needs a value",
		"name=two words":     "needs a value without spaces",
		"json=true":          "takes no value",
		"text=":              "takes no value",
		"index=16":           `"16" is nothing`,
		"index=":             `"" is nothing`,
		"unique=lower+":      `"" is nothing`,
		"index=lower+lower":  "twice",
		"index=lower,unique": "says otherwise",
		"unique,unique":      "twice",
	} {
		if _, err := parseTag(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("parseTag(%q): error %v does not say %q", text, err, says)
		}
	}
}

// What parses means something, and means the same again when it is written in the plainest way.
func FuzzParseTag(f *testing.F) {
	for _, seed := range []string{"", "json", "key=PhoneKey,text", " name=a ,json", "key==", "=", "key=a=b", "json,", "index", "unique,index", "unique=trim+lower", "index=lower", "\x00", "key=\t"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTag(text)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		var words []string
		if got.key != "" {
			words = append(words, "key="+got.key)
		}
		if got.name != "" {
			words = append(words, "name="+got.name)
		}
		if got.json {
			words = append(words, "json")
		}
		if got.text {
			words = append(words, "text")
		}
		if got.index {
			word := "index"
			if got.unique {
				word = "unique"
			}
			if got.folds != "" {
				word += "=" + got.folds
			}
			words = append(words, word)
		}
		again, err := parseTag(strings.Join(words, ","))
		if err != nil || again != got {
			t.Errorf("%q parsed to %+v, which as %q parses to %+v, %v", text, got, words, again, err)
		}
	})
}
