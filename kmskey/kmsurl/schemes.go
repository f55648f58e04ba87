// schemes.go owns how each service's client is made.

package kmsurl

import (
	"cmp"
	"context"
	"errors"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	googlekms "cloud.google.com/go/kms/apiv1"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	bao "github.com/openbao/openbao/api/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/azurekv"
	"github.com/rowseal/rowseal/kmskey/gcpkms"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/kmskey/vaulttransit"
)

// scheme is a kind of URL.
type scheme struct {
	form    string   // an example, for errors
	options []string // sorted
	check   func(url) error
	open    func(context.Context, hooks, url, *opened) error
}

// hooks are what tests put in place of Azure, which takes no plain HTTP.
type hooks struct {
	azure      azkeys.ClientOptions
	credential azcore.TokenCredential
}

var schemes = map[string]scheme{
	"awskms": {
		form:    "awskms:alias/app or awskms:arn:aws:kms:eu-west-1:111122223333:key/…",
		options: []string{"account", "endpoint", "fips", "previous", "profile", "region", "replicas", "retries", "timeout"},
		check:   checkAWS, open: openAWS,
	},
	"azurekv": {form: "azurekv:https://acme.vault.azure.net/keys/rows", options: []string{"timeout"}, check: checkAzure, open: openAzure},
	"gcpkms": {
		form:    "gcpkms:projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows",
		options: []string{"attempts", "endpoint", "timeout"}, open: openGoogle,
	},
	"local": {form: "local:file:/etc/app/rowseal.key or local:env:ROWSEAL_KEY", check: checkLocal, open: openLocal},
	"vault": {form: "vault:transit/app", options: []string{"addr", "namespace", "timeout"}, check: checkVault, open: openVault},
	testKey: {form: testKey, open: func(_ context.Context, _ hooks, _ url, o *opened) error {
		o.provider = localkey.NewInsecure()
		return nil
	}},
}

func openAWS(ctx context.Context, _ hooks, u url, o *opened) error {
	client, err := clientAWS(ctx, u)
	if err != nil {
		return err
	}
	p, err := awskms.New(client, u.key, awskms.Config{
		Account: u.options["account"], PreviousKeys: u.list("previous"), ReplicaRegions: u.list("replicas"), Timeout: u.timeout(),
	})
	if err != nil {
		return err
	}
	o.provider = p
	return nil
}

// defaultRetries is how many requests a second are repeats. The SDK's own budget is one that time does not refill: see awskms.Retries.
const defaultRetries = 10

func clientAWS(ctx context.Context, u url) (*kms.Client, error) {
	var options []func(*config.LoadOptions) error
	// Only there may an ARN's key be asked for, whatever AWS_REGION says. A malformed one has none, and awskms.New says so.
	inARN, _ := arnOf(u.key)
	if region := cmp.Or(u.options["region"], inARN); region != "" {
		options = append(options, config.WithRegion(region))
	}
	if profile := u.options["profile"]; profile != "" {
		options = append(options, config.WithSharedConfigProfile(profile))
	}
	if u.options["fips"] != "" {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" && !isARN(u.key) {
		return nil, errors.New("no region: add the option region, name the key by its ARN, or set AWS_REGION")
	}
	retries := float64(defaultRetries)
	if n, err := strconv.Atoi(u.options["retries"]); err == nil {
		retries = float64(n)
	}
	return kms.NewFromConfig(cfg, awskms.Retries(retries), func(k *kms.Options) {
		if endpoint := u.options["endpoint"]; endpoint != "" {
			k.BaseEndpoint = aws.String(endpoint)
		}
	}), nil
}

func openAzure(_ context.Context, h hooks, u url, o *opened) error {
	credential := h.credential
	if credential == nil {
		var err error
		if credential, err = azidentity.NewDefaultAzureCredential(nil); err != nil {
			return err
		}
	}
	client, err := azkeys.NewClient(vaultOf(u.key), credential, &h.azure)
	if err != nil {
		return err
	}
	p, err := azurekv.New(client, u.key, azurekv.Config{Timeout: u.timeout()})
	if err != nil {
		return err
	}
	o.provider = p
	return nil
}

func openGoogle(ctx context.Context, _ hooks, u url, o *opened) error {
	var options []option.ClientOption
	if endpoint, err := neturl.Parse(u.options["endpoint"]); err == nil && endpoint.Host != "" {
		host := endpoint.Host
		if endpoint.Port() == "" {
			host += map[string]string{"https": ":443", "http": ":80"}[endpoint.Scheme]
		}
		options = append(options, option.WithEndpoint(host))
		if endpoint.Scheme == "http" { // of the loopback: see isAddress
			options = append(options, option.WithoutAuthentication(), option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
		}
	}
	// Some credentials keep ctx to renew themselves with.
	client, err := googlekms.NewKeyManagementClient(context.WithoutCancel(ctx), options...)
	if err != nil {
		return err
	}
	attempts, _ := strconv.Atoi(u.options["attempts"]) // 0 where there is none
	p, err := gcpkms.New(client, u.key, gcpkms.Config{Timeout: u.timeout(), Attempts: attempts})
	if err != nil {
		return errors.Join(err, client.Close())
	}
	o.provider, o.close = p, client.Close
	return nil
}

func openLocal(_ context.Context, _ hooks, u url, o *opened) error {
	from := localkey.FromFile
	kind, name, _ := strings.Cut(u.key, ":")
	if kind == "env" {
		from = localkey.FromEnv
	}
	p, err := from(name)
	if err != nil {
		return err
	}
	o.provider = p
	return nil
}

func openVault(_ context.Context, _ hooks, u url, o *opened) error {
	cfg := bao.DefaultConfig()
	if cfg.Error != nil {
		return cfg.Error
	}
	if addr := u.options["addr"]; addr != "" {
		cfg.Address, cfg.AgentAddress = addr, ""
	} else if bao.ReadBaoVariable(bao.EnvVaultAddress) == "" && cfg.AgentAddress == "" {
		// The client would ask https://127.0.0.1:8200, which is a guess.
		return errors.New("no address: set VAULT_ADDR, or add the option addr")
	}
	client, err := bao.NewClient(cfg)
	if err != nil {
		return err
	}
	if namespace := u.options["namespace"]; namespace != "" {
		client.SetNamespace(namespace)
	}
	mount, key := mountOf(u.key)
	p, err := vaulttransit.New(transitOf(client), key, vaulttransit.Config{Mount: mount, Timeout: u.timeout()})
	if err != nil {
		return err
	}
	o.provider = p
	o.close = func() error {
		cfg.HttpClient.CloseIdleConnections()
		return nil
	}
	return nil
}

func transitOf(client *bao.Client) vaulttransit.Caller {
	return func(ctx context.Context, path string, in map[string]any) (map[string]any, error) {
		var out *bao.Secret
		var err error
		if in == nil {
			out, err = client.Logical().ReadWithContext(ctx, path)
		} else {
			out, err = client.Logical().WriteWithContext(ctx, path, in)
		}
		if refused, ok := errors.AsType[*bao.ResponseError](err); ok {
			return nil, &vaulttransit.StatusError{Status: refused.StatusCode, Messages: refused.Errors}
		}
		if err != nil || out == nil {
			return nil, err
		}
		return out.Data, nil
	}
}

// list is an option of several values.
func (u url) list(name string) []string {
	if u.options[name] == "" {
		return nil
	}
	return strings.Split(u.options[name], ",")
}

// timeout is 0, the package's default, where there is none.
func (u url) timeout() time.Duration {
	d, _ := time.ParseDuration(u.options["timeout"])
	return d
}
