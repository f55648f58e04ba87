// lex.go owns the words of SQL text, in the union of what Postgres, MySQL and SQLite take for one.

package sqltext

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind byte

const (
	name   kind = iota // an identifier or a keyword
	quoted             // an identifier in quotes, never a keyword
	value              // a literal or a bind value
	symbol             // one character of anything else
	block              // a dollar-quoted string, which may hold code
	end                // nothing is left
)

type token struct {
	kind     kind
	text     string
	from, to int // where in the text it stands
}

// is reports a keyword.
func (t token) is(keywords ...string) bool {
	if t.kind != name {
		return false
	}
	for _, k := range keywords {
		if strings.EqualFold(t.text, k) {
			return true
		}
	}
	return false
}

func (t token) symbol(s string) bool { return t.kind == symbol && t.text == s }

func (t token) identifier() bool { return t.kind == name || t.kind == quoted }

// dialect is what databases read differently.
type dialect struct {
	nested bool // comments nest: Postgres does, MySQL and SQLite do not
	mysql  bool // a backslash in a string hides the next character, # begins a comment, and /*! … */ is none
	square bool // square brackets quote whatever is in them: SQLite does, Postgres has arrays
	depth  int  // dollar quotes around the text
}

// maxDepth bounds dollar quotes within dollar quotes. Deeper ones are read as plain text, which finds more names, not fewer.
const maxDepth = 4

// dialects lists the readings that text admits. Text that hides a name in one of them must not pass because of another.
func dialects(sql string) []dialect {
	out := []dialect{{}}
	also := func(change func(*dialect)) {
		for _, d := range out {
			change(&d)
			out = append(out, d)
		}
	}
	if strings.Contains(sql, "/*") {
		also(func(d *dialect) { d.nested = true })
	}
	if strings.ContainsAny(sql, `\#`) || strings.Contains(sql, "/*!") || strings.Contains(sql, "/*M!") || strings.Contains(sql, "--") {
		also(func(d *dialect) { d.mysql = true })
	}
	if strings.Contains(sql, "[") {
		also(func(d *dialect) { d.square = true })
	}
	return out
}

// lex splits SQL into tokens. It never fails: what is not closed goes on to the end.
func lex(sql string, d dialect) []token {
	tokens := make([]token, 0, len(sql)/4)
	begun, i := 0, 0
	place := func() {
		if n := len(tokens); n > 0 && tokens[n-1].to == 0 {
			tokens[n-1].from, tokens[n-1].to = begun, i
		}
		begun = i
	}
	defer place()
	for i < len(sql) {
		place()
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case c == '-' && strings.HasPrefix(sql[i:], "--") && !(d.mysql && i+2 < len(sql) && sql[i+2] > ' '),
			c == '#' && d.mysql:
			i = line(sql, i)
		case c == '/' && d.mysql && strings.HasPrefix(sql[i:], "/*!"):
			i = word(sql, i+3) // a version may follow; its end is two symbols
		case c == '/' && d.mysql && strings.HasPrefix(sql[i:], "/*M!"):
			i = word(sql, i+4) // the same for MariaDB alone
		case c == '/' && strings.HasPrefix(sql[i:], "/*"):
			i = comment(sql, i, d.nested)
		case c == '\'':
			n := len(tokens)
			escaped := n > 0 && tokens[n-1].is("E") && (sql[i-1] == 'e' || sql[i-1] == 'E')
			next := str(sql, i, d.mysql || escaped)
			if n > 0 && tokens[n-1].is("DO", "AS", "EXECUTE") && d.depth < maxDepth {
				// DO '…', CREATE FUNCTION … AS '…' and EXECUTE '…' hold code as well.
				inside := strings.TrimSuffix(sql[i+1:next], "'")
				tokens = append(tokens, token{kind: block, text: strings.ReplaceAll(inside, "''", "'")})
			} else {
				tokens = append(tokens, token{kind: value})
			}
			i = next
		case c == '"' || c == '`':
			next := ident(sql, i, c, d.mysql && c == '"')
			text := strings.Trim(sql[i:next], `"`+"`")
			if n := len(tokens); c == '"' && i > 1 && sql[i-1] == '&' && n > 1 && tokens[n-2].is("U") {
				text, tokens = unescape(text, sql[next:]), tokens[:n-2] // U&"…" of Postgres
			}
			tokens = append(tokens, token{kind: quoted, text: text})
			i = next
		case c == '[':
			next := strings.IndexByte(sql[i:], ']')
			// Brackets quote in SQL Server and SQLite, and index arrays in Postgres.
			if next < 2 || !begins(sql[i+1:]) || !d.square && (word(sql, i+1) != i+next || indexes(sql, i, tokens)) {
				tokens = append(tokens, token{kind: symbol, text: "["})
				i++
				continue
			}
			tokens = append(tokens, token{kind: quoted, text: sql[i+1 : i+next]})
			i += next + 1
		case c == '$':
			if next, inside, ok := dollar(sql, i); ok && d.depth < maxDepth {
				tokens = append(tokens, token{kind: block, text: inside})
				i = next
				continue
			}
			i = word(sql, i+1)
			tokens = append(tokens, token{kind: value})
		case c == '?':
			i++
			tokens = append(tokens, token{kind: value})
		case c >= '0' && c <= '9':
			i = word(sql, i)
			tokens = append(tokens, token{kind: value})
		case begins(sql[i:]):
			next := word(sql, i)
			tokens = append(tokens, token{kind: name, text: sql[i:next]})
			i = next
		default:
			_, size := utf8.DecodeRuneInString(sql[i:])
			tokens = append(tokens, token{kind: symbol, text: sql[i : i+size]})
			i += size
		}
	}
	return tokens
}

// indexes reports a bracket right behind a name, another bracket or a parenthesis, or behind ARRAY.
func indexes(sql string, i int, tokens []token) bool {
	n := len(tokens)
	return n > 0 && (tokens[n-1].is("ARRAY") || sql[i-1] > ' ' && (tokens[n-1].identifier() || tokens[n-1].symbol(")") || tokens[n-1].symbol("]")))
}

// begins reports that an identifier begins here.
func begins(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return r == '_' || unicode.IsLetter(r)
}

func word(s string, i int) int {
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return i
		}
		i += size
	}
	return i
}

func line(s string, i int) int {
	if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
		return i + n + 1
	}
	return len(s)
}

func comment(s string, i int, nested bool) int {
	depth := 1
	for i += 2; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "*/"):
			i++
			if depth--; depth == 0 {
				return i + 1
			}
		case nested && strings.HasPrefix(s[i:], "/*"):
			i++
			depth++
		}
	}
	return len(s)
}

// str gives the position after a string; a doubled quote does not end it.
func str(s string, i int, backslash bool) int {
	for i++; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == '\'':
			if i+1 < len(s) && s[i+1] == '\'' {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(s)
}

// unescape reads \0061 and \+000061, or the same with the character that UESCAPE '…' gives.
func unescape(s, rest string) string {
	escape := byte('\\')
	if word := strings.TrimSpace(rest); len(word) > 7 && strings.EqualFold(word[:7], "UESCAPE") {
		if quote := strings.IndexByte(word, '\''); quote > 0 && quote+1 < len(word) {
			escape = word[quote+1]
		}
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		digits := s[i+1:]
		if s[i] != escape {
			out.WriteByte(s[i])
			continue
		}
		length := 4
		if strings.HasPrefix(digits, "+") {
			digits, length = digits[1:], 6
			i++
		}
		r, err := strconv.ParseUint(digits[:min(length, len(digits))], 16, 32)
		if err != nil {
			length = 0 // the character itself, doubled
		} else {
			out.WriteRune(rune(r))
		}
		i += length
	}
	return out.String()
}

func ident(s string, i int, quote byte, backslash bool) int {
	for i++; i < len(s); i++ {
		if backslash && s[i] == '\\' {
			i++
			continue
		}
		if s[i] != quote {
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			i++
			continue
		}
		return i + 1
	}
	return len(s)
}

// dollar reads $tag$…$tag$.
func dollar(s string, i int) (next int, inside string, ok bool) {
	tagEnd := i + 1
	if tagEnd < len(s) && begins(s[tagEnd:]) {
		for tagEnd < len(s) && s[tagEnd] != '$' {
			r, size := utf8.DecodeRuneInString(s[tagEnd:])
			if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				return 0, "", false
			}
			tagEnd += size
		}
	}
	if tagEnd >= len(s) || s[tagEnd] != '$' {
		return 0, "", false
	}
	tag := s[i : tagEnd+1]
	body := s[tagEnd+1:]
	n := strings.Index(body, tag)
	if n < 0 {
		return len(s), body, true
	}
	return tagEnd + 1 + n + len(tag), body[:n], true
}
