// Package rowseal is as much of github.com/rowseal/rowseal as the tests need.
package rowseal

import "github.com/rowseal/rowseal/internal/row"

type (
	RowKey        = row.RowKey
	Key           = row.Key
	Secret[T any] = row.Secret[T]
	Context       = row.Context
)

type Config struct{ Models []any }

type Model struct {
	Value    any
	Name     string
	Context  Context
	Contexts map[int]Context
}

func Columns(names ...string) Context { return Context{Columns: names} }
