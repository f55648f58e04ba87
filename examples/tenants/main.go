// Command tenants shows what branch keys cost: three tenants, 3,000 rows, and every call to the key service counted. It needs no set-up: the database is SQLite in
// memory, and a fake AWS KMS answers in this process.
//
//	go run ./examples/tenants
package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/branchkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

type Invoice struct {
	ID       uint64
	TenantID string
	Customer string `gorm:"serializer:rowseal"`
	IBAN     string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

const rows = 3000

var tenants = []string{"acme", "globex", "initech"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tenants:", err)
		os.Exit(1)
	}
}

// service is the key service, as a process finds it: versions of its key, one of them current.
type service struct {
	current  int
	versions map[int]kmskey.Version
	calls    atomic.Int64
}

func (s *service) observe(ctx context.Context, _ kmskey.Call) (context.Context, func(kmskey.Result)) {
	s.calls.Add(1)
	return ctx, nil
}

func (s *service) keyring() (*kmskey.Keyring, error) {
	return kmskey.New(kmskey.Config{Current: s.current, Versions: s.versions, Namespace: "billing/test", Observers: []kmskey.Observer{s.observe}})
}

// process is a program that has just started, with nothing in memory.
func (s *service) process(pool gorm.ConnPool) (*gorm.DB, *branchkey.Keys, error) {
	db, err := gorm.Open(sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	kms, err := s.keyring()
	if err != nil {
		return nil, nil, err
	}
	keys, branches, err := branched(db, kms)
	if err != nil {
		return nil, nil, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{rowseal.Model{Value: &Invoice{}, Context: rowseal.Columns("tenant_id")}}})
	if err != nil {
		return nil, nil, err
	}
	return db, branches, db.Use(plugin)
}

// branched is a keyring for rows, under branch keys that kms wraps.
func branched(db *gorm.DB, kms *kmskey.Keyring) (*kmskey.Keyring, *branchkey.Keys, error) {
	// #region branches
	branches, err := branchkey.New(branchkey.Config{
		Keys:   kms, // a keyring of its own: the key service, which wraps branch keys
		Store:  rowseal.BranchKeys(db),
		Tenant: "tenant_id", // a column of the models' declared context
	})
	if err != nil {
		return nil, nil, err
	}
	keys, err := kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: branches.Generation(1)}},
		Namespace: kms.Namespace(),
	})
	// #endregion
	return keys, branches, err
}

func run(ctx context.Context, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	cloud, err := awskmstest.NewServer(awskmstest.Config{})
	if err != nil {
		return err
	}
	defer cloud.Close()
	s := &service{current: 1, versions: map[int]kmskey.Version{}}
	for n := 1; n <= 2; n++ {
		p, err := awskms.New(cloud.Client(), cloud.CreateKey(), awskms.Config{})
		if err != nil {
			return err
		}
		s.versions[n] = kmskey.Version{Provider: p}
	}
	base, err := gorm.Open(sqlite.Open("file:tenants?mode=memory&cache=shared"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := base.DB()
	if err != nil {
		return err
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	db, branches, err := s.process(pool)
	if err != nil {
		return err
	}
	if _, err := migrations.Up(ctx, db); err != nil {
		return err
	}
	if err := db.AutoMigrate(&Invoice{}); err != nil {
		return err
	}

	say("1. Three tenants: branchkey.Keys.Make, which SQLite needs, as it cannot make keys inside a transaction")
	if err := branches.Make(ctx, 1, tenants...); err != nil {
		return err
	}
	say("   calls to the key service: %d, a wrap for each and an unwrap to see that it opens", s.calls.Swap(0))

	all := make([]Invoice, rows)
	for i := range all {
		all[i] = Invoice{TenantID: tenants[i%len(tenants)], Customer: fmt.Sprint("Customer ", i+1), IBAN: fmt.Sprintf("DE%020d", i)}
	}
	say("2. db.CreateInBatches: %d rows", rows)
	if err := db.WithContext(ctx).CreateInBatches(&all, 500).Error; err != nil {
		return err
	}
	say("   calls: %d", s.calls.Swap(0))

	read := func() error {
		db, _, err := s.process(pool)
		if err != nil {
			return err
		}
		var got []Invoice
		if err := db.WithContext(ctx).Find(&got).Error; err != nil {
			return err
		}
		say("   rows opened: %d, the last %s, %s; calls: %d", len(got), got[rows-1].Customer, got[rows-1].IBAN, s.calls.Swap(0))
		return nil
	}
	say("3. Another process reads them all")
	if err := read(); err != nil {
		return err
	}

	say("4. The service's key is replaced: version 2 of the inner keyring, branches.Rotate")
	before, err := envelopes(ctx, pool)
	if err != nil {
		return err
	}
	s.current = 2
	_, branches, err = s.process(pool)
	if err != nil {
		return err
	}
	report, err := branches.Rotate(ctx)
	if err != nil {
		return err
	}
	after, err := envelopes(ctx, pool)
	if err != nil {
		return err
	}
	written := 0
	for i := range before {
		if before[i] != after[i] {
			written++
		}
	}
	say("   branch keys moved: %d of %d; rows written: %d; calls: %d", report.Moved, report.Keys, written, s.calls.Swap(0))
	delete(s.versions, 1)
	say("   The old key is taken out of the configuration:")
	if err := read(); err != nil {
		return err
	}

	say("5. The branch keys themselves are replaced: generation 2 beside 1, then rotation.RotateKMSKey")
	moved, err := replace(ctx, s, pool)
	if err != nil {
		return err
	}
	say("   rows rewrapped: %d; calls: %d, an unwrap of each old branch key, and a wrap and an unwrap of each new one", moved, s.calls.Swap(0))
	return nil
}

// envelopes are the key columns of all rows, as the database has them.
func envelopes(ctx context.Context, pool *sql.DB) (all []string, err error) {
	found, err := pool.QueryContext(ctx, "SELECT encrypted_kms_key FROM invoices ORDER BY id")
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var e string
		if err := found.Scan(&e); err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, found.Err()
}

// replace moves all rows under branch keys of another generation.
func replace(ctx context.Context, s *service, pool gorm.ConnPool) (int64, error) {
	db, err := gorm.Open(sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return 0, err
	}
	kms, err := s.keyring()
	if err != nil {
		return 0, err
	}
	branches, err := branchkey.New(branchkey.Config{Keys: kms, Store: rowseal.BranchKeys(db), Tenant: "tenant_id"})
	if err != nil {
		return 0, err
	}
	if err := branches.Make(ctx, 2, tenants...); err != nil {
		return 0, err
	}
	// #region generations
	keys, err := kmskey.New(kmskey.Config{
		Current: 2,
		Versions: map[int]kmskey.Version{
			1: {Provider: branches.Generation(1)},
			2: {Provider: branches.Generation(2)},
		},
		Namespace: kms.Namespace(),
	})
	// #endregion
	if err != nil {
		return 0, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{rowseal.Model{Value: &Invoice{}, Context: rowseal.Columns("tenant_id")}}})
	if err != nil {
		return 0, err
	}
	if err := db.Use(plugin); err != nil {
		return 0, err
	}
	report, err := rotation.RotateKMSKey(ctx, db, &Invoice{}, rotation.Config{})
	if err != nil {
		return 0, err
	}
	return report.Rewrapped, nil
}
