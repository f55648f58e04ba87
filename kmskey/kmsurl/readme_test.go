package kmsurl_test

import (
	"context"
	"os"
	"testing"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmsurl"
)

// serve is what README.md shows.
func serve(ctx context.Context, run func(*kmskey.Keyring) error) error {
	// #region url
	kms, err := kmsurl.Open(ctx, os.Getenv("APP_KMS")) // "awskms:alias/app?region=eu-west-1"
	if err != nil {
		return err
	}
	defer kms.Close()
	if err := kms.Check(ctx); err != nil {
		return err
	}
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: kms.Provider}}})
	// #endregion
	if err != nil {
		return err
	}
	return run(keys)
}

func TestREADME(t *testing.T) {
	t.Setenv("APP_KMS", "insecure-test-key")
	ran := false
	if err := serve(t.Context(), func(keys *kmskey.Keyring) error { ran = keys.Current() == 1; return nil }); err != nil || !ran {
		t.Errorf("%v", err)
	}
}
