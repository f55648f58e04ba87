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
//     First, Find, Delete and the like, and for gorm.Expr, that compares, sorts, groups by, computes with or writes a sealed column, or
//     writes a key column, a primary key or a column of the encryption context. The same in the functions that Joins and Preload of
//     gorm.G take, in struct conditions, and in map keys and column names of conditions and updates.
//   - The same in package clause: Eq to IN, Where, GroupBy, OrderBy, Expr, From with its joins, Set and Assignment (of Clauses and of
//     gorm.G's Set), Association, and OnConflict with Columns, Where, TargetWhere and DoUpdates; Returning of sealed columns from a
//     create of several rows. Field helpers of gorm's command line tool count by the names of their variable and field.
//   - Structs that are not the model: those that a TableName method, Table, clause.Insert or clause.Update puts onto a model's table write
//     plaintext into its sealed columns; those that Create gets beside Model have no key column.
//   - Sealed columns that get an SQL expression, or are named otherwise than the column is called ("patients.name", "NAME").
//   - Columns of the encryption context that are written in rows that were not loaded. They stand in literals of rowseal.Model, which the
//     analysed package or one that it imports must have.
//   - Sealed columns that are read under another name from a table without a model, from raw SQL, and into the model's own struct.
//   - rowseal tags without gorm:"serializer:rowseal" and misspelt serializer settings, with a fix; words that the tag does not have, and
//     sealed fields of a model that has no key column for them.
//   - Map keys and column names of a model with sealed fields that are no column and no field of it.
//
// The model of a statement is what Model, Table, gorm.G or the destination says, along a chain of calls and whatever hands it on within a
// package: variables, functions and methods with what they are passed and return, scopes, and fields of structs where all their values
// are about the same model. Of another package's functions it is known what they return where that is the same whatever they are passed.
//
// What is not found: text that is put together at run time (parts that are constant are read, the rest counts as harmless); conditions
// that a function is passed by themselves; statements whose model is decided by the caller in another package, or behind an interface,
// unless the text names the table; tables of models in packages that the analysed one does not import; structs of a model's table that
// are written with Select or Omit; contexts that a KMSContext method computes; clauses that callbacks and plugins add. The plugin sees all
// of these when they run: no finding is no proof. A finding is a statement that the plugin refuses when it runs, with the error that it
// names, but for a struct condition or update whose field is zero then.
package analyzer

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"gorm.io/gorm/schema"
)

const doc = `find misuse of columns that are sealed by rowseal

It reports constant SQL, clauses, map keys and column names for GORM that compare, sort, group by or write a sealed column; writes of a
model's table from other structs; writes of context columns in rows that were not loaded; rowseal struct tags that seal nothing (with a
fix); and map keys that are no column of a model with sealed fields.`

// Analyzer is the check, for go vet and every other driver of package analysis.
var Analyzer = newAnalyzer()

func newAnalyzer() *analysis.Analyzer {
	var names schema.NamingStrategy
	a := &analysis.Analyzer{
		Name:      "rowseal",
		Doc:       doc,
		URL:       "https://pkg.go.dev/github.com/rowseal/rowseal/cmd/rowsealvet/analyzer",
		FactTypes: []analysis.Fact{new(modelsFact), new(tableFact), new(aboutFact)},
	}
	a.Flags.StringVar(&names.TablePrefix, "tableprefix", "", "TablePrefix of the application's schema.NamingStrategy")
	a.Flags.BoolVar(&names.SingularTable, "singulartable", false, "SingularTable of the application's schema.NamingStrategy")
	a.Run = func(pass *analysis.Pass) (any, error) {
		c := &checker{pass: pass, names: names, described: map[*types.Named]*model{}, reported: map[finding]bool{}}
		c.exportTables()
		c.readVariables()
		c.learn()
		c.checkTags()
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
	contexts  []context
	assigned  map[types.Object][]ast.Expr // what variables get; nil among them for what is not known
	entries   map[types.Object][]entry    // m[key] = value
	reported  map[finding]bool
}

type finding struct {
	pos     token.Pos
	message string
}

// report reports once: the same text may be reached in several ways.
func (c *checker) report(at ast.Node, message string) { c.reportFix(at, message) }

// reportFix reports with the changes that would mend it.
func (c *checker) reportFix(at ast.Node, message string, fixes ...analysis.SuggestedFix) {
	f := finding{at.Pos(), message}
	if c.reported[f] {
		return
	}
	c.reported[f] = true
	c.pass.Report(analysis.Diagnostic{Pos: at.Pos(), End: at.End(), Message: "rowseal: " + message, SuggestedFixes: fixes})
}
