// vectors_test.go owns testdata/vectors.txt: envelopes and sealed messages that every release must read as the first one did. The file is
// append-only.
// To add records, write the claim in newVectors and run
//
//	go test ./kmskey -run TestVectors -update-vectors
//
// The wraps are those of testProvider, which hides nothing.

package kmskey_test

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/kmskey"
)

var updateVectors = flag.Bool("update-vectors", false, "append the new records of newVectors to testdata/vectors.txt")

const vectorsFile = "testdata/vectors.txt"

// The first releasedSize bytes are the beginning of the file that must never change. Move it forward with each release, never back.
const (
	releasedSize   = 22256
	releasedSHA256 = "3da08fed67f6c0ef81419d8c51d159b9313bafe20b973326352095c974a05c6e"
)

// record is one vector: lines of "key: value", where a key may stand several times.
type record map[string][]string

func (r record) get(key string) string {
	if v := r[key]; len(v) > 0 {
		return v[0]
	}
	return ""
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
			if !ok {
				t.Fatalf("%s: bad line %q", vectorsFile, line)
			}
			r[key] = append(r[key], strings.TrimPrefix(value, " "))
		}
		if len(r) == 0 {
			continue
		}
		if r.get("name") == "" || names[r.get("name")] {
			t.Fatalf("%s: a record has no name of its own: %q", vectorsFile, r.get("name"))
		}
		names[r.get("name")] = true
		all = append(all, r)
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", vectorsFile)
	}
	return all
}

// parseValue reads "int 42", "text Patient", "uuid 123e…", "bytes 00ff" and "bool true".
func parseValue(t testing.TB, s string) kmskey.Value {
	t.Helper()
	kind, text, _ := strings.Cut(s, " ")
	b, hexErr := hex.DecodeString(text)
	i, intErr := strconv.ParseInt(text, 10, 64)
	u, uintErr := strconv.ParseUint(text, 10, 64)
	switch {
	case kind == "text":
		return kmskey.Text(text)
	case kind == "int" && intErr == nil:
		return kmskey.Int(i)
	case kind == "int" && uintErr == nil:
		return kmskey.Uint(u)
	case kind == "uuid":
		if v, ok := canon.ParseUUID(text); ok {
			return v
		}
	case kind == "bytes" && hexErr == nil:
		return kmskey.Bytes(b)
	case kind == "bool":
		return kmskey.Bool(text == "true")
	}
	t.Fatalf("bad value %q", s)
	return kmskey.Value{}
}

// row is the record's row: model, key, id lines, context lines "name = value" and unbound.
func (r record) row(t testing.TB) kmskey.Row {
	row := kmskey.Row{Model: r.get("model"), Key: r.get("key"), Unbound: r.get("unbound") == "true"}
	for _, s := range r["id"] {
		row.ID = append(row.ID, parseValue(t, s))
	}
	var own []kmskey.Pair
	for _, s := range r["context"] {
		name, value, _ := strings.Cut(s, " = ")
		own = append(own, kmskey.Pair{Name: name, Value: parseValue(t, value)})
	}
	row.Context = pairs(own...)
	return row
}

var kinds = map[string]error{
	"ErrCorrupt": kmskey.ErrCorrupt, "ErrPending": kmskey.ErrPending, "ErrUnknownVersion": kmskey.ErrUnknownVersion, "ErrCommitment": kmskey.ErrCommitment,
	"ErrContextMismatch": kmskey.ErrContextMismatch, "ErrForeignKey": kmskey.ErrForeignKey, "ErrNotAuthentic": kmskey.ErrNotAuthentic,
}

// vectorKeyring has versions 1 to 3, each with a testProvider of its own.
func vectorKeyring(t testing.TB, current int, namespace string, blind bool) *kmskey.Keyring {
	t.Helper()
	cfg := kmskey.Config{Current: current, Namespace: namespace, Versions: make(map[int]kmskey.Version)}
	for n := 1; n <= 3; n++ {
		cfg.Versions[n] = kmskey.Version{Provider: &testProvider{ref: fmt.Sprint("key-", n), blind: blind}}
	}
	k, err := kmskey.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestVectors(t *testing.T) {
	if *updateVectors {
		appendVectors(t)
	}
	counts := make(map[bool]int)
	for _, r := range readVectors(t) {
		counts[r["error"] != nil]++
		t.Run(r.get("name"), func(t *testing.T) {
			if r["box"] != nil {
				checkMessage(t, r)
			} else {
				checkEnvelope(t, r)
			}
		})
	}
	if counts[true] == 0 || counts[false] == 0 {
		t.Errorf("%d vectors that open and %d that do not", counts[false], counts[true])
	}
}

func checkEnvelope(t *testing.T, r record) {
	want := r.get("error")
	e, err := kmskey.ParseEnvelope(r.get("envelope"))
	if err != nil {
		if want == "" || !errors.Is(err, kinds[want]) {
			t.Errorf("got %v, want %q", err, want)
		}
		return
	}
	if e.String() != r.get("envelope") {
		t.Errorf("encodes to %s", e)
	}
	row := r.row(t)
	got, err := vectorKeyring(t, 1, r.get("namespace"), r.get("blind") == "true").Unwrap(t.Context(), e, row)
	if want != "" {
		if got != nil || kinds[want] == nil || !errors.Is(err, kinds[want]) {
			t.Errorf("got %v, %v, want %s", got, err, want)
		}
		return
	}
	if err != nil || len(got) != len(r["dek"]) || len(got) != len(r["number"]) || len(got) != len(r["commitment"]) {
		t.Fatalf("%d keys, %v", len(got), err)
	}
	for i, key := range got {
		if hex.EncodeToString(key.DEK.Bytes()) != r["dek"][i] || fmt.Sprint(key.ID) != r["number"][i] {
			t.Errorf("key %d is another, or has another number", i)
		}
		// The commitment, from what goes into it and as it stands in the text.
		info, err := hex.DecodeString(r["commitment-info"][i])
		if err != nil {
			t.Fatal(err)
		}
		commitment, err := hkdf.Expand(sha256.New, key.DEK.Bytes(), string(info), 32)
		if err != nil || hex.EncodeToString(commitment) != r["commitment"][i] {
			t.Errorf("commitment %x, %v", commitment, err)
		}
		body, err := base64.RawStdEncoding.DecodeString(r.get("envelope")[strings.Index(r.get("envelope"), ":")+1:])
		if err != nil || !strings.Contains(hex.EncodeToString(body), r["commitment"][i]) {
			t.Error("the commitment is not in the envelope")
		}
	}
	own, err := row.Context(1)
	if err != nil {
		t.Fatal(err)
	}
	if ec := newContext(t, own...); hex.EncodeToString(ec.Canonical()) != r.get("canonical-context") {
		t.Errorf("context %x", ec.Canonical())
	}
}

// checkMessage opens a message of a box, and once more by hand from what stands beside it.
func checkMessage(t *testing.T, r record) {
	b := box(t, vectorKeyring(t, 1, r.get("namespace"), r.get("blind") == "true"), r.get("box"))
	own, err := r.row(t).Context(1)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.get("error"); want != "" {
		if kinds[want] == nil {
			t.Fatalf("unknown error %q", want)
		}
		closed(t, b, r.get("sealed"), kinds[want], own...)
		return
	}
	value := func(key string) []byte {
		b, err := hex.DecodeString(r.get(key))
		if err != nil || r[key] == nil {
			t.Fatalf("%s: %v", key, err)
		}
		return b
	}
	opensTo(t, b, r.get("sealed"), string(value("message")), own...)
	envelope, text, _ := strings.Cut(r.get("sealed"), ".")
	body, err := base64.RawStdEncoding.DecodeString(envelope[strings.Index(envelope, ":")+1:])
	if commitment := expand(t, value("dek"), value("commitment-info")); err != nil || !bytes.Equal(commitment, value("commitment")) || !bytes.Contains(body, commitment) {
		t.Errorf("commitment %x, %v", commitment, err)
	}
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || !bytes.Equal(raw[:2], []byte{0xFB, 1}) {
		t.Fatalf("%x, %v", raw, err)
	}
	if message := gcmOpen(t, expand(t, value("dek"), value("key-info")), raw[3:], value("associated-data")); !bytes.Equal(message, value("message")) {
		t.Errorf("by hand it opens as %x", message)
	}
	commitmentInfo, keyInfo, data := boxTuples(r.get("namespace"), r.get("box"), raw[2], newContext(t, own...))
	if !bytes.Equal(commitmentInfo, value("commitment-info")) || !bytes.Equal(keyInfo, value("key-info")) || !bytes.Equal(data, value("associated-data")) {
		t.Error("what it is derived from is not what docs/format.md says")
	}
}

func gcmOpen(t *testing.T, key, body, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, nil, body, data)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// newVectors makes the records that are not in the file yet: lines, in order.
func newVectors(t *testing.T) (records [][2]string) {
	add := func(name string, lines ...string) {
		records = append(records, [2]string{name, strings.Join(lines, "\n")})
	}
	dek := func(n byte) kmskey.DEK {
		b := make([]byte, 32)
		for i := range b {
			b[i] = byte(i) + n
		}
		d, err := kmskey.DEKFromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	read := func(lines []string) (r record) {
		r = record{}
		for _, line := range lines {
			key, value, _ := strings.Cut(line, ": ")
			r[key] = append(r[key], value)
		}
		return r
	}
	patient := []string{"model: Patient", "key: encrypted_kms_key", "id: int 42", "context: model_name = text Patient", "context: model_id = int 42"}
	type sealed struct {
		number  byte
		version int
	}
	var first, unbound, blind string
	for _, c := range []struct {
		name, namespace string
		row             []string
		keys            []sealed
		oldest          int
		blind           bool
	}{
		{"one key", "clinic/production", patient, []sealed{{1, 1}}, 1, false},
		{"a later version", "clinic/production", patient, []sealed{{1, 3}}, 3, false},
		{"no namespace", "", patient, []sealed{{1, 1}}, 1, false},
		{"the greatest number", "clinic/production", patient, []sealed{{255, 1}}, 1, false},
		{"a composite primary key of all types", "clinic/production", []string{"model: Visit", "key: encrypted_kms_key_phone",
			"id: int -1", "id: int 18446744073709551615", "id: text Zürich", "id: uuid 123e4567-e89b-12d3-a456-4266141740ff", "id: bytes 00ff", "id: bool true",
			"context: tenant_id = uuid 123e4567-e89b-12d3-a456-4266141740ff", "context: b = bytes 00ff", "context: c = bool false", "context: a = text "}, []sealed{{1, 1}}, 1, false},
		{"no context", "clinic/production", []string{"model: Patient", "key: encrypted_kms_key", "id: int 42"}, []sealed{{1, 1}}, 1, false},
		{"an unbound row", "clinic/production", []string{"model: Visit", "key: encrypted_kms_key", "id: int 42", "unbound: true", "context: model_name = text Visit"}, []sealed{{1, 1}}, 1, false},
		{"a ring of two versions", "clinic/production", patient, []sealed{{1, 1}, {2, 2}}, 1, false},
		{"a ring of four whose oldest version is second", "clinic/production", patient, []sealed{{4, 3}, {9, 2}, {7, 3}, {200, 3}}, 2, false},
		{"a service that authenticates no context", "clinic/production", patient, []sealed{{1, 1}}, 1, true},
	} {
		lines := append([]string{"namespace: " + c.namespace}, c.row...)
		if c.blind {
			lines = append(lines, "blind: true")
		}
		row := read(lines).row(t)
		var envelopes []kmskey.Envelope
		for i, s := range c.keys {
			key := kmskey.DataKey{ID: s.number, DEK: dek(byte(i))}
			envelopes = append(envelopes, wrap(t, vectorKeyring(t, s.version, c.namespace, c.blind), key, row))
			info := canon.AppendText(nil, "rowseal/commitment")
			for _, v := range []kmskey.Value{kmskey.Int(1), kmskey.Int(int64(s.number)), kmskey.Text(c.namespace), kmskey.Text(row.Model), kmskey.Text(row.Key)} {
				info = canon.Append(info, v)
			}
			for _, v := range row.ID {
				if !row.Unbound {
					info = canon.Append(info, v)
				}
			}
			commitment, err := hkdf.Expand(sha256.New, key.DEK.Bytes(), string(info), 32)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("number: %d", s.number), fmt.Sprintf("dek: %x", key.DEK.Bytes()), fmt.Sprintf("commitment-info: %x", info), fmt.Sprintf("commitment: %x", commitment))
		}
		own, _ := row.Context(1)
		e := join(t, c.oldest, envelopes...).String()
		switch {
		case first == "":
			first = e
		case row.Unbound:
			unbound = e
		case c.blind:
			blind = e
		}
		add("an envelope opens: "+c.name, append(lines, fmt.Sprintf("canonical-context: %x", newContext(t, own...).Canonical()), "envelope: "+e)...)
	}
	change := func(old, new string) []string {
		lines := append([]string{"namespace: clinic/production"}, patient...)
		for i := range lines {
			lines[i] = strings.Replace(lines[i], old, new, 1)
		}
		return lines
	}
	for _, c := range []struct {
		name     string
		lines    []string
		envelope string
		err      string
	}{
		{"in another row", change("int 42", "int 43"), first, "ErrContextMismatch"},
		{"in another row, where the service authenticates no context", append(change("int 42", "int 43"), "blind: true"), blind, "ErrCommitment"},
		{"in a row whose id is text, where the service authenticates no context", append(change("id: int 42", "id: text 42"), "blind: true"), blind, "ErrCommitment"},
		{"in another model, where the service authenticates no context", append(change("model: Patient", "model: Doctor"), "blind: true"), blind, "ErrCommitment"},
		{"in another key column, where the service authenticates no context", append(change("key: encrypted_kms_key", "key: other"), "blind: true"), blind, "ErrCommitment"},
		{"in another namespace", change("production", "staging"), first, "ErrCommitment"},
		{"in a model whose rows must be bound", []string{"namespace: clinic/production", "model: Visit", "key: encrypted_kms_key", "id: int 42", "context: model_name = text Visit"}, unbound, "ErrCommitment"},
		{"under a version that is not listed", change("", ""), rawText("v9:", "\x01\x00\x01", good(9)), "ErrUnknownVersion"},
		{"under a key that is not configured", change("", ""), rawText("v1:", "\x01\x00\x01", good(1)), "ErrForeignKey"},
		{"as the token of a row being inserted", nil, "pending:AAAAAAAAAAAAAAAAAAAAAA", "ErrPending"},
	} {
		add("an envelope is refused: "+c.name, append(slices.Clone(c.lines), "envelope: "+c.envelope, "error: "+c.err)...)
	}
	for _, c := range corrupt {
		if len(c.text) < 4<<10 && !strings.Contains(c.text, "\n") && strings.TrimSpace(c.text) == c.text {
			add("an envelope is corrupt: "+c.name, "envelope: "+c.text, "error: ErrCorrupt")
		}
	}
	boxVectors(t, add, read)
	return records
}

// boxVectors adds sealed messages, whose data keys and nonces are random.
func boxVectors(t *testing.T, add func(string, ...string), read func([]string) record) {
	report := []string{"context: report = int 7"}
	var first, second string
	for _, c := range []struct {
		name, namespace, box string
		version              int
		context              []string
		message              string
	}{
		{"a short message", "clinic/production", "reports", 1, report, "the message"},
		{"another one under the same context", "clinic/production", "reports", 1, report, "another one"},
		{"an empty message", "clinic/production", "reports", 1, report, ""},
		{"a later version", "clinic/production", "reports", 3, report, "the message"},
		{"no namespace", "", "reports", 1, report, "the message"},
		{"no context", "clinic/production", "reports", 1, nil, "the message"},
		{"a name beyond ASCII and a context of all types", "clinic/production", "Berichte / Zürich", 1, []string{"context: a = int -1",
			"context: b = text Zürich", "context: c = uuid 123e4567-e89b-12d3-a456-4266141740ff", "context: d = bytes 00ff", "context: e = bool true"}, "\x00\xff"},
	} {
		lines := append([]string{"namespace: " + c.namespace, "box: " + c.box}, c.context...)
		own, _ := read(lines).row(t).Context(1)
		p := &recorder{testProvider: testProvider{ref: fmt.Sprint("key-", c.version)}}
		k, err := kmskey.New(kmskey.Config{Namespace: c.namespace, Versions: map[int]kmskey.Version{c.version: {Provider: p}}})
		if err != nil {
			t.Fatal(err)
		}
		sealed := seal(t, box(t, k, c.box), c.message, own...)
		commitment, key, data := boxTuples(c.namespace, c.box, 1, newContext(t, own...))
		add("a sealed message opens: "+c.name, append(lines, fmt.Sprintf("dek: %x", p.dek), fmt.Sprintf("commitment-info: %x", commitment),
			fmt.Sprintf("commitment: %x", expand(t, p.dek, commitment)), fmt.Sprintf("key-info: %x", key), fmt.Sprintf("associated-data: %x", data),
			fmt.Sprintf("message: %x", c.message), "sealed: "+sealed)...)
		if first == "" {
			first = sealed
		} else {
			second = cmp.Or(second, sealed)
		}
	}
	envelope, text, _ := strings.Cut(first, ".")
	_, other, _ := strings.Cut(second, ".")
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	alter := func(i int, b byte) string {
		altered := slices.Clone(raw)
		altered[i] = b
		return envelope + "." + base64.RawStdEncoding.EncodeToString(altered)
	}
	var row string // a row's, in the place of a box's
	for _, r := range readVectors(t) {
		if row == "" {
			row = r.get("envelope")
		}
	}
	for _, c := range []struct{ name, namespace, box, context, sealed, err string }{
		{"under another context", "clinic/production", "reports", "report = int 8", first, "ErrContextMismatch"},
		{"in another box", "clinic/production", "exports", "report = int 7", first, "ErrCommitment"},
		{"in another namespace", "clinic/staging", "reports", "report = int 7", first, "ErrCommitment"},
		{"behind another envelope", "clinic/production", "reports", "report = int 7", envelope + "." + other, "ErrNotAuthentic"},
		{"altered", "clinic/production", "reports", "report = int 7", alter(len(raw)-1, raw[len(raw)-1]^1), "ErrNotAuthentic"},
		{"with a later format", "clinic/production", "reports", "report = int 7", alter(0, 0xFC), "ErrCorrupt"},
		{"with the format of fields", "clinic/production", "reports", "report = int 7", alter(0, 0xF9), "ErrCorrupt"},
		{"with a later suite", "clinic/production", "reports", "report = int 7", alter(1, 2), "ErrCorrupt"},
		{"with the number of another data key", "clinic/production", "reports", "report = int 7", alter(2, 2), "ErrCorrupt"},
		{"cut short", "clinic/production", "reports", "report = int 7", envelope + "." + base64.RawStdEncoding.EncodeToString(raw[:30]), "ErrCorrupt"},
		{"without a message", "clinic/production", "reports", "report = int 7", envelope, "ErrCorrupt"},
		{"with padding", "clinic/production", "reports", "report = int 7", first + "==", "ErrCorrupt"},
		{"behind a row's envelope", "clinic/production", "reports", "model_name = text Patient\ncontext: model_id = int 42", row + "." + text, "ErrCommitment"},
		{"behind a ring", "clinic/production", "reports", "report = int 7", rawText("v1:", "\x01\x00\x02", good(1), rawKey(2, 1, 1, 1, 1, goodWrap)) + "." + text, "ErrCorrupt"},
		{"behind an unbound envelope", "clinic/production", "reports", "report = int 7", rawText("v1:", "\x01\x01\x01", good(1)) + "." + text, "ErrCorrupt"},
	} {
		add("a sealed message is refused: "+c.name, "namespace: "+c.namespace, "box: "+c.box, "context: "+c.context, "sealed: "+c.sealed, "error: "+c.err)
	}
}

// appendVectors writes what newVectors has and the file has not. It never rewrites.
func appendVectors(t *testing.T) {
	have := make(map[string]bool)
	if _, err := os.Stat(vectorsFile); err == nil {
		for _, r := range readVectors(t) {
			have[r.get("name")] = true
		}
	}
	f, err := os.OpenFile(vectorsFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(have) == 0 {
		fmt.Fprint(f, "# Envelopes of docs/format.md, sections 3 to 5, wrapped by the test provider. Append-only: see vectors_test.go.\n")
	}
	for _, r := range newVectors(t) {
		if !have[r[0]] {
			if _, err := f.WriteString(strings.ReplaceAll("\nname: "+r[0]+"\n"+r[1]+"\n", " \n", "\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
}
