// Package field is as much of gorm.io/cli/gorm/field as the tests need.
package field

import "gorm.io/gorm/clause"

type String struct{ column clause.Column }

func (s String) WithColumn(name string) String     { return String{clause.Column{Name: name}} }
func (s String) Eq(value string) clause.Expression { return clause.Eq{Column: s.column, Value: value} }
func (s String) IsNull() clause.Expression         { return clause.Eq{Column: s.column} }
func (s String) Desc() clause.OrderByColumn        { return clause.OrderByColumn{Column: s.column} }
func (s String) Set(value string) clause.Assignment {
	return clause.Assignment{Column: s.column, Value: value}
}
func (s String) SetExpr(value clause.Expression) clause.Assignment {
	return clause.Assignment{Column: s.column, Value: value}
}
