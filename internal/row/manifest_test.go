package row

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

const someManifest = `{
  "format": 1,
  "namespace": "clinic/test",
  "versions": {
    "1": {},
    "2": {
      "constants": {
        "environment": "test"
      }
    }
  },
  "models": [
    {
      "name": "Patient",
      "table": "patients",
      "primary_key": [
        {
          "column": "id",
          "kind": "integer"
        }
      ],
      "assigned_by_database": true,
      "keys": [
        {
          "column": "encrypted_kms_key",
          "name": "encrypted_kms_key"
        },
        {
          "column": "encrypted_kms_key_phone",
          "name": "phone",
          "fields": [
            {
              "column": "phone",
              "name": "telephone",
              "text": true
            },
            {
              "column": "fax",
              "name": "fax"
            }
          ]
        }
      ],
      "context": {
        "omit_id": true
      },
      "contexts": {
        "2": {
          "columns": [
            {
              "column": "tenant_id",
              "kind": "uuid"
            }
          ],
          "constants": {
            "area": "<eu>"
          }
        }
      },
      "unbound": true
    },
    {
      "name": "Visit",
      "table": "clinic.visits",
      "primary_key": [
        {
          "column": "tenant",
          "kind": "text"
        },
        {
          "column": "n",
          "kind": "integer"
        }
      ],
      "keys": [
        {
          "column": "k",
          "name": "k"
        }
      ],
      "context": {},
      "only_in_application": "its context is computed by the method KMSContext"
    }
  ]
}
`

func TestParseManifest_gives_the_same_bytes(t *testing.T) {
	m, err := ParseManifest([]byte(someManifest))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.JSON()); got != someManifest {
		t.Errorf("%s", got)
	}
	if model, err := m.Model("clinic.visits"); err != nil || model.Name != "Visit" {
		t.Error(model, err)
	}
	if _, err := m.Model("Nobody"); err == nil || !strings.Contains(err.Error(), `no model "Nobody"; it has Patient, Visit`) {
		t.Error(err)
	}
}

func TestParseManifest_refuses(t *testing.T) {
	for _, tt := range []struct{ old, new, says string }{
		{`"format": 1,`, ``, `it has no "format"`},
		{`"format": 1`, `"format": 2`, "it is of format 2, and this program knows 1; take a newer one"},
		{`"format": 1`, `"format": 0`, "format: 0 is none"},
		{`"format": 1`, `"format": "1"`, `line 2: "format" is a string`},
		{`"unbound": true`, `"unbound": 1`, `line 60: "models.unbound" is a number`},
		{`"unbound": true`, `"unbounded": true`, `unknown field "unbounded"`},
		{`"unbound": true`, `"unbound": true,`, "line 61: invalid character"},
		{`"kind": "uuid"`, `"kind": "float"`, `models[0] (Patient): contexts: version 2: column "tenant_id": kind "float" is none of [integer text uuid bytes bool]`},
		{`"kind": "uuid"`, `"kind": ""`, `kind "" is none of`},
		{`"column": "tenant_id"`, `"column": "ID"`, `contexts: version 2: column "ID" is a primary key, key column or sealed column`},
		{`"column": "n"`, `"column": "Tenant"`, `models[1] (Visit): primary_key: column "Tenant" is there twice`},
		{`"name": "Visit"`, `"name": "Patient"`, "models[1] (Patient): the name is there twice"},
		{`"name": "phone"`, `"name": "encrypted_kms_key"`, `keys: the name "encrypted_kms_key" is there twice`},
		{`"table": "patients"`, `"table": ""`, "table: empty"},
		{`"1": {},`, `"1": {}, "2": {},`, `line 6: "2" is there twice`},
		{`"unbound": true`, `"unbound": true, "unbound": false`, `line 60: "unbound" is there twice`},
		{`"1": {},`, `"0": {},`, "versions: 0 is no version"},
		{`"1": {},`, `"one": {},`, "one"},
		{`"k",`, `"",`, "keys: a column without"},
		{`"column": "fax"`, `"column": ""`, `keys: column "encrypted_kms_key_phone": a field without`},
		{`"column": "fax"`, `"column": "Phone"`, `column "Phone" is there twice`},
		{`"column": "fax"`, `"column": "id"`, `column "id" is there twice`},
		{`"name": "fax"`, `"name": "telephone"`, `fields: the name "telephone" is there twice`},
		{`"column": "tenant_id"`, `"column": "fax"`, `column "fax" is a primary key, key column or sealed column`},
	} {
		text := strings.Replace(someManifest, tt.old, tt.new, 1)
		if text == someManifest {
			t.Fatalf("nothing to replace: %s", tt.old)
		}
		_, err := ParseManifest([]byte(text))
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "rowseal: manifest: ") {
			t.Errorf("%s: got %v", tt.new, err)
		}
	}
	for text, says := range map[string]string{"": "unexpected end", "[]": "line 1", "null": `no "format"`, someManifest + "{}": "line 86", `{"format":1,"versions":{"1":{}}}`: "models: none", `{"format":1}`: "models: none", `{"format":1,"versions":{"1":{}},"models":[null]}`: "models[0]: null"} {
		if _, err := ParseManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40s: got %v", text, err)
		}
	}
}

func testKeys(t testing.TB, namespace string, current int, constants map[string]string, numbers ...int) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Namespace: namespace, Versions: map[int]kmskey.Version{}}
	for _, n := range numbers {
		v := kmskey.Version{Provider: localkey.NewInsecure()}
		if n == 2 {
			v.Constants = constants
		}
		cfg.Versions[n] = v
	}
	keys, err := kmskey.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestManifestModel_Bind(t *testing.T) {
	m, err := ParseManifest([]byte(someManifest))
	if err != nil {
		t.Fatal(err)
	}
	right := map[string]string{"environment": "test"}
	for name, tt := range map[string]struct {
		model int
		keys  *kmskey.Keyring
		says  string
	}{
		"another namespace":   {0, testKeys(t, "clinic", 2, right, 1, 2), `its namespace is "clinic/test", and the keyring's "clinic"`},
		"constants missing":   {0, testKeys(t, "clinic/test", 2, nil, 1, 2), "adds the constants map[environment:test] under version 2, and this one map[]"},
		"version not known":   {0, testKeys(t, "clinic/test", 3, right, 2, 3), "version 3 is not in the application's keyring, which has [1 2]"},
		"only in application": {1, testKeys(t, "clinic/test", 2, right, 1, 2), "KMSContext; run rotation.RotateKMSKey(ctx, db, &Visit{}, rotation.Config{}) in a program of the application"},
	} {
		if _, err := m.Models[tt.model].Bind(tt.keys); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := (&ManifestModel{Name: "X"}).Bind(testKeys(t, "", 1, nil, 1)); err == nil || !strings.Contains(err.Error(), "ParseManifest") {
		t.Error(err)
	}
	bound, err := m.Models[0].Bind(testKeys(t, "clinic/test", 2, right, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	reading := bound.Reading(bound.Plan.Groups)
	if got := append(reading.IDs(), reading.Columns()...); !reflect.DeepEqual(got, []string{"id", "tenant_id", "encrypted_kms_key", "encrypted_kms_key_phone"}) {
		t.Error(got)
	}
}

// FuzzParseManifest: what is taken is written as it is read, and binds without a panic.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(someManifest))
	f.Add([]byte(`{"format":1,"versions":{"1":{}},"models":[{"name":"A","table":"a","primary_key":[{"column":"id","kind":"uuid"}],"keys":[{"column":"k","name":"k"}],"context":{}}]}`))
	f.Add([]byte(`{"format":1,"versions":{"1":{}},"models":[{"name":"A","table":"a","primary_key":[{"column":"id","kind":"uuid"},{"column":"model_id","kind":"uuid"}],"keys":[{"column":"k","name":"k"}],"context":{"constants":{"model_name":"x"}}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseManifest(text)
		if err != nil {
			return
		}
		once := m.JSON()
		again, err := ParseManifest(once)
		if err != nil {
			t.Fatalf("%v\n%s", err, once)
		}
		if twice := again.JSON(); !bytes.Equal(once, twice) {
			t.Fatalf("%s\n%s", once, twice)
		}
		keys, err := kmskey.New(kmskey.Config{Namespace: m.Namespace, Versions: map[int]kmskey.Version{1: {Provider: localkey.NewInsecure()}}})
		if err != nil {
			return
		}
		for _, model := range m.Models {
			if bound, err := model.Bind(keys); err == nil {
				bound.Reading(bound.Plan.Groups).Columns()
			}
		}
	})
}
