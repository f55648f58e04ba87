module github.com/rowseal/rowseal/pgcopy

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/rowseal/rowseal v0.0.0
	gorm.io/gorm v1.31.2
)

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jinzhu/inflection v1.0.0 // indirect
	github.com/jinzhu/now v1.1.5 // indirect
	golang.org/x/text v0.41.0 // indirect
)
