// vectors_test.go owns testdata/vectors.txt: values and sealed fields that every release must read as the first one did. The file
// is append-only. To add records, write the claim in newVectors and run
//
//	go test ./field -run TestVectors -update-vectors

package field_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/field"
)

var updateVectors = flag.Bool("update-vectors", false, "append the new records of newVectors to testdata/vectors.txt")

const vectorsFile = "testdata/vectors.txt"

// The first releasedSize bytes are the beginning of the file that must never change. Move it forward with each release, never back.
const (
	releasedSize   = 22675
	releasedSHA256 = "cd591e77b51661ed135b2298e02a117641b8e9e7fabcbe319beca85db489cfe7"
)

// record is one vector: lines of "key: value".
type record map[string]string

func (r record) bytes(t testing.TB, key string) []byte {
	t.Helper()
	b, err := hex.DecodeString(r[key])
	if err != nil {
		t.Fatalf("%s: %s: %v", r["name"], key, err)
	}
	return b
}

// readVectors reads the file: records are separated by blank lines, and lines that begin with # are comments.
func readVectors(t testing.TB) (all []record) {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) < releasedSize || fmt.Sprintf("%x", sha256.Sum256(text[:releasedSize])) != releasedSHA256 {
		t.Fatalf("the first %d bytes of %s, which are released, have changed", releasedSize, vectorsFile)
	}
	names := make(map[string]bool)
	for block := range strings.SplitSeq(string(text), "\n\n") {
		r := record{}
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			key, value, ok := strings.Cut(line, ":")
			if _, twice := r[key]; !ok || twice {
				t.Fatalf("%s: bad line %q", vectorsFile, line)
			}
			r[key] = strings.TrimPrefix(value, " ")
		}
		if len(r) == 0 {
			continue
		}
		if r["name"] == "" || names[r["name"]] {
			t.Fatalf("%s: a record has no name of its own: %q", vectorsFile, r["name"])
		}
		names[r["name"]] = true
		all = append(all, r)
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", vectorsFile)
	}
	return all
}

func TestVectors(t *testing.T) {
	if *updateVectors {
		appendVectors(t)
	}
	all := readVectors(t)
	counts := make(map[string]int)
	for _, r := range all {
		kind := "value"
		if r["type"] == "" {
			kind = "field"
		}
		if r["error"] != "" {
			kind += " refused"
		}
		counts[kind]++
		t.Run(r["name"], func(t *testing.T) {
			if r["type"] != "" {
				checkValue(t, r)
			} else {
				checkField(t, r)
			}
		})
	}
	for _, kind := range []string{"value", "value refused", "field", "field refused"} {
		if counts[kind] == 0 {
			t.Errorf("no vector of kind %q", kind)
		}
	}
}

// checkValue: the plaintext of a value decodes to it and, unless canonical is no, is what the value encodes to.
func checkValue(t *testing.T, r record) {
	for _, typ := range types {
		if typ.name != r["type"] {
			continue
		}
		c := codec(t, typ.typ, typ.json)
		v := reflect.New(typ.typ).Elem()
		err := c.Set(v, r.bytes(t, "plaintext"))
		if r["error"] != "" {
			if err == nil || class(t, err) != r["error"] {
				t.Errorf("got %v, want %s", err, r["error"])
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := render(v); got != r["value"] {
			t.Errorf("got %s, want %s", got, r["value"])
		}
		if out, _, err := c.Append(nil, v); err != nil || r["canonical"] != "no" && hex.EncodeToString(out) != r["plaintext"] {
			t.Errorf("encoded as %x, %v", out, err)
		}
		return
	}
	t.Errorf("unknown type %q", r["type"])
}

// checkField: the field opens, by the code and by its intermediate values with the standard library alone.
func checkField(t *testing.T, r record) {
	k := newKey(t, r.bytes(t, "dek"), r.bytes(t, "id")[0])
	p := field.NewPlace(r["namespace"], r["model"], r["column"])
	sealed := r.bytes(t, "sealed")
	if text, ok := r["text"]; ok {
		var err error
		if sealed, err = field.ParseText(text); err != nil {
			if class(t, err) != r["error"] {
				t.Errorf("got %v, want %s", err, r["error"])
			}
			return
		}
		if string(field.AppendText(nil, sealed)) != text {
			t.Error("the text does not encode to itself")
		}
	}
	plain, err := k.Open(nil, p, sealed)
	if r["error"] != "" {
		if err == nil || class(t, err) != r["error"] {
			t.Errorf("got %q, %v, want %s", plain, err, r["error"])
		}
		return
	}
	if err != nil || !bytes.Equal(plain, r.bytes(t, "plaintext")) {
		t.Fatalf("got %x, %v", plain, err)
	}
	sub, err := hkdf.Expand(sha256.New, r.bytes(t, "dek"), string(unhex(t, "0100000011"+hex.EncodeToString([]byte("rowseal/field-key"))+"020000000131")), 32)
	if err != nil || !bytes.Equal(sub, r.bytes(t, "field-key")) {
		t.Errorf("field key %x, %v", sub, err)
	}
	block, err := aes.NewCipher(r.bytes(t, "field-key"))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := aead.Open(nil, nil, sealed[3:], r.bytes(t, "associated-data")); err != nil || !bytes.Equal(plain, r.bytes(t, "plaintext")) {
		t.Errorf("by its parts: %x, %v", plain, err)
	}
}

// newVectors makes the records that are not in the file yet: lines, in order.
func newVectors(t *testing.T) (records [][2]string) {
	add := func(name string, lines ...string) {
		records = append(records, [2]string{name, strings.Join(lines, "\n")})
	}
	for _, c := range roundTrips {
		for _, typ := range types {
			if typ.typ == reflect.TypeOf(c.value) && typ.json == c.json {
				plaintext, _ := encode(t, c.value, c.json)
				add("a value is read as written: "+c.name, "type: "+typ.name, fmt.Sprintf("plaintext: %x", plaintext), "value: "+render(reflect.ValueOf(c.value)))
			}
		}
	}
	for _, c := range []struct{ name, typ, plaintext, value string }{
		{"text is read as string", "string", "083139322e302e322e31", `"192.0.2.1"`},
		{"a string is read as bytes", "[]byte", "01416461", "416461"},
		{"a string is read as text", "netip.Addr", "013139322e302e322e31", "192.0.2.1"},
		{"an unsigned integer is read as signed", "int64", "050000000000000005", "5"},
		{"a signed integer is read as unsigned", "uint8", "0400000000000000ff", "255"},
		{"JSON with spaces is read", "any", "095b20312c2032205d", "[1,2]"},
	} {
		add("a value converts: "+c.name, "type: "+c.typ, "plaintext: "+c.plaintext, "value: "+c.value, "canonical: no")
	}
	for _, c := range []struct{ name, typ, plaintext, err string }{
		{"no kind", "string", "", "ErrMalformed"},
		{"a kind of a later release", "string", "0a", "ErrType"},
		{"bytes are not a string", "string", "0261", "ErrType"},
		{"a number that does not fit", "int8", "040000000000000080", "ErrType"},
		{"a negative number as unsigned", "uint64", "04ffffffffffffffff", "ErrType"},
		{"a large unsigned number as signed", "int64", "058000000000000000", "ErrType"},
		{"a number of seven bytes", "int64", "0400000000000000", "ErrMalformed"},
		{"a bool of two", "bool", "0302", "ErrMalformed"},
		{"a float that would be rounded", "float32", "063fb999999999999a", "ErrType"},
		{"a time with 10^9 nanoseconds", "time.Time", "0700000000000000003b9aca0000000000", "ErrMalformed"},
		{"an array of another length", "[16]byte", "0200", "ErrType"},
	} {
		add("a value is refused: "+c.name, "type: "+c.typ, "plaintext: "+c.plaintext, "error: "+c.err)
	}

	text := func(b []byte, s string) []byte {
		return append(append(b, 1, 0, 0, byte(len(s)>>8), byte(len(s))), s...)
	}
	integer := func(b []byte, s string) []byte { return append(append(b, 2, 0, 0, 0, byte(len(s))), s...) }
	dek := make([]byte, field.KeySize)
	for i := range dek {
		dek[i] = byte(i)
	}
	base := func(dek []byte, id byte, namespace, model, column string) []string {
		return []string{fmt.Sprintf("dek: %x", dek), fmt.Sprintf("id: %02x", id), "namespace: " + namespace, "model: " + model, "column: " + column}
	}
	var first []byte
	for _, c := range []struct {
		name                     string
		id                       byte
		namespace, model, column string
		plaintext                string
		text                     bool
	}{
		{"a string", 1, "clinic/production", "Patient", "email", "01" + hex.EncodeToString([]byte("ada@example.org")), false},
		{"an empty string", 1, "clinic/production", "Patient", "name", "01", false},
		{"a time", 1, "clinic/production", "Patient", "born", "07fffffffede388907075bcd1500001c2043455354", false},
		{"no namespace", 1, "", "Patient", "email", "0178", false},
		{"names beyond ASCII", 1, "Klinik/Zürich", "Patientïn", "naïve", "0178", false},
		{"the last number of the prepared table", 7, "clinic/production", "Patient", "email", "0178", false},
		{"the first number beyond it", 8, "clinic/production", "Patient", "email", "0178", false},
		{"the greatest number", 255, "clinic/production", "Patient", "email", "0178", false},
		{"a text column", 1, "clinic/production", "Patient", "note", "01" + hex.EncodeToString([]byte("as text")), true},
		{"names of 300 bytes", 1, strings.Repeat("n", 300), strings.Repeat("m", 300), strings.Repeat("c", 300), "0178", false},
	} {
		k := newKey(t, dek, c.id)
		sealed := k.Seal(nil, field.NewPlace(c.namespace, c.model, c.column), unhex(t, c.plaintext))
		if first == nil {
			first = sealed
		}
		sub, err := hkdf.Expand(sha256.New, dek, string(integer(text(nil, "rowseal/field-key"), "1")), 32)
		if err != nil {
			t.Fatal(err)
		}
		data := integer(integer(text(nil, "rowseal/field"), "249"), "1")
		data = integer(text(text(text(data, c.namespace), c.model), c.column), fmt.Sprint(c.id))
		lines := append(base(dek, c.id, c.namespace, c.model, c.column),
			fmt.Sprintf("field-key: %x", sub), fmt.Sprintf("associated-data: %x", data), "plaintext: "+c.plaintext, fmt.Sprintf("sealed: %x", sealed))
		if c.text {
			lines = append(lines, "text: "+string(field.AppendText(nil, sealed)))
		}
		add("a field opens: "+c.name, lines...)
	}
	for _, c := range []struct {
		name                     string
		dek                      []byte
		id                       byte
		namespace, model, column string
		sealed                   []byte
		err                      string
	}{
		{"in another column", dek, 1, "clinic/production", "Patient", "phone", first, "ErrNotAuthentic"},
		{"in another model", dek, 1, "clinic/production", "Doctor", "email", first, "ErrNotAuthentic"},
		{"in another namespace", dek, 1, "clinic/staging", "Patient", "email", first, "ErrNotAuthentic"},
		{"under another data key", dekBytes, 1, "clinic/production", "Patient", "email", first, "ErrNotAuthentic"},
		{"under another number", dek, 2, "clinic/production", "Patient", "email", first, "ErrOtherKey"},
		{"with its number changed", dek, 2, "clinic/production", "Patient", "email", alter(first, 2, 2), "ErrNotAuthentic"},
		{"with a nonce bit changed", dek, 1, "clinic/production", "Patient", "email", alter(first, 3, first[3]^1), "ErrNotAuthentic"},
		{"with a value bit changed", dek, 1, "clinic/production", "Patient", "email", alter(first, 15, first[15]^1), "ErrNotAuthentic"},
		{"with a tag bit changed", dek, 1, "clinic/production", "Patient", "email", alter(first, len(first)-1, first[len(first)-1]^0x80), "ErrNotAuthentic"},
		{"cut short", dek, 1, "clinic/production", "Patient", "email", first[:31], "ErrMalformed"},
		{"with number zero", dek, 1, "clinic/production", "Patient", "email", alter(first, 2, 0), "ErrMalformed"},
		{"with a later format", dek, 1, "clinic/production", "Patient", "email", alter(first, 0, 0xFA), "ErrUnknownSuite"},
		{"with the reserved padding bit", dek, 1, "clinic/production", "Patient", "email", alter(first, 1, 0x81), "ErrUnknownSuite"},
		{"when it is plaintext", dek, 1, "clinic/production", "Patient", "email", []byte("ada@example.org"), "ErrPlaintext"},
		{"when it is nothing", dek, 1, "clinic/production", "Patient", "email", nil, "ErrPlaintext"},
	} {
		add("a field is refused: "+c.name, append(base(c.dek, c.id, c.namespace, c.model, c.column), fmt.Sprintf("sealed: %x", c.sealed), "error: "+c.err)...)
	}
	for _, c := range []struct{ name, text, err string }{
		{"without prefix", string(field.AppendText(nil, first)[4:]), "ErrPlaintext"},
		{"with padding", "rs1:+QEBAA==", "ErrMalformed"},
		{"with unused bits set", "rs1:+QEBAB", "ErrMalformed"},
		{"with a space", "rs1: " + string(field.AppendText(nil, first)[4:]), "ErrMalformed"},
		{"with the prefix alone", "rs1:", "ErrMalformed"},
		{"with text behind the prefix", "rs1:aGVsbG8", "ErrMalformed"},
	} {
		add("a text is refused: "+c.name, append(base(dek, 1, "clinic/production", "Patient", "email"), "text: "+c.text, "error: "+c.err)...)
	}
	return records
}

// appendVectors writes what newVectors has and the file has not. It never rewrites.
func appendVectors(t *testing.T) {
	have := make(map[string]bool)
	if _, err := os.Stat(vectorsFile); err == nil {
		for _, r := range readVectors(t) {
			have[r["name"]] = true
		}
	}
	f, err := os.OpenFile(vectorsFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(have) == 0 {
		fmt.Fprint(f, "# Values and sealed fields of docs/format.md, sections 5 to 7. Append-only: see vectors_test.go.\n")
	}
	for _, r := range newVectors(t) {
		if !have[r[0]] {
			if _, err := f.WriteString(strings.ReplaceAll("\nname: "+r[0]+"\n"+r[1]+"\n", ": \n", ":\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
}
