// fake_test.go owns a transit engine for the tests of this module: strict about what it is sent, and no judge of what Vault does.
// integration/transit asks Vault's own engine.

package vaulttransit_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// fake has keys by name. Each of its keys is derived, and has the versions that it has secrets for.
type fake struct {
	*httptest.Server
	t     testing.TB
	calls atomic.Int64

	mu     sync.Mutex
	keys   map[string][][]byte
	denied map[string]string // the endpoint that a token may not use
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newFake(t testing.TB, keys ...string) *fake {
	f := &fake{t: t, keys: map[string][][]byte{}, denied: map[string]string{}}
	for _, key := range keys {
		f.rotate(key)
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) rotate(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	secret := make([]byte, 32)
	rand.Read(secret)
	f.keys[key] = append(f.keys[key], secret)
}

func (f *fake) breakWith(before func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

// caller is a Caller over net/http alone.
func (f *fake) caller(token string) vaulttransit.Caller {
	return func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		method, body := http.MethodGet, []byte(nil)
		if in != nil {
			var err error
			method = http.MethodPut
			if body, err = json.Marshal(in); err != nil {
				return nil, err
			}
		}
		req, err := http.NewRequestWithContext(ctx, method, f.URL+"/v1/"+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := f.Client().Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = resp.Body.Close() }()
		var answer struct {
			Data   map[string]any
			Errors []string
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			return nil, &vaulttransit.StatusError{Status: resp.StatusCode, Messages: answer.Errors}
		}
		return answer.Data, nil
	}
}

// request is every parameter that the provider may send. Another one fails the test.
type request struct {
	item
	Type    *string `json:"type"`
	Batch   []item  `json:"batch_input"`
	Partial *int    `json:"partial_failure_response_code"`
}

type item struct {
	Plaintext  *string `json:"plaintext"`
	Ciphertext *string `json:"ciphertext"`
	Context    *string `json:"context"`
	Reference  string  `json:"reference"`
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.calls.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	f.mu.Lock()
	before, denied := f.before, f.denied[r.Header.Get("X-Vault-Token")]
	f.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	parts := strings.Split(r.URL.Path, "/") // "", v1, transit, endpoint, key
	if len(parts) != 5 || parts[1] != "v1" || parts[2] != "transit" {
		f.answer(w, 404, nil, "no handler for route")
		return
	}
	endpoint, key := parts[3], parts[4]
	if endpoint == denied {
		f.answer(w, 403, nil, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	f.mu.Lock()
	versions := f.keys[key]
	f.mu.Unlock()
	if r.Method == http.MethodGet {
		if endpoint != "keys" || versions == nil {
			f.answer(w, 404, nil)
			return
		}
		f.answer(w, 200, map[string]any{"type": "aes256-gcm96", "derived": true})
		return
	}
	var req request
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil || r.Method != http.MethodPut {
		f.t.Errorf("%s %s: %s: %v", r.Method, r.URL.Path, body, err)
		return
	}
	if (endpoint == "encrypt") != (req.Type != nil) {
		f.t.Errorf("%s: %s: encrypt must say that it makes no key", endpoint, body)
	}
	if (req.Batch != nil && endpoint != "rewrap") != (req.Partial != nil && *req.Partial == 200) {
		f.t.Errorf("%s: %s: a batch must ask for its good items", endpoint, body)
	}
	switch {
	case versions == nil && endpoint == "encrypt":
		f.answer(w, 400, nil, "unknown key type "+*req.Type)
		return
	case versions == nil:
		f.answer(w, 400, nil, "encryption key not found")
		return
	case req.Batch == nil:
		out, err := serve(endpoint, versions, req.item)
		if err != nil {
			f.answer(w, 400, nil, err.Error())
			return
		}
		f.answer(w, 200, out)
		return
	}
	var results []map[string]any
	good := 0
	for _, in := range req.Batch {
		out, err := serve(endpoint, versions, in)
		if err != nil {
			out = map[string]any{"error": err.Error()}
		} else {
			good++
		}
		out["reference"] = in.Reference
		results = append(results, out)
	}
	if good == 0 && endpoint != "rewrap" {
		f.answer(w, 400, nil)
		return
	}
	f.answer(w, 200, map[string]any{"batch_results": results})
}

func (f *fake) answer(w http.ResponseWriter, status int, data map[string]any, errs ...string) {
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(map[string]any{"data": data, "errors": errs}); err != nil {
		f.t.Log(err) // a client that went away
	}
}

func serve(endpoint string, versions [][]byte, in item) (map[string]any, error) {
	if in.Context == nil || *in.Context == "" {
		return nil, fmt.Errorf("missing 'context' for key derivation")
	}
	ec, err := base64.StdEncoding.DecodeString(*in.Context)
	if err != nil {
		return nil, err
	}
	if endpoint == "encrypt" {
		plaintext, err := base64.StdEncoding.DecodeString(*in.Plaintext)
		if err != nil {
			return nil, err
		}
		return map[string]any{"ciphertext": encrypt(versions, plaintext, ec)}, nil
	}
	version, encoded, _ := strings.Cut(strings.TrimPrefix(*in.Ciphertext, "vault:v"), ":")
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 || n > len(versions) {
		return nil, fmt.Errorf("invalid ciphertext: version is too new")
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("invalid ciphertext: could not decode base64")
	}
	plaintext, err := derive(versions[n-1], ec).Open(nil, nil, data, nil)
	if err != nil {
		return nil, err
	}
	if endpoint == "rewrap" {
		return map[string]any{"ciphertext": encrypt(versions, plaintext, ec)}, nil
	}
	return map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plaintext)}, nil
}

func encrypt(versions [][]byte, plaintext, ec []byte) string {
	data := derive(versions[len(versions)-1], ec).Seal(nil, nil, plaintext, nil)
	return fmt.Sprintf("vault:v%d:%s", len(versions), base64.StdEncoding.EncodeToString(data))
}

func derive(secret, ec []byte) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, secret, nil, string(ec), 32)
	if err != nil {
		panic(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}
