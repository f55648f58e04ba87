// check.go owns what can be known about key and permissions before the first row.

package azurekv

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/rowseal/rowseal/kmskey"
)

// Check asks Azure whether this principal can use the key, and says what is wrong with it, or with credential and configuration. Call
// it at start-up. The kinds of its errors are those of using the key: [kmskey.ErrNotFound], [kmskey.ErrDisabled], also for a version
// that is outside its dates, [kmskey.ErrDenied] with the data action, [kmskey.ErrInvalid] for a key of another kind or vault,
// [kmskey.ErrUnavailable].
//
// It wraps a data key of its own and unwraps it, under the context purpose = rowseal/check, and forgets it. That takes wrap, unwrap, or
// both, and no other action: the principal that may only wrap has found its half to work, and the other is one refusal in the vault's
// log. One that may only unwrap asks the current version, or the configured one, for what nobody wrapped, and Azure's answer that it
// opens nothing is the good one: so a reader learns nothing of older versions.
//
// It makes two acts, each with [Config].Timeout.
func (p *Provider) Check(ctx context.Context) error {
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "purpose", Value: kmskey.Text("rowseal/check")})
	if err != nil {
		panic("azurekv: internal error: " + err.Error())
	}
	a := act{p, "check", p.key}
	dek := kmskey.NewDEK()
	w, err := p.Wrap(ctx, dek, ec)
	if notPermitted(err) {
		err := p.unwrapNothing(ctx)
		switch {
		case errors.Is(err, kmskey.ErrContextMismatch):
			return nil
		case err == nil:
			return a.fail(kmskey.ErrInvalid, "is the endpoint Azure Key Vault?", errors.New("the service opened what nobody wrapped"))
		case notPermitted(err):
			return a.fail(kmskey.ErrDenied, "grant this principal on the key what it is to do: the data action Microsoft.KeyVault/vaults/keys/wrap/action, …/unwrap/action, or both "+
				"(managedHsm for vaults on a Managed HSM), or under access policies wrapKey, unwrapKey; a new grant takes some minutes", cause(err))
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
		return a.fail(kmskey.ErrInvalid, "is the endpoint Azure Key Vault?", errors.New("the service gave back another data key"))
	}
	return nil
}

// unwrapNothing has what is nobody's unwrapped. The first byte makes it smaller than any modulus.
func (p *Provider) unwrapNothing(ctx context.Context) error {
	made := make([]byte, 256)
	rand.Read(made[1:])
	a := act{p, "unwrap", p.key}
	var last *http.Response
	ctx, done := a.begin(ctx, &last)
	defer done()
	out, err := p.client.UnwrapKey(ctx, p.name, p.version, parameters(made), nil)
	if err != nil {
		return a.failed(ctx, err, last)
	}
	clear(out.Result)
	return nil
}

// notPermitted reports whether Azure refused for want of the principal's permission alone: not the key's own operations or state, not the
// vault's firewall, not the token.
func notPermitted(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	if !ok || r.status != http.StatusForbidden || !errors.Is(err, kmskey.ErrDenied) {
		return false
	}
	switch r.inner {
	case "KeyOperationForbidden", "ForbiddenByFirewall", "ForbiddenByConnection":
		return false
	}
	return true
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
