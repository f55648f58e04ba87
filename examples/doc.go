// Package examples holds programs that show one thing each. Every folder is a main that runs from the root of the
// repository: go run ./examples/quickstart.
package examples
