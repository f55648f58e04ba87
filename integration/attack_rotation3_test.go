package integration

// attack_rotation3_test.go owns rotations in trouble: key services that fail for some, connections that are few, locks that others hold.

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
	"github.com/rowseal/rowseal/kmskey/localkey"
	"github.com/rowseal/rowseal/migrations"
	"github.com/rowseal/rowseal/rotation"
)

func texts(t testing.TB, r *rotating, n int) {
	t.Helper()
	var all []RotText
	for i := range n {
		all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: fmt.Sprint(i)})
	}
	ok(t, r.w.db.CreateInBatches(&all, 500).Error)
}

func of(c kmskeytest.Call, code string) bool {
	v, is := c.Context.Get("model_id")
	return is && v == kmskey.Text(code)
}

func TestAttackRotationOneConnection(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 1500)
		r.w.plain.SetMaxOpenConns(1)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, rotation.Config{Lanes: 3, MaxPage: 100, Lease: 300 * time.Millisecond})
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 1500 {
			t.Errorf("%+v", report)
		}
	})
}

// TestAttackRotationOneConnectionTwoBegin: another process makes the run while this one, which has a single connection, is about to.
func TestAttackRotationOneConnectionTwoBegin(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 50)
		pool, err := r.w.db.DB()
		ok(t, err)
		other, err := gorm.Open(dialector(kind, pool), &gorm.Config{Logger: r.w.db.Logger})
		ok(t, err)
		plugin, err := rowseal.New(r.keys(t, 2), rowseal.Config{Models: []any{&RotText{}}})
		ok(t, err)
		ok(t, other.Use(plugin))
		r.w.plain.SetMaxOpenConns(1)
		mine := r.at(t, 2)
		var calls atomic.Int32
		begun, free, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			switch calls.Add(1) {
			case 1: // my preflight
				go func() {
					_, err := rotation.RotateKMSKey(t.Context(), other, &RotText{}, rotation.Config{})
					done <- err
				}()
				<-begun
			case 2: // its preflight
			case 3: // its first row
				close(begun)
				<-free
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		go func() { time.Sleep(time.Second); close(free) }()
		if _, err = rotation.RotateKMSKey(ctx, mine, &RotText{}, rotation.Config{}); err != nil {
			t.Error(err)
		}
		ok(t, <-done)
	})
}

// TestAttackRotationOfCurrentRowsNeedsNoMoreRights: a rotator may rewrap from the old key and to the new one, and nothing else. The first rows are current already.
func TestAttackRotationOfCurrentRowsNeedsNoMoreRights(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		fake := awskmstest.New(t, awskmstest.Config{})
		oldARN, nextARN := fake.CreateKey(), fake.CreateKey()
		keys := func(current int) *kmskey.Keyring {
			versions := map[int]kmskey.Version{}
			for n, arn := range map[int]string{1: oldARN, 2: nextARN} {
				p, err := awskms.New(fake.Client(), arn, awskms.Config{})
				ok(t, err)
				c := kmskeytest.NewCounter(p)
				c.Before = func(_ context.Context, c kmskeytest.Call) error {
					if current == 2 && c.Op == "rewrap" && c.Wrapped.KeyRef == nextARN {
						return &kmskey.Error{Op: "rewrap", Service: "aws", Kind: kmskey.ErrDenied, Err: errors.New("kms:ReEncryptFrom")}
					}
					return nil
				}
				versions[n] = kmskey.Version{Provider: c.Provider()}
			}
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: versions})
			ok(t, err)
			return k
		}
		w := openWith(t, kind, keys(1), rowseal.Config{Models: []any{&RotText{}}}, &gorm.Config{})
		_, err := migrations.Up(t.Context(), w.db)
		ok(t, err)
		var all []RotText
		for i := range 20 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: fmt.Sprint(i)})
		}
		ok(t, w.db.Create(&all).Error)
		report, err := rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, rotation.Config{Keys: keys(2)})
		ok(t, err)
		if report.Rewrapped != 20 {
			t.Errorf("%+v", report)
		}
		late := RotText{Code: "d", Name: "late"}
		ok(t, w.db.Create(&late).Error) // a writer that was not yet rolled over
		report, err = rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, rotation.Config{Keys: keys(2)})
		ok(t, err)
		if report.Rewrapped != 1 || report.Current != 20 {
			t.Errorf("%+v", report)
		}
	})
}

// TestAttackRotationTargetDisabledMeanwhile: what would fail for every row must not be written down for every row.
func TestAttackRotationTargetDisabledMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 3000)
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") > 500 {
				return &kmskey.Error{Op: "wrap", Service: "local", Kind: kmskey.ErrDisabled}
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Budget: 20, MaxPage: 100})
		fails(t, err, rotation.ErrPaused, "no key can be moved", "key disabled")
		if addsUp(t, report); report.Failed != 0 || report.State != "paused" || !strings.Contains(report.Reason, "key disabled") || report.Rewrapped == 0 || report.Rewrapped > 500 {
			t.Errorf("%+v", report)
		}
		_, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		fails(t, err, rotation.ErrPaused)
		r.new.Before = nil
		ok(t, rotation.Resume(t.Context(), r.w.db, report.Run))
		report, err = rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 3000 || r.opened(t) != 3000 {
			t.Errorf("%+v", report)
		}
	})
}

// TestAttackRotationTargetDisabledAtTheService: the service moves keys by itself, and its answer does not say which of the two keys is disabled.
func TestAttackRotationTargetDisabledAtTheService(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		fake := awskmstest.New(t, awskmstest.Config{})
		oldARN, nextARN := fake.CreateKey(), fake.CreateKey()
		old, err := awskms.New(fake.Client(), oldARN, awskms.Config{})
		ok(t, err)
		aws, err := awskms.New(fake.Client(), nextARN, awskms.Config{})
		ok(t, err)
		next := kmskeytest.NewCounter(aws)
		keys := func(current int) *kmskey.Keyring {
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: map[int]kmskey.Version{1: {Provider: old}, 2: {Provider: next.Provider()}}})
			ok(t, err)
			return k
		}
		w := openWith(t, kind, keys(1), rowseal.Config{Models: []any{&RotText{}}}, &gorm.Config{})
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		var all []RotText
		for i := range 120 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "x"})
		}
		ok(t, w.db.Create(&all).Error)
		var once sync.Once
		next.Before = func(context.Context, kmskeytest.Call) error {
			if next.Count("rewrap") > 60 {
				once.Do(func() { ok(t, fake.DisableKey(nextARN)) })
			}
			return nil
		}
		cfg := rotation.Config{Keys: keys(2), MaxPage: 20, Budget: 5, Calls: 4}
		report, err := rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, cfg)
		fails(t, err, rotation.ErrPaused, "key disabled")
		if addsUp(t, report); report.Failed != 0 || report.Rewrapped == 0 || report.Rewrapped >= 120 || report.Exposed != 0 {
			t.Errorf("%+v", report)
		}
		ok(t, fake.EnableKey(nextARN))
		ok(t, rotation.Resume(t.Context(), w.db, report.Run))
		report, err = rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, cfg)
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 120 {
			t.Errorf("%+v", report)
		}
	}, sqliteGo, postgres)
}

// TestAttackRotationATenantsKeyIsItsOwnTrouble: where a version has a key for each tenant, one that is disabled stops nobody else.
func TestAttackRotationATenantsKeyIsItsOwnTrouble(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		old := localkey.NewInsecure()
		own := map[string]*kmskeytest.Counter{}
		for _, tenant := range []string{"acme", "other"} {
			p, err := localkey.Generate(t.TempDir() + "/" + tenant)
			ok(t, err)
			own[tenant] = kmskeytest.NewCounter(p)
		}
		own["acme"].Before = func(context.Context, kmskeytest.Call) error {
			return &kmskey.Error{Op: "wrap", Service: "local", Kind: kmskey.ErrDisabled}
		}
		keys := func(current int) *kmskey.Keyring {
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: map[int]kmskey.Version{1: {Provider: old}, 2: {Choose: func(_ kmskey.Row, c kmskey.Context) (kmskey.Provider, error) {
				tenant, _ := c.Get("tenant_id")
				return own[tenant.String()].Provider(), nil
			}}}})
			ok(t, err)
			return k
		}
		model := rowseal.Model{Value: &RotTenant{}, Context: rowseal.Columns("tenant_id")}
		w := openWith(t, kind, keys(1), rowseal.Config{Models: []any{model}}, &gorm.Config{})
		_, err := migrations.Up(t.Context(), w.db)
		ok(t, err)
		var all []RotTenant
		for i := range 100 {
			tenant := "other"
			if i%10 == 3 {
				tenant = "acme"
			}
			all = append(all, RotTenant{TenantID: tenant, Name: "x"})
		}
		ok(t, w.db.Create(&all).Error)
		report, err := rotation.RotateKMSKey(t.Context(), w.db, model, rotation.Config{Keys: keys(2)})
		if _, partly := errors.AsType[*rotation.PartialError](err); !partly {
			t.Fatal(err)
		}
		if addsUp(t, report); report.State != "done" || report.Rewrapped != 90 || report.Failed != 10 || report.Failures[0].Class != "disabled" {
			t.Errorf("%+v", report)
		}
	}, sqliteGo)
}

// TestAttackRotationACallThatHangs: it is given up, and tried again.
func TestAttackRotationACallThatHangs(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 300)
		var hangs atomic.Int64
		r.new.Before = func(ctx context.Context, c kmskeytest.Call) error {
			if c.Op == "wrap" && of(c, "c00123") && hangs.Add(1) <= 3 {
				<-ctx.Done() // for ever, but for the rotation's own patience
				return ctx.Err()
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Timeout: 50 * time.Millisecond, MaxPage: 50})
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 300 || hangs.Load() != 4 || r.opened(t) != 300 {
			t.Errorf("%d tries, %+v", hangs.Load(), report)
		}
	}, sqliteGo, postgres)
}

// together is a service that moves many keys in a request, and can be away.
type together struct {
	*localkey.Provider
	old      *localkey.Provider
	away     atomic.Int64 // requests that fail
	requests atomic.Int64
	alone    atomic.Int64 // keys that were not asked for together
}

func (p *together) Rewrap(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	p.alone.Add(1)
	return p.one(ctx, source, w, from, to)
}

func (p *together) one(ctx context.Context, source kmskey.Provider, w kmskey.Wrapped, from, to kmskey.Context) (kmskey.Wrapped, error) {
	if source != kmskey.Provider(p.old) && source != kmskey.Provider(p) {
		return kmskey.Wrapped{}, kmskey.ErrNotRewrappable
	}
	dek, err := source.Unwrap(ctx, w, from)
	if err != nil {
		return kmskey.Wrapped{}, err
	}
	defer dek.Destroy()
	return p.Wrap(ctx, dek, to)
}

func (p *together) RewrapAll(ctx context.Context, source kmskey.Provider, items []kmskey.RewrapItem) []kmskey.RewrapResult {
	out := make([]kmskey.RewrapResult, len(items))
	away := p.requests.Add(1) <= p.away.Load()
	for i, item := range items {
		if away {
			out[i].Err = &kmskey.Error{Op: "rewrap", Service: "together", Kind: kmskey.ErrThrottled}
			continue
		}
		out[i].Wrapped, out[i].Err = p.one(ctx, source, item.Wrapped, item.From, item.To)
	}
	return out
}

// TestAttackRotationOfBatchesBesideAnOutage: a service that takes pages as one request must not get a request for each key when it is away, and what
// needs nothing is not charged to the rate.
func TestAttackRotationOfBatchesBesideAnOutage(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		old := localkey.NewInsecure()
		next, err := localkey.Generate(t.TempDir() + "/next")
		ok(t, err)
		service := &together{Provider: next, old: old}
		keys := func(current int) *kmskey.Keyring {
			k, err := kmskey.New(kmskey.Config{Current: current, Versions: map[int]kmskey.Version{1: {Provider: old}, 2: {Provider: service}}})
			ok(t, err)
			return k
		}
		w := openWith(t, kind, keys(1), rowseal.Config{Models: []any{&RotText{}}}, &gorm.Config{})
		_, err = migrations.Up(t.Context(), w.db)
		ok(t, err)
		var all []RotText
		for i := range 400 {
			all = append(all, RotText{Code: fmt.Sprintf("c%05d", i), Name: "x"})
		}
		ok(t, w.db.Create(&all).Error)
		service.away.Store(3)
		report, err := rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, rotation.Config{Keys: keys(2), MaxPage: 100})
		ok(t, err)
		// The one that is moved alone is the trial before the first row.
		if addsUp(t, report); report.Rewrapped != 400 || service.requests.Load() > 10 || service.alone.Load() != 1 {
			t.Errorf("%d requests, %d keys alone, %+v", service.requests.Load(), service.alone.Load(), report)
		}
		began := time.Now()
		report, err = rotation.RotateKMSKey(t.Context(), w.db, &RotText{}, rotation.Config{Keys: keys(2), Rate: 5})
		ok(t, err)
		if addsUp(t, report); report.Current != 400 || time.Since(began) > 30*time.Second { // charged, they would take 80
			t.Errorf("%v, %+v", time.Since(began), report)
		}
	}, sqliteGo)
}

// TestAttackRotationPoliciesHideRows: what a rotation cannot see it cannot move, and must not call done.
func TestAttackRotationPoliciesHideRows(t *testing.T) {
	r := newRotating(t, postgres, &RotText{})
	texts(t, r, 20)
	role := fmt.Sprintf("clerk%d", time.Now().UnixNano())
	r.w.plain.SetMaxOpenConns(1)
	for _, q := range []string{"CREATE ROLE " + role, "GRANT SELECT, UPDATE ON rot_texts TO " + role, "GRANT SELECT, INSERT, UPDATE, DELETE ON rowseal_runs, rowseal_ranges, rowseal_failures, rowseal_events TO " + role,
		"ALTER TABLE rot_texts ENABLE ROW LEVEL SECURITY", "CREATE POLICY clerks ON rot_texts USING (code < 'c00010')", "SET ROLE " + role} {
		r.w.tamper(t, q)
	}
	for name, look := range map[string]func() error{
		"rotate": func() error {
			_, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
			return err
		},
		"status": func() error {
			_, err := rotation.Status(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
			return err
		},
		"verify": func() error {
			_, err := rotation.Verify(t.Context(), r.at(t, 2), &RotText{}, 0, rotation.Config{})
			return err
		},
	} {
		if err := look(); err == nil || !strings.Contains(err.Error(), "row-level security of table \"rot_texts\" may hide rows") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, q := range []string{"RESET ROLE", "DROP OWNED BY " + role, "DROP ROLE " + role} {
		r.w.tamper(t, q)
	}
	_, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{}) // who owns the table sees it all
	ok(t, err)
	if n := r.opened(t); n != 20 {
		t.Errorf("%d rows", n)
	}
}

// TestAttackRotationOneRowIsUnavailable: one tenant's key store is away for good, and everything else is well.
func TestAttackRotationOneRowIsUnavailable(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 1000)
		r.new.Before = func(_ context.Context, c kmskeytest.Call) error {
			if of(c, "c00007") {
				return &kmskey.Error{Op: "wrap", Service: "local", Kind: kmskey.ErrUnavailable}
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		report, err := rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, rotation.Config{})
		var partial *rotation.PartialError
		if !errors.As(err, &partial) || report.Rewrapped != 999 || report.Failed != 1 {
			t.Errorf("%v\n%+v", err, report)
		}
	}, sqliteGo)
}

// TestAttackRotationWaitsForNoLock: somebody holds one row. Others of its page must not be kept from everyone meanwhile.
func TestAttackRotationWaitsForNoLock(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 150)
		tx, err := r.w.plain.Begin()
		ok(t, err)
		_, err = tx.Exec("UPDATE rot_texts SET encrypted_kms_key = encrypted_kms_key || '' WHERE code = 'c00140'")
		if isMySQL(kind) {
			_, err = tx.Exec("SELECT * FROM rot_texts WHERE code = 'c00140' FOR UPDATE")
		}
		ok(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
			done <- err
		}()
		soon(t, "the page waits for one row", func() bool {
			var stored int
			ok(t, r.w.plain.QueryRow("SELECT count(*) FROM rot_texts WHERE encrypted_kms_key LIKE 'v2:%'").Scan(&stored))
			return stored == 149
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := r.w.plain.ExecContext(ctx, "UPDATE rot_texts SET encrypted_kms_key = encrypted_kms_key WHERE code = 'c00001'"); err != nil {
			t.Errorf("a row that nobody is at is locked: %v", err)
		}
		cancel()
		ok(t, tx.Rollback())
		ok(t, <-done)
	}, postgres, mariadb)
}

// TestAttackVerifyBesideThrottling: what a service has no time for is not damaged.
func TestAttackVerifyBesideThrottling(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 300)
		var n atomic.Int32
		r.old.Before = func(context.Context, kmskeytest.Call) error {
			if n.Add(1)%7 == 0 {
				return &kmskey.Error{Op: "unwrap", Service: "local", Kind: kmskey.ErrThrottled}
			}
			return nil
		}
		v, err := rotation.Verify(t.Context(), r.at(t, 1), &RotText{}, 0, rotation.Config{})
		ok(t, err)
		if !v.Clean() || v.Keys != 300 {
			t.Errorf("%d failed of %d, the first: %+v", v.Failed, v.Rows, v.Failures[0])
		}
		r.old.Before = func(context.Context, kmskeytest.Call) error {
			return &kmskey.Error{Op: "unwrap", Service: "local", Kind: kmskey.ErrUnavailable}
		}
		v, err = rotation.Verify(t.Context(), r.at(t, 1), &RotText{}, 0, rotation.Config{})
		if fails(t, err, kmskey.ErrUnavailable); v.Failed != 0 {
			t.Errorf("an outage: %+v", v)
		}
	}, sqliteGo)
}

// TestAttackRotationRateIsForWhatMoves: rows that need nothing need no turn.
func TestAttackRotationRateIsForWhatMoves(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 400)
		_, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		_, err = rotation.RotateKMSKey(ctx, r.at(t, 2), &RotText{}, rotation.Config{Rate: 1}) // 400 turns would be 400 seconds
		ok(t, err)
	}, sqliteGo)
}

// TestAttackRotationOutage: the service goes away in the middle and comes back. No row is to be named for it.
func TestAttackRotationOutage(t *testing.T) {
	on(t, func(t *testing.T, kind string) {
		r := newRotating(t, kind, &RotText{})
		texts(t, r, 1000)
		var since atomic.Int64
		r.new.Before = func(context.Context, kmskeytest.Call) error {
			if r.new.Count("wrap") == 400 {
				since.CompareAndSwap(0, time.Now().UnixNano())
			}
			if at := since.Load(); at != 0 && time.Since(time.Unix(0, at)) < 8*time.Second {
				return &kmskey.Error{Op: "wrap", Service: "local", Kind: kmskey.ErrUnavailable}
			}
			return nil
		}
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{})
		ok(t, err)
		if addsUp(t, report); report.Rewrapped != 1000 {
			t.Errorf("%+v", report)
		}
	}, sqliteGo)
}
