// Package gorm is as much of gorm.io/gorm as the tests need.
package gorm

import (
	"context"
	"database/sql"

	"gorm.io/gorm/clause"
)

type DB struct{ Error error }

type Model struct {
	ID uint `gorm:"primarykey"`
}

func (db *DB) Model(value interface{}) *DB                              { return db }
func (db *DB) Clauses(conds ...clause.Expression) *DB                   { return db }
func (db *DB) Table(name string, args ...interface{}) *DB               { return db }
func (db *DB) Distinct(args ...interface{}) *DB                         { return db }
func (db *DB) Select(query interface{}, args ...interface{}) *DB        { return db }
func (db *DB) Where(query interface{}, args ...interface{}) *DB         { return db }
func (db *DB) Not(query interface{}, args ...interface{}) *DB           { return db }
func (db *DB) Or(query interface{}, args ...interface{}) *DB            { return db }
func (db *DB) Joins(query string, args ...interface{}) *DB              { return db }
func (db *DB) Group(name string) *DB                                    { return db }
func (db *DB) Having(query interface{}, args ...interface{}) *DB        { return db }
func (db *DB) Order(value interface{}) *DB                              { return db }
func (db *DB) Limit(limit int) *DB                                      { return db }
func (db *DB) Scopes(funcs ...func(*DB) *DB) *DB                        { return db }
func (db *DB) Preload(query string, args ...interface{}) *DB            { return db }
func (db *DB) Raw(sql string, values ...interface{}) *DB                { return db }
func (db *DB) Exec(sql string, values ...interface{}) *DB               { return db }
func (db *DB) Create(value interface{}) *DB                             { return db }
func (db *DB) Save(value interface{}) *DB                               { return db }
func (db *DB) First(dest interface{}, conds ...interface{}) *DB         { return db }
func (db *DB) Find(dest interface{}, conds ...interface{}) *DB          { return db }
func (db *DB) FirstOrCreate(dest interface{}, conds ...interface{}) *DB { return db }
func (db *DB) Update(column string, value interface{}) *DB              { return db }
func (db *DB) Updates(values interface{}) *DB                           { return db }
func (db *DB) UpdateColumn(column string, value interface{}) *DB        { return db }
func (db *DB) UpdateColumns(values interface{}) *DB                     { return db }
func (db *DB) Delete(value interface{}, conds ...interface{}) *DB       { return db }
func (db *DB) Count(count *int64) *DB                                   { return db }
func (db *DB) Rows() (*sql.Rows, error)                                 { return nil, nil }
func (db *DB) Scan(dest interface{}) *DB                                { return db }
func (db *DB) Pluck(column string, dest interface{}) *DB                { return db }
func (db *DB) WithContext(ctx context.Context) *DB                      { return db }
func (db *DB) Transaction(fc func(tx *DB) error) error                  { return fc(db) }
func (db *DB) Association(column string) *Association                   { return nil }

type Association struct{ Error error }

func (a *Association) Find(out interface{}, conds ...interface{}) error { return nil }

func Expr(expr string, args ...interface{}) clause.Expr { return clause.Expr{} }

type Session struct{ NewDB, DryRun bool }

func (db *DB) Session(config *Session) *DB                          { return db }
func (db *DB) Omit(columns ...string) *DB                           { return db }
func (db *DB) Set(key string, value interface{}) *DB                { return db }
func (db *DB) CreateInBatches(value interface{}, batchSize int) *DB { return db }

type Statement struct{ *DB }

type Interface[T any] interface {
	Raw(sql string, values ...interface{}) ExecInterface[T]
	Exec(ctx context.Context, sql string, values ...interface{}) error
	CreateInterface[T]
}

type CreateInterface[T any] interface {
	ExecInterface[T]
	Where(query interface{}, args ...interface{}) ChainInterface[T]
	Joins(query clause.JoinTarget, on func(db JoinBuilder, joinTable clause.Table, curTable clause.Table) error) ChainInterface[T]
	Preload(association string, query func(db PreloadBuilder) error) ChainInterface[T]
	Select(query string, args ...interface{}) CreateInterface[T]
	Order(value interface{}) ChainInterface[T]
	Build(builder clause.Builder)
	Update(ctx context.Context, name string, value any) (int, error)
	Updates(ctx context.Context, t T) (int, error)
	Create(ctx context.Context, r *T) error
	Set(assignments ...clause.Assigner) SetCreateOrUpdateInterface[T]
}

type ChainInterface[T any] interface {
	ExecInterface[T]
	Where(query interface{}, args ...interface{}) ChainInterface[T]
	Joins(query clause.JoinTarget, on func(db JoinBuilder, joinTable clause.Table, curTable clause.Table) error) ChainInterface[T]
	Preload(association string, query func(db PreloadBuilder) error) ChainInterface[T]
	Order(value interface{}) ChainInterface[T]
	Build(builder clause.Builder)
	Update(ctx context.Context, name string, value any) (int, error)
	Updates(ctx context.Context, t T) (int, error)
	Set(assignments ...clause.Assigner) SetUpdateOnlyInterface[T]
}

type SetUpdateOnlyInterface[T any] interface {
	Update(ctx context.Context) (int, error)
}

type SetCreateOrUpdateInterface[T any] interface {
	Create(ctx context.Context) error
	Update(ctx context.Context) (int, error)
}

type ExecInterface[T any] interface {
	Scan(ctx context.Context, r interface{}) error
	Find(ctx context.Context) ([]T, error)
}

type JoinBuilder interface {
	Select(...string) JoinBuilder
	Where(query interface{}, args ...interface{}) JoinBuilder
	Not(query interface{}, args ...interface{}) JoinBuilder
	Or(query interface{}, args ...interface{}) JoinBuilder
}

type PreloadBuilder interface {
	Select(...string) PreloadBuilder
	Where(query interface{}, args ...interface{}) PreloadBuilder
	Order(value interface{}) PreloadBuilder
}

func G[T any](db *DB, opts ...clause.Expression) Interface[T] { return nil }
