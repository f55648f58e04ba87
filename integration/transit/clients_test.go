// clients_test.go owns how an application's client becomes a Caller. README.md shows the first of the two.

package transit

import (
	"context"
	"errors"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
	bao "github.com/openbao/openbao/api/v2"

	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// #region vault
func transitOf(client *vault.Client) vaulttransit.Caller {
	return func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		var out *vault.Secret
		var err error
		if in == nil {
			out, err = client.Logical().ReadWithContext(ctx, path)
		} else {
			out, err = client.Logical().WriteWithContext(ctx, path, in)
		}
		var refused *vault.ResponseError
		if errors.As(err, &refused) {
			return nil, &vaulttransit.StatusError{Status: refused.StatusCode, Messages: refused.Errors}
		}
		if err != nil || out == nil {
			return nil, err
		}
		return out.Data, nil
	}
}

// #endregion

func newProvider(client *vault.Client) (*vaulttransit.Provider, error) {
	// #region vault_provider
	return vaulttransit.New(transitOf(client), "app", vaulttransit.Config{})
	// #endregion
}

func baoTransitOf(client *bao.Client) vaulttransit.Caller {
	return func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		var out *bao.Secret
		var err error
		if in == nil {
			out, err = client.Logical().ReadWithContext(ctx, path)
		} else {
			out, err = client.Logical().WriteWithContext(ctx, path, in)
		}
		var refused *bao.ResponseError
		if errors.As(err, &refused) {
			return nil, &vaulttransit.StatusError{Status: refused.StatusCode, Messages: refused.Errors}
		}
		if err != nil || out == nil {
			return nil, err
		}
		return out.Data, nil
	}
}

// connection is what a client is made of.
type connection struct {
	address, token, namespace string
	retries                   int // the clients' own is 2
}

// vendors makes a Caller over each vendor's client. Retries are off unless asked for, and without their pauses.
var vendors = map[string]func(t testing.TB, c connection) vaulttransit.Caller{
	"vault": func(t testing.TB, c connection) vaulttransit.Caller {
		config := vault.DefaultConfig()
		if config.Error != nil {
			t.Fatal(config.Error)
		}
		config.Address, config.Timeout = c.address, 5*time.Minute
		config.MaxRetries, config.MinRetryWait, config.MaxRetryWait = c.retries, time.Millisecond, time.Millisecond
		client, err := vault.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		client.SetToken(c.token)
		client.SetNamespace(c.namespace)
		return transitOf(client)
	},
	"openbao": func(t testing.TB, c connection) vaulttransit.Caller {
		config := bao.DefaultConfig()
		if config.Error != nil {
			t.Fatal(config.Error)
		}
		config.Address, config.Timeout = c.address, 5*time.Minute
		config.MaxRetries, config.MinRetryWait, config.MaxRetryWait = c.retries, time.Millisecond, time.Millisecond
		client, err := bao.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		client.SetToken(c.token)
		client.SetNamespace(c.namespace)
		return baoTransitOf(client)
	},
}
