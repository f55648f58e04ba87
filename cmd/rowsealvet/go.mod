module github.com/rowseal/rowseal/cmd/rowsealvet

go 1.26.0

require (
	github.com/rowseal/rowseal v0.0.0
	golang.org/x/tools v0.51.0
	gorm.io/gorm v1.31.2
)

require (
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	golang.org/x/mod v0.41.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
