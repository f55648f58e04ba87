package kmsurl_test

import (
	"context"
	"fmt"

	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/kmsurl"
)

// The text is what a configuration file says, here of two regions.
func Example() {
	text := "awskms:alias/app?region=eu-west-1&account=111122223333 awskms:alias/app?region=eu-central-1&account=111122223333"

	kms, err := kmsurl.Open(context.Background(), text)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer kms.Close()
	// At start-up, also: kms.Check(ctx)
	keys, err := kmskey.New(kmskey.Config{Versions: map[int]kmskey.Version{1: {Provider: kms.Provider}}})
	fmt.Println(kms.Provider, keys.Current(), err)
	// Output:
	// kmskey.Multi(awskms.Provider(alias/app, eu-west-1), awskms.Provider(alias/app, eu-central-1)) 1 <nil>
}

// What is wrong is said without repeating what may be a secret.
func ExampleOpen_refused() {
	for _, text := range []string{"aws:alias/app", "vault:transit/app?token=hvs.CAESIJ", "gcpkms:projects/acme?endpoint=http://kms.example.org"} {
		_, err := kmsurl.Open(context.Background(), text)
		fmt.Println(err)
	}
	// Output:
	// kmsurl: open: no scheme "aws", did you mean awskms?; there are awskms, azurekv, gcpkms, insecure-test-key, local, vault
	// kmsurl: open: vault: no option "token": credentials do not stand in a URL but in the environment; change them if this text was logged
	// kmsurl: open: gcpkms: option "endpoint" must be https://…: http:// is for the loopback alone, since data keys would travel in the clear
}
