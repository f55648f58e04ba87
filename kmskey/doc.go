// Package kmskey is one data key and its wrapped form.
package kmskey
