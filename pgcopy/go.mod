module github.com/rowseal/rowseal/pgcopy

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/rowseal/rowseal v0.0.0
	gorm.io/gorm v1.31.2
)
