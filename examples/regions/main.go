// Command regions shows a row that opens in two AWS regions, an outage of the nearest, and a service that may write and not read. It needs no
// set-up: the database is SQLite in memory, and a fake AWS KMS with both regions answers in this process.
//
//	go run ./examples/regions
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
)

type Patient struct {
	ID    uint64
	Name  string `gorm:"serializer:rowseal"`
	Email string `gorm:"serializer:rowseal"`
	rowseal.RowKey
}

const (
	near = "eu-central-1"
	far  = "us-east-1"
	rows = 200
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "regions:", err)
		os.Exit(1)
	}
}

// cloud is the fake AWS KMS, with one key in each region.
type cloud struct {
	server *awskmstest.Server
	keys   map[string]string // ARN by region
	calls  tally
}

// tally counts calls by region and operation: it is a kmskey.Observer.
type tally struct {
	mu    sync.Mutex
	count map[string]int
}

func (t *tally) observe(ctx context.Context, c kmskey.Call) (context.Context, func(kmskey.Result)) {
	return ctx, func(r kmskey.Result) {
		region := far
		if strings.Contains(c.Provider, near) {
			region = near
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.count[fmt.Sprintf("%s in %s: %s", c.Op, region, kmskey.Outcome(r.Err))]++
	}
}

// take lists the counts and begins anew.
func (t *tally) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, op := range []string{"wrap", "rewrap", "unwrap"} {
		for _, region := range []string{near, far} {
			for _, outcome := range []string{"ok", "cancelled", "timeout", "unavailable", "denied"} {
				what := fmt.Sprintf("%s in %s: %s", op, region, outcome)
				if n := t.count[what]; n > 0 {
					parts = append(parts, fmt.Sprintf("%d %s", n, what))
				}
			}
		}
	}
	clear(t.count)
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// open is a process with permissions of its own on the shared database.
func (c *cloud) open(pool gorm.ConnPool, writeOnly bool, allowed ...string) (*gorm.DB, error) {
	principal := c.server.NewPrincipal(strings.Join(allowed, "+"), allowed...)
	var regions []kmskey.Provider
	for _, region := range []string{near, far} {
		p, err := awskms.New(principal.Client(func(o *kms.Options) { o.Region = region }), c.keys[region], awskms.Config{})
		if err != nil {
			return nil, err
		}
		regions = append(regions, p)
	}
	both, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: regions, Quorum: 1})
	if err != nil {
		return nil, err
	}
	keys, err := kmskey.New(kmskey.Config{
		Versions:  map[int]kmskey.Version{1: {Provider: both}},
		Observers: []kmskey.Observer{c.calls.observe},
	})
	if err != nil {
		return nil, err
	}
	db, err := gorm.Open(sqlite.Dialector{Conn: pool}, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{&Patient{}}, WriteOnly: writeOnly})
	if err != nil {
		return nil, err
	}
	return db, db.Use(plugin)
}

func run(ctx context.Context, out io.Writer) error {
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }

	server, err := awskmstest.NewServer(awskmstest.Config{Regions: []string{near, far}})
	if err != nil {
		return err
	}
	defer server.Close()
	c := &cloud{server: server, keys: map[string]string{}, calls: tally{count: map[string]int{}}}
	for _, region := range []string{near, far} {
		if c.keys[region], err = server.CreateKeyIn(server.Account(), region); err != nil {
			return err
		}
	}
	base, err := gorm.Open(sqlite.Open("file:regions?mode=memory&cache=shared"), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := base.DB()
	if err != nil {
		return err
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)

	app, err := c.open(pool, false, "kms:Encrypt", "kms:Decrypt")
	if err != nil {
		return err
	}
	app = app.WithContext(ctx)
	if err := app.AutoMigrate(&Patient{}); err != nil {
		return err
	}

	say("1. %d rows, each with a data key that is wrapped in %s and in %s", rows, near, far)
	patients := make([]Patient, rows)
	for i := range patients {
		patients[i] = Patient{ID: uint64(i + 1), Name: fmt.Sprintf("Patient %d", i+1), Email: fmt.Sprintf("p%d@example.org", i+1)}
	}
	if err := app.Create(&patients).Error; err != nil {
		return err
	}
	say("   calls    %s\n", c.calls.take())

	say("2. Read them: the nearest region answers")
	read := func() error {
		start := time.Now()
		var all []Patient
		if err := app.Order("id").Find(&all).Error; err != nil {
			return err
		}
		if len(all) != rows || all[rows-1].Name != fmt.Sprintf("Patient %d", rows) {
			return fmt.Errorf("%d rows came back", len(all))
		}
		say("   rows     %d opened in %v", len(all), time.Since(start).Round(time.Millisecond))
		say("   calls    %s\n", c.calls.take())
		return nil
	}
	if err := read(); err != nil {
		return err
	}

	say("3. %s goes down and answers nothing: the first calls wait half a second, then the others go straight to %s", near, far)
	server.SetBefore(func(ctx context.Context, call awskmstest.Call) error {
		if call.Region != near {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if err := read(); err != nil {
		return err
	}
	say("   A new row is written with the one wrap that can be had: the quorum is 1")
	late := Patient{ID: rows + 1, Name: "Late", Email: "late@example.org"}
	if err := app.Create(&late).Error; err != nil {
		return err
	}
	server.SetBefore(nil)
	say("   calls    %s\n", c.calls.take())

	say("4. %s is back: rotation makes the wrap that the new row lacks", near)
	if err := rowseal.Rotate(ctx, app, &Patient{ID: late.ID}); err != nil {
		return err
	}
	say("   calls    %s\n", c.calls.take())

	say("5. A service that may only encrypt changes the email of a row that it cannot read")
	writer, err := c.open(pool, true, "kms:Encrypt")
	if err != nil {
		return err
	}
	writer = writer.WithContext(ctx)
	var p Patient
	if err := writer.First(&p, 1).Error; err != nil {
		return err
	}
	say("   it reads     name %q, email %q", p.Name, p.Email)
	p.Email = "new@example.org"
	if err := writer.Save(&p).Error; err != nil {
		return err
	}
	if err := rowseal.Open(ctx, writer, &p); !errors.Is(err, rowseal.ErrWriteOnly) {
		return fmt.Errorf("a writer opened a row: %w", err)
	}
	say("   it wrote     email, under a data key that was added to the row: %s", c.calls.take())
	var got Patient
	if err := app.First(&got, 1).Error; err != nil {
		return err
	}
	say("   others read  name %q, email %q: %s\n", got.Name, got.Email, c.calls.take())

	say("6. Rotation, by a process that may decrypt, makes one data key of the two")
	if err := rowseal.Rotate(ctx, app, &Patient{ID: 1}); err != nil {
		return err
	}
	c.calls.take()
	if err := app.First(&got, 1).Error; err != nil {
		return err
	}
	say("   others read  name %q, email %q: %s", got.Name, got.Email, c.calls.take())
	return nil
}
