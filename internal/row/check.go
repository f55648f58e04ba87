// check.go owns the database's own guard: the CHECK on each sealed column and each key column, in each database's words. It is for
// what never passes GORM: docs/format.md, section 12.

package row

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/field"
	"github.com/rowseal/rowseal/kmskey"
)

// Check is the constraint on one column.
type Check struct {
	Column *schema.Field
	Key    bool // a key column, not a sealed one
	Name   string
	Expr   string
}

// Checks gives the constraints on a table with the plan's columns, in the order of the schema. It is false for a database whose SQL
// is not known here. quote quotes a column's name.
func (p *Plan) Checks(dialect, table string, quote func(string) string) ([]Check, bool) {
	words, ok := guards[dialect]
	if !ok {
		return nil, false
	}
	var checks []Check
	for _, column := range p.Schema.DBNames {
		c := Check{Name: checkName(table, column)}
		f, g := p.Lookup(column), p.LookupKey(column)
		var form string
		switch {
		case g != nil:
			c.Column, c.Key, form = g.Column, true, words.key
		case f != nil && f.Text:
			c.Column, form = f.Column, words.text
		case f != nil:
			c.Column, form = f.Column, words.bytes
		default:
			continue
		}
		c.Expr = strings.ReplaceAll(form, "{c}", quote(column))
		checks = append(checks, c)
	}
	return checks, true
}

// words are one database's expressions for {c}, the quoted column. NULL passes each. They hold no "?", which GORM would bind, and no
// "|" or doubled quote outside a text where GORM's SQLite migrator, which reads them back, takes it for a quote.
type words struct{ bytes, text, key string }

var guards = map[string]words{
	// decode(), since what '\xf9' means is a setting; COLLATE "C", since a column's collation may be one that equates letters.
	"postgres": {
		bytes: fmt.Sprintf(`{c} IS NULL OR (substring({c}, 1, 1) = decode('%02x', 'hex') AND octet_length({c}) >= %d)`, field.FirstByte, field.Overhead),
		text:  fmt.Sprintf(`{c} IS NULL OR (left({c}, %d) = '%s' COLLATE "C" AND octet_length({c}) >= %d)`, len(field.TextPrefix), field.TextPrefix, shortestText),
		key:   fmt.Sprintf(`{c} IS NULL OR {c} ~ '%s' COLLATE "C"`, keyPattern),
	},
	// A collation would take RS1: for rs1:, and the column may have any character set.
	"mysql": {
		bytes: fmt.Sprintf(`{c} IS NULL OR (ORD({c}) = %d AND OCTET_LENGTH({c}) >= %d)`, field.FirstByte, field.Overhead),
		text:  fmt.Sprintf(`{c} IS NULL OR (CONVERT(LEFT({c}, %d) USING utf8mb4) COLLATE utf8mb4_bin = '%s' AND OCTET_LENGTH({c}) >= %d)`, len(field.TextPrefix), field.TextPrefix, shortestText),
		key:   fmt.Sprintf(`{c} IS NULL OR CONVERT({c} USING utf8mb4) COLLATE utf8mb4_bin REGEXP '%s'`, keyPattern),
	},
	// A column takes values of any type here, and there is no REGEXP.
	"sqlite": {
		bytes: fmt.Sprintf(`{c} IS NULL OR (typeof({c}) = 'blob' AND substr({c}, 1, 1) = x'%02x' AND length({c}) >= %d)`, field.FirstByte, field.Overhead),
		text:  fmt.Sprintf(`{c} IS NULL OR (typeof({c}) = 'text' AND substr({c}, 1, %d) = '%s' AND length({c}) >= %d)`, len(field.TextPrefix), field.TextPrefix, shortestText),
		key: fmt.Sprintf(`{c} IS NULL OR (typeof({c}) = 'text' AND ({c} GLOB '%s*' OR {c} GLOB '%s*' OR ({c} GLOB 'v[1-9]*:*' AND substr({c}, 2, instr({c}, ':') - 2) NOT GLOB '*[^0-9]*')))`,
			kmskey.TokenPrefix, kmskey.ShreddedPrefix),
	},
}

var (
	shortestText = len(field.AppendText(nil, make([]byte, field.Overhead)))
	keyPattern   = "^(v[1-9][0-9]*:|" + kmskey.TokenPrefix + "|" + kmskey.ShreddedPrefix + ")"
)

// CheckPrefix begins the name of every constraint of ours.
const CheckPrefix = "rowseal_"

// maxName is what Postgres keeps of a name, in bytes; MySQL keeps 64 characters.
const maxName = 63

// checkName names the constraint on a column: rowseal_patients__name. MySQL wants names that are unique in the database, so the table
// is part of it, and two underscores keep table a, column b_c from table a_b, column c. A name that is too long, or that GORM would
// not take for one, is cut short and gets a hash of the whole.
func checkName(table, column string) string {
	table = strings.Trim(table[strings.LastIndexByte(table, '.')+1:], "`\"[]")
	name := CheckPrefix + table + "__" + column
	plain := strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
	if plain == name && len(name) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := "_" + hex.EncodeToString(sum[:4])
	return plain[:min(len(plain), maxName-len(hash))] + hash
}
