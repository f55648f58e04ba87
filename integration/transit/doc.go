// Package transit holds the tests of kmskey/vaulttransit against Vault's own transit engine, which runs in the test process
// behind a small HTTP server, and against both vendors' own clients.
//
// The engine is that of Vault 1.14.8, the last under the Mozilla Public License that the module proxy serves in full. Nothing
// that users import depends on it. Router, tokens and policies are the tests' own, as a whole Vault takes ten minutes to compile.
//
// The module stands outside the workspace: GOWORK=off go test .
package transit
