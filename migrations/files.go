package migrations

// files.go owns the SQL: its names, its order, and where one statement ends.

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

//go:embed sql
var files embed.FS

// dialects are GORM's names, and folders.
var dialects = []string{"mysql", "postgres", "sqlite"}

// tables are all that the migrations make, parents last.
var tables = []string{"rowseal_migrations", "rowseal_index_keys", "rowseal_branch_keys", "rowseal_epochs", "rowseal_events", "rowseal_failures", "rowseal_ranges", "rowseal_runs"}

// Files is the SQL for one database, named as GORM names it ("postgres", "mysql", "sqlite"): 0001_ledger.up.sql, 0001_ledger.down.sql and so
// on. golang-migrate and `atlas migrate import` take these names as they are; goose wants the two in one file, under `-- +goose Up` and
// `-- +goose Down`. A file runs whole, in one transaction but for MySQL. The way up records its version in rowseal_migrations and the way down
// removes it, so that [Up] and [Status] know whoever ran them. The way down asks nothing: it drops a ledger that holds runs, keys of indexes, and branch keys.
func Files(dialect string) (fs.FS, error) {
	dir, err := folder(dialect)
	if err != nil {
		return nil, fmt.Errorf("migrations: files: %w", err)
	}
	return dir, nil
}

func folder(dialect string) (fs.FS, error) {
	if !slices.Contains(dialects, dialect) {
		return nil, fmt.Errorf("no SQL for the database %q; there is for postgres, mysql (MariaDB as well) and sqlite", dialect)
	}
	return fs.Sub(files, "sql/"+dialect)
}

type migration struct {
	number   int
	name     string
	up, down []string // statements
}

func (m *migration) file(way string) string {
	return fmt.Sprintf("%04d_%s.%s.sql", m.number, m.name, way)
}

var fileName = regexp.MustCompile(`^([0-9]{4})_([a-z0-9_]+)\.(up|down)\.sql$`)

// parse reads a folder. Numbers count up from 1, and each migration has both ways: the one at index i is number i+1.
func parse(dir fs.FS) ([]migration, error) {
	entries, err := fs.ReadDir(dir, ".") // sorted by name, so down comes before up
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, entry := range entries {
		parts := fileName.FindStringSubmatch(entry.Name())
		if parts == nil {
			return nil, fmt.Errorf("%s: a migration is named like 0001_ledger.up.sql", entry.Name())
		}
		text, err := fs.ReadFile(dir, entry.Name())
		if err != nil {
			return nil, err
		}
		number, _ := strconv.Atoi(parts[1])
		if i%2 == 0 {
			all = append(all, migration{number: i/2 + 1, name: parts[2]})
		}
		m := &all[len(all)-1]
		way, statements := "down", &m.down
		if i%2 == 1 {
			way, statements = "up", &m.up
		}
		if entry.Name() != m.file(way) || number != m.number {
			return nil, fmt.Errorf("%s stands where %s belongs: numbers count up from 1 without a gap, and each has a way down and a way up", entry.Name(), m.file(way))
		}
		if *statements, err = split(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
	}
	if len(entries) == 0 || len(entries)%2 == 1 {
		return nil, errors.New("the way up of the last migration is missing")
	}
	return all, nil
}

// split takes a file apart: drivers differ in whether they take several statements at once. One ends with a semicolon at the end of a line,
// and the files hold no other semicolon.
func split(text string) (statements []string, err error) {
	for {
		statement, rest, ended := strings.Cut(text, ";\n")
		switch {
		case strings.Contains(statement, ";"):
			return nil, fmt.Errorf("a semicolon within a line: %q", statement)
		case !ended && strings.TrimSpace(statement) != "":
			return nil, fmt.Errorf("no semicolon ends %q", statement)
		case !ended:
			return statements, nil
		}
		statements, text = append(statements, strings.TrimSpace(statement)), rest
	}
}

// title is what a statement is called in an error: its first line that is not a comment.
func title(statement string) string {
	for line := range strings.Lines(statement) {
		if !strings.HasPrefix(line, "--") {
			return strings.TrimRight(line, " (\n")
		}
	}
	return ""
}

func load(dialect string) ([]migration, error) {
	dir, err := folder(dialect)
	if err != nil {
		return nil, err
	}
	return parse(dir)
}
