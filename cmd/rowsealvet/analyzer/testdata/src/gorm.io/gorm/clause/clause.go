// Package clause is as much of gorm.io/gorm/clause as the tests need.
package clause

const CurrentTable = "~~~ct~~~"

type Expression interface{ Build() }

type Column struct {
	Table, Name, Alias string
	Raw                bool
}

type Expr struct {
	SQL  string
	Vars []interface{}
}

func (Expr) Build() {}

type Eq struct {
	Column interface{}
	Value  interface{}
}

func (Eq) Build() {}

type Like Eq

func (Like) Build() {}

type OrderByColumn struct {
	Column Column
	Desc   bool
}

type Assignment struct {
	Column Column
	Value  interface{}
}

type Set []Assignment

type OnConflict struct {
	Columns   []Column
	DoUpdates Set
}

func (OnConflict) Build() {}

func Assignments(values map[string]interface{}) Set { return nil }
func AssignmentColumns(values []string) Set         { return nil }
