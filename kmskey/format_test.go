// format_test.go holds docs/format.md to the code: every example in its sections 2 and 11 is checked, and none may be missing.

package kmskey_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/kmskey"
)

var (
	exampleLine = regexp.MustCompile(`^    (\S.*?)   +([0-9a-f ]+|r?[sv][0-9]+:\S+)$`)
	moreLine    = regexp.MustCompile(`^ {20,}([0-9a-f ]+)$`)
)

// readExamples gives the examples by label: the bytes of hexadecimal ones, and others as they stand.
func readExamples(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := make(map[string][]byte)
	section, label := "", ""
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section, _, _ = strings.Cut(heading, ".")
			label = ""
		}
		if section != "2" && section != "11" || !strings.HasPrefix(line, "    ") {
			continue
		}
		line, _, _ = strings.Cut(line, " --")
		line = strings.TrimRight(line, " \n")
		value := line
		if m := exampleLine.FindStringSubmatch(line); m != nil {
			label, value = m[1], m[2]
			if examples[label] != nil {
				t.Fatalf("two examples are called %q", label)
			}
		} else if m := moreLine.FindStringSubmatch(line); m != nil && label != "" {
			value = m[1]
		} else {
			t.Fatalf("not an example that can be checked: %q", line)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(value, " ", ""))
		if err != nil {
			b = []byte(value)
		}
		examples[label] = append(examples[label], b...)
	}
	return examples
}

// stub gives its data key for everything.
type stub struct{ dek kmskey.DEK }

func (stub) Wrap(context.Context, kmskey.DEK, kmskey.Context) (kmskey.Wrapped, error) {
	return kmskey.Wrapped{Service: "test", KeyRef: "example", Blob: []byte("***")}, nil
}
func (s stub) Unwrap(context.Context, kmskey.Wrapped, kmskey.Context) (kmskey.DEK, error) {
	return kmskey.DEKFromBytes(s.dek.Bytes())
}

func tuple(values ...kmskey.Value) (b []byte) {
	for _, v := range values {
		b = canon.Append(b, v)
	}
	return b
}

func expand(t *testing.T, dek, info []byte) []byte {
	t.Helper()
	out, err := hkdf.Expand(sha256.New, dek, string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFormat_every_example_is_what_the_code_does(t *testing.T) {
	examples := readExamples(t)

	raw := make([]byte, kmskey.DEKSize)
	for i := range raw {
		raw[i] = byte(i)
	}
	dek, err := kmskey.DEKFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	row := patient(42)
	pairs, _ := row.Context(1)
	fieldKeyInfo := tuple(kmskey.Text("rowseal/field-key"), kmskey.Int(1))
	commitmentInfo := tuple(kmskey.Text("rowseal/commitment"), kmskey.Int(1), kmskey.Int(1), kmskey.Text("clinic/test"),
		kmskey.Text("Patient"), kmskey.Text("encrypted_kms_key"), kmskey.Int(42))
	data := tuple(kmskey.Text("rowseal/field"), kmskey.Int(0xF9), kmskey.Int(1), kmskey.Text("clinic/test"), kmskey.Text("Patient"), kmskey.Text("email"), kmskey.Int(1))
	codec, err := field.CodecFor(reflect.TypeFor[string](), false)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, _, err := codec.Append(nil, reflect.ValueOf("Ada"))
	if err != nil {
		t.Fatal(err)
	}
	k := keyring(t, 1, stub{dek})
	envelope := wrap(t, k, kmskey.DataKey{ID: 1, DEK: dek}, row).String()
	body, err := base64.RawStdEncoding.DecodeString(strings.TrimPrefix(envelope, "v1:"))
	if err != nil {
		t.Fatal(err)
	}

	hash := sha256.Sum256(newContext(t, pairs...).Canonical())
	report := newContext(t, kmskey.Pair{Name: "report", Value: kmskey.Int(7)})
	boxCommitmentInfo, boxKeyInfo, boxData := boxTuples("clinic/test", "reports", 1, report)
	// But for the commitment it is the row's.
	boxBody := bytes.Replace(body, expand(t, raw, commitmentInfo), expand(t, raw, boxCommitmentInfo), 1)
	boxEnvelope := rawText("v1:", string(boxBody))

	want := map[string][]byte{
		`("ab", 1)`:       tuple(kmskey.Text("ab"), kmskey.Int(1)),
		"context":         newContext(t, pairs...).Canonical(),
		"data key":        raw,
		"field key info":  fieldKeyInfo,
		"field key":       expand(t, raw, fieldKeyInfo),
		"commitment info": commitmentInfo,
		"commitment":      expand(t, raw, commitmentInfo),
		"plaintext":       plaintext,
		"associated data": data,
		"sealed":          examples["sealed"], // random; opened below
		"sealed as text":  field.AppendText(nil, examples["sealed"]),
		"payload":         slices.Concat(raw, hash[:]), // azurekv's own tests hold it to these bytes
		"body":            body,
		"envelope":        []byte(envelope),

		"box context":         report.Canonical(),
		"box key info":        boxKeyInfo,
		"box key":             expand(t, raw, boxKeyInfo),
		"box commitment info": boxCommitmentInfo,
		"box commitment":      expand(t, raw, boxCommitmentInfo),
		"box associated data": boxData,
		"message":             examples["message"], // random; opened below
		"sealed message":      []byte(boxEnvelope + "." + base64.RawStdEncoding.EncodeToString(examples["message"])),
	}
	for label, b := range want {
		if got := examples[label]; len(got) == 0 {
			t.Errorf("docs/format.md has no example %q", label)
		} else if !bytes.Equal(got, b) {
			t.Errorf("docs/format.md: %q is\n%x\n%s, and the code has\n%x\n%s", label, got, got, b, b)
		}
	}
	for label := range examples {
		if want[label] == nil {
			t.Errorf("docs/format.md: nothing checks the example %q", label)
		}
	}
	if t.Failed() {
		return
	}

	key, err := field.NewKey(raw, 1)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := key.Open(nil, field.NewPlace("clinic/test", "Patient", "email"), examples["sealed"]); err != nil || !bytes.Equal(plain, plaintext) {
		t.Errorf("the sealed field opens as %x, %v", plain, err)
	}
	if plain := gcmOpen(t, examples["field key"], examples["sealed"][3:], examples["associated data"]); !bytes.Equal(plain, plaintext) {
		t.Errorf("by the parts in the document, it opens as %x", plain)
	}
	e, err := kmskey.ParseEnvelope(string(examples["envelope"]))
	if err != nil {
		t.Fatal(err)
	}
	opens(t, k, e, row, kmskey.DataKey{ID: 1, DEK: dek})
	opensTo(t, box(t, k, "reports"), string(examples["sealed message"]), "hello", kmskey.Pair{Name: "report", Value: kmskey.Int(7)})
	if plain := gcmOpen(t, examples["box key"], examples["message"][3:], examples["box associated data"]); string(plain) != "hello" {
		t.Errorf("by the parts in the document, the message opens as %x", plain)
	}
}
