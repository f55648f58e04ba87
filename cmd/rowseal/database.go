// database.go owns the connection to the database that a URL names.

package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/glebarez/sqlite"
	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// databaseFlags name the database.
type databaseFlags struct {
	Database string `env:"DATABASE_URL" placeholder:"URL" help:"postgres://…, mysql://… or the Go driver's user:password@tcp(host)/name, or sqlite:FILE. Passwords are safer in the environment than in arguments. Read from DATABASE_URL where it is not given."`
}

const databaseForms = "expected postgres://user:password@host/name, mysql://user:password@host/name or sqlite:FILE"

// open connects. The caller closes.
func (f databaseFlags) open(a *app) (*gorm.DB, func(), error) {
	dialector, err := dialectorOf(f.Database)
	if err != nil {
		return nil, nil, err
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, SkipDefaultTransaction: true, DisableAutomaticPing: true})
	if err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	shut := func() { _ = pool.Close() } // nothing is under way any more
	if err := pool.PingContext(a.ctx); err != nil {
		shut()
		return nil, nil, fmt.Errorf("open the database: %w", err)
	}
	return db, shut, nil
}

// dialectorOf reads a URL. Its errors do not repeat it: there is a password in it.
func dialectorOf(text string) (gorm.Dialector, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch {
	case text == "":
		return nil, usage("--database is missing, and DATABASE_URL is not set: %s", databaseForms)
	case scheme == "postgres", scheme == "postgresql", strings.HasPrefix(text, "host="):
		return postgres.Open(text), nil
	case strings.HasPrefix(text, "mysql://"):
		dsn, err := mysqlDSN(text)
		if err != nil {
			return nil, usage("--database: %v", err)
		}
		return mysql.Open(dsn), nil
	case strings.Contains(text, "@tcp("), strings.Contains(text, "@unix("):
		if _, err := mysqldriver.ParseDSN(text); err != nil {
			return nil, usage("--database: %v", err)
		}
		return mysql.Open(text), nil
	case scheme == "sqlite", scheme == "file":
		file, options, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		// The driver would make an empty one.
		if _, err := os.Stat(file); err != nil {
			return nil, usage("--database: %v", err)
		}
		if options != "" {
			options = "&" + options
		}
		return sqlite.Open("file:" + file + "?_pragma=busy_timeout(10000)&_txlock=immediate" + options), nil
	}
	return nil, usage("--database: what it names is not known; %s", databaseForms)
}

// mysqlDSN writes a URL as the driver takes it.
func mysqlDSN(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return "", fmt.Errorf("no URL: %w", err)
	}
	c := mysqldriver.NewConfig()
	c.User, c.Net, c.Addr, c.DBName = u.User.Username(), "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	c.Passwd, _ = u.User.Password()
	if u.Port() == "" {
		c.Addr += ":3306"
	}
	if c.DBName == "" || u.Hostname() == "" {
		return "", errors.New("expected mysql://user:password@host/name")
	}
	dsn := c.FormatDSN()
	if u.RawQuery != "" {
		sep := "?"
		if strings.Contains(dsn, "?") {
			sep = "&"
		}
		dsn += sep + u.RawQuery
	}
	if _, err := mysqldriver.ParseDSN(dsn); err != nil {
		return "", err
	}
	return dsn, nil
}
