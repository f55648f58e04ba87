// operations.go owns the operations: over the wire, and as methods for tests that set the scene.

package awskmstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// operations is all that the fake can do. Each runs under the server's lock.
var operations = map[string]func(*Server, caller, []byte) (any, error){
	"Encrypt":                         encrypt,
	"Decrypt":                         decrypt,
	"ReEncrypt":                       reEncrypt,
	"GenerateDataKey":                 generateDataKey,
	"GenerateDataKeyWithoutPlaintext": generateDataKeyWithoutPlaintext,
	"DescribeKey":                     describeKey,
	"CreateKey":                       createKey,
	"PutKeyPolicy":                    putKeyPolicy,
	"GetKeyPolicy":                    getKeyPolicy,
	"TagResource":                     tagResource,
	"UntagResource":                   untagResource,
	"ListResourceTags":                listResourceTags,
	"EnableKeyRotation":               enableKeyRotation,
	"DisableKeyRotation":              disableKeyRotation,
	"GetKeyRotationStatus":            getKeyRotationStatus,
	"ListKeys":                        listKeys,
	"ListAliases":                     listAliases,
	"CreateAlias":                     createAlias,
	"UpdateAlias":                     updateAlias,
	"DeleteAlias":                     deleteAlias,
	"EnableKey":                       enableKey,
	"DisableKey":                      disableKey,
	"ScheduleKeyDeletion":             scheduleKeyDeletion,
	"CancelKeyDeletion":               cancelKeyDeletion,
	"RotateKeyOnDemand":               rotateKeyOnDemand,
	"ReplicateKey":                    replicateKey,
	"CreateGrant":                     createGrant,
	"RetireGrant":                     retireGrant,
	"RevokeGrant":                     revokeGrant,
	"ListGrants":                      listGrants,
}

// The limits that AWS documents for symmetric keys.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxContext    = 8192
)

const symmetric = "SYMMETRIC_DEFAULT"

func checkAlgorithm(names ...string) error {
	for _, n := range names {
		if n != "" && n != symmetric {
			return &Fault{Code: "InvalidKeyUsageException", Message: "the key is symmetric, and the request asks for " + n + "."}
		}
	}
	return nil
}

func checkContext(all ...map[string]string) error {
	for _, ec := range all {
		n := 0
		for name, value := range ec {
			n += len(name) + len(value)
		}
		if n > maxContext {
			return invalid(fmt.Sprintf("the encryption context has %d bytes, more than %d", n, maxContext))
		}
	}
	return nil
}

func checkLength(member string, b []byte, most int) error {
	switch {
	case len(b) < 1:
		return invalid("Value at '" + member + "' failed to satisfy constraint: Member must have length greater than or equal to 1")
	case len(b) > most:
		return invalid(fmt.Sprintf("Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", member, most))
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type sealed struct {
	CiphertextBlob      []byte `json:",omitempty"`
	Plaintext           []byte `json:",omitempty"`
	KeyId               string `json:",omitempty"`
	EncryptionAlgorithm string `json:",omitempty"`
}

func encrypt(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId               string
		Plaintext           []byte
		EncryptionContext   map[string]string
		EncryptionAlgorithm string
		GrantTokens         []string
		DryRun              bool
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := firstError(checkLength("plaintext", in.Plaintext, maxPlaintext), checkContext(in.EncryptionContext), checkAlgorithm(in.EncryptionAlgorithm), s.checkTokens(in.GrantTokens)); err != nil {
		return nil, err
	}
	k, err := s.findFor(c.asking(in.GrantTokens, in.EncryptionContext), "kms:Encrypt", in.KeyId)
	if err == nil {
		err = k.usable()
	}
	if err == nil && in.DryRun {
		err = dryRun()
	}
	if err != nil {
		return nil, err
	}
	return sealed{CiphertextBlob: k.seal(in.Plaintext, in.EncryptionContext), KeyId: k.arn, EncryptionAlgorithm: symmetric}, nil
}

func decrypt(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId               string
		CiphertextBlob      []byte
		EncryptionContext   map[string]string
		EncryptionAlgorithm string
		GrantTokens         []string
		DryRun              bool
		DryRunModifiers     []string
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := firstError(checkContext(in.EncryptionContext), checkAlgorithm(in.EncryptionAlgorithm), s.checkTokens(in.GrantTokens)); err != nil {
		return nil, err
	}
	c = c.asking(in.GrantTokens, in.EncryptionContext)
	if ignore, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers); err != nil {
		return nil, err
	} else if ignore {
		return nil, firstError(s.tries(c, "kms:Decrypt", in.KeyId), dryRun())
	}
	k, plaintext, err := s.unseal(c, "kms:Decrypt", in.KeyId, in.CiphertextBlob, in.EncryptionContext)
	if err == nil && in.DryRun {
		err = dryRun()
	}
	if err != nil {
		return nil, err
	}
	return sealed{Plaintext: plaintext, KeyId: k.arn, EncryptionAlgorithm: symmetric}, nil
}

// unseal opens a ciphertext under the key that keyID names, or, without one, under the key that the ciphertext names.
func (s *Server) unseal(c caller, action, keyID string, blob []byte, ec map[string]string) (*key, []byte, error) {
	if err := checkLength("ciphertextBlob", blob, maxCiphertext); err != nil {
		return nil, nil, err
	}
	inside, ok := blobKeyID(blob)
	if keyID == "" && ok {
		// The ciphertext does not name an account; AWS finds its own key again, and so does the fake.
		for _, k := range s.keys {
			if k.id == inside && k.region == c.region {
				keyID = k.arn
			}
		}
		if keyID == "" {
			return nil, nil, &Fault{Code: "AccessDeniedException", Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."}
		}
	}
	if keyID == "" {
		return nil, nil, &Fault{Code: "InvalidCiphertextException"}
	}
	k, err := s.findFor(c, action, keyID)
	if err == nil {
		err = k.usable()
	}
	if err != nil {
		return nil, nil, err
	}
	if !ok || !slices.ContainsFunc(s.ids(), func(id string) bool { return id == inside }) {
		return nil, nil, &Fault{Code: "InvalidCiphertextException"}
	}
	if inside != k.id {
		return nil, nil, &Fault{Code: "IncorrectKeyException", Message: "The key ID in the request does not identify a CMK that can perform this operation."}
	}
	plaintext, ok := k.open(blob, ec)
	if !ok {
		return nil, nil, &Fault{Code: "InvalidCiphertextException"}
	}
	return k, plaintext, nil
}

func (s *Server) ids() []string {
	ids := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		ids = append(ids, k.id)
	}
	return ids
}

func reEncrypt(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		CiphertextBlob                                            []byte
		SourceKeyId, DestinationKeyId                             string
		SourceEncryptionContext, DestinationEncryptionContext     map[string]string
		SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
		GrantTokens                                               []string
		DryRun                                                    bool
		DryRunModifiers                                           []string
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := firstError(checkContext(in.SourceEncryptionContext, in.DestinationEncryptionContext), checkAlgorithm(in.SourceEncryptionAlgorithm, in.DestinationEncryptionAlgorithm), s.checkTokens(in.GrantTokens)); err != nil {
		return nil, err
	}
	to, err := s.findFor(c.asking(in.GrantTokens, in.DestinationEncryptionContext), "kms:ReEncryptTo", in.DestinationKeyId)
	if err == nil {
		err = to.usable()
	}
	if err != nil {
		return nil, err
	}
	c = c.asking(in.GrantTokens, in.SourceEncryptionContext)
	if ignore, err := ignoresCiphertext(in.DryRun, in.DryRunModifiers); err != nil {
		return nil, err
	} else if ignore {
		return nil, firstError(s.tries(c, "kms:ReEncryptFrom", in.SourceKeyId), dryRun())
	}
	from, plaintext, err := s.unseal(c, "kms:ReEncryptFrom", in.SourceKeyId, in.CiphertextBlob, in.SourceEncryptionContext)
	if err == nil && in.DryRun {
		err = dryRun()
	}
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return struct {
		CiphertextBlob                                            []byte
		KeyId, SourceKeyId                                        string
		SourceEncryptionAlgorithm, DestinationEncryptionAlgorithm string
	}{to.seal(plaintext, in.DestinationEncryptionContext), to.arn, from.arn, symmetric, symmetric}, nil
}

// metadata is what DescribeKey and CreateKey answer.
func (s *Server) metadata(k *key) any { return map[string]any{"KeyMetadata": s.describe(k)} }

func (s *Server) describe(k *key) map[string]any {
	m := map[string]any{
		"AWSAccountId": k.account, "KeyId": k.id, "Arn": k.arn, "Description": k.description,
		"CreationDate": float64(k.created.UnixMilli()) / 1000,
		"Enabled":      k.state == enabled, "KeyState": k.state,
		"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": symmetric, "CustomerMasterKeySpec": symmetric,
		"EncryptionAlgorithms": []string{symmetric}, "KeyManager": "CUSTOMER", "Origin": "AWS_KMS", "MultiRegion": k.multiRegion(),
	}
	if r := s.replication(k); r != nil {
		m["MultiRegionConfiguration"] = r
	}
	if k.state == pendingDeletion {
		m["DeletionDate"] = float64(k.deletion.UnixMilli()) / 1000
	}
	return m
}

// one reads a request whose only parameter is KeyId and finds the key, which the caller must be allowed action on.
func (s *Server) one(c caller, action string, body []byte) (*key, error) {
	var in struct{ KeyId string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	return s.findFor(c, action, in.KeyId)
}

func describeKey(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		KeyId       string
		GrantTokens []string
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := s.checkTokens(in.GrantTokens); err != nil {
		return nil, err
	}
	k, err := s.findFor(c.asking(in.GrantTokens, nil), "kms:DescribeKey", in.KeyId)
	if err != nil {
		return nil, err
	}
	return s.metadata(k), nil
}

func createKey(s *Server, c caller, body []byte) (any, error) {
	var in struct {
		Description, KeySpec, CustomerMasterKeySpec, KeyUsage, Origin string
		Policy                                                        string
		Tags                                                          []tag
		BypassPolicyLockoutSafetyCheck, MultiRegion                   bool
	}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := checkAlgorithm(in.KeySpec, in.CustomerMasterKeySpec); err != nil {
		return nil, unsupported("a key that is not symmetric")
	}
	if in.KeyUsage != "" && in.KeyUsage != "ENCRYPT_DECRYPT" || in.Origin != "" && in.Origin != "AWS_KMS" {
		return nil, unsupported("a key with this usage or origin")
	}
	if err := c.mayName("kms:CreateKey", "*"); err != nil {
		return nil, err
	}
	id := newKeyID()
	if in.MultiRegion {
		id = mrk + randomHex(16)
	}
	k := s.addKey(c.account, c.region, id, in.Description)
	if err := s.furnish(c, k, in.Policy, in.Tags, in.BypassPolicyLockoutSafetyCheck); err != nil {
		delete(s.keys, k.arn)
		return nil, err
	}
	return s.metadata(k), nil
}

func checkAlias(name string) error {
	switch {
	case !aliasForm.MatchString(name):
		return invalid("Value '" + name + `' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^alias/[a-zA-Z0-9/_-]+$`)
	case strings.HasPrefix(name, "alias/aws/"):
		return &Fault{Code: "InvalidAliasNameException", Message: "alias/aws/ is reserved for AWS."}
	}
	return nil
}

func createAlias(s *Server, c caller, body []byte) (any, error) {
	return s.setAlias(c, "kms:CreateAlias", body, false)
}
func updateAlias(s *Server, c caller, body []byte) (any, error) {
	return s.setAlias(c, "kms:UpdateAlias", body, true)
}

func (s *Server) setAlias(c caller, action string, body []byte, exists bool) (any, error) {
	var in struct{ AliasName, TargetKeyId string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	if strings.Contains(in.TargetKeyId, "alias/") {
		return nil, invalid("Aliases must refer to keys. Not aliases")
	}
	k, err := s.findFor(c, action, in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if k.state == pendingDeletion {
		return nil, k.usable()
	}
	arn := aliasARN(c.region, c.account, in.AliasName)
	if err := c.mayName(action, arn); err != nil {
		return nil, err
	}
	if old := s.aliases[arn]; old != nil && exists && !c.may(action, old) {
		return nil, denied(c, action, old.arn, c.why(action, old))
	}
	switch _, there := s.aliases[arn]; {
	case there && !exists:
		return nil, &Fault{Code: "AlreadyExistsException", Message: "An alias with the name " + arn + " already exists"}
	case !there && exists:
		return nil, &Fault{Code: "NotFoundException", Message: "Alias " + arn + " is not found."}
	case k.account != c.account:
		return nil, invalid("an alias and its key must be in one account")
	}
	s.aliases[arn] = k
	return struct{}{}, nil
}

func deleteAlias(s *Server, c caller, body []byte) (any, error) {
	var in struct{ AliasName string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if err := checkAlias(in.AliasName); err != nil {
		return nil, err
	}
	if _, err := s.findFor(c, "kms:DeleteAlias", in.AliasName); err != nil {
		return nil, err
	}
	arn := aliasARN(c.region, c.account, in.AliasName)
	if err := c.mayName("kms:DeleteAlias", arn); err != nil {
		return nil, err
	}
	delete(s.aliases, arn)
	return struct{}{}, nil
}

func enableKey(s *Server, c caller, body []byte) (any, error) {
	return s.setState(c, "kms:EnableKey", body, enabled)
}
func disableKey(s *Server, c caller, body []byte) (any, error) {
	return s.setState(c, "kms:DisableKey", body, disabled)
}

func (s *Server) setState(c caller, action string, body []byte, state string) (any, error) {
	k, err := s.one(c, action, body)
	if err != nil {
		return nil, err
	}
	if k.state == pendingDeletion {
		return nil, k.usable()
	}
	k.state = state
	return struct{}{}, nil
}

func scheduleKeyDeletion(s *Server, c caller, body []byte) (any, error) {
	in := struct {
		KeyId               string
		PendingWindowInDays int
	}{PendingWindowInDays: 30}
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.PendingWindowInDays < 7 || in.PendingWindowInDays > 30 {
		return nil, invalid("Value at 'pendingWindowInDays' failed to satisfy constraint: Member must be between 7 and 30")
	}
	k, err := s.findFor(c, "kms:ScheduleKeyDeletion", in.KeyId)
	if err != nil {
		return nil, err
	}
	if !k.replica && len(s.related(k)) > 1 {
		return nil, unsupported("the deletion of a primary key that has replicas")
	}
	if k.state == pendingDeletion {
		return nil, k.usable()
	}
	k.state, k.deletion = pendingDeletion, s.now().Add(time.Duration(in.PendingWindowInDays)*24*time.Hour)
	return map[string]any{"KeyId": k.arn, "KeyState": k.state, "PendingWindowInDays": in.PendingWindowInDays, "DeletionDate": float64(k.deletion.UnixMilli()) / 1000}, nil
}

func cancelKeyDeletion(s *Server, c caller, body []byte) (any, error) {
	k, err := s.one(c, "kms:CancelKeyDeletion", body)
	if err != nil {
		return nil, err
	}
	if k.state != pendingDeletion {
		return nil, &Fault{Code: "KMSInvalidStateException", Message: k.arn + " is not pending deletion."}
	}
	k.state = disabled // as on AWS: cancelling does not enable
	return map[string]any{"KeyId": k.arn}, nil
}

func rotateKeyOnDemand(s *Server, c caller, body []byte) (any, error) {
	k, err := s.one(c, "kms:RotateKeyOnDemand", body)
	if err == nil {
		err = k.usable()
	}
	if err == nil && k.replica {
		err = &Fault{Code: "UnsupportedOperationException", Message: k.arn + " is a replica; rotate its primary key."}
	}
	if err != nil {
		return nil, err
	}
	k.rotate()
	return map[string]any{"KeyId": k.arn}, nil
}

// CreateKey makes a symmetric key in the server's account and first region and gives its ARN.
func (s *Server) CreateKey() string {
	arn, err := s.CreateKeyIn(s.account, s.regions[0])
	if err != nil {
		panic("awskmstest: internal error: " + err.Error())
	}
	return arn
}

// CreateKeyIn makes a symmetric key in another account or region and gives its ARN.
func (s *Server) CreateKeyIn(account, region string) (string, error) {
	if !isAccount(account) || !slices.Contains(s.regions, region) {
		return "", fmt.Errorf("awskmstest: create key: account %q needs twelve digits, and region %q must be one of %q", account, region, s.regions)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newKey(account, region, "").arn, nil
}

// CreateAlias gives a key another name ("alias/app") in the key's account and region. An error is a [*Fault], as for all
// methods here that name a key: they do what the operation does, are allowed everything, and are not counted.
func (s *Server) CreateAlias(name, key string) error { return s.alias("CreateAlias", name, key) }

// UpdateAlias moves an alias to another key.
func (s *Server) UpdateAlias(name, key string) error { return s.alias("UpdateAlias", name, key) }

func (s *Server) alias(op, name, key string) error {
	return s.do(op, key, map[string]any{"AliasName": name, "TargetKeyId": key})
}

// DisableKey makes every use of a key fail with DisabledException.
func (s *Server) DisableKey(key string) error { return s.do("DisableKey", key, keyOnly(key)) }

// EnableKey ends [Server.DisableKey].
func (s *Server) EnableKey(key string) error { return s.do("EnableKey", key, keyOnly(key)) }

// ScheduleKeyDeletion makes every use of a key fail with KMSInvalidStateException. The key is never deleted by time; see
// [Server.DeleteKey].
func (s *Server) ScheduleKeyDeletion(key string) error {
	return s.do("ScheduleKeyDeletion", key, keyOnly(key))
}

// CancelKeyDeletion ends [Server.ScheduleKeyDeletion] and leaves the key disabled, as AWS does.
func (s *Server) CancelKeyDeletion(key string) error {
	return s.do("CancelKeyDeletion", key, keyOnly(key))
}

// RotateKeyOnDemand gives a key new material. Older ciphertexts still open.
func (s *Server) RotateKeyOnDemand(key string) error {
	return s.do("RotateKeyOnDemand", key, keyOnly(key))
}

// DeleteKey forgets a key and its aliases at once, as AWS does when the waiting time is over. Its ciphertexts open no more.
func (s *Server) DeleteKey(key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.find(s.root(key), key)
	if err != nil {
		return err
	}
	delete(s.keys, k.arn)
	for arn, target := range s.aliases {
		if target == k {
			delete(s.aliases, arn)
		}
	}
	return nil
}

func keyOnly(key string) map[string]any { return map[string]any{"KeyId": key} }

// root is a caller who may do everything, in the account and region of an ARN or in the server's own.
func (s *Server) root(key string) caller {
	p := &Principal{server: s, name: "root", account: s.account, scene: true}
	region := s.regions[0]
	if parts := strings.SplitN(key, ":", 6); len(parts) == 6 {
		region, p.account = parts[3], parts[4]
	}
	return caller{Principal: p, region: region}
}

func (s *Server) do(op, key string, in map[string]any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = operations[op](s, s.root(key), body)
	return err
}
