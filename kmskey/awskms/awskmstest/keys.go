// keys.go owns what a key is: its state, its material, its ciphertexts, and the names under which it is found.

package awskmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The states of a key, as DescribeKey names them.
const (
	enabled         = "Enabled"
	disabled        = "Disabled"
	pendingDeletion = "PendingDeletion"
)

// key is one KMS key. Its fields are guarded by the server's lock.
type key struct {
	id, arn, region, account string
	description              string
	state                    string
	created, deletion        time.Time
	replica                  bool // of a multi-Region key
	// material is one AES-256-GCM per rotation, oldest first; the last encrypts, and each ciphertext names its own. Related
	// multi-Region keys share it.
	material *[]cipher.AEAD
	management
}

func (s *Server) newKey(account, region, description string) *key {
	return s.addKey(account, region, newKeyID(), description)
}

func newKeyID() string {
	h := randomHex(16)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}

func (s *Server) addKey(account, region, id, description string) *key {
	k := &key{
		id: id, region: region, account: account, description: description, state: enabled, created: s.now(),
		arn: "arn:" + partition(region) + ":kms:" + region + ":" + account + ":key/" + id, material: new([]cipher.AEAD),
	}
	k.rotate()
	s.keys[k.arn] = k
	return k
}

func (k *key) rotate() {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails
	block, err := aes.NewCipher(raw)
	if err != nil {
		panic("awskmstest: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("awskmstest: internal error: " + err.Error())
	}
	*k.material = append(*k.material, aead)
}

// usable is the error of using a key that may not be used.
func (k *key) usable() error {
	switch k.state {
	case disabled:
		return &Fault{Code: "DisabledException", Message: k.arn + " is disabled."}
	case pendingDeletion:
		return &Fault{Code: "KMSInvalidStateException", Message: k.arn + " is pending deletion."}
	}
	return nil
}

// A ciphertext is a mark, the key's id, the number of its material, and nonce, ciphertext and tag. Callers must not look.
const (
	blobMark    = 0xA7
	blobMarkMRK = 0xA8 // the id begins with mrk-
)

const blobHeader = 1 + 16 + 4

func (k *key) seal(plaintext []byte, ec map[string]string) []byte {
	n, mark := len(*k.material), byte(blobMark)
	if k.multiRegion() {
		mark = blobMarkMRK
	}
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(k.id, mrk), "-", ""))
	if err != nil {
		panic("awskmstest: internal error: " + err.Error())
	}
	header := binary.BigEndian.AppendUint32(append([]byte{mark}, id...), uint32(n))
	return (*k.material)[n-1].Seal(header, nil, plaintext, k.aad(n, ec))
}

func (k *key) open(blob []byte, ec map[string]string) ([]byte, bool) {
	n := int(binary.BigEndian.Uint32(blob[17:blobHeader]))
	if n < 1 || n > len(*k.material) {
		return nil, false
	}
	plaintext, err := (*k.material)[n-1].Open(nil, nil, blob[blobHeader:], k.aad(n, ec))
	return plaintext, err == nil
}

// aad is the key's ARN, of multi-Region keys the account and id, the number of its material, and the context sorted by name, each with
// its length.
func (k *key) aad(n int, ec map[string]string) []byte {
	put := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) }
	name := k.arn
	if k.multiRegion() {
		name = k.account + ":" + k.id
	}
	b := binary.BigEndian.AppendUint32(put(nil, name), uint32(n))
	for _, name := range slices.Sorted(maps.Keys(ec)) {
		b = put(put(b, name), ec[name])
	}
	return b
}

// blobKeyID is the id of the key that a ciphertext says it lies under.
func blobKeyID(blob []byte) (string, bool) {
	if len(blob) < blobHeader+12+16 || blob[0] != blobMark && blob[0] != blobMarkMRK {
		return "", false
	}
	h := hex.EncodeToString(blob[1:17])
	if blob[0] == blobMarkMRK {
		return mrk + h, true
	}
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:], true
}

var (
	regionForm  = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	aliasForm   = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
)

func isRegion(s string) bool  { return regionForm.MatchString(s) }
func isAccount(s string) bool { return accountForm.MatchString(s) }

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// find resolves a key id, a key ARN, an alias name or an alias ARN in the caller's account and region, as AWS does.
func (s *Server) find(c caller, id string) (*key, error) {
	notFound := func(format string, args ...any) error {
		return &Fault{Code: "NotFoundException", Message: fmt.Sprintf(format, args...)}
	}
	if id == "" {
		return nil, invalid("Value at 'keyId' failed to satisfy constraint: Member must not be null")
	}
	arn := id
	switch {
	case strings.HasPrefix(id, "arn:"):
		parts := strings.SplitN(id, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" {
			return nil, notFound("Invalid arn %s", id)
		}
		if parts[3] != c.region || parts[1] != partition(c.region) {
			return nil, notFound("Invalid arn %s", parts[3])
		}
	case strings.HasPrefix(id, "alias/"):
		arn = aliasARN(c.region, c.account, id)
	default:
		arn = "arn:" + partition(c.region) + ":kms:" + c.region + ":" + c.account + ":key/" + id
	}
	if k := s.keys[arn]; k != nil {
		return k, nil
	}
	if k := s.aliases[arn]; k != nil {
		return k, nil
	}
	// Of another account nobody is told whether the key exists.
	if account := strings.SplitN(arn, ":", 6)[4]; account != c.account {
		return nil, denied(c, "kms", arn, "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access")
	}
	if strings.Contains(arn, ":alias/") {
		return nil, notFound("Alias %s is not found.", arn)
	}
	return nil, notFound("Key '%s' does not exist", arn)
}

// findFor is find for an action that c must be allowed on the key.
func (s *Server) findFor(c caller, action, id string) (*key, error) {
	k, err := s.find(c, id)
	if fault, ok := err.(*Fault); ok && fault.Code == "AccessDeniedException" {
		fault.Message = strings.Replace(fault.Message, "perform: kms ", "perform: "+action+" ", 1)
		return nil, fault
	}
	if err != nil {
		return nil, err
	}
	if !c.may(action, k) {
		return nil, denied(c, action, k.arn, c.why(action, k))
	}
	return k, nil
}

func denied(c caller, action, resource, reason string) *Fault {
	return &Fault{Code: "AccessDeniedException", Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s %s", c.ARN(), action, resource, reason)}
}

func invalid(problem string) *Fault {
	return &Fault{Code: "ValidationException", Message: "1 validation error detected: " + problem}
}

func aliasARN(region, account, name string) string {
	return "arn:" + partition(region) + ":kms:" + region + ":" + account + ":" + name
}
