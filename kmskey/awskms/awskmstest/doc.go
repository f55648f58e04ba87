// Package awskmstest is a fake AWS KMS for tests: a server on the loopback that the real aws-sdk-go-v2 client talks to over
// HTTP, in the real protocol (awsjson 1.1), with signatures that are really verified and encryption contexts that are really
// enforced. It is public, so that applications test their own key handling with it:
//
//	srv := awskmstest.New(t, awskmstest.Config{})
//	key := srv.CreateKey()
//	writer := srv.NewPrincipal("writer", "kms:Encrypt")
//	provider, err := awskms.New(writer.Client(), key, awskms.Config{})
//
// It answers Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext (with dry runs), DescribeKey, CreateKey,
// ReplicateKey, CreateAlias, UpdateAlias, DeleteAlias, EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion,
// RotateKeyOnDemand, EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus, CreateGrant, RetireGrant, RevokeGrant, ListGrants,
// PutKeyPolicy, GetKeyPolicy, TagResource, UntagResource, ListResourceTags, ListKeys and ListAliases, for symmetric keys of one region or
// several. Every other operation, and every parameter it does not know, is refused with
// UnsupportedOperationException: it never claims success for what it did not do.
//
// What it checks, it checks as AWS does: SigV4 over the whole request, with scope, region and date; permissions by principal,
// action and key; key states; the 4096 bytes of Encrypt; that the KeyId of Decrypt is the key that encrypted. Ciphertexts are
// AES-256-GCM under random keys, with the context and the key's ARN as associated data, and opaque to callers. Keys are made
// anew by each server and die with it.
//
// Faults come from one hook, [Config].Before, which sees each call and may delay it (block on a channel: no test needs to
// sleep), fail it ([Throttled], [Outage], any [Fault]) or drop its connection ([ErrDropConnection]). Each operation is counted,
// retries of the client included, and so is the most that were in flight at once.
//
// A principal is allowed actions, on all keys of its account or on one, or whatever an identity policy in AWS's own JSON allows
// ([Server.NewPrincipalWithPolicy]); a key may have a key policy (CreateKey, PutKeyPolicy). Conditions on the encryption context are
// evaluated, and an element, operator or condition key that the fake does not know makes the policy an error.
//
// What it is not: a model of all of IAM (no permissions boundaries, service control policies, sessions or roles: principals are users),
// of asymmetric keys, of eventual consistency (but for grants, which need their token while
// [Server.UnsettleGrants] says so), or of AWS's choice between
// InvalidCiphertextException, IncorrectKeyException and AccessDeniedException for ciphertexts that were altered. Code that
// must work against AWS decides on classes of errors, not on one. It speaks HTTP without TLS and listens on 127.0.0.1 alone.
package awskmstest
