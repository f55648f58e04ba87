// provider.go owns the Provider that stands in the rows' keyring.

package branchkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/rowseal/rowseal/internal/keycache"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/internal/localwrap"
)

// Service is what rows under branch keys name.
const Service = "branch"

// Provider wraps the data keys of rows under the branch keys of one generation. It makes a call only where the tenant's branch key is not
// at hand. It is safe for concurrent use.
type Provider struct {
	keys       *Keys
	generation int
	ref        string
}

var (
	_ kmskey.Provider = (*Provider)(nil)
	_ kmskey.Owner    = (*Provider)(nil)
	_ kmskey.Preparer = (*Provider)(nil)
)

// Generation is the provider for version n of the rows' keyring, which must be listed under that number, so that a row's `v2:` names the generation of its
// branch key.
func (k *Keys) Generation(n int) *Provider { return &Provider{k, n, strconv.Itoa(n)} }

// Generation is the version of the keyring that p must be listed under; [kmskey.New] sees to it.
func (p *Provider) Generation() int { return p.generation }

// Wrap encrypts dek under the branch key of ec's tenant. Where the tenant has none, one is made: two calls. The blob has 85 bytes.
func (p *Provider) Wrap(ctx context.Context, dek kmskey.DEK, ec kmskey.Context) (kmskey.Wrapped, error) {
	if err := ctx.Err(); err != nil {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrUnavailable, "", err)
	}
	if dek.IsZero() {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrInvalid, "make the data key with kmskey.NewDEK", errors.New("the data key holds no key"))
	}
	at, err := p.slot(ec)
	if err != nil {
		return kmskey.Wrapped{}, p.fail("wrap", p.ref, kmskey.ErrInvalid, "", err)
	}
	var blob []byte
	err = p.keys.use(ctx, at, "", func(b *localwrap.Branch) (err error) {
		blob, err = b.Seal(p.ref, ec.AppendCanonical(make([]byte, 0, 256)), dek.Bytes())
		return err
	})
	if err != nil {
		return kmskey.Wrapped{}, p.branchFailed("wrap", err)
	}
	return kmskey.Wrapped{Service: Service, KeyRef: p.ref, Blob: blob}, nil
}

// Prepare makes the branch key of ec's tenant where there is none, and has it at hand.
func (p *Provider) Prepare(ctx context.Context, ec kmskey.Context) error {
	at, err := p.slot(ec)
	if err != nil {
		return nil // Wrap says so
	}
	if err := p.keys.use(ctx, at, "", func(*localwrap.Branch) error { return nil }); err != nil {
		return p.branchFailed("prepare", err)
	}
	return nil
}

// Unwrap is the inverse of [Provider.Wrap], under the branch key that w names. A tenant without a branch key is [kmskey.ErrNotFound]: none is made for reading. One that has others
// only is [kmskey.ErrContextMismatch], as the row may be another tenant's, or the table have lost the key; the error names it. A tenant that was shredded is [kmskey.ErrShredded].
func (p *Provider) Unwrap(ctx context.Context, w kmskey.Wrapped, ec kmskey.Context) (kmskey.DEK, error) {
	if err := ctx.Err(); err != nil {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrUnavailable, "", err)
	}
	if !p.Owns(w) {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrForeignKey, "give this row's version the provider that wrapped it",
			fmt.Errorf("wrapped by service %.40q, and this is generation %d of branch keys", w.Service, p.generation))
	}
	id, err := localwrap.BranchID(w.Blob)
	if err != nil {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrContextMismatch, "", err)
	}
	at, err := p.slot(ec)
	if err != nil {
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrContextMismatch, "", err)
	}
	var dek kmskey.DEK
	var wrong error // with the row, and no fault of the branch key
	err = p.keys.use(ctx, at, id, func(b *localwrap.Branch) error {
		secret, err := b.Open(p.ref, ec.AppendCanonical(make([]byte, 0, 256)), w.Blob)
		if err != nil {
			wrong = err
			return nil
		}
		defer clear(secret)
		dek, err = kmskey.DEKFromBytes(secret)
		return err
	})
	switch {
	case err != nil:
		return kmskey.DEK{}, p.branchFailed("unwrap", err)
	case wrong != nil:
		return kmskey.DEK{}, p.fail("unwrap", w.KeyRef, kmskey.ErrContextMismatch, "", wrong)
	}
	return dek, nil
}

// Owns reports whether w lies under a branch key of this generation, of whichever tenant.
func (p *Provider) Owns(w kmskey.Wrapped) bool { return w.Service == Service && w.KeyRef == p.ref }

// slot finds the tenant in a row's context.
func (p *Provider) slot(ec kmskey.Context) (Slot, error) {
	at := Slot{Namespace: p.keys.keys.Namespace(), Generation: p.generation}
	if p.generation < 1 {
		return at, fmt.Errorf("generation %d is no version of a keyring; generations count from 1", p.generation)
	}
	if p.keys.tenant == "" {
		return at, nil
	}
	v, ok := ec.Get(p.keys.tenant)
	if !ok {
		return at, fmt.Errorf("the row's encryption context has no %q, which tells tenants apart; declare it: rowseal.Columns(%q)", p.keys.tenant, p.keys.tenant)
	}
	if at.Tenant = v.String(); at.Tenant == "" || len(at.Tenant) > maxTenant {
		return at, fmt.Errorf("%q of the row's encryption context, which tells tenants apart, has %d bytes, not 1 to %d", p.keys.tenant, len(at.Tenant), maxTenant)
	}
	return at, nil
}

// maxTenant is what every database takes in a primary key.
const maxTenant = 255

// branchFailed tells what became of the branch key, in the words of a provider. What is wrong with a branch key that is there is nothing that is wrong with the row, so
// an envelope that does not open is neither of another row nor altered: whoever asks for those kinds must not find them.
func (p *Provider) branchFailed(op string, err error) error {
	var m *missing
	var d *destroyed
	switch {
	case errors.As(err, &m) && m.others == 0:
		return p.fail(op, p.ref, kmskey.ErrNotFound, "was rowseal_branch_keys restored from before the key was made, or without the rows? bring its row back from a backup that has it; "+
			"and does the keyring that wraps branch keys have the namespace that it had?", m)
	case m != nil:
		return p.fail(op, p.ref, kmskey.ErrContextMismatch, "either this row is another tenant's, or rowseal_branch_keys was restored from before the key was made: bring its row back from a backup that has it", m)
	case errors.As(err, &d):
		return p.fail(op, p.ref, kmskey.ErrShredded, "", errors.New(d.what))
	}
	if errors.Is(err, ErrInTransaction) {
		return p.fail(op, p.ref, kmskey.ErrNotFound, "", ErrInTransaction)
	}
	if errors.Is(err, errStore) || errors.Is(err, keycache.ErrEpoch) {
		return p.fail(op, p.ref, kmskey.ErrUnavailable, "", err)
	}
	for _, kind := range []error{kmskey.ErrDenied, kmskey.ErrNotFound, kmskey.ErrDisabled, kmskey.ErrThrottled, kmskey.ErrUnavailable} {
		if errors.Is(err, kind) {
			return p.fail(op, p.ref, kind, "", fmt.Errorf("branch key: %w", err))
		}
	}
	if ctx := ctxError(err); ctx != nil {
		return p.fail(op, p.ref, kmskey.ErrUnavailable, "", ctx)
	}
	return p.fail(op, p.ref, kmskey.ErrInvalid, "the branch key itself does not open; rows under it are unharmed", fmt.Errorf("branch key: %s", err.Error()))
}

func ctxError(err error) error {
	for _, e := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return e
		}
	}
	return nil
}

func (p *Provider) fail(op, ref string, kind error, hint string, err error) error {
	return &kmskey.Error{Op: op, Service: Service, KeyRef: ref, Kind: kind, Hint: hint, Err: err}
}

// String names the generation.
func (p Provider) String() string {
	return fmt.Sprintf("branchkey.Provider(generation %d)", p.generation)
}

// Format prints [Provider.String] for every verb, since others would show the keys that it holds.
func (p Provider) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(p.String())) }
