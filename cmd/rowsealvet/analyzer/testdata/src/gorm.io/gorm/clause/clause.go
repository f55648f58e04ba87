// Package clause is as much of gorm.io/gorm/clause as the tests need.
package clause

const CurrentTable = "~~~ct~~~"

type Builder interface{ WriteByte(byte) error }

type Expression interface{ Build(builder Builder) }

type Column struct {
	Table, Name, Alias string
	Raw                bool
}

type Table struct {
	Name, Alias string
	Raw         bool
}

type Expr struct {
	SQL  string
	Vars []interface{}
}

func (Expr) Build(Builder) {}

type Eq struct {
	Column interface{}
	Value  interface{}
}

func (Eq) Build(Builder) {}

type Like Eq

func (Like) Build(Builder) {}

type IN struct {
	Column interface{}
	Values []interface{}
}

func (IN) Build(Builder) {}

type Where struct{ Exprs []Expression }

func (Where) Build(Builder) {}

type OrderByColumn struct {
	Column Column
	Desc   bool
}

type OrderBy struct {
	Columns    []OrderByColumn
	Expression Expression
}

func (OrderBy) Build(Builder) {}

type GroupBy struct {
	Columns []Column
	Having  []Expression
}

func (GroupBy) Build(Builder) {}

type Select struct {
	Columns    []Column
	Expression Expression
}

func (Select) Build(Builder) {}

type Returning struct{ Columns []Column }

func (Returning) Build(Builder) {}

type From struct {
	Tables []Table
	Joins  []Join
}

func (From) Build(Builder) {}

type Join struct {
	Table Table
	ON    Where
}

type Insert struct {
	Table    Table
	Modifier string
}

func (Insert) Build(Builder) {}

type Update struct {
	Modifier string
	Table    Table
}

func (Update) Build(Builder) {}

type Assigner interface{ Assignments() []Assignment }

type Assignment struct {
	Column Column
	Value  interface{}
}

func (a Assignment) Assignments() []Assignment { return []Assignment{a} }

type Set []Assignment

func (Set) Build(Builder)                 {}
func (set Set) Assignments() []Assignment { return set }

type Association struct {
	Association string
	Conditions  []Expression
	Set         []Assignment
}

func (Association) Assignments() []Assignment { return nil }

type OnConflict struct {
	Columns     []Column
	Where       Where
	TargetWhere Where
	DoNothing   bool
	DoUpdates   Set
	UpdateAll   bool
}

func (OnConflict) Build(Builder) {}

func Assignments(values map[string]interface{}) Set { return nil }
func AssignmentColumns(values []string) Set         { return nil }
func And(exprs ...Expression) Expression            { return nil }
func Not(exprs ...Expression) Expression            { return nil }

type JoinType string

const LeftJoin JoinType = "LEFT"

type JoinTarget struct {
	Type        JoinType
	Association string
	Subquery    Expression
	Table       string
}

func Has(name string) JoinTarget { return JoinTarget{Association: name} }

func (jt JoinType) Association(name string) JoinTarget { return JoinTarget{} }

func (jt JoinType) AssociationFrom(name string, subquery Expression) JoinTarget { return JoinTarget{} }

func (jt JoinTarget) As(name string) JoinTarget { return jt }
