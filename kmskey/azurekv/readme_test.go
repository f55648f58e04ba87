package azurekv_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/azurekv"
)

// newProvider is what README.md shows.
func newProvider() (kmskey.Provider, error) {
	// #region azure
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, err
	}
	client, err := azkeys.NewClient("https://acme.vault.azure.net", credential, nil)
	if err != nil {
		return nil, err
	}
	return azurekv.New(client, "https://acme.vault.azure.net/keys/rows", azurekv.Config{})
	// #endregion
}

func TestREADME(t *testing.T) {
	if _, err := newProvider(); err != nil {
		t.Error(err)
	}
}
