// Package integration tests Rowseal against real databases and real KMS protocols. It is a module of its own so that
// drivers and container clients stay out of every user's module graph.
package integration
