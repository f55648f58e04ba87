// Package analyzer finds misuse of sealed columns in source code. It asks the same questions as the plugin's last look at a statement's
// text, with the same package (internal/sqltext), where the text is constant and the model is known.
//
// Models are the structs of the analysed packages, and of what they import, that have a key column: an embedded rowseal.RowKey or a
// field of type rowseal.Key. Columns and tables are named as GORM's default strategy names them, by column: settings, and by TableName
// methods that return a constant.
//
// What is found:
//
//   - Text for Exec, Raw, Where, Or, Not, Having, Order, Group, Joins, Select, Distinct, Table, Pluck, Preload, for the conditions of
//     First, Find, Delete and the like, and for gorm.Expr, that compares, sorts, groups by or writes a sealed column, or writes a key
//     column or primary key. The same for the clauses clause.Eq to clause.IN and clause.OrderByColumn, for struct conditions, and for
//     map keys and column names in conditions and updates.
//   - rowseal tags without gorm:"serializer:rowseal", misspelt serializer settings, words that the tag does not have, and sealed fields
//     of a model that has no key column for them.
//   - Map keys and column names of a model with sealed fields that are no column and no field of it.
//
// What is not found: text that is put together at run time (parts that are constant are read, the rest counts as harmless); statements
// whose model is not to be seen in the function that writes them, unless the text names the table; tables of models in packages that
// the analysed one does not import; columns of the encryption context. The plugin sees all of these when they run: no finding is no
// proof. A finding is a statement that the plugin refuses when it runs, but for a struct condition whose field is zero then.
package analyzer

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"gorm.io/gorm/schema"
)

const doc = `find misuse of columns that are sealed by rowseal

It reports constant SQL, map keys and column names for GORM that compare, sort, group by or write a sealed column; rowseal struct tags
that seal nothing; and map keys that are no column of a model with sealed fields.`

// Analyzer is the check, for go vet and every other driver of package analysis.
var Analyzer = newAnalyzer()

func newAnalyzer() *analysis.Analyzer {
	var names schema.NamingStrategy
	a := &analysis.Analyzer{
		Name:      "rowseal",
		Doc:       doc,
		URL:       "https://pkg.go.dev/github.com/rowseal/rowseal/cmd/rowsealvet/analyzer",
		FactTypes: []analysis.Fact{new(modelsFact), new(tableFact)},
	}
	a.Flags.StringVar(&names.TablePrefix, "tableprefix", "", "TablePrefix of the application's schema.NamingStrategy")
	a.Flags.BoolVar(&names.SingularTable, "singulartable", false, "SingularTable of the application's schema.NamingStrategy")
	a.Run = func(pass *analysis.Pass) (any, error) {
		c := &checker{pass: pass, names: names, described: map[*types.Named]*model{}, reported: map[finding]bool{}}
		c.exportTables()
		c.learn()
		c.checkTags()
		c.readVariables()
		c.checkStatements()
		return nil, nil
	}
	return a
}

// checker is one pass over one package.
type checker struct {
	pass      *analysis.Pass
	names     schema.NamingStrategy
	described map[*types.Named]*model
	tables    catalog
	assigned  map[types.Object][]ast.Expr // what variables get; nil among them for what is not known
	entries   map[types.Object][]entry    // m[key] = value
	reported  map[finding]bool
}

type finding struct {
	pos     token.Pos
	message string
}

// report reports once: the same text may be reached in several ways.
func (c *checker) report(at ast.Node, message string) {
	f := finding{at.Pos(), message}
	if c.reported[f] {
		return
	}
	c.reported[f] = true
	c.pass.Report(analysis.Diagnostic{Pos: at.Pos(), End: at.End(), Message: "rowseal: " + message})
}
