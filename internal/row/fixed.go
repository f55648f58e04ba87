// fixed.go owns columns of fixed width, whose text the database gives back otherwise than it was written: a row's key is bound to what is
// written, and opens under what is read.

package row

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/canon"
	"github.com/rowseal/rowseal/kmskey"
)

var fixedType = regexp.MustCompile(`(?i)^\s*(?:char|character|bpchar)\s*(?:\(\s*([0-9]+)\s*\))?\s*(?:$|(?:not|character|collate|check|default)\b)`)

// width is n where a tag declares the column as char(n), and 0 where it does not. A column that only a migration knows as one is found when
// it is read; see padded.
func width(f *schema.Field) int {
	found := fixedType.FindStringSubmatch(string(f.DataType))
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		n = max(f.Size, 1)
	}
	return n
}

// returns refuses a new key for a row with a text that the database would not give back: Postgres fills a char(n) up with blanks, MySQL and
// MariaDB take blanks off its end.
func (b binding) returns() error {
	if b.model == nil || !b.model.fixed {
		return nil
	}
	m := b.model
	check := func(p part, value kmskey.Value) error {
		text, ok := textOf(value)
		if !ok || p.width == 0 {
			return nil
		}
		switch {
		case m.options.Dialect == "postgres" && utf8.RuneCountInString(text) != p.width:
			return fmt.Errorf("%w: column %q is char(%[3]d) and comes back with blanks at its end, under which the row's key would not open; make it varchar(%[3]d), or give all %[3]d characters", ErrContext, p.column.DBName, p.width)
		case m.options.Dialect == "mysql" && strings.HasSuffix(text, " "):
			return fmt.Errorf("%w: column %q is char(%[3]d) and comes back without the blanks at its end, under which the row's key would not open; make it varchar(%[3]d), or take them off", ErrContext, p.column.DBName, p.width)
		}
		return nil
	}
	if b.id != "" {
		for i, value := range canon.Values(b.id) {
			if err := check(m.ids[i], value); err != nil {
				return err
			}
		}
	}
	version := m.Keys.Current()
	pairs, err := b.context(version, canon.Values(b.id))
	if err != nil {
		return err
	}
	for _, p := range m.declaredFor(version).columns {
		for _, pair := range pairs {
			if pair.Name != p.column.DBName {
				continue
			}
			if err := check(p, pair.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// padded adds to a key's refusal what may be behind it, where a text of the row came with blanks at its end. Nothing is lost then: as
// varchar the column gives back what was written.
func (b binding) padded(err error) error {
	if !errors.Is(err, kmskey.ErrContextMismatch) && !errors.Is(err, kmskey.ErrCommitment) {
		return err
	}
	ids := canon.Values(b.id)
	for i, value := range ids {
		if text, ok := textOf(value); ok && strings.HasSuffix(text, " ") {
			return because(err, b.model.ids[i].column.DBName)
		}
	}
	for _, version := range b.model.versions {
		pairs, contextErr := b.context(version, ids)
		if contextErr != nil {
			continue // the keyring told of the one that it needed
		}
		for _, pair := range pairs {
			if text, ok := textOf(pair.Value); ok && strings.HasSuffix(text, " ") && pair.Name != "model_id" {
				return because(err, pair.Name)
			}
		}
	}
	return err
}

func because(err error, column string) error {
	return fmt.Errorf("%w; column %q came with blanks at its end, as char(n) gives back a text that was shorter when the row's key was made: if it is char(n), ALTER it to varchar(n), which takes them off", err, column)
}

func textOf(v kmskey.Value) (text string, ok bool) {
	text = v.String()
	return text, v == kmskey.Text(text)
}
