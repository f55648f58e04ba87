// Package kmsurl opens any provider of this project from one string, for configuration files and command lines.
//
//	awskms:alias/app?region=eu-west-1&account=111122223333
//	awskms:arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
//	gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows
//	vault:transit/app
//	azurekv:https://acme.vault.azure.net/keys/rows
//	local:file:/etc/app/rowseal.key
//	local:env:ROWSEAL_KEY
//	insecure-test-key
//
// It imports every vendor's client, so whoever imports it pays for all of them: it is a module of its own. A program that knows
// its service imports that service's package, whose New has more to set.
//
// # Grammar
//
// A URL is scheme:key, and perhaps ?name=value&name=value. Letters, digits and -._:/?&=,[]\ stand for themselves; nothing is encoded, and no
// other byte is taken, so that each URL has one reading. A name stands once, with a value. What is not known is refused. In a shell, put
// quotes around it.
//
//	scheme             key                                     options
//	awskms             key id, key ARN, alias/…, alias ARN     account endpoint fips previous profile region replicas retries timeout
//	azurekv            the key's identifier, with or without   timeout
//	                   a version: https://…/keys/…
//	gcpkms             the CryptoKey's full name: projects/…   attempts endpoint timeout
//	local              file:<path> or env:<NAME>
//	vault              <mount>/<key>; OpenBao too              addr namespace timeout
//	insecure-test-key  none, and no colon
//
//	account    the key's account, twelve digits (awskms.Config.Account)
//	addr       where Vault is, in place of VAULT_ADDR, as https://host:port
//	attempts   requests per act (gcpkms.Config.Attempts)
//	endpoint   where the service is, as https://host:port: a private endpoint or an emulator
//	fips       true: the region's FIPS endpoint
//	namespace  Vault's, in place of VAULT_NAMESPACE
//	previous   ARNs of further keys that may be unwrapped, between commas (awskms.Config.PreviousKeys)
//	profile    of the shared configuration, in place of AWS_PROFILE
//	region     of the key, in place of AWS_REGION; an ARN has its own
//	replicas   regions of related multi-Region keys, between commas (awskms.Config.ReplicaRegions)
//	retries    requests a second that may be repeats of earlier ones, for this URL, 0 to 1000; 10 where it is left out (awskms.Retries). How
//	           often one request is repeated, and after which pauses, is the environment's matter: AWS_MAX_ATTEMPTS, AWS_RETRY_MODE
//	timeout    of an act, as 10s or 500ms (Config.Timeout of each package)
//
// addr and endpoint may begin with http:// where the host is the loopback: data keys travel there in the clear. What the environment
// names instead (VAULT_ADDR, AWS_ENDPOINT_URL) is not judged. A gcpkms endpoint with http:// is asked without credentials. A path
// begins with / or ./ or, on Windows, a drive.
//
// Several URLs with spaces or line breaks between them are a [kmskey.Multi], in that order. "quorum=1" before them sets
// MultiConfig.Quorum; what else it has is set by calling [kmskey.NewMulti].
//
//	quorum=1 awskms:alias/app?region=eu-west-1 awskms:alias/app?region=eu-central-1
//
// # Credentials
//
// None stand in a URL, and one that seems to hold any is refused and not repeated, so that URLs may be logged. They come from where
// each vendor's own tools look:
//
//   - awskms: the default chain of aws-sdk-go-v2/config: environment, shared files, SSO, container, instance.
//   - azurekv: azidentity.NewDefaultAzureCredential.
//   - gcpkms: application default credentials.
//   - vault: VAULT_TOKEN, and for TLS VAULT_CACERT, VAULT_CLIENT_CERT and so on, or the same names with BAO_, which
//     come first: the client is OpenBao's, which reads both and serves both. The token is read once and not renewed; where it expires,
//     run Vault's agent and name it in VAULT_AGENT_ADDR or addr.
//
// # Rotation
//
// Versions of a keyring are opened one by one. AWS moves rows without showing data keys (ReEncrypt) where it is known whose keys they are: name
// keys by ARN, set account, or call [Connection.Check]. For a new version of one key of Vault, list the one Provider under both numbers.
package kmsurl

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rowseal/rowseal/kmskey"
)

// Connection is what a text was opened to.
type Connection struct {
	// Provider is for a keyring: the provider of the service's own package with all its powers, or a [*kmskey.Multi] over several.
	Provider kmskey.Provider

	opened []*opened
	close  func() error
}

// opened is one URL's part of a Connection.
type opened struct {
	url      url
	provider kmskey.Provider
	close    func() error // nil where nothing is held open
}

// Open reads text and makes its providers. It asks no key service anything. To find credentials Google's client may ask whether the process
// runs at Google, some seconds at most, whatever ctx says. The Connection outlives ctx; the caller closes it after the last use.
func Open(ctx context.Context, text string) (*Connection, error) { return open(ctx, text, hooks{}) }

func open(ctx context.Context, text string, h hooks) (*Connection, error) {
	list, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("kmsurl: open: %w", err)
	}
	c := &Connection{}
	c.close = sync.OnceValue(func() error {
		var errs []error
		for _, o := range c.opened {
			if o.close != nil {
				if err := o.close(); err != nil {
					errs = append(errs, fmt.Errorf("kmsurl: close %.300s: %w", o.url, err))
				}
			}
		}
		return errors.Join(errs...)
	})
	var providers []kmskey.Provider
	for _, u := range list.urls {
		if err = ctx.Err(); err != nil {
			break
		}
		o := &opened{url: u}
		if err = schemes[u.scheme].open(ctx, h, u, o); err != nil {
			err = fmt.Errorf("%.300s: %w", u, err)
			break
		}
		c.opened, providers = append(c.opened, o), append(providers, o.provider)
	}
	switch {
	case err != nil:
	case len(providers) == 1:
		c.Provider = providers[0]
	default:
		c.Provider, err = kmskey.NewMulti(kmskey.MultiConfig{Providers: providers, Quorum: list.quorum})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("kmsurl: open %w", err), c.Close())
	}
	return c, nil
}

// Check asks the services whether the keys can be used, all at once, and says what is wrong. Call it at start-up. It is the Check of the provider's
// package, which says what it takes and finds: awskms.Provider.Check kms:DescribeKey or any duty, gcpkms.Provider.Check and azurekv.Provider.Check any
// duty, vaulttransit.Provider.Check "read" on the key. A local key was read by [Open], and there is no one to ask. Of several keys one
// that cannot be used is an error, also where the others would do. ctx and each request's timeout bound it.
func (c *Connection) Check(ctx context.Context) error {
	errs := make([]error, len(c.opened))
	var wait sync.WaitGroup
	for i, o := range c.opened {
		if p, ok := o.provider.(interface{ Check(context.Context) error }); ok {
			wait.Go(func() {
				if err := p.Check(ctx); err != nil {
					errs[i] = fmt.Errorf("kmsurl: check %.300s: %w", o.url, err)
				}
			})
		}
	}
	wait.Wait()
	return errors.Join(errs...)
}

// Close closes the clients. Nothing may use the Provider then. Only the first call does something, and all give its error.
func (c *Connection) Close() error { return c.close() }
