module github.com/rowseal/rowseal/examples

go 1.26.0
