// check.go owns what can be known about key and permissions before the first row.

package gcpkms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rowseal/rowseal/kmskey"
)

// Check asks Google whether this principal can use the key, and says what is wrong with it, or with credentials and configuration.
// Call it at start-up. The kinds of its errors are those of using the key: [kmskey.ErrNotFound], [kmskey.ErrDisabled],
// [kmskey.ErrDenied] with the permission, [kmskey.ErrInvalid] for a key that Google has under another name, [kmskey.ErrUnavailable].
//
// It wraps a data key of its own and unwraps it, under the context purpose = rowseal/check, and forgets it. That takes the permission to
// encrypt, the one to decrypt, or both, and no other: the principal that may only encrypt has found its half to work, and the other is
// one refusal in the audit log. One that may only decrypt asks for what nobody wrapped, and Google's answer that it opens nothing is the
// good one: so a reader learns that the key is there and the permission too, and not which versions are enabled, nor the key's purpose.
//
// It makes two acts, each with [Config].Timeout and Attempts.
func (p *Provider) Check(ctx context.Context) error {
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "purpose", Value: kmskey.Text("rowseal/check")})
	if err != nil {
		panic("gcpkms: internal error: " + err.Error())
	}
	a := act{p, "check", p.key}
	dek := kmskey.NewDEK()
	w, err := p.Wrap(ctx, dek, ec)
	if notPermitted(err) {
		// No version names it, and none is needed: Google looks into the ciphertext, after it has looked at key and permission.
		made := make([]byte, 64)
		rand.Read(made)
		_, err := p.Unwrap(ctx, kmskey.Wrapped{Service: Service, KeyRef: p.key + "/cryptoKeyVersions/1", Blob: made}, ec)
		switch {
		case errors.Is(err, kmskey.ErrContextMismatch):
			return nil
		case err == nil:
			return a.fail(kmskey.ErrInvalid, "is the endpoint Cloud KMS?", errors.New("the service opened what nobody wrapped"))
		case notPermitted(err):
			return a.fail(kmskey.ErrDenied, "grant this principal on the key what it is to do: cloudkms.cryptoKeyVersions.useToEncrypt (roles/cloudkms.cryptoKeyEncrypter), "+
				"cloudkms.cryptoKeyVersions.useToDecrypt (roles/cloudkms.cryptoKeyDecrypter), or both; Google may answer so too where the key does not exist, so check project, location, key ring and key", cause(err))
		}
		return checked(err)
	}
	if err != nil {
		return checked(err)
	}
	got, err := p.Unwrap(ctx, w, ec)
	switch {
	case notPermitted(err):
		return nil // a writer
	case err != nil:
		return checked(err)
	case !bytes.Equal(got.Bytes(), dek.Bytes()):
		return a.fail(kmskey.ErrInvalid, "is the endpoint Cloud KMS?", errors.New("the service gave back another data key"))
	}
	return nil
}

// notPermitted reports whether Google refused for want of the permission on the key alone. A reason would be its front's: an API that is
// switched off, billing, the scope of the token.
func notPermitted(err error) bool {
	return err != nil && status.Code(err) == codes.PermissionDenied && (reason(err) == "" || reason(err) == "IAM_PERMISSION_DENIED")
}

// checked is the error of an act as one of Check.
func checked(err error) error {
	e, ok := errors.AsType[*kmskey.Error](err)
	if !ok {
		return err
	}
	c := *e
	c.Op = "check"
	return &c
}

// cause is what the service answered.
func cause(err error) error {
	if e, ok := errors.AsType[*kmskey.Error](err); ok {
		return e.Err
	}
	return err
}
