// vectors_test.go owns testdata/vectors.txt: values and sealed fields that every release must read as the first one did, and blind indexes
// that it must make as the first one did, or what is stored is found no more. The file is append-only. To add records, write the claim in newVectors and run
//
//	go test ./field -run TestVectors -update-vectors

package field_test

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
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

func (r record) number(t testing.TB, key string) int {
	t.Helper()
	n, err := strconv.Atoi(r[key])
	if err != nil {
		t.Fatalf("%s: %s: %v", r["name"], key, err)
	}
	return n
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
		kind, check := "value", checkValue
		switch {
		case r["index-key"] != "":
			kind, check = "index", checkIndex
		case r["type"] == "":
			kind, check = "field", checkField
		}
		if r["error"] != "" {
			kind += " refused"
		}
		counts[kind]++
		t.Run(r["name"], func(t *testing.T) { check(t, r) })
	}
	for _, kind := range []string{"value", "value refused", "field", "field refused", "index", "index refused"} {
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
	sub, err := hkdf.Expand(sha256.New, r.bytes(t, "dek"), canonText("rowseal/field-key")+canonInt("1"), 32)
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

// canonText and canonInt are docs/format.md, section 2, once more, so that what vectors expect is not made by the code that they hold.
func canonText(s string) string {
	n := len(s)
	return string([]byte{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + s
}

func canonInt(s string) string { return "\x02" + canonText(s)[1:] }

// indexLabels is what a vector of an index says beside its name. One more label of the derivation needs a line here, one in indexInfo and one in checkIndex.
var indexLabels = []string{"index-key", "namespace", "model", "field", "version", "expression", "bits", "tenant", "info", "place-key", "plaintext", "hashed", "index", "error"}

// indexInfo is what the key of an index's place is derived by, docs/format.md, section 14, from the labels of a vector.
func indexInfo(r record) string {
	label := "rowseal/index-key"
	if r["tenant"] != "" {
		label = "rowseal/tenant-index-keys"
	}
	info := canonText(label) + canonInt("1") + canonText(r["namespace"]) + canonText(r["model"]) + canonText(r["field"]) + canonText(r["field"]) + canonInt(r["version"])
	if r["expression"] != "" {
		info += canonText(r["expression"])
	}
	if r["bits"] != "" {
		info += canonInt(r["bits"])
	}
	return info
}

// indexOf is an index by the standard library alone: the key of its place, and the hash of what the expression gives.
func indexOf(t testing.TB, r record) (placeKey, index []byte) {
	t.Helper()
	placeKey, err := hkdf.Expand(sha256.New, r.bytes(t, "index-key"), indexInfo(r), 32)
	if tenant, given := tenantOf(t, r); given && err == nil {
		placeKey, err = hkdf.Expand(sha256.New, placeKey, canonText("rowseal/tenant-index-key")+canonText(tenant), 32)
	}
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, placeKey)
	mac.Write(r.bytes(t, "hashed"))
	index = mac.Sum(nil)[:16]
	if r["bits"] == "" {
		return placeKey, index
	}
	for i := range index {
		for bit := range 8 {
			if 8*i+bit >= r.number(t, "bits") {
				index[i] &^= 0x80 >> bit
			}
		}
	}
	return placeKey, index[:(r.number(t, "bits")+7)/8]
}

// tenantOf is the tenant of a vector, which stands in quotes since it may be empty.
func tenantOf(t testing.TB, r record) (tenant string, given bool) {
	t.Helper()
	if r["tenant"] == "" {
		return "", false
	}
	tenant, err := strconv.Unquote(r["tenant"])
	if err != nil {
		t.Fatal(err)
	}
	return tenant, true
}

// checkIndex: the value has this index by the code, and each step of it by the standard library alone.
func checkIndex(t *testing.T, r record) {
	for label := range r {
		if label != "name" && !slices.Contains(indexLabels, label) {
			t.Fatalf("unknown label %q: nothing would hold the code to it", label)
		}
	}
	p := field.IndexPlace{Namespace: r["namespace"], Model: r["model"], Field: r["field"], Name: r["field"], Version: r.number(t, "version"), Expression: r["expression"]}
	if r["bits"] != "" {
		p.Bits = r.number(t, "bits")
	}
	tenant, given := tenantOf(t, r)
	p.Tenants = given
	k, err := indexKey(t, r.bytes(t, "index-key"), p), error(nil)
	if given {
		if k, err = k.Tenant(tenant); err != nil {
			t.Fatal(err)
		}
	}
	got, err := k.Append(nil, r.bytes(t, "plaintext"))
	if r["error"] != "" {
		if err == nil || class(t, err) != r["error"] {
			t.Errorf("got %x, %v, want %s", got, err, r["error"])
		}
		return
	}
	if err != nil || !bytes.Equal(got, r.bytes(t, "index")) {
		t.Errorf("got %x, %v, want %s", got, err, r["index"])
	}
	if info := indexInfo(r); hex.EncodeToString([]byte(info)) != r["info"] {
		t.Errorf("by its parts: info %x, want %s", info, r["info"])
	}
	placeKey, index := indexOf(t, r)
	if !bytes.Equal(placeKey, r.bytes(t, "place-key")) || !bytes.Equal(index, r.bytes(t, "index")) {
		t.Errorf("by its parts: place key %x, index %x, want %s", placeKey, index, r["index"])
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
		sub, err := hkdf.Expand(sha256.New, dek, canonText("rowseal/field-key")+canonInt("1"), 32)
		if err != nil {
			t.Fatal(err)
		}
		data := canonText("rowseal/field") + canonInt("249") + canonInt("1") + canonText(c.namespace) + canonText(c.model) + canonText(c.column) + canonInt(fmt.Sprint(c.id))
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
	return append(records, newIndexVectors(t)...)
}

// newIndexVectors: the expected bytes are not asked of package field. What an expression gives is written out by hand, and hashed as docs/format.md says.
func newIndexVectors(t *testing.T) (records [][2]string) {
	root := make([]byte, field.KeySize)
	for i := range root {
		root[i] = 0x80 + byte(i)
	}
	const (
		str, bin, num, unsigned, when, txt = "\x01", "\x02", "\x04", "\x05", "\x07", "\x08"     // kinds of section 7
		now                                = "\x00\x00\x00\x00\x6a\x74\x04\x90\x00\x00\x00\x07" // seconds, nanoseconds
	)
	for _, c := range []struct {
		name                    string
		expression, bits        string
		plaintext, hashed, fail string
		model, field, version   string // Patient, email, 1
		tenant                  string // in quotes
	}{
		{name: "a string", plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "an empty string", plaintext: str, hashed: str},
		{name: "bytes as the string of the same bytes", plaintext: bin + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "bytes that are not UTF-8", plaintext: bin + "\xff\x00\xfe", hashed: str + "\xff\x00\xfe"},
		{name: "a text as the string of the same bytes", plaintext: txt + "192.0.2.1", hashed: str + "192.0.2.1"},
		{name: "an integer", plaintext: num + "\x00\x00\x00\x00\x00\x00\x00\x05", hashed: num + "\x00\x00\x00\x00\x00\x00\x00\x05"},
		{name: "a negative integer", plaintext: num + "\xff\xff\xff\xff\xff\xff\xff\xfb", hashed: num + "\xff\xff\xff\xff\xff\xff\xff\xfb"},
		{name: "an unsigned integer as the signed one", plaintext: unsigned + "\x00\x00\x00\x00\x00\x00\x00\x05", hashed: num + "\x00\x00\x00\x00\x00\x00\x00\x05"},
		{name: "an unsigned integer of 2^63 less one", plaintext: unsigned + "\x7f\xff\xff\xff\xff\xff\xff\xff", hashed: num + "\x7f\xff\xff\xff\xff\xff\xff\xff"},
		{name: "an unsigned integer of 2^63", plaintext: unsigned + "\x80\x00\x00\x00\x00\x00\x00\x00", hashed: unsigned + "\x80\x00\x00\x00\x00\x00\x00\x00"},
		{name: "a time in UTC", plaintext: when + now + "\x00\x00\x00\x00", hashed: when + now},
		{name: "a time elsewhere as the same instant", plaintext: when + now + "\x00\x00\x0e\x10CET", hashed: when + now},
		{name: "lower", expression: "lower", plaintext: str + " ÉCOLE Straße ", hashed: str + " école straße "},
		{name: "trim", expression: "trim", plaintext: str + "\u00a0 Ada L.\t\u2003", hashed: str + "Ada L."},
		{name: "lower and trim", expression: "lower+trim", plaintext: str + " Ada@Example.ORG\n", hashed: str + "ada@example.org"},
		{name: "lower of a text that is not UTF-8", expression: "lower", plaintext: str + "ADA\xff", hashed: str + "ADA\xff"},
		{name: "lower of a text of kind 0x08", expression: "lower", plaintext: txt + "FE80::1", hashed: str + "fe80::1"},
		{name: "fold of a ligature", expression: "fold", plaintext: str + "Oﬃce", hashed: str + "office"},
		{name: "fold of a sharp s", expression: "fold", plaintext: str + "Straße", hashed: str + "strasse"},
		{name: "fold of full-width letters", expression: "fold", plaintext: str + "Ａｄａ", hashed: str + "ada"},
		{name: "fold of a letter and an accent", expression: "fold", plaintext: str + "E\u0301cole", hashed: str + "\u00e9cole"},
		{name: "digits", expression: "digits", plaintext: str + "+49 (30) 1234-٣", hashed: str + "49301234"},
		{name: "domain", expression: "domain", plaintext: str + `"a@b"@Example.ORG`, hashed: str + "example.org"},
		{name: "first3", expression: "first3", plaintext: str + "Zoë Müller", hashed: str + "Zoë"},
		{name: "last4", expression: "last4", plaintext: str + "DE02 1234", hashed: str + "1234"},
		{name: "trim once more behind a part", expression: "trim+last4", plaintext: str + "12 345 ", hashed: str + "345"},
		{name: "a function of the application's", expression: "phone.v1+digits", plaintext: str + "+4930 1", hashed: str + "301"},
		{name: "of 12 bits", bits: "12", plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of 64 bits", bits: "64", plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of an expression and 12 bits", expression: "lower+domain", bits: "12", plaintext: str + "ada@example.org", hashed: str + "example.org"},
		{name: "under the second index key", version: "2", plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of an expression and 64 bits under the second index key", version: "2", expression: "fold+trim", bits: "64", plaintext: str + " ﬁn ", hashed: str + "fin"},
		{name: "of names beyond ASCII", model: "Patientïn", field: "naïve", plaintext: str + "x", hashed: str + "x"},
		{name: "of names of 300 bytes", model: strings.Repeat("m", 300), field: strings.Repeat("f", 300), plaintext: str + "x", hashed: str + "x"},
		{name: "of a tenant", tenant: `"acme"`, plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of the empty tenant", tenant: `""`, plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of a tenant whose name is an expression", tenant: `"lower"`, plaintext: str + "ada@example.org", hashed: str + "ada@example.org"},
		{name: "of a tenant, an expression and 12 bits under the second index key", tenant: `"7"`, version: "2", expression: "lower+domain", bits: "12", plaintext: str + "ada@Example.org", hashed: str + "example.org"},
		{name: "a truth value", plaintext: "\x03\x01", fail: "ErrIndex"},
		{name: "a floating point number", plaintext: "\x06\x3f\xf0\x00\x00\x00\x00\x00\x00", fail: "ErrIndex"},
		{name: "JSON", plaintext: "\x09null", fail: "ErrIndex"},
		{name: "lower of bytes", expression: "lower", plaintext: bin + "ada", fail: "ErrIndex"},
		{name: "lower of an integer", expression: "lower", plaintext: num + "\x00\x00\x00\x00\x00\x00\x00\x05", fail: "ErrIndex"},
	} {
		r := record{"index-key": fmt.Sprintf("%x", root), "namespace": "clinic/production", "model": cmp.Or(c.model, "Patient"), "field": cmp.Or(c.field, "email"), "version": cmp.Or(c.version, "1"),
			"expression": c.expression, "bits": c.bits, "tenant": c.tenant, "plaintext": fmt.Sprintf("%x", c.plaintext), "hashed": fmt.Sprintf("%x", c.hashed), "error": c.fail}
		claim := "an index is refused: "
		if c.fail == "" {
			claim = "an index is made: "
			placeKey, index := indexOf(t, r)
			r["info"], r["place-key"], r["index"] = fmt.Sprintf("%x", indexInfo(r)), fmt.Sprintf("%x", placeKey), fmt.Sprintf("%x", index)
		}
		var lines []string
		for _, label := range indexLabels {
			if r[label] != "" {
				lines = append(lines, label+": "+r[label])
			}
		}
		records = append(records, [2]string{claim + c.name, strings.Join(lines, "\n")})
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
