package gcpkms_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	kms "cloud.google.com/go/kms/apiv1"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/gcpkms"
)

// newProvider is what README.md shows.
func newProvider(ctx context.Context) (kmskey.Provider, error) {
	// #region gcp
	client, err := kms.NewKeyManagementClient(ctx)
	if err != nil {
		return nil, err
	}
	return gcpkms.New(client, "projects/acme/locations/europe-west3/keyRings/app/cryptoKeys/rows", gcpkms.Config{})
	// #endregion
}

// TestREADME runs it under credentials that no call is made with.
func TestREADME(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials.json")
	must(t, os.WriteFile(file, []byte(`{"type":"authorized_user","client_id":"x","client_secret":"x","refresh_token":"x"}`), 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	if _, err := newProvider(t.Context()); err != nil {
		t.Error(err)
	}
}
