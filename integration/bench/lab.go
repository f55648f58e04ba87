package main

// lab.go owns what all variants share: the database, the texts, the anchors' key, and the machine that all of it runs on.

import (
	"bufio"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	random "math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/rowseal/rowseal/integration/internal/sqlspy"
)

// lab is one database for the variants of one operation.
type lab struct {
	dsn     string
	key     []byte    // of the anchors
	pool    *sql.DB   // of what is timed
	pools   []*sql.DB // all
	atClose []func() error
}

func newLab(dsn string) *lab {
	key := make([]byte, keyBytes)
	rand.Read(key)
	return &lab{dsn: dsn, key: key}
}

// open gives GORM with all its tables under a prefix. What is timed shares a connection: two servers' processes are never served alike by two
// cores, and the difference would be taken for that of the variants. With spy, statements are recorded, on a connection apart.
func (l *lab) open(prefix string, spy *sqlspy.Recorder) (*gorm.DB, error) {
	pool := l.pool
	if pool == nil || spy != nil {
		parsed, err := pgx.ParseConfig(l.dsn)
		if err != nil {
			return nil, fmt.Errorf("bench: read the database's address: %w", err)
		}
		var connector driver.Connector = stdlib.GetConnector(*parsed)
		if spy != nil {
			connector = spy.Connector(connector)
		}
		pool = sql.OpenDB(connector)
		l.pools = append(l.pools, pool)
		if spy == nil {
			l.pool = pool
		}
	}
	return gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{
		Logger:         logger.Discard,
		NamingStrategy: schema.NamingStrategy{TablePrefix: prefix},
	})
}

// close ends all connections and children, and drops the tables.
func (l *lab) close() (err error) {
	for _, end := range l.atClose {
		err = errors.Join(err, end())
	}
	db, failed := l.open("", nil)
	if failed != nil {
		return errors.Join(err, failed)
	}
	err = errors.Join(err, db.Exec("DROP SCHEMA public CASCADE").Error, db.Exec("CREATE SCHEMA public").Error)
	for _, pool := range l.pools {
		err = errors.Join(err, pool.Close())
	}
	return err
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// records makes rows of texts that do not compress, the same in each run: what is compressed before it is stored would be cheaper in the clear
// than sealed, by as much as somebody chooses.
func records(n, size int) []record {
	source := random.New(random.NewPCG(uint64(n), uint64(size)))
	out := make([]record, n)
	b := make([]byte, size)
	for i := range out {
		out[i].id = uint64(i + 1)
		for j := range out[i].text {
			for k := range b {
				b[k] = letters[source.IntN(len(letters))]
			}
			out[i].text[j] = string(b)
		}
	}
	return out
}

// Machine is what figures depend on.
type Machine struct {
	Date, Go, CPU, Postgres, Load string
	Cores                         int
}

func (l *lab) machine(now time.Time) (Machine, error) {
	m := Machine{Date: now.UTC().Format(time.DateOnly), Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		CPU: "unknown CPU", Load: "unknown", Cores: runtime.NumCPU()}
	db, err := l.open("", nil)
	if err != nil {
		return m, err
	}
	if err := db.Raw("SHOW server_version").Row().Scan(&m.Postgres); err != nil {
		return m, fmt.Errorf("bench: ask the server's version: %w", err)
	}
	// Linux says both; elsewhere they stay unknown.
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	m.Load = load()
	return m, nil
}

// load is the machine's load average over one, five and fifteen minutes.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
