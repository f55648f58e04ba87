package kmskey_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/rowseal/rowseal/kmskey"
)

// An export that leaves the database keeps its protection: sealed for one purpose, under a context that the key service's log shows.
func ExampleBox() {
	ctx := context.Background()
	v1, v2 := &testProvider{ref: "key-1"}, &testProvider{ref: "key-2"} // awskms.New(client, "alias/app"), say
	old, _ := kmskey.New(kmskey.Config{Namespace: "clinic/production", Versions: map[int]kmskey.Version{1: {Provider: v1}}})
	exports, _ := kmskey.NewBox(old, "exports")

	report := kmskey.Pair{Name: "report", Value: kmskey.Int(7)}
	sealed, err := exports.Seal(ctx, []byte("name,born\nAda,1815-12-10\n"), report)
	fmt.Println(strings.HasPrefix(sealed, "v1:"), err)

	// Another version of the key, some day: the message itself is not touched.
	both, _ := kmskey.New(kmskey.Config{Namespace: "clinic/production", Current: 2, Versions: map[int]kmskey.Version{1: {Provider: v1}, 2: {Provider: v2}}})
	exports, _ = kmskey.NewBox(both, "exports")
	same := []kmskey.Pair{report}
	sealed, err = exports.Rewrap(ctx, sealed, same, same)
	fmt.Println(strings.HasPrefix(sealed, "v2:"), err)

	message, err := exports.Open(ctx, sealed, report)
	fmt.Printf("%s%v\n", message, err)
	_, err = exports.Open(ctx, sealed, kmskey.Pair{Name: "report", Value: kmskey.Int(8)})
	fmt.Println(err)
	// Output:
	// true <nil>
	// true <nil>
	// name,born
	// Ada,1815-12-10
	// <nil>
	// kmskey: open in box "exports": kmskey: unwrap (version 2) with test key "key-2": not authentic under this encryption context (wrong row, wrong key, or altered); asked under the context {report}: either one of these is not what it was when the key was wrapped, or the key is another row's or was altered
}

// What to ask Vault's sys/audit-hash for, to find a row's requests in the log of an audit device.
func ExampleContext_Canonical() {
	ec, err := kmskey.NewContext(kmskey.Pair{Name: "model_name", Value: kmskey.Text("Patient")}, kmskey.Pair{Name: "model_id", Value: kmskey.Int(42)})
	fmt.Println(base64.StdEncoding.EncodeToString(ec.Canonical()), err)
	// Output:
	// AQAAAA9yb3dzZWFsL2NvbnRleHQBAAAACG1vZGVsX2lkAgAAAAI0MgEAAAAKbW9kZWxfbmFtZQEAAAAHUGF0aWVudA== <nil>
}
