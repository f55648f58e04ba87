// Rowsealvet finds what the rowseal plugin would refuse, and what it cannot see, before the program runs.
//
//	go install github.com/rowseal/rowseal/cmd/rowsealvet@latest
//	go vet -vettool=$(which rowsealvet) ./...
//
// It finds:
//
//   - constant SQL, clauses, map keys and column names that compare, sort, group by, compute with or write a sealed column, or write a
//     key column or a primary key;
//   - structs other than the model that are written to the model's table;
//   - columns of the encryption context that are written in rows that were not loaded;
//   - struct tags that seal nothing, and map keys that name nothing.
//
// It cannot see text that is put together at run time, statements whose model another package decides, and tables of packages that are
// not imported. No finding is no proof.
//
// It runs by itself as well: rowsealvet ./... prints the findings, rowsealvet -json ./... for other programs, and rowsealvet -fix ./...
// mends the tags. All that it finds, and what it cannot know, is in the documentation of package
// [github.com/rowseal/rowseal/cmd/rowsealvet/analyzer], which is public for those who run analyzers in a binary of their own.
package main

import (
	"golang.org/x/tools/go/analysis/singlechecker"

	"github.com/rowseal/rowseal/cmd/rowsealvet/analyzer"
)

func main() { singlechecker.Main(analyzer.Analyzer) }
