package row

import (
	"reflect"
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
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("parseTag(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"jsn":                               `unknown word "jsn"`,
		"JSON":                              `unknown word "JSON"`,
		"json,":                             "empty word",
		",json":                             "empty word",
		"json,json":                         "twice",
		"key=A,key=B":                       "twice",
		"key":                               "needs a value",
		"key=":                              "needs a value",
		"name=two words":                    "needs a value without spaces",
		"json=true":                         "takes no value",
		"text=":                             "takes no value",
		"index=16":                          `"16" is nothing`,
		"index=":                            "empty term",
		"unique=lower+":                     "empty term",
		"index=lower+lower":                 "twice",
		"index=fold+lower":                  "fold does what lower does",
		"index=domain+last4":                "an index of each",
		"index=last0":                       `"last0" is nothing`,
		"index=first100":                    `"first100" is nothing`,
		"index=phone":                       `"phone" is nothing`,
		"index=a.v1+b.v1":                   "two functions",
		"index=8bits+9bits":                 "twice",
		"index=v2+v3":                       "twice",
		"index=tenant+lower+tenant":         "twice",
		"index=tenant,index=tenant":         "twice",
		"index=tenants":                     `"tenants" is nothing`,
		"index=65bits":                      "1 to 64 bits",
		"index=0bits":                       `"0bits" is nothing`,
		"index=v0":                          `"v0" is nothing`,
		"unique=8bits":                      "only one of all bits",
		"unique,unique":                     "twice",
		"index=trim+lower,index=lower+trim": "twice",
	} {
		if _, err := parseTag(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("parseTag(%q): error %v does not say %q", text, err, says)
		}
	}
}

// What parses means something, and means the same again when it is written in the plainest way.
func FuzzParseTag(f *testing.F) {
	for _, seed := range []string{"", "json", "key=PhoneKey,text", " name=a ,json", "key==", "=", "key=a=b", "json,", "index", "unique,index", "unique=trim+lower", "index=lower", "unique=v2,index=domain,index=phone.v1+last4+12bits+v3", "index=12bits+tenant+trim,unique=tenant", "\x00", "key=\t"} {
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
		for _, x := range got.indexes {
			word := "index"
			if x.unique {
				word = "unique"
			}
			if terms := x.String(); terms != "" {
				word += "=" + terms
			}
			words = append(words, word)
		}
		again, err := parseTag(strings.Join(words, ","))
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%q parsed to %+v, which as %q parses to %+v, %v", text, got, words, again, err)
		}
	})
}
