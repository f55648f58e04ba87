package integration

// attack_rotation3_test.go owns rotations in trouble: key services that fail for some, connections that are few, locks that others hold.

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/rowseal/rowseal"
	"github.com/rowseal/rowseal/kmskey"
	"github.com/rowseal/rowseal/kmskey/awskms"
	"github.com/rowseal/rowseal/kmskey/awskms/awskmstest"
	"github.com/rowseal/rowseal/kmskey/kmskeytest"
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
		report, err := rotation.RotateKMSKey(t.Context(), r.at(t, 2), &RotText{}, rotation.Config{Budget: 20})
		fails(t, err, rotation.ErrBudget)
		if report.Failed > 1000 { // a page
			t.Errorf("%d failures were written down, of a budget of 20", report.Failed)
		}
		if report.State != "failed" {
			t.Errorf("%+v", report.State)
		}
		addsUp(t, report)
	})
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
