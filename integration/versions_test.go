package integration

// versions_test.go owns changes of the wrapping key without downtime: of the key, the service, the context, the regions, the tenant's own key.
// Each is one story: old rows open, new rows come under the new version, rotation moves what is left, the old version is removed, and a row
// that would still need it says so.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/localkey"
)

// process is a program that shares a database with others, with a keyring and a declaration of its own.
func process(t *testing.T, w *world, model rowseal.Model, current int, versions map[int]kmskey.Version) *gorm.DB {
	t.Helper()
	keys, err := kmskey.New(kmskey.Config{Current: current, Versions: versions, Namespace: "versions"})
	ok(t, err)
	db, err := gorm.Open(dialector(w.kind, w.plain), &gorm.Config{Logger: w.db.Logger})
	ok(t, err)
	plugin, err := rowseal.New(keys, rowseal.Config{Models: []any{model}, MaxCalls: 64})
	ok(t, err)
	ok(t, db.Use(plugin))
	return db
}

func awsKey(t *testing.T, fake *awskmstest.Server, region string) kmskey.Provider {
	t.Helper()
	arn, err := fake.CreateKeyIn(fake.Account(), region)
	ok(t, err)
	p, err := awskms.New(fake.Client(inRegion(region)), arn, awskms.Config{})
	ok(t, err)
	return p
}

func TestVersionsWithoutDowntime(t *testing.T) {
	const eu, us = "eu-central-1", "us-east-1"
	type change struct {
		one, two             kmskey.Version
		contexts             map[int]rowseal.Context
		decrypts, reencrypts int // calls of one rotation
	}
	multi := func(t *testing.T, ps ...kmskey.Provider) kmskey.Provider {
		t.Helper()
		m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: ps})
		ok(t, err)
		return m
	}
	stories := map[string]func(*testing.T, *awskmstest.Server) change{
		"another_key": func(t *testing.T, fake *awskmstest.Server) change {
			return change{one: kmskey.Version{Provider: awsKey(t, fake, eu)}, two: kmskey.Version{Provider: awsKey(t, fake, eu)}, reencrypts: 1}
		},
		"another_service": func(t *testing.T, fake *awskmstest.Server) change {
			return change{one: kmskey.Version{Provider: awsKey(t, fake, eu)}, two: kmskey.Version{Provider: localkey.NewInsecure()}, decrypts: 1}
		},
		"back_to_AWS": func(t *testing.T, fake *awskmstest.Server) change {
			return change{one: kmskey.Version{Provider: localkey.NewInsecure()}, two: kmskey.Version{Provider: awsKey(t, fake, eu)}}
		},
		"another_region": func(t *testing.T, fake *awskmstest.Server) change {
			return change{one: kmskey.Version{Provider: awsKey(t, fake, eu)}, two: kmskey.Version{Provider: awsKey(t, fake, us)}, decrypts: 1}
		},
		"a_constant_more_in_the_context": func(t *testing.T, fake *awskmstest.Server) change {
			p := awsKey(t, fake, eu)
			return change{one: kmskey.Version{Provider: p}, two: kmskey.Version{Provider: p, Constants: map[string]string{"environment": "production"}}, reencrypts: 1}
		},
		"a_column_more_in_the_context": func(t *testing.T, fake *awskmstest.Server) change {
			p := awsKey(t, fake, eu)
			return change{one: kmskey.Version{Provider: p}, two: kmskey.Version{Provider: p}, reencrypts: 1, contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		},
		"a_region_more": func(t *testing.T, fake *awskmstest.Server) change {
			p := awsKey(t, fake, eu)
			return change{one: kmskey.Version{Provider: p}, two: kmskey.Version{Provider: multi(t, p, awsKey(t, fake, us))}, decrypts: 1, reencrypts: 1}
		},
		"a_region_less": func(t *testing.T, fake *awskmstest.Server) change {
			p := awsKey(t, fake, eu)
			return change{one: kmskey.Version{Provider: multi(t, p, awsKey(t, fake, us))}, two: kmskey.Version{Provider: p}, reencrypts: 1}
		},
		"one_key_for_each_tenant": func(t *testing.T, fake *awskmstest.Server) change {
			own := map[string]kmskey.Provider{"acme": awsKey(t, fake, eu), "other": awsKey(t, fake, eu)}
			choose := func(_ kmskey.Row, ec kmskey.Context) (kmskey.Provider, error) {
				tenant, _ := ec.Get("tenant_id")
				if p, ok := own[tenant.String()]; ok {
					return p, nil
				}
				return nil, fmt.Errorf("no key for tenant %v", tenant)
			}
			return change{one: kmskey.Version{Provider: awsKey(t, fake, eu)}, two: kmskey.Version{Choose: choose}, reencrypts: 1, contexts: map[int]rowseal.Context{2: rowseal.Columns("tenant_id")}}
		},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, kind string) {
				fake := awskmstest.New(t, awskmstest.Config{Regions: []string{eu, us}})
				c := story(t, fake)
				before := rowseal.Model{Value: &ContextDoc{}}
				after := rowseal.Model{Value: &ContextDoc{}, Contexts: c.contexts}

				w := open(t, kind, &ContextDoc{}) // the table
				onlyOld := process(t, w, before, 1, map[int]kmskey.Version{1: c.one})
				old := ContextDoc{TenantID: "acme", Title: "t", Body: "old", Extra: "x"}
				ok(t, onlyOld.Create(&old).Error)

				// Rolling deploy: first every process learns to read version 2, then one after the other writes it.
				both := map[int]kmskey.Version{1: c.one, 2: c.two}
				first, second := process(t, w, after, 1, both), process(t, w, after, 2, both)
				next := ContextDoc{TenantID: "acme", Title: "t", Body: "new", Extra: "y"}
				ok(t, second.Create(&next).Error)
				for _, db := range []*gorm.DB{first, second} {
					for id, want := range map[uint64]string{old.ID: "old x", next.ID: "new y"} {
						if r := load[ContextDoc](t, db, id); r.Body+" "+r.Extra != want {
							t.Errorf("row %d is %q %q, want %q", id, r.Body, r.Extra, want)
						}
					}
				}
				if got := prefixes(t, w); !slices.Equal(got, []string{"v1", "v2"}) {
					t.Errorf("prefixes %v", got)
				}
				// A process that was not told says what it lacks.
				fails(t, onlyOld.First(&ContextDoc{}, next.ID).Error, kmskey.ErrUnknownVersion, "2; the keyring has 1")

				// A write under the old key leaves the version alone; rotation finishes it.
				ok(t, first.Model(&ContextDoc{ID: old.ID}).Update("body", "old2").Error)
				fake.ResetCounts()
				row := ContextDoc{ID: old.ID}
				ok(t, rowseal.Rotate(t.Context(), second, &row))
				if fake.Calls("Decrypt") != c.decrypts || fake.Calls("ReEncrypt") != c.reencrypts {
					t.Errorf("%d Decrypt and %d ReEncrypt, want %d and %d", fake.Calls("Decrypt"), fake.Calls("ReEncrypt"), c.decrypts, c.reencrypts)
				}
				if got := prefixes(t, w); !slices.Equal(got, []string{"v2", "v2"}) {
					t.Errorf("prefixes %v", got)
				}

				// The old version goes.
				onlyNew := process(t, w, after, 2, map[int]kmskey.Version{2: c.two})
				if c.contexts != nil {
					onlyNew = process(t, w, rowseal.Model{Value: &ContextDoc{}, Contexts: map[int]rowseal.Context{2: c.contexts[2]}}, 2, map[int]kmskey.Version{2: c.two})
				}
				for id, want := range map[uint64]string{old.ID: "old2 x", next.ID: "new y"} {
					if r := load[ContextDoc](t, onlyNew, id); r.Body+" "+r.Extra != want {
						t.Errorf("row %d is %q %q, want %q", id, r.Body, r.Extra, want)
					}
				}
				late := ContextDoc{TenantID: "acme", Title: "t", Body: "late", Extra: "z"}
				ok(t, first.Create(&late).Error) // a process that was left behind
				fails(t, onlyNew.First(&ContextDoc{}, late.ID).Error, kmskey.ErrUnknownVersion, "1; the keyring has 2", fmt.Sprint("ContextDoc ", late.ID))
				ok(t, onlyNew.Select("title").First(&ContextDoc{}, late.ID).Error)
			})
		})
	}
}

func prefixes(t *testing.T, w *world) (out []string) {
	t.Helper()
	w.scan(t, "context_docs", func(column, value string) {
		if column == "encrypted_kms_key" {
			prefix, _, _ := strings.Cut(value, ":")
			out = append(out, prefix)
		}
	})
	slices.Sort(out)
	return out
}

// TestVersionsATenantsKeyIsItsOwn: a row's key is wrapped by its tenant's KMS key, and moves with it.
func TestVersionsATenantsKeyIsItsOwn(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		fake := awskmstest.New(t, awskmstest.Config{})
		var mu sync.Mutex
		own := map[string]kmskey.Provider{"acme": awsKey(t, fake, fake.Region()), "globex": awsKey(t, fake, fake.Region())}
		choose := func(_ kmskey.Row, ec kmskey.Context) (kmskey.Provider, error) {
			mu.Lock()
			defer mu.Unlock()
			tenant, _ := ec.Get("tenant_id")
			if p, ok := own[tenant.String()]; ok {
				return p, nil
			}
			return nil, fmt.Errorf("tenant %v has no key yet", tenant)
		}
		w := open(t, kind, &ContextDoc{})
		db := process(t, w, tenants(&ContextDoc{}), 1, map[int]kmskey.Version{1: {Choose: choose}})
		a, g := ContextDoc{TenantID: "acme", Body: "a"}, ContextDoc{TenantID: "globex", Body: "g"}
		ok(t, db.Create(&a).Error)
		ok(t, db.Create(&g).Error)
		if err := db.Create(&ContextDoc{TenantID: "initech", Body: "i"}).Error; err == nil || !strings.Contains(err.Error(), "tenant initech has no key yet") {
			t.Errorf("got %v", err)
		}
		bodies := func(want map[uint64]string) {
			t.Helper()
			for id, body := range want {
				if r := load[ContextDoc](t, db, id); r.Body != body {
					t.Errorf("row %d holds %q", id, r.Body)
				}
			}
		}
		bodies(map[uint64]string{a.ID: "a", g.ID: "g"})

		// A row that changes its tenant is moved to that tenant's key in the same statement, by the service itself.
		fake.ResetCounts()
		r := load[ContextDoc](t, rowseal.Sealed(db), a.ID)
		r.TenantID = "globex"
		ok(t, db.Save(&r).Error)
		if fake.Calls("ReEncrypt") != 1 || fake.Calls("Decrypt") != 0 {
			t.Errorf("%d ReEncrypt, %d Decrypt", fake.Calls("ReEncrypt"), fake.Calls("Decrypt"))
		}
		bodies(map[uint64]string{a.ID: "a", g.ID: "g"})

		// A row that is put under another tenant behind the plugin's back is refused without a call.
		w.tamper(t, "UPDATE context_docs SET tenant_id = 'acme' WHERE id = ?", g.ID)
		fake.ResetCounts()
		fails(t, db.First(&ContextDoc{}, g.ID).Error, kmskey.ErrForeignKey)
		if fake.TotalCalls() != 0 {
			t.Errorf("%d calls", fake.TotalCalls())
		}
	})
}

// TestRegionOutage reads 1,000 rows through the loss of the nearest region, before the read and in the middle of it, in three ways in which a region is lost.
func TestRegionOutage(t *testing.T) {
	const eu, us, rows = "eu-central-1", "us-east-1", 1000
	fake := awskmstest.New(t, awskmstest.Config{Regions: []string{eu, us}})
	near, far := awsKey(t, fake, eu), awsKey(t, fake, us)
	w := open(t, postgres, &Visit{}) // the table
	// A process of its own each time: a Multi remembers what it met.
	start := func(t *testing.T) *gorm.DB {
		t.Helper()
		m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: []kmskey.Provider{near, far}})
		ok(t, err)
		return process(t, w, rowseal.Model{Value: &Visit{}}, 1, map[int]kmskey.Version{1: {Provider: m}})
	}
	all := visits(rows)
	ok(t, start(t).Create(&all).Error)
	if n := fake.Calls("Encrypt"); n != 2*rows {
		t.Errorf("%d wraps, want %d", n, 2*rows)
	}
	read := func(t *testing.T, db *gorm.DB) time.Duration {
		t.Helper()
		start := time.Now()
		var got []Visit
		ok(t, db.Order("id").Find(&got).Error)
		took := time.Since(start)
		if len(got) != rows {
			t.Fatalf("%d rows", len(got))
		}
		for i, v := range got {
			if v.Reason != fmt.Sprint("reason ", i) || v.Cost != i {
				t.Fatalf("row %d came back as %+v", i, v)
			}
		}
		return took
	}
	calm := start(t)
	read(t, calm) // connections are made
	usual := min(read(t, calm), read(t, calm), read(t, calm))
	for name, lost := range map[string]func(context.Context) error{
		"answers_with_errors": func(context.Context) error { return awskmstest.Outage() },
		"drops_connections":   func(context.Context) error { return awskmstest.ErrDropConnection },
		"hangs":               func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			fake.SetBefore(func(ctx context.Context, c awskmstest.Call) error {
				if c.Region == eu {
					return lost(ctx)
				}
				return nil
			})
			defer fake.SetBefore(nil)
			fake.ResetCounts()
			db := start(t)
			first := read(t, db)
			calls := fake.TotalCalls()
			second := read(t, db)
			t.Logf("%d rows: %v before the outage; %v in it, %v added, %d calls; %v once the region rests", rows, usual.Round(time.Millisecond), first.Round(time.Millisecond), (first - usual).Round(time.Millisecond), calls, second.Round(time.Millisecond))
			if extra := calls - rows; extra > 64+3 {
				t.Errorf("%d calls went to the region that is lost", extra)
			}
		})
		t.Run(name+"_in_the_middle_of_the_read", func(t *testing.T) {
			const last = 299 // the calls that the region still answers
			var atNear, atFar atomic.Int64
			fake.SetBefore(func(ctx context.Context, c awskmstest.Call) error {
				if c.Region == us {
					atFar.Add(1)
					return nil
				}
				if atNear.Add(1) > last {
					return lost(ctx)
				}
				return nil
			})
			defer fake.SetBefore(nil)
			db := start(t)
			first := read(t, db) // every row, and what is in it
			asked, away := int(atNear.Load()), int(atFar.Load())
			t.Logf("%d rows: %v before the outage; %v through it, %v added, %d calls", rows, usual.Round(time.Millisecond), first.Round(time.Millisecond), (first - usual).Round(time.Millisecond), asked+away)
			if asked < last || away < rows-last {
				t.Errorf("%d calls to the region that was lost, %d to the other: it was not lost in the middle", asked, away)
			}
			// Of the calls under way when it is lost some are still answered, and each such answer may break a run of two failures.
			if extra := asked + away - rows; extra < 1 || extra > 64+3+2*64 {
				t.Errorf("%d calls went to the region that is lost", extra)
			}
			read(t, db) // what was read is not in the way of reading it again
		})
	}
}

// TestRegionQuorum writes on while a region is down, and fills in by rotation what is missing.
func TestRegionQuorum(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		const eu, us = "eu-central-1", "us-east-1"
		fake := awskmstest.New(t, awskmstest.Config{Regions: []string{eu, us}})
		near, far := awsKey(t, fake, eu), awsKey(t, fake, us)
		several := func(quorum int) map[int]kmskey.Version {
			m, err := kmskey.NewMulti(kmskey.MultiConfig{Providers: []kmskey.Provider{near, far}, Quorum: quorum})
			ok(t, err)
			return map[int]kmskey.Version{1: {Provider: m}}
		}
		doc := rowseal.Model{Value: &ContextDoc{}}
		w := open(t, kind, &ContextDoc{})
		strict, lenient := process(t, w, doc, 1, several(0)), process(t, w, doc, 1, several(1))
		onlyFar := process(t, w, doc, 1, map[int]kmskey.Version{1: {Provider: far}})

		fake.SetBefore(func(_ context.Context, c awskmstest.Call) error {
			if c.Region == us {
				return awskmstest.Outage()
			}
			return nil
		})
		fails(t, strict.Create(&ContextDoc{Body: "no"}).Error, kmskey.ErrUnavailable, "1 of 2 wraps, where 2 are needed", "MultiConfig.Quorum")
		r := ContextDoc{Body: "yes"}
		ok(t, lenient.Create(&r).Error)
		fake.SetBefore(nil)

		fails(t, onlyFar.First(&ContextDoc{}, r.ID).Error, kmskey.ErrForeignKey)
		before := string(w.cell(t, "context_docs", "body", r.ID))
		ok(t, rowseal.Rotate(t.Context(), strict, &ContextDoc{ID: r.ID}))
		if string(w.cell(t, "context_docs", "body", r.ID)) != before {
			t.Error("the rotation touched a field")
		}
		for _, db := range []*gorm.DB{strict, lenient, onlyFar} {
			if got := load[ContextDoc](t, db, r.ID); got.Body != "yes" {
				t.Errorf("the row holds %q", got.Body)
			}
		}
		fake.ResetCounts()
		ok(t, rowseal.Rotate(t.Context(), strict, &ContextDoc{ID: r.ID}))
		if fake.TotalCalls() != 0 {
			t.Errorf("%d calls for a row that is complete", fake.TotalCalls())
		}
	})
}
