//go:build cgo

package integration

import (
	"database/sql/driver"

	"github.com/mattn/go-sqlite3"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func init() {
	cgoSQLite = func(file string) driver.Connector {
		return dsnConnector{"file:" + file + "?_busy_timeout=10000&_journal_mode=WAL&_synchronous=OFF&_txlock=immediate", &sqlite3.SQLiteDriver{}}
	}
	cgoDialector = func(pool gorm.ConnPool) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: pool}) }
}
