// Rowsealvet finds what the rowseal plugin would refuse, and what it cannot see, before the program runs: constant SQL that compares or
// writes a sealed column, map keys that name one or name nothing, and struct tags that seal nothing.
//
//	go install github.com/rowseal/rowseal/cmd/rowsealvet@latest
//	go vet -vettool=$(which rowsealvet) ./...
//
// It runs by itself as well: rowsealvet ./... What it finds, and what it cannot know, is in the documentation of package
// [github.com/rowseal/rowseal/cmd/rowsealvet/analyzer], which is public for those who run analyzers in a binary of their own.
package main

import (
	"golang.org/x/tools/go/analysis/singlechecker"

	"github.com/rowseal/rowseal/cmd/rowsealvet/analyzer"
)

func main() { singlechecker.Main(analyzer.Analyzer) }
