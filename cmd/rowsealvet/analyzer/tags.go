// tags.go owns the findings in struct declarations: tags that seal nothing, and sealed fields without a key.

package analyzer

import (
	"fmt"
	"go/ast"
	"go/types"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/internal/row"
)

func (c *checker) checkTags() {
	for _, file := range c.pass.Files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.StructType:
				c.checkFields(n)
			case *ast.TypeSpec:
				if named := declared(c.pass.TypesInfo.Defs[n.Name]); named != nil {
					c.checkKeys(n, named)
				}
			}
			return true
		})
	}
}

// checkFields looks at each tag for itself.
func (c *checker) checkFields(node *ast.StructType) {
	st, ok := c.pass.TypesInfo.TypeOf(node).(*types.Struct)
	if !ok {
		return
	}
	i := 0
	for _, f := range node.Fields.List {
		if f.Tag != nil {
			c.checkTag(f, st.Field(i), reflect.StructTag(st.Tag(i)))
		}
		i += max(len(f.Names), 1)
	}
}

func (c *checker) checkTag(node *ast.Field, f *types.Var, tag reflect.StructTag) {
	words, tagged := tag.Lookup("rowseal")
	settings := schema.ParseTagSetting(tag.Get("gorm"), ";")
	key, secret := isRow(f.Type(), "Key"), isRow(deref(f.Type()), "Secret")
	if tagged {
		if _, err := row.CheckTag(words); err != nil {
			c.report(node.Tag, fmt.Sprintf("field %s: tag rowseal: %v", f.Name(), err))
		}
	}
	if key || secret || namesSerializer(settings) {
		return
	}
	switch wrong := misspelt(tag); {
	case wrong != "":
		c.reportTag(node, tag, wrong, fmt.Sprintf("field %s would be stored in plaintext: %s is no setting that seals; write gorm:\"serializer:rowseal\"", f.Name(), wrong))
	case tagged && settings["SERIALIZER"] != "":
		// Whether the other serializer or the sealing is meant cannot be told, so there is no fix.
		c.report(node.Tag, fmt.Sprintf("field %s has a rowseal tag and another serializer, so it would be stored in plaintext; write gorm:\"serializer:rowseal\", with rowseal:\"json\" where the value is to be JSON", f.Name()))
	case tagged:
		c.reportTag(node, tag, "", fmt.Sprintf("field %s has a rowseal tag but would be stored in plaintext; add gorm:\"serializer:rowseal\"", f.Name()))
	}
}

// reportTag reports a tag with the fix that puts serializer:rowseal into it: in the place of what was misspelt, else behind the other
// settings. There is no fix for a tag that is not written between backquotes.
func (c *checker) reportTag(node *ast.Field, tag reflect.StructTag, wrong, message string) {
	const setting = "serializer:" + row.SerializerName
	gorm, has := tag.Lookup("gorm")
	sealing := fmt.Sprintf("gorm:%q", setting)
	was, now := node.Tag.Value, ""
	switch ownKey := strings.HasPrefix(wrong, "serializer:"); {
	case !strings.HasPrefix(was, "`"):
	case ownKey && !has:
		now = strings.Replace(was, wrong, sealing, 1)
	case ownKey:
	case !has:
		now = "`" + sealing + " " + was[1:]
	default:
		var settings []string
		for s := range strings.SplitSeq(gorm, ";") {
			if s = strings.TrimSpace(s); s != "" && fmt.Sprintf("%q", s) != wrong {
				settings = append(settings, s)
			}
		}
		now = strings.Replace(was, fmt.Sprintf("gorm:%q", gorm), fmt.Sprintf("gorm:%q", strings.Join(append(settings, setting), ";")), 1)
	}
	if now == "" || now == was {
		c.report(node.Tag, message)
		return
	}
	c.reportFix(node.Tag, message, analysis.SuggestedFix{
		Message:   "Seal the field: write " + sealing,
		TextEdits: []analysis.TextEdit{{Pos: node.Tag.Pos(), End: node.Tag.End(), NewText: []byte(now)}},
	})
}

// misspelt gives the part of a tag that was meant to be gorm:"serializer:rowseal".
func misspelt(tag reflect.StructTag) string {
	if v, ok := tag.Lookup("serializer"); ok && near(v, row.SerializerName) {
		return fmt.Sprintf("serializer:%q", v)
	}
	for setting := range strings.SplitSeq(tag.Get("gorm"), ";") {
		setting = strings.TrimSpace(setting)
		name, value, colon := strings.Cut(setting, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case colon && near(name, "serializer") && near(value, row.SerializerName),
			!colon && near(name, row.SerializerName),
			!colon && strings.ContainsAny(name, "= ,") && strings.Contains(strings.ToLower(name), row.SerializerName):
			return fmt.Sprintf("%q", setting)
		}
	}
	return ""
}

// near reports two words that differ by at most two letters, or by case.
func near(a, b string) bool { return distance(strings.ToLower(a), strings.ToLower(b)) <= 2 }

// distance counts the letters to change, add, drop or swap with their neighbour between two words.
func distance(a, b string) int {
	above, before := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range before {
		before[j] = j
	}
	for i := 1; i <= len(a); i++ {
		line := make([]int, len(b)+1)
		line[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			line[j] = min(before[j]+1, line[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				line[j] = min(line[j], above[j-2]+1)
			}
		}
		above, before = before, line
	}
	return before[len(b)]
}

// checkKeys looks for the key column of each sealed field, as row.chooseKey does. A struct without a primary key and a table of its own
// may be meant to be embedded where a key is, so it is left alone.
func (c *checker) checkKeys(node *ast.TypeSpec, named *types.Named) {
	m := c.describe(named)
	if m == nil || !m.asksSealing() {
		return
	}
	stored := hasMethod(named, "TableName") || slices.ContainsFunc(m.Columns, func(c column) bool { return c.Primary })
	if !stored || c.isEmbedded(named) {
		return
	}
	keys := slices.ContainsFunc(m.Columns, func(c column) bool { return c.Key })
	for _, f := range m.Columns {
		if !f.Sealed {
			continue
		}
		at := c.declaration(node, f.field)
		if !keys {
			c.report(at, fmt.Sprintf("model %s has sealed fields and no key column; embed rowseal.RowKey", m.Name))
			return
		}
		if message := m.keyOf(f); message != "" {
			c.report(at, fmt.Sprintf("model %s, field %s: %s", m.Name, f.Field, message))
		}
	}
}

// keyOf says what is wrong with the key of a sealed field; "" where it has one.
func (m *model) keyOf(f column) string {
	for n := len(f.path); n >= 0; n-- {
		var near, rowKeys []string
		for _, k := range m.Columns {
			switch {
			case !k.Key || !slices.Equal(k.path, f.path[:n]) || f.chosen != "" && k.Field != f.chosen:
			case k.rowKey && f.chosen == "":
				rowKeys = append(rowKeys, k.Field)
			default:
				near = append(near, k.Field)
			}
		}
		if len(rowKeys) > 0 {
			near = rowKeys
		}
		switch {
		case len(near) == 1 || len(near) > 0 && f.chosen != "":
			return ""
		case len(near) > 1:
			return fmt.Sprintf("several keys fit (%s); choose one, as in rowseal:\"key=%s\"", strings.Join(near, ", "), near[0])
		}
	}
	if f.chosen != "" {
		return fmt.Sprintf("key=%s names no field of type rowseal.Key in this struct or around it", f.chosen)
	}
	return "no key column around it; embed rowseal.RowKey in the model"
}

// declaration is the field's own place where it stands in this struct, else the struct's name.
func (c *checker) declaration(node *ast.TypeSpec, f *types.Var) ast.Node {
	var at ast.Node = node.Name
	ast.Inspect(node, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && c.pass.TypesInfo.Defs[id] == f {
			at = id
		}
		return true
	})
	return at
}

// isEmbedded reports that another struct of the package takes this one's fields for its own.
func (c *checker) isEmbedded(named *types.Named) bool {
	for _, obj := range c.pass.TypesInfo.Defs {
		f, ok := obj.(*types.Var)
		if ok && f.IsField() && f.Anonymous() && types.Identical(deref(f.Type()), named) {
			return true
		}
	}
	return false
}
