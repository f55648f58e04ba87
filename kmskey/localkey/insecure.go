// insecure.go owns the test keys, whose bytes are public.

package localkey

// insecureKey is 32 bytes that everybody knows, which is why they are words.
const insecureKey = "PUBLIC INSECURE: rowseal testkey"

// NewInsecure gives a provider under a fixed key that is printed in this file: whoever has the rows has their plaintext.
// It is for tests and examples that must run anywhere and give the same result twice. Its service is "insecure-test", so
// that rows sealed with it are told apart: `encrypted_kms_key` of a production table must never name it.
func NewInsecure() *Provider {
	p, err := build(ServiceInsecure, []byte(insecureKey))
	if err != nil {
		panic("localkey: internal error: " + err.Error())
	}
	return p
}

// NewInsecureEncryptOnly is [NewInsecure] for tests of services that may write and not read: it wraps, and refuses to
// unwrap with [kmskey.ErrDenied], as a key service does where only Encrypt is granted. NewInsecure unwraps what it wrapped.
func NewInsecureEncryptOnly() *Provider {
	p := NewInsecure()
	p.denyUnwrap = true
	return p
}
